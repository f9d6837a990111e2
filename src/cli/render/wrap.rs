//! Text folded between words, for a terminal that is narrower than it.

/// The text in lines of at most so many columns. It is folded between words, and a word that is longer stands on a
/// line of its own. Each line but the first begins with so many spaces.
#[must_use]
pub fn wrap(text: &str, columns: usize, indent: usize) -> String {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        let is_first = lines.len() == 1;
        let is_empty = used == if is_first { 0 } else { indent };
        if !is_empty && used + 1 + width > columns {
            lines.push(" ".repeat(indent));
            used = indent;
        } else if !is_empty {
            used += 1;
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
        }
        used += width;
        lines.last_mut().into_iter().for_each(|line| line.push_str(word));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_what_fits_is_left_alone() {
        assert_eq!(wrap("a  b", 9, 2), "a  b", "spaces are kept");
        assert_eq!(wrap("one two three", 13, 2), "one two three");
        assert_eq!(wrap("one two three", 12, 2), "one two\n  three");
        assert_eq!(wrap("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrap("a /a/path/that/is/longer b", 8, 1), "a\n /a/path/that/is/longer\n b");
    }
}
