//! The aggregator: one question in, a question to each node that owns a part of it, one answer out.
//!
//! It wires the gather to connections: kept ones to core and the shards, a breaker each, and those of
//! clients. What it does not do: keep any data, choose among the copies of a part, or decide what an
//! answer with holes is worth (the gather does).
//!
//! Invariant: every query that is taken gets its whole answer in order, or a refusal with its id,
//! unless its client left or stopped it.
//!
//! # Decisions
//!
//! * Breakers, parked queries and reports are handled once a turn, with the timers (`settle`). After each
//!   read only questions, stops and answers are passed on (`forward`). To handle everything after each read
//!   cost a tenth of an answer's instructions.

mod client;
mod config;
mod cut;
mod leaf;
mod leaves;
mod plan;

use std::collections::VecDeque;

use super::session::{Admission, Filled, Rejection, Roles, Status};
use super::{
    CloseReason, ConnId, Connections, DialFailure, DialId, Level, Service, breaker_change,
};
use crate::gather::{Answer, Gather, LeafId, NEWEST_COMMON_CUT};
use crate::limits;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, Ended, ErrorCode, Frame, Heartbeat, Kind, Op, Query, Role, Seq, Session, U32,
    padded,
};

use client::{Client, ClientPlaces};
pub use config::{AggregatorConfig, AggregatorError, LeafConfig};
use cut::Cuts;
use leaf::LeafFault;
use leaves::Leaves;

/// Core's place among the leaves, which are in the order of their shards, first copies first.
const CORE: LeafId = LeafId(0);

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum AggregatorPeer {
    Client(Client),
    /// Index into the leaves.
    Leaf(usize),
}

/// The aggregator node.
#[derive(Debug)]
pub struct Aggregator {
    queries_per_client_max: usize,
    connections: Connections<AggregatorPeer>,
    leaves: Leaves,
    gather: Gather,
    cuts: Cuts,
    places: ClientPlaces,
    /// Frames of finished answers that wait for their clients.
    answer_frames: usize,
    answers_dropped: u64,
    /// One piece for one client; kept to save the allocation.
    scratch: Vec<Frame>,
    /// Changes of breakers that core has not been sent.
    reports: VecDeque<Frame>,
}

impl Aggregator {
    /// An aggregator that is not connected to anybody yet.
    ///
    /// # Errors
    /// When the leaves do not fit the partition, or the breaker's configuration is not valid.
    pub fn new(config: &AggregatorConfig) -> Result<Aggregator, AggregatorError> {
        config.validate()?;
        Ok(Aggregator {
            queries_per_client_max: config.queries_per_client_max,
            connections: Connections::default(),
            leaves: Leaves::new(config)?,
            gather: Gather::with_behind_max(config.behind_max),
            cuts: Cuts::default(),
            places: ClientPlaces::default(),
            answer_frames: 0,
            answers_dropped: 0,
            scratch: Vec::new(),
            reports: VecDeque::new(),
        })
    }

    fn greet_client(
        &mut self,
        _now: Now,
        conn: ConnId,
        _session: &Session,
    ) -> Admission<AggregatorPeer> {
        let answer = Session { name: padded("aggregator"), ..Session::default() };
        let client = Client::new(self.connections.principal(conn));
        Admission::Accepted(AggregatorPeer::Client(client), answer)
    }

    /// What a leaf sent, up to the first frame for which it is given up.
    fn handle_leaf_frames(&mut self, now: Now, conn: ConnId, index: usize, frames: &[Frame]) {
        let mut rest = frames;
        while let Some((frame, behind)) = rest.split_first() {
            let is_row = |frame: &&Frame| frame.kind().is_some_and(Kind::is_data);
            let rows = rest.iter().take_while(is_row).take_while(|row| row.check().is_ok()).count();
            let (rows, behind_rows) = rest.split_at(rows);
            let result = if !rows.is_empty() {
                rest = behind_rows;
                self.leaves.handle_rows(now, index, rows, &mut self.gather)
            } else {
                rest = behind;
                self.handle_leaf_frame(now, conn, index, frame)
            };
            if let Err(fault) = result {
                self.give_up_leaf(now, conn, index, &fault);
                return;
            }
        }
    }

    fn handle_leaf_frame(
        &mut self,
        now: Now,
        conn: ConnId,
        index: usize,
        frame: &Frame,
    ) -> Result<(), LeafFault> {
        frame.check().map_err(|error| LeafFault::Protocol {
            code: ErrorCode::BadFrame,
            text: error.to_string(),
            blamed: None,
        })?;
        self.leaves.handle_frame(now, index, frame, &mut self.gather)?;
        if frame.kind() == Some(Kind::Session) {
            self.note_leaf_connected(conn);
        }
        if let Some(beat) = frame.view::<Heartbeat>() {
            self.cuts.note_heard(conn, beat);
            self.connections.answer_heartbeat(now, conn, beat, None);
        }
        Ok(())
    }

    fn give_up_leaf(&mut self, now: Now, conn: ConnId, index: usize, fault: &LeafFault) {
        self.leaves.give_up(now, index, fault, &mut self.gather);
        let name = self.leaves.name(index);
        match fault {
            LeafFault::Protocol { code, text, .. } => {
                self.connections.log(Level::Warn, format!("{name} broke the protocol: {text}"));
                self.connections.refuse(conn, *code, text);
            }
            LeafFault::Refused { text } => {
                self.connections.log(Level::Warn, format!("{name} refused us: {text}"));
                self.connections.close_after_flush(conn);
            }
        }
    }

    fn take_query(&mut self, now: Now, conn: ConnId, question: &Question) -> Result<(), Rejection> {
        let id = question.query.id.get();
        let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        if question.op() == Some(Op::Replay) {
            return Err(Rejection::new(ErrorCode::NotOwner, "ask core for a replay"));
        }
        if client.open() >= self.queries_per_client_max {
            return Err(Rejection::new(ErrorCode::Limit, "too many of your queries are in flight"));
        }
        let cut = question.as_of.filter(|cut| *cut != NEWEST_COMMON_CUT);
        let is_ahead = cut.is_some() && cut > self.gather.newest_cut();
        client.check(is_ahead, &self.places)?;
        if question.as_of == Some(NEWEST_COMMON_CUT) && !self.cuts.is_fresh(now.mono) {
            self.wait_for_cut(now, conn, question)?;
            if let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) {
                client.begin(id, is_ahead, &mut self.places);
            }
            return Ok(());
        }
        let plan = self.leaves.plan(question);
        let begun = self.gather.begin(now.mono, client_number(conn), question, plan);
        begun.map_err(|refused| Rejection::new(refused.code(), refused.to_string()))?;
        client.begin(id, is_ahead, &mut self.places);
        Ok(())
    }

    fn stop_query(&mut self, conn: ConnId, id: u32) {
        self.cuts.forget(conn, Some(id));
        self.gather.stop(client_number(conn), id);
        if let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) {
            let before = client.frames();
            client.stop(id);
            client.settle(&mut self.places);
            self.answer_frames -= before - client.frames();
        }
    }

    /// Carries out what the machines want after something happened.
    fn settle(&mut self, now: Now) {
        for (conn, text) in self.leaves.closes_due(now, &mut self.gather) {
            if let Some(AggregatorPeer::Leaf(index)) = self.connections.peer(conn) {
                let name = self.leaves.name(*index);
                self.connections.log(Level::Warn, format!("the link to {name} is closed: {text}"));
            }
            self.connections.close_after_flush(conn);
        }
        self.begin_waiting(now);
        self.forward(now);
        while let Some((name, change)) = self.leaves.poll_transition() {
            let text =
                format!("breaker {name}: {} -> {} ({})", change.from, change.to, change.reason);
            self.connections.log(Level::Warn, text);
            if self.reports.len() >= limits::BREAKER_REPORTS_WAITING_MAX {
                self.reports.pop_front();
            }
            self.reports.push_back(Frame::seal(breaker_change(&name, change)));
        }
        // Core gives each its place on the system topic.
        if let Some(core) = self.leaves.conn(CORE) {
            for report in self.reports.drain(..) {
                self.connections.send_frame(core, &report);
            }
        }
    }

    /// Sends what the gather wants asked, stopped and answered. What breakers and waiting queries want as
    /// well is seen to once a turn, by [`Aggregator::settle`].
    fn forward(&mut self, now: Now) {
        self.send_requests(now);
        while let Some((leaf, id)) = self.gather.poll_cancel() {
            self.leaves.note_cancelled(now, leaf, id);
            if let Some(conn) = self.leaves.conn(leaf) {
                let id = U32::new(id);
                self.connections.send(conn, Query { id, op: Op::Stop as u8, ..Query::default() });
            }
        }
        while let Some(answer) = self.gather.poll_answer() {
            self.deliver(answer);
        }
    }

    /// Sends the questions that the gather wants asked. One that cannot be is followed by another copy's.
    fn send_requests(&mut self, now: Now) {
        while let Some(request) = self.gather.poll_request() {
            match self.leaves.acquire(now, request.leaf) {
                Ok((conn, permit)) => {
                    self.leaves.note_asked(now, &request, permit);
                    for frame in request.question.frames() {
                        self.connections.send_frame(conn, &frame);
                    }
                }
                Err(status) => {
                    // It was polled just now, so it is open.
                    let _ = self.gather.handle_request_failed(
                        request.leaf,
                        request.id(),
                        status,
                        now.mono,
                    );
                }
            }
        }
    }

    fn deliver(&mut self, answer: Answer) {
        let conn = conn_of(answer.client);
        // A client that is being closed is not answered any more.
        let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) else { return };
        let before = client.frames();
        if !client.push(answer, self.answer_frames) {
            self.answers_dropped += 1;
        }
        client.settle(&mut self.places);
        self.answer_frames += client.frames() - before;
        self.connections.mark_dirty(conn);
    }

    /// Puts the next piece of a client's answers into its empty outbox.
    fn refill(&mut self, conn: ConnId) {
        let Some(AggregatorPeer::Client(client)) = self.connections.peer_mut(conn) else { return };
        self.scratch.clear();
        let before = client.frames();
        client.fill(&mut self.scratch);
        client.settle(&mut self.places);
        self.answer_frames -= before - client.frames();
        if !self.scratch.is_empty() {
            self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}

impl Service for Aggregator {
    type Peer = AggregatorPeer;

    const TITLE: &'static str = "the aggregator";
    const ROLES: Roles<Self> = Roles { querier: Some(Aggregator::greet_client), ..Roles::NONE };
    const SENDS_BEFORE_TIMERS: bool = true;

    fn connections(&self) -> &Connections<AggregatorPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<AggregatorPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    fn on_frame(&mut self, _now: Now, _conn: ConnId, _frame: &Frame) -> Result<(), Rejection> {
        Err(Rejection::out_of_place())
    }

    fn answered_seq(&self, _peer: &AggregatorPeer) -> Option<Seq> {
        None
    }

    fn sent_seq(_peer: &AggregatorPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, conn: ConnId, id: u32) -> bool {
        matches!(self.connections.peer(conn), Some(AggregatorPeer::Client(client)) if client.has_open(id))
    }

    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Rejection> {
        let taken = self.take_query(now, conn, &question);
        // At once: a STOP in the same read must find the answer where answers wait.
        self.forward(now);
        taken
    }

    fn on_question_stopped(&mut self, now: Now, conn: ConnId, id: u32) {
        self.stop_query(conn, id);
        self.forward(now);
    }

    fn status(&self, now: Now) -> Status {
        let counts = self.gather.counts();
        let mut status = Status::default();
        status.text("role", "aggregator");
        status.metric("in_flight", self.gather.in_flight());
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused());
        status.metric("local_faults", self.connections.local_faults());
        status.metric("answer_frames_waiting", self.answer_frames);
        status.metric("answers_dropped", self.answers_dropped);
        for (name, count) in [
            ("begun", counts.begun),
            ("refused", counts.refused),
            ("complete", counts.complete),
            ("partial", counts.partial),
            ("failed", counts.failed),
            ("abandoned", counts.abandoned),
            ("late", counts.late),
            ("unexpected", counts.unexpected),
            ("asked", counts.asked),
            ("hedged", counts.hedged),
            ("hedges_won", counts.hedges_won),
            ("hedges_denied", counts.hedges_denied),
            ("retried", counts.retried),
            ("failed_over", counts.failed_over),
            ("probed", counts.probed),
            ("silent", self.gather.silent() as u64),
        ] {
            status.metric(format!("gather.{name}"), count);
        }
        self.leaves.describe(now, &mut status);
        status
    }

    fn operate(
        &mut self,
        now: Now,
        breaker: &str,
        action: BreakerAction,
    ) -> Result<Ended, Rejection> {
        if !self.leaves.operate(now, breaker, action) {
            let text = "the aggregator has no breaker of this name";
            return Err(Rejection::new(ErrorCode::NotOwner, text));
        }
        // At once: an operator who opens and resets a breaker wants its connection made anew.
        self.settle(now);
        Ok(Ended::default())
    }

    fn on_dialed(&mut self, now: Now, conn: ConnId, dial: DialId) {
        let Some(index) = self.leaves.index_of(dial) else { return };
        self.leaves.handle_open(now, index, conn);
        self.connections.dialed(conn, AggregatorPeer::Leaf(index));
        let role = Role::Querier as u8;
        self.connections
            .send(conn, Session { role, name: padded("aggregator"), ..Session::default() });
    }

    fn on_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        if let Some(index) = self.leaves.index_of(dial) {
            self.leaves.handle_dial_failed(now, index, failure);
            self.settle(now);
        }
    }

    fn on_dialed_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        if let Some(AggregatorPeer::Leaf(index)) = self.connections.peer(conn) {
            let index = *index;
            self.handle_leaf_frames(now, conn, index, frames);
            self.forward(now);
        }
    }

    fn on_close(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: Option<AggregatorPeer>,
        reason: CloseReason,
    ) {
        match peer {
            Some(AggregatorPeer::Client(mut client)) => {
                client.end(&mut self.places);
                self.answer_frames -= client.frames();
                self.cuts.forget(conn, None);
                self.gather.handle_client_left(client_number(conn));
            }
            Some(AggregatorPeer::Leaf(index)) => {
                self.leaves.handle_close(now, index, conn, reason, &mut self.gather);
                self.cuts.note_lost(conn);
                let name = self.leaves.name(index);
                self.connections.log(Level::Info, format!("the link to {name} ended: {reason}"));
            }
            None => {}
        }
        self.settle(now);
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.leaves.handle_timers(now);
        self.gather.handle_timeout(now.mono);
        for (dial, to, within) in self.leaves.dials_due(now) {
            self.connections.dial(dial, to, within);
        }
        self.settle(now);
    }

    fn on_commit(&mut self, _now: Now) {}

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let cuts = self.cuts.next_deadline();
        [self.gather.next_deadline(), self.leaves.next_deadline(), cuts].into_iter().flatten().min()
    }

    fn may_fill(&self, conn: ConnId) -> bool {
        matches!(self.connections.peer(conn), Some(AggregatorPeer::Client(client)) if client.frames() > 0)
    }

    fn fill(&mut self, _now: Now, conn: ConnId) -> Filled {
        self.refill(conn);
        Filled::Outbox
    }

    fn wants(&self, conn: ConnId) -> bool {
        self.connections.wants_frames(conn)
    }
}

/// The number by which the gather knows a connection. Connections are never given out twice.
fn client_number(conn: ConnId) -> u64 {
    (u64::from(conn.generation) << 32) | u64::from(conn.slot)
}

#[allow(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
fn conn_of(client: u64) -> ConnId {
    ConnId { generation: (client >> 32) as u32, slot: client as u32 }
}

#[cfg(test)]
mod tests;
