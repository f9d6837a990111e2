//! The broker: takes sequences from publishers and hands them to subscribers, each through its own
//! cursor on one ring per source. What it does not do: keep history (a cursor that fell out of the
//! ring is told so by a GAP frame) or wait for anybody.

mod source;
mod subscriber;

use std::collections::BTreeSet;

use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, Links, LocalFault, Node, Origin,
    Outgoing,
};
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, Flags, Frame, Heartbeat, Kind, Op, Query, Refusal, Role, Session, Subscribe,
    U32, U64, padded,
};

use source::Source;
use subscriber::{Filled, Subscriber};

/// What the broker is configured with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Frames held per source, a power of two.
    pub ring_frames: usize,
    /// Subscribers at once.
    pub subscribers_max: usize,
}

/// What a connection is for.
#[derive(Debug)]
enum Peer {
    /// Has not said it yet.
    Unknown,
    Publisher {
        source: u8,
    },
    Subscriber(Subscriber),
    Querier,
}

/// The broker node.
#[derive(Debug)]
pub struct Broker {
    config: BrokerConfig,
    links: Links<Peer>,
    sources: Vec<Option<Source>>,
    subscribers: usize,
    /// When the next batch of each conflating subscriber is due.
    conflating: BTreeSet<(Mono, ConnId)>,
    /// Frames gathered for one subscriber; kept to save the allocation.
    scratch: Vec<Frame>,
    local_faults: u64,
    is_stopped: bool,
}

impl Broker {
    /// A broker that knows nothing yet.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Broker {
        let sources = (0..limits::SOURCES_MAX).map(|_| None).collect();
        Broker {
            config,
            links: Links::default(),
            sources,
            subscribers: 0,
            conflating: BTreeSet::new(),
            scratch: Vec::new(),
            local_faults: 0,
            is_stopped: false,
        }
    }

    fn source_mut(&mut self, source: u8) -> Option<&mut Source> {
        let place = self.sources.get_mut(usize::from(source))?;
        Some(place.get_or_insert_with(Source::default))
    }

    fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        let Some(link) = self.links.get_mut(conn) else { return };
        if let Err(error) = frame.check() {
            self.links.refuse_frame(conn, error);
            return;
        }
        let kind = frame.kind();
        match (&mut link.peer, kind) {
            (Peer::Publisher { source }, Some(kind)) if kind.is_data() => {
                let source = *source;
                self.publish(conn, source, frame);
            }
            (Peer::Unknown, Some(Kind::Session)) => {
                if let Some(session) = frame.view::<Session>() {
                    let session = *session;
                    self.handle_session(conn, &session);
                }
            }
            (Peer::Unknown, _) => {
                self.links.refuse(conn, ErrorCode::Unexpected, "the first frame must be a SESSION");
            }
            (peer, Some(Kind::Heartbeat)) => {
                let (publishes, next_seq) = match peer {
                    Peer::Publisher { source } => (Some(*source), 0),
                    // Who hears only frames of others learns that nothing of its own was missed.
                    Peer::Subscriber(subscriber) => (None, subscriber.cursor()),
                    _ => (None, 0),
                };
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.links.answer_heartbeat(now, conn, &beat, next_seq);
                    if let Some(source) = publishes {
                        self.note_publisher_at(conn, source, &beat);
                    }
                }
            }
            (Peer::Subscriber(_), Some(Kind::Subscribe)) => {
                if let Some(subscribe) = frame.view::<Subscribe>() {
                    let subscribe = *subscribe;
                    self.handle_subscribe(now, conn, &subscribe);
                }
            }
            (Peer::Querier, Some(Kind::Query)) => {
                if let Some(query) = frame.view::<Query>() {
                    let query = *query;
                    self.handle_query(conn, &query);
                }
            }
            (Peer::Subscriber(_), Some(kind)) if kind.is_data() => {
                self.links.refuse(conn, ErrorCode::Unexpected, "subscribers do not publish");
            }
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    fn handle_session(&mut self, conn: ConnId, session: &Session) {
        let mut answer =
            Session { source: session.source, name: padded("broker"), ..Session::default() };
        let peer = match Role::from_number(session.role) {
            Some(Role::Subscriber) => {
                if self.subscribers >= self.config.subscribers_max {
                    self.links.refuse(conn, ErrorCode::Limit, "all subscriber places are taken");
                    return;
                }
                self.subscribers += 1;
                Peer::Subscriber(Subscriber::default())
            }
            Some(Role::Querier) => Peer::Querier,
            Some(Role::Publisher) => {
                let number = session.source;
                let Some(source) = self.source_mut(number) else {
                    self.links.refuse(conn, ErrorCode::Limit, "source numbers are 0 to 7");
                    return;
                };
                let epoch_before = source.epoch;
                let previous = source.begin_session(conn, session);
                let is_new_epoch = source.epoch != epoch_before;
                answer.epoch = U32::new(source.epoch);
                answer.epoch_start = U64::new(source.epoch_start);
                answer.next_seq = U64::new(source.wanted_seq());
                if let Some(previous) = previous {
                    self.links.refuse(
                        previous,
                        ErrorCode::Unexpected,
                        "another publisher took over",
                    );
                }
                if is_new_epoch {
                    self.tell_epoch(number);
                }
                self.links.log(
                    Level::Info,
                    format!("publisher of source {number} connected, epoch {}", session.epoch),
                );
                Peer::Publisher { source: number }
            }
            _ => {
                self.links.refuse(conn, ErrorCode::Unexpected, "the broker has no such role");
                return;
            }
        };
        self.links.greet(conn, peer);
        self.links.send(conn, answer);
    }

    /// A frame from a publisher.
    fn publish(&mut self, conn: ConnId, number: u8, frame: &Frame) {
        if (frame.instrument.get() >> 24) != u32::from(number) {
            self.links.refuse(conn, ErrorCode::Unexpected, "instrument of another source");
            return;
        }
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return };
        if let Err(text) = source.publish(frame) {
            self.links.refuse(conn, ErrorCode::Unexpected, text);
        }
    }

    /// A publisher says which `seq` it sends next: an empty source begins there.
    fn note_publisher_at(&mut self, conn: ConnId, number: u8, beat: &Heartbeat) {
        let frames = self.config.ring_frames;
        let next_seq = beat.next_seq.get();
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return };
        if source.publisher != Some(conn) {
            return;
        }
        if beat.flags.get() & Flags::MORE == 0 {
            source.is_stale = beat.flags.get() & Flags::STALE != 0;
        }
        if next_seq == 0 {
            return;
        }
        if source.make_ready(frames, next_seq) {
            for conn in source.readers.clone() {
                self.links.mark_dirty(conn);
            }
        }
    }

    /// A new epoch began. It may have taken back what subscribers have seen or were about to see; and
    /// all of them must know that they are in it, or they would take it for a loss on their next visit.
    fn tell_epoch(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return };
        let void_from = source.take_void();
        for &conn in &source.readers {
            let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { continue };
            let gap = void_from.and_then(|seq| subscriber.void_from(seq));
            let standing = subscriber.standing(source);
            if let Some(gap) = gap {
                self.links.send(conn, gap);
            }
            if let Some(standing) = standing {
                self.links.send(conn, standing);
            }
        }
    }

    fn handle_subscribe(&mut self, now: Now, conn: ConnId, subscribe: &Subscribe) {
        if self.source_mut(subscribe.source).is_none() {
            self.links.refuse(conn, ErrorCode::Limit, "source numbers are 0 to 7");
            return;
        }
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { return };
        match subscriber.add_pattern(subscribe) {
            Err((code, text)) => {
                self.links.refuse(conn, code, text);
            }
            Ok(None) => {}
            Ok(Some(patterns)) => {
                let Some(Some(source)) = self.sources.get_mut(usize::from(subscribe.source)) else {
                    return;
                };
                let interest = source.interests.join(patterns, &source.values);
                source.readers.push(conn);
                if let Some(due) = subscriber.begin(now.mono, subscribe, interest) {
                    self.conflating.insert((due, conn));
                }
                self.links.mark_dirty(conn);
            }
        }
    }

    fn handle_query(&mut self, conn: ConnId, query: &Query) {
        if Op::from_number(query.op) != Some(Op::Status) {
            let id = query.id.get();
            let code = ErrorCode::Unexpected;
            self.links.send(conn, Refusal::new(code, id, "the broker answers status queries only"));
            return;
        }
        let mut status = Status::default();
        status.text("role", "broker");
        status.metric("subscribers", self.subscribers);
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.local_faults);
        for (number, source) in self.sources.iter().enumerate() {
            let Some(source) = source else { continue };
            let prefix = format!("source.{number}");
            status.metric(format!("{prefix}.publisher_up"), i64::from(source.publisher.is_some()));
            status.metric(format!("{prefix}.epoch"), source.epoch);
            status.metric(format!("{prefix}.next_seq"), source.wanted_seq());
            status.metric(format!("{prefix}.instruments"), source.values.len());
            status.metric(format!("{prefix}.frames"), source.frames);
            status.metric(format!("{prefix}.duplicates"), source.duplicates);
            status.metric(format!("{prefix}.gaps_told"), source.gaps_told);
        }
        status.send(&mut self.links, conn, query.id.get());
    }

    /// Puts what a subscriber should get next into its outbox, unless it can be sent from the ring.
    fn refill(&mut self, conn: ConnId) -> Filled {
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else {
            return Filled::Outbox;
        };
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source())) else {
            return Filled::Outbox;
        };
        self.scratch.clear();
        let filled = subscriber.fill(source, &mut self.scratch);
        if !self.scratch.is_empty() {
            self.links.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
        filled
    }

    fn forget(&mut self, conn: ConnId) {
        match self.links.remove(conn) {
            Some(Peer::Subscriber(subscriber)) => {
                self.subscribers -= 1;
                if let Some(due) = subscriber.conflate_due() {
                    self.conflating.remove(&(due, conn));
                }
                if let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source()))
                    && let Some(interest) = subscriber.interest()
                {
                    source.interests.leave(interest);
                    source.readers.retain(|&reader| reader != conn);
                }
            }
            Some(Peer::Publisher { source: number }) => {
                if let Some(Some(source)) = self.sources.get_mut(usize::from(number))
                    && source.publisher == Some(conn)
                {
                    source.publisher = None;
                    self.links.log(Level::Warn, format!("publisher of source {number} left"));
                }
            }
            _ => {}
        }
    }
}

impl Node for Broker {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.links.insert(now, conn, Peer::Unknown);
    }

    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {}

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.links.heard(now, conn);
        for frame in frames {
            self.handle_frame(now, conn, frame);
        }
    }

    fn handle_close(&mut self, _now: Now, conn: ConnId, _reason: CloseReason) {
        self.forget(conn);
    }

    fn handle_local_fault(&mut self, _now: Now, fault: LocalFault) {
        self.local_faults += 1;
        self.links.log(Level::Warn, format!("cannot accept: {}", fault.as_str()));
    }

    fn handle_timers(&mut self, now: Now) {
        self.links.tick(now, |peer| match peer {
            Peer::Subscriber(subscriber) => subscriber.cursor(),
            _ => 0,
        });
        while let Some(&(due, conn)) = self.conflating.first() {
            if due > now.mono {
                break;
            }
            self.conflating.pop_first();
            if let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) {
                let next = subscriber.make_due(now.mono);
                self.conflating.insert((next, conn));
                self.links.mark_dirty(conn);
            }
        }
    }

    fn commit(&mut self, _now: Now) {
        for source in self.sources.iter_mut().flatten() {
            let Some(news) = source.take_news() else { continue };
            if let Some(publisher) = source.publisher {
                self.links.send(
                    publisher,
                    Ack {
                        epoch: U32::new(source.epoch),
                        accepted_seq: U64::new(news),
                        ..Ack::default()
                    },
                );
            }
            // Whoever stands first is served first; turning the start keeps that fair.
            source.turn_start = (source.turn_start + 1) % source.readers.len().max(1);
            let (before, after) = source.readers.split_at(source.turn_start);
            for &conn in after.iter().chain(before) {
                self.links.mark_dirty(conn);
            }
        }
    }

    fn handle_stop(&mut self, _now: Now) {
        self.links.refuse_all(ErrorCode::Stopping, "the broker stops; come back later");
        self.is_stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn next_deadline(&self) -> Option<Mono> {
        let conflate = self.conflating.first().map(|&(due, _)| due);
        self.links.next_tick().into_iter().chain(conflate).min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.links.poll_dirty()
    }

    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        if self.links.outbox(conn).is_empty()
            && self.refill(conn) == Filled::Ring
            && let Some(Peer::Subscriber(subscriber)) = self.links.get(conn).map(|link| &link.peer)
            && let Some(Some(source)) = self.sources.get(usize::from(subscriber.source()))
        {
            let frames = limits::WRITE_BYTES_PER_TURN_MAX / crate::wire::FRAME_BYTES;
            let (head, tail) = source.ring.bytes(subscriber.cursor(), frames);
            return Outgoing { head, tail };
        }
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        if !self.links.outbox(conn).is_empty() {
            self.links.sent(now, conn, bytes);
            return;
        }
        self.links.sent_elsewhere(now, conn);
        let Some(Peer::Subscriber(subscriber)) = self.links.peer_mut(conn) else { return };
        let Some(Some(source)) = self.sources.get(usize::from(subscriber.source())) else { return };
        // The rest of a half-sent frame is kept apart: the ring may overwrite it before the peer
        // has room for it.
        if let Some(rest) = subscriber.advance(&source.ring, bytes) {
            self.links.fill(conn, &rest);
        }
    }
}

/// Frames that a snapshot marks.
const SNAPSHOT: u16 = Flags::SNAPSHOT;

#[cfg(test)]
mod tests;
