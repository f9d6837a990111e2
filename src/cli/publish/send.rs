//! The lines on their way to core: read on a thread, made events, sent, and waited for.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};

use super::PublishRequest;
use super::args::PublishFlags;
use super::outcome::{Leavings, Publication};
use super::source::Source;
use super::survey::{Counts, Survey, hashed};
use crate::cli::exit::Failure;
use crate::cli::progress::Bar;
use crate::client::{FeedId, Instrument, ProduceError, Producer, ProducerError, random_id};
use crate::market::lines::Record;
use crate::node::sequencer::{DIALED_EXCHANGE, OTHER_FEED, SHORTER_FEED};
use crate::producer::{QUANTITY_DECIMALS_DEFAULT, RecordEvent, decimals_of, event_of};
use crate::time::Mono;
use crate::wire::{Decimals, FNV_BASIS, FullName, QUANTITY_DECIMALS_MAX, Symbol, fnv1a_64};

/// How long core may take nothing before it is said.
const NEWS_AFTER: Duration = Duration::from_secs(5);
/// How long core may be away before it is said.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(1);
/// Records that are read ahead of those that are sent.
const RECORDS_AHEAD_MAX: usize = 4_096;
/// How often core is answered while no line comes.
const ANSWER_EVERY: Duration = Duration::from_millis(50);
/// How far behind its rate the next events may be and catch up.
const BEHIND: Duration = Duration::from_millis(100);
/// How far ahead of its rate an event may be: so many are sent together.
const AHEAD: Duration = Duration::from_millis(2);

/// Which feed the lines are, and whether it may come behind another one.
fn feed_of(flags: &PublishFlags, survey: Option<&Survey>) -> Result<FeedId, Failure> {
    let (identity, is_new) = match (&flags.feed, survey) {
        (Some(name), _) => (fnv1a_64(FNV_BASIS, name.as_bytes()), false),
        (None, Some(survey)) => (survey.content, false),
        // Nothing says that it is one that was there before.
        (None, None) => (random_id(), true),
    };
    let feed = FeedId::new(&flags.exchange.to_string(), identity.max(1)).map_err(Failure::usage)?;
    Ok(if flags.append || is_new { feed.behind_others() } else { feed })
}

fn failed(flags: &PublishFlags, error: &ProducerError) -> Failure {
    let name = flags.exchange;
    let ProducerError::Produce(ProduceError::Refused { text, .. }) = error else {
        return Failure::failed(error);
    };
    if text == OTHER_FEED {
        return Failure::failed(format!(
            "{name} has another feed already; store this one behind it with --append, choose another --exchange, or say \
             with --feed that it is the same one and has grown"
        ));
    }
    if text == SHORTER_FEED {
        return Failure::failed(format!(
            "{} has fewer events than core has of this feed; is it another one? Choose another --feed",
            flags.file.display()
        ));
    }
    if text == DIALED_EXCHANGE {
        return Failure::failed(format!(
            "core is fed by {name} already; choose another --exchange"
        ));
    }
    Failure::failed(error)
}

/// What the thread that reads the lines has found.
enum Found {
    /// An event, and how many bytes were read up to it.
    Record(Record, u64),
    /// A name that is longer than its symbol, ahead of its first event.
    Name(FullName),
    /// There are no more.
    End(Leavings),
    /// A line is wrong: nothing behind it is read.
    Wrong(Failure),
    /// None has come yet.
    Nothing,
}

/// Reads lines on a thread of its own: core asks whether a producer lives, also while standard input is quiet.
fn read(mut source: Source) -> io::Result<Receiver<Found>> {
    let (sender, receiver) = bounded(RECORDS_AHEAD_MAX);
    let work = move || loop {
        let found = match source.next_record() {
            Ok(Some(record)) => Found::Record(record, source.bytes()),
            Ok(None) => Found::End(Leavings::of(&source)),
            Err(failure) => Found::Wrong(failure),
        };
        let is_last = !matches!(found, Found::Record(..));
        let is_gone = |name| sender.send(Found::Name(name)).is_err();
        if source.take_new_name().is_some_and(is_gone) || sender.send(found).is_err() || is_last {
            break;
        }
    };
    std::thread::Builder::new().name("lines".into()).spawn(work)?;
    Ok(receiver)
}

/// Sends what comes, and waits until all of it is durable.
///
/// # Errors
/// Names the line that is wrong, or says why core does not take the feed.
pub(super) fn publish(
    request: &PublishRequest,
    survey: Option<&Survey>,
    source: Source,
    mut bar: Bar,
) -> Result<Publication, Failure> {
    let flags = &request.flags;
    let feed = feed_of(flags, survey)?;
    let refused = |error: ProducerError| failed(flags, &error);
    let name = source.name().to_owned();
    let mut producer = open(request, feed, survey).map_err(refused)?;
    let before = producer.next_seq() - 1;
    if let Some(survey) = survey {
        define_all(flags, &mut producer, survey, &source)?;
    }
    let found = read(source).map_err(Failure::failed)?;
    let mut pace =
        flags.rate.map(|rate| Pace { rate, begun: producer.clock().now().mono, sent: 0 });
    let (mut counts, mut number, mut rounded) = (Counts::default(), 0, 0);
    // Names that are longer than their symbols: as many as there are instruments.
    let mut names: BTreeMap<Symbol, FullName> = BTreeMap::new();
    let mut content = FNV_BASIS;
    let end = loop {
        let next = found.try_recv().or_else(|_| {
            // Nothing more is at hand: what there is goes out, and core is answered.
            producer.flush().map_err(refused)?;
            Ok(found.recv_timeout(ANSWER_EVERY).unwrap_or(Found::Nothing))
        })?;
        let record = match next {
            Found::Record(record, bytes) => {
                bar.show(bytes);
                record
            }
            Found::End(leavings) => break Ok(leavings),
            Found::Wrong(failure) => break Err(failure),
            Found::Name(name) => {
                names.insert(name.symbol(), name);
                continue;
            }
            Found::Nothing => continue,
        };
        if survey.is_some_and(|survey| number >= survey.counts.events()) {
            break Err(changed(&name));
        }
        number += 1;
        content = hashed(content, &record);
        if number <= before {
            continue;
        }
        let needed = decimals_of(&record);
        let default = flags.quantity_decimals.unwrap_or(QUANTITY_DECIMALS_DEFAULT);
        let decimals = Decimals { quantity: default, ..needed };
        let longer = names.get(&record.symbol).map(FullName::as_str);
        let symbol = longer.unwrap_or(record.symbol.as_str());
        let instrument: Instrument = producer.define(symbol, decimals).map_err(refused)?;
        let event = match event_of(&record, &instrument) {
            Ok(event) => event,
            Err(error) => {
                break Err(Failure::failed(format!(
                    "{name}, event {number}: {error}; of an instrument that core does not have --quantity-decimals says the \
                 unit, and of any other one --exchange chooses another place"
                )));
            }
        };
        wait_for_room(&mut producer).map_err(refused)?;
        let produced = match event {
            RecordEvent::Quote(quote) => producer.produce(quote),
            RecordEvent::Trade(trade) => producer.produce(trade),
            RecordEvent::Cancel(cancel) => producer.produce(cancel),
        };
        produced.map_err(refused)?;
        counts.note(&record);
        rounded += u64::from(event.is_rounded(&record, &instrument));
        if let Some(pace) = &mut pace {
            pace.keep(&mut producer).map_err(refused)?;
        }
    };
    if number < before && end.is_ok() {
        return Err(Failure::failed(format!(
            "{name} has {number} events, and core has {before} of this feed; is it another one? Choose another --feed"
        )));
    }
    let has_changed = survey.is_some_and(|survey| survey.content != content);
    let end = end.and_then(|it| if has_changed { Err(changed(&name)) } else { Ok(it) });
    wait_for_all(&mut producer).map_err(refused)?;
    let sessions = producer.sessions();
    match end {
        Ok(source) => Ok(Publication { source, counts, before, rounded, sessions }),
        Err(failure) => {
            let text = failure.message().unwrap_or_default();
            let stored = counts.events();
            Err(Failure::failed(format!(
                "{text}. What stands before it is stored; events: {stored}"
            )))
        }
    }
}

/// Comes to core. Says so when that takes long.
fn open(
    request: &PublishRequest,
    feed: FeedId,
    survey: Option<&Survey>,
) -> Result<Producer, ProducerError> {
    let wait = request.flags.wait;
    let come = |patience| match survey {
        Some(survey) => Producer::open_whole(request.core, feed, survey.counts.events(), patience),
        None => Producer::open(request.core, feed, patience),
    };
    let first = wait.min(WAIT_TOLD_AFTER);
    match come(first) {
        Err(ProducerError::Produce(error)) if error.is_final() => Err(error.into()),
        Err(error) if first < wait => {
            log::warn!("{error}; trying again for {} s, as --wait says", (wait - first).as_secs());
            come(wait - first)
        }
        opened => opened,
    }
}

/// The file is not the one any more that was looked at.
fn changed(name: &str) -> Failure {
    Failure::failed(format!(
        "{name} has changed while it was published; publish it again when nobody writes to it, with --append if it is \
         another feed now"
    ))
}

/// Defines all instruments ahead of the first event, so that one that does not fit is known before anything is sent.
fn define_all(
    flags: &PublishFlags,
    producer: &mut Producer,
    survey: &Survey,
    source: &Source,
) -> Result<(), Failure> {
    for (symbol, needed) in survey.instruments() {
        let quantity = flags.quantity_decimals.unwrap_or(needed.quantity);
        let decimals = Decimals { quantity: quantity.min(QUANTITY_DECIMALS_MAX), ..needed };
        let instrument = producer.define(&survey.name(&symbol), decimals);
        let has = instrument.map_err(|error| failed(flags, &error))?.decimals.quantity;
        if !survey.fits(&symbol, has) {
            return Err(source.wrong(&format!(
                "the quantities of {symbol} do not fit 64 bits in units of {has} decimals; an instrument keeps its units: \
                 choose another --exchange, or fewer --quantity-decimals where it is new"
            )));
        }
        if has < needed.quantity {
            let needed = needed.quantity;
            return Err(source.wrong(&format!(
                "{symbol} needs units of {needed} decimals, and has units of {has}; an instrument keeps its units: \
                 choose another --exchange"
            )));
        }
    }
    Ok(())
}

/// Says so when core takes nothing for long: its journal may have no room.
fn wait_for_room(producer: &mut Producer) -> Result<(), ProducerError> {
    while !producer.has_room() {
        let before = producer.durable_seq();
        let deadline = producer.clock().now().mono + NEWS_AFTER;
        if !producer.wait_room(deadline)? && producer.durable_seq() == before {
            tell_wait(producer);
        }
    }
    Ok(())
}

/// Waits until all events are durable.
fn wait_for_all(producer: &mut Producer) -> Result<(), ProducerError> {
    loop {
        let before = producer.durable_seq();
        let deadline = producer.clock().now().mono + NEWS_AFTER;
        if producer.end(deadline)? {
            return Ok(());
        }
        if producer.durable_seq() == before {
            tell_wait(producer);
        }
    }
}

fn tell_wait(producer: &Producer) {
    let waits = producer.next_seq().saturating_sub(producer.durable_seq());
    log::warn!(
        "core has acknowledged nothing for {} s, and {waits} events wait; `pregao status` says what it lacks",
        NEWS_AFTER.as_secs()
    );
}

/// Keeps a rate.
struct Pace {
    rate: u64,
    begun: Mono,
    sent: u64,
}

impl Pace {
    fn keep(&mut self, producer: &mut Producer) -> Result<(), ProducerError> {
        self.sent += 1;
        let ns = u128::from(self.sent) * 1_000_000_000 / u128::from(self.rate);
        let due = self.begun + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        let now = producer.clock().now().mono;
        if due.since(now) > AHEAD {
            producer.wait_until(due)?;
        } else if now.since(due) > BEHIND {
            // What was missed while no line came is not made up for.
            (self.begun, self.sent) = (now, 0);
        }
        Ok(())
    }
}
