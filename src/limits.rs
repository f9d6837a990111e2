//! Every bound of the system, in one place, with its reason.

use std::time::Duration;

/// Records of a log segment unless configured: 64 MiB of records.
pub const SEGMENT_RECORDS_DEFAULT: u64 = 1 << 20;

/// Fewest records of a segment: its first mark, a mark with the frame it speaks of, and the slot
/// kept back for the mark that ends it.
pub const SEGMENT_RECORDS_MIN: u64 = 4;

/// Most records of a segment (4 GiB), so that every offset in one fits any 64-bit `usize` with room.
pub const SEGMENT_RECORDS_MAX: u64 = 1 << 26;

/// Most segments of one log. Each is one mapping, and Linux allows a process 65,530 of them.
pub const SEGMENTS_MAX: usize = 16_384;

/// Most damaged ranges that recovery lists one by one; further ones widen the last.
pub const DAMAGED_RANGES_MAX: usize = 1_024;

/// Jobs that may wait for the storage thread. A log has at most two syncs, one new segment and one
/// removal and one touching under way, so a full queue means that this bound is broken.
pub const STORAGE_JOBS_MAX: usize = 16;

/// How much of a segment is made present in memory at a time, ahead of the stores. Touched pages are
/// dirty, and the next sync writes them, so this is not the whole segment; it is a few milliseconds of
/// the highest rate, which is what touching as much takes.
pub const SEGMENT_TOUCH_BYTES: usize = 4 << 20;

/// How long a log without space waits before it asks for a new segment again.
pub const SPACE_RETRY_WAIT: Duration = Duration::from_secs(1);

const _: () = assert!(SEGMENT_RECORDS_MIN <= SEGMENT_RECORDS_DEFAULT);
const _: () = assert!(SEGMENT_RECORDS_DEFAULT <= SEGMENT_RECORDS_MAX);
const _: () = assert!(STORAGE_JOBS_MAX >= 5);
