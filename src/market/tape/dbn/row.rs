//! The parts of all record types that become events.

use dbn::{
    BboMsg, BidAskPair, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, FlagSet, Mbp1Msg, Mbp10Msg,
    RecordHeader, RecordRef, TradeMsg, rtype,
};

use crate::wire::PRICE_UNDEFINED;

/// The top of one instrument's book.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) bid: i64,
    pub(super) ask: i64,
    pub(super) bid_qty: u32,
    pub(super) ask_qty: u32,
}

impl Top {
    /// What nobody has to be notified of.
    pub(super) const EMPTY: Top =
        Top { bid: PRICE_UNDEFINED, ask: PRICE_UNDEFINED, bid_qty: 0, ask_qty: 0 };
}

impl From<&BidAskPair> for Top {
    fn from(level: &BidAskPair) -> Top {
        let (bid, ask) = (level.bid_px, level.ask_px);
        Top { bid, ask, bid_qty: level.bid_sz, ask_qty: level.ask_sz }
    }
}

impl From<&ConsolidatedBidAskPair> for Top {
    fn from(level: &ConsolidatedBidAskPair) -> Top {
        let (bid, ask) = (level.bid_px, level.ask_px);
        Top { bid, ask, bid_qty: level.bid_sz, ask_qty: level.ask_sz }
    }
}

/// A record with a trade or a top of book.
pub(super) struct Row {
    pub(super) publisher: u16,
    pub(super) instrument_id: u32,
    /// 0: its schema does not number.
    pub(super) sequence: u32,
    pub(super) ts_event: u64,
    pub(super) ts_recv: u64,
    pub(super) action: u8,
    pub(super) side: u8,
    pub(super) price: i64,
    pub(super) qty: u32,
    pub(super) flags: FlagSet,
    pub(super) top: Option<Top>,
}

/// What a record of this type says. Price, size and side of a subsampled one are those of a trade before it, and no print.
macro_rules! row {
    ($message:expr, sequence: $sequence:expr, action: $action:expr, top: $top:expr) => {{
        let message = $message;
        let RecordHeader { publisher_id, instrument_id, ts_event, .. } = message.hd;
        Row {
            publisher: publisher_id,
            instrument_id,
            sequence: $sequence(message),
            ts_event,
            ts_recv: message.ts_recv,
            action: $action(message),
            side: message.side.to_le_bytes()[0],
            price: message.price,
            qty: message.size,
            flags: message.flags,
            top: $top(message),
        }
    }};
}

/// An action that is none.
const NO_ACTION: u8 = 0;

impl Row {
    /// The row of a record; `None` for a type that has neither a trade nor a top of book.
    ///
    /// # Errors
    /// When the record is shorter than its type.
    pub(super) fn of(record: &RecordRef<'_>) -> Result<Option<Row>, dbn::Error> {
        Ok(Some(match record.header().rtype {
            rtype::MBP_0 => row!(record.try_get::<TradeMsg>()?,
                sequence: |it: &TradeMsg| it.sequence,
                action: |it: &TradeMsg| it.action.to_le_bytes()[0],
                top: |_: &TradeMsg| None),
            rtype::MBP_1 => row!(record.try_get::<Mbp1Msg>()?,
                sequence: |it: &Mbp1Msg| it.sequence,
                action: |it: &Mbp1Msg| it.action.to_le_bytes()[0],
                top: |it: &Mbp1Msg| Some(Top::from(&it.levels[0]))),
            rtype::MBP_10 => row!(record.try_get::<Mbp10Msg>()?,
                sequence: |it: &Mbp10Msg| it.sequence,
                action: |it: &Mbp10Msg| it.action.to_le_bytes()[0],
                top: |it: &Mbp10Msg| Some(Top::from(&it.levels[0]))),
            rtype::BBO_1S | rtype::BBO_1M => row!(record.try_get::<BboMsg>()?,
                sequence: |it: &BboMsg| it.sequence,
                action: |_: &BboMsg| NO_ACTION,
                top: |it: &BboMsg| Some(Top::from(&it.levels[0]))),
            rtype::CMBP_1 | rtype::TCBBO => row!(record.try_get::<Cmbp1Msg>()?,
                sequence: |_: &Cmbp1Msg| 0,
                action: |it: &Cmbp1Msg| it.action.to_le_bytes()[0],
                top: |it: &Cmbp1Msg| Some(Top::from(&it.levels[0]))),
            rtype::CBBO_1S | rtype::CBBO_1M => row!(record.try_get::<CbboMsg>()?,
                sequence: |_: &CbboMsg| 0,
                action: |_: &CbboMsg| NO_ACTION,
                top: |it: &CbboMsg| Some(Top::from(&it.levels[0]))),
            _ => return Ok(None),
        }))
    }
}
