//! Queries that want all nodes to answer at one cut and leave it to us which. The newest cut that all can
//! answer at is known only from what the nodes have said lately, so they are asked first: one heartbeat
//! each, whatever the number of queries that wait for it. What it is not: the choice, which is the gather's.
//!
//! # Decisions
//!
//! * A cut of our choice is asked for, not remembered: what a leaf reported with its last answer may be an
//!   hour old. A query waits 50 ms at most, and only if nothing younger than a second is known.
//! * Each time they are asked with another token. An answer may have waited long in a connection that stood still, and says
//!   where the node was then.
//! * A node that is not current says so (STALE). Its place may still be the cut: it is then named as behind. But it may
//!   be current when it answers, so the gather calls an answer as of that place behind, whatever the node says.
//! * What is known is used again only if all nodes said where they are and were current, none lagged, and none has connected
//!   since.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Aggregator, AggregatorPeer, ConnId, client_number};
use crate::limits;
use crate::node::session::Rejection;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, Flags, Heartbeat, Refusal, Seq, U16, U32};

/// The first token of the heartbeats that ask how far a node is.
const CUT_TOKEN_FIRST: u32 = 2;

#[derive(Debug)]
struct WaitingQuery {
    conn: ConnId,
    question: Question,
    since: Mono,
    until: Mono,
}

/// The queries that wait, and for whom.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    waiting: VecDeque<WaitingQuery>,
    /// When the first of them has waited long enough.
    until: Option<Mono>,
    awaited: BTreeSet<ConnId>,
    /// How often they were asked before.
    rounds: u32,
    /// The newest place that was known when they were asked.
    known: Option<Seq>,
    /// One of them had not come so far, or was not current.
    is_lagging: bool,
    /// Until then what the nodes have said is recent enough.
    fresh_until: Mono,
}

impl Cuts {
    /// Whether a cut can be chosen from what is known.
    pub(super) fn is_fresh(&self, now: Mono) -> bool {
        now < self.fresh_until
    }

    /// A leaf has said how far it is: in answer to the last question, or it says nothing of now.
    pub(super) fn note_heard(&mut self, conn: ConnId, beat: &Heartbeat) {
        let is_answer = beat.token.get() == self.token();
        if is_answer && self.awaited.remove(&conn) {
            let is_stale = beat.flags.get() & Flags::STALE != 0;
            self.is_lagging |= is_stale || beat.next_seq() < self.known;
        }
    }

    /// The token of the last question. It is neither 0, nor one that means something else.
    fn token(&self) -> u32 {
        CUT_TOKEN_FIRST + self.rounds % (Heartbeat::LIFE_TOKEN - CUT_TOKEN_FIRST)
    }

    /// The connection of a leaf has ended.
    pub(super) fn note_lost(&mut self, conn: ConnId) {
        self.awaited.remove(&conn);
    }

    /// Forgets a client's queries: the one with this number, or all.
    pub(super) fn forget(&mut self, conn: ConnId, id: Option<u32>) {
        self.waiting.retain(|waiting| {
            let is_meant = id.is_none_or(|id| waiting.question.query.id.get() == id);
            waiting.conn != conn || !is_meant
        });
        self.until = self.waiting.iter().map(|waiting| waiting.until).min();
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.until
    }
}

impl Aggregator {
    /// Lets a query wait until the nodes have said how far they are.
    pub(super) fn wait_for_cut(
        &mut self,
        now: Now,
        conn: ConnId,
        question: &Question,
    ) -> Result<(), Rejection> {
        if self.cuts.waiting.len() >= limits::GATHERS_MAX {
            return Err(Rejection::new(ErrorCode::Limit, "too many queries are in flight"));
        }
        if self.cuts.waiting.is_empty() {
            (self.cuts.known, self.cuts.is_lagging) = (self.gather.newest_cut(), false);
            self.cuts.rounds = self.cuts.rounds.wrapping_add(1);
            self.cuts.awaited.clear();
            for leaf in self.leaves.conns().collect::<Vec<ConnId>>() {
                self.await_place(leaf);
            }
        }
        let own = Duration::from_micros(u64::from(question.query.deadline_us.get()));
        let until = now.mono + (own / 4).min(limits::CUT_WAIT_MAX);
        self.cuts.until = Some(self.cuts.until.map_or(until, |least| least.min(until)));
        let question = question.clone();
        self.cuts.waiting.push_back(WaitingQuery { conn, question, since: now.mono, until });
        Ok(())
    }

    fn await_place(&mut self, leaf: ConnId) {
        self.cuts.awaited.insert(leaf);
        let (flags, token) = (U16::new(Flags::MORE), U32::new(self.cuts.token()));
        self.connections.send(leaf, Heartbeat { flags, token, ..Heartbeat::default() });
    }

    /// A leaf has connected, and has only said where it was.
    pub(super) fn note_leaf_connected(&mut self, leaf: ConnId) {
        self.cuts.fresh_until = Mono::default();
        if !self.cuts.waiting.is_empty() {
            self.await_place(leaf);
        }
    }

    /// Begins the queries that have waited long enough.
    pub(super) fn begin_waiting(&mut self, now: Now) {
        let is_over = self.cuts.next_deadline().is_some_and(|until| until <= now.mono);
        if self.cuts.waiting.is_empty() || !(self.cuts.awaited.is_empty() || is_over) {
            return;
        }
        let is_silent = !std::mem::take(&mut self.cuts.awaited).is_empty();
        if !self.cuts.is_lagging && !is_silent {
            self.cuts.fresh_until = now.mono + limits::PROGRESS_HEARTBEAT_EVERY;
        }
        self.cuts.until = None;
        for waiting in std::mem::take(&mut self.cuts.waiting) {
            let WaitingQuery { conn, mut question, since, .. } = waiting;
            let id = question.query.id;
            let waited = u32::try_from(now.mono.since(since).as_micros()).unwrap_or(u32::MAX);
            let left = question.query.deadline_us.get().saturating_sub(waited);
            question.query.deadline_us = U32::new(left);
            let plan = self.leaves.plan(&question);
            if let Err(refused) = self.gather.begin(now.mono, client_number(conn), &question, plan)
            {
                if let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) {
                    client.stop(id.get());
                    client.settle(&mut self.places);
                }
                let refusal = Refusal::new(refused.code(), id.get(), &refused.to_string());
                self.connections.send(conn, refusal);
            }
        }
    }
}
