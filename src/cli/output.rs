//! Standard output: buffered lines, and what the terminal behind it can show.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::fd::AsFd;

use rustix::termios::{Winsize, tcgetwinsize};

use super::exit::Failure;
use crate::render::{SCREEN_COLUMNS_DEFAULT, wrap};

pub use crate::render::Screen;

/// Lines of a terminal that does not say.
const SCREEN_LINES_DEFAULT: u32 = 24;

impl Screen {
    /// What a stream can show.
    #[must_use]
    pub fn of(stream: &(impl AsFd + IsTerminal)) -> Screen {
        let is_terminal = stream.is_terminal();
        let size = tcgetwinsize(stream).ok().filter(|_| is_terminal);
        let side = |of: fn(Winsize) -> u16, variable: &str, default: u32| {
            let told = size.map(of).filter(|cells| *cells > 0).map(u32::from);
            let set = || std::env::var(variable).ok().and_then(|cells| cells.parse().ok());
            is_terminal.then(|| told.or_else(set).unwrap_or(default))
        };
        Screen {
            color: color_wanted(is_terminal),
            lines: side(|size| size.ws_row, "LINES", SCREEN_LINES_DEFAULT),
            columns: side(|size| size.ws_col, "COLUMNS", SCREEN_COLUMNS_DEFAULT),
        }
    }
}

/// Buffered lines. Whoever writes flushes when nothing more is at hand, so that a reader sees each
/// line in time and a flood costs few writes.
#[derive(Debug)]
pub struct Output<W: Write> {
    writer: BufWriter<W>,
    screen: Screen,
}

impl Output<Stdout> {
    /// This process's standard output.
    #[must_use]
    pub fn stdout() -> Output<Stdout> {
        let stdout = io::stdout();
        let screen = Screen::of(&stdout);
        Output::new(stdout, screen)
    }
}

impl<W: Write> Output<W> {
    /// An output to any writer.
    pub fn new(writer: W, screen: Screen) -> Output<W> {
        Output { writer: BufWriter::new(writer), screen }
    }

    /// What it can show.
    #[must_use]
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// Writes a text and ends its line. On a terminal, lines that are too long are folded between words; JSON never is.
    ///
    /// # Errors
    /// When the output takes no more; see [`Failure::ClosedPipe`].
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let columns = self.screen.columns.filter(|_| !text.starts_with('{'));
        let folded = columns.map(|columns| fold(text, columns as usize));
        let text = folded.as_deref().unwrap_or(text);
        let written =
            self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|error| Failure::of_output(&error))
    }

    /// Sends on what was written.
    ///
    /// # Errors
    /// When the output takes no more; see [`Failure::ClosedPipe`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| Failure::of_output(&error))
    }
}

/// The text with each line that is too long folded between words.
fn fold(text: &str, columns: usize) -> String {
    text.split('\n').map(|line| wrap(line, columns, 4)).collect::<Vec<_>>().join("\n")
}

/// Whether a stream should get colours: a terminal, and `NO_COLOR` (no-color.org) unset or empty.
#[must_use]
pub fn color_wanted(is_terminal: bool) -> bool {
    color_allowed(is_terminal, std::env::var_os("NO_COLOR").as_deref())
}

fn color_allowed(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_and_no_veto() {
        assert!(color_allowed(true, None));
        assert!(color_allowed(true, Some(OsStr::new(""))));
        assert!(!color_allowed(true, Some(OsStr::new("1"))));
        assert!(!color_allowed(false, None));
    }

    #[test]
    fn only_a_terminal_folds_lines_and_none_folds_json() {
        let shown = |columns| {
            let mut text = Vec::new();
            let mut output = Output::new(&mut text, Screen { columns, ..Screen::NONE });
            for line in ["NODE  A\none two three", "{\"one\": 1, \"two\": 2}"] {
                output.line(line).unwrap();
            }
            drop(output);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(shown(None), "NODE  A\none two three\n{\"one\": 1, \"two\": 2}\n");
        let folded = "NODE  A\none two\n    three\n{\"one\": 1, \"two\": 2}\n";
        assert_eq!(shown(Some(9)), folded);
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_noticed_at_the_flush() {
        let mut output = Output::new(Closed, Screen::NONE);
        output.line("x").unwrap();
        assert_eq!(output.flush(), Err(Failure::ClosedPipe));
    }
}
