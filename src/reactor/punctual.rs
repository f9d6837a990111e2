//! A timer of the kernel's for deadlines that a poll would sleep past: a poll counts in whole
//! milliseconds and rounds up, so what is due in 0.3 ms would be done after one or two.
//!
//! What it is not: the reactor's only clock. The poll keeps its own timeout, so a timer that could not
//! be set costs a millisecond and nothing else.
//!
//! # Decisions
//!
//! * Only the aggregator's reactor has this timer, because its hedges are due within a millisecond. The
//!   other nodes prefer fewer turns. It is set only for a deadline at most 10 ms away, and only if no
//!   earlier one is set.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::limits::PUNCTUAL_WAIT_MAX;
use crate::time::Mono;

pub(super) struct PunctualTimer {
    timer: OwnedFd,
    /// When it wakes the poll, as it was set last.
    expires_at: Option<Mono>,
}

impl PunctualTimer {
    /// Registered once. It is never read: setting it anew takes its count back, and each expiry is an
    /// edge of its own.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<PunctualTimer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(PunctualTimer { timer, expires_at: None })
    }

    /// Sees to it that the poll ends at this deadline, or before it. A timer that expires earlier is left
    /// as it is: under load one deadline follows the other, and to set it for each would be a call to
    /// the kernel in every turn.
    pub(super) fn arm(&mut self, now: Mono, at: Mono) {
        let wait = at.since(now);
        let expires_before = self.expires_at.is_some_and(|expires| expires > now && expires <= at);
        if wait.is_zero() || wait > PUNCTUAL_WAIT_MAX || expires_before {
            return;
        }
        let it_value = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval, it_value };
        let is_set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting).is_ok();
        self.expires_at = is_set.then_some(at);
    }
}

const _: () = assert!(PUNCTUAL_WAIT_MAX.as_secs() == 0, "the wait is told in nanoseconds only");
