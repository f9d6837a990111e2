//! The sliding window: how many of the recent calls failed or were slow.
//!
//! All memory is taken when the window is made. Sums are kept up to date with every call, so judging
//! costs nothing. Not a histogram: it knows three answers, not latencies.

use crate::time::Mono;

/// Width of one step of a time-based window.
const BUCKET_NS: u64 = 100_000_000;

/// Steps in a second.
const BUCKETS_PER_SECOND: u32 = 10;

/// What one call was, for the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Good,
    Slow,
    Failed,
}

/// Calls of a window or of one step of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: u32,
    pub(super) slow: u32,
    pub(super) failed: u32,
}

impl Sums {
    fn add(&mut self, call: Call) {
        // A count-based window is bounded by its size; in a time-based one 4 billion calls saturate.
        self.calls = self.calls.saturating_add(1);
        match call {
            Call::Good => {}
            Call::Slow => self.slow = self.slow.saturating_add(1),
            Call::Failed => self.failed = self.failed.saturating_add(1),
        }
    }

    fn remove(&mut self, old: Sums) {
        self.calls = self.calls.saturating_sub(old.calls);
        self.slow = self.slow.saturating_sub(old.slow);
        self.failed = self.failed.saturating_sub(old.failed);
    }
}

/// Recent calls, by number or by time.
#[derive(Clone, Debug)]
pub(super) enum Window {
    /// A ring of the last calls; `None` where none has been yet.
    Count { ring: Box<[Option<Call>]>, next: usize, sums: Sums },
    /// A ring of steps; `newest` is the number of the latest step since time zero.
    Time { ring: Box<[Sums]>, newest: u64, sums: Sums },
}

impl Window {
    pub(super) fn of_calls(size: u32) -> Window {
        let ring = vec![None; size as usize].into_boxed_slice();
        Window::Count { ring, next: 0, sums: Sums::default() }
    }

    pub(super) fn of_seconds(seconds: u32) -> Window {
        let buckets = seconds.saturating_mul(BUCKETS_PER_SECOND) as usize;
        let ring = vec![Sums::default(); buckets].into_boxed_slice();
        Window::Time { ring, newest: 0, sums: Sums::default() }
    }

    /// Forgets every call.
    pub(super) fn clear(&mut self) {
        match self {
            Window::Count { ring, next, sums } => {
                ring.fill(None);
                *next = 0;
                *sums = Sums::default();
            }
            Window::Time { ring, sums, .. } => {
                ring.fill(Sums::default());
                *sums = Sums::default();
            }
        }
    }

    /// Takes a call in and gives the sums that include it.
    pub(super) fn push(&mut self, call: Call, now: Mono) -> Sums {
        match self {
            Window::Count { ring, next, sums } => {
                if let Some(place) = ring.get_mut(*next) {
                    if let Some(old) = place.replace(call) {
                        let mut one = Sums::default();
                        one.add(old);
                        sums.remove(one);
                    }
                    sums.add(call);
                }
                *next += 1;
                if *next >= ring.len() {
                    *next = 0;
                }
                *sums
            }
            Window::Time { ring, newest, sums } => {
                let step = now.0 / BUCKET_NS;
                let passed = step.saturating_sub(*newest).min(ring.len() as u64);
                for ago in 0..passed {
                    let bucket = bucket_mut(ring, step - ago);
                    sums.remove(*bucket);
                    *bucket = Sums::default();
                }
                *newest = step.max(*newest);
                let bucket = bucket_mut(ring, *newest);
                bucket.add(call);
                sums.add(call);
                *sums
            }
        }
    }

    /// The sums as they are at `now`, without what has become too old.
    pub(super) fn sums(&self, now: Mono) -> Sums {
        match self {
            Window::Count { sums, .. } => *sums,
            Window::Time { ring, newest, sums } => {
                let step = now.0 / BUCKET_NS;
                let passed = step.saturating_sub(*newest).min(ring.len() as u64);
                let mut left = *sums;
                for ago in 0..passed {
                    left.remove(ring[place(ring.len(), step - ago)]);
                }
                left
            }
        }
    }
}

/// Where the step with this number stands.
fn place(buckets: usize, step: u64) -> usize {
    usize::try_from(step % buckets as u64).expect("a remainder of a usize fits a usize")
}

fn bucket_mut(ring: &mut [Sums], step: u64) -> &mut Sums {
    &mut ring[place(ring.len(), step)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn the_oldest_call_leaves_a_full_ring() {
        let mut window = Window::of_calls(3);
        window.push(Call::Failed, Mono(0));
        window.push(Call::Slow, Mono(0));
        window.push(Call::Good, Mono(0));
        assert_eq!(window.sums(Mono(0)), Sums { calls: 3, slow: 1, failed: 1 });
        assert_eq!(window.push(Call::Good, Mono(0)), Sums { calls: 3, slow: 1, failed: 0 });
        assert_eq!(window.push(Call::Good, Mono(0)), Sums { calls: 3, slow: 0, failed: 0 });
        window.clear();
        assert_eq!(window.sums(Mono(0)), Sums::default());
    }

    #[test]
    fn old_seconds_leave_a_time_window_even_when_nobody_calls() {
        let mut window = Window::of_seconds(1);
        window.push(Call::Failed, at_ms(50));
        window.push(Call::Failed, at_ms(250));
        assert_eq!(window.sums(at_ms(999)).failed, 2);
        assert_eq!(window.sums(at_ms(1_000)).failed, 1, "the step 0..100 ms is out");
        assert_eq!(window.sums(at_ms(1_200)).failed, 0);
        assert_eq!(window.push(Call::Good, at_ms(1_100)), Sums { calls: 2, slow: 0, failed: 1 });
        assert_eq!(window.push(Call::Slow, at_ms(900_000)), Sums { calls: 1, slow: 1, failed: 0 });
    }

    #[test]
    fn a_time_window_agrees_with_a_plain_count() {
        let mut random = crate::random::Random::new(3);
        let mut window = Window::of_seconds(2);
        let mut all: Vec<(u64, Call)> = Vec::new();
        let mut now = 0;
        for _ in 0..if cfg!(miri) { 100 } else { 5_000 } {
            now += random.between(0, 300);
            let call = [Call::Good, Call::Slow, Call::Failed]
                [usize::try_from(random.between(0, 2)).unwrap()];
            all.push((now, call));
            let got = window.push(call, at_ms(now));
            let mut want = Sums::default();
            for (at, call) in &all {
                if at / 100 + 20 > now / 100 {
                    want.add(*call);
                }
            }
            assert_eq!(got, want, "at {now} ms");
            assert_eq!(window.sums(at_ms(now)), want);
        }
    }
}
