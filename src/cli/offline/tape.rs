//! A data directory, or a log in it, as a tape.

use std::path::Path;

use super::Selected;
use crate::cli::exit::Failure;
use crate::log::inspect::Item;
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
