//! How the bytes of a connection are cut into messages. The shell knows bytes only; what they mean is
//! decided by the codec of the listener that they came through.
//!
//! A node whose listeners speak different protocols looks at [`super::Origin::Accepted`] and gives each
//! connection its codec in [`super::Node::handle_bytes`]. A transport below the messages, such as an
//! encrypted one, is a [`super::Node`] around another: it hands plain bytes down and takes plain bytes up.

use crate::wire::{Frame, as_frames};

/// Cuts bytes into messages, in place.
pub trait Codec {
    /// Whole messages, lent from the bytes.
    type Messages: ?Sized;

    /// The whole messages at the beginning of `bytes`, and how many bytes they take. The rest is the
    /// beginning of a message whose end has not arrived.
    fn split(bytes: &[u8]) -> (&Self::Messages, usize);
}

/// Frames of 64 bytes; see [`crate::wire`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Codec for Frames {
    type Messages = [Frame];

    fn split(bytes: &[u8]) -> (&[Frame], usize) {
        let (frames, rest) = as_frames(bytes);
        (frames, bytes.len() - rest.len())
    }
}
