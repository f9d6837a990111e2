//! How fast a node has answered lately: a histogram of two windows for its quantiles, and a mean that
//! forgets, for choosing between nodes. Deterministic and of a fixed size. What it is not: a record of
//! failures, which say nothing about how fast an answer is.

use std::time::Duration;

use crate::limits::{LATENCY_SAMPLES_MIN, LATENCY_WINDOW};
use crate::time::{Mono, nanos};

/// Buckets: exact below 8 µs, then eight for each power of two, up to 2^32 µs.
const BUCKETS: usize = 240;
/// Samples between two looks for the quantile.
const REFRESH_EVERY: u32 = 32;

/// Latencies of one kind of question at one node.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    this_window: Vec<u32>,
    last_window: Vec<u32>,
    begun: Mono,
    /// Weighs each sample with an eighth.
    mean_ns: u64,
    sampled: Option<Mono>,
    p95: Option<Duration>,
    until_refresh: u32,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            this_window: vec![0; BUCKETS],
            last_window: vec![0; BUCKETS],
            begun: Mono::default(),
            mean_ns: 0,
            sampled: None,
            p95: None,
            until_refresh: 0,
        }
    }
}

fn bucket_of(us: u64) -> usize {
    let us = us.min(u64::from(u32::MAX));
    if us < 8 {
        return usize::try_from(us).unwrap_or(0);
    }
    let power = us.ilog2();
    let eighth = (us >> (power - 3)) & 7;
    (power as usize - 2) * 8 + usize::try_from(eighth).unwrap_or(0)
}

/// The largest latency of a bucket, in microseconds.
fn upper_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 8 {
        return bucket;
    }
    let (power, eighth) = (bucket / 8 + 2, bucket % 8);
    ((8 + eighth + 1) << (power - 3)) - 1
}

impl Latency {
    pub(super) fn note(&mut self, now: Mono, latency: Duration) {
        let age = now.since(self.begun);
        if age >= LATENCY_WINDOW {
            std::mem::swap(&mut self.this_window, &mut self.last_window);
            self.this_window.fill(0);
            if age >= LATENCY_WINDOW * 2 {
                self.last_window.fill(0);
            }
            self.begun = now;
            self.until_refresh = 0;
        }
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.this_window.get_mut(bucket_of(us)) {
            *count = count.saturating_add(1);
        }
        let ns = nanos(latency);
        self.mean_ns = match self.sampled {
            None => ns,
            Some(_) => self.mean_ns - self.mean_ns / 8 + ns / 8,
        };
        self.sampled = Some(now);
        match self.until_refresh.checked_sub(1) {
            Some(left) => self.until_refresh = left,
            None => {
                self.until_refresh = REFRESH_EVERY;
                self.p95 = self.quantile_95();
            }
        }
    }

    /// The latency that 19 of 20 answers did not exceed; `None` when too few are known.
    pub(super) fn p95(&self) -> Option<Duration> {
        self.p95
    }

    /// What to expect. Every second without an answer halves it, so that a node that was slow once is
    /// looked at again.
    pub(super) fn expected_ns(&self, now: Mono) -> u64 {
        let idle = self.sampled.map_or(0, |sampled| now.since(sampled).as_secs());
        self.mean_ns >> idle.min(63)
    }

    fn quantile_95(&self) -> Option<Duration> {
        let count = |bucket: usize| {
            let of = |window: &Vec<u32>| window.get(bucket).map_or(0, |count| u64::from(*count));
            of(&self.this_window) + of(&self.last_window)
        };
        let total: u64 = (0..BUCKETS).map(count).sum();
        if total < LATENCY_SAMPLES_MIN {
            return None;
        }
        let mut beyond = total / 20;
        for bucket in (0..BUCKETS).rev() {
            match beyond.checked_sub(count(bucket)) {
                Some(left) => beyond = left,
                None => return Some(Duration::from_micros(upper_us(bucket))),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_all_latencies_within_an_eighth() {
        let mut before = None;
        for bucket in 0..BUCKETS {
            let upper = upper_us(bucket);
            assert_eq!(bucket_of(upper), bucket);
            if let Some(before) = before {
                assert_eq!(bucket_of(before + 1), bucket, "no hole");
                assert!(upper - before <= (upper / 8).max(1), "{upper}");
            }
            before = Some(upper);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_quantile_is_that_of_the_samples_and_old_ones_leave() {
        let mut latency = Latency::default();
        let ms = |ms: u64| Mono(ms * 1_000_000);
        for n in 0..200 {
            let slow = n % 20 == 0;
            latency.note(ms(n), Duration::from_micros(if slow { 100_000 } else { 200 }));
        }
        let p95 = latency.quantile_95().unwrap();
        assert!((200..=230).contains(&p95.as_micros()), "{p95:?}");
        for n in 0..12 {
            latency.note(ms(300 + n), Duration::from_micros(100_000));
        }
        assert!(latency.quantile_95().unwrap() >= Duration::from_millis(100));
        let later = nanos(LATENCY_WINDOW) / 1_000_000 * 3;
        for n in 0..40 {
            latency.note(ms(later + n), Duration::from_micros(50));
        }
        assert!(latency.p95().unwrap() < Duration::from_micros(60));
    }

    #[test]
    fn a_few_answers_are_no_quantile_and_silence_is_forgotten() {
        let mut latency = Latency::default();
        latency.note(Mono(0), Duration::from_millis(8));
        assert_eq!(latency.quantile_95(), None);
        assert_eq!(latency.expected_ns(Mono(0)), 8_000_000);
        assert_eq!(latency.expected_ns(Mono(3_000_000_000)), 1_000_000);
    }
}
