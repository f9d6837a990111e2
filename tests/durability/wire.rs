//! A connection with a node, frame by frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pregao::wire::{
    Ended, FRAME_BYTES, Frame, Kind, Message, Op, Query, Role, Session, U32, U64, as_frames, padded,
};
use zerocopy::IntoBytes;

use super::process::PATIENCE;

pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    unsent: Vec<u8>,
}

/// What came of a read.
pub(crate) enum Came {
    Frames(Vec<Frame>),
    Nothing,
    End,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(2))).unwrap();
        Wire { stream, buffer: Vec::new(), unsent: Vec::new() }
    }

    pub(crate) fn connect(address: SocketAddr) -> Wire {
        Wire::new(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    pub(crate) fn send<M: Message>(&mut self, message: M) {
        self.unsent.extend_from_slice(Frame::seal(message).as_bytes());
    }

    pub(crate) fn send_frame(&mut self, frame: &Frame) {
        self.unsent.extend_from_slice(frame.as_bytes());
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Lets the kernel take what it wants. `false` when the peer is gone.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return false,
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
        true
    }

    /// The frames that are here, or come within the time.
    pub(crate) fn read(&mut self, within: Duration) -> Came {
        self.stream.set_read_timeout(Some(within.max(Duration::from_micros(1)))).unwrap();
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Came::End,
            Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Came::End,
            },
        }
        let whole = self.buffer.len() / FRAME_BYTES * FRAME_BYTES;
        if whole == 0 {
            return Came::Nothing;
        }
        let rest = self.buffer.split_off(whole);
        let whole = std::mem::replace(&mut self.buffer, rest);
        let frames = as_frames(&whole).0.to_vec();
        assert!(frames.iter().all(|frame| frame.check().is_ok()), "a bad frame from a node");
        Came::Frames(frames)
    }

    /// The first frame of this kind; what comes with it is dropped. `None` at the end.
    pub(crate) fn wait_kind(&mut self, kind: Kind) -> Option<Frame> {
        loop {
            match self.read(PATIENCE) {
                Came::Frames(frames) => {
                    let found = frames.iter().find(|frame| frame.kind() == Some(kind));
                    if let Some(found) = found {
                        return Some(*found);
                    }
                }
                Came::Nothing => {}
                Came::End => return None,
            }
        }
    }
}

/// Asks a node for the newest of SHARE1, and gives back the END.
pub(crate) fn ask(address: SocketAddr, op: Op, limit: u32) -> Ended {
    let mut querier = Wire::connect(address);
    querier.send(Session { role: Role::Querier as u8, ..Session::default() });
    querier.send(Query {
        id: U32::new(1),
        op: op as u8,
        limit: U32::new(limit),
        deadline_us: U32::new(u32::MAX),
        symbol: padded("SHARE1"),
        to: U64::new(u64::MAX),
        ..Query::default()
    });
    querier.flush();
    let end = querier.wait_kind(Kind::End).expect("an answer");
    *end.view::<Ended>().unwrap()
}
