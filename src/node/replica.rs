//! A quote replica: follows core's sequence as a broker does, keeps the last values, and answers for the
//! current quotes beside core. What it does not do: keep a log (after a restart core gives it the last
//! values anew), hand anything to subscribers, or call a quote current that it does not know to be.
//!
//! Invariant: a quote goes out without STALE only while core has said that its own values are current,
//! and has been heard within [`limits::REPLICA_SILENCE_MAX`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::quotes::{QuoteDesk, Shelf};
use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, Links, LocalFault, Node, Origin,
    Outgoing,
};
use crate::feed::LastValues;
use crate::limits;
use crate::question::{Question, QuestionError};
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, Definition, ErrorCode, Flags, Frame, Heartbeat, Kind, Op, Query, QueryMore, Refusal, Role,
    Session, Symbol, U16, U32, U64, padded,
};

/// What a replica is configured with.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its name, such as `core.1`.
    pub name: String,
}

/// What a connection is for.
#[derive(Debug)]
enum Peer {
    Unknown,
    Publisher,
    Querier(QuoteDesk),
}

/// The token of our question whether core is still there.
const PROBE_TOKEN: u32 = 1;

/// A quote replica node.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    links: Links<Peer>,
    values: LastValues,
    names: BTreeMap<Symbol, u32>,
    publisher: Option<ConnId>,
    epoch: u32,
    epoch_start: u64,
    /// The next `seq` wanted; 0 = nothing is known, a snapshot is.
    next_seq: u64,
    /// Last values with a seq below this may have been followed by others, which core lost.
    doubtful_below: u64,
    /// What core last said of its own values.
    is_told_live: bool,
    /// When core was last heard.
    heard: Mono,
    next_probe: Mono,
    has_news: bool,
    frames: u64,
    duplicates: u64,
    holes: u64,
    local_faults: u64,
    scratch: Vec<Frame>,
    is_stopped: bool,
}

impl Replica {
    /// A replica that knows nothing yet.
    #[must_use]
    pub fn new(config: ReplicaConfig) -> Replica {
        Replica {
            config,
            links: Links::default(),
            values: LastValues::default(),
            names: BTreeMap::new(),
            publisher: None,
            epoch: 0,
            epoch_start: 0,
            next_seq: 0,
            doubtful_below: 0,
            is_told_live: false,
            heard: Mono::default(),
            next_probe: Mono::default(),
            has_news: false,
            frames: 0,
            duplicates: 0,
            holes: 0,
            local_faults: 0,
            scratch: Vec::new(),
            is_stopped: false,
        }
    }

    /// Whether the last values are known to be current.
    fn is_live(&self, now: Now) -> bool {
        self.publisher.is_some()
            && self.is_told_live
            && now.mono.since(self.heard) < limits::REPLICA_SILENCE_MAX
    }

    fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        let Some(link) = self.links.get_mut(conn) else { return };
        if let Err(error) = frame.check() {
            self.links.refuse_frame(conn, error);
            return;
        }
        match (&mut link.peer, frame.kind()) {
            (Peer::Publisher, Some(kind)) if kind.is_data() => self.take(conn, frame),
            (Peer::Publisher, Some(Kind::Heartbeat)) => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.note_publisher(now, conn, &beat);
                }
            }
            (Peer::Unknown, Some(Kind::Session)) => {
                if let Some(session) = frame.view::<Session>() {
                    let session = *session;
                    self.greet(now, conn, &session);
                }
            }
            (Peer::Unknown, _) => {
                self.links.refuse(conn, ErrorCode::Unexpected, "the first frame must be a SESSION");
            }
            (Peer::Querier(desk), Some(Kind::Query)) => {
                if let Some(query) = frame.view::<Query>()
                    && let Some(whole) = desk.questions.take_query(query)
                {
                    let id = query.id.get();
                    self.handle_question(now, conn, id, whole);
                }
            }
            (Peer::Querier(desk), Some(Kind::QueryMore)) => {
                if let Some(more) = frame.view::<QueryMore>()
                    && let Some(whole) = desk.questions.take_more(more)
                {
                    let id = more.id.get();
                    self.handle_question(now, conn, id, whole);
                }
            }
            (Peer::Querier(desk), Some(Kind::Heartbeat)) if !desk.questions.wants_more() => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.links.answer_heartbeat(now, conn, &beat, self.next_seq);
                }
            }
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    fn greet(&mut self, now: Now, conn: ConnId, session: &Session) {
        let peer = match Role::from_number(session.role) {
            Some(Role::Querier) => Peer::Querier(QuoteDesk::default()),
            Some(Role::Publisher) => {
                self.follow(now, conn, session);
                Peer::Publisher
            }
            _ => {
                self.links.refuse(conn, ErrorCode::Unexpected, "a replica has no such role");
                return;
            }
        };
        self.links.greet(conn, peer);
        self.links.send(
            conn,
            Session {
                source: session.source,
                epoch: U32::new(self.epoch),
                epoch_start: U64::new(self.epoch_start),
                next_seq: U64::new(self.next_seq),
                name: padded(&self.config.name),
                ..Session::default()
            },
        );
    }

    fn follow(&mut self, now: Now, conn: ConnId, session: &Session) {
        let (epoch, start) = (session.epoch.get(), session.epoch_start.get());
        // Where an epoch began that was missed is not known, but it was not before the one known here.
        let missed = epoch.saturating_sub(self.epoch) > 1;
        let start = if missed { start.min(self.epoch_start) } else { start };
        let is_void = epoch != self.epoch && start < self.next_seq;
        // Core never had what is known here, or took it back: begin with its last values.
        if is_void || session.next_seq.get() < self.next_seq {
            self.values = LastValues::default();
            self.names = BTreeMap::new();
            self.doubtful_below = 0;
            self.next_seq = 0;
        }
        self.epoch = epoch;
        self.epoch_start = session.epoch_start.get();
        self.is_told_live = false;
        self.heard = now.mono;
        self.next_probe = now.mono + limits::REPLICA_PROBE_EVERY;
        if let Some(before) = self.publisher.replace(conn) {
            self.links.refuse(before, ErrorCode::Unexpected, "another publisher took over");
        }
        let text = format!("core publishes, epoch {epoch}, from seq {}", self.next_seq);
        self.links.log(Level::Info, text);
    }

    /// A frame of the sequence, or a last value ahead of it.
    fn take(&mut self, conn: ConnId, frame: &Frame) {
        if self.publisher != Some(conn) {
            return;
        }
        let seq = frame.seq.get();
        if !frame.has(Flags::SNAPSHOT) {
            if self.next_seq == 0 || seq == u64::MAX {
                let text = "say where the sequence starts (HEARTBEAT) first";
                self.links.refuse(conn, ErrorCode::Unexpected, text);
                return;
            }
            self.frames += 1;
            self.duplicates += u64::from(seq < self.next_seq);
            if seq > self.next_seq {
                self.holes += 1;
                self.doubtful_below = seq;
            }
            self.next_seq = self.next_seq.max(seq.saturating_add(1));
            self.has_news = true;
        } else if frame.has(Flags::STALE) {
            // Core's own journal lost what may have followed it.
            self.doubtful_below = self.doubtful_below.max(seq.saturating_add(1));
        }
        // What is kept is what core stored; how it goes out is decided when it does.
        let mut stored = *frame;
        stored.flags = U16::new(frame.flags.get() & !Flags::DELIVERY);
        stored.renew_crc();
        self.values.note(&stored);
        if let Some(definition) = stored.view::<Definition>()
            && self.values.symbol(definition.instrument.get()) == Some(definition.symbol)
        {
            self.names.insert(definition.symbol, definition.instrument.get());
        }
    }

    fn note_publisher(&mut self, now: Now, conn: ConnId, beat: &Heartbeat) {
        self.links.answer_heartbeat(now, conn, beat, 0);
        if self.publisher != Some(conn) {
            return;
        }
        if beat.flags.get() & Flags::MORE == 0 {
            self.is_told_live = beat.flags.get() & Flags::STALE == 0;
        }
        let next_seq = beat.next_seq.get();
        if next_seq > self.next_seq && next_seq != u64::MAX {
            if self.next_seq > 0 {
                // Core has sent all that it has of what came before.
                self.doubtful_below = next_seq;
            }
            self.next_seq = next_seq;
            self.has_news = true;
        }
    }

    fn handle_question(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        whole: Result<Question, QuestionError>,
    ) {
        let question = match whole {
            Ok(question) => question,
            Err(error) if error.ends_connection() => {
                self.links.refuse(conn, error.code(), &error.to_string());
                return;
            }
            Err(error) => {
                self.links.send(conn, Refusal::new(error.code(), id, &error.to_string()));
                return;
            }
        };
        let Some(Peer::Querier(desk)) = self.links.peer_mut(conn) else { return };
        let refusal = match question.op() {
            Some(Op::Quote) => desk.ask(now.mono, question, Duration::MAX).err(),
            Some(Op::Stop) => {
                desk.stop(id);
                None
            }
            Some(Op::Status) => {
                self.status(now).send(&mut self.links, conn, id);
                return;
            }
            _ => Some((ErrorCode::NotOwner, "a replica answers for current quotes only")),
        };
        match refusal {
            Some((code, text)) => self.links.send(conn, Refusal::new(code, id, text)),
            None => self.links.mark_dirty(conn),
        }
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        status.text("quotes", if self.is_live(now) { "live" } else { "stale" });
        status.metric("publisher_up", i64::from(self.publisher.is_some()));
        status.metric("epoch", self.epoch);
        status.metric("next_seq", self.next_seq);
        status.metric("instruments", self.values.len());
        status.metric("frames", self.frames);
        status.metric("duplicates", self.duplicates);
        status.metric("holes", self.holes);
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.local_faults);
        status
    }

    /// Asks core whether it is still there: a stopped process keeps its connections.
    fn probe(&mut self, now: Now) {
        let Some(publisher) = self.publisher.filter(|_| self.next_probe <= now.mono) else {
            return;
        };
        self.next_probe = now.mono + limits::REPLICA_PROBE_EVERY;
        let (flags, token) = (U16::new(Flags::MORE), U32::new(PROBE_TOKEN));
        self.links.send(publisher, Heartbeat { flags, token, ..Heartbeat::default() });
    }

    /// Looks again at the questions that wait for their cut.
    fn wake_waiting(&mut self) {
        let is_waiting = |peer: &Peer| matches!(peer, Peer::Querier(desk) if !desk.is_idle());
        let waiting: Vec<ConnId> =
            self.links.iter().filter(|link| is_waiting(&link.peer)).map(|link| link.id()).collect();
        for conn in waiting {
            self.links.mark_dirty(conn);
        }
    }

    /// Puts the next piece of what a connection asked for into its empty outbox.
    fn refill(&mut self, now: Now, conn: ConnId) {
        let provenance = if self.is_live(now) { 0 } else { Flags::STALE };
        self.scratch.clear();
        let Some(Peer::Querier(desk)) = self.links.peer_mut(conn) else { return };
        let shelf = Shelf {
            values: &self.values,
            names: &self.names,
            provenance,
            doubtful_below: self.doubtful_below,
            as_of: self.next_seq,
            durable_seq: 0,
        };
        desk.fill(&shelf, &mut self.scratch);
        if !self.scratch.is_empty() {
            self.links.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}

impl Node for Replica {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.links.insert(now, conn, Peer::Unknown);
    }

    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {}

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.links.heard(now, conn);
        if self.publisher == Some(conn) {
            self.heard = now.mono;
        }
        for frame in frames {
            self.handle_frame(now, conn, frame);
        }
    }

    fn handle_close(&mut self, _now: Now, conn: ConnId, reason: CloseReason) {
        self.links.remove(conn);
        if self.publisher == Some(conn) {
            self.publisher = None;
            self.links.log(Level::Warn, format!("core's feed ended: {reason}"));
        }
    }

    fn handle_local_fault(&mut self, _now: Now, fault: LocalFault) {
        self.local_faults += 1;
        self.links.log(Level::Warn, format!("cannot accept: {}", fault.as_str()));
    }

    fn handle_timers(&mut self, now: Now) {
        self.links.tick(now, |_| 0);
        self.probe(now);
        if self.waited_until().is_some_and(|until| until <= now.mono) {
            for link in self.links.iter_mut() {
                if let Peer::Querier(desk) = &mut link.peer {
                    desk.handle_timeout(now.mono);
                }
            }
            self.wake_waiting();
        }
    }

    fn commit(&mut self, _now: Now) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        if let Some(publisher) = self.publisher {
            let (epoch, accepted_seq) = (U32::new(self.epoch), U64::new(self.next_seq));
            self.links.send(publisher, Ack { epoch, accepted_seq, ..Ack::default() });
        }
        self.wake_waiting();
    }

    fn handle_stop(&mut self, _now: Now) {
        self.links.refuse_all(ErrorCode::Stopping, "the replica stops; come back later");
        self.is_stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn next_deadline(&self) -> Option<Mono> {
        let probe = self.publisher.map(|_| self.next_probe);
        [self.links.next_tick(), probe, self.waited_until()].into_iter().flatten().min()
    }

    fn wants_frames(&self, conn: ConnId) -> bool {
        self.links.wants_frames(conn)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.links.poll_dirty()
    }

    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        if self.links.outbox(conn).is_empty() {
            self.refill(now, conn);
        }
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.links.sent(now, conn, bytes);
    }
}

impl Replica {
    /// When the first question that waits for its cut has waited long enough.
    fn waited_until(&self) -> Option<Mono> {
        let of = |peer: &Peer| match peer {
            Peer::Querier(desk) => desk.next_deadline(),
            _ => None,
        };
        self.links.iter().filter_map(|link| of(&link.peer)).min()
    }
}

#[cfg(test)]
mod tests;
