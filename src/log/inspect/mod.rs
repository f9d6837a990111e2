//! Looking at a log's files without opening the log: for `pregao verify`, `dump` and `export`.
//!
//! An open takes the lock, cuts the torn tail and writes a mark. Nothing of that happens here: the
//! files are read and never written, also while a node appends to them. [`Outline`] says what an open
//! would find and where the log ends for a reader; [`verify()`] goes through every record;
//! [`Reader`] hands the records out in order, and [`Union`] those of several shards.
//!
//! The judgement is recovery's own (`log/validator.rs`, the checks of headers and records), so that the
//! two cannot disagree about a record. What differs is the way to the bytes: a log maps its segments
//! whole, here a chunk is copied at a time, since what a running writer may change must not be lent.

mod outline;
mod reader;
mod union;
mod verify;

pub use outline::{LeftOut, Outline};
pub use reader::{Epochs, Item, Reader};
pub use union::Union;
pub use verify::{Finding, Severity, Summary, Verdict, Watch, verify};

use std::ops::ControlFlow;

use super::backend::StorageError;
use super::header::HEADER_BYTES;
use super::mark::{Mark, Record};
use super::segment::LogSegment;
use crate::limits::INSPECT_CHUNK_BYTES;
use crate::wire::{FRAME_BYTES, Frame, Kind, as_frames};

/// What lies in a log's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Segment numbers with the bytes of their files, ascending.
    pub segments: Vec<(u64, u64)>,
    /// Names of segments that were not finished.
    pub half_made: Vec<String>,
    /// The highest number of a segment that the retention has removed, or was about to remove; 0: none.
    pub removed_through: u64,
}

impl Listing {
    /// Whether a later listing has a further segment.
    fn has_grown_to(&self, later: &Listing) -> bool {
        let last = |listing: &Listing| listing.segments.last().map(|(number, _)| *number);
        last(later) > last(self)
    }
}

/// The files of one log, for reading only. They may change meanwhile: a writer appends behind the
/// end, makes segments, and removes the oldest.
pub trait Files {
    /// What there is.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&mut self) -> Result<Listing, StorageError>;

    /// Copies the bytes from `offset` on of segment `number`, as many of them as exist, and says how
    /// many these were. `None` when there is no such file any more.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError>;

    /// Has the system make durable what a process stored to the segment. Changes no byte.
    ///
    /// # Errors
    /// When nobody knows what is durable.
    fn settle(&mut self, number: u64) -> Result<(), StorageError>;
}

/// A segment without its bytes.
pub(super) type Place = LogSegment<u64>;

/// What a file has at a position.
#[derive(Clone, Copy)]
enum Slot<'a> {
    /// Bytes of a whole record.
    Whole(&'a Frame),
    /// The file ends within the record, behind bytes that are not all zero.
    Part,
    /// The file ends before it.
    Missing,
}

impl<'a> Slot<'a> {
    fn frame(self) -> Option<&'a Frame> {
        match self {
            Slot::Whole(frame) => Some(frame),
            Slot::Part | Slot::Missing => None,
        }
    }

    /// The record, when it is a good one, also of a kind that only a newer program knows.
    fn record(self) -> Option<Record<'a>> {
        self.frame().and_then(Record::of_any_kind)
    }

    /// The record, when it is a good mark. A data frame does not cost its CRC here.
    fn mark(self) -> Option<&'a Mark> {
        let frame = self.frame().filter(|frame| !frame.kind().is_some_and(Kind::is_data));
        frame.and_then(Record::checked).and_then(Record::mark)
    }

    fn is_written(self) -> bool {
        match self {
            Slot::Whole(frame) => *frame != Frame::ZERO,
            Slot::Part => true,
            Slot::Missing => false,
        }
    }
}

/// Shows the records of a segment in `from..until`, chunk by chunk, as far as `visit` goes on.
fn each_record<F: Files>(
    files: &mut F,
    place: &Place,
    from: u64,
    until: u64,
    chunk: &mut Vec<u8>,
    mut visit: impl FnMut(u64, Slot<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StorageError> {
    let mut position = from.max(place.base);
    let until = until.min(place.end());
    while position < until {
        let records = load(files, place, position, until, chunk)?;
        let (frames, part) = as_frames(chunk);
        for frame in frames {
            if visit(position, Slot::Whole(frame)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            position += 1;
        }
        if (frames.len() as u64) < records {
            let mut slot = match part.iter().any(|byte| *byte != 0) {
                true => Slot::Part,
                false => Slot::Missing,
            };
            for position in position..until {
                if visit(position, std::mem::replace(&mut slot, Slot::Missing)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Copies records from `position` on, at most a chunk; says how many it asked for. A segment that is
/// gone has none.
fn load<F: Files>(
    files: &mut F,
    place: &Place,
    position: u64,
    until: u64,
    chunk: &mut Vec<u8>,
) -> Result<u64, StorageError> {
    const CHUNK_RECORDS: u64 = (INSPECT_CHUNK_BYTES / FRAME_BYTES) as u64;
    let records = CHUNK_RECORDS.min(until - position);
    let bytes = usize::try_from(records).unwrap_or(0) * FRAME_BYTES;
    chunk.resize(bytes, 0);
    let read = files.read_at(place.segment, place.offset_in_file(position), chunk)?;
    chunk.truncate(read.unwrap_or(0));
    Ok(records)
}

/// The header page of a segment, as far as it exists; `None` when the file is gone.
fn header_page<F: Files>(files: &mut F, number: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let mut page = vec![0; HEADER_BYTES];
    let read = files.read_at(number, 0, &mut page)?;
    Ok(read.map(|bytes| {
        page.truncate(bytes);
        page
    }))
}

/// What is left of the last seq of the holes that were reported, when a mark of another epoch comes: from the
/// epoch's start on the numbers are given out anew, and a hole among them is another one.
fn reported_before(hole_to: Option<u64>, mark: &Mark) -> Option<u64> {
    hole_to.map(|told| told.min(mark.epoch_start.get().saturating_sub(1)))
}

/// The name of a segment's file.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{number:020}.log")
}

#[cfg(test)]
mod tests;
