//! What a log has to say to whoever runs its node: what it removed, what it waits for, what it does not believe.
//!
//! A log writes no log lines. Its node takes these and does.

use std::collections::VecDeque;
use std::fmt;

use super::backend::StorageError;
use crate::limits::LOG_NOTICES_MAX;
use crate::time::ClockChange;

/// Why a segment was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// It was left so many seconds ago, longer than it was to be kept.
    Age {
        /// Since it was left.
        seconds: u64,
        /// What the retention says.
        seconds_max: u64,
    },
    /// All files together had so many bytes, more than were to be kept.
    Bytes {
        /// Of all files.
        bytes: u64,
        /// What the retention says.
        bytes_max: u64,
    },
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The retention removes a segment.
    Removed {
        /// The segment's number.
        segment: u64,
        /// The seqs between its first record and the next segment's, first and last; `None` when rot hides them.
        seqs: Option<(u64, u64)>,
        /// Why.
        reason: RemovalReason,
    },
    /// A segment was to be removed and is still there.
    NotRemoved(StorageError),
    /// There is no next segment. It is asked for again and again.
    Waiting(StorageError),
    /// There is one again.
    GoesOn,
    /// The directory is not at its path any more: nothing is taken in.
    Displaced(StorageError),
    /// It is back.
    InPlace,
    /// The wall clock did something.
    Clock(ClockChange),
    /// So many notices were left out.
    LeftOut(u64),
}

impl Notice {
    /// Whether something is wrong, and not only worth knowing.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        match self {
            Notice::NotRemoved(_)
            | Notice::Waiting(_)
            | Notice::Displaced(_)
            | Notice::LeftOut(_) => true,
            Notice::Clock(change) => change.is_objection(),
            Notice::Removed { .. } | Notice::GoesOn | Notice::InPlace => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Removed { segment, seqs, reason } => {
                write!(f, "the retention removes segment {segment}, ")?;
                match seqs {
                    Some((first, last)) if first <= last => write!(f, "seq {first} to {last}: ")?,
                    Some(_) => f.write_str("no frames that still count: ")?,
                    None => f.write_str("whose first record is damaged: ")?,
                }
                match reason {
                    RemovalReason::Age { seconds, seconds_max } => {
                        write!(f, "it was left {seconds} s ago, and retain_age is {seconds_max} s")
                    }
                    RemovalReason::Bytes { bytes, bytes_max } => {
                        write!(f, "the log has {bytes} bytes, and retain_bytes is {bytes_max}")
                    }
                }
            }
            Notice::NotRemoved(error) => {
                write!(
                    f,
                    "the retention could not remove a segment: {error}; it is there again at the next start"
                )
            }
            Notice::Waiting(error) => {
                write!(f, "the log waits for its next segment and asks again every second: {error}")
            }
            Notice::GoesOn => f.write_str("the log has its next segment and goes on"),
            Notice::Displaced(error) => write!(f, "the log takes nothing in any more: {error}"),
            Notice::InPlace => f.write_str("the log's directory is at its path again: it goes on"),
            Notice::Clock(change) => change.fmt(f),
            Notice::LeftOut(count) => write!(f, "{count} more notices of the log are left out"),
        }
    }
}

/// The notices that nobody has taken yet.
///
/// Invariant: there are at most [`LOG_NOTICES_MAX`]; how many were left out is told behind them.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: VecDeque<Notice>,
    left_out: u64,
}

impl Notices {
    pub(super) fn push(&mut self, notice: Notice) {
        if self.queue.len() < LOG_NOTICES_MAX {
            self.queue.push_back(notice);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.queue.pop_front().or_else(|| {
            let left_out = std::mem::take(&mut self.left_out);
            (left_out > 0).then_some(Notice::LeftOut(left_out))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_bounded_and_what_is_left_out_is_counted() {
        let mut notices = Notices::default();
        for _ in 0..LOG_NOTICES_MAX + 3 {
            notices.push(Notice::GoesOn);
        }
        let taken: Vec<Notice> = std::iter::from_fn(|| notices.pop()).collect();
        assert_eq!(taken.len(), LOG_NOTICES_MAX + 1);
        assert_eq!(taken.last(), Some(&Notice::LeftOut(3)));
    }

    #[test]
    fn a_removal_says_what_is_gone_and_is_no_problem() {
        let removed = |seqs| {
            let reason = RemovalReason::Bytes { bytes: 9, bytes_max: 8 };
            Notice::Removed { segment: 4, seqs, reason }.to_string()
        };
        let why = "the log has 9 bytes, and retain_bytes is 8";
        let begin = "the retention removes segment 4, ";
        assert_eq!(removed(Some((5, 7))), format!("{begin}seq 5 to 7: {why}"));
        assert_eq!(removed(Some((5, 5))), format!("{begin}seq 5 to 5: {why}"));
        assert_eq!(removed(Some((5, 4))), format!("{begin}no frames that still count: {why}"));
        assert_eq!(removed(None), format!("{begin}whose first record is damaged: {why}"));
        let reason = RemovalReason::Bytes { bytes: 9, bytes_max: 8 };
        let quiet =
            [Notice::Removed { segment: 4, seqs: None, reason }, Notice::GoesOn, Notice::InPlace];
        assert!(!quiet.iter().any(Notice::is_problem));
        let gone = || StorageError::Gone;
        let problems = [
            Notice::NotRemoved(gone()),
            Notice::Waiting(gone()),
            Notice::Displaced(gone()),
            Notice::LeftOut(1),
        ];
        assert!(problems.iter().all(Notice::is_problem));
    }
}
