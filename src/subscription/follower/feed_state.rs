//! Whether what a subscription delivers is known to be current, and what its caller was told of that.

use super::Event;

/// What is known of the way from the exchange to here.
#[derive(Debug, Default)]
pub(super) struct FeedState {
    /// The snapshot has come to its end, once at least. Before that nothing was current.
    was_live: bool,
    /// The broker says that its feed is stale, or there is no broker.
    is_broker_stale: bool,
    /// History is wanted before anything else of the broker, and core does not answer.
    is_history_away: bool,
    told_stale: bool,
}

impl FeedState {
    pub(super) fn note_live(&mut self) {
        self.was_live = true;
        // If it is not, the broker says so right behind.
        self.is_broker_stale = false;
    }

    pub(super) fn note_broker(&mut self, is_stale: bool) {
        self.is_broker_stale = is_stale && self.was_live;
    }

    pub(super) fn note_history(&mut self, is_away: bool) {
        self.is_history_away = is_away;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_broker_stale || self.is_history_away
    }

    /// What the caller has not been told.
    pub(super) fn poll(&mut self) -> Option<Event> {
        let is_stale = self.is_stale();
        let is_news = std::mem::replace(&mut self.told_stale, is_stale) != is_stale;
        is_news.then_some(if is_stale { Event::Stale } else { Event::Current })
    }
}
