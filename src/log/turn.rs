//! What a log does in a turn beside appending: it commits, takes in what the storage has done, and starts what
//! is due: syncs by the policy, the next segment ahead of time, removal.

use std::time::Duration;

use super::Log;
use super::backend::{Completion, Storage, StorageError};
use super::config::{AppendError, Health, Progress};
use super::mark::Reason;
use super::notice::Notice;
use crate::histogram::Histogram;
use crate::limits::{CLOCK_LOG_EVERY, SEGMENTS_MAX};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now, SteadyTime};

impl<S: Storage> Log<S> {
    /// Publishes what was appended, and starts what the policy and the fill level ask for.
    pub fn commit(&mut self, now: Now) {
        self.clock.read(now);
        let position = self.writer.position();
        if self.committed_position() < position {
            self.publish();
            self.sync_if_due(now);
            self.touch_ahead();
            let active = self.segments.active();
            if active.end() - position <= active.records / 2 {
                self.prepare_next();
            }
        }
        self.retain();
    }

    /// Takes in what the storage has completed.
    pub fn handle_completions(&mut self, now: Now) -> Progress {
        self.clock.read(now);
        let mut progress = Progress::default();
        while let Some(completion) = self.storage.poll_completion() {
            self.complete(completion, now, &mut progress);
        }
        self.sync_if_due(now);
        progress
    }

    /// Does what has become due by time alone.
    pub fn handle_timers(&mut self, now: Now) {
        self.clock.read(now);
        self.note_clock(now);
        self.examine_if_due(now);
        if self.segments.take_retry(now.mono) {
            self.prepare_next();
        }
        self.sync_if_due(now);
        self.retain();
    }

    /// When [`Log::handle_timers`] wants to be called next. `None` while nothing is due by time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        // Nothing is synced while the log takes nothing.
        let is_syncing = self.check_health().is_ok();
        let deadlines = [
            self.durability.next_deadline().filter(|_| is_syncing),
            self.segments.next_deadline(),
            self.examination.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Makes everything durable and says so in the last record, so that the next open is clean.
    /// Blocks. The log stays readable.
    ///
    /// # Errors
    /// When a sync fails; then the next open is not clean.
    pub fn close(&mut self, now: Now) -> Result<(), AppendError> {
        self.check_health()?;
        self.clock.read(now);
        self.publish();
        self.sync_and_wait(now)?;
        if self.writer.position() == self.segments.active().end() {
            // Only an open that never got a segment for its Open mark leaves no slot for this one.
            return Err(AppendError::NotReady);
        }
        self.put_mark(Reason::Close);
        self.publish();
        self.sync_and_wait(now)?;
        self.health = Health::Closed;
        Ok(())
    }

    pub(super) fn check_health(&self) -> Result<(), AppendError> {
        match self.health {
            Health::Open | Health::Waiting(_) => Ok(()),
            Health::Displaced(_) => Err(AppendError::Full),
            Health::Failed(_) => Err(AppendError::Failed),
            Health::Closed => Err(AppendError::Closed),
        }
    }

    pub(super) fn publish(&mut self) {
        self.durability.commit(self.writer.point());
    }

    /// Whether the segments before the active one are durable, as they have to be before it is left.
    pub(super) fn is_previous_durable(&self) -> bool {
        self.durability.durable().position >= self.segments.active().base
    }

    fn sync_if_due(&mut self, now: Now) {
        if self.check_health().is_ok() && self.durability.is_sync_due(now.mono) {
            self.start_sync();
        }
    }

    pub(super) fn start_sync(&mut self) {
        self.durability.handle_sync_started(self.clock.read_at(), self.writer.point());
        self.storage.start_sync(&self.segments.active().segment);
    }

    pub(super) fn touch_ahead(&mut self) {
        self.segments.touch_ahead(&mut self.storage, self.writer.position());
    }

    pub(super) fn prepare_next(&mut self) {
        if self.check_health().is_err() {
            return;
        }
        if self.segments.prepare_next(&mut self.storage, self.clock.time_ns()).is_err() {
            let path = format!("segment {SEGMENTS_MAX} of the log");
            let error = StorageError::NoSpace { path };
            self.wait_for_segment(error);
        }
    }

    fn complete(&mut self, completion: Completion<S::Segment>, now: Now, progress: &mut Progress) {
        match completion {
            Completion::Synced(Ok(())) => {
                if self.durability.handle_synced(now.mono) {
                    self.segments.retire_before(self.durability.durable().position);
                    progress.durable = true;
                    // The segment may have been ready long ago, and have waited for this.
                    progress.room |= self.is_previous_durable() && self.segments.has_prepared();
                }
            }
            Completion::Prepared(Ok(segment)) => {
                self.segments.handle_prepared(segment);
                if matches!(self.health, Health::Waiting(_)) {
                    self.health = Health::Open;
                    self.notices.push(Notice::GoesOn);
                }
                progress.room |= self.check_health().is_ok();
            }
            Completion::Prepared(Err(error)) if is_waited_for(&error) => {
                self.segments.handle_no_space(now.mono);
                self.wait_for_segment(error);
            }
            // A retried sync can report success for pages that the kernel already dropped.
            Completion::Synced(Err(error)) | Completion::Prepared(Err(error)) => {
                self.fail(error);
                progress.failed = true;
            }
            Completion::Removed(done) => {
                self.segments.handle_removed();
                // It costs space, and the next open finds it.
                if let Err(error) = done {
                    self.notices.push(Notice::NotRemoved(error));
                }
            }
            Completion::Touched => self.segments.handle_touched(),
            Completion::Examined(found) => self.handle_examined(found, progress),
        }
    }

    /// Says once for each reason that the next segment is waited for.
    #[cold]
    fn wait_for_segment(&mut self, error: StorageError) {
        let is_known = matches!(&self.health, Health::Waiting(known) if *known == error);
        if self.check_health().is_ok() && !is_known {
            self.notices.push(Notice::Waiting(error.clone()));
            self.health = Health::Waiting(error);
        }
    }

    /// Says what the wall clock has done, and again after a while that it is not believed.
    fn note_clock(&mut self, now: Now) {
        let is_due = now.mono.since(self.clock_said_at) >= CLOCK_LOG_EVERY;
        let change = self.clock.take_change();
        let change = change.or_else(|| self.clock.objection().filter(|_| is_due));
        if let Some(change) = change {
            self.clock_said_at = now.mono;
            self.notices.push(Notice::Clock(change));
        }
    }

    /// What the log has to say, oldest first. Its node logs it.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// The time that ages are judged by, and what is held against the wall clock.
    #[must_use]
    pub fn clock(&self) -> &SteadyTime {
        &self.clock
    }

    /// From now on, steps of the wall clock of more than this are refused.
    pub fn set_clock_step_max(&mut self, step_max: Duration) {
        self.clock_step_max = step_max;
        self.clock.set_step_max(step_max);
    }

    /// How long its syncs took, and how long its records waited from the first look at them to their place on the disk.
    #[must_use]
    pub fn durations(&self) -> (&Histogram, &Histogram) {
        self.durability.durations()
    }

    /// What [`Log::set_clock_step_max`] was given.
    #[must_use]
    pub fn clock_step_max(&self) -> Duration {
        self.clock_step_max
    }

    #[cold]
    fn fail(&mut self, error: StorageError) {
        // It outweighs all that passes: also a directory that is away, and comes back.
        if !matches!(self.health, Health::Failed(_) | Health::Closed) {
            self.health = Health::Failed(error);
        }
        self.segments.handle_failure();
        self.durability.handle_failure();
    }

    pub(super) fn sync_and_wait(&mut self, now: Now) -> Result<(), AppendError> {
        let end = self.writer.position();
        if !self.durability.covers(end) {
            self.start_sync();
        }
        while self.durability.durable().position < end {
            self.wait(now)?;
        }
        Ok(())
    }

    /// [`Log::make_room`] for the few places that may block.
    pub(super) fn wait_for_room(&mut self, records: u64, now: Now) -> Result<(), AppendError> {
        self.clock.read(now);
        loop {
            match self.make_room(records) {
                Err(AppendError::NotReady) => self.wait(now)?,
                done => return done,
            }
        }
    }

    pub(super) fn wait(&mut self, now: Now) -> Result<(), AppendError> {
        match self.storage.wait_completion() {
            Some(completion) => self.complete(completion, now, &mut Progress::default()),
            None => self.fail(StorageError::Gone),
        }
        self.check_health()
    }
}

/// Whether a segment that could not be made is tried again. A new one is made from its beginning, so nothing that
/// went wrong before can be left in it.
fn is_waited_for(error: &StorageError) -> bool {
    let is_fatal = is_planted(Bug::DieOfEmfile) && !matches!(error, StorageError::NoSpace { .. });
    error.may_pass() && !is_fatal
}
