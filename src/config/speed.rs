//! How fast the exchange replays its tapes.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::limits::SPEED_THOUSANDTHS_MAX;

/// Replay speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the reader takes it.
    Max,
    /// So many thousandths of real time: 1000 is real time, 0 stands still.
    Thousandths(u64),
}

/// A text that is no speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a speed is 1 (real time), a factor like 10 or 0.5 (0.001 to 1000000), 0 (standing still), or max"
)]
pub struct SpeedError;

impl Speed {
    /// Real time.
    pub const REAL_TIME: Speed = Speed::Thousandths(1000);
}

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Speed, SpeedError> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return Err(SpeedError);
        }
        let whole: u64 = whole.parse().map_err(|_| SpeedError)?;
        let fraction: u64 = format!("{fraction:0<3}").parse().map_err(|_| SpeedError)?;
        let thousandths = whole.checked_mul(1000).and_then(|whole| whole.checked_add(fraction));
        match thousandths.ok_or(SpeedError)? {
            thousandths if thousandths <= SPEED_THOUSANDTHS_MAX => {
                Ok(Speed::Thousandths(thousandths))
            }
            _ => Err(SpeedError),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Max => write!(f, "max"),
            Speed::Thousandths(t) if t.is_multiple_of(1000) => write!(f, "{}", t / 1000),
            Speed::Thousandths(t) => write!(f, "{}.{:03}", t / 1000, t % 1000),
        }
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Speed, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_exactly_and_written_back() {
        for (text, speed, written) in [
            ("1", Speed::REAL_TIME, "1"),
            ("10", Speed::Thousandths(10_000), "10"),
            ("0.5", Speed::Thousandths(500), "0.500"),
            ("0.001", Speed::Thousandths(1), "0.001"),
            ("1000000", Speed::Thousandths(1_000_000_000), "1000000"),
            ("max", Speed::Max, "max"),
            ("0", Speed::Thousandths(0), "0"),
            ("0.0", Speed::Thousandths(0), "0"),
        ] {
            assert_eq!(text.parse(), Ok(speed), "{text}");
            assert_eq!(speed.to_string(), written);
            assert_eq!(written.parse(), Ok(speed), "{written} is read back");
        }
    }

    #[test]
    fn hostile_speeds_are_refused() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "inf",
            "nan",
            "MAX",
            "1,5",
            "0.0001",
            "1000001",
            "18446744073709551616",
            "9999999999999999999.5",
            " 1",
            "1x",
            "١",
        ] {
            assert_eq!(bad.parse::<Speed>(), Err(SpeedError), "{bad:?}");
        }
    }
}
