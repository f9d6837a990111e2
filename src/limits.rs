//! Every bound of the system, decided in one place and before anything runs.

use std::time::Duration;

/// Most shards. Their names are the letters from `A` on.
pub const SHARDS_MAX: usize = 16;

/// Shortest and longest log segment in bytes. A segment is allocated whole when it is created.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What a segment's size is a multiple of: its header page.
pub const SEGMENT_BYTES_STEP: u64 = 4096;

/// Shortest and longest time between two syncs under `durability = "interval"`.
pub const SYNC_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// See [`SYNC_INTERVAL_MIN`].
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Fewest frames of the broker's ring. A power of two.
pub const RING_FRAMES_MIN: u32 = 64;
/// Most frames of the broker's ring: one GiB. A power of two.
pub const RING_FRAMES_MAX: u32 = 1 << 24;

/// Smallest and largest kernel send buffer of a subscriber; 0 leaves the kernel's own.
pub const SEND_BUFFER_BYTES_MIN: u32 = 4 * 1024;
/// See [`SEND_BUFFER_BYTES_MIN`].
pub const SEND_BUFFER_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Most subscribers that can be configured.
pub const SUBSCRIBERS_MAX: u32 = 100_000;

/// Shortest and longest deadline or heartbeat that can be configured.
pub const DEADLINE_MIN: Duration = Duration::from_millis(1);
/// See [`DEADLINE_MIN`].
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Most synthetic events a second.
pub const RATE_EVENTS_PER_S_MAX: u64 = 100_000_000;
/// Most tapes of one exchange.
pub const TAPES_MAX: usize = 256;
/// Longest chaos specification in bytes.
pub const CHAOS_BYTES_MAX: usize = 4096;

/// Slowest and fastest replay that is not `max`, in thousandths of real time.
pub const SPEED_THOUSANDTHS_MAX: u64 = 1_000_000_000;

/// Largest configuration file in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// First restart of a child waits this long; each further one twice as long.
pub const RESTART_WAIT_MIN: Duration = Duration::from_millis(200);
/// No restart waits longer.
pub const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);
/// A child that lived this long starts over at [`RESTART_WAIT_MIN`].
pub const RESTART_RESET_AFTER: Duration = Duration::from_secs(10);
/// Time that children have to stop by themselves.
pub const STOP_WAIT: Duration = Duration::from_secs(5);
/// Time that the kernel has to end children after SIGKILL. One that still stands is left behind.
pub const KILL_WAIT: Duration = Duration::from_secs(2);
/// How long `pregao stop` waits: the supervisor's own two waits and some.
pub const STOP_COMMAND_WAIT: Duration = Duration::from_secs(10);
/// Longest line taken from a child; the rest of the line is cut.
pub const CHILD_LINE_BYTES_MAX: usize = 4096;
/// Lines of children that wait for a slow terminal; more are counted and dropped.
pub const CHILD_LINES_QUEUED_MAX: usize = 4096;

/// Patterns of one subscription on the command line.
pub const PATTERNS_MAX: usize = 1024;
/// Symbols of one report.
pub const REPORT_SYMBOLS_MAX: usize = 256;
/// Rows of one report.
pub const REPORT_ROWS_MAX: u32 = 100_000;
/// Rows of a report that does not say.
pub const REPORT_ROWS_DEFAULT: u32 = 10;
/// Longest conflation interval.
pub const CONFLATE_MAX: Duration = Duration::from_secs(3600);
/// Longest bar in seconds.
pub const BAR_SECONDS_MAX: u32 = 86_400;
/// Instruments that a client remembers the names of; the frames of others show no symbol.
pub const SYMBOL_TABLE_INSTRUMENTS_MAX: usize = 1 << 20;

const _: () = {
    assert!(SHARDS_MAX <= 26, "shards are named by one letter");
    assert!(RING_FRAMES_MIN.is_power_of_two() && RING_FRAMES_MAX.is_power_of_two());
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(SEGMENT_BYTES_STEP));
    assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_STEP));
    assert!(STOP_COMMAND_WAIT.as_millis() > STOP_WAIT.as_millis() + KILL_WAIT.as_millis());
    assert!(RESTART_WAIT_MIN.as_millis() <= RESTART_WAIT_MAX.as_millis());
};
