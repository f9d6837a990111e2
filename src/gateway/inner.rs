//! Connections to the broker within: one for each subscription of a browser, and the feed's own. What is *not* here: what
//! the feed publishes.
//!
//! Invariant: an inner connection is closed once. Its slot is used again, so a late word about it must meet nobody.

use std::net::IpAddr;

use zerocopy::IntoBytes;

use super::feed::Feed;
use super::wish::Wish;
use crate::feed::Pattern;
use crate::node::Service;
use crate::node::{CloseReason, ConnId, FrameInput, ListenerId, Node, Origin};
use crate::planted::{Bug, is_planted};
use crate::subscription::Request;
use crate::time::Now;
use crate::wire::{
    ErrorCode, FRAME_BYTES, Flags, Frame, Heartbeat, Kind, Role, Seq, Session, Subscribe, U16, U32,
    U64, padded, unpadded,
};

/// A heartbeat of ours to the inner broker, for a browser that was heard.
const ALIVE_TOKEN: u32 = 1;

/// The owner of the feed's own connection.
pub(super) const NOBODY: ConnId = ConnId { generation: 0, slot: u32::MAX };

/// Whose subscription an inner connection is. One for each slot, so it does not say which slot that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// Of the inner connection. 0: the slot is free.
    generation: u32,
    conn: ConnId,
}

impl Owner {
    const NONE: Owner = Owner { generation: 0, conn: NOBODY };
}

impl Feed {
    /// Whole frames that wait for an inner connection, at most so many; they count as sent.
    pub(super) fn frames_of(&mut self, now: Now, conn: ConnId, frames_max: usize) -> Vec<Frame> {
        let mut taken: Vec<Frame> = Vec::new();
        while taken.len() < frames_max {
            let outgoing = self.broker.outgoing(now, conn);
            let room = frames_max - taken.len();
            let before = taken.len();
            let (head, _) = crate::wire::as_frames(outgoing.head);
            taken.extend_from_slice(head.get(..room.min(head.len())).unwrap_or_default());
            let room = frames_max - taken.len();
            let (tail, _) = crate::wire::as_frames(outgoing.tail);
            taken.extend_from_slice(tail.get(..room.min(tail.len())).unwrap_or_default());
            let count = taken.len() - before;
            if count == 0 {
                break;
            }
            if !self.broker.handle_sent(now, conn, count * FRAME_BYTES) {
                break;
            }
        }
        taken
    }

    /// Begins a subscription of `owner`, who came from there. Its inner connection.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        owner: ConnId,
        from: IpAddr,
        id: u32,
        wish: &Wish,
    ) -> ConnId {
        let start = wish.from.filter(|_| !is_planted(Bug::ResumeFromNow));
        // Under which epoch it has what it has: the inner broker says what of that is void.
        let epoch_id = start.map_or(0, |start| start.epoch_id);
        let conn = self.open_subscriber(now, owner, from, epoch_id);
        self.ask_ring(now, conn, id, wish, start.map(|start| start.seq));
        self.begin_from(conn, id, from, wish);
        conn
    }

    /// A connection that has not subscribed yet, of one who has what it has under this epoch.
    pub(super) fn open_subscriber(
        &mut self,
        now: Now,
        owner: ConnId,
        from: IpAddr,
        epoch_id: u64,
    ) -> ConnId {
        let conn = self.open(now, Origin::Accepted(ListenerId(0), from), owner);
        let role = Role::Subscriber as u8;
        let feed = U64::new(if is_planted(Bug::ResumeWithoutEpoch) { 0 } else { epoch_id });
        let session = Session { role, feed, name: padded("browser"), ..Session::default() };
        self.broker.handle_frames(now, conn, &[Frame::seal(session)]);
        // Its answer says nothing to a browser. A refusal does.
        let is_greeted = |frame: &Frame| frame.kind == Kind::Session as u8;
        let first = self.broker.outgoing(now, conn).head;
        if crate::wire::as_frames(first).0.first().is_some_and(is_greeted) {
            self.broker.handle_sent(now, conn, FRAME_BYTES);
        }
        conn
    }

    /// Subscribes there, from this place on or from now.
    pub(super) fn ask_ring(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        wish: &Wish,
        from_seq: Option<Seq>,
    ) {
        let last = wish.patterns.len().saturating_sub(1);
        let frame = |(place, pattern): (usize, &Pattern)| {
            Frame::seal(Subscribe {
                flags: U16::new(if place < last { Flags::MORE } else { 0 }),
                id: U32::new(id),
                source: Request::MARKET,
                mode: wish.mode as u8,
                kinds: U16::new(if pattern.kinds() == u16::MAX { 0 } else { pattern.kinds() }),
                conflate_ms: U32::new(wish.conflate_ms),
                from_seq: Seq::field(from_seq),
                pattern: padded(&pattern.text()),
                ..Subscribe::default()
            })
        };
        let frames: Vec<Frame> = wish.patterns.iter().enumerate().map(frame).collect();
        self.broker.handle_frames(now, conn, &frames);
    }

    /// Whether an inner connection waits to be asked for what it has.
    pub(super) fn has_dirty(&self) -> bool {
        self.broker.connections().dirty_len() > 0
    }

    /// Whether what comes next on a connection has to wait for the next turn.
    pub(super) fn is_put_off(&mut self, conn: ConnId) -> bool {
        self.broker.work().frames_left() == 0 && self.broker.put_off(conn)
    }

    /// Why the inner broker ends a connection: its last frame.
    pub(super) fn last_words(&mut self, now: Now, conn: ConnId) -> (Option<ErrorCode>, String) {
        let outgoing = self.broker.outgoing(now, conn).head;
        // What is left of a frame that was half sent stands before it.
        let at = outgoing.len().saturating_sub(FRAME_BYTES);
        let (frames, _) = crate::wire::as_frames(outgoing.get(at..).unwrap_or_default());
        match frames.first().and_then(|frame| frame.view::<crate::wire::Refusal>()) {
            Some(refusal) => (ErrorCode::from_number(refusal.code.get()), unpadded(&refusal.text)),
            None => (None, String::new()),
        }
    }

    /// A subscription is over. One that is over already stays so: its slot may have another one.
    pub(super) fn close(&mut self, now: Now, conn: ConnId) {
        let place = self.owners.get_mut(conn.slot as usize);
        if let Some(known) = place.filter(|known| known.generation == conn.generation) {
            *known = Owner::NONE;
            self.past.forget(conn);
            self.broker.handle_close(now, conn, CloseReason::PeerClosed);
            self.free_slots.push(conn.slot);
        }
    }

    /// The one whose subscription it is was heard.
    pub(super) fn note_heard(&mut self, now: Now, conn: ConnId) {
        let beat = Heartbeat { token: U32::new(ALIVE_TOKEN), ..Heartbeat::default() };
        self.broker.handle_bytes(now, conn, Frame::seal(beat).as_bytes());
    }

    /// Whose subscription it is, unless that is over.
    pub(super) fn owner(&self, conn: ConnId) -> Option<ConnId> {
        let known = self.owners.get(conn.slot as usize)?;
        (known.generation == conn.generation && known.conn != NOBODY).then_some(known.conn)
    }

    pub(super) fn open(&mut self, now: Now, origin: Origin, owner: ConnId) -> ConnId {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.generation = self.generation.wrapping_add(1).max(1);
        let conn = ConnId { generation: self.generation, slot };
        let place = slot as usize;
        if self.owners.len() <= place {
            self.owners.resize(place + 1, Owner::NONE);
        }
        self.owners[place] = Owner { generation: conn.generation, conn: owner };
        self.broker.handle_open(now, conn, origin);
        conn
    }
}
