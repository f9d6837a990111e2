//! `pregao report`: one symbol's answer as JSON or as tables.

use std::ops::Range;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::bar::BarJson;
use super::frame_json::{FrameJson, frame_object};
use super::{elapsed, json_line, node_status_name, price, rounded, side_name};
use crate::client::Symbols;
use crate::market::Quantity;
use crate::market::bar::Bar;
use crate::parse::TimeNs;
use crate::wire::{
    Decimals, Definition, FeedStatus, Flags, Frame, FullName, NodeAnswer, NodeStatus, Quote, Size,
    Symbol, Trade,
};

/// Where a report's quote comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuoteSource {
    /// Core has a live session with the exchange.
    Live,
    /// The feed has ended: the last value that there is.
    Ended,
    /// The last value known, and its age.
    Stale,
    /// There is none.
    None,
}

impl QuoteSource {
    /// Its word in tables, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            QuoteSource::Live => "live",
            QuoteSource::Ended => "ended",
            QuoteSource::Stale => "stale",
            QuoteSource::None => "none",
        }
    }

    /// Of a quote of which this is known.
    #[must_use]
    pub fn of(status: FeedStatus) -> QuoteSource {
        match status {
            FeedStatus::Current => QuoteSource::Live,
            FeedStatus::Ended => QuoteSource::Ended,
            FeedStatus::Stale => QuoteSource::Stale,
        }
    }
}

/// The rows of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Trades (and what else the query asked for), in order.
    History(Vec<Frame>),
    /// Bars, in order.
    Bars(Vec<Bar>),
}

/// What one node contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeShare {
    /// Its name.
    pub node: String,
    /// What became of its share.
    pub status: NodeStatus,
    /// Rows from it.
    pub rows: u32,
    /// From asking to its last frame.
    pub elapsed_us: u32,
    /// For how many seconds it has not had all that core has; [`NodeAnswer::BEHIND_UNKNOWN`]: not known.
    pub behind_s: u16,
}

impl NodeShare {
    /// What became of it, and how far behind it is.
    #[must_use]
    pub fn what(&self) -> String {
        let name = node_status_name(self.status);
        match (self.status, self.behind_s) {
            (NodeStatus::Behind, NodeAnswer::BEHIND_UNKNOWN) => format!("{name}, unknown"),
            (NodeStatus::Behind, seconds) => format!("{name} {seconds} s"),
            _ => name.to_owned(),
        }
    }
}

/// The answer about one symbol, as the client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// About which instrument.
    pub symbol: Symbol,
    /// Its name for people.
    pub shown: Symbol,
    /// What the symbol stands for, where that is another name.
    pub full_name: Option<FullName>,
    /// Decimals that its prices have at least.
    pub decimals: Decimals,
    /// The current quote, a quote frame.
    pub quote: Option<Frame>,
    /// How current it is.
    pub quote_source: QuoteSource,
    /// Its age; `None` when there is no quote.
    pub age_ms: Option<u64>,
    /// History or bars.
    pub rows: Rows,
    /// Which times were asked for, the first included and the first excluded. A bar that begins before them or ends
    /// behind them has only its trades within.
    pub asked: Range<u64>,
    /// Whether nothing is missing.
    pub complete: bool,
    /// Every node asked, and every one left out on purpose.
    pub nodes: Vec<NodeShare>,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    symbol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<&'a str>,
    quote: Option<FrameJson<'a>>,
    quote_source: QuoteSource,
    age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<FrameJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bars: Option<Vec<AskedBarJson>>,
    complete: bool,
    nodes: Vec<NodeShareJson<'a>>,
}

#[derive(Serialize)]
pub(super) struct AskedBarJson {
    #[serde(flatten)]
    pub(super) bar: BarJson,
    pub(super) cut: bool,
}

impl Report {
    /// Whether only a part of the bar was asked for.
    #[must_use]
    pub fn cuts(&self, bar: &Bar) -> bool {
        let end = bar.start.saturating_add(bar.interval_ns);
        bar.start < self.asked.start || end > self.asked.end
    }
}

#[derive(Serialize)]
pub(super) struct NodeShareJson<'a> {
    node: &'a str,
    status: &'static str,
    rows: u32,
    elapsed_us: u32,
    behind_s: Option<u16>,
}

impl NodeShareJson<'_> {
    pub(super) fn new(share: &NodeShare) -> NodeShareJson<'_> {
        NodeShareJson {
            node: &share.node,
            status: node_status_name(share.status),
            rows: share.rows,
            elapsed_us: share.elapsed_us,
            behind_s: known_behind_s(share.status, share.behind_s),
        }
    }
}

/// How many seconds a node is behind; `None` when it did not answer, or does not know.
pub(super) fn known_behind_s(status: NodeStatus, behind_s: u16) -> Option<u16> {
    let has_answered = matches!(status, NodeStatus::Ok | NodeStatus::Corrupt | NodeStatus::Behind);
    (has_answered && behind_s != NodeAnswer::BEHIND_UNKNOWN).then_some(behind_s)
}

/// A table of one symbol: the instruments of all frames of a report are this one.
pub(super) fn symbols_of(report: &Report) -> Symbols {
    let mut symbols = Symbols::default();
    let rows: &[Frame] = match &report.rows {
        Rows::History(frames) => frames,
        Rows::Bars(_) => &[],
    };
    for frame in report.quote.iter().chain(rows) {
        let instrument = frame.instrument();
        if symbols.symbol(instrument).is_none() {
            let definition = Definition::new(instrument, report.symbol, report.decimals.price)
                .with_quantity_decimals(report.decimals.quantity);
            symbols.note(&Frame::seal(definition));
        }
    }
    symbols
}

/// A report as one line of JSON, without its end.
#[must_use]
pub fn report_json(report: &Report) -> String {
    let symbols = symbols_of(report);
    let object = |frame: &Frame| frame_object(frame, None, &symbols);
    let (history, bars) = match &report.rows {
        Rows::History(frames) => (Some(frames.iter().filter_map(object).collect()), None),
        Rows::Bars(bars) => {
            let asked = |bar| {
                let cut = report.cuts(bar);
                AskedBarJson { bar: BarJson::new(bar, report.decimals), cut }
            };
            (None, Some(bars.iter().map(asked).collect()))
        }
    };
    let nodes = report.nodes.iter().map(NodeShareJson::new);
    json_line(&ReportJson {
        symbol: report.symbol.as_str(),
        full_name: report.full_name.as_ref().map(FullName::as_str),
        quote: report.quote.as_ref().and_then(object),
        quote_source: report.quote_source,
        age_ms: report.age_ms,
        history,
        bars,
        complete: report.complete,
        nodes: nodes.collect(),
    })
}

/// Reports of one answer as text: the quote and the rows of each, and once, below all, the nodes that gave them;
/// without the last line's end.
#[must_use]
pub fn reports_table(reports: &[&Report]) -> String {
    let mut parts: Vec<String> = reports.iter().map(|report| rows_table(report)).collect();
    parts.extend(reports.first().and_then(|report| nodes_table(&report.nodes)));
    if reports.iter().any(|report| !report.complete) {
        parts.push("incomplete: the nodes above say what is missing".to_owned());
    }
    parts.join("\n\n")
}

/// The quote of one report, and its rows.
fn rows_table(report: &Report) -> String {
    let full_name = report.full_name.map(|name| format!("{} is {name}\n", report.shown));
    let quote = format!("{}{}", full_name.unwrap_or_default(), quote_line(report));
    let rows = match &report.rows {
        Rows::History(frames) => history_table(frames, report.decimals),
        Rows::Bars(bars) => bars_table(bars, report),
    };
    rows.map_or(quote.clone(), |rows| format!("{quote}\n\n{rows}"))
}

fn quote_line(report: &Report) -> String {
    let symbol = report.shown;
    let Some(quote) = report.quote.as_ref().and_then(Frame::view::<Quote>) else {
        return format!("{symbol}  no quote");
    };
    let side = |units| price(units, report.decimals.price).unwrap_or_else(|| "-".to_owned());
    let size = |size: Size| Quantity::new(size.units(), report.decimals.quantity);
    let age = |ms: u64| format!(", {} old", elapsed(ms.saturating_mul(1_000)));
    let age = report.age_ms.map_or_else(String::new, age);
    // For people.
    let source = match report.quote_source {
        QuoteSource::Stale => "STALE",
        QuoteSource::None => "unknown",
        source => source.name(),
    };
    let halted = if quote.flags.get() & Flags::HALTED == 0 { "" } else { ", trading halted" };
    format!(
        "{symbol}  bid {} x {}  ask {} x {}  ({source}{halted}{age})",
        side(quote.bid.get()),
        size(quote.bid_qty),
        side(quote.ask.get()),
        size(quote.ask_qty)
    )
}

/// A table whose columns from `first_number` on are numbers.
pub(super) fn table(
    header: &[&str],
    first_number: usize,
    rows: Vec<Vec<String>>,
) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row.into_iter().map(Cell::new));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    Some(lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

fn history_table(frames: &[Frame], decimals: Decimals) -> Option<String> {
    let rows = frames.iter().filter_map(|frame| {
        let trade = frame.view::<Trade>()?;
        Some(vec![
            TimeNs(trade.ts_event.get()).to_string(),
            side_name(trade.flags.get()).unwrap_or("-").to_owned(),
            price(trade.price.get(), decimals.price).unwrap_or_else(|| "-".to_owned()),
            Quantity::new(trade.qty.get().into(), decimals.quantity).to_string(),
            trade.trade_id.to_string(),
            trade.seq.to_string(),
            if frame.has(Flags::GAP_BEFORE) { "gap before".into() } else { String::new() },
        ])
    });
    table(&["TIME", "SIDE", "PRICE", "QTY", "TRADE", "SEQ", ""], 2, rows.collect())
}

fn bars_table(bars: &[Bar], report: &Report) -> Option<String> {
    let Decimals { price: decimals, quantity } = report.decimals;
    let shown = |units| price(units, decimals).unwrap_or_else(|| "-".to_owned());
    let rows = bars.iter().map(|bar| {
        vec![
            TimeNs(bar.start).to_string(),
            shown(bar.open),
            shown(bar.high),
            shown(bar.low),
            shown(bar.close),
            Quantity::new(bar.volume, quantity).to_string(),
            bar.trades.to_string(),
            bar.vwap().map_or_else(|| "-".to_owned(), |vwap| rounded(vwap, decimals + 1)),
            if report.cuts(bar) { CUT.to_owned() } else { String::new() },
        ]
    });
    let header = ["START", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "TRADES", "VWAP", ""];
    let shown = table(&header, 1, rows.collect())?;
    let has_cut = bars.iter().any(|bar| report.cuts(bar));
    let note = "cut: --from or --to lies within the bar, which has only its trades on this side";
    Some(if has_cut { format!("{shown}\n{note}") } else { shown })
}

/// Stands beside a bar of which only a part was asked for.
const CUT: &str = "cut";

pub(super) fn nodes_table(nodes: &[NodeShare]) -> Option<String> {
    let rows = nodes.iter().map(|share| {
        vec![
            share.node.clone(),
            share.what(),
            share.rows.to_string(),
            elapsed(share.elapsed_us.into()),
        ]
    });
    table(&["NODE", "STATUS", "ROWS", "ELAPSED"], 2, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::super::bar::tests::bar_frames;
    use super::super::frame_json::tests::{PETR4, quote, trade};
    use super::*;
    use crate::market::bar::BarAssembler;

    fn report() -> Report {
        Report {
            symbol: "PETR4".parse().unwrap(),
            shown: "PETR4".parse().unwrap(),
            full_name: None,
            decimals: Decimals { price: 2, quantity: 0 },
            quote: Some(Frame::seal(quote())),
            quote_source: QuoteSource::Stale,
            age_ms: Some(1500),
            asked: 0..u64::MAX,
            rows: Rows::History(vec![Frame::seal(trade())]),
            complete: false,
            nodes: vec![
                NodeShare {
                    node: "core".into(),
                    status: NodeStatus::Ok,
                    rows: 1,
                    elapsed_us: 120,
                    behind_s: 0,
                },
                NodeShare {
                    node: "shard-A".into(),
                    status: NodeStatus::BreakerOpen,
                    rows: 0,
                    elapsed_us: 0,
                    behind_s: 0,
                },
                NodeShare {
                    node: "shard-B".into(),
                    status: NodeStatus::Behind,
                    rows: 7,
                    elapsed_us: 80,
                    behind_s: 12,
                },
            ],
        }
    }

    fn bars() -> Rows {
        let mut assembler = BarAssembler::default();
        Rows::Bars(
            bar_frames(PETR4.into(), 60).iter().filter_map(|it| assembler.take(it)).collect(),
        )
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        assert_eq!(
            report_json(&report()),
            r#"{"symbol":"PETR4","quote":{"kind":"quote","symbol":"PETR4","seq":42,"seq_text":"42","instrument_seq":5,"ts_event":1340285400123456789,"ts_event_text":"2012-06-21T13:30:00.123456789Z","ts_recv":1340285400123460000,"ts_recv_text":"2012-06-21T13:30:00.123460000Z","flags":["last","stale","snapshot"],"bid":"32.01","ask":null,"bid_qty":300,"bid_qty_text":"300","ask_qty":0,"ask_qty_text":"0"},"quote_source":"stale","age_ms":1500,"history":[{"kind":"trade","symbol":"PETR4","seq":43,"seq_text":"43","instrument_seq":6,"ts_event":1340285400123456790,"ts_event_text":"2012-06-21T13:30:00.123456790Z","ts_recv":1340285400123460001,"ts_recv_text":"2012-06-21T13:30:00.123460001Z","flags":["last","sell","replay"],"price":"32.015","qty":18446744073709551615,"qty_text":"18446744073709551615","side":"sell","trade_id":77,"trade_id_text":"77"}],"complete":false,"nodes":[{"node":"core","status":"ok","rows":1,"elapsed_us":120,"behind_s":0},{"node":"shard-A","status":"breaker-open","rows":0,"elapsed_us":0,"behind_s":null},{"node":"shard-B","status":"behind","rows":7,"elapsed_us":80,"behind_s":12}]}"#
        );
        let empty = Report {
            quote: None,
            quote_source: QuoteSource::None,
            age_ms: None,
            rows: bars(),
            complete: true,
            nodes: Vec::new(),
            ..report()
        };
        assert_eq!(
            report_json(&empty),
            r#"{"symbol":"PETR4","quote":null,"quote_source":"none","age_ms":null,"bars":[{"start":60,"start_text":"1970-01-01T00:00:00.000000060Z","open":"10.00","high":"12.00","low":"9.00","close":"11.00","volume":3,"volume_text":"3","trades":2,"vwap":"10.666666667","cut":false}],"complete":true,"nodes":[]}"#
        );
    }

    #[test]
    fn the_table_says_what_is_missing() {
        let want = "\
PETR4  bid 32.01 x 300  ask - x 0  (STALE, 1.5 s old)

TIME                            SIDE   PRICE                   QTY  TRADE  SEQ
2012-06-21T13:30:00.123456790Z  sell  32.015  18446744073709551615     77   43

NODE     STATUS        ROWS  ELAPSED
core     ok               1   120 us
shard-A  breaker-open     0     0 us
shard-B  behind 12 s      7    80 us

incomplete: the nodes above say what is missing";
        let got = reports_table(&[&report()]);
        assert_eq!(got, want, "\n{got}");
        let with_bars = Report { rows: bars(), complete: true, ..report() };
        let with_bars = reports_table(&[&with_bars]);
        assert!(with_bars.contains("VWAP"), "{with_bars}");
        assert!(with_bars.contains("10.667"), "{with_bars}");
        assert!(!with_bars.contains("incomplete") && !with_bars.contains("cut"));
        assert!(with_bars.lines().all(|line| line == line.trim_end()), "{with_bars}");
        // The bar is of 60 ns to 60 s and 60 ns.
        let end = 60_000_000_060;
        for (asked, is_cut) in [(60..end, false), (61..u64::MAX, true), (0..end - 1, true)] {
            let report = Report { rows: bars(), asked, ..report() };
            assert_eq!(report_json(&report).contains(r#""cut":true"#), is_cut);
            let text = reports_table(&[&report]);
            assert_eq!(text.contains("cut: --from or --to lies within the bar"), is_cut, "{text}");
            assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        }
    }

    #[test]
    fn a_halted_instrument_says_so_and_its_quote_is_not_stale() {
        let mut report = report();
        let halted = Quote { flags: (Flags::LAST | Flags::HALTED).into(), ..quote() };
        report.quote = Some(Frame::seal(halted));
        report.quote_source = QuoteSource::Live;
        let text = reports_table(&[&report]);
        assert!(
            text.starts_with(
                "PETR4  bid 32.01 x 300  ask - x 0  (live, trading halted, 1.5 s old)"
            ),
            "{text}"
        );
        assert!(report_json(&report).contains(r#""flags":["last","halted"]"#));
    }

    #[test]
    fn the_nodes_of_an_answer_about_many_stand_once_below_all() {
        let whole = Report { complete: true, ..report() };
        let shown = "VALE3".parse().unwrap();
        let other = Report { symbol: "bvmf:VALE3".parse().unwrap(), shown, ..whole.clone() };
        let text = reports_table(&[&whole, &other]);
        let at =
            |text: &str, what: &str| text.find(what).unwrap_or_else(|| panic!("{what}:\n{text}"));
        assert_eq!(text.matches("NODE ").count(), 1, "\n{text}");
        assert!(at(&text, "PETR4  bid") < at(&text, "VALE3  bid"), "\n{text}");
        assert!(at(&text, "VALE3  bid") < at(&text, "NODE "), "\n{text}");
        assert!(!text.contains("incomplete"), "\n{text}");
        let partly = reports_table(&[&whole, &report()]);
        assert!(partly.ends_with("incomplete: the nodes above say what is missing"), "\n{partly}");
    }
}
