//! Topic patterns: which instruments, and which kinds of their frames.

use crate::wire::{Names, Symbol};

/// A symbol, a prefix and `*`, or `*`; and a kind mask.
///
/// System instruments (their symbols begin with `$`) are matched only by patterns that begin with
/// `$`, so that `*` means the market.
///
/// It is copied with every question and every subscription, so it has nothing on the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Without the `*`, behind it zeros. All of it is printable ASCII, so zeros sort first.
    stem: [u8; Symbol::BYTES_MAX],
    stem_bytes: u8,
    is_prefix: bool,
    kinds: u16,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No symbol can match it.
    #[error("a pattern is a symbol, the beginning of one and '*', or '*'")]
    Form,
    /// It begins as no symbol can: what stands for a longer name does not begin with more of it.
    #[error(
        "the beginning of a name has at most {} characters before its '*'; give fewer, or the whole name",
        Symbol::BYTES_MAX
    )]
    Long,
}

impl Pattern {
    /// Parses a pattern without kind prefix; `kinds` is a sum of [`crate::wire::Kind::mask`], 0 = all. A name that is longer
    /// than a symbol means the symbol that stands for it.
    ///
    /// # Errors
    /// When no symbol can match: `*` stands anywhere but last, or the text is empty, too long, not printable ASCII,
    /// or has a space where no symbol has one.
    pub fn new(text: &str, kinds: u16) -> Result<Pattern, PatternError> {
        if text.strip_suffix('*').is_some_and(|beginning| beginning.len() > Symbol::BYTES_MAX) {
            return Err(PatternError::Long);
        }
        match Symbol::meant_by(text) {
            Ok(symbol) => Pattern::from_bytes(symbol.text_bytes(), kinds),
            Err(_) => Pattern::from_bytes(text.as_bytes(), kinds),
        }
    }

    /// What is printable ASCII is text, so nothing else has to be known of the bytes.
    fn from_bytes(text: &[u8], kinds: u16) -> Result<Pattern, PatternError> {
        let (stem, is_prefix) = match text.strip_suffix(b"*") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        // The beginning of a symbol may end with a space, a symbol does not.
        let is_spaced = stem.starts_with(b" ") || !is_prefix && stem.ends_with(b" ");
        let is_printable = stem.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'*');
        if !is_printable || is_spaced || text.is_empty() {
            return Err(PatternError::Form);
        }
        let mut padded = [0; Symbol::BYTES_MAX];
        padded.get_mut(..stem.len()).ok_or(PatternError::Form)?.copy_from_slice(stem);
        let stem_bytes = u8::try_from(stem.len()).map_err(|_| PatternError::Form)?;
        let kinds = if kinds == 0 { u16::MAX } else { kinds };
        Ok(Pattern { stem: padded, stem_bytes, is_prefix, kinds })
    }

    fn stem(&self) -> &[u8] {
        self.stem.get(..usize::from(self.stem_bytes)).unwrap_or_default()
    }

    /// Parses a pattern out of a frame's field.
    ///
    /// # Errors
    /// As [`Pattern::new`], and when bytes follow the padding.
    pub fn from_field(field: &[u8], kinds: u16) -> Result<Pattern, PatternError> {
        let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
        let (text, padding) = field.split_at(end);
        if padding.iter().any(|&b| b != 0) {
            return Err(PatternError::Form);
        }
        Pattern::from_bytes(text, kinds)
    }

    /// Which kinds it asks for: a sum of [`crate::wire::Kind::mask`].
    #[must_use]
    pub fn kinds(&self) -> u16 {
        self.kinds
    }

    /// Whether it asks for every frame of the market: `*` with all kinds.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.stem_bytes == 0 && self.is_prefix && self.kinds == u16::MAX
    }

    /// Whether an instrument is meant by this name.
    #[must_use]
    pub fn matches(&self, name: &Symbol) -> bool {
        self.matches_text(name.as_str().as_bytes())
    }

    /// Whether the instrument with these names is meant, by one of them or by both.
    #[must_use]
    pub fn means(&self, names: &Names) -> bool {
        self.matches(names.symbol()) || names.short_text().is_some_and(|it| self.matches_text(it))
    }

    fn matches_text(&self, name: &[u8]) -> bool {
        let stem = self.stem();
        if !self.is_prefix {
            return name == stem;
        }
        name.starts_with(stem) && (!name.starts_with(b"$") || stem.starts_with(b"$"))
    }

    /// Whether every instrument that `other` means is meant by this pattern too. The kinds are not
    /// looked at.
    #[must_use]
    pub fn contains(&self, other: &Pattern) -> bool {
        let (stem, theirs) = (self.stem(), other.stem());
        if !self.is_prefix {
            return !other.is_prefix && stem == theirs;
        }
        theirs.starts_with(stem) && (!theirs.starts_with(b"$") || stem.starts_with(b"$"))
    }

    /// Whether it ends with `*`.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// Where the instruments that it means begin in an order by symbol: they are among those from here on
    /// that it [`Pattern::begins`].
    #[must_use]
    pub fn first_symbol(&self) -> Symbol {
        Symbol::least(self.stem_text())
    }

    /// Whether the symbol begins as the pattern does.
    #[must_use]
    pub fn begins(&self, symbol: &Symbol) -> bool {
        symbol.as_str().as_bytes().starts_with(self.stem())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stem_text(), if self.is_prefix { "*" } else { "" })
    }

    /// The one symbol that it means, when it is no prefix.
    #[must_use]
    pub fn symbol(&self) -> Option<Symbol> {
        if self.is_prefix { None } else { self.stem_text().parse().ok() }
    }

    /// What a search in an order of symbols looks for: the one symbol that it means, or what those begin with.
    /// `None`: no symbol can match, since none is so long or looks so.
    #[must_use]
    pub fn key(&self) -> Option<Symbol> {
        if !self.is_prefix {
            return self.symbol();
        }
        let key = Symbol::least(self.stem_text());
        (key.text_bytes() == self.stem()).then_some(key)
    }

    /// Takes the kinds of another pattern for the same instruments over. Whether it was one.
    pub(super) fn absorb(&mut self, other: &Pattern) -> bool {
        let is_same = (self.stem, self.is_prefix) == (other.stem, other.is_prefix);
        if is_same {
            self.kinds |= other.kinds;
        }
        is_same
    }

    fn stem_text(&self) -> &str {
        std::str::from_utf8(self.stem()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, symbol: &str) -> bool {
        Pattern::new(pattern, 0).unwrap().matches(&symbol.parse().unwrap())
    }

    #[test]
    fn symbols_prefixes_and_everything() {
        assert!(matches("PETR4", "PETR4") && !matches("PETR4", "PETR44"));
        assert!(matches("PETR*", "PETR4") && matches("PETR*", "PETR") && !matches("PETR*", "PET"));
        assert!(matches("*", "PETR4"));
    }

    #[test]
    fn the_market_does_not_contain_the_system() {
        assert!(!matches("*", "$sys.breaker"));
        assert!(matches("$sys.*", "$sys.breaker") && matches("$sys.breaker", "$sys.breaker"));
    }

    #[test]
    fn a_venue_may_be_named_and_need_not() {
        let symbol = "xnas:AMZN".parse().unwrap();
        for (text, at_venue, without) in [
            ("AMZN", true, false),
            ("AM*", true, false),
            ("xnas:AMZN", true, true),
            ("xnas:*", true, true),
            ("xnas*", true, true),
            ("*", true, true),
            ("nas*", false, false),
            ("xnas", false, false),
            ("$*", false, false),
            (":AMZN", false, false),
        ] {
            let pattern = Pattern::new(text, 0).unwrap();
            let means = [Names::at_venue(symbol), Names::of(symbol)].map(|it| pattern.means(&it));
            assert_eq!(means, [at_venue, without], "{text}");
        }
    }

    #[test]
    fn what_a_pattern_contains_it_matches() {
        let pattern = |text| Pattern::new(text, 0).unwrap();
        let texts = ["*", "P*", "PETR*", "PETR4", "$*", "$sys.*", "$sys.breaker"];
        let symbols = ["PETR4", "PETR", "P", "VALE3", "$sys.breaker", "$x"];
        for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other)))
        {
            let (one, other) = (pattern(one), pattern(other));
            let all = symbols.iter().map(|text| text.parse::<Symbol>().unwrap());
            let subset = all.clone().all(|symbol| one.matches(&symbol) || !other.matches(&symbol));
            assert!(subset || !one.contains(&other), "{one:?} {other:?}");
            for symbol in all.filter(|symbol| one.matches(symbol)) {
                assert!(one.begins(&symbol) && one.first_symbol() <= symbol);
            }
        }
        assert!(
            pattern("*").contains(&pattern("PETR*")) && pattern("P*").contains(&pattern("PETR4"))
        );
        assert!(
            !pattern("*").contains(&pattern("$sys.*")) && !pattern("P").contains(&pattern("P*"))
        );
    }

    #[test]
    fn hostile_patterns_are_refused() {
        let (long, longer) = ("X".repeat(24), "X".repeat(81));
        let long_prefix = format!("{long}X*");
        let spaced = [" A", "A ", " ", " *", " A*"];
        for bad in
            ["", "PE*R4", "**", "a\u{7f}", "é", &longer, &long_prefix].into_iter().chain(spaced)
        {
            assert!(Pattern::new(bad, 0).is_err(), "{bad:?}");
        }
        assert_eq!(Pattern::new(&long_prefix, 0), Err(PatternError::Long));
        let named = Pattern::new(&format!("{long}X"), 0).unwrap();
        assert!(named.matches(&Symbol::standing_for(&format!("{long}X"))));
        assert!(!named.matches(&Symbol::standing_for(&format!("{long}Y"))));
        for good in [&*long, &format!("{long}*"), "A B", "A *"] {
            assert!(Pattern::new(good, 0).is_ok(), "{good:?}");
        }
        assert!(Pattern::from_field(b"AB\0C", 0).is_err());
        assert!(Pattern::from_field(&[0xFF; 36], 0).is_err());
        assert_eq!(Pattern::from_field(b"AB\0\0", 0), Pattern::new("AB", 0));
    }
}
