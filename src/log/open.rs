//! Opening a log: what recovery finds becomes the parts of a log that can be appended to.

use super::backend::{Segment, Storage, StorageError};
use super::checkpoint::Checkpoints;
use super::config::{Health, LogConfig};
use super::counters::{Rules, Sequence};
use super::durability::{Durability, Point};
use super::mark::Reason;
use super::mark::Record;
use super::notice::{Notice, Notices};
use super::place::Examination;
use super::recovery::{self, OpenError, Recovery};
use super::retention::Removal;
use super::segment::LogSegment;
use super::segments::{self, Segments};
use super::writer::Writer;
use super::{AppendError, Log};
use crate::limits::{CLOCK_STEP_DEFAULT, SEGMENT_RECORDS_MAX, SEGMENT_RECORDS_MIN};
use crate::time::{Follow, Now, SteadyTime};

impl<S: Storage> Log<S> {
    /// Opens the log, cuts what a crash left behind its end, and writes a durable Open mark, so that
    /// the log is clean again only once it is closed. Blocks.
    ///
    /// # Errors
    /// When the storage is refused or fails. What is refused is not changed.
    pub fn open(storage: S, config: LogConfig, now: Now) -> Result<(Log<S>, Recovery), OpenError> {
        Log::open_journal(storage, config, 0, now)
    }

    /// [`Log::open`] for a journal: one that has no identity yet gets this one, a random number other than 0.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_journal(
        mut storage: S,
        config: LogConfig,
        new_journal_id: u64,
        now: Now,
    ) -> Result<(Log<S>, Recovery), OpenError> {
        if !(SEGMENT_RECORDS_MIN..=SEGMENT_RECORDS_MAX).contains(&config.segment_records) {
            return Err(OpenError::SegmentRecords(config.segment_records));
        }
        let rules = Rules { sequence: config.sequence, upstream: config.upstream };
        let recovery::Opened { segments: mut found, skipped, journal_id, first_number } =
            recovery::open_segments(&mut storage, config.name)?;
        let removed_through = storage.removed_through()?;
        if found.is_empty() && removed_through > 0 {
            return Err(OpenError::EndMissing { segment: removed_through });
        }
        let missing_front = recovery::missing_front(first_number, removed_through);
        if found.is_empty() {
            found.push(segments::make_first(&mut storage, &config, new_journal_id, now.wall_ns)?);
        }
        let walked = recovery::walk(&found, rules)
            .and_then(|tail| recovery::check_end(&found, tail.end).map(|()| tail));
        let tail = walked.map_err(|error| match skipped.last() {
            // What cannot be known without the segment that was left out: that one is to blame.
            Some((segment, fault)) => {
                OpenError::Refused { segment: *segment, fault: fault.clone() }
            }
            None => error,
        })?;
        let missing = recovery::end_missing(found.iter(), tail.end, tail.is_sealed);
        let is_end_missing = missing.is_some();
        if let Some(last) = missing.filter(|_| config.sequence == Sequence::Contiguous) {
            return Err(OpenError::EndMissing { segment: last.segment.number() });
        }
        let mut damaged = tail.damaged;
        let (rollbacks, mut lineage) = recovery::survey(&found, tail.end, &mut damaged);
        lineage.end_at(tail.counters.epoch);
        let known = [journal_id, lineage.journal_id()].into_iter().find(|id| *id != 0);
        let journal_id = known.unwrap_or(new_journal_id);
        lineage.set_journal_id(journal_id);
        // From here on the disk is changed, and only behind the end.
        for segment in found.iter_mut().filter(|segment| segment.end() > tail.end) {
            let bytes = segment.bytes();
            if segment.segment.len() < bytes {
                storage.extend(&mut segment.segment, bytes)?;
            }
        }
        let cut_records = recovery::cut(&mut found, tail.end);
        let written_at = last_written_at(&found, tail.end);
        let mut segments = Segments::new(found, tail.end, &config, journal_id);
        let clean = tail.clean && cut_records == 0;
        if !clean {
            // The Open mark, whose watermark covers it, must not become durable before it.
            segments.sync_found(&mut storage)?;
        }
        segments.retire_before(tail.end);
        let end = Point {
            position: tail.end,
            next_seq: tail.counters.next_seq,
            upstream_seq: tail.counters.upstream_seq,
        };
        let first_position = segments.first_position();
        let mut log = Log {
            storage,
            segments,
            writer: Writer::new(rules, tail.end, tail.counters, rollbacks),
            durability: Durability::new(config.policy, end),
            checkpoints: Checkpoints::default(),
            removal: Removal::new(config.retention, removed_through),
            lineage,
            health: Health::Open,
            clock: SteadyTime::start(Follow::Ages, written_at, CLOCK_STEP_DEFAULT, now),
            clock_step_max: CLOCK_STEP_DEFAULT,
            clock_said_at: now.mono,
            examination: Examination::default(),
            notices: Notices::default(),
        };
        if let Some(change) = log.clock.take_change() {
            log.notices.push(Notice::Clock(change));
        }
        log.put_open_mark(now).map_err(|error| log.open_error(error))?;
        // What can be slow is done before the first frame comes.
        log.touch_ahead();
        while log.segments.is_touching() && log.wait(now).is_ok() {}
        let recovery = Recovery {
            fresh: tail.end == 0,
            clean,
            first_position,
            end_position: end.position,
            cut_records,
            epoch: tail.counters.epoch,
            epoch_start: tail.counters.epoch_start,
            next_seq: end.next_seq,
            upstream_feed: tail.counters.upstream_feed,
            upstream_seq: end.upstream_seq,
            damaged,
            missing_front,
            is_end_missing,
            skipped_segments: skipped.into_iter().map(|(number, _)| number).collect(),
        };
        Ok((log, recovery))
    }

    fn put_open_mark(&mut self, now: Now) -> Result<(), AppendError> {
        self.wait_for_room(1, now)?;
        let begins_segment = self.writer.position() == self.segments.active().base;
        self.put_mark(Reason::Open);
        if begins_segment {
            // A crash left the segment without a record: its head is written here.
            self.restate_lineage();
        }
        self.publish();
        self.sync_and_wait(now)
    }

    fn open_error(&self, failed: AppendError) -> OpenError {
        OpenError::Storage(match self.health.clone() {
            Health::Waiting(error) | Health::Displaced(error) | Health::Failed(error) => error,
            Health::Open | Health::Closed => StorageError::Io {
                action: "mark the opening of",
                path: "the log".to_owned(),
                cause: failed.to_string(),
            },
        })
    }
}

/// When the last mark before `end` was written, by the time of the log that wrote it.
fn last_written_at<G: Segment>(found: &[LogSegment<G>], end: u64) -> Option<u64> {
    found.iter().rev().find_map(|segment| {
        let mut positions = (segment.base..end.min(segment.end())).rev();
        positions.find_map(|position| {
            let mark = segment.record(position).and_then(Record::mark)?;
            Some(mark.written_at.get())
        })
    })
}
