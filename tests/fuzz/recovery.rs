//! The recovery scan on images of logs that somebody has changed: it refuses, or it finds a log whose
//! every frame was once appended, in order, and finds the same once more.

use std::collections::BTreeSet;

use pregao::log::memory::{MemoryDisk, PageFate};
use pregao::log::{
    AppendError, Log, LogConfig, Read, Retention, Sequence, SyncPolicy, UpstreamRule,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{Frame, Kind, Trade, padded};

use crate::mutate::{below, cases, mutate};

const NOW: Now = Now { mono: Mono(1), wall_ns: 1_700_000_000_000_000_000 };

fn config(random: &mut Random) -> LogConfig {
    let (upstream, sequence) = match random.below(2) {
        0 => (UpstreamRule::CountAppended, Sequence::Contiguous),
        _ => (UpstreamRule::FollowSeq, Sequence::Increasing),
    };
    LogConfig {
        name: padded("fuzz"),
        segment_records: random.between(4, 24),
        policy: SyncPolicy::Batch,
        upstream,
        sequence,
        retention: Retention::default(),
    }
}

/// A log that lived; every frame that it ever held.
fn life(random: &mut Random, config: LogConfig) -> (MemoryDisk, BTreeSet<Vec<u8>>) {
    let disk = MemoryDisk::new(256);
    let mut written = BTreeSet::new();
    for epoch in 1..=random.between(1, 3) {
        let (mut log, _) = Log::open(disk.storage(), config, NOW).unwrap();
        let start = match config.sequence {
            Sequence::Contiguous => log.next_seq(),
            Sequence::Increasing => random.between(1, log.next_seq()),
        };
        while log.follow_epoch((u32::try_from(epoch).unwrap(), epoch), start, NOW)
            == Err(AppendError::NotReady)
        {
            log.commit(NOW);
            log.handle_completions(NOW);
        }
        for _ in 0..random.between(1, 40) {
            let trade = Trade {
                seq: log.next_seq().into(),
                trade_id: random.next_u64().into(),
                ..Trade::default()
            };
            let frame = Frame::seal(trade);
            written.insert(zerocopy::IntoBytes::as_bytes(&frame).to_vec());
            while log.append(&frame) == Err(AppendError::NotReady) {
                log.commit(NOW);
                log.handle_completions(NOW);
            }
            if random.below(3) == 0 {
                log.commit(NOW);
                log.handle_completions(NOW);
            }
        }
        log.commit(NOW);
        if random.below(2) == 0 {
            log.close(NOW).unwrap();
        }
    }
    (disk, written)
}

/// The frames that are live, after checking what must hold of any log that opens.
fn frames(disk: &MemoryDisk, config: LogConfig, written: &BTreeSet<Vec<u8>>) -> Option<Vec<Frame>> {
    let (log, recovery) = Log::open(disk.storage(), config, NOW).ok()?;
    let mut live: Vec<Frame> = Vec::new();
    let mut position = log.first_position();
    loop {
        match log.read(position, usize::MAX) {
            Read::End => break,
            Read::Damaged(range) => {
                assert!(range.start == position && range.end > position);
                position = range.end;
            }
            Read::Frames(found) => {
                for (frame, at) in found.iter().zip(position..) {
                    assert_eq!(frame.check(), Ok(()));
                    if matches!(frame.kind(), Some(Kind::LogMark | Kind::LogEpoch)) {
                        continue;
                    }
                    let bytes = zerocopy::IntoBytes::as_bytes(frame);
                    assert!(written.contains(bytes), "{frame:?} was never appended");
                    if frame.seq.get() < log.void_from(at) {
                        live.push(*frame);
                    }
                }
                position += found.len() as u64;
            }
        }
    }
    let last = live.last().map_or(0, |frame| frame.seq.get());
    assert!(recovery.next_seq > last, "{last} would be used again");
    for seq in 0..=last + 1 {
        let _ = log.position_of_seq(seq);
    }
    let _ = log.verify();
    Some(live)
}

#[test]
fn no_image_panics_and_what_opens_holds_nothing_that_was_not_appended() {
    cases(3_000, |random| {
        let config = config(random);
        let (disk, written) = life(random, config);
        let disk = if random.below(2) == 0 {
            let mut stream = random.fork(9);
            disk.crash(below(random, 4), |_, _| match stream.below(4) {
                0 => PageFate::Old,
                1 => PageFate::New,
                2 => PageFate::TornFront,
                _ => PageFate::TornBack,
            })
        } else {
            disk.kill()
        };
        // A good record in a wrong place passes its own checksum: what such an image holds is not known,
        // only that it does no harm.
        let mut has_moved = false;
        for _ in 0..random.between(1, 3) {
            let numbers = disk.numbers();
            if numbers.is_empty() {
                break;
            }
            let number = numbers[below(random, numbers.len())];
            match random.below(12) {
                0 => disk.take(number),
                1 => disk.put(number + random.below(3), disk.bytes(number)),
                2 => {
                    let mut bytes = disk.bytes(number);
                    bytes.truncate(below(random, bytes.len() + 1));
                    disk.put(number, bytes);
                }
                3 => {
                    has_moved = true;
                    let mut bytes = disk.bytes(number);
                    let records = bytes.len().saturating_sub(4096) / 64;
                    if records > 1 {
                        let (from, to) = (below(random, records), below(random, records));
                        let record = bytes[4096 + from * 64..][..64].to_vec();
                        bytes[4096 + to * 64..][..64].copy_from_slice(&record);
                    }
                    disk.put(number, bytes);
                }
                5 => {
                    let mut header = disk.bytes(number);
                    header.truncate(128);
                    mutate(random, &mut header);
                    let mut bytes = disk.bytes(number);
                    for (byte, changed) in bytes.iter_mut().zip(header) {
                        *byte = changed;
                    }
                    disk.put(number, bytes);
                }
                _ => {
                    let mut bytes = disk.bytes(number);
                    let front = bytes.len().min(4096);
                    let mut records = bytes.split_off(front);
                    mutate(random, &mut records);
                    bytes.extend(records);
                    disk.put(number, bytes);
                }
            }
        }
        let Some(first) = frames(&disk, config, &written) else { return };
        let second = frames(&disk, config, &written);
        if has_moved {
            return;
        }
        assert_eq!(second.as_ref(), Some(&first), "a second start found something else");
    });
}
