//! The nodes that the aggregator asks: a kept connection and a breaker each, and what each was asked.
//!
//! A leaf's breaker judges questions and handshakes alike. When it opens while the leaf is connected,
//! the connection is drained: no new question goes out, those under way may end, and with the last of
//! them, or when the breaker's wait is over, the connection is closed. The half-open probe is always
//! the next handshake: the SESSION frame is answered by the process, not by its kernel, and a healed
//! leaf comes back without anybody having to risk a question on it.
//!
//! Invariant: a question stands in the table exactly as long as the gather waits for its answer.
//!
//! # Decisions
//!
//! * The permit of a leaf is taken when a question is sent, not when it is planned. A denial is then one
//!   more failure, and the next copy is asked.
//! * A question that leaves a node less than 20 ms counts against no breaker. The client chooses the time,
//!   and a client that allows microseconds would close all nodes to everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::leaf::{Leaf, LeafFault, OpenQuestion};
use super::{AggregatorConfig, ConnId, DialFailure, DialId, LeafConfig, plan};
use crate::breaker::{ConfigError, Outcome, Permit, Transition};
use crate::gather::{FrameOutcome, Gather, LeafId, PartPlan, Replica, Request};
use crate::histogram::Histogram;
use crate::limits;
use crate::market::partition::Partition;
use crate::node::session::Status;
use crate::node::uplink::{self, OnBreakerOpen, Uplink, UplinkConfig};
use crate::node::{CloseReason, aggregator_breaker_name};
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, Counted, Ended, Flags, Frame, Heartbeat, Kind, NodeStatus, Refusal, Run,
    Session, padded, unpadded,
};

/// All of them: core first, then the shards in order, each with its copies behind it.
#[derive(Debug)]
pub(super) struct Leaves {
    all: Vec<Leaf>,
    partition: Partition,
    /// When a leaf's time for a question is over.
    by_deadline: BTreeSet<(Mono, usize, u32)>,
}

impl Leaves {
    pub(super) fn new(config: &AggregatorConfig) -> Result<Leaves, ConfigError> {
        let mut configs = config.leaves.clone();
        configs.sort_by_key(|leaf| leaf.shard);
        let leaf = |(number, leaf): (u64, LeafConfig)| {
            Ok(Leaf {
                name: padded(&leaf.name),
                uplink: Uplink::new(UplinkConfig {
                    breaker_name: aggregator_breaker_name(&leaf.name),
                    address: leaf.address,
                    breaker: &config.breaker,
                    seed: config.seed ^ number,
                    on_breaker_open: OnBreakerOpen::Drain,
                    connect_deadline: config.connect_deadline,
                    greeting_deadline: config.request_deadline,
                })?,
                config: leaf,
                run: None,
                answered: Histogram::default(),
                questions: BTreeMap::new(),
            })
        };
        Ok(Leaves {
            all: (1..).zip(configs).map(leaf).collect::<Result<_, _>>()?,
            partition: config.partition.clone(),
            by_deadline: BTreeSet::new(),
        })
    }

    pub(super) fn index_of(&self, dial: DialId) -> Option<usize> {
        let index = dial.0 as usize;
        (index < self.all.len()).then_some(index)
    }

    pub(super) fn name(&self, index: usize) -> &str {
        self.all.get(index).map_or("?", |leaf| &leaf.config.name)
    }

    /// The connection of a leaf that can be spoken to.
    pub(super) fn conn(&self, id: LeafId) -> Option<ConnId> {
        self.all.get(id.0 as usize)?.uplink.ready()
    }

    /// Plans a query: a part for the current quotes and one for each shard, with all copies of each.
    pub(super) fn plan(&self, question: &Question) -> Vec<PartPlan> {
        let owners = plan::owners(question, &self.partition);
        let mut parts: Vec<PartPlan> = Vec::with_capacity(self.all.len());
        let mut before = None;
        for (number, leaf) in (0..).zip(&self.all) {
            let shard = leaf.config.shard;
            let replica = Replica {
                leaf: LeafId(number),
                name: leaf.name,
                availability: leaf.availability(),
            };
            // Copies of one part stand together.
            if let Some(part) = parts.last_mut().filter(|_| before == Some(shard)) {
                part.replicas.push(replica);
                continue;
            }
            before = Some(shard);
            let theirs = plan::part(question, &self.partition, owners, shard);
            parts.push(PartPlan {
                replicas: vec![replica],
                is_pruned: theirs.is_none(),
                question: theirs.unwrap_or_else(|| question.clone()),
            });
        }
        parts
    }

    /// The right to ask a leaf one question and where, or why there is none.
    pub(super) fn acquire(&mut self, now: Now, id: LeafId) -> Result<(ConnId, Permit), NodeStatus> {
        self.all.get_mut(id.0 as usize).ok_or(NodeStatus::Refused)?.acquire(now)
    }

    /// Connections of all leaves that can be spoken to.
    pub(super) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.all.iter().filter_map(|leaf| leaf.uplink.ready())
    }

    /// A question has been sent.
    pub(super) fn note_asked(&mut self, now: Now, request: &Request, permit: Permit) {
        let index = request.leaf.0 as usize;
        let Some(leaf) = self.all.get_mut(index) else { return };
        let id = request.id();
        // The time that a leaf waits for a cut is not held against it, nor taken for slowness; nor is what a
        // client has left too little time for, or one that asks with microseconds would shut out everybody.
        let counts_for_breaker = !request.is_ahead
            && request.deadline.since(now.mono) >= limits::LEAF_DEADLINE_COUNTED_MIN;
        let permit = counts_for_breaker.then_some(permit);
        let question = OpenQuestion { permit, asked: now.mono, deadline: request.deadline };
        leaf.questions.insert(id, question);
        self.by_deadline.insert((request.deadline, index, id));
    }

    /// Nobody waits for the answer any more. A permit that has no outcome yet is given back: that the
    /// client left says nothing about the leaf, unless the leaf's time was over before.
    pub(super) fn note_cancelled(&mut self, now: Now, id: LeafId, question: u32) {
        let index = id.0 as usize;
        let Some(waiting) = self.take_question(index, question) else { return };
        let is_over = waiting.deadline <= now.mono;
        if let (Some(leaf), Some(permit)) =
            (self.all.get_mut(index), waiting.permit.filter(|_| is_over))
        {
            leaf.uplink.breaker_mut().record(permit, Outcome::RequestDeadline, now.mono);
        }
    }

    /// Whom to dial now.
    pub(super) fn dials_due(&mut self, now: Now) -> Vec<(DialId, SocketAddr, Duration)> {
        let due = |(number, leaf): (u32, &mut Leaf)| {
            let (to, within) = leaf.uplink.poll_dial(now)?;
            Some((DialId(number), to, within))
        };
        (0..).zip(&mut self.all).filter_map(due).collect()
    }

    pub(super) fn handle_open(&mut self, now: Now, index: usize, conn: ConnId) {
        if let Some(leaf) = self.all.get_mut(index) {
            leaf.uplink.handle_open(now, conn);
        }
    }

    pub(super) fn handle_dial_failed(&mut self, now: Now, index: usize, failure: DialFailure) {
        if let Some(leaf) = self.all.get_mut(index) {
            leaf.uplink.handle_dial_failed(now, failure);
        }
    }

    pub(super) fn handle_close(
        &mut self,
        now: Now,
        index: usize,
        conn: ConnId,
        reason: CloseReason,
        gather: &mut Gather,
    ) {
        let Some(leaf) = self.all.get_mut(index) else { return };
        if let uplink::UplinkEnd::Ready(outcome) = leaf.uplink.handle_close(now, conn, reason) {
            self.lose_connection(now, index, outcome, NodeStatus::Refused, None, gather);
        }
    }

    /// Frames of market data that came together and have passed the checks. An error is a reason to give
    /// the leaf up.
    pub(super) fn handle_rows(
        &mut self,
        now: Now,
        index: usize,
        rows: &[Frame],
        gather: &mut Gather,
    ) -> Result<(), LeafFault> {
        let Some(leaf) = self.all.get_mut(index) else { return Ok(()) };
        if leaf.uplink.ready().is_none() {
            return rows.first().map_or(Ok(()), |row| leaf.handle_greeting(now, row));
        }
        let Some(id) = leaf.run else {
            return Err(LeafFault::unexpected("a row without a RUN before it", None));
        };
        let leaf_id = LeafId(u32::try_from(index).unwrap_or(u32::MAX));
        match gather.handle_rows(leaf_id, id, rows, now.mono) {
            FrameOutcome::Taken | FrameOutcome::Late => Ok(()),
            FrameOutcome::Unexpected => {
                Err(LeafFault::unexpected("a row that answers no question", Some(id)))
            }
        }
    }

    /// Another frame that has passed the checks. As [`Leaves::handle_rows`].
    pub(super) fn handle_frame(
        &mut self,
        now: Now,
        index: usize,
        frame: &Frame,
        gather: &mut Gather,
    ) -> Result<(), LeafFault> {
        let Some(leaf) = self.all.get_mut(index) else { return Ok(()) };
        let leaf_id = LeafId(u32::try_from(index).unwrap_or(u32::MAX));
        if leaf.uplink.ready().is_none() {
            // A cut that it was at before it was away would be an old one.
            if let Some(session) = frame.view::<Session>() {
                gather.note_greeting(leaf_id, session.next_seq());
            }
            return leaf.handle_greeting(now, frame);
        }
        // Rows belong to a RUN until the next control frame.
        leaf.run = None;
        match frame.kind() {
            Some(Kind::Run) => {
                leaf.run = frame.view::<Run>().map(|run| run.id.get());
                Ok(())
            }
            Some(Kind::End) => {
                let Some(end) = frame.view::<Ended>() else { return Ok(()) };
                let id = end.id.get();
                if gather.handle_end(leaf_id, id, end, now.mono) == FrameOutcome::Unexpected {
                    return Err(LeafFault::unexpected("an END inside a bar", Some(id)));
                }
                self.note_answered(now, index, id);
                Ok(())
            }
            Some(Kind::Error) => {
                let Some(refusal) = frame.view::<Refusal>() else { return Ok(()) };
                let id = refusal.id.get();
                if id == 0 {
                    return Err(LeafFault::Refused { text: unpadded(&refusal.text) });
                }
                // Late or not, the machine has counted it.
                let _ = gather.handle_refusal(leaf_id, id, refusal, now.mono);
                self.note_answered(now, index, id);
                Ok(())
            }
            Some(Kind::Counted) => {
                let Some(counted) = frame.view::<Counted>() else { return Ok(()) };
                let id = counted.id.get();
                match gather.handle_rows(leaf_id, id, std::slice::from_ref(frame), now.mono) {
                    FrameOutcome::Taken | FrameOutcome::Late => Ok(()),
                    FrameOutcome::Unexpected => {
                        Err(LeafFault::unexpected("a count that answers no question", Some(id)))
                    }
                }
            }
            Some(Kind::Heartbeat) => {
                let Some(beat) = frame.view::<Heartbeat>() else { return Ok(()) };
                match frame.has(Flags::STALE) {
                    true => gather.note_old_place(now.mono, leaf_id, beat.next_seq()),
                    false => gather.note_as_of(now.mono, leaf_id, beat.next_seq()),
                }
                Ok(())
            }
            _ => Err(LeafFault::unexpected("a leaf may not send this", None)),
        }
    }

    /// Gives a leaf's connection up: the caller closes it.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        index: usize,
        fault: &LeafFault,
        gather: &mut Gather,
    ) {
        let Some(leaf) = self.all.get_mut(index) else { return };
        let (of_greeting, of_question, status, blamed) = match fault {
            LeafFault::Protocol { blamed, .. } => {
                (Outcome::ProtocolError, Outcome::ProtocolError, NodeStatus::Failed, *blamed)
            }
            LeafFault::Refused { .. } => {
                (Outcome::Refused, Outcome::Reset, NodeStatus::Refused, None)
            }
        };
        if let uplink::UplinkEnd::Ready(_) = leaf.uplink.give_up(now, of_greeting) {
            self.lose_connection(now, index, of_question, status, blamed, gather);
        }
    }

    /// Does what has become due, ahead of the gather's own timeouts.
    pub(super) fn handle_timers(&mut self, now: Now) {
        while let Some(&(deadline, index, id)) = self.by_deadline.first() {
            if deadline > now.mono {
                break;
            }
            self.by_deadline.pop_first();
            let Some(leaf) = self.all.get_mut(index) else { continue };
            let permit = leaf.questions.get_mut(&id).and_then(|question| question.permit.take());
            if let Some(permit) = permit {
                leaf.uplink.breaker_mut().record(permit, Outcome::RequestDeadline, now.mono);
            }
        }
        for leaf in &mut self.all {
            leaf.uplink.handle_timers(now);
        }
    }

    /// Connections to close now, and why: leaves that did not answer our SESSION in time, and those
    /// whose breaker wants a new handshake (see the module).
    pub(super) fn closes_due(
        &mut self,
        now: Now,
        gather: &mut Gather,
    ) -> Vec<(ConnId, &'static str)> {
        let mut due = Vec::new();
        for index in 0..self.all.len() {
            let Some(leaf) = self.all.get_mut(index) else { continue };
            let is_idle = leaf.questions.is_empty();
            let Some(close) = leaf.uplink.poll_close(now, is_idle, true) else { continue };
            due.push((close.conn, close.text));
            if let uplink::UplinkEnd::Ready(outcome) = close.end {
                self.end_questions(now, index, outcome, NodeStatus::Timeout, None, gather);
            }
        }
        due
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let of_question = self.by_deadline.first().map(|(deadline, _, _)| *deadline);
        self.all.iter().filter_map(|leaf| leaf.uplink.next_deadline(true)).chain(of_question).min()
    }

    pub(super) fn poll_transition(&mut self) -> Option<(String, Transition)> {
        self.all.iter_mut().find_map(|leaf| {
            let (name, change) = leaf.uplink.poll_transition()?;
            Some((name.to_owned(), change))
        })
    }

    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        for leaf in &self.all {
            let name = &leaf.config.name;
            status.text(name.clone(), leaf.uplink.state());
            status.metric(format!("{name}.questions"), leaf.questions.len());
            status.histogram(&format!("{name}.gather_us"), &leaf.answered);
            leaf.uplink.describe(now, status);
        }
    }

    /// Does what an operator wants, if there is a breaker of this name.
    pub(super) fn operate(&mut self, now: Now, name: &str, action: BreakerAction) -> bool {
        self.all.iter_mut().any(|leaf| leaf.uplink.operate(now, name, action))
    }

    #[cfg(test)]
    pub(super) fn has_no_questions(&self) -> bool {
        self.by_deadline.is_empty() && self.all.iter().all(|leaf| leaf.questions.is_empty())
    }

    fn take_question(&mut self, index: usize, id: u32) -> Option<OpenQuestion> {
        let question = self.all.get_mut(index)?.questions.remove(&id)?;
        self.by_deadline.remove(&(question.deadline, index, id));
        Some(question)
    }

    /// A question has its END or its refusal: either is an answer of a healthy node, unless it is late.
    fn note_answered(&mut self, now: Now, index: usize, id: u32) {
        let Some(question) = self.take_question(index, id) else { return };
        if let Some(leaf) = self.all.get_mut(index) {
            leaf.answered.note(now.mono.since(question.asked));
        }
        let Some(permit) = question.permit else { return };
        let outcome = if now.mono < question.deadline {
            Outcome::Answered { latency: now.mono.since(question.asked) }
        } else {
            Outcome::RequestDeadline
        };
        self.all[index].uplink.breaker_mut().record(permit, outcome, now.mono);
    }

    /// A standing connection has ended by the leaf's fault: its breaker hears of it once for each
    /// question that was under way, or once when there was none.
    fn lose_connection(
        &mut self,
        now: Now,
        index: usize,
        outcome: Outcome,
        status: NodeStatus,
        blamed: Option<u32>,
        gather: &mut Gather,
    ) {
        let counts_for_breaker = self.end_questions(now, index, outcome, status, blamed, gather);
        if let Some(leaf) = self.all.get_mut(index).filter(|_| !counts_for_breaker) {
            leaf.uplink.breaker_mut().observe(outcome, now.mono);
        }
    }

    /// Ends all questions of a leaf, and says whether the breaker got an outcome.
    fn end_questions(
        &mut self,
        now: Now,
        index: usize,
        outcome: Outcome,
        status: NodeStatus,
        blamed: Option<u32>,
        gather: &mut Gather,
    ) -> bool {
        let Some(leaf) = self.all.get_mut(index) else { return false };
        let leaf_id = LeafId(u32::try_from(index).unwrap_or(u32::MAX));
        let mut counts_for_breaker = false;
        for (id, question) in std::mem::take(&mut leaf.questions) {
            self.by_deadline.remove(&(question.deadline, index, id));
            if let Some(permit) = question.permit {
                leaf.uplink.breaker_mut().record(permit, outcome, now.mono);
                counts_for_breaker = true;
            }
            if blamed != Some(id) {
                // Every question in the table is open in the gather, so this is taken.
                let _ = gather.handle_request_failed(leaf_id, id, status, now.mono);
            }
        }
        counts_for_breaker
    }
}
