//! Socket options, nonblocking dials, and the classes of what can go wrong with them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::node::{DialFailure, LocalFault};

/// How accepted sockets are set up. `None` keeps the kernel's default.
///
/// The two sizes are part of a subscriber's bound: by default a loopback peer that never reads
/// swallows megabytes before the first `WouldBlock`, and a slow-subscriber mode would act on data that
/// old.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `SO_SNDBUF`, in bytes as asked for; the kernel doubles it for its own bookkeeping.
    pub send_buffer_bytes: Option<usize>,
    /// `TCP_NOTSENT_LOWAT`: writable only while fewer unsent bytes than this wait.
    pub notsent_lowat_bytes: Option<u32>,
    /// The kernel asks a peer that has said nothing for this long whether it is there, and ends the connection when it
    /// is not. For protocols without heartbeats of their own.
    pub keepalive: Option<Duration>,
}

impl SocketOptions {
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.notsent_lowat_bytes {
            socket.set_tcp_notsent_lowat(bytes)?;
        }
        if let Some(idle) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
        }
        Ok(())
    }
}

/// Starts a connect. The socket becomes writable when it is over, one way or the other.
pub(super) fn dial(to: SocketAddr) -> Result<TcpStream, DialFailure> {
    let start = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    };
    start().map(|socket| TcpStream::from_std(socket.into())).map_err(|error| failure_of(&error))
}

/// The class of a failed dial.
pub(super) fn failure_of(error: &io::Error) -> DialFailure {
    if let Some(fault) = local_fault_of(error) {
        return DialFailure::Local(fault);
    }
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => DialFailure::Refused,
        Some(Errno::TIMEDOUT) => DialFailure::Deadline,
        Some(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::HOSTDOWN
            | Errno::ACCESS
            | Errno::PERM
            // What Linux says to a connect that meets a blackhole route.
            | Errno::INVAL,
        ) => DialFailure::Unreachable,
        _ => DialFailure::Reset,
    }
}

/// Whether an error says that this machine ran out of something.
pub(super) fn local_fault_of(error: &io::Error) -> Option<LocalFault> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(LocalFault::ProcessDescriptors),
        Errno::NFILE => Some(LocalFault::SystemDescriptors),
        Errno::ADDRNOTAVAIL => Some(LocalFault::LocalAddresses),
        Errno::NOBUFS => Some(LocalFault::SocketBuffers),
        Errno::NOMEM => Some(LocalFault::Memory),
        _ => None,
    }
}
