//! The terminal: taken over at the start, drawn on, and given back at every end, a panic included.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::style::{Attribute, Color as Shown, Print, SetAttribute, SetColors};
use crossterm::{cursor, queue, style, terminal};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use rustix::termios::tcgetwinsize;

use crate::cli::exit::Failure;

/// Whether the terminal is ours, so that it is given back once.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// What to use where there is no terminal to draw on.
const INSTEAD: &str = "`pregao subscribe` and `pregao status` print lines";

/// The terminal while it is ours.
#[derive(Debug)]
pub(super) struct Terminal {
    stdout: Stdout,
    /// What it shows.
    shown: Buffer,
}

/// Whether standard input and output are a terminal that can be drawn on.
///
/// # Errors
/// When not, with what to use instead.
pub(super) fn check() -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(format!("watch needs a terminal to draw on; {INSTEAD}")));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "watch reads keys, and its input is no terminal; {INSTEAD}"
        )));
    }
    if std::env::var_os("TERM").is_some_and(|name| name == "dumb") {
        return Err(Failure::usage(format!(
            "a terminal of the kind dumb cannot be drawn on; {INSTEAD}"
        )));
    }
    Ok(())
}

/// Columns and lines of the terminal.
pub(super) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (size.ws_col, size.ws_row))
}

impl Terminal {
    /// Takes it over.
    pub(super) fn take(size: (u16, u16)) -> io::Result<Terminal> {
        give_back_on_panic();
        terminal::enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        let shown = Buffer::empty(Rect::new(0, 0, size.0, size.1));
        let mut taken = Terminal { stdout: io::stdout(), shown };
        queue!(taken.stdout, terminal::EnterAlternateScreen, cursor::Hide)?;
        taken.clear(size)?;
        Ok(taken)
    }

    /// Empties it, so that everything is drawn anew.
    pub(super) fn clear(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.shown = Buffer::empty(Rect::new(0, 0, size.0, size.1));
        queue!(
            self.stdout,
            SetAttribute(Attribute::Reset),
            terminal::Clear(terminal::ClearType::All)
        )?;
        self.stdout.flush()
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, next: Buffer) -> io::Result<()> {
        if next.area != self.shown.area {
            self.clear((next.area.width, next.area.height))?;
        }
        let mut bytes = Vec::new();
        write_changes(&mut bytes, &self.shown, &next)?;
        if !bytes.is_empty() {
            self.stdout.write_all(&bytes)?;
            self.stdout.flush()?;
        }
        self.shown = next;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back as it was, if it is ours.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let mut stdout = io::stdout();
        // Who closed the terminal needs nothing of it back.
        let _ = queue!(
            stdout,
            SetAttribute(Attribute::Reset),
            cursor::Show,
            terminal::LeaveAlternateScreen
        );
        let _ = stdout.flush();
        let _ = terminal::disable_raw_mode();
    }
}

/// The message of a panic belongs on the ordinary screen.
fn give_back_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        give_back();
        before(info);
    }));
}

/// Writes the cells that differ.
fn write_changes(out: &mut Vec<u8>, shown: &Buffer, next: &Buffer) -> io::Result<()> {
    let mut place = None;
    let mut style = None;
    for (x, y, cell) in shown.diff(next) {
        if place != Some((x, y)) {
            queue!(out, cursor::MoveTo(x, y))?;
        }
        let wanted = (cell.fg, cell.bg, cell.modifier);
        if style != Some(wanted) {
            set_style(out, cell)?;
            style = Some(wanted);
        }
        queue!(out, Print(cell.symbol()))?;
        // What this program draws is one column wide; of anything else the next cell is sought.
        let is_narrow = cell.symbol().chars().count() == 1;
        place = is_narrow.then_some((x.saturating_add(1), y));
    }
    if style.is_some() {
        queue!(out, SetAttribute(Attribute::Reset))?;
    }
    Ok(())
}

fn set_style(out: &mut Vec<u8>, cell: &Cell) -> io::Result<()> {
    queue!(out, SetAttribute(Attribute::Reset))?;
    let attributes = [
        (Modifier::BOLD, Attribute::Bold),
        (Modifier::DIM, Attribute::Dim),
        (Modifier::UNDERLINED, Attribute::Underlined),
        (Modifier::REVERSED, Attribute::Reverse),
    ];
    for (modifier, attribute) in attributes {
        if cell.modifier.contains(modifier) {
            queue!(out, SetAttribute(attribute))?;
        }
    }
    if (cell.fg, cell.bg) != (Color::Reset, Color::Reset) {
        queue!(out, SetColors(style::Colors::new(shown(cell.fg), shown(cell.bg))))?;
    }
    Ok(())
}

/// The colours that the theme uses: those that every terminal with colours has.
fn shown(color: Color) -> Shown {
    match color {
        Color::Black => Shown::Black,
        Color::Red => Shown::DarkRed,
        Color::Green => Shown::DarkGreen,
        Color::Yellow => Shown::DarkYellow,
        Color::Blue => Shown::DarkBlue,
        Color::Cyan => Shown::DarkCyan,
        Color::Gray => Shown::Grey,
        Color::DarkGray => Shown::DarkGrey,
        Color::White => Shown::White,
        _ => Shown::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui_core::style::Style;

    fn changes(shown: &Buffer, next: &Buffer) -> String {
        let mut bytes = Vec::new();
        write_changes(&mut bytes, shown, next).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_what_has_changed_is_written_and_styles_end() {
        let empty = Buffer::empty(Rect::new(0, 0, 12, 2));
        let mut next = empty.clone();
        next.set_string(2, 1, "41.20", Style::new().add_modifier(Modifier::BOLD));
        let first = changes(&empty, &next);
        assert_eq!(first, "\x1b[2;3H\x1b[0m\x1b[1m41.20\x1b[0m");
        assert_eq!(changes(&next, &next), "", "a screen that stands still costs nothing");
        let mut later = next.clone();
        later.set_string(6, 1, "1", Style::new());
        assert_eq!(changes(&next, &later), "\x1b[2;7H\x1b[0m\x1b[1m1\x1b[0m");
    }

    #[test]
    fn what_a_peer_said_moves_no_cursor() {
        let empty = Buffer::empty(Rect::new(0, 0, 20, 1));
        let mut next = empty.clone();
        next.set_string(0, 0, "a\x1b[2Jb\x07c", Style::new());
        let text = changes(&empty, &next);
        assert!(!text.contains("\x1b[2J") && !text.contains('\x07'), "{text:?}");
    }
}
