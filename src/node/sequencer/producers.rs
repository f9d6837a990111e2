//! Producers: programs that bring a feed of their own. A producer is an exchange that dials core. It says which exchange it is
//! and which feed it has; core says where the journal goes on in that feed, and acknowledges what is stored.
//!
//! # Decisions
//!
//! * A producer speaks to core, and not to a node between. Who journals is then who acknowledges, so an acknowledgement needs
//!   nobody else's memory.
//! * Its place is the place of an exchange in the journal. So what holds for exchanges holds for producers: a number is
//!   stored once, whoever of both dies.
//! * Feeds of one exchange come one after the other, such as a file a day, where the producer says so: a feed that is the same
//!   one with another identity would be there twice. The journal says the place where each was left,
//!   and core knows those as far back as the journal reaches. A file that is sent again is stored once.
//! * Definitions have no number: they come ahead of the frames that need them, in each session. A number is one event, so
//!   who reads a file knows the event of a number from the file alone.
//! * A name and a feed stand in the journal from their first frame on. What only connects takes no number for ever.
//! * Producers leave a part of the instrument numbers to exchanges that core dials. Core says how many are left, so that one
//!   too many fails at the producer, and is not a refusal of all.
//! * Behind rot of the journal a place may count frames of others. A producer says how far its feed is, and core wants no more
//!   than that.
//! * A producer that has lost what core wants next begins another feed, at a number above 1: the next frames of its
//!   instruments say that others are missing. It may not jump in a feed that core knows: whoever knew the identity could make
//!   core drop what comes.
//! * Core tells a producer the instruments that it has of this exchange. So a producer that has begun anew uses the units of
//!   quantities that the journal has.

use super::exchange::Exchange;
use super::exchanges::{self, Unnumbered};
use super::intake::OTHER_FEED;
use super::{ConnId, ExchangeConfig, Level, MARKET_SOURCE, Sequencer, SequencerPeer};
use crate::limits;
use crate::log::{AppendError, Storage};
use crate::market::venue::{ExchangeNameError, check_exchange_name};
use crate::node::session::{Admission, Rejection};
use crate::planted::{Bug, is_planted};
use crate::time::Now;
use crate::wire::{
    Definition, ErrorCode, ExchangeNumber, Flags, Frame, InstrumentIndex, Seq, Session,
    SnapshotEnd, U32, U64, padded, unpadded,
};

/// What a producer is told whose feed has fewer events than core has of it.
pub const SHORTER_FEED: &str = "core has more of this feed than you offer";
/// What a producer is told whose exchange is not one of producers.
pub const DIALED_EXCHANGE: &str = "core dials this exchange itself";
/// What a producer is told while the journal takes nothing.
const NO_ROOM: &str = "the journal takes nothing now; come back later";

fn refused(text: &'static str) -> Rejection {
    Rejection::new(ErrorCode::Unexpected, text)
}

impl<S: Storage> Sequencer<S> {
    pub(super) fn greet_producer(
        &mut self,
        now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<SequencerPeer> {
        match self.admit_producer(now, conn, session) {
            Ok((index, answer)) => Admission::Accepted(SequencerPeer::Exchange(index), answer),
            Err(rejection) => Admission::Refused(rejection),
        }
    }

    fn admit_producer(
        &mut self,
        now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Result<(usize, Session), Rejection> {
        let (name, feed) = (unpadded(&session.name), session.feed.get());
        if feed == 0 {
            return Err(refused("a producer's feed needs an identity, not 0"));
        }
        if self.is_held_back {
            return Err(Rejection::new(ErrorCode::Storage, NO_ROOM));
        }
        let (number, found) = self.number_of_producer(&name)?;
        let place = self.market.places().place(number);
        let known = place.map_or(0, |place| place.feed);
        let upstream_seq = Seq::or_first(place.map_or(1, |place| place.next_seq));
        let (first, head) = (session.next_seq(), session.durable_seq());
        let before = self.market.places().before(number, feed);
        let before = before.filter(|_| !is_planted(Bug::ForgetLeftFeed));
        let has_some = known == feed || before.is_some();
        let next_seq = match before {
            _ if known == feed && is_planted(Bug::ProducerBeginsAnew) => Seq::FIRST,
            _ if known == feed => upstream_seq,
            Some(place) => Seq::or_first(place.next_seq),
            None => first.unwrap_or(Seq::FIRST),
        };
        if known != 0 && !has_some && !session.has(Session::APPENDS) {
            return Err(refused(OTHER_FEED));
        }
        let is_uncertain = place.is_some_and(|place| place.is_uncertain) && known == feed
            || before.is_some_and(|place| place.is_uncertain);
        let next_seq = match head {
            // Core has lost frames, and counts more as this producer's than it has made.
            Some(head) if is_uncertain => next_seq.min(head),
            _ => next_seq,
        };
        if has_some && head.is_some_and(|head| head < next_seq) {
            return Err(refused(SHORTER_FEED));
        }
        if has_some && first > Some(next_seq) {
            return Err(refused("numbers before yours are missing here"));
        }
        if next_seq >= Seq::LAST || head.is_some_and(|head| head < next_seq) {
            return Err(refused("a place that no feed has"));
        }
        let index = match found {
            Some(index) => index,
            None => self.add_producer(now, &name, (number, upstream_seq))?,
        };
        let begins_late = !has_some && next_seq > Seq::FIRST;
        if begins_late || is_uncertain {
            self.market.note_gap(index);
        }
        self.market.forget_exchange_instruments(index);
        let exchange = &mut self.exchanges[index];
        exchange.upstream_seq = next_seq;
        let unplaced = Some(feed).filter(|_| known != feed || is_uncertain);
        exchange.accept(now, conn, head, unplaced);
        // The commit tells the producer what is durable, also when nothing is new.
        self.has_updates = true;
        let text = format!("the producer {name} begins: feed {feed:016x} from {next_seq}");
        self.connections.log(Level::Info, text);
        if begins_late {
            let text =
                format!("the producer {name} has lost what came before: its next frames say so");
            self.connections.log(Level::Warn, text);
        }
        let answer = Session {
            source: MARKET_SOURCE,
            epoch: U32::new(self.journal.epoch()),
            epoch_start: U64::new(self.journal.epoch_start()),
            next_seq: Seq::field(Some(next_seq)),
            // Where nothing becomes durable by itself a producer need not wait for it.
            durable_seq: Seq::field(
                Some(Seq::FIRST).filter(|_| self.journal.promises_durability()),
            ),
            feed: U64::new(feed),
            name: padded("core"),
            ..Session::default()
        };
        Ok((index, answer))
    }

    /// The number of the exchange of this name, and the exchange, if it was there since core's start.
    fn number_of_producer(&self, name: &str) -> Result<(ExchangeNumber, Option<usize>), Rejection> {
        check_exchange_name(name).map_err(|error| match error {
            ExchangeNameError::Form(_) => {
                refused("1 to 8 letters, digits, - and _ name an exchange")
            }
            ExchangeNameError::Taken(_) => refused("a node or a breaker is called so"),
        })?;
        let is_named = |exchange: &Exchange| exchange.name().eq_ignore_ascii_case(name);
        if let Some(index) = self.exchanges.iter().position(is_named) {
            let exchange = &self.exchanges[index];
            if exchange.name() != name {
                return Err(refused("an exchange is called so in other letters"));
            }
            if !exchange.is_producer() {
                return Err(refused(DIALED_EXCHANGE));
            }
            return match exchange.conn() {
                Some(_) => {
                    Err(Rejection::new(ErrorCode::Limit, "this exchange has a producer already"))
                }
                None => Ok((exchange.number(), Some(index))),
            };
        }
        if !self.config.takes_unlisted {
            return Err(refused("core takes listed exchanges only"));
        }
        if name == ExchangeConfig::NAMELESS {
            return Err(refused("a producer needs a name of its own"));
        }
        let mut numbers = exchanges::known_names(self.market.places(), &self.market);
        if numbers.keys().any(|known| known != name && known.eq_ignore_ascii_case(name)) {
            return Err(refused("an exchange is called so in other letters"));
        }
        for exchange in &self.exchanges {
            numbers.insert(exchange.name().to_owned(), exchange.number());
        }
        let number = exchanges::number_of(name, &numbers, &self.market);
        number.map(|number| (number, None)).map_err(|why| match why {
            Unnumbered::NamesOfAnother => refused("symbols of another exchange begin so"),
            Unnumbered::Full => {
                Rejection::new(ErrorCode::Limit, "no number is left for another exchange")
            }
        })
    }

    fn add_producer(
        &mut self,
        now: Now,
        name: &str,
        (number, upstream_seq): (ExchangeNumber, Seq),
    ) -> Result<usize, Rejection> {
        let config = ExchangeConfig {
            name: name.to_owned(),
            address: None,
            breaker: self.config.breaker.clone(),
        };
        let mut exchange = Exchange::new(&config, &self.config, (number, upstream_seq), now)
            .map_err(|error| Rejection::new(ErrorCode::Failed, error.to_string()))?;
        let place = self.market.places().place(number);
        exchange.is_place_uncertain = place.is_some_and(|place| place.is_uncertain);
        self.market.follow_also(number);
        self.venues.insert(name.to_owned());
        self.exchanges.push(exchange);
        Ok(self.exchanges.len() - 1)
    }

    /// The journal is to say the place of a feed that it does not have, ahead of what comes of it. So a producer that only
    /// comes and goes leaves nothing behind.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub(super) fn place_feed(&mut self, now: Now, index: usize) -> Result<(), AppendError> {
        let exchange = &self.exchanges[index];
        let Some(feed) = exchange.unplaced else { return Ok(()) };
        let next_seq = exchange.upstream_seq.get();
        self.set_place(now, index, feed, next_seq)?;
        self.exchanges[index].unplaced = None;
        Ok(())
    }

    /// Whether there is no room for this instrument: a producer leaves some to exchanges that core dials, and to core.
    pub(super) fn has_too_many(&self, index: usize, definition: &Definition) -> bool {
        self.exchanges[index].is_producer()
            && self.market.instrument_of(&definition.symbol).is_none()
            && self.market.len() >= limits::INSTRUMENTS_OF_PRODUCERS_MAX
    }

    /// While nothing is read, nobody is silent.
    pub(super) fn excuse_producers(&mut self, now: Now) {
        for exchange in self.exchanges.iter().filter(|exchange| exchange.is_producer()) {
            if let Some(conn) = exchange.conn() {
                self.connections.heard(now, conn);
            }
        }
    }

    /// A frame of a producer.
    pub(super) fn on_producer_frame(
        &mut self,
        now: Now,
        conn: ConnId,
        index: usize,
        frame: &Frame,
    ) -> Result<(), Rejection> {
        if frame.view::<Definition>().is_some() && !frame.has(Flags::SNAPSHOT) {
            return Err(refused("a producer's DEFINITION has the flag SNAPSHOT"));
        }
        self.handle_exchange_frame(now, conn, index, frame);
        Ok(())
    }

    /// The journal has committed all that was taken in.
    pub(super) fn acknowledge_committed(&mut self) {
        let committed = Seq::or_first(self.journal.committed_seq());
        for exchange in &mut self.exchanges {
            let upstream_seq = exchange.upstream_seq;
            if let Some(accepted) = exchange.accepted() {
                accepted.note_committed(committed, upstream_seq);
            }
        }
        self.acknowledge_durable();
    }

    /// Tells each producer what is news to it.
    pub(super) fn acknowledge_durable(&mut self) {
        let (epoch, durable) = (self.journal.epoch(), Seq::or_first(self.journal.durable_seq()));
        for exchange in &mut self.exchanges {
            let Some(accepted) = exchange.accepted() else { continue };
            accepted.note_durable(durable);
            if let Some((conn, ack)) = accepted.poll_ack(epoch) {
                self.connections.send(conn, ack);
            }
        }
    }

    /// The next definitions that a producer is told: those of its exchange that core has.
    pub(super) fn fill_definitions(&mut self, conn: ConnId, index: usize) {
        let exchange = &mut self.exchanges[index];
        let prefix = format!("{}:", exchange.name());
        let next_seq = exchange.upstream_seq;
        let Some(accepted) = exchange.accepted() else { return };
        let Some(from) = accepted.untold() else { return };
        let values = self.market.values();
        let end = values.index_end();
        let until = InstrumentIndex::at(from.place() + limits::DEFINITIONS_PER_FILL_MAX);
        let until = until.map_or(end, |until| until.min(end));
        let of_exchange = |frame: &&Frame| {
            let definition = frame.view::<Definition>();
            definition.is_some_and(|it| {
                it.flags.get() & Flags::VENUE != 0 && it.symbol.as_str().starts_with(&prefix)
            })
        };
        let definitions = InstrumentIndex::until(until)
            .skip(from.place())
            .filter_map(|index| values.definition(index))
            .filter(of_exchange)
            .map(|frame| frame.delivered(Flags::SNAPSHOT));
        self.scratch.extend(definitions);
        let next = Some(until).filter(|until| *until < end);
        let told = accepted.note_told(self.scratch.len(), next);
        if next.is_none() {
            let room = limits::INSTRUMENTS_OF_PRODUCERS_MAX.saturating_sub(self.market.len());
            self.scratch.push(Frame::seal(SnapshotEnd {
                id: U32::new(u32::try_from(room).unwrap_or(u32::MAX)),
                frames: U32::new(told),
                next_seq: Seq::field(Some(next_seq)),
                ..SnapshotEnd::default()
            }));
        } else if self.scratch.is_empty() {
            self.scanning.push(conn);
        }
    }
}
