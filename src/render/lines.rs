//! What the tables that grow line by line share: when a header is due, and how a line is coloured.

use anstyle::{AnsiColor, Style};

/// What a line fits into, as long as its values do.
pub(super) const COLUMNS: usize = 80;

/// Says when a header is due: before the first line, and then once a screenful.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    /// Lines from one header to the next; `None` = one header only.
    screen_lines: Option<u32>,
    lines_since_header: Option<u32>,
}

impl Headers {
    /// For a terminal of so many lines, or a single header for a file.
    pub(super) fn new(screen_lines: Option<u32>) -> Headers {
        Headers { screen_lines, lines_since_header: None }
    }

    /// Whether a header stands before the line that comes now. Counts that line.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = match (self.lines_since_header, self.screen_lines) {
            (None, _) => true,
            (Some(lines), Some(screen)) => lines.saturating_add(2) >= screen,
            (Some(_), None) => false,
        };
        self.lines_since_header = match self.lines_since_header {
            Some(lines) if !is_due => Some(lines.saturating_add(1)),
            _ => Some(0),
        };
        is_due
    }
}

/// The style of what a reader must not overlook.
pub(super) fn warning() -> Style {
    AnsiColor::Yellow.on_default()
}

/// A line without spaces at its end, coloured when colours are wanted.
pub(super) fn styled(color: bool, style: Style, text: &str) -> String {
    let text = text.trim_end();
    if color && !style.is_plain() { format!("{style}{text}{style:#}") } else { text.to_owned() }
}
