//! Market data messages: the header that all share, and a body of 24 bytes each.
//!
//! # Decisions
//!
//! * `instrument_seq` counts per instrument and kind. With one count for all kinds, a subscriber of
//!   `trade.X` could not tell a loss from the quotes that it did not ask for.
//! * A bar is three frames: prices, totals, notional. A body of 24 bytes cannot hold a bar. A second frame
//!   size would cost every decoder more than it saves here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::frame::{FRAME_BYTES, Flags, Frame, Kind, Message};
use super::kinds::BodyCheck;
use super::{ExchangeNumber, I64, I128, InstrumentId, Names, Size, Symbol, U16, U32, U64, U128};

/// The price that says "there is none", as in Databento's DBN.
pub const PRICE_UNDEFINED: i64 = i64::MAX;

/// The sum of price × quantity that says "it does not fit".
pub const NOTIONAL_UNDEFINED: i128 = i128::MAX;

/// Decimals that a unit of quantities has at most. A [`Size`] with as many fits 38 digits, as has every reader.
pub const QUANTITY_DECIMALS_MAX: u8 = 14;

/// How the numbers of an instrument are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimals {
    /// Prices are shown with at least so many (0 to 9). Their unit is always 1e-9.
    pub price: u8,
    /// A unit of quantities has so many (0 to 14).
    pub quantity: u8,
}

/// Declares a data message: the shared header around the given body fields, and what these have to satisfy
/// besides their layout.
macro_rules! data_message {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
     $(well_formed($it:ident) $check:expr)?) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            /// Set by [`super::Frame::seal`].
            pub kind: u8,
            /// Set by [`super::Frame::seal`].
            pub version: u8,
            /// See [`Flags`].
            pub flags: U16,
            /// An [`InstrumentId`]: upper 8 bits the source, lower 24 the instrument within it.
            pub instrument: U32,
            /// Contiguous per source within an epoch; 0 = none.
            pub seq: U64,
            /// Exchange time, nanoseconds since the Unix epoch, UTC.
            pub ts_event: U64,
            /// Receive time of core, same clock.
            pub ts_recv: U64,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Contiguous per instrument and kind, so that whoever reads one topic sees its own gaps; 0 = none.
            pub instrument_seq: U32,
            /// Set by [`super::Frame::seal`].
            pub crc: U32,
        }

        const _: () = assert!(size_of::<$name>() == FRAME_BYTES);

        impl Message for $name {
            const KIND: Kind = Kind::$name;

            $(fn is_well_formed(&self) -> bool {
                let $it = self;
                $check
            })?
        }

        impl $name {
            /// Its instrument.
            #[inline]
            #[must_use]
            pub fn instrument(&self) -> InstrumentId {
                self.instrument.into()
            }

            /// What its row in the table of kinds says of its body.
            pub(super) const BODY_CHECK: BodyCheck = body_check!($name $(, $check)?);
        }
    };
}

macro_rules! body_check {
    ($name:ident) => {
        None
    };
    ($name:ident, $check:expr) => {
        Some(holds::<$name>)
    };
}

/// Whether the frame is of this type and its body is what it should be.
pub(super) fn holds<M: Message>(frame: &Frame) -> bool {
    frame.view::<M>().is_some_and(M::is_well_formed)
}

data_message! {
    /// Names an instrument. Comes before its first data frame on every connection and in every log.
    /// The flags' upper four bits say how many decimals its prices are shown with (0 to 9), and four others how many a
    /// unit of its quantities has (0 to 14).
    Definition {
        /// The instrument's name.
        symbol: Symbol,
    } well_formed(it) it.symbol.is_valid()
        && it.decimals().price <= Definition::DECIMALS_MAX
        && it.decimals().quantity <= QUANTITY_DECIMALS_MAX
}

data_message! {
    /// Best bid and ask after a change. Prices in units of 1e-9; [`PRICE_UNDEFINED`] = that side is empty.
    Quote {
        /// Best price somebody pays.
        bid: I64,
        /// Best price somebody asks.
        ask: I64,
        /// Size at the bid.
        bid_qty: Size,
        /// Size at the ask.
        ask_qty: Size,
    }
}

data_message! {
    /// One trade. [`Flags::BUY`] or [`Flags::SELL`] is the aggressor's side; neither = unknown.
    Trade {
        /// Price in units of 1e-9.
        price: I64,
        /// Quantity in units of the instrument.
        qty: U64,
        /// The exchange's number of the trade, unique within instrument and trading date; 0 = none.
        trade_id: U64,
    }
}

data_message! {
    /// The exchange withdrew an earlier trade: same fields as the trade it cancels.
    Cancel {
        /// Price of the cancelled trade in units of 1e-9.
        price: I64,
        /// Its quantity.
        qty: U64,
        /// Its number.
        trade_id: U64,
    }
}

data_message! {
    /// First of the three frames of a bar. `ts_event` is the bar's start, `seq` that of its last trade.
    BarPrices {
        /// Price of the first trade in units of 1e-9.
        open: I64,
        /// Highest price.
        high: I64,
        /// Lowest price.
        low: I64,
    }
}

data_message! {
    /// Second frame of a bar.
    BarTotals {
        /// Price of the last trade in units of 1e-9.
        close: I64,
        /// Sum of quantities, in units of the instrument.
        volume: U128,
    }
}

data_message! {
    /// Third frame of a bar.
    BarNotional {
        /// Sum of price × quantity in units of 1e-9; divided by the volume it is the VWAP. [`NOTIONAL_UNDEFINED`] = it does
        /// not fit.
        notional: I128,
        /// Length of the bar in seconds.
        interval_s: U32,
        /// Number of trades.
        trades: U32,
    }
}

data_message! {
    /// A circuit breaker changed its state; on the system topic `$sys.breaker`.
    BreakerChange {
        /// State before, numbered as in PROTOCOL.md.
        from: u8,
        /// State after.
        to: u8,
        /// Why, numbered as in PROTOCOL.md.
        reason: u8,
        /// Zero.
        reserved: u8,
        /// The generation that the change began.
        /// Modulo 65,536.
        generation: U16,
        /// Which breaker: room for the longest name of ours, `aggregator.shard-A`.
        name: [u8; 18],
    } well_formed(it) it.reserved == 0
}

data_message! {
    /// How far core is in the feed of an exchange; on the system topic `$sys.exchange.` and the exchange's name. Each frame of
    /// the exchange behind it is one number more.
    ExchangePlace {
        /// Which feed the numbers are of; 0 = none yet.
        feed: U64,
        /// The number that core wants next.
        next_seq: U64,
        /// The number that frames have the exchange by, 1 to 31.
        exchange: U16,
        /// Zero.
        reserved: [u8; 6],
    } well_formed(it) it.reserved == [0; 6]
        && it.next_seq.get() != 0
        && ExchangeNumber::new(it.exchange.get()).is_some_and(|number| number != ExchangeNumber::FIRST)
}

data_message! {
    /// Somebody is silent for longer than is usual, or is heard again ([`Flags::HEARD`]); on the system topic
    /// `$sys.silence`. `ts_event` is when it was heard last.
    Silence {
        /// An instrument, or an exchange by its system topic.
        who: Symbol,
    } well_formed(it) it.who.is_valid()
}

data_message! {
    /// A part of the full name of an instrument whose symbol only stands for it. Comes behind its definition. [`Flags::PART`]
    /// says which part it is, and [`Flags::LAST`] that the name ends with it.
    InstrumentName {
        /// Printable ASCII: 24 characters, in the last part fewer and zeros behind them.
        text: [u8; 24],
    } well_formed(it) it.is_part()
}

#[cfg(test)]
data_message! {
    /// A kind that no program has: shows what a new one takes.
    Sample {
        /// A price in units of 1e-9.
        price: I64,
        /// How many.
        lots: U32,
        /// A text.
        label: [u8; 11],
        /// Zero.
        reserved: u8,
    } well_formed(it) it.reserved == 0
}

impl Silence {
    /// So many milliseconds at most are usual between two frames: a power of two.
    #[must_use]
    pub fn usual_ms(&self) -> u64 {
        1 << ((self.flags.get() & Flags::USUAL) >> Flags::USUAL_SHIFT)
    }

    /// The flags for a usual time of at most so many milliseconds.
    #[must_use]
    pub fn usual_flags(usual_ms: u64) -> u16 {
        let power = usual_ms.max(1).checked_next_power_of_two().map_or(63, u64::trailing_zeros);
        u16::try_from(power.min(31)).unwrap_or(31) << Flags::USUAL_SHIFT
    }
}

impl Definition {
    /// Decimals at most.
    pub(super) const DECIMALS_MAX: u8 = 9;

    /// A definition that shows prices with this many decimals (0 to 9).
    #[must_use]
    pub fn new(instrument: InstrumentId, symbol: Symbol, decimals: u8) -> Definition {
        Definition {
            flags: U16::new(
                u16::from(decimals.min(Definition::DECIMALS_MAX)) << Flags::DECIMALS_SHIFT,
            ),
            instrument: instrument.into(),
            symbol,
            ..Definition::default()
        }
    }

    /// The same under a name that begins with its venue.
    #[must_use]
    pub fn at_venue(mut self) -> Definition {
        self.flags = U16::new(self.flags.get() | Flags::VENUE);
        self
    }

    /// The names that patterns may give it: its symbol; and what stands behind the venue, when the symbol begins with one.
    #[must_use]
    pub fn names(&self) -> Names {
        match self.is_at_venue() {
            true => Names::at_venue(self.symbol),
            false => Names::of(self.symbol),
        }
    }

    /// Whether its symbol begins with its venue.
    #[must_use]
    pub fn is_at_venue(&self) -> bool {
        self.flags.get() & Flags::VENUE != 0
    }

    /// Its symbol without the venue, when it begins with one.
    #[must_use]
    pub fn short_form(&self) -> Option<Symbol> {
        self.names().short_form()
    }

    /// The same with quantities in units of so many decimals: 0 to [`QUANTITY_DECIMALS_MAX`], and as many of a larger
    /// number, which is the caller's to refuse.
    #[must_use]
    pub fn with_quantity_decimals(mut self, decimals: u8) -> Definition {
        let decimals = u16::from(decimals.min(QUANTITY_DECIMALS_MAX));
        let others = self.flags.get() & !Flags::QUANTITY_DECIMALS;
        self.flags = U16::new(others | (decimals << Flags::QUANTITY_DECIMALS_SHIFT));
        self
    }

    /// How the instrument's numbers are meant.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "four bits each")]
    pub fn decimals(&self) -> Decimals {
        let flags = self.flags.get();
        Decimals {
            price: (flags >> Flags::DECIMALS_SHIFT) as u8,
            quantity: ((flags & Flags::QUANTITY_DECIMALS) >> Flags::QUANTITY_DECIMALS_SHIFT) as u8,
        }
    }
}
