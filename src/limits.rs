//! Every bound of the system, decided before anything is built on it.

mod checks;
mod descriptors;
mod gateway;
mod http;
mod metrics;
mod producers;
mod supervisor;
mod tapes;
mod watch;

pub use descriptors::*;
pub use gateway::*;
pub use http::*;
pub use metrics::*;
pub use producers::*;
pub use supervisor::*;
pub use tapes::*;
pub use watch::*;

use std::time::Duration;

use crate::wire::{ExchangeNumber, FRAME_BYTES, InstrumentIndex, Symbol};

/// What may wait to be sent to one peer outside a ring.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Log lines and wishes that a node may queue within one turn before log lines are dropped.
pub const ACTIONS_MAX: usize = 4096;
/// How often silence is looked for. A wake-up costs more than the look, and a quiet system should sleep.
pub const SILENCE_CHECK_EVERY: Duration = Duration::from_secs(2);
/// How often a follower gets a heartbeat of how far its stream has come, and local faults are logged, at most.
pub const PROGRESS_HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// We greet a peer that we sent nothing to for this long.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// Heartbeats that one turn begins to send, of those that are due: so many buffers they take at once.
pub const HEARTBEATS_PER_TURN_MAX: usize = 256;
/// A peer that said nothing for this long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A feeder or a publisher that was heard within this time lives, and nobody takes its place. One that was not is
/// asked, and loses its place to the next one that comes when it has not answered within this time.
pub const SIGN_OF_LIFE_WAIT: Duration = Duration::from_secs(2);

/// Connections accepted in one turn: some tenths of a millisecond, which whoever is live waits for.
pub const ACCEPTS_PER_TURN_MAX: usize = 8;
/// Closed connections freed in one turn: about as long.
pub const REAPS_PER_TURN_MAX: usize = 8;
/// Addresses that one node listens on.
pub const LISTENERS_MAX: usize = 16;
/// The longest beginning of a frame that may wait for its end.
pub const UNCONSUMED_FRAME_BYTES_MAX: usize = FRAME_BYTES - 1;
/// Bytes read from one connection in one turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Connections read in one turn, besides those that bring what is live.
pub const READS_PER_TURN_MAX: usize = 512;
/// Bytes read from all of them in one turn: a longest subscription takes four turns.
pub const READ_BYTES_OF_OTHERS_PER_TURN_MAX: usize = 16 * 1024;
/// Frames of bulk that a node makes in one turn, for all peers together: some 0.03 ms. Bulk is what can wait:
/// snapshots, conflated batches, replays. What the last piece looks at may cost as much again.
pub const BULK_FRAMES_PER_TURN_MAX: usize = 256;
/// The same in a shard, where bulk is the answers: as much as one turn writes to one connection.
pub const ANSWER_FRAMES_PER_TURN_MAX: usize = WRITE_BYTES_PER_TURN_MAX / FRAME_BYTES;
/// What a write of bulk costs besides its frames, in frames.
pub const BULK_FRAMES_PER_WRITE: usize = 16;
/// Records of a log, or frames of a ring, that one piece of bulk looks at.
pub const BULK_RECORDS_PER_PIECE_MAX: usize = 8_192;
/// Records that are looked at in the time in which one frame of bulk is made.
pub const RECORDS_PER_BULK_FRAME: usize = 16;
/// Records that are looked at where less than a frame of bulk is left for it.
const BULK_RECORDS_PER_PIECE_MIN: usize = 64;
/// The frames of one piece of bulk, and how many records it looks at, when a turn may still make so many frames.
#[must_use]
pub fn bulk_piece(frames_left: usize) -> (usize, usize) {
    let records = frames_left.saturating_mul(RECORDS_PER_BULK_FRAME);
    let looked = records.clamp(BULK_RECORDS_PER_PIECE_MIN, BULK_RECORDS_PER_PIECE_MAX);
    (frames_left.clamp(1, FILL_FRAMES_MAX), looked)
}
/// Steps in which patterns are looked up in one turn, each about one look-up in a table: some 0.03 ms.
pub const INTEREST_STEPS_PER_TURN_MAX: usize = 64;
/// Replays under way in core. Others wait in the order in which they were asked for.
pub const REPLAYS_MAX: usize = 1_024;
/// A replay that is not read for this long gives its place up to one that waits, and goes on when it is read.
pub const REPLAY_UNREAD_MAX: Duration = Duration::from_secs(1);
/// Bytes written to one connection in one turn.
pub const WRITE_BYTES_PER_TURN_MAX: usize = 1024 * 1024;
/// Connections that one process keeps at once, below the usual descriptor limit.
pub const CONNECTIONS_MAX: usize = 65_536;
/// A deadline that is no further away is kept by a timer of its own where a reactor is punctual. Beyond
/// it the millisecond that a poll may be late is a tenth at most.
pub const PUNCTUAL_WAIT_MAX: Duration = Duration::from_millis(10);
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
    assert!(READ_BYTES_OF_OTHERS_PER_TURN_MAX <= READ_BYTES_PER_TURN_MAX);
    assert!(HEARTBEAT_EVERY.as_secs() * 2 < SILENCE_MAX.as_secs());
    assert!(SIGN_OF_LIFE_WAIT.as_secs() * 2 < HEARTBEAT_EVERY.as_secs());
};

/// Instruments of one source.
pub const INSTRUMENTS_MAX: usize = 65_536;
/// Exchanges that a journal knows in its life: each has a number in the flags of frames.
pub const EXCHANGES_MAX: usize = ExchangeNumber::COUNT;
/// Instruments that are looked at for silence in one turn.
pub const SILENCE_LOOKS_MAX: usize = 16_384;
/// Changes of silence that are published in one turn.
pub const SILENCE_FRAMES_MAX: usize = 64;
/// Bytes of the name of an exchange, which is the venue of its instruments. A breaker's name has room for it.
pub const EXCHANGE_NAME_BYTES_MAX: usize = Symbol::VENUE_BYTES_MAX;
/// How far the port of an exchange is above that of the one before it in the configuration, unless it is configured.
pub const EXCHANGE_PORT_STEP: u16 = 100;
/// Sources (publishers with a sequence of their own) of one broker.
pub const SOURCES_MAX: usize = 8;
/// How long a new connection may take to say what it wants.
pub const GREETING_MAX: Duration = Duration::from_secs(5);
/// Patterns in one subscription.
pub const PATTERNS_MAX: usize = 1024;
/// Frames gathered for one connection before the kernel is asked to take them.
pub const FILL_FRAMES_MAX: usize = 1024;
/// How often a node says that other machines reach it and that it asks nobody who they are.
pub const INSECURE_TOLD_EVERY: Duration = Duration::from_hours(1);
/// Log lines about refused peers per tick; the rest is counted.
pub const REFUSALS_LOGGED_PER_TICK_MAX: u64 = 5;
/// Shortest interval of a conflated subscription.
pub const CONFLATE_MIN: Duration = Duration::from_millis(1);
/// Longest interval of a conflated subscription.
pub const CONFLATE_MAX: Duration = Duration::from_secs(3600);

const _: () = assert!(FILL_FRAMES_MAX * FRAME_BYTES * 2 <= OUTBOX_BYTES_MAX);

/// First step of a client's waits after it lost its node; the wait is a random part of the step. Thousands
/// that lost the same node at the same moment are spread over it.
pub const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait of a client that lost its node.
pub const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Told losses that a follower remembers, to recognize what later frames show to be missing.
pub const LOSSES_REMEMBERED_MAX: usize = 64;
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

/// Changes of one of the aggregator's breakers that core journals at once, when there was none for long.
pub const BREAKER_REPORTS_SAVED_MAX: u32 = 16;
/// How often core journals a change of one of the aggregator's breakers in the long run; more are dropped, and told.
pub const BREAKER_REPORT_EVERY: Duration = Duration::from_secs(10);
/// How often core logs that it drops such changes, and how often that the breaker of its requests has changed.
pub const BREAKER_CHANGES_LOG_EVERY: Duration = Duration::from_secs(60);

/// Changes of its breakers that the aggregator keeps while core is away; of more the oldest are dropped.
pub const BREAKER_REPORTS_WAITING_MAX: usize = 64;

/// Parts that a partition can be made of.
pub const PARTITIONS_MAX: u16 = 1_024;

/// Longest wait that the exchange's misbehaviour may be configured with.
pub const CHAOS_WAIT_MAX: Duration = Duration::from_hours(1);

// Behind the last one there is an index too, where a walk through them ends.
const _: () = assert!(INSTRUMENTS_MAX <= InstrumentIndex::LAST.place());
const _: () = assert!(TAPE_EVENTS_MAX + INSTRUMENTS_MAX <= u32::MAX as usize);

/// Records of a log segment unless configured: 64 MiB of records.
pub const SEGMENT_RECORDS_DEFAULT: u64 = 1 << 20;

/// Records of the first segment of a log: with its header 1 MiB.
pub const FIRST_SEGMENT_RECORDS: u64 = (1 << 14) - 64;

/// Fewest records of a segment: its first mark, a mark with the frame it speaks of, and the slot
/// kept back for the mark that ends it.
pub const SEGMENT_RECORDS_MIN: u64 = 4;

/// Most records of a segment (4 GiB), so that every offset in one fits any 64-bit `usize` with room.
pub const SEGMENT_RECORDS_MAX: u64 = 1 << 26;

/// Most segments of one log. Each is one mapping, and Linux allows a process 65,530 of them.
pub const SEGMENTS_MAX: usize = 16_384;

/// Most damaged ranges that recovery lists one by one; further ones widen the last.
pub const DAMAGED_RANGES_MAX: usize = 1_024;

/// Jobs that may wait for the storage thread. A log has at most three syncs (one by its policy, one of a
/// segment that it left, one that somebody waits for), one new segment, one removal, one touching and
/// one look at the directory under way, so a full queue means that this bound is broken.
pub const STORAGE_JOBS_MAX: usize = 16;

/// How much of a segment is made present in memory at a time, ahead of the stores. Touched pages are
/// dirty, and the next sync writes them, so this is not the whole segment; it is a few milliseconds of
/// the highest rate, which is what touching as much takes.
pub const SEGMENT_TOUCH_BYTES: usize = 4 << 20;

/// How long a log without space waits before it asks for a new segment again.
pub const SPACE_RETRY_WAIT: Duration = Duration::from_secs(1);

const _: () = assert!(SEGMENT_RECORDS_MIN <= SEGMENT_RECORDS_DEFAULT);
const _: () = assert!(SEGMENT_RECORDS_DEFAULT <= SEGMENT_RECORDS_MAX);
/// Gathers in flight, answers that nobody fetched yet included.
pub const GATHERS_MAX: usize = 2_048;

/// Nodes in the plan of one gather.
pub const GATHER_LEAVES_MAX: usize = 64;

/// Frames that the leaves of one gather may send together: 2 MiB.
pub const GATHER_FRAMES_MAX: usize = 32_768;

/// Frames that all gathers together may hold: 64 MiB.
pub const GATHER_FRAMES_TOTAL_MAX: usize = 1 << 20;

/// Longest that a gather runs, whatever its query says, in microseconds.
pub const GATHER_DEADLINE_US_MAX: u32 = 60_000_000;

const _: () = assert!(GATHER_FRAMES_MAX <= GATHER_FRAMES_TOTAL_MAX);

/// Frames of finished answers that may wait for one client: 16 MiB.
pub const ANSWER_FRAMES_PER_CLIENT_MAX: usize = 1 << 18;
/// Frames of finished answers that may wait for all clients together: 64 MiB.
pub const ANSWER_FRAMES_TOTAL_MAX: usize = 1 << 20;

// Beside the rows an answer has RUN, ERROR, END and a NODE for each leaf.
const _: () = assert!(GATHER_FRAMES_MAX + GATHER_LEAVES_MAX + 3 <= ANSWER_FRAMES_PER_CLIENT_MAX);
const _: () = assert!(ANSWER_FRAMES_PER_CLIENT_MAX <= ANSWER_FRAMES_TOTAL_MAX);

/// Shortest wait between the end of a connection and the next dial of the same peer.
pub const REDIAL_MIN: Duration = Duration::from_millis(50);

/// Most shards. Their names are the messages from `A` on.
pub const SHARDS_MAX: usize = 16;

/// Shortest and longest log segment in bytes. A segment is allocated whole when it is created.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What a segment's size is a multiple of: its header page.
pub const SEGMENT_BYTES_STEP: u64 = 4096;

/// Directories of replaced logs that are kept for one log; more have to be removed first.
pub const REPLACED_MAX: u32 = 1_000;

/// Characters of a shard's kept partition that a refusal shows.
pub const PARTITION_SHOWN_MAX: usize = 200;

/// Bytes of a shard's file `PARTITION` that are read; what is longer is none that a shard wrote.
pub const PARTITION_TEXT_BYTES_MAX: u64 = 64 * 1024;

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

/// How long a subscriber may take nothing of what waits for it, unless configured.
pub const UNREAD_WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// Shortest and longest such time that can be configured.
pub const UNREAD_WAIT_MIN: Duration = Duration::from_secs(2);
/// See [`UNREAD_WAIT_MIN`].
pub const UNREAD_WAIT_MAX: Duration = Duration::from_hours(1);

/// Most subscribers that can be configured.
pub const SUBSCRIBERS_MAX: u32 = 100_000;

/// Shortest and longest deadline or heartbeat that can be configured.
pub const DEADLINE_MIN: Duration = Duration::from_millis(1);
/// See [`DEADLINE_MIN`].
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Most synthetic events a second.
pub const RATE_EVENTS_PER_S_MAX: u64 = 100_000_000;

/// How many epochs later than a shard's own its feeder's may be: more than core begins while a shard is away, and far
/// from the last number.
pub const EPOCH_JUMP_MAX: u32 = 1 << 20;
/// How far a feeder's sequence may be ahead of a shard's: more than any market comes to while a shard is away.
pub const FEED_AHEAD_MAX: u64 = 1 << 48;

/// Slowest and fastest replay that is not `max`, in thousandths of real time.
pub const SPEED_THOUSANDTHS_MAX: u64 = 1_000_000_000;

/// Largest configuration file in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Symbols of one report.
pub const REPORT_SYMBOLS_MAX: usize = 256;
/// Rows of one report.
pub const REPORT_ROWS_MAX: u32 = 30_000;
/// Rows of a report that does not say.
pub const REPORT_ROWS_DEFAULT: u32 = 10;
/// Longest bar in seconds.
pub const BAR_SECONDS_MAX: u32 = 86_400;

const _: () = {
    assert!((REPORT_ROWS_MAX as usize) < GATHER_FRAMES_MAX);
    assert!(SHARDS_MAX <= 26, "shards are named by one letter");
    assert!(RING_FRAMES_MIN.is_power_of_two() && RING_FRAMES_MAX.is_power_of_two());
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(SEGMENT_BYTES_STEP));
    assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_STEP));
};
const _: () = assert!(STORAGE_JOBS_MAX >= 7);
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
/// Trades of one block in a shard's index: what a time range skips at once.
pub const INDEX_BLOCK_TRADES: usize = 512;
/// What a shard's index may take for copies of trades, out of which bars are made without the log: those of
/// the newest 90 million trades or so. For older ones the log is read.
pub const INDEX_COPY_BYTES_MAX: usize = 1 << 30;
/// Trades of each instrument that a query for the last ones may want.
pub const ANSWER_ROWS_MAX: usize = 32_000;
/// Rows of one shard's answer: 1 GiB of trades. They are streamed, never held.
pub const SCAN_ROWS_MAX: u64 = 1 << 24;
/// Queries under way in one shard.
pub const SHARD_QUERIES_MAX: usize = 4_096;
/// Answers to one connection that make progress at the same time; others of it wait for their turn.
pub const SCANS_AT_ONCE_MAX: usize = 4;
/// Instruments in all answers of one shard that are under way: 4 MiB of numbers.
pub const SCAN_INSTRUMENTS_TOTAL_MAX: usize = 1 << 20;
/// Rows that one scan holds to put them in order: 128 KiB. For more it looks several times.
pub const SORT_ROWS_MAX: usize = 8_192;
/// Bars that one scan holds while trades come out of order: 128 KiB. For more it looks several times.
pub const OPEN_BARS_MAX: usize = 1_024;
/// An answer that looks at no more than this goes ahead of longer ones of its connection.
pub const SHORT_SCAN_TRADES_MAX: u64 = 4_096;
/// Symbols and patterns of one query.
pub const QUERY_SYMBOLS_MAX: usize = 256;
/// So many places of a kind nobody's share is below, and the last places are for those who have fewer.
pub const SMALL_SHARE: usize = 4;
/// Queries of core, of one shard or replica that wait for a cut, beside those that it works on.
pub const WAITING_QUERIES_MAX: usize = 4_096;
/// The same of one connection: below what an aggregator may ask of a node, so that waiting ones leave it room.
pub const WAITING_QUERIES_PER_CONNECTION_MAX: usize = 1_024;
/// The same of all clients of an aggregator.
pub const GATHERS_AHEAD_MAX: usize = 1_024;
/// Longest that a query waits for a cut, whatever its deadline says.
pub const CUT_AHEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// Queries for quotes that one node may have open.
pub const QUOTE_QUERIES_MAX: usize = 16_384;
/// Queries that one connection may have open at one node.
pub const QUERIES_PER_CLIENT_MAX: usize = 256;

const _: () =
    assert!(ANSWER_ROWS_MAX < GATHER_FRAMES_MAX && REPORT_ROWS_MAX as usize <= ANSWER_ROWS_MAX);
/// Sessions that the exchange holds at once.
pub const EXCHANGE_SESSIONS_MAX: usize = 64;
/// What a connection takes in the table of its reactor. This table and the next ones are made once, in their whole
/// length: pages of it that nobody uses are no memory, and one that grows leaves holes behind.
pub const REACTOR_CONNECTION_BYTES: usize = 64;
/// What a subscriber takes in the broker's table of connections.
pub const SUBSCRIBER_CONNECTION_BYTES: usize = 152;
/// What a subscriber costs besides its buffers: its slots in the reactor and in the broker.
pub const SUBSCRIBER_STATE_BYTES: usize = 512;

/// Records that one piece of a replay or of a follower's stream looks at before others have their turn.
pub const RECORDS_PER_FILL_MAX: usize = 65_536;
/// Queries that one connection may have open at a node that answers: more than an aggregator asks of it.
pub const LEAF_QUERIES_MAX: usize = 2_048;
/// Trades that one query may look at: about a second of work, cut by turns.
pub const SCAN_TRADES_MAX: u64 = 1 << 28;
/// What may wait to be sent to one peer before it is taken for one that does not read. Its questions
/// are not read any more long before.
pub const UNREAD_BYTES_MAX: usize = 16 * OUTBOX_BYTES_MAX;

/// How far in event time a cancellation may be from its trade: exchanges number trades anew each day.
pub const CANCEL_REACH: Duration = Duration::from_hours(24);

/// How long after its end, in event time, a live bar waits for late trades before it is reported.
pub const LIVE_BAR_GRACE: Duration = Duration::from_secs(1);
/// Trades that the live bars of one subscription keep, to revise a bar: about 100 MB. Of more, each
/// series forgets its oldest bars, which are final then; one that has only the bar under way flags it.
pub const LIVE_BAR_TRADES_MAX: usize = 1 << 20;
/// Frames of one instrument that wait for what history has before them.
pub const LIVE_BAR_HELD_MAX: usize = 65_536;
/// How long one question for the beginning of a live bar may take.
pub const BACKFILL_DEADLINE: Duration = Duration::from_millis(500);
/// How long to wait before the aggregator is asked again for what it did not have yet.
pub const BACKFILL_RETRY: Duration = Duration::from_millis(200);
/// After so long, the beginning of a live bar is given up.
pub const BACKFILL_GIVE_UP: Duration = Duration::from_secs(10);
/// A span of event time that is not cut any more when it has too many trades for one answer.
pub const BACKFILL_SPAN_MIN: Duration = Duration::from_millis(1);

/// What `verify`, `dump` and `export` read of a file at a time.
pub const INSPECT_CHUNK_BYTES: usize = 1 << 20;
/// How often they look at a log whose writer goes on to a further segment meanwhile.
pub const INSPECT_LOOKS_MAX: usize = 16;
/// Epochs of one log that `dump` and `export` distinguish: each is a start of core that was not clean.
pub const INSPECT_EPOCHS_MAX: usize = 1 << 20;
/// What is read of the kernel's list of locks.
pub const LOCK_TABLE_BYTES_MAX: u64 = 16 << 20;
/// Frames that `export` collects before it writes the largest of its batches: 128 MiB.
pub const EXPORT_FRAMES_MAX: usize = 1 << 21;
/// Frames of one batch of `export`; in Parquet a row group.
pub const EXPORT_BATCH_FRAMES: usize = 1 << 17;
/// Files that `export` has open at once, far below the usual descriptor limit.
pub const EXPORT_FILES_MAX: usize = 64;
/// Parts of one folder of an export.
pub const EXPORT_PARTS_MAX: u32 = 100_000;

const _: () = assert!(EXPORT_BATCH_FRAMES <= EXPORT_FRAMES_MAX);

/// Reactors of one broker: threads that share its rings.
pub const REACTORS_MAX: u32 = 16;
/// What the first reactor may have sent a further one, and that one not taken in: values of a snapshot
/// before all, 72 bytes and a frame each.
pub const MAILBOX_MESSAGES_MAX: usize = 16_384;
/// Messages that a further reactor takes in before its subscribers have their turn.
pub const MAILBOX_MESSAGES_PER_TURN_MAX: usize = 4096;
/// Connections on their way to a further reactor. Each may bring the frames of one read with it.
pub const REACTOR_ARRIVALS_MAX: usize = 256;
/// Connections flushed before what has come in meanwhile is looked at: whoever comes new among thousands
/// must not wait until all of them are served.
pub const FLUSHES_PER_TURN_MAX: usize = 512;

/// Copies of one part of the history, and nodes that answer quotes, the first ones included.
pub const REPLICAS_MAX: u8 = 4;
/// How far the port of a replica is from that of the copy before it, unless it is configured.
pub const REPLICA_PORT_STEP: u16 = 10;
/// A node that answers quotes and has not heard of core for this long takes its quotes for stale.
pub const REPLICA_SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// How often a node that follows core asks whether it has all that core has.
pub const FRESHNESS_PROBE_EVERY: Duration = Duration::from_secs(1);
/// A node that had all of it so lately states no age: its next question may be on its way.
pub const FRESHNESS_USUAL_MAX: Duration = Duration::from_secs(2);
/// A broker asks a publisher that said nothing for this long whether it is still there.
pub const PUBLISHER_QUIET_MAX: Duration = Duration::from_millis(500);
/// A publisher that has answered such questions before, and does not answer one for this long, is silent.
pub const PUBLISHER_ANSWER_MAX: Duration = Duration::from_millis(500);
/// How often subscribers are told at most that a feed is stale, or current again.
pub const STALE_TOLD_EVERY: Duration = Duration::from_secs(1);
/// How far behind core a node may be whose answer is complete, unless it is configured.
pub const BEHIND_AFTER_DEFAULT: Duration = Duration::from_secs(3);
/// Shortest and longest such time that can be configured.
pub const BEHIND_AFTER_MIN: Duration = Duration::from_secs(2);
/// See [`BEHIND_AFTER_MIN`].
pub const BEHIND_AFTER_MAX: Duration = Duration::from_hours(24);

const _: () = {
    // Core, its replicas and every copy of every shard stand in one plan.
    assert!(REPLICAS_MAX as usize * (SHARDS_MAX + 1) <= GATHER_COPIES_MAX);
    assert!(FRESHNESS_PROBE_EVERY.as_millis() * 2 < REPLICA_SILENCE_MAX.as_millis());
    assert!(FRESHNESS_PROBE_EVERY.as_millis() < FRESHNESS_USUAL_MAX.as_millis());
    assert!(FRESHNESS_USUAL_MAX.as_millis() <= BEHIND_AFTER_MIN.as_millis());
};
/// Nodes that one gather can ask, all copies of all parts.
pub const GATHER_COPIES_MAX: usize = 128;
/// Instruments of one answer for current quotes.
pub const QUOTES_PER_ANSWER_MAX: usize = 16_000;
// A definition and a quote each.
const _: () = assert!(QUOTES_PER_ANSWER_MAX * 2 < GATHER_FRAMES_MAX);

/// Questions that the gather may have open at one node.
pub const GATHER_LEAF_QUESTIONS_MAX: usize = 1_536;
/// Questions that all gathers together may have open.
pub const GATHER_QUESTIONS_MAX: usize = 16_384;
/// Time that one window of observed latencies spans; two are kept.
pub const LATENCY_WINDOW: Duration = Duration::from_secs(10);
/// Answers that must be known before a quantile is.
pub const LATENCY_SAMPLES_MIN: u64 = 20;
/// Another copy is asked no earlier than this after the first, as long as more than half of the hedges
/// that can be saved up are there.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_micros(300);
/// The same with less than that. With 0.2 ms at all times, hedges for what a scheduler does by chance
/// spent the budget, and too little was left when a shard stopped (`PERF.md`).
pub const HEDGE_AFTER_SCARCE_MIN: Duration = Duration::from_millis(1);
/// When another copy is asked as long as no latency has been observed; a quarter of the deadline, when
/// that is less.
pub const HEDGE_AFTER_DEFAULT: Duration = Duration::from_millis(20);
/// Thousandths of a hedge that each first question earns.
pub const HEDGE_THOUSANDTHS_PER_ASK: u32 = 35;
/// Thousandths of hedges that can be saved up.
pub const HEDGE_THOUSANDTHS_MAX: u32 = 10_000;
/// Thousandths that each first question earns for questions that are taken from silent nodes to others.
pub const FAILOVER_THOUSANDTHS_PER_ASK: u32 = 10;
/// Thousandths of them that can be saved up: all that one node may have open when it falls silent.
pub const FAILOVER_THOUSANDTHS_MAX: u32 = 1_536_000;
/// Thousandths that each first question earns for probes of silent nodes.
pub const PROBE_THOUSANDTHS_PER_ASK: u32 = 5;
/// Thousandths of probes that can be saved up.
pub const PROBE_THOUSANDTHS_MAX: u32 = 10_000;
/// A node is silent when it keeps a question without a frame for this many times its own 95th
/// percentile,
pub const LEAF_SILENT_P95S: u32 = 4;
/// but not before this: a scheduler lets a healthy process wait so long now and then,
pub const LEAF_SILENT_AFTER_MIN: Duration = Duration::from_millis(2);
/// and after this while its percentile is not known.
pub const LEAF_SILENT_AFTER_DEFAULT: Duration = Duration::from_millis(40);
/// So many questions in a row that another copy answered first, without a frame, are silence as well.
pub const LEAF_RACES_LOST_MAX: u32 = 2;
/// From a node's silence to its first probe. Each further wait is twice as long,
pub const LEAF_PROBE_WAIT_MIN: Duration = Duration::from_millis(20);
/// up to this.
pub const LEAF_PROBE_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a probe may take before the node's breaker hears that it was not answered.
pub const LEAF_PROBE_MAX: Duration = Duration::from_secs(1);
/// A question that leaves a node less time than this says nothing about it: a healthy one may be kept waiting
/// by the scheduler for so long, and the time is the client's choice.
pub const LEAF_DEADLINE_COUNTED_MIN: Duration = Duration::from_millis(20);
/// How long a node that failed is asked only when there is no other.
pub const LEAF_AVOID_WAIT: Duration = Duration::from_secs(1);

/// How long a query waits for the nodes to say how far they are, when it wants a cut of our choice.
pub const CUT_WAIT_MAX: Duration = Duration::from_millis(50);

/// How large a journal without a configured size may grow, while a shard keeps it from being trimmed,
/// before core says so loudly. With a configured size it is twice that.
pub const JOURNAL_RETAINED_BYTES_WARN: u64 = 1 << 30;
/// How often core says so.
pub const JOURNAL_RETAINED_LOG_EVERY: Duration = Duration::from_secs(60);
/// Fewest bytes that a log can be configured to keep: retention cannot go below the segments in use.
pub const RETAIN_BYTES_MIN: u64 = 4 * SEGMENT_BYTES_MIN;
/// Shortest and longest age of what a log can be configured to keep.
pub const RETAIN_AGE_MIN: Duration = Duration::from_secs(1);
/// See [`RETAIN_AGE_MIN`].
pub const RETAIN_AGE_MAX: Duration = Duration::from_hours(24 * 36_500);
/// How often core asks a follower again that it refused because it holds another history.
pub const FOREIGN_RETRY_EVERY: Duration = Duration::from_secs(10);
/// Epochs whose identity and beginning a log and a broker know, the newest ones. Each start of core is one: who was
/// away for more of them cannot be told what of its frames still stands.
pub const EPOCHS_KEPT_MAX: usize = 256;

/// How often it is logged at most that this machine ran out of something.
pub const LOG_LOCAL_FAULT_EVERY: Duration = Duration::from_secs(1);

/// Frames that publishers may bring in the middle of a round of the fan-out; one read may bring more.
/// Small beside any ring that somebody would configure for thousands of subscribers.
pub const ROUND_FRAMES_MAX: usize = 512;

/// Holes in core's journal that a shard knows one by one; when there are more, those with the fewest
/// frames between them are taken for one.
pub const HOLES_MAX: usize = 64;
/// How much earlier or later in event time than its neighbours a frame may be that was lost with a part of
/// core's journal: events come late, and nobody knows how late this one was.
pub const HOLE_EVENT_SLACK_NS: u64 = 60_000_000_000;
/// How old a trade may be that a lost cancellation took back: a day, in which exchanges settle what was wrong.
pub const HOLE_CANCEL_REACH_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Frames that core's journal may have lost, with nothing that states again what stood there, before core
/// refuses to start: so many instrument numbers are left unused, since definitions may have been among them.
pub const LOST_NUMBERS_MAX: usize = 4_096;
/// Damaged records of the journal that a start tries to read with one bit flipped back.
pub const REPAIRED_RECORDS_MAX: usize = 4_096;
const _: () = assert!(LOST_NUMBERS_MAX < INSTRUMENTS_MAX);

/// Shortest and longest step of the wall clock that can be configured to be refused.
pub const CLOCK_STEP_MIN: Duration = Duration::from_millis(100);
/// See [`CLOCK_STEP_MIN`].
pub const CLOCK_STEP_MAX: Duration = Duration::from_hours(24);
/// A step of the wall clock that is refused, unless something else is configured.
pub const CLOCK_STEP_DEFAULT: Duration = Duration::from_secs(10);
/// How often it is said again that the wall clock is not believed.
pub const CLOCK_LOG_EVERY: Duration = Duration::from_mins(10);
/// How often a log looks whether its directory is still where it was.
pub const DIRECTORY_EXAMINED_EVERY: Duration = Duration::from_millis(500);
/// Notices that a log keeps for its node between two turns; of more, the number is told.
pub const LOG_NOTICES_MAX: usize = 64;
/// Jumps of publishers that a broker keeps for each source, to take them back; and as many that it has taken back.
pub const JUMPS_KEPT_MAX: usize = 8;
