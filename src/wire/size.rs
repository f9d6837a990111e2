//! The size at one side of a book, in four bytes: digits and a power of ten.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::U32;

/// Bits of the digits; the power of ten stands above them.
const DIGITS_BITS: u32 = 28;
const DIGITS_MAX: u64 = (1 << DIGITS_BITS) - 1;

/// A size in units of the instrument: its lower 28 bits times ten to the power of its upper 4 bits. Every size below
/// 268,435,456 units is exact, and of a larger one at least the first eight digits are; the others read as zero, so that no
/// more is shown than there is.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash,
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[rustfmt::skip]
#[repr(transparent)]
pub struct Size(U32);

impl Size {
    /// The size that stands for so many units.
    #[inline]
    #[must_use]
    pub const fn new(units: u64) -> Size {
        let (mut digits, mut power) = (units, 0);
        // Twelve times at most: no number of 64 bits is longer than twenty digits.
        while digits > DIGITS_MAX {
            digits /= 10;
            power += 1;
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most 28 bits")]
        Size(U32::new((power << DIGITS_BITS) | digits as u32))
    }

    /// In units of the instrument. A number that a peer made up fits too.
    #[must_use]
    pub const fn units(self) -> u128 {
        let bits = self.0.get();
        (bits as u64 & DIGITS_MAX) as u128 * 10_u128.pow(bits >> DIGITS_BITS)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.units().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_of_eight_digits_are_exact_and_larger_ones_keep_their_first_eight() {
        for units in [0, 1, 300, 99_999_999, 100_000_000, DIGITS_MAX] {
            assert_eq!(Size::new(units).units(), u128::from(units));
        }
        for (units, shown) in [
            (DIGITS_MAX + 1, 268_435_450),
            (u64::from(u32::MAX), 4_294_967_200),
            (12_500_000_000_005, 12_500_000_000_000),
            (u64::MAX, 18_446_744_000_000_000_000),
        ] {
            let size = Size::new(units).units();
            assert!(size <= u128::from(units), "{units} shows {size}");
            assert!(
                size >= shown && u128::from(units) - size <= size / 10_000_000,
                "{units}: {size}"
            );
        }
        assert_eq!(Size(U32::new(u32::MAX)).units(), u128::from(DIGITS_MAX) * 10_u128.pow(15));
    }

    proptest! {
        #[test]
        fn no_size_is_off_by_more_than_its_ninth_digit(units in any::<u64>(), shift in 0_u32..64) {
            let units = units >> shift;
            let size = Size::new(units);
            let shown = size.units();
            prop_assert!(shown <= u128::from(units));
            let (text, whole) = (shown.to_string(), units.to_string());
            prop_assert_eq!(text.len(), whole.len());
            prop_assert_eq!(&text[..text.len().min(8)], &whole[..whole.len().min(8)]);
            // What is shown is shown again as it is.
            prop_assert_eq!(Size::new(u64::try_from(shown).unwrap()), size);
        }
    }
}
