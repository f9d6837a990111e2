//! Pieces of core's journal, for browsers that want what the ring has no more. What is *not* here: whose turn it is, and
//! what becomes of a piece.
//!
//! # Decisions
//!
//! * One piece at a time: core answers one replay on a connection.
//! * A piece has a bound in frames, whatever span was asked for. What comes beyond it is let go of and asked for again.
//! * A piece that is late is given up, and the next one waits until core has ended it: core would refuse a second one. It is
//!   late when no frame of it has come for a while, and after a longer time in any case.
//! * The breaker is told how soon core began to answer. How long a piece is, is no fault of core.

use std::time::Duration;

use super::Front;
use crate::breaker::{self, Outcome};
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{
    EndStatus, Ended, Flags, Frame, Gap, GapReason, Kind, Query, Refusal, Seq, Session, U32,
};

/// Frames of the journal that follow each other.
#[derive(Debug)]
pub(in crate::gateway) struct Piece {
    /// What instruments are called, flagged SNAPSHOT: who asks may have been told fewer.
    pub(in crate::gateway) names: Vec<Frame>,
    /// Data by `seq`, and a GAP where the journal has nothing any more.
    pub(in crate::gateway) frames: Vec<Frame>,
    /// Behind the last place that it is about.
    pub(in crate::gateway) next_seq: u64,
    /// Before this place the journal has nothing; 0: it does not say.
    pub(in crate::gateway) covered_from: u64,
}

/// What became of a piece.
#[derive(Debug)]
pub(in crate::gateway) enum PieceEnd {
    Whole(Piece),
    /// The connection broke: it can be asked for again.
    Broken,
    /// Core does not have it, or not in time.
    None,
}

#[derive(Debug)]
struct UnderWay {
    id: u32,
    permit: Option<breaker::Permit>,
    asked: Mono,
    /// Core has begun to answer, so long after it was asked.
    answered: Option<Duration>,
    until: Mono,
    /// Behind the last place that was asked for.
    to_seq: u64,
    piece: Piece,
    /// The bound was met: what follows is let go of.
    is_cut: bool,
    /// It was late: nobody waits for it.
    is_late: bool,
}

/// The connection to core, as far as it is for pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The place of core among the nodes.
    core: Option<usize>,
    /// Under which epoch core answers, by identity and number.
    epoch: (u64, u32),
    under_way: Option<UnderWay>,
    done: Option<PieceEnd>,
}

impl Pieces {
    pub(super) fn of(core: Option<usize>) -> Pieces {
        Pieces { core, ..Pieces::default() }
    }

    /// Core has greeted.
    pub(super) fn note_session(&mut self, place: usize, session: &Session) {
        if self.core == Some(place) {
            self.epoch = (session.feed.get(), session.epoch.get());
        }
    }

    /// Whether a frame of this node and question belongs to the piece under way.
    pub(super) fn has(&self, place: usize, id: u32) -> bool {
        self.core == Some(place) && self.under_way.as_ref().is_some_and(|it| it.id == id)
    }

    /// Whether this node is at work on a piece.
    pub(super) fn is_busy(&self, place: usize) -> bool {
        self.core == Some(place) && self.under_way.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let wanted = self.under_way.as_ref().filter(|it| !it.is_late);
        wanted.map(|it| it.until)
    }
}

impl Front {
    /// Whether core's journal can be asked at all.
    pub(in crate::gateway) fn has_core(&self) -> bool {
        self.pieces.core.is_some()
    }

    /// Whether core answers now, and under this epoch.
    pub(in crate::gateway) fn can_replay(&self, epoch: (u64, u32)) -> bool {
        let core = self.pieces.core.and_then(|place| self.nodes.get(place));
        let is_late = self.pieces.under_way.as_ref().is_some_and(|it| it.is_late);
        let is_there =
            core.is_some_and(|it| it.uplink.ready().is_some() && !it.uplink.is_breaker_open());
        is_there && !is_late && self.pieces.epoch == epoch
    }

    /// Whether a piece can be asked for: none is under way.
    pub(in crate::gateway) fn is_free(&self) -> bool {
        self.pieces.under_way.is_none() && self.pieces.done.is_none()
    }

    /// Whether the end of a piece waits to be taken.
    pub(in crate::gateway) fn has_piece(&self) -> bool {
        self.pieces.done.is_some()
    }

    /// What became of the piece that was asked for.
    pub(in crate::gateway) fn poll_piece(&mut self) -> Option<PieceEnd> {
        self.pieces.done.take()
    }

    /// Asks core for a piece. Whether it was asked.
    pub(in crate::gateway) fn ask_piece(&mut self, now: Now, query: Query) -> bool {
        let Some(node) = self.pieces.core.and_then(|place| self.nodes.get_mut(place)) else {
            return false;
        };
        let Some(conn) = node.uplink.ready().filter(|_| self.pieces.under_way.is_none()) else {
            return false;
        };
        let Ok(permit) = node.uplink.breaker_mut().try_acquire(now.mono) else { return false };
        let id = node.next_id;
        node.next_id = node.next_id.checked_add(1).unwrap_or(1);
        self.pieces.under_way = Some(UnderWay {
            id,
            permit: Some(permit),
            asked: now.mono,
            answered: None,
            until: now.mono + limits::GATEWAY_PIECE_WAIT,
            to_seq: query.to.get(),
            piece: Piece {
                names: Vec::new(),
                frames: Vec::new(),
                next_seq: query.from.get(),
                covered_from: 0,
            },
            is_cut: false,
            is_late: false,
        });
        self.connections.send(conn, Query { id: U32::new(id), ..query });
        true
    }

    /// A checked frame of the piece under way.
    pub(super) fn take_piece_frame(&mut self, now: Now, frame: &Frame) {
        let Some(under_way) = &mut self.pieces.under_way else { return };
        under_way.answered.get_or_insert(now.mono.since(under_way.asked));
        let latest = under_way.asked + limits::GATEWAY_PIECE_TIME_MAX;
        under_way.until = latest.min(now.mono + limits::GATEWAY_PIECE_WAIT);
        if let Some(end) = frame.view::<Ended>() {
            let is_failed = end.status == EndStatus::Failed as u8;
            if !under_way.is_cut {
                // A journal that ends before has nothing of what follows.
                let end_seq = under_way.to_seq.min(end.as_of.get());
                let piece = &mut under_way.piece;
                piece.next_seq = piece.next_seq.max(end_seq);
                piece.covered_from = end.covered_from.get();
            }
            self.end_piece(now, !is_failed);
        } else if frame.view::<Refusal>().is_some() {
            self.end_piece(now, false);
        } else if !under_way.is_late && !under_way.is_cut {
            under_way.take(frame);
        }
    }

    /// Core has said all that it says about the piece.
    fn end_piece(&mut self, now: Now, is_good: bool) {
        let Some(under_way) = self.pieces.under_way.take() else { return };
        let node = self.pieces.core.and_then(|place| self.nodes.get_mut(place));
        if let (Some(node), Some(permit)) = (node, under_way.permit) {
            let latency = under_way.answered.unwrap_or_else(|| now.mono.since(under_way.asked));
            let outcome = Outcome::Answered { latency };
            node.uplink.breaker_mut().record(permit, outcome, now.mono);
        }
        if !under_way.is_late {
            let whole = PieceEnd::Whole(under_way.piece);
            self.pieces.done = Some(if is_good { whole } else { PieceEnd::None });
        }
    }

    /// The connection to a node is gone, or is given up.
    pub(super) fn break_piece(&mut self, now: Now, place: usize, outcome: Option<Outcome>) {
        if self.pieces.core != Some(place) {
            return;
        }
        self.pieces.epoch = (0, 0);
        let Some(under_way) = self.pieces.under_way.take() else { return };
        if let (Some(node), Some(permit), Some(outcome)) =
            (self.nodes.get_mut(place), under_way.permit, outcome)
        {
            node.uplink.breaker_mut().record(permit, outcome, now.mono);
        }
        if !under_way.is_late {
            self.pieces.done = Some(PieceEnd::Broken);
        }
    }

    /// Gives up a piece that is late.
    pub(super) fn end_late_piece(&mut self, now: Now) {
        if self.pieces.deadline().is_none_or(|until| until > now.mono) {
            return;
        }
        let node = self.pieces.core.and_then(|place| self.nodes.get_mut(place));
        if let (Some(node), Some(under_way)) = (node, &mut self.pieces.under_way) {
            under_way.is_late = true;
            (under_way.piece.frames, under_way.piece.names) = (Vec::new(), Vec::new());
            if let Some(permit) = under_way.permit.take() {
                let outcome = match under_way.answered {
                    Some(latency) => Outcome::Answered { latency },
                    None => Outcome::RequestDeadline,
                };
                node.uplink.breaker_mut().record(permit, outcome, now.mono);
            }
            self.pieces.done = Some(PieceEnd::None);
        }
    }
}

impl UnderWay {
    fn take(&mut self, frame: &Frame) {
        let due = self.piece.next_seq..self.to_seq;
        let (first, last, kept) = match frame.view::<Gap>() {
            Some(gap) => {
                let first = gap.from_seq.get().max(due.start);
                let last = gap.to_seq.get().min(due.end.saturating_sub(1));
                let reason = GapReason::from_number(gap.reason);
                let reason =
                    reason.filter(|it| matches!(it, GapReason::SourceLost | GapReason::Corrupt));
                let (Some(reason), Some(from), Some(to)) =
                    (reason.filter(|_| first <= last), Seq::new(first), Seq::new(last))
                else {
                    return;
                };
                (first, last, Frame::seal(Gap::uncounted(reason, from, to)))
            }
            None => {
                let seq = frame.seq.get();
                let is_data = frame.kind().is_some_and(Kind::is_data);
                let has_room = self.piece.names.len() < limits::GATEWAY_PIECE_NAMES_MAX;
                if frame.is_naming() && frame.has(Flags::SNAPSHOT) && has_room {
                    self.piece.names.push(*frame);
                }
                if !is_data || frame.has(Flags::SNAPSHOT) || !due.contains(&seq) {
                    return;
                }
                (seq, seq, *frame)
            }
        };
        if self.piece.frames.len() >= limits::GATEWAY_PIECE_FRAMES_MAX {
            self.is_cut = true;
            self.piece.next_seq = first;
            return;
        }
        self.piece.frames.push(kept);
        self.piece.next_seq = Seq::behind(last).get();
    }
}
