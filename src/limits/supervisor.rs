//! Bounds of the child processes of `pregao all`.

use std::time::Duration;

/// First restart of a child waits this long; each further one twice as long.
pub const RESTART_WAIT_MIN: Duration = Duration::from_millis(200);
/// No restart waits longer.
pub const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);
/// A child that lived this long starts over at [`RESTART_WAIT_MIN`].
pub const RESTART_RESET_AFTER: Duration = Duration::from_secs(10);
/// Time that children have to stop by themselves.
pub const STOP_WAIT: Duration = Duration::from_secs(5);
/// Time that the kernel has to end children after SIGKILL. One that still stands is left behind.
pub const KILL_WAIT: Duration = Duration::from_secs(2);
/// How long `pregao stop` waits: the supervisor's own two waits and some.
pub const STOP_COMMAND_WAIT: Duration = Duration::from_secs(10);
/// Longest line taken from a child; the rest of the line is cut.
pub const CHILD_LINE_BYTES_MAX: usize = 4096;
/// Lines of children that wait for a slow terminal; more are counted and dropped.
pub const CHILD_LINES_QUEUED_MAX: usize = 4096;

const _: () = {
    assert!(STOP_COMMAND_WAIT.as_millis() > STOP_WAIT.as_millis() + KILL_WAIT.as_millis());
    assert!(RESTART_WAIT_MIN.as_millis() <= RESTART_WAIT_MAX.as_millis());
};
