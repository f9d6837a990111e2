//! What the gather has learned of the nodes it asks: how fast they answer, how much is asked of them now,
//! whom to leave alone for a moment; and from it whom to ask, when to ask another one as well, and whether
//! that may be. Not here: connections and breakers, which the caller knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LeafId;
use super::latency::Latency;
use super::part::{Part, Role};
use crate::limits::{
    GATHER_LEAF_QUESTIONS_MAX, HEDGE_AFTER_DEFAULT, HEDGE_AFTER_MIN, HEDGE_THOUSANDTHS_MAX,
    HEDGE_THOUSANDTHS_PER_ASK, LEAF_AVOID_WAIT,
};
use crate::time::Mono;

/// What one hedge costs.
const HEDGE: u32 = 1_000;

#[derive(Debug, Default)]
struct Leaf {
    questions: usize,
    latencies: BTreeMap<Role, Latency>,
    avoided_until: Mono,
    /// The largest `as_of` that it has shown.
    as_of: u64,
}

/// All of them, and the budget for hedges.
#[derive(Debug)]
pub(super) struct Leaves {
    all: BTreeMap<LeafId, Leaf>,
    /// Thousandths of a hedge that may still be spent.
    budget: u32,
}

impl Default for Leaves {
    fn default() -> Leaves {
        Leaves { all: BTreeMap::new(), budget: HEDGE_THOUSANDTHS_MAX }
    }
}

impl Leaves {
    fn leaf(&mut self, id: LeafId) -> &mut Leaf {
        self.all.entry(id).or_default()
    }

    /// Which copy to ask next: the one that promises to answer first, and one that failed lately only
    /// when there is no other. `None` when all have been asked, or may not be.
    pub(super) fn choose(&self, now: Mono, part: &Part) -> Option<usize> {
        let cost = |place: &usize| {
            let leaf = part.candidates.get(*place).and_then(|copy| self.all.get(&copy.leaf));
            let Some(leaf) = leaf else { return (false, 1, *place) };
            let expected = leaf.latencies.get(&part.role).map_or(0, |it| it.expected_ns(now));
            let waiting = leaf.questions as u64 + 1;
            (leaf.avoided_until > now, expected.max(1).saturating_mul(waiting), *place)
        };
        part.untried().filter(|place| self.has_room(part, *place)).min_by_key(cost)
    }

    fn has_room(&self, part: &Part, place: usize) -> bool {
        let leaf = part.candidates.get(place).and_then(|copy| self.all.get(&copy.leaf));
        leaf.is_none_or(|leaf| leaf.questions < GATHER_LEAF_QUESTIONS_MAX)
    }

    /// When to ask another copy as well: after what 19 of 20 answers of the fastest copy take.
    pub(super) fn hedge_after(&self, part: &Part, within: Duration) -> Duration {
        let p95 =
            |copy: &super::Candidate| self.all.get(&copy.leaf)?.latencies.get(&part.role)?.p95();
        let observed = part.candidates.iter().filter_map(p95).min();
        let after = observed.unwrap_or(HEDGE_AFTER_DEFAULT.min(within / 4));
        after.max(HEDGE_AFTER_MIN)
    }

    /// Whether a hedge may be spent now; then it is.
    pub(super) fn take_hedge(&mut self) -> bool {
        let left = self.budget.checked_sub(HEDGE);
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }

    /// A part is asked for the first time, which earns the twentieth part of a hedge.
    pub(super) fn earn_hedge(&mut self) {
        let earned = self.budget.saturating_add(HEDGE_THOUSANDTHS_PER_ASK);
        self.budget = earned.min(HEDGE_THOUSANDTHS_MAX);
    }

    pub(super) fn note_asked(&mut self, id: LeafId) {
        self.leaf(id).questions += 1;
    }

    /// A question is over; `took` when it was answered, or beaten by another copy after so long.
    pub(super) fn note_over(&mut self, now: Mono, id: LeafId, role: Role, took: Option<Duration>) {
        let leaf = self.leaf(id);
        leaf.questions = leaf.questions.saturating_sub(1);
        if let Some(took) = took {
            leaf.latencies.entry(role).or_default().note(now, took);
        }
    }

    /// It failed: others first for a moment.
    pub(super) fn avoid(&mut self, now: Mono, id: LeafId) {
        self.leaf(id).avoided_until = now + LEAF_AVOID_WAIT;
    }

    /// Whether it failed a moment ago.
    pub(super) fn is_avoided(&self, now: Mono, id: LeafId) -> bool {
        self.all.get(&id).is_some_and(|leaf| leaf.avoided_until > now)
    }

    /// It has everything before this `seq`. Not kept as a maximum for ever: a new epoch may take it back.
    pub(super) fn note_as_of(&mut self, id: LeafId, as_of: u64) {
        if as_of != 0 {
            self.leaf(id).as_of = as_of;
        }
    }

    /// The newest cut at which some copy of each of these parts can answer at once; 0 when it is not
    /// known of one.
    pub(super) fn common_cut(&self, parts: &[Part]) -> u64 {
        let of_leaf = |id: LeafId| self.all.get(&id).map_or(0, |leaf| leaf.as_of);
        let of_part =
            |part: &Part| part.candidates.iter().map(|copy| of_leaf(copy.leaf)).max().unwrap_or(0);
        parts.iter().filter(|part| !part.is_pruned).map(of_part).min().unwrap_or(0)
    }

    /// Questions that are open at all nodes.
    #[cfg(test)]
    pub(super) fn questions(&self) -> usize {
        self.all.values().map(|leaf| leaf.questions).sum()
    }
}
