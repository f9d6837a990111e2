//! What is a tape outside of its bytes: a data directory or a log in it, and the folders of an export.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::Selected;
use crate::cli::exit::Failure;
use crate::log::inspect::Item;
use crate::market::lines::{LineOptions, RecordKind};
use crate::market::tape::journal::JournalTape;
use crate::market::tape::{Reading, Tape, TapeError, joined};

/// Reads what is wanted of a journal, or of the folders of an export. A running system may go on: what is durable until
/// then is read.
///
/// # Errors
/// When it is neither, cannot be read, or has more events than a tape.
pub(in crate::cli) fn read(dir: &Path, reading: &Reading) -> Result<Tape, Failure> {
    let refused = |why: String| {
        Failure::cannot_start(format!("the tape {} cannot be replayed: {why}", dir.display()))
    };
    let failed = |error: TapeError| {
        refused(format!("{error}; or choose a part of it with --from, --to and --symbol"))
    };
    if let Some(kinds) = kinds_of_export(dir).map_err(|error| refused(error.to_string()))? {
        let (tapes, skipped) = read_export(kinds, reading)?;
        return joined(tapes, skipped).map_err(failed);
    }
    let unread = |failure: Failure| refused(failure.message().unwrap_or_default().to_owned());
    let mut records = Selected::all_of(dir).records().map_err(unread)?;
    let mut journal = JournalTape::new(reading);
    while let Some(item) = records.next_item().map_err(unread)? {
        match item {
            Item::Data(frame) => journal.take(&frame).map_err(failed)?,
            Item::Statement(frame) => journal.note(&frame).map_err(failed)?,
            Item::Hole(from_seq, to_seq) | Item::Lost { from_seq, to_seq, .. } => {
                journal.note_lost(to_seq.saturating_add(1).saturating_sub(from_seq));
            }
            Item::Mark(..) | Item::Epoch(..) => {}
        }
    }
    journal.finish().map_err(failed)
}

/// The folders of the kinds in an export, or in one of its own folders; none in any other directory.
fn kinds_of_export(dir: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    let has_kind = |path: &Path| kind_of(path).is_some();
    if has_kind(dir) {
        return Ok(Some(vec![dir.to_owned()]));
    }
    let mut kinds = entries(dir)?;
    kinds.retain(|path| {
        path.is_dir() && path.file_name().is_some_and(|name| has_kind(Path::new(name)))
    });
    Ok((!kinds.is_empty()).then_some(kinds))
}

/// What a directory has, by name.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// Reads the files of an export below these folders, and counts the files of kinds that are no events of a market.
fn read_export(
    mut folders: Vec<PathBuf>,
    reading: &Reading,
) -> Result<(Vec<Tape>, BTreeMap<String, u64>), Failure> {
    let (mut tapes, mut skipped) = (Vec::new(), BTreeMap::new());
    // Of one moment trades come first, then what takes them back, then the quotes behind them.
    let order = |path: &PathBuf| match kind_of(path).and_then(|kind| RecordKind::of(&kind)) {
        Some(RecordKind::Trade) => 0,
        Some(RecordKind::Cancel) => 1,
        Some(RecordKind::Quote) => 2,
        None => 3,
    };
    folders.sort_by_key(order);
    // The last one is looked into next, so that folders are read in their order.
    folders.reverse();
    while let Some(path) = folders.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let inside = entries(&path).map_err(|error| unread(&path, &error))?;
            folders.extend(inside.into_iter().rev());
        } else if name.starts_with("part-") {
            match kind_of(&path).filter(|kind| RecordKind::of(kind).is_none()) {
                Some(kind) => *skipped.entry(kind).or_default() += 1,
                None => tapes.push(read_file(&path, reading)?),
            }
        }
    }
    Ok((tapes, skipped))
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot_start(format!("cannot read the tape {}: {error}", path.display()))
}

/// Reads what is wanted of one file.
///
/// # Errors
/// When it cannot be read, or is no tape.
pub(in crate::cli) fn read_file(path: &Path, reading: &Reading) -> Result<Tape, Failure> {
    let file = fs::File::open(path).map_err(|error| unread(path, &error))?;
    let reading = Reading { lines: of_path(path), ..reading.clone() };
    Tape::read(BufReader::new(file), &reading).map_err(|error| {
        Failure::cannot_start(format!("the tape {} cannot be replayed: {error}", path.display()))
    })
}

/// The kind that a folder of the path says.
fn kind_of(path: &Path) -> Option<String> {
    let mut kinds =
        path.components().filter_map(|folder| folder.as_os_str().to_str()?.strip_prefix("kind="));
    kinds.next_back().map(str::to_owned)
}

/// What the folders of an export say of the lines in a file: kind and symbol stand there, and not in the lines.
fn of_path(path: &Path) -> LineOptions {
    let mut symbols =
        path.components().filter_map(|it| it.as_os_str().to_str()?.strip_prefix("symbol="));
    LineOptions {
        kind: kind_of(path).and_then(|kind| RecordKind::of(&kind)),
        symbol: symbols
            .next_back()
            .and_then(percent_decoded)
            .and_then(|symbol| symbol.parse().ok()),
        ..LineOptions::default()
    }
}

/// The text that an export has written as the name of a folder.
fn percent_decoded(name: &str) -> Option<String> {
    let mut bytes = name.bytes();
    let mut text = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_an_export_say_kind_and_symbol() {
        let options =
            of_path(Path::new("x/kind=cancel/date=2026-07-14/symbol=ETH%2FUSD/part-00000.csv"));
        assert_eq!(options.kind, Some(RecordKind::Cancel));
        assert_eq!(options.symbol, "ETH/USD".parse().ok());
        assert_eq!(of_path(Path::new("trades.csv")), LineOptions::default());
        assert_eq!(of_path(Path::new("symbol=%4/x")).symbol, None);
        assert_eq!(of_path(Path::new("symbol=%FF/x")).symbol, None);
    }
}
