//! A full block of an instrument's list, packed: the place of every entry in the log, and a copy of what
//! bars are made of. Each column is the difference to its least value, in as many bytes as the largest
//! needs, so that a column is unpacked by one load, one mask and one addition an entry.
//!
//! Why a copy: the trades of 500 instruments stand in the log one behind the other, so that those of one
//! are a cache line in every 32 KiB. Reading 40,000 of them there takes several milliseconds, from here
//! a tenth of one. The copy is 10 to 15 bytes an entry, and bounded: see `Index`.

use crate::limits::INDEX_BLOCK_TRADES;

/// One entry of an instrument's list: a trade or a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) seq: u64,
    pub(crate) ts: u64,
    pub(crate) price: i64,
    pub(crate) qty: u64,
    pub(crate) is_cancel: bool,
}

/// Which entries of a block are cancellations, as bits.
type Marks = [u64; INDEX_BLOCK_TRADES / 64];

/// One packed column.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    base: u64,
    /// Bytes of one value, 0 to 8.
    width: u8,
}

/// [`INDEX_BLOCK_TRADES`] entries.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) ts_min: u64,
    pub(crate) ts_max: u64,
    /// Whether event times never fall from one entry to the next.
    pub(crate) is_ordered: bool,
    /// Receive time of the first entry.
    pub(crate) received_first: u64,
    cancels: Option<Box<Marks>>,
    position: Column,
    seq: Column,
    ts: Column,
    price: Column,
    qty: Column,
    places: Box<[u8]>,
    /// `None` once the copy was given up for want of room.
    values: Option<Box<[u8]>>,
}

/// Behind the last value, so that it can be loaded like all others.
const PADDING: usize = 8;

/// Columns of a block, and which of [`Entry::words`] is the event time.
const COLUMNS: usize = 5;
const TS: usize = 2;

impl Entry {
    /// Its columns as they are packed: unsigned numbers.
    #[inline]
    fn words(&self) -> [u64; COLUMNS] {
        [self.position, self.seq, self.ts, packed_price(self.price), self.qty]
    }
}

/// How one column is packed, given its least and greatest value.
fn column(least: u64, greatest: u64) -> Column {
    let bits = u64::BITS - greatest.wrapping_sub(least).leading_zeros();
    Column { base: least, width: u8::try_from(bits.div_ceil(8)).unwrap_or(8) }
}

/// Writes one column from `start` on, and says where the next one begins.
#[inline]
fn fill(
    out: &mut [u8],
    start: usize,
    column: Column,
    entries: &[Entry],
    word: impl Fn(&Entry) -> u64,
) -> usize {
    let width = usize::from(column.width);
    let mut at = start;
    for entry in entries {
        // Eight bytes each; the next value, or the next column, overwrites what is beyond the width.
        if let Some(bytes) = out.get_mut(at..at + 8) {
            bytes.copy_from_slice(&(word(entry) - column.base).to_le_bytes());
        }
        at += width;
    }
    at
}

impl Column {
    fn mask(self) -> u64 {
        if self.width == 0 { 0 } else { u64::MAX >> (64 - 8 * u32::from(self.width)) }
    }

    fn bytes(self) -> usize {
        usize::from(self.width) * INDEX_BLOCK_TRADES
    }

    /// Whether the value can be one of the column's.
    fn reaches(self, value: u64) -> bool {
        value.checked_sub(self.base).is_some_and(|above| above <= self.mask())
    }

    /// The value of entry `index` in a column that begins at `start`.
    #[inline]
    fn get(self, bytes: &[u8], start: usize, index: usize) -> u64 {
        let at = start + index * usize::from(self.width);
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).unwrap_or([0; 8]);
        self.base.wrapping_add(u64::from_le_bytes(word) & self.mask())
    }

    fn unpack(self, bytes: &[u8], start: usize, out: &mut Vec<u64>) {
        out.clear();
        let (width, mask) = (usize::from(self.width), self.mask());
        if width == 0 {
            out.resize(INDEX_BLOCK_TRADES, self.base);
            return;
        }
        let column = bytes.get(start..).unwrap_or_default();
        // One window of eight bytes for each value: the padding makes the last one whole.
        let words = column.windows(8).step_by(width).take(INDEX_BLOCK_TRADES);
        out.extend(words.map(|word| {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            self.base.wrapping_add(word & mask)
        }));
    }
}

/// Prices are packed as unsigned numbers in the same order.
const SIGN: u64 = 1 << 63;

impl Block {
    /// Packs a full list of entries.
    pub(crate) fn pack(entries: &[Entry], received_first: u64) -> Block {
        // One look for everything that must be known before the first byte is written: the entries are
        // more than the nearest cache has room for.
        let (mut least, mut greatest) = ([u64::MAX; COLUMNS], [0; COLUMNS]);
        let mut cancels: Option<Box<Marks>> = None;
        let (mut is_ordered, mut ts_before) = (true, 0);
        for (index, entry) in entries.iter().enumerate() {
            for (place, word) in entry.words().into_iter().enumerate() {
                least[place] = word.min(least[place]);
                greatest[place] = word.max(greatest[place]);
            }
            is_ordered &= ts_before <= entry.ts;
            ts_before = entry.ts;
            if entry.is_cancel {
                let marks = cancels.get_or_insert_default();
                marks[index / 64] |= 1 << (index % 64);
            }
        }
        let [position, seq, ts, price, qty] =
            std::array::from_fn(|place| column(least[place], greatest[place]));
        let mut places = vec![0; position.bytes() + seq.bytes() + PADDING].into_boxed_slice();
        let at = fill(&mut places, 0, position, entries, |entry| entry.position);
        fill(&mut places, at, seq, entries, |entry| entry.seq);
        let bytes = ts.bytes() + price.bytes() + qty.bytes();
        let mut values = vec![0; bytes + PADDING].into_boxed_slice();
        let at = fill(&mut values, 0, ts, entries, |entry| entry.ts);
        let at = fill(&mut values, at, price, entries, |entry| packed_price(entry.price));
        fill(&mut values, at, qty, entries, |entry| entry.qty);
        Block {
            ts_min: ts.base,
            ts_max: greatest[TS],
            is_ordered,
            received_first,
            cancels,
            position,
            seq,
            ts,
            price,
            qty,
            places,
            values: Some(values),
        }
    }

    /// `seq` of the first entry.
    pub(crate) fn seq_first(&self) -> u64 {
        self.seq.base
    }

    /// Position and `seq` of one entry.
    #[inline]
    pub(crate) fn place(&self, index: usize) -> (u64, u64) {
        let position = self.position.get(&self.places, 0, index);
        (position, self.seq.get(&self.places, self.position.bytes(), index))
    }

    #[inline]
    pub(crate) fn is_cancel(&self, index: usize) -> bool {
        let marks = self.cancels.as_deref();
        marks.is_some_and(|marks| marks[index / 64] & (1 << (index % 64)) != 0)
    }

    pub(crate) fn has_cancels(&self) -> bool {
        self.cancels.is_some()
    }

    /// Event times; `false` when the copy was given up.
    pub(crate) fn unpack_times(&self, out: &mut Vec<u64>) -> bool {
        let Some(values) = &self.values else { return false };
        self.ts.unpack(values, 0, out);
        true
    }

    /// Prices, as unsigned numbers that [`price_of`] turns back, and quantities; `false` when the copy was
    /// given up.
    pub(crate) fn unpack_amounts(&self, prices: &mut Vec<u64>, quantities: &mut Vec<u64>) -> bool {
        let Some(values) = &self.values else { return false };
        self.price.unpack(values, self.ts.bytes(), prices);
        self.qty.unpack(values, self.ts.bytes() + self.price.bytes(), quantities);
        true
    }

    /// Whether an entry with this packed price and this quantity can be in here.
    pub(crate) fn may_have(&self, price: u64, qty: u64) -> bool {
        self.price.reaches(price) && self.qty.reaches(qty)
    }

    /// How far the nearest of its event times may be from this one.
    pub(crate) fn distance(&self, ts: u64) -> u64 {
        ts.saturating_sub(self.ts_max).max(self.ts_min.saturating_sub(ts))
    }

    /// Bytes of the copy.
    pub(crate) fn copy_bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.len())
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Block>() + self.places.len() + self.copy_bytes()
    }

    /// Gives up the copy, and says how many bytes it had.
    pub(crate) fn drop_copy(&mut self) -> usize {
        self.values.take().map_or(0, |values| values.len())
    }
}

/// The price of what [`Block::unpack_amounts`] gives.
#[inline]
pub(crate) fn price_of(packed: u64) -> i64 {
    (packed ^ SIGN).cast_signed()
}

/// What [`price_of`] turns back.
#[inline]
pub(crate) fn packed_price(price: i64) -> u64 {
    price.cast_unsigned() ^ SIGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn check(entries: &[Entry]) {
        let block = Block::pack(entries, 5);
        let (mut ts, mut prices, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
        assert!(block.unpack_times(&mut ts) && block.unpack_amounts(&mut prices, &mut quantities));
        assert_eq!(ts.len(), entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let (position, seq) = block.place(index);
            let unpacked = Entry {
                position,
                seq,
                ts: ts[index],
                price: price_of(prices[index]),
                qty: quantities[index],
                is_cancel: block.is_cancel(index),
            };
            assert_eq!(unpacked, *entry, "{index}");
        }
        assert_eq!(block.is_ordered, entries.is_sorted_by_key(|entry| entry.ts));
    }

    #[test]
    fn what_is_packed_comes_back_at_every_width() {
        let mut random = Random::new(7);
        for bits in 0..=64 {
            let mut value = || if bits == 0 { 0 } else { random.next_u64() >> (64 - bits) };
            let entries: Vec<Entry> = (0..INDEX_BLOCK_TRADES as u64)
                .map(|n| Entry {
                    position: n * 7,
                    seq: 9 + n * 90_000,
                    ts: value(),
                    price: value().cast_signed(),
                    qty: value(),
                    is_cancel: value() % 9 == 8,
                })
                .collect();
            check(&entries);
        }
    }

    #[test]
    fn the_ends_of_the_number_line_survive() {
        let edge = |n: usize| Entry {
            position: n as u64,
            seq: n as u64,
            ts: [0, u64::MAX][n % 2],
            price: [i64::MIN, i64::MAX, 0, -1][n % 4],
            qty: [u64::MAX, 0][n % 2],
            is_cancel: n == INDEX_BLOCK_TRADES - 1,
        };
        check(&(0..INDEX_BLOCK_TRADES).map(edge).collect::<Vec<_>>());
    }
}
