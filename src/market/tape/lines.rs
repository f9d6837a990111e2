//! Lines of text as a tape: CSV, JSON and InfluxDB's line protocol, by `market/lines/`. They have one clock, the time of the
//! event.
//!
//! # Decisions
//!
//! * A last line without its end is cut off, as far as anybody can know: half a number is a number. Only an object of JSON
//!   shows that it is whole.
//! * A last value ahead of the sequence (flag `snapshot`) is no event. A quote of that kind is told as what stands before the next
//!   line; a trade of that kind is left out, since it was told when it happened.
//! * Quantities have the decimals that they need. All of an instrument get those of the finest one, once all are read.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use super::merge::{Align, Placed, in_order};
use super::{Reading, Tape, TapeBody, TapeError, TapeEvent, Venue, read_error};
use crate::limits::{LINE_NAMES_MAX, TAPE_EVENTS_MAX};
use crate::market::lines::{LineEnd, LineFormat, Lines, Record, RecordBody, next_line};
use crate::market::quantity::Quantity;
use crate::wire::{InstrumentIndex, Symbol};

/// How trades that are no events are told.
const SNAPSHOT_TRADES: &str = "trades from before the first event (flag snapshot)";

/// Reads lines of this format.
///
/// # Errors
/// Names the line and the column that is wrong.
pub(super) fn read(
    format: LineFormat,
    reader: impl Read,
    reading: &Reading,
) -> Result<Tape, TapeError> {
    let mut reader = BufReader::new(reader);
    let mut lines = Lines::new(format, reading.lines.clone());
    let mut text = TextTape::new(reading);
    let mut line = Vec::new();
    loop {
        let end = match next_line(&mut reader, &mut line) {
            Ok(end) => end,
            Err(source) => match read_error(lines.line(), source) {
                TapeError::Truncated { .. } if reading.allow_torn => LineEnd::Torn,
                error => return Err(error),
            },
        };
        match end {
            LineEnd::Newline => {}
            LineEnd::Nothing => break,
            LineEnd::Torn => {
                let torn = lines.line().saturating_add(1);
                if format.ends_itself()
                    && let Ok(record) = lines.take(&line)
                {
                    text.take(record)?;
                } else if reading.allow_torn {
                    text.tape.torn = Some(torn);
                } else {
                    return Err(TapeError::Endless { line: torn });
                }
                break;
            }
        }
        let record = lines.take(&line)?;
        text.take(record)?;
    }
    if !lines.has_begun() {
        return Err(TapeError::Truncated { record: 0 });
    }
    text.finish(&lines)
}

/// Makes a tape of records.
struct TextTape {
    tape: Tape,
    /// Of each instrument the newest quote from before the first event.
    before: BTreeMap<InstrumentIndex, TapeEvent>,
    /// When the latest event was.
    now_ns: Option<u64>,
    finest: Vec<u8>,
}

impl TextTape {
    fn new(reading: &Reading) -> TextTape {
        let tape = Tape { is_text: true, ..Tape::selecting(reading) };
        TextTape { tape, before: BTreeMap::new(), now_ns: None, finest: Vec::new() }
    }

    fn take(&mut self, record: Option<Record>) -> Result<(), TapeError> {
        self.tape.records += 1;
        let Some(record) = record else { return Ok(()) };
        let instrument = self.tape.instrument(Venue::Unnamed, record.symbol)?;
        let (body, decimals) = in_units(&record);
        let body = body.ok_or(TapeError::Quantities(record.symbol, decimals))?;
        let place = instrument.place();
        if self.finest.len() <= place {
            self.finest.resize(place + 1, 0);
        }
        self.finest[place] = self.finest[place].max(decimals);
        let event = TapeEvent::new(record.ts_event, instrument, body);
        let event = TapeEvent { flags: record.flags, decimals, ..event };
        if !record.is_snapshot {
            for (_, quote) in std::mem::take(&mut self.before) {
                self.tape.push(TapeEvent { ts_recv: record.ts_event, ..quote })?;
            }
            self.now_ns = Some(record.ts_event);
            self.tape.push(event)?;
        } else if !matches!(body, TapeBody::Quote { .. }) {
            *self.tape.skipped.entry(SNAPSHOT_TRADES.to_owned()).or_default() += 1;
        } else if let Some(ts_recv) = self.now_ns {
            // A subscription that began again: what stands now.
            self.tape.push(TapeEvent { ts_recv, ..event })?;
        } else {
            self.before.insert(instrument, event);
        }
        Ok(())
    }

    fn finish(mut self, lines: &Lines) -> Result<Tape, TapeError> {
        // Nothing but last values: they are all there is.
        for (_, quote) in std::mem::take(&mut self.before) {
            self.tape.push(quote)?;
        }
        self.tape.open()?;
        for (what, count) in lines.skipped() {
            *self.tape.skipped.entry(format!("kind {what}")).or_default() += count;
        }
        self.tape.unread.extend(lines.unread().keys().cloned());
        for (symbol, name) in lines.full_names() {
            let index = self.tape.instrument(Venue::Unnamed, *symbol)?;
            self.tape.name(index, *name)?;
            self.tape.substitutes.insert(*symbol, name.to_string());
        }
        for (index, decimals) in InstrumentIndex::until(InstrumentIndex::LAST).zip(&self.finest) {
            self.tape.instruments.set_quantity_decimals(index, *decimals);
        }
        in_one_unit(&mut self.tape)?;
        Ok(self.tape)
    }
}

/// Gives the quantities of an instrument one unit in all tapes of text: the finest. Other tapes keep theirs.
///
/// # Errors
/// When quantities do not fit that unit.
pub fn agree_on_quantities(tapes: &mut [Tape]) -> Result<(), TapeError> {
    let mut finest: BTreeMap<(Venue, Symbol), u8> = BTreeMap::new();
    for row in tapes.iter().flat_map(|tape| tape.instruments.rows()) {
        let decimals = finest.entry((row.venue, row.symbol)).or_default();
        *decimals = row.quantity_decimals.max(*decimals);
    }
    for tape in tapes.iter_mut().filter(|tape| tape.is_text) {
        let rows: Vec<_> = tape.instruments.rows().to_vec();
        for event in &mut tape.events {
            event.decimals = rows[event.instrument.place()].quantity_decimals;
        }
        for (index, row) in InstrumentIndex::until(InstrumentIndex::LAST).zip(&rows) {
            tape.instruments.set_quantity_decimals(index, finest[&(row.venue, row.symbol)]);
        }
        in_one_unit(tape)?;
    }
    Ok(())
}

/// Makes one tape of several, as the files of one export: their events by time, and at the same time in the order of the
/// tapes. `skipped` are kinds of which nothing was read, and how many files of each.
///
/// # Errors
/// When they are too long together, or have too many instruments.
pub fn joined(mut tapes: Vec<Tape>, skipped: BTreeMap<String, u64>) -> Result<Tape, TapeError> {
    agree_on_quantities(&mut tapes)?;
    let mut joined = Tape { is_text: true, ..Tape::default() };
    let mut indexes = Vec::with_capacity(tapes.len());
    for tape in &mut tapes {
        let mut own = Vec::with_capacity(tape.instruments.rows().len());
        for row in tape.instruments.rows() {
            let index = joined.instruments.insert(row.venue, row.symbol, row.decimals)?;
            joined.instruments.set_quantity_decimals(index, row.quantity_decimals);
            if let Some(name) = row.full_name {
                joined.name(index, name)?;
            }
            own.push(index);
        }
        indexes.push(own);
        joined.records += tape.records;
        joined.times_apart += tape.times_apart;
        joined.opening += tape.opening;
        joined.selecting.left_out += tape.selecting.left_out;
        joined.torn = joined.torn.or(tape.torn);
        for (what, count) in std::mem::take(&mut tape.skipped) {
            *joined.skipped.entry(what).or_default() += count;
        }
        for name in std::mem::take(&mut tape.unread) {
            if !joined.unread.contains(&name) && joined.unread.len() < LINE_NAMES_MAX {
                joined.unread.push(name);
            }
        }
    }
    for (kind, files) in skipped {
        joined.skipped.insert(format!("files of kind {kind}"), files);
    }
    if tapes.iter().map(|tape| tape.events.len()).sum::<usize>() > TAPE_EVENTS_MAX {
        return Err(TapeError::TooManyEvents);
    }
    joined.events = in_order(&tapes, Align::Clock)
        .into_iter()
        .map(|Placed { tape, event, .. }| {
            let event = tapes[tape].events[event];
            TapeEvent { instrument: indexes[tape][event.instrument.place()], ..event }
        })
        .collect();
    Ok(joined)
}

/// Writes the quantities of all events in the units of their instruments.
fn in_one_unit(tape: &mut Tape) -> Result<(), TapeError> {
    let rows = tape.instruments.rows();
    for event in &mut tape.events {
        let row = rows[event.instrument.place()];
        let finer = row.quantity_decimals.saturating_sub(std::mem::take(&mut event.decimals));
        if finer == 0 {
            continue;
        }
        let factor = 10_u64.checked_pow(finer.into());
        let scaled = |units: &mut u64| {
            *units = units.checked_mul(factor?)?;
            Some(())
        };
        let fits = match &mut event.body {
            TapeBody::Quote { bid_qty, ask_qty, .. } => scaled(bid_qty).and(scaled(ask_qty)),
            TapeBody::Trade { qty, .. } | TapeBody::Cancel { qty, .. } => scaled(qty),
            TapeBody::Halt { .. } => Some(()),
        };
        fits.ok_or(TapeError::Quantities(row.symbol, row.quantity_decimals))?;
    }
    Ok(())
}

/// What a record says in units of as many decimals as it needs; none if that does not fit.
fn in_units(record: &Record) -> (Option<TapeBody>, u8) {
    let units = |quantity: Quantity| u64::try_from(quantity.units).ok();
    match record.body {
        RecordBody::Quote { bid, ask, bid_qty, ask_qty } => {
            let (bid_qty, ask_qty) = (bid_qty.reduced(), ask_qty.reduced());
            let decimals = bid_qty.decimals.max(ask_qty.decimals);
            let scaled = |quantity: Quantity| {
                let finer = decimals.saturating_sub(quantity.decimals);
                units(quantity)?.checked_mul(10_u64.checked_pow(finer.into())?)
            };
            let body = scaled(bid_qty)
                .zip(scaled(ask_qty))
                .map(|(bid_qty, ask_qty)| TapeBody::Quote { bid, ask, bid_qty, ask_qty });
            (body, decimals)
        }
        RecordBody::Trade { price, qty, trade_id } => {
            let qty = qty.reduced();
            (units(qty).map(|qty| TapeBody::Trade { price, qty, trade_id }), qty.decimals)
        }
        RecordBody::Cancel { price, qty, trade_id } => {
            let qty = qty.reduced();
            (units(qty).map(|qty| TapeBody::Cancel { price, qty, trade_id }), qty.decimals)
        }
    }
}

#[cfg(test)]
mod tests;
