//! What one frame costs: to check in place as the reactor hands it over, and to seal.
//!
//! Beside it the same quote as JSON text, the way the system that this one replaces sends it, parsed
//! into and written from a typed struct in the same run. Batches of 1,024 frames stand one behind the
//! other as in a read buffer, so that the figures contain the walk over the buffer and no call per
//! frame. Before anything is measured the two forms are shown to carry the same values.

#![allow(missing_docs, reason = "criterion_main! makes a main without a comment")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pregao::wire::{
    FRAME_BYTES, Frame, I64, InstrumentId, InstrumentIndex, Quote, Size, U64, as_frames,
};
use serde::{Deserialize, Serialize};

/// Frames of one batch: what a full gather buffer holds.
const BATCH: usize = 1024;

/// A quote as JSON text.
const JSON: &str = r#"{"symbol":"PETR4","price":38.42,"bid":38.41,"ask":38.43,"volume":1200,"timestamp":"2026-07-14T13:07:19.126Z"}"#;

/// The same, typed. The symbol and the time stay text that is borrowed: as cheap as JSON can be.
#[derive(Deserialize, Serialize)]
struct JsonQuote<'a> {
    symbol: &'a str,
    price: f64,
    bid: f64,
    ask: f64,
    volume: u64,
    timestamp: &'a str,
}

/// The same quote as a message; the numbers differ from frame to frame as in a real feed.
fn quote(seq: u64) -> Quote {
    Quote {
        instrument: InstrumentId::new(1, InstrumentIndex::new(7)).into(),
        seq: U64::new(seq),
        ts_event: U64::new(1_784_034_439_126_000_000 + seq),
        ts_recv: U64::new(1_784_034_439_126_050_000 + seq),
        bid: I64::new(38_410_000_000),
        ask: I64::new(38_430_000_000),
        bid_qty: Size::new(1_200),
        ask_qty: Size::new(900),
        ..Quote::default()
    }
}

/// A read buffer full of quotes.
fn buffer() -> Vec<u8> {
    let frames: Vec<Frame> = (1..).take(BATCH).map(|seq| Frame::seal(quote(seq))).collect();
    zerocopy::IntoBytes::as_bytes(frames.as_slice()).to_vec()
}

/// Sums a field of every frame that passes `check`, so that each is really looked at.
fn walk(bytes: &[u8], check: impl Fn(&Frame) -> bool) -> (usize, i64) {
    let (frames, _) = as_frames(bytes);
    let mut good = 0;
    let mut bids = 0_i64;
    for frame in frames {
        if check(frame)
            && let Some(quote) = frame.view::<Quote>()
        {
            good += 1;
            bids = bids.wrapping_add(quote.bid.get());
        }
    }
    (good, bids)
}

fn decode(c: &mut Criterion) {
    let bytes = buffer();
    assert_eq!(bytes.len(), BATCH * FRAME_BYTES);
    assert_eq!(walk(&bytes, |frame| frame.check().is_ok()).0, BATCH, "all are good");
    let mut group = c.benchmark_group("frame/decode");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("header", |b| {
        b.iter(|| walk(black_box(&bytes), |frame| frame.check_header().is_ok()));
    });
    group.bench_function("header_and_crc", |b| {
        b.iter(|| walk(black_box(&bytes), |frame| frame.check().is_ok()));
    });
    let parsed: JsonQuote = serde_json::from_str(JSON).expect("the text is JSON");
    #[allow(clippy::cast_possible_truncation, reason = "two decimals")]
    let bid = (parsed.bid * 1e9).round() as i64;
    assert_eq!(bid, quote(1).bid.get(), "both forms say the same");
    group.bench_function("serde_json", |b| {
        b.iter(|| {
            let mut bids = 0.0;
            for _ in 0..BATCH {
                if let Ok(quote) = serde_json::from_slice::<JsonQuote>(black_box(JSON.as_bytes())) {
                    bids += quote.bid;
                    black_box(quote);
                }
            }
            bids
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let quotes: Vec<Quote> = (1..).take(BATCH).map(quote).collect();
    let mut group = c.benchmark_group("frame/encode");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut sealed = vec![Frame::ZERO; BATCH];
    group.bench_function("seal", |b| {
        b.iter(|| {
            for (place, quote) in sealed.iter_mut().zip(black_box(&quotes)) {
                *place = Frame::seal(*quote);
            }
            black_box(&mut sealed);
        });
    });
    assert!(sealed.iter().all(|frame| frame.check().is_ok()));
    let quote: JsonQuote = serde_json::from_str(JSON).expect("the text is JSON");
    assert_eq!(serde_json::to_string(&quote).expect("it is plain data"), JSON);
    let mut text = Vec::with_capacity(BATCH * JSON.len());
    group.bench_function("serde_json", |b| {
        b.iter(|| {
            text.clear();
            for _ in 0..BATCH {
                serde_json::to_writer(&mut text, black_box(&quote)).expect("a Vec takes it all");
            }
            black_box(&mut text);
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(pregao::planted::refuse_to_measure, benches);
