//! What an open makes of a log that rot, a torn write or a lost header has changed.

use super::*;

#[test]
fn rot_below_the_watermark_is_reported_and_never_cut() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(32));
    turn(&mut log, 1..=5);
    turn(&mut log, 6..=9);
    drop(log);
    // Records: 0 Open, 1 Sync mark, 2..=6 frames, 7 Sync mark with W = 7, 8..=11 frames.
    let mut bytes = disk.bytes(1);
    bytes[4096 + 4 * 64 + 20] ^= 1;
    disk.put(1, bytes.clone());
    for round in 0..3 {
        let (log, recovery) = open(&disk, journal(32));
        assert_eq!((recovery.damaged.clone(), recovery.cut_records), (vec![4..5], 0));
        assert_eq!(recovery.next_seq, 10);
        assert_eq!(recovery.upstream_seq, 10);
        assert_eq!(contents(&log), (vec![1, 2, 4, 5, 6, 7, 8, 9], vec![4]), "round {round}");
        assert_eq!(log.verify(), [4..5]);
        assert_eq!(disk.bytes(1)[4096 + 4 * 64..][..64], bytes[4096 + 4 * 64..][..64]);
    }
    let (mut log, _) = open(&disk, journal(32));
    turn(&mut log, [10]);
    assert_eq!(contents(&log).0.last(), Some(&10));
}

/// An open looks at both ends of each segment, also of those that it does not walk.
#[test]
fn rot_at_either_end_of_an_old_segment_is_reported() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    drop(log);
    for rotten in [vec![8], vec![15], vec![8, 15], vec![11]] {
        let disk = disk.kill();
        let mut bytes = disk.bytes(2);
        for position in &rotten {
            bytes[HEADER_BYTES + (position - 8) * 64 + 20] ^= 1;
        }
        disk.put(2, bytes);
        let (log, recovery) = open(&disk, journal(8));
        let ends = rotten.iter().filter(|position| **position != 11).map(|it| *it as u64);
        let ends: Vec<_> = ends.map(|position| position..position + 1).collect();
        assert_eq!((recovery.damaged, recovery.next_seq), (ends, 61), "{rotten:?}");
        assert_eq!(contents(&log).1, rotten.iter().map(|it| *it as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_torn_tail_is_cut_once() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(32));
    turn(&mut log, 1..=5);
    drop(log);
    // Records: 0 Open, 1 Sync mark with W = 1, 2..=6 frames.
    let mut bytes = disk.bytes(1);
    bytes[4096 + 4 * 64 + 20] ^= 1;
    disk.put(1, bytes);
    let (log, recovery) = open(&disk, journal(32));
    assert_eq!((recovery.damaged, recovery.cut_records, recovery.next_seq), (vec![], 3, 3));
    drop(log);
    let (log, recovery) = open(&disk, journal(32));
    assert_eq!((recovery.cut_records, recovery.next_seq, recovery.clean), (0, 3, false));
    assert_eq!(contents(&log), (vec![1, 2], vec![]));
}

#[test]
fn a_sealed_segment_without_a_header_serves_everything_else() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    for seq in 1..=60 {
        turn(&mut log, [seq]);
    }
    let all = contents(&log).0;
    drop(log);
    let mut bytes = disk.bytes(3);
    bytes[50] ^= 4;
    disk.put(3, bytes.clone());
    let (log, recovery) = open(&disk, journal(8));
    assert_eq!((recovery.skipped_segments.clone(), recovery.next_seq), (vec![3], 61));
    assert_eq!(recovery.damaged, [16..24]);
    let (seqs, damaged) = contents(&log);
    assert_eq!(damaged, (16..24).collect::<Vec<_>>());
    assert!(seqs.len() >= all.len() - 8 && seqs.iter().all(|seq| all.contains(seq)));
    assert_eq!(disk.bytes(3), bytes, "the damaged file is evidence");
}

#[test]
fn the_segment_that_says_where_the_log_ends_cannot_be_left_out() {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    // Until the last segment is one that was made ahead, and is empty: the log ends in the one before.
    let is_empty = |number| disk.bytes(number)[HEADER_BYTES..].iter().all(|byte| *byte == 0);
    while disk.numbers().len() < 4 || !is_empty(disk.numbers()[disk.numbers().len() - 1]) {
        let next_seq = log.next_seq();
        turn(&mut log, [next_seq]);
        log.handle_completions(at(1));
    }
    let next_seq = log.next_seq();
    drop(log);
    let numbers = disk.numbers();
    let (last, before_last) = (numbers[numbers.len() - 1], numbers[numbers.len() - 2]);
    let rotten = |number| {
        let mut bytes = disk.bytes(number);
        bytes[12] ^= 1;
        disk.put(number, bytes.clone());
        let refused = Log::open(disk.storage(), journal(8), at(0)).unwrap_err();
        assert!(
            matches!(refused, OpenError::Refused { segment, fault: HeaderFault::Crc }
            if segment == number),
            "{refused}"
        );
        assert_eq!(disk.bytes(number), bytes, "refused, and yet changed");
        bytes[12] ^= 1;
        disk.put(number, bytes);
    };
    rotten(last);
    rotten(before_last);
    assert_eq!(open(&disk, journal(8)).1.next_seq, next_seq);
    disk.take(before_last);
    assert!(Log::open(disk.storage(), journal(8), at(0)).is_err(), "a missing end");
}

/// A log of an Open mark, a Sync mark and two frames, and when it was closed a Sync and a Close mark.
fn few_records(closed: bool) -> (MemoryDisk, Vec<u8>) {
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(8));
    turn(&mut log, 1..=2);
    if closed {
        log.handle_completions(at(1));
        log.close(at(1)).unwrap();
    }
    drop(log);
    let bytes = disk.bytes(1);
    (disk, bytes)
}

/// Opens a changed segment: refused with every byte as it was, or a true part of what was written.
fn opens_to_a_true_part(changed: &[u8], what: &str) {
    let disk = MemoryDisk::new(4096);
    disk.put(1, changed.to_vec());
    let (log, recovery) = match Log::open(disk.storage(), journal(8), at(0)) {
        Err(OpenError::Refused { .. }) => {
            assert_eq!(disk.bytes(1), changed, "{what}: refused, and yet changed");
            return;
        }
        other => other.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    let (seqs, damaged) = contents(&log);
    assert!(seqs.iter().all(|seq| [1, 2].contains(seq)), "{what}: {seqs:?}");
    assert!(seqs.is_sorted(), "{what}: {seqs:?}");
    let full = seqs.len() == 2;
    assert!(full || !damaged.is_empty() || recovery.next_seq <= 2, "{what}: a silent hole");
    if damaged.is_empty() {
        assert_eq!(recovery.next_seq, seqs.len() as u64 + 1, "{what}");
        assert_eq!(recovery.upstream_seq, recovery.next_seq, "{what}");
    }
    drop(log);
    let (mut log, again) = open(&disk, journal(8));
    assert_eq!(again.next_seq, recovery.next_seq, "{what}");
    assert_eq!(again.cut_records, 0, "{what}");
    assert!(!again.clean);
    append(&mut log, &frame(again.next_seq));
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_truncation_of_few_records() {
    for closed in [false, true] {
        let (_, bytes) = few_records(closed);
        for len in 0..bytes.len() {
            opens_to_a_true_part(&bytes[..len], &format!("closed {closed}, cut to {len} bytes"));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_flipped_bit_of_few_records() {
    for closed in [false, true] {
        let (_, bytes) = few_records(closed);
        for bit in (0..128 * 8).chain(4096 * 8..bytes.len() * 8) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            opens_to_a_true_part(&changed, &format!("closed {closed}, bit {bit}"));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn a_flip_in_a_closed_log_is_never_taken_for_a_torn_tail() {
    let (disk, bytes) = few_records(true);
    for bit in 4096 * 8..(4096 + 4 * 64) * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.put(1, changed);
        let (_, recovery) = open(&disk, journal(8));
        assert_eq!((recovery.cut_records, recovery.damaged.len()), (0, 1), "bit {bit}");
        assert_eq!(recovery.next_seq, 3);
    }
}

proptest! {
    #[test]
    fn position_of_seq_agrees_with_a_linear_scan(
        steps in prop::collection::vec((1_u64..4, 0_u64..14), 1..60),
        reopen in any::<bool>(),
    ) {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, shard(8));
        let mut epoch = 0;
        for (advance, fall) in steps {
            // Every seventh step or so, core comes back without some of the last frames.
            if fall >= 12 {
                epoch += 1;
                let start = log.next_seq().saturating_sub(advance * 2).max(1);
                while log.follow_epoch((epoch, 70 + u64::from(epoch)), start, at(0)) == Err(AppendError::NotReady) {
                    log.commit(at(0));
                    log.handle_completions(at(0));
                }
            }
            let seq = log.next_seq() + advance - 1;
            turn(&mut log, [seq]);
        }
        if reopen {
            drop(log);
            log = open(&disk, shard(8)).0;
            prop_assert!(log.verify().is_empty());
        }
        let mut live = Vec::new();
        let mut position = log.first_position();
        while let Read::Frames(frames) = log.read(position, usize::MAX) {
            for frame in frames {
                if frame.seq.get() < log.void_from(position) {
                    live.push((position, frame.seq.get()));
                }
                position += 1;
            }
        }
        for seq in 0..=log.next_seq() + 1 {
            let scanned = live.iter().find(|(_, at)| *at >= seq).map(|(position, _)| *position);
            prop_assert_eq!(
                log.position_of_seq(seq),
                scanned.unwrap_or(log.committed_position()),
                "seq {}", seq
            );
        }
    }
}
