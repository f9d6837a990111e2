//! The whole disk, as a log needs it: a handful of methods.
//!
//! What may take long is started here and completes later; the log never waits for it, except while
//! it is opened, closed, or begins an epoch of its own. Jobs complete in the order they were started.

use super::header::HEADER_BYTES;

/// What the disk could not do. Each message says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Another process has the directory.
    #[error("{path} is in use by another process; stop that one, or choose another data directory")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The device or the quota is full. This one passes.
    #[error("no space left for {path}; free some, or let the log keep less")]
    NoSpace {
        /// What did not fit.
        path: String,
    },
    /// The operating system lacks something, or a right is missing. This one passes too.
    #[error("cannot {action} {path}: {cause}; {remedy}")]
    Lacking {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// What the operating system says.
        cause: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The directory is not at its path any more.
    #[error(
        "{path} {what}; move it back, or stop this node. What it holds is still open under /proc/PID/fd"
    )]
    Displaced {
        /// The directory.
        path: String,
        /// What has become of it.
        what: String,
    },
    /// Anything else that the operating system refused.
    #[error("cannot {action} {path}: {cause}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// What the operating system says.
        cause: String,
    },
    /// The thread that works for the log has ended.
    #[error("the storage thread has ended")]
    Gone,
}

impl StorageError {
    /// Whether the same may work later, when somebody has made room or has given back what is missing.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, StorageError::NoSpace { .. } | StorageError::Lacking { .. })
    }
}

/// A started job that has ended.
#[derive(Debug)]
pub enum Completion<G> {
    /// A new segment, of zeros behind its header, whose name is durable; or why there is none.
    Prepared(Result<G, StorageError>),
    /// Everything written to the segment before the sync was started is durable; or nobody knows.
    Synced(Result<(), StorageError>),
    /// The segment's file is gone; or stays where it is.
    Removed(Result<(), StorageError>),
    /// The pages are present, if the system could do that.
    Touched,
    /// The directory is where it was; or what has become of it.
    Examined(Result<(), StorageError>),
}

/// The files of one log.
pub trait Storage {
    /// A segment's bytes.
    type Segment: Segment;

    /// The numbers of all segments there are, ascending. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&mut self) -> Result<Vec<u64>, StorageError>;

    /// The highest number of a segment that the retention has removed, or was about to remove; 0 when there is
    /// none. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn removed_through(&mut self) -> Result<u64, StorageError>;

    /// Says durably that the retention has removed all segments up to this one: for a log that an older
    /// program trimmed. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be written.
    fn set_removed_through(&mut self, number: u64) -> Result<(), StorageError>;

    /// The partition that the log's node keeps, as it wrote it; `None` when it never did. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    fn partition(&mut self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Keeps the partition durably; what was kept before is replaced at once or not at all. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be written.
    fn set_partition(&mut self, text: &[u8]) -> Result<(), StorageError>;

    /// Opens an existing segment, as long as it is. Blocks.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    fn open(&mut self, number: u64) -> Result<Self::Segment, StorageError>;

    /// Gives a segment that lost its end the length `bytes` again, with zeros. Blocks.
    ///
    /// # Errors
    /// When there is no space, or the file cannot be mapped.
    fn extend(&mut self, segment: &mut Self::Segment, bytes: usize) -> Result<(), StorageError>;

    /// Starts to make a segment of `bytes` bytes that begins with this page. It has its name only
    /// when it is whole.
    fn start_prepare(&mut self, number: u64, header: &[u8; HEADER_BYTES], bytes: usize);

    /// Starts to make durable what was written to this segment so far.
    fn start_sync(&mut self, segment: &Self::Segment);

    /// Starts to make these bytes present in memory, so that storing to them does not wait. Changes
    /// nothing else.
    fn start_touch(&mut self, segment: &Self::Segment, offset: usize, len: usize);

    /// Starts to remove a segment. That it is removed is on record, durably, before its file goes.
    fn start_remove(&mut self, segment: Self::Segment);

    /// Starts to look whether the directory is still where it was.
    fn start_examine(&mut self);

    /// The next job that has ended, if any has.
    fn poll_completion(&mut self) -> Option<Completion<Self::Segment>>;

    /// The next job to end. Blocks; `None` when no job is under way.
    fn wait_completion(&mut self) -> Option<Completion<Self::Segment>>;
}

/// The bytes of one segment, header page included.
pub trait Segment {
    /// Its number.
    fn number(&self) -> u64;

    /// How many bytes exist; fewer than were allocated only when somebody cut the file.
    fn len(&self) -> usize;

    /// Whether no byte exists.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of this range, or as many of them as exist. The log asks for committed ones only.
    fn read(&self, offset: usize, len: usize) -> &[u8];

    /// All of it is durable, and nothing is stored in it or synced any more: what only that takes can be given
    /// back.
    fn retire(&mut self) {}

    /// Stores the bytes. Never waits for the disk.
    ///
    /// # Panics
    /// When the range is not within [`Segment::len`]: an error of the log, never of its input.
    fn write(&mut self, offset: usize, bytes: &[u8]);
}
