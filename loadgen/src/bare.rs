//! The yardstick: the least that can be called a broker. One thread, and for each message one `write`
//! of 64 bytes to each subscriber, straight from where it was read.
//!
//! It keeps no queue and no state, so it is no broker: a subscriber whose socket buffer is full is cut
//! off. At a light load that does not happen, and its CPU time per delivery is what the kernel takes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use pregao::wire::{FRAME_BYTES, Frame, Kind, Role, Session, SnapshotEnd, as_frames, padded};
use rustix::process::{Signal, set_parent_process_death_signal};
use socket2::{Domain, Socket, Type};
use zerocopy::IntoBytes;

use crate::limits;

const LISTENER: Token = Token(usize::MAX);

/// What a connection turned out to be.
enum Connection {
    Unknown(TcpStream),
    Subscriber(TcpStream),
    Publisher { stream: TcpStream, held: Vec<u8> },
    Gone,
}

/// Serves until the process ends, which it does at the latest when its parent has ended.
///
/// # Errors
/// When it cannot listen or poll.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(socket.into());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(limits::EVENTS_MAX);
    let mut connections: Vec<Connection> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, Some(Duration::from_secs(1))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() != LISTENER {
                receive(&mut connections, event.token().0, &mut buffer);
                continue;
            }
            // What cannot be accepted for want of descriptors is its peer's loss.
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                let token = Token(connections.len());
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                connections.push(Connection::Unknown(stream));
            }
        }
    }
}

/// Reads a connection dry.
fn receive(connections: &mut [Connection], place: usize, buffer: &mut [u8]) {
    loop {
        let stream = match connections.get_mut(place) {
            Some(Connection::Unknown(stream) | Connection::Subscriber(stream)) => stream,
            Some(Connection::Publisher { stream, .. }) => stream,
            Some(Connection::Gone) | None => return,
        };
        let bytes = match stream.read(buffer) {
            Ok(0) => return connections[place] = Connection::Gone,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return connections[place] = Connection::Gone,
        };
        match std::mem::replace(&mut connections[place], Connection::Gone) {
            Connection::Unknown(stream) => {
                connections[place] = greet(stream, &buffer[..bytes]);
            }
            Connection::Publisher { stream, mut held } => {
                held.extend_from_slice(&buffer[..bytes]);
                let whole = held.len() / FRAME_BYTES * FRAME_BYTES;
                let data = as_frames(&held[..whole]).0.iter();
                for frame in data.filter(|frame| frame.kind < Kind::LogMark as u8) {
                    fan_out(connections, frame);
                }
                held.drain(..whole);
                connections[place] = Connection::Publisher { stream, held };
            }
            // What a subscriber says after its greeting does not matter here.
            other => connections[place] = other,
        }
    }
}

/// The first frame says who it is. A greeting cut in two does not happen on loopback; it would end
/// the connection, and the load generator says so.
fn greet(mut stream: TcpStream, said: &[u8]) -> Connection {
    let session = as_frames(said).0.first().and_then(Frame::view::<Session>);
    match session.and_then(|session| Role::from_number(session.role)) {
        Some(Role::Subscriber) => {
            let answer = Frame::seal(SnapshotEnd::default());
            let is_sent = matches!(stream.write(answer.as_bytes()), Ok(FRAME_BYTES));
            if is_sent { Connection::Subscriber(stream) } else { Connection::Gone }
        }
        Some(Role::Publisher) => {
            let source = session.map_or(0, |session| session.source);
            let answer = Session { source, name: padded("bare"), ..Session::default() };
            let is_sent = stream.write(Frame::seal(answer).as_bytes()).is_ok();
            let held = Vec::new();
            if is_sent { Connection::Publisher { stream, held } } else { Connection::Gone }
        }
        _ => Connection::Gone,
    }
}

/// The loop that it is all about.
fn fan_out(connections: &mut [Connection], frame: &Frame) {
    for connection in connections {
        if let Connection::Subscriber(stream) = connection
            && !matches!(stream.write(frame.as_bytes()), Ok(FRAME_BYTES))
        {
            *connection = Connection::Gone;
        }
    }
}
