//! Whether a core that wants to feed this shard has the sequence that the shard has a part of.
//!
//! # Decisions
//!
//! * The shard says under which epoch it has its newest frames, by identity, and adopts nothing before core has
//!   said what of that is part of its journal. It never takes frames back on a mere word about numbers: core has to
//!   say that an operator gave them up.

use super::{ConnId, Level, Shard};
use crate::history::Index;
use crate::log::Storage;
use crate::node::session::Rejection;
use crate::time::Now;
use crate::wire::{ErrorCode, Refusal, Session, unpadded};

/// What a core's SESSION means to this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It stands in the same epoch.
    Same,
    /// Its epoch is to be adopted from this seq on.
    Begins { start_seq: u64, gives_up: bool },
    /// It has to be told where this shard stands.
    Unknown,
    /// No.
    Refused(&'static str),
}

impl<S: Storage> Shard<S> {
    pub(super) fn continuity(&self, conn: ConnId, session: &Session) -> Continuity {
        let (own_id, own_epoch) = (self.log.epoch_id(), self.log.epoch());
        let (feed, epoch) = (session.feed.get(), session.epoch.get());
        let start_seq = session.epoch_start.get();
        if epoch == own_epoch && feed == own_id {
            return Continuity::Same;
        }
        if own_epoch == 0 {
            return Continuity::Begins { start_seq, gives_up: false };
        }
        if self.asked != Some(conn) {
            // A core of an older program knows no identity. Only that its epoch is the next one can be known.
            let is_next = feed == 0 && own_id == 0 && epoch == own_epoch.saturating_add(1);
            let gives_up = start_seq < self.log.next_seq();
            return if is_next {
                Continuity::Begins { start_seq, gives_up }
            } else {
                Continuity::Unknown
            };
        }
        if !session.has(Session::CONTINUES) {
            return Continuity::Refused("that is not the sequence that this shard has");
        }
        let gives_up = session.has(Session::GIVE_UP);
        if start_seq < self.log.next_seq() && !gives_up {
            return Continuity::Refused("this shard holds more, and nobody gave it up");
        }
        Continuity::Begins { start_seq, gives_up }
    }

    /// Takes core's epoch over. Frames from `start_seq` on are void.
    pub(super) fn adopt(
        &mut self,
        now: Now,
        session: &Session,
        start_seq: u64,
        gives_up: bool,
    ) -> Result<(), Rejection> {
        let epoch = session.epoch.get();
        if epoch <= self.log.epoch() {
            let text = "this shard has a later epoch than that journal";
            return Err(Rejection::new(ErrorCode::Failed, text));
        }
        match self.log.follow_epoch((epoch, session.feed.get()), start_seq, now) {
            // No frame is void, but a hole may reach further than the frames do.
            Ok(None) => self.index.holes.void_from(start_seq),
            Ok(Some(void_from)) => {
                let why = if gives_up {
                    ": an operator, or a loss of power at core, gave them up"
                } else {
                    ""
                };
                self.connections
                    .log(Level::Warn, format!("frames from seq {void_from} on are void{why}"));
                self.log.commit(now);
                (self.index, self.damaged) = Index::rebuild(&self.log);
            }
            Err(_) => {
                let text = "the log cannot take a new epoch now";
                return Err(Rejection::new(ErrorCode::Storage, text));
            }
        }
        self.has_updates = true;
        Ok(())
    }

    /// Core does not feed this shard: its log says so too, and what to do.
    pub(super) fn explain_refusal(&mut self, refusal: &Refusal) {
        let text = format!(
            "core refuses to feed this shard: {}. It holds epoch {} ({:016x}) up to seq {}. Nothing was changed. \
             Core's log says more: put the directory that belongs to the others back, or stop the system and run \
             `pregao recover`",
            unpadded(&refusal.text),
            self.log.epoch(),
            self.log.epoch_id(),
            self.wanted().get().saturating_sub(1),
        );
        self.connections.log(Level::Error, text);
    }
}
