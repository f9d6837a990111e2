//! The reactor: one thread, one poll, one node, and the only code that knows mio.
//!
//! A turn is always the same, in this order (each step is a method of [`Reactor`], called from
//! `Reactor::turn`):
//!
//! 1. **poll** for readiness, no longer than the next deadline;
//! 2. **read the clock once**; everything in this turn happens at that moment;
//! 3. **storage completions**, and what other reactors of the process have left;
//! 4. **bounded accepts**;
//! 5. **bounded reads**, decoded in place and handed to the node; what a node that commits nothing makes of
//!    them is flushed here already (see [`Node::sends_before_timers`]);
//! 6. **timers**;
//! 7. **log commit**, so that what was read becomes visible before anybody is told of it, and a wake to
//!    the reactors that have to know;
//! 8. **bounded flush** of dirty connections;
//! 9. **connects and closes** that the node asked for;
//! 10. **reap** closed slots, last, so that nothing above meets a slot under its feet.
//!
//! epoll is edge-triggered under mio, and a connection is registered once for reading and writing.
//! Invariant: whoever stops before `WouldBlock` leaves the connection on a ready list, and a turn with
//! a ready list polls with timeout zero. Otherwise that connection would hang for ever.
//!
//! Invariant: a token carries the generation of its slot. slab gives a slot away at once, and a stale
//! event of the same batch would otherwise hit the newcomer.

mod connection;
mod group;
mod listener;
mod punctual;
mod socket;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::limits;
use crate::node::{Action, CloseReason, ConnId, DialFailure, DialId, Level, Node, Origin};
use crate::time::{Clock, Mono, Now};
use crate::wire::Frame;

use connection::{Connection, Flushed, ReadOutcome, State};
pub use group::run_together;
use group::{Arrival, Membership};
use listener::Listener;
use punctual::PunctualTimer;
pub use socket::SocketOptions;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SIGNAL: Token = Token(usize::MAX - 2);
const TIMER: Token = Token(usize::MAX - 3);

/// What a reactor needs to know before its node exists.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// How accepted sockets are set up.
    pub accepted: SocketOptions,
    /// Whether deadlines less than [`limits::PUNCTUAL_WAIT_MAX`] away are kept to the microsecond, not to
    /// the millisecond. For nodes whose answers wait for them; the others rather have fewer turns.
    pub is_punctual: bool,
}

/// Drives one node on real sockets.
pub struct Reactor {
    poll: Poll,
    events: Events,
    clock: Clock,
    waker: Arc<Waker>,
    listener: Option<Listener>,
    signals: Option<mio::net::UnixStream>,
    connections: Slab<Connection>,
    next_generation: u32,
    accepted: SocketOptions,
    punctual: Option<PunctualTimer>,
    /// Connections that may have more to read, or whose node did not want to be read.
    ready_to_read: VecDeque<ConnId>,
    /// Connections whose flush was cut short by its bound.
    ready_to_write: VecDeque<ConnId>,
    /// Dialing or lingering connections, which have a deadline each.
    timed: BTreeSet<(Mono, ConnId)>,
    /// Closed in this turn; their slots are freed at its end.
    dead: Vec<ConnId>,
    read_buffer: Box<[u8]>,
    stop_asked: bool,
    /// The node was told something in step 8 or 9, behind its timers and its commit. What it makes of
    /// that must not wait for the next deadline: the next turn follows at once.
    has_late_input: bool,
    /// The node may have dirty connections that this turn's bound left for the next.
    has_unflushed: bool,
    /// The other reactors of the process, when there are any.
    group: Option<Membership>,
}

impl Reactor {
    /// Binds the listener and prepares to run.
    ///
    /// # Errors
    /// The operating system's, most often a taken port.
    pub fn new(options: Options) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let listener = match options.listen {
            Some(address) => Some(Listener::bind(address, poll.registry(), LISTENER)?),
            None => None,
        };
        let punctual = match options.is_punctual {
            true => Some(PunctualTimer::new(poll.registry(), TIMER)?),
            false => None,
        };
        Ok(Reactor {
            poll,
            events: Events::with_capacity(limits::EVENTS_PER_TURN_MAX),
            clock: Clock::start(),
            waker,
            listener,
            signals: None,
            connections: Slab::new(),
            next_generation: 1,
            accepted: options.accepted,
            punctual,
            ready_to_read: VecDeque::new(),
            ready_to_write: VecDeque::new(),
            timed: BTreeSet::new(),
            dead: Vec::new(),
            read_buffer: vec![0; limits::READ_BYTES_PER_TURN_MAX].into_boxed_slice(),
            stop_asked: false,
            has_late_input: false,
            has_unflushed: false,
            group: None,
        })
    }

    /// Where the listener really listens (port 0 asks the system to choose).
    ///
    /// # Errors
    /// The operating system's, or `NotFound` when this reactor does not listen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Some(listener) => listener.local_addr(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The clock that all times of this reactor come from.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Something that ends the reactor's sleep from another thread.
    #[must_use]
    pub fn waker(&self) -> Box<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        // A wake that fails only means a later wake: the deadline still ends the sleep.
        Box::new(move || drop(waker.wake()))
    }

    /// Stops the node when the stream becomes readable: the read end of a signal pipe.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stop_on(&mut self, signals: std::os::unix::net::UnixStream) -> io::Result<()> {
        signals.set_nonblocking(true)?;
        let mut signals = mio::net::UnixStream::from_std(signals);
        self.poll.registry().register(&mut signals, SIGNAL, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Runs the node until it is stopped.
    ///
    /// # Errors
    /// When polling fails, or the node says that it cannot go on.
    pub fn run<N: Node>(&mut self, node: &mut N) -> io::Result<()> {
        let mut stop_by: Option<Mono> = None;
        loop {
            let now = self.turn(node, stop_by)?;
            if let Some(failure) = node.failure() {
                return Err(io::Error::other(failure.to_owned()));
            }
            if let Some(group) = &self.group {
                if group.has_lost_one() && stop_by.is_none() {
                    return Err(io::Error::other("another reactor has ended"));
                }
                self.stop_asked |= group.is_stopping();
            }
            if self.stop_asked && stop_by.is_none() {
                if let Some(group) = &self.group {
                    group.announce_stop();
                }
                stop_by = Some(now.mono + limits::STOP_MAX);
                node.handle_stop(now);
                self.flush_and_act(node, now);
            }
            if stop_by.is_some_and(|by| node.is_stopped() || now.mono >= by) {
                self.flush_and_act(node, now);
                return Ok(());
            }
        }
    }

    /// One turn. The order is the module's documentation.
    fn turn<N: Node>(&mut self, node: &mut N, stop_by: Option<Mono>) -> io::Result<Now> {
        self.poll_readiness(node, stop_by)?;
        let now = self.clock.now();
        node.handle_storage(now);
        node.handle_mail(now);
        self.note_events(node, now);
        self.accept(node, now);
        self.welcome(node, now);
        self.read(node, now);
        if node.sends_before_timers() {
            self.flush(node, now);
        }
        self.expire(node, now);
        node.handle_timers(now);
        node.commit(now);
        while let Some(reactor) = node.poll_wake() {
            if let Some(group) = &self.group {
                group.wake(reactor);
            }
        }
        self.flush_and_act(node, now);
        Ok(now)
    }

    fn flush_and_act<N: Node>(&mut self, node: &mut N, now: Now) {
        self.flush(node, now);
        self.act(node, now);
        self.reap();
    }

    /// Step 1.
    fn poll_readiness<N: Node>(&mut self, node: &N, stop_by: Option<Mono>) -> io::Result<()> {
        let timed = self.timed.first().map(|&(at, _)| at);
        let retry = self.listener.as_ref().and_then(Listener::retry_at);
        let deadline =
            [node.next_deadline(), stop_by, retry].into_iter().flatten().chain(timed).min();
        let can_read = self.ready_to_read.iter().any(|&id| node.wants_frames(id));
        let accepting = self.listener.as_ref().is_some_and(Listener::has_more);
        let is_late = std::mem::take(&mut self.has_late_input)
            || self.has_unflushed
            || self.group.as_ref().is_some_and(Membership::has_arrivals);
        let timeout = if can_read || accepting || is_late || !self.ready_to_write.is_empty() {
            Some(Duration::ZERO)
        } else {
            let now = self.clock.now().mono;
            if let (Some(timer), Some(at)) = (&mut self.punctual, deadline) {
                timer.arm(now, at);
            }
            deadline.map(|at| at.since(now))
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Sorts the events into ready lists; concludes dials.
    fn note_events<N: Node>(&mut self, node: &mut N, now: Now) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER | TIMER => {}
                SIGNAL => self.stop_asked = true,
                LISTENER => {
                    if let Some(listener) = &mut self.listener {
                        listener.note_ready();
                    }
                }
                token => self.note_connection(node, now, connection_of(token), event),
            }
        }
        self.events = events;
    }

    fn note_connection<N: Node>(&mut self, node: &mut N, now: Now, id: ConnId, event: &Event) {
        let Some(connection) = self.get_mut(id) else { return };
        if let State::Dialing { dial, .. } = connection.state {
            match connection.conclude_dial() {
                None => return,
                Some(Ok(())) => {
                    let dialing = std::mem::replace(&mut connection.state, State::Open);
                    self.untime(id, dialing.deadline());
                    node.handle_open(now, id, Origin::Dialed(dial));
                }
                Some(Err(failure)) => {
                    self.bury(id);
                    node.handle_dial_failed(now, dial, failure);
                    return;
                }
            }
        }
        let Some(connection) = self.get_mut(id) else { return };
        // One that was not blocked says this with every event: what its node has, the node has said.
        if event.is_writable()
            && std::mem::replace(&mut connection.is_blocked, false)
            && !std::mem::replace(&mut connection.is_ready_to_write, true)
        {
            self.ready_to_write.push_back(id);
        }
        let Some(connection) = self.get_mut(id) else { return };
        connection.has_read_end |= event.is_read_closed() || event.is_error();
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.wake_reader(id);
        }
    }

    fn wake_reader(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id)
            && !connection.is_ready_to_read
        {
            connection.is_ready_to_read = true;
            self.ready_to_read.push_back(id);
        }
    }

    /// Step 4.
    fn accept<N: Node>(&mut self, node: &mut N, now: Now) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let Some(listener) = &mut self.listener else { return };
            let stream = match listener.accept(now.mono) {
                Ok(Some(stream)) => stream,
                Ok(None) => return,
                Err(fault) => {
                    node.handle_local_fault(now, fault);
                    return;
                }
            };
            if self.connections.len() >= limits::CONNECTIONS_MAX {
                // Dropped, which closes it: there is no memory set aside to say more.
                continue;
            }
            if let Err(error) = self.accepted.apply(&stream) {
                log::debug!("an accepted socket kept its defaults: {error}");
            }
            if let Some(id) = self.register(stream, State::Open) {
                node.handle_open(now, id, Origin::Accepted);
            }
        }
    }

    /// Takes a socket into the slab and registers it, once, for both directions.
    fn register(&mut self, stream: mio::net::TcpStream, state: State) -> Option<ConnId> {
        let generation = self.next_generation;
        let entry = self.connections.vacant_entry();
        let id = ConnId { generation, slot: u32::try_from(entry.key()).ok()? };
        let mut connection = Connection::new(stream, id, state);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            self.poll.registry().register(&mut connection.stream, token_of(id), interest)
        {
            log::warn!("a socket could not be watched and is closed: {error}");
            return None;
        }
        entry.insert(connection);
        self.next_generation = self.next_generation.wrapping_add(1).max(1);
        Some(id)
    }

    /// Step 5.
    fn read<N: Node>(&mut self, node: &mut N, now: Now) {
        for _ in 0..self.ready_to_read.len() {
            let Some(id) = self.ready_to_read.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(id.slot as usize) else { continue };
            if connection.id != id || connection.is_dead {
                continue;
            }
            if connection.state == State::Open && !node.wants_frames(id) {
                self.ready_to_read.push_back(id);
                continue;
            }
            let outcome = connection.read(&mut self.read_buffer, |frames| {
                node.handle_frames(now, id, frames);
            });
            match outcome {
                ReadOutcome::Drained => connection.is_ready_to_read = false,
                ReadOutcome::More => self.ready_to_read.push_back(id),
                ReadOutcome::Ended(reason) => {
                    let was_open = connection.state == State::Open;
                    self.bury(id);
                    if was_open {
                        node.handle_close(now, id, reason);
                    }
                }
            }
        }
    }

    /// Step 6, the reactor's own timers: dials and lingering closes.
    fn expire<N: Node>(&mut self, node: &mut N, now: Now) {
        while let Some(&(at, id)) = self.timed.first()
            && at <= now.mono
        {
            self.timed.pop_first();
            let Some(connection) = self.get(id) else { continue };
            let state = connection.state;
            self.bury(id);
            if let State::Dialing { dial, .. } = state {
                node.handle_dial_failed(now, dial, DialFailure::Deadline);
            }
        }
    }

    /// Step 8. What its bound leaves is dirty in the next turn, which follows at once; a node that stops
    /// has no next turn.
    fn flush<N: Node>(&mut self, node: &mut N, now: Now) {
        let mut left = if self.stop_asked { usize::MAX } else { limits::FLUSHES_PER_TURN_MAX };
        for _ in 0..self.ready_to_write.len().min(left) {
            let Some(id) = self.ready_to_write.pop_front() else { break };
            if let Some(connection) = self.get_mut(id) {
                connection.is_ready_to_write = false;
            }
            self.flush_one(node, now, id);
        }
        self.has_unflushed = false;
        while let Some(id) = node.poll_dirty() {
            self.flush_one(node, now, id);
            left -= 1;
            if left == 0 {
                self.has_unflushed = true;
                return;
            }
        }
    }

    fn flush_one<N: Node>(&mut self, node: &mut N, now: Now, id: ConnId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.state != State::Open || connection.is_blocked {
            return;
        }
        match connection.flush(node, now) {
            Flushed::All => {}
            Flushed::Blocked => connection.is_blocked = true,
            Flushed::Bounded => {
                if !std::mem::replace(&mut connection.is_ready_to_write, true) {
                    self.ready_to_write.push_back(id);
                }
            }
            Flushed::Broken => {
                // Bytes of the peer may still wait to be read, its reason among them.
                connection.has_read_end = true;
                connection.is_blocked = true;
                self.wake_reader(id);
            }
        }
    }

    /// Step 9.
    fn act<N: Node>(&mut self, node: &mut N, now: Now) {
        while let Some(action) = node.poll_action() {
            match action {
                Action::Dial { dial, to, within } => match socket::dial(to) {
                    Ok(stream) => {
                        let state = State::Dialing { dial, deadline: now.mono + within };
                        match self.register(stream, state) {
                            Some(id) => drop(self.timed.insert((now.mono + within, id))),
                            None => self.fail_dial(node, now, dial, DialFailure::Reset),
                        }
                    }
                    Err(failure) => self.fail_dial(node, now, dial, failure),
                },
                Action::Close(id) => self.close(node, now, id),
                Action::HandOver { conn, reactor, frames } => self.hand_over(conn, reactor, frames),
                Action::Log(level, text) => match level {
                    Level::Error => log::error!("{text}"),
                    Level::Warn => log::warn!("{text}"),
                    Level::Info => log::info!("{text}"),
                    Level::Debug => log::debug!("{text}"),
                },
            }
        }
    }

    /// A dial that failed before it began, as most do that meet a bad route.
    fn fail_dial<N: Node>(&mut self, node: &mut N, now: Now, dial: DialId, failure: DialFailure) {
        self.has_late_input = true;
        node.handle_dial_failed(now, dial, failure);
    }

    /// Closes for the node: the last words first, then our half, and the peer's half only when it is
    /// done or the linger is over. A socket closed with unread bytes in it is reset by the kernel, and
    /// the reset would overtake the words that say why.
    fn close<N: Node>(&mut self, node: &mut N, now: Now, id: ConnId) {
        self.flush_one(node, now, id);
        let Some(connection) = self.get_mut(id) else { return };
        let deadline = now.mono + limits::LINGER_MAX;
        connection.state = State::Lingering { deadline };
        if connection.stream.shutdown(std::net::Shutdown::Write).is_err() {
            self.bury(id);
        } else {
            self.timed.insert((deadline, id));
            self.wake_reader(id);
        }
        self.has_late_input = true;
        node.handle_close(now, id, CloseReason::Ours);
    }

    /// Marks a slot as dead; it is freed at the end of the turn.
    fn bury(&mut self, id: ConnId) {
        if let Some(connection) = self.get_mut(id) {
            connection.is_dead = true;
            let deadline = connection.state.deadline();
            self.untime(id, deadline);
            self.dead.push(id);
        }
    }

    fn untime(&mut self, id: ConnId, deadline: Option<Mono>) {
        if let Some(at) = deadline {
            self.timed.remove(&(at, id));
        }
    }

    /// Gives a connection to another reactor. Both polls are told: an edge that this one has seen
    /// comes anew where the socket is registered next.
    fn hand_over(&mut self, id: ConnId, reactor: usize, frames: Vec<Frame>) {
        if self.get(id).is_none() {
            return;
        }
        let mut connection = self.connections.remove(id.slot as usize);
        let is_free = self.poll.registry().deregister(&mut connection.stream).is_ok();
        if let Some(group) = self.group.as_ref().filter(|_| is_free) {
            let carry = connection.carried().to_vec();
            group.send(reactor, Arrival { stream: connection.stream, frames, carry });
        }
    }

    /// Step 4, of a further reactor: connections that another one hands over.
    fn welcome<N: Node>(&mut self, node: &mut N, now: Now) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let Some(arrival) = self.group.as_ref().and_then(Membership::next_arrival) else {
                return;
            };
            let Some(id) = self.register(arrival.stream, State::Open) else {
                // It was counted; the node takes it off again.
                let slot = u32::try_from(self.connections.vacant_key()).unwrap_or(u32::MAX);
                let id = ConnId { generation: self.next_generation, slot };
                self.next_generation = self.next_generation.wrapping_add(1).max(1);
                node.handle_open(now, id, Origin::Accepted);
                node.handle_close(now, id, CloseReason::Reset);
                continue;
            };
            if let Some(connection) = self.get_mut(id) {
                connection.carry_on(&arrival.carry);
            }
            node.handle_open(now, id, Origin::Accepted);
            node.handle_frames(now, id, &arrival.frames);
        }
    }

    /// Step 10.
    fn reap(&mut self) {
        for id in std::mem::take(&mut self.dead) {
            let mut connection = self.connections.remove(id.slot as usize);
            // Closing the descriptor would deregister it too; this also covers a duplicated one.
            drop(self.poll.registry().deregister(&mut connection.stream));
            if let Some(listener) = &mut self.listener {
                listener.note_descriptor_freed();
            }
        }
    }

    fn get(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id.slot as usize).filter(|c| c.id == id && !c.is_dead)
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize).filter(|c| c.id == id && !c.is_dead)
    }
}

/// Generation above, slot below.
fn token_of(id: ConnId) -> Token {
    Token(((id.generation as usize) << 32) | id.slot as usize)
}

#[allow(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
fn connection_of(token: Token) -> ConnId {
    ConnId { generation: (token.0 >> 32) as u32, slot: token.0 as u32 }
}

const _: () = assert!(size_of::<usize>() == 8, "tokens need 64 bits");

#[cfg(test)]
mod tests;
