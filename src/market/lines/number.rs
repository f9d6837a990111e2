//! Decimal numbers in lines, read from their digits.

use std::borrow::Cow;

use crate::market::price::{DECIMALS_MAX, Price};
use crate::market::quantity::Quantity;

/// An exponent beyond this leaves no digit of a price or a quantity.
const EXPONENT_MAX: u32 = 40;

/// A price, exact.
pub(super) fn price(text: &str) -> Result<Price, String> {
    let plain = plain(text)?;
    let digits = without_zeros(&plain, usize::from(DECIMALS_MAX));
    digits.parse().map_err(|error| format!("{text:?} is {error}"))
}

/// A quantity, exact, with as many decimals as it is written with.
pub(super) fn quantity(text: &str) -> Result<Quantity, String> {
    Quantity::exact(&plain(text)?).map_err(|error| format!("{text:?} is {error}"))
}

/// The number without an exponent: the point is moved, and no digit changes.
fn plain(text: &str) -> Result<Cow<'_, str>, String> {
    let Some((number, exponent)) = text.split_once(['e', 'E']) else {
        return match text {
            "NaN" | "nan" | "inf" | "Infinity" | "-inf" | "-Infinity" => {
                Err(format!("{text} is no number; leave the value out if there is none"))
            }
            _ => Ok(Cow::Borrowed(text)),
        };
    };
    let wrong = || format!("{text:?} is not a decimal number");
    let (is_negative, size) = match exponent.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let size = size.parse::<u32>().ok().filter(|size| is_number && *size <= EXPONENT_MAX);
    let size = usize::try_from(size.ok_or_else(wrong)?).map_err(|_| wrong())?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || number.ends_with('.') || !is_digits(whole) || !is_digits(fraction) {
        return Err(wrong());
    }
    let zeros = "0".repeat(size);
    // Zeros in front and behind, so that the point has where to go.
    let (digits, point) = match is_negative {
        true => (format!("{zeros}{whole}{fraction}"), whole.len()),
        false => (format!("{whole}{fraction}{zeros}"), whole.len() + size),
    };
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    Ok(Cow::Owned(format!("{sign}{whole}{dot}{fraction}")))
}

/// The number without zeros behind this many decimals: they say nothing.
fn without_zeros(text: &str, decimals: usize) -> &str {
    let Some(point) = text.find('.') else { return text };
    let behind = point + 1 + decimals;
    match text.split_at_checked(behind) {
        Some((kept, zeros)) if zeros.bytes().all(|byte| byte == b'0') => kept,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_exact_whatever_they_are_written_like() {
        for (text, units) in [
            ("41.2", 41_200_000_000),
            ("-0.05", -50_000_000),
            ("1e3", 1_000_000_000_000),
            ("1.2345e-4", 123_450),
            ("-1.5E+1", -15_000_000_000),
            ("1e-9", 1),
            ("12.50e0", 12_500_000_000),
            ("0.000000001000", 1),
            ("41.20000000000000", 41_200_000_000),
            ("9223372036.854775806", i64::MAX - 1),
        ] {
            assert_eq!(price(text), Ok(Price(units)), "{text}");
        }
        for text in [
            "",
            "-",
            "NaN",
            "inf",
            "1e",
            "e3",
            "1e3.5",
            "1e-10",
            "1e41",
            "0e41",
            "1e99999999999",
            "1.e3",
            "--1e3",
            "+1",
            "1_000",
            "1,5",
            "0x1F",
            "0.0000000001",
            "9223372036.854775807",
            "1e30",
            " 1",
            "1e+-3",
        ] {
            assert!(price(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_have_the_decimals_of_their_text() {
        for (text, units, decimals) in [
            ("0.00012345", 12_345, 8),
            ("1250000000000.5", 12_500_000_000_005, 1),
            ("18446744073709551615", u128::from(u64::MAX), 0),
            ("18446744073709551615.00", u128::from(u64::MAX), 0),
            ("0.50000000", 50_000_000, 8),
            ("1.2345e-4", 12_345, 8),
            ("2e2", 200, 0),
            ("1.00000000000000000", 100_000_000_000_000, 14),
        ] {
            assert_eq!(quantity(text), Ok(Quantity::new(units, decimals)), "{text}");
        }
        for text in ["-1", "0.000000000000001", "18446744073709551616", "NaN", "1e20", "1e-15"] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,50}") {
            let _ = (price(&text), quantity(&text));
        }

        #[test]
        fn an_exponent_moves_the_point_only(units in any::<i64>(), shift in 0_usize..=9) {
            let want = Price(units / 1_000_000_000);
            prop_assume!(want.is_defined());
            // The number of units of 10^-9, shifted back.
            let text = format!("{}e-{}", i128::from(want.0) * 10_i128.pow(u32::try_from(shift).unwrap()), 9 + shift);
            prop_assert_eq!(price(&text), Ok(want));
        }
    }
}
