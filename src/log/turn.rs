//! What a log does in a turn beside appending: it commits, takes in what the storage has done, and starts what
//! is due: syncs by the policy, the next segment ahead of time, removal.

use super::Log;
use super::backend::{Completion, Storage, StorageError};
use super::config::{AppendError, Health, Progress};
use super::mark::Reason;
use crate::limits::SEGMENTS_MAX;
use crate::time::{Mono, Now};

impl<S: Storage> Log<S> {
    /// Publishes what was appended, and starts what the policy and the fill level ask for.
    pub fn commit(&mut self, now: Now) {
        self.wall_ns = now.wall_ns;
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
        if self.segments.take_retry(now.mono) {
            self.prepare_next();
        }
        self.sync_if_due(now);
        self.retain();
    }

    /// When [`Log::handle_timers`] wants to be called next. `None` while nothing is due by time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let deadlines = [self.durability.next_deadline(), self.segments.next_deadline()];
        deadlines.into_iter().flatten().min()
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
            Health::Open | Health::NoSpace(_) => Ok(()),
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
        self.durability.handle_sync_started(self.writer.point());
        self.storage.start_sync(&self.segments.active().segment);
    }

    pub(super) fn touch_ahead(&mut self) {
        self.segments.touch_ahead(&mut self.storage, self.writer.position());
    }

    pub(super) fn prepare_next(&mut self) {
        if self.check_health().is_err() {
            return;
        }
        if self.segments.prepare_next(&mut self.storage, self.wall_ns).is_err() {
            let path = format!("segment {SEGMENTS_MAX} of the log");
            self.health = Health::NoSpace(StorageError::NoSpace { path });
        }
    }

    fn complete(&mut self, completion: Completion<S::Segment>, now: Now, progress: &mut Progress) {
        match completion {
            Completion::Synced(Ok(())) => {
                if self.durability.handle_synced() {
                    progress.durable = true;
                    // The segment may have been ready long ago, and have waited for this.
                    progress.room |= self.is_previous_durable() && self.segments.has_prepared();
                }
            }
            Completion::Prepared(Ok(segment)) => {
                self.segments.handle_prepared(segment);
                if matches!(self.health, Health::NoSpace(_)) {
                    self.health = Health::Open;
                }
                progress.room = true;
            }
            Completion::Prepared(Err(error @ StorageError::NoSpace { .. })) => {
                self.segments.handle_no_space(now.mono);
                if self.check_health().is_ok() {
                    self.health = Health::NoSpace(error);
                }
            }
            // A retried sync can report success for pages that the kernel already dropped.
            Completion::Synced(Err(error)) | Completion::Prepared(Err(error)) => {
                self.fail(error);
                progress.failed = true;
            }
            // A file that could not be removed costs space, and the next open finds it.
            Completion::Removed(_) => self.segments.handle_removed(),
            Completion::Touched => self.segments.handle_touched(),
        }
    }

    #[cold]
    fn fail(&mut self, error: StorageError) {
        if self.check_health().is_ok() {
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
        self.wall_ns = now.wall_ns;
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
