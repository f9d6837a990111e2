//! The scatter/gather machine: one query in, a question to one copy of each part of it, one answer out
//! before the deadline, which shows for every node what became of it.
//!
//! The caller plans (which nodes hold which part), connects, and guards connections with breakers. It hands
//! what comes from the leaves to this machine. Here is what is the same for all: deadlines and their margins,
//! numbering, bounds, whom to ask first and whom as well, merging, and the decision between complete, partial
//! and failed. It knows no sockets and no partition; a leaf is a number.
//!
//! A copy that fails is followed by the next one at once (a retry). A copy that takes longer than what 19 of
//! 20 answers take is hedged: another is asked as well, the first good answer is taken, and the other request
//! is cancelled. A copy from which nothing comes for much longer is silent: another copy is asked instead (a
//! failover), the silent one is asked last from then on, and probed until it answers again. Hedges, failovers
//! and probes are paid from budgets of together one in twenty questions, so that a system that is slow as a
//! whole is not asked twice as much for it. A retry has no budget: each copy is asked once at most.
//!
//! Where things are: `gathering` is the state of one query and its attempts, `in_flight` all of them with
//! their tables, `leaves` what is known of the nodes, `outbox` what is to be sent. What moves them:
//! `admission` takes queries, `scatter` asks, `hedging` and `probing` ask beside, `completion` ends,
//! and `answer` and `merge` make the frames.
//!
//! Invariant: every gather that began ends in exactly one answer, unless its client left or stopped it.
//!
//! Invariant: no copy of a part is asked twice for one query, except as a probe, for which nobody waits.

mod admission;
mod answer;
mod budget;
mod completion;
mod counts;
mod gathering;
mod hedging;
mod in_flight;
mod latency;
mod leaves;
mod merge;
mod outbox;
mod plan;
mod probing;
mod request;
mod scatter;
mod silence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::question::Question;
use crate::time::Mono;
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, NodeStatus, Refusal, Seq};

pub use admission::AdmissionError;
pub use answer::Answer;
pub use counts::Counts;
pub use plan::{Availability, LeafId, PartPlan, Replica};
pub use request::{FrameOutcome, Request};

use budget::Budgets;
use gathering::{AttemptId, ClientQuery, RowsTaken};
use in_flight::InFlight;
use leaves::Leaves;
use outbox::Outbox;
use request::RequestId;
use silence::ProbeOutcome;

/// `as_of` of a question that wants all nodes to answer at one cut and leaves it to us which.
pub const NEWEST_COMMON_CUT: Seq = Seq::LAST;

/// A gather, unique in the life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatherId(pub u64);

/// The machine. See the module.
#[derive(Debug, Default)]
pub struct Gather {
    last_request: u32,
    in_flight: InFlight,
    leaves: Leaves,
    budgets: Budgets,
    outbox: Outbox,
    counts: Counts,
    /// A node that is further behind than this has not answered in full; `None`: nobody is judged.
    behind_max: Option<Duration>,
}

impl Gather {
    /// A machine with nothing in flight.
    #[must_use]
    pub fn new() -> Gather {
        Gather::default()
    }

    /// The same; a node that is further behind than `limit` has not answered in full.
    #[must_use]
    pub fn with_behind_max(limit: Duration) -> Gather {
        Gather { behind_max: Some(limit), ..Gather::default() }
    }

    /// Takes a query of `client` with its plan. When nobody can be asked the answer is ready at once.
    ///
    /// # Errors
    /// When the query cannot be taken; nothing has begun then, and no answer follows.
    pub fn begin(
        &mut self,
        now: Mono,
        client: u64,
        question: &Question,
        plan: Vec<PartPlan>,
    ) -> Result<GatherId, AdmissionError> {
        let parts =
            self.admit(now, client, question, plan).inspect_err(|_| self.counts.refused += 1)?;
        let gathering = self.in_flight.insert(client, question, parts, now);
        let (id, is_done) = (gathering.id(), gathering.is_done());
        self.counts.begun += 1;
        if is_done {
            self.finish(id, None);
        } else {
            self.scatter(now, id);
        }
        Ok(id)
    }

    /// Takes frames of a leaf's answer that came together: rows, or definitions, which go before the rows.
    /// Those behind one that is not taken are not looked at.
    pub fn handle_rows(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        frames: &[Frame],
        now: Mono,
    ) -> FrameOutcome {
        let request = RequestId(query_id);
        if self.leaves.probe(leaf, request).is_some() {
            self.leaves.note_heard(now, leaf);
            return FrameOutcome::Taken;
        }
        let Some(id) = self.open_attempt(leaf, request) else {
            // The first is counted.
            self.counts.late += (frames.len() as u64).saturating_sub(1);
            return FrameOutcome::Late;
        };
        self.leaves.note_heard(now, leaf);
        match self.in_flight.take_rows(id, frames) {
            Some(RowsTaken::All) => {}
            Some(RowsTaken::Unexpected) => return self.break_off(now, id),
            Some(RowsTaken::OverLimit { text, rest }) => {
                self.counts.late += rest as u64;
                self.finish(id.gather(), Some((ErrorCode::Limit, text)));
            }
            None => return FrameOutcome::Late,
        }
        FrameOutcome::Taken
    }

    /// Takes the end of a leaf's answer.
    pub fn handle_end(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        end: &Ended,
        now: Mono,
    ) -> FrameOutcome {
        let request = RequestId(query_id);
        self.note_end_as_of(now, leaf, request, end);
        self.end_due(now);
        let code = ErrorCode::from_number(end.code.get());
        let outcome = match EndStatus::from_number(end.status) {
            Some(EndStatus::Complete) => ProbeOutcome::Complete,
            Some(EndStatus::Failed) => ProbeOutcome::Incomplete(code),
            _ => ProbeOutcome::Incomplete(None),
        };
        if self.end_probe(leaf, request, now, outcome) {
            return FrameOutcome::Taken;
        }
        let Some(id) = self.open_attempt(leaf, request) else { return FrameOutcome::Late };
        let Some((attempt, rows, status)) = self.in_flight.take_end(id, end, self.behind_max)
        else {
            return FrameOutcome::Late;
        };
        // How long it waited for a cut is not how fast it is.
        let is_sample = status == Some(NodeStatus::Ok) && !attempt.is_ahead();
        self.leaves.note_answered(now, leaf, rows, now.since(attempt.begun()), is_sample);
        let Some(status) = status else { return self.break_off(now, id) };
        self.end_attempt(now, id, status);
        FrameOutcome::Taken
    }

    /// Takes a leaf's refusal of a question. It is the whole answer: no end follows.
    pub fn handle_refusal(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        refusal: &Refusal,
        now: Mono,
    ) -> FrameOutcome {
        let request = RequestId(query_id);
        self.end_due(now);
        let outcome = ProbeOutcome::Incomplete(ErrorCode::from_number(refusal.code.get()));
        if self.end_probe(leaf, request, now, outcome) {
            return FrameOutcome::Taken;
        }
        let Some(id) = self.open_attempt(leaf, request) else { return FrameOutcome::Late };
        if let Some((attempt, rows)) = self.in_flight.take_refusal(id, refusal) {
            let took = now.since(attempt.begun());
            self.leaves.note_answered(now, leaf, rows, took, false);
        }
        self.end_attempt(now, id, NodeStatus::Failed);
        FrameOutcome::Taken
    }

    /// Takes note that a question came to nothing, as the caller found out by itself: it could not be
    /// sent, or the leaf's breaker opened, or its frames do not pass the checks.
    pub fn handle_request_failed(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        status: NodeStatus,
        now: Mono,
    ) -> FrameOutcome {
        let request = RequestId(query_id);
        self.end_due(now);
        if self.end_probe(leaf, request, now, ProbeOutcome::NoAnswer) {
            return FrameOutcome::Taken;
        }
        let Some(id) = self.open_attempt(leaf, request) else { return FrameOutcome::Late };
        // An error is no answer, whatever its name.
        let status = match status {
            NodeStatus::Timeout | NodeStatus::Refused | NodeStatus::BreakerOpen => status,
            _ => NodeStatus::Failed,
        };
        self.end_attempt(now, id, status);
        FrameOutcome::Taken
    }

    /// Takes note that the connection to a leaf is gone, and with it everything it was asked.
    pub fn handle_leaf_lost(&mut self, leaf: LeafId, now: Mono) {
        self.end_due(now);
        if let Some(probe) = self.leaves.open_probe(leaf) {
            self.end_probe(leaf, probe.request, now, ProbeOutcome::NoAnswer);
        }
        self.outbox.forget_cancels_of(leaf);
        for id in self.in_flight.open_attempts_at(|it| it == leaf) {
            self.end_attempt(now, id, NodeStatus::Refused);
        }
    }

    /// Takes note of how far a leaf is, as it reports outside of an answer.
    pub fn note_as_of(&mut self, now: Mono, leaf: LeafId, as_of: Option<Seq>) {
        self.leaves.note_as_of(now, leaf, as_of, false);
    }

    /// The same of a leaf that does not know whether core is far beyond that place.
    pub fn note_old_place(&mut self, now: Mono, leaf: LeafId, as_of: Option<Seq>) {
        self.leaves.note_as_of(now, leaf, as_of, true);
    }

    /// Takes note of how far a leaf says that it is when it is connected.
    pub fn note_greeting(&mut self, leaf: LeafId, as_of: Option<Seq>) {
        self.leaves.note_greeting(leaf, as_of);
    }

    /// Takes note of how far a leaf is: an answer at a cut shows only that it is there.
    fn note_end_as_of(&mut self, now: Mono, leaf: LeafId, request: RequestId, end: &Ended) {
        let part = self.in_flight.part_of(request);
        let is_of_now = part.is_some_and(|part| part.question().as_of.is_none());
        let has_not_come = end.code.get() == ErrorCode::Behind as u16;
        match is_of_now || has_not_come {
            true => {
                let is_old = has_not_come || end.behind_ms.get() > 0;
                self.leaves.note_as_of(now, leaf, end.as_of(), is_old);
            }
            false => self.leaves.note_reached(leaf, end.as_of()),
        }
    }

    /// Finds out who is silent, asks other copies where the first takes long, and answers every query whose
    /// time is over with what there is. To be called after all that has come was handed over.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.end_due(now);
        self.check_slow(now);
    }

    /// Answers every query whose time is over. An answer that comes at the same moment is late. Nobody else is
    /// asked yet: what is about to be handed over may be the very answer.
    fn end_due(&mut self, now: Mono) {
        while let Some(id) = self.in_flight.pop_due(now) {
            let Some(gathering) = self.in_flight.gathering(id) else { continue };
            let open: Vec<AttemptId> = gathering.open_attempts().map(|(id, _, _)| id).collect();
            // The last one makes the answer.
            for attempt in open {
                self.time_out(now, attempt);
            }
        }
    }

    /// When [`Gather::handle_timeout`] wants to be called, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let due = self.in_flight.next_due();
        let hedge = self.in_flight.next_hedge();
        let silence = self.leaves.next_silence();
        let probe = self.leaves.next_probe_due();
        due.into_iter().chain(hedge).chain(silence).chain(probe).min()
    }

    /// Forgets everything that a client asked; open requests are cancelled.
    pub fn handle_client_left(&mut self, client: u64) {
        for id in self.in_flight.queries_of(client) {
            self.stop(client, id);
        }
        self.outbox.forget_answers_of(client);
    }

    /// Forgets one query of a client (see [`crate::wire::Op::Stop`]); whether it was in flight. No answer follows.
    pub fn stop(&mut self, client: u64, client_query_id: u32) -> bool {
        let query = ClientQuery { client, id: client_query_id };
        let Some(id) = self.in_flight.of_client_query(query) else { return false };
        self.counts.abandoned += 1;
        self.remove(id).is_some()
    }

    /// The next question to send. The caller reports one that cannot be sent by [`Gather::handle_request_failed`].
    pub fn poll_request(&mut self) -> Option<Request> {
        self.outbox.poll_request()
    }

    /// The next question that a leaf need not answer any more.
    pub fn poll_cancel(&mut self) -> Option<(LeafId, u32)> {
        self.outbox.poll_cancel()
    }

    /// The next finished answer.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.outbox.poll_answer()
    }

    /// Queries in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The newest cut that any node has shown: a query about a later one waits.
    #[must_use]
    pub fn newest_cut(&self) -> Option<Seq> {
        self.leaves.newest_cut()
    }

    /// Nodes that keep questions and say nothing.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.leaves.silent()
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The open attempt that a leaf's frame belongs to; a frame without one is counted as late.
    fn open_attempt(&mut self, leaf: LeafId, request: RequestId) -> Option<AttemptId> {
        let found = self.in_flight.attempt_of(leaf, request);
        if found.is_none() {
            self.counts.late += 1;
        }
        found
    }

    /// A leaf broke the protocol in its answer.
    fn break_off(&mut self, now: Mono, id: AttemptId) -> FrameOutcome {
        self.counts.unexpected += 1;
        self.end_attempt(now, id, NodeStatus::Failed);
        FrameOutcome::Unexpected
    }
}
