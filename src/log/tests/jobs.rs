//! What a log has its disk do, and when; and what the time is that its marks state.

use super::super::inspect::Outline;
use super::super::rollbacks::Rollbacks;
use super::*;
use crate::limits::{SEGMENT_TOUCH_BYTES, SEGMENTS_MAX};

/// Appends the frame of the next seq.
fn append_next(log: &mut MemoryLog) {
    let next = frame(log.next_seq());
    append(log, &next);
}

/// The mark that was written last.
fn last_mark(log: &mut MemoryLog) -> Mark {
    log.publish();
    let position = log.committed_position() - 1;
    let Read::Frames([record]) = log.read(position, 1) else { panic!("nothing at {position}") };
    *record.view::<Mark>().unwrap()
}

/// Three portions and a header.
const RECORDS: u64 = 3 << 16;

/// A log whose active segment has the configured size, and of which a little is written. Nothing is synced, so that
/// only touches and new segments are jobs.
fn grown() -> (MemoryDisk, MemoryLog) {
    let disk = MemoryDisk::new(4096);
    let config = LogConfig { policy: SyncPolicy::None, ..journal(RECORDS) };
    let (mut log, _) = open(&disk, config);
    while log.segments.active().records < RECORDS {
        let next = log.next_seq();
        turn(&mut log, next..next + 256);
        log.handle_completions(at(1));
    }
    (disk, log)
}

#[test]
fn pages_ahead_of_the_stores_are_touched_in_time_and_once() {
    let (disk, mut log) = grown();
    let offset = |position: u64| HEADER_BYTES + usize::try_from(position).unwrap() * 64;
    let portion = SEGMENT_TOUCH_BYTES;
    let before = disk.touches().len();
    let mut expected = Vec::new();
    let mut base = log.segments.active().base;
    let first = log.segments.active().segment.number();
    // Whoever made the segment has touched its first portion.
    let (mut number, mut touched) = (first, portion);
    while number < first + 2 {
        append_next(&mut log);
        if log.segments.active().base > base {
            (number, base, touched) = (number + 1, log.segments.active().base, portion);
        }
        if log.next_seq() % 64 != 0 {
            continue;
        }
        let stored = offset(log.writer.position() - base);
        if touched <= stored + portion / 2 && touched < offset(RECORDS) {
            expected.push((number, touched, portion));
            touched += portion;
        }
        log.commit(at(1));
        log.commit(at(1));
        assert_eq!(disk.touches()[before..], expected, "stored up to {stored}");
        log.handle_completions(at(1));
    }
    assert_eq!(expected.len(), 6);
    assert!(!log.promises_durability());
}

#[test]
fn no_second_touch_begins_before_the_first_has_ended() {
    let (disk, mut log) = grown();
    let before = disk.touches().len();
    disk.pause_jobs(true);
    for count in 1..=(1 << 17) {
        append_next(&mut log);
        if count % 256 == 0 {
            log.commit(at(1));
        }
    }
    assert_eq!(disk.touches().len(), before + 1);
    disk.pause_jobs(false);
    log.handle_completions(at(1));
    append_next(&mut log);
    log.commit(at(1));
    let (_, from, _) = disk.touches()[before + 1];
    let stored = usize::try_from(log.writer.position() - log.segments.active().base).unwrap() * 64;
    assert_eq!(from, HEADER_BYTES + stored, "from the stores on, not behind them");
}

#[test]
fn one_examination_and_one_removal_are_under_way_at_a_time() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    log.close(at(1)).unwrap();
    drop(log);
    let retention = Retention { bytes_max: Some(2 * (4096 + 8 * 64)), age_max: None };
    let (mut log, _) = open(&disk, LogConfig { retention, ..journal(8) });
    let segments = disk.numbers().len();
    disk.pause_jobs(true);
    for second in 1..10 {
        log.handle_timers(at(second * 1_000));
        log.commit(at(second * 1_000));
    }
    assert_eq!(disk.jobs(), 2);
    disk.pause_jobs(false);
    log.handle_completions(at(10_000));
    assert_eq!((disk.jobs(), disk.numbers().len()), (0, segments - 1));
    log.commit(at(10_000));
    assert_eq!(disk.jobs(), 1, "the next removal");
    log.handle_timers(at(10_000));
    assert_eq!(disk.jobs(), 2, "and the next examination");
}

#[test]
fn whatever_writes_a_mark_states_the_time_of_its_call() {
    let second = |second: u64| at(second * 1_000);
    let written_at = |log: &mut MemoryLog| last_mark(log).written_at.get();
    let (mut log, _) = Log::open(MemoryDisk::new(4096).storage(), shard(64), second(1)).unwrap();
    assert_eq!(written_at(&mut log), second(1).wall_ns);
    log.set_upstream(5, 9, second(2)).unwrap();
    assert_eq!(written_at(&mut log), second(2).wall_ns);
    log.fall_back_upstream(7, second(3)).unwrap();
    assert_eq!((log.upstream(), written_at(&mut log)), ((5, 7), second(3).wall_ns));
    let position = log.committed_position();
    log.fall_back_upstream(7, second(4)).unwrap();
    log.publish();
    assert_eq!(log.committed_position(), position, "a mark without news");
    assert_eq!(log.durable_upstream_seq().get(), 1);
    log.follow_epoch((1, 71), 1, second(5)).unwrap();
    assert_eq!(written_at(&mut log), second(5).wall_ns);
    // The next Sync mark is of the turn that was given last.
    let sync_mark = |log: &mut MemoryLog, now: Now, turn: fn(&mut MemoryLog, Now)| {
        let begun = Now { wall_ns: now.wall_ns - 500, mono: Mono(now.mono.0 - 500) };
        append_next(log);
        log.commit(begun);
        log.handle_completions(begun);
        turn(log, now);
        let sync = log.writer.position();
        append_next(log);
        log.publish();
        let Read::Frames([mark, ..]) = log.read(sync, 1) else { panic!("nothing at {sync}") };
        let mark = mark.view::<Mark>().unwrap();
        assert_eq!((mark.reason, mark.written_at.get()), (Reason::Sync as u8, now.wall_ns));
    };
    sync_mark(&mut log, second(6), |log, now| log.commit(now));
    sync_mark(&mut log, second(7), |log, now| log.handle_timers(now));
    sync_mark(&mut log, second(8), |log, now| {
        log.handle_completions(now);
    });
    log.close(second(9)).unwrap();
    assert_eq!(last_mark(&mut log).reason, Reason::Close as u8);
    assert_eq!(written_at(&mut log), second(9).wall_ns);

    let (mut log, _) = open(&MemoryDisk::new(4096), journal(64));
    log.begin_epoch(NewEpoch::of(7), second(3)).unwrap();
    assert_eq!(written_at(&mut log), second(3).wall_ns);
}

/// A crash may come between the seal of a segment and the first record of the next.
#[test]
fn an_open_writes_the_head_of_a_segment_that_has_no_record() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = Log::open_journal(disk.storage(), journal(16), 77, at(0)).unwrap();
    log.begin_epoch(NewEpoch::of(51), at(0)).unwrap();
    while log.segments.active().base < 32 {
        append_next(&mut log);
        log.commit(at(1));
        log.handle_completions(at(1));
    }
    drop(log);
    let mut bytes = disk.bytes(3);
    bytes[HEADER_BYTES..].fill(0);
    disk.put(3, bytes);
    let (log, recovery) = open(&disk, journal(16));
    assert_eq!((recovery.end_position, recovery.damaged), (32, vec![]));
    let Read::Frames(head) = log.read(32, 16) else { panic!("no head") };
    assert!(head[0].view::<Mark>().unwrap().is(Reason::Open), "{head:?}");
    assert_eq!(head[1].kind, crate::wire::Kind::LogEpoch as u8);
    assert_eq!(head.len(), 2);
    let outline = Outline::of(&mut disk.clone(), None).unwrap();
    assert_eq!((outline.end_position(), outline.refusal()), (34, None));
}

#[test]
fn a_log_has_as_many_segments_as_it_may_and_no_more() {
    let disk = MemoryDisk::new(4096);
    let max = SEGMENTS_MAX as u64;
    (1..=max).for_each(|number| disk.put(number, Vec::new()));
    let refusal = || Log::open(disk.storage(), journal(8), at(0)).unwrap_err();
    let short = OpenError::Refused { segment: max, fault: HeaderFault::Short };
    assert_eq!(refusal(), short);
    assert_eq!(Outline::of(&mut disk.clone(), Some(NAME)).unwrap().refusal(), Some(&short));
    disk.put(max + 1, Vec::new());
    assert_eq!(refusal(), OpenError::Segments(SEGMENTS_MAX + 1));
    let outline = Outline::of(&mut disk.clone(), Some(NAME)).unwrap();
    assert_eq!(outline.refusal(), Some(&refusal()));
}

#[test]
fn what_fell_back_in_a_removed_segment_is_forgotten() {
    let disk = MemoryDisk::new(4096);
    let retention = Retention { bytes_max: Some(3 * (4096 + 8 * 64)), age_max: None };
    let (mut log, _) = open(&disk, LogConfig { retention, ..shard(8) });
    turn(&mut log, 1..=3);
    log.follow_epoch((1, 71), 2, at(1)).unwrap();
    assert_ne!(*log.writer.rollbacks(), Rollbacks::default());
    for seq in 4..=100 {
        turn(&mut log, [seq]);
    }
    assert!(log.first_position() > 16);
    assert_eq!(*log.writer.rollbacks(), Rollbacks::default());
}

/// The last slot of a segment is for the mark that ends it.
fn last_slots_are_marks(disk: &MemoryDisk, what: &str) {
    for number in disk.numbers() {
        let bytes = disk.bytes(number);
        let last = crate::wire::as_frames(&bytes[bytes.len() - 64..]).0[0];
        let is_end = |it: &Mark| it.is(Reason::Seal) || it.is(Reason::Close);
        assert!(last == Frame::ZERO || last.view::<Mark>().is_some_and(is_end), "{what}: {last:?}");
    }
}

type Act = fn(&mut MemoryLog) -> Result<(), AppendError>;

#[test]
fn whatever_is_written_at_whatever_fill_leaves_the_last_slot_free() {
    use crate::wire::{Gap, GapReason, Seq};
    let until_ready = |log: &mut MemoryLog, act: Act| {
        for _ in 0..8 {
            match act(log) {
                Err(AppendError::NotReady) => {
                    log.commit(at(1));
                    log.handle_completions(at(1));
                }
                done => return done.unwrap(),
            }
        }
        panic!("the log never became ready");
    };
    let acts: [Act; 6] = [
        |log| log.set_upstream(5, 100, at(1)),
        |log| log.fall_back_upstream(0, at(1)),
        |log| log.follow_epoch((9, 79), log.next_seq(), at(1)).map(drop),
        |log| log.append_entry(LogEntry::LocalEvent(&frame(log.next_seq()))).map(drop),
        |log| {
            let (from, to) = (Seq::or_first(70), Seq::or_first(80));
            let hole = Gap::uncounted(GapReason::Corrupt, from, to);
            log.append_entry(LogEntry::Hole(&Frame::seal(hole))).map(drop)
        },
        |log| log.write_checkpoint(&[frame(1)]).map(drop),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        for (fill, durable) in (0..10).flat_map(|fill| [(fill, false), (fill, true)]) {
            let disk = MemoryDisk::new(4096);
            let (mut log, _) = open(&disk, shard(8));
            log.advance_upstream(50, at(1)).unwrap();
            for seq in 1..=fill {
                append(&mut log, &frame(seq));
            }
            log.commit(at(1));
            if durable {
                // A Sync mark is due.
                log.handle_completions(at(1));
            }
            until_ready(&mut log, act);
            for _ in 0..20 {
                let next = log.next_seq();
                turn(&mut log, [next]);
            }
            log.close(at(2)).unwrap();
            assert_eq!(log.verify(), [], "{number}, {fill}");
            drop(log);
            last_slots_are_marks(&disk, &format!("{number}, {fill}"));
        }
    }
}

#[test]
fn an_epoch_that_the_log_has_is_not_followed_again() {
    let (mut log, _) = open(&MemoryDisk::new(4096), shard(64));
    assert_eq!(log.follow_epoch((2, 72), 1, at(1)), Ok(None));
    let refused = Err(AppendError::OutOfOrder { next_seq: 1, epoch: 2 });
    for (epoch, start) in [(2, 1), (1, 1), (3, 0)] {
        assert_eq!(log.follow_epoch((epoch, 79), start, at(1)), refused);
    }
    let (mut log, _) = open(&MemoryDisk::new(4096), journal(64));
    for start in [1, 2] {
        let followed = log.follow_epoch((3, 73), start, at(1));
        assert_eq!(followed.is_ok(), start == 1, "a journal has no gaps");
    }
}

#[test]
fn a_log_that_waited_for_space_and_failed_asks_for_nothing_more() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    disk.set_bytes_max(5000);
    turn(&mut log, 1..=3);
    log.handle_completions(at(1));
    assert!(matches!(log.health(), Health::Waiting(_)) && log.segments.next_deadline().is_some());
    assert!(log.health().problem().is_some() && Health::Open.problem().is_none());
    disk.fail_sync_after(0);
    turn(&mut log, [4]);
    assert!(log.handle_completions(at(2)).failed);
    assert_eq!(log.next_deadline(), None);
    disk.set_bytes_max(usize::MAX);
    for second in 1..5 {
        log.handle_timers(at(second * 1_000));
        log.commit(at(second * 1_000));
    }
    assert_eq!(disk.jobs(), 0);
    assert!(matches!(log.health(), Health::Failed(_)));
}

#[test]
fn what_a_log_is_told_about_the_clock_it_says() {
    let (mut log, _) = open(&MemoryDisk::new(4096), journal(8));
    assert_eq!(log.clock_step_max(), crate::limits::CLOCK_STEP_DEFAULT);
    log.set_clock_step_max(Duration::from_secs(3));
    assert_eq!(log.clock_step_max(), Duration::from_secs(3));
    turn(&mut log, 1..=3);
    assert_eq!(log.positions(), 0..log.committed_position());
}

#[test]
fn what_upstream_took_back_is_durable_no_more_and_stays_taken_back() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, shard(64));
    turn(&mut log, [1, 2]);
    log.set_upstream(5, 100, at(1)).unwrap();
    log.commit(at(1));
    for _ in 0..3 {
        log.handle_completions(at(1));
    }
    assert_eq!(log.durable_upstream_seq().get(), 100);
    log.fall_back_upstream(40, at(2)).unwrap();
    assert_eq!((log.durable_upstream_seq().get(), log.upstream()), (40, (5, 40)));
    log.fall_back_upstream(2, at(2)).unwrap();
    assert_eq!(log.upstream(), (3, 3), "behind the last frame");
    drop(log);
    let (_, recovery) = open(&disk, shard(64));
    assert_eq!((recovery.upstream_feed, recovery.upstream_seq), (3, 3));
}

#[test]
fn an_examination_is_due_half_a_second_after_the_one_before() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    assert_eq!(log.next_deadline(), None);
    log.handle_timers(at(0));
    assert_eq!((log.next_deadline(), disk.jobs()), (Some(at(500).mono), 0));
    log.handle_timers(at(500));
    assert_eq!((log.next_deadline(), disk.jobs()), (None, 1));
    log.handle_completions(at(600));
    assert_eq!(log.next_deadline(), Some(at(1_000).mono));
}

#[test]
fn a_segment_whose_frames_all_lie_before_what_is_needed_is_not_needed() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=40 {
        turn(&mut log, [seq]);
    }
    log.close(at(1)).unwrap();
    drop(log);
    let retention = Retention { bytes_max: Some(1), age_max: None };
    let (mut log, _) = open(&disk, LogConfig { retention, ..journal(8) });
    let (_, next) = log.segments.oldest_sealed().unwrap();
    let first = next.record(next.base).unwrap().mark().unwrap().seq.get();
    log.retain_from_seq(first - 1);
    assert!(log.is_retention_blocked());
    log.retain_from_seq(first);
    assert!(!log.is_retention_blocked());
    log.commit(at(2));
    log.handle_completions(at(2));
    assert_eq!((log.first_position(), log.first_seq().unwrap().get()), (8, first));
}

/// Each is at any fill of its segment.
#[test]
fn an_epoch_is_given_up_wherever_the_log_stands() {
    for fill in 0..12 {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, journal(8));
        for _ in 0..fill {
            append_next(&mut log);
        }
        log.commit(at(1));
        let lost = EpochEntry {
            epoch: 4,
            epoch_id: 44,
            first_seq: 2,
            is_chosen: false,
            is_given_up: true,
        };
        log.give_up_epoch(lost, at(1)).unwrap();
        for _ in 0..20 {
            append_next(&mut log);
            log.commit(at(1));
        }
        log.close(at(2)).unwrap();
        assert_eq!((log.verify(), log.lineage().entries()), (vec![], &[lost][..]), "{fill}");
        last_slots_are_marks(&disk, &format!("{fill}"));
        for wrong in [
            EpochEntry { is_given_up: false, ..lost },
            EpochEntry { epoch: 0, ..lost },
            EpochEntry { epoch_id: 0, ..lost },
            EpochEntry { first_seq: 0, ..lost },
        ] {
            let refused = log.give_up_epoch(wrong, at(3));
            assert!(matches!(refused, Err(AppendError::OutOfOrder { .. })), "{refused:?}");
        }
    }
}
