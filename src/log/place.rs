//! Whether the log's directory is still where it was: asked of the storage now and then.
//!
//! # Decisions
//!
//! * **A log whose directory was deleted or moved takes nothing in and calls nothing durable.** What it stored
//!   then would be found by nobody. Its node goes on running: it answers from the files that it holds open, which
//!   may be the last way to the data (`/proc/PID/fd`). If it ended, its supervisor would start it again in an
//!   empty directory, and core would begin another sequence there. When the same directory is at its path again,
//!   the log goes on. A node that is stopped while its directory is away ends with exit code 4.

use super::Log;
use super::backend::{Storage, StorageError};
use super::config::{Health, Progress};
use super::notice::Notice;
use crate::limits::DIRECTORY_EXAMINED_EVERY;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};

/// When the directory is looked at next.
#[derive(Debug, Default)]
pub(super) struct Examination {
    /// `None` before the first turn.
    due: Option<Mono>,
    is_under_way: bool,
}

impl Examination {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.due.filter(|_| !self.is_under_way)
    }

    /// Whether it is time. Says so once.
    fn begin(&mut self, now: Mono) -> bool {
        let due = *self.due.get_or_insert(now + DIRECTORY_EXAMINED_EVERY);
        if self.is_under_way || now < due {
            return false;
        }
        self.due = Some(now + DIRECTORY_EXAMINED_EVERY);
        self.is_under_way = true;
        true
    }
}

impl<S: Storage> Log<S> {
    pub(super) fn examine_if_due(&mut self, now: Now) {
        let is_usable = !matches!(self.health, Health::Failed(_) | Health::Closed);
        if is_usable && self.examination.begin(now.mono) {
            self.storage.start_examine();
        }
    }

    pub(super) fn handle_examined(
        &mut self,
        found: Result<(), StorageError>,
        progress: &mut Progress,
    ) {
        self.examination.is_under_way = false;
        match (found, &self.health) {
            (_, Health::Failed(_) | Health::Closed) => {}
            (Err(error), Health::Displaced(known)) if error == *known => {}
            (Err(error), _) if !is_planted(Bug::WriteWhileDisplaced) => {
                self.notices.push(Notice::Displaced(error.clone()));
                self.health = Health::Displaced(error);
            }
            (Ok(()), Health::Displaced(_)) => {
                self.notices.push(Notice::InPlace);
                self.health = Health::Open;
                // Who was refused tries again.
                progress.room = true;
            }
            _ => {}
        }
    }
}
