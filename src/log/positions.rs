//! What a log says of itself: how far it has come, what of that readers see and the disk has, and how it
//! is. What it is not: what stands in it, which `read.rs` says.

use std::ops::Range;

use super::Log;
use super::backend::Storage;
use super::config::{Health, Retention};
use super::read::total_bytes;

impl<S: Storage> Log<S> {
    /// First position that the log still has.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.sealed.front().unwrap_or(&self.current).base
    }

    /// The position behind the last record that readers see.
    #[must_use]
    pub fn committed_position(&self) -> u64 {
        self.committed.position
    }

    /// The position behind the last record that is durable.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.durable.position
    }

    /// The seq that the next data frame has (contiguous), or at least has (increasing).
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.standing.next_seq
    }

    /// All frames with a lower seq are committed: readers see them.
    #[must_use]
    pub fn committed_seq(&self) -> u64 {
        self.committed.next_seq
    }

    /// All frames with a lower seq are durable.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.durable.next_seq
    }

    /// Feed and number wanted next from upstream.
    #[must_use]
    pub fn upstream(&self) -> (u64, u64) {
        (self.standing.upstream_feed, self.standing.upstream_seq)
    }

    /// Everything that upstream numbered below this, and that belongs into this log, is durable, and so
    /// is the knowledge of it.
    #[must_use]
    pub fn durable_upstream_seq(&self) -> u64 {
        self.durable.upstream_seq
    }

    /// The epoch the log stands in; 0 = none has begun.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.standing.epoch
    }

    /// First seq of that epoch.
    #[must_use]
    pub fn epoch_start(&self) -> u64 {
        self.standing.epoch_start
    }

    /// Whether the log can take frames, and if not, why.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Positions of the whole log.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        self.first_position()..self.committed.position
    }

    /// Bytes of all segment files, the one made ahead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + total_bytes(self.prepared.iter().chain([&self.current]))
    }

    /// What is removed, and when.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.config.retention
    }
}
