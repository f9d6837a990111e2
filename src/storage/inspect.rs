//! A log's directory for reading only: plain reads, no lock, no mapping, nothing created or removed.
//!
//! A mapping of a file that another process writes cannot be lent as bytes, and a file that shrinks
//! under a mapping kills its reader; so everything here is copied with `pread`. Only regular files are
//! opened: a pipe of a segment's name would hold its reader for ever.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::directory::{REMOVED, segment_number, segment_path};
use super::worker::failure;
use crate::limits::LOCK_TABLE_BYTES_MAX;
use crate::log::StorageError;
use crate::log::inspect::{Files, Listing};

/// What the kernel says about every lock, as `proc_locks(5)` describes it.
const LOCK_TABLE: &str = "/proc/locks";

/// The files of one log, for reading.
#[derive(Debug)]
pub struct LogFiles {
    directory: PathBuf,
    /// The file that was read last.
    open: Option<(u64, File)>,
}

impl LogFiles {
    /// The log in this directory; `None` when no file there has a segment's name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn find(directory: &Path) -> Result<Option<LogFiles>, StorageError> {
        let mut files = LogFiles { directory: directory.to_owned(), open: None };
        let listing = files.list()?;
        let is_log = !listing.segments.is_empty() || !listing.half_made.is_empty();
        Ok(is_log.then_some(files))
    }

    /// The logs in the folders of this directory, by the folder's name. What a tool has set aside, or has not
    /// finished, is none of them.
    ///
    /// # Errors
    /// When the directory or one of its folders cannot be read.
    pub fn find_below(directory: &Path) -> Result<Vec<(String, LogFiles)>, StorageError> {
        let listed = |error| failure("list", directory, error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(listed)? {
            let path = entry.map_err(listed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let name = name.to_owned();
            if super::place::is_beside(&name) {
                continue;
            }
            if !examined(&path)?.is_some_and(|examined| examined.is_dir()) {
                continue;
            }
            if let Some(files) = LogFiles::find(&path)? {
                found.push((name, files));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a process holds the log's lock. Asked of the kernel's list of locks: to try the lock,
    /// even for a moment, could refuse a node that starts in this moment. A process that the list
    /// does not show, because it lives in another container, is not seen.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let lock = std::fs::metadata(self.directory.join("LOCK"));
        let Ok(lock) = lock else { return false };
        let mut table = String::new();
        let read = File::open(LOCK_TABLE)
            .and_then(|file| file.take(LOCK_TABLE_BYTES_MAX).read_to_string(&mut table));
        read.is_ok() && names_lock(&table, lock.dev(), lock.ino())
    }

    fn file(&mut self, number: u64) -> Result<Option<&File>, StorageError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = segment_path(&self.directory, number);
            // Examined before it is opened: to open some files is to wait.
            let Some(examined) = examined(&path)? else { return Ok(None) };
            if !examined.is_file() {
                let cause = "it is not a file".to_owned();
                let path = path.display().to_string();
                return Err(StorageError::Io { action: "read", path, cause });
            }
            let file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(|error| failure("open", &path, error))?,
            };
            self.open = Some((number, file));
        }
        Ok(self.open.as_ref().map(|(_, file)| file))
    }
}

impl Files for LogFiles {
    fn list(&mut self) -> Result<Listing, StorageError> {
        let listed = |error| failure("list", &self.directory, error);
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(&self.directory).map_err(listed)? {
            let path = entry.map_err(listed)?.path();
            let Some(number) = segment_number(&path) else { continue };
            let extension = path.extension().and_then(|extension| extension.to_str());
            match extension {
                Some("log") => {
                    // Removed since it was listed: no part of the log any more.
                    let Some(examined) = examined(&path)? else { continue };
                    listing.segments.push((number, examined.len()));
                }
                Some("tmp") => {
                    let name = path.file_name().and_then(|name| name.to_str());
                    listing.half_made.extend(name.map(str::to_owned));
                }
                Some(REMOVED) => listing.removed_through = listing.removed_through.max(number),
                _ => {}
            }
        }
        listing.segments.sort_unstable();
        listing.half_made.sort_unstable();
        Ok(listing)
    }

    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError> {
        let path = segment_path(&self.directory, number);
        let Some(file) = self.file(number)? else { return Ok(None) };
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure("read", &path, error)),
            }
        }
        Ok(Some(read))
    }

    fn settle(&mut self, number: u64) -> Result<(), StorageError> {
        let path = segment_path(&self.directory, number);
        match self.file(number)? {
            Some(file) => file.sync_data().map_err(|error| failure("sync", &path, error)),
            None => Ok(()),
        }
    }
}

/// What a path leads to; `None` when it leads nowhere.
fn examined(path: &Path) -> Result<Option<Metadata>, StorageError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure("examine", path, error)),
    }
}

/// Whether a table of locks has an exclusive `flock` on this file: `1: FLOCK ADVISORY WRITE 1234
/// 08:01:131075 0 EOF`, device numbers in hexadecimal.
fn names_lock(table: &str, device: u64, inode: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let wanted_inode = format!(":{inode}");
    // File systems without a device of their own (btrfs, overlays) show another number here than there.
    let is_wanted = |file: &str| file == wanted || (major == 0 && file.ends_with(&wanted_inode));
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        // A waiting lock is listed with an arrow before it, and holds nothing.
        words.next() == Some("FLOCK")
            && words.next().is_some()
            && words.next() == Some("WRITE")
            && words.nth(1).is_some_and(is_wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileStorage;

    #[test]
    fn a_lock_is_seen_without_being_tried() {
        let directory = tempfile::tempdir().unwrap();
        let segment = directory.path().join("00000000000000000001.log");
        std::fs::write(&segment, b"").unwrap();
        let files = LogFiles::find(directory.path()).unwrap().unwrap();
        assert!(!files.is_in_use());
        let held = FileStorage::open(directory.path(), Box::new(|| {})).unwrap();
        assert!(files.is_in_use());
        drop(held);
        assert!(!files.is_in_use());
    }

    #[test]
    fn a_lock_that_waits_or_is_shared_holds_nothing() {
        let table = "1: FLOCK  ADVISORY  WRITE 77 08:01:5 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 78 08:01:6 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 79 08:01:7 0 EOF\n\
                     4: POSIX  ADVISORY  WRITE 80 08:01:8 0 EOF\n";
        let device = rustix::fs::makedev(8, 1);
        assert!(names_lock(table, device, 5));
        for inode in [6, 7, 8, 9] {
            assert!(!names_lock(table, device, inode), "{inode}");
        }
    }

    #[test]
    fn a_pipe_of_a_segments_name_is_no_trap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000000000000000001.log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let mut files = LogFiles::find(directory.path()).unwrap().unwrap();
        let refused = files.read_at(1, 0, &mut [0; 8]).unwrap_err();
        assert!(refused.to_string().contains("not a file"), "{refused}");
        assert_eq!(files.settle(1), Err(refused));
        assert_eq!((files.settle(2), files.read_at(2, 0, &mut [0; 8])), (Ok(()), Ok(None)));
    }
}
