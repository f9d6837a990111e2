//! One client of the aggregator: which of its queries are open, and the finished answers that it has
//! not taken yet. Its outbox is filled from them a piece at a time, so an answer may be larger than an
//! outbox.

use std::collections::{BTreeSet, VecDeque};

use crate::gather::Answer;
use crate::limits;
use crate::wire::{ErrorCode, Frame, Kind, Refusal, Run, U32};

/// A finished answer on its way out.
#[derive(Debug)]
struct QueuedAnswer {
    id: u32,
    frames: Vec<Frame>,
    next: usize,
}

/// A connection that asks.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// From the query to the moment when the last frame of its answer goes into the outbox.
    open: BTreeSet<u32>,
    answers: VecDeque<QueuedAnswer>,
    /// Frames in `answers` that have not been taken.
    frames: usize,
}

impl Client {
    /// Queries in flight, finished ones included whose answers still wait.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn has_open(&self, id: u32) -> bool {
        self.open.contains(&id)
    }

    pub(super) fn begin(&mut self, id: u32) {
        self.open.insert(id);
    }

    /// Frames that wait.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Takes a finished answer in. `all_frames` wait for all clients together; when there is no room
    /// the client gets a refusal in the answer's place, and `false` comes back.
    pub(super) fn push(&mut self, answer: Answer, all_frames: usize) -> bool {
        let id = answer.client_query_id;
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
