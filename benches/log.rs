//! What appending a frame costs: into touched pages of a real file, beside the bare work it stands for
//! (a checksum and a copy) into a segment of the same size that came to its pages in the same way.
//!
//! Each setup makes files and is not timed; what is timed stays within what the setup has touched, and
//! far enough from the segment's end that the log asks its thread for nothing.
//!
//! `cargo bench --bench log`

#![allow(missing_docs, reason = "a bench is a program")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pregao::log::{
    Completion, HEADER_BYTES, Log, LogConfig, Recovery, Retention, Segment, Sequence, Storage,
    SyncPolicy, UpstreamRule, memory::MemoryDisk,
};
use pregao::storage::{FileSegment, FileStorage};
use pregao::time::Now;
use pregao::wire::{FRAME_BYTES, Frame, Quote, U64};

/// Frames per measured batch: 1 MiB, well within what a new segment has touched.
const FRAMES: u64 = 16_384;

/// Records of a segment: 4 MiB, all of them touched when it is made.
const SEGMENT_RECORDS: u64 = 1 << 16;

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

fn new_storage() -> (tempfile::TempDir, FileStorage) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the bench needs a directory on the disk that it measures");
    let storage = FileStorage::open(directory.path(), Box::new(|| {})).expect("a new directory");
    (directory, storage)
}

/// A segment without a log, as a log that was just opened has its first one: made, marked, synced, and
/// touched once more, since a sync leaves the pages to be faulted in again.
fn bare_segment() -> (tempfile::TempDir, FileStorage, FileSegment) {
    let (directory, mut storage) = new_storage();
    let bytes = HEADER_BYTES + (FRAME_BYTES << SEGMENT_RECORDS.ilog2());
    storage.start_prepare(1, &[0; HEADER_BYTES], bytes);
    let Some(Completion::Prepared(Ok(mut segment))) = storage.wait_completion() else {
        panic!("no segment could be made")
    };
    segment.write(HEADER_BYTES, zerocopy::IntoBytes::as_bytes(&seal(0)));
    storage.start_sync(&segment);
    let synced = storage.wait_completion();
    assert!(matches!(synced, Some(Completion::Synced(Ok(())))), "{synced:?}");
    storage.start_touch(&segment, HEADER_BYTES, bytes - HEADER_BYTES);
    let touched = storage.wait_completion();
    assert!(matches!(touched, Some(Completion::Touched)), "{touched:?}");
    (directory, storage, segment)
}

fn open(segment_records: u64) -> (tempfile::TempDir, Log<FileStorage>) {
    let (directory, storage) = new_storage();
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
    let frames: Vec<Frame> = (1..=FRAMES).map(seal).collect();
    group.bench_function("bare_crc_and_copy", |b| {
        // What an append cannot do without: the checksum of a frame that is there, and its copy.
        b.iter_batched_ref(
            bare_segment,
            |(_, _, segment)| {
                let mut offset = HEADER_BYTES + FRAME_BYTES;
                for frame in &frames {
                    let mut frame = *black_box(frame);
                    frame.renew_crc();
                    segment.write(offset, zerocopy::IntoBytes::as_bytes(&frame));
                    offset += FRAME_BYTES;
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append_with_crc", |b| {
        b.iter_batched_ref(
            || open(SEGMENT_RECORDS),
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
    group.bench_function("append_with_seal", |b| {
        let setup = || open(SEGMENT_RECORDS);
        b.iter_batched_ref(setup, |(_, log)| append_all(log), BatchSize::PerIteration);
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
criterion_main!(pregao::planted::refuse_to_measure, benches);
