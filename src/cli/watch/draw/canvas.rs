//! Text on a buffer. What does not fit is cut at the edge, and nothing is ever drawn outside.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::Theme;

/// A buffer and its styles.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    pub(super) theme: Theme,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, theme: Theme) -> Canvas<'a> {
        Canvas { buffer, theme }
    }

    pub(super) fn columns(&self) -> u16 {
        self.buffer.area.width
    }

    pub(super) fn lines(&self) -> u16 {
        self.buffer.area.height
    }

    /// Writes a text from here on; the column behind it.
    pub(super) fn text(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        self.part(x, y, self.columns(), text, style)
    }

    /// The same in so many columns at most.
    pub(super) fn part(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        if x >= self.columns() || y >= self.lines() {
            return x;
        }
        self.buffer.set_stringn(x, y, text, usize::from(width), style).0
    }

    /// The same, with a sign where the text was cut.
    pub(super) fn cut(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let columns = text.chars().count();
        if columns <= usize::from(width) {
            return self.part(x, y, width, text, style);
        }
        let kept: String = text.chars().take(usize::from(width.saturating_sub(1))).collect();
        self.part(x, y, width, &format!("{kept}…"), style)
    }

    /// Writes a text that ends at the right edge.
    pub(super) fn right(&mut self, y: u16, text: &str, style: Style) {
        let columns = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        self.text(self.columns().saturating_sub(columns), y, text, style);
    }

    pub(super) fn sign(&mut self, x: u16, y: u16, sign: char, style: Style) {
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.set_char(sign).set_style(style);
        }
    }

    /// Empties a line in this style.
    pub(super) fn fill_line(&mut self, y: u16, style: Style) {
        self.fill(Rect::new(0, y, self.columns(), 1), style);
    }

    /// Empties a part of the screen in this style.
    pub(super) fn fill(&mut self, area: Rect, style: Style) {
        let area = area.intersection(self.buffer.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.reset();
                    cell.set_style(style);
                }
            }
        }
    }

    /// Adds a style to a line that is drawn already.
    pub(super) fn restyle_line(&mut self, y: u16, style: Style) {
        let area = Rect::new(0, y, self.columns(), 1).intersection(self.buffer.area);
        self.buffer.set_style(area, style);
    }
}
