//! What an output can show.

/// Columns where nobody says how many there are.
pub(crate) const SCREEN_COLUMNS_DEFAULT: u32 = 80;

/// What the output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Whether colours are wanted.
    pub color: bool,
    /// Lines of the terminal; `None` = no terminal.
    pub lines: Option<u32>,
    /// Columns of the terminal; `None` = no terminal.
    pub columns: Option<u32>,
}

impl Screen {
    /// No terminal: a file or a pipe.
    pub const NONE: Screen = Screen { color: false, lines: None, columns: None };

    /// How wide a text should be: as wide as the terminal, and as most terminals are where there is none.
    #[must_use]
    pub fn width(&self) -> usize {
        usize::try_from(self.columns.unwrap_or(SCREEN_COLUMNS_DEFAULT)).unwrap_or(usize::MAX)
    }
}
