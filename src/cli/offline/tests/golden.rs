//! One frame of each kind that a log has rows of, in every form: byte for byte as programs and people read
//! them today.

use super::*;
use crate::wire::{BreakerChange, Size};

/// A log with one frame of each kind.
fn one_of_each() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "core");
    let instrument = U32::new(1);
    let shared = |seq: u64| (U64::new(seq), U64::new(DAY_NS + seq), U64::new(DAY_NS + seq + 7));
    let definition = |instrument, symbol: &str, decimals, at: u64| {
        let (seq, ts_event, ts_recv) = shared(at);
        let definition = Definition::new(instrument, symbol.parse().unwrap(), decimals);
        Frame::seal(Definition { seq, ts_event, ts_recv, ..definition })
    };
    let (seq, ts_event, ts_recv) = shared(3);
    let quote = Quote {
        seq,
        ts_event,
        ts_recv,
        instrument,
        flags: U16::new(Flags::LAST | Flags::GAP_BEFORE | Flags::AFTER_MARKET),
        instrument_seq: U32::new(1),
        bid: I64::new(-32_015_000_000),
        ask: I64::new(PRICE_UNDEFINED),
        bid_qty: Size::new(300),
        ask_qty: Size::new(u32::MAX.into()),
        ..Quote::default()
    };
    let (seq, ts_event, ts_recv) = shared(4);
    let trade = Trade {
        seq,
        ts_event,
        ts_recv,
        instrument,
        flags: U16::new(Flags::LAST | Flags::BUY),
        instrument_seq: U32::new(1),
        price: I64::new(32_015_000_001),
        qty: U64::new(u64::MAX),
        trade_id: U64::new(77),
        ..Trade::default()
    };
    let (seq, ts_event, ts_recv) = shared(5);
    let cancel = Cancel {
        seq,
        ts_event,
        ts_recv,
        instrument,
        flags: U16::new(Flags::SELL),
        instrument_seq: U32::new(1),
        price: I64::new(32_000_000_000),
        qty: U64::new(5),
        trade_id: U64::new(76),
        ..Cancel::default()
    };
    let (seq, ts_event, ts_recv) = shared(6);
    let change = BreakerChange {
        seq,
        ts_event,
        ts_recv,
        instrument: U32::new(2),
        instrument_seq: U32::new(1),
        to: 1,
        reason: 3,
        generation: U16::new(4),
        name: padded("core.exchange"),
        ..BreakerChange::default()
    };
    let frames = [
        definition(U32::new(1).into(), "PETR4", 2, 1),
        definition(U32::new(2).into(), "$sys.breaker", 0, 2),
        Frame::seal(quote),
        Frame::seal(trade),
        Frame::seal(cancel),
        Frame::seal(change),
    ];
    frames.iter().for_each(|frame| append(&mut log, frame));
    log.close(NOW).unwrap();
    dir
}

/// A line of CSV without the columns that only the tests' own kind has. They stand behind those of all other
/// kinds, before those of a gap.
fn without_sample(line: &str) -> String {
    let mut fields: Vec<&str> = line.split(',').collect();
    fields.drain(fields.len() - 4..fields.len() - 2);
    fields.join(",")
}

fn everything(dir: &Path) -> Selected {
    let names = ["quote", "trade", "cancel", "breaker", "definition"];
    let kinds = names.map(|name| <Rows as clap::ValueEnum>::from_str(name, false).unwrap());
    Selected { kinds: kinds.to_vec(), ..selected(dir) }
}

#[test]
fn a_dump_as_a_table_stays_what_it_is() {
    let dir = one_of_each();
    let (exit, lines) = dump(everything(dir.path()), DumpFormat::Table);
    let want = [
        "             define PETR4, 2 decimals",
        "             define $sys.breaker, 0 decimals",
        "TIME UTC     KIND   SYMBOL        BID/PRICE        ASK         QTY NOTE",
        "00:00:00.000 quote  PETR4           -32.015          - 300x4294967200 gap-before",
        "00:00:00.000 trade  PETR4        32.015000001            18446744073709551615",
        "00:00:00.000 cancel PETR4             32.00                      5 sell",
        "00:00:00.000 break  core.exchange: closed to open (slow rate reached the threshold)",
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!((exit, &lines[..]), (Exit::Complete, &want[..]));
}

#[test]
fn a_dump_as_json_stays_what_it_is() {
    let dir = one_of_each();
    let (_, lines) = dump(everything(dir.path()), DumpFormat::Json);
    let want = [
        r#"{"kind":"definition","symbol":"PETR4","seq":1,"seq_text":"1","instrument_seq":0,"ts_event":86400000000001,"ts_event_text":"1970-01-02T00:00:00.000000001Z","ts_recv":86400000000008,"ts_recv_text":"1970-01-02T00:00:00.000000008Z","flags":[],"decimals":2,"qty_decimals":0}"#,
        r#"{"kind":"definition","symbol":"$sys.breaker","seq":2,"seq_text":"2","instrument_seq":0,"ts_event":86400000000002,"ts_event_text":"1970-01-02T00:00:00.000000002Z","ts_recv":86400000000009,"ts_recv_text":"1970-01-02T00:00:00.000000009Z","flags":[],"decimals":0,"qty_decimals":0}"#,
        r#"{"kind":"quote","symbol":"PETR4","seq":3,"seq_text":"3","instrument_seq":1,"ts_event":86400000000003,"ts_event_text":"1970-01-02T00:00:00.000000003Z","ts_recv":86400000000010,"ts_recv_text":"1970-01-02T00:00:00.000000010Z","flags":["last","gap_before","after_market"],"bid":"-32.015","ask":null,"bid_qty":300,"bid_qty_text":"300","ask_qty":4294967200,"ask_qty_text":"4294967200"}"#,
        r#"{"kind":"trade","symbol":"PETR4","seq":4,"seq_text":"4","instrument_seq":1,"ts_event":86400000000004,"ts_event_text":"1970-01-02T00:00:00.000000004Z","ts_recv":86400000000011,"ts_recv_text":"1970-01-02T00:00:00.000000011Z","flags":["last","buy"],"price":"32.015000001","qty":18446744073709551615,"qty_text":"18446744073709551615","side":"buy","trade_id":77,"trade_id_text":"77"}"#,
        r#"{"kind":"cancel","symbol":"PETR4","seq":5,"seq_text":"5","instrument_seq":1,"ts_event":86400000000005,"ts_event_text":"1970-01-02T00:00:00.000000005Z","ts_recv":86400000000012,"ts_recv_text":"1970-01-02T00:00:00.000000012Z","flags":["sell"],"price":"32.00","qty":5,"qty_text":"5","side":"sell","trade_id":76,"trade_id_text":"76"}"#,
        r#"{"kind":"breaker","symbol":"$sys.breaker","seq":6,"seq_text":"6","instrument_seq":1,"ts_event":86400000000006,"ts_event_text":"1970-01-02T00:00:00.000000006Z","ts_recv":86400000000013,"ts_recv_text":"1970-01-02T00:00:00.000000013Z","flags":[],"name":"core.exchange","from":"closed","to":"open","reason":"slow rate reached the threshold","generation":4}"#,
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_dump_as_csv_stays_what_it_is() {
    let dir = one_of_each();
    let (_, lines) = dump(everything(dir.path()), DumpFormat::Csv);
    let want = [
        "kind,symbol,seq,instrument_seq,ts_event,ts_recv,flags,bid,ask,bid_qty,ask_qty,price,qty,side,trade_id,name,from,to,reason,generation,decimals,qty_decimals,exchange,feed,next_seq,who,state,usual_ms,text,from_seq,to_seq",
        "definition,PETR4,1,0,86400000000001,86400000000008,,,,,,,,,,,,,,,2,0,,,,,,,,,",
        "definition,$sys.breaker,2,0,86400000000002,86400000000009,,,,,,,,,,,,,,,0,0,,,,,,,,,",
        "quote,PETR4,3,1,86400000000003,86400000000010,last gap_before after_market,-32.015,,300,4294967200,,,,,,,,,,,,,,,,,,,,",
        "trade,PETR4,4,1,86400000000004,86400000000011,last buy,,,,,32.015000001,18446744073709551615,buy,77,,,,,,,,,,,,,,,,",
        "cancel,PETR4,5,1,86400000000005,86400000000012,sell,,,,,32.00,5,sell,76,,,,,,,,,,,,,,,,",
        "breaker,$sys.breaker,6,1,86400000000006,86400000000013,,,,,,,,,,core.exchange,closed,open,slow rate reached the threshold,4,,,,,,,,,,,",
    ];
    assert_eq!(lines.iter().map(|line| without_sample(line)).collect::<Vec<_>>(), want);
}

#[test]
fn an_export_as_csv_stays_what_it_is() {
    let dir = one_of_each();
    let out = tempfile::tempdir().unwrap();
    let (exit, lines) = shown(|output| {
        let request = ExportRequest {
            selected: everything(dir.path()),
            format: ExportFormat::Csv,
            out: out.path().to_owned(),
            overwrite: false,
        };
        super::super::export::run(&request, output)
    });
    let want = "\
KIND                   ROWS    FILES
quote                     1        1
trade                     1        1
cancel                    1        1
breaker                   1        1
definition                2        2";
    assert_eq!((exit, lines.join("\n").as_str()), (Exit::Complete, want));
    let shared = "seq,instrument_seq,ts_event,ts_recv,flags";
    let want = [
        (
            "breaker",
            "%24sys.breaker",
            "name,from,to,reason,generation",
            "6,1,86400000000006,86400000000013,,core.exchange,closed,open,slow rate reached the threshold,4",
        ),
        (
            "cancel",
            "PETR4",
            "price,qty,side,trade_id",
            "5,1,86400000000005,86400000000012,sell,32.00,5,sell,76",
        ),
        (
            "definition",
            "%24sys.breaker",
            "decimals,qty_decimals",
            "2,0,86400000000002,86400000000009,,0,0",
        ),
        ("definition", "PETR4", "decimals,qty_decimals", "1,0,86400000000001,86400000000008,,2,0"),
        (
            "quote",
            "PETR4",
            "bid,ask,bid_qty,ask_qty",
            "3,1,86400000000003,86400000000010,last gap_before after_market,-32.015,,300,4294967200",
        ),
        (
            "trade",
            "PETR4",
            "price,qty,side,trade_id",
            "4,1,86400000000004,86400000000011,last buy,32.015000001,18446744073709551615,buy,77",
        ),
    ];
    let want = want.map(|(kind, symbol, own, row)| {
        let name = format!("kind={kind}/date=1970-01-02/symbol={symbol}/part-00000.csv");
        (name, format!("{shared},{own}\n{row}\n"))
    });
    let found = files(out.path()).into_iter();
    let found = found.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()));
    assert_eq!(found.collect::<Vec<_>>(), want);
}

#[cfg(feature = "parquet")]
#[test]
fn a_parquet_schema_stays_what_it_is() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    let dir = one_of_each();
    let out = tempfile::tempdir().unwrap();
    export(everything(dir.path()), ExportFormat::Parquet, out.path(), false).unwrap();
    let mut schemas = BTreeMap::new();
    for (name, bytes) in files(out.path()) {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let mut text = Vec::new();
        ::parquet::schema::printer::print_schema(
            &mut text,
            reader.metadata().file_metadata().schema(),
        );
        let kind = name.split('/').next().unwrap().to_owned();
        schemas.insert(kind, String::from_utf8(text).unwrap());
    }
    let shared = "  REQUIRED INT64 seq (INTEGER(64,false));
  REQUIRED INT32 instrument_seq (INTEGER(32,false));
  OPTIONAL INT64 ts_event (TIMESTAMP(NANOS,true));
  OPTIONAL INT64 ts_recv (TIMESTAMP(NANOS,true));
  OPTIONAL BYTE_ARRAY flags (STRING);
";
    let own = [
        (
            "breaker",
            "  OPTIONAL BYTE_ARRAY name (STRING);
  OPTIONAL BYTE_ARRAY from (STRING);
  OPTIONAL BYTE_ARRAY to (STRING);
  OPTIONAL BYTE_ARRAY reason (STRING);
  REQUIRED INT32 generation (INTEGER(32,false));
",
        ),
        ("cancel", TRADE),
        (
            "definition",
            "  REQUIRED INT32 decimals (INTEGER(32,false));
  REQUIRED INT32 qty_decimals (INTEGER(32,false));
",
        ),
        (
            "quote",
            "  OPTIONAL FIXED_LEN_BYTE_ARRAY (9) bid (DECIMAL(19,9));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (9) ask (DECIMAL(19,9));
  OPTIONAL INT64 bid_qty (INTEGER(64,false));
  OPTIONAL INT64 ask_qty (INTEGER(64,false));
",
        ),
        ("trade", TRADE),
    ];
    const TRADE: &str = "  OPTIONAL FIXED_LEN_BYTE_ARRAY (9) price (DECIMAL(19,9));
  OPTIONAL INT64 qty (INTEGER(64,false));
  OPTIONAL BYTE_ARRAY side (STRING);
  REQUIRED INT64 trade_id (INTEGER(64,false));
";
    let want = own.map(|(kind, own)| {
        (format!("kind={kind}"), format!("message {kind} {{\n{shared}{own}}}\n"))
    });
    assert_eq!(schemas.into_iter().collect::<Vec<_>>(), want);
}
