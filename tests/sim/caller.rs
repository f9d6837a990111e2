//! A breaker with many callers: calls that take longer than the breaker's waits, so that outcomes come
//! late, permits that are dropped, and an operator; held against a model that is too simple to be wrong.

use std::time::Duration;

use pregao::breaker::{Breaker, Config, LocalFault, Outcome, Permit, State, WindowType};
use pregao::random::Random;
use pregao::time::Mono;

fn hold(holds: bool, invariant: &str, text: &str) {
    assert!(holds, "[{invariant}] {text}");
}

/// Some hundred calls of a seed.
pub(crate) fn exercise(seed: u64) {
    let mut random = Random::new(seed).fork(0xB4);
    let probes = u32::try_from(random.between(1, 3)).unwrap();
    let config = Config {
        wait_duration_in_open_state: Duration::from_millis(random.between(5, 100)),
        permitted_number_of_calls_in_half_open_state: probes,
        required_successes_in_half_open_state: 1,
        max_wait_duration_in_half_open_state: Duration::from_millis(random.between(20, 400)),
        minimum_number_of_calls: 4,
        sliding_window_size: 8,
        sliding_window_type: match random.below(2) {
            0 => WindowType::CountBased,
            _ => WindowType::TimeBased,
        },
        ..Config::default()
    };
    let mut breaker = Breaker::new(&config, random.next_u64()).unwrap();
    let mut calls: Vec<(u64, Permit)> = Vec::new();
    // Permits of the present generation that are out.
    let mut out = 0_u32;
    let mut out_of = breaker.generation();
    let mut dropped = 0_u64;
    let mut now_ms = 1;
    let sick = random.between(0, 100);
    for _ in 0..300 {
        now_ms += random.below(15);
        let now = Mono(now_ms * 1_000_000);
        breaker.handle_timeout(now);
        if breaker.generation() != out_of {
            (out, out_of) = (0, breaker.generation());
        }
        match random.below(12) {
            0 if !calls.is_empty() => {
                // A caller goes away with its permit.
                let (_, permit) = calls.swap_remove(0);
                out -= u32::from(permit.generation() == out_of);
                dropped += 1;
                breaker.give_back(permit);
            }
            1 if random.below(8) == 0 => match random.below(6) {
                0 => breaker.force_open(now),
                1 => breaker.disable(now),
                2 => breaker.metrics_only(now),
                3 => breaker.reset(now),
                _ => breaker.close(now),
            },
            1 => breaker.observe(Outcome::Reset, now),
            2..=7 => {
                let before = breaker.state();
                let granted = breaker.try_acquire(now);
                if breaker.generation() != out_of {
                    (out, out_of) = (0, breaker.generation());
                }
                let is_shut = matches!(breaker.state(), State::Open | State::ForcedOpen);
                match granted {
                    Ok(permit) => {
                        hold(!is_shut, "no-dial-while-open", "a permit of an open breaker");
                        out += 1;
                        let is_half = breaker.state() == State::HalfOpen;
                        hold(!is_half || out <= probes, "no-dial-while-open", "too many probes");
                        calls.push((now_ms + random.below(300), permit));
                    }
                    Err(denied) => {
                        let all_out = denied.state == State::HalfOpen && out >= probes;
                        hold(
                            is_shut || all_out,
                            "permits-come-back",
                            &format!(
                                "denied as {:?} (was {before:?}) with {out} of {probes} probes out",
                                denied.state
                            ),
                        );
                    }
                }
            }
            _ => {
                let due = calls.iter().position(|(at, _)| *at <= now_ms);
                let Some(due) = due else { continue };
                let (_, permit) = calls.swap_remove(due);
                let is_late = permit.generation() != breaker.generation();
                out -= u32::from(!is_late);
                let outcome = if random.below(100) < sick {
                    match random.below(8) {
                        0 => Outcome::Refused,
                        1 => Outcome::Reset,
                        2 => Outcome::ComeBackAt(now + Duration::from_millis(40)),
                        3 => Outcome::LocalFault(LocalFault::Memory),
                        4 => Outcome::Answered { latency: Duration::from_secs(2) },
                        _ => Outcome::RequestDeadline,
                    }
                } else {
                    Outcome::Answered { latency: Duration::from_millis(3) }
                };
                let before = (breaker.state(), breaker.generation());
                let counts = breaker.snapshot(now).counts;
                breaker.record(permit, outcome, now);
                let after = breaker.snapshot(now).counts;
                let is_same = before == (breaker.state(), breaker.generation())
                    && counts.by_class == after.by_class;
                hold(
                    !is_late || is_same,
                    "late-outcomes-change-nothing",
                    &format!("{outcome:?} of an earlier generation counted in {before:?}"),
                );
            }
        }
        let counts = breaker.snapshot(now).counts;
        let known = counts.recorded + counts.late + counts.given_back + calls.len() as u64;
        hold(
            counts.granted == known,
            "permits-come-back",
            &format!("{} were granted, {known} are known of", counts.granted),
        );
        hold(counts.given_back == dropped, "permits-come-back", "a permit was not given back");
    }
}
