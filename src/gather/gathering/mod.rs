//! One query under way: whose it is, how its deadline is divided, and its parts with their attempts. Not
//! here: what moves it, which is the machine's.
//!
//! Invariant: an attempt is reached by its [`AttemptId`] alone, and only a gathering makes one. So no
//! number of a part is ever taken for one of an attempt, or for one of another query.
//!
//! Invariant: `open_parts` is the number of parts that are not done, and `frames` that of the frames that
//! all attempts hold.

mod attempt;
mod part;
mod rows;

use std::time::Duration;

use super::GatherId;
use super::plan::LeafId;
use super::request::RequestId;
use crate::limits::{GATHER_DEADLINE_US_MAX, GATHER_FRAMES_MAX};
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{Ended, Frame, NodeStatus, Query, Refusal, U32};

pub(super) use attempt::{Attempt, AttemptKind, NewAttempt};
pub(super) use part::{Outcome, Part, Untried};
pub(super) use rows::{BAR_FRAMES, RowKind};

use part::AttemptIndex;

/// A query as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientQuery {
    pub(super) client: u64,
    pub(super) id: u32,
}

/// A part of its gathering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PartIndex(usize);

/// A part of one gathering among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartId {
    gather: GatherId,
    index: PartIndex,
}

impl PartId {
    pub(super) fn gather(self) -> GatherId {
        self.gather
    }
}

/// An attempt of one part of one gathering among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttemptId {
    part: PartId,
    index: AttemptIndex,
}

impl AttemptId {
    pub(super) fn part(self) -> PartId {
        self.part
    }

    pub(super) fn gather(self) -> GatherId {
        self.part.gather
    }
}

/// What became of rows that came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowsTaken {
    All,
    /// One does not belong into an answer to the question.
    Unexpected,
    /// One is beyond a limit; so many stand behind it.
    OverLimit {
        text: &'static str,
        rest: usize,
    },
}

/// An attempt that another one has beaten: the part ended while it was open.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostRace {
    pub(super) leaf: LeafId,
    pub(super) request: RequestId,
    pub(super) rows: RowKind,
    pub(super) begun: Mono,
    /// Whether that shows that the leaf is slow: it was not asked later than the winner, and waited for no
    /// cut.
    pub(super) is_slow: bool,
}

impl LostRace {
    fn of(attempt: &Attempt, rows: RowKind) -> LostRace {
        LostRace {
            leaf: attempt.leaf(),
            request: attempt.request(),
            rows,
            begun: attempt.begun(),
            is_slow: !attempt.kind().is_beside() && !attempt.is_ahead(),
        }
    }
}

/// What came of the end of a part.
#[derive(Debug)]
pub(super) struct PartCompleted {
    pub(super) lost: Vec<LostRace>,
    /// Whether a hedge brought the answer.
    pub(super) is_won_by_hedge: bool,
    /// Whether no part of the query is open any more.
    pub(super) is_last: bool,
}

/// One query under way.
#[derive(Debug)]
pub(super) struct Gathering {
    id: GatherId,
    client: u64,
    query: Query,
    is_list: bool,
    is_spread: bool,
    begun: Mono,
    deadlines: Deadlines,
    parts: Vec<Part>,
    open_parts: usize,
    frames: usize,
}

impl Gathering {
    pub(super) fn new(
        id: GatherId,
        client: u64,
        question: &Question,
        parts: Vec<Part>,
        now: Mono,
    ) -> Gathering {
        Gathering {
            id,
            client,
            query: question.query,
            is_list: question.symbol().is_none(),
            is_spread: question.symbol().is_some() && parts.iter().any(Part::is_asked_for_a_list),
            begun: now,
            deadlines: Deadlines::new(now, question.query.deadline_us.get()),
            open_parts: parts.iter().filter(|part| !part.is_done()).count(),
            parts,
            frames: 0,
        }
    }

    // ---- what happens to it ----

    pub(super) fn begin_attempt(&mut self, id: PartId, start: NewAttempt) -> Option<AttemptId> {
        let index = self.part_mut(id)?.begin_attempt(start);
        Some(AttemptId { part: id, index })
    }

    /// Takes rows of an attempt, up to the first one that does not fit. All gatherings together have room
    /// for so many more.
    pub(super) fn take_rows(
        &mut self,
        id: AttemptId,
        frames: &[Frame],
        room: usize,
    ) -> Option<RowsTaken> {
        debug_assert_eq!(id.part.gather, self.id, "an attempt of this gathering");
        let part = self.parts.get_mut(id.part.index.0)?;
        let attempt = part.open_attempt_mut(id.index)?;
        for (frame, count) in frames.iter().zip(1..) {
            if !attempt.take_row(frame) {
                return Some(RowsTaken::Unexpected);
            }
            self.frames += 1;
            let text = if self.frames > GATHER_FRAMES_MAX {
                "more rows than the aggregator may answer"
            } else if count > room {
                "all queries together hold too many rows"
            } else {
                continue;
            };
            return Some(RowsTaken::OverLimit { text, rest: frames.len() - count });
        }
        Some(RowsTaken::All)
    }

    /// Takes the end frame of an attempt. Returns the status with which to end the attempt, `None` when the
    /// frame does not fit.
    pub(super) fn take_end(
        &mut self,
        id: AttemptId,
        end: &Ended,
        behind_max: Option<Duration>,
    ) -> Option<(&Attempt, RowKind, Option<NodeStatus>)> {
        let part = self.part_mut(id.part)?;
        let behind_max = behind_max.filter(|_| part.wants_newest());
        let rows = part.rows();
        let mut end = *end;
        if part.is_cut_old() && behind_max.is_some_and(|limit| !end.is_behind(limit)) {
            // The node has all now. As of this cut its answer has not.
            end.behind_ms = U32::new(Ended::BEHIND_UNKNOWN);
        }
        let attempt = part.open_attempt_mut(id.index)?;
        let status = attempt.take_end(&end, behind_max);
        Some((attempt, rows, status))
    }

    /// Takes the reason why a leaf does not answer. The caller ends the attempt.
    pub(super) fn take_refusal(
        &mut self,
        id: AttemptId,
        refusal: &Refusal,
    ) -> Option<(&Attempt, RowKind)> {
        let part = self.part_mut(id.part)?;
        let rows = part.rows();
        let attempt = part.open_attempt_mut(id.index)?;
        attempt.take_refusal(refusal);
        Some((attempt, rows))
    }

    /// Ends an open attempt; `None` when it is over. The caller then completes the part or asks another copy.
    pub(super) fn end_attempt(
        &mut self,
        id: AttemptId,
        status: NodeStatus,
        now: Mono,
    ) -> Option<()> {
        let dropped = self.part_mut(id.part)?.end_attempt(id.index, status, now)?;
        self.frames -= dropped;
        Some(())
    }

    /// Ends an open part with the answer that it has, if any, and every attempt that is still open.
    pub(super) fn complete_part(&mut self, id: PartId, now: Mono) -> Option<PartCompleted> {
        let part = self.parts.get_mut(id.index.0).filter(|part| !part.is_done())?;
        let mut lost = Vec::new();
        self.frames -= part.complete(now, &mut lost);
        self.open_parts -= 1;
        let is_hedge = |attempt: &Attempt| attempt.kind() == AttemptKind::Hedge;
        Some(PartCompleted {
            lost,
            is_won_by_hedge: part.chosen().is_some_and(is_hedge),
            is_last: self.open_parts == 0,
        })
    }

    /// Sets or takes away the time at which a part is looked at again; returns the one before.
    pub(super) fn replace_hedge_timer(&mut self, id: PartId, at: Option<Mono>) -> Option<Mono> {
        self.part_mut(id)?.replace_hedge_timer(at)
    }

    /// A budget did not allow to ask another copy of a part. Whether that is so for the first time.
    pub(super) fn note_hedge_denied(&mut self, id: PartId) -> bool {
        self.part_mut(id).is_some_and(Part::note_hedge_denied)
    }

    /// Nobody can be asked for a part now.
    pub(super) fn note_nobody_free(&mut self, id: PartId) {
        if let Some(part) = self.part_mut(id) {
            part.note_nobody_free();
        }
    }

    fn part_mut(&mut self, id: PartId) -> Option<&mut Part> {
        debug_assert_eq!(id.gather, self.id, "a part of this gathering");
        self.parts.get_mut(id.index.0)
    }

    // ---- what it is ----

    pub(super) fn id(&self) -> GatherId {
        self.id
    }

    pub(super) fn client_query(&self) -> ClientQuery {
        ClientQuery { client: self.client, id: self.query.id.get() }
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// Whether it may be about more than one part's instruments: each is whole in one part.
    pub(super) fn is_list(&self) -> bool {
        self.is_list || self.is_spread
    }

    /// Whether it is about one name, which several parts may have: each was asked for a list of what it has of it.
    pub(super) fn is_spread(&self) -> bool {
        self.is_spread
    }

    pub(super) fn begun(&self) -> Mono {
        self.begun
    }

    /// When the time of the leaves is over.
    pub(super) fn leaves_due(&self) -> Mono {
        self.deadlines.leaves
    }

    /// When the answer is made with what there is.
    pub(super) fn due(&self) -> Mono {
        self.deadlines.answer
    }

    /// In the order of the plan.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn part(&self, id: PartId) -> Option<&Part> {
        debug_assert_eq!(id.gather, self.id, "a part of this gathering");
        self.parts.get(id.index.0)
    }

    /// All parts in the order of the plan. They are no borrow: the gathering may end meanwhile.
    pub(super) fn part_ids(&self) -> impl Iterator<Item = PartId> + Clone + use<> {
        let gather = self.id;
        (0..self.parts.len()).map(move |index| PartId { gather, index: PartIndex(index) })
    }

    pub(super) fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.part(id.part)?.attempt(id.index)
    }

    /// Attempts that are waited for, in the order of the parts.
    pub(super) fn open_attempts(&self) -> impl Iterator<Item = (AttemptId, &Part, &Attempt)> {
        self.part_ids().zip(&self.parts).flat_map(|(id, part)| {
            let open = part.attempts().filter(|(_, attempt)| attempt.is_open());
            open.map(move |(index, attempt)| (AttemptId { part: id, index }, part, attempt))
        })
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_done(&self) -> bool {
        self.open_parts == 0
    }

    /// Frames that all attempts hold.
    pub(super) fn frames(&self) -> usize {
        debug_assert_eq!(self.frames, self.parts.iter().map(Part::frames_held).sum::<usize>());
        self.frames
    }
}

/// The deadline of a query divided: until when leaves may answer, and when the answer is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) leaves: Mono,
    pub(super) answer: Mono,
}

impl Deadlines {
    /// The leaves get all but a margin of a tenth, at least 2 ms, at most half: time to come back. The
    /// answer is made when half of the margin is left: time to go out, and for a timer that rounds up
    /// to 1 ms.
    pub(super) fn new(begun: Mono, deadline_us: u32) -> Deadlines {
        let all = deadline_us.min(GATHER_DEADLINE_US_MAX);
        let margin = (all / 10).max(2_000).min(all / 2);
        let after = |us: u32| begun + Duration::from_micros(u64::from(us));
        Deadlines { leaves: after(all - margin), answer: after(all - margin / 2) }
    }
}

/// Whole microseconds, saturated.
pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
