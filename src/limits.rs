//! Every bound of the system in one place, with the reason for its size.

use std::time::Duration;

/// Instruments of one source. The frame's field has 24 bits; this is what the tables are sized for.
pub const INSTRUMENTS_MAX: usize = 65_536;

/// Events of one tape and of one schedule. At 64 bytes a frame and 8 an offset, a full schedule
/// takes 1.1 GiB; a day of one exchange's most active shares stays well below.
pub const TAPE_EVENTS_MAX: usize = 16 << 20;

/// Bytes that one tape may have after decompression: the event bound in the largest record that
/// the readers know (88 bytes), so that a compressed bomb ends with an error and not with the disk.
pub const TAPE_BYTES_MAX: u64 = 88 * TAPE_EVENTS_MAX as u64;

/// Bytes of a DBN file's metadata, which are read at once. Room for 100,000 symbol mappings.
pub const TAPE_METADATA_BYTES_MAX: u32 = 32 << 20;

/// From a tape's first event to its last. A damaged time field shows as an error, not as a replay
/// that waits for years.
pub const TAPE_SPAN_MAX: Duration = Duration::from_hours(24 * 400);

/// Tapes that one schedule merges.
pub const TAPES_MAX: usize = 256;

/// Longest wait that the exchange's misbehaviour may be configured with.
pub const CHAOS_WAIT_MAX: Duration = Duration::from_hours(1);

const _: () = assert!(INSTRUMENTS_MAX <= 1 << 24);
const _: () = assert!(TAPE_EVENTS_MAX + INSTRUMENTS_MAX <= u32::MAX as usize);
