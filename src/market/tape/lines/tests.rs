use std::io::Write;

use flate2::write::GzEncoder;

use super::super::{Align, Schedule, TapeSelection};
use super::*;
use crate::market::lines::LineOptions;
use crate::market::price::Price;

const LINES: &str = "trades,symbol=BTC price=39269.98,amount=0.5 1000000000\n\
                     quotes,symbol=BTC bid=39269.98,ask=39270.001,bid_size=2,ask_size=0.00012345 2000000000\n\
                     trades,symbol=PETR4,side=buy price=41.2,qty=300,id=7 3000000000\n\
                     cancels,symbol=PETR4,side=buy price=41.2,qty=300,id=7 4000000000\n";

fn read_as(text: &str, reading: &Reading) -> Result<Tape, TapeError> {
    Tape::read(text.as_bytes(), reading)
}

fn read(text: &str) -> Result<Tape, TapeError> {
    read_as(text, &Reading::default())
}

fn torn() -> Reading {
    Reading { allow_torn: true, ..Reading::default() }
}

#[test]
fn all_quantities_of_an_instrument_get_the_decimals_of_its_finest_line() {
    let tape = read(LINES).unwrap();
    let rows: Vec<_> =
        tape.instruments.rows().iter().map(|row| (row.decimals, row.quantity_decimals)).collect();
    assert_eq!(rows, [(3, 8), (2, 0)]);
    let bodies: Vec<TapeBody> = tape.events.iter().map(|event| event.body).collect();
    let price = |text: &str| text.parse::<Price>().unwrap();
    let (bid, ask) = (price("39269.98"), price("39270.001"));
    assert_eq!(bodies[0], TapeBody::Trade { price: bid, qty: 50_000_000, trade_id: 0 });
    let sizes = TapeBody::Quote { bid, ask, bid_qty: 200_000_000, ask_qty: 12_345 };
    assert_eq!(bodies[1], sizes);
    assert_eq!(bodies[3], TapeBody::Cancel { price: price("41.2"), qty: 300, trade_id: 7 });
    assert!(tape.events.iter().all(|event| event.decimals == 0 && event.ts_recv == event.ts_event));
    assert_eq!(tape.remarks(), Vec::<String>::new());
    assert!(Schedule::new(&[tape], Align::Clock).is_ok());
    let fine_first = "trades,symbol=X price=1,qty=0.25 1\ntrades,symbol=X price=1,qty=2 2\n";
    let tape = read(fine_first).unwrap();
    assert_eq!(tape.instruments.rows()[0].quantity_decimals, 2);
    let price = price("1");
    assert_eq!(tape.events[1].body, TapeBody::Trade { price, qty: 200, trade_id: 0 });
}

#[test]
fn quantities_that_one_unit_cannot_hold_are_refused_by_name() {
    let text = "trades,symbol=BTC price=1,qty=18446744073709551615 1\ntrades,symbol=BTC price=1,qty=0.5 2\n";
    let said = read(text).unwrap_err().to_string();
    assert!(
        said.starts_with("the quantities of BTC do not fit 64 bits in units of 1 decimals"),
        "{said}"
    );
    let text = "quotes,symbol=BTC bid=1,bid_qty=18446744073709551615,ask_qty=0.5 1\n";
    assert!(matches!(read(text), Err(TapeError::Quantities(_, 1))));
}

#[test]
fn a_last_line_without_its_end_is_refused_unless_it_shows_that_it_is_whole() {
    let cut = LINES.trim_end();
    let said = read(cut).unwrap_err().to_string();
    assert!(said.starts_with("line 4 has no end"), "{said}");
    let tape = read_as(cut, &torn()).unwrap();
    assert_eq!(tape.events.len(), 3);
    assert_eq!(tape.remarks(), ["it ends in the middle of record 4, which is left out"]);
    let object = r#"{"symbol":"X","ts_event":5,"price":"1","qty":1}"#;
    assert_eq!(read(object).unwrap().events.len(), 1);
    let said = read(&object[..object.len() - 1]).unwrap_err().to_string();
    assert!(said.starts_with("line 1 has no end"), "{said}");
    // In the middle only a bad line is bad, whatever is allowed.
    let bad = LINES.replacen("39269.98", "x", 1);
    let said = read_as(&bad, &torn()).unwrap_err().to_string();
    assert!(said.starts_with("line 1, price: \"x\""), "{said}");
}

#[test]
fn packed_text_is_read_and_a_cut_pack_is_torn() {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(LINES.repeat(2_000).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let whole = Tape::read(&packed[..], &Reading::default()).unwrap();
    assert_eq!(whole.events.len(), 8_000);
    let cut = &packed[..packed.len() / 2];
    assert!(matches!(Tape::read(cut, &Reading::default()), Err(TapeError::Truncated { .. })));
    let part = Tape::read(cut, &torn()).unwrap();
    assert!(part.events.len() < 8_000 && part.torn.is_some());
}

#[test]
fn what_is_not_read_is_told() {
    let text = "cpu,host=a usage=1 5\ntrades,symbol=X,venue=N price=1,qty=1 5\n";
    let remarks = read(text).unwrap().remarks();
    assert_eq!(
        remarks,
        ["records left out, kind cpu: 1", "names that mean nothing here, and are not read: venue"]
    );
    assert!(matches!(read("\u{feff}symbol,price\n").map(|tape| tape.events.len()), Ok(0)));
}

#[test]
fn last_values_ahead_of_the_sequence_stand_before_the_first_event() {
    let quote = |flags: &str, ts_event: u64, bid: u64| {
        format!(
            "{{\"kind\":\"quote\",\"symbol\":\"X\",\"ts_event\":{ts_event},\"flags\":[{flags}],\"bid\":{bid}}}\n"
        )
    };
    let trade = |flags: &str, ts_event: u64| {
        format!(
            "{{\"kind\":\"trade\",\"symbol\":\"X\",\"ts_event\":{ts_event},\"flags\":[{flags}],\"price\":1,\"qty\":1}}\n"
        )
    };
    let text = [
        quote("\"snapshot\"", 10, 1),
        quote("\"snapshot\"", 11, 2),
        trade("\"snapshot\"", 12),
        trade("", 100),
        quote("\"snapshot\"", 50, 3),
    ];
    let tape = read(&text.concat()).unwrap();
    let times: Vec<_> = tape.events.iter().map(|event| (event.ts_event, event.ts_recv)).collect();
    assert_eq!(times, [(11, 100), (100, 100), (50, 100)]);
    let want = "records left out, trades from before the first event (flag snapshot): 1";
    assert_eq!(tape.remarks(), [want]);
    let only = read(&quote("\"snapshot\"", 10, 1)).unwrap();
    assert_eq!(only.events.len(), 1);
}

#[test]
fn several_tapes_of_text_agree_on_one_unit() {
    let first = read("trades,symbol=BTC price=1,qty=2 1\n").unwrap();
    let second = read("quotes,symbol=BTC bid=1,bid_qty=0.25 2\n").unwrap();
    let mut tapes = [first, second];
    assert!(Schedule::new(&tapes, Align::Clock).is_err());
    agree_on_quantities(&mut tapes).unwrap();
    let trade = TapeBody::Trade { price: Price(1_000_000_000), qty: 200, trade_id: 0 };
    assert_eq!(tapes[0].events[0].body, trade);
    let schedule = Schedule::new(&tapes, Align::Clock).unwrap();
    assert_eq!(schedule.instruments().rows()[0].quantity_decimals, 2);
    // Once more changes nothing.
    agree_on_quantities(&mut tapes).unwrap();
    assert_eq!(tapes[0].events[0].body, trade);
}

#[test]
fn a_span_begins_with_the_quote_before_it_in_the_unit_of_all() {
    let text = "quotes,symbol=BTC bid=1,bid_qty=2 1\ntrades,symbol=BTC price=1,qty=0.25 5\n";
    let selection = TapeSelection { from_ns: 3, ..TapeSelection::default() };
    let tape = read_as(text, &Reading { selection, ..Reading::default() }).unwrap();
    let TapeBody::Quote { bid_qty, .. } = tape.events[0].body else { panic!("{:?}", tape.events) };
    assert_eq!((bid_qty, tape.events[0].ts_recv), (200, 3));
}

#[test]
fn cutting_the_text_anywhere_does_not_panic() {
    let lines = LineOptions::default();
    for end in 0..LINES.len() {
        let reading = Reading { allow_torn: true, lines: lines.clone(), ..Reading::default() };
        let events = read_as(&LINES[..end], &reading).map_or(0, |tape| tape.events.len());
        assert!(events <= 4);
    }
}
