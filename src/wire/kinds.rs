//! The table of data kinds: what code that is about no kind in particular has to know of each one.
//!
//! A new kind is a number in [`Kind`], a message in `data.rs`, and a row in [`DATA_KINDS`]. Checks, masks,
//! patterns, snapshots, last values, conflation, tables, JSON, `dump` and `export` read the row. What is
//! *not* here: what only one kind has, as the search for trades or the making of bars.

use std::mem::offset_of;

use zerocopy::{FromBytes, IntoBytes};

use super::data::{
    BarNotional, BarPrices, BarTotals, BreakerChange, Cancel, Definition, ExchangePlace,
    InstrumentName, Quote, Silence, Trade,
};
use super::frame::{FRAME_BYTES, Flags, Frame, Kind};
use super::{I64, Size, U16, U32, U64};

/// One kind of data frame: a row of [`DATA_KINDS`].
#[derive(Clone, Copy, Debug)]
pub struct DataKind {
    /// Its number.
    pub kind: Kind,
    /// What it is called in JSON, in `--kind` and before the dot of a pattern. Frames that are only
    /// shown together share a name.
    pub name: &'static str,
    /// What it is, for the help.
    pub about: &'static str,
    /// The flags that it may have besides those of delivery, which all data frames may have.
    pub flags: u16,
    /// Whether its name may stand before the dot of a pattern.
    pub has_topic: bool,
    /// Whether the newest frame of each instrument is kept: for snapshots, and for readers that get the
    /// newest values instead of every frame.
    pub has_last_value: bool,
    /// What a body has to satisfy besides its layout.
    pub(super) body_check: BodyCheck,
    /// The values of its body. A kind without columns has no rows in a log.
    pub columns: &'static [Column],
    /// How it looks as a line of a table.
    pub line: Line,
}

/// `None` = every body is good.
pub(super) type BodyCheck = Option<fn(&Frame) -> bool>;

/// A value of a frame: a column of CSV and Parquet, a field of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What it is called.
    pub name: &'static str,
    /// What it is, and so how it is shown.
    pub holds: Holds,
    /// Where it begins in the frame.
    offset: usize,
}

/// What a column holds. It decides how the value is shown: `cli/render/column.rs` for text and JSON,
/// `render/parquet.rs` for Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// An unsigned number of 64 bits.
    U64,
    /// An unsigned number of 32 bits.
    U32,
    /// An unsigned number of 16 bits.
    U16,
    /// Nanoseconds since the Unix epoch, UTC.
    Time,
    /// Units of 1e-9, or [`super::PRICE_UNDEFINED`].
    Price,
    /// A quantity in units of the instrument.
    Quantity,
    /// A [`Size`] in units of the instrument.
    Size,
    /// So many bytes of text, padded with zeros.
    Text(usize),
    /// The names of the frame's flags.
    Flags,
    /// The aggressor's side, from the flags.
    Side,
    /// How many decimals prices are shown with, from the flags.
    Decimals,
    /// How many decimals a unit of quantities has, from the flags.
    QuantityDecimals,
    /// Whether somebody is silent or heard again, from the flags.
    Silence,
    /// The usual time between two frames in milliseconds, from the flags.
    UsualMs,
    /// A breaker's state.
    BreakerState,
    /// Why a breaker changed its state.
    BreakerReason,
}

/// How a frame looks as a line of a table.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// It is not shown by itself.
    Hidden,
    /// Values below the table's headings.
    Cells {
        /// Below `BID/PRICE`.
        price: &'static [Piece],
        /// Below `ASK`.
        ask: &'static [Piece],
        /// Below `QTY`.
        qty: &'static [Piece],
        /// Its colour.
        color: LineColor,
    },
    /// A sentence behind time and kind.
    Sentence {
        /// What stands for the kind, in at most six letters.
        word: &'static str,
        /// The sentence.
        text: &'static [Piece],
    },
}

/// A part of what stands in a line.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// A value of the frame.
    Value(Column),
    /// The same in every frame.
    Text(&'static str),
}

/// When a line has which colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineColor {
    /// A warning's, when the frame is STALE.
    Stale,
    /// That of the aggressor's side.
    Side,
    /// Always a warning's.
    Warning,
}

/// The type of the field that a column of this content shows.
macro_rules! field_type {
    (U64) => {
        U64
    };
    (U32) => {
        U32
    };
    (U16) => {
        U16
    };
    (Time) => {
        U64
    };
    (Price) => {
        I64
    };
    (Quantity) => {
        U64
    };
    (Size) => {
        Size
    };
    (BreakerState) => {
        u8
    };
    (BreakerReason) => {
        u8
    };
}

/// The column of a field. A field of another type than the content has does not compile.
macro_rules! column {
    ($message:ident.$field:ident: Text) => {
        Column::text(stringify!($field), offset_of!($message, $field), |it: &$message| &it.$field)
    };
    ($message:ident.$field:ident: $holds:ident) => {{
        const _: fn(&$message) -> &field_type!($holds) = |it| &it.$field;
        let offset = offset_of!($message, $field);
        Column { name: stringify!($field), holds: Holds::$holds, offset }
    }};
}

const BID: Column = column!(Quote.bid: Price);
const ASK: Column = column!(Quote.ask: Price);
const BID_QTY: Column = column!(Quote.bid_qty: Size);
const ASK_QTY: Column = column!(Quote.ask_qty: Size);
const TRADE_PRICE: Column = column!(Trade.price: Price);
const TRADE_QTY: Column = column!(Trade.qty: Quantity);
const CANCEL_PRICE: Column = column!(Cancel.price: Price);
const CANCEL_QTY: Column = column!(Cancel.qty: Quantity);
const SIDE: Column = Column::of_flags("side", Holds::Side);
const BREAKER_NAME: Column = column!(BreakerChange.name: Text);
const BREAKER_FROM: Column = column!(BreakerChange.from: BreakerState);
const BREAKER_TO: Column = column!(BreakerChange.to: BreakerState);
const BREAKER_REASON: Column = column!(BreakerChange.reason: BreakerReason);
const PLACE_EXCHANGE: Column = column!(ExchangePlace.exchange: U16);
const PLACE_FEED: Column = column!(ExchangePlace.feed: U64);
const PLACE_NEXT_SEQ: Column = column!(ExchangePlace.next_seq: U64);
const SILENCE_WHO: Column =
    Column { name: "who", holds: Holds::Text(24), offset: offset_of!(Silence, who) };
const NAME_TEXT: Column = column!(InstrumentName.text: Text);
const SILENCE_STATE: Column = Column::of_flags("state", Holds::Silence);
const SILENCE_USUAL_MS: Column = Column::of_flags("usual_ms", Holds::UsualMs);

/// The flags of a trade, and of what withdraws one.
const TRADE_FLAGS: u16 = Flags::LAST
    | Flags::GAP_BEFORE
    | Flags::BUY
    | Flags::SELL
    | Flags::AFTER_MARKET
    | Flags::EXCHANGE;

/// One of the three frames of a bar. They are shown together, by `market/bar.rs`, and no log has them.
const BAR: DataKind = DataKind {
    kind: Kind::BarPrices,
    name: "bar",
    about: "A bar",
    flags: 0,
    has_topic: true,
    has_last_value: false,
    body_check: None,
    columns: &[],
    line: Line::Hidden,
};

/// Every kind of data frame. The order is that in which kinds, their columns and their last values are
/// shown and sent: a new one stands at the end.
pub const DATA_KINDS: &[DataKind] = &[
    DataKind {
        kind: Kind::Quote,
        name: "quote",
        about: "Best bid and ask after a change",
        flags: Flags::LAST
            | Flags::GAP_BEFORE
            | Flags::AFTER_MARKET
            | Flags::HALTED
            | Flags::EXCHANGE,
        has_topic: true,
        has_last_value: true,
        body_check: Quote::BODY_CHECK,
        columns: &[BID, ASK, BID_QTY, ASK_QTY],
        line: Line::Cells {
            price: &[Piece::Value(BID)],
            ask: &[Piece::Value(ASK)],
            qty: &[Piece::Value(BID_QTY), Piece::Text("x"), Piece::Value(ASK_QTY)],
            color: LineColor::Stale,
        },
    },
    DataKind {
        kind: Kind::Trade,
        name: "trade",
        about: "A trade",
        flags: TRADE_FLAGS,
        has_topic: true,
        has_last_value: true,
        body_check: Trade::BODY_CHECK,
        columns: &[TRADE_PRICE, TRADE_QTY, SIDE, column!(Trade.trade_id: U64)],
        line: Line::Cells {
            price: &[Piece::Value(TRADE_PRICE)],
            ask: &[],
            qty: &[Piece::Value(TRADE_QTY)],
            color: LineColor::Side,
        },
    },
    DataKind {
        kind: Kind::Cancel,
        name: "cancel",
        about: "A withdrawn trade",
        flags: TRADE_FLAGS,
        has_topic: true,
        has_last_value: false,
        body_check: Cancel::BODY_CHECK,
        columns: &[CANCEL_PRICE, CANCEL_QTY, SIDE, column!(Cancel.trade_id: U64)],
        line: Line::Cells {
            price: &[Piece::Value(CANCEL_PRICE)],
            ask: &[],
            qty: &[Piece::Value(CANCEL_QTY)],
            color: LineColor::Warning,
        },
    },
    DataKind {
        kind: Kind::BreakerChange,
        name: "breaker",
        about: "A change of a circuit breaker",
        flags: 0,
        has_topic: false,
        has_last_value: false,
        body_check: BreakerChange::BODY_CHECK,
        columns: &[
            BREAKER_NAME,
            BREAKER_FROM,
            BREAKER_TO,
            BREAKER_REASON,
            column!(BreakerChange.generation: U16),
        ],
        line: Line::Sentence {
            word: "break",
            text: &[
                Piece::Value(BREAKER_NAME),
                Piece::Text(": "),
                Piece::Value(BREAKER_FROM),
                Piece::Text(" to "),
                Piece::Value(BREAKER_TO),
                Piece::Text(" ("),
                Piece::Value(BREAKER_REASON),
                Piece::Text(")"),
            ],
        },
    },
    DataKind {
        kind: Kind::Definition,
        name: "definition",
        about: "An instrument's name",
        flags: Flags::DECIMALS | Flags::QUANTITY_DECIMALS | Flags::VENUE,
        has_topic: false,
        // It is kept apart: nothing can be kept of an instrument without it.
        has_last_value: false,
        body_check: Definition::BODY_CHECK,
        columns: &[
            Column::of_flags("decimals", Holds::Decimals),
            Column::of_flags("qty_decimals", Holds::QuantityDecimals),
        ],
        // Every other line has its symbol.
        line: Line::Hidden,
    },
    DataKind { kind: Kind::BarPrices, body_check: BarPrices::BODY_CHECK, ..BAR },
    DataKind { kind: Kind::BarTotals, body_check: BarTotals::BODY_CHECK, ..BAR },
    DataKind { kind: Kind::BarNotional, body_check: BarNotional::BODY_CHECK, ..BAR },
    DataKind {
        kind: Kind::ExchangePlace,
        name: "exchange",
        about: "How far core is in the feed of an exchange",
        flags: 0,
        has_topic: false,
        has_last_value: false,
        body_check: ExchangePlace::BODY_CHECK,
        columns: &[PLACE_EXCHANGE, PLACE_FEED, PLACE_NEXT_SEQ],
        line: Line::Sentence {
            word: "place",
            text: &[
                Piece::Text("exchange "),
                Piece::Value(PLACE_EXCHANGE),
                Piece::Text(" goes on at its number "),
                Piece::Value(PLACE_NEXT_SEQ),
            ],
        },
    },
    DataKind {
        kind: Kind::Silence,
        name: "silence",
        about: "An exchange or an instrument is silent for longer than is usual for it, or is heard again",
        flags: Flags::HEARD | Flags::USUAL,
        has_topic: false,
        has_last_value: false,
        body_check: Silence::BODY_CHECK,
        columns: &[SILENCE_WHO, SILENCE_STATE, SILENCE_USUAL_MS],
        line: Line::Sentence {
            word: "silent",
            text: &[
                Piece::Value(SILENCE_WHO),
                Piece::Text(" is "),
                Piece::Value(SILENCE_STATE),
                Piece::Text("; usual are up to "),
                Piece::Value(SILENCE_USUAL_MS),
                Piece::Text(" ms between two frames"),
            ],
        },
    },
    DataKind {
        kind: Kind::InstrumentName,
        name: "name",
        about: "A part of the full name of an instrument",
        flags: Flags::LAST | Flags::PART,
        has_topic: false,
        // It is kept beside the definition.
        has_last_value: false,
        body_check: InstrumentName::BODY_CHECK,
        columns: &[NAME_TEXT],
        line: Line::Sentence { word: "name", text: &[Piece::Value(NAME_TEXT)] },
    },
    #[cfg(test)]
    DataKind {
        kind: Kind::Sample,
        name: "sample",
        about: "A kind that only tests have",
        flags: Flags::LAST | Flags::GAP_BEFORE,
        has_topic: true,
        has_last_value: true,
        body_check: super::Sample::BODY_CHECK,
        columns: sample::COLUMNS,
        line: Line::Cells {
            price: &[Piece::Value(sample::PRICE)],
            ask: &[Piece::Value(sample::LABEL)],
            qty: &[Piece::Value(sample::LOTS)],
            color: LineColor::Stale,
        },
    },
];

#[cfg(test)]
mod sample {
    use super::super::Sample;
    use super::{Column, Holds, I64, U32, offset_of};

    // A price as trades have one, so that the two share a column.
    pub(super) const PRICE: Column = column!(Sample.price: Price);
    pub(super) const LOTS: Column = column!(Sample.lots: U32);
    pub(super) const LABEL: Column = column!(Sample.label: Text);
    pub(super) const COLUMNS: &[Column] = &[PRICE, LOTS, LABEL];
}

/// The values that all data frames have, besides kind and symbol.
pub const SHARED_COLUMNS: [Column; 5] = [
    column!(Frame.seq: U64),
    column!(Frame.instrument_seq: U32),
    column!(Frame.ts_event: Time),
    column!(Frame.ts_recv: Time),
    Column::of_flags("flags", Holds::Flags),
];

/// How many kinds keep a last value.
pub const LAST_VALUES: usize = {
    let (mut count, mut row) = (0, 0);
    while row < DATA_KINDS.len() {
        count += DATA_KINDS[row].has_last_value as usize;
        row += 1;
    }
    count
};

/// Numbers that a data kind can have: those that have a mask bit, and 0, which has none.
const NUMBERS: usize = Kind::LogMark as usize;

/// By kind number: the row.
static ROWS: [Option<&DataKind>; NUMBERS] = {
    let mut rows = [None; NUMBERS];
    let mut row = 0;
    while row < DATA_KINDS.len() {
        let number = DATA_KINDS[row].kind as usize;
        assert!(number > 0 && number < NUMBERS, "a data kind has a mask bit");
        assert!(rows[number].is_none(), "a kind has one row");
        rows[number] = Some(&DATA_KINDS[row]);
        row += 1;
    }
    rows
};

/// By kind number: where its last value is kept; [`LAST_VALUES`] = nowhere. Any byte has an entry, so that
/// the look-up needs no check.
static LAST_VALUE_SLOTS: [u8; 256] = {
    #[allow(clippy::cast_possible_truncation, reason = "at most as many as there are numbers")]
    const NOWHERE: u8 = LAST_VALUES as u8;
    let mut slots = [NOWHERE; 256];
    let (mut next, mut row) = (0, 0);
    while row < DATA_KINDS.len() {
        if DATA_KINDS[row].has_last_value {
            slots[DATA_KINDS[row].kind as usize] = next;
            next += 1;
        }
        row += 1;
    }
    slots
};

const _: () = {
    let mut row = 0;
    while row < DATA_KINDS.len() {
        let it = &DATA_KINDS[row];
        let is_hidden = matches!(it.line, Line::Hidden);
        let is_definition = matches!(it.kind, Kind::Definition);
        // Or a dump would leave its rows out without a word.
        assert!(
            it.columns.is_empty() || !is_hidden || is_definition,
            "a kind with rows has a line"
        );
        row += 1;
    }
};

impl DataKind {
    /// The row of the kind with this number.
    #[must_use]
    pub(super) const fn by_number(number: u8) -> Option<&'static DataKind> {
        // A static cannot be read in a constant.
        let mut row = 0;
        while row < DATA_KINDS.len() {
            if DATA_KINDS[row].kind as u8 == number {
                return Some(&DATA_KINDS[row]);
            }
            row += 1;
        }
        None
    }

    /// The row of a frame's kind; `None` for control frames and for kinds that this program does not know.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<&'static DataKind> {
        ROWS.get(usize::from(frame.kind)).copied().flatten()
    }

    /// Whether there can be something wrong in its body.
    #[must_use]
    pub fn has_body_check(&self) -> bool {
        self.body_check.is_some()
    }

    /// The kinds that may stand before the dot of a pattern under this name: a sum of [`Kind::mask`].
    #[must_use]
    pub fn topic_mask(name: &str) -> Option<u16> {
        let named = DATA_KINDS.iter().filter(|row| row.has_topic && row.name == name);
        named.map(|row| row.kind.mask()).reduce(|sum, mask| sum | mask)
    }

    /// The name of exactly these kinds, the reverse of [`DataKind::topic_mask`].
    #[must_use]
    pub fn topic_name(mask: u16) -> Option<&'static str> {
        let names = DATA_KINDS.iter().map(|row| row.name);
        names.into_iter().find(|name| DataKind::topic_mask(name) == Some(mask))
    }

    /// Where the last value of frames of this number is kept, below [`LAST_VALUES`]; `None` when none is.
    #[inline]
    #[must_use]
    pub fn last_value_slot(number: u8) -> Option<usize> {
        let slot = usize::from(LAST_VALUE_SLOTS[usize::from(number)]);
        (slot < LAST_VALUES).then_some(slot)
    }
}

impl Column {
    /// A value that stands in the flags.
    const fn of_flags(name: &'static str, holds: Holds) -> Column {
        Column { name, holds, offset: offset_of!(Frame, flags) }
    }

    /// A field of text. The last argument is only there for its type.
    const fn text<M, const N: usize>(
        name: &'static str,
        offset: usize,
        _field: fn(&M) -> &[u8; N],
    ) -> Column {
        assert!(offset + N <= FRAME_BYTES);
        Column { name, holds: Holds::Text(N), offset }
    }

    /// How many bytes of the frame it takes.
    const fn width(&self) -> usize {
        match self.holds {
            Holds::U64 | Holds::Time | Holds::Price | Holds::Quantity => 8,
            Holds::U32 | Holds::Size => 4,
            Holds::U16
            | Holds::Flags
            | Holds::Side
            | Holds::Decimals
            | Holds::QuantityDecimals
            | Holds::Silence
            | Holds::UsualMs => 2,
            Holds::Text(bytes) => bytes,
            Holds::BreakerState | Holds::BreakerReason => 1,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        frame.as_bytes().get(self.offset..self.offset + self.width()).unwrap_or_default()
    }

    /// The quantity in it, in units of the instrument.
    #[must_use]
    pub fn units(&self, frame: &Frame) -> u128 {
        match Size::read_from_bytes(self.bytes(frame)) {
            Ok(size) if self.holds == Holds::Size => size.units(),
            _ => self.number(frame).into(),
        }
    }

    /// Its bytes as an unsigned number; of numbers that stand in the flags only these.
    #[must_use]
    pub fn number(&self, frame: &Frame) -> u64 {
        if matches!(self.holds, Holds::Decimals | Holds::QuantityDecimals) {
            let decimals = frame.view::<Definition>().map(Definition::decimals);
            return decimals.map_or(0, |decimals| match self.holds {
                Holds::Decimals => decimals.price.into(),
                _ => decimals.quantity.into(),
            });
        }
        if self.holds == Holds::UsualMs {
            return frame.view::<Silence>().map_or(0, Silence::usual_ms);
        }
        let mut number = [0; size_of::<u64>()];
        number.iter_mut().zip(self.bytes(frame)).for_each(|(place, byte)| *place = *byte);
        u64::from_le_bytes(number)
    }
}

#[cfg(test)]
mod tests;
