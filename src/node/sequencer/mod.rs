//! The sequencer: the machine of the node that is called core.
//!
//! It holds the session with each exchange behind circuit breakers, gives every frame its place in the one sequence,
//! journals it, and only then lets anybody see it: the broker and the shards follow the journal, each at its own pace.
//! It answers current quotes and replays from the journal. Fan-out is the broker's, and history the shards'.
//!
//! Invariant: nothing leaves this node that the journal has not committed.
//!
//! # Decisions
//!
//! * Only core begins an epoch, and it does so at every open, clean or not: a copy of a journal that was closed
//!   cleanly must not go on under the identity of the one that went on. The epoch is durable before its first frame
//!   is sequenced. After the death of a process nothing is void. After a loss of power, the frames that were
//!   published beyond the journal's end are void. Shards have none of them: they are sent what is durable.
//! * With `durability = "none"` nothing is known to be durable, so shards are sent what is committed. After a loss of
//!   power a shard may then hold more than the journal, and is refused like one whose core was restored from an
//!   older copy: to give up what it holds is an operator's decision.

mod answers;
mod breaker_changes;
mod config;
mod damage;
mod exchange;
mod exchanges;
mod followers;
mod full_names;
mod intake;
mod link;
mod market;
mod producers;
mod replays;
mod reports;
mod silence;
mod silences;
mod system_topics;
mod trim;

pub use config::{ExchangeConfig, FollowerConfig, SequencerConfig};
pub use intake::{OTHER_FEED, OTHER_FEED_REMEDY};
pub use producers::{DIALED_EXCHANGE, SHORTER_FEED};

use std::collections::BTreeSet;

use super::quotes::{QuotePlaces, QuoteQueries};
use super::session::{Admission, Filled, Rejection, Roles, Status, describe_log, report_log};
use super::uplink::UplinkClose;
use super::{CloseReason, ConnId, Connections, DialFailure, DialId, Level, Service};
use crate::log::{Log, NewEpoch, Recovery, Storage};
use crate::planted::{Bug, is_planted};
use crate::question::Question;
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, BreakerChange, Ended, ErrorCode, Flags, Frame, Heartbeat, Seq, Session, U32,
    U64, padded,
};

use exchange::Exchange;
use followers::{FollowerReply, Followers};
use market::Market;
use replays::{AskedReplay, Replays};
use reports::Reports;
use silence::InstrumentPulses;

/// The source number that core publishes as.
pub const MARKET_SOURCE: u8 = 1;

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum SequencerPeer {
    /// Index into the exchanges.
    Exchange(usize),
    /// Index into the followers.
    Follower(usize),
    Querier(Querier),
}

/// What one querier has asked for and not been sent.
#[derive(Debug)]
pub(crate) struct Querier {
    /// The epoch, by identity, of the sequence that it follows; 0 = it does not say.
    feed: u64,
    replay: Option<AskedReplay>,
    quotes: QuoteQueries,
    /// It is the aggregator, which reports changes of its breakers.
    is_reporter: bool,
}

/// The sequencer node.
pub struct Sequencer<S: Storage> {
    journal: Log<S>,
    market: Market,
    exchanges: Vec<Exchange>,
    /// What symbols of exchanges with a venue begin with, ahead of a `:`.
    venues: BTreeSet<String>,
    /// When each instrument was heard.
    pulses: InstrumentPulses,
    followers: Followers,
    connections: Connections<SequencerPeer>,
    scratch: Vec<Frame>,
    /// The places of all connections' questions for quotes.
    places: QuotePlaces,
    /// Whose questions are about a cut that is ahead.
    waiting: BTreeSet<ConnId>,
    /// Followers whose stream looked at much and found little: asked again in the next turn.
    scanning: Vec<ConnId>,
    replays: Replays,
    /// The journal refused a frame; nothing is read from an exchange until it has room.
    is_held_back: bool,
    config: SequencerConfig,
    has_updates: bool,
    failure: Option<String>,
    local_dropped: u64,
    /// Changes of other nodes' breakers.
    reports: Reports,
    /// When it was last said that a shard holds the journal's trimming back.
    retained_logged_at: Option<Mono>,
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
        let mut connections = Connections::default();
        // Before anything is written: a journal that is refused gets no epoch.
        let (mut market, warning) = Market::rebuild(&journal, config.partition.clone())?;
        market.start_clock(journal.clock_step_max(), now);
        let keeps_epoch = is_planted(Bug::KeepEpochAfterCrash)
            || (is_planted(Bug::ReuseEpochId) && recovery.clean);
        if journal.epoch() == 0 || !keeps_epoch {
            let epoch = journal
                .begin_epoch(NewEpoch::of(config.epoch_id), now)
                .map_err(|error| error.to_string())?;
            market.note_epoch(epoch, journal.epoch_start());
            log_recovery(&mut connections, recovery, epoch);
        }
        if let Some(text) = warning {
            connections.log(Level::Error, text);
        }
        if !recovery.skipped_segments.is_empty() {
            let text = format!("segments {:?} are left out: rot", recovery.skipped_segments);
            connections.log(Level::Error, text);
        }
        if let Some(missing) = &recovery.missing_front {
            let text = format!(
                "segments {} to {} of the journal are missing, and the retention has not removed them: \
                 history begins behind them. Put the files back from a copy",
                missing.start,
                missing.end - 1
            );
            connections.log(Level::Error, text);
        }
        let exchanges = exchanges::new(&config, &journal, &market, now)?;
        market.follow(exchanges.iter().map(Exchange::number));
        let venues = exchanges::all_names(&exchanges, &market);
        let opened_seq = Seq::or_first(journal.next_seq());
        let followers = Followers::new(&config, opened_seq).map_err(|error| error.to_string())?;
        let reports = Reports::new(&config.followers);
        journal.require_checkpoints();
        if let Some((needed_seq, _)) = followers.needed_by_shards() {
            journal.retain_from_seq(Seq::number(needed_seq));
        }
        let mut core = Sequencer {
            journal,
            market,
            exchanges,
            venues,
            pulses: InstrumentPulses::default(),
            followers,
            connections,
            scratch: Vec::new(),
            places: QuotePlaces::default(),
            waiting: BTreeSet::new(),
            scanning: Vec::new(),
            replays: Replays::default(),
            is_held_back: false,
            config,
            has_updates: false,
            failure: None,
            local_dropped: 0,
            reports,
            retained_logged_at: None,
        };
        core.tell_uncertain_places(!recovery.damaged.is_empty());
        Ok(core)
    }

    /// A frame of a node that we dialed.
    fn handle_dialed_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if let Err(error) = frame.check() {
            match self.connections.peer(conn) {
                Some(SequencerPeer::Exchange(index)) => {
                    self.exchanges[*index].handle_protocol_error(now);
                }
                Some(SequencerPeer::Follower(index)) => {
                    self.followers.handle_protocol_error(now, *index)
                }
                _ => {}
            }
            self.connections.refuse(conn, ErrorCode::BadFrame, &error.to_string());
            return;
        }
        match self.connections.peer(conn) {
            Some(SequencerPeer::Exchange(index)) => {
                let index = *index;
                self.handle_exchange_frame(now, conn, index, frame);
            }
            Some(SequencerPeer::Follower(index)) => {
                let index = *index;
                self.note_probe(now, conn, index, frame);
                let answer =
                    self.followers.handle_frame(now, index, frame, &self.journal, &self.market);
                match answer {
                    Ok(FollowerReply::Session(answer)) => self.connections.send(conn, answer),
                    Ok(FollowerReply::Begun { wants_lineage }) => {
                        let entries = self.journal.lineage().entries().iter();
                        for entry in entries.filter(|_| wants_lineage) {
                            self.connections.send(conn, entry.message(MARKET_SOURCE));
                        }
                    }
                    Ok(FollowerReply::Nothing) => {}
                    Ok(FollowerReply::Foreign { refusal, text }) => {
                        self.connections.log(Level::Error, text);
                        self.connections.refuse(conn, ErrorCode::Unexpected, refusal);
                    }
                    Err(text) => {
                        self.followers.handle_protocol_error(now, index);
                        self.connections.refuse_frame(conn, frame, text);
                    }
                }
                self.connections.mark_dirty(conn);
            }
            _ => {}
        }
    }

    /// A follower asks whether we are still there and whether it has all. The answer stands in its stream, behind
    /// what there is now: a connection that is alive says nothing about a stream that is long. Only a mere sign of
    /// life, which somebody else's claim to its seat makes it ask for, is given at once.
    fn note_probe(&mut self, now: Now, conn: ConnId, index: usize, frame: &Frame) {
        let Some(beat) = frame.view::<Heartbeat>() else { return };
        if beat.flags.get() & Flags::MORE == 0 {
            return;
        }
        if beat.token.get() == Heartbeat::LIFE_TOKEN {
            let answer = self.followers.sign_of_life(now, index);
            self.connections.send(conn, answer);
            return;
        }
        self.followers.note_probe(index, beat.token, self.journal.committed_position());
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        conn: ConnId,
        session: &Session,
    ) -> Admission<SequencerPeer> {
        let answer = Session {
            source: MARKET_SOURCE,
            epoch: U32::new(self.journal.epoch()),
            epoch_start: U64::new(self.journal.epoch_start()),
            next_seq: U64::new(self.journal.next_seq()),
            durable_seq: U64::new(self.journal.durable_seq()),
            feed: U64::new(self.journal.epoch_id()),
            name: padded("core"),
            ..Session::default()
        };
        let is_reporter = Reports::is_reporter(&session.name);
        let quotes = QuoteQueries::new(self.connections.principal(conn));
        let querier = Querier { feed: session.feed.get(), replay: None, quotes, is_reporter };
        Admission::Accepted(SequencerPeer::Querier(querier), answer)
    }

    fn drive_followers(&mut self, now: Now) {
        for (dial, to, within) in self.followers.dials_due(now) {
            self.connections.dial(dial, to, within);
        }
        let states = self.feed_states(now);
        for (conn, frame) in self.followers.heartbeats_due(now, &self.journal, states) {
            self.connections.send_frame(conn, &frame);
        }
        for UplinkClose { conn, text, is_late, .. } in self.followers.closes_due(now) {
            if is_late {
                self.connections.refuse(conn, ErrorCode::Deadline, text);
            } else {
                self.connections.log(Level::Info, format!("closing a follower's link: {text}"));
                self.connections.close_after_flush(conn);
            }
        }
        while let Some((name, change)) = self.followers.poll_transition() {
            self.report_transition(now, &name, change);
        }
    }
}

impl<S: Storage> Service for Sequencer<S> {
    type Peer = SequencerPeer;

    const TITLE: &'static str = "core";
    const ROLES: Roles<Self> = Roles {
        producer: Some(Self::greet_producer),
        querier: Some(Self::greet_querier),
        ..Roles::NONE
    };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<SequencerPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<SequencerPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, now: Now, conn: ConnId, _frames: usize) {
        if let Some(index) = self.exchange_at(conn) {
            self.exchanges[index].note_heard(now);
        }
    }

    /// Producers bring their feed. Queriers report changes of their own breakers.
    fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) -> Result<(), Rejection> {
        if let Some(SequencerPeer::Exchange(index)) = self.connections.peer(conn) {
            let index = *index;
            return self.on_producer_frame(now, conn, index, frame);
        }
        let change = frame.view::<BreakerChange>().ok_or_else(Rejection::out_of_place)?;
        self.take_report(now, conn, change);
        Ok(())
    }

    /// What an exchange asks is answered where its other frames are handled.
    fn is_answered_here(peer: &SequencerPeer) -> bool {
        !matches!(peer, SequencerPeer::Exchange(_))
    }

    fn answered_seq(&self, _peer: &SequencerPeer) -> Option<Seq> {
        Seq::new(self.journal.next_seq())
    }

    fn sent_seq(_peer: &SequencerPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, conn: ConnId, id: u32) -> bool {
        matches!(self.connections.peer(conn), Some(SequencerPeer::Querier(querier)) if querier.has_open(id))
    }

    fn on_question(&mut self, now: Now, conn: ConnId, question: Question) -> Result<(), Rejection> {
        self.answer(now, conn, question)
    }

    fn on_question_stopped(&mut self, _now: Now, conn: ConnId, id: u32) {
        if let Some(SequencerPeer::Querier(querier)) = self.connections.peer_mut(conn)
            && let Some(asked) = querier.stop(id, &mut self.places)
        {
            self.replays.forget(conn, &asked);
            self.connections.set_bulk(conn, false);
        }
    }

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "core");
        status.text("journal_id", format!("{:016x}", self.journal.lineage().journal_id()));
        status.text("epoch_id", format!("{:016x}", self.journal.epoch_id()));
        status.metric("epoch", self.journal.epoch());
        status.metric("next_seq", self.journal.next_seq());
        status.metric("durable_seq", self.journal.durable_seq());
        status.metric("journal_bytes", self.journal.bytes());
        status.metric("journal_first_seq", Seq::number(self.journal.first_seq()));
        status.metric("instruments", self.market.len());
        let first = self.exchanges.iter().find(|it| it.venue().is_none());
        if let Some(exchange) = first {
            status.metric("upstream_seq", exchange.upstream_seq.get());
        }
        status.metric("held_back", i64::from(self.is_held_back));
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused());
        status.metric("local_faults", self.connections.local_faults());
        status.metric("local_frames_dropped", self.local_dropped);
        status.metric("breaker_reports_dropped", self.reports.dropped);
        let (under_way, waiting) = self.replays.counts();
        status.metric("replays", under_way);
        status.metric("replays_waiting", waiting);
        describe_log("journal", &self.journal, &mut status);
        if let Some(behind) = self.market.clock_behind() {
            status.text("receive_clock", behind.to_string());
        }
        if let Some(name) = self.journal_held_by() {
            status.text("journal_held_by", name);
        }
        for exchange in &self.exchanges {
            exchange.describe(now, &mut status);
        }
        self.describe_silence(&mut status);
        self.followers.describe(now, &mut status);
        status
    }

    fn operate(
        &mut self,
        now: Now,
        breaker: &str,
        action: BreakerAction,
    ) -> Result<Ended, Rejection> {
        let of_exchange = |it: &mut Exchange| it.operate(now, breaker, action);
        let is_known = self.exchanges.iter_mut().any(of_exchange)
            || self.followers.operate(now, breaker, action);
        let unknown = || Rejection::new(ErrorCode::NotOwner, "core has no breaker of this name");
        if is_known { Ok(self.end()) } else { Err(unknown()) }
    }

    fn on_dialed(&mut self, now: Now, conn: ConnId, dial: DialId) {
        let hello = if let Some(index) = exchanges::index_of(dial) {
            self.connections.dialed(conn, SequencerPeer::Exchange(index));
            let feed = self.place(index).0;
            self.exchanges[index].handle_open(now, conn, feed)
        } else {
            let Some(index) = self.followers.index_of(dial) else { return };
            self.connections.dialed(conn, SequencerPeer::Follower(index));
            self.followers.handle_open(now, index, conn, &self.journal)
        };
        self.connections.send(conn, hello);
    }

    fn on_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        if let Some(index) = exchanges::index_of(dial) {
            self.exchanges[index].handle_dial_failed(now, failure);
        } else if let Some(index) = self.followers.index_of(dial) {
            self.followers.handle_dial_failed(now, index, failure);
        }
    }

    fn on_dialed_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            self.handle_dialed_frame(now, conn, frame);
        }
    }

    fn on_close(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: Option<SequencerPeer>,
        reason: CloseReason,
    ) {
        match peer {
            Some(SequencerPeer::Exchange(index)) => {
                self.exchanges[index].handle_close(now, conn, reason);
                let text = format!("{} ended: {reason}", self.exchanges[index].session_title());
                self.connections.log(Level::Info, text);
            }
            Some(SequencerPeer::Follower(index)) => {
                self.followers.handle_close(now, index, conn, reason);
                let name = self.followers.name(index);
                self.connections.log(Level::Info, format!("the link to {name} ended: {reason}"));
            }
            Some(SequencerPeer::Querier(mut querier)) => {
                if let Some(asked) = querier.replay {
                    self.replays.forget(conn, &asked);
                }
                querier.quotes.end(&mut self.places);
            }
            None => {}
        }
    }

    fn on_storage(&mut self, now: Now) {
        let progress = self.journal.handle_completions(now);
        if progress.room {
            self.is_held_back = false;
        }
        if progress.durable {
            // A shard is sent what has become durable.
            for conn in self.followers.streaming() {
                self.connections.mark_dirty(conn);
            }
            self.acknowledge_durable();
        }
        if progress.failed {
            self.failure = Some(format!("the journal {}", self.journal.health()));
        }
    }

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.retain_journal(now);
        self.journal.handle_timers(now);
        self.market.read_clock(now);
        if let Some(change) = self.market.poll_clock_change() {
            let level = if change.is_objection() { Level::Error } else { Level::Info };
            self.connections.log(level, format!("receive times: {change}"));
        }
        report_log(&mut self.journal, &mut self.connections);
        if self.is_held_back {
            self.excuse_producers(now);
        }
        for exchange in &mut self.exchanges {
            exchange.handle_timers(now);
        }
        self.drive_exchanges(now);
        self.watch_silence(now);
        self.sum_up_request_changes(now);
        self.followers.handle_timers(now);
        self.drive_followers(now);
        for conn in std::mem::take(&mut self.scanning) {
            self.connections.mark_dirty(conn);
        }
        self.begin_replays(now);
        self.settle_waiting(now);
    }

    fn on_commit(&mut self, now: Now) {
        if !std::mem::take(&mut self.has_updates) {
            return;
        }
        self.journal.commit(now);
        for conn in self.followers.streaming() {
            self.connections.mark_dirty(conn);
        }
        self.acknowledge_committed();
    }

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, now: Now) {
        if let Err(error) = self.journal.close(now) {
            let health = self.journal.health();
            self.failure = Some(format!("the journal was not closed cleanly: {error} ({health})"));
        }
    }

    fn failed(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn next_due(&self) -> Option<Mono> {
        if !self.scanning.is_empty() {
            return Some(Mono::default());
        }
        let of_journal = self.journal.next_deadline();
        let (exchange, followers) = (self.exchanges_due(), self.followers.next_deadline());
        let asked = [self.replays.next_due(), self.waited_until(), self.pulses.next_due()];
        [of_journal, exchange, followers].into_iter().chain(asked).flatten().min()
    }

    fn fill(&mut self, now: Now, conn: ConnId) -> Filled {
        self.refill(now, conn);
        Filled::Outbox
    }

    fn wants(&self, conn: ConnId) -> bool {
        let has_room = !self.is_held_back || self.exchange_at(conn).is_none();
        has_room && self.connections.wants_frames(conn)
    }
}

fn log_recovery(connections: &mut Connections<SequencerPeer>, recovery: &Recovery, epoch: u32) {
    if recovery.fresh {
        connections.log(Level::Info, format!("new journal, epoch {epoch}"));
        return;
    }
    if recovery.clean {
        let text = format!("epoch {epoch} begins at seq {}", recovery.next_seq);
        return connections.log(Level::Info, text);
    }
    let text = format!(
        "the journal was not closed; {} torn records were cut, epoch {epoch} begins at seq {}",
        recovery.cut_records, recovery.next_seq
    );
    connections.log(Level::Warn, text);
}

#[cfg(test)]
mod breaker_tests;
#[cfg(test)]
mod tests;
