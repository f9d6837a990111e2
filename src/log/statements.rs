//! What a segment's frames stand on, said again at its head, so that the segments before it can go.
//!
//! A frame names its instrument by a number, and only a definition says what that is. Statements are
//! definitions (and, in a journal, last values) that the node knows, written as records with the flag
//! SNAPSHOT: they move nothing, neither `seq` nor the upstream position. Behind the last one stands a
//! mark of reason Stated; retention takes a segment only when the one behind it has that mark before
//! its first frame. What they say is the node's; the log keeps no table of its own. The holes that a
//! shard knows of in what upstream has are said again in the same way.

use super::Log;
use super::backend::{Segment, Storage};
use super::config::AppendError;
use super::held::Held;
use super::mark::{Reason, Record, hole_in};
use crate::wire::{Flags, Frame};

/// What a log knows about statements, and about who still needs what it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statements {
    is_required: bool,
    /// The current segment has none yet, and takes no frame before it has.
    is_due: bool,
    /// Somebody still needs the frames from this seq on.
    held_from_seq: u64,
}

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// With marks or statements only, so far.
    Open,
    Stated,
    /// Frames come before a Stated mark.
    Unstated,
}

impl Default for Statements {
    fn default() -> Statements {
        Statements { is_required: false, is_due: false, held_from_seq: u64::MAX }
    }
}

impl Statements {
    pub(super) fn note_roll(&mut self) {
        self.is_due = self.is_required;
    }
}

impl<S: Storage> Log<S> {
    /// From now on each new segment takes no frame before [`Log::state_again`] was called for it
    /// ([`AppendError::Unstated`] says when), and retention removes nothing that is not stated again.
    pub fn require_statements(&mut self) {
        self.statements.is_required = true;
        // The first segment has nothing before it. One that a crash left without its mark gets all
        // of it once more, as long as no frame stands in it.
        self.statements.is_due = self.current.base > 0
            && self.head(&self.current, self.committed_position()) == Head::Open;
    }

    /// Writes what the current segment's frames will stand on. `false`: it is too much for a segment
    /// of this size, so that this segment goes without, and retention stops before it.
    ///
    /// # Errors
    /// When the log takes no records any more.
    pub fn state_again(&mut self, frames: &[Frame]) -> Result<bool, AppendError> {
        self.statements.is_due = false;
        let records = frames.len() as u64 + 1;
        // Twice: so that at least half of a segment is news. And a Sync mark, and the last slot.
        let room = self.current.end() - self.position;
        if records > self.current.records / 2 || records + 2 > room {
            return Ok(false);
        }
        self.make_room(records)?;
        for frame in frames {
            let is_hole = hole_in(frame).is_some();
            self.put(&if is_hole { *frame } else { frame.delivered(Flags::SNAPSHOT) })?;
        }
        self.put_mark(Reason::Stated)?;
        Ok(true)
    }

    /// Writes one statement where the log stands: a definition from somebody who no longer has the
    /// frame itself.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_statement(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        if !frame.kind().is_some_and(crate::wire::Kind::is_data) || frame.check().is_err() {
            return Err(AppendError::NotData(frame.kind));
        }
        self.make_room(1)?;
        self.check_statements()?;
        self.put(&frame.delivered(Flags::SNAPSHOT))
    }

    /// Notes that upstream has lost what stood at these seqs. It moves nothing: who has noted it goes on
    /// behind it with [`Log::advance_upstream`], so that no crash can keep the second and lose the first.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_hole(&mut self, frame: &Frame) -> Result<u64, AppendError> {
        if hole_in(frame).is_none() || frame.check().is_err() {
            return Err(AppendError::NotData(frame.kind));
        }
        self.make_room(1)?;
        self.check_statements()?;
        self.put(frame)
    }

    /// Somebody still needs the frames from this seq on: no segment with such a frame is removed,
    /// whatever the retention says. `u64::MAX`: nobody does.
    pub fn hold_from_seq(&mut self, seq: u64) {
        self.statements.held_from_seq = seq;
    }

    /// Whether the retention would remove a segment that somebody still needs.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.oldest_is_due() && !self.is_needed_by_nobody(self.sealed.front())
    }

    /// The lowest seq that the oldest segment can have a frame of: all frames before it are gone.
    /// `None` when its first record is rot.
    #[must_use]
    pub fn first_seq(&self) -> Option<u64> {
        let oldest = self.sealed.front().unwrap_or(&self.current);
        first_seq_of(oldest)
    }

    #[inline]
    pub(super) fn check_statements(&self) -> Result<(), AppendError> {
        if self.statements.is_due { Err(AppendError::Unstated) } else { Ok(()) }
    }

    /// Whether the oldest sealed segment can go: nobody needs a frame of it, and the next segment
    /// states again what was stated in it, durably. Without a durable record in what is left, a crash
    /// would leave a log of which nobody knows where it stands.
    pub(super) fn can_do_without_oldest(&self) -> bool {
        let next = self.sealed.get(1).unwrap_or(&self.current);
        let durable = self.durable.position;
        self.is_needed_by_nobody(self.sealed.front())
            && durable > next.base
            && (!self.statements.is_required || self.head(next, durable) == Head::Stated)
    }

    fn is_needed_by_nobody(&self, oldest: Option<&Held<S::Segment>>) -> bool {
        if self.statements.held_from_seq == u64::MAX || oldest.is_none() {
            return true;
        }
        let next = self.sealed.get(1).unwrap_or(&self.current);
        first_seq_of(next).is_some_and(|seq| seq <= self.statements.held_from_seq)
    }

    fn head(&self, held: &Held<S::Segment>, until: u64) -> Head {
        for position in held.base..held.end().min(until) {
            match held.record(position) {
                Some(Record::Mark(mark)) if mark.is(Reason::Stated) => return Head::Stated,
                Some(Record::Mark(_) | Record::Statement(_) | Record::Hole(_)) => {}
                Some(Record::Data(_)) | None => return Head::Unstated,
            }
        }
        Head::Open
    }
}

/// What the first record of a segment says: the lowest seq of a frame in it or behind it.
fn first_seq_of<G: Segment>(held: &Held<G>) -> Option<u64> {
    held.record(held.base).and_then(Record::mark).map(|mark| mark.seq.get())
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::super::tests::{MemoryLog, at, contents, frame, journal, open};
    use super::super::{LogConfig, Retention};
    use super::*;
    use crate::wire::{Definition, U64};

    fn definition() -> Frame {
        let mut definition = Definition::new(1 << 24, "PETR4".parse().unwrap(), 2);
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
                Err(AppendError::Unstated) => {
                    assert_eq!(log.state_again(&[definition()]), Ok(true))
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
        log.require_statements();
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
    fn a_segment_goes_only_when_the_next_one_states_what_it_stated() {
        let (mut log, _) = open(&MemoryDisk::new(4096), three_segments());
        log.require_statements();
        filled(&mut log, 60);
        assert!(log.first_seq().unwrap() > 10, "{:?}", log.first_seq());
        let first = log.first_position();
        // From here on nothing is stated again: what stands is needed for ever.
        let mut unstated = 0;
        for seq in 61..=200 {
            while let Err(error) = log.append(&frame(seq)) {
                if error == AppendError::Unstated {
                    unstated += 1;
                    assert_eq!(log.state_again(&[definition(); 16]), Ok(false));
                }
                log.commit(at(1));
                log.handle_completions(at(1));
            }
        }
        assert!(unstated > 5);
        assert!(log.first_position() <= first + 3 * 16, "{}", log.first_position());
    }

    #[test]
    fn an_unstated_segment_takes_no_frame_however_often_it_is_tried() {
        let (mut log, _) = open(&MemoryDisk::new(4096), journal(16));
        log.require_statements();
        let mut seq = 1;
        loop {
            match log.append(&frame(seq)) {
                Ok(_) => seq += 1,
                Err(AppendError::NotReady) => {
                    log.commit(at(1));
                    log.handle_completions(at(1));
                }
                Err(error) => break assert_eq!(error, AppendError::Unstated),
            }
        }
        assert_eq!(log.append(&frame(seq)), Err(AppendError::Unstated));
        assert_eq!(log.state_again(&[definition()]), Ok(true));
        assert!(log.append(&frame(seq)).is_ok());
    }

    #[test]
    fn a_segment_that_somebody_needs_stays_until_he_does_not() {
        let (mut log, _) = open(&MemoryDisk::new(4096), three_segments());
        log.require_statements();
        log.hold_from_seq(20);
        filled(&mut log, 100);
        let first = log.first_seq().unwrap();
        assert!((10..=20).contains(&first) && log.is_held(), "{first}");
        assert!(contents(&log).0.contains(&20));
        log.hold_from_seq(u64::MAX);
        for _ in 0..20 {
            log.handle_timers(at(2));
            log.handle_completions(at(2));
        }
        assert!(log.first_seq().unwrap() > 60 && !log.is_held());
    }

    #[test]
    fn a_head_that_a_crash_left_unfinished_is_stated_again() {
        let disk = MemoryDisk::new(4096);
        let (mut log, _) = open(&disk, journal(16));
        log.require_statements();
        disk.record_history();
        filled(&mut log, 40);
        for state in disk.history() {
            let crashed = state.kill();
            let (mut log, recovery) = open(&crashed, three_segments());
            log.require_statements();
            filled(&mut log, recovery.next_seq + 60);
            assert!(log.first_seq().unwrap() > recovery.next_seq, "{recovery:?}");
        }
    }
}
