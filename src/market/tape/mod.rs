//! Tapes: recorded market data, read from bytes into events, and merged into a schedule that can be
//! replayed. Readers know formats, not files: the caller opens and closes.
//!
//! What a tape is comes from its first bytes, never from a name: zstd (then again what is inside),
//! DBN, or the header line of B3's trades file.

pub mod b3;
pub mod dbn;
mod schedule;

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use ::dbn::Compression;
use ::dbn::decode::DynReader;

use crate::limits::{
    INSTRUMENTS_MAX, TAPE_BYTES_MAX, TAPE_EVENTS_MAX, TAPE_METADATA_BYTES_MAX, TAPE_SPAN_MAX,
};
use crate::market::instrument::{Instruments, TableFull};
use crate::market::price::Price;
use crate::time::nanos;
use crate::wire::{InstrumentIndex, Symbol};

pub use schedule::{Schedule, ScheduleError};

/// Decimals that every instrument is shown with at least.
const DECIMALS_MIN: u8 = 2;

/// How much of a tape its format is recognized by.
const HEAD_BYTES: usize = 64;

/// The first bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// What is wrong with a tape.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// Neither format.
    #[error("not a DBN or B3 file: it begins with {0}; a tape is .dbn, .dbn.zst or B3's trades")]
    Unknown(String),
    /// The bytes could not be read or decompressed.
    #[error("cannot read the tape after {records} whole records: {source}")]
    Read {
        /// Records (or lines) that were whole.
        records: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// The tape ends inside a record; 0 is the metadata before the first.
    #[error("the tape ends in the middle of record {record}; copy it again")]
    Truncated {
        /// The first record that is not whole, counted from 1.
        record: u64,
    },
    /// A DBN file's header.
    #[error("bad DBN metadata: {0}")]
    Metadata(String),
    /// A DBN file of another kind of data.
    #[error("DBN schema {0} has no quotes or trades to replay; use mbp-1, tbbo or trades")]
    Schema(String),
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
    /// The tape is longer than the bound.
    #[error("the tape has more than {TAPE_EVENTS_MAX} events; split it")]
    TooManyEvents,
    /// The tape is larger than the bound once decompressed.
    #[error("the tape has more than {TAPE_BYTES_MAX} bytes; split it")]
    TooManyBytes,
    /// The tape names more instruments than the bound.
    #[error("the tape has more than {INSTRUMENTS_MAX} instruments; split it")]
    TooManyInstruments,
    /// One event is implausibly later than the first.
    #[error("record {record} is more than 400 days after the first one; split or repair the tape")]
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

/// What happened, in the units of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeBody {
    /// The best bid and ask changed.
    Quote {
        /// Best bid.
        bid: Price,
        /// Best ask.
        ask: Price,
        /// Size at the bid.
        bid_qty: u32,
        /// Size at the ask.
        ask_qty: u32,
    },
    /// A trade.
    Trade {
        /// Its price.
        price: Price,
        /// Its quantity.
        qty: u64,
        /// The exchange's number; 0 = none.
        trade_id: u64,
    },
    /// An earlier trade was withdrawn.
    Cancel {
        /// The trade's price.
        price: Price,
        /// The trade's quantity.
        qty: u64,
        /// The trade's number.
        trade_id: u64,
    },
}

/// One event of a tape; becomes one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeEvent {
    /// Exchange time as the tape has it, nanoseconds since the Unix epoch, UTC. May go back.
    pub ts_event: u64,
    /// Index in the tape's own table.
    pub instrument: InstrumentIndex,
    /// [`crate::wire::Flags`].
    pub flags: u16,
    /// What happened.
    pub body: TapeBody,
}

/// A tape as it was read, in the order of its records.
#[derive(Debug, Default)]
pub struct Tape {
    /// Its instruments, with the decimals of their quotes.
    pub instruments: Instruments,
    /// Its events.
    pub events: Vec<TapeEvent>,
    /// Records or lines that were read, also those that gave no event.
    pub records: u64,
}

impl Tape {
    /// Reads a tape of whichever format its first bytes say.
    ///
    /// # Errors
    /// When the bytes are no tape, or a damaged or an oversized one.
    pub fn read(reader: impl BufRead) -> Result<Tape, TapeError> {
        let (head, reader) = peek(reader)?;
        if !head.starts_with(&ZSTD_MAGIC) {
            return read_plain(&head, reader);
        }
        let inside = DynReader::with_buffer(reader, Compression::Zstd)
            .map_err(|error| TapeError::Metadata(error.to_string()))?;
        let (head, reader) = peek(BufReader::new(inside))?;
        read_plain(&head, reader)
    }

    /// Appends an event, within the bounds, and keeps the instrument's decimals.
    fn push(&mut self, event: TapeEvent) -> Result<(), TapeError> {
        let start = self.events.first().map_or(event.ts_event, |first| first.ts_event);
        if event.ts_event.saturating_sub(start) > nanos(TAPE_SPAN_MAX) {
            return Err(TapeError::TooLong { record: self.records });
        }
        if self.events.len() >= TAPE_EVENTS_MAX {
            return Err(TapeError::TooManyEvents);
        }
        // The grid of the quotes: a trade between two ticks shows its further digits by itself.
        if let TapeBody::Quote { bid, ask, .. } = event.body {
            let decimals = bid.decimals_needed().max(ask.decimals_needed());
            self.instruments.raise_decimals(event.instrument, decimals);
        }
        self.events.push(event);
        Ok(())
    }

    /// The index of a symbol of this tape.
    fn instrument(&mut self, symbol: Symbol) -> Result<InstrumentIndex, TapeError> {
        Ok(self.instruments.insert(symbol, DECIMALS_MIN)?)
    }
}

fn read_plain(head: &[u8], reader: impl Read) -> Result<Tape, TapeError> {
    let reader = Bounded { reader, left: TAPE_BYTES_MAX };
    if head.starts_with(b"DBN") {
        if let Some(&[a, b, c, d]) = head.get(4..8)
            && u32::from_le_bytes([a, b, c, d]) > TAPE_METADATA_BYTES_MAX
        {
            return Err(TapeError::Metadata("its length is beyond any real file".to_owned()));
        }
        dbn::read(reader)
    } else if b3::is_header(head) {
        b3::read(reader)
    } else {
        Err(TapeError::Unknown(Head(head).to_string()))
    }
}

/// The first bytes of a reader, and the reader as if nobody had looked.
fn peek<R: BufRead>(mut reader: R) -> Result<(Vec<u8>, impl BufRead), TapeError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let limit = HEAD_BYTES as u64;
    reader.by_ref().take(limit).read_to_end(&mut head).map_err(|source| read_error(0, source))?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// Names the bound when that is what stopped the reader, and the place when the input ended early
/// (zstd says so itself).
fn read_error(records: u64, source: io::Error) -> TapeError {
    if source.get_ref().is_some_and(|inner| inner.is::<OverBound>()) {
        TapeError::TooManyBytes
    } else if source.kind() == io::ErrorKind::UnexpectedEof {
        TapeError::Truncated { record: records.saturating_add(1) }
    } else {
        TapeError::Read { records, source }
    }
}

/// The beginning of a file for an error message.
struct Head<'a>(&'a [u8]);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing at all");
        }
        write!(f, "\"{}\"", self.0[..self.0.len().min(16)].escape_ascii())
    }
}

/// A reader that fails, instead of ending, once it gave more than its bound.
struct Bounded<R> {
    reader: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too many bytes")]
struct OverBound;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, OverBound))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TAPE_BYTES_MAX;

    #[test]
    fn other_files_are_named_by_their_first_bytes() {
        for (bytes, begins) in [
            (&b""[..], "nothing at all"),
            (b"\x7fELF\x02", "\"\\x7fELF\\x02\""),
            (b"DB", "\"DB\""),
            (b"Date;Price\n", "\"Date;Price\\n\""),
        ] {
            let said = Tape::read(bytes).unwrap_err().to_string();
            let want = format!("not a DBN or B3 file: it begins with {begins};");
            assert!(said.starts_with(&want), "{said}");
        }
    }

    #[test]
    fn zstd_around_something_else_is_no_tape() {
        // A raw zstd frame of the text "hello": header, one raw last block.
        let frame = b"\x28\xB5\x2F\xFD\x20\x05\x29\x00\x00hello";
        let said = Tape::read(&frame[..]).unwrap_err().to_string();
        assert!(said.contains("\"hello\""), "{said}");
    }

    #[test]
    fn a_reader_of_single_bytes_reads_the_same_tape() {
        let bytes = include_bytes!("../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst");
        let whole = Tape::read(&bytes[..]).unwrap();
        let dripping = Tape::read(BufReader::with_capacity(1, &bytes[..])).unwrap();
        assert_eq!(dripping.events, whole.events);
        // Uncompressed, too, where the metadata arrives in pieces.
        let mut plain = Vec::new();
        DynReader::with_buffer(&bytes[..], Compression::Zstd)
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap();
        let dripping = Tape::read(BufReader::with_capacity(1, &plain[..])).unwrap();
        assert_eq!(dripping.events, whole.events);
    }

    #[test]
    fn an_endless_tape_ends_with_the_bound() {
        let mut endless = Bounded { reader: io::repeat(b'7'), left: 1_000 };
        let error = io::copy(&mut endless, &mut io::sink()).unwrap_err();
        assert!(matches!(read_error(3, error), TapeError::TooManyBytes));
        // One line without an end fills no more memory than the bound either.
        let header = "DataReferencia;CodigoInstrumento;AcaoAtualizacao;PrecoNegocio;";
        let text = header.as_bytes().chain(io::repeat(b'7').take(5_000));
        let bounded = Bounded { reader: text, left: 1_000 };
        assert!(matches!(b3::read(bounded), Err(TapeError::TooManyBytes)));
        const { assert!(TAPE_BYTES_MAX > 1 << 30) };
    }

    #[test]
    fn a_time_far_beyond_the_rest_is_refused() {
        let mut tape = Tape::default();
        let instrument = tape.instrument("PETR4".parse().unwrap()).unwrap();
        let body = TapeBody::Trade { price: Price(1), qty: 1, trade_id: 0 };
        let event = TapeEvent { ts_event: 5, instrument, flags: 0, body };
        tape.push(event).unwrap();
        tape.push(TapeEvent { ts_event: 0, ..event }).unwrap();
        let far = TapeEvent { ts_event: 6 + nanos(TAPE_SPAN_MAX), ..event };
        assert!(matches!(tape.push(far), Err(TapeError::TooLong { .. })));
    }
}
