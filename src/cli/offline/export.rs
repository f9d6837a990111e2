//! `pregao export`: records as files that other programs read, in folders by kind, date and symbol.
//!
//! Records are collected by folder and written in batches, since a log has its instruments mixed and
//! a file per record would be the result of writing at once. What is collected, and the files that are
//! open, are bounded: when the bound is reached the largest batch goes out, and when a folder's file was
//! closed meanwhile, its next batch begins another part.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::args::ExportFormat;
use super::dump::exit;
use super::part::Part;
use super::rows::Rows;
use super::{Identity, Selected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::client::Symbols;
use crate::limits::{EXPORT_BATCH_FRAMES, EXPORT_FILES_MAX, EXPORT_FRAMES_MAX};
use crate::log::inspect::Item;
use crate::parse::TimeNs;
use crate::wire::{Frame, Symbol};

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Which records.
    pub selected: Selected,
    /// What to write.
    pub format: ExportFormat,
    /// Directory to write to.
    pub out: PathBuf,
    /// Whether an earlier export there is removed.
    pub overwrite: bool,
}

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;

/// What Hive, and who follows it, calls the folder of rows that have no value.
const NO_SYMBOL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Exports the records.
///
/// # Errors
/// When they cannot be read or written. What was written until then stays, in whole files.
pub fn run(request: &ExportRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    #[cfg(not(feature = "parquet"))]
    if request.format == ExportFormat::Parquet {
        return Err(Failure::usage(super::part::WITHOUT_PARQUET));
    }
    // Before anything is made or removed: is there a log to export?
    let mut records = request.selected.records()?;
    prepare(&request.out, request.overwrite)?;
    let mut export = Export::new(&request.out, request.format);
    export.identity = records.identity();
    let mut lost = 0_u64;
    while let Some(item) = records.next_item()? {
        match item {
            Item::Data(frame) if frame.seq.get() >= request.selected.to_seq => break,
            Item::Data(frame) => {
                if let Some(rows) = records.rows(&frame, &request.selected) {
                    export.take(rows, &frame, &records.symbols)?;
                }
            }
            Item::Hole(from_seq, to_seq) | Item::Lost { from_seq, to_seq, .. } => {
                if to_seq >= request.selected.from_seq && from_seq < request.selected.to_seq {
                    log::warn!("seq {from_seq} to {to_seq} are lost; see `pregao verify`");
                    records.is_short = true;
                    lost += 1;
                }
            }
            Item::Statement(_) | Item::Mark(..) | Item::Epoch(..) => {}
        }
    }
    let counts = export.finish(&records.symbols)?;
    output.line(&format!("{:12} {:>14} {:>8}", "KIND", "ROWS", "FILES"))?;
    for (rows, count) in &counts {
        output.line(&format!("{:12} {:>14} {:>8}", rows.name(), count.rows, count.files))?;
    }
    if lost > 0 {
        output.line(&format!("{:12} {lost:>14}", "gaps"))?;
    }
    for (name, value) in &records.identity().0 {
        output.line(&format!("{name:12} {value}"))?;
    }

    Ok(exit(&records))
}

/// What was written of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    rows: u64,
    files: u64,
}

/// A folder: kind, day since 1970, symbol.
type Key = (Rows, u64, Option<Symbol>);

struct Export<'a> {
    out: &'a Path,
    format: ExportFormat,
    batches: BTreeMap<Key, Vec<Frame>>,
    /// Frames in all batches.
    held: usize,
    /// The part that was written last is the last one.
    parts: VecDeque<(Key, Part)>,
    counts: BTreeMap<Rows, Count>,
    /// Whose frames these are.
    identity: Identity,
    frames_max: usize,
    files_max: usize,
}

impl Export<'_> {
    fn new(out: &Path, format: ExportFormat) -> Export<'_> {
        Export {
            out,
            format,
            batches: BTreeMap::new(),
            held: 0,
            parts: VecDeque::new(),
            counts: BTreeMap::new(),
            identity: Identity::default(),
            frames_max: EXPORT_FRAMES_MAX,
            files_max: EXPORT_FILES_MAX,
        }
    }

    fn take(&mut self, rows: Rows, frame: &Frame, symbols: &Symbols) -> Result<(), Failure> {
        let symbol = symbols.symbol(frame.instrument()).copied();
        let key = (rows, frame.ts_event.get() / DAY_NS, symbol);
        let batch = self.batches.entry(key).or_default();
        batch.push(*frame);
        self.held += 1;
        if batch.len() >= EXPORT_BATCH_FRAMES {
            return self.write(key, symbols);
        }
        if self.held >= self.frames_max {
            let largest = self.batches.iter().max_by_key(|(_, batch)| batch.len());
            if let Some(key) = largest.map(|(key, _)| *key) {
                return self.write(key, symbols);
            }
        }
        Ok(())
    }

    /// Writes a folder's batch into its open part, or into a new one.
    fn write(&mut self, key: Key, symbols: &Symbols) -> Result<(), Failure> {
        let Some(frames) = self.batches.remove(&key) else { return Ok(()) };
        self.held -= frames.len();
        let folder = self.out.join(folder(&key));
        let failed = |error: io::Error| cannot("write to", &folder, &error);
        let open = self.parts.iter().position(|(of, _)| *of == key);
        let mut part = match open.and_then(|index| self.parts.remove(index)) {
            Some((_, part)) => part,
            None => {
                let oldest = match self.parts.len() >= self.files_max {
                    true => self.parts.pop_front(),
                    false => None,
                };
                if let Some((_, oldest)) = oldest {
                    self.close(oldest)?;
                }
                let instrument = frames.first().map(Frame::instrument);
                let decimals = instrument.map_or(0, |it| symbols.decimals(it).quantity);
                Part::create(&folder, self.format, key.0, &self.identity, decimals)
                    .map_err(failed)?
            }
        };
        part.write(&frames, symbols).map_err(failed)?;
        self.parts.push_back((key, part));
        self.counts.entry(key.0).or_default().rows += frames.len() as u64;
        Ok(())
    }

    fn close(&mut self, part: Part) -> Result<(), Failure> {
        let rows = part.rows();
        part.finish().map_err(|error| cannot("write to", self.out, &error))?;
        self.counts.entry(rows).or_default().files += 1;
        Ok(())
    }

    fn finish(mut self, symbols: &Symbols) -> Result<BTreeMap<Rows, Count>, Failure> {
        while let Some(key) = self.batches.keys().next().copied() {
            self.write(key, symbols)?;
        }
        while let Some((_, part)) = self.parts.pop_front() {
            self.close(part)?;
        }
        Ok(self.counts)
    }
}

fn folder((rows, day, symbol): &Key) -> PathBuf {
    let date = TimeNs(day.saturating_mul(DAY_NS)).date();
    let symbol = match symbol {
        Some(symbol) => percent_encoded(symbol.as_str()),
        None => NO_SYMBOL.to_owned(),
    };
    let mut path = PathBuf::from(format!("kind={}", rows.name()));
    path.push(format!("date={date}"));
    path.push(format!("symbol={symbol}"));
    path
}

/// The text with everything but letters, digits, `-`, `_` and `.` as `%` and two digits, so that it is
/// the name of a folder wherever it comes.
fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Makes sure that nothing but the export will be in the directory.
///
/// Invariant: `--overwrite` removes only what an export made.
fn prepare(out: &Path, overwrite: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| cannot("write to", out, &error);
    match fs::read_dir(out) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(());
            }
            if !overwrite {
                let problem = format!(
                    "{} is not empty; choose another --out, or --overwrite an earlier export",
                    out.display()
                );
                return Err(Failure::usage(problem));
            }
            let mut earlier = Earlier::default();
            earlier.look(out, 0)?;
            earlier.remove().map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(out).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// What an earlier export left: the names that one gives, and no other.
#[derive(Default)]
struct Earlier {
    files: Vec<PathBuf>,
    /// Inner ones first.
    folders: Vec<PathBuf>,
}

impl Earlier {
    /// Beginnings of the folders' names, by depth.
    const FOLDERS: [&'static str; 3] = ["kind=", "date=", "symbol="];

    /// Looks at everything before anything is removed.
    fn look(&mut self, folder: &Path, depth: usize) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot("look into", folder, &error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // Of a symbolic link this is the link's own type, and so neither.
            let kind = entry.file_type().map_err(failed)?;
            let is_folder =
                Earlier::FOLDERS.get(depth).is_some_and(|start| name.starts_with(start));
            let is_part = depth == Earlier::FOLDERS.len()
                && name.trim_start_matches('.').starts_with("part-");
            if kind.is_dir() && is_folder {
                self.look(&path, depth + 1)?;
                self.folders.push(path);
            } else if kind.is_file() && is_part {
                self.files.push(path);
            } else {
                let problem = format!(
                    "{} is not from an export, so --overwrite leaves everything as it is; choose \
                     another --out",
                    path.display()
                );
                return Err(Failure::usage(problem));
            }
        }
        Ok(())
    }

    fn remove(self) -> io::Result<()> {
        self.files.iter().try_for_each(fs::remove_file)?;
        // Pushed when all inside was: inner ones come first.
        self.folders.iter().try_for_each(fs::remove_dir)
    }
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, Trade, U32, U64};

    fn rows_of(frame: &Frame) -> Rows {
        Rows::of(frame).unwrap()
    }

    #[test]
    fn many_instruments_cost_several_parts_and_never_more_than_the_bounds() {
        let out = tempfile::tempdir().unwrap();
        let mut symbols = Symbols::default();
        for instrument in 0..20 {
            let symbol = format!("S{instrument}").parse().unwrap();
            symbols.note(&Frame::seal(Definition::new(U32::new(instrument).into(), symbol, 2)));
        }
        let mut export = Export::new(out.path(), ExportFormat::Csv);
        (export.frames_max, export.files_max) = (64, 3);
        let rows = 2_000_u32;
        for seq in 0..rows {
            let frame = Frame::seal(Trade {
                seq: U64::new(u64::from(seq)),
                instrument: U32::new(seq * seq % 20),
                ..Trade::default()
            });
            export.take(rows_of(&frame), &frame, &symbols).unwrap();
            assert!(export.held < 64 && export.parts.len() <= 3);
        }
        let counts = export.finish(&symbols).unwrap();
        let count = counts[&rows_of(&Frame::seal(Trade::default()))];
        assert_eq!(count.rows, u64::from(rows));
        let mut lines = 0;
        let mut files = 0;
        for folder in fs::read_dir(out.path().join("kind=trade/date=1970-01-01")).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(path.extension().unwrap(), "csv", "a temporary file stayed: {path:?}");
                lines += fs::read_to_string(path).unwrap().lines().count() - 1;
                files += 1;
            }
        }
        assert_eq!((lines, files), (rows as usize, count.files));
        assert!(files > 6, "the bound was never reached");
    }

    #[test]
    fn an_export_that_fails_leaves_no_half_files() {
        let out = tempfile::tempdir().unwrap();
        let mut export = Export::new(out.path(), ExportFormat::Csv);
        let frame = Frame::seal(Trade::default());
        export.take(rows_of(&frame), &frame, &Symbols::default()).unwrap();
        export.write((rows_of(&frame), 0, None), &Symbols::default()).unwrap();
        let folder =
            out.path().join("kind=trade/date=1970-01-01").join(format!("symbol={NO_SYMBOL}"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(export);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
