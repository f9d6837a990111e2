//! The end of a tape: who has all of it is told that nothing more comes.

use super::consumer::Consumer;
use super::{ConnId, External, Level};
use crate::planted::{Bug, is_planted};
use crate::time::Now;

impl External {
    /// Whether whoever is here has all that there will ever be.
    pub(super) fn is_end(&self, cursor: u64) -> bool {
        (self.playback.has_ended() || is_planted(Bug::EndBeforeTheEnd))
            && cursor >= self.playback.next_seq()
    }

    /// Tells a consumer that has everything that nothing more comes, once. Spared by the misbehaviour, as definitions are.
    pub(super) fn tell_end(&mut self, now: Now, conn: ConnId) {
        let Some(&Consumer { cursor, knows_end: false, .. }) = self.consumer_mut(conn).as_deref()
        else {
            return;
        };
        if !self.is_end(cursor) {
            return;
        }
        if let Some(consumer) = self.consumer_mut(conn) {
            consumer.knows_end = true;
        }
        let frames = cursor - 1;
        let text = format!("the tape has ended: the consumer has all {frames} frames of it");
        self.connections.log(Level::Info, text);
        self.send_cursor(now, conn, 0);
    }
}
