//! What the gather has learned of the nodes it asks: how fast they answer, how much is asked of them now,
//! who is silent, who failed a moment ago; and from it whom to ask, and when to ask another one as well.
//! Not here: connections and breakers, which the caller knows, and whether a budget allows to ask another.
//!
//! # Decisions
//!
//! * A part is asked of one copy at a time. The cost of a copy is its expected latency times its open questions,
//!   the new one included. The expected latency is a mean that forgets, or how long the copy has been quiet on an
//!   open question, whichever is longer. A copy that failed is avoided for a second. No copy is asked twice.
//! * A part is hedged after one and a half times the 95th percentile of the fastest copy: after 0.3 ms at
//!   the earliest, and after 1 ms when half of the hedge budget is used.
//! * A client may name any cut (`as_of`), also one in the future. Such a question goes first to a copy that
//!   has reported the cut. If there is none, the wait is not held against anybody: no silence, no hedge, no
//!   probe, no latency sample, no breaker outcome. ERROR Behind counts against a copy only if another copy
//!   is at the cut. The price: such questions do not detect a hanging node. Other questions and its
//!   heartbeat do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::gathering::{Part, RowKind, Untried};
use super::latency::Latency;
use super::request::RequestId;
use super::silence::{Probe, ProbeOutcome, SilenceDetector, silence_timeout};
use super::{LeafId, Replica};
use crate::limits::{
    GATHER_LEAF_QUESTIONS_MAX, HEDGE_AFTER_DEFAULT, HEDGE_AFTER_MIN, HEDGE_AFTER_SCARCE_MIN,
    LEAF_AVOID_WAIT,
};
use crate::time::{Mono, nanos};
use crate::wire::{ErrorCode, Seq};

#[derive(Debug, Default)]
struct Leaf {
    requests: usize,
    latencies: BTreeMap<RowKind, Latency>,
    failed_lately_until: Mono,
    silence: SilenceDetector,
    /// The largest `as_of` that it has shown.
    as_of: Option<Seq>,
    /// When it showed that.
    as_of_at: Option<Mono>,
    /// It did not know then that it had all that core had.
    is_as_of_old: bool,
}

/// A cut that all nodes of a query are to answer at.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommonCut {
    pub(super) seq: Seq,
    /// No node that was current was there, or before it: core may have been far beyond it.
    pub(super) is_old: bool,
}

/// How a node is at the moment: the better it is, the sooner it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    /// It failed a moment ago.
    FailedLately,
    Silent,
}

impl Leaf {
    fn health(&self, now: Mono) -> Health {
        if self.silence.is_silent() {
            Health::Silent
        } else if self.failed_lately_until > now {
            Health::FailedLately
        } else {
            Health::Healthy
        }
    }

    /// Whether a cut is ahead of all that it is known to have.
    fn is_ahead(&self, cut: Option<Seq>) -> bool {
        self.as_of < cut
    }

    /// Whether it has shown its place lately: no longer ago than `age_max`, where that matters.
    fn is_young(&self, now: Mono, age_max: Option<Duration>) -> bool {
        let is_young = |age_max| self.as_of_at.is_some_and(|at| now.since(at) <= age_max);
        age_max.is_none_or(is_young)
    }
}

/// Whether a code is about the leaf and would follow any question; one for an unknown symbol or a limit is not.
pub(super) fn is_fault_of_leaf(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Storage | ErrorCode::Stopping | ErrorCode::Failed)
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    all: BTreeMap<LeafId, Leaf>,
}

impl Leaves {
    fn leaf(&mut self, id: LeafId) -> &mut Leaf {
        self.all.entry(id).or_default()
    }

    /// Which copy to ask next: of those that are known to be at the question's cut, else of all, the one that
    /// promises to answer first; one that failed lately only when there is no other, and a silent one last of
    /// all. `None` when all have been asked, or may not be.
    pub(super) fn choose(&self, now: Mono, part: &Part) -> Option<Untried> {
        self.best(now, part, |_| true)
    }

    /// Which copy to ask beside those that take long. Hedge only to a responsive copy: skip one that has itself
    /// been silent on an open request for more than half as long. A silent copy is asked only when all copies
    /// are silent; frames that it sends late do not count then.
    pub(super) fn choose_another(&self, now: Mono, part: &Part) -> Option<Untried> {
        let ours = now.since(part.waiting_since()?);
        let all_silent = self.waits_only_for_silent(part);
        self.best(now, part, |leaf| match leaf.silence.is_silent() {
            true => all_silent && leaf.silence.oldest_open_for(now) * 2 <= ours,
            false => leaf.silence.quiet_for(now) * 2 <= ours,
        })
    }

    /// Whether this node is silent.
    pub(super) fn is_silent(&self, id: LeafId) -> bool {
        self.all.get(&id).is_some_and(|leaf| leaf.silence.is_silent())
    }

    fn best(&self, now: Mono, part: &Part, fits: impl Fn(&Leaf) -> bool) -> Option<Untried> {
        let may = |copy: &Untried| {
            let leaf = self.all.get(&copy.leaf());
            leaf.is_none_or(|leaf| leaf.requests < GATHER_LEAF_QUESTIONS_MAX && fits(leaf))
        };
        let cut = part.question().as_of;
        let cost = |copy: &Untried| {
            let Some(leaf) = self.all.get(&copy.leaf()) else {
                return (Health::Healthy, cut.is_some(), 1, copy.index());
            };
            let expected = leaf.latencies.get(&part.rows()).map_or(0, |it| it.expected_ns(now));
            // What it has kept until now is what the next one must expect at least.
            let expected = expected.max(nanos(leaf.silence.quiet_for(now))).max(1);
            let cost = expected.saturating_mul(leaf.requests as u64 + 1);
            (leaf.health(now), leaf.is_ahead(cut), cost, copy.index())
        };
        part.untried().filter(may).min_by_key(cost)
    }

    /// Whether every copy that a part still waits for is silent.
    pub(super) fn waits_only_for_silent(&self, part: &Part) -> bool {
        part.open_attempts().all(|attempt| self.is_silent(attempt.leaf()))
    }

    /// When to ask another copy as well: well after what 19 of 20 answers of the fastest copy take, and
    /// later when much of the budget is gone, so that some is left for a node that stops.
    pub(super) fn hedge_after(&self, part: &Part, within: Duration, is_ample: bool) -> Duration {
        let p95 = |copy: &Replica| self.all.get(&copy.leaf)?.latencies.get(&part.rows())?.p95();
        let observed = part.replicas().iter().filter_map(p95).min();
        let after = observed.map_or(HEDGE_AFTER_DEFAULT.min(within / 4), |p95| p95 + p95 / 2);
        after.max(if is_ample { HEDGE_AFTER_MIN } else { HEDGE_AFTER_SCARCE_MIN })
    }

    /// Whether a node that was asked is silent when nothing is heard of it matters only when another could
    /// be asked instead; the others are not watched, and need no timer.
    pub(super) fn note_asked(
        &mut self,
        now: Mono,
        id: LeafId,
        rows: RowKind,
        request: RequestId,
        is_watched: bool,
    ) {
        let leaf = self.leaf(id);
        leaf.requests += 1;
        if is_watched {
            leaf.silence.note_asked(rows, now, request);
        }
    }

    /// A frame came for an open question.
    pub(super) fn note_heard(&mut self, now: Mono, id: LeafId) {
        self.leaf(id).silence.note_heard(now);
    }

    /// A question is over.
    pub(super) fn note_over(&mut self, id: LeafId, rows: RowKind, asked: Mono, request: RequestId) {
        let leaf = self.leaf(id);
        leaf.requests = leaf.requests.saturating_sub(1);
        leaf.silence.note_over(rows, asked, request);
    }

    /// It was answered after so long; `is_good` when that is a sample of how fast good answers are.
    pub(super) fn note_answered(
        &mut self,
        now: Mono,
        id: LeafId,
        rows: RowKind,
        took: Duration,
        is_good: bool,
    ) {
        let leaf = self.leaf(id);
        leaf.silence.note_heard(now);
        leaf.silence.note_answered(took, silence_timeout(leaf.latencies.get(&rows)));
        if is_good {
            leaf.latencies.entry(rows).or_default().note(now, took);
        }
    }

    /// Another copy answered first. It is taken to be at least as slow as it has been until now.
    pub(super) fn note_race_lost(&mut self, now: Mono, id: LeafId, rows: RowKind, asked: Mono) {
        let leaf = self.leaf(id);
        let silence_timeout = silence_timeout(leaf.latencies.get(&rows));
        if !leaf.silence.note_race_lost(now, asked, silence_timeout) {
            leaf.failed_lately_until = now + LEAF_AVOID_WAIT;
        }
        leaf.latencies.entry(rows).or_default().note(now, now.since(asked));
    }

    /// It failed: others first for a moment.
    pub(super) fn note_failed(&mut self, now: Mono, id: LeafId) {
        self.leaf(id).failed_lately_until = now + LEAF_AVOID_WAIT;
    }

    /// Whether it failed a moment ago, or is silent.
    pub(super) fn is_unhealthy(&self, now: Mono, id: LeafId) -> bool {
        self.all.get(&id).is_some_and(|leaf| leaf.health(now) != Health::Healthy)
    }

    // ---- silence ----

    /// When the next node is found silent, if nothing is heard of it.
    pub(super) fn next_silence(&self) -> Option<Mono> {
        self.all.values().filter_map(|leaf| leaf.silence.silent_at(&leaf.latencies)).min()
    }

    /// Nodes that have been found silent just now.
    pub(super) fn newly_silent(&mut self, now: Mono) -> Vec<LeafId> {
        let mut found = Vec::new();
        for (id, leaf) in &mut self.all {
            if leaf.silence.silent_at(&leaf.latencies).is_some_and(|at| at <= now) {
                leaf.silence.fall_silent(now);
                leaf.silence.note_handled();
                found.push(*id);
            }
        }
        found
    }

    /// Nodes that are silent.
    pub(super) fn silent(&self) -> usize {
        self.all.values().filter(|leaf| leaf.silence.is_silent()).count()
    }

    /// A silent copy of a part that should be asked as well, to see whether it answers again.
    pub(super) fn choose_for_probe(&self, now: Mono, part: &Part) -> Option<LeafId> {
        let leaves = part.untried().filter_map(|copy| Some((copy, self.all.get(&copy.leaf())?)));
        let is_due = |(_, leaf): &(Untried, &Leaf)| {
            // One that waits for a cut would look silent for it.
            leaf.requests < GATHER_LEAF_QUESTIONS_MAX
                && leaf.silence.is_probe_due(now)
                && !leaf.is_ahead(part.question().as_of)
        };
        // The one that has waited longest: a node that answers no probe must not take those of another.
        let due = leaves.filter(is_due).min_by_key(|(_, leaf)| leaf.silence.next_probe());
        due.map(|(copy, _)| copy.leaf())
    }

    pub(super) fn begin_probe(&mut self, id: LeafId, probe: Probe) {
        self.leaf(id).silence.begin_probe(probe);
    }

    /// The probe of this number at a node.
    pub(super) fn probe(&self, id: LeafId, request: RequestId) -> Option<Probe> {
        let probe = self.all.get(&id)?.silence.probe();
        probe.filter(|probe| probe.request == request)
    }

    /// Whether this number is a probe's.
    pub(super) fn is_probe(&self, request: RequestId) -> bool {
        self.all.keys().any(|id| self.probe(*id, request).is_some())
    }

    /// A probe is over.
    pub(super) fn end_probe(&mut self, now: Mono, id: LeafId, probe: Probe, outcome: ProbeOutcome) {
        self.leaf(id).silence.end_probe();
        if outcome != ProbeOutcome::NoAnswer {
            let took = now.since(probe.asked);
            self.note_answered(now, id, probe.rows, took, outcome == ProbeOutcome::Complete);
        }
    }

    /// The open probe of a node.
    pub(super) fn open_probe(&self, id: LeafId) -> Option<Probe> {
        self.all.get(&id)?.silence.probe()
    }

    /// A probe whose time is over.
    pub(super) fn probe_due(&self, now: Mono) -> Option<(LeafId, Probe)> {
        let of = |(id, leaf): (&LeafId, &Leaf)| Some((*id, leaf.silence.probe()?));
        self.all.iter().filter_map(of).find(|(_, probe)| probe.due <= now)
    }

    /// When the time of the next probe is over.
    pub(super) fn next_probe_due(&self) -> Option<Mono> {
        self.all.values().filter_map(|leaf| leaf.silence.probe()).map(|probe| probe.due).min()
    }

    // ---- cuts ----

    /// Whether a cut is ahead of all that this node is known to have.
    pub(super) fn is_ahead(&self, id: LeafId, cut: Option<Seq>) -> bool {
        self.all.get(&id).map_or(cut.is_some(), |leaf| leaf.is_ahead(cut))
    }

    /// Whether some copy of a part is known to be at the question's cut.
    pub(super) fn is_cut_reached(&self, part: &Part) -> bool {
        part.replicas().iter().any(|copy| !self.is_ahead(copy.leaf, part.question().as_of))
    }

    /// It was at this cut, and may be beyond it.
    pub(super) fn note_reached(&mut self, id: LeafId, cut: Option<Seq>) {
        let leaf = self.leaf(id);
        leaf.as_of = leaf.as_of.max(cut);
    }

    /// It has everything before this `seq`. Not kept as a maximum for ever: a new epoch may take it back. `is_old`: it
    /// does not know that this is all that core has.
    pub(super) fn note_as_of(&mut self, now: Mono, id: LeafId, as_of: Option<Seq>, is_old: bool) {
        if as_of.is_some() {
            let leaf = self.leaf(id);
            (leaf.as_of, leaf.as_of_at, leaf.is_as_of_old) = (as_of, Some(now), is_old);
        }
    }

    /// It says so in its greeting. That is where it was when it took the connection, and it may still have been far behind.
    pub(super) fn note_greeting(&mut self, id: LeafId, as_of: Option<Seq>) {
        if as_of.is_some() {
            let leaf = self.leaf(id);
            (leaf.as_of, leaf.as_of_at) = (as_of, None);
        }
    }

    /// The newest cut at which some copy of each of these parts can answer at once; `None` when it is
    /// not known of one.
    ///
    /// A place that a copy has shown longer ago than `age_max`, or in its greeting, is not where it is now. A part of which nothing younger is
    /// known waits for the others' cut, or says that it is behind: as of its old place, an answer would be complete and old.
    /// When nothing younger is known of any part, there is no cut, for the same reason.
    ///
    /// A young place may be an old one too: that of a node that nobody feeds. It gives the cut, and the cut is old, unless a
    /// node that was current has shown that core was not beyond it.
    pub(super) fn common_cut(
        &self,
        now: Mono,
        parts: &[Part],
        age_max: Option<Duration>,
    ) -> Option<CommonCut> {
        let asked = || parts.iter().filter(|part| !part.is_pruned());
        let is_known = |part: &Part| self.places(part).any(|leaf| leaf.as_of.is_some());
        if !asked().all(is_known) {
            return None;
        }
        let seq = asked().filter_map(|part| self.young_place(now, part, age_max)).min()?;
        let young = asked().flat_map(|part| self.places(part));
        let mut young = young.filter(|leaf| leaf.is_young(now, age_max));
        let is_old = !young.any(|leaf| !leaf.is_as_of_old && leaf.as_of <= Some(seq));
        Some(CommonCut { seq, is_old })
    }

    /// Whether an old cut is this part's: no copy of it was known to be beyond it.
    pub(super) fn holds_back(
        &self,
        now: Mono,
        part: &Part,
        cut: CommonCut,
        age_max: Option<Duration>,
    ) -> bool {
        cut.is_old && self.young_place(now, part, age_max) == Some(cut.seq)
    }

    /// What is known of the copies of a part.
    fn places(&self, part: &Part) -> impl Iterator<Item = &Leaf> {
        part.replicas().iter().filter_map(|copy| self.all.get(&copy.leaf))
    }

    /// How far the copy of a part is that is furthest, of those that have shown it lately.
    fn young_place(&self, now: Mono, part: &Part, age_max: Option<Duration>) -> Option<Seq> {
        let young = self.places(part).filter(|leaf| leaf.is_young(now, age_max));
        young.filter_map(|leaf| leaf.as_of).max()
    }

    /// The newest cut that any node has shown.
    pub(super) fn newest_cut(&self) -> Option<Seq> {
        self.all.values().map(|leaf| leaf.as_of).max().flatten()
    }

    /// Requests that are open at all nodes.
    #[cfg(test)]
    pub(super) fn requests(&self) -> usize {
        self.all.values().map(|leaf| leaf.requests).sum()
    }
}
