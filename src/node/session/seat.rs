//! The seat of a role that one peer has at a time: a shard's feeder, the publisher of a source.
//!
//! # Decisions
//!
//! * A newcomer does not displace a holder that lives. Before, any peer that spoke the role's SESSION took a
//!   source or a shard away from core.
//! * A holder lives when it was heard within [`limits::SIGN_OF_LIFE_WAIT`]. One that was quiet for longer is
//!   asked by a HEARTBEAT. When it has said nothing for that time after the question, the next newcomer takes its
//!   seat: its host lost power, or the network between.
//! * The newcomer is refused meanwhile and comes again. It is not kept waiting: whoever dials counts a greeting
//!   that is late as a failure too, and a refusal says why.

use super::{Connections, Rejection};
use crate::limits;
use crate::node::ConnId;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::ErrorCode;

/// Who has the role.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    holder: Option<ConnId>,
    /// When the holder was last asked for a sign of life.
    asked_at: Option<Mono>,
}

impl Seat {
    /// Who has it.
    #[inline]
    pub(crate) fn holder(&self) -> Option<ConnId> {
        self.holder
    }

    /// Whether a newcomer may have it. Asks the holder for a sign of life when that has to be known.
    ///
    /// # Errors
    /// When the holder lives, or has been asked and has time left to answer. `refusal` says so to the newcomer.
    pub(crate) fn check<P>(
        &mut self,
        now: Now,
        connections: &mut Connections<P>,
        refusal: &'static str,
    ) -> Result<(), Rejection> {
        let heard =
            self.holder.and_then(|holder| connections.get(holder)).map(|it| it.last_heard());
        // Nobody holds it, or who does is being closed.
        let (Some(holder), Some(heard)) = (self.holder, heard) else { return Ok(()) };
        if is_planted(Bug::DisplaceTheLiving) {
            return Ok(());
        }
        let is_quiet = now.mono.since(heard) >= limits::SIGN_OF_LIFE_WAIT;
        let asked_at = self.asked_at.filter(|asked_at| *asked_at > heard);
        match asked_at {
            Some(at) if now.mono.since(at) >= limits::SIGN_OF_LIFE_WAIT => return Ok(()),
            None if is_quiet => {
                self.asked_at = Some(now.mono);
                connections.ask_for_life(now, holder);
            }
            _ => {}
        }
        Err(Rejection::new(ErrorCode::Unexpected, refusal))
    }

    /// Gives it to a peer. Who had it before, and is displaced.
    pub(crate) fn take(&mut self, conn: ConnId) -> Option<ConnId> {
        self.asked_at = None;
        self.holder.replace(conn).filter(|before| *before != conn)
    }

    /// A peer has left. Whether it had the seat.
    pub(crate) fn leave(&mut self, conn: ConnId) -> bool {
        let had_it = self.holder == Some(conn);
        if had_it {
            *self = Seat::default();
        }
        had_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000_000), wall_ns: 0 }
    }

    fn conn(slot: u32) -> ConnId {
        ConnId { generation: 1, slot }
    }

    fn taken() -> (Seat, Connections<()>) {
        let mut connections = Connections::default();
        connections.insert(now(0), conn(0));
        let mut seat = Seat::default();
        assert!(seat.check(now(0), &mut connections, "taken").is_ok());
        assert_eq!(seat.take(conn(0)), None);
        (seat, connections)
    }

    #[test]
    fn a_holder_that_lives_keeps_its_seat() {
        let (mut seat, mut connections) = taken();
        assert!(seat.check(now(1_000), &mut connections, "taken").is_err());
        assert!(connections.outbox(conn(0)).is_empty(), "it was heard just now");
        assert!(seat.check(now(3_000), &mut connections, "taken").is_err());
        assert_eq!(connections.outbox(conn(0)).len(), 64, "it is asked");
        connections.heard(now(3_500), conn(0));
        assert!(seat.check(now(5_400), &mut connections, "taken").is_err());
        assert_eq!(connections.outbox(conn(0)).len(), 64, "it has answered");
        assert!(seat.check(now(9_000), &mut connections, "taken").is_err());
        assert_eq!(connections.outbox(conn(0)).len(), 128, "it is asked anew");
    }

    #[test]
    fn a_half_open_holder_loses_its_seat_two_seconds_after_it_was_asked() {
        let (mut seat, mut connections) = taken();
        assert!(seat.check(now(20_000), &mut connections, "taken").is_err());
        assert!(seat.check(now(21_999), &mut connections, "taken").is_err());
        assert_eq!(connections.outbox(conn(0)).len(), 64, "it is asked once");
        assert!(seat.check(now(22_000), &mut connections, "taken").is_ok());
        connections.insert(now(22_000), conn(1));
        assert_eq!(seat.take(conn(1)), Some(conn(0)));
        assert!(!seat.leave(conn(0)), "it has it no more");
        assert!(seat.leave(conn(1)));
        assert_eq!(seat.holder(), None);
    }
}
