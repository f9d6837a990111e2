//! The circuit breaker machine: stops asking a peer that does not answer, and finds out when it does.
//!
//! A caller takes a [`Permit`] before each call and brings it back with the call's [`Outcome`]. The
//! breaker opens on consecutive refusals, or on the failure rate or slow rate over a window; it waits,
//! each time longer; it lets a few probes through; and it closes when they are *answered*.
//!
//! It is a machine: `now` is passed in, waits are announced by [`Breaker::next_deadline`], changes
//! come out of [`Breaker::poll_transition`], jitter comes from a seed. It makes no calls, retries
//! nothing and knows no fallback: that is the caller's.
//!
//! ```
//! use std::time::Duration;
//! use pregao::breaker::{Breaker, Config, Outcome, State};
//! use pregao::time::Mono;
//!
//! let mut breaker = Breaker::new(&Config::default(), 42).unwrap();
//! for _ in 0..3 {
//!     let permit = breaker.try_acquire(Mono(0)).unwrap();
//!     breaker.record(permit, Outcome::Refused, Mono(0));
//! }
//! let denied = breaker.try_acquire(Mono(0)).unwrap_err();
//! assert_eq!(denied.state, State::Open);
//!
//! let retry_at = denied.retry_at.unwrap();
//! let probe = breaker.try_acquire(retry_at).unwrap();
//! let answered = Outcome::Answered { latency: Duration::from_millis(2) };
//! breaker.record(probe, answered, retry_at + Duration::from_millis(2));
//! assert_eq!(breaker.state(), State::Closed);
//! ```

mod config;
mod permit;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
mod window;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::BREAKER_TRANSITIONS_MAX;
use crate::planted::{Bug, is_planted};
use crate::random::Random;
use crate::time::Mono;

pub use config::{Config, ConfigError, WindowType};
pub use permit::Permit;
pub use snapshot::{Counts, LastError, Snapshot};
pub use types::{Denied, LocalFault, Outcome, OutcomeClass, Reason, State, Transition};

use config::Rules;
use permit::{Shared, Spent};
use window::{Call, Sums, Window};

/// A state with what only that state needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    Closed,
    Open {
        until: Mono,
    },
    /// `deadline` is set by the first probe, so an idle peer is not held against it.
    HalfOpen {
        deadline: Option<Mono>,
        successes: u32,
    },
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

impl BreakerState {
    fn state(self) -> State {
        match self {
            BreakerState::Closed => State::Closed,
            BreakerState::Open { .. } => State::Open,
            BreakerState::HalfOpen { .. } => State::HalfOpen,
            BreakerState::ForcedOpen => State::ForcedOpen,
            BreakerState::Disabled => State::Disabled,
            BreakerState::MetricsOnly => State::MetricsOnly,
        }
    }
}

/// One circuit breaker. Lives in one thread, as do its permits.
///
/// Invariant: granted = recorded + late + given back + outstanding, always.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    state: BreakerState,
    since: Mono,
    shared: Rc<Shared>,
    window: Window,
    consecutive_refusals: u32,
    /// The wait that the next open state starts from, before jitter; grows until the breaker closes.
    next_wait_ns: u64,
    random: Random,
    counts: Counts,
    last_error: Option<LastError>,
    transitions: VecDeque<Transition>,
}

impl Breaker {
    /// A closed breaker. `seed` decides its jitter; give each breaker its own.
    ///
    /// # Errors
    /// When the configuration is not valid.
    pub fn new(config: &Config, seed: u64) -> Result<Breaker, ConfigError> {
        config.validate()?;
        let rules = Rules::new(config);
        let window = match config.sliding_window_type {
            WindowType::CountBased => Window::of_calls(config.sliding_window_size),
            WindowType::TimeBased => Window::of_seconds(config.sliding_window_size),
        };
        Ok(Breaker {
            state: BreakerState::Closed,
            since: Mono::default(),
            shared: Rc::default(),
            window,
            consecutive_refusals: 0,
            next_wait_ns: rules.wait_ns,
            random: Random::new(seed),
            counts: Counts::default(),
            last_error: None,
            transitions: VecDeque::with_capacity(BREAKER_TRANSITIONS_MAX),
            rules,
        })
    }

    /// Asks for the right to make one call.
    ///
    /// # Errors
    /// When the breaker is open, or half-open with all its probes under way.
    #[inline]
    pub fn try_acquire(&mut self, now: Mono) -> Result<Permit, Denied> {
        if matches!(self.state, BreakerState::Open { .. } | BreakerState::HalfOpen { .. }) {
            self.handle_timeout(now);
            if !is_planted(Bug::DialWhileOpen) {
                self.may_probe(now).inspect_err(|_| self.counts.denied += 1)?;
            }
        } else if self.state == BreakerState::ForcedOpen {
            self.counts.denied += 1;
            return Err(Denied { state: State::ForcedOpen, retry_at: None });
        }
        self.counts.granted += 1;
        Ok(Permit::grant(&self.shared))
    }

    /// Brings a permit back with what became of the call. An outcome from an earlier generation is
    /// counted as late and changes nothing else; a permit of another breaker goes back to that one.
    #[inline]
    pub fn record(&mut self, permit: Permit, outcome: Outcome, now: Mono) {
        match permit.spend(&self.shared) {
            Spent::Current => {
                self.counts.recorded += 1;
                let class = self.count(outcome, now);
                match self.state {
                    BreakerState::HalfOpen { .. } => self.evaluate_probe(class, outcome, now),
                    _ => self.evaluate(class, outcome, now),
                }
            }
            Spent::Late => {
                self.counts.late += 1;
                if is_planted(Bug::CountLateOutcome) {
                    let class = self.count(outcome, now);
                    self.evaluate(class, outcome, now);
                }
            }
            Spent::Foreign => self.counts.foreign += 1,
        }
    }

    /// Brings a permit back unused: the same as dropping it, in words.
    pub fn give_back(&self, permit: Permit) {
        drop(permit);
    }

    /// Takes in an outcome that nobody held a permit for, such as a standing connection that broke.
    /// It is judged in the closed state; in all others it is counted, since only probes and waits
    /// end an open state.
    pub fn observe(&mut self, outcome: Outcome, now: Mono) {
        self.counts.observed += 1;
        let class = self.count(outcome, now);
        self.evaluate(class, outcome, now);
    }

    /// Does what has become due. Nothing is due before [`Breaker::next_deadline`].
    pub fn handle_timeout(&mut self, now: Mono) {
        match self.state {
            BreakerState::Open { until } if now >= until => {
                self.enter(
                    BreakerState::HalfOpen { deadline: None, successes: 0 },
                    Reason::WaitOver,
                    now,
                );
            }
            BreakerState::HalfOpen { deadline: Some(at), successes } if now >= at => {
                if self.shared.under_way.get() > 0 {
                    self.open(Reason::ProbeDeadline, now);
                } else {
                    // Nobody is probing, so there is nothing to conclude; the next probe has its own time.
                    self.state = BreakerState::HalfOpen { deadline: None, successes };
                }
            }
            _ => {}
        }
    }

    /// When [`Breaker::handle_timeout`] wants to be called, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match self.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen { deadline, .. } => deadline,
            _ => None,
        }
    }

    /// The oldest change of state that has not been fetched. Of more than
    /// [`BREAKER_TRANSITIONS_MAX`] the oldest are lost, which the generations show.
    pub fn poll_transition(&mut self) -> Option<Transition> {
        self.transitions.pop_front()
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.state()
    }

    /// The present generation: the number of state changes so far.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.generation.get()
    }

    /// Operator: denies every call until told otherwise.
    pub fn force_open(&mut self, now: Mono) {
        self.obey(BreakerState::ForcedOpen, Reason::OperatorForcedOpen, now);
    }

    /// Operator: lets calls through and judges them from an empty window.
    pub fn close(&mut self, now: Mono) {
        self.obey(BreakerState::Closed, Reason::OperatorClosed, now);
    }

    /// Operator: lets every call through and judges nothing.
    pub fn disable(&mut self, now: Mono) {
        self.obey(BreakerState::Disabled, Reason::OperatorDisabled, now);
    }

    /// Operator: lets every call through and keeps rates without acting on them.
    pub fn metrics_only(&mut self, now: Mono) {
        self.obey(BreakerState::MetricsOnly, Reason::OperatorMetricsOnly, now);
    }

    /// Operator: closed, with an empty window and the first wait. A new generation even when it was
    /// closed. Counters go on: whoever reads them computes differences.
    pub fn reset(&mut self, now: Mono) {
        self.last_error = None;
        self.enter(BreakerState::Closed, Reason::OperatorReset, now);
    }

    /// Whether one more probe may start; sets the deadline with the first.
    fn may_probe(&mut self, now: Mono) -> Result<(), Denied> {
        match &mut self.state {
            BreakerState::HalfOpen { deadline, .. } => {
                if self.shared.under_way.get() >= self.rules.probes_max {
                    return Err(Denied { state: State::HalfOpen, retry_at: *deadline });
                }
                deadline.get_or_insert(now + self.rules.half_open_max);
                Ok(())
            }
            BreakerState::Open { until } => {
                Err(Denied { state: State::Open, retry_at: Some(*until) })
            }
            _ => Ok(()),
        }
    }

    /// Counts an outcome by its class and remembers it when it was an error.
    #[inline]
    fn count(&mut self, outcome: Outcome, now: Mono) -> OutcomeClass {
        let class = outcome.class(self.rules.slow_over);
        self.counts.by_class[class as usize] += 1;
        let local_fault = match outcome {
            Outcome::LocalFault(fault) => {
                self.counts.local_faults[fault as usize] += 1;
                Some(fault)
            }
            _ => None,
        };
        if class != OutcomeClass::Answered {
            self.last_error = Some(LastError { class, local_fault, at: now });
        }
        class
    }

    /// Puts an outcome into the window and, when closed, opens if a rule says so.
    #[inline]
    fn evaluate(&mut self, class: OutcomeClass, outcome: Outcome, now: Mono) {
        // A local fault says nothing about the peer, not even that a run of refusals has ended.
        if class == OutcomeClass::LocalFault
            || !matches!(self.state, BreakerState::Closed | BreakerState::MetricsOnly)
        {
            return;
        }
        let call = match class {
            OutcomeClass::Answered => Call::Good,
            OutcomeClass::Slow => Call::Slow,
            _ => Call::Failed,
        };
        let refused = matches!(class, OutcomeClass::Refused | OutcomeClass::Unreachable);
        self.consecutive_refusals =
            if refused { self.consecutive_refusals.saturating_add(1) } else { 0 };
        let sums = self.window.push(call, now);
        if self.state == BreakerState::MetricsOnly {
            return;
        }
        if let Outcome::ComeBackAt(at) = outcome {
            self.open_until(at, now);
        } else if let Some(reason) = self.broken_rule(sums) {
            self.open(reason, now);
        }
    }

    /// The rule that says to open, if one does.
    #[inline]
    fn broken_rule(&self, sums: Sums) -> Option<Reason> {
        let rules = &self.rules;
        if rules.refusals_max > 0 && self.consecutive_refusals >= rules.refusals_max {
            return Some(Reason::ConsecutiveRefusals);
        }
        if sums.calls < rules.calls_min {
            return None;
        }
        // Rates compared as products: no division, no rounding. Both sides stay below 2^46.
        let reached = |part: u32, basis_points: u64| {
            u64::from(part) * 10_000 >= basis_points * u64::from(sums.calls)
        };
        if reached(sums.failed, rules.failure_basis_points) {
            return Some(Reason::FailureRate);
        }
        reached(sums.slow, rules.slow_basis_points).then_some(Reason::SlowRate)
    }

    /// Lets a probe's outcome decide about the half-open state.
    fn evaluate_probe(&mut self, class: OutcomeClass, outcome: Outcome, now: Mono) {
        let BreakerState::HalfOpen { successes, .. } = &mut self.state else { return };
        match (class, outcome) {
            (OutcomeClass::Answered, _) => {
                *successes = successes.saturating_add(1);
                if *successes >= self.rules.successes_min {
                    self.enter(BreakerState::Closed, Reason::ProbesAnswered, now);
                }
            }
            (OutcomeClass::LocalFault, _) => {}
            (_, Outcome::ComeBackAt(at)) => self.open_until(at, now),
            (OutcomeClass::Slow, _) => self.open(Reason::ProbeSlow, now),
            _ => self.open(Reason::ProbeFailed, now),
        }
    }

    /// Opens for the next wait, and makes the one after it longer.
    #[cold]
    fn open(&mut self, reason: Reason, now: Mono) {
        let rules = &self.rules;
        let wait = self.next_wait_ns;
        let part = |per_mille: u64| {
            let part = u128::from(wait) * u128::from(per_mille) / 1000;
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let jitter = part(rules.jitter_per_mille);
        // The interval is cut at the cap, not the drawn value: else half of all peers that wait the
        // longest would come back at the same instant.
        let longest = wait.saturating_add(jitter).min(rules.wait_ns_max);
        let drawn = self.random.between(wait.saturating_sub(jitter), longest);
        self.next_wait_ns = part(rules.growth_per_mille).min(rules.wait_ns_max);
        let until = now + Duration::from_nanos(drawn.max(1));
        self.enter(BreakerState::Open { until }, reason, now);
    }

    /// Opens until the instant that the peer named, within reason. Says nothing about its health, so
    /// the waits do not grow.
    #[cold]
    fn open_until(&mut self, at: Mono, now: Mono) {
        let until = at.clamp(now, now + self.rules.come_back_max);
        self.enter(BreakerState::Open { until }, Reason::ComeBackLater, now);
    }

    /// An operator's wish; nothing happens when it is so already.
    fn obey(&mut self, state: BreakerState, reason: Reason, now: Mono) {
        if self.state != state {
            self.enter(state, reason, now);
        }
    }

    /// The one place where the state changes.
    #[cold]
    fn enter(&mut self, state: BreakerState, reason: Reason, now: Mono) {
        let from = self.state();
        self.state = state;
        self.since = now;
        let to = self.state();
        if matches!(to, State::Closed | State::MetricsOnly | State::Disabled) {
            self.window.clear();
            self.consecutive_refusals = 0;
            self.next_wait_ns = self.rules.wait_ns;
        }
        let generation = self.shared.begin_generation();
        self.counts.entered[to as usize] += 1;
        self.counts.by_reason[reason as usize - 1] += 1;
        if self.transitions.len() >= BREAKER_TRANSITIONS_MAX {
            self.transitions.pop_front();
            self.counts.transitions_lost += 1;
        }
        self.transitions.push_back(Transition { from, to, reason, generation, at: now });
    }
}
