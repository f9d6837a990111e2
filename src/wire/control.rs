//! Control messages: sessions, subscriptions, queries and their ends. 56 bytes of body each.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::frame::{FRAME_BYTES, Kind, Message};
use super::{EndStatus, GapReason, Mode, NodeStatus, Op, Role};
use super::{I64, InstrumentId, Seq, Symbol, U16, U32, U64};

/// Declares a control message: kind, version and flags before the given fields, the CRC behind them. `seqs`
/// are fields that name a place in a sequence, or none.
macro_rules! control_message {
    ($(#[$doc:meta])* $name:ident($kind:ident) { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
     $(seqs($($seq:ident),*))? well_formed($it:ident) $check:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            /// Set by [`Frame::seal`](crate::wire::Frame::seal).
            pub kind: u8,
            /// Set by [`Frame::seal`](crate::wire::Frame::seal).
            pub version: u8,
            /// See [`super::Flags`].
            pub flags: U16,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Set by [`Frame::seal`](crate::wire::Frame::seal).
            pub crc: U32,
        }

        const _: () = assert!(size_of::<$name>() == FRAME_BYTES);

        impl Default for $name {
            fn default() -> $name {
                FromZeros::new_zeroed()
            }
        }

        $(impl $name {
            $(
                /// The field of this name; `None` for 0.
                #[inline]
                #[must_use]
                pub fn $seq(&self) -> Option<Seq> {
                    Seq::from_field(self.$seq)
                }
            )*
        })?

        impl Message for $name {
            const KIND: Kind = Kind::$kind;

            fn is_well_formed(&self) -> bool {
                let $it = self;
                $check
            }
        }
    };
}

control_message! {
    /// First frame in both directions of every connection. The opener says its role; the node answers
    /// with role 0.
    Session(Session) {
        /// A [`Role`], or 0 in an answer.
        role: u8,
        /// The source that a publisher publishes as, or that an answer speaks of.
        source: u8,
        /// Sum of [`Session::CONTINUES`], [`Session::GIVE_UP`] and [`Session::APPENDS`].
        options: U16,
        /// Epoch of the sequence that the sender knows; 0 = none.
        epoch: U32,
        /// First `seq` of that epoch.
        epoch_start: U64,
        /// The next `seq` that the sender of this frame will send, or wants.
        next_seq: U64,
        /// The next `seq` that is not yet durable at the sender; from an exchange, the next `seq` that
        /// its feed has not released. 0 = says nothing.
        durable_seq: U64,
        /// Identity of the epoch under which the sender has, or sends, its newest frames; of an exchange, identity
        /// of its feed. 0 = says nothing.
        feed: U64,
        /// Name of the sender for logs, padded with zeros.
        name: [u8; 16],
    } seqs(epoch_start, next_seq, durable_seq) well_formed(it) it.options.get() <= Session::OPTIONS && it.has_known_role()
}

impl Heartbeat {
    /// The token of one that asks for a sign of life: its answer waits for nothing.
    pub const LIFE_TOKEN: u32 = u32::MAX - 1;
}

impl Session {
    /// The epoch that the receiver said is part of this sequence: what the receiver has before `epoch_start` stands.
    pub const CONTINUES: u16 = 1;
    /// An operator decided that what the receiver has from `epoch_start` on is given up.
    pub const GIVE_UP: u16 = 2;
    /// Of a producer: its feed may come behind another one that core has.
    pub const APPENDS: u16 = 4;
    pub(super) const OPTIONS: u16 = Session::CONTINUES | Session::GIVE_UP | Session::APPENDS;

    /// Whether its role is one, or none as in an answer.
    pub(super) fn has_known_role(&self) -> bool {
        self.role == 0 || Role::from_number(self.role).is_some()
    }

    /// Whether all of these options are set.
    #[must_use]
    pub fn has(&self, options: u16) -> bool {
        self.options.get() & options == options
    }
}

control_message! {
    /// Why something was refused. With query id 0 the connection is closed behind it.
    Refusal(Error) {
        /// An [`super::ErrorCode`].
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
        /// Chosen by the client, repeated in the answer; 0 = nobody asked.
        token: U32,
        /// The next `seq` that the sender will send; 0 = sends no sequence.
        next_seq: U64,
        /// The sender's wall clock, nanoseconds since the Unix epoch.
        sent_at: U64,
        /// Bit n: last values of exchange n are not known to be current, though others are.
        stale_exchanges: U32,
        /// Bit n: the feed of exchange n has ended, though others go on.
        ended_exchanges: U32,
        /// Zero.
        reserved: [u8; 28],
    } seqs(next_seq) well_formed(it) it.reserved == [0; 28]
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
    } seqs(accepted_seq, durable_seq) well_formed(it) it.reserved == [0; 36]
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
    } seqs(from_seq) well_formed(it) Mode::from_number(it.mode).is_some()
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
    } seqs(epoch_start, next_seq, oldest_seq) well_formed(it) it.reserved.get() == 0 && it.reserved_too.get() == 0
}

control_message! {
    /// The snapshot is complete; live frames follow from `next_seq`.
    SnapshotEnd(SnapshotEnd) {
        /// The subscription. To a producer: how many further instruments core takes.
        id: U32,
        /// Frames between SUBSCRIBED and this one.
        frames: U32,
        /// The snapshot includes everything before this `seq`.
        next_seq: U64,
        /// Zero.
        reserved: [u8; 40],
    } seqs(next_seq) well_formed(it) it.reserved == [0; 40]
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
    } seqs(from_seq, to_seq) well_formed(it) it.reserved == [0; 3] && it.reserved_too == [0; 28]
        && GapReason::from_number(it.reason).is_some()
}

control_message! {
    /// Asks the sender of a sequence to go back to `next_seq`.
    Resume(Resume) {
        /// Chosen by the client.
        id: U32,
        /// The next `seq` wanted.
        next_seq: U64,
        /// Zero.
        reserved: [u8; 44],
    } seqs(next_seq) well_formed(it) it.reserved == [0; 44]
}

control_message! {
    /// A question about an instrument, or about those of a pattern. With the flag MORE, frames of
    /// [`QueryMore`] follow.
    Query(Query) {
        /// Chosen by the client, not 0, unique among its open queries.
        id: U32,
        /// An [`Op`].
        op: u8,
        /// Sum of [`Query::PARTIAL`], [`Query::WITH_QUOTE`] and [`Query::RECEIVE_TIME`].
        options: u8,
        /// Kind mask for replay; 0 = all.
        kinds: U16,
        /// Time that the client will wait from now on.
        deadline_us: U32,
        /// Rows at most; for bars the interval in seconds; for breakers a [`super::BreakerAction`], for chaos a [`super::ChaosAction`].
        limit: U32,
        /// Symbol, pattern or name of a breaker, padded with zeros.
        symbol: [u8; 24],
        /// First included: nanoseconds, or `seq` for replay.
        from: U64,
        /// First excluded; `u64::MAX` = no end.
        to: U64,
    } well_formed(it) it.options <= Query::OPTIONS && Op::from_number(it.op).is_some()
}

impl Query {
    /// A partial list is welcome.
    pub const PARTIAL: u8 = 1;
    /// The current quote belongs to the answer.
    pub const WITH_QUOTE: u8 = 2;
    /// `from` and `to` are receive times; without it they are event times.
    pub const RECEIVE_TIME: u8 = 4;
    /// A NODE_EXPLAIN behind each NODE is welcome.
    pub const EXPLAIN: u8 = 8;
    /// All options.
    pub const OPTIONS: u8 =
        Query::PARTIAL | Query::WITH_QUOTE | Query::RECEIVE_TIME | Query::EXPLAIN;

    /// The symbol, when the bytes are one.
    #[must_use]
    pub fn symbol(&self) -> Option<Symbol> {
        let symbol = Symbol::read_from_bytes(&self.symbol).ok()?;
        symbol.is_valid().then_some(symbol)
    }
}

control_message! {
    /// Goes on with the query ahead of it: one more symbol, and where to cut. All but the last have the
    /// flag MORE.
    QueryMore(QueryMore) {
        /// The query's id.
        id: U32,
        /// One more symbol or pattern; zeros = none.
        symbol: [u8; 24],
        /// Answer with what has a `seq` below this, all of it and nothing else; 0 = with all there is.
        as_of: U64,
        /// For Range: of the rows whose time is `from`, leave out those up to this `seq`; 0 = none.
        after_seq: U64,
        /// Zero.
        reserved: [u8; 12],
    } seqs(as_of, after_seq) well_formed(it) it.reserved == [0; 12]
}

control_message! {
    /// What one instrument has in a range of time.
    Counted(Counted) {
        /// The query.
        id: U32,
        /// Whose trades, an [`InstrumentId`]; its DEFINITION came before.
        instrument: U32,
        /// Trades of the range that stand.
        trades: U64,
        /// Trades of the range that were cancelled.
        cancelled: U64,
        /// Time of the first one that stands; 0 without.
        first: U64,
        /// Time of the last one that stands; 0 without.
        last: U64,
        /// Zero.
        reserved: [u8; 16],
    } well_formed(it) it.reserved == [0; 16]
}

impl Counted {
    /// Whose trades.
    #[inline]
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        self.instrument.into()
    }
}

control_message! {
    /// Behind a NODE: when that node was asked and answered, and why.
    NodeExplain(NodeExplain) {
        /// The query.
        id: U32,
        /// Sum of [`NodeExplain::ASKED`], [`NodeExplain::HEDGED`], [`NodeExplain::RETRIED`],
        /// [`NodeExplain::CHOSEN`] and [`NodeExplain::FAILED_OVER`].
        what: u8,
        /// Which copy of its part it holds; 0 is the first.
        copy: u8,
        /// Which part of the query, from 0.
        part: U16,
        /// When it was asked, in microseconds since the query; 0 when it was not.
        asked_us: U32,
        /// When its question was over, in microseconds since the query.
        answered_us: U32,
        /// Data frames received from it.
        frames: U32,
        /// The same in bytes.
        bytes: U64,
        /// Zero.
        reserved: [u8; 12],
        /// Name of the node.
        name: [u8; 16],
    } well_formed(it) it.what <= NodeExplain::WHAT && it.reserved == [0; 12]
}

impl NodeExplain {
    /// It was asked.
    pub const ASKED: u8 = 1;
    /// Because another copy took long.
    pub const HEDGED: u8 = 2;
    /// Because another copy failed.
    pub const RETRIED: u8 = 4;
    /// Its rows stand for the part.
    pub const CHOSEN: u8 = 8;
    /// Because the copies that were asked before say nothing.
    pub const FAILED_OVER: u8 = 16;
    pub(super) const WHAT: u8 = 31;
}

control_message! {
    /// One epoch that a publisher's sequence went through, behind its SESSION: a broker that knows them can tell
    /// who resumes what of his frames still stands.
    Lineage(Lineage) {
        /// The source.
        source: u8,
        /// Sum of [`Lineage::CHOSEN`] and [`Lineage::GIVEN_UP`].
        what: u8,
        /// Zero.
        reserved: U16,
        /// The epoch's number.
        epoch: U32,
        /// Its first `seq`; of one that was given up, the first `seq` that was.
        first_seq: U64,
        /// Its identity.
        epoch_id: U64,
        /// Zero.
        reserved_too: [u8; 32],
    } seqs(first_seq) well_formed(it) it.what <= (Lineage::CHOSEN | Lineage::GIVEN_UP) && it.reserved.get() == 0
        && it.reserved_too == [0; 32] && it.epoch.get() != 0 && it.first_seq.get() != 0 && it.epoch_id.get() != 0
}

impl Lineage {
    /// An operator began this epoch.
    pub const CHOSEN: u8 = 1;
    /// It is none of this sequence from `first_seq` on: an operator gave up what was there.
    pub const GIVEN_UP: u8 = 2;
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
        reserved: u8,
        /// How many whole seconds ago it had all that core had then; [`NodeAnswer::BEHIND_UNKNOWN`]: not
        /// known.
        behind_s: U16,
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
    } seqs(as_of) well_formed(it) it.reserved == 0 && NodeStatus::from_number(it.status).is_some()
}

impl NodeAnswer {
    /// `behind_s` of a node that does not know when it last had all that core had.
    pub const BEHIND_UNKNOWN: u16 = u16::MAX;

    /// What `behind_s` says of so many milliseconds, as an END states them.
    #[must_use]
    pub fn behind_s_of(behind_ms: u32) -> u16 {
        if behind_ms == Ended::BEHIND_UNKNOWN {
            return NodeAnswer::BEHIND_UNKNOWN;
        }
        u16::try_from(behind_ms / 1_000).unwrap_or(u16::MAX).min(NodeAnswer::BEHIND_UNKNOWN - 1)
    }
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
        /// An [`super::ErrorCode`], or 0.
        code: U16,
        /// Rows in the whole answer.
        rows: U32,
        /// How many milliseconds ago the node had all that core had then; 0: it has, or follows nobody;
        /// [`Ended::BEHIND_UNKNOWN`]: not known.
        behind_ms: U32,
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
    } seqs(as_of, durable_seq) well_formed(it) it.reserved == 0 && it.reserved_last.get() == 0
        && EndStatus::from_number(it.status).is_some()
}

impl Ended {
    /// `behind_ms` of a node that does not know when it last had all that core had.
    pub const BEHIND_UNKNOWN: u32 = u32::MAX;

    /// What `behind_ms` says of a node that had all so long ago; `None`: not since it started.
    #[must_use]
    pub fn behind_ms_of(behind: Option<std::time::Duration>) -> u32 {
        let Some(behind) = behind else { return Ended::BEHIND_UNKNOWN };
        u32::try_from(behind.as_millis()).unwrap_or(u32::MAX).min(Ended::BEHIND_UNKNOWN - 1)
    }

    /// Whether the node is further behind than this. One that does not know is.
    #[must_use]
    pub fn is_behind(&self, limit: std::time::Duration) -> bool {
        u128::from(self.behind_ms.get()) > limit.as_millis()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_text_is_cut_and_cleaned() {
        assert_eq!(padded::<4>("abcdef"), *b"abcd");
        assert_eq!(unpadded(&padded::<8>("ab\x1b[31m")), "ab?[31m");
        assert_eq!(unpadded(b"ab\0cd"), "ab");
    }
}
