//! Every crash point of small workloads, recovery and close included, with each dirty page old, new,
//! or torn. The story they guard against: a recovery that is interrupted, or a page written before an
//! older one, makes a log that opens without complaint and lacks what was acknowledged.

use proptest::prelude::*;

use super::memory::{MemoryDisk, PageFate};
use super::tests::{MemoryLog, append, at, contents, frame, journal, open, shard};
use super::*;

/// Crash images per crash point: all of them where that is few, else this many drawn ones.
const IMAGES_MAX: u64 = 16;

/// What had been promised when the disk was in a state of the history up to `states`.
struct Promise {
    states: usize,
    durable_seq: u64,
    epoch: u32,
}

/// Splitmix64, by Sebastiano Vigna (public domain): draws the images of large crash points.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fate(number: u64) -> PageFate {
    [PageFate::Old, PageFate::New, PageFate::TornFront, PageFate::TornBack][(number % 4) as usize]
}

/// Calls `check` with disks as a loss of power here would leave them.
fn crash_images(disk: &MemoryDisk, seed: u64, mut check: impl FnMut(MemoryDisk)) {
    for jobs_done in 0..=disk.jobs() {
        let dirty = disk.dirty_pages().len();
        let all = u32::try_from(dirty).ok().and_then(|dirty| 4_u64.checked_pow(dirty));
        let (images, drawn) = match all {
            Some(all) if all <= IMAGES_MAX => (all, false),
            _ => (IMAGES_MAX, true),
        };
        for image in 0..images {
            let mut digits = image;
            let mut page = 0;
            check(disk.crash(jobs_done, |_, _| {
                page += 1;
                let digit = if drawn { mix(mix(seed + image) + page) } else { digits };
                digits /= 4;
                fate(digit)
            }));
        }
    }
    check(disk.kill());
}

/// The frames of the workload: each 5th is local.
fn is_local(seq: u64) -> bool {
    seq.is_multiple_of(5)
}

/// The upstream number wanted after the frames below `next_seq`.
fn upstream_after(next_seq: u64) -> u64 {
    1 + (1..next_seq).filter(|seq| !is_local(*seq)).count() as u64
}

/// Opens a crashed disk, and holds the log against what was promised and what was ever appended.
fn recovers(disk: &MemoryDisk, config: LogConfig, promise: &Promise, last_seq: u64) -> Recovery {
    let (log, recovery) = open(disk, config);
    assert_eq!(recovery.damaged, [], "a crash is not rot");
    assert_eq!(recovery.skipped_segments, Vec::<u64>::new());
    let next_seq = recovery.next_seq;
    assert!(next_seq >= promise.durable_seq, "{next_seq}: {} was promised", promise.durable_seq);
    assert!(next_seq <= last_seq + 1, "{next_seq}: never appended");
    assert!(recovery.epoch >= promise.epoch, "an epoch that was used is forgotten");
    assert_eq!(recovery.upstream_seq, upstream_after(next_seq), "at seq {next_seq}");
    let epoch_id = if recovery.epoch == 0 { 0 } else { 99 + u64::from(recovery.epoch) };
    assert_eq!(log.epoch_id(), epoch_id, "the identity of epoch {}", recovery.epoch);
    assert_eq!(contents(&log), ((1..next_seq).collect(), vec![]));
    recovery
}

/// A life of a log: open, epoch, turns of some frames, and perhaps a close.
fn live(
    disk: &MemoryDisk,
    config: LogConfig,
    turns: &[u64],
    close: bool,
    promises: &mut Vec<Promise>,
) -> MemoryLog {
    let mut promise = |log: &MemoryLog| {
        promises.push(Promise {
            states: disk.history_len(),
            durable_seq: log.durable_seq(),
            epoch: log.epoch(),
        });
    };
    let (mut log, recovery) = open(disk, config);
    promise(&log);
    if !recovery.clean {
        log.begin_epoch(NewEpoch::of(100 + u64::from(log.epoch())), at(0)).unwrap();
        promise(&log);
    }
    for frames in turns {
        log.handle_completions(at(1));
        promise(&log);
        for _ in 0..*frames {
            let seq = log.next_seq();
            if is_local(seq) {
                while log.append_entry(LogEntry::LocalEvent(&frame(seq)))
                    == Err(AppendError::NotReady)
                {
                    log.commit(at(1));
                    log.handle_completions(at(1));
                }
            } else {
                append(&mut log, &frame(seq));
            }
        }
        log.commit(at(1));
    }
    if close {
        log.close(at(1)).unwrap();
        promise(&log);
    }
    log
}

/// Crashes at every point of two lives, and recovers; and at some of these points crashes the recovery
/// as well, at every one of its points.
fn every_crash_point(config: LogConfig, turns: &[u64], close: bool, page_bytes: usize) -> usize {
    let disk = MemoryDisk::new(page_bytes);
    disk.record_history();
    let mut promises = vec![Promise { states: 0, durable_seq: 1, epoch: 0 }];
    drop(live(&disk, config, turns, close, &mut promises));
    drop(live(&disk, config, turns, false, &mut promises));
    let last_seq = 2 * turns.iter().sum::<u64>();
    let mut images = 0;
    for (index, state) in disk.history().iter().enumerate() {
        // The state with this index existed before a promise that was made with as many states.
        let kept = promises.iter().rfind(|promise| promise.states <= index).unwrap();
        crash_images(state, index as u64, |crashed| {
            images += 1;
            let nested = images % 101 == 0;
            if nested {
                crashed.record_history();
            }
            let first = recovers(&crashed, config, kept, last_seq);
            let second = recovers(&crashed, config, kept, last_seq);
            assert_eq!(second.next_seq, first.next_seq, "the second open found something else");
            assert!(!second.clean && second.cut_records == 0);
            for (index, state) in crashed.history().iter().enumerate() {
                crash_images(state, index as u64, |crashed_again| {
                    images += 1;
                    let recovered = recovers(&crashed_again, config, kept, last_seq);
                    assert!(recovered.next_seq <= first.next_seq);
                });
            }
        });
    }
    images
}

#[test]
fn every_crash_point_of_two_lives_across_segments() {
    for (policy, page_bytes) in
        [(SyncPolicy::Batch, 128), (SyncPolicy::Batch, 4096), (SyncPolicy::None, 128)]
    {
        let config = LogConfig { policy, ..journal(8) };
        let images = every_crash_point(config, &[1, 2, 1, 3, 4, 2], false, page_bytes);
        assert!(images > 1_000, "{images}");
    }
}

#[test]
fn every_crash_point_of_a_life_after_a_clean_close() {
    let images = every_crash_point(journal(8), &[3, 1, 5], true, 192);
    assert!(images > 1_000, "{images}");
}

#[test]
fn a_shard_recovers_a_true_prefix_from_every_crash_point() {
    let disk = MemoryDisk::new(128);
    disk.record_history();
    let (mut log, _) = open(&disk, shard(8));
    // What is live after each step; a crash has to leave one of these.
    let mut steps: Vec<Vec<u64>> = vec![vec![]];
    let (mut live, mut epoch) = (Vec::new(), 0);
    for (start, frames) in [(1, vec![2, 3, 7]), (5, vec![5, 6, 8]), (8, vec![9, 12, 13])] {
        epoch += 1;
        while log.follow_epoch((epoch, 70 + u64::from(epoch)), start, at(0))
            == Err(AppendError::NotReady)
        {
            log.commit(at(0));
            log.handle_completions(at(0));
        }
        live.retain(|seq| *seq < start);
        steps.push(live.clone());
        for seq in frames {
            append(&mut log, &frame(seq));
            live.push(seq);
            steps.push(live.clone());
            log.commit(at(0));
            log.handle_completions(at(0));
        }
    }
    for (index, state) in disk.history().iter().enumerate() {
        crash_images(state, index as u64, |crashed| {
            let (log, recovery) = open(&crashed, shard(8));
            let found = contents(&log).0;
            assert!(steps.contains(&found), "{found:?} never was");
            let last = found.last().copied().unwrap_or(0);
            assert!(recovery.upstream_seq > last, "{recovery:?}");
            drop(log);
            let (log, _) = open(&crashed, shard(8));
            assert_eq!(contents(&log).0, found);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

    #[test]
    fn any_lives_of_any_log_survive_any_loss_of_power(
        segment_records in 4_u64..12,
        page_bytes in prop::sample::select(vec![64_usize, 128, 192, 512, 4096]),
        lives in prop::collection::vec(prop::collection::vec(1_u64..6, 0..6), 1..5),
        fates in any::<u64>(),
        batch in any::<bool>(),
    ) {
        let policy = if batch { SyncPolicy::Batch } else { SyncPolicy::None };
        let config = LogConfig { policy, ..journal(segment_records) };
        let mut disk = MemoryDisk::new(page_bytes);
        let mut next_seq = 1;
        let mut epoch = 0;
        for (index, turns) in lives.iter().enumerate() {
            let mut promises = Vec::new();
            let log = live(&disk, config, turns, false, &mut promises);
            let kept = promises.last().unwrap();
            let last_seq = next_seq - 1 + turns.iter().sum::<u64>();
            let jobs_done = usize::try_from(mix(fates + index as u64) % 3).unwrap();
            let mut page = 0;
            disk = disk.crash(jobs_done, |_, _| {
                page += 1;
                fate(mix(mix(fates ^ index as u64) + page))
            });
            // Only now: a log that is dropped ends its jobs, and a loss of power lets it not.
            drop(log);
            let recovery = recovers(&disk, config, kept, last_seq);
            prop_assert!(recovery.epoch > epoch || recovery.fresh);
            (next_seq, epoch) = (recovery.next_seq, recovery.epoch);
        }
    }
}
