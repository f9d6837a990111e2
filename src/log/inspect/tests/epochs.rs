//! Frames that never happened, in a log of several epochs and in logs of one sequence side by side.

use super::*;

/// A shard's log on a disk, with these epochs: where each is followed from, and its frames.
fn followed(config: LogConfig, epochs: &[(u32, u64, &[u64])]) -> MemoryDisk {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, config);
    for (epoch, start, frames) in epochs {
        while *epoch > 0
            && log.follow_epoch((*epoch, 70 + u64::from(*epoch)), *start, at(1)).is_err()
        {
            log.commit(at(1));
            log.handle_completions(at(1));
        }
        for seq in *frames {
            turn(&mut log, [*seq]);
            log.handle_completions(at(1));
        }
    }
    drop(log);
    disk
}

fn reader(disk: &MemoryDisk) -> Reader<MemoryDisk> {
    let outline = Outline::with_rules(&mut disk.clone(), shard(8).name, rules(shard(8))).unwrap();
    let reader = Reader::new(disk.clone(), &outline).unwrap();
    assert_eq!(reader.stands_in(), outline.epoch());
    reader
}

fn union(disks: &[&MemoryDisk]) -> Vec<u64> {
    let mut union = Union::new(disks.iter().map(|disk| reader(disk)).collect());
    assert_eq!((union.readers().len(), union.bytes_read()), (disks.len(), 0));
    let all: Vec<Item> = std::iter::from_fn(|| union.next_item().unwrap()).collect();
    let outline = |disk: &&MemoryDisk| judged(disk, shard(8)).0;
    let bytes: u64 = disks.iter().map(|disk| outline(disk).record_bytes()).sum();
    assert_eq!(union.bytes_read(), bytes);
    seqs(&all)
}

/// The first segment begins in no epoch, and what lies in it of later ones is not what the next one begins in.
#[test]
fn epochs_that_fell_back_within_the_first_segment_are_told_apart() {
    let frames: Vec<u64> = (15..=60).collect();
    let disk =
        followed(shard(32), &[(1, 1, &[1, 8, 12, 14]), (2, 10, &[10, 11, 18]), (3, 15, &frames)]);
    let (log, _) = open(&disk.kill(), shard(32));
    let live: Vec<u64> = [1, 8, 10, 11].into_iter().chain(15..=60).collect();
    assert_eq!(contents(&log).0, live);
    assert_eq!(seqs(&items(&disk, shard(32))), live);
}

#[test]
fn frames_before_any_epoch_are_void_where_another_log_says_so() {
    let old = followed(shard(8), &[(0, 0, &[1, 4, 7])]);
    let new = followed(shard(8), &[(1, 5, &[5, 9])]);
    assert_eq!(union(&[&old, &new]), [1, 4, 5, 9]);
    assert_eq!(union(&[&new, &old]), [1, 4, 5, 9]);
    assert_eq!(seqs(&items(&old, shard(8))), [1, 4, 7]);
    assert_eq!(union(&[&old]), [1, 4, 7]);
}

/// It notes where the epoch that it had has ended, and that is where the next one began, of which it knows nothing.
/// That holds too when what it had of the earlier epoch is removed, and when small segments have no room to say that there
/// was one.
#[test]
fn a_shard_that_missed_epochs_makes_no_frame_of_them_void() {
    for (records, entries) in [(16, 2), (8, 1)] {
        let frames: Vec<u64> = (30..=140).collect();
        let away = followed(shard(records), &[(1, 1, &[1, 2, 3]), (5, 20, &frames)]);
        let there = followed(shard(16), &[(1, 1, &[5]), (3, 20, &[22, 24]), (5, 26, &[27])]);
        let together: Vec<u64> = [1, 2, 3, 5, 22, 24, 27].into_iter().chain(30..=140).collect();
        assert_eq!(union(&[&away, &there]), together);
        let bytes_max = 4 * (4096 + records * 64);
        let keeps = Retention { bytes_max: Some(bytes_max), age_max: None };
        let (mut log, _) = open(&away, LogConfig { retention: keeps, ..shard(records) });
        for _ in 0..40 {
            log.handle_timers(at(2));
            log.handle_completions(at(2));
        }
        let first = log.first_seq().unwrap().get();
        drop(log);
        let said = reader(&away).lineage().entries().len();
        assert!(first > 30 && said == entries, "{first} {said}");
        let is_left = |seq: &u64| *seq > 3 && (*seq < 30 || *seq >= first);
        let left: Vec<u64> = together.into_iter().filter(is_left).collect();
        assert_eq!(union(&[&away, &there]), left);
        assert_eq!(union(&[&there, &away]), left);
    }
}

/// One shard missed the third epoch. It says where the second had ended when the fourth began, before the place where the
/// third had begun.
#[test]
fn of_two_words_about_the_end_of_an_epoch_the_earlier_counts() {
    let there = followed(shard(16), &[(2, 1, &[41]), (3, 50, &[])]);
    let missed = followed(shard(16), &[(2, 1, &[39]), (4, 40, &[60])]);
    let away = followed(shard(16), &[(2, 1, &[38, 40, 45])]);
    assert_eq!(union(&[&there, &missed, &away]), [38, 39, 60]);
    assert_eq!(union(&[&missed, &away, &there]), [38, 39, 60]);
}

#[test]
fn a_fall_behind_many_segments_of_one_epoch_is_found_by_the_next_open() {
    let (long, short): (Vec<u64>, Vec<u64>) = ((1..=60).collect(), (30..=40).collect());
    let disk = followed(shard(8), &[(1, 1, &long), (2, 30, &short)]);
    let live: Vec<u64> = (1..=40).collect();
    let (log, _) = open(&disk.kill(), shard(8));
    assert_eq!(contents(&log).0, live);
    assert_eq!(seqs(&items(&disk, shard(8))), live);
}

/// The record of an epoch's identity says as much as its mark.
#[test]
fn a_log_of_several_epochs_is_read_as_an_open_reads_it_whichever_record_rots() {
    let frames: Vec<u64> = (12..=30).collect();
    let epochs: [(u32, u64, &[u64]); 3] =
        [(1, 1, &[1, 8, 12, 14]), (2, 10, &[10, 11, 18]), (3, 12, &frames)];
    for records in [8, 64] {
        let whole = followed(shard(records), &epochs);
        for number in whole.numbers() {
            let bytes = whole.bytes(number);
            for offset in (HEADER_BYTES..bytes.len()).step_by(64) {
                let mut changed = bytes.clone();
                changed[offset + 20] ^= 1;
                let disk = whole.kill();
                disk.put(number, changed);
                let read = judged(&disk, shard(records)).0.refusal().is_none();
                let read = read.then(|| seqs(&items(&disk, shard(records))));
                let what = format!("{records} records, segment {number}, offset {offset}");
                match Log::open(disk.storage(), shard(records), at(0)) {
                    Ok((log, _)) => assert_eq!(read, Some(contents(&log).0), "{what}"),
                    Err(_) => assert_eq!(read, None, "{what}"),
                }
            }
        }
    }
}
