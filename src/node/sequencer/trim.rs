//! Trimming the journal: what the retention asks for, and no shard needs any more.
//!
//! Invariant: no frame leaves the journal before every configured shard has acknowledged it, or what
//! follows it, as durable. A shard that has not come since core started has acknowledged nothing. The
//! journal grows meanwhile, for as long as the disk has room; a full disk holds the exchange back and
//! loses nothing either.
//!
//! # Decisions
//!
//! * A shard that never comes makes the journal grow. Core reports that as an error once the journal is
//!   twice its configured size, or 1 GiB where no size is configured. It never drops what a shard still
//!   lacks.

use super::{Level, Sequencer};
use crate::limits;
use crate::log::Storage;
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::Seq;

impl<S: Storage> Sequencer<S> {
    /// Lets the journal know who needs what, and says loudly when that has become a lot.
    pub(super) fn retain_journal(&mut self, now: Now) {
        let Some((held_seq, name)) = self.followers.needed_by_shards() else { return };
        let seq = Seq::number(held_seq);
        self.journal.retain_from_seq(if is_planted(Bug::TrimBehindNobody) {
            u64::MAX
        } else {
            seq
        });
        let bytes = self.journal.bytes();
        let wanted = self.journal.retention().bytes_max;
        let warn_above = wanted
            .map_or(limits::JOURNAL_RETAINED_BYTES_WARN, |bytes_max| bytes_max.saturating_mul(2));
        let is_due = self.retained_logged_at.is_none_or(|logged_at| {
            now.mono.since(logged_at) >= limits::JOURNAL_RETAINED_LOG_EVERY
        });
        if bytes > warn_above && is_due && self.journal.is_retention_blocked() {
            self.retained_logged_at = Some(now.mono);
            let text = format!(
                "the journal has {bytes} bytes and cannot be trimmed: {name} holds durably what is \
                 before seq {seq} only. It grows until {name} comes; a full disk stops the exchange's \
                 feed, and nothing is lost"
            );
            self.connections.log(Level::Error, text);
        }
    }

    /// Who keeps the journal from being trimmed, if somebody does.
    pub(super) fn journal_held_by(&self) -> Option<&str> {
        let (_, name) = self.followers.needed_by_shards()?;
        self.journal.is_retention_blocked().then_some(name)
    }
}
