//! Finding the highest rate that is sustained: doubling, then halving the step. Pure: it proposes
//! rates and is told how they went.

/// A search in progress.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    trials_left: u32,
    highest_good: Option<u64>,
    lowest_bad: Option<u64>,
    next: u64,
}

/// Where good and bad are this close (percent), the search is over.
const CLOSE_PERCENT: u64 = 10;
/// While nothing was too much, each trial asks for so many times more than the one before.
const GROWTH: u64 = 2;

impl Search {
    /// Begins at `first` messages a second.
    pub(crate) fn new(first: u64, trials_max: u32) -> Search {
        Search { trials_left: trials_max, highest_good: None, lowest_bad: None, next: first.max(1) }
    }

    /// The next rate to try; `None` when the search is over.
    pub(crate) fn propose(&self) -> Option<u64> {
        let is_close = match (self.highest_good, self.lowest_bad) {
            (Some(good), Some(bad)) => bad.saturating_sub(good) * 100 <= good * CLOSE_PERCENT,
            (None, Some(bad)) => bad <= 1,
            _ => false,
        };
        (self.trials_left > 0 && !is_close).then_some(self.next)
    }

    /// The proposed rate was sustained, or not.
    pub(crate) fn note(&mut self, sustained: bool) {
        self.trials_left = self.trials_left.saturating_sub(1);
        if sustained {
            self.highest_good = Some(self.next);
        } else {
            self.lowest_bad = Some(self.next);
        }
        self.next = match (self.highest_good, self.lowest_bad) {
            (Some(good), Some(bad)) => good + bad.saturating_sub(good) / 2,
            (Some(good), None) => good.saturating_mul(GROWTH),
            // Far too much to begin with: come down faster than it would have gone up.
            (None, Some(bad)) => (bad / (GROWTH * GROWTH)).max(1),
            (None, None) => self.next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a target that sustains `limit`; the best rate and how many trials it took.
    fn search(first: u64, trials: u32, limit: u64) -> (Option<u64>, u32) {
        let mut search = Search::new(first, trials);
        let mut taken = 0;
        while let Some(rate) = search.propose() {
            taken += 1;
            search.note(rate <= limit);
        }
        (search.highest_good, taken)
    }

    #[test]
    fn the_limit_is_closed_in_from_either_side() {
        for limit in [1_000, 1_777, 5_000, 9_999, 50_000] {
            for first in [1_000, 8_000, 100_000] {
                let (best, _) = search(first, 30, limit);
                let best = best.unwrap();
                assert!(
                    best <= limit && best * 110 >= limit * 100 - 100,
                    "{first} {limit}: {best}"
                );
            }
        }
    }

    #[test]
    fn the_trials_are_bounded_whatever_the_target_does() {
        assert_eq!(search(1_000, 8, u64::MAX).1, 8);
        let (best, taken) = search(1_000, 8, 0);
        assert!(best.is_none() && taken <= 8);
        assert_eq!(search(u64::MAX, 8, u64::MAX), (Some(u64::MAX), 8));
        assert_eq!(search(1, 8, 0), (None, 1), "nothing is below one a second");
    }
}
