//! `pregao convert`: a data directory of an earlier program, written again for this one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::places::shard_of;
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::storage::{ConvertedLog, HeldDirectory, LogFiles, convert_log};
use crate::supervisor::lock::DataLock;
use crate::wire::padded;

/// A checked `convert`.
#[derive(Clone, Debug)]
pub struct ConvertRequest {
    /// The data directory of the earlier program. It is read only.
    pub old: PathBuf,
    /// The one that is made.
    pub new: PathBuf,
    /// How the result is shown.
    pub format: Format,
}

/// What the directory is called until all of it is there.
const SUFFIX: &str = ".converting";

/// Writes all logs of a data directory again. The new directory gets its name when it is whole.
///
/// # Errors
/// When a node runs on it, it is of no earlier format, or something cannot be read or written.
pub fn run(request: &ConvertRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let ConvertRequest { old, new, .. } = request;
    let found = LogFiles::find_below(old).map_err(Failure::failed)?;
    let names: Vec<String> = found
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name == "core" || shard_of(name).is_some())
        .collect();
    if names.is_empty() {
        return Err(Failure::usage(format!(
            "{} is no data directory: no folder in it is the log of core or of a shard",
            old.display()
        )));
    }
    if new.symlink_metadata().is_ok() {
        let problem = format!("{} exists already; choose a new directory", new.display());
        return Err(Failure::usage(problem));
    }
    let _no_system = DataLock::take(old).map_err(Failure::failed)?;
    let held: Result<Vec<HeldDirectory>, _> =
        names.iter().map(|name| HeldDirectory::take(&old.join(name))).collect();
    let _held = held.map_err(Failure::failed)?;
    let made = beside(new);
    make(&made, new)?;
    let mut logs = Vec::new();
    for name in &names {
        let (from, to) = (old.join(name), made.join(name));
        let progress = |number, count| eprintln!("{name}: segment {number}, of {count}");
        match convert_log(&from, &to, padded(name), progress) {
            Ok(log) => logs.push((name, log)),
            Err(error) => {
                // Nobody else has this directory, and what is in it is not whole.
                drop(fs::remove_dir_all(&made));
                return Err(Failure::failed(format!("{name}: {error}; nothing was made")));
            }
        }
    }
    let failed =
        |error: io::Error| Failure::failed(format!("cannot write {}: {error}", new.display()));
    File::open(&made).and_then(|made| made.sync_all()).map_err(failed)?;
    fs::rename(&made, new).map_err(failed)?;
    File::open(above(new)).and_then(|above| above.sync_all()).map_err(failed)?;
    for (name, log) in logs {
        show(request.format, name, log, output)?;
    }
    Ok(Exit::Complete)
}

fn beside(new: &Path) -> PathBuf {
    let mut name = OsString::from(new.as_os_str());
    name.push(SUFFIX);
    PathBuf::from(name)
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make(made: &Path, new: &Path) -> Result<(), Failure> {
    match fs::create_dir(made) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(format!(
            "{} is left of a conversion that did not end; remove it",
            made.display()
        ))),
        Err(error) => Err(Failure::failed(format!("cannot make {}: {error}", new.display()))),
    }
}

#[derive(Serialize)]
struct LogJson<'a> {
    kind: &'static str,
    node: &'a str,
    segments: u64,
    records: u64,
    shortened_sizes: u64,
    unreadable_records: u64,
    unreadable_segments: u64,
}

fn show(
    format: Format,
    name: &str,
    log: ConvertedLog,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    let ConvertedLog { segments, records, shortened, unreadable, unreadable_segments } = log;
    if let Format::Json = format {
        return output.line(&crate::cli::render::json_line(&LogJson {
            kind: "log",
            node: name,
            segments,
            records,
            shortened_sizes: shortened,
            unreadable_records: unreadable,
            unreadable_segments,
        }));
    }
    output.line(&format!("{name:<10} {records} records in {segments} segments"))?;
    let remarks = [
        (shortened, "quotes have a size of more than eight digits; the first eight are left"),
        (unreadable, "records were damaged or torn, and still are; see `pregao verify`"),
        (unreadable_segments, "segments were damaged, and still are; see `pregao verify`"),
    ];
    for (count, text) in remarks.into_iter().filter(|(count, _)| *count > 0) {
        output.line(&format!("{:<10} {count} {text}", ""))?;
    }
    Ok(())
}
