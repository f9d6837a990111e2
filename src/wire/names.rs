//! The names of an instrument: its symbol, and its short form where the symbol begins with a venue.

use super::Symbol;

/// What an instrument may be called. A pattern means it when it matches one of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    symbol: Symbol,
    /// Where the short form begins in the symbol; 0 = there is none.
    short_at: u8,
}

impl Names {
    /// The names of an instrument without a venue.
    #[must_use]
    pub const fn of(symbol: Symbol) -> Names {
        Names { symbol, short_at: 0 }
    }

    /// The names of an instrument whose symbol begins with its venue. A symbol that cannot is the only name.
    #[must_use]
    pub fn at_venue(symbol: Symbol) -> Names {
        let short = symbol.behind_venue().map_or(0, |short| short.text_bytes().len());
        let short_at = if short == 0 { 0 } else { symbol.text_bytes().len() - short };
        Names { symbol, short_at: u8::try_from(short_at).unwrap_or(0) }
    }

    /// Its symbol, which no other instrument of the source has.
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }

    /// The symbol without the venue. Instruments of other venues may have the same one.
    #[must_use]
    pub fn short_form(&self) -> Option<Symbol> {
        self.short_text().map(Symbol::least_of)
    }

    /// The short form, or the symbol where there is none.
    #[must_use]
    pub fn shortest(&self) -> Symbol {
        self.short_form().unwrap_or(self.symbol)
    }

    /// All of them, the symbol first.
    pub fn iter(&self) -> impl Iterator<Item = Symbol> + Clone + use<> {
        [Some(self.symbol), self.short_form()].into_iter().flatten()
    }

    /// The text of the short form.
    #[inline]
    #[must_use]
    pub(crate) fn short_text(&self) -> Option<&[u8]> {
        if self.short_at == 0 {
            return None;
        }
        self.symbol.text_bytes().get(usize::from(self.short_at)..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_stands_behind_the_venue() {
        let symbol = |text: &str| text.parse::<Symbol>().unwrap();
        for (text, short) in [
            ("xnas:AMZN", Some("AMZN")),
            ("xcme:UD:1V: GN", Some("UD:1V: GN")),
            ("12345678:A", Some("A")),
            // No exchange has such a name, and whoever looks for the owner must know it from the text.
            ("123456789:A", None),
            (":A", None),
            ("A:", None),
            ("A: B", None),
            ("AMZN", None),
            // Nobody but the system has such a name.
            ("xnas:$sys.breaker", None),
            ("$sys:A", None),
        ] {
            let names = Names::at_venue(symbol(text));
            let short = short.map(symbol);
            assert_eq!((names.short_form(), *names.symbol()), (short, symbol(text)), "{text}");
            assert_eq!(names.shortest(), short.unwrap_or(symbol(text)));
            assert!(names.iter().eq([symbol(text)].into_iter().chain(short)));
            assert_eq!(symbol(text).behind_venue(), short);
            assert!(Names::of(symbol(text)).iter().eq([symbol(text)]));
        }
    }
}
