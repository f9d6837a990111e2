//! Where publishers have led a source ahead, over numbers that the broker has no frames of.
//!
//! A publisher may jump: its journal has lost what stood there. One that is not what it says may, too, and beyond all that there
//! is. Readers follow the window, so they pass over what the next honest publisher has. When that one takes the place back, it
//! knows only where its own epoch ended. What was jumped over before that has to come as well.

use crate::limits::JUMPS_KEPT_MAX;

/// Jumps that may have to be taken back: each from the number that came next to the one that came.
#[derive(Debug, Default)]
pub(super) struct Jumps(Vec<(u64, u64)>);

impl Jumps {
    /// A publisher leads from here to there. Of too many, two that lie beside each other become one.
    pub(super) fn note(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if self.0.len() >= JUMPS_KEPT_MAX {
            let (oldest_from, _) = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                next.0 = next.0.min(oldest_from);
            }
        }
        self.0.push((from, to));
    }

    /// Everything from `start` on is taken back. From where on it is in truth: a jump beyond it began before it.
    pub(super) fn take_back(&mut self, start: u64) -> u64 {
        let beyond = self.0.iter().filter(|(_, to)| *to > start).map(|(from, _)| *from);
        let start = beyond.min().unwrap_or(start).min(start);
        self.0.retain(|(_, to)| *to <= start);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_jumped_over_to_come_beyond_a_place_is_taken_back_with_it() {
        let noted = |jumps: &[(u64, u64)]| {
            let mut noted = Jumps::default();
            jumps.iter().for_each(|(from, to)| noted.note(*from, *to));
            noted
        };
        // An honest jump, then two of somebody else.
        let mut jumps = noted(&[(10, 20), (49, 1 << 62), ((1 << 62) + 4, 1 << 63)]);
        assert_eq!(jumps.take_back(71), 49);
        assert_eq!(jumps.take_back(60), 60, "that is over");
        assert_eq!(jumps.take_back(15), 10);
        assert_eq!(noted(&[(10, 20)]).take_back(20), 20, "what comes next is no jump beyond it");
        assert_eq!(noted(&[(20, 20), (30, 9)]).take_back(5), 5, "no jump at all");
        let many: Vec<(u64, u64)> = (1..100).map(|it| (10 * it, 10 * it + 5)).collect();
        let mut jumps = noted(&many);
        assert!(jumps.0.len() <= JUMPS_KEPT_MAX);
        assert_eq!(jumps.take_back(12), 10, "too much is taken back rather than too little");
    }
}
