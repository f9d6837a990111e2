//! The table of one source's instruments: symbol, number, and how its prices are shown.

use std::collections::BTreeMap;

use crate::limits::INSTRUMENTS_MAX;
use crate::market::price::DECIMALS_MAX;
use crate::wire::Symbol;

/// Bits of a frame's instrument field that number the instrument; the rest number the source.
const INDEX_BITS: u32 = 24;

/// A frame's instrument field. Only the lower 24 bits of `index` count.
#[must_use]
pub const fn instrument_id(source: u8, index: u32) -> u32 {
    ((source as u32) << INDEX_BITS) | instrument_index(index)
}

/// The instrument within its source.
#[must_use]
pub const fn instrument_index(instrument: u32) -> u32 {
    instrument & ((1 << INDEX_BITS) - 1)
}

/// The source of a frame's instrument field.
#[must_use]
pub const fn instrument_source(instrument: u32) -> u8 {
    instrument.to_be_bytes()[0]
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its name.
    pub symbol: Symbol,
    /// How many decimals its prices are shown with (0 to 9).
    pub decimals: u8,
}

/// The table has [`INSTRUMENTS_MAX`] instruments and takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {INSTRUMENTS_MAX} instruments")]
pub struct TableFull;

/// Symbols and their indexes, numbered from 0 in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instruments {
    rows: Vec<Instrument>,
    by_symbol: BTreeMap<Symbol, u32>,
}

impl Instruments {
    /// An empty table.
    #[must_use]
    pub fn new() -> Instruments {
        Instruments::default()
    }

    /// The index of `symbol`, which gets the next free one when it is new. A known instrument
    /// keeps the larger of the two numbers of decimals.
    ///
    /// # Errors
    /// When the symbol is new and the table full.
    pub fn insert(&mut self, symbol: Symbol, decimals: u8) -> Result<u32, TableFull> {
        if let Some(&index) = self.by_symbol.get(&symbol) {
            self.raise_decimals(index, decimals);
            return Ok(index);
        }
        if self.rows.len() >= INSTRUMENTS_MAX {
            return Err(TableFull);
        }
        let index = u32::try_from(self.rows.len()).map_err(|_| TableFull)?;
        self.rows.push(Instrument { symbol, decimals: decimals.min(DECIMALS_MAX) });
        self.by_symbol.insert(symbol, index);
        Ok(index)
    }

    /// Makes the instrument show at least this many decimals.
    pub fn raise_decimals(&mut self, index: u32, decimals: u8) {
        if let Some(row) = self.rows.get_mut(index as usize) {
            row.decimals = row.decimals.max(decimals.min(DECIMALS_MAX));
        }
    }

    /// The index of a known symbol.
    #[must_use]
    pub fn index_of(&self, symbol: &Symbol) -> Option<u32> {
        self.by_symbol.get(symbol).copied()
    }

    /// The instrument with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Instrument> {
        self.rows.get(index as usize)
    }

    /// All instruments; a row's position is its index.
    #[must_use]
    pub fn rows(&self) -> &[Instrument] {
        &self.rows
    }

    /// How many instruments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Symbol {
        text.parse().unwrap()
    }

    #[test]
    fn a_symbol_keeps_its_index_and_its_finest_decimals() {
        let mut table = Instruments::new();
        assert_eq!(table.insert(symbol("PETR4"), 2), Ok(0));
        assert_eq!(table.insert(symbol("VALE3"), 2), Ok(1));
        assert_eq!(table.insert(symbol("PETR4"), 3), Ok(0));
        assert_eq!(table.insert(symbol("PETR4"), 1), Ok(0));
        assert_eq!(table.get(0).unwrap().decimals, 3);
        assert_eq!(table.index_of(&symbol("VALE3")), Some(1));
        assert_eq!(table.index_of(&symbol("ITUB4")), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_full_table_refuses_new_symbols_and_serves_old_ones() {
        let mut table = Instruments::new();
        for number in 0..INSTRUMENTS_MAX {
            table.insert(symbol(&format!("X{number}")), 2).unwrap();
        }
        assert_eq!(table.insert(symbol("ONEMORE"), 2), Err(TableFull));
        assert_eq!(table.insert(symbol("X7"), 2), Ok(7));
    }

    #[test]
    fn source_and_index_do_not_touch_each_other() {
        let id = instrument_id(0xAB, 0xFF00_0001);
        assert_eq!(id, 0xAB00_0001);
        assert_eq!((instrument_source(id), instrument_index(id)), (0xAB, 1));
    }
}
