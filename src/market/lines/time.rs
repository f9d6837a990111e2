//! Times in lines: a number since 1970, or a date and time of day in UTC.

use crate::market::civil::days_from_civil;

/// What a time without a unit counts, since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Nanoseconds.
    #[default]
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl TimeUnit {
    fn ns(self) -> u64 {
        match self {
            TimeUnit::Nanoseconds => 1,
            TimeUnit::Microseconds => 1_000,
            TimeUnit::Milliseconds => 1_000_000,
            TimeUnit::Seconds => SECOND_NS,
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since 1970.
///
/// A number may end with its unit as QuestDB writes it: `n`, or `t` for microseconds.
pub(super) fn parse(text: &str, unit: TimeUnit) -> Result<u64, String> {
    let (text, unit) = match (text.strip_suffix('n'), text.strip_suffix('t')) {
        (Some(number), _) => (number, TimeUnit::Nanoseconds),
        (_, Some(number)) => (number, TimeUnit::Microseconds),
        _ => (text, unit),
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let units = text.parse::<u64>().ok();
        return units.and_then(|units| units.checked_mul(unit.ns())).ok_or_else(|| {
            format!(
                "{text} is later than 2554, the last year of 64-bit nanoseconds; which unit is it?"
            )
        });
    }
    utc(text.as_bytes()).ok_or_else(|| {
        format!(
            "{text:?} is no time; write a number since 1970, or UTC as in 2026-07-14T13:07:19.126Z"
        )
    })
}

/// `YYYY-MM-DD`, `T` or a space, `HH:MM:SS`, up to nine further digits, and `Z` or `+00:00`.
fn utc(text: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b"Z").or_else(|| text.strip_suffix(b"+00:00"))?;
    let (clock, fraction) = text.split_at_checked(19)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', clock @ ..] = clock else {
        return None;
    };
    let [h1, h2, b':', i1, i2, b':', s1, s2] = clock else { return None };
    let day = days_from_civil(
        digits(&[*y1, *y2, *y3, *y4])?,
        digits(&[*m1, *m2])?,
        digits(&[*d1, *d2])?,
    )?;
    let (hour, minute, second) = (digits(&[*h1, *h2])?, digits(&[*i1, *i2])?, digits(&[*s1, *s2])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction_ns = match fraction {
        [] => 0,
        [b'.', further @ ..] if (1..=9).contains(&further.len()) => {
            (further.len()..9).try_fold(digits(further)?, |ns, _| ns.checked_mul(10))?
        }
        _ => return None,
    };
    // The calendar ends before the number does.
    Some((((day * 24 + hour) * 60 + minute) * 60 + second) * SECOND_NS + fraction_ns)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_of_a_unit_or_utc() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (text, unit, ns) in [
            ("0", Nanoseconds, 0),
            ("1784034439126000000", Nanoseconds, 1_784_034_439_126_000_000),
            ("1784034439126000", Microseconds, 1_784_034_439_126_000_000),
            ("1784034439126", Milliseconds, 1_784_034_439_126_000_000),
            ("1784034439", Seconds, 1_784_034_439_000_000_000),
            ("2026-07-14T13:07:19.126Z", Seconds, 1_784_034_439_126_000_000),
            ("2026-07-14 13:07:19.126000001+00:00", Nanoseconds, 1_784_034_439_126_000_001),
            ("1784034439126000000n", Seconds, 1_784_034_439_126_000_000),
            ("1784034439126000t", Seconds, 1_784_034_439_126_000_000),
            ("1970-01-01T00:00:00Z", Nanoseconds, 0),
            ("18446744073709551615", Nanoseconds, u64::MAX),
        ] {
            assert_eq!(parse(text, unit), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "1e9",
            "1.5",
            "2026-02-29T00:00:00Z",
            "2026-07-14",
            "2026-07-14T13:07:19",
            "2026-07-14T24:00:00Z",
            "2026-07-14T13:07:19.Z",
            "2026-07-14T13:07:19.1234567890Z",
            "2026-07-14T13:07:19-03:00",
            "2501-01-01T00:00:00Z",
        ] {
            let said = parse(text, TimeUnit::Nanoseconds).unwrap_err();
            assert!(said.contains("is no time"), "{text}: {said}");
        }
        let said = parse("18446744073709551616", TimeUnit::Nanoseconds).unwrap_err();
        assert!(said.contains("which unit"), "{said}");
        assert!(parse("1784034439126000000", TimeUnit::Microseconds).is_err());
    }
}
