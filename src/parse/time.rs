//! Points in time, both ways: nanoseconds since the Unix epoch, and RFC 3339 in UTC.
//!
//! Only UTC: frames carry UTC, and an offset in a flag would be read by somebody as the market's
//! local time. The calendar is the proleptic Gregorian one. The formulas are those of Howard
//! Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days
//! come last, and repeat after 400 years or 146,097 days.

use std::str::FromStr;

const NS_PER_S: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;

/// Nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeNs(pub u64);

/// Why a text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TimeError {
    #[error(
        "a time is nanoseconds since 1970, or UTC as in 2012-06-21T13:30:00Z, \
         2012-06-21T13:30:00.123456789Z or 2012-06-21 (midnight)"
    )]
    Form,
    #[error("times are UTC and end with Z, as in 2012-06-21T13:30:00Z; convert the local time")]
    NotUtc,
    #[error("there is no such date or time of day")]
    NoSuch,
    #[error("the time is outside 1970-01-01 to 2554-07-21, which is what 64-bit nanoseconds hold")]
    Range,
}

impl FromStr for TimeNs {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<TimeNs, TimeError> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(TimeNs).map_err(|_| TimeError::Range);
        }
        // A date alone is its midnight.
        let (date, time) = text.split_once(['T', 't']).unwrap_or((text, "00:00:00Z"));
        let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or(TimeError::Form)?;
        let Some(time) = time.strip_suffix(['Z', 'z']) else {
            // Everything but the zone has to be right to speak of the zone.
            let local = time.get(..8).and_then(|time| numbers(time, ':', [2, 2, 2]));
            return Err(local.map_or(TimeError::Form, |_| TimeError::NotUtc));
        };
        let (time, fraction) = match time.split_once('.') {
            Some((time, fraction)) => (time, nanoseconds(fraction).ok_or(TimeError::Form)?),
            None => (time, 0),
        };
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).ok_or(TimeError::Form)?;
        let date_exists = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        if !date_exists || hour > 23 || minute > 59 || second > 59 {
            return Err(TimeError::NoSuch);
        }
        let days = days_since_epoch(year, month, day).ok_or(TimeError::Range)?;
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        let ns = seconds.checked_mul(NS_PER_S).and_then(|ns| ns.checked_add(fraction));
        ns.map(TimeNs).ok_or(TimeError::Range)
    }
}

/// Three numbers of exactly these digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// A fraction of a second of 1 to 9 digits.
fn nanoseconds(fraction: &str) -> Option<u64> {
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || fraction.len() > 9 {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn days_in(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before the month in a year that begins in March; `month` 0 is March.
fn days_before(month: u64) -> u64 {
    (153 * month + 2) / 5
}

/// Days from 1970-01-01; `None` before it. Year at most 9999, month and day exist.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let march_year = if month <= 2 { year.checked_sub(1)? } else { year };
    let march_month = (month + 9) % 12;
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    let days = march_year * 365 + leap_days + days_before(march_month) + (day - 1);
    days.checked_sub(EPOCH_DAYS)
}

/// `(year, month, day)` of a day counted from 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Leap days come at the end of 4 years, not of 100, and of 400: take them out, then divide.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, day - days_before(march_month) + 1)
}

impl TimeNs {
    /// `13:30:00.123`, the time of day, cut to milliseconds.
    #[must_use]
    pub fn time_of_day(self) -> String {
        let ms = self.0 / 1_000_000 % (SECONDS_PER_DAY * 1000);
        let (s, ms) = (ms / 1000, ms % 1000);
        format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
    }

    /// `2012-06-21`.
    #[must_use]
    pub fn date(self) -> String {
        let (year, month, day) = date_of(self.0 / NS_PER_S / SECONDS_PER_DAY);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// RFC 3339, as long as needed: `2012-06-21T13:30:00Z`, with nine digits when there is a fraction.
impl std::fmt::Display for TimeNs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (s, ns) = (self.0 / NS_PER_S % SECONDS_PER_DAY, self.0 % NS_PER_S);
        write!(f, "{}T{:02}:{:02}:{:02}", self.date(), s / 3600, s / 60 % 60, s % 60)?;
        if ns > 0 {
            write!(f, ".{ns:09}")?;
        }
        write!(f, "Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, ns) in [
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2012-06-21T13:30:00Z", 1_340_285_400_000_000_000),
            ("2012-06-21", 1_340_236_800_000_000_000),
            ("2012-06-21t13:30:00.5z", 1_340_285_400_500_000_000),
            ("2024-07-01T00:00:00.000000001Z", 1_719_792_000_000_000_001),
            ("2554-07-21T23:34:33.709551615Z", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(TimeNs(ns)), "{text}");
        }
    }

    #[test]
    fn every_day_that_fits_survives_the_round_trip() {
        let mut last = String::new();
        for day in (0..213_000).chain([u64::MAX / NS_PER_S / SECONDS_PER_DAY]) {
            let time = TimeNs(day * SECONDS_PER_DAY * NS_PER_S + 1);
            let text = time.to_string();
            assert_eq!(text.parse(), Ok(time), "{text}");
            assert!(text > last, "{text} is not later than {last}");
            last = text;
        }
        assert_eq!(TimeNs(u64::MAX).to_string(), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(TimeNs(1_340_285_400_123_999_999).time_of_day(), "13:30:00.123");
    }

    #[test]
    fn hostile_times_are_refused_and_never_overflow() {
        for bad in [
            "",
            "-1",
            "+1",
            "1e9",
            "now",
            "2012-06-21 13:30:00Z",
            "2012-6-21T13:30:00Z",
            "2012-06-21T13:30Z",
            "2012-06-21T13:30:00.Z",
            "2012-06-21T13:30:00.0000000000Z",
            "12012-06-21T13:30:00Z",
            "T",
            "TZ",
            "2012-06-21T13:30:é",
            "2012-06-21T13:30:0é",
            "2012-06-21T-1:30:00Z",
            "-T:Z",
        ] {
            assert_eq!(bad.parse::<TimeNs>(), Err(TimeError::Form), "{bad:?}");
        }
        for bad in [
            "2012-13-01T00:00:00Z",
            "2012-00-01T00:00:00Z",
            "2012-01-00T00:00:00Z",
            "2011-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2012-04-31T00:00:00Z",
            "2012-01-01T24:00:00Z",
            "2012-01-01T00:60:00Z",
            "2012-12-31T23:59:60Z",
        ] {
            assert_eq!(bad.parse::<TimeNs>(), Err(TimeError::NoSuch), "{bad:?}");
        }
        for bad in [
            "18446744073709551616",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "2554-07-21T23:34:33.709551616Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(bad.parse::<TimeNs>(), Err(TimeError::Range), "{bad:?}");
        }
        for bad in ["2012-06-21T13:30:00", "2012-06-21T13:30:00-03:00"] {
            assert_eq!(bad.parse::<TimeNs>(), Err(TimeError::NotUtc), "{bad:?}");
        }
    }
}
