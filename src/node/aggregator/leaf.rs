//! One node that is asked: what it was asked, and what its breaker allows. Its connection is an
//! [`Uplink`].

use std::collections::BTreeMap;

use super::{ConnId, LeafConfig};
use crate::breaker::{Permit, State};
use crate::gather::Availability;
use crate::histogram::Histogram;
use crate::node::uplink::Uplink;
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, Frame, NodeStatus, Refusal, Session, unpadded};

/// A question that the gather waits for.
#[derive(Debug)]
pub(super) struct OpenQuestion {
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
    pub(super) uplink: Uplink,
    /// The question that data frames answer now.
    pub(super) run: Option<u32>,
    pub(super) questions: BTreeMap<u32, OpenQuestion>,
    /// From asking to the end of the answer.
    pub(super) answered: Histogram,
}

/// Why a leaf's connection is given up.
#[derive(Debug)]
pub(super) enum LeafFault {
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

impl LeafFault {
    pub(super) fn unexpected(text: &str, blamed: Option<u32>) -> LeafFault {
        LeafFault::Protocol { code: ErrorCode::Unexpected, text: text.to_owned(), blamed }
    }
}

impl Leaf {
    /// Whether it can be asked, as far as that is known without asking.
    pub(super) fn availability(&self) -> Availability {
        if self.uplink.is_breaker_open() || self.uplink.breaker().state() == State::HalfOpen {
            return Availability::BreakerOpen;
        }
        match self.uplink.ready() {
            Some(_) => Availability::Ready,
            None => Availability::Refused,
        }
    }

    /// The right to ask one question and where, or why there is none.
    pub(super) fn acquire(&mut self, now: Now) -> Result<(ConnId, Permit), NodeStatus> {
        match (self.availability(), self.uplink.ready()) {
            (Availability::Ready, Some(conn)) => {
                let permit = self.uplink.breaker_mut().try_acquire(now.mono);
                permit.map(|permit| (conn, permit)).map_err(|_| NodeStatus::BreakerOpen)
            }
            (Availability::BreakerOpen, _) => Err(NodeStatus::BreakerOpen),
            _ => Err(NodeStatus::Refused),
        }
    }

    /// A frame ahead of the answer to our SESSION, which it should be.
    pub(super) fn handle_greeting(&mut self, now: Now, frame: &Frame) -> Result<(), LeafFault> {
        if let Some(refusal) = frame.view::<Refusal>() {
            return Err(LeafFault::Refused { text: unpadded(&refusal.text) });
        }
        let is_answer = frame.view::<Session>().is_some_and(|session| session.role == 0);
        if self.uplink.conn().is_none() {
            return Ok(());
        }
        if !is_answer {
            return Err(LeafFault::unexpected("no answer to our SESSION", None));
        }
        self.uplink.handle_greeted(now);
        self.run = None;
        Ok(())
    }
}
