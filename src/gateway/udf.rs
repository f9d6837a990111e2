//! TradingView's data feed (UDF): what its chart asks of a server. The format is that of the documentation of its charting
//! library; numbers are floats there, so exact prices are asked elsewhere.

use serde_json::{Value, json};

use super::routes::Parameters;
use crate::feed::Pattern;
use crate::http::Problem;
use crate::limits;
use crate::market::bar::Bar;
use crate::parse::BarInterval;
use crate::report::{Asked, Question};
use crate::wire::{Definition, Flags, Quote, Symbol, Trade};

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The lengths of bars that a chart may ask for, as it names them, and in seconds.
const RESOLUTIONS: [(&str, u32); 11] = [
    ("1S", 1),
    ("5S", 5),
    ("15S", 15),
    ("1", 60),
    ("5", 300),
    ("15", 900),
    ("30", 1_800),
    ("60", 3_600),
    ("240", 14_400),
    ("1D", 86_400),
    ("D", 86_400),
];
/// Symbols of one answer to a search that says no number.
const SEARCH_DEFAULT: usize = 30;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Udf {
    Config,
    Time,
    Symbols { symbol: String },
    Search { query: String, limit: usize },
    History(History),
    Quotes { symbols: Vec<Symbol> },
}

/// Bars of one symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) symbol: Symbol,
    pub(super) interval: BarInterval,
    pub(super) from: u64,
    pub(super) to: u64,
    /// So many bars before `to` are wanted, wherever they begin.
    pub(super) countback: Option<u32>,
}

fn missing(name: &str) -> Problem {
    Problem::new(400, format!("The parameter {name} is missing."))
}

impl Udf {
    /// Reads what is asked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(name: &str, parameters: &mut Parameters<'_>) -> Result<Udf, Problem> {
        Ok(match name {
            "config" => Udf::Config,
            "time" => Udf::Time,
            "symbols" => {
                let symbol =
                    parameters.take("symbol")?.ok_or_else(|| missing("symbol"))?.to_owned();
                Udf::Symbols { symbol }
            }
            "search" => {
                let query = parameters.take("query")?.unwrap_or_default().to_owned();
                // A chart says these also where there is one type and no exchange.
                let (_, _) = (parameters.take("type")?, parameters.take("exchange")?);
                let limit = parameters.parse("limit")?.unwrap_or(SEARCH_DEFAULT);
                Udf::Search { query, limit: limit.min(limits::REPORT_SYMBOLS_MAX) }
            }
            "history" => Udf::History(History::read(parameters)?),
            "quotes" => {
                let text = parameters.take("symbols")?.ok_or_else(|| missing("symbols"))?;
                let symbols = text.split(',').map(symbol).collect::<Result<Vec<_>, _>>()?;
                if symbols.len() > limits::REPORT_SYMBOLS_MAX {
                    let most = limits::REPORT_SYMBOLS_MAX;
                    return Err(Problem::new(400, format!("At most {most} symbols at once.")));
                }
                Udf::Quotes { symbols }
            }
            _ => return Err(Problem::new(404, "No such path of the data feed.")),
        })
    }
}

fn symbol(text: &str) -> Result<Symbol, Problem> {
    text.parse().map_err(|error| Problem::new(400, format!("{text:?}: {error}.")))
}

impl History {
    fn read(parameters: &mut Parameters<'_>) -> Result<History, Problem> {
        let symbol = symbol(parameters.take("symbol")?.ok_or_else(|| missing("symbol"))?)?;
        let resolution = parameters.take("resolution")?.ok_or_else(|| missing("resolution"))?;
        let found = RESOLUTIONS.iter().find(|(name, _)| *name == resolution);
        let interval = found.and_then(|(_, seconds)| format!("{seconds}s").parse().ok());
        let interval = interval.ok_or_else(|| {
            Problem::new(400, format!("No resolution {resolution:?}; see /udf/config."))
        })?;
        let from: u64 = parameters.parse("from")?.ok_or_else(|| missing("from"))?;
        let to: u64 = parameters.parse("to")?.ok_or_else(|| missing("to"))?;
        let countback: Option<u32> = parameters.parse("countback")?;
        let [from, to] = [from, to].map(|seconds| seconds.saturating_mul(SECOND));
        if from >= to && countback.is_none() {
            return Err(Problem::new(400, "`from` is not before `to`."));
        }
        let countback = countback.map(|count| count.clamp(1, limits::REPORT_ROWS_MAX / 4));
        Ok(History { symbol, interval, from, to, countback })
    }

    /// The question for it.
    pub(super) fn asked(&self) -> Result<Asked, Problem> {
        let pattern = Pattern::new(self.symbol.as_str(), 0);
        let symbols = vec![pattern.map_err(|error| Problem::new(400, error.to_string()))?];
        // So many bars before `to` are wanted, wherever they begin: see `BarSearch`.
        let from = if self.countback.is_some() { 0 } else { self.from };
        let to = self.to.max(from.saturating_add(1));
        let question = Question::Bars { interval: self.interval, from, to };
        Ok(Asked { symbols, question, partial_allowed: true, as_of: None, explain: false })
    }

    /// The answer, from all bars that were found.
    #[allow(clippy::cast_precision_loss, reason = "the format has floats")]
    pub(super) fn json(&self, bars: &[Bar], quantity_decimals: u8) -> String {
        let unit = 10_f64.powi(i32::from(quantity_decimals));
        let wanted = self.countback.map_or(bars.len(), |count| count as usize);
        let bars = bars.get(bars.len().saturating_sub(wanted)..).unwrap_or_default();
        if bars.is_empty() {
            return json!({ "s": "no_data" }).to_string();
        }
        let column = |of: fn(&Bar) -> Value| bars.iter().map(of).collect::<Vec<Value>>();
        let volume = |bar: &Bar| Value::from(bar.volume as f64 / unit);
        json!({
            "s": "ok",
            "t": column(|bar| (bar.start / SECOND).into()),
            "o": column(|bar| float(bar.open)),
            "h": column(|bar| float(bar.high)),
            "l": column(|bar| float(bar.low)),
            "c": column(|bar| float(bar.close)),
            "v": bars.iter().map(volume).collect::<Vec<Value>>(),
        })
        .to_string()
    }
}

/// A price as this format has it: a float, which may be rounded in its last digits.
#[allow(clippy::cast_precision_loss, reason = "the format has floats")]
fn float(units: i64) -> Value {
    if units == crate::wire::PRICE_UNDEFINED {
        return Value::Null;
    }
    Value::from(units as f64 / 1e9)
}

/// What a chart may ask.
pub(super) fn config() -> String {
    let resolutions: Vec<&str> =
        RESOLUTIONS.iter().map(|(name, _)| *name).filter(|name| *name != "D").collect();
    json!({
        "supported_resolutions": resolutions,
        "supports_search": true,
        "supports_group_request": false,
        "supports_marks": false,
        "supports_timescale_marks": false,
        "supports_time": true,
        "exchanges": [],
        "symbols_types": [],
    })
    .to_string()
}

fn exchange_of(definition: &Definition) -> &str {
    let has_venue = definition.flags.get() & Flags::VENUE != 0;
    let venue = definition.symbol.as_str().split_once(':').filter(|_| has_venue);
    venue.map_or("pregao", |(venue, _)| venue)
}

/// One instrument, as a chart wants to know it.
pub(super) fn symbol_info(definition: &Definition) -> String {
    let (name, decimals) = (definition.symbol, definition.decimals());
    let exchange = exchange_of(definition);
    json!({
        "name": name.as_str(),
        "ticker": name.as_str(),
        "description": name.as_str(),
        "type": "stock",
        "session": "24x7",
        "timezone": "Etc/UTC",
        "exchange": exchange,
        "listed_exchange": exchange,
        "format": "price",
        "minmov": 1,
        "pricescale": 10_u64.saturating_pow(u32::from(decimals.price)),
        "has_intraday": true,
        "has_seconds": true,
        "seconds_multipliers": ["1", "5", "15"],
        "intraday_multipliers": ["1", "5", "15", "30", "60", "240"],
        "has_daily": true,
        "volume_precision": decimals.quantity,
        "data_status": "streaming",
        "supported_resolutions": RESOLUTIONS.iter().map(|(name, _)| *name).filter(|name| *name != "D").collect::<Vec<_>>(),
    })
    .to_string()
}

/// That a symbol is not known.
pub(super) fn unknown() -> String {
    refused("unknown_symbol")
}

/// That there is no answer.
pub(super) fn refused(why: &str) -> String {
    json!({ "s": "error", "errmsg": why }).to_string()
}

/// The instruments whose names have this text, whatever its case.
pub(super) fn found(definitions: &[Definition], query: &str, limit: usize) -> String {
    let query = query.to_ascii_uppercase();
    let is_found = |it: &&Definition| it.symbol.as_str().to_ascii_uppercase().contains(&query);
    let object = |it: &Definition| {
        let name = it.symbol;
        json!({
            "symbol": name.as_str(),
            "full_name": name.as_str(),
            "description": name.as_str(),
            "exchange": exchange_of(it),
            "ticker": name.as_str(),
            "type": "stock",
        })
    };
    let all: Vec<Value> = definitions.iter().filter(is_found).take(limit).map(object).collect();
    Value::Array(all).to_string()
}

/// An instrument, its last quote and its last trade.
pub(super) type Last = (Definition, Option<Quote>, Option<Trade>);

/// The last values of some symbols.
pub(super) fn quotes(known: &[(Symbol, Option<Last>)]) -> String {
    let object = |(symbol, known): &(Symbol, Option<Last>)| {
        let name = symbol.as_str();
        let Some((definition, quote, trade)) = known else {
            return json!({ "s": "error", "n": name, "v": {} });
        };
        let exchange = exchange_of(definition);
        json!({
            "s": "ok",
            "n": name,
            "v": {
                "short_name": name,
                "exchange": exchange,
                "description": name,
                "lp": trade.as_ref().map(|it| float(it.price.get())),
                "bid": quote.as_ref().map(|it| float(it.bid.get())),
                "ask": quote.as_ref().map(|it| float(it.ask.get())),
            }
        })
    };
    json!({ "s": "ok", "d": known.iter().map(object).collect::<Vec<_>>() }).to_string()
}
