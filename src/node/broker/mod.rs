//! The broker: takes sequences from publishers and hands them to subscribers, each through its own
//! cursor on one ring per source. What it does not do: keep history (a cursor that fell out of the
//! ring gets a GAP frame) or wait for anybody.
//!
//! # Decisions
//!
//! * With several reactors the broker has three parts: `intake` (how frames come into a source), `readers`
//!   (the subscribers of one reactor), and `fanout` (the node of a further reactor, with readers and
//!   without intake). Frames are in memory once. Each reactor has its own last values and interests.
//! * While a further reactor has no room, the publisher is not read. The rest of one read waits in the
//!   intake. The reactor that makes room wakes the intake.
//! * What is live is sent first. Snapshots, conflated batches and what a subscriber missed while it was away
//!   have a part of each turn, and a line of their own. So nobody who is live waits for newcomers, and a newcomer
//!   does not wait for thousands of subscribers that have had something already.
//! * A newcomer's patterns are looked up over several turns, one newcomer after the other. It is confirmed when
//!   that is done.
//! * A publisher is not read while interests have not decided about an instrument that it defined. Nobody is sent
//!   a frame of a new instrument before it is known whether it is meant.

mod fanout;
mod intake;
mod jumps;
mod mailbox;
mod places;
mod publisher_life;
mod publishers;
mod readers;
mod source;
mod subscriber;

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::session::{Admission, Connection, Filled, Rejection, Roles, Status};
use super::{CloseReason, ConnId, Connections, Level, Outgoing, Service, Work};
use crate::feed::{Interests, LastValues, Pattern, Ring};
use crate::histogram::Histogram;
use crate::limits;
use crate::time::{Mono, Now, nanos};
use crate::wire::{
    Ack, FRAME_BYTES, FeedStatus, Flags, Frame, Refusal, Seq, Session, U32, padded, unpadded,
};

pub use fanout::Fanout;
use intake::Intake;
use mailbox::FurtherReactors;
use readers::{MODE_NAMES, Readers};
use subscriber::Subscriber;

/// The source whose publisher, core, keeps its sequence, and knows its lineage.
const MARKET_SOURCE: u8 = 1;

/// What the broker is configured with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Frames held per source, a power of two.
    pub ring_frames: usize,
    /// Subscribers at once.
    pub subscribers_max: usize,
    /// Frames that publishers may bring in the middle of a round of the fan-out.
    pub round_frames_max: usize,
    /// How long a subscriber may take nothing while something waits for it.
    pub unread_max: Duration,
    /// Whether a lossless subscriber that was overtaken is sent all names again: for those who cannot read history, where
    /// the others learn what was defined meanwhile.
    pub names_behind_gaps: bool,
}

impl BrokerConfig {
    /// So many frames per source, for so many subscribers.
    #[must_use]
    pub fn new(ring_frames: usize, subscribers_max: usize) -> BrokerConfig {
        BrokerConfig {
            ring_frames,
            subscribers_max,
            round_frames_max: limits::ROUND_FRAMES_MAX,
            unread_max: limits::UNREAD_WAIT_DEFAULT,
            names_behind_gaps: false,
        }
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
        let instrument = LastValues::BYTES_PER_INSTRUMENT + Interests::BYTES_PER_INSTRUMENT;
        let values = reactors * limits::INSTRUMENTS_MAX * instrument;
        sources * (ring + values)
            + self.subscribers_max * BrokerConfig::subscriber_bytes_max(kernel_bytes)
    }
}

/// The longest watch list: its patterns as they are collected, which growing may double, in the index, and two
/// bytes for each instrument, which growing may double.
const INTEREST_BYTES_MAX: usize = limits::PATTERNS_MAX
    * (2 * size_of::<Pattern>() + Interests::BYTES_PER_PATTERN)
    + 2 * size_of::<u16>() * limits::INSTRUMENTS_MAX;

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum BrokerPeer {
    Publisher { source: u8 },
    Subscriber(Subscriber),
    Querier,
}

/// An idle subscriber costs little more than this, so a field more needs a reason.
const _: () =
    assert!(size_of::<Option<Connection<BrokerPeer>>>() <= limits::SUBSCRIBER_CONNECTION_BYTES);

impl BrokerPeer {
    /// The next `seq` that it is sent. Who hears only frames of others learns by it that nothing of its own
    /// was missed.
    fn sent_seq(&self) -> Option<Seq> {
        match self {
            BrokerPeer::Subscriber(subscriber) => Seq::new(subscriber.cursor()),
            _ => None,
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
    further_reactors: FurtherReactors,
    /// The next further reactor that the intake has something for.
    next_wake: usize,
    /// From core's stamp on the first frame of a turn to the end of that turn, where there are subscribers.
    delivery: Histogram,
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
        let further_reactors = FurtherReactors::new(fanouts);
        let mut readers = Readers::default();
        readers.connections.bound_rounds(config.round_frames_max);
        readers.connections.bound_unread(config.unread_max);
        readers.connections.reserve(config.subscribers_max);
        readers.names_behind_gaps = config.names_behind_gaps;
        let fanout = |mailbox: &_| {
            let (stall, places) = (further_reactors.stall.clone(), readers.places.clone());
            Fanout::new(std::sync::Arc::clone(mailbox), stall, places, config.unread_max)
        };
        let fanouts = further_reactors.mailboxes.iter().map(fanout).collect();
        let numbers = 0..u8::try_from(limits::SOURCES_MAX).unwrap_or(u8::MAX);
        let broker = Broker {
            config,
            kernel_bytes_per_subscriber: 0,
            readers,
            intakes: numbers.map(Intake::new).collect(),
            further_reactors,
            next_wake: usize::MAX,
            delivery: Histogram::default(),
        };
        (broker, fanouts)
    }

    /// Says what the kernel may hold for each subscriber, so that the status counts it too.
    pub fn note_kernel_bytes(&mut self, per_subscriber: usize) {
        self.kernel_bytes_per_subscriber = per_subscriber;
    }

    /// Adds how long frames of core took to their subscribers to a status answer.
    pub(crate) fn describe_delivery(&self, status: &mut Status) {
        status.histogram("delivery_us", &self.delivery);
        let mailboxes = &self.further_reactors.mailboxes;
        for (number, name) in MODE_NAMES.iter().enumerate() {
            let elsewhere: usize =
                mailboxes.iter().map(|it| it.by_mode[number].load(Ordering::Relaxed)).sum();
            let count = self.readers.by_mode[number] + elsewhere;
            status.metric(format!("subscribers.{name}"), count);
        }
    }

    /// The last values of a source, if anything is known of it.
    pub(crate) fn last_values(&self, source: u8) -> Option<&LastValues> {
        Some(&self.readers.sources.get(usize::from(source))?.as_ref()?.values)
    }

    /// How often subscribers of a source were told of a loss.
    pub(crate) fn gaps_told(&self, source: u8) -> u64 {
        let source = self.readers.sources.get(usize::from(source)).and_then(Option::as_ref);
        source.map_or(0, |source| source.gaps_sent)
    }

    /// The oldest frame that the ring of a source has.
    pub(crate) fn oldest_seq(&self, source: u8) -> Option<Seq> {
        self.readers.sources.get(usize::from(source))?.as_ref()?.bounds().0
    }

    /// What its turns spend on what can wait.
    #[must_use]
    pub fn work(&self) -> &Work {
        self.readers.connections.work()
    }

    /// The same, to bound it.
    pub fn work_mut(&mut self) -> &mut Work {
        self.readers.connections.work_mut()
    }

    /// How much publishers have brought in the middle of rounds of the fan-out.
    #[must_use]
    pub fn round(&self) -> &super::Round {
        self.readers.connections.round()
    }

    /// The further reactor that a new subscriber should be served by.
    fn next_reactor(&self) -> Option<usize> {
        let mailboxes = self.further_reactors.mailboxes.iter().enumerate();
        let open = mailboxes
            .filter(|(_, it)| it.arriving.load(Ordering::Relaxed) < limits::REACTOR_ARRIVALS_MAX);
        let (count, index) =
            open.map(|(index, it)| (it.connections.load(Ordering::Relaxed), index)).min()?;
        (count < self.readers.subscribers).then_some(index + 1)
    }

    /// Subscribers of all reactors.
    fn subscribers(&self) -> usize {
        let mailboxes = self.further_reactors.mailboxes.iter();
        let elsewhere: usize =
            mailboxes.map(|mailbox| mailbox.connections.load(Ordering::Relaxed)).sum();
        self.readers.subscribers + elsewhere
    }

    fn greet_subscriber(
        &mut self,
        _now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<BrokerPeer> {
        let (principal, total) = (self.readers.connections.principal(conn), self.subscribers());
        let checked = self.readers.places.check(principal, total, self.config.subscribers_max);
        if let Err(rejection) = checked {
            return Admission::Refused(rejection);
        }
        let Some(reactor) = self.next_reactor() else {
            return self.readers.greet(conn, session);
        };
        if let Some(mailbox) = self.further_reactors.mailboxes.get(reactor - 1) {
            mailbox.connections.fetch_add(1, Ordering::Relaxed);
            mailbox.arriving.fetch_add(1, Ordering::Relaxed);
        }
        Admission::HandOver(reactor)
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        _conn: ConnId,
        session: &Session,
    ) -> Admission<BrokerPeer> {
        let (source, name) = (session.source, padded("broker"));
        Admission::Accepted(BrokerPeer::Querier, Session { source, name, ..Session::default() })
    }
}

impl Service for Broker {
    type Peer = BrokerPeer;

    const TITLE: &'static str = "the broker";
    const ROLES: Roles<Self> = Roles {
        publisher: Some(Broker::greet_publisher),
        subscriber: Some(Broker::greet_subscriber),
        querier: Some(Broker::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<BrokerPeer> {
        &self.readers.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<BrokerPeer> {
        &mut self.readers.connections
    }

    fn on_arrival(&mut self, now: Now, conn: ConnId, frames: usize) {
        if let Some(&BrokerPeer::Publisher { source }) = self.readers.connections.peer(conn) {
            self.readers.connections.note_published(frames);
            let intake = self.intakes.get_mut(usize::from(source));
            if let Some(intake) = intake.filter(|intake| intake.publisher() == Some(conn)) {
                intake.life.note_heard(now);
            }
        }
    }

    fn on_refusal(&mut self, conn: ConnId, refusal: &Refusal) {
        if let Some(intake) = self.intakes.iter().find(|intake| intake.asked == Some(conn)) {
            let text = format!(
                "the publisher of source {} refuses to go on: {}. Nothing was changed, and subscribers keep what \
                 they have. Restart this broker: it keeps nothing on disk, and takes that sequence up from the \
                 beginning",
                intake.number(),
                unpadded(&refusal.text),
            );
            self.readers.connections.log(Level::Error, text);
        }
    }

    fn on_frame(&mut self, _now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        match self.readers.connections.peer(conn) {
            Some(BrokerPeer::Publisher { source }) => self.handle_published(conn, *source, frame),
            Some(BrokerPeer::Subscriber(_)) => self.readers.handle_frame(conn, frame),
            _ => Err(Rejection::out_of_place()),
        }
    }

    fn answered_seq(&self, peer: &BrokerPeer) -> Option<Seq> {
        peer.sent_seq()
    }

    fn sent_seq(peer: &BrokerPeer) -> Option<Seq> {
        peer.sent_seq()
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn on_turn_end(&mut self, now: Now, length: Duration) {
        // The end of the turn stands for the flush: it costs no reading of the clock.
        let market = self.intakes.get_mut(usize::from(MARKET_SOURCE));
        if let Some(received_ns) = market.and_then(Intake::take_first_received)
            && self.readers.subscribers > 0
        {
            let before = now.wall_ns.saturating_sub(received_ns);
            self.delivery.note_ns(before.saturating_add(nanos(length)));
        }
    }

    fn status(&self, _now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "broker");
        self.describe_delivery(&mut status);
        let mailboxes = &self.further_reactors.mailboxes;
        let elsewhere: usize =
            mailboxes.iter().map(|it| it.connections.load(Ordering::Relaxed)).sum();
        let refused: u64 = mailboxes.iter().map(|it| it.refused.load(Ordering::Relaxed)).sum();
        status.metric("reactors", mailboxes.len() + 1);
        status.metric("subscribers", self.subscribers());
        status.metric("connections", self.readers.connections.len() + elsewhere);
        status.metric("refused", self.readers.connections.refused() + refused);
        status.metric("local_faults", self.readers.connections.local_faults());
        let sent: u64 = mailboxes.iter().map(|it| it.sent_bytes.load(Ordering::Relaxed)).sum();
        status.metric("further_sent_bytes", sent);
        let elsewhere: u64 =
            mailboxes.iter().map(|it| it.interest_bytes.load(Ordering::Relaxed)).sum();
        let sources = self.readers.sources.iter().flatten().count();
        let kernel_bytes = self.kernel_bytes_per_subscriber;
        let subscriber = BrokerConfig::subscriber_bytes_max(kernel_bytes);
        let memory = self.config.bytes_max(sources, mailboxes.len() + 1, kernel_bytes);
        status.metric("memory_bytes_bound", memory);
        status.metric("subscriber_bytes_bound", subscriber);
        let elsewhere_unread: u64 =
            mailboxes.iter().map(|it| it.unread_closed.load(Ordering::Relaxed)).sum();
        let unread = self.readers.connections.unread_closed() + elsewhere_unread;
        status.metric("unread_closed", unread);
        status.metric("watch_list_bytes", self.readers.interest_bytes() as u64 + elsewhere);
        for (source, intake) in self.readers.sources.iter().zip(&self.intakes) {
            let Some(source) = source else { continue };
            let number = intake.number();
            let gaps =
                mailboxes.iter().filter_map(|mailbox| mailbox.gaps_sent.get(usize::from(number)));
            let gaps: u64 = gaps.map(|gaps| gaps.load(Ordering::Relaxed)).sum();
            let prefix = format!("source.{number}");
            status.metric(format!("{prefix}.publisher_up"), i64::from(source.has_publisher));
            let is_stale = source.announced().states.all == FeedStatus::Stale;
            status.metric(format!("{prefix}.stale"), i64::from(is_stale));
            status.metric(format!("{prefix}.epoch"), source.epoch);
            if source.feed != 0 {
                status.text(format!("{prefix}.epoch_id"), format!("{:016x}", source.feed));
            }
            status.metric(format!("{prefix}.next_seq"), Seq::number(source.wanted_seq()));
            status.metric(format!("{prefix}.instruments"), source.values.len());
            status.metric(format!("{prefix}.frames"), intake.frames);
            status.metric(format!("{prefix}.duplicates"), intake.duplicates);
            status.metric(format!("{prefix}.gaps_told"), source.gaps_sent + gaps);
            status.metric(format!("{prefix}.stalls"), intake.stalls);
        }
        status
    }

    fn on_close(
        &mut self,
        _now: Now,
        conn: ConnId,
        peer: Option<BrokerPeer>,
        _reason: CloseReason,
    ) {
        match peer {
            Some(BrokerPeer::Publisher { source }) => self.forget_publisher(conn, source),
            Some(BrokerPeer::Subscriber(subscriber)) => self.readers.forget(conn, &subscriber),
            Some(BrokerPeer::Querier) | None => {}
        }
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.look_after_publishers(now);
        self.readers.handle_timers(now);
    }

    fn on_commit(&mut self, _now: Now) {
        self.take_in_waiting();
        let has_updates: [bool; limits::SOURCES_MAX] = std::array::from_fn(|number| {
            let source = self.readers.sources.get(number).and_then(Option::as_ref);
            source.is_some_and(|source| source.has_updates)
        });
        // Subscribers stand in line before the publisher, who can wait for an ACK that is cumulative.
        self.readers.commit();
        for ((source, intake), _) in self
            .readers
            .sources
            .iter()
            .zip(&self.intakes)
            .zip(has_updates)
            .filter(|(_, has_updates)| *has_updates)
        {
            let Some(source) = source else { continue };
            if let Some(publisher) = intake.publisher() {
                let ack = Ack {
                    epoch: U32::new(source.epoch),
                    accepted_seq: Seq::field(source.wanted_seq()),
                    ..Ack::default()
                };
                self.readers.connections.send(publisher, ack);
            }
            self.further_reactors.has_updates = true;
        }
        if std::mem::take(&mut self.further_reactors.has_updates) {
            self.next_wake = 1;
        }
    }

    fn on_proceed(&mut self, now: Now) {
        self.readers.proceed(now);
    }

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let publishers = self.intakes.iter().filter(|intake| intake.publisher().is_some());
        let publishers = publishers.filter_map(|intake| intake.life.next_due());
        self.readers.next_deadline().into_iter().chain(publishers).min()
    }

    fn next_wake(&mut self) -> Option<usize> {
        let reactor = self.next_wake;
        if reactor > self.further_reactors.mailboxes.len() {
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
        let Some(&BrokerPeer::Publisher { source }) = self.readers.connections.peer(conn) else {
            return true;
        };
        self.intakes
            .get(usize::from(source))
            .filter(|intake| intake.publisher() == Some(conn))
            .is_none_or(|intake| {
                intake.waiting.is_empty() && self.readers.connections.round().has_room()
            })
    }
}

/// Frames that a snapshot marks.
const SNAPSHOT: u16 = Flags::SNAPSHOT;

#[cfg(test)]
mod tests;
