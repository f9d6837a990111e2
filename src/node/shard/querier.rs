//! Who asked what, and whose turn it is: questions that wait for the log to come far enough, answers under
//! way, and how they share a connection. What an answer says is `answer`'s matter.
//!
//! An answer that looks at little goes ahead of those that look at much, so that the last price of one
//! symbol does not wait behind the bars of all; of the long ones a few take turns.
//!
//! # Decisions
//!
//! * Whether the shard is behind core is judged when an answer begins: its rows are those of then.
//! * The order of answers matters because the aggregator has one connection to a shard for all its clients.
//! * All answers together have a bounded part of a turn, so that they do not delay what core feeds.
//! * Questions that wait for a cut count apart from those that are worked on, and wait
//!   [`limits::CUT_AHEAD_WAIT_MAX`] at most. Before, whoever asked about the future kept everybody from asking about
//!   the present.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Shard, ShardPeer};
use crate::history::{AnswerContext, AnswerProgress, HistoryAnswer};
use crate::limits;
use crate::log::Storage;
use crate::node::session::{Principal, Rejection, Shares};
use crate::node::{ConnId, Work};
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{EndStatus, Ended, ErrorCode, Refusal, Seq, U16};

/// A piece of an answer may have so many frames, however little is left of a turn.
const FRAMES_PER_PIECE_MIN: usize = 64;
/// A piece of an answer may look at so many records, however little is left of a turn: some blocks of the index.
const RECORDS_PER_PIECE_MIN: usize = 8 * limits::INDEX_BLOCK_TRADES;

/// A connection that asks.
#[derive(Debug)]
pub(crate) struct Querier {
    principal: Principal,
    answers: VecDeque<HistoryAnswer>,
    waiting: Vec<WaitingQuestion>,
    /// Counts pieces of long answers, so that they take turns.
    turn: usize,
}

/// A question about a cut that the log has not reached.
#[derive(Debug)]
struct WaitingQuestion {
    question: Question,
    due: Mono,
}

/// What one connection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) queries: usize,
    pub(super) waiting: usize,
    pub(super) instruments: usize,
}

/// What all connections hold together.
#[derive(Debug)]
pub(super) struct Loads {
    pub(super) queries: Shares,
    pub(super) waiting: Shares,
    pub(super) instruments: usize,
}

impl Default for Loads {
    fn default() -> Loads {
        Loads {
            queries: Shares::new("queries", limits::SHARD_QUERIES_MAX),
            waiting: Shares::new("waiting queries", limits::WAITING_QUERIES_MAX),
            instruments: 0,
        }
    }
}

impl Loads {
    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        (self.queries.total(), self.waiting.total(), self.instruments) == (0, 0, 0)
    }

    /// What one connection holds has changed.
    fn change(&mut self, principal: Principal, before: Load, after: Load) {
        self.queries.change(principal, before.queries, after.queries);
        self.waiting.change(principal, before.waiting, after.waiting);
        self.instruments = self.instruments - before.instruments + after.instruments;
    }
}

impl Querier {
    pub(super) fn new(principal: Principal) -> Querier {
        Querier { principal, answers: VecDeque::new(), waiting: Vec::new(), turn: 0 }
    }

    /// What it holds.
    pub(super) fn load(&self) -> Load {
        Load {
            queries: self.answers.len(),
            waiting: self.waiting.len(),
            instruments: self.answers.iter().map(HistoryAnswer::instruments).sum(),
        }
    }

    /// Whether a question with this id is open.
    pub(super) fn has_open(&self, id: u32) -> bool {
        self.answers.iter().any(|answer| answer.id() == id)
            || self.waiting.iter().any(|waiting| waiting.question.query.id.get() == id)
    }

    /// Forgets a query.
    pub(super) fn stop(&mut self, id: u32) {
        self.answers.retain(|answer| answer.id() != id);
        self.waiting.retain(|waiting| waiting.question.query.id.get() != id);
    }

    /// Makes one piece out of what is under way, the short answers first.
    fn fill<S: Storage>(&mut self, context: &mut AnswerContext<'_, S>) {
        let room = context.room;
        if self.answers.iter().any(|answer| !answer.is_short) {
            context.room = room / 2;
        }
        while let Some(place) = self.answers.iter().position(|answer| answer.is_short)
            && context.out.len() + 8 <= context.room
            && *context.budget > 0
        {
            if let Some(answer) = self.answers.get_mut(place)
                && answer.fill(context) == AnswerProgress::Over
            {
                self.answers.remove(place);
            }
        }
        context.room = room;
        let long = self.answers.iter().enumerate().filter(|(_, answer)| !answer.is_short);
        let long: Vec<usize> =
            long.map(|(place, _)| place).take(limits::SCANS_AT_ONCE_MAX).collect();
        self.turn = self.turn.wrapping_add(1);
        let next = long.get(self.turn % long.len().max(1)).copied();
        if let Some(place) = next
            && let Some(answer) = self.answers.get_mut(place)
            && answer.fill(context) == AnswerProgress::Over
        {
            self.answers.remove(place);
        }
    }
}

impl<S: Storage> Shard<S> {
    /// What its turns spend on answers.
    #[must_use]
    pub fn work(&self) -> &Work {
        self.connections.work()
    }

    /// The same, to bound it.
    pub fn work_mut(&mut self) -> &mut Work {
        self.connections.work_mut()
    }

    /// Changes what a client holds, and the sum of all with it.
    pub(super) fn change_querier(&mut self, conn: ConnId, change: impl FnOnce(&mut Querier)) {
        let Some(ShardPeer::Querier(querier)) = self.connections.peer_mut(conn) else { return };
        let (principal, before) = (querier.principal, querier.load());
        change(querier);
        let after = querier.load();
        self.load.change(principal, before, after);
    }

    /// Takes note that a client has left.
    pub(super) fn forget_querier(&mut self, querier: &Querier) {
        self.load.change(querier.principal, querier.load(), Load::default());
    }

    /// A question other than those that every node answers alike.
    pub(super) fn begin_answer(
        &mut self,
        now: Now,
        conn: ConnId,
        question: Question,
    ) -> Result<(), Rejection> {
        // Whose symbol it is does not matter then.
        HistoryAnswer::op_of(&question.query)?;
        let Some(ShardPeer::Querier(querier)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        let (principal, load) = (querier.principal, querier.load());
        let too_many = |text: &'static str| Err(Rejection::new(ErrorCode::Limit, text));
        if question.as_of > Some(self.wanted()) {
            let counts_apart = !is_planted(Bug::WaitingTakesAll);
            if load.waiting >= limits::WAITING_QUERIES_PER_CONNECTION_MAX && counts_apart {
                return too_many("your connection has too many waiting queries");
            }
            self.load.waiting.check(principal, load.waiting)?;
            let own = Duration::from_micros(question.query.deadline_us.get().into());
            let wait_max = if counts_apart { limits::CUT_AHEAD_WAIT_MAX } else { Duration::MAX };
            let due = now.mono + own.min(wait_max);
            if !self.waiting.contains(&conn) {
                self.waiting.push(conn);
            }
            self.waiting_due = Some(self.waiting_due.map_or(due, |least| least.min(due)));
            self.change_querier(conn, |querier| {
                querier.waiting.push(WaitingQuestion { question, due })
            });
            return Ok(());
        }
        if load.queries >= limits::LEAF_QUERIES_MAX {
            return too_many("too many unread answers on this connection");
        }
        self.load.queries.check(principal, load.queries)?;
        let mut answer = self.answer(now, &question)?;
        answer.note_behind(self.freshness.behind_ms(now), self.is_behind(now));
        if self.load.instruments + answer.instruments() > limits::SCAN_INSTRUMENTS_TOTAL_MAX {
            let text = "too many instruments are asked for at once";
            return Err(Rejection::new(ErrorCode::Limit, text));
        }
        self.change_querier(conn, |querier| querier.answers.push_back(answer));
        self.connections.set_bulk(conn, true);
        self.connections.mark_dirty(conn);
        Ok(())
    }

    /// Whether it is further behind core than an answer in full may be.
    fn is_behind(&self, now: Now) -> bool {
        let limit = self.config.behind_max;
        self.freshness.behind(now).unwrap_or(Duration::MAX) > limit
    }

    /// Finds what a question is about.
    fn answer(&mut self, now: Now, question: &Question) -> Result<HistoryAnswer, Rejection> {
        self.index.forget_before(self.log.first_position());
        // One name may be that of several instruments.
        let places = self.index.matching(question);
        if let Some(name) = question.symbol().filter(|_| places.is_empty()) {
            let (code, text) = match self.may_own(&name) {
                true if self.is_behind(now) => {
                    (ErrorCode::Behind, "unknown here so far; this shard is behind core")
                }
                true => {
                    let text = "no instrument of this name has any history here";
                    (ErrorCode::UnknownSymbol, text)
                }
                false => (ErrorCode::NotOwner, "another shard owns this symbol"),
            };
            return Err(Rejection::new(code, text));
        }
        // What came behind the cut was not there yet. One with older trades is, whatever its definition says.
        let is_known = |place: &u32, as_of: Seq| {
            self.index.at(*place).is_some_and(|history| {
                let is_before = history.definition.seq() < Some(as_of);
                is_before || history.ordinal_of_seq(as_of.get()) > history.start()
            })
        };
        let is_list = question.symbol().is_none();
        let places = match question.as_of.filter(|_| is_list || places.len() > 1) {
            Some(as_of) => {
                // Who has a name is there before others have it too, and stays there at every cut.
                let defined_at = |place: &u32| self.index.at(*place).map(|it| it.definition.seq());
                let first = places.iter().copied().min_by_key(defined_at).filter(|_| !is_list);
                let is_there = |place: &u32| Some(*place) == first || is_known(place, as_of);
                places.into_iter().filter(is_there).collect()
            }
            None => places,
        };
        HistoryAnswer::new(question, places, &self.index, &self.log)
    }

    /// Looks after questions that wait: the log may have come far enough, or their time may be over.
    pub(super) fn settle_waiting(&mut self, now: Now, has_updates: bool) {
        if self.waiting.is_empty()
            || !(has_updates || self.waiting_due.is_some_and(|due| due <= now.mono))
        {
            return;
        }
        let next_seq = Some(self.wanted());
        self.waiting_due = None;
        for conn in std::mem::take(&mut self.waiting) {
            let mut ended = Vec::new();
            self.change_querier(conn, |querier| {
                let is_over =
                    |it: &mut WaitingQuestion| it.question.as_of <= next_seq || it.due <= now.mono;
                ended.extend(querier.waiting.extract_if(.., is_over));
            });
            for WaitingQuestion { question, .. } in ended {
                let id = question.query.id;
                if question.as_of > next_seq {
                    let end = Ended {
                        id,
                        status: EndStatus::Failed as u8,
                        code: U16::new(ErrorCode::Behind as u16),
                        as_of: Seq::field(next_seq),
                        ..Ended::default()
                    };
                    self.connections.send(conn, end);
                } else if let Err(rejection) = self.begin_answer(now, conn, question) {
                    self.connections
                        .send(conn, Refusal::new(rejection.code, id.get(), &rejection.text));
                }
            }
            let Some(ShardPeer::Querier(querier)) = self.connections.peer_mut(conn) else {
                continue;
            };
            let due = querier.waiting.iter().map(|waiting| waiting.due).min();
            if due.is_some() && !self.waiting.contains(&conn) {
                self.waiting.push(conn);
            }
            self.waiting_due = self.waiting_due.into_iter().chain(due).min();
        }
    }

    /// Fills the empty outbox of a client, as long as this turn may spend something on answers.
    pub(super) fn refill(&mut self, conn: ConnId) {
        let frames_left = self.connections.work().frames_left();
        let Some(ShardPeer::Querier(querier)) = self.connections.peer_mut(conn) else { return };
        if querier.answers.is_empty() {
            return;
        }
        if frames_left == 0 {
            // What core feeds is taken in first.
            self.connections.mark_dirty(conn);
            return;
        }
        self.scratch.clear();
        let (principal, before) = (querier.principal, querier.load());
        let room = frames_left.clamp(FRAMES_PER_PIECE_MIN, limits::FILL_FRAMES_MAX);
        let records_max = frames_left.saturating_mul(limits::RECORDS_PER_BULK_FRAME);
        let records_max = records_max.clamp(RECORDS_PER_PIECE_MIN, limits::RECORDS_PER_FILL_MAX);
        let mut budget = records_max;
        querier.fill(&mut AnswerContext {
            index: &mut self.index,
            log: &self.log,
            unpacked: &mut self.unpacked,
            out: &mut self.scratch,
            room,
            budget: &mut budget,
            is_damaged: self.damaged > 0 || self.log.is_front_missing(),
        });
        let (after, is_over) = (querier.load(), querier.answers.is_empty());
        self.load.change(principal, before, after);
        let looked = records_max.saturating_sub(budget).div_ceil(limits::RECORDS_PER_BULK_FRAME);
        let spent = self.scratch.len() + looked;
        if !self.scratch.is_empty() {
            self.connections.work_mut().spend_frames(spent + limits::BULK_FRAMES_PER_WRITE);
            self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        } else if !is_over {
            // Much was looked at and little found: others have their turn.
            self.connections.work_mut().spend_frames(spent.max(1));
            self.connections.mark_dirty(conn);
        }
    }
}
