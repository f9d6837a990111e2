//! Where something is wrong in a log of many segments, and how much of it.

use super::*;
use crate::log::{HeaderFault, Storage, is_event};

fn change(disk: &MemoryDisk, number: u64, record: usize) {
    let mut bytes = disk.bytes(number);
    bytes[HEADER_BYTES + record * 64 + 20] ^= 1;
    disk.put(number, bytes);
}

fn losses(items: &[Item]) -> Vec<Item> {
    items.iter().filter(|item| matches!(item, Item::Lost { .. })).copied().collect()
}

/// An open walks the last three used segments, and looks at both ends of the others.
#[test]
fn rot_anywhere_in_a_log_of_many_segments_is_placed_as_an_open_places_it() {
    for config in [journal(8), shard(8)] {
        let whole = rolled(config);
        let numbers = whole.numbers();
        for (number, record) in
            numbers.iter().flat_map(|number| (0..8).map(move |at| (*number, at)))
        {
            let disk = whole.kill();
            change(&disk, number, record);
            let (outline, summary, _) = judged(&disk, config);
            let what = format!("segment {number}, record {record}");
            match Log::open(disk.storage(), config, at(0)) {
                Err(refused) => assert_eq!(outline.refusal(), Some(&refused), "{what}"),
                Ok((_, recovery)) => {
                    assert_eq!(outline.refusal(), None, "{what}");
                    assert_eq!(outline.end_position(), recovery.end_position, "{what}");
                    assert_eq!(outline.next_seq(), recovery.next_seq, "{what}");
                    assert_eq!(summary.cut_records, recovery.cut_records, "{what}");
                    let is_end = record == 0 || record == 7;
                    if !is_end
                        || outline.places.len()
                            - outline.places.iter().position(|it| it.segment == number).unwrap()
                            < 4
                    {
                        assert_eq!(outline.damaged, recovery.damaged, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_log_of_many_segments_without_any_one_is_judged_as_an_open_judges_it() {
    for config in [journal(8), shard(8)] {
        let whole = rolled(config);
        for number in whole.numbers() {
            let disk = whole.kill();
            disk.take(number);
            let outline = judged(&disk, config).0;
            let what = format!("without {number}");
            match Log::open(disk.kill().storage(), config, at(0)) {
                Ok((log, recovery)) => {
                    assert_eq!(outline.refusal(), None, "{what}");
                    let ends = (recovery.end_position, recovery.next_seq, recovery.epoch);
                    assert_eq!(
                        (outline.end, outline.next_seq(), outline.epoch().0),
                        ends,
                        "{what}"
                    );
                    assert_eq!(outline.first_position(), recovery.first_position, "{what}");
                    let is_walked =
                        |it: &std::ops::Range<u64>| it.end > outline.end.saturating_sub(16);
                    let damaged: Vec<_> = recovery.damaged.into_iter().filter(is_walked).collect();
                    assert_eq!(outline.damaged, damaged, "{what}");
                    assert_eq!(seqs(&items(&disk, config)), contents(&log).0, "{what}");
                }
                Err(refused) => assert_eq!(outline.refusal(), Some(&refused), "{what}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_is_one_finding_and_one_loss_with_its_seqs() {
    let disk = many();
    let all = seqs(&items(&disk, journal(8)));
    disk.take(3);
    let (_, summary, found) = judged(&disk, journal(8));
    let told: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        (told, summary.losses, summary.damaged_records),
        (vec!["segment 3 is missing"], 1, 0)
    );
    let items = items(&disk, journal(8));
    let left = seqs(&items);
    let gone: Vec<u64> = all.into_iter().filter(|seq| !left.contains(seq)).collect();
    let (from_seq, to_seq) = (gone[0], gone[gone.len() - 1]);
    let lost = Item::Lost { from_position: 16, to_position: 24, from_seq, to_seq };
    assert_eq!(losses(&items), [lost]);
    disk.take(4);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!((found[0].what.as_str(), summary.losses), ("segments 3 to 4 are missing", 1));
}

#[test]
fn bad_records_in_a_row_are_one_finding_that_ends_with_its_segment() {
    let disk = many();
    for record in 4..8 {
        change(&disk, 2, record);
    }
    change(&disk, 3, 0);
    change(&disk, 3, 2);
    let (_, summary, found) = judged(&disk, journal(8));
    let places: Vec<_> = found.iter().map(|it| (it.position.unwrap(), it.records)).collect();
    assert_eq!(places, [(12, 4), (16, 1), (18, 1)]);
    assert_eq!((summary.damaged_records, summary.corruptions), (6, 3));
    assert!(found.iter().all(|it| it.severity == Severity::Corrupt), "{found:#?}");
    let lost = losses(&items(&disk, journal(8)));
    let [Item::Lost { from_position: 12, to_position: 17, .. }] = &lost[..] else {
        panic!("{lost:?}")
    };
}

#[test]
fn what_a_crash_tore_is_counted_from_its_first_record_on() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, LogConfig { policy: SyncPolicy::None, ..journal(32) });
    turn(&mut log, 1..=20);
    drop(log);
    // Records: 0 Open, 1 Sync mark, then frames; none of them is said to be durable.
    change(&disk, 1, 12);
    let (_, summary, found) = judged(&disk, journal(32));
    let [torn] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((torn.severity, torn.position, torn.records), (Severity::Loss, Some(12), 10));
    assert_eq!((torn.offset, torn.seq), (Some(4096 + 12 * 64), Some(11)));
    assert_eq!((summary.cut_records, summary.verdict), (10, Verdict::Loss));
    agrees(&disk, journal(32), "torn");
}

#[test]
fn a_segment_that_was_left_with_a_close_mark_in_its_last_slot_is_whole() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    disk.set_bytes_max(5000);
    while log.append(&frame(log.next_seq())).is_ok() {
        log.commit(at(1));
        log.handle_completions(at(1));
    }
    log.close(at(2)).unwrap();
    drop(log);
    let closed = disk.bytes(1)[HEADER_BYTES + 7 * 64..].to_vec();
    assert!(crate::wire::as_frames(&closed).0[0].view::<Mark>().unwrap().is(Reason::Close));
    disk.set_bytes_max(usize::MAX);
    let (mut log, _) = open(&disk, journal(8));
    let next = log.next_seq();
    turn(&mut log, [next]);
    log.handle_completions(at(3));
    log.close(at(3)).unwrap();
    drop(log);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!((found, summary.verdict, summary.segments), (vec![], Verdict::Clean, 3));
}

/// A chunk is a mebibyte of records.
#[test]
fn a_segment_of_several_chunks_is_read_to_its_end() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, LogConfig { policy: SyncPolicy::None, ..journal(1 << 16) });
    // The first segment is one chunk, and the second is larger.
    let last = 60_000;
    for first in (1..=last).step_by(1_000) {
        turn(&mut log, first..first + 1_000);
        log.handle_completions(at(1));
    }
    log.close(at(1)).unwrap();
    drop(log);
    let config = journal(1 << 16);
    let (outline, summary, found) = judged(&disk, config);
    assert_eq!((found, summary.verdict, summary.frames), (vec![], Verdict::Clean, last));
    assert_eq!((summary.first_seq, outline.end_position()), (Some(1), summary.marks + last));
    let mut reader = Reader::new(disk.clone(), &outline).unwrap();
    assert_eq!((reader.stands_in(), reader.bytes_read()), ((0, 0), 0));
    let mut next = 1;
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Data(frame) => {
                assert_eq!(frame.seq.get(), next);
                next += 1;
            }
            Item::Mark(..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((next, reader.bytes_read()), (last + 1, outline.record_bytes()));
    assert_eq!(outline.record_bytes(), outline.end_position() * 64);
    let mut found = Found::default();
    verify(&mut disk.clone(), &outline, false, &mut found).unwrap();
    assert_eq!(found.1, outline.record_bytes());
}

#[test]
fn a_directory_without_the_segments_that_it_had_is_refused() {
    let disk = MemoryDisk::new(4096);
    let outline = Outline::of(&mut disk.clone(), Some(journal(8).name)).unwrap();
    assert_eq!((outline.refusal(), outline.end_position()), (None, 0));
    disk.storage().set_removed_through(1).unwrap();
    let outline = Outline::of(&mut disk.clone(), Some(journal(8).name)).unwrap();
    assert_eq!(outline.refusal(), Some(&OpenError::EndMissing { segment: 1 }));
}

#[test]
fn a_journal_without_an_epoch_still_has_its_identity() {
    let disk = MemoryDisk::new(4096);
    drop(Log::open_journal(disk.storage(), journal(8), 77, at(0)).unwrap());
    let (outline, summary, _) = judged(&disk, journal(8));
    assert_eq!(
        (outline.lineage().journal_id(), summary.journal_id, outline.epoch()),
        (77, 77, (0, 0))
    );
}

#[test]
fn a_log_that_a_process_writes_is_judged_up_to_its_end_only() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(32));
    turn(&mut log, 1..=20);
    change(&disk, 1, 12);
    let outline = judged(&disk, journal(32)).0;
    let mut found = Found::default();
    let summary = verify(&mut disk.clone(), &outline, true, &mut found).unwrap();
    let [finding] = &found.0[..] else { panic!("{:#?}", found.0) };
    assert_eq!(finding.what, "a process is writing; judged up to seq 11");
    assert_eq!((summary.cut_records, summary.verdict, summary.notes), (0, Verdict::Clean, 1));
}

#[test]
fn a_file_of_another_length_is_noted_and_its_records_are_judged() {
    let disk = many();
    let whole = disk.bytes(2);
    let said = |bytes: &[u8]| {
        disk.put(2, bytes.to_vec());
        let (_, summary, found) = judged(&disk, journal(8));
        (found[0].what.clone(), found[0].meaning.clone(), found.len(), summary.damaged_records)
    };
    let (what, meaning, count, damaged) = said(&whole[..whole.len() - 64]);
    assert_eq!((count, damaged), (2, 1));
    assert_eq!(what, "the file has 4544 bytes instead of 4608");
    assert!(meaning.contains("it was cut"), "{meaning}");
    let (_, meaning, count, damaged) = said(&[&whole[..], &[0]].concat());
    assert_eq!((count, damaged), (1, 0));
    assert!(meaning.contains("behind the last record"), "{meaning}");
}

/// The last of the walked segments is named: nobody knows where the log stands in it.
#[test]
fn rot_right_up_to_the_end_is_refused() {
    for config in [journal(8), shard(8)] {
        let disk = rolled(config);
        let is_used = |number: &u64| disk.bytes(*number)[HEADER_BYTES] != 0;
        let used = disk.numbers().into_iter().rfind(is_used).unwrap();
        change(&disk, used - 2, 7);
        for (number, byte) in [(used - 1, 0), (used, 0xee)] {
            let mut bytes = disk.bytes(number);
            bytes[HEADER_BYTES..].fill(byte);
            disk.put(number, bytes);
        }
        let refusal = OpenError::Refused { segment: used, fault: HeaderFault::NothingStands };
        assert_eq!(judged(&disk, config).0.refusal(), Some(&refusal));
        assert_eq!(Log::open(disk.storage(), config, at(2)).unwrap_err(), refusal);
    }
}

/// In a journal it stands for the frames themselves; in a shard's log it moves nothing.
#[test]
fn a_loss_behind_a_hole_begins_where_the_numbers_go_on() {
    use crate::wire::{Gap, GapReason, Seq};
    for (config, from_seq) in [(journal(32), 10), (shard(32), 3)] {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, config);
        turn(&mut log, [1, 2]);
        let seq = |seq| Seq::new(seq).unwrap();
        let hole = Frame::seal(Gap::uncounted(GapReason::Corrupt, seq(3), seq(9)));
        log.append_entry(LogEntry::Hole(&hole)).unwrap();
        turn(&mut log, [10, 11, 12]);
        log.close(at(2)).unwrap();
        drop(log);
        let bytes = disk.bytes(1);
        let (frames, _) = crate::wire::as_frames(&bytes[HEADER_BYTES..]);
        let place = frames.iter().position(|it| it.seq.get() == 10 && is_event(it)).unwrap();
        // The mark before it states the next seq: it goes too.
        for at in (0..place).rev().take_while(|at| frames[*at].view::<Mark>().is_some()) {
            change(&disk, 1, at);
        }
        change(&disk, 1, place);
        let [Item::Lost { from_seq: from, to_seq: 10, .. }] = losses(&items(&disk, config))[..]
        else {
            panic!("{:?}", items(&disk, config))
        };
        assert_eq!(from, from_seq);
    }
}

#[test]
fn what_an_outline_says_of_a_log_is_what_the_log_says() {
    let keeps = Retention { bytes_max: Some(4 * (4096 + 8 * 64)), age_max: None };
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, LogConfig { retention: keeps, ..journal(8) });
    log.set_upstream(5, 100, at(1)).unwrap();
    for seq in 1..=60 {
        turn(&mut log, [seq]);
        log.handle_completions(at(1));
    }
    let outline = judged(&disk, journal(8)).0;
    assert_eq!((outline.name().as_str(), outline.upstream()), ("journal", (5, 160)));
    assert_eq!(outline.first_seq(), log.first_seq().unwrap().get());
    assert!(outline.first_seq() > 1 && outline.first_position() > 0);
    assert_eq!(
        (outline.first_position(), outline.end_position()),
        (log.first_position(), log.committed_position())
    );
    let held = log.committed_position() - log.first_position();
    assert_eq!(outline.record_bytes(), held * 64);
}

#[test]
fn a_log_of_a_single_record_is_read() {
    let disk = MemoryDisk::new(4096);
    drop(open(&disk, journal(8)));
    let [Item::Mark(0, mark)] = items(&disk, journal(8))[..] else { panic!("one mark") };
    assert!(mark.is(Reason::Open));
}

#[test]
fn segments_that_nobody_wrote_say_nothing_without_the_one_before_them() {
    let disk = many();
    disk.take(1);
    for number in disk.numbers() {
        let mut bytes = disk.bytes(number);
        bytes[HEADER_BYTES..].fill(0);
        disk.put(number, bytes);
    }
    let refusal = OpenError::Refused { segment: 2, fault: HeaderFault::NothingStands };
    let outline = judged(&disk, journal(8)).0;
    assert_eq!((outline.refusal(), outline.end_position()), (Some(&refusal), 8));
    assert_eq!(Log::open(disk.storage(), journal(8), at(2)).unwrap_err(), refusal);
}

#[test]
fn a_segment_of_another_size_in_the_middle_does_not_continue_the_log() {
    let disk = many();
    let other = MemoryDisk::new(4096);
    let (mut log, _) = open(&other, journal(16));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    drop(log);
    disk.put(3, other.bytes(3));
    let refusal = OpenError::Refused { segment: 3, fault: HeaderFault::Chain };
    let (outline, _, found) = judged(&disk, journal(8));
    assert_eq!(outline.refusal(), Some(&refusal));
    assert_eq!(Log::open(disk.storage(), journal(8), at(2)).unwrap_err(), refusal);
    let out = LeftOut { segment: 3, fault: HeaderFault::Chain, is_skipped: false };
    assert_eq!(outline.left_out[0], out);
    assert!(found.iter().any(|it| it.meaning.starts_with("an open refuses the log")), "{found:#?}");
}

/// Whoever wrote a segment has made the next one before, so the last of them is empty.
#[test]
fn a_rotten_header_that_an_open_cannot_do_without_is_to_blame() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    let is_empty = |number: u64| disk.bytes(number)[HEADER_BYTES..].iter().all(|byte| *byte == 0);
    while disk.numbers().len() < 6 || !is_empty(disk.numbers().len() as u64) {
        let next = log.next_seq();
        turn(&mut log, [next]);
        log.handle_completions(at(1));
    }
    drop(log);
    let used = disk.numbers().len() as u64 - 1;
    for number in [2, used] {
        let disk = disk.kill();
        let mut bytes = disk.bytes(number);
        bytes[12] ^= 1;
        disk.put(number, bytes);
        let (outline, _, found) = judged(&disk, journal(8));
        let opened = Log::open(disk.storage(), journal(8), at(2));
        assert_eq!(outline.refusal(), opened.as_ref().err());
        let is_skipped = number == 2;
        let out = [LeftOut { segment: number, fault: HeaderFault::Crc, is_skipped }];
        assert_eq!((&outline.left_out[..], opened.is_ok()), (&out[..], is_skipped));
        assert_eq!(found[0].meaning.contains("readers get a gap"), is_skipped, "{found:#?}");
    }
}

#[test]
fn a_first_mark_that_does_not_follow_is_found_though_it_is_good() {
    let disk = many();
    let mut bytes = disk.bytes(3);
    let first = *crate::wire::as_frames(&bytes[HEADER_BYTES..]).0[0].view::<Mark>().unwrap();
    let seq = (first.seq.get() + 1).into();
    let other = Frame::seal(Mark { seq, ..first });
    bytes[HEADER_BYTES..HEADER_BYTES + 64].copy_from_slice(other.as_bytes());
    disk.put(3, bytes);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!((summary.verdict, found[0].position), (Verdict::Corrupt, Some(16)), "{found:#?}");
    assert!(found[0].what.contains("does not follow"), "{found:#?}");
}

#[test]
fn a_segment_that_was_not_finished_is_noted() {
    let disk = many();
    let half_made = vec!["00000000000000000099.tmp".to_owned()];
    let before = Listing { half_made: half_made.clone(), ..disk.clone().list().unwrap() };
    let mut files = running::listed_before(disk, before);
    let outline = Outline::with_rules(&mut files, journal(8).name, rules(journal(8))).unwrap();
    for (in_use, meaning) in
        [(true, "the writer is making it"), (false, "the next open removes it")]
    {
        let mut found = Found::default();
        let summary = verify(&mut files, &outline, in_use, &mut found).unwrap();
        assert_eq!((&found.0[0].file, found.0[0].meaning.as_str()), (&half_made[0], meaning));
        assert_eq!(summary.verdict, Verdict::Clean);
    }
}

#[test]
fn damage_is_listed_in_the_order_of_positions() {
    let disk = rolled(journal(8));
    let is_used = |number: &u64| disk.bytes(*number)[HEADER_BYTES] != 0;
    let used = disk.numbers().into_iter().rfind(is_used).unwrap();
    change(&disk, used - 1, 3);
    change(&disk, 3, 0);
    change(&disk, 2, 7);
    let (_, recovery) = open(&disk, journal(8));
    let at = 8 * (used - 2) + 3;
    assert_eq!(recovery.damaged, [15..17, at..at + 1]);
}
