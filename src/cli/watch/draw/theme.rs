//! The styles. Without colours only the attributes are left.

use ratatui_core::style::{Color, Modifier, Style};

/// Which styles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) struct Theme {
    /// Whether colours are wanted.
    pub(in crate::cli::watch) has_color: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// First and last line.
    pub(super) fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn up(self) -> Style {
        self.color(Color::Green)
    }

    pub(super) fn down(self) -> Style {
        self.color(Color::Red)
    }

    /// Green above zero, red below; `base` for none.
    pub(super) fn of_change(self, change: Option<i128>, base: Style) -> Style {
        match change.unwrap_or(0).signum() {
            1 => self.up(),
            -1 => self.down(),
            _ => base,
        }
    }

    /// Not known to be current.
    pub(super) fn stale(self) -> Style {
        match self.has_color {
            true => Style::new().fg(Color::DarkGray),
            false => Style::new().add_modifier(Modifier::DIM),
        }
    }

    pub(super) fn good(self) -> Style {
        self.color(Color::Green).add_modifier(Modifier::BOLD)
    }

    pub(super) fn warning(self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }
}
