//! The schemas besides mbp-1, tbbo and trades, and definitions in a live capture.

use ::dbn::encode::DbnEncodable;
use ::dbn::{
    BboMsg, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, HasRType, InstrumentDefMsg, MboMsg,
    Mbp10Msg, StatusAction, StatusMsg, v1, v2,
};

use super::*;
use crate::wire::Frame;

const ID: u32 = 7;

fn header<M: HasRType>(rtype: u8, second: u64) -> RecordHeader {
    let mut header = RecordHeader::new::<M>(rtype, 1, ID, NOON + second * 1_000_000_000);
    header.instrument_id = ID;
    header
}

fn file<M: DbnEncodable>(version: u8, schema: Option<Schema>, records: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, &metadata(version, schema, vec![])).unwrap();
    records.iter().for_each(|record| encoder.encode_record(record).unwrap());
    bytes
}

fn pair(bid: i64, ask: i64) -> BidAskPair {
    BidAskPair { bid_px: bid, ask_px: ask, bid_sz: 4, ask_sz: 5, ..BidAskPair::default() }
}

fn consolidated(bid: i64, ask: i64) -> ConsolidatedBidAskPair {
    let levels = ConsolidatedBidAskPair::default();
    ConsolidatedBidAskPair { bid_px: bid, ask_px: ask, bid_sz: 4, ask_sz: 5, ..levels }
}

#[test]
fn of_ten_levels_the_first_is_the_quote() {
    let record = |second, action: u8, first: BidAskPair, second_level| {
        let mut levels: [BidAskPair; 10] = Default::default();
        (levels[0], levels[1]) = (first, second_level);
        Mbp10Msg {
            hd: header::<Mbp10Msg>(rtype::MBP_10, second),
            action: action.cast_signed() as _,
            side: b'B'.cast_signed() as _,
            price: 12,
            size: 3,
            ts_recv: NOON + second * 1_000_000_000,
            levels,
            ..Mbp10Msg::default()
        }
    };
    let records = [
        record(0, b'A', pair(10, 12), pair(9, 13)),
        // Only a lower level changes: nobody is told.
        record(1, b'A', pair(10, 12), pair(8, 13)),
        record(2, b'T', pair(10, 13), pair(8, 14)),
    ];
    for version in 1..=3 {
        let tape = tape_of(&file(version, Some(Schema::Mbp10), &records)[..]).unwrap();
        assert_eq!(told(&tape), ["Q10/12", "T12+", "Q10/13"]);
    }
}

#[test]
fn a_subsampled_book_has_quotes_and_its_last_trade_is_no_print() {
    for (schema, rtype) in [(Schema::Bbo1S, rtype::BBO_1S), (Schema::Bbo1M, rtype::BBO_1M)] {
        let record = |second, bid| BboMsg {
            hd: header::<BboMsg>(rtype, second),
            price: 11,
            size: 9,
            side: b'A'.cast_signed() as _,
            ts_recv: NOON + second * 1_000_000_000,
            levels: [pair(bid, 12)],
            ..BboMsg::default_for_schema(schema)
        };
        let records = [record(1, 10), record(2, 10), record(3, 9)];
        let tape = tape_of(&file(3, Some(schema), &records)[..]).unwrap();
        assert_eq!(told(&tape), ["Q10/12", "Q9/12"], "{schema}");
        assert_eq!(tape.events[1].ts_recv, NOON + 3_000_000_000);
    }
    for (schema, rtype) in [(Schema::Cbbo1S, rtype::CBBO_1S), (Schema::Cbbo1M, rtype::CBBO_1M)] {
        let record = |second, ask| CbboMsg {
            hd: header::<CbboMsg>(rtype, second),
            price: 11,
            size: 9,
            ts_recv: NOON + second * 1_000_000_000,
            levels: [consolidated(10, ask)],
            ..CbboMsg::default_for_schema(schema)
        };
        let tape = tape_of(&file(3, Some(schema), &[record(1, 12), record(2, 13)])[..]).unwrap();
        assert_eq!(told(&tape), ["Q10/12", "Q10/13"], "{schema}");
    }
}

#[test]
fn a_consolidated_book_is_told_as_any_other_and_tcbbo_ahead_of_its_trade() {
    let record = |rtype, second, action: u8, ask| Cmbp1Msg {
        hd: header::<Cmbp1Msg>(rtype, second),
        action: action.cast_signed() as _,
        side: b'A'.cast_signed() as _,
        price: 11,
        size: 3,
        ts_recv: NOON + second * 1_000_000_000,
        levels: [consolidated(10, ask)],
        ..Cmbp1Msg::default_for_schema(Schema::Cmbp1)
    };
    let records = [record(rtype::CMBP_1, 0, b'A', 12), record(rtype::CMBP_1, 1, b'T', 13)];
    let tape = tape_of(&file(3, Some(Schema::Cmbp1), &records)[..]).unwrap();
    assert_eq!(told(&tape), ["Q10/12", "T11-", "Q10/13"]);
    let records = [record(rtype::TCBBO, 0, b'T', 12), record(rtype::TCBBO, 1, b'T', 13)];
    let tape = tape_of(&file(3, Some(Schema::Tcbbo), &records)[..]).unwrap();
    assert_eq!(told(&tape), ["Q10/12", "T11-", "Q10/13", "T11-"]);
}

#[test]
fn a_definition_names_an_instrument_and_its_step_says_the_decimals() {
    fn capture<D: DbnEncodable>(version: u8, definition: &D) -> Tape {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, &metadata(version, None, vec![])).unwrap();
        encoder.encode_record(definition).unwrap();
        let mut trade = book(b'T', b'B', 4_525_000_000, 4_500_000_000, 4_550_000_000);
        trade.hd.instrument_id = ID;
        encoder.encode_record(&trade).unwrap();
        tape_of(&bytes[..]).unwrap()
    }
    fn symbol<const N: usize>(text: &str) -> [std::ffi::c_char; N] {
        let mut symbol = [0; N];
        let letters = text.bytes().map(|letter| letter.cast_signed() as std::ffi::c_char);
        symbol.iter_mut().zip(letters).for_each(|(place, letter)| *place = letter);
        symbol
    }
    let step = 25_000; // 0.000025
    let tapes = [
        capture(
            1,
            &v1::InstrumentDefMsg {
                hd: header::<v1::InstrumentDefMsg>(rtype::INSTRUMENT_DEF, 0),
                raw_symbol: symbol("ESU4"),
                min_price_increment: step,
                ..v1::InstrumentDefMsg::default()
            },
        ),
        capture(
            2,
            &v2::InstrumentDefMsg {
                hd: header::<v2::InstrumentDefMsg>(rtype::INSTRUMENT_DEF, 0),
                raw_symbol: symbol("ESU4"),
                min_price_increment: step,
                ..v2::InstrumentDefMsg::default()
            },
        ),
        capture(
            3,
            &InstrumentDefMsg {
                hd: header::<InstrumentDefMsg>(rtype::INSTRUMENT_DEF, 0),
                raw_symbol: symbol("ESU4"),
                min_price_increment: step,
                ..InstrumentDefMsg::default()
            },
        ),
    ];
    for tape in tapes {
        let row = tape.instruments.rows()[0];
        assert_eq!((row.symbol.as_str(), row.decimals), ("ESU4", 6));
        assert_eq!(told(&tape).len(), 2);
        assert!(tape.skipped.is_empty(), "{:?}", tape.skipped);
    }
}

/// A record of an instrument's status.
fn status(second: u64, action: StatusAction) -> StatusMsg {
    StatusMsg {
        hd: header::<StatusMsg>(rtype::STATUS, second),
        ts_recv: NOON + second * 1_000_000_000,
        action: action as u16,
        ..StatusMsg::default()
    }
}

/// Prices of quotes and whether they say that trading is halted; of a trade nothing.
fn quotes(schedule: &Schedule) -> Vec<(i64, bool)> {
    let quotes = schedule.frames().iter().filter_map(Frame::view::<Quote>);
    quotes.map(|it| (it.bid.get(), it.flags.get() & Flags::HALTED != 0)).collect()
}

#[test]
fn a_halt_is_told_by_the_quotes_until_trading_goes_on() {
    let at = |second: u64, bid| {
        let mut record = book(b'A', b'B', 1, bid, 12);
        record.hd.instrument_id = ID;
        record.hd.ts_event = NOON + second * 1_000_000_000;
        record.ts_recv = record.hd.ts_event;
        record
    };
    let mut capture = Vec::new();
    let mut encoder = Encoder::new(&mut capture, &metadata(3, None, vec![])).unwrap();
    encoder.encode_record(&at(1, 10)).unwrap();
    for (second, action) in [
        (2, StatusAction::Trading),
        (3, StatusAction::Halt),
        (4, StatusAction::Halt),
        (5, StatusAction::Quoting),
    ] {
        encoder.encode_record(&status(second, action)).unwrap();
    }
    encoder.encode_record(&at(6, 9)).unwrap();
    encoder.encode_record(&status(7, StatusAction::Trading)).unwrap();
    encoder.encode_record(&at(8, 8)).unwrap();
    let want = [(10, false), (10, true), (9, true), (9, false), (8, false)];
    let schedule = Schedule::new(&[tape_of(&capture[..]).unwrap()], Align::Clock).unwrap();
    assert_eq!(quotes(&schedule), want);
    assert!(schedule.frames().iter().all(|frame| frame.check().is_ok()));
    // The same of two files that are replayed together.
    let names = || vec![mapping("ESU4", ID, NOON, NOON + DAY_NS)];
    let books =
        encoded(&metadata(3, Some(Schema::Mbp1), names()), &[at(1, 10), at(6, 9), at(8, 8)]);
    let mut statuses = Vec::new();
    let of_status = metadata(3, Some(Schema::Status), names());
    let mut encoder = Encoder::new(&mut statuses, &of_status).unwrap();
    for (second, action) in [(3, StatusAction::Pause), (7, StatusAction::Trading)] {
        encoder.encode_record(&status(second, action)).unwrap();
    }
    let tapes = [books, statuses].map(|bytes| tape_of(&bytes[..]).unwrap());
    assert_eq!(quotes(&Schedule::new(&tapes, Align::Clock).unwrap()), want);
    // What trades all the time is told nothing of, and alone it is no tape.
    let mut trading = Vec::new();
    let mut encoder = Encoder::new(&mut trading, &of_status).unwrap();
    encoder.encode_record(&status(3, StatusAction::Trading)).unwrap();
    let trading = Schedule::new(&[tape_of(&trading[..]).unwrap()], Align::Clock);
    assert_eq!(trading.unwrap_err(), super::super::super::ScheduleError::Empty);
    // An instrument that has no quote is halted too.
    let alone = Schedule::new(&tapes[1..], Align::Clock).unwrap();
    assert_eq!(quotes(&alone), [(PRICE_UNDEFINED, true), (PRICE_UNDEFINED, false)]);
}

#[test]
fn a_schema_that_is_not_replayed_is_refused_with_the_reason() {
    for (schema, reason) in [
        (Schema::Mbo, "single orders"),
        (Schema::Ohlcv1M, "bars are made already"),
        (Schema::Definition, "describes instruments"),
        (Schema::Statistics, "neither trades nor quotes"),
    ] {
        let said = tape_of(&file::<MboMsg>(3, Some(schema), &[])[..]).unwrap_err().to_string();
        assert!(said.contains(reason) && said.contains(schema.as_str()), "{said}");
    }
}
