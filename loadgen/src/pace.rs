//! Open-loop pacing: when each message is due, whatever became of the ones before.
//!
//! Due times are arithmetic on the message's number, so they do not drift, and a late message does
//! not move the ones behind it (no coordinated omission).

use std::time::Duration;

use pregao::time::{Mono, nanos};

const SECOND_NS: u128 = 1_000_000_000;

/// A schedule of `total` messages at `rate` a second from `start` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    start: Mono,
    rate: u64,
    total: u64,
}

impl Pacer {
    /// A schedule over `span`; at least one message.
    pub(crate) fn new(start: Mono, rate: u64, span: Duration) -> Pacer {
        let rate = rate.max(1);
        let total = u128::from(nanos(span)) * u128::from(rate) / SECOND_NS;
        Pacer { start, rate, total: u64::try_from(total).unwrap_or(u64::MAX).max(1) }
    }

    /// Messages of the whole run.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// When message `number` (from 0) is due.
    pub(crate) fn due_at(&self, number: u64) -> Mono {
        let offset = u128::from(number) * SECOND_NS / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// How many messages are due by `now`.
    pub(crate) fn due_by(&self, now: Mono) -> u64 {
        if now < self.start {
            return 0;
        }
        let elapsed = u128::from(nanos(now.since(self.start)));
        // Message k is due at k/rate rounded down, so by `elapsed` when k < (elapsed + 1) x rate: that
        // many are due, rounded up.
        let due = ((elapsed + 1) * u128::from(self.rate)).div_ceil(SECOND_NS);
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(1_000);

    #[test]
    fn a_message_is_due_at_its_time_and_not_a_nanosecond_before() {
        for rate in [1, 3, 7, 1_000, 999_999, 1_000_000_000, 3_000_000_000] {
            let pacer = Pacer::new(START, rate, Duration::from_secs(2));
            for number in [0, 1, 2, 3, 10, 1_000] {
                if number >= pacer.total() {
                    continue;
                }
                let due = pacer.due_at(number);
                assert!(pacer.due_by(due) > number, "rate {rate}, message {number}");
                if due > START {
                    assert!(pacer.due_by(Mono(due.0 - 1)) <= number, "rate {rate}, {number} early");
                }
            }
        }
    }

    #[test]
    fn a_stall_moves_no_due_time() {
        let pacer = Pacer::new(START, 1_000, Duration::from_secs(1));
        let after_stall = START + Duration::from_millis(500);
        assert_eq!(pacer.due_by(after_stall), 501, "everything missed is due at once");
        assert_eq!(pacer.due_at(7), START + Duration::from_millis(7));
    }

    #[test]
    fn the_schedule_ends() {
        let pacer = Pacer::new(START, 10, Duration::from_millis(950));
        assert_eq!(pacer.total(), 9);
        assert_eq!(pacer.due_by(Mono(u64::MAX)), 9);
        assert_eq!(pacer.due_by(Mono(0)), 0);
        assert_eq!(Pacer::new(START, 1, Duration::ZERO).total(), 1);
    }

    #[test]
    fn hours_at_a_high_rate_do_not_drift() {
        let pacer = Pacer::new(Mono(0), 3, Duration::from_hours(100));
        assert_eq!(pacer.due_at(3 * 3_600 * 99), Mono(99 * 3_600 * 1_000_000_000));
    }
}
