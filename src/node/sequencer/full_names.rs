//! The full names of instruments whose symbols only stand for them: taken in from exchanges, checked, and journaled beside the
//! definitions.
//!
//! # Decisions
//!
//! * Nothing of a name is journaled before all of it is here and its symbol is the one that stands for it. So no journal says
//!   that an instrument is called what it is not.
//! * Its parts consume no number of the exchange's feed: they come ahead of it, as definitions do at the start of each session.
//!   So a tape that was journaled before names were goes on where it was.
//! * Where core itself puts a venue ahead of a symbol, and the two do not fit, core knows the name and says it.

use super::{ConnId, Level, Sequencer};
use crate::log::{AppendError, Storage};
use crate::time::Now;
use crate::wire::{Definition, FullName, InstrumentId, InstrumentIndex, InstrumentName, Symbol};

/// The name that an exchange is saying.
#[derive(Debug, Default)]
pub(super) struct Saying {
    /// Of which of its instruments; `None` before the first part.
    of: Option<InstrumentIndex>,
    /// What came so far: at most [`FullName::BYTES_MAX`] bytes, as each part is checked to be within them.
    text: Vec<u8>,
}

impl Saying {
    /// Takes the next part. The name, with the last one.
    fn take(&mut self, part: &InstrumentName) -> Result<Option<FullName>, &'static str> {
        const NO_NAME: &str = "no name";
        let theirs = part.instrument().index();
        if part.part() == 0 {
            self.of = Some(theirs);
            self.text.clear();
        }
        let is_next = self.text.len() == part.part() * part.text.len();
        if self.of != Some(theirs) || !is_next {
            return Err("the parts of a name are out of order");
        }
        self.text.extend_from_slice(part.text_bytes());
        if !part.is_last() {
            return Ok(None);
        }
        self.of = None;
        let text = std::str::from_utf8(&self.text).map_err(|_| NO_NAME)?;
        text.parse().map(Some).map_err(|_| NO_NAME)
    }
}

impl<S: Storage> Sequencer<S> {
    /// A part of a name that an exchange says, ahead of its feed. With the last one the name is journaled, if it is news.
    #[cold]
    pub(super) fn meet_name(
        &mut self,
        now: Now,
        conn: ConnId,
        index: usize,
        part: &InstrumentName,
    ) {
        let taken = match self.exchanges[index].saying.take(part) {
            Ok(None) => return,
            Ok(Some(name)) => self.check_name(index, part.instrument(), &name),
            Err(text) => Err(text),
        };
        match taken {
            Ok(Some((instrument, name))) => self.keep_name(now, index, instrument, &name),
            Ok(None) => {}
            Err(text) => self.refuse_market_frame(now, conn, index, text),
        }
    }

    /// The instrument here, and its name here. `None`: there is nothing to keep.
    fn check_name(
        &mut self,
        index: usize,
        theirs: InstrumentId,
        name: &FullName,
    ) -> Result<Option<(InstrumentId, FullName)>, &'static str> {
        let Some(instrument) = self.market.own_instrument(index, theirs) else {
            return Err("the name of an undefined instrument");
        };
        let Some(symbol) = self.market.symbol(instrument) else { return Ok(None) };
        let full = match self.exchanges[index].venue() {
            Some(venue) => format!("{venue}:{name}").parse(),
            None => Ok(*name),
        };
        let Ok(full) = full else {
            let text = format!("{name} is too long behind a venue: it is only known as {symbol}");
            self.connections.log(Level::Warn, text);
            return Ok(None);
        };
        if full.symbol() != symbol || full.as_str() == symbol.as_str() {
            return Err("a name that its symbol does not stand for");
        }
        match self.market.values().full_name(instrument.index()) {
            Some(known) if known != full => {
                let text = format!("{symbol} stands for {known}, and cannot stand for {full} too");
                self.connections.log(Level::Error, text);
                Err("two names have the same symbol")
            }
            Some(_) => Ok(None),
            None => Ok(Some((instrument, full))),
        }
    }

    /// The name of an instrument that core itself made too long.
    #[cold]
    pub(super) fn name_cut(&mut self, now: Now, index: usize, theirs: &Definition) {
        let Some(venue) = self.exchanges[index].venue() else { return };
        let (symbol, is_whole) = Symbol::at_venue(venue, &theirs.symbol);
        // The exchange says what that one stands for.
        if is_whole || theirs.symbol.is_substitute() {
            return;
        }
        let full = format!("{venue}:{}", theirs.symbol).parse::<FullName>();
        if let Ok(full) = full
            && full.symbol() == symbol
            && let Some(instrument) = self.market.instrument_of(&symbol)
            && self.market.values().full_name(instrument.index()).is_none()
        {
            self.keep_name(now, index, instrument, &full);
        }
    }

    /// Journals a name.
    fn keep_name(&mut self, now: Now, index: usize, instrument: InstrumentId, name: &FullName) {
        if let Err(error) = self.journal_name(now, index, instrument, name) {
            self.hold_back(index, error);
            let text = "no room for the exchange's instruments";
            self.exchanges[index].abandon(text);
        }
    }

    fn journal_name(
        &mut self,
        now: Now,
        index: usize,
        instrument: InstrumentId,
        name: &FullName,
    ) -> Result<(), AppendError> {
        self.place_feed(now, index)?;
        for part in InstrumentName::parts(instrument, name) {
            let seq = self.journal.next_seq();
            let part = self.market.stamp_local(now, part, instrument, seq);
            self.append_local(&part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn parts(instrument: u32, name: &str) -> Vec<Frame> {
        let instrument = InstrumentId::new(0, InstrumentIndex::new(instrument));
        InstrumentName::parts(instrument, &name.parse().unwrap()).collect()
    }

    fn take(saying: &mut Saying, frame: &Frame) -> Result<Option<FullName>, &'static str> {
        saying.take(frame.view().unwrap())
    }

    #[test]
    fn a_name_is_taken_whole_and_in_order_only() {
        let long = "A NAME OF THREE PARTS WHICH GOES ON AND ON AND ENDS";
        let (one, other) = (parts(1, long), parts(2, long));
        let mut saying = Saying::default();
        assert_eq!(take(&mut saying, &one[0]), Ok(None));
        assert_eq!(take(&mut saying, &one[1]), Ok(None));
        assert_eq!(take(&mut saying, &one[2]), Ok(Some(long.parse().unwrap())));
        let out_of_order = Err("the parts of a name are out of order");
        for wrong in [
            &[one[1]][..],
            &[one[0], one[2]],
            &[one[0], other[1]],
            &[one[0], one[1], one[1]],
            &[one[0], one[1], one[2], one[2]],
        ] {
            let mut saying = Saying::default();
            let (last, before) = wrong.split_last().unwrap();
            for frame in before {
                take(&mut saying, frame).unwrap();
            }
            assert_eq!(take(&mut saying, last), out_of_order, "{} parts", wrong.len());
        }
    }
}
