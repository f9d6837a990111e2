//! Live bars as aligned lines for people, with columns of their own: one a bar, 80 columns, a header once a
//! screenful. A value that is wider than its column widens its line; nothing is cut.

use std::time::Duration;

use anstyle::Style;

use super::lines::{Headers, styled, warning};
use super::{price, rounded};
use crate::client::{LiveBar, Symbols};
use crate::duration;
use crate::market::Quantity;
use crate::market::bar::Bar;
use crate::parse::TimeNs;
use crate::wire::{Decimals, InstrumentId, Symbol};

const SYMBOL_COLUMNS_MIN: usize = 9;
const NONE: &str = "-";

/// Turns live bars into lines.
#[derive(Clone, Debug)]
pub struct BarTable {
    color: bool,
    headers: Headers,
}

/// What stands behind the symbol, in the order of the columns.
type Cells = [String; 6];

impl BarTable {
    /// A table for a terminal of so many lines, or with a single header for a file.
    #[must_use]
    pub fn new(color: bool, screen_lines: Option<u32>) -> BarTable {
        BarTable { color, headers: Headers::new(screen_lines) }
    }

    /// The bar's line, with a header line before it when one is due; without its end. A bar that was shown before, or
    /// that lacks trades, has a line below that says so.
    pub fn line(&mut self, live: &LiveBar, symbols: &Symbols) -> String {
        let decimals = symbols.decimals(live.instrument);
        let symbol = symbols.shown(live.instrument).map_or("?", Symbol::as_str);
        let width = symbols.symbol_columns().max(SYMBOL_COLUMNS_MIN);
        let time = TimeNs(live.bar.start).time_of_day();
        let time = time.get(..8).unwrap_or(&time);
        let remarks = [
            (live.is_revised, "revised: this bar was shown before and has changed"),
            (live.is_incomplete, "incomplete: trades of this bar are missing"),
        ];
        let remarks = remarks.iter().filter(|(is_so, _)| *is_so).map(|(_, text)| *text);
        let style = if live.is_revised || live.is_incomplete { warning() } else { Style::new() };
        let cells = cells(&live.bar, decimals);
        let mut lines = vec![text(time, &length(&live.bar), symbol, width, &cells)];
        lines.extend(remarks.map(|remark| format!("{:13}{remark}", "")));
        let lines = lines.iter().map(|line| styled(self.color, style, line)).collect::<Vec<_>>();
        let lines = lines.join("\n");
        if !self.headers.is_due() {
            return lines;
        }
        let cells = ["OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "VWAP"].map(str::to_owned);
        let header = text("START", "BAR", "SYMBOL", width, &cells);
        format!("{}\n{lines}", styled(self.color, Style::new().bold(), &header))
    }
}

/// Without spaces, as `15m`, so that it fits its column.
fn length(bar: &Bar) -> String {
    duration::show(Duration::from_nanos(bar.interval_ns)).to_string()
}

fn cells(bar: &Bar, Decimals { price: decimals, quantity }: Decimals) -> Cells {
    let shown = |units| price(units, decimals).unwrap_or_else(|| NONE.to_owned());
    let vwap = bar.vwap().map_or_else(|| NONE.to_owned(), |vwap| rounded(vwap, decimals + 1));
    [bar.open, bar.high, bar.low, bar.close]
        .map(shown)
        .into_iter()
        .chain([Quantity::new(bar.volume, quantity).to_string(), vwap])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default()
}

fn text(time: &str, length: &str, symbol: &str, width: usize, cells: &Cells) -> String {
    let [open, high, low, close, volume, vwap] = cells;
    format!(
        "{time:8} {length:3} {symbol:width$} {open:>8} {high:>8} {low:>8} {close:>8} {volume:>9} {vwap:>9}"
    )
}

/// A bar as one sentence, for a feed that mixes bars with other frames.
pub(super) fn bar_sentence(bar: &Bar, instrument: InstrumentId, symbols: &Symbols) -> String {
    let symbol = symbols.shown(instrument).map_or("?", Symbol::as_str);
    let [open, high, low, close, volume, vwap] = cells(bar, symbols.decimals(instrument));
    let length = length(bar);
    format!(
        "{symbol} {length}: open {open}, high {high}, low {low}, close {close}, volume {volume}, vwap {vwap}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::bar::tests::bar_frames;
    use super::super::frame_json::tests::{PETR4, symbols};
    use super::super::lines::COLUMNS;
    use super::*;
    use crate::market::bar::BarAssembler;

    fn live(seconds: u64) -> LiveBar {
        let mut assembler = BarAssembler::default();
        let frames = bar_frames(PETR4.into(), 0);
        let bar = frames.iter().find_map(|frame| assembler.take(frame)).unwrap();
        LiveBar {
            instrument: PETR4.into(),
            bar: Bar { interval_ns: seconds * 1_000_000_000, ..bar },
            is_revised: false,
            is_incomplete: false,
        }
    }

    #[test]
    fn bars_have_columns_of_their_own() {
        let mut table = BarTable::new(false, None);
        let lacking = LiveBar { is_revised: true, is_incomplete: true, ..live(5) };
        let lines = [table.line(&live(60), &symbols()), table.line(&lacking, &symbols())];
        let want = "\
START    BAR SYMBOL        OPEN     HIGH      LOW    CLOSE    VOLUME      VWAP
00:00:00 1m  PETR4        10.00    12.00     9.00    11.00         3    10.667
00:00:00 5s  PETR4        10.00    12.00     9.00    11.00         3    10.667
             revised: this bar was shown before and has changed
             incomplete: trades of this bar are missing";
        assert_eq!(lines.join("\n"), want, "\n{}", lines.join("\n"));
    }

    #[test]
    fn bars_of_two_lengths_of_one_symbol_are_distinguished_in_80_columns() {
        for (seconds, length) in
            [(5, "5s "), (60, "1m "), (90, "90s"), (300, "5m "), (900, "15m"), (86_400, "24h")]
        {
            let text = BarTable::new(false, None).line(&live(seconds), &symbols());
            for line in text.lines() {
                assert!(line.len() <= COLUMNS, "{} columns: {line}", line.len());
            }
            assert!(text.contains(&format!("00:00:00 {length} PETR4 ")), "{text}");
        }
    }

    #[test]
    fn a_bar_among_other_frames_is_a_sentence() {
        let bar = live(60).bar;
        assert_eq!(
            bar_sentence(&bar, PETR4.into(), &symbols()),
            "PETR4 1m: open 10.00, high 12.00, low 9.00, close 11.00, volume 3, vwap 10.667"
        );
    }
}
