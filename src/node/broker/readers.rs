//! The subscribers of one reactor, over that reactor's windows on the sources. What is *not* here: where
//! frames come from.

use std::collections::BTreeSet;

use super::BrokerPeer;
use super::places::{self, SubscriberPlaces};
use super::source::Source;
use super::subscriber::{Next, Piece, Subscriber};
use crate::feed::{Steps, Window};
use crate::limits;
use crate::node::session::{Admission, Filled, Rejection};
use crate::node::{ConnId, Connections, Outgoing};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{ErrorCode, FRAME_BYTES, Frame, Kind, Mode, Session, Subscribe, padded};

/// How many modes there are, and their names by number.
pub(super) const MODES: usize = 3;
pub(super) const MODE_NAMES: [&str; MODES] = ["lossless", "latest", "conflate"];

const _: () = assert!(Mode::Lossless as usize == 0 && Mode::Conflate as usize + 1 == MODES);

/// Connections and what they read.
#[derive(Debug)]
pub(super) struct Readers<W> {
    pub(super) connections: Connections<BrokerPeer>,
    /// By number, up to the last one that anybody has named: a turn looks at all of them several times.
    pub(super) sources: Vec<Option<Source<W>>>,
    pub(super) subscribers: usize,
    /// Of these, who has a subscription, by the number of its mode.
    pub(super) by_mode: [usize; MODES],
    /// The same of all reactors, by address.
    pub(super) places: SubscriberPlaces,
    /// See [`super::BrokerConfig::names_behind_gaps`].
    pub(super) names_behind_gaps: bool,
    /// When the next batch of each conflating subscriber is due.
    pub(super) conflating: BTreeSet<(Mono, ConnId)>,
    /// The source that has the first steps of a turn.
    proceed_from: usize,
    /// Frames gathered for one subscriber; kept to save the allocation.
    scratch: Vec<Frame>,
}

impl<W> Default for Readers<W> {
    fn default() -> Readers<W> {
        Readers {
            connections: Connections::default(),
            sources: Vec::new(),
            subscribers: 0,
            by_mode: [0; MODES],
            places: SubscriberPlaces::default(),
            names_behind_gaps: false,
            conflating: BTreeSet::new(),
            proceed_from: 0,
            scratch: Vec::new(),
        }
    }
}

impl<W: Window> Readers<W> {
    pub(super) fn source_mut(&mut self, source: u8) -> Option<&mut Source<W>> {
        let place = usize::from(source);
        if place >= self.sources.len() && place < limits::SOURCES_MAX {
            self.sources.resize_with(place + 1, || None);
        }
        let source = self.sources.get_mut(place)?.get_or_insert_with(Source::default);
        source.names_behind_gaps = self.names_behind_gaps;
        Some(source)
    }

    /// Welcomes a subscriber. The bound on their number has been kept.
    pub(super) fn greet(&mut self, conn: ConnId, session: &Session) -> Admission<BrokerPeer> {
        let (source, name) = (session.source, padded("broker"));
        self.subscribers += 1;
        let bucket = places::bucket(self.connections.principal(conn));
        self.places.enter(bucket);
        let answer = Session { source, name, ..Session::default() };
        let subscriber = Subscriber::greeted(session, bucket);
        Admission::Accepted(BrokerPeer::Subscriber(subscriber), answer)
    }

    /// A frame, checked, from a subscriber. Its heartbeats are answered already.
    pub(super) fn handle_frame(&mut self, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        match frame.kind() {
            Some(Kind::Heartbeat) => Ok(()),
            Some(kind) if kind.is_data() => {
                Err(Rejection::new(ErrorCode::Unexpected, "subscribers do not publish"))
            }
            _ => {
                let subscribe = frame.view::<Subscribe>().ok_or_else(Rejection::out_of_place)?;
                self.handle_subscribe(conn, subscribe)
            }
        }
    }

    fn handle_subscribe(&mut self, conn: ConnId, subscribe: &Subscribe) -> Result<(), Rejection> {
        if self.source_mut(subscribe.source).is_none() {
            return Err(Rejection::new(ErrorCode::Limit, "source numbers are 0 to 7"));
        }
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        if subscriber.add_pattern(subscribe)?
            && let Some(Some(source)) = self.sources.get_mut(usize::from(subscribe.source))
        {
            source.joining.push_back(conn);
        }
        Ok(())
    }

    /// Goes on with what looks patterns up, as far as the steps of this turn go: what has left is taken out,
    /// interests decide about new instruments, newcomers get their interests, in order.
    pub(super) fn proceed(&mut self, now: Now) {
        // A source with much to do leaves something to the others, now and then.
        if !self.has_work() {
            return;
        }
        let count = self.sources.len();
        self.proceed_from = (self.proceed_from + 1) % count.max(1);
        for place in (self.proceed_from..count).chain(0..self.proceed_from) {
            if !matches!(self.sources.get(place), Some(Some(source)) if source.has_work()) {
                continue;
            }
            if let Ok(number) = u8::try_from(place) {
                self.settle(number);
                while self.let_join(now, number) {}
            }
        }
    }

    /// Whether what is published can be taken in: interests have decided about all instruments so far. They
    /// go on deciding, as far as the steps of this turn go.
    pub(super) fn settle(&mut self, number: u8) -> bool {
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return true };
        let interests = &mut source.interests;
        if !interests.has_work() {
            return true;
        }
        let was_settled = interests.is_settled();
        interests.settle(self.connections.work_mut().steps_mut());
        let is_settled = interests.is_settled();
        if is_settled && !was_settled {
            // Whoever was to be flushed meanwhile was sent nothing.
            self.notify_ready(number);
        }
        is_settled
    }

    /// Lets interests decide about all instruments of a source at once.
    pub(super) fn settle_all(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return };
        if !source.interests.is_settled() {
            source.interests.settle(&mut Steps::new(usize::MAX));
            self.notify_ready(number);
        }
    }

    /// Whether a source has instruments that interests have not decided about.
    pub(super) fn is_settled(&self) -> bool {
        self.sources.iter().flatten().all(|source| source.interests.is_settled())
    }

    /// Whether the next turn has to go on with what this one had no steps for.
    pub(super) fn has_work(&self) -> bool {
        self.sources.iter().flatten().any(Source::has_work)
    }

    /// Looks the patterns of the next newcomer up. Whether there may be another one in this turn.
    fn let_join(&mut self, now: Now, number: u8) -> bool {
        let Some(Some(source)) = self.sources.get_mut(usize::from(number)) else { return false };
        let mut unbounded = Steps::new(usize::MAX);
        let bounded = self.connections.work_mut().steps_mut();
        if bounded.left() == 0 || !source.interests.is_settled() {
            return false;
        }
        let is_unbounded = is_planted(Bug::JoinInOneTurn);
        let mut steps = if is_unbounded { &mut unbounded } else { bounded };
        if source.resolving.is_none() {
            let Some(conn) = source.joining.pop_front() else { return false };
            let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
                return true;
            };
            let Some(patterns) = subscriber.take_patterns() else { return true };
            steps =
                if is_unbounded { &mut unbounded } else { self.connections.work_mut().steps_mut() };
            source.resolving = Some((conn, source.interests.join(patterns, steps)));
        }
        let Some((conn, interest)) = source.resolving else { return false };
        let is_complete = source.interests.resolve(interest, steps);
        if is_unbounded {
            self.connections.work_mut().steps_mut().take(unbounded.taken());
        }
        if !is_complete {
            return false;
        }
        source.resolving = None;
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            // It has left meanwhile.
            source.interests.leave(interest);
            return true;
        };
        subscriber.set_place(source.readers.len());
        source.readers.push(conn);
        let due = subscriber.begin(now.mono, interest);
        if let Some(mode) = subscriber.mode() {
            self.by_mode[mode as usize] += 1;
        }
        if let Some(due) = due {
            self.conflating.insert((due, conn));
        }
        self.connections.set_bulk(conn, true);
        self.connections.mark_dirty(conn);
        true
    }

    /// A source can be served now. Once for each reader: only marks, when the publisher has said where it begins,
    /// and when instruments have been settled that one turn had no steps for.
    pub(super) fn notify_ready(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            self.connections.mark_dirty(conn);
        }
    }

    /// The publisher has stated instruments that were not known: who is connected has to learn their names too.
    ///
    /// Once for each reader, and only marks: what is sent goes in pieces, as a snapshot does.
    pub(super) fn notify_stated(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn)
                && subscriber.repeat_stated()
            {
                self.connections.set_bulk(conn, true);
                self.connections.mark_dirty(conn);
            }
        }
    }

    /// Last values have come that were missing: who passes frames over may have been sent older ones behind a loss.
    pub(super) fn notify_late_values(&mut self, number: u8) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn)
                && subscriber.note_late_values()
                && subscriber.repeat_stated()
            {
                self.connections.set_bulk(conn, true);
                self.connections.mark_dirty(conn);
            }
        }
    }

    /// A new epoch began. It may have taken back what subscribers have seen or were about to see; and
    /// all of them must know that they are in it, or they would take it for a loss on their next visit.
    ///
    /// All readers in one turn: two frames each, once for a start of core, and nobody may be sent a frame of the epoch
    /// before. While it goes on no tick can be late, since none of the new epoch was taken in.
    pub(super) fn notify_epoch(&mut self, number: u8, void_from: Option<u64>) {
        let Some(Some(source)) = self.sources.get(usize::from(number)) else { return };
        for &conn in &source.readers {
            let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
                continue;
            };
            let gap = void_from.and_then(|seq| subscriber.void_from(seq));
            let confirmation = subscriber.confirmation(source);
            if let Some(gap) = gap {
                self.connections.send(conn, gap);
            }
            if let Some(confirmation) = confirmation {
                self.connections.send(conn, confirmation);
            }
        }
    }

    /// Notifies the readers of each source that has updates, and all of one that has caught up.
    pub(super) fn commit(&mut self) {
        for number in 0..u8::try_from(self.sources.len()).unwrap_or(u8::MAX) {
            if let Some(Some(source)) = self.sources.get_mut(usize::from(number))
                && std::mem::take(&mut source.has_caught_up)
            {
                self.notify_ready(number);
            }
        }
        for source in self.sources.iter_mut().flatten() {
            if !std::mem::take(&mut source.has_updates) {
                continue;
            }
            // Whoever stands first is served first; turning the start keeps that fair.
            source.turn_start = (source.turn_start + 1) % source.readers.len().max(1);
            let (before, after) = source.readers.split_at(source.turn_start);
            for &conn in after.iter().chain(before) {
                self.connections.mark_dirty_if_live(conn);
            }
        }
    }

    pub(super) fn handle_timers(&mut self, now: Now) {
        self.announce(now);
        while let Some(&(due, conn)) = self.conflating.first() {
            if due > now.mono {
                break;
            }
            self.conflating.pop_first();
            if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) {
                let next = subscriber.make_due(now.mono);
                self.conflating.insert((next, conn));
                self.connections.mark_dirty(conn);
            }
        }
    }

    /// Has the readers told of each source that is stale, or current again, since they were told last.
    fn announce(&mut self, now: Now) {
        for source in self.sources.iter_mut().flatten() {
            if source.announce(now.mono) {
                for &conn in &source.readers {
                    self.connections.mark_dirty(conn);
                }
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        if self.has_work() {
            return Some(Mono::default());
        }
        let announcements = self.sources.iter().flatten().filter_map(Source::announcement_due);
        self.conflating.first().map(|&(due, _)| due).into_iter().chain(announcements).min()
    }

    /// A subscriber has left.
    pub(super) fn forget(&mut self, conn: ConnId, subscriber: &Subscriber) {
        self.subscribers -= 1;
        if let Some(mode) = subscriber.mode() {
            self.by_mode[mode as usize] -= 1;
        }
        self.places.leave(subscriber.bucket());
        if let Some(due) = subscriber.conflate_due() {
            self.conflating.remove(&(due, conn));
        }
        if let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source()))
            && let Some(interest) = subscriber.interest()
        {
            let place = subscriber.place();
            if let Some(moved) = source.leave(place, interest)
                && let Some(BrokerPeer::Subscriber(moved)) = self.connections.any_peer_mut(moved)
            {
                moved.set_place(place);
            }
        }
    }

    /// Puts what a subscriber should get next into its outbox, unless it can be sent from the ring.
    #[inline]
    pub(super) fn fill(&mut self, conn: ConnId) -> Filled {
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return Filled::Nothing;
        };
        if subscriber.is_bulk() {
            return self.fill_bulk(conn);
        }
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source())) else {
            return Filled::Nothing;
        };
        self.scratch.clear();
        match subscriber.fill(source, &mut self.scratch, None) {
            Next::Gathered => {
                self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
                Filled::Outbox
            }
            Next::Lent => Filled::Lent,
            Next::Nothing => Filled::Nothing,
            Next::Foreign => self.refuse_foreign(conn),
            Next::Later => {
                self.connections.set_bulk(conn, true);
                self.connections.mark_dirty(conn);
                Filled::Nothing
            }
        }
    }

    /// What it wants to go on with is no part of the source's sequence.
    fn refuse_foreign(&mut self, conn: ConnId) -> Filled {
        let text = "another sequence: subscribe from 0";
        self.connections.refuse(conn, ErrorCode::Unexpected, text);
        Filled::Outbox
    }

    /// The same of what can wait: a piece, as long as this turn may spend something on it.
    #[inline(never)]
    fn fill_bulk(&mut self, conn: ConnId) -> Filled {
        let frames_left = self.connections.work().frames_left();
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return Filled::Nothing;
        };
        let Some(Some(source)) = self.sources.get_mut(usize::from(subscriber.source())) else {
            return Filled::Nothing;
        };
        let mut next = Next::Later;
        let mut spent = 0;
        self.scratch.clear();
        if frames_left > 0 {
            let mut piece = Piece::within(frames_left);
            next = subscriber.fill(source, &mut self.scratch, Some(&mut piece));
            spent = self.scratch.len() + piece.look_cost();
        }
        let (is_bulk, is_in_snapshot) = (subscriber.is_bulk(), subscriber.is_in_snapshot());
        self.connections.set_bulk(conn, is_bulk);
        match next {
            Next::Gathered => {
                let spent = spent + limits::BULK_FRAMES_PER_WRITE;
                self.connections.work_mut().spend_frames(spent);
                self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
                Filled::Outbox
            }
            Next::Lent => Filled::Lent,
            Next::Nothing => Filled::Nothing,
            Next::Foreign => self.refuse_foreign(conn),
            Next::Later => {
                self.connections.work_mut().spend_frames(spent);
                if is_in_snapshot {
                    self.connections.mark_dirty_first(conn);
                } else {
                    self.connections.mark_dirty(conn);
                }
                Filled::Nothing
            }
        }
    }

    /// The bytes of the ring from a subscriber's cursor on.
    #[inline]
    pub(super) fn lent(&self, conn: ConnId) -> Outgoing<'_> {
        if let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer(conn)
            && let Some(Some(source)) = self.sources.get(usize::from(subscriber.source()))
            && let Some(view) = source.view()
        {
            let mut frames = limits::WRITE_BYTES_PER_TURN_MAX / FRAME_BYTES;
            if subscriber.is_bulk() {
                frames = limits::bulk_piece(self.connections.work().frames_left()).0;
            }
            let (head, tail) = view.bytes(subscriber.cursor(), frames);
            return Outgoing { front: &[], head, tail };
        }
        Outgoing::default()
    }

    /// So many bytes of the ring have left. Whether there may be more to send now.
    #[inline]
    pub(super) fn handle_lent_sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(BrokerPeer::Subscriber(subscriber)) = self.connections.peer_mut(conn) else {
            return false;
        };
        let Some(Some(source)) = self.sources.get(usize::from(subscriber.source())) else {
            return false;
        };
        let Some(view) = source.view() else { return false };
        // The rest of a half-sent frame is kept apart: the ring may overwrite it before the peer
        // has room for it.
        let rest = subscriber.advance(view, bytes);
        let (is_bulk, has_more) = (subscriber.is_bulk(), subscriber.cursor() < view.next_seq());
        if is_bulk {
            let spent = limits::BULK_FRAMES_PER_WRITE + bytes / FRAME_BYTES;
            self.connections.work_mut().spend_frames(spent);
        }
        if let Some(rest) = rest {
            self.connections.fill(conn, &rest);
            return true;
        }
        // One that is not late any more is said to be live when it is asked again.
        has_more || is_bulk
    }

    /// Bytes that the interests of all sources hold.
    pub(super) fn interest_bytes(&self) -> usize {
        self.sources.iter().flatten().map(|source| source.interests.bytes()).sum()
    }
}
