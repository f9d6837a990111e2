//! What must not outlive this process: servers that it started and files that it wrote. Whoever makes
//! one keeps a [`Leftover`], which takes it off the list again; SIGINT and SIGTERM end all on the list.
//!
//! A panic needs none of this: it unwinds, and the values that own servers and files end them.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::limits::PEER_STOP_MAX;

/// One thing on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A child of ours.
    Process(u32),
    /// A file of ours, or a directory with all that is in it.
    Path(PathBuf),
}

/// Whether a run is being measured, so that the first signal is for its results.
static IS_MEASURING: AtomicBool = AtomicBool::new(false);
/// The results of what was measured so far are wanted.
static IS_FINISH_WANTED: AtomicBool = AtomicBool::new(false);

/// From now on the first signal ends the measuring and not the process; or no more.
pub(crate) fn let_finish(is_measuring: bool) {
    IS_MEASURING.store(is_measuring, Ordering::Relaxed);
}

/// Whether a signal has asked for the results of what was measured so far.
pub(crate) fn is_finish_wanted() -> bool {
    IS_FINISH_WANTED.load(Ordering::Relaxed)
}

static LIST: Mutex<Vec<Thing>> = Mutex::new(Vec::new());

fn list() -> MutexGuard<'static, Vec<Thing>> {
    // Pushing and removing leave no half-made list behind, whoever panicked.
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a thing on the list.
#[derive(Debug)]
pub(crate) struct Leftover(Thing);

impl Leftover {
    pub(crate) fn new(thing: Thing) -> Leftover {
        list().push(thing.clone());
        Leftover(thing)
    }
}

/// Starts a process and puts it on the list in one step: a signal meets it on the list or not started.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Leftover)> {
    let mut list = list();
    let child = command.spawn()?;
    let thing = Thing::Process(child.id());
    list.push(thing.clone());
    Ok((child, Leftover(thing)))
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let mut list = list();
        if let Some(place) = list.iter().position(|thing| *thing == self.0) {
            list.swap_remove(place);
        }
    }
}

/// From now on a signal ends what is on the list, and then this process. While a run is measured, the first one
/// ends the measuring only.
///
/// # Errors
/// A sentence, when signals cannot be had.
pub(crate) fn end_on_signals() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let work = move || {
        for signal in signals.forever() {
            let is_first = !IS_FINISH_WANTED.load(Ordering::Relaxed);
            if is_first && IS_MEASURING.load(Ordering::Relaxed) {
                IS_FINISH_WANTED.store(true, Ordering::Relaxed);
                eprintln!("loadgen: ends early; these are the figures until now");
                continue;
            }
            // Held until the end, so that nothing new comes on the list.
            let list = list();
            end(&list);
            eprintln!("loadgen: stopped by a signal");
            std::process::exit(128 + signal);
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(work);
    thread.map(drop).map_err(failed)
}

/// Asks the processes to end, ends those that do not, and removes the files.
fn end(list: &[Thing]) {
    let processes = list.iter().filter_map(|thing| match thing {
        Thing::Process(pid) => i32::try_from(*pid).ok().and_then(Pid::from_raw),
        Thing::Path(_) => None,
    });
    let mut standing: Vec<Pid> = processes.collect();
    for &pid in &standing {
        let _ = kill_process(pid, Signal::TERM);
    }
    const STEP: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while !standing.is_empty() && waited < PEER_STOP_MAX {
        // Another thread may have waited for it: then it is no child any more.
        standing.retain(|&pid| matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)));
        std::thread::park_timeout(STEP);
        waited += STEP;
    }
    for pid in standing {
        let _ = kill_process(pid, Signal::KILL);
    }
    for thing in list {
        if let Thing::Path(path) = thing {
            drop(std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_list_is_ended_and_what_was_taken_off_is_not() {
        let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let mut command = Command::new("sh");
        let mut child =
            command.args(["-c", stubborn]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut up = [0; 2];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        let file = std::env::temp_dir().join(format!("loadgen-left-{}", std::process::id()));
        std::fs::write(&file, "x").unwrap();
        let directory = file.with_extension("d");
        std::fs::create_dir_all(directory.join("in")).unwrap();
        end(&[
            Thing::Process(child.id()),
            Thing::Path(file.clone()),
            Thing::Path(directory.clone()),
        ]);
        assert!(!file.exists() && !directory.exists());
        assert!(!child.wait().unwrap().success());

        let kept = Leftover::new(Thing::Path(file.clone()));
        assert!(list().contains(&Thing::Path(file.clone())));
        drop(kept);
        assert!(!list().contains(&Thing::Path(file)));
    }
}
