//! What the gather has learned of the nodes it asks: how fast they answer, how much is asked of them now,
//! who is silent, whom to leave alone for a moment; and from it whom to ask, when to ask another one as
//! well, and whether that may be. Not here: connections and breakers, which the caller knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LeafId;
use super::budget::Budget;
use super::latency::Latency;
use super::part::{Part, Role};
use super::silence::{Probe, Said, Watch, patience};
use crate::limits::{
    FAILOVER_THOUSANDTHS_MAX, FAILOVER_THOUSANDTHS_PER_ASK, GATHER_LEAF_QUESTIONS_MAX,
    HEDGE_AFTER_DEFAULT, HEDGE_AFTER_MIN, HEDGE_AFTER_SCARCE_MIN, HEDGE_THOUSANDTHS_MAX,
    HEDGE_THOUSANDTHS_PER_ASK, LEAF_AVOID_WAIT, PROBE_THOUSANDTHS_MAX, PROBE_THOUSANDTHS_PER_ASK,
};
use crate::time::{Mono, nanos};

#[derive(Debug, Default)]
struct Leaf {
    questions: usize,
    latencies: BTreeMap<Role, Latency>,
    avoided_until: Mono,
    watch: Watch,
    /// The largest `as_of` that it has shown.
    as_of: u64,
}

/// How gladly a copy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Well,
    /// It failed a moment ago, but it does answer.
    Avoided,
    Silent,
}

impl Leaf {
    fn rank(&self, now: Mono) -> Rank {
        if self.watch.is_silent() {
            Rank::Silent
        } else if self.avoided_until > now {
            Rank::Avoided
        } else {
            Rank::Well
        }
    }

    /// Whether a cut is ahead of all that it has said of itself.
    fn is_ahead(&self, cut: u64) -> bool {
        self.as_of < cut
    }
}

/// All of them, and the budgets for what is asked beyond first questions.
#[derive(Debug)]
pub(super) struct Leaves {
    all: BTreeMap<LeafId, Leaf>,
    pub(super) hedges: Budget,
    pub(super) failovers: Budget,
    probes: Budget,
}

impl Default for Leaves {
    fn default() -> Leaves {
        Leaves {
            all: BTreeMap::new(),
            hedges: Budget::new(HEDGE_THOUSANDTHS_PER_ASK, HEDGE_THOUSANDTHS_MAX),
            failovers: Budget::new(FAILOVER_THOUSANDTHS_PER_ASK, FAILOVER_THOUSANDTHS_MAX),
            probes: Budget::new(PROBE_THOUSANDTHS_PER_ASK, PROBE_THOUSANDTHS_MAX),
        }
    }
}

impl Leaves {
    fn leaf(&mut self, id: LeafId) -> &mut Leaf {
        self.all.entry(id).or_default()
    }

    fn at(&self, part: &Part, place: usize) -> Option<&Leaf> {
        self.all.get(&part.candidates.get(place)?.leaf)
    }

    /// Which copy to ask next: of those that are known to be at the question's cut, else of all, the one that
    /// promises to answer first; one that failed lately only when there is no other, and a silent one last of all. `None` when all have been asked, or may not be.
    pub(super) fn choose(&self, now: Mono, part: &Part) -> Option<usize> {
        self.best(now, part, |_| true)
    }

    /// Which copy to ask beside those that take long. It is none that may suffer from the same: it has not
    /// kept a question of its own for half as long without a word. A silent one is asked only when they
    /// all are; what it says late is no word then.
    pub(super) fn choose_another(&self, now: Mono, part: &Part) -> Option<usize> {
        let ours = now.since(part.asked_first()?);
        let all_silent = self.is_only_with_silent(part);
        self.best(now, part, |leaf| match leaf.watch.is_silent() {
            true => all_silent && leaf.watch.keeping(now) * 2 <= ours,
            false => leaf.watch.waiting(now) * 2 <= ours,
        })
    }

    /// Whether this copy is silent.
    pub(super) fn is_silent(&self, part: &Part, place: usize) -> bool {
        self.at(part, place).is_some_and(|leaf| leaf.watch.is_silent())
    }

    fn best(&self, now: Mono, part: &Part, fits: impl Fn(&Leaf) -> bool) -> Option<usize> {
        let may = |place: &usize| {
            let leaf = self.at(part, *place);
            leaf.is_none_or(|leaf| leaf.questions < GATHER_LEAF_QUESTIONS_MAX && fits(leaf))
        };
        let cut = part.question.as_of;
        let cost = |place: &usize| {
            let Some(leaf) = self.at(part, *place) else {
                return (Rank::Well, cut != 0, 1, *place);
            };
            let expected = leaf.latencies.get(&part.role).map_or(0, |it| it.expected_ns(now));
            // What it has kept until now is what the next one must expect at least.
            let expected = expected.max(nanos(leaf.watch.waiting(now))).max(1);
            let cost = expected.saturating_mul(leaf.questions as u64 + 1);
            (leaf.rank(now), leaf.is_ahead(cut), cost, *place)
        };
        part.untried().filter(may).min_by_key(cost)
    }

    /// Whether every copy that a part still waits for is silent.
    pub(super) fn is_only_with_silent(&self, part: &Part) -> bool {
        let mut open = part.attempts.iter().filter(|attempt| attempt.status.is_none());
        open.all(|attempt| self.all.get(&attempt.leaf).is_some_and(|it| it.watch.is_silent()))
    }

    /// When to ask another copy as well: well after what 19 of 20 answers of the fastest copy take, and
    /// later when much of the budget is gone, so that some is left for a node that stops.
    pub(super) fn hedge_after(&self, part: &Part, within: Duration) -> Duration {
        let p95 =
            |copy: &super::Candidate| self.all.get(&copy.leaf)?.latencies.get(&part.role)?.p95();
        let observed = part.candidates.iter().filter_map(p95).min();
        let after = observed.map_or(HEDGE_AFTER_DEFAULT.min(within / 4), |p95| p95 + p95 / 2);
        let is_ample = self.hedges.is_ample();
        after.max(if is_ample { HEDGE_AFTER_MIN } else { HEDGE_AFTER_SCARCE_MIN })
    }

    /// A part is asked for the first time, which earns a little of each budget.
    pub(super) fn earn(&mut self) {
        self.hedges.earn();
        self.failovers.earn();
        self.probes.earn();
    }

    /// Whether a node that was asked is silent when nothing is heard of it matters only when another could
    /// be asked instead; the others are not watched, and need no timer.
    pub(super) fn note_asked(
        &mut self,
        now: Mono,
        id: LeafId,
        role: Role,
        query_id: u32,
        is_watched: bool,
    ) {
        let leaf = self.leaf(id);
        leaf.questions += 1;
        if is_watched {
            leaf.watch.note_asked(role, now, query_id);
        }
    }

    /// A frame came for an open question.
    pub(super) fn note_heard(&mut self, now: Mono, id: LeafId) {
        self.leaf(id).watch.note_heard(now);
    }

    /// A question is over.
    pub(super) fn note_over(&mut self, id: LeafId, role: Role, asked: Mono, query_id: u32) {
        let leaf = self.leaf(id);
        leaf.questions = leaf.questions.saturating_sub(1);
        leaf.watch.note_over(role, asked, query_id);
    }

    /// It was answered after so long; `is_good` when that says how fast good answers are.
    pub(super) fn note_answered(
        &mut self,
        now: Mono,
        id: LeafId,
        role: Role,
        took: Duration,
        is_good: bool,
    ) {
        let leaf = self.leaf(id);
        leaf.watch.note_heard(now);
        leaf.watch.note_answered(took, patience(leaf.latencies.get(&role)));
        if is_good {
            leaf.latencies.entry(role).or_default().note(now, took);
        }
    }

    /// Another copy answered first. It is taken to be at least as slow as it has been until now.
    pub(super) fn note_beaten(&mut self, now: Mono, id: LeafId, role: Role, asked: Mono) {
        let leaf = self.leaf(id);
        let patience = patience(leaf.latencies.get(&role));
        if !leaf.watch.note_beaten(now, asked, patience) {
            leaf.avoided_until = now + LEAF_AVOID_WAIT;
        }
        leaf.latencies.entry(role).or_default().note(now, now.since(asked));
    }

    /// It failed: others first for a moment.
    pub(super) fn avoid(&mut self, now: Mono, id: LeafId) {
        self.leaf(id).avoided_until = now + LEAF_AVOID_WAIT;
    }

    /// Whether it failed a moment ago, or says nothing.
    pub(super) fn is_shunned(&self, now: Mono, id: LeafId) -> bool {
        self.all.get(&id).is_some_and(|leaf| leaf.rank(now) != Rank::Well)
    }

    // ---- silence ----

    /// When the next node is found silent, if nothing is heard of it.
    pub(super) fn next_silence(&self) -> Option<Mono> {
        self.all.values().filter_map(|leaf| leaf.watch.silent_at(&leaf.latencies)).min()
    }

    /// Nodes that have been found silent just now.
    pub(super) fn found_silent(&mut self, now: Mono) -> Vec<LeafId> {
        let mut found = Vec::new();
        for (id, leaf) in &mut self.all {
            if leaf.watch.silent_at(&leaf.latencies).is_some_and(|at| at <= now) {
                leaf.watch.fall_silent(now);
                leaf.watch.note_found();
                found.push(*id);
            }
        }
        found
    }

    /// Nodes that are silent.
    pub(super) fn silent(&self) -> usize {
        self.all.values().filter(|leaf| leaf.watch.is_silent()).count()
    }

    /// A silent copy of a part that should be asked as well, to see whether it answers again; then it is
    /// paid for.
    pub(super) fn take_probe(&mut self, now: Mono, part: &Part) -> Option<LeafId> {
        let wants = |place: &usize| {
            self.at(part, *place).is_some_and(|leaf| {
                // One that waits for a cut would look silent for it.
                let may = leaf.questions < GATHER_LEAF_QUESTIONS_MAX;
                may && leaf.watch.wants_probe(now) && !leaf.is_ahead(part.question.as_of)
            })
        };
        // The one that has waited longest: a node that answers no probe must not take those of another.
        let due = |place: &usize| self.at(part, *place).and_then(|leaf| leaf.watch.next_probe());
        let place = part.untried().filter(wants).min_by_key(due)?;
        self.probes.take().then_some(part.candidates.get(place)?.leaf)
    }

    pub(super) fn begin_probe(&mut self, id: LeafId, probe: Probe) {
        self.leaf(id).watch.begin_probe(probe);
    }

    /// The probe of this number at a node.
    pub(super) fn probe(&self, id: LeafId, query_id: u32) -> Option<Probe> {
        let probe = self.all.get(&id)?.watch.probe();
        probe.filter(|probe| probe.query_id == query_id)
    }

    /// Whether this number is a probe's.
    pub(super) fn is_probe(&self, query_id: u32) -> bool {
        self.all.keys().any(|id| self.probe(*id, query_id).is_some())
    }

    /// A probe is over.
    pub(super) fn end_probe(&mut self, now: Mono, id: LeafId, probe: Probe, said: Said) {
        self.leaf(id).watch.end_probe();
        if said != Said::Nothing {
            let took = now.since(probe.asked);
            self.note_answered(now, id, probe.role, took, said == Said::Answer);
        }
    }

    /// The open probe of a node.
    pub(super) fn open_probe(&self, id: LeafId) -> Option<Probe> {
        self.all.get(&id)?.watch.probe()
    }

    /// A probe whose time is over.
    pub(super) fn probe_due(&self, now: Mono) -> Option<(LeafId, Probe)> {
        let of = |(id, leaf): (&LeafId, &Leaf)| Some((*id, leaf.watch.probe()?));
        self.all.iter().filter_map(of).find(|(_, probe)| probe.due <= now)
    }

    /// When the time of the next probe is over.
    pub(super) fn next_probe_due(&self) -> Option<Mono> {
        self.all.values().filter_map(|leaf| leaf.watch.probe()).map(|probe| probe.due).min()
    }

    // ---- cuts ----

    /// Whether a cut is ahead of all that this node has said of itself.
    pub(super) fn is_ahead(&self, id: LeafId, cut: u64) -> bool {
        self.all.get(&id).map_or(cut != 0, |leaf| leaf.is_ahead(cut))
    }

    /// Whether some copy of a part is known to be at the question's cut.
    pub(super) fn is_cut_reached(&self, part: &Part) -> bool {
        part.candidates.iter().any(|copy| !self.is_ahead(copy.leaf, part.question.as_of))
    }

    /// It was at this cut, and may be beyond it.
    pub(super) fn note_reached(&mut self, id: LeafId, cut: u64) {
        let leaf = self.leaf(id);
        leaf.as_of = leaf.as_of.max(cut);
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

    /// Questions that are open at all nodes, and questions that are watched.
    #[cfg(test)]
    pub(super) fn questions(&self) -> usize {
        self.all.values().map(|leaf| leaf.questions).sum()
    }
}
