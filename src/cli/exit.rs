//! How a command ends: exit codes, and the one line that explains a failure.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes. Scripts and the supervisor depend on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for.
    Complete = 0,
    /// The flags or the configuration are wrong; the same again will fail again.
    Usage = 2,
    /// Some of it, and what is missing was said.
    Partial = 3,
    /// Nothing of it, for now.
    Failed = 4,
    /// A node cannot start: busy port, locked or read-only directory, damaged tape. The supervisor
    /// does not retry this at first.
    CannotStart = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Who read our output left: nothing to print, and nobody to read it.
    ClosedPipe,
    /// One line that says what to do.
    Explained {
        /// The code to end with.
        exit: Exit,
        /// The line.
        message: String,
    },
}

impl Failure {
    /// Wrong flags or configuration.
    pub fn usage(problem: impl fmt::Display) -> Failure {
        Failure::explained(Exit::Usage, problem)
    }

    /// It did not work.
    pub fn failed(problem: impl fmt::Display) -> Failure {
        Failure::explained(Exit::Failed, problem)
    }

    /// A node or the supervisor cannot start.
    pub fn cannot_start(problem: impl fmt::Display) -> Failure {
        Failure::explained(Exit::CannotStart, problem)
    }

    fn explained(exit: Exit, problem: impl fmt::Display) -> Failure {
        // One line, whatever a library's message looks like.
        let message = problem.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Failure::Explained { exit, message }
    }

    /// A failed write to standard output.
    #[must_use]
    pub fn of_output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Failure::ClosedPipe => Exit::Complete,
            Failure::Explained { exit, .. } => *exit,
        }
    }

    /// The line to print, if there is anything to say.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::ClosedPipe => None,
            Failure::Explained { message, .. } => Some(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let failure = Failure::of_output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit(), failure.message()), (Exit::Complete, None));
        let failure = Failure::of_output(&io::ErrorKind::StorageFull.into());
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn every_message_is_one_line() {
        assert_eq!(Failure::usage("a\n  b\r\n\nc").message(), Some("a b c"));
    }
}
