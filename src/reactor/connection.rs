//! One socket in the reactor: what its node has not consumed, one read, one write.

use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;

use super::group::Transfer;
use super::socket;
use crate::limits;
use crate::node::{CloseReason, ConnId, DialFailure, DialId, Outgoing};
use crate::time::Mono;
use crate::turn::Written;

/// What a socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The handshake is under way.
    Dialing { dial: DialId, deadline: Mono },
    /// The node knows it.
    Open,
    /// The node is done with it; what the peer still sends is read and dropped.
    Lingering { deadline: Mono },
}

impl State {
    /// When a connection in this state wants attention even if nothing happens.
    pub(super) fn deadline(self) -> Option<Mono> {
        match self {
            State::Dialing { deadline, .. } | State::Lingering { deadline } => Some(deadline),
            State::Open => None,
        }
    }
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) id: ConnId,
    pub(super) state: State,
    /// The kernel took less than was offered; the next writable event clears it.
    pub(super) is_blocked: bool,
    /// On the reactor's ready list.
    pub(super) is_ready_to_read: bool,
    /// On the reactor's list of those to flush.
    pub(super) is_ready_to_write: bool,
    /// The kernel said that the peer's half is over: reads go on until they say so too.
    pub(super) has_read_end: bool,
    /// Waits to be reaped.
    pub(super) is_dead: bool,
    /// What the node has not consumed: the beginning of a message whose end has not arrived.
    unconsumed: Vec<u8>,
    /// No more than one read can bring.
    unconsumed_bytes_max: u32,
}

/// Most connections are idle, so a field more needs a reason. (With debug assertions mio keeps more of each socket.)
const _: () =
    assert!(cfg!(debug_assertions) || size_of::<Connection>() <= limits::REACTOR_CONNECTION_BYTES);

/// How a read ended.
pub(super) enum ReadOutcome {
    /// Nothing more for now; the kernel will say when there is.
    Drained,
    /// The bound was reached first.
    More,
    /// The connection is over.
    Ended(CloseReason),
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        id: ConnId,
        state: State,
        unconsumed_bytes_max: usize,
    ) -> Connection {
        Connection {
            stream,
            id,
            state,
            is_blocked: false,
            is_ready_to_read: false,
            is_ready_to_write: false,
            has_read_end: false,
            is_dead: false,
            unconsumed: Vec::new(),
            unconsumed_bytes_max: u32::try_from(unconsumed_bytes_max).unwrap_or(u32::MAX),
        }
    }

    /// What the kernel still holds for a peer that reads nothing goes with the socket: it would stay for minutes.
    pub(super) fn drop_unsent(&self) {
        if let Err(error) = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            log::debug!("a socket keeps what its peer does not read: {error}");
        }
    }

    /// Keeps what the node did not consume.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            // An idle connection keeps no buffer.
            self.unconsumed = Vec::new();
            return;
        }
        self.unconsumed.clear();
        self.unconsumed.extend_from_slice(bytes);
    }

    /// What another reactor needs of it.
    pub(super) fn into_transfer(self) -> Transfer {
        let Connection { stream, unconsumed, unconsumed_bytes_max, .. } = self;
        let unconsumed_bytes_max = unconsumed_bytes_max as usize;
        Transfer { stream, bytes: unconsumed, unconsumed_bytes_max }
    }

    /// After an event on a dialing socket: `None` = still under way.
    ///
    /// The order matters: writable says only that the handshake is over, the socket error says how,
    /// and `peer_addr` says whether there really is a peer.
    pub(super) fn conclude_dial(&self) -> Option<Result<(), DialFailure>> {
        match self.stream.take_error() {
            Ok(Some(error)) | Err(error) => return Some(Err(socket::failure_of(&error))),
            Ok(None) => {}
        }
        let peer = match self.stream.peer_addr() {
            Ok(peer) => peer,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return None,
            Err(error) => return Some(Err(socket::failure_of(&error))),
        };
        // A dial to an unlistened port of the ephemeral range can meet itself (simultaneous open).
        if self.stream.local_addr().is_ok_and(|local| local == peer) {
            return Some(Err(DialFailure::SelfConnect));
        }
        Some(Ok(()))
    }

    /// Reads up to a bound and shows the node all that it has not consumed, in place.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        bytes_max: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> ReadOutcome {
        let kept = self.unconsumed.len();
        // Looked at here and not when bytes are kept: a connection that is handed over keeps a whole read.
        if kept > self.unconsumed_bytes_max as usize {
            return ReadOutcome::Ended(CloseReason::TooLong);
        }
        let end = kept.saturating_add(bytes_max.max(1)).min(buffer.len());
        let buffer = &mut buffer[..end];
        buffer[..kept].copy_from_slice(&self.unconsumed);
        let read = loop {
            match self.stream.read(&mut buffer[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let bytes = match read {
            Ok(0) if kept == 0 => return ReadOutcome::Ended(CloseReason::PeerClosed),
            Ok(0) => return ReadOutcome::Ended(CloseReason::MidMessage),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Drained,
            Err(_) => return ReadOutcome::Ended(CloseReason::Reset),
        };
        // A short read says that the kernel's buffer is empty, unless the peer's end is behind it:
        // its event may be the one that brought us here, and there will be no other.
        let is_short = kept + bytes < buffer.len();
        let outcome =
            if is_short && !self.has_read_end { ReadOutcome::Drained } else { ReadOutcome::More };
        if self.state != State::Open {
            return outcome;
        }
        let whole = &buffer[..kept + bytes];
        let consumed = take(whole);
        self.keep(whole.get(consumed..).unwrap_or_default());
        outcome
    }

    /// Writes once.
    #[inline(always)]
    pub(super) fn write(&mut self, outgoing: Outgoing<'_>) -> Written {
        loop {
            let Outgoing { front, head, tail } = outgoing;
            let result = match (front.is_empty(), tail.is_empty()) {
                (true, true) => self.stream.write(head),
                (true, false) => {
                    self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)])
                }
                (false, _) => {
                    let slices = [IoSlice::new(front), IoSlice::new(head), IoSlice::new(tail)];
                    self.stream.write_vectored(&slices)
                }
            };
            return match result {
                Ok(0) => Written::Broken,
                Ok(bytes) => Written::Bytes(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Blocked,
                Err(_) => Written::Broken,
            };
        }
    }
}
