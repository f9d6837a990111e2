//! Making logs anew out of others, while no node runs: for `pregao recover` and `pregao repartition`.
//!
//! [`plan()`] says what of core's journal and of the shards is one history, [`rebuild_journal`] writes the journal of
//! that history, [`split`] writes the logs of another partition. Sources are read through [`inspect`](super::inspect) and
//! never written; what is written is a new log in an empty place. Which place that is, and how it takes the place
//! of the old one, is the caller's matter.
//!
//! # Decisions
//!
//! * A log is never mended where it lies. The old one stays whole until the new one is whole, and is renamed then.
//! * Copies of a shard are all read. Where two have the same seq, they must have the same frame: two that disagree
//!   are two histories, and a tool must not choose one of them frame by frame.

mod exchanges;
mod journal;
mod known;
mod merge;
mod split;
mod standing;

pub use exchanges::{FeedPlace, FeedPlaces, GoesOn};
pub use journal::{Rebuilt, follow_journal, rebuild_journal};
pub use merge::{Merge, MergeError};
pub use split::{Part, SplitSource, Splitting, check_split, split};
pub use standing::{
    Plan, PlanError, Relation, Standing, plan, plan_to_follow, plan_to_go_on, relation,
};

use super::backend::{Storage, StorageError};
use super::config::AppendError;
use super::recovery::OpenError;
use super::{Log, LogEntry};
use crate::time::Now;
use crate::wire::{ExchangeNumber, Frame};

/// Why no log was made. The sources are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A source cannot be read, or the new place not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The new log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new log takes no more.
    #[error("the new log cannot be written: {0}")]
    Append(#[from] AppendError),
    /// Two logs disagree.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The place in the exchange's feed cannot be counted: it offered another feed meanwhile.
    #[error(
        "the exchange changed its feed from {before:016x} to {now:016x} meanwhile, so its next number cannot be \
         counted: say where core goes on, with --feed and --feed-next"
    )]
    FeedChanged {
        /// The feed of the part that is kept.
        before: u64,
        /// The feed that core has met since.
        now: u64,
    },
    /// Frames of the exchange without a name are rebuilt, and nobody says which feed they are of.
    #[error(
        "the shards have frames of the exchange without a name, and do not know which feed they are of: say it with \
         --feed HEX"
    )]
    FeedUnknown,
    /// A place is said of an exchange that no log knows.
    #[error(
        "no log has anything of an exchange called {name}; they know: {known}. One that is new needs no place: core \
         begins it at its first number"
    )]
    UnknownExchange {
        /// The name that was said.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// Core would store frames of an exchange twice.
    #[error(
        "{name} cannot go on at {next_seq}: the logs have its feed {feed:016x} up to {last}, and core would store \
         what is between twice. Say {least_seq} or more",
        last = least_seq.saturating_sub(1)
    )]
    PlaceBehind {
        /// The name of the exchange.
        name: String,
        /// The number that was said.
        next_seq: u64,
        /// The feed.
        feed: u64,
        /// The lowest number that is not there for sure.
        least_seq: u64,
    },
    /// An exchange is said to play a feed of which no log has anything.
    #[error(
        "the logs have {name} in feed {known:016x}, and cannot count how far it is in feed {feed:016x}: say where core \
         goes on, with --feed {name}={feed:016x}:N"
    )]
    OtherFeed {
        /// The name of the exchange.
        name: String,
        /// The feed that was said.
        feed: u64,
        /// The feed that the logs have.
        known: u64,
    },
    /// The place of an exchange stood in frames that are lost.
    #[error(
        "the logs have frames of the exchange {0}, and have lost how far core was in its feed: its frames would be \
         stored twice. Say the place with --feed {0}=HEX:N"
    )]
    PlaceLost(String),
    /// The name of an exchange stood in frames that are lost.
    #[error(
        "the logs have frames of the exchange with number {0}, and have lost its name: put the journal or the shard that \
         had it back from a copy"
    )]
    NameLost(ExchangeNumber),
    /// What was written is not what was read: an error of this program.
    #[error("the new log is not what it should be: {0}")]
    Check(String),
}

/// Appends an entry, however long the disk takes.
fn append<S: Storage>(
    log: &mut Log<S>,
    entry: LogEntry<'_>,
    now: Now,
    statements: impl Fn() -> Vec<Frame>,
) -> Result<u64, AppendError> {
    loop {
        match log.append_with_checkpoint(entry, &statements, |_| {}) {
            Err(AppendError::NotReady) => {
                log.commit(now);
                log.wait(now)?;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
