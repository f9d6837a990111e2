//! How large the segments of a log are.

use super::*;
use crate::limits::FIRST_SEGMENT_RECORDS;

const KIB: u64 = 1024;

#[test]
fn a_new_log_that_takes_a_large_file_before_its_first_frame() {
    let disk = MemoryDisk::new(4096);
    let (log, _) = open(&disk, journal((64 * 1024 * KIB - 4096) / 64));
    assert_eq!(log.bytes(), 1024 * KIB);
}

#[test]
fn segments_that_never_reach_the_configured_size() {
    let disk = MemoryDisk::new(4096);
    let config = journal((6 * 1024 * KIB - 4096) / 64);
    let (mut log, _) = open(&disk, config);
    let mut bytes = vec![log.bytes()];
    let mut seq = 1;
    while bytes.len() < 4 {
        turn(&mut log, seq..seq + 1000);
        seq += 1000;
        log.handle_completions(at(2));
        if bytes.last() != Some(&log.bytes()) {
            bytes.push(log.bytes());
        }
    }
    // 1 MiB, then 4, then 6 twice: four times 4 is more than the configured size.
    assert_eq!(bytes.iter().map(|bytes| bytes / KIB / 1024).collect::<Vec<_>>(), [1, 5, 11, 17]);
    log.close(at(3)).unwrap();
    drop(log);
    let (reopened, recovery) = open(&disk, config);
    assert!(recovery.clean && recovery.damaged.is_empty());
    assert_eq!(reopened.next_seq(), seq);
    let (seqs, damaged) = contents(&reopened);
    assert!(damaged.is_empty() && seqs.iter().copied().eq(1..seq));
}

#[test]
fn a_small_configured_size_is_kept() {
    const { assert!(FIRST_SEGMENT_RECORDS > 64) };
    let disk = MemoryDisk::new(4096);
    let (mut log, _) = open(&disk, journal(64));
    turn(&mut log, 1..200);
    assert!(log.bytes().is_multiple_of(64 * 64 + 4096), "{}", log.bytes());
}
