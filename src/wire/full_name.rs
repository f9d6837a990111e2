//! Names that are no symbols: too long for the field, or with characters that none has. A symbol stands for each.
//!
//! # Decisions
//!
//! * The symbol of 24 bytes stays what frames and tables go by. So no frame of the market grows.
//! * The symbol that stands for a name is a function of the name alone. So whoever types the name finds the instrument, and
//!   needs no table for it.
//! * A venue ahead of a name is cut by itself: `xnas:NAME` has the symbol that `xnas:` makes of the symbol of `NAME`. Core puts
//!   venues ahead of symbols, and knows no longer name when it does.

use std::fmt;
use std::str::FromStr;

use super::Symbol;
use super::fnv::{FNV_BASIS, fnv1a_64};

/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = Symbol::VENUE_BYTES_MAX + 1 + FullName::OWN_BYTES_MAX;

/// The whole name of an instrument: 1 to 80 printable ASCII characters, neither starting nor ending with a space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullName {
    bytes: [u8; NAME_BYTES_MAX],
    length: u8,
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is 1 to {NAME_BYTES_MAX} printable ASCII characters, and neither starts nor ends with a space"
)]
pub struct NameError;

impl FullName {
    /// Bytes of the longest name.
    pub const BYTES_MAX: usize = NAME_BYTES_MAX;
    /// Bytes of the longest name without a venue: as DBN has room for, with the zero at its end.
    pub const OWN_BYTES_MAX: usize = 71;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or("")
    }

    /// The symbol that stands for it.
    #[must_use]
    pub fn symbol(&self) -> Symbol {
        Symbol::standing_for(self.as_str())
    }
}

impl FromStr for FullName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<FullName, NameError> {
        let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_printable || text.is_empty() || text.starts_with(' ') || text.ends_with(' ') {
            return Err(NameError);
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..text.len()).ok_or(NameError)?.copy_from_slice(text.as_bytes());
        Ok(FullName { bytes, length: u8::try_from(text.len()).map_err(|_| NameError)? })
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Symbol {
    /// The symbol of a name that somebody outside gives: the name itself where that is a symbol, and else one that ends with
    /// `~` and a hash of the whole. The same name has the same one always, and another name that looks alike has not. None
    /// begins with `$`.
    #[must_use]
    pub fn standing_for(name: &str) -> Symbol {
        if let Ok(symbol) = name.parse::<Symbol>()
            && !symbol.is_reserved()
        {
            return symbol;
        }
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_venue = |venue: &str| {
            (1..=Symbol::VENUE_BYTES_MAX).contains(&venue.len()) && venue.bytes().all(is_usual)
        };
        let is_known = |own: &str| own.parse::<Symbol>().is_ok_and(|own| !own.is_reserved());
        match name.split_once(':') {
            // The bound is one of the depth, too.
            Some((venue, own))
                if name.len() <= NAME_BYTES_MAX && is_venue(venue) && !is_known(own) =>
            {
                Symbol::at_venue(venue, &Symbol::standing_for(own)).0
            }
            _ => substitute(name),
        }
    }

    /// The symbol that somebody means who types a name: the name itself, or what stands for a name that is longer.
    ///
    /// # Errors
    /// When no instrument can be called so, and when the name has a `*`, which means something else where names are typed.
    pub fn meant_by(name: &str) -> Result<Symbol, NameError> {
        if let Ok(symbol) = name.parse() {
            return Ok(symbol);
        }
        let is_longer = name.len() > Symbol::BYTES_MAX && !name.contains('*');
        let whole: FullName = name.parse()?;
        if is_longer { Ok(whole.symbol()) } else { Err(NameError) }
    }

    /// The symbol of an instrument at a venue, and whether it is the whole name: one that is too long is cut, and ends with a
    /// hash of the whole.
    #[must_use]
    pub fn at_venue(venue: &str, symbol: &Symbol) -> (Symbol, bool) {
        let name = format!("{venue}:{symbol}");
        match name.parse() {
            Ok(whole) => (whole, true),
            Err(_) => (substitute(&name), false),
        }
    }

    /// Whether it ends as one does that stands for a name. A name of somebody's own may end so too.
    #[must_use]
    pub fn is_substitute(&self) -> bool {
        let is_hash = |hash: &[u8]| hash.iter().all(u8::is_ascii_hexdigit);
        let text = self.text_bytes();
        text.last_chunk::<9>().is_some_and(|end| end[0] == b'~' && is_hash(&end[1..]))
    }

    /// What can be shown of a name, and `end` behind it. What a symbol may not have becomes `_`.
    #[must_use]
    pub(crate) fn fitted(name: &str, end: &str) -> Symbol {
        let is_plain = |letter: &char| letter.is_ascii_graphic() && *letter != '*';
        let room = Symbol::BYTES_MAX.saturating_sub(end.len());
        // `$` begins the names of the system's own instruments.
        let plain = |(place, letter): (usize, char)| match letter {
            '$' if place == 0 => '_',
            letter if is_plain(&letter) => letter,
            _ => '_',
        };
        let mut text: String = name.chars().enumerate().map(plain).take(room).collect();
        text.push_str(end);
        text.parse().unwrap_or_default()
    }
}

/// A symbol that stands for a name which is none.
fn substitute(name: &str) -> Symbol {
    let hash = fnv1a_64(FNV_BASIS, name.as_bytes());
    Symbol::fitted(name, &format!("~{:08x}", hash >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "BRN FMH0024-BRN FMJ0024 SPREAD OF 40 CHA";

    #[test]
    fn what_is_no_symbol_gets_one_that_says_where_it_is_from() {
        for (name, want) in [
            ("BAC-I*", "BAC-I_~1000"),
            ("$sys.feed", "_sys.feed~1000"),
            ("a b", "a_b~1000"),
            ("", "~1000"),
            ("LONG-STRATEGY-NAME-OF-26-CH", "LONG-STRATEGY-NAME-~1000"),
            ("ação", "a__o~1000"),
        ] {
            assert_eq!(Symbol::fitted(name, "~1000").as_str(), want);
        }
        assert!(Symbol::standing_for(LONG).is_substitute());
        assert!(!"XNAS:Q~2".parse::<Symbol>().unwrap().is_substitute());
        let like = ["LONG-STRATEGY-NAME-OF-26-CH", "LONG-STRATEGY-NAME-OF-26-CI"];
        let like = like.map(Symbol::standing_for);
        assert_ne!(like[0], like[1]);
        assert!(like[0].as_str().starts_with("LONG-STRATEGY-N~"), "{}", like[0]);
        // Journals have it, so it stays.
        assert_eq!(Symbol::standing_for("BAC-I*").as_str(), "BAC-I_~2f7d4cbe");
        assert_eq!(Symbol::standing_for("PETR4").as_str(), "PETR4");
        assert!(!Symbol::standing_for("$sys.feed").is_reserved());
    }

    #[test]
    fn a_venue_ahead_of_a_name_is_one_ahead_of_its_symbol() {
        for name in
            [LONG, "UD:1V: A STRATEGY OF MORE THAN 24", "BAC-I*", "A-SYMBOL-OF-TWENTY-TWO", "Q"]
        {
            let at_venue = Symbol::at_venue("xnas", &Symbol::standing_for(name)).0;
            let typed = format!("xnas:{name}");
            assert_eq!(Symbol::standing_for(&typed), at_venue, "{name}");
            assert!(at_venue.is_valid() && at_venue.as_str().starts_with("xnas:"), "{at_venue}");
        }
        let far: String = "a:".repeat(100_000);
        assert!(Symbol::standing_for(&far).is_valid(), "and its depth has a bound");
    }

    #[test]
    fn who_types_a_longer_name_means_the_symbol_that_stands_for_it() {
        let meant = |text: &str| Symbol::meant_by(text);
        assert_eq!(meant("$sys.breaker").unwrap().as_str(), "$sys.breaker");
        assert_eq!(meant("PETR4").unwrap().as_str(), "PETR4");
        assert_eq!(meant(LONG), Ok(Symbol::standing_for(LONG)));
        let longest = "X".repeat(80);
        assert_eq!(meant(&longest), Ok(Symbol::standing_for(&longest)));
        let (longer, accent, control) =
            ("X".repeat(81), format!("{LONG}é"), format!("{LONG}\u{1b}[31m"));
        let (star, spaced) = (format!("{LONG}*"), format!(" {LONG}"));
        for bad in ["", "A*", " X", &longer, &accent, &control, &star, &spaced] {
            assert_eq!(meant(bad), Err(NameError), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_checked_on_the_way_in() {
        let longest = "X".repeat(80);
        for good in ["PETR4", "BAC-I*", "$x", LONG, &longest] {
            assert_eq!(good.parse::<FullName>().unwrap().as_str(), good);
        }
        let longer = "X".repeat(81);
        for bad in ["", " X", "X ", "a\0b", "a\nb", "ação", &longer] {
            assert_eq!(bad.parse::<FullName>(), Err(NameError), "{bad:?}");
        }
    }
}
