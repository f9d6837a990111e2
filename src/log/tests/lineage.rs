//! The identity of a log: whose journal it is, which epochs it went through, and holes that a journal was rebuilt
//! around.

use super::super::inspect::Outline;
use super::super::{EpochEntry, HeaderFault, NewEpoch, OpenError, UNKNOWN_EPOCH_ID};
use super::*;
use crate::wire::{Gap, GapReason, Kind, Seq};

const JOURNAL: u64 = 0xfeed;

fn open_as(disk: &MemoryDisk, config: LogConfig, journal_id: u64) -> (MemoryLog, Recovery) {
    Log::open_journal(disk.storage(), config, journal_id, at(0)).unwrap()
}

fn entry(epoch: u32, epoch_id: u64, first_seq: u64) -> EpochEntry {
    EpochEntry { epoch, epoch_id, first_seq, is_chosen: false, is_given_up: false }
}

fn hole(from: u64, to: u64) -> Frame {
    let number = |seq| Seq::new(seq).unwrap();
    Frame::seal(Gap::uncounted(GapReason::Corrupt, number(from), number(to)))
}

#[test]
fn the_lineage_survives_opens_rolls_and_retention() {
    let disk = MemoryDisk::new(4096);
    let retention = Retention { bytes_max: Some(3 * (4096 + 32 * 64)), age_max: None };
    let config = LogConfig { retention, ..journal(32) };
    let mut expected = Vec::new();
    for epoch in 1..=4_u32 {
        let (mut log, _) = open_as(&disk, config, JOURNAL + u64::from(epoch) - 1);
        let first_seq = log.next_seq();
        assert_eq!(log.begin_epoch(NewEpoch::of(50 + u64::from(epoch)), at(0)), Ok(epoch));
        expected.push(entry(epoch, 50 + u64::from(epoch), first_seq));
        assert_eq!((log.lineage().entries(), log.lineage().journal_id()), (&expected[..], JOURNAL));
        for _ in 0..100 {
            let next = log.next_seq();
            turn(&mut log, [next]);
        }
        if epoch % 2 == 0 {
            log.close(at(2)).unwrap();
        }
    }
    let outline = Outline::of(&mut disk.clone(), None).unwrap();
    let (log, _) = open_as(&disk, config, 1);
    assert!(log.first_seq().unwrap().get() > 300, "the first epochs are removed");
    assert_eq!((log.epoch(), log.epoch_id()), (4, 54));
    assert_eq!((log.lineage().entries(), log.lineage().journal_id()), (&expected[..], JOURNAL));
    assert_eq!((outline.lineage(), outline.epoch()), (log.lineage(), (4, 54)));
    assert_eq!(log.verify(), []);
}

#[test]
fn the_lineage_takes_no_more_than_an_eighth_of_a_segment() {
    let disk = MemoryDisk::new(4096);
    for epoch in 1..=20 {
        let (mut log, _) = open_as(&disk, journal(32), JOURNAL);
        log.begin_epoch(NewEpoch::of(epoch), at(0)).unwrap();
        for _ in 0..40 {
            let next = log.next_seq();
            turn(&mut log, [next]);
        }
    }
    for number in disk.numbers().into_iter().skip(1) {
        let bytes = disk.bytes(number);
        let (frames, _) = crate::wire::as_frames(&bytes[super::super::HEADER_BYTES..]);
        let head = frames.iter().skip(1);
        let stated = head.take_while(|frame| frame.kind == Kind::LogEpoch as u8).count();
        // And perhaps the one that an epoch begins with right there.
        assert!(stated <= 5, "segment {number} begins with {stated}");
    }
    let (log, _) = open_as(&disk, journal(32), JOURNAL);
    assert_eq!(log.lineage().entries().len(), 20, "older segments still have the others");
}

#[test]
fn an_epoch_whose_mark_never_came_has_not_begun() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open_as(&disk, journal(16), JOURNAL);
    log.begin_epoch(NewEpoch::of(51), at(0)).unwrap();
    turn(&mut log, 1..=3);
    drop(log);
    disk.record_history();
    let (mut log, _) = open_as(&disk, journal(16), JOURNAL);
    log.begin_epoch(NewEpoch::of(52), at(0)).unwrap();
    let mut seen = Vec::new();
    for state in disk.history() {
        let outline = Outline::of(&mut state.clone(), None).unwrap();
        let (log, _) = open_as(&state.kill(), journal(16), JOURNAL);
        assert_eq!(log.epoch_id(), 50 + u64::from(log.epoch()));
        assert_eq!(outline.lineage(), log.lineage());
        seen.push((log.epoch(), log.lineage().entries().len()));
    }
    seen.dedup();
    assert_eq!(seen, [(1, 1), (2, 2)]);
}

#[test]
fn an_epoch_without_an_identity_is_refused_and_a_lost_one_is_told() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open_as(&disk, journal(16), JOURNAL);
    assert_eq!(log.epoch_id(), 0, "none has begun");
    assert!(log.begin_epoch(NewEpoch::of(0), at(0)).is_err());
    assert!(log.begin_epoch(NewEpoch::of(UNKNOWN_EPOCH_ID), at(0)).is_err());
    log.begin_epoch(NewEpoch::of(51), at(0)).unwrap();
    log.begin_epoch(NewEpoch { id: 52, above: 8, is_chosen: true }, at(0)).unwrap();
    let end = log.writer.position();
    assert_eq!((log.committed_position(), log.durable_position()), (end, end));
    assert_eq!((log.epoch(), log.epoch_id()), (9, 52));
    assert!(log.lineage().entries()[1].is_chosen);
    turn(&mut log, 1..=3);
    log.close(at(1)).unwrap();
    let mut bytes = disk.bytes(1);
    let is_epoch = |at: &usize| bytes[4096 + at * 64] == Kind::LogEpoch as u8;
    let record = (0..16).rfind(is_epoch).unwrap();
    bytes[4096 + record * 64 + 20] ^= 1;
    disk.put(1, bytes);
    let (log, recovery) = open_as(&disk, journal(16), JOURNAL);
    let rotten = record as u64..record as u64 + 1;
    assert_eq!((recovery.damaged, log.epoch()), (vec![rotten], 9));
    assert_eq!(log.epoch_id(), UNKNOWN_EPOCH_ID);
}

#[test]
fn segments_of_two_journals_are_refused_together() {
    let filled = |journal_id| {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open_as(&disk, journal(8), journal_id);
        log.begin_epoch(NewEpoch::of(journal_id), at(0)).unwrap();
        for seq in 1..=30 {
            turn(&mut log, [seq]);
        }
        log.close(at(1)).unwrap();
        disk
    };
    let (mine, other) = (filled(JOURNAL), filled(7));
    mine.put(3, other.bytes(3));
    let fault = HeaderFault::Journal(7);
    let refused = Log::open(mine.storage(), journal(8), at(0)).unwrap_err();
    assert_eq!(refused, OpenError::Refused { segment: 3, fault });
    let outline = Outline::of(&mut mine.clone(), None).unwrap();
    assert_eq!(outline.refusal(), Some(&refused));
    assert!(refused.to_string().contains("another journal, 0000000000000007"), "{refused}");
}

#[test]
fn a_log_that_was_converted_from_format_3_gets_an_identity_with_its_next_epoch() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    // As format 3 begins an epoch: a mark alone.
    log.put_epoch_mark_of_format_3(1);
    for seq in 1..=20 {
        turn(&mut log, [seq]);
    }
    log.close(at(1)).unwrap();
    let outline = Outline::of(&mut disk.clone(), None).unwrap();
    assert_eq!((outline.refusal(), outline.epoch()), (None, (1, 0)));
    let (mut log, recovery) = open_as(&disk, journal(8), JOURNAL);
    assert!(recovery.clean && recovery.damaged.is_empty());
    assert_eq!((log.epoch(), log.epoch_id()), (1, 0));
    assert_eq!(contents(&log), ((1..=20).collect(), vec![]));
    log.begin_epoch(NewEpoch::of(52), at(0)).unwrap();
    for seq in 21..=40 {
        turn(&mut log, [seq]);
    }
    drop(log);
    let (log, _) = open_as(&disk, journal(8), 1);
    assert_eq!((log.epoch(), log.epoch_id(), log.lineage().journal_id()), (2, 52, JOURNAL));
    assert_eq!(contents(&log), ((1..=40).collect(), vec![]));
}

#[test]
fn a_hole_takes_the_place_of_frames_in_a_journal_and_only_there() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open_as(&disk, journal(8), JOURNAL);
    log.begin_epoch(NewEpoch::of(51), at(0)).unwrap();
    turn(&mut log, 1..=3);
    let wrong = AppendError::OutOfOrder { next_seq: 4, epoch: 1 };
    for (from, to) in [(3, 9), (5, 9), (1, 3)] {
        assert_eq!(log.append_entry(LogEntry::Hole(&hole(from, to))), Err(wrong));
    }
    log.append_entry(LogEntry::Hole(&hole(4, 9))).unwrap();
    assert_eq!((log.next_seq(), log.upstream().1), (10, 10));
    assert!(log.append(&frame(4)).is_err());
    for seq in 10..=30 {
        turn(&mut log, [seq]);
    }
    let found: Vec<u64> = (1..=3).chain(10..=30).collect();
    assert_eq!(contents(&log), (found.clone(), vec![]));
    drop(log);
    let (mut log, recovery) = open_as(&disk, journal(8), JOURNAL);
    assert_eq!((recovery.next_seq, recovery.upstream_seq, recovery.damaged), (31, 31, vec![]));
    assert_eq!(contents(&log), (found, vec![]));
    for seq in 4..=10 {
        let Read::Frames([frame, ..]) = log.read(log.position_of_seq(seq), 1) else { panic!() };
        assert!(frame.kind != Kind::Quote as u8 || frame.seq.get() == 10, "{frame:?}");
    }
    // It may be the last thing of all.
    log.append_entry(LogEntry::Hole(&hole(31, 40))).unwrap();
    log.close(at(2)).unwrap();
    let (log, recovery) = open_as(&disk, journal(8), JOURNAL);
    assert_eq!((log.next_seq(), recovery.clean), (41, true));
}

#[test]
fn an_epoch_that_was_given_up_is_remembered_behind_the_one_that_was_chosen() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open_as(&disk, journal(32), JOURNAL);
    log.begin_epoch(NewEpoch::of(51), at(0)).unwrap();
    turn(&mut log, 1..=20);
    let lost = EpochEntry { is_given_up: true, ..entry(7, 99, 11) };
    assert!(log.give_up_epoch(entry(7, 99, 11), at(0)).is_err());
    log.give_up_epoch(lost, at(0)).unwrap();
    log.begin_epoch(NewEpoch { id: 52, above: lost.epoch, is_chosen: true }, at(0)).unwrap();
    assert_eq!((log.epoch(), log.epoch_id()), (8, 52));
    for seq in 21..=60 {
        turn(&mut log, [seq]);
    }
    drop(log);
    let (log, _) = open_as(&disk, journal(32), JOURNAL);
    let end = log.lineage().end_of(99).unwrap();
    assert_eq!((end.seq, end.is_chosen), (Some(11), true));
    assert_eq!(log.lineage().end_of(51).unwrap().seq, Some(21));
}
