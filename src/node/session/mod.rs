//! The session layer: what every node does with its connections, once for all of them.
//!
//! It stands between the shell and what a node is about. It cuts bytes into frames and checks them, greets
//! peers (`admission`), answers heartbeats and misses silent peers (`connections`), puts questions together out of
//! their frames, answers STATUS, STOP, BREAKER and CHAOS, refuses, and closes behind the last frame. A node
//! implements [`Service`] and keeps what only it does: its roles, its data, its answers, what it commits and
//! what it sends next. Every [`Service`] is a [`Node`].
//!
//! Not here: connections that a node dials (see [`crate::node::uplink`]); their frames go to the node as
//! they come, because there the node is the one who asks.
//!
//! # Decisions
//!
//! * A refused query ends with ERROR and an answered one with END. One node never sends both for one query,
//!   so a reader that counts ends counts each query once. The exception is a mistake of the reader: an id that
//!   is still open is refused, and the query that has it goes on.
//! * A heartbeat is answered when it arrives, also where frames before it wait for room. It says that the node
//!   lives; that frames were taken in is what ACK says.

mod admission;
mod connections;
mod log_report;
mod round;
mod seat;
mod shares;
mod status;
mod work;

use std::time::Duration;

pub(crate) use crate::question::Rejection;
pub(crate) use admission::{Admission, Permission, Roles, authorize};
pub use connections::{Connection, Connections};
pub(crate) use log_report::{describe_log, report_log};
pub use round::Round;
pub(crate) use seat::Seat;
pub(crate) use shares::{Address, Principal, Shares, may_take};
pub(crate) use status::Status;
pub use work::{Work, WorkSpent};

use super::codec::{self, Codec};
use super::{Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing};
use crate::question::{Question, QuestionError};
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, ChaosAction, EndStatus, Ended, ErrorCode, FRAME_BYTES, FeedStatus, Frame,
    Heartbeat, Kind, Op, Query, QueryMore, Refusal, Seq, Session, unpadded,
};

/// Where the bytes are that a connection is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Nowhere: there is nothing to send.
    Nothing,
    /// In its outbox, unless that is empty.
    Outbox,
    /// In the node's own memory: [`Service::lent`] shows them.
    Lent,
}

/// What a node is about, above the session layer.
pub(crate) trait Service: Sized {
    /// What a connection is for, once that is known.
    type Peer;

    /// The node's name in sentences to peers, such as `the broker`.
    const TITLE: &'static str;
    /// Who may come, and what greets them.
    const ROLES: Roles<Self>;
    /// See [`Node::sends_before_timers`].
    const SENDS_BEFORE_TIMERS: bool;

    /// The node's connections.
    fn connections(&self) -> &Connections<Self::Peer>;

    /// The same, to change them.
    fn connections_mut(&mut self) -> &mut Connections<Self::Peer>;

    /// Frames arrived: so many, on this connection. They are not checked yet.
    fn on_arrival(&mut self, now: Now, conn: ConnId, frames: usize);

    /// A peer was let in that this node answers itself ([`Admission::Pending`]).
    fn on_greeted(&mut self, now: Now, conn: ConnId, session: &Session) {
        let (_, _) = (now, session);
        debug_assert!(false, "{} answers at once", Self::TITLE);
        self.connections_mut().refuse(conn, ErrorCode::Failed, "no answer to SESSION");
    }

    /// A frame, checked, of a greeted peer, which is no question. The session layer has answered it already
    /// if it was a heartbeat.
    ///
    /// # Errors
    /// Why the connection is refused.
    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection>;

    /// Whether heartbeats of this peer are answered here; if not, the node answers them itself.
    fn is_answered_here(_peer: &Self::Peer) -> bool {
        true
    }

    /// The `seq` that the answer to a heartbeat of this peer states; `None`: it is sent no sequence.
    fn answered_seq(&self, peer: &Self::Peer) -> Option<Seq>;

    /// Whether the node knows that it has all that core has, as it states it beside that `seq`.
    fn answered_status(&self, _now: Now) -> FeedStatus {
        FeedStatus::Current
    }

    /// The `seq` that heartbeats to this peer state; `None`: it is sent no sequence.
    fn sent_seq(peer: &Self::Peer) -> Option<Seq>;

    /// Whether a question of this peer with this id is open.
    fn has_open(&self, conn: ConnId, id: u32) -> bool;

    /// A whole question, other than STATUS, STOP, BREAKER and CHAOS. Its id is neither 0 nor open.
    ///
    /// # Errors
    /// Why it is not answered.
    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Rejection> {
        let (_, _, _) = (now, conn, question);
        let text = format!("{} answers status queries only", Self::TITLE);
        Err(Rejection::new(ErrorCode::Unexpected, text))
    }

    /// The peer does not want the answer any more.
    fn on_question_stopped(&mut self, now: Now, conn: ConnId, id: u32);

    /// What the node says about itself.
    fn status(&self, now: Now) -> Status;

    /// Does what an operator wants of a breaker; the parts of the END frame that say how far the node is.
    ///
    /// # Errors
    /// When there is no breaker of this name.
    fn operate(
        &mut self,
        now: Now,
        breaker: &str,
        action: BreakerAction,
    ) -> Result<Ended, Rejection> {
        let (_, _, _) = (now, breaker, action);
        let text = format!("{} has no breaker of this name", Self::TITLE);
        Err(Rejection::new(ErrorCode::NotOwner, text))
    }

    /// Misbehaves from now on as an operator wants.
    ///
    /// # Errors
    /// When this node never misbehaves, or may not be told to.
    fn misbehave(&mut self, action: ChaosAction) -> Result<(), Rejection> {
        let _ = action;
        let text = format!("{} never misbehaves on purpose", Self::TITLE);
        Err(Rejection::new(ErrorCode::NotOwner, text))
    }

    /// A dial came through. The node calls [`Connections::dialed`] and sends the first frame.
    fn on_dialed(&mut self, now: Now, conn: ConnId, dial: DialId) {
        let (_, _) = (now, dial);
        debug_assert!(false, "{} dials nobody", Self::TITLE);
        self.connections_mut().close_after_flush(conn);
    }

    /// A dial failed.
    fn on_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        let (_, _, _) = (now, dial, failure);
        debug_assert!(false, "{} dials nobody", Self::TITLE);
    }

    /// Frames, unchecked, of a connection that this node dialed.
    fn on_dialed_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        let (_, _) = (now, frames);
        debug_assert!(false, "{} dials nobody", Self::TITLE);
        self.connections_mut().close_after_flush(conn);
    }

    /// A peer that was to introduce itself again refuses instead.
    fn on_refusal(&mut self, conn: ConnId, refusal: &Refusal) {
        let (_, _) = (conn, refusal);
    }

    /// A connection is over. `peer` is what it was for, unless nobody knew that yet.
    fn on_close(&mut self, now: Now, conn: ConnId, peer: Option<Self::Peer>, reason: CloseReason);

    /// See [`Node::handle_storage`].
    fn on_storage(&mut self, now: Now);

    /// See [`Node::handle_mail`].
    fn on_turn_begin(&mut self, now: Now);

    /// See [`Node::handle_timers`]. Heartbeats and silence are looked after already.
    fn on_timers(&mut self, now: Now);

    /// See [`Node::commit`].
    fn on_commit(&mut self, now: Now);

    /// See [`Node::proceed`].
    fn on_proceed(&mut self, now: Now);

    /// The node ends. Every peer has been refused; what must survive is handed over now.
    fn on_stop(&mut self, now: Now);

    /// See [`Node::failure`].
    fn failed(&self) -> Option<&str>;

    /// When [`Service::on_timers`] must be called at the latest.
    fn next_due(&self) -> Option<Mono>;

    /// Puts what comes next for a connection into its empty outbox ([`Connections::fill`]), or lends it.
    fn fill(&mut self, now: Now, conn: ConnId) -> Filled;

    /// Whether [`Service::fill`] may have something for a connection whose outbox has been sent. A node that
    /// knows saves a look for each answer.
    fn may_fill(&self, conn: ConnId) -> bool {
        let _ = conn;
        true
    }

    /// What [`Service::fill`] said that it lends.
    fn lent(&self, conn: ConnId) -> Outgoing<'_> {
        let _ = conn;
        debug_assert!(false, "{} lends nothing", Self::TITLE);
        Outgoing::default()
    }

    /// So many bytes of what was lent have left. Whether there may be more to send now.
    fn on_lent_sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        let (_, _) = (conn, bytes);
        debug_assert!(false, "{} lends nothing", Self::TITLE);
        false
    }

    /// See [`Timed::handle_turn_end`]. The length is counted already.
    fn on_turn_end(&mut self, now: Now, length: Duration) {
        // Most nodes measure nothing else.
        let (_, _) = (now, length);
    }

    /// See [`Node::wants_bytes`]. Most nodes read no more of a peer that does not read its answers
    /// ([`Connections::wants_frames`]).
    fn wants(&self, conn: ConnId) -> bool;

    /// See [`Node::poll_wake`].
    fn next_wake(&mut self) -> Option<usize> {
        // Most nodes have one reactor.
        None
    }
}

/// What a peer is told for whom no descriptor is left.
const NO_DESCRIPTOR: &str = "no free descriptor for you here";

impl<S: Service> Node for S {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        match origin {
            Origin::Accepted(_, peer) | Origin::HandedOver(peer) => {
                self.connections_mut().insert_from(now, conn, peer);
            }
            Origin::Surplus(_) => {
                let connections = self.connections_mut();
                connections.insert(now, conn);
                connections.refuse(conn, ErrorCode::Limit, NO_DESCRIPTOR);
            }
            Origin::Dialed(dial) => {
                self.connections_mut().insert_dialed(now, conn);
                Service::on_dialed(self, now, conn, dial);
            }
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        if let DialFailure::Local(fault) = failure {
            self.connections_mut().note_local_fault(now, "dial", fault);
        }
        Service::on_dial_failed(self, now, dial, failure);
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        let (frames, consumed) = codec::Frames::split(bytes);
        if frames.is_empty() {
            return 0;
        }
        let is_dialed = self.connections_mut().heard(now, conn);
        self.on_arrival(now, conn, frames.len());
        if is_dialed {
            self.on_dialed_frames(now, conn, frames);
            return consumed;
        }
        for (index, frame) in frames.iter().enumerate() {
            if handle_frame(self, now, conn, frame) == Handled::NotHere {
                return index * FRAME_BYTES;
            }
        }
        consumed
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        let peer = self.connections_mut().remove(conn);
        Service::on_close(self, now, conn, peer, reason);
    }

    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.connections_mut().note_local_fault(now, "accept", fault);
    }

    fn handle_storage(&mut self, now: Now) {
        Service::on_storage(self, now);
    }

    fn handle_mail(&mut self, now: Now) {
        self.connections_mut().begin_turn();
        Service::on_turn_begin(self, now);
    }

    fn sends_before_timers(&self) -> bool {
        S::SENDS_BEFORE_TIMERS
    }

    fn handle_timers(&mut self, now: Now) {
        if self.connections().is_stopped() {
            return;
        }
        Service::on_timers(self, now);
        self.connections_mut().tick(now, S::sent_seq);
    }

    fn commit(&mut self, now: Now) {
        Service::on_commit(self, now);
    }

    fn proceed(&mut self, now: Now) {
        Service::on_proceed(self, now);
    }

    fn handle_stop(&mut self, now: Now) {
        let text = format!("{} stops; come back later", S::TITLE);
        self.connections_mut().refuse_all(ErrorCode::Stopping, &text);
        Service::on_stop(self, now);
        self.connections_mut().stop();
    }

    fn is_stopped(&self) -> bool {
        self.connections().is_stopped()
    }

    fn failure(&self) -> Option<&str> {
        Service::failed(self)
    }

    fn next_deadline(&self) -> Option<Mono> {
        if self.connections().is_stopped() {
            return None;
        }
        self.connections().next_tick().into_iter().chain(Service::next_due(self)).min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.connections_mut().poll_action()
    }

    fn poll_wake(&mut self) -> Option<usize> {
        Service::next_wake(self)
    }

    #[inline]
    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.connections_mut().poll_dirty()
    }

    fn poll_bulk(&mut self) -> Option<ConnId> {
        self.connections_mut().poll_bulk()
    }

    fn has_bulk(&self) -> bool {
        self.connections().has_bulk()
    }

    fn put_off(&mut self, conn: ConnId) -> bool {
        let is_bulk = self.connections().is_bulk(conn);
        if is_bulk {
            self.connections_mut().mark_dirty(conn);
        }
        is_bulk
    }

    #[inline]
    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        if self.connections().outbox(conn).is_empty() {
            match self.fill(now, conn) {
                Filled::Nothing => return Outgoing::default(),
                Filled::Lent => return self.lent(conn),
                Filled::Outbox => {}
            }
        }
        Outgoing::one(self.connections().outbox(conn))
    }

    #[inline]
    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        match self.connections_mut().sent(now, conn, bytes) {
            connections::Sent::Elsewhere => self.on_lent_sent(conn, bytes),
            connections::Sent::Outbox => self.may_fill(conn),
        }
    }

    fn wants_bytes(&self, conn: ConnId) -> bool {
        Service::wants(self, conn)
    }

    fn is_source(&self, conn: ConnId) -> bool {
        self.connections().is_source(conn)
    }
}

impl<S: Service> super::Timed for S {
    #[inline]
    fn handle_turn_end(&mut self, now: Now, length: Duration) {
        self.connections_mut().note_turn(length);
        self.on_turn_end(now, length);
    }
}

/// A node that can say how it is without being asked by a frame.
pub(crate) trait Described {
    /// What it answers to a status query.
    fn described(&self, now: Now) -> Status;

    /// Other machines reach it, as the text says.
    fn expose(&mut self, text: String);
}

impl<S: Service> Described for S {
    fn described(&self, now: Now) -> Status {
        let mut status = self.status(now);
        self.connections().describe(&mut status);
        status
    }

    fn expose(&mut self, text: String) {
        self.connections_mut().expose(text);
    }
}

/// Whether a frame was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    Here,
    /// The connection goes to another reactor, and this frame with it.
    NotHere,
}

/// A frame of a peer that connected to us.
fn handle_frame<S: Service>(service: &mut S, now: Now, conn: ConnId, frame: &Frame) -> Handled {
    let Some(connection) = service.connections().get(conn) else { return Handled::Here };
    let (is_greeted, asks) = (connection.is_greeted(), connection.asks());
    if let Err(error) = frame.check() {
        service.connections_mut().refuse(conn, ErrorCode::BadFrame, &error.to_string());
        return Handled::Here;
    }
    if !is_greeted {
        return match frame.view::<Session>() {
            Some(session) => admission::greet(service, now, conn, session),
            None if frame.kind() == Some(Kind::Error) => {
                // What was answered to its SESSION does not do for it.
                if let Some(refusal) = frame.view::<Refusal>() {
                    service.on_refusal(conn, refusal);
                }
                service.connections_mut().close_after_flush(conn);
                Handled::Here
            }
            None => {
                let text = "the first frame must be a SESSION";
                service.connections_mut().refuse(conn, ErrorCode::Unexpected, text);
                Handled::Here
            }
        };
    }
    // Most frames from who does not ask are market data, and mean something to the service only.
    if (asks || !frame.is_market_data()) && handle_control(service, now, conn, frame, asks) {
        return Handled::Here;
    }
    if let Err(rejection) = service.on_frame(now, conn, frame) {
        service.connections_mut().refuse(conn, rejection.code, &rejection.text);
    }
    Handled::Here
}

/// What a frame means in any session, whatever the service. Whether that was all.
fn handle_control<S: Service>(
    service: &mut S,
    now: Now,
    conn: ConnId,
    frame: &Frame,
    asks: bool,
) -> bool {
    if frame.view::<Refusal>().is_some_and(|refusal| refusal.id.get() == 0) {
        // It speaks of the connection, and its sender closes: there is nobody to answer.
        service.connections_mut().refuse_frame(conn, frame, "a peer refuses");
        return true;
    }
    if asks && handle_question_frame(service, now, conn, frame) {
        return true;
    }
    if let Some(beat) = frame.view::<Heartbeat>() {
        answer_heartbeat(service, now, conn, beat);
        return asks;
    }
    false
}

fn answer_heartbeat<S: Service>(service: &mut S, now: Now, conn: ConnId, beat: &Heartbeat) {
    let peer = service.connections().get(conn).and_then(Connection::peer);
    if let Some(peer) = peer.filter(|peer| S::is_answered_here(peer)) {
        let seq = service.answered_seq(peer);
        let status = if seq.is_some() { service.answered_status(now) } else { FeedStatus::Current };
        service.connections_mut().answer_heartbeat_as(now, conn, beat, seq, status);
    }
}

/// A frame of somebody who asks. Whether it belonged to a question.
fn handle_question_frame<S: Service>(
    service: &mut S,
    now: Now,
    conn: ConnId,
    frame: &Frame,
) -> bool {
    let Some(connection) = service.connections_mut().get_mut(conn) else { return true };
    let (id, whole) = if let Some(query) = frame.view::<Query>() {
        (query.id.get(), connection.questions.take_query(query))
    } else if let Some(more) = frame.view::<QueryMore>() {
        (more.id.get(), connection.questions.take_more(more))
    } else if connection.questions.wants_more() {
        (0, Some(Err(QuestionError::Broken)))
    } else {
        return false;
    };
    let connections = service.connections_mut();
    match whole {
        Some(Err(error)) if error.ends_connection() => {
            connections.refuse(conn, error.code(), &error.to_string());
        }
        // A refusal with id 0 speaks of the connection, so the connection ends with it.
        _ if id == 0 => connections.refuse(conn, ErrorCode::Unexpected, "a query's id is not 0"),
        None => {}
        Some(Err(error)) => {
            connections.send(conn, Refusal::new(error.code(), id, &error.to_string()))
        }
        Some(Ok(question)) => {
            if let Err(rejection) = handle_question(service, now, conn, question) {
                let refusal = Refusal::new(rejection.code, id, &rejection.text);
                service.connections_mut().send(conn, refusal);
            }
        }
    }
    true
}

fn handle_question<S: Service>(
    service: &mut S,
    now: Now,
    conn: ConnId,
    question: Question,
) -> Result<(), Rejection> {
    let id = question.query.id;
    if question.op() == Some(Op::Stop) {
        service.on_question_stopped(now, conn, id.get());
        return Ok(());
    }
    if service.has_open(conn, id.get()) {
        return Err(Rejection::new(ErrorCode::Unexpected, "a query with this id is in flight"));
    }
    match question.op() {
        Some(Op::Status) => {
            let status = service.described(now);
            status.send(service.connections_mut(), conn, id.get());
            Ok(())
        }
        Some(Op::Breaker) => {
            let action = BreakerAction::from_limit(question.query.limit).ok_or_else(|| {
                Rejection::new(ErrorCode::Unexpected, "no such action on a breaker")
            })?;
            authorize(S::TITLE, Permission::Operate(action))?;
            let end = service.operate(now, &unpadded(&question.query.symbol), action)?;
            let status = EndStatus::Complete as u8;
            service.connections_mut().send(conn, Ended { id, status, ..end });
            Ok(())
        }
        Some(Op::Chaos) => {
            let action = ChaosAction::from_limit(question.query.limit)
                .ok_or_else(|| Rejection::new(ErrorCode::Unexpected, "no such misbehaviour"))?;
            authorize(S::TITLE, Permission::Misbehave(action))?;
            service.misbehave(action)?;
            let status = EndStatus::Complete as u8;
            service.connections_mut().send(conn, Ended { id, status, ..Ended::default() });
            Ok(())
        }
        _ => service.on_question(now, conn, question),
    }
}
