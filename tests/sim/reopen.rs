//! A log that is opened behind a death of its process, and then loses its power.

use pregao::log::memory::{MemoryDisk, MemoryStorage, PageFate};
use pregao::log::{AppendError, Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::time::Now;
use pregao::wire::{Frame, Trade, U64, padded};

use crate::stored::stored;

/// Records of a segment.
const RECORDS: u64 = 32;

fn open(disk: &MemoryDisk) -> Log<MemoryStorage> {
    let config = LogConfig {
        name: padded("core"),
        segment_records: RECORDS,
        // Only what is left is synced.
        policy: SyncPolicy::None,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    };
    let opened = Log::open(disk.storage(), config, Now::default());
    opened.unwrap_or_else(|error| panic!("[a-crashed-log-opens] {error}")).0
}

fn append(log: &mut Log<MemoryStorage>) {
    let frame = Frame::seal(Trade { seq: U64::new(log.next_seq()), ..Trade::default() });
    while let Err(error) = log.append(&frame) {
        assert_eq!(error, AppendError::NotReady);
        log.handle_completions(Now::default());
    }
    log.commit(Now::default());
}

/// The process dies while the segment that it has left is being synced, so two of them are in memory only. What
/// the next open takes for durable is durable.
pub(crate) fn what_an_open_takes_for_durable_survives_a_loss_of_power() {
    let disk = MemoryDisk::new(512);
    let mut log = open(&disk);
    let segment = |log: &Log<MemoryStorage>| log.committed_position() / RECORDS;
    while segment(&log) < 3 || log.committed_position() % RECORDS < RECORDS * 3 / 4 {
        append(&mut log);
    }
    log.handle_completions(Now::default());
    disk.pause_jobs(true);
    while segment(&log) < 4 || log.committed_position() % RECORDS < RECORDS / 4 {
        append(&mut log);
    }
    assert!(disk.jobs() > 0, "the segment that was left has been synced");
    let left = disk.kill();
    let log = open(&left);
    let promised = log.durable_seq();
    assert_eq!(promised, log.next_seq(), "an open makes durable what it found");
    let after = stored(&open(&left.crash(0, |_, _| PageFate::Old)));
    let has_all = after.damaged == 0 && after.next_seq >= promised;
    assert!(has_all, "[durable-survives-any-crash] {promised} was durable: {:?}", after.next_seq);
    assert!(after.live.iter().map(|frame| frame.seq.get()).eq(1..promised));
}
