//! Durations, counted in a few classes: how long something takes, without a list of all its times.
//!
//! The classes are the same everywhere, so that two histograms can be compared. The limits go from 10 µs to 1 s, each
//! about three times the one before. A histogram has no clock: whoever has measured notes the time.

use std::time::Duration;

use crate::limits::{HISTOGRAM_CLASSES, HISTOGRAM_LIMITS_US};

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By class; behind the last limit stands what took longer.
    counts: [u64; HISTOGRAM_CLASSES + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn note(&mut self, length: Duration) {
        self.note_ns(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The same, in nanoseconds.
    #[inline]
    pub fn note_ns(&mut self, ns: u64) {
        // Most are short, so the first limits decide.
        let class = HISTOGRAM_LIMITS_US.iter().position(|limit| ns <= limit * 1_000);
        self.counts[class.unwrap_or(HISTOGRAM_CLASSES)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_ns / 1_000
    }

    /// Each limit in microseconds, and how many took no longer than that.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut count = 0;
        HISTOGRAM_LIMITS_US.iter().zip(&self.counts).map(move |(limit_us, of_class)| {
            count += of_class;
            (*limit_us, count)
        })
    }

    /// Counts what another one has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_its_class_and_in_all_that_are_longer() {
        let mut histogram = Histogram::default();
        for ns in [0, 10_000, 10_001, 1_000_000_000, 1_000_000_001, u64::MAX] {
            histogram.note_ns(ns);
        }
        let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!((counts.first(), counts.get(1), counts.last()), (Some(&2), Some(&3), Some(&4)));
        assert!(counts.is_sorted());
        assert_eq!((histogram.count(), histogram.sum_us()), (6, u64::MAX / 1_000));
        let mut other = Histogram::default();
        other.note(Duration::from_millis(2));
        other.add(&histogram);
        assert_eq!((other.count(), other.sum_us()), (7, u64::MAX / 1_000));
        assert_eq!(other.cumulative().last(), Some((1_000_000, 5)));
    }

    #[test]
    fn the_limits_ascend() {
        assert!(HISTOGRAM_LIMITS_US.is_sorted());
    }
}
