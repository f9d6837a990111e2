//! Control frames that wait to be sent: pongs, pings, and one close frame at the end.

use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::header;
use crate::limits::{WEBSOCKET_CONTROL_BYTES_MAX, WEBSOCKET_CONTROL_PAYLOAD_MAX};

/// Frames as bytes, in their order.
///
/// Invariant: a frame of which a part is sent stays whole. At most [`WEBSOCKET_CONTROL_BYTES_MAX`] bytes wait, and one
/// close frame.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the last frame begins, if that is a pong.
    last_pong_at: Option<usize>,
}

impl Waiting {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Returns whether nothing waits any more.
    pub(super) fn handle_sent(&mut self, bytes: usize) -> bool {
        self.sent = self.bytes.len().min(self.sent.saturating_add(bytes));
        self.sent == self.bytes.len()
    }

    /// The answer to a ping. When there is no room, it takes the place of the last one: a peer wants to know that its
    /// newest ping arrived (RFC 6455, section 5.5.3).
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.forget_sent();
        if !self.has_room(payload.len()) {
            match self.last_pong_at {
                Some(at) => self.bytes.truncate(at),
                None => return,
            }
        }
        self.last_pong_at = Some(self.bytes.len());
        self.put(Control::Pong, payload);
    }

    /// Without room the peer takes nothing, and a ping would say nothing new.
    pub(super) fn ping(&mut self) {
        self.forget_sent();
        if self.has_room(0) {
            self.last_pong_at = None;
            self.put(Control::Ping, &[]);
        }
    }

    pub(super) fn close(&mut self, payload: &[u8]) {
        self.last_pong_at = None;
        self.put(Control::Close, payload);
    }

    fn has_room(&self, payload_bytes: usize) -> bool {
        self.bytes.len() + 2 + payload_bytes <= WEBSOCKET_CONTROL_BYTES_MAX
    }

    fn forget_sent(&mut self) {
        self.bytes.drain(..self.sent);
        // A pong of which a part is sent begins before the first byte that is left.
        self.last_pong_at = self.last_pong_at.and_then(|at| at.checked_sub(self.sent));
        self.sent = 0;
    }

    fn put(&mut self, kind: Control, payload: &[u8]) {
        debug_assert!(payload.len() <= WEBSOCKET_CONTROL_PAYLOAD_MAX);
        self.bytes.extend_from_slice(header(OpCode::Control(kind), payload.len()).as_bytes());
        self.bytes.extend_from_slice(payload);
    }
}
