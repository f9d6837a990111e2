//! loadgen: open-loop load and end-to-end latency, for pregao and its peers.
//!
//! The generator and its thousands of subscribers share the machine with what they measure. So a
//! receiving thread does as little as it can for each delivery (count, check the number, time, and
//! compute the checksum of one in 64), and a run in which the generator itself was the limit says so.

mod bare;
mod check;
mod compare;
mod connect;
mod counts;
mod hardship;
mod hdr_log;
mod late;
mod leftovers;
mod limits;
mod live_first;
mod measure;
mod nobody;
mod options;
mod pace;
mod peers;
mod plan;
mod plot;
mod process;
mod produce;
mod progress;
mod publish;
mod query;
mod receive;
mod report;
mod restart;
mod run;
mod scenario;
mod search;
mod shared;
mod subscriber;
mod target;
mod timebase;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use measure::Window;
use options::{Command, CommandLine, Format, RunFlags};
use progress::Bar;
use report::Row;
use run::{Load, RunSpec};
use subscriber::Pace;

/// Measured, and the figures may be used.
const VALID: u8 = 0;
/// The flags make no sense together.
const USAGE: u8 = 2;
/// Measured, and the figures must not be used.
const INVALID: u8 = 3;
/// Nothing measured.
const FAILED: u8 = 4;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    // The bare loop is a server like the others, which a signal simply ends.
    if !matches!(line.command, Some(Command::Bare { .. }))
        && let Err(why) = leftovers::end_on_signals()
    {
        eprintln!("loadgen: {why}");
    }
    let result = match line.command {
        None => single(&line.run),
        Some(Command::Bare { listen }) => bare::serve(listen)
            .map(|()| VALID)
            .map_err(|error| (FAILED, format!("cannot serve on {listen}: {error}"))),
        Some(Command::Compare(flags)) => {
            let result = compare::compare(&flags, |text| print(text).map_err(|(_, why)| why));
            result.map(|all_valid| if all_valid { VALID } else { INVALID }).map_err(|w| (FAILED, w))
        }
        Some(Command::Produce(flags)) => produce::produce(&flags)
            .map_err(|why| (FAILED, why))
            .and_then(|text| print(&text).map(|()| VALID)),
        Some(Command::Query(flags)) => {
            let result = query::query(&flags, |text| print(text).map_err(|(_, why)| why));
            result.map(|is_valid| if is_valid { VALID } else { INVALID }).map_err(|w| (FAILED, w))
        }
    };
    match result {
        Ok(code) => code.into(),
        Err((code, why)) => {
            eprintln!("loadgen: {why}");
            code.into()
        }
    }
}

fn single(flags: &RunFlags) -> Result<u8, (u8, String)> {
    let spec = spec_of(flags).map_err(|why| (USAGE, why))?;
    let outcome = run::run(&spec, &Bar::new("")).map_err(|why| (FAILED, why.to_string()))?;
    let scenario = match spec.load {
        None => "live-market",
        Some(load) if load.watch > 0 => "watch-list",
        Some(_) if spec.subscribers == 1 => "one-to-one",
        Some(_) => "full-feed",
    };
    let mut row = Row::new(scenario, &outcome, outcome.objections());
    for (count, pace, name) in
        [(spec.stalled, Pace::Stalled, "stalled"), (spec.slow, Pace::Half, "slow")]
    {
        if count > 0 {
            hardship::note_reasons(&mut row, &outcome, pace, name);
        }
    }
    if outcome.measured_for < spec.duration {
        row.note("ended_early_after_s", seconds(outcome.measured_for));
    }
    print(&match flags.format {
        Format::Json => row.json(),
        Format::Table => row.table(),
    })?;
    let unwritten = |file: &Path, error: &dyn std::fmt::Display| {
        (FAILED, format!("cannot write {}: {error}", file.display()))
    };
    if let Some(file) = &flags.hdr {
        let interval = Window::interval_of(spec.duration);
        let written = File::create(file).map(BufWriter::new).and_then(|mut to| {
            hdr_log::write(&mut to, &outcome.measured, outcome.started_s, interval)?;
            to.flush()
        });
        written.map_err(|error| unwritten(file, &error))?;
    }
    if let Some(file) = &flags.plot {
        let title = format!("{}, {} subscribers", spec.target.name(), spec.subscribers);
        let objections = outcome.objections();
        let objection = objections.first().map(String::as_str);
        plot::write(file, &title, objection, &outcome.measured)
            .map_err(|error| unwritten(file, &error))?;
    }
    Ok(if outcome.objections().is_empty() { VALID } else { INVALID })
}

/// In tenths.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}

fn spec_of(flags: &RunFlags) -> Result<RunSpec, String> {
    let target = flags.target;
    let has_market = target.publisher() == target::Target::Pregao;
    if flags.rate.is_none() && !has_market {
        return Err(format!("{} has no market of its own; say a --rate", target.name()));
    }
    let publisher = target.publisher();
    if flags.publish_addr.is_some() && publisher == target {
        return Err(format!("messages for {} are published where it listens", target.name()));
    }
    let local = |target: target::Target| SocketAddr::from(([127, 0, 0, 1], target.port()));
    let subscribers = flags.subscribers as usize;
    let (stalled, slow) = (flags.stall.of(subscribers), flags.slow.of(subscribers));
    if stalled + slow >= subscribers {
        return Err("somebody has to read at full speed; lower --stall or --slow".to_owned());
    }
    Ok(RunSpec {
        target,
        address: flags.addr.unwrap_or_else(|| local(target)),
        publish_address: match publisher == target {
            true => None,
            false => Some(flags.publish_addr.unwrap_or_else(|| local(publisher))),
        },
        subscribers,
        threads: usize::from(flags.threads),
        load: flags.rate.map(|rate| Load {
            rate,
            instruments: flags.instruments,
            watch: flags.watch.unwrap_or(0) as usize,
            source: match target {
                target::Target::PregaoWs => target.own_source(),
                _ => flags.source,
            },
        }),
        market_source: pregao::node::sequencer::MARKET_SOURCE,
        warm_up: flags.warm_up,
        duration: flags.duration,
        stalled,
        slow,
        churn_per_s: flags.churn.unwrap_or(0),
        joiners: 0,
        connect_max: limits::CONNECT_LONGEST,
        drain_max: limits::DRAIN_MAX,
        pids: flags.broker_pid.into_iter().collect(),
        seed: flags.seed,
    })
}

/// A closed pipe ends the command quietly.
fn print(text: &str) -> Result<(), (u8, String)> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err((FAILED, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
