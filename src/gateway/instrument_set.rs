//! A set of instruments of the market: a bit for each index, so 8 KiB at most.

use crate::limits;
use crate::wire::InstrumentIndex;

/// Bits of one word.
const BITS: usize = u64::BITS as usize;

/// Instruments, by index.
#[derive(Debug, Default)]
pub(super) struct InstrumentSet(Vec<u64>);

impl InstrumentSet {
    /// Adds an instrument. Whether it was not there; one beyond the bound never is.
    pub(super) fn insert(&mut self, index: InstrumentIndex) -> bool {
        let place = index.place();
        if place >= limits::INSTRUMENTS_MAX {
            return true;
        }
        if self.0.len() <= place / BITS {
            self.0.resize(place / BITS + 1, 0);
        }
        let Some(word) = self.0.get_mut(place / BITS) else { return true };
        let bit = 1 << (place % BITS);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instrument_is_new_once_and_the_set_has_a_bound() {
        let mut set = InstrumentSet::default();
        let last = u32::try_from(limits::INSTRUMENTS_MAX).unwrap() - 1;
        for index in [0, 63, 64, last] {
            assert!(set.insert(InstrumentIndex::new(index)), "{index}");
            assert!(!set.insert(InstrumentIndex::new(index)), "{index}");
        }
        assert!(set.insert(InstrumentIndex::new(1)));
        assert!(set.insert(InstrumentIndex::new(last + 1)));
        assert_eq!(set.0.len() * BITS, limits::INSTRUMENTS_MAX);
    }
}
