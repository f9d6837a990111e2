//! Prices as exact decimal text.

use crate::wire::PRICE_UNDEFINED;

const UNITS_PER_ONE: u128 = 1_000_000_000;
const DECIMALS_MAX: usize = 9;

/// A price in units of 1e-9 as decimal text, exact, with at least this many decimals.
pub(super) fn decimal(units: i128, decimals_min: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let units = units.unsigned_abs();
    let fraction = format!("{:09}", units % UNITS_PER_ONE);
    let needed = fraction.trim_end_matches('0').len();
    let shown = needed.max(usize::from(decimals_min)).min(DECIMALS_MAX);
    let point = if shown == 0 { "" } else { "." };
    format!("{sign}{}{point}{}", units / UNITS_PER_ONE, &fraction[..shown])
}

/// The same of a price in a frame; `None` when it is undefined.
pub(super) fn price(units: i64, decimals_min: u8) -> Option<String> {
    (units != PRICE_UNDEFINED).then(|| decimal(i128::from(units), decimals_min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_at_every_edge() {
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
        assert_eq!(price(PRICE_UNDEFINED, 2), None);
        assert_eq!(price(PRICE_UNDEFINED - 1, 2).unwrap(), "9223372036.854775806");
    }
}
