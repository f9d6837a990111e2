#![doc = include_str!("FORMAT.md")]

mod appender;
mod backend;
mod breaks;
mod config;
mod header;
mod held;
pub mod inspect;
mod jobs;
mod judge;
mod mark;
pub mod memory;
mod positions;
mod read;
mod recovery;
mod standing;
mod statements;

pub use appender::Log;
pub use backend::{Completion, Segment, Storage, StorageError};
pub use config::{AppendError, Health, LogConfig, Progress, Retention, SyncPolicy};
pub use header::{FORMAT_VERSION, HEADER_BYTES, HeaderFault};
pub use mark::{Mark, Reason, hole_in, is_doubtful, is_event, is_statement};
pub use read::Read;
pub use recovery::{OpenError, Recovery};
pub use standing::{Sequence, UpstreamRule};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod exhaustive_tests;
#[cfg(test)]
mod tests;
