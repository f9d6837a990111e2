//! One part of a query: what is asked, the copies that can answer it, and the attempts to have it answered.
//! Not here: which copy is best, which [`crate::gather::leaves`] knows.
//!
//! Invariant: each copy is tried once at most. Once a part is done no attempt of it is open, and only the
//! chosen one holds rows.

use super::LostRace;
use super::attempt::{Attempt, NewAttempt};
use super::rows::RowKind;
use crate::gather::{Availability, LeafId, NEWEST_COMMON_CUT, PartPlan, Replica};
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{ErrorCode, NodeStatus, Op, Seq};

/// A copy of a part, counted in the order of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gather) struct ReplicaIndex(usize);

impl ReplicaIndex {
    pub(in crate::gather) fn is_first(self) -> bool {
        self.0 == 0
    }
}

/// An attempt of a part, counted from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttemptIndex(usize);

/// A copy that can be asked and has not been. Only a part makes one.
#[derive(Clone, Copy, Debug)]
pub(in crate::gather) struct Untried {
    index: ReplicaIndex,
    leaf: LeafId,
}

impl Untried {
    pub(in crate::gather) fn index(self) -> ReplicaIndex {
        self.index
    }

    pub(in crate::gather) fn leaf(self) -> LeafId {
        self.leaf
    }
}

/// One copy with what came of it, for the answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::gather) struct Outcome<'a> {
    pub(in crate::gather) replica: u8,
    pub(in crate::gather) name: [u8; 16],
    pub(in crate::gather) status: NodeStatus,
    /// `None` when it was not asked.
    pub(in crate::gather) attempt: Option<&'a Attempt>,
    /// Whether its rows stand for the part.
    pub(in crate::gather) is_chosen: bool,
}

/// What an answer of a client's may make room for ahead of the rows: a kibibyte.
const ROWS_EXPECTED_MAX: usize = 16;

/// A part of a query and everything that came of it.
#[derive(Debug)]
pub(in crate::gather) struct Part {
    rows: RowKind,
    question: Question,
    /// The client named no cut: what a node lacks of the newest is missing.
    wants_newest: bool,
    /// The cut may be far behind core, and so is every answer of it.
    is_cut_old: bool,
    replicas: Vec<Replica>,
    is_pruned: bool,
    is_done: bool,
    attempts: Vec<Attempt>,
    /// The attempt whose rows stand for the part. It has answered.
    chosen: Option<AttemptIndex>,
    hedge_at: Option<Mono>,
    is_hedge_denied: bool,
    is_over_limit: bool,
}

impl Part {
    /// `None` when the question is none that can be gathered, or nobody could answer it.
    pub(in crate::gather) fn new(plan: PartPlan) -> Option<Part> {
        if plan.replicas.is_empty() {
            return None;
        }
        Some(Part {
            rows: RowKind::of(&plan.question.query)?,
            wants_newest: plan.question.as_of.is_none_or(|cut| cut == NEWEST_COMMON_CUT),
            is_cut_old: false,
            question: plan.question,
            replicas: plan.replicas,
            is_pruned: plan.is_pruned,
            is_done: plan.is_pruned,
            attempts: Vec::new(),
            chosen: None,
            hedge_at: None,
            is_hedge_denied: false,
            is_over_limit: false,
        })
    }

    /// Has the question answered at a cut, which may be an old one. Before it is asked.
    pub(in crate::gather) fn set_cut(&mut self, cut: Seq, is_old: bool) {
        (self.question.as_of, self.is_cut_old) = (Some(cut), is_old);
    }

    /// Whether the cut may be far behind core.
    pub(in crate::gather) fn is_cut_old(&self) -> bool {
        self.is_cut_old
    }

    // ---- what happens to it ----

    pub(super) fn begin_attempt(&mut self, start: NewAttempt) -> AttemptIndex {
        let index = AttemptIndex(self.attempts.len());
        // Most parts are asked once, and an attempt is large.
        self.attempts.reserve_exact(1);
        self.attempts.push(Attempt::new(start, self.rows, self.rows_expected()));
        index
    }

    /// For how many rows room is made at once: a question for the last few, or for one quote, bounds them.
    fn rows_expected(&self) -> usize {
        let query = &self.question.query;
        let asked = match Op::from_number(query.op) {
            Some(Op::Last) => usize::try_from(query.limit.get()).unwrap_or(usize::MAX),
            Some(Op::Quote) => self.question.patterns().len(),
            _ => 0,
        };
        asked.min(ROWS_EXPECTED_MAX)
    }

    pub(super) fn open_attempt_mut(&mut self, index: AttemptIndex) -> Option<&mut Attempt> {
        self.attempts.get_mut(index.0).filter(|attempt| attempt.is_open())
    }

    /// Ends an open attempt and returns the number of frames that were dropped. Of several answers the part
    /// chooses the latest whole one, else the first; of those that are only behind, the least behind.
    pub(super) fn end_attempt(
        &mut self,
        index: AttemptIndex,
        status: NodeStatus,
        now: Mono,
    ) -> Option<usize> {
        let attempt = self.open_attempt_mut(index)?;
        let dropped = attempt.end(status, now);
        if attempt.answered() {
            let is_best = status == NodeStatus::Ok && !attempt.is_second_hand();
            let behind_ms = attempt.is_behind().then(|| attempt.end_frame().behind_ms.get());
            let is_nearer = |chosen: &Attempt| {
                chosen.is_behind() && behind_ms < Some(chosen.end_frame().behind_ms.get())
            };
            let is_better = is_best || behind_ms.is_some() && self.chosen().is_some_and(is_nearer);
            let before = self.chosen.filter(|_| !is_better);
            self.chosen = before.or(Some(index));
        }
        Some(dropped)
    }

    /// Ends the part. Attempts that are still open have lost against the chosen one; returns how many frames
    /// were dropped.
    pub(super) fn complete(&mut self, now: Mono, lost: &mut Vec<LostRace>) -> usize {
        self.is_done = true;
        let mut dropped = 0;
        let chosen = self.chosen;
        for (number, attempt) in self.attempts.iter_mut().enumerate() {
            if attempt.is_open() {
                dropped += attempt.end(NodeStatus::Spare, now);
                lost.push(LostRace::of(attempt, self.rows));
            }
            if chosen != Some(AttemptIndex(number)) {
                dropped += attempt.drop_rows();
            }
        }
        dropped
    }

    /// Sets the time at which it is looked whether another copy is asked as well; returns the one before.
    pub(super) fn replace_hedge_timer(&mut self, at: Option<Mono>) -> Option<Mono> {
        std::mem::replace(&mut self.hedge_at, at)
    }

    /// A budget did not allow to ask another copy. Whether that is so for the first time.
    pub(super) fn note_hedge_denied(&mut self) -> bool {
        !std::mem::replace(&mut self.is_hedge_denied, true)
    }

    /// Nobody can be asked now. Without any attempt that is because of a limit, if there is a copy left.
    pub(super) fn note_nobody_free(&mut self) {
        self.is_over_limit |= self.attempts.is_empty() && self.has_untried();
    }

    // ---- what it is ----

    pub(in crate::gather) fn rows(&self) -> RowKind {
        self.rows
    }

    pub(in crate::gather) fn question(&self) -> &Question {
        &self.question
    }

    pub(in crate::gather) fn wants_newest(&self) -> bool {
        self.wants_newest
    }

    pub(in crate::gather) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// Whether there is more than one copy.
    pub(in crate::gather) fn has_replicas(&self) -> bool {
        self.replicas.len() > 1
    }

    /// Whether nothing of the query belongs to it.
    pub(in crate::gather) fn is_pruned(&self) -> bool {
        self.is_pruned
    }

    /// Whether history is asked of it, and not the current quote.
    pub(in crate::gather) fn keeps_history(&self) -> bool {
        !self.is_pruned && self.rows != RowKind::Quote
    }

    /// Whether it is asked what it has of some names: an unknown one is no error then.
    pub(in crate::gather) fn is_asked_for_a_list(&self) -> bool {
        self.keeps_history() && self.question.symbol().is_none()
    }

    /// Whether its node has answered, and knows no instrument that is asked about.
    pub(in crate::gather) fn knows_nothing(&self) -> bool {
        self.chosen().is_some_and(|attempt| attempt.definitions().is_empty())
    }

    /// Whether nothing more is waited for.
    pub(in crate::gather) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether nobody was asked because of a limit of ours.
    pub(in crate::gather) fn is_over_limit(&self) -> bool {
        self.is_over_limit
    }

    pub(in crate::gather) fn has_hedge_timer(&self) -> bool {
        self.hedge_at.is_some()
    }

    /// Copies that have not been asked and can be.
    pub(in crate::gather) fn untried(&self) -> impl Iterator<Item = Untried> {
        let copies = self.replicas.iter().enumerate();
        copies.filter_map(|(number, copy)| {
            let index = ReplicaIndex(number);
            let can_be_asked =
                copy.availability == Availability::Ready && self.attempt_at(index).is_none();
            can_be_asked.then_some(Untried { index, leaf: copy.leaf })
        })
    }

    pub(in crate::gather) fn has_untried(&self) -> bool {
        self.untried().next().is_some()
    }

    /// The copy named first in the plan, if it can be asked and has not been.
    pub(in crate::gather) fn untried_first(&self) -> Option<Untried> {
        self.untried().next().filter(|it| it.index.is_first())
    }

    fn attempt_at(&self, replica: ReplicaIndex) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.replica() == replica)
    }

    pub(super) fn attempt(&self, index: AttemptIndex) -> Option<&Attempt> {
        self.attempts.get(index.0)
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = (AttemptIndex, &Attempt)> {
        let attempts = self.attempts.iter().enumerate();
        attempts.map(|(number, attempt)| (AttemptIndex(number), attempt))
    }

    /// Attempts that are still waited for.
    pub(in crate::gather) fn open_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.is_open())
    }

    /// When the first of the attempts began that are still waited for.
    pub(in crate::gather) fn waiting_since(&self) -> Option<Mono> {
        self.open_attempts().map(Attempt::begun).min()
    }

    /// The attempt whose rows belong into the answer.
    pub(in crate::gather) fn chosen(&self) -> Option<&Attempt> {
        self.attempt(self.chosen?)
    }

    /// Whether the chosen attempt brought all there is.
    pub(in crate::gather) fn is_answered_in_full(&self) -> bool {
        self.chosen().is_some_and(|attempt| attempt.status() == Some(NodeStatus::Ok))
    }

    /// Whether the chosen attempt brought all that its node has, which may be behind.
    pub(in crate::gather) fn is_answered(&self) -> bool {
        self.is_answered_in_full() || self.is_behind()
    }

    /// Whether all that it lacks is what came lately.
    pub(in crate::gather) fn is_behind(&self) -> bool {
        self.chosen().is_some_and(Attempt::is_behind)
    }

    /// The name of the copy whose rows stand for the part.
    pub(in crate::gather) fn chosen_name(&self) -> Option<[u8; 16]> {
        self.outcomes().find(|outcome| outcome.is_chosen).map(|outcome| outcome.name)
    }

    /// Whether the answer lacks something for want of it.
    pub(in crate::gather) fn is_missing(&self) -> bool {
        !self.is_pruned && !self.is_answered_in_full()
    }

    /// All copies in the order of the plan, with what came of each.
    pub(in crate::gather) fn outcomes(&self) -> impl Iterator<Item = Outcome<'_>> {
        self.replicas.iter().enumerate().map(|(number, copy)| {
            let index = ReplicaIndex(number);
            let attempt = self.attempt_at(index);
            Outcome {
                replica: u8::try_from(number).unwrap_or(u8::MAX),
                name: copy.name,
                status: self.status_of(copy, attempt),
                attempt,
                is_chosen: self.chosen().is_some_and(|chosen| chosen.replica() == index),
            }
        })
    }

    fn status_of(&self, copy: &Replica, attempt: Option<&Attempt>) -> NodeStatus {
        if self.is_pruned {
            return NodeStatus::Pruned;
        }
        if let Some(attempt) = attempt {
            // A gather that failed as a whole leaves some open: they were not waited for.
            return attempt.status().unwrap_or(NodeStatus::Timeout);
        }
        match copy.availability {
            Availability::Refused => NodeStatus::Refused,
            Availability::BreakerOpen => NodeStatus::BreakerOpen,
            Availability::Ready if self.is_over_limit => NodeStatus::Failed,
            Availability::Ready => NodeStatus::Spare,
        }
    }

    /// The attempt that explains best why there is no answer: one whose node gave a reason, else the last.
    fn reason(&self) -> Option<&Attempt> {
        let gave_reason = |attempt: &&Attempt| {
            attempt.status() == Some(NodeStatus::Failed) && attempt.code().is_some()
        };
        self.attempts.iter().find(gave_reason).or(self.attempts.last())
    }

    /// The code and the sentence of a node that failed, if one gave them.
    pub(in crate::gather) fn failure(&self) -> Option<(ErrorCode, [u8; 48])> {
        let attempt = self.reason().filter(|it| it.status() == Some(NodeStatus::Failed))?;
        Some((attempt.code()?, attempt.text()))
    }
    /// Whether the last that is known of it is that its time was over.
    pub(in crate::gather) fn has_timed_out(&self) -> bool {
        self.reason().is_some_and(|attempt| attempt.status() == Some(NodeStatus::Timeout))
    }

    pub(super) fn frames_held(&self) -> usize {
        self.attempts.iter().map(Attempt::frames_held).sum()
    }
}
