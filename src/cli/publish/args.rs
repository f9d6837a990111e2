//! The flags of `pregao publish`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::args::{ConfigFlag, Format, HostFlag, positive_duration};
use crate::config::ExchangeName;
use crate::limits::RATE_EVENTS_PER_S_MAX;
use crate::market::lines::{LineFormat, Mapping, RecordKind, TimeUnit};
use crate::parse::whole_number;
use crate::wire::{FullName, NameError, QUANTITY_DECIMALS_MAX, Symbol};

/// Stands below the flags.
const AFTER_HELP: &str = "\
A line is a quote, a trade or a cancel. `pregao export --format csv` and `pregao subscribe --format json` write such \
lines, and so do programs that write InfluxDB's line protocol, with the measurements trades and quotes.

A file that is published again, such as after a crash, goes on where core's journal has it: no event is stored twice. \
A file that has changed or grown is another feed, unless --feed gives both one name.";

/// Bring quotes, trades and cancels of your own
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PublishFlags {
    /// The file to read, packed by gzip or zstd or as it is; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// How the lines are written [default: as the first 64 bytes look]
    #[arg(long, value_enum)]
    pub format: Option<LineFormatName>,
    /// The exchange, which becomes the venue of the instruments
    #[arg(long, value_name = "NAME", default_value = "own")]
    pub exchange: ExchangeName,
    /// A name by which core knows the feed again; it must begin with the same events each time [default: of a file its
    /// content, of standard input none]
    #[arg(long, value_name = "NAME")]
    pub feed: Option<String>,
    /// Store it behind another feed that the exchange has
    #[arg(long)]
    pub append: bool,
    /// Your names of fields and measurements, as price=last,qty=amount,trades=fills
    #[arg(long, value_name = "OURS=YOURS,...")]
    pub map: Option<Mapping>,
    /// What a time without a unit counts since 1970
    #[arg(long, value_enum, default_value_t)]
    pub time_unit: TimeUnitName,
    /// The kind of lines that do not say theirs
    #[arg(long, value_enum)]
    pub kind: Option<KindName>,
    /// The symbol of lines that do not say theirs
    #[arg(long, value_name = "SYMBOL", value_parser = symbol_name)]
    pub symbol: Option<FullName>,
    /// Decimals of a unit of quantities, of instruments that core does not have [default: of a file as many as it needs, of
    /// standard input 8]
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = whole_number::<u8>(0, QUANTITY_DECIMALS_MAX as u64))]
    pub quantity_decimals: Option<u8>,
    /// Events a second at most
    #[arg(long, value_name = "EVENTS_PER_S", allow_negative_numbers = true,
          value_parser = whole_number::<u64>(1, RATE_EVENTS_PER_S_MAX))]
    pub rate: Option<u64>,
    /// Only read, and name the first line that is wrong
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out a last line without its end
    #[arg(long)]
    pub allow_torn: bool,
    /// For how long core may be away
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration)]
    pub wait: Duration,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub result: Format,
    #[command(flatten)]
    pub(in crate::cli) config: ConfigFlag,
    #[command(flatten)]
    pub(in crate::cli) host: HostFlag,
}

/// See [`LineFormat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LineFormatName {
    /// Values behind a line of names
    Csv,
    /// One object a line
    Json,
    /// InfluxDB's line protocol, as QuestDB takes it
    Ilp,
}

impl From<LineFormatName> for LineFormat {
    fn from(name: LineFormatName) -> LineFormat {
        match name {
            LineFormatName::Csv => LineFormat::Csv,
            LineFormatName::Json => LineFormat::Json,
            LineFormatName::Ilp => LineFormat::Ilp,
        }
    }
}

/// See [`TimeUnit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TimeUnitName {
    /// Nanoseconds
    #[default]
    Ns,
    /// Microseconds
    Us,
    /// Milliseconds
    Ms,
    /// Seconds
    S,
}

impl From<TimeUnitName> for TimeUnit {
    fn from(name: TimeUnitName) -> TimeUnit {
        match name {
            TimeUnitName::Ns => TimeUnit::Nanoseconds,
            TimeUnitName::Us => TimeUnit::Microseconds,
            TimeUnitName::Ms => TimeUnit::Milliseconds,
            TimeUnitName::S => TimeUnit::Seconds,
        }
    }
}

/// See [`RecordKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum KindName {
    Quote,
    Trade,
    Cancel,
}

impl From<KindName> for RecordKind {
    fn from(name: KindName) -> RecordKind {
        match name {
            KindName::Quote => RecordKind::Quote,
            KindName::Trade => RecordKind::Trade,
            KindName::Cancel => RecordKind::Cancel,
        }
    }
}

/// A symbol, or a longer name.
fn symbol_name(text: &str) -> Result<FullName, NameError> {
    // It may be said of events as it is typed.
    let symbol = Symbol::meant_by(text)?;
    if symbol.is_reserved() { Err(NameError) } else { text.parse() }
}
