//! What a dead exchange costs: core's processor time, and how long a client waits for the last price.
//! Run with `--release -- --nocapture` for figures that mean something.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pregao::breaker::State;
use pregao::wire::{FRAME_BYTES, Flags, Kind, Op, Query, padded};

use crate::harness::{Core, loopback};
use crate::stand_in::{Manner, StandIn};
use crate::support::node::Reserved;
use crate::support::process::PATIENCE;

const ROUNDS: u32 = 5_000;

/// An answer to 64 bytes in 64 bytes: the least that a request over loopback can cost.
fn echo() -> TcpStream {
    let listener = TcpListener::bind(loopback()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    std::thread::spawn(move || {
        let (mut served, _) = listener.accept().unwrap();
        served.set_nodelay(true).unwrap();
        let mut bytes = [0; FRAME_BYTES];
        while served.read_exact(&mut bytes).is_ok() && served.write_all(&bytes).is_ok() {}
    });
    stream.set_nodelay(true).unwrap();
    stream
}

/// Nanoseconds that a thread of this process has been running.
fn running_ns(thread: &str) -> u64 {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let text = std::fs::read_to_string(path).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// A core that has seen a price, and whose exchange now breaks off every session.
fn bereaved() -> Core {
    let listener = Reserved::new().listen(64);
    let address = listener.local_addr().unwrap();
    let exchange = StandIn::start(listener, Manner::Well);
    let mut core = Core::start(address);
    core.wait_for_kind(Kind::Quote);
    exchange.be(Manner::ResetMidFrame);
    exchange.hang_up();
    core.wait_for(State::Open);
    core
}

#[test]
fn the_last_price_is_at_hand_while_the_exchange_is_gone() {
    let core = bereaved();
    let mut echo = echo();
    let mut query_client = core.query_client();
    let query = Query { op: Op::Quote as u8, symbol: padded("PETR4"), ..Query::default() };
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    let (mut echoes, mut quotes) = (histogram(), histogram());
    let mut bytes = [0; FRAME_BYTES];
    // One of each in turn, so that both meet the same machine.
    for _ in 0..ROUNDS {
        let start = Instant::now();
        echo.write_all(&bytes).unwrap();
        echo.read_exact(&mut bytes).unwrap();
        echoes.record(u64::try_from(start.elapsed().as_nanos()).unwrap()).unwrap();
        let start = Instant::now();
        let answers = query_client.ask(&[query], PATIENCE).unwrap();
        quotes.record(u64::try_from(start.elapsed().as_nanos()).unwrap()).unwrap();
        let quote = answers[0].rows.iter().find(|row| row.kind() == Some(Kind::Quote)).unwrap();
        assert!(quote.has(Flags::STALE));
    }
    let shown = |h: &Histogram<u64>| {
        let us = |q: f64| h.value_at_quantile(q) / 1000;
        format!("p50 {} us, p99 {} us, max {} us", us(0.5), us(0.99), h.max() / 1000)
    };
    println!("echo of 64 bytes: {}", shown(&echoes));
    println!("quote, exchange down: {}", shown(&quotes));
    println!(
        "p99 of a quote is {:.2} times that of an echo",
        quotes.value_at_quantile(0.99) as f64 / echoes.value_at_quantile(0.99) as f64
    );
}

#[test]
fn a_dead_exchange_costs_core_next_to_nothing() {
    let mut core = bereaved();
    let (before, start) = (running_ns(&core.thread_id), Instant::now());
    while let Some(left) = Duration::from_secs(3).checked_sub(start.elapsed()) {
        let _ = core.frame(left);
    }
    let spent = running_ns(&core.thread_id) - before;
    let share = spent as f64 / start.elapsed().as_nanos() as f64;
    println!("core with its exchange down: {:.3} % of a core", share * 100.0);
    // One that spins takes all of it. How little it is depends on the build and the machine (`PERF.md`).
    assert!(share < 0.25, "{:.3} %", share * 100.0);
}
