//! Where core goes on in the feed of each exchange that has a name: what the logs say, or what an operator does.
//!
//! # Decisions
//!
//! * The places stand in frames of the sequence, so who has all frames knows them. Where a shard is lost, its place frames may
//!   be. Then nobody but the operator knows, and nothing is made until it is said: core would store frames twice.
//! * A place that an operator says is a frame behind the epoch that begins with the new journal. Before it, a shard that was
//!   not there may have a frame with the same number.

use std::collections::BTreeMap;

use super::known::Known;
use super::{RebuildError, append};
use crate::log::backend::Storage;
use crate::log::config::AppendError;
use crate::log::exchange_places::{PLACE_TOPIC, Place};
use crate::log::{Log, LogEntry};
use crate::time::Now;
use crate::wire::{
    Definition, ExchangeNumber, ExchangePlace, Frame, Symbol, U16, U32, U64, next_instrument_seq,
};

/// Where core goes on at an exchange: what an operator knows, or the old journal says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedPlace {
    /// Which feed; 0: unknown, or one that begins.
    pub feed: u64,
    /// The next number; `None`: it is counted. Each frame of the market is one number. What the exchange numbered and
    /// core did not journal cannot be counted: a definition that was known, a frame that was lost.
    pub next_seq: Option<u64>,
}

/// What an operator says of the exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPlaces {
    /// Of the exchange without a name; `None`: nothing is said.
    pub nameless: Option<FeedPlace>,
    /// Of others, by name.
    pub named: BTreeMap<String, FeedPlace>,
}

/// Where a new journal goes on in the feed of an exchange with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoesOn {
    /// The name of the exchange.
    pub name: String,
    /// Which feed; 0: one that begins.
    pub feed: u64,
    /// The number that core wants next.
    pub next_seq: u64,
    /// Frames of it may have been lost before that: core tells it.
    pub is_uncertain: bool,
    /// An operator said it.
    pub is_told: bool,
}

/// An exchange that goes on, and its number.
#[derive(Debug)]
pub(super) struct Decided {
    number: ExchangeNumber,
    goes_on: GoesOn,
    /// The journal does not say it yet.
    is_news: bool,
}

/// Where each exchange with a name goes on.
///
/// # Errors
/// When somebody says what cannot be, or nobody says what no log has.
pub(super) fn decide(
    known: &Known,
    told: &BTreeMap<String, FeedPlace>,
) -> Result<Vec<Decided>, RebuildError> {
    let exchanges = known.exchanges();
    let names: BTreeMap<&str, ExchangeNumber> =
        exchanges.iter().filter_map(|(number, name)| Some((name.as_deref()?, *number))).collect();
    if let Some(name) = told.keys().find(|name| !names.contains_key(name.as_str())) {
        let there: Vec<&str> = names.into_keys().collect();
        let there = if there.is_empty() { "none by name".to_owned() } else { there.join(", ") };
        return Err(RebuildError::UnknownExchange { name: name.clone(), known: there });
    }
    let of = |(number, name): &(ExchangeNumber, Option<String>)| {
        let Some(name) = name else { return Err(RebuildError::NameLost(*number)) };
        let place = known.places().place(*number);
        let has_topic = place.is_some_and(|it| known.symbol(it.instrument) == topic_of(name));
        let decided = |feed, next_seq, is_uncertain, is_news| Decided {
            number: *number,
            goes_on: GoesOn {
                name: name.clone(),
                feed,
                next_seq,
                is_uncertain,
                is_told: told.contains_key(name),
            },
            is_news,
        };
        match (told.get(name), place.filter(|_| has_topic)) {
            (None, Some(it)) => Ok(decided(it.feed, it.next_seq, it.is_uncertain, false)),
            (None, None) => Err(RebuildError::PlaceLost(name.clone())),
            (Some(told), held) => {
                let (next_seq, is_uncertain) = next_of(known, *number, name, *told)?;
                let is_said = held.is_some_and(|it| {
                    (it.feed, it.next_seq, it.is_uncertain) == (told.feed, next_seq, is_uncertain)
                });
                Ok(decided(told.feed, next_seq, is_uncertain, !is_said))
            }
        }
    };
    exchanges.iter().map(of).collect()
}

/// The number at which an exchange goes on that an operator names, and whether frames may be lost before it.
fn next_of(
    known: &Known,
    number: ExchangeNumber,
    name: &str,
    told: FeedPlace,
) -> Result<(u64, bool), RebuildError> {
    let present = known.places().place(number);
    let is_it = |it: &Place| it.feed == told.feed && told.feed != 0;
    let left = known.places().before(number, told.feed).filter(is_it);
    // One that was left is counted no further where frames are lost: any of those behind may be its.
    let held = present.filter(is_it).or(left);
    let can_count = |it: &Place| present.is_some_and(|it| is_it(&it)) || !it.is_uncertain;
    match (told.next_seq, held) {
        (Some(next_seq), Some(it)) if next_seq < it.least_seq => Err(RebuildError::PlaceBehind {
            name: name.to_owned(),
            next_seq,
            feed: told.feed,
            least_seq: it.least_seq,
        }),
        (Some(next_seq), _) => Ok((next_seq, false)),
        (None, _) if told.feed == 0 => Ok((1, false)),
        (None, Some(it)) if can_count(&it) => Ok((it.next_seq, it.is_uncertain)),
        (None, _) => Err(RebuildError::OtherFeed {
            name: name.to_owned(),
            feed: told.feed,
            known: present.map_or(0, |it| it.feed),
        }),
    }
}

fn topic_of(name: &str) -> Option<Symbol> {
    format!("{PLACE_TOPIC}{name}").parse().ok()
}

/// Says in the journal what was decided and does not stand there.
///
/// # Errors
/// When the journal does not take it.
pub(super) fn say<S: Storage>(
    log: &mut Log<S>,
    known: &mut Known,
    decided: &[Decided],
    now: Now,
) -> Result<(), RebuildError> {
    for it in decided.iter().filter(|it| it.is_news) {
        let Some(topic) = topic_of(&it.goes_on.name) else { continue };
        let instrument = match known.instrument_of(&topic) {
            Some(instrument) => instrument,
            None => {
                let instrument = known.free_instrument().ok_or(AppendError::Full)?;
                let definition = Definition::new(instrument, topic, 0);
                say_one(log, known, Frame::seal(definition), now)?;
                instrument
            }
        };
        let last = known.last_place(instrument);
        let place = ExchangePlace {
            instrument: instrument.into(),
            instrument_seq: U32::new(last.map_or(1, next_instrument_seq)),
            feed: U64::new(it.goes_on.feed),
            next_seq: U64::new(it.goes_on.next_seq),
            exchange: U16::new(it.number.get().into()),
            ..ExchangePlace::default()
        };
        say_one(log, known, Frame::seal(place), now)?;
    }
    Ok(())
}

fn say_one<S: Storage>(
    log: &mut Log<S>,
    known: &mut Known,
    mut frame: Frame,
    now: Now,
) -> Result<(), RebuildError> {
    // Receive times never fall.
    let received = U64::new(known.last_received().max(now.wall_ns));
    (frame.seq, frame.ts_event, frame.ts_recv) = (U64::new(log.next_seq()), received, received);
    frame.renew_crc();
    append(log, LogEntry::LocalEvent(&frame), now, || known.statements())?;
    known.note(&frame);
    Ok(())
}

/// What is told of it.
pub(super) fn goes_on(decided: Vec<Decided>) -> Vec<GoesOn> {
    decided.into_iter().map(|it| it.goes_on).collect()
}
