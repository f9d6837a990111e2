//! Waits between attempts: growing, capped, and jittered so that thousands of clients that lost the
//! same node do not come back in the same instant.
//!
//! # Decisions
//!
//! * A client that lost the broker waits a random part of a step, which is half a second at first and two
//!   seconds at most. Five thousand clients that lost it at the same instant are spread over the whole
//!   step.

use std::time::Duration;

use crate::random::Random;
use crate::time::nanos;

/// Exponential backoff with jitter over nearly the whole step: who lost the same node in the same instant
/// comes back at any moment of it. A wait is never shorter than a tenth of the step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    step: Duration,
    random: Random,
}

impl Backoff {
    /// Waits from `first` up to `longest`; `seed` makes the jitter of each client its own.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Backoff {
        Backoff { first, longest, step: first, random: Random::new(seed) }
    }

    /// The next wait: between a tenth of the step and all of it. The step then doubles.
    pub fn next_wait(&mut self) -> Duration {
        let step = nanos(self.step);
        self.step = (self.step * 2).min(self.longest);
        Duration::from_nanos(self.random.between(step / 10, step))
    }

    /// It worked: the next wait is a first one again.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_below_the_cap_and_start_over() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut backoff = Backoff::new(first, longest, 1);
        let waits: Vec<Duration> = (0..10).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= first && waits[0] >= first / 10);
        assert!(waits.iter().all(|&wait| wait <= longest));
        assert!(waits.iter().any(|&wait| wait > longest / 2), "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
