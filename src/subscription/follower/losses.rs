//! The books of a follower: by `instrument_seq` it sees what is missing of each instrument, and by the
//! losses that were told why. What is *not* here: what to do about it.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{INSTRUMENTS_MAX, LOSSES_REMEMBERED_MAX};
use crate::wire::{Frame, GapReason, InstrumentId};

/// Counters at most: quotes, trades, cancellations and one system kind of every instrument. What is
/// beyond is not checked.
const COUNTERS_MAX: usize = 4 * INSTRUMENTS_MAX;

/// How far the frames of one instrument and kind have come.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The `instrument_seq` that has to come next.
    next: u32,
    /// The `seq` of the frame before it.
    seq: u64,
}

/// A loss that the caller was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) reason: GapReason,
    from_seq: u64,
    to_seq: u64,
    /// Its frames are counted already.
    pub(super) is_counted: bool,
}

/// Frames of one instrument and kind that should have come before another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) from_seq: u64,
    pub(super) to_seq: u64,
    pub(super) missed: u64,
    /// The told loss that the hole lies in, at least partly.
    pub(super) told: Option<Told>,
}

/// Counters and told losses.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    places: BTreeMap<(InstrumentId, u8), Place>,
    told: VecDeque<Told>,
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
        let is_known = self.places.contains_key(&key(frame));
        if number != 0 && (is_known || self.places.len() < COUNTERS_MAX) {
            let place = Place { next: number.wrapping_add(1), seq: frame.seq.get() };
            self.places.insert(key(frame), place);
        }
    }

    /// What is missing before this frame; `None` also where nothing is known of its instrument yet.
    pub(super) fn hole_before(&self, frame: &Frame) -> Option<Hole> {
        let place = self.places.get(&key(frame))?;
        let missed = jump(place.next, frame.instrument_seq.get())?;
        let (from_seq, to_seq) = (place.seq.saturating_add(1), frame.seq.get().saturating_sub(1));
        let told = self.told.iter().rev();
        let told = told.copied().find(|t| t.from_seq <= to_seq && from_seq <= t.to_seq);
        Some(Hole { from_seq, to_seq, missed, told })
    }

    /// Frames between the last one of this instrument and kind and this one; a first frame has all of
    /// its number's before it, if its instrument `is_followed` from the beginning.
    pub(super) fn jump_to(&self, frame: &Frame, is_followed: bool) -> u64 {
        let next = match self.places.get(&key(frame)) {
            Some(place) => place.next,
            None if is_followed && !self.has_forgotten => 1,
            None => return 0,
        };
        jump(next, frame.instrument_seq.get()).unwrap_or(0)
    }

    /// Remembers that the caller was told of a loss. Of very many, the oldest are taken together.
    pub(super) fn tell(&mut self, reason: GapReason, from_seq: u64, to_seq: u64, is_counted: bool) {
        if self.told.len() >= LOSSES_REMEMBERED_MAX
            && let Some(oldest) = self.told.pop_front()
            && let Some(second) = self.told.front_mut()
        {
            second.from_seq = second.from_seq.min(oldest.from_seq);
            second.is_counted &= oldest.is_counted;
        }
        self.told.push_back(Told { reason, from_seq, to_seq, is_counted });
    }

    /// Everything from `seq` on is void: its numbers come again.
    pub(super) fn forget_from(&mut self, seq: u64) {
        let before = self.places.len();
        self.places.retain(|_, place| place.seq < seq);
        self.has_forgotten |= self.places.len() < before;
        self.told.retain(|told| told.from_seq < seq);
    }
}

/// From the number that was due to the one that came; `None` when it is that one, an older one, or none.
fn jump(due: u32, came: u32) -> Option<u64> {
    let ahead = came.wrapping_sub(due);
    (came != 0 && ahead != 0 && ahead <= u32::MAX / 2).then_some(u64::from(ahead))
}
