//! Parts of answers for programs that read them over HTTP: one row, one quote, the nodes. Each is JSON or a line of CSV.

use serde::Serialize;

use super::bar::BarJson;
use super::frame_json::{FrameJson, frame_object};
use super::report::{AskedBarJson, NodeShareJson, QuoteSource, Report, symbols_of};
use super::{NodeShare, json_line, price, side_name};
use crate::market::Quantity;
use crate::market::bar::Bar;
use crate::subscription::Symbols;
use crate::wire::{Cancel, Decimals, Definition, Flags, Frame, Quote, Trade};

#[derive(Serialize)]
struct QuoteRow<'a> {
    quote_source: QuoteSource,
    age_ms: Option<u64>,
    #[serde(flatten)]
    quote: QuoteBody<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum QuoteBody<'a> {
    Known(Box<FrameJson<'a>>),
    Unknown { symbol: &'a str },
}

/// The current quote of a report: the fields of a quote's line, where it comes from, and its age.
#[must_use]
pub fn quote_row_json(report: &Report) -> String {
    let symbols = symbols_of(report);
    let object = report.quote.as_ref().and_then(|frame| frame_object(frame, None, &symbols));
    let quote = match object {
        Some(object) => QuoteBody::Known(Box::new(object)),
        None => QuoteBody::Unknown { symbol: report.symbol.as_str() },
    };
    json_line(&QuoteRow { quote_source: report.quote_source, age_ms: report.age_ms, quote })
}

/// One bar, and whether the question cut it.
#[must_use]
pub fn bar_row_json(bar: &Bar, decimals: Decimals, cut: bool) -> String {
    json_line(&AskedBarJson { bar: BarJson::new(bar, decimals), cut })
}

/// What each node contributed, as a list.
#[must_use]
pub fn nodes_json(nodes: &[NodeShare]) -> String {
    json_line(&nodes.iter().map(NodeShareJson::new).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct InstrumentRow<'a> {
    symbol: &'a str,
    venue: Option<&'a str>,
    decimals: u8,
    qty_decimals: u8,
}

/// One instrument.
#[must_use]
pub fn instrument_row_json(definition: &Definition) -> String {
    let symbol = definition.symbol;
    let Decimals { price: decimals, quantity: qty_decimals } = definition.decimals();
    let venue = venue_of(definition);
    json_line(&InstrumentRow { symbol: symbol.as_str(), venue, decimals, qty_decimals })
}

pub(super) fn venue_of(definition: &Definition) -> Option<&str> {
    let has_venue = definition.flags.get() & Flags::VENUE != 0;
    definition.symbol.as_str().split_once(':').filter(|_| has_venue).map(|(venue, _)| venue)
}

/// The heading of [`quote_row_csv`].
pub const QUOTE_CSV: &str =
    "symbol,quote_source,age_ms,ts_event,ts_recv,seq,bid,bid_qty,ask,ask_qty";
/// The heading of [`trade_row_csv`].
pub const TRADE_CSV: &str = "kind,symbol,ts_event,ts_recv,seq,price,qty,side,trade_id";
/// The heading of [`bar_row_csv`].
pub const BAR_CSV: &str = "symbol,start,open,high,low,close,volume,trades,vwap,cut";
/// The heading of [`instrument_row_csv`].
pub const INSTRUMENT_CSV: &str = "symbol,venue,decimals,qty_decimals";

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn or_empty(text: Option<String>) -> String {
    text.unwrap_or_default()
}

/// The current quote of a report, as a line of CSV. What is not known is empty.
#[must_use]
pub fn quote_row_csv(report: &Report) -> String {
    let symbol = quoted(report.symbol.as_str());
    let source = report.quote_source.name();
    let age = or_empty(report.age_ms.map(|ms| ms.to_string()));
    let Some(quote) = report.quote.as_ref().and_then(Frame::view::<Quote>) else {
        return format!("{symbol},{source},{age},,,,,,,");
    };
    let Decimals { price: decimals, quantity } = report.decimals;
    let side = |units| or_empty(price(units, decimals));
    let size = |units| Quantity::new(units, quantity).to_string();
    format!(
        "{symbol},{source},{age},{},{},{},{},{},{},{}",
        quote.ts_event,
        quote.ts_recv,
        quote.seq,
        side(quote.bid.get()),
        size(quote.bid_qty.units()),
        side(quote.ask.get()),
        size(quote.ask_qty.units()),
    )
}

/// A trade or a cancellation, as a line of CSV; nothing for another frame.
#[must_use]
pub fn trade_row_csv(frame: &Frame, report: &Report) -> Option<String> {
    let Decimals { price: decimals, quantity } = report.decimals;
    let (kind, units, qty, trade_id) = match (frame.view::<Trade>(), frame.view::<Cancel>()) {
        (Some(it), _) => ("trade", it.price.get(), it.qty.get(), it.trade_id.get()),
        (_, Some(it)) => ("cancel", it.price.get(), it.qty.get(), it.trade_id.get()),
        _ => return None,
    };
    let side = side_name(frame.named_flags()).unwrap_or_default();
    Some(format!(
        "{kind},{},{},{},{},{},{},{side},{trade_id}",
        quoted(report.symbol.as_str()),
        frame.ts_event,
        frame.ts_recv,
        frame.seq,
        or_empty(price(units, decimals)),
        Quantity::new(qty.into(), quantity),
    ))
}

/// A bar, as a line of CSV.
#[must_use]
pub fn bar_row_csv(symbol: &str, bar: &Bar, decimals: Decimals, cut: bool) -> String {
    let json = BarJson::new(bar, decimals);
    format!(
        "{},{},{},{},{},{},{},{},{},{cut}",
        quoted(symbol),
        json.start,
        or_empty(json.open),
        or_empty(json.high),
        or_empty(json.low),
        or_empty(json.close),
        Quantity::new(bar.volume, decimals.quantity),
        json.trades,
        or_empty(json.vwap),
    )
}

/// An instrument, as a line of CSV.
#[must_use]
pub fn instrument_row_csv(definition: &Definition) -> String {
    let venue = venue_of(definition).unwrap_or_default();
    let Decimals { price, quantity } = definition.decimals();
    format!("{},{},{price},{quantity}", quoted(definition.symbol.as_str()), quoted(venue))
}

/// A table of one symbol, for rows of a report.
#[must_use]
pub fn symbols_of_report(report: &Report) -> Symbols {
    symbols_of(report)
}
