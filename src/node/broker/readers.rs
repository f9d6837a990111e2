//! The subscribers of one reactor, over that reactor's windows on the sources. What is *not* here: where
//! frames come from.

use std::collections::BTreeSet;

use super::Peer;
use super::source::Source;
use super::subscriber::{Filled, Subscriber};
use crate::feed::Window;
use crate::limits;
use crate::node::{ConnId, Links, Outgoing};
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, FRAME_BYTES, Frame, Heartbeat, Kind, Session, Subscribe, padded};

/// Connections and what they read.
#[derive(Debug)]
pub(super) struct Readers<W> {
    pub(super) links: Links<Peer>,
    pub(super) sources: Vec<Option<Source<W>>>,
    pub(super) subscribers: usize,
    /// When the next batch of each conflating subscriber is due.
    pub(super) conflating: BTreeSet<(Mono, ConnId)>,
    /// Frames gathered for one subscriber; kept to save the allocation.
    scratch: Vec<Frame>,
}

impl<W> Default for Readers<W> {
    fn default() -> Readers<W> {
        Readers {
            links: Links::default(),
            sources: (0..limits::SOURCES_MAX).map(|_| None).collect(),
            subscribers: 0,
            conflating: BTreeSet::new(),
            scratch: Vec::new(),
        }
    }
}

impl<W: Window> Readers<W> {
    pub(super) fn source_mut(&mut self, source: u8) -> Option<&mut Source<W>> {
        let place = self.sources.get_mut(usize::from(source))?;
        Some(place.get_or_insert_with(Source::default))
    }

    /// Welcomes a subscriber. The bound on their number has been kept.
    pub(super) fn greet(&mut self, conn: ConnId, session: &Session) {
        let (source, name) = (session.source, padded("broker"));
        self.subscribers += 1;
        self.links.greet(conn, Peer::Subscriber(Subscriber::default()));
        // Ahead of those who have had something already.
        self.links.mark_dirty_first(conn);
        self.links.send(conn, Session { source, name, ..Session::default() });
    }

    /// A frame, checked, from a subscriber.
    pub(super) fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        match frame.kind() {
            Some(Kind::Heartbeat) => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    // Who hears only frames of others learns that nothing of its own was missed.
                    let next_seq = match self.links.get(conn).map(|link| &link.peer) {
                        Some(Peer::Subscriber(subscriber)) => subscriber.cursor(),
                        _ => 0,
                    };
                    self.links.answer_heartbeat(now, conn, &beat, next_seq);
                }
            }
            Some(Kind::Subscribe) => {
                if let Some(subscribe) = frame.view::<Subscribe>() {
                    let subscribe = *subscribe;
                    self.handle_subscribe(now, conn, &subscribe);
                }
            }
            Some(kind) if kind.is_data() => {
                self.links.refuse(conn, ErrorCode::Unexpected, "subscribers do not publish");
            }
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    fn handle_subscribe(&mut self, now: Now, conn: ConnId, subscribe: &Subscribe) {
        if self.source_mut(subscribe.source).is_none() {
            self.links.refuse(conn, ErrorCode::Limit, "source numbers are 0 to 7");
            return;
        }
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { return };
        match subscriber.add_pattern(subscribe) {
            Err((code, text)) => {
                self.links.refuse(conn, code, text);
            }
            Ok(None) => {}
            Ok(Some(patterns)) => {
                let Some(Some(source)) = self.sources.get_mut(usize::from(subscribe.source)) else {
                    return;
                };
                let interest = source.interests.join(patterns, &source.values);
                subscriber.set_place(source.readers.len());
                source.readers.push(conn);
                if let Some(due) = subscriber.begin(now.mono, subscribe, interest) {
                    self.conflating.insert((due, conn));
                }
                self.links.mark_dirty_first(conn);
            }
        }
    }

    /// A source can be served now.
    pub(super) fn tell_ready(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            self.links.mark_dirty(conn);
        }
    }

    /// A new epoch began. It may have taken back what subscribers have seen or were about to see; and
    /// all of them must know that they are in it, or they would take it for a loss on their next visit.
    pub(super) fn tell_epoch(&mut self, number: u8, void_from: Option<u64>) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { continue };
            let gap = void_from.and_then(|seq| subscriber.void_from(seq));
            let standing = subscriber.standing(source);
            if let Some(gap) = gap {
                self.links.send(conn, gap);
            }
            if let Some(standing) = standing {
                self.links.send(conn, standing);
            }
        }
    }

    /// Tells the readers of each source that has news.
    pub(super) fn commit(&mut self) {
        for source in self.sources.iter_mut().flatten() {
            if !std::mem::take(&mut source.has_news) {
                continue;
            }
            // Whoever stands first is served first; turning the start keeps that fair.
            source.turn_start = (source.turn_start + 1) % source.readers.len().max(1);
            let (before, after) = source.readers.split_at(source.turn_start);
            for &conn in after.iter().chain(before) {
                self.links.mark_dirty(conn);
            }
        }
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        self.links.tick(now, |peer| match peer {
            Peer::Subscriber(subscriber) => subscriber.cursor(),
            _ => 0,
        });
        while let Some(&(due, conn)) = self.conflating.first() {
            if due > now.mono {
                break;
            }
            self.conflating.pop_first();
            if let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) {
                let next = subscriber.make_due(now.mono);
                self.conflating.insert((next, conn));
                self.links.mark_dirty(conn);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let conflate = self.conflating.first().map(|&(due, _)| due);
        self.links.next_tick().into_iter().chain(conflate).min()
    }

    /// Forgets a connection; what it was for.
    pub(super) fn forget(&mut self, conn: ConnId) -> Option<Peer> {
        let peer = self.links.remove(conn)?;
        if let Peer::Subscriber(subscriber) = &peer {
            self.subscribers -= 1;
            if let Some(due) = subscriber.conflate_due() {
                self.conflating.remove(&(due, conn));
            }
            if let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source()))
                && let Some(interest) = subscriber.interest()
            {
                let place = subscriber.place();
                if let Some(moved) = source.leave(place, interest)
                    && let Some(Peer::Subscriber(moved)) = self.links.any_peer_mut(moved)
                {
                    moved.set_place(place);
                }
            }
        }
        Some(peer)
    }

    /// Puts what a subscriber should get next into its outbox, unless it can be sent from the ring.
    fn refill(&mut self, conn: ConnId) -> Filled {
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else {
            return Filled::Outbox;
        };
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source())) else {
            return Filled::Outbox;
        };
        self.scratch.clear();
        let filled = subscriber.fill(source, &mut self.scratch);
        if !self.scratch.is_empty() {
            self.links.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
        filled
    }

    pub(super) fn outgoing(&mut self, conn: ConnId) -> Outgoing<'_> {
        if self.links.outbox(conn).is_empty()
            && self.refill(conn) == Filled::Ring
            && let Some(Peer::Subscriber(subscriber)) = self.links.get(conn).map(|link| &link.peer)
            && let Some(Some(source)) = self.sources.get(usize::from(subscriber.source()))
            && let Some(view) = source.view()
        {
            let frames = limits::WRITE_BYTES_PER_TURN_MAX / FRAME_BYTES;
            let (head, tail) = view.bytes(subscriber.cursor(), frames);
            return Outgoing { head, tail };
        }
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    pub(super) fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        if !self.links.outbox(conn).is_empty() {
            self.links.sent(now, conn, bytes);
            return;
        }
        self.links.sent_elsewhere(now, conn);
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { return };
        let Some(Some(source)) = self.sources.get(usize::from(subscriber.source())) else { return };
        let Some(view) = source.view() else { return };
        // The rest of a half-sent frame is kept apart: the ring may overwrite it before the peer
        // has room for it.
        if let Some(rest) = subscriber.advance(view, bytes) {
            self.links.fill(conn, &rest);
        }
    }

    /// Bytes that the interests of all sources hold.
    pub(super) fn interest_bytes(&self) -> usize {
        self.sources.iter().flatten().map(|source| source.interests.bytes()).sum()
    }
}
