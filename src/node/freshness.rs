//! How long ago a follower of core had all that core had. The follower asks core now and then, and core answers
//! in the stream, behind all that it had when the question came. Whoever has read the answer had, when it asked,
//! all that there was.
//!
//! # Decisions
//!
//! * The follower judges by its own clock, from its own question on. So a follower that stood still and then reads
//!   an old answer does not take it for new.
//! * The age is a time and no number of frames. A quiet market makes nobody old, and a busy one nobody old at once.
//! * A stream that is far behind is not hidden by a connection that is alive: the answer waits in the stream.

use std::time::Duration;

use crate::limits;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{Ended, FeedStatus, Flags, Heartbeat, U16, U32, U64};

/// The token of our question. One is open at a time on a connection, so all may have the same.
const PROBE_TOKEN: u32 = 1;

/// What a follower knows of how current it is.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// Core can be asked.
    is_connected: bool,
    /// When the question was sent that is not answered.
    asked: Option<Mono>,
    next_ask: Mono,
    /// It had all that core had then. `None`: it has not been so since it started.
    fresh_at: Option<Mono>,
}

impl Freshness {
    /// Core has connected.
    pub(crate) fn begin(&mut self, now: Now) {
        *self = Freshness {
            is_connected: true,
            asked: None,
            next_ask: now.mono,
            fresh_at: self.fresh_at,
        };
    }

    /// Core's connection has ended.
    pub(crate) fn end(&mut self) {
        *self = Freshness { fresh_at: self.fresh_at, ..Freshness::default() };
    }

    /// The question to send now.
    pub(crate) fn poll(&mut self, now: Now) -> Option<Heartbeat> {
        if self.next_due()? > now.mono {
            return None;
        }
        self.asked = Some(now.mono);
        self.next_ask = now.mono + limits::FRESHNESS_PROBE_EVERY;
        let (flags, token, sent_at) =
            (U16::new(Flags::MORE), U32::new(PROBE_TOKEN), U64::new(now.wall_ns));
        Some(Heartbeat { flags, token, sent_at, ..Heartbeat::default() })
    }

    /// A heartbeat of core's stream.
    pub(crate) fn note(&mut self, beat: &Heartbeat) {
        if let Some(asked) = self.asked.take_if(|_| is_answer(beat)) {
            self.fresh_at = Some(asked);
        }
    }

    /// The same, and what it says could not be taken in: core is asked again.
    pub(crate) fn miss(&mut self, beat: &Heartbeat) {
        self.asked = self.asked.filter(|_| !is_answer(beat));
    }

    /// What it was told was not core's word.
    pub(crate) fn forget(&mut self) {
        self.fresh_at = None;
    }

    /// How long ago it had all that core had; `None`: not since it started.
    pub(crate) fn behind(&self, now: Now) -> Option<Duration> {
        let is_taken_for_fed = !self.is_connected && is_planted(Bug::FreshWithoutFeeder);
        self.fresh_at.map(|at| if is_taken_for_fed { Duration::ZERO } else { now.mono.since(at) })
    }

    /// The same, as an END states it: 0 as long as a question may just be on its way.
    pub(crate) fn behind_ms(&self, now: Now) -> u32 {
        let is_usual = |age: &Duration| *age <= limits::FRESHNESS_USUAL_MAX;
        match self.behind(now) {
            Some(age) if is_usual(&age) => 0,
            age => Ended::behind_ms_of(age),
        }
    }

    /// The same beside the place at which it is, in one word.
    pub(crate) fn status(&self, now: Now) -> FeedStatus {
        if self.behind_ms(now) == 0 { FeedStatus::Current } else { FeedStatus::Stale }
    }

    /// The same as a figure of a status; -1: not known.
    pub(crate) fn figure_ms(&self, now: Now) -> i64 {
        self.behind(now).map_or(-1, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    /// When [`Freshness::poll`] has something.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        (self.is_connected && self.asked.is_none()).then_some(self.next_ask)
    }
}

/// Whether it answers our question.
fn is_answer(beat: &Heartbeat) -> bool {
    beat.flags.get() & Flags::MORE == 0 && beat.token.get() == PROBE_TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000_000), wall_ns: 0 }
    }

    fn answer() -> Heartbeat {
        Heartbeat { token: U32::new(PROBE_TOKEN), ..Heartbeat::default() }
    }

    #[test]
    fn it_is_as_old_as_the_question_that_was_answered() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.behind_ms(now(5)), Ended::BEHIND_UNKNOWN);
        assert!(freshness.poll(now(5)).is_none(), "nobody can be asked");
        freshness.begin(now(10));
        assert!(freshness.poll(now(10)).is_some());
        assert!(freshness.poll(now(5_000)).is_none(), "one at a time");
        assert_eq!(freshness.behind_ms(now(5_000)), Ended::BEHIND_UNKNOWN);
        freshness.note(&Heartbeat { token: U32::new(9), ..answer() });
        assert_eq!(freshness.behind(now(5_000)), None, "somebody else's answer");
        freshness.note(&answer());
        assert_eq!(freshness.behind(now(5_000)), Some(Duration::from_millis(4_990)));
        freshness.note(&answer());
        freshness.end();
        assert!(freshness.next_due().is_none());
        assert_eq!(freshness.behind(now(6_000)), Some(Duration::from_millis(5_990)));
    }

    #[test]
    fn the_figure_is_the_age_and_less_than_0_where_it_is_not_known() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.figure_ms(now(5)), -1);
        freshness.begin(now(10));
        assert!(freshness.poll(now(10)).is_some());
        freshness.note(&answer());
        assert_eq!(freshness.figure_ms(now(17)), 7);
    }

    #[test]
    fn who_is_asked_regularly_is_not_behind() {
        let mut freshness = Freshness::default();
        freshness.begin(now(0));
        for second in 0..10_u64 {
            let at = now(second * 1_000);
            assert!(freshness.poll(at).is_some());
            freshness.note(&answer());
            assert_eq!(freshness.behind_ms(now(second * 1_000 + 999)), 0);
        }
        assert_eq!(freshness.behind_ms(now(13_000)), 4_000);
    }
}
