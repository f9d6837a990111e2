//! The books of a follower: by `instrument_seq` it sees what is missing of each instrument, and by the
//! losses that were reported why. What is *not* here: what to do about it.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{INSTRUMENTS_MAX, LOSSES_REMEMBERED_MAX};
use crate::wire::{Frame, GapReason, InstrumentId, Seq, next_instrument_seq};

/// Counters at most: quotes, trades, cancellations and one system kind of every instrument. What is
/// beyond is not checked.
const COUNTERS_MAX: usize = 4 * INSTRUMENTS_MAX;

/// How far the frames of one instrument and kind have come.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// The `instrument_seq` that has to come next.
    next: u32,
    /// The `seq` of the frame before it.
    seq: u64,
}

/// A loss that was reported to the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportedLoss {
    pub(super) reason: GapReason,
    from_seq: u64,
    to_seq: u64,
    /// Its frames are counted already.
    pub(super) is_counted: bool,
}

/// Frames of one instrument and kind that should have come before another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) from_seq: Seq,
    pub(super) to_seq: u64,
    pub(super) missed: u64,
    /// The reported loss that the hole lies in, at least partly.
    pub(super) reported: Option<ReportedLoss>,
}

/// Counters and reported losses.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    positions: BTreeMap<(InstrumentId, u8), Position>,
    reported: VecDeque<ReportedLoss>,
    /// Some counter was forgotten: an unknown one is not at its beginning.
    has_forgotten: bool,
}

fn key(frame: &Frame) -> (InstrumentId, u8) {
    (frame.instrument(), frame.kind)
}

impl Losses {
    /// Notes that this frame came; definitions have no number.
    pub(super) fn note(&mut self, frame: &Frame) {
        let number = frame.instrument_seq.get();
        let is_known = self.positions.contains_key(&key(frame));
        if number != 0 && (is_known || self.positions.len() < COUNTERS_MAX) {
            let position = Position { next: next_instrument_seq(number), seq: frame.seq.get() };
            self.positions.insert(key(frame), position);
        }
    }

    /// Whether this frame, or a later one of its instrument and kind, has come.
    pub(super) fn covers(&self, frame: &Frame) -> bool {
        let position = self.positions.get(&key(frame));
        position.is_some_and(|position| position.seq >= frame.seq.get())
    }

    /// What is missing before this frame; `None` also where nothing is known of its instrument yet.
    pub(super) fn hole_before(&self, frame: &Frame) -> Option<Hole> {
        let position = self.positions.get(&key(frame))?;
        let missed = jump(position.next, frame.instrument_seq.get())?;
        let (from_seq, to_seq) = (Seq::behind(position.seq), frame.seq.get().saturating_sub(1));
        let lies_in =
            |loss: &ReportedLoss| loss.from_seq <= to_seq && from_seq.get() <= loss.to_seq;
        let reported = self.reported.iter().rev().copied().find(lies_in);
        Some(Hole { from_seq, to_seq, missed, reported })
    }

    /// Frames between the last one of this instrument and kind and this one; a first frame has all of
    /// its number's before it, if its instrument `is_followed` from the beginning.
    pub(super) fn jump_to(&self, frame: &Frame, is_followed: bool) -> u64 {
        let next = match self.positions.get(&key(frame)) {
            Some(position) => position.next,
            None if is_followed && !self.has_forgotten => 1,
            None => return 0,
        };
        jump(next, frame.instrument_seq.get()).unwrap_or(0)
    }

    /// Remembers a loss that was reported to the caller. Of very many, the oldest are taken together.
    pub(super) fn note_reported(
        &mut self,
        reason: GapReason,
        from_seq: u64,
        to_seq: u64,
        is_counted: bool,
    ) {
        if self.reported.len() >= LOSSES_REMEMBERED_MAX
            && let Some(oldest) = self.reported.pop_front()
            && let Some(second) = self.reported.front_mut()
        {
            second.from_seq = second.from_seq.min(oldest.from_seq);
            second.is_counted &= oldest.is_counted;
        }
        self.reported.push_back(ReportedLoss { reason, from_seq, to_seq, is_counted });
    }

    /// Everything from `seq` on is void: its numbers come again.
    pub(super) fn forget_from(&mut self, seq: u64) {
        let before = self.positions.len();
        self.positions.retain(|_, position| position.seq < seq);
        self.has_forgotten |= self.positions.len() < before;
        self.reported.retain(|reported| reported.from_seq < seq);
    }
}

/// From the number that was due to the one that came; `None` when it is that one, an older one, or none.
fn jump(due: u32, came: u32) -> Option<u64> {
    // Across the end of the numbers there is no 0.
    let ahead = came.wrapping_sub(due).wrapping_sub(u32::from(came < due));
    (came != 0 && ahead != 0 && ahead <= u32::MAX / 2).then_some(u64::from(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_follows_the_last() {
        assert_eq!(jump(next_instrument_seq(u32::MAX), 1), None, "nothing is missing");
        assert_eq!(jump(u32::MAX, 1), Some(1));
        assert_eq!(jump(u32::MAX - 1, 3), Some(4));
        assert_eq!((jump(5, 4), jump(1, u32::MAX)), (None, None), "an older one");
        assert_eq!((jump(5, 5), jump(5, 9), jump(5, 0)), (None, Some(4), None));
    }
}
