//! Bounds of HTTP connections and WebSockets.

use std::time::Duration;

/// Bytes of a request's first line and headers; of more, the answer is 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1_024;
/// Headers of a request; of more, the answer is 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of what a request asks for, with its query; of more, the answer is 414.
pub const HTTP_TARGET_BYTES_MAX: usize = 2 * 1_024;
/// Parameters of a query; of more, the answer is 414.
pub const HTTP_PARAMETERS_MAX: usize = 64;
/// Bytes of a request's body; of more, the answer is 413.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1_024;
/// What a head may take from its first byte, and a body from the end of its head; then the answer is 408.
pub const HTTP_REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection is kept on which nothing is asked.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(60);
/// How long a peer may take nothing of what waits for it.
pub const HTTP_STALL_MAX: Duration = Duration::from_secs(30);
/// An answer up to this is one piece of memory with its head. A longer one is sent from where it was made.
pub const HTTP_JOINED_BYTES_MAX: usize = 16 * 1_024;
/// Room for outgoing bytes that an idle connection keeps.
pub const HTTP_OUTGOING_KEPT_BYTES: usize = 1_024;
/// Bytes of a text that a refusal shows to the peer that sent it.
pub const HTTP_SHOWN_BYTES_MAX: usize = 64;

/// Bytes of one message from a WebSocket's client, all fragments together; of more, the close code is 1009.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of pongs and pings that wait for a peer; then a new pong takes the place of the last one. A close frame is
/// added in any case.
pub const WEBSOCKET_CONTROL_BYTES_MAX: usize = 2 * 1_024;
/// Bytes of a control frame's payload (RFC 6455, section 5.5).
pub const WEBSOCKET_CONTROL_PAYLOAD_MAX: usize = 125;
/// How long a peer may take to answer a close frame.
pub const WEBSOCKET_CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(HTTP_TARGET_BYTES_MAX < HTTP_HEAD_BYTES_MAX);
const _: () = assert!(WEBSOCKET_CONTROL_BYTES_MAX >= 4 * (WEBSOCKET_CONTROL_PAYLOAD_MAX + 2));
