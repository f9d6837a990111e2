//! A quote replica: follows core's sequence as a broker does, keeps the last values, and answers for the
//! current quotes beside core. What it does not do: keep a log (after a restart core gives it the last
//! values anew), hand anything to subscribers, or call a quote current that it does not know to be.
//!
//! Invariant: a quote goes out without STALE only while core has said that its own values are current,
//! and has been heard within [`limits::REPLICA_SILENCE_MAX`].

use super::freshness::Freshness;
use super::quotes::{QuotePlaces, QuoteQueries, QuoteView};
use super::session::{Admission, Filled, Rejection, Roles, Seat, Status};
use super::{CloseReason, ConnId, Connections, Level, Service};
use crate::feed::{LastValues, NameTable};
use crate::limits;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, Definition, ErrorCode, FeedStates, FeedStatus, Flags, Frame, Heartbeat, InstrumentId,
    Kind, Op, Refusal, Seq, Session, U16, U32, U64, padded, unpadded,
};

/// What a replica is configured with.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its name, such as `core.1`.
    pub name: String,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum ReplicaPeer {
    Publisher,
    Querier(QuoteQueries),
}

/// A quote replica node.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    connections: Connections<ReplicaPeer>,
    values: LastValues,
    names: NameTable<InstrumentId>,
    seat: Seat,
    epoch: u32,
    /// The identity of the epoch; 0 = core says none.
    feed: u64,
    /// Whom this replica has told where it stands, and who has to say what of that is part of his sequence.
    asked: Option<ConnId>,
    epoch_start: Option<Seq>,
    /// The next `seq` wanted; `None`: nothing is known, a snapshot is wanted.
    next_seq: Option<Seq>,
    /// Last values with a seq below this may have been followed by others, which core lost.
    uncertain_below: Option<Seq>,
    /// What core last said of its own values.
    reported: FeedStates,
    /// When core was last heard.
    heard: Mono,
    /// Also the question whether core is still there: a stopped process keeps its connections.
    freshness: Freshness,
    has_updates: bool,
    frames: u64,
    duplicates: u64,
    holes: u64,
    scratch: Vec<Frame>,
    /// Of all connections' questions.
    places: QuotePlaces,
}

impl Replica {
    /// A replica that knows nothing yet.
    #[must_use]
    pub fn new(config: ReplicaConfig) -> Replica {
        Replica {
            config,
            connections: Connections::default(),
            values: LastValues::default(),
            names: NameTable::default(),
            seat: Seat::default(),
            epoch: 0,
            feed: 0,
            asked: None,
            epoch_start: None,
            next_seq: None,
            uncertain_below: None,
            reported: FeedStates::STALE,
            heard: Mono::default(),
            freshness: Freshness::default(),
            has_updates: false,
            frames: 0,
            duplicates: 0,
            holes: 0,
            scratch: Vec::new(),
            places: QuotePlaces::default(),
        }
    }

    /// What is known of the last values.
    fn feed_states(&self, now: Now) -> FeedStates {
        if self.is_live(now) { self.reported } else { FeedStates::STALE }
    }

    /// Whether the last values are known to be current.
    fn is_live(&self, now: Now) -> bool {
        self.seat.holder().is_some()
            && self.reported.all != FeedStatus::Stale
            && now.mono.since(self.heard) < limits::REPLICA_SILENCE_MAX
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<ReplicaPeer> {
        let queries = QuoteQueries::new(self.connections.principal(conn));
        Admission::Accepted(ReplicaPeer::Querier(queries), self.own_session(session))
    }

    fn greet_publisher(
        &mut self,
        now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<ReplicaPeer> {
        let text = "another publisher lives; come back later";
        if let Err(rejection) = self.seat.check(now, &mut self.connections, text) {
            return Admission::Refused(rejection);
        }
        // What came without an identity is nobody's, so it is not core's.
        let holds_nothing = self.next_seq.is_none() || self.feed == 0;
        if !holds_nothing && session.feed.get() != self.feed {
            // What is known here is part of core's sequence only up to where core says.
            if self.asked != Some(conn) {
                self.asked = Some(conn);
                return Admission::Retry(self.own_session(session));
            }
            if !session.has(Session::CONTINUES) {
                let text = "that is not the sequence that this replica has";
                return Admission::refused(ErrorCode::Unexpected, text);
            }
        }
        self.follow(now, session);
        if let Some(before) = self.seat.take(conn) {
            let text = "no sign of life from you; another took over";
            self.connections.refuse(before, ErrorCode::Silent, text);
        }
        Admission::Accepted(ReplicaPeer::Publisher, self.own_session(session))
    }

    fn own_session(&self, session: &Session) -> Session {
        Session {
            source: session.source,
            epoch: U32::new(self.epoch),
            epoch_start: Seq::field(self.epoch_start),
            next_seq: Seq::field(self.next_seq),
            feed: U64::new(self.feed),
            name: padded(&self.config.name),
            ..Session::default()
        }
    }

    fn follow(&mut self, now: Now, session: &Session) {
        let (epoch, start) = (session.epoch.get(), session.epoch_start());
        // Where an epoch began that was missed is not known, but it was not before the one known here.
        let missed = session.feed.get() == 0 && epoch.saturating_sub(self.epoch) > 1;
        let start = if missed { start.min(self.epoch_start) } else { start };
        // An epoch that is lower than the known one, under the same identity, does not descend from it.
        let is_same_feed = session.feed.get() == self.feed;
        let is_nobodys = self.feed == 0 && !is_same_feed;
        let is_void = is_nobodys
            || is_same_feed && epoch < self.epoch
            || (epoch, session.feed.get()) != (self.epoch, self.feed) && start < self.next_seq;
        // Core never had what is known here, or took it back: begin with its last values.
        if is_void || session.next_seq() < self.next_seq {
            self.values = LastValues::default();
            self.names = NameTable::default();
            self.uncertain_below = None;
            self.next_seq = None;
        }
        self.epoch = epoch;
        self.feed = session.feed.get();
        self.epoch_start = session.epoch_start();
        self.reported = FeedStates::STALE;
        self.heard = now.mono;
        self.freshness.begin(now);
        let text =
            format!("core publishes, epoch {epoch}, from seq {}", Seq::number(self.next_seq));
        self.connections.log(Level::Info, text);
    }

    /// A frame of the sequence, or a last value ahead of it.
    fn take(&mut self, frame: &Frame) -> Result<(), Rejection> {
        let seq = frame.seq();
        let next = frame.next_seq();
        if !frame.has(Flags::SNAPSHOT) {
            if self.next_seq.is_none() || seq == Some(Seq::LAST) {
                let text = "say where the sequence starts (HEARTBEAT) first";
                return Err(Rejection::new(ErrorCode::Unexpected, text));
            }
            if seq > self.next_seq {
                let text = "a jump needs a HEARTBEAT with its next_seq";
                return Err(Rejection::new(ErrorCode::Unexpected, text));
            }
            self.frames += 1;
            self.duplicates += u64::from(seq < self.next_seq);
            self.next_seq = self.next_seq.max(Some(next));
            self.has_updates = true;
        } else if frame.has(Flags::STALE) {
            // Core's own journal lost what may have followed it.
            self.uncertain_below = self.uncertain_below.max(Some(next));
        }
        // What is kept is what core stored; how it goes out is decided when it does.
        let mut stored = *frame;
        stored.flags = U16::new(frame.flags.get() & !Flags::DELIVERY);
        stored.renew_crc();
        self.values.note(&stored);
        if let Some(definition) = stored.view::<Definition>()
            && self.values.symbol(definition.instrument().index()) == Some(definition.symbol)
        {
            self.names.insert(&definition.names(), definition.instrument());
        }
        Ok(())
    }

    fn note_publisher(&mut self, beat: &Heartbeat) {
        self.freshness.note(beat);
        if beat.flags.get() & Flags::MORE == 0 {
            self.reported = FeedStates::of(beat);
        }
        let next_seq = beat.next_seq();
        if next_seq > self.next_seq && next_seq != Some(Seq::LAST) {
            if self.next_seq.is_some() {
                // Core has sent all that it has of what came before.
                self.uncertain_below = next_seq;
                self.holes += 1;
            }
            self.next_seq = next_seq;
            self.has_updates = true;
        }
    }

    /// Asks core whether it is still there, and whether all that it has is here.
    fn probe(&mut self, now: Now) {
        let Some(publisher) = self.seat.holder() else { return };
        if let Some(probe) = self.freshness.poll(now) {
            self.connections.send(publisher, probe);
        }
    }

    /// Looks again at the questions that wait for their cut.
    fn wake_waiting(&mut self) {
        self.connections.mark_dirty_where(
            |peer| matches!(peer, ReplicaPeer::Querier(queries) if !queries.is_idle()),
        );
    }

    /// Puts the next piece of what a connection asked for into its empty outbox.
    fn refill(&mut self, now: Now, conn: ConnId) {
        let states = self.feed_states(now);
        self.scratch.clear();
        let Some(ReplicaPeer::Querier(queries)) = self.connections.peer_mut(conn) else { return };
        let view = QuoteView {
            values: &self.values,
            names: &self.names,
            states,
            uncertain_below: self.uncertain_below,
            as_of: self.next_seq,
            durable_seq: None,
            behind_ms: self.freshness.behind_ms(now),
        };
        queries.fill(&view, &mut self.scratch);
        queries.settle(&mut self.places);
        if !self.scratch.is_empty() {
            self.connections.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}

impl Service for Replica {
    type Peer = ReplicaPeer;

    const TITLE: &'static str = "the replica";
    const ROLES: Roles<Self> = Roles {
        publisher: Some(Replica::greet_publisher),
        querier: Some(Replica::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<ReplicaPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<ReplicaPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, now: Now, conn: ConnId, _frames: usize) {
        if self.seat.holder() == Some(conn) {
            self.heard = now.mono;
        }
    }

    fn on_refusal(&mut self, conn: ConnId, refusal: &Refusal) {
        if self.asked == Some(conn) {
            let text = format!(
                "core refuses to go on: {}. Nothing was changed, and quotes are stale. Restart this replica: it \
                 keeps nothing on disk",
                unpadded(&refusal.text),
            );
            self.connections.log(Level::Error, text);
        }
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        if !matches!(self.connections.peer(conn), Some(ReplicaPeer::Publisher)) {
            return Err(Rejection::out_of_place());
        }
        if self.seat.holder() != Some(conn) {
            return Ok(());
        }
        if let Some(session) = frame.view::<Session>().filter(|it| it.epoch.get() == self.epoch) {
            // It finds this replica ahead of what it has sent.
            self.follow(now, session);
            let answer = self.own_session(session);
            self.connections.send(conn, answer);
            return Ok(());
        }
        match frame.view::<Heartbeat>() {
            Some(beat) => self.note_publisher(beat),
            // Who hands no sequence on needs no lineage.
            None if frame.kind() == Some(Kind::Lineage) => {}
            None if frame.kind().is_some_and(Kind::is_data) => return self.take(frame),
            None => return Err(Rejection::out_of_place()),
        }
        Ok(())
    }

    fn answered_seq(&self, peer: &ReplicaPeer) -> Option<Seq> {
        self.next_seq.filter(|_| matches!(peer, ReplicaPeer::Querier(_)))
    }

    fn answered_status(&self, now: Now) -> FeedStatus {
        self.freshness.status(now)
    }

    fn sent_seq(_peer: &ReplicaPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, conn: ConnId, id: u32) -> bool {
        matches!(self.connections.peer(conn), Some(ReplicaPeer::Querier(queries)) if queries.has_open(id))
    }

    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Rejection> {
        if question.op() != Some(Op::Quote) {
            let text = "a replica answers for current quotes only";
            return Err(Rejection::new(ErrorCode::NotOwner, text));
        }
        let Some(ReplicaPeer::Querier(queries)) = self.connections.peer_mut(conn) else {
            return Ok(());
        };
        let waits = question.as_of > self.next_seq;
        queries.ask(now.mono, question, waits, &mut self.places)?;
        self.connections.mark_dirty(conn);
        Ok(())
    }

    fn on_question_stopped(&mut self, _now: Now, conn: ConnId, id: u32) {
        if let Some(ReplicaPeer::Querier(queries)) = self.connections.peer_mut(conn) {
            queries.stop(id);
            queries.settle(&mut self.places);
        }
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        let quotes = match self.feed_states(now).all {
            FeedStatus::Current => "live",
            FeedStatus::Ended => "ended",
            FeedStatus::Stale => "stale",
        };
        status.text("quotes", quotes);
        status.metric("behind_ms", self.freshness.figure_ms(now));
        status.metric("publisher_up", i64::from(self.seat.holder().is_some()));
        status.text("epoch_id", format!("{:016x}", self.feed));
        status.metric("epoch", self.epoch);
        status.metric("next_seq", Seq::number(self.next_seq));
        status.metric("instruments", self.values.len());
        status.metric("frames", self.frames);
        status.metric("duplicates", self.duplicates);
        status.metric("holes", self.holes);
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused());
        status.metric("local_faults", self.connections.local_faults());
        status
    }

    fn on_close(
        &mut self,
        _now: Now,
        conn: ConnId,
        peer: Option<ReplicaPeer>,
        reason: CloseReason,
    ) {
        if let Some(ReplicaPeer::Querier(mut queries)) = peer {
            queries.end(&mut self.places);
        }
        if self.seat.leave(conn) {
            self.freshness.end();
            self.connections.log(Level::Warn, format!("core's feed ended: {reason}"));
        }
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.probe(now);
        if self.waited_until().is_some_and(|until| until <= now.mono) {
            for (_, peer) in self.connections.peers_mut() {
                if let ReplicaPeer::Querier(queries) = peer {
                    queries.handle_timeout(now.mono);
                    queries.settle(&mut self.places);
                }
            }
            self.wake_waiting();
        }
    }

    fn on_commit(&mut self, _now: Now) {
        if !std::mem::take(&mut self.has_updates) {
            return;
        }
        if let Some(publisher) = self.seat.holder() {
            let (epoch, accepted_seq) = (U32::new(self.epoch), Seq::field(self.next_seq));
            self.connections.send(publisher, Ack { epoch, accepted_seq, ..Ack::default() });
        }
        self.wake_waiting();
    }

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let probe = self.freshness.next_due();
        [probe, self.waited_until()].into_iter().flatten().min()
    }

    fn fill(&mut self, now: Now, conn: ConnId) -> Filled {
        self.refill(now, conn);
        Filled::Outbox
    }

    fn wants(&self, conn: ConnId) -> bool {
        self.connections.wants_frames(conn)
    }
}

impl Replica {
    /// When the first question that waits for its cut has waited long enough. One look at all connections in each
    /// turn: a replica has one to each aggregator.
    fn waited_until(&self) -> Option<Mono> {
        let of = |peer: &ReplicaPeer| match peer {
            ReplicaPeer::Querier(queries) => queries.next_deadline(),
            _ => None,
        };
        self.connections.peers().filter_map(|(_, peer)| of(peer)).min()
    }
}

#[cfg(test)]
mod tests;
