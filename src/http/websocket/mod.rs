//! One WebSocket, the server's side (RFC 6455): frames of the client become messages, and control frames wait to be
//! sent. Messages to the client are the owner's: it sends a [`MessageHeader`] and the bytes behind it.
//!
//! Invariant: what comes out does not depend on how the bytes were cut.

mod control;
mod fault;
mod message;
mod upgrade;

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use control::Waiting;
use fault::Fault;
use message::Assembling;

pub use upgrade::{Upgrade, accept_key, upgrade};

use crate::limits::WEBSOCKET_CONTROL_PAYLOAD_MAX;

/// What a client says when its close frame has no code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// What came from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message.
    Text(String),
    /// A whole binary message. Its bytes are not kept.
    Binary,
    /// The client is there.
    Pong,
    /// The client closes. The answer already waits in [`WebSocket::control`].
    Closed {
        /// Why; 1005 when the client does not say.
        code: u16,
        /// In words; may be empty.
        reason: String,
    },
}

/// The state of one connection. Small, since most of thousands are idle: boxes exist only while a message arrives or a
/// control frame waits.
#[derive(Debug, Default)]
pub struct WebSocket {
    assembling: Option<Box<Assembling>>,
    waiting: Option<Box<Waiting>>,
    /// The code of our close frame, once there is one. 0: without a code.
    closed_with: Option<u16>,
    /// The client will send nothing more that counts: it has closed, or it was wrong.
    is_deaf: bool,
}

const _: () = assert!(size_of::<WebSocket>() <= 64);

impl WebSocket {
    /// Bytes that the owner must be able to hold for a peer: a whole control frame.
    pub const OFFERED_BYTES_MAX: usize = 14 + WEBSOCKET_CONTROL_PAYLOAD_MAX;

    /// A connection whose [`upgrade`] was accepted.
    #[must_use]
    pub fn new() -> WebSocket {
        WebSocket::default()
    }

    /// Reads all frames that are there and puts what came into `out`. Returns how many bytes are consumed; the rest is
    /// offered again, with what comes behind it. After a fault of the client everything is consumed and ignored.
    pub fn handle_bytes(&mut self, bytes: &[u8], out: &mut Vec<Incoming>) -> usize {
        let mut at = 0;
        while !self.is_deaf {
            match self.step(&bytes[at..], out) {
                Ok(Some(consumed)) => at += consumed,
                Ok(None) => return at,
                Err(fault) => self.fail(fault),
            }
        }
        bytes.len()
    }

    /// One header, or one piece of a payload. `None`: more bytes are needed.
    fn step(&mut self, bytes: &[u8], out: &mut Vec<Incoming>) -> Result<Option<usize>, Fault> {
        if let Some(assembling) = &mut self.assembling
            && !assembling.has_whole_frame()
        {
            let taken = assembling.take(bytes)?;
            self.deliver(out)?;
            return Ok((taken > 0).then_some(taken));
        }
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Fault::Opcode)?;
        let Some((header, payload_bytes)) = parsed else { return Ok(None) };
        let mask = header.mask.ok_or(Fault::Unmasked)?;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Fault::ReservedBit);
        }
        let header_bytes = header.len(payload_bytes);
        if u64::try_from(header_bytes) != Ok(cursor.position()) {
            return Err(Fault::LongForm);
        }
        match header.opcode {
            OpCode::Data(data) => {
                self.begin_frame(data)?.begin_frame(payload_bytes, mask, header.is_final)?;
                self.deliver(out)?;
                Ok(Some(header_bytes))
            }
            OpCode::Control(_) if !header.is_final => Err(Fault::Fragmented),
            OpCode::Control(control) => {
                let payload_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
                if payload_bytes > WEBSOCKET_CONTROL_PAYLOAD_MAX {
                    return Err(Fault::LongControl);
                }
                let end = header_bytes + payload_bytes;
                let Some(masked) = bytes.get(header_bytes..end) else { return Ok(None) };
                let payload: Vec<u8> = masked
                    .iter()
                    .zip(mask.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask)
                    .collect();
                self.handle_control(control, &payload, out)?;
                Ok(Some(end))
            }
        }
    }

    /// The message that a data frame belongs to.
    fn begin_frame(&mut self, data: Data) -> Result<&mut Assembling, Fault> {
        match (data, &mut self.assembling) {
            (Data::Continue, None) => Err(Fault::NothingToContinue),
            (Data::Continue, Some(assembling)) => Ok(assembling),
            (Data::Text | Data::Binary, Some(_)) => Err(Fault::MessageInMessage),
            (Data::Text | Data::Binary, none) => {
                Ok(none.insert(Box::new(Assembling::new(data == Data::Text))))
            }
            (Data::Reserved(_), _) => Err(Fault::Opcode),
        }
    }

    /// Gives a message that is whole to the owner, unless it has closed.
    fn deliver(&mut self, out: &mut Vec<Incoming>) -> Result<(), Fault> {
        let Some(whole) = self.assembling.take_if(|it| it.is_whole()) else { return Ok(()) };
        let message = whole.finish()?;
        if !self.is_closing() {
            out.push(message);
        }
        Ok(())
    }

    fn handle_control(
        &mut self,
        control: Control,
        payload: &[u8],
        out: &mut Vec<Incoming>,
    ) -> Result<(), Fault> {
        match control {
            Control::Close => return self.handle_close(payload, out),
            // Nothing may follow a close frame.
            Control::Ping if !self.is_closing() => self.waiting().pong(payload),
            Control::Pong if !self.is_closing() => out.push(Incoming::Pong),
            Control::Ping | Control::Pong => {}
            Control::Reserved(_) => return Err(Fault::Opcode),
        }
        Ok(())
    }

    fn handle_close(&mut self, payload: &[u8], out: &mut Vec<Incoming>) -> Result<(), Fault> {
        let (code, reason) = match payload {
            [] => (None, ""),
            [_] => return Err(Fault::CloseBody),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_allowed() {
                    return Err(Fault::CloseCode);
                }
                (Some(code), std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?)
            }
        };
        out.push(Incoming::Closed { code: code.unwrap_or(NO_CODE), reason: reason.to_owned() });
        self.queue_close(code, "");
        self.end_input();
        Ok(())
    }

    fn fail(&mut self, fault: Fault) {
        self.queue_close(Some(fault.code()), fault.reason());
        self.end_input();
    }

    fn end_input(&mut self) {
        self.is_deaf = true;
        self.assembling = None;
    }

    /// The first close frame counts.
    fn queue_close(&mut self, code: Option<u16>, reason: &str) {
        if self.is_closing() {
            return;
        }
        let mut payload = Vec::new();
        if let Some(code) = code {
            let reason_max = WEBSOCKET_CONTROL_PAYLOAD_MAX - size_of::<u16>();
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(reason_max)]);
        }
        self.waiting().close(&payload);
        self.closed_with = Some(code.unwrap_or(NO_CODE));
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// Pongs, pings and a close frame, to send between two messages.
    #[must_use]
    pub fn control(&self) -> &[u8] {
        self.waiting.as_ref().map_or(&[], |waiting| waiting.bytes())
    }

    /// So many bytes of [`WebSocket::control`] were sent.
    pub fn handle_control_sent(&mut self, bytes: usize) {
        self.waiting.take_if(|waiting| waiting.handle_sent(bytes));
    }

    /// Asks whether the client is there: it answers with a pong.
    pub fn ping(&mut self) {
        if !self.is_closing() {
            self.waiting().ping();
        }
    }

    /// Ends the connection. Of a long reason the first 123 bytes are sent. Then the client answers with its own close
    /// frame; the owner waits [`crate::limits::WEBSOCKET_CLOSE_WAIT_MAX`] for it.
    pub fn close(&mut self, code: u16, reason: &str) {
        debug_assert!(CloseCode::from(code).is_allowed(), "{code} may not be sent");
        self.queue_close(Some(code), reason);
    }

    /// Whether a close frame waits or was sent. Nothing but [`WebSocket::control`] may be sent any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closed_with.is_some()
    }

    /// The code of our close frame, if there is one: our own, the client's sent back, or that of its fault. 1005: the
    /// client gave none.
    #[must_use]
    pub fn closed_with(&self) -> Option<u16> {
        self.closed_with
    }

    /// Whether our close frame was sent, and nothing of the client is waited for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_closing() && self.is_deaf && self.waiting.is_none()
    }
}

/// The header of a message to the client, which is one frame. The bytes of the message follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    bytes: [u8; 10],
    len: u8,
}

impl MessageHeader {
    /// For a binary message of so many bytes.
    #[must_use]
    pub fn binary(len: usize) -> MessageHeader {
        header(OpCode::Data(Data::Binary), len)
    }

    /// For a text message of so many bytes, which must be UTF-8.
    #[must_use]
    pub fn text(len: usize) -> MessageHeader {
        header(OpCode::Data(Data::Text), len)
    }

    /// The header: 2, 4 or 10 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a whole frame without a mask, as servers send it.
fn header(opcode: OpCode, payload_bytes: usize) -> MessageHeader {
    let header = FrameHeader { opcode, is_final: true, mask: None, ..FrameHeader::default() };
    let payload_bytes = payload_bytes as u64;
    let mut bytes = [0; 10];
    let written = header.format(payload_bytes, &mut bytes.as_mut_slice());
    written.expect("a header without a mask has at most 10 bytes");
    let len = match header.len(payload_bytes) {
        2 => 2,
        4 => 4,
        _ => 10,
    };
    MessageHeader { bytes, len }
}

#[cfg(test)]
mod autobahn;
#[cfg(test)]
mod tests;
