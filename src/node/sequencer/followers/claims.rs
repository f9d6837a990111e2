//! What followers say of themselves, and what of it counts.

use super::{Follower, Market};
use crate::log::{Log, Storage};
use crate::planted::{Bug, is_planted};
use crate::wire::{Ack, Frame, Heartbeat, Seq, Session};

impl Follower {
    /// Where the stream of a follower begins that has answered our SESSION; `None`: it holds nothing.
    pub(super) fn place_of<S: Storage>(
        &mut self,
        session: &Session,
        journal: &Log<S>,
        market: &Market,
    ) -> Result<Option<Seq>, &'static str> {
        let next_seq = Seq::or_first(journal.next_seq());
        self.note_sent();
        let wanted = session.next_seq();
        if wanted > Some(next_seq) {
            return Err("it holds frames that this journal never had");
        }
        let (Some(wanted), Some(shard)) = (wanted, self.config.shard) else { return Ok(wanted) };
        if wanted > self.sent_seq && !is_planted(Bug::KeepWhatNobodySent) {
            return Err("it holds frames that it was not sent");
        }
        let durable = session.durable_seq().unwrap_or(Seq::FIRST).min(next_seq).min(self.sent_seq);
        if durable > wanted && market.owned_until(shard) <= wanted {
            // Nothing in between is its own.
            return Ok(Some(durable));
        }
        // It has said that it needs nothing of what was trimmed; it was not trimmed before.
        let first_seq = journal.first_seq().filter(|first_seq| *first_seq <= durable);
        Ok(Some(wanted).max(first_seq))
    }

    /// Whether it hands out and holds what it was not sent. Nothing of that is durable anywhere, so core says SESSION
    /// again, once, with the place from which on it is void.
    pub(super) fn is_ahead<S: Storage>(&mut self, session: &Session, journal: &Log<S>) -> bool {
        self.note_sent();
        let (feed, epoch) = (session.feed.get(), session.epoch.get());
        let is_of_this_epoch = feed == journal.epoch_id() || feed == 0 && epoch == journal.epoch();
        self.uplink.is_greeting()
            && self.config.shard.is_none()
            && is_of_this_epoch
            && session.next_seq() > Some(self.sent_seq)
            && !self.was_taken_back
            && !is_planted(Bug::KeepWhatNobodySent)
    }

    /// It says how far it is.
    ///
    /// # Errors
    /// When that is farther than it was sent on this connection.
    pub(super) fn take_ack(&mut self, ack: &Ack) -> Result<(), &'static str> {
        let (accepted, durable) = (ack.accepted_seq(), ack.durable_seq());
        self.note_sent();
        let is_sent = accepted <= Some(self.passed_seq) && durable <= accepted;
        if !is_sent && !is_planted(Bug::BelieveAnyAck) {
            return Err("it acknowledges what it was not sent");
        }
        (self.accepted_seq, self.durable_seq) = (accepted, durable);
        Ok(())
    }

    /// Remembers how far its stream has come, for its next SESSION.
    pub(super) fn note_sent(&mut self) {
        self.sent_seq = self.sent_seq.max(self.passed_seq);
    }

    /// Whoever gets everything is told of a jump ahead of the frame behind it: without that a jump is refused.
    pub(super) fn notice_of_jump(&self, frame: &Frame) -> Option<Frame> {
        if self.config.shard.is_some() {
            return None;
        }
        let next_seq = Seq::field(frame.seq());
        let notice = Heartbeat { next_seq, ..Heartbeat::default() };
        Some(Frame::seal(self.reported_states().said_by(notice)))
    }
}
