//! How a log is configured, and what it answers: health, progress, refusals.

use std::time::Duration;

use super::backend::StorageError;
use super::counters::{Sequence, UpstreamRule};

/// When appended records are made durable. Whatever the policy, nothing committed is lost when the
/// process dies; the policy says what is lost with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Only when a segment is left and when the log is closed.
    None,
    /// At most this long after the commit.
    Interval(Duration),
    /// As soon as the sync before has ended: one sync for all that was committed meanwhile.
    Batch,
}

/// What is removed, in whole sealed segments, oldest first. The default keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments that were left longer ago than this, by the log's own time (see [`super::Log::clock`]).
    pub age_max: Option<Duration>,
    /// The oldest segments, while all segment files together are larger than this.
    pub bytes_max: Option<u64>,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Whose log it is, zero-padded; a directory with another name is refused.
    pub name: [u8; 16],
    /// Records of a new segment; existing ones keep their size.
    pub segment_records: u64,
    /// When records are made durable.
    pub policy: SyncPolicy,
    /// How frames move the upstream position.
    pub upstream: UpstreamRule,
    /// Which seq may follow which.
    pub sequence: Sequence,
    /// What is removed.
    pub retention: Retention,
}

/// Whether the log can take frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Open,
    /// The system has no next segment for it now: no space, no descriptor, no right. It can while the current
    /// one has room.
    Waiting(StorageError),
    /// Its directory was deleted or moved. It cannot until that is back.
    Displaced(StorageError),
    /// A sync failed, or the storage broke: never again. What was acknowledged is durable.
    Failed(StorageError),
    /// It was closed.
    Closed,
}

impl Health {
    /// What keeps the log from taking frames, or will soon.
    #[must_use]
    pub fn problem(&self) -> Option<&StorageError> {
        match self {
            Health::Waiting(error) | Health::Displaced(error) | Health::Failed(error) => {
                Some(error)
            }
            Health::Open | Health::Closed => None,
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Health::Open => f.write_str("open"),
            Health::Closed => f.write_str("closed"),
            Health::Waiting(error) => write!(f, "waits: {error}"),
            Health::Displaced(error) => write!(f, "displaced: {error}"),
            Health::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// Why a frame was not appended. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Back-pressure: the next segment, or the sync of the last one, is not ready yet.
    #[error("the log's next segment is not ready yet")]
    NotReady,
    /// A segment has been begun: [`super::Log::write_checkpoint`] comes first, then the frame again.
    #[error("the log's new segment needs its checkpoint first")]
    CheckpointDue,
    /// There is no next segment now, or the directory is gone ([`Health`] says why); asked again once a second.
    #[error("the log can take no more for now")]
    Full,
    /// A sync failed, so that nothing can be promised any more.
    #[error("the log's storage has failed")]
    Failed,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The seq, or the epoch, does not follow: an error of the caller.
    #[error("the frame is out of order: the log expects seq {next_seq} in epoch {epoch}")]
    OutOfOrder {
        /// The seq that may come next.
        next_seq: u64,
        /// The epoch of its last record.
        epoch: u32,
    },
    /// Only data frames can be appended: an error of the caller.
    #[error("only data frames are logged, not kind {0}")]
    NotData(u8),
}

/// What completed jobs changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The durable watermark moved: acknowledgements may be due.
    pub durable: bool,
    /// A segment, or the sync it waited for, arrived: who got [`AppendError::NotReady`] or `Full`
    /// may try again.
    pub room: bool,
    /// The log failed: see [`super::Log::health`].
    pub failed: bool,
}
