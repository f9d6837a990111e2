//! Whether a record can be where it is: the one judgement over records in their order, for an
//! open and for whoever looks at the files of a log without opening it.
//!
//! It is fed position by position and keeps the counters. What it is not: a reader; where the
//! bytes come from is the caller's matter.
//!
//! # Decisions
//!
//! * An open reads from mappings, inspection reads copies, and both use this judgement. Tests compare the
//!   two for every flipped bit and every truncation of a small log.

use super::counters::{Counters, Rules, Sequence};
use super::mark::{Reason, Record};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordValidity {
    /// It continues the log.
    Good,
    /// It was durable, and is not what was written.
    Rot,
    /// Here a crash cut the log.
    End,
}

/// The state of a walk over records.
#[derive(Clone, Debug)]
pub(super) struct RecordValidator {
    rules: Rules,
    /// All positions below it were durable once.
    watermark: u64,
    start: u64,
    pub(super) counters: Counters,
    /// What came before the next record is not known.
    lost: bool,
    /// Something has said what the counters are.
    is_known: bool,
    /// The last record was a Close mark.
    pub(super) closed: bool,
    /// The last record was a Seal mark.
    pub(super) sealed: bool,
    /// Whether any good record was seen.
    pub(super) any: bool,
}

impl RecordValidator {
    /// A walk from `start` on. One that begins inside the log knows nothing until its first mark; only
    /// position 0 may begin without a record that says what the counters are.
    pub(super) fn begin(start: u64, watermark: u64, rules: Rules) -> RecordValidator {
        RecordValidator {
            rules,
            watermark,
            start,
            counters: Counters::FRESH,
            lost: start > 0,
            is_known: start == 0,
            closed: false,
            sealed: false,
            any: false,
        }
    }

    /// Positions are not there at all.
    pub(super) fn miss(&mut self) {
        self.lost = true;
    }

    /// Judges the record at `position`; `None` when its bytes are no record.
    pub(super) fn step(
        &mut self,
        position: u64,
        is_first_of_segment: bool,
        record: Option<Record<'_>>,
    ) -> RecordValidity {
        let (mut closes, mut seals, mut says_counters) = (false, false, true);
        let rules = self.rules;
        let good = match record {
            Some(Record::Mark(mark)) => {
                let fits = self.counters.accepts_mark(mark, position, rules)
                    || (self.lost && mark.durable_records.get() <= position);
                if fits {
                    self.counters.apply_mark(mark);
                    closes = mark.is(Reason::Close);
                    seals = mark.is(Reason::Seal);
                    self.is_known = true;
                }
                fits
            }
            Some(Record::Data(frame)) => {
                let seq = frame.seq.get();
                if is_first_of_segment {
                    false
                } else if self.lost && seq >= self.counters.next_seq && seq != u64::MAX {
                    self.counters.apply_data_after_damage(frame, rules);
                    true
                } else if !self.lost && self.counters.accepts(seq, rules) {
                    self.counters.apply_data(frame, rules);
                    true
                } else {
                    false
                }
            }
            // It moves nothing, and behind damage it does not say what the counters are.
            Some(Record::Statement(_) | Record::Epoch(_)) => {
                says_counters = false;
                !is_first_of_segment
            }
            Some(Record::Hole(hole)) => {
                says_counters = rules.sequence == Sequence::Contiguous;
                let fits = self.counters.accepts_hole(hole, self.lost, rules);
                let fits = fits && !is_first_of_segment;
                if fits {
                    self.counters.apply_hole(hole, rules);
                }
                fits
            }
            None => false,
        };
        if good {
            self.lost &= !says_counters;
            self.any = true;
        } else if position < self.watermark {
            self.lost = true;
        } else {
            return RecordValidity::End;
        }
        self.closed = closes;
        self.sealed = seals;
        if good { RecordValidity::Good } else { RecordValidity::Rot }
    }

    /// Whether the counters are known, having come to `end`. After rot right up to the end
    /// it is not: the seq of the lost frames must not be used twice.
    pub(super) fn knows(&self, end: u64) -> bool {
        self.is_known && !(self.lost && end > self.start)
    }
}

/// Whether a segment of the journal `stated` may stand among those of the journal `known`, which it is known as
/// from then on. Segments of older programs, and of shards, state 0.
pub(super) fn is_same_journal(known: &mut u64, stated: u64) -> bool {
    if *known == 0 {
        *known = stated;
    }
    stated == 0 || stated == *known
}

/// Whether a segment that begins at `base` can be behind one that ended at `end_before`; between
/// neighbours by number nothing may lie.
pub(super) fn continues(number_before: u64, end_before: u64, number: u64, base: u64) -> bool {
    let adjacent = number_before.checked_add(1) == Some(number);
    base == end_before || (base > end_before && !adjacent)
}
