//! Quotes, trades and cancels as lines of text that people bring: CSV, JSON and InfluxDB's line protocol. One line at a
//! time becomes a [`Record`]. It takes bytes, and knows neither files nor connections.
//!
//! # Decisions
//!
//! * Names and values are those that `export --format csv` and `subscribe --format json` write. A few other usual names are
//!   understood too ([`Field::of`]), and a [`Mapping`] says any other.
//! * Numbers are read from their digits. One with an exponent is as exact as one without: programs that write small numbers
//!   write `1.2e-7`.
//! * A name that means nothing here is passed over, and told once ([`Lines::unread`]). A kind that is no event of a market is
//!   passed over and counted ([`Lines::skipped`]). Nothing is left out in silence.
//! * A line is one event: without `flags` it is the last of its event.
//! * A line without its end is the caller's matter: only the caller knows whether more comes.

mod csv;
mod draft;
mod field;
mod ilp;
mod json;
mod number;
mod record;
mod split;
mod time;

use std::collections::BTreeMap;

pub use field::{Field, Mapping, MappingError};
pub use record::{Record, RecordBody, RecordKind};
pub use split::{LineEnd, next_line};
pub use time::TimeUnit;

use crate::limits::{INSTRUMENTS_MAX, LINE_BYTES_MAX, LINE_NAMES_MAX};
use crate::wire::{FullName, Symbol};
use draft::{Draft, Problem};

/// What a spreadsheet may put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Values behind a header of names, between `,` or `;`.
    Csv,
    /// One object a line.
    Json,
    /// InfluxDB's line protocol, as QuestDB takes it.
    Ilp,
}

impl LineFormat {
    /// What format begins like this; `None` for what is none of them.
    #[must_use]
    pub fn recognized(head: &[u8]) -> Option<LineFormat> {
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.first() == Some(&b'{') {
            Some(LineFormat::Json)
        } else if csv::is_header(line) {
            Some(LineFormat::Csv)
        } else if ilp::is_line(line) {
            Some(LineFormat::Ilp)
        } else {
            None
        }
    }

    /// Whether a line that lacks its end can still be seen to be whole.
    #[must_use]
    pub fn ends_itself(self) -> bool {
        self == LineFormat::Json
    }
}

/// What is not in the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// Other names of fields.
    pub mapping: Mapping,
    /// What a time without a unit counts.
    pub time_unit: TimeUnit,
    /// The kind of lines that do not say theirs.
    pub kind: Option<RecordKind>,
    /// The symbol of lines that do not say theirs.
    pub symbol: Option<FullName>,
    /// The time of lines that do not say theirs, in nanoseconds; without it they are refused.
    pub time_ns: Option<u64>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {what}", column.as_ref().map(|name| format!(", {name}")).unwrap_or_default())]
pub struct LineError {
    /// Counted from 1.
    pub line: u64,
    /// The name of the column, field or tag, if it is in one.
    pub column: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Reads lines, one at a time.
#[derive(Clone, Debug)]
pub struct Lines {
    format: LineFormat,
    options: LineOptions,
    columns: Option<csv::Columns>,
    line: u64,
    skipped: BTreeMap<String, u64>,
    unread: BTreeMap<String, u64>,
    full_names: BTreeMap<Symbol, FullName>,
    new_name: Option<FullName>,
}

impl Lines {
    /// A reader of one text from its first line.
    #[must_use]
    pub fn new(format: LineFormat, options: LineOptions) -> Lines {
        let (skipped, unread) = (BTreeMap::new(), BTreeMap::new());
        let full_names = BTreeMap::new();
        Lines {
            format,
            options,
            columns: None,
            line: 0,
            skipped,
            unread,
            full_names,
            new_name: None,
        }
    }

    /// The time of further lines that do not say theirs.
    pub fn set_time_ns(&mut self, time_ns: Option<u64>) {
        self.options.time_ns = time_ns;
    }

    /// Lines that were read.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whether the header was read, where there is one.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.format != LineFormat::Csv || self.columns.is_some()
    }

    /// Lines that tell no event of a market, by what they are.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }

    /// Names of fields that mean nothing here, and in how many lines they stood. A header counts once.
    #[must_use]
    pub fn unread(&self) -> &BTreeMap<String, u64> {
        &self.unread
    }

    /// Names that are longer than a symbol, each by the symbol that stands for it.
    #[must_use]
    pub fn full_names(&self) -> &BTreeMap<Symbol, FullName> {
        &self.full_names
    }

    /// The name in [`Lines::full_names`] that the last line brought, once.
    pub fn take_new_name(&mut self) -> Option<FullName> {
        self.new_name.take()
    }

    /// Reads the next line, with its end or without. `None` is a line that tells nothing: it is empty, a header, a comment or
    /// of a kind that is passed over.
    ///
    /// # Errors
    /// Names the line, the column, and what to do. The next line can be read all the same.
    pub fn take(&mut self, line: &[u8]) -> Result<Option<Record>, LineError> {
        self.line = self.line.saturating_add(1);
        let number = self.line;
        self.read(line).map_err(|Problem { column, what }| LineError { line: number, column, what })
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<Record>, Problem> {
        if line.len() > LINE_BYTES_MAX {
            return Err(too_long());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = match self.line {
            1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
            _ => line,
        };
        let text = std::str::from_utf8(line).map_err(|error| {
            Problem::of_line(format!(
                "not UTF-8 behind byte {}; convert the text",
                error.valid_up_to()
            ))
        })?;
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let (mapping, mut draft) = (&self.options.mapping, Draft::default());
        match self.format {
            LineFormat::Csv => match &self.columns {
                Some(columns) => columns.fill(text, &mut draft)?,
                None => {
                    let columns = csv::Columns::of_header(text, mapping)?;
                    columns.unread().for_each(|name| count(&mut self.unread, name, "others"));
                    self.columns = Some(columns);
                    return Ok(None);
                }
            },
            LineFormat::Json => json::fill(text, mapping, &mut draft)?,
            LineFormat::Ilp => {
                if !ilp::fill(text, mapping, &mut draft)? {
                    return Ok(None);
                }
            }
        }
        if let Some(what) = draft.passed_over(mapping) {
            count(&mut self.skipped, what, "others");
            return Ok(None);
        }
        draft.unread().for_each(|name| count(&mut self.unread, name, "others"));
        let record = draft.record(&self.options)?;
        if let Some(name) = draft.longer_name(&record.symbol, &self.options) {
            self.note_name(record.symbol, name)?;
        }
        Ok(Some(record))
    }

    #[cold]
    fn note_name(&mut self, symbol: Symbol, name: FullName) -> Result<(), Problem> {
        match self.full_names.get(&symbol) {
            Some(other) if *other != name => {
                let what =
                    format!("{name} has the same symbol here as {other}; rename one of them");
                Err(Problem::of_line(what))
            }
            Some(_) => Ok(()),
            None if self.full_names.len() >= INSTRUMENTS_MAX => {
                Err(Problem::of_line(format!("more than {INSTRUMENTS_MAX} names")))
            }
            None => {
                self.full_names.insert(symbol, name);
                self.new_name = Some(name);
                Ok(())
            }
        }
    }
}

/// What is said of a line that is longer than the bound.
fn too_long() -> Problem {
    Problem::of_line(format!("longer than {LINE_BYTES_MAX} bytes; is it text in lines?"))
}

/// Counts a name, and what comes behind the bound together.
fn count(counts: &mut BTreeMap<String, u64>, name: &str, others: &str) {
    let is_known = counts.contains_key(name);
    let name = if is_known || counts.len() < LINE_NAMES_MAX { name } else { others };
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests;
