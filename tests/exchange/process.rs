//! The exchange as a process of its own: `pregao external`, which can be stopped and killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pregao::client::QueryClient;
use pregao::wire::{Flags, Kind, Op, Query, padded};
use rustix::process::Signal;

use crate::harness::Core;
use crate::support::node::Place;
use crate::support::process::{PATIENCE, Process};

pub(crate) struct Exchange {
    pub(crate) address: SocketAddr,
    process: Process,
    /// Keeps the port from everybody else.
    _place: Place,
}

impl Exchange {
    /// Starts one, with these flags beside its own.
    pub(crate) fn start(flags: &[&str]) -> Exchange {
        let place = Place::new("external", "", "");
        let process = place.start(&[&["external", "--seed=7"], flags].concat());
        process.wait_listening();
        Exchange { address: place.address(), process, _place: place }
    }

    pub(crate) fn stop(&self) {
        self.process.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

fn quote_query() -> Query {
    Query { op: Op::Quote as u8, symbol: padded("PETR4"), ..Query::default() }
}

/// Asks for the quote once: whether it was stale. Fails when it is not there. How fast it is there depends on
/// the machine and is printed; that it waits for nobody is shown in virtual time (`simulated.rs`), and here by
/// an exchange that never comes back.
fn ask(query_client: &mut QueryClient, slowest: &mut Duration) -> bool {
    let start = Instant::now();
    let answers = query_client.ask(&[quote_query()], PATIENCE).expect("an answer");
    *slowest = start.elapsed().max(*slowest);
    let quote = answers[0].rows.iter().find(|row| row.kind() == Some(Kind::Quote));
    quote.expect("never an answer without the last value").has(Flags::STALE)
}

/// Five seconds of an exchange that fails one session and request in five and stalls another fifth, and as many
/// more as it takes until one price was live.
#[test]
fn every_quote_is_answered_while_the_exchange_fails_and_stalls() {
    let mut exchange = Exchange::start(&[]);
    let mut core = Core::start(exchange.address);
    let mut query_client = core.query_client();
    let mut slowest = Duration::ZERO;
    let is_defined = |core: &mut Core| {
        let quote = core.ask(&[quote_query()]).remove(0);
        quote.rows.iter().any(|row| row.kind() == Some(Kind::Quote))
    };
    let until = Instant::now() + PATIENCE;
    while !is_defined(&mut core) {
        assert!(Instant::now() < until, "{:?}", core.status());
        let _ = core.frame(Duration::from_millis(5));
    }
    let start = Instant::now();
    let (mut live, mut stale) = (0, 0);
    while start.elapsed() < Duration::from_secs(5) || live == 0 {
        assert!(start.elapsed() < PATIENCE, "never live: {:?}", core.status());
        match ask(&mut query_client, &mut slowest) {
            true => stale += 1,
            false => live += 1,
        }
        // Paces the questions, and takes what core publishes.
        let pause = Instant::now() + Duration::from_millis(2);
        while let Some(left) = pause.checked_duration_since(Instant::now()) {
            let _ = core.frame(left);
        }
    }
    println!("under chaos: {live} live and {stale} stale quotes, the slowest in {slowest:?}");
    // From the moment the death is noticed, nobody may call the price live again.
    exchange.kill();
    let until = Instant::now() + PATIENCE;
    while !ask(&mut query_client, &mut slowest) {
        assert!(Instant::now() < until, "a dead exchange's quote stays live");
    }
    assert!((0..500).all(|_| ask(&mut query_client, &mut slowest)), "live, and nobody is there");
}
