//! What the heads of a log's segments state: definitions, and in a journal the last value of each kind of each
//! instrument, as a node that kept the log would.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits;
use crate::log::exchange_places::{ExchangePlaces, PLACE_TOPIC};
use crate::log::mark::{is_statement, is_uncertain};
use crate::wire::{
    Definition, ExchangeNumber, Flags, Frame, InstrumentId, InstrumentIndex, InstrumentName, Kind,
    Symbol, U16,
};

/// The symbol in a definition that defines nothing: the flag STALE makes it one, whatever stands here.
const NO_SYMBOL: &str = "$lost";

/// Which part of a name a frame is.
fn part_of(frame: &Frame) -> usize {
    frame.view::<InstrumentName>().map_or(0, InstrumentName::part)
}

/// All that the frames so far say.
///
/// Invariant: it has at most [`limits::INSTRUMENTS_MAX`] instruments, each with a frame of each data kind.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By index, kind and part of a name: the newest frame, and whether it may not be the newest.
    frames: BTreeMap<(InstrumentIndex, u8, usize), (Frame, bool)>,
    /// Frames that nobody has, of which each may have been a definition.
    lost: usize,
    /// How far the frames go in the feeds of exchanges.
    places: ExchangePlaces,
    /// What the instruments of an exchange are called before the `:`. It names the exchange where its topic is lost.
    venues: BTreeMap<ExchangeNumber, String>,
    /// Names of exchanges that an operator says.
    told: BTreeSet<String>,
    /// The highest receive time.
    last_received: u64,
}

impl Known {
    /// Nothing yet, but that exchanges have these names.
    pub(super) fn with_names(names: impl Iterator<Item = String>) -> Known {
        Known { told: names.collect(), ..Known::default() }
    }

    /// Takes in a frame, or a statement of one.
    pub(super) fn note(&mut self, frame: &Frame) {
        let index = frame.instrument().index();
        if index.place() >= limits::INSTRUMENTS_MAX {
            return;
        }
        self.places.read(frame);
        self.last_received = self.last_received.max(frame.ts_recv.get());
        self.note_venue(frame);
        let mut plain = *frame;
        plain.flags = U16::new(frame.flags.get() & !(Flags::SNAPSHOT | Flags::STALE));
        plain.renew_crc();
        let is_uncertain = is_uncertain(frame);
        let known =
            self.frames.entry((index, frame.kind, part_of(frame))).or_insert((plain, is_uncertain));
        // What was said again says no more than the frame did.
        if !is_statement(frame) || frame.seq >= known.0.seq {
            *known = (plain, is_uncertain);
        }
    }

    fn note_venue(&mut self, frame: &Frame) {
        let exchange = frame.exchange();
        if exchange == ExchangeNumber::FIRST || self.venues.contains_key(&exchange) {
            return;
        }
        let symbol = self.symbol(frame.instrument());
        let venue = symbol.as_ref().and_then(|symbol| symbol.as_str().split_once(':'));
        if let Some((venue, _)) = venue {
            self.venues.insert(exchange, venue.to_owned());
        }
    }

    /// How far the frames go in the feeds of exchanges with a name.
    pub(super) fn places(&self) -> &ExchangePlaces {
        &self.places
    }

    /// The exchanges that frames or places are of, each with its name where it is known: from its topic, or from its
    /// instruments.
    pub(super) fn exchanges(&self) -> Vec<(ExchangeNumber, Option<String>)> {
        let placed = self.places.iter().map(|(number, place)| {
            let topic = self.symbol(place.instrument);
            let name = topic.and_then(|it| Some(it.as_str().strip_prefix(PLACE_TOPIC)?.to_owned()));
            (number, name)
        });
        let unplaced = self.places.unplaced().map(|number| (number, None));
        let named = placed
            .chain(unplaced)
            .map(|(number, name)| (number, name.or_else(|| self.venues.get(&number).cloned())));
        named.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    /// The instrument that has this symbol.
    pub(super) fn instrument_of(&self, symbol: &Symbol) -> Option<InstrumentId> {
        let mut instruments = self.frames.values().map(|(frame, _)| frame.instrument());
        instruments.find(|it| self.symbol(*it).as_ref() == Some(symbol))
    }

    /// An instrument that nothing defines, and that no lost frame can have defined.
    pub(super) fn free_instrument(&self) -> Option<InstrumentId> {
        let behind = self.frames.keys().map(|(index, ..)| index.place() + 1).max()?;
        let place = behind.saturating_add(self.reserved());
        let index = InstrumentIndex::at(place).filter(|_| place < limits::INSTRUMENTS_MAX)?;
        Some(InstrumentId::new(self.frames.values().next()?.0.instrument().source(), index))
    }

    /// How many numbers of instruments lost frames may have used up. More than are said here are a front that was trimmed:
    /// then the heads of the shards' logs state what was defined.
    fn reserved(&self) -> usize {
        if self.lost <= limits::LOST_NUMBERS_MAX { self.lost } else { 0 }
    }

    /// The `instrument_seq` of the last frame that says a place of this topic.
    pub(super) fn last_place(&self, topic: InstrumentId) -> Option<u32> {
        let (frame, _) = self.frames.get(&(topic.index(), Kind::ExchangePlace as u8, 0))?;
        Some(frame.instrument_seq.get())
    }

    /// The highest receive time of all frames.
    pub(super) fn last_received(&self) -> u64 {
        self.last_received
    }

    /// The journal goes on at this seq.
    pub(super) fn pass_mark(&mut self, seq: u64) {
        self.places.pass_lost(seq);
    }

    /// Whether a frame consumes no number of the exchange that the journal's marks count for: it is the system's own, a part of
    /// a full name, or the definition of an instrument of an exchange with a name.
    pub(super) fn is_local(&self, frame: &Frame) -> bool {
        let defined = frame.view::<Definition>().map(|it| it.symbol);
        let is_definition = defined.is_some();
        let Some(symbol) = defined.or_else(|| self.symbol(frame.instrument())) else {
            return false;
        };
        if symbol.is_reserved() || frame.view::<InstrumentName>().is_some() {
            return true;
        }
        let venue = symbol.as_str().split_once(':').map(|(venue, _)| venue);
        let is_exchange = |name: &str| {
            let mut topics =
                self.places.iter().filter_map(|(_, place)| self.symbol(place.instrument));
            self.told.contains(name)
                || topics.any(|topic| topic.as_str().strip_prefix(PLACE_TOPIC) == Some(name))
        };
        is_definition && venue.is_some_and(is_exchange)
    }

    /// So many frames are lost: no value is known to be the last.
    pub(super) fn note_lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        self.places.lose(count);
        for (frame, is_uncertain) in self.frames.values_mut() {
            *is_uncertain |= !frame.is_naming();
        }
    }

    /// The symbol of an instrument, when it is defined.
    pub(super) fn symbol(&self, instrument: InstrumentId) -> Option<Symbol> {
        let (definition, is_uncertain) =
            self.frames.get(&(instrument.index(), Kind::Definition as u8, 0))?;
        let definition = definition.view::<Definition>()?;
        (!is_uncertain && definition.instrument() == instrument).then_some(definition.symbol)
    }

    /// Whether the definition, or the part of a name, is known that this frame states.
    pub(super) fn has_naming(&self, frame: &Frame) -> bool {
        let index = frame.instrument().index();
        let has_part = || self.frames.contains_key(&(index, frame.kind, part_of(frame)));
        self.symbol(frame.instrument()).is_some()
            && (frame.view::<Definition>().is_some() || has_part())
    }

    /// What the head of a journal's segment states.
    pub(super) fn statements(&self) -> Vec<Frame> {
        let stated = self.frames.values().map(|(frame, is_uncertain)| {
            let frame = self.places.stated(frame);
            frame.delivered(if *is_uncertain { Flags::STALE } else { 0 })
        });
        let last = self.frames.keys().map(|(index, ..)| index.place()).max();
        let behind = last.map_or(0, |last| last + 1);
        let reserved = Some(self.reserved())
            .filter(|count| *count > 0)
            .and_then(|count| InstrumentIndex::at(behind.saturating_add(count).saturating_sub(1)));
        let reserved = reserved.filter(|index| index.place() < limits::INSTRUMENTS_MAX);
        let reserved = reserved.and_then(|index| {
            let source = self.frames.values().next()?.0.instrument().source();
            let instrument = InstrumentId::new(source, index);
            let definition = Definition::new(instrument, NO_SYMBOL.parse().ok()?, 0);
            Some(Frame::seal(definition).delivered(Flags::STALE))
        });
        stated.chain(reserved).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ExchangePlace, I64, Trade, U64};

    fn instrument(place: usize) -> InstrumentId {
        InstrumentId::new(1, InstrumentIndex::at(place).unwrap())
    }

    fn definition(place: usize, symbol: &str) -> Frame {
        Frame::seal(Definition::new(instrument(place), symbol.parse().unwrap(), 2))
    }

    fn trade(place: usize, seq: u64) -> Frame {
        let (seq, price) = (U64::new(seq), I64::new(5));
        Frame::seal(Trade { seq, price, instrument: instrument(place).into(), ..Trade::default() })
    }

    fn noted(frames: &[Frame]) -> Known {
        let mut known = Known::default();
        frames.iter().for_each(|frame| known.note(frame));
        known
    }

    #[test]
    fn the_newest_frame_of_each_kind_is_stated_and_an_older_statement_changes_nothing() {
        let (old, new) = (trade(0, 7), trade(0, 9));
        let defined = definition(0, "PETR4");
        let stated = |it: &Frame| it.delivered(Flags::SNAPSHOT);
        for frames in [
            vec![defined, old, new],
            vec![stated(&defined), stated(&old), new],
            vec![defined, stated(&new), stated(&old)],
            vec![defined, old, stated(&new)],
            // A frame is later than what came before it, whatever its number.
            vec![defined, trade(0, 100), new],
        ] {
            assert_eq!(noted(&frames).statements(), [defined, new]);
        }
        let again = Frame::seal(Trade { price: I64::new(6), ..*old.view::<Trade>().unwrap() });
        assert_eq!(noted(&[old, stated(&again)]).statements(), [again], "said later of one number");
        // What may not have been the last value stays so until a frame comes.
        let uncertain = old.delivered(Flags::SNAPSHOT | Flags::STALE);
        assert_eq!(noted(&[uncertain]).statements(), [old.delivered(Flags::STALE)]);
        assert_eq!(noted(&[uncertain, new]).statements(), [new]);
        assert_eq!(noted(&[old, stated(&old)]).statements(), [old]);
    }

    #[test]
    fn a_symbol_is_known_when_a_sure_definition_says_it() {
        let known = noted(&[definition(0, "PETR4"), trade(1, 1)]);
        assert_eq!(known.symbol(instrument(0)), Some("PETR4".parse().unwrap()));
        assert_eq!(known.symbol(instrument(1)), None);
        let other_source = InstrumentId::new(2, InstrumentIndex::at(0).unwrap());
        assert_eq!(known.symbol(other_source), None);
        let uncertain = definition(0, "PETR4").delivered(Flags::SNAPSHOT | Flags::STALE);
        assert_eq!(noted(&[uncertain]).symbol(instrument(0)), None);
    }

    /// The numbers of instruments that lost frames may have defined are not given out again.
    #[test]
    fn lost_frames_make_values_uncertain_and_reserve_as_many_instruments() {
        let (defined, traded) = (definition(3, "PETR4"), trade(3, 7));
        let mut known = noted(&[defined, traded]);
        known.note_lost(2);
        known.note_lost(4);
        let statements = known.statements();
        let [first, second, reserved] = &statements[..] else { panic!("{statements:?}") };
        assert_eq!((*first, *second), (defined, traded.delivered(Flags::STALE)));
        assert_eq!((reserved.instrument(), reserved.check()), (instrument(9), Ok(())));
        assert!(reserved.has(Flags::STALE) && reserved.view::<Definition>().is_some());
        known.note(&traded);
        assert_eq!(known.statements()[1], traded, "a new value is the last");
        let lost = |count: u64| {
            let mut known = noted(&[defined]);
            known.note_lost(count);
            known.statements().len() - 1
        };
        let max = limits::LOST_NUMBERS_MAX as u64;
        assert_eq!([0, 1, max, max + 1, u64::MAX].map(lost), [0, 1, 1, 0, 0]);
        let mut nothing = Known::default();
        nothing.note_lost(5);
        assert_eq!(nothing.statements(), [], "nobody says whose numbers they are");
    }

    #[test]
    fn a_definition_of_an_exchange_with_a_name_is_no_number_of_the_first_one() {
        let place = ExchangePlace {
            instrument: instrument(5).into(),
            seq: U64::new(9),
            next_seq: U64::new(1),
            exchange: U16::new(1),
            ..ExchangePlace::default()
        };
        let (there, elsewhere) = (definition(6, "xnas:AMZN"), definition(7, "XNAS:QQQ"));
        let frames = [definition(5, "$sys.exchange.xnas"), Frame::seal(place), there, elsewhere];
        let known = noted(&frames);
        assert_eq!(frames.map(|frame| known.is_local(&frame)), [true, true, true, false]);
        assert!(!known.is_local(&trade(6, 9)), "a trade says its exchange by itself");
    }

    #[test]
    fn instruments_beyond_the_limit_are_neither_kept_nor_reserved() {
        let last = limits::INSTRUMENTS_MAX - 1;
        assert_eq!(noted(&[trade(last, 1)]).statements(), [trade(last, 1)]);
        assert_eq!(noted(&[trade(last + 1, 1)]).statements(), []);
        for (place, reserved) in [(last - 1, 1), (last, 0)] {
            let mut known = noted(&[trade(place, 1)]);
            known.note_lost(1);
            assert_eq!(known.statements().len(), 1 + reserved, "{place}");
        }
    }
}
