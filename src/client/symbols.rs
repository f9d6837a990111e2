//! Instrument numbers and names, learned from DEFINITION frames.

use std::collections::BTreeMap;

use crate::limits;
use crate::wire::{Definition, Frame, Symbol};

/// A table of what DEFINITION frames said.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    known: BTreeMap<u32, (Symbol, u8)>,
}

impl Symbols {
    /// Takes note of a DEFINITION frame; other frames change nothing.
    pub fn note(&mut self, frame: &Frame) {
        let Some(definition) = frame.view::<Definition>() else { return };
        if self.known.len() < limits::INSTRUMENTS_MAX {
            let instrument = definition.instrument.get();
            self.known.insert(instrument, (definition.symbol, definition.decimals()));
        }
    }

    /// The name of an instrument.
    #[must_use]
    pub fn symbol(&self, instrument: u32) -> Option<Symbol> {
        self.known.get(&instrument).map(|&(symbol, _)| symbol)
    }

    /// How many decimals its prices are shown with; 2 for an unknown one.
    #[must_use]
    pub fn decimals(&self, instrument: u32) -> u8 {
        self.known.get(&instrument).map_or(2, |&(_, decimals)| decimals)
    }
}
