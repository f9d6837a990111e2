//! An uplink: one connection that a node dials and keeps. Dial, handshake, greeting, the breaker's permit and
//! its outcome, drain and close are this one machine, for the exchange's session, core's followers and the
//! aggregator's leaves.
//!
//! The greeting is our SESSION and the peer's. A connect that succeeds is not health, because a kernel accepts
//! for a stopped process: the permit of a dial has its outcome with the answer to our SESSION.
//!
//! Not here: what is sent and asked on a standing connection, and the permits of questions.
//!
//! Invariant: the permit of a dial is recorded exactly once: by a failed dial, an answer, a refusal, a
//! deadline or the end of the connection.

use std::net::SocketAddr;
use std::time::Duration;

use super::session::Status;
use super::{CloseReason, ConnId, DialFailure, breaker_outcome, describe_breaker, obey_operator};
use crate::breaker::{self, Breaker, ConfigError, Outcome, Permit, State, Transition};
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::BreakerAction;

/// What happens to a standing connection when its breaker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenOpen {
    /// It stays: the breaker judges sessions, and this one stands.
    Keep,
    /// It is drained: it is closed when nothing is under way on it, or when the breaker's wait is over. The
    /// half-open probe is then the next greeting, and nobody has to risk a question on it.
    Drain,
}

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub(super) struct UplinkConfig<'a> {
    /// The breaker's name, everywhere.
    pub(super) breaker_name: String,
    pub(super) address: SocketAddr,
    pub(super) breaker: &'a breaker::Config,
    /// For jitter.
    pub(super) seed: u64,
    pub(super) when_open: WhenOpen,
    pub(super) connect_deadline: Duration,
    /// How long the answer to our SESSION may take, from the connect on.
    pub(super) greeting_deadline: Duration,
}

#[derive(Debug)]
enum Phase {
    /// No connection; the next attempt not before this.
    Idle {
        not_before: Mono,
    },
    Dialing {
        permit: Permit,
        since: Mono,
    },
    /// Connected; our SESSION has not been answered.
    Greeting {
        permit: Permit,
        since: Mono,
        opened: Mono,
        conn: ConnId,
    },
    Ready {
        conn: ConnId,
    },
    /// We gave it up; the shell has not yet said that it is closed.
    Closing {
        conn: ConnId,
    },
}

/// How far a connection was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It stood. The owner decides what the breaker hears, and how often: this is the outcome.
    Ready(Outcome),
    /// It did not stand, or had been given up; the breaker knows.
    Other,
}

/// One kept connection, and its breaker.
#[derive(Debug)]
pub(super) struct Uplink {
    breaker_name: String,
    address: SocketAddr,
    breaker: Breaker,
    phase: Phase,
    when_open: WhenOpen,
    connect_deadline: Duration,
    greeting_deadline: Duration,
}

impl Uplink {
    pub(super) fn new(config: UplinkConfig<'_>) -> Result<Uplink, ConfigError> {
        Ok(Uplink {
            breaker: Breaker::new(config.breaker, config.seed)?,
            breaker_name: config.breaker_name,
            address: config.address,
            phase: Phase::Idle { not_before: Mono::default() },
            when_open: config.when_open,
            connect_deadline: config.connect_deadline,
            greeting_deadline: config.greeting_deadline,
        })
    }

    /// The connection, from the connect until the shell says that it is closed.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Greeting { conn, .. } | Phase::Ready { conn } | Phase::Closing { conn } => {
                Some(conn)
            }
            Phase::Idle { .. } | Phase::Dialing { .. } => None,
        }
    }

    /// The connection, while it stands.
    pub(super) fn ready(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Ready { conn } => Some(conn),
            _ => None,
        }
    }

    /// Whether our SESSION waits for its answer.
    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// For permits and outcomes of what is asked on the connection.
    pub(super) fn breaker_mut(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    /// Whether not even a dial is permitted.
    pub(super) fn is_shut_out(&self) -> bool {
        matches!(self.breaker.state(), State::Open | State::ForcedOpen)
    }

    /// Whom to dial now, and within what time, if it is time and the breaker permits it.
    pub(super) fn poll_dial(&mut self, now: Now) -> Option<(SocketAddr, Duration)> {
        let Phase::Idle { not_before } = self.phase else { return None };
        if now.mono < not_before || self.is_shut_out() {
            return None;
        }
        let Ok(permit) = self.breaker.try_acquire(now.mono) else {
            self.phase = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
            return None;
        };
        self.phase = Phase::Dialing { permit, since: now.mono };
        Some((self.address, self.connect_deadline))
    }

    /// The dial came through.
    pub(super) fn handle_open(&mut self, now: Now, conn: ConnId) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closing { conn });
        if let Phase::Dialing { permit, since } = phase {
            self.phase = Phase::Greeting { permit, since, opened: now.mono, conn };
        }
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, failure: DialFailure) {
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        if let Phase::Dialing { permit, .. } = std::mem::replace(&mut self.phase, idle) {
            self.breaker.record(permit, breaker_outcome(failure), now.mono);
        }
    }

    /// The peer has answered our SESSION, and it is a good answer: the connection stands. Whether it was
    /// waited for.
    pub(super) fn handle_greeted(&mut self, now: Now) -> bool {
        let Some(conn) = self.conn().filter(|_| self.is_greeting()) else { return false };
        if let Phase::Greeting { permit, since, .. } =
            std::mem::replace(&mut self.phase, Phase::Ready { conn })
        {
            let latency = now.mono.since(since);
            self.breaker.record(permit, Outcome::Answered { latency }, now.mono);
        }
        true
    }

    /// The connection has ended.
    pub(super) fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) -> Ended {
        if self.conn() != Some(conn) {
            return Ended::Other;
        }
        // What we close ourselves without having given it up was silent for too long.
        let outcome = match reason {
            CloseReason::Ours => Outcome::RequestDeadline,
            _ => Outcome::Reset,
        };
        let idle = Phase::Idle { not_before: now.mono + limits::REDIAL_MIN };
        match std::mem::replace(&mut self.phase, idle) {
            Phase::Greeting { permit, .. } => {
                self.breaker.record(permit, outcome, now.mono);
                Ended::Other
            }
            Phase::Ready { .. } => Ended::Ready(outcome),
            _ => Ended::Other,
        }
    }

    /// Gives the connection up by the peer's fault. The breaker hears of it at once if it did not stand yet;
    /// if it stood, the owner decides (see [`Ended::Ready`]).
    pub(super) fn give_up(&mut self, now: Now, outcome: Outcome) -> Ended {
        let Some(conn) = self.conn() else { return Ended::Other };
        match std::mem::replace(&mut self.phase, Phase::Closing { conn }) {
            Phase::Greeting { permit, .. } => {
                self.breaker.record(permit, outcome, now.mono);
                Ended::Other
            }
            Phase::Ready { .. } => Ended::Ready(outcome),
            _ => Ended::Other,
        }
    }

    /// Gives the connection up by the peer's fault, and counts it once.
    pub(super) fn fail(&mut self, now: Now, outcome: Outcome) {
        if let Ended::Ready(outcome) = self.give_up(now, outcome) {
            self.breaker.observe(outcome, now.mono);
        }
    }

    /// Gives the connection up for a reason of our own: nothing is held against the peer.
    pub(super) fn abandon(&mut self) {
        if let Some(conn) = self.conn() {
            self.phase = Phase::Closing { conn };
        }
    }

    /// Gives the connection up if it is time: the answer to our SESSION is late, or the breaker is open.
    /// `is_idle` says that nothing is under way. The connection to close, why, and how far it was.
    pub(super) fn poll_close(
        &mut self,
        now: Now,
        is_idle: bool,
    ) -> Option<(ConnId, &'static str, Ended)> {
        let conn = self.conn()?;
        match self.phase {
            Phase::Greeting { opened, .. } if now.mono.since(opened) >= self.greeting_deadline => {
                let ended = self.give_up(now, Outcome::RequestDeadline);
                Some((conn, "no answer to SESSION in time", ended))
            }
            Phase::Greeting { .. } | Phase::Ready { .. } => {
                let text = self.must_close(is_idle)?;
                let was_ready = self.ready().is_some();
                // Nothing is held against the peer: a permit that is dropped is given back.
                self.abandon();
                let outcome = Outcome::RequestDeadline;
                Some((conn, text, if was_ready { Ended::Ready(outcome) } else { Ended::Other }))
            }
            _ => None,
        }
    }

    fn must_close(&self, is_idle: bool) -> Option<&'static str> {
        let is_ready = self.ready().is_some();
        match (self.when_open, self.breaker.state()) {
            // Forced open means that this peer is not to be spoken to, not only that it is not dialed again.
            (WhenOpen::Keep, State::ForcedOpen) => Some("an operator forced its breaker open"),
            (WhenOpen::Drain, State::Open | State::ForcedOpen) if is_ready && is_idle => {
                Some("its breaker opened")
            }
            // The wait is over, or one handshake was not enough.
            (WhenOpen::Drain, State::HalfOpen) if is_ready => Some("its breaker opened"),
            _ => None,
        }
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        self.breaker.handle_timeout(now.mono);
    }

    /// When a dial, a deadline or the breaker is due. `may_dial` is false while the owner does not dial.
    pub(super) fn next_deadline(&self, may_dial: bool) -> Option<Mono> {
        let of_phase = match self.phase {
            Phase::Idle { not_before } => (may_dial && !self.is_shut_out()).then_some(not_before),
            Phase::Greeting { opened, .. } => Some(opened + self.greeting_deadline),
            _ => None,
        };
        of_phase.into_iter().chain(self.breaker.next_deadline()).min()
    }

    /// Does what an operator wants, if this is the breaker of that name.
    pub(super) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        let is_meant = self.breaker_name == name;
        if is_meant {
            obey_operator(&mut self.breaker, action, now);
        }
        is_meant
    }

    pub(super) fn poll_transition(&mut self) -> Option<(&str, Transition)> {
        let change = self.breaker.poll_transition()?;
        Some((&self.breaker_name, change))
    }

    /// Where the connection is, in a word.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Idle { .. } => "waiting",
            Phase::Dialing { .. } => "dialing",
            Phase::Greeting { .. } => "greeting",
            Phase::Ready { .. } => "ready",
            Phase::Closing { .. } => "closing",
        }
    }

    /// Adds the breaker to a status answer.
    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        describe_breaker(&self.breaker_name, &self.breaker, now, status);
    }
}
