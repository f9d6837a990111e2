//! One attempt to have a part answered: a question that was put to one copy, what came for it, and how it
//! ended. Not here: who may be asked, which the part knows.
//!
//! Invariant: an attempt ends once. From then on it takes no rows, and it holds rows only if its copy
//! came to an end: without one nobody knows what the rows cover.

use std::time::Duration;

use super::part::{ReplicaIndex, Untried};
use super::rows::{RowKind, Rows};
use crate::gather::LeafId;
use crate::gather::request::RequestId;
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, NodeStatus, Refusal};

/// Why a copy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gather) enum AttemptKind {
    First,
    /// Another takes long.
    Hedge,
    /// Another failed.
    Retry,
    /// Another is silent.
    Failover,
}

impl AttemptKind {
    /// Whether it runs beside attempts that are still open.
    pub(in crate::gather) fn is_beside(self) -> bool {
        matches!(self, AttemptKind::Hedge | AttemptKind::Failover)
    }
}

/// What is known of an attempt when it begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::gather) struct NewAttempt {
    pub(in crate::gather) replica: Untried,
    pub(in crate::gather) request: RequestId,
    pub(in crate::gather) kind: AttemptKind,
    pub(in crate::gather) begun: Mono,
    /// The leaf was not known to be at the question's cut: it may wait for it, and be well.
    pub(in crate::gather) is_ahead: bool,
}

/// A question put to one copy.
#[derive(Debug)]
pub(in crate::gather) struct Attempt {
    start: NewAttempt,
    /// `None` while open.
    status: Option<NodeStatus>,
    /// From the beginning to the end.
    elapsed: Duration,
    /// The code that the leaf gave when it failed.
    code: Option<ErrorCode>,
    text: [u8; 48],
    /// The end frame of the leaf, zeros without.
    end: Ended,
    rows: Rows,
}

impl Attempt {
    /// With room for that many rows.
    pub(super) fn new(start: NewAttempt, rows: RowKind, rows_expected: usize) -> Attempt {
        Attempt {
            start,
            status: None,
            elapsed: Duration::ZERO,
            code: None,
            text: [0; 48],
            end: Ended::default(),
            rows: Rows::new(rows, rows_expected),
        }
    }

    // ---- what happens to it ----

    /// Takes a frame in; false when it has no place in an answer to the question.
    pub(super) fn take_row(&mut self, frame: &Frame) -> bool {
        self.rows.take(frame)
    }

    /// Takes the end frame in and returns the status that it means; `None` when it comes inside a bar or is
    /// no end.
    ///
    /// A node that is further behind than `behind_max` has not answered in full, whatever it says.
    pub(super) fn take_end(
        &mut self,
        end: &Ended,
        behind_max: Option<Duration>,
    ) -> Option<NodeStatus> {
        let status = EndStatus::from_number(end.status)?;
        if status != EndStatus::Failed && self.rows.is_inside_bar() {
            return None;
        }
        self.end = *end;
        self.code = ErrorCode::from_number(end.code.get());
        let is_behind = behind_max.is_some_and(|limit| end.is_behind(limit))
            && !is_planted(Bug::TrustWhoIsBehind);
        Some(match status {
            EndStatus::Complete if is_behind => NodeStatus::Behind,
            EndStatus::Complete => NodeStatus::Ok,
            EndStatus::Partial if self.code == Some(ErrorCode::Behind) => NodeStatus::Behind,
            EndStatus::Partial => NodeStatus::Corrupt,
            EndStatus::Failed => NodeStatus::Failed,
        })
    }

    /// Takes in why the leaf does not answer.
    pub(super) fn take_refusal(&mut self, refusal: &Refusal) {
        self.code = ErrorCode::from_number(refusal.code.get());
        self.text = refusal.text;
    }

    /// Ends it. Frames of one that did not answer are dropped; returns how many they were.
    pub(super) fn end(&mut self, status: NodeStatus, now: Mono) -> usize {
        self.status = Some(status);
        self.elapsed = now.since(self.start.begun);
        if self.answered() { 0 } else { self.drop_rows() }
    }

    /// Drops its frames and returns how many they were.
    pub(super) fn drop_rows(&mut self) -> usize {
        self.rows.drop_all()
    }

    // ---- what it is ----

    pub(super) fn replica(&self) -> ReplicaIndex {
        self.start.replica.index()
    }

    /// Whether it was put to the copy that is named first in the plan.
    pub(in crate::gather) fn is_of_first_replica(&self) -> bool {
        self.replica().is_first()
    }

    pub(in crate::gather) fn leaf(&self) -> LeafId {
        self.start.replica.leaf()
    }

    pub(in crate::gather) fn request(&self) -> RequestId {
        self.start.request
    }

    pub(in crate::gather) fn kind(&self) -> AttemptKind {
        self.start.kind
    }

    pub(in crate::gather) fn begun(&self) -> Mono {
        self.start.begun
    }

    /// Whether the leaf was not known to be at the question's cut when it was asked.
    pub(in crate::gather) fn is_ahead(&self) -> bool {
        self.start.is_ahead
    }

    pub(in crate::gather) fn is_open(&self) -> bool {
        self.status.is_none()
    }

    /// `None` while open.
    pub(in crate::gather) fn status(&self) -> Option<NodeStatus> {
        self.status
    }

    /// From the beginning to the end, zero while open.
    pub(in crate::gather) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether its rows can stand for the part.
    pub(in crate::gather) fn answered(&self) -> bool {
        matches!(self.status, Some(NodeStatus::Ok | NodeStatus::Corrupt | NodeStatus::Behind))
    }

    /// Whether it answered, and what it lacks is only what came lately.
    pub(in crate::gather) fn is_behind(&self) -> bool {
        self.status == Some(NodeStatus::Behind)
    }

    /// Whether it is an answer of a copy that is not the first, with a quote that it cannot call current.
    /// The first copy may know better.
    pub(in crate::gather) fn is_second_hand(&self) -> bool {
        !self.is_of_first_replica() && self.rows.has_stale_quote()
    }

    /// The code that the leaf gave when it failed.
    pub(in crate::gather) fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// The leaf's sentence when it refused, zeros without.
    pub(in crate::gather) fn text(&self) -> [u8; 48] {
        self.text
    }

    /// The end frame of the leaf, zeros without.
    pub(in crate::gather) fn end_frame(&self) -> &Ended {
        &self.end
    }

    /// Frames that came, held or not.
    pub(in crate::gather) fn frames_received(&self) -> u32 {
        self.rows.received()
    }

    /// Rows of its answer; a bar is one.
    pub(in crate::gather) fn row_count(&self) -> usize {
        if self.answered() { self.rows.count() } else { 0 }
    }

    /// Data frames of its answer, bars as whole groups.
    pub(in crate::gather) fn rows(&self) -> &[Frame] {
        self.rows.data()
    }

    /// The definitions that came before the rows.
    pub(in crate::gather) fn definitions(&self) -> &[Frame] {
        self.rows.definitions()
    }

    /// The parts of full names that came behind them.
    pub(in crate::gather) fn names(&self) -> &[Frame] {
        self.rows.names()
    }

    pub(super) fn frames_held(&self) -> usize {
        self.rows.held()
    }
}
