//! A shard: keeps its part of core's sequence in an append-only log and answers history queries from
//! it. It follows core: core dials it, it says what it wants next. What it does not do: know the
//! present (core does) or the other shards' parts (the aggregator does).
//!
//! Invariant: what it acknowledged as accepted is committed in its log; what it acknowledged as durable
//! has been synced.

mod continuity;
mod feed;
mod intake;
mod kept_partition;
mod querier;

pub use kept_partition::{check_partition, keep_partition, partition_line};

use std::collections::VecDeque;
use std::time::Duration;

use super::freshness::Freshness;
use super::session::{Admission, Filled, Rejection, Roles, Status, describe_log, report_log};
use super::{CloseReason, ConnId, Connections, Level, Service};
use crate::history::{Index, UnpackedBlock};
use crate::limits;
use crate::log::{Health, Log, Recovery, Storage};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, FeedStatus, Frame, Heartbeat, Kind, Refusal, Seq, Session, Symbol, U32, U64,
    padded,
};

use continuity::Continuity;
use feed::Feed;
use querier::{Loads, Querier};

/// What a shard is configured with.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its name, such as `shard-A`.
    pub name: String,
    /// Its number in the partition.
    pub shard: u16,
    /// Who owns what.
    pub partition: Partition,
    /// How far behind core it may be and still answer in full.
    pub behind_max: Duration,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum ShardPeer {
    Feeder,
    Querier(Querier),
}

/// A shard node.
pub struct Shard<S: Storage> {
    config: ShardConfig,
    log: Log<S>,
    index: Index,
    connections: Connections<ShardPeer>,
    feed: Feed,
    freshness: Freshness,
    /// Whom this shard has told where it stands, and who has to say what of that is part of his sequence.
    asked: Option<ConnId>,
    scratch: Vec<Frame>,
    /// One block of the index, unpacked; kept to save the allocation.
    unpacked: UnpackedBlock,
    /// What all answers under way hold.
    load: Loads,
    /// Connections with questions that the log is not far enough for, and when the first gives up.
    waiting: Vec<ConnId>,
    waiting_due: Option<Mono>,
    /// The disk is full. The feeder is closed; when there is room it begins again from what the log has.
    is_held_back: bool,
    /// Frames of the feeder that came while the log's next segment was not ready; it is not read
    /// while there are any, so they are what one read can bring.
    pending: VecDeque<Frame>,
    has_updates: bool,
    /// What core was told last on this connection; `None` before the first time.
    acked: Option<(Seq, Seq)>,
    damaged: u64,
    duplicates: u64,
    failure: Option<String>,
}

impl<S: Storage> Shard<S> {
    /// A shard on an opened log. Reads the whole log to build its index.
    #[must_use]
    pub fn new(config: ShardConfig, mut log: Log<S>, recovery: &Recovery) -> Shard<S> {
        log.require_checkpoints();
        let (index, damaged) = Index::rebuild(&log);
        let mut connections = Connections::default();
        connections.work_mut().bound_frames(limits::ANSWER_FRAMES_PER_TURN_MAX);
        if recovery.cut_records > 0 {
            let text = format!("{} torn records were cut from the log", recovery.cut_records);
            connections.log(Level::Warn, text);
        }
        if !recovery.skipped_segments.is_empty() {
            let text = format!("segments {:?} are left out: rot", recovery.skipped_segments);
            connections.log(Level::Error, text);
        }
        if let Some(missing) = &recovery.missing_front {
            let text = format!(
                "segments {} to {} of the log are missing, and the retention has not removed them; answers \
                 will say that they are not complete. Put the files back, or have core feed this shard anew: \
                 see `pregao recover`",
                missing.start,
                missing.end - 1
            );
            connections.log(Level::Error, text);
        }
        if recovery.is_end_missing {
            let text =
                "the last segments of the log are missing; core is asked for what stood there";
            connections.log(Level::Error, text.to_owned());
        }
        if damaged > 0 {
            let text = format!("{damaged} records of the log are damaged; answers will say so");
            connections.log(Level::Error, text);
        }
        if index.holes.len() > 0 {
            let text = format!("{} holes: core lost what stood there", index.holes.len());
            connections.log(Level::Warn, text);
        }
        Shard {
            config,
            log,
            index,
            connections,
            feed: Feed::default(),
            freshness: Freshness::default(),
            asked: None,
            scratch: Vec::new(),
            unpacked: UnpackedBlock::default(),
            load: Loads::default(),
            waiting: Vec::new(),
            waiting_due: None,
            is_held_back: false,
            pending: VecDeque::new(),
            has_updates: false,
            acked: None,
            damaged,
            duplicates: 0,
            failure: None,
        }
    }

    /// Whether an instrument of this name may be its own. A text does not say whether it begins with a venue.
    fn may_own(&self, name: &Symbol) -> bool {
        self.config.partition.owners_of_name(name).contains(self.config.shard)
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<ShardPeer> {
        let querier = Querier::new(self.connections.principal(conn));
        Admission::Accepted(ShardPeer::Querier(querier), self.own_session(session.source))
    }

    fn greet_feeder(&mut self, now: Now, conn: ConnId, session: &Session) -> Admission<ShardPeer> {
        if self.is_held_back {
            return Admission::refused(ErrorCode::Storage, "the log cannot take more now");
        }
        if let Err(rejection) = self.check_feeder(now, session) {
            return Admission::Refused(rejection);
        }
        match self.continuity(conn, session) {
            Continuity::Same => {}
            Continuity::Begins { start_seq, gives_up } => {
                if let Err(rejection) = self.adopt(now, session, start_seq, gives_up) {
                    return Admission::Refused(rejection);
                }
            }
            Continuity::Unknown => {
                // Core is told where this log stands, and says what of it is part of its journal.
                self.asked = Some(conn);
                return Admission::Retry(self.feed_session(session.source));
            }
            Continuity::Refused(text) => return Admission::refused(ErrorCode::Unexpected, text),
        }
        if let Err(rejection) = self.begin_feed(now, session) {
            return Admission::Refused(rejection);
        }
        if let Some(before) = self.feed.seat.take(conn) {
            let text = "no sign of life from you; another took over";
            self.connections.refuse(before, ErrorCode::Silent, text);
        }
        self.freshness.begin(now);
        self.forget_pending();
        self.acked = None;
        self.has_updates = true;
        self.connections.log(Level::Info, format!("core feeds from seq {}", self.asked_seq()));
        Admission::Accepted(ShardPeer::Feeder, self.feed_session(session.source))
    }

    /// To a feeder: it is asked for what comes behind the last frame held here.
    fn feed_session(&self, source: u8) -> Session {
        let next_seq = Seq::field(Some(self.asked_seq()));
        Session { next_seq, ..self.own_session(source) }
    }

    fn own_session(&self, source: u8) -> Session {
        Session {
            source,
            epoch: U32::new(self.log.epoch()),
            epoch_start: U64::new(self.log.epoch_start()),
            next_seq: Seq::field(Some(self.wanted())),
            durable_seq: Seq::field(Some(self.log.durable_upstream_seq())),
            feed: U64::new(self.log.epoch_id()),
            name: padded(&self.config.name),
            ..Session::default()
        }
    }

    /// Core says how far its sequence has come.
    fn note_heartbeat(&mut self, now: Now, beat: &Heartbeat) -> Result<(), Rejection> {
        if beat.next_seq.get() == u64::MAX {
            self.refute_feeder();
            return Err(Rejection::new(ErrorCode::Unexpected, "no sequence ends there"));
        }
        let next_seq = beat.next_seq();
        if let Some(next_seq) = next_seq {
            self.check_place(now, next_seq)?;
        }
        if let Some(next_seq) = next_seq {
            self.feed.pass(next_seq);
            self.has_updates = true;
            if self.log.advance_upstream(next_seq.get(), now).is_err() {
                // There will be another. Until then answers do not go as far as core said, so they are not fresh.
                self.freshness.miss(beat);
                return Ok(());
            }
        }
        self.freshness.note(beat);
        Ok(())
    }

    /// Asks core whether this shard has all that core has.
    fn probe(&mut self, now: Now) {
        let Some(feeder) = self.feed.seat.holder() else { return };
        if let Some(probe) = self.freshness.poll(now) {
            self.connections.send(feeder, probe);
        }
    }

    /// The next `seq` of core that this shard needs.
    fn wanted(&self) -> Seq {
        Seq::or_first(self.log.upstream().1)
    }

    /// Acknowledges to core how far the log is, when it has moved.
    fn acknowledge(&mut self) {
        let Some(feeder) = self.feed.seat.holder() else { return };
        if !self.feed.has_caught_up() {
            // What was said to the feeder before this one stays said, and this one has not brought it yet.
            return;
        }
        let mut standing = (self.wanted(), self.log.durable_upstream_seq());
        if is_planted(Bug::AcknowledgeBeforeSync) {
            standing.1 = standing.0;
        }
        if self.acked != Some(standing) {
            self.acked = Some(standing);
            let ack = Ack {
                epoch: U32::new(self.log.epoch()),
                accepted_seq: Seq::field(Some(standing.0)),
                durable_seq: Seq::field(Some(standing.1)),
                ..Ack::default()
            };
            self.connections.send(feeder, ack);
        }
    }
}

impl<S: Storage> Service for Shard<S> {
    type Peer = ShardPeer;

    const TITLE: &'static str = "the shard";
    const ROLES: Roles<Self> = Roles {
        feeder: Some(Self::greet_feeder),
        querier: Some(Self::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<ShardPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<ShardPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    fn on_refusal(&mut self, conn: ConnId, refusal: &Refusal) {
        if self.asked == Some(conn) {
            self.explain_refusal(refusal);
        }
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        if !matches!(self.connections.peer(conn), Some(ShardPeer::Feeder)) {
            return Err(Rejection::out_of_place());
        }
        if !self.pending.is_empty() {
            return self.keep_back(frame);
        }
        if !frame.is_market_data() {
            if frame.kind == Kind::Gap as u8 {
                return self.store_gap(now, conn, frame);
            }
            let beat = frame.view::<Heartbeat>().ok_or_else(Rejection::out_of_place)?;
            return self.note_heartbeat(now, beat);
        }
        if frame.is_naming() && self.store_if_statement(conn, frame)? {
            return Ok(());
        }
        self.store(now, conn, frame)
    }

    /// A querier's heartbeat answer says how far the answers go.
    fn answered_seq(&self, peer: &ShardPeer) -> Option<Seq> {
        matches!(peer, ShardPeer::Querier(_)).then(|| self.wanted())
    }

    fn answered_status(&self, now: Now) -> FeedStatus {
        self.freshness.status(now)
    }

    fn sent_seq(_peer: &ShardPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, conn: ConnId, id: u32) -> bool {
        matches!(self.connections.peer(conn), Some(ShardPeer::Querier(querier)) if querier.has_open(id))
    }

    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Rejection> {
        // The index knows the frames of this turn; the answer must find them too.
        self.log.commit(now);
        self.begin_answer(now, conn, question)
    }

    fn on_question_stopped(&mut self, _now: Now, conn: ConnId, id: u32) {
        self.change_querier(conn, |querier| querier.stop(id));
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        status.text("feeder", if self.feed.seat.holder().is_some() { "connected" } else { "none" });
        status.text("epoch_id", format!("{:016x}", self.log.epoch_id()));
        status.metric("epoch", self.log.epoch());
        status.metric("next_seq", self.wanted().get());
        status.metric("durable_seq", self.log.durable_upstream_seq().get());
        status.metric("behind_ms", self.freshness.figure_ms(now));
        status.metric("first_seq", self.first_seq().get());
        status.metric("log_bytes", self.log.bytes());
        status.metric("instruments", self.index.len());
        status.metric("trades", self.index.trades);
        status.metric("index_bytes", self.index.bytes());
        status.metric("queries", self.load.queries.total());
        status.metric("queries_waiting", self.load.waiting.total());
        status.metric("duplicates", self.duplicates);
        status.metric("damaged_records", self.damaged);
        status.metric("holes", self.index.holes.len());
        status.metric("front_missing", i64::from(self.log.is_front_missing()));
        status.metric("held_back", i64::from(self.is_held_back));
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused());
        status.metric("local_faults", self.connections.local_faults());
        describe_log("log", &self.log, &mut status);
        status
    }

    fn on_close(&mut self, _now: Now, conn: ConnId, peer: Option<ShardPeer>, reason: CloseReason) {
        if let Some(ShardPeer::Querier(querier)) = peer {
            self.forget_querier(&querier);
        }
        if self.feed.seat.leave(conn) {
            self.freshness.end();
            self.forget_pending();
            self.connections.log(Level::Info, format!("core's feed ended: {reason}"));
        }
    }

    fn on_storage(&mut self, now: Now) {
        let progress = self.log.handle_completions(now);
        if progress.room {
            self.is_held_back = false;
        }
        if progress.room || matches!(self.log.health(), Health::Waiting(_)) {
            self.store_pending(now);
        }
        if progress.failed {
            self.failure = Some(format!("the log {}", self.log.health()));
            return;
        }
        if progress.durable {
            self.acknowledge();
        }
    }

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.log.handle_timers(now);
        report_log(&mut self.log, &mut self.connections);
        self.probe(now);
        self.forget_removed();
        self.settle_waiting(now, false);
    }

    fn on_commit(&mut self, now: Now) {
        if std::mem::take(&mut self.has_updates) {
            self.log.commit(now);
            self.acknowledge();
            self.settle_waiting(now, true);
        }
    }

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, now: Now) {
        if let Err(error) = self.log.close(now) {
            let health = self.log.health();
            self.failure = Some(format!("the log was not closed cleanly: {error} ({health})"));
        }
    }

    fn failed(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn next_due(&self) -> Option<Mono> {
        let probe = self.freshness.next_due();
        [self.log.next_deadline(), self.waiting_due, probe].into_iter().flatten().min()
    }

    fn fill(&mut self, _now: Now, conn: ConnId) -> Filled {
        self.refill(conn);
        Filled::Outbox
    }

    fn wants(&self, conn: ConnId) -> bool {
        let keeps_up = self.pending.is_empty() || self.feed.seat.holder() != Some(conn);
        keeps_up && self.connections.wants_frames(conn)
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
