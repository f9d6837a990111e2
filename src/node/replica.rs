//! A quote replica: follows core's sequence as a broker does, keeps the last values, and answers for the
//! current quotes beside core. What it does not do: keep a log (after a restart core gives it the last
//! values anew), hand anything to subscribers, or call a quote current that it does not know to be.
//!
//! Invariant: a quote goes out without STALE only while core has said that its own values are current,
//! and has been heard within [`limits::REPLICA_SILENCE_MAX`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::quotes::{QuoteDesk, Shelf};
use super::session::{Admission, Denial, Filled, Roles, Status};
use super::{CloseReason, ConnId, Level, Links, Service};
use crate::feed::LastValues;
use crate::limits;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, Definition, ErrorCode, Flags, Frame, Heartbeat, InstrumentId, Kind, Op, Seq, Session,
    Symbol, U16, U32, padded,
};

/// What a replica is configured with.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its name, such as `core.1`.
    pub name: String,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Peer {
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
    names: BTreeMap<Symbol, InstrumentId>,
    publisher: Option<ConnId>,
    epoch: u32,
    epoch_start: Option<Seq>,
    /// The next `seq` wanted; `None`: nothing is known, a snapshot is wanted.
    next_seq: Option<Seq>,
    /// Last values with a seq below this may have been followed by others, which core lost.
    doubtful_below: Option<Seq>,
    /// What core last said of its own values.
    is_told_live: bool,
    /// When core was last heard.
    heard: Mono,
    next_probe: Mono,
    has_news: bool,
    frames: u64,
    duplicates: u64,
    holes: u64,
    scratch: Vec<Frame>,
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
            epoch_start: None,
            next_seq: None,
            doubtful_below: None,
            is_told_live: false,
            heard: Mono::default(),
            next_probe: Mono::default(),
            has_news: false,
            frames: 0,
            duplicates: 0,
            holes: 0,
            scratch: Vec::new(),
        }
    }

    /// Whether the last values are known to be current.
    fn is_live(&self, now: Now) -> bool {
        self.publisher.is_some()
            && self.is_told_live
            && now.mono.since(self.heard) < limits::REPLICA_SILENCE_MAX
    }

    fn greet_querier(&mut self, _now: Now, _conn: ConnId, session: &Session) -> Admission<Peer> {
        Admission::Welcome(Peer::Querier(QuoteDesk::default()), self.introduction(session))
    }

    fn greet_publisher(&mut self, now: Now, conn: ConnId, session: &Session) -> Admission<Peer> {
        self.follow(now, conn, session);
        Admission::Welcome(Peer::Publisher, self.introduction(session))
    }

    fn introduction(&self, session: &Session) -> Session {
        Session {
            source: session.source,
            epoch: U32::new(self.epoch),
            epoch_start: Seq::field(self.epoch_start),
            next_seq: Seq::field(self.next_seq),
            name: padded(&self.config.name),
            ..Session::default()
        }
    }

    fn follow(&mut self, now: Now, conn: ConnId, session: &Session) {
        let (epoch, start) = (session.epoch.get(), session.epoch_start());
        // Where an epoch began that was missed is not known, but it was not before the one known here.
        let missed = epoch.saturating_sub(self.epoch) > 1;
        let start = if missed { start.min(self.epoch_start) } else { start };
        let is_void = epoch != self.epoch && start < self.next_seq;
        // Core never had what is known here, or took it back: begin with its last values.
        if is_void || session.next_seq() < self.next_seq {
            self.values = LastValues::default();
            self.names = BTreeMap::new();
            self.doubtful_below = None;
            self.next_seq = None;
        }
        self.epoch = epoch;
        self.epoch_start = session.epoch_start();
        self.is_told_live = false;
        self.heard = now.mono;
        self.next_probe = now.mono + limits::REPLICA_PROBE_EVERY;
        if let Some(before) = self.publisher.replace(conn) {
            self.links.refuse(before, ErrorCode::Unexpected, "another publisher took over");
        }
        let text =
            format!("core publishes, epoch {epoch}, from seq {}", Seq::number(self.next_seq));
        self.links.log(Level::Info, text);
    }

    /// A frame of the sequence, or a last value ahead of it.
    fn take(&mut self, frame: &Frame) -> Result<(), Denial> {
        let seq = frame.seq();
        let next = frame.next_seq();
        if !frame.has(Flags::SNAPSHOT) {
            if self.next_seq.is_none() || seq == Some(Seq::LAST) {
                let text = "say where the sequence starts (HEARTBEAT) first";
                return Err(Denial::new(ErrorCode::Unexpected, text));
            }
            self.frames += 1;
            self.duplicates += u64::from(seq < self.next_seq);
            if seq > self.next_seq {
                self.holes += 1;
                self.doubtful_below = seq;
            }
            self.next_seq = self.next_seq.max(Some(next));
            self.has_news = true;
        } else if frame.has(Flags::STALE) {
            // Core's own journal lost what may have followed it.
            self.doubtful_below = self.doubtful_below.max(Some(next));
        }
        // What is kept is what core stored; how it goes out is decided when it does.
        let mut stored = *frame;
        stored.flags = U16::new(frame.flags.get() & !Flags::DELIVERY);
        stored.renew_crc();
        self.values.note(&stored);
        if let Some(definition) = stored.view::<Definition>()
            && self.values.symbol(definition.instrument().index()) == Some(definition.symbol)
        {
            self.names.insert(definition.symbol, definition.instrument());
        }
        Ok(())
    }

    fn note_publisher(&mut self, beat: &Heartbeat) {
        if beat.flags.get() & Flags::MORE == 0 {
            self.is_told_live = beat.flags.get() & Flags::STALE == 0;
        }
        let next_seq = beat.next_seq();
        if next_seq > self.next_seq && next_seq != Some(Seq::LAST) {
            if self.next_seq.is_some() {
                // Core has sent all that it has of what came before.
                self.doubtful_below = next_seq;
            }
            self.next_seq = next_seq;
            self.has_news = true;
        }
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
        self.links.mark_dirty_where(|peer| matches!(peer, Peer::Querier(desk) if !desk.is_idle()));
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
            durable_seq: None,
        };
        desk.fill(&shelf, &mut self.scratch);
        if !self.scratch.is_empty() {
            self.links.fill(conn, zerocopy::IntoBytes::as_bytes(self.scratch.as_slice()));
        }
    }
}

impl Service for Replica {
    type Peer = Peer;

    const TITLE: &'static str = "the replica";
    const ROLES: Roles<Self> = Roles {
        publisher: Some(Replica::greet_publisher),
        querier: Some(Replica::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn links(&self) -> &Links<Peer> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<Peer> {
        &mut self.links
    }

    fn on_arrival(&mut self, now: Now, conn: ConnId, _frames: usize) {
        if self.publisher == Some(conn) {
            self.heard = now.mono;
        }
    }

    fn on_frame(&mut self, _now: Now, conn: ConnId, frame: &Frame) -> Result<(), Denial> {
        if !matches!(self.links.peer(conn), Some(Peer::Publisher)) {
            return Err(Denial::out_of_place());
        }
        if self.publisher != Some(conn) {
            return Ok(());
        }
        match frame.view::<Heartbeat>() {
            Some(beat) => self.note_publisher(beat),
            None if frame.kind().is_some_and(Kind::is_data) => return self.take(frame),
            None => return Err(Denial::out_of_place()),
        }
        Ok(())
    }

    fn answered_seq(&self, peer: &Peer) -> Option<Seq> {
        self.next_seq.filter(|_| matches!(peer, Peer::Querier(_)))
    }

    fn sent_seq(_peer: &Peer) -> Option<Seq> {
        None
    }

    fn has_open(&self, conn: ConnId, id: u32) -> bool {
        matches!(self.links.peer(conn), Some(Peer::Querier(desk)) if desk.has_open(id))
    }

    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Denial> {
        if question.op() != Some(Op::Quote) {
            let text = "a replica answers for current quotes only";
            return Err(Denial::new(ErrorCode::NotOwner, text));
        }
        let Some(Peer::Querier(desk)) = self.links.peer_mut(conn) else { return Ok(()) };
        desk.ask(now.mono, question, Duration::MAX)?;
        self.links.mark_dirty(conn);
        Ok(())
    }

    fn on_question_stopped(&mut self, _now: Now, conn: ConnId, id: u32) {
        if let Some(Peer::Querier(desk)) = self.links.peer_mut(conn) {
            desk.stop(id);
        }
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        status.text("quotes", if self.is_live(now) { "live" } else { "stale" });
        status.metric("publisher_up", i64::from(self.publisher.is_some()));
        status.metric("epoch", self.epoch);
        status.metric("next_seq", Seq::number(self.next_seq));
        status.metric("instruments", self.values.len());
        status.metric("frames", self.frames);
        status.metric("duplicates", self.duplicates);
        status.metric("holes", self.holes);
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.links.local_faults());
        status
    }

    fn on_close(&mut self, _now: Now, conn: ConnId, _peer: Option<Peer>, reason: CloseReason) {
        if self.publisher == Some(conn) {
            self.publisher = None;
            self.links.log(Level::Warn, format!("core's feed ended: {reason}"));
        }
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.probe(now);
        if self.waited_until().is_some_and(|until| until <= now.mono) {
            for (_, peer) in self.links.peers_mut() {
                if let Peer::Querier(desk) = peer {
                    desk.handle_timeout(now.mono);
                }
            }
            self.wake_waiting();
        }
    }

    fn on_commit(&mut self, _now: Now) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        if let Some(publisher) = self.publisher {
            let (epoch, accepted_seq) = (U32::new(self.epoch), Seq::field(self.next_seq));
            self.links.send(publisher, Ack { epoch, accepted_seq, ..Ack::default() });
        }
        self.wake_waiting();
    }

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let probe = self.publisher.map(|_| self.next_probe);
        [probe, self.waited_until()].into_iter().flatten().min()
    }

    fn fill(&mut self, now: Now, conn: ConnId) -> Filled {
        self.refill(now, conn);
        Filled::Outbox
    }
}

impl Replica {
    /// When the first question that waits for its cut has waited long enough.
    fn waited_until(&self) -> Option<Mono> {
        let of = |peer: &Peer| match peer {
            Peer::Querier(desk) => desk.next_deadline(),
            _ => None,
        };
        self.links.peers().filter_map(|(_, peer)| of(peer)).min()
    }
}

#[cfg(test)]
mod tests;
