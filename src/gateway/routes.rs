//! What a request asks for: from a path and its query to a question. Whatever is wrong with it is a problem object, and
//! nothing of a path reaches a file.

use std::time::Duration;

use super::bar_search::BarSearch;
use super::openapi::{self, Found, Id, Operation, Parameter};
use super::ranges::Wanted;
use super::start::Start;
use super::udf::{History, Udf};
use super::wish::{self, Wish};
use crate::feed::Pattern;
use crate::http::{Format, Problem, Request, negotiate};
use crate::limits;
use crate::parse::{BarInterval, DeliveryMode, TimeNs, deadline};
use crate::report::{Asked, Question};
use crate::time::Mono;

/// Rows of an answer about trades that says no number.
const TRADES_DEFAULT: u32 = 100;
/// Who moved most, where no number is said.
const MOVERS_DEFAULT: u32 = 10;

/// What is answered how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) asked: Asked,
    pub(super) deadline: Duration,
    pub(super) what: What,
    pub(super) format: Format,
    /// The part of the answer that is wanted, if not all.
    pub(super) wanted: Option<Wanted>,
    /// How far back its bars are looked for, and until when.
    pub(super) search: Option<(BarSearch, Mono)>,
}

/// The form of an answer of the aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Quotes,
    Trades,
    Bars { interval: BarInterval, last: Option<u32> },
    Figure,
    Chart(History),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A WebSocket.
    Stream,
    /// A stream of events.
    Events { wish: Wish, mode: DeliveryMode },
    /// A question for the aggregator.
    Ask(Box<Ask>),
    /// All instruments.
    Instruments { pattern: Pattern, format: Format, wanted: Option<Wanted> },
    /// How each node is.
    Status { format: Format },
    /// Figures of all nodes, for a monitoring system.
    Metrics,
    /// Whether this process lives.
    Healthy,
    /// Whether the system can serve.
    Ready,
    /// The description of all this.
    OpenApi,
    /// Something of TradingView's data feed.
    Udf(Udf),
    /// A file of the page.
    Page(String),
    /// Something breaks on purpose.
    Playground(super::playground::Deed),
}

/// The query of one request: only what the table of paths has, and each name once.
pub(super) struct Parameters<'a> {
    all: &'a [(String, String)],
    known: &'static [Parameter],
}

impl<'a> Parameters<'a> {
    /// The query of a request for this operation.
    ///
    /// # Errors
    /// When it has a name that does not stand there, or one twice.
    pub(super) fn of(
        request: &'a Request,
        operation: &'static Operation,
    ) -> Result<Parameters<'a>, Problem> {
        let (all, known) = (request.query(), operation.parameters);
        for (place, (name, _)) in all.iter().enumerate() {
            if !known.iter().any(|it| it.name == name) {
                let name: String = name.chars().take(40).collect();
                let there: Vec<&str> = known.iter().map(|it| it.name).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                return Err(Problem::new(
                    400,
                    format!("No parameter {name:?} here; there is {there}."),
                ));
            }
            if all.iter().take(place).any(|(before, _)| before == name) {
                return Err(Problem::new(400, format!("The parameter {name} stands twice.")));
            }
        }
        Ok(Parameters { all, known })
    }

    /// The value of a name, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        debug_assert!(self.known.iter().any(|it| it.name == name), "{name} stands in no table");
        Ok(self.all.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str()))
    }

    /// The same as a value of a type.
    pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let wrong = |error: T::Err| Problem::new(400, format!("The parameter {name}: {error}."));
        self.take(name)?.map(|text| text.parse().map_err(wrong)).transpose()
    }
}

/// Where a request leads.
///
/// # Errors
/// What is wrong with it.
pub(super) fn route(request: &Request) -> Result<Route, Problem> {
    let (operation, part) = match openapi::find(request.method(), request.path()) {
        Found::Operation(operation, part) => (operation, part),
        Found::OtherMethod(takes) => {
            return Err(Problem::new(405, format!("This path takes {takes}.")));
        }
        Found::Nothing => {
            let text = "Nothing is here. /v1/openapi.json lists what there is.";
            return Err(Problem::new(404, text));
        }
    };
    // What a page's own address says behind `?` is the page's matter.
    match operation.id {
        Id::Page => return Ok(Route::Page("/".to_owned())),
        Id::File => {
            let name = if part.is_empty() { "favicon.svg" } else { part };
            return Ok(Route::Page(name.to_owned()));
        }
        Id::Playground => {
            let deed = request.path().rsplit('/').next().unwrap_or_default();
            return super::playground::Deed::read(deed, request).map(Route::Playground);
        }
        _ => {}
    }
    let mut parameters = Parameters::of(request, operation)?;
    let parameters = &mut parameters;
    Ok(match operation.id {
        Id::Page | Id::File | Id::Playground => Route::Healthy,
        Id::Stream => Route::Stream,
        Id::Events => events(request, parameters)?,
        Id::Quotes => {
            let symbols = symbols(parameters, None)?;
            ask(request, parameters, symbols, Question::Last(0), What::Quotes)?
        }
        Id::Average => figure(request, parameters, Question::Average)?,
        Id::Spread => figure(request, parameters, Question::Spread)?,
        Id::Movers => {
            let count = parameters.parse::<u32>("count")?.unwrap_or(MOVERS_DEFAULT);
            let (from, to) = span(parameters)?;
            figure(request, parameters, Question::Movers { count, from, to })?
        }
        Id::Instruments => {
            let text = parameters.take("symbols")?.unwrap_or("*");
            let (pattern, format) = (pattern(text)?, format(request)?);
            Route::Instruments { pattern, format, wanted: Wanted::of(request, format) }
        }
        Id::Status => {
            Route::Status { format: negotiate(request, &[Format::Json, Format::Ndjson])? }
        }
        Id::OpenApi => Route::OpenApi,
        Id::Metrics => Route::Metrics,
        Id::Healthy => Route::Healthy,
        Id::Ready => Route::Ready,
        Id::Udf => {
            let name = request.path().rsplit('/').next().unwrap_or_default();
            Route::Udf(Udf::read(name, parameters)?)
        }
        Id::Trades | Id::Bars => {
            let symbol = match part {
                "" => parameters
                    .take("symbol")?
                    .ok_or_else(|| Problem::new(400, "The parameter symbol is missing."))?,
                part => part,
            };
            match operation.id {
                Id::Trades => trades(request, parameters, symbol)?,
                _ => bars(request, parameters, symbol)?,
            }
        }
    })
}

fn figure(
    request: &Request,
    parameters: &mut Parameters<'_>,
    question: Question,
) -> Result<Route, Problem> {
    let symbols = symbols(parameters, Some("*"))?;
    ask(request, parameters, symbols, question, What::Figure)
}

/// The formats of rows, as this program was built.
const TABLES: &[Format] = match cfg!(feature = "parquet") {
    true => &[Format::Json, Format::Csv, Format::Ndjson, Format::Parquet],
    false => &[Format::Json, Format::Csv, Format::Ndjson],
};

fn format(request: &Request) -> Result<Format, Problem> {
    negotiate(request, TABLES).map_err(|problem| {
        let is_not_built = !TABLES.contains(&Format::Parquet);
        if !is_not_built || negotiate(request, &[Format::Parquet]).is_err() {
            return problem;
        }
        let text = "This program was built without Parquet: build it with \
                    `cargo build --release --features parquet`, or ask for csv.";
        Problem::new(problem.status, text)
    })
}

fn pattern(text: &str) -> Result<Pattern, Problem> {
    Pattern::new(text, 0).map_err(|error| Problem::new(400, format!("{text:?}: {error}.")))
}

fn symbols(
    parameters: &mut Parameters<'_>,
    default: Option<&str>,
) -> Result<Vec<Pattern>, Problem> {
    let Some(text) = parameters.take("symbols")?.or(default) else {
        let text =
            "The parameter symbols is missing: one symbol or several, as in symbols=PETR4,VALE3.";
        return Err(Problem::new(400, text));
    };
    let symbols = text.split(',').map(pattern).collect::<Result<Vec<_>, _>>()?;
    if symbols.len() > limits::REPORT_SYMBOLS_MAX {
        let text = format!("At most {} symbols are asked at once.", limits::REPORT_SYMBOLS_MAX);
        return Err(Problem::new(400, text));
    }
    Ok(symbols)
}

/// One instrument, by its name in the path.
fn one(symbol: &str) -> Result<Vec<Pattern>, Problem> {
    let pattern = pattern(symbol)?;
    match pattern.is_prefix() || pattern.is_everything() {
        true => Err(Problem::new(400, "This path is about one symbol, without `*`.")),
        false => Ok(vec![pattern]),
    }
}

fn span(parameters: &mut Parameters<'_>) -> Result<(u64, u64), Problem> {
    let from = parameters.parse::<TimeNs>("from")?.map_or(0, |time| time.0);
    let to = parameters.parse::<TimeNs>("to")?.map_or(u64::MAX, |time| time.0);
    match from < to {
        true => Ok((from, to)),
        false => Err(Problem::new(400, "`from` is not before `to`, so nothing lies between them.")),
    }
}

fn rows(parameters: &mut Parameters<'_>) -> Result<Option<u32>, Problem> {
    let last = parameters.parse::<u32>("last")?;
    match last {
        Some(last) if last == 0 || last > limits::REPORT_ROWS_MAX => {
            let text = format!("`last` is 1 to {}.", limits::REPORT_ROWS_MAX);
            Err(Problem::new(400, text))
        }
        last => Ok(last),
    }
}

fn trades(
    request: &Request,
    parameters: &mut Parameters<'_>,
    symbol: &str,
) -> Result<Route, Problem> {
    let symbols = one(symbol)?;
    let (last, (from, to)) = (rows(parameters)?, span(parameters)?);
    let has_span = (from, to) != (0, u64::MAX);
    let question = match last {
        Some(_) if has_span => {
            return Err(Problem::new(400, "`last` does not go with `from` and `to`."));
        }
        Some(last) => Question::Last(last),
        None if has_span => Question::Range { from, to },
        None => Question::Last(TRADES_DEFAULT),
    };
    ask(request, parameters, symbols, question, What::Trades)
}

fn bars(
    request: &Request,
    parameters: &mut Parameters<'_>,
    symbol: &str,
) -> Result<Route, Problem> {
    let symbols = one(symbol)?;
    let interval: BarInterval = match parameters.parse("interval")? {
        Some(interval) => interval,
        None => "1m".parse().map_err(|_| Problem::new(400, "`interval` is missing."))?,
    };
    let (last, (from, to)) = (rows(parameters)?, span(parameters)?);
    let question = Question::Bars { interval, from, to };
    ask(request, parameters, symbols, question, What::Bars { interval, last })
}

fn ask(
    request: &Request,
    parameters: &mut Parameters<'_>,
    symbols: Vec<Pattern>,
    question: Question,
    what: What,
) -> Result<Route, Problem> {
    let deadline = match parameters.take("deadline")? {
        None => limits::GATEWAY_DEADLINE_DEFAULT,
        Some(text) => {
            deadline(text).map_err(|error| Problem::new(400, format!("`deadline`: {error}.")))?
        }
    };
    let partial_allowed = match parameters.take("partial")? {
        None => what != What::Figure,
        Some("allow") => true,
        Some("deny") => false,
        Some(_) => return Err(Problem::new(400, "`partial` is allow or deny.")),
    };
    let format = match what {
        What::Figure => negotiate(request, &[Format::Json])?,
        _ => format(request)?,
    };
    let asked = Asked { symbols, question, partial_allowed, as_of: None, explain: false };
    let wanted = Wanted::of(request, format);
    Ok(Route::Ask(Box::new(Ask { asked, deadline, what, format, wanted, search: None })))
}

fn events(request: &Request, parameters: &mut Parameters<'_>) -> Result<Route, Problem> {
    let bad = |text: String| Problem::new(400, text);
    let list = |text: Option<&str>| -> Option<Vec<String>> {
        Some(text?.split(',').map(str::to_owned).collect())
    };
    let symbols = list(parameters.take("symbols")?).unwrap_or_else(|| vec!["*".to_owned()]);
    let kinds = list(parameters.take("kinds")?).unwrap_or_default();
    let mode = parameters.take("mode")?;
    let mut from = parameters.parse::<Start>("from")?;
    let mut default = wish::JSON_MODE;
    // Who comes back with the last event that it has wants what follows that one.
    if let Some(last) = request.header("last-event-id") {
        let last: Result<Start, _> = last.parse();
        let last = last.map_err(|_| bad("Last-Event-ID is the id of an event.".to_owned()))?;
        from = Some(last.next());
        default = DeliveryMode::Lossless;
    }
    let mode = wish::mode_of(mode, default).map_err(bad)?;
    let wish = wish::wish_of(&symbols, &kinds, mode, from).map_err(bad)?;
    Ok(Route::Events { wish, mode })
}
