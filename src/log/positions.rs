//! What a log says of itself: how far it has come, what of that readers see and the disk has, and how it
//! is. What is in it is the matter of `read.rs`.

use std::ops::Range;

use super::Log;
use super::backend::Storage;
use super::config::Health;
use super::lineage::Lineage;
use crate::wire::Seq;

impl<S: Storage> Log<S> {
    /// First position that the log still has.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.segments.first_position()
    }

    /// The position behind the last record that readers see.
    #[must_use]
    pub fn committed_position(&self) -> u64 {
        self.durability.committed().position
    }

    /// The position behind the last record that is durable.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.durability.durable().position
    }

    /// The seq that the next data frame has (contiguous), or at least has (increasing). Never 0: an empty log
    /// begins at 1.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.writer.counters().next_seq
    }

    /// All frames with a lower seq are committed: readers see them.
    #[must_use]
    pub fn committed_seq(&self) -> u64 {
        self.durability.committed().next_seq
    }

    /// All frames with a lower seq are durable.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.durability.durable().next_seq
    }

    /// Whether the policy syncs what is committed, without being asked: then all of it becomes durable soon.
    #[must_use]
    pub fn promises_durability(&self) -> bool {
        self.durability.promises()
    }

    /// Feed and number wanted next from upstream.
    #[must_use]
    pub fn upstream(&self) -> (u64, u64) {
        {
            let counters = self.writer.counters();
            (counters.upstream_feed, counters.upstream_seq)
        }
    }

    /// Everything that upstream numbered below this, and that belongs into this log, is durable, and so
    /// is the knowledge of it.
    #[must_use]
    pub fn durable_upstream_seq(&self) -> Seq {
        Seq::or_first(self.durability.durable().upstream_seq)
    }

    /// The epoch of the log's end; 0 = none has begun.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.writer.counters().epoch
    }

    /// First seq of that epoch.
    #[must_use]
    pub fn epoch_start(&self) -> u64 {
        self.writer.counters().epoch_start
    }

    /// The identity of that epoch: what a follower's place is told under. 0 when it has none, because the log is
    /// of an older program or no epoch has begun; [`super::UNKNOWN_EPOCH_ID`] when the log has lost it.
    #[must_use]
    pub fn epoch_id(&self) -> u64 {
        self.lineage.id_of(self.epoch())
    }

    /// The epochs of the sequence, as far as the log knows, and whose it is.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Whether the log can take frames, and if not, why.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Positions of the whole log.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        self.first_position()..self.durability.committed().position
    }

    /// Bytes of all segment files, the one made ahead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }
}
