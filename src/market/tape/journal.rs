//! A journal as a tape: the frames of a log become the events that an exchange tells again, each at the time when core
//! received it. Not here: reading a log.
//!
//! What is lost in the log is lost in the replay too: nothing stands in its place, and that is said.

use std::collections::BTreeMap;

use super::{Reading, Tape, TapeBody, TapeError, TapeEvent, Venue};
use crate::market::price::Price;
use crate::wire::{
    BreakerChange, Cancel, Definition, Flags, Frame, InstrumentId, InstrumentIndex, NameParts,
    Quote, Size, Trade,
};

/// What an exchange says of an event.
const FLAGS: u16 = Flags::LAST | Flags::BUY | Flags::SELL | Flags::AFTER_MARKET | Flags::HALTED;

/// Makes a tape of frames in their order.
#[derive(Debug, Default)]
pub struct JournalTape {
    tape: Tape,
    indexes: BTreeMap<InstrumentId, InstrumentIndex>,
    parts: BTreeMap<InstrumentIndex, NameParts>,
}

impl JournalTape {
    /// An empty one, for what is wanted of a journal.
    #[must_use]
    pub fn new(reading: &Reading) -> JournalTape {
        JournalTape { tape: Tape::selecting(reading), ..JournalTape::default() }
    }

    /// Takes the name and the units of an instrument from a definition, which may be said again. Other frames are passed
    /// over.
    ///
    /// # Errors
    /// When there are too many instruments.
    pub fn note(&mut self, frame: &Frame) -> Result<(), TapeError> {
        let Some(definition) = frame.view::<Definition>() else {
            return self.note_name(frame);
        };
        if definition.symbol.is_reserved() {
            return Ok(());
        }
        let (symbol, decimals) = (definition.symbol, definition.decimals());
        let instruments = &mut self.tape.instruments;
        let index = instruments.insert(Venue::Unnamed, symbol, decimals.price)?;
        instruments.set_quantity_decimals(index, decimals.quantity);
        if definition.is_at_venue() {
            instruments.set_at_venue(index);
        }
        self.indexes.insert(definition.instrument(), index);
        Ok(())
    }

    /// Takes a part of the full name of a defined instrument. Names that are not whole name nothing.
    fn note_name(&mut self, frame: &Frame) -> Result<(), TapeError> {
        let Some(&index) = self.indexes.get(&frame.instrument()) else { return Ok(()) };
        let parts = self.parts.entry(index).or_default();
        parts.note(frame);
        let row = self.tape.instruments.rows().get(index.place());
        match row.and_then(|row| parts.full_name(&row.symbol)) {
            Some(name) => self.tape.name(index, name),
            None => Ok(()),
        }
    }

    /// Takes the next frame of the sequence.
    ///
    /// # Errors
    /// When the tape is longer than its bounds.
    pub fn take(&mut self, frame: &Frame) -> Result<(), TapeError> {
        self.note(frame)?;
        let body = if let Some(quote) = frame.view::<Quote>() {
            let units = |size: Size| u64::try_from(size.units()).unwrap_or(u64::MAX);
            TapeBody::Quote {
                bid: Price(quote.bid.get()),
                ask: Price(quote.ask.get()),
                bid_qty: units(quote.bid_qty),
                ask_qty: units(quote.ask_qty),
            }
        } else if let Some(trade) = frame.view::<Trade>() {
            let (price, qty) = (Price(trade.price.get()), trade.qty.get());
            TapeBody::Trade { price, qty, trade_id: trade.trade_id.get() }
        } else if let Some(cancel) = frame.view::<Cancel>() {
            let (price, qty) = (Price(cancel.price.get()), cancel.qty.get());
            TapeBody::Cancel { price, qty, trade_id: cancel.trade_id.get() }
        } else {
            let is_known = frame.is_naming();
            let is_systems = frame.view::<BreakerChange>().is_some();
            let what =
                if is_systems { "changes of breakers" } else { "kinds that are no market's" };
            if !is_known {
                *self.tape.skipped.entry(what.to_owned()).or_default() += 1;
            }
            return Ok(());
        };
        self.tape.records += 1;
        let Some(&instrument) = self.indexes.get(&frame.instrument()) else {
            *self.tape.skipped.entry("of no known instrument".to_owned()).or_default() += 1;
            return Ok(());
        };
        let event = TapeEvent::new(frame.ts_event.get(), instrument, body);
        let (ts_recv, flags) = (frame.ts_recv.get(), frame.flags.get() & FLAGS);
        self.tape.push(TapeEvent { ts_recv, flags, ..event })?;
        Ok(())
    }

    /// So many numbers of the sequence are lost here.
    pub fn note_lost(&mut self, frames: u64) {
        let lost = self.tape.skipped.entry("lost in the journal".to_owned()).or_default();
        *lost = lost.saturating_add(frames);
    }

    /// The tape.
    ///
    /// # Errors
    /// When it is longer than its bounds.
    pub fn finish(mut self) -> Result<Tape, TapeError> {
        self.tape.open()?;
        Ok(self.tape)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Align, Schedule, TapeSelection};
    use super::*;
    use crate::feed::Pattern;
    use crate::wire::{I64, InstrumentId, U16, U32, U64};

    const SECOND: u64 = 1_000_000_000;

    fn instrument(index: u32) -> InstrumentId {
        InstrumentId::new(1, InstrumentIndex::new(index))
    }

    fn quote(second: u64, index: u32, bid: i64) -> Frame {
        let (ts_event, ts_recv) = (U64::new(second * SECOND - 7), U64::new(second * SECOND));
        let (bid, bid_qty) = (I64::new(bid), Size::new(5));
        let instrument = instrument(index).into();
        Frame::seal(Quote { instrument, ts_event, ts_recv, bid, bid_qty, ..Quote::default() })
    }

    fn trade(second: u64, index: u32, qty: u64) -> Frame {
        Frame::seal(Trade {
            flags: U16::new(Flags::LAST | Flags::SELL | Flags::GAP_BEFORE | Flags::REPLAY),
            instrument: instrument(index).into(),
            ts_recv: U64::new(second * SECOND),
            price: I64::new(9),
            qty: U64::new(qty),
            trade_id: U64::new(4),
            ..Trade::default()
        })
    }

    fn journal() -> Vec<Frame> {
        let definition = |index, symbol: &str, decimals| {
            let definition = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
            Frame::seal(definition.with_quantity_decimals(decimals))
        };
        let cancelled = Cancel { trade_id: U64::new(4), ..Cancel::default() };
        let (price, qty, ts_recv) = (I64::new(9), U64::new(12_345), U64::new(5 * SECOND));
        let cancel = Cancel { price, qty, ts_recv, instrument: instrument(0).into(), ..cancelled };
        vec![
            definition(0, "BTC", 8),
            definition(1, "PETR4", 0),
            definition(2, "$sys.breaker", 0),
            quote(1, 0, 10),
            quote(2, 0, 11),
            quote(2, 1, 40),
            trade(3, 0, 12_345),
            Frame::seal(BreakerChange {
                instrument: U32::from(instrument(2)),
                ..Default::default()
            }),
            trade(4, 1, 300),
            Frame::seal(cancel),
        ]
    }

    fn tape(selection: TapeSelection) -> Tape {
        let reading = Reading { selection, ..Reading::default() };
        let mut journal_tape = JournalTape::new(&reading);
        journal().iter().for_each(|frame| journal_tape.take(frame).unwrap());
        journal_tape.note_lost(3);
        journal_tape.finish().unwrap()
    }

    #[test]
    fn a_journal_is_told_again_with_its_units_its_sides_and_its_cancellations() {
        let tape = tape(TapeSelection::default());
        let remarks = tape.remarks();
        let told = [
            "records left out, changes of breakers: 1",
            "records left out, lost in the journal: 3",
        ];
        assert_eq!(remarks, told);
        let schedule = Schedule::new(&[tape], Align::Clock).unwrap();
        let units = schedule.frames().iter().filter_map(Frame::view::<Definition>);
        let units: Vec<(&str, u8)> =
            units.map(|it| (it.symbol.as_str(), it.decimals().quantity)).collect();
        assert_eq!(units, [("BTC", 8), ("PETR4", 0)]);
        assert_eq!(schedule.offsets_ns(), [0, 0, 0, 1, 1, 2, 3, 4].map(|it| it * SECOND));
        let trades: Vec<&Trade> = schedule.frames().iter().filter_map(Frame::view).collect();
        assert_eq!((trades[0].qty.get(), trades[0].trade_id.get()), (12_345, 4));
        assert_eq!(trades[0].flags.get(), Flags::LAST | Flags::SELL, "what the exchange said");
        let cancels: Vec<&Cancel> = schedule.frames().iter().filter_map(Frame::view).collect();
        assert_eq!((cancels.len(), cancels[0].qty.get()), (1, 12_345));
        let quotes: Vec<&Quote> = schedule.frames().iter().filter_map(Frame::view).collect();
        assert_eq!((quotes.len(), quotes[0].ts_event.get()), (3, SECOND - 7));
    }

    #[test]
    fn a_name_with_its_venue_stays_one() {
        let symbol = |text: &str| text.parse().unwrap();
        let definition = Definition::new(instrument(0), symbol("xnas:AMZN"), 2).at_venue();
        let other = Definition::new(instrument(1), symbol("UD:1V"), 2);
        let mut journal_tape = JournalTape::new(&Reading::default());
        for frame in [Frame::seal(definition), Frame::seal(other), quote(1, 0, 10), trade(2, 1, 3)]
        {
            journal_tape.take(&frame).unwrap();
        }
        let schedule = Schedule::new(&[journal_tape.finish().unwrap()], Align::Clock).unwrap();
        let told = schedule.frames().iter().filter_map(Frame::view::<Definition>);
        let told: Vec<(&str, bool)> =
            told.map(|it| (it.symbol.as_str(), it.is_at_venue())).collect();
        assert_eq!(told, [("xnas:AMZN", true), ("UD:1V", false)]);
    }

    #[test]
    fn a_part_of_it_begins_with_the_quotes_as_they_stood() {
        let tape =
            tape(TapeSelection { from_ns: 3 * SECOND, to_ns: 5 * SECOND, ..Default::default() });
        let schedule = Schedule::new(&[tape], Align::Clock).unwrap();
        let bids = schedule.frames().iter().filter_map(Frame::view::<Quote>);
        assert_eq!(bids.map(|it| it.bid.get()).collect::<Vec<_>>(), [11, 40]);
        assert_eq!(schedule.offsets_ns(), [0, 0, 0, 0, 0, SECOND]);
        assert!(schedule.frames().iter().filter_map(Frame::view::<Cancel>).next().is_none());
    }

    #[test]
    fn a_tape_with_nothing_in_the_span_says_what_stood_before_it_and_alone_is_none() {
        let span = TapeSelection { from_ns: 6 * SECOND, ..Default::default() };
        let quiet = tape(span.clone());
        assert_eq!(quiet.events.len(), 2);
        assert!(quiet.events.iter().all(|event| event.flags & Flags::LAST != 0));
        let alone = Schedule::new(&[quiet], Align::Clock).unwrap_err();
        assert_eq!(alone, super::super::ScheduleError::Empty);
        let mut later =
            JournalTape::new(&Reading { selection: span.clone(), ..Reading::default() });
        let definition = Definition::new(instrument(0), "VALE3".parse().unwrap(), 2);
        later.take(&Frame::seal(definition)).unwrap();
        later.take(&trade(7, 0, 1)).unwrap();
        let both = [tape(span), later.finish().unwrap()];
        let schedule = Schedule::new(&both, Align::Clock).unwrap();
        let bids = schedule.frames().iter().filter_map(Frame::view::<Quote>);
        assert_eq!(bids.map(|it| it.bid.get()).collect::<Vec<_>>(), [11, 40]);
    }

    #[test]
    fn only_the_instruments_that_are_wanted_are_told() {
        for (pattern, trades) in [("BTC", 1), ("PETR*", 1), ("*", 2), ("BT", 0)] {
            let tape = tape(TapeSelection {
                symbols: vec![Pattern::new(pattern, 0).unwrap()],
                ..Default::default()
            });
            let told = tape.events.iter();
            let told = told.filter(|event| matches!(event.body, TapeBody::Trade { .. })).count();
            assert_eq!(told, trades, "{pattern}");
        }
    }
}
