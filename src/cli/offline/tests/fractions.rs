//! Quantities of fractions: without a digit lost in every form that a log is shown in.

use super::*;
use crate::wire::InstrumentId;

/// A coin with units of 1e-8, a token with units of 0.1, and a share.
fn log_of_fractions() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "core");
    let instrument = |index: u32| InstrumentId::from(U32::new(index));
    let names = [(1, "BTC", 8), (2, "TOKEN", 1), (3, "PETR4", 0)];
    for (index, symbol, decimals) in names {
        let definition = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
        let definition = definition.with_quantity_decimals(decimals);
        append(&mut log, &Frame::seal(Definition { seq: U64::new(index.into()), ..definition }));
    }
    let units = [(1, 12_345), (2, 12_500_000_000_005), (3, 300)];
    for (seq, (index, units)) in (4..).step_by(2).zip(units) {
        let (seq, behind, instrument) = (U64::new(seq), U64::new(seq + 1), U32::new(index));
        let trade = Trade { seq, instrument, qty: U64::new(units), ..Trade::default() };
        append(&mut log, &Frame::seal(trade));
        let (bid_qty, ask_qty) = (Size::new(units), Size::default());
        let quote = Quote { seq: behind, instrument, bid_qty, ask_qty, ..Quote::default() };
        append(&mut log, &Frame::seal(quote));
    }
    log.close(NOW).unwrap();
    dir
}

#[test]
fn a_dump_shows_every_digit() {
    let dir = log_of_fractions();
    let (_, lines) = dump(selected(dir.path()), DumpFormat::Json);
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    for exact in [
        r#""qty":0.00012345,"qty_text":"0.00012345""#,
        r#""bid_qty":0.00012345,"bid_qty_text":"0.00012345","ask_qty":0,"ask_qty_text":"0""#,
        r#""qty":1250000000000.5,"qty_text":"1250000000000.5""#,
        // Eight digits at least: of the size of a quote these are left.
        r#""bid_qty":1250000000000,"bid_qty_text":"1250000000000""#,
        r#""qty":300,"qty_text":"300""#,
    ] {
        assert!(has(exact), "{exact} in {lines:?}");
    }
    let (_, lines) = dump(selected(dir.path()), DumpFormat::Csv);
    assert!(lines.iter().any(|line| line.contains(",0.00012345,")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(",1250000000000.5,")), "{lines:?}");
    let kinds = vec![<Rows as clap::ValueEnum>::from_str("definition", false).unwrap()];
    let (_, lines) = dump(Selected { kinds, ..selected(dir.path()) }, DumpFormat::Table);
    assert_eq!(lines[0].trim(), "define BTC, 2 decimals, 8 of quantities");
    assert_eq!(lines[2].trim(), "define PETR4, 2 decimals");
}

#[test]
fn an_export_as_csv_has_every_digit() {
    let (dir, out) = (log_of_fractions(), tempfile::tempdir().unwrap());
    export(selected(dir.path()), ExportFormat::Csv, out.path(), false).unwrap();
    let all: String =
        files(out.path()).into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    for exact in [",0.00012345,", ",1250000000000.5,", ",300,"] {
        assert!(all.contains(exact), "{exact} in {all}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn an_export_as_parquet_has_every_digit() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    let (dir, out) = (log_of_fractions(), tempfile::tempdir().unwrap());
    export(selected(dir.path()), ExportFormat::Parquet, out.path(), false).unwrap();
    let mut found = Vec::new();
    for (name, bytes) in files(out.path()) {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let columns = row.get_column_iter();
            let columns =
                columns.filter(|(column, _)| matches!(column.as_str(), "qty" | "bid_qty"));
            let symbol = name.split("symbol=").nth(1).unwrap().split('/').next().unwrap();
            found.extend(columns.map(|(column, it)| format!("{symbol} {column} {it}")));
        }
    }
    found.sort();
    let want = [
        "BTC bid_qty 0.00012345",
        "BTC qty 0.00012345",
        "PETR4 bid_qty 300",
        "PETR4 qty 300",
        "TOKEN bid_qty 1250000000000.0",
        "TOKEN qty 1250000000000.5",
    ];
    assert_eq!(found, want);
}
