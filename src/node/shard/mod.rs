//! A shard: keeps its part of core's sequence in an append-only log and answers history queries from
//! it. It follows core: core dials it, it says what it wants next. What it does not do: know the
//! present (core does) or the other shards' parts (the aggregator does).
//!
//! Invariant: what it acknowledged as accepted is committed in its log; what it acknowledged as durable
//! has been synced.

mod answers;
mod index;

use std::collections::VecDeque;

use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, Links, LocalFault, Node, Origin,
    Outgoing,
};
use crate::log::{AppendError, Health, Log, Recovery, Storage};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Now};
use crate::wire::{
    Ack, ErrorCode, Frame, Heartbeat, Kind, Query, Role, Session, Symbol, U32, U64, padded,
};

use answers::Reply;
use index::Index;

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
    Querier(VecDeque<Reply>),
}

/// A shard node.
pub struct Shard<S: Storage> {
    config: ShardConfig,
    log: Log<S>,
    index: Index,
    links: Links<Peer>,
    feeder: Option<ConnId>,
    scratch: Vec<Frame>,
    /// The log refused a frame. The feeder is closed; when there is room it begins again from what
    /// the log has.
    is_held_back: bool,
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
    pub fn new(config: ShardConfig, log: Log<S>, recovery: &Recovery) -> Shard<S> {
        let (index, damaged) = Index::rebuild(&log);
        let mut links = Links::default();
        if recovery.cut_records > 0 {
            let text = format!("{} torn records were cut from the log", recovery.cut_records);
            links.log(Level::Warn, text);
        }
        if damaged > 0 {
            let text = format!("{damaged} records of the log are damaged; answers will say so");
            links.log(Level::Error, text);
        }
        Shard {
            config,
            log,
            index,
            links,
            feeder: None,
            scratch: Vec::new(),
            is_held_back: false,
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
        match (&link.peer, frame.kind()) {
            (Peer::Feeder, Some(kind)) if kind.is_data() => self.store(conn, frame),
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
                    self.links.answer_heartbeat(now, conn, &beat, 0);
                    if feeds && beat.next_seq.get() == u64::MAX {
                        self.links.refuse(conn, ErrorCode::Unexpected, "no sequence ends there");
                    } else if feeds {
                        self.log.advance_upstream(beat.next_seq.get());
                        self.has_news = true;
                    }
                }
            }
            (Peer::Querier(_), Some(Kind::Query)) => {
                if let Some(query) = frame.view::<Query>() {
                    let query = *query;
                    // The index knows the frames of this turn; the answer must find them too.
                    self.log.commit(now);
                    self.handle_query(conn, &query);
                }
            }
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    fn greet(&mut self, now: Now, conn: ConnId, session: &Session) {
        let peer = match Role::from_number(session.role) {
            Some(Role::Querier) => Peer::Querier(VecDeque::new()),
            Some(Role::Feeder) if self.is_held_back => {
                self.links.refuse(conn, ErrorCode::Storage, "the log cannot take more now");
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
        let answer = Session {
            source: session.source,
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

    /// Takes core's epoch over. Frames beyond its start are void.
    fn follow(&mut self, now: Now, session: &Session) -> Result<(), (ErrorCode, &'static str)> {
        let (epoch, start) = (session.epoch.get(), session.epoch_start.get());
        if epoch < self.log.epoch() {
            return Err((ErrorCode::Failed, "this shard has a later epoch than that journal"));
        }
        if epoch == self.log.epoch() {
            return Ok(());
        }
        // Where an epoch began that was missed is not known. No later one can begin before the one
        // that this log stands in, so that is what is safe.
        let missed = epoch - self.log.epoch() > 1;
        let start = if missed { start.min(self.log.epoch_start()) } else { start };
        match self.log.follow_epoch(epoch, start, now) {
            Ok(None) => {}
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

    fn store(&mut self, conn: ConnId, frame: &Frame) {
        if self.feeder != Some(conn) {
            return;
        }
        if frame.seq.get() < self.log.next_seq() {
            self.duplicates += 1;
            return;
        }
        match self.log.append(frame) {
            Ok(position) => {
                self.index.note(position, frame);
                self.has_news = true;
            }
            Err(AppendError::OutOfOrder { .. } | AppendError::NotData(_)) => {
                self.links.refuse(conn, ErrorCode::Unexpected, "no log can hold this frame");
            }
            Err(error) => {
                // Core begins again from what the log has: nothing of this connection is kept back.
                self.is_held_back = true;
                let level =
                    if error == AppendError::NotReady { Level::Debug } else { Level::Error };
                self.links.log(level, format!("the log takes no more for now: {error}"));
                self.links.refuse(conn, ErrorCode::Storage, "the log cannot take more now");
            }
        }
    }

    fn status(&self) -> Status {
        let mut status = Status::default();
        status.text("role", self.config.name.clone());
        status.text("feeder", if self.feeder.is_some() { "connected" } else { "none" });
        status.metric("epoch", self.log.epoch());
        status.metric("next_seq", self.wanted());
        status.metric("durable_seq", self.log.durable_upstream_seq());
        status.metric("log_bytes", self.log.bytes());
        status.metric("instruments", self.index.len());
        status.metric("trades", self.index.trades);
        status.metric("duplicates", self.duplicates);
        status.metric("damaged_records", self.damaged);
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
        self.links.remove(conn);
        if self.feeder == Some(conn) {
            self.feeder = None;
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
        self.links.tick(now, |_| 0);
    }

    fn commit(&mut self, now: Now) {
        if std::mem::take(&mut self.has_news) {
            self.log.commit(now);
            self.acknowledge();
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
        self.links.next_tick().into_iter().chain(self.log.next_deadline()).min()
    }

    fn wants_frames(&self, conn: ConnId) -> bool {
        self.links.wants_frames(conn)
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
mod tests;
