//! Data frames as rows of named columns: the same names and values as the JSON of `subscribe`.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::render::ColumnValue;
use crate::wire::{Column, DATA_KINDS, DataKind, Frame, SHARED_COLUMNS};

/// A kind of rows: a kind of the table that has columns, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rows(usize);

/// Every kind of rows.
static ALL: LazyLock<Vec<Rows>> = LazyLock::new(|| {
    let places = DATA_KINDS.iter().enumerate();
    places.filter(|(_, row)| !row.columns.is_empty()).map(|(place, _)| Rows(place)).collect()
});

impl ValueEnum for Rows {
    fn value_variants<'a>() -> &'a [Rows] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let row = self.row();
        Some(PossibleValue::new(row.name).help(row.about))
    }
}

impl Rows {
    /// What rows a frame belongs to; `None` for what no log has rows of.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Rows> {
        let kind = DataKind::of(frame).filter(|row| !row.columns.is_empty())?.kind;
        DATA_KINDS.iter().position(|row| row.kind == kind).map(Rows)
    }

    fn row(self) -> &'static DataKind {
        &DATA_KINDS[self.0]
    }

    /// The kind's name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The columns behind kind and symbol.
    pub fn columns(self) -> impl Iterator<Item = &'static Column> + Clone {
        SHARED_COLUMNS.iter().chain(self.row().columns)
    }

    /// The columns of all kinds, each name once.
    #[must_use]
    pub fn all_columns() -> Vec<&'static Column> {
        let mut all: Vec<&'static Column> = SHARED_COLUMNS.iter().collect();
        for column in DATA_KINDS.iter().flat_map(|row| row.columns) {
            if all.iter().all(|other| other.name != column.name) {
                all.push(column);
            }
        }
        all
    }
}

/// The values of a frame in the order of its kind's columns; none for a frame that is no row.
pub(super) fn values(frame: &Frame, values: &mut Vec<ColumnValue>) {
    values.clear();
    if let Some(rows) = Rows::of(frame) {
        values.extend(rows.columns().map(|column| ColumnValue::of(column, frame)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Symbols;
    use crate::render::frame_json;
    use crate::wire::{
        BreakerChange, Cancel, Definition, Flags, I64, PRICE_UNDEFINED, Quote, Size, Trade, U16,
        U32, U64, padded,
    };

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
                bid_qty: Size::new(1),
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
            Frame::seal(Definition::new(U32::new(1).into(), "PETR4".parse().unwrap(), 2)),
        ];
        let mut row = Vec::new();
        for frame in frames {
            let rows = Rows::of(&frame).unwrap();
            values(&frame, &mut row);
            let json = frame_json(&frame, None, &Symbols::default()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let columns: Vec<&Column> = rows.columns().collect();
            assert_eq!(columns.len(), row.len());
            // Kind and symbol are the two that stand in the path. Texts beside numbers are for JSON only.
            let names = json.as_object().unwrap().keys().filter(|name| !name.ends_with("_text"));
            assert_eq!(names.count(), columns.len() + 2, "{json}");
            assert_eq!(json["kind"], rows.name());
            for (Column { name, .. }, value) in columns.into_iter().zip(row.drain(..)) {
                let text = match &json[*name] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(words) => {
                        let words: Vec<&str> = words.iter().map(|w| w.as_str().unwrap()).collect();
                        words.join(" ")
                    }
                    number => number.to_string(),
                };
                let decimals = Symbols::default().decimals(U32::new(0).into());
                assert_eq!(value.text(decimals).unwrap_or_default(), text, "{name} of {json}");
            }
        }
    }
}
