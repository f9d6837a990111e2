#![doc = include_str!("FORMAT.md")]

mod append;
mod backend;
mod checkpoint;
mod config;
pub mod convert;
mod counters;
mod durability;
mod exchange_places;
mod header;
pub mod inspect;
mod lineage;
mod mark;
pub mod memory;
mod notice;
mod open;
mod place;
mod positions;
mod read;
pub mod rebuild;
mod recovery;
mod retention;
mod rollbacks;
mod segment;
mod segments;
mod turn;
mod validator;
mod writer;

pub use append::{LogEntry, NewEpoch};
pub use backend::{Completion, Segment, Storage, StorageError};
pub use config::{AppendError, Health, LogConfig, Progress, Retention, SyncPolicy};
pub use counters::{Sequence, UpstreamRule};
pub use exchange_places::{ExchangePlaces, PLACE_TOPIC, Place};
pub use header::{FORMAT_VERSION, HEADER_BYTES, HeaderFault};
pub use lineage::{EpochEnd, EpochEntry, Lineage, LogEpoch, UNKNOWN_EPOCH_ID};
pub use mark::{Mark, Reason, hole_in, is_event, is_statement, is_uncertain};
pub use notice::{Notice, RemovalReason};
pub use read::Read;
pub use recovery::{OpenError, Recovery};

use crate::time::{Mono, SteadyTime};

/// An append-only log of frames.
///
/// It knows no file, no thread and no clock. What it is not: an index. Which instrument is where is the
/// shard's matter.
///
/// Each part keeps an invariant of its own, and the log brings them together: `open.rs` makes them, `append.rs`
/// writes records, `turn.rs` commits and takes in what the storage has done, `read.rs` reads, `retention.rs`
/// removes.
///
/// Invariant: all records before the writer's position, and none behind it, are stored in the segments, and the
/// position is within the active one or at its end.
///
/// Invariant: a segment is left for the next only when the one before it is durable. So what is not durable is
/// in the last two used segments, which recovery relies on.
#[derive(Debug)]
pub struct Log<S: Storage> {
    storage: S,
    segments: segments::Segments<S::Segment>,
    writer: writer::Writer,
    durability: durability::Durability,
    checkpoints: checkpoint::Checkpoints,
    removal: retention::Removal,
    lineage: lineage::Lineage,
    health: Health,
    /// What marks are stamped with and ages are judged by.
    clock: SteadyTime,
    clock_step_max: std::time::Duration,
    /// When it was last said that the wall clock is not believed.
    clock_said_at: Mono,
    examination: place::Examination,
    notices: notice::Notices,
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod exhaustive_tests;
#[cfg(test)]
mod tests;
