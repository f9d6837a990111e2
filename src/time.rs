//! Time as the machines see it: two plain numbers, passed in.
//!
//! Decisions (deadlines, waits) use [`Mono`], which never goes back. The wall clock only stamps log lines, and says
//! where a [`SteadyTime`] begins, from which receive times and ages come. [`Clock`] is the one place that asks the
//! operating system.

mod steady;

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use steady::{ClockChange, Follow, SteadyTime};

/// A monotonic instant: nanoseconds since an arbitrary start that is fixed for one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, wait: Duration) -> Mono {
        Mono(self.0.saturating_add(nanos(wait)))
    }
}

/// The two clocks, read once per turn and handed to every machine of that turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For decisions.
    pub mono: Mono,
    /// Nanoseconds since the Unix epoch, UTC. May jump in either direction: nothing may be decided by it.
    pub wall_ns: u64,
}

/// Nanoseconds of a duration, saturating after 584 years.
#[must_use]
pub fn nanos(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the operating system's clocks. Only shells own one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose [`Mono`] counts from now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(nanos(self.start.elapsed())), wall_ns: nanos(wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_past_the_end_of_time_saturates() {
        assert_eq!(Mono(5) + Duration::MAX, Mono(u64::MAX));
        assert_eq!(Mono(3).since(Mono(9)), Duration::ZERO);
    }
}
