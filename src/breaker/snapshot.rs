//! What a breaker says about itself: for status pages, metrics and log lines.

use std::fmt;
use std::rc::Rc;

use super::{Breaker, BreakerState, LocalFault, OutcomeClass, Reason, State};
use crate::time::Mono;

/// Counters since the breaker was made. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outcomes by [`OutcomeClass`] number; late ones are not in it.
    pub by_class: [u64; OutcomeClass::COUNT],
    /// Local faults by [`LocalFault`] number.
    pub local_faults: [u64; LocalFault::COUNT],
    /// How often each [`State`], by number, was entered.
    pub entered: [u64; State::ALL.len()],
    /// How often the state changed for each [`Reason`], by number less one.
    pub by_reason: [u64; Reason::ALL.len()],
    /// Permits granted.
    pub granted: u64,
    /// Permits that came back with an outcome in their own generation.
    pub recorded: u64,
    /// Permits that came back with an outcome after the state had changed.
    pub late: u64,
    /// Permits of other breakers that were recorded here by mistake.
    pub foreign: u64,
    /// Permits that came back unused.
    pub given_back: u64,
    /// Calls denied.
    pub denied: u64,
    /// Outcomes that nobody held a permit for.
    pub observed: u64,
    /// Transitions that were dropped because nobody fetched them.
    pub transitions_lost: u64,
}

/// The latest outcome that was not a timely answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What it was.
    pub class: OutcomeClass,
    /// Which, when it was a local fault.
    pub local_fault: Option<LocalFault>,
    /// When.
    pub at: Mono,
}

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.local_fault.map_or(self.class.as_str(), LocalFault::as_str))
    }
}

/// A breaker at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Mono,
    /// Number of state changes so far.
    pub generation: u32,
    /// Calls in the window.
    pub window_calls: u32,
    /// Percentage of them that failed; `None` below the minimum number of calls.
    pub failure_rate: Option<f64>,
    /// Percentage of them that were slow; `None` below the minimum number of calls.
    pub slow_rate: Option<f64>,
    /// Refusals in a row.
    pub consecutive_refusals: u32,
    /// The latest error, which shows itself in words.
    pub last_error: Option<LastError>,
    /// When the next probe may start: an instant while open, `since` while half-open with room,
    /// otherwise `None`.
    pub next_probe: Option<Mono>,
    /// Permits of the present generation that have not come back.
    pub under_way: u32,
    /// Permits of any generation that have not come back.
    pub outstanding: u64,
    /// The counters.
    pub counts: Counts,
}

impl Breaker {
    /// What there is to say about the breaker at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Mono) -> Snapshot {
        let sums = self.window.sums(now);
        let enough = sums.calls >= self.rules.calls_min;
        let rate =
            |part: u32| enough.then(|| f64::from(part) * 100.0 / f64::from(sums.calls.max(1)));
        let under_way = self.shared.under_way.get();
        let next_probe = match self.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen { .. } if under_way < self.rules.probes_max => Some(self.since),
            _ => None,
        };
        Snapshot {
            state: self.state(),
            since: self.since,
            generation: self.generation(),
            window_calls: sums.calls,
            failure_rate: rate(sums.failed),
            slow_rate: rate(sums.slow),
            consecutive_refusals: self.consecutive_refusals,
            last_error: self.last_error,
            next_probe,
            under_way,
            outstanding: Rc::strong_count(&self.shared) as u64 - 1,
            counts: Counts { given_back: self.shared.given_back.get(), ..self.counts },
        }
    }
}
