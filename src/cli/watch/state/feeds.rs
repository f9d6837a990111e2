//! Whether quotes are current: of all exchanges together, and of each that differs.

use std::collections::BTreeMap;

use crate::client::Event;
use crate::time::{Mono, Now};
use crate::wire::{ExchangeNumber, FeedStatus};

/// What the subscription has said of that.
#[derive(Debug, Default)]
pub(in crate::cli::watch) struct Feeds {
    /// `None` before the snapshot is here.
    all: Option<FeedStatus>,
    differing: BTreeMap<ExchangeNumber, FeedStatus>,
    since: Mono,
}

impl Feeds {
    pub(super) fn handle_event(&mut self, now: Now, event: &Event) {
        let of_all = match event {
            Event::Stale => FeedStatus::Stale,
            Event::Ended => FeedStatus::Ended,
            Event::Current => FeedStatus::Current,
            Event::Live { .. } if self.all.is_none() => FeedStatus::Current,
            Event::Exchange { exchange, status } => {
                self.differing.insert(*exchange, *status);
                return;
            }
            Event::Live { .. } | Event::Data(_) | Event::Lost { .. } => return,
        };
        // What is said of all of them is the truth about each.
        self.differing.clear();
        self.all = Some(of_all);
        self.since = now.mono;
    }

    /// Of all together; `None` before anything is known.
    pub(in crate::cli::watch) fn all(&self) -> Option<FeedStatus> {
        self.all
    }

    /// Since when that is so.
    pub(in crate::cli::watch) fn since(&self) -> Mono {
        self.since
    }

    pub(in crate::cli::watch) fn of(&self, exchange: ExchangeNumber) -> FeedStatus {
        let status = self.differing.get(&exchange).copied();
        status.or(self.all).unwrap_or(FeedStatus::Stale)
    }

    /// The exchanges whose quotes are not current while those of others are.
    pub(in crate::cli::watch) fn stale_ones(&self) -> impl Iterator<Item = ExchangeNumber> + '_ {
        let stale = self.differing.iter().filter(|(_, status)| **status == FeedStatus::Stale);
        stale.map(|(exchange, _)| *exchange)
    }
}
