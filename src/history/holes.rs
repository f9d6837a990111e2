//! What core has lost before this shard had it: ranges of `seq` of which nobody knows what stood there.
//! They stand in the shard's log, and the head of each of its segments says them again. What they are not:
//! damage of the shard's own log, and the beginning of its history.
//!
//! An answer that a lost frame may belong to says that it is partial. Where in time a lost frame belongs is
//! known by its neighbours only: the entries of the instrument before and behind the hole.
//!
//! # Decisions
//!
//! * In receive time the neighbours bound a hole exactly. In event time nobody knows how late a lost frame
//!   was, so a minute on either side counts as touched. For bars and counts a day before the hole counts in
//!   either time, because a lost cancellation takes back something older.

use super::answer::LossScope;
use super::instrument::InstrumentHistory;
use crate::limits;
use crate::log::{Log, Storage};
use crate::wire::{Frame, Gap, GapReason, Seq};

/// The holes of a shard's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holes {
    /// First and last seq, ascending; between two of them is at least one seq that is in none.
    ranges: Vec<(u64, u64)>,
}

/// The record that says a hole.
pub(crate) fn record(from: u64, to: u64) -> Frame {
    let (from, to) = (Seq::or_first(from), Seq::or_first(to));
    Frame::seal(Gap::uncounted(GapReason::Corrupt, from, to))
}

impl Holes {
    /// Takes note of a hole. When there are too many, the two with the fewest seqs between them become one
    /// that has these as well: it says too much rather than too little.
    pub(crate) fn note(&mut self, from: u64, to: u64) {
        let first = self.ranges.partition_point(|(_, last)| last.saturating_add(1) < from);
        let behind = self.ranges.partition_point(|(first, _)| *first <= to.saturating_add(1));
        let touched = self.ranges.drain(first..behind.max(first));
        let joined = touched.fold((from, to), |(from, to), own| (from.min(own.0), to.max(own.1)));
        self.ranges.insert(first, joined);
        while self.ranges.len() > limits::HOLES_MAX {
            let between = self.ranges.windows(2).map(|pair| pair[1].0 - pair[0].1);
            let Some((place, _)) = between.enumerate().min_by_key(|(_, seqs)| *seqs) else {
                return;
            };
            let (_, last) = self.ranges.remove(place + 1);
            self.ranges[place].1 = last;
        }
    }

    /// Whether all of a range is known to be lost.
    pub(crate) fn has(&self, from: u64, to: u64) -> bool {
        self.ranges.iter().any(|(first, last)| *first <= from && to <= *last)
    }

    /// An epoch began at this seq: from there on the numbers are given out anew.
    pub(crate) fn void_from(&mut self, seq: u64) {
        self.ranges.retain(|(first, _)| *first < seq);
        if let Some((_, last)) = self.ranges.last_mut() {
            *last = (*last).min(seq.saturating_sub(1));
        }
    }

    /// Forgets what lies wholly before the history's beginning.
    pub(crate) fn forget_before(&mut self, first_seq: u64) {
        self.ranges.retain(|(_, last)| *last >= first_seq);
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The records that say them.
    pub(crate) fn records(&self) -> impl Iterator<Item = Frame> {
        self.ranges.iter().map(|(from, to)| record(*from, *to))
    }

    /// The newest hole that an answer about this instrument touches, by the ordinal of the first entry
    /// behind it.
    pub(crate) fn touched<S: Storage>(
        &self,
        history: &InstrumentHistory,
        log: &Log<S>,
        scope: &LossScope,
    ) -> Option<u64> {
        let ends_before = self.ranges.partition_point(|(first, _)| *first < scope.cut);
        let holes = self.ranges[..ends_before].iter().rev();
        let ordinals = holes.map(|(first, _)| history.ordinal_of_seq(*first));
        ordinals.into_iter().find(|ordinal| scope.touches(history, log, *ordinal))
    }
}

impl LossScope {
    /// Whether a frame that was lost right before this ordinal may be wanted.
    fn touches<S: Storage>(&self, history: &InstrumentHistory, log: &Log<S>, ordinal: u64) -> bool {
        if let Some(newest_from) = self.newest_from {
            return ordinal >= newest_from;
        }
        let frame = |ordinal| history.frame(log, ordinal).filter(|_| ordinal >= history.start());
        let before = ordinal.checked_sub(1).and_then(frame);
        let behind = frame(ordinal);
        let reach = if self.minds_cancels { limits::HOLE_CANCEL_REACH_NS } else { 0 };
        if self.by_receive {
            // Receive times never fall.
            let earliest = before.map_or(0, |frame| frame.ts_recv.get());
            let latest = behind.map_or(u64::MAX, |frame| frame.ts_recv.get());
            return earliest.saturating_sub(reach) < self.to && self.from <= latest;
        }
        let (before, behind) = (before.map(|f| f.ts_event.get()), behind.map(|f| f.ts_event.get()));
        let slack = limits::HOLE_EVENT_SLACK_NS;
        let earliest = before.map_or(0, |ts| behind.map_or(ts, |other| ts.min(other)));
        let latest = behind.map_or(u64::MAX, |ts| before.map_or(ts, |other| ts.max(other)));
        let earliest = earliest.saturating_sub(slack).saturating_sub(reach);
        earliest < self.to && self.from <= latest.saturating_add(slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holes(ranges: &[(u64, u64)]) -> Holes {
        let mut holes = Holes::default();
        ranges.iter().for_each(|(from, to)| holes.note(*from, *to));
        holes
    }

    #[test]
    fn neighbours_become_one_and_strangers_do_not() {
        assert_eq!(holes(&[(5, 6), (7, 9)]).ranges, [(5, 9)]);
        assert_eq!(holes(&[(5, 6), (8, 9)]).ranges, [(5, 6), (8, 9)]);
        assert_eq!(holes(&[(8, 9), (1, 2), (5, 6), (2, 7)]).ranges, [(1, 9)]);
        assert_eq!(holes(&[(20, 30), (5, 6), (22, 23)]).ranges, [(5, 6), (20, 30)]);
    }

    #[test]
    fn too_many_holes_become_coarser_and_none_is_forgotten() {
        let mut random = crate::random::Random::new(7);
        let (mut holes, mut lost) = (Holes::default(), Vec::new());
        let mut seq = 1;
        for _ in 0..limits::HOLES_MAX * 4 {
            let from = seq + random.between(2, 1_000);
            let to = from + random.below(5);
            seq = to;
            holes.note(from, to);
            lost.push((from, to));
            assert!(holes.len() <= limits::HOLES_MAX);
        }
        assert!(lost.iter().all(|(from, to)| holes.has(*from, *to)));
        assert!(holes.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        assert!(!holes.has(1, seq), "coarser, and not everything");
    }

    #[test]
    fn numbers_that_are_given_out_anew_are_not_lost() {
        let mut holes = holes(&[(5, 9), (20, 30), (40, 41)]);
        holes.void_from(25);
        assert_eq!(holes.ranges, [(5, 9), (20, 24)]);
        holes.forget_before(10);
        assert_eq!(holes.ranges, [(20, 24)]);
    }
}
