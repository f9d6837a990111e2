//! Prices: fixed point in units of 1e-9, read from and written to decimal text without loss.
//! No float ever touches a price.

use std::fmt;
use std::str::FromStr;

use crate::wire::PRICE_UNDEFINED;

/// Decimals that the unit has.
pub const DECIMALS_MAX: u8 = 9;

/// Units in 1.
pub(super) const UNITS: i64 = 1_000_000_000;

/// A price in units of 1e-9, or [`Price::UNDEFINED`]. Negative prices are legal: spreads have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(pub i64);

/// What stands between the whole part and the decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMark {
    /// `41.20`
    Point,
    /// `41,20`, as B3 writes.
    Comma,
}

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not digits, at most one mark between digits, and at most one leading minus.
    #[error("not a decimal number")]
    NotDecimal,
    /// Finer than the unit.
    #[error("more than {DECIMALS_MAX} decimals")]
    TooManyDecimals,
    /// Does not fit, or is the one number that says "undefined".
    #[error("beyond the largest price, 9223372036.854775806")]
    Overflow,
}

impl Price {
    /// There is no such price (an empty side of the book).
    pub const UNDEFINED: Price = Price(PRICE_UNDEFINED);

    /// Whether there is a price at all.
    #[must_use]
    pub const fn is_defined(self) -> bool {
        self.0 != PRICE_UNDEFINED
    }

    /// Reads a decimal number exactly: digits, optionally the mark and one to nine digits more,
    /// optionally a leading minus.
    ///
    /// # Errors
    /// When the text is anything else, or does not fit.
    pub fn parse(text: &str, mark: DecimalMark) -> Result<Price, PriceError> {
        let mark = match mark {
            DecimalMark::Point => '.',
            DecimalMark::Comma => ',',
        };
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, decimals) = match magnitude.split_once(mark) {
            Some((whole, decimals)) => (whole, Some(decimals)),
            None => (magnitude, None),
        };
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || decimals.is_some_and(|part| !is_digits(part)) {
            return Err(PriceError::NotDecimal);
        }
        let decimals = decimals.unwrap_or("");
        if decimals.len() > usize::from(DECIMALS_MAX) {
            return Err(PriceError::TooManyDecimals);
        }
        let padding = usize::from(DECIMALS_MAX) - decimals.len();
        let mut units: i64 = 0;
        for digit in whole.bytes().chain(decimals.bytes()).chain(std::iter::repeat_n(b'0', padding))
        {
            let digit = i64::from(digit - b'0');
            // Counting down for negative numbers reaches the lowest one, which has no opposite.
            let next = units.checked_mul(10);
            units = next
                .and_then(|n| if negative { n.checked_sub(digit) } else { n.checked_add(digit) })
                .ok_or(PriceError::Overflow)?;
        }
        let price = Price(units);
        if price.is_defined() { Ok(price) } else { Err(PriceError::Overflow) }
    }

    /// How many decimals it takes to write this price without loss (0 to 9).
    #[must_use]
    pub const fn decimals_needed(self) -> u8 {
        if !self.is_defined() || self.0 == 0 {
            return 0;
        }
        let mut decimals = DECIMALS_MAX;
        let mut units = self.0;
        while decimals > 0 && units % 10 == 0 {
            units /= 10;
            decimals -= 1;
        }
        decimals
    }

    /// Writes the price with at least `decimals` decimals (at most nine), and with more when it
    /// needs more: nothing is ever rounded. An undefined price is a dash.
    #[must_use]
    pub const fn with_decimals(self, decimals: u8) -> WithDecimals {
        WithDecimals { price: self, decimals }
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Price, PriceError> {
        Price::parse(text, DecimalMark::Point)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_decimals(0).fmt(f)
    }
}

/// See [`Price::with_decimals`].
#[derive(Clone, Copy, Debug)]
pub struct WithDecimals {
    price: Price,
    decimals: u8,
}

impl fmt::Display for WithDecimals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.price.is_defined() {
            return f.pad("-");
        }
        // Honours width and alignment, so that columns of prices line up.
        let text = magnitude(i128::from(self.price.0), self.decimals);
        f.pad_integral(self.price.0 >= 0, "", &text)
    }
}

/// Any number of units of 1e-9 as decimal text, exact, with at least this many decimals: for sums and
/// averages that do not fit a price.
#[must_use]
pub fn decimal(units: i128, decimals: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}", magnitude(units, decimals))
}

fn magnitude(units: i128, decimals: u8) -> String {
    let per_one = u128::from(UNITS.unsigned_abs());
    let units = units.unsigned_abs();
    let fraction = format!("{:09}", units % per_one);
    let needed = fraction.trim_end_matches('0').len();
    let shown = needed.max(usize::from(decimals)).min(usize::from(DECIMALS_MAX));
    let point = if shown == 0 { "" } else { "." };
    format!("{}{point}{}", units / per_one, &fraction[..shown])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_no_price_are_refused_by_name() {
        for garbage in
            ["", "-", ".", "1.", ".5", "+1", "1.2.3", "1,2", " 1", "1e3", "--1", "1.-2", "NaN", "١"]
        {
            assert_eq!(garbage.parse::<Price>(), Err(PriceError::NotDecimal), "{garbage:?}");
        }
        assert_eq!("0.0000000001".parse::<Price>(), Err(PriceError::TooManyDecimals));
        for huge in ["9223372036.854775808", "9223372037", "-9223372036.854775809", &"9".repeat(99)]
        {
            assert_eq!(huge.parse::<Price>(), Err(PriceError::Overflow), "{huge:?}");
        }
    }

    #[test]
    fn the_undefined_number_cannot_be_spelled() {
        assert_eq!("9223372036.854775807".parse::<Price>(), Err(PriceError::Overflow));
        assert_eq!("9223372036.854775806".parse::<Price>(), Ok(Price(i64::MAX - 1)));
        assert_eq!("-9223372036.854775808".parse::<Price>(), Ok(Price(i64::MIN)));
        assert_eq!(Price::UNDEFINED.with_decimals(2).to_string(), "-");
    }

    #[test]
    fn b3_writes_a_comma() {
        assert_eq!(Price::parse("41,200", DecimalMark::Comma), Ok(Price(41_200_000_000)));
        assert_eq!(Price::parse("41.200", DecimalMark::Comma), Err(PriceError::NotDecimal));
    }

    #[test]
    fn shown_decimals_never_round() {
        let show = |text: &str, n| text.parse::<Price>().unwrap().with_decimals(n).to_string();
        assert_eq!(show("41.2", 2), "41.20");
        assert_eq!(show("41.205", 2), "41.205");
        assert_eq!(show("128000", 0), "128000");
        assert_eq!(show("-0.05", 2), "-0.05");
        assert_eq!(show("0", 2), "0.00");
        assert_eq!(show("1", 200), "1.000000000");
        assert_eq!(format!("[{:>8}]", Price(-50_000_000).with_decimals(2)), "[   -0.05]");
    }

    #[test]
    fn decimals_needed_counts_from_the_last_digit_that_matters() {
        for (text, decimals) in [("0", 0), ("10", 0), ("0.5", 1), ("41.20", 1), ("0.000000001", 9)]
        {
            assert_eq!(text.parse::<Price>().unwrap().decimals_needed(), decimals, "{text}");
        }
        assert_eq!(Price::UNDEFINED.decimals_needed(), 0);
    }

    proptest! {
        #[test]
        fn every_price_survives_text(units in any::<i64>(), decimals in 0_u8..=9, shift in 0_u32..=18) {
            // Shifting makes short prices as likely as long ones.
            let price = Price(units / 10_i64.pow(shift));
            prop_assume!(price.is_defined());
            let text = price.with_decimals(decimals).to_string();
            prop_assert_eq!(text.parse::<Price>(), Ok(price));
            let comma = text.replace('.', ",");
            prop_assert_eq!(Price::parse(&comma, DecimalMark::Comma), Ok(price));
            let shown = text.split_once('.').map_or(0, |(_, rest)| rest.len());
            prop_assert_eq!(shown, usize::from(decimals.max(price.decimals_needed())));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Price::parse(&text, DecimalMark::Point);
            let _ = Price::parse(&text, DecimalMark::Comma);
        }
    }

    #[test]
    fn sums_are_exact_at_every_edge() {
        for (units, decimals_min, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (32_100_000_000, 2, "32.10"),
            (32_000_000_000, 0, "32"),
            (1, 2, "0.000000001"),
            (-1, 0, "-0.000000001"),
            (-32_015_000_000, 2, "-32.015"),
            (5, 200, "0.000000005"),
            (i128::from(i64::MIN), 0, "-9223372036.854775808"),
            (i128::MIN, 0, "-170141183460469231731687303715.884105728"),
        ] {
            assert_eq!(decimal(units, decimals_min), text);
        }
    }
}
