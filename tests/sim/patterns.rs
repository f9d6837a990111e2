//! Thousands of patterns meet thousands of instruments: subscribers with the longest lists that there may be,
//! some of which are there before the instruments and some of which come later.

use std::collections::{BTreeMap, BTreeSet};

use pregao::feed::Pattern;
use pregao::limits;
use pregao::wire::{Frame, Kind, Mode};

use crate::client::ClientConfig;
use crate::hosts::Spec;
use crate::many::options;
use crate::road::{Road, address, names, plain};

/// Instruments of the tape, `M00000` and so on.
const INSTRUMENTS: u32 = 2_000;
/// Subscribers that are there first, and as many that come later.
const SUBSCRIBERS: u32 = 5;

/// The longest list: symbols, some of which exist; prefixes within prefixes; and neighbours of both, which match
/// nothing and stand in between in any order.
fn patterns(number: u32) -> Vec<(&'static str, u16)> {
    let mut texts = Vec::new();
    for place in 0..100 {
        let instrument = (place * 37 + number * 11) % INSTRUMENTS;
        texts.push(format!("M{:04}*", instrument / 10));
        texts.push(format!("M{instrument:05}*"));
        // Right behind the last of the ten, and before the first of the next ten.
        texts.push(format!("M{:04}9Z*", instrument / 10));
        texts.push(format!("M{instrument:05}X"));
    }
    texts.push(format!("M00{number}*"));
    texts.push("M*Z".replace('*', "0"));
    let missing = limits::PATTERNS_MAX - texts.len();
    let symbols = (0..).step_by(3).map(|it| format!("M{:05}", it + number % 3));
    texts.extend(symbols.take(missing));
    texts.into_iter().map(|text| (&*Box::leak(text.into_boxed_str()), 0)).collect()
}

/// Whoever has the longest list gets what it wants and nothing else, whether the list or the instrument was there
/// first, and at whichever reactor. No turn looks more up than its part, which the days hold it to.
pub(crate) fn thousands_of_patterns_meet_thousands_of_instruments() {
    for further_reactors in [0, 1] {
        let mut road = Road::new(&options(INSTRUMENTS, further_reactors));
        let add = |road: &mut Road, number: u32| {
            let mode = if number.is_multiple_of(2) { Mode::Lossless } else { Mode::Conflate };
            // Lists that repeat are shared, and lists of their own.
            let list = patterns(number / 2);
            let config = ClientConfig { mode, conflate_ms: 20, ..ClientConfig::good(list, 0) };
            road.world.add("list", address(1), Spec::Client(config))
        };
        let mut clients: Vec<usize> = (0..SUBSCRIBERS).map(|it| add(&mut road, it)).collect();
        road.settle(0, 10_000);
        clients.extend((SUBSCRIBERS..2 * SUBSCRIBERS).map(|it| add(&mut road, it)));
        let now_ns = road.world.now_ns();
        road.world.run_until(now_ns + 3_000_000_000);
        check(&mut road, &clients);
        assert!(road.world.counts.full_looks > 0, "no turn was full: nothing was cut");
    }
}

fn check(road: &mut Road, clients: &[usize]) {
    let journal = road.stored(road.core);
    let names = names(&journal);
    let is_quote = |f: &&Frame| f.kind == Kind::Quote as u8;
    let last: BTreeMap<u32, Frame> =
        journal.iter().filter(is_quote).map(|f| (f.instrument.get(), *f)).collect();
    assert_eq!(last.len(), INSTRUMENTS as usize, "the tape is in the journal");
    for &host in clients {
        let client = road.world.client(host);
        let lists: Vec<Pattern> =
            client.config.patterns.iter().map(|(text, _)| Pattern::new(text, 0).unwrap()).collect();
        let is_wanted = |number: &u32| lists.iter().any(|list| list.means(&names[number]));
        let wanted: BTreeSet<u32> = names.keys().copied().filter(is_wanted).collect();
        let all: Vec<&Frame> = client.snapshot.iter().chain(&client.frames).collect();
        let got = all.iter().copied().filter(is_quote).map(plain);
        let got: BTreeMap<u32, Frame> = got.map(|f| (f.instrument.get(), f)).collect();
        let lacks: Vec<u32> =
            wanted.iter().copied().filter(|it| got.get(it) != last.get(it)).collect();
        let others = got.keys().filter(|number| !wanted.contains(number)).count();
        let mode = client.config.mode;
        road.world.hold(lacks.is_empty(), "the-last-value-arrives", || {
            let (first, last) =
                (names[&lacks[0]].symbol(), names[&lacks[lacks.len() - 1]].symbol());
            format!("{mode:?}: {} of {}, {first} to {last}", lacks.len(), wanted.len())
        });
        road.world.hold(others == 0, "nobody-gets-what-others-want", || {
            format!("{mode:?}: quotes of {others} instruments that match no pattern")
        });
    }
}
