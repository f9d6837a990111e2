//! What the storage thread does: makes, syncs and removes segments, a job at a time.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, fallocate, openat, renameat, unlinkat};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::directory::{FileSegment, REMOVED, removal_records, segment_path};
use super::mapping::{Mapping, Pages};
use crate::limits::SEGMENT_TOUCH_BYTES;
use crate::log::{Completion, HEADER_BYTES, Segment, StorageError};

pub(super) enum Job {
    Prepare { number: u64, header: Box<[u8; HEADER_BYTES]>, bytes: usize },
    Sync { file: Option<Arc<File>>, number: u64, pages: Pages, release: Range<usize> },
    Remove { segment: FileSegment },
    Touch { pages: Pages, offset: usize, len: usize },
    Examine,
}

/// How a new segment's file gets its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Reserved,
    Sparse,
}

/// Does a job.
pub(super) fn work(directory: &Home, space: Space, job: Job) -> Completion<FileSegment> {
    match job {
        Job::Prepare { number, header, bytes } => {
            Completion::Prepared(prepare(directory, space, number, &header, bytes))
        }
        Job::Sync { file, number, pages, release } => {
            pages.release(release.start, release.end);
            Completion::Synced(sync(directory, file.as_deref(), number))
        }
        Job::Touch { pages, offset, len } => {
            pages.touch(offset, len);
            Completion::Touched
        }
        Job::Remove { segment } => Completion::Removed(remove(directory, segment)),
        Job::Examine => Completion::Examined(directory.examine()),
    }
}

/// Makes a segment under a temporary name and renames it once it is whole and durable, so that a
/// segment's name never stands for less than a segment.
///
/// Whatever fails, all of it can be done again: nobody has used the segment yet.
fn prepare(
    directory: &Home,
    space: Space,
    number: u64,
    header: &[u8; HEADER_BYTES],
    bytes: usize,
) -> Result<FileSegment, StorageError> {
    let path = directory.segment_path(number);
    let temporary = path.with_extension("tmp");
    let made = make(directory, &temporary, space, header, bytes);
    let file = made.inspect_err(|_| {
        // Gives the space back at once; the next open removes what stays.
        let _ = unlinkat(&directory.handle, name_of(&temporary), AtFlags::empty());
    })?;
    let handle = &directory.handle;
    renameat(handle, name_of(&temporary), handle, name_of(&path))
        .map_err(|errno| failure("rename", &temporary, errno.into()))?;
    directory.sync()?;
    let mapping = Mapping::new(&file, bytes).map_err(|error| failure("map", &path, error))?;
    mapping.pages().touch(0, SEGMENT_TOUCH_BYTES);
    Ok(FileSegment::new(number, file, mapping))
}

fn make(
    directory: &Home,
    path: &Path,
    space: Space,
    header: &[u8; HEADER_BYTES],
    bytes: usize,
) -> Result<File, StorageError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(&directory.handle, name_of(path), flags, Mode::from_raw_mode(0o666))
        .map(File::from)
        .map_err(|errno| failure("create", path, errno.into()))?;
    match space {
        Space::Reserved => allocate(&file, path, bytes)?,
        Space::Sparse => {
            file.set_len(bytes as u64).map_err(|error| failure("extend", path, error))?;
        }
    }
    file.write_all_at(header, 0).map_err(|error| failure("write", path, error))?;
    file.sync_all().map_err(|error| failure("sync", path, error))?;
    Ok(file)
}

/// Reserves the whole space, so that a full disk is an error here and not a SIGBUS inside a store.
pub(super) fn allocate(file: &File, path: &Path, bytes: usize) -> Result<(), StorageError> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(Errno::INTR) => {}
            done => return done.map_err(|errno| failure("allocate", path, errno.into())),
        }
    }
}

/// A segment that was found sealed keeps no descriptor of its own.
fn sync(directory: &Home, file: Option<&File>, number: u64) -> Result<(), StorageError> {
    let path = directory.segment_path(number);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = match file {
        Some(_) => None,
        None => Some(
            openat(&directory.handle, name_of(&path), flags, Mode::empty())
                .map_err(|errno| failure("open", &path, errno.into()))?,
        ),
    };
    let synced = match (file, &opened) {
        (Some(file), _) => rustix::fs::fdatasync(file),
        (None, Some(file)) => rustix::fs::fdatasync(file),
        (None, None) => Ok(()),
    };
    synced.map_err(|errno| failure("sync", &path, errno.into()))
}

fn remove(directory: &Home, segment: FileSegment) -> Result<(), StorageError> {
    let number = segment.number();
    let path = directory.segment_path(number);
    drop(segment);
    record_removal(&directory.path, &directory.handle, number)?;
    unlinkat(&directory.handle, name_of(&path), AtFlags::empty())
        .map_err(|errno| failure("remove", &path, errno.into()))?;
    directory.sync()
}

/// Says durably that all segments up to this one are removed by the retention: any other that is missing is
/// a loss. One such record stays. `handle` is the open directory.
pub(super) fn record_removal(
    directory: &Path,
    handle: &File,
    number: u64,
) -> Result<(), StorageError> {
    let path = segment_path(directory, number).with_extension(REMOVED);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(handle, name_of(&path), flags, Mode::from_raw_mode(0o666))
        .map_err(|errno| failure("create", &path, errno.into()))?;
    handle.sync_all().map_err(|error| failure("sync", directory, error))?;
    // An older one that stays says less, and the greatest counts.
    let older = removal_records(directory).unwrap_or_default();
    for number in older.into_iter().filter(|older| *older < number) {
        let older = segment_path(directory, number).with_extension(REMOVED);
        let _ = unlinkat(handle, name_of(&older), AtFlags::empty());
    }
    Ok(())
}

/// Makes the names in the directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| failure("sync", directory, error))
}

/// The error of an action on a path. What passes by itself, or when somebody gives it, is told apart.
pub(super) fn failure(action: &'static str, path: &Path, error: io::Error) -> StorageError {
    let path = path.display().to_string();
    let errno = Errno::from_io_error(&error);
    if let Some(Errno::NOSPC | Errno::DQUOT) = errno {
        return StorageError::NoSpace { path };
    }
    let cause = error.to_string();
    match errno.and_then(remedy) {
        Some(remedy) => StorageError::Lacking { action, path, cause, remedy },
        None => StorageError::Io { action, path, cause },
    }
}

/// What to do about an error that passes.
fn remedy(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::MFILE => {
            "this process has no descriptor left: raise its limit of open files (ulimit -n)"
        }
        Errno::NFILE => "this machine has no descriptor left: raise fs.file-max",
        Errno::PERM | Errno::ACCESS => "give this process the right to write there",
        Errno::ROFS => "make the file system writable again",
        Errno::NOENT | Errno::NOTDIR | Errno::STALE => "put back what is missing there",
        Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN => {
            "free some memory, or raise vm.max_map_count"
        }
        _ => return None,
    })
}

/// The directory of a log, held open: what is made and removed is made and removed in this one, whatever
/// somebody puts at its path meanwhile. It takes no further descriptor to sync it.
pub(super) struct Home {
    path: PathBuf,
    handle: File,
    /// Device and inode of the directory, and of the lock in it.
    identity: (u64, u64),
    lock_identity: (u64, u64),
}

impl Home {
    /// The directory at this path, whose lock is held.
    pub(super) fn of(path: &Path, handle: File, lock: &File) -> io::Result<Home> {
        Ok(Home {
            path: path.to_owned(),
            identity: identity(&handle.metadata()?),
            lock_identity: identity(&lock.metadata()?),
            handle,
        })
    }

    fn segment_path(&self, number: u64) -> PathBuf {
        super::directory::segment_path(&self.path, number)
    }

    /// Makes the names in the directory durable.
    fn sync(&self) -> Result<(), StorageError> {
        self.handle.sync_all().map_err(|error| failure("sync", &self.path, error))
    }

    /// Whether the directory, and the lock in it, are where they were.
    fn examine(&self) -> Result<(), StorageError> {
        let displaced = |what: String| {
            Err(StorageError::Displaced { path: self.path.display().to_string(), what })
        };
        match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => {}
            Ok(_) => return displaced("is another directory than at the start".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_deleted = self.handle.metadata().is_ok_and(|own| own.nlink() == 0);
                let what = if is_deleted { "was deleted" } else { "was moved away" };
                return displaced(what.to_owned());
            }
            Err(error) => return displaced(format!("cannot be examined: {error}")),
        }
        match std::fs::metadata(self.path.join("LOCK")) {
            Ok(found) if identity(&found) == self.lock_identity => Ok(()),
            Ok(_) => displaced("has another LOCK than at the start".to_owned()),
            Err(error) => displaced(format!("has lost its LOCK, and maybe all files: {error}")),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The last part of a path in the directory.
fn name_of(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

/// Where temporary files of an earlier process may lie.
pub(super) fn temporaries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp")
            && super::directory::segment_number(&path).is_some()
        {
            found.push(path);
        }
    }
    Ok(found)
}
