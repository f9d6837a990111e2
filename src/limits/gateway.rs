//! Bounds of the gateway.

use std::time::Duration;

/// The port that the gateway has.
pub const GATEWAY_PORT: u16 = 8_090;
/// Lines of JSON of the newest frames that are kept for all who are sent them: about 2 MiB.
pub const GATEWAY_LINES_KEPT: usize = 8 * 1_024;
/// Frames that become one message of JSON.
pub const GATEWAY_JSON_FRAMES_MAX: usize = 512;
/// Bytes of frames in one binary message: so long a control frame may have to wait for its end.
pub const GATEWAY_MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Subscriptions of one connection.
pub const GATEWAY_SUBSCRIPTIONS_MAX: usize = 32;
/// Patterns of one subscription of a browser.
pub const GATEWAY_PATTERNS_MAX: usize = 512;
/// Bytes of texts about a connection that wait for it; one with more is closed.
pub const GATEWAY_TEXTS_BYTES_MAX: usize = 64 * 1_024;
/// What a browser takes in the table of browsers, and its subscription in that of owners.
pub const GATEWAY_BROWSER_BYTES: usize = 120 + 12;
/// How often a browser is asked for a sign of life.
pub const GATEWAY_PING_EVERY: Duration = Duration::from_secs(15);
/// A browser that has been silent for so long is closed.
pub const GATEWAY_SILENCE_MAX: Duration = Duration::from_secs(45);
/// How often the gateway looks at all its connections.
pub const GATEWAY_SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Connections that it looks at in one turn: so many pings wait at once.
pub const GATEWAY_SWEEP_LOOKS_MAX: usize = 256;
/// How long a browser may take nothing of what waits for it, unless configured.
pub const GATEWAY_UNREAD_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The wait behind a refusal of the broker.
pub const GATEWAY_REFUSED_WAIT: Duration = Duration::from_secs(1);
/// The wait between two snapshots that the gateway takes of the broker behind losses.
pub const GATEWAY_REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How long a browser may take the last words of its connection.
pub const GATEWAY_CLOSE_WAIT: Duration = Duration::from_secs(2);
/// What JSON conflates to where nobody says otherwise.
pub const GATEWAY_CONFLATE_DEFAULT_MS: u32 = 250;
/// Questions that wait for the aggregator.
pub const GATEWAY_QUESTIONS_MAX: usize = 1_024;
/// Frames of one answer of the aggregator.
pub const GATEWAY_ANSWER_FRAMES_MAX: usize = 4 * super::REPORT_ROWS_MAX as usize;
/// The time that a question has where nobody says otherwise.
pub const GATEWAY_DEADLINE_DEFAULT: Duration = Duration::from_millis(800);
/// How old an answer about the state of the nodes may be.
pub const GATEWAY_STATUS_AGE_MAX: Duration = Duration::from_millis(900);
/// How long a node may take to say how it is.
pub const GATEWAY_STATUS_WAIT: Duration = Duration::from_millis(400);
/// Rows of an answer that are written in one piece.
pub const GATEWAY_ROWS_PER_PIECE: usize = 512;
/// Bytes of an answer that wait for a client before the next piece is made.
pub const GATEWAY_ANSWER_BYTES_WAITING: usize = 64 * 1_024;
/// Answers of which parts were asked for, that are kept for further parts.
pub const GATEWAY_KEPT_ANSWERS_MAX: usize = 64;
/// Bytes of all of them.
pub const GATEWAY_KEPT_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// How long one is kept: far longer than a program needs between two parts.
pub const GATEWAY_KEPT_FOR: Duration = Duration::from_secs(10);
/// Bytes of all answers in memory at once, over all HTTP connections, those kept for further parts included. Beyond it a
/// new question gets 503.
pub const GATEWAY_ANSWERS_BYTES_MAX: usize = 256 * 1_024 * 1_024;
/// What questions about the market may have of it. The rest is for how the nodes are: who watches them must not be turned
/// away when it counts.
pub const GATEWAY_QUESTIONS_BYTES_MAX: usize =
    GATEWAY_ANSWERS_BYTES_MAX - GATEWAY_KEPT_BYTES_MAX - 16 * 1_024 * 1_024;
/// Bytes of an answer that is sent while it is written, besides its rows: what waits, and the two pieces that it begins
/// with. No row has more than a KiB as text.
pub const GATEWAY_WRITING_BYTES_MAX: usize =
    GATEWAY_ANSWER_BYTES_WAITING + 2 * GATEWAY_ROWS_PER_PIECE * 1_024;
/// Rows of one row group of an answer in Parquet: what is made in one piece, and what a column has in memory.
pub const GATEWAY_ROW_GROUP_ROWS: usize = 4 * GATEWAY_ROWS_PER_PIECE;
/// Questions for one subscription's bars under way that are asked at once.
pub const GATEWAY_BACKFILLS_AT_ONCE: usize = 8;
/// How often bars are looked at that no frame ends.
pub const GATEWAY_BARS_EVERY: Duration = Duration::from_millis(50);
/// Questions for the last bars before a pause, until the client is told to ask by time.
pub const GATEWAY_BAR_QUESTIONS_MAX: u32 = 32;
/// Frames of one piece of core's journal for a browser: half a MiB, and what their instruments are called where the browser
/// was not told.
pub const GATEWAY_PIECE_FRAMES_MAX: usize = 8 * 1_024;
/// Names of instruments ahead of a piece, of which one is under way at once: definitions, and parts of long names.
pub const GATEWAY_PIECE_NAMES_MAX: usize = 5 * super::INSTRUMENTS_MAX;
/// Places of the sequence that one piece is about at most, where few of their frames are wanted.
pub const GATEWAY_PIECE_SPAN_MAX: u64 = 1 << 18;
/// Pieces of core's journal that are asked for or held at once, over all browsers: 32 MiB. Others wait for their turn.
pub const GATEWAY_PIECES_MAX: usize = 64;
/// How long core may be away, or say nothing of a piece, before a browser is told of a gap instead.
pub const GATEWAY_PIECE_WAIT: Duration = Duration::from_secs(3);
/// How long core may take for one piece at most, as long as frames of it come.
pub const GATEWAY_PIECE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a browser waits for its turn to be asked for, before it is told of a gap instead.
pub const GATEWAY_PIECE_TURN_WAIT: Duration = Duration::from_secs(10);
/// A piece that is not read for this long gives its place up while others wait, and is asked for again.
pub const GATEWAY_PIECE_UNREAD_MAX: Duration = Duration::from_secs(1);
/// Pieces in a row that bring a browser no closer to the ring, before it is told of a gap instead.
pub const GATEWAY_PIECES_IN_VAIN_MAX: u8 = 8;
/// Browsers that are told of a gap, or reach the ring, in one turn: each has its subscription made again.
pub const GATEWAY_REJOINS_PER_TURN_MAX: usize = 32;
/// How often a piece is asked for whose connection breaks.
pub const GATEWAY_PIECE_ATTEMPTS: u8 = 3;

const _: () = {
    assert!(GATEWAY_PIECE_FRAMES_MAX as u64 <= GATEWAY_PIECE_SPAN_MAX);
    // The longest answer has room, as frames and then as text.
    let longest = GATEWAY_ANSWER_FRAMES_MAX * crate::wire::FRAME_BYTES;
    assert!(longest + GATEWAY_WRITING_BYTES_MAX < GATEWAY_QUESTIONS_BYTES_MAX);
};
