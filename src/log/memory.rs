//! A disk in memory that can crash: for tests and for the simulator.
//!
//! It keeps, for every file, what was stored and what is durable. A crash makes a new disk in which
//! each page that differs is the old one, the new one, or torn within, as the caller chooses; and in
//! which the started jobs up to any number have happened. Jobs end when they are polled for, unless
//! the caller takes that over with [`MemoryDisk::pause_jobs`].

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::backend::{Completion, Segment, Storage, StorageError};
use super::header::HEADER_BYTES;
use super::inspect::{Files, Listing};
use crate::planted::{Bug, is_planted};

/// What a crash leaves of a page that was stored to since it was last made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFate {
    /// Nothing of the stores.
    Old,
    /// All of them.
    New,
    /// The front of the new page, the back of the old one.
    TornFront,
    /// The back of the new page, the front of the old one.
    TornBack,
}

/// The disk. Clones are the same disk; [`MemoryDisk::crash`] makes another.
#[derive(Clone, Debug)]
pub struct MemoryDisk(Rc<RefCell<Disk>>);

#[derive(Clone, Debug)]
struct Disk {
    files: BTreeMap<u64, File>,
    /// What the retention has removed is durable at once.
    removed_through: u64,
    partition: Option<Vec<u8>>,
    jobs: VecDeque<Job>,
    page_bytes: usize,
    bytes_max: usize,
    syncs_until_failure: Option<u32>,
    held: bool,
    /// There is no descriptor, or no right, for another file.
    is_lacking: bool,
    /// It was moved away from its path.
    is_displaced: bool,
    /// Stores so far.
    writes: u64,
    /// Syncs that failed so far.
    failed_syncs: u64,
    /// What was to be made present in memory: segment, offset, length.
    touches: Vec<(u64, usize, usize)>,
    history: Option<Vec<Disk>>,
}

#[derive(Clone, Debug)]
struct File {
    stored: Vec<u8>,
    durable: Vec<u8>,
    /// Its directory entry is durable.
    is_named: bool,
}

#[derive(Clone, Debug)]
enum Job {
    Prepare { number: u64, header: Box<[u8; HEADER_BYTES]>, bytes: usize },
    Sync { number: u64, stored: Vec<u8> },
    Remove { number: u64 },
    Touch,
    Examine,
}

/// What a job did, before the segment object of the log is made of it.
enum Done {
    Prepared(u64),
    Synced,
    Removed,
    Touched,
    Examined,
}

impl MemoryDisk {
    /// An empty disk whose pages have this many bytes; small pages make more of them in a test.
    #[must_use]
    pub fn new(page_bytes: usize) -> MemoryDisk {
        MemoryDisk::from_disk(Disk {
            files: BTreeMap::new(),
            removed_through: 0,
            partition: None,
            jobs: VecDeque::new(),
            page_bytes: page_bytes.max(2),
            bytes_max: usize::MAX,
            syncs_until_failure: None,
            held: false,
            is_lacking: false,
            is_displaced: false,
            writes: 0,
            failed_syncs: 0,
            touches: Vec::new(),
            history: None,
        })
    }

    fn from_disk(disk: Disk) -> MemoryDisk {
        MemoryDisk(Rc::new(RefCell::new(disk)))
    }

    /// The storage of a log on this disk. Only one log may use it at a time.
    #[must_use]
    pub fn storage(&self) -> MemoryStorage {
        MemoryStorage { disk: self.clone() }
    }

    /// From now on there is space for so many bytes of segments.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.0.borrow_mut().bytes_max = bytes_max;
    }

    /// From now on no file can be made, as without a free descriptor; or it can again.
    pub fn set_lacking(&self, is_lacking: bool) {
        self.0.borrow_mut().is_lacking = is_lacking;
    }

    /// From now on its directory is not at its path; or it is there again.
    pub fn set_displaced(&self, is_displaced: bool) {
        self.0.borrow_mut().is_displaced = is_displaced;
    }

    /// Stores that were made so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// Syncs that have failed so far.
    #[must_use]
    pub fn failed_syncs(&self) -> u64 {
        self.0.borrow().failed_syncs
    }

    /// What was to be made present in memory so far: segment, offset, length.
    #[must_use]
    pub fn touches(&self) -> Vec<(u64, usize, usize)> {
        self.0.borrow().touches.clone()
    }

    /// Lets `count` more syncs succeed, and then none.
    pub fn fail_sync_after(&self, count: u32) {
        self.0.borrow_mut().syncs_until_failure = Some(count);
    }

    /// Jobs no longer end by being polled for, or again do.
    pub fn pause_jobs(&self, held: bool) {
        self.0.borrow_mut().held = held;
    }

    /// Jobs under way.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.0.borrow().jobs.len()
    }

    /// Keeps the state after every change from now on, for [`MemoryDisk::history`].
    pub fn record_history(&self) {
        self.0.borrow_mut().history = Some(Vec::new());
    }

    /// How many states were kept.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.0.borrow().history.as_ref().map_or(0, Vec::len)
    }

    /// The kept states, each as a disk of its own.
    #[must_use]
    pub fn history(&self) -> Vec<MemoryDisk> {
        let disk = self.0.borrow();
        disk.history.iter().flatten().cloned().map(MemoryDisk::from_disk).collect()
    }

    /// The pages that a crash now could leave in any state: segment number and page.
    #[must_use]
    pub fn dirty_pages(&self) -> Vec<(u64, usize)> {
        let disk = self.0.borrow();
        let mut dirty = Vec::new();
        for (number, file) in &disk.files {
            let stored = file.stored.chunks(disk.page_bytes);
            let durable = file.durable.chunks(disk.page_bytes);
            for (page, (new, old)) in stored.zip(durable).enumerate() {
                if new != old {
                    dirty.push((*number, page));
                }
            }
        }
        dirty
    }

    /// The disk after the power was lost: the first `jobs_done` jobs under way happened, and `fate`
    /// decides about each page that is dirty then.
    #[must_use]
    pub fn crash(
        &self,
        jobs_done: usize,
        mut fate: impl FnMut(u64, usize) -> PageFate,
    ) -> MemoryDisk {
        let mut disk = self.0.borrow().clone();
        disk.history = None;
        disk.held = false;
        disk.syncs_until_failure = None;
        disk.is_lacking = false;
        disk.is_displaced = false;
        for _ in 0..jobs_done.min(disk.jobs.len()) {
            let _ = disk.end_job();
        }
        disk.jobs.clear();
        // A file whose directory was never synced is there afterwards, or is not.
        disk.files.retain(|&number, file| {
            let is_kept = file.is_named || fate(number, usize::MAX) == PageFate::New;
            file.is_named = true;
            is_kept
        });
        let page_bytes = disk.page_bytes;
        let tear = (page_bytes * 3 / 8 + 20).min(page_bytes - 1);
        for (number, file) in &mut disk.files {
            let pages = file.durable.chunks_mut(page_bytes).zip(file.stored.chunks(page_bytes));
            for (page, (old, new)) in pages.enumerate() {
                if old == new {
                    continue;
                }
                let tear = tear.min(old.len());
                match fate(*number, page) {
                    PageFate::Old => {}
                    PageFate::New => old.copy_from_slice(new),
                    PageFate::TornFront => old[..tear].copy_from_slice(&new[..tear]),
                    PageFate::TornBack => old[tear..].copy_from_slice(&new[tear..]),
                }
            }
            file.stored.clone_from(&file.durable);
        }
        MemoryDisk::from_disk(disk)
    }

    /// The disk after only the process died: everything stored is there, and jobs that were under
    /// way did not happen.
    #[must_use]
    pub fn kill(&self) -> MemoryDisk {
        let mut disk = self.0.borrow().clone();
        disk.history = None;
        disk.held = false;
        disk.is_lacking = false;
        disk.is_displaced = false;
        disk.jobs.clear();
        MemoryDisk::from_disk(disk)
    }

    /// The numbers of all segments.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.0.borrow().files.keys().copied().collect()
    }

    /// The stored bytes of a segment; empty when there is none.
    #[must_use]
    pub fn bytes(&self, number: u64) -> Vec<u8> {
        self.0.borrow().files.get(&number).map(|file| file.stored.clone()).unwrap_or_default()
    }

    /// The durable bytes of a segment, names aside; empty when there is none.
    #[must_use]
    pub fn durable_bytes(&self, number: u64) -> Vec<u8> {
        self.0.borrow().files.get(&number).map(|file| file.durable.clone()).unwrap_or_default()
    }

    /// Puts these bytes, durable, in place of a segment: rot, or somebody's truncation.
    pub fn put(&self, number: u64, bytes: Vec<u8>) {
        let file = File { durable: bytes.clone(), stored: bytes, is_named: true };
        self.0.borrow_mut().files.insert(number, file);
    }

    /// The highest number of a segment that the retention has removed; 0: none.
    #[must_use]
    pub fn removed_through(&self) -> u64 {
        self.0.borrow().removed_through
    }

    /// The partition that the log's node keeps.
    #[must_use]
    pub fn partition(&self) -> Option<Vec<u8>> {
        self.0.borrow().partition.clone()
    }

    /// Becomes what another disk is: a directory that is put in place of this one. Whoever holds this disk
    /// sees it from its next open on.
    pub fn become_copy_of(&self, other: &MemoryDisk) {
        let copy = other.kill();
        let taken = copy.0.borrow().clone();
        *self.0.borrow_mut() = taken;
    }

    /// Takes a segment away.
    pub fn take(&self, number: u64) {
        self.0.borrow_mut().files.remove(&number);
    }
}

impl Disk {
    fn end_job(&mut self) -> Option<Result<Done, (Done, StorageError)>> {
        Some(match self.jobs.pop_front()? {
            Job::Prepare { number, .. } if self.is_lacking => {
                return Some(Err((Done::Prepared(number), lacking(number))));
            }
            Job::Prepare { number, header, bytes } => {
                let used: usize = self.files.values().map(|file| file.stored.len()).sum();
                if used.saturating_add(bytes) > self.bytes_max {
                    let path = format!("segment {number}");
                    return Some(Err((Done::Prepared(number), StorageError::NoSpace { path })));
                }
                let mut stored = vec![0; bytes];
                stored[..HEADER_BYTES].copy_from_slice(&header[..]);
                let is_named = !is_planted(Bug::SkipDirectorySync);
                self.files.insert(number, File { durable: stored.clone(), stored, is_named });
                Ok(Done::Prepared(number))
            }
            Job::Sync { number, stored } => {
                if self.syncs_until_failure == Some(0) {
                    self.failed_syncs += 1;
                    return Some(Err((
                        Done::Synced,
                        StorageError::Io {
                            action: "sync",
                            path: format!("segment {number}"),
                            cause: "input/output error".to_owned(),
                        },
                    )));
                }
                if let Some(left) = &mut self.syncs_until_failure {
                    *left -= 1;
                }
                if let Some(file) = self.files.get_mut(&number) {
                    file.durable = stored;
                }
                Ok(Done::Synced)
            }
            Job::Remove { number } => {
                if !is_planted(Bug::ForgetRemoval) {
                    self.removed_through = self.removed_through.max(number);
                }
                self.files.remove(&number);
                Ok(Done::Removed)
            }
            Job::Touch => Ok(Done::Touched),
            Job::Examine if self.is_displaced => {
                let (path, what) = ("the disk".to_owned(), "was moved away".to_owned());
                Err((Done::Examined, StorageError::Displaced { path, what }))
            }
            Job::Examine => Ok(Done::Examined),
        })
    }

    /// Keeps a copy of the state when history is wanted.
    fn remember(&mut self) {
        if let Some(mut history) = self.history.take() {
            history.push(self.clone());
            self.history = Some(history);
        }
    }
}

/// A log's access to a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStorage {
    disk: MemoryDisk,
}

/// A segment on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemorySegment {
    number: u64,
    /// The bytes are here once more, because nothing can be lent out of the shared disk.
    bytes: Vec<u8>,
    disk: MemoryDisk,
}

impl MemoryStorage {
    fn start(&mut self, job: Job) {
        let mut disk = self.disk.0.borrow_mut();
        disk.jobs.push_back(job);
        disk.remember();
    }

    fn segment(&self, number: u64) -> MemorySegment {
        MemorySegment { number, bytes: self.disk.bytes(number), disk: self.disk.clone() }
    }
}

impl Storage for MemoryStorage {
    type Segment = MemorySegment;

    fn list(&mut self) -> Result<Vec<u64>, StorageError> {
        Ok(self.disk.numbers())
    }

    fn removed_through(&mut self) -> Result<u64, StorageError> {
        Ok(self.disk.removed_through())
    }

    fn set_removed_through(&mut self, number: u64) -> Result<(), StorageError> {
        let mut disk = self.disk.0.borrow_mut();
        disk.removed_through = disk.removed_through.max(number);
        Ok(())
    }

    fn partition(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk.partition())
    }

    fn set_partition(&mut self, text: &[u8]) -> Result<(), StorageError> {
        self.disk.0.borrow_mut().partition = Some(text.to_owned());
        Ok(())
    }

    fn open(&mut self, number: u64) -> Result<MemorySegment, StorageError> {
        Ok(self.segment(number))
    }

    fn extend(&mut self, segment: &mut MemorySegment, bytes: usize) -> Result<(), StorageError> {
        segment.bytes.resize(bytes, 0);
        let mut disk = self.disk.0.borrow_mut();
        if let Some(file) = disk.files.get_mut(&segment.number) {
            file.stored.resize(bytes, 0);
            file.durable.resize(bytes, 0);
        }
        disk.remember();
        Ok(())
    }

    fn start_prepare(&mut self, number: u64, header: &[u8; HEADER_BYTES], bytes: usize) {
        self.start(Job::Prepare { number, header: Box::new(*header), bytes });
    }

    fn start_sync(&mut self, segment: &MemorySegment) {
        self.start(Job::Sync { number: segment.number, stored: segment.bytes.clone() });
    }

    fn start_touch(&mut self, segment: &MemorySegment, offset: usize, len: usize) {
        self.disk.0.borrow_mut().touches.push((segment.number, offset, len));
        self.start(Job::Touch);
    }

    fn start_remove(&mut self, segment: MemorySegment) {
        self.start(Job::Remove { number: segment.number });
    }

    fn start_examine(&mut self) {
        self.start(Job::Examine);
    }

    fn poll_completion(&mut self) -> Option<Completion<MemorySegment>> {
        if self.disk.0.borrow().held { None } else { self.wait_completion() }
    }

    fn wait_completion(&mut self) -> Option<Completion<MemorySegment>> {
        let done = {
            let mut disk = self.disk.0.borrow_mut();
            let done = disk.end_job()?;
            disk.remember();
            done
        };
        Some(match done {
            Ok(Done::Prepared(number)) => Completion::Prepared(Ok(self.segment(number))),
            Ok(Done::Synced) => Completion::Synced(Ok(())),
            Ok(Done::Removed) => Completion::Removed(Ok(())),
            Err((Done::Prepared(_), error)) => Completion::Prepared(Err(error)),
            Err((Done::Synced, error)) => Completion::Synced(Err(error)),
            Err((Done::Removed, error)) => Completion::Removed(Err(error)),
            Ok(Done::Touched) | Err((Done::Touched, _)) => Completion::Touched,
            Ok(Done::Examined) => Completion::Examined(Ok(())),
            Err((Done::Examined, error)) => Completion::Examined(Err(error)),
        })
    }
}

impl Drop for MemoryStorage {
    /// As with files: what was started still happens, and nobody hears of it.
    fn drop(&mut self) {
        let mut disk = self.disk.0.borrow_mut();
        while disk.end_job().is_some() {}
    }
}

/// What the tools see that look at a log without opening it.
impl Files for MemoryDisk {
    fn list(&mut self) -> Result<Listing, StorageError> {
        let bytes = |number: &u64| (*number, self.bytes(*number).len() as u64);
        let segments = self.numbers().iter().map(bytes).collect();
        let removed_through = self.removed_through();
        Ok(Listing { segments, removed_through, ..Listing::default() })
    }

    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError> {
        let disk = self.0.borrow();
        let Some(file) = disk.files.get(&number) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.stored.len());
        let read = buffer.len().min(file.stored.len() - start);
        buffer[..read].copy_from_slice(&file.stored[start..start + read]);
        Ok(Some(read))
    }

    fn settle(&mut self, _number: u64) -> Result<(), StorageError> {
        Ok(())
    }
}

impl Segment for MemorySegment {
    fn number(&self) -> u64 {
        self.number
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, offset: usize, len: usize) -> &[u8] {
        let start = offset.min(self.bytes.len());
        let end = offset.saturating_add(len).min(self.bytes.len());
        &self.bytes[start..end]
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        let mut disk = self.disk.0.borrow_mut();
        disk.writes += 1;
        if let Some(file) = disk.files.get_mut(&self.number) {
            file.stored[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        disk.remember();
    }
}

fn lacking(number: u64) -> StorageError {
    StorageError::Lacking {
        action: "create",
        path: format!("segment {number}"),
        cause: "too many open files".to_owned(),
        remedy: "raise the limit of open files",
    }
}
