//! Whether the publisher of a source is still there. A process that was stopped, or a network that is cut, keeps its
//! connection; and in a quiet market nothing comes from a healthy one either. So the broker asks.
//!
//! # Decisions
//!
//! * Silence is measured from a question of ours. A broker that stood still itself asks first, and judges then.
//! * A publisher that has never answered is not judged: it may not read what it is sent. Such a one is missed after
//!   45 s, as every peer is.

use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{Flags, Heartbeat, U16, U32, U64};

/// The token of our question. One is open at a time.
const PROBE_TOKEN: u32 = 1;

/// What is known of the life of one publisher.
#[derive(Debug, Default)]
pub(super) struct PublisherLife {
    heard: Mono,
    /// When it was asked, if nothing has come since.
    asked: Option<Mono>,
    was_asked: bool,
    has_answered: bool,
    is_silent: bool,
}

impl PublisherLife {
    /// It has just come.
    pub(super) fn new(now: Now) -> PublisherLife {
        PublisherLife { heard: now.mono, ..PublisherLife::default() }
    }

    /// Something came from it, or it is not read at present.
    pub(super) fn note_heard(&mut self, now: Now) {
        self.heard = now.mono;
        self.asked = None;
    }

    pub(super) fn note_heartbeat(&mut self, beat: &Heartbeat) {
        let is_answer = beat.flags.get() & Flags::MORE == 0;
        self.has_answered |= is_answer && beat.token.get() == PROBE_TOKEN;
    }

    /// The question to send now.
    pub(super) fn poll(&mut self, now: Now) -> Option<Heartbeat> {
        let is_quiet = now.mono.since(self.heard) >= limits::PUBLISHER_QUIET_MAX;
        if self.asked.is_some() || !is_quiet && self.was_asked {
            return None;
        }
        self.asked = Some(now.mono);
        self.was_asked = true;
        let (flags, token, sent_at) =
            (U16::new(Flags::MORE), U32::new(PROBE_TOKEN), U64::new(now.wall_ns));
        Some(Heartbeat { flags, token, sent_at, ..Heartbeat::default() })
    }

    /// Looks whether it is silent. Whether that has changed.
    pub(super) fn check(&mut self, now: Now) -> bool {
        let is_late = |asked: Mono| now.mono.since(asked) >= limits::PUBLISHER_ANSWER_MAX;
        let is_silent = self.has_answered && self.asked.is_some_and(is_late);
        std::mem::replace(&mut self.is_silent, is_silent) != is_silent
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// When there is something to do.
    pub(super) fn next_due(&self) -> Option<Mono> {
        match self.asked {
            None if !self.was_asked => Some(Mono::default()),
            None => Some(self.heard + limits::PUBLISHER_QUIET_MAX),
            Some(asked) if self.has_answered && !self.is_silent => {
                Some(asked + limits::PUBLISHER_ANSWER_MAX)
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000_000), wall_ns: 0 }
    }

    fn answered(life: &mut PublisherLife, ms: u64) {
        life.note_heard(now(ms));
        life.note_heartbeat(&Heartbeat { token: U32::new(PROBE_TOKEN), ..Heartbeat::default() });
    }

    #[test]
    fn who_does_not_answer_within_a_second_is_silent_until_it_speaks() {
        let mut life = PublisherLife::new(now(0));
        assert!(life.poll(now(0)).is_some(), "at once, to know whether it answers");
        answered(&mut life, 1);
        assert!(life.poll(now(500)).is_none());
        assert!(life.poll(now(501)).is_some());
        assert!(!life.check(now(1_000)));
        assert!(life.poll(now(1_000)).is_none(), "one at a time");
        assert!(life.check(now(1_001)) && life.is_silent());
        assert_eq!(life.next_due(), None, "nothing to do but to wait");
        life.note_heard(now(9_000));
        assert!(life.check(now(9_000)) && !life.is_silent());
    }

    #[test]
    fn who_never_answered_is_not_judged() {
        let mut life = PublisherLife::new(now(0));
        life.poll(now(0));
        assert!(!life.check(now(20_000)) && !life.is_silent());
        assert_eq!(life.next_due(), None);
    }

    #[test]
    fn a_broker_that_stood_still_asks_before_it_judges() {
        let mut life = PublisherLife::new(now(0));
        life.poll(now(0));
        answered(&mut life, 1);
        assert!(!life.check(now(30_000)));
        assert!(life.poll(now(30_000)).is_some());
        assert!(!life.check(now(30_499)));
        answered(&mut life, 30_499);
        assert!(!life.check(now(30_600)));
    }
}
