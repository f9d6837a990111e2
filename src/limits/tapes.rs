//! Bounds of recorded tapes.

use std::time::Duration;

/// Events of one tape and of one schedule. At 64 bytes a frame, 8 an offset and 8 an identity, a full schedule
/// takes 1.25 GiB; a day of one exchange's most active shares stays well below. While several streams tell of one
/// instrument, its events are remembered meanwhile, in some 100 bytes each.
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
/// Frames of a journal that a reader of the past asks core for at once.
pub const PAST_PIECE_FRAMES: u64 = 4_096;
/// What core may take to answer it. Its journal is sent behind everything that is live.
pub const PAST_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one line of text that tells an event.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Names of what is left out of lines that are told one by one: kinds, columns, measurements.
pub const LINE_NAMES_MAX: usize = 32;
