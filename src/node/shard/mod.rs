//! A shard: keeps its part of core's sequence in an append-only log and answers history queries from
//! it. It follows core: core dials it, it says what it wants next. What it does not do: know the
//! present (core does) or the other shards' parts (the aggregator does).
//!
//! Invariant: what it acknowledged as accepted is committed in its log; what it acknowledged as durable
//! has been synced.

mod answers;
mod bars;
mod block;
mod cancels;
mod count;
mod holes;
mod index;
mod intake;
mod listed;
mod reply;
mod rows;
mod wanted;

use std::collections::VecDeque;

use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, Links, LocalFault, Node, Origin,
    Outgoing,
};
use crate::log::{Health, Log, Recovery, Storage};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::question::QuestionError;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, Frame, Heartbeat, Kind, Query, QueryMore, Role, Session, Symbol, U32, U64,
    padded,
};

use answers::{Asker, Load};
use index::Index;
use listed::Loaded;

/// What a shard is configured with.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its name, such as `shard-A`.
    pub name: String,
    /// Its number in the partition.
    pub shard: u16,
    /// Who owns what.
    pub partition: Partition,
}

/// What a connection is for.
#[derive(Debug)]
enum Peer {
    Unknown,
    Feeder,
    Querier(Asker),
}

/// A shard node.
pub struct Shard<S: Storage> {
    config: ShardConfig,
    log: Log<S>,
    index: Index,
    links: Links<Peer>,
    feeder: Option<ConnId>,
    /// Whom this shard asked about the epochs that it missed.
    asked: Option<ConnId>,
    scratch: Vec<Frame>,
    /// One block of the index, unpacked; kept to save the allocation.
    loaded: Loaded,
    /// What all answers under way hold.
    load: Load,
    /// Connections whose answers looked at much and found little: asked again in the next turn.
    scanning: Vec<ConnId>,
    /// Connections with questions that the log is not far enough for, and when the first gives up.
    waiting: Vec<ConnId>,
    waiting_due: Option<Mono>,
    /// The disk is full. The feeder is closed; when there is room it begins again from what the log has.
    is_held_back: bool,
    /// Frames of the feeder that came while the log's next segment was not ready; it is not read
    /// while there are any, so they are what one read can bring.
    pending: VecDeque<Frame>,
    has_news: bool,
    acked: (u64, u64),
    damaged: u64,
    duplicates: u64,
    local_faults: u64,
    failure: Option<String>,
    is_stopped: bool,
}

impl<S: Storage> Shard<S> {
    /// A shard on an opened log. Reads the whole log to build its index.
    #[must_use]
    pub fn new(config: ShardConfig, mut log: Log<S>, recovery: &Recovery) -> Shard<S> {
        log.require_checkpoints();
        let (index, damaged) = Index::rebuild(&log);
        let mut links = Links::default();
        if recovery.cut_records > 0 {
            let text = format!("{} torn records were cut from the log", recovery.cut_records);
            links.log(Level::Warn, text);
        }
        if !recovery.skipped_segments.is_empty() {
            let text = format!("segments {:?} are left out: rot", recovery.skipped_segments);
            links.log(Level::Error, text);
        }
        if damaged > 0 {
            let text = format!("{damaged} records of the log are damaged; answers will say so");
            links.log(Level::Error, text);
        }
        if index.holes.len() > 0 {
            let text = format!("{} holes: core lost what stood there", index.holes.len());
            links.log(Level::Warn, text);
        }
        Shard {
            config,
            log,
            index,
            links,
            feeder: None,
            asked: None,
            scratch: Vec::new(),
            loaded: Loaded::default(),
            load: Load::default(),
            scanning: Vec::new(),
            waiting: Vec::new(),
            waiting_due: None,
            is_held_back: false,
            pending: VecDeque::new(),
            has_news: false,
            acked: (0, 0),
            damaged,
            duplicates: 0,
            local_faults: 0,
            failure: None,
            is_stopped: false,
        }
    }

    fn owns(&self, symbol: &Symbol) -> bool {
        self.config.partition.owner(symbol) == self.config.shard
    }

    fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        let Some(link) = self.links.get(conn) else { return };
        if let Err(error) = frame.check() {
            self.links.refuse_frame(conn, error);
            return;
        }
        if let Peer::Querier(asker) = &link.peer
            && asker.questions.wants_more()
            && frame.kind() != Some(Kind::QueryMore)
        {
            let error = QuestionError::Broken;
            self.links.refuse(conn, error.code(), &error.to_string());
            return;
        }
        match (&link.peer, frame.kind()) {
            (Peer::Feeder, _) if !self.pending.is_empty() => self.keep_back(conn, frame),
            (Peer::Feeder, Some(kind)) if kind.is_data() || kind == Kind::Gap => {
                self.store(now, conn, frame);
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
            (peer, Some(Kind::Heartbeat)) => {
                let feeds = matches!(peer, Peer::Feeder);
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    // Whoever asks queries is told how far the answers go.
                    let next_seq = if feeds { 0 } else { self.wanted() };
                    self.links.answer_heartbeat(now, conn, &beat, next_seq);
                    if feeds && beat.next_seq.get() == u64::MAX {
                        self.links.refuse(conn, ErrorCode::Unexpected, "no sequence ends there");
                    } else if feeds {
                        // One that does not fit now is no loss: there will be another.
                        let _ = self.log.advance_upstream(beat.next_seq.get(), now);
                        self.has_news = true;
                    }
                }
            }
            (Peer::Querier(_), Some(Kind::Query | Kind::QueryMore)) => self.ask(now, conn, frame),
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    fn ask(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        let Some(Peer::Querier(asker)) = self.links.peer_mut(conn) else { return };
        let (id, taken) = match (frame.view::<Query>(), frame.view::<QueryMore>()) {
            (Some(query), _) => (query.id.get(), asker.questions.take_query(query)),
            (_, Some(more)) => (more.id.get(), asker.questions.take_more(more)),
            _ => return,
        };
        if let Some(taken) = taken {
            // The index knows the frames of this turn; the answer must find them too.
            self.log.commit(now);
            self.handle_question(now, conn, taken, id);
        }
    }

    fn greet(&mut self, now: Now, conn: ConnId, session: &Session) {
        let peer = match Role::from_number(session.role) {
            Some(Role::Querier) => Peer::Querier(Asker::default()),
            Some(Role::Feeder) if self.is_held_back => {
                self.links.refuse(conn, ErrorCode::Storage, "the log cannot take more now");
                return;
            }
            Some(Role::Feeder) if self.has_missed_epochs(conn, session) => {
                // Core is told where this log stands, and says what of it is void.
                self.asked = Some(conn);
                self.introduce(conn, session.source);
                return;
            }
            Some(Role::Feeder) => {
                if let Err((code, text)) = self.follow(now, session) {
                    self.links.refuse(conn, code, text);
                    return;
                }
                if let Some(before) = self.feeder.replace(conn) {
                    self.links.refuse(before, ErrorCode::Unexpected, "another feeder took over");
                }
                self.pending.clear();
                self.acked = (0, 0);
                self.has_news = true;
                self.links.log(Level::Info, format!("core feeds from seq {}", self.wanted()));
                Peer::Feeder
            }
            _ => {
                self.links.refuse(conn, ErrorCode::Unexpected, "a shard has no such role");
                return;
            }
        };
        self.links.greet(conn, peer);
        self.introduce(conn, session.source);
    }

    fn introduce(&mut self, conn: ConnId, source: u8) {
        let answer = Session {
            source,
            epoch: U32::new(self.log.epoch()),
            epoch_start: U64::new(self.log.epoch_start()),
            next_seq: U64::new(self.wanted()),
            durable_seq: U64::new(self.log.durable_upstream_seq()),
            name: padded(&self.config.name),
            ..Session::default()
        };
        self.links.send(conn, answer);
    }

    /// The next `seq` of core that this shard needs.
    fn wanted(&self) -> u64 {
        self.log.upstream().1
    }

    /// Whether epochs lie between this log's and core's, and core has not been asked about them: the
    /// start of its own says nothing about theirs.
    fn has_missed_epochs(&self, conn: ConnId, session: &Session) -> bool {
        let (ours, cores) = (self.log.epoch(), session.epoch.get());
        ours > 0 && cores > ours.saturating_add(1) && self.asked != Some(conn)
    }

    /// Takes core's epoch over. Frames beyond its start are void.
    fn follow(&mut self, now: Now, session: &Session) -> Result<(), (ErrorCode, &'static str)> {
        let (epoch, start) = (session.epoch.get(), session.epoch_start.get());
        if epoch < self.log.epoch() {
            return Err((ErrorCode::Failed, "this shard has a later epoch than that journal"));
        }
        if epoch == self.log.epoch() {
            return Ok(());
        }
        // Epochs never begin lower than those before them: what came before this log's own is good,
        // also when core no longer knows better.
        let missed = self.log.epoch() > 0 && epoch - self.log.epoch() > 1;
        let start = if missed { start.max(self.log.epoch_start()) } else { start };
        match self.log.follow_epoch(epoch, start, now) {
            // No frame is void, but a hole may reach further than the frames do.
            Ok(None) => self.index.holes.void_from(start),
            Ok(Some(void_from)) => {
                self.links.log(Level::Warn, format!("frames from seq {void_from} on are void"));
                self.log.commit(now);
                (self.index, self.damaged) = Index::rebuild(&self.log);
            }
            Err(_) => return Err((ErrorCode::Storage, "the log cannot take a new epoch now")),
        }
        self.has_news = true;
        Ok(())
    }

    fn status(&self) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        status.text("feeder", if self.feeder.is_some() { "connected" } else { "none" });
        status.metric("epoch", self.log.epoch());
        status.metric("next_seq", self.wanted());
        status.metric("durable_seq", self.log.durable_upstream_seq());
        status.metric("first_seq", self.first_seq());
        status.metric("log_bytes", self.log.bytes());
        status.metric("instruments", self.index.len());
        status.metric("trades", self.index.trades);
        status.metric("index_bytes", self.index.bytes());
        status.metric("queries", self.load.queries);
        status.metric("duplicates", self.duplicates);
        status.metric("damaged_records", self.damaged);
        status.metric("holes", self.index.holes.len());
        status.metric("held_back", i64::from(self.is_held_back));
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.local_faults);
        if !matches!(self.log.health(), Health::Open) {
            status.text("log", format!("{:?}", self.log.health()));
        }
        status
    }

    /// Tells core how far the log is, when that is news.
    fn acknowledge(&mut self) {
        let Some(feeder) = self.feeder else { return };
        let mut standing = (self.wanted(), self.log.durable_upstream_seq());
        if is_planted(Bug::AcknowledgeBeforeSync) {
            standing.1 = standing.0;
        }
        if standing != self.acked {
            self.acked = standing;
            let ack = Ack {
                epoch: U32::new(self.log.epoch()),
                accepted_seq: U64::new(standing.0),
                durable_seq: U64::new(standing.1),
                ..Ack::default()
            };
            self.links.send(feeder, ack);
        }
    }
}

impl<S: Storage> Node for Shard<S> {
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

    fn handle_close(&mut self, _now: Now, conn: ConnId, reason: CloseReason) {
        if let Some(Peer::Querier(asker)) = self.links.remove(conn) {
            self.forget_asker(&asker);
        }
        if self.feeder == Some(conn) {
            self.feeder = None;
            self.pending.clear();
            self.links.log(Level::Info, format!("core's feed ended: {reason}"));
        }
    }

    fn handle_local_fault(&mut self, _now: Now, fault: LocalFault) {
        self.local_faults += 1;
        self.links.log(Level::Warn, format!("cannot accept: {}", fault.as_str()));
    }

    fn handle_storage(&mut self, now: Now) {
        let progress = self.log.handle_completions(now);
        if progress.room {
            self.is_held_back = false;
        }
        if progress.room || matches!(self.log.health(), Health::NoSpace(_)) {
            self.store_pending(now);
        }
        if progress.failed {
            self.failure = Some(format!("the log failed: {:?}", self.log.health()));
            return;
        }
        if progress.durable {
            self.acknowledge();
        }
    }

    fn handle_timers(&mut self, now: Now) {
        self.log.handle_timers(now);
        self.forget_removed();
        self.links.tick(now, |_| 0);
        self.settle_waiting(now, false);
        for conn in std::mem::take(&mut self.scanning) {
            self.links.mark_dirty(conn);
        }
    }

    fn commit(&mut self, now: Now) {
        if std::mem::take(&mut self.has_news) {
            self.log.commit(now);
            self.acknowledge();
            self.settle_waiting(now, true);
        }
    }

    fn handle_stop(&mut self, now: Now) {
        self.links.refuse_all(ErrorCode::Stopping, "the shard stops; come back later");
        if let Err(error) = self.log.close(now) {
            self.links.log(Level::Error, format!("the log was not closed cleanly: {error}"));
        }
        self.is_stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn next_deadline(&self) -> Option<Mono> {
        if !self.scanning.is_empty() {
            return Some(Mono::default());
        }
        let due = [self.links.next_tick(), self.log.next_deadline(), self.waiting_due];
        due.into_iter().flatten().min()
    }

    fn wants_frames(&self, conn: ConnId) -> bool {
        let keeps_up = self.pending.is_empty() || self.feeder != Some(conn);
        keeps_up && self.links.wants_frames(conn)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.links.poll_dirty()
    }

    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        if self.links.outbox(conn).is_empty() {
            self.refill(conn);
        }
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.links.sent(now, conn, bytes);
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
