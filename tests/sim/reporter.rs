//! A report client: asks the aggregator all kinds of questions with all kinds of deadlines, several at
//! once, and holds each answer against what an answer may be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use pregao::gather::NEWEST_COMMON_CUT;
use pregao::market::partition::Partition;
use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing,
};
use pregao::question::Question;
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{
    Counted, EndStatus, Ended, Flags, Frame, Kind, NodeAnswer, NodeStatus, Op, Query, Refusal, Run,
    Seq, Symbol, U32, padded, unpadded,
};

use crate::querier::{Querier, is_a_client_with};

/// How long it waits for any word when answers are due: longer than any deadline it sets.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Clone, Debug)]
pub(crate) struct ReporterConfig {
    pub(crate) aggregator: SocketAddr,
    pub(crate) symbols: Vec<&'static str>,
    pub(crate) partition: Partition,
    /// Names of all nodes that a plan has, a list for each part: shards by their number, then core.
    pub(crate) parts: Vec<Vec<String>>,
    pub(crate) seed: u64,
    /// No more questions from here on.
    pub(crate) calm_at: Mono,
}

/// An answer on its way.
#[derive(Debug)]
struct Pending {
    query: Query,
    rows: Vec<Frame>,
    nodes: Vec<NodeAnswer>,
    refusal: Option<Refusal>,
}

/// The client.
pub(crate) struct Reporter {
    config: ReporterConfig,
    querier: Querier,
    ask_at: Mono,
    random: Random,
    next_id: u32,
    current: u32,
    pending: BTreeMap<u32, Pending>,
    /// Hangs up when nothing was heard until then and an answer is due.
    give_up_at: Option<Mono>,
    /// How many answers ended complete, partial, failed.
    pub(crate) ended: [u64; 3],
    pub(crate) refused: u64,
    /// What an answer had that no answer may have.
    pub(crate) complaint: Option<String>,
}

impl Reporter {
    pub(crate) fn new(config: ReporterConfig) -> Reporter {
        Reporter {
            random: Random::new(config.seed),
            querier: Querier::new(config.aggregator, Duration::from_millis(100)),
            config,
            ask_at: Mono::default(),
            next_id: 1,
            current: 0,
            pending: BTreeMap::new(),
            give_up_at: None,
            ended: [0; 3],
            refused: 0,
            complaint: None,
        }
    }

    fn complain(&mut self, text: String) {
        self.complaint.get_or_insert(text);
    }

    fn ask(&mut self, now: Now) {
        let Some(conn) = self.querier.conn else { return };
        if now.mono >= self.config.calm_at {
            self.ask_at = self.config.calm_at;
        }
        if now.mono < self.ask_at || now.mono >= self.config.calm_at {
            return;
        }
        self.ask_at = now.mono + Duration::from_millis(self.random.between(1, 150));
        for _ in 0..self.random.between(1, 4) {
            let (op, limit) = match self.random.below(5) {
                0 => (Op::Quote, 0),
                1 => (Op::Last, u32::try_from(self.random.between(1, 200)).unwrap()),
                2 => (Op::Range, 0),
                3 => (Op::Count, 0),
                _ => (Op::Bars, 60),
            };
            let symbols = &self.config.symbols;
            let symbol = symbols[usize::try_from(self.random.below(symbols.len() as u64)).unwrap()];
            let deadline_us = match self.random.below(3) {
                0 => self.random.between(1, 5_000),
                1 => self.random.between(5_000, 100_000),
                _ => self.random.between(100_000, 1_500_000),
            };
            let mut options = 0;
            if self.random.below(2) == 0 {
                options |= Query::PARTIAL;
            }
            if self.random.below(2) == 0 {
                options |= Query::WITH_QUOTE;
            }
            if self.random.below(4) == 0 {
                options |= Query::EXPLAIN;
            }
            let as_of = match self.random.below(8) {
                0 => NEWEST_COMMON_CUT.get(),
                1 => self.random.between(1, 300),
                _ => 0,
            };
            let query = Query {
                id: U32::new(self.next_id),
                op: op as u8,
                options,
                deadline_us: U32::new(u32::try_from(deadline_us).unwrap()),
                limit: U32::new(limit),
                symbol: padded(symbol),
                to: u64::MAX.into(),
                ..Query::default()
            };
            self.next_id += 1;
            let question = Question::new(&query).expect("a question that can be asked");
            for frame in question.cut_at(Seq::new(as_of)).frames() {
                self.querier.connections.send_frame(conn, &frame);
            }
            let pending = Pending { query, rows: Vec::new(), nodes: Vec::new(), refusal: None };
            self.pending.insert(query.id.get(), pending);
        }
        self.give_up_at = Some(now.mono + PATIENCE);
    }

    fn take(&mut self, frame: &Frame) {
        if let Some(run) = frame.view::<Run>() {
            self.current = run.id.get();
            if !self.pending.contains_key(&self.current) {
                self.complain(format!("rows of query {}, which is over", self.current));
            }
        } else if let Some(node) = frame.view::<NodeAnswer>() {
            match self.pending.get_mut(&node.id.get()) {
                Some(pending) => pending.nodes.push(*node),
                None => self.complain(format!("a NODE of query {}, which is over", node.id)),
            }
        } else if let Some(refusal) = frame.view::<Refusal>() {
            let id = refusal.id.get();
            if id == 0 {
                return;
            }
            match self.pending.get_mut(&id) {
                // Without a NODE the query was not taken: this is all.
                Some(pending) if pending.nodes.is_empty() => {
                    self.pending.remove(&id);
                    self.refused += 1;
                }
                Some(pending) => pending.refusal = Some(*refusal),
                None => self.complain(format!("an ERROR of query {id}, which is over")),
            }
        } else if let Some(end) = frame.view::<Ended>() {
            match self.pending.remove(&end.id.get()) {
                Some(pending) => self.judge(&pending, end),
                None => self.complain(format!("an END of query {}, which is over", end.id)),
            }
        } else if let Some(counted) = frame.view::<Counted>() {
            match self.pending.get_mut(&counted.id.get()) {
                Some(pending) => pending.rows.push(*frame),
                None => self.complain(format!("a count of query {}, which is over", counted.id)),
            }
        } else if frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT) {
            match self.pending.get_mut(&self.current) {
                Some(pending) => pending.rows.push(*frame),
                None => self.complain(format!("a row of query {}, which is over", self.current)),
            }
        }
    }

    /// Every node of the plan is named once, with what became of its part, and that agrees with the
    /// rows and with how the answer ended.
    fn judge(&mut self, pending: &Pending, end: &Ended) {
        let Pending { query, rows, nodes, refusal } = pending;
        let status = EndStatus::from_number(end.status).unwrap();
        self.ended[end.status as usize] += 1;
        let mut names: Vec<String> = nodes.iter().map(|node| unpadded(&node.name)).collect();
        names.sort();
        let mut known = self.config.parts.concat();
        known.sort();
        if names != known {
            self.complain(format!("the answer to {query:?} names {names:?}"));
            return;
        }
        let symbol: Symbol = query.symbol().unwrap();
        let owners = self.config.partition.owners_of_name(&symbol);
        let is_quote = query.op == Op::Quote as u8;
        let wants_core = is_quote || query.options & Query::WITH_QUOTE != 0;
        let mut missing = 0;
        // What the copies of each part said that came to an end: one of them stands in the answer.
        let mut stated: Vec<Vec<usize>> = Vec::new();
        for (part, names) in self.config.parts.clone().iter().enumerate() {
            let is_core = part + 1 == self.config.parts.len();
            let is_asked = if is_core {
                wants_core
            } else {
                !is_quote && owners.contains(u16::try_from(part).unwrap())
            };
            let (mut is_whole, mut said) = (!is_asked, Vec::new());
            for node in nodes.iter().filter(|node| names.contains(&unpadded(&node.name))) {
                let node_status = NodeStatus::from_number(node.status).unwrap();
                if is_asked == (node_status == NodeStatus::Pruned) {
                    let name = unpadded(&node.name);
                    self.complain(format!("{name} is {node_status:?} in the answer to {query:?}"));
                }
                is_whole |= node_status == NodeStatus::Ok;
                if matches!(node_status, NodeStatus::Ok | NodeStatus::Corrupt | NodeStatus::Behind)
                {
                    said.push(node.rows.get() as usize);
                }
            }
            missing += usize::from(!is_whole);
            stated.push(said);
        }
        let sums = stated.iter().filter(|said| !said.is_empty()).fold(vec![0], |sums, said| {
            sums.iter().flat_map(|sum| said.iter().map(move |rows| sum + rows)).collect()
        });
        let is_right = match status {
            EndStatus::Complete => missing == 0,
            EndStatus::Partial => missing > 0 && query.options & Query::PARTIAL != 0,
            EndStatus::Failed => rows.is_empty() && refusal.is_some(),
        };
        if !is_right {
            let (rows, code) = (rows.len(), end.code);
            self.complain(format!("{status:?} ({code}) with {missing} missing, {rows} rows"));
        }
        let is_bars = query.op == Op::Bars as u8;
        let bars = rows.iter().filter(|f| f.kind == Kind::BarPrices as u8).count();
        let quotes = rows.iter().filter(|f| f.kind == Kind::Quote as u8).count();
        let had = if is_bars { bars + quotes } else { rows.len() };
        // Of Last, what stands before the first trade that was asked for is cut off.
        let is_cut = query.op == Op::Last as u8 && sums.iter().any(|sum| had < *sum);
        let is_counted = (sums.contains(&had) || is_cut) && had == end.rows.get() as usize;
        if status != EndStatus::Failed && !is_counted {
            let said = end.rows;
            self.complain(format!("{had} rows came, the nodes said {stated:?}, the end {said}"));
        }
    }
}

impl Reporter {
    fn handle_frames(&mut self, now: Now, conn: ConnId, frames: &[Frame]) {
        for frame in frames {
            self.querier.answer_heartbeat(now, conn, frame);
            self.take(frame);
        }
        self.give_up_at = (!self.pending.is_empty()).then(|| now.mono + PATIENCE);
    }
}

impl Node for Reporter {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.querier.open(now, conn);
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.querier.dial_later(now);
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.querier.close(now, conn);
        self.pending.clear();
        self.give_up_at = None;
    }

    fn handle_timers(&mut self, now: Now) {
        self.querier.dial_if_due(now);
        self.ask(now);
        if self.give_up_at.take_if(|at| *at <= now.mono).is_some()
            && let Some(conn) = self.querier.conn
        {
            // The aggregator has vanished, or the network has.
            self.querier.connections.close_after_flush(conn);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let ask_at = self.querier.conn.map(|_| self.ask_at).filter(|at| *at < self.config.calm_at);
        [self.querier.next_dial(), ask_at, self.give_up_at].into_iter().flatten().min()
    }

    is_a_client_with!(querier.connections, always reads);
}
