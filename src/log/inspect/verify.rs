//! Goes through every record of a log and says what is wrong where.
//!
//! A finding says what an open makes of it. `loss`: an open goes on, and something is missing that the
//! log may or may not have promised. `corrupt`: what was durable is not what was written, or an open
//! refuses the log. `note`: nothing is missing.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::{Files, Outline, Place, Slot, each_record, file_name, reported_before};
use crate::log::backend::StorageError;
use crate::log::counters::Sequence;
use crate::log::header::segment_bytes;
use crate::log::mark::{Reason, Record};
use crate::log::recovery::OpenError;
use crate::log::validator::{self, RecordValidator};
use crate::planted::{Bug, is_planted};
use crate::wire::{FRAME_BYTES, Frame, Gap};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is missing.
    Note,
    /// Something is missing; an open goes on without it.
    Loss,
    /// Durable bytes are not what was written, or an open refuses the log.
    Corrupt,
}

/// The judgement about a whole log: its worst finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every record is there.
    #[default]
    Clean,
    /// See [`Severity::Loss`].
    Loss,
    /// See [`Severity::Corrupt`].
    Corrupt,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name; empty when it is about the log as a whole.
    pub file: String,
    /// Where in the file.
    pub offset: Option<u64>,
    /// The record's position in the log.
    pub position: Option<u64>,
    /// How many records it is about.
    pub records: u64,
    /// The seq that was expected there.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What an open makes of it.
    pub meaning: String,
}

/// What a log is, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The judgement.
    pub verdict: Verdict,
    /// Segments that were looked into.
    pub segments: u64,
    /// Good data frames before the end.
    pub frames: u64,
    /// Good marks before the end.
    pub marks: u64,
    /// Good statements before the end: what was said again at the heads of segments.
    pub statements: u64,
    /// Holes that the log has records of: what upstream has lost.
    pub holes: u64,
    /// Bad records before the end.
    pub damaged_records: u64,
    /// Records behind the end, which an open cuts.
    pub cut_records: u64,
    /// Seq of the first good data frame.
    pub first_seq: Option<u64>,
    /// The seq that comes next.
    pub next_seq: u64,
    /// The epoch that the log stands in.
    pub epoch: u32,
    /// Its identity; 0 = it has none.
    pub epoch_id: u64,
    /// The identity of the journal; 0 = the log does not know it.
    pub journal_id: u64,
    /// All positions below were durable when the newest mark was written.
    pub watermark: u64,
    /// The position behind the last record that an open keeps.
    pub end_position: u64,
    /// Whether the last record is a Close mark.
    pub is_closed: bool,
    /// How many findings of each severity there are.
    pub notes: u64,
    /// See `notes`.
    pub losses: u64,
    /// See `notes`.
    pub corruptions: u64,
}

/// Who hears of what is found, as it is found.
pub trait Watch {
    /// One thing is wrong.
    fn found(&mut self, finding: &Finding);
    /// So many more bytes of records were gone through.
    fn passed(&mut self, bytes: u64);
}

/// Looks at everything. With `in_use` a writer is at work: what stands behind the end is its matter.
///
/// # Errors
/// When the files cannot be read.
pub fn verify<F: Files, W: Watch>(
    files: &mut F,
    outline: &Outline,
    in_use: bool,
    watch: &mut W,
) -> Result<Summary, StorageError> {
    let summary = Summary {
        segments: outline.places.len() as u64,
        next_seq: outline.counters.next_seq,
        epoch: outline.counters.epoch,
        epoch_id: outline.epoch().1,
        journal_id: outline.lineage.journal_id(),
        watermark: outline.watermark,
        end_position: outline.end,
        is_closed: outline.clean,
        ..Summary::default()
    };
    let unknown = BTreeMap::new();
    let mut verifier =
        Verifier { outline, in_use, watch, summary, bad: None, epoch: 0, hole_to: None, unknown };
    verifier.whole_files();
    verifier.records(files)?;
    verifier.report_unknown_kinds();
    verifier.tail(files)?;
    if let Some(refusal) = &outline.refusal {
        let meaning = match refusal {
            OpenError::EndMissing { .. } => {
                "an open refuses the log and changes nothing; put the files back, or see `pregao recover`"
            }
            _ => "an open refuses the log and changes nothing; restore it from a copy",
        };
        verifier.whole(Severity::Corrupt, refusal.to_string(), meaning);
    }
    Ok(verifier.summary)
}

fn missing_text(missing: &Range<u64>) -> String {
    match missing.end - missing.start {
        1 => format!("segment {} is missing", missing.start),
        _ => format!("segments {} to {} are missing", missing.start, missing.end - 1),
    }
}

struct Verifier<'a, W> {
    outline: &'a Outline,
    in_use: bool,
    watch: &'a mut W,
    summary: Summary,
    /// Bad records in a row, and what is wrong with the first.
    bad: Option<Bad>,
    /// The epoch of the last good mark.
    epoch: u32,
    /// The last seq of the holes that were reported; the head of every segment repeats them.
    hole_to: Option<u64>,
    /// By number: the first record of each kind that this program does not know, and how many there are.
    unknown: BTreeMap<u8, Finding>,
}

struct Bad {
    segment: u64,
    offset: u64,
    positions: Range<u64>,
    next_seq: u64,
    what: String,
}

impl<W: Watch> Verifier<'_, W> {
    fn report(&mut self, finding: &Finding) {
        let (count, verdict) = match finding.severity {
            Severity::Note => (&mut self.summary.notes, Verdict::Clean),
            Severity::Loss => (&mut self.summary.losses, Verdict::Loss),
            Severity::Corrupt => (&mut self.summary.corruptions, Verdict::Corrupt),
        };
        *count += 1;
        self.summary.verdict = self.summary.verdict.max(verdict);
        self.watch.found(finding);
    }

    fn whole(&mut self, severity: Severity, what: String, meaning: &str) {
        self.about_file(severity, String::new(), what, meaning);
    }

    fn about_file(&mut self, severity: Severity, file: String, what: String, meaning: &str) {
        self.report(&Finding {
            severity,
            file,
            offset: None,
            position: None,
            records: 0,
            seq: None,
            what,
            meaning: meaning.to_owned(),
        });
    }

    /// What headers, names and lengths show.
    fn whole_files(&mut self) {
        let outline = self.outline;
        for name in &outline.listing.half_made {
            let what = "a segment that was not finished".to_owned();
            let meaning = match self.in_use {
                true => "the writer is making it",
                false => "the next open removes it",
            };
            self.about_file(Severity::Note, name.clone(), what, meaning);
        }
        for out in &outline.left_out {
            let meaning = match out.is_skipped {
                true => "an open leaves the segment out, and readers get a gap",
                false => "an open refuses the log and changes nothing",
            };
            let name = file_name(out.segment);
            self.report(&Finding {
                severity: Severity::Corrupt,
                file: name,
                offset: Some(0),
                position: None,
                records: 0,
                seq: None,
                what: out.fault.to_string(),
                meaning: meaning.to_owned(),
            });
        }
        if let Some(missing) = outline.missing_front() {
            let what = missing_text(&missing);
            let meaning = "the retention has not removed them; an open goes on, and what stood there is \
                           not in the log's answers, which say that they are not complete";
            self.about_file(Severity::Loss, file_name(missing.start), what, meaning);
        }
        if let Some(last) = outline.end_missing().filter(|_| outline.refusal.is_none()) {
            let next = last.saturating_add(1);
            let what = format!(
                "segment {next} is missing, and perhaps more behind it: segment {last} ends with a seal"
            );
            let meaning = "a writer seals a segment only when the next one is there; an open goes on, and \
                           asks core for what stood there";
            self.about_file(Severity::Loss, file_name(next), what, meaning);
        }
        let numbers: Vec<u64> =
            outline.listing.segments.iter().map(|(number, _)| *number).collect();
        for pair in numbers.windows(2) {
            let missing = pair[0].saturating_add(1)..pair[1];
            if !missing.is_empty() {
                let what = missing_text(&missing);
                let meaning = "an open goes on, and readers get a gap";
                self.about_file(Severity::Loss, file_name(missing.start), what, meaning);
            }
        }
        for (number, bytes) in &outline.listing.segments {
            let place = outline.places.iter().find(|place| place.segment == *number);
            let Some(whole) = place.map(|place| segment_bytes(place.records) as u64) else {
                continue;
            };
            if *bytes != whole {
                let what = format!("the file has {bytes} bytes instead of {whole}");
                let meaning = match *bytes < whole {
                    true => "it was cut; what of its records was written is judged below",
                    false => "what stands behind the last record is not looked at",
                };
                self.about_file(Severity::Note, file_name(*number), what, meaning);
            }
        }
    }

    /// Every record before the end.
    fn records<F: Files>(&mut self, files: &mut F) -> Result<(), StorageError> {
        let outline = self.outline;
        let start = outline.first_position();
        // Before the end nothing can be torn any more: what does not check there is rot.
        let mut validator = RecordValidator::begin(start, outline.end, outline.rules);
        let mut chunk = Vec::new();
        let mut expected = start;
        let last_used = outline.places.iter().rposition(|place| place.base < outline.end);
        for (index, place) in outline.places.iter().enumerate() {
            if place.base >= outline.end {
                break;
            }
            if expected < place.base {
                validator.miss();
            }
            expected = place.end();
            let is_left = Some(index) != last_used;
            let mut seal: Option<u64> = None;
            let _ = each_record(files, place, 0, outline.end, &mut chunk, |position, slot| {
                let next_seq = validator.counters.next_seq;
                let record = slot.record();
                let verdict = validator.step(position, position == place.base, record);
                self.watch.passed(FRAME_BYTES as u64);
                if verdict == validator::RecordValidity::Good {
                    self.end_bad();
                    self.count(record);
                    self.note_unknown_kind(place, position, slot.frame());
                    match record {
                        Some(Record::Hole(gap)) => self.note_hole(place, position, gap),
                        Some(Record::Mark(mark)) if mark.epoch.get() != self.epoch => {
                            self.epoch = mark.epoch.get();
                            self.hole_to = reported_before(self.hole_to, mark);
                        }
                        _ => {}
                    }
                } else {
                    self.note_bad(place, position, next_seq, slot, record);
                }
                seal = self.check_seal(place, position, is_left, record, seal);
                ControlFlow::Continue(())
            })?;
            self.end_bad();
        }
        Ok(())
    }

    fn count(&mut self, record: Option<Record<'_>>) {
        match record {
            Some(Record::Data(frame)) => {
                self.summary.frames += 1;
                self.summary.first_seq.get_or_insert(frame.seq.get());
            }
            Some(Record::Statement(_)) => self.summary.statements += 1,
            Some(Record::Mark(_)) => self.summary.marks += 1,
            Some(Record::Hole(_) | Record::Epoch(_)) | None => {}
        }
    }

    fn note_unknown_kind(&mut self, place: &Place, position: u64, frame: Option<&Frame>) {
        let Some(frame) = frame.filter(|frame| frame.kind().is_none()) else { return };
        let finding = self.unknown.entry(frame.kind).or_insert_with(|| Finding {
            severity: Severity::Corrupt,
            file: file_name(place.segment),
            offset: Some(place.offset_in_file(position)),
            position: Some(position),
            records: 0,
            seq: Some(frame.seq.get()),
            what: format!("kind {} is none that this program knows", frame.kind),
            meaning: "a newer program wrote it; an open by this one refuses the log, or readers get a gap"
                .to_owned(),
        });
        finding.records += 1;
    }

    fn report_unknown_kinds(&mut self) {
        for finding in std::mem::take(&mut self.unknown).into_values() {
            self.report(&finding);
        }
    }

    fn note_hole(&mut self, place: &Place, position: u64, gap: &Gap) {
        let (from, to) = (gap.from_seq.get(), gap.to_seq.get());
        if self.hole_to.is_some_and(|told| told >= to) {
            return;
        }
        self.hole_to = Some(to);
        self.summary.holes += 1;
        self.report(&Finding {
            severity: Severity::Loss,
            file: file_name(place.segment),
            offset: Some(place.offset_in_file(position)),
            position: Some(position),
            records: 1,
            seq: Some(from),
            what: match self.outline.rules.sequence {
                Sequence::Contiguous => format!("seq {from} to {to} are lost: no shard had them"),
                Sequence::Increasing => format!("seq {from} to {to} are lost upstream"),
            },
            meaning: match self.outline.rules.sequence {
                Sequence::Contiguous => {
                    "the end of the journal was rebuilt without them; replays \
                                         and followers get a gap"
                }
                Sequence::Increasing => {
                    "core's journal rotted before this log had them; answers \
                                         that touch them say so"
                }
            }
            .to_owned(),
        });
    }

    fn note_bad(
        &mut self,
        place: &Place,
        position: u64,
        next_seq: u64,
        slot: Slot<'_>,
        record: Option<Record<'_>>,
    ) {
        self.summary.damaged_records += 1;
        if let Some(bad) = &mut self.bad {
            bad.positions.end = position + 1;
            return;
        }
        let what = match (slot.frame(), record) {
            (None, _) => "the file ends before it".to_owned(),
            (Some(frame), None) if *frame == Frame::ZERO => "it is all zeros".to_owned(),
            (Some(frame), None) => match frame.check() {
                Err(error) => error.to_string(),
                Ok(()) => "it is no record of a log".to_owned(),
            },
            (
                _,
                Some(Record::Data(_) | Record::Statement(_) | Record::Hole(_) | Record::Epoch(_)),
            ) if position == place.base => "the first record of a segment is no mark".to_owned(),
            (_, Some(Record::Data(frame))) => {
                format!("its seq is {}, and {next_seq} comes next", frame.seq)
            }
            (_, Some(Record::Hole(gap))) => {
                format!("it is a hole from seq {}, and {next_seq} comes next", gap.from_seq)
            }
            (_, Some(Record::Statement(_) | Record::Epoch(_))) => {
                "it is a statement without a place".to_owned()
            }
            (_, Some(Record::Mark(mark))) => format!(
                "it is a mark of epoch {} at seq {} with watermark {}, which does not follow",
                mark.epoch, mark.seq, mark.durable_records
            ),
        };
        self.bad = Some(Bad {
            segment: place.segment,
            offset: place.offset_in_file(position),
            positions: position..position + 1,
            next_seq,
            what,
        });
    }

    fn end_bad(&mut self) {
        let Some(bad) = self.bad.take() else { return };
        if is_planted(Bug::OverlookRot) {
            return;
        }
        self.report(&Finding {
            severity: Severity::Corrupt,
            file: file_name(bad.segment),
            offset: Some(bad.offset),
            position: Some(bad.positions.start),
            records: bad.positions.end - bad.positions.start,
            seq: Some(bad.next_seq),
            what: bad.what,
            meaning: "it was durable: this is rot; an open keeps it, and readers get a gap".into(),
        });
    }

    /// The writer fills what it leaves with Seal marks: behind one only more of them may stand, and
    /// the last slot is a Seal's or a Close's. Gives the position of the first Seal.
    fn check_seal(
        &mut self,
        place: &Place,
        position: u64,
        is_left: bool,
        record: Option<Record<'_>>,
        seal: Option<u64>,
    ) -> Option<u64> {
        let Some(record) = record else { return seal };
        let mark = record.mark();
        let is_seal = mark.is_some_and(|mark| mark.is(Reason::Seal));
        let is_close = mark.is_some_and(|mark| mark.is(Reason::Close));
        let wrong = if seal.is_some() && !is_seal {
            Some("it stands behind the seal of its segment")
        } else if is_left && position + 1 == place.end() && !is_seal && !is_close {
            Some("the segment was left without a seal")
        } else {
            None
        };
        if let Some(what) = wrong {
            self.report(&Finding {
                severity: Severity::Corrupt,
                file: file_name(place.segment),
                offset: Some(place.offset_in_file(position)),
                position: Some(position),
                records: 1,
                seq: record.seq(),
                what: what.to_owned(),
                meaning: "no writer of this format does that; an open takes it as it is".into(),
            });
        }
        seal.or(is_seal.then_some(position))
    }

    /// What stands behind the end, and how the log was left.
    fn tail<F: Files>(&mut self, files: &mut F) -> Result<(), StorageError> {
        let outline = self.outline;
        if self.in_use || outline.refusal.is_some() {
            if self.in_use {
                let what =
                    format!("a process is writing; judged up to seq {}", self.summary.next_seq);
                self.whole(Severity::Note, what, "what stands behind that is not looked at");
            }
            return Ok(());
        }
        let mut chunk = Vec::new();
        // Segment, offset and position of the first.
        let mut cut: Option<(u64, u64, u64)> = None;
        let mut count = 0;
        for place in outline.places.iter().filter(|place| place.end() > outline.end) {
            let _ =
                each_record(files, place, outline.end, u64::MAX, &mut chunk, |position, slot| {
                    if slot.is_written() {
                        count += 1;
                        let offset = place.offset_in_file(position);
                        cut.get_or_insert((place.segment, offset, position));
                    }
                    ControlFlow::Continue(())
                })?;
        }
        self.summary.cut_records = count;
        if let Some((segment, offset, position)) = cut {
            self.report(&Finding {
                severity: Severity::Loss,
                file: file_name(segment),
                offset: Some(offset),
                position: Some(position),
                records: count,
                seq: Some(outline.counters.next_seq),
                what: "records stand behind the end of the log".to_owned(),
                meaning: "a crash tore them before they were durable; the next open zeroes them"
                    .to_owned(),
            });
        } else if !outline.clean && outline.any {
            let what = "the log was not closed".to_owned();
            let meaning = match outline.end_missing() {
                None => "its process died; everything it wrote is there. Core begins a new epoch",
                Some(_) => "its end is missing; see above",
            };
            self.whole(Severity::Note, what, meaning);
        }
        Ok(())
    }
}
