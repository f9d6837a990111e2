//! An exchange of lines: a program writes text to its node, and core dies, loses its power, stands still or is cut off meanwhile. Each line
//! is journaled once, in order. Only the node itself keeps what core has not acknowledged, so it lives here.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::lines::LinesConfig;
use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing,
};
use pregao::time::{Mono, Now};
use pregao::wire::Trade;

use crate::faults::Fault;
use crate::hosts::{AnyNode, Spec};
use crate::querier::is_no_server;
use crate::road::{MS, Options, Road, address};

/// Where the node of lines listens.
const PORT: u16 = 9_009;
const LINES: u64 = 3_000;

/// What is written, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct WriterConfig {
    pub(crate) to: SocketAddr,
    pub(crate) text: Vec<u8>,
}

/// A program that writes lines.
pub(crate) struct Writer {
    config: WriterConfig,
    conn: Option<ConnId>,
    has_dialed: bool,
    is_dirty: bool,
    written: usize,
    /// What it was answered.
    pub(crate) answers: Vec<u8>,
    /// The connection has ended before all was written.
    pub(crate) is_cut_off: bool,
}

impl Writer {
    pub(crate) fn new(config: WriterConfig) -> Writer {
        let (conn, answers) = (None, Vec::new());
        let (has_dialed, is_dirty, is_cut_off) = (false, false, false);
        Writer { config, conn, has_dialed, is_dirty, written: 0, answers, is_cut_off }
    }
}

impl Node for Writer {
    fn handle_open(&mut self, _now: Now, conn: ConnId, _origin: Origin) {
        (self.conn, self.is_dirty) = (Some(conn), true);
    }
    fn handle_dial_failed(&mut self, _now: Now, _dial: DialId, _failure: DialFailure) {
        self.has_dialed = false;
    }
    fn handle_bytes(&mut self, _now: Now, _conn: ConnId, bytes: &[u8]) -> usize {
        self.answers.extend_from_slice(bytes);
        bytes.len()
    }
    fn handle_close(&mut self, _now: Now, _conn: ConnId, _reason: CloseReason) {
        self.conn = None;
        self.is_cut_off = true;
    }
    fn poll_action(&mut self) -> Option<Action> {
        let within = Duration::from_secs(1);
        let dial = Action::Dial { dial: DialId(0), to: self.config.to, within };
        (!std::mem::replace(&mut self.has_dialed, true)).then_some(dial)
    }
    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.conn.filter(|_| std::mem::take(&mut self.is_dirty))
    }
    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        let is_it = self.conn == Some(conn);
        let head = if is_it { &self.config.text[self.written..] } else { &[][..] };
        Outgoing::one(&head[..head.len().min(500)])
    }
    fn handle_sent(&mut self, _now: Now, _conn: ConnId, bytes: usize) -> bool {
        self.written += bytes;
        self.written < self.config.text.len()
    }
    fn wants_bytes(&self, _conn: ConnId) -> bool {
        true
    }
    fn handle_timers(&mut self, _now: Now) {}
    fn next_deadline(&self) -> Option<Mono> {
        (!self.has_dialed).then(Mono::default)
    }

    is_no_server!();
}

fn text() -> Vec<u8> {
    let text = (1..=LINES).fold(String::new(), |mut text, id| {
        if id % 100 == 0 {
            text.push_str("nonsense\n");
        }
        writeln!(text, "trades,symbol=S{} price=1.5,qty=0.5,id={id} {id}", id % 7).unwrap();
        text
    });
    text.into_bytes()
}

pub(crate) fn lines_are_journaled_once_though_core_dies() {
    for seed in 0..6 {
        let mut road = Road::new(&Options { events: 100, pace_ns: 4 * MS, ..Options::new(seed) });
        let config = LinesConfig::new("quest", address(8082), seed);
        let node = road.world.add("lines", address(PORT), Spec::Lines(config));
        let config = WriterConfig { to: address(PORT), text: text() };
        let writer = road.world.add("writer", address(1), Spec::Writer(config));
        let mut at_ms = 40;
        for round in 0..5 {
            road.run_until_ms(at_ms);
            let core = road.core;
            road.world.fault(match (seed + round) % 4 {
                0 => Fault::Kill(core, 60 * MS),
                1 => Fault::PowerLoss(core, 60 * MS),
                2 => Fault::Freeze(core, 3_000 * MS),
                _ => Fault::Partition(core, node, 3_000 * MS),
            });
            at_ms += if round % 2 == 0 { 70 } else { 4_000 };
        }
        road.run_until_ms(at_ms + 30_000);
        let journal = road.stored(road.core);
        let its = journal.iter().filter(|frame| frame.exchange().get() == 1);
        let ids = its.filter_map(|frame| frame.view::<Trade>()).map(|trade| trade.trade_id.get());
        let ids: Vec<u64> = ids.collect();
        let first = ids.iter().copied().zip(1..).find(|(got, want)| got != want);
        let has_all = ids.len() as u64 == LINES && first.is_none();
        road.world.hold(has_all, "each-line-is-journaled-once", || {
            format!("seed {seed}: {} of {LINES}, first difference {first:?}", ids.len())
        });
        let Some(AnyNode::Writer(writer)) = &road.world.hosts[writer].node else {
            panic!("no writer")
        };
        let answers = writer.answers.iter().filter(|byte| **byte == b'\n').count();
        let (answered, is_cut_off) = (answers as u64 == LINES / 100, writer.is_cut_off);
        road.world.hold(answered && !is_cut_off, "a-wrong-line-harms-no-other", || {
            format!("seed {seed}: {answers} answers; cut off: {is_cut_off}")
        });
    }
}
