//! The scatter/gather machine: one query in, a question to each node that owns a part of it, one
//! answer out before the deadline, which says for every node what became of its part.
//!
//! The caller plans (who owns what), connects, and guards connections with breakers; it tells this
//! machine what came of it. Here is only what is the same for all: deadlines and their margins,
//! numbering, bounds, merging, and the decision between complete, partial and failed. It knows no
//! sockets and no partition; a leaf is a number.
//!
//! Invariant: every gather that began ends in exactly one answer, unless its asker left or stopped it.
//!
//! Absent on purpose: retries and hedging. A part of a plan is one question with one leaf; a later
//! set of candidate leaves belongs into `part::Part`, where the leaf stands now.

mod answer;
mod merge;
mod part;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::limits::{
    GATHER_CANCELS_MAX, GATHER_DEADLINE_US_MAX, GATHER_FRAMES_MAX, GATHER_FRAMES_TOTAL_MAX,
    GATHER_LEAVES_MAX, GATHERS_MAX,
};
use crate::planted::{Bug, is_planted};
use crate::time::Mono;
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, NodeStatus, Query, Refusal, U32};

pub use answer::Answer;
pub use words::{Ask, Availability, Counts, GatherId, LeafId, LeafPlan, Refused, Reply};

use part::{Part, Role};

/// One query under way.
#[derive(Debug)]
struct Gathering {
    asker: u64,
    query: Query,
    begun: Mono,
    /// When the answer is made with what there is.
    due: Mono,
    parts: Vec<Part>,
    /// Parts that have not ended.
    open: usize,
    /// Frames held in all parts.
    frames: usize,
}

/// The machine. See the module.
#[derive(Debug, Default)]
pub struct Gather {
    next_gather: u64,
    next_query_id: u32,
    gathers: BTreeMap<GatherId, Gathering>,
    by_asker: BTreeMap<(u64, u32), GatherId>,
    by_query_id: BTreeMap<u32, (GatherId, usize)>,
    by_due: BTreeSet<(Mono, GatherId)>,
    /// Frames held in all gathers.
    frames: usize,
    asks: VecDeque<Ask>,
    cancels: VecDeque<(LeafId, u32)>,
    answers: VecDeque<Answer>,
    counts: Counts,
}

impl Gather {
    /// A machine with nothing in flight.
    #[must_use]
    pub fn new() -> Gather {
        Gather::default()
    }

    /// Takes a query of `asker` with its plan. When nobody can be asked the answer is ready at once.
    ///
    /// # Errors
    /// When the query cannot be taken; nothing has begun then, and no answer follows.
    pub fn begin(
        &mut self,
        now: Mono,
        asker: u64,
        query: &Query,
        plan: &[LeafPlan],
    ) -> Result<GatherId, Refused> {
        let parts = self.check(asker, query, plan).inspect_err(|_| self.counts.refused += 1)?;
        let times = Times::new(query.deadline_us.get());
        let id = GatherId(self.next_gather);
        self.next_gather += 1;
        let mut gathering = Gathering {
            asker,
            query: *query,
            begun: now,
            due: now + times.own,
            parts,
            open: 0,
            frames: 0,
        };
        for (index, (part, plan)) in gathering.parts.iter_mut().zip(plan).enumerate() {
            if part.status.is_some() {
                continue;
            }
            part.query_id = self.fresh_query_id();
            gathering.open += 1;
            self.by_query_id.insert(part.query_id, (id, index));
            let mut question = plan.question;
            question.id = U32::new(part.query_id);
            question.deadline_us = U32::new(micros(times.leaf));
            let ask = Ask { leaf: plan.leaf, query: question, deadline: now + times.leaf };
            self.asks.push_back(ask);
        }
        self.counts.begun += 1;
        self.by_asker.insert((asker, query.id.get()), id);
        self.by_due.insert((gathering.due, id));
        let nobody_to_ask = gathering.open == 0;
        self.gathers.insert(id, gathering);
        if nobody_to_ask {
            self.finish(id, None);
        }
        Ok(id)
    }

    /// Takes a data frame of a leaf's answer. A definition is taken too: it goes before the data.
    pub fn handle_row(&mut self, leaf: LeafId, query_id: u32, frame: &Frame) -> Reply {
        let Some((id, index)) = self.find(leaf, query_id) else { return Reply::Late };
        let Some(gathering) = self.gathers.get_mut(&id) else { return Reply::Late };
        let Some(part) = gathering.parts.get_mut(index) else { return Reply::Late };
        if !part.take(frame) {
            self.counts.unexpected += 1;
            let elapsed = Duration::ZERO;
            self.end_part(id, index, NodeStatus::Failed, elapsed);
            return Reply::Unexpected;
        }
        gathering.frames += 1;
        self.frames += 1;
        if gathering.frames > GATHER_FRAMES_MAX {
            self.finish(id, Some((ErrorCode::Limit, "more rows than one answer may have")));
        } else if self.frames > GATHER_FRAMES_TOTAL_MAX {
            self.finish(id, Some((ErrorCode::Limit, "all queries together hold too many rows")));
        }
        Reply::Taken
    }

    /// Takes the end of a leaf's answer.
    pub fn handle_end(&mut self, leaf: LeafId, query_id: u32, end: &Ended, now: Mono) -> Reply {
        self.handle_timeout(now);
        let Some((id, index)) = self.find(leaf, query_id) else { return Reply::Late };
        let Some(gathering) = self.gathers.get_mut(&id) else { return Reply::Late };
        let elapsed = now.since(gathering.begun);
        let Some(part) = gathering.parts.get_mut(index) else { return Reply::Late };
        let Some(status) = part.take_end(end) else {
            self.counts.unexpected += 1;
            self.end_part(id, index, NodeStatus::Failed, elapsed);
            return Reply::Unexpected;
        };
        self.end_part(id, index, status, elapsed);
        Reply::Taken
    }

    /// Takes a leaf's refusal of a question. It is the whole answer: no end follows.
    pub fn handle_refusal(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        refusal: &Refusal,
        now: Mono,
    ) -> Reply {
        self.handle_timeout(now);
        let Some((id, index)) = self.find(leaf, query_id) else { return Reply::Late };
        let Some(gathering) = self.gathers.get_mut(&id) else { return Reply::Late };
        let elapsed = now.since(gathering.begun);
        if let Some(part) = gathering.parts.get_mut(index) {
            part.code = ErrorCode::from_number(refusal.code.get());
            part.text = refusal.text;
        }
        self.end_part(id, index, NodeStatus::Failed, elapsed);
        Reply::Taken
    }

    /// Takes note that a question came to nothing, as the caller found out by itself: it could not be
    /// sent, or the leaf's breaker opened, or its frames do not pass the checks.
    pub fn handle_leaf_error(
        &mut self,
        leaf: LeafId,
        query_id: u32,
        status: NodeStatus,
        now: Mono,
    ) -> Reply {
        self.handle_timeout(now);
        let Some((id, index)) = self.find(leaf, query_id) else { return Reply::Late };
        let Some(gathering) = self.gathers.get(&id) else { return Reply::Late };
        let elapsed = now.since(gathering.begun);
        // An error is no answer, whatever its name.
        let status = match status {
            NodeStatus::Ok | NodeStatus::Pruned | NodeStatus::Corrupt => NodeStatus::Failed,
            other => other,
        };
        self.end_part(id, index, status, elapsed);
        Reply::Taken
    }

    /// Takes note that the connection to a leaf is gone, and with it everything it was asked.
    pub fn handle_leaf_lost(&mut self, leaf: LeafId, now: Mono) {
        self.handle_timeout(now);
        let lost: Vec<(GatherId, usize)> = self
            .by_query_id
            .values()
            .filter(|(id, index)| {
                let part = self.gathers.get(id).and_then(|g| g.parts.get(*index));
                part.is_some_and(|part| part.leaf == leaf)
            })
            .copied()
            .collect();
        self.cancels.retain(|(cancelled, _)| *cancelled != leaf);
        for (id, index) in lost {
            let Some(gathering) = self.gathers.get(&id) else { continue };
            let elapsed = now.since(gathering.begun);
            self.end_part(id, index, NodeStatus::Refused, elapsed);
        }
    }

    /// Answers every query whose time is over with what there is.
    pub fn handle_timeout(&mut self, now: Mono) {
        while let Some((due, id)) = self.by_due.first().copied().filter(|(due, _)| *due <= now) {
            self.by_due.remove(&(due, id));
            let Some(gathering) = self.gathers.get(&id) else { continue };
            let elapsed = now.since(gathering.begun);
            let open = |(index, part): (usize, &Part)| part.status.is_none().then_some(index);
            let open: Vec<usize> = gathering.parts.iter().enumerate().filter_map(open).collect();
            // The last one makes the answer.
            for index in open {
                self.cancel(id, index);
                let forgets = is_planted(Bug::ForgetMissingNode);
                let status = if forgets { NodeStatus::Pruned } else { NodeStatus::Timeout };
                self.end_part(id, index, status, elapsed);
            }
        }
    }

    /// When [`Gather::handle_timeout`] wants to be called, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Forgets everything that an asker asked; its leaves are told to stop.
    pub fn handle_asker_left(&mut self, asker: u64) {
        let ids: Vec<u32> =
            self.by_asker.range((asker, 0)..=(asker, u32::MAX)).map(|((_, id), _)| *id).collect();
        for id in ids {
            self.stop(asker, id);
        }
        self.answers.retain(|answer| answer.asker != asker);
    }

    /// Forgets one query of an asker (see [`crate::wire::Op::Stop`]); whether it was in flight. No answer follows.
    pub fn stop(&mut self, asker: u64, client_query_id: u32) -> bool {
        let Some(id) = self.by_asker.get(&(asker, client_query_id)).copied() else { return false };
        self.counts.abandoned += 1;
        self.take_out(id).is_some()
    }

    /// The next question to send.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// The next question that a leaf need not answer any more.
    pub fn poll_cancel(&mut self) -> Option<(LeafId, u32)> {
        self.cancels.pop_front()
    }

    /// The next finished answer.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// Queries in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.gathers.len()
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Checks a query and its plan, and makes the parts.
    fn check(&self, asker: u64, query: &Query, plan: &[LeafPlan]) -> Result<Vec<Part>, Refused> {
        if self.gathers.len() + self.answers.len() >= GATHERS_MAX {
            return Err(Refused::InFlight);
        }
        let role = Role::of(query).ok_or(Refused::Op)?;
        let id = query.id.get();
        if id == 0 || self.by_asker.contains_key(&(asker, id)) {
            return Err(Refused::Id);
        }
        if query.deadline_us.get() == 0 {
            return Err(Refused::Deadline);
        }
        if plan.len() > GATHER_LEAVES_MAX {
            return Err(Refused::Plan);
        }
        let part =
            |leaf| Part::new(leaf).filter(|part| part.role == Role::Quote || part.role == role);
        plan.iter().map(|leaf| part(leaf).ok_or(Refused::Plan)).collect()
    }

    /// A number for a question: never 0, never one that is still open.
    fn fresh_query_id(&mut self) -> u32 {
        loop {
            self.next_query_id = self.next_query_id.wrapping_add(1);
            if self.next_query_id != 0 && !self.by_query_id.contains_key(&self.next_query_id) {
                return self.next_query_id;
            }
        }
    }

    /// The open part that a leaf's frame belongs to; a frame without one is counted as late.
    fn find(&mut self, leaf: LeafId, query_id: u32) -> Option<(GatherId, usize)> {
        let found = self.by_query_id.get(&query_id).copied().filter(|(id, index)| {
            let part = self.gathers.get(id).and_then(|g| g.parts.get(*index));
            part.is_some_and(|part| part.leaf == leaf)
        });
        if found.is_none() {
            self.counts.late += 1;
        }
        found
    }

    /// Ends one part; with the last one, the gather.
    fn end_part(&mut self, id: GatherId, index: usize, status: NodeStatus, elapsed: Duration) {
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let Some(part) = gathering.parts.get_mut(index) else { return };
        self.by_query_id.remove(&part.query_id);
        let query_id = part.query_id;
        self.asks.retain(|ask| ask.query.id.get() != query_id);
        let dropped = part.end(status, elapsed);
        gathering.frames -= dropped;
        self.frames -= dropped;
        gathering.open -= 1;
        if gathering.open == 0 {
            self.finish(id, None);
        }
    }

    /// Makes the one answer of a gather; `failure` when it is known to have failed as a whole.
    fn finish(&mut self, id: GatherId, failure: Option<(ErrorCode, &str)>) {
        let Some(gathering) = self.take_out(id) else { return };
        let answer = answer::make(&gathering, failure);
        match answer.status {
            EndStatus::Complete => self.counts.complete += 1,
            EndStatus::Partial => self.counts.partial += 1,
            EndStatus::Failed => self.counts.failed += 1,
        }
        if is_planted(Bug::AnswerTwice) {
            self.answers.push_back(answer.clone());
        }
        self.answers.push_back(answer);
    }

    /// Takes back an open question: unasks it when it was not sent, else has the leaf told to stop.
    fn cancel(&mut self, id: GatherId, index: usize) {
        let part = self.gathers.get(&id).and_then(|gathering| gathering.parts.get(index));
        let Some(part) = part.filter(|part| part.status.is_none()) else { return };
        self.by_query_id.remove(&part.query_id);
        let waiting = self.asks.len();
        self.asks.retain(|ask| ask.query.id.get() != part.query_id);
        if self.asks.len() < waiting {
            return;
        }
        if self.cancels.len() >= GATHER_CANCELS_MAX {
            self.cancels.pop_front();
            self.counts.cancels_dropped += 1;
        }
        self.cancels.push_back((part.leaf, part.query_id));
    }

    /// Removes a gather from every table, and cancels what is still open of it.
    fn take_out(&mut self, id: GatherId) -> Option<Gathering> {
        let parts = self.gathers.get(&id)?.parts.len();
        for index in 0..parts {
            self.cancel(id, index);
        }
        let gathering = self.gathers.remove(&id)?;
        self.by_asker.remove(&(gathering.asker, gathering.query.id.get()));
        self.by_due.remove(&(gathering.due, id));
        self.frames -= gathering.parts.iter().map(Part::frames_held).sum::<usize>();
        Some(gathering)
    }
}

/// A deadline divided: what the leaves get, and when the answer is made.
struct Times {
    leaf: Duration,
    own: Duration,
}

impl Times {
    /// The leaves get all but a margin of a tenth, at least 2 ms, at most half: time to come back. The
    /// answer is made when half of the margin is left: time to go out, and for a timer that rounds up
    /// to 1 ms.
    fn new(deadline_us: u32) -> Times {
        let all = deadline_us.min(GATHER_DEADLINE_US_MAX);
        let margin = (all / 10).max(2_000).min(all / 2);
        let from_micros = |us: u32| Duration::from_micros(u64::from(us));
        Times { leaf: from_micros(all - margin), own: from_micros(all - margin / 2) }
    }
}

/// Whole microseconds, saturated.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
