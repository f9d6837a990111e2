//! One node's part in a gather: what it was asked, what it has sent, and how it ended.

use std::time::Duration;

use super::{Availability, LeafId, LeafPlan};
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, Kind, NodeStatus, Op, Query};

/// What kind of rows a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// At most one quote.
    Quote,
    /// Trades and cancels.
    Trades,
    /// Bars of three frames each.
    Bars,
}

impl Role {
    pub(super) fn of(question: &Query) -> Option<Role> {
        match Op::from_number(question.op)? {
            Op::Quote => Some(Role::Quote),
            Op::Last | Op::Range => Some(Role::Trades),
            Op::Bars => Some(Role::Bars),
            Op::Replay | Op::Status | Op::Stop | Op::Breaker | Op::Count | Op::Instruments => None,
        }
    }
}

/// The frames of a bar, in order.
const BAR_KINDS: [Kind; 3] = [Kind::BarPrices, Kind::BarTotals, Kind::BarNotional];

/// Frames of one bar.
pub(super) const BAR_FRAMES: usize = BAR_KINDS.len();

/// A question put to a leaf and what came of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) leaf: LeafId,
    pub(super) name: [u8; 16],
    pub(super) role: Role,
    /// 0 = never asked.
    pub(super) query_id: u32,
    /// `None` while open.
    pub(super) status: Option<NodeStatus>,
    /// What the leaf said when it failed.
    pub(super) code: Option<ErrorCode>,
    pub(super) text: [u8; 48],
    pub(super) elapsed: Duration,
    /// What the leaf said at the end, zeros without.
    pub(super) end: Ended,
    /// Data frames, bars as whole groups. Kept only when the leaf came to an end: without one nobody
    /// knows what the rows cover.
    pub(super) rows: Vec<Frame>,
    /// The definition that came before them.
    pub(super) definition: Option<Frame>,
}

impl Part {
    /// `None` when the question is none that can be gathered.
    pub(super) fn new(plan: &LeafPlan) -> Option<Part> {
        Some(Part {
            leaf: plan.leaf,
            name: plan.name,
            role: Role::of(&plan.question)?,
            query_id: 0,
            status: match plan.availability {
                Availability::Ask => None,
                Availability::Pruned => Some(NodeStatus::Pruned),
                Availability::Refused => Some(NodeStatus::Refused),
                Availability::BreakerOpen => Some(NodeStatus::BreakerOpen),
            },
            code: None,
            text: [0; 48],
            elapsed: Duration::ZERO,
            end: Ended::default(),
            rows: Vec::new(),
            definition: None,
        })
    }

    /// Takes a frame in; false when it has no place in an answer to the question.
    pub(super) fn take(&mut self, frame: &Frame) -> bool {
        let Some(kind) = frame.kind() else { return false };
        if kind == Kind::Definition {
            // Once, before the data.
            if self.definition.is_some() || !self.rows.is_empty() {
                return false;
            }
            self.definition = Some(*frame);
            return true;
        }
        let fits = match self.role {
            Role::Quote => kind == Kind::Quote && self.rows.is_empty(),
            Role::Trades => matches!(kind, Kind::Trade | Kind::Cancel),
            Role::Bars => self.continues_bar(kind, frame),
        };
        if fits {
            self.rows.push(*frame);
        }
        fits
    }

    /// Whether the frame is the next one of a bar.
    fn continues_bar(&self, kind: Kind, frame: &Frame) -> bool {
        let place = self.rows.len() % BAR_FRAMES;
        let same_bar = place == 0
            || self.rows.last().is_some_and(|last| {
                last.ts_event == frame.ts_event && last.instrument == frame.instrument
            });
        BAR_KINDS.get(place) == Some(&kind) && same_bar
    }

    /// Takes the end frame in and says what it makes of the part; `None` when it comes inside a bar or
    /// is no end.
    pub(super) fn take_end(&mut self, end: &Ended) -> Option<NodeStatus> {
        let status = EndStatus::from_number(end.status)?;
        if self.role == Role::Bars
            && status != EndStatus::Failed
            && !self.rows.len().is_multiple_of(BAR_FRAMES)
        {
            return None;
        }
        self.end = *end;
        self.code = ErrorCode::from_number(end.code.get());
        Some(match status {
            EndStatus::Complete => NodeStatus::Ok,
            EndStatus::Partial => NodeStatus::Corrupt,
            EndStatus::Failed => NodeStatus::Failed,
        })
    }

    /// Ends the part, drops the frames of one that did not answer, and says how many they were.
    pub(super) fn end(&mut self, status: NodeStatus, elapsed: Duration) -> usize {
        self.status = Some(status);
        self.elapsed = elapsed;
        if self.answered() {
            return 0;
        }
        let dropped = self.frames_held();
        self.rows = Vec::new();
        self.definition = None;
        dropped
    }

    /// Whether its rows belong into the answer.
    pub(super) fn answered(&self) -> bool {
        matches!(self.status, Some(NodeStatus::Ok | NodeStatus::Corrupt))
    }

    /// Whether the answer lacks something for want of it.
    pub(super) fn is_missing(&self) -> bool {
        !matches!(self.status, Some(NodeStatus::Ok | NodeStatus::Pruned))
    }

    pub(super) fn frames_held(&self) -> usize {
        self.rows.len() + usize::from(self.definition.is_some())
    }

    /// Data rows; a bar is one.
    pub(super) fn row_count(&self) -> usize {
        match self.role {
            Role::Bars => self.rows.len() / BAR_FRAMES,
            Role::Quote | Role::Trades => self.rows.len(),
        }
    }
}
