//! What a report says beside its rows where there are none: which instruments there are, and from when to when their
//! history is.

use std::time::Duration;

use super::report::ReportRequest;
use super::suggest::suggestion;
use crate::client::{Answer, ClientError, QueryClient};
use crate::parse::TimeNs;
use crate::question;
use crate::report::Question;
use crate::wire::{
    Counted, Definition, EndStatus, ErrorCode, Frame, Names, Op, Query, Symbol, U64, padded,
};

/// How many instruments without rows are named one by one.
const NAMED_MAX: usize = 5;

/// Which of the symbols and patterns asked about found nothing, though all that could have them answered.
fn without_instrument(request: &ReportRequest, answer: &Answer) -> Vec<String> {
    let is_unknown = answer.code() == Some(ErrorCode::UnknownSymbol);
    if answer.status() != EndStatus::Complete && !is_unknown {
        return Vec::new();
    }
    let definitions = answer.definitions.iter().filter_map(Frame::view::<Definition>);
    let known: Vec<Names> = definitions.map(Definition::names).collect();
    let asked = request.asked.symbols.iter();
    let missing = asked.filter(|pattern| !known.iter().any(|names| pattern.means(names)));
    missing.map(|pattern| pattern.text()).collect()
}

/// For each symbol or pattern that found no instrument: that, and what may have been meant.
///
/// # Errors
/// When the connection breaks meanwhile.
pub(super) fn of_unknown(
    request: &ReportRequest,
    answer: &Answer,
    query_client: &mut QueryClient,
) -> Result<Vec<(String, String)>, ClientError> {
    let missing = without_instrument(request, answer);
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let all = Query { op: Op::Instruments as u8, symbol: padded("*"), ..Query::default() };
    let known = ask(query_client, &all, ["*".to_owned()], request.deadline)?;
    let definitions = known.definitions.iter().filter_map(Frame::view::<Definition>);
    let known: Vec<Names> = definitions.map(Definition::names).collect();
    let told = |asked: String| {
        // Known to the shards, and core has no quote of it: no fault of the name.
        let is_known = known.iter().flat_map(Names::iter).any(|name| name.as_str() == asked);
        let reason = match suggestion(&asked, &known) {
            _ if known.is_empty() => "no instrument is known yet; see `pregao status`".to_owned(),
            Some(instead) if asked.ends_with('*') => format!("no instrument matches; {instead}"),
            Some(instead) => format!("no such instrument; {instead}"),
            None => "no such instrument".to_owned(),
        };
        (!is_known).then_some((asked, reason))
    };
    Ok(missing.into_iter().filter_map(told).collect())
}

/// A sentence about each instrument whose history has nothing in the time asked for.
///
/// # Errors
/// When the connection breaks meanwhile.
pub(super) fn of_empty(
    request: &ReportRequest,
    empty: &[Symbol],
    query_client: &mut QueryClient,
) -> Result<Vec<String>, ClientError> {
    let (rows, is_bounded) = match request.asked.question {
        Question::Range { .. } => ("trades", true),
        Question::Bars { from, to, .. } => ("trades", from > 0 || to < u64::MAX),
        Question::Last(rows) if rows > 0 => ("trades", request.asked.as_of.is_some()),
        _ => return Ok(Vec::new()),
    };
    let shown = &empty[..empty.len().min(NAMED_MAX)];
    let Some(first) = shown.first() else { return Ok(Vec::new()) };
    let count = Query {
        op: Op::Count as u8,
        options: Query::PARTIAL,
        symbol: padded(first.as_str()),
        to: U64::new(u64::MAX),
        ..Query::default()
    };
    let names = shown.iter().map(|symbol| symbol.as_str().to_owned());
    let counted = ask(query_client, &count, names, request.deadline)?;
    let of = |symbol: &Symbol| {
        let symbols = query_client.symbols();
        let is_its_own =
            |counted: &&Counted| symbols.symbol(counted.instrument.into()) == Some(symbol);
        let found = counted.counted.iter().find(is_its_own);
        let asked = if is_bounded { " in what was asked for" } else { "" };
        match found {
            Some(counted) if counted.trades.get() > 0 => format!(
                "no {rows} of {symbol}{asked}; its history is {} to {}",
                TimeNs(counted.first.get()),
                TimeNs(counted.last.get())
            ),
            _ => format!("no {rows} of {symbol} so far"),
        }
    };
    let mut sentences: Vec<String> = shown.iter().map(of).collect();
    if empty.len() > shown.len() {
        sentences.push(format!("and no {rows} of {} others", empty.len() - shown.len()));
    }
    Ok(sentences)
}

fn ask(
    query_client: &mut QueryClient,
    query: &Query,
    symbols: impl IntoIterator<Item = String>,
    deadline: Duration,
) -> Result<Answer, ClientError> {
    let fields = symbols.into_iter().map(|symbol| padded(&symbol));
    match question::Question::new(query).ok().and_then(|question| question.about(fields)) {
        Some(question) => query_client.ask_about(question, deadline),
        None => Ok(Answer::default()),
    }
}
