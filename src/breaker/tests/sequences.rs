//! Random sequences of events, and what must hold after each of them.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Acquire,
    /// Ends one of the held permits, chosen by number.
    Record(usize, Outcome),
    Drop(usize),
    Observe(Outcome),
    Timeout,
    Operator(u8),
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(GOOD),
        1 => Just(SLOW),
        3 => Just(Outcome::Refused),
        1 => Just(Outcome::Unreachable),
        1 => Just(Outcome::ConnectDeadline),
        1 => Just(Outcome::RequestDeadline),
        1 => Just(Outcome::Reset),
        1 => Just(Outcome::ProtocolError),
        1 => (0..20_000u64).prop_map(|ms| Outcome::ComeBackAt(Mono(ms * MS))),
        1 => Just(Outcome::LocalFault(LocalFault::SystemDescriptors)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_000u64).prop_map(|ms| Step::Wait(ms * MS)),
        8 => Just(Step::Acquire),
        6 => (any::<usize>(), outcomes()).prop_map(|(n, o)| Step::Record(n, o)),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => outcomes().prop_map(Step::Observe),
        2 => Just(Step::Timeout),
        1 => (0..40u8).prop_map(Step::Operator),
    ]
}

/// Whether the machine may ever go from one state to another for this reason.
fn is_legal(change: Transition) -> bool {
    use Reason::*;
    match change.reason {
        ConsecutiveRefusals | FailureRate | SlowRate => {
            (change.from, change.to) == (State::Closed, State::Open)
        }
        WaitOver => (change.from, change.to) == (State::Open, State::HalfOpen),
        ProbesAnswered => (change.from, change.to) == (State::HalfOpen, State::Closed),
        ProbeFailed | ProbeSlow | ProbeDeadline => {
            (change.from, change.to) == (State::HalfOpen, State::Open)
        }
        ComeBackLater => {
            matches!(change.from, State::Closed | State::HalfOpen) && change.to == State::Open
        }
        OperatorForcedOpen => change.to == State::ForcedOpen,
        OperatorClosed | OperatorReset => change.to == State::Closed,
        OperatorDisabled => change.to == State::Disabled,
        OperatorMetricsOnly => change.to == State::MetricsOnly,
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        seed: u64,
        probes in 1..4u32,
        successes in 1..4u32,
        timed: bool,
        steps in prop::collection::vec(steps(), 1..if cfg!(miri) { 30 } else { 300 }),
    ) {
        let config = Config {
            permitted_number_of_calls_in_half_open_state: probes,
            required_successes_in_half_open_state: successes,
            sliding_window_type: if timed { WindowType::TimeBased } else { WindowType::CountBased },
            ..Config::default()
        };
        let mut breaker = Breaker::new(&config, seed).unwrap();
        let mut now = Mono(0);
        let mut held: Vec<Permit> = Vec::new();
        let mut state = State::Closed;
        let mut generation = 0;
        for step in steps {
            let open_until = (breaker.state() == State::Open).then(|| breaker.next_deadline().unwrap());
            match step {
                Step::Wait(ns) => now = Mono(now.0 + ns),
                Step::Acquire => {
                    let got = breaker.try_acquire(now);
                    match got {
                        Ok(permit) => {
                            prop_assert!(open_until.is_none_or(|until| now >= until), "while open");
                            let after = breaker.state();
                            prop_assert!(!matches!(after, State::Open | State::ForcedOpen));
                            prop_assert_eq!(permit.generation(), breaker.generation());
                            held.push(permit);
                        }
                        Err(denied) => {
                            prop_assert_eq!(denied.state, breaker.state());
                            let named = denied.retry_at.is_some();
                            prop_assert_eq!(named, denied.state != State::ForcedOpen);
                        }
                    }
                }
                Step::Record(n, outcome) if !held.is_empty() => {
                    let permit = held.swap_remove(n % held.len());
                    let late = permit.generation() != breaker.generation();
                    let before = (breaker.state, breaker.generation(), breaker.last_error);
                    let sums = breaker.window.sums(now);
                    breaker.record(permit, outcome, now);
                    if late {
                        let after = (breaker.state, breaker.generation(), breaker.last_error);
                        prop_assert_eq!(before, after);
                        prop_assert_eq!(sums, breaker.window.sums(now));
                    }
                }
                Step::Drop(n) if !held.is_empty() => drop(held.swap_remove(n % held.len())),
                Step::Record(..) | Step::Drop(_) => {}
                Step::Observe(outcome) => breaker.observe(outcome, now),
                Step::Timeout => {
                    breaker.handle_timeout(now);
                    prop_assert!(breaker.next_deadline().is_none_or(|due| due > now));
                }
                Step::Operator(0) => breaker.force_open(now),
                Step::Operator(1) => breaker.disable(now),
                Step::Operator(2) => breaker.metrics_only(now),
                Step::Operator(3..10) => breaker.close(now),
                Step::Operator(10) => breaker.reset(now),
                Step::Operator(_) => {}
            }
            while let Some(change) = breaker.poll_transition() {
                prop_assert_eq!(change.from, state, "no change is skipped");
                prop_assert_eq!(change.generation, generation + 1);
                prop_assert!(is_legal(change), "{:?}", change);
                state = change.to;
                generation = change.generation;
            }
            prop_assert_eq!(state, breaker.state());
            prop_assert_eq!(generation, breaker.generation());
            let snapshot = breaker.snapshot(now);
            let counts = snapshot.counts;
            // No permit is ever lost, and each is counted once.
            prop_assert_eq!(snapshot.outstanding, held.len() as u64);
            prop_assert_eq!(
                counts.granted,
                counts.recorded + counts.late + counts.given_back + snapshot.outstanding
            );
            let current = held.iter().filter(|p| p.generation() == generation).count();
            prop_assert_eq!(snapshot.under_way as usize, current);
            if state == State::HalfOpen {
                prop_assert!(snapshot.under_way <= probes);
            }
            if matches!(state, State::Open | State::ForcedOpen) {
                prop_assert_eq!(snapshot.under_way, 0);
            }
            prop_assert_eq!(counts.by_reason.iter().sum::<u64>(), u64::from(generation));
            let counted: u64 = counts.by_class.iter().sum();
            prop_assert_eq!(counted, counts.recorded + counts.observed);
        }
    }
}
