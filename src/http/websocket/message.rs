//! A message of the client while it arrives: fragments, masks, and text that must be UTF-8.

use super::Incoming;
use super::fault::Fault;
use crate::limits::WEBSOCKET_MESSAGE_BYTES_MAX;

/// A message of which not all is here.
#[derive(Debug)]
pub(super) struct Assembling {
    is_text: bool,
    /// Text that has come. Of a binary message nothing is kept: nobody reads it.
    text: Vec<u8>,
    /// So much of `text` is known to be UTF-8.
    valid_bytes: usize,
    /// Bytes of the message in all frames whose headers have come.
    announced_bytes: usize,
    frame: FrameLeft,
}

/// What is missing of a frame.
#[derive(Clone, Copy, Debug)]
struct FrameLeft {
    bytes: usize,
    mask: [u8; 4],
    is_final: bool,
}

impl Assembling {
    pub(super) fn new(is_text: bool) -> Assembling {
        let frame = FrameLeft { bytes: 0, mask: [0; 4], is_final: false };
        Assembling { is_text, text: Vec::new(), valid_bytes: 0, announced_bytes: 0, frame }
    }

    /// The header of one more frame of this message.
    pub(super) fn begin_frame(
        &mut self,
        bytes: u64,
        mask: [u8; 4],
        is_final: bool,
    ) -> Result<(), Fault> {
        let bytes = usize::try_from(bytes).map_err(|_| Fault::TooLong)?;
        let announced = self.announced_bytes.saturating_add(bytes);
        if announced > WEBSOCKET_MESSAGE_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        self.announced_bytes = announced;
        self.frame = FrameLeft { bytes, mask, is_final };
        Ok(())
    }

    /// Takes what belongs to the current frame, and returns how much that was. Wrong text is found at its first wrong
    /// byte, not at its end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let taken = bytes.len().min(self.frame.bytes);
        self.frame.bytes -= taken;
        if self.is_text {
            let masks = self.frame.mask.iter().cycle();
            self.text.extend(bytes[..taken].iter().zip(masks).map(|(byte, mask)| byte ^ mask));
            self.frame.mask.rotate_left(taken % 4);
            match std::str::from_utf8(&self.text[self.valid_bytes..]) {
                Ok(_) => self.valid_bytes = self.text.len(),
                Err(error) if error.error_len().is_some() => return Err(Fault::NotUtf8),
                // A character is cut; the rest of it may come.
                Err(error) => self.valid_bytes += error.valid_up_to(),
            }
        }
        Ok(taken)
    }

    /// Whether the current frame is whole.
    pub(super) fn has_whole_frame(&self) -> bool {
        self.frame.bytes == 0
    }

    /// Whether the message is whole.
    pub(super) fn is_whole(&self) -> bool {
        self.frame.bytes == 0 && self.frame.is_final
    }

    /// The whole message.
    pub(super) fn finish(self) -> Result<Incoming, Fault> {
        match self.is_text {
            true => String::from_utf8(self.text).map(Incoming::Text).map_err(|_| Fault::NotUtf8),
            false => Ok(Incoming::Binary),
        }
    }
}
