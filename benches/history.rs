//! What a shard's answers cost inside the process, without the wire: the last trades of one instrument, its
//! one-minute bars, those of all, and the index that they come from. The trades of 500 instruments stand
//! in the log one behind the other, as they come in life.
//!
//! `cargo bench --bench history`; `PREGAO_HISTORY_TRADES=20000000` makes it the size of PERF.md.

#![allow(missing_docs, reason = "a bench is a program")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pregao::log::{
    AppendError, Log, LogConfig, Recovery, Retention, Sequence, SyncPolicy, UpstreamRule,
};
use pregao::market::partition::Partition;
use pregao::node::shard::{Shard, ShardConfig};
use pregao::node::{ConnId, FrameInput, Node, Origin};
use pregao::random::Random;
use pregao::storage::FileStorage;
use pregao::time::Now;
use pregao::wire::{
    Definition, Ended, Frame, I64, InstrumentId, InstrumentIndex, Op, Query, Role, Session, Trade,
    U32, U64, as_frames, padded,
};

const INSTRUMENTS: u32 = 500;
/// 2026-07-14T13:00:00Z
const OPENING: u64 = 1_784_034_000_000_000_000;
/// Eight hours of trading.
const SPAN_NS: u64 = 8 * 3_600_000_000_000;

fn trades() -> u64 {
    std::env::var("PREGAO_HISTORY_TRADES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1 << 18)
}

fn config() -> LogConfig {
    LogConfig {
        name: *b"shard-A\0\0\0\0\0\0\0\0\0",
        segment_records: (64 << 20) / 64,
        policy: SyncPolicy::None,
        upstream: UpstreamRule::FollowSeq,
        sequence: Sequence::Increasing,
        retention: Retention::default(),
    }
}

fn open(directory: &Path) -> (Log<FileStorage>, Recovery) {
    let storage = FileStorage::open(directory, Box::new(|| {})).expect("a directory of our own");
    Log::open(storage, config(), Now::default()).expect("a log of our own")
}

fn append(log: &mut Log<FileStorage>, frame: &Frame) {
    loop {
        match log.append(frame) {
            Ok(_) => return,
            Err(AppendError::NotReady) => {
                log.commit(Now::default());
                log.handle_completions(Now::default());
                std::thread::yield_now();
            }
            Err(error) => panic!("the bench's log is full: {error}"),
        }
    }
}

/// Makes a log as a day of trading leaves it.
fn fill(directory: &Path, trades: u64) {
    let (mut log, _) = open(directory);
    let mut random = Random::new(11);
    let mut prices = vec![20_000_000_000_i64; INSTRUMENTS as usize];
    for index in 0..INSTRUMENTS {
        let symbol = format!("SYM{index:03}").parse().expect("a symbol");
        let definition =
            Definition::new(InstrumentId::new(1, InstrumentIndex::new(index)), symbol, 2);
        let seq = U64::new(u64::from(index) + 1);
        append(&mut log, &Frame::seal(Definition { seq, ..definition }));
    }
    for n in 0..trades {
        let index = random.below(u64::from(INSTRUMENTS));
        let price = &mut prices[usize::try_from(index).expect("small")];
        *price += (i64::try_from(random.below(3)).expect("small") - 1) * 10_000_000;
        let ts = OPENING
            + u64::try_from(u128::from(SPAN_NS) * u128::from(n) / u128::from(trades))
                .expect("within");
        append(
            &mut log,
            &Frame::seal(Trade {
                instrument: InstrumentId::new(
                    1,
                    InstrumentIndex::new(u32::try_from(index).expect("small")),
                )
                .into(),
                seq: U64::new(u64::from(INSTRUMENTS) + 1 + n),
                ts_event: U64::new(ts),
                ts_recv: U64::new(ts + 50_000),
                price: I64::new(*price),
                qty: U64::new((1 + random.below(20)) * 100),
                trade_id: U64::new(n + 1),
                ..Trade::default()
            }),
        );
        if n % 4096 == 0 {
            log.commit(Now::default());
            log.handle_completions(Now::default());
        }
    }
    log.close(Now::default()).expect("a disk that can be synced");
}

fn shard(directory: &Path) -> Shard<FileStorage> {
    let (log, recovery) = open(directory);
    let partition = Partition::hash(1).expect("one part");
    Shard::new(
        ShardConfig {
            name: "shard-A".to_owned(),
            shard: 0,
            partition,
            // Nobody feeds it here.
            behind_max: std::time::Duration::MAX,
        },
        log,
        &recovery,
    )
}

const ASKER: ConnId = ConnId { generation: 1, slot: 0 };

fn query_client(shard: &mut Shard<FileStorage>) {
    shard.handle_open(Now::default(), ASKER, Origin::LOCAL);
    let role = Role::Querier as u8;
    let session = Frame::seal(Session { role, ..Session::default() });
    shard.handle_frames(Now::default(), ASKER, &[session]);
    let greeting = shard.outgoing(Now::default(), ASKER).len();
    shard.handle_sent(Now::default(), ASKER, greeting);
}

/// Asks, takes the whole answer, and says how many rows it had.
fn ask(shard: &mut Shard<FileStorage>, op: Op, symbol: &str, limit: u32) -> u32 {
    let now = Now::default();
    let query = Query {
        id: U32::new(1),
        op: op as u8,
        limit: U32::new(limit),
        symbol: padded(symbol),
        to: U64::new(u64::MAX),
        ..Query::default()
    };
    shard.handle_frames(now, ASKER, &[Frame::seal(query)]);
    loop {
        let outgoing = shard.outgoing(now, ASKER);
        let (taken, end) = (outgoing.len(), as_frames(outgoing.head).0.last().copied());
        if taken == 0 {
            // What this turn may spend is spent: the rest has its part of the next one.
            shard.handle_mail(now);
            shard.handle_timers(now);
            while shard.poll_bulk().is_some() {}
        }
        shard.handle_sent(now, ASKER, black_box(taken));
        if let Some(end) = end.as_ref().and_then(|frame| frame.view::<Ended>()) {
            return end.rows.get();
        }
    }
}

fn history(c: &mut Criterion) {
    let trades = trades();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the bench needs a directory on the disk that it measures");
    fill(directory.path(), trades);
    let mut group = c.benchmark_group("history");
    group.sample_size(10);
    group.throughput(Throughput::Elements(trades));
    group.bench_function("reopen_and_index", |b| b.iter(|| shard(directory.path())));
    let mut shard = shard(directory.path());
    query_client(&mut shard);
    group.bench_function("bars_1m_of_all", |b| b.iter(|| ask(&mut shard, Op::Bars, "*", 60)));
    group.bench_function("count_of_all", |b| b.iter(|| ask(&mut shard, Op::Count, "*", 0)));
    group.throughput(Throughput::Elements(trades / u64::from(INSTRUMENTS)));
    group.bench_function("bars_1m_of_one", |b| b.iter(|| ask(&mut shard, Op::Bars, "SYM123", 60)));
    group.bench_function("range_of_one", |b| b.iter(|| ask(&mut shard, Op::Range, "SYM123", 0)));
    group.throughput(Throughput::Elements(10));
    group.bench_function("last_10_of_one", |b| b.iter(|| ask(&mut shard, Op::Last, "SYM123", 10)));
    group.finish();
}

criterion_group!(benches, history);
criterion_main!(pregao::planted::refuse_to_measure, benches);
