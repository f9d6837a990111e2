//! Changes of circuit breakers, reported to whoever listens: a log line, and a frame on `$sys.breaker`. Core
//! gives a place in its sequence to its own breakers' changes and to those that the aggregator reports.
//!
//! # Decisions
//!
//! * The aggregator reports changes of its breakers to core, because core gives each change its place in
//!   the one sequence. Whose it takes, and how many, is `reports`'s matter.
//! * The breaker of requests to the exchange flaps where the exchange refuses some of them, on purpose or not, and the
//!   feed flows meanwhile. A line for each change would hide what matters. So the first is a line, and those that
//!   follow are summed up once in [`limits::BREAKER_CHANGES_LOG_EVERY`]. The topic has each.

use super::exchange::REQUEST_BREAKER;
use super::{Sequencer, SequencerPeer};
use crate::breaker::{Reason, State, Transition};
use crate::limits;
use crate::log::Storage;
use crate::node::{ConnId, Level, breaker_change};
use crate::time::{Mono, Now};
use crate::wire::{BreakerChange, Decimals, Frame, Names};

/// The changes of the breaker of requests that the log has not told.
#[derive(Debug, Default)]
pub(super) struct RequestChanges {
    untold: u64,
    /// When the log had a line about this breaker last.
    told_at: Option<Mono>,
}

/// Breaker changes have neither prices nor quantities.
const NO_DECIMALS: Decimals = Decimals { price: 0, quantity: 0 };

impl RequestChanges {
    fn is_due(&self, now: Now) -> bool {
        let is_long_ago = |at: Mono| now.mono.since(at) >= limits::BREAKER_CHANGES_LOG_EVERY;
        self.told_at.is_none_or(is_long_ago)
    }

    /// Takes note of a change. Whether it has a line of its own.
    fn note(&mut self, now: Now) -> bool {
        let is_told = self.untold == 0 && self.is_due(now);
        if is_told {
            self.told_at = Some(now.mono);
        } else {
            self.untold += 1;
        }
        is_told
    }

    /// How many changes are to be summed up now.
    fn poll(&mut self, now: Now) -> Option<u64> {
        let is_due = self.untold > 0 && self.is_due(now);
        is_due.then(|| {
            self.told_at = Some(now.mono);
            std::mem::take(&mut self.untold)
        })
    }
}

/// The instrument that breaker transitions are published under.
const BREAKER_TOPIC: &str = "$sys.breaker";
impl<S: Storage> Sequencer<S> {
    /// A breaker of ours changed its state: a line, and a frame on the system topic.
    pub(super) fn report_transition(&mut self, now: Now, name: &str, change: Transition) {
        let text = format!("breaker {name}: {} -> {} ({})", change.from, change.to, change.reason);
        // What an operator does is always said.
        let is_ordered = change.reason >= Reason::OperatorForcedOpen;
        if name != REQUEST_BREAKER || is_ordered {
            self.connections.log(Level::Warn, text);
        } else if self.reports.of_requests.note(now) {
            self.connections.log(Level::Info, format!("{text}; the feed is not concerned"));
        }
        self.publish_change(now, breaker_change(name, change));
    }

    /// Says how often the breaker of requests has changed, once a minute at most.
    pub(super) fn sum_up_request_changes(&mut self, now: Now) {
        if let Some(count) = self.reports.of_requests.poll(now) {
            let text = format!(
                "breaker {REQUEST_BREAKER}: {count} more changes since the last line about it: the exchange refuses \
                 requests or is late; the feed is not concerned"
            );
            self.connections.log(Level::Info, text);
        }
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
        if let Some(definition) =
            self.market.define_local(&Names::of(topic), NO_DECIMALS, self.journal.next_seq(), now)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_that_flaps_for_an_hour_is_a_line_a_minute_and_none_of_its_changes_is_forgotten() {
        let now = |second: u64| Now { mono: Mono((1_000 + second) * 1_000_000_000), wall_ns: 0 };
        let mut changes = RequestChanges::default();
        let (mut lines, mut told) = (0, 0);
        for second in 0..3_600 {
            if changes.note(now(second)) {
                (lines, told) = (lines + 1, told + 1);
            }
            if let Some(count) = changes.poll(now(second)) {
                (lines, told) = (lines + 1, told + count);
            }
        }
        assert!((59..=61).contains(&lines), "{lines} lines");
        told += changes.poll(now(3_700)).unwrap();
        assert_eq!(told, 3_600);
        assert_eq!(changes.poll(now(9_000)), None, "nothing happened");
        assert!(changes.note(now(9_000)), "after a quiet time a change is told at once");
    }
}
