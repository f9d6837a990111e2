//! The whole system in one thread under a simulated clock, network and disk: bad days from a seed. See
//! README.md beside this file. `cargo sim` runs a few hundred of them, the scenarios, and the proof that
//! planted bugs are found; `cargo sim -- --seed 42 --log` replays one.
//!
//! It has a main of its own because a seed is an argument; to `cargo test` it looks like any other test.

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
mod bars;
mod browser;
mod caller;
mod check;
mod client;
mod counts;
mod delivered;
mod exchanges;
mod faults;
mod feeds;
mod fresh;
mod gateway;
mod hosts;
mod identity;
mod library;
mod lines;
mod many;
mod monitor;
mod net;
mod operators;
mod outside;
mod patterns;
mod plan;
mod present;
mod producer;
mod querier;
mod questions;
mod reactors;
mod reopen;
mod reporter;
mod road;
mod rogue;
mod rogues;
mod run;
mod scenarios;
mod stored;
mod surfer;
mod swarm;
mod system;
mod tapes;
mod told;
mod turn;
mod watch;
mod work;
mod world;

use std::process::ExitCode;

use clap::Parser;
use libtest_mimic::Trial;
use pregao::planted::{Bug, plant};

use args::Args;
use plan::Wish;
use swarm::{attempt, replay};

fn main() -> ExitCode {
    let mut args = Args::parse();
    swarm::catch_panics();
    let is_fine = if let Some(seed) = args.seed {
        one(seed, &args)
    } else if let Some(count) = args.rounds {
        let first = args.first.unwrap_or(0);
        match attempt(|| operators::long_run(first, count)) {
            Ok(()) => true,
            Err(text) => {
                println!("{text}");
                false
            }
        }
    } else if let Some(count) = args.seeds {
        swarm::days(args.first.unwrap_or(0), count, args.threads())
    } else {
        let mut tests = all(args.threads());
        args.filter(&mut tests);
        return libtest_mimic::run(&args.runner, tests).exit_code();
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// One day.
fn one(seed: u64, args: &Args) -> bool {
    let (bug, is_traced) = (args.bug, args.log);
    plant(bug);
    let done = attempt(|| match args.identity {
        true => identity::tell(seed, is_traced),
        false => run::run(seed, Wish { is_traced, ..Wish::default() }).to_string(),
    });
    plant(None);
    match done {
        Ok(report) => println!("seed {seed}: no violation; {report}"),
        Err(text) => {
            println!("seed {seed}: {text}\n    {}", replay(seed, bug));
            return false;
        }
    }
    true
}

/// All tests. The long ones come first, so that no thread of the runner is idle at the end.
fn all(jobs: usize) -> Vec<Trial> {
    let mut tests = vec![test("swarm::bad_days", move || swarm::bad_days(jobs))];
    let bugs = Bug::ALL.into_iter();
    tests.extend(bugs.map(|bug| test(&format!("planted::{bug:?}"), move || swarm::is_found(bug))));
    for (name, run) in [
        ("swarm::the_same_seed_is_the_same_day", swarm::the_same_seed_is_the_same_day as fn()),
        (
            "swarm::a_stalled_subscriber_changes_nobody_else",
            swarm::a_stalled_subscriber_changes_nobody_else,
        ),
        ("args::options_of_the_runner_do_not_break", args::options_of_the_runner_do_not_break),
        ("version::the_program_says_that_bugs_are_planted", the_program_says_that_bugs_are_planted),
    ] {
        tests.push(test(name, run));
    }
    for (name, run) in identity::ALL {
        tests.push(test(&format!("identity::{name}"), run));
    }
    for (name, run) in operators::ALL {
        tests.push(test(&format!("operators::{name}"), run));
    }
    for (name, scenario) in scenarios::ALL {
        tests.push(test(&format!("scenarios::{name}"), scenario));
    }
    let days = swarm::REGRESSIONS.map(|day| (day, false));
    let old_days = swarm::OLD_REGRESSIONS.map(|day| (day, true));
    for ((name, seed), one_reactor) in days.into_iter().chain(old_days) {
        let day = move || {
            run::run(seed, Wish { one_reactor, ..Wish::default() });
        };
        tests.push(test(&format!("regressions::{name}"), day));
    }
    tests
}

fn test(name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || attempt(run).map_err(Into::into))
}

/// What benches and loadgen ask a program for. Every other build says the opposite (tests/shipped.rs).
fn the_program_says_that_bugs_are_planted() {
    let features = pregao::cli::VERSION.rsplit("features: ").next().unwrap();
    assert!(features.split(", ").any(|feature| feature == "planted"), "{features}");
}
