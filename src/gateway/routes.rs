//! What a request asks for: from a path and its query to a question. Whatever is wrong with it is a problem object, and
//! nothing of a path reaches a file.

use std::time::Duration;

use super::feed::Wish;
use super::wish;
use crate::feed::Pattern;
use crate::http::{Format, Method, Problem, Request, negotiate};
use crate::limits;
use crate::parse::{BarInterval, DeliveryMode, TimeNs, deadline};
use crate::report::{Asked, Question};
use crate::wire::Seq;

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
}

/// The form of an answer of the aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Quotes,
    Trades,
    Bars { interval: BarInterval, last: Option<u32> },
    Figure,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A WebSocket.
    Stream,
    /// A stream of events.
    Events { wish: Wish, mode: String },
    /// A question for the aggregator.
    Ask(Box<Ask>),
    /// All instruments.
    Instruments { pattern: Pattern, format: Format },
    /// How each node is.
    Status { format: Format },
    /// Figures of all nodes, for a monitoring system.
    Metrics,
    /// Whether this process lives.
    Healthy,
    /// Whether the system can serve.
    Ready,
    /// A file of the page.
    Page(String),
    /// Something breaks on purpose.
    Playground(super::playground::Deed),
}

/// The query of one request. Each name is taken once; what is left over is refused by name.
pub(super) struct Parameters<'a> {
    all: &'a [(String, String)],
    taken: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(request: &'a Request) -> Parameters<'a> {
        Parameters { all: request.query(), taken: vec!["format"] }
    }

    /// The value of a name, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        self.taken.push(name);
        let mut found =
            self.all.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (value, None) => Ok(value),
            _ => Err(Problem::new(400, format!("The parameter {name} stands twice."))),
        }
    }

    /// The same as a value of a type.
    pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let wrong = |error: T::Err| Problem::new(400, format!("The parameter {name}: {error}."));
        self.take(name)?.map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Problem> {
        let unknown = self.all.iter().find(|(name, _)| !self.taken.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(40).collect();
                let known = self.taken.join(", ");
                let text = format!("No parameter {name:?} here; there is {known}.");
                Err(Problem::new(400, text))
            }
        }
    }
}

/// Where a request leads.
///
/// # Errors
/// What is wrong with it.
pub(super) fn route(request: &Request) -> Result<Route, Problem> {
    let path = request.path();
    let is_read = matches!(request.method(), Method::Get | Method::Head);
    if let Some(deed) = path.strip_prefix("/v1/playground/") {
        return super::playground::Deed::read(deed, request).map(Route::Playground);
    }
    if !is_read {
        return Err(Problem::new(405, "This path takes GET and HEAD."));
    }
    let mut parameters = Parameters::of(request);
    let route = match path {
        "/" | "/favicon.ico" => Route::Page(path.to_owned()),
        "/v1/stream" => Route::Stream,
        "/v1/events" => events(request, &mut parameters)?,
        "/v1/quotes" => {
            let symbols = symbols(&mut parameters, None)?;
            ask(request, &mut parameters, symbols, Question::Last(0), What::Quotes)?
        }
        "/v1/figures/average" | "/v1/figures/spread" | "/v1/figures/movers" => {
            let symbols = symbols(&mut parameters, Some("*"))?;
            let question = match path {
                "/v1/figures/average" => Question::Average,
                "/v1/figures/spread" => Question::Spread,
                _ => {
                    let count = parameters.parse::<u32>("count")?.unwrap_or(MOVERS_DEFAULT);
                    let (from, to) = span(&mut parameters)?;
                    Question::Movers { count, from, to }
                }
            };
            ask(request, &mut parameters, symbols, question, What::Figure)?
        }
        "/v1/instruments" => {
            let text = parameters.take("symbols")?.unwrap_or("*");
            Route::Instruments { pattern: pattern(text)?, format: format(request)? }
        }
        "/v1/status" => {
            Route::Status { format: negotiate(request, &[Format::Json, Format::Ndjson])? }
        }
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Healthy,
        "/readyz" => Route::Ready,
        _ => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "page", name] => Route::Page((*name).to_owned()),
            ["", "v1", "trades", symbol] => trades(request, &mut parameters, symbol)?,
            ["", "v1", "bars", symbol] => bars(request, &mut parameters, symbol)?,
            _ => return Err(Problem::new(404, "Nothing is here.")),
        },
    };
    // What a page's own address says behind `?` is the page's matter.
    if !matches!(route, Route::Page(_)) {
        parameters.end()?;
    }
    Ok(route)
}

fn format(request: &Request) -> Result<Format, Problem> {
    negotiate(request, &[Format::Json, Format::Csv, Format::Ndjson])
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
    Ok(Route::Ask(Box::new(Ask { asked, deadline, what, format })))
}

fn events(request: &Request, parameters: &mut Parameters<'_>) -> Result<Route, Problem> {
    let bad = |text: String| Problem::new(400, text);
    let list = |text: Option<&str>| -> Option<Vec<String>> {
        Some(text?.split(',').map(str::to_owned).collect())
    };
    let symbols = list(parameters.take("symbols")?).unwrap_or_else(|| vec!["*".to_owned()]);
    let kinds = list(parameters.take("kinds")?).unwrap_or_default();
    let mode = parameters.take("mode")?;
    let mut from = parameters.parse::<u64>("from")?;
    let mut default = wish::JSON_MODE;
    // Who comes back with the last event that it has wants what follows that one.
    if let Some(last) = request.header("last-event-id") {
        let last: Option<Seq> = last.parse().ok().and_then(Seq::new);
        let last = last.ok_or_else(|| bad("Last-Event-ID is the id of an event.".to_owned()))?;
        from = Some(last.next().get());
        default = DeliveryMode::Lossless;
    }
    let mode = wish::mode_of(mode, default).map_err(bad)?;
    let wish = wish::wish_of(&symbols, &kinds, mode, from).map_err(bad)?;
    Ok(Route::Events { wish, mode: wish::mode_text(mode) })
}
