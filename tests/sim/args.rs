//! What the command line of this test binary says: its own options, and those of the test runner, which
//! `cargo test` passes to every binary alike.

use std::num::NonZeroUsize;

use clap::Parser;
use libtest_mimic::{Arguments, Trial};
use pregao::planted::Bug;

/// Bad days of the whole system, each from a seed; without --seed or --seeds all tests
#[derive(Debug, Parser)]
#[command(
    name = "cargo sim --",
    override_usage = "cargo sim -- [OPTIONS] [FILTER]...",
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{all-args}"
)]
pub(crate) struct Args {
    /// Simulate the day of this seed
    #[arg(long, value_name = "N", conflicts_with = "seeds", help_heading = "Days")]
    pub(crate) seed: Option<u64>,
    /// Tell what happens on it
    #[arg(long, requires = "seed", help_heading = "Days")]
    pub(crate) log: bool,
    /// Plant this bug in it
    #[arg(long, requires = "seed", value_name = "NAME", value_parser = bug, help_heading = "Days")]
    pub(crate) bug: Option<Bug>,
    /// A directory is not the right one on it
    #[arg(long, requires = "seed", help_heading = "Days")]
    pub(crate) identity: bool,
    /// Simulate so many days
    #[arg(long, value_name = "N", help_heading = "Days")]
    pub(crate) seeds: Option<u64>,
    /// Simulate so many rounds of "back up, run on, restore a directory, start"
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "seeds"], help_heading = "Days")]
    pub(crate) rounds: Option<u64>,
    /// The seed of the first of them [default: 0]
    #[arg(long, conflicts_with = "seed", value_name = "N", help_heading = "Days")]
    pub(crate) first: Option<u64>,
    /// Simulate in so many threads [default: one for each core]
    #[arg(long, value_name = "N", help_heading = "Days")]
    pub(crate) jobs: Option<NonZeroUsize>,
    #[command(flatten, next_help_heading = "Tests")]
    pub(crate) runner: Arguments,
    /// Further filters; the runner itself takes one
    #[arg(hide = true)]
    filters: Vec<String>,
    /// The other name of --nocapture
    #[arg(long, hide = true)]
    no_capture: bool,
}

impl Args {
    /// In how many threads days are simulated: no more than the runner is given.
    pub(crate) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let wanted = self.jobs.map(NonZeroUsize::get).or(self.runner.test_threads);
        wanted.unwrap_or_else(cores).max(1)
    }

    /// Takes out what none of several filters names. A single one is left to the runner.
    pub(crate) fn filter(&mut self, tests: &mut Vec<Trial>) {
        if self.filters.is_empty() {
            return;
        }
        self.filters.extend(self.runner.filter.take());
        let (filters, is_exact) = (&self.filters, self.runner.exact);
        let fits = |name: &str, filter: &String| match is_exact {
            true => name == filter,
            false => name.contains(filter),
        };
        tests.retain(|test| filters.iter().any(|filter| fits(test.name(), filter)));
    }
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("there are {:?}", Bug::ALL))
}

/// What `cargo test` passes on to every test binary is understood, and the own options with it.
pub(crate) fn options_of_the_runner_do_not_break() {
    let read = |text: &str| Args::try_parse_from([&["sim"], &*words(text)].concat());
    for text in ["--test-threads=1", "--nocapture --no-capture", "-q", "a --exact --skip b --list"]
    {
        assert!(read(text).is_ok(), "{text}");
    }
    assert_eq!(read("--test-threads 3").unwrap().threads(), 3);
    assert_eq!(read("--seeds 9 --first 7 --jobs 2").unwrap().threads(), 2);
    let left = |text: &str| {
        let names = ["a_bad_day", "a_worse_day", "fair"].into_iter();
        let mut tests: Vec<Trial> = names.map(|name| Trial::test(name, || Ok(()))).collect();
        read(text).unwrap().filter(&mut tests);
        tests.len()
    };
    assert_eq!(
        (left("bad"), left("bad fair"), left("bad day --skip worse --exact fair")),
        (3, 2, 1)
    );
    let args = read("--seed 42 --log --bug AnswerTwice").unwrap();
    assert_eq!((args.seed, args.log, args.bug), (Some(42), true, Some(Bug::AnswerTwice)));
    for text in ["--seed many", "--seed", "--frob", "--log", "--seed 1 --bug Nonsense", "--jobs 0"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}
