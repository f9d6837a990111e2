//! One consumer's session: how far it has been served, and the answers that are held back.

use crate::limits;
use crate::time::Mono;
use crate::wire::Session;

/// The answers that a consumer will get.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// The session stands.
    Session(Session),
    /// It does not.
    NoSession,
    /// To a heartbeat.
    Heartbeat { token: u32 },
    /// The cursor goes to where it is wanted.
    Resume { id: u32, next_seq: u64 },
    /// Not this time.
    No { id: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerState {
    /// Its session has not been answered.
    Waiting,
    /// The definitions before this position have been sent.
    Snapshot {
        position: usize,
    },
    Live,
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(super) state: ConsumerState,
    /// The next `seq` to send.
    pub(super) cursor: u64,
    /// It was told that nothing comes behind what it has.
    pub(super) knows_end: bool,
    /// Invariant: each due time stands in the node's timers.
    delayed: Vec<(Mono, Answer)>,
}

impl Default for Consumer {
    fn default() -> Consumer {
        Consumer { state: ConsumerState::Waiting, cursor: 0, knows_end: false, delayed: Vec::new() }
    }
}

impl Consumer {
    pub(super) fn is_waiting(&self) -> bool {
        self.state == ConsumerState::Waiting
    }

    /// Whether an answer has to be held back at `now`, and until when; none when it may go out.
    ///
    /// Nothing overtakes the answer to the session.
    pub(super) fn delay_until(&self, now: Mono, due: Mono) -> Option<Mono> {
        let session = self.delayed.first().filter(|_| self.is_waiting()).map(|&(due, _)| due);
        let due = session.map_or(due, |session| session.max(due));
        (due > now || session.is_some()).then_some(due)
    }

    /// Holds an answer back, unless too many are.
    pub(super) fn delay(&mut self, due: Mono, answer: Answer) -> bool {
        let has_room = self.delayed.len() < limits::EXCHANGE_ANSWERS_PENDING_MAX;
        if has_room {
            self.delayed.push((due, answer));
        }
        has_room
    }

    /// The next answer that is due, in the order of the questions.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<Answer> {
        let position = self.delayed.iter().position(|&(due, _)| due <= now)?;
        Some(self.delayed.remove(position).1)
    }

    /// When the answers held back are due.
    pub(super) fn dues(&self) -> impl Iterator<Item = Mono> {
        self.delayed.iter().map(|&(due, _)| due)
    }
}
