//! Lines of text that people bring: CSV, JSON and InfluxDB's line protocol.

use pregao::limits::LINE_NAMES_MAX;
use pregao::market::Price;
use pregao::market::lines::{LineFormat, LineOptions, Lines, Mapping, Record, RecordBody};
use pregao::wire::{Flags, QUANTITY_DECIMALS_MAX};

use crate::mutate::{cases, corpus, mutate, pick};

const FORMATS: [LineFormat; 3] = [LineFormat::Csv, LineFormat::Json, LineFormat::Ilp];

fn files() -> Vec<Vec<u8>> {
    let of_text = |text: &Vec<u8>| LineFormat::recognized(text).is_some();
    let files: Vec<Vec<u8>> = corpus("tapes").into_iter().filter(of_text).collect();
    assert_eq!(files.len(), FORMATS.len());
    files
}

/// The record as a line of the protocol, from which it must be read again.
fn written(record: &Record) -> String {
    let name = record.symbol.as_str().replace('"', "\\\"");
    // A backslash before a quotation mark takes its meaning in a text, and before any other letter none.
    let name = if name.contains('\\') { return String::new() } else { name };
    let words = [
        (Flags::LAST, "last"),
        (Flags::BUY, "buy"),
        (Flags::SELL, "sell"),
        (Flags::AFTER_MARKET, "after_market"),
        (Flags::HALTED, "halted"),
    ];
    let words = words.iter().filter(|(flag, _)| record.flags & flag != 0);
    let mut words: Vec<&str> = words.map(|(_, word)| *word).collect();
    if record.is_snapshot {
        words.push("snapshot");
    }
    let price = |name: &str, price: Price| match price.is_defined() {
        true => format!("{name}={price},"),
        false => String::new(),
    };
    let (table, body) = match record.body {
        RecordBody::Quote { bid, ask, bid_qty, ask_qty } => {
            let prices = format!("{}{}", price("bid", bid), price("ask", ask));
            ("quotes", format!("{prices}bid_qty={bid_qty},ask_qty={ask_qty}"))
        }
        RecordBody::Trade { price, qty, trade_id } => {
            ("trades", format!("price={price},qty={qty},id={trade_id}i"))
        }
        RecordBody::Cancel { price, qty, trade_id } => {
            ("cancels", format!("price={price},qty={qty},id={trade_id}i"))
        }
    };
    let (flags, at) = (words.join(" "), record.ts_event);
    format!("{table} symbol=\"{name}\",flags=\"{flags}\",{body} {at}\n")
}

/// The record with quantities that have no decimals for nothing.
fn reduced(mut record: Record) -> Record {
    match &mut record.body {
        RecordBody::Quote { bid_qty, ask_qty, .. } => {
            (*bid_qty, *ask_qty) = (bid_qty.reduced(), ask_qty.reduced());
        }
        RecordBody::Trade { qty, .. } | RecordBody::Cancel { qty, .. } => *qty = qty.reduced(),
    }
    record
}

#[test]
fn no_line_panics_and_what_is_read_is_written_and_read_as_itself() {
    let files = files();
    cases(20_000, |random| {
        let mut bytes = pick(random, &files).clone();
        mutate(random, &mut bytes);
        let recognized = LineFormat::recognized(&bytes);
        let format = recognized.unwrap_or(*pick(random, &FORMATS));
        let mut lines = Lines::new(format, LineOptions::default());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Ok(Some(record)) = lines.take(line) else { continue };
            assert!(!record.symbol.is_reserved() && record.symbol.is_valid());
            let sizes = match record.body {
                RecordBody::Quote { bid_qty, ask_qty, .. } => [bid_qty, ask_qty],
                RecordBody::Trade { qty, .. } | RecordBody::Cancel { qty, .. } => [qty, qty],
            };
            for quantity in sizes {
                assert!(quantity.decimals <= QUANTITY_DECIMALS_MAX);
                assert!(quantity.units <= u64::MAX.into());
            }
            let text = written(&record);
            if !text.is_empty() {
                let mut again = Lines::new(LineFormat::Ilp, LineOptions::default());
                let read = again.take(text.as_bytes()).map(|read| read.map(reduced));
                assert_eq!(read, Ok(Some(reduced(record))), "{text}");
            }
        }
        assert!(lines.skipped().len() <= LINE_NAMES_MAX + 1);
        assert!(lines.unread().len() <= LINE_NAMES_MAX + 1);
    });
}

#[test]
fn no_mapping_panics() {
    let words = [b"price=last,quantity=amount,symbol=pair,trades=fills,id=".to_vec()];
    cases(5_000, |random| {
        let mut bytes = pick(random, &words).clone();
        mutate(random, &mut bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<Mapping>();
    });
}
