//! How much memory all answers have together: from the first frame that comes for one until its last byte is sent.
//!
//! # Decisions
//!
//! * Nobody loses what is granted. Who asks when all is taken is told to come back.
//! * An answer that is sent while it is written takes at once all that it can need, so it cannot fail half way.

use crate::http::Problem;
use crate::limits;

/// Bytes that answers have, and the bounds.
#[derive(Debug)]
pub(super) struct AnswerMemory {
    held: usize,
    /// Of questions to other nodes.
    pub(super) questions_max: usize,
    /// Of all.
    pub(super) all_max: usize,
}

/// What an answer is about: the last part of the memory is only for how the system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The market.
    Market,
    /// The nodes.
    System,
}

impl Default for AnswerMemory {
    fn default() -> AnswerMemory {
        AnswerMemory {
            held: 0,
            questions_max: limits::GATEWAY_QUESTIONS_BYTES_MAX,
            // What is kept for further parts has its own bound.
            all_max: limits::GATEWAY_ANSWERS_BYTES_MAX - limits::GATEWAY_KEPT_BYTES_MAX,
        }
    }
}

impl AnswerMemory {
    fn max(&self, about: About) -> usize {
        match about {
            About::Market => self.questions_max,
            About::System => self.all_max,
        }
    }

    /// Whether anything is left for a new answer.
    pub(super) fn has_room(&self, about: About) -> bool {
        self.held < self.max(about)
    }

    /// Takes so many bytes. `false` when they are not left; then none is taken.
    #[must_use]
    pub(super) fn take(&mut self, bytes: usize, about: About) -> bool {
        let held = self.held.checked_add(bytes).filter(|held| *held <= self.max(about));
        self.held = held.unwrap_or(self.held);
        held.is_some()
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.held, "{bytes} of {}", self.held);
        self.held = self.held.saturating_sub(bytes);
    }

    /// Bytes that answers have now.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

/// What a client is told for whose answer nothing is left.
pub(super) fn no_room() -> Problem {
    let text =
        "The answers under way have all the memory that this gateway has for them: come back.";
    Problem::new(503, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_left_is_not_taken() {
        let mut memory = AnswerMemory { held: 0, questions_max: 10, all_max: 12 };
        assert!(memory.take(10, About::Market) && !memory.has_room(About::Market));
        assert!(!memory.take(1, About::Market) && memory.has_room(About::System));
        assert!(!memory.take(3, About::System) && !memory.take(usize::MAX, About::System));
        assert!(memory.take(2, About::System) && !memory.has_room(About::System));
        memory.give_back(3);
        assert_eq!(memory.held(), 9);
    }
}
