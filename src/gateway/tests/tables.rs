//! Answers as Parquet: the same rows as in CSV, to the last digit.

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;

use super::*;
use crate::market::bar::Bar;
use crate::market::price::decimal;
use crate::wire::{I64, Quote, Size};

/// Without zeros behind the point: a file has one scale for all quantities, and CSV that of each instrument.
fn short(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// What a cell says, as CSV says it.
fn text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Bool(it) => it.to_string(),
        Field::UInt(it) => it.to_string(),
        Field::ULong(it) => it.to_string(),
        Field::Long(it) => it.to_string(),
        Field::Str(it) => it.clone(),
        Field::Decimal(it) => {
            let bytes = it.data();
            let mut units = [if bytes[0] & 0x80 == 0 { 0 } else { 0xFF }; 16];
            units[16 - bytes.len()..].copy_from_slice(bytes);
            let scale = u32::try_from(it.scale()).unwrap();
            let (units, one) = (i128::from_be_bytes(units), 10_i128.pow(scale));
            match scale {
                9 => short(&decimal(units, 9)),
                0 => units.to_string(),
                _ => short(&format!(
                    "{}.{:0width$}",
                    units / one,
                    units % one,
                    width = scale as usize
                )),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// The lines of a file, its heading first, and what it says about itself.
fn lines(bytes: Vec<u8>) -> (Vec<Vec<String>>, BTreeMap<String, String>) {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let about = reader.metadata().file_metadata();
    let names = about.schema().get_fields().iter().map(|it| it.name().to_owned());
    let mut all = vec![names.collect()];
    for row in reader.get_row_iter(None).unwrap() {
        all.push(row.unwrap().get_column_iter().map(|(_, field)| text(field)).collect());
    }
    let said = about.key_value_metadata().unwrap().iter();
    let said = said.map(|it| (it.key.clone(), it.value.clone().unwrap_or_default()));
    (all, said.collect())
}

/// The answer to a question in both forms. Returns what the file says about itself.
fn compare(
    bench: &mut Bench,
    aggregator: Option<ConnId>,
    path: &str,
    rows: &[Frame],
) -> BTreeMap<String, String> {
    let mut ask = |format: &str| {
        let client = bench.accept();
        let separator = if path.contains('?') { '&' } else { '?' };
        bench.give(client, get(&format!("{path}{separator}format={format}")).as_bytes());
        bench.turn();
        if let Some(aggregator) = aggregator {
            let query = bench.query(aggregator).expect("a question");
            bench.answer(aggregator, query, rows);
        }
        bench.turns(60);
        let (head, body) = bench.response(client);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        (head, body)
    };
    let (_, csv) = ask("csv");
    let (head, file) = ask("parquet");
    assert!(head.contains("Content-Type: application/vnd.apache.parquet\r\n"), "{head}");
    let (read, said) = lines(file);
    let csv = String::from_utf8(csv).unwrap();
    let csv: Vec<Vec<String>> =
        csv.lines().map(|line| line.split(',').map(short).collect()).collect();
    assert_eq!(read, csv);
    assert!(read.len() > 1);
    said
}

fn fine(index: u32, symbol: &str, decimals: u8) -> Frame {
    let name = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
    let mut name = name.with_quantity_decimals(decimals);
    name.flags = U16::new(name.flags.get() | Flags::SNAPSHOT);
    Frame::seal(name)
}

fn traded(seq: u64, index: u32, price: i64, qty: u64) -> Frame {
    let flags = U16::new(if seq.is_multiple_of(2) { Flags::BUY } else { 0 });
    let (seq, instrument, trade_id) =
        (U64::new(seq), instrument(index).into(), U64::new(u64::MAX - seq));
    let (price, qty, ts_event) =
        (I64::new(price), U64::new(qty), U64::new(1_340_285_400_123_456_789));
    Frame::seal(Trade {
        flags,
        seq,
        instrument,
        trade_id,
        price,
        qty,
        ts_event,
        ..Trade::default()
    })
}

#[test]
fn each_table_reads_back_as_csv() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    compare(&mut bench, None, "/v1/instruments", &[]);
    let aggregator = Some(bench.connect_aggregator());
    // Several row groups, so it is sent while it is written.
    let rows = u64::try_from(limits::GATEWAY_ROW_GROUP_ROWS * 5 / 2 + 1).unwrap();
    let mut frames = vec![definition(0, "PETR4")];
    frames.extend((0..rows).map(|it| traded(it + 1, 0, -32_010_000_000, it)));
    let said = compare(&mut bench, aggregator, "/v1/trades/PETR4?last=6000", &frames);
    assert_eq!(said["pregao.complete"], "true");
    assert_eq!(said["pregao.nodes"], r#"[{"node":"shard-A","status":"ok","rows":7}]"#);
    assert_eq!(said["pregao.left_out"], "[]");
    // Every digit of a quantity, and a price that is none.
    let undefined = crate::wire::PRICE_UNDEFINED;
    let frames = [fine(0, "BTC", 8), traded(1, 0, 1, u64::MAX), traded(2, 0, undefined, 1)];
    compare(&mut bench, aggregator, "/v1/trades/BTC?last=2", &frames);
    let bar = |start, volume| Bar {
        low: 9_500_000_001,
        volume,
        trades: 3,
        notional: 32_000_000_001 * 7,
        ..Bar::begin(start, 60_000_000_000, 10_000_000_000)
    };
    for (decimals, volume) in [(0, 7), (0, 1 << 64), (8, u128::from(u64::MAX) * 1000)] {
        let mut frames = vec![fine(0, "BTC", decimals)];
        frames.extend(bar(60_000_000_000, volume).frames(instrument(0)));
        frames.extend(bar(120_000_000_000, 7).frames(instrument(0)));
        compare(&mut bench, aggregator, "/v1/bars/BTC?from=0&to=130000000000", &frames);
    }
    // Instruments of several scales, and one without a quote.
    let quote = |index, units| {
        let instrument = instrument(index).into();
        let (bid, ask, bid_qty) = (I64::new(5), I64::new(undefined), Size::new(units));
        Frame::seal(Quote { seq: U64::new(3), instrument, bid, ask, bid_qty, ..Quote::default() })
    };
    let frames = [
        fine(0, "BTC", 8),
        fine(1, "PETR4", 0),
        fine(2, "VALE3", 3),
        quote(0, 1_234_567_890_000_000_000),
        quote(1, 500),
    ];
    compare(&mut bench, aggregator, "/v1/quotes?symbols=*", &frames);
}

#[test]
fn parts_of_a_file_are_of_one_answer() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let aggregator = bench.connect_aggregator();
    let path = "/v1/trades/PETR4?last=2&format=parquet";
    let with = |range: &str| get(path).replace("\r\n\r\n", &format!("\r\nRange: {range}\r\n\r\n"));
    let client = bench.accept();
    bench.give(client, with("bytes=-262144").as_bytes());
    bench.turn();
    let query = bench.query(aggregator).expect("a question");
    bench.answer(aggregator, query, &[definition(0, "PETR4"), traded(1, 0, 7, 7)]);
    bench.turns(3);
    let (head, whole) = bench.response(client);
    let all = format!("Content-Range: bytes 0-{}/{}\r\n", whole.len() - 1, whole.len());
    assert!(head.starts_with("HTTP/1.1 206 ") && head.contains(&all), "{head}");
    // What comes next is not asked of the market, which has gone on.
    bench.give(client, with("bytes=4-20").as_bytes());
    bench.turns(3);
    let (head, part) = bench.response(client);
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    assert_eq!(part, whole[4..=20]);
    assert_eq!(lines(whole).0.len(), 2);
}

#[test]
fn a_quantity_that_no_decimal_holds_is_no_wrong_number() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let aggregator = bench.connect_aggregator();
    let client = bench.accept();
    bench.give(client, get("/v1/bars/BTC?from=0&to=130000000000&format=parquet").as_bytes());
    bench.turn();
    let query = bench.query(aggregator).expect("a question");
    let bar = Bar { volume: u128::MAX, ..Bar::begin(60_000_000_000, 60_000_000_000, 1) };
    let mut frames = vec![fine(0, "BTC", 8)];
    frames.extend(bar.frames(instrument(0)));
    bench.answer(aggregator, query, &frames);
    bench.turns(3);
    let (head, body) = bench.response(client);
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 406 ") && body.contains("too large"), "{head}{body}");
}
