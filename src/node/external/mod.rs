//! The exchange: plays tapes or a synthetic market to its consumers, and misbehaves as configured.
//! What it does not do: read files (the shell hands it a schedule), or remember its consumers; whoever
//! comes back says what it wants next.

mod consumer;
mod end;
mod misbehaviour;

use std::collections::BTreeSet;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::session::{Admission, Filled, Rejection, Roles, Status};
use super::{CloseReason, ConnId, Connections, Level, Service};
use crate::limits;
use crate::market::chaos::{ChaosConfig, ChaosDecision};
use crate::playback::{MarketClock, Playback};
use crate::time::{Mono, Now};
use crate::wire::{
    ChaosAction, ErrorCode, FeedStatus, Flags, Frame, Heartbeat, Refusal, Resume, Seq, Session,
    U16, U32, U64, padded,
};

use consumer::{Answer, Consumer, ConsumerState};
use misbehaviour::{DecisionCounts, FrameCounts, Misbehaviour, Spoiled, spoil};

pub use crate::playback::{FeedConfig, Speed};

/// What the exchange is configured with.
#[derive(Clone, Debug)]
pub struct ExternalConfig {
    /// What is played.
    pub feed: FeedConfig,
    /// How fast.
    pub speed: Speed,
    /// What is done wrong on the way.
    pub chaos: ChaosConfig,
    /// Whether an operator may have something else done wrong while it runs.
    pub playground: bool,
    /// Consumers at once.
    pub sessions_max: usize,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum ExternalPeer {
    Consumer(Consumer),
    Querier,
}

/// The exchange node.
#[derive(Debug)]
pub struct External {
    connections: Connections<ExternalPeer>,
    playback: Playback,
    misbehaviour: Misbehaviour,
    sessions_max: usize,
    /// When a consumer has to be looked at: an answer held back is due, or frames were all lost.
    timers: BTreeSet<(Mono, ConnId)>,
    /// Bytes gathered for one consumer; kept to save the allocation.
    scratch: Vec<u8>,
    sessions: DecisionCounts,
    requests: DecisionCounts,
    frames: FrameCounts,
}

impl External {
    /// An exchange whose market opens now.
    #[must_use]
    pub fn new(config: ExternalConfig, now: Now) -> External {
        let clock = MarketClock::new(config.speed, now.mono);
        External {
            connections: Connections::default(),
            playback: Playback::new(config.feed, clock, now.mono),
            misbehaviour: Misbehaviour::new(config.chaos, config.playground),
            sessions_max: config.sessions_max,
            timers: BTreeSet::new(),
            scratch: Vec::new(),
            sessions: DecisionCounts::default(),
            requests: DecisionCounts::default(),
            frames: FrameCounts::default(),
        }
    }

    /// The identity of the feed, as consumers get it.
    #[must_use]
    pub fn feed_identity(&self) -> u64 {
        self.playback.identity()
    }

    fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.connections.peers().filter_map(|(_, peer)| match peer {
            ExternalPeer::Consumer(consumer) => Some(consumer),
            ExternalPeer::Querier => None,
        })
    }

    fn consumer_mut(&mut self, conn: ConnId) -> Option<&mut Consumer> {
        match self.connections.peer_mut(conn)? {
            ExternalPeer::Consumer(consumer) => Some(consumer),
            ExternalPeer::Querier => None,
        }
    }

    fn greet_consumer(
        &mut self,
        _now: Now,
        _conn: ConnId,
        _session: &Session,
    ) -> Admission<ExternalPeer> {
        if self.consumers().count() >= self.sessions_max {
            return Admission::refused(ErrorCode::Limit, "all session places are taken");
        }
        Admission::Pending(ExternalPeer::Consumer(Consumer::default()))
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        _conn: ConnId,
        _session: &Session,
    ) -> Admission<ExternalPeer> {
        let answer = Session { name: padded("external"), ..Session::default() };
        Admission::Accepted(ExternalPeer::Querier, answer)
    }

    /// A consumer wants an answer. Its number must distinguish a refused request from a refused connection.
    fn handle_request(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        answer: Answer,
    ) -> Result<(), Rejection> {
        if id == 0 {
            return Err(Rejection::new(ErrorCode::Unexpected, "a request needs a number, not 0"));
        }
        let decision = self.misbehaviour.chaos.request();
        self.requests.count(decision);
        self.decide(now, conn, decision, answer, Answer::No { id });
        Ok(())
    }

    /// Answers at once, or when the verdict says.
    fn decide(&mut self, now: Now, conn: ConnId, decision: ChaosDecision, yes: Answer, no: Answer) {
        let (answer, stall) = match decision {
            ChaosDecision::Serve => (yes, Duration::ZERO),
            ChaosDecision::Stall(stall) => (yes, stall),
            ChaosDecision::Refuse => (no, Duration::ZERO),
        };
        let due = now.mono + stall + self.misbehaviour.chaos.delay();
        let Some(consumer) = self.consumer_mut(conn) else { return };
        let Some(due) = consumer.delay_until(now.mono, due) else {
            self.answer(now, conn, answer);
            return;
        };
        if consumer.delay(due, answer) {
            self.timers.insert((due, conn));
        } else {
            self.connections.refuse(conn, ErrorCode::Limit, "too many requests wait for an answer");
        }
    }

    fn answer(&mut self, now: Now, conn: ConnId, answer: Answer) {
        match answer {
            Answer::Session(session) => self.begin_session(now, conn, &session),
            Answer::NoSession => {
                self.connections.refuse(
                    conn,
                    ErrorCode::Failed,
                    "the exchange refuses this session",
                );
            }
            Answer::Heartbeat { token } => self.send_cursor(now, conn, token),
            Answer::Resume { id, next_seq } => {
                self.playback.advance(now.mono);
                if next_seq > self.playback.next_seq() {
                    let text = "that is not released yet";
                    return self
                        .connections
                        .send(conn, Refusal::new(ErrorCode::Unexpected, id, text));
                }
                let cursor = self.seek(now, conn, next_seq);
                let Some(consumer) = self.consumer_mut(conn) else { return };
                (consumer.cursor, consumer.knows_end) = (cursor, false);
                // Frames in the outbox still follow the old order; all behind the answer the new.
                self.send_cursor(now, conn, id);
            }
            Answer::No { id } => {
                let text = "the exchange refuses this request";
                self.connections.send(conn, Refusal::new(ErrorCode::Failed, id, text));
            }
        }
    }

    /// Where one consumer is served from. What is due meanwhile is for all of them.
    ///
    /// Only who is alone moves the market's clock forward, to what it had before the exchange was started again. With
    /// others served, it would release to them what is not due.
    fn seek(&mut self, now: Now, conn: ConnId, wanted: u64) -> u64 {
        let before = self.playback.next_seq();
        self.playback.advance(now.mono);
        let is_served = |(other, peer): (ConnId, &ExternalPeer)| matches!(peer, ExternalPeer::Consumer(consumer) if other != conn && !consumer.is_waiting());
        let is_alone = !self.connections.peers().any(is_served);
        let wanted = if is_alone { wanted } else { wanted.min(self.playback.next_seq()) };
        let cursor = self.playback.seek(now.mono, wanted);
        if self.playback.next_seq() != before {
            self.wake_consumers();
        }
        cursor
    }

    fn wake_consumers(&mut self) {
        self.connections.mark_dirty_where(|peer| matches!(peer, ExternalPeer::Consumer(_)));
    }

    fn begin_session(&mut self, now: Now, conn: ConnId, session: &Session) {
        let feed = self.playback.identity();
        let (before, next_seq) = (session.feed.get(), session.next_seq.get());
        let continued = if before == feed || before == 0 {
            None
        } else {
            self.playback.continued(before, next_seq)
        };
        let wanted = continued.unwrap_or(if before == feed { next_seq } else { 1 });
        let cursor = self.seek(now, conn, wanted);
        // An endless feed at full speed has no head that could be reached.
        let head = Some(self.playback.next_seq()).filter(|&head| head != u64::MAX);
        let Some(consumer) = self.consumer_mut(conn) else { return };
        consumer.cursor = cursor;
        consumer.state = ConsumerState::Snapshot { position: 0 };
        self.connections.log(Level::Info, format!("a consumer is served from {cursor} on"));
        self.connections.send(
            conn,
            Session {
                options: U16::new(continued.map_or(0, |_| Session::CONTINUES)),
                epoch_start: U64::new(continued.unwrap_or(0)),
                next_seq: U64::new(cursor),
                // Who is further than what is released has that of a shorter tape.
                durable_seq: U64::new(head.map_or(0, |head| head.max(continued.unwrap_or(0)))),
                feed: U64::new(feed),
                name: padded("external"),
                ..Session::default()
            },
        );
    }

    /// Says which frame comes next behind this answer, or that none does.
    fn send_cursor(&mut self, now: Now, conn: ConnId, token: u32) {
        let Some(consumer) = self.consumer_mut(conn) else { return };
        let cursor = consumer.cursor;
        let status = if self.is_end(cursor) { FeedStatus::Ended } else { FeedStatus::Current };
        let beat = Heartbeat {
            flags: U16::new(status.flags()),
            token: U32::new(token),
            next_seq: U64::new(cursor),
            sent_at: U64::new(now.wall_ns),
            ..Heartbeat::default()
        };
        self.connections.send(conn, beat);
    }

    /// Puts what a consumer should get next into its outbox.
    fn refill(&mut self, now: Now, conn: ConnId) {
        let Some(ExternalPeer::Consumer(consumer)) = self.connections.peer_mut(conn) else {
            return;
        };
        if let ConsumerState::Snapshot { position } = consumer.state {
            // Spared by the misbehaviour: a definition lost here would leave no hole in the sequence
            // by which anybody could notice.
            let (definitions, names) = (self.playback.definitions(), self.playback.names());
            let left = definitions.iter().chain(&names).skip(position);
            let left_count = definitions.len() + names.len() - position;
            let count = left_count.min(limits::FILL_FRAMES_MAX);
            self.scratch.clear();
            for naming in left.take(count) {
                self.scratch.extend_from_slice(naming.delivered(Flags::SNAPSHOT).as_bytes());
            }
            consumer.state = if count < left_count {
                ConsumerState::Snapshot { position: position + count }
            } else {
                ConsumerState::Live
            };
            if count > 0 {
                self.connections.fill(conn, &self.scratch);
                return;
            }
        }
        let Some(consumer) = self.consumer_mut(conn) else { return };
        if consumer.state != ConsumerState::Live {
            return;
        }
        let cursor = self.unlap(conn);
        let (head, tail) = self.playback.read(cursor, limits::FILL_FRAMES_MAX);
        let count = (head.len() + tail.len()) as u64;
        if count == 0 {
            self.tell_end(now, conn);
            return;
        }
        if self.misbehaviour.chaos.touches_frames() {
            self.scratch.clear();
            let spoiled = spoil(
                &mut self.misbehaviour.chaos,
                &mut self.frames,
                head.iter().chain(tail),
                &mut self.scratch,
            );
            self.connections.fill(conn, &self.scratch);
            if spoiled == Spoiled::Cut {
                self.connections.close_after_flush(conn);
            } else if self.scratch.is_empty() {
                // An empty outbox would be taken for the end of what there is.
                self.timers.insert((now.mono, conn));
            }
        } else {
            self.frames.sent += count;
            self.connections.fill(conn, head.as_bytes());
            self.connections.fill(conn, tail.as_bytes());
        }
        if let Some(consumer) = self.consumer_mut(conn) {
            consumer.cursor = cursor.saturating_add(count);
        }
    }

    /// The consumer's cursor, moved when the window has left it behind: half a window ahead of the
    /// edge, or the next frame would push it out again. The hole in `seq` shows it to the consumer.
    fn unlap(&mut self, conn: ConnId) -> u64 {
        let (oldest, next) = (self.playback.oldest_seq(), self.playback.next_seq());
        let Some(consumer) = self.consumer_mut(conn) else { return next };
        if consumer.cursor >= oldest {
            return consumer.cursor;
        }
        let resumed = oldest + (next - oldest) / 2;
        let lapped = resumed - consumer.cursor;
        consumer.cursor = resumed;
        self.frames.lapped += lapped;
        resumed
    }

    /// Gives the answers of one connection that are due.
    fn answer_due(&mut self, now: Now, conn: ConnId) {
        while let Some(answer) =
            self.consumer_mut(conn).and_then(|consumer| consumer.take_due(now.mono))
        {
            self.answer(now, conn, answer);
        }
        self.connections.mark_dirty(conn);
    }

    /// A stalled session hears nothing at all from us, the greetings of the tick included.
    fn keep_stalled_quiet(&mut self, now: Now) {
        if self.connections.next_tick().is_none_or(|tick| tick > now.mono) {
            return;
        }
        let waits = |peer: &ExternalPeer| matches!(peer, ExternalPeer::Consumer(consumer) if consumer.is_waiting());
        let stalled: Vec<ConnId> = self
            .connections
            .peers()
            .filter(|(_, peer)| waits(peer))
            .map(|(conn, _)| conn)
            .collect();
        for conn in stalled {
            self.connections.sent_elsewhere(now, conn);
        }
    }
}

impl Service for External {
    type Peer = ExternalPeer;

    const TITLE: &'static str = "the exchange";
    const ROLES: Roles<Self> = Roles {
        consumer: Some(External::greet_consumer),
        querier: Some(External::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<ExternalPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<ExternalPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    /// The answer to a consumer's SESSION may be a refusal, or late.
    fn on_greeted(&mut self, now: Now, conn: ConnId, session: &Session) {
        let decision = self.misbehaviour.chaos.session();
        self.sessions.count(decision);
        self.decide(now, conn, decision, Answer::Session(*session), Answer::NoSession);
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        if !matches!(self.connections.peer(conn), Some(ExternalPeer::Consumer(_))) {
            return Err(Rejection::out_of_place());
        }
        if let Some(resume) = frame.view::<Resume>() {
            let (id, next_seq) = (resume.id.get(), resume.next_seq.get());
            return self.handle_request(now, conn, id, Answer::Resume { id, next_seq });
        }
        let beat = frame.view::<Heartbeat>().ok_or_else(Rejection::out_of_place)?;
        if !frame.has(Flags::MORE) {
            return Ok(());
        }
        let token = beat.token.get();
        self.handle_request(now, conn, token, Answer::Heartbeat { token })
    }

    /// A consumer's heartbeat is a request, and may be refused as any.
    fn is_answered_here(peer: &ExternalPeer) -> bool {
        matches!(peer, ExternalPeer::Querier)
    }

    fn answered_seq(&self, _peer: &ExternalPeer) -> Option<Seq> {
        None
    }

    fn sent_seq(peer: &ExternalPeer) -> Option<Seq> {
        match peer {
            ExternalPeer::Consumer(consumer) => Seq::new(consumer.cursor),
            ExternalPeer::Querier => None,
        }
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn status(&self, _now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "external");
        status.text("feed", self.playback.name());
        if self.playback.has_ended() {
            status.text("feed.phase", "ended");
        }
        status.text("feed.identity", format!("{:016x}", self.playback.identity()));
        status.text("chaos", self.misbehaviour.chaos.config().to_string());
        status.metric("consumers", self.consumers().count());
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused());
        status.metric("local_faults", self.connections.local_faults());
        let released = self.playback.next_seq().saturating_sub(1);
        if self.playback.next_seq() < u64::MAX {
            status.metric("feed.released_seq", released);
        }
        if let Some(total) = self.playback.total_frames() {
            status.metric("feed.total_frames", total);
        }
        self.sessions.report(&mut status, "sessions");
        self.requests.report(&mut status, "requests");
        status.metric("frames.sent", self.frames.sent);
        status.metric("frames.lost", self.frames.lost);
        status.metric("frames.cut", self.frames.cut);
        status.metric("frames.garbage", self.frames.garbage);
        status.metric("frames.lapped", self.frames.lapped);
        status
    }

    fn misbehave(&mut self, action: ChaosAction) -> Result<(), Rejection> {
        let how = self.misbehaviour.change(action)?;
        self.connections.log(Level::Warn, format!("an operator changes the misbehaviour: {how}"));
        Ok(())
    }

    fn on_close(
        &mut self,
        _now: Now,
        conn: ConnId,
        peer: Option<ExternalPeer>,
        _reason: CloseReason,
    ) {
        if let Some(ExternalPeer::Consumer(consumer)) = peer {
            for due in consumer.dues() {
                self.timers.remove(&(due, conn));
            }
        }
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.keep_stalled_quiet(now);
        while let Some(&(due, conn)) = self.timers.first() {
            if due > now.mono {
                break;
            }
            self.timers.pop_first();
            self.answer_due(now, conn);
        }
        let is_watched = self.consumers().any(|consumer| !consumer.is_waiting());
        if is_watched && self.playback.advance(now.mono) {
            self.wake_consumers();
        }
    }

    fn on_commit(&mut self, _now: Now) {}

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, _now: Now) {}

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|&(due, _)| due);
        let next_seq = self.playback.next_seq();
        // Who is behind is waited for by the shell, which knows when the kernel has room again.
        let mut caught_up = self.consumers().filter(|c| !c.is_waiting() && c.cursor >= next_seq);
        let release = caught_up.next().and_then(|_| self.playback.next_due());
        timer.into_iter().chain(release).min()
    }

    fn fill(&mut self, now: Now, conn: ConnId) -> Filled {
        self.refill(now, conn);
        Filled::Outbox
    }

    /// A consumer is read however much waits for it: its heartbeats must be heard.
    fn wants(&self, _conn: ConnId) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
