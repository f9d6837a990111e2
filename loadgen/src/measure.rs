//! Latencies of one thread, and of all threads together.
//!
//! Each thread records into a histogram of its own and starts a fresh one every interval; the sum of
//! the intervals is the run, so every delivery is recorded once and the time line costs nothing more.

use std::time::Duration;

use hdrhistogram::Histogram;
use pregao::time::{Mono, nanos};

use crate::counts::Counts;
use crate::limits::{INTERVALS_MAX, LATENCY_NS_MAX, SKEW_MESSAGES_MAX};

/// A histogram of nanoseconds with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
    made.expect("the bounds are constants that the constructor takes")
}

/// When what is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// End of the warm-up.
    pub(crate) from: Mono,
    /// End of the run.
    pub(crate) to: Mono,
    /// The same as stamps: what was to be sent in between counts.
    pub(crate) from_stamp: u64,
    pub(crate) to_stamp: u64,
    /// Length of an interval of the time line.
    pub(crate) interval: Duration,
    /// One message in so many has its skew noted; a power of two.
    pub(crate) skew_stride: u64,
    /// Messages that may come.
    pub(crate) messages: u64,
}

impl Window {
    /// The interval length that keeps a run of this length within the bound.
    pub(crate) fn interval_of(duration: Duration) -> Duration {
        let least = if duration <= Duration::from_secs(5) { 100 } else { 1000 };
        Duration::from_millis(least).max(duration / INTERVALS_MAX)
    }

    /// The stride that keeps the noted messages within the bound.
    pub(crate) fn stride_of(messages: u64) -> u64 {
        messages.div_ceil(SKEW_MESSAGES_MAX).next_power_of_two()
    }

    fn index_of(&self, now: Mono) -> usize {
        let index = nanos(now.since(self.from)) / nanos(self.interval).max(1);
        usize::try_from(index).unwrap_or(usize::MAX).min(INTERVALS_MAX as usize)
    }
}

/// What one thread has measured.
pub(crate) struct Recorder {
    window: Window,
    intervals: Vec<(usize, Histogram<u64>)>,
    current: Counts,
    current_index: usize,
    service: Counts,
    skew: Vec<Span>,
}

/// First and last delivery of one message.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Mono,
    last: Mono,
}

impl Recorder {
    pub(crate) fn new(window: Window) -> Recorder {
        let noted = usize::try_from(window.messages / window.skew_stride + 1).unwrap_or(0);
        Recorder {
            window,
            intervals: Vec::new(),
            current: Counts::new(),
            current_index: 0,
            service: Counts::new(),
            skew: vec![Span { first: Mono(u64::MAX), last: Mono(0) }; noted],
        }
    }

    /// Called with each read's time, before its deliveries are recorded.
    pub(crate) fn turn(&mut self, now: Mono) {
        let index = self.window.index_of(now);
        if index != self.current_index {
            if !self.current.is_empty() {
                self.intervals.push((self.current_index, self.current.take()));
            }
            self.current_index = index;
        }
    }

    /// Whether a message that was to be sent then belongs to the measured part of the run.
    #[inline]
    pub(crate) fn is_measured(&self, intended: u64) -> bool {
        self.window.from_stamp <= intended && intended < self.window.to_stamp
    }

    /// One delivery.
    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.current.record(latency_ns);
    }

    /// The same, from the actual send.
    #[inline]
    pub(crate) fn record_service(&mut self, service_ns: u64) {
        self.service.record(service_ns);
    }

    /// The distance of the messages whose skew is noted; a power of two.
    pub(crate) fn skew_stride(&self) -> u64 {
        self.window.skew_stride
    }

    /// Notes when message `seq` (counted from 1) arrived somewhere.
    #[inline]
    pub(crate) fn note_skew(&mut self, seq: u64, now: Mono) {
        if seq & (self.window.skew_stride - 1) != 0 {
            return;
        }
        let place = usize::try_from(seq / self.window.skew_stride).unwrap_or(usize::MAX);
        if let Some(span) = self.skew.get_mut(place) {
            span.first = span.first.min(now);
            span.last = span.last.max(now);
        }
    }
}

/// All threads together.
pub(crate) struct Measured {
    /// From the intended send to the receive.
    pub(crate) latency: Histogram<u64>,
    /// From the actual send; empty where only one stamp is known.
    pub(crate) service: Histogram<u64>,
    /// From a message's first delivery to its last.
    pub(crate) skew: Histogram<u64>,
    /// The time line: offset of each interval from the end of the warm-up, and its latencies.
    pub(crate) intervals: Vec<(Duration, Histogram<u64>)>,
}

/// Puts the threads' recordings together.
pub(crate) fn merge(recorders: Vec<Recorder>) -> Measured {
    let mut measured = Measured {
        latency: histogram(),
        service: histogram(),
        skew: histogram(),
        intervals: Vec::new(),
    };
    let mut spans: Vec<Span> = Vec::new();
    let mut intervals: std::collections::BTreeMap<usize, Histogram<u64>> = Default::default();
    let mut length = Duration::ZERO;
    for mut recorder in recorders {
        length = recorder.window.interval;
        if !recorder.current.is_empty() {
            recorder.intervals.push((recorder.current_index, recorder.current.take()));
        }
        for (index, part) in recorder.intervals {
            // Adding fails only between histograms of different bounds, and these have the same.
            measured.latency += &part;
            match intervals.entry(index) {
                std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(part)),
                std::collections::btree_map::Entry::Occupied(mut place) => {
                    *place.get_mut() += &part;
                }
            }
        }
        measured.service += &recorder.service.take();
        if spans.is_empty() {
            spans = recorder.skew;
        } else {
            for (span, other) in spans.iter_mut().zip(&recorder.skew) {
                span.first = span.first.min(other.first);
                span.last = span.last.max(other.last);
            }
        }
    }
    for span in spans.iter().filter(|span| span.first <= span.last) {
        measured.skew.saturating_record(nanos(span.last.since(span.first)).max(1));
    }
    measured.intervals = intervals
        .into_iter()
        .map(|(index, part)| (length * u32::try_from(index).unwrap_or(u32::MAX), part))
        .collect();
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let second = Duration::from_secs(1);
        Window {
            from: Mono(nanos(second)),
            to: Mono(nanos(3 * second)),
            from_stamp: 100,
            to_stamp: 200,
            interval: second,
            skew_stride: 1,
            messages: 10,
        }
    }

    #[test]
    fn threads_are_added_interval_by_interval() {
        let mut recorders: Vec<Recorder> = (0..2).map(|_| Recorder::new(window())).collect();
        for (number, recorder) in (1_u64..).zip(&mut recorders) {
            for (at_ms, latency) in [(1_100, 1_000), (1_900, 2_000), (2_500, 9_000)] {
                let now = Mono(at_ms * 1_000_000);
                recorder.turn(now);
                recorder.record(latency * number);
                recorder.note_skew(at_ms / 1000, now + Duration::from_nanos(number * 500));
            }
        }
        let measured = merge(recorders);
        assert_eq!(measured.latency.len(), 6);
        let counts: Vec<(u64, u64)> =
            measured.intervals.iter().map(|(at, part)| (at.as_secs(), part.len())).collect();
        assert_eq!(counts, [(0, 4), (1, 2)]);
        assert_eq!(measured.skew.len(), 2);
        // Message 1 came twice to each thread, 800 ms apart; message 2 once, 500 ns apart.
        assert!(measured.skew.max() >= 800_000_000 && measured.skew.min() <= 500);
    }

    #[test]
    fn the_warm_up_and_the_tail_are_not_measured() {
        let recorder = Recorder::new(window());
        assert!(!recorder.is_measured(99) && recorder.is_measured(100));
        assert!(recorder.is_measured(199) && !recorder.is_measured(200));
    }

    #[test]
    fn a_long_run_keeps_its_bounds() {
        let day = Duration::from_hours(24);
        assert!(day.as_nanos() / Window::interval_of(day).as_nanos() <= u128::from(INTERVALS_MAX));
        for messages in [1, 5, SKEW_MESSAGES_MAX, SKEW_MESSAGES_MAX + 1, u64::MAX / 4] {
            let stride = Window::stride_of(messages);
            assert!(stride.is_power_of_two() && messages / stride <= SKEW_MESSAGES_MAX);
        }
        let mut recorder = Recorder::new(window());
        recorder.note_skew(u64::MAX, Mono(1));
        recorder.record(u64::MAX);
        assert_eq!(merge(vec![recorder]).latency.len(), 1, "a value above the bound still counts");
    }
}
