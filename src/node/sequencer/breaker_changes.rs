//! Changes of circuit breakers, reported to whoever listens: a log line, and a frame on `$sys.breaker`. Core
//! gives a place in its sequence to its own breakers' changes and to those that the aggregator reports.
//!
//! # Decisions
//!
//! * The aggregator reports changes of its breakers to core, because core gives each change its place in
//!   the one sequence. Whose it takes, and how many, is `reports`'s matter.

use super::{Sequencer, SequencerPeer};
use crate::breaker::{Reason, State, Transition};
use crate::log::Storage;
use crate::node::{ConnId, Level, breaker_change};
use crate::time::Now;
use crate::wire::{BreakerChange, Frame};

/// The instrument that breaker transitions are published under.
const BREAKER_TOPIC: &str = "$sys.breaker";
impl<S: Storage> Sequencer<S> {
    /// A breaker of ours changed its state: a line, and a frame on the system topic.
    pub(super) fn report_transition(&mut self, now: Now, name: &str, change: Transition) {
        self.connections.log(
            Level::Warn,
            format!("breaker {name}: {} -> {} ({})", change.from, change.to, change.reason),
        );
        self.publish_change(now, breaker_change(name, change));
    }

    /// Another node says that a breaker of its own changed: it gets its place on the system topic.
    pub(super) fn take_report(&mut self, now: Now, conn: ConnId, change: &BreakerChange) {
        let is_reporter = matches!(
            self.connections.peer(conn),
            Some(SequencerPeer::Querier(querier)) if querier.is_reporter
        );
        let is_known = State::from_number(change.from).is_some()
            && State::from_number(change.to).is_some()
            && Reason::from_number(change.reason).is_some();
        if !is_reporter || !is_known || !self.reports.take(now, &change.name) {
            if let Some(dropped) = self.reports.drop_one(now) {
                let text = format!(
                    "dropped {dropped} reports of breakers: too many, or not of the aggregator's own breakers"
                );
                self.connections.log(Level::Warn, text);
            }
            return;
        }
        let BreakerChange { from, to, reason, generation, name, .. } = *change;
        // Nothing but the change itself is taken over.
        let change =
            BreakerChange { from, to, reason, generation, name, ..BreakerChange::default() };
        self.publish_change(now, change);
    }

    fn publish_change(&mut self, now: Now, change: BreakerChange) {
        let topic = match BREAKER_TOPIC.parse() {
            Ok(symbol) => symbol,
            Err(_) => return,
        };
        if let Some(definition) = self.market.define_local(topic, 0, self.journal.next_seq(), now)
            && self.append_local(&definition).is_err()
        {
            self.local_dropped += 1;
        }
        let Some(instrument) = self.market.instrument_of(&topic) else { return };
        let frame = Frame::seal(change);
        let frame = self.market.stamp_local(now, frame, instrument, self.journal.next_seq());
        if self.append_local(&frame).is_err() {
            self.local_dropped += 1;
        }
    }
}
