//! The only code that knows files and mappings.
//!
//! A log's directory holds `LOCK`, the segments `<number>.log`, and while a segment is being made its
//! `.tmp`. One process at a time: the lock is held until the storage is dropped.
//!
//! Whatever may take long (making, syncing and removing segments) is done by one thread per log,
//! behind bounded queues; its completions wake the reactor through the function given at the opening.
//! The appending store itself goes from the caller's thread into mapped pages.
//!
//! # Decisions
//!
//! * The reactor's thread stores into the log, into pages that the storage thread has touched before. An
//!   appending thread behind a queue was measured (PERF.md, "The log"): frames became visible later at
//!   every rate, in the median and at the tail, and nearly all turns were as long.
//! * Pages are released from the page table before a sync (`mapping.rs`). Storing by `pwrite` would avoid
//!   that, at the price of one more copy.

mod convert;
mod directory;
mod inspect;
mod mapping;
mod partition_file;
mod place;
mod queue;
mod worker;

pub use convert::{ConvertError, ConvertedLog, convert_log, has_removed};
pub use directory::{FileSegment, FileStorage};
pub use inspect::LogFiles;
pub use place::{HeldDirectory, Places};
pub use queue::Wake;

#[cfg(test)]
mod tests;
