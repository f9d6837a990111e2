//! What core sends a shard: frames into the log, statements beside them, and the report that something is
//! not to be had any more.
//!
//! # Decisions
//!
//! * A shard that waits for its log does not read its feeder. What was read already, at most one read,
//!   waits in memory. A log that cannot take a frame, as on a full disk, closes the feeder with ERROR
//!   Storage. Core then starts again from what the log has, so no frame of the old connection is stored
//!   behind a hole.
//! * What the shard acknowledges is in its log. A mark, at most once a second, states how far core's
//!   sequence has come without frames for this shard. Core trims by that acknowledgement, so a crash must
//!   not take it back.

use super::{ConnId, Level, Shard};
use crate::history::hole_record;
use crate::limits;
use crate::log::{AppendError, LogEntry, Storage, is_statement};
use crate::node::Service;
use crate::node::session::Rejection;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{Definition, ErrorCode, FRAME_BYTES, Frame, Gap, GapReason, Seq};

/// Frames that one read of a connection can bring.
const PENDING_MAX: usize = limits::READ_BYTES_PER_TURN_MAX / FRAME_BYTES;

impl<S: Storage> Shard<S> {
    /// A data frame that is no statement. Each frame comes here, so this is a part of its only caller, and what
    /// seldom happens stands elsewhere.
    #[inline(always)]
    pub(super) fn store(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        if self.feed.seat.holder() != Some(conn) {
            return Ok(());
        }
        self.pass_frame(now, frame)?;
        match self.store_event(frame) {
            Ok(()) => Ok(()),
            Err(error) => self.handle_append_error(frame, &error),
        }
    }

    /// A definition: a statement ahead of events is stored here. Whether it was one.
    #[inline(never)]
    pub(super) fn store_if_statement(
        &mut self,
        conn: ConnId,
        frame: &Frame,
    ) -> Result<bool, Rejection> {
        if self.feed.seat.holder() != Some(conn) {
            return Ok(true);
        }
        self.check_owner(frame)?;
        if !is_statement(frame) {
            return Ok(false);
        }
        let stored = self.store_statement(frame);
        stored.or_else(|error| self.handle_append_error(frame, &error)).map(|()| true)
    }

    /// What is not to be had.
    #[inline(never)]
    pub(super) fn store_gap(
        &mut self,
        now: Now,
        conn: ConnId,
        frame: &Frame,
    ) -> Result<(), Rejection> {
        if self.feed.seat.holder() != Some(conn) {
            return Ok(());
        }
        let Some(gap) = frame.view::<Gap>() else { return Ok(()) };
        let next_seq = Seq::behind(gap.to_seq.get());
        self.check_place(now, next_seq)?;
        self.feed.pass(next_seq);
        let stored = if gap.reason == GapReason::Corrupt as u8 {
            self.store_hole(now, gap)
        } else {
            self.begin_later(now, gap)
        };
        stored.or_else(|error| self.handle_append_error(frame, &error))
    }

    /// The log has not taken a frame.
    #[cold]
    fn handle_append_error(&mut self, frame: &Frame, error: &AppendError) -> Result<(), Rejection> {
        match error {
            AppendError::OutOfOrder { .. } | AppendError::NotData(_) => {
                Err(Rejection::new(ErrorCode::Unexpected, "no log can hold this frame"))
            }
            AppendError::NotReady => self.keep_back(frame),
            error => {
                // Core begins again from what the log has: nothing of this connection is kept back.
                self.is_held_back = true;
                self.pending.clear();
                let reason =
                    self.log.health().problem().map_or(error.to_string(), ToString::to_string);
                self.connections
                    .log(Level::Error, format!("the log takes no more for now: {reason}"));
                Err(Rejection::new(ErrorCode::Storage, "the log cannot take more now"))
            }
        }
    }

    /// Keeps a frame until the log's next segment is ready. The rest of what was read comes too; more is
    /// not read.
    pub(super) fn keep_back(&mut self, frame: &Frame) -> Result<(), Rejection> {
        if self.pending.len() >= PENDING_MAX {
            return Err(Rejection::new(ErrorCode::Limit, "more than one read can bring"));
        }
        self.pending.push_back(*frame);
        Ok(())
    }

    /// A feeder's frames that wait are its own: the next one begins from what the log has.
    pub(super) fn forget_pending(&mut self) {
        if !is_planted(Bug::InheritPending) {
            self.pending.clear();
        }
    }

    /// Goes on with what was kept back.
    pub(super) fn store_pending(&mut self, now: Now) {
        let Some(conn) = self.feed.seat.holder() else { return };
        let pending = std::mem::take(&mut self.pending);
        for frame in &pending {
            if let Err(rejection) = self.on_frame(now, conn, frame) {
                self.connections.refuse(conn, rejection.code, &rejection.text);
                return;
            }
        }
    }

    /// Refuses a definition of somebody else's symbol: core divides the symbols in another way.
    fn check_owner(&mut self, frame: &Frame) -> Result<(), Rejection> {
        let Some(definition) = frame.view::<Definition>() else { return Ok(()) };
        let owner = self.config.partition.owner_of(&definition.names());
        if owner == self.config.shard || is_planted(Bug::TakeAnyPartition) {
            return Ok(());
        }
        let text = format!(
            "core sends {}, which belongs to another shard: the partition of core is not that of {}. Give both \
             the same configuration",
            definition.symbol, self.config.name
        );
        self.connections.log(Level::Error, text);
        Err(Rejection::new(ErrorCode::NotOwner, "the partition of core is another"))
    }

    #[inline(always)]
    fn store_event(&mut self, frame: &Frame) -> Result<(), AppendError> {
        if frame.seq.get() < self.log.next_seq() {
            self.duplicates += 1;
            return Ok(());
        }
        let position = match self.log.append(frame) {
            Err(AppendError::CheckpointDue) => self.append(LogEntry::Event(frame))?,
            done => done?,
        };
        self.index.note(position, frame);
        self.has_updates = true;
        Ok(())
    }

    /// A definition, or a part of a name, ahead of frames that begin behind its own place.
    fn store_statement(&mut self, frame: &Frame) -> Result<(), AppendError> {
        let is_known = match frame.view::<Definition>() {
            Some(definition) => self.index.find(&definition.symbol).is_some(),
            None if frame.is_naming() => self.index.has_name(frame),
            None => return Err(AppendError::NotData(frame.kind)),
        };
        if is_known {
            return Ok(());
        }
        let position = self.append(LogEntry::Statement(frame))?;
        self.index.note(position, frame);
        self.has_updates = true;
        Ok(())
    }

    /// A new segment of the log begins with all definitions and holes, so that those before it can go.
    #[inline(never)]
    fn append(&mut self, entry: LogEntry<'_>) -> Result<u64, AppendError> {
        let (index, connections) = (&self.index, &mut self.connections);
        let statements = || index.definitions().chain(index.holes.records()).collect();
        self.log.append_with_checkpoint(entry, statements, |count| {
            let text = format!(
                "{count} definitions and holes are too many for a segment of the log: nothing before it can be \
                 removed; make [data] segment_bytes larger"
            );
            connections.log(Level::Error, text);
        })
    }

    /// Core's journal rotted before this shard had what stood there. What it has of the range stays what it
    /// is: only what it still wants is lost.
    fn store_hole(&mut self, now: Now, gap: &Gap) -> Result<(), AppendError> {
        let (from, to) = (gap.from_seq.get().max(self.holes_count_from().get()), gap.to_seq.get());
        if to < from {
            return Ok(());
        }
        // A second try, when there was room for the hole and none for the mark behind it.
        if !self.index.holes.has(from, to) {
            let frame = hole_record(from, to);
            self.append(LogEntry::Hole(&frame))?;
            self.index.holes.note(from, to);
            let text = format!(
                "core's journal has lost seq {from} to {to} before they came here; answers that touch \
                 them will say so"
            );
            self.connections.log(Level::Error, text);
        }
        self.log.advance_upstream(to + 1, now)?;
        self.has_updates = true;
        Ok(())
    }

    /// Core no longer has what is missing here. The log notes behind what its history is whole; every
    /// later mark says it again.
    fn begin_later(&mut self, now: Now, gap: &Gap) -> Result<(), AppendError> {
        let begins = gap.to_seq.get().saturating_add(1);
        if begins <= self.wanted().get() || begins == u64::MAX {
            return Ok(());
        }
        self.log.set_upstream(begins, begins, now)?;
        self.has_updates = true;
        let text = format!("core has nothing before seq {begins} any more: history begins there");
        self.connections.log(Level::Warn, text);
        Ok(())
    }

    /// From this `seq` on the history is whole: what is missing before it was removed here, or core
    /// did not have it any more.
    pub(super) fn first_seq(&self) -> Seq {
        let kept = self.log.first_seq().unwrap_or(Seq::FIRST);
        Seq::or_first(self.log.upstream().0).max(kept)
    }

    /// The index follows the retention.
    pub(super) fn forget_removed(&mut self) {
        self.index.forget_before(self.log.first_position());
        let first_seq = self.first_seq().get();
        self.index.holes.forget_before(first_seq);
    }
}
