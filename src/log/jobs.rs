//! What a log asks of its storage, and what it makes of the answers: syncs by the policy, the next
//! segment ahead of time, removal by the retention.

use super::appender::Log;
use super::backend::{Completion, Segment, Storage, StorageError};
use super::config::{AppendError, Health, Progress, Retention, SyncPolicy};
use super::header::{Header, segment_bytes};
use super::held::Held;
use super::mark::Record;
use super::recovery::OpenError;
use crate::limits::{SEGMENT_TOUCH_BYTES, SEGMENTS_MAX, SPACE_RETRY_WAIT};
use crate::time::Now;

impl<S: Storage> Log<S> {
    pub(super) fn sync_if_due(&mut self, now: Now) {
        // One sync at a time: what is committed meanwhile shares the next one.
        if !self.syncs.is_empty()
            || self.committed.position <= self.sync_target
            || self.check_health().is_err()
        {
            return;
        }
        match (self.config.policy, self.sync_at) {
            (SyncPolicy::None, _) => {}
            (SyncPolicy::Interval(wait), None) => self.sync_at = Some(now.mono + wait),
            (SyncPolicy::Interval(_), Some(at)) if now.mono < at => {}
            (SyncPolicy::Interval(_) | SyncPolicy::Batch, _) => self.start_sync(),
        }
    }

    pub(super) fn start_sync(&mut self) {
        self.sync_at = None;
        self.sync_target = self.position;
        self.syncs.push_back(self.here());
        self.storage.start_sync(&self.current.segment);
    }

    /// Keeps at least half a portion of touched pages ahead of the stores.
    pub(super) fn touch_ahead(&mut self) {
        let stored = self.current.offset(self.position);
        if self.touching
            || self.touched >= self.current.bytes()
            || self.touched > stored + SEGMENT_TOUCH_BYTES / 2
        {
            return;
        }
        let from = self.touched.max(stored);
        self.touching = true;
        self.touched = from + SEGMENT_TOUCH_BYTES;
        self.storage.start_touch(&self.current.segment, from, SEGMENT_TOUCH_BYTES);
    }

    pub(super) fn prepare_next(&mut self) {
        let waiting = self.preparing || self.retry_at.is_some() || !self.prepared.is_empty();
        if waiting || self.check_health().is_err() {
            return;
        }
        if self.sealed.len() + 2 > SEGMENTS_MAX {
            self.health = Health::NoSpace(StorageError::NoSpace {
                path: format!("segment {SEGMENTS_MAX} of the log"),
            });
            return;
        }
        let Some(number) = self.current.segment.number().checked_add(1) else { return };
        let records = self.config.segment_records;
        let header =
            Header::new(self.config.name, number, self.current.end(), records, self.wall_ns);
        self.preparing = true;
        self.storage.start_prepare(number, &header.page(), segment_bytes(records));
    }

    pub(super) fn complete(
        &mut self,
        completion: Completion<S::Segment>,
        now: Now,
        progress: &mut Progress,
    ) {
        match completion {
            Completion::Synced(Ok(())) => {
                if let Some(covered) = self.syncs.pop_front() {
                    self.durable = covered;
                    self.cover_skipped();
                    self.mark_due = true;
                    progress.durable = true;
                    // The segment may have been ready long ago, and have waited for this.
                    let may_roll = self.durable.position >= self.current.base;
                    progress.room |= may_roll && !self.prepared.is_empty();
                }
            }
            Completion::Prepared(Ok(segment)) => {
                self.preparing = false;
                if matches!(self.health, Health::NoSpace(_)) {
                    self.health = Health::Open;
                }
                let base = self.current.end();
                self.prepared.push_back(Held {
                    base,
                    records: self.config.segment_records,
                    segment,
                });
                progress.room = true;
            }
            Completion::Prepared(Err(error @ StorageError::NoSpace { .. })) => {
                self.preparing = false;
                self.retry_at = Some(now.mono + SPACE_RETRY_WAIT);
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
            Completion::Removed(_) => self.removing = false,
            Completion::Touched => self.touching = false,
        }
    }

    #[cold]
    fn fail(&mut self, error: StorageError) {
        if self.check_health().is_ok() {
            self.health = Health::Failed(error);
        }
        self.retry_at = None;
        self.sync_at = None;
        self.syncs.clear();
    }

    /// Removes the oldest sealed segment when the retention says so; one at a time.
    pub(super) fn retain(&mut self) {
        let Retention { age_max, bytes_max } = self.config.retention;
        let Some(oldest) = self.sealed.front() else { return };
        if self.removing || oldest.end() > self.durable.position || self.check_health().is_err() {
            return;
        }
        let too_old = age_max.is_some_and(|age_max| {
            let last = oldest.record(oldest.end() - 1).and_then(Record::mark);
            let left_at = last.map_or(0, |mark| mark.written_at.get());
            self.wall_ns.saturating_sub(left_at) > crate::time::nanos(age_max)
        });
        let too_large = bytes_max.is_some_and(|bytes_max| self.bytes() > bytes_max);
        if too_old || too_large {
            if let Some(oldest) = self.sealed.pop_front() {
                self.removing = true;
                self.storage.start_remove(oldest.segment);
            }
            self.breaks.forget_before(self.first_position());
        }
    }

    pub(super) fn sync_and_wait(&mut self, now: Now) -> Result<(), AppendError> {
        if self.sync_target < self.position {
            self.start_sync();
        }
        while self.durable.position < self.position {
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

    /// After a crash of the process alone, what was found may be in memory only: the Open mark, whose
    /// watermark covers it, must not become durable before it.
    pub(super) fn sync_what_was_found(&mut self) -> Result<(), OpenError> {
        let last_sealed = self.sealed.iter().rev().take(2);
        let touched = last_sealed.chain([&self.current]).chain(&self.prepared);
        for held in touched {
            self.storage.start_sync(&held.segment);
            match self.storage.wait_completion() {
                Some(Completion::Synced(Ok(()))) => {}
                Some(Completion::Synced(Err(error))) => return Err(error.into()),
                _ => return Err(StorageError::Gone.into()),
            }
        }
        Ok(())
    }
}
