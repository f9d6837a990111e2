//! The exchange: plays tapes or a synthetic market to its consumers, and misbehaves as it is told to.
//! What it does not do: read files (the shell hands it a schedule), or remember its consumers; whoever
//! comes back says what it wants next.

mod clock;
mod consumer;
mod playback;

use std::collections::BTreeSet;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::session::{Admission, Denial, Filled, Roles, Status};
use super::{CloseReason, ConnId, Level, Links, Service};
use crate::limits;
use crate::market::chaos::{Chaos, ChaosConfig, FrameFate, Probability, Verdict};
use crate::market::tape::Schedule;
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    ErrorCode, Flags, Frame, Heartbeat, Refusal, Resume, Seq, Session, U32, U64, padded,
};

pub use clock::Speed;

use clock::MarketClock;
use consumer::{Answer, Consumer, Phase};
use playback::Playback;

/// What is played.
#[derive(Clone, Debug)]
pub enum FeedConfig {
    /// Recorded tapes.
    Tapes {
        /// The tapes, merged.
        schedule: Schedule,
        /// Begins again after the end.
        looped: bool,
    },
    /// A synthetic market.
    Synthetic {
        /// What its events follow from.
        seed: u64,
        /// Their average rate at its own pace.
        events_per_second: u64,
        /// When it opened, nanoseconds since the Unix epoch.
        start_wall_ns: u64,
    },
}

/// What the exchange is configured with.
#[derive(Clone, Debug)]
pub struct ExternalConfig {
    /// What is played.
    pub feed: FeedConfig,
    /// How fast.
    pub speed: Speed,
    /// What is done wrong on the way.
    pub chaos: ChaosConfig,
    /// Consumers at once.
    pub sessions_max: usize,
}

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Peer {
    Consumer(Consumer),
    Querier,
}

/// What became of sessions or requests.
#[derive(Debug, Default)]
struct Verdicts {
    served: u64,
    refused: u64,
    stalled: u64,
}

impl Verdicts {
    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Serve => &mut self.served,
            Verdict::Refuse => &mut self.refused,
            Verdict::Stall(_) => &mut self.stalled,
        } += 1;
    }

    fn report(&self, status: &mut Status, what: &str) {
        status.metric(format!("{what}.served"), self.served);
        status.metric(format!("{what}.refused"), self.refused);
        status.metric(format!("{what}.stalled"), self.stalled);
    }
}

/// What became of the frames of the feed.
#[derive(Debug, Default)]
struct Fates {
    sent: u64,
    lost: u64,
    cut: u64,
    garbage: u64,
    /// Frames that left the window before a slow consumer came to them.
    lapped: u64,
}

/// The exchange node.
#[derive(Debug)]
pub struct External {
    links: Links<Peer>,
    playback: Playback,
    chaos: Chaos,
    /// Whether frames are ever spoiled; if not, they are copied in runs.
    spoils_frames: bool,
    sessions_max: usize,
    /// When a consumer has to be looked at: an answer held back is due, or frames were all lost.
    timers: BTreeSet<(Mono, ConnId)>,
    /// Bytes gathered for one consumer; kept to save the allocation.
    scratch: Vec<u8>,
    sessions: Verdicts,
    requests: Verdicts,
    frames: Fates,
}

impl External {
    /// An exchange whose market opens now.
    #[must_use]
    pub fn new(config: ExternalConfig, now: Now) -> External {
        let clock = MarketClock::new(config.speed, now.mono);
        let ChaosConfig { drop, garbage, lose, .. } = config.chaos;
        External {
            links: Links::default(),
            playback: Playback::new(config.feed, clock, now.mono),
            chaos: Chaos::new(config.chaos),
            spoils_frames: [drop, garbage, lose].iter().any(|p| *p != Probability::NEVER),
            sessions_max: config.sessions_max,
            timers: BTreeSet::new(),
            scratch: Vec::new(),
            sessions: Verdicts::default(),
            requests: Verdicts::default(),
            frames: Fates::default(),
        }
    }

    /// The identity of the feed, as it is told to consumers.
    #[must_use]
    pub fn feed_identity(&self) -> u64 {
        self.playback.identity()
    }

    fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.links.peers().filter_map(|(_, peer)| match peer {
            Peer::Consumer(consumer) => Some(consumer),
            Peer::Querier => None,
        })
    }

    fn consumer_mut(&mut self, conn: ConnId) -> Option<&mut Consumer> {
        match self.links.peer_mut(conn)? {
            Peer::Consumer(consumer) => Some(consumer),
            Peer::Querier => None,
        }
    }

    fn greet_consumer(&mut self, _now: Now, _conn: ConnId, _session: &Session) -> Admission<Peer> {
        if self.consumers().count() >= self.sessions_max {
            return Admission::refused(ErrorCode::Limit, "all session places are taken");
        }
        Admission::Pending(Peer::Consumer(Consumer::default()))
    }

    fn greet_querier(&mut self, _now: Now, _conn: ConnId, _session: &Session) -> Admission<Peer> {
        let answer = Session { name: padded("external"), ..Session::default() };
        Admission::Welcome(Peer::Querier, answer)
    }

    /// A consumer wants an answer. Its number must tell a refused request from a refused connection.
    fn handle_request(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        answer: Answer,
    ) -> Result<(), Denial> {
        if id == 0 {
            return Err(Denial::new(ErrorCode::Unexpected, "a request needs a number, not 0"));
        }
        let verdict = self.chaos.request();
        self.requests.count(verdict);
        self.judge(now, conn, verdict, answer, Answer::No { id });
        Ok(())
    }

    /// Answers at once, or when the verdict says.
    fn judge(&mut self, now: Now, conn: ConnId, verdict: Verdict, yes: Answer, no: Answer) {
        let (answer, stall) = match verdict {
            Verdict::Serve => (yes, Duration::ZERO),
            Verdict::Stall(stall) => (yes, stall),
            Verdict::Refuse => (no, Duration::ZERO),
        };
        let due = now.mono + stall + self.chaos.delay();
        let Some(consumer) = self.consumer_mut(conn) else { return };
        let Some(due) = consumer.hold_until(now.mono, due) else {
            self.answer(now, conn, answer);
            return;
        };
        if consumer.hold(due, answer) {
            self.timers.insert((due, conn));
        } else {
            self.links.refuse(conn, ErrorCode::Limit, "too many requests wait for an answer");
        }
    }

    fn answer(&mut self, now: Now, conn: ConnId, answer: Answer) {
        match answer {
            Answer::Session(session) => self.begin_session(now, conn, &session),
            Answer::NoSession => {
                self.links.refuse(conn, ErrorCode::Failed, "the exchange refuses this session");
            }
            Answer::Heartbeat { token } => self.tell_cursor(now, conn, token),
            Answer::Resume { id, next_seq } => {
                let cursor = self.seek(now, next_seq);
                let Some(consumer) = self.consumer_mut(conn) else { return };
                consumer.cursor = cursor;
                // Frames in the outbox still follow the old order; all behind the answer the new.
                self.tell_cursor(now, conn, id);
            }
            Answer::No { id } => {
                let text = "the exchange refuses this request";
                self.links.send(conn, Refusal::new(ErrorCode::Failed, id, text));
            }
        }
    }

    /// Where one consumer is served from. What is due meanwhile is for all of them.
    fn seek(&mut self, now: Now, wanted: u64) -> u64 {
        let before = self.playback.next_seq();
        let cursor = self.playback.seek(now.mono, wanted);
        if self.playback.next_seq() != before {
            self.wake_consumers();
        }
        cursor
    }

    fn wake_consumers(&mut self) {
        self.links.mark_dirty_where(|peer| matches!(peer, Peer::Consumer(_)));
    }

    fn begin_session(&mut self, now: Now, conn: ConnId, session: &Session) {
        let feed = self.playback.identity();
        let is_known = session.feed.get() == feed;
        let wanted = if is_known { session.next_seq.get() } else { 1 };
        let cursor = self.seek(now, wanted);
        // An endless feed at full speed has no head that could be reached.
        let head = Some(self.playback.next_seq()).filter(|&head| head != u64::MAX);
        let Some(consumer) = self.consumer_mut(conn) else { return };
        consumer.cursor = cursor;
        consumer.phase = Phase::Snapshot { position: 0 };
        self.links.log(Level::Info, format!("a consumer is served from {cursor} on"));
        self.links.send(
            conn,
            Session {
                next_seq: U64::new(cursor),
                durable_seq: U64::new(head.unwrap_or(0)),
                feed: U64::new(feed),
                name: padded("external"),
                ..Session::default()
            },
        );
    }

    /// Says which frame comes next behind this answer.
    fn tell_cursor(&mut self, now: Now, conn: ConnId, token: u32) {
        let Some(consumer) = self.consumer_mut(conn) else { return };
        let beat = Heartbeat {
            token: U32::new(token),
            next_seq: U64::new(consumer.cursor),
            sent_at: U64::new(now.wall_ns),
            ..Heartbeat::default()
        };
        self.links.send(conn, beat);
    }

    /// Puts what a consumer should get next into its outbox.
    fn refill(&mut self, now: Now, conn: ConnId) {
        let Some(Peer::Consumer(consumer)) = self.links.peer_mut(conn) else { return };
        if let Phase::Snapshot { position } = consumer.phase {
            // Spared by the misbehaviour: a definition lost here would leave no hole in the sequence
            // by which anybody could notice.
            let left = &self.playback.definitions()[position..];
            let count = left.len().min(limits::FILL_FRAMES_MAX);
            self.scratch.clear();
            for definition in &left[..count] {
                self.scratch.extend_from_slice(definition.delivered(Flags::SNAPSHOT).as_bytes());
            }
            consumer.phase = if count < left.len() {
                Phase::Snapshot { position: position + count }
            } else {
                Phase::Live
            };
            if count > 0 {
                self.links.fill(conn, &self.scratch);
                return;
            }
        }
        let Some(consumer) = self.consumer_mut(conn) else { return };
        if consumer.phase != Phase::Live {
            return;
        }
        let cursor = self.unlap(conn);
        let (head, tail) = self.playback.read(cursor, limits::FILL_FRAMES_MAX);
        let count = (head.len() + tail.len()) as u64;
        if count == 0 {
            return;
        }
        if self.spoils_frames {
            self.scratch.clear();
            let spoiled = spoil(
                &mut self.chaos,
                &mut self.frames,
                head.iter().chain(tail),
                &mut self.scratch,
            );
            self.links.fill(conn, &self.scratch);
            if spoiled == Spoiled::Cut {
                self.links.close_after_flush(conn);
            } else if self.scratch.is_empty() {
                // An empty outbox would be taken for the end of what there is.
                self.timers.insert((now.mono, conn));
            }
        } else {
            self.frames.sent += count;
            self.links.fill(conn, head.as_bytes());
            self.links.fill(conn, tail.as_bytes());
        }
        if let Some(consumer) = self.consumer_mut(conn) {
            consumer.cursor = cursor.saturating_add(count);
        }
    }

    /// The consumer's cursor, moved when the window has left it behind: half a window ahead of the
    /// edge, or the next frame would push it out again. The hole in `seq` tells the consumer.
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
        self.links.mark_dirty(conn);
    }

    /// A stalled session hears nothing at all from us, the greetings of the tick included.
    fn keep_stalled_quiet(&mut self, now: Now) {
        if self.links.next_tick().is_none_or(|tick| tick > now.mono) {
            return;
        }
        let waits = |peer: &Peer| matches!(peer, Peer::Consumer(consumer) if consumer.is_waiting());
        let stalled: Vec<ConnId> =
            self.links.peers().filter(|(_, peer)| waits(peer)).map(|(conn, _)| conn).collect();
        for conn in stalled {
            self.links.sent_elsewhere(now, conn);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoiled {
    Whole,
    /// The last frame is not; the connection ends in it.
    Cut,
}

/// Lets every frame meet its fate on the way into `out`.
fn spoil<'a>(
    chaos: &mut Chaos,
    fates: &mut Fates,
    frames: impl Iterator<Item = &'a Frame>,
    out: &mut Vec<u8>,
) -> Spoiled {
    for frame in frames {
        match chaos.frame() {
            FrameFate::Send => {
                fates.sent += 1;
                out.extend_from_slice(frame.as_bytes());
            }
            FrameFate::Lose => fates.lost += 1,
            FrameFate::Garbage => {
                fates.garbage += 1;
                out.extend_from_slice(&chaos.garbage());
            }
            FrameFate::CutMidway => {
                fates.cut += 1;
                out.extend_from_slice(&frame.as_bytes()[..chaos.cut_bytes()]);
                return Spoiled::Cut;
            }
        }
    }
    Spoiled::Whole
}

impl Service for External {
    type Peer = Peer;

    const TITLE: &'static str = "the exchange";
    const ROLES: Roles<Self> = Roles {
        consumer: Some(External::greet_consumer),
        querier: Some(External::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn links(&self) -> &Links<Peer> {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links<Peer> {
        &mut self.links
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    /// The answer to a consumer's SESSION may be a refusal, or late.
    fn on_greeted(&mut self, now: Now, conn: ConnId, session: &Session) {
        let verdict = self.chaos.session();
        self.sessions.count(verdict);
        self.judge(now, conn, verdict, Answer::Session(*session), Answer::NoSession);
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Denial> {
        if !matches!(self.links.peer(conn), Some(Peer::Consumer(_))) {
            return Err(Denial::out_of_place());
        }
        if let Some(resume) = frame.view::<Resume>() {
            let (id, next_seq) = (resume.id.get(), resume.next_seq.get());
            return self.handle_request(now, conn, id, Answer::Resume { id, next_seq });
        }
        let beat = frame.view::<Heartbeat>().ok_or_else(Denial::out_of_place)?;
        if !frame.has(Flags::MORE) {
            return Ok(());
        }
        let token = beat.token.get();
        self.handle_request(now, conn, token, Answer::Heartbeat { token })
    }

    /// A consumer's heartbeat is a request, and may be refused as any.
    fn is_answered_here(peer: &Peer) -> bool {
        matches!(peer, Peer::Querier)
    }

    fn answered_seq(&self, _peer: &Peer) -> Option<Seq> {
        None
    }

    fn sent_seq(peer: &Peer) -> Option<Seq> {
        match peer {
            Peer::Consumer(consumer) => Seq::new(consumer.cursor),
            Peer::Querier => None,
        }
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question(&mut self, _now: Now, _conn: ConnId, _question: Question) -> Result<(), Denial> {
        let text = "the exchange answers status queries only";
        Err(Denial::new(ErrorCode::Unexpected, text))
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn status(&self, _now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "external");
        status.text("feed", self.playback.name());
        status.text("feed.identity", format!("{:016x}", self.playback.identity()));
        status.metric("consumers", self.consumers().count());
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.links.local_faults());
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

    fn on_close(&mut self, _now: Now, conn: ConnId, peer: Option<Peer>, _reason: CloseReason) {
        if let Some(Peer::Consumer(consumer)) = peer {
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
}

#[cfg(test)]
mod tests;
