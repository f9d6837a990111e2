//! What the bytes of a recording say, from the reader of tapes to core's journal: the files are made here, and so is what has to
//! stand in the journal in the end. The reader runs outside of the simulated nodes, as it does in the program.

use std::io::Write;

use dbn::encode::EncodeRecord;
use dbn::encode::dbn::Encoder;
use dbn::{
    MappingInterval, Metadata, RecordHeader, SType, Schema, SymbolMapping, SymbolMappingMsg,
    TradeMsg, rtype,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use pregao::market::tape::{Align, Reading, Schedule, Tape};
use pregao::wire::{Frame, Trade};

use crate::exchanges::play;
use crate::road::{MS, Options, Road, symbols};

const SECOND: u64 = 1_000 * MS;
const DAY: u64 = 86_400 * SECOND;
/// 1 July 2024, 00:00 UTC.
const JULY: u64 = 1_719_792_000 * SECOND;

/// Names that an id has on some days.
fn mapping(id: u32, names: &[(&str, u64)]) -> Vec<SymbolMapping> {
    let day = |ns: u64| metadata(None, Vec::new(), ns).start().date();
    let named = |(name, from): &(&str, u64)| SymbolMapping {
        raw_symbol: (*name).to_owned(),
        intervals: vec![MappingInterval {
            start_date: day(*from),
            end_date: day(*from + DAY),
            symbol: id.to_string(),
        }],
    };
    names.iter().map(named).collect()
}

fn metadata(schema: Option<Schema>, mappings: Vec<SymbolMapping>, start: u64) -> Metadata {
    Metadata::builder()
        .dataset("TEST")
        .schema(schema)
        .start(start)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(mappings)
        .build()
}

/// A file that begins with these mappings. Without a schema it is a live capture.
fn file(schema: Option<Schema>, mappings: Vec<SymbolMapping>, records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, &metadata(schema, mappings, JULY)).unwrap();
    for record in records {
        match record {
            Record::Trade(trade) => encoder.encode_record(trade).unwrap(),
            Record::Name(name) => encoder.encode_record(name).unwrap(),
        }
    }
    bytes
}

enum Record {
    Trade(TradeMsg),
    Name(SymbolMappingMsg),
}

/// A trade: its price is its number. `publisher` and id, the venue's clock and the recording clock.
fn trade((publisher, id): (u16, u32), number: u32, ts_event: u64, ts_recv: u64) -> Record {
    let mut hd = RecordHeader::new::<TradeMsg>(rtype::MBP_0, publisher, id, ts_event);
    hd.ts_event = ts_event;
    Record::Trade(TradeMsg {
        hd,
        price: i64::from(number) * 1_000_000_000,
        size: 1,
        action: b'T'.cast_signed() as _,
        side: b'B'.cast_signed() as _,
        ts_recv,
        sequence: number,
        ..TradeMsg::default()
    })
}

/// From here on the id has this name.
fn name(id: u32, name: &str) -> Record {
    let (asked, given) = (SType::RawSymbol, SType::RawSymbol);
    let mapping = SymbolMappingMsg::new(id, JULY, asked, name, given, name, JULY, JULY + DAY);
    Record::Name(mapping.unwrap())
}

fn tape(bytes: &[u8]) -> Tape {
    Tape::read(bytes, &Reading::default()).unwrap()
}

/// Plays these tapes in a simulated exchange until all of it is journaled. The road, and the trades of the journal.
fn played(tapes: &[Tape]) -> (Road, Vec<Frame>) {
    let schedule = Schedule::new(tapes, Align::Clock).unwrap();
    let mut road = Road::new(&Options { pace_ns: MS, events: 10, ..Options::new(5) });
    let exchange = road.exchange;
    play(&mut road, exchange, schedule.clone());
    road.schedule = schedule;
    road.settle(0, 60_000);
    let journal = road.stored(road.core);
    (road, journal)
}

/// Symbol and price of each trade of the journal, in order.
fn trades(journal: &[Frame]) -> Vec<(String, u64)> {
    let names = symbols(journal);
    let trade = |it: &Trade| {
        let price = u64::try_from(it.price.get()).unwrap() / 1_000_000_000;
        (names[&it.instrument.get()].to_string(), price)
    };
    journal.iter().filter_map(Frame::view::<Trade>).map(trade).collect()
}

fn holds(road: &Road, journal: &[Frame], want: &[(&str, u64)], invariant: &str) {
    let got = trades(journal);
    let want: Vec<(String, u64)> = want.iter().map(|it| (it.0.to_owned(), it.1)).collect();
    road.world.hold(got == want, invariant, || format!("{got:?}, not {want:?}"));
}

/// A mapping record gives the name from there on; dates are of the vendor's clock; the publisher is a part of the identity.
pub(crate) fn names_are_those_of_the_file_at_that_time() {
    let at = |second: u64| JULY + second * SECOND;
    let by_record = [
        name(7, "ESU4"),
        trade((1, 7), 1, at(1), at(1)),
        name(7, "ESZ4"),
        trade((1, 7), 2, at(2), at(2)),
        // The same id and name at another venue is another instrument.
        trade((2, 7), 3, at(2), at(2)),
        trade((1, 7), 4, at(3), at(3)),
    ];
    let (road, journal) = played(&[tape(&file(None, Vec::new(), &by_record))]);
    let want = [("ESU4", 1), ("GLBX:ESZ4", 2), ("XNAS:ESZ4", 3), ("GLBX:ESZ4", 4)];
    holds(&road, &journal, &want, "a-name-is-that-of-the-file");
    // Recorded on the next day, an event of the day before midnight has the next day's name.
    let by_day = [
        trade((1, 9), 1, at(86_390), at(86_391)),
        trade((1, 9), 2, at(86_399), at(86_401)),
        trade((1, 9), 3, at(86_402), at(86_402)),
    ];
    let names = mapping(9, &[("OLD", JULY), ("NEW", JULY + DAY)]);
    let (road, journal) = played(&[tape(&file(Some(Schema::Trades), names, &by_day))]);
    let want = [("OLD", 1), ("NEW", 2), ("NEW", 3)];
    holds(&road, &journal, &want, "a-name-is-that-of-the-file");
}

/// Two downloads overlap: what both tell is there once.
pub(crate) fn a_print_that_two_files_tell_is_journaled_once() {
    let at = |number: u32| JULY + u64::from(number) * 200 * MS;
    let part = |from: u32, to: u32| {
        let of = |number| trade((1, 7), number, at(number), at(number));
        let names = mapping(7, &[("ESU4", JULY)]);
        tape(&file(Some(Schema::Trades), names, &(from..to).map(of).collect::<Vec<_>>()))
    };
    let (road, journal) = played(&[part(1, 12), part(8, 20)]);
    let want: Vec<(&str, u64)> = (1..20).map(|number| ("ESU4", number)).collect();
    holds(&road, &journal, &want, "one-print-is-one-print");
}

/// Two days in two files, the later one first, with event times that jump by hours: each day takes as long as it was recorded,
/// one comes behind the other, and the night is a second.
pub(crate) fn a_replay_takes_as_long_as_the_recording() {
    let day = |number: u32, jump: u64| {
        let of = |place: u32| {
            let ts_recv = JULY + u64::from(number) * DAY + u64::from(place) * 100 * MS;
            let ts_event = if place % 4 == 2 { ts_recv + jump } else { ts_recv };
            trade((1, 7), number * 100 + place, ts_event, ts_recv)
        };
        let records: Vec<Record> = (1..=30).map(of).collect();
        let names = mapping(7, &[("ESU4", JULY), ("ESU4", JULY + DAY)]);
        tape(&file(Some(Schema::Trades), names, &records))
    };
    let (road, journal) = played(&[day(1, 5 * 3_600 * SECOND), day(0, 3_600 * SECOND)]);
    let numbers = (1..=30).chain(101..=130);
    let want: Vec<(&str, u64)> = numbers.map(|number| ("ESU4", number)).collect();
    holds(&road, &journal, &want, "days-follow-each-other");
    let received: Vec<u64> =
        journal.iter().filter_map(Frame::view::<Trade>).map(|it| it.ts_recv.get() / MS).collect();
    let first = received[0];
    for (place, got) in received.iter().map(|at| at - first).enumerate() {
        let place = place as u64;
        // 100 ms from one to the next, and a second instead of the night.
        let due = if place < 30 { place * 100 } else { 2_900 + 1_000 + (place - 30) * 100 };
        road.world.hold(got.abs_diff(due) <= 150, "a-replay-follows-the-recording-clock", || {
            format!("trade {place} came after {got} ms, and was due after {due}")
        });
    }
}

/// Files that were packed one by one and joined are read to the end of the last one.
pub(crate) fn a_container_of_several_members_is_read_to_its_end() {
    let text = |from: u64, to: u64| {
        let of = |it: u64| format!("{},PETR4,{it},1\n", JULY + it * 50 * MS);
        (from..to).map(of).collect::<String>()
    };
    let mut bytes = Vec::new();
    for part in [format!("ts_event,symbol,price,qty\n{}", text(1, 10)), text(10, 20)] {
        let mut packed = GzEncoder::new(&mut bytes, Compression::fast());
        packed.write_all(part.as_bytes()).unwrap();
        packed.finish().unwrap();
    }
    let (road, journal) = played(&[tape(&bytes)]);
    let want: Vec<(&str, u64)> = (1..20).map(|number| ("PETR4", number)).collect();
    holds(&road, &journal, &want, "a-container-is-read-to-its-end");
}

/// An exchange whose tape has one of the system's own names: nothing of it is taken in, and what was there stays.
pub(crate) fn nobody_outside_defines_the_names_of_the_system() {
    use pregao::market::Price;
    use pregao::market::tape::{TapeBody, TapeEvent, Venue};
    for reserved in ["$sys.breaker", "$sys.mine"] {
        let mut made = Tape::default();
        for (place, name) in ["PETR4", reserved].into_iter().enumerate() {
            let instrument =
                made.instruments.insert(Venue::Unnamed, name.parse().unwrap(), 2).unwrap();
            let body = TapeBody::Trade { price: Price(5), qty: 1, trade_id: 1 };
            made.events.push(TapeEvent::new(JULY + place as u64 * MS, instrument, body));
        }
        let schedule = Schedule::new(&[made], Align::Clock).unwrap();
        let mut road = Road::new(&Options { pace_ns: MS, events: 10, ..Options::new(5) });
        let exchange = road.exchange;
        play(&mut road, exchange, schedule);
        road.run_until_ms(5_000);
        let journal = road.stored(road.core);
        let names = symbols(&journal);
        let wrong = journal.iter().find(|frame| {
            let name = names[&frame.instrument.get()];
            let is_defined = !frame.has_exchange() && name.as_str() == "$sys.mine";
            name.is_reserved() && (frame.has_exchange() || is_defined)
        });
        road.world.hold(wrong.is_none(), "names-of-the-system-are-the-systems", || {
            format!("{reserved}: {wrong:?}")
        });
        let log = &road.world.hosts[road.core].log;
        let refused = log.iter().any(|line| line.contains("begin with $"));
        road.world.hold(refused, "a-refused-name-is-told", || road.world.describe());
    }
}
