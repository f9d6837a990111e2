//! Several reactors in one process: the first accepts and hands connections on, each runs on a thread
//! of its own with its own poll, and they end together. What is *not* here: what their nodes share; a
//! reactor alone has none of this.
//!
//! # Decisions
//!
//! * Whatever ends one reactor, a panic too, ends the process and is reported with the reactor's number.
//!   The supervisor then restarts a whole broker. No broker serves only a part of its subscribers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::Waker;

use crate::limits;
use crate::node::{Node, Timed};

use super::Reactor;

/// A connection on its way to another reactor.
pub(super) struct Transfer {
    pub(super) stream: mio::net::TcpStream,
    /// What was read of it and not consumed.
    pub(super) bytes: Vec<u8>,
    pub(super) unconsumed_bytes_max: usize,
}

/// What all reactors of a group see.
#[derive(Default)]
struct GroupState {
    /// The first was asked to stop, or has ended: so do all.
    is_stopping: AtomicBool,
    /// A further one has ended, for whatever reason.
    has_lost_one: AtomicBool,
}

/// One reactor's place in its group.
pub(super) struct Membership {
    number: usize,
    wakers: Vec<Arc<Waker>>,
    senders: Vec<Sender<Transfer>>,
    arrivals: Receiver<Transfer>,
    state: Arc<GroupState>,
}

impl Membership {
    /// Ends the sleep of another reactor. One that fails only means a later wake.
    pub(super) fn wake(&self, reactor: usize) {
        if let Some(waker) = self.wakers.get(reactor) {
            drop(waker.wake());
        }
    }

    /// Sends a connection to another reactor; a queue that is full or closed drops it, which closes it.
    pub(super) fn send(&self, reactor: usize, transfer: Transfer) {
        let is_sent =
            self.senders.get(reactor).is_some_and(|sender| sender.try_send(transfer).is_ok());
        if !is_sent {
            log::warn!("reactor {reactor} took no connection; it is closed");
        }
        self.wake(reactor);
    }

    pub(super) fn next_arrival(&self) -> Option<Transfer> {
        self.arrivals.try_recv().ok()
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Informs the others that this one stops, when it is the first.
    pub(super) fn announce_stop(&self) {
        if self.number == 0 {
            self.state.is_stopping.store(true, Ordering::Release);
            (1..self.wakers.len()).for_each(|other| self.wake(other));
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.is_stopping.load(Ordering::Acquire)
    }

    /// Whether a further reactor has ended before it was asked to.
    pub(super) fn has_lost_one(&self) -> bool {
        self.number == 0 && self.state.has_lost_one.load(Ordering::Acquire)
    }
}

/// Says that a further reactor has ended, however it did: a panic unwinds through this too.
struct EndNotifier {
    state: Arc<GroupState>,
    first: Arc<Waker>,
}

impl Drop for EndNotifier {
    fn drop(&mut self) {
        self.state.has_lost_one.store(true, Ordering::Release);
        drop(self.first.wake());
    }
}

/// Makes one group of these reactors; the first one's number is 0.
fn join(reactors: &mut [&mut Reactor]) {
    let wakers: Vec<_> = reactors.iter().map(|reactor| Arc::clone(&reactor.waker)).collect();
    // The node keeps this bound; see `Broker`.
    let senders = (0..reactors.len()).map(|_| bounded(limits::REACTOR_ARRIVALS_MAX));
    let (senders, arrivals): (Vec<_>, Vec<_>) = senders.unzip();
    let state = Arc::new(GroupState::default());
    for ((number, reactor), arrivals) in reactors.iter_mut().enumerate().zip(arrivals) {
        reactor.sockets.join(Membership {
            number,
            wakers: wakers.clone(),
            senders: senders.clone(),
            arrivals,
            state: Arc::clone(&state),
        });
    }
}

/// Runs the first reactor here and each further one on a thread of its own, until the first is
/// stopped or any of them fails. Whatever ends one ends all.
///
/// # Errors
/// The first failure: of polling, of a node, or a panic of a further reactor's thread.
pub fn run_together<A: Node + Timed, B: Node + Timed + Send>(
    first: &mut Reactor,
    node: &mut A,
    mut others: Vec<(Reactor, B)>,
) -> io::Result<()> {
    let mut reactors = vec![&mut *first];
    reactors.extend(others.iter_mut().map(|(reactor, _)| reactor));
    join(&mut reactors);
    let state = first.sockets.group().map(|group| Arc::clone(&group.state)).unwrap_or_default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut result = Ok(());
        for (number, (mut reactor, mut node)) in (1..).zip(others) {
            let notifier =
                EndNotifier { state: Arc::clone(&state), first: Arc::clone(&first.waker) };
            let run = move || {
                let _bell = notifier;
                reactor.run(&mut node)
            };
            let thread = std::thread::Builder::new().name(format!("reactor-{number}"));
            match thread.spawn_scoped(scope, run) {
                Ok(thread) => threads.push((number, thread)),
                Err(error) => result = Err(error),
            }
        }
        let result = result.and_then(|()| first.run(node));
        // However the first ended, nobody may be left behind.
        if let Some(group) = first.sockets.group() {
            group.announce_stop();
        }
        let ends = threads.into_iter().map(|(number, thread)| match thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(io::Error::other(format!("reactor {number}: {error}"))),
            Err(_) => Err(io::Error::other(format!("reactor {number} panicked"))),
        });
        // All are joined before the first error counts; a further reactor's says more than ours.
        let ends: Vec<io::Result<()>> = ends.collect();
        ends.into_iter().find(Result::is_err).unwrap_or(result)
    })
}
