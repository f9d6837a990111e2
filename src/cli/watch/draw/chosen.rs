//! The chosen instrument: its quote, its bars as candles, and its tape.

use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::super::state::Watch;
use super::super::state::chosen::{Chosen, HistoryState, TapeLine};
use super::super::state::list::side;
use super::list::{age, percent};
use super::{Canvas, chart};
use crate::duration;
use crate::market::Quantity;
use crate::market::price::decimal;
use crate::parse::TimeNs;
use crate::render::{price, side_name};
use crate::wire::{Decimals, FeedStatus};
use std::time::Duration;

/// Columns of the tape.
const TAPE_COLUMNS: u16 = 29;
const NONE: &str = "-";

pub(super) fn draw(watch: &Watch, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let Some(chosen) = &watch.chosen else {
        canvas.text(2, 3, "no instrument is chosen; choose one in the list", theme.plain());
        return;
    };
    let decimals = watch.list.decimals(chosen.instrument);
    quote_line(watch, chosen, decimals, canvas);
    let (columns, lines) = (canvas.columns(), canvas.lines());
    let below = lines.saturating_sub(2);
    let tape_x = columns.saturating_sub(TAPE_COLUMNS);
    bars_line(chosen, tape_x, canvas);
    let area = Rect::new(0, 4, tape_x.saturating_sub(1), below.saturating_sub(4));
    chart::draw(chosen, decimals, area, canvas);
    for y in 3..below {
        canvas.sign(tape_x.saturating_sub(1), y, '│', theme.stale());
    }
    tape(chosen, decimals, Rect::new(tape_x, 3, TAPE_COLUMNS, below.saturating_sub(3)), canvas);
}

fn quote_line(watch: &Watch, chosen: &Chosen, decimals: Decimals, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let Some(row) = watch.list.row(chosen.instrument) else { return };
    let status = watch.list.status(row);
    let base = if status == FeedStatus::Stale { theme.stale() } else { theme.plain() };
    let shown = |units: Option<i64>| {
        units.and_then(|it| price(it, decimals.price)).unwrap_or_else(|| NONE.to_owned())
    };
    let size = |units: u128| Quantity::new(units, decimals.quantity).to_string();
    let quote = row.quote;
    let bid = quote.and_then(|it| Some((side(it.bid.get())?, it.bid_qty.units())));
    let ask = quote.and_then(|it| Some((side(it.ask.get())?, it.ask_qty.units())));
    let of_side = |side: Option<(i64, u128)>| match side {
        Some((price, units)) => format!("{} x {}", shown(Some(price)), size(units)),
        None => NONE.to_owned(),
    };
    let change = row.change().zip(row.change_basis_points()).map(|(units, points)| {
        let sign = if units > 0 { "+" } else { "" };
        let sign_of_change = match units {
            1.. => '▲',
            ..0 => '▼',
            0 => ' ',
        };
        let units = decimal(units, decimals.price);
        (format!("{sign_of_change}{sign}{units} ({}%)", percent(points)), points)
    });
    let style = match status {
        FeedStatus::Stale => base,
        _ => theme.of_change(change.as_ref().map(|(_, points)| *points), base),
    };
    let x = canvas.text(1, 2, &shown(row.last()), base.patch(theme.bold()));
    let x = match &change {
        Some((text, _)) => canvas.text(x + 1, 2, text, style),
        None => x,
    };
    let x = canvas.text(x + 2, 2, &format!("bid {}", of_side(bid)), base);
    let x = canvas.text(x + 2, 2, &format!("ask {}", of_side(ask)), base);
    let (age, age_style) = age(row, status, watch.now, canvas);
    let volume = row.day.map(|day| size(day.volume)).unwrap_or_else(|| NONE.to_owned());
    let volume = format!("vol {volume}");
    let age_columns = u16::try_from(age.chars().count()).unwrap_or(u16::MAX).saturating_add(1);
    let volume_columns = u16::try_from(volume.len()).unwrap_or(u16::MAX);
    if x.saturating_add(volume_columns + age_columns + 4) < canvas.columns() {
        canvas.text(x + 2, 2, &volume, base);
    }
    canvas.right(2, &format!(" {age} "), age_style);
}

/// What the bars are and what is missing of them.
fn bars_line(chosen: &Chosen, width: u16, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let length = duration::show(Duration::from_secs(chosen.seconds.into())).to_string();
    let count = chosen.candles.len();
    let (state, style) = match &chosen.history {
        HistoryState::Waiting => ("history: asked".to_owned(), theme.warning()),
        HistoryState::Complete => (String::new(), theme.plain()),
        HistoryState::Partial(parts) => {
            (format!("PARTIAL without {}", parts.join(", ")), theme.bad())
        }
        HistoryState::Away(_) => ("NO HISTORY".to_owned(), theme.bad()),
    };
    let marked = |is_so: fn(&super::super::state::chosen::Candle) -> bool, name: &str| {
        let count = chosen.candles.values().filter(|it| is_so(it)).count();
        (count > 0).then(|| format!(", {count} {name}"))
    };
    let mut text = format!("{length} bars: {count}");
    text.extend(marked(|it| it.is_incomplete, "incomplete (I)"));
    text.extend(marked(|it| it.is_revised, "revised (R)"));
    text.extend(marked(|it| it.has_gap, "with gaps (┊)"));
    let x = canvas.cut(1, 3, width.saturating_sub(2), &text, theme.bold());
    if x + 2 < width {
        canvas.cut(x + 2, 3, width.saturating_sub(x + 3), &state, style);
    }
}

fn tape(chosen: &Chosen, decimals: Decimals, area: Rect, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    canvas.part(area.x + 1, area.y, area.width - 1, "TIME         PRICE      QTY", theme.bold());
    if chosen.tape.is_empty() {
        canvas.part(area.x + 1, area.y + 1, area.width - 1, "no trade so far", theme.stale());
    }
    for (y, line) in (area.y + 1..area.bottom()).zip(&chosen.tape) {
        let (text, style): (String, Style) = match line {
            TapeLine::Trade { trade, is_cancelled } => {
                let time = TimeNs(trade.ts_event.get()).time_of_day();
                let time = time.get(..8).unwrap_or(&time).to_owned();
                let units = trade.price.get();
                let price = price(units, decimals.price).unwrap_or_else(|| NONE.to_owned());
                let qty = Quantity::new(trade.qty.get().into(), decimals.quantity).to_string();
                let (sign, style) = match (is_cancelled, side_name(trade.flags.get())) {
                    (true, _) => ("x", theme.stale()),
                    (false, Some("buy")) => ("B", theme.up()),
                    (false, Some(_)) => ("S", theme.down()),
                    (false, None) => (" ", theme.plain()),
                };
                // A number that is wider than its column takes the place of the blanks beside it.
                let room = usize::from(area.width).saturating_sub(12);
                let numbers = format!("{price:>8} {qty:>8}");
                let numbers = match numbers.chars().count() <= room {
                    true => format!("{numbers:>room$}"),
                    false => format!("{price} {qty}"),
                };
                (format!("{time} {numbers} {sign}"), style)
            }
            TapeLine::Gap { missed, reason } => {
                let missed = missed.map_or("some".to_owned(), |missed| missed.to_string());
                (format!("── {missed} missing: {reason} ──"), theme.warning())
            }
        };
        canvas.cut(area.x + 1, y, area.width.saturating_sub(1), &text, style);
    }
}
