//! One supervisor per data directory, and how to stop it from another process.
//!
//! `DIR/pregao.lock` is held with `flock`, which ends with the process however it ends, so there
//! is never a stale lock to clean up. The process id in the file is for people and for `stop`; that
//! the lock is held is what counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam::channel;
use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The lock file's name within the data directory.
const LOCK_FILE: &str = "pregao.lock";

/// The right to run on a data directory, until dropped.
#[derive(Debug)]
pub struct DataLock {
    /// Open for as long as the lock is held. It is closed on exec, so no child inherits the lock.
    file: File,
}

/// Why a data directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another supervisor has it.
    #[error(
        "another pregao (pid {pid}) runs on {dir}; stop it with `pregao stop --data-dir {dir}` or \
         choose another --data-dir",
        dir = dir.display()
    )]
    Held {
        /// What the lock file says.
        pid: String,
        /// The directory.
        dir: PathBuf,
    },
    /// It is a file, or lies in one.
    #[error(
        "{dir} is no directory: it, or a part of its path, is a file; choose another --data-dir",
        dir = dir.display()
    )]
    NoDirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The disk has no room.
    #[error(
        "the disk of the data directory {dir} is full; a new directory needs 4 MB and grows: make room or choose \
         another --data-dir",
        dir = dir.display()
    )]
    Full {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be created or written.
    #[error(
        "cannot write to the data directory {dir}: {error}; allow it or choose another --data-dir",
        dir = dir.display()
    )]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl DataLock {
    /// Creates the directory when it is missing and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn take(dir: &Path) -> Result<DataLock, LockError> {
        let failed = |error: io::Error| match error.kind() {
            // What the system says of that is "File exists", which helps nobody.
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                LockError::NoDirectory { dir: dir.to_owned() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LockError::Full { dir: dir.to_owned() }
            }
            _ => LockError::Directory { dir: dir.to_owned(), error },
        };
        fs::create_dir_all(dir).map_err(failed)?;
        // The lock file may be old and writable in a directory that no longer is.
        access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| failed(errno.into()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK_FILE))
            .map_err(failed)?;
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = read_pid(&mut file).map_or("unknown".to_owned(), |pid| pid.to_string());
                return Err(LockError::Held { pid, dir: dir.to_owned() });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let mut lock = DataLock { file };
        lock.write_pid().map_err(failed)?;
        Ok(lock)
    }

    fn write_pid(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Leaves no pid behind that `stop` could take for a running supervisor's. When this fails,
        // the lock is free all the same.
        let _ = self.file.set_len(0);
    }
}

/// What [`stop`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    /// This process ran and has stopped.
    Pid(i32),
    /// No process held the lock.
    NothingRuns,
}

/// Why a running supervisor could not be stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StopError {
    #[error("cannot read {path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{path} is held, but names no process; look for it with `fuser {path}`", path = path.display())]
    NoPid { path: PathBuf },
    #[error("cannot stop pid {pid}: {error}")]
    Signal { pid: i32, error: io::Error },
    #[error("pid {pid} was asked to stop and still runs after {} s; end it with `kill -9 {pid}`", waited.as_secs())]
    StillRuns { pid: i32, waited: Duration },
}

/// Asks the supervisor of a data directory to stop, and waits until it has.
///
/// # Errors
/// When it cannot be asked, or does not stop in time.
pub fn stop(dir: &Path, at_most: Duration) -> Result<Stopped, StopError> {
    let path = dir.join(LOCK_FILE);
    let failed = |error: io::Error| StopError::File { path: path.clone(), error };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stopped::NothingRuns),
        file => file.map_err(failed)?,
    };
    if !is_held(&file).map_err(failed)? {
        return Ok(Stopped::NothingRuns);
    }
    let no_pid = || StopError::NoPid { path: path.clone() };
    let raw_pid = read_pid(&mut file).ok_or_else(no_pid)?;
    let pid = Pid::from_raw(raw_pid).ok_or_else(no_pid)?;
    let signal_failed = |errno: Errno| StopError::Signal { pid: raw_pid, error: errno.into() };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Err(no_pid()),
        process => process.map_err(signal_failed)?,
    };
    // The descriptor now stands for one process, whatever becomes of the number. If the lock is
    // still held under that number, it stands for the holder and not for a later process.
    if !is_held(&file).map_err(failed)? {
        return Ok(Stopped::NothingRuns);
    }
    if read_pid(&mut file) != Some(raw_pid) {
        return Err(no_pid());
    }
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(signal_failed(errno)),
    }
    let (released, release) = channel::bounded(1);
    // This thread may outlive the wait; it ends with the process.
    thread::Builder::new()
        .name("lock-wait".into())
        .spawn(move || {
            let _ = released.send(lock(&file, FlockOperation::LockShared));
        })
        .map_err(failed)?;
    match release.recv_timeout(at_most) {
        Ok(Ok(())) => Ok(Stopped::Pid(raw_pid)),
        Ok(Err(errno)) => Err(failed(errno.into())),
        Err(_) => Err(StopError::StillRuns { pid: raw_pid, waited: at_most }),
    }
}

fn is_held(file: &File) -> io::Result<bool> {
    match lock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            lock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn read_pid(file: &mut File) -> Option<i32> {
    use std::io::Seek;
    const PID_BYTES_MAX: u64 = 32;
    file.rewind().ok()?;
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("made/on/the/way");
        let held = DataLock::take(&inner).unwrap();
        let refused = DataLock::take(&inner).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refused.contains(&format!("another pregao (pid {pid}) runs on")), "{refused}");
        assert!(refused.contains("pregao stop --data-dir"), "{refused}");
        assert!(!refused.contains('\n'));
        drop(held);
        let again = DataLock::take(&inner).unwrap();
        drop(again);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("dir"), file] {
            let refused = DataLock::take(&path).unwrap_err();
            assert!(matches!(refused, LockError::NoDirectory { .. }), "{refused}");
            let text = refused.to_string();
            assert!(text.contains("is a file; choose another --data-dir"), "{text}");
        }
    }

    #[test]
    fn nothing_is_stopped_where_nothing_runs() {
        let dir = tempfile::tempdir().unwrap();
        let wait = Duration::from_secs(1);
        assert_eq!(stop(dir.path(), wait).unwrap(), Stopped::NothingRuns);
        // A file that an unclean end left behind names a process that must not be signalled.
        for pid in [std::process::id().to_string(), i32::MAX.to_string(), String::new()] {
            fs::write(dir.path().join(LOCK_FILE), &pid).unwrap();
            assert_eq!(stop(dir.path(), wait).unwrap(), Stopped::NothingRuns, "pid {pid:?}");
        }
    }

    #[test]
    fn stop_returns_when_the_lock_is_free_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataLock::take(dir.path()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        // This process plays the supervisor: SIGTERM becomes a message.
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]).unwrap();
        let deaf = stop(dir.path(), Duration::from_millis(20)).unwrap_err();
        assert!(matches!(deaf, StopError::StillRuns { .. }), "{deaf}");
        assert_eq!(signals.wait().count(), 1);
        let supervisor = thread::spawn(move || {
            assert_eq!(signals.wait().count(), 1);
            drop(held);
        });
        assert_eq!(stop(dir.path(), Duration::from_secs(10)).unwrap(), Stopped::Pid(pid));
        supervisor.join().unwrap();
    }

    #[test]
    fn a_held_lock_without_a_pid_signals_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataLock::take(dir.path()).unwrap();
        for text in ["", "0", "-1", "1x", "99999999999999999999"] {
            fs::write(dir.path().join(LOCK_FILE), text).unwrap();
            let error = stop(dir.path(), Duration::from_secs(1)).unwrap_err();
            assert!(matches!(error, StopError::NoPid { .. }), "{text:?}: {error}");
        }
        drop(held);
    }
}
