//! The node of a further reactor: subscribers that the first one handed over, served from the same
//! rings. It takes in frames and messages in the order in which the first reactor made them, and moves
//! its gates, so that the writer never waits for more than one of its turns.
//!
//! # Decisions
//!
//! * A further reactor keeps half of the ring for its subscribers and leaves the writer the other half. The
//!   first reactor stores and sends in turns, so it keeps the whole ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::mailbox::{Mailbox, MailboxMessage, SourceChange, Stall};
use super::places::SubscriberPlaces;
use super::readers::Readers;
use super::source::note;
use super::{Broker, BrokerPeer};
use crate::feed::RingReader;
use crate::limits;
use crate::node::session::{Admission, Filled, Rejection, Roles, Status};
use crate::node::{CloseReason, ConnId, Connections, Outgoing, Service, Work};
use crate::planted::{Bug, is_planted, preemption_point};
use crate::time::{Mono, Now};
use crate::wire::{FRAME_BYTES, Frame, Seq, Session};

/// By source: how far the writer of its ring has come, if there is a ring.
type Heads = [Option<u64>; limits::SOURCES_MAX];

/// A fan-out; [`super::Broker::with_fanouts`] makes them.
#[derive(Debug)]
pub struct Fanout {
    pub(super) readers: Readers<RingReader>,
    mailbox: Arc<Mailbox>,
    stall: Stall,
    /// A message that stands behind more frames than one turn takes in.
    message: Option<MailboxMessage>,
    /// More waits than one turn takes in.
    has_more: bool,
    wakes_intake: bool,
    messages_taken: u64,
}

impl Fanout {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        stall: Stall,
        places: SubscriberPlaces,
        unread_max: Duration,
    ) -> Fanout {
        let mut readers = Readers::default();
        readers.places = places;
        readers.connections.bound_unread(unread_max);
        Fanout {
            readers,
            mailbox,
            stall,
            message: None,
            has_more: false,
            wakes_intake: false,
            messages_taken: 0,
        }
    }

    /// What it knows of the sources otherwise than the first reactor does. Nothing, once it has taken in
    /// everything; before that nothing is said.
    #[must_use]
    pub fn differs_from(&self, first: &Broker) -> Option<&'static str> {
        let is_behind = self.message.is_some() || self.mailbox.has_messages();
        let sources = self.readers.sources.iter().zip(&first.readers.sources);
        for (ours, theirs) in sources.filter(|_| !is_behind) {
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            if ours.window.as_ref().is_some_and(|window| window.seen() < window.head()) {
                continue;
            }
            if let Some(difference) = ours.differs_from(theirs) {
                return Some(difference);
            }
        }
        None
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

    /// How many messages of the first reactor it has taken.
    #[must_use]
    pub fn messages_taken(&self) -> u64 {
        self.messages_taken
    }

    fn heads(&self) -> Heads {
        std::array::from_fn(|number| {
            Some(self.readers.sources.get(number)?.as_ref()?.window.as_ref()?.head())
        })
    }

    /// The heads, and then the next message. What is read first is the older of the two.
    fn look(&mut self) -> (Heads, Option<MailboxMessage>) {
        if is_planted(Bug::MessagesBeforeHeads) {
            let message = self.next_message();
            preemption_point();
            return (self.heads(), message);
        }
        let heads = self.heads();
        preemption_point();
        (heads, self.next_message())
    }

    fn next_message(&mut self) -> Option<MailboxMessage> {
        self.message.take().or_else(|| self.mailbox.next_message())
    }

    /// Takes in what the first reactor has made. The heads are read before the messages: what was
    /// written before the head that is seen here is then seen too.
    ///
    /// Invariant: between two calls everybody with something to get was flushed once, and one call takes
    /// in no more than a subscriber can be sent in one turn, and keeps in its window. So nobody is lapped
    /// because this reactor was late; only who does not read is.
    fn take_in(&mut self) {
        self.has_more = false;
        if self.readers.connections.dirty_len() > 0 || !self.readers.is_settled() {
            // The turns before have not come round yet; or nobody can be sent what would come in.
            self.has_more = true;
            return;
        }
        let mut strides = [limits::WRITE_BYTES_PER_TURN_MAX / FRAME_BYTES; limits::SOURCES_MAX];
        let mut has_moved = false;
        for _ in 0..limits::MAILBOX_MESSAGES_PER_TURN_MAX {
            let (heads, message) = self.look();
            let Some(message) = message else {
                for (number, (head, stride)) in heads.into_iter().zip(&mut strides).enumerate() {
                    let Some(head) = head else { continue };
                    self.has_more |= !self.advance(number, head, stride, &mut has_moved);
                }
                self.wakes_intake |= has_moved && self.stall.is_over();
                return;
            };
            let number = usize::from(message.source);
            let Some(stride) = strides.get_mut(number) else { continue };
            let mut at_seq = Seq::number(message.at_seq);
            if is_planted(Bug::HeadBeyondMessage) {
                at_seq =
                    heads.get(number).copied().flatten().map_or(at_seq, |head| head.max(at_seq));
            }
            if !self.advance(number, at_seq, stride, &mut has_moved) {
                self.message = Some(message);
                break;
            }
            self.handle_message(message);
            self.messages_taken += 1;
            // A message less is room too, and so is a ring that was let go of.
            has_moved = true;
        }
        // Beyond the last message nothing is taken in: the next one may stand before it.
        self.has_more = true;
        self.wakes_intake |= has_moved && self.stall.is_over();
    }

    /// Takes in a source's frames before `seq`, at most `stride` of them. Whether that was all.
    fn advance(
        &mut self,
        number: usize,
        seq: u64,
        stride: &mut usize,
        has_moved: &mut bool,
    ) -> bool {
        let Some(Some(source)) = self.readers.sources.get_mut(number) else { return true };
        let Some(window) = &mut source.window else { return true };
        let (values, interests) = (&mut source.values, &mut source.interests);
        *stride = (*stride).min(window.stride());
        let until = seq.min(window.seen().saturating_add(*stride as u64));
        let before = *stride;
        *has_moved |= window.advance(until, |frame| {
            let _ = note(values, interests, frame);
            *stride -= 1;
        });
        source.has_updates |= *stride < before;
        until == seq
    }

    fn handle_message(&mut self, message: MailboxMessage) {
        let number = message.source;
        let Some(source) = self.readers.source_mut(number) else { return };
        match message.change {
            SourceChange::Window(window) => source.window = Some(window),
            SourceChange::Ready => {
                source.is_ready = true;
                self.readers.notify_ready(number);
            }
            SourceChange::Epoch(change) => {
                let is_new_epoch = (source.epoch, source.feed) != (change.epoch, change.feed);
                change.jump.into_iter().for_each(|jump| source.taken_back.note(jump));
                source.begin_epoch(change.feed, change.epoch, change.epoch_start, change.is_new);
                source.publisher_seq = change.publisher_seq;
                source.is_ready = change.is_ready;
                if let Some(seq) = change.values_void_from() {
                    source.void_from(seq);
                }
                // A publisher may take back what is not its own under the same epoch too.
                if is_new_epoch || change.void_from.is_some() {
                    self.readers.notify_epoch(number, change.void_from);
                }
            }
            SourceChange::Lineage(entry) => source.lineage.note(entry),
            SourceChange::Value(frame) => drop(source.note(&frame)),
            SourceChange::Stated => self.readers.notify_stated(number),
            SourceChange::Publisher(state) => {
                source.note_publisher(state);
            }
        }
    }

    /// The first reactor has kept the bound on their number.
    fn greet_subscriber(
        &mut self,
        _now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<BrokerPeer> {
        self.mailbox.arriving.fetch_sub(1, Ordering::Relaxed);
        self.readers.greet(conn, session)
    }
}

impl Service for Fanout {
    type Peer = BrokerPeer;

    const TITLE: &'static str = "the broker";
    const ROLES: Roles<Self> = Roles { subscriber: Some(Fanout::greet_subscriber), ..Roles::NONE };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<BrokerPeer> {
        &self.readers.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<BrokerPeer> {
        &mut self.readers.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    fn on_frame(&mut self, _now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        self.readers.handle_frame(conn, frame)
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

    /// The first reactor speaks for all.
    fn status(&self, _now: Now) -> Status {
        Status::default()
    }

    fn on_close(
        &mut self,
        _now: Now,
        conn: ConnId,
        peer: Option<BrokerPeer>,
        _reason: CloseReason,
    ) {
        match peer {
            Some(BrokerPeer::Subscriber(subscriber)) => self.readers.forget(conn, &subscriber),
            // It was lost on its way here, or left ahead of its greeting.
            _ => drop(self.mailbox.arriving.fetch_sub(1, Ordering::Relaxed)),
        }
        self.mailbox.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {
        self.take_in();
    }

    fn on_timers(&mut self, now: Now) {
        self.readers.handle_timers(now);
    }

    fn on_commit(&mut self, _now: Now) {
        self.readers.commit();
        self.mailbox.refused.store(self.readers.connections.refused(), Ordering::Relaxed);
        let unread_closed = self.readers.connections.unread_closed();
        self.mailbox.unread_closed.store(unread_closed, Ordering::Relaxed);
        self.mailbox.sent_bytes.store(self.readers.connections.sent_bytes(), Ordering::Relaxed);
        for (shared, count) in self.mailbox.by_mode.iter().zip(self.readers.by_mode) {
            shared.store(count, Ordering::Relaxed);
        }
        for (count, source) in self.mailbox.gaps_sent.iter().zip(&self.readers.sources) {
            let Some(source) = source else { continue };
            count.store(source.gaps_sent, Ordering::Relaxed);
        }
    }

    fn on_proceed(&mut self, now: Now) {
        self.readers.proceed(now);
        let bytes = self.readers.interest_bytes() as u64;
        self.mailbox.interest_bytes.store(bytes, Ordering::Relaxed);
    }

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        if self.has_more {
            return Some(Mono::default());
        }
        self.readers.next_deadline()
    }

    fn next_wake(&mut self) -> Option<usize> {
        std::mem::take(&mut self.wakes_intake).then_some(0)
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

    fn wants(&self, _conn: ConnId) -> bool {
        true
    }
}
