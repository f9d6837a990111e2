//! Answers as bodies: JSON, lines of JSON, CSV, or Parquet, made piece by piece, so that a long one needs no more memory than its
//! rows have as frames.

#[cfg(feature = "parquet")]
use super::parquet::Table;
use super::routes::{Ask, What};
use crate::client::Answer;
use crate::http::{Format, Problem};
use crate::limits;
use crate::render::{
    BAR_CSV, INSTRUMENT_CSV, NodeShare, QUOTE_CSV, Report, Rows, TRADE_CSV, bar_row_csv,
    bar_row_json, frame_json, instrument_row_csv, instrument_row_json, json_line, nodes_json,
    quote_row_csv, quote_row_json, symbols_of_report, trade_row_csv,
};
use crate::report::{Refused, node_share, refusal_reason};
use crate::subscription::Symbols;
use crate::wire::{DataKind, Definition, EndStatus, ErrorCode, Frame};

/// The rows of an answer.
#[derive(Debug)]
pub(super) enum Source {
    Quotes(Vec<Report>),
    Trades {
        report: Box<Report>,
        symbols: Box<Symbols>,
    },
    Bars {
        report: Box<Report>,
        first: usize,
    },
    Instruments(Vec<Definition>),
    /// All of it stands in the head.
    None,
}

/// One answer that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) status: u16,
    pub(super) format: Format,
    source: Source,
    /// In Parquet, all of it is made here.
    #[cfg(feature = "parquet")]
    table: Option<Box<Table>>,
    head: String,
    tail: String,
    next: usize,
    /// A row was written: the next one stands behind a comma.
    has_rows: bool,
    is_begun: bool,
    is_over: bool,
}

#[derive(serde::Serialize)]
struct LeftOut<'a> {
    symbol: &'a str,
    reason: &'a str,
}

fn left_out_json(refused: &[Refused]) -> String {
    let all = refused.iter().map(|it| LeftOut { symbol: &it.asked, reason: &it.reason });
    json_line(&all.collect::<Vec<_>>())
}

/// The status of an answer that is there.
fn status_of(complete: bool) -> u16 {
    if complete { 200 } else { 206 }
}

/// Why there is no answer, as a problem.
pub(super) fn problem_of(answer: &Answer) -> Problem {
    let status = match answer.code() {
        Some(ErrorCode::UnknownSymbol) => 404,
        Some(ErrorCode::BadPattern | ErrorCode::Limit) => 400,
        Some(ErrorCode::Deadline) => 504,
        Some(
            ErrorCode::Incomplete | ErrorCode::Behind | ErrorCode::NoData | ErrorCode::Stopping,
        ) => 503,
        _ => 502,
    };
    Problem::new(status, refusal_reason(answer))
}

/// What an answer about one instrument says, if it says something. Who is called so in full is meant, whoever else is called
/// so in short.
///
/// # Errors
/// When a short name meant several instruments.
pub(super) fn only_one(ask: &Ask, mut reports: Vec<Report>) -> Result<Option<Report>, Problem> {
    let asked = ask.asked.symbols.first().map(crate::feed::Pattern::text);
    if let Some(place) = reports.iter().position(|it| Some(it.symbol.as_str()) == asked.as_deref())
    {
        return Ok(Some(reports.swap_remove(place)));
    }
    if reports.len() > 1 {
        let names: Vec<String> = reports.iter().map(|it| it.symbol.to_string()).collect();
        let text = format!("Several instruments are called so: {}. Ask for one.", names.join(", "));
        return Err(Problem::new(400, text));
    }
    Ok(reports.pop())
}

impl Writer {
    /// The answer to a question. `now_ns`: the time of ages.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn of(
        ask: &Ask,
        answer: &Answer,
        symbols: &Symbols,
        now_ns: u64,
    ) -> Result<Writer, Problem> {
        if answer.status() == EndStatus::Failed {
            return Err(problem_of(answer));
        }
        let complete = answer.status() == EndStatus::Complete;
        let nodes: Vec<NodeShare> = answer.nodes.iter().map(node_share).collect();
        if let What::Chart(history) = ask.what {
            let reports = ask.asked.reports(answer, symbols, now_ns);
            let report = only_one(ask, reports.into_iter().filter_map(Result::ok).collect())?;
            let (bars, decimals) = match report {
                Some(Report { rows: Rows::Bars(bars), decimals, .. }) => (bars, decimals.quantity),
                _ => (Vec::new(), 0),
            };
            let head = format!("{}\n", history.json(&bars, decimals));
            return Ok(Writer::new(
                status_of(complete),
                Format::Json,
                Source::None,
                head,
                String::new(),
            ));
        }
        if ask.what == What::Figure {
            let head = format!("{}\n", ask.asked.figure(answer, symbols).json());
            let (status, format) = (status_of(complete), Format::Json);
            return Ok(Writer::new(status, format, Source::None, head, String::new()));
        }
        let (mut reports, mut refused) = (Vec::new(), Vec::new());
        for report in ask.asked.reports(answer, symbols, now_ns) {
            match report {
                Ok(report) => reports.push(report),
                Err(one) => refused.push(one),
            }
        }
        let known = |text: &str| {
            let is_it = |name: &str| name == text || name.ends_with(&format!(":{text}"));
            reports.iter().any(|it| is_it(it.symbol.as_str()))
                || refused.iter().any(|it| it.asked == text)
        };
        let unknown: Vec<Refused> = ask
            .asked
            .symbols
            .iter()
            .filter(|it| !it.is_prefix())
            .map(crate::feed::Pattern::text)
            .filter(|text| !known(text))
            .map(|asked| Refused { asked, reason: "no such instrument".to_owned() })
            .collect();
        refused.extend(unknown);
        if reports.is_empty() && !refused.is_empty() {
            let says = refused.iter().map(|it| format!("{}: {}", it.asked, it.reason));
            return Err(Problem::new(404, says.collect::<Vec<_>>().join("; ")));
        }
        let end = End { complete: complete && refused.is_empty(), nodes, refused };
        match ask.what {
            What::Quotes => Writer::quotes(ask.format, reports, &end),
            _ => Writer::rows(ask, reports, &end),
        }
    }

    /// What a chart is answered that asked for what there is not: its format has words for it.
    ///
    /// # Errors
    /// When it is no fault of the question.
    pub(super) fn of_chart_refused(problem: Problem) -> Result<Writer, Problem> {
        if problem.status >= 500 {
            return Err(problem);
        }
        let head = format!("{}\n", super::udf::refused(&problem.detail));
        Ok(Writer::new(200, Format::Json, Source::None, head, String::new()))
    }

    fn quotes(format: Format, mut reports: Vec<Report>, end: &End) -> Result<Writer, Problem> {
        // They are said once, at the end.
        reports.iter_mut().for_each(|report| report.nodes = Vec::new());
        let head = match format {
            Format::Csv => format!("{QUOTE_CSV}\n"),
            Format::Json => "{\"quotes\":[".to_owned(),
            _ => String::new(),
        };
        Writer::of_rows(format, Source::Quotes(reports), head, end)
    }

    /// Trades or bars of one instrument.
    fn rows(ask: &Ask, reports: Vec<Report>, end: &End) -> Result<Writer, Problem> {
        let format = ask.format;
        let report = only_one(ask, reports)?;
        let report = report.ok_or_else(|| Problem::new(404, "The answer is about nothing."))?;
        let symbol = json_line(&report.symbol.as_str());
        let (csv, json, source) = match (&report.rows, ask.what) {
            (Rows::Bars(bars), What::Bars { interval, last }) => {
                let kept =
                    last.map_or(bars.len(), |last| usize::try_from(last).unwrap_or(usize::MAX));
                let first = bars.len().saturating_sub(kept);
                let interval_ns = u64::from(interval.seconds()) * 1_000_000_000;
                let json =
                    format!("{{\"symbol\":{symbol},\"interval_ns\":{interval_ns},\"bars\":[");
                (BAR_CSV, json, Source::Bars { report: Box::new(report), first })
            }
            _ => {
                let symbols = Box::new(symbols_of_report(&report));
                let json = format!("{{\"symbol\":{symbol},\"trades\":[");
                (TRADE_CSV, json, Source::Trades { report: Box::new(report), symbols })
            }
        };
        let head = match format {
            Format::Csv => format!("{csv}\n"),
            Format::Json => json,
            _ => String::new(),
        };
        Writer::of_rows(format, source, head, end)
    }

    /// All instruments that match; `complete`: the feed is there, so none can be missing.
    ///
    /// # Errors
    /// When they cannot be written in this format.
    pub(super) fn instruments(
        format: Format,
        all: Vec<Definition>,
        complete: bool,
    ) -> Result<Writer, Problem> {
        let head = match format {
            Format::Csv => format!("{INSTRUMENT_CSV}\n"),
            Format::Json => "{\"instruments\":[".to_owned(),
            _ => String::new(),
        };
        let end = End { complete, nodes: Vec::new(), refused: Vec::new() };
        Writer::of_rows(format, Source::Instruments(all), head, &end)
    }

    fn of_rows(format: Format, source: Source, head: String, end: &End) -> Result<Writer, Problem> {
        #[cfg(feature = "parquet")]
        let table = match format {
            Format::Parquet => Some(Box::new(Table::new(&source, end)?)),
            _ => None,
        };
        #[cfg_attr(not(feature = "parquet"), allow(unused_mut, reason = "it has no table"))]
        let mut writer = Writer::new(end.status(), format, source, head, end.text(format));
        #[cfg(feature = "parquet")]
        {
            writer.table = table;
        }
        Ok(writer)
    }

    fn new(status: u16, format: Format, source: Source, head: String, tail: String) -> Writer {
        Writer {
            status,
            format,
            source,
            #[cfg(feature = "parquet")]
            table: None,
            head,
            tail,
            next: 0,
            has_rows: false,
            is_begun: false,
            is_over: false,
        }
    }

    /// Whether all of it was written.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Writes the next piece.
    ///
    /// # Errors
    /// When a row cannot be written in this format.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Problem> {
        #[cfg(feature = "parquet")]
        if let Some(mut table) = self.table.take() {
            let is_whole = table.write(&self.source, self.len(), out).map_err(|error| {
                Problem::new(500, format!("This answer cannot be written as Parquet: {error}."))
            })?;
            self.is_over = is_whole;
            self.table = Some(table);
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_begun, true) {
            out.extend_from_slice(self.head.as_bytes());
        }
        for _ in 0..limits::GATEWAY_ROWS_PER_PIECE {
            if self.next >= self.len() {
                if !std::mem::replace(&mut self.is_over, true) {
                    out.extend_from_slice(self.tail.as_bytes());
                }
                return Ok(());
            }
            let row = self.row(self.next);
            self.next += 1;
            let Some(row) = row else { continue };
            if self.format == Format::Json {
                if std::mem::replace(&mut self.has_rows, true) {
                    out.push(b',');
                }
                out.extend_from_slice(row.as_bytes());
            } else {
                out.extend_from_slice(row.as_bytes());
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// Memory that its rows have until all is written.
    pub(super) fn rows_bytes(&self) -> usize {
        match &self.source {
            Source::Quotes(reports) => size_of_val(reports.as_slice()),
            Source::Trades { report, .. } | Source::Bars { report, .. } => match &report.rows {
                Rows::History(frames) => size_of_val(frames.as_slice()),
                Rows::Bars(bars) => size_of_val(bars.as_slice()),
            },
            Source::Instruments(all) => size_of_val(all.as_slice()),
            Source::None => self.head.len(),
        }
    }

    fn len(&self) -> usize {
        match &self.source {
            Source::Quotes(reports) => reports.len(),
            Source::Trades { report, .. } => match &report.rows {
                Rows::History(frames) => frames.len(),
                Rows::Bars(_) => 0,
            },
            Source::Bars { report, first } => match &report.rows {
                Rows::Bars(bars) => bars.len() - first,
                Rows::History(_) => 0,
            },
            Source::Instruments(all) => all.len(),
            Source::None => 0,
        }
    }

    fn row(&self, place: usize) -> Option<String> {
        let is_csv = self.format == Format::Csv;
        match &self.source {
            Source::Quotes(reports) => {
                let report = reports.get(place)?;
                Some(if is_csv { quote_row_csv(report) } else { quote_row_json(report) })
            }
            Source::Trades { report, symbols } => {
                let Rows::History(frames) = &report.rows else { return None };
                let frame: &Frame = frames.get(place)?;
                DataKind::of(frame)?;
                if is_csv { trade_row_csv(frame, report) } else { frame_json(frame, None, symbols) }
            }
            Source::Bars { report, first } => {
                let Rows::Bars(bars) = &report.rows else { return None };
                let bar = bars.get(first + place)?;
                let cut = report.cuts(bar);
                let symbol = report.symbol.as_str();
                Some(match is_csv {
                    true => bar_row_csv(symbol, bar, report.decimals, cut),
                    false => bar_row_json(bar, report.decimals, cut),
                })
            }
            Source::Instruments(all) => {
                let one = all.get(place)?;
                Some(if is_csv { instrument_row_csv(one) } else { instrument_row_json(one) })
            }
            Source::None => None,
        }
    }
}

/// What is said behind the rows.
pub(super) struct End {
    pub(super) complete: bool,
    pub(super) nodes: Vec<NodeShare>,
    refused: Vec<Refused>,
}

impl End {
    fn status(&self) -> u16 {
        status_of(self.complete)
    }

    /// Which symbols have no row, and why.
    #[cfg(feature = "parquet")]
    pub(super) fn left_out(&self) -> String {
        left_out_json(&self.refused)
    }

    fn text(&self, format: Format) -> String {
        let said = format!(
            "\"complete\":{},\"nodes\":{},\"left_out\":{}}}\n",
            self.complete,
            nodes_json(&self.nodes),
            left_out_json(&self.refused)
        );
        match format {
            Format::Csv | Format::Parquet => String::new(),
            Format::Json => format!("],{said}"),
            _ => format!("{{\"kind\":\"end\",{said}"),
        }
    }
}
