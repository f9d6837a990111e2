//! Finding the highest rate that is sustained: from a guess up or down in growing steps until there is
//! a good and a bad rate, then halving what is between. Pure: it proposes rates and is told how they went.

/// A search in progress.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    trials_left: u32,
    highest_good: Option<u64>,
    lowest_bad: Option<u64>,
    next: u64,
    /// The last step while there was only good, or only bad: in percent of the rate.
    step_percent: u64,
}

/// Where good and bad are this close (percent), the search is over.
const CLOSE_PERCENT: u64 = 10;
/// The first step away from the guess, in percent; each further one goes twice as far.
const FIRST_STEP_PERCENT: u64 = 130;
/// The longest step.
const LONGEST_STEP_PERCENT: u64 = 800;

impl Search {
    /// Begins at `first` messages a second.
    pub(crate) fn new(first: u64, trials_max: u32) -> Search {
        Search {
            trials_left: trials_max,
            highest_good: None,
            lowest_bad: None,
            next: first.max(1),
            step_percent: FIRST_STEP_PERCENT,
        }
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
        let step = self.step_percent;
        self.step_percent = (step * 3 / 2).min(LONGEST_STEP_PERCENT);
        self.next = match (self.highest_good, self.lowest_bad) {
            (Some(good), Some(bad)) => good + bad.saturating_sub(good) / 2,
            (Some(good), None) => scaled(good, step, 100).max(good.saturating_add(1)),
            (None, Some(bad)) => scaled(bad, 100, step).max(1),
            (None, None) => self.next,
        };
    }
}

/// `rate * by / over`, saturating.
fn scaled(rate: u64, by: u64, over: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(by) / u128::from(over.max(1))).unwrap_or(u64::MAX)
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
                let (best, taken) = search(first, 30, limit);
                assert!(taken <= 12, "{first} {limit}: {taken} trials");
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
        assert!(search(1_000, 10, 1_200).1 <= 4, "a good guess is soon confirmed");
        assert_eq!(search(1, 8, 0), (None, 1), "nothing is below one a second");
    }
}
