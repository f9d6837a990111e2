//! An address that nobody answers at, for a node that wants one.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// An address that is dialed and nobody answers at: bound and never listening, so that it is refused at once.
pub(crate) struct Nobody {
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl Nobody {
    pub(crate) fn new(host: IpAddr) -> io::Result<Nobody> {
        let any = SocketAddr::new(host, 0);
        let socket = Socket::new(Domain::for_address(any), Type::STREAM, None)?;
        socket.bind(&any.into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Nobody { address, _socket: socket })
    }
}
