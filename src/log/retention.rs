//! Which segments can be removed: the oldest, when the retention says so and nobody needs it.

use super::Log;
use super::backend::{Segment, Storage, StorageError};
use super::checkpoint::Head;
use super::config::Retention;
use super::mark::{Mark, Record};
use super::segment::LogSegment;
use super::segments::Segments;
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

    /// Whether the oldest sealed segment is too old, or there is too much of the log.
    fn is_due<G: Segment>(&self, segments: &Segments<G>, wall_ns: u64) -> bool {
        let Retention { age_max, bytes_max } = self.retention;
        let Some((oldest, next)) = segments.oldest_sealed() else { return false };
        let too_old = age_max.is_some_and(|age_max| {
            // When its last record is rot, the head of the next one says when it was left.
            let last = mark_at(oldest, oldest.end() - 1).or_else(|| mark_at(next, next.base));
            let left_at = last.map_or(wall_ns, |mark| mark.written_at.get());
            wall_ns.saturating_sub(left_at) > crate::time::nanos(age_max)
        });
        too_old || bytes_max.is_some_and(|bytes_max| segments.bytes() > bytes_max)
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
        self.removal.is_due(&self.segments, self.wall_ns)
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
        if self.can_remove_oldest() {
            let oldest = self.segments.oldest().segment.number();
            self.removal.removed_through = self.removal.removed_through.max(oldest);
            self.segments.remove_oldest(&mut self.storage);
            self.writer.forget_before(self.segments.first_position());
        }
    }

    /// Whether the oldest sealed segment is due, nobody needs a frame of it, and the next segment has all of
    /// its statements, durably. Without a durable record in what is left, a crash would leave a log of which
    /// nobody knows where it ends.
    fn can_remove_oldest(&self) -> bool {
        let Some((oldest, next)) = self.segments.oldest_sealed() else { return false };
        let durable = self.durability.durable().position;
        !self.segments.is_removing()
            && oldest.end() <= durable
            && self.check_health().is_ok()
            && self.removal.is_due(&self.segments, self.wall_ns)
            && !self.removal.is_oldest_needed(&self.segments)
            && durable > next.base
            && (!self.checkpoints.are_required() || Head::of(next, durable) == Head::Checkpoint)
    }
}

fn mark_at<G: Segment>(segment: &LogSegment<G>, position: u64) -> Option<&Mark> {
    segment.record(position).and_then(Record::mark)
}

/// What the first record of a segment says: the lowest seq of a frame in it or behind it.
fn first_seq_of<G: Segment>(segment: &LogSegment<G>) -> Option<Seq> {
    mark_at(segment, segment.base).and_then(|mark| Seq::from_field(mark.seq))
}
