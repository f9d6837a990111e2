//! Which segments can be removed: the oldest, when the retention says so and nobody needs it.
//!
//! # Decisions
//!
//! * **No clock removes anything by itself.** Ages are differences of the log's own time ([`SteadyTime`]), which
//!   stamps the marks too. A step of the wall clock does not move it, and a start makes up for the time without
//!   the node at double speed. So in a minute of running no more goes than what was written in two minutes.
//! * Not the receive times of the frames: in a shard's log a peer has stated those.
//! * A lower `retain_age` or `retain_bytes` works at once. That is an operator's word, and each segment that goes
//!   is said with its reason.

use std::time::Duration;

use super::Log;
use super::backend::{Segment, Storage, StorageError};
use super::checkpoint::Head;
use super::config::Retention;
use super::mark::{Mark, Record};
use super::notice::{Notice, RemovalReason};
use super::segment::LogSegment;
use super::segments::Segments;
use crate::planted::{Bug, is_planted};
use crate::time::SteadyTime;
use crate::wire::Seq;

/// What may be removed, and what may not because somebody needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    retention: Retention,
    /// Somebody still needs the frames from this seq on; `u64::MAX`: nobody does.
    needed_from_seq: u64,
    /// Segments up to this one were removed by the retention, of this process or of one before it.
    removed_through: u64,
}

impl Removal {
    pub(super) fn new(retention: Retention, removed_through: u64) -> Removal {
        Removal { retention, needed_from_seq: u64::MAX, removed_through }
    }

    /// Why the oldest sealed segment is to go, if it is.
    fn due<G: Segment>(&self, segments: &Segments<G>, clock: &SteadyTime) -> Option<RemovalReason> {
        let Retention { age_max, bytes_max } = self.retention;
        let (oldest, next) = segments.oldest_sealed()?;
        let now_ns =
            if is_planted(Bug::AgeByWallClock) { clock.wall_ns() } else { clock.time_ns() };
        if let Some(age_max) = age_max {
            // When its last record is rot, the head of the next one says when it was left.
            let last = mark_at(oldest, oldest.end() - 1).or_else(|| mark_at(next, next.base));
            let left_at = last.map_or(now_ns, |mark| mark.written_at.get());
            let age = Duration::from_nanos(now_ns.saturating_sub(left_at));
            if age > age_max {
                let (seconds, seconds_max) = (age.as_secs(), age_max.as_secs());
                return Some(RemovalReason::Age { seconds, seconds_max });
            }
        }
        let (bytes, bytes_max) = (segments.bytes(), bytes_max?);
        (bytes > bytes_max).then_some(RemovalReason::Bytes { bytes, bytes_max })
    }

    /// Whether somebody needs a frame of the oldest sealed segment.
    fn is_oldest_needed<G: Segment>(&self, segments: &Segments<G>) -> bool {
        if self.needed_from_seq == u64::MAX {
            return false;
        }
        segments.oldest_sealed().is_some_and(|(_, next)| {
            first_seq_of(next).is_none_or(|seq| seq.get() > self.needed_from_seq)
        })
    }
}

impl<S: Storage> Log<S> {
    /// Somebody still needs the frames from this seq on: no segment with such a frame is removed,
    /// whatever the retention says. `u64::MAX`: nobody does.
    pub fn retain_from_seq(&mut self, seq: u64) {
        self.removal.needed_from_seq = seq;
    }

    /// Whether the retention would remove a segment that somebody still needs.
    #[must_use]
    pub fn is_retention_blocked(&self) -> bool {
        self.removal.due(&self.segments, &self.clock).is_some()
            && self.removal.is_oldest_needed(&self.segments)
    }

    /// The lowest seq that the oldest segment can have a frame of: all frames before it are gone.
    /// `None` when its first record is rot.
    #[must_use]
    pub fn first_seq(&self) -> Option<Seq> {
        first_seq_of(self.segments.oldest())
    }

    /// Whether segments before the oldest one are missing that the retention has not removed. It is over when
    /// the retention has come so far.
    #[must_use]
    pub fn is_front_missing(&self) -> bool {
        let oldest = self.segments.oldest().segment.number();
        oldest > self.removal.removed_through.saturating_add(1)
    }

    /// The partition of the log's node, as it was kept; `None`: it never was. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn partition(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.partition()
    }

    /// Keeps the partition of the log's node beside the segments, durably. Blocks: for a node that starts.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn keep_partition(&mut self, text: &[u8]) -> Result<(), StorageError> {
        self.storage.set_partition(text)
    }

    /// What is removed, and when.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.removal.retention
    }

    /// Removes the oldest sealed segment when the retention says so; one at a time.
    pub(super) fn retain(&mut self) {
        let Some(reason) = self.removable_for() else { return };
        let Some((oldest, next)) = self.segments.oldest_sealed() else { return };
        let seqs = first_seq_of(oldest).zip(first_seq_of(next));
        self.notices.push(Notice::Removed {
            segment: oldest.segment.number(),
            seqs: seqs.map(|(first, behind)| (first.get(), behind.get() - 1)),
            reason,
        });
        let oldest = oldest.segment.number();
        self.removal.removed_through = self.removal.removed_through.max(oldest);
        self.segments.remove_oldest(&mut self.storage);
        self.writer.forget_before(self.segments.first_position());
    }

    /// Why the oldest sealed segment is removed now: it is due, nobody needs a frame of it, and the next segment
    /// has all of its statements, durably. Without a durable record in what is left, a crash would leave a log of
    /// which nobody knows where it ends.
    fn removable_for(&self) -> Option<RemovalReason> {
        let (oldest, next) = self.segments.oldest_sealed()?;
        let durable = self.durability.durable().position;
        let may_go = !self.segments.is_removing()
            && oldest.end() <= durable
            && self.check_health().is_ok()
            && durable > next.base;
        if !may_go {
            return None;
        }
        let reason = self.removal.due(&self.segments, &self.clock)?;
        let is_kept = self.removal.is_oldest_needed(&self.segments)
            || (self.checkpoints.are_required() && Head::of(next, durable) != Head::Checkpoint);
        (!is_kept).then_some(reason)
    }
}

fn mark_at<G: Segment>(segment: &LogSegment<G>, position: u64) -> Option<&Mark> {
    segment.record(position).and_then(Record::mark)
}

/// What the first record of a segment says: the lowest seq of a frame in it or behind it.
fn first_seq_of<G: Segment>(segment: &LogSegment<G>) -> Option<Seq> {
    mark_at(segment, segment.base).and_then(|mark| Seq::from_field(mark.seq))
}
