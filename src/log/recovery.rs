//! What an open finds out: where the log ends, what of it is torn, what is rot, what it has counted.
//!
//! Invariant: when the writer rolls out of a segment, the segment before that one is durable. So a
//! crash can leave holes in the last two used segments only, and the last three always contain a
//! record that was durable. These three are walked record by record.
//!
//! A bad record below the watermark W was durable once: it is rot, and stays, and is reported. A bad
//! record at or above W is where the crash cut the log: it and what follows are zeroed. W is in the
//! marks, and any good mark counts, also one behind the bad record.
//!
//! # Decisions
//!
//! * A segment that is missing in the middle is reported, not refused. A loss of power during retention may
//!   bring back an older file and not the one behind it, so the hole does not prove that somebody removed a
//!   file. The rest is served with an explicit gap, and `verify` names the segment. A missing end is
//!   refused: frames that were durable there cannot be told from frames that never existed. A seal proves it:
//!   a segment is sealed only when the next one is there, durably. A shard's log is opened without its end:
//!   its upstream position went with the records, so core is asked for them again.
//! * A missing front is told. What the retention removes is on record in the directory before the file goes,
//!   so a front that it has removed is no fault, and any other is.

use std::ops::Range;

use super::backend::{Segment, Storage, StorageError};
use super::counters::{Counters, Rules};
use super::header::{Header, HeaderFault};
use super::lineage::Lineage;
use super::mark::Record;
use super::rollbacks::Rollbacks;
use super::segment::LogSegment;
use super::validator::{self, RecordValidator, RecordValidity};
use crate::limits::{DAMAGED_RANGES_MAX, SEGMENTS_MAX};
use crate::planted::{Bug, is_planted};
use crate::wire::Frame;

/// Why a log cannot be opened. Nothing on disk was changed, except for [`OpenError::Storage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The configuration is to blame.
    #[error("a log segment cannot have {0} records")]
    SegmentRecords(u64),
    /// What is on disk is to blame.
    #[error("segment {segment} is refused: {fault}")]
    Refused {
        /// Its number, which is also its file name.
        segment: u64,
        /// What is wrong with it.
        fault: HeaderFault,
    },
    /// A newer program wrote it: going on would zero what it wrote, or leave it out.
    #[error(
        "segment {segment} is refused: it has a frame of kind {kind}, which only a newer program knows"
    )]
    UnknownKind {
        /// Its number, which is also its file name.
        segment: u64,
        /// The frame's kind.
        kind: u8,
    },
    /// The end of the log is missing: frames that were there cannot be told from frames that never existed.
    #[error(
        "segment {} is missing, and perhaps more behind it: segment {segment} ends with a seal, and a writer \
         seals a segment only when the next one is there",
        segment.saturating_add(1)
    )]
    EndMissing {
        /// The last segment that is left, or that the retention is known to have removed.
        segment: u64,
    },
    /// There are more segments than one process can map.
    #[error("the log has {0} segments, more than {SEGMENTS_MAX}")]
    Segments(usize),
    /// The disk is to blame.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What an open found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There were no records.
    pub fresh: bool,
    /// The last record was a Close mark: nothing that was published can be missing. A sequencer
    /// whose log is not clean has to begin a new epoch.
    pub clean: bool,
    /// First position that the log still has.
    pub first_position: u64,
    /// Where the log ended: the position that the Open mark of this open then took.
    pub end_position: u64,
    /// Records behind the end that a crash had left, and that are zero now.
    pub cut_records: u64,
    /// The epoch of the end of the log; 0 = none has begun.
    pub epoch: u32,
    /// First seq of that epoch.
    pub epoch_start: u64,
    /// The seq that comes next (contiguous), or the lowest that may (increasing).
    pub next_seq: u64,
    /// The feed that `upstream_seq` counts in; 0 = none yet.
    pub upstream_feed: u64,
    /// The number wanted next from upstream.
    pub upstream_seq: u64,
    /// Positions that are rot, as far as an open looks; [`super::Log::verify`] looks everywhere.
    pub damaged: Vec<Range<u64>>,
    /// Segments left out because their header is rot. Their files are untouched.
    pub skipped_segments: Vec<u64>,
    /// Numbers of segments that are missing before the first one, though the retention has not removed them.
    pub missing_front: Option<Range<u64>>,
    /// The last segment that is left was followed by another, which is missing. Only a log whose upstream has
    /// what stood there is opened without it.
    pub is_end_missing: bool,
}

impl OpenError {
    /// The log is whole, and of an earlier format: it is converted and not repaired.
    #[must_use]
    pub fn is_of_earlier_format(&self) -> bool {
        matches!(self, OpenError::Refused { fault: HeaderFault::Older(_), .. })
    }
}

/// What the walk over the end of the log found.
pub(super) struct Tail {
    pub(super) counters: Counters,
    /// The position behind the last record that is kept.
    pub(super) end: u64,
    pub(super) clean: bool,
    /// The last record that is kept is a Seal mark.
    pub(super) is_sealed: bool,
    pub(super) damaged: Vec<Range<u64>>,
}

/// What is there of a log.
pub(super) struct Opened<G> {
    pub(super) segments: Vec<LogSegment<G>>,
    /// Those left out, with the reason.
    pub(super) skipped: Vec<(u64, HeaderFault)>,
    /// The lowest number of a file.
    pub(super) first_number: Option<u64>,
    /// Whose journal it is; 0: no header says it.
    pub(super) journal_id: u64,
}

/// Opens and checks all segments; leaves out sealed ones with a rotten header.
pub(super) fn open_segments<S: Storage>(
    storage: &mut S,
    name: [u8; 16],
) -> Result<Opened<S::Segment>, OpenError> {
    let numbers = storage.list()?;
    if numbers.len() > SEGMENTS_MAX {
        return Err(OpenError::Segments(numbers.len()));
    }
    let mut segments: Vec<LogSegment<S::Segment>> = Vec::with_capacity(numbers.len());
    let mut skipped = Vec::new();
    let mut journal_id = 0;
    let last = numbers.last().copied();
    let first_number = numbers.first().copied();
    for number in numbers {
        let segment = storage.open(number)?;
        let header = match Header::read(segment.read(0, super::HEADER_BYTES), name, number) {
            Ok(header) => header,
            // The last segment says where the log ends; without it nothing may be appended.
            Err(fault) if fault.is_damage() && Some(number) != last => {
                skipped.push((number, fault));
                continue;
            }
            Err(fault) => return Err(OpenError::Refused { segment: number, fault }),
        };
        let opened =
            LogSegment { base: header.base_position(), records: header.records(), segment };
        if !validator::is_same_journal(&mut journal_id, header.journal_id()) {
            let fault = HeaderFault::Journal(header.journal_id());
            return Err(OpenError::Refused { segment: number, fault });
        }
        if let Some(before) = segments.last() {
            let before = (before.segment.number(), before.end());
            if !validator::continues(before.0, before.1, number, opened.base) {
                let fault = HeaderFault::Chain;
                return Err(OpenError::Refused { segment: number, fault });
            }
        }
        segments.push(opened);
    }
    Ok(Opened { segments, skipped, journal_id, first_number })
}

/// Walks the last three used segments.
pub(super) fn walk<G: Segment>(
    segments: &[LogSegment<G>],
    rules: Rules,
) -> Result<Tail, OpenError> {
    let used = segments.iter().rposition(|segment| {
        segment.frames(segment.base, segment.end()).iter().any(|frame| *frame != Frame::ZERO)
    });
    let base = segments.first().map_or(0, |segment| segment.base);
    let mut tail = Tail {
        counters: Counters::FRESH,
        end: base,
        clean: false,
        is_sealed: false,
        damaged: Vec::new(),
    };
    let Some(used) = used else {
        // Only position 0 may begin without a record that says what the counters are.
        return match segments.first() {
            Some(segment) if segment.base > 0 => Err(nothing_known(&segment.segment)),
            _ => Ok(tail),
        };
    };
    let walked = &segments[used.saturating_sub(2)..=used];
    let mut watermark = watermark(walked);
    if is_planted(Bug::TrustFirstWatermark) {
        let first = walked[0].record(walked[0].base).and_then(Record::mark);
        watermark = first.map_or(0, |mark| mark.durable_records.get());
    } else if walked.len() == 3 {
        watermark = watermark.max(walked[1].base);
    }
    let start = walked[0].base;
    let mut validator = RecordValidator::begin(start, watermark, rules);
    tail.end = start;
    'walk: for (index, segment) in walked.iter().enumerate() {
        if index > 0 && tail.end < segment.base {
            note_damage(&mut tail.damaged, tail.end..segment.base);
            validator.miss();
            tail.end = segment.base;
        }
        for position in segment.base..segment.end() {
            let record = segment.record(position);
            if record.is_none() {
                refuse_unknown_kind(segment, position)?;
            }
            match validator.step(position, position == segment.base, record) {
                RecordValidity::Good => {}
                RecordValidity::Rot => note_damage(&mut tail.damaged, position..position + 1),
                RecordValidity::End => break 'walk,
            }
            tail.end = position + 1;
        }
    }
    tail.counters = validator.counters;
    tail.clean = validator.closed;
    tail.is_sealed = validator.sealed;
    if !validator.knows(tail.end) {
        return Err(nothing_known(&walked[walked.len() - 1].segment));
    }
    Ok(tail)
}

/// Refuses a log whose end lies in a segment that is not there, or may have lain in one that is missing
/// behind it: what follows is not known then.
pub(super) fn check_end<G: Segment>(segments: &[LogSegment<G>], end: u64) -> Result<(), OpenError> {
    let mut expected = end;
    for segment in segments {
        if segment.base > expected {
            let segment = segment.segment.number();
            return Err(OpenError::Refused { segment, fault: HeaderFault::Chain });
        }
        expected = expected.max(segment.end());
    }
    Ok(())
}

/// The last segment with a record, when the record is a seal and the segment behind it is not there.
pub(super) fn end_missing<'a, G: 'a>(
    mut segments: impl DoubleEndedIterator<Item = &'a LogSegment<G>> + Clone,
    end: u64,
    is_sealed: bool,
) -> Option<&'a LogSegment<G>> {
    if is_planted(Bug::TakeSealForEnd) {
        return None;
    }
    let last = segments.clone().rfind(|segment| segment.base < end)?;
    let has_next = segments.any(|segment| segment.base >= last.end());
    (is_sealed && !has_next).then_some(last)
}

/// Which segments are missing before the first file: those that the retention has not removed.
pub(super) fn missing_front(first_number: Option<u64>, removed_through: u64) -> Option<Range<u64>> {
    let missing = removed_through.saturating_add(1)..first_number?;
    (!missing.is_empty()).then_some(missing)
}

fn refuse_unknown_kind<G: Segment>(
    segment: &LogSegment<G>,
    position: u64,
) -> Result<(), OpenError> {
    let frame = segment.frames(position, position + 1).first();
    match frame.filter(|frame| frame.is_of_unknown_data_kind()) {
        Some(frame) => {
            Err(OpenError::UnknownKind { segment: segment.segment.number(), kind: frame.kind })
        }
        None => Ok(()),
    }
}

fn nothing_known<G: Segment>(segment: &G) -> OpenError {
    OpenError::Refused { segment: segment.number(), fault: HeaderFault::NothingStands }
}

/// The highest watermark that any good mark states.
fn watermark<G: Segment>(walked: &[LogSegment<G>]) -> u64 {
    let mut highest = 0;
    for segment in walked {
        for (position, frame) in (segment.base..).zip(segment.frames(segment.base, segment.end())) {
            // Data frames are checked by the walk; here only marks cost a CRC.
            if frame.kind().is_some_and(|kind| kind.is_data()) {
                continue;
            }
            let stated = Record::checked(frame).and_then(Record::mark);
            let stated = stated.map_or(0, |mark| mark.durable_records.get());
            if stated <= position {
                highest = highest.max(stated);
            }
        }
    }
    highest
}

/// Zeroes what is behind the end of the log. Repeating it after a crash changes nothing: the
/// record at `end` stays bad until a new one is written there, which is after the caller's sync.
pub(super) fn cut<G: Segment>(segments: &mut [LogSegment<G>], end: u64) -> u64 {
    let mut cut = 0;
    for segment in segments {
        for position in end.max(segment.base)..segment.end() {
            if segment.is_written(position) {
                segment.write(position, &Frame::ZERO);
                cut += 1;
            }
        }
    }
    cut
}

/// Finds where the sequence fell back, and its lineage, looking only into segments whose first and last marks
/// disagree about the epoch, and at the heads of the others; and notes first and last records that are rot.
pub(super) fn survey<G: Segment>(
    segments: &[LogSegment<G>],
    end: u64,
    damaged: &mut Vec<Range<u64>>,
) -> (Rollbacks, Lineage) {
    let mut rollbacks = Rollbacks::default();
    let mut lineage = Lineage::default();
    let mut epoch_before = None;
    let mut next_seq = 1;
    let mut expected = segments.first().map_or(0, |segment| segment.base);
    for segment in segments.iter().filter(|segment| segment.base < end) {
        if expected < segment.base {
            note_damage(damaged, expected..segment.base);
        }
        expected = segment.end();
        let last_position = segment.end().min(end) - 1;
        let first = segment.record(segment.base).and_then(Record::mark);
        let last = segment.record(last_position);
        let last_mark = last.and_then(Record::mark);
        if first.is_none() {
            note_damage(damaged, segment.base..segment.base + 1);
        }
        if last.is_none() {
            note_damage(damaged, last_position..last_position + 1);
        }
        let epochs = (first.map(|mark| mark.epoch), last_mark.map(|mark| mark.epoch));
        let same = epochs.0.is_some() && epochs.0 == epochs.1 && epochs.0 == epoch_before;
        if !same {
            for position in segment.base..=last_position {
                let Some(record) = segment.record(position) else { continue };
                if let Record::Epoch(entry) = record {
                    lineage.note_record(entry);
                }
                let Some(seq) = record.seq() else { continue };
                // Only an Epoch mark falls back; when it is rot, the record behind it shows it.
                if seq < next_seq {
                    rollbacks.push(position, seq);
                }
                next_seq = seq.saturating_add(u64::from(record.mark().is_none()));
            }
        } else {
            for position in segment.base..=last_position {
                match segment.record(position) {
                    Some(Record::Epoch(entry)) => lineage.note_record(entry),
                    Some(Record::Mark(_)) => {}
                    _ => break,
                }
            }
            next_seq = last_mark.map_or(next_seq, |mark| mark.seq.get());
        }
        epoch_before = epochs.1;
    }
    damaged.sort_by_key(|range| range.start);
    (rollbacks, lineage)
}

/// Adds a range to an ascending list, joining neighbours and keeping the list bounded.
pub(super) fn note_damage(damaged: &mut Vec<Range<u64>>, range: Range<u64>) {
    if damaged.iter().any(|known| known.start <= range.start && range.end <= known.end) {
        return;
    }
    let full = damaged.len() >= DAMAGED_RANGES_MAX;
    match damaged.last_mut() {
        Some(last) if last.end == range.start || full => {
            last.start = last.start.min(range.start);
            last.end = last.end.max(range.end);
        }
        _ => damaged.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
        let mut damaged = Vec::new();
        ranges.into_iter().for_each(|range| note_damage(&mut damaged, range));
        damaged
    }

    #[test]
    fn neighbours_are_one_range_and_what_is_known_is_not_noted_again() {
        assert_eq!(noted([3..4, 4..6, 5..6, 3..6, 8..9]), [3..6, 8..9]);
        assert_eq!(noted([3..6, 4..7]), [3..6, 4..7]);
    }

    #[test]
    fn the_last_of_too_many_ranges_says_too_much_rather_than_too_little() {
        let max = DAMAGED_RANGES_MAX as u64;
        let each = |count: u64| (0..count).map(|it| 10 * it + 100..10 * it + 101);
        assert_eq!(noted(each(max)).len(), DAMAGED_RANGES_MAX);
        let last = 10 * max + 90;
        let end = |more: Range<u64>| noted(each(max).chain([more])).pop();
        assert_eq!(end(last + 50..last + 60), Some(last..last + 60));
        assert_eq!(end(5..6), Some(5..last + 1));
        assert_eq!(noted(each(max + 9)).len(), DAMAGED_RANGES_MAX);
    }
}
