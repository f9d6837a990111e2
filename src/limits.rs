//! Bounds of every queue, buffer and table: decided here before anything is allocated.

/// Calls that a count-based breaker window can hold; one byte each.
pub const BREAKER_WINDOW_CALLS_MAX: u32 = 10_000;

/// Seconds that a time-based breaker window can span; ten buckets of twelve bytes each.
pub const BREAKER_WINDOW_SECONDS_MAX: u32 = 600;

/// Breaker transitions kept for a node that does not fetch them; the oldest go first.
pub const BREAKER_TRANSITIONS_MAX: usize = 16;

/// Shards of one partition.
pub const SHARDS_MAX: u16 = 1_024;

/// Gathers in flight, answers that nobody fetched yet included.
pub const GATHERS_MAX: usize = 1_024;

/// Nodes in the plan of one gather.
pub const GATHER_LEAVES_MAX: usize = 64;

/// Frames that the leaves of one gather may send together: 2 MiB.
pub const GATHER_FRAMES_MAX: usize = 32_768;

/// Frames that all gathers together may hold: 64 MiB.
pub const GATHER_FRAMES_TOTAL_MAX: usize = 1 << 20;

/// Cancellations not fetched yet; beyond it the oldest are dropped, since they are a courtesy.
pub const GATHER_CANCELS_MAX: usize = 4_096;

/// Longest that a gather runs, whatever its query says, in microseconds.
pub const GATHER_DEADLINE_US_MAX: u32 = 60_000_000;

const _: () = assert!(GATHER_FRAMES_MAX <= GATHER_FRAMES_TOTAL_MAX);
