//! The connections of browsers and of other HTTP clients, by what they are at.

use std::net::IpAddr;

use super::answers::Writer;
use super::front::Ticket;
use super::inner::Owner;
use super::stream::Stream;
use super::subscriptions::Subscription;
use crate::http::{Format, HttpConnection};
use crate::limits;
use crate::node::ConnId;

/// What an HTTP connection waits for.
#[derive(Debug)]
pub(super) enum Job {
    /// Nothing: a request may come.
    None,
    /// An answer of the aggregator.
    Answer(Ticket),
    /// The state of all nodes.
    Nodes(Format),
    /// Figures of all nodes, for a monitoring system.
    Metrics,
    /// Whether the system can serve.
    Ready,
    /// The rest of a long answer is written as the client takes it.
    Writing(Box<Writer>),
}

/// One connection that speaks HTTP.
#[derive(Debug)]
pub(super) struct HttpDoor {
    pub(super) http: HttpConnection,
    pub(super) from: IpAddr,
    pub(super) job: Job,
    /// Memory that its answer has.
    pub(super) held: usize,
    /// Bytes that came behind a request whose answer is not sent.
    pub(super) pending: Vec<u8>,
    /// Nothing has come yet: it may turn out to be a peer that speaks frames.
    pub(super) is_new: bool,
}

/// One stream of events.
#[derive(Debug)]
pub(super) struct EventsDoor {
    pub(super) http: HttpConnection,
    pub(super) subscription: Subscription,
}

/// One connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most are streams, and a box for each costs more")]
pub(super) enum Door {
    Http(Box<HttpDoor>),
    Stream(Stream),
    Events(Box<EventsDoor>),
}

/// All of them, by slot.
#[derive(Debug)]
pub(super) struct Doors {
    slots: Vec<Option<(ConnId, Door)>>,
    open: usize,
}

/// An idle browser costs this here, and no more, so a field more needs a reason.
const _: () = assert!(
    size_of::<Option<(ConnId, Door)>>() + size_of::<Owner>() <= limits::GATEWAY_BROWSER_BYTES
);

impl Doors {
    /// A table that does not move up to so many connections.
    pub(super) fn with_capacity(count: usize) -> Doors {
        Doors { slots: Vec::with_capacity(count.min(limits::CONNECTIONS_MAX)), open: 0 }
    }

    pub(super) fn insert(&mut self, conn: ConnId, door: Door) {
        let place = conn.slot as usize;
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, || None);
        }
        self.open += usize::from(self.slots[place].is_none());
        self.slots[place] = Some((conn, door));
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Door> {
        let slot = self.slots.get_mut(conn.slot as usize)?.as_mut();
        slot.filter(|(id, _)| *id == conn).map(|(_, door)| door)
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Door> {
        let slot = self.slots.get(conn.slot as usize)?.as_ref();
        slot.filter(|(id, _)| *id == conn).map(|(_, door)| door)
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Door> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        if slot.as_ref().is_none_or(|(id, _)| *id != conn) {
            return None;
        }
        self.open -= 1;
        slot.take().map(|(_, door)| door)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// So many places have had one.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The one at a place.
    pub(super) fn at(&self, place: usize) -> Option<ConnId> {
        self.slots.get(place)?.as_ref().map(|(conn, _)| *conn)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Door)> {
        self.slots.iter().flatten().map(|(conn, door)| (*conn, door))
    }

    /// Their numbers.
    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.slots.iter().flatten().map(|(conn, _)| *conn).collect()
    }
}
