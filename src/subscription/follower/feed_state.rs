//! Whether what a subscription delivers is known to be current, and what its caller was told of that.

use super::Event;
use crate::wire::{FeedStates, FeedStatus};

/// What is known of the way from the exchange to here.
#[derive(Debug, Default)]
pub(super) struct FeedState {
    /// The snapshot has come to its end, once at least. Before that nothing was current.
    was_live: bool,
    /// What the broker says of its feed; stale where there is no broker.
    broker: FeedStates,
    /// History is wanted before anything else of the broker, and core does not answer.
    is_history_away: bool,
    told: FeedStates,
}

impl FeedState {
    pub(super) fn note_live(&mut self) {
        self.was_live = true;
        // If it is not, the broker says so right behind.
        self.broker = FeedStates::default();
    }

    pub(super) fn note_broker(&mut self, states: FeedStates) {
        self.broker = if self.was_live { states } else { FeedStates::default() };
    }

    pub(super) fn note_history(&mut self, is_away: bool) {
        self.is_history_away = is_away;
    }

    pub(super) fn states(&self) -> FeedStates {
        if self.is_history_away { FeedStates::STALE } else { self.broker }
    }

    /// What the caller has not been told.
    pub(super) fn poll(&mut self) -> impl Iterator<Item = Event> {
        let states = self.states();
        let before = std::mem::replace(&mut self.told, states);
        states.changes_since(before).map(|change| match change {
            (Some(exchange), status) => Event::Exchange { exchange, status },
            (None, FeedStatus::Current) => Event::Current,
            (None, FeedStatus::Ended) => Event::Ended,
            (None, FeedStatus::Stale) => Event::Stale,
        })
    }
}
