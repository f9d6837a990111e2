//! What nodes share around their circuit breakers: outcome classes, and how a breaker is described.

use super::{DialFailure, status::Status};
use crate::breaker::{Breaker, Outcome, OutcomeClass};
use crate::time::Now;

/// What a failed dial means to the breaker that permitted it.
#[must_use]
pub fn breaker_outcome(failure: DialFailure) -> Outcome {
    match failure {
        // Nobody listens there, or the kernel would not have met itself.
        DialFailure::Refused | DialFailure::SelfConnect => Outcome::Refused,
        DialFailure::Unreachable => Outcome::Unreachable,
        DialFailure::Deadline => Outcome::ConnectDeadline,
        DialFailure::Reset => Outcome::Reset,
        DialFailure::Local(fault) => Outcome::LocalFault(fault),
    }
}

/// Adds a breaker to a status answer.
pub fn describe_breaker(name: &str, breaker: &Breaker, now: Now, status: &mut Status) {
    let snapshot = breaker.snapshot(now.mono);
    status.text(format!("breaker {name}"), snapshot.state.to_string());
    if let Some(last) = &snapshot.last_error {
        status.text(format!("error {name}"), last.to_string());
    }
    let since_ms = now.mono.since(snapshot.since).as_millis();
    status.metric(format!("{name}.since_ms"), since_ms);
    if let Some(next) = snapshot.next_probe {
        status.metric(format!("{name}.next_probe_ms"), next.since(now.mono).as_millis());
    }
    for (rate, value) in [("failure", snapshot.failure_rate), ("slow", snapshot.slow_rate)] {
        if let Some(value) = value {
            // Hundredths of a percent: status frames carry integers.
            #[allow(clippy::cast_possible_truncation, reason = "a rate is between 0 and 100")]
            status.metric(format!("{name}.{rate}_rate_bp"), (value * 100.0).round() as i64);
        }
    }
    for class in OutcomeClass::ALL {
        let count = snapshot.counts.by_class[class as usize];
        if count > 0 {
            let class = class.to_string().replace(' ', "_");
            status.metric(format!("{name}.{class}"), count);
        }
    }
}
