//! Thousands of instruments: what is gathered for one subscriber at once takes more than one piece.

use std::collections::BTreeMap;

use pregao::limits;
use pregao::log::Retention;
use pregao::market::Price;
use pregao::market::tape::{Align, Schedule, Tape, TapeBody, TapeEvent, Venue};
use pregao::wire::{Flags, Frame, Kind, Mode};

use crate::client::ClientConfig;
use crate::hosts::Spec;
use crate::road::{MS, Options, Removal, Road, address, plain, symbols};

/// Instruments of the tape. Their definitions and last values in one batch are five pieces.
const INSTRUMENTS: u32 = 2 * limits::FILL_FRAMES_MAX as u32 + 500;
/// Quotes of each.
const QUOTES: u32 = 2;
/// Longer than the whole tape takes, so that one batch has nearly all of it.
const CONFLATE_MS: u32 = 1_500;

/// A tape with some quotes of each of so many instruments, one instrument behind the other.
pub(crate) fn schedule(instruments: u32) -> Schedule {
    let mut tape = Tape::default();
    let symbols = (0..instruments).map(|number| format!("M{number:05}").parse().unwrap());
    let indexes: Vec<_> =
        symbols.map(|symbol| tape.instruments.insert(Venue::Unnamed, symbol, 2).unwrap()).collect();
    for round in 1..=QUOTES {
        for (number, &instrument) in (1..).zip(&indexes) {
            let bid = Price(i64::from(round) * 1_000_000_000);
            let (bid_qty, ask_qty) = (number.into(), round.into());
            let body = TapeBody::Quote { bid, ask: Price(bid.0 + 1), bid_qty, ask_qty };
            let place = u64::from(round * instruments + number);
            let ts_event = 1_600_000_000 * 1_000_000_000 + place * 1_000;
            tape.events.push(TapeEvent::new(ts_event, instrument, body));
        }
    }
    Schedule::new(&[tape], Align::Clock).unwrap()
}

/// A road whose tape has so many instruments, and whose logs have room for all of it in a few segments.
pub(crate) fn options(instruments: u32, further_reactors: usize) -> Options {
    let removal = Some(Removal { segment_records: 1 << 14, retention: Retention::default() });
    Options {
        instruments,
        further_reactors,
        ring_frames: 1 << 14,
        core_removes: removal,
        shards_remove: [removal; 3],
        ..Options::new(u64::from(instruments))
    }
}

/// Whoever conflates gets the last value of every instrument, at whichever reactor, however many pieces the
/// batch takes.
pub(crate) fn a_conflated_batch_of_thousands_is_whole() {
    for further_reactors in [0, 2] {
        let mut road = Road::new(&options(INSTRUMENTS, further_reactors));
        let clients: Vec<usize> = (0..4)
            .map(|number| {
                let mode = if number == 3 { Mode::Latest } else { Mode::Conflate };
                let config = ClientConfig {
                    mode,
                    conflate_ms: CONFLATE_MS,
                    ..ClientConfig::good(vec![("*", 0)], 0)
                };
                road.world.add("conflating", address(1), Spec::Client(config))
            })
            .collect();
        road.settle(0, 10_000);
        let now_ns = road.world.now_ns();
        road.world.run_until(now_ns + 2 * u64::from(CONFLATE_MS) * MS);
        let journal = road.stored(road.core);
        let names = symbols(&journal);
        let is_quote = |f: &&Frame| f.kind == Kind::Quote as u8;
        let last: BTreeMap<u32, Frame> =
            journal.iter().filter(is_quote).map(|f| (f.instrument.get(), *f)).collect();
        assert_eq!(last.len(), INSTRUMENTS as usize, "the tape is in the journal");
        for host in clients {
            let client = road.world.client(host);
            let got = client.snapshot.iter().chain(&client.frames).filter(is_quote).map(plain);
            let got: BTreeMap<u32, Frame> = got.map(|f| (f.instrument.get(), f)).collect();
            let lacks = last.iter().filter(|(number, frame)| got.get(number) != Some(frame));
            let lacks: Vec<&str> = lacks.map(|(number, _)| names[number].as_str()).collect();
            road.world.hold(lacks.is_empty(), "the-last-value-arrives", || {
                let (first, last) = (lacks[0], lacks[lacks.len() - 1]);
                format!("{} of {first} to {last} are not there", lacks.len())
            });
            let live = client.frames.iter().filter(is_quote);
            let is_batch = live.clone().count() > 2 * limits::FILL_FRAMES_MAX;
            assert!(is_batch && live.clone().all(|f| !f.has(Flags::SNAPSHOT)), "it was no batch");
        }
        assert_eq!(road.world.counts.handed_over > 0, further_reactors > 0);
    }
}
