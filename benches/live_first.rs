//! What those who can wait cost those who are live: how late a tick is gathered for whoever follows it, idle and
//! while thousands of patterns are looked up (the broker) or hundreds of replays are read (core).
//!
//! `cargo bench --bench live_first` (about a minute; with `-- --test` a moment, as a smoke test)
//!
//! The machines alone take the turns that the reactor takes: no socket and no kernel. So a figure is the part of
//! our own code, and the ratio to idle is a stricter one than beside a kernel. Peers read at once whatever they
//! are sent, which is the worst case for a tick.

#![allow(missing_docs, reason = "a bench is a program")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use pregao::breaker;
use pregao::limits;
use pregao::log::memory::MemoryDisk;
use pregao::log::{Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::market::partition::Partition;
use pregao::node::broker::{Broker, BrokerConfig};
use pregao::node::sequencer::{ExchangeConfig, FollowerConfig, Sequencer, SequencerConfig};
use pregao::node::{Action, ConnId, DialId, FrameInput, Node, Origin};
use pregao::time::{Clock, Mono, Now};
use pregao::wire::{
    Definition, Ended, FRAME_BYTES, Flags, Frame, Heartbeat, InstrumentId, InstrumentIndex, Op,
    Query, Quote, Role, Session, Subscribe, U16, U32, U64, as_frames, padded,
};

/// Ticks a second.
const RATE: u64 = 2_000;
/// The source of the market.
const MARKET: u8 = 1;

/// How much is measured.
struct Scale {
    instruments: u32,
    lists: u32,
    patterns: usize,
    journal_frames: u64,
    replays: [usize; 2],
    idle: Duration,
}

/// A node with its peers, without a network between.
struct Peers<N> {
    node: N,
    clock: Clock,
    next_slot: u32,
    /// Brings the ticks, and gets them.
    source: ConnId,
    live: ConnId,
    /// What others have sent and the node has not read, in the order in which it reads.
    unread: VecDeque<(ConnId, VecDeque<Frame>)>,
    /// Asked again by whoever has had its answer.
    again: Option<Query>,
    answers: u64,
}

impl<N: Node> Peers<N> {
    fn new(node: N, clock: Clock) -> Peers<N> {
        let nobody = ConnId { generation: 0, slot: 0 };
        let (unread, again) = (VecDeque::new(), None);
        Peers { node, clock, next_slot: 0, source: nobody, live: nobody, unread, again, answers: 0 }
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.node.handle_open(self.clock.now(), conn, origin);
        conn
    }

    /// One turn, as `pregao::turn` has it. When what is live had been gathered.
    fn turn(&mut self, ticks: &[Frame]) -> Mono {
        let now = self.clock.now();
        self.node.handle_storage(now);
        self.node.handle_mail(now);
        if !ticks.is_empty() {
            self.node.handle_frames(now, self.source, ticks);
        }
        let mut left = limits::READ_BYTES_OF_OTHERS_PER_TURN_MAX / FRAME_BYTES;
        while left > 0
            && let Some((conn, mut frames)) = self.unread.pop_front()
        {
            let count = frames.len().min(left);
            left -= count;
            let read: Vec<Frame> = frames.drain(..count).collect();
            self.node.handle_frames(now, conn, &read);
            if !frames.is_empty() {
                self.unread.push_back((conn, frames));
            }
        }
        self.node.handle_timers(now);
        self.node.commit(now);
        while let Some(conn) = self.node.poll_dirty() {
            self.flush(now, conn);
        }
        let gathered = self.clock.now().mono;
        self.node.proceed(now);
        while let Some(conn) = self.node.poll_dirty() {
            self.flush(now, conn);
        }
        while let Some(conn) = self.node.poll_bulk() {
            self.flush(now, conn);
        }
        while self.node.poll_action().is_some() {}
        gathered
    }

    fn flush(&mut self, now: Now, conn: ConnId) {
        loop {
            let outgoing = self.node.outgoing(now, conn);
            let bytes = outgoing.len();
            if bytes == 0 {
                return;
            }
            let (frames, _) = as_frames(outgoing.head);
            let is_end = frames.last().is_some_and(|frame| frame.view::<Ended>().is_some());
            self.node.handle_sent(now, conn, bytes);
            if is_end && let Some(again) = self.again {
                self.answers += 1;
                self.unread.push_back((conn, VecDeque::from([Frame::seal(again)])));
            }
        }
    }

    /// Ticks come at their moments until it is over. How late each was gathered.
    fn measure(
        &mut self,
        first_seq: u64,
        tick: impl Fn(u64) -> Frame,
        mut is_over: impl FnMut(&Peers<N>, Duration) -> bool,
    ) -> (Histogram<u64>, u64) {
        let mut late = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        let start = self.clock.now().mono;
        let moment = |number: u64| start.0 + number * 1_000_000_000 / RATE;
        let mut sent = 0;
        loop {
            let now = self.clock.now().mono;
            let mut ticks = Vec::new();
            while moment(sent + ticks.len() as u64) <= now.0 {
                ticks.push(tick(first_seq + sent + ticks.len() as u64));
            }
            let gathered = self.turn(&ticks);
            for _ in &ticks {
                late.saturating_record(gathered.0 - moment(sent));
                sent += 1;
            }
            if is_over(self, now.since(start)) {
                return (late, first_seq + sent);
            }
        }
    }
}

fn quote(seq: u64, instrument: u32) -> Frame {
    let instrument = InstrumentId::new(MARKET, InstrumentIndex::new(instrument)).into();
    Frame::seal(Quote { seq: U64::new(seq), instrument, ..Quote::default() })
}

fn definition(seq: u64, source: u8, index: u32) -> Frame {
    let symbol = format!("M{index:05}").parse().expect("a symbol");
    let number = InstrumentId::new(source, InstrumentIndex::new(index));
    Frame::seal(Definition { seq: U64::new(seq), ..Definition::new(number, symbol, 2) })
}

fn subscription(patterns: &[String]) -> VecDeque<Frame> {
    let role = Role::Subscriber as u8;
    let session = Frame::seal(Session { role, ..Session::default() });
    let subscribe = |(place, pattern): (usize, &String)| {
        let flags = if place + 1 == patterns.len() { 0 } else { Flags::MORE };
        let (id, flags) = (U32::new(1), U16::new(flags));
        let pattern = padded(pattern);
        Frame::seal(Subscribe { id, source: MARKET, flags, pattern, ..Subscribe::default() })
    };
    std::iter::once(session).chain(patterns.iter().enumerate().map(subscribe)).collect()
}

fn show(what: &str, late: &Histogram<u64>, idle: Option<&Histogram<u64>>) {
    let us = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1_000.0;
    let (p50, p99, max) = (us(late, 0.5), us(late, 0.99), us(late, 1.0));
    print!("{what:<44} p50 {p50:>9.1} us   p99 {p99:>9.1} us   max {max:>9.1} us");
    match idle {
        Some(idle) => println!(
            "   x idle: p50 {:.2} p99 {:.2}",
            p50 / us(idle, 0.5).max(0.001),
            p99 / us(idle, 0.99).max(0.001)
        ),
        None => println!("   ({} ticks)", late.len()),
    }
}

/// Thousands of subscribers with long lists join while the ticks go on.
fn patterns(scale: &Scale) {
    let mut peers = Peers::new(Broker::new(BrokerConfig::new(1 << 16, 10_000)), Clock::start());
    peers.source = peers.open(Origin::LOCAL);
    let session = Session {
        role: Role::Publisher as u8,
        source: MARKET,
        epoch: U32::new(1),
        epoch_start: U64::new(1),
        ..Session::default()
    };
    let at = Heartbeat { next_seq: U64::new(1), ..Heartbeat::default() };
    peers.turn(&[Frame::seal(session), Frame::seal(at)]);
    let mut seq = 1;
    for index in 0..scale.instruments {
        peers.turn(&[definition(seq, MARKET, index)]);
        seq += 1;
    }
    peers.live = peers.open(Origin::LOCAL);
    peers.unread.push_back((peers.live, subscription(&["M00007".to_owned()])));
    for _ in 0..100 {
        peers.turn(&[]);
    }
    let tick = |seq| quote(seq, 7);
    let (idle, seq) = peers.measure(seq, tick, |_, elapsed| elapsed >= scale.idle);
    show("broker, idle", &idle, None);
    let count = scale.instruments;
    for list in 0..scale.lists {
        let conn = peers.open(Origin::LOCAL);
        // Half of a list exists; prefixes now and then.
        let pattern = |place: u32| match place % 16 {
            0 => format!("M{:04}*", (place * 31 + list * 7) % count.div_ceil(10)),
            place if place % 2 == 0 => format!("N{list}-{place}"),
            _ => format!("M{:05}", (place * 61 + list * 17) % count),
        };
        let patterns = u32::try_from(scale.patterns).expect("a list");
        let list: Vec<String> = (0..patterns).map(pattern).collect();
        peers.unread.push_back((conn, subscription(&list)));
    }
    let begun = peers.clock.now().mono;
    let is_idle = |peers: &Peers<Broker>, _| {
        let is_due = peers.node.next_deadline().is_some_and(|at| at == Mono::default());
        peers.unread.is_empty() && !peers.node.has_bulk() && !is_due
    };
    let (joins, _) = peers.measure(seq, tick, is_idle);
    let took = peers.clock.now().mono.since(begun);
    let what = format!("broker, {} x {} patterns join", scale.lists, scale.patterns);
    show(&what, &joins, Some(&idle));
    println!("    all joined within {took:.2?}, {} instruments", scale.instruments);
}

/// Replays are read without a pause while the ticks go on.
fn replays(scale: &Scale) {
    let clock = Clock::start();
    let log = LogConfig {
        name: padded("core"),
        segment_records: 1 << 16,
        policy: SyncPolicy::Interval(Duration::from_millis(50)),
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    };
    let disk = MemoryDisk::new(4096);
    let (log, recovery) = Log::open(disk.storage(), log, clock.now()).expect("a log");
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let config = SequencerConfig {
        exchanges: vec![ExchangeConfig::nameless(address, breaker::Config::default())],
        followers: vec![FollowerConfig { name: "broker".to_owned(), address, shard: None }],
        partition: Partition::hash(1).expect("a partition"),
        breaker: breaker::Config::default(),
        heartbeat: Duration::from_secs(3_600),
        silence_max: Duration::from_secs(3_600),
        request_deadline: Duration::from_secs(3_600),
        connect_deadline: Duration::from_secs(3_600),
        broker_warmup_frames: 2,
        seed: 1,
        epoch_id: 1,
        takes_unlisted: true,
        appends: false,
    };
    let core = Sequencer::new(config, log, &recovery, clock.now()).expect("core");
    let mut peers = Peers::new(core, clock);
    let mut dialed = [false; 2];
    while dialed != [true; 2] {
        let now = peers.clock.now();
        peers.node.handle_timers(now);
        while let Some(action) = peers.node.poll_action() {
            if let Action::Dial { dial: DialId(number), .. } = action {
                let conn = peers.open(Origin::Dialed(DialId(number)));
                let place = if number == 0 { &mut peers.source } else { &mut peers.live };
                *place = conn;
                dialed[number as usize] = true;
            }
        }
    }
    peers.turn(&[]);
    let session = |next_seq| Session {
        feed: U64::new(0xFEED),
        next_seq: U64::new(next_seq),
        ..Session::default()
    };
    let ahead = definition(1, 0, 0).delivered(Flags::SNAPSHOT);
    peers.turn(&[Frame::seal(session(1)), ahead, definition(1, 0, 0)]);
    let follower = (peers.live, VecDeque::from([Frame::seal(session(0))]));
    peers.unread.push_back(follower);
    let tick = |seq| {
        let (seq, instrument) = (U64::new(seq), U32::new(0));
        Frame::seal(Quote { seq, instrument, ..Quote::default() })
    };
    let mut seq = 2;
    while seq < scale.journal_frames {
        let ticks: Vec<Frame> = (seq..seq + 500).map(tick).collect();
        peers.turn(&ticks);
        seq += 500;
    }
    let (idle, mut seq) = peers.measure(seq, tick, |_, elapsed| elapsed >= scale.idle);
    show("core, idle", &idle, None);
    let query = Query {
        id: U32::new(1),
        op: Op::Replay as u8,
        symbol: padded("*"),
        from: U64::new(1),
        to: U64::new(scale.journal_frames),
        ..Query::default()
    };
    peers.again = Some(query);
    let mut readers = 0;
    for count in scale.replays {
        while readers < count {
            let conn = peers.open(Origin::LOCAL);
            let session = Session { role: Role::Querier as u8, ..Session::default() };
            let frames = VecDeque::from([Frame::seal(session), Frame::seal(query)]);
            peers.unread.push_back((conn, frames));
            readers += 1;
        }
        let (late, next) = peers.measure(seq, tick, |_, elapsed| elapsed >= scale.idle);
        seq = next;
        show(&format!("core, {count} replays"), &late, Some(&idle));
    }
    println!("    {} replays of {} frames were whole", peers.answers, scale.journal_frames);
}

fn main() {
    pregao::planted::refuse_to_measure();
    let is_test = std::env::args().any(|argument| argument == "--test");
    let scale = if is_test {
        Scale {
            instruments: 500,
            lists: 20,
            patterns: 64,
            journal_frames: 5_000,
            replays: [5, 20],
            idle: Duration::from_millis(100),
        }
    } else {
        Scale {
            instruments: 65_536,
            lists: 1_000,
            patterns: limits::PATTERNS_MAX,
            journal_frames: 200_000,
            replays: [300, 1_000],
            idle: Duration::from_secs(10),
        }
    };
    patterns(&scale);
    replays(&scale);
}
