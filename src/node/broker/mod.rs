//! The broker: takes sequences from publishers and hands them to subscribers, each through its own
//! cursor on one ring per source. What it does not do: keep history (a cursor that fell out of the
//! ring is told so by a GAP frame) or wait for anybody.

mod fanout;
mod intake;
mod post;
mod readers;
mod round;
mod source;
mod subscriber;

use std::sync::atomic::Ordering;

use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, LocalFault, Node, Origin, Outgoing,
};
use crate::feed::{LastValues, Pattern, Ring};
use crate::limits;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, FRAME_BYTES, Flags, Frame, Heartbeat, Kind, Op, Query, Refusal, Role, Session,
    U32, U64, padded,
};

pub use fanout::Fanout;
use intake::Intake;
use post::Outlets;
use readers::Readers;
use round::Round;
use subscriber::Subscriber;

/// What the broker is configured with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Frames held per source, a power of two.
    pub ring_frames: usize,
    /// Subscribers at once.
    pub subscribers_max: usize,
}

impl BrokerConfig {
    /// What a subscriber costs at most: what is gathered for it, the kernel's buffers, its slots, and
    /// a watch list of its own, as long as any may be, over as many instruments as there may be.
    #[must_use]
    pub fn subscriber_bytes_max(kernel_bytes: usize) -> usize {
        limits::OUTBOX_BYTES_MAX / 2
            + kernel_bytes
            + limits::SUBSCRIBER_STATE_BYTES
            + INTEREST_BYTES_MAX
    }

    /// The bound of the whole: rings (a second one while a reactor still holds that of before an
    /// epoch), last values on each reactor, and subscribers.
    fn bytes_max(&self, sources: usize, reactors: usize, kernel_bytes: usize) -> usize {
        let rings = if reactors > 1 { 2 } else { 1 };
        let ring = rings * self.ring_frames * FRAME_BYTES;
        let values = reactors * limits::INSTRUMENTS_MAX * LastValues::BYTES_PER_INSTRUMENT;
        sources * (ring + values)
            + self.subscribers_max * BrokerConfig::subscriber_bytes_max(kernel_bytes)
    }
}

/// The longest watch list: its patterns, twice for their texts, and two bytes for each instrument, which
/// growing may double.
const INTEREST_BYTES_MAX: usize = limits::PATTERNS_MAX * 2 * size_of::<Pattern>()
    + 2 * size_of::<u16>() * limits::INSTRUMENTS_MAX;

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

/// The broker node: of one reactor, all of it; of several, the first, with the publishers, who asks for
/// its status, and its share of the subscribers.
#[derive(Debug)]
pub struct Broker {
    config: BrokerConfig,
    /// What the kernel may hold for each subscriber, for the bound that the status states.
    kernel_bytes_per_subscriber: usize,
    readers: Readers<Ring>,
    intakes: Vec<Intake>,
    outlets: Outlets,
    round: Round,
    /// The next further reactor that the intake has news for.
    next_wake: usize,
    local_faults: u64,
    is_stopped: bool,
}

impl Broker {
    /// A broker that knows nothing yet.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Broker {
        Broker::with_fanouts(config, 0).0
    }

    /// A broker and the nodes of so many further reactors, which are numbered from 1 on in this order.
    #[must_use]
    pub fn with_fanouts(config: BrokerConfig, fanouts: usize) -> (Broker, Vec<Fanout>) {
        let outlets = Outlets::new(fanouts);
        let fanout = |post: &_| Fanout::new(std::sync::Arc::clone(post), outlets.stall.clone());
        let fanouts = outlets.posts.iter().map(fanout).collect();
        let numbers = 0..u8::try_from(limits::SOURCES_MAX).unwrap_or(u8::MAX);
        let broker = Broker {
            config,
            kernel_bytes_per_subscriber: 0,
            readers: Readers::default(),
            intakes: numbers.map(Intake::new).collect(),
            outlets,
            round: Round::default(),
            next_wake: usize::MAX,
            local_faults: 0,
            is_stopped: false,
        };
        (broker, fanouts)
    }

    /// Says what the kernel may hold for each subscriber, so that the status counts it too.
    pub fn note_kernel_bytes(&mut self, per_subscriber: usize) {
        self.kernel_bytes_per_subscriber = per_subscriber;
    }

    fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        let Some(link) = self.readers.links.get_mut(conn) else { return };
        if let Err(error) = frame.check() {
            self.readers.links.refuse_frame(conn, error);
            return;
        }
        let kind = frame.kind();
        match (&mut link.peer, kind) {
            (Peer::Subscriber(_), _) => self.readers.handle_frame(now, conn, frame),
            (Peer::Publisher { source }, Some(_)) => {
                let source = *source;
                self.handle_published(now, conn, source, frame);
            }
            (Peer::Unknown, Some(Kind::Session)) => {
                if let Some(session) = frame.view::<Session>() {
                    let session = *session;
                    self.handle_session(conn, &session);
                }
            }
            (Peer::Unknown, _) => {
                let text = "the first frame must be a SESSION";
                self.readers.links.refuse(conn, ErrorCode::Unexpected, text);
            }
            (Peer::Querier, Some(Kind::Heartbeat)) => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.readers.links.answer_heartbeat(now, conn, &beat, 0);
                }
            }
            (Peer::Querier, Some(Kind::Query)) => {
                if let Some(query) = frame.view::<Query>() {
                    let query = *query;
                    self.handle_query(conn, &query);
                }
            }
            _ => self.refuse_out_of_place(conn),
        }
    }

    fn refuse_out_of_place(&mut self, conn: ConnId) {
        let text = "this frame has no place here";
        self.readers.links.refuse(conn, ErrorCode::Unexpected, text);
    }

    /// A frame, checked, from a publisher. While the further reactors have no room for it, it waits,
    /// and with it everything behind it; the publisher is not read meanwhile.
    fn handle_published(&mut self, now: Now, conn: ConnId, number: u8, frame: &Frame) {
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        if intake.publisher != Some(conn) {
            return;
        }
        let Some(source) = self.readers.source_mut(number) else { return };
        if !intake.waiting.is_empty() || !intake.has_room(source, &mut self.outlets) {
            intake.stalls += u64::from(intake.waiting.is_empty());
            intake.waiting.push_back(*frame);
            return;
        }
        self.take_in(now, conn, number, frame);
    }

    /// A frame from a publisher, for which there is room.
    fn take_in(&mut self, now: Now, conn: ConnId, number: u8, frame: &Frame) {
        match frame.kind() {
            Some(kind) if kind.is_data() => self.publish(conn, number, frame),
            Some(Kind::Heartbeat) => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.readers.links.answer_heartbeat(now, conn, &beat, 0);
                    self.note_publisher_at(number, &beat);
                }
            }
            _ => self.refuse_out_of_place(conn),
        }
    }

    /// Takes in what waited, as far as there is room now. Whoever still waits is woken.
    fn take_in_waiting(&mut self, now: Now) {
        if self.intakes.iter().all(|intake| intake.waiting.is_empty()) {
            return;
        }
        self.outlets.stall.announce();
        for number in 0..u8::try_from(self.intakes.len()).unwrap_or(u8::MAX) {
            while let Some(intake) = self.intakes.get_mut(usize::from(number))
                && let Some(conn) = intake.publisher
                && let Some(source) = self.readers.source_mut(number)
                && intake.has_room(source, &mut self.outlets)
                && let Some(frame) = intake.waiting.pop_front()
            {
                self.take_in(now, conn, number, &frame);
            }
        }
    }

    /// The further reactor that this connection, whose first frame this is, should be served by.
    fn reactor_for(&self, conn: ConnId, frame: &Frame) -> Option<usize> {
        let is_unknown = matches!(self.readers.links.get(conn)?.peer, Peer::Unknown);
        let is_subscriber = frame.check().is_ok()
            && frame.view::<Session>().is_some_and(|it| it.role == Role::Subscriber as u8);
        if !is_unknown || !is_subscriber || self.subscribers() >= self.config.subscribers_max {
            return None;
        }
        let posts = self.outlets.posts.iter().enumerate();
        let open = posts
            .filter(|(_, it)| it.arriving.load(Ordering::Relaxed) < limits::REACTOR_ARRIVALS_MAX);
        let (count, index) =
            open.map(|(index, it)| (it.connections.load(Ordering::Relaxed), index)).min()?;
        (count < self.readers.subscribers).then_some(index + 1)
    }

    /// Subscribers of all reactors.
    fn subscribers(&self) -> usize {
        let posts = self.outlets.posts.iter();
        let elsewhere: usize = posts.map(|post| post.connections.load(Ordering::Relaxed)).sum();
        self.readers.subscribers + elsewhere
    }

    fn handle_session(&mut self, conn: ConnId, session: &Session) {
        let links = &mut self.readers.links;
        match Role::from_number(session.role) {
            Some(Role::Subscriber) => {
                if self.subscribers() < self.config.subscribers_max {
                    self.readers.greet(conn, session);
                } else {
                    let text = "all subscriber places are taken";
                    self.readers.links.refuse(conn, ErrorCode::Limit, text);
                }
            }
            Some(Role::Querier) => {
                links.greet(conn, Peer::Querier);
                let (source, name) = (session.source, padded("broker"));
                links.send(conn, Session { source, name, ..Session::default() });
            }
            Some(Role::Publisher) => self.begin_publisher(conn, session),
            _ => links.refuse(conn, ErrorCode::Unexpected, "the broker has no such role"),
        }
    }

    fn begin_publisher(&mut self, conn: ConnId, session: &Session) {
        let number = session.source;
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else {
            self.readers.links.refuse(conn, ErrorCode::Limit, "source numbers are 0 to 7");
            return;
        };
        let Some(source) = self.readers.source_mut(number) else { return };
        if !intake.has_room(source, &mut self.outlets) {
            // Its epoch would need a third ring, or one letter more.
            let text = "the last session is still taken in; come back";
            self.readers.links.refuse(conn, ErrorCode::Limit, text);
            return;
        }
        let begun = intake.begin_session(source, &mut self.outlets, conn, session);
        let answer = Session {
            source: number,
            name: padded("broker"),
            epoch: U32::new(source.epoch),
            epoch_start: U64::new(source.epoch_start),
            next_seq: U64::new(source.wanted_seq()),
            ..Session::default()
        };
        if let Some(previous) = begun.displaced {
            let text = "another publisher took over";
            self.readers.links.refuse(previous, ErrorCode::Unexpected, text);
        }
        if begun.is_new_epoch {
            self.readers.tell_epoch(number, begun.void_from);
        }
        let text = format!("publisher of source {number} connected, epoch {}", session.epoch);
        self.readers.links.log(Level::Info, text);
        self.readers.links.greet(conn, Peer::Publisher { source: number });
        self.readers.links.send(conn, answer);
    }

    /// A data frame from a publisher.
    fn publish(&mut self, conn: ConnId, number: u8, frame: &Frame) {
        if (frame.instrument.get() >> 24) != u32::from(number) {
            let text = "instrument of another source";
            self.readers.links.refuse(conn, ErrorCode::Unexpected, text);
            return;
        }
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        let Some(source) = self.readers.source_mut(number) else { return };
        if let Err(text) = intake.publish(source, &mut self.outlets, frame) {
            self.readers.links.refuse(conn, ErrorCode::Unexpected, text);
        }
    }

    /// A publisher says which `seq` it sends next: an empty source begins there.
    fn note_publisher_at(&mut self, number: u8, beat: &Heartbeat) {
        let frames = self.config.ring_frames;
        let next_seq = beat.next_seq.get();
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        let Some(source) = self.readers.source_mut(number) else { return };
        if beat.flags.get() & Flags::MORE == 0 {
            let is_stale = beat.flags.get() & Flags::STALE != 0;
            intake.note_standing(source, &mut self.outlets, is_stale);
        }
        if next_seq != 0 && intake.make_ready(source, &mut self.outlets, frames, next_seq) {
            self.readers.tell_ready(number);
        }
    }

    fn handle_query(&mut self, conn: ConnId, query: &Query) {
        if Op::from_number(query.op) != Some(Op::Status) {
            let id = query.id.get();
            let code = ErrorCode::Unexpected;
            self.readers
                .links
                .send(conn, Refusal::new(code, id, "the broker answers status queries only"));
            return;
        }
        let mut status = Status::default();
        status.text("role", "broker");
        let posts = &self.outlets.posts;
        let elsewhere: usize = posts.iter().map(|it| it.connections.load(Ordering::Relaxed)).sum();
        let refused: u64 = posts.iter().map(|it| it.refused.load(Ordering::Relaxed)).sum();
        status.metric("reactors", posts.len() + 1);
        status.metric("subscribers", self.subscribers());
        status.metric("connections", self.readers.links.len() + elsewhere);
        status.metric("refused", self.readers.links.refused() + refused);
        status.metric("local_faults", self.local_faults);
        let elsewhere: u64 = posts.iter().map(|it| it.interest_bytes.load(Ordering::Relaxed)).sum();
        let sources = self.readers.sources.iter().flatten().count();
        let kernel_bytes = self.kernel_bytes_per_subscriber;
        let subscriber = BrokerConfig::subscriber_bytes_max(kernel_bytes);
        let memory = self.config.bytes_max(sources, posts.len() + 1, kernel_bytes);
        status.metric("memory_bytes_bound", memory);
        status.metric("subscriber_bytes_bound", subscriber);
        status.metric("watch_list_bytes", self.readers.interest_bytes() as u64 + elsewhere);
        for (source, intake) in self.readers.sources.iter().zip(&self.intakes) {
            let Some(source) = source else { continue };
            let number = intake.number();
            let gaps = posts.iter().filter_map(|post| post.gaps_told.get(usize::from(number)));
            let gaps: u64 = gaps.map(|gaps| gaps.load(Ordering::Relaxed)).sum();
            let prefix = format!("source.{number}");
            status.metric(format!("{prefix}.publisher_up"), i64::from(source.has_publisher));
            status.metric(format!("{prefix}.epoch"), source.epoch);
            status.metric(format!("{prefix}.next_seq"), source.wanted_seq());
            status.metric(format!("{prefix}.instruments"), source.values.len());
            status.metric(format!("{prefix}.frames"), intake.frames);
            status.metric(format!("{prefix}.duplicates"), intake.duplicates);
            status.metric(format!("{prefix}.gaps_told"), source.gaps_told + gaps);
            status.metric(format!("{prefix}.stalls"), intake.stalls);
        }
        status.send(&mut self.readers.links, conn, query.id.get());
    }

    fn forget(&mut self, conn: ConnId) {
        let Some(Peer::Publisher { source: number }) = self.readers.forget(conn) else { return };
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        if intake.publisher != Some(conn) {
            return;
        }
        intake.publisher = None;
        intake.waiting.clear();
        if let Some(source) = self.readers.source_mut(number) {
            intake.note_standing(source, &mut self.outlets, source.is_stale);
        }
        self.readers.links.log(Level::Warn, format!("publisher of source {number} left"));
    }
}

impl Node for Broker {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.readers.links.insert(now, conn, Peer::Unknown);
    }

    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {}

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.readers.links.heard(now, conn);
        if let Some(Peer::Publisher { .. }) = self.readers.links.get(conn).map(|link| &link.peer) {
            self.round.note_read(frames.len());
        }
        for (index, frame) in frames.iter().enumerate() {
            if !self.outlets.posts.is_empty()
                && let Some(reactor) = self.reactor_for(conn, frame)
                && let Some(post) = self.outlets.posts.get(reactor - 1)
            {
                post.connections.fetch_add(1, Ordering::Relaxed);
                post.arriving.fetch_add(1, Ordering::Relaxed);
                let rest = frames.get(index..).unwrap_or_default().to_vec();
                self.readers.links.hand_over(conn, reactor, rest);
                return;
            }
            self.handle_frame(now, conn, frame);
        }
    }

    fn handle_close(&mut self, _now: Now, conn: ConnId, _reason: CloseReason) {
        self.forget(conn);
    }

    fn handle_local_fault(&mut self, _now: Now, fault: LocalFault) {
        self.local_faults += 1;
        self.readers.links.log(Level::Warn, format!("cannot accept: {}", fault.as_str()));
    }

    fn handle_mail(&mut self, _now: Now) {
        // Nothing of this turn has made anybody dirty yet.
        self.round.begin_turn(self.readers.links.dirty_len());
    }

    fn handle_timers(&mut self, now: Now) {
        self.readers.handle_timers(now);
    }

    fn commit(&mut self, now: Now) {
        self.take_in_waiting(now);
        let has_news: [bool; limits::SOURCES_MAX] = std::array::from_fn(|number| {
            let source = self.readers.sources.get(number).and_then(Option::as_ref);
            source.is_some_and(|source| source.has_news)
        });
        // Subscribers stand in line before the publisher, who can wait for a word that is cumulative.
        self.readers.commit();
        for ((source, intake), _) in
            self.readers.sources.iter().zip(&self.intakes).zip(has_news).filter(|(_, news)| *news)
        {
            let Some(source) = source else { continue };
            if let Some(publisher) = intake.publisher {
                let ack = Ack {
                    epoch: U32::new(source.epoch),
                    accepted_seq: U64::new(source.bounds().1),
                    ..Ack::default()
                };
                self.readers.links.send(publisher, ack);
            }
            self.outlets.has_news = true;
        }
        if std::mem::take(&mut self.outlets.has_news) {
            self.next_wake = 1;
        }
    }

    fn handle_stop(&mut self, _now: Now) {
        self.readers.links.refuse_all(ErrorCode::Stopping, "the broker stops; come back later");
        self.is_stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.readers.next_deadline()
    }

    fn poll_wake(&mut self) -> Option<usize> {
        let reactor = self.next_wake;
        if reactor > self.outlets.posts.len() {
            return None;
        }
        self.next_wake += 1;
        Some(reactor)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.readers.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        let dirty = self.readers.links.poll_dirty();
        self.round.note_flushed(dirty.is_some());
        dirty
    }

    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        self.readers.outgoing(conn)
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.readers.handle_sent(now, conn, bytes);
    }

    fn wants_frames(&self, conn: ConnId) -> bool {
        let Some(link) = self.readers.links.get(conn) else { return true };
        let Peer::Publisher { source } = link.peer else { return true };
        self.intakes
            .get(usize::from(source))
            .filter(|intake| intake.publisher == Some(conn))
            .is_none_or(|intake| intake.waiting.is_empty() && self.round.has_room())
    }
}

/// Frames that a snapshot marks.
const SNAPSHOT: u16 = Flags::SNAPSHOT;

#[cfg(test)]
mod tests;
