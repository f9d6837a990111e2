//! What a tape tells: its events, in the units of the frames.

use crate::market::price::Price;
use crate::wire::InstrumentIndex;

/// What happened, in the units of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeBody {
    /// The best bid and ask changed.
    Quote {
        /// Best bid.
        bid: Price,
        /// Best ask.
        ask: Price,
        /// Size at the bid, in units of the instrument as all quantities.
        bid_qty: u64,
        /// Size at the ask.
        ask_qty: u64,
    },
    /// A trade.
    Trade {
        /// Its price.
        price: Price,
        /// Its quantity.
        qty: u64,
        /// The exchange's number; 0 = none.
        trade_id: u64,
    },
    /// An earlier trade was withdrawn.
    Cancel {
        /// The trade's price.
        price: Price,
        /// The trade's quantity.
        qty: u64,
        /// The trade's number.
        trade_id: u64,
    },
    /// The venue has halted trading in the instrument, or lets it go on. It becomes a quote that says so, with what the
    /// quote before it said.
    Halt {
        /// It is halted now.
        is_halted: bool,
    },
}

/// One event of a tape; becomes one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeEvent {
    /// Exchange time as the tape has it, nanoseconds since the Unix epoch, UTC. May go back, and may be wrong.
    pub ts_event: u64,
    /// The recording clock, in the same unit: when whoever recorded the tape received it. A replay is paced by it.
    pub ts_recv: u64,
    /// Index in the tape's own table.
    pub instrument: InstrumentIndex,
    /// [`crate::wire::Flags`].
    pub flags: u16,
    /// What happened.
    pub body: TapeBody,
    /// What the venue numbers its messages by; 0 = nothing. Prints of one number may be one print that was told twice.
    pub sequence: u64,
    /// Which of the streams of the tape told it. One stream tells a print once.
    pub stream: u8,
    /// While lines of text are read: how many decimals a unit of its quantities has. Of a tape that was read it is 0, and
    /// the instrument says it.
    pub(super) decimals: u8,
}

impl TapeEvent {
    /// An event of a tape with one clock and one stream, that the venue does not number.
    #[must_use]
    pub fn new(ts_event: u64, instrument: InstrumentIndex, body: TapeBody) -> TapeEvent {
        let ts_recv = ts_event;
        TapeEvent {
            ts_event,
            ts_recv,
            instrument,
            flags: 0,
            body,
            sequence: 0,
            stream: 0,
            decimals: 0,
        }
    }
}
