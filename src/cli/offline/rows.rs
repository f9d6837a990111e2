//! Data frames as rows of named columns: the same names and values as the JSON of `subscribe`.

use clap::ValueEnum;

use crate::cli::render::{breaker_reason_word, breaker_state_word, flag_words, price, side_word};
use crate::wire::{BreakerChange, Cancel, Definition, Frame, Kind, Quote, Trade, unpadded};

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Rows {
    /// Best bid and ask after a change.
    Quote,
    /// A trade.
    Trade,
    /// A withdrawn trade.
    Cancel,
    /// A change of a circuit breaker.
    Breaker,
    /// An instrument's name.
    Definition,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An unsigned number of 64 bits.
    U64,
    /// An unsigned number of 32 bits.
    U32,
    /// Nanoseconds since the Unix epoch, UTC.
    Time,
    /// Units of 1e-9, or nothing.
    Price,
    /// Text, or nothing.
    Text,
}

/// A column.
pub type Column = (&'static str, Type);

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// See [`Type::U64`], [`Type::U32`] and [`Type::Time`].
    Number(u64),
    /// See [`Type::Price`].
    Price(i64),
    /// See [`Type::Text`].
    Text(Option<String>),
}

/// The columns that all kinds begin with, behind kind and symbol.
const SHARED: [Column; 5] = [
    ("seq", Type::U64),
    ("instrument_seq", Type::U32),
    ("ts_event", Type::Time),
    ("ts_recv", Type::Time),
    ("flags", Type::Text),
];
const QUOTE: [Column; 4] =
    [("bid", Type::Price), ("ask", Type::Price), ("bid_qty", Type::U32), ("ask_qty", Type::U32)];
const TRADE: [Column; 4] =
    [("price", Type::Price), ("qty", Type::U64), ("side", Type::Text), ("trade_id", Type::U64)];
const BREAKER: [Column; 5] = [
    ("name", Type::Text),
    ("from", Type::Text),
    ("to", Type::Text),
    ("reason", Type::Text),
    ("generation", Type::U32),
];
const DEFINITION: [Column; 1] = [("decimals", Type::U32)];

impl Rows {
    /// What rows a frame belongs to; `None` for what no log has rows of.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Rows> {
        Some(match frame.kind()? {
            Kind::Quote => Rows::Quote,
            Kind::Trade => Rows::Trade,
            Kind::Cancel => Rows::Cancel,
            Kind::BreakerChange => Rows::Breaker,
            Kind::Definition => Rows::Definition,
            _ => return None,
        })
    }

    /// The kind's name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rows::Quote => "quote",
            Rows::Trade => "trade",
            Rows::Cancel => "cancel",
            Rows::Breaker => "breaker",
            Rows::Definition => "definition",
        }
    }

    /// The columns behind kind and symbol.
    #[must_use]
    pub fn columns(self) -> Vec<Column> {
        let own: &[Column] = match self {
            Rows::Quote => &QUOTE,
            Rows::Trade | Rows::Cancel => &TRADE,
            Rows::Breaker => &BREAKER,
            Rows::Definition => &DEFINITION,
        };
        SHARED.iter().chain(own).copied().collect()
    }

    /// The columns of all kinds, each once.
    #[must_use]
    pub fn all_columns() -> Vec<Column> {
        let own = QUOTE.iter().chain(&TRADE).chain(&BREAKER).chain(&DEFINITION);
        SHARED.iter().chain(own).copied().collect()
    }
}

/// The values of a frame in the order of its kind's columns; none for a frame that is no row.
pub fn values(frame: &Frame, values: &mut Vec<Value>) {
    values.clear();
    let text = |text: &str| Value::Text(Some(text.to_owned()));
    let flags = flag_words(frame.flags.get());
    values.extend([
        Value::Number(frame.seq.get()),
        Value::Number(frame.instrument_seq.get().into()),
        Value::Number(frame.ts_event.get()),
        Value::Number(frame.ts_recv.get()),
        text(&flags.join(" ")),
    ]);
    let mut trade = |price: i64, qty: u64, trade_id: u64| {
        let side = side_word(frame.flags.get()).map(str::to_owned);
        values.extend([
            Value::Price(price),
            Value::Number(qty),
            Value::Text(side),
            Value::Number(trade_id),
        ]);
    };
    if let Some(frame) = frame.view::<Trade>() {
        trade(frame.price.get(), frame.qty.get(), frame.trade_id.get());
    } else if let Some(frame) = frame.view::<Cancel>() {
        trade(frame.price.get(), frame.qty.get(), frame.trade_id.get());
    } else if let Some(quote) = frame.view::<Quote>() {
        values.extend([
            Value::Price(quote.bid.get()),
            Value::Price(quote.ask.get()),
            Value::Number(quote.bid_qty.get().into()),
            Value::Number(quote.ask_qty.get().into()),
        ]);
    } else if let Some(change) = frame.view::<BreakerChange>() {
        values.extend([
            text(&unpadded(&change.name)),
            text(&breaker_state_word(change.from)),
            text(&breaker_state_word(change.to)),
            text(&breaker_reason_word(change.reason)),
            Value::Number(change.generation.get().into()),
        ]);
    } else if let Some(definition) = frame.view::<Definition>() {
        values.push(Value::Number(definition.decimals().into()));
    } else {
        values.clear();
    }
}

impl Value {
    /// The value as it stands in CSV: as in JSON, and nothing for null.
    #[must_use]
    pub fn to_text(&self, decimals: u8) -> String {
        match self {
            Value::Number(number) => number.to_string(),
            Value::Price(units) => price(*units, decimals).unwrap_or_default(),
            Value::Text(text) => text.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::frame_json;
    use crate::client::Symbols;
    use crate::wire::{Flags, I64, PRICE_UNDEFINED, U16, U32, U64, padded};

    #[test]
    fn every_row_has_the_names_and_values_of_the_json() {
        let frames = [
            Frame::seal(Quote {
                flags: U16::new(Flags::LAST | Flags::GAP_BEFORE),
                seq: U64::new(7),
                instrument_seq: U32::new(3),
                ts_event: U64::new(5),
                bid: I64::new(32_010_000_000),
                ask: I64::new(PRICE_UNDEFINED),
                bid_qty: U32::new(1),
                ..Quote::default()
            }),
            Frame::seal(Trade {
                flags: U16::new(Flags::SELL),
                price: I64::new(-1),
                qty: U64::new(u64::MAX),
                trade_id: U64::new(9),
                ..Trade::default()
            }),
            Frame::seal(Cancel { qty: U64::new(2), ..Cancel::default() }),
            Frame::seal(BreakerChange {
                to: 1,
                generation: U16::new(4),
                name: padded("core.exchange"),
                ..BreakerChange::default()
            }),
            Frame::seal(Definition::new(1, "PETR4".parse().unwrap(), 2)),
        ];
        let mut row = Vec::new();
        for frame in frames {
            let rows = Rows::of(&frame).unwrap();
            values(&frame, &mut row);
            let json = frame_json(&frame, None, &Symbols::default()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let columns = rows.columns();
            assert_eq!(columns.len(), row.len());
            // Kind and symbol are the two that stand in the path.
            assert_eq!(json.as_object().unwrap().len(), columns.len() + 2, "{json}");
            assert_eq!(json["kind"], rows.name());
            for ((name, _), value) in columns.iter().zip(&row) {
                let text = match &json[*name] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(words) => {
                        let words: Vec<&str> = words.iter().map(|w| w.as_str().unwrap()).collect();
                        words.join(" ")
                    }
                    number => number.to_string(),
                };
                let decimals = Symbols::default().decimals(0);
                assert_eq!(value.to_text(decimals), text, "{name} of {json}");
            }
        }
    }
}
