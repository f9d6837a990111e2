//! Lines of all formats: right ones, almost right ones, and what is said of them.

use super::*;
use crate::market::price::Price;
use crate::market::quantity::Quantity;
use crate::wire::Flags;

const AT: u64 = 1_784_034_439_126_000_000;

fn read_with(
    format: LineFormat,
    options: &LineOptions,
    text: &str,
) -> (Vec<Record>, Vec<String>, Lines) {
    let mut lines = Lines::new(format, options.clone());
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    for line in text.split_inclusive('\n') {
        match lines.take(line.as_bytes()) {
            Ok(record) => records.extend(record),
            Err(error) => errors.push(error.to_string()),
        }
    }
    (records, errors, lines)
}

fn read(format: LineFormat, text: &str) -> Vec<Record> {
    let (records, errors, _) = read_with(format, &LineOptions::default(), text);
    assert_eq!(errors, Vec::<String>::new());
    records
}

fn refused(format: LineFormat, text: &str) -> String {
    let (records, errors, _) = read_with(format, &LineOptions::default(), text);
    assert_eq!((records.len(), errors.len()), (0, 1), "{text:?}: {records:?} {errors:?}");
    errors.concat()
}

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

fn trade(symbol: &str, at: &str, qty: Quantity, trade_id: u64, flags: u16) -> Record {
    Record {
        symbol: symbol.parse().unwrap(),
        ts_event: AT,
        flags,
        is_snapshot: false,
        body: RecordBody::Trade { price: price(at), qty, trade_id },
    }
}

fn units(units: u128, decimals: u8) -> Quantity {
    Quantity::new(units, decimals)
}

fn quote(symbol: &str, bid: Price, ask: Price, sizes: (Quantity, Quantity)) -> Record {
    let body = RecordBody::Quote { bid, ask, bid_qty: sizes.0, ask_qty: sizes.1 };
    let symbol = symbol.parse().unwrap();
    Record { symbol, ts_event: AT, flags: Flags::LAST, is_snapshot: false, body }
}

// ---- Line protocol.

#[test]
fn a_line_of_questdb_is_a_trade() {
    let line = format!(
        "trades,symbol=BTC-USD,side=sell price=39269.98,amount=0.00012345,id=\"77\" {AT}\n"
    );
    let want = trade("BTC-USD", "39269.98", units(12_345, 8), 77, Flags::LAST | Flags::SELL);
    assert_eq!(read(LineFormat::Ilp, &line), [want]);
}

#[test]
fn types_escapes_comments_and_line_ends_of_the_protocol_are_read() {
    let text = format!(
        "\u{feff}# a comment\r\n\
         \r\n\
         trades,symbol=ETH\\ USD,venue=a\\,b\\=c price=41i,quantity=5u,trade_id=7i,note=\"a \\\"b\\\" , c=d\" {AT}n\r\n\
         trade,symbol=ETH\\ USD price=41.0,size=5.0  {}t \n\
         quotes symbol=\"X\",bid=-0.05,bid_qty=1.5d,halted=t {AT}\n\
         cancels,symbol=X price=1,qty=18446744073709551615,id=3 {AT}\n",
        AT / 1_000
    );
    let records = read(LineFormat::Ilp, &text);
    assert_eq!(records[0], trade("ETH USD", "41", units(5, 0), 7, Flags::LAST));
    assert_eq!(records[1], trade("ETH USD", "41", units(50, 1), 0, Flags::LAST));
    let empty = quote("X", price("-0.05"), Price::UNDEFINED, (units(15, 1), units(0, 0)));
    assert_eq!(records[2], Record { flags: Flags::LAST | Flags::HALTED, ..empty });
    let body =
        RecordBody::Cancel { price: price("1"), qty: units(u64::MAX.into(), 0), trade_id: 3 };
    assert_eq!(records[3].body, body);
    assert_eq!(records.len(), 4);
}

#[test]
fn what_is_wrong_in_the_protocol_is_named() {
    for (line, says) in [
        ("trades,symbol=X price=1,qty=1", "line 1, ts_event: there is no time"),
        ("trades,symbol=X price=1,qty=1 -5", "line 1, the timestamp: \"-5\""),
        ("trades,symbol=X price=1, qty=1 5", "no NAME=VALUE"),
        ("trades,symbol=X price=1,qty=1 5 6", "the timestamp: \"5 6\""),
        ("trades,symbol=X price=,qty=1 5", "price: the field has no value"),
        ("trades,symbol= price=1,qty=1 5", "symbol: the tag has no value"),
        ("trades,symbol=X price=\"1,qty=1 5", "price: its quotation mark"),
        ("trades,symbol=X price=\"1\\", "price: its quotation mark"),
        ("trades,symbol=X 5", "no NAME=VALUE"),
        ("trades", "no NAME=VALUE"),
        ("trades,symbol=X price=NaN,qty=1 5", "price: NaN is no number"),
        ("trades,symbol=X price=1.0000000001,qty=1 5", "more than 9 decimals"),
        ("trades,symbol=X price=1,qty=0.000000000000001 5", "more than 14 decimals"),
        ("trades,symbol=X price=1,qty=18446744073709551616 5", "beyond the largest quantity"),
        ("trades,symbol=X price=9223372037,qty=1 5", "beyond the largest price"),
        ("trades,symbol=X price=1,qty=-1 5", "qty: \"-1\" is not a decimal number"),
        ("trades,symbol=X price=1 5", "qty: there is no quantity"),
        ("trades,symbol=X qty=1 5", "price: there is no price"),
        ("trades price=1,qty=1 5", "symbol: there is no symbol"),
        ("trades,symbol=$sys.x price=1,qty=1 5", "names that begin with $"),
        ("trades,symbol=A* price=1,qty=1 5", "a name is 1 to 80"),
        ("trades,symbol=X,side=up price=1,qty=1 5", "side: \"up\" is neither buy nor sell"),
        ("trades,symbol=X price=1,qty=1,amount=1 5", "amount: qty is there twice"),
        ("trades,symbol=X price=1,qty=1,id=\"a\" 5", "id: \"a\" is no whole number"),
        ("trades,symbol=X price=1,qty=1,halted=t 5", "only a quote says"),
        ("trades,symbol=X price=1,qty=1,after_market=2 5", "neither true nor false"),
        ("quotes,symbol=X,side=buy bid=1 5", "a quote has no side"),
        ("cancels,symbol=X price=1,qty=1 5", "no number of the trade that is cancelled"),
        ("trades,symbol=X price=1,qty=1 99999999999999999999", "later than 2554"),
        ("trades,symbol=X,flags=las price=1,qty=1 5", "\"las\" is no flag"),
    ] {
        let said = refused(LineFormat::Ilp, line);
        assert!(said.starts_with("line 1") && said.contains(says), "{line}: {said}");
    }
}

#[test]
fn other_measurements_are_counted_and_other_names_are_told() {
    let text = format!(
        "cpu,host=a usage=1.5 {AT}\ncpu,host=b usage=2 {AT}\ntrades,symbol=X,exchange=N price=1,qty=1 {AT}\n"
    );
    let (records, errors, lines) = read_with(LineFormat::Ilp, &LineOptions::default(), &text);
    assert_eq!((records.len(), errors.len()), (1, 0));
    assert_eq!(lines.skipped().clone(), BTreeMap::from([("cpu".to_owned(), 2)]));
    assert_eq!(lines.unread().clone(), BTreeMap::from([("exchange".to_owned(), 1)]));
}

#[test]
fn names_that_are_told_one_by_one_are_bounded() {
    let mut lines = Lines::new(LineFormat::Ilp, LineOptions::default());
    for table in 0..100 {
        assert_eq!(lines.take(format!("t{table} a=1 5").as_bytes()), Ok(None));
    }
    assert_eq!(lines.skipped().len(), LINE_NAMES_MAX + 1);
    assert_eq!(lines.skipped().values().sum::<u64>(), 100);
}

#[test]
fn a_mapping_gives_other_names_and_takes_ours_away() {
    let mapping: Mapping = "price=last,quantity=vol,symbol=pair,trades=fills,id=".parse().unwrap();
    let options =
        LineOptions { mapping, time_unit: TimeUnit::Milliseconds, ..LineOptions::default() };
    let text = format!(
        "fills,pair=X last=1.5,vol=2,id=\"a3f\" {}\ntrades,pair=X last=1 5\nfills,pair=X price=1,vol=1 5\n",
        AT / 1_000_000
    );
    let (records, errors, lines) = read_with(LineFormat::Ilp, &options, &text);
    assert_eq!(records, [trade("X", "1.5", units(2, 0), 0, Flags::LAST)]);
    assert_eq!(errors, ["line 3, last: there is no price; write it, or map the name that it has"]);
    assert_eq!(lines.skipped().clone(), BTreeMap::from([("trades".to_owned(), 1)]));
    for (text, error) in [
        ("price", MappingError::Form("price".to_owned())),
        ("", MappingError::Form(String::new())),
        ("prize=x", MappingError::Unknown("prize".to_owned())),
        ("price=x,price=y", MappingError::Twice("price".to_owned())),
        ("price=x,qty=x", MappingError::Twice("x".to_owned())),
        ("trades=x,trade=y", MappingError::Twice("trade".to_owned())),
    ] {
        assert_eq!(text.parse::<Mapping>(), Err(error));
    }
}

// ---- CSV.

#[test]
fn columns_stand_in_any_order_between_either_separator() {
    for separator in [",", ";"] {
        let text = format!(
            "\u{feff}qty;\"symbol\";price;ts_event;foo;side;flags\r\n\
             0.00012345;\"A;B \"\"C\"\"\";-1.5;{AT};x;;\r\n\
             \r\n\
             18446744073709551615;X;1250000000000e-3;2026-07-14T13:07:19.126Z;;buy;last after_market gap_before\n"
        );
        let text = text.replace(';', separator);
        let (records, errors, lines) = read_with(LineFormat::Csv, &LineOptions::default(), &text);
        assert_eq!(errors, Vec::<String>::new());
        let symbol = format!("A{separator}B \"C\"");
        let flags = Flags::LAST | Flags::AFTER_MARKET | Flags::BUY;
        let want = [
            trade(&symbol, "-1.5", units(12_345, 8), 0, 0),
            trade("X", "1250000000", units(u64::MAX.into(), 0), 0, flags),
        ];
        assert_eq!(records, want);
        assert_eq!(lines.unread().clone(), BTreeMap::from([("foo".to_owned(), 1)]));
    }
}

#[test]
fn a_line_with_only_a_bid_is_a_quote_without_an_ask() {
    let text = format!("symbol,ts_event,bid,ask,bid_size,ask_size\nX,{AT},41.20,,300,\n");
    let want = quote("X", price("41.20"), Price::UNDEFINED, (units(300, 0), units(0, 0)));
    assert_eq!(read(LineFormat::Csv, &text), [want]);
    let text = format!("symbol,ts_event,ask\nX,{AT},41.20\n");
    let want = quote("X", Price::UNDEFINED, price("41.20"), (units(0, 0), units(0, 0)));
    assert_eq!(read(LineFormat::Csv, &text), [want]);
}

#[test]
fn what_is_wrong_in_csv_is_named() {
    let header = "kind,symbol,ts_event,price,qty,trade_id";
    for (line, says) in [
        ("trade,X,5,1", "line 2, qty: the line ends before it"),
        ("trade,X,5,1,1,1,1", "more values than the 6 columns"),
        ("trade,X,,1,1,1", "ts_event: there is no time"),
        ("trade,,5,1,1,1", "symbol: there is no symbol"),
        ("trade,\"X,5,1,1,1", "a quotation mark is not closed"),
        ("trade,\"X\"Y,5,1,1,1", "behind a closed quotation mark"),
        ("trad,X,5,1,1,1", "kind: \"trad\" is neither quote, trade nor cancel"),
        ("trade,X,5,,1,1", "price: there is no price"),
        ("trade,X,5,\"1,5\",1,1", "price: \"1,5\" is not a decimal number"),
        ("trade,X,5,1,1,18446744073709551616", "trade_id: "),
        ("trade,X,5,1,1,+1", "trade_id: "),
    ] {
        let said = refused(LineFormat::Csv, &format!("{header}\n{line}\n"));
        assert!(said.starts_with("line 2") && said.contains(says), "{line}: {said}");
    }
    for (header, says) in [
        ("price", "line 1: a header names its columns"),
        ("a,b,c", "line 1: no column has a known name"),
        ("price,qty,size", "line 1, size: another column means the same"),
    ] {
        let said = refused(LineFormat::Csv, &format!("{header}\n"));
        assert!(said.starts_with(says), "{header}: {said}");
    }
    let said = refused(LineFormat::Csv, "symbol,ts_event,price,bid\nX,5,1,1\n");
    assert!(said.starts_with("line 2, kind: there are a price and a bid"), "{said}");
    let said = refused(LineFormat::Csv, "symbol,ts_event\nX,5\n");
    assert!(said.starts_with("line 2: neither a price nor a bid"), "{said}");
}

#[test]
fn what_the_lines_do_not_say_comes_from_the_options() {
    let symbol = "X".parse().ok();
    let options = LineOptions {
        kind: Some(RecordKind::Cancel),
        symbol,
        time_ns: Some(AT),
        ..LineOptions::default()
    };
    let (records, errors, _) = read_with(LineFormat::Csv, &options, "price,qty,trade_id\n1,2,3\n");
    assert_eq!(errors, Vec::<String>::new());
    let body = RecordBody::Cancel { price: price("1"), qty: units(2, 0), trade_id: 3 };
    assert_eq!((records[0].body, records[0].ts_event, records[0].symbol.as_str()), (body, AT, "X"));
}

// ---- JSON.

#[test]
fn objects_of_subscribe_are_read_and_other_kinds_are_counted() {
    let text = format!(
        r#"{{"kind":"trade","symbol":"PETR4","seq":43,"seq_text":"43","instrument_seq":6,"ts_event":{AT},"ts_event_text":"2026-07-14T13:07:19.126Z","ts_recv":5,"ts_recv_text":"x","flags":["last","sell","replay"],"price":"32.015","qty":18446744073709551615,"qty_text":"18446744073709551615","side":"sell","trade_id":77,"trade_id_text":"77"}}
{{"kind":"quote","symbol":"PETR4","ts_event":{AT},"flags":["last","snapshot"],"bid":"-0.05","ask":null,"bid_qty":0.00012345,"ask_qty":0}}
{{"kind":"gap","symbol":null,"seq":null,"ts_event":null,"flags":[],"from_seq":10,"to_seq":20,"reason":"lapped","missed":null}}
{{"kind":"bar","symbol":"PETR4","ts_event":60,"open":"10.00","interval_ns":60000000000}}
{{"kind":"stale","symbol":null}}
{{"kind":"stale","symbol":null}}
"#
    );
    let (records, errors, lines) = read_with(LineFormat::Json, &LineOptions::default(), &text);
    assert_eq!(errors, Vec::<String>::new());
    let flags = Flags::LAST | Flags::SELL;
    assert_eq!(records[0], trade("PETR4", "32.015", units(u64::MAX.into(), 0), 77, flags));
    let want = quote("PETR4", price("-0.05"), Price::UNDEFINED, (units(12_345, 8), units(0, 0)));
    assert_eq!(records[1..], [Record { is_snapshot: true, ..want }]);
    let skipped =
        [("bar", 1), ("gap", 1), ("stale", 2)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(lines.skipped().clone(), BTreeMap::from(skipped));
    assert!(lines.unread().is_empty(), "{:?}", lines.unread());
}

#[test]
fn numbers_of_json_are_read_from_their_digits() {
    let text = format!(
        r#"{{"symbol":"a\"\u0062","price":41.200000001,"amount":1250000000000.5,"timestamp":"{AT}","exchange":{{"a":[1]}}}}"#
    );
    let (records, errors, lines) = read_with(LineFormat::Json, &LineOptions::default(), &text);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        records,
        [trade("a\"b", "41.200000001", units(12_500_000_000_005, 1), 0, Flags::LAST)]
    );
    assert_eq!(lines.unread().keys().collect::<Vec<_>>(), ["exchange"]);
}

#[test]
fn what_is_wrong_in_json_is_named() {
    for (line, says) in [
        (r#"{"kind":"trade""#, "no object of JSON"),
        (r#"["kind"]"#, "no object of JSON"),
        (r#"{"kind":"trade"} {}"#, "no object of JSON"),
        (r#"{"kind":"Trade","symbol":"X","ts_event":5}"#, "kind: \"Trade\" is neither"),
        (
            r#"{"kind":"trade","symbol":null,"ts_event":5,"price":1,"qty":1}"#,
            "symbol: there is no symbol",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":null,"price":1,"qty":1}"#,
            "ts_event: there is no time",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":5,"price":[1],"qty":1}"#,
            "price: [1] is no value of it",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":5,"price":1,"price":2,"qty":1}"#,
            "price: price is there twice",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":5,"price":true,"qty":1}"#,
            "price: \"true\" is not",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":5,"price":1,"qty":1,"flags":["buy"],"side":"sell"}"#,
            "side: the side is not",
        ),
        (
            r#"{"kind":"trade","symbol":"X","ts_event":1.5,"price":1,"qty":1}"#,
            "ts_event: \"1.5\" is no time",
        ),
    ] {
        let said = refused(LineFormat::Json, line);
        assert!(said.starts_with("line 1") && said.contains(says), "{line}: {said}");
    }
}

// ---- All.

#[test]
fn a_format_is_recognized_by_its_first_line() {
    for (head, format) in [
        ("{\"kind\"", Some(LineFormat::Json)),
        ("\u{feff} \n{", Some(LineFormat::Json)),
        ("seq,instrument_seq,ts_event,ts_recv,flags,bid", Some(LineFormat::Csv)),
        ("\u{feff}\"symbol\";\"price\"\n", Some(LineFormat::Csv)),
        ("trades,symbol=X price=1", Some(LineFormat::Ilp)),
        ("quotes bid=1", Some(LineFormat::Ilp)),
        ("# made by hand\n", Some(LineFormat::Ilp)),
        ("Date;Price\n", None),
        ("DataReferencia;CodigoInstrumento", None),
        ("hello world", None),
        ("<html>", None),
        ("", None),
    ] {
        assert_eq!(LineFormat::recognized(head.as_bytes()), format, "{head:?}");
    }
}

#[test]
fn lines_that_are_too_long_or_no_text_are_refused_and_the_next_one_is_read() {
    let mut lines = Lines::new(LineFormat::Ilp, LineOptions::default());
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    assert!(
        lines.take(&long).unwrap_err().to_string().starts_with("line 1: longer than 65536 bytes")
    );
    let said = lines.take(b"trades,symbol=\xFF").unwrap_err().to_string();
    assert_eq!(said, "line 2: not UTF-8 behind byte 14; convert the text");
    let good = format!("trades,symbol=X price=1,qty=1 {AT}\n");
    assert!(matches!(lines.take(good.as_bytes()), Ok(Some(_))));
    assert_eq!(lines.line(), 3);
}
