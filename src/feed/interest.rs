//! What readers are interested in, shared: readers with the same patterns share one [`Interest`], so
//! that a thousand equal watch lists cost one table.

use slab::Slab;

use super::{LastValues, Pattern};
use crate::wire::{Frame, InstrumentIndex, Kind, Symbol};

/// Names an interest of one [`Interests`] table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterestId(u32);

/// A set of patterns, resolved to instruments.
#[derive(Debug)]
pub struct Interest {
    patterns: Vec<Pattern>,
    /// By instrument index: the kinds wanted of it.
    kinds: Vec<u16>,
    is_everything: bool,
    readers: usize,
}

impl Interest {
    /// Whether every frame of the source is wanted, so that nothing needs to be looked at.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether a data frame is wanted.
    #[must_use]
    pub fn wants(&self, frame: &Frame) -> bool {
        let kinds = self.kinds_of(frame.instrument().index());
        // A definition is wanted with anything of its instrument.
        frame.kind == Kind::Definition as u8 && kinds != 0
            || frame.kind < 16 && kinds & (1 << frame.kind) != 0
    }

    /// The kinds wanted of the instrument with this index.
    #[must_use]
    pub fn kinds_of(&self, index: InstrumentIndex) -> u16 {
        self.kinds.get(index.place()).copied().unwrap_or(0)
    }

    /// How many instruments are wanted now.
    #[must_use]
    pub fn matched(&self) -> usize {
        self.kinds.iter().filter(|&&kinds| kinds != 0).count()
    }

    /// What it holds on the heap, or close to it.
    fn bytes(&self) -> usize {
        self.kinds.capacity() * size_of::<u16>()
            + self.patterns.capacity() * size_of::<Pattern>()
            + size_of::<Interest>()
    }

    fn note_definition(&mut self, index: InstrumentIndex, symbol: &Symbol) {
        let wanted = self.patterns.iter().filter(|pattern| pattern.matches(symbol));
        let kinds = wanted.fold(0, |kinds, pattern| kinds | pattern.kinds());
        if self.kinds.len() <= index.place() && kinds != 0 {
            self.kinds.resize(index.place() + 1, 0);
        }
        if let Some(place) = self.kinds.get_mut(index.place()) {
            *place = kinds;
        }
    }
}

/// All interests in one source.
#[derive(Debug, Default)]
pub struct Interests {
    table: Slab<Interest>,
    /// What all of them hold.
    bytes: usize,
}

impl Interests {
    /// Adds a reader with these patterns.
    pub fn join(&mut self, mut patterns: Vec<Pattern>, values: &LastValues) -> InterestId {
        patterns.sort();
        patterns.dedup();
        if let Some((key, same)) = self.table.iter_mut().find(|(_, i)| i.patterns == patterns) {
            same.readers += 1;
            return id_of(key);
        }
        let is_everything = patterns.iter().any(Pattern::is_everything);
        let mut interest = Interest { patterns, kinds: Vec::new(), is_everything, readers: 1 };
        for index in InstrumentIndex::until(values.index_end()) {
            if let Some(symbol) = values.symbol(index) {
                interest.note_definition(index, &symbol);
            }
        }
        self.bytes += interest.bytes();
        id_of(self.table.insert(interest))
    }

    /// Takes a reader away.
    pub fn leave(&mut self, id: InterestId) {
        if let Some(interest) = self.table.get_mut(id.0 as usize) {
            interest.readers -= 1;
            if interest.readers == 0 {
                self.bytes = self.bytes.saturating_sub(interest.bytes());
                self.table.remove(id.0 as usize);
            }
        }
    }

    /// A new instrument: every interest decides whether it is meant.
    pub fn note_definition(&mut self, index: InstrumentIndex, symbol: &Symbol) {
        for (_, interest) in &mut self.table {
            let before = interest.kinds.capacity();
            interest.note_definition(index, symbol);
            self.bytes += (interest.kinds.capacity() - before) * size_of::<u16>();
        }
    }

    /// What all interests hold in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The interest with this id.
    #[must_use]
    pub fn get(&self, id: InterestId) -> Option<&Interest> {
        self.table.get(id.0 as usize)
    }
}

fn id_of(key: usize) -> InterestId {
    InterestId(u32::try_from(key).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Definition, Quote, Trade, U32};

    #[test]
    fn patterns_are_shared_and_follow_new_definitions() {
        let mut values = LastValues::default();
        let mut interests = Interests::default();
        let trades_of_petr = || vec![Pattern::new("PETR*", Kind::Trade.mask()).unwrap()];
        let first = interests.join(trades_of_petr(), &values);
        assert_eq!(interests.join(trades_of_petr(), &values), first);

        let petr4: Symbol = "PETR4".parse().unwrap();
        values.note(&Frame::seal(Definition::new(U32::new(5).into(), petr4, 2)));
        interests.note_definition(InstrumentIndex::new(5), &petr4);
        let interest = interests.get(first).unwrap();
        let instrument = U32::new(5);
        assert!(interest.wants(&Frame::seal(Trade { instrument, ..Trade::default() })));
        assert!(interest.wants(&Frame::seal(Definition::new(U32::new(5).into(), petr4, 2))));
        assert!(!interest.wants(&Frame::seal(Quote { instrument, ..Quote::default() })));
        assert!(!interest.wants(&Frame::seal(Trade::default())), "another instrument");
        assert_eq!(interest.matched(), 1);

        interests.leave(first);
        assert!(interests.get(first).is_some(), "one reader is left");
        interests.leave(first);
        assert!(interests.get(first).is_none());
    }
}
