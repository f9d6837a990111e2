//! The segments of a log: those that are full, the one that is written, and those made ahead.
//!
//! They know where a position lies, and what of them is being made, touched or removed. What they do not know
//! is what the records say.
//!
//! # Decisions
//!
//! * A log begins with a small segment, and each further one is four times as large, up to the configured size. So a new
//!   data directory takes little room, and a busy log soon rolls seldom. All statements of a segment fit into a
//!   quarter of the next one: each of them is about a different record before it.

use std::collections::VecDeque;

use super::backend::{Completion, Segment, Storage, StorageError};
use super::config::LogConfig;
use super::header::{HEADER_BYTES, Header, segment_bytes};
use super::segment::LogSegment;
use crate::limits::{FIRST_SEGMENT_RECORDS, SEGMENT_TOUCH_BYTES, SEGMENTS_MAX, SPACE_RETRY_WAIT};
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{FRAME_BYTES, Frame};

/// How much larger than the one before a segment is.
const GROWTH: u64 = 4;

/// All segments of a log.
///
/// Invariant: in the order `sealed`, `active`, `prepared`, positions ascend. Gaps, where a segment is left out,
/// are before the active segment only; the first prepared one begins where the active one ends.
///
/// Invariant: of each kind of job (make, touch, remove) at most one is under way, and a segment is made only
/// while none is prepared. So the one that is being made begins where the active segment ends.
#[derive(Debug)]
pub(super) struct Segments<G> {
    /// Written to their end, oldest first.
    sealed: VecDeque<LogSegment<G>>,
    /// The sum of their files' bytes.
    sealed_bytes: u64,
    /// The one that is written.
    active: LogSegment<G>,
    prepared: VecDeque<LogSegment<G>>,
    /// Whose log it is, as the headers of new segments say.
    name: [u8; 16],
    /// The same for its identity; 0 = none.
    journal_id: u64,
    /// The most records of a new segment.
    records_max: u64,
    is_preparing: bool,
    /// There was no space for a segment; it is tried again then.
    retry_at: Option<Mono>,
    is_touching: bool,
    /// Up to this offset the pages of the active segment are touched, or are being.
    touched_bytes: usize,
    is_removing: bool,
    /// Sealed segments that end at or before this position are retired.
    retired_before: u64,
}

/// There are as many segments as one process can map.
#[derive(Debug)]
pub(super) struct TooMany;

impl<G: Segment> Segments<G> {
    /// Takes over what an open found: the first segment that has room behind `end` is written on.
    ///
    /// # Panics
    /// When there is no segment.
    pub(super) fn new(
        mut found: Vec<LogSegment<G>>,
        end: u64,
        config: &LogConfig,
        journal_id: u64,
    ) -> Segments<G> {
        let last = found.len().saturating_sub(1);
        let active = found.iter().position(|segment| segment.end() > end).unwrap_or(last);
        let prepared = found.split_off(active + 1).into();
        let active = found.pop().expect("a log has at least one segment");
        Segments {
            sealed_bytes: found.iter().map(|segment| segment.bytes() as u64).sum(),
            sealed: found.into(),
            active,
            prepared,
            name: config.name,
            journal_id,
            records_max: config.segment_records,
            is_preparing: false,
            retry_at: None,
            is_touching: false,
            touched_bytes: 0,
            is_removing: false,
            retired_before: 0,
        }
    }

    /// First position that the log still has.
    pub(super) fn first_position(&self) -> u64 {
        self.oldest().base
    }

    /// Bytes of all segment files, those made ahead included.
    pub(super) fn bytes(&self) -> u64 {
        let others = self.prepared.iter().chain([&self.active]);
        self.sealed_bytes + others.map(|segment| segment.bytes() as u64).sum::<u64>()
    }

    pub(super) fn active(&self) -> &LogSegment<G> {
        &self.active
    }

    pub(super) fn oldest(&self) -> &LogSegment<G> {
        self.sealed.front().unwrap_or(&self.active)
    }

    /// The oldest segment that is full, and the one behind it.
    pub(super) fn oldest_sealed(&self) -> Option<(&LogSegment<G>, &LogSegment<G>)> {
        Some((self.sealed.front()?, self.sealed.get(1).unwrap_or(&self.active)))
    }

    /// The segment with this position, or the next one when no segment has it.
    pub(super) fn segment_from(&self, position: u64) -> Option<&LogSegment<G>> {
        let (sealed, active) = (&self.sealed, &self.active);
        if active.holds(position) {
            return Some(active);
        }
        let index = sealed.partition_point(|segment| segment.end() <= position);
        sealed.get(index).or(Some(active).filter(|active| position < active.end()))
    }

    /// Whether a record at `position` leaves the last slot of the active segment free, which is for the mark
    /// that ends the segment.
    #[inline]
    pub(super) fn has_room_for_one(&self, position: u64) -> bool {
        let index = position.wrapping_sub(self.active.base);
        index < self.active.records.saturating_sub(1)
    }

    /// Stores a record at this position of the active segment.
    #[inline]
    pub(super) fn write(&mut self, position: u64, frame: &Frame) {
        self.active.write(position, frame);
    }

    /// Whether a segment is ready to be written behind the active one.
    pub(super) fn has_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// Seals the active segment, which is written to its end, and goes on with the next. `false`: none is
    /// prepared.
    pub(super) fn advance(&mut self) -> bool {
        let Some(next) = self.prepared.pop_front() else { return false };
        self.sealed_bytes += self.active.bytes() as u64;
        self.sealed.push_back(std::mem::replace(&mut self.active, next));
        // Whoever made it has touched so much of it.
        self.touched_bytes = SEGMENT_TOUCH_BYTES;
        true
    }

    /// Has the next segment made, unless it is there, under way, or has to wait for space.
    ///
    /// # Errors
    /// When there are too many segments.
    pub(super) fn prepare_next<S: Storage<Segment = G>>(
        &mut self,
        storage: &mut S,
        wall_ns: u64,
    ) -> Result<(), TooMany> {
        if self.is_preparing || self.retry_at.is_some() || self.has_prepared() {
            return Ok(());
        }
        if self.sealed.len() + 2 > SEGMENTS_MAX {
            return Err(TooMany);
        }
        let Some(number) = self.active.segment.number().checked_add(1) else { return Ok(()) };
        let records = self.next_records();
        let whose = (self.name, self.journal_id);
        let header = Header::new(whose, number, self.active.end(), records, wall_ns);
        self.is_preparing = true;
        storage.start_prepare(number, &header.page(), segment_bytes(records));
        Ok(())
    }

    /// Records of the segment behind the active one: four times as many bytes, up to the configured size.
    fn next_records(&self) -> u64 {
        let header_records = (HEADER_BYTES / FRAME_BYTES) as u64;
        let bytes_as_records = self.active.records.saturating_add(header_records);
        let grown = bytes_as_records.saturating_mul(GROWTH).saturating_sub(header_records);
        grown.clamp(self.records_max.min(FIRST_SEGMENT_RECORDS), self.records_max)
    }

    pub(super) fn handle_prepared(&mut self, segment: G) {
        debug_assert!(self.is_preparing && !self.has_prepared());
        self.is_preparing = false;
        let (base, records) = (self.active.end(), self.next_records());
        self.prepared.push_back(LogSegment { base, records, segment });
    }

    /// There was no space for the next segment.
    pub(super) fn handle_no_space(&mut self, now: Mono) {
        self.is_preparing = false;
        self.retry_at = Some(now + SPACE_RETRY_WAIT);
    }

    /// When [`Segments::take_retry`] has something to say.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.retry_at
    }

    /// Whether it is time to ask for space again. Says so once.
    pub(super) fn take_retry(&mut self, now: Mono) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some()
    }

    /// The storage has failed: nothing is tried again.
    pub(super) fn handle_failure(&mut self) {
        self.retry_at = None;
    }

    /// Keeps at least half a portion of touched pages ahead of the stores, the next of which goes to
    /// `position`.
    pub(super) fn touch_ahead<S: Storage<Segment = G>>(&mut self, storage: &mut S, position: u64) {
        let stored = self.active.offset(position);
        if self.is_touching
            || self.touched_bytes >= self.active.bytes()
            || self.touched_bytes > stored + SEGMENT_TOUCH_BYTES / 2
        {
            return;
        }
        let from = self.touched_bytes.max(stored);
        self.is_touching = true;
        self.touched_bytes = from + SEGMENT_TOUCH_BYTES;
        storage.start_touch(&self.active.segment, from, SEGMENT_TOUCH_BYTES);
    }

    pub(super) fn is_touching(&self) -> bool {
        self.is_touching
    }

    pub(super) fn handle_touched(&mut self) {
        self.is_touching = false;
    }

    /// Whether a segment is being removed.
    pub(super) fn is_removing(&self) -> bool {
        self.is_removing
    }

    /// Starts to remove the oldest sealed segment, whose records are gone with that.
    pub(super) fn remove_oldest<S: Storage<Segment = G>>(&mut self, storage: &mut S) {
        debug_assert!(!self.is_removing);
        let Some(oldest) = self.sealed.pop_front() else { return };
        self.is_removing = true;
        self.sealed_bytes = self.sealed_bytes.saturating_sub(oldest.bytes() as u64);
        storage.start_remove(oldest.segment);
    }

    pub(super) fn handle_removed(&mut self) {
        self.is_removing = false;
    }

    /// Everything before this position is durable: the full segments of it are written to no more.
    pub(super) fn retire_before(&mut self, position: u64) {
        let retired_before = self.retired_before;
        let sealed = self.sealed.iter_mut().rev().take_while(|it| it.end() > retired_before);
        for sealed in sealed.filter(|sealed| sealed.end() <= position) {
            sealed.segment.retire();
        }
        self.retired_before = position;
    }

    /// Makes durable what an open found. Blocks. After a crash of the process alone it may be in memory only;
    /// what no crash can have left undone is not synced again.
    ///
    /// # Errors
    /// When a sync fails.
    pub(super) fn sync_found<S: Storage<Segment = G>>(
        &self,
        storage: &mut S,
    ) -> Result<(), StorageError> {
        let sealed = if is_planted(Bug::SyncOneFound) { 0 } else { 2 };
        let last_sealed = self.sealed.iter().rev().take(sealed);
        for found in last_sealed.chain([&self.active]).chain(&self.prepared) {
            storage.start_sync(&found.segment);
            match storage.wait_completion() {
                Some(Completion::Synced(done)) => done?,
                _ => return Err(StorageError::Gone),
            }
        }
        Ok(())
    }
}

/// Makes the first segment of a log. Blocks.
///
/// # Errors
/// When there is no space, or the storage fails.
pub(super) fn make_first<S: Storage>(
    storage: &mut S,
    config: &LogConfig,
    journal_id: u64,
    wall_ns: u64,
) -> Result<LogSegment<S::Segment>, StorageError> {
    let records = config.segment_records.min(FIRST_SEGMENT_RECORDS);
    let header = Header::new((config.name, journal_id), 1, 0, records, wall_ns);
    storage.start_prepare(1, &header.page(), segment_bytes(records));
    match storage.wait_completion() {
        Some(Completion::Prepared(made)) => Ok(LogSegment { base: 0, records, segment: made? }),
        _ => Err(StorageError::Gone),
    }
}
