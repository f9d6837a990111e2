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
use crate::storage::{ConvertedLog, HeldDirectory, LogFiles, Places, convert_log, has_removed};
use crate::supervisor::lock::DataLock;
use crate::wire::padded;

/// A checked `convert`.
#[derive(Clone, Debug)]
pub struct ConvertRequest {
    /// The data directory of the earlier program. Besides its locks it is only read.
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
    let names = names(old)?;
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
    let made = beside(new)?;
    make(&made, new)?;
    let logs = write(old, new, &made, &names).inspect_err(|_| {
        // Nobody else has this directory, and what is in it is not whole.
        drop(fs::remove_dir_all(&made));
    })?;
    for (name, log) in names.iter().zip(logs) {
        show(request.format, name, log, output)?;
    }
    Ok(Exit::Complete)
}

/// The logs that are converted.
fn names(old: &Path) -> Result<Vec<String>, Failure> {
    let pending = Places::new(old).pending().map_err(Failure::failed)?;
    if let Some((name, _)) = pending.first() {
        return Err(Failure::failed(format!(
            "{name} is being replaced by `pregao recover` or `pregao repartition`, which did not end: end that first, with \
             the program of this directory"
        )));
    }
    let found = LogFiles::find_below(old).map_err(Failure::failed)?;
    let is_node = |name: &str| name == "core" || shard_of(name).is_some();
    let names: Vec<String> =
        found.into_iter().map(|(name, _)| name).filter(|name| is_node(name)).collect();
    let failed =
        |error: io::Error| Failure::failed(format!("cannot list {}: {error}", old.display()));
    for entry in fs::read_dir(old).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if is_node(&name)
            && !names.contains(&name)
            && has_removed(&old.join(&name)).map_err(Failure::failed)?
        {
            let problem = "all its segments are missing; put them back, or take the folder away";
            return Err(Failure::failed(format!("{name}: {problem}")));
        }
    }
    Ok(names)
}

/// Writes all logs, and gives the new directory its name.
fn write(
    old: &Path,
    new: &Path,
    made: &Path,
    names: &[String],
) -> Result<Vec<ConvertedLog>, Failure> {
    let mut logs = Vec::new();
    for name in names {
        let (from, to) = (old.join(name), made.join(name));
        let progress = |number, count| eprintln!("{name}: segment {number}, of {count}");
        let log = convert_log(&from, &to, padded(name), progress);
        logs.push(
            log.map_err(|error| Failure::failed(format!("{name}: {error}; nothing was made")))?,
        );
    }
    let failed =
        |error: io::Error| Failure::failed(format!("cannot write {}: {error}", new.display()));
    let permissions = fs::metadata(old).map_err(failed)?.permissions();
    fs::set_permissions(made, permissions).map_err(failed)?;
    File::open(made).and_then(|made| made.sync_all()).map_err(failed)?;
    fs::rename(made, new).map_err(failed)?;
    File::open(above(new)).and_then(|above| above.sync_all()).map_err(failed)?;
    Ok(logs)
}

fn beside(new: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = new.file_name() else {
        return Err(Failure::usage(format!("{} is no name of a new directory", new.display())));
    };
    let mut name = OsString::from(name);
    name.push(SUFFIX);
    Ok(new.with_file_name(name))
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
    saturated_sizes: u64,
    unreadable_records: u64,
    unreadable_segments: u64,
}

fn show(
    format: Format,
    name: &str,
    log: ConvertedLog,
    output: &mut Output<impl Write>,
) -> Result<(), Failure> {
    let ConvertedLog { segments, records, shortened, saturated, unreadable, .. } = log;
    let unreadable_segments = log.unreadable_segments;
    if let Format::Json = format {
        return output.line(&crate::render::json_line(&LogJson {
            kind: "log",
            node: name,
            segments,
            records,
            shortened_sizes: shortened,
            saturated_sizes: saturated,
            unreadable_records: unreadable,
            unreadable_segments,
        }));
    }
    output.line(&format!("{name:<10} {records} records in {segments} segments"))?;
    let remarks = [
        (shortened, "quotes have a size above 268,435,455; its first eight digits are left"),
        (saturated, "quotes said that a size is 4,294,967,295 or more; they say 4,294,967,200 now"),
        (unreadable, "records were damaged or torn, and still are; see `pregao verify`"),
        (unreadable_segments, "segments were damaged, and still are; see `pregao verify`"),
    ];
    for (count, text) in remarks.into_iter().filter(|(count, _)| *count > 0) {
        output.line(&format!("{:<10} {count} {text}", ""))?;
    }
    Ok(())
}
