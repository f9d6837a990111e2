//! Candles in cells: a column each, the newest at the right, one place for each length of a bar. Where no trade was,
//! there is no candle. Below stands what has to be known of a bar.

use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::super::state::chosen::{Candle, Chosen};
use super::Canvas;
use crate::parse::TimeNs;
use crate::render::price;
use crate::wire::Decimals;

const NS_PER_S: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u32 = 86_400;

/// The prices of the chart from top to bottom.
#[derive(Clone, Copy, Debug)]
struct Scale {
    high: i64,
    low: i64,
    /// Lines of cells.
    lines: u16,
}

impl Scale {
    /// The line of a price, 0 at the top.
    fn line(self, price: i64) -> u16 {
        let steps = i128::from(self.lines.saturating_sub(1));
        let span = i128::from(self.high) - i128::from(self.low);
        if span <= 0 {
            return self.lines / 2;
        }
        let below = (i128::from(self.high) - i128::from(price)).clamp(0, span);
        // Rounded to the nearest line.
        u16::try_from((below * steps * 2 + span) / (span * 2)).unwrap_or(u16::MAX)
    }
}

pub(super) fn draw(chosen: &Chosen, decimals: Decimals, area: Rect, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let Some((newest, _)) = chosen.candles.last_key_value() else {
        canvas.part(area.x + 1, area.y + 1, area.width, "no bar so far", theme.stale());
        return;
    };
    // Two lines below: marks, and times.
    if area.height < 4 {
        return;
    }
    let interval_ns = u64::from(chosen.seconds.max(1)) * NS_PER_S;
    let shown = |units: i64| price(units, decimals.price).unwrap_or_default();
    // The axis is as wide as the prices of all bars need, and that decides which bars are shown.
    let all = chosen.candles.values().flat_map(|it| [it.bar.high, it.bar.low]);
    let axis = all.map(|units| shown(units).len()).max().unwrap_or(0);
    let axis = u16::try_from(axis).unwrap_or(u16::MAX).saturating_add(2);
    let places = area.width.saturating_sub(axis.saturating_add(1));
    if places == 0 {
        return;
    }
    let first = newest.saturating_sub(interval_ns.saturating_mul(u64::from(places) - 1));
    let visible: Vec<(u16, &Candle)> = chosen
        .candles
        .range(first..)
        .filter_map(|(start, candle)| {
            let place = u16::try_from((newest - start) / interval_ns).ok()?;
            Some((area.x + 1 + places.checked_sub(place + 1)?, candle))
        })
        .collect();
    let high = visible.iter().map(|(_, it)| it.bar.high).max().unwrap_or(0);
    let low = visible.iter().map(|(_, it)| it.bar.low).min().unwrap_or(0);
    let scale = Scale { high, low, lines: area.height - 2 };
    let marks_y = area.y + scale.lines;
    for (x, candle) in &visible {
        one(*x, candle, scale, area, canvas);
        let mark = match (candle.is_incomplete, candle.is_revised) {
            (true, true) => '*',
            (true, false) => 'I',
            (false, true) => 'R',
            (false, false) => continue,
        };
        canvas.sign(*x, marks_y, mark, theme.warning());
    }
    let axis_x = area.x + 1 + places;
    let last = visible.last().map_or(low, |(_, candle)| candle.bar.close);
    let labels = [(high, theme.stale()), (low, theme.stale()), (last, theme.bold())];
    for (units, style) in labels {
        let y = area.y + scale.line(units);
        let text = format!("{:<width$}", shown(units), width = usize::from(axis) - 1);
        canvas.part(axis_x + 1, y, axis - 1, &text, style);
    }
    let time = |start: u64| {
        let time = TimeNs(start);
        if chosen.seconds >= SECONDS_PER_DAY { time.to_string() } else { time.time_of_day() }
    };
    let cut = |text: String, seconds: u32| {
        let columns = match seconds {
            SECONDS_PER_DAY.. => 10,
            60.. => 5,
            _ => 8,
        };
        text.get(..columns).map_or(text.clone(), str::to_owned)
    };
    let newest_time = cut(time(*newest), chosen.seconds);
    let y = marks_y + 1;
    let width = u16::try_from(newest_time.len()).unwrap_or(0);
    let newest_x = (area.x + 1 + places).saturating_sub(width);
    if let Some((x, candle)) = visible.first().filter(|(x, _)| x + width < newest_x) {
        canvas.text(*x, y, &cut(time(candle.bar.start), chosen.seconds), theme.stale());
    }
    canvas.text(newest_x, y, &newest_time, theme.stale());
}

fn one(x: u16, candle: &Candle, scale: Scale, area: Rect, canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let bar = candle.bar;
    if candle.has_gap {
        for y in area.y..area.y + scale.lines {
            canvas.sign(x, y, '┊', theme.warning());
        }
    }
    let (style, body): (Style, char) = match bar.close.cmp(&bar.open) {
        std::cmp::Ordering::Less => (theme.down(), '▒'),
        std::cmp::Ordering::Equal => (theme.plain(), '━'),
        std::cmp::Ordering::Greater => (theme.up(), '█'),
    };
    for line in scale.line(bar.high)..=scale.line(bar.low) {
        canvas.sign(x, area.y + line, '│', style);
    }
    let (top, bottom) = (bar.open.max(bar.close), bar.open.min(bar.close));
    for line in scale.line(top)..=scale.line(bottom) {
        canvas.sign(x, area.y + line, body, style);
    }
}
