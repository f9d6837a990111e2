//! Frames and answers as text: JSON lines for programs, tables for people.
//!
//! Nothing here writes, connects or waits. JSON has one object a line; prices are decimal strings,
//! since a JSON number is a float to most readers; times are integer nanoseconds, with a text beside them; what is undefined
//! or unknown is `null`, never left out, so that every line of a kind has the same fields.

mod bar;
mod bar_table;
mod breaker;
mod column;
mod elapsed;
mod explain;
mod figure;
mod frame_json;
mod frame_table;
pub mod health;
mod json;
mod lines;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
mod report;
mod rows;
mod screen;
mod status;
mod venues;
mod wrap;

pub(crate) use breaker::{breaker_header, breaker_line};
pub(crate) use column::Value as ColumnValue;
pub(crate) use json::json_line;

pub use bar_table::BarTable;
pub use breaker::{BreakerReport, breaker_json, take_breakers};
pub use elapsed::elapsed;
pub use explain::Explained;
pub use figure::{Figure, Value};
pub use frame_json::{feed_status_json, frame_json, instrument_gap_json, live_bar_json};
pub use frame_table::FrameTable;
pub use report::{NodeShare, QuoteSource, Report, Rows, report_json, reports_table};
pub use rows::{
    BAR_CSV, INSTRUMENT_CSV, QUOTE_CSV, TRADE_CSV, bar_row_csv, bar_row_json, instrument_row_csv,
    instrument_row_json, nodes_json, quote_row_csv, quote_row_json, symbols_of_report,
    trade_row_csv,
};
pub(crate) use screen::SCREEN_COLUMNS_DEFAULT;
pub use screen::Screen;
pub use status::{Detail, NodeReport, Reachability, breaker_text, status_json, status_table};
pub use venues::Venues;
pub use wrap::wrap;

use crate::breaker::State;
use crate::client::LiveBar;
use crate::market::price::decimal;
use crate::wire::{Flags, GapReason, NodeStatus, PRICE_UNDEFINED};

/// The flags of a data frame as words, lowest bit first.
const FLAG_NAMES: [(u16, &str); 11] = [
    (Flags::LAST, "last"),
    (Flags::GAP_BEFORE, "gap_before"),
    (Flags::BUY, "buy"),
    (Flags::SELL, "sell"),
    (Flags::AFTER_MARKET, "after_market"),
    (Flags::HALTED, "halted"),
    (Flags::VENUE, "venue"),
    (Flags::ENDED, "ended"),
    (Flags::STALE, "stale"),
    (Flags::SNAPSHOT, "snapshot"),
    (Flags::REPLAY, "replay"),
];

pub(super) fn flag_names(flags: u16) -> Vec<&'static str> {
    FLAG_NAMES.iter().filter(|(mask, _)| flags & mask != 0).map(|(_, word)| *word).collect()
}

/// What a reader has to know of a live bar.
fn live_bar_texts(bar: &LiveBar) -> Vec<&'static str> {
    let words = [(bar.is_revised, "revised"), (bar.is_incomplete, "incomplete")];
    words.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect()
}

/// The aggressor's side; `None` when it is unknown, or contradicts itself.
pub(crate) fn side_name(flags: u16) -> Option<&'static str> {
    match (flags & Flags::BUY != 0, flags & Flags::SELL != 0) {
        (true, false) => Some("buy"),
        (false, true) => Some("sell"),
        _ => None,
    }
}

fn gap_reason_name(reason: u8) -> &'static str {
    match GapReason::from_number(reason) {
        Some(GapReason::Lapped) => "lapped",
        Some(GapReason::BeforeRing) => "before_ring",
        Some(GapReason::Skipped) => "skipped",
        Some(GapReason::SourceLost) => "source_lost",
        Some(GapReason::Corrupt) => "corrupt",
        Some(GapReason::Void) => "void",
        None => "unknown",
    }
}

/// A breaker's state by its number in BREAKER frames.
pub(super) fn breaker_state_name(state: u8) -> String {
    State::from_number(state).map_or("unknown".to_owned(), |state| state.to_string())
}

/// Why a breaker changed, by its number in BREAKER frames.
pub(super) fn breaker_reason_name(reason: u8) -> String {
    crate::breaker::Reason::from_number(reason)
        .map_or("unknown".to_owned(), |reason| reason.to_string())
}

/// A price in a frame as exact decimal text; `None` when it is undefined.
pub(crate) fn price(units: i64, decimals: u8) -> Option<String> {
    (units != PRICE_UNDEFINED).then(|| decimal(i128::from(units), decimals))
}

/// For eyes: a computed value with this many decimals, rounded half up. JSON has it exact.
fn rounded(units: i128, decimals: u8) -> String {
    let step = 10_i128.pow(9_u32.saturating_sub(u32::from(decimals)));
    let steps = units.saturating_add(step / 2).div_euclid(step);
    decimal(steps.saturating_mul(step), decimals)
}

/// What became of a node's share, as a name.
#[must_use]
pub fn node_status_name(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Ok => "ok",
        NodeStatus::Pruned => "pruned",
        NodeStatus::Timeout => "timeout",
        NodeStatus::Refused => "refused",
        NodeStatus::BreakerOpen => "breaker-open",
        NodeStatus::Corrupt => "corrupt",
        NodeStatus::Failed => "failed",
        NodeStatus::Spare => "spare",
        NodeStatus::Behind => "behind",
    }
}
