//! Control messages: sessions, subscriptions, queries and their ends. 56 bytes of body each.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::frame::{FRAME_BYTES, Frame, FrameError, Kind, Message};
use super::{BreakerChange, Definition, I64, Symbol, U16, U32, U64};

/// Declares a control message: kind, version and flags before the given fields, the CRC behind them.
macro_rules! control_message {
    ($(#[$doc:meta])* $name:ident($kind:ident) { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
     well_formed($it:ident) $check:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            /// Set by [`Frame::seal`].
            pub kind: u8,
            /// Set by [`Frame::seal`].
            pub version: u8,
            /// See [`super::Flags`].
            pub flags: U16,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Set by [`Frame::seal`].
            pub crc: U32,
        }

        const _: () = assert!(size_of::<$name>() == FRAME_BYTES);

        impl Default for $name {
            fn default() -> $name {
                FromZeros::new_zeroed()
            }
        }

        impl Message for $name {
            const KIND: Kind = Kind::$kind;

            fn is_well_formed(&self) -> bool {
                let $it = self;
                $check
            }
        }
    };
}

/// Declares an enumeration that travels as one byte (or two).
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr($int)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            /// The value with this number.
            #[must_use]
            pub fn from_number(number: $int) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What the peer that opened a connection wants from it.
    Role: u8 {
        /// Receives what it subscribes to.
        Subscriber = 1,
        /// Sends a sequence of data frames to a broker.
        Publisher = 2,
        /// Sends a shard its part of core's sequence.
        Feeder = 3,
        /// Asks queries.
        Querier = 4,
        /// Core, asking the exchange for its feed.
        Consumer = 5,
    }
}

numbered! {
    /// What a subscriber wants to happen when it is too slow for the feed.
    Mode: u8 {
        /// A GAP frame, then on from the oldest frame still held; the client fills the gap from history.
        Lossless = 0,
        /// A GAP frame, then the last values, then live.
        Latest = 1,
        /// At most one frame of each kind and instrument per interval, always.
        Conflate = 2,
    }
}

numbered! {
    /// Why frames are missing.
    GapReason: u8 {
        /// The reader was slower than the ring; history has the frames.
        Lapped = 1,
        /// Asked for frames older than the ring holds; history has them.
        BeforeRing = 2,
        /// Left out on purpose by the mode `latest` or `conflate`.
        Skipped = 3,
        /// The source itself no longer has them.
        SourceLost = 4,
        /// The log has rot there.
        Corrupt = 5,
        /// Sent under an epoch that a restart made void.
        Void = 6,
    }
}

numbered! {
    /// Why a peer is refused, as a number; [`Refusal`] adds a sentence.
    ErrorCode: u16 {
        /// The frame does not pass the checks of PROTOCOL.md.
        BadFrame = 1,
        /// A valid frame that has no place here.
        Unexpected = 2,
        /// A limit of this node is reached.
        Limit = 3,
        /// No such instrument.
        UnknownSymbol = 4,
        /// The deadline passed.
        Deadline = 5,
        /// This node does not own what was asked of it.
        NotOwner = 6,
        /// The node is going away.
        Stopping = 7,
        /// The request failed at its source.
        Failed = 8,
        /// The peer was silent too long.
        Silent = 9,
        /// The log cannot take more, or has failed.
        Storage = 10,
        /// Not all nodes answered and the asker wanted all or nothing.
        Incomplete = 11,
        /// A pattern that matches nothing by its form.
        BadPattern = 12,
        /// Nothing is known about this yet.
        NoData = 13,
    }
}

numbered! {
    /// What a query asks for.
    Op: u8 {
        /// The current quote. Answer: at most one quote frame.
        Quote = 1,
        /// The last `limit` trades.
        Last = 2,
        /// Trades with `from <= ts_event < to`, at most `limit` of them.
        Range = 3,
        /// Bars of `limit` seconds over `from <= ts_event < to`.
        Bars = 4,
        /// All frames with `from <= seq < to` whose topic matches the pattern in `symbol`.
        Replay = 5,
        /// The node's figures as METRIC and TEXT frames.
        Status = 6,
        /// Stop the query with this id.
        Stop = 7,
        /// Operator: do to the breaker that `symbol` names what `limit` says, a [`BreakerAction`].
        Breaker = 8,
    }
}

numbered! {
    /// What an operator does to a circuit breaker.
    BreakerAction: u8 {
        /// Deny every call, and end the connection that the breaker guards, until told otherwise.
        ForceOpen = 1,
        /// Let calls through and judge them from an empty window.
        Close = 2,
        /// Let every call through and judge nothing.
        Disable = 3,
        /// Let every call through and keep rates without acting on them.
        MetricsOnly = 4,
        /// Start anew: closed, empty window, first wait.
        Reset = 5,
    }
}

impl BreakerAction {
    /// The action that stands in a query's `limit`.
    #[must_use]
    pub fn from_limit(limit: U32) -> Option<BreakerAction> {
        u8::try_from(limit.get()).ok().and_then(BreakerAction::from_number)
    }
}

numbered! {
    /// What became of one node's share of a query.
    NodeStatus: u8 {
        /// Answered in full.
        Ok = 0,
        /// Not asked: it owns nothing of the question.
        Pruned = 1,
        /// No answer before the deadline.
        Timeout = 2,
        /// The connection was refused, lost or reset.
        Refused = 3,
        /// Not asked: its circuit breaker is open.
        BreakerOpen = 4,
        /// Answered what it could; part of its log is damaged.
        Corrupt = 5,
        /// Answered with an error.
        Failed = 6,
    }
}

numbered! {
    /// How a query ended.
    EndStatus: u8 {
        /// All of it is there.
        Complete = 0,
        /// Something is missing; the NODE frames say what.
        Partial = 1,
        /// No answer; the code says why.
        Failed = 2,
    }
}

control_message! {
    /// First frame in both directions of every connection. The opener says its role; the node answers
    /// with role 0.
    Session(Session) {
        /// A [`Role`], or 0 in an answer.
        role: u8,
        /// The source that a publisher publishes as, or that an answer speaks of.
        source: u8,
        /// Zero.
        reserved: U16,
        /// Epoch of the sequence that the sender knows; 0 = none.
        epoch: U32,
        /// First `seq` of that epoch.
        epoch_start: U64,
        /// The next `seq` that the sender of this frame will send, or wants.
        next_seq: U64,
        /// The next `seq` that is not yet durable at the sender; from an exchange, the next `seq` that
        /// its feed has not released. 0 = says nothing.
        durable_seq: U64,
        /// Identity of the sequence: two feeds with one identity are the same feed.
        feed: U64,
        /// Name of the sender for logs, padded with zeros.
        name: [u8; 16],
    } well_formed(it) it.reserved.get() == 0 && (it.role == 0 || Role::from_number(it.role).is_some())
}

control_message! {
    /// Why something was refused. With query id 0 the connection is closed behind it.
    Refusal(Error) {
        /// An [`ErrorCode`].
        code: U16,
        /// Zero.
        reserved: U16,
        /// The query or subscription it is about; 0 = the connection.
        id: U32,
        /// A sentence in ASCII, padded with zeros.
        text: [u8; 48],
    } well_formed(it) it.reserved.get() == 0
}

control_message! {
    /// Says that the sender lives and how far its sequence goes. With the flag MORE an answer is wanted.
    Heartbeat(Heartbeat) {
        /// Chosen by the asker, repeated in the answer; 0 = nobody asked.
        token: U32,
        /// The next `seq` that the sender will send; 0 = sends no sequence.
        next_seq: U64,
        /// The sender's wall clock, nanoseconds since the Unix epoch.
        sent_at: U64,
        /// Zero.
        reserved: [u8; 36],
    } well_formed(it) it.reserved == [0; 36]
}

control_message! {
    /// Cumulative acknowledgement of a data sequence.
    Ack(Ack) {
        /// The epoch that the numbers belong to.
        epoch: U32,
        /// The next `seq` wanted: all before it survive the death of the process.
        accepted_seq: U64,
        /// All before it survive a loss of power.
        durable_seq: U64,
        /// Zero.
        reserved: [u8; 36],
    } well_formed(it) it.reserved == [0; 36]
}

control_message! {
    /// Asks for a topic pattern. Several frames with the flag MORE and a last one without it form one
    /// subscription.
    Subscribe(Subscribe) {
        /// Chosen by the subscriber.
        id: U32,
        /// The source subscribed to.
        source: u8,
        /// A [`Mode`].
        mode: u8,
        /// Which kinds: the sum of `1 << kind`; 0 = all.
        kinds: U16,
        /// For [`Mode::Conflate`].
        conflate_ms: U32,
        /// First `seq` wanted; 0 = live, beginning with a snapshot.
        from_seq: U64,
        /// A symbol, a prefix and `*`, or `*`; padded with zeros.
        pattern: [u8; 36],
    } well_formed(it) Mode::from_number(it.mode).is_some()
}

control_message! {
    /// The subscription stands. A snapshot follows when `from_seq` was 0.
    Subscribed(Subscribed) {
        /// The subscriber's id.
        id: U32,
        /// Instruments that match now.
        matched: U32,
        /// Epoch of the source.
        epoch: U32,
        /// Zero.
        reserved: U32,
        /// First `seq` of the epoch.
        epoch_start: U64,
        /// The next `seq` that the broker expects from the source.
        next_seq: U64,
        /// The oldest `seq` that it still holds.
        oldest_seq: U64,
        /// Identity of the sequence.
        feed: U64,
        /// Zero.
        reserved_too: U64,
    } well_formed(it) it.reserved.get() == 0 && it.reserved_too.get() == 0
}

control_message! {
    /// The snapshot is complete; live frames follow from `next_seq`.
    SnapshotEnd(SnapshotEnd) {
        /// The subscription.
        id: U32,
        /// Frames between SUBSCRIBED and this one.
        frames: U32,
        /// The snapshot includes everything before this `seq`.
        next_seq: U64,
        /// Zero.
        reserved: [u8; 40],
    } well_formed(it) it.reserved == [0; 40]
}

control_message! {
    /// Frames are missing here, and why.
    Gap(Gap) {
        /// A [`GapReason`].
        reason: u8,
        /// Zero.
        reserved: [u8; 3],
        /// First missing `seq`.
        from_seq: U64,
        /// Last missing `seq`.
        to_seq: U64,
        /// How many of the missing frames the subscription would have delivered; `u64::MAX` = unknown.
        missed: U64,
        /// Zero.
        reserved_too: [u8; 28],
    } well_formed(it) it.reserved == [0; 3] && it.reserved_too == [0; 28]
        && GapReason::from_number(it.reason).is_some()
}

control_message! {
    /// Asks the sender of a sequence to go back to `next_seq`.
    Resume(Resume) {
        /// Chosen by the asker.
        id: U32,
        /// The next `seq` wanted.
        next_seq: U64,
        /// Zero.
        reserved: [u8; 44],
    } well_formed(it) it.reserved == [0; 44]
}

control_message! {
    /// A question about one instrument (or, for replay, a pattern).
    Query(Query) {
        /// Chosen by the asker, not 0, unique among its open queries.
        id: U32,
        /// An [`Op`].
        op: u8,
        /// Sum of [`Query::PARTIAL`] and [`Query::WITH_QUOTE`].
        options: u8,
        /// Kind mask for replay; 0 = all.
        kinds: U16,
        /// Time that the asker will wait from now on.
        deadline_us: U32,
        /// Rows at most; for bars the interval in seconds; for breakers a [`BreakerAction`].
        limit: U32,
        /// Symbol, pattern or name of a breaker, padded with zeros.
        symbol: [u8; 24],
        /// First included: nanoseconds, or `seq` for replay.
        from: U64,
        /// First excluded; `u64::MAX` = no end.
        to: U64,
    } well_formed(it) it.options <= Query::PARTIAL | Query::WITH_QUOTE && Op::from_number(it.op).is_some()
}

impl Query {
    /// A partial list is welcome.
    pub const PARTIAL: u8 = 1;
    /// The current quote belongs to the answer.
    pub const WITH_QUOTE: u8 = 2;

    /// The symbol, when the bytes are one.
    #[must_use]
    pub fn symbol(&self) -> Option<Symbol> {
        let symbol = Symbol::read_from_bytes(&self.symbol).ok()?;
        symbol.is_valid().then_some(symbol)
    }
}

control_message! {
    /// The data frames behind this one answer the query `id`, until the next control frame.
    Run(Run) {
        /// The query.
        id: U32,
        /// Zero.
        reserved: [u8; 52],
    } well_formed(it) it.reserved == [0; 52]
}

control_message! {
    /// What one node contributed to an answer.
    NodeAnswer(NodeAnswer) {
        /// The query.
        id: U32,
        /// A [`NodeStatus`].
        status: u8,
        /// Zero.
        reserved: [u8; 3],
        /// Data rows from it (a bar is one row).
        rows: U32,
        /// From asking to its last frame.
        elapsed_us: U32,
        /// First `ts_event` that its log could have answered for.
        covered_from: U64,
        /// Behind the last one.
        covered_to: U64,
        /// The answer includes everything before this `seq`.
        as_of: U64,
        /// Name of the node.
        name: [u8; 16],
    } well_formed(it) it.reserved == [0; 3] && NodeStatus::from_number(it.status).is_some()
}

control_message! {
    /// The query is over.
    Ended(End) {
        /// The query.
        id: U32,
        /// An [`EndStatus`].
        status: u8,
        /// Zero.
        reserved: u8,
        /// An [`ErrorCode`], or 0.
        code: U16,
        /// Rows in the whole answer.
        rows: U32,
        /// Zero.
        reserved_too: U32,
        /// First `ts_event` that the answer covers.
        covered_from: U64,
        /// Behind the last one.
        covered_to: U64,
        /// The answer includes everything before this `seq`.
        as_of: U64,
        /// The next `seq` not yet durable where the answer was made; 0 = says nothing.
        durable_seq: U64,
        /// Zero.
        reserved_last: U64,
    } well_formed(it) it.reserved == 0 && it.reserved_too.get() == 0 && it.reserved_last.get() == 0
        && EndStatus::from_number(it.status).is_some()
}

control_message! {
    /// One figure of a node.
    Metric(Metric) {
        /// The query.
        id: U32,
        /// Zero.
        reserved: U32,
        /// The figure.
        value: I64,
        /// Its name, dotted, with the unit last; padded with zeros.
        name: [u8; 40],
    } well_formed(it) it.reserved.get() == 0
}

control_message! {
    /// One word of a node about itself.
    Text(Text) {
        /// The query.
        id: U32,
        /// What it is about, padded with zeros.
        name: [u8; 24],
        /// The word, padded with zeros. A longer one goes on in the next frame of the same name.
        text: [u8; 28],
    } well_formed(_it) true
}

/// Copies a text into a padded field, cutting it at the field's end.
#[must_use]
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    let printable = text.bytes().map(|b| if (b' '..=b'~').contains(&b) { b } else { b'?' });
    for (place, byte) in field.iter_mut().zip(printable) {
        *place = byte;
    }
    field
}

/// The text in a padded field; what is not printable ASCII reads as `?`, since it came from a peer.
#[must_use]
pub fn unpadded(field: &[u8]) -> String {
    let text = field.split(|&b| b == 0).next().unwrap_or(&[]);
    text.iter().map(|&b| if (b' '..=b'~').contains(&b) { char::from(b) } else { '?' }).collect()
}

/// The second half of [`Frame::check`]: reserved fields and enumerations.
pub(super) fn check_body(frame: &Frame) -> Result<(), FrameError> {
    fn holds<M: Message>(frame: &Frame) -> bool {
        frame.view::<M>().is_some_and(M::is_well_formed)
    }
    let well_formed = match frame.kind() {
        Some(Kind::Definition) => holds::<Definition>(frame),
        Some(Kind::BreakerChange) => holds::<BreakerChange>(frame),
        Some(Kind::Session) => holds::<Session>(frame),
        Some(Kind::Error) => holds::<Refusal>(frame),
        Some(Kind::Heartbeat) => holds::<Heartbeat>(frame),
        Some(Kind::Ack) => holds::<Ack>(frame),
        Some(Kind::Subscribe) => holds::<Subscribe>(frame),
        Some(Kind::Subscribed) => holds::<Subscribed>(frame),
        Some(Kind::SnapshotEnd) => holds::<SnapshotEnd>(frame),
        Some(Kind::Gap) => holds::<Gap>(frame),
        Some(Kind::Resume) => holds::<Resume>(frame),
        Some(Kind::Query) => holds::<Query>(frame),
        Some(Kind::Run) => holds::<Run>(frame),
        Some(Kind::NodeAnswer) => holds::<NodeAnswer>(frame),
        Some(Kind::End) => holds::<Ended>(frame),
        Some(Kind::Metric) => holds::<Metric>(frame),
        Some(Kind::Text) => holds::<Text>(frame),
        Some(_) => true,
        None => false,
    };
    if well_formed { Ok(()) } else { Err(FrameError::Reserved(frame.kind)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_fields_and_unknown_numbers_are_refused() {
        let session = Session { role: 77, ..Session::default() };
        assert_eq!(Frame::seal(session).check(), Err(FrameError::Reserved(Kind::Session as u8)));
        let run = Run { reserved: [1; 52], ..Run::default() };
        assert_eq!(Frame::seal(run).check(), Err(FrameError::Reserved(Kind::Run as u8)));
        assert_eq!(Frame::seal(Run::default()).check(), Ok(()));
    }

    #[test]
    fn padded_text_is_cut_and_cleaned() {
        assert_eq!(padded::<4>("abcdef"), *b"abcd");
        assert_eq!(unpadded(&padded::<8>("ab\x1b[31m")), "ab?[31m");
        assert_eq!(unpadded(b"ab\0cd"), "ab");
    }
}
