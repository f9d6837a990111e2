//! One client of the aggregator: which of its queries are open, and the finished answers that it has
//! not taken yet. Its outbox is filled from them a piece at a time, so an answer may be larger than an
//! outbox.

use std::collections::{BTreeSet, VecDeque};

use crate::gather::Answer;
use crate::limits;
use crate::node::session::{Principal, Rejection, Shares};
use crate::wire::{ErrorCode, Frame, Kind, Refusal, Run, U32};

/// A finished answer on its way out.
#[derive(Debug)]
struct QueuedAnswer {
    id: u32,
    frames: Vec<Frame>,
    next: usize,
}

/// A connection that asks.
#[derive(Debug)]
pub(crate) struct Client {
    principal: Principal,
    /// Of `open`, those about a cut that the nodes have not shown. In most clients there is none.
    ahead: BTreeSet<u32>,
    /// What [`ClientPlaces`] has counted.
    counted: (usize, usize),
    /// From the query to the moment when the last frame of its answer goes into the outbox.
    open: BTreeSet<u32>,
    answers: VecDeque<QueuedAnswer>,
    /// Frames in `answers` that have not been taken.
    frames: usize,
}

/// The places of all clients' queries. Those about a cut that the nodes have not shown may wait for long, and count
/// apart too.
#[derive(Debug)]
pub(super) struct ClientPlaces {
    open: Shares,
    ahead: Shares,
}

impl Default for ClientPlaces {
    fn default() -> ClientPlaces {
        ClientPlaces {
            open: Shares::new("queries", limits::GATHERS_MAX),
            ahead: Shares::new("waiting queries", limits::GATHERS_AHEAD_MAX),
        }
    }
}

impl Client {
    pub(super) fn new(principal: Principal) -> Client {
        Client {
            principal,
            ahead: BTreeSet::new(),
            counted: (0, 0),
            open: BTreeSet::new(),
            answers: VecDeque::new(),
            frames: 0,
        }
    }

    /// Whether it may ask one query more.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(&self, is_ahead: bool, places: &ClientPlaces) -> Result<(), Rejection> {
        let (open, ahead) = self.counted;
        places.open.check(self.principal, open)?;
        if is_ahead { places.ahead.check(self.principal, ahead) } else { Ok(()) }
    }

    /// Counts what has changed.
    pub(super) fn settle(&mut self, places: &mut ClientPlaces) {
        let (before, after) = (self.counted, (self.open.len(), self.ahead.len()));
        places.open.change(self.principal, before.0, after.0);
        places.ahead.change(self.principal, before.1, after.1);
        self.counted = after;
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, places: &mut ClientPlaces) {
        self.open.clear();
        self.ahead.clear();
        self.settle(places);
    }

    /// Queries in flight, finished ones included whose answers still wait.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn has_open(&self, id: u32) -> bool {
        self.open.contains(&id)
    }

    pub(super) fn begin(&mut self, id: u32, is_ahead: bool, places: &mut ClientPlaces) {
        self.open.insert(id);
        if is_ahead {
            self.ahead.insert(id);
        }
        self.settle(places);
    }

    /// Frames that wait.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Takes a finished answer in. `all_frames` wait for all clients together; when there is no room
    /// the client gets a refusal in the answer's place, and `false` comes back.
    pub(super) fn push(&mut self, answer: Answer, all_frames: usize) -> bool {
        let id = answer.client_query_id;
        // It waits for nothing but its reader now.
        self.ahead.remove(&id);
        let count = answer.frames.len();
        let fits = self.frames.saturating_add(count) <= limits::ANSWER_FRAMES_PER_CLIENT_MAX
            && all_frames.saturating_add(count) <= limits::ANSWER_FRAMES_TOTAL_MAX;
        let frames = if fits {
            answer.frames
        } else {
            let text = "too many answers wait to be read";
            vec![Frame::seal(Refusal::new(ErrorCode::Limit, id, text))]
        };
        self.frames += frames.len();
        self.answers.push_back(QueuedAnswer { id, frames, next: 0 });
        fits
    }

    /// Forgets a query, with what is left of its answer.
    pub(super) fn stop(&mut self, id: u32) {
        self.open.remove(&id);
        self.ahead.remove(&id);
        let mut frames = self.frames;
        self.answers.retain(|answer| {
            if answer.id == id {
                frames -= answer.frames.len() - answer.next;
            }
            answer.id != id
        });
        self.frames = frames;
    }

    /// Moves the next piece of what waits to the end of `out`.
    pub(super) fn fill(&mut self, out: &mut Vec<Frame>) {
        while out.len() < limits::FILL_FRAMES_MAX {
            let Some(answer) = self.answers.front_mut() else { return };
            let rest = answer.frames.get(answer.next..).unwrap_or_default();
            let is_row = rest.first().and_then(Frame::kind).is_some_and(Kind::is_data);
            if is_row {
                // Another frame may have gone out between this piece and the one before, and a
                // control frame ends a run.
                out.push(Frame::seal(Run { id: U32::new(answer.id), ..Run::default() }));
            }
            let count = rest.len().min(limits::FILL_FRAMES_MAX.saturating_sub(out.len()).max(1));
            out.extend_from_slice(&rest[..count]);
            answer.next += count;
            self.frames -= count;
            if answer.next == answer.frames.len() {
                let id = answer.id;
                self.answers.pop_front();
                self.open.remove(&id);
            }
        }
    }
}
