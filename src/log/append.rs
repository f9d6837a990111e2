//! How records get into a log: frames, and the marks between them.

use super::Log;
use super::backend::Storage;
use super::config::{AppendError, Health};
use super::counters::Sequence;
use super::lineage::{EpochEntry, UNKNOWN_EPOCH_ID, lineage_room};
use super::mark::{Reason, hole_in, is_statement};
use super::writer::{PlacedMark, Stamp};
use crate::time::Now;
use crate::wire::{DataKind, Flags, Frame, Kind};

/// What can be appended to a log.
#[derive(Clone, Copy, Debug)]
pub enum LogEntry<'a> {
    /// A sealed data frame, the next of the sequence.
    Event(&'a Frame),
    /// The same, and it consumes no upstream number.
    LocalEvent(&'a Frame),
    /// One statement beside the sequence: a definition from somebody who no longer has the frame itself.
    Statement(&'a Frame),
    /// Nobody has what was at these seqs. In a shard's log it moves nothing: who has noted it goes on behind it
    /// with [`Log::advance_upstream`], so that no crash can keep the second and lose the first. In a journal it
    /// begins at the next seq and takes the place of the frames: the next one follows behind it.
    Hole(&'a Frame),
}

/// An epoch that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEpoch {
    /// Its identity: a random number that no other epoch has; neither 0 nor [`super::UNKNOWN_EPOCH_ID`].
    pub id: u64,
    /// Its number is above this, and above all that the log has.
    pub above: u32,
    /// An operator begins it with `pregao recover`: what followers have beyond the end of an epoch before it
    /// may be given up.
    pub is_chosen: bool,
}

impl NewEpoch {
    /// The next one, with this identity.
    #[must_use]
    pub fn of(id: u64) -> NewEpoch {
        NewEpoch { id, above: 0, is_chosen: false }
    }
}

impl<S: Storage> Log<S> {
    /// Appends a sealed data frame and returns its position. Readers see it after [`Log::commit`].
    ///
    /// # Errors
    /// When it is not the log's turn to take it; then nothing was changed.
    #[inline(always)]
    pub fn append(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        // Nearly every frame of a log passes these few questions and is stored by its caller's own code.
        if self.takes_at_once(frame) {
            return Ok(self.put_event(frame));
        }
        self.append_with_care(LogEntry::Event(frame))
    }

    /// [`Log::append`], for whatever can be appended.
    ///
    /// # Errors
    /// As [`Log::append`].
    #[inline]
    pub fn append_entry(&mut self, entry: LogEntry<'_>) -> Result<u64, AppendError> {
        match entry {
            LogEntry::Event(frame) => self.append(frame),
            other => self.append_with_care(other),
        }
    }

    /// [`Log::append_entry`] for a log that requires checkpoints: when one is due, it is written first, of what
    /// `statements` returns. When these are too many for a segment, `too_many` is called with their number, and
    /// the segment goes without.
    ///
    /// # Errors
    /// As [`Log::append`].
    #[inline]
    pub fn append_with_checkpoint(
        &mut self,
        entry: LogEntry<'_>,
        statements: impl FnOnce() -> Vec<Frame>,
        too_many: impl FnOnce(usize),
    ) -> Result<u64, AppendError> {
        match self.append_entry(entry) {
            Err(AppendError::CheckpointDue) => {
                self.append_behind_checkpoint(entry, statements, too_many)
            }
            done => done,
        }
    }

    #[cold]
    #[inline(never)]
    fn append_behind_checkpoint(
        &mut self,
        entry: LogEntry<'_>,
        statements: impl FnOnce() -> Vec<Frame>,
        too_many: impl FnOnce(usize),
    ) -> Result<u64, AppendError> {
        let statements = statements();
        if !self.write_checkpoint(&statements)? {
            too_many(statements.len());
        }
        self.append_entry(entry)
    }

    /// Says which number is wanted next from which feed; a mark is written only when that is new.
    ///
    /// # Errors
    /// When the log cannot take the mark now.
    pub fn set_upstream(&mut self, feed: u64, next_seq: u64, now: Now) -> Result<(), AppendError> {
        self.clock.read(now);
        if (feed, next_seq) == self.upstream() {
            return Ok(());
        }
        self.make_room(1)?;
        let mark = self.writer.place_upstream_mark(feed, next_seq, self.stamp());
        self.store_mark(mark);
        Ok(())
    }

    /// Notes that upstream has nothing for this log before `next_seq`, in a mark when that is new: what
    /// was reported to upstream, who may throw away what is behind it, must not go back with a crash.
    ///
    /// # Errors
    /// When the log cannot take the mark now.
    pub fn advance_upstream(&mut self, next_seq: u64, now: Now) -> Result<(), AppendError> {
        let (feed, known) = self.upstream();
        self.set_upstream(feed, next_seq.max(known), now)
    }

    /// Takes an upstream position back that was noted and was wrong: somebody who is no upstream had said it. Frames
    /// stay what they are, and the position stays behind the last of them.
    ///
    /// # Errors
    /// When the log cannot take the mark now.
    pub fn fall_back_upstream(&mut self, next_seq: u64, now: Now) -> Result<(), AppendError> {
        self.clock.read(now);
        let (feed, known) = self.upstream();
        let next_seq = next_seq.max(self.next_seq());
        if next_seq >= known {
            return Ok(());
        }
        self.make_room(1)?;
        let mark = self.writer.place_upstream_mark(feed.min(next_seq), next_seq, self.stamp());
        self.durability.fall_back(u64::MAX, next_seq);
        self.store_mark(mark);
        Ok(())
    }

    /// Begins the next epoch at the next seq, durable when this returns, so that no crash can make
    /// another start take the same epoch number for other frames. Blocks: for a sequencer that starts.
    /// Returns the epoch.
    ///
    /// # Errors
    /// When the identity is none, the log cannot take the mark, or the sync fails.
    pub fn begin_epoch(&mut self, new: NewEpoch, now: Now) -> Result<u32, AppendError> {
        let NewEpoch { id, above, is_chosen } = new;
        let number = self.epoch().max(above).checked_add(1);
        let Some(epoch) = number.filter(|_| id != 0 && id != UNKNOWN_EPOCH_ID) else {
            return Err(self.out_of_order());
        };
        self.wait_for_room(2, now)?;
        let first_seq = self.next_seq();
        self.put_lineage(EpochEntry {
            epoch,
            epoch_id: id,
            first_seq,
            is_chosen,
            is_given_up: false,
        });
        self.put_epoch_mark(epoch, first_seq);
        self.publish();
        self.sync_and_wait(now)?;
        Ok(epoch)
    }

    /// Notes that followers are to give up what they have of an epoch of another history, from `entry.first_seq`
    /// on. Durable with the next epoch, which has to be one that an operator chose. Blocks.
    ///
    /// # Errors
    /// When the entry is no such epoch, or the log cannot take the record.
    pub fn give_up_epoch(&mut self, entry: EpochEntry, now: Now) -> Result<(), AppendError> {
        if !entry.is_given_up || entry.epoch == 0 || entry.epoch_id == 0 || entry.first_seq == 0 {
            return Err(self.out_of_order());
        }
        self.wait_for_room(1, now)?;
        self.put_lineage(entry);
        Ok(())
    }

    /// Follows upstream into an epoch of this number and identity (0 = upstream does not say one), from
    /// `start_seq` on. The log's frames with that seq or a higher one are void from here on; the result is the seq
    /// from which any are.
    ///
    /// # Errors
    /// When the log cannot take the mark now, or the epoch is not above its own.
    pub fn follow_epoch(
        &mut self,
        (epoch, epoch_id): (u32, u64),
        start_seq: u64,
        now: Now,
    ) -> Result<Option<u64>, AppendError> {
        self.clock.read(now);
        let is_contiguous = self.writer.rules().sequence == Sequence::Contiguous;
        let gap = is_contiguous && start_seq != self.next_seq();
        if epoch <= self.epoch() || start_seq == 0 || gap {
            return Err(self.out_of_order());
        }
        self.make_room(2)?;
        let fell_back = start_seq < self.next_seq();
        if epoch_id != 0 {
            let first_seq = start_seq;
            let (is_chosen, is_given_up) = (false, false);
            self.put_lineage(EpochEntry { epoch, epoch_id, first_seq, is_chosen, is_given_up });
        }
        self.put_epoch_mark(epoch, start_seq);
        Ok(fell_back.then_some(start_seq))
    }

    /// Whether nothing but the frame is to be written, and nothing speaks against it: then
    /// [`Log::append_with_care`] would do no more than store it. It says no when in doubt.
    #[inline]
    fn takes_at_once(&self, frame: &Frame) -> bool {
        let market_data = Kind::Quote as u8..=Kind::Cancel as u8;
        market_data.contains(&frame.kind)
            && frame.check_header().is_ok()
            && !is_statement(frame)
            && self.writer.accepts(frame.seq.get())
            && matches!(self.health, Health::Open)
            && !self.durability.is_mark_due()
            && !self.checkpoints.is_due()
            && self.segments.has_room_for_one(self.writer.position())
    }

    /// Appending with all its questions, errors, and marks between the frames.
    #[cold]
    #[inline(never)]
    fn append_with_care(&mut self, entry: LogEntry<'_>) -> Result<u64, AppendError> {
        self.admit(entry)?;
        let records = if matches!(entry, LogEntry::LocalEvent(_)) { 2 } else { 1 };
        self.make_room(records)?;
        if self.checkpoints.is_due() {
            return Err(AppendError::CheckpointDue);
        }
        Ok(match entry {
            LogEntry::Event(frame) => self.put_event(frame),
            LogEntry::LocalEvent(frame) => {
                // The mark is before the frame: were it behind, a crash between the two would count one
                // number too many, and that upstream frame would never be asked for.
                self.put_mark(Reason::Local);
                self.put_event(frame)
            }
            LogEntry::Statement(frame) => {
                self.put_beside_the_sequence(&frame.delivered(Flags::SNAPSHOT))
            }
            LogEntry::Hole(frame) => {
                let hole = hole_in(frame).ok_or(AppendError::NotData(frame.kind))?;
                let position = self.writer.place_hole(hole);
                self.segments.write(position, frame);
                position
            }
        })
    }

    /// What recovery would refuse must not get in.
    fn admit(&self, entry: LogEntry<'_>) -> Result<(), AppendError> {
        let (frame, is_right) = match entry {
            // The CRC is the caller's: it has just made it.
            LogEntry::Event(frame) | LogEntry::LocalEvent(frame) => (
                frame,
                !is_statement(frame)
                    && DataKind::of(frame).is_some_and(|row| match row.has_body_check() {
                        true => frame.check().is_ok(),
                        false => frame.check_header().is_ok(),
                    }),
            ),
            LogEntry::Statement(frame) => {
                (frame, frame.kind().is_some_and(Kind::is_data) && frame.check().is_ok())
            }
            LogEntry::Hole(frame) => (frame, hole_in(frame).is_some() && frame.check().is_ok()),
        };
        if !is_right {
            return Err(AppendError::NotData(frame.kind));
        }
        let follows = match entry {
            LogEntry::Event(_) | LogEntry::LocalEvent(_) => self.writer.accepts(frame.seq.get()),
            LogEntry::Hole(_) => hole_in(frame).is_some_and(|hole| self.writer.accepts_hole(hole)),
            LogEntry::Statement(_) => true,
        };
        if follows { Ok(()) } else { Err(self.out_of_order()) }
    }

    #[cold]
    fn out_of_order(&self) -> AppendError {
        AppendError::OutOfOrder { next_seq: self.next_seq(), epoch: self.epoch() }
    }

    /// Makes sure that so many records fit into the active segment and leave the slot for the mark
    /// that ends it; writes the Sync mark if one is due.
    pub(super) fn make_room(&mut self, records: u64) -> Result<(), AppendError> {
        self.check_health()?;
        let wanted = records + u64::from(self.durability.is_mark_due()) + 1;
        if self.segments.active().end() - self.writer.position() < wanted {
            self.roll()?;
        }
        if self.durability.is_mark_due() {
            self.put_mark(Reason::Sync);
        }
        Ok(())
    }

    /// Leaves the active segment for the next one.
    #[cold]
    fn roll(&mut self) -> Result<(), AppendError> {
        if !self.is_previous_durable() {
            return Err(AppendError::NotReady);
        }
        if !self.segments.has_prepared() {
            self.prepare_next();
            let full = matches!(self.health, Health::Waiting(_));
            return Err(if full { AppendError::Full } else { AppendError::NotReady });
        }
        while self.writer.position() < self.segments.active().end() {
            self.put_mark(Reason::Seal);
        }
        if !self.durability.covers(self.writer.position()) {
            self.start_sync();
        }
        self.segments.advance();
        self.checkpoints.handle_segment_begun();
        self.put_mark(Reason::Segment);
        self.restate_lineage();
        Ok(())
    }

    /// Writes the lineage at the head of a segment, so that the segments before it can go: as much of its end as
    /// an eighth of the segment has room for.
    pub(super) fn restate_lineage(&mut self) {
        let known = self.lineage.entries().len();
        let room = lineage_room(self.segments.active().records);
        let skipped = known.saturating_sub(usize::try_from(room).unwrap_or(usize::MAX));
        let journal_id = self.lineage.journal_id();
        for place in skipped..known {
            let record = self.lineage.entries()[place].record(journal_id);
            self.put_beside_the_sequence(&record);
        }
    }

    /// Writes an entry of the lineage. There must be room.
    fn put_lineage(&mut self, entry: EpochEntry) {
        self.lineage.note(entry);
        self.put_beside_the_sequence(&entry.record(self.lineage.journal_id()));
    }

    #[inline]
    fn put_event(&mut self, frame: &Frame) -> u64 {
        debug_assert_eq!(frame.check(), Ok(()), "an unsealed frame was appended");
        let position = self.writer.place_data(frame);
        self.segments.write(position, frame);
        position
    }

    pub(super) fn put_beside_the_sequence(&mut self, frame: &Frame) -> u64 {
        let position = self.writer.place_beside_the_sequence();
        self.segments.write(position, frame);
        position
    }

    #[cold]
    pub(super) fn put_mark(&mut self, reason: Reason) {
        let mark = self.writer.place_mark(reason, self.stamp());
        self.store_mark(mark);
    }

    fn put_epoch_mark(&mut self, epoch: u32, start_seq: u64) {
        let mark = self.writer.place_epoch_mark(epoch, start_seq, self.stamp());
        let counters = self.writer.counters();
        self.durability.fall_back(counters.next_seq, counters.upstream_seq);
        self.store_mark(mark);
    }

    #[cfg(test)]
    pub(super) fn put_epoch_mark_of_format_3(&mut self, epoch: u32) {
        self.put_epoch_mark(epoch, self.next_seq());
    }

    fn store_mark(&mut self, (position, mark): PlacedMark) {
        self.durability.handle_mark_written();
        self.segments.write(position, &mark);
    }

    fn stamp(&self) -> Stamp {
        Stamp { watermark: self.durability.durable().position, written_at: self.clock.time_ns() }
    }
}
