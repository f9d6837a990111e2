//! The names of values, ours and those of others.

use super::record::RecordKind;
use crate::wire::DATA_KINDS;

/// The values that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Quote, trade or cancel.
    Kind,
    /// The instrument.
    Symbol,
    /// The time of the event.
    Time,
    /// Names of flags.
    Flags,
    /// Best bid.
    Bid,
    /// Best ask.
    Ask,
    /// Size at the bid.
    BidQty,
    /// Size at the ask.
    AskQty,
    /// A trade's price.
    Price,
    /// A trade's quantity.
    Qty,
    /// The aggressor's side.
    Side,
    /// A trade's number.
    TradeId,
    /// Whether trading is halted.
    Halted,
    /// Whether it is from the after-market session.
    AfterMarket,
}

/// All fields, in their order.
pub(super) const FIELDS: [Field; 14] = [
    Field::Kind,
    Field::Symbol,
    Field::Time,
    Field::Flags,
    Field::Bid,
    Field::Ask,
    Field::BidQty,
    Field::AskQty,
    Field::Price,
    Field::Qty,
    Field::Side,
    Field::TradeId,
    Field::Halted,
    Field::AfterMarket,
];

impl Field {
    /// The field that this name means without a [`Mapping`].
    #[must_use]
    pub fn of(name: &str) -> Option<Field> {
        Some(match name {
            "kind" => Field::Kind,
            "symbol" => Field::Symbol,
            "ts_event" | "timestamp" => Field::Time,
            "flags" => Field::Flags,
            "bid" | "bid_price" => Field::Bid,
            "ask" | "ask_price" => Field::Ask,
            "bid_qty" | "bid_quantity" | "bid_size" | "bid_amount" => Field::BidQty,
            "ask_qty" | "ask_quantity" | "ask_size" | "ask_amount" => Field::AskQty,
            "price" => Field::Price,
            "qty" | "quantity" | "size" | "amount" => Field::Qty,
            "side" => Field::Side,
            "trade_id" | "id" => Field::TradeId,
            "halted" => Field::Halted,
            "after_market" => Field::AfterMarket,
            _ => return None,
        })
    }

    /// What `export` and `subscribe` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Field::Kind => "kind",
            Field::Symbol => "symbol",
            Field::Time => "ts_event",
            Field::Flags => "flags",
            Field::Bid => "bid",
            Field::Ask => "ask",
            Field::BidQty => "bid_qty",
            Field::AskQty => "ask_qty",
            Field::Price => "price",
            Field::Qty => "qty",
            Field::Side => "side",
            Field::TradeId => "trade_id",
            Field::Halted => "halted",
            Field::AfterMarket => "after_market",
        }
    }

    pub(super) fn place(self) -> usize {
        self as usize
    }
}

/// What `subscribe` and `dump` write beside a symbol that stands for a longer name.
pub(super) const FULL_NAME: &str = "full_name";

/// Names of an event that `export` and `subscribe` write, and that nobody else can say.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.strip_suffix("_text").unwrap_or(name);
    Field::of(name).is_some() || matches!(name, "seq" | "instrument_seq" | "ts_recv" | FULL_NAME)
}

/// Names that kinds have which are passed over.
pub(super) fn is_of_other_kinds(name: &str) -> bool {
    let is_gaps = matches!(name, "from_seq" | "to_seq" | "reason" | "missed");
    is_gaps || DATA_KINDS.iter().flat_map(|row| row.columns).any(|column| column.name == name)
}

/// Kinds that are written and that no table has.
pub(super) const FURTHER_KINDS: [&str; 7] =
    ["gap", "snapshot_end", "stale", "ended", "current", "mark", "epoch"];

/// Other names of fields and of measurements: `price=last,quantity=amount,symbol=pair,trades=fills`. A field that is named has no
/// other name then; one that is named by nothing (`id=`) is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    fields: Vec<(Field, String)>,
    measurements: Vec<(RecordKind, String)>,
}

/// Why a text is no [`Mapping`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// Not `OURS=YOURS`.
    #[error("{0:?} is no OURS=YOURS, as in price=last,quantity=amount,symbol=pair")]
    Form(String),
    /// No such name.
    #[error(
        "{0:?} is no name of ours: kind, symbol, ts_event, flags, bid, ask, bid_qty, ask_qty, price, qty, side, \
         trade_id, halted, after_market, or a measurement: quotes, trades, cancels"
    )]
    Unknown(String),
    /// Two names for one, or one for two.
    #[error("{0:?} is named twice")]
    Twice(String),
}

impl std::str::FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Mapping, MappingError> {
        let mut mapping = Mapping::default();
        for pair in text.split(',') {
            let (ours, yours) =
                pair.split_once('=').ok_or_else(|| MappingError::Form(pair.to_owned()))?;
            let twice = |name: &str| Err(MappingError::Twice(name.to_owned()));
            if let Some(field) = Field::of(ours) {
                if mapping.fields.iter().any(|(other, _)| *other == field) {
                    return twice(ours);
                }
                if !yours.is_empty() && mapping.fields.iter().any(|(_, name)| name == yours) {
                    return twice(yours);
                }
                mapping.fields.push((field, yours.to_owned()));
            } else if let Some(kind) = RecordKind::of(ours) {
                if mapping.measurements.iter().any(|(other, _)| *other == kind) {
                    return twice(ours);
                }
                mapping.measurements.push((kind, yours.to_owned()));
            } else {
                return Err(MappingError::Unknown(ours.to_owned()));
            }
        }
        Ok(mapping)
    }
}

impl Mapping {
    /// The field that a name means.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        if self.fields.is_empty() {
            return Field::of(name);
        }
        match self.fields.iter().find(|(_, yours)| yours == name) {
            Some((field, _)) => Some(*field),
            None => {
                Field::of(name).filter(|field| self.fields.iter().all(|(other, _)| other != field))
            }
        }
    }

    /// The kind that a measurement or a word means.
    pub(super) fn kind(&self, name: &str) -> Option<RecordKind> {
        match self.measurements.iter().find(|(_, yours)| yours == name) {
            Some((kind, _)) => Some(*kind),
            None => RecordKind::of(name)
                .filter(|kind| self.measurements.iter().all(|(other, _)| other != kind)),
        }
    }

    /// How the person who wrote the lines calls a field.
    pub(super) fn name_of(&self, field: Field) -> String {
        let yours = self.fields.iter().find(|(other, _)| *other == field);
        yours
            .map(|(_, yours)| yours)
            .filter(|name| !name.is_empty())
            .cloned()
            .unwrap_or_else(|| field.name().to_owned())
    }
}
