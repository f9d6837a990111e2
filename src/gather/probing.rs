//! Probes: a silent copy is asked what another copy is asked anyway, to see whether it answers again.
//! Nobody waits for the answer, and its rows are dropped.
//!
//! # Decisions
//!
//! * A probe comes 20 ms after the silence, then 40 ms, and so on up to 500 ms. A query probes one copy at
//!   most, the one that has been due longest. No client waits for a probe, so recovery costs no client
//!   anything. A probe without an answer counts for the breaker like any question.

use super::gathering::{PartId, micros};
use super::leaves::is_fault_of_leaf;
use super::request::{RequestId, numbered};
use super::silence::{Probe, ProbeOutcome};
use super::{Gather, LeafId, Request};
use crate::limits::LEAF_PROBE_MAX;
use crate::time::Mono;
use crate::wire::ErrorCode;

impl Gather {
    /// Asks a silent copy of a part what another copy has been asked, if one is due and the budget allows it.
    pub(super) fn probe(&mut self, now: Mono, id: PartId) {
        let Some((gathering, part)) = self.in_flight.part(id) else { return };
        let Some(leaf) = self.leaves.choose_for_probe(now, part) else { return };
        if !self.budgets.take_probe() {
            return;
        }
        let due = gathering.leaves_due().min(now + LEAF_PROBE_MAX);
        let rows = part.rows();
        let question = part.question().clone();
        let request = self.fresh_request_id();
        let question = numbered(question, request, micros(due.since(now)));
        self.leaves.begin_probe(leaf, Probe { request, rows, asked: now, due });
        self.outbox.request(Request { leaf, question, deadline: due, is_ahead: false });
        self.counts.asked += 1;
        self.counts.probed += 1;
    }

    /// Ends the probes whose time is over.
    pub(super) fn give_up_probes(&mut self, now: Mono) {
        while let Some((leaf, probe)) = self.leaves.probe_due(now) {
            self.end_probe(leaf, probe.request, now, ProbeOutcome::NoAnswer);
            self.outbox.cancel(leaf, probe.request);
        }
    }

    /// Ends a probe of a node, if this is the number of one.
    pub(super) fn end_probe(
        &mut self,
        leaf: LeafId,
        request: RequestId,
        now: Mono,
        outcome: ProbeOutcome,
    ) -> bool {
        let Some(probe) = self.leaves.probe(leaf, request) else { return false };
        self.leaves.end_probe(now, leaf, probe, outcome);
        let has_failed = match outcome {
            ProbeOutcome::NoAnswer | ProbeOutcome::Complete => false,
            // It was at the cut when it was asked.
            ProbeOutcome::Incomplete(code) => {
                code.is_none_or(|it| it == ErrorCode::Behind || is_fault_of_leaf(it))
            }
        };
        if has_failed {
            self.leaves.note_failed(now, leaf);
        }
        self.outbox.forget(request);
        true
    }
}
