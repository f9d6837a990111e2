//! What is said about a log from outside, held against what an open makes of the same bytes.

use zerocopy::IntoBytes;

use super::super::counters::{Rules, Sequence};
use super::super::memory::MemoryDisk;
use super::super::tests::{append, at, contents, frame, journal, open, shard, turn};
use super::super::{
    Log, LogConfig, LogEntry, OpenError, Read, Reason, Retention, StorageError, SyncPolicy,
};
use super::*;

/// The name of a test's log does not say which kind of log it is.
fn rules(config: LogConfig) -> Rules {
    Rules { sequence: config.sequence, upstream: config.upstream }
}

/// What was found, and the bytes that were gone through.
#[derive(Default)]
struct Found(Vec<Finding>, u64);

impl Watch for Found {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }

    fn passed(&mut self, bytes: u64) {
        self.1 += bytes;
    }
}

fn judged(disk: &MemoryDisk, config: LogConfig) -> (Outline, Summary, Vec<Finding>) {
    let mut files = disk.clone();
    let outline = Outline::with_rules(&mut files, config.name, rules(config)).unwrap();
    let mut found = Found::default();
    let summary = verify(&mut files, &outline, false, &mut found).unwrap();
    (outline, summary, found.0)
}

fn items(disk: &MemoryDisk, config: LogConfig) -> Vec<Item> {
    let mut files = disk.clone();
    let outline = Outline::with_rules(&mut files, config.name, rules(config)).unwrap();
    let mut reader = Reader::new(files, &outline).unwrap();
    std::iter::from_fn(|| reader.next_item().unwrap()).collect()
}

fn seqs(items: &[Item]) -> Vec<u64> {
    let data = items.iter().filter_map(|item| match item {
        Item::Data(frame) => Some(frame.seq.get()),
        _ => None,
    });
    data.collect()
}

/// Holds the judgement against an open of the same bytes.
fn agrees(disk: &MemoryDisk, config: LogConfig, what: &str) {
    let (outline, summary, found) = judged(disk, config);
    // Only then the open, which changes the disk.
    let before: Vec<Vec<u8>> = disk.numbers().iter().map(|number| disk.bytes(*number)).collect();
    let read = outline.refusal().is_none().then(|| items(disk, config));
    let after: Vec<Vec<u8>> = disk.numbers().iter().map(|number| disk.bytes(*number)).collect();
    assert!(before == after, "{what}: reading has changed the disk");
    let (log, recovery) = match Log::open(disk.storage(), config, at(0)) {
        Ok(opened) => opened,
        Err(refused) => {
            assert_eq!(outline.refusal(), Some(&refused), "{what}");
            assert_eq!(summary.verdict, Verdict::Corrupt, "{what}");
            return;
        }
    };
    assert_eq!(outline.refusal(), None, "{what}");
    assert_eq!(summary.end_position, recovery.end_position, "{what}");
    assert_eq!(summary.next_seq, recovery.next_seq, "{what}");
    assert_eq!(summary.epoch, recovery.epoch, "{what}");
    assert_eq!(outline.lineage(), log.lineage(), "{what}");
    assert_eq!(summary.epoch_id, log.epoch_id(), "{what}");
    assert_eq!(summary.cut_records, recovery.cut_records, "{what}");
    assert_eq!(summary.is_closed && summary.cut_records == 0, recovery.clean, "{what}");
    assert_eq!(outline.damaged, recovery.damaged, "{what}");
    let whole = recovery.damaged.is_empty() && recovery.skipped_segments.is_empty();
    let is_short = recovery.missing_front.is_some() || recovery.is_end_missing;
    let expected = match (whole, recovery.cut_records) {
        (true, 0) if !is_short => Verdict::Clean,
        (true, _) => Verdict::Loss,
        (false, _) => Verdict::Corrupt,
    };
    assert_eq!(summary.verdict, expected, "{what}: {found:#?}");
    // What a reader without the log is given is what the log gives.
    let (held, damaged) = contents(&log);
    let read = read.unwrap();
    assert_eq!(seqs(&read), held, "{what}");
    // Where an Epoch mark rots, an open takes the marks of that epoch for rot too, and so does the summary.
    let rotten: u64 = recovery.damaged.iter().map(|range| range.end - range.start).sum();
    assert!(summary.damaged_records >= damaged.len() as u64, "{what}");
    if recovery.skipped_segments.is_empty() {
        assert_eq!(summary.damaged_records, rotten, "{what}");
    }
}

/// A log of few records over two segments and a prepared one.
fn few(config: LogConfig, closed: bool) -> MemoryDisk {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, config);
    log.follow_epoch((1, 71), 1, at(0)).unwrap();
    for seq in 1..=5 {
        turn(&mut log, [seq]);
    }
    if closed {
        log.handle_completions(at(1));
        log.close(at(1)).unwrap();
    }
    drop(log);
    disk
}

#[test]
fn every_flipped_bit_is_judged_as_an_open_judges_it() {
    for (config, closed) in [(journal(8), false), (journal(8), true), (shard(8), false)] {
        let whole = few(config, closed);
        for number in whole.numbers() {
            let bytes = whole.bytes(number);
            for bit in (0..128 * 8).chain(HEADER_BYTES * 8..bytes.len() * 8) {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let disk = whole.kill();
                disk.put(number, changed);
                agrees(&disk, config, &format!("closed {closed}, segment {number}, bit {bit}"));
            }
        }
    }
}

#[test]
fn every_truncation_is_judged_as_an_open_judges_it() {
    for (config, closed) in [(journal(8), false), (journal(8), true), (shard(8), true)] {
        let whole = few(config, closed);
        for number in whole.numbers() {
            let bytes = whole.bytes(number);
            for len in (0..bytes.len()).filter(|len| *len < 4 || *len + 8 > HEADER_BYTES) {
                let disk = whole.kill();
                disk.put(number, bytes[..len].to_vec());
                agrees(&disk, config, &format!("closed {closed}, segment {number} cut to {len}"));
            }
        }
    }
}

/// A log of many segments.
fn many() -> MemoryDisk {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    log.handle_completions(at(1));
    log.close(at(1)).unwrap();
    drop(log);
    disk
}

#[test]
fn a_whole_log_is_clean_and_all_of_it_is_read() {
    let disk = many();
    let (outline, summary, found) = judged(&disk, journal(8));
    assert_eq!((summary.verdict, found), (Verdict::Clean, Vec::new()));
    assert_eq!((summary.frames, summary.first_seq, summary.next_seq), (60, Some(1), 61));
    assert_eq!(
        outline.watermark() + 1,
        outline.end_position(),
        "a Close mark vouches for all else"
    );
    assert_eq!(seqs(&items(&disk, journal(8))), (1..=60).collect::<Vec<_>>());
    agrees(&disk, journal(8), "whole");
}

#[test]
fn rot_where_no_open_looks_is_found_with_its_place() {
    let disk = many();
    let mut bytes = disk.bytes(2);
    bytes[HEADER_BYTES + 3 * 64 + 40] ^= 1;
    disk.put(2, bytes);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!(summary.verdict, Verdict::Corrupt);
    let [finding] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((finding.file.as_str(), finding.position), ("00000000000000000002.log", Some(11)));
    assert_eq!(finding.offset, Some(4096 + 3 * 64));
    assert!(finding.what.contains("checksum"), "{finding:?}");
    let items = items(&disk, journal(8));
    let lost: Vec<&Item> = items.iter().filter(|item| matches!(item, Item::Lost { .. })).collect();
    let seq = finding.seq.unwrap();
    assert_eq!(
        lost,
        [&Item::Lost { from_position: 11, to_position: 12, from_seq: seq, to_seq: seq }]
    );
    assert_eq!(seqs(&items).len(), 59);
}

#[test]
fn records_that_changed_places_are_found_though_each_is_good() {
    let disk = many();
    let mut bytes = disk.bytes(3);
    let (a, b) = (HEADER_BYTES + 2 * 64, HEADER_BYTES + 4 * 64);
    for index in 0..64 {
        bytes.swap(a + index, b + index);
    }
    disk.put(3, bytes);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!(summary.verdict, Verdict::Corrupt, "{found:#?}");
}

#[test]
fn missing_swapped_and_foreign_segments_are_named() {
    let disk = many();
    disk.take(4);
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!(summary.verdict, Verdict::Loss, "{found:#?}");
    assert!(found.iter().any(|finding| finding.what == "segment 4 is missing"), "{found:#?}");

    let disk = many();
    let (third, fourth) = (disk.bytes(3), disk.bytes(4));
    disk.put(3, fourth);
    disk.put(4, third);
    let (outline, summary, found) = judged(&disk, journal(8));
    assert!(outline.refusal().is_some() && summary.verdict == Verdict::Corrupt);
    let names: Vec<&str> = found.iter().map(|finding| finding.file.as_str()).collect();
    assert!(names.contains(&"00000000000000000003.log"), "{names:?}");
    assert!(names.contains(&"00000000000000000004.log"), "{names:?}");

    let disk = many();
    let other = MemoryDisk::new(4096);
    drop(open(&other, LogConfig { name: *b"other\0\0\0\0\0\0\0\0\0\0\0", ..journal(8) }));
    disk.put(2, other.bytes(1));
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!(summary.verdict, Verdict::Corrupt);
    assert!(found.iter().any(|finding| finding.what.contains("other")), "{found:#?}");
}

/// Whichever segment is missing, one that an open walks or an older one.
#[test]
fn a_log_without_any_one_segment_is_judged_as_an_open_judges_it() {
    for config in [journal(8), shard(8)] {
        let whole = few(config, false);
        for number in whole.numbers() {
            let disk = whole.kill();
            disk.take(number);
            let outline =
                Outline::with_rules(&mut disk.clone(), config.name, rules(config)).unwrap();
            match Log::open(disk.kill().storage(), config, at(0)) {
                Ok((log, recovery)) => {
                    assert_eq!(outline.refusal(), None, "without {number}");
                    assert_eq!(outline.end_position(), recovery.end_position, "without {number}");
                    assert_eq!(outline.damaged, recovery.damaged, "without {number}");
                    assert_eq!(seqs(&items(&disk, config)), contents(&log).0, "without {number}");
                }
                Err(refused) => assert_eq!(outline.refusal(), Some(&refused), "without {number}"),
            }
        }
    }
}

/// The numbers of a journal prove that a mark that rots takes no frame along; those of a shard do not.
#[test]
fn a_mark_that_rots_is_no_loss_of_a_journal() {
    for config in [journal(64), shard(64)] {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, config);
        for seq in 1..=5 {
            turn(&mut log, [seq]);
        }
        let at = (1..20).find(|at| match log.read(*at, 1) {
            Read::Frames([frame]) => frame.view::<Mark>().is_some_and(|mark| mark.is(Reason::Sync)),
            _ => false,
        });
        let at = usize::try_from(at.unwrap()).unwrap();
        log.close(super::super::tests::at(2)).unwrap();
        drop(log);
        let mut bytes = disk.bytes(1);
        bytes[HEADER_BYTES + at * 64 + 20] ^= 1;
        disk.put(1, bytes);
        let items = items(&disk, config);
        let losses = items.iter().filter(|item| matches!(item, Item::Lost { .. })).count();
        assert_eq!(losses, usize::from(config.sequence == Sequence::Increasing));
        assert_eq!(seqs(&items), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_segment_left_without_a_seal_is_found_though_every_record_is_good() {
    let disk = many();
    let is_seal = |bytes: &[u8]| {
        let mark = crate::wire::as_frames(bytes).0[0].view::<Mark>().copied();
        mark.filter(|mark| mark.is(Reason::Seal))
    };
    let last = disk.bytes(2).len() - 64;
    // One in which nothing but the last slot is sealed.
    let is_one = |number: &u64| {
        let bytes = disk.bytes(*number);
        is_seal(&bytes[last..]).is_some() && is_seal(&bytes[last - 64..last]).is_none()
    };
    let number = disk.numbers().into_iter().find(is_one).unwrap();
    let mut bytes = disk.bytes(number);
    let seal = is_seal(&bytes[last..]).unwrap();
    let sync = Frame::seal(Mark { reason: Reason::Sync as u8, ..seal });
    bytes[last..].copy_from_slice(sync.as_bytes());
    disk.put(number, bytes.clone());
    let (_, summary, found) = judged(&disk, journal(8));
    assert_eq!((summary.verdict, summary.damaged_records), (Verdict::Corrupt, 0));
    let [finding] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((finding.position, finding.offset), (Some(8 * number - 1), Some(last as u64)));
    assert_eq!(finding.what, "the segment was left without a seal");
    // And a record that stands behind a seal.
    let early = Frame::seal(seal);
    bytes[last - 64..last].copy_from_slice(early.as_bytes());
    disk.put(number, bytes);
    let (_, _, found) = judged(&disk, journal(8));
    let last_one = found.last().unwrap();
    assert_eq!(last_one.what, "it stands behind the seal of its segment", "{found:#?}");
}

/// Files of which nobody can say what is durable.
struct Unsettled(MemoryDisk);

impl Files for Unsettled {
    fn list(&mut self) -> Result<Listing, StorageError> {
        self.0.list()
    }

    fn read_at(
        &mut self,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StorageError> {
        self.0.read_at(number, offset, buffer)
    }

    fn settle(&mut self, _number: u64) -> Result<(), StorageError> {
        Err(StorageError::Gone)
    }
}

#[test]
fn what_may_not_be_durable_is_read_only_when_it_was_made_so() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, LogConfig { policy: SyncPolicy::None, ..journal(64) });
    turn(&mut log, 1..=20);
    let mut files = Unsettled(disk.kill());
    let rules = rules(journal(64));
    let outline = Outline::with_rules(&mut files, journal(64).name, rules).unwrap();
    assert!(outline.watermark() < 3 && outline.end_position() > 20);
    let mut reader = Reader::new(files, &outline).unwrap();
    assert_eq!(reader.unsettled(), Some(&StorageError::Gone));
    let read: Vec<Item> = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
    assert_eq!(seqs(&read), [0; 0]);
    assert_eq!(seqs(&items(&disk.kill(), journal(64))), (1..=20).collect::<Vec<_>>());
}

/// A shard that fell back twice: frames of an earlier epoch are void.
#[test]
fn void_frames_are_left_out_as_the_log_leaves_them_out() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, shard(8));
    let mut epoch = 0;
    for (last, start) in [(20, 15), (30, 12), (40, 38), (50, 51)] {
        while log.next_seq() <= last {
            let seq = log.next_seq();
            append(&mut log, &frame(seq));
            log.commit(at(0));
        }
        epoch += 1;
        while log.follow_epoch((epoch, 70 + u64::from(epoch)), start, at(0))
            == Err(super::super::AppendError::NotReady)
        {
            log.commit(at(0));
            log.handle_completions(at(0));
        }
    }
    turn(&mut log, 51..=60);
    assert_eq!(seqs(&items(&disk.kill(), shard(8))), contents(&log).0);
    agrees(&disk.kill(), shard(8), "fallen back");
}

#[test]
fn replicas_and_parts_are_one_sequence_and_a_shard_that_was_away_learns_of_the_epoch() {
    let part = |wanted: &[u64], epoch: Option<u64>, then: &[u64]| {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, shard(16));
        log.follow_epoch((1, 71), 1, at(0)).unwrap();
        turn(&mut log, wanted.iter().copied());
        if let Some(start) = epoch {
            log.follow_epoch((2, 72), start, at(0)).unwrap();
            turn(&mut log, then.iter().copied());
        }
        drop(log);
        let mut files = disk.clone();
        let outline = Outline::with_rules(&mut files, shard(8).name, rules(shard(8))).unwrap();
        Reader::new(files, &outline).unwrap()
    };
    let readers = vec![
        part(&[1, 4, 6], Some(5), &[5, 8]),
        part(&[1, 4, 6], Some(5), &[5, 8]),
        // Was away: 7 never happened.
        part(&[2, 3, 7], None, &[]),
    ];
    let mut union = Union::new(readers);
    let all: Vec<Item> = std::iter::from_fn(|| union.next_item().unwrap()).collect();
    assert_eq!(seqs(&all), [1, 2, 3, 4, 5, 8]);
}

#[test]
fn a_hole_is_reported_once_however_often_it_is_recorded() {
    use crate::wire::{Gap, GapReason, U64};
    let disk = MemoryDisk::new(4096);
    let config = shard(32);
    let (mut log, _) = open(&disk, config);
    log.follow_epoch((1, 71), 1, at(1)).unwrap();
    turn(&mut log, [1, 2]);
    let (from_seq, to_seq) = (U64::new(3), U64::new(9));
    let reason = GapReason::Corrupt as u8;
    let hole = Frame::seal(Gap { reason, from_seq, to_seq, ..Gap::default() });
    log.append_entry(LogEntry::Hole(&hole)).unwrap();
    log.advance_upstream(10, at(1)).unwrap();
    turn(&mut log, [10]);
    log.append_entry(LogEntry::Hole(&hole)).unwrap();
    turn(&mut log, [11]);
    drop(log);
    let (_, summary, found) = judged(&disk, config);
    assert_eq!((summary.verdict, summary.holes, summary.losses), (Verdict::Loss, 1, 1));
    let said = found.iter().find(|finding| finding.severity == Severity::Loss).unwrap();
    assert_eq!((said.what.as_str(), said.seq), ("seq 3 to 9 are lost upstream", Some(3)));
    let items = items(&disk, config);
    let holes = items.iter().filter(|item| matches!(item, Item::Hole(..)));
    assert_eq!(holes.collect::<Vec<_>>(), [&Item::Hole(3, 9)]);
    assert_eq!(seqs(&items), [1, 2, 10, 11]);
}

#[test]
fn what_an_epoch_takes_back_of_a_hole_is_reported_anew_and_the_rest_is_not() {
    use crate::wire::{Gap, GapReason, U64};
    let disk = MemoryDisk::new(4096);
    let config = shard(32);
    let (mut log, _) = open(&disk, config);
    let hole = |from: u64, to: u64| {
        let (from_seq, to_seq) = (U64::new(from), U64::new(to));
        let reason = GapReason::Corrupt as u8;
        Frame::seal(Gap { reason, from_seq, to_seq, ..Gap::default() })
    };
    log.append_entry(LogEntry::Hole(&hole(3, 9))).unwrap();
    log.advance_upstream(10, at(1)).unwrap();
    turn(&mut log, [10]);
    log.append_entry(LogEntry::Hole(&hole(100, 200))).unwrap();
    log.advance_upstream(201, at(1)).unwrap();
    turn(&mut log, [201]);
    log.follow_epoch((1, 71), 150, at(1)).unwrap();
    // As the head of a segment says them.
    log.append_entry(LogEntry::Hole(&hole(3, 9))).unwrap();
    log.append_entry(LogEntry::Hole(&hole(100, 149))).unwrap();
    log.append_entry(LogEntry::Hole(&hole(150, 180))).unwrap();
    log.advance_upstream(181, at(1)).unwrap();
    turn(&mut log, [181]);
    drop(log);
    let (_, summary, _) = judged(&disk, config);
    assert_eq!((summary.holes, summary.losses), (3, 3));
    let items = items(&disk, config);
    let holes = items.iter().filter(|item| matches!(item, Item::Hole(..)));
    let told = [Item::Hole(3, 9), Item::Hole(100, 200), Item::Hole(150, 180)];
    assert_eq!(holes.copied().collect::<Vec<_>>(), told);
}

/// A log over six segments and a prepared one.
fn rolled(config: LogConfig) -> MemoryDisk {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, config);
    for seq in 1..=40 {
        turn(&mut log, [seq]);
        log.handle_completions(at(1));
    }
    drop(log);
    assert!(disk.numbers().len() > 6, "{:?}", disk.numbers());
    disk
}

#[test]
fn a_log_whose_last_segments_were_taken_away_is_told() {
    for config in [journal(8), shard(8)] {
        let whole = rolled(config);
        let numbers = whole.numbers();
        for left in 1..numbers.len() {
            let disk = whole.kill();
            numbers[left..].iter().for_each(|number| disk.take(*number));
            let what = format!("{left} of {} segments", numbers.len());
            let (outline, summary, found) = judged(&disk, config);
            // One that was prepared and never written is no loss.
            let is_missing = whole.bytes(numbers[left])[HEADER_BYTES] != 0;
            assert_eq!(outline.end_missing().is_some(), is_missing, "{what}");
            assert_eq!(summary.verdict > Verdict::Clean, is_missing, "{what}: {found:#?}");
            let next = format!("segment {} is missing", left + 1);
            let is_named = found.iter().any(|it| it.what.contains(&next));
            assert_eq!(is_named, is_missing, "{what}: {found:#?}");
            agrees(&disk, config, &what);
            let opened = Log::open(disk.storage(), config, at(2));
            match opened {
                Err(error) => {
                    assert!(
                        is_missing && config.sequence == Sequence::Contiguous,
                        "{what}: {error}"
                    );
                }
                Ok((mut log, recovery)) => {
                    // It was opened before, by `agrees`, and has gone on behind what is left.
                    assert!(!is_missing || config.sequence == Sequence::Increasing, "{what}");
                    let next = recovery.next_seq;
                    turn(&mut log, [next]);
                    assert_eq!(log.verify(), [], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_front_that_the_retention_did_not_remove_is_told() {
    for config in [journal(8), shard(8)] {
        let whole = rolled(config);
        let disk = whole.kill();
        disk.take(1);
        disk.take(2);
        let (outline, summary, found) = judged(&disk, config);
        assert_eq!(outline.missing_front(), Some(1..3));
        assert_eq!(summary.verdict, Verdict::Loss);
        assert!(found[0].what.contains("segments 1 to 2 are missing"), "{found:#?}");
        agrees(&disk, config, "without its front");
        let (log, recovery) = Log::open(disk.storage(), config, at(2)).unwrap();
        assert!(log.is_front_missing());
        assert_eq!(recovery.missing_front, Some(1..3));
        // The retention takes what is left of the front, and says so: that is no loss.
        let keeps = Retention { bytes_max: Some(3 * (4096 + 8 * 64)), age_max: None };
        let disk = whole.kill();
        let (mut log, _) =
            Log::open(disk.storage(), LogConfig { retention: keeps, ..config }, at(2)).unwrap();
        for _ in 0..20 {
            log.handle_timers(at(2));
            log.handle_completions(at(2));
        }
        assert!(disk.numbers()[0] > 3 && !log.is_front_missing(), "{:?}", disk.numbers());
        drop(log);
        assert_eq!(judged(&disk, config).0.missing_front(), None);
        agrees(&disk, config, "trimmed");
        disk.take(disk.numbers()[0]);
        assert!(judged(&disk, config).0.missing_front().is_some());
        // Without any segment nothing may begin anew.
        disk.numbers().into_iter().for_each(|number| disk.take(number));
        let refused = Log::open(disk.storage(), config, at(2)).unwrap_err();
        assert!(matches!(refused, OpenError::EndMissing { .. }), "{refused}");
    }
}

mod epochs;
mod places;
mod running;
