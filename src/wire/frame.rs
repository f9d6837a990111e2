//! The frame: 64 bytes, one header for all data frames, and the checks that every peer's bytes pass.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::crc::{COVERED, crc_of};
use super::kinds::{DATA_KINDS, DataKind};
use super::{ExchangeNumber, InstrumentId, Seq, U16, U32, U64};

/// Bytes of every message on every connection and of every log record.
pub const FRAME_BYTES: usize = 64;

/// The protocol version in byte 1 of every frame.
pub const VERSION: u8 = 2;

/// What a frame is. The numbers are part of the protocol and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each kind is described on its message type")]
pub enum Kind {
    Definition = 1,
    Quote = 2,
    Trade = 3,
    Cancel = 4,
    BarPrices = 5,
    BarTotals = 6,
    BarNotional = 7,
    BreakerChange = 8,
    ExchangePlace = 9,
    Silence = 10,
    InstrumentName = 11,
    /// What a new kind takes, shown by the tests.
    #[cfg(test)]
    Sample = 15,
    /// Inside logs only; never on a connection.
    LogMark = 16,
    /// Inside logs only; never on a connection.
    LogEpoch = 17,
    Session = 32,
    Error = 33,
    Heartbeat = 34,
    Ack = 35,
    Subscribe = 36,
    Subscribed = 37,
    SnapshotEnd = 38,
    Gap = 39,
    Resume = 40,
    Query = 41,
    Run = 42,
    NodeAnswer = 43,
    End = 44,
    Metric = 45,
    Text = 46,
    QueryMore = 47,
    Counted = 48,
    NodeExplain = 49,
    Lineage = 50,
}

impl Kind {
    /// Every kind, in numerical order.
    pub const ALL: [Kind; DATA_KINDS.len() + CONTROL_KINDS.len()] = {
        let mut all = [Kind::LogMark; DATA_KINDS.len() + CONTROL_KINDS.len()];
        let mut next = 0;
        let mut number = 0;
        while number < Kind::LogMark as u8 {
            if let Some(row) = DataKind::by_number(number) {
                all[next] = row.kind;
                next += 1;
            }
            number += 1;
        }
        let mut index = 0;
        while index < CONTROL_KINDS.len() {
            all[next] = CONTROL_KINDS[index];
            (next, index) = (next + 1, index + 1);
        }
        all
    };

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Kind> {
        KIND_BY_NUMBER.get(usize::from(number)).copied().flatten()
    }

    /// Whether frames of this kind are market data: sequenced, journaled, published.
    #[must_use]
    pub const fn is_data(self) -> bool {
        (self as u8) < Kind::LogMark as u8
    }

    /// The bit of this kind in a subscription's kind mask; zero for kinds nobody can subscribe to.
    #[must_use]
    pub const fn mask(self) -> u16 {
        if self.is_data() { 1 << (self as u8) } else { 0 }
    }

    /// The flags that a frame of this kind may carry.
    const fn flags_allowed(self) -> u16 {
        if let Some(row) = DataKind::by_number(self as u8) {
            return row.flags | Flags::DELIVERY;
        }
        match self {
            Kind::Heartbeat => Flags::MORE | Flags::STALE | Flags::ENDED,
            Kind::Subscribe | Kind::Query | Kind::QueryMore => Flags::MORE,
            _ => 0,
        }
    }

    /// Whether a frame of this kind can have something wrong in its body.
    const fn has_body_check(self) -> bool {
        match DataKind::by_number(self as u8) {
            Some(row) => row.body_check.is_some(),
            None => true,
        }
    }
}

/// The kinds that are no data, in numerical order. Those that are have their rows in `kinds.rs`.
const CONTROL_KINDS: [Kind; 21] = [
    Kind::LogMark,
    Kind::LogEpoch,
    Kind::Session,
    Kind::Error,
    Kind::Heartbeat,
    Kind::Ack,
    Kind::Subscribe,
    Kind::Subscribed,
    Kind::SnapshotEnd,
    Kind::Gap,
    Kind::Resume,
    Kind::Query,
    Kind::Run,
    Kind::NodeAnswer,
    Kind::End,
    Kind::Metric,
    Kind::Text,
    Kind::QueryMore,
    Kind::Counted,
    Kind::NodeExplain,
    Kind::Lineage,
];

const KIND_BY_NUMBER: [Option<Kind>; 64] = {
    let mut table = [None; 64];
    let mut index = 0;
    while index < Kind::ALL.len() {
        table[Kind::ALL[index] as usize] = Some(Kind::ALL[index]);
        index += 1;
    }
    table
};

/// By kind number: the flags that are *not* allowed; all bits for an unknown kind, plus bit 16,
/// which no flag reaches, so that an unknown kind is refused whatever its flags. Above them
/// [`BODY_CHECKED`].
const FLAGS_REFUSED: [u32; 256] = {
    let mut table = [1 << 16; 256];
    let mut index = 0;
    while index < Kind::ALL.len() {
        let kind = Kind::ALL[index];
        let checked = if kind.has_body_check() { BODY_CHECKED } else { 0 };
        table[kind as usize] = !kind.flags_allowed() as u32 | checked;
        index += 1;
    }
    table
};

/// Whether there can be something wrong in the body.
const BODY_CHECKED: u32 = 1 << 17;

/// The flags of a frame, as bit masks.
///
/// The low byte is fixed when core sequences the frame. The delivery flags in the high byte are
/// set by whoever hands a stored frame out again; that sender renews the CRC. So a client sees the provenance
/// on the frame itself, and all other bytes of a frame are the same everywhere.
pub struct Flags;

impl Flags {
    /// Last frame of one exchange event.
    pub const LAST: u16 = 1 << 0;
    /// The source lost frames of this instrument before this one.
    pub const GAP_BEFORE: u16 = 1 << 1;
    /// The buyer was the aggressor.
    pub const BUY: u16 = 1 << 2;
    /// The seller was the aggressor.
    pub const SELL: u16 = 1 << 3;
    /// From the after-market session.
    pub const AFTER_MARKET: u16 = 1 << 4;
    /// The venue has halted trading in the instrument: its quote is as old as it is, and not stale.
    pub const HALTED: u16 = 1 << 5;
    /// Definition frames: the symbol begins with the name of a venue and `:`. Others give the short form, behind it.
    pub const VENUE: u16 = 1 << 6;
    /// Delivery: the last value of a feed that has ended. On a heartbeat: the feed has, and nothing more comes.
    pub const ENDED: u16 = 1 << 7;
    /// Delivery: no longer known to be current. On a publisher's heartbeat: its last values are not.
    pub const STALE: u16 = 1 << 8;
    /// Delivery: part of a late joiner's snapshot.
    pub const SNAPSHOT: u16 = 1 << 9;
    /// Delivery: from history, not live.
    pub const REPLAY: u16 = 1 << 10;
    /// Control: more frames of the same request follow; on a heartbeat, an answer is wanted.
    pub const MORE: u16 = 1 << 11;
    /// Quotes, trades and cancellations: the number of the exchange that sent it, 0 to 31. Core gives it.
    pub const EXCHANGE: u16 = 0x1F << 11;
    /// Where the number begins.
    pub const EXCHANGE_SHIFT: u32 = 11;
    /// SILENCE: it is heard again.
    pub const HEARD: u16 = 1 << 0;
    /// SILENCE: a power of two. So many milliseconds at most are usual between two frames.
    pub const USUAL: u16 = 0x1F << 11;
    /// Where the power begins.
    pub const USUAL_SHIFT: u32 = 11;
    /// Definition frames: how many decimals the instrument's prices are shown with.
    pub const DECIMALS: u16 = 0xF << 12;
    /// Where the decimals begin.
    pub const DECIMALS_SHIFT: u32 = 12;
    /// Definition frames: how many decimals a unit of its quantities has. The bits mean something else on other kinds.
    pub const QUANTITY_DECIMALS: u16 = 0xF << 2;
    /// Where these decimals begin.
    pub const QUANTITY_DECIMALS_SHIFT: u32 = 2;
    /// INSTRUMENT_NAME: which part of the name it is, from 0.
    pub const PART: u16 = 0x3 << 2;
    /// Where the number of the part begins.
    pub const PART_SHIFT: u32 = 2;
    /// All delivery flags.
    pub const DELIVERY: u16 = Flags::ENDED | Flags::STALE | Flags::SNAPSHOT | Flags::REPLAY;
}

/// Whether frames of the kind with this number come from an exchange and say from which one.
const fn is_of_an_exchange(number: u8) -> bool {
    Kind::Quote as u8 <= number && number <= Kind::Cancel as u8
}

/// Why a peer's frame was refused. The peer is to blame, and gets this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FrameError {
    #[error("frame version {0}; this node speaks version {VERSION}")]
    Version(u8),
    #[error("unknown frame kind {0}")]
    Kind(u8),
    #[error("reserved bits are set in a frame of kind {0}")]
    Reserved(u8),
    #[error("unknown {field} {number} in a frame of kind {kind}")]
    Unknown { kind: u8, field: &'static str, number: u16 },
    #[error("no symbol: 1 to 24 characters without '*'")]
    Symbol,
    #[error("no part of a name of 80 printable characters")]
    Name,
    #[error("frame checksum {got:08x}, computed {want:08x}")]
    Crc { got: u32, want: u32 },
}

/// Any frame. The named fields are the header that all data frames share; control frames keep
/// only `kind`, `version`, `flags` and `crc` in place (see [`Message`]).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Frame {
    /// A [`Kind`] by number.
    pub kind: u8,
    /// [`VERSION`].
    pub version: u8,
    /// [`Flags`].
    pub flags: U16,
    /// An [`InstrumentId`]: upper 8 bits the source, lower 24 the instrument within it.
    pub instrument: U32,
    /// Contiguous per source within an epoch; 0 = none.
    pub seq: U64,
    /// Exchange time, nanoseconds since the Unix epoch, UTC.
    pub ts_event: U64,
    /// Receive time of core, same clock.
    pub ts_recv: U64,
    /// What the kind says.
    pub body: [u8; 24],
    /// Contiguous per instrument and kind, so that whoever reads one topic sees its own gaps; 0 = none.
    pub instrument_seq: U32,
    /// CRC-32C of bytes 0..60.
    pub crc: U32,
}

/// A message type: a 64-byte layout that starts with `kind`, `version`, `flags` and ends with the CRC.
pub trait Message: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Copy {
    /// The kind number that announces this layout.
    const KIND: Kind;

    /// Whether all reserved fields are zero and all enumerations known.
    fn is_well_formed(&self) -> bool {
        true
    }
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Frame>() == FRAME_BYTES);
    assert!(align_of::<Frame>() == 1);
    assert!(offset_of!(Frame, instrument) == 4);
    assert!(offset_of!(Frame, seq) == 8);
    assert!(offset_of!(Frame, ts_event) == 16);
    assert!(offset_of!(Frame, ts_recv) == 24);
    assert!(offset_of!(Frame, body) == 32);
    assert!(offset_of!(Frame, instrument_seq) == 56);
    assert!(offset_of!(Frame, crc) == COVERED);
};

impl Frame {
    /// A frame of zeros: what unwritten log space holds, and never a valid frame.
    pub const ZERO: Frame = Frame {
        kind: 0,
        version: 0,
        flags: U16::ZERO,
        instrument: U32::ZERO,
        seq: U64::ZERO,
        ts_event: U64::ZERO,
        ts_recv: U64::ZERO,
        body: [0; 24],
        instrument_seq: U32::ZERO,
        crc: U32::ZERO,
    };

    /// Makes a sendable frame of a message: sets kind, version and CRC.
    #[must_use]
    pub fn seal<M: Message>(message: M) -> Frame {
        const { assert!(size_of::<M>() == FRAME_BYTES) };
        // The sizes are equal, so the read cannot fail.
        let mut frame = Frame::read_from_bytes(message.as_bytes()).unwrap_or(Frame::ZERO);
        frame.kind = M::KIND as u8;
        frame.version = VERSION;
        frame.renew_crc();
        frame
    }

    /// The frame as a message of type `M`, when its kind says so.
    #[must_use]
    pub fn view<M: Message>(&self) -> Option<&M> {
        if self.kind != M::KIND as u8 {
            return None;
        }
        M::ref_from_bytes(self.as_bytes()).ok()
    }

    /// The frame's kind, when it is a known one.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// The same as [`Kind::is_data`], of a frame whose kind has been checked ([`Frame::check`]).
    #[must_use]
    #[inline]
    pub const fn is_market_data(&self) -> bool {
        self.kind < Kind::LogMark as u8
    }

    /// The flags that have a name: without the decimals of a definition and other numbers that stand in the flags.
    #[must_use]
    pub fn named_flags(&self) -> u16 {
        let is_definition = self.kind == Kind::Definition as u8;
        let numbers = match is_definition {
            true => Flags::DECIMALS | Flags::QUANTITY_DECIMALS,
            false if is_of_an_exchange(self.kind) => Flags::EXCHANGE,
            false if self.kind == Kind::InstrumentName as u8 => Flags::PART,
            false if self.kind == Kind::Silence as u8 => Flags::HEARD | Flags::USUAL,
            false => 0,
        };
        self.flags.get() & !numbers
    }

    /// Whether it says what its instrument is called: it is a definition, or a part of a full name. Whoever wants anything of an
    /// instrument wants these too.
    #[inline]
    #[must_use]
    pub const fn is_naming(&self) -> bool {
        self.kind == Kind::Definition as u8 || self.kind == Kind::InstrumentName as u8
    }

    /// Whether it is of a kind that exchanges send and that says which one did.
    #[inline]
    #[must_use]
    pub fn has_exchange(&self) -> bool {
        is_of_an_exchange(self.kind)
    }

    /// The exchange that sent it, by the number that core knows it by. What no exchange sends is of number 0.
    #[inline]
    #[must_use]
    pub fn exchange(&self) -> ExchangeNumber {
        match is_of_an_exchange(self.kind) {
            true => ExchangeNumber::of_flags(self.flags.get()),
            false => ExchangeNumber::FIRST,
        }
    }

    /// The place of a data frame in its source's sequence.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        Seq::from_field(self.seq)
    }

    /// The place behind it: what comes next in its source's sequence.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq::behind(self.seq.get())
    }

    /// The instrument of a data frame.
    #[inline]
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        self.instrument.into()
    }

    /// Whether the flags have all bits of `mask`.
    #[must_use]
    pub fn has(&self, mask: u16) -> bool {
        self.flags.get() & mask == mask
    }

    /// Whether it is a whole data frame of a kind that this program does not know: a newer one made it.
    /// All data frames have the same header, so everything but flags and body can be read.
    #[must_use]
    pub fn is_of_unknown_data_kind(&self) -> bool {
        (1..Kind::LogMark as u8).contains(&self.kind)
            && self.check_header() == Err(FrameError::Kind(self.kind))
            && self.crc.get() == self.computed_crc()
    }

    /// The CRC-32C that bytes 0..60 should have.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        // A frame has that many bytes and four more.
        self.as_bytes().first_chunk().map_or(0, crc_of)
    }

    /// Makes the CRC right again after a change.
    pub fn renew_crc(&mut self) {
        self.crc = U32::new(self.computed_crc());
    }

    /// The same frame with delivery flags added and its CRC renewed.
    #[must_use]
    pub fn delivered(mut self, delivery: u16) -> Frame {
        let flags = self.flags.get() | (delivery & Flags::DELIVERY);
        self.flags = U16::new(flags);
        self.renew_crc();
        self
    }

    /// Checks version, kind and flags: all that can be known without reading the whole frame.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[inline]
    pub fn check_header(&self) -> Result<(), FrameError> {
        let refused = FLAGS_REFUSED[usize::from(self.kind)];
        // The sentinel of an unknown kind lies above the flags, so `|` keeps it in the sum.
        let wrong_flags = (u32::from(self.flags.get()) | (1 << 16)) & refused;
        if self.version == VERSION && wrong_flags == 0 {
            return Ok(());
        }
        Err(if self.version != VERSION {
            FrameError::Version(self.version)
        } else if Kind::from_number(self.kind).is_none() {
            FrameError::Kind(self.kind)
        } else {
            FrameError::Reserved(self.kind)
        })
    }

    /// Checks everything that a peer can get wrong in a frame: header, CRC, and for control frames
    /// the reserved fields.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[inline]
    pub fn check(&self) -> Result<(), FrameError> {
        self.check_header()?;
        let want = self.computed_crc();
        if self.crc.get() != want {
            return Err(FrameError::Crc { got: self.crc.get(), want });
        }
        // Quotes, trades and cancellations have nothing in them that could be wrong.
        if FLAGS_REFUSED[usize::from(self.kind)] & BODY_CHECKED != 0 {
            return super::check::check_body(self);
        }
        Ok(())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind:?}")?,
            None => write!(f, "kind {}", self.kind)?,
        }
        write!(
            f,
            "(seq {} instrument {:#x}/{} flags {:#06x})",
            self.seq, self.instrument, self.instrument_seq, self.flags
        )
    }
}

/// Whole frames at the start of `bytes`, cast in place, and the rest (fewer than 64 bytes).
#[must_use]
pub fn as_frames(bytes: &[u8]) -> (&[Frame], &[u8]) {
    let whole = bytes.len() - bytes.len() % FRAME_BYTES;
    let (frames, rest) = bytes.split_at(whole);
    (<[Frame]>::ref_from_bytes(frames).unwrap_or(&[]), rest)
}

#[cfg(test)]
mod tests {
    use super::super::{Quote, Trade};
    use super::*;

    #[test]
    fn every_single_bit_flip_is_refused() {
        let good = Frame::seal(Quote { seq: U64::new(7), ..Quote::default() });
        assert_eq!(good.check(), Ok(()));
        for bit in 0..FRAME_BYTES * 8 {
            let mut bad = good;
            bad.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(bad.check().is_err(), "bit {bit} was not noticed");
        }
    }

    #[test]
    fn each_refusal_names_its_cause() {
        let good = Frame::seal(Trade::default());
        let mut version = good;
        version.version = 9;
        assert_eq!(version.check(), Err(FrameError::Version(9)));
        let mut kind = good;
        kind.kind = 200;
        assert_eq!(kind.check(), Err(FrameError::Kind(200)));
        let mut flags = good;
        flags.flags = U16::new(Flags::HALTED);
        assert_eq!(flags.check(), Err(FrameError::Reserved(Kind::Trade as u8)));
        assert!(matches!(Frame::ZERO.check(), Err(FrameError::Version(0))));
    }

    #[test]
    fn frames_are_cast_from_any_offset() {
        let frame = Frame::seal(Quote::default());
        let mut bytes = vec![0xAA; 3];
        bytes.extend_from_slice(frame.as_bytes());
        bytes.extend_from_slice(&[1, 2]);
        let (frames, rest) = as_frames(&bytes[3..]);
        assert_eq!(frames, [frame]);
        assert_eq!(rest, [1, 2]);
    }

    #[test]
    fn rot_is_not_taken_for_a_kind_to_come() {
        let mut newer = Frame::seal(Quote { seq: U64::new(7), ..Quote::default() });
        newer.kind = 14;
        assert!(!newer.is_of_unknown_data_kind(), "the checksum is the quote's");
        newer.renew_crc();
        assert!(newer.is_of_unknown_data_kind());
        assert_eq!(newer.check(), Err(FrameError::Kind(14)));
        for kind in [0, Kind::Quote as u8, 17, 50, 255] {
            newer.kind = kind;
            newer.renew_crc();
            assert!(!newer.is_of_unknown_data_kind(), "{kind}");
        }
    }

    #[test]
    fn kind_numbers_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_number(255), None);
    }

    #[test]
    fn delivery_flags_keep_the_checksum_right() {
        let frame = Frame::seal(Quote::default()).delivered(Flags::STALE | Flags::BUY);
        assert!(frame.has(Flags::STALE));
        assert!(!frame.has(Flags::BUY), "only delivery flags may be added");
        assert_eq!(frame.check(), Ok(()));
    }
}
