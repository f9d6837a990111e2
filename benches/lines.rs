//! What one line of text costs: CSV, JSON and line protocol, read into records.
//!
//! Beside it, in the same run, the same lines read by the crates that most programs use, into numbers that are floats: `csv` and
//! `serde_json`. Of line protocol there is no such crate among the dependencies.

#![allow(missing_docs, reason = "criterion_main! makes a main without a comment")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pregao::market::lines::{LineFormat, LineOptions, Lines, RecordBody};
use serde::Deserialize;

const LINES: u64 = 1024;
const AT: u64 = 1_784_034_439_126_000_000;

/// A trade as most programs have it.
#[derive(Deserialize)]
struct Trade<'a> {
    symbol: &'a str,
    ts_event: u64,
    price: f64,
    qty: f64,
    side: &'a str,
    trade_id: u64,
}

fn text(header: &str, line: impl Fn(u64) -> String) -> String {
    let lines: String = (0..LINES).map(|number| format!("{}\n", line(number))).collect();
    format!("{header}{lines}")
}

fn csv_text() -> String {
    text("symbol,ts_event,price,qty,side,trade_id\n", |number| {
        format!("BTC-USD,{},39269.{number:04},0.00012345,sell,{number}", AT + number)
    })
}

fn json_text() -> String {
    text("", |number| {
        format!(
            r#"{{"symbol":"BTC-USD","ts_event":{},"price":39269.{number:04},"qty":0.00012345,"side":"sell","trade_id":{number}}}"#,
            AT + number
        )
    })
}

fn ilp_text() -> String {
    text("", |number| {
        format!(
            "trades,symbol=BTC-USD,side=sell price=39269.{number:04},amount=0.00012345,id={number}i {}",
            AT + number
        )
    })
}

/// Reads all lines, and looks at each record.
fn records(format: LineFormat, text: &str) -> (u64, i64) {
    let mut lines = Lines::new(format, LineOptions::default());
    let (mut count, mut sum) = (0, 0_i64);
    for line in text.as_bytes().split_inclusive(|byte| *byte == b'\n') {
        if let Ok(Some(record)) = lines.take(line)
            && let RecordBody::Trade { price, .. } = record.body
        {
            count += 1;
            sum = sum.wrapping_add(price.0);
        }
    }
    (count, sum)
}

fn look(trade: &Trade<'_>) -> f64 {
    black_box((trade.symbol, trade.ts_event, trade.qty, trade.side, trade.trade_id));
    trade.price
}

fn csv_crate(text: &str) -> f64 {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().cloned().unwrap_or_default();
    let mut record = csv::StringRecord::new();
    let mut sum = 0.0;
    while reader.read_record(&mut record).is_ok_and(|is_one| is_one) {
        sum += record.deserialize::<Trade<'_>>(Some(&header)).map_or(0.0, |trade| look(&trade));
    }
    sum
}

fn json_crate(text: &str) -> f64 {
    let trades = text.lines().map(serde_json::from_str::<Trade<'_>>);
    trades.map(|trade| trade.map_or(0.0, |trade| look(&trade))).sum()
}

fn bench(criterion: &mut Criterion) {
    let (csv, json, ilp) = (csv_text(), json_text(), ilp_text());
    // All of them are read, and are the same.
    let all = records(LineFormat::Csv, &csv);
    assert_eq!(all.0, LINES);
    assert_eq!(all, records(LineFormat::Json, &json));
    assert_eq!(all, records(LineFormat::Ilp, &ilp));
    assert!((csv_crate(&csv) - json_crate(&json)).abs() < 1.0 && json_crate(&json) > 1e6);
    let mut group = criterion.benchmark_group("lines");
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("ilp", |b| b.iter(|| records(LineFormat::Ilp, black_box(&ilp))));
    group.bench_function("csv", |b| b.iter(|| records(LineFormat::Csv, black_box(&csv))));
    group.bench_function("csv crate, floats", |b| b.iter(|| csv_crate(black_box(&csv))));
    group.bench_function("json", |b| b.iter(|| records(LineFormat::Json, black_box(&json))));
    group.bench_function("serde_json, floats", |b| b.iter(|| json_crate(black_box(&json))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(pregao::planted::refuse_to_measure, benches);
