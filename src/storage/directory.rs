//! A log's directory: its lock, its segment files, and the thread that works on them.

use std::cell::Cell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::mapping::Mapping;
use super::partition_file;
use super::queue::{Answer, Jobs, Wake, queues};
use super::worker::{self, Home, Job, Space, allocate, failure};
use crate::log::{Completion, HEADER_BYTES, Segment, Storage, StorageError};

/// The files of one log.
pub struct FileStorage {
    directory: PathBuf,
    jobs: Jobs<Job, Completion<FileSegment>>,
    /// Half-made segments of an earlier process. They go with the first job, which a log starts only
    /// when it refuses nothing: a refused directory stays as it is.
    leftovers: Vec<PathBuf>,
    worker: Option<JoinHandle<()>>,
    /// Held, and with it the directory, until this is dropped or the process ends.
    lock: File,
}

/// A mapped segment file.
#[derive(Debug)]
pub struct FileSegment {
    number: u64,
    /// For syncs. None once it is retired.
    file: Option<Arc<File>>,
    mapping: Mapping,
    /// Behind the last byte that was stored.
    stored: usize,
    /// Behind the last byte that was touched.
    touched: Cell<usize>,
    /// Below it, pages were taken out of the page table by the last sync.
    released: Cell<usize>,
}

impl FileStorage {
    /// Takes the directory, which is made if it does not exist, and starts its thread.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has it; otherwise what the system refused.
    pub fn open(directory: &Path, wake: Wake) -> Result<FileStorage, StorageError> {
        FileStorage::with(directory, wake, Space::Reserved)
    }

    /// The same without reserving the space of new segments: a full disk is then SIGBUS inside a store.
    /// Only for the test that shows what the reservation is for.
    ///
    /// # Errors
    /// As [`FileStorage::open`].
    #[doc(hidden)]
    pub fn open_sparse(directory: &Path, wake: Wake) -> Result<FileStorage, StorageError> {
        FileStorage::with(directory, wake, Space::Sparse)
    }

    fn with(directory: &Path, wake: Wake, space: Space) -> Result<FileStorage, StorageError> {
        make_durably(directory)?;
        let lock = lock(&directory.join("LOCK"))?;
        let temporaries =
            worker::temporaries(directory).map_err(|error| failure("list", directory, error))?;
        let (jobs, list) = queues();
        let home = File::open(directory)
            .and_then(|handle| Home::of(directory, handle, &lock))
            .map_err(|error| failure("open", directory, error))?;
        let worker = std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || list.run(|job| worker::work(&home, space, job), &wake))
            .map_err(|error| failure("start a thread for", directory, error))?;
        Ok(FileStorage {
            directory: directory.to_owned(),
            jobs,
            leftovers: temporaries,
            worker: Some(worker),
            lock,
        })
    }

    fn start(&mut self, job: Job) {
        for path in std::mem::take(&mut self.leftovers) {
            // One that stays costs space, and the next open finds it.
            let _ = std::fs::remove_file(path);
        }
        self.jobs.start(job);
    }
}

impl Storage for FileStorage {
    type Segment = FileSegment;

    fn list(&mut self) -> Result<Vec<u64>, StorageError> {
        let listed = |error| failure("list", &self.directory, error);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(listed)? {
            let path = entry.map_err(listed)?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                numbers.extend(segment_number(&path));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn removed_through(&mut self) -> Result<u64, StorageError> {
        let records = removal_records(&self.directory)
            .map_err(|error| failure("list", &self.directory, error))?;
        Ok(records.into_iter().max().unwrap_or(0))
    }

    fn set_removed_through(&mut self, number: u64) -> Result<(), StorageError> {
        let handle =
            File::open(&self.directory).map_err(|error| failure("open", &self.directory, error))?;
        worker::record_removal(&self.directory, &handle, number)
    }

    fn partition(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        partition_file::read(&self.directory)
    }

    fn set_partition(&mut self, text: &[u8]) -> Result<(), StorageError> {
        partition_file::write(&self.directory, text)
    }

    fn open(&mut self, number: u64) -> Result<FileSegment, StorageError> {
        let path = segment_path(&self.directory, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failure("open", &path, error))?;
        let bytes = file.metadata().map_err(|error| failure("examine", &path, error))?.len();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mapping = Mapping::new(&file, bytes).map_err(|error| failure("map", &path, error))?;
        Ok(FileSegment::new(number, file, mapping))
    }

    fn extend(&mut self, segment: &mut FileSegment, bytes: usize) -> Result<(), StorageError> {
        let path = segment_path(&self.directory, segment.number);
        let Some(file) = &segment.file else { return Ok(()) };
        allocate(file, &path, bytes)?;
        file.sync_all().map_err(|error| failure("sync", &path, error))?;
        segment.mapping =
            Mapping::new(file, bytes).map_err(|error| failure("map", &path, error))?;
        Ok(())
    }

    fn start_prepare(&mut self, number: u64, header: &[u8; HEADER_BYTES], bytes: usize) {
        self.start(Job::Prepare { number, header: Box::new(*header), bytes });
    }

    fn start_sync(&mut self, segment: &FileSegment) {
        let (from, to) = (segment.released.get(), segment.stored.max(segment.touched.get()));
        segment.released.set(segment.stored);
        self.start(Job::Sync {
            file: segment.file.clone(),
            number: segment.number,
            pages: segment.mapping.pages(),
            release: from..to,
        });
    }

    fn start_touch(&mut self, segment: &FileSegment, offset: usize, len: usize) {
        segment.touched.set(segment.touched.get().max(offset.saturating_add(len)));
        self.start(Job::Touch { pages: segment.mapping.pages(), offset, len });
    }

    fn start_remove(&mut self, segment: FileSegment) {
        self.start(Job::Remove { segment });
    }

    fn start_examine(&mut self) {
        self.start(Job::Examine);
    }

    fn poll_completion(&mut self) -> Option<Completion<FileSegment>> {
        self.jobs.poll().map(completion)
    }

    fn wait_completion(&mut self) -> Option<Completion<FileSegment>> {
        self.jobs.wait().map(completion)
    }
}

/// What the log gets. That the thread is gone fails it as a sync does that nobody knows the end of.
pub(super) fn completion<G>(answer: Answer<Completion<G>>) -> Completion<G> {
    match answer {
        Answer::Done(completion) => completion,
        Answer::Gone => Completion::Synced(Err(StorageError::Gone)),
    }
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        // The lock must outlive the thread: a sync or a rename of ours must not meet a successor.
        self.jobs.stop();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        // Closing the file is not enough: a child that another thread is just starting has a copy of it
        // until it runs its own program.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl fmt::Debug for FileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStorage")
            .field("directory", &self.directory)
            .field("under_way", &self.jobs.under_way())
            .finish_non_exhaustive()
    }
}

impl FileSegment {
    pub(super) fn new(number: u64, file: File, mapping: Mapping) -> FileSegment {
        FileSegment {
            number,
            file: Some(Arc::new(file)),
            mapping,
            stored: 0,
            touched: Cell::new(0),
            released: Cell::new(0),
        }
    }
}

impl Segment for FileSegment {
    fn number(&self) -> u64 {
        self.number
    }

    fn len(&self) -> usize {
        self.mapping.len()
    }

    fn read(&self, offset: usize, len: usize) -> &[u8] {
        self.mapping.read(offset, len)
    }

    /// The mapping stays without the descriptor.
    fn retire(&mut self) {
        self.file = None;
    }

    #[inline]
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.mapping.write(offset, bytes);
        self.stored = self.stored.max(offset + bytes.len());
    }
}

/// How the name of a file ends that says what the retention has removed.
pub(super) const REMOVED: &str = "removed";

/// Up to which segments the retention has removed all, as each record says it.
pub(super) fn removal_records(directory: &Path) -> std::io::Result<Vec<u64>> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == REMOVED) {
            records.extend(segment_number(&path));
        }
    }
    Ok(records)
}

/// The file of segment `number`.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.log"))
}

/// The number in a segment's file name; `None` for any other file.
pub(super) fn segment_number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    if stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()) {
        stem.parse().ok()
    } else {
        None
    }
}

/// Makes the directory with all that are missing above it, and all their names durable: a segment whose
/// directory nobody finds is lost. Each name is synced before the next directory is made. So of those that are
/// there only the lowest can be one whose process died in between, and its name is synced again.
fn make_durably(directory: &Path) -> Result<(), StorageError> {
    let mut missing = Vec::new();
    let mut lowest = directory;
    while !lowest.exists() && above(lowest) != lowest {
        missing.push(lowest);
        lowest = above(lowest);
    }
    match worker::sync_directory(above(lowest)) {
        // Somebody else made it, where this process may not even look.
        Err(_) if std::fs::read_dir(above(lowest)).is_err() => {}
        done => done?,
    }
    for path in missing.into_iter().rev() {
        std::fs::create_dir_all(path).map_err(|error| failure("create", path, error))?;
        worker::sync_directory(above(path))?;
    }
    Ok(())
}

/// The directory that has this one's name.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

pub(super) fn lock(path: &Path) -> Result<File, StorageError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| failure("create", path, error))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StorageError::Locked { path: path.display().to_string() });
            }
            Err(errno) => return Err(failure("lock", path, errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sync releases what was stored or touched since the one before, and no page twice.
    #[test]
    #[cfg_attr(miri, ignore = "a mapping of a file")]
    fn a_segment_knows_how_far_it_was_stored_touched_and_released() {
        let directory = tempfile::tempdir().unwrap();
        let mut held = FileStorage::open(directory.path(), Box::new(|| {})).unwrap();
        held.start_prepare(1, &[0; HEADER_BYTES], 1 << 16);
        let made = held.wait_completion();
        let Some(Completion::Prepared(Ok(mut segment))) = made else { panic!("none was made") };
        let places = |it: &FileSegment| (it.stored, it.touched.get(), it.released.get());
        assert_eq!(places(&segment), (0, 0, 0));
        segment.write(5_000, b"abcd");
        segment.write(4_096, b"ab");
        held.start_touch(&segment, 8_192, 4_096);
        held.start_touch(&segment, 0, 4_096);
        assert_eq!(places(&segment), (5_004, 12_288, 0));
        held.start_sync(&segment);
        assert_eq!(places(&segment), (5_004, 12_288, 5_004));
    }

    #[test]
    fn every_path_but_the_root_has_a_directory_above_it() {
        let pairs = [("core", "."), ("data/core", "data"), ("/data", "/"), ("/", "/")];
        for (path, expected) in pairs {
            assert_eq!(above(Path::new(path)), Path::new(expected));
        }
    }
}
