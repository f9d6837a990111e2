//! The scatter/gather machine: one query in, a question to one copy of each part of it, one answer out
//! before the deadline, which says for every node what became of it.
//!
//! The caller plans (which nodes hold which part), connects, and guards connections with breakers; it tells
//! this machine what came of it. Here is what is the same for all: deadlines and their margins, numbering,
//! bounds, whom to ask first and whom as well, merging, and the decision between complete, partial and
//! failed. It knows no sockets and no partition; a leaf is a number.
//!
//! A copy that fails is followed by the next one at once. A copy that takes longer than what 19 of 20
//! answers take is hedged: another is asked as well, the first good answer is taken, and the other is told
//! to stop. A copy that says nothing for much longer is silent: what it was asked is asked of another, it is
//! asked last from then on, and probed until it answers again. Hedges, fail-over and probes are paid from
//! budgets of together one in twenty questions, so that a system that is slow as a whole is not asked twice as
//! much for it. Asking the next copy after a failure has no budget: each copy is asked once at most.
//!
//! Invariant: every gather that began ends in exactly one answer, unless its asker left or stopped it.
//!
//! Invariant: no copy of a part is asked twice for one query, except as a probe, for which nobody waits.

mod answer;
mod asking;
mod budget;
mod gathering;
mod latency;
mod leaves;
mod merge;
mod part;
mod silence;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{
    GATHER_FRAMES_MAX, GATHER_FRAMES_TOTAL_MAX, GATHER_LEAVES_MAX, GATHER_QUESTIONS_MAX,
    GATHERS_MAX,
};
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{EndStatus, Ended, ErrorCode, Frame, NodeStatus, Refusal};

pub use answer::Answer;
pub use words::{Ask, Availability, Candidate, Counts, GatherId, LeafId, PartPlan, Refused, Reply};

use gathering::{Gathering, Place, Times, Why};
use leaves::Leaves;
use part::{Attempt, Part, Role};
use silence::Said;

/// `as_of` of a question that wants all nodes to answer at one cut and leaves it to us which.
pub const CUT_OF_OURS: u64 = u64::MAX;

/// The machine. See the module.
#[derive(Debug, Default)]
pub struct Gather {
    next_gather: u64,
    next_query_id: u32,
    gathers: BTreeMap<GatherId, Box<Gathering>>,
    by_asker: BTreeMap<(u64, u32), GatherId>,
    by_query_id: BTreeMap<u32, Place>,
    by_due: BTreeSet<(Mono, GatherId)>,
    by_hedge: BTreeSet<(Mono, GatherId, usize)>,
    leaves: Leaves,
    /// Frames held in all gathers.
    frames: usize,
    asks: VecDeque<Ask>,
    cancels: VecDeque<(LeafId, u32)>,
    answers: VecDeque<Answer>,
    counts: Counts,
}

/// Whether a code says the same about every question; an unknown symbol or a limit does not.
fn is_sick(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Storage | ErrorCode::Stopping | ErrorCode::Failed)
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
        question: &Question,
        plan: Vec<PartPlan>,
    ) -> Result<GatherId, Refused> {
        let parts = self.check(asker, question, plan).inspect_err(|_| self.counts.refused += 1)?;
        let query = question.query;
        let times = Times::new(query.deadline_us.get());
        let id = GatherId(self.next_gather);
        self.next_gather += 1;
        let gathering = Box::new(Gathering {
            asker,
            query,
            is_list: question.symbol().is_none(),
            begun: now,
            leaves_due: now + times.leaf,
            due: now + times.own,
            open: parts.iter().filter(|part| !part.is_done).count(),
            parts,
            frames: 0,
        });
        self.counts.begun += 1;
        self.by_asker.insert((asker, query.id.get()), id);
        self.by_due.insert((gathering.due, id));
        // History takes longest, so it is asked first: to send a question may cost as much as a quote, when
        // it wakes a node on a processor that sleeps.
        let count = gathering.parts.len();
        self.gathers.insert(id, gathering);
        for quotes in [false, true] {
            for index in 0..count {
                // The gather may have ended meanwhile, when nobody could be asked.
                let part = self.gathers.get(&id).and_then(|it| it.parts.get(index));
                if part.is_some_and(|it| !it.is_done && (it.role == Role::Quote) == quotes) {
                    self.ask(now, id, index, Why::First);
                }
            }
        }
        // Nobody can be asked: the loop above may have ended it already.
        if self.gathers.get(&id).is_some_and(|gathering| gathering.open == 0) {
            self.finish(id, None);
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
    ) -> Reply {
        if self.leaves.probe(leaf, query_id).is_some() {
            self.leaves.note_heard(now, leaf);
            return Reply::Taken;
        }
        let Some(place) = self.find(leaf, query_id) else {
            // The first is counted.
            self.counts.late += (frames.len() as u64).saturating_sub(1);
            return Reply::Late;
        };
        self.leaves.note_heard(now, leaf);
        let (id, index, attempt) = place;
        let Some(gathering) = self.gathers.get_mut(&id) else { return Reply::Late };
        let Some(part) = gathering.parts.get_mut(index) else { return Reply::Late };
        let role = part.role;
        let Some(attempt) = part.attempts.get_mut(attempt) else { return Reply::Late };
        for (number, frame) in frames.iter().enumerate() {
            if !attempt.take(role, frame) {
                self.counts.unexpected += 1;
                self.end_attempt(now, place, NodeStatus::Failed);
                return Reply::Unexpected;
            }
            gathering.frames += 1;
            self.frames += 1;
            let text = if gathering.frames > GATHER_FRAMES_MAX {
                "more rows than one answer may have"
            } else if self.frames > GATHER_FRAMES_TOTAL_MAX {
                "all queries together hold too many rows"
            } else {
                continue;
            };
            self.counts.late += (frames.len() - number - 1) as u64;
            self.finish(id, Some((ErrorCode::Limit, text)));
            break;
        }
        Reply::Taken
    }

    /// Takes the end of a leaf's answer.
    pub fn handle_end(&mut self, leaf: LeafId, query_id: u32, end: &Ended, now: Mono) -> Reply {
        self.note_end_as_of(leaf, query_id, end);
        self.end_due(now);
        let code = ErrorCode::from_number(end.code.get());
        let said = match EndStatus::from_number(end.status) {
            Some(EndStatus::Complete) => Said::Answer,
            Some(EndStatus::Failed) => Said::No(code),
            _ => Said::No(None),
        };
        if self.end_probe(leaf, query_id, now, said) {
            return Reply::Taken;
        }
        let Some(place) = self.find(leaf, query_id) else { return Reply::Late };
        let Some((role, attempt)) = self.attempt_mut(place) else { return Reply::Late };
        let asked = attempt.asked;
        let status = attempt.take_end(role, end);
        // How long it waited for a cut is not how fast it is.
        let is_good = status == Some(NodeStatus::Ok) && !attempt.is_ahead;
        self.leaves.note_answered(now, leaf, role, now.since(asked), is_good);
        let Some(status) = status else {
            self.counts.unexpected += 1;
            self.end_attempt(now, place, NodeStatus::Failed);
            return Reply::Unexpected;
        };
        self.end_attempt(now, place, status);
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
        self.end_due(now);
        let said = Said::No(ErrorCode::from_number(refusal.code.get()));
        if self.end_probe(leaf, query_id, now, said) {
            return Reply::Taken;
        }
        let Some(place) = self.find(leaf, query_id) else { return Reply::Late };
        if let Some((role, attempt)) = self.attempt_mut(place) {
            attempt.code = ErrorCode::from_number(refusal.code.get());
            attempt.text = refusal.text;
            let took = now.since(attempt.asked);
            self.leaves.note_answered(now, leaf, role, took, false);
        }
        self.end_attempt(now, place, NodeStatus::Failed);
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
        self.end_due(now);
        if self.end_probe(leaf, query_id, now, Said::Nothing) {
            return Reply::Taken;
        }
        let Some(place) = self.find(leaf, query_id) else { return Reply::Late };
        // An error is no answer, whatever its name.
        let status = match status {
            NodeStatus::Timeout | NodeStatus::Refused | NodeStatus::BreakerOpen => status,
            _ => NodeStatus::Failed,
        };
        self.end_attempt(now, place, status);
        Reply::Taken
    }

    /// Takes note that the connection to a leaf is gone, and with it everything it was asked.
    pub fn handle_leaf_lost(&mut self, leaf: LeafId, now: Mono) {
        self.end_due(now);
        if let Some(probe) = self.leaves.open_probe(leaf) {
            self.end_probe(leaf, probe.query_id, now, Said::Nothing);
        }
        let of_leaf = |place: &&Place| self.attempt(**place).is_some_and(|it| it.leaf == leaf);
        let lost: Vec<Place> = self.by_query_id.values().filter(of_leaf).copied().collect();
        self.cancels.retain(|(cancelled, _)| *cancelled != leaf);
        for place in lost {
            self.end_attempt(now, place, NodeStatus::Refused);
        }
    }

    /// Takes note of how far a leaf says that it is, outside of an answer.
    pub fn note_as_of(&mut self, leaf: LeafId, as_of: u64) {
        self.leaves.note_as_of(leaf, as_of);
    }

    /// Takes note of how far a leaf is: the answer at a cut says only that it is there.
    fn note_end_as_of(&mut self, leaf: LeafId, query_id: u32, end: &Ended) {
        let place = self.by_query_id.get(&query_id).copied();
        let part = place.and_then(|(id, index, _)| self.gathers.get(&id)?.parts.get(index));
        let is_of_now = part.is_some_and(|part| part.question.as_of == 0);
        match is_of_now || end.code.get() == ErrorCode::Behind as u16 {
            true => self.leaves.note_as_of(leaf, end.as_of.get()),
            false => self.leaves.note_reached(leaf, end.as_of.get()),
        }
    }

    /// Finds out who is silent, asks other copies where the first takes long, and answers every query whose
    /// time is over with what there is. To be called when what has come has been told.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.end_due(now);
        self.look(now);
    }

    /// Answers every query whose time is over. An answer that comes at the same moment is late. Nobody else is
    /// asked yet: what is about to be told may be the very answer.
    fn end_due(&mut self, now: Mono) {
        while let Some((due, id)) = self.by_due.first().copied().filter(|(due, _)| *due <= now) {
            self.by_due.remove(&(due, id));
            let Some(gathering) = self.gathers.get(&id) else { continue };
            let mut open: Vec<Place> = Vec::new();
            for (index, part) in gathering.parts.iter().enumerate() {
                let attempts = part.attempts.iter().enumerate();
                let asked = attempts.filter(|(_, attempt)| attempt.status.is_none());
                open.extend(asked.map(|(attempt, _)| (id, index, attempt)));
            }
            // The last one makes the answer.
            for place in open {
                self.cancel(place);
                let forgets = is_planted(Bug::ForgetMissingNode);
                let status = if forgets { NodeStatus::Pruned } else { NodeStatus::Timeout };
                self.end_attempt(now, place, status);
            }
        }
    }

    /// When [`Gather::handle_timeout`] wants to be called, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let due = self.by_due.first().map(|(due, _)| *due);
        let hedge = self.by_hedge.first().map(|(at, _, _)| *at);
        let silence = self.leaves.next_silence();
        let probe = self.leaves.next_probe_due();
        due.into_iter().chain(hedge).chain(silence).chain(probe).min()
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

    /// The next question to send. One that cannot be sent is told by [`Gather::handle_leaf_error`].
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

    /// Checks a query and its plan, and makes the parts.
    fn check(
        &self,
        asker: u64,
        question: &Question,
        plan: Vec<PartPlan>,
    ) -> Result<Vec<Part>, Refused> {
        let busy = self.gathers.len() + self.answers.len() >= GATHERS_MAX
            || self.by_query_id.len() >= GATHER_QUESTIONS_MAX;
        if busy {
            return Err(Refused::InFlight);
        }
        let query = &question.query;
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
        let mut parts = Vec::with_capacity(plan.len());
        for plan in plan {
            let part = Part::new(plan).filter(|it| it.role == Role::Quote || it.role == role);
            parts.push(part.ok_or(Refused::Plan)?);
        }
        if question.as_of == CUT_OF_OURS {
            let cut = self.leaves.common_cut(&parts);
            if cut == 0 {
                return Err(Refused::Cut);
            }
            for part in &mut parts {
                part.question.as_of = cut;
            }
        }
        Ok(parts)
    }

    fn attempt(&self, (id, index, attempt): Place) -> Option<&Attempt> {
        self.gathers.get(&id)?.parts.get(index)?.attempts.get(attempt)
    }

    fn attempt_mut(&mut self, (id, index, attempt): Place) -> Option<(Role, &mut Attempt)> {
        let part = self.gathers.get_mut(&id)?.parts.get_mut(index)?;
        Some((part.role, part.attempts.get_mut(attempt)?))
    }

    /// The open question that a leaf's frame belongs to; a frame without one is counted as late.
    fn find(&mut self, leaf: LeafId, query_id: u32) -> Option<Place> {
        let place = self.by_query_id.get(&query_id).copied();
        let found = place.filter(|place| self.attempt(*place).is_some_and(|it| it.leaf == leaf));
        if found.is_none() {
            self.counts.late += 1;
        }
        found
    }

    /// A question is over. A good answer ends the part; a bad one is followed by the next copy.
    fn end_attempt(&mut self, now: Mono, place: Place, status: NodeStatus) {
        let (id, index, number) = place;
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let Some(part) = gathering.parts.get_mut(index) else { return };
        let role = part.role;
        let is_cut_reached = self.leaves.is_cut_reached(part);
        let Some(attempt) = part.attempts.get_mut(number) else { return };
        if attempt.status.is_some() {
            return;
        }
        let (leaf, query_id, asked) = (attempt.leaf, attempt.query_id, attempt.asked);
        let took = now.since(asked);
        let dropped = attempt.end(status, took);
        gathering.frames -= dropped;
        self.frames -= dropped;
        self.by_query_id.remove(&query_id);
        self.asks.retain(|ask| ask.id() != query_id);
        // A copy that cannot vouch for its quotes is asked after the first one, which may.
        let is_second_hand = attempt.place != 0 && attempt.is_stale();
        let is_good = status == NodeStatus::Ok;
        let is_sick = match (status, attempt.code) {
            (NodeStatus::Ok | NodeStatus::Spare, _) => is_second_hand,
            // A cut at which nobody is known to be is no fault of this one.
            (NodeStatus::Failed, Some(ErrorCode::Behind)) => is_cut_reached,
            (NodeStatus::Failed, Some(code)) => is_sick(code),
            _ => true,
        };
        let is_final = matches!(attempt.code, Some(ErrorCode::BadPattern | ErrorCode::Unexpected));
        if attempt.answered() {
            // The latest whole answer, else the latest at all.
            let before = part.chosen.filter(|_| !is_good || is_second_hand);
            part.chosen = before.or(Some(number));
        }
        self.leaves.note_over(leaf, role, asked, query_id);
        if is_sick {
            self.leaves.avoid(now, leaf);
        }
        // Nobody waits for a first copy that does not answer either.
        let first_may_know = || {
            part.untried().any(|place| place == 0)
                && part.candidates.first().is_some_and(|it| !self.leaves.is_shunned(now, it.leaf))
        };
        let wants_better = if is_good { is_second_hand && first_may_know() } else { !is_final };
        // Nor is one beaten that is asked already, and may answer in a moment.
        let first_is_asked = || {
            let open = part.attempts.iter().filter(|attempt| attempt.status.is_none());
            let mut first = open.filter(|attempt| attempt.place == 0);
            first.any(|attempt| !self.leaves.is_silent(part, attempt.place))
        };
        if wants_better {
            self.ask(now, id, index, Why::Retry);
        } else if is_good && is_second_hand && first_is_asked() {
            // The answer in hand is taken when the first copy ends, or is silent.
        } else {
            self.end_part(now, id, index);
        }
    }

    /// Ends one part: copies that are still asked are told to stop, and rows that do not stand for it
    /// are let go. With the last part the gather ends.
    fn end_part(&mut self, now: Mono, id: GatherId, index: usize) {
        let part = self.gathers.get_mut(&id).and_then(|it| it.parts.get_mut(index));
        let Some(part) = part.filter(|part| !part.is_done) else { return };
        part.is_done = true;
        if let Some(at) = part.hedge_at.take() {
            self.by_hedge.remove(&(at, id, index));
        }
        let chosen = part.chosen;
        let won = chosen.and_then(|chosen| part.attempts.get(chosen));
        self.counts.hedges_won += u64::from(won.is_some_and(|attempt| attempt.why == Why::Hedge));
        let beaten: Vec<usize> = (0..part.attempts.len())
            .filter(|number| part.attempts.get(*number).is_some_and(|it| it.status.is_none()))
            .collect();
        for number in beaten {
            self.cancel((id, index, number));
            self.spare(now, (id, index, number));
        }
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        if let Some(part) = gathering.parts.get_mut(index) {
            let others = part.attempts.iter_mut().enumerate();
            let others = others.filter(|(number, _)| Some(*number) != chosen);
            let dropped: usize = others.map(|(_, attempt)| attempt.let_go()).sum();
            gathering.frames -= dropped;
            self.frames -= dropped;
        }
        gathering.open -= 1;
        if gathering.open == 0 {
            self.finish(id, None);
        }
    }

    /// A copy that another has beaten. It is taken to be at least as slow as it has been until now.
    fn spare(&mut self, now: Mono, (id, index, number): Place) {
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let Some(part) = gathering.parts.get_mut(index) else { return };
        let role = part.role;
        let Some(attempt) = part.attempts.get_mut(number) else { return };
        let took = now.since(attempt.asked);
        let dropped = attempt.end(NodeStatus::Spare, took);
        let (leaf, query_id, asked) = (attempt.leaf, attempt.query_id, attempt.asked);
        let was_first = !matches!(attempt.why, Why::Hedge | Why::FailOver) && !attempt.is_ahead;
        gathering.frames -= dropped;
        self.frames -= dropped;
        self.leaves.note_over(leaf, role, asked, query_id);
        if was_first {
            self.leaves.note_beaten(now, leaf, role, asked);
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
    fn cancel(&mut self, place: Place) {
        let Some(attempt) = self.attempt(place).filter(|it| it.status.is_none()) else { return };
        let (leaf, query_id) = (attempt.leaf, attempt.query_id);
        self.by_query_id.remove(&query_id);
        let waiting = self.asks.len();
        self.asks.retain(|ask| ask.id() != query_id);
        if self.asks.len() == waiting {
            self.cancels.push_back((leaf, query_id));
        }
    }

    /// Removes a gather from every table, and cancels what is still open of it.
    fn take_out(&mut self, id: GatherId) -> Option<Box<Gathering>> {
        let parts = &self.gathers.get(&id)?.parts;
        let mut open: Vec<(Place, Role)> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if let Some(at) = part.hedge_at {
                self.by_hedge.remove(&(at, id, index));
            }
            let attempts = part.attempts.iter().enumerate();
            let asked = attempts.filter(|(_, attempt)| attempt.status.is_none());
            open.extend(asked.map(|(number, _)| ((id, index, number), part.role)));
        }
        for (place, role) in open {
            self.cancel(place);
            if let Some(it) = self.attempt(place) {
                let (leaf, asked, query_id) = (it.leaf, it.asked, it.query_id);
                self.leaves.note_over(leaf, role, asked, query_id);
            }
        }
        let gathering = self.gathers.remove(&id)?;
        self.by_asker.remove(&(gathering.asker, gathering.query.id.get()));
        self.by_due.remove(&(gathering.due, id));
        self.frames -= gathering.parts.iter().map(Part::frames_held).sum::<usize>();
        Some(gathering)
    }
}
