//! What of a log readers see, what of it the disk has, and when the next sync is due.
//!
//! It starts no sync and waits for none: the log does, and notes here what was started and what has ended.

use std::collections::VecDeque;

use super::config::SyncPolicy;
use crate::histogram::Histogram;
use crate::time::Mono;

/// A place in the log, with what the records before it come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) position: u64,
    pub(super) next_seq: u64,
    pub(super) upstream_seq: u64,
}

/// A sync under way.
#[derive(Clone, Copy, Debug)]
struct Sync {
    covered: Point,
    started: Mono,
    /// When the first record that it covers was committed, as far as a look at the policy shows.
    waiting_since: Mono,
}

/// The two watermarks of a log, and the syncs between them.
///
/// Invariant: syncs end in the order they were started, and each covers more than the one before. So in the
/// order `durable`, `syncs`, positions ascend, and the last of them is how far a sync was ever asked for.
///
/// Invariant: a watermark never goes back in positions. Its numbers go back only where an epoch takes them back.
#[derive(Debug)]
pub(super) struct Durability {
    policy: SyncPolicy,
    /// Readers see what is before it.
    committed: Point,
    durable: Point,
    /// What each sync under way covers.
    syncs: VecDeque<Sync>,
    /// Since when something committed waits for a sync that is not started.
    waiting_since: Option<Mono>,
    /// From the start of a sync to the turn that learns of its end.
    sync_lengths: Histogram,
    /// The same from the commit of the first record that it covers.
    waits: Histogram,
    /// When the interval of the policy ends; `None` while nothing waits for that.
    sync_at: Option<Mono>,
    /// `durable` has moved since the last mark, so no mark states it yet.
    is_mark_due: bool,
}

impl Durability {
    /// A log of which everything before `end` is committed and durable.
    pub(super) fn new(policy: SyncPolicy, end: Point) -> Durability {
        Durability {
            policy,
            committed: end,
            durable: end,
            syncs: VecDeque::new(),
            waiting_since: None,
            sync_lengths: Histogram::default(),
            waits: Histogram::default(),
            sync_at: None,
            is_mark_due: false,
        }
    }

    pub(super) fn committed(&self) -> Point {
        self.committed
    }

    pub(super) fn durable(&self) -> Point {
        self.durable
    }

    pub(super) fn promises(&self) -> bool {
        self.policy != SyncPolicy::None
    }

    pub(super) fn commit(&mut self, point: Point) {
        self.committed = point;
    }

    /// Whether everything before `position` is durable, or will be when the syncs under way have ended.
    pub(super) fn covers(&self, position: u64) -> bool {
        position <= self.syncs.back().map_or(self.durable, |sync| sync.covered).position
    }

    /// Whether the policy wants a sync now. When it wants one later, [`Durability::next_deadline`] says when.
    pub(super) fn is_sync_due(&mut self, now: Mono) -> bool {
        if self.waiting_since.is_none() && !self.covers(self.committed.position) {
            self.waiting_since = Some(now);
        }
        // One sync at a time: what is committed meanwhile shares the next one.
        if !self.syncs.is_empty() || self.covers(self.committed.position) {
            return false;
        }
        match (self.policy, self.sync_at) {
            (SyncPolicy::None, _) => false,
            (SyncPolicy::Interval(wait), None) => {
                self.sync_at = Some(now + wait);
                false
            }
            (SyncPolicy::Interval(_), Some(at)) if now < at => false,
            (SyncPolicy::Interval(_) | SyncPolicy::Batch, _) => true,
        }
    }

    /// When time alone makes a sync due.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.sync_at.filter(|_| self.syncs.is_empty())
    }

    pub(super) fn handle_sync_started(&mut self, now: Mono, covered: Point) {
        debug_assert!(!self.covers(covered.position), "a sync of nothing new");
        self.sync_at = None;
        let waiting_since = self.waiting_since.take().unwrap_or(now);
        self.syncs.push_back(Sync { covered, started: now, waiting_since });
    }

    /// The oldest sync under way has ended well. `false`: none was under way.
    pub(super) fn handle_synced(&mut self, now: Mono) -> bool {
        let Some(sync) = self.syncs.pop_front() else { return false };
        self.sync_lengths.note(now.since(sync.started));
        self.waits.note(now.since(sync.waiting_since));
        self.durable = sync.covered;
        self.is_mark_due = true;
        true
    }

    /// The storage has failed: nothing more becomes durable.
    pub(super) fn handle_failure(&mut self) {
        self.sync_at = None;
        self.syncs.clear();
        self.waiting_since = None;
    }

    /// How long syncs took, and how long records waited for their end.
    pub(super) fn durations(&self) -> (&Histogram, &Histogram) {
        (&self.sync_lengths, &self.waits)
    }

    /// A sync has ended, and no mark states the new watermark yet.
    #[inline]
    pub(super) fn is_mark_due(&self) -> bool {
        self.is_mark_due
    }

    /// A mark states the durable watermark as it is now.
    pub(super) fn handle_mark_written(&mut self) {
        self.is_mark_due = false;
    }

    /// An epoch takes numbers back. Frames that had them are durable no more: other frames will have them.
    pub(super) fn fall_back(&mut self, next_seq: u64, upstream_seq: u64) {
        let of_syncs = self.syncs.iter_mut().map(|sync| &mut sync.covered);
        for point in of_syncs.chain([&mut self.committed, &mut self.durable]) {
            point.next_seq = point.next_seq.min(next_seq);
            point.upstream_seq = point.upstream_seq.min(upstream_seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn point(position: u64) -> Point {
        Point { position, next_seq: position, upstream_seq: position }
    }

    fn at(millis: u64) -> Mono {
        Mono::default() + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_committed_during_a_sync_is_not_covered_by_it() {
        let mut durability = Durability::new(SyncPolicy::Batch, point(0));
        assert!(!durability.is_sync_due(at(0)));
        durability.commit(point(5));
        assert!(durability.is_sync_due(at(0)));
        durability.handle_sync_started(at(0), point(5));
        durability.commit(point(9));
        assert!(!durability.is_sync_due(at(0)), "two syncs at a time");
        assert!(durability.handle_synced(at(0)));
        assert_eq!(durability.durable(), point(5));
        assert!(durability.is_mark_due() && durability.is_sync_due(at(0)));
    }

    #[test]
    fn an_interval_begins_with_the_first_commit_and_not_with_each() {
        let policy = SyncPolicy::Interval(Duration::from_millis(50));
        let mut durability = Durability::new(policy, point(0));
        assert_eq!(durability.next_deadline(), None);
        durability.commit(point(1));
        assert!(!durability.is_sync_due(at(0)));
        durability.commit(point(2));
        assert!(!durability.is_sync_due(at(49)));
        assert_eq!(durability.next_deadline(), Some(at(50)));
        assert!(durability.is_sync_due(at(50)));
    }

    #[test]
    fn a_sync_ends_the_interval_and_the_next_commit_begins_another() {
        let policy = SyncPolicy::Interval(Duration::from_millis(50));
        let mut durability = Durability::new(policy, point(0));
        durability.commit(point(1));
        assert!(!durability.is_sync_due(at(0)));
        // Sooner than the interval asks for: a segment is left.
        durability.handle_sync_started(at(0), point(1));
        assert!(durability.handle_synced(at(0)));
        assert_eq!(durability.next_deadline(), None, "nothing waits");
        durability.commit(point(2));
        assert!(!durability.is_sync_due(at(60)), "it waits for an interval of its own");
        assert_eq!(durability.next_deadline(), Some(at(110)));
    }

    #[test]
    fn numbers_that_an_epoch_takes_back_stay_taken_back_when_an_older_sync_ends() {
        let mut durability = Durability::new(SyncPolicy::Batch, point(0));
        durability.commit(point(9));
        durability.handle_sync_started(at(0), point(9));
        durability.fall_back(4, 3);
        assert_eq!(durability.committed(), Point { position: 9, next_seq: 4, upstream_seq: 3 });
        assert!(durability.handle_synced(at(0)));
        assert_eq!(durability.durable(), Point { position: 9, next_seq: 4, upstream_seq: 3 });
        assert!(!durability.handle_synced(at(0)), "no sync was under way");
    }

    /// A sync that ends well behind one that failed says nothing about what that one was to cover.
    #[test]
    fn nothing_becomes_durable_behind_a_sync_that_failed() {
        let mut durability = Durability::new(SyncPolicy::Batch, point(0));
        durability.commit(point(5));
        durability.handle_sync_started(at(0), point(5));
        durability.commit(point(9));
        durability.handle_sync_started(at(0), point(9));
        durability.handle_failure();
        assert!(!durability.handle_synced(at(0)));
        assert_eq!((durability.durable(), durability.is_mark_due()), (point(0), false));
        let policy = SyncPolicy::Interval(Duration::from_millis(50));
        let mut durability = Durability::new(policy, point(0));
        durability.commit(point(1));
        assert!(!durability.is_sync_due(at(0)) && durability.next_deadline().is_some());
        durability.handle_failure();
        assert_eq!(durability.next_deadline(), None, "nothing is tried again");
    }

    #[test]
    fn every_policy_but_none_promises_that_what_is_committed_becomes_durable() {
        let promises = |policy| Durability::new(policy, point(0)).promises();
        assert!(promises(SyncPolicy::Batch) && promises(SyncPolicy::Interval(Duration::ZERO)));
        assert!(!promises(SyncPolicy::None));
    }

    #[test]
    fn what_waits_for_a_sync_under_way_waits_longer_than_its_own() {
        let mut durability = Durability::new(SyncPolicy::Batch, point(0));
        durability.commit(point(5));
        assert!(durability.is_sync_due(at(0)));
        durability.handle_sync_started(at(0), point(5));
        durability.commit(point(9));
        assert!(!durability.is_sync_due(at(2)));
        assert!(durability.handle_synced(at(20)));
        assert!(durability.is_sync_due(at(20)));
        durability.handle_sync_started(at(20), point(9));
        assert!(durability.handle_synced(at(25)));
        let (lengths, waits) = durability.durations();
        assert_eq!((lengths.count(), lengths.sum_us()), (2, 25_000));
        assert_eq!((waits.count(), waits.sum_us()), (2, 20_000 + 23_000));
    }
}
