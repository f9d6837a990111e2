//! The reactor: one thread, one poll, one node. Beside the client's sockets the only code that knows mio.
//!
//! A turn is always the same, in this order:
//!
//! 1. **poll** for readiness, no longer than the next deadline;
//! 2. **read the clock once**; everything in this turn happens at that moment;
//! 3. to 10.: [`crate::turn`], over the sockets of this reactor.
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
mod sockets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Waker};

use crate::limits;
use crate::node::{ListenerId, Node, Timed};
use crate::time::{Clock, Mono, Now};
use crate::turn::Turn;

pub use group::run_together;
use punctual::PunctualTimer;
pub use socket::SocketOptions;
use sockets::{SIGNAL, Sockets, TIMER, WAKER};

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// How accepted sockets are set up.
    pub sockets: SocketOptions,
    /// Bytes that the node may leave unconsumed between two reads: the longest beginning of a message that
    /// its protocol has. A connection with more is closed.
    pub unconsumed_bytes_max: usize,
}

impl Listen {
    /// A listener for frames with the kernel's socket options.
    #[must_use]
    pub fn frames(address: SocketAddr) -> Listen {
        Listen {
            address,
            sockets: SocketOptions::default(),
            unconsumed_bytes_max: limits::UNCONSUMED_FRAME_BYTES_MAX,
        }
    }
}

/// What a reactor needs to know before its node exists.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to listen; the node knows each by its place here (see [`ListenerId`]).
    pub listen: Vec<Listen>,
    /// Whether deadlines less than [`limits::PUNCTUAL_WAIT_MAX`] away are kept to the microsecond, not to
    /// the millisecond. For nodes whose answers wait for them; the others rather have fewer turns.
    pub is_punctual: bool,
}

impl Options {
    /// Listens for frames on one address.
    #[must_use]
    pub fn listening(address: SocketAddr) -> Options {
        Options { listen: vec![Listen::frames(address)], is_punctual: false }
    }
}

/// Drives one node on real sockets.
pub struct Reactor {
    poll: Poll,
    events: Events,
    clock: Clock,
    waker: Arc<Waker>,
    signals: Option<mio::net::UnixStream>,
    punctual: Option<PunctualTimer>,
    sockets: Sockets,
    turn: Turn,
    /// When the turn began whose end the node has not been told.
    began: Option<Now>,
    stop_asked: bool,
}

impl Reactor {
    /// Binds the listeners and prepares to run.
    ///
    /// # Errors
    /// The operating system's, most often a taken port.
    pub fn new(options: Options) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let punctual = match options.is_punctual {
            true => Some(PunctualTimer::new(poll.registry(), TIMER)?),
            false => None,
        };
        Ok(Reactor {
            sockets: Sockets::new(poll.registry().try_clone()?, &options.listen)?,
            poll,
            events: Events::with_capacity(limits::EVENTS_PER_TURN_MAX),
            clock: Clock::start(),
            waker,
            signals: None,
            punctual,
            turn: Turn::default(),
            began: None,
            stop_asked: false,
        })
    }

    /// Where the first listener really listens (port 0 asks the system to choose).
    ///
    /// # Errors
    /// The operating system's, or `NotFound` when this reactor does not listen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr_of(ListenerId(0))
    }

    /// Where a listener really listens.
    ///
    /// # Errors
    /// The operating system's, or `NotFound` when there is no such listener.
    pub fn local_addr_of(&self, listener: ListenerId) -> io::Result<SocketAddr> {
        match self.sockets.listener(listener) {
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
    pub fn run<N: Node + Timed>(&mut self, node: &mut N) -> io::Result<()> {
        let mut stop_by: Option<Mono> = None;
        loop {
            let now = self.turn(node, stop_by)?;
            if let Some(failure) = node.failure() {
                return Err(io::Error::other(failure.to_owned()));
            }
            if let Some(group) = self.sockets.group() {
                if group.has_lost_one() && stop_by.is_none() {
                    return Err(io::Error::other("another reactor has ended"));
                }
                self.stop_asked |= group.is_stopping();
            }
            if self.stop_asked && stop_by.is_none() {
                if let Some(group) = self.sockets.group() {
                    group.announce_stop();
                }
                stop_by = Some(now.mono + limits::STOP_MAX);
                node.handle_stop(now);
                self.turn.finish(&mut self.sockets, node, now);
            }
            if stop_by.is_some_and(|by| node.is_stopped() || now.mono >= by) {
                self.turn.finish(&mut self.sockets, node, now);
                // It has stopped, and says that what had to survive may not have.
                return node
                    .failure()
                    .map_or(Ok(()), |text| Err(io::Error::other(text.to_owned())));
            }
        }
    }

    /// One turn.
    fn turn<N: Node + Timed>(&mut self, node: &mut N, stop_by: Option<Mono>) -> io::Result<Now> {
        self.poll_readiness(node, stop_by)?;
        let now = self.clock.now();
        // The poll of an urgent turn does not wait, so its time belongs to the turn before.
        self.end_turn(node, now.mono);
        self.began = Some(now);
        self.stop_asked |= self.sockets.note_events(&self.events);
        self.turn.run(&mut self.sockets, node, now);
        Ok(now)
    }

    /// Tells the node how long its turn took. It costs no reading of the clock: `at` was read for something else.
    fn end_turn<N: Timed>(&mut self, node: &mut N, at: Mono) {
        if let Some(began) = self.began.take() {
            node.handle_turn_end(began, at.since(began.mono));
        }
    }

    /// Step 1.
    fn poll_readiness<N: Node + Timed>(
        &mut self,
        node: &mut N,
        stop_by: Option<Mono>,
    ) -> io::Result<()> {
        let of_sockets = self.sockets.next_deadline();
        let deadline = [node.next_deadline(), stop_by, of_sockets].into_iter().flatten().min();
        let timeout = if self.turn.is_urgent() || self.sockets.is_ready(node) {
            Some(Duration::ZERO)
        } else {
            let now = self.clock.now().mono;
            self.end_turn(node, now);
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
}

#[cfg(test)]
mod tests;
