//! The names of exchanges, which stand before symbols where there are several: `VENUE:SYMBOL`.

use crate::limits::EXCHANGE_NAME_BYTES_MAX;

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
