//! What is a tape outside of its bytes: a data directory or a log in it, and the folders of an export.

use std::path::{Component, Path};

use super::Selected;
use crate::cli::exit::Failure;
use crate::log::inspect::Item;
use crate::market::lines::{LineOptions, RecordKind};
use crate::market::tape::journal::JournalTape;
use crate::market::tape::{Reading, Tape, TapeError};

/// Reads what is wanted of a journal. A running system may go on: what is durable until then is read.
///
/// # Errors
/// When it is no log, cannot be read, or has more events than a tape.
pub(in crate::cli) fn read(dir: &Path, reading: &Reading) -> Result<Tape, Failure> {
    let refused = |why: String| {
        Failure::cannot_start(format!("the tape {} cannot be replayed: {why}", dir.display()))
    };
    let failed = |error: TapeError| {
        refused(format!("{error}; or choose a part of it with --from, --to and --symbol"))
    };
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

/// What the folders of an export say of the lines in a file: kind and symbol stand there, and not in the lines.
pub(in crate::cli) fn of_path(path: &Path) -> LineOptions {
    let mut options = LineOptions::default();
    for folder in path.components() {
        let Component::Normal(name) = folder else { continue };
        let Some(name) = name.to_str() else { continue };
        if let Some(kind) = name.strip_prefix("kind=") {
            options.kind = RecordKind::of(kind);
        } else if let Some(symbol) = name.strip_prefix("symbol=") {
            options.symbol = percent_decoded(symbol).and_then(|symbol| symbol.parse().ok());
        }
    }
    options
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
