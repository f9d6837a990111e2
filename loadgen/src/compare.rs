//! `loadgen compare`: the same load on our broker and its peers, in one run on one machine.
//!
//! Each trial has a server of its own, freshly started, and subscribers of its own: what a trial that
//! was too much left behind does not spoil the next one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pregao::time::nanos;

use crate::limits::{SUSTAINED_P99_MAX, TRIALS_MAX};
use crate::options::{CompareFlags, Format, Scenario};
use crate::peers::{Peer, PeerError};
use crate::progress::Bar;
use crate::report::{Row, side_by_side};
use crate::run::{Load, Outcome, RunSpec, run};
use crate::search::Search;
use crate::target::Target;

/// What a scenario means.
struct Shape {
    name: &'static str,
    subscribers: usize,
    instruments: u32,
    watch: usize,
    /// The rate; where a search begins.
    rate: u64,
    is_search: bool,
}

impl Scenario {
    const ALL: [Scenario; 4] =
        [Scenario::FullFeed, Scenario::WatchList, Scenario::LightLoad, Scenario::OneToOne];

    fn shape(self, subscribers: usize) -> Shape {
        // Where searches begin: some 250,000 deliveries a second, which every peer but one takes.
        let begin = (250_000 / subscribers as u64).max(20);
        let shape = |name, subscribers, instruments, watch, rate, is_search| Shape {
            name,
            subscribers,
            instruments,
            watch,
            rate,
            is_search,
        };
        match self {
            Scenario::FullFeed => shape("full-feed", subscribers, 100, 0, begin, true),
            Scenario::WatchList => shape("watch-list", subscribers, 500, 20, begin * 4, true),
            Scenario::LightLoad => shape("light-load", subscribers, 100, 0, 20, false),
            Scenario::OneToOne => shape("one-to-one", 1, 100, 0, 100_000, true),
        }
    }
}

/// Compares and prints. `true` when every row is valid.
///
/// # Errors
/// A sentence, when there is nothing to compare.
pub(crate) fn compare(
    flags: &CompareFlags,
    mut print: impl FnMut(&str) -> Result<(), String>,
) -> Result<bool, String> {
    let pregao = match &flags.pregao {
        Some(path) => path.clone(),
        None => beside_us()?,
    };
    let scenarios = if flags.scenario.is_empty() { &Scenario::ALL[..] } else { &flags.scenario };
    let targets = if flags.target.is_empty() { &Target::ALL[..] } else { &flags.target };
    let mut rows = Vec::new();
    let mut skipped: Vec<Target> = Vec::new();
    for scenario in scenarios {
        let shape = scenario.shape(flags.subscribers as usize);
        for &target in targets {
            if skipped.contains(&target) {
                continue;
            }
            match measure(flags, &shape, target, &pregao) {
                Ok(row) => {
                    if flags.format == Format::Json {
                        print(&row.json())?;
                    }
                    rows.push(row);
                }
                Err(Trouble::Server(error)) => {
                    eprintln!("loadgen: {} is skipped: {error}", target.name());
                    skipped.push(target);
                }
                Err(Trouble::Run(why)) => {
                    eprintln!("loadgen: {} {}: {why}", shape.name, target.name());
                }
            }
        }
    }
    if rows.is_empty() {
        return Err("nothing could be compared".to_owned());
    }
    if flags.format == Format::Table {
        print(&side_by_side(&rows))?;
    }
    Ok(rows.iter().all(Row::is_valid))
}

fn beside_us() -> Result<PathBuf, String> {
    let us = std::env::current_exe().map_err(|error| format!("where is this binary? {error}"))?;
    Ok(us.with_file_name("pregao"))
}

/// Why there is no row.
enum Trouble {
    Server(PeerError),
    Run(String),
}

/// Measures one scenario on one target: the best trial, or the last when none was good.
fn measure(
    flags: &CompareFlags,
    shape: &Shape,
    target: Target,
    pregao: &Path,
) -> Result<Row, Trouble> {
    let trials = if shape.is_search { TRIALS_MAX } else { 1 };
    let mut search = Search::new(shape.rate, trials);
    let mut best: Option<Outcome> = None;
    let mut last: Result<Outcome, String> = Err("no trial was made".to_owned());
    while let Some(rate) = search.propose() {
        let peer =
            Peer::start(target, flags.host, shape.subscribers, pregao).map_err(Trouble::Server)?;
        let outcome = run(&spec(flags, shape, target, &peer, rate), &Bar::new());
        drop(peer);
        let sustained = outcome.as_ref().is_ok_and(|outcome| objections(outcome).is_empty());
        search.note(sustained);
        match outcome {
            Ok(outcome) if sustained => best = Some(outcome),
            other => last = other,
        }
    }
    let outcome = match best {
        Some(best) => best,
        None => last.map_err(Trouble::Run)?,
    };
    Ok(Row::new(shape.name, &outcome, objections(&outcome)))
}

fn spec(flags: &CompareFlags, shape: &Shape, target: Target, peer: &Peer, rate: u64) -> RunSpec {
    RunSpec {
        target,
        address: peer.address(),
        subscribers: shape.subscribers,
        threads: usize::from(flags.threads),
        load: Some(Load { rate, instruments: shape.instruments, watch: shape.watch, source: 2 }),
        market_source: 0,
        warm_up: flags.warm_up.max(Duration::from_millis(1)),
        duration: flags.duration,
        stalled: 0,
        slow: 0,
        churn_per_s: 0,
        broker_pid: Some(peer.pid()),
        seed: 1,
    }
}

/// What `compare` calls sustained: nothing lost, the 99th percentile below its bound, and the rate
/// really offered. A generator that is merely busy does not spoil a rate that was sustained; the
/// target could then do more, and the table says "at least".
fn objections(outcome: &Outcome) -> Vec<String> {
    let mut objections = outcome.losses();
    let p99_ns = outcome.latency_ns(99.0);
    if p99_ns > nanos(SUSTAINED_P99_MAX) {
        objections.push(format!("p99 is {} ms", p99_ns / 1_000_000));
    }
    if outcome.condition.is_behind() {
        objections.push("the rate was not offered in time".to_owned());
    }
    objections
}
