//! The broker: takes sequences from publishers and hands them to subscribers, each through its own
//! cursor on one ring per source. What it does not do: keep history (a cursor that fell out of the
//! ring is told so by a GAP frame) or wait for anybody.
//!
//! # Decisions
//!
//! * With several reactors the broker has three parts: `intake` (how frames come into a source), `readers`
//!   (the subscribers of one reactor), and `fanout` (the node of a further reactor, with readers and
//!   without intake). Frames are in memory once. Each reactor has its own last values and interests.
//! * While a further reactor has no room, the publisher is not read. The rest of one read waits in the
//!   intake. The reactor that makes room wakes the intake.
//! * A newcomer is flushed first. Otherwise it would wait for thousands of subscribers that have had
//!   something already.

mod fanout;
mod intake;
mod post;
mod readers;
mod source;
mod subscriber;

use std::sync::atomic::Ordering;

use super::session::{Admission, Denial, Filled, Roles, Status};
use super::{CloseReason, ConnId, Level, Links, Outgoing, Service};
use crate::feed::{LastValues, Pattern, Ring};
use crate::limits;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, FRAME_BYTES, Flags, Frame, Heartbeat, Kind, Seq, Session, U32, U64, padded,
};

pub use fanout::Fanout;
use intake::Intake;
use post::Outlets;
use readers::Readers;
use subscriber::Subscriber;

/// What the broker is configured with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Frames held per source, a power of two.
    pub ring_frames: usize,
    /// Subscribers at once.
    pub subscribers_max: usize,
    /// Frames that publishers may bring in the middle of a round of the fan-out.
    pub round_frames_max: usize,
}

impl BrokerConfig {
    /// So many frames per source, for so many subscribers.
    #[must_use]
    pub fn new(ring_frames: usize, subscribers_max: usize) -> BrokerConfig {
        BrokerConfig { ring_frames, subscribers_max, round_frames_max: limits::ROUND_FRAMES_MAX }
    }

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
pub(crate) enum Peer {
    Publisher { source: u8 },
    Subscriber(Subscriber),
    Querier,
}

impl Peer {
    /// The next `seq` that it is sent. Who hears only frames of others learns by it that nothing of its own
    /// was missed.
    fn cursor(&self) -> u64 {
        match self {
            Peer::Subscriber(subscriber) => subscriber.cursor(),
            _ => 0,
        }
    }
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
    /// The next further reactor that the intake has news for.
    next_wake: usize,
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
        let mut readers = Readers::default();
        readers.links.bound_rounds(config.round_frames_max);
        let broker = Broker {
            config,
            kernel_bytes_per_subscriber: 0,
            readers,
            intakes: numbers.map(Intake::new).collect(),
            outlets,
            next_wake: usize::MAX,
        };
        (broker, fanouts)
    }

    /// Says what the kernel may hold for each subscriber, so that the status counts it too.
    pub fn note_kernel_bytes(&mut self, per_subscriber: usize) {
        self.kernel_bytes_per_subscriber = per_subscriber;
    }

    /// How much publishers have brought in the middle of rounds of the fan-out.
    #[must_use]
    pub fn round(&self) -> &super::Round {
        self.readers.links.round()
    }

    /// A frame from a publisher. While the further reactors have no room for it, it waits,
    /// with all that come behind it.
    fn handle_published(&mut self, conn: ConnId, number: u8, frame: &Frame) -> Result<(), Denial> {
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return Ok(()) };
        if intake.publisher != Some(conn) {
            return Ok(());
        }
        let Some(source) = self.readers.source_mut(number) else { return Ok(()) };
        if !intake.waiting.is_empty() || !intake.has_room(source, &mut self.outlets) {
            intake.stalls += u64::from(intake.waiting.is_empty());
            intake.waiting.push_back(*frame);
            return Ok(());
        }
        self.take_in(number, frame)
    }

    /// A frame from a publisher, for which there is room.
    fn take_in(&mut self, number: u8, frame: &Frame) -> Result<(), Denial> {
        if frame.kind().is_some_and(Kind::is_data) {
            return self.publish(number, frame);
        }
        let beat = frame.view::<Heartbeat>().ok_or_else(Denial::out_of_place)?;
        self.note_publisher_at(number, beat);
        Ok(())
    }

    /// Takes in what waited, as far as there is room now. Whoever still waits is woken.
    fn take_in_waiting(&mut self) {
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
                if let Err(denial) = self.take_in(number, &frame) {
                    self.readers.links.refuse(conn, denial.code, &denial.text);
                }
            }
        }
    }

    /// The further reactor that a new subscriber should be served by.
    fn next_reactor(&self) -> Option<usize> {
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

    fn greet_subscriber(&mut self, _now: Now, _conn: ConnId, session: &Session) -> Admission<Peer> {
        if self.subscribers() >= self.config.subscribers_max {
            return Admission::refused(ErrorCode::Limit, "all subscriber places are taken");
        }
        let Some(reactor) = self.next_reactor() else {
            return self.readers.greet(session);
        };
        if let Some(post) = self.outlets.posts.get(reactor - 1) {
            post.connections.fetch_add(1, Ordering::Relaxed);
            post.arriving.fetch_add(1, Ordering::Relaxed);
        }
        Admission::HandOver(reactor)
    }

    fn greet_querier(&mut self, _now: Now, _conn: ConnId, session: &Session) -> Admission<Peer> {
        let (source, name) = (session.source, padded("broker"));
        Admission::Welcome(Peer::Querier, Session { source, name, ..Session::default() })
    }

    fn greet_publisher(&mut self, _now: Now, conn: ConnId, session: &Session) -> Admission<Peer> {
        let number = session.source;
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else {
            return Admission::refused(ErrorCode::Limit, "source numbers are 0 to 7");
        };
        let Some(source) = self.readers.source_mut(number) else {
            return Admission::refused(ErrorCode::Limit, "source numbers are 0 to 7");
        };
        if !intake.has_room(source, &mut self.outlets) {
            // Its epoch would need a third ring, or one letter more.
            let text = "the last session is still taken in; come back";
            return Admission::refused(ErrorCode::Limit, text);
        }
        let begun = intake.begin_session(source, &mut self.outlets, conn, session);
        let answer = Session {
            source: number,
            name: padded("broker"),
            epoch: U32::new(source.epoch),
            epoch_start: U64::new(source.epoch_start),
            next_seq: Seq::field(source.wanted_seq()),
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
        Admission::Welcome(Peer::Publisher { source: number }, answer)
    }

    /// A data frame from a publisher.
    fn publish(&mut self, number: u8, frame: &Frame) -> Result<(), Denial> {
        if frame.instrument().source() != number {
            return Err(Denial::new(ErrorCode::Unexpected, "instrument of another source"));
        }
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return Ok(()) };
        let Some(source) = self.readers.source_mut(number) else { return Ok(()) };
        intake
            .publish(source, &mut self.outlets, frame)
            .map_err(|text| Denial::new(ErrorCode::Unexpected, text))
    }

    /// A publisher says which `seq` it sends next: an empty source begins there.
    fn note_publisher_at(&mut self, number: u8, beat: &Heartbeat) {
        let frames = self.config.ring_frames;
        let Some(intake) = self.intakes.get_mut(usize::from(number)) else { return };
        let Some(source) = self.readers.source_mut(number) else { return };
        if beat.flags.get() & Flags::MORE == 0 {
            let is_stale = beat.flags.get() & Flags::STALE != 0;
            intake.note_standing(source, &mut self.outlets, is_stale);
        }
        if let Some(next_seq) = beat.next_seq()
            && intake.make_ready(source, &mut self.outlets, frames, next_seq.get())
        {
            self.readers.tell_ready(number);
        }
    }

    fn forget_publisher(&mut self, conn: ConnId, number: u8) {
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

impl Service for Broker {
    type Peer = Peer;

    const TITLE: &'static str = "the broker";
    const ROLES: Roles<Self> = Roles {
        publisher: Some(Broker::greet_publisher),
        subscriber: Some(Broker::greet_subscriber),
        querier: Some(Broker::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn links(&self) -> &Links<Peer> {
        &self.readers.links
    }

    fn links_mut(&mut self) -> &mut Links<Peer> {
        &mut self.readers.links
    }

    fn on_arrival(&mut self, _now: Now, conn: ConnId, frames: usize) {
        if let Some(Peer::Publisher { .. }) = self.readers.links.peer(conn) {
            self.readers.links.note_published(frames);
        }
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Denial> {
        match self.readers.links.peer(conn) {
            Some(Peer::Publisher { source }) => self.handle_published(conn, *source, frame),
            Some(Peer::Subscriber(_)) => self.readers.handle_frame(now, conn, frame),
            _ => Err(Denial::out_of_place()),
        }
    }

    fn answered_seq(&self, peer: &Peer) -> Option<Seq> {
        Seq::new(peer.cursor())
    }

    fn sent_seq(peer: &Peer) -> Option<Seq> {
        Seq::new(peer.cursor())
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question(&mut self, _now: Now, _conn: ConnId, _question: Question) -> Result<(), Denial> {
        let text = "the broker answers status queries only";
        Err(Denial::new(ErrorCode::Unexpected, text))
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn status(&self, _now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "broker");
        let posts = &self.outlets.posts;
        let elsewhere: usize = posts.iter().map(|it| it.connections.load(Ordering::Relaxed)).sum();
        let refused: u64 = posts.iter().map(|it| it.refused.load(Ordering::Relaxed)).sum();
        status.metric("reactors", posts.len() + 1);
        status.metric("subscribers", self.subscribers());
        status.metric("connections", self.readers.links.len() + elsewhere);
        status.metric("refused", self.readers.links.refused() + refused);
        status.metric("local_faults", self.readers.links.local_faults());
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
            status.metric(format!("{prefix}.next_seq"), Seq::number(source.wanted_seq()));
            status.metric(format!("{prefix}.instruments"), source.values.len());
            status.metric(format!("{prefix}.frames"), intake.frames);
            status.metric(format!("{prefix}.duplicates"), intake.duplicates);
            status.metric(format!("{prefix}.gaps_told"), source.gaps_told + gaps);
            status.metric(format!("{prefix}.stalls"), intake.stalls);
        }
        status
    }

    fn on_close(&mut self, _now: Now, conn: ConnId, peer: Option<Peer>, _reason: CloseReason) {
        match peer {
            Some(Peer::Publisher { source }) => self.forget_publisher(conn, source),
            Some(Peer::Subscriber(subscriber)) => self.readers.forget(conn, &subscriber),
            Some(Peer::Querier) | None => {}
        }
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.readers.handle_timers(now);
    }

    fn on_commit(&mut self, _now: Now) {
        self.take_in_waiting();
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

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        self.readers.next_deadline()
    }

    fn next_wake(&mut self) -> Option<usize> {
        let reactor = self.next_wake;
        if reactor > self.outlets.posts.len() {
            return None;
        }
        self.next_wake += 1;
        Some(reactor)
    }

    #[inline]
    fn fill(&mut self, _now: Now, conn: ConnId) -> Filled {
        self.readers.fill(conn)
    }

    #[inline]
    fn lent(&self, conn: ConnId) -> Outgoing<'_> {
        self.readers.lent(conn)
    }

    #[inline]
    fn on_lent_sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        self.readers.handle_lent_sent(conn, bytes)
    }

    /// A subscriber is read however much waits for it: its heartbeats must be heard.
    fn wants(&self, conn: ConnId) -> bool {
        let Some(&Peer::Publisher { source }) = self.readers.links.peer(conn) else { return true };
        self.intakes
            .get(usize::from(source))
            .filter(|intake| intake.publisher == Some(conn))
            .is_none_or(|intake| intake.waiting.is_empty() && self.readers.links.round().has_room())
    }
}

/// Frames that a snapshot marks.
const SNAPSHOT: u16 = Flags::SNAPSHOT;

#[cfg(test)]
mod tests;
