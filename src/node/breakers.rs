//! What nodes share around their circuit breakers: outcome classes, operators' wishes, and how a
//! breaker and its changes are told.
//!
//! # Decisions
//!
//! * A breaker has one name in status answers, frames and `pregao breaker`: the node's name, a dot, and
//!   what it guards. The longest is `aggregator.shard-A`, 18 bytes. BREAKER_CHANGE has room for that name,
//!   so its counter of changes has only 16 bits.
//! * The breaker of a shard's replica is `aggregator.A.1`, because `aggregator.shard-A.1` does not fit.

use std::time::Duration;

use super::DialFailure;
use super::session::Status;
use crate::breaker::{Breaker, Outcome, OutcomeClass, Reason, State, Transition};
use crate::time::Now;
use crate::wire::{BreakerAction, BreakerChange, U16, padded};

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

/// Bytes of a breaker's name: what a BREAKER_CHANGE frame has room for. The name is the same there, in
/// status answers (whose fields have room for it and `STATE` or `ERROR` behind it) and in what
/// operators type.
pub const BREAKER_NAME_BYTES_MAX: usize = 18;
/// Ends the name of the TEXT frames that say a breaker's state.
const STATE: &str = ".state";
/// Ends the name of the TEXT frames that say a breaker's last error.
const ERROR: &str = ".error";

/// Does what an operator wants of a breaker.
pub fn apply_operator_action(breaker: &mut Breaker, action: BreakerAction, now: Now) {
    match action {
        BreakerAction::ForceOpen => breaker.force_open(now.mono),
        BreakerAction::Close => breaker.close(now.mono),
        BreakerAction::Disable => breaker.disable(now.mono),
        BreakerAction::MetricsOnly => breaker.metrics_only(now.mono),
        BreakerAction::Reset => breaker.reset(now.mono),
    }
}

/// The name of the aggregator's breaker for a node. There is no room for `shard-` before the name of a replica.
#[must_use]
pub fn aggregator_breaker_name(node: &str) -> String {
    let name = format!("aggregator.{node}");
    match node.strip_prefix("shard-") {
        Some(short) if name.len() > BREAKER_NAME_BYTES_MAX => format!("aggregator.{short}"),
        _ => name,
    }
}

/// A change of state as a frame without a place in a sequence.
#[must_use]
pub fn breaker_change(name: &str, change: Transition) -> BreakerChange {
    // Modulo 65,536, as the protocol says.
    #[allow(clippy::cast_possible_truncation, reason = "wraps on purpose")]
    let generation = U16::new(change.generation as u16);
    BreakerChange {
        from: change.from as u8,
        to: change.to as u8,
        reason: change.reason as u8,
        generation,
        name: padded(name),
        ..BreakerChange::default()
    }
}

/// Adds a breaker to a status answer: its state and last error in words, then figures named
/// `NAME.figure`. What is not known (a rate below the minimum number of calls, a probe that nobody
/// waits for) is left out, and so are outcomes that never happened.
pub fn describe_breaker(name: &str, breaker: &Breaker, now: Now, status: &mut Status) {
    let snapshot = breaker.snapshot(now.mono);
    status.text(format!("{name}{STATE}"), snapshot.state.as_str());
    if let Some(last) = &snapshot.last_error {
        status.text(format!("{name}{ERROR}"), last.to_string());
    }
    let mut figure = |key: &str, value: u64| status.metric(format!("{name}.{key}"), value);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    figure("since_ms", ms(now.mono.since(snapshot.since)));
    if let Some(next) = snapshot.next_probe {
        figure("next_probe_ms", ms(next.since(now.mono)));
    }
    for (key, rate) in
        [("failure_rate_bp", snapshot.failure_rate), ("slow_rate_bp", snapshot.slow_rate)]
    {
        if let Some(rate) = rate {
            // Hundredths of a percent: status frames carry integers.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is between 0 and 100"
            )]
            figure(key, (rate * 100.0).round() as u64);
        }
    }
    for (key, count) in [
        ("granted", snapshot.counts.granted),
        ("denied", snapshot.counts.denied),
        ("late", snapshot.counts.late),
        ("opened", snapshot.counts.entered[State::Open as usize]),
        ("changes", u64::from(snapshot.generation)),
    ] {
        figure(key, count);
    }
    for reason in Reason::ALL {
        let count = snapshot.counts.by_reason[reason as usize - 1];
        if count > 0 {
            figure(&reason_key(reason), count);
        }
    }
    for class in OutcomeClass::ALL {
        let count = snapshot.counts.by_class[class as usize];
        if count > 0 {
            figure(class.key(), count);
        }
    }
}

/// What behind a breaker's name says how often it changed its state for this reason.
#[must_use]
pub fn reason_key(reason: Reason) -> String {
    format!("why.{}", reason.key())
}

/// The breaker that a TEXT frame of this name gives the state of.
#[must_use]
pub fn breaker_described_by(text_name: &str) -> Option<&str> {
    text_name.strip_suffix(STATE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Metric, Text};

    #[test]
    fn the_longest_name_is_the_same_everywhere() {
        let name = "aggregator.shard-A";
        assert_eq!(name.len(), BREAKER_NAME_BYTES_MAX);
        assert_eq!(BreakerChange::default().name.len(), BREAKER_NAME_BYTES_MAX);
        let room = Text::default().name.len() - STATE.len().max(ERROR.len());
        assert!(name.len() <= room, "{room}");
        let mut keys = OutcomeClass::ALL.map(OutcomeClass::key).to_vec();
        keys.push("failure_rate_bp");
        let reasons = Reason::ALL.map(reason_key);
        keys.extend(reasons.iter().map(String::as_str));
        for key in keys {
            assert!(name.len() + 1 + key.len() <= Metric::default().name.len(), "{key}");
        }
    }
}
