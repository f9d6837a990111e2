//! Frames as aligned lines for people: one a frame, 80 columns, a header once a screenful.
//!
//! A value that is wider than its column widens its line; nothing is cut, but a note that finds no
//! room is left out.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};

use super::bar_table::bar_sentence;
use super::column::pieces_text;
use super::lines::{COLUMNS, Headers, styled, warning};
use super::{gap_reason_name, side_name};
use crate::client::Symbols;
use crate::market::bar::Bar;
use crate::parse::TimeNs;
use crate::wire::{
    DataKind, Definition, FeedStatus, Flags, Frame, Gap, Line, LineColor, SnapshotEnd, Symbol,
};

const SYMBOL_COLUMNS_MIN: usize = 12;
const NONE: &str = "-";

/// Turns frames into lines. Keeps count of them for the header.
#[derive(Clone, Debug)]
pub struct FrameTable {
    color: bool,
    headers: Headers,
}

/// One line's cells.
struct Row<'a> {
    time: String,
    kind: Cow<'static, str>,
    symbol: &'a str,
    bid: String,
    ask: String,
    qty: String,
    note: String,
    style: Style,
}

impl FrameTable {
    /// A table for a terminal of so many lines, or with a single header for a file.
    #[must_use]
    pub fn new(color: bool, screen_lines: Option<u32>) -> FrameTable {
        FrameTable { color, headers: Headers::new(screen_lines) }
    }

    /// The frame's line, with a header line before it when one is due; without its end. `None` as
    /// for [`super::frame_json()`], and for definitions, which say nothing that the symbol does not.
    pub fn line(&mut self, frame: &Frame, bar: Option<&Bar>, symbols: &Symbols) -> Option<String> {
        if frame.view::<Definition>().is_some() {
            return None;
        }
        let symbol_columns = symbols.symbol_columns().max(SYMBOL_COLUMNS_MIN);
        let sentence = bar.map(|bar| ("bar", bar_sentence(bar, frame.instrument(), symbols)));
        let line = match sentence.or_else(|| remark(frame, symbols)) {
            Some((kind, remark)) => {
                let time = match DataKind::of(frame) {
                    Some(_) => TimeNs(frame.ts_event.get()).time_of_day(),
                    None => String::new(),
                };
                self.styled(warning(), &format!("{time:12} {kind:<6} {remark}"))
            }
            None => {
                let row = row(frame, symbols)?;
                self.styled(row.style, &row.text(symbol_columns))
            }
        };
        Some(self.below_header(line, symbol_columns))
    }

    /// The line of what one instrument missed of a loss.
    pub fn instrument_gap(&mut self, gap: &Frame, symbol: &Symbol) -> Option<String> {
        let (kind, text) = remark(gap, &Symbols::default())?;
        let line = self.styled(warning(), &format!("{:12} {kind:<6} {symbol}: {text}", ""));
        Some(self.below_header(line, SYMBOL_COLUMNS_MIN))
    }

    /// What is known of the feed from now on, or of that of one exchange.
    pub fn feed_status(&mut self, status: FeedStatus, exchange: Option<&str>) -> String {
        let (kind, text) = match status {
            FeedStatus::Stale => {
                ("stale", "the feed or a link to it is down: not known to be current")
            }
            FeedStatus::Ended => ("ended", "the feed has ended: nothing more comes"),
            FeedStatus::Current => ("current", "the feed is current again"),
        };
        let text = match (exchange, status) {
            (None, _) => text.to_owned(),
            (Some(name), FeedStatus::Stale) => format!("{name} is away: not known to be current"),
            (Some(name), FeedStatus::Ended) => format!("{name} has ended: nothing more comes"),
            (Some(name), FeedStatus::Current) => format!("{name} is current again"),
        };
        let line = self.styled(warning(), &format!("{:12} {kind:<7} {text}", ""));
        self.below_header(line, SYMBOL_COLUMNS_MIN)
    }

    /// A line, with the header before it when one is due.
    fn below_header(&mut self, line: String, symbol_columns: usize) -> String {
        if !self.headers.is_due() {
            return line;
        }
        let header = Row {
            time: "TIME UTC".into(),
            kind: "KIND".into(),
            symbol: "SYMBOL",
            bid: "BID/PRICE".into(),
            ask: "ASK".into(),
            qty: "QTY".into(),
            note: "NOTE".into(),
            style: Style::new().bold(),
        };
        let header = self.styled(header.style, &header.text(symbol_columns));
        format!("{header}\n{line}")
    }

    fn styled(&self, style: Style, text: &str) -> String {
        styled(self.color, style, text)
    }
}

impl Row<'_> {
    fn text(&self, symbol_columns: usize) -> String {
        let line = format!(
            "{:12} {:6} {:symbol_columns$} {:>10} {:>10} {:>11}",
            self.time, self.kind, self.symbol, self.bid, self.ask, self.qty
        );
        // The note takes what is left, in whole words: half a price would be another price.
        let words = self.note.split_whitespace();
        words.fold(line, |line, word| {
            let fits = line.len() + 1 + word.len() <= COLUMNS;
            if fits { format!("{line} {word}") } else { line }
        })
    }
}

/// Frames that are a sentence, not a row.
fn remark(frame: &Frame, symbols: &Symbols) -> Option<(&'static str, String)> {
    if let Some(gap) = frame.view::<Gap>() {
        let reason = gap_reason_name(gap.reason);
        let mut text = format!("seq {} to {} missing: {reason}", gap.from_seq, gap.to_seq);
        if gap.missed.get() != u64::MAX {
            text.push_str(&format!(", {} of ours", gap.missed));
        }
        return Some(("gap", text));
    }
    if let Some(end) = frame.view::<SnapshotEnd>() {
        return Some(("live", format!("from seq {}", end.next_seq)));
    }
    match DataKind::of(frame)?.line {
        Line::Sentence { word, text } => {
            let decimals = symbols.decimals(frame.instrument());
            Some((word, pieces_text(text, frame, decimals, NONE)))
        }
        Line::Hidden | Line::Cells { .. } => None,
    }
}

fn row<'a>(frame: &Frame, symbols: &'a Symbols) -> Option<Row<'a>> {
    let decimals = symbols.decimals(frame.instrument());
    let mut row = Row {
        time: match frame.ts_event.get() {
            0 => NONE.to_owned(),
            ns => TimeNs(ns).time_of_day(),
        },
        kind: Cow::Borrowed(""),
        symbol: symbols.shown(frame.instrument()).map_or("?", Symbol::as_str),
        bid: String::new(),
        ask: String::new(),
        qty: String::new(),
        note: note(frame.flags.get()),
        style: Style::new(),
    };
    let data = DataKind::of(frame)?;
    if let Line::Cells { price, ask, qty, color } = data.line {
        let shown = |pieces| pieces_text(pieces, frame, decimals, NONE);
        row.kind = Cow::Borrowed(data.name);
        (row.bid, row.ask, row.qty) = (shown(price), shown(ask), shown(qty));
        row.style = style(color, frame);
        return Some(row);
    }
    None
}

fn style(color: LineColor, frame: &Frame) -> Style {
    match color {
        LineColor::Stale if frame.has(Flags::STALE) => warning(),
        LineColor::Stale => Style::new(),
        LineColor::Side => match side_name(frame.flags.get()) {
            Some("buy") => AnsiColor::Green.on_default(),
            Some(_) => AnsiColor::Red.on_default(),
            None => Style::new(),
        },
        LineColor::Warning => warning(),
    }
}

/// What a reader has to know about the line before believing it; the most important first, since
/// words at the end may find no room.
fn note(flags: u16) -> String {
    const NOTES: [(u16, &str); 8] = [
        (Flags::STALE, "stale"),
        (Flags::HALTED, "halted"),
        (Flags::GAP_BEFORE, "gap-before"),
        (Flags::BUY, "buy"),
        (Flags::SELL, "sell"),
        (Flags::SNAPSHOT, "snap"),
        (Flags::REPLAY, "replay"),
        (Flags::AFTER_MARKET, "after"),
    ];
    let words = NOTES.iter().filter(|(mask, _)| flags & mask != 0).map(|(_, word)| *word);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::bar::tests::bar_frames;
    use super::super::frame_json::tests::{PETR4, quote, symbols, trade};
    use super::*;
    use crate::market::bar::BarAssembler;
    use crate::wire::{BreakerChange, Cancel, I64, Quote, Size, U32, U64, padded};

    #[test]
    fn each_kind_is_one_aligned_line() {
        let mut table = FrameTable::new(false, None);
        let mut assembler = BarAssembler::default();
        let symbols = symbols();
        let gap = Gap {
            reason: 1,
            from_seq: U64::new(10),
            to_seq: U64::new(20),
            missed: U64::new(4),
            ..Gap::default()
        };
        let change = BreakerChange { to: 1, name: padded("exchange"), ..BreakerChange::default() };
        let end = SnapshotEnd { next_seq: U64::new(44), ..SnapshotEnd::default() };
        let definition = Definition::new(U32::new(1).into(), "X".parse().unwrap(), 2);
        let frames = [
            Frame::seal(definition),
            Frame::seal(quote()),
            Frame::seal(end),
            Frame::seal(trade()),
            Frame::seal(Cancel::default()),
        ];
        let frames = frames.iter().copied().chain(bar_frames(PETR4.into(), 60_000_000_000));
        let lines: Vec<String> = frames
            .chain([Frame::seal(gap), Frame::seal(change)])
            .filter_map(|frame| table.line(&frame, assembler.take(&frame).as_ref(), &symbols))
            .collect();
        let want = "\
TIME UTC     KIND   SYMBOL        BID/PRICE        ASK         QTY NOTE
13:30:00.123 quote  PETR4             32.01          -       300x0 stale snap
             live   from seq 44
13:30:00.123 trade  PETR4            32.015            18446744073709551615 sell
-            cancel ?                  0.00                      0
00:01:00.000 bar    PETR4 1m: open 10.00, high 12.00, low 9.00, close 11.00, volume 3, vwap 10.667
             gap    seq 10 to 20 missing: lapped, 4 of ours
00:00:00.000 break  exchange: closed to open (unknown)";
        assert_eq!(lines.join("\n"), want);
    }

    #[test]
    fn the_longest_usual_symbol_fits_80_columns() {
        let mut symbols = Symbols::default();
        let symbol = "SPY   240621C00500000".parse().unwrap();
        symbols.note(&Frame::seal(Definition::new(PETR4.into(), symbol, 2)));
        let mut table = FrameTable::new(false, None);
        let quote = Quote {
            ask: I64::new(99_999_990_000_000),
            bid_qty: Size::new(99_999),
            ask_qty: Size::new(99_999),
            ..quote()
        };
        let lines = table.line(&Frame::seal(quote), None, &symbols).unwrap();
        for line in lines.lines() {
            assert!(line.len() <= COLUMNS, "{} columns: {line}", line.len());
        }
        assert!(lines.contains("SPY   240621C00500000"));
        assert!(lines.contains("99999.99"));
    }

    #[test]
    fn the_header_returns_once_a_screenful() {
        let mut table = FrameTable::new(false, Some(5));
        let frame = Frame::seal(quote());
        let headers: Vec<bool> = (0..9)
            .map(|_| table.line(&frame, None, &symbols()).unwrap().starts_with("TIME"))
            .collect();
        assert_eq!(headers, [true, false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let line = |color| {
            let mut table = FrameTable::new(color, None);
            table.line(&Frame::seal(trade()), None, &symbols()).unwrap()
        };
        assert!(!line(false).contains('\u{1b}'));
        assert!(line(true).contains("\u{1b}[31m"), "a sale is red");
    }
}
