//! A set of instruments of the market: a bit for each index, so 8 KiB at most.

use crate::limits;
use crate::wire::InstrumentIndex;

/// Bits of one word.
const BITS: usize = u64::BITS as usize;

/// Instruments, by index.
#[derive(Debug, Default)]
pub(super) struct InstrumentSet(Vec<u64>);

impl InstrumentSet {
    /// Adds an instrument; one beyond the bound is left out.
    pub(super) fn insert(&mut self, index: InstrumentIndex) {
        let place = index.place();
        if place >= limits::INSTRUMENTS_MAX {
            return;
        }
        if self.0.len() <= place / BITS {
            self.0.resize(place / BITS + 1, 0);
        }
        if let Some(word) = self.0.get_mut(place / BITS) {
            *word |= 1 << (place % BITS);
        }
    }

    /// Whether an instrument is in it.
    pub(super) fn contains(&self, index: InstrumentIndex) -> bool {
        let word = self.0.get(index.place() / BITS);
        word.is_some_and(|word| word & 1 << (index.place() % BITS) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_put_in_and_a_bound() {
        let mut set = InstrumentSet::default();
        let last = u32::try_from(limits::INSTRUMENTS_MAX).unwrap() - 1;
        for index in [0, 63, 64, last] {
            assert!(!set.contains(InstrumentIndex::new(index)), "{index}");
            set.insert(InstrumentIndex::new(index));
            assert!(set.contains(InstrumentIndex::new(index)), "{index}");
        }
        set.insert(InstrumentIndex::new(last + 1));
        for index in [1, last + 1] {
            assert!(!set.contains(InstrumentIndex::new(index)), "{index}");
        }
        assert_eq!(set.0.len() * BITS, limits::INSTRUMENTS_MAX);
    }
}
