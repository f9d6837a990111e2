//! Where publishers have led a source ahead, over numbers that the broker has no frames of.
//!
//! A publisher may jump: its journal has lost what stood there. One that is not what it says may, too, and beyond all that there
//! is. Readers follow the window, so they pass over what the next honest publisher has. When that one takes the place back, it
//! knows only where its own epoch ended. What was jumped over before that has to come as well. A reader that is away when that
//! happens is told when it comes back. A broker that starts again has forgotten all that.

use crate::limits::JUMPS_KEPT_MAX;

/// From the number that came next to the one that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Jumps that may have to be taken back.
#[derive(Debug, Default)]
pub(super) struct Jumps(Vec<Jump>);

impl Jumps {
    /// A publisher leads from here to there. Of too many, two that lie beside each other become one.
    pub(super) fn note(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if self.0.len() >= JUMPS_KEPT_MAX {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                next.from = next.from.min(oldest.from);
            }
        }
        self.0.push(Jump { from, to });
    }

    /// Everything from `start` on is taken back. The first jump beyond it: what that passed over is taken back with it.
    pub(super) fn take_back(&mut self, start: u64) -> Option<Jump> {
        let beyond = self.0.iter().filter(|jump| jump.to > start);
        let first = beyond.min_by_key(|jump| jump.from).copied();
        let start = first.map_or(start, |jump| jump.from.min(start));
        self.0.retain(|jump| jump.to <= start);
        first
    }
}

/// Jumps that were taken back, for readers that were away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TakenBack(Vec<Jump>);

impl TakenBack {
    /// This jump is taken back. Of too many, the two oldest become one.
    pub(super) fn note(&mut self, jump: Jump) {
        if let Some(same) = self.0.iter_mut().find(|known| known.from == jump.from) {
            same.to = same.to.min(jump.to);
            return;
        }
        if self.0.len() >= JUMPS_KEPT_MAX {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = Jump { from: next.from.min(oldest.from), to: next.to.min(oldest.to) };
            }
        }
        self.0.push(jump);
    }

    /// A reader expects `place`, and from `end` on nothing of what it has stands. From where on that is in truth: it may have
    /// passed over the frames before `end`.
    pub(super) fn end_for(&self, place: u64, end: u64) -> u64 {
        let passed = self.0.iter().filter(|jump| jump.to <= place).map(|jump| jump.from);
        passed.min().unwrap_or(end).min(end)
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
        assert_eq!(jumps.take_back(71), Some(Jump { from: 49, to: 1 << 62 }));
        assert_eq!(jumps.take_back(60), None, "that is over");
        assert_eq!(jumps.take_back(15), Some(Jump { from: 10, to: 20 }));
        assert_eq!(noted(&[(10, 20)]).take_back(20), None, "what comes next is no jump beyond it");
        assert_eq!(noted(&[(20, 20), (30, 9)]).take_back(5), None, "no jump at all");
        let many: Vec<(u64, u64)> = (1..100).map(|it| (10 * it, 10 * it + 5)).collect();
        let mut jumps = noted(&many);
        assert!(jumps.0.len() <= JUMPS_KEPT_MAX);
        let first = jumps.take_back(12).map(|jump| jump.from);
        assert_eq!(first, Some(10), "too much is taken back rather than too little");
    }

    #[test]
    fn who_was_away_is_told_from_where_it_was_led_ahead() {
        let mut taken_back = TakenBack::default();
        assert_eq!(taken_back.end_for(1 << 63, 52), 52);
        taken_back.note(Jump { from: 49, to: 1 << 62 });
        assert_eq!(taken_back.end_for((1 << 62) + 3, 52), 49);
        assert_eq!(taken_back.end_for(54, 52), 52, "it was not led there");
        assert_eq!(taken_back.end_for(1 << 63, 30), 30, "what is void anyway");
        taken_back.note(Jump { from: 49, to: 1 << 61 });
        assert_eq!(taken_back, TakenBack(vec![Jump { from: 49, to: 1 << 61 }]));
        (60..90).for_each(|from| taken_back.note(Jump { from, to: 1 << 60 }));
        assert!(taken_back.0.len() <= JUMPS_KEPT_MAX);
        assert_eq!(taken_back.end_for(1 << 61, 80), 49, "too much rather than too little");
    }
}
