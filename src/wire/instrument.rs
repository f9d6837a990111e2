//! How an instrument is numbered. A frame has the number as 32 bits; nobody but this file takes it apart.

use std::fmt;

use super::U32;

/// Bits of an instrument's number that are its index; those above them are its source.
const INDEX_BITS: u32 = 24;

/// An instrument: its source, and its index within that source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(u32);

/// An instrument among those of one source. Every table of instruments is one source's, and goes by this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentIndex(u32);

impl InstrumentId {
    /// The instrument with this index within a source.
    #[inline]
    #[must_use]
    pub const fn new(source: u8, index: InstrumentIndex) -> InstrumentId {
        InstrumentId(((source as u32) << INDEX_BITS) | index.0)
    }

    /// Its source.
    #[inline]
    #[must_use]
    pub const fn source(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Its index within its source.
    #[inline]
    #[must_use]
    pub const fn index(self) -> InstrumentIndex {
        InstrumentIndex::new(self.0)
    }
}

impl InstrumentIndex {
    /// The first one.
    pub const FIRST: InstrumentIndex = InstrumentIndex(0);
    /// The last one that a number has room for.
    pub const LAST: InstrumentIndex = InstrumentIndex((1 << INDEX_BITS) - 1);

    /// The index with this number, of which only the lower 24 bits count.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> InstrumentIndex {
        InstrumentIndex(number & InstrumentIndex::LAST.0)
    }

    /// The index of a place in a table; `None` when no instrument can stand there.
    #[must_use]
    pub fn at(place: usize) -> Option<InstrumentIndex> {
        let index = u32::try_from(place).ok().map(InstrumentIndex);
        index.filter(|index| *index <= InstrumentIndex::LAST)
    }

    /// The one behind it; there is none behind the last, which stays.
    #[inline]
    #[must_use]
    pub const fn next(self) -> InstrumentIndex {
        if self.0 < InstrumentIndex::LAST.0 { InstrumentIndex(self.0 + 1) } else { self }
    }

    /// All from the first one to the one ahead of `end`.
    pub fn until(end: InstrumentIndex) -> impl Iterator<Item = InstrumentIndex> + Clone {
        (0..end.0).map(InstrumentIndex)
    }

    /// Its place in a table.
    #[inline]
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// As a number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// As it stands in a frame.
impl From<U32> for InstrumentId {
    #[inline]
    fn from(field: U32) -> InstrumentId {
        InstrumentId(field.get())
    }
}

/// As it stands in a frame.
impl From<InstrumentId> for U32 {
    #[inline]
    fn from(id: InstrumentId) -> U32 {
        U32::new(id.0)
    }
}

/// The number of both.
impl fmt::Display for InstrumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::LowerHex for InstrumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for InstrumentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_index_do_not_touch_each_other() {
        let id = InstrumentId::new(0xAB, InstrumentIndex::new(0xFF00_0001));
        assert_eq!(id.to_string(), 0xAB00_0001_u32.to_string());
        assert_eq!((id.source(), id.index().get()), (0xAB, 1));
        assert_eq!(U32::from(id), U32::new(0xAB00_0001));
        assert_eq!(InstrumentId::from(U32::new(0xAB00_0001)), id);
    }

    #[test]
    fn a_place_beyond_the_last_index_is_no_instrument() {
        assert_eq!(InstrumentIndex::at(0x00FF_FFFF).map(InstrumentIndex::place), Some(0x00FF_FFFF));
        assert_eq!(InstrumentIndex::at(0x0100_0000), None);
    }

    #[test]
    fn instruments_stand_in_the_order_of_their_numbers() {
        let of = |source, index| InstrumentId::new(source, InstrumentIndex::new(index));
        assert!(of(1, 0x00FF_FFFF) < of(2, 0) && of(2, 0) < of(2, 1));
    }
}
