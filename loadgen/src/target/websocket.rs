//! The client's side of WebSocket (RFC 6455), as far as a load run needs it: the request, what is around the messages
//! of a protocol within, and pings. Pure, as the codecs are.
//!
//! The payload of a message is handed on as it comes: one of 64 KiB is read without waiting for its end, and nothing
//! of it is copied, except where it ends within a message of the protocol within.
//!
//! What it is not: a client for the world. The key and the mask are fixed, since no proxy is on the way.

use std::net::SocketAddr;

use ::pregao::wire::FRAME_BYTES;

use super::{Event, ProtocolError, nats, pregao};
use crate::limits::CARRY_BYTES_MAX;

/// Key and proof of the example in RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// What a client's payload is masked with.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Opcodes (section 5.2).
const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The protocol within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// Runs of frames, and texts about the connection.
    Frames,
    /// The protocol of NATS, cut anywhere.
    Nats,
}

/// Where in its stream a connection is. Means something to targets that speak WebSocket alone.
#[derive(Debug, Default)]
pub(crate) struct Unwrapping {
    /// What is said when the server has agreed to speak WebSocket.
    hello: Vec<u8>,
    is_open: bool,
    /// Bytes of a message that have not come.
    left: usize,
    /// A message of the protocol within that goes on in the next message.
    tail: Vec<u8>,
}

impl Unwrapping {
    /// A connection whose request is sent, and which says this when that is accepted.
    pub(super) fn before(hello: Vec<u8>) -> Unwrapping {
        Unwrapping { hello, ..Unwrapping::default() }
    }
}

/// The request that asks for a WebSocket.
pub(super) fn request(path: &str, address: SocketAddr, protocol: Option<&str>) -> Vec<u8> {
    let protocol =
        protocol.map_or_else(String::new, |it| format!("Sec-WebSocket-Protocol: {it}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// A message of ours, masked as a client's must be.
pub(super) fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn wrong(what: &'static str) -> ProtocolError {
    ProtocolError { protocol: "WebSocket", what }
}

/// What stands before a payload.
struct Header {
    opcode: u8,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// `None`: it is not all there.
    fn read(bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(wrong("a reserved bit is set, and no extension was asked for"));
        }
        if second & 0x80 != 0 {
            return Err(wrong("a server's payload is masked"));
        }
        let (header_bytes, payload_bytes) = match second {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(*short)),
        };
        let payload_bytes = usize::try_from(payload_bytes).ok();
        let payload_bytes = payload_bytes.filter(|&bytes| bytes <= isize::MAX as usize);
        let payload_bytes = payload_bytes.ok_or(wrong("a length beyond any"))?;
        Ok(Some(Header { opcode: first & 0x0F, header_bytes, payload_bytes }))
    }
}

/// Reads what has come, as [`super::Target::parse`] says.
pub(super) fn parse(
    within: Within,
    it: &mut Unwrapping,
    bytes: &[u8],
    on: &mut impl FnMut(Event<'_>),
) -> Result<usize, ProtocolError> {
    let mut done = 0;
    if !it.is_open {
        let Some(end) = answer(bytes, on)? else { return Ok(0) };
        it.is_open = true;
        on(Event::Reply(&std::mem::take(&mut it.hello)));
        done = end;
    }
    loop {
        let rest = &bytes[done..];
        if it.left > 0 {
            let here = &rest[..it.left.min(rest.len())];
            let taken = within.take(it, here, on)?;
            done += taken;
            it.left -= taken;
            if it.left > 0 {
                return Ok(done);
            }
            continue;
        }
        let Some(header) = Header::read(rest)? else { return Ok(done) };
        if matches!(header.opcode, CONTINUATION | BINARY) {
            if within == Within::Frames && !header.payload_bytes.is_multiple_of(FRAME_BYTES) {
                return Err(wrong("a message that is no run of frames"));
            }
            it.left = header.payload_bytes;
            done += header.header_bytes;
            continue;
        }
        // These are short, and read when they are whole.
        let end = header.header_bytes.saturating_add(header.payload_bytes);
        let Some(payload) = rest.get(header.header_bytes..end) else { return Ok(done) };
        done += end;
        match header.opcode {
            TEXT => text(payload, on),
            PING => on(Event::Reply(&message(PONG, payload))),
            PONG => {}
            CLOSE => {
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                on(Event::Refused(format!("it closed the WebSocket: {reason}")));
            }
            _ => return Err(wrong("an unknown opcode")),
        }
    }
}

/// Reads the answer to the request; where it ends, or `None` when it is not all there.
fn answer(bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<Option<usize>, ProtocolError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !first.starts_with("HTTP/1.1 ") {
        return Err(wrong("no answer of HTTP/1.1"));
    }
    if !first.starts_with("HTTP/1.1 101") {
        on(Event::Refused(first.to_owned()));
        return Ok(Some(end + 4));
    }
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let proof = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    match proof {
        Some((_, proof)) if proof.trim() == PROOF => Ok(Some(end + 4)),
        _ => Err(wrong("the proof that the key was understood is wrong")),
    }
}

/// A line about the connection.
fn text(payload: &[u8], on: &mut impl FnMut(Event<'_>)) {
    const ERROR: &[u8] = b"{\"kind\":\"error\"";
    if payload.starts_with(ERROR) {
        on(Event::Refused(String::from_utf8_lossy(payload).into_owned()));
    }
}

impl Within {
    /// Reads a part of a payload; how many of its bytes need not come again.
    fn take(
        self,
        it: &mut Unwrapping,
        here: &[u8],
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError> {
        match self {
            Within::Frames => {
                // The server asks for signs of life by pings; a frame is no answer here.
                pregao::parse(here, &mut |event| match event {
                    Event::Reply(_) => {}
                    other => on(other),
                })
            }
            Within::Nats => {
                let mut on = |event: Event<'_>| match event {
                    Event::Reply(bytes) => on(Event::Reply(&message(BINARY, bytes))),
                    other => on(other),
                };
                if it.tail.is_empty() {
                    let taken = nats::parse(here, &mut on)?;
                    if here.len() < it.left {
                        return Ok(taken);
                    }
                    it.tail.extend_from_slice(&here[taken..]);
                } else {
                    it.tail.extend_from_slice(here);
                    let taken = nats::parse(&it.tail, &mut on)?;
                    it.tail.drain(..taken);
                }
                if it.tail.len() > CARRY_BYTES_MAX {
                    return Err(wrong("a message within is longer than any that was published"));
                }
                if it.tail.is_empty() {
                    it.tail = Vec::new();
                }
                Ok(here.len())
            }
        }
    }
}
