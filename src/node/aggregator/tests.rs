//! The aggregator as a machine: leaves and clients driven by hand, virtual time, no socket.

mod answers;
mod copies;
mod healing;
mod limits_kept;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::breaker;
use crate::market::partition::Partition;
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    Definition, EndStatus, Ended, InstrumentId, InstrumentIndex, NodeAnswer, NodeStatus, Quote,
    Refusal, Run, Trade, U64, as_frames, unpadded,
};

const CORE: usize = 0;

struct Bench {
    aggregator: Aggregator,
    now: Now,
    generation: u32,
    /// Dials that nobody has concluded, by leaf.
    dials: Vec<usize>,
    /// The present connection to each leaf.
    leaves: BTreeMap<usize, ConnId>,
    closed: Vec<ConnId>,
    log: Vec<String>,
}

fn breaker_config() -> breaker::Config {
    breaker::Config {
        minimum_number_of_calls: 3,
        sliding_window_size: 3,
        randomized_wait_factor: 0.0,
        ..breaker::Config::default()
    }
}

fn config() -> AggregatorConfig {
    let leaf = |(name, shard): (&str, Option<u16>)| LeafConfig {
        name: name.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 9000)),
        shard,
    };
    // Out of order on purpose.
    let names = [("shard-B", Some(1)), ("core", None), ("shard-A", Some(0)), ("shard-C", Some(2))];
    AggregatorConfig {
        leaves: names.into_iter().map(leaf).collect(),
        partition: Partition::range(&["A-H", "I-P", "Q-Z"]).unwrap(),
        breaker: breaker_config(),
        connect_deadline: Duration::from_millis(200),
        request_deadline: Duration::from_millis(300),
        queries_per_client_max: 4,
        behind_max: Duration::from_secs(3),
        seed: 7,
    }
}

impl Bench {
    /// Dials are out, nobody has answered.
    fn dialing(config: &AggregatorConfig) -> Bench {
        let mut bench = Bench {
            aggregator: Aggregator::new(config).unwrap(),
            now: Now { mono: Mono(1_000_000_000), wall_ns: 7 },
            generation: 0,
            dials: Vec::new(),
            leaves: BTreeMap::new(),
            closed: Vec::new(),
            log: Vec::new(),
        };
        bench.timers();
        bench
    }

    /// All leaves are connected.
    fn new() -> Bench {
        let mut bench = Bench::dialing(&config());
        assert_eq!(bench.dials, [0, 1, 2, 3]);
        for leaf in 0..4 {
            bench.connect(leaf);
        }
        bench
    }

    fn fresh(&mut self, slot: u32) -> ConnId {
        self.generation += 1;
        ConnId { generation: self.generation, slot }
    }

    /// Does what the machine wants from its shell.
    fn act(&mut self) {
        while let Some(action) = self.aggregator.poll_action() {
            match action {
                Action::Dial { dial, .. } => self.dials.push(dial.0 as usize),
                Action::Close(conn) => {
                    self.closed.push(conn);
                    self.aggregator.handle_close(self.now, conn, CloseReason::Ours);
                    self.leaves.retain(|_, leaf| *leaf != conn);
                }
                Action::HandOver { .. } => unreachable!(),
                Action::Log(_, text) => self.log.push(text),
            }
        }
    }

    fn timers(&mut self) {
        self.aggregator.handle_timers(self.now);
        self.act();
        // A machine whose deadline stays in the past would make its shell spin.
        let next = self.aggregator.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.mono), "{next:?} at {:?}", self.now.mono);
    }

    /// Lets time pass, stopping at every deadline on the way.
    fn wait_ms(&mut self, ms: u64) {
        let end = self.now.mono + Duration::from_millis(ms);
        while let Some(at) = self.aggregator.next_deadline().filter(|at| *at <= end) {
            self.now.mono = at.max(self.now.mono);
            self.timers();
        }
        self.now.mono = end;
        self.timers();
    }

    /// The kernel of a leaf takes our dial; the leaf itself has not spoken.
    fn accept(&mut self, leaf: usize) -> ConnId {
        let place = self.dials.iter().position(|dialed| *dialed == leaf).expect("a dial");
        self.dials.remove(place);
        let conn = self.fresh(u32::try_from(leaf).unwrap());
        let dial = DialId(u32::try_from(leaf).unwrap());
        self.aggregator.handle_open(self.now, conn, Origin::Dialed(dial));
        self.leaves.insert(leaf, conn);
        let hello = self.read(conn);
        assert_eq!(hello[0].view::<Session>().unwrap().role, Role::Querier as u8);
        conn
    }

    fn connect(&mut self, leaf: usize) -> ConnId {
        let conn = self.accept(leaf);
        self.deliver(conn, &[Frame::seal(Session { name: padded("leaf"), ..Session::default() })]);
        conn
    }

    fn refuse_dial(&mut self, leaf: usize) {
        let place = self.dials.iter().position(|dialed| *dialed == leaf).expect("a dial");
        self.dials.remove(place);
        let dial = DialId(u32::try_from(leaf).unwrap());
        self.aggregator.handle_dial_failed(self.now, dial, DialFailure::Refused);
        self.act();
    }

    fn lose(&mut self, leaf: usize) {
        let conn = self.leaves.remove(&leaf).unwrap();
        self.aggregator.handle_close(self.now, conn, CloseReason::Reset);
        self.act();
    }

    fn client(&mut self) -> ConnId {
        let slot = 10 + self.generation;
        let conn = self.fresh(slot);
        self.aggregator.handle_open(self.now, conn, Origin::LOCAL);
        let role = Role::Querier as u8;
        self.deliver(conn, &[Frame::seal(Session { role, ..Session::default() })]);
        let hello = self.read(conn);
        let answer = hello[0].view::<Session>().unwrap();
        assert_eq!((answer.role, unpadded(&answer.name).as_str()), (0, "aggregator"));
        conn
    }

    /// A turn of the shell: what came is read, and then the timers are looked at.
    fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.aggregator.handle_frames(self.now, conn, frames);
        self.timers();
    }

    fn leaf_sends(&mut self, leaf: usize, frames: &[Frame]) {
        let conn = self.leaves[&leaf];
        self.deliver(conn, frames);
    }

    /// Everything that waits for a connection, taken in bites.
    fn read_bites(&mut self, conn: ConnId, bite: usize) -> Vec<Frame> {
        let mut read = Vec::new();
        loop {
            let outgoing = self.aggregator.outgoing(self.now, conn);
            let taken = outgoing.head.len().min(bite);
            if taken == 0 {
                break;
            }
            read.extend_from_slice(&outgoing.head[..taken]);
            self.aggregator.handle_sent(self.now, conn, taken);
        }
        let (frames, rest) = as_frames(&read);
        assert!(rest.is_empty(), "the stream ends inside a frame");
        assert!(frames.iter().all(|frame| frame.check().is_ok()));
        frames.to_vec()
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        self.read_bites(conn, usize::MAX)
    }

    /// The queries that a leaf has been sent.
    fn questions(&mut self, leaf: usize) -> Vec<Query> {
        let Some(conn) = self.leaves.get(&leaf).copied() else { return Vec::new() };
        self.read(conn).iter().filter_map(Frame::view::<Query>).copied().collect()
    }

    fn ask(&mut self, conn: ConnId, query: Query) {
        self.deliver(conn, &[Frame::seal(query)]);
    }

    /// The one question that a leaf was asked, answered at once in full.
    fn answer(&mut self, leaf: usize, rows: &[Frame]) -> u32 {
        let questions = self.questions(leaf);
        assert_eq!(questions.len(), 1, "leaf {leaf}");
        let id = questions[0].id.get();
        self.leaf_sends(leaf, &answer_to(id, rows));
        id
    }

    /// Nothing is in flight anywhere.
    fn assert_nothing_pending(&self) {
        assert_eq!(self.aggregator.gather.in_flight(), 0);
        assert_eq!(self.aggregator.answer_frames, 0);
        assert!(self.aggregator.leaves.has_no_questions());
    }
}

/// A query of 500 ms; the leaves get 450.
fn query(id: u32, op: Op, symbol: &str, options: u8) -> Query {
    Query {
        id: U32::new(id),
        op: op as u8,
        options,
        deadline_us: U32::new(500_000),
        limit: U32::new(10),
        symbol: padded(symbol),
        to: U64::new(u64::MAX),
        ..Query::default()
    }
}

fn run(id: u32) -> Frame {
    Frame::seal(Run { id: U32::new(id), ..Run::default() })
}

fn end(id: u32, rows: usize) -> Frame {
    let rows = U32::new(u32::try_from(rows).unwrap());
    Frame::seal(Ended { id: U32::new(id), rows, ..Ended::default() })
}

fn answer_to(id: u32, rows: &[Frame]) -> Vec<Frame> {
    let mut frames = vec![run(id)];
    frames.extend_from_slice(rows);
    frames.push(end(id, rows.len()));
    frames
}

fn definition() -> Frame {
    Frame::seal(Definition::new(
        InstrumentId::new(1, InstrumentIndex::FIRST),
        "PETR4".parse().unwrap(),
        2,
    ))
    .delivered(crate::wire::Flags::SNAPSHOT)
}

fn trade(seq: u64) -> Frame {
    Frame::seal(Trade { seq: U64::new(seq), ts_event: U64::new(seq), ..Trade::default() })
}

fn quote() -> Frame {
    Frame::seal(Quote { seq: U64::new(99), ..Quote::default() })
}

fn kinds(frames: &[Frame]) -> Vec<Kind> {
    frames.iter().filter_map(Frame::kind).collect()
}

/// Per node its name and what became of it.
fn nodes(frames: &[Frame]) -> Vec<(String, NodeStatus)> {
    let nodes = frames.iter().filter_map(Frame::view::<NodeAnswer>);
    nodes.map(|n| (unpadded(&n.name), NodeStatus::from_number(n.status).unwrap())).collect()
}

fn statuses(frames: &[Frame]) -> Vec<NodeStatus> {
    nodes(frames).into_iter().map(|(_, status)| status).collect()
}

fn ended(frames: &[Frame]) -> EndStatus {
    let end = frames.last().and_then(Frame::view::<Ended>).expect("an END comes last");
    EndStatus::from_number(end.status).unwrap()
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter(|f| f.kind() == Some(Kind::Trade)).map(|f| f.seq.get()).collect()
}

fn refusals(frames: &[Frame]) -> Vec<(u32, u16)> {
    let refusals = frames.iter().filter_map(Frame::view::<Refusal>);
    refusals.map(|refusal| (refusal.id.get(), refusal.code.get())).collect()
}
