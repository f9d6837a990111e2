//! The records of a log in order, void frames left out, losses named.
//!
//! # Decisions
//!
//! * The watermark of a running log lags behind. Nothing is written while nothing is appended, so the last
//!   batch of a quiet log has no mark behind it. `dump` and `export` therefore have the system sync the
//!   records behind the watermark. They hand those records out only if the sync succeeds. Otherwise they
//!   end at the watermark.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::{Files, Outline, Place, each_record, load, reported_before};
use crate::limits::{EPOCHS_KEPT_MAX, INSPECT_EPOCHS_MAX};
use crate::log::backend::StorageError;
use crate::log::counters::Sequence;
use crate::log::lineage::{EpochEntry, Lineage, lineage_room};
use crate::log::mark::{Mark, Record};
use crate::planted::{Bug, is_planted};
use crate::wire::{FRAME_BYTES, Frame};

/// What a reader comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A data frame, perhaps of a kind that only a newer program knows.
    Data(Frame),
    /// A definition or last value said again at the head of a segment. It is no event of the sequence
    /// there; but when the segments before it are gone, nothing else says what it says.
    Statement(Frame),
    /// These seqs, first and last, are lost upstream; the log has a record of it.
    Hole(u64, u64),
    /// A mark of the log itself, and its position.
    Mark(u64, Mark),
    /// An entry of the lineage, and its position.
    Epoch(u64, EpochEntry),
    /// Records that cannot be read.
    Lost {
        /// First position.
        from_position: u64,
        /// The position behind the last one.
        to_position: u64,
        /// First seq that may have been there.
        from_seq: u64,
        /// Last seq that may have been there; less than `from_seq` when no frame was lost.
        to_seq: u64,
    },
}

/// Where epochs began: a frame of an earlier epoch with a seq from there on is void.
///
/// A shard that missed epochs notes where the one that it had ended, and that is where the next one began. So its
/// mark speaks of the epoch behind the one before, whatever epoch it went on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    begun: BTreeMap<u32, u64>,
    /// The epoch of the last mark.
    last: u32,
}

impl Epochs {
    /// Nothing, in a log that had this epoch before its first mark; 0: none, or it is not known.
    fn behind(last: u32) -> Epochs {
        Epochs { begun: BTreeMap::new(), last }
    }

    fn note(&mut self, mark: &Mark) {
        let (epoch, start) = (mark.epoch.get(), mark.epoch_start.get());
        if epoch <= self.last {
            return;
        }
        let begun = if self.last == 0 { epoch } else { self.last.saturating_add(1) };
        self.last = epoch;
        if self.begun.len() < INSPECT_EPOCHS_MAX {
            self.begun.entry(begun).or_insert(start);
        }
    }

    /// Takes in what another log of the same sequence knows. Of two that say where an epoch began, one may have missed later
    /// ones, and says where the first of them all did: both are right about what came before.
    pub fn merge(&mut self, other: &Epochs) {
        for (epoch, start) in &other.begun {
            let known = self.begun.entry(*epoch).or_insert(*start);
            *known = (*known).min(*start);
        }
    }

    /// Frames of `epoch` with this seq or a higher one are void; `u64::MAX`: none is.
    fn void_from(&self, epoch: u32) -> u64 {
        let later = epoch.checked_add(1).map(|next| self.begun.range(next..));
        later.and_then(|later| later.map(|(_, start)| *start).min()).unwrap_or(u64::MAX)
    }
}

/// Reads one log from its first record to its end.
#[derive(Debug)]
pub struct Reader<F> {
    files: F,
    sequence: Sequence,
    places: Vec<Place>,
    epochs: Epochs,
    /// The next position to read, and where it stops.
    position: u64,
    end: u64,
    /// Index of the segment with `position`.
    place: usize,
    chunk: Vec<u8>,
    /// Position of the first record in `chunk`.
    chunk_from: u64,
    /// Bad positions since the last good record.
    bad: Option<Range<u64>>,
    /// Found behind a loss, which goes out first.
    waiting: Option<Item>,
    next_seq: u64,
    epoch: u32,
    void_from: u64,
    /// The last seq of the holes that were reported.
    hole_to: Option<u64>,
    bytes_read: u64,
    unsettled: Option<StorageError>,
    lineage: Lineage,
    /// The epoch that the log stands in, and its identity.
    stands_in: (u32, u64),
}

impl<F: Files> Reader<F> {
    /// A reader up to the end of the log: what an open would keep. Records behind the watermark are
    /// made durable first; where that fails, the reader ends at the watermark.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn new(mut files: F, outline: &Outline) -> Result<Reader<F>, StorageError> {
        let mut end = outline.end;
        let mut unsettled = None;
        for place in outline.places.iter().filter(|place| place.end() > outline.watermark) {
            if place.base < outline.end && unsettled.is_none() {
                unsettled = files.settle(place.segment).err();
            }
        }
        if unsettled.is_some() {
            end = end.min(outline.watermark);
        }
        let epochs = epochs(&mut files, outline, end)?;
        let position = outline.first_position();
        let mut reader = Reader {
            files,
            sequence: outline.rules.sequence,
            places: outline.places.clone(),
            epochs,
            position,
            end,
            place: 0,
            chunk: Vec::new(),
            chunk_from: position,
            bad: None,
            waiting: None,
            next_seq: 0,
            epoch: 0,
            void_from: u64::MAX,
            hole_to: None,
            bytes_read: 0,
            unsettled,
            lineage: outline.lineage.clone(),
            stands_in: outline.epoch(),
        };
        reader.void_from = reader.epochs.void_from(0);
        Ok(reader)
    }

    /// Whose sequence it is, and the identity of each of its epochs.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The epoch that the log stands in, and its identity; 0 = it has none.
    #[must_use]
    pub fn stands_in(&self) -> (u32, u64) {
        self.stands_in
    }

    /// The epochs that the log went through.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Tells of epochs that other logs of the same sequence went through.
    pub fn learn(&mut self, epochs: &Epochs) {
        self.epochs.merge(epochs);
        self.void_from = self.epochs.void_from(self.epoch);
    }

    /// Why the reader stops at the watermark, when it does.
    #[must_use]
    pub fn unsettled(&self) -> Option<&StorageError> {
        self.unsettled.as_ref()
    }

    /// Bytes of records gone through so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, StorageError> {
        loop {
            if let Some(item) = self.waiting.take() {
                return Ok(Some(item));
            }
            if self.position >= self.end {
                let behind = self.next_seq;
                return Ok(self.bad.take().map(|bad| self.lost(&bad, behind)));
            }
            let Some(frame) = self.frame()? else { continue };
            let position = self.position;
            self.position += 1;
            self.bytes_read += FRAME_BYTES as u64;
            let Some(record) = Record::of_any_kind(&frame) else {
                self.miss(position..position + 1);
                continue;
            };
            // How far a loss goes, a statement does not say.
            let loss = match record.seq() {
                Some(seq) => self.bad.take().map(|bad| self.lost(&bad, seq)),
                None => None,
            };
            let item = self.pass(position, record);
            match (loss.filter(|loss| self.is_loss(loss)), item) {
                (None, None) => {}
                (None, item) => return Ok(item),
                (loss, item) => {
                    self.waiting = item;
                    return Ok(loss);
                }
            }
        }
    }

    /// The frame at the position; `None` when positions are missing, which moves on behind them.
    fn frame(&mut self) -> Result<Option<Frame>, StorageError> {
        let held = (self.chunk.len() / FRAME_BYTES) as u64;
        if self.position < self.chunk_from + held {
            return Ok(self.frame_in_chunk());
        }
        while self.places.get(self.place).is_some_and(|place| place.end() <= self.position) {
            self.place += 1;
        }
        let Some(place) = self.places.get(self.place) else {
            self.miss(self.position..self.end);
            return Ok(None);
        };
        if self.position < place.base {
            let behind = place.base.min(self.end);
            self.miss(self.position..behind);
            return Ok(None);
        }
        let until = place.end().min(self.end);
        load(&mut self.files, place, self.position, until, &mut self.chunk)?;
        self.chunk_from = self.position;
        if self.chunk.len() < FRAME_BYTES {
            // The file has lost its end, or has been removed.
            self.miss(self.position..until);
            return Ok(None);
        }
        Ok(self.frame_in_chunk())
    }

    fn frame_in_chunk(&self) -> Option<Frame> {
        let index = usize::try_from(self.position - self.chunk_from).ok()?;
        crate::wire::as_frames(&self.chunk).0.get(index).copied()
    }

    /// Notes bad positions; moves behind them.
    fn miss(&mut self, range: Range<u64>) {
        let start = self.bad.as_ref().map_or(range.start, |bad| bad.start);
        self.position = range.end;
        self.bad = Some(start..range.end);
    }

    fn lost(&self, bad: &Range<u64>, seq_behind: u64) -> Item {
        Item::Lost {
            from_position: bad.start,
            to_position: bad.end,
            from_seq: self.next_seq,
            to_seq: seq_behind.saturating_sub(1),
        }
    }

    /// Whether a frame can be among what was lost. A journal's numbers prove it when none is.
    fn is_loss(&self, loss: &Item) -> bool {
        if is_planted(Bug::ReadPastLoss) {
            return false;
        }
        match loss {
            Item::Lost { from_seq, to_seq, .. } => {
                self.sequence == Sequence::Increasing || from_seq <= to_seq
            }
            _ => true,
        }
    }

    /// Moves behind a good record.
    fn pass(&mut self, position: u64, record: Record<'_>) -> Option<Item> {
        match record {
            Record::Mark(mark) => {
                if mark.epoch.get() != self.epoch {
                    self.epoch = mark.epoch.get();
                    self.void_from = self.epochs.void_from(self.epoch);
                    self.hole_to = reported_before(self.hole_to, mark);
                }
                self.next_seq = mark.seq.get();
                Some(Item::Mark(position, *mark))
            }
            Record::Statement(frame) => Some(Item::Statement(*frame)),
            Record::Epoch(record) => {
                let entry = EpochEntry::of(record);
                if !entry.is_given_up && entry.epoch > self.epoch {
                    // Its mark follows. When that is rot, the frames behind it are of this epoch all the same; when
                    // it never came, an Open mark says so.
                    self.void_from = self.epochs.void_from(entry.epoch);
                }
                Some(Item::Epoch(position, entry))
            }
            Record::Hole(gap) => {
                let (from, to) = (gap.from_seq.get(), gap.to_seq.get());
                if self.sequence == Sequence::Contiguous {
                    // It stands for the frames themselves.
                    self.next_seq = self.next_seq.max(to.saturating_add(1));
                }
                // The head of every segment says it again.
                let is_new = self.hole_to.is_none_or(|told| told < to);
                self.hole_to = self.hole_to.max(Some(to));
                is_new.then_some(Item::Hole(from, to))
            }
            Record::Data(frame) => {
                let seq = frame.seq.get();
                if seq < self.next_seq {
                    // Only a new epoch falls back; its mark is rot, and the next one shows which.
                    self.void_from = u64::MAX;
                }
                self.next_seq = seq.saturating_add(1);
                (seq < self.void_from).then_some(Item::Data(*frame))
            }
        }
    }
}

/// The epochs that a log went through: in the first marks of its segments, and where two of these
/// disagree, in between.
fn epochs<F: Files>(files: &mut F, outline: &Outline, end: u64) -> Result<Epochs, StorageError> {
    let mut chunk = Vec::new();
    let mut first_marks: Vec<Option<Mark>> = Vec::with_capacity(outline.places.len());
    let used: Vec<&Place> = outline.places.iter().filter(|place| place.base < end).collect();
    for place in &used {
        let mut first = None;
        let _ = each_record(files, place, 0, place.base + 1, &mut chunk, |_, slot| {
            first = slot.mark().copied();
            ControlFlow::Break(())
        })?;
        first_marks.push(first);
    }
    // What the log had before its oldest segment, its lineage still says.
    let oldest = first_marks.iter().flatten().map(|mark| mark.epoch.get()).next();
    let earlier = outline.lineage.entries().iter().map(|entry| entry.epoch);
    let before = earlier.filter(|epoch| Some(*epoch) < oldest).max();
    // Behind an epoch that nothing says, the mark of the next one may be that of a later one: it says nothing then.
    let before = before.or(oldest.filter(|_| may_lack_entries(outline, &used)));
    let mut epochs = Epochs::behind(before.unwrap_or(0));
    for (index, place) in used.iter().enumerate() {
        let first = first_marks[index];
        let next = first_marks.get(index + 1).copied().flatten();
        if let Some(mark) = &first {
            epochs.note(mark);
        }
        let same = first.zip(next).is_some_and(|(first, next)| first.epoch == next.epoch);
        if !same {
            let _ = each_record(files, place, 0, end, &mut chunk, |_, slot| {
                if let Some(mark) = slot.mark() {
                    epochs.note(mark);
                }
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(epochs)
}

/// Whether the log had epochs, in segments that are gone, that its lineage does not say: the head of a segment has room for so
/// many entries only.
fn may_lack_entries(outline: &Outline, used: &[&Place]) -> bool {
    let records = used.iter().map(|place| place.end() - place.base).min().unwrap_or(0);
    let room = usize::try_from(lineage_room(records)).unwrap_or(usize::MAX).min(EPOCHS_KEPT_MAX);
    outline.first_position() > 0 && outline.lineage.entries().len() >= room
}
