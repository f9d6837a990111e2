//! `pregao repartition`: moves the shards' history to another partition.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::places::{Logs, NodeLog, check, log_config, now, wake};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::config::{Config, NodeId, Partition as Letter};
use crate::log::inspect::Reader;
use crate::log::rebuild::{Part, SplitSource, Splitting, check_split, split};
use crate::log::{Sequence, UpstreamRule};
use crate::market::partition::Partition;
use crate::node::shard::partition_line;
use crate::storage::{FileStorage, LogFiles, Places};
use crate::supervisor::lock::DataLock;

/// A checked `repartition`.
#[derive(Clone, Debug)]
pub struct RepartitionRequest {
    /// The data directory.
    pub dir: PathBuf,
    /// What says the new partition.
    pub config: Config,
    /// How the result is shown.
    pub format: Format,
}

/// Moves the history.
///
/// # Errors
/// When a node runs, the old logs are not of one history, or something cannot be read or written.
pub fn run(request: &RepartitionRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let partition = request.config.partition.partition(request.config.net.shards.len());
    let partition = partition.map_err(Failure::usage)?;
    let places = Places::new(&request.dir);
    // Nothing is made where there is no data.
    Logs::find(&request.dir)?;
    let _no_system = DataLock::take(&request.dir).map_err(Failure::failed)?;
    let logs = Logs::find(&request.dir)?;
    logs.hold()?;
    let wanted = wanted(&request.config);
    let pending: Vec<(String, bool)> = places.pending().map_err(Failure::failed)?;
    let is_ready = wanted.iter().all(|(name, shard)| {
        let is_whole = pending.iter().any(|(made, is_whole)| made == name && *is_whole);
        is_whole || keeps(&places.of(name), &partition, *shard)
    });
    let is_begun = pending.iter().any(|(name, _)| name.starts_with("shard-"));
    let mut exit = Exit::Complete;
    if is_ready && is_begun {
        // Only those of this very partition: another one was asked for before, perhaps.
        let fits = |(name, shard): &(String, u16)| {
            let made = places.made(name);
            !made.exists()
                || keeps(&made, &partition, *shard)
                || keeps(&places.of(name), &partition, *shard)
        };
        if !wanted.iter().all(fits) {
            return Err(Failure::failed(
                "an earlier repartition to another partition was interrupted: finish that one first, with its \
                 configuration",
            ));
        }
        eprintln!("going on with what an earlier run has made");
    } else if wanted.iter().all(|(name, shard)| keeps(&places.of(name), &partition, *shard)) {
        return Err(Failure::usage(format!(
            "nothing is to be moved: the shards keep {partition} already"
        )));
    } else {
        let splitting = make(request, &partition, &places, &logs, &wanted)?;
        if splitting.lost > 0 {
            exit = Exit::Partial;
        }
        show(request, &wanted, &splitting, output)?;
        for (name, _) in &wanted {
            places.finish(name).map_err(Failure::failed)?;
        }
    }
    for (name, _) in &wanted {
        if places.made(name).exists() {
            let replaced = places.put_in_place(name).map_err(Failure::failed)?;
            placed(request, name, replaced, output)?;
        }
    }
    for log in &logs.shards {
        if !wanted.iter().any(|(name, _)| *name == log.name) {
            let replaced = places.set_aside(&log.name).map_err(Failure::failed)?;
            placed(request, &log.name, Some(replaced), output)?;
        }
    }
    Ok(exit)
}

/// The logs that the new partition has: the name of each, and the number of its shard.
fn wanted(config: &Config) -> Vec<(String, u16)> {
    let shards = config
        .nodes()
        .into_iter()
        .filter(|node| matches!(node, NodeId::Shard(_) | NodeId::ShardReplica(..)));
    shards
        .filter_map(|node| Some((node.to_string(), u16::try_from(node.partition()?.index()).ok()?)))
        .collect()
}

/// Whether the log in this directory is kept as this part.
fn keeps(directory: &std::path::Path, partition: &Partition, shard: u16) -> bool {
    let line = partition_line(partition, shard);
    std::fs::read(directory.join("PARTITION")).is_ok_and(|text| text == line.as_bytes())
}

/// Of each old shard the copy that has most.
fn best_copies(logs: &Logs) -> BTreeMap<Letter, &NodeLog> {
    let mut best: BTreeMap<Letter, &NodeLog> = BTreeMap::new();
    for log in &logs.shards {
        let Some((letter, _)) = log.shard() else { continue };
        if log.outline.refusal().is_some() {
            continue;
        }
        let merit = |log: &NodeLog| {
            let is_whole =
                log.outline.missing_front().is_none() && log.outline.end_missing().is_none();
            (is_whole, log.standing().next_seq)
        };
        let known = best.entry(letter).or_insert(log);
        if merit(log) > merit(known) {
            *known = log;
        }
    }
    best
}

fn make(
    request: &RepartitionRequest,
    partition: &Partition,
    places: &Places,
    logs: &Logs,
    wanted: &[(String, u16)],
) -> Result<Splitting, Failure> {
    let best = best_copies(logs);
    let is_lost =
        |log: &&NodeLog| log.shard().is_some_and(|(letter, _)| !best.contains_key(&letter));
    if logs.shards.iter().any(|log| is_lost(&log)) {
        logs.all_readable()?;
    }
    let short = best.values().find(|log| log.outline.missing_front().is_some());
    if let Some(short) = short {
        return Err(Failure::failed(format!(
            "segments at the front of {} are missing: put them back, or have core feed it anew with `pregao \
             recover --reset {}` and a start with the old configuration",
            short.name, short.name
        )));
    }
    let mut done: Option<Splitting> = None;
    for copy in 0..request.config.net.replicas.max(1) {
        let names: Vec<&(String, u16)> =
            wanted.iter().filter(|(name, _)| copy_of(name) == copy).collect();
        let mut sources = Vec::new();
        for log in best.values() {
            let files = files_of(log)?;
            sources
                .push(SplitSource::new(&log.name, files, &log.outline).map_err(Failure::failed)?);
        }
        let mut targets = Vec::new();
        for (name, shard) in &names {
            let made = places.begin(name).map_err(Failure::failed)?;
            let storage = FileStorage::open(&made, wake()).map_err(Failure::failed)?;
            let config =
                log_config(&request.config, name, UpstreamRule::FollowSeq, Sequence::Increasing);
            targets.push((storage, config, partition_line(partition, *shard)));
        }
        eprintln!("copy {copy}: {} logs are read, {} are written", best.len(), names.len());
        let splitting = split(sources, partition, targets, now()).map_err(Failure::failed)?;
        check_reach(logs, &splitting)?;
        for ((name, _), part) in names.iter().zip(&splitting.parts) {
            check_part(places, name, part)?;
            eprintln!("{name}: {} frames, read again and compared", part.frames);
        }
        done.get_or_insert(splitting);
    }
    done.ok_or_else(|| Failure::usage("[net] shards lists no shard"))
}

/// What some old logs have beyond the end of the new ones has to come from core.
fn check_reach(logs: &Logs, splitting: &Splitting) -> Result<(), Failure> {
    if splitting.beyond == 0 {
        return Ok(());
    }
    let next_seq = splitting.next_seq;
    let reaches = logs.core.as_ref().is_some_and(|core| {
        core.outline.refusal().is_none() && core.outline.first_seq() <= next_seq
    });
    if reaches {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "one shard stands at seq {next_seq} and others hold {} frames beyond it, which no journal here has: start \
         the system with the old configuration until all shards are as far, and stop it",
        splitting.beyond
    )))
}

fn check_part(places: &Places, name: &str, part: &Part) -> Result<(), Failure> {
    let made = places.made(name);
    let outline = check(&made, name)?;
    let files = LogFiles::find(&made).map_err(Failure::failed)?;
    let Some(files) = files else { return Err(Failure::failed(format!("{name} has no log"))) };
    let reader = Reader::new(files, &outline).map_err(Failure::failed)?;
    check_split(part, reader).map_err(|error| Failure::failed(format!("{name}: {error}")))
}

fn files_of(log: &NodeLog) -> Result<LogFiles, Failure> {
    let files = LogFiles::find(log.files.directory()).map_err(Failure::failed)?;
    files.ok_or_else(|| Failure::failed(format!("the log of {} is gone", log.name)))
}

/// The copy of a shard that a name means.
fn copy_of(name: &str) -> u8 {
    name.split_once('.').and_then(|(_, copy)| copy.parse().ok()).unwrap_or(0)
}

#[derive(Serialize)]
struct LogJson<'a> {
    kind: &'static str,
    node: &'a str,
    frames: u64,
    instruments: usize,
    next_seq: u64,
    whole_from_seq: u64,
    lost: u64,
}

fn show(
    request: &RepartitionRequest,
    wanted: &[(String, u16)],
    splitting: &Splitting,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    for (name, shard) in wanted {
        let Some(part) = splitting.parts.get(usize::from(*shard)) else { continue };
        let row = LogJson {
            kind: "log",
            node: name,
            frames: part.frames,
            instruments: part.instruments.len(),
            next_seq: splitting.next_seq,
            whole_from_seq: splitting.whole_from,
            lost: splitting.lost,
        };
        output.line(&match request.format {
            Format::Json => crate::render::json_line(&row),
            Format::Table => {
                let lost = match row.lost {
                    0 => String::new(),
                    lost => format!("; {lost} numbers of the old logs are lost"),
                };
                format!(
                    "{name:<10} {} frames of {} instruments, next seq {}{lost}",
                    row.frames, row.instruments, row.next_seq
                )
            }
        })?;
    }
    Ok(())
}

#[derive(Serialize)]
struct PlacedJson<'a> {
    kind: &'static str,
    node: &'a str,
    replaced: Option<String>,
}

fn placed(
    request: &RepartitionRequest,
    node: &str,
    replaced: Option<String>,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    output.line(&match (request.format, &replaced) {
        (Format::Json, _) => {
            crate::render::json_line(&PlacedJson { kind: "placed", node, replaced })
        }
        (Format::Table, Some(replaced)) => {
            format!("{node:<10} what was there before is {replaced}")
        }
        (Format::Table, None) => format!("{node:<10} is new"),
    })
}
