//! One node that is asked: where its connection stands, what its breaker allows, and how it is greeted.

use std::collections::BTreeMap;

use super::{ConnId, LeafConfig};
use crate::breaker::{Breaker, Outcome, Permit, State};
use crate::gather::Availability;
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, Frame, NodeStatus, Refusal, Session, unpadded};

#[derive(Debug)]
pub(super) enum Phase {
    Idle {
        not_before: Mono,
    },
    Dialing {
        permit: Permit,
        since: Mono,
    },
    Greeting {
        permit: Permit,
        since: Mono,
        conn: ConnId,
    },
    Ready {
        conn: ConnId,
        /// The question that data frames answer now.
        run: Option<u32>,
    },
    Closing {
        conn: ConnId,
    },
}

/// A question that the gather waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None` once the breaker knows the outcome, the leaf's time being over before the gather's; and for a
    /// question whose cut was ahead of what the leaf had said, which the breaker does not judge.
    pub(super) permit: Option<Permit>,
    pub(super) asked: Mono,
    pub(super) deadline: Mono,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) config: LeafConfig,
    /// The node's name as it stands in answers.
    pub(super) name: [u8; 16],
    /// The breaker's name, everywhere.
    pub(super) breaker_name: String,
    pub(super) breaker: Breaker,
    pub(super) phase: Phase,
    pub(super) questions: BTreeMap<u32, Waiting>,
}

/// Why a leaf's connection is given up.
#[derive(Debug)]
pub(super) enum Fault {
    /// It broke the protocol.
    Protocol {
        code: ErrorCode,
        text: String,
        /// The question whose part the gather has ended for it already.
        blamed: Option<u32>,
    },
    /// It refused us.
    Refused { text: String },
}

impl Fault {
    pub(super) fn unexpected(text: &str, blamed: Option<u32>) -> Fault {
        Fault::Protocol { code: ErrorCode::Unexpected, text: text.to_owned(), blamed }
    }
}

impl Leaf {
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Greeting { conn, .. } | Phase::Ready { conn, .. } | Phase::Closing { conn } => {
                Some(conn)
            }
            _ => None,
        }
    }

    /// Whether not even a dial is permitted.
    pub(super) fn is_shut_out(&self) -> bool {
        matches!(self.breaker.state(), State::Open | State::ForcedOpen)
    }

    /// Whether the breaker wants the standing connection closed.
    pub(super) fn is_drained(&self) -> bool {
        match self.breaker.state() {
            State::Open | State::ForcedOpen => self.questions.is_empty(),
            // The wait is over, or one handshake was not enough.
            State::HalfOpen => true,
            _ => false,
        }
    }

    /// Whether it can be asked, as far as that is known without asking.
    pub(super) fn availability(&self) -> Availability {
        if self.is_shut_out() || self.breaker.state() == State::HalfOpen {
            return Availability::BreakerOpen;
        }
        match self.phase {
            Phase::Ready { .. } => Availability::Ask,
            _ => Availability::Refused,
        }
    }

    /// The right to ask one question and where, or why there is none.
    pub(super) fn acquire(&mut self, now: Now) -> Result<(ConnId, Permit), NodeStatus> {
        match (self.availability(), &self.phase) {
            (Availability::Ask, Phase::Ready { conn, .. }) => {
                let conn = *conn;
                let permit = self.breaker.try_acquire(now.mono);
                permit.map(|permit| (conn, permit)).map_err(|_| NodeStatus::BreakerOpen)
            }
            (Availability::BreakerOpen, _) => Err(NodeStatus::BreakerOpen),
            _ => Err(NodeStatus::Refused),
        }
    }

    /// A frame ahead of the answer to our SESSION, which it should be.
    pub(super) fn handle_greeting(&mut self, now: Now, frame: &Frame) -> Result<(), Fault> {
        if let Some(refusal) = frame.view::<Refusal>() {
            return Err(Fault::Refused { text: unpadded(&refusal.text) });
        }
        let is_answer = frame.view::<Session>().is_some_and(|session| session.role == 0);
        let Some(conn) = self.conn() else { return Ok(()) };
        if !is_answer {
            return Err(Fault::unexpected("no answer to our SESSION", None));
        }
        match std::mem::replace(&mut self.phase, Phase::Ready { conn, run: None }) {
            Phase::Greeting { permit, since, .. } => {
                let latency = now.mono.since(since);
                self.breaker.record(permit, Outcome::Answered { latency }, now.mono);
            }
            other => self.phase = other,
        }
        Ok(())
    }
}
