//! The subscribers of one reactor, over that reactor's windows on the sources. What is *not* here: where
//! frames come from.

use std::collections::BTreeSet;

use super::BrokerPeer;
use super::places::{self, SubscriberPlaces};
use super::source::Source;
use super::subscriber::Subscriber;
use crate::feed::Window;
use crate::limits;
use crate::node::session::{Admission, Filled, Rejection};
use crate::node::{ConnId, Connections, Outgoing};
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, FRAME_BYTES, Frame, Kind, Session, Subscribe, padded};

/// Connections and what they read.
#[derive(Debug)]
pub(super) struct Readers<W> {
    pub(super) connections: Connections<BrokerPeer>,
    pub(super) sources: Vec<Option<Source<W>>>,
    pub(super) subscribers: usize,
    /// The same of all reactors, by address.
    pub(super) places: SubscriberPlaces,
    /// When the next batch of each conflating subscriber is due.
    pub(super) conflating: BTreeSet<(Mono, ConnId)>,
    /// Frames gathered for one subscriber; kept to save the allocation.
    scratch: Vec<Frame>,
}

impl<W> Default for Readers<W> {
    fn default() -> Readers<W> {
        Readers {
            connections: Connections::default(),
            sources: (0..limits::SOURCES_MAX).map(|_| None).collect(),
            subscribers: 0,
            places: SubscriberPlaces::default(),
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
    pub(super) fn greet(&mut self, conn: ConnId, session: &Session) -> Admission<BrokerPeer> {
        let (source, name) = (session.source, padded("broker"));
        self.subscribers += 1;
        let bucket = places::bucket(self.connections.principal(conn));
        self.places.enter(bucket);
        let answer = Session { source, name, ..Session::default() };
        Admission::Accepted(BrokerPeer::Subscriber(Subscriber::counted_in(bucket)), answer)
    }

    /// A frame, checked, from a subscriber. Its heartbeats are answered already.
    pub(super) fn handle_frame(
        &mut self,
        now: Now,
        conn: ConnId,
        frame: &Frame,
    ) -> Result<(), Rejection> {
        match frame.kind() {
            Some(Kind::Heartbeat) => Ok(()),
            Some(kind) if kind.is_data() => {
                Err(Rejection::new(ErrorCode::Unexpected, "subscribers do not publish"))
            }
            _ => {
                let subscribe = frame.view::<Subscribe>().ok_or_else(Rejection::out_of_place)?;
                self.handle_subscribe(now, conn, subscribe)
            }
        }
    }

    fn handle_subscribe(
        &mut self,
        now: Now,
        conn: ConnId,
        subscribe: &Subscribe,
    ) -> Result<(), Rejection> {
        if self.source_mut(subscribe.source).is_none() {
            return Err(Rejection::new(ErrorCode::Limit, "source numbers are 0 to 7"));
        }
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        let Some(patterns) = subscriber.add_pattern(subscribe)? else { return Ok(()) };
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscribe.source)) else {
            return Ok(());
        };
        let interest = source.interests.join(patterns, &source.values);
        subscriber.set_place(source.readers.len());
        source.readers.push(conn);
        if let Some(due) = subscriber.begin(now.mono, subscribe, interest) {
            self.conflating.insert((due, conn));
        }
        self.connections.mark_dirty_first(conn);
        Ok(())
    }

    /// A source can be served now.
    pub(super) fn notify_ready(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            self.connections.mark_dirty(conn);
        }
    }

    /// A new epoch began. It may have taken back what subscribers have seen or were about to see; and
    /// all of them must know that they are in it, or they would take it for a loss on their next visit.
    pub(super) fn notify_epoch(&mut self, number: u8, void_from: Option<u64>) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
                continue;
            };
            let gap = void_from.and_then(|seq| subscriber.void_from(seq));
            let confirmation = subscriber.confirmation(source);
            if let Some(gap) = gap {
                self.connections.send(conn, gap);
            }
            if let Some(confirmation) = confirmation {
                self.connections.send(conn, confirmation);
            }
        }
    }

    /// Notifies the readers of each source that has updates.
    pub(super) fn commit(&mut self) {
        for source in self.sources.iter_mut().flatten() {
            if !std::mem::take(&mut source.has_updates) {
                continue;
            }
            // Whoever stands first is served first; turning the start keeps that fair.
            source.turn_start = (source.turn_start + 1) % source.readers.len().max(1);
            let (before, after) = source.readers.split_at(source.turn_start);
            for &conn in after.iter().chain(before) {
                self.connections.mark_dirty(conn);
            }
        }
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        while let Some(&(due, conn)) = self.conflating.first() {
            if due > now.mono {
                break;
            }
            self.conflating.pop_first();
            if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) {
                let next = subscriber.make_due(now.mono);
                self.conflating.insert((next, conn));
                self.connections.mark_dirty(conn);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.conflating.first().map(|&(due, _)| due)
    }

    /// A subscriber has left.
    pub(super) fn forget(&mut self, conn: ConnId, subscriber: &Subscriber) {
        self.subscribers -= 1;
        self.places.leave(subscriber.bucket());
        if let Some(due) = subscriber.conflate_due() {
            self.conflating.remove(&(due, conn));
        }
        if let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source()))
            && let Some(interest) = subscriber.interest()
        {
            let place = subscriber.place();
            if let Some(moved) = source.leave(place, interest)
                && let Some(BrokerPeer::Subscriber(moved)) = self.connections.any_peer_mut(moved)
            {
                moved.set_place(place);
            }
        }
    }

    /// Puts what a subscriber should get next into its outbox, unless it can be sent from the ring.
    #[inline]
    pub(super) fn fill(&mut self, conn: ConnId) -> Filled {
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return Filled::Nothing;
        };
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source())) else {
            return Filled::Nothing;
        };
        self.scratch.clear();
        let filled = subscriber.fill(source, &mut self.scratch);
        if self.scratch.is_empty() {
            return if filled == Filled::Lent { filled } else { Filled::Nothing };
        }
        self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        filled
    }

    /// The bytes of the ring from a subscriber's cursor on.
    #[inline]
    pub(super) fn lent(&self, conn: ConnId) -> Outgoing<'_> {
        if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer(conn)
            && let Some(Some(source)) = self.sources.get(usize::from(subscriber.source()))
            && let Some(view) = source.view()
        {
            let frames = limits::WRITE_BYTES_PER_TURN_MAX / FRAME_BYTES;
            let (head, tail) = view.bytes(subscriber.cursor(), frames);
            return Outgoing { head, tail };
        }
        Outgoing::default()
    }

    /// So many bytes of the ring have left. Whether there may be more to send now.
    #[inline]
    pub(super) fn handle_lent_sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return false;
        };
        let Some(Some(source)) = self.sources.get(usize::from(subscriber.source())) else {
            return false;
        };
        let Some(view) = source.view() else { return false };
        // The rest of a half-sent frame is kept apart: the ring may overwrite it before the peer
        // has room for it.
        if let Some(rest) = subscriber.advance(view, bytes) {
            self.connections.fill(conn, &rest);
            return true;
        }
        subscriber.cursor() < view.next_seq()
    }

    /// Bytes that the interests of all sources hold.
    pub(super) fn interest_bytes(&self) -> usize {
        self.sources.iter().flatten().map(|source| source.interests.bytes()).sum()
    }
}
