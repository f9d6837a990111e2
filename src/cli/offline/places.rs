//! The logs of the nodes in a data directory, for commands that replace them.

use std::cell::RefCell;
use std::path::Path;

use crate::cli::exit::Failure;
use crate::config::{Config, Partition};
use crate::limits;
use crate::log::inspect::{Outline, Verdict, Watch, verify};
use crate::log::rebuild::Standing;
use crate::log::{LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::storage::{HeldDirectory, LogFiles, Wake};
use crate::time::{Clock, Now};
use crate::wire::{FRAME_BYTES, padded};

/// One node's log.
#[derive(Debug)]
pub(super) struct NodeLog {
    pub(super) name: String,
    pub(super) outline: Outline,
    pub(super) files: LogFiles,
    held: RefCell<Option<HeldDirectory>>,
}

impl NodeLog {
    pub(super) fn standing(&self) -> Standing {
        Standing::of(&self.name, &self.outline)
    }

    /// Whether its last segments are missing.
    pub(super) fn is_end_missing(&self) -> bool {
        self.outline.end_missing().is_some()
    }

    /// Which shard it is, and which copy of it.
    pub(super) fn shard(&self) -> Option<(Partition, u8)> {
        shard_of(&self.name)
    }

    /// Gives the lock back, for the log to be opened.
    pub(super) fn release(&self) {
        self.held.borrow_mut().take();
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) core: Option<NodeLog>,
    /// By name.
    pub(super) shards: Vec<NodeLog>,
}

impl Logs {
    /// The logs in this data directory. What a tool has set aside is none of them.
    pub(super) fn find(dir: &Path) -> Result<Logs, Failure> {
        let mut logs = Logs { core: None, shards: Vec::new() };
        for (name, mut files) in LogFiles::find_below(dir).map_err(Failure::failed)? {
            if name != "core" && shard_of(&name).is_none() {
                continue;
            }
            let outline = Outline::of(&mut files, Some(padded(&name))).map_err(Failure::failed)?;
            if let Some(refusal) = outline.refusal().filter(|it| it.is_of_earlier_format()) {
                return Err(Failure::failed(format!("{name}: {refusal}")));
            }
            let log = NodeLog { name, outline, files, held: RefCell::new(None) };
            if log.name == "core" {
                logs.core = Some(log);
            } else {
                logs.shards.push(log);
            }
        }
        if logs.core.is_none() && logs.shards.is_empty() {
            let place = dir.display();
            return Err(Failure::usage(format!(
                "{place} is no data directory: no folder in it is the log of core or of a shard; choose one \
                 with --data-dir"
            )));
        }
        Ok(logs)
    }

    /// Refuses a shard's log that an open would refuse.
    pub(super) fn all_readable(&self) -> Result<(), Failure> {
        let refused = self.shards.iter().find_map(|log| Some((log, log.outline.refusal()?)));
        let Some((log, refusal)) = refused else { return Ok(()) };
        Err(Failure::failed(format!(
            "the log of {name} cannot be read: {refusal}; `pregao verify` says more, and `pregao recover --reset \
             {name}` sets it aside",
            name = log.name
        )))
    }

    /// Takes every log as its node would, until they are dropped.
    pub(super) fn hold(&self) -> Result<(), Failure> {
        for log in self.core.iter().chain(&self.shards) {
            let held = HeldDirectory::take(log.files.directory()).map_err(|error| {
                Failure::failed(format!(
                    "{}: {error}; stop the system with `pregao stop` first",
                    log.name
                ))
            })?;
            *log.held.borrow_mut() = Some(held);
        }
        Ok(())
    }
}

/// `shard-A`, or `shard-A.1`.
pub(super) fn shard_of(name: &str) -> Option<(Partition, u8)> {
    let rest = name.strip_prefix("shard-")?;
    let (letter, copy) = match rest.split_once('.') {
        None => (rest, 0),
        Some((letter, copy)) => (letter, copy.parse().ok().filter(|copy| *copy > 0)?),
    };
    Some((letter.parse().ok()?, copy))
}

/// How the new log of a node is kept while it is written: it is synced when it is closed.
pub(super) fn log_config(
    config: &Config,
    name: &str,
    upstream: UpstreamRule,
    sequence: Sequence,
) -> LogConfig {
    let bytes = config.data.segment_bytes - limits::SEGMENT_BYTES_STEP;
    LogConfig {
        name: padded(name),
        segment_records: bytes / FRAME_BYTES as u64,
        policy: SyncPolicy::None,
        upstream,
        sequence,
        retention: Retention::default(),
    }
}

struct Silent(Option<String>);

impl Watch for Silent {
    fn found(&mut self, finding: &crate::log::inspect::Finding) {
        self.0.get_or_insert_with(|| format!("{}: {}", finding.file, finding.what));
    }

    fn passed(&mut self, _bytes: u64) {}
}

/// Goes through every record of a log that was made; it has to be whole.
pub(super) fn check(directory: &Path, name: &str) -> Result<Outline, Failure> {
    let found = LogFiles::find(directory).map_err(Failure::failed)?;
    let Some(mut files) = found else {
        return Err(Failure::failed(format!("{} has no log", directory.display())));
    };
    let outline = Outline::of(&mut files, Some(padded(name))).map_err(Failure::failed)?;
    let mut silent = Silent(None);
    let summary = verify(&mut files, &outline, false, &mut silent).map_err(Failure::failed)?;
    if summary.verdict == Verdict::Corrupt {
        let what = silent.0.unwrap_or_default();
        let place = directory.display();
        return Err(Failure::failed(format!("the new log in {place} is not whole: {what}")));
    }
    Ok(outline)
}

/// Nobody waits for the jobs of a log that a tool writes: it asks.
pub(super) fn wake() -> Wake {
    Box::new(|| {})
}

pub(super) fn now() -> Now {
    Clock::start().now()
}
