//! What a peer of a WebSocket can do wrong. Each ends the connection with a code and a reason.

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Unmasked,
    ReservedBit,
    Opcode,
    LongForm,
    Fragmented,
    LongControl,
    NothingToContinue,
    MessageInMessage,
    CloseBody,
    CloseCode,
    NotUtf8,
    TooLong,
}

impl Fault {
    /// The code of the close frame (RFC 6455, section 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Fault::NotUtf8 => 1007,
            Fault::TooLong => 1009,
            _ => 1002,
        }
    }

    /// The reason in it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Fault::Unmasked => "a frame of a client must be masked",
            Fault::ReservedBit => "a reserved bit is set, and no extension was agreed",
            Fault::Opcode => "no frame has this opcode",
            Fault::LongForm => "a length is not in its shortest form",
            Fault::Fragmented => "a control frame is fragmented",
            Fault::LongControl => "a control frame has more than 125 bytes",
            Fault::NothingToContinue => "a fragment continues no message",
            Fault::MessageInMessage => "a message begins inside of another",
            Fault::CloseBody => "a close frame has half of a code",
            Fault::CloseCode => "this close code may not be sent",
            Fault::NotUtf8 => "a text is not UTF-8",
            Fault::TooLong => "a message has more than 16 KiB",
        }
    }
}
