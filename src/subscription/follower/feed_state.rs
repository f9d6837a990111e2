//! Whether what a subscription delivers is known to be current, and what its caller was told of that.

use super::Event;
use crate::wire::FeedStatus;

/// What is known of the way from the exchange to here.
#[derive(Debug, Default)]
pub(super) struct FeedState {
    /// The snapshot has come to its end, once at least. Before that nothing was current.
    was_live: bool,
    /// What the broker says of its feed; stale where there is no broker.
    broker: FeedStatus,
    /// History is wanted before anything else of the broker, and core does not answer.
    is_history_away: bool,
    told: FeedStatus,
}

impl FeedState {
    pub(super) fn note_live(&mut self) {
        self.was_live = true;
        // If it is not, the broker says so right behind.
        self.broker = FeedStatus::Current;
    }

    pub(super) fn note_broker(&mut self, status: FeedStatus) {
        self.broker = if self.was_live { status } else { FeedStatus::Current };
    }

    pub(super) fn note_history(&mut self, is_away: bool) {
        self.is_history_away = is_away;
    }

    pub(super) fn status(&self) -> FeedStatus {
        if self.is_history_away { FeedStatus::Stale } else { self.broker }
    }

    /// What the caller has not been told.
    pub(super) fn poll(&mut self) -> Option<Event> {
        let status = self.status();
        let is_news = std::mem::replace(&mut self.told, status) != status;
        is_news.then_some(match status {
            FeedStatus::Current => Event::Current,
            FeedStatus::Ended => Event::Ended,
            FeedStatus::Stale => Event::Stale,
        })
    }
}
