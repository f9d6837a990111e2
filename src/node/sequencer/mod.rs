//! The sequencer: the machine of the node that is called core.
//!
//! It holds the session with the exchange behind a circuit breaker, gives every frame its place in the
//! one sequence, journals it, and only then lets anybody see it: the broker and the shards follow the
//! journal, each at its own pace. It answers current quotes and replays from the journal. What it does
//! not do: fan out (the broker does) or answer history queries (the shards do).
//!
//! Invariant: nothing leaves this node that the journal has not committed.

mod answers;
mod changes;
mod damage;
mod exchange;
mod followers;
mod intake;
mod market;
mod trim;

use std::net::SocketAddr;
use std::time::Duration;

use super::quotes::QuoteDesk;
use super::status::Status;
use super::{
    Action, CloseReason, ConnId, DialFailure, DialId, Level, Links, LocalFault, Node, Origin,
    Outgoing,
};
use crate::breaker;
use crate::limits;
use crate::log::{Health, Log, Recovery, Storage};
use crate::market::partition::Partition;
use crate::planted::{Bug, is_planted};
use crate::question::QuestionError;
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerChange, ErrorCode, Flags, Frame, Heartbeat, Kind, Role, Session, U16, U32, U64, padded,
};

use answers::Replay;
use exchange::Exchange;
use followers::Followers;
use market::Market;

/// The source number that core publishes as.
pub const MARKET_SOURCE: u8 = 1;
/// The dial id of the exchange; followers count up from here.
const EXCHANGE_DIAL: DialId = DialId(0);

/// One node that follows the journal.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// Its name in logs and status, such as `broker` or `shard-A`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which part of the sequence it gets; `None` = all of it (the broker).
    pub shard: Option<u16>,
}

/// What core is configured with.
#[derive(Clone, Debug)]
pub struct SequencerConfig {
    /// Where the exchange listens.
    pub exchange: SocketAddr,
    /// Who follows the journal.
    pub followers: Vec<FollowerConfig>,
    /// Which shard owns which symbol.
    pub partition: Partition,
    /// For the exchange session, the exchange's requests and each follower.
    pub breaker: breaker::Config,
    /// How often the exchange is asked whether it lives.
    pub heartbeat: Duration,
    /// How long the exchange may be silent before its session is given up.
    pub silence_max: Duration,
    /// How long a request to the exchange may take.
    pub request_deadline: Duration,
    /// How long a connect may take.
    pub connect_deadline: Duration,
    /// How many of the newest frames an empty broker is sent.
    pub broker_warmup_frames: u64,
    /// For jitter.
    pub seed: u64,
}

/// What a connection is for.
#[derive(Debug)]
enum Peer {
    Unknown,
    Exchange,
    /// Index into the followers.
    Follower(usize),
    Querier(Asked),
}

/// What one querier has asked for and not been sent.
#[derive(Debug, Default)]
struct Asked {
    replay: Option<Replay>,
    quotes: QuoteDesk,
}

/// The sequencer node.
pub struct Sequencer<S: Storage> {
    journal: Log<S>,
    market: Market,
    exchange: Exchange,
    followers: Followers,
    links: Links<Peer>,
    scratch: Vec<Frame>,
    /// Connections whose source looked at much and found little: asked again in the next turn.
    scanning: Vec<ConnId>,
    /// The exchange's next number. Ahead of the journal's own count by the frames that were taken in
    /// but not journaled, such as definitions that are known already.
    upstream_seq: u64,
    /// The journal refused a frame; nothing is read from the exchange until it has room.
    is_held_back: bool,
    has_news: bool,
    failure: Option<String>,
    local_faults: u64,
    local_fault_told: Option<Mono>,
    local_dropped: u64,
    /// Changes of other nodes' breakers taken until `reports_until`.
    reports: u32,
    reports_until: Mono,
    /// When it was last said that a shard holds the journal's trimming back.
    held_told: Option<Mono>,
    is_stopped: bool,
}

impl<S: Storage> Sequencer<S> {
    /// A sequencer on an opened journal. Reads the whole journal to know every instrument.
    ///
    /// # Errors
    /// When the breaker's configuration is not valid, the journal cannot begin an epoch, or it has lost
    /// definitions.
    pub fn new(
        config: SequencerConfig,
        mut journal: Log<S>,
        recovery: &Recovery,
        now: Now,
    ) -> Result<Sequencer<S>, String> {
        let mut links = Links::default();
        // Before anything is written: a journal that is refused gets no epoch.
        let (mut market, warning) = Market::rebuild(&journal, config.partition.clone())?;
        let keeps_epoch = is_planted(Bug::KeepEpochAfterCrash) && journal.epoch() > 0;
        if (!recovery.clean || journal.epoch() == 0) && !keeps_epoch {
            let epoch = journal.begin_epoch(now).map_err(|error| error.to_string())?;
            market.note_epoch(epoch, journal.epoch_start());
            tell_recovery(&mut links, recovery, epoch);
        }
        if let Some(text) = warning {
            links.log(Level::Error, text);
        }
        if !recovery.skipped_segments.is_empty() {
            let text = format!("segments {:?} are left out: rot", recovery.skipped_segments);
            links.log(Level::Error, text);
        }
        let exchange = Exchange::new(&config, now).map_err(|error| error.to_string())?;
        let followers = Followers::new(&config).map_err(|error| error.to_string())?;
        journal.require_checkpoints();
        if let Some((held_seq, _)) = followers.held_by_shards() {
            journal.hold_from_seq(held_seq);
        }
        Ok(Sequencer {
            upstream_seq: journal.upstream().1,
            journal,
            market,
            exchange,
            followers,
            links,
            scratch: Vec::new(),
            scanning: Vec::new(),
            is_held_back: false,
            has_news: false,
            failure: None,
            local_faults: 0,
            local_fault_told: None,
            local_dropped: 0,
            reports: 0,
            reports_until: Mono::default(),
            held_told: None,
            is_stopped: false,
        })
    }

    fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if self.links.get(conn).is_none() {
            return;
        }
        if let Err(error) = frame.check() {
            if self.exchange.conn() == Some(conn) {
                self.exchange.handle_protocol_error(now);
            }
            self.links.refuse_frame(conn, error);
            return;
        }
        let Some(link) = self.links.get(conn) else { return };
        match (&link.peer, frame.kind()) {
            (Peer::Exchange, Some(kind)) => self.handle_exchange_frame(now, conn, kind, frame),
            (Peer::Follower(index), _) => {
                let index = *index;
                self.answer_follower(now, conn, index, frame);
                let said =
                    self.followers.handle_frame(now, index, frame, &self.journal, &self.market);
                match said {
                    Ok(Some(answer)) => self.links.send(conn, answer),
                    Ok(None) => {}
                    Err(text) => self.links.refuse(conn, ErrorCode::Unexpected, text),
                }
                self.links.mark_dirty(conn);
            }
            (Peer::Unknown, Some(Kind::Session)) => self.greet(conn, frame),
            (Peer::Unknown, _) => {
                self.links.refuse(conn, ErrorCode::Unexpected, "the first frame must be a SESSION");
            }
            (Peer::Querier(_), Some(Kind::Query | Kind::QueryMore)) => {
                self.handle_query_frame(now, conn, frame);
            }
            (Peer::Querier(asked), _) if asked.quotes.questions.wants_more() => {
                let error = QuestionError::Broken;
                self.links.refuse(conn, error.code(), &error.to_string());
            }
            (Peer::Querier(_), Some(Kind::BreakerChange)) => {
                if let Some(change) = frame.view::<BreakerChange>() {
                    self.take_report(now, change);
                }
            }
            (Peer::Querier(_), Some(Kind::Heartbeat)) => {
                if let Some(beat) = frame.view::<Heartbeat>() {
                    let beat = *beat;
                    self.links.answer_heartbeat(now, conn, &beat, self.journal.next_seq());
                }
            }
            _ => self.links.refuse(conn, ErrorCode::Unexpected, "this frame has no place here"),
        }
    }

    /// A follower that hands last values out asks whether we are still there, and whether they are
    /// current: what it was told last, in the place of the stream where it is true.
    fn answer_follower(&mut self, now: Now, conn: ConnId, index: usize, frame: &Frame) {
        let Some(beat) = frame.view::<Heartbeat>() else { return };
        if beat.flags.get() & Flags::MORE == 0 {
            return;
        }
        if let Some(is_live) = self.followers.told_live(index) {
            let flags = U16::new(if is_live { 0 } else { Flags::STALE });
            let (token, sent_at) = (beat.token, U64::new(now.wall_ns));
            self.links.send(conn, Heartbeat { flags, token, sent_at, ..Heartbeat::default() });
        }
    }

    fn greet(&mut self, conn: ConnId, frame: &Frame) {
        let role = frame.view::<Session>().and_then(|session| Role::from_number(session.role));
        if role != Some(Role::Querier) {
            self.links.refuse(conn, ErrorCode::Unexpected, "core takes queries only");
            return;
        }
        self.links.greet(conn, Peer::Querier(Asked::default()));
        let answer = Session {
            source: MARKET_SOURCE,
            epoch: U32::new(self.journal.epoch()),
            epoch_start: U64::new(self.journal.epoch_start()),
            next_seq: U64::new(self.journal.next_seq()),
            durable_seq: U64::new(self.journal.durable_seq()),
            name: padded("core"),
            ..Session::default()
        };
        self.links.send(conn, answer);
    }

    /// Lets the exchange machine act: dial, ask, close.
    fn drive_exchange(&mut self, now: Now) {
        let wanted = self.upstream_seq;
        while let Some(step) = self.exchange.poll_step(now, wanted, !self.is_held_back) {
            match step {
                exchange::Step::Dial(to, within) => self.links.dial(EXCHANGE_DIAL, to, within),
                exchange::Step::Send(conn, frame) => self.links.send_frame(conn, &frame),
                exchange::Step::Close(conn, why) => {
                    self.links.log(Level::Info, format!("closing the exchange session: {why}"));
                    self.links.close_after_flush(conn);
                }
            }
        }
        while let Some((name, change)) = self.exchange.poll_transition() {
            self.tell_transition(now, name, change);
        }
    }

    /// Our own machine ran out of something: counted, and said once a second while it lasts, since it
    /// is tried again many times a second.
    fn note_local_fault(&mut self, now: Now, what: &str, fault: LocalFault) {
        self.local_faults += 1;
        if self.local_fault_told.is_none_or(|told| now.mono.since(told) >= limits::WORD_EVERY) {
            self.local_fault_told = Some(now.mono);
            self.links.log(Level::Warn, format!("cannot {what}: {}", fault.as_str()));
        }
    }

    fn drive_followers(&mut self, now: Now) {
        for (dial, to, within) in self.followers.dials_due(now) {
            self.links.dial(dial, to, within);
        }
        let is_live = self.is_live(now);
        for (conn, frame) in self.followers.words_due(now, &self.journal, is_live) {
            self.links.send_frame(conn, &frame);
        }
        for conn in self.followers.overdue(now) {
            self.links.refuse(conn, ErrorCode::Deadline, "no answer to SESSION");
        }
        for conn in self.followers.forced_out() {
            let text = "closing a follower's link: an operator forced its breaker open";
            self.links.log(Level::Info, text.to_owned());
            self.links.close_after_flush(conn);
        }
        while let Some((name, change)) = self.followers.poll_transition() {
            self.tell_transition(now, &name, change);
        }
    }

    /// Whether the last values are known to be current.
    fn is_live(&self, now: Now) -> bool {
        self.exchange.is_live(now, self.upstream_seq)
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "core");
        status.metric("epoch", self.journal.epoch());
        status.metric("next_seq", self.journal.next_seq());
        status.metric("durable_seq", self.journal.durable_seq());
        status.metric("journal_bytes", self.journal.bytes());
        status.metric("journal_first_seq", self.journal.first_seq().unwrap_or(0));
        status.metric("instruments", self.market.len());
        status.metric("upstream_seq", self.upstream_seq);
        status.metric("held_back", i64::from(self.is_held_back));
        status.metric("connections", self.links.len());
        status.metric("refused", self.links.refused());
        status.metric("local_faults", self.local_faults);
        status.metric("local_frames_dropped", self.local_dropped);
        if !matches!(self.journal.health(), Health::Open) {
            status.text("journal", format!("{:?}", self.journal.health()));
        }
        if let Some(name) = self.journal_held_by() {
            status.text("journal_held_by", name);
        }
        self.exchange.describe(now, self.upstream_seq, &mut status);
        self.followers.describe(now, &mut status);
        status
    }
}

impl<S: Storage> Node for Sequencer<S> {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        match origin {
            Origin::Accepted => self.links.insert(now, conn, Peer::Unknown),
            Origin::Dialed(EXCHANGE_DIAL) => {
                self.links.insert(now, conn, Peer::Unknown);
                self.links.greet(conn, Peer::Exchange);
                let feed = self.journal.upstream().0;
                let hello = self.exchange.handle_open(now, conn, feed, self.upstream_seq);
                self.links.send(conn, hello);
            }
            Origin::Dialed(dial) => {
                let Some(index) = self.followers.index_of(dial) else { return };
                self.links.insert(now, conn, Peer::Unknown);
                self.links.greet(conn, Peer::Follower(index));
                let hello = self.followers.handle_open(now, index, conn, &self.journal);
                self.links.send(conn, hello);
            }
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        if let DialFailure::Local(fault) = failure {
            self.note_local_fault(now, "dial", fault);
        }
        if dial == EXCHANGE_DIAL {
            self.exchange.handle_dial_failed(now, failure);
        } else if let Some(index) = self.followers.index_of(dial) {
            self.followers.handle_dial_failed(now, index, failure);
        }
    }

    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        self.links.heard(now, conn);
        if self.exchange.conn() == Some(conn) {
            self.exchange.note_heard(now);
        }
        for frame in frames {
            self.handle_frame(now, conn, frame);
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        match self.links.remove(conn) {
            Some(Peer::Exchange) => {
                self.exchange.handle_close(now, conn, reason);
                self.links.log(Level::Info, format!("the exchange session ended: {reason}"));
            }
            Some(Peer::Follower(index)) => {
                self.followers.handle_close(now, index, conn);
                let name = self.followers.name(index);
                self.links.log(Level::Info, format!("the link to {name} ended: {reason}"));
            }
            _ => {}
        }
    }

    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.note_local_fault(now, "accept", fault);
    }

    fn handle_storage(&mut self, now: Now) {
        let progress = self.journal.handle_completions(now);
        if progress.room {
            self.is_held_back = false;
        }
        if progress.failed {
            self.failure = Some(format!("the journal failed: {:?}", self.journal.health()));
        }
    }

    fn handle_timers(&mut self, now: Now) {
        self.hold_journal(now);
        self.journal.handle_timers(now);
        self.exchange.handle_timers(now);
        self.drive_exchange(now);
        self.followers.handle_timers(now);
        self.drive_followers(now);
        self.links.tick(now, |_| 0);
        for conn in std::mem::take(&mut self.scanning) {
            self.links.mark_dirty(conn);
        }
    }

    fn commit(&mut self, now: Now) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        self.journal.commit(now);
        for conn in self.followers.streaming() {
            self.links.mark_dirty(conn);
        }
    }

    fn handle_stop(&mut self, now: Now) {
        self.links.refuse_all(ErrorCode::Stopping, "core stops; come back later");
        if let Err(error) = self.journal.close(now) {
            self.links.log(Level::Error, format!("the journal was not closed cleanly: {error}"));
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
        [
            self.links.next_tick(),
            self.journal.next_deadline(),
            self.exchange.next_deadline(),
            self.followers.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.links.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.links.poll_dirty()
    }

    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        if self.links.outbox(conn).is_empty() {
            self.refill(now, conn);
        }
        Outgoing { head: self.links.outbox(conn), tail: &[] }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.links.sent(now, conn, bytes);
    }

    fn wants_frames(&self, conn: ConnId) -> bool {
        let has_room = !self.is_held_back || self.exchange.conn() != Some(conn);
        has_room && self.links.wants_frames(conn)
    }
}

fn tell_recovery(links: &mut Links<Peer>, recovery: &Recovery, epoch: u32) {
    if recovery.fresh {
        links.log(Level::Info, format!("new journal, epoch {epoch}"));
        return;
    }
    let text = format!(
        "the journal was not closed; {} torn records were cut, epoch {epoch} begins at seq {}",
        recovery.cut_records, recovery.next_seq
    );
    links.log(Level::Warn, text);
}

#[cfg(test)]
mod breaker_tests;
#[cfg(test)]
mod tests;
