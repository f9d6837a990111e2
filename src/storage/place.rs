//! Directories of logs that are made beside the old ones and take their places: for tools that run while no node
//! does. What is replaced is renamed, never removed.
//!
//! A new directory of the log `core` is made as `core.made`. Once all new ones are whole, each gets an empty file
//! `MADE`: from then on they take the places of the old ones, one exchange of names each. What was there before is
//! then `core.replaced-1`, with the next free number. A crash leaves each log as it was or as it shall be, and what a
//! next run does follows from the names alone.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::directory::lock;
use super::worker::{failure, sync_directory};
use crate::limits::REPLACED_MAX;
use crate::log::StorageError;

const MADE: &str = "MADE";
const SUFFIX: &str = ".made";
const REPLACED: &str = ".replaced-";

/// Whether a directory of this name is what a tool makes or has set aside, and no node's.
pub(super) fn is_beside(name: &str) -> bool {
    name.ends_with(SUFFIX) || name.contains(REPLACED)
}

/// A log's directory, held as a node holds it, until dropped.
#[derive(Debug)]
pub struct HeldDirectory(#[allow(dead_code, reason = "it holds the lock")] File);

impl HeldDirectory {
    /// Takes it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when a node has it.
    pub fn take(directory: &Path) -> Result<HeldDirectory, StorageError> {
        lock(&directory.join("LOCK")).map(HeldDirectory)
    }
}

/// The data directory in which logs are replaced.
#[derive(Clone, Debug)]
pub struct Places {
    data: PathBuf,
}

impl Places {
    /// In this data directory.
    #[must_use]
    pub fn new(data: &Path) -> Places {
        Places { data: data.to_owned() }
    }

    /// The directory of this log.
    #[must_use]
    pub fn of(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Where the new log of this name is made.
    #[must_use]
    pub fn made(&self, name: &str) -> PathBuf {
        self.data.join(format!("{name}{SUFFIX}"))
    }

    /// An empty directory for the new log of this name: what an earlier run left unfinished goes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self, name: &str) -> Result<PathBuf, StorageError> {
        let made = self.made(name);
        match std::fs::remove_dir_all(&made) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failure("remove", &made, error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&made).map_err(|error| failure("create", &made, error))?;
        sync_directory(&self.data)?;
        Ok(made)
    }

    /// Says that the new log of this name is whole, as are all that belong to it.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn finish(&self, name: &str) -> Result<(), StorageError> {
        let mark = self.made(name).join(MADE);
        let file = File::create(&mark).map_err(|error| failure("create", &mark, error))?;
        file.sync_all().map_err(|error| failure("sync", &mark, error))?;
        sync_directory(&self.made(name))
    }

    /// The names of new logs that lie there, and whether each is whole or has taken its place already.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn pending(&self) -> Result<Vec<(String, bool)>, StorageError> {
        let listed = |error| failure("list", &self.data, error);
        let mut pending = Vec::new();
        for entry in std::fs::read_dir(&self.data).map_err(listed)? {
            let name = entry.map_err(listed)?.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                continue;
            };
            let is_whole = self.is_marked(&self.made(name)) || self.is_marked(&self.of(name));
            pending.push((name.to_owned(), is_whole));
        }
        pending.sort();
        Ok(pending)
    }

    fn is_marked(&self, directory: &Path) -> bool {
        directory.join(MADE).symlink_metadata().is_ok()
    }

    /// Gives a whole new log its place. The name under which what was there before is kept.
    ///
    /// # Errors
    /// When a name cannot be changed. Another try goes on.
    pub fn put_in_place(&self, name: &str) -> Result<Option<String>, StorageError> {
        let (made, place) = (self.made(name), self.of(name));
        if self.is_marked(&made) {
            let flags = match place.symlink_metadata() {
                Ok(_) => RenameFlags::EXCHANGE,
                Err(_) => RenameFlags::NOREPLACE,
            };
            renameat_with(CWD, &made, CWD, &place, flags)
                .map_err(|errno| failure("rename", &made, errno.into()))?;
            sync_directory(&self.data)?;
        }
        let replaced = match made.symlink_metadata() {
            Ok(_) => Some(self.keep_as_replaced(&made, name)?),
            Err(_) => None,
        };
        let mark = place.join(MADE);
        std::fs::remove_file(&mark).map_err(|error| failure("remove", &mark, error))?;
        sync_directory(&place)?;
        Ok(replaced)
    }

    /// Takes a log out of use: the name under which it is kept.
    ///
    /// # Errors
    /// When its name cannot be changed.
    pub fn set_aside(&self, name: &str) -> Result<String, StorageError> {
        self.keep_as_replaced(&self.of(name), name)
    }

    fn keep_as_replaced(&self, directory: &Path, name: &str) -> Result<String, StorageError> {
        for number in 1..=REPLACED_MAX {
            let kept = format!("{name}{REPLACED}{number}");
            let target = self.data.join(&kept);
            match renameat_with(CWD, directory, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    sync_directory(&self.data)?;
                    return Ok(kept);
                }
                Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {}
                Err(errno) => return Err(failure("rename", directory, errno.into())),
            }
        }
        let cause = format!("there are {REPLACED_MAX} replaced ones already; remove some");
        let path = directory.display().to_string();
        Err(StorageError::Io { action: "rename", path, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(place: &Path) -> String {
        std::fs::read_to_string(place.join("content")).unwrap_or_default()
    }

    fn put(place: &Path, text: &str) {
        std::fs::create_dir_all(place).unwrap();
        std::fs::write(place.join("content"), text).unwrap();
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_the_old_log_or_the_new_one_and_another_run_goes_on() {
        // The steps of `put_in_place`, cut off behind each of them.
        for steps in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let places = Places::new(directory.path());
            put(&places.of("core"), "old");
            put(&places.begin("core").unwrap(), "new");
            assert_eq!(places.pending().unwrap(), [("core".to_owned(), false)]);
            places.finish("core").unwrap();
            let (made, place) = (places.made("core"), places.of("core"));
            if steps > 0 {
                renameat_with(CWD, &made, CWD, &place, RenameFlags::EXCHANGE).unwrap();
                assert_eq!((content(&place).as_str(), content(&made).as_str()), ("new", "old"));
            }
            if steps > 1 {
                places.keep_as_replaced(&made, "core").unwrap();
            } else {
                assert_eq!(places.pending().unwrap(), [("core".to_owned(), true)]);
            }
            let replaced = places.put_in_place("core").unwrap();
            assert_eq!(replaced.is_some(), steps < 2);
            assert_eq!(content(&place), "new");
            assert_eq!(content(&directory.path().join("core.replaced-1")), "old");
            assert_eq!(places.pending().unwrap(), []);
            assert!(!place.join(MADE).exists());
            assert_eq!(places.set_aside("core").unwrap(), "core.replaced-2");
        }
    }
}
