//! The supervisor's decisions: when to restart a child, when to give up, how to stop.
//!
//! A pure machine in virtual time: exits and stop signals go in, actions come out, `now` is passed
//! in. It knows children by number only. What a process, a pipe or a signal is, is not its matter.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{
    KILL_WAIT, RESTART_RESET_AFTER, RESTART_WAIT_MAX, RESTART_WAIT_MIN, STOP_WAIT,
};
use crate::time::Mono;

/// Exit codes that a second attempt would only repeat: bad usage or configuration, and what a node
/// needs to start is not there.
const PERMANENT_EXIT_CODES: [i32; 2] = [2, 5];

/// What the shell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the child; if that fails, say so with [`Policy::handle_exit`].
    Start(usize),
    /// Ask it to stop.
    Terminate(usize),
    /// End it.
    Kill(usize),
}

/// Who asks the whole to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// Ctrl-C. The second one does not wait.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
}

/// What became of an exit, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It starts again after this time.
    Restart(Duration),
    /// It was asked to, or the others are stopping anyway.
    Expected,
    /// It can never start: everything stops.
    GiveUp,
}

/// How it all ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// As asked.
    Stopped,
    /// This child could not start at all, and said so with this exit code.
    Failed {
        /// Which child.
        child: usize,
        /// Its exit code.
        code: i32,
    },
    /// As asked, but children outlived SIGKILL.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChildState {
    Waiting { until: Mono },
    Running { since: Mono },
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    state: ChildState,
    /// Starts so far.
    starts: u64,
    /// How long the next restart waits.
    wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyState {
    Serving,
    /// Children were asked; those alive at the deadline are killed.
    Stopping {
        kill_at: Mono,
    },
    /// Children were killed; those alive at the deadline are left behind.
    Killing {
        abandon_at: Mono,
    },
    Abandoned,
}

/// The machine.
#[derive(Debug)]
pub struct Policy {
    children: Vec<Child>,
    state: PolicyState,
    failed: Option<(usize, i32)>,
    /// Invariant: at most one start and one signal of each kind per child.
    actions: VecDeque<Action>,
}

impl Policy {
    /// Starts so many children at once.
    #[must_use]
    pub fn new(now: Mono, children: usize) -> Policy {
        let child =
            Child { state: ChildState::Running { since: now }, starts: 1, wait: RESTART_WAIT_MIN };
        Policy {
            children: vec![child; children],
            state: PolicyState::Serving,
            failed: None,
            actions: (0..children).map(Action::Start).collect(),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Policy::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        match self.state {
            PolicyState::Serving => self
                .children
                .iter()
                .filter_map(|child| match child.state {
                    ChildState::Waiting { until } => Some(until),
                    ChildState::Running { .. } | ChildState::Ended => None,
                })
                .min(),
            PolicyState::Stopping { kill_at } => Some(kill_at),
            PolicyState::Killing { abandon_at } => Some(abandon_at),
            PolicyState::Abandoned => None,
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<PolicyOutcome> {
        if self.state == PolicyState::Abandoned {
            return Some(PolicyOutcome::Abandoned);
        }
        let ended = self.children.iter().all(|child| child.state == ChildState::Ended);
        if self.state == PolicyState::Serving || !ended {
            return None;
        }
        Some(match self.failed {
            Some((child, code)) => PolicyOutcome::Failed { child, code },
            None => PolicyOutcome::Stopped,
        })
    }

    /// Whether children are being stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.state != PolicyState::Serving
    }

    /// A child is gone, or could not be started; `code` is its exit code when it had one.
    pub fn handle_exit(&mut self, now: Mono, index: usize, code: Option<i32>) -> Decision {
        let serving = self.state == PolicyState::Serving;
        let Some(child) = self.children.get_mut(index) else { return Decision::Expected };
        let lived = match child.state {
            ChildState::Running { since } => now.since(since),
            ChildState::Waiting { .. } | ChildState::Ended => Duration::ZERO,
        };
        if !serving {
            child.state = ChildState::Ended;
            return Decision::Expected;
        }
        if let Some(code) = code.filter(|code| PERMANENT_EXIT_CODES.contains(code))
            && child.starts == 1
        {
            child.state = ChildState::Ended;
            self.failed = Some((index, code));
            self.stop(now);
            return Decision::GiveUp;
        }
        if lived >= RESTART_RESET_AFTER {
            child.wait = RESTART_WAIT_MIN;
        }
        let wait = child.wait;
        child.state = ChildState::Waiting { until: now + wait };
        child.wait = wait.saturating_mul(2).min(RESTART_WAIT_MAX);
        Decision::Restart(wait)
    }

    /// Somebody wants everything to stop.
    pub fn handle_stop(&mut self, now: Mono, signal: StopSignal) {
        match (self.state, signal) {
            (PolicyState::Serving, _) => self.stop(now),
            (PolicyState::Stopping { .. }, StopSignal::Interrupt) => self.kill(now),
            _ => {}
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Mono) {
        match self.state {
            PolicyState::Serving => {
                for (index, child) in self.children.iter_mut().enumerate() {
                    if matches!(child.state, ChildState::Waiting { until } if until <= now) {
                        child.state = ChildState::Running { since: now };
                        child.starts += 1;
                        self.actions.push_back(Action::Start(index));
                    }
                }
            }
            PolicyState::Stopping { kill_at } if kill_at <= now => self.kill(now),
            PolicyState::Killing { abandon_at } if abandon_at <= now => {
                self.state = PolicyState::Abandoned
            }
            PolicyState::Stopping { .. } | PolicyState::Killing { .. } | PolicyState::Abandoned => {
            }
        }
    }

    fn stop(&mut self, now: Mono) {
        self.state = PolicyState::Stopping { kill_at: now + STOP_WAIT };
        self.end_all(Action::Terminate);
    }

    fn kill(&mut self, now: Mono) {
        self.state = PolicyState::Killing { abandon_at: now + KILL_WAIT };
        self.end_all(Action::Kill);
    }

    /// Signals what runs, forgets what waits, and takes back starts that were not yet fetched.
    fn end_all(&mut self, signal: fn(usize) -> Action) {
        for (index, child) in self.children.iter_mut().enumerate() {
            let not_started = self.actions.contains(&Action::Start(index));
            match child.state {
                ChildState::Running { .. } if !not_started => self.actions.push_back(signal(index)),
                _ => child.state = ChildState::Ended,
            }
        }
        self.actions.retain(|action| !matches!(action, Action::Start(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(policy: &mut Policy) -> Vec<Action> {
        std::iter::from_fn(|| policy.poll_action()).collect()
    }

    fn running(children: usize) -> Policy {
        let mut policy = Policy::new(Mono(0), children);
        assert_eq!(drain(&mut policy).len(), children);
        policy
    }

    #[test]
    fn restarts_wait_longer_each_time_up_to_the_cap() {
        let mut policy = running(1);
        let mut now = Mono(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let Decision::Restart(wait) = policy.handle_exit(now, 0, Some(1)) else { panic!() };
            waits.push(wait.as_millis());
            let due = policy.poll_timeout().unwrap();
            assert_eq!(due, now + wait);
            policy.handle_timeout(Mono(due.0 - 1));
            assert_eq!(drain(&mut policy), [], "not before its time");
            policy.handle_timeout(due);
            assert_eq!(drain(&mut policy), [Action::Start(0)]);
            policy.handle_timeout(due);
            assert_eq!(drain(&mut policy), [], "not twice");
            now = due;
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_long_life_forgives_earlier_deaths() {
        let mut policy = running(1);
        let _ = policy.handle_exit(Mono(0), 0, Some(1));
        policy.handle_timeout(Mono(0) + RESTART_WAIT_MIN);
        let nearly = Mono(0) + RESTART_WAIT_MIN + RESTART_RESET_AFTER;
        let almost = Mono(nearly.0 - 1);
        assert_eq!(
            policy.handle_exit(almost, 0, None),
            Decision::Restart(Duration::from_millis(400))
        );
        let due = policy.poll_timeout().unwrap();
        policy.handle_timeout(due);
        assert_eq!(
            policy.handle_exit(due + RESTART_RESET_AFTER, 0, None),
            Decision::Restart(RESTART_WAIT_MIN)
        );
    }

    #[test]
    fn a_child_that_can_never_start_stops_everything_with_its_code() {
        for code in PERMANENT_EXIT_CODES {
            let mut policy = running(3);
            assert_eq!(policy.handle_exit(Mono(1), 1, Some(code)), Decision::GiveUp);
            assert_eq!(drain(&mut policy), [Action::Terminate(0), Action::Terminate(2)]);
            assert_eq!(policy.outcome(), None, "the others still run");
            assert_eq!(policy.handle_exit(Mono(2), 0, Some(0)), Decision::Expected);
            assert_eq!(policy.handle_exit(Mono(3), 2, Some(5)), Decision::Expected);
            assert_eq!(policy.outcome(), Some(PolicyOutcome::Failed { child: 1, code }));
        }
    }

    #[test]
    fn a_permanent_code_of_a_later_start_is_retried() {
        let mut policy = running(1);
        let _ = policy.handle_exit(Mono(0), 0, None);
        policy.handle_timeout(policy.poll_timeout().unwrap());
        assert!(matches!(policy.handle_exit(Mono(1), 0, Some(5)), Decision::Restart(_)));
    }

    #[test]
    fn other_codes_and_clean_exits_are_restarted_even_at_first() {
        for code in [None, Some(0), Some(1), Some(3), Some(4), Some(101)] {
            let mut policy = running(1);
            assert_eq!(
                policy.handle_exit(Mono(0), 0, code),
                Decision::Restart(RESTART_WAIT_MIN),
                "{code:?}"
            );
        }
    }

    #[test]
    fn stopping_asks_then_kills_then_leaves_behind() {
        let mut policy = running(2);
        policy.handle_stop(Mono(0), StopSignal::Terminate);
        assert_eq!(drain(&mut policy), [Action::Terminate(0), Action::Terminate(1)]);
        let _ = policy.handle_exit(Mono(1), 0, Some(0));
        let kill_at = policy.poll_timeout().unwrap();
        assert_eq!(kill_at, Mono(0) + STOP_WAIT);
        policy.handle_timeout(Mono(kill_at.0 - 1));
        assert_eq!(drain(&mut policy), []);
        policy.handle_timeout(kill_at);
        assert_eq!(drain(&mut policy), [Action::Kill(1)], "only what still lives");
        let abandon_at = policy.poll_timeout().unwrap();
        assert_eq!(policy.outcome(), None);
        policy.handle_timeout(abandon_at);
        assert_eq!(policy.outcome(), Some(PolicyOutcome::Abandoned));
        assert_eq!(policy.poll_timeout(), None);
    }

    #[test]
    fn a_second_interrupt_kills_at_once_and_a_second_terminate_does_not() {
        let mut policy = running(1);
        policy.handle_stop(Mono(0), StopSignal::Interrupt);
        let _ = drain(&mut policy);
        policy.handle_stop(Mono(1), StopSignal::Terminate);
        assert_eq!(drain(&mut policy), []);
        policy.handle_stop(Mono(2), StopSignal::Interrupt);
        assert_eq!(drain(&mut policy), [Action::Kill(0)]);
        policy.handle_stop(Mono(3), StopSignal::Interrupt);
        assert_eq!(drain(&mut policy), [], "once is enough");
        let _ = policy.handle_exit(Mono(4), 0, None);
        assert_eq!(policy.outcome(), Some(PolicyOutcome::Stopped));
    }

    #[test]
    fn a_child_waiting_for_its_restart_is_not_started_after_a_stop() {
        let mut policy = running(1);
        let _ = policy.handle_exit(Mono(0), 0, None);
        policy.handle_stop(Mono(1), StopSignal::Interrupt);
        policy.handle_timeout(Mono(1) + SECOND);
        assert_eq!(drain(&mut policy), []);
        assert_eq!(policy.outcome(), Some(PolicyOutcome::Stopped));
    }

    #[test]
    fn a_start_not_yet_fetched_is_taken_back_by_a_stop() {
        let mut policy = Policy::new(Mono(0), 2);
        assert_eq!(policy.poll_action(), Some(Action::Start(0)));
        policy.handle_stop(Mono(0), StopSignal::Interrupt);
        assert_eq!(drain(&mut policy), [Action::Terminate(0)]);
        let _ = policy.handle_exit(Mono(1), 0, None);
        assert_eq!(policy.outcome(), Some(PolicyOutcome::Stopped));
    }

    #[test]
    fn an_unknown_child_is_harmless() {
        let mut policy = running(1);
        assert_eq!(policy.handle_exit(Mono(0), 9, Some(5)), Decision::Expected);
        assert!(!policy.is_stopping());
    }
}
