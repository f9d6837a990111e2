//! Asks a copy of a part: the first one, or another because it failed, takes long or is silent. Not here:
//! which copy is best, which [`super::leaves`] knows, and when another is asked beside the first.

use super::gathering::{AttemptKind, NewAttempt, PartId, RowKind, micros};
use super::request::{RequestId, numbered};
use super::{Gather, GatherId, Request};
use crate::time::Mono;

impl Gather {
    /// Asks one copy of each part of a query.
    pub(super) fn scatter(&mut self, now: Mono, id: GatherId) {
        let Some(gathering) = self.in_flight.gathering(id) else { return };
        let parts = gathering.part_ids();
        // History takes longest, so it is asked first: to send a question may cost as much as a quote, when
        // it wakes a node on a processor that sleeps.
        for quotes in [false, true] {
            for part in parts.clone() {
                // The gathering may have ended meanwhile, when nobody could be asked.
                let planned = self.in_flight.part(part).map(|(_, part)| part);
                let is_due = planned
                    .is_some_and(|it| !it.is_done() && (it.rows() == RowKind::Quote) == quotes);
                if is_due {
                    self.ask(now, part, AttemptKind::First);
                }
            }
        }
    }

    /// Asks the best copy of a part that has not been asked. Ends the part when there is none and nobody
    /// is waited for.
    pub(super) fn ask(&mut self, now: Mono, id: PartId, kind: AttemptKind) {
        let Some((gathering, part)) = self.in_flight.part(id).filter(|(_, it)| !it.is_done())
        else {
            return;
        };
        let leaves_due = gathering.leaves_due();
        let has_time = now < leaves_due || kind == AttemptKind::First;
        let replica = match kind.is_beside() {
            true => self.leaves.choose_another(now, part),
            false => self.leaves.choose(now, part),
        };
        let Some(replica) = replica.filter(|_| has_time) else {
            let is_waited_for = part.open_attempts().next().is_some();
            self.in_flight.note_nobody_free(id);
            if !is_waited_for {
                self.end_part(now, id);
            }
            return;
        };
        let leaf = replica.leaf();
        // A client may name any cut. A node that waits for it is neither silent nor slow.
        let is_ahead = self.leaves.is_ahead(leaf, part.question().as_of);
        let request = self.fresh_request_id();
        let start = NewAttempt { replica, request, kind, begun: now, is_ahead };
        let Some(part) = self.in_flight.begin_attempt(id, start) else { return };
        let left = leaves_due.since(now);
        let question = numbered(part.question().clone(), request, micros(left));
        self.outbox.request(Request { leaf, question, deadline: leaves_due, is_ahead });
        self.counts.note_asked(kind);
        let has_replicas = part.has_replicas();
        self.leaves.note_asked(now, leaf, part.rows(), request, has_replicas && !is_ahead);
        if kind == AttemptKind::First {
            self.budgets.earn();
        }
        // To ask another that must wait as well brings nothing.
        let may_help = || !is_ahead || self.leaves.is_cut_reached(part);
        let wants_timer = !kind.is_beside() && !part.has_hedge_timer();
        if wants_timer && part.has_untried() && may_help() {
            let is_ample = self.budgets.has_ample_hedges();
            let at = now + self.leaves.hedge_after(part, left, is_ample);
            if at < leaves_due {
                self.in_flight.set_hedge_timer(id, Some(at));
            }
        }
        if kind == AttemptKind::First && has_replicas {
            self.probe(now, id);
        }
    }

    /// A number for a request: never 0, never one that is still open.
    pub(super) fn fresh_request_id(&mut self) -> RequestId {
        loop {
            self.last_request = self.last_request.wrapping_add(1);
            let id = RequestId(self.last_request);
            if id.0 != 0 && !self.in_flight.is_open(id) && !self.leaves.is_probe(id) {
                return id;
            }
        }
    }
}
