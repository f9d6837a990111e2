//! One query under way: whose it is, how its deadline is divided, and its parts. Not here: what moves it,
//! which is the machine's.

use std::time::Duration;

use super::GatherId;
use super::part::Part;
use crate::limits::GATHER_DEADLINE_US_MAX;
use crate::time::Mono;
use crate::wire::Query;

/// One query under way.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) asker: u64,
    pub(super) query: Query,
    /// Whether it is about more than one instrument: each is whole in one part.
    pub(super) is_list: bool,
    pub(super) begun: Mono,
    /// When the time of the leaves is over.
    pub(super) leaves_due: Mono,
    /// When the answer is made with what there is.
    pub(super) due: Mono,
    pub(super) parts: Vec<Part>,
    /// Parts that are not done.
    pub(super) open: usize,
    /// Frames held in all parts.
    pub(super) frames: usize,
}

/// Why a copy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    First,
    /// Another takes long.
    Hedge,
    /// Another failed.
    Retry,
    /// Another is silent.
    FailOver,
}

/// Where a question belongs: a gather, a part of it, an attempt of that.
pub(super) type Place = (GatherId, usize, usize);

/// A deadline divided: what the leaves get, and when the answer is made.
pub(super) struct Times {
    pub(super) leaf: Duration,
    pub(super) own: Duration,
}

impl Times {
    /// The leaves get all but a margin of a tenth, at least 2 ms, at most half: time to come back. The
    /// answer is made when half of the margin is left: time to go out, and for a timer that rounds up
    /// to 1 ms.
    pub(super) fn new(deadline_us: u32) -> Times {
        let all = deadline_us.min(GATHER_DEADLINE_US_MAX);
        let margin = (all / 10).max(2_000).min(all / 2);
        let from_micros = |us: u32| Duration::from_micros(u64::from(us));
        Times { leaf: from_micros(all - margin), own: from_micros(all - margin / 2) }
    }
}

/// Whole microseconds, saturated.
pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
