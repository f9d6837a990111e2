//! What an open would find, found without opening: headers, the end of the log, where it stands.

use std::ops::{ControlFlow, Range};

use super::{Files, Listing, Place, each_record, header_page};
use crate::limits::{INSPECT_LOOKS_MAX, SEGMENTS_MAX};
use crate::log::backend::StorageError;
use crate::log::counters::{Counters, Rules, Sequence, UpstreamRule};
use crate::log::header::{Header, HeaderFault};
use crate::log::lineage::Lineage;
use crate::log::mark::Record;
use crate::log::recovery::{self, OpenError, note_damage};
use crate::log::validator::{self, RecordValidator, RecordValidity};
use crate::wire::unpadded;

/// A segment that is not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its number.
    pub segment: u64,
    /// Why.
    pub fault: HeaderFault,
    /// Whether an open goes on without it; else it refuses the log.
    pub is_skipped: bool,
}

/// A log from outside.
#[derive(Clone, Debug)]
pub struct Outline {
    pub(super) name: [u8; 16],
    pub(in crate::log) rules: Rules,
    /// Ascending, none of them overlapping.
    pub(in crate::log) places: Vec<Place>,
    pub(super) left_out: Vec<LeftOut>,
    pub(in crate::log) listing: Listing,
    /// Why an open would refuse.
    pub(super) refusal: Option<OpenError>,
    /// All positions below it were durable when the last mark was written.
    pub(super) watermark: u64,
    /// The position behind the last record that an open keeps.
    pub(in crate::log) end: u64,
    /// Where the log stands there.
    pub(in crate::log) counters: Counters,
    pub(super) clean: bool,
    pub(in crate::log) is_sealed: bool,
    pub(super) any: bool,
    pub(super) first_seq: u64,
    /// Rot in the segments that an open walks.
    pub(super) damaged: Vec<Range<u64>>,
    pub(super) lineage: Lineage,
}

impl Outline {
    /// Looks at the headers and at the last three used segments, as an open does. `name` is whose log
    /// it should be; `None`: whose the segments say.
    ///
    /// # Errors
    /// When the files cannot be read. What is wrong with them is no error.
    pub fn of<F: Files>(files: &mut F, name: Option<[u8; 16]>) -> Result<Outline, StorageError> {
        let name = match name {
            Some(name) => name,
            None => {
                let listing = files.list()?;
                name_in(files, &listing)?
            }
        };
        Outline::with_rules(files, name, rules_of(name))
    }

    /// As [`Outline::of`], for a log that is kept by these rules.
    pub(super) fn with_rules<F: Files>(
        files: &mut F,
        name: [u8; 16],
        rules: Rules,
    ) -> Result<Outline, StorageError> {
        let mut outline = Outline::look(files, name, rules)?;
        for _ in 1..INSPECT_LOOKS_MAX {
            // A writer that went on behind the listing has sealed a segment whose successor is not in it.
            if outline.end_missing().is_none() || !outline.listing.has_grown_to(&files.list()?) {
                break;
            }
            outline = Outline::look(files, name, rules)?;
        }
        Ok(outline)
    }

    fn look<F: Files>(
        files: &mut F,
        name: [u8; 16],
        rules: Rules,
    ) -> Result<Outline, StorageError> {
        let listing = files.list()?;
        let mut outline = Outline {
            name,
            rules,
            places: Vec::new(),
            left_out: Vec::new(),
            listing,
            refusal: None,
            watermark: 0,
            end: 0,
            counters: Counters::FRESH,
            clean: false,
            is_sealed: false,
            any: false,
            first_seq: 0,
            damaged: Vec::new(),
            lineage: Lineage::default(),
        };
        if outline.listing.segments.len() > SEGMENTS_MAX {
            outline.refusal = Some(OpenError::Segments(outline.listing.segments.len()));
        }
        outline.read_headers(files)?;
        outline.end = outline.first_position();
        let mut chunk = Vec::new();
        let used = outline.last_used(files, &mut chunk)?;
        if let Some(used) = used {
            outline.walk(files, used, &mut chunk)?;
        } else if let Some(first) = outline.places.first().filter(|first| first.base > 0) {
            let fault = HeaderFault::NothingStands;
            outline.refuse(OpenError::Refused { segment: first.segment, fault });
        }
        outline.check_end();
        outline.read_lineage(files, &mut chunk)?;
        if let Some(first) = outline.places.first().cloned() {
            let _ = each_record(files, &first, 0, first.base + 1, &mut chunk, |_, slot| {
                outline.first_seq = slot.mark().map_or(0, |mark| mark.seq.get());
                ControlFlow::Break(())
            })?;
        }
        Ok(outline)
    }

    fn read_headers<F: Files>(&mut self, files: &mut F) -> Result<(), StorageError> {
        let mut journal_id = 0;
        let last = self.listing.segments.last().map(|(number, _)| *number);
        let numbers: Vec<u64> = self.listing.segments.iter().map(|(number, _)| *number).collect();
        for number in numbers {
            let Some(page) = header_page(files, number)? else {
                // The writer has removed it since the listing: it is no part of the log any more. That it was the
                // retention, the directory has said since then too.
                self.listing.segments.retain(|(listed, _)| *listed != number);
                self.listing.removed_through = files.list()?.removed_through;
                continue;
            };
            let header = match Header::read(&page, self.name, number) {
                Ok(header) => header,
                Err(fault) => {
                    let is_skipped = fault.is_damage() && Some(number) != last;
                    self.leave_out(number, fault, is_skipped);
                    continue;
                }
            };
            if !validator::is_same_journal(&mut journal_id, header.journal_id()) {
                self.leave_out(number, HeaderFault::Journal(header.journal_id()), false);
                continue;
            }
            let place =
                Place { base: header.base_position(), records: header.records(), segment: number };
            let continues = self.places.last().is_none_or(|before| {
                validator::continues(before.segment, before.end(), number, place.base)
            });
            if continues {
                self.places.push(place);
            } else {
                self.leave_out(number, HeaderFault::Chain, false);
            }
        }
        self.lineage.set_journal_id(journal_id);
        Ok(())
    }

    fn leave_out(&mut self, segment: u64, fault: HeaderFault, is_skipped: bool) {
        if !is_skipped && self.refusal.is_none() {
            self.refusal = Some(OpenError::Refused { segment, fault: fault.clone() });
        }
        self.left_out.push(LeftOut { segment, fault, is_skipped });
    }

    /// The last segment in which anything is written.
    fn last_used<F: Files>(
        &self,
        files: &mut F,
        chunk: &mut Vec<u8>,
    ) -> Result<Option<usize>, StorageError> {
        for (index, place) in self.places.iter().enumerate().rev() {
            let found =
                each_record(files, place, 0, u64::MAX, chunk, |_, slot| match slot.is_written() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                })?;
            if found.is_break() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn walk<F: Files>(
        &mut self,
        files: &mut F,
        used: usize,
        chunk: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        let walked: Vec<Place> = self.places[used.saturating_sub(2)..=used].to_vec();
        let mut watermark = 0;
        for place in &walked {
            let _ = each_record(files, place, 0, u64::MAX, chunk, |position, slot| {
                let stated = slot.mark().map_or(0, |mark| mark.durable_records.get());
                if stated <= position {
                    watermark = watermark.max(stated);
                }
                ControlFlow::Continue(())
            })?;
        }
        // The writer leaves a segment only when the one before it is durable.
        if walked.len() == 3 {
            watermark = watermark.max(walked[1].base);
        }
        let start = walked[0].base;
        let mut validator = RecordValidator::begin(start, watermark, self.rules);
        let mut end = start;
        let mut damaged = Vec::new();
        for (index, place) in walked.iter().enumerate() {
            if index > 0 && end < place.base {
                note_damage(&mut damaged, end..place.base);
                validator.miss();
                end = place.base;
            }
            let walk = each_record(files, place, 0, u64::MAX, chunk, |position, slot| {
                match validator.step(position, position == place.base, slot.record()) {
                    RecordValidity::Good => {}
                    RecordValidity::Rot => note_damage(&mut damaged, position..position + 1),
                    RecordValidity::End => return ControlFlow::Break(()),
                }
                end = position + 1;
                ControlFlow::Continue(())
            })?;
            if walk.is_break() {
                break;
            }
        }
        (self.watermark, self.end, self.damaged) = (watermark, end, damaged);
        (self.counters, self.clean, self.any) =
            (validator.counters, validator.closed, validator.any);
        self.is_sealed = validator.sealed;
        if !validator.knows(end) {
            let fault = HeaderFault::NothingStands;
            self.refuse(OpenError::Refused { segment: walked[walked.len() - 1].segment, fault });
        }
        Ok(())
    }

    /// Looks where an open looks for the epochs: at the head of each segment, and into those that another epoch
    /// begins in.
    fn read_lineage<F: Files>(
        &mut self,
        files: &mut F,
        chunk: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        let journal_id = self.lineage.journal_id();
        let mut epoch_before = None;
        let used: Vec<Place> =
            self.places.iter().filter(|place| place.base < self.end).cloned().collect();
        for place in &used {
            let end = place.end().min(self.end);
            let (mut first, mut last) = (None, None);
            for (position, mark) in [(place.base, &mut first), (end - 1, &mut last)] {
                let _ = each_record(files, place, position, position + 1, chunk, |_, slot| {
                    *mark = slot.mark().map(|mark| mark.epoch.get());
                    ControlFlow::Break(())
                })?;
            }
            let is_head_enough = first.is_some() && first == last && first == epoch_before;
            epoch_before = last;
            let lineage = &mut self.lineage;
            let _ = each_record(files, place, 0, end, chunk, |_, slot| {
                match slot.record() {
                    Some(Record::Epoch(entry)) => lineage.note_record(entry),
                    Some(Record::Mark(_)) => {}
                    _ if is_head_enough => return ControlFlow::Break(()),
                    _ => {}
                }
                ControlFlow::Continue(())
            })?;
        }
        self.lineage.end_at(self.counters.epoch);
        if journal_id != 0 {
            self.lineage.set_journal_id(journal_id);
        }
        Ok(())
    }

    /// The epochs of the sequence, as far as the log knows, and whose it is.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The epoch that the log stands in, and its identity: as [`crate::log::Log::epoch_id`].
    #[must_use]
    pub fn epoch(&self) -> (u32, u64) {
        (self.counters.epoch, self.lineage.id_of(self.counters.epoch))
    }

    /// An end that lies in a segment which is not there is not known.
    fn check_end(&mut self) {
        let behind = self.places.iter().find(|place| place.end() > self.end);
        if let Some(place) = behind.filter(|place| place.base > self.end) {
            let fault = HeaderFault::Chain;
            self.refuse(OpenError::Refused { segment: place.segment, fault });
        }
        if self.places.is_empty() && self.listing.removed_through > 0 {
            self.refuse(OpenError::EndMissing { segment: self.listing.removed_through });
        }
        if let Some(segment) = self.end_missing()
            && self.rules.sequence == Sequence::Contiguous
            && self.refusal.is_none()
        {
            self.refusal = Some(OpenError::EndMissing { segment });
        }
    }

    /// The last segment with a record, when the segment behind it is missing.
    #[must_use]
    pub fn end_missing(&self) -> Option<u64> {
        recovery::end_missing(self.places.iter(), self.end, self.is_sealed).map(|last| last.segment)
    }

    /// The numbers of segments that are missing before the first one.
    #[must_use]
    pub fn missing_front(&self) -> Option<Range<u64>> {
        let first = self.listing.segments.first().map(|(number, _)| *number);
        recovery::missing_front(first, self.listing.removed_through)
    }

    /// What cannot be known without a segment that was left out: that one is to blame.
    fn refuse(&mut self, error: OpenError) {
        if self.refusal.is_some() {
            return;
        }
        self.refusal = Some(match self.left_out.iter_mut().rfind(|out| out.is_skipped) {
            Some(out) => {
                out.is_skipped = false;
                OpenError::Refused { segment: out.segment, fault: out.fault.clone() }
            }
            None => error,
        });
    }

    /// Whose log it is.
    #[must_use]
    pub fn name(&self) -> String {
        unpadded(&self.name)
    }

    /// Why an open would refuse the log; it changes nothing then.
    #[must_use]
    pub fn refusal(&self) -> Option<&OpenError> {
        self.refusal.as_ref()
    }

    /// What the first record says: the lowest seq of a frame in the log. 0 when it says nothing.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The seq that comes next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.counters.next_seq
    }

    /// Of a journal: the exchange's feed, and the next number wanted of it. Of a shard's log: the seq from which
    /// its history is whole (0: from its beginning), and the seq that it wants next.
    #[must_use]
    pub fn upstream(&self) -> (u64, u64) {
        (self.counters.upstream_feed, self.counters.upstream_seq)
    }

    /// First position that the log still has.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.places.first().map_or(0, |place| place.base)
    }

    /// The position behind the last record that an open keeps.
    #[must_use]
    pub fn end_position(&self) -> u64 {
        self.end
    }

    /// All positions below it were durable when the newest mark was written.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Bytes of the records from the first to the end: what a reader goes through.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        let held = self.places.iter().map(|place| place.end().min(self.end).max(place.base));
        let records = held.zip(&self.places).map(|(end, place)| end - place.base);
        records.sum::<u64>().saturating_mul(crate::wire::FRAME_BYTES as u64)
    }
}

/// Whose log the segments say it is: the newest one with a readable name decides.
fn name_in<F: Files>(files: &mut F, listing: &Listing) -> Result<[u8; 16], StorageError> {
    for (number, _) in listing.segments.iter().rev() {
        let page = header_page(files, *number)?;
        if let Some(name) = page.and_then(|page| Header::stated_name(&page)) {
            return Ok(name);
        }
    }
    Ok([0; 16])
}

/// How a log of this name is kept: a shard's has a part of the sequence, any other is a journal.
fn rules_of(name: [u8; 16]) -> Rules {
    if name.starts_with(b"shard") {
        Rules { sequence: Sequence::Increasing, upstream: UpstreamRule::FollowSeq }
    } else {
        Rules { sequence: Sequence::Contiguous, upstream: UpstreamRule::CountAppended }
    }
}
