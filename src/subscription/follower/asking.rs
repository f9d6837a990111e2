//! What a follower asks with: its subscription at the broker, and a piece of core's history.

use super::Follower;
use crate::feed::Pattern;
use crate::wire::{Flags, Op, Query, Seq, Subscribe, U16, U32, padded};

impl Follower {
    /// The frames that subscribe from `from_seq` on.
    #[must_use]
    pub fn subscribe_frames(&self, from_seq: Option<Seq>) -> Vec<Subscribe> {
        let last = self.request.patterns.len().saturating_sub(1);
        let frame = |(index, pattern): (usize, &Pattern)| Subscribe {
            flags: U16::new(if index < last { Flags::MORE } else { 0 }),
            id: U32::new(1),
            source: self.request.source,
            mode: self.request.mode as u8,
            kinds: U16::new(if pattern.kinds() == u16::MAX { 0 } else { pattern.kinds() }),
            conflate_ms: U32::new(self.request.conflate_ms),
            from_seq: Seq::field(from_seq),
            pattern: padded(&pattern.text()),
            ..Subscribe::default()
        };
        self.request.patterns.iter().enumerate().map(frame).collect()
    }

    /// The query for a piece of history. Several patterns are asked for as one `*` and sorted out here:
    /// a query has room for one.
    #[must_use]
    pub fn history_query(&self, from_seq: Seq, to_seq: Seq, deadline_us: u32) -> Query {
        let only = match self.request.patterns.as_slice() {
            [one] if one.text().len() <= 24 => Some(one),
            _ => None,
        };
        let kinds = only.map_or(0, Pattern::kinds);
        Query {
            id: U32::new(1),
            op: Op::Replay as u8,
            options: Query::PARTIAL,
            kinds: U16::new(if kinds == u16::MAX { 0 } else { kinds }),
            deadline_us: U32::new(deadline_us),
            limit: U32::new(u32::MAX),
            symbol: padded(&only.map_or("*".to_owned(), Pattern::text)),
            from: Seq::field(Some(from_seq)),
            to: Seq::field(Some(to_seq)),
            ..Query::default()
        }
    }
}
