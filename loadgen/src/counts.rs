//! Counts of nanoseconds in the buckets that HdrHistogram puts them in, for the one place that records
//! tens of millions of values a second.
//!
//! It is not a histogram: it answers nothing. [`Counts::take`] turns it into the histogram that
//! recording each value there would have made; its recording is one shift and one addition, where the
//! library's also keeps minimum, maximum and total each time.

use hdrhistogram::Histogram;

use crate::limits::LATENCY_NS_MAX;
use crate::measure::histogram;

/// Buckets that one power of two is divided into, for three significant digits: values below twice as
/// many have a bucket each.
const HALF: usize = 1 << HALF_BITS;
const HALF_BITS: u32 = 10;
/// The bucket of the largest value is below this.
const BUCKETS: usize = place_of(LATENCY_NS_MAX) + 1;

/// How often each bucket was hit.
pub(crate) struct Counts {
    counts: Box<[u64]>,
    is_empty: bool,
}

impl Counts {
    pub(crate) fn new() -> Counts {
        Counts { counts: vec![0; BUCKETS].into_boxed_slice(), is_empty: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Counts a value; one above the bound counts as the bound.
    #[inline]
    pub(crate) fn record(&mut self, value: u64) {
        let place = place_of(value.clamp(1, LATENCY_NS_MAX));
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.is_empty = false;
    }

    /// What was counted since the last time, as a histogram.
    pub(crate) fn take(&mut self) -> Histogram<u64> {
        let mut histogram = histogram();
        for (place, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                histogram.saturating_record_n(value_of(place), std::mem::take(count));
            }
        }
        self.is_empty = true;
        histogram
    }
}

/// The bucket of a value that is not 0: the eleven highest bits, and how far they were shifted.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "eleven bits and a shift of at most 53")]
const fn place_of(value: u64) -> usize {
    let shift = (63 - value.leading_zeros()).saturating_sub(HALF_BITS);
    ((shift as usize) << HALF_BITS) + (value >> shift) as usize
}

/// The smallest value of a bucket.
const fn value_of(place: usize) -> u64 {
    if place < 2 * HALF {
        return place as u64;
    }
    let shift = (place >> HALF_BITS) - 1;
    ((place - (shift << HALF_BITS)) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_becomes_the_histogram_that_recording_one_by_one_makes() {
        let (mut counts, mut one_by_one) = (Counts::new(), histogram());
        let mut random = pregao::random::Random::new(5);
        let edges = (0..40).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let drawn: Vec<u64> = (0..20_000).map(|n| random.below(1 << (n % 37 + 1))).collect();
        for value in edges.chain(drawn).chain([u64::MAX]) {
            counts.record(value);
            one_by_one.saturating_record(value.clamp(1, LATENCY_NS_MAX));
        }
        assert!(!counts.is_empty());
        // Thousands of buckets: not to be printed.
        assert!(counts.take() == one_by_one);
        assert!(counts.is_empty() && counts.take().is_empty());
    }

    #[test]
    fn a_bucket_begins_where_the_one_before_ends() {
        for place in 1..BUCKETS {
            assert_eq!(place_of(value_of(place)), place);
            assert!(place < 2 || place_of(value_of(place) - 1) == place - 1);
        }
    }
}
