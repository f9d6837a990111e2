//! An uplink: one connection that a node dials and keeps. Dial, handshake, greeting, the breaker's permit and
//! its outcome, drain and close are this one machine, for the exchange's session, core's followers and the
//! aggregator's leaves.
//!
//! The greeting is our SESSION and the peer's. A connect that succeeds is not health, because a kernel accepts
//! for a stopped process: the permit of a dial has its outcome with the answer to our SESSION.
//!
//! Not here: what is sent and asked on a standing connection, and the permits of questions.
//!
//! Invariant: the permit of a dial is recorded, or given back, exactly once: by a failed dial, an answer, a refusal, a
//! deadline or the end of the connection.
//!
//! # Decisions
//!
//! * Forced open ends the standing connection too. Nothing is counted against the peer. Closing the breaker
//!   dials in the same turn. A breaker that opens by its own decision does not end a connection of core;
//!   the aggregator drains its own (see [`OnBreakerOpen`]).
//! * A local fault (EMFILE and its like) is no outcome of the peer. It is counted by name, the dial is
//!   repeated every 50 ms, and the fault is logged once a second.

use std::net::SocketAddr;
use std::time::Duration;

use super::session::Status;
use super::{
    CloseReason, ConnId, DialFailure, apply_operator_action, breaker_outcome, describe_breaker,
};
use crate::breaker::{self, Breaker, ConfigError, Outcome, Permit, State, Transition};
use crate::dial::{Dial, DialEnd};
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::BreakerAction;

/// What happens to a standing connection when its breaker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBreakerOpen {
    /// It stays: the breaker judges sessions, and this one stands.
    Keep,
    /// It is drained: it is closed when nothing is under way on it, or when the breaker's wait is over. The
    /// half-open probe is then the next greeting, and nobody has to risk a question on it.
    Drain,
}

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub(crate) struct UplinkConfig<'a> {
    /// The breaker's name, everywhere.
    pub(crate) breaker_name: String,
    pub(crate) address: SocketAddr,
    pub(crate) breaker: &'a breaker::Config,
    /// For jitter.
    pub(crate) seed: u64,
    pub(crate) on_breaker_open: OnBreakerOpen,
    pub(crate) connect_deadline: Duration,
    /// How long the answer to our SESSION may take, from the connect on.
    pub(crate) greeting_deadline: Duration,
}

/// How far a connection was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UplinkEnd {
    /// It stood. The owner decides what the breaker hears, and how often: this is the outcome.
    Ready(Outcome),
    /// It did not stand, or had been given up; the breaker knows.
    Other,
}

/// A connection to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UplinkClose {
    pub(crate) conn: ConnId,
    /// Why.
    pub(crate) text: &'static str,
    pub(crate) end: UplinkEnd,
    /// The peer did not answer our SESSION in time.
    pub(crate) is_late: bool,
}

/// One kept connection, and its breaker.
#[derive(Debug)]
pub(crate) struct Uplink {
    breaker_name: String,
    address: SocketAddr,
    breaker: Breaker,
    dial: Dial<Permit>,
    /// The connection, from the connect until the shell says that it is closed.
    conn: Option<ConnId>,
    on_breaker_open: OnBreakerOpen,
    connect_deadline: Duration,
    greeting_deadline: Duration,
}

impl Uplink {
    pub(crate) fn new(config: UplinkConfig<'_>) -> Result<Uplink, ConfigError> {
        Ok(Uplink {
            breaker: Breaker::new(config.breaker, config.seed)?,
            breaker_name: config.breaker_name,
            address: config.address,
            dial: Dial::default(),
            conn: None,
            on_breaker_open: config.on_breaker_open,
            connect_deadline: config.connect_deadline,
            greeting_deadline: config.greeting_deadline,
        })
    }

    /// The connection, from the connect until the shell says that it is closed.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    /// The connection, while it stands.
    pub(crate) fn ready(&self) -> Option<ConnId> {
        self.conn.filter(|_| self.dial.is_ready())
    }

    /// Whether our SESSION waits for its answer.
    pub(crate) fn is_greeting(&self) -> bool {
        self.dial.is_greeting()
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// For permits and outcomes of what is asked on the connection.
    pub(crate) fn breaker_mut(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    /// Whether not even a dial is permitted.
    pub(crate) fn is_breaker_open(&self) -> bool {
        matches!(self.breaker.state(), State::Open | State::ForcedOpen)
    }

    /// Whom to dial now, and within what time, if it is time and the breaker permits it.
    #[inline]
    pub(crate) fn poll_dial(&mut self, now: Now) -> Option<(SocketAddr, Duration)> {
        if !self.dial.is_due(now.mono) || self.is_breaker_open() {
            return None;
        }
        let Ok(permit) = self.breaker.try_acquire(now.mono) else {
            self.dial.delay_until(now.mono + limits::REDIAL_MIN);
            return None;
        };
        self.dial.begin(now.mono, permit);
        Some((self.address, self.connect_deadline))
    }

    /// The dial came through.
    pub(crate) fn handle_open(&mut self, now: Now, conn: ConnId) {
        self.conn = Some(conn);
        self.dial.opened(now.mono);
    }

    pub(crate) fn handle_dial_failed(&mut self, now: Now, failure: DialFailure) {
        if let DialEnd::Attempt(permit) = self.dial.end(now.mono + limits::REDIAL_MIN) {
            self.breaker.record(permit, breaker_outcome(failure), now.mono);
        }
    }

    /// The peer has answered our SESSION, and it is a good answer: the connection stands. Whether it was
    /// waited for.
    pub(crate) fn handle_greeted(&mut self, now: Now) -> bool {
        let Some((permit, since)) = self.dial.greeted() else { return false };
        let latency = now.mono.since(since);
        self.breaker.record(permit, Outcome::Answered { latency }, now.mono);
        true
    }

    /// The connection has ended.
    pub(crate) fn handle_close(
        &mut self,
        now: Now,
        conn: ConnId,
        reason: CloseReason,
    ) -> UplinkEnd {
        if self.conn() != Some(conn) {
            return UplinkEnd::Other;
        }
        // What we close ourselves without having given it up was silent for too long.
        let outcome = match reason {
            CloseReason::Ours => Outcome::RequestDeadline,
            _ => Outcome::Reset,
        };
        self.conn = None;
        let left = self.dial.end(now.mono + limits::REDIAL_MIN);
        self.record_end(now, left, outcome)
    }

    /// A connection has been left, with this outcome.
    fn record_end(&mut self, now: Now, left: DialEnd<Permit>, outcome: Outcome) -> UplinkEnd {
        match left {
            DialEnd::Attempt(permit) => {
                self.breaker.record(permit, outcome, now.mono);
                UplinkEnd::Other
            }
            DialEnd::Ready => UplinkEnd::Ready(outcome),
            DialEnd::Nothing => UplinkEnd::Other,
        }
    }

    /// Gives the connection up by the peer's fault. The breaker hears of it at once if it did not stand yet;
    /// if it stood, the owner decides (see [`UplinkEnd::Ready`]).
    pub(crate) fn give_up(&mut self, now: Now, outcome: Outcome) -> UplinkEnd {
        if self.conn.is_none() {
            return UplinkEnd::Other;
        }
        let left = self.dial.give_up();
        self.record_end(now, left, outcome)
    }

    /// Gives the connection up by the peer's fault, and counts it once.
    pub(crate) fn fail(&mut self, now: Now, outcome: Outcome) {
        if let UplinkEnd::Ready(outcome) = self.give_up(now, outcome) {
            self.breaker.observe(outcome, now.mono);
        }
    }

    /// No dial before this; only while no connection is there or on its way.
    pub(crate) fn delay_until(&mut self, until: Mono) {
        self.dial.delay_until(until);
    }

    /// Gives the connection up for a reason of our own: nothing is held against the peer.
    pub(crate) fn abandon(&mut self) {
        if self.conn.is_some() {
            // A permit that is dropped is given back.
            drop(self.dial.give_up());
        }
    }

    /// Gives the connection up if it is time: the answer to our SESSION is late (only if `may_be_late`), or the
    /// breaker is open. `is_idle` says that nothing is under way.
    #[inline]
    pub(crate) fn poll_close(
        &mut self,
        now: Now,
        is_idle: bool,
        may_be_late: bool,
    ) -> Option<UplinkClose> {
        // The usual case first: this is looked at in every turn.
        if self.dial.is_ready() && self.breaker.state() == State::Closed {
            return None;
        }
        let conn = self.conn.filter(|_| self.dial.is_greeting() || self.dial.is_ready())?;
        let is_late = |opened: Mono| now.mono.since(opened) >= self.greeting_deadline;
        if may_be_late && self.dial.greeting_since().is_some_and(is_late) {
            let end = self.give_up(now, Outcome::RequestDeadline);
            let text = "no answer to SESSION in time";
            return Some(UplinkClose { conn, text, end, is_late: true });
        }
        let text = self.must_close(is_idle)?;
        let was_ready = self.dial.is_ready();
        self.abandon();
        let end =
            if was_ready { UplinkEnd::Ready(Outcome::RequestDeadline) } else { UplinkEnd::Other };
        Some(UplinkClose { conn, text, end, is_late: false })
    }

    fn must_close(&self, is_idle: bool) -> Option<&'static str> {
        let is_ready = self.dial.is_ready();
        match (self.on_breaker_open, self.breaker.state()) {
            // Forced open means that this peer is not to be spoken to, not only that it is not dialed again.
            (OnBreakerOpen::Keep, State::ForcedOpen) => Some("an operator forced its breaker open"),
            (OnBreakerOpen::Drain, State::Open | State::ForcedOpen) if is_ready && is_idle => {
                Some("its breaker opened")
            }
            // The wait is over, or one handshake was not enough.
            (OnBreakerOpen::Drain, State::HalfOpen) if is_ready => Some("its breaker opened"),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn handle_timers(&mut self, now: Now) {
        self.breaker.handle_timeout(now.mono);
    }

    /// When a dial, a deadline or the breaker is due. `may_dial` is false while the owner does not dial.
    #[inline]
    pub(crate) fn next_deadline(&self, may_dial: bool) -> Option<Mono> {
        let of_breaker = self.breaker.next_deadline();
        // The usual case first: this is looked at in every turn.
        if self.dial.is_ready() {
            return of_breaker;
        }
        let redial = self.dial.not_before().filter(|_| may_dial && !self.is_breaker_open());
        let greeting = self.dial.greeting_since().map(|opened| opened + self.greeting_deadline);
        [redial, greeting, of_breaker].into_iter().flatten().min()
    }

    /// Does what an operator wants, if this is the breaker of that name.
    pub(crate) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        let is_meant = self.breaker_name == name;
        if is_meant {
            apply_operator_action(&mut self.breaker, action, now);
        }
        is_meant
    }

    pub(crate) fn poll_transition(&mut self) -> Option<(&str, Transition)> {
        let change = self.breaker.poll_transition()?;
        Some((&self.breaker_name, change))
    }

    /// The state of the connection, as a name.
    pub(crate) fn state(&self) -> &'static str {
        self.dial.state()
    }

    /// Adds the breaker to a status answer.
    pub(crate) fn describe(&self, now: Now, status: &mut Status) {
        describe_breaker(&self.breaker_name, &self.breaker, now, status);
    }
}
