//! Reads Databento Binary Encoding, versions 1 to 3, all schemas with trades or a top of book. The format is
//! described at <https://databento.com/docs/standards-and-conventions/databento-binary-encoding>.
//!
//! The crate `dbn` decodes; this file drives its state machine itself, because the crate's reader
//! takes an input that ends inside a record for one that ended before it.

mod names;
mod row;

use std::io::Read;

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    Metadata, RecordHeader, RecordRef, Schema, StatusAction, StatusMsg, UNDEF_TIMESTAMP,
    VersionUpgradePolicy, rtype,
};
use names::Names;
use row::{Row, Top};

use super::{Reading, Tape, TapeBody, TapeError, TapeEvent, Venue, read_error};
use crate::limits::TAPE_METADATA_BYTES_MAX;
use crate::market::price::Price;
use crate::planted::{Bug, is_planted};
use crate::wire::{Flags, InstrumentIndex, PRICE_UNDEFINED, Symbol};

/// Records start at multiples of this; a length that is none would put the next one astray.
const RECORD_ALIGN: usize = 8;

/// The first bytes of a file, which may be joined to another one. No record begins so: there is no type 0x42.
pub(super) const FILE_MAGIC: &[u8] = b"DBN";

/// The magic, the version and the length of the metadata.
const PRELUDE_BYTES: usize = 8;

/// Reads uncompressed DBN. Several files that are joined to one are read one behind the other.
///
/// # Errors
/// When the bytes are no DBN, have another schema, are damaged, or end inside a record.
pub fn read(mut reader: impl Read, reading: &Reading) -> Result<Tape, TapeError> {
    let mut tape = Tape::selecting(reading);
    let mut machine = new_machine()?;
    let mut rows: Option<Rows> = None;
    let mut is_cut = false;
    loop {
        if rows.is_some() && begins_file(machine.data()) {
            let rest = machine.data().to_vec();
            check_metadata_length(&rest)?;
            machine = new_machine()?;
            machine.write_all(&rest);
            rows = None;
            tape.joined += 1;
        }
        match machine.process() {
            ProcessResult::ReadMore(_) => {
                let space = machine.space();
                match reader.read(space).map_err(|source| read_error(tape.records, source)) {
                    Ok(0) => break,
                    Ok(count) => machine.fill(count),
                    Err(TapeError::Truncated { .. }) if reading.allow_torn => {
                        is_cut = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            ProcessResult::Metadata(metadata) => rows = Some(Rows::new(&metadata)?),
            ProcessResult::Record(()) => {
                if let (Some(rows), Some(record)) = (&mut rows, machine.last_record()) {
                    tape.records += 1;
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
    if is_cut || rows.is_none() || !machine.data().is_empty() {
        let has_begun = rows.is_some() || tape.joined > 0;
        let record = if has_begun { tape.records.saturating_add(1) } else { 0 };
        if !reading.allow_torn || !has_begun {
            return Err(TapeError::Truncated { record });
        }
        tape.torn = Some(record);
    }
    Ok(tape)
}

/// Whether another file begins here, as far as its length.
fn begins_file(data: &[u8]) -> bool {
    data.len() >= PRELUDE_BYTES && data.starts_with(FILE_MAGIC)
}

/// Refuses a header that would fill the memory.
pub(super) fn check_metadata_length(head: &[u8]) -> Result<(), TapeError> {
    if let Some(&[a, b, c, d]) = head.get(4..PRELUDE_BYTES)
        && u32::from_le_bytes([a, b, c, d]) > TAPE_METADATA_BYTES_MAX
    {
        return Err(TapeError::Metadata("its length is beyond any real file".to_owned()));
    }
    Ok(())
}

fn new_machine() -> Result<DbnFsm, TapeError> {
    let machine = DbnFsm::builder().upgrade_policy(VersionUpgradePolicy::AsIs).build();
    machine.map_err(|error| TapeError::Metadata(error.to_string()))
}

/// What is remembered of an instrument from one record to the next.
#[derive(Clone, Copy)]
struct Seen {
    top: Top,
    /// Its last event since the exchange last said that an event of this instrument was over.
    unfinished: Option<usize>,
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
            None
            | Some(
                Schema::Mbp1
                | Schema::Mbp10
                | Schema::Tbbo
                | Schema::Trades
                | Schema::Bbo1S
                | Schema::Bbo1M
                | Schema::Cmbp1
                | Schema::Cbbo1S
                | Schema::Cbbo1M
                | Schema::Tcbbo
                | Schema::Status,
            ) => {}
            Some(other) => return Err(TapeError::Schema(other.to_string(), why_not(other))),
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
            rtype::SYMBOL_MAPPING => {
                return self.names.take(record).map_err(|error| bad(error.to_string()));
            }
            rtype::INSTRUMENT_DEF if self.schema.is_none() => {
                return self.names.define(record).map_err(|error| bad(error.to_string()));
            }
            rtype::STATUS => return self.halt(record, tape),
            other => match Row::of(record).map_err(|error| bad(error.to_string()))? {
                Some(row) => row,
                // A live capture has no schema and mixes in messages of the system.
                None if self.schema.is_none() => {
                    let what = dbn::RType::try_from(other);
                    let what =
                        what.map_or(format!("type {other:#04x}"), |what| format!("{what:?}"));
                    *tape.skipped.entry(what).or_default() += 1;
                    return Ok(());
                }
                None => {
                    return Err(bad(format!("record type {other:#04x} is not of its schema")));
                }
            },
        };
        let (ts_event, ts_recv) =
            times(row.ts_event, row.ts_recv).ok_or_else(|| bad("it has no time".to_owned()))?;
        let named_at = if is_planted(Bug::NameByEventTime) { ts_event } else { ts_recv };
        let instrument = self.instrument((row.publisher, row.instrument_id), named_at, tape)?;
        let index = instrument.place();
        if index >= self.seen.len() {
            self.seen.resize(index + 1, Seen { top: Top::EMPTY, unfinished: None });
        }
        let seen = &mut self.seen[index];
        let (sequence, stream) = (u64::from(row.sequence), header.rtype);
        let event = |body| TapeEvent::new(ts_event, instrument, body);
        let at = |body| TapeEvent { ts_recv, sequence, stream, ..event(body) };

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
            at(TapeBody::Quote {
                bid,
                ask,
                bid_qty: top.bid_qty.into(),
                ask_qty: top.ask_qty.into(),
            })
        });
        // tbbo and tcbbo show the book before the trade, the others the book after it.
        let is_before = self.schema == Some(Schema::Tbbo) || header.rtype == rtype::TCBBO;
        let in_order = if is_before { [quote, trade] } else { [trade, quote] };
        for event in in_order.into_iter().flatten() {
            seen.unfinished = tape.push(event)?;
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

impl Rows {
    /// A record about the trading of an instrument: whether it says that trading is halted, or goes on.
    fn halt(&self, record: &RecordRef<'_>, tape: &mut Tape) -> Result<(), TapeError> {
        let number = tape.records;
        let bad = |what: String| TapeError::Record { record: number, what };
        let status = record.try_get::<StatusMsg>().map_err(|error| bad(error.to_string()))?;
        let is_halted = match StatusAction::try_from(status.action) {
            Ok(StatusAction::Halt | StatusAction::Pause | StatusAction::Suspend) => true,
            Ok(
                StatusAction::Trading
                | StatusAction::Cross
                | StatusAction::Close
                | StatusAction::PostClose,
            ) => false,
            // Quotes may be taken again, or an auction is prepared: trading is as it was.
            _ => return Ok(()),
        };
        let (ts_event, ts_recv) = times(status.hd.ts_event, status.ts_recv)
            .ok_or_else(|| bad("it has no time".to_owned()))?;
        let RecordHeader { publisher_id, instrument_id, .. } = status.hd;
        let instrument = self.instrument((publisher_id, instrument_id), ts_recv, tape)?;
        let event = TapeEvent::new(ts_event, instrument, TapeBody::Halt { is_halted });
        tape.push(TapeEvent { ts_recv, stream: rtype::STATUS, ..event })?;
        Ok(())
    }

    /// The instrument with this id at this publisher. An id without a name is its own name.
    fn instrument(
        &self,
        (publisher, id): (u16, u32),
        ts_recv: u64,
        tape: &mut Tape,
    ) -> Result<InstrumentIndex, TapeError> {
        let venue = match is_planted(Bug::PublisherForgotten) {
            false => Venue::Publisher(publisher),
            true => Venue::Unnamed,
        };
        let Some(name) = self.names.get(id, ts_recv) else {
            let id: Symbol = id.to_string().parse().expect("ten digits at most");
            return tape.instrument(venue, id);
        };
        if let Some(replaced) = &name.replaced
            && !tape.substitutes.contains_key(&name.symbol)
        {
            tape.substitutes.insert(name.symbol, replaced.clone());
        }
        let (symbol, decimals) = (name.symbol, self.names.decimals(id));
        let instrument = tape.instrument(venue, symbol)?;
        tape.instruments.raise_decimals(instrument, decimals);
        if let Some(full) = name.full {
            tape.name(instrument, full)?;
        }
        Ok(instrument)
    }
}

/// Time of the event and of the receipt; where one is not known it is the other.
fn times(event: u64, received: u64) -> Option<(u64, u64)> {
    match (event, received) {
        (UNDEF_TIMESTAMP, UNDEF_TIMESTAMP) => None,
        (UNDEF_TIMESTAMP, received) => Some((received, received)),
        (event, UNDEF_TIMESTAMP) => Some((event, event)),
        both => Some(both),
    }
}

/// Why a schema is not read.
fn why_not(schema: Schema) -> &'static str {
    match schema {
        Schema::Mbo => "it has single orders, and no top of the book",
        Schema::Ohlcv1S
        | Schema::Ohlcv1M
        | Schema::Ohlcv1H
        | Schema::Ohlcv1D
        | Schema::OhlcvEod => "its bars are made already",
        Schema::Definition => "it describes instruments; in a live capture it is read",
        _ => "it has neither trades nor quotes",
    }
}

#[cfg(test)]
mod tests;
