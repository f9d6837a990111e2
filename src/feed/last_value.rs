//! What is known of every instrument of one source: its definition, its full name where that is another than its symbol, and
//! its last value of each kind that keeps one, as the table of kinds says.

use std::collections::BTreeMap;

use crate::limits;
use crate::wire::{
    DataKind, Definition, FRAME_BYTES, Frame, FullName, InstrumentIndex, InstrumentName, Kind,
    LAST_VALUES, NameParts, Names, Symbol,
};

/// Frames that are known of one instrument at most.
const KNOWN: usize = 1 + InstrumentName::PARTS_MAX + LAST_VALUES;

/// One instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastValue {
    symbol: Symbol,
    definition: Frame,
    /// By [`DataKind::last_value_slot`].
    values: [Option<Frame>; LAST_VALUES],
}

impl LastValue {
    fn names(&self) -> Names {
        let definition = self.definition.view::<Definition>();
        definition.map_or(Names::of(self.symbol), Definition::names)
    }
}

/// The last values of all instruments of one source, by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LastValues {
    instruments: Vec<Option<LastValue>>,
    /// The full names, of few instruments: 260 bytes each. Only of those that are defined.
    full_names: BTreeMap<InstrumentIndex, NameParts>,
    defined: usize,
}

// A broker has 65,536 of them: they hold nothing but frames, and whether each is there.
const _: () = assert!(
    LastValues::BYTES_PER_INSTRUMENT
        == size_of::<Symbol>() + FRAME_BYTES + LAST_VALUES * (FRAME_BYTES + 1)
);

impl LastValues {
    /// What each instrument takes.
    pub const BYTES_PER_INSTRUMENT: usize = size_of::<Option<LastValue>>();

    /// Takes note of a data frame. `true` when it defined a new instrument, or gave one other names. Frames older than what is
    /// known, of undefined instruments, or beyond the table's bound change nothing.
    pub fn note(&mut self, frame: &Frame) -> bool {
        let index = frame.instrument().index().place();
        if let Some(definition) = frame.view::<Definition>() {
            return self.define(index, definition, frame);
        }
        let Some(Some(known)) = self.instruments.get_mut(index) else { return false };
        let slot = DataKind::last_value_slot(frame.kind);
        let Some(place) = slot.and_then(|slot| known.values.get_mut(slot)) else {
            self.note_name(frame);
            return false;
        };
        if place.is_none_or(|held| held.seq <= frame.seq) {
            *place = Some(*frame);
        }
        false
    }

    /// Takes in a part of the full name of a defined instrument.
    #[cold]
    fn note_name(&mut self, frame: &Frame) {
        if frame.kind == Kind::InstrumentName as u8 {
            self.full_names.entry(frame.instrument().index()).or_default().note(frame);
        }
    }

    fn define(&mut self, index: usize, definition: &Definition, frame: &Frame) -> bool {
        let symbol = definition.symbol;
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
            *place = Some(LastValue { symbol, definition: *frame, values: [None; LAST_VALUES] });
            self.full_names.remove(&frame.instrument().index());
        } else if let Some(known) = place
            && known.names() != definition.names()
        {
            // The same symbol, and only now it says that a venue stands in it.
            known.definition = *frame;
            return true;
        } else if let Some(known) = place
            && known.definition.seq != frame.seq
        {
            // The same name again, with another place: the old one was void. Who conflates gets a definition by
            // its place, and would pass over this one.
            known.definition = *frame;
        }
        is_new
    }

    /// Forgets what has its place at `seq` or behind it: a new epoch made it void. Returns the instruments that are
    /// defined no more.
    ///
    /// One look at all instruments in one turn: 65,536 at most, and only at a start of core that takes something back.
    pub fn void_from(&mut self, seq: u64) -> Vec<(InstrumentIndex, Names)> {
        let mut undefined = Vec::new();
        self.full_names.retain(|_, parts| parts.void_from(seq));
        for (index, place) in InstrumentIndex::until(self.index_end()).zip(&mut self.instruments) {
            let Some(known) = place else { continue };
            if known.definition.seq.get() >= seq {
                undefined.push((index, known.names()));
                *place = None;
                self.full_names.remove(&index);
                self.defined -= 1;
                continue;
            }
            for value in &mut known.values {
                *value = value.filter(|frame| frame.seq.get() < seq);
            }
        }
        undefined
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

    /// Behind the largest index in use: the bound for walks by index.
    #[must_use]
    pub fn index_end(&self) -> InstrumentIndex {
        InstrumentIndex::at(self.instruments.len()).unwrap_or(InstrumentIndex::LAST)
    }

    /// The symbol of the instrument with this index.
    #[must_use]
    pub fn symbol(&self, index: InstrumentIndex) -> Option<Symbol> {
        self.at(index).map(|known| known.symbol)
    }

    /// The names of the instrument with this index.
    #[must_use]
    pub fn names(&self, index: InstrumentIndex) -> Option<Names> {
        self.at(index).map(LastValue::names)
    }

    /// Its definition frame.
    #[must_use]
    pub fn definition(&self, index: InstrumentIndex) -> Option<&Frame> {
        self.at(index).map(|known| &known.definition)
    }

    /// Its definition frame, and the parts of its full name as far as they are known.
    pub fn naming(&self, index: InstrumentIndex) -> impl Iterator<Item = &Frame> {
        let parts = self.full_names.get(&index).into_iter().flat_map(NameParts::frames);
        self.definition(index).into_iter().chain(parts)
    }

    /// Its full name, where that is another than its symbol and is known.
    #[must_use]
    pub fn full_name(&self, index: InstrumentIndex) -> Option<FullName> {
        self.full_names.get(&index)?.full_name(&self.symbol(index)?)
    }

    /// Its last frame of a kind that keeps one.
    #[must_use]
    pub fn last(&self, index: InstrumentIndex, kind: Kind) -> Option<&Frame> {
        self.at(index)?.values.get(DataKind::last_value_slot(kind as u8)?)?.as_ref()
    }

    /// Its last frames, in the order of the table of kinds.
    #[must_use]
    pub fn values(&self, index: InstrumentIndex) -> [Option<&Frame>; LAST_VALUES] {
        match self.at(index) {
            Some(known) => known.values.each_ref().map(Option::as_ref),
            None => [None; LAST_VALUES],
        }
    }

    /// Its definition, the parts of its full name, and its last frames in the order of the table of kinds.
    #[must_use]
    pub fn known(&self, index: InstrumentIndex) -> [Option<&Frame>; KNOWN] {
        let mut all = [None; KNOWN];
        if let Some(known) = self.at(index) {
            let (definition, values) = (Some(&known.definition), known.values.iter());
            let parts = self.full_names.get(&index).map(NameParts::by_part).unwrap_or_default();
            let known = std::iter::once(definition).chain(parts).chain(values.map(Option::as_ref));
            all.iter_mut().zip(known).for_each(|(place, frame)| *place = frame);
        }
        all
    }

    /// Whether no newer frame of its instrument and kind is known. A kind that keeps none has no last frame.
    #[must_use]
    pub fn is_last(&self, frame: &Frame) -> bool {
        let Some(known) = self.at(frame.instrument().index()) else { return false };
        let last = if frame.kind == Kind::Definition as u8 {
            Some(&known.definition)
        } else if let Some(name) = frame.view::<InstrumentName>() {
            let parts = self.full_names.get(&frame.instrument().index());
            parts.and_then(|parts| parts.by_part().get(name.part()).copied().flatten())
        } else {
            let slot = DataKind::last_value_slot(frame.kind);
            slot.and_then(|slot| known.values.get(slot)).and_then(Option::as_ref)
        };
        last.is_some_and(|last| last.seq == frame.seq)
    }

    fn at(&self, index: InstrumentIndex) -> Option<&LastValue> {
        self.instruments.get(index.place())?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Cancel, InstrumentId, Quote, Sample, U32, U64};

    fn definition(index: u32, symbol: &str) -> Frame {
        Frame::seal(Definition::new(U32::new(index).into(), symbol.parse().unwrap(), 2))
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
        assert_eq!(values.last(InstrumentIndex::new(3), Kind::Quote).map(|f| f.seq.get()), Some(9));
        values.void_from(9);
        assert!(
            values.last(InstrumentIndex::new(3), Kind::Quote).is_none()
                && values.symbol(InstrumentIndex::new(3)).is_some()
        );
    }

    #[test]
    fn the_table_of_kinds_says_what_keeps_a_value() {
        let (instrument, seq) = (U32::new(3), U64::new(5));
        let mut values = LastValues::default();
        values.note(&definition(3, "PETR4"));
        let sample = Frame::seal(Sample { instrument, seq, ..Sample::default() });
        let cancel = Frame::seal(Cancel { instrument, seq, ..Cancel::default() });
        for frame in [sample, cancel, quote(3, 4)] {
            values.note(&frame);
        }
        assert_eq!(values.last(InstrumentIndex::new(3), Kind::Sample), Some(&sample));
        assert_eq!(values.last(InstrumentIndex::new(3), Kind::Cancel), None);
        let known: Vec<&Frame> =
            values.known(InstrumentIndex::new(3)).into_iter().flatten().collect();
        assert_eq!(known, [&definition(3, "PETR4"), &quote(3, 4), &sample]);
        assert_eq!(values.values(InstrumentIndex::new(3)).into_iter().flatten().count(), 2);
        values.void_from(5);
        assert_eq!(values.last(InstrumentIndex::new(3), Kind::Sample), None);
    }

    #[test]
    fn a_full_name_is_kept_beside_the_definition_and_goes_with_it() {
        let name = "A NAME OF TWO PARTS WHICH ENDS HERE".parse::<FullName>().unwrap();
        let index = InstrumentIndex::new(3);
        let parts: Vec<Frame> = InstrumentName::parts(U32::new(3).into(), &name)
            .zip(11..)
            .map(|(mut part, seq)| {
                part.seq = U64::new(seq);
                part.renew_crc();
                part
            })
            .collect();
        let mut values = LastValues::default();
        values.note(&parts[0]);
        assert!(values.full_names.is_empty(), "of nobody who is known");
        let defined = definition(3, name.symbol().as_str());
        values.note(&defined);
        values.note(&quote(3, 9));
        for part in &parts {
            values.note(part);
        }
        assert_eq!(values.full_name(index), Some(name));
        let known: Vec<&Frame> = values.known(index).into_iter().flatten().collect();
        assert_eq!(known, [&defined, &parts[0], &parts[1], &quote(3, 9)]);
        assert_eq!(values.naming(index).count(), 3);
        assert!(
            values.is_last(&parts[1])
                && !values.is_last(&{
                    let mut old = parts[1];
                    old.seq = U64::new(2);
                    old
                })
        );
        // The last part is void.
        values.void_from(12);
        assert_eq!((values.full_name(index), values.naming(index).count()), (None, 2));
        // Another instrument has the number now.
        values.note(&definition(3, "PETR4"));
        assert!(values.full_names.is_empty());
    }

    #[test]
    fn a_hostile_index_allocates_nothing() {
        let mut values = LastValues::default();
        assert!(!values.note(&definition(0x00FF_FFFF, "PETR4")));
        values.note(&quote(77, 1));
        assert_eq!((values.len(), values.index_end()), (0, InstrumentIndex::FIRST));
    }

    #[test]
    fn a_void_definition_is_forgotten_with_its_values() {
        let number = InstrumentId::new(1, InstrumentIndex::new(2));
        let definition = Definition::new(number, "PETR4".parse().unwrap(), 2);
        let definition = Frame::seal(Definition { seq: U64::new(9), ..definition });
        let mut values = LastValues::default();
        values.note(&definition);
        assert!(values.void_from(10).is_empty());
        let names = Names::of("PETR4".parse().unwrap());
        assert_eq!(values.void_from(9), [(InstrumentIndex::new(2), names)]);
        assert_eq!((values.len(), values.symbol(InstrumentIndex::new(2))), (0, None));
        assert!(values.note(&definition), "it is new again");
    }

    #[test]
    fn a_definition_that_names_the_venue_only_now_changes_the_names_and_keeps_the_values() {
        let plain = Definition::new(U32::new(3).into(), "xnas:AMZN".parse().unwrap(), 2);
        let mut values = LastValues::default();
        values.note(&Frame::seal(plain));
        values.note(&quote(3, 9));
        assert!(values.note(&Frame::seal(plain.at_venue())), "a pattern may mean it only now");
        assert!(!values.note(&Frame::seal(plain.at_venue())), "nothing is new");
        let index = InstrumentIndex::new(3);
        assert_eq!(values.names(index), Some(plain.at_venue().names()));
        assert_eq!((values.len(), values.last(index, Kind::Quote)), (1, Some(&quote(3, 9))));
    }

    #[test]
    fn a_definition_with_another_place_takes_that_of_the_one_before() {
        let definition = |seq: u64| {
            let number = InstrumentId::new(1, InstrumentIndex::new(2));
            let definition = Definition::new(number, "PETR4".parse().unwrap(), 2);
            Frame::seal(Definition { seq: U64::new(seq), ..definition })
        };
        let mut values = LastValues::default();
        assert!(values.note(&definition(9)), "it is new");
        // A publisher that states it again says another place: here it stands at 14.
        assert!(!values.note(&definition(14)), "the name is not new");
        let kept = values.definition(InstrumentIndex::new(2)).map(|frame| frame.seq.get());
        assert_eq!(kept, Some(14));
    }
}
