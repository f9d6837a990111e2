//! The length of a bar: `5s`, `1m`, `1h`, `1d`.

use std::fmt;
use std::str::FromStr;

use crate::limits::BAR_SECONDS_MAX;

const UNITS: [(char, u32); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

/// The length of a bar in whole seconds, 1 to [`BAR_SECONDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BarInterval(u32);

/// A text that is no length of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bar's length is whole seconds up to one day, as in 5s, 1m, 1h or 1d")]
pub struct IntervalError;

impl BarInterval {
    /// Its seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for BarInterval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<BarInterval, IntervalError> {
        let (_, unit_seconds) =
            UNITS.iter().find(|(unit, _)| text.ends_with(*unit)).ok_or(IntervalError)?;
        let number = &text[..text.len() - 1];
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(IntervalError);
        }
        let number: u32 = number.parse().map_err(|_| IntervalError)?;
        let seconds = number.checked_mul(*unit_seconds).ok_or(IntervalError)?;
        if !(1..=BAR_SECONDS_MAX).contains(&seconds) {
            return Err(IntervalError);
        }
        Ok(BarInterval(seconds))
    }
}

impl fmt::Display for BarInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |seconds: u32| self.0.is_multiple_of(seconds);
        let (unit, seconds) =
            UNITS.iter().rev().find(|(_, seconds)| fits(*seconds)).unwrap_or(&('s', 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_back() {
        for (text, seconds) in [("1s", 1), ("5s", 5), ("1m", 60), ("1h", 3600), ("1d", 86_400)] {
            let interval: BarInterval = text.parse().unwrap();
            assert_eq!(interval.seconds(), seconds);
            assert_eq!(interval.to_string(), text);
        }
        assert_eq!("120s".parse::<BarInterval>().unwrap().to_string(), "2m");
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for bad in
            ["", "s", "1", "0s", "-1s", "+1s", "2d", "25h", "100ms", "4294967297s", "1é", "é", "1M"]
        {
            assert_eq!(bad.parse::<BarInterval>(), Err(IntervalError), "{bad:?}");
        }
    }
}
