//! How far a journal is in the feeds of several exchanges.
//!
//! The marks of a journal count for the exchange with number 0. Of each other one an EXCHANGE_PLACE frame says the place, and
//! each of its frames behind that is one number more. Whoever reads the journal counts; so does whoever writes it, for the
//! heads of its segments.
//!
//! # Decisions
//!
//! * A mark for each change from one exchange to the next would double a journal of two quiet ones. The number stands in
//!   flags of the frames that were free, so to count costs no byte.
//! * Behind rot nobody knows whose the lost frames were. All places go on behind all of them, and are uncertain: core then
//!   says that frames may be missing. The lower place would store frames twice.

use std::collections::{BTreeMap, VecDeque};

use super::mark::{is_event, is_uncertain};
use crate::limits::FEEDS_KEPT_MAX;
use crate::wire::{ExchangeNumber, ExchangePlace, ExchangeSet, Frame, InstrumentId, Seq, U64};

/// What the topic of an exchange's place begins with; its name is the rest.
pub const PLACE_TOPIC: &str = "$sys.exchange.";

/// Where a journal goes on in the feed of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which feed; 0 = none yet.
    pub feed: u64,
    /// The number that comes next in it.
    pub next_seq: u64,
    /// Numbers below this one are here for sure. It is `next_seq`, unless frames may have been lost.
    pub least_seq: u64,
    /// Frames of it may have been lost in the journal before this place.
    pub is_uncertain: bool,
    /// The system topic of the exchange.
    pub instrument: InstrumentId,
}

/// The places in the feeds of all exchanges but the one with number 0.
#[derive(Clone, Debug, Default)]
pub struct ExchangePlaces {
    rows: BTreeMap<ExchangeNumber, Place>,
    /// The `seq` that comes next.
    next_seq: Option<Seq>,
    /// Feeds that an exchange had before its present one, and how far each was taken in; the newest last.
    left: VecDeque<(ExchangeNumber, Place)>,
    /// Exchanges that frames are of, and whose place was not said before them.
    unplaced: ExchangeSet,
}

impl ExchangePlaces {
    /// Takes in a frame of the journal, or a statement of one.
    #[inline]
    pub fn note(&mut self, frame: &Frame) {
        let exchange = frame.exchange();
        if exchange != ExchangeNumber::FIRST {
            if is_event(frame) {
                self.count(exchange);
            }
        } else if !frame.has_exchange() {
            self.note_place(frame);
        }
    }

    fn count(&mut self, exchange: ExchangeNumber) {
        match self.rows.get_mut(&exchange) {
            Some(row) => {
                row.next_seq = row.next_seq.saturating_add(1);
                if row.is_uncertain {
                    self.count_left(exchange);
                } else {
                    row.least_seq = row.next_seq;
                }
            }
            None => self.unplaced.insert(exchange),
        }
    }

    /// Behind a loss a frame may be of any feed that the exchange has had: what was lost may be where another one came back.
    #[cold]
    fn count_left(&mut self, exchange: ExchangeNumber) {
        for (_, left) in
            self.left.iter_mut().filter(|(of, left)| *of == exchange && left.is_uncertain)
        {
            left.next_seq = left.next_seq.saturating_add(1);
        }
    }

    fn note_place(&mut self, frame: &Frame) {
        let Some(said) = frame.view::<ExchangePlace>() else { return };
        let Some(exchange) = ExchangeNumber::new(said.exchange.get()) else { return };
        let (feed, next_seq) = (said.feed.get(), said.next_seq.get());
        let is_uncertain = is_uncertain(frame);
        let least_seq = match self.rows.get(&exchange).filter(|it| it.feed == feed) {
            _ if !is_uncertain => next_seq,
            Some(known) => known.least_seq.min(next_seq),
            None => 1,
        };
        let instrument = frame.instrument();
        let place = Place { feed, next_seq, least_seq, is_uncertain, instrument };
        let before = self.rows.insert(exchange, place);
        if let Some(before) = before.filter(|it| it.feed != place.feed && it.feed != 0) {
            self.left.retain(|(of, it)| (*of, it.feed) != (exchange, place.feed));
            let kept = self.left.iter().filter(|(of, _)| *of == exchange).count();
            let oldest = self.left.iter().position(|(of, _)| *of == exchange);
            if let Some(oldest) = oldest.filter(|_| kept >= FEEDS_KEPT_MAX) {
                self.left.remove(oldest);
            }
            self.left.push_back((exchange, before));
        }
    }

    /// The same for who reads a journal from its beginning, or from what is left of it: numbers between this frame and the one
    /// before it were lost. A frame that was read already is passed over.
    pub fn read(&mut self, frame: &Frame) {
        if is_event(frame) {
            let seq = frame.seq.get();
            if frame.seq() < self.next_seq {
                return;
            }
            self.pass_lost(seq);
            self.next_seq = Some(Seq::behind(seq));
        }
        self.note(frame);
    }

    /// So many numbers of the journal are lost here.
    pub fn lose(&mut self, count: u64) {
        if let Some(next) = self.next_seq {
            self.pass_lost(next.get().saturating_add(count));
        }
    }

    /// The journal goes on at this `seq`: what was not read before it is lost.
    pub fn pass_lost(&mut self, seq: u64) {
        let Some(next) = self.next_seq.map(Seq::get).filter(|next| *next < seq) else { return };
        self.next_seq = Seq::new(seq);
        let left = self.left.iter_mut().map(|(_, place)| place);
        for row in self.rows.values_mut().chain(left) {
            row.next_seq = row.next_seq.saturating_add(seq - next);
            row.is_uncertain = true;
        }
    }

    /// The place in the feed of an exchange, if one was ever said.
    #[must_use]
    pub fn place(&self, exchange: ExchangeNumber) -> Option<Place> {
        self.rows.get(&exchange).copied()
    }

    /// The place in a feed that the exchange had before its present one; `None`: there was none, or it is not known any more.
    #[must_use]
    pub fn before(&self, exchange: ExchangeNumber, feed: u64) -> Option<Place> {
        let (_, place) =
            self.left.iter().rev().find(|(of, it)| (*of, it.feed) == (exchange, feed))?;
        Some(*place)
    }

    /// Exchanges that frames are of, and whose place nothing says: it is lost.
    pub fn unplaced(&self) -> impl Iterator<Item = ExchangeNumber> {
        self.unplaced.iter().filter(|exchange| !self.rows.contains_key(exchange))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ExchangeNumber, Place)> {
        self.rows.iter().map(|(exchange, place)| (*exchange, *place))
    }

    /// The frame as the head of a segment states it: an EXCHANGE_PLACE with the place that holds there.
    #[must_use]
    pub fn stated(&self, frame: &Frame) -> Frame {
        let place = frame.view::<ExchangePlace>().and_then(|said| {
            let place = self.rows.get(&ExchangeNumber::new(said.exchange.get())?)?;
            let (feed, next_seq) = (U64::new(place.feed), U64::new(place.next_seq));
            Some(Frame::seal(ExchangePlace { feed, next_seq, ..*said }))
        });
        place.unwrap_or(*frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flags, Trade, U16, U32};

    fn number(exchange: u16) -> ExchangeNumber {
        ExchangeNumber::new(exchange).unwrap()
    }

    fn place(seq: u64, exchange: u16, feed: u64, next_seq: u64) -> Frame {
        Frame::seal(ExchangePlace {
            instrument: U32::new(1 << 24 | 7),
            seq: U64::new(seq),
            feed: U64::new(feed),
            next_seq: U64::new(next_seq),
            exchange: U16::new(exchange),
            ..ExchangePlace::default()
        })
    }

    fn trade(seq: u64, exchange: u16) -> Frame {
        let (flags, seq) = (U16::new(number(exchange).flags()), U64::new(seq));
        Frame::seal(Trade { flags, seq, ..Trade::default() })
    }

    fn read(frames: &[Frame]) -> ExchangePlaces {
        let mut places = ExchangePlaces::default();
        frames.iter().for_each(|frame| places.read(frame));
        places
    }

    #[test]
    fn a_feed_that_was_left_is_known_with_its_place() {
        let mut frames = vec![place(1, 1, 70, 10), trade(2, 1), place(3, 1, 80, 1), trade(4, 1)];
        let of = |places: &ExchangePlaces, feed| {
            places.before(number(1), feed).map(|place| place.next_seq)
        };
        let places = read(&frames);
        assert_eq!((of(&places, 70), of(&places, 80)), (Some(11), None));
        assert_eq!(places.before(number(2), 70), None);
        frames.extend([place(5, 1, 70, 11), trade(6, 1), place(7, 1, 80, 2)]);
        let places = read(&frames);
        assert_eq!((of(&places, 70), of(&places, 80)), (Some(12), None));
        // What is lost may be where a feed came back: it may have been told all that stands behind the loss.
        let frames =
            [place(1, 1, 70, 10), trade(2, 1), place(3, 1, 80, 1), trade(4, 1), trade(6, 1)];
        let before = read(&frames).before(number(1), 70).unwrap();
        assert_eq!((before.next_seq, before.is_uncertain), (13, true));
        let many = FEEDS_KEPT_MAX as u64 + 2;
        let frames: Vec<Frame> = (1..=many).map(|seq| place(seq, 1, 100 + seq, 5)).collect();
        let places = read(&frames);
        assert_eq!((of(&places, 101), of(&places, 102)), (None, Some(5)));
        assert_eq!(places.left.len(), FEEDS_KEPT_MAX);
    }

    #[test]
    fn each_frame_is_one_number_of_its_own_exchange() {
        let mut places = read(&[
            place(1, 1, 70, 10),
            place(2, 2, 80, 1),
            trade(3, 1),
            trade(4, 0),
            trade(5, 2),
            trade(6, 1),
            trade(3, 1).delivered(Flags::SNAPSHOT),
        ]);
        let of = |places: &ExchangePlaces, exchange| {
            let place = places.place(number(exchange)).unwrap();
            (place.feed, place.next_seq, place.is_uncertain)
        };
        let least = |places: &ExchangePlaces| places.place(number(1)).unwrap().least_seq;
        assert_eq!((of(&places, 1), of(&places, 2)), ((70, 12, false), (80, 2, false)));
        assert_eq!(least(&places), 12);
        assert_eq!(places.place(number(0)), None);
        let stated = places.stated(&place(1, 1, 70, 10)).delivered(Flags::SNAPSHOT);
        assert_eq!(of(&read(&[stated]), 1), (70, 12, false));
        // Two are lost, and may have been of either.
        places.read(&trade(9, 2));
        assert_eq!((of(&places, 1), of(&places, 2)), ((70, 14, true), (80, 5, true)));
        places.read(&trade(10, 1));
        assert_eq!((of(&places, 1).1, least(&places)), (15, 12), "it may be of another feed");
        let uncertain = Flags::SNAPSHOT | Flags::STALE;
        places.read(&place(11, 1, 70, 15).delivered(uncertain));
        assert_eq!(least(&places), 12);
        places.lose(1);
        places.read(&trade(9, 2));
        places.read(&place(12, 1, 70, 15));
        assert_eq!(least(&places), 15);
        assert_eq!((of(&places, 1), of(&places, 2)), ((70, 15, false), (80, 6, true)));
        // What the head of a segment says stands behind a loss that a mark has told.
        let mut places = read(&[place(1, 1, 70, 10), trade(2, 1)]);
        places.pass_lost(6);
        places.read(&place(1, 1, 70, 14).delivered(Flags::SNAPSHOT));
        places.read(&trade(6, 1));
        assert_eq!(of(&places, 1), (70, 15, false));
        assert!(read(&[trade(1, 3), trade(2, 0)]).unplaced().eq([number(3)]));
        assert_eq!(read(&[trade(1, 3), place(2, 3, 70, 1)]).unplaced().count(), 0);
        let stale = Flags::SNAPSHOT | Flags::STALE;
        assert_eq!(of(&read(&[place(1, 1, 70, 9).delivered(stale)]), 1), (70, 9, true));
    }
}
