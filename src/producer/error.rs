//! Why a producer cannot go on.

use crate::limits::INSTRUMENTS_MAX;
use crate::market::quantity::Quantity;
use crate::market::venue::ExchangeNameError;
use crate::wire::{
    ErrorCode, FrameError, FullName, InstrumentId, Kind, QUANTITY_DECIMALS_MAX, Symbol,
};

/// Why something was not produced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// That is no name of an exchange.
    #[error(transparent)]
    Exchange(#[from] ExchangeNameError),
    /// A feed has an identity, by which core knows it again.
    #[error("a feed needs an identity that is not 0")]
    NoIdentity,
    /// Core has not said where the feed goes on.
    #[error("core has not said yet where the feed goes on")]
    NotReady,
    /// Only quotes, trades and cancels have a number.
    #[error("a frame of kind {0:?} is not an event of a market")]
    NotAnEvent(Kind),
    /// The caller has not defined this instrument.
    #[error("instrument {0:#x} was not defined by this producer")]
    Undefined(InstrumentId),
    /// The system's own.
    #[error("{0} begins with $, as the system's own topics do; use another symbol")]
    Reserved(Symbol),
    /// Two names have the same symbol.
    #[error("{0} and {1} have the same symbol here; rename one of them")]
    NamesAlike(Box<FullName>, Box<FullName>),
    /// The feed has all the instruments that it may have.
    #[error("core has no room for a further instrument; it has at most {INSTRUMENTS_MAX}")]
    TooManyInstruments,
    /// A unit of quantities would be finer than a definition can say.
    #[error("a unit of quantities has at most {QUANTITY_DECIMALS_MAX} decimals, not {0}")]
    QuantityDecimals(u8),
    /// Core has other units than those that were used.
    #[error("core has {0} in units of {1} decimals, and an instrument keeps its units")]
    Units(Symbol, u8),
    /// The quantity is finer than a unit, or too large in such units.
    #[error(
        "{} of {symbol} does not fit 64 bits in units of {decimals} decimals",
        quantity.reduced()
    )]
    Quantity {
        /// Of which instrument.
        symbol: Symbol,
        /// The quantity.
        quantity: Quantity,
        /// The decimals of a unit.
        decimals: u8,
    },
    /// As many events as are kept wait for core.
    #[error("core has not acknowledged enough to take more")]
    NoRoom,
    /// Core refused.
    #[error("core refused: {text}")]
    Refused {
        /// The code, when it is a known one.
        code: Option<ErrorCode>,
        /// Its sentence.
        text: String,
    },
    /// What came is no frame.
    #[error("a bad frame: {0}")]
    BadFrame(#[from] FrameError),
    /// What came has no place here.
    #[error("core said what no core says; is it another version?")]
    Confused,
    /// Core has numbers of this feed that were not sent from here.
    #[error(
        "core has more of this feed than was sent from here: another producer has the same identity"
    )]
    AnotherProducer,
    /// Core's journal was put back from an older copy, or is another one.
    #[error(
        "core's journal lacks what it had acknowledged, such as after a restore; begin the feed again from its start"
    )]
    JournalWentBack,
}

impl ProduceError {
    /// Whether another connection would end in the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            ProduceError::Refused { code, .. } => matches!(
                code,
                Some(ErrorCode::Unexpected | ErrorCode::BadFrame | ErrorCode::NotOwner)
            ),
            _ => true,
        }
    }
}
