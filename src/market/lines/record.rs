//! What a line tells, whichever format it has.

use crate::market::price::Price;
use crate::market::quantity::Quantity;
use crate::wire::Symbol;

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The instrument's name. It is none of the system's own.
    pub symbol: Symbol,
    /// When it happened: nanoseconds since 1970, UTC.
    pub ts_event: u64,
    /// [`crate::wire::Flags`]: LAST, BUY, SELL, `AFTER_MARKET`, and of a quote HALTED.
    pub flags: u16,
    /// It is no event, but the newest value from before the first one.
    pub is_snapshot: bool,
    /// What happened.
    pub body: RecordBody,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// The best bid and ask after a change.
    Quote {
        /// Best bid, or [`Price::UNDEFINED`].
        bid: Price,
        /// Best ask, or [`Price::UNDEFINED`].
        ask: Price,
        /// Size at the bid.
        bid_qty: Quantity,
        /// Size at the ask.
        ask_qty: Quantity,
    },
    /// A trade.
    Trade {
        /// Its price.
        price: Price,
        /// Its quantity.
        qty: Quantity,
        /// Its number; 0 = none.
        trade_id: u64,
    },
    /// A trade was withdrawn.
    Cancel {
        /// The trade's price.
        price: Price,
        /// The trade's quantity.
        qty: Quantity,
        /// The trade's number.
        trade_id: u64,
    },
}

/// The kinds of a [`RecordBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// See [`RecordBody::Quote`].
    Quote,
    /// See [`RecordBody::Trade`].
    Trade,
    /// See [`RecordBody::Cancel`].
    Cancel,
}

impl RecordKind {
    /// The kind of this name, in one or in many.
    #[must_use]
    pub fn of(name: &str) -> Option<RecordKind> {
        match name {
            "quote" | "quotes" => Some(RecordKind::Quote),
            "trade" | "trades" => Some(RecordKind::Trade),
            "cancel" | "cancels" => Some(RecordKind::Cancel),
            _ => None,
        }
    }
}
