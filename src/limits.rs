//! Bounds of every queue, buffer and table: decided here before anything is allocated.

/// Calls that a count-based breaker window can hold; one byte each.
pub const BREAKER_WINDOW_CALLS_MAX: u32 = 10_000;

/// Seconds that a time-based breaker window can span; ten buckets of twelve bytes each.
pub const BREAKER_WINDOW_SECONDS_MAX: u32 = 600;

/// Breaker transitions kept for a node that does not fetch them; the oldest go first.
pub const BREAKER_TRANSITIONS_MAX: usize = 16;

/// Shards of one partition.
pub const SHARDS_MAX: u16 = 1_024;
