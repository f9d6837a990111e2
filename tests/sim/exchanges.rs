//! Two exchanges, of which one is sick, or connected and mute: it is told, and so is its return, and the other one is not
//! concerned.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregao::market::Price;
use pregao::market::tape::{Align, Schedule, Tape, TapeBody, TapeEvent, Venue};
use pregao::node::external::{ExternalConfig, FeedConfig};
use pregao::wire::{Flags, Frame, Kind, Op, Silence, Symbol};

use crate::client::ClientConfig;
use crate::faults::Fault;
use crate::hosts::Spec;
use crate::producer::ProducerConfig;
use crate::road::{MS, Options, Road, address, second_schedule, symbols};

/// An instrument that trades every so many milliseconds within these ranges of milliseconds.
type Trader = (&'static str, u64, &'static [(u64, u64)]);

const MARKET: [Trader; 2] = [
    ("PETR4", 200, &[(0, 420_000)]),
    // Silent for 70 s.
    ("VALE3", 400, &[(0, 330_000), (400_000, 420_000)]),
];
/// All of it is silent for half a minute.
const SECOND: [Trader; 1] = [("AMZN", 100, &[(0, 30_000), (60_000, 62_000)])];

fn tape(traders: &[Trader]) -> Schedule {
    let mut tape = Tape::default();
    let mut events = Vec::new();
    for (symbol, every_ms, ranges) in traders {
        let instrument =
            tape.instruments.insert(Venue::Unnamed, symbol.parse().unwrap(), 2).unwrap();
        for (from, to) in *ranges {
            for ms in (*from..*to).step_by(usize::try_from(*every_ms).unwrap()) {
                let (price, qty, trade_id) = (Price(1_000_000_000), 1, ms + 1);
                let body = TapeBody::Trade { price, qty, trade_id };
                let ts_event = 1_600_000_000 * 1_000_000_000 + ms * MS;
                events.push(TapeEvent::new(ts_event, instrument, body));
            }
        }
    }
    events.sort_by_key(|event| event.ts_event);
    tape.events = events;
    Schedule::new(&[tape], Align::Clock).unwrap()
}

/// The exchange on this host plays this, from the beginning.
pub(crate) fn play(road: &mut Road, host: usize, schedule: Schedule) {
    let feed = FeedConfig::Tapes { schedule, looped: false };
    let known = &mut road.world.hosts[host];
    if let Spec::External(config) = &known.spec {
        known.spec = Spec::External(ExternalConfig { feed, ..config.clone() });
    }
    // Before anybody has heard of another tape.
    road.world.fault(Fault::Kill(host, MS));
}

pub(crate) fn who_is_silent_for_longer_than_usual_is_told() {
    let options = Options { has_second: true, pace_ns: MS, events: 20, ..Options::new(3) };
    let mut road = Road::new(&options);
    let (first, second) = (road.exchange, road.second.as_ref().unwrap().host);
    play(&mut road, first, tape(&MARKET));
    play(&mut road, second, tape(&SECOND));
    road.run_until_ms(430_000);
    let frames = &road.world.client(road.system).frames;
    let told: Vec<(String, bool, u64)> = frames
        .iter()
        .filter_map(|frame| frame.view::<Silence>())
        .map(|it| {
            let is_heard = it.flags.get() & Flags::HEARD != 0;
            let seconds = (it.ts_recv.get() - it.ts_event.get()) / (1_000 * MS);
            (it.who.to_string(), is_heard, seconds)
        })
        .collect();
    let who: Vec<(&str, bool)> = told.iter().map(|it| (&*it.0, it.1)).collect();
    let want = [
        ("$sys.exchange.two", false),
        ("$sys.exchange.two", true),
        ("VALE3", false),
        ("VALE3", true),
    ];
    road.world.hold(who == want, "silence-is-told", || format!("{told:?}"));
    let seconds: Vec<u64> = told.iter().map(|it| it.2).collect();
    let is_soon = (5..7).contains(&seconds[0]) && (30..36).contains(&seconds[2]);
    let is_whole = seconds[1] == 30 && seconds[3] == 70;
    road.world.hold(is_soon && is_whole, "silence-is-told-in-time", || format!("{told:?}"));
}

/// A producer leaves a feed in its middle, brings another one, and comes back to the first, whoever dies meanwhile: both
/// are there, each event once.
pub(crate) fn feeds_of_one_exchange_take_turns() {
    for seed in 0..4 {
        let options =
            Options { has_second: true, is_produced: true, pace_ns: 5 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        let host = road.second.as_ref().unwrap().host;
        let Spec::Producer(first) = road.world.hosts[host].spec.clone() else { panic!() };
        let schedule = second_schedule(150, 5 * MS, seed + 1_000);
        let other = ProducerConfig { schedule, durable: Arc::default(), ..first.clone() };
        for (turn, config) in [&first, &other, &first, &other].into_iter().enumerate() {
            road.world.hosts[host].spec = Spec::Producer(config.clone());
            road.world.fault(Fault::Kill(host, MS));
            if turn % 2 == 1 {
                let core = road.core;
                road.world.fault(match seed % 2 {
                    0 => Fault::Kill(core, 40 * MS),
                    _ => Fault::PowerLoss(core, 40 * MS),
                });
            }
            // The last turns are long enough for the rest.
            let wait = if turn < 2 { 700 } else { 9_000 };
            let now_ms = road.world.now_ns() / MS;
            road.run_until_ms(now_ms + wait);
        }
        let journal = road.stored(road.core);
        let event = |symbols: &BTreeMap<u32, Symbol>, f: &Frame| {
            let symbol = symbols[&f.instrument.get()].to_string();
            let name = symbol.strip_prefix("two:").unwrap_or(&symbol).to_owned();
            (name, f.kind, f.ts_event.get(), f.body)
        };
        let events = |frames: &[Frame], number: u8| {
            let names = symbols(frames);
            let its = frames.iter().filter(|f| f.has_exchange() && f.exchange().get() == number);
            let mut events: Vec<_> = its.map(|f| event(&names, f)).collect();
            events.sort();
            events
        };
        let mut want = events(first.schedule.frames(), 0);
        want.extend(events(other.schedule.frames(), 0));
        want.sort();
        let got = events(&journal, 1);
        road.world.hold(got == want, "feeds-of-one-exchange-take-turns", || {
            format!("{} events, not {}", got.len(), want.len())
        });
    }
}

/// Whether the quotes of an instrument are stale: as core says it, and as a snapshot of the broker does.
fn are_stale(road: &mut Road, symbol: &str) -> [bool; 2] {
    let is_stale = |frames: &[pregao::wire::Frame]| {
        let quote = frames.iter().find(|frame| frame.kind == Kind::Quote as u8);
        quote.expect("a quote").has(Flags::STALE)
    };
    let by_core = is_stale(&road.world.ask(road.asker, Road::query(Op::Quote, symbol)).frames);
    // The patterns of a host live as long as the program.
    let pattern: &'static str = Box::leak(symbol.to_owned().into_boxed_str());
    let config = ClientConfig::good(vec![(pattern, 0)], 0);
    let late = road.world.add("late", address(1), Spec::Client(config));
    let now_ns = road.world.now_ns();
    road.world.run_until(now_ns + 300 * MS);
    [by_core, is_stale(&road.world.client(late).snapshot)]
}

pub(crate) fn one_sick_exchange_makes_only_its_own_quotes_stale() {
    for seed in 0..4 {
        // On half of them it is a producer.
        let is_produced = seed >= 2;
        let options = Options {
            has_second: true,
            is_produced,
            pace_ns: 20 * MS,
            events: 2_000,
            ..Options::new(seed)
        };
        let mut road = Road::new(&options);
        road.run_until_ms(4_000);
        let second = road.second.as_ref().unwrap().host;
        let of = |road: &mut Road| [are_stale(road, "VALE3"), are_stale(road, "two:AMZN")];
        let before = of(&mut road);
        let is_current = before == [[false; 2]; 2];
        road.world
            .hold(is_current, "quotes-of-a-well-exchange-are-current", || format!("{before:?}"));
        let fault = match seed % 2 {
            0 => Fault::Kill(second, 8_000 * MS),
            _ => Fault::Freeze(second, 8_000 * MS),
        };
        road.world.fault(fault.clone());
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 3_500);
        let during = of(&mut road);
        let is_right = during == [[false; 2], [true; 2]];
        road.world.hold(is_right, "one-sick-exchange-is-stale-alone", || {
            format!("{during:?} after {fault:?}")
        });
        let client = road.world.client(road.all);
        let told: Vec<u8> = client.stale_exchanges.iter().map(|it| it.get()).collect();
        road.world.hold(told == [1] && !client.is_stale, "a-sick-exchange-is-told", || {
            format!("{told:?}, all stale: {}", client.is_stale)
        });
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 12_000);
        let after = of(&mut road);
        let client = road.world.client(road.all);
        let is_back = after == [[false; 2]; 2] && client.stale_exchanges.is_empty();
        road.world.hold(is_back, "an-exchange-that-is-back-is-current", || {
            format!("{after:?}, {:?}", client.stale_exchanges)
        });
    }
}
