//! Text folded between words, for a terminal that is narrower than it.

/// The text in lines of at most so many columns. It is folded between words, and a word that is longer stands on a
/// line of its own. Each line but the first begins with so many spaces.
#[must_use]
pub fn wrap(text: &str, columns: usize, indent: usize) -> String {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    let mut is_begun = false;
    for word in text.split(' ') {
        let width = shown_chars(word);
        // Spaces at the beginning are no word that a line could end behind.
        let is_foldable = is_begun && !line.trim_start().is_empty();
        if is_foldable && used + 1 + width > columns {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = indent;
        } else if is_begun {
            line.push(' ');
            used += 1;
        }
        is_begun = true;
        used += width;
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

/// How many characters a terminal shows of a word: none of a colour.
fn shown_chars(word: &str) -> usize {
    let mut parts = word.split('\u{1b}');
    let first = parts.next().map_or(0, |part| part.chars().count());
    let behind = |part: &str| part.split_once('m').map_or(0, |(_, rest)| rest.chars().count());
    first + parts.map(behind).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_what_fits_is_left_alone() {
        assert_eq!(wrap("  a  b", 9, 2), "  a  b", "spaces are kept");
        assert_eq!(wrap("  one two", 5, 3), "  one\n   two");
        assert_eq!(wrap("one two three", 13, 2), "one two three");
        assert_eq!(wrap("one two three", 12, 2), "one two\n  three");
        assert_eq!(wrap("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrap("\u{1b}[33mone two\u{1b}[0m", 7, 2), "\u{1b}[33mone two\u{1b}[0m");
        assert_eq!(wrap("a /a/path/that/is/longer b", 8, 1), "a\n /a/path/that/is/longer\n b");
    }
}
