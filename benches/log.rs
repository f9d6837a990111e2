//! What appending a frame costs: into touched pages of a real file, beside the bare work it stands for
//! (sealing a frame and copying it), and beside pages that nobody touched.
//!
//! `cargo bench --bench log`

#![allow(missing_docs, reason = "a bench is a program")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pregao::log::{
    Log, LogConfig, Recovery, Retention, Sequence, SyncPolicy, UpstreamRule, memory::MemoryDisk,
};
use pregao::storage::FileStorage;
use pregao::time::Now;
use pregao::wire::{FRAME_BYTES, Frame, Quote, U64};

/// Frames per measured batch: 1 MiB, well within what a new segment has touched.
const FRAMES: u64 = 16_384;

fn config(segment_records: u64) -> LogConfig {
    LogConfig {
        name: *b"bench\0\0\0\0\0\0\0\0\0\0\0",
        segment_records,
        policy: SyncPolicy::None,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    }
}

fn seal(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
}

fn open(segment_records: u64) -> (tempfile::TempDir, Log<FileStorage>) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the bench needs a directory on the disk that it measures");
    let storage = FileStorage::open(directory.path(), Box::new(|| {})).expect("a new directory");
    let opened: (Log<FileStorage>, Recovery) =
        Log::open(storage, config(segment_records), Now::default()).expect("a new log");
    (directory, opened.0)
}

fn append_all(log: &mut Log<FileStorage>) {
    for _ in 0..FRAMES {
        let frame = seal(log.next_seq());
        let _ = black_box(log.append(&frame));
    }
    log.commit(Now::default());
}

fn appending(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(FRAMES));
    group.sample_size(20);
    group.bench_function("bare_seal_and_copy", |b| {
        b.iter_batched_ref(
            // As much fresh memory as the log gets, with its pages present and not in the cache.
            || vec![1_u8; 64 << 20],
            |bytes| {
                let slots = bytes.chunks_exact_mut(FRAME_BYTES);
                for (seq, slot) in (1..=FRAMES).zip(slots) {
                    slot.copy_from_slice(zerocopy::IntoBytes::as_bytes(&seal(seq)));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bare_crc_and_copy", |b| {
        // What an append cannot do without: the checksum of a frame that is there, and its copy.
        let frames: Vec<Frame> = (1..=FRAMES).map(seal).collect();
        b.iter_batched_ref(
            // As much as the new segment below has, as freshly touched.
            || vec![1_u8; FRAME_BYTES << 15],
            |bytes| {
                let slots = bytes.chunks_exact_mut(FRAME_BYTES);
                for (frame, slot) in frames.iter().zip(slots) {
                    let mut frame = *black_box(frame);
                    frame.renew_crc();
                    slot.copy_from_slice(zerocopy::IntoBytes::as_bytes(&frame));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append_with_crc", |b| {
        let frames: Vec<Frame> = (1..=FRAMES).map(seal).collect();
        b.iter_batched_ref(
            || open(1 << 15),
            |(_, log)| {
                for frame in &frames {
                    let mut frame = *black_box(frame);
                    frame.renew_crc();
                    let _ = black_box(log.append(&frame));
                }
                log.commit(Now::default());
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append_touched", |b| {
        b.iter_batched_ref(|| open(1 << 15), |(_, log)| append_all(log), BatchSize::PerIteration);
    });
    group.bench_function("append_across_a_64_mib_segment", |b| {
        #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
        b.iter_custom(|iterations| {
            let (mut directory, mut log) = open(1 << 20);
            let mut elapsed = Duration::ZERO;
            for iteration in 0..iterations {
                if iteration % 60 == 59 {
                    (directory, log) = open(1 << 20);
                }
                let start = Instant::now();
                append_all(&mut log);
                elapsed += start.elapsed();
                log.handle_completions(Now::default());
            }
            drop((log, directory));
            elapsed
        });
    });
    group.bench_function("verify", |b| {
        let disk = MemoryDisk::new(4096);
        let opened = Log::open(disk.storage(), config(1 << 15), Now::default());
        let (mut log, _) = opened.expect("a new log");
        for _ in 0..FRAMES {
            let frame = seal(log.next_seq());
            let _ = log.append(&frame);
        }
        log.close(Now::default()).expect("a disk in memory");
        drop(log);
        let reopened = Log::open(disk.storage(), config(1 << 15), Now::default());
        let (log, _) = reopened.expect("a closed log");
        b.iter(|| log.verify().len());
    });
    group.finish();
}

criterion_group!(benches, appending);
criterion_main!(benches);
