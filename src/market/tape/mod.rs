//! Tapes: recorded market data, read from bytes into events, and merged into a schedule that can be
//! replayed. Readers know formats, not files: the caller opens and closes.
//!
//! What a tape is comes from its first bytes, never from a name: zstd or gzip (then again what is inside),
//! DBN, the header line of B3's trades file, or lines of text.

pub mod b3;
#[cfg(test)]
mod cases;
mod container;
pub mod dbn;
mod event;
mod halts;
mod instruments;
pub mod journal;
mod lines;
mod merge;
mod schedule;
mod selection;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use container::{Bounded, Head, read_error};
use selection::Selecting;

use crate::limits::{INSTRUMENTS_MAX, TAPE_BYTES_MAX, TAPE_EVENTS_MAX, TAPE_SPAN_MAX};
use crate::market::instrument::TableFull;
use crate::market::lines::{LineError, LineFormat, LineOptions};
use crate::time::nanos;
use crate::wire::{FullName, InstrumentIndex, Symbol};

pub use container::unpacked;
pub use event::{TapeBody, TapeEvent};
pub use instruments::{TapeInstrument, TapeInstruments, Venue};
pub use lines::{agree_on_quantities, joined};
pub use merge::Align;
pub use schedule::{RECORDED, Schedule, ScheduleError};
pub use selection::TapeSelection;

/// Decimals that every instrument is shown with at least.
const DECIMALS_MIN: u8 = 2;

/// An event time that is farther from the recording clock is counted. Kept it is as it came.
const TIMES_APART_NS: u64 = 3_600_000_000_000;

/// Substitutes of names that are told one by one.
const SUBSTITUTES_TOLD: usize = 20;

/// What is wrong with a tape.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// No format of a tape.
    #[error(
        "not a tape: it begins with {0}; a tape is .dbn, .dbn.zst, B3's trades, or lines of CSV with a header, of JSON, or of \
         InfluxDB's line protocol"
    )]
    Unknown(String),
    /// Something that is known to be no tape.
    #[error("the tape is {0}")]
    Known(&'static str),
    /// The bytes could not be read or decompressed.
    #[error("cannot read the tape after {records} whole records: {source}")]
    Read {
        /// Records (or lines) that were whole.
        records: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// The tape ends inside a record; 0 is the metadata before the first.
    #[error(
        "the tape ends in the middle of record {record}; copy it again, or take what is whole with --allow-torn"
    )]
    Truncated {
        /// The first record that is not whole, counted from 1.
        record: u64,
    },
    /// A DBN file's header.
    #[error("bad DBN metadata: {0}")]
    Metadata(String),
    /// A DBN file of another kind of data.
    #[error(
        "DBN schema {0} is not replayed: {1}; use mbp-1, mbp-10, tbbo, trades, bbo-1s, bbo-1m, cmbp-1, cbbo-1s, \
         cbbo-1m, tcbbo or status"
    )]
    Schema(String, &'static str),
    /// A DBN record.
    #[error("bad DBN record {record}: {what}")]
    Record {
        /// Counted from 1.
        record: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A field of B3's file.
    #[error("line {line}, field {field}: {what}")]
    Field {
        /// Counted from 1, the header included.
        line: u64,
        /// The field's name in the newer header.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A line of B3's file as a whole.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A line of text.
    #[error(transparent)]
    Text(#[from] LineError),
    /// The last line of text has no end.
    #[error(
        "line {line} has no end: the tape is cut off there; copy it again, end the line if it is whole, or leave it out with \
         --allow-torn"
    )]
    Endless {
        /// Counted from 1.
        line: u64,
    },
    /// Quantities of one instrument that one unit cannot hold.
    #[error(
        "the quantities of {0} do not fit 64 bits in units of {1} decimals; write some with fewer digits, or split the tape"
    )]
    Quantities(Symbol, u8),
    /// Two names have the same symbol here.
    #[error("the names {0} and {1} have the same symbol here; rename one of them in the tape")]
    NamesAlike(Box<FullName>, Box<FullName>),
    /// The tape is longer than the bound.
    #[error("the tape has more than {TAPE_EVENTS_MAX} events; split it")]
    TooManyEvents,
    /// The tape is larger than the bound once decompressed.
    #[error("the tape has more than {TAPE_BYTES_MAX} bytes; split it")]
    TooManyBytes,
    /// The tape names more instruments than the bound.
    #[error("the tape has more than {INSTRUMENTS_MAX} instruments; split it")]
    TooManyInstruments,
    /// One event was implausibly recorded later than the first.
    #[error(
        "record {record} was recorded more than 400 days after the first one; split or repair the tape"
    )]
    TooLong {
        /// Counted from 1.
        record: u64,
    },
}

impl From<TableFull> for TapeError {
    fn from(_: TableFull) -> TapeError {
        TapeError::TooManyInstruments
    }
}

/// How a tape is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Take what is whole of a tape that ends in the middle of a record.
    pub allow_torn: bool,
    /// What of it is wanted.
    pub selection: TapeSelection,
    /// Of lines of text, what they do not say.
    pub lines: LineOptions,
}

/// A tape as it was read, in the order of its records.
#[derive(Debug, Default)]
pub struct Tape {
    /// Its instruments, with the decimals of their quotes.
    pub instruments: TapeInstruments,
    /// Its events.
    pub events: Vec<TapeEvent>,
    /// Records or lines that were read, also those that gave no event.
    pub records: u64,
    /// The record in whose middle it ends, and that was left out.
    torn: Option<u64>,
    /// Further files behind the first one.
    joined: u64,
    /// Events whose time is far from the recording clock's.
    times_apart: u64,
    /// Records that are neither quote nor trade, by what they are.
    skipped: BTreeMap<String, u64>,
    /// Names that are no symbol, and what stands for them.
    substitutes: BTreeMap<Symbol, String>,
    /// Names in lines of text that mean nothing.
    unread: Vec<String>,
    /// Its quantities are in units that the text gives, and others can be chosen.
    is_text: bool,
    selecting: Selecting,
    /// How many of the first events say what stood before the span that is wanted.
    opening: usize,
}

impl Tape {
    /// Reads a tape of whichever format its first bytes say.
    ///
    /// # Errors
    /// When the bytes are no tape, or a damaged or an oversized one.
    pub fn read(reader: impl BufRead, reading: &Reading) -> Result<Tape, TapeError> {
        let (head, reader) = container::unpacked(reader)?;
        let mut tape = read_plain(&head, reader, reading)?;
        // What has nothing in the span still says what stood before it.
        tape.open()?;
        Ok(tape)
    }

    /// What is to be said of it: what was left out, put in place of something, or looks wrong.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(record) = self.torn {
            remarks.push(format!("it ends in the middle of record {record}, which is left out"));
        }
        if self.joined > 0 {
            remarks.push(format!(
                "files joined to the first one: {}. What several of them tell counts each time",
                self.joined
            ));
        }
        for (symbol, name) in self.substitutes.iter().take(SUBSTITUTES_TOLD) {
            remarks.push(format!("the name {name:?} is no symbol here: {symbol} stands for it"));
        }
        let more = self.substitutes.len().saturating_sub(SUBSTITUTES_TOLD);
        if more > 0 {
            remarks.push(format!("the same of {more} more names"));
        }
        if self.selecting.left_out > 0 {
            remarks.push(format!(
                "events left out by --from, --to and --symbol: {}",
                self.selecting.left_out
            ));
        }
        for (what, count) in &self.skipped {
            remarks.push(format!("records left out, {what}: {count}"));
        }
        if !self.unread.is_empty() {
            remarks.push(format!(
                "names that mean nothing here, and are not read: {}",
                self.unread.join(", ")
            ));
        }
        if self.times_apart > 0 {
            remarks.push(format!(
                "events with a time more than an hour from the recording clock's: {}. It is kept, and the replay \
                 follows the recording clock",
                self.times_apart
            ));
        }
        remarks
    }

    /// An empty tape, for what is wanted of one.
    fn selecting(reading: &Reading) -> Tape {
        Tape { selecting: Selecting::new(reading.selection.clone()), ..Tape::default() }
    }

    /// Appends an event when it is wanted, within the bounds, and keeps the instrument's decimals. Its place.
    fn push(&mut self, event: TapeEvent) -> Result<Option<usize>, TapeError> {
        if !self.selecting.takes(&event, &self.instruments) {
            return Ok(None);
        }
        self.open()?;
        self.append(event).map(Some)
    }

    /// Begins with what stood before the span, if it has not begun.
    fn open(&mut self) -> Result<(), TapeError> {
        let Some(opening) = self.selecting.opening() else { return Ok(()) };
        for quote in opening {
            self.append(quote)?;
            self.opening += 1;
        }
        Ok(())
    }

    fn append(&mut self, event: TapeEvent) -> Result<usize, TapeError> {
        let start = self.events.first().map_or(event.ts_recv, |first| first.ts_recv);
        if event.ts_recv.saturating_sub(start) > nanos(TAPE_SPAN_MAX) {
            return Err(TapeError::TooLong { record: self.records });
        }
        if self.events.len() >= TAPE_EVENTS_MAX {
            return Err(TapeError::TooManyEvents);
        }
        self.times_apart += u64::from(event.ts_event.abs_diff(event.ts_recv) > TIMES_APART_NS);
        // The grid of the quotes: a trade between two ticks shows its further digits by itself.
        if let TapeBody::Quote { bid, ask, .. } = event.body {
            let decimals = bid.decimals_needed().max(ask.decimals_needed());
            self.instruments.raise_decimals(event.instrument, decimals);
        }
        self.events.push(event);
        Ok(self.events.len() - 1)
    }

    /// States the name that the symbol of an instrument stands for.
    fn name(&mut self, instrument: InstrumentIndex, name: FullName) -> Result<(), TapeError> {
        let named = self.instruments.set_full_name(instrument, name);
        named.map_err(|other| TapeError::NamesAlike(Box::new(other), Box::new(name)))
    }

    /// The index of a symbol of this tape.
    fn instrument(&mut self, venue: Venue, symbol: Symbol) -> Result<InstrumentIndex, TapeError> {
        Ok(self.instruments.insert(venue, symbol, DECIMALS_MIN)?)
    }
}

fn read_plain(head: &[u8], reader: impl Read, reading: &Reading) -> Result<Tape, TapeError> {
    let reader = Bounded { reader, left: TAPE_BYTES_MAX };
    if head.starts_with(dbn::FILE_MAGIC) {
        dbn::check_metadata_length(head)?;
        dbn::read(reader, reading)
    } else if b3::is_header(head) {
        b3::read(reader, reading)
    } else if let Some(format) =
        LineFormat::recognized(head).filter(|_| container::known(head).is_none())
    {
        lines::read(format, reader, reading)
    } else {
        let unknown = || TapeError::Unknown(Head(head).to_string());
        Err(container::known(head).map_or_else(unknown, TapeError::Known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::price::Price;

    #[test]
    fn a_time_far_beyond_the_rest_is_refused_and_a_wrong_event_time_is_not() {
        let mut tape = Tape::default();
        let instrument = tape.instrument(Venue::Unnamed, "PETR4".parse().unwrap()).unwrap();
        let body = TapeBody::Trade { price: Price(1), qty: 1, trade_id: 0 };
        let event = TapeEvent::new(5, instrument, body);
        tape.push(event).unwrap();
        tape.push(TapeEvent { ts_recv: 0, ..event }).unwrap();
        for ts_event in [0, 6 + nanos(TAPE_SPAN_MAX), u64::MAX - 1] {
            tape.push(TapeEvent { ts_event, ..event }).unwrap();
        }
        let remarks = tape.remarks();
        assert!(remarks.len() == 1 && remarks[0].contains("recording clock's: 2."), "{remarks:?}");
        let far = TapeEvent { ts_recv: 6 + nanos(TAPE_SPAN_MAX), ..event };
        assert!(matches!(tape.push(far), Err(TapeError::TooLong { .. })));
    }
}
