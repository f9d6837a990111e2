//! How much of the market one round of the fan-out takes in.
//!
//! Thousands of subscribers are flushed over many turns. Who stands late in the round gets what came
//! during it together with what it began with, so reading publishers in the middle of a round saves a
//! message up to a whole round. But a market that comes faster than it goes would lap everybody, so
//! a round takes in only so much; then publishers wait for its end, and their kernel tells them.

use crate::limits::ROUND_FRAMES_MAX;

/// A round: everybody who had something to get when it began is asked once.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// How many of them have not been asked yet.
    left: usize,
    /// Frames taken in since it began.
    frames: usize,
}

impl Round {
    /// A turn begins, with so many to be asked.
    pub(super) fn begin_turn(&mut self, dirty: usize) {
        self.left = self.left.min(dirty);
        if self.left == 0 {
            *self = Round { left: dirty, frames: 0 };
        }
    }

    /// A connection was asked; or none is left.
    pub(super) fn note_flushed(&mut self, is_any: bool) {
        self.left = if is_any { self.left.saturating_sub(1) } else { 0 };
    }

    /// Publishers sent so many frames.
    pub(super) fn note_read(&mut self, frames: usize) {
        self.frames = self.frames.saturating_add(frames);
    }

    /// Whether publishers may be read now.
    pub(super) fn has_room(&self) -> bool {
        self.left == 0 || self.frames < ROUND_FRAMES_MAX
    }
}
