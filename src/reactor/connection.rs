//! One socket in the reactor: the bytes of a half-arrived frame, and how far a read or a flush came.

use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;

use crate::limits;
use crate::node::{CloseReason, ConnId, DialFailure, DialId, Node};
use crate::time::{Mono, Now};
use crate::wire::{FRAME_BYTES, Frame, as_frames};

use super::socket;

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
    /// The beginning of a frame whose end has not arrived.
    carry: [u8; FRAME_BYTES],
    carry_bytes: usize,
}

/// How a read ended.
pub(super) enum ReadOutcome {
    /// Nothing more for now; the kernel will say when there is.
    Drained,
    /// The bound was reached first.
    More,
    /// The connection is over.
    Ended(CloseReason),
}

/// How a flush ended.
pub(super) enum Flushed {
    /// The node has nothing more to send.
    All,
    /// The kernel is full.
    Blocked,
    /// The bound of one turn was reached first.
    Bounded,
    /// The connection is over.
    Broken,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, id: ConnId, state: State) -> Connection {
        Connection {
            stream,
            id,
            state,
            is_blocked: false,
            is_ready_to_read: false,
            is_ready_to_write: false,
            has_read_end: false,
            is_dead: false,
            carry: [0; FRAME_BYTES],
            carry_bytes: 0,
        }
    }

    /// The beginning of a frame whose end has not arrived.
    pub(super) fn carried(&self) -> &[u8] {
        &self.carry[..self.carry_bytes]
    }

    /// Goes on behind such a beginning.
    pub(super) fn carry_on(&mut self, carried: &[u8]) {
        let bytes = carried.len().min(FRAME_BYTES - 1);
        self.carry[..bytes].copy_from_slice(&carried[..bytes]);
        self.carry_bytes = bytes;
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

    /// Reads up to the turn's bound and hands whole frames on, cast in place.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut handle: impl FnMut(&[Frame]),
    ) -> ReadOutcome {
        let carried = self.carry_bytes;
        buffer[..carried].copy_from_slice(&self.carry[..carried]);
        let read = loop {
            match self.stream.read(&mut buffer[carried..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let bytes = match read {
            Ok(0) if carried == 0 => return ReadOutcome::Ended(CloseReason::PeerClosed),
            Ok(0) => return ReadOutcome::Ended(CloseReason::MidFrame),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Drained,
            Err(_) => return ReadOutcome::Ended(CloseReason::Reset),
        };
        // A short read says that the kernel's buffer is empty, unless the peer's end is behind it:
        // its event may be the one that brought us here, and there will be no other.
        let is_short = carried + bytes < buffer.len();
        let outcome =
            if is_short && !self.has_read_end { ReadOutcome::Drained } else { ReadOutcome::More };
        if self.state != State::Open {
            return outcome;
        }
        let (frames, rest) = as_frames(&buffer[..carried + bytes]);
        self.carry_bytes = rest.len();
        self.carry[..rest.len()].copy_from_slice(rest);
        if !frames.is_empty() {
            handle(frames);
        }
        outcome
    }

    /// Writes what the node has, until one of them has had enough.
    pub(super) fn flush<N: Node>(&mut self, node: &mut N, now: Now) -> Flushed {
        let mut written = 0;
        loop {
            let outgoing = node.outgoing(now, self.id);
            let offered = outgoing.len();
            if offered == 0 {
                return Flushed::All;
            }
            if written >= limits::WRITE_BYTES_PER_TURN_MAX {
                return Flushed::Bounded;
            }
            let result = if outgoing.tail.is_empty() {
                self.stream.write(outgoing.head)
            } else {
                self.stream
                    .write_vectored(&[IoSlice::new(outgoing.head), IoSlice::new(outgoing.tail)])
            };
            match result {
                Ok(0) => return Flushed::Broken,
                Ok(bytes) => {
                    node.handle_sent(now, self.id, bytes);
                    written += bytes;
                    // The kernel took less than it was offered: it is full, and has noted that we
                    // want to hear when it is not.
                    if bytes < offered {
                        return Flushed::Blocked;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(_) => return Flushed::Broken,
            }
        }
    }
}
