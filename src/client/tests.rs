//! The other side of a client's connection, played by hand.

use std::io::{Read, Write};
use std::net::TcpStream;

use zerocopy::IntoBytes;

use crate::wire::{FRAME_BYTES, Frame, as_frames};

/// The next frame that the client sends; `None` when it has hung up.
pub(super) fn read(stream: &mut TcpStream) -> Option<Frame> {
    let mut bytes = [0; FRAME_BYTES];
    stream.read_exact(&mut bytes).ok()?;
    Some(as_frames(&bytes).0[0])
}

/// Says this to the client, unless it has hung up.
pub(super) fn write(stream: &mut TcpStream, frames: &[Frame]) {
    let _ = stream.write_all(frames.as_bytes());
}
