//! The run's own time: the wall clock as it was at the start, carried on by the monotonic one.
//!
//! Intended send times travel inside the frames as wall-clock nanoseconds. Reading the real wall
//! clock at both ends would put every step of it into the latencies, so both ends read this instead.

use std::time::Duration;

use pregao::time::{Clock, Mono, Now, nanos};

/// Maps monotonic time to the stamps in frames. Copied to every thread of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timebase {
    clock: Clock,
    start: Now,
}

impl Timebase {
    pub(crate) fn start() -> Timebase {
        let clock = Clock::start();
        Timebase { clock, start: clock.now() }
    }

    /// For decisions.
    pub(crate) fn mono(&self) -> Mono {
        self.clock.now().mono
    }

    /// The stamp of a moment.
    pub(crate) fn stamp(&self, at: Mono) -> u64 {
        self.start.wall_ns.saturating_add(nanos(at.since(self.start.mono)))
    }

    /// The real wall clock, for frames that another process has stamped.
    pub(crate) fn wall_ns(&self) -> u64 {
        self.clock.now().wall_ns
    }
}

/// Nanoseconds as fractional microseconds.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// A count per second of `span`.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}
