//! The market's clock: how far the feed has been released. It only converts; it reads no clock.

use std::time::Duration;

use crate::time::Mono;

/// How fast the market runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// So many thousandths of its own pace: 1000 is as it was, 10000 ten times as fast. With 0
    /// nothing flows but the definitions.
    Times {
        /// 1000 = once.
        thousandths: u64,
    },
    /// As fast as its consumers take it.
    Max,
}

/// Market time: nanoseconds since the market began, as far as they have passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarketClock {
    speed: Speed,
    /// When market time was `base_ns`.
    since: Mono,
    base_ns: u64,
}

impl MarketClock {
    pub(crate) fn new(speed: Speed, now: Mono) -> MarketClock {
        MarketClock { speed, since: now, base_ns: 0 }
    }

    /// Whether everything is due at once.
    pub(crate) fn is_max(&self) -> bool {
        self.speed == Speed::Max
    }

    /// Whether no event is ever due.
    pub(crate) fn is_standing(&self) -> bool {
        self.speed == Speed::Times { thousandths: 0 }
    }

    pub(crate) fn time_ns(&self, now: Mono) -> u64 {
        let Speed::Times { thousandths } = self.speed else { return u64::MAX };
        let elapsed = u128::from(now.0.saturating_sub(self.since.0));
        let passed = elapsed * u128::from(thousandths) / 1_000;
        self.base_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Makes it `time_ns` now, unless it is later already.
    pub(crate) fn jump_to(&mut self, now: Mono, time_ns: u64) {
        if time_ns > self.time_ns(now) {
            self.since = now;
            self.base_ns = time_ns;
        }
    }

    /// The first moment at which [`MarketClock::time_ns`] is at least `time_ns`; none where time
    /// stands still or does not count.
    pub(crate) fn due(&self, time_ns: u64) -> Option<Mono> {
        let Speed::Times { thousandths: thousandths @ 1.. } = self.speed else { return None };
        let ahead = u128::from(time_ns.saturating_sub(self.base_ns)) * 1_000;
        let wait = ahead.div_ceil(u128::from(thousandths));
        Some(self.since + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_stands_or_does_not_count_is_never_waited_for() {
        let standing = MarketClock::new(Speed::Times { thousandths: 0 }, Mono(5));
        assert_eq!((standing.time_ns(Mono(u64::MAX)), standing.due(1)), (0, None));
        let max = MarketClock::new(Speed::Max, Mono(5));
        assert_eq!((max.time_ns(Mono(5)), max.due(1)), (u64::MAX, None));
    }

    #[test]
    fn a_jump_goes_forward_only() {
        let mut clock = MarketClock::new(Speed::Times { thousandths: 2_000 }, Mono(100));
        clock.jump_to(Mono(150), 99);
        assert_eq!(clock.time_ns(Mono(150)), 100);
        clock.jump_to(Mono(150), 500);
        assert_eq!(clock.time_ns(Mono(160)), 520);
    }

    proptest! {
        #[test]
        fn due_is_the_first_moment(
            thousandths in 1_u64.., start in 0_u64..1 << 40, time_ns in 0_u64..1 << 50,
        ) {
            let clock = MarketClock::new(Speed::Times { thousandths }, Mono(start));
            let due = clock.due(time_ns).unwrap();
            prop_assert!(clock.time_ns(due) >= time_ns);
            prop_assert!(due.0 == start || clock.time_ns(Mono(due.0 - 1)) < time_ns);
        }
    }
}
