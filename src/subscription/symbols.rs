//! Which instrument number is which symbol, as the peer announced it.

use std::collections::BTreeMap;

use crate::limits::INSTRUMENTS_MAX;
use crate::wire::{Decimals, Definition, Frame, InstrumentId, Symbol};

/// Decimals of an instrument that nobody announced.
const DECIMALS_DEFAULT: Decimals = Decimals { price: 2, quantity: 0 };

/// Symbols and decimals by instrument, fed by definition frames. Bounded: instruments beyond the
/// limit show no symbol.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    by_instrument: BTreeMap<InstrumentId, (Symbol, Decimals)>,
    symbol_columns: usize,
}

impl Symbols {
    /// Learns from a frame when it is a definition; to be shown every frame.
    pub fn note(&mut self, frame: &Frame) {
        let Some(definition) = frame.view::<Definition>() else { return };
        let instrument = definition.instrument();
        let known = self.by_instrument.contains_key(&instrument);
        if known || self.by_instrument.len() < INSTRUMENTS_MAX {
            let symbol = definition.symbol;
            self.symbol_columns = self.symbol_columns.max(symbol.as_str().len());
            self.by_instrument.insert(instrument, (symbol, definition.decimals()));
        }
    }

    /// Whether nothing has been announced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_instrument.is_empty()
    }

    /// The instrument's symbol, when it was announced.
    #[must_use]
    pub fn symbol(&self, instrument: InstrumentId) -> Option<&Symbol> {
        self.by_instrument.get(&instrument).map(|(symbol, _)| symbol)
    }

    /// Decimals that its prices have at least, and those of a unit of its quantities.
    #[must_use]
    pub fn decimals(&self, instrument: InstrumentId) -> Decimals {
        self.by_instrument.get(&instrument).map_or(DECIMALS_DEFAULT, |(_, decimals)| *decimals)
    }

    /// Length of the longest symbol so far.
    #[must_use]
    pub fn symbol_columns(&self) -> usize {
        self.symbol_columns
    }
}
