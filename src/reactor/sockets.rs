//! The sockets of a reactor: listeners, connections, and which of them are ready. This is what
//! [`crate::turn`] drives a node over. Not here: waiting for events, and the order of a turn.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Registry, Token};
use rustix::process::{Resource, getrlimit};
use slab::Slab;

use super::connection::{Connection, ReadOutcome, State};
use super::group::{Membership, Transfer};
use super::listener::Listener;
use super::{Listen, socket};
use crate::limits;
use crate::node::{ConnId, DialFailure, DialId, Level, ListenerId, Node, Outgoing};
use crate::time::Mono;
use crate::turn::{Accepted, Arrival, CutShort, Dialed, ReadEnd, Room, Shell, Written, room_for};

pub(super) const WAKER: Token = Token(usize::MAX);
pub(super) const SIGNAL: Token = Token(usize::MAX - 1);
pub(super) const TIMER: Token = Token(usize::MAX - 2);
/// The first listener; the others count down from here.
const LISTENERS: usize = usize::MAX - 3;

pub(super) struct Sockets {
    registry: Registry,
    listeners: Vec<Listener>,
    /// The one that accepts next.
    next_listener: usize,
    pub(super) connections: Slab<Connection>,
    pub(super) connections_max: usize,
    next_generation: u32,
    /// Dialing connections of which an event came.
    dialed: VecDeque<ConnId>,
    /// Connections that may have more to read, or whose node did not want to be read.
    pub(super) ready_to_read: VecDeque<ConnId>,
    /// Connections whose flush was cut short by its bound, or that have room again.
    pub(super) ready_to_write: VecDeque<ConnId>,
    /// Dialing or lingering connections, which have a deadline each.
    pub(super) timed: BTreeSet<(Mono, ConnId)>,
    /// Closed; their slots are freed at the end of this turn, or of one that follows.
    closed: Vec<ConnId>,
    read_buffer: Box<[u8]>,
    /// The other reactors of the process, when there are any.
    group: Option<Membership>,
}

impl Sockets {
    pub(super) fn new(registry: Registry, listen: &[Listen]) -> io::Result<Sockets> {
        if listen.len() > limits::LISTENERS_MAX {
            return Err(io::Error::other("more listeners than a node may have"));
        }
        let listeners = (0..).zip(listen);
        let bind = |(number, listen): (usize, &Listen)| {
            Listener::bind(listen, &registry, Token(LISTENERS - number))
        };
        Ok(Sockets {
            listeners: listeners.map(bind).collect::<io::Result<_>>()?,
            registry,
            next_listener: 0,
            connections: Slab::with_capacity(limits::CONNECTIONS_MAX),
            connections_max: limits::CONNECTIONS_MAX,
            next_generation: 1,
            dialed: VecDeque::new(),
            ready_to_read: VecDeque::new(),
            ready_to_write: VecDeque::new(),
            timed: BTreeSet::new(),
            closed: Vec::new(),
            read_buffer: vec![0; limits::READ_BYTES_PER_TURN_MAX].into_boxed_slice(),
            group: None,
        })
    }

    pub(super) fn listener(&self, listener: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(listener.0))
    }

    pub(super) fn group(&self) -> Option<&Membership> {
        self.group.as_ref()
    }

    pub(super) fn join(&mut self, group: Membership) {
        self.group = Some(group);
    }

    /// When a socket wants attention even if no event comes.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let timed = self.timed.first().map(|&(at, _)| at);
        self.listeners.iter().filter_map(Listener::retry_at).chain(timed).min()
    }

    /// Whether there is something to do without another event.
    pub(super) fn is_ready<N: Node>(&self, node: &N) -> bool {
        !self.ready_to_write.is_empty()
            || self.ready_to_read.iter().any(|&id| node.wants_bytes(id))
            || self.listeners.iter().any(Listener::has_more)
            || self.group.as_ref().is_some_and(Membership::has_arrivals)
    }

    /// Sorts the events into ready lists. Whether one of them asks to stop.
    pub(super) fn note_events(&mut self, events: &Events) -> bool {
        let mut stop_asked = false;
        for event in events {
            match event.token() {
                WAKER | TIMER => {}
                SIGNAL => stop_asked = true,
                Token(token) if token > LISTENERS - limits::LISTENERS_MAX => {
                    if let Some(listener) = self.listeners.get_mut(LISTENERS - token) {
                        listener.note_ready();
                    }
                }
                token => self.note_connection(connection_of(token), event),
            }
        }
        stop_asked
    }

    fn note_connection(&mut self, id: ConnId, event: &Event) {
        let Some(connection) = self.get_mut(id) else { return };
        let is_dialing = matches!(connection.state, State::Dialing { .. });
        connection.has_read_end |= event.is_read_closed() || event.is_error();
        // One that was not blocked says this with every event: what its node has, the node has said. One whose half
        // we have ended says it however full it is.
        let is_lingering = matches!(connection.state, State::Lingering { .. });
        let has_room = event.is_writable()
            && !is_lingering
            && std::mem::replace(&mut connection.is_blocked, false);
        if is_dialing {
            self.dialed.push_back(id);
        } else if has_room {
            self.wake_writer(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.wake_reader(id);
        }
    }

    fn wake_reader(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id)
            && !std::mem::replace(&mut connection.is_ready_to_read, true)
        {
            self.ready_to_read.push_back(id);
        }
    }

    fn wake_writer(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id)
            && !std::mem::replace(&mut connection.is_ready_to_write, true)
        {
            self.ready_to_write.push_back(id);
        }
    }

    /// The id of the next connection, in this slot.
    fn next_id(&mut self, slot: usize) -> Option<ConnId> {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1).max(1);
        u32::try_from(slot).ok().map(|slot| ConnId { generation, slot })
    }

    /// Takes a socket into the slab and registers it, once, for both directions.
    fn register(
        &mut self,
        stream: mio::net::TcpStream,
        state: State,
        unconsumed_bytes_max: usize,
    ) -> Option<ConnId> {
        let id = self.next_id(self.connections.vacant_key())?;
        let mut connection = Connection::new(stream, id, state, unconsumed_bytes_max);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut connection.stream, token_of(id), interest) {
            log::warn!("a socket could not be watched and is closed: {error}");
            return None;
        }
        self.connections.insert(connection);
        Some(id)
    }

    /// The time of a dial or a lingering close is over.
    #[cold]
    fn expire(&mut self, id: ConnId) -> Option<Option<DialId>> {
        let connection = self.get(id)?;
        let state = connection.state;
        if connection.is_blocked && matches!(state, State::Lingering { .. }) {
            connection.drop_unsent();
        }
        self.mark_closed(id);
        Some(match state {
            State::Dialing { dial, .. } => Some(dial),
            _ => None,
        })
    }

    /// Marks a slot as dead; a turn frees it at its end.
    fn mark_closed(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.is_dead = true;
            let deadline = connection.state.deadline();
            self.untime(id, deadline);
            self.closed.push(id);
        }
    }

    fn untime(&mut self, id: ConnId, deadline: Option<Mono>) {
        if let Some(at) = deadline {
            self.timed.remove(&(at, id));
        }
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id.slot as usize).filter(|c| c.id == id && !c.is_dead)
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize).filter(|c| c.id == id && !c.is_dead)
    }
}

impl Shell for Sockets {
    fn poll_dialed(&mut self) -> Option<Dialed> {
        while let Some(id) = self.dialed.pop_front() {
            let Some(connection) = self.get_mut(id) else { continue };
            let State::Dialing { dial, .. } = connection.state else { continue };
            match connection.conclude_dial() {
                None => {}
                Some(Ok(())) => {
                    let dialing = std::mem::replace(&mut connection.state, State::Open);
                    self.untime(id, dialing.deadline());
                    return Some(Dialed::Open(id, dial));
                }
                Some(Err(failure)) => {
                    self.mark_closed(id);
                    return Some(Dialed::Failed(dial, failure));
                }
            }
        }
        None
    }

    fn poll_accepted(&mut self, now: Mono) -> Option<Accepted> {
        // Listeners take turns, so that a flood at one does not keep the others from accepting.
        let count = self.listeners.len();
        for _ in 0..count {
            let number = self.next_listener % count;
            self.next_listener = number + 1;
            let listener = &mut self.listeners[number];
            let (stream, peer) = match listener.accept(now) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => continue,
                Err(fault) => return Some(Accepted::Failed(fault)),
            };
            if self.connections.len() >= self.connections_max {
                // Dropped, which closes it: there is no memory set aside to say more.
                return Some(Accepted::Dropped);
            }
            if let Err(error) = listener.sockets.apply(&stream) {
                log::debug!("an accepted socket kept its defaults: {error}");
            }
            let unconsumed_bytes_max = listener.unconsumed_bytes_max;
            // Asked anew each time: the limit may be changed from outside.
            let limit = getrlimit(Resource::Nofile).current;
            let room = room_for(u64::try_from(stream.as_raw_fd()).unwrap_or(0), limit);
            if room == Room::Closed {
                return Some(Accepted::Dropped);
            }
            let id = self.register(stream, State::Open, unconsumed_bytes_max);
            let listener = ListenerId(u8::try_from(number).unwrap_or(u8::MAX));
            return Some(match id {
                Some(id) if room == Room::Kept => Accepted::Open(id, listener, peer.ip()),
                Some(id) => Accepted::Surplus(id, listener),
                None => Accepted::Dropped,
            });
        }
        None
    }

    fn poll_handed_over(&mut self) -> Option<Arrival> {
        let Transfer { stream, bytes, unconsumed_bytes_max } =
            self.group.as_ref().and_then(Membership::next_arrival)?;
        // One whose peer has left already has no address, and ends soon.
        let nowhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = stream.peer_addr().map_or(nowhere, |address| address.ip());
        if let Some(conn) = self.register(stream, State::Open, unconsumed_bytes_max) {
            return Some(Arrival { conn, bytes, is_lost: false, peer });
        }
        // It was counted where it came from: the node is called, and takes it off again.
        let conn = self.next_id(self.connections.vacant_key())?;
        Some(Arrival { conn, bytes, is_lost: true, peer })
    }

    fn keep(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(connection) = self.get_mut(conn) {
            connection.keep(bytes);
        }
    }

    fn readable_count(&self) -> usize {
        self.ready_to_read.len()
    }

    fn pop_readable(&mut self) -> Option<ConnId> {
        self.ready_to_read.pop_front()
    }

    fn push_readable(&mut self, conn: ConnId) {
        self.ready_to_read.push_back(conn);
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|connection| connection.state == State::Open)
    }

    fn read(
        &mut self,
        _now: Mono,
        conn: ConnId,
        bytes_max: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> ReadEnd {
        let found = self.connections.get_mut(conn.slot as usize);
        let Some(connection) = found.filter(|c| c.id == conn && !c.is_dead) else {
            return ReadEnd::Drained;
        };
        if matches!(connection.state, State::Dialing { .. }) {
            // A spurious event: the handshake is under way, and its end is an event of its own.
            connection.is_ready_to_read = false;
            return ReadEnd::Drained;
        }
        match connection.read(&mut self.read_buffer, bytes_max, take) {
            ReadOutcome::Drained => {
                connection.is_ready_to_read = false;
                ReadEnd::Drained
            }
            ReadOutcome::More => ReadEnd::More,
            ReadOutcome::Ended(reason) => {
                let was_open = connection.state == State::Open;
                self.mark_closed(conn);
                if was_open { ReadEnd::Ended(reason) } else { ReadEnd::Drained }
            }
        }
    }

    #[inline]
    fn poll_expired(&mut self, now: Mono) -> Option<Option<DialId>> {
        while let Some(&(at, id)) = self.timed.first()
            && at <= now
        {
            self.timed.pop_first();
            if let Some(expired) = self.expire(id) {
                return Some(expired);
            }
        }
        None
    }

    fn wake(&mut self, reactor: usize) {
        if let Some(group) = &self.group {
            group.wake(reactor);
        }
    }

    fn writable_count(&self) -> usize {
        self.ready_to_write.len()
    }

    fn pop_writable(&mut self) -> Option<ConnId> {
        let id = self.ready_to_write.pop_front()?;
        if let Some(connection) = self.get_mut(id) {
            connection.is_ready_to_write = false;
        }
        Some(id)
    }

    #[inline]
    fn can_write(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|it| it.state == State::Open && !it.is_blocked)
    }

    // Called once by each kind of node, in the loop that all deliveries go through: a call of its own would cost
    // a tenth of what the broker's own code takes for a delivery.
    #[inline(always)]
    fn write(&mut self, _now: Mono, conn: ConnId, outgoing: Outgoing<'_>) -> Written {
        match self.get_mut(conn) {
            Some(connection) => connection.write(outgoing),
            None => Written::Broken,
        }
    }

    fn note_cut_short(&mut self, conn: ConnId, end: CutShort) {
        match end {
            CutShort::Bounded => self.wake_writer(conn),
            CutShort::Blocked => {
                if let Some(connection) = self.get_mut(conn) {
                    connection.is_blocked = true;
                }
            }
            CutShort::Broken => {
                // Bytes of the peer may still wait to be read, its reason among them.
                if let Some(connection) = self.get_mut(conn) {
                    connection.has_read_end = true;
                    connection.is_blocked = true;
                }
                self.wake_reader(conn);
            }
        }
    }

    fn dial(
        &mut self,
        now: Mono,
        dial: DialId,
        to: SocketAddr,
        within: Duration,
    ) -> Result<(), DialFailure> {
        let stream = socket::dial(to)?;
        let deadline = now + within;
        let state = State::Dialing { dial, deadline };
        let unconsumed = limits::UNCONSUMED_FRAME_BYTES_MAX;
        let id = self.register(stream, state, unconsumed).ok_or(DialFailure::Reset)?;
        self.timed.insert((deadline, id));
        Ok(())
    }

    /// Our half first, and the peer's half only when it is done or the linger is over. A socket closed with
    /// unread bytes in it is reset by the kernel, and the reset would overtake the frame that says why.
    fn close(&mut self, now: Mono, conn: ConnId) -> bool {
        let Some(connection) = self.get_mut(conn) else { return false };
        let deadline = now + limits::LINGER_MAX;
        connection.state = State::Lingering { deadline };
        if connection.stream.shutdown(std::net::Shutdown::Write).is_err() {
            self.mark_closed(conn);
        } else {
            self.timed.insert((deadline, conn));
            self.wake_reader(conn);
        }
        true
    }

    /// Both polls are informed: an edge that this one has seen comes anew where the socket is registered next.
    fn hand_over(&mut self, conn: ConnId, reactor: usize) {
        if self.get(conn).is_none() {
            return;
        }
        let mut connection = self.connections.remove(conn.slot as usize);
        let is_free = self.registry.deregister(&mut connection.stream).is_ok();
        if let Some(group) = self.group.as_ref().filter(|_| is_free) {
            group.send(reactor, connection.into_transfer());
        }
    }

    fn log(&mut self, level: Level, text: String) {
        match level {
            Level::Error => log::error!("{text}"),
            Level::Warn => log::warn!("{text}"),
            Level::Info => log::info!("{text}"),
            Level::Debug => log::debug!("{text}"),
        }
    }

    #[inline]
    fn reap(&mut self, count_max: usize) -> bool {
        if self.closed.is_empty() {
            return false;
        }
        let kept = self.closed.len().saturating_sub(count_max);
        for id in self.closed.drain(kept..) {
            let mut connection = self.connections.remove(id.slot as usize);
            // Closing the descriptor would deregister it too; this also covers a duplicated one.
            drop(self.registry.deregister(&mut connection.stream));
            self.listeners.iter_mut().for_each(Listener::note_descriptor_freed);
        }
        !self.closed.is_empty()
    }
}

/// Generation above, slot below.
pub(super) fn token_of(id: ConnId) -> Token {
    Token(((id.generation as usize) << 32) | id.slot as usize)
}

#[allow(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
pub(super) fn connection_of(token: Token) -> ConnId {
    ConnId { generation: (token.0 >> 32) as u32, slot: token.0 as u32 }
}

const _: () = assert!(size_of::<usize>() == 8, "tokens need 64 bits");
