//! The mark: the log's own record, between data frames, that says where everything stands.
//!
//! Every mark carries every value, so one valid mark is enough to go on from. Marks never leave a
//! log; what a peer gets are the data frames between them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::lineage::LogEpoch;
use crate::wire::{FRAME_BYTES, Flags, Frame, Gap, GapReason, Kind, Message, U16, U32, U64};

/// Why a mark was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The log was opened; until a [`Reason::Close`] follows as the last record, it is not clean.
    Open = 1,
    /// First record of a segment that the writer rolled into.
    Segment = 2,
    /// A sync moved the durable watermark.
    Sync = 3,
    /// An epoch begins. `seq` may fall back here, which makes earlier frames from it on void.
    Epoch = 4,
    /// The upstream position changed other than by the appended frames.
    Upstream = 5,
    /// The data frame that follows consumes no upstream number.
    Local = 6,
    /// Fills the end of a segment that the writer left.
    Seal = 7,
    /// The log was closed, and everything before this mark was durable.
    Close = 8,
    /// Behind the statements at the head of a segment: all that its frames stand on has been said.
    Stated = 9,
}

impl Reason {
    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Reason> {
        use Reason::{Close, Epoch, Local, Open, Seal, Segment, Stated, Sync, Upstream};
        [Open, Segment, Sync, Epoch, Upstream, Local, Seal, Close, Stated]
            .into_iter()
            .find(|reason| *reason as u8 == number)
    }
}

/// A mark, as FORMAT.md lays it out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq,
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[rustfmt::skip]
#[repr(C)]
pub struct Mark {
    /// Set by [`Frame::seal`].
    pub kind: u8,
    /// Set by [`Frame::seal`].
    pub version: u8,
    /// Zero.
    pub flags: U16,
    /// The epoch that the following frames belong to; 0 = none has begun.
    pub epoch: U32,
    /// The lowest seq that the next data frame may have.
    pub seq: U64,
    /// The watermark: all records before this position were durable when the mark was written.
    pub durable_records: U64,
    /// First seq of the epoch.
    pub epoch_start: U64,
    /// Which feed `upstream_seq` counts in; 0 = none yet.
    pub upstream_feed: U64,
    /// The next number wanted from upstream.
    pub upstream_seq: U64,
    /// Wall clock of the turn that wrote the mark: nanoseconds since the Unix epoch, UTC.
    pub written_at: U64,
    /// A [`Reason`] by number.
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Set by [`Frame::seal`].
    pub crc: U32,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Mark>() == FRAME_BYTES);
    assert!(offset_of!(Mark, epoch) == 4);
    assert!(offset_of!(Mark, seq) == offset_of!(Frame, seq));
    assert!(offset_of!(Mark, durable_records) == 16);
    assert!(offset_of!(Mark, epoch_start) == 24);
    assert!(offset_of!(Mark, upstream_feed) == 32);
    assert!(offset_of!(Mark, upstream_seq) == 40);
    assert!(offset_of!(Mark, written_at) == 48);
    assert!(offset_of!(Mark, reason) == 56);
    assert!(offset_of!(Mark, crc) == offset_of!(Frame, crc));
};

impl Message for Mark {
    const KIND: Kind = Kind::LogMark;

    fn is_well_formed(&self) -> bool {
        self.reserved == [0; 3] && Reason::from_number(self.reason).is_some()
    }
}

impl Mark {
    /// Whether the mark was written for this reason.
    #[must_use]
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason as u8
    }
}

/// A record that passed all checks a record can be given without its neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Record<'a> {
    Data(&'a Frame),
    /// A data frame said again, with the flag SNAPSHOT: it has no place in the sequence here.
    Statement(&'a Frame),
    /// A GAP as it travelled: upstream has lost what stood there. It has no place in the sequence.
    Hole(&'a Gap),
    /// An entry of the lineage. It moves nothing.
    Epoch(&'a LogEpoch),
    Mark(&'a Mark),
}

impl<'a> Record<'a> {
    /// The record in these 64 bytes; `None` when they are rot, torn, or never written.
    pub(super) fn checked(frame: &'a Frame) -> Option<Record<'a>> {
        if frame.check().is_err() {
            return None;
        }
        match frame.view::<Mark>() {
            Some(mark) => mark.is_well_formed().then_some(Record::Mark(mark)),
            None if !frame.kind()?.is_data() => match frame.view::<LogEpoch>() {
                Some(epoch) => epoch.is_well_formed().then_some(Record::Epoch(epoch)),
                None => hole_in(frame).map(Record::Hole),
            },
            None if is_statement(frame) => Some(Record::Statement(frame)),
            None => Some(Record::Data(frame)),
        }
    }

    /// As [`Record::checked`], for who only looks: a data frame of a kind that this program does not know is
    /// a record too. A newer program wrote it, and its header is that of all data frames.
    pub(super) fn of_any_kind(frame: &'a Frame) -> Option<Record<'a>> {
        let unknown = || match is_statement(frame) {
            true => Record::Statement(frame),
            false => Record::Data(frame),
        };
        let is_unknown = || frame.is_of_unknown_data_kind();
        Record::checked(frame).or_else(|| is_unknown().then(unknown))
    }

    /// By what records are searched: the seq of a frame, the next seq of a mark. A statement has none.
    pub(super) fn seq(self) -> Option<u64> {
        match self {
            Record::Data(frame) => Some(frame.seq.get()),
            Record::Statement(_) | Record::Hole(_) | Record::Epoch(_) => None,
            Record::Mark(mark) => Some(mark.seq.get()),
        }
    }

    pub(super) fn mark(self) -> Option<&'a Mark> {
        match self {
            Record::Mark(mark) => Some(mark),
            Record::Data(_) | Record::Statement(_) | Record::Hole(_) | Record::Epoch(_) => None,
        }
    }
}

/// Whether a record is an event of the sequence: a data frame, and no statement.
#[must_use]
pub fn is_event(frame: &Frame) -> bool {
    frame.kind().is_some_and(Kind::is_data) && !is_statement(frame)
}

/// Whether a record is a statement: a definition or last value said again, so that the segments before
/// it can go. It is no event of the sequence at its place.
#[must_use]
pub fn is_statement(frame: &Frame) -> bool {
    frame.has(Flags::SNAPSHOT) && frame.kind < Kind::LogMark as u8
}

/// Whether a record is a statement that says what core did not know: the value may not have been the last
/// one; a definition defines nothing, but neither its number nor a lower one is free.
#[must_use]
pub fn is_uncertain(frame: &Frame) -> bool {
    is_statement(frame) && frame.has(Flags::STALE)
}

/// A hole, when a record says one: these seqs are lost upstream, and no log has them.
#[must_use]
pub fn hole_in(frame: &Frame) -> Option<&Gap> {
    let gap = frame.view::<Gap>()?;
    let (from, to) = (gap.from_seq.get(), gap.to_seq.get());
    // The greatest number has no successor, so it is none of a sequence.
    let is_hole = gap.reason == GapReason::Corrupt as u8 && from > 0 && from <= to;
    (is_hole && to < u64::MAX - 1).then_some(gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Heartbeat, Quote};

    #[test]
    fn only_data_and_well_formed_marks_are_records() {
        let mark = Mark { reason: Reason::Sync as u8, ..Mark::default() };
        assert!(matches!(Record::checked(&Frame::seal(mark)), Some(Record::Mark(_))));
        assert!(matches!(Record::checked(&Frame::seal(Quote::default())), Some(Record::Data(_))));
        assert!(Record::checked(&Frame::seal(Mark { reason: 10, ..mark })).is_none());
        assert!(Record::checked(&Frame::seal(Mark { reserved: [0, 0, 1], ..mark })).is_none());
        assert!(Record::checked(&Frame::seal(Heartbeat::default())).is_none());
        assert!(Record::checked(&Frame::ZERO).is_none());
    }

    #[test]
    fn a_hole_is_a_range_of_numbers_that_a_sequence_can_have() {
        let hole = |from: u64, to: u64, reason: GapReason| {
            let (from_seq, to_seq) = (U64::new(from), U64::new(to));
            let gap = Gap { from_seq, to_seq, reason: reason as u8, ..Gap::default() };
            hole_in(&Frame::seal(gap)).is_some()
        };
        for (from, to) in [(1, 1), (3, 9), (1, u64::MAX - 2)] {
            assert!(hole(from, to, GapReason::Corrupt), "{from} to {to}");
            assert!(!hole(from, to, GapReason::SourceLost), "{from} to {to}");
        }
        for (from, to) in [(0, 1), (0, 0), (2, 1), (1, u64::MAX - 1), (1, u64::MAX)] {
            assert!(!hole(from, to, GapReason::Corrupt), "{from} to {to}");
        }
        assert!(hole_in(&Frame::seal(Quote::default())).is_none());
    }

    #[test]
    fn a_statement_is_no_event_and_may_be_uncertain() {
        let frame = Frame::seal(Quote::default());
        let is = |frame: &Frame| (is_event(frame), is_statement(frame), is_uncertain(frame));
        assert_eq!(is(&frame), (true, false, false));
        assert_eq!(is(&frame.delivered(Flags::STALE)), (true, false, false));
        assert_eq!(is(&frame.delivered(Flags::SNAPSHOT)), (false, true, false));
        assert_eq!(is(&frame.delivered(Flags::SNAPSHOT | Flags::STALE)), (false, true, true));
        assert_eq!(is(&Frame::seal(Mark::default())), (false, false, false));
    }
}
