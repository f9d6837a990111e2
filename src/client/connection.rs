//! A blocking connection that speaks frames: for clients that have one thing to wait for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zerocopy::IntoBytes;

use crate::time::{Clock, Mono};
use crate::wire::{
    ErrorCode, FRAME_BYTES, Frame, FrameError, Heartbeat, Message, Refusal, Role, Session, U16,
    U32, as_frames, padded, unpadded,
};

/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// Why a client could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or nobody answered.
    #[error(
        "cannot reach {node} on {address}: {error}; start it with `pregao all`, or set --host or --config"
    )]
    Unreachable {
        /// Which node.
        node: &'static str,
        /// Where it should be.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {node} broke: {error}")]
    Broken {
        /// Which node.
        node: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// The node sent something that is no frame.
    #[error("{node} sent a bad frame: {error}")]
    BadFrame {
        /// Which node.
        node: &'static str,
        /// What is wrong with it.
        error: FrameError,
    },
    /// The node is newer, and sent what cannot be understood here.
    #[error(
        "{node} sent a frame of kind {kind}, which this program does not know; use a newer one, or ask for \
         the kinds that you want by name, as in trade.*"
    )]
    UnknownKind {
        /// Which node.
        node: &'static str,
        /// The kind.
        kind: u8,
    },
    /// The node refused, and said why.
    #[error("{node} refused: {text}")]
    Refused {
        /// Which node.
        node: &'static str,
        /// The code, when it is a known one.
        code: Option<ErrorCode>,
        /// Its sentence.
        text: String,
    },
    /// The caller's deadline passed.
    #[error("{node} did not answer in time")]
    Deadline {
        /// Which node.
        node: &'static str,
    },
}

/// A connection to a node, past the SESSION frames.
#[derive(Debug)]
pub struct Connection {
    node: &'static str,
    stream: TcpStream,
    clock: Clock,
    buffer: Vec<u8>,
    /// Start of the bytes in `buffer` that were not yet handed out.
    start: usize,
    /// What the node said of itself.
    session: Session,
}

impl Connection {
    /// Connects to `node` and introduces itself.
    ///
    /// # Errors
    /// When nobody answers within `within`, or the node refuses.
    pub fn open(
        node: &'static str,
        address: SocketAddr,
        role: Role,
        within: Duration,
        clock: Clock,
    ) -> Result<Connection, ClientError> {
        let ours = Session { role: role as u8, name: padded("client"), ..Session::default() };
        Connection::open_as(node, address, ours, within, clock)
    }

    /// Connects to `node` and introduces itself with this SESSION.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_as(
        node: &'static str,
        address: SocketAddr,
        ours: Session,
        within: Duration,
        clock: Clock,
    ) -> Result<Connection, ClientError> {
        let unreachable = |error| ClientError::Unreachable { node, address, error };
        let deadline = clock.now().mono + within;
        let stream = TcpStream::connect_timeout(&address, within).map_err(unreachable)?;
        if stream.local_addr().ok() == Some(address) {
            // Nobody listens: the kernel connected the socket to itself.
            return Err(unreachable(io::ErrorKind::ConnectionRefused.into()));
        }
        stream.set_nodelay(true).map_err(unreachable)?;
        let session = Session::default();
        let (buffer, start) = (Vec::new(), 0);
        let mut connection = Connection { node, stream, clock, buffer, start, session };
        connection.send(ours)?;
        let first = connection.read(deadline)?.ok_or(ClientError::Deadline { node })?;
        match first.view::<Session>() {
            Some(session) => connection.session = *session,
            None => return Err(connection.refused(&first)),
        }
        Ok(connection)
    }

    /// What the node said of itself.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send<M: Message>(&mut self, message: M) -> Result<(), ClientError> {
        self.send_frame(&Frame::seal(message))
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send_frame(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let node = self.node;
        let sent = self.stream.write_all(frame.as_bytes());
        sent.map_err(|error| ClientError::Broken { node, error })
    }

    /// The next frame that means something to the caller; heartbeats are answered here and passed on.
    /// `None` when the deadline comes first.
    ///
    /// # Errors
    /// When the connection is broken or the node sends nonsense.
    pub fn read(&mut self, deadline: Mono) -> Result<Option<Frame>, ClientError> {
        let node = self.node;
        loop {
            let waiting = &self.buffer[self.start..];
            if let ([frame, ..], _) = as_frames(waiting) {
                let frame = *frame;
                self.start += FRAME_BYTES;
                frame.check().map_err(|error| match frame.is_of_unknown_data_kind() {
                    true => ClientError::UnknownKind { node, kind: frame.kind },
                    false => ClientError::BadFrame { node, error },
                })?;
                self.answer(&frame)?;
                return Ok(Some(frame));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if !self.read_more(deadline)? {
                return Ok(None);
            }
        }
    }

    fn read_more(&mut self, deadline: Mono) -> Result<bool, ClientError> {
        let node = self.node;
        let broken = |error| ClientError::Broken { node, error };
        let left = deadline.since(self.clock.now().mono);
        if left.is_zero() {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(left)).map_err(broken)?;
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let read = self.stream.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(broken(error)),
            },
        }
    }

    fn answer(&mut self, frame: &Frame) -> Result<(), ClientError> {
        match frame.view::<Heartbeat>() {
            Some(beat) if beat.flags.get() & crate::wire::Flags::MORE != 0 => {
                self.send(Heartbeat {
                    flags: U16::ZERO,
                    token: beat.token,
                    next_seq: crate::wire::U64::ZERO,
                    ..*beat
                })
            }
            _ => Ok(()),
        }
    }

    /// The error that an unexpected frame means.
    #[must_use]
    pub fn refused(&self, frame: &Frame) -> ClientError {
        let node = self.node;
        match frame.view::<Refusal>() {
            Some(refusal) => ClientError::Refused {
                node,
                code: ErrorCode::from_number(refusal.code.get()),
                text: unpadded(&refusal.text),
            },
            None => {
                let text = format!("it answered with {frame:?}");
                ClientError::Refused { node, code: None, text }
            }
        }
    }

    /// The query or connection that an ERROR frame is about: 0 = the connection.
    #[must_use]
    pub fn refused_id(frame: &Frame) -> Option<U32> {
        frame.view::<Refusal>().map(|refusal| refusal.id)
    }
}
