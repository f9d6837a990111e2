//! Durations as people write them in flags and configuration files: `50ms`, `10s`, `5m`.
//!
//! One whole number and one unit. There are no fractions and no sums: `1.5s` is written `1500ms`,
//! so that a text has one reading and no rounding.

use std::fmt::Write as _;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

/// The units, smallest first, with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It does not start with a digit.
    #[error("a duration starts with a whole number, as in 50ms, 10s or 5m")]
    NoNumber,
    /// No unit, or one that is not known.
    #[error("a duration ends with its unit: ns, us, ms, s, m or h, as in 50ms or 10s")]
    Unit,
    /// More nanoseconds than 64 bits hold.
    #[error("the duration is longer than 584 years")]
    TooLong,
}

/// Reads a duration.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if number.is_empty() {
        return Err(DurationError::NoNumber);
    }
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Unit)?;
    // A number of digits only can fail to parse in one way: it is too large.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(*unit_ns).map(Duration::from_nanos).ok_or(DurationError::TooLong)
}

/// For `#[serde(deserialize_with = "crate::duration::deserialize")]`.
///
/// # Errors
/// When the value is no text, or the text no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(D::Error::custom)
}

/// Writes a duration in the largest unit that needs no fraction, so that [`parse`] reads it back.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ns = crate::time::nanos(duration);
    let fits = |unit_ns: u64| ns != 0 && ns.is_multiple_of(unit_ns);
    let (name, unit_ns) =
        UNITS.iter().rev().find(|(_, unit_ns)| fits(*unit_ns)).unwrap_or(&("s", 1));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{}{name}", ns / unit_ns);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        for (text, ns) in [
            ("0s", 0),
            ("1ns", 1),
            ("250us", 250_000),
            ("50ms", 50_000_000),
            ("10s", 10_000_000_000),
            ("5m", 300_000_000_000),
            ("2h", 7_200_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
            assert_eq!(format(Duration::from_nanos(ns)), text);
        }
    }

    #[test]
    fn hostile_texts_are_refused_and_never_overflow() {
        for bad in ["", "ms", "-1s", "+1s", " 1s", "1 s", "٣s", "é"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["10", "1.5s", "1d", "1S", "1s ", "1s1s"] {
            assert_eq!(parse(bad), Err(DurationError::Unit), "{bad:?}");
        }
        for bad in ["18446744073709551616ns", "5124096h", "99999999999999999999999999s"] {
            assert_eq!(parse(bad), Err(DurationError::TooLong), "{bad:?}");
        }
        assert_eq!(parse("18446744073709551615ns"), Ok(Duration::from_nanos(u64::MAX)));
    }
}
