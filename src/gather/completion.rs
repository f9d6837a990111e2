//! How attempts end, parts with them, and queries with those. An attempt ends with what its leaf sent, or
//! without; the part is then completed, or another copy is asked.
//!
//! # Decisions
//!
//! * A stale quote of a replica is not final while core may answer. It is kept, and core is asked unless
//!   core failed a moment ago. Core's answer is taken when it comes. If core fails or is silent, the kept
//!   answer leaves at once. A stale quote of core is final.
//! * A copy that is behind is followed by one that has not failed a moment ago. Of several that are behind the
//!   one that is least behind stands. Its rows are right as of its own place, also where they are a sum, so
//!   they may stand in a partial answer.

use super::gathering::{AttemptId, AttemptKind, Gathering, PartId};
use super::leaves::is_fault_of_leaf;
use super::{Gather, GatherId, answer};
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{EndStatus, ErrorCode, NodeStatus};

impl Gather {
    /// An attempt is over. A good answer completes the part; a bad one is followed by the next copy.
    pub(super) fn end_attempt(&mut self, now: Mono, id: AttemptId, status: NodeStatus) {
        let Some((part, attempt)) = self.in_flight.end_attempt(id, status, now) else { return };
        let (leaf, request) = (attempt.leaf(), attempt.request());
        self.outbox.forget(request);
        // The first copy may know a current quote.
        let is_second_hand = attempt.is_second_hand();
        let is_good = status == NodeStatus::Ok;
        let has_failed = match (status, attempt.code()) {
            (NodeStatus::Ok | NodeStatus::Spare, _) => is_second_hand,
            // A cut at which nobody is known to be is no fault of this one.
            (NodeStatus::Failed, Some(ErrorCode::Behind)) => self.leaves.is_cut_reached(part),
            (NodeStatus::Failed, Some(code)) => is_fault_of_leaf(code),
            _ => true,
        };
        self.leaves.note_over(leaf, part.rows(), attempt.begun(), request);
        if has_failed {
            self.leaves.note_failed(now, leaf);
        }
        let leaves = &self.leaves;
        // Nobody waits for a first copy that does not answer either.
        let first_may_know =
            || part.untried_first().is_some_and(|it| !leaves.is_unhealthy(now, it.leaf()));
        // Nor is an answer final while the first copy is asked already, and may answer in a moment.
        let first_is_asked = || {
            let mut first = part.open_attempts().filter(|it| it.is_of_first_replica());
            first.any(|it| !leaves.is_silent(it.leaf()))
        };
        let is_refused_by_all =
            matches!(attempt.code(), Some(ErrorCode::BadPattern | ErrorCode::Unexpected));
        // Where core is away all copies are behind, and to ask each of them each time would double the work.
        let another_may_be_ahead = || part.untried().any(|it| !leaves.is_unhealthy(now, it.leaf()));
        let wants_another = match status {
            NodeStatus::Ok => is_second_hand && first_may_know(),
            NodeStatus::Behind => another_may_be_ahead(),
            _ => !is_refused_by_all,
        };
        if wants_another {
            self.ask(now, id.part(), AttemptKind::Retry);
        } else if is_good && is_second_hand && first_is_asked() {
            // The answer in hand is taken when the first copy ends, or is silent.
        } else {
            self.end_part(now, id.part());
        }
    }

    /// Ends an attempt that is not waited for any longer, and cancels its request.
    pub(super) fn time_out(&mut self, now: Mono, id: AttemptId) {
        let Some(attempt) = self.in_flight.gathering(id.gather()).and_then(|it| it.attempt(id))
        else {
            return;
        };
        if attempt.is_open() {
            self.outbox.withdraw(attempt.leaf(), attempt.request());
        }
        let forgets = is_planted(Bug::ForgetMissingNode);
        let status = if forgets { NodeStatus::Pruned } else { NodeStatus::Timeout };
        self.end_attempt(now, id, status);
    }

    /// Ends one part: requests that are still open are cancelled. With the last part the query ends.
    pub(super) fn end_part(&mut self, now: Mono, id: PartId) {
        let Some(completed) = self.in_flight.complete_part(id, now) else { return };
        self.counts.hedges_won += u64::from(completed.is_won_by_hedge);
        for lost in completed.lost {
            self.outbox.withdraw(lost.leaf, lost.request);
            self.leaves.note_over(lost.leaf, lost.rows, lost.begun, lost.request);
            if lost.is_slow {
                self.leaves.note_race_lost(now, lost.leaf, lost.rows, lost.begun);
            }
        }
        if completed.is_last {
            self.finish(id.gather(), None);
        }
    }

    /// Makes the one answer of a query; `failure` when it is known to have failed as a whole.
    pub(super) fn finish(&mut self, id: GatherId, failure: Option<(ErrorCode, &str)>) {
        let Some(gathering) = self.remove(id) else { return };
        let answer = answer::make(&gathering, failure);
        match answer.status {
            EndStatus::Complete => self.counts.complete += 1,
            EndStatus::Partial => self.counts.partial += 1,
            EndStatus::Failed => self.counts.failed += 1,
        }
        if is_planted(Bug::AnswerTwice) {
            self.outbox.answer(answer.clone());
        }
        self.outbox.answer(answer);
    }

    /// Removes a query. Requests that are still open are cancelled.
    pub(super) fn remove(&mut self, id: GatherId) -> Option<Box<Gathering>> {
        let gathering = self.in_flight.remove(id)?;
        for (_, part, attempt) in gathering.open_attempts() {
            let (leaf, request) = (attempt.leaf(), attempt.request());
            self.outbox.withdraw(leaf, request);
            self.leaves.note_over(leaf, part.rows(), attempt.begun(), request);
        }
        Some(gathering)
    }
}
