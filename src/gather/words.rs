//! The gather's vocabulary: what goes in, what comes out, and why a query is not taken.

use crate::limits::GATHERS_MAX;
use crate::time::Mono;
use crate::wire::{ErrorCode, Query};

/// A node that can be asked. The caller gives the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeafId(pub u32);

/// A gather, unique in the life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatherId(pub u64);

/// What the caller knows about a leaf before asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can be asked.
    Ask,
    /// It owns nothing of the question.
    Pruned,
    /// There is no connection to it.
    Refused,
    /// Its circuit breaker is open.
    BreakerOpen,
}

/// One node's part in a query.
#[derive(Clone, Copy, Debug)]
pub struct LeafPlan {
    /// Which node.
    pub leaf: LeafId,
    /// Its name, for the answer.
    pub name: [u8; 16],
    /// What to ask it: a quote, or what the query asks. Its id and deadline are filled in here.
    pub question: Query,
    /// Whether it can be asked.
    pub availability: Availability,
}

/// A question to send to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// To whom.
    pub leaf: LeafId,
    /// What, with an id that is unique among all open questions and a deadline with a margin.
    pub query: Query,
    /// When the leaf's time is over, for a caller that cannot send at once.
    pub deadline: Mono,
}

/// Why a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("{GATHERS_MAX} queries in flight; ask again later")]
    InFlight,
    #[error("only quote, last, range and bars are gathered")]
    Op,
    #[error("a query's id is not 0 and not in use")]
    Id,
    #[error("a query needs a deadline above 0")]
    Deadline,
    #[error("the plan does not fit the query")]
    Plan,
}

impl Refused {
    /// The number that the asker is told with the sentence.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Refused::InFlight => ErrorCode::Limit,
            Refused::Op | Refused::Id => ErrorCode::Unexpected,
            Refused::Deadline => ErrorCode::Deadline,
            Refused::Plan => ErrorCode::Failed,
        }
    }
}

/// What became of a frame from a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a leaf that breaks the protocol should be disconnected"]
pub enum Reply {
    /// It belongs to an open question.
    Taken,
    /// It matches nothing: its question is over. Counted.
    Late,
    /// It does not belong into an answer to its question. The leaf's part has failed.
    Unexpected,
}

/// Counters since the machine was made. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries taken.
    pub begun: u64,
    /// Queries not taken.
    pub refused: u64,
    /// Answers with everything in them.
    pub complete: u64,
    /// Answers with something missing.
    pub partial: u64,
    /// Queries that failed.
    pub failed: u64,
    /// Queries whose asker left or stopped them.
    pub abandoned: u64,
    /// Frames from leaves that matched nothing.
    pub late: u64,
    /// Frames from leaves that broke the protocol.
    pub unexpected: u64,
    /// Cancellations that were dropped because nobody fetched them.
    pub cancels_dropped: u64,
}
