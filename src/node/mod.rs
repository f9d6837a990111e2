//! The seam between machines and shells, and the nodes themselves.
//!
//! A node is a machine: plain state behind the [`Node`] trait. The shell reports what happened
//! (`handle_*`), with the time passed in, and asked what it wants (`poll_*`, [`Node::outgoing`]). It
//! has no clock, socket, file or thread, so the same node runs in the reactor on real sockets and in
//! a simulator on virtual ones. What is *not* here: any code that knows mio, and any `dyn` or async.

pub mod aggregator;
mod breakers;
pub mod broker;
pub mod codec;
pub mod external;
mod freshness;
pub mod lines;
pub mod quotes;
pub mod replica;
pub mod sequencer;
pub(crate) mod session;
pub mod shard;
pub(crate) mod uplink;

pub use breakers::{
    BREAKER_NAME_BYTES_MAX, aggregator_breaker_name, apply_operator_action, breaker_change,
    breaker_described_by, breaker_outcome, describe_breaker, reason_key,
};
pub(crate) use session::Service;
pub use session::{Connection, Connections, Round, Work, WorkSpent};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use crate::breaker::LocalFault;
use crate::time::{Mono, Now};
use crate::wire::Frame;

/// One connection for as long as it lives. Never given out twice: a late event of a closed
/// connection meets nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Counts up with every connection of the process.
    pub generation: u32,
    /// A small index that is used again after a close.
    pub slot: u32,
}

/// A node's own name for one thing it dials; the same peer keeps the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u32);

/// One of the addresses that a node listens on, counted from 0 in the order of its configuration. Each may
/// speak another protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u8);

/// How a connection came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A peer connected to this listener, from this address.
    Accepted(ListenerId, IpAddr),
    /// Another reactor of the process accepted it and handed it over.
    HandedOver(IpAddr),
    /// A peer connected, and there is no descriptor that it could keep: it is told so and closed.
    Surplus(ListenerId),
    /// Our own [`Action::Dial`] came through.
    Dialed(DialId),
}

impl Origin {
    /// A peer of this machine connected to the first listener: for tests and simulations.
    pub const LOCAL: Origin = Origin::Accepted(ListenerId(0), IpAddr::V4(Ipv4Addr::LOCALHOST));
}

/// Why a dial did not become a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Somebody answered, and said no.
    Refused,
    /// No route, or the network said no.
    Unreachable,
    /// Nobody answered in time.
    Deadline,
    /// Answered and broken off at once.
    Reset,
    /// The kernel connected the socket to itself; nobody listens there.
    SelfConnect,
    /// Our own machine could not even try.
    Local(LocalFault),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The node asked for it.
    Ours,
    /// The peer closed it between two messages.
    PeerClosed,
    /// The peer closed it inside a message.
    MidMessage,
    /// A message was longer than the listener takes.
    TooLong,
    /// Broken by the peer or the network.
    Reset,
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            CloseReason::Ours => "closed by us",
            CloseReason::PeerClosed => "closed by the peer",
            CloseReason::MidMessage => "closed by the peer inside a frame",
            CloseReason::TooLong => "a message was too long",
            CloseReason::Reset => "reset",
        })
    }
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is lost or wrong.
    Error,
    /// Something is odd, and handled.
    Warn,
    /// Something that an operator follows.
    Info,
    /// Something for whoever looks for a bug.
    Debug,
}

/// What a node wants its shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect. Ends in exactly one `handle_open` or `handle_dial_failed`.
    Dial {
        /// The node's name for it.
        dial: DialId,
        /// Whom.
        to: SocketAddr,
        /// How long to wait for the handshake.
        within: Duration,
    },
    /// Close, after trying once more to send what is outgoing. Ends in `handle_close`.
    Close(ConnId),
    /// Give the connection to another reactor of the process, which knows it by another id and calls
    /// `handle_open` and then `handle_bytes` of its node with what was read here and not consumed. For this
    /// node the connection is over without `handle_close`.
    HandOver {
        /// Which connection.
        conn: ConnId,
        /// The reactor's number; the first has 0.
        reactor: usize,
    },
    /// Write a log line.
    Log(Level, String),
}

/// The bytes that a connection has ready, in order, as up to three slices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Ahead of the others: what a transport puts before them, such as the header of a message. Most often empty.
    pub front: &'a [u8],
    /// First.
    pub head: &'a [u8],
    /// Behind it; empty unless the source wraps around.
    pub tail: &'a [u8],
}

impl Outgoing<'_> {
    /// Bytes in one slice.
    #[must_use]
    pub fn one(bytes: &[u8]) -> Outgoing<'_> {
        Outgoing { head: bytes, ..Outgoing::default() }
    }

    /// Bytes in all slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front.len() + self.head.len() + self.tail.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.head.is_empty() && self.tail.is_empty()
    }
}

/// A machine that a shell can drive; [`crate::turn`] has the order of the calls.
///
/// Nothing here has an empty default: a hook that is forgotten would be a bug without a trace. Nodes that
/// speak frames implement `Service` instead, and have this by the session layer.
pub trait Node {
    /// A connection stands.
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin);

    /// A dial failed.
    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure);

    /// Bytes arrived: those that were not consumed before, and new ones behind them. Returns how many are
    /// consumed, from the front on. The rest is offered again when there is more.
    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize;

    /// A connection ended. Every `handle_open` is followed by exactly one of these, or by a
    /// [`Action::HandOver`].
    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason);

    /// The shell ran out of something while accepting.
    fn handle_local_fault(&mut self, now: Now, fault: LocalFault);

    /// Storage may have finished something.
    fn handle_storage(&mut self, now: Now);

    /// A turn begins. Other reactors of the process may have left something.
    fn handle_mail(&mut self, now: Now);

    /// Whether what the reads of a turn have brought about is sent before its timers are looked at. For a
    /// node that commits nothing, and for whose answers somebody waits: what the timers need is code and
    /// data that an idle processor has forgotten. The bounds of a flush hold for this one and for the turn's.
    fn sends_before_timers(&self) -> bool;

    /// Called every turn, and no later than [`Node::next_deadline`].
    fn handle_timers(&mut self, now: Now);

    /// All input of this turn has been handled: make it visible, publish it.
    fn commit(&mut self, now: Now);

    /// What is live has been sent. A bounded part of what can wait, and is no sending of bytes.
    fn proceed(&mut self, now: Now);

    /// The operator wants the node to end. It is done when [`Node::is_stopped`] says so.
    fn handle_stop(&mut self, now: Now);

    /// Whether everything that must survive has been handed over.
    fn is_stopped(&self) -> bool;

    /// Why the node cannot go on, once it cannot: the shell then ends the process loudly.
    fn failure(&self) -> Option<&str>;

    /// When [`Node::handle_timers`] must be called at the latest.
    fn next_deadline(&self) -> Option<Mono>;

    /// The next thing that the node wants done.
    fn poll_action(&mut self) -> Option<Action>;

    /// The next reactor of the process that has to be notified, now that this turn is committed, that something
    /// was left for it.
    fn poll_wake(&mut self) -> Option<usize>;

    /// A connection that has something new to send. Each is named at most once until it was asked
    /// for its [`Node::outgoing`] bytes.
    fn poll_dirty(&mut self) -> Option<ConnId>;

    /// The next connection that is sent what can wait, behind those with something new; as long as this turn
    /// may spend something on them.
    fn poll_bulk(&mut self) -> Option<ConnId>;

    /// Whether connections are left for [`Node::poll_bulk`], now or in the next turn.
    fn has_bulk(&self) -> bool;

    /// There is room again for what `conn` is sent. If that can wait, it is put into the line of
    /// [`Node::poll_bulk`]; whether it is.
    fn put_off(&mut self, conn: ConnId) -> bool;

    /// What `conn` has ready now; empty when nothing, or when the connection is unknown.
    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_>;

    /// The kernel took the first `bytes` of what [`Node::outgoing`] showed. Whether there may be more to send
    /// now: a shell that is told that there is none does not ask.
    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool;

    /// Whether `conn` may be read now. A node that says no is asked again every turn.
    fn wants_bytes(&self, conn: ConnId) -> bool;

    /// Whether `conn` brings what is live: it is read in every turn. Of others a turn reads a bounded part.
    fn is_source(&self, conn: ConnId) -> bool;
}

/// A node that is told how long its turns take. Only a shell with a clock can say that: simulated turns have no length.
pub trait Timed {
    /// The turn that began at `now` has ended: so much later, all that it had to send was given to the kernel.
    fn handle_turn_end(&mut self, now: Now, length: Duration);
}

/// Hands whole frames to a node, for tests and simulations.
pub trait FrameInput: Node {
    /// As [`Node::handle_bytes`]; how many frames are consumed.
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) -> usize {
        self.handle_bytes(now, conn, zerocopy::IntoBytes::as_bytes(frames)) / size_of::<Frame>()
    }
}

impl<N: Node> FrameInput for N {}
