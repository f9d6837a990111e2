//! Every bound of the system, decided before anything is built on it.

use std::time::Duration;

use crate::wire::FRAME_BYTES;

/// What may wait to be sent to one peer outside a ring.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Log lines and wishes that a node may queue within one turn before log lines are dropped.
pub const ACTIONS_MAX: usize = 4096;
/// How often silence is looked for.
pub const LINK_TICK: Duration = Duration::from_secs(1);
/// We greet a peer that we sent nothing to for this long.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// A peer that said nothing for this long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Connections accepted in one turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Bytes read from one connection in one turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Bytes written to one connection in one turn.
pub const WRITE_BYTES_PER_TURN_MAX: usize = 1024 * 1024;
/// Connections that one process keeps at once, below the usual descriptor limit.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Readiness events taken from the kernel in one turn.
pub const EVENTS_PER_TURN_MAX: usize = 4096;
/// Connections that may wait in the kernel to be accepted.
pub const LISTEN_BACKLOG: i32 = 4096;
/// How long a closed connection is still read, so that its peer can read why.
pub const LINGER_MAX: Duration = Duration::from_secs(1);
/// How long accepting pauses when descriptors have run out.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a node may take to stop before it is ended as it stands.
pub const STOP_MAX: Duration = Duration::from_secs(3);

const _: () = {
    assert!(OUTBOX_BYTES_MAX.is_multiple_of(FRAME_BYTES));
    assert!(READ_BYTES_PER_TURN_MAX.is_multiple_of(FRAME_BYTES));
    assert!(HEARTBEAT_EVERY.as_secs() * 2 < SILENCE_MAX.as_secs());
};

/// Instruments of one source.
pub const INSTRUMENTS_MAX: usize = 65_536;
/// Sources (publishers with a sequence of their own) of one broker.
pub const SOURCES_MAX: usize = 8;
/// How long a new connection may take to say what it wants.
pub const GREETING_MAX: Duration = Duration::from_secs(5);
/// Patterns in one subscription.
pub const PATTERNS_MAX: usize = 1024;
/// Frames gathered for one connection before the kernel is asked to take them.
pub const FILL_FRAMES_MAX: usize = 1024;
/// Log lines about refused peers per tick; the rest is counted.
pub const REFUSALS_LOGGED_PER_TICK_MAX: u64 = 5;
/// Shortest interval of a conflated subscription.
pub const CONFLATE_MIN: Duration = Duration::from_millis(1);
/// Longest interval of a conflated subscription.
pub const CONFLATE_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(FILL_FRAMES_MAX * FRAME_BYTES * 2 <= OUTBOX_BYTES_MAX);

/// First wait of a client that lost its node.
pub const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait of a client that lost its node.
pub const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a client waits for a connection and the first answer on it.
pub const CLIENT_CONNECT_MAX: Duration = Duration::from_secs(2);
/// What an answer may need to travel after its deadline.
pub const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// Calls that a count-based breaker window can hold; one byte each.
pub const BREAKER_WINDOW_CALLS_MAX: u32 = 10_000;

/// Seconds that a time-based breaker window can span; ten buckets of twelve bytes each.
pub const BREAKER_WINDOW_SECONDS_MAX: u32 = 600;

/// Breaker transitions kept for a node that does not fetch them; the oldest go first.
pub const BREAKER_TRANSITIONS_MAX: usize = 16;

/// Shards of one partition.
pub const SHARDS_MAX: u16 = 1_024;

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

/// Frames that the exchange still holds of a synthetic market, 4 MiB of them. A tape is held whole.
pub const EXCHANGE_WINDOW_FRAMES: usize = 65_536;
/// Events that a synthetic market makes in one turn.
pub const EXCHANGE_EVENTS_PER_TURN_MAX: usize = 16_384;
/// How far a paced synthetic market may be behind its clock, at least, before it skips.
pub const EXCHANGE_LAG_MIN: Duration = Duration::from_secs(1);
/// How many frames ahead a consumer may send the market by wanting what is not due yet. A synthetic
/// market has to make them all, which takes some seconds.
pub const EXCHANGE_FORWARD_FRAMES_MAX: u64 = 1 << 27;
/// Answers that the exchange holds back for one connection.
pub const EXCHANGE_ANSWERS_PENDING_MAX: usize = 64;

// A consumer that reads as fast as the market is made must never be lapped.
const _: () = assert!(EXCHANGE_EVENTS_PER_TURN_MAX * 2 <= EXCHANGE_WINDOW_FRAMES);
const _: () = assert!(FILL_FRAMES_MAX <= EXCHANGE_EVENTS_PER_TURN_MAX);
