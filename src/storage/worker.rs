//! What the storage thread does: makes, syncs and removes segments, a job at a time.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::directory::{FileSegment, REMOVED, removal_records, segment_path};
use super::mapping::{Mapping, Pages};
use crate::limits::SEGMENT_TOUCH_BYTES;
use crate::log::{Completion, HEADER_BYTES, Segment, StorageError};

pub(super) enum Job {
    Prepare { number: u64, header: Box<[u8; HEADER_BYTES]>, bytes: usize },
    Sync { file: Arc<File>, number: u64, pages: Pages, release: Range<usize> },
    Remove { segment: FileSegment },
    Touch { pages: Pages, offset: usize, len: usize },
}

/// How a new segment's file gets its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Reserved,
    Sparse,
}

/// Does a job.
pub(super) fn work(directory: &Path, space: Space, job: Job) -> Completion<FileSegment> {
    match job {
        Job::Prepare { number, header, bytes } => {
            Completion::Prepared(prepare(directory, space, number, &header, bytes))
        }
        Job::Sync { file, number, pages, release } => {
            pages.release(release.start, release.end);
            Completion::Synced(
                rustix::fs::fdatasync(&*file).map_err(|errno| {
                    failure("sync", &segment_path(directory, number), errno.into())
                }),
            )
        }
        Job::Touch { pages, offset, len } => {
            pages.touch(offset, len);
            Completion::Touched
        }
        Job::Remove { segment } => Completion::Removed(remove(directory, segment)),
    }
}

/// Makes a segment under a temporary name and renames it once it is whole and durable, so that a
/// segment's name never stands for less than a segment.
fn prepare(
    directory: &Path,
    space: Space,
    number: u64,
    header: &[u8; HEADER_BYTES],
    bytes: usize,
) -> Result<FileSegment, StorageError> {
    let path = segment_path(directory, number);
    let temporary = path.with_extension("tmp");
    let made = make(&temporary, space, header, bytes);
    let file = made.inspect_err(|_| {
        // Gives the space back at once; the next open removes what stays.
        let _ = std::fs::remove_file(&temporary);
    })?;
    std::fs::rename(&temporary, &path).map_err(|error| failure("rename", &temporary, error))?;
    sync_directory(directory)?;
    let mapping = Mapping::new(&file, bytes).map_err(|error| failure("map", &path, error))?;
    mapping.pages().touch(0, SEGMENT_TOUCH_BYTES);
    Ok(FileSegment::new(number, file, mapping))
}

fn make(
    path: &Path,
    space: Space,
    header: &[u8; HEADER_BYTES],
    bytes: usize,
) -> Result<File, StorageError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|error| failure("create", path, error))?;
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

fn remove(directory: &Path, segment: FileSegment) -> Result<(), StorageError> {
    let number = segment.number();
    let path = segment_path(directory, number);
    drop(segment);
    record_removal(directory, number)?;
    std::fs::remove_file(&path).map_err(|error| failure("remove", &path, error))?;
    sync_directory(directory)
}

/// Says durably that all segments up to this one are removed by the retention: any other that is missing is
/// a loss. One such record stays.
pub(super) fn record_removal(directory: &Path, number: u64) -> Result<(), StorageError> {
    let path = segment_path(directory, number).with_extension(REMOVED);
    File::create(&path).map_err(|error| failure("create", &path, error))?;
    sync_directory(directory)?;
    // An older one that stays says less, and the greatest counts.
    let older = removal_records(directory).unwrap_or_default();
    for number in older.into_iter().filter(|older| *older < number) {
        let _ = std::fs::remove_file(segment_path(directory, number).with_extension(REMOVED));
    }
    Ok(())
}

/// Makes the names in the directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| failure("sync", directory, error))
}

/// The error of an action on a path, with a full disk distinguished.
pub(super) fn failure(action: &'static str, path: &Path, error: io::Error) -> StorageError {
    let path = path.display().to_string();
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => StorageError::NoSpace { path },
        _ => StorageError::Io { action, path, cause: error.to_string() },
    }
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
