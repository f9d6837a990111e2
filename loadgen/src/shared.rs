//! What the threads of one run tell each other: few words, each written once or counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};

use pregao::time::Mono;

use crate::check::Published;
use crate::measure::Window;

/// Seen by the main thread, the publisher and every receiver.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Set when all subscribers stand and the run's times are fixed.
    pub(crate) window: OnceLock<Window>,
    /// Set when the publisher is done; a run on the live market never sets it.
    pub(crate) published: OnceLock<Published>,
    /// The first measured `seq`, for runs whose sequence does not begin at 1.
    pub(crate) first_seq: OnceLock<u64>,
    /// Subscribers that are confirmed.
    pub(crate) confirmed: AtomicU64,
    /// Deliveries since the beginning, stalled and slow subscribers left out.
    pub(crate) delivered: AtomicU64,
    /// When the measured part ends, if it was told to end early.
    early_end: OnceLock<Mono>,
    /// Somebody failed: everybody ends.
    pub(crate) abort: AtomicBool,
}

impl Shared {
    /// The measured part ends now, and not when it was to.
    pub(crate) fn end_early(&self, now: Mono) {
        self.early_end.get_or_init(|| now);
    }

    /// Whether the measured part was told to end early, and that is over.
    pub(crate) fn has_ended_early(&self, now: Mono) -> bool {
        self.early_end.get().is_some_and(|end| now >= *end)
    }

    /// When the measured part ends.
    pub(crate) fn end_of(&self, window: &Window) -> Mono {
        self.early_end.get().copied().unwrap_or(window.to).min(window.to)
    }
}

/// Share of a span that a thread was running or waiting for a CPU, from the scheduler's own books.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BusyMark {
    busy_ns: Option<u64>,
}

impl BusyMark {
    /// The calling thread's mark.
    pub(crate) fn take() -> BusyMark {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut numbers = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        let busy_ns = numbers.next().zip(numbers.next()).map(|(run, wait)| run + wait);
        BusyMark { busy_ns }
    }

    /// Percent of `span_ns` since an earlier mark; `None` when the kernel keeps no books.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn percent_since(self, earlier: BusyMark, span_ns: u64) -> Option<f64> {
        let busy = self.busy_ns?.saturating_sub(earlier.busy_ns?);
        (span_ns > 0).then(|| busy as f64 * 100.0 / span_ns as f64)
    }
}
