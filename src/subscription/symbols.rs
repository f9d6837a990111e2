//! Which instrument number is which symbol, as the peer announced it.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::INSTRUMENTS_MAX;
use crate::wire::{Decimals, Definition, Frame, FullName, InstrumentId, NameParts, Names, Symbol};

/// Decimals of an instrument that nobody announced.
const DECIMALS_DEFAULT: Decimals = Decimals { price: 2, quantity: 0 };

/// Symbols and decimals by instrument, fed by definition frames. Bounded: instruments beyond the
/// limit show no symbol.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    by_instrument: BTreeMap<InstrumentId, Known>,
    /// All instruments by their shortest names.
    shortest: BTreeSet<(Symbol, InstrumentId)>,
    symbol_columns: usize,
    /// Full names, of few instruments.
    full_names: BTreeMap<InstrumentId, NameParts>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    names: Names,
    decimals: Decimals,
    /// The short form while no other instrument is called so, else the symbol.
    shown: Symbol,
}

impl Symbols {
    /// Learns from a frame when it is a definition or a part of a name; to be shown every frame. Whether it was news.
    pub fn note(&mut self, frame: &Frame) -> bool {
        if !frame.is_naming() {
            return false;
        }
        let Some(definition) = frame.view::<Definition>() else {
            // Nothing is named that is not defined, so there are no more of them.
            if !self.by_instrument.contains_key(&frame.instrument()) {
                return false;
            }
            let parts = self.full_names.entry(frame.instrument()).or_default();
            let before = parts.frames().count();
            return parts.note(frame) && parts.frames().count() != before;
        };
        let instrument = definition.instrument();
        let (names, decimals) = (definition.names(), definition.decimals());
        let before = self.by_instrument.get(&instrument).copied();
        if before.is_none() && self.by_instrument.len() >= INSTRUMENTS_MAX {
            return false;
        }
        let is_news = before.is_none_or(|known| (known.names, known.decimals) != (names, decimals));
        let shown = *names.symbol();
        self.by_instrument.insert(instrument, Known { names, decimals, shown });
        if before.is_some_and(|before| before.names.symbol() != names.symbol()) {
            self.full_names.remove(&instrument);
        }
        if let Some(before) = before.map(|known| known.names.shortest()) {
            self.shortest.remove(&(before, instrument));
            self.decide_shown(before);
        }
        self.shortest.insert((names.shortest(), instrument));
        self.decide_shown(names.shortest());
        let shown = self.shown(instrument).map_or(0, |shown| shown.as_str().len());
        self.symbol_columns = self.symbol_columns.max(shown);
        is_news
    }

    /// Decides how instruments are shown of which this is the shortest name. Only whether there is one or two of them
    /// matters: a third one changes nothing for the first two.
    fn decide_shown(&mut self, shortest: Symbol) {
        let from = (shortest, InstrumentId::default());
        let named = self.shortest.range(from..).take_while(|(name, _)| *name == shortest);
        let mut named = named.map(|(_, instrument)| *instrument);
        let (first, second) = (named.next(), named.next());
        let is_only = second.is_none();
        for instrument in first.into_iter().chain(second) {
            let Some(known) = self.by_instrument.get_mut(&instrument) else { continue };
            known.shown = if is_only { shortest } else { *known.names.symbol() };
            self.symbol_columns = self.symbol_columns.max(known.shown.as_str().len());
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
        self.by_instrument.get(&instrument).map(|known| known.names.symbol())
    }

    /// What the instrument's symbol stands for, where that is another name and was told.
    #[must_use]
    pub fn full_name(&self, instrument: InstrumentId) -> Option<FullName> {
        self.full_names.get(&instrument)?.full_name(self.symbol(instrument)?)
    }

    /// The instrument's names, when it was announced.
    #[must_use]
    pub fn names(&self, instrument: InstrumentId) -> Option<&Names> {
        self.by_instrument.get(&instrument).map(|known| &known.names)
    }

    /// The name for people: the symbol without its venue, while no other instrument here is called so.
    #[must_use]
    pub fn shown(&self, instrument: InstrumentId) -> Option<&Symbol> {
        self.by_instrument.get(&instrument).map(|known| &known.shown)
    }

    /// Decimals that its prices have at least, and those of a unit of its quantities.
    #[must_use]
    pub fn decimals(&self, instrument: InstrumentId) -> Decimals {
        self.by_instrument.get(&instrument).map_or(DECIMALS_DEFAULT, |known| known.decimals)
    }

    /// Length of the longest name so far as it was shown.
    #[must_use]
    pub fn symbol_columns(&self) -> usize {
        self.symbol_columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::U32;

    fn plain(number: u32, symbol: &str) -> Definition {
        Definition::new(U32::new(number).into(), symbol.parse().unwrap(), 2)
    }

    fn noted(symbols: &mut Symbols, definition: Definition) {
        symbols.note(&Frame::seal(definition));
    }

    fn shown(symbols: &Symbols) -> Vec<&str> {
        let shown = (0..4).filter_map(|number| symbols.shown(U32::new(number).into()));
        shown.map(Symbol::as_str).collect()
    }

    #[test]
    fn the_venue_is_shown_while_two_instruments_are_called_the_same() {
        let mut symbols = Symbols::default();
        noted(&mut symbols, plain(0, "xnas:AMZN").at_venue());
        noted(&mut symbols, plain(1, "UD:1V"));
        assert_eq!((shown(&symbols), symbols.symbol_columns()), (vec!["AMZN", "UD:1V"], 5));
        noted(&mut symbols, plain(2, "arcx:AMZN").at_venue());
        let both = ["xnas:AMZN", "UD:1V", "arcx:AMZN"];
        assert_eq!((shown(&symbols), symbols.symbol_columns()), (both.to_vec(), 9));
        noted(&mut symbols, plain(2, "arcx:AMZN").at_venue());
        assert_eq!(shown(&symbols), both, "it is said again");
        noted(&mut symbols, plain(3, "longest:AMZN").at_venue());
        assert_eq!(shown(&symbols), ["xnas:AMZN", "UD:1V", "arcx:AMZN", "longest:AMZN"]);
        assert_eq!(symbols.symbol_columns(), 12);
        // Two of them get other names: the last one is alone again.
        noted(&mut symbols, plain(3, "VALE3"));
        assert_eq!(shown(&symbols)[2..], ["arcx:AMZN", "VALE3"]);
        noted(&mut symbols, plain(2, "arcx:AMD").at_venue());
        assert_eq!(shown(&symbols), ["AMZN", "UD:1V", "AMD", "VALE3"]);
        let symbol = symbols.symbol(U32::new(0).into()).map(Symbol::as_str);
        assert_eq!(symbol, Some("xnas:AMZN"), "programs get the whole name");
    }

    #[test]
    fn an_instrument_without_a_venue_shares_its_name_with_one_that_has_one() {
        for turned in [false, true] {
            let mut symbols = Symbols::default();
            let mut all = [plain(0, "AMZN"), plain(1, "xnas:AMZN").at_venue()];
            if turned {
                all.reverse();
            }
            all.into_iter().for_each(|definition| noted(&mut symbols, definition));
            assert_eq!(shown(&symbols), ["AMZN", "xnas:AMZN"]);
        }
    }
}
