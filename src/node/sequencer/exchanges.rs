//! The exchanges together: which number each has, how far core is in the feed of each, and what is known of their last values.
//!
//! # Decisions
//!
//! * A name gets a number once, and keeps it as long as the journal stands: frames have the number in their flags. The
//!   exchange that is called [`ExchangeConfig::NAMELESS`] has number 0, and its place stands in the journal's marks. The place
//!   of each other one is a frame on a topic of its own, which names it.
//! * An exchange that the journal knows and that is not configured any more is stale, and so are its quotes.

use std::collections::{BTreeMap, BTreeSet};

use super::exchange::{Exchange, ExchangeAction};
use super::market::Market;
use super::{ConnId, DialId, ExchangeConfig, Level, Sequencer, SequencerConfig};
use crate::limits;
use crate::log::{AppendError, ExchangePlaces, Log, PLACE_TOPIC, Storage};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    ErrorCode, ExchangeNumber, ExchangePlace, ExchangeSet, FeedStates, FeedStatus, Seq, Symbol,
    U16, U64,
};

/// The dial id of the first exchange; followers count up from behind it.
pub(super) const EXCHANGE_DIAL: DialId = DialId(0);
/// The dial ids of the other exchanges count up from here.
const OTHER_EXCHANGES_DIAL: u32 = 1 << 16;

/// The topic of an exchange's place.
pub(super) fn place_topic(name: &str) -> Option<Symbol> {
    format!("{PLACE_TOPIC}{name}").parse().ok()
}

/// How the dials of an exchange are called.
pub(super) fn dial_of(index: usize) -> DialId {
    match u32::try_from(index) {
        Ok(0) | Err(_) => EXCHANGE_DIAL,
        Ok(index) => DialId(OTHER_EXCHANGES_DIAL.saturating_add(index)),
    }
}

/// Which exchange was dialed; `None`: it was no exchange.
pub(super) fn index_of(dial: DialId) -> Option<usize> {
    match dial {
        EXCHANGE_DIAL => Some(0),
        DialId(number) => {
            let index = number.checked_sub(OTHER_EXCHANGES_DIAL)?;
            usize::try_from(index).ok()
        }
    }
}

/// The exchanges that a journal knows by name.
pub(super) fn known_names(
    places: &ExchangePlaces,
    market: &Market,
) -> BTreeMap<String, ExchangeNumber> {
    let named = places.iter().filter_map(|(number, place)| {
        let symbol = market.symbol(place.instrument)?;
        Some((symbol.as_str().strip_prefix(PLACE_TOPIC)?.to_owned(), number))
    });
    named.collect()
}

/// All names that instruments can have before a `:`.
pub(super) fn all_names(exchanges: &[Exchange], market: &Market) -> BTreeSet<String> {
    let known = known_names(market.places(), market).into_keys();
    known.chain(exchanges.iter().filter_map(Exchange::venue).map(str::to_owned)).collect()
}

/// Why an exchange gets no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnumbered {
    /// Symbols of another one begin with its name: they would become its instruments.
    NamesOfAnother,
    /// All numbers are given.
    Full,
}

/// The number of the exchange of this name: the one that it has, or the next one.
pub(super) fn number_of(
    name: &str,
    numbers: &BTreeMap<String, ExchangeNumber>,
    market: &Market,
) -> Result<ExchangeNumber, Unnumbered> {
    if let Some(number) = numbers.get(name) {
        return Ok(*number);
    }
    if market.has_names_of(name) {
        return Err(Unnumbered::NamesOfAnother);
    }
    // One that was given to a name of which the journal has nothing is free again after a start.
    let is_free = |number: &ExchangeNumber| {
        *number != ExchangeNumber::FIRST && numbers.values().all(|given| given != number)
    };
    ExchangeNumber::all().find(is_free).ok_or(Unnumbered::Full)
}

/// The configured exchanges, each with its number and its place.
///
/// # Errors
/// When there is none, when one is wrong, or when there is no number for a new one.
pub(super) fn new<S: Storage>(
    config: &SequencerConfig,
    journal: &Log<S>,
    market: &Market,
    now: Now,
) -> Result<Vec<Exchange>, String> {
    if config.exchanges.is_empty() {
        return Err("no exchange is configured".to_owned());
    }
    if let Some(number) = market.places().unplaced().next() {
        return Err(format!(
            "the journal has frames of the exchange with number {number}, and has lost how far core was in its feed: its \
             frames would be stored twice. Put the journal back from a copy, or begin with another --data-dir"
        ));
    }
    let mut numbers = known_names(market.places(), market);
    numbers.insert(ExchangeConfig::NAMELESS.to_owned(), ExchangeNumber::FIRST);
    let make = |exchange: &ExchangeConfig| {
        let name = &exchange.name;
        let number = number_of(name, &numbers, market).map_err(|why| match why {
            Unnumbered::NamesOfAnother => format!(
                "an exchange cannot be called {name} here: the journal has symbols that begin with {name}: and are of \
                 another exchange. Give it another name, or begin with another --data-dir"
            ),
            Unnumbered::Full => format!(
                "no number is left for the exchange {name}: the journal has known {} by name. Begin with \
                 another --data-dir",
                limits::EXCHANGES_MAX - 1
            ),
        })?;
        numbers.insert(name.clone(), number);
        let place = market.places().place(number);
        let upstream_seq = match number {
            ExchangeNumber::FIRST => journal.upstream().1,
            _ => place.map_or(1, |place| place.next_seq),
        };
        let numbered = (number, Seq::or_first(upstream_seq));
        let mut made =
            Exchange::new(exchange, config, numbered, now).map_err(|error| error.to_string())?;
        made.is_place_uncertain = place.is_some_and(|place| place.is_uncertain);
        Ok(made)
    };
    config.exchanges.iter().map(make).collect()
}

impl<S: Storage> Sequencer<S> {
    /// Which feed of an exchange the journal holds, and how far.
    pub(super) fn place(&self, index: usize) -> (u64, u64) {
        match self.exchanges[index].number() {
            ExchangeNumber::FIRST => self.journal.upstream(),
            number => {
                let place = self.market.places().place(number);
                place.map_or((0, 1), |place| (place.feed, place.next_seq))
            }
        }
    }

    /// Says in the journal where it goes on in the feed of an exchange, when that is not what its frames say.
    pub(super) fn set_place(
        &mut self,
        now: Now,
        index: usize,
        feed: u64,
        next_seq: u64,
    ) -> Result<(), AppendError> {
        let exchange = &self.exchanges[index];
        let number = exchange.number();
        if number == ExchangeNumber::FIRST {
            self.journal.set_upstream(feed, next_seq, now)?;
        } else if self.place(index) != (feed, next_seq)
            || self.market.places().place(number).is_none()
            || exchange.is_place_uncertain
        {
            let Some(topic) = place_topic(exchange.name()) else { return Ok(()) };
            let place = ExchangePlace {
                feed: U64::new(feed),
                next_seq: U64::new(next_seq),
                exchange: U16::new(number.get().into()),
                ..ExchangePlace::default()
            };
            self.publish_on(now, topic, place)?;
        }
        self.exchanges[index].is_place_uncertain = false;
        Ok(())
    }

    /// The journal has lost frames before this start, and nobody knows whose: each exchange that had a place before the loss
    /// says so in its next frames.
    pub(super) fn tell_uncertain_places(&mut self, is_damaged: bool) {
        let has_others = self.market.places().iter().next().is_some();
        for index in 0..self.exchanges.len() {
            let exchange = &self.exchanges[index];
            let is_first = exchange.number() == ExchangeNumber::FIRST;
            if exchange.is_place_uncertain || is_first && is_damaged && has_others {
                let text = format!(
                    "the journal has lost frames, and some may be of {}: its next frames say so",
                    exchange.title()
                );
                self.connections.log(Level::Error, text);
                self.market.note_gap(index);
            }
        }
    }

    /// Lets the exchange machines act: dial, ask, close.
    pub(super) fn drive_exchanges(&mut self, now: Now) {
        for index in 0..self.exchanges.len() {
            self.drive_exchange(now, index);
        }
    }

    fn drive_exchange(&mut self, now: Now, index: usize) {
        while let Some(step) = self.exchanges[index].poll_action(now, !self.is_held_back) {
            match step {
                ExchangeAction::Dial(to, within) => {
                    self.connections.dial(dial_of(index), to, within);
                }
                ExchangeAction::Send(conn, frame) => self.connections.send_frame(conn, &frame),
                ExchangeAction::Close(conn, why) => {
                    let title = self.exchanges[index].session_title();
                    let text = format!("closing {title}: {why}");
                    self.connections.log(Level::Info, text);
                    if self.exchanges[index].is_producer() {
                        // It has to know why: it comes again by itself.
                        self.connections.refuse(conn, ErrorCode::Failed, why);
                    } else {
                        self.connections.close_after_flush(conn);
                    }
                }
            }
        }
        while let Some((name, change, is_of_requests)) = self.exchanges[index].poll_transition() {
            if is_of_requests {
                self.report_request_transition(now, index, &name, change);
            } else {
                self.report_transition(now, &name, change);
            }
        }
    }

    /// What is known of the last values.
    pub(super) fn feed_states(&self, now: Now) -> FeedStates {
        let mut of_configured = self.exchanges.iter().map(|exchange| exchange.feed_status(now));
        // Of all together only what is true of each: where one has ended and another one is away, more may come.
        let first = of_configured.next().unwrap_or(FeedStatus::Stale);
        let is_common = of_configured.all(|status| status == first);
        let all = if is_common { first } else { FeedStatus::Current };
        let mut states = FeedStates { all, ..FeedStates::default() };
        let mut configured = ExchangeSet::NONE;
        for exchange in &self.exchanges {
            configured.insert(exchange.number());
            match exchange.feed_status(now) {
                status if status == all => {}
                FeedStatus::Stale if !is_planted(Bug::SickExchangeNotTold) => {
                    states.stale.insert(exchange.number());
                }
                FeedStatus::Ended => states.ended.insert(exchange.number()),
                FeedStatus::Stale | FeedStatus::Current => {}
            }
        }
        // Those that are not configured any more.
        let had_first = self.journal.upstream().0 != 0;
        let others = self.market.places().iter().map(|(number, _)| number);
        let known = others.chain(had_first.then_some(ExchangeNumber::FIRST));
        for number in known.filter(|number| !configured.has(*number) && all != FeedStatus::Stale) {
            states.stale.insert(number);
        }
        states
    }

    /// Which exchange a connection is with.
    pub(super) fn exchange_at(&self, conn: ConnId) -> Option<usize> {
        self.exchanges.iter().position(|exchange| exchange.conn() == Some(conn))
    }

    /// When one of them is due.
    pub(super) fn exchanges_due(&self) -> Option<Mono> {
        self.exchanges.iter().filter_map(Exchange::next_deadline).min()
    }
}
