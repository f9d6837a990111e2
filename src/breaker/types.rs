//! The breaker's vocabulary: states, outcomes, reasons. Their numbers travel in frames and metrics,
//! so they are never reused.

use std::fmt;
use std::time::Duration;

use crate::time::Mono;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Calls go through and are judged.
    #[default]
    Closed = 0,
    /// Calls are denied until an instant.
    Open = 1,
    /// A few probes go through; they decide.
    HalfOpen = 2,
    /// An operator denies all calls.
    ForcedOpen = 3,
    /// An operator lets all calls through; nothing is judged.
    Disabled = 4,
    /// An operator lets all calls through; rates are kept, and change nothing.
    MetricsOnly = 5,
}

impl State {
    /// Every state, in numerical order.
    pub const ALL: [State; 6] = [
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<State> {
        State::ALL.get(usize::from(number)).copied()
    }

    /// The state's name as operators read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
            State::ForcedOpen => "forced-open",
            State::Disabled => "disabled",
            State::MetricsOnly => "metrics-only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Refused or unreachable too often in a row.
    ConsecutiveRefusals = 1,
    /// Too many calls in the window failed.
    FailureRate = 2,
    /// Too many answers in the window were slow.
    SlowRate = 3,
    /// The wait of the open state is over.
    WaitOver = 4,
    /// Enough probes were answered.
    ProbesAnswered = 5,
    /// A probe failed.
    ProbeFailed = 6,
    /// A probe's answer was slow.
    ProbeSlow = 7,
    /// Probing took too long.
    ProbeDeadline = 8,
    /// The peer said when to come back.
    ComeBackLater = 9,
    /// An operator forced it open.
    OperatorForcedOpen = 10,
    /// An operator closed it.
    OperatorClosed = 11,
    /// An operator disabled it.
    OperatorDisabled = 12,
    /// An operator reduced it to its metrics.
    OperatorMetricsOnly = 13,
    /// An operator started it anew.
    OperatorReset = 14,
}

impl Reason {
    /// Every reason, in numerical order from 1.
    pub const ALL: [Reason; 14] = [
        Reason::ConsecutiveRefusals,
        Reason::FailureRate,
        Reason::SlowRate,
        Reason::WaitOver,
        Reason::ProbesAnswered,
        Reason::ProbeFailed,
        Reason::ProbeSlow,
        Reason::ProbeDeadline,
        Reason::ComeBackLater,
        Reason::OperatorForcedOpen,
        Reason::OperatorClosed,
        Reason::OperatorDisabled,
        Reason::OperatorMetricsOnly,
        Reason::OperatorReset,
    ];

    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(number.checked_sub(1)?)).copied()
    }

    /// The reason as one word of at most 15 bytes: for names of figures.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Reason::ConsecutiveRefusals => "refusals",
            Reason::FailureRate => "failure_rate",
            Reason::SlowRate => "slow_rate",
            Reason::WaitOver => "wait_over",
            Reason::ProbesAnswered => "probes_answered",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbeSlow => "probe_slow",
            Reason::ProbeDeadline => "probe_deadline",
            Reason::ComeBackLater => "come_back_later",
            Reason::OperatorForcedOpen => "forced_open",
            Reason::OperatorClosed => "closed",
            Reason::OperatorDisabled => "disabled",
            Reason::OperatorMetricsOnly => "metrics_only",
            Reason::OperatorReset => "reset",
        }
    }

    /// The reason in words, for a log line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::ConsecutiveRefusals => "refused too often in a row",
            Reason::FailureRate => "failure rate reached the threshold",
            Reason::SlowRate => "slow rate reached the threshold",
            Reason::WaitOver => "the wait is over",
            Reason::ProbesAnswered => "probes were answered",
            Reason::ProbeFailed => "a probe failed",
            Reason::ProbeSlow => "a probe was slow",
            Reason::ProbeDeadline => "probing took too long",
            Reason::ComeBackLater => "the peer said to come back later",
            Reason::OperatorForcedOpen => "forced open by an operator",
            Reason::OperatorClosed => "closed by an operator",
            Reason::OperatorDisabled => "disabled by an operator",
            Reason::OperatorMetricsOnly => "set to metrics only by an operator",
            Reason::OperatorReset => "reset by an operator",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A resource of this machine that ran out. Says nothing about the peer, so it never opens a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LocalFault {
    /// `EMFILE`: this process has no descriptor left.
    ProcessDescriptors = 0,
    /// `ENFILE`: the machine has no descriptor left.
    SystemDescriptors = 1,
    /// `EADDRNOTAVAIL`: no local port left for that peer.
    LocalAddresses = 2,
    /// `ENOBUFS`: the kernel has no buffer left.
    SocketBuffers = 3,
    /// `ENOMEM`: the kernel has no memory left.
    Memory = 4,
}

impl LocalFault {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The fault in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LocalFault::ProcessDescriptors => "no descriptor left in this process (EMFILE)",
            LocalFault::SystemDescriptors => "no descriptor left on this machine (ENFILE)",
            LocalFault::LocalAddresses => "no local port left (EADDRNOTAVAIL)",
            LocalFault::SocketBuffers => "no socket buffer left (ENOBUFS)",
            LocalFault::Memory => "no memory left (ENOMEM)",
        }
    }
}

/// What became of one permitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered a request. A connection that came about is not yet an answer: the kernel
    /// accepts on behalf of a stopped process.
    Answered {
        /// From asking to the answer; decides whether it was slow.
        latency: Duration,
    },
    /// Nobody listens there (`ECONNREFUSED`).
    Refused,
    /// No route to the host or network.
    Unreachable,
    /// The connection did not come about in time.
    ConnectDeadline,
    /// The answer did not come in time.
    RequestDeadline,
    /// The peer broke the connection.
    Reset,
    /// The peer sent what the protocol does not allow.
    ProtocolError,
    /// The peer said not to come back before this instant.
    ComeBackAt(Mono),
    /// Something ran out on our side; the peer was not asked.
    LocalFault(LocalFault),
}

/// [`Outcome`]s as they are counted: without their details, and with slow answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is described on Outcome")]
pub enum OutcomeClass {
    Answered = 0,
    /// An answer above `slow_call_duration_threshold`.
    Slow = 1,
    Refused = 2,
    Unreachable = 3,
    ConnectDeadline = 4,
    RequestDeadline = 5,
    Reset = 6,
    ProtocolError = 7,
    ComeBackLater = 8,
    LocalFault = 9,
}

impl OutcomeClass {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// Every class, in numerical order.
    pub const ALL: [OutcomeClass; OutcomeClass::COUNT] = [
        OutcomeClass::Answered,
        OutcomeClass::Slow,
        OutcomeClass::Refused,
        OutcomeClass::Unreachable,
        OutcomeClass::ConnectDeadline,
        OutcomeClass::RequestDeadline,
        OutcomeClass::Reset,
        OutcomeClass::ProtocolError,
        OutcomeClass::ComeBackLater,
        OutcomeClass::LocalFault,
    ];

    /// The class in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OutcomeClass::Answered => "answered",
            OutcomeClass::Slow => "slow answer",
            OutcomeClass::Refused => "connection refused",
            OutcomeClass::Unreachable => "unreachable",
            OutcomeClass::ConnectDeadline => "connect deadline passed",
            OutcomeClass::RequestDeadline => "request deadline passed",
            OutcomeClass::Reset => "connection reset",
            OutcomeClass::ProtocolError => "protocol error",
            OutcomeClass::ComeBackLater => "told to come back later",
            OutcomeClass::LocalFault => "local fault",
        }
    }

    /// The class as one word of at most 16 bytes: for names of figures.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            OutcomeClass::Answered => "answered",
            OutcomeClass::Slow => "slow",
            OutcomeClass::Refused => "refused",
            OutcomeClass::Unreachable => "unreachable",
            OutcomeClass::ConnectDeadline => "connect_deadline",
            OutcomeClass::RequestDeadline => "request_deadline",
            OutcomeClass::Reset => "reset",
            OutcomeClass::ProtocolError => "protocol_error",
            OutcomeClass::ComeBackLater => "come_back_later",
            OutcomeClass::LocalFault => "local_fault",
        }
    }
}

impl fmt::Display for OutcomeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// How it is counted, given the latency above which an answer is slow.
    #[must_use]
    pub fn class(self, slow_over: Duration) -> OutcomeClass {
        match self {
            Outcome::Answered { latency } if latency > slow_over => OutcomeClass::Slow,
            Outcome::Answered { .. } => OutcomeClass::Answered,
            Outcome::Refused => OutcomeClass::Refused,
            Outcome::Unreachable => OutcomeClass::Unreachable,
            Outcome::ConnectDeadline => OutcomeClass::ConnectDeadline,
            Outcome::RequestDeadline => OutcomeClass::RequestDeadline,
            Outcome::Reset => OutcomeClass::Reset,
            Outcome::ProtocolError => OutcomeClass::ProtocolError,
            Outcome::ComeBackAt(_) => OutcomeClass::ComeBackLater,
            Outcome::LocalFault(_) => OutcomeClass::LocalFault,
        }
    }
}

/// A change of state, for a counter, a log line and a frame on `$sys.breaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The generation that the change began.
    pub generation: u32,
    /// When.
    pub at: Mono,
}

/// A call was not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is {state}")]
pub struct Denied {
    /// [`State::Open`], [`State::ForcedOpen`], or [`State::HalfOpen`] with all probes under way.
    pub state: State,
    /// When to ask again at the latest; `None` = when an operator has acted.
    pub retry_at: Option<Mono>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_read_back() {
        assert_eq!(State::ALL.map(|s| s as u8), [0, 1, 2, 3, 4, 5]);
        for state in State::ALL {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!(State::from_number(6), None);
        let reasons: Vec<u8> = Reason::ALL.iter().map(|r| *r as u8).collect();
        assert_eq!(reasons, (1..=14).collect::<Vec<u8>>());
        assert_eq!(Reason::from_number(0), None);
        assert_eq!(Reason::from_number(9), Some(Reason::ComeBackLater));
        assert_eq!(Reason::from_number(15), None);
        for (index, class) in OutcomeClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }
}
