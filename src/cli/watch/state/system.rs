//! The system as its nodes describe it: their reports, how fast each goes, and what has changed since the last look.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::render::health::{Condition, Finding, overall};
use crate::render::{BreakerReport, NodeReport, Reachability};
use crate::time::{Mono, Now};

/// The figure of a node that counts what passes through it, most telling first.
const COUNTERS: [&str; 4] = ["feed.released_seq", "source.1.next_seq", "next_seq", "gather.asked"];

/// The last reports, and what follows from them and those before.
#[derive(Debug, Default)]
pub(in crate::cli::watch) struct System {
    pub(in crate::cli::watch) reports: Vec<NodeReport>,
    /// When they came; `None`: none has.
    pub(in crate::cli::watch) at: Option<Mono>,
    /// By node: how much of what it counts in a second.
    rates: BTreeMap<String, u64>,
    /// The first line on the screen.
    pub(in crate::cli::watch) top: usize,
}

impl System {
    /// Takes judged reports. What has changed, in words.
    pub(super) fn handle_reports(&mut self, now: Now, reports: Vec<NodeReport>) -> Vec<String> {
        let elapsed = self.at.map(|at| now.mono.since(at));
        let mut said = Vec::new();
        self.rates.clear();
        for report in &reports {
            let before = self.reports.iter().find(|it| it.node == report.node);
            let Some(before) = before else { continue };
            if let Some(rate) = elapsed.and_then(|elapsed| rate(before, report, elapsed)) {
                self.rates.insert(report.node.clone(), rate);
            }
            if before.status != report.status {
                said.push(match report.status {
                    Reachability::Ok => format!("{} is back", report.node),
                    _ => format!(
                        "{} is away: {}",
                        report.node,
                        report.trouble.as_deref().unwrap_or("no answer")
                    ),
                });
            }
            for breaker in &report.breakers {
                let old = before.breakers.iter().find(|it| it.name == breaker.name);
                if let Some(old) = old.filter(|old| old.state != breaker.state) {
                    said.push(format!(
                        "breaker {}: {} -> {}",
                        breaker.name, old.state, breaker.state
                    ));
                }
            }
        }
        self.reports = reports;
        self.at = Some(now.mono);
        said
    }

    /// What is worst; `None` before the first reports.
    pub(in crate::cli::watch) fn overall(&self) -> Option<Finding> {
        let answered = self.reports.iter().any(|it| it.status == Reachability::Ok);
        match (self.reports.is_empty(), answered) {
            (true, _) => None,
            (false, true) => Some(overall(&self.reports)),
            (false, false) => {
                let text = "no node answers; start the system with `pregao all`".to_owned();
                Some(Finding { condition: Condition::Stopped, text })
            }
        }
    }

    pub(in crate::cli::watch) fn rate(&self, node: &str) -> Option<u64> {
        self.rates.get(node).copied()
    }

    pub(in crate::cli::watch) fn node(&self, node: &str) -> Option<&NodeReport> {
        self.reports.iter().find(|it| it.node == node)
    }

    /// All breakers; those that are not closed first.
    pub(in crate::cli::watch) fn breakers(&self) -> Vec<&BreakerReport> {
        let mut all: Vec<&BreakerReport> =
            self.reports.iter().flat_map(|report| &report.breakers).collect();
        all.sort_by_key(|breaker| breaker.state == "closed");
        all
    }

    /// How far a follower of core is behind it, in places of the sequence or in time.
    pub(in crate::cli::watch) fn lag(&self, report: &NodeReport) -> Option<String> {
        if let Some(ms) = report.figures.get("behind_ms") {
            // A shard counts time: most of the sequence is of other shards.
            return Some(match ms {
                ..0 => "unknown".to_owned(),
                ms => format!("{} ms", ms),
            });
        }
        let next = report.figures.get("source.1.next_seq")?;
        let core = self.node("core")?.figures.get("next_seq")?;
        // The two were asked one after the other.
        Some(format!("{} seq", core.saturating_sub(*next).max(0)))
    }
}

fn counter(report: &NodeReport) -> Option<i64> {
    COUNTERS.iter().find_map(|name| report.figures.get(*name)).copied()
}

fn rate(before: &NodeReport, after: &NodeReport, elapsed: Duration) -> Option<u64> {
    let passed = counter(after)?.checked_sub(counter(before)?)?;
    // A node that has started again counts anew.
    let passed = u64::try_from(passed).ok()?;
    let ms = u64::try_from(elapsed.as_millis()).ok().filter(|ms| *ms > 0)?;
    Some(passed.saturating_mul(1_000) / ms)
}
