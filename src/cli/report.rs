//! `pregao report`: from a request to text. What is asked, and what an answer says, is in [`crate::report`]. The connection itself is the client library's.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::report_hints;
use crate::client::{Answer, ClientError, QueryClient, Symbols};
use crate::render::{Explained, Report, report_json, reports_table};
use crate::report::{Asked, Refused, refusal_advice};
use crate::wire::EndStatus;

/// What to report on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// The aggregator.
    pub address: SocketAddr,
    /// What is asked.
    pub asked: Asked,
    /// For the whole answer.
    pub deadline: Duration,
    /// How the report is shown.
    pub format: Format,
}

/// Shows the answers in their order and says how it ended: complete, partial, or failed when a
/// symbol has no report at all.
///
/// # Errors
/// When a symbol was refused, after the others are shown; or the output takes no more.
pub fn show(
    answers: &[Result<Report, Refused>],
    format: Format,
    output: &mut Output<impl Write>,
) -> Result<Exit, Failure> {
    let reports = answers.iter().filter_map(|answer| answer.as_ref().ok());
    match format {
        Format::Json => {
            reports.clone().try_for_each(|report| output.line(&report_json(report)))?;
        }
        Format::Table => {
            let reports: Vec<&Report> = reports.clone().collect();
            if !reports.is_empty() {
                output.line(&reports_table(&reports))?;
            }
        }
    }
    output.flush()?;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let refused: Vec<String> =
        refused.map(|refused| format!("{}: {}", refused.asked, refused.reason)).collect();
    if !refused.is_empty() {
        return Err(Failure::failed(refused.join("; ")));
    }
    let complete = reports.into_iter().all(|report| report.complete);
    Ok(if complete { Exit::Complete } else { Exit::Partial })
}

/// Asks the aggregator and shows its answer.
///
/// # Errors
/// When it cannot be reached, refuses, or the output takes no more.
pub fn run(request: &ReportRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::failed(error.to_string());
    let mut query_client =
        QueryClient::open("aggregator", request.address, request.deadline).map_err(failed)?;
    let question = request.asked.question().ok_or_else(|| Failure::usage("too many symbols"))?;
    let answer = query_client.ask_about(question, request.deadline).map_err(failed)?;
    let wall_ns = query_client.clock().now().wall_ns;
    let unknown = report_hints::of_unknown(request, &answer, &mut query_client).map_err(failed)?;
    let exit = request.show_answer(&answer, &unknown, query_client.symbols(), wall_ns, output);
    if exit.is_ok() {
        let empty = request.asked.empty(&answer);
        for sentence in
            report_hints::of_empty(request, &empty, &mut query_client).map_err(failed)?
        {
            log::warn!("{sentence}");
        }
    }
    if request.asked.explain {
        let explained = Explained::of(&answer);
        output.line(&match request.format {
            Format::Json => explained.json(),
            Format::Table => format!("\n{}", explained.table()),
        })?;
        output.flush()?;
    }
    exit
}

impl ReportRequest {
    /// Shows the answer; `unknown` has the symbols and patterns that found nothing, and why.
    fn show_answer(
        &self,
        answer: &Answer,
        unknown: &[(String, String)],
        symbols: &Symbols,
        wall_ns: u64,
        output: &mut Output<impl Write>,
    ) -> Result<Exit, Failure> {
        if let ([(asked, reason)], [_]) = (unknown, self.asked.symbols.as_slice()) {
            return Err(Failure::failed(format!("{asked}: {reason}")));
        }
        // One name may be that of several instruments: then each has a report, as in a list.
        let has_none = answer.status() == EndStatus::Failed || answer.definitions.is_empty();
        if let Some(symbol) = self.asked.only_symbol().filter(|_| has_none)
            && !self.asked.is_figure()
        {
            let report = self.asked.report((symbol, symbol), answer, symbols, wall_ns);
            let advised = |it: Refused| Refused { reason: refusal_advice(answer), ..it };
            let report = report.map_err(advised);
            return show(&[report], self.format, output);
        }
        if answer.status() == EndStatus::Failed {
            return Err(Failure::failed(refusal_advice(answer)));
        }
        if self.asked.is_figure() {
            let figure = self.asked.figure(answer, symbols);
            output.line(&match self.format {
                Format::Json => figure.json(),
                Format::Table => figure.table(),
            })?;
            output.flush()?;
            let complete = answer.status() == EndStatus::Complete;
            return Ok(if complete { Exit::Complete } else { Exit::Partial });
        }
        let refused = unknown
            .iter()
            .map(|(asked, reason)| Err(Refused { asked: asked.clone(), reason: reason.clone() }));
        let reports = self.asked.reports(answer, symbols, wall_ns).into_iter().chain(refused);
        show(&reports.collect::<Vec<_>>(), self.format, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{QuoteSource, Rows, Screen};
    use crate::wire::Decimals;

    fn report(symbol: &str, complete: bool) -> Report {
        Report {
            symbol: symbol.parse().unwrap(),
            shown: symbol.parse().unwrap(),
            full_name: None,
            decimals: Decimals { price: 2, quantity: 0 },
            quote: None,
            quote_source: QuoteSource::None,
            age_ms: None,
            asked: 0..u64::MAX,
            rows: Rows::History(Vec::new()),
            complete,
            nodes: Vec::new(),
        }
    }

    fn shown(answers: &[Result<Report, Refused>]) -> (Result<Exit, Failure>, String) {
        let mut text = Vec::new();
        let mut output = Output::new(&mut text, Screen::NONE);
        let exit = show(answers, Format::Json, &mut output);
        drop(output);
        (exit, String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_worst_answer_decides_the_exit() {
        let whole = || Ok(report("A", true));
        let part = || Ok(report("B", false));
        let none = || Err(Refused { asked: "C".into(), reason: "unknown".into() });
        assert_eq!(shown(&[whole()]).0, Ok(Exit::Complete));
        assert_eq!(shown(&[whole(), part()]).0, Ok(Exit::Partial));
        let (exit, text) = shown(&[none(), whole(), part()]);
        assert_eq!(exit, Err(Failure::failed("C: unknown")));
        assert_eq!(text.lines().count(), 2, "the others are shown");
    }
}
