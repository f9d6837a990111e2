//! Reading a log: by position, and by seq.
//!
//! Records that an earlier process wrote are checked again whenever they are read, because the time
//! between may have rotted them; what this process wrote itself is handed out as it is.

use std::ops::Range;

use zerocopy::IntoBytes;

use super::Log;
use super::backend::Storage;
use super::mark::Record;
use super::recovery::note_damage;
use crate::wire::{FRAME_BYTES, Frame};

/// What is at a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Records, marks included ([`Frame`]s of kind `LogMark`), from that position on; at least one.
    Frames(&'a [Frame]),
    /// These positions cannot be read: rot, a segment that is left out, or one that retention removed.
    /// Go on at its end; there may be more damage there.
    Damaged(Range<u64>),
    /// Nothing is committed there yet.
    End,
}

impl<S: Storage> Log<S> {
    /// Up to `records_max` committed records from `position` on, as far as one segment goes.
    #[must_use]
    pub fn read(&self, position: u64, records_max: usize) -> Read<'_> {
        let committed = self.committed_position();
        if position >= committed {
            return Read::End;
        }
        let Some(segment) = self.segments.segment_from(position) else { return Read::End };
        if position < segment.base {
            return Read::Damaged(position..segment.base);
        }
        let wanted = position.saturating_add(records_max.max(1) as u64).min(committed);
        let frames = segment.frames(position, wanted);
        let unchecked_from = self.writer.written_from().saturating_sub(position);
        let unchecked_from = usize::try_from(unchecked_from).unwrap_or(usize::MAX);
        let suspects = &frames[..unchecked_from.min(frames.len())];
        let bad = suspects.iter().position(|frame| Record::checked(frame).is_none());
        match bad {
            None if frames.is_empty() => Read::Damaged(position..segment.end().min(committed)),
            None => Read::Frames(frames),
            Some(0) => {
                let good = suspects.iter().position(|frame| Record::checked(frame).is_some());
                let rotten = good.unwrap_or(suspects.len()) as u64;
                Read::Damaged(position..position + rotten)
            }
            Some(bad) => Read::Frames(&frames[..bad]),
        }
    }

    /// A data frame that cannot be read, as it was written, when a single flipped bit is all that is wrong
    /// with it: the checksum distinguishes any two records that differ in fewer than five bits. Only to know what
    /// was there; what is handed to others is what can be read.
    #[must_use]
    pub fn repaired(&self, position: u64) -> Option<Frame> {
        let segment = self.segments.segment_from(position).filter(|it| it.holds(position))?;
        let mut frame = *segment.frames(position, position + 1).first()?;
        (0..FRAME_BYTES * 8).find_map(|bit| {
            frame.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            let repaired =
                matches!(Record::checked(&frame), Some(Record::Data(_))).then_some(frame);
            frame.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            repaired
        })
    }

    /// The first position whose record is live and not below `seq`, by binary search; the committed
    /// position when there is none. A mark counts with the seq it expects next.
    #[must_use]
    pub fn position_of_seq(&self, seq: u64) -> u64 {
        let committed = self.committed_position();
        let stretch = self.writer.rollbacks().stretch(seq, self.first_position(), committed);
        let (mut low, mut high) = (stretch.from, stretch.until.min(committed));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.seq_from(middle, high) {
                Some((position, at)) if at < seq => low = position + 1,
                _ => high = middle,
            }
        }
        match self.seq_from(low, stretch.until.min(committed)) {
            Some((position, at)) if at < stretch.void_from => position,
            _ => stretch.otherwise.min(committed),
        }
    }

    /// Data frames at `position` with this seq or a higher one are void: they were sent before a
    /// later epoch began at that seq. `u64::MAX`: none is.
    #[must_use]
    pub fn void_from(&self, position: u64) -> u64 {
        self.writer.rollbacks().void_from(position)
    }

    /// Checks every committed record of the whole log and lists the damaged positions. Takes as long
    /// as reading it all; a node that cannot wait calls [`Log::read`] in portions instead.
    #[must_use]
    pub fn verify(&self) -> Vec<Range<u64>> {
        let mut damaged = Vec::new();
        let mut position = self.first_position();
        loop {
            match self.read(position, usize::MAX) {
                Read::Frames(frames) => position += frames.len() as u64,
                Read::Damaged(range) => {
                    position = range.end;
                    note_damage(&mut damaged, range);
                }
                Read::End => return damaged,
            }
        }
    }

    /// The seq that the first record which has one states, in this range of committed positions.
    fn seq_from(&self, from: u64, until: u64) -> Option<(u64, u64)> {
        let mut position = from;
        while position < until {
            let segment = self.segments.segment_from(position)?;
            position = position.max(segment.base);
            if position >= until {
                return None;
            }
            if let Some(seq) = segment.record(position).and_then(Record::seq) {
                return Some((position, seq));
            }
            position += 1;
        }
        None
    }
}
