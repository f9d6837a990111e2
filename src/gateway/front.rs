//! The gateway's side of frames: who asks it for its status, and the nodes that it asks itself, each behind a circuit
//! breaker. What the answers become is not here.

mod pieces;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use self::pieces::Pieces;
pub(super) use self::pieces::{Piece, PieceEnd};
use super::memory::{About, AnswerMemory};
use crate::breaker::{self, Outcome};
use crate::client::{Answer, note_answer};
use crate::limits;
use crate::node::session::{Admission, Filled, Rejection, Roles, Service, Status};
use crate::node::uplink::{OnBreakerOpen, Uplink, UplinkConfig, UplinkEnd};
use crate::node::{CloseReason, ConnId, Connections, DialFailure, DialId, Level};
use crate::question::Question;
use crate::subscription::Symbols;
use crate::time::{Mono, Now, nanos};
use crate::wire::{
    BreakerAction, Ended, ErrorCode, FRAME_BYTES, Flags, Frame, Heartbeat, Op, Query, QueryMore,
    Refusal, Role, Run, Seq, Session, U32, U64, padded, unpadded,
};

/// Dials below belong to the feed.
const DIAL_FIRST: u32 = 3;

/// What a connection of frames is for.
#[derive(Debug)]
pub(crate) enum FrontPeer {
    Querier,
    /// The node of this place.
    Node(usize),
}

/// One question, by the place of the node that was asked and its id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) node: usize,
    pub(super) id: u32,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// There is no connection.
    Away,
    /// Its breaker lets nothing through.
    BreakerOpen,
    /// Too many wait already.
    Busy,
    /// No answer in time.
    Late,
    /// The connection broke.
    Broken,
    /// No memory is left for its answer.
    Full,
}

impl Unanswered {
    pub(super) fn text(self) -> &'static str {
        match self {
            Unanswered::Away => "it cannot be reached",
            Unanswered::BreakerOpen => "its circuit breaker is open",
            Unanswered::Busy => "too many questions wait for it",
            Unanswered::Late => "it did not answer in time",
            Unanswered::Broken => "the connection to it broke",
            Unanswered::Full => "no memory is left for the answer",
        }
    }
}

/// What became of a question.
pub(super) type Outcomes = (Ticket, Result<Answer, Unanswered>);

#[derive(Debug)]
struct Waiting {
    permit: breaker::Permit,
    asked: Mono,
    until: Mono,
    about: About,
    /// Frames that have come for it.
    frames: usize,
}

/// One node that is asked.
#[derive(Debug)]
struct NodeLink {
    name: String,
    uplink: Uplink,
    next_id: u32,
    current: u32,
    answers: BTreeMap<u32, Answer>,
    waiting: BTreeMap<u32, Waiting>,
}

/// The frames' side of the gateway.
#[derive(Debug)]
pub(super) struct Front {
    connections: Connections<FrontPeer>,
    nodes: Vec<NodeLink>,
    /// Names of the instruments in the answers so far.
    pub(super) symbols: Symbols,
    /// What became of questions, and the memory that each answer has.
    done: VecDeque<(Outcomes, usize)>,
    /// What all answers have together.
    pub(super) memory: AnswerMemory,
    /// When each question is late, by the place of its node and its id: a turn looks at the first one only.
    due: BTreeSet<(Mono, usize, u32)>,
    pieces: Pieces,
    /// What this node says about itself, of when it was last asked.
    pub(super) status: Status,
    is_stopping: bool,
}

impl Front {
    pub(super) fn new(
        nodes: &[(String, SocketAddr)],
        breaker: &breaker::Config,
        connect_deadline: Duration,
        seed: u64,
    ) -> Result<Front, breaker::ConfigError> {
        let mut links = Vec::new();
        for (place, (name, address)) in (0_u32..).zip(nodes) {
            let uplink = Uplink::new(UplinkConfig {
                breaker_name: format!("gateway.{name}"),
                address: *address,
                breaker,
                seed: seed.rotate_left(place),
                on_breaker_open: OnBreakerOpen::Drain,
                connect_deadline,
                greeting_deadline: connect_deadline,
            })?;
            links.push(NodeLink {
                name: name.clone(),
                uplink,
                next_id: 1,
                current: 0,
                answers: BTreeMap::new(),
                waiting: BTreeMap::new(),
            });
        }
        let core = links.iter().position(|node| node.name == "core");
        Ok(Front {
            connections: Connections::default(),
            pieces: Pieces::of(core),
            nodes: links,
            symbols: Symbols::default(),
            done: VecDeque::new(),
            memory: AnswerMemory::default(),
            due: BTreeSet::new(),
            status: Status::default(),
            is_stopping: false,
        })
    }

    /// Names of the nodes, by place.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }

    /// The place of a node.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Asks a node. The answer comes by [`Front::poll_answer`].
    pub(super) fn ask(
        &mut self,
        now: Now,
        place: usize,
        mut question: Question,
        deadline: Duration,
    ) -> Result<Ticket, Unanswered> {
        let Some(node) = self.nodes.get_mut(place) else { return Err(Unanswered::Away) };
        let Some(conn) = node.uplink.ready() else {
            let is_open = node.uplink.is_breaker_open();
            return Err(if is_open { Unanswered::BreakerOpen } else { Unanswered::Away });
        };
        let about = match question.query.op == Op::Status as u8 {
            true => About::System,
            false => About::Market,
        };
        if !self.memory.has_room(about) {
            return Err(Unanswered::Full);
        }
        if node.waiting.len() >= limits::GATEWAY_QUESTIONS_MAX {
            return Err(Unanswered::Busy);
        }
        let permit = node.uplink.breaker_mut().try_acquire(now.mono);
        let permit = permit.map_err(|_| Unanswered::BreakerOpen)?;
        let id = node.next_id;
        node.next_id = node.next_id.checked_add(1).unwrap_or(1);
        question.query.id = U32::new(id);
        let deadline_us = u32::try_from(nanos(deadline) / 1_000).unwrap_or(u32::MAX);
        question.query.deadline_us = U32::new(deadline_us);
        node.answers.insert(id, Answer::default());
        let until = now.mono + deadline + limits::ANSWER_GRACE;
        let waiting = Waiting { permit, asked: now.mono, until, about, frames: 0 };
        node.waiting.insert(id, waiting);
        self.due.insert((until, place, id));
        for frame in question.frames() {
            match (frame.view::<Query>(), frame.view::<QueryMore>()) {
                (Some(query), _) => self.connections.send(conn, *query),
                (_, Some(more)) => self.connections.send(conn, *more),
                _ => {}
            }
        }
        Ok(Ticket { node: place, id })
    }

    /// What became of a question that was asked. Its memory is the caller's matter from now on.
    pub(super) fn poll_answer(&mut self) -> Option<Outcomes> {
        let (outcome, bytes) = self.done.pop_front()?;
        self.memory.give_back(bytes);
        Some(outcome)
    }

    /// Whether this connection is of somebody who may ask.
    pub(super) fn is_querier(&self, conn: ConnId) -> bool {
        matches!(self.connections.peer(conn), Some(FrontPeer::Querier))
    }

    /// Whether an answer waits to be taken.
    pub(super) fn has_answers(&self) -> bool {
        !self.done.is_empty()
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        _conn: ConnId,
        _session: &Session,
    ) -> Admission<FrontPeer> {
        let answer = Session { name: padded("gateway"), ..Session::default() };
        Admission::Accepted(FrontPeer::Querier, answer)
    }

    /// The questions of a node end without an answer.
    fn end_all(&mut self, now: Now, place: usize, why: Unanswered, outcome: Option<Outcome>) {
        self.break_piece(now, place, outcome);
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.answers.clear();
        for (id, waiting) in std::mem::take(&mut node.waiting) {
            self.due.remove(&(waiting.until, place, id));
            if let Some(outcome) = outcome {
                node.uplink.breaker_mut().record(waiting.permit, outcome, now.mono);
            }
            self.memory.give_back(waiting.frames * FRAME_BYTES);
            self.done.push_back(((Ticket { node: place, id }, Err(why)), 0));
        }
    }

    /// Questions end whose time is over.
    fn end_late(&mut self, now: Now) {
        while let Some(&(until, place, id)) = self.due.first()
            && until <= now.mono
        {
            self.due.pop_first();
            let Some(node) = self.nodes.get_mut(place) else { continue };
            node.answers.remove(&id);
            if let Some(waiting) = node.waiting.remove(&id) {
                let outcome = Outcome::RequestDeadline;
                node.uplink.breaker_mut().record(waiting.permit, outcome, now.mono);
                self.memory.give_back(waiting.frames * FRAME_BYTES);
            }
            self.done.push_back(((Ticket { node: place, id }, Err(Unanswered::Late)), 0));
        }
    }

    /// No memory is left for the rest of an answer. The node is not to blame: it has answered.
    fn end_full(&mut self, now: Now, place: usize, id: u32) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.answers.remove(&id);
        if let Some(waiting) = node.waiting.remove(&id) {
            self.due.remove(&(waiting.until, place, id));
            let outcome = Outcome::Answered { latency: now.mono.since(waiting.asked) };
            node.uplink.breaker_mut().record(waiting.permit, outcome, now.mono);
            self.memory.give_back(waiting.frames * FRAME_BYTES);
        }
        self.done.push_back(((Ticket { node: place, id }, Err(Unanswered::Full)), 0));
    }

    fn leave(&mut self, now: Now, place: usize, conn: ConnId, text: &str) {
        self.end_all(now, place, Unanswered::Broken, Some(Outcome::ProtocolError));
        let Some(node) = self.nodes.get_mut(place) else { return };
        self.connections.log(Level::Warn, format!("{}: {text}", node.name));
        node.uplink.fail(now, Outcome::ProtocolError);
        self.connections.close_after_flush(conn);
    }

    fn handle_node_frame(&mut self, now: Now, place: usize, conn: ConnId, frame: &Frame) {
        if let Some(beat) = frame.view::<Heartbeat>() {
            self.connections.answer_heartbeat(now, conn, beat, None);
            return;
        }
        let Some(node) = self.nodes.get_mut(place) else { return };
        if let Some(session) = frame.view::<Session>() {
            node.uplink.handle_greeted(now);
            self.pieces.note_session(place, session);
            return;
        }
        if let Some(refusal) = frame.view::<Refusal>().filter(|it| it.id == U32::ZERO) {
            let text = format!("refused: {}", unpadded(&refusal.text));
            self.end_all(now, place, Unanswered::Broken, None);
            let Some(node) = self.nodes.get_mut(place) else { return };
            node.uplink.fail(now, Outcome::Refused);
            self.connections.log(Level::Info, format!("{}: {text}", node.name));
            self.connections.close_after_flush(conn);
            return;
        }
        if let Some(run) = frame.view::<Run>() {
            node.current = run.id.get();
        }
        let id = match (frame.view::<Ended>(), frame.view::<Refusal>()) {
            (Some(end), _) => end.id.get(),
            (_, Some(refusal)) => refusal.id.get(),
            _ => node.current,
        };
        if self.pieces.has(place, id) {
            self.take_piece_frame(now, frame);
            return;
        }
        if let Some(waiting) = node.waiting.get_mut(&id) {
            if waiting.frames >= limits::GATEWAY_ANSWER_FRAMES_MAX {
                self.leave(now, place, conn, "an answer is longer than any may be");
                return;
            }
            if !self.memory.take(FRAME_BYTES, waiting.about) {
                self.end_full(now, place, id);
                return;
            }
            waiting.frames += 1;
        }
        let is_over = note_answer(&mut node.answers, &mut self.symbols, node.current, frame);
        if !is_over {
            return;
        }
        if let (Some(waiting), Some(answer)) = (node.waiting.remove(&id), node.answers.remove(&id))
        {
            self.due.remove(&(waiting.until, place, id));
            let latency = now.mono.since(waiting.asked);
            let outcome = Outcome::Answered { latency };
            node.uplink.breaker_mut().record(waiting.permit, outcome, now.mono);
            let bytes = waiting.frames * FRAME_BYTES;
            self.done.push_back(((Ticket { node: place, id }, Ok(answer)), bytes));
        }
    }

    /// Breakers of all uplinks, and connections.
    pub(super) fn describe(&self, now: Now, status: &mut Status) {
        for node in &self.nodes {
            status.text(format!("link.{}", node.name), node.uplink.state());
            // Of the others nothing is asked but how they are.
            if node.name == "aggregator" {
                node.uplink.describe(now, status);
            }
        }
    }

    pub(super) fn connections_open(&self) -> usize {
        self.connections.len()
    }
}

impl Service for Front {
    type Peer = FrontPeer;

    const TITLE: &'static str = "the gateway";
    const ROLES: Roles<Self> = Roles { querier: Some(Front::greet_querier), ..Roles::NONE };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<FrontPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<FrontPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    fn on_frame(&mut self, _now: Now, _conn: ConnId, _frame: &Frame) -> Result<(), Rejection> {
        Err(Rejection::out_of_place())
    }

    fn answered_seq(&self, _peer: &FrontPeer) -> Option<Seq> {
        None
    }

    fn sent_seq(_peer: &FrontPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn status(&self, now: Now) -> Status {
        let mut status = self.status.clone();
        self.describe(now, &mut status);
        status
    }

    fn operate(
        &mut self,
        now: Now,
        breaker: &str,
        action: BreakerAction,
    ) -> Result<Ended, Rejection> {
        let is_known = self.nodes.iter_mut().any(|node| node.uplink.operate(now, breaker, action));
        match is_known {
            true => Ok(Ended { covered_to: U64::new(u64::MAX), ..Ended::default() }),
            false => Err(Rejection::new(ErrorCode::NotOwner, "the gateway has no such breaker")),
        }
    }

    fn on_dialed(&mut self, now: Now, conn: ConnId, dial: DialId) {
        let place = dial.0.saturating_sub(DIAL_FIRST) as usize;
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.uplink.handle_open(now, conn);
        node.current = 0;
        self.connections.dialed(conn, FrontPeer::Node(place));
        let role = Role::Querier as u8;
        self.connections
            .send(conn, Session { role, name: padded("gateway"), ..Session::default() });
    }

    fn on_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        let place = dial.0.saturating_sub(DIAL_FIRST) as usize;
        if let Some(node) = self.nodes.get_mut(place) {
            node.uplink.handle_dial_failed(now, failure);
        }
    }

    fn on_dialed_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        let Some(&FrontPeer::Node(place)) = self.connections.peer(conn) else { return };
        for frame in frames {
            if self.nodes.get(place).and_then(|node| node.uplink.conn()) != Some(conn) {
                return;
            }
            if let Err(error) = frame.check() {
                self.leave(now, place, conn, &format!("a bad frame: {error}"));
                return;
            }
            if frame.view::<Heartbeat>().is_some_and(|it| it.flags.get() & Flags::MORE == 0) {
                continue;
            }
            self.handle_node_frame(now, place, conn, frame);
        }
    }

    fn on_close(&mut self, now: Now, conn: ConnId, peer: Option<FrontPeer>, reason: CloseReason) {
        let Some(FrontPeer::Node(place)) = peer else { return };
        let Some(node) = self.nodes.get_mut(place) else { return };
        if node.uplink.conn() != Some(conn) {
            return;
        }
        let end = node.uplink.handle_close(now, conn, reason);
        let outcome = match end {
            UplinkEnd::Ready(outcome) if reason != CloseReason::Ours => Some(outcome),
            _ => None,
        };
        self.end_all(now, place, Unanswered::Broken, outcome);
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.end_late(now);
        self.end_late_piece(now);
        let mut closes = Vec::new();
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.uplink.handle_timers(now);
            while let Some((name, change)) = node.uplink.poll_transition() {
                let text =
                    format!("breaker {name}: {} -> {} ({})", change.from, change.to, change.reason);
                self.connections.log(Level::Warn, text);
            }
            let is_idle = node.waiting.is_empty() && !self.pieces.is_busy(place);
            if let Some(close) = node.uplink.poll_close(now, is_idle, true) {
                closes.push((place, close.conn));
            }
            let dial = DialId(DIAL_FIRST + u32::try_from(place).unwrap_or(u32::MAX - DIAL_FIRST));
            if !self.is_stopping
                && let Some((to, within)) = node.uplink.poll_dial(now)
            {
                self.connections.dial(dial, to, within);
            }
        }
        for (place, conn) in closes {
            self.end_all(now, place, Unanswered::Broken, None);
            self.connections.close_after_flush(conn);
        }
    }

    fn on_commit(&mut self, _now: Now) {}

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, _now: Now) {
        self.is_stopping = true;
    }

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let of_uplinks =
            self.nodes.iter().filter_map(|node| node.uplink.next_deadline(!self.is_stopping));
        let of_questions = self.due.first().map(|(until, ..)| *until);
        of_uplinks.chain(of_questions).chain(self.pieces.deadline()).min()
    }

    fn fill(&mut self, _now: Now, _conn: ConnId) -> Filled {
        Filled::Nothing
    }

    fn wants(&self, conn: ConnId) -> bool {
        self.connections.wants_frames(conn)
    }
}
