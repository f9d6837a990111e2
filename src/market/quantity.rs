//! Quantities: whole numbers of units, where an instrument says how many decimals a unit has. They are read from and
//! written to decimal text without loss. No float ever touches a quantity.

use std::fmt;

use crate::wire::QUANTITY_DECIMALS_MAX;

/// Units of an instrument, and how many decimals a unit has: 12,345 of eight decimals are 0.00012345.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// How many units.
    pub units: u128,
    /// Decimals of one unit.
    pub decimals: u8,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not digits, and at most one point between digits.
    #[error("not a decimal number")]
    NotDecimal,
    /// Finer than the unit.
    #[error("more than {0} decimals")]
    TooManyDecimals(u8),
    /// Does not fit.
    #[error("beyond the largest quantity, 18446744073709551615 units")]
    Overflow,
}

impl Quantity {
    /// So many units of so many decimals.
    #[must_use]
    pub const fn new(units: u128, decimals: u8) -> Quantity {
        Quantity { units, decimals }
    }

    /// Reads a decimal number exactly, as units of so many decimals.
    ///
    /// # Errors
    /// When the text is anything else, is finer than the unit, or does not fit 64 bits.
    pub fn parse(text: &str, decimals: u8) -> Result<u64, QuantityError> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || fraction.is_some_and(|part| !is_digits(part)) {
            return Err(QuantityError::NotDecimal);
        }
        // Zeros at the end say nothing.
        let fraction = fraction.unwrap_or_default().trim_end_matches('0');
        let padding = usize::from(decimals)
            .checked_sub(fraction.len())
            .ok_or(QuantityError::TooManyDecimals(decimals))?;
        let digits =
            whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', padding));
        let mut units: u64 = 0;
        for digit in digits {
            let next = units.checked_mul(10);
            units = next
                .and_then(|units| units.checked_add(u64::from(digit - b'0')))
                .ok_or(QuantityError::Overflow)?;
        }
        Ok(units)
    }

    /// Reads a decimal number exactly, with as many decimals as it is written with. Zeros at the end go where the
    /// number does not fit with them.
    ///
    /// # Errors
    /// When the text is anything else, needs more than [`QUANTITY_DECIMALS_MAX`] decimals, or does not fit 64 bits.
    pub fn exact(text: &str) -> Result<Quantity, QuantityError> {
        let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
        let needed = fraction.trim_end_matches('0').len();
        let decimals = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let written = decimals(fraction.len()).min(QUANTITY_DECIMALS_MAX);
        let needed = decimals(needed);
        if needed > QUANTITY_DECIMALS_MAX {
            // Not digits at all is the graver fault.
            Quantity::parse(text, needed)?;
            return Err(QuantityError::TooManyDecimals(QUANTITY_DECIMALS_MAX));
        }
        let mut decimals = written;
        loop {
            match Quantity::parse(text, decimals) {
                Ok(units) => return Ok(Quantity::new(units.into(), decimals)),
                Err(QuantityError::Overflow) if decimals > needed => decimals -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The same quantity without decimals that are zeros.
    #[must_use]
    pub const fn reduced(self) -> Quantity {
        let Quantity { mut units, mut decimals } = self;
        while decimals > 0 && units.is_multiple_of(10) {
            units /= 10;
            decimals -= 1;
        }
        Quantity { units, decimals }
    }
}

/// Exact, without zeros at the end.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = usize::from(self.decimals.min(QUANTITY_DECIMALS_MAX));
        let digits = format!("{:0>width$}", self.units, width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        f.pad(&format!("{whole}{point}{fraction}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_written_without_a_digit_lost() {
        for (units, decimals, text) in [
            (0, 0, "0"),
            (0, 8, "0"),
            (300, 0, "300"),
            (12_345, 8, "0.00012345"),
            (100_000_000, 8, "1"),
            (12_500_000_000_005, 1, "1250000000000.5"),
            (1, 14, "0.00000000000001"),
            (u128::from(u64::MAX), 0, "18446744073709551615"),
        ] {
            assert_eq!(Quantity::new(units, decimals).to_string(), text);
        }
        assert_eq!(format!("[{:>6}]", Quantity::new(15, 1)), "[   1.5]");
    }

    #[test]
    fn texts_that_are_no_quantity_are_refused_by_name() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "NaN", "١"] {
            assert_eq!(Quantity::parse(text, 3), Err(QuantityError::NotDecimal), "{text:?}");
        }
        assert_eq!(Quantity::parse("0.0001", 3), Err(QuantityError::TooManyDecimals(3)));
        assert_eq!(Quantity::parse("1.50000", 1), Ok(15));
        for text in ["18446744073709551616", "184467440737095516.16", &"9".repeat(50)] {
            assert_eq!(Quantity::parse(text, 2), Err(QuantityError::Overflow), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_quantity_survives_text(units in any::<u64>(), decimals in 0..=QUANTITY_DECIMALS_MAX, shift in 0_u32..64) {
            let units = units >> shift;
            let text = Quantity::new(units.into(), decimals).to_string();
            prop_assert_eq!(Quantity::parse(&text, decimals), Ok(units));
        }

        #[test]
        fn an_exact_quantity_is_what_its_text_says(units in any::<u64>(), decimals in 0..=QUANTITY_DECIMALS_MAX) {
            let text = Quantity::new(units.into(), decimals).to_string();
            let exact = Quantity::exact(&text).unwrap();
            prop_assert_eq!(exact, Quantity::new(units.into(), decimals).reduced());
            prop_assert_eq!(exact.to_string(), text);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}", decimals in any::<u8>()) {
            let _ = Quantity::parse(&text, decimals);
        }
    }
}
