//! The log: appends frames, publishes them, and has them made durable as its policy says.
//!
//! It owns the positions and decides when something is synced, rolled or removed; it knows no file,
//! no thread and no clock. What it is not: an index. Which instrument stands where is the shard's.

use std::collections::VecDeque;

use super::backend::{Completion, Segment, Storage, StorageError};
use super::breaks::Breaks;
use super::config::{AppendError, Health, LogConfig, Progress};
use super::header::{Header, segment_bytes};
use super::held::Held;
use super::mark::{Reason, is_statement};
use super::read::total_bytes;
use super::recovery::{self, OpenError, Recovery};
use super::standing::{Rules, Sequence, Standing};
use super::statements::Statements;
use crate::limits::{SEGMENT_RECORDS_MAX, SEGMENT_RECORDS_MIN, SEGMENT_TOUCH_BYTES};
use crate::time::{Mono, Now};
use crate::wire::{DataKind, Frame, Kind};

/// A point that a sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) position: u64,
    pub(super) next_seq: u64,
    pub(super) upstream_seq: u64,
}

/// An append-only log of frames.
#[derive(Debug)]
pub struct Log<S: Storage> {
    pub(super) storage: S,
    pub(super) config: LogConfig,
    pub(super) rules: Rules,
    /// Left for good, ascending; there may be gaps where a segment is left out.
    pub(super) sealed: VecDeque<Held<S::Segment>>,
    pub(super) sealed_bytes: u64,
    pub(super) current: Held<S::Segment>,
    /// Made ahead; the first one continues `current`.
    pub(super) prepared: VecDeque<Held<S::Segment>>,
    pub(super) standing: Standing,
    /// Where the next record goes.
    pub(super) position: u64,
    pub(super) committed: Point,
    pub(super) durable: Point,
    /// What the syncs under way cover, in the order they were started.
    pub(super) syncs: VecDeque<Point>,
    /// What the last started sync covers.
    pub(super) sync_target: u64,
    pub(super) sync_at: Option<Mono>,
    /// The watermark moved since the last mark.
    pub(super) mark_due: bool,
    pub(super) preparing: bool,
    pub(super) touching: bool,
    /// Up to this offset the pages of the current segment are touched, or are being.
    pub(super) touched: usize,
    pub(super) removing: bool,
    pub(super) retry_at: Option<Mono>,
    pub(super) health: Health,
    pub(super) wall_ns: u64,
    pub(super) breaks: Breaks,
    /// Records from this position on were written by this process.
    pub(super) written_from: u64,
    /// See [`Log::require_statements`].
    pub(super) statements: Statements,
}

impl<S: Storage> Log<S> {
    /// Opens the log, cuts what a crash left behind its end, and writes a durable Open mark, so that
    /// the log is clean again only once it is closed. Blocks.
    ///
    /// # Errors
    /// When the storage is refused or fails. What is refused is not changed.
    pub fn open(
        mut storage: S,
        config: LogConfig,
        now: Now,
    ) -> Result<(Log<S>, Recovery), OpenError> {
        if !(SEGMENT_RECORDS_MIN..=SEGMENT_RECORDS_MAX).contains(&config.segment_records) {
            return Err(OpenError::SegmentRecords(config.segment_records));
        }
        let rules = Rules { sequence: config.sequence, upstream: config.upstream };
        let (mut held, skipped) = recovery::open_segments(&mut storage, config.name)?;
        if held.is_empty() {
            held.push(first_segment(&mut storage, &config, now)?);
        }
        let walked = recovery::walk(&held, rules)
            .and_then(|tail| recovery::check_end(&held, tail.end).map(|()| tail));
        let tail = walked.map_err(|error| match skipped.last() {
            // What cannot be known without the segment that was left out: that one is to blame.
            Some((segment, fault)) => {
                OpenError::Refused { segment: *segment, fault: fault.clone() }
            }
            None => error,
        })?;
        let mut damaged = tail.damaged;
        let breaks = recovery::survey(&held, tail.end, &mut damaged);
        // From here on the disk is changed, and only behind the end.
        for segment in held.iter_mut().filter(|segment| segment.end() > tail.end) {
            let bytes = segment.bytes();
            if segment.segment.len() < bytes {
                storage.extend(&mut segment.segment, bytes)?;
            }
        }
        let cut_records = recovery::cut(&mut held, tail.end);
        let first_position = held.first().map_or(0, |segment| segment.base);
        let last = held.len() - 1;
        let at = held.iter().position(|segment| segment.end() > tail.end).unwrap_or(last);
        let prepared: VecDeque<_> = held.split_off(at + 1).into();
        let current = held.pop().expect("the split leaves the segments up to `at`");
        let end = Point {
            position: tail.end,
            next_seq: tail.standing.next_seq,
            upstream_seq: tail.standing.upstream_seq,
        };
        let mut log = Log {
            storage,
            config,
            rules,
            sealed_bytes: total_bytes(held.iter()),
            sealed: held.into(),
            current,
            prepared,
            standing: tail.standing,
            position: tail.end,
            committed: end,
            durable: Point { position: first_position, next_seq: 0, upstream_seq: 0 },
            syncs: VecDeque::new(),
            sync_target: first_position,
            sync_at: None,
            mark_due: false,
            preparing: false,
            touching: false,
            touched: 0,
            removing: false,
            retry_at: None,
            health: Health::Open,
            wall_ns: now.wall_ns,
            breaks,
            written_from: tail.end,
            statements: Statements::default(),
        };
        let clean = tail.clean && cut_records == 0;
        if !clean {
            log.sync_what_was_found()?;
        }
        log.durable = end;
        log.sync_target = end.position;
        log.wait_for_room(1, now).and_then(|()| log.put_open_mark(now)).map_err(|failed| {
            OpenError::Storage(match log.health.clone() {
                Health::NoSpace(error) | Health::Failed(error) => error,
                _ => StorageError::Io {
                    action: "mark the opening of",
                    path: "the log".to_owned(),
                    cause: failed.to_string(),
                },
            })
        })?;
        // What can be slow is done before the first frame comes.
        log.touch_ahead();
        while log.touching && log.wait(now).is_ok() {}
        let recovery = Recovery {
            fresh: !tail.any && first_position == 0 && tail.end == 0,
            clean,
            first_position,
            end_position: end.position,
            cut_records,
            epoch: tail.standing.epoch,
            epoch_start: tail.standing.epoch_start,
            next_seq: end.next_seq,
            upstream_feed: tail.standing.upstream_feed,
            upstream_seq: end.upstream_seq,
            damaged,
            skipped_segments: skipped.into_iter().map(|(number, _)| number).collect(),
        };
        Ok((log, recovery))
    }

    /// Begins the next epoch at the next seq, durable when this returns, so that no crash can make
    /// another start take the same epoch number for other frames. Blocks: for a sequencer that starts.
    /// Returns the epoch.
    ///
    /// # Errors
    /// When the log cannot take the mark or the sync fails.
    pub fn begin_epoch(&mut self, now: Now) -> Result<u32, AppendError> {
        let Some(epoch) = self.standing.epoch.checked_add(1) else {
            return Err(self.out_of_order());
        };
        self.wait_for_room(1, now)?;
        self.put_epoch_mark(epoch, self.standing.next_seq)?;
        self.publish();
        self.sync_and_wait(now)?;
        Ok(epoch)
    }

    /// Follows upstream into an epoch that began at `start_seq`. Held frames with that seq or a
    /// higher one are void from here on; the result is the seq from which any are.
    ///
    /// # Errors
    /// When the log cannot take the mark now, or the epoch is not above its own.
    pub fn follow_epoch(
        &mut self,
        epoch: u32,
        start_seq: u64,
        now: Now,
    ) -> Result<Option<u64>, AppendError> {
        self.wall_ns = now.wall_ns;
        let gap =
            self.config.sequence == Sequence::Contiguous && start_seq != self.standing.next_seq;
        if epoch <= self.standing.epoch || start_seq == 0 || gap {
            return Err(self.out_of_order());
        }
        self.make_room(1)?;
        let fell_back = start_seq < self.standing.next_seq;
        self.put_epoch_mark(epoch, start_seq)?;
        Ok(fell_back.then_some(start_seq))
    }

    /// Appends a sealed data frame and returns its position. Readers see it after [`Log::commit`].
    ///
    /// # Errors
    /// When it is not the log's turn to take it; then nothing was changed.
    #[inline]
    pub fn append(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        // Nearly every frame of a log passes these few questions and is stored by its caller's own code.
        if self.takes_at_once(frame) {
            return self.put_data(frame);
        }
        self.append_with_care(frame)
    }

    /// Appends a frame that consumes no upstream number.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_local(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        self.admit(frame)?;
        self.make_room(2)?;
        self.check_statements()?;
        // The mark stands before the frame: were it behind, a crash between the two would count one
        // number too many, and that upstream frame would never be asked for.
        self.put_mark(Reason::Local)?;
        self.put_data(frame)
    }

    /// Says which number is wanted next from which feed; a mark is written only when that is news.
    ///
    /// # Errors
    /// When the log cannot take the mark now.
    pub fn set_upstream(&mut self, feed: u64, next_seq: u64, now: Now) -> Result<(), AppendError> {
        self.wall_ns = now.wall_ns;
        if (feed, next_seq) == (self.standing.upstream_feed, self.standing.upstream_seq) {
            return Ok(());
        }
        self.make_room(1)?;
        self.standing.upstream_feed = feed;
        self.standing.upstream_seq = next_seq;
        self.put_mark(Reason::Upstream)
    }

    /// Notes that upstream has nothing for this log before `next_seq`, in a mark when that is news: what
    /// was told to upstream, who may throw away what is behind it, must not go back with a crash.
    ///
    /// # Errors
    /// When the log cannot take the mark now.
    pub fn advance_upstream(&mut self, next_seq: u64, now: Now) -> Result<(), AppendError> {
        self.wall_ns = now.wall_ns;
        if next_seq <= self.standing.upstream_seq {
            return Ok(());
        }
        self.make_room(1)?;
        self.standing.upstream_seq = next_seq;
        self.put_mark(Reason::Upstream)
    }

    /// Publishes what was appended, and starts what the policy and the fill level ask for.
    pub fn commit(&mut self, now: Now) {
        self.wall_ns = now.wall_ns;
        if self.committed.position < self.position {
            self.publish();
            self.sync_if_due(now);
            self.touch_ahead();
            if self.current.end() - self.position <= self.current.records / 2 {
                self.prepare_next();
            }
        }
        self.retain();
    }

    /// Takes in what the storage has completed.
    pub fn handle_completions(&mut self, now: Now) -> Progress {
        self.wall_ns = now.wall_ns;
        let mut progress = Progress::default();
        while let Some(completion) = self.storage.poll_completion() {
            self.complete(completion, now, &mut progress);
        }
        self.sync_if_due(now);
        progress
    }

    /// Does what has become due by time alone.
    pub fn handle_timers(&mut self, now: Now) {
        self.wall_ns = now.wall_ns;
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
            self.prepare_next();
        }
        self.sync_if_due(now);
        self.retain();
    }

    /// When [`Log::handle_timers`] wants to be called next. `None` while nothing is due by time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let sync_at = self.sync_at.filter(|_| self.syncs.is_empty());
        [sync_at, self.retry_at].into_iter().flatten().min()
    }

    /// Makes everything durable and says so in the last record, so that the next open is clean.
    /// Blocks. The log stays readable.
    ///
    /// # Errors
    /// When a sync fails; then the next open is not clean.
    pub fn close(&mut self, now: Now) -> Result<(), AppendError> {
        self.check_health()?;
        self.wall_ns = now.wall_ns;
        self.publish();
        self.sync_and_wait(now)?;
        if self.position == self.current.end() {
            // Only an open that never got a segment for its Open mark leaves no slot for this one.
            return Err(AppendError::NotReady);
        }
        self.put_mark(Reason::Close)?;
        self.publish();
        self.sync_and_wait(now)?;
        self.health = Health::Closed;
        Ok(())
    }
}

/// How records get in.
impl<S: Storage> Log<S> {
    /// Whether nothing but the frame is to be written, and nothing speaks against it: then
    /// [`Log::append_with_care`] would do no more than store it. It says no when in doubt.
    #[inline]
    fn takes_at_once(&self, frame: &Frame) -> bool {
        let market_data = Kind::Quote as u8..=Kind::Cancel as u8;
        // The last slot is the mark's that ends the segment.
        let index = self.position.wrapping_sub(self.current.base);
        market_data.contains(&frame.kind)
            && frame.check_header().is_ok()
            && !is_statement(frame)
            && self.standing.accepts(frame.seq.get(), self.rules)
            && matches!(self.health, Health::Open)
            && !self.mark_due
            && self.check_statements().is_ok()
            && index < self.current.records.saturating_sub(1)
    }

    /// [`Log::append`] with all its questions, errors, and marks between the frames.
    #[cold]
    #[inline(never)]
    fn append_with_care(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        self.admit(frame)?;
        self.make_room(1)?;
        self.check_statements()?;
        self.put_data(frame)
    }

    #[inline]
    fn admit(&self, frame: &Frame) -> Result<(), AppendError> {
        // What recovery would refuse must not get in. The CRC is the caller's: it has just made it.
        let is_data = DataKind::of(frame).is_some_and(|row| match row.has_body_check() {
            true => frame.check().is_ok(),
            false => frame.check_header().is_ok(),
        });
        if !is_data || is_statement(frame) {
            return Err(AppendError::NotData(frame.kind));
        }
        if !self.standing.accepts(frame.seq.get(), self.rules) {
            return Err(self.out_of_order());
        }
        Ok(())
    }

    #[cold]
    fn out_of_order(&self) -> AppendError {
        AppendError::OutOfOrder { next_seq: self.standing.next_seq, epoch: self.standing.epoch }
    }

    pub(super) fn check_health(&self) -> Result<(), AppendError> {
        match self.health {
            Health::Open | Health::NoSpace(_) => Ok(()),
            Health::Failed(_) => Err(AppendError::Failed),
            Health::Closed => Err(AppendError::Closed),
        }
    }

    /// Makes sure that so many records fit into the current segment and leave the slot for the mark
    /// that ends it; writes the Sync mark if one is due.
    #[inline]
    pub(super) fn make_room(&mut self, records: u64) -> Result<(), AppendError> {
        self.check_health()?;
        let wanted = records + u64::from(self.mark_due) + 1;
        if self.current.end() - self.position < wanted {
            self.roll()?;
        }
        if self.mark_due { self.put_mark(Reason::Sync) } else { Ok(()) }
    }

    #[cold]
    fn roll(&mut self) -> Result<(), AppendError> {
        // Invariant: only the last two used segments are not durable. Recovery relies on it.
        if self.durable.position < self.current.base {
            return Err(AppendError::NotReady);
        }
        let Some(next) = self.prepared.pop_front() else {
            self.prepare_next();
            let full = matches!(self.health, Health::NoSpace(_));
            return Err(if full { AppendError::Full } else { AppendError::NotReady });
        };
        while self.position < self.current.end() {
            self.put_mark(Reason::Seal)?;
        }
        if self.sync_target < self.position {
            self.start_sync();
        }
        self.sealed_bytes += self.current.bytes() as u64;
        self.sealed.push_back(std::mem::replace(&mut self.current, next));
        self.touched = SEGMENT_TOUCH_BYTES;
        self.statements.note_roll();
        self.put_mark(Reason::Segment)
    }

    #[inline]
    fn put_data(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        debug_assert_eq!(frame.check(), Ok(()), "an unsealed frame was appended");
        self.standing.pass_data(frame.seq.get(), self.rules);
        self.put(frame)
    }

    #[cold]
    pub(super) fn put_mark(&mut self, reason: Reason) -> Result<(), AppendError> {
        let mark = self.standing.mark(reason, self.durable.position, self.wall_ns);
        self.standing.pass_mark(&mark);
        self.mark_due = false;
        self.put(&Frame::seal(mark)).map(|_| ())
    }

    fn put_epoch_mark(&mut self, epoch: u32, start_seq: u64) -> Result<(), AppendError> {
        let next_seq_before = self.standing.next_seq;
        self.standing.begin_epoch(epoch, start_seq, self.rules);
        if self.standing.next_seq < next_seq_before {
            self.breaks.push(self.position, self.standing.next_seq);
        }
        // What was durable of the void frames is durable no more: the numbers will be used again.
        let points = self.syncs.iter_mut().chain([&mut self.committed, &mut self.durable]);
        for point in points {
            point.next_seq = point.next_seq.min(self.standing.next_seq);
            point.upstream_seq = point.upstream_seq.min(self.standing.upstream_seq);
        }
        self.put_mark(Reason::Epoch)
    }

    fn put_open_mark(&mut self, now: Now) -> Result<(), AppendError> {
        self.put_mark(Reason::Open)?;
        self.publish();
        self.sync_and_wait(now)
    }

    #[inline]
    pub(super) fn put(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        let position = self.position;
        self.current.write(position, frame);
        self.position = position + 1;
        Ok(position)
    }

    fn publish(&mut self) {
        self.committed = self.here();
    }

    pub(super) fn here(&self) -> Point {
        Point {
            position: self.position,
            next_seq: self.standing.next_seq,
            upstream_seq: self.standing.upstream_seq,
        }
    }
}

fn first_segment<S: Storage>(
    storage: &mut S,
    config: &LogConfig,
    now: Now,
) -> Result<Held<S::Segment>, OpenError> {
    let records = config.segment_records;
    let header = Header::new(config.name, 1, 0, records, now.wall_ns);
    storage.start_prepare(1, &header.page(), segment_bytes(records));
    match storage.wait_completion() {
        Some(Completion::Prepared(Ok(segment))) => Ok(Held { base: 0, records, segment }),
        Some(Completion::Prepared(Err(error))) => Err(error.into()),
        _ => Err(StorageError::Gone.into()),
    }
}
