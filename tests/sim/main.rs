//! The whole system in one thread under a simulated clock, network and disk: bad days from a seed. See
//! README.md beside this file. `cargo test --test sim` runs a few hundred of them, the scenarios, and
//! the proof that planted bugs are found; `cargo test --test sim -- --seed 42 --log` replays one.
//!
//! It is its own runner because a seed is an argument; to `cargo test` it looks like any other.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "these are tests"
)]

mod args;
mod asker;
mod attacker;
mod caller;
mod check;
mod client;
mod delivered;
mod faults;
mod hosts;
mod library;
mod monitor;
mod net;
mod plan;
mod querier;
mod questions;
mod reporter;
mod road;
mod run;
mod scenarios;
mod swarm;
mod turn;
mod watch;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use pregao::planted::{Bug, plant};

use args::{Args, USAGE};
use plan::Wish;
use swarm::{attempt, replay};

type Test<'a> = (String, Box<dyn Fn() + 'a>);

fn main() -> ExitCode {
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    swarm::catch_panics();
    let bug = match &args.bug {
        None => None,
        Some(name) => match Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name) {
            Some(bug) => Some(bug),
            None => {
                eprintln!("no bug {name}; there are {:?}\n{USAGE}", Bug::ALL);
                return ExitCode::from(2);
            }
        },
    };
    let is_fine = if let Some(seed) = args.seed {
        one(seed, bug, args.is_told)
    } else if let Some(count) = args.seeds {
        swarm::days(args.first, count, swarm::jobs(args.jobs))
    } else {
        all(&args)
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// One day.
fn one(seed: u64, bug: Option<Bug>, is_told: bool) -> bool {
    plant(bug);
    let done = attempt(|| run::run(seed, Wish { is_told, ..Wish::default() }));
    plant(None);
    match done {
        Ok(report) => println!("seed {seed}: {report:?}"),
        Err(text) => {
            println!("seed {seed}: {text}\n    {}", replay(seed, bug));
            return false;
        }
    }
    true
}

/// As the test runner does it.
fn all(args: &Args) -> bool {
    let begun = Instant::now();
    let jobs = swarm::jobs(args.jobs);
    let mut tests: Vec<Test> = Vec::new();
    let mut test = |name: &str, run: Box<dyn Fn()>| tests.push((name.to_owned(), run));
    for (name, scenario) in scenarios::ALL {
        test(&format!("scenarios::{name}"), Box::new(scenario));
    }
    for (name, seed) in swarm::REGRESSIONS {
        let day = move || {
            run::run(seed, Wish::default());
        };
        test(&format!("regressions::{name}"), Box::new(day));
    }
    let options = args::options_of_the_runner_do_not_break;
    test("args::options_of_the_runner_do_not_break", Box::new(options));
    test("swarm::the_same_seed_is_the_same_day", Box::new(swarm::the_same_seed_is_the_same_day));
    let stalled = swarm::a_stalled_subscriber_changes_nobody_else;
    test("swarm::a_stalled_subscriber_changes_nobody_else", Box::new(stalled));
    test("swarm::bad_days", Box::new(move || swarm::bad_days(jobs)));
    let planted = move || swarm::planted_bugs_are_found(jobs);
    test("swarm::planted_bugs_are_found", Box::new(planted));

    let count = tests.len();
    tests.retain(|(name, _)| args.wants(name));
    if args.is_list {
        for (name, _) in &tests {
            println!("{name}: test");
        }
        println!("\n{} tests, 0 benchmarks", tests.len());
        return true;
    }
    println!("\nrunning {} tests", tests.len());
    let mut failures = Vec::new();
    for (name, run) in &tests {
        match attempt(run) {
            Ok(()) => println!("test {name} ... ok"),
            Err(text) => {
                println!("test {name} ... FAILED");
                failures.push((name, text));
            }
        }
    }
    for (name, text) in &failures {
        println!("\n---- {name} ----\n{text}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        tests.len() - failures.len(),
        failures.len(),
        count - tests.len(),
        begun.elapsed().as_secs_f64(),
    );
    failures.is_empty()
}
