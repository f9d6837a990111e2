//! When a part takes long: another copy is asked as well (a hedge), or instead of copies that are silent (a
//! failover). Not here: asking itself.
//!
//! # Decisions
//!
//! * Hedge only to a responsive copy: skip one that has itself been silent on an open request for more than
//!   half as long. What slows all copies alike (a burst, a busy processor) would otherwise double the load
//!   at that moment.
//! * Hedges and silence are checked after all reads of a turn, for the same reason.

use super::Gather;
use super::gathering::{AttemptKind, PartId};
use crate::limits::HEDGE_AFTER_MIN;
use crate::time::Mono;

impl Gather {
    /// Finds out who is silent, and looks at the parts that wait for them or take long.
    pub(super) fn check_slow(&mut self, now: Mono) {
        self.give_up_probes(now);
        let silent = self.leaves.newly_silent(now);
        if !silent.is_empty() {
            for attempt in self.in_flight.open_attempts_at(|leaf| silent.contains(&leaf)) {
                self.check_part(now, attempt.part());
            }
        }
        while let Some(part) = self.in_flight.pop_hedge(now) {
            self.check_part(now, part);
        }
    }

    /// A part takes long: asks another copy as well, when there is one that may do better and a budget
    /// allows it. Else the part is looked at again when it has taken twice as long.
    fn check_part(&mut self, now: Mono, id: PartId) {
        self.in_flight.set_hedge_timer(id, None);
        let Some((gathering, part)) = self.in_flight.part(id).filter(|(_, it)| !it.is_done())
        else {
            return;
        };
        let is_only_silent = self.leaves.waits_only_for_silent(part);
        // An answer in hand waits for a first copy that knows better, not for one that is silent.
        if is_only_silent && part.is_answered() {
            return self.end_part(now, id);
        }
        let is_over = now >= gathering.leaves_due() || !part.has_untried();
        let Some(since) = part.waiting_since().filter(|_| !is_over) else { return };
        if let Some(other) = self.leaves.choose_another(now, part) {
            // From one silent copy to another is a guess, which is what hedges are for.
            let is_failover = is_only_silent && !self.leaves.is_silent(other.leaf());
            // One that was asked beside another is waited for, until it is silent too.
            let is_alone = part.open_attempts().count() == 1;
            if is_failover && self.budgets.take_failover() {
                return self.ask_beside(now, id, AttemptKind::Failover, since);
            }
            if !is_failover && is_alone && self.budgets.take_hedge() {
                return self.ask_beside(now, id, AttemptKind::Hedge, since);
            }
            if (is_failover || is_alone) && self.in_flight.note_hedge_denied(id) {
                self.counts.hedges_denied += 1;
            }
        }
        self.check_again(now, id, since);
    }

    /// Asks another copy beside those that are waited for since then; a third one may be needed later.
    fn ask_beside(&mut self, now: Mono, id: PartId, kind: AttemptKind, since: Mono) {
        self.ask(now, id, kind);
        self.check_again(now, id, since);
    }

    /// Has a part looked at again when it has taken twice as long, if there is another copy then.
    fn check_again(&mut self, now: Mono, id: PartId, since: Mono) {
        let Some((gathering, part)) = self.in_flight.part(id) else { return };
        if part.is_done() || part.has_hedge_timer() || !part.has_untried() {
            return;
        }
        let at = now + now.since(since).max(HEDGE_AFTER_MIN);
        if at < gathering.leaves_due() {
            self.in_flight.set_hedge_timer(id, Some(at));
        }
    }
}
