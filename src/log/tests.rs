//! The log on a disk in memory: what it promises while nothing, or one thing, goes wrong.

#![allow(clippy::single_range_in_vec_init, reason = "lists of damaged ranges often have one")]

use std::time::Duration;

use proptest::prelude::*;

use super::memory::{MemoryDisk, MemoryStorage};
use super::*;
use crate::time::{Mono, Now};
use crate::wire::{Definition, Frame, Quote, U64};

pub(super) const NAME: [u8; 16] = *b"journal\0\0\0\0\0\0\0\0\0";

pub(super) type MemoryLog = Log<MemoryStorage>;

pub(super) fn at(millis: u64) -> Now {
    let ns = millis * 1_000_000;
    Now { mono: Mono(ns), wall_ns: 1_700_000_000_000_000_000 + ns }
}

pub(super) fn journal(segment_records: u64) -> LogConfig {
    LogConfig {
        name: NAME,
        segment_records,
        policy: SyncPolicy::Batch,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    }
}

pub(super) fn shard(segment_records: u64) -> LogConfig {
    LogConfig {
        upstream: UpstreamRule::FollowSeq,
        sequence: Sequence::Increasing,
        ..journal(segment_records)
    }
}

pub(super) fn frame(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ts_event: U64::new(seq * 10), ..Quote::default() })
}

pub(super) fn open(disk: &MemoryDisk, config: LogConfig) -> (MemoryLog, Recovery) {
    Log::open(disk.storage(), config, at(0)).unwrap()
}

/// Appends as a node does: a turn that has to wait commits, and tries again in the next turn.
pub(super) fn append(log: &mut MemoryLog, frame: &Frame) {
    for _ in 0..8 {
        match log.append(frame) {
            Ok(_) => return,
            Err(AppendError::NotReady) => {
                log.commit(at(1));
                log.handle_completions(at(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the log never became ready");
}

pub(super) fn turn(log: &mut MemoryLog, frames: impl IntoIterator<Item = u64>) {
    log.handle_completions(at(1));
    for seq in frames {
        append(log, &frame(seq));
    }
    log.commit(at(1));
}

/// The seqs of all live data frames, and the damaged positions.
pub(super) fn contents<S: Storage>(log: &Log<S>) -> (Vec<u64>, Vec<u64>) {
    let (mut seqs, mut damaged) = (Vec::new(), Vec::new());
    let mut position = log.first_position();
    loop {
        match log.read(position, 3) {
            Read::Frames(frames) => {
                for frame in frames {
                    let live = frame.seq.get() < log.void_from(position);
                    if frame.kind().is_some_and(crate::wire::Kind::is_data) && live {
                        seqs.push(frame.seq.get());
                    }
                    position += 1;
                }
            }
            Read::Damaged(range) => {
                position = range.end;
                damaged.extend(range);
            }
            Read::End => return (seqs, damaged),
        }
    }
}

#[test]
fn what_was_appended_is_read_across_many_segments() {
    let disk = MemoryDisk::new(4096);
    let (mut log, recovery) = open(&disk, journal(8));
    assert!(recovery.fresh && !recovery.clean);
    assert_eq!(log.begin_epoch(NewEpoch::of(7), at(0)), Ok(1));
    for seq in 1..=100 {
        turn(&mut log, [seq]);
    }
    assert_eq!(contents(&log), ((1..=100).collect(), vec![]));
    assert!(disk.numbers().len() > 12, "{:?}", disk.numbers());
    assert_eq!(log.next_seq(), 101);
    assert_eq!(log.upstream(), (0, 101));
    assert_eq!(log.verify(), []);
}

#[test]
fn appended_frames_are_invisible_before_the_commit() {
    let (mut log, _) = open(&MemoryDisk::new(4096), journal(8));
    let position = log.append(&frame(1)).unwrap();
    assert_eq!(log.read(position, 1), Read::End);
    log.commit(at(0));
    assert_eq!(log.read(position, 9), Read::Frames(&[frame(1)]));
}

#[test]
fn only_a_close_makes_the_next_open_clean() {
    let disk = MemoryDisk::new(4096);
    let (mut log, recovery) = open(&disk, journal(8));
    assert!(!recovery.clean);
    log.begin_epoch(NewEpoch::of(7), at(0)).unwrap();
    turn(&mut log, 1..=9);
    log.close(at(2)).unwrap();
    assert_eq!(log.append(&frame(10)), Err(AppendError::Closed));
    assert_eq!(log.durable_seq(), 10);
    drop(log);

    let (log, recovery) = open(&disk, journal(8));
    assert!(recovery.clean && !recovery.fresh);
    assert_eq!((recovery.epoch, recovery.next_seq, recovery.upstream_seq), (1, 10, 10));
    drop(log);

    // Opened and not closed: unclean, twice over, though nothing was appended.
    for _ in 0..2 {
        let (log, recovery) = open(&disk, journal(8));
        assert!(!recovery.clean);
        assert_eq!((recovery.epoch, recovery.next_seq, recovery.cut_records), (1, 10, 0));
        assert_eq!(contents(&log).0, (1..=9).collect::<Vec<_>>());
    }
}

#[test]
fn a_published_frame_that_the_power_took_leaves_no_clean_log() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    turn(&mut log, 1..=2);
    log.close(at(0)).unwrap();
    drop(log);
    let (mut log, recovery) = open(&disk, LogConfig { policy: SyncPolicy::None, ..journal(8) });
    assert!(recovery.clean, "{recovery:?}");
    turn(&mut log, [3]);
    // Without the durable Open mark the last record would be the Close mark again.
    let (_, recovery) = open(&disk.crash(0, |_, _| memory::PageFate::Old), journal(8));
    assert!(!recovery.clean);
    assert_eq!(recovery.next_seq, 3);
}

#[test]
fn a_sequence_error_of_the_caller_changes_nothing() {
    let (mut log, _) = open(&MemoryDisk::new(4096), journal(8));
    let refused = AppendError::OutOfOrder { next_seq: 1, epoch: 0 };
    assert_eq!(log.append(&frame(2)), Err(refused));
    assert_eq!(log.append(&frame(0)), Err(refused));
    assert_eq!(log.append(&Frame::seal(Mark::default())), Err(AppendError::NotData(16)));
    // An empty symbol is malformed: recovery would take the frame for damage.
    let nameless = Frame::seal(Definition { seq: U64::new(1), ..Definition::default() });
    assert_eq!(log.append(&nameless), Err(AppendError::NotData(1)));
    assert!(log.append(&frame(1)).is_ok());
    assert_eq!(log.append(&frame(1)), Err(AppendError::OutOfOrder { next_seq: 2, epoch: 0 }));
}

#[test]
fn local_frames_consume_no_upstream_number() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    log.set_upstream(77, 500, at(0)).unwrap();
    turn(&mut log, [1, 2]);
    log.append_entry(LogEntry::LocalEvent(&frame(3))).unwrap();
    turn(&mut log, [4]);
    assert_eq!(log.upstream(), (77, 503));
    let before = log.committed_position();
    log.set_upstream(77, 503, at(0)).unwrap();
    assert_eq!(log.committed_position(), before, "a mark without news");
    drop(log);
    let (_, recovery) = open(&disk, journal(64));
    assert_eq!((recovery.upstream_feed, recovery.upstream_seq), (77, 503));
    assert_eq!(recovery.next_seq, 5);
}

#[test]
fn what_upstream_skipped_is_durable_only_when_the_log_says_so() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, shard(64));
    turn(&mut log, [3, 9]);
    assert_eq!(log.upstream().1, 10);
    log.advance_upstream(40, at(2)).unwrap();
    log.commit(at(2));
    assert_eq!((log.upstream().1, log.durable_upstream_seq().get()), (40, 1));
    for _ in 0..3 {
        log.handle_completions(at(2));
    }
    assert_eq!(log.durable_upstream_seq().get(), 40, "nothing of ours is missing below 40");
    let position = log.committed_position();
    log.advance_upstream(40, at(2)).unwrap();
    log.commit(at(2));
    assert_eq!(log.committed_position(), position, "a mark without news");
    drop(log);
    // It was reported to upstream, which may have thrown away what is below it.
    let (mut log, recovery) = open(&disk.crash(0, |_, _| memory::PageFate::Old), shard(64));
    assert_eq!(recovery.upstream_seq, 40);
    turn(&mut log, [41]);
    assert_eq!(log.durable_upstream_seq().get(), 40, "the new frame is not durable");
}

#[test]
fn frames_of_an_epoch_that_never_happened_are_void() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, shard(8));
    assert_eq!(log.follow_epoch((1, 71), 1, at(0)), Ok(None));
    turn(&mut log, [1, 3, 9, 12, 14]);
    assert_eq!(log.follow_epoch((2, 72), 10, at(0)), Ok(Some(10)));
    assert_eq!(log.upstream().1, 10);
    assert!(log.follow_epoch((2, 72), 10, at(0)).is_err());
    turn(&mut log, [11, 13]);
    assert_eq!(contents(&log).0, [1, 3, 9, 11, 13]);
    drop(log);
    let (mut log, recovery) = open(&disk, shard(8));
    assert_eq!((recovery.epoch, recovery.epoch_start, recovery.next_seq), (2, 10, 14));
    assert_eq!(contents(&log).0, [1, 3, 9, 11, 13]);
    assert_eq!(log.follow_epoch((5, 75), 20, at(0)), Ok(None), "20 was not reached yet");
    assert_eq!(log.upstream().1, 14, "frames 14 to 19 of the older epoch are still wanted");
}

#[test]
fn what_an_epoch_made_void_is_not_called_durable() {
    let disk = MemoryDisk::new(512);
    let (mut log, _) = open(&disk, shard(64));
    log.follow_epoch((1, 71), 1, at(1)).unwrap();
    turn(&mut log, 1..=9);
    log.handle_completions(at(1));
    assert_eq!((log.durable_seq(), log.durable_upstream_seq().get()), (10, 10));
    disk.pause_jobs(true);
    log.follow_epoch((2, 72), 4, at(2)).unwrap();
    log.commit(at(2));
    assert_eq!((log.durable_seq(), log.durable_upstream_seq().get()), (4, 4));
    assert_eq!((log.committed_seq(), log.upstream().1), (4, 4));
}

#[test]
fn the_end_of_a_sync_that_was_waited_for_is_room() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    (1..=60).for_each(|seq| turn(&mut log, [seq]));
    drop(log);
    // A crash cut the log far back: segments are there, and none has to be waited for.
    for number in disk.numbers().into_iter().skip(1) {
        let mut bytes = disk.bytes(number);
        bytes[HEADER_BYTES..].fill(0);
        disk.put(number, bytes);
    }
    let (mut log, _) = open(&disk, journal(8));
    disk.pause_jobs(true);
    let mut seq = log.next_seq();
    while log.append(&frame(seq)).is_ok() {
        log.commit(at(1));
        seq += 1;
    }
    assert_eq!(log.append(&frame(seq)), Err(AppendError::NotReady));
    log.commit(at(1));
    disk.pause_jobs(false);
    assert!(log.handle_completions(at(2)).room, "nothing else will ever say so");
    assert!(log.append(&frame(seq)).is_ok());
}

/// The marks that a turn writes say when that was.
#[test]
fn a_mark_has_the_time_of_its_turn() {
    let (mut log, _) = open(&MemoryDisk::new(4096), journal(64));
    turn(&mut log, 1..=3);
    log.handle_completions(at(5_000));
    append(&mut log, &frame(4));
    log.commit(at(5_000));
    let Read::Frames(frames) = log.read(0, 64) else { panic!("all is there") };
    let sync = frames.iter().filter_map(Frame::view::<Mark>).next_back().unwrap();
    assert_eq!((sync.reason, sync.written_at.get()), (Reason::Sync as u8, at(5_000).wall_ns));
}

#[test]
fn the_interval_timer_runs_only_while_something_waits() {
    let disk = MemoryDisk::new(4096);
    let config =
        LogConfig { policy: SyncPolicy::Interval(Duration::from_millis(50)), ..journal(64) };
    let (mut log, _) = open(&disk, config);
    log.commit(at(0));
    assert_eq!(log.next_deadline(), None);
    log.append(&frame(1)).unwrap();
    log.commit(at(10));
    assert_eq!(log.next_deadline(), Some(at(60).mono));
    log.handle_timers(at(59));
    assert_eq!(disk.jobs(), 0);
    log.handle_timers(at(60));
    assert_eq!(disk.jobs(), 1);
    assert_eq!(log.durable_seq(), 1);
    assert!(log.handle_completions(at(61)).durable);
    assert_eq!(log.durable_seq(), 2);
    // A quiet log: nothing is written or synced, however often it is asked.
    let position = log.committed_position();
    for turn in 0..10 {
        log.handle_timers(at(100 + 100 * turn));
        log.commit(at(100 + 100 * turn));
        log.handle_completions(at(100 + 100 * turn));
    }
    assert_eq!((log.durability.next_deadline(), disk.jobs()), (None, 0));
    assert_eq!(log.committed_position(), position);
}

#[test]
fn one_sync_covers_what_was_committed_while_the_one_before_ran() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    for seq in 1..=5 {
        log.append(&frame(seq)).unwrap();
        log.commit(at(seq));
    }
    assert_eq!(disk.jobs(), 1);
    log.handle_completions(at(6));
    assert_eq!((log.durable_seq(), disk.jobs()), (2, 1));
    log.handle_completions(at(7));
    assert_eq!((log.durable_seq(), disk.jobs()), (6, 0));
}

#[test]
fn the_first_failed_sync_is_final() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    disk.fail_sync_after(0);
    turn(&mut log, [1]);
    assert!(log.handle_completions(at(2)).failed);
    disk.fail_sync_after(1000);
    assert!(matches!(log.health(), Health::Failed(StorageError::Io { .. })));
    assert_eq!(log.append(&frame(2)), Err(AppendError::Failed));
    assert_eq!(log.close(at(3)), Err(AppendError::Failed));
    assert_eq!(log.durable_seq(), 1, "what was not synced is not acknowledged");
    log.commit(at(4));
    log.handle_timers(at(5));
    assert_eq!((disk.jobs(), log.next_deadline()), (0, None));
    assert_eq!(contents(&log).0, [1], "reads go on");
}

#[test]
fn a_full_disk_is_a_state_that_passes() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    disk.set_bytes_max(5000);
    let mut seq = 0;
    let refusal = loop {
        match log.append(&frame(seq + 1)) {
            Ok(_) => seq += 1,
            Err(AppendError::NotReady) => {}
            Err(error) => break error,
        }
        log.commit(at(1));
        log.handle_completions(at(1));
    };
    assert_eq!(refusal, AppendError::Full);
    assert_eq!(contents(&log).0, (1..=seq).collect::<Vec<_>>());
    assert_eq!(log.next_deadline(), Some(at(1001).mono));
    assert_eq!(disk.jobs(), 0, "no retry before its time");

    log.handle_timers(at(1001));
    log.handle_completions(at(1001));
    assert_eq!(log.append(&frame(seq + 1)), Err(AppendError::Full), "still full");
    disk.set_bytes_max(usize::MAX);
    log.handle_timers(at(2001));
    assert!(log.handle_completions(at(2001)).room);
    assert_eq!(*log.health(), Health::Open);
    assert!(log.append(&frame(seq + 1)).is_ok());
    log.commit(at(2002));
    assert_eq!(contents(&log).0, (1..=seq + 1).collect::<Vec<_>>());
}

#[test]
fn a_log_on_a_full_disk_can_still_be_closed_clean() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    disk.set_bytes_max(5000);
    let mut seq = 1;
    while log.append(&frame(seq)) != Err(AppendError::Full) {
        log.commit(at(1));
        log.handle_completions(at(1));
        seq = log.next_seq();
    }
    log.close(at(2)).unwrap();
    disk.set_bytes_max(usize::MAX);
    let (_, recovery) = open(&disk, journal(8));
    assert!(recovery.clean);
    assert_eq!(recovery.next_seq, seq);
}

#[test]
fn the_writer_is_at_most_one_segment_ahead_of_the_syncs() {
    let disk = MemoryDisk::new(4096);
    let config = LogConfig { policy: SyncPolicy::None, ..journal(8) };
    let (mut log, _) = open(&disk, config);
    turn(&mut log, 1..=20);
    disk.pause_jobs(true);
    let mut seq = log.next_seq();
    while log.append(&frame(seq)).is_ok() {
        log.commit(at(1));
        log.handle_completions(at(1));
        seq += 1;
    }
    assert_eq!(log.append(&frame(seq)), Err(AppendError::NotReady));
    assert!(log.committed_position() - log.durable_position() <= 16);
    disk.pause_jobs(false);
    log.handle_completions(at(2));
    log.handle_completions(at(2));
    assert!(log.append(&frame(seq)).is_ok());
}

#[test]
fn spare_segments_do_not_let_the_writer_run_ahead_of_the_syncs() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    drop(log);
    for number in disk.numbers().into_iter().skip(1) {
        let mut bytes = disk.bytes(number);
        bytes[HEADER_BYTES..].fill(0);
        disk.put(number, bytes);
    }
    let (mut log, recovery) = open(&disk, journal(8));
    assert_eq!(recovery.end_position, 8);
    disk.pause_jobs(true);
    while log.append(&frame(log.next_seq())).is_ok() {
        log.commit(at(1));
        log.handle_completions(at(1));
    }
    // Unbounded, a crash would leave holes in more segments than recovery walks.
    assert!(log.committed_position() <= 24, "{}", log.committed_position());
}

#[test]
fn retention_removes_whole_sealed_segments_from_the_front() {
    let disk = MemoryDisk::new(4096);
    let bytes_max = 3 * (4096 + 8 * 64);
    let retention = Retention { bytes_max: Some(bytes_max), age_max: None };
    let config = LogConfig { retention, ..journal(8) };
    let (mut log, _) = open(&disk, config);
    for seq in 1..=100 {
        turn(&mut log, [seq]);
    }
    log.handle_completions(at(2));
    log.commit(at(2));
    log.handle_completions(at(2));
    assert!(disk.numbers().len() <= 4, "{:?}", disk.numbers());
    // What is configured may stay, to the last byte.
    assert_eq!((disk.numbers().len(), log.bytes()), (3, bytes_max), "{:?}", disk.numbers());
    let (seqs, damaged) = contents(&log);
    assert_eq!(seqs.last(), Some(&100));
    assert!(damaged.is_empty() && seqs[0] > 80);
    assert!(matches!(log.read(0, 1), Read::Damaged(range) if range.end == log.first_position()));
    drop(log);
    // What a log stands on is in every segment, so nothing is forgotten with the first ones.
    let (log, recovery) = open(&disk, config);
    assert_eq!((recovery.next_seq, recovery.upstream_seq), (101, 101));
    assert_eq!(contents(&log).0, seqs);
}

#[test]
fn retention_by_age_counts_from_when_a_segment_was_left() {
    let disk = MemoryDisk::new(4096);
    let retention = Retention { bytes_max: None, age_max: Some(Duration::from_secs(10)) };
    let (mut log, _) = open(&disk, LogConfig { retention, ..journal(8) });
    for seq in 1..=30 {
        turn(&mut log, [seq]);
    }
    log.handle_completions(at(2));
    log.handle_timers(at(9_000));
    log.handle_completions(at(9_000));
    assert_eq!(log.first_position(), 0);
    for _ in 0..10 {
        log.handle_timers(at(11_000));
        log.handle_completions(at(11_000));
    }
    assert!(log.first_position() > 16);
    assert_eq!(contents(&log).0.last(), Some(&30), "the current segment stays");
}

mod damage;
mod growth;
mod lineage;
mod system;
