//! A request: one question to one leaf, and what became of a frame that came for it.

use super::plan::LeafId;
use crate::question::Question;
use crate::time::Mono;
use crate::wire::U32;

/// The number of a request: that of its question. Never 0, and no other open request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestId(pub(super) u32);

/// A question to send to a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// To whom.
    pub leaf: LeafId,
    /// What, with an id that is unique among all open questions and a deadline with a margin.
    pub question: Question,
    /// When the leaf's time is over, for a caller that cannot send at once.
    pub deadline: Mono,
    /// The question's cut is ahead of all that the leaf is known to have. A leaf that is well may wait for
    /// it beyond the deadline, so its time is no sign of a fault.
    pub is_ahead: bool,
}

impl Request {
    /// The question's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.question.query.id.get()
    }
}

/// The question of a part as it is put to one leaf.
pub(super) fn numbered(mut question: Question, id: RequestId, deadline_us: u32) -> Question {
    question.query.id = U32::new(id.0);
    question.query.deadline_us = U32::new(deadline_us);
    question
}

/// What became of a frame from a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a leaf that breaks the protocol should be disconnected"]
pub enum FrameOutcome {
    /// It belongs to an open question.
    Taken,
    /// It matches nothing: its question is over. Counted.
    Late,
    /// It does not belong into an answer to its question, which has failed there.
    Unexpected,
}
