//! All queries under way, and where each of them is found again: by the query of its client, by an open
//! request, by its deadline, by the time at which a part is looked at again. Not here: what is done then.
//!
//! Invariant: a request is in the table exactly as long as its attempt is open, and a timer exactly as long
//! as its part has one. Nobody else changes a gathering, so the tables cannot disagree with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gathering::{
    Attempt, AttemptId, ClientQuery, Gathering, NewAttempt, Part, PartCompleted, PartId, RowKind,
    RowsTaken,
};
use super::request::RequestId;
use super::{GatherId, LeafId};
use crate::limits::GATHER_FRAMES_TOTAL_MAX;
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{Ended, Frame, NodeStatus, Refusal};

/// The gatherings, and what they hold together.
///
/// Invariant: `frames` is the sum of the frames that all of them hold.
#[derive(Debug, Default)]
struct Gatherings {
    all: BTreeMap<GatherId, Box<Gathering>>,
    frames: usize,
}

impl Gatherings {
    /// Does something to a gathering that may change how many frames it holds.
    fn change<T>(
        &mut self,
        id: GatherId,
        change: impl FnOnce(&mut Gathering) -> Option<T>,
    ) -> Option<(T, &Gathering)> {
        let gathering = self.all.get_mut(&id)?;
        let before = gathering.frames();
        let result = change(gathering);
        self.frames = self.frames - before + gathering.frames();
        Some((result?, gathering))
    }

    fn remove(&mut self, id: GatherId) -> Option<Box<Gathering>> {
        let gathering = self.all.remove(&id)?;
        self.frames -= gathering.frames();
        Some(gathering)
    }
}

/// The queries under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    next_id: u64,
    gatherings: Gatherings,
    by_client_query: BTreeMap<ClientQuery, GatherId>,
    by_request: BTreeMap<RequestId, AttemptId>,
    by_due: BTreeSet<(Mono, GatherId)>,
    by_hedge: BTreeSet<(Mono, PartId)>,
}

impl InFlight {
    // ---- what happens to a gathering ----

    /// Begins a query whose parts have been planned.
    pub(super) fn insert(
        &mut self,
        client: u64,
        question: &Question,
        parts: Vec<Part>,
        now: Mono,
    ) -> &Gathering {
        let id = GatherId(self.next_id);
        self.next_id += 1;
        let gathering = Box::new(Gathering::new(id, client, question, parts, now));
        self.by_client_query.insert(gathering.client_query(), id);
        self.by_due.insert((gathering.due(), id));
        self.gatherings.all.entry(id).or_insert(gathering)
    }

    /// Removes a gathering from every table. Attempts of it may be open still.
    pub(super) fn remove(&mut self, id: GatherId) -> Option<Box<Gathering>> {
        let mut gathering = self.gatherings.remove(id)?;
        for part in gathering.part_ids() {
            if let Some(at) = gathering.replace_hedge_timer(part, None) {
                self.by_hedge.remove(&(at, part));
            }
        }
        for (_, _, attempt) in gathering.open_attempts() {
            self.by_request.remove(&attempt.request());
        }
        self.by_client_query.remove(&gathering.client_query());
        self.by_due.remove(&(gathering.due(), id));
        Some(gathering)
    }

    /// Begins an attempt, whose request is open from now on.
    pub(super) fn begin_attempt(&mut self, id: PartId, start: NewAttempt) -> Option<&Part> {
        let gathering = self.gatherings.all.get_mut(&id.gather())?;
        let attempt = gathering.begin_attempt(id, start)?;
        self.by_request.insert(start.request, attempt);
        gathering.part(id)
    }

    /// As [`Gathering::take_rows`].
    pub(super) fn take_rows(&mut self, id: AttemptId, frames: &[Frame]) -> Option<RowsTaken> {
        let room = GATHER_FRAMES_TOTAL_MAX.saturating_sub(self.gatherings.frames);
        let take = |gathering: &mut Gathering| gathering.take_rows(id, frames, room);
        self.gatherings.change(id.gather(), take).map(|(taken, _)| taken)
    }

    /// As [`Gathering::take_end`].
    pub(super) fn take_end(
        &mut self,
        id: AttemptId,
        end: &Ended,
        behind_max: Option<Duration>,
    ) -> Option<(&Attempt, RowKind, Option<NodeStatus>)> {
        self.gatherings.all.get_mut(&id.gather())?.take_end(id, end, behind_max)
    }

    /// As [`Gathering::take_refusal`].
    pub(super) fn take_refusal(
        &mut self,
        id: AttemptId,
        refusal: &Refusal,
    ) -> Option<(&Attempt, RowKind)> {
        self.gatherings.all.get_mut(&id.gather())?.take_refusal(id, refusal)
    }

    /// Ends an attempt and its request, and returns what they were; `None` when they are over.
    pub(super) fn end_attempt(
        &mut self,
        id: AttemptId,
        status: NodeStatus,
        now: Mono,
    ) -> Option<(&Part, &Attempt)> {
        let end = |gathering: &mut Gathering| gathering.end_attempt(id, status, now);
        let ((), gathering) = self.gatherings.change(id.gather(), end)?;
        let attempt = gathering.attempt(id)?;
        self.by_request.remove(&attempt.request());
        Some((gathering.part(id.part())?, attempt))
    }

    /// Ends a part with its timer and the requests that are still open; `None` when it is over.
    pub(super) fn complete_part(&mut self, id: PartId, now: Mono) -> Option<PartCompleted> {
        let complete = |gathering: &mut Gathering| {
            let completed = gathering.complete_part(id, now)?;
            Some((completed, gathering.replace_hedge_timer(id, None)))
        };
        let ((completed, timer), _) = self.gatherings.change(id.gather(), complete)?;
        if let Some(at) = timer {
            self.by_hedge.remove(&(at, id));
        }
        for lost in &completed.lost {
            self.by_request.remove(&lost.request);
        }
        Some(completed)
    }

    /// Has a part looked at again then, or takes that back.
    pub(super) fn set_hedge_timer(&mut self, id: PartId, at: Option<Mono>) {
        let Some(gathering) = self.gatherings.all.get_mut(&id.gather()) else { return };
        if let Some(before) = gathering.replace_hedge_timer(id, at) {
            self.by_hedge.remove(&(before, id));
        }
        if let Some(at) = at {
            self.by_hedge.insert((at, id));
        }
    }

    /// As [`Gathering::note_hedge_denied`].
    pub(super) fn note_hedge_denied(&mut self, id: PartId) -> bool {
        let gathering = self.gatherings.all.get_mut(&id.gather());
        gathering.is_some_and(|it| it.note_hedge_denied(id))
    }

    /// As [`Gathering::note_nobody_free`].
    pub(super) fn note_nobody_free(&mut self, id: PartId) {
        if let Some(gathering) = self.gatherings.all.get_mut(&id.gather()) {
            gathering.note_nobody_free(id);
        }
    }

    /// Takes out the first deadline that is over, and returns whose it was.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<GatherId> {
        let (_, id) = self.by_due.first().copied().filter(|(due, _)| *due <= now)?;
        self.by_due.pop_first();
        Some(id)
    }

    /// Takes out the first timer of a part that has expired, and returns whose it was.
    pub(super) fn pop_hedge(&mut self, now: Mono) -> Option<PartId> {
        let (_, id) = self.by_hedge.first().copied().filter(|(at, _)| *at <= now)?;
        self.by_hedge.pop_first();
        self.set_hedge_timer(id, None);
        Some(id)
    }

    // ---- where things are found ----

    pub(super) fn gathering(&self, id: GatherId) -> Option<&Gathering> {
        self.gatherings.all.get(&id).map(|gathering| &**gathering)
    }

    /// A part with its gathering.
    pub(super) fn part(&self, id: PartId) -> Option<(&Gathering, &Part)> {
        let gathering = self.gathering(id.gather())?;
        Some((gathering, gathering.part(id)?))
    }

    pub(super) fn of_client_query(&self, query: ClientQuery) -> Option<GatherId> {
        self.by_client_query.get(&query).copied()
    }

    /// The numbers of the queries of a client.
    pub(super) fn queries_of(&self, client: u64) -> Vec<u32> {
        let query = |id| ClientQuery { client, id };
        self.by_client_query.range(query(0)..=query(u32::MAX)).map(|(query, _)| query.id).collect()
    }

    pub(super) fn is_open(&self, request: RequestId) -> bool {
        self.by_request.contains_key(&request)
    }

    /// The part for which a request is open, at whatever leaf.
    pub(super) fn part_of(&self, request: RequestId) -> Option<&Part> {
        let attempt = *self.by_request.get(&request)?;
        self.gathering(attempt.gather())?.part(attempt.part())
    }

    /// The open attempt of a request at a leaf.
    pub(super) fn attempt_of(&self, leaf: LeafId, request: RequestId) -> Option<AttemptId> {
        let id = *self.by_request.get(&request)?;
        let attempt = self.gathering(id.gather())?.attempt(id)?;
        (attempt.leaf() == leaf).then_some(id)
    }

    /// The open attempts at leaves of which this is so, by request.
    pub(super) fn open_attempts_at(&self, is_meant: impl Fn(LeafId) -> bool) -> Vec<AttemptId> {
        let is_there = |id: &&AttemptId| {
            let attempt = self.gathering(id.gather()).and_then(|it| it.attempt(**id));
            attempt.is_some_and(|attempt| is_meant(attempt.leaf()))
        };
        self.by_request.values().filter(is_there).copied().collect()
    }

    /// When the next answer is due.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// When a part is looked at next.
    pub(super) fn next_hedge(&self) -> Option<Mono> {
        self.by_hedge.first().map(|(at, _)| *at)
    }

    /// Queries under way.
    pub(super) fn len(&self) -> usize {
        self.gatherings.all.len()
    }

    /// Requests that are open, without probes.
    pub(super) fn requests(&self) -> usize {
        self.by_request.len()
    }
}

#[cfg(test)]
impl InFlight {
    /// Frames that are held.
    pub(super) fn frames(&self) -> usize {
        self.gatherings.frames
    }

    /// As if others held so many.
    pub(super) fn assume_frames(&mut self, frames: usize) {
        self.gatherings.frames = frames;
    }

    /// Whether no query, request or timer is left.
    pub(super) fn is_empty(&self) -> bool {
        self.gatherings.all.is_empty()
            && self.by_client_query.is_empty()
            && self.by_request.is_empty()
            && self.by_due.is_empty()
            && self.by_hedge.is_empty()
    }
}
