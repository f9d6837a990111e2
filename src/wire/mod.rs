#![doc = include_str!("PROTOCOL.md")]

mod answers;
mod check;
mod control;
mod crc;
mod data;
mod exchange;
mod feed_status;
mod fnv;
mod frame;
mod full_name;
mod instrument;
mod kinds;
mod name_parts;
mod names;
mod numbers;
mod seq;
mod size;
mod symbol;

pub use control::{
    Ack, Counted, Ended, Gap, Heartbeat, Lineage, Metric, NodeAnswer, NodeExplain, Query,
    QueryMore, Refusal, Resume, Run, Session, SnapshotEnd, Subscribe, Subscribed, Text, padded,
    unpadded,
};
#[cfg(test)]
pub use data::Sample;
pub use data::{
    BarNotional, BarPrices, BarTotals, BreakerChange, Cancel, Decimals, Definition, ExchangePlace,
    InstrumentName, NOTIONAL_UNDEFINED, PRICE_UNDEFINED, QUANTITY_DECIMALS_MAX, Quote, Silence,
    Trade,
};
pub use exchange::{ExchangeNumber, ExchangeSet};
pub use feed_status::{FeedStates, FeedStatus};
pub use fnv::{FNV_BASIS, fnv1a_64};
pub use frame::{FRAME_BYTES, Flags, Frame, FrameError, Kind, Message, VERSION, as_frames};
pub use full_name::{FullName, NameError};
pub use instrument::{InstrumentId, InstrumentIndex};
pub use kinds::{
    Column, DATA_KINDS, DataKind, Holds, LAST_VALUES, Line, LineColor, Piece, SHARED_COLUMNS,
};
pub use name_parts::NameParts;
pub use names::Names;
pub use numbers::{
    BreakerAction, ChaosAction, EndStatus, ErrorCode, GapReason, Mode, NodeStatus, Op, Role,
};
pub use seq::{Seq, next_instrument_seq};
pub use size::Size;
pub use symbol::{Symbol, SymbolError};

/// Little-endian integers of alignment 1, as they stand in every frame.
pub use zerocopy::byteorder::little_endian::{I64, I128, U16, U32, U64, U128};
