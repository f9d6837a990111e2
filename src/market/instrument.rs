//! The table of one source's instruments: symbol, number, and how its prices are shown.

use std::collections::BTreeMap;

use crate::limits::INSTRUMENTS_MAX;
use crate::market::price::DECIMALS_MAX;
use crate::wire::{
    Definition, Frame, FullName, InstrumentId, InstrumentIndex, InstrumentName,
    QUANTITY_DECIMALS_MAX, Symbol,
};

/// How an exchange numbers an instrument in its frames: it knows of no sources, so 0 stands for its own.
#[must_use]
pub const fn exchange_id(index: InstrumentIndex) -> InstrumentId {
    InstrumentId::new(0, index)
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its name.
    pub symbol: Symbol,
    /// What the symbol stands for, where that is another name.
    pub full_name: Option<FullName>,
    /// How many decimals its prices are shown with (0 to 9).
    pub decimals: u8,
    /// How many decimals a unit of its quantities has (0 to 14).
    pub quantity_decimals: u8,
    /// Whether its name begins with its venue.
    pub is_at_venue: bool,
}

impl Instrument {
    /// What the exchange says of it.
    #[must_use]
    pub fn definition(&self, index: InstrumentIndex) -> Definition {
        let definition = Definition::new(exchange_id(index), self.symbol, self.decimals)
            .with_quantity_decimals(self.quantity_decimals);
        if self.is_at_venue { definition.at_venue() } else { definition }
    }

    /// The parts of its full name, where that is another than its symbol. They come ahead of the feed, and have no place in it.
    pub fn name_parts(&self, index: InstrumentIndex) -> impl Iterator<Item = Frame> + use<> {
        let parts = self.full_name.map(|name| InstrumentName::parts(exchange_id(index), &name));
        parts.into_iter().flatten()
    }
}

/// The table has [`INSTRUMENTS_MAX`] instruments and takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {INSTRUMENTS_MAX} instruments")]
pub struct TableFull;

/// Symbols and their indexes, numbered from 0 in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instruments {
    rows: Vec<Instrument>,
    by_symbol: BTreeMap<Symbol, InstrumentIndex>,
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
    pub fn insert(&mut self, symbol: Symbol, decimals: u8) -> Result<InstrumentIndex, TableFull> {
        if let Some(&index) = self.by_symbol.get(&symbol) {
            self.raise_decimals(index, decimals);
            return Ok(index);
        }
        if self.rows.len() >= INSTRUMENTS_MAX {
            return Err(TableFull);
        }
        let index = InstrumentIndex::at(self.rows.len()).ok_or(TableFull)?;
        let decimals = decimals.min(DECIMALS_MAX);
        let is_at_venue = false;
        let (full_name, quantity_decimals) = (None, 0);
        self.rows.push(Instrument { symbol, full_name, decimals, quantity_decimals, is_at_venue });
        self.by_symbol.insert(symbol, index);
        Ok(index)
    }

    /// Takes in the row of another table, whose symbol is new here.
    ///
    /// # Errors
    /// When the table is full.
    pub fn insert_row(&mut self, row: &Instrument) -> Result<InstrumentIndex, TableFull> {
        let index = self.insert(row.symbol, row.decimals)?;
        if let Some(place) = self.rows.get_mut(index.place()) {
            *place = *row;
        }
        Ok(index)
    }

    /// Makes the instrument show at least this many decimals.
    pub fn raise_decimals(&mut self, index: InstrumentIndex, decimals: u8) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.decimals = row.decimals.max(decimals.min(DECIMALS_MAX));
        }
    }

    /// States how many decimals a unit of the instrument's quantities has. Without a word they are whole numbers.
    pub fn set_quantity_decimals(&mut self, index: InstrumentIndex, decimals: u8) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.quantity_decimals = decimals.min(QUANTITY_DECIMALS_MAX);
        }
    }

    /// States the name that the instrument's symbol stands for.
    pub fn set_full_name(&mut self, index: InstrumentIndex, name: FullName) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.full_name = Some(name);
        }
    }

    /// States that the instrument's name begins with its venue.
    pub fn set_at_venue(&mut self, index: InstrumentIndex) {
        if let Some(row) = self.rows.get_mut(index.place()) {
            row.is_at_venue = true;
        }
    }

    /// The index of a known symbol.
    #[must_use]
    pub fn index_of(&self, symbol: &Symbol) -> Option<InstrumentIndex> {
        self.by_symbol.get(symbol).copied()
    }

    /// The instrument with this index.
    #[must_use]
    pub fn get(&self, index: InstrumentIndex) -> Option<&Instrument> {
        self.rows.get(index.place())
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
        assert_eq!(table.insert(symbol("PETR4"), 2), Ok(InstrumentIndex::new(0)));
        assert_eq!(table.insert(symbol("VALE3"), 2), Ok(InstrumentIndex::new(1)));
        assert_eq!(table.insert(symbol("PETR4"), 3), Ok(InstrumentIndex::new(0)));
        assert_eq!(table.insert(symbol("PETR4"), 1), Ok(InstrumentIndex::new(0)));
        assert_eq!(table.get(InstrumentIndex::FIRST).unwrap().decimals, 3);
        assert_eq!(table.index_of(&symbol("VALE3")), Some(InstrumentIndex::new(1)));
        assert_eq!(table.index_of(&symbol("ITUB4")), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_row_of_another_table_keeps_all_that_it_says() {
        let (mut one, mut other) = (Instruments::new(), Instruments::new());
        let index = one.insert(symbol("xnas:BTC"), 2).unwrap();
        one.set_quantity_decimals(index, 8);
        one.set_at_venue(index);
        other.insert(symbol("PETR4"), 2).unwrap();
        let row = *one.get(index).unwrap();
        let copy = other.insert_row(&row).unwrap();
        assert_eq!((copy, other.get(copy)), (InstrumentIndex::new(1), Some(&row)));
        let definition = row.definition(copy);
        assert!(definition.is_at_venue() && definition.decimals().quantity == 8);
    }

    #[test]
    fn a_full_table_refuses_new_symbols_and_serves_old_ones() {
        let mut table = Instruments::new();
        for number in 0..INSTRUMENTS_MAX {
            table.insert(symbol(&format!("X{number}")), 2).unwrap();
        }
        assert_eq!(table.insert(symbol("ONEMORE"), 2), Err(TableFull));
        assert_eq!(table.insert(symbol("X7"), 2), Ok(InstrumentIndex::new(7)));
    }
}
