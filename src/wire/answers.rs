//! How GAP and ERROR are made: what a node says of frames that it cannot send, and of what it refuses.

use super::control::padded;
use super::{ErrorCode, Gap, GapReason, Refusal, Seq, U16, U32, U64};

impl Gap {
    /// A loss of which the sender cannot say how many frames the subscription would have delivered.
    #[must_use]
    pub fn uncounted(reason: GapReason, from_seq: Seq, to_seq: Seq) -> Gap {
        Gap {
            reason: reason as u8,
            from_seq: Seq::field(Some(from_seq)),
            to_seq: Seq::field(Some(to_seq)),
            missed: U64::new(u64::MAX),
            ..Gap::default()
        }
    }
}

impl Refusal {
    /// A refusal with a sentence of at most 48 ASCII characters.
    #[must_use]
    pub fn new(code: ErrorCode, id: u32, text: &str) -> Refusal {
        Refusal {
            code: U16::new(code as u16),
            id: U32::new(id),
            text: padded(text),
            ..Refusal::default()
        }
    }
}
