//! What a restart costs after `kill -9`: opening a log of many records, and a shard's index over it. And
//! what the log costs on disk beyond its frames.
//!
//! `cargo bench --bench reopen` (20 million records, 1.3 GB in the build directory; set
//! `PREGAO_REOPEN_RECORDS` for another number; with `-- --test` a few, as a smoke test)

#![allow(missing_docs, reason = "a bench is a program")]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use std::path::Path;
use std::time::{Duration, Instant};

use pregao::log::{AppendError, Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::market::partition::Partition;
use pregao::node::shard::{Shard, ShardConfig};
use pregao::storage::FileStorage;
use pregao::time::{Clock, Now};
use pregao::wire::{
    Definition, Frame, I64, InstrumentId, InstrumentIndex, Trade, U32, U64, padded,
};

const INSTRUMENTS: u64 = 500;

fn config() -> LogConfig {
    LogConfig {
        name: padded("shard-A"),
        segment_records: (1 << 20) - 64,
        policy: SyncPolicy::Interval(Duration::from_millis(50)),
        upstream: UpstreamRule::FollowSeq,
        sequence: Sequence::Increasing,
        retention: Retention::default(),
    }
}

fn number(index: u64) -> U32 {
    InstrumentId::new(1, InstrumentIndex::new(u32::try_from(index).expect("few instruments")))
        .into()
}

fn definition(index: u64) -> Frame {
    let symbol = format!("SHARE{index}").parse().expect("a symbol");
    let mut definition = Definition::new(number(index).into(), symbol, 2);
    definition.seq = U64::new(index + 1);
    Frame::seal(definition)
}

fn frame(seq: u64) -> Frame {
    if seq <= INSTRUMENTS {
        return definition(seq - 1);
    }
    Frame::seal(Trade {
        seq: U64::new(seq),
        instrument: number(seq.wrapping_mul(0x9E37_79B9) % INSTRUMENTS),
        ts_event: U64::new(seq * 1_000),
        price: I64::new(38_000_000_000),
        qty: U64::new(100),
        trade_id: U64::new(seq),
        ..Trade::default()
    })
}

fn open(directory: &Path, now: Now) -> (Log<FileStorage>, pregao::log::Recovery) {
    let storage = FileStorage::open(directory, Box::new(|| {})).expect("a directory");
    Log::open(storage, config(), now).expect("a log")
}

/// Fills a log as a shard does, and leaves it as a death leaves it.
fn fill(directory: &Path, records: u64, clock: Clock) {
    let statements: Vec<Frame> = (0..INSTRUMENTS).map(definition).collect();
    let (mut log, _) = open(directory, clock.now());
    log.require_checkpoints();
    for seq in 1..=records {
        let frame = frame(seq);
        loop {
            match log.append(&frame) {
                Ok(_) => break,
                Err(AppendError::CheckpointDue) => drop(log.write_checkpoint(&statements)),
                Err(AppendError::NotReady) => {
                    log.commit(clock.now());
                    log.handle_completions(clock.now());
                }
                Err(error) => panic!("{error}"),
            }
        }
        if seq.is_multiple_of(4_096) {
            log.commit(clock.now());
            log.handle_completions(clock.now());
        }
    }
    log.commit(clock.now());
    let sealed = log.positions();
    let beyond = (sealed.end - sealed.start - records) * 64;
    // The first segments are smaller, and are three.
    let headers = (records.div_ceil(config().segment_records) + 3) * 4_096;
    println!(
        "beyond the frames: {} marks and statements, {:.3} % of the bytes, headers included",
        beyond / 64,
        (beyond + headers) as f64 * 100.0 / (records * 64) as f64
    );
}

fn main() {
    pregao::planted::refuse_to_measure();
    let is_test = std::env::args().any(|argument| argument == "--test");
    let configured = std::env::var("PREGAO_REOPEN_RECORDS").ok().and_then(|it| it.parse().ok());
    let records = if is_test { 100_000 } else { configured.unwrap_or(20_000_000) };
    let clock = Clock::start();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let start = Instant::now();
    fill(directory.path(), records, clock);
    println!("{records} records written in {:.2?}", start.elapsed());
    for round in 0..if is_test { 1 } else { 5 } {
        let start = Instant::now();
        let (log, recovery) = open(directory.path(), clock.now());
        let opened = start.elapsed();
        assert!(!recovery.clean && recovery.next_seq == records + 1);
        let partition = Partition::hash(1).expect("one shard");
        let config = ShardConfig {
            name: "shard-A".to_owned(),
            shard: 0,
            partition,
            // Nobody feeds it here.
            behind_max: std::time::Duration::MAX,
        };
        let shard = Shard::new(config, log, &recovery);
        let indexed = start.elapsed();
        println!("reopen {round}: log {opened:.1?}, with the index {indexed:.1?}");
        drop(shard);
    }
}
