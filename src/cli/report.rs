//! `pregao report`: from a request to text. The connection itself is not here.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::parse::BarInterval;
use super::render::{Report, report_json, report_table};
use crate::wire::Symbol;

/// What is asked about each symbol, besides its quote. Times are nanoseconds since the epoch,
/// `from` included, `to` not; 0 and `u64::MAX` are open ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The last so many trades.
    Last(u32),
    /// Trades of this time; at most [`crate::limits::REPORT_ROWS_MAX`].
    Range {
        /// First included.
        from: u64,
        /// First excluded.
        to: u64,
    },
    /// Bars of this time.
    Bars {
        /// Their length.
        interval: BarInterval,
        /// First included.
        from: u64,
        /// First excluded.
        to: u64,
    },
}

/// What to report on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// The aggregator.
    pub address: SocketAddr,
    /// At least one.
    pub symbols: Vec<Symbol>,
    /// The same for each.
    pub question: Question,
    /// For the whole answer.
    pub deadline: Duration,
    /// Whether a list may miss a part.
    pub partial_allowed: bool,
    /// How the report is shown.
    pub format: Format,
}

/// A symbol without a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub symbol: Symbol,
    /// Why, and what to do.
    pub reason: String,
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
    for (index, report) in reports.clone().enumerate() {
        match format {
            Format::Json => output.line(&report_json(report))?,
            Format::Table => {
                if index > 0 {
                    output.line("")?;
                }
                output.line(&report_table(report))?;
            }
        }
    }
    output.flush()?;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let refused: Vec<String> =
        refused.map(|refused| format!("{}: {}", refused.symbol, refused.reason)).collect();
    if !refused.is_empty() {
        return Err(Failure::failed(refused.join("; ")));
    }
    let complete = reports.into_iter().all(|report| report.complete);
    Ok(if complete { Exit::Complete } else { Exit::Partial })
}

/// Asks the aggregator and shows its answers.
///
/// # Errors
/// When it cannot be reached, refuses, or the output takes no more.
pub fn run(request: &ReportRequest, output: &mut Output<impl Write>) -> Result<Exit, Failure> {
    let _ = show(&[], request.format, output)?;
    Err(Failure::failed(format!("the question to {} is not wired yet", request.address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Screen;
    use crate::cli::render::{QuoteSource, Rows};

    fn report(symbol: &str, complete: bool) -> Report {
        Report {
            symbol: symbol.parse().unwrap(),
            decimals: 2,
            quote: None,
            quote_source: QuoteSource::None,
            age_ms: None,
            rows: Rows::History(Vec::new()),
            complete,
            nodes: Vec::new(),
        }
    }

    fn shown(answers: &[Result<Report, Refused>]) -> (Result<Exit, Failure>, String) {
        let mut text = Vec::new();
        let mut output = Output::new(&mut text, Screen { color: false, lines: None });
        let exit = show(answers, Format::Json, &mut output);
        drop(output);
        (exit, String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_worst_answer_decides_the_exit() {
        let whole = || Ok(report("A", true));
        let part = || Ok(report("B", false));
        let none = || Err(Refused { symbol: "C".parse().unwrap(), reason: "unknown".into() });
        assert_eq!(shown(&[whole()]).0, Ok(Exit::Complete));
        assert_eq!(shown(&[whole(), part()]).0, Ok(Exit::Partial));
        let (exit, text) = shown(&[none(), whole(), part()]);
        assert_eq!(exit, Err(Failure::failed("C: unknown")));
        assert_eq!(text.lines().count(), 2, "the others are shown");
    }
}
