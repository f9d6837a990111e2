//! Bounds of what is told to a monitoring system.

/// Classes of a histogram, besides the one of what takes longer than the last limit.
pub const HISTOGRAM_CLASSES: usize = 10;
/// How long what is in each class takes at most, in microseconds.
pub const HISTOGRAM_LIMITS_US: [u64; HISTOGRAM_CLASSES] =
    [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000];

/// Connections at once to the address where one node tells its figures.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// Samples of one answer. A system of twelve nodes has about 2,000.
pub const METRICS_SAMPLES_MAX: usize = 20_000;
