//! One part of a query: what is asked, the nodes that hold a copy of it, and what came of asking them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gathering::Why;
use super::{Availability, Candidate, LeafId, PartPlan};
use crate::question::Question;
use crate::time::Mono;
use crate::wire::{EndStatus, Ended, ErrorCode, Flags, Frame, Kind, NodeStatus, Op, Query};

/// What kind of rows a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// At most one quote for each instrument.
    Quote,
    /// Trades and cancels.
    Trades,
    /// Bars of three frames each.
    Bars,
    /// One COUNTED for each instrument.
    Counts,
    /// Definitions only.
    Instruments,
}

impl Role {
    pub(super) fn of(question: &Query) -> Option<Role> {
        match Op::from_number(question.op)? {
            Op::Quote => Some(Role::Quote),
            Op::Last | Op::Range => Some(Role::Trades),
            Op::Bars => Some(Role::Bars),
            Op::Count => Some(Role::Counts),
            Op::Instruments => Some(Role::Instruments),
            Op::Replay | Op::Status | Op::Stop | Op::Breaker => None,
        }
    }

    /// Whether an answer with holes would be a wrong figure, not a shorter list.
    pub(super) fn is_sum(self) -> bool {
        matches!(self, Role::Bars | Role::Counts)
    }
}

/// The frames of a bar, in order.
const BAR_KINDS: [Kind; 3] = [Kind::BarPrices, Kind::BarTotals, Kind::BarNotional];

/// Frames of one bar.
pub(super) const BAR_FRAMES: usize = BAR_KINDS.len();

/// What a word of the asker's may make room for ahead of the rows: a kibibyte.
const ROWS_EXPECTED_MAX: usize = 16;

/// A part of a query and everything that came of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) question: Question,
    pub(super) candidates: Vec<Candidate>,
    pub(super) is_pruned: bool,
    /// Whether nothing more is waited for.
    pub(super) is_done: bool,
    /// At most one for each candidate.
    pub(super) attempts: Vec<Attempt>,
    /// The attempt whose rows stand for the part.
    pub(super) chosen: Option<usize>,
    /// When it is looked whether another copy is asked as well.
    pub(super) hedge_at: Option<Mono>,
    /// A budget did not allow that.
    pub(super) is_denied: bool,
    /// Nobody was asked because of a limit of ours.
    pub(super) is_over_limit: bool,
}

/// A question put to one copy.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Index into the candidates.
    pub(super) place: usize,
    pub(super) leaf: LeafId,
    pub(super) query_id: u32,
    pub(super) asked: Mono,
    pub(super) why: Why,
    /// The leaf was not known to be at the question's cut: it may wait for it, and be well.
    pub(super) is_ahead: bool,
    /// `None` while open.
    pub(super) status: Option<NodeStatus>,
    /// From asking to its end.
    pub(super) elapsed: Duration,
    /// What the leaf said when it failed.
    pub(super) code: Option<ErrorCode>,
    pub(super) text: [u8; 48],
    /// What the leaf said at the end, zeros without.
    pub(super) end: Ended,
    /// Frames received, kept or not.
    pub(super) received: u32,
    /// Data frames, bars as whole groups. Kept only when the leaf came to an end: without one nobody
    /// knows what the rows cover.
    pub(super) rows: Vec<Frame>,
    /// The definitions that came before them.
    pub(super) definitions: Vec<Frame>,
    defined: BTreeSet<u32>,
    quoted: BTreeSet<u32>,
}

impl Attempt {
    pub(super) fn new(place: usize, leaf: LeafId, query_id: u32, asked: Mono, why: Why) -> Attempt {
        Attempt {
            place,
            leaf,
            query_id,
            asked,
            why,
            is_ahead: false,
            status: None,
            elapsed: Duration::ZERO,
            code: None,
            text: [0; 48],
            end: Ended::default(),
            received: 0,
            rows: Vec::new(),
            definitions: Vec::new(),
            defined: BTreeSet::new(),
            quoted: BTreeSet::new(),
        }
    }

    /// Takes a frame in; false when it has no place in an answer to the question.
    pub(super) fn take(&mut self, role: Role, frame: &Frame) -> bool {
        self.received = self.received.saturating_add(1);
        let Some(kind) = frame.kind() else { return false };
        if kind == Kind::Definition {
            // Each once, all of them before the data.
            let fits = self.rows.is_empty() && self.defined.insert(frame.instrument.get());
            if fits {
                self.definitions.push(*frame);
            }
            return fits;
        }
        let fits = match role {
            Role::Quote => kind == Kind::Quote && self.quoted.insert(frame.instrument.get()),
            Role::Trades => matches!(kind, Kind::Trade | Kind::Cancel),
            Role::Bars => self.continues_bar(kind, frame),
            Role::Counts => kind == Kind::Counted,
            Role::Instruments => false,
        };
        if fits {
            self.rows.push(*frame);
        }
        fits
    }

    /// Whether the frame is the next one of a bar.
    fn continues_bar(&self, kind: Kind, frame: &Frame) -> bool {
        let place = self.rows.len() % BAR_FRAMES;
        let same_bar = place == 0
            || self.rows.last().is_some_and(|last| {
                last.ts_event == frame.ts_event && last.instrument == frame.instrument
            });
        BAR_KINDS.get(place) == Some(&kind) && same_bar
    }

    /// Takes the end frame in and says what it makes of the question; `None` when it comes inside a bar or
    /// is no end.
    pub(super) fn take_end(&mut self, role: Role, end: &Ended) -> Option<NodeStatus> {
        let status = EndStatus::from_number(end.status)?;
        if role == Role::Bars
            && status != EndStatus::Failed
            && !self.rows.len().is_multiple_of(BAR_FRAMES)
        {
            return None;
        }
        self.end = *end;
        self.code = ErrorCode::from_number(end.code.get());
        Some(match status {
            EndStatus::Complete => NodeStatus::Ok,
            EndStatus::Partial => NodeStatus::Corrupt,
            EndStatus::Failed => NodeStatus::Failed,
        })
    }

    /// Ends it, drops the frames of one that did not answer, and says how many they were.
    pub(super) fn end(&mut self, status: NodeStatus, elapsed: Duration) -> usize {
        self.status = Some(status);
        self.elapsed = elapsed;
        if self.answered() { 0 } else { self.let_go() }
    }

    /// Drops its frames and says how many they were.
    pub(super) fn let_go(&mut self) -> usize {
        let dropped = self.frames_held();
        self.rows = Vec::new();
        self.definitions = Vec::new();
        self.defined = BTreeSet::new();
        self.quoted = BTreeSet::new();
        dropped
    }

    pub(super) fn answered(&self) -> bool {
        matches!(self.status, Some(NodeStatus::Ok | NodeStatus::Corrupt))
    }

    /// Whether a quote came that is not known to be current.
    pub(super) fn is_stale(&self) -> bool {
        self.rows.iter().any(|frame| frame.has(Flags::STALE) && frame.kind == Kind::Quote as u8)
    }

    pub(super) fn frames_held(&self) -> usize {
        self.rows.len() + self.definitions.len()
    }

    /// Data rows; a bar is one.
    pub(super) fn row_count(&self, role: Role) -> usize {
        match role {
            Role::Bars => self.rows.len() / BAR_FRAMES,
            Role::Instruments => self.definitions.len(),
            Role::Quote | Role::Trades | Role::Counts => self.rows.len(),
        }
    }
}

impl Part {
    /// `None` when the question is none that can be gathered, or nobody could answer it.
    pub(super) fn new(plan: PartPlan) -> Option<Part> {
        if plan.candidates.is_empty() {
            return None;
        }
        Some(Part {
            role: Role::of(&plan.question.query)?,
            question: plan.question,
            candidates: plan.candidates,
            is_pruned: plan.is_pruned,
            is_done: plan.is_pruned,
            attempts: Vec::new(),
            chosen: None,
            hedge_at: None,
            is_denied: false,
            is_over_limit: false,
        })
    }

    /// For how many rows room is made at once: a question for the last few, or for one quote, says how
    /// many there are at most.
    pub(super) fn rows_expected(&self) -> usize {
        let query = &self.question.query;
        let asked = match Op::from_number(query.op) {
            Some(Op::Last) => usize::try_from(query.limit.get()).unwrap_or(usize::MAX),
            Some(Op::Quote) => self.question.patterns().len(),
            _ => 0,
        };
        asked.min(ROWS_EXPECTED_MAX)
    }

    /// Copies that have not been asked and can be.
    pub(super) fn untried(&self) -> impl Iterator<Item = usize> {
        let tried = |place: usize| self.attempts.iter().any(|attempt| attempt.place == place);
        let can_be_asked = |copy: &Candidate| copy.availability == Availability::Ask;
        let copies = self.candidates.iter().enumerate();
        copies
            .filter(move |(place, copy)| can_be_asked(copy) && !tried(*place))
            .map(|(place, _)| place)
    }

    /// Whether some copy is still asked.
    pub(super) fn is_asked(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.status.is_none())
    }

    /// When the first of the copies that are still asked was asked.
    pub(super) fn asked_first(&self) -> Option<Mono> {
        let open = self.attempts.iter().filter(|attempt| attempt.status.is_none());
        open.map(|attempt| attempt.asked).min()
    }

    /// The attempt whose rows belong into the answer.
    pub(super) fn winner(&self) -> Option<&Attempt> {
        self.attempts.get(self.chosen?).filter(|attempt| attempt.answered())
    }

    /// Whether the answer lacks something for want of it.
    pub(super) fn is_missing(&self) -> bool {
        let is_whole = |attempt: &Attempt| attempt.status == Some(NodeStatus::Ok);
        !self.is_pruned && !self.winner().is_some_and(is_whole)
    }

    /// What became of one copy.
    pub(super) fn status_of(&self, place: usize) -> NodeStatus {
        if self.is_pruned {
            return NodeStatus::Pruned;
        }
        if let Some(attempt) = self.attempts.iter().find(|attempt| attempt.place == place) {
            // A gather that failed as a whole leaves some open: they were not waited for.
            return attempt.status.unwrap_or(NodeStatus::Timeout);
        }
        match self.candidates.get(place).map(|copy| copy.availability) {
            Some(Availability::Refused) => NodeStatus::Refused,
            Some(Availability::BreakerOpen) => NodeStatus::BreakerOpen,
            _ if self.is_over_limit => NodeStatus::Failed,
            _ => NodeStatus::Spare,
        }
    }

    /// The attempt that says best why there is no answer: a node's own words before our silence.
    pub(super) fn reason(&self) -> Option<&Attempt> {
        let failed = |attempt: &&Attempt| attempt.status == Some(NodeStatus::Failed);
        self.attempts.iter().find(|it| failed(it) && it.code.is_some()).or(self.attempts.last())
    }

    pub(super) fn frames_held(&self) -> usize {
        self.attempts.iter().map(Attempt::frames_held).sum()
    }
}
