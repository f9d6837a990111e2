//! The named values of a line become a quote, a trade or a cancel.

use std::borrow::Cow;

use super::field::{FIELDS, FULL_NAME, FURTHER_KINDS, Field, Mapping, is_known};
use super::record::{Record, RecordBody, RecordKind};
use super::{LineOptions, number, time};
use crate::market::price::Price;
use crate::market::quantity::Quantity;
use crate::wire::{DATA_KINDS, Flags, FullName, Symbol};

/// What is wrong with a line whose number somebody else knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) column: Option<String>,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn of_line(what: impl Into<String>) -> Problem {
        Problem { column: None, what: what.into() }
    }

    pub(super) fn of(column: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { column: Some(column.into()), what: what.into() }
    }
}

/// The named values of one line, as they are found.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    values: [Option<Cow<'a, str>>; FIELDS.len()],
    /// Fields that the line or its header names, also where they have no value.
    named: u32,
    unread: Vec<Cow<'a, str>>,
    full_name: Option<Cow<'a, str>>,
    /// The table that the line belongs to, where a format has one.
    measurement: Option<Cow<'a, str>>,
}

impl<'a> Draft<'a> {
    /// The field is there, and has no value if it is empty.
    pub(super) fn set(
        &mut self,
        field: Field,
        name: &str,
        value: Cow<'a, str>,
    ) -> Result<(), Problem> {
        if self.names(field) {
            return Err(Problem::of(
                name,
                format!("{} is there twice; leave one of them out", field.name()),
            ));
        }
        self.named |= 1 << field.place();
        if let Some(place) = self.values.get_mut(field.place()).filter(|_| !value.is_empty()) {
            *place = Some(value);
        }
        Ok(())
    }

    /// The field has this value under any name; without a field the name is not read.
    pub(super) fn set_named(
        &mut self,
        mapping: &Mapping,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
    ) -> Result<(), Problem> {
        match mapping.field(&name) {
            Some(field) => self.set(field, &name, value),
            None => {
                if name == FULL_NAME {
                    self.full_name = Some(value);
                } else if !is_known(&name) {
                    self.unread.push(name);
                }
                Ok(())
            }
        }
    }

    pub(super) fn set_measurement(&mut self, name: Cow<'a, str>) {
        self.measurement = Some(name);
    }

    /// Names that mean nothing.
    pub(super) fn unread(&self) -> impl Iterator<Item = &str> {
        self.unread.iter().map(AsRef::as_ref)
    }

    fn names(&self, field: Field) -> bool {
        self.named & (1 << field.place()) != 0
    }

    fn value(&self, field: Field) -> Option<&str> {
        self.values.get(field.place()).and_then(Option::as_deref)
    }

    /// The name that the symbol of the line only stands for.
    pub(super) fn longer_name(&self, symbol: &Symbol, options: &LineOptions) -> Option<FullName> {
        let name = match self.value(Field::Symbol) {
            Some(text) if text.len() > Symbol::BYTES_MAX => text.parse().ok(),
            Some(_) => self.full_name.as_ref()?.parse().ok(),
            None => options.symbol,
        };
        name.filter(|name: &FullName| name.as_str() != symbol.as_str() && name.symbol() == *symbol)
    }

    /// The kind of a line that tells no event of a market.
    pub(super) fn passed_over(&self, mapping: &Mapping) -> Option<&str> {
        if let Some(table) = &self.measurement {
            return mapping.kind(table).is_none().then_some(table);
        }
        let kind = self.value(Field::Kind).filter(|kind| mapping.kind(kind).is_none())?;
        let is_other =
            FURTHER_KINDS.contains(&kind) || DATA_KINDS.iter().any(|row| row.name == kind);
        is_other.then_some(kind)
    }

    /// The record that the values make.
    pub(super) fn record(&self, options: &LineOptions) -> Result<Record, Problem> {
        let values = Values { draft: self, options };
        let kind = values.kind()?;
        let symbol = values.symbol()?;
        let ts_event = match (self.value(Field::Time), options.time_ns) {
            (Some(text), _) => time::parse(text, options.time_unit)
                .map_err(|what| values.problem(Field::Time, what))?,
            (None, Some(now)) => now,
            (None, None) => return Err(values.missing(Field::Time)),
        };
        let (flags, is_snapshot) = values.flags(kind)?;
        let body = match kind {
            RecordKind::Quote => RecordBody::Quote {
                bid: values.price(Field::Bid)?.unwrap_or(Price::UNDEFINED),
                ask: values.price(Field::Ask)?.unwrap_or(Price::UNDEFINED),
                bid_qty: values.quantity(Field::BidQty)?.unwrap_or(Quantity::new(0, 0)),
                ask_qty: values.quantity(Field::AskQty)?.unwrap_or(Quantity::new(0, 0)),
            },
            RecordKind::Trade | RecordKind::Cancel => {
                let price =
                    values.price(Field::Price)?.ok_or_else(|| values.missing(Field::Price))?;
                let qty = values.quantity(Field::Qty)?.ok_or_else(|| values.missing(Field::Qty))?;
                let trade_id = values.trade_id()?;
                match kind {
                    RecordKind::Trade => {
                        RecordBody::Trade { price, qty, trade_id: trade_id.unwrap_or(0) }
                    }
                    _ => {
                        let trade_id = trade_id.ok_or_else(|| values.missing(Field::TradeId))?;
                        RecordBody::Cancel { price, qty, trade_id }
                    }
                }
            }
        };
        Ok(Record { symbol, ts_event, flags, is_snapshot, body })
    }
}

/// The values of a draft, read.
struct Values<'a> {
    draft: &'a Draft<'a>,
    options: &'a LineOptions,
}

impl Values<'_> {
    fn problem(&self, field: Field, what: impl Into<String>) -> Problem {
        Problem::of(self.options.mapping.name_of(field), what)
    }

    fn missing(&self, field: Field) -> Problem {
        let what = match field {
            Field::Time => "there is no time of the event",
            Field::Symbol => "there is no symbol",
            Field::Price => "there is no price",
            Field::Qty => "there is no quantity",
            _ => "there is no number of the trade that is cancelled",
        };
        self.problem(field, format!("{what}; write it, or map the name that it has"))
    }

    fn kind(&self) -> Result<RecordKind, Problem> {
        let mapping = &self.options.mapping;
        if let Some(kind) = self.draft.measurement.as_deref().and_then(|name| mapping.kind(name)) {
            return Ok(kind);
        }
        if let Some(text) = self.draft.value(Field::Kind) {
            return mapping.kind(text).ok_or_else(|| {
                self.problem(Field::Kind, format!("{text:?} is neither quote, trade nor cancel"))
            });
        }
        if let Some(kind) = self.options.kind {
            return Ok(kind);
        }
        let is_quote = self.draft.names(Field::Bid) || self.draft.names(Field::Ask);
        match (is_quote, self.draft.names(Field::Price)) {
            (true, false) => Ok(RecordKind::Quote),
            (false, true) => Ok(RecordKind::Trade),
            (true, true) => Err(self.problem(
                Field::Kind,
                "there are a price and a bid or an ask; say in `kind` which line is a quote, trade or cancel",
            )),
            (false, false) => Err(Problem::of_line(
                "neither a price nor a bid nor an ask; write one of them, or map the names that they have",
            )),
        }
    }

    fn symbol(&self) -> Result<Symbol, Problem> {
        let Some(text) = self.draft.value(Field::Symbol) else {
            let name = self.options.symbol.ok_or_else(|| self.missing(Field::Symbol))?;
            return Ok(name.symbol());
        };
        match Symbol::meant_by(text) {
            Ok(symbol) if symbol.is_reserved() => Err(self.problem(
                Field::Symbol,
                format!("{text:?}: names that begin with $ are the system's own; choose another"),
            )),
            Ok(symbol) => Ok(symbol),
            Err(error) => Err(self.problem(Field::Symbol, format!("{text:?}: {error}"))),
        }
    }

    fn price(&self, field: Field) -> Result<Option<Price>, Problem> {
        let text = self.draft.value(field);
        text.map(number::price).transpose().map_err(|what| self.problem(field, what))
    }

    fn quantity(&self, field: Field) -> Result<Option<Quantity>, Problem> {
        let text = self.draft.value(field);
        text.map(number::quantity).transpose().map_err(|what| self.problem(field, what))
    }

    fn trade_id(&self) -> Result<Option<u64>, Problem> {
        let Some(text) = self.draft.value(Field::TradeId) else { return Ok(None) };
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_digits => Ok(Some(number)),
            _ => Err(self.problem(
                Field::TradeId,
                format!("{text:?} is no whole number of 64 bits; map it away with trade_id= if it is a text"),
            )),
        }
    }

    fn truth(&self, field: Field, flag: u16) -> Result<u16, Problem> {
        match self.draft.value(field) {
            None => Ok(0),
            Some("t" | "T" | "true" | "True" | "TRUE" | "1") => Ok(flag),
            Some("f" | "F" | "false" | "False" | "FALSE" | "0") => Ok(0),
            Some(text) => Err(self.problem(field, format!("{text:?} is neither true nor false"))),
        }
    }

    /// The flags, and whether the line is a last value ahead of the sequence.
    fn flags(&self, kind: RecordKind) -> Result<(u16, bool), Problem> {
        // Who says nothing of events tells one a line.
        let mut flags = if self.draft.names(Field::Flags) { 0 } else { Flags::LAST };
        let mut is_snapshot = false;
        for word in self.draft.value(Field::Flags).unwrap_or_default().split_ascii_whitespace() {
            flags |= match word {
                "last" => Flags::LAST,
                "buy" => Flags::BUY,
                "sell" => Flags::SELL,
                "after_market" => Flags::AFTER_MARKET,
                "halted" => Flags::HALTED,
                // What the system says of a delivery, and nobody from outside.
                "gap_before" | "venue" | "ended" | "stale" | "replay" => 0,
                "snapshot" => {
                    is_snapshot = true;
                    0
                }
                _ => {
                    let what = format!(
                        "{word:?} is no flag; there are last, buy, sell, after_market and halted"
                    );
                    return Err(self.problem(Field::Flags, what));
                }
            };
        }
        let told = flags & (Flags::BUY | Flags::SELL);
        let side = match self.draft.value(Field::Side) {
            None => 0,
            Some(text) if text.eq_ignore_ascii_case("buy") => Flags::BUY,
            Some(text) if text.eq_ignore_ascii_case("sell") => Flags::SELL,
            Some(text) => {
                return Err(self.problem(Field::Side, format!("{text:?} is neither buy nor sell")));
            }
        };
        if side != 0 && told != 0 && side != told {
            return Err(self
                .problem(Field::Side, "the side is not that of the flags; leave one of them out"));
        }
        flags |= side
            | self.truth(Field::Halted, Flags::HALTED)?
            | self.truth(Field::AfterMarket, Flags::AFTER_MARKET)?;
        let (is_quote, sides) = (kind == RecordKind::Quote, Flags::BUY | Flags::SELL);
        if is_quote && flags & sides != 0 {
            return Err(self.problem(Field::Side, "a quote has no side; leave it out"));
        }
        if !is_quote && flags & Flags::HALTED != 0 {
            return Err(self
                .problem(Field::Halted, "only a quote says that trading is halted; leave it out"));
        }
        Ok((flags, is_snapshot))
    }
}
