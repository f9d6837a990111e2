//! How much of the market one round of the fan-out takes in.
//!
//! Thousands of subscribers are flushed over many turns. Who stands late in the round gets what came
//! during it together with what it began with, so reading publishers in the middle of a round saves a
//! message up to a whole round. But a market that comes faster than it goes would lap everybody, so
//! a round takes in only so much; then publishers wait for its end, and their kernel slows them down.

use crate::limits;
use crate::planted::{Bug, is_planted};

/// A round: everybody who had something to get when it began is asked once.
#[derive(Debug)]
pub struct Round {
    /// Frames that it takes in.
    frames_max: usize,
    /// How many of them have not been asked yet.
    left: usize,
    /// Frames taken in since it began.
    frames: usize,
    /// Rounds that took in all they may before everybody had been asked.
    full_rounds: u64,
    /// Reads of publishers in a round that was full.
    overfull_reads: u64,
}

impl Default for Round {
    fn default() -> Round {
        Round::new(limits::ROUND_FRAMES_MAX)
    }
}

impl Round {
    pub(super) fn new(frames_max: usize) -> Round {
        Round { frames_max, left: 0, frames: 0, full_rounds: 0, overfull_reads: 0 }
    }

    /// A turn begins, with so many to be asked.
    pub(super) fn begin_turn(&mut self, dirty: usize) {
        self.left = self.left.min(dirty);
        if self.left == 0 {
            (self.left, self.frames) = (dirty, 0);
        }
    }

    /// A connection was asked; or none is left.
    pub(super) fn note_flushed(&mut self, is_any: bool) {
        self.left = if is_any { self.left.saturating_sub(1) } else { 0 };
    }

    /// Publishers sent so many frames.
    pub(super) fn note_read(&mut self, frames: usize) {
        let was_full = self.is_full();
        self.overfull_reads += u64::from(was_full);
        self.frames = self.frames.saturating_add(frames);
        self.full_rounds += u64::from(!was_full && self.is_full());
    }

    fn is_full(&self) -> bool {
        self.left > 0 && self.frames >= self.frames_max
    }

    /// Whether publishers may be read now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.is_full() || is_planted(Bug::RoundWithoutBound)
    }

    /// How many rounds were full before everybody had been asked.
    #[must_use]
    pub fn full_rounds(&self) -> u64 {
        self.full_rounds
    }

    /// How many reads of publishers came in a round that was full: none, if [`Round::has_room`] is obeyed.
    #[must_use]
    pub fn overfull_reads(&self) -> u64 {
        self.overfull_reads
    }
}
