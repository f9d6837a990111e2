//! What a log does when the clock is wrong, when the system lacks something, and when its directory is gone.

use super::*;
use crate::limits::{CLOCK_LOG_EVERY, LOG_NOTICES_MAX};
use crate::time::ClockChange;

const DAY_MS: u64 = 86_400_000;

/// The wall clock is so many milliseconds ahead.
fn skewed(millis: u64, ahead_ms: i64) -> Now {
    let now = at(millis);
    Now { wall_ns: now.wall_ns.wrapping_add_signed(ahead_ms * 1_000_000), ..now }
}

fn keeping_48_hours() -> LogConfig {
    let age_max = Some(Duration::from_hours(48));
    LogConfig { retention: Retention { bytes_max: None, age_max }, ..journal(8) }
}

/// A turn of a node in which nothing comes.
fn idle(log: &mut MemoryLog, now: Now) {
    log.handle_completions(now);
    log.handle_timers(now);
    log.commit(now);
}

fn notices(log: &mut MemoryLog) -> Vec<Notice> {
    std::iter::from_fn(|| log.poll_notice()).collect()
}

/// A log of many segments, written in its first milliseconds.
fn filled(disk: &MemoryDisk) -> MemoryLog {
    let (mut log, _) = open(disk, keeping_48_hours());
    for seq in 1..=100 {
        turn(&mut log, [seq]);
    }
    idle(&mut log, at(2));
    log
}

#[test]
fn a_clock_that_steps_three_days_removes_nothing_and_is_said() {
    for ahead in [3, -3] {
        let disk = MemoryDisk::new(4096);
        let mut log = filled(&disk);
        let step_ms = ahead * DAY_MS as i64;
        for second in 1..20 {
            idle(&mut log, skewed(second * 1_000, step_ms));
        }
        assert_eq!(log.first_position(), 0, "nothing is removed");
        let said = notices(&mut log);
        let is_refusal = |it: &Notice| matches!(it, Notice::Clock(change) if change.is_objection());
        assert!(said.len() == 1 && is_refusal(&said[0]), "{said:?}");
        assert!(said[0].to_string().contains("259200 s"), "{}", said[0]);
        // Said again while it lasts, and when it is over.
        let again = u64::try_from(CLOCK_LOG_EVERY.as_millis()).unwrap() + 2_000;
        idle(&mut log, skewed(again, step_ms));
        assert_eq!(notices(&mut log), said);
        idle(&mut log, skewed(again + 500, step_ms));
        assert_eq!(notices(&mut log), [], "not in every turn");
        idle(&mut log, at(again + 1_000));
        assert_eq!(notices(&mut log), [Notice::Clock(ClockChange::TakenBack)]);
        assert_eq!(log.first_position(), 0);
    }
}

#[test]
fn a_clock_that_is_wrong_at_the_start_and_set_right_a_minute_later_removes_nothing() {
    let disk = MemoryDisk::new(4096);
    drop(filled(&disk));
    let wrong_ms = 3 * DAY_MS as i64;
    let start = skewed(10, wrong_ms);
    let (mut log, _) = Log::open(disk.storage(), keeping_48_hours(), start).unwrap();
    for second in 1..60 {
        idle(&mut log, skewed(second * 1_000, wrong_ms));
    }
    for second in 60..120 {
        idle(&mut log, at(second * 1_000));
    }
    assert_eq!(log.first_position(), 0);
    let said: Vec<String> = notices(&mut log).iter().map(ToString::to_string).collect();
    assert!(said[0].contains("ahead of what was written here last"), "{said:?}");
    assert!(said[1].contains("refused"), "{said:?}");
}

#[test]
fn time_without_the_node_counts_at_double_speed() {
    let disk = MemoryDisk::new(4096);
    drop(filled(&disk));
    let away_ms = 3 * DAY_MS;
    let (mut log, _) = Log::open(disk.storage(), keeping_48_hours(), at(away_ms)).unwrap();
    // A day of running is two days of age; a minute less is not.
    let day_later = away_ms + DAY_MS;
    let mut now = away_ms;
    while now < day_later - 60_000 {
        now += 60_000;
        idle(&mut log, at(now));
    }
    assert_eq!(log.first_position(), 0);
    for _ in 0..60 {
        now += 60_000;
        idle(&mut log, at(now));
    }
    assert!(log.first_position() > 80, "{}", log.first_position());
}

#[test]
fn what_is_removed_is_said_with_its_range_and_reason() {
    let disk = MemoryDisk::new(4096);
    let mut log = filled(&disk);
    let until = 2 * DAY_MS + 60_000;
    for millis in (0..until).step_by(60_000) {
        idle(&mut log, at(millis.max(3)));
    }
    for _ in 0..40 {
        idle(&mut log, at(until));
    }
    let said = notices(&mut log);
    assert!(said.len() > 10 && said.len() <= LOG_NOTICES_MAX);
    let mut next = 1;
    for notice in &said {
        let Notice::Removed { seqs: Some((first, last)), reason, .. } = notice else {
            panic!("{notice}")
        };
        assert_eq!(*first, next);
        next = last + 1;
        assert!(matches!(reason, RemovalReason::Age { seconds_max: 172_800, .. }));
    }
    assert_eq!(contents(&log).0.first(), Some(&next));
    let text = said[0].to_string();
    assert!(text.contains("seq 1 to ") && text.contains("retain_age is 172800 s"), "{text}");
}

#[test]
fn a_missing_descriptor_is_waited_for_like_space() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    disk.set_lacking(true);
    let mut seq = 0;
    let refusal = loop {
        match log.append(&frame(seq + 1)) {
            Ok(_) => seq += 1,
            Err(AppendError::NotReady) => {}
            Err(error) => break error,
        }
        log.commit(at(1));
        assert!(!log.handle_completions(at(1)).failed);
    };
    assert_eq!(refusal, AppendError::Full);
    assert!(log.health().to_string().contains("too many open files"), "{}", log.health());
    idle(&mut log, at(1_001));
    idle(&mut log, at(1_002));
    assert!(matches!(notices(&mut log)[..], [Notice::Waiting(_)]), "said once, not every second");
    disk.set_lacking(false);
    log.handle_timers(at(2_100));
    assert!(log.handle_completions(at(2_100)).room);
    assert!(log.append(&frame(seq + 1)).is_ok());
    log.commit(at(2_101));
    assert_eq!(contents(&log).0, (1..=seq + 1).collect::<Vec<_>>());
    assert_eq!(notices(&mut log), [Notice::GoesOn]);
}

#[test]
fn a_log_whose_directory_is_gone_takes_nothing_and_goes_on_when_it_is_back() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    turn(&mut log, [1]);
    idle(&mut log, at(2));
    disk.set_displaced(true);
    let writes = disk.writes();
    // It is noticed within a second, and said once.
    for tenth in 1..=10 {
        idle(&mut log, at(2 + tenth * 100));
    }
    let said = notices(&mut log);
    assert!(matches!(said[..], [Notice::Displaced(_)]), "{said:?}");
    assert_eq!(log.append(&frame(2)), Err(AppendError::Full));
    assert_eq!(log.begin_epoch(NewEpoch::of(7), at(1_100)), Err(AppendError::Full));
    assert!(log.close(at(1_100)).is_err(), "nobody would find what a close says");
    assert_eq!(disk.writes(), writes);
    assert_eq!(contents(&log).0, [1], "reads go on");
    disk.set_displaced(false);
    let mut has_room = false;
    for tenth in 1..=10 {
        log.handle_timers(at(1_100 + tenth * 100));
        has_room |= log.handle_completions(at(1_100 + tenth * 100)).room;
    }
    assert!(has_room);
    assert_eq!(notices(&mut log), [Notice::InPlace]);
    turn(&mut log, [2]);
    log.close(at(2_200)).unwrap();
    assert!(open(&disk, journal(64)).1.clean);
}

#[test]
fn a_step_of_the_clock_is_refused_from_the_configured_length_on() {
    for (step_max, is_refused) in [(Duration::from_secs(1), true), (Duration::from_secs(9), false)]
    {
        let (mut log, _) = open(&MemoryDisk::new(4096), journal(8));
        log.set_clock_step_max(step_max);
        idle(&mut log, at(1_000));
        idle(&mut log, skewed(2_000, 5_000));
        let said = notices(&mut log);
        let is_objection = |it: &Notice| matches!(it, Notice::Clock(it) if it.is_objection());
        assert_eq!(said.iter().any(is_objection), is_refused, "{said:?}");
    }
}

/// What passes does not hide what is final.
#[test]
fn a_sync_that_fails_while_the_directory_is_away_is_final_too() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    turn(&mut log, [1]);
    idle(&mut log, at(2));
    disk.set_displaced(true);
    // The look at the directory is under way, then a sync.
    log.handle_timers(at(600));
    log.append(&frame(2)).unwrap();
    disk.fail_sync_after(0);
    log.commit(at(601));
    let progress = log.handle_completions(at(602));
    assert!(matches!(notices(&mut log)[..], [Notice::Displaced(_)]));
    assert!(progress.failed && matches!(log.health(), Health::Failed(_)), "{:?}", log.health());
    disk.set_displaced(false);
    for tenth in 7..=20 {
        idle(&mut log, at(tenth * 100));
    }
    assert_eq!(log.append(&frame(3)), Err(AppendError::Failed));
}
