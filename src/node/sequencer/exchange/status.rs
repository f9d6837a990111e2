//! What core says about an exchange.

use super::Exchange;
use crate::node::describe_breaker;
use crate::node::session::Status;
use crate::time::{Mono, Now};
use crate::wire::FeedStatus;

impl Exchange {
    pub(in crate::node::sequencer) fn describe(&self, now: Now, status: &mut Status) {
        let phase = match self.link.state() {
            "ready" if self.live_since.is_some() && self.pulse.is_silent() => "mute",
            "ready" if self.feed_status(now) == FeedStatus::Current => "live",
            "ready" if self.is_live(now) => "ended",
            "ready" if now.mono.since(self.last_heard) > self.silence_max => "silent",
            "ready" => "behind",
            "away" if self.feed_status(now) == FeedStatus::Ended => "ended",
            _ if self.is_other_feed => "another feed",
            other => other,
        };
        let prefix = match self.venue() {
            Some(name) => format!("exchange.{name}"),
            None => "exchange".to_owned(),
        };
        status.text(prefix.clone(), phase);
        let age_ms = |at: Mono| i64::try_from(now.mono.since(at).as_millis()).unwrap_or(i64::MAX);
        let mut figure = |key: &str, value: i64| status.metric(format!("{prefix}.{key}"), value);
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        figure("silent_ms", age_ms(self.last_heard));
        figure("last_event_ms", self.last_event.map_or(-1, age_ms));
        figure("usual_ms", count(self.pulse.usual_ms()));
        figure("sessions", count(self.sessions));
        figure("resumes", count(self.resumes));
        figure("duplicates", count(self.duplicates));
        if self.venue().is_some() {
            figure("number", self.number.get().into());
            figure("upstream_seq", count(self.upstream_seq.get()));
        }
        self.link.describe(now, status);
        describe_breaker(&self.request_breaker, &self.requests, now, status);
    }

    /// Outcomes that were counted against the exchange.
    #[cfg(test)]
    pub(in crate::node::sequencer) fn failures(&self) -> u64 {
        let good = crate::breaker::OutcomeClass::Answered as usize;
        let of = |breaker: &crate::breaker::Breaker| {
            let counts = breaker.snapshot(Mono::default()).counts.by_class;
            counts
                .iter()
                .enumerate()
                .filter(|&(class, _)| class != good)
                .map(|(_, n)| *n)
                .sum::<u64>()
        };
        let of_session = self.link.breaker().map_or(0, of);
        of_session + of(&self.requests)
    }
}
