//! A column of the table of kinds as a value: for JSON, CSV, Parquet and lines of text.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{breaker_reason_name, breaker_state_name, flag_names, price, side_name};
use crate::market::Quantity;
use crate::wire::{Column, Decimals, Flags, Frame, Holds, Piece, unpadded};

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number or a time.
    Number(u64),
    /// Units of 1e-9, or [`crate::wire::PRICE_UNDEFINED`].
    Price(i64),
    /// Units of the instrument.
    Quantity(u128),
    /// Text, or nothing.
    Text(Option<Cow<'static, str>>),
}

impl Value {
    /// What a frame has in this column.
    pub(crate) fn of(column: &Column, frame: &Frame) -> Value {
        let number = || column.number(frame);
        // One byte, as the table has it.
        let byte = || column.bytes(frame).first().copied().unwrap_or_default();
        match column.holds {
            Holds::U64
            | Holds::U32
            | Holds::U16
            | Holds::Time
            | Holds::Decimals
            | Holds::QuantityDecimals
            | Holds::UsualMs => Value::Number(number()),
            Holds::Quantity | Holds::Size => Value::Quantity(column.units(frame)),
            Holds::Price => Value::Price(number().cast_signed()),
            Holds::Text(_) => Value::Text(Some(unpadded(column.bytes(frame)).into())),
            Holds::Flags => Value::Text(Some(flag_names(frame.named_flags()).join(" ").into())),
            Holds::Side => Value::Text(side_name(frame.flags.get()).map(Cow::Borrowed)),
            Holds::Silence => Value::Text(Some(match frame.has(Flags::HEARD) {
                true => "heard again".into(),
                false => "silent".into(),
            })),
            Holds::BreakerState => Value::Text(Some(breaker_state_name(byte()).into())),
            Holds::BreakerReason => Value::Text(Some(breaker_reason_name(byte()).into())),
        }
    }

    /// The value as text; `None` for what JSON calls null.
    pub(crate) fn text(self, decimals: Decimals) -> Option<String> {
        match self {
            Value::Number(number) => Some(number.to_string()),
            Value::Price(units) => price(units, decimals.price),
            Value::Quantity(units) => Some(Quantity::new(units, decimals.quantity).to_string()),
            Value::Text(text) => text.map(Cow::into_owned),
        }
    }
}

/// The pieces of a line behind each other; `none` stands for a value that is not there.
pub(super) fn pieces_text(
    pieces: &[Piece],
    frame: &Frame,
    decimals: Decimals,
    none: &str,
) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(words) => text.push_str(words),
            Piece::Value(column) => {
                let value = Value::of(column, frame).text(decimals);
                text.push_str(value.as_deref().unwrap_or(none));
            }
        }
    }
    text
}

/// A quantity as a number of JSON with all its digits. Who reads numbers as floats finds the text beside it.
pub(super) struct Exact(pub(super) Quantity);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = RawValue::from_string(self.0.to_string());
        digits.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// The columns of a frame as the fields of an object: prices as decimal text, since a JSON number is a
/// float to most readers.
pub(super) struct Fields {
    pub(super) frame: Frame,
    pub(super) columns: &'static [Column],
    pub(super) decimals: Decimals,
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for column in self.columns {
            match Value::of(column, &self.frame) {
                Value::Number(number) => map.serialize_entry(column.name, &number)?,
                Value::Price(units) => {
                    map.serialize_entry(column.name, &price(units, self.decimals.price))?;
                }
                Value::Quantity(units) => {
                    let quantity = Quantity::new(units, self.decimals.quantity);
                    map.serialize_entry(column.name, &Exact(quantity))?;
                }
                Value::Text(text) => map.serialize_entry(column.name, &text)?,
            }
        }
        map.end()
    }
}
