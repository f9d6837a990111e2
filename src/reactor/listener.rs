//! The listener, and what happens when descriptors run out while peers wait to be accepted.

use std::fs::File;
use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;
use crate::node::LocalFault;
use crate::time::Mono;

use super::Listen;
use super::socket::{SocketOptions, local_fault_of};

pub(super) struct Listener {
    listener: TcpListener,
    /// Connections may wait in the kernel. The edge that said so comes only once, so this stays set
    /// until an accept says `WouldBlock`.
    has_more: bool,
    retry_at: Option<Mono>,
    /// Kept open so that one descriptor can be freed when all are in use: a waiting peer is then
    /// accepted and closed at once, and learns that it is not welcome instead of hanging.
    spare: Option<File>,
    /// See [`Listen`].
    pub(super) sockets: SocketOptions,
    pub(super) unconsumed_bytes_max: usize,
}

impl Listener {
    pub(super) fn bind(listen: &Listen, registry: &Registry, token: Token) -> io::Result<Self> {
        let Listen { address, sockets, unconsumed_bytes_max } = *listen;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Lets a restarted node have its port back while old connections are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(limits::LISTEN_BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Listener {
            listener,
            has_more: false,
            retry_at: None,
            spare: spare(),
            sockets,
            // A read needs room behind what waits.
            unconsumed_bytes_max: unconsumed_bytes_max.min(limits::READ_BYTES_PER_TURN_MAX / 2),
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn note_ready(&mut self) {
        self.has_more = true;
    }

    /// Whether an accept may bring something now.
    pub(super) fn has_more(&self) -> bool {
        self.has_more && self.retry_at.is_none()
    }

    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    pub(super) fn note_descriptor_freed(&mut self) {
        self.retry_at = None;
        if self.spare.is_none() {
            self.spare = spare();
        }
    }

    /// The next waiting connection; `None` when there is none or accepting pauses.
    pub(super) fn accept(
        &mut self,
        now: Mono,
    ) -> Result<Option<(TcpStream, SocketAddr)>, LocalFault> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if !self.has_more() {
            return Ok(None);
        }
        loop {
            let error = match self.listener.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => error,
            };
            match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => {
                    self.has_more = false;
                    return Ok(None);
                }
                // The peer left while it waited.
                Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
                _ => {
                    self.turn_one_away();
                    self.retry_at = Some(now + limits::ACCEPT_RETRY);
                    return Err(local_fault_of(&error).unwrap_or(LocalFault::ProcessDescriptors));
                }
            }
        }
    }

    fn turn_one_away(&mut self) {
        if self.spare.take().is_some() {
            drop(self.listener.accept());
            self.spare = spare();
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
