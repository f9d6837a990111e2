//! The DBN reader against real tapes, hand-made ones and damaged ones.

use std::collections::BTreeSet;

use ::dbn::decode::DynReader;
use ::dbn::encode::EncodeRecord;
use ::dbn::encode::dbn::Encoder;
use ::dbn::{
    BidAskPair, Compression, MappingInterval, Mbp1Msg, RecordHeader, SType, SymbolMapping, TradeMsg,
};
use proptest::prelude::*;

mod schemas;

use super::super::{Align, Schedule};
use super::names::DAY_NS;
use super::*;
use crate::wire::{Definition, Quote, Trade};

const AMZN: &[u8] = include_bytes!("../../../../tests/data/amzn-2012-06-21.mbp-1.dbn.zst");
const ESU4: &[u8] = include_bytes!("../../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst");

/// 1 July 2024, 12:00 UTC.
const NOON: u64 = 1_719_835_200_000_000_000;

fn metadata(version: u8, schema: Option<Schema>, mappings: Vec<SymbolMapping>) -> Metadata {
    Metadata::builder()
        .version(version)
        .dataset("TEST")
        .schema(schema)
        .start(NOON)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(mappings)
        .build()
}

/// The instrument has this symbol from one time's day up to before the other's.
fn mapping(symbol: &str, id: u32, from_ns: u64, until_ns: u64) -> SymbolMapping {
    let day = |ns| Metadata { start: ns, ..metadata(3, None, vec![]) }.start().date();
    let (start_date, end_date) = (day(from_ns), day(until_ns));
    let interval = MappingInterval { start_date, end_date, symbol: id.to_string() };
    SymbolMapping { raw_symbol: symbol.to_owned(), intervals: vec![interval] }
}

fn book(action: u8, side: u8, price: i64, bid: i64, ask: i64) -> Mbp1Msg {
    Mbp1Msg {
        hd: RecordHeader::new::<Mbp1Msg>(rtype::MBP_1, 1, 7, NOON),
        action: action.cast_signed() as _,
        side: side.cast_signed() as _,
        price,
        size: 3,
        levels: [BidAskPair {
            bid_px: bid,
            ask_px: ask,
            bid_sz: 1,
            ask_sz: 2,
            ..Default::default()
        }],
        ..Mbp1Msg::default()
    }
}

fn encoded(metadata: &Metadata, records: &[Mbp1Msg]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, metadata).unwrap();
    for record in records {
        encoder.encode_record(record).unwrap();
    }
    bytes
}

fn small() -> Vec<u8> {
    let records = [
        book(b'A', b'B', 10, 10, PRICE_UNDEFINED),
        book(b'T', b'B', 12, 10, 12),
        book(b'T', b'A', 10, 10, 12),
        book(b'C', b'A', 12, 10, 13),
    ];
    let names = vec![mapping("ESU4", 7, NOON, NOON + DAY_NS)];
    encoded(&metadata(3, Some(Schema::Mbp1), names), &records)
}

fn plain(compressed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynReader::with_buffer(compressed, Compression::Zstd).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn tape_of(bytes: &[u8]) -> Result<Tape, TapeError> {
    Tape::read(bytes, &Reading::default())
}

/// Kind letters with prices and flags, as `T12+` (buy aggressor) or `Q10/12`.
fn told(tape: &Tape) -> Vec<String> {
    let line = |event: &TapeEvent| match event.body {
        TapeBody::Halt { is_halted } => format!("H{is_halted}"),
        TapeBody::Trade { price, .. } => {
            let buy = if event.flags & Flags::BUY != 0 { "+" } else { "" };
            let sell = if event.flags & Flags::SELL != 0 { "-" } else { "" };
            format!("T{}{buy}{sell}", price.0)
        }
        TapeBody::Quote { bid, ask, .. } if !ask.is_defined() => format!("Q{}/none", bid.0),
        TapeBody::Quote { bid, ask, .. } => format!("Q{}/{}", bid.0, ask.0),
        TapeBody::Cancel { .. } => "C".to_owned(),
    };
    tape.events.iter().map(line).collect()
}

#[test]
fn the_whole_session_of_amzn_adds_up() {
    let tape = tape_of(AMZN).unwrap();
    assert_eq!(tape.records, 57_515);
    let schedule = Schedule::new(&[tape], Align::Clock).unwrap();
    let definition = schedule.frames()[0].view::<Definition>().unwrap();
    // Trades at the midpoint of an odd spread need the third decimal.
    assert_eq!((definition.symbol.as_str(), definition.decimals().price), ("AMZN", 2));
    let trades: Vec<&Trade> =
        schedule.frames().iter().filter_map(|frame| frame.view::<Trade>()).collect();
    assert_eq!(trades.len(), 11_419);
    assert_eq!(trades.iter().map(|trade| trade.qty.get()).sum::<u64>(), 810_755);
    let notional: i128 = trades
        .iter()
        .map(|trade| i128::from(trade.price.get()) * i128::from(trade.qty.get()))
        .sum();
    assert_eq!(notional, 180_502_248_915_000_000);
    let minutes: BTreeSet<u64> =
        trades.iter().map(|trade| trade.ts_event.get() / 60_000_000_000).collect();
    assert_eq!(minutes.len(), 387);
    let prices: Vec<Price> = trades.iter().map(|trade| Price(trade.price.get())).collect();
    let shown = |price: Option<&Price>| price.unwrap().with_decimals(2).to_string();
    assert_eq!(shown(prices.first()), "223.82");
    assert_eq!(shown(prices.last()), "220.51");
    assert_eq!(shown(prices.iter().max()), "226.03");
    assert_eq!(shown(prices.iter().min()), "220.51");
    // No quote repeats the one before it.
    let quotes: Vec<_> = schedule
        .frames()
        .iter()
        .filter_map(|frame| frame.view::<Quote>())
        .map(|quote| (quote.bid, quote.ask, quote.bid_qty, quote.ask_qty))
        .collect();
    assert!(quotes.len() > 10_000);
    assert!(quotes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn the_published_sample_of_es_is_read() {
    let tape = tape_of(ESU4).unwrap();
    assert_eq!(tape.records, 2_288);
    let trades = tape.events.iter().filter(|e| matches!(e.body, TapeBody::Trade { .. }));
    assert_eq!(trades.clone().count(), 120);
    assert_eq!(tape.instruments.rows()[0].symbol.as_str(), "ESU4");
    assert!(trades.clone().any(|e| e.flags & Flags::BUY != 0));
    assert!(trades.clone().any(|e| e.flags & Flags::SELL != 0));
    assert!(trades.clone().all(|e| e.flags & Flags::BUY == 0 || e.flags & Flags::SELL == 0));
}

#[test]
fn two_readings_of_the_same_tapes_are_one_feed() {
    let identity = || {
        let tapes = [tape_of(ESU4).unwrap(), tape_of(&small()[..]).unwrap()];
        Schedule::new(&tapes, Align::Start).unwrap().identity()
    };
    assert_eq!(identity(), identity());
}

#[test]
fn a_quote_follows_only_when_the_top_changed() {
    let tape = tape_of(&small()[..]).unwrap();
    assert_eq!(told(&tape), ["Q10/none", "T12+", "Q10/12", "T10-", "Q10/13"]);
    assert_eq!(tape.records, 4);
}

#[test]
fn tbbo_shows_the_book_before_its_trade() {
    let records = [book(b'T', b'N', 12, 10, 12), book(b'T', b'N', 11, 10, 12)];
    let bytes = encoded(&metadata(3, Some(Schema::Tbbo), vec![]), &records);
    assert_eq!(told(&tape_of(&bytes[..]).unwrap()), ["Q10/12", "T12", "T11"]);
}

#[test]
fn the_schema_trades_has_no_book() {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, &metadata(3, Some(Schema::Trades), vec![])).unwrap();
    let trade = TradeMsg {
        hd: RecordHeader::new::<TradeMsg>(rtype::MBP_0, 1, 7, NOON),
        action: b'T'.cast_signed() as _,
        side: b'B'.cast_signed() as _,
        price: 5,
        ..TradeMsg::default()
    };
    encoder.encode_record(&trade).unwrap();
    assert_eq!(told(&tape_of(&bytes[..]).unwrap()), ["T5+"]);
}

#[test]
fn all_three_versions_give_the_same_events() {
    let records = [book(b'T', b'B', 12, 10, 12)];
    for version in 1..=3 {
        let names = vec![mapping("ESU4", 7, NOON, NOON + DAY_NS)];
        let bytes = encoded(&metadata(version, Some(Schema::Mbp1), names), &records);
        assert_eq!(bytes[3], version);
        let tape = tape_of(&bytes[..]).unwrap();
        assert_eq!(told(&tape), ["T12+", "Q10/12"]);
        assert_eq!(tape.instruments.rows()[0].symbol.as_str(), "ESU4");
    }
    let mut next = small();
    next[3] = 4;
    assert!(matches!(tape_of(&next[..]), Err(TapeError::Metadata(_))));
}

#[test]
fn a_symbol_holds_for_its_days_and_the_id_stands_in_outside_them() {
    let mut records = [0, 1, 2, 3].map(|_| book(b'T', b'B', 1, 1, 2));
    for (day, record) in (0..).zip(&mut records) {
        record.hd.ts_event = NOON + day * DAY_NS;
    }
    let names = vec![
        mapping("OLD", 7, NOON, NOON + DAY_NS),
        mapping("NEW", 7, NOON + DAY_NS, NOON + 2 * DAY_NS),
        mapping("far too long for a symbol in a frame", 7, NOON + 2 * DAY_NS, NOON + 3 * DAY_NS),
    ];
    let bytes = encoded(&metadata(3, Some(Schema::Mbp1), names), &records);
    let tape = tape_of(&bytes[..]).unwrap();
    let symbols: Vec<&str> =
        tape.instruments.rows().iter().map(|row| row.symbol.as_str()).collect();
    assert_eq!(symbols, ["OLD", "NEW", "far_too_long_fo~75a8f8ab", "7"]);
}

#[test]
fn the_end_of_an_exchange_event_is_marked_even_if_its_record_says_nothing() {
    let mut records = [book(b'T', b'B', 12, 10, 12), book(b'A', b'B', 9, 10, 12)];
    records[1].flags.set_last();
    let bytes = encoded(&metadata(3, Some(Schema::Mbp1), vec![]), &records);
    let tape = tape_of(&bytes[..]).unwrap();
    let last: Vec<bool> = tape.events.iter().map(|e| e.flags & Flags::LAST != 0).collect();
    assert_eq!(last, [false, true]);
}

#[test]
fn records_that_cannot_be_right_are_named() {
    let said = |record: Mbp1Msg| {
        let records = [book(b'A', b'B', 1, 1, 2), record];
        let bytes = encoded(&metadata(3, Some(Schema::Mbp1), vec![]), &records);
        tape_of(&bytes[..]).unwrap_err().to_string()
    };
    let no_price = book(b'T', b'B', PRICE_UNDEFINED, 1, 2);
    assert_eq!(said(no_price), "bad DBN record 2: a trade has no price");
    let mut no_time = book(b'A', b'B', 1, 1, 2);
    no_time.hd.ts_event = UNDEF_TIMESTAMP;
    assert_eq!(said(no_time), "bad DBN record 2: it has no time");
    let mut other = book(b'A', b'B', 1, 1, 2);
    other.hd.rtype = rtype::MBO;
    assert!(said(other).starts_with("bad DBN record 2: record type 0xa0"));

    let bytes = encoded(&metadata(3, Some(Schema::Mbo), vec![]), &[]);
    let said = tape_of(&bytes[..]).unwrap_err().to_string();
    assert!(said.starts_with("DBN schema mbo is not replayed: it has single orders"), "{said}");
}

#[test]
fn an_odd_record_length_is_refused_before_it_misplaces_the_next_record() {
    let bytes = small();
    let first = bytes.len() - 4 * size_of::<Mbp1Msg>();
    for words in [0, 1, 3, 5, 19, 21, 255] {
        let mut bad = bytes.clone();
        bad[first] = words;
        let error = tape_of(&bad[..]).unwrap_err();
        let is_named = matches!(
            error,
            TapeError::Record { record: 1, .. } | TapeError::Truncated { record: 1 }
        );
        assert!(is_named, "{words}: {error}");
    }
}

#[test]
fn an_end_inside_a_record_names_it() {
    let bytes = small();
    let size = size_of::<Mbp1Msg>();
    let records = bytes.len() - 4 * size;
    for end in 0..bytes.len() {
        let read = tape_of(&bytes[..end]);
        match (end.checked_sub(records), read) {
            (Some(beyond), Ok(tape)) => {
                assert_eq!((beyond % size, tape.records), (0, (beyond / size) as u64));
            }
            (Some(beyond), Err(TapeError::Truncated { record })) => {
                assert_ne!(beyond % size, 0);
                assert_eq!(record, (beyond / size) as u64 + 1);
            }
            (None, Err(TapeError::Truncated { record: 0 } | TapeError::Unknown(_))) => {}
            (_, other) => panic!("cut at {end}: {other:?}"),
        }
    }
}

#[test]
fn a_cut_compressed_tape_is_never_taken_for_a_whole_one() {
    for end in (0..ESU4.len()).step_by(97) {
        assert!(tape_of(&ESU4[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn huge_counts_in_the_metadata_allocate_nothing() {
    let bytes = small();
    // Every aligned word of the metadata in turn, its own length included.
    let records = bytes.len() - 4 * size_of::<Mbp1Msg>();
    for place in (4..records).step_by(4) {
        let mut bad = bytes.clone();
        bad[place..place + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let _ = tape_of(&bad[..]);
    }
    let mut long = bytes.clone();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(tape_of(&long[..]), Err(TapeError::Metadata(_))));
}

#[test]
fn no_single_bit_of_a_small_tape_makes_the_reader_panic() {
    let bytes = small();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(tape) = tape_of(&bad[..])
            && let Ok(schedule) = Schedule::new(&[tape], Align::Clock)
        {
            let last = schedule.frames().len() as u64;
            assert!(schedule.frame_at(last * 3, true).unwrap().0.check().is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_tapes_do_not_panic(
        bits in proptest::collection::vec(any::<proptest::sample::Index>(), 1..8),
        compressed in any::<bool>(),
    ) {
        let mut bytes = if compressed { ESU4.to_vec() } else { plain(ESU4) };
        for bit in bits {
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let _ = tape_of(&bytes[..]);
    }
}
