//! The watch list. A column that has no room is left out, the least important first, and the head says how many are:
//! no digit of a price is ever cut.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui_core::style::{Modifier, Style};

use super::super::state::Watch;
use super::super::state::list::{Flash, Row, Sort, side};
use super::{Canvas, age_text};
use crate::market::Quantity;
use crate::render::price;
use crate::time::Now;
use crate::wire::{Decimals, FeedStatus, InstrumentId};

const NONE: &str = "-";

/// The columns from left to right; how important each is, 0 most; and how wide it is at least.
const COLUMNS: [(&str, u8, usize); 12] = [
    ("SYMBOL", 0, 8),
    ("LAST", 0, 8),
    ("CHG%", 2, 7),
    ("BID", 0, 8),
    ("ASK", 0, 8),
    ("BIDSZ", 4, 6),
    ("ASKSZ", 4, 6),
    ("VOLUME", 3, 8),
    ("AGE", 1, 9),
    ("SPREAD", 5, 7),
    ("LASTQTY", 6, 8),
    ("MISSING", 7, 7),
];
/// Columns that are aligned to the left.
const LEFT: [usize; 1] = [0];
/// Room for the signs in front.
const SIGNS: usize = 2;
/// Screens from this width on have the columns that few need.
const WIDE: u16 = 100;
const RARE: u8 = 5;

/// A cell of the table: its text and style.
type Shown = (String, Style);

pub(super) fn draw(watch: &Watch, canvas: &mut Canvas<'_>) {
    let lines = watch.list_lines();
    let rows: Vec<(InstrumentId, &Row)> = watch
        .list
        .visible(lines)
        .iter()
        .filter_map(|it| Some((*it, watch.list.row(*it)?)))
        .collect();
    let cells: Vec<Vec<Shown>> =
        rows.iter().map(|(it, row)| cells(watch, *it, row, canvas)).collect();
    let (columns, left_out) = fitting(&cells, canvas.columns());
    let theme = canvas.theme;
    let mut x = SIGNS;
    for (column, width) in &columns {
        let title = COLUMNS[*column].0;
        let text = aligned(*column, title, *width);
        canvas.text(u16::try_from(x).unwrap_or(u16::MAX), 2, &text, theme.bold());
        x += width + 1;
    }
    if left_out > 0 {
        // In front of what the head says of the order.
        let plural = if left_out == 1 { "" } else { "s" };
        let text = format!("{left_out} column{plural} left out, {} ", order(watch));
        canvas.right(1, &text, theme.plain());
    }
    if rows.is_empty() {
        let text = match watch.list.filter.is_empty() {
            true => "no instrument so far; this waits for one".to_owned(),
            false => format!("no instrument has {} in its name; Esc shows all", watch.list.filter),
        };
        canvas.text(2, 4, &text, theme.plain());
    }
    for (y, ((instrument, row), cells)) in (3..).zip(rows.iter().zip(&cells)) {
        let is_selected = watch.list.selected() == Some(*instrument);
        canvas.sign(0, y, if is_selected { '▸' } else { ' ' }, theme.bold());
        if row.has_gap {
            canvas.sign(1, y, '!', theme.warning());
        } else if watch.list.status(row) == FeedStatus::Stale {
            canvas.sign(1, y, '~', theme.stale());
        }
        let mut x = SIGNS;
        for (column, width) in &columns {
            let (text, style) = &cells[*column];
            let text = aligned(*column, text, *width);
            canvas.text(u16::try_from(x).unwrap_or(u16::MAX), y, &text, *style);
            x += width + 1;
        }
        if is_selected {
            canvas.restyle_line(y, theme.selected());
        }
    }
}

/// What the head says of the order.
pub(super) fn order(watch: &Watch) -> String {
    let list = &watch.list;
    if let Some(typed) = &watch.typed {
        return format!("filter: {typed}_");
    }
    let reversed = if list.is_reversed { ", reversed" } else { "" };
    let filter = match list.filter.is_empty() {
        true => String::new(),
        false => format!("{} of {} match {}, ", list.shown_len(), list.len(), list.filter),
    };
    let known = match list.sort {
        Sort::Change | Sort::Volume if list.days_known() < list.len() => {
            format!(" (known of {})", list.days_known())
        }
        _ => String::new(),
    };
    format!("{filter}by {}{reversed}{known}", list.sort.name())
}

fn aligned(column: usize, text: &str, width: usize) -> String {
    match LEFT.contains(&column) {
        true => format!("{text:<width$}"),
        false => format!("{text:>width$}"),
    }
}

/// The columns that fit, each with its width, and how many have no room.
fn fitting(cells: &[Vec<Shown>], columns: u16) -> (Vec<(usize, usize)>, usize) {
    let room = usize::from(columns);
    let width = |column: usize| {
        let (title, _, least) = COLUMNS[column];
        let texts = cells.iter().map(|row| row[column].0.chars().count());
        texts.max().unwrap_or(0).max(title.len()).max(least)
    };
    let mut kept: Vec<(usize, usize)> = (0..COLUMNS.len())
        .filter(|column| columns >= WIDE || COLUMNS[*column].1 < RARE)
        .map(|column| (column, width(column)))
        .collect();
    let wanted = kept.len();
    while SIGNS + kept.iter().map(|(_, width)| width + 1).sum::<usize>() > room + 1 {
        let least = kept.iter().map(|(column, _)| COLUMNS[*column].1).max();
        let Some(least) = least.filter(|least| *least > 0) else { break };
        // Of columns that are as important the last one goes first.
        let Some(at) = kept.iter().rposition(|(it, _)| COLUMNS[*it].1 == least) else { break };
        kept.remove(at);
    }
    let left_out = wanted - kept.len();
    (kept, left_out)
}

fn cells(watch: &Watch, instrument: InstrumentId, row: &Row, canvas: &Canvas<'_>) -> Vec<Shown> {
    let theme = canvas.theme;
    let (list, now) = (&watch.list, watch.now);
    let decimals = list.decimals(instrument);
    let status = list.status(row);
    let base = if status == FeedStatus::Stale { theme.stale() } else { theme.plain() };
    let flashing = |text: String, flash: Option<Flash>| -> Shown {
        let flash = flash.filter(|flash| flash.until > now.mono && status != FeedStatus::Stale);
        match flash.map(|flash| flash.direction) {
            Some(Ordering::Greater) => (text, theme.up().add_modifier(Modifier::BOLD)),
            Some(Ordering::Less) => (text, theme.down().add_modifier(Modifier::BOLD)),
            _ => (text, base),
        }
    };
    let quote = row.quote;
    let shown = |units: Option<i64>| {
        units.and_then(|units| price(units, decimals.price)).unwrap_or_else(|| NONE.to_owned())
    };
    let (bid, ask) =
        (quote.and_then(|it| side(it.bid.get())), quote.and_then(|it| side(it.ask.get())));
    let size = |units: Option<u128>, is_there: bool| match units.filter(|_| is_there) {
        Some(units) => Quantity::new(units, decimals.quantity).to_string(),
        None => NONE.to_owned(),
    };
    // The sign of the last change stays until the next one: who looks away still sees it.
    let arrow = match row.last_flash.map(|flash| flash.direction) {
        Some(Ordering::Greater) => "▲",
        Some(Ordering::Less) => "▼",
        _ => " ",
    };
    let change = row.change_basis_points();
    let change_style = match status {
        FeedStatus::Stale => base,
        _ => theme.of_change(change, base),
    };
    let spread = bid.zip(ask).map(|(bid, ask)| i128::from(ask) - i128::from(bid));
    let spread = spread.map(|units| crate::market::price::decimal(units, decimals.price));
    vec![
        (list.shown(instrument).to_owned(), base),
        flashing(format!("{}{arrow}", shown(row.last())), row.last_flash),
        (change.map_or_else(|| NONE.to_owned(), percent), change_style),
        flashing(shown(bid), row.bid_flash),
        flashing(shown(ask), row.ask_flash),
        (size(quote.map(|it| it.bid_qty.units()), bid.is_some()), base),
        (size(quote.map(|it| it.ask_qty.units()), ask.is_some()), base),
        (volume(row, decimals), if row.is_day_old { theme.stale() } else { base }),
        age(row, status, now, canvas),
        (spread.unwrap_or_else(|| NONE.to_owned()), base),
        (size(row.trade.map(|it| it.qty.get().into()), true), base),
        (missing(row), if row.has_gap { theme.warning() } else { base }),
    ]
}

/// Hundredths of a percent as text, with a sign.
pub(super) fn percent(basis_points: i128) -> String {
    let sign = match basis_points {
        ..0 => "-",
        0 => "",
        _ => "+",
    };
    let size = basis_points.unsigned_abs();
    format!("{sign}{}.{:02}", size / 100, size % 100)
}

/// Of the day; with a question mark where the last answer did not have it.
fn volume(row: &Row, decimals: Decimals) -> String {
    let mark = if row.is_day_old { "?" } else { "" };
    let volume = row.day.map(|day| Quantity::new(day.volume, decimals.quantity));
    volume.map_or_else(|| NONE.to_owned(), |volume| format!("{volume}{mark}"))
}

fn missing(row: &Row) -> String {
    match (row.missed, row.has_gap) {
        (0, false) => NONE.to_owned(),
        (0, true) => "some".to_owned(),
        (missed, _) => missed.to_string(),
    }
}

/// How old the newest of it is, and what that means.
pub(super) fn age(row: &Row, status: FeedStatus, now: Now, canvas: &Canvas<'_>) -> Shown {
    let theme = canvas.theme;
    let age = Duration::from_nanos(now.wall_ns.saturating_sub(row.received_ns()));
    let age = age_text(age);
    match status {
        FeedStatus::Stale => (format!("old {age}"), theme.stale()),
        FeedStatus::Ended => ("ended".to_owned(), theme.plain()),
        FeedStatus::Current if row.is_halted() => ("halted".to_owned(), theme.warning()),
        FeedStatus::Current => (age, theme.plain()),
    }
}
