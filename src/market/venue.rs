//! The names of instruments where several exchanges have them: `VENUE:SYMBOL`.

use super::tape::substitute;
use crate::limits::EXCHANGE_NAME_BYTES_MAX;
use crate::wire::Symbol;

/// A text that is no name of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeNameError {
    /// Too long, empty, or of other characters.
    #[error(
        "{0:?} is no name of an exchange; use 1 to {EXCHANGE_NAME_BYTES_MAX} letters, digits, - and _"
    )]
    Form(String),
    /// It would be mistaken for something else.
    #[error("{0:?} is what a node or a breaker is called; choose another name for the exchange")]
    Taken(String),
}

/// What nodes, breakers of core and the supervisor's own lines are called, besides shards and numbers of replicas.
const TAKEN: [&str; 7] =
    ["aggregator", "broker", "core", "external", "pregao", "replica", "requests"];

/// Whether this can be the name of an exchange: 1 to [`EXCHANGE_NAME_BYTES_MAX`] letters, digits, `-` and `_`.
///
/// # Errors
/// Says why not.
pub fn check_exchange_name(text: &str) -> Result<(), ExchangeNameError> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=EXCHANGE_NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(is_usual) {
        return Err(ExchangeNameError::Form(text.to_owned()));
    }
    let lower = text.to_ascii_lowercase();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if TAKEN.contains(&lower.as_str()) || lower.starts_with("shard") || is_number {
        return Err(ExchangeNameError::Taken(text.to_owned()));
    }
    Ok(())
}

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
