//! A text as lines, none of them longer than the bound.

use std::io::{self, BufRead, Read};

use crate::limits::LINE_BYTES_MAX;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// With a newline.
    Newline,
    /// The text ends in it.
    Torn,
    /// There is none: the text has ended.
    Nothing,
}

/// Reads the next line, with its end, in place of what `line` has. Of a line that is longer than [`LINE_BYTES_MAX`] it has one
/// byte more than that.
///
/// # Errors
/// When the bytes cannot be read.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<LineEnd> {
    line.clear();
    reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    Ok(match line.last() {
        None => LineEnd::Nothing,
        Some(b'\n') => LineEnd::Newline,
        // More of it is there; the reader of lines refuses its length.
        Some(_) if line.len() > LINE_BYTES_MAX => LineEnd::Newline,
        Some(_) => LineEnd::Torn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_line_costs_no_more_than_the_bound() {
        let mut endless = io::BufReader::new(io::repeat(b'7'));
        let mut line = Vec::new();
        assert_eq!(next_line(&mut endless, &mut line).unwrap(), LineEnd::Newline);
        assert_eq!(line.len(), LINE_BYTES_MAX + 1);
    }

    #[test]
    fn the_end_of_each_line_is_told() {
        let mut text = &b"a\n\nb"[..];
        let mut line = Vec::new();
        let mut next = || (next_line(&mut text, &mut line).unwrap(), line.clone());
        assert_eq!(next(), (LineEnd::Newline, b"a\n".to_vec()));
        assert_eq!(next(), (LineEnd::Newline, b"\n".to_vec()));
        assert_eq!(next(), (LineEnd::Torn, b"b".to_vec()));
        assert_eq!(next(), (LineEnd::Nothing, Vec::new()));
    }
}
