//! To the letter: every truncation and every flipped bit of segments of few records, and every crash
//! point of every workload of up to three operations, with every dirty page old, new, or torn.
//!
//! What it is not: deep. Long lives with drawn crashes are in `crash_tests.rs`.

use super::memory::{MemoryDisk, PageFate};
use super::tests::{MemoryLog, at, frame, journal, open};
use super::*;
use crate::wire::{Definition, Frame, InstrumentId, InstrumentIndex, U64};

/// Frames of the sequence are quotes, but for the definition that each segment states again.
fn event(seq: u64) -> Frame {
    if seq > 1 {
        return frame(seq);
    }
    let mut definition =
        Definition::new(InstrumentId::new(1, InstrumentIndex::FIRST), "PETR4".parse().unwrap(), 2);
    definition.seq = U64::new(1);
    Frame::seal(definition)
}

/// Events, in their order; statements; and damaged positions.
fn read_all(log: &MemoryLog) -> (Vec<Frame>, usize, u64) {
    let (mut events, mut statements, mut damaged) = (Vec::new(), 0, 0);
    let mut position = log.first_position();
    loop {
        match log.read(position, usize::MAX) {
            Read::Frames(frames) => {
                events.extend(frames.iter().filter(|frame| is_event(frame)));
                statements += frames.iter().filter(|frame| is_statement(frame)).count();
                position += frames.len() as u64;
            }
            Read::Damaged(range) => {
                damaged += range.end - range.start;
                position = range.end;
            }
            Read::End => return (events, statements, damaged),
        }
    }
}

/// Appends as a node does, and waits for whatever the log waits for.
fn append_next(log: &mut MemoryLog) {
    let next = event(log.next_seq());
    for _ in 0..8 {
        match log.append(&next) {
            Ok(_) => return log.commit(at(1)),
            // A segment that has hardly more than the marks of opens goes without.
            Err(AppendError::CheckpointDue) => assert!(log.write_checkpoint(&[event(1)]).is_ok()),
            Err(AppendError::NotReady) => {
                log.commit(at(1));
                log.handle_completions(at(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the log never became ready");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Append,
    /// Appends until the next segment is the current one, which seals the one before.
    Roll,
    /// Closes, and opens again.
    Seal,
    /// Lets go of all that is durable.
    Retain,
    /// The process dies and is started again.
    Reopen,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Append, Operation::Roll, Operation::Seal, Operation::Retain, Operation::Reopen];

/// What had been promised when the disk was in a state of the history up to `states`.
#[derive(Clone, Copy, Debug)]
struct Promise {
    states: usize,
    durable_seq: u64,
    epoch: u32,
    /// Nobody has let go of the frames from here on.
    held_seq: u64,
}

struct Life {
    disk: MemoryDisk,
    config: LogConfig,
    log: Option<MemoryLog>,
    held_seq: u64,
    promises: Vec<Promise>,
}

impl Life {
    fn new(policy: SyncPolicy, page_bytes: usize) -> Life {
        let retention = Retention { bytes_max: Some(1), age_max: None };
        let config = LogConfig { policy, retention, ..journal(8) };
        let disk = MemoryDisk::new(page_bytes);
        let mut life = Life { disk, config, log: None, held_seq: 1, promises: Vec::new() };
        life.open();
        life
    }

    fn log(&mut self) -> &mut MemoryLog {
        self.log.as_mut().unwrap()
    }

    fn open(&mut self) {
        self.log = None;
        let (mut log, recovery) = open(&self.disk, self.config);
        log.retain_from_seq(self.held_seq);
        log.require_checkpoints();
        self.log = Some(log);
        self.promise();
        if !recovery.clean {
            let id = 100 + u64::from(self.log().epoch());
            self.log().begin_epoch(NewEpoch::of(id), at(0)).unwrap();
        }
        self.promise();
    }

    fn promise(&mut self) {
        let log = self.log.as_ref().unwrap();
        self.promises.push(Promise {
            states: self.disk.history_len(),
            durable_seq: log.durable_seq(),
            epoch: log.epoch(),
            held_seq: self.held_seq,
        });
    }

    fn completions(&mut self) {
        self.log().handle_completions(at(1));
        self.promise();
    }

    fn act(&mut self, operation: Operation) {
        match operation {
            Operation::Append => append_next(self.log()),
            Operation::Roll => {
                let before = self.log().segments.active().base;
                while self.log().segments.active().base == before {
                    append_next(self.log());
                    self.completions();
                }
            }
            Operation::Seal => {
                self.log().close(at(1)).unwrap();
                self.open();
            }
            Operation::Retain => {
                self.held_seq = self.log().durable_seq();
                let held_seq = self.held_seq;
                self.log().retain_from_seq(held_seq);
                // Allowed from here on, whether or not it has happened at a crash.
                if let Some(last) = self.promises.last_mut() {
                    last.held_seq = held_seq;
                }
                self.promise();
                for _ in 0..4 {
                    self.log().handle_timers(at(1));
                    self.completions();
                }
            }
            Operation::Reopen => self.open(),
        }
        self.completions();
    }
}

/// Two records a page: enough of them to be torn apart, and few enough for every combination.
const PAGE_BYTES: usize = 128;

/// Calls `check` with every disk that a loss of power here can leave.
fn every_image(disk: &MemoryDisk, mut check: impl FnMut(&MemoryDisk)) {
    const FATES: [PageFate; 4] =
        [PageFate::Old, PageFate::New, PageFate::TornFront, PageFate::TornBack];
    for jobs_done in 0..=disk.jobs() {
        // The jobs that happened made some pages clean: count those that are not.
        let mut dirty = 0_u32;
        let _ = disk.crash(jobs_done, |_, _| {
            dirty += 1;
            PageFate::Old
        });
        assert!(dirty <= 6, "{dirty} dirty pages are too many for every combination");
        for image in 0..4_usize.pow(dirty) {
            let mut digits = image;
            check(&disk.crash(jobs_done, |_, _| {
                let fate = FATES[digits % 4];
                digits /= 4;
                fate
            }));
        }
    }
    check(&disk.kill());
}

/// A crash never makes a log that is refused: what is there is a prefix, not below the watermark.
fn recovers(disk: &MemoryDisk, config: LogConfig, promise: &Promise, last_seq: u64) {
    let mut found = None;
    for _ in 0..2 {
        let (log, recovery) = open(disk, config);
        assert_eq!((recovery.damaged, recovery.skipped_segments), (vec![], vec![]));
        let next_seq = recovery.next_seq;
        assert!(next_seq >= promise.durable_seq, "{next_seq} is below {promise:?}");
        assert!(next_seq <= last_seq + 1, "{next_seq} was never appended");
        assert!(recovery.epoch >= promise.epoch, "a used epoch is forgotten");
        assert_eq!(recovery.upstream_seq, next_seq);
        let epoch_id = if recovery.epoch == 0 { 0 } else { 99 + u64::from(recovery.epoch) };
        assert_eq!(log.epoch_id(), epoch_id, "the identity of epoch {}", recovery.epoch);
        let (events, statements, damaged) = read_all(&log);
        let first = events.first().map_or(next_seq, |frame| frame.seq.get());
        assert!(first <= promise.held_seq, "{first}: removed before anybody allowed it");
        let expected: Vec<Frame> = (first..next_seq).map(event).collect();
        assert_eq!((events, damaged), (expected, 0));
        assert!(
            first == 1 || statements > 0 || next_seq == first,
            "nothing says what it stands on"
        );
        let before = found.replace((first, next_seq));
        assert!(before.is_none_or(|before| before == (first, next_seq)), "found something else");
    }
}

fn every_workload(policy: SyncPolicy, page_bytes: usize, before: &[Operation]) -> (usize, usize) {
    let mut workloads: Vec<Vec<Operation>> = vec![vec![]];
    for length in 0..3 {
        let longest: Vec<_> = workloads.iter().filter(|it| it.len() == length).cloned().collect();
        for workload in longest {
            let longer = OPERATIONS.map(|next| workload.iter().copied().chain([next]).collect());
            workloads.extend(longer);
        }
    }
    let mut images = 0;
    for workload in &workloads {
        let mut life = Life::new(policy, page_bytes);
        before.iter().for_each(|operation| life.act(*operation));
        let kept = *life.promises.last().unwrap();
        life.promises = vec![Promise { states: 0, ..kept }];
        life.disk.record_history();
        workload.iter().for_each(|operation| life.act(*operation));
        let last_seq = life.log().next_seq() - 1;
        for (index, state) in life.disk.history().iter().enumerate() {
            let kept = life.promises.iter().rfind(|promise| promise.states <= index).unwrap();
            // What may be removed is allowed before the state that shows it.
            let held_seq = life.promises.iter().map(|promise| promise.held_seq).max().unwrap();
            let kept = Promise { held_seq, ..*kept };
            every_image(state, |crashed| {
                images += 1;
                recovers(crashed, life.config, &kept, last_seq);
            });
        }
    }
    (workloads.len(), images)
}

fn crashes(policy: SyncPolicy, page_bytes: usize, before: &[Operation]) {
    let (workloads, images) = every_workload(policy, page_bytes, before);
    assert!(
        workloads == 156 && images > 10_000,
        "{policy:?} after {before:?}: {workloads} {images}"
    );
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_crash_point_of_every_workload_of_three_operations_on_a_new_log() {
    crashes(SyncPolicy::Batch, PAGE_BYTES, &[]);
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_crash_point_of_every_workload_of_three_operations_on_a_log_that_rolled() {
    use Operation::{Append, Roll};
    crashes(SyncPolicy::Batch, PAGE_BYTES, &[Append, Roll, Append, Roll, Append]);
}

/// Retention once removed the only durable segment of such a log.
#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_crash_point_of_every_workload_of_three_operations_without_syncs() {
    // Everything is dirty here. In pages of two records it is 1.2 million crashes, and minutes.
    crashes(SyncPolicy::None, 4 * PAGE_BYTES, &[Operation::Roll, Operation::Append]);
}

/// A log of two segments whose last one has few records: marks, a statement, and two frames.
fn few_records(closed: bool) -> MemoryDisk {
    let mut life = Life::new(SyncPolicy::Batch, PAGE_BYTES);
    life.act(Operation::Roll);
    life.act(Operation::Append);
    if closed {
        life.log().close(at(1)).unwrap();
    }
    life.log = None;
    let disk = life.disk.kill();
    // The one that was made ahead says nothing here.
    for number in disk.numbers().into_iter().skip(2) {
        disk.take(number);
    }
    disk
}

/// Opens it twice: refused with every byte as it was, or a true part of what was written.
fn opens_to_a_true_part(disk: &MemoryDisk, last_seq: u64, what: &str) {
    let before: Vec<Vec<u8>> = disk.numbers().iter().map(|number| disk.bytes(*number)).collect();
    let mut next_seq = None;
    for _ in 0..2 {
        let (log, recovery) = match Log::open(disk.storage(), journal(8), at(0)) {
            Err(OpenError::Refused { .. }) => {
                let numbers = disk.numbers();
                let after: Vec<Vec<u8>> =
                    numbers.iter().map(|number| disk.bytes(*number)).collect();
                assert!(before == after, "{what}: refused, and yet changed");
                return;
            }
            other => other.unwrap_or_else(|error| panic!("{what}: {error}")),
        };
        let (events, _, damaged) = read_all(&log);
        for frame in &events {
            assert_eq!(*frame, event(frame.seq.get()), "{what}: invented");
        }
        let is_whole = events.len() as u64 + 1 == recovery.next_seq;
        let is_said = damaged > 0 || !recovery.skipped_segments.is_empty();
        assert!(is_whole || is_said, "{what}: a silent hole");
        assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{what}: out of order");
        assert!(recovery.next_seq <= last_seq + 1, "{what}: {recovery:?}");
        let before = next_seq.replace(recovery.next_seq);
        assert!(before.is_none_or(|before| before == recovery.next_seq), "{what}: another end");
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_truncation_of_the_last_segment() {
    for closed in [false, true] {
        let disk = few_records(closed);
        let last_seq = open(&disk.kill(), journal(8)).1.next_seq - 1;
        let bytes = disk.bytes(2);
        for len in 0..bytes.len() {
            let cut = disk.kill();
            cut.put(2, bytes[..len].to_vec());
            opens_to_a_true_part(&cut, last_seq, &format!("closed {closed}, cut to {len}"));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a search of minutes in safe code")]
fn every_flipped_bit_of_every_segment() {
    for (closed, number) in [(false, 1), (false, 2), (true, 2)] {
        let disk = few_records(closed);
        let last_seq = open(&disk.kill(), journal(8)).1.next_seq - 1;
        let bytes = disk.bytes(number);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let rotten = disk.kill();
            rotten.put(number, flipped);
            let what = format!("closed {closed}, segment {number}, bit {bit}");
            opens_to_a_true_part(&rotten, last_seq, &what);
        }
    }
}
