//! `pregao verify`, `dump` and `export`: what a log's files hold, without a node and without opening
//! the log; `recover` and `repartition`, which make logs anew while no node runs. Finding the logs, the selection of records and the progress bar are here; the walk and
//! the judgement are `crate::log::inspect`'s.

pub(super) mod args;
pub mod convert;
pub mod dump;
pub mod export;
#[cfg(feature = "parquet")]
mod parquet;
mod part;
mod places;
pub mod recover;
pub mod repartition;
pub mod rows;
pub(super) mod tape;
pub mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::rows::Rows;
use super::exit::Failure;
use crate::cli::progress::Bar;
use crate::client::Symbols;
use crate::feed;
use crate::log::inspect::{Item, Outline, Reader, Union};
use crate::log::{StorageError, is_uncertain};
use crate::parse::Pattern;
use crate::storage::LogFiles;
use crate::wire::{Frame, padded};

/// What `--log` calls the union of all shards.
const SHARDS: &str = "shards";

/// A log's files, and the name that its directory gives it.
struct Found {
    name: Option<String>,
    files: LogFiles,
}

impl Found {
    fn outline(&mut self) -> Result<Outline, StorageError> {
        let name = self.name.as_deref().map(padded);
        Outline::of(&mut self.files, name)
    }
}

/// The log in `dir`, or the logs in its folders.
fn logs_in(dir: &Path) -> Result<Vec<Found>, Failure> {
    let failed = |error: StorageError| Failure::failed(error.to_string());
    if let Some(files) = LogFiles::find(dir).map_err(failed)? {
        return Ok(vec![Found { name: None, files }]);
    }
    let below = LogFiles::find_below(dir).map_err(failed)?;
    if below.is_empty() {
        let place = dir.display();
        let problem = format!(
            "{place} is no log and no data directory: neither it nor a folder in it has a segment \
             (00000000000000000001.log)"
        );
        return Err(Failure::failed(problem));
    }
    Ok(below.into_iter().map(|(name, files)| Found { name: Some(name), files }).collect())
}

/// Which records of which log, checked.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Data directory or log.
    pub dir: PathBuf,
    /// Which log.
    pub log: Option<String>,
    /// Which instruments; empty = all.
    pub patterns: Vec<feed::Pattern>,
    /// Which kinds; empty = all but definitions.
    pub kinds: Vec<Rows>,
    /// First seq.
    pub from_seq: u64,
    /// The seq behind the last one.
    pub to_seq: u64,
}

impl Selected {
    /// All of a directory, but definitions.
    fn all_of(dir: &Path) -> Selected {
        Selected {
            dir: dir.to_owned(),
            log: None,
            patterns: Vec::new(),
            kinds: Vec::new(),
            from_seq: 0,
            to_seq: u64::MAX,
        }
    }

    pub(super) fn resolve(selection: args::Selection) -> Result<Selected, Failure> {
        if selection.from >= selection.to {
            let problem = "--from is not below --to, so nothing lies between them; exchange them";
            return Err(Failure::usage(problem));
        }
        let pattern = |pattern: &Pattern| {
            if pattern.bars.is_some() {
                return Err(Failure::usage("--symbol: a log has no bars; they are made of trades"));
            }
            feed::Pattern::new(&pattern.symbols, pattern.kinds).map_err(Failure::usage)
        };
        Ok(Selected {
            dir: selection.dir,
            log: selection.log,
            patterns: selection.symbols.iter().map(pattern).collect::<Result<_, _>>()?,
            kinds: selection.kinds,
            from_seq: selection.from,
            to_seq: selection.to,
        })
    }

    /// Whether the frame is wanted.
    fn wants(&self, frame: &Frame, symbols: &Symbols) -> bool {
        if !(self.from_seq..self.to_seq).contains(&frame.seq.get()) {
            return false;
        }
        let kind_fits = match &self.kinds[..] {
            [] => !frame.is_naming(),
            kinds => Rows::of(frame).is_some_and(|rows| kinds.contains(&rows)),
        };
        // A kind that this program does not know has a bit too.
        let mask = 1_u16.checked_shl(frame.kind.into()).unwrap_or(0);
        let names = symbols.names(frame.instrument());
        let symbol_fits = self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| {
                pattern.kinds() & mask != 0 && names.is_some_and(|names| pattern.means(names))
            });
        kind_fits && symbol_fits
    }

    /// The logs that are meant.
    fn logs(&self) -> Result<Vec<Found>, Failure> {
        let mut logs = logs_in(&self.dir)?;
        let is_shard =
            |found: &Found| found.name.as_ref().is_some_and(|name| name.starts_with("shard"));
        let has = |logs: &[Found], wanted: &str| {
            logs.iter().any(|found| found.name.as_deref() == Some(wanted))
        };
        let wanted = match &self.log {
            // A directory of one log.
            None if logs.iter().all(|found| found.name.is_none()) => return Ok(logs),
            None if has(&logs, "core") => "core",
            None => SHARDS,
            Some(wanted) => wanted,
        };
        let names: Vec<String> = logs.iter().filter_map(|found| found.name.clone()).collect();
        if wanted == SHARDS {
            logs.retain(is_shard);
        } else {
            logs.retain(|found| found.name.as_deref() == Some(wanted));
        }
        if logs.is_empty() {
            let there = match names.is_empty() {
                true => "is the directory of one log: leave --log out".to_owned(),
                false => format!("has {}: choose with --log", names.join(", ")),
            };
            let problem = format!("no log {wanted:?} there; {} {there}", self.dir.display());
            return Err(Failure::usage(problem));
        }
        Ok(logs)
    }

    /// Opens the logs that are meant for reading, and the bar that shows how far it is.
    fn records(&self) -> Result<Records, Failure> {
        let mut readers = Vec::new();
        let mut bytes = 0;
        let mut is_short = false;
        for mut found in self.logs()? {
            let outline = found.outline().map_err(|error| Failure::failed(error.to_string()))?;
            let place = found.files.directory().display().to_string();
            if let Some(refusal) = outline.refusal() {
                let problem = format!(
                    "the log in {place} cannot be read: {refusal}; `pregao verify` says more"
                );
                return Err(Failure::failed(problem));
            }
            bytes += outline.record_bytes();
            let reader = Reader::new(found.files, &outline)
                .map_err(|error| Failure::failed(error.to_string()))?;
            if let Some(error) = reader.unsettled() {
                log::warn!("{place}: {error}; what is not known to be durable is left out");
                is_short = true;
            }
            readers.push(reader);
        }
        Ok(Records {
            union: Union::new(readers),
            symbols: Symbols::default(),
            bar: Bar::new(Some(bytes)),
            is_short,
            without_rows: BTreeMap::new(),
        })
    }
}

/// The records of the logs that are meant.
struct Records {
    union: Union<LogFiles>,
    symbols: Symbols,
    bar: Bar,
    /// Something could not be read.
    is_short: bool,
    /// By number of the kind: wanted records that this program has no rows for.
    without_rows: BTreeMap<u8, u64>,
}

/// Whose frames these are, as names and values.
#[derive(Clone, Debug, Default)]
struct Identity(Vec<(&'static str, String)>);

/// An identity as everybody shows it: 16 hexadecimal digits.
fn id_text(id: u64) -> String {
    format!("{id:016x}")
}

impl Records {
    /// The journal, and the epochs that the logs stand in: those of shards may differ.
    fn identity(&self) -> Identity {
        let readers = self.union.readers();
        let journal = readers.iter().map(|reader| reader.lineage().journal_id());
        let journal = journal.into_iter().find(|id| *id != 0);
        let mut epochs: Vec<(u32, u64)> = readers.iter().map(|it| it.stands_in()).collect();
        // Logs of older programs have none.
        epochs.retain(|(_, id)| *id != 0);
        epochs.sort_unstable();
        epochs.dedup();
        let list = |of: &dyn Fn(&(u32, u64)) -> String| {
            epochs.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let mut pairs = Vec::new();
        pairs.extend(journal.map(|id| ("journal_id", id_text(id))));
        if !epochs.is_empty() {
            pairs.push(("epoch", list(&|(epoch, _)| epoch.to_string())));
            pairs.push(("epoch_id", list(&|(_, id)| id_text(*id))));
        }
        Identity(pairs)
    }

    /// The next item. What a definition says is noted.
    fn next_item(&mut self) -> Result<Option<Item>, Failure> {
        let item = self.union.next_item();
        let item = item.map_err(|error| Failure::failed(error.to_string()))?;
        if let Some(Item::Data(frame) | Item::Statement(frame)) = &item {
            note_symbol(&mut self.symbols, frame);
        }
        self.bar.show(self.union.bytes_read());
        Ok(item)
    }

    /// As which rows the frame is wanted. What is wanted and has none is counted.
    fn rows(&mut self, frame: &Frame, selected: &Selected) -> Option<Rows> {
        if !selected.wants(frame, &self.symbols) {
            return None;
        }
        let rows = Rows::of(frame);
        if rows.is_none() {
            *self.without_rows.entry(frame.kind).or_default() += 1;
            self.is_short = true;
        }
        rows
    }

    /// What is said of the records that have no rows here.
    fn left_out(&self) -> Vec<String> {
        let say = |(kind, count): (&u8, &u64)| {
            let plural = if *count == 1 { "" } else { "s" };
            let known = crate::wire::Kind::from_number(*kind);
            let why = match known {
                Some(_) => "this program has no rows for it",
                None => "only a newer program knows it",
            };
            format!("left out: {count} record{plural} of kind {kind}; {why}")
        };
        self.without_rows.iter().map(say).collect()
    }
}

/// What core says of a number whose definition may be lost names nothing; a shard may still know its name.
fn note_symbol(symbols: &mut Symbols, frame: &Frame) {
    if !is_uncertain(frame) {
        symbols.note(frame);
    }
}

#[cfg(test)]
mod tests;
