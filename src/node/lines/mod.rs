//! An exchange that programs write to: lines of InfluxDB's line protocol over TCP become a feed that core journals. So what
//! writes to QuestDB writes to this.
//!
//! It is a producer of core behind a circuit breaker, and it keeps nothing on a disk.
//!
//! Invariant: a line that is wrong costs its own connection a line of answer, and nobody else anything.
//!
//! # Decisions
//!
//! * One address takes both protocols. A frame of the first message begins with two bytes that no line begins with; so whoever
//!   asks for the status finds this node where the others have theirs.
//! * Line protocol over TCP has no acknowledgement. What core has not acknowledged when this process dies is lost, as it is with
//!   other servers of that protocol. A program that must know speaks as a producer to core itself.
//! * While core has no room or is away, connections are not read: the writer waits.
//! * A wrong line is answered with its number, and the lines behind it are taken. Who does not read the answers misses them
//!   only; the log says the first few of each connection, and how many there were.

mod connection;
mod gateway;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

pub use gateway::Lines;

use connection::LineConnection;

use super::session::{Admission, Filled, Rejection, Roles, Status};
use super::uplink::{OnBreakerOpen, Uplink, UplinkConfig, UplinkEnd};
use super::{CloseReason, ConnId, Connections, DialFailure, DialId, Level, Service};
use crate::breaker::{self, ConfigError, Outcome};
use crate::limits;
use crate::market::lines::{LineOptions, Record};
use crate::producer::{
    FeedId, ProduceError, Production, QUANTITY_DECIMALS_DEFAULT, RecordEvent, decimals_of, event_of,
};
use crate::random::Random;
use crate::time::{Mono, Now};
use crate::wire::{
    BreakerAction, Decimals, Ended, ErrorCode, Frame, FullName, Seq, Session, U64, padded,
};

/// What the node is configured with.
#[derive(Clone, Debug)]
pub struct LinesConfig {
    /// The name of its exchange.
    pub name: String,
    /// Where core listens.
    pub core: SocketAddr,
    /// For the dials of core.
    pub breaker: breaker::Config,
    /// How long a connect may take.
    pub connect_deadline: Duration,
    /// How long the answer to the greeting may take.
    pub request_deadline: Duration,
    /// How lines are read.
    pub options: LineOptions,
    /// Decimals of a unit of quantities, of instruments that core does not have.
    pub quantity_decimals: u8,
    /// For jitter, and for identities of feeds: random.
    pub seed: u64,
}

impl LinesConfig {
    /// An exchange of this name, that reads lines as they are usual. `seed` is random.
    #[must_use]
    pub fn new(name: &str, core: SocketAddr, seed: u64) -> LinesConfig {
        LinesConfig {
            name: name.to_owned(),
            core,
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            request_deadline: Duration::from_secs(1),
            options: LineOptions::default(),
            quantity_decimals: QUANTITY_DECIMALS_DEFAULT,
            seed,
        }
    }
}

/// What a connection of frames is for.
#[derive(Debug)]
pub(crate) enum LinesPeer {
    Core,
    Querier,
}

/// What came of the lines.
#[derive(Debug, Default)]
struct Counts {
    lines: u64,
    events: u64,
    wrong: u64,
    /// Of other kinds, or of no event.
    skipped: u64,
    connections: u64,
    refused: u64,
    torn: u64,
    /// Quotes with a size of more digits than are kept.
    rounded: u64,
}

/// The node without its connections of lines.
#[derive(Debug)]
struct Intake {
    config: LinesConfig,
    connections: Connections<LinesPeer>,
    uplink: Uplink,
    machine: Production,
    identities: Random,
    counts: Counts,
    scratch: Vec<u8>,
    /// It is to end, at the latest then: core may have acknowledged all before.
    stops_at: Option<Mono>,
}

fn feed_of(config: &LinesConfig, identities: &mut Random) -> Result<FeedId, ProduceError> {
    Ok(FeedId::new(&config.name, identities.next_u64().max(1))?.behind_others())
}

impl Intake {
    fn new(config: LinesConfig) -> Result<Intake, String> {
        let mut identities = Random::new(config.seed);
        let feed = feed_of(&config, &mut identities).map_err(|error| error.to_string())?;
        let uplink = Uplink::new(UplinkConfig {
            breaker_name: format!("{}.core", config.name),
            address: config.core,
            breaker: &config.breaker,
            seed: config.seed,
            on_breaker_open: OnBreakerOpen::Keep,
            connect_deadline: config.connect_deadline,
            greeting_deadline: config.request_deadline,
        });
        Ok(Intake {
            uplink: uplink.map_err(|error: ConfigError| error.to_string())?,
            config,
            connections: Connections::default(),
            machine: Production::new(feed),
            identities,
            counts: Counts::default(),
            scratch: Vec::new(),
            stops_at: None,
        })
    }

    fn greet_querier(
        &mut self,
        _now: Now,
        _conn: ConnId,
        _session: &Session,
    ) -> Admission<LinesPeer> {
        let answer = Session { name: padded(&self.config.name), ..Session::default() };
        Admission::Accepted(LinesPeer::Querier, answer)
    }

    /// Whether an event is taken now.
    fn has_room(&self) -> bool {
        self.machine.is_ready() && self.machine.has_room() && self.stops_at.is_none()
    }

    /// Makes an event of what a line tells, of the instrument with this name where that is longer than the symbol.
    ///
    /// # Errors
    /// Why it is none.
    fn take(&mut self, record: &Record, name: Option<&FullName>) -> Result<(), ProduceError> {
        let needed = decimals_of(record);
        let decimals = Decimals { quantity: self.config.quantity_decimals, ..needed };
        let instrument = match name {
            Some(name) => self.machine.define_named(name, decimals)?,
            None => self.machine.define(record.symbol, decimals)?,
        };
        let event = event_of(record, &instrument)?;
        let is_rounded = event.is_rounded(record, &instrument);
        match event {
            RecordEvent::Quote(quote) => self.machine.push(quote),
            RecordEvent::Trade(trade) => self.machine.push(trade),
            RecordEvent::Cancel(cancel) => self.machine.push(cancel),
        }?;
        self.counts.events += 1;
        self.counts.rounded += u64::from(is_rounded);
        if is_rounded && self.counts.rounded == 1 {
            let text = "a quote has a size of more than eight digits: the first eight are kept. The status counts \
                        further ones as lines.rounded";
            self.connections.log(Level::Warn, text.to_owned());
        }
        Ok(())
    }

    /// There is more for core.
    fn mark_core(&mut self) {
        if let Some(conn) = self.uplink.conn() {
            self.connections.mark_dirty(conn);
        }
    }

    /// Core and the feed do not go together any more: its journal was put back from a copy, say. Another feed begins, and
    /// says that frames are missing.
    fn begin_anew(&mut self, error: &ProduceError) {
        let lost = self.machine.kept();
        let text = format!("{error}. Another feed begins; events that core may not have: {lost}");
        self.connections.log(Level::Error, text);
        if let Ok(feed) = feed_of(&self.config, &mut self.identities) {
            self.machine.begin_anew(feed);
        }
    }

    fn lose_core(&mut self, now: Now, conn: ConnId, error: &ProduceError) {
        self.uplink.fail(now, Outcome::Refused);
        self.connections.log(Level::Warn, format!("core: {error}"));
        self.connections.close_after_flush(conn);
        self.machine.handle_close();
        if error.is_final() {
            self.begin_anew(error);
        }
    }

    fn handle_core_frame(&mut self, now: Now, conn: ConnId, frame: &Frame) {
        if self.uplink.conn() != Some(conn) || !self.machine.is_open() {
            return;
        }
        match self.machine.handle_frame(frame) {
            Ok(()) => {
                if frame.view::<Session>().is_some() && self.uplink.handle_greeted(now) {
                    let next = self.machine.next_seq().unwrap_or(1);
                    let feed = self.machine.id().feed();
                    let text = format!("core takes the feed {feed:016x} from {next}");
                    self.connections.log(Level::Info, text);
                }
                self.connections.mark_dirty(conn);
            }
            Err(error) => self.lose_core(now, conn, &error),
        }
    }

    /// Whether the end may come: core has all, or is not to be reached in time.
    fn may_end(&self, now: Now) -> bool {
        self.stops_at
            .is_some_and(|at| self.machine.kept() == 0 || !self.machine.is_open() || now.mono >= at)
    }
}

impl Service for Intake {
    type Peer = LinesPeer;

    const TITLE: &'static str = "the exchange";
    const ROLES: Roles<Self> = Roles { querier: Some(Intake::greet_querier), ..Roles::NONE };
    const SENDS_BEFORE_TIMERS: bool = false;

    fn connections(&self) -> &Connections<LinesPeer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<LinesPeer> {
        &mut self.connections
    }

    fn on_arrival(&mut self, _now: Now, _conn: ConnId, _frames: usize) {}

    fn on_frame(&mut self, _now: Now, _conn: ConnId, _frame: &Frame) -> Result<(), Rejection> {
        Err(Rejection::out_of_place())
    }

    fn answered_seq(&self, _peer: &LinesPeer) -> Option<Seq> {
        None
    }

    fn sent_seq(_peer: &LinesPeer) -> Option<Seq> {
        None
    }

    fn has_open(&self, _conn: ConnId, _id: u32) -> bool {
        false
    }

    fn on_question_stopped(&mut self, _now: Now, _conn: ConnId, _id: u32) {}

    fn status(&self, now: Now) -> Status {
        let mut status = Status::default();
        status.text("role", "external");
        status.text("feed", "lines");
        status.text("feed.identity", format!("{:016x}", self.machine.id().feed()));
        status.text("core", self.uplink.state());
        status.metric("connections", self.connections.len());
        status.metric("refused", self.connections.refused() + self.counts.refused);
        status.metric("local_faults", self.connections.local_faults());
        status.metric("lines", self.counts.lines);
        status.metric("lines.connections", self.counts.connections);
        status.metric("lines.wrong", self.counts.wrong);
        status.metric("lines.skipped", self.counts.skipped);
        status.metric("lines.torn", self.counts.torn);
        status.metric("lines.rounded", self.counts.rounded);
        status.metric("events", self.counts.events);
        status.metric("events.kept", self.machine.kept());
        status.metric("events.durable", self.machine.durable_seq().saturating_sub(1));
        self.uplink.describe(now, &mut status);
        status
    }

    fn operate(
        &mut self,
        now: Now,
        breaker: &str,
        action: BreakerAction,
    ) -> Result<Ended, Rejection> {
        match self.uplink.operate(now, breaker, action) {
            true => Ok(Ended { covered_to: U64::new(u64::MAX), ..Ended::default() }),
            false => Err(Rejection::new(ErrorCode::NotOwner, "this exchange has no such breaker")),
        }
    }

    fn on_dialed(&mut self, now: Now, conn: ConnId, _dial: DialId) {
        self.uplink.handle_open(now, conn);
        self.connections.dialed(conn, LinesPeer::Core);
        self.machine.handle_open();
        self.connections.mark_dirty(conn);
    }

    fn on_dial_failed(&mut self, now: Now, _dial: DialId, failure: DialFailure) {
        self.uplink.handle_dial_failed(now, failure);
    }

    fn on_dialed_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            self.handle_core_frame(now, conn, frame);
        }
    }

    fn on_close(&mut self, now: Now, conn: ConnId, peer: Option<LinesPeer>, reason: CloseReason) {
        if !matches!(peer, Some(LinesPeer::Core)) {
            return;
        }
        if let UplinkEnd::Ready(outcome) = self.uplink.handle_close(now, conn, reason)
            && reason != CloseReason::Ours
        {
            self.uplink.breaker_mut().observe(outcome, now.mono);
        }
        if self.uplink.conn().is_none() {
            self.machine.handle_close();
        }
        self.connections.log(Level::Info, format!("the link to core ended: {reason}"));
    }

    fn on_storage(&mut self, _now: Now) {}

    fn on_turn_begin(&mut self, _now: Now) {}

    fn on_timers(&mut self, now: Now) {
        self.uplink.handle_timers(now);
        if let Some(close) = self.uplink.poll_close(now, false, true) {
            self.connections.log(Level::Info, format!("closing the link to core: {}", close.text));
            self.machine.handle_close();
            self.connections.close_after_flush(close.conn);
        }
        if self.stops_at.is_none()
            && let Some((to, within)) = self.uplink.poll_dial(now)
        {
            self.connections.dial(DialId(0), to, within);
        }
        while let Some((name, change)) = self.uplink.poll_transition() {
            let text =
                format!("breaker {name}: {} to {}: {}", change.from, change.to, change.reason);
            self.connections.log(Level::Warn, text);
        }
    }

    fn on_commit(&mut self, _now: Now) {}

    fn on_proceed(&mut self, _now: Now) {}

    fn on_stop(&mut self, _now: Now) {
        let kept = self.machine.kept();
        if kept > 0 {
            let text = format!(
                "stopped before core had acknowledged all; events that it may not have: {kept}"
            );
            self.connections.log(Level::Error, text);
        }
    }

    fn failed(&self) -> Option<&str> {
        None
    }

    fn next_due(&self) -> Option<Mono> {
        let of_uplink = self.uplink.next_deadline(self.stops_at.is_none());
        of_uplink.into_iter().chain(self.stops_at).min()
    }

    fn fill(&mut self, _now: Now, conn: ConnId) -> Filled {
        if self.uplink.conn() == Some(conn) {
            self.scratch.clear();
            self.machine.poll_bytes(&mut self.scratch, limits::FILL_FRAMES_MAX);
            if !self.scratch.is_empty() {
                self.connections.fill(conn, &self.scratch);
            }
        }
        Filled::Outbox
    }

    fn wants(&self, conn: ConnId) -> bool {
        self.connections.wants_frames(conn)
    }
}

/// The connections of lines, by id.
type LineConnections = BTreeMap<ConnId, LineConnection>;
