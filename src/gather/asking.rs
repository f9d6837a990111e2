//! Whom the machine asks: the first copy of a part, another one because it failed, takes long or is silent,
//! and a silent one as a probe. Not here: which copy is best, which [`super::leaves`] knows.

use super::gathering::{Place, Why, micros};
use super::part::Attempt;
use super::silence::{Probe, Said};
use super::{Ask, Gather, GatherId, LeafId, is_sick};
use crate::limits::LEAF_PROBE_MAX;
use crate::time::Mono;
use crate::wire::{ErrorCode, NodeStatus, U32};

impl Gather {
    /// Asks the best copy of a part that has not been asked. Ends the part when there is none and nobody
    /// is waited for.
    pub(super) fn ask(&mut self, now: Mono, id: GatherId, index: usize, why: Why) {
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let Some(part) = gathering.parts.get_mut(index).filter(|part| !part.is_done) else {
            return;
        };
        let has_time = now < gathering.leaves_due || why == Why::First;
        let is_beside = matches!(why, Why::Hedge | Why::FailOver);
        let place = match is_beside {
            true => self.leaves.choose_another(now, part),
            false => self.leaves.choose(now, part),
        };
        let place = place.filter(|_| has_time);
        let copy = place.and_then(|place| Some((place, *part.candidates.get(place)?)));
        let Some((place, copy)) = copy else {
            part.is_over_limit |= part.attempts.is_empty() && part.untried().next().is_some();
            if !part.is_asked() {
                self.end_part(now, id, index);
            }
            return;
        };
        let query_id = self.fresh_query_id();
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let Some(part) = gathering.parts.get_mut(index) else { return };
        // A client may name any cut. A node that waits for it is neither silent nor slow.
        let is_ahead = self.leaves.is_ahead(copy.leaf, part.question.as_of);
        self.by_query_id.insert(query_id, (id, index, part.attempts.len()));
        // Most parts are asked once, and an attempt is large.
        part.attempts.reserve_exact(1);
        let mut attempt = Attempt::new(place, copy.leaf, query_id, now, why);
        attempt.is_ahead = is_ahead;
        attempt.rows.reserve_exact(part.rows_expected());
        part.attempts.push(attempt);
        let mut question = part.question.clone();
        question.query.id = U32::new(query_id);
        let left = gathering.leaves_due.since(now);
        question.query.deadline_us = U32::new(micros(left));
        self.asks.push_back(Ask {
            leaf: copy.leaf,
            question,
            deadline: gathering.leaves_due,
            is_ahead,
        });
        self.counts.asked += 1;
        self.counts.hedged += u64::from(why == Why::Hedge);
        self.counts.retried += u64::from(why == Why::Retry);
        self.counts.failed_over += u64::from(why == Why::FailOver);
        let has_copies = part.candidates.len() > 1;
        let is_watched = has_copies && !is_ahead;
        self.leaves.note_asked(now, copy.leaf, part.role, query_id, is_watched);
        if why == Why::First {
            self.leaves.earn();
        }
        // To ask another that must wait as well brings nothing.
        let may_help = !is_ahead || self.leaves.is_cut_reached(part);
        let has_untried = part.untried().next().is_some();
        if has_untried && may_help && !is_beside && part.hedge_at.is_none() {
            let at = now + self.leaves.hedge_after(part, left);
            if at < gathering.leaves_due {
                part.hedge_at = Some(at);
                self.by_hedge.insert((at, id, index));
            }
        }
        if why == Why::First && has_copies {
            self.probe(now, id, index);
        }
    }

    /// Finds out who is silent, and looks at the parts that wait for them or take long.
    pub(super) fn look(&mut self, now: Mono) {
        while let Some((leaf, probe)) = self.leaves.probe_due(now) {
            self.end_probe(leaf, probe.query_id, now, Said::Nothing);
            self.cancels.push_back((leaf, probe.query_id));
        }
        let silent = self.leaves.found_silent(now);
        if !silent.is_empty() {
            let is_with = |place: &&Place| {
                self.attempt(**place).is_some_and(|attempt| silent.contains(&attempt.leaf))
            };
            let with: Vec<Place> = self.by_query_id.values().filter(is_with).copied().collect();
            for (id, index, _) in with {
                self.look_at(now, id, index);
            }
        }
        while let Some((at, id, index)) = self.by_hedge.first().copied().filter(|it| it.0 <= now) {
            self.by_hedge.remove(&(at, id, index));
            self.look_at(now, id, index);
        }
    }

    /// A part takes long: asks another copy as well, when there is one that may do better and a budget
    /// allows it. Else it is looked again when it has taken twice as long.
    fn look_at(&mut self, now: Mono, id: GatherId, index: usize) {
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let leaves_due = gathering.leaves_due;
        let Some(part) = gathering.parts.get_mut(index) else { return };
        if let Some(at) = part.hedge_at.take() {
            self.by_hedge.remove(&(at, id, index));
        }
        // An answer in hand waits for a first copy that knows better, not for one that says nothing.
        let in_hand = part.winner().is_some_and(|it| it.status == Some(NodeStatus::Ok));
        if in_hand && !part.is_done && self.leaves.is_only_with_silent(part) {
            self.end_part(now, id, index);
            return;
        }
        let is_over = part.is_done || now >= leaves_due || part.untried().next().is_none();
        let Some(asked) = part.asked_first().filter(|_| !is_over) else { return };
        if let Some(other) = self.leaves.choose_another(now, part) {
            // From one silent copy to another is a guess, which is what hedges are for.
            let is_failover =
                self.leaves.is_only_with_silent(part) && !self.leaves.is_silent(part, other);
            if is_failover && (self.leaves.failovers.take() || self.leaves.hedges.take()) {
                return self.ask_beside(now, id, index, Why::FailOver, asked);
            }
            // One that was asked beside another is waited for, until it is silent too.
            let is_alone = part.attempts.iter().filter(|it| it.status.is_none()).count() == 1;
            if !is_failover && is_alone && self.leaves.hedges.take() {
                return self.ask_beside(now, id, index, Why::Hedge, asked);
            }
            let is_denied = is_failover || is_alone;
            self.counts.hedges_denied += u64::from(!part.is_denied && is_denied);
            part.is_denied |= is_denied;
        }
        self.look_again(now, id, index, asked);
    }

    /// Asks another copy beside those that are asked since then; a third one may be needed later.
    fn ask_beside(&mut self, now: Mono, id: GatherId, index: usize, why: Why, asked: Mono) {
        self.ask(now, id, index, why);
        self.look_again(now, id, index, asked);
    }

    /// Looks at a part again when it has taken twice as long, if there is another copy then.
    fn look_again(&mut self, now: Mono, id: GatherId, index: usize, asked: Mono) {
        let Some(gathering) = self.gathers.get_mut(&id) else { return };
        let leaves_due = gathering.leaves_due;
        let Some(part) = gathering.parts.get_mut(index) else { return };
        if part.is_done || part.hedge_at.is_some() || part.untried().next().is_none() {
            return;
        }
        let again = now + now.since(asked).max(crate::limits::HEDGE_AFTER_MIN);
        if again < leaves_due {
            part.hedge_at = Some(again);
            self.by_hedge.insert((again, id, index));
        }
    }

    /// Asks a silent copy of a part what another copy has been asked, to see whether it answers again.
    fn probe(&mut self, now: Mono, id: GatherId, index: usize) {
        let Some(gathering) = self.gathers.get(&id) else { return };
        let Some(part) = gathering.parts.get(index) else { return };
        let Some(leaf) = self.leaves.take_probe(now, part) else { return };
        let due = gathering.leaves_due.min(now + LEAF_PROBE_MAX);
        let (role, mut question) = (part.role, part.question.clone());
        let query_id = self.fresh_query_id();
        question.query.id = U32::new(query_id);
        question.query.deadline_us = U32::new(micros(due.since(now)));
        self.leaves.begin_probe(leaf, Probe { query_id, role, asked: now, due });
        self.asks.push_back(Ask { leaf, question, deadline: due, is_ahead: false });
        self.counts.asked += 1;
        self.counts.probed += 1;
    }

    /// Ends a probe of a node, if this is the number of one.
    pub(super) fn end_probe(&mut self, leaf: LeafId, query_id: u32, now: Mono, said: Said) -> bool {
        let Some(probe) = self.leaves.probe(leaf, query_id) else { return false };
        self.leaves.end_probe(now, leaf, probe, said);
        let is_sick = match said {
            Said::Nothing | Said::Answer => false,
            // It was at the cut when it was asked.
            Said::No(code) => code.is_none_or(|it| it == ErrorCode::Behind || is_sick(it)),
        };
        if is_sick {
            self.leaves.avoid(now, leaf);
        }
        self.asks.retain(|ask| ask.id() != query_id);
        true
    }

    /// A number for a question: never 0, never one that is still open.
    fn fresh_query_id(&mut self) -> u32 {
        loop {
            self.next_query_id = self.next_query_id.wrapping_add(1);
            let id = self.next_query_id;
            if id != 0 && !self.by_query_id.contains_key(&id) && !self.leaves.is_probe(id) {
                return id;
            }
        }
    }
}
