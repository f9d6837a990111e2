//! Two lines to be flushed, and their rounds: who is sent what is live, and behind them who is sent what can wait; and
//! who is read ahead of others.

use super::Connections;
use crate::node::ConnId;
use crate::node::session::round::Round;
use crate::node::session::work::Work;

impl<P> Connections<P> {
    /// What this turn may spend on what can wait.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The same, to spend it.
    pub fn work_mut(&mut self) -> &mut Work {
        &mut self.work
    }

    /// A round of the fan-out takes in so many frames.
    pub fn bound_rounds(&mut self, frames_max: usize) {
        self.round = Round::new(frames_max);
    }

    /// Whoever sends what is handed out to others sent so many frames.
    pub fn note_published(&mut self, frames: usize) {
        self.round.note_read(frames);
    }

    /// The present round of the fan-out.
    #[must_use]
    pub fn round(&self) -> &Round {
        &self.round
    }

    /// Says whether what a connection is sent next can wait. It stands in the line that it has now.
    pub fn set_bulk(&mut self, id: ConnId, is_bulk: bool) {
        let Some(connection) = self.get_mut(id) else { return };
        let has_changed = std::mem::replace(&mut connection.is_bulk, is_bulk) != is_bulk;
        if has_changed && std::mem::take(&mut connection.is_dirty) {
            // Its place in the other line has no meaning any more.
            self.mark_dirty(id);
        }
    }

    /// See [`Connections::set_bulk`].
    #[must_use]
    pub fn is_bulk(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|connection| connection.is_bulk)
    }

    /// Whether what arrives on a connection is read ahead of others.
    #[must_use]
    pub fn is_source(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|connection| connection.is_source)
    }

    /// What arrives on a connection is live.
    pub(in crate::node::session) fn set_source(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.is_source = true;
        }
    }

    /// The next connection with bulk to send, as long as this turn may spend something on it.
    pub fn poll_bulk(&mut self) -> Option<ConnId> {
        while self.work.frames_left() > 0 {
            let id = self.bulk.pop_front()?;
            if let Some(Some(connection)) = self.slots.get_mut(id.slot as usize)
                && connection.id == id
                && std::mem::take(&mut connection.is_dirty)
            {
                // Also for one that has no room, and is sent nothing.
                self.work.spend_frames(1);
                return Some(id);
            }
        }
        None
    }

    /// Whether connections wait for bulk.
    #[must_use]
    pub fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Mono, Now};

    const NOW: Now = Now { mono: Mono(0), wall_ns: 0 };

    fn conn(slot: u32) -> ConnId {
        ConnId { generation: 1, slot }
    }

    fn connections(count: u32) -> Connections<()> {
        let mut connections = Connections::default();
        (0..count).for_each(|slot| connections.insert(NOW, conn(slot)));
        connections
    }

    #[test]
    fn who_changes_lines_is_served_in_the_new_one_only() {
        let mut connections = connections(3);
        (0..3).for_each(|slot| connections.mark_dirty(conn(slot)));
        connections.set_bulk(conn(1), true);
        assert_eq!(connections.poll_dirty(), Some(conn(0)));
        assert_eq!(connections.poll_dirty(), Some(conn(2)));
        assert_eq!(connections.poll_dirty(), None);
        connections.mark_dirty_first(conn(1));
        assert!(connections.has_bulk());
        // It turns out to be live before its bulk was asked for.
        connections.set_bulk(conn(1), false);
        assert_eq!(connections.poll_dirty(), Some(conn(1)));
        assert_eq!((connections.poll_bulk(), connections.has_bulk()), (None, false));
    }

    #[test]
    fn a_turn_asks_for_bulk_until_it_has_spent_its_part_and_goes_on_in_order() {
        let mut connections = connections(3);
        connections.work_mut().bound_frames(100);
        for slot in 0..3 {
            connections.set_bulk(conn(slot), true);
            connections.mark_dirty(conn(slot));
        }
        assert_eq!(connections.poll_bulk(), Some(conn(0)));
        connections.work_mut().spend_frames(50);
        connections.mark_dirty(conn(0));
        assert_eq!(connections.poll_bulk(), Some(conn(1)));
        connections.work_mut().spend_frames(50);
        assert_eq!((connections.poll_bulk(), connections.has_bulk()), (None, true));
        connections.begin_turn();
        assert_eq!(connections.poll_bulk(), Some(conn(2)));
        assert_eq!(connections.poll_bulk(), Some(conn(0)), "behind those who had nothing yet");
        let spent = connections.work().spent();
        assert_eq!((spent.frames, spent.frames_max), (102, 100));
    }
}
