//! The names of instruments where several exchanges have them: `VENUE:SYMBOL`.

use super::tape::substitute;
use crate::wire::Symbol;

/// The symbol of an instrument at a venue, and whether it is the whole name: one that is too long is cut, and ends with a hash
/// of the whole.
#[must_use]
pub fn symbol_at(venue: &str, symbol: &Symbol) -> (Symbol, bool) {
    let name = format!("{venue}:{symbol}");
    match name.parse() {
        Ok(whole) => (whole, true),
        Err(_) => (substitute(&name), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_its_own() {
        let at = |symbol: &str| symbol_at("xnas", &symbol.parse().unwrap());
        assert_eq!(at("AMZN"), ("xnas:AMZN".parse().unwrap(), true));
        let (one, other) = (at("A-SYMBOL-OF-TWENTY-TWO"), at("A-SYMBOL-OF-TWENTY-TWX"));
        assert!(!one.1 && !other.1 && one.0 != other.0);
        assert!(one.0.as_str().starts_with("xnas:A-SYMBOL-"), "{}", one.0);
    }
}
