//! One connection that writes lines.

use super::{Intake, Level};
use crate::limits;
use crate::market::lines::{LineFormat, LineOptions, Lines};
use crate::node::CloseReason;
use crate::time::Now;

/// Lines of the log about one connection's wrong lines.
const TOLD_MAX: u64 = 5;

/// A connection that writes lines.
#[derive(Debug)]
pub(super) struct LineConnection {
    lines: Lines,
    /// Whole lines that wait for room.
    held: Vec<u8>,
    /// How much of `held` was taken.
    taken: usize,
    /// What comes is the rest of a line that is longer than the bound.
    skips: bool,
    /// Answers about wrong lines.
    pub(super) outbox: Vec<u8>,
    wrong: u64,
}

impl LineConnection {
    pub(super) fn new(options: &LineOptions) -> LineConnection {
        let lines = Lines::new(LineFormat::Ilp, options.clone());
        let (held, outbox) = (Vec::new(), Vec::new());
        LineConnection { lines, held, taken: 0, skips: false, outbox, wrong: 0 }
    }

    /// Whether more may be read from it.
    pub(super) fn wants_bytes(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether lines wait for room.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the whole lines at the beginning of `bytes`. How many bytes they are.
    pub(super) fn take_bytes(&mut self, now: Now, intake: &mut Intake, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        if self.skips {
            let Some(at) = rest.iter().position(|byte| *byte == b'\n') else { return bytes.len() };
            (rest, self.skips) = (&rest[at + 1..], false);
        }
        let taken = bytes.len() - rest.len() + self.take_whole(now, intake, rest);
        if bytes.len() - taken < limits::LINE_BYTES_MAX {
            return taken;
        }
        // Nobody waits for the end of such a line.
        self.skips = true;
        let end = &bytes[taken..];
        let wrong = match self.lines.take(end) {
            Err(error) => error.to_string(),
            Ok(_) => {
                format!("line {}: longer than {} bytes", self.lines.line(), limits::LINE_BYTES_MAX)
            }
        };
        intake.counts.lines += 1;
        self.object(intake, &wrong);
        bytes.len()
    }

    /// The same of whole lines.
    fn take_whole(&mut self, now: Now, intake: &mut Intake, bytes: &[u8]) -> usize {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let taken = match self.is_waiting() {
            false => self.take_lines(now, intake, &bytes[..end]),
            true => 0,
        };
        self.held.extend_from_slice(&bytes[taken..end]);
        end
    }

    /// Takes lines that have waited for room.
    pub(super) fn take_held(&mut self, now: Now, intake: &mut Intake) {
        let held = std::mem::take(&mut self.held);
        let taken = self.take_lines(now, intake, &held[self.taken..]);
        self.taken += taken;
        if self.taken < held.len() {
            self.held = held;
        } else {
            self.taken = 0;
        }
    }

    /// Takes lines while there is room. How many bytes they are.
    fn take_lines(&mut self, now: Now, intake: &mut Intake, bytes: &[u8]) -> usize {
        // A line need not say a time: then it is the one at which it came.
        self.lines.set_time_ns(Some(now.wall_ns));
        let mut taken = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !intake.has_room() {
                break;
            }
            taken += line.len();
            intake.counts.lines += 1;
            let wrong = match self.lines.take(line) {
                Ok(Some(record)) => {
                    match intake.take(&record, self.lines.full_names().get(&record.symbol)) {
                        Ok(()) => continue,
                        Err(error) => format!("line {}: {error}", self.lines.line()),
                    }
                }
                Ok(None) => {
                    intake.counts.skipped += 1;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            self.object(intake, &wrong);
        }
        taken
    }

    fn object(&mut self, intake: &mut Intake, wrong: &str) {
        intake.counts.wrong += 1;
        self.wrong += 1;
        if self.wrong <= TOLD_MAX {
            intake.connections.log(Level::Warn, format!("a wrong line: {wrong}"));
        }
        let answer = format!("error: {wrong}\n");
        // Who does not read them does not want them.
        if self.outbox.len() + answer.len() <= limits::LINE_ANSWERS_BYTES_MAX {
            self.outbox.extend_from_slice(answer.as_bytes());
        }
    }

    /// It has ended. What is to be said of it.
    pub(super) fn end(&self, intake: &mut Intake, reason: CloseReason) {
        let line = self.lines.line();
        let text = match reason {
            CloseReason::MidMessage | CloseReason::TooLong => {
                format!("a connection ended inside of line {}, which is left out", line + 1)
            }
            CloseReason::Reset => {
                format!("a connection was reset behind line {line}: what came behind that is lost")
            }
            CloseReason::PeerClosed | CloseReason::Ours => String::new(),
        };
        if !text.is_empty() {
            intake.counts.torn += 1;
            intake.connections.log(Level::Warn, text);
        }
        if self.is_waiting() {
            let lines = self.held[self.taken..].iter().filter(|byte| **byte == b'\n').count();
            let text = format!("a connection ended, and lines of it had no room: {lines} are lost");
            intake.connections.log(Level::Error, text);
        }
        let untold = self.wrong.saturating_sub(TOLD_MAX);
        if untold > 0 {
            let text = format!("a connection ended; it had further wrong lines: {untold}");
            intake.connections.log(Level::Warn, text);
        }
        let skipped = self.lines.skipped().iter();
        for (what, count) in skipped {
            let text = format!("a connection ended; lines of kind {what} were left out: {count}");
            intake.connections.log(Level::Warn, text);
        }
        for (name, count) in self.lines.unread() {
            let text =
                format!("a connection ended; the name {name} means nothing here: {count} lines");
            intake.connections.log(Level::Warn, text);
        }
    }
}
