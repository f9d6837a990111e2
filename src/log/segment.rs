//! A segment with its place in the log: positions in, records out.

use zerocopy::IntoBytes;

use super::backend::Segment;
use super::header::{HEADER_BYTES, segment_bytes};
use super::mark::Record;
use crate::wire::{FRAME_BYTES, Frame, as_frames};

/// A segment whose header was checked.
///
/// Invariant: `base + records` does not overflow, and no position is below `base` or above that when it is asked
/// where its bytes are.
#[derive(Clone, Debug)]
pub(super) struct LogSegment<G> {
    /// Position of its first record.
    pub(super) base: u64,
    /// Records it has room for.
    pub(super) records: u64,
    pub(super) segment: G,
}

impl<G> LogSegment<G> {
    /// The position behind its last record.
    pub(super) fn end(&self) -> u64 {
        self.base + self.records
    }

    /// Where in the file the record at `position` is.
    pub(super) fn offset_in_file(&self, position: u64) -> u64 {
        HEADER_BYTES as u64 + position.saturating_sub(self.base) * FRAME_BYTES as u64
    }
}

impl<G: Segment> LogSegment<G> {
    pub(super) fn holds(&self, position: u64) -> bool {
        (self.base..self.end()).contains(&position)
    }

    /// Bytes of the whole file.
    pub(super) fn bytes(&self) -> usize {
        segment_bytes(self.records)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "SEGMENT_RECORDS_MAX keeps it below 2^33")]
    pub(super) fn offset(&self, position: u64) -> usize {
        debug_assert!(position >= self.base && position <= self.end());
        HEADER_BYTES + (position - self.base) as usize * FRAME_BYTES
    }

    /// The records from `position` up to `end`, as far as the file goes.
    pub(super) fn frames(&self, position: u64, end: u64) -> &[Frame] {
        let start = self.offset(position);
        let len = self.offset(end.min(self.end()).max(position)) - start;
        as_frames(self.segment.read(start, len)).0
    }

    /// The record at `position`, when it is a good one.
    pub(super) fn record(&self, position: u64) -> Option<Record<'_>> {
        self.frames(position, self.end()).first().and_then(Record::checked)
    }

    /// Whether anything was ever written at `position` that is still there.
    pub(super) fn is_written(&self, position: u64) -> bool {
        let frame = self.frames(position, self.end()).first();
        frame.is_some_and(|frame| *frame != Frame::ZERO)
    }

    #[inline]
    pub(super) fn write(&mut self, position: u64, frame: &Frame) {
        let offset = self.offset(position);
        self.segment.write(offset, frame.as_bytes());
    }
}
