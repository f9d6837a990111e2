//! What is known of every instrument of one source: its definition, last quote and last trade.

use crate::limits;
use crate::wire::{Definition, Frame, Kind, Symbol};

/// One instrument.
#[derive(Clone, Copy, Debug)]
struct LastValue {
    symbol: Symbol,
    definition: Frame,
    quote: Option<Frame>,
    trade: Option<Frame>,
}

/// The last values of all instruments of one source, indexed by the lower 24 bits of `instrument`.
#[derive(Debug, Default)]
pub struct LastValues {
    instruments: Vec<Option<LastValue>>,
    defined: usize,
}

/// The part of an instrument number that is an index within its source.
fn index_of(instrument: u32) -> usize {
    (instrument & 0x00FF_FFFF) as usize
}

impl LastValues {
    /// What each instrument takes.
    pub const BYTES_PER_INSTRUMENT: usize = size_of::<Option<LastValue>>();

    /// Takes note of a data frame. `true` when it defined a new instrument. Frames older than what is
    /// known, of undefined instruments, or beyond the table's bound change nothing.
    pub fn note(&mut self, frame: &Frame) -> bool {
        let index = index_of(frame.instrument.get());
        if let Some(definition) = frame.view::<Definition>() {
            return self.define(index, definition.symbol, frame);
        }
        let Some(Some(known)) = self.instruments.get_mut(index) else { return false };
        let place = match frame.kind() {
            Some(Kind::Quote) => &mut known.quote,
            Some(Kind::Trade) => &mut known.trade,
            _ => return false,
        };
        if place.is_none_or(|held| held.seq <= frame.seq) {
            *place = Some(*frame);
        }
        false
    }

    fn define(&mut self, index: usize, symbol: Symbol, frame: &Frame) -> bool {
        if index >= limits::INSTRUMENTS_MAX {
            return false;
        }
        if self.instruments.len() <= index {
            self.instruments.resize(index + 1, None);
        }
        let place = &mut self.instruments[index];
        let is_new = place.is_none_or(|known| known.symbol != symbol);
        if is_new {
            self.defined += usize::from(place.is_none());
            *place = Some(LastValue { symbol, definition: *frame, quote: None, trade: None });
        }
        is_new
    }

    /// Forgets the values (not the definitions) from `seq` on: a new epoch made them void.
    pub fn void_from(&mut self, seq: u64) {
        for known in self.instruments.iter_mut().flatten() {
            for value in [&mut known.quote, &mut known.trade] {
                *value = value.filter(|frame| frame.seq.get() < seq);
            }
        }
    }

    /// Instruments defined.
    #[must_use]
    pub fn len(&self) -> usize {
        self.defined
    }

    /// Whether no instrument is defined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.defined == 0
    }

    /// One more than the largest index in use: the bound for walks by index.
    #[must_use]
    pub fn index_end(&self) -> usize {
        self.instruments.len()
    }

    /// The symbol of the instrument with this index or number.
    #[must_use]
    pub fn symbol(&self, instrument: u32) -> Option<Symbol> {
        self.at(instrument).map(|known| known.symbol)
    }

    /// Its definition frame.
    #[must_use]
    pub fn definition(&self, instrument: u32) -> Option<&Frame> {
        self.at(instrument).map(|known| &known.definition)
    }

    /// Its last quote.
    #[must_use]
    pub fn quote(&self, instrument: u32) -> Option<&Frame> {
        self.at(instrument)?.quote.as_ref()
    }

    /// Its last trade.
    #[must_use]
    pub fn trade(&self, instrument: u32) -> Option<&Frame> {
        self.at(instrument)?.trade.as_ref()
    }

    fn at(&self, instrument: u32) -> Option<&LastValue> {
        self.instruments.get(index_of(instrument))?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Quote, U32, U64};

    fn definition(index: u32, symbol: &str) -> Frame {
        Frame::seal(Definition::new(index, symbol.parse().unwrap(), 2))
    }

    fn quote(index: u32, seq: u64) -> Frame {
        let (instrument, seq) = (U32::new(index), U64::new(seq));
        Frame::seal(Quote { instrument, seq, ..Quote::default() })
    }

    #[test]
    fn an_older_frame_never_replaces_a_newer_one() {
        let mut values = LastValues::default();
        assert!(values.note(&definition(3, "PETR4")));
        assert!(!values.note(&definition(3, "PETR4")), "known already");
        values.note(&quote(3, 9));
        values.note(&quote(3, 8));
        assert_eq!(values.quote(3).map(|f| f.seq.get()), Some(9));
        values.void_from(9);
        assert!(values.quote(3).is_none() && values.symbol(3).is_some());
    }

    #[test]
    fn a_hostile_index_allocates_nothing() {
        let mut values = LastValues::default();
        assert!(!values.note(&definition(0x00FF_FFFF, "PETR4")));
        values.note(&quote(77, 1));
        assert_eq!((values.len(), values.index_end()), (0, 0));
    }
}
