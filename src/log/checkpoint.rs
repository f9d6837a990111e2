//! What a segment's frames rest on, written again at its head, so that the segments before it can go.
//!
//! A frame names its instrument by a number, and only a definition says what that is. A checkpoint consists
//! of statements: definitions (and, in a journal, last values) that the node knows, written as records with
//! the flag SNAPSHOT. They move nothing, neither `seq` nor the upstream position. Behind the last one is a
//! mark of reason Stated; retention takes a segment only when the one behind it has that mark before its first
//! frame. What the statements say is the node's matter; the log keeps no table of its own. The holes that a
//! shard knows of in what upstream has are written again in the same way.
//!
//! # Decisions
//!
//! * Every segment stands alone. So retention is the removal of a file, and rot in one segment does not
//!   take the names of another. The cost in a shard is 64 bytes per instrument and segment, 0.05 % for 500
//!   instruments.

use super::Log;
use super::backend::{Segment, Storage};
use super::config::AppendError;
use super::mark::{Reason, Record, hole_in};
use super::segment::LogSegment;
use crate::wire::{Flags, Frame};

/// Whether segments need a checkpoint, and whether the active one waits for its own.
///
/// Invariant: while a checkpoint is due, the active segment has no frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checkpoints {
    are_required: bool,
    is_due: bool,
}

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// With marks, statements and holes only, so far.
    Open,
    /// With a whole checkpoint.
    Checkpoint,
    /// With frames, and no whole checkpoint before them.
    Frames,
}

impl Head {
    /// How this segment begins, as far as its records before the position `until` say.
    pub(super) fn of<G: Segment>(segment: &LogSegment<G>, until: u64) -> Head {
        for position in segment.base..segment.end().min(until) {
            match segment.record(position) {
                Some(Record::Mark(mark)) if mark.is(Reason::Stated) => return Head::Checkpoint,
                Some(
                    Record::Mark(_) | Record::Statement(_) | Record::Hole(_) | Record::Epoch(_),
                ) => {}
                Some(Record::Data(_)) | None => return Head::Frames,
            }
        }
        Head::Open
    }
}

impl Checkpoints {
    /// From now on each segment needs one; `active` is how the active one begins, unless it is the log's first,
    /// which has nothing before it.
    fn require(&mut self, active: Option<Head>) {
        self.are_required = true;
        // A segment that a crash left without its mark gets all of it once more.
        self.is_due = active == Some(Head::Open);
    }

    pub(super) fn are_required(self) -> bool {
        self.are_required
    }

    #[inline]
    pub(super) fn is_due(self) -> bool {
        self.is_due
    }

    /// A segment has been begun.
    pub(super) fn handle_segment_begun(&mut self) {
        self.is_due = self.are_required;
    }

    /// The checkpoint is being written, or cannot be.
    fn handle_written(&mut self) {
        self.is_due = false;
    }
}

impl<S: Storage> Log<S> {
    /// From now on each new segment takes no frame before [`Log::write_checkpoint`] was called for it
    /// ([`AppendError::CheckpointDue`] says when), and retention removes nothing whose statements no later
    /// segment has.
    pub fn require_checkpoints(&mut self) {
        let active = self.segments.active();
        let head = (active.base > 0).then(|| Head::of(active, self.committed_position()));
        self.checkpoints.require(head);
    }

    /// Writes what the active segment's frames will rest on. `false`: it is too much for a segment of this
    /// size, so that this segment goes without, and retention stops before it.
    ///
    /// # Errors
    /// When the log takes no records any more.
    pub fn write_checkpoint(&mut self, statements: &[Frame]) -> Result<bool, AppendError> {
        self.checkpoints.handle_written();
        let records = statements.len() as u64 + 1;
        // Twice: so that at least half of a segment is news. And a Sync mark, and the last slot.
        let active = self.segments.active();
        let room = active.end() - self.writer.position();
        if records > active.records / 2 || records + 2 > room {
            return Ok(false);
        }
        self.make_room(records)?;
        for frame in statements {
            let is_hole = hole_in(frame).is_some();
            let record = if is_hole { *frame } else { frame.delivered(Flags::SNAPSHOT) };
            self.put_beside_the_sequence(&record);
        }
        self.put_mark(Reason::Stated);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::super::tests::{MemoryLog, at, contents, frame, journal, open};
    use super::super::{LogConfig, LogEntry, Retention};
    use super::*;
    use crate::wire::{Definition, InstrumentId, InstrumentIndex, U64};

    fn definition() -> Frame {
        let mut definition = Definition::new(
            InstrumentId::new(1, InstrumentIndex::FIRST),
            "PETR4".parse().unwrap(),
            2,
        );
        definition.seq = U64::new(1);
        Frame::seal(definition)
    }

    /// Appends as a node does.
    fn turn(log: &mut MemoryLog, seq: u64) {
        let appended = frame(seq);
        let appended = if seq == 1 { definition() } else { appended };
        for _ in 0..8 {
            match log.append(&appended) {
                Ok(_) => return log.commit(at(1)),
                Err(AppendError::CheckpointDue) => {
                    assert_eq!(log.write_checkpoint(&[definition()]), Ok(true))
                }
                Err(AppendError::NotReady) => log.commit(at(1)),
                Err(error) => panic!("{error}"),
            }
            log.handle_completions(at(1));
        }
        panic!("the log never became ready");
    }

    fn three_segments() -> LogConfig {
        let retention = Retention { bytes_max: Some(3 * (4096 + 16 * 64)), age_max: None };
        LogConfig { retention, ..journal(16) }
    }

    fn filled(log: &mut MemoryLog, last: u64) {
        for seq in log.next_seq()..=last {
            turn(log, seq);
            log.handle_completions(at(1));
        }
    }

    #[test]
    fn statements_move_nothing_and_are_found_by_no_seq() {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, journal(16));
        log.require_checkpoints();
        filled(&mut log, 100);
        for reopened in [false, true] {
            if reopened {
                drop(log);
                log = open(&disk, journal(16)).0;
            }
            assert_eq!((log.next_seq(), log.upstream().1), (101, 101));
            for seq in 1..=100 {
                let position = log.position_of_seq(seq);
                let super::super::Read::Frames([found, ..]) = log.read(position, 1) else {
                    panic!("seq {seq} is not at {position}")
                };
                let is_mark = found.kind == crate::wire::Kind::LogMark as u8;
                assert!(is_mark || found.seq.get() == seq, "seq {seq}");
                assert!(!crate::log::is_statement(found), "seq {seq}");
            }
            assert_eq!(log.verify(), []);
        }
        assert!(contents(&log).0.iter().filter(|seq| **seq == 1).count() > 5);
    }

    #[test]
    fn a_segment_goes_only_when_the_next_one_has_its_statements() {
        let (mut log, _) = open(&MemoryDisk::new(4096), three_segments());
        log.require_checkpoints();
        filled(&mut log, 60);
        assert!(log.first_seq().unwrap().get() > 10, "{:?}", log.first_seq());
        let first = log.first_position();
        // From here on no checkpoint fits: what is there is needed for ever.
        let mut due = 0;
        for seq in 61..=200 {
            while let Err(error) = log.append(&frame(seq)) {
                if error == AppendError::CheckpointDue {
                    due += 1;
                    assert_eq!(log.write_checkpoint(&[definition(); 16]), Ok(false));
                }
                log.commit(at(1));
                log.handle_completions(at(1));
            }
        }
        assert!(due > 5);
        assert!(log.first_position() <= first + 3 * 16, "{}", log.first_position());
    }

    #[test]
    fn a_segment_without_its_checkpoint_takes_no_frame_however_often_it_is_tried() {
        let (mut log, _) = open(&MemoryDisk::new(4096), journal(16));
        log.require_checkpoints();
        let mut seq = 1;
        loop {
            match log.append(&frame(seq)) {
                Ok(_) => seq += 1,
                Err(AppendError::NotReady) => {
                    log.commit(at(1));
                    log.handle_completions(at(1));
                }
                Err(error) => break assert_eq!(error, AppendError::CheckpointDue),
            }
        }
        assert_eq!(log.append(&frame(seq)), Err(AppendError::CheckpointDue));
        assert_eq!(log.write_checkpoint(&[definition()]), Ok(true));
        assert!(log.append(&frame(seq)).is_ok());
    }

    #[test]
    fn a_due_checkpoint_is_written_before_the_record_that_found_it_due() {
        for count in [2, 16] {
            let (mut log, _) = open(&MemoryDisk::new(4096), journal(16));
            log.require_checkpoints();
            let (mut written, mut too_many) = (0, 0);
            for seq in 1..=60 {
                let frame = if seq == 1 { definition() } else { frame(seq) };
                let entry = match seq % 3 {
                    0 => LogEntry::LocalEvent(&frame),
                    _ => LogEntry::Event(&frame),
                };
                loop {
                    let statements = || {
                        written += 1;
                        vec![definition(); count]
                    };
                    match log.append_with_checkpoint(entry, statements, |_| too_many += 1) {
                        Ok(_) => break,
                        Err(AppendError::NotReady) => log.commit(at(1)),
                        Err(error) => panic!("{error}"),
                    }
                    log.handle_completions(at(1));
                }
            }
            log.commit(at(1));
            assert!(written > 3, "{written}");
            assert_eq!(too_many, if count == 16 { written } else { 0 });
            let statements = contents(&log).0.iter().filter(|seq| **seq == 1).count() - 1;
            assert_eq!(statements, (written - too_many) * count);
        }
    }

    #[test]
    fn a_segment_that_somebody_needs_stays_until_he_does_not() {
        let (mut log, _) = open(&MemoryDisk::new(4096), three_segments());
        log.require_checkpoints();
        log.retain_from_seq(20);
        filled(&mut log, 100);
        let first = log.first_seq().unwrap().get();
        assert!((10..=20).contains(&first) && log.is_retention_blocked(), "{first}");
        assert!(contents(&log).0.contains(&20));
        log.retain_from_seq(u64::MAX);
        for _ in 0..20 {
            log.handle_timers(at(2));
            log.handle_completions(at(2));
        }
        assert!(log.first_seq().unwrap().get() > 60 && !log.is_retention_blocked());
    }

    #[test]
    fn a_checkpoint_that_a_crash_left_unfinished_is_written_again() {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, journal(16));
        log.require_checkpoints();
        disk.record_history();
        filled(&mut log, 40);
        for state in disk.history() {
            let crashed = state.kill();
            let (mut log, recovery) = open(&crashed, three_segments());
            log.require_checkpoints();
            filled(&mut log, recovery.next_seq + 60);
            assert!(log.first_seq().unwrap().get() > recovery.next_seq, "{recovery:?}");
        }
    }

    /// At least half of a segment is news, and the slot for the mark that ends it stays free.
    #[test]
    fn a_checkpoint_is_as_large_as_it_may_be_and_no_larger() {
        let written = |filled: u64, count: usize| {
            let config = LogConfig { policy: crate::log::SyncPolicy::None, ..journal(16) };
            let (mut log, _) = open(&MemoryDisk::new(4096), config);
            // The Sync mark of the open comes first.
            for seq in 1..=filled {
                log.append(&frame(seq)).unwrap();
            }
            let before = log.writer.position();
            let is_written = log.write_checkpoint(&vec![definition(); count]).unwrap();
            let records = log.writer.position() - before;
            assert_eq!(records, if is_written { count as u64 + 1 } else { 0 });
            is_written
        };
        assert!(written(1, 7) && !written(1, 8), "half of 16, the Stated mark included");
        // Records: 0 Open, 1 Sync mark, and the frames. Room for a Sync mark is left, and the last slot.
        assert!(written(9, 2) && !written(10, 2));
    }

    #[test]
    fn a_log_that_failed_takes_no_checkpoint() {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, journal(16));
        disk.fail_sync_after(0);
        log.append(&frame(1)).unwrap();
        log.commit(at(1));
        assert!(log.handle_completions(at(1)).failed);
        assert_eq!(log.write_checkpoint(&[definition()]), Err(AppendError::Failed));
    }
}
