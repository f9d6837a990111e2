//! A child's side: it dies with its supervisor.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Why a child should not go on.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It is already gone.
    #[error("the supervisor (pid {0}) is gone")]
    Gone(u32),
    /// The kernel refused.
    #[error("cannot bind this process to its supervisor: {0}")]
    Refused(std::io::Error),
}

/// Lets the kernel end this process when its parent ends. To be called first thing, on the main
/// thread, since the kernel keeps the wish per thread.
///
/// The signal is SIGTERM, which nodes obey within a turn: they still close their logs cleanly, and
/// a supervisor that was killed then costs no new epoch at the next start.
///
/// # Errors
/// When the parent is no longer the supervisor with this process id.
pub fn die_with_parent(supervisor: u32) -> Result<(), ParentError> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| ParentError::Refused(errno.into()))?;
    // The parent may have ended before the line above; then no signal will ever come.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent == Some(supervisor) { Ok(()) } else { Err(ParentError::Gone(supervisor)) }
}
