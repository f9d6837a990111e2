//! What one guarded call costs: asking for a permit and bringing it back.
//!
//! Beside two crates that guard calls too, in the same run, each through its own interface for a call
//! that succeeds and for one that is denied. They read a clock and lock or use atomics, as crates for
//! many threads must; ours is told the time and lives in one thread. The wall clock of this machine
//! alone is measured as well, so that the difference can be told apart.

#![allow(missing_docs, reason = "criterion_main! makes a main without a comment")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use failsafe::CircuitBreaker;
use pregao::breaker::{Breaker, Config, Outcome, WindowType};
use pregao::time::Mono;

fn closed(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/closed");
    let answered = Outcome::Answered { latency: Duration::from_millis(1) };
    for (name, window) in
        [("pregao/count", WindowType::CountBased), ("pregao/time", WindowType::TimeBased)]
    {
        let config = Config { sliding_window_type: window, ..Config::default() };
        let mut breaker = Breaker::new(&config, 1).expect("the defaults are valid");
        let mut now = Mono(0);
        group.bench_function(name, |b| {
            b.iter(|| {
                now = Mono(now.0 + 1_000);
                let permit = breaker.try_acquire(black_box(now));
                if let Ok(permit) = permit {
                    breaker.record(permit, black_box(answered), now);
                }
            });
        });
        assert_eq!(breaker.generation(), 0, "it stayed closed");
    }
    let failsafe = failsafe::Config::new().build();
    group.bench_function("failsafe", |b| {
        b.iter(|| failsafe.call(|| black_box(Ok::<u32, u32>(1))));
    });
    let recloser = recloser::Recloser::custom().build();
    group.bench_function("recloser", |b| {
        b.iter(|| recloser.call(|| black_box(Ok::<u32, u32>(1))));
    });
    #[allow(clippy::disallowed_methods, reason = "the clock is what is measured here")]
    group.bench_function("clock", |b| b.iter(Instant::now));
    group.finish();
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/open");
    let mut breaker = Breaker::new(&Config::default(), 1).expect("the defaults are valid");
    breaker.force_open(Mono(0));
    group.bench_function("pregao", |b| b.iter(|| breaker.try_acquire(black_box(Mono(1))).is_ok()));
    let failsafe = failsafe::Config::new()
        .failure_policy(failsafe::failure_policy::consecutive_failures(
            1,
            failsafe::backoff::constant(Duration::from_secs(3600)),
        ))
        .build();
    let _ = failsafe.call(|| Err::<u32, u32>(1));
    group.bench_function("failsafe", |b| {
        b.iter(|| failsafe.call(|| black_box(Ok::<u32, u32>(1))).is_ok());
    });
    let recloser = recloser::Recloser::custom()
        .error_rate(0.5)
        .closed_len(1)
        .open_wait(Duration::from_secs(3600))
        .build();
    for _ in 0..2 {
        let _ = recloser.call(|| Err::<u32, u32>(1));
    }
    group.bench_function("recloser", |b| {
        b.iter(|| recloser.call(|| black_box(Ok::<u32, u32>(1))).is_ok());
    });
    group.finish();
}

criterion_group!(benches, closed, open);
criterion_main!(pregao::planted::refuse_to_measure, benches);
