//! Reads B3's daily file of trades ("negócios à vista"): one header line, `;` between fields, `,`
//! as the decimal mark.
//!
//! Two generations exist: an English header with nine columns, and a Portuguese one with eleven
//! (buyer and seller) or twelve (channel). Columns are found by name, so further ones do no harm.
//!
//! **Which date the clock time belongs to.** A line has a reference date and a trading date, which
//! differ for after-market trades: those are listed in the next day's file, with clock times such
//! as 02:01:18, in the night *after* the trading date. On the trading date that hour lies before
//! the session that the trade follows; on the reference date it is in order. So the event time is
//! the reference date with the clock time. The trading date is only checked.
//!
//! Times are Brasília time, UTC-3. Summer time (UTC-2, until February 2019) is not considered.

use std::io::Read;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::{Reading, Tape, TapeBody, TapeError, TapeEvent, Venue, read_error};
use crate::market::civil::days_from_civil;
use crate::market::price::{DecimalMark, Price};
use crate::wire::{Flags, Symbol};

/// A field's names in the newer and the older header.
type Column = (&'static str, &'static str);

const REFERENCE_DATE: Column = ("DataReferencia", "RptDt");
const SYMBOL: Column = ("CodigoInstrumento", "TckrSymb");
const ACTION: Column = ("AcaoAtualizacao", "UpdActn");
const PRICE: Column = ("PrecoNegocio", "GrssTradAmt");
const QUANTITY: Column = ("QuantidadeNegociada", "TradQty");
const TIME: Column = ("HoraFechamento", "NtryTm");
const TRADE_ID: Column = ("CodigoIdentificadorNegocio", "TradId");
const SESSION: Column = ("TipoSessaoPregao", "TradgSsnId");
const TRADING_DATE: Column = ("DataNegocio", "TradDt");

/// The fields that every line needs, in the order of [`Columns`].
const NEEDED: [Column; 9] =
    [REFERENCE_DATE, SYMBOL, ACTION, PRICE, QUANTITY, TIME, TRADE_ID, SESSION, TRADING_DATE];

/// B3's number of the after-market session.
const AFTER_MARKET_SESSION: u64 = 6;

const MILLISECOND_NS: u64 = 1_000_000;
const DAY_MS: u64 = 86_400_000;
/// Brasília is three hours behind UTC.
const BRASILIA_BEHIND_UTC_MS: u64 = 3 * 3_600_000;

/// What a spreadsheet may put before the header.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether a file that begins like this is B3's.
pub(super) fn is_header(head: &[u8]) -> bool {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    [REFERENCE_DATE.0, REFERENCE_DATE.1].iter().any(|name| {
        head.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b';'))
    })
}

/// Reads B3's trades.
///
/// # Errors
/// Names the line and the field that is wrong.
pub fn read(reader: impl Read, reading: &Reading) -> Result<Tape, TapeError> {
    let mut lines = ReaderBuilder::new()
        .delimiter(b';')
        .has_headers(false)
        .flexible(true)
        // A stray quotation mark must not swallow the rest of the file.
        .quoting(false)
        .from_reader(reader);
    let mut tape = Tape::selecting(reading);
    let mut record = ByteRecord::new();
    let mut columns = None;
    let mut line = 0;
    loop {
        match lines.read_byte_record(&mut record).map_err(|error| broken(error, tape.records, line))
        {
            Ok(true) => {}
            Ok(false) => break,
            Err(TapeError::Truncated { record }) if reading.allow_torn => {
                tape.torn = Some(record);
                break;
            }
            Err(error) => return Err(error),
        }
        line = record.position().map_or(line, csv::Position::line);
        let Some(columns) = &columns else {
            columns = Some(Columns::of_header(&record, line)?);
            continue;
        };
        tape.records += 1;
        let event = match (Fields { record: &record, columns, line }).event(&mut tape) {
            Ok(event) => event,
            // Only the last line can be cut off.
            Err(error) => {
                let is_last = matches!(lines.read_byte_record(&mut record), Ok(false));
                if !reading.allow_torn || !is_last {
                    return Err(error);
                }
                tape.torn = Some(tape.records);
                break;
            }
        };
        tape.push(event)?;
    }
    if columns.is_none() {
        return Err(TapeError::Truncated { record: 0 });
    }
    Ok(tape)
}

fn broken(error: csv::Error, records: u64, line: u64) -> TapeError {
    let said = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(source) => read_error(records, source),
        _ => TapeError::Line { line: line.saturating_add(1), what: said },
    }
}

/// Where each of [`NEEDED`] stands in a line.
struct Columns([usize; NEEDED.len()]);

impl Columns {
    fn of_header(header: &ByteRecord, line: u64) -> Result<Columns, TapeError> {
        let mut places = [0; NEEDED.len()];
        for (place, (newer, older)) in places.iter_mut().zip(NEEDED) {
            let found = header.iter().position(|name| {
                let name = name.strip_prefix(BYTE_ORDER_MARK).unwrap_or(name).trim_ascii();
                name == newer.as_bytes() || name == older.as_bytes()
            });
            *place = found.ok_or_else(|| TapeError::Line {
                line,
                what: format!("the header names neither {newer} nor {older}"),
            })?;
        }
        Ok(Columns(places))
    }

    fn place(&self, column: Column) -> Option<usize> {
        NEEDED.iter().zip(self.0).find(|(needed, _)| **needed == column).map(|(_, place)| place)
    }
}

/// One line.
struct Fields<'a> {
    record: &'a ByteRecord,
    columns: &'a Columns,
    line: u64,
}

impl Fields<'_> {
    fn event(&self, tape: &mut Tape) -> Result<TapeEvent, TapeError> {
        let reference_day = self.date(REFERENCE_DATE)?;
        self.date(TRADING_DATE)?;
        let symbol = self.symbol()?;
        let price = self.price()?;
        let qty = self.number(QUANTITY)?;
        let trade_id = self.number(TRADE_ID)?;
        let session = self.number(SESSION)?;
        let body = match self.text(ACTION)? {
            "0" => TapeBody::Trade { price, qty, trade_id },
            "2" => TapeBody::Cancel { price, qty, trade_id },
            other => {
                return self.bad(ACTION, format!("{other:?} is neither 0 (new) nor 2 (cancelled)"));
            }
        };
        // Both parts are bounded: the year has four digits, the time is within a day.
        let since_epoch_ms = reference_day * DAY_MS + self.time_ms()? + BRASILIA_BEHIND_UTC_MS;
        let ts_event = since_epoch_ms.saturating_mul(MILLISECOND_NS);
        let after_market = if session == AFTER_MARKET_SESSION { Flags::AFTER_MARKET } else { 0 };
        let instrument = tape.instrument(Venue::B3, symbol)?;
        // Every line is an exchange event of its own. A day's file numbers the trades of each instrument.
        let (flags, sequence) = (Flags::LAST | after_market, trade_id);
        Ok(TapeEvent { flags, sequence, ..TapeEvent::new(ts_event, instrument, body) })
    }

    fn bad<T>(&self, column: Column, what: String) -> Result<T, TapeError> {
        Err(TapeError::Field { line: self.line, field: column.0, what })
    }

    fn text(&self, column: Column) -> Result<&str, TapeError> {
        match self.columns.place(column).and_then(|place| self.record.get(place)) {
            None => self.bad(column, "missing; is the line cut off?".to_owned()),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text),
                Err(_) => self.bad(column, format!("\"{}\" is no text", bytes.escape_ascii())),
            },
        }
    }

    fn symbol(&self) -> Result<Symbol, TapeError> {
        let text = self.text(SYMBOL)?;
        match Symbol::meant_by(text) {
            Ok(symbol) if symbol.is_reserved() => {
                self.bad(SYMBOL, format!("{text:?}: names that begin with $ are the system's own"))
            }
            Ok(symbol) => Ok(symbol),
            Err(error) => self.bad(SYMBOL, format!("{text:?}: {error}")),
        }
    }

    fn price(&self) -> Result<Price, TapeError> {
        let text = self.text(PRICE)?;
        Price::parse(text, DecimalMark::Comma)
            .or_else(|error| self.bad(PRICE, format!("{text:?} is {error}")))
    }

    fn number(&self, column: Column) -> Result<u64, TapeError> {
        let text = self.text(column)?;
        match digits(text.as_bytes()) {
            Some(number) => Ok(number),
            None => self.bad(column, format!("{text:?} is no whole number")),
        }
    }

    /// Days since the epoch of a date `YYYY-MM-DD`.
    fn date(&self, column: Column) -> Result<u64, TapeError> {
        let text = self.text(column)?;
        match parse_date(text.as_bytes()) {
            Some(day) => Ok(day),
            None => self.bad(column, format!("{text:?} is no date like 2026-07-14")),
        }
    }

    /// Milliseconds since midnight of a time `HHMMSSmmm`.
    fn time_ms(&self) -> Result<u64, TapeError> {
        let text = self.text(TIME)?;
        match parse_time_ms(text.as_bytes()) {
            Some(time) => Ok(time),
            None => self.bad(TIME, format!("{text:?} is no time like 100719126 (HHMMSSmmm)")),
        }
    }
}

/// A whole number of nothing but digits.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_date(text: &[u8]) -> Option<u64> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else { return None };
    if year.len() != 4 {
        return None;
    }
    days_from_civil(digits(year)?, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)
}

fn parse_time_ms(text: &[u8]) -> Option<u64> {
    let (clock, milliseconds) = text.split_at_checked(6).filter(|(_, rest)| rest.len() == 3)?;
    let (hour, minute, second) =
        (digits(&clock[..2])?, digits(&clock[2..4])?, digits(&clock[4..])?);
    let in_range = hour < 24 && minute < 60 && second < 60;
    in_range.then_some(())?;
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + digits(milliseconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = include_str!("../../../tests/data/b3-negocios-2026-07-14.txt");
    const OLD_HEADER: &str =
        "RptDt;TckrSymb;UpdActn;GrssTradAmt;TradQty;NtryTm;TradId;TradgSsnId;TradDt";

    fn read_text(text: &str) -> Result<Tape, TapeError> {
        Tape::read(text.as_bytes(), &Reading::default())
    }

    /// The second line of the file with one field replaced.
    fn spoiled(place: usize, value: &str) -> String {
        let mut lines = FILE.lines();
        let header = lines.next().unwrap();
        let mut fields: Vec<&str> = lines.next().unwrap().split(';').collect();
        fields[place] = value;
        read_text(&format!("{header}\n{}\n", fields.join(";"))).unwrap_err().to_string()
    }

    #[test]
    fn the_published_lines_become_events() {
        let tape = read_text(FILE).unwrap();
        assert_eq!((tape.records, tape.events.len()), (5, 5));
        let symbols: Vec<&str> =
            tape.instruments.rows().iter().map(|row| row.symbol.as_str()).collect();
        assert_eq!(symbols, ["PETR4", "ITUB4", "BGIN26"]);
        assert!(tape.instruments.rows().iter().all(|row| row.decimals == 2));

        let price = Price(41_200_000_000);
        let first = tape.events[0];
        assert_eq!(first.body, TapeBody::Trade { price, qty: 5_500, trade_id: 10 });
        assert_eq!(first.flags, Flags::LAST);
        // 2026-07-14 10:07:19.126 in Brasília is 13:07:19.126 UTC.
        assert_eq!(first.ts_event, 1_784_034_439_126_000_000);

        let cancelled = tape.events[2];
        assert_eq!(cancelled.body, TapeBody::Cancel { price, qty: 5_500, trade_id: 10 });
        assert_eq!(cancelled.ts_event, first.ts_event);

        // 02:01:18.304 of the reference date, not of the trading date a day earlier.
        let after_market = tape.events[3];
        assert_eq!(after_market.flags, Flags::LAST | Flags::AFTER_MARKET);
        assert_eq!(after_market.ts_event, 1_784_005_278_304_000_000);

        let future = tape.events[4];
        assert_eq!(future.instrument.get(), 2);
        assert_eq!(
            future.body,
            TapeBody::Trade { price: Price(329_200_000_000), qty: 1, trade_id: 80 }
        );
    }

    #[test]
    fn both_headers_all_widths_and_line_ends_are_read() {
        let old =
            format!("{OLD_HEADER}\r\n2021-02-19;TF693;0;11,000;10;022946807;10;1;2021-02-19\r\n");
        let tape = read_text(&old).unwrap();
        assert_eq!(
            tape.events[0].body,
            TapeBody::Trade { price: Price(11_000_000_000), qty: 10, trade_id: 10 }
        );
        // 05:29:46.807 UTC.
        assert_eq!(tape.events[0].ts_event, 1_613_712_586_807_000_000);

        let header = FILE.lines().next().unwrap();
        let twelve = format!(
            "\u{feff}{header};TipoDoCanal\n2026-07-14;X;0;1,5;1;000000000;1;1;2026-07-14;;;3"
        );
        assert_eq!(read_text(&twelve).unwrap().events.len(), 1);
        // Participants that are left out altogether.
        let short = format!("{header}\n2026-07-14;X;0;-0,1;1;000000000;1;1;2026-07-14\n");
        assert_eq!(read_text(&short).unwrap().events.len(), 1);
        assert_eq!(read_text(header).unwrap().events.len(), 0);
    }

    #[test]
    fn every_spoiled_field_is_named_with_its_line() {
        for (place, value, field) in [
            (0, "2026-02-29", "DataReferencia"),
            (0, "14/07/2026", "DataReferencia"),
            (1, "", "CodigoInstrumento"),
            (1, "PETR*", "CodigoInstrumento"),
            (2, "1", "AcaoAtualizacao"),
            (3, "41.20", "PrecoNegocio"),
            (3, "", "PrecoNegocio"),
            (4, "-1", "QuantidadeNegociada"),
            (4, "18446744073709551616", "QuantidadeNegociada"),
            (5, "240000000", "HoraFechamento"),
            (5, "10071912", "HoraFechamento"),
            (6, "+1", "CodigoIdentificadorNegocio"),
            (7, "x", "TipoSessaoPregao"),
            (8, "", "DataNegocio"),
        ] {
            let said = spoiled(place, value);
            assert!(said.starts_with(&format!("line 2, field {field}: ")), "{value:?}: {said}");
        }
        let cut = FILE.trim_end().rsplit_once(";1;2026-07-10").unwrap().0;
        let said = read_text(cut).unwrap_err().to_string();
        assert_eq!(said, "line 6, field DataNegocio: missing; is the line cut off?");
    }

    #[test]
    fn a_header_without_a_needed_column_says_which() {
        let said = read_text(&OLD_HEADER.replace("TradQty", "Qty")).unwrap_err().to_string();
        assert_eq!(said, "line 1: the header names neither QuantidadeNegociada nor TradQty");
    }

    #[test]
    fn a_stray_quotation_mark_does_not_swallow_the_next_lines() {
        let line = "2026-07-14;X;0;1,5;1;000000000;1;1;2026-07-14;;";
        let header = FILE.lines().next().unwrap();
        let text = format!("{header}\n{}\n{line}\n", line.replace("X", "\"X"));
        assert_eq!(read_text(&text).unwrap().events.len(), 2);
    }

    #[test]
    fn cutting_the_file_anywhere_does_not_panic() {
        for end in 0..FILE.len() {
            let events = read_text(&FILE[..end]).map_or(0, |tape| tape.events.len());
            assert!(events <= 5);
        }
    }

    proptest! {
        #[test]
        fn damaged_files_do_not_panic(bit in 0..FILE.len() * 8, more in 0..FILE.len() * 8) {
            let mut bytes = FILE.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes[more / 8] ^= 1 << (more % 8);
            let _ = Tape::read(&bytes[..], &Reading::default());
        }
    }
}
