//! The keys and the signs.

use ratatui_core::layout::Rect;

use super::Canvas;

const LINES: [&str; 13] = [
    "↑ ↓ j k PgUp PgDn g G  move",
    "Enter                  choose the instrument: bars and tape",
    "/                      filter by a part of the name",
    "s  r                   next order, reverse it",
    "b  B                   next, previous length of the bars",
    "Tab ← → 1 2 3          the other views",
    "Esc                    back, and from the list out",
    "q  Ctrl-C              quit            Ctrl-L  draw anew",
    "",
    "▲▼ last change of a value   ~ stale: last known   ! frames missing",
    "CHG%, VOLUME: of the day in UTC, from history, each 2 s or slower",
    "█ rising bar   ▒ falling bar   ┊ gap   I incomplete   R revised",
    "                        any key goes back",
];
const COLUMNS: u16 = 70;

pub(super) fn draw(canvas: &mut Canvas<'_>) {
    let theme = canvas.theme;
    let lines = u16::try_from(LINES.len()).unwrap_or(u16::MAX);
    let width = COLUMNS.min(canvas.columns());
    let x = canvas.columns().saturating_sub(width) / 2;
    let y = canvas.lines().saturating_sub(lines) / 2;
    canvas.fill(Rect::new(x, y, width, lines), theme.bar());
    for (y, line) in (y..).zip(LINES) {
        canvas.part(x + 1, y, width.saturating_sub(1), line, theme.bar());
    }
}
