//! Opening connections by the thousand: the descriptor limit, source addresses, and errors that say
//! which limit was hit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{CONNECT_MAX, CONNECTIONS_PER_ADDRESS, DESCRIPTORS_SPARE};
use crate::target::Target;

/// Why a connection could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody listens there.
    #[error("nobody listens on {address}; start it with `{start}`, or say where it is with --addr")]
    Nobody { address: SocketAddr, start: &'static str },
    /// This machine ran out of something.
    #[error("connection {number} hit a limit of this machine: {limit}")]
    Limit { number: usize, limit: &'static str },
    /// Anything else.
    #[error("connection {number} to {address} failed: {error}")]
    Other { number: usize, address: SocketAddr, error: io::Error },
}

/// Raises the descriptor limit as far as the system allows.
///
/// # Errors
/// A sentence, when that is not far enough.
pub(crate) fn raise_descriptor_limit(connections: usize) -> Result<(), String> {
    let needed = connections as u64 + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Root may raise the hard limit too; the child processes that we start need room as well.
    for maximum in [hard.max(needed), hard] {
        let wanted = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            break;
        }
    }
    match getrlimit(Resource::Nofile).current {
        Some(current) if current < needed => Err(format!(
            "{connections} subscribers need {needed} descriptors and the system allows {current}; \
             raise it with `ulimit -Hn {needed}` as root, or ask for fewer --subscribers"
        )),
        _ => Ok(()),
    }
}

/// Opens connections to one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
}

impl Dialer {
    /// Opens connection `number`; the number chooses the source address.
    pub(crate) fn dial(&self, number: usize) -> Result<TcpStream, ConnectError> {
        self.open(number).map_err(|error| self.explain(number, error))
    }

    fn open(&self, number: usize) -> io::Result<TcpStream> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.source_address(number) {
            socket.bind(&SocketAddr::new(source.into(), 0).into())?;
        }
        socket.connect_timeout(&self.address.into(), CONNECT_MAX)?;
        let stream: TcpStream = socket.into();
        if stream.local_addr()? == self.address {
            // Nobody listens: the kernel connected the socket to itself.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(stream)
    }

    /// The kernel's own choice has room for some ten thousand connections; on loopback, where every
    /// address of 127.0.0.0/8 is ours, further ones take further addresses.
    fn source_address(&self, number: usize) -> Option<Ipv4Addr> {
        let IpAddr::V4(to) = self.address.ip() else { return None };
        let block = number / CONNECTIONS_PER_ADDRESS;
        if !to.is_loopback() || block == 0 {
            return None;
        }
        Some(Ipv4Addr::new(127, 77, 0, u8::try_from(block).unwrap_or(u8::MAX)))
    }

    fn explain(&self, number: usize, error: io::Error) -> ConnectError {
        let limit = match Errno::from_io_error(&error) {
            Some(Errno::MFILE) => "descriptors of this process (ulimit -n)",
            Some(Errno::NFILE) => "descriptors of the system (fs.file-max)",
            Some(Errno::ADDRNOTAVAIL) => "local ports (net.ipv4.ip_local_port_range)",
            Some(Errno::NOBUFS | Errno::NOMEM) => "memory for sockets",
            Some(Errno::CONNREFUSED) => {
                let start = match self.target {
                    Target::Pregao => "pregao all",
                    Target::Redis => "redis-server",
                    Target::Nats => "nats-server",
                    Target::Mqtt => "mosquitto",
                    Target::PregaoWs => "pregao all",
                    Target::NatsWs => "nats-server -c FILE, with websocket { no_tls: true } in it",
                    Target::Bare => "loadgen bare --listen IP:PORT",
                };
                return ConnectError::Nobody { address: self.address, start };
            }
            _ if error.kind() == io::ErrorKind::ConnectionRefused => {
                return ConnectError::Nobody { address: self.address, start: "pregao all" };
            }
            _ => return ConnectError::Other { number, address: self.address, error },
        };
        ConnectError::Limit { number, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_there_says_how_to_start_it() {
        // Bound and never listening: connecting to it is refused.
        let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        taken.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let address = taken.local_addr().unwrap().as_socket().unwrap();
        let dialer = Dialer { target: Target::Pregao, address };
        let message = dialer.dial(0).unwrap_err().to_string();
        assert!(
            message.contains("nobody listens on") && message.contains("pregao all"),
            "{message}"
        );
    }

    #[test]
    fn sources_spread_when_one_address_is_full() {
        let to =
            |address: &str| Dialer { target: Target::Pregao, address: address.parse().unwrap() };
        assert_eq!(to("127.0.0.1:1").source_address(CONNECTIONS_PER_ADDRESS - 1), None);
        let second = to("127.0.0.1:1").source_address(CONNECTIONS_PER_ADDRESS);
        assert!(second.is_some_and(|address| address.is_loopback()));
        assert_ne!(second, to("127.0.0.1:1").source_address(2 * CONNECTIONS_PER_ADDRESS));
        assert_eq!(to("192.0.2.1:1").source_address(1_000_000), None);
    }
}
