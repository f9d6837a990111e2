//! Every pair of state and event, and the rules one by one.

mod sequences;

use std::time::Duration;

use super::*;

const MS: u64 = 1_000_000;
const GOOD: Outcome = Outcome::Answered { latency: Duration::from_millis(1) };
const SLOW: Outcome = Outcome::Answered { latency: Duration::from_secs(9) };

fn breaker(change: impl FnOnce(&mut Config)) -> Breaker {
    let mut config = Config { randomized_wait_factor: 0.0, ..Config::default() };
    change(&mut config);
    Breaker::new(&config, 1).unwrap()
}

fn call(breaker: &mut Breaker, outcome: Outcome, now: Mono) {
    let permit = breaker.try_acquire(now).expect("the test expects a permit");
    breaker.record(permit, outcome, now);
}

/// Opens a default breaker at `now` and goes on to the end of its wait.
fn half_open(breaker: &mut Breaker, now: Mono) -> Mono {
    for _ in 0..3 {
        call(breaker, Outcome::Refused, now);
    }
    let due = breaker.next_deadline().unwrap();
    breaker.handle_timeout(due);
    assert_eq!(breaker.state(), State::HalfOpen);
    due
}

// ---- every state and every event ----

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Acquire,
    GiveBack,
    Record(Outcome),
    /// An outcome of a permit from before the state was entered.
    RecordLate(Outcome),
    /// An outcome of another breaker's permit.
    RecordForeign(Outcome),
    Observe(Outcome),
    TimeoutEarly,
    TimeoutDue,
    ForceOpen,
    Close,
    Disable,
    MetricsOnly,
    Reset,
}

/// A breaker that one refusal or failure trips, in the given state at time 100 s, with a permit from
/// the generation before.
fn in_state(state: State) -> (Breaker, Permit) {
    let mut breaker = breaker(|c| {
        c.consecutive_refusals_threshold = 1;
        c.minimum_number_of_calls = 1;
    });
    let start = Mono(99_000 * MS);
    breaker.reset(start);
    let late = breaker.try_acquire(start).unwrap();
    match state {
        State::Closed => breaker.reset(start),
        State::Open => call(&mut breaker, Outcome::Refused, Mono(99_900 * MS)),
        State::HalfOpen => {
            call(&mut breaker, Outcome::Refused, start);
            breaker.handle_timeout(start + Duration::from_millis(500));
            call(&mut breaker, Outcome::Reset, Mono(99_600 * MS));
            breaker.handle_timeout(start + Duration::from_secs(2));
        }
        State::ForcedOpen => breaker.force_open(start),
        State::Disabled => breaker.disable(start),
        State::MetricsOnly => breaker.metrics_only(start),
    }
    assert_eq!(breaker.state(), state);
    while breaker.poll_transition().is_some() {}
    (breaker, late)
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    use Event::{
        Acquire, Close, Disable, ForceOpen, GiveBack, Observe, Record, RecordForeign, RecordLate,
        Reset, TimeoutDue, TimeoutEarly,
    };
    use State::{Closed, Disabled, ForcedOpen, HalfOpen, Open};
    const AT: Mono = Mono(101_000 * MS);
    let come_back = Outcome::ComeBackAt(AT + Duration::from_secs(3));
    let local = Outcome::LocalFault(LocalFault::ProcessDescriptors);
    type Row = [Option<(State, Reason)>; State::ALL.len()];
    let stay: Row = [None; 6];
    let only = |state: State, to: State, reason: Reason| {
        let mut row = stay;
        row[state as usize] = Some((to, reason));
        row
    };
    let from_closed_and_probing = |closed: Reason, probing: Reason| {
        let mut row = stay;
        row[Closed as usize] = Some((Open, closed));
        row[HalfOpen as usize] = Some((Open, probing));
        row
    };
    let operator = |to: State, reason: Reason| {
        let mut row = [Some((to, reason)); 6];
        row[to as usize] = None;
        row
    };
    // Columns: closed, open, half-open, forced-open, disabled, metrics-only.
    // The open breaker's wait ended at 100.4 s, so acquiring at 101 s makes it half-open.
    let wait_over = only(Open, HalfOpen, Reason::WaitOver);
    let failed = from_closed_and_probing(Reason::FailureRate, Reason::ProbeFailed);
    let refused = from_closed_and_probing(Reason::ConsecutiveRefusals, Reason::ProbeFailed);
    let table: Vec<(Event, Row)> = vec![
        (Acquire, wait_over),
        (GiveBack, wait_over),
        (Record(GOOD), only(HalfOpen, Closed, Reason::ProbesAnswered)),
        (Record(SLOW), from_closed_and_probing(Reason::SlowRate, Reason::ProbeSlow)),
        (Record(Outcome::Refused), refused),
        (Record(Outcome::Unreachable), refused),
        (Record(Outcome::ConnectDeadline), failed),
        (Record(Outcome::RequestDeadline), failed),
        (Record(Outcome::Reset), failed),
        (Record(Outcome::ProtocolError), failed),
        (Record(come_back), from_closed_and_probing(Reason::ComeBackLater, Reason::ComeBackLater)),
        (Record(local), stay),
        (RecordLate(GOOD), stay),
        (RecordLate(Outcome::Refused), stay),
        (RecordLate(come_back), stay),
        (RecordForeign(Outcome::Refused), stay),
        (Observe(GOOD), stay),
        (Observe(Outcome::Reset), only(Closed, Open, Reason::FailureRate)),
        (Observe(come_back), only(Closed, Open, Reason::ComeBackLater)),
        (TimeoutEarly, stay),
        (TimeoutDue, wait_over),
        (ForceOpen, operator(ForcedOpen, Reason::OperatorForcedOpen)),
        (Close, operator(Closed, Reason::OperatorClosed)),
        (Disable, operator(Disabled, Reason::OperatorDisabled)),
        (Event::MetricsOnly, operator(State::MetricsOnly, Reason::OperatorMetricsOnly)),
        (Reset, [Some((Closed, Reason::OperatorReset)); 6]),
    ];
    for (event, row) in table {
        for state in State::ALL {
            let (mut breaker, late) = in_state(state);
            let generation = breaker.generation();
            let early = Mono(100_399 * MS);
            let mut held = None;
            match event {
                // An open breaker at a moment when it still is: no permit, so nothing to record.
                Record(_) if matches!(state, Open | ForcedOpen) => {
                    let denied = breaker.try_acquire(early).unwrap_err();
                    assert_eq!(denied.state, state);
                }
                Acquire => held = breaker.try_acquire(AT).ok(),
                GiveBack => {
                    if let Ok(permit) = breaker.try_acquire(AT) {
                        breaker.give_back(permit);
                    }
                }
                Record(outcome) => call(&mut breaker, outcome, AT),
                RecordLate(outcome) => breaker.record(late, outcome, AT),
                RecordForeign(outcome) => {
                    let mut other = Breaker::new(&Config::default(), 9).unwrap();
                    let permit = other.try_acquire(AT).unwrap();
                    breaker.record(permit, outcome, AT);
                    assert_eq!(breaker.counts.foreign, 1);
                    assert_eq!(other.snapshot(AT).counts.given_back, 1, "it went home");
                }
                Observe(outcome) => breaker.observe(outcome, AT),
                TimeoutEarly => breaker.handle_timeout(early),
                TimeoutDue => breaker.handle_timeout(AT),
                ForceOpen => breaker.force_open(AT),
                Close => breaker.close(AT),
                Disable => breaker.disable(AT),
                Event::MetricsOnly => breaker.metrics_only(AT),
                Reset => breaker.reset(AT),
            }
            let change = breaker.poll_transition();
            let got = change.map(|c| (c.to, c.reason));
            assert_eq!(got, row[state as usize], "{event:?} while {state}");
            let after = row[state as usize].map_or(state, |(to, _)| to);
            assert_eq!(breaker.state(), after, "{event:?} while {state}");
            assert_eq!(
                breaker.poll_transition(),
                None,
                "{event:?} while {state}: one change at most"
            );
            let changes = u32::from(change.is_some());
            assert_eq!(breaker.generation(), generation + changes);
            if let Some(change) = change {
                assert_eq!((change.from, change.generation), (state, generation + 1));
            }
            if event == Acquire {
                assert_eq!(held.is_some(), state != ForcedOpen, "{event:?} while {state}");
            }
        }
    }
}

// ---- the rules ----

#[test]
fn the_third_refusal_in_a_row_opens_and_an_answer_starts_the_count_anew() {
    let mut breaker = breaker(|_| {});
    for outcome in [Outcome::Refused, Outcome::Refused, GOOD, Outcome::Refused, Outcome::Refused] {
        call(&mut breaker, outcome, Mono(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, Outcome::LocalFault(LocalFault::LocalAddresses), Mono(0));
    assert_eq!(breaker.state(), State::Closed, "a local fault is no refusal");
    call(&mut breaker, Outcome::Refused, Mono(0));
    assert_eq!(breaker.poll_transition().unwrap().reason, Reason::ConsecutiveRefusals);
}

#[test]
fn a_threshold_of_no_refusals_turns_the_rule_off() {
    let mut breaker = breaker(|c| c.consecutive_refusals_threshold = 0);
    for _ in 0..9 {
        call(&mut breaker, Outcome::Refused, Mono(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, Outcome::Refused, Mono(0));
    assert_eq!(breaker.poll_transition().unwrap().reason, Reason::FailureRate);
}

#[test]
fn local_faults_never_open_the_breaker() {
    let mut breaker = breaker(|c| c.minimum_number_of_calls = 1);
    for _ in 0..100 {
        call(&mut breaker, Outcome::LocalFault(LocalFault::Memory), Mono(0));
    }
    let snapshot = breaker.snapshot(Mono(0));
    assert_eq!(snapshot.state, State::Closed);
    assert_eq!(snapshot.window_calls, 0);
    assert_eq!(snapshot.counts.local_faults[LocalFault::Memory as usize], 100);
    assert_eq!(snapshot.last_error.unwrap().to_string(), "no memory left (ENOMEM)");
}

#[test]
fn no_rate_is_judged_below_the_minimum_number_of_calls() {
    let mut breaker = breaker(|_| {});
    for n in 0..9 {
        call(&mut breaker, Outcome::Reset, Mono(0));
        assert_eq!(breaker.state(), State::Closed, "after {} failures", n + 1);
    }
    assert_eq!(breaker.snapshot(Mono(0)).failure_rate, None);
    call(&mut breaker, Outcome::Reset, Mono(0));
    assert_eq!(breaker.poll_transition().unwrap().reason, Reason::FailureRate);
}

#[test]
fn the_failure_rate_opens_at_the_threshold_and_not_below() {
    let mut breaker = breaker(|_| {});
    for n in 0..19 {
        // 9 of 19 fail, spread so that no earlier count of 10 or more reaches half.
        call(&mut breaker, if n >= 2 && n % 2 == 0 { Outcome::Reset } else { GOOD }, Mono(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    let rate = breaker.snapshot(Mono(0)).failure_rate.unwrap();
    assert!((rate - 900.0 / 19.0).abs() < 1e-9, "{rate}");
    call(&mut breaker, Outcome::Reset, Mono(0));
    assert_eq!(breaker.state(), State::Open, "10 of 20");
}

#[test]
fn slow_answers_open_by_their_own_rate() {
    let mut breaker = breaker(|_| {});
    for n in 0..9 {
        call(&mut breaker, if n < 2 { GOOD } else { SLOW }, Mono(0));
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, SLOW, Mono(0));
    assert_eq!(breaker.poll_transition().unwrap().reason, Reason::SlowRate);
    let exactly = Outcome::Answered { latency: Duration::from_secs(1) };
    assert_eq!(exactly.class(Duration::from_secs(1)), OutcomeClass::Answered);
}

#[test]
fn a_time_window_forgets_old_failures() {
    let mut breaker = breaker(|c| {
        c.sliding_window_type = WindowType::TimeBased;
        c.sliding_window_size = 2;
        c.minimum_number_of_calls = 4;
    });
    for ms in [0, 100, 200] {
        call(&mut breaker, Outcome::Reset, Mono(ms * MS));
    }
    call(&mut breaker, Outcome::Reset, Mono(2_100 * MS));
    assert_eq!(breaker.state(), State::Closed, "the first two failures are too old");
    call(&mut breaker, Outcome::Reset, Mono(2_150 * MS));
    call(&mut breaker, Outcome::Reset, Mono(2_199 * MS));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn waits_grow_to_the_cap_and_start_small_again_after_closing() {
    let mut breaker = breaker(|_| {});
    let mut now = half_open(&mut breaker, Mono(0));
    assert_eq!(now, Mono(500 * MS));
    let mut waits = Vec::new();
    for _ in 0..10 {
        call(&mut breaker, Outcome::Refused, now);
        let due = breaker.next_deadline().unwrap();
        waits.push(due.since(now).as_millis());
        now = due;
    }
    assert_eq!(waits[..4], [750, 1125, 1687, 2531]);
    assert_eq!(waits[7..], [10_000, 10_000, 10_000]);
    call(&mut breaker, GOOD, now);
    assert_eq!(half_open(&mut breaker, now).since(now).as_millis(), 500);
}

#[test]
fn jitter_spreads_breakers_and_never_passes_the_cap() {
    let waits = |multiplier: f64| -> Vec<u64> {
        (0..200)
            .map(|seed| {
                let config = Config {
                    exponential_backoff_multiplier: multiplier,
                    exponential_max_wait_duration_in_open_state: Duration::from_millis(550),
                    ..Config::default()
                };
                let mut breaker = Breaker::new(&config, seed).unwrap();
                half_open(&mut breaker, Mono(0)).0 / MS
            })
            .collect()
    };
    let waits = waits(1.0);
    assert!(waits.iter().all(|ms| (400..=550).contains(ms)), "{waits:?}");
    assert!(waits.iter().any(|ms| *ms < 420) && waits.iter().any(|ms| *ms > 530));
    assert!(waits.iter().filter(|ms| **ms >= 549).count() < 20, "no crowd at the cap");
}

#[test]
fn a_handshake_is_not_health_only_an_answered_probe_closes() {
    let mut breaker = breaker(|c| c.required_successes_in_half_open_state = 2);
    let now = half_open(&mut breaker, Mono(0));
    let probe = breaker.try_acquire(now).unwrap();
    assert_eq!(breaker.state(), State::HalfOpen, "connected, not yet answered");
    breaker.record(probe, GOOD, now);
    assert_eq!(breaker.state(), State::HalfOpen, "one of two");
    call(&mut breaker, GOOD, now);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn probes_are_bounded_and_a_dropped_probe_makes_room() {
    let mut breaker = breaker(|c| c.permitted_number_of_calls_in_half_open_state = 2);
    let now = half_open(&mut breaker, Mono(0));
    let first = breaker.try_acquire(now).unwrap();
    let _second = breaker.try_acquire(now).unwrap();
    let denied = breaker.try_acquire(now).unwrap_err();
    assert_eq!(denied.state, State::HalfOpen);
    assert_eq!(denied.retry_at, Some(now + Duration::from_secs(5)));
    drop(first);
    assert!(breaker.try_acquire(now).is_ok());
}

#[test]
fn a_probe_without_end_is_a_failed_probe() {
    let mut breaker = breaker(|_| {});
    let now = half_open(&mut breaker, Mono(0));
    assert_eq!(breaker.next_deadline(), None, "no clock runs before the first probe");
    let probe = breaker.try_acquire(now).unwrap();
    let deadline = breaker.next_deadline().unwrap();
    assert_eq!(deadline, now + Duration::from_secs(5));
    breaker.handle_timeout(deadline);
    while let Some(change) = breaker.poll_transition() {
        if change.to == State::Open && change.at == deadline {
            assert_eq!(change.reason, Reason::ProbeDeadline);
        }
    }
    assert_eq!(breaker.state(), State::Open);
    breaker.record(probe, GOOD, deadline);
    assert_eq!(breaker.state(), State::Open, "the answer came late");
    assert_eq!(breaker.snapshot(deadline).counts.late, 1);
}

#[test]
fn a_deadline_with_nobody_probing_concludes_nothing() {
    let mut breaker = breaker(|_| {});
    let now = half_open(&mut breaker, Mono(0));
    drop(breaker.try_acquire(now).unwrap());
    let later = now + Duration::from_secs(60);
    breaker.handle_timeout(later);
    assert_eq!(breaker.state(), State::HalfOpen);
    let _probe = breaker.try_acquire(later).unwrap();
    assert_eq!(breaker.next_deadline(), Some(later + Duration::from_secs(5)));
}

#[test]
fn the_peer_says_when_to_come_back_within_reason() {
    let mut breaker = breaker(|_| {});
    let at = Mono(7_000 * MS);
    call(&mut breaker, Outcome::ComeBackAt(at), Mono(0));
    assert_eq!(breaker.next_deadline(), Some(at));
    breaker.handle_timeout(at);
    call(&mut breaker, Outcome::ComeBackAt(Mono(u64::MAX)), at);
    assert_eq!(breaker.next_deadline(), Some(at + Duration::from_secs(300)));
    assert_eq!(breaker.next_wait_ns, 500 * MS, "being told to wait does not lengthen our waits");
}

#[test]
fn metrics_only_keeps_rates_and_disabled_keeps_none() {
    let mut breaker = breaker(|_| {});
    breaker.metrics_only(Mono(0));
    for _ in 0..50 {
        call(&mut breaker, Outcome::Refused, Mono(0));
    }
    assert_eq!(breaker.state(), State::MetricsOnly);
    assert_eq!(breaker.snapshot(Mono(0)).failure_rate, Some(100.0));
    breaker.disable(Mono(0));
    call(&mut breaker, Outcome::Refused, Mono(0));
    assert_eq!(breaker.snapshot(Mono(0)).window_calls, 0);
    assert_eq!(breaker.counts.by_class[OutcomeClass::Refused as usize], 51);
}

#[test]
fn a_permit_of_another_breaker_goes_home() {
    let mut one = breaker(|_| {});
    let mut other = breaker(|_| {});
    for _ in 0..5 {
        let permit = other.try_acquire(Mono(0)).unwrap();
        one.record(permit, Outcome::Refused, Mono(0));
    }
    assert_eq!(one.state(), State::Closed);
    assert_eq!(one.counts.foreign, 5);
    assert_eq!(other.snapshot(Mono(0)).counts.given_back, 5);
    assert_eq!(other.snapshot(Mono(0)).under_way, 0);
}

#[test]
fn unfetched_transitions_are_bounded_and_the_newest_stay() {
    let mut breaker = breaker(|_| {});
    let capacity = breaker.transitions.capacity();
    for ns in 0..100 {
        breaker.reset(Mono(ns));
    }
    assert_eq!(breaker.transitions.capacity(), capacity, "nothing is allocated after the start");
    assert_eq!(breaker.counts.transitions_lost, 84);
    let kept: Vec<u32> =
        std::iter::from_fn(|| breaker.poll_transition()).map(|c| c.generation).collect();
    assert_eq!(kept, (85..=100).collect::<Vec<u32>>());
}

#[test]
fn the_snapshot_names_the_next_probe_and_the_last_error() {
    let mut breaker = breaker(|_| {});
    let due = half_open(&mut breaker, Mono(0));
    assert_eq!(breaker.snapshot(due).next_probe, Some(due), "there is room now");
    call(&mut breaker, Outcome::ProtocolError, due);
    let snapshot = breaker.snapshot(due);
    assert_eq!(snapshot.next_probe, Some(due + Duration::from_millis(750)));
    assert_eq!(snapshot.last_error.unwrap().to_string(), "protocol error");
    assert_eq!(snapshot.since, due);
}
