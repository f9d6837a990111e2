//! Reads Databento Binary Encoding, versions 1 to 3, schemas mbp-1, tbbo and trades. The format is
//! described at <https://databento.com/docs/standards-and-conventions/databento-binary-encoding>.
//!
//! The crate `dbn` decodes; this file drives its state machine itself, because the crate's reader
//! takes an input that ends inside a record for one that ended before it.

use std::collections::BTreeMap;
use std::io::Read;

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    FlagSet, Mbp1Msg, Metadata, RecordRef, SType, Schema, TradeMsg, UNDEF_TIMESTAMP,
    VersionUpgradePolicy, rtype,
};

use super::{Tape, TapeBody, TapeError, TapeEvent, read_error};
use crate::market::price::Price;
use crate::wire::{Flags, PRICE_UNDEFINED, Symbol};

/// Records start at multiples of this; a length that is none would put the next one astray.
const RECORD_ALIGN: usize = 8;

/// Nanoseconds of one day.
const DAY_NS: u64 = 86_400_000_000_000;

/// The Julian day number of 1 January 1970.
const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;

/// Reads uncompressed DBN.
///
/// # Errors
/// When the bytes are no DBN, have another schema, are damaged, or end inside a record.
pub fn read(mut reader: impl Read) -> Result<Tape, TapeError> {
    let mut machine = DbnFsm::builder()
        .upgrade_policy(VersionUpgradePolicy::AsIs)
        .build()
        .map_err(|error| TapeError::Metadata(error.to_string()))?;
    let mut tape = Tape::default();
    let mut rows: Option<Rows> = None;
    loop {
        match machine.process() {
            ProcessResult::ReadMore(_) => {
                let space = machine.space();
                let count =
                    reader.read(space).map_err(|source| read_error(tape.records, source))?;
                if count == 0 {
                    break;
                }
                machine.fill(count);
            }
            ProcessResult::Metadata(metadata) => rows = Some(Rows::new(&metadata)?),
            ProcessResult::Record(()) => {
                tape.records += 1;
                if let (Some(rows), Some(record)) = (&mut rows, machine.last_record()) {
                    rows.take(&record, &mut tape)?;
                }
            }
            ProcessResult::Err(error) if rows.is_none() => {
                return Err(TapeError::Metadata(error.to_string()));
            }
            ProcessResult::Err(error) => {
                let record = tape.records.saturating_add(1);
                return Err(TapeError::Record { record, what: error.to_string() });
            }
        }
    }
    if rows.is_none() {
        return Err(TapeError::Truncated { record: 0 });
    }
    if !machine.data().is_empty() {
        return Err(TapeError::Truncated { record: tape.records.saturating_add(1) });
    }
    Ok(tape)
}

/// The top of one instrument's book.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Top {
    bid: i64,
    ask: i64,
    bid_qty: u32,
    ask_qty: u32,
}

impl Top {
    /// What nobody has to be notified of.
    const EMPTY: Top = Top { bid: PRICE_UNDEFINED, ask: PRICE_UNDEFINED, bid_qty: 0, ask_qty: 0 };
}

/// What is remembered of an instrument from one record to the next.
#[derive(Clone, Copy)]
struct Seen {
    top: Top,
    /// Its last event since the exchange last said that an event of this instrument was over.
    unfinished: Option<usize>,
}

/// The parts of both record types that become events.
struct Row {
    instrument_id: u32,
    ts_event: u64,
    ts_recv: u64,
    action: u8,
    side: u8,
    price: i64,
    qty: u32,
    flags: FlagSet,
    top: Option<Top>,
}

/// Turns records into events.
struct Rows {
    schema: Option<Schema>,
    names: Names,
    /// By the tape's instrument index.
    seen: Vec<Seen>,
}

impl Rows {
    fn new(metadata: &Metadata) -> Result<Rows, TapeError> {
        match metadata.schema {
            None | Some(Schema::Mbp1 | Schema::Tbbo | Schema::Trades) => {}
            Some(other) => return Err(TapeError::Schema(other.to_string())),
        }
        Ok(Rows { schema: metadata.schema, names: Names::new(metadata), seen: Vec::new() })
    }

    fn take(&mut self, record: &RecordRef<'_>, tape: &mut Tape) -> Result<(), TapeError> {
        let number = tape.records;
        let bad = |what: String| TapeError::Record { record: number, what };
        let header = record.header();
        // The next record would be read from an address that its type does not allow.
        if !header.record_size().is_multiple_of(RECORD_ALIGN) {
            return Err(bad(format!("its length is {} bytes", header.record_size())));
        }
        let row = match header.rtype {
            rtype::MBP_1 => Row::of_book(record.try_get().map_err(|error| bad(error.to_string()))?),
            rtype::MBP_0 => {
                Row::of_trade(record.try_get().map_err(|error| bad(error.to_string()))?)
            }
            // A live capture has no schema and mixes in messages of the system.
            _ if self.schema.is_none() => return Ok(()),
            other => return Err(bad(format!("record type {other:#04x} is not of its schema"))),
        };
        let ts_event = match (row.ts_event, row.ts_recv) {
            (UNDEF_TIMESTAMP, UNDEF_TIMESTAMP) => return Err(bad("it has no time".to_owned())),
            (UNDEF_TIMESTAMP, received) => received,
            (event, _) => event,
        };
        let instrument = tape.instrument(self.names.symbol(row.instrument_id, ts_event))?;
        let index = instrument.place();
        if index >= self.seen.len() {
            self.seen.resize(index + 1, Seen { top: Top::EMPTY, unfinished: None });
        }
        let seen = &mut self.seen[index];
        let at = |body| TapeEvent { ts_event, instrument, flags: 0, body };

        let trade = match row.action {
            b'T' if row.price == PRICE_UNDEFINED => return Err(bad("a trade has no price".into())),
            b'T' => {
                let flags = match row.side {
                    b'B' => Flags::BUY,
                    b'A' => Flags::SELL,
                    _ => 0,
                };
                let (price, qty) = (Price(row.price), u64::from(row.qty));
                let body = TapeBody::Trade { price, qty, trade_id: 0 };
                Some(TapeEvent { flags, ..at(body) })
            }
            _ => None,
        };
        let quote = row.top.filter(|top| *top != seen.top).map(|top| {
            seen.top = top;
            let (bid, ask) = (Price(top.bid), Price(top.ask));
            at(TapeBody::Quote { bid, ask, bid_qty: top.bid_qty, ask_qty: top.ask_qty })
        });
        // tbbo shows the book before the trade, mbp-1 the book after it.
        let in_order =
            if self.schema == Some(Schema::Tbbo) { [quote, trade] } else { [trade, quote] };
        for event in in_order.into_iter().flatten() {
            seen.unfinished = Some(tape.events.len());
            tape.push(event)?;
        }
        // The record that ends an exchange event may itself change nothing that we publish.
        if row.flags.is_last()
            && let Some(last) = seen.unfinished.take()
            && let Some(event) = tape.events.get_mut(last)
        {
            event.flags |= Flags::LAST;
        }
        Ok(())
    }
}

impl Row {
    fn of_book(message: &Mbp1Msg) -> Row {
        let level = &message.levels[0];
        Row {
            instrument_id: message.hd.instrument_id,
            ts_event: message.hd.ts_event,
            ts_recv: message.ts_recv,
            action: message.action.to_le_bytes()[0],
            side: message.side.to_le_bytes()[0],
            price: message.price,
            qty: message.size,
            flags: message.flags,
            top: Some(Top {
                bid: level.bid_px,
                ask: level.ask_px,
                bid_qty: level.bid_sz,
                ask_qty: level.ask_sz,
            }),
        }
    }

    fn of_trade(message: &TradeMsg) -> Row {
        Row {
            instrument_id: message.hd.instrument_id,
            ts_event: message.hd.ts_event,
            ts_recv: message.ts_recv,
            action: message.action.to_le_bytes()[0],
            side: message.side.to_le_bytes()[0],
            price: message.price,
            qty: message.size,
            flags: message.flags,
            top: None,
        }
    }
}

/// The symbol of each instrument id by date, from the metadata.
struct Names {
    by_id: BTreeMap<u32, Vec<Name>>,
}

struct Name {
    from_ns: u64,
    until_ns: u64,
    symbol: Symbol,
}

impl Names {
    /// Mappings that do not name an instrument id, or name it with something that is no symbol,
    /// are left out: the id itself is then the name.
    fn new(metadata: &Metadata) -> Names {
        let id_is_key = metadata.stype_in == Some(SType::InstrumentId)
            && metadata.stype_out != SType::InstrumentId;
        let mut by_id: BTreeMap<u32, Vec<Name>> = BTreeMap::new();
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                let (id, symbol) = if id_is_key {
                    (&mapping.raw_symbol, &interval.symbol)
                } else {
                    (&interval.symbol, &mapping.raw_symbol)
                };
                let (Ok(id), Ok(symbol)) = (id.parse(), symbol.parse()) else { continue };
                let from_ns = day_start_ns(interval.start_date.to_julian_day());
                let until_ns = day_start_ns(interval.end_date.to_julian_day());
                by_id.entry(id).or_default().push(Name { from_ns, until_ns, symbol });
            }
        }
        Names { by_id }
    }

    fn symbol(&self, id: u32, ts_event: u64) -> Symbol {
        let names = self.by_id.get(&id).map_or(&[][..], Vec::as_slice);
        names
            .iter()
            .find(|name| (name.from_ns..name.until_ns).contains(&ts_event))
            .map(|name| name.symbol)
            .unwrap_or_else(|| id.to_string().parse().expect("at most ten digits are a symbol"))
    }
}

/// When a UTC day begins; days before the epoch begin at it.
fn day_start_ns(julian_day: i32) -> u64 {
    u64::try_from(i64::from(julian_day) - JULIAN_DAY_OF_EPOCH).unwrap_or(0).saturating_mul(DAY_NS)
}

#[cfg(test)]
mod tests;
