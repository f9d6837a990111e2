//! What may be asked beyond the one question that each part needs: a bucket that every first question fills
//! a little and every question beyond it empties by one.
//!
//! # Decisions
//!
//! * There are three budgets. Each first question earns 50 thousandths of a question: 35 for hedges, 10 for
//!   failovers, 5 for probes. So in the long run a slow system is asked at most a twentieth more. Savings
//!   may be spent at once. A retry after a failure needs no budget.
//! * The failover budget begins with as many questions as one node may have open. So a node that stops
//!   delays nobody, even when the hedges are spent.

use crate::limits::{
    FAILOVER_THOUSANDTHS_MAX, FAILOVER_THOUSANDTHS_PER_ASK, HEDGE_THOUSANDTHS_MAX,
    HEDGE_THOUSANDTHS_PER_ASK, PROBE_THOUSANDTHS_MAX, PROBE_THOUSANDTHS_PER_ASK,
};

/// What one question costs.
const QUESTION: u32 = 1_000;

/// One kind of question's bucket. It begins full.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Thousandths of a question.
    left: u32,
    per_ask: u32,
    most: u32,
}

impl Budget {
    fn new(per_ask: u32, most: u32) -> Budget {
        Budget { left: most, per_ask, most }
    }

    /// A part is asked for the first time.
    fn earn(&mut self) {
        self.left = self.left.saturating_add(self.per_ask).min(self.most);
    }

    /// Whether one more question may be asked now; then it is paid.
    fn take(&mut self) -> bool {
        let left = self.left.checked_sub(QUESTION);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Whether more than half of what can be saved is there.
    fn is_ample(&self) -> bool {
        self.left > self.most / 2
    }
}

/// The budgets of all that may be asked beyond first questions. They are apart, so that a system that is
/// slow as a whole leaves something for a node that stops.
#[derive(Debug)]
pub(super) struct Budgets {
    hedges: Budget,
    failovers: Budget,
    probes: Budget,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            hedges: Budget::new(HEDGE_THOUSANDTHS_PER_ASK, HEDGE_THOUSANDTHS_MAX),
            failovers: Budget::new(FAILOVER_THOUSANDTHS_PER_ASK, FAILOVER_THOUSANDTHS_MAX),
            probes: Budget::new(PROBE_THOUSANDTHS_PER_ASK, PROBE_THOUSANDTHS_MAX),
        }
    }
}

impl Budgets {
    /// A part is asked for the first time, which earns a little of each.
    pub(super) fn earn(&mut self) {
        self.hedges.earn();
        self.failovers.earn();
        self.probes.earn();
    }

    /// Whether a hedge may be asked now; then it is paid.
    pub(super) fn take_hedge(&mut self) -> bool {
        self.hedges.take()
    }

    /// Whether another copy may be asked for silent ones now; then it is paid, if need be as a hedge.
    pub(super) fn take_failover(&mut self) -> bool {
        self.failovers.take() || self.hedges.take()
    }

    /// Whether a probe may be sent now; then it is paid.
    pub(super) fn take_probe(&mut self) -> bool {
        self.probes.take()
    }

    /// Whether more than half of the hedges that can be saved up is there.
    pub(super) fn has_ample_hedges(&self) -> bool {
        self.hedges.is_ample()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many more can be taken.
    fn count(mut take: impl FnMut() -> bool) -> u32 {
        (0..1_000_000).take_while(|_| take()).count().try_into().unwrap()
    }

    #[test]
    fn savings_are_spent_and_a_question_is_earned_by_many() {
        let mut budgets = Budgets::default();
        assert_eq!(count(|| budgets.take_probe()), PROBE_THOUSANDTHS_MAX / QUESTION);
        let failovers = FAILOVER_THOUSANDTHS_MAX / QUESTION;
        let hedges = HEDGE_THOUSANDTHS_MAX / QUESTION;
        assert!(budgets.has_ample_hedges());
        // A failover is paid as a hedge when its own savings are spent.
        assert_eq!(count(|| budgets.take_failover()), failovers + hedges);
        assert!(!budgets.take_hedge() && !budgets.has_ample_hedges());
        for (per_ask, take) in [
            (PROBE_THOUSANDTHS_PER_ASK, Budgets::take_probe as fn(&mut Budgets) -> bool),
            (HEDGE_THOUSANDTHS_PER_ASK, Budgets::take_hedge),
        ] {
            count(|| take(&mut budgets));
            let mut asks_until_taken = || {
                count(|| {
                    budgets.earn();
                    !take(&mut budgets)
                })
            };
            // What was left over is less than one ask earns only from the first question on.
            asks_until_taken();
            let asks = asks_until_taken();
            assert!(asks + 1 >= QUESTION / per_ask, "{asks}");
            assert!(asks < QUESTION.div_ceil(per_ask), "{asks}");
        }
    }

    #[test]
    fn more_than_half_of_the_savings_is_ample_and_no_more_is_saved_than_the_most() {
        let mut budget = Budget::new(400, 4_000);
        budget.earn();
        assert!(budget.take() && budget.is_ample());
        assert!(budget.take() && !budget.is_ample(), "half is not more than half");
        assert_eq!(count(|| budget.take()), 2);
        (0..2).for_each(|_| budget.earn());
        assert!(!budget.take());
        budget.earn();
        assert!(budget.take());
    }
}
