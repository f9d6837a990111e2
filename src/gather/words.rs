//! The gather's vocabulary: what goes in, what comes out, and why a query is not taken.

use crate::limits::GATHERS_MAX;
use crate::question::Question;
use crate::time::Mono;
use crate::wire::ErrorCode;

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
    /// There is no connection to it.
    Refused,
    /// Its circuit breaker is open.
    BreakerOpen,
}

/// One node that holds a copy of a part.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which node.
    pub leaf: LeafId,
    /// Its name, for the answer.
    pub name: [u8; 16],
    /// Whether it can be asked.
    pub availability: Availability,
}

/// One part of a query: what is asked, and who can answer it.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// What to ask. Its id and deadline are filled in here.
    pub question: Question,
    /// The nodes that hold it, the first copy first.
    pub candidates: Vec<Candidate>,
    /// Nothing of the query belongs to this part: nobody is asked.
    pub is_pruned: bool,
}

/// A question to send to a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// To whom.
    pub leaf: LeafId,
    /// What, with an id that is unique among all open questions and a deadline with a margin.
    pub question: Question,
    /// When the leaf's time is over, for a caller that cannot send at once.
    pub deadline: Mono,
    /// The question's cut is ahead of all that the leaf has said of itself: a leaf that is well may wait
    /// for it beyond the deadline, so its time says nothing about the leaf.
    pub is_ahead: bool,
}

impl Ask {
    /// The question's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.question.query.id.get()
    }
}

/// Why a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("{GATHERS_MAX} queries in flight; ask again later")]
    InFlight,
    #[error("this is not gathered")]
    Op,
    #[error("a query's id is not 0 and not in use")]
    Id,
    #[error("a query needs a deadline above 0")]
    Deadline,
    #[error("the plan does not fit the query")]
    Plan,
    #[error("no common cut is known yet; ask again")]
    Cut,
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
            Refused::Cut => ErrorCode::NoData,
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
    /// It does not belong into an answer to its question, which has failed there.
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
    /// Questions sent or to be sent, of all kinds.
    pub asked: u64,
    /// Questions to another copy because the first took long.
    pub hedged: u64,
    /// Hedges whose answer was the one taken.
    pub hedges_won: u64,
    /// Parts that another copy should have been asked for as well, and no budget allowed it.
    pub hedges_denied: u64,
    /// Questions to another copy because one failed.
    pub retried: u64,
    /// Questions to another copy because all that were asked are silent.
    pub failed_over: u64,
    /// Questions to a silent copy beside another, to see whether it answers again.
    pub probed: u64,
}
