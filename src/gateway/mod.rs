//! The gateway: the market for browsers, `curl` and dashboards. It follows the broker as any subscriber does, asks the
//! aggregator as any client does, and keeps nothing that could be lost. More of them serve more readers.
//!
//! ```text
//! broker ──▶ feed (a follower, and a broker within) ──▶ stream (WebSocket), events (server-sent)
//! aggregator, all nodes ◀── front (questions) ──▶ answers (HTTP)
//! ```
//!
//! It stands above the other nodes because it has a broker in it. It is a machine as they are, and the same turn drives it.
//!
//! # Decisions
//!
//! * One address takes HTTP and frames. A request begins with a letter, and a frame of the first message does not; so whoever
//!   asks for the status finds this node where the others have theirs.
//! * A subscription of a browser is a subscriber of the inner broker. What a browser is told is what a subscriber is told.

mod answers;
mod bar_search;
mod bars;
mod door;
mod epochs;
mod feed;
mod front;
mod http_side;
mod inner;
mod instrument_set;
mod json;
mod known;
mod line;
mod memory;
mod node;
mod older_bars;
mod openapi;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
mod past;
mod playground;
mod ranges;
mod refresh;
mod routes;
mod sending;
mod start;
mod status;
mod stream;
mod streams;
mod subscriptions;
mod udf;
mod wish;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::breaker;
use crate::http::AllowedHosts;
use crate::limits;
use crate::node::broker::BrokerConfig;
use crate::node::session::{Service, Status};
use crate::node::{Action, ConnId};
use crate::time::{Mono, Now};
use crate::wire::Seq;

use door::{Door, Doors};
use feed::Feed;
use front::{Front, Ticket};
use json::Lines;
use page::Page;
use past::Past;
use ranges::KeptAnswers;
use routes::Ask;
use status::Nodes;
use stream::ToLend;

/// Ends the process of the node of this name; why it cannot, in words.
pub type Kill = fn(&str) -> Result<(), String>;

/// What the gateway is configured with.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The broker that it follows.
    pub broker: SocketAddr,
    /// Core, for what the broker's ring has no more.
    pub core: SocketAddr,
    /// All nodes by name, the aggregator among them: they are asked how they are.
    pub nodes: Vec<(String, SocketAddr)>,
    /// Frames held for browsers, a power of two.
    pub ring_frames: usize,
    /// Subscriptions at once.
    pub subscriptions_max: usize,
    /// How long a browser may take nothing while something waits for it.
    pub unread_max: Duration,
    /// For the dials of the aggregator and of the nodes.
    pub breaker: breaker::Config,
    /// How long a connect may take.
    pub connect_deadline: Duration,
    /// By which names it is asked.
    pub hosts: AllowedHosts,
    /// Whether the page may break things on purpose.
    pub playground: bool,
    /// What ends the process of a node of the same supervisor at once, if there is one.
    pub kill: Option<Kill>,
    /// For jitter.
    pub seed: u64,
}

/// What came through the doors.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    problems: u64,
    streams: u64,
    events: u64,
    refused: u64,
    closed_slow: u64,
    closed_silent: u64,
    wrong_messages: u64,
}

/// The gateway node.
#[derive(Debug)]
pub struct Gateway {
    playground: bool,
    kill: Option<Kill>,
    hosts: AllowedHosts,
    unread_max: Duration,
    aggregator: Option<usize>,
    feed: Feed,
    front: Front,
    doors: Doors,
    /// Answers of which parts were asked for.
    kept: KeptAnswers,
    nodes: Nodes,
    page: Page,
    lines: Lines,
    /// Whose question each is.
    tickets: BTreeMap<Ticket, (ConnId, Box<Ask>)>,
    /// Who waits for the state of the nodes.
    waiting: VecDeque<ConnId>,
    /// Deeds that were asked for, by whom.
    deeds: BTreeMap<Ticket, ConnId>,
    /// Whose bars under way each question is for: the connection, and the inner one.
    backfills: BTreeMap<Ticket, (ConnId, ConnId)>,
    /// Connections with bars.
    with_bars: BTreeSet<ConnId>,
    next_bars: Mono,
    dirty: VecDeque<ConnId>,
    /// Connections with requests that came behind another.
    pipelined: VecDeque<ConnId>,
    actions: VecDeque<Action>,
    to_lend: ToLend,
    next_sweep: Mono,
    /// Where the next sweep goes on.
    sweep_from: usize,
    stops_at: Option<Mono>,
    is_stopped: bool,
    counts: Counts,
}

impl Gateway {
    /// A gateway that dials at once.
    ///
    /// # Errors
    /// When the settings of the breakers are not valid.
    pub fn new(config: GatewayConfig) -> Result<Gateway, breaker::ConfigError> {
        let inner = BrokerConfig {
            unread_max: config.unread_max,
            // Browsers have no history to learn names from.
            names_behind_gaps: true,
            ..BrokerConfig::new(config.ring_frames, config.subscriptions_max)
        };
        let front =
            Front::new(&config.nodes, &config.breaker, config.connect_deadline, config.seed)?;
        let mut feed = Feed::new(config.broker, config.core, inner, config.seed);
        feed.past = Past::new(front.has_core());
        Ok(Gateway {
            playground: config.playground,
            kill: config.kill,
            hosts: config.hosts,
            unread_max: config.unread_max,
            aggregator: front.place("aggregator"),
            feed,
            front,
            doors: Doors::with_capacity(config.subscriptions_max),
            kept: KeptAnswers::default(),
            nodes: Nodes::new(config.nodes),
            page: Page::load(),
            lines: Lines::default(),
            tickets: BTreeMap::new(),
            waiting: VecDeque::new(),
            deeds: BTreeMap::new(),
            backfills: BTreeMap::new(),
            with_bars: BTreeSet::new(),
            next_bars: Mono::default(),
            dirty: VecDeque::new(),
            pipelined: VecDeque::new(),
            actions: VecDeque::new(),
            to_lend: ToLend::default(),
            next_sweep: Mono::default(),
            sweep_from: 0,
            stops_at: None,
            is_stopped: false,
            counts: Counts::default(),
        })
    }

    /// What this node says about itself.
    fn describe(&self) -> Status {
        let mut status = Status::default();
        status.text("role", "gateway");
        let (mut streams, mut events) = (0_u64, 0_u64);
        for (_, door) in self.doors.iter() {
            match door {
                Door::Stream(_) => streams += 1,
                Door::Events(_) => events += 1,
                Door::Http(_) => {}
            }
        }
        let states = self.feed.states();
        status.text("feed", states.all.name());
        status.text("broker", if self.feed.is_connected() { "ready" } else { "away" });
        status.metric("connections", self.doors.len() + self.front.connections_open());
        status.metric("browsers", streams);
        status.metric("event_streams", events);
        status.metric("refused", self.counts.refused);
        status.metric("local_faults", self.front.connections().local_faults());
        status.metric("requests", self.counts.requests);
        status.metric("problems", self.counts.problems);
        status.metric("answer_bytes", self.front.memory.held());
        status.metric("streams_opened", self.counts.streams);
        status.metric("event_streams_opened", self.counts.events);
        status.metric("closed_silent", self.counts.closed_silent);
        status.metric("closed_slow", self.counts.closed_slow);
        status.metric("wrong_messages", self.counts.wrong_messages);
        status.metric("lines.made", self.lines.made);
        status.metric("lines.sent", self.lines.sent);
        status.metric("frames", self.feed.frames);
        status.metric("missed", self.feed.missed);
        status.metric("journal.subscriptions", self.feed.past.len());
        status.metric("journal.frames", self.feed.past.frames);
        status.metric("journal.given_up", self.feed.past.given_up);
        status.metric("next_seq", Seq::number(self.feed.next_seq()));
        status.metric(
            "gaps_told",
            self.feed.broker().gaps_told(crate::subscription::Request::MARKET),
        );
        self.feed.broker().describe_delivery(&mut status);
        status
    }

    /// The same as an object of JSON.
    fn describe_json(&self, now: Now) -> String {
        let mut status = self.describe();
        self.front.describe(now, &mut status);
        status.json()
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        self.dirty.push_back(conn);
    }

    /// Looks at all connections: who was silent, who takes nothing. A turn looks at some of them, and the next one follows
    /// at once: pings of all would wait at the same time, and the memory of a process does not shrink behind that.
    fn sweep(&mut self, now: Now) {
        if now.mono < self.next_sweep {
            return;
        }
        self.kept.forget_old(now.mono);
        let (from, end) = (self.sweep_from, self.doors.slots());
        let until = end.min(from + limits::GATEWAY_SWEEP_LOOKS_MAX);
        (self.sweep_from, self.next_sweep) = match until < end {
            true => (until, now.mono),
            false => (0, now.mono + limits::GATEWAY_SWEEP_EVERY),
        };
        for place in from..until {
            let Some(conn) = self.doors.at(place) else { continue };
            match self.doors.get_mut(conn) {
                Some(Door::Http(door)) => {
                    let is_due = door.http.deadline().is_some_and(|at| at <= now.mono);
                    if is_due && door.http.handle_timeout(now.mono) {
                        self.actions.push_back(Action::Close(conn));
                    }
                    if is_due {
                        self.mark_dirty(conn);
                    }
                }
                Some(Door::Events(door)) => {
                    if door.http.deadline().is_some_and(|at| at <= now.mono)
                        && door.http.handle_timeout(now.mono)
                    {
                        self.actions.push_back(Action::Close(conn));
                    }
                    let inner = match self.doors.get(conn) {
                        Some(Door::Events(door)) => door.subscription.conn,
                        _ => continue,
                    };
                    // It cannot speak: that it reads is the sign of its life.
                    self.feed.note_heard(now, inner);
                }
                Some(Door::Stream(_)) => self.sweep_stream(now, conn),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
