//! What a node measures of itself, whatever it is: the length of its turns and the bytes that it sends.

use std::time::Duration;

use super::Connections;
use crate::histogram::Histogram;
use crate::node::ConnId;
use crate::node::session::Status;
use crate::time::Now;

#[derive(Debug, Default)]
pub(super) struct Traffic {
    turns: Histogram,
    sent_bytes: u64,
}

impl Traffic {
    #[inline]
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }
}

impl<P> Connections<P> {
    /// A turn of the node took so long.
    #[inline]
    pub fn note_turn(&mut self, length: Duration) {
        self.traffic.turns.note(length);
    }

    /// The node has sent bytes on a connection that is not in here.
    pub fn note_sent_bytes(&mut self, bytes: usize) {
        self.traffic.note_sent(bytes);
    }

    /// Notes that bytes left by another way than the outbox.
    pub fn sent_elsewhere(&mut self, now: Now, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.last_sent = now.mono;
        }
    }

    /// Bytes that the node has sent.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.traffic.sent_bytes
    }

    /// Adds what was measured to a status answer.
    pub(crate) fn describe(&self, status: &mut Status) {
        status.histogram("turn_us", &self.traffic.turns);
        status.metric("sent_bytes", self.traffic.sent_bytes);
        if self.is_exposed() {
            status.metric("insecure", 1);
        }
    }
}
