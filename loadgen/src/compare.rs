//! `loadgen compare`: the same load on our broker and its peers, in one run on one machine.
//!
//! Each trial has a server of its own, freshly started, and subscribers of its own: what a trial that
//! was too much left behind does not spoil the next one.

use std::path::PathBuf;
use std::time::Duration;

use pregao::time::nanos;

use crate::connect::raise_descriptor_limit;
use crate::limits::{
    CONFIRM_STEPS_MAX, CONNECT_ALL_MAX, SUSTAINED_P99_MAX, TRIAL_DRAIN_MAX, TRIALS_MAX,
};
use crate::options::{CompareFlags, Format, Scenario};
use crate::peers::{OurBroker, PeerBroker, PeerError};
use crate::progress::Bar;
use crate::report::{Row, heading, ratios};
use crate::run::{Failure, Load, Outcome, RunSpec, run};
use crate::scenario::{Offer, Shape, shapes};
use crate::search::Search;
use crate::target::Target;
use crate::{hardship, live_first, restart};

/// What is measured without being asked for: the scenarios that peers take part in.
const DEFAULT: [Scenario; 4] =
    [Scenario::FullFeed, Scenario::WatchList, Scenario::LightLoad, Scenario::OneToOne];

/// A comparison under way.
pub(crate) struct Comparison<'a> {
    pub(crate) flags: &'a CompareFlags,
    pub(crate) ours: OurBroker,
    print: &'a mut dyn FnMut(&str) -> Result<(), String>,
    skipped: Vec<Target>,
    rows: usize,
    all_valid: bool,
}

/// Why there is no row.
pub(crate) enum Trouble {
    /// It cannot be started at all.
    Server(PeerError),
    Run(Failure),
}

/// Compares and prints. `true` when every row is valid.
///
/// # Errors
/// A sentence, when there is nothing to compare.
pub(crate) fn compare(
    flags: &CompareFlags,
    mut print: impl FnMut(&str) -> Result<(), String>,
) -> Result<bool, String> {
    let program = match &flags.pregao {
        Some(path) => path.clone(),
        None => beside_us()?,
    };
    let reactors = flags.reactors.iter();
    let more = reactors.flat_map(|count| ["--reactors".to_owned(), count.to_string()]).collect();
    let ours = OurBroker { program, flags: more, settings: String::new() };
    let is_ours = |target: &Target| target.publisher() == Target::Pregao;
    if flags.target.is_empty() || flags.target.iter().any(is_ours) {
        ours.refuse_planted()?;
    }
    let mut comparison = Comparison {
        flags,
        ours,
        print: &mut print,
        skipped: Vec::new(),
        rows: 0,
        all_valid: true,
    };
    // The servers inherit the limit, so it is raised before the first is started.
    raise_descriptor_limit(flags.subscribers as usize)?;
    let scenarios = if flags.scenario.is_empty() { &DEFAULT[..] } else { &flags.scenario };
    for &scenario in scenarios {
        match scenario {
            Scenario::Hardship => hardship::hardship(&mut comparison)?,
            Scenario::LateJoin => hardship::late_join(&mut comparison)?,
            Scenario::Many => hardship::many(&mut comparison)?,
            Scenario::Churn => hardship::churn(&mut comparison)?,
            Scenario::Joins => live_first::joins(&mut comparison)?,
            Scenario::Replays => live_first::replays(&mut comparison)?,
            Scenario::Restart => restart::restart(&mut comparison)?,
            _ => {
                for shape in shapes(scenario, flags.subscribers as usize) {
                    comparison.beside_peers(&shape)?;
                }
            }
        }
    }
    if comparison.rows == 0 {
        return Err("nothing could be compared".to_owned());
    }
    Ok(comparison.all_valid)
}

fn beside_us() -> Result<PathBuf, String> {
    let us = std::env::current_exe().map_err(|error| format!("where is this binary? {error}"))?;
    Ok(us.with_file_name("pregao"))
}

impl Comparison<'_> {
    fn beside_peers(&mut self, shape: &Shape) -> Result<(), String> {
        let flags = self.flags;
        let targets = if flags.target.is_empty() { &Target::ALL[..] } else { &flags.target };
        self.title(&shape.title())?;
        let mut rows = Vec::new();
        for &target in targets {
            // A bare loop keeps nothing for a subscriber, so it is no match for a high rate.
            if self.skipped.contains(&target) || target == Target::Bare && !shape.with_bare {
                continue;
            }
            match self.measure(shape, target) {
                Ok(row) => {
                    self.show(&row)?;
                    rows.push(row);
                }
                Err(trouble) => self.report(shape.name, target, trouble),
            }
        }
        for ratio in ratios(&rows, shape.offer == Offer::Search) {
            let text = match self.flags.format {
                Format::Json => ratio.json(),
                Format::Table => ratio.line().trim_start_matches('\n').to_owned(),
            };
            (self.print)(&text)?;
        }
        Ok(())
    }

    /// What the rows to come are about.
    pub(crate) fn title(&mut self, title: &str) -> Result<(), String> {
        match self.flags.format {
            Format::Json => Ok(()),
            Format::Table => {
                let gap = if self.rows > 0 { "\n" } else { "" };
                (self.print)(&format!("{gap}{}", heading(title)))
            }
        }
    }

    /// A row, as soon as it is there.
    pub(crate) fn show(&mut self, row: &Row) -> Result<(), String> {
        let text = match self.flags.format {
            Format::Json => row.json(),
            Format::Table => row.line(),
        };
        self.show_text(&text, row.is_valid())
    }

    /// A result that is no row.
    pub(crate) fn show_text(&mut self, text: &str, is_valid: bool) -> Result<(), String> {
        self.rows += 1;
        self.all_valid &= is_valid;
        (self.print)(text)
    }

    /// Says why there is no row.
    pub(crate) fn report(&mut self, scenario: &str, target: Target, trouble: Trouble) {
        match trouble {
            Trouble::Server(error) => {
                eprintln!("loadgen: {} is skipped: {error}", target.name());
                self.skipped.push(target);
            }
            Trouble::Run(why) => {
                eprintln!("loadgen: {scenario} {}: given up: {why}", target.name());
                self.all_valid = false;
            }
        }
    }

    /// How often each figure is measured.
    pub(crate) fn repeats(&self, otherwise: u16) -> usize {
        usize::from(self.flags.repeat.unwrap_or(otherwise))
    }

    fn measure(&self, shape: &Shape, target: Target) -> Result<Row, Trouble> {
        let (outcome, objections) = match shape.offer {
            Offer::Fixed(rate) => {
                let mut outcomes = Vec::new();
                for _ in 0..self.repeats(1) {
                    outcomes.push(self.trial(shape, target, rate)?);
                }
                let outcome = median(outcomes).ok_or_else(no_trial)?;
                // That everything came in time is all that is asked; there is no bound to keep.
                let objections = outcome.objections();
                (outcome, objections)
            }
            Offer::Search => {
                let outcome = self.search(shape, target)?;
                let objections = objections(&outcome);
                (outcome, objections)
            }
        };
        Ok(Row::new(shape.name, &outcome, objections))
    }

    /// The highest rate that is sustained: the best trial, or the last when none was good. With
    /// repeats, the rate must hold in most of them, and the median of those counts; one that does not
    /// hold is followed by a slightly lower one.
    fn search(&self, shape: &Shape, target: Target) -> Result<Outcome, Trouble> {
        let mut search = Search::new(shape.first_guess(target), TRIALS_MAX);
        let mut best: Option<(u64, Outcome)> = None;
        let mut last: Result<Outcome, Trouble> = Err(no_trial());
        while let Some(rate) = search.propose() {
            let is_held = |outcome: &Result<Outcome, Trouble>| {
                outcome.as_ref().is_ok_and(|outcome| objections(outcome).is_empty())
            };
            let mut outcome = self.trial(shape, target, rate);
            if matches!(&outcome, Ok(_) | Err(Trouble::Run(Failure::Running(_))))
                && !is_held(&outcome)
            {
                // A hiccup of the machine must not end a search: too much is what is too much twice.
                outcome = self.trial(shape, target, rate);
            }
            if let Err(trouble @ (Trouble::Server(_) | Trouble::Run(Failure::Connecting(_)))) =
                outcome
            {
                return Err(trouble);
            }
            let sustained = is_held(&outcome);
            search.note(sustained);
            match outcome {
                Ok(outcome) if sustained => best = Some((rate, outcome)),
                other => last = other,
            }
        }
        let Some((mut rate, best)) = best else { return last };
        let repeats = self.repeats(1);
        let mut held = vec![best];
        for _ in 0..CONFIRM_STEPS_MAX {
            while held.len() < repeats {
                let outcome = self.trial(shape, target, rate)?;
                held.push(outcome);
            }
            let (good, bad): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|outcome| objections(outcome).is_empty());
            if good.len() > bad.len() {
                return median(good).ok_or_else(no_trial);
            }
            last = bad.into_iter().next().ok_or_else(no_trial);
            rate = (rate - rate / 10).max(1);
            held = Vec::new();
        }
        last
    }

    /// One run at one rate on a server of its own.
    fn trial(&self, shape: &Shape, target: Target, rate: u64) -> Result<Outcome, Trouble> {
        let spec = RunSpec {
            drain_max: TRIAL_DRAIN_MAX,
            load: Some(Load {
                rate,
                instruments: shape.instruments,
                watch: shape.watch,
                source: target.own_source(),
            }),
            duration: self.flags.duration.max(shape.duration_min),
            ..self.spec(target, shape.subscribers, rate)
        };
        self.attempt(shape.name, spec).map(|(outcome, _)| outcome)
    }

    /// A run of a full feed on a server that does not stand yet.
    pub(crate) fn spec(&self, target: Target, subscribers: usize, rate: u64) -> RunSpec {
        RunSpec {
            target,
            // Where the server will listen is known when it does.
            address: (self.flags.host, 0).into(),
            publish_address: None,
            subscribers,
            threads: usize::from(self.flags.threads),
            load: Some(Load { rate, instruments: 100, watch: 0, source: target.own_source() }),
            market_source: 0,
            warm_up: self.flags.warm_up.max(Duration::from_millis(1)),
            duration: self.flags.duration,
            stalled: 0,
            slow: 0,
            churn_per_s: 0,
            joiners: 0,
            connect_max: CONNECT_ALL_MAX,
            drain_max: crate::limits::DRAIN_MAX,
            pids: Vec::new(),
            seed: 1,
        }
    }

    /// Starts the server, runs, and ends it. Also what the server said of its memory.
    pub(crate) fn attempt(
        &self,
        scenario: &str,
        spec: RunSpec,
    ) -> Result<(Outcome, Option<String>), Trouble> {
        let peer = PeerBroker::start(spec.target, self.flags.host, spec.subscribers, &self.ours)
            .map_err(Trouble::Server)?;
        let spec = RunSpec {
            address: peer.address(),
            publish_address: peer.publish_address(),
            pids: peer.pids(),
            ..spec
        };
        let rate = spec.load.map_or(0, |load| load.rate);
        let what = format!("{scenario} {} {rate} msg/s", spec.target.name());
        let outcome = run(&spec, &Bar::new(&what));
        match &outcome {
            Ok(outcome) => {
                let verdict = match &objections(outcome)[..] {
                    [] => "held".to_owned(),
                    [first, ..] => format!("not held: {first}"),
                };
                let p99_ms = outcome.latency_ns(99.0) / 1_000_000;
                eprintln!("loadgen: {what}: p99 {p99_ms} ms, {verdict}");
            }
            Err(why) => eprintln!("loadgen: {what}: {why}"),
        }
        let memory = peer.memory().map(str::to_owned);
        outcome.map(|outcome| (outcome, memory)).map_err(Trouble::Run)
    }
}

fn no_trial() -> Trouble {
    Trouble::Run(Failure::Running("no trial was made".to_owned()))
}

/// The one with the median 99th percentile.
pub(crate) fn median(mut outcomes: Vec<Outcome>) -> Option<Outcome> {
    outcomes.sort_by_key(|outcome| outcome.latency_ns(99.0));
    let middle = outcomes.len() / 2;
    outcomes.into_iter().nth(middle)
}

/// What `compare` calls sustained: nothing lost, the 99th percentile below its bound, and the rate
/// really offered. A generator that is merely busy does not spoil a rate that was sustained; the
/// target could then do more, and the table says "at least".
pub(crate) fn objections(outcome: &Outcome) -> Vec<String> {
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
