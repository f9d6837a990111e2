//! How much one turn spends on what can wait: bulk for peers (snapshots, replays, answers out of history),
//! and the looking up of patterns. What is live is sent first. The rest has a bound in each turn, is cut into
//! pieces, and goes on in the next turn, which follows at once.
//!
//! # Decisions
//!
//! * Bulk is counted in frames. What is looked at and not sent counts too, as the part of a frame that it costs.
//!   So a search that finds little has the same bound as one that finds much.
//! * A turn spends a part on bulk even while there is more live than one turn sends. Otherwise a broker whose
//!   subscribers are never all served would let no newcomer in.

use crate::feed::Steps;
use crate::limits;
use crate::planted::{Bug, is_planted};

/// What is left for this turn.
#[derive(Debug)]
pub struct Work {
    frames_max: usize,
    steps_max: usize,
    frames_left: usize,
    frames_spent: usize,
    steps: Steps,
    most_frames: usize,
    most_steps: usize,
    full_frames: u64,
    full_steps: u64,
}

impl Default for Work {
    fn default() -> Work {
        Work::new(limits::BULK_FRAMES_PER_TURN_MAX, limits::INTEREST_STEPS_PER_TURN_MAX)
    }
}

/// The most that turns have spent, for those who hold them to their bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkSpent {
    /// Frames of bulk in one turn.
    pub frames: usize,
    /// Of which there may be so many, and the rest of one piece.
    pub frames_max: usize,
    /// Steps of looking up in one turn.
    pub steps: usize,
    /// Of which there may be so many, and the rest of one piece.
    pub steps_max: usize,
    /// Turns that had no frames left.
    pub full_frames: u64,
    /// Turns that had no steps left.
    pub full_steps: u64,
}

impl Work {
    fn new(frames_max: usize, steps_max: usize) -> Work {
        // Asking for a piece takes one of the frames, and a piece has one at least.
        let (frames_max, steps_max) = (frames_max.max(2), steps_max.max(2));
        Work {
            frames_max,
            steps_max,
            frames_left: frames_max,
            frames_spent: 0,
            steps: Steps::new(steps_max),
            most_frames: 0,
            most_steps: 0,
            full_frames: 0,
            full_steps: 0,
        }
    }

    /// So many frames of bulk in one turn.
    pub fn bound_frames(&mut self, frames_max: usize) {
        *self = Work::new(frames_max, self.steps_max);
    }

    /// So many steps of looking up in one turn.
    pub fn bound_steps(&mut self, steps_max: usize) {
        *self = Work::new(self.frames_max, steps_max);
    }

    pub(super) fn begin_turn(&mut self) {
        if self.frames_spent == 0 && self.steps.taken() == 0 {
            // Most turns spend nothing, and leave all as it was.
            return;
        }
        let spent = self.spent();
        (self.most_frames, self.most_steps) = (spent.frames, spent.steps);
        self.full_frames += u64::from(self.frames_left == 0);
        self.full_steps += u64::from(self.steps.left() == 0);
        (self.frames_left, self.frames_spent) = (self.frames_max, 0);
        self.steps = Steps::new(self.steps_max);
    }

    /// How many frames of bulk this turn may still make.
    #[must_use]
    pub fn frames_left(&self) -> usize {
        if is_planted(Bug::ReplayBeforeLive) { usize::MAX } else { self.frames_left }
    }

    /// So many were made.
    pub(crate) fn spend_frames(&mut self, frames: usize) {
        self.frames_left = self.frames_left.saturating_sub(frames);
        self.frames_spent = self.frames_spent.saturating_add(frames);
    }

    /// What looking up may still take in this turn.
    pub(crate) fn steps_mut(&mut self) -> &mut Steps {
        &mut self.steps
    }

    /// The most that a turn has spent so far.
    #[must_use]
    pub fn spent(&self) -> WorkSpent {
        WorkSpent {
            frames: self.most_frames.max(self.frames_spent),
            frames_max: self.frames_max,
            steps: self.most_steps.max(self.steps.taken()),
            steps_max: self.steps_max,
            full_frames: self.full_frames,
            full_steps: self.full_steps,
        }
    }
}
