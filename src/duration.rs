//! Durations as people write them in configuration and on the command line: `500ms`, `2s`, `10m`.
//!
//! One whole number and one unit, nothing else: no `1h30m` and no `1.5s`, so that there is one way to
//! write a thing and no rounding to explain. Not a clock: see [`crate::time`].

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

/// The units, longest first, each with its nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a text is no duration. Whoever wrote the text is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a whole number followed by a unit.
    #[error("a duration is a whole number and a unit (ns, us, ms, s, m or h), such as 500ms or 2s")]
    Form,
    /// More than 584 years.
    #[error("this duration is too long; the longest is 584 years")]
    TooLong,
}

/// Reads a whole number and a unit.
///
/// # Errors
/// When the text has another form, or does not fit 64 bits of nanoseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Form);
    }
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Form)?;
    // All digits, so the only thing that can be wrong with the number is its size.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    let ns = number.checked_mul(*unit_ns).ok_or(DurationError::TooLong)?;
    Ok(Duration::from_nanos(ns))
}

/// A duration in the form that [`parse`] reads, in the longest unit that is exact.
pub fn show(duration: Duration) -> impl fmt::Display {
    struct Shown(u64);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if self.0 == 0 {
                return f.pad("0s");
            }
            let exact = UNITS.iter().find(|(_, unit_ns)| self.0.is_multiple_of(*unit_ns));
            let (unit, unit_ns) = exact.unwrap_or(&("ns", 1));
            f.pad(&format!("{}{unit}", self.0 / unit_ns))
        }
    }
    Shown(crate::time::nanos(duration))
}

/// For `#[serde(deserialize_with = "crate::duration::deserialize")]`.
///
/// # Errors
/// When the value is no text, or not one that [`parse`] takes.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct AsText;
    impl Visitor<'_> for AsText {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration in quotes, such as \"500ms\" or \"2s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(AsText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_and_shows_the_same() {
        for text in ["7ns", "250us", "500ms", "2s", "10m", "3h", "0s", "1001ms"] {
            assert_eq!(show(parse(text).unwrap()).to_string(), text);
        }
        assert_eq!(show(parse("60s").unwrap()).to_string(), "1m");
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn texts_of_another_form_are_refused() {
        for bad in ["", "5", "ms", "-1s", "1.5s", "1h30m", "2 s", "2S", "+2s", "２s"] {
            assert_eq!(parse(bad), Err(DurationError::Form), "{bad:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_not_wrapped() {
        assert_eq!(parse("5124096h"), Err(DurationError::TooLong));
        assert_eq!(parse("99999999999999999999s"), Err(DurationError::TooLong));
        assert!(parse("5124095h").is_ok());
    }
}
