//! Reports of other nodes' breakers: whose are taken, and how many.
//!
//! # Decisions
//!
//! * A report is taken from a peer that calls itself the aggregator, about a breaker that the aggregator has: one for core
//!   and one for each node that follows core, but the broker. Names that anybody makes up are dropped.
//! * Each breaker may change [`limits::BREAKER_REPORTS_SAVED_MAX`] times at once and once in
//!   [`limits::BREAKER_REPORT_EVERY`] in the long run. A bound on each second alone, such as 64, is 350 MB of journal
//!   a day. What is dropped is counted, told in the status and logged; the generation of the next change of that breaker
//!   shows it too.

use std::collections::BTreeMap;

use super::FollowerConfig;
use crate::limits;
use crate::node::{BREAKER_NAME_BYTES_MAX, aggregator_breaker_name};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::padded;

/// A breaker's name as it stands in a frame.
type Name = [u8; BREAKER_NAME_BYTES_MAX];

/// Who the aggregator says it is, in its SESSION.
const REPORTER: &str = "aggregator";

/// What may be reported, and how much more.
#[derive(Debug)]
pub(super) struct Reports {
    budgets: BTreeMap<Name, Budget>,
    pub(super) dropped: u64,
    logged_at: Option<Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u32,
    /// When the next one is earned.
    earned_at: Mono,
}

impl Reports {
    pub(super) fn new(followers: &[FollowerConfig]) -> Reports {
        let nodes = followers.iter().map(|follower| follower.name.as_str());
        let names = nodes.filter(|name| *name != "broker").chain(["core"]);
        let full = Budget { left: limits::BREAKER_REPORTS_SAVED_MAX, earned_at: Mono::default() };
        let budgets = names.map(|name| (padded(&aggregator_breaker_name(name)), full)).collect();
        Reports { budgets, dropped: 0, logged_at: None }
    }

    /// Whether a peer of this name may report at all.
    pub(super) fn is_reporter(name: &[u8; 16]) -> bool {
        *name == padded::<16>(REPORTER)
    }

    /// Whether one more change of this breaker is taken.
    pub(super) fn take(&mut self, now: Now, name: &Name) -> bool {
        let Some(budget) = self.budgets.get_mut(name) else { return false };
        while budget.earned_at <= now.mono && budget.left < limits::BREAKER_REPORTS_SAVED_MAX {
            budget.left += 1;
            budget.earned_at = budget.earned_at + limits::BREAKER_REPORT_EVERY;
        }
        if budget.left == limits::BREAKER_REPORTS_SAVED_MAX {
            budget.earned_at = now.mono + limits::BREAKER_REPORT_EVERY;
        }
        if budget.left == 0 && !is_planted(Bug::TakeEveryReport) {
            return false;
        }
        budget.left = budget.left.saturating_sub(1);
        true
    }

    /// Counts one that was not taken. The number of all of them, when it is time to say it.
    pub(super) fn drop_one(&mut self, now: Now) -> Option<u64> {
        self.dropped += 1;
        let is_due = |at: Mono| now.mono.since(at) >= limits::BREAKER_CHANGES_LOG_EVERY;
        let is_due = self.logged_at.is_none_or(is_due);
        is_due.then(|| {
            self.logged_at = Some(now.mono);
            self.dropped
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall_ns: 0 }
    }

    #[test]
    fn a_day_of_reports_is_bounded_and_no_breaker_takes_anothers_share() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let follower = |name: &str| FollowerConfig { name: name.to_owned(), address, shard: None };
        let mut reports = Reports::new(&["broker", "shard-A", "shard-A.1"].map(follower));
        let (flood, quiet) = (padded("aggregator.shard-A"), padded("aggregator.A.1"));
        let taken: u64 = (0..86_400)
            .map(|second| (0..64).filter(|_| reports.take(now(second), &flood)).count() as u64)
            .sum();
        assert!((8_000..9_000).contains(&taken), "{taken}");
        assert!(
            reports.take(now(86_400), &quiet)
                && reports.take(now(86_400), &padded("aggregator.core"))
        );
        for name in ["aggregator.broker", "aggregator.shard-Z", "core.exchange", ""] {
            assert!(!reports.take(now(86_400), &padded(name)), "{name}");
        }
    }
}
