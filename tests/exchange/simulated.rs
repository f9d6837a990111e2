//! Five minutes, in runs of ten seconds, under an exchange that fails a fifth of everything and stalls
//! another fifth, in virtual time: both nodes are machines here, and the network between them is a
//! loop. What a real network cannot tell the test, this one can: whether the answer was the truth.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pregao::breaker;
use pregao::limits;
use pregao::log::memory::{MemoryDisk, MemoryStorage};
use pregao::log::{Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::market::chaos::{ChaosConfig, Probability};
use pregao::market::partition::Partition;
use pregao::node::external::{External, ExternalConfig, FeedConfig, Speed};
use pregao::node::sequencer::{ExchangeConfig, Sequencer, SequencerConfig};
use pregao::node::{Action, CloseReason, ConnId, DialId, FrameInput, Node, Origin};
use pregao::time::{Mono, Now, nanos};
use pregao::wire::{
    Definition, EndStatus, Ended, ErrorCode, Flags, Frame, InstrumentId, Kind, Op, Query, Quote,
    Role, Session, Symbol, U32, as_frames, padded,
};

const START: Now = Now { mono: Mono(1_000_000_000), wall_ns: 1_800_000_000_000_000_000 };
/// The client's connection to core.
const CLIENT: ConnId = ConnId { generation: 1, slot: 0 };

/// Runs of ten seconds each: more than five minutes of market.
const SEEDS: u64 = 32;
/// Frames that the exchange leaves out, so that there is something to ask for again.
const LOSE_MILLIONTHS: u32 = 1_000;
/// How often, in steps of the test, the network between the two is cut.
const CUT_EVERY: u64 = 500;

/// The session between the two: its number on both ends.
fn session(number: u32) -> ConnId {
    ConnId { generation: number, slot: number }
}

struct World {
    core: Sequencer<MemoryStorage>,
    exchange: External,
    now: Now,
    /// The standing connection between the two.
    link: Option<u32>,
    next_link: u32,
    sessions: u32,
    /// What the exchange has handed to core: the truth, as far as it travelled.
    symbols: BTreeMap<InstrumentId, Symbol>,
    quotes: BTreeMap<Symbol, Quote>,
}

impl World {
    fn new(seed: u64) -> World {
        let exchange = External::new(
            ExternalConfig {
                feed: FeedConfig::Synthetic {
                    seed,
                    events_per_second: 1_000,
                    start_wall_ns: START.wall_ns,
                },
                speed: Speed::Times { thousandths: 1_000 },
                chaos: ChaosConfig {
                    lose: Probability::from_millionths(LOSE_MILLIONTHS),
                    seed,
                    ..ChaosConfig::default()
                },
                playground: false,
                sessions_max: limits::EXCHANGE_SESSIONS_MAX,
            },
            START,
        );
        let log = LogConfig {
            name: padded("core"),
            segment_records: 1 << 14,
            policy: SyncPolicy::None,
            upstream: UpstreamRule::CountAppended,
            sequence: Sequence::Contiguous,
            retention: Retention::default(),
        };
        let disk = MemoryDisk::new(4096);
        let (journal, recovery) = Log::open(disk.storage(), log, START).unwrap();
        let config = SequencerConfig {
            exchanges: vec![ExchangeConfig::nameless(
                SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                breaker::Config::default(),
            )],
            followers: Vec::new(),
            partition: Partition::hash(1).unwrap(),
            breaker: breaker::Config::default(),
            heartbeat: Duration::from_millis(200),
            silence_max: Duration::from_secs(1),
            request_deadline: Duration::from_secs(1),
            connect_deadline: Duration::from_secs(1),
            broker_warmup_frames: 0,
            seed,
            epoch_id: 11,
            takes_unlisted: true,
            appends: false,
        };
        let mut core = Sequencer::new(config, journal, &recovery, START).unwrap();
        core.handle_open(START, CLIENT, Origin::LOCAL);
        let hello = Session { role: Role::Querier as u8, ..Session::default() };
        core.handle_frames(START, CLIENT, &[Frame::seal(hello)]);
        let mut world = World {
            core,
            exchange,
            now: START,
            link: None,
            next_link: 2,
            sessions: 0,
            symbols: BTreeMap::new(),
            quotes: BTreeMap::new(),
        };
        world.settle();
        take(&mut world.core, START, CLIENT);
        world
    }

    /// Turns of both nodes until neither has anything left to do at this instant.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_quiet = true;
            self.core.handle_storage(self.now);
            self.core.handle_timers(self.now);
            self.core.commit(self.now);
            self.exchange.handle_timers(self.now);
            self.exchange.commit(self.now);
            if let Some(link) = self.link {
                is_quiet &= !self.carry(link);
            }
            is_quiet &= !self.act();
            if is_quiet {
                return;
            }
        }
        panic!("the two never come to rest at {:?}", self.now);
    }

    /// Brings what waits on the link over, both ways.
    fn carry(&mut self, link: u32) -> bool {
        let to_exchange = take(&mut self.core, self.now, session(link));
        if !to_exchange.is_empty() {
            self.exchange.handle_frames(self.now, session(link), &to_exchange);
        }
        let to_core = if self.core.wants_bytes(session(link)) {
            take(&mut self.exchange, self.now, session(link))
        } else {
            Vec::new()
        };
        for frame in &to_core {
            self.note(frame);
        }
        if !to_core.is_empty() {
            self.core.handle_frames(self.now, session(link), &to_core);
        }
        !to_exchange.is_empty() || !to_core.is_empty()
    }

    fn note(&mut self, frame: &Frame) {
        if let Some(definition) = frame.view::<Definition>() {
            self.symbols.insert(definition.instrument(), definition.symbol);
        } else if let Some(quote) = frame.view::<Quote>() {
            self.sessions += u32::from(quote.seq.get() == 0);
            self.quotes.insert(self.symbols[&quote.instrument()], *quote);
        }
    }

    fn act(&mut self) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.core.poll_action() {
            has_acted = true;
            match action {
                Action::Dial { dial, .. } => self.connect(dial),
                Action::Close(conn) => self.close(conn, CloseReason::Ours, CloseReason::PeerClosed),
                Action::HandOver { .. } => unreachable!("the exchange has one reactor"),
                Action::Log(..) => {}
            }
        }
        while let Some(action) = self.exchange.poll_action() {
            has_acted = true;
            if let Action::Close(conn) = action {
                // What it said last travels ahead of the end.
                if self.link.is_some_and(|link| session(link) == conn) {
                    self.carry(conn.slot);
                }
                self.close(conn, CloseReason::PeerClosed, CloseReason::Ours);
            }
        }
        has_acted
    }

    fn connect(&mut self, dial: DialId) {
        assert!(self.link.is_none(), "core dials once at a time");
        self.link = Some(self.next_link);
        self.next_link += 1;
        let conn = session(self.next_link - 1);
        self.exchange.handle_open(self.now, conn, Origin::LOCAL);
        self.core.handle_open(self.now, conn, Origin::Dialed(dial));
    }

    fn close(&mut self, conn: ConnId, of_core: CloseReason, of_exchange: CloseReason) {
        if self.link.take_if(|link| session(*link) == conn).is_some() {
            self.core.handle_close(self.now, conn, of_core);
            self.exchange.handle_close(self.now, conn, of_exchange);
        }
    }

    fn pass(&mut self, until: Mono) {
        loop {
            let next = [self.core.next_deadline(), self.exchange.next_deadline()];
            let next = next.into_iter().flatten().min().filter(|at| *at < until);
            let at = next.unwrap_or(until).max(self.now.mono);
            self.now.wall_ns += nanos(at.since(self.now.mono));
            self.now.mono = at;
            self.settle();
            if next.is_none() {
                return;
            }
        }
    }

    /// Asks core for a quote and gives the whole answer, which is there in the same turn.
    fn ask(&mut self, id: u32, symbol: &Symbol) -> Vec<Frame> {
        let query = Query {
            id: U32::new(id),
            op: Op::Quote as u8,
            symbol: padded(symbol.as_str()),
            ..Query::default()
        };
        self.core.handle_frames(self.now, CLIENT, &[Frame::seal(query)]);
        let answer = take(&mut self.core, self.now, CLIENT);
        self.settle();
        answer
    }
}

/// Everything that a node has ready for a connection.
fn take<N: Node>(node: &mut N, now: Now, conn: ConnId) -> Vec<Frame> {
    let mut bytes = Vec::new();
    loop {
        let outgoing = node.outgoing(now, conn);
        let taken = outgoing.len();
        if taken == 0 {
            break;
        }
        bytes.extend_from_slice(outgoing.head);
        bytes.extend_from_slice(outgoing.tail);
        node.handle_sent(now, conn, taken);
    }
    let (frames, rest) = as_frames(&bytes);
    assert!(rest.is_empty());
    frames.to_vec()
}

#[test]
fn every_quote_is_answered_at_once_and_none_is_called_live_that_is_not() {
    let (mut live, mut stale, mut none, mut sessions) = (0, 0, 0, 0);
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        let mut id = 0;
        for step in 1..=2_000 {
            world.pass(START.mono + Duration::from_millis(step * 5));
            if step % CUT_EVERY == 0
                && let Some(link) = world.link
            {
                world.close(session(link), CloseReason::Reset, CloseReason::Reset);
                world.settle();
            }
            let known: Vec<Symbol> = world.quotes.keys().copied().collect();
            let Some(symbol) =
                usize::try_from(step).ok().and_then(|step| known.get(step % known.len().max(1)))
            else {
                continue;
            };
            id += 1;
            let answer = world.ask(id, symbol);
            let end = answer.last().and_then(Frame::view::<Ended>).expect("a whole answer");
            assert_eq!((end.id.get(), end.status), (id, EndStatus::Complete as u8));
            let Some(quote) = answer.iter().find(|frame| frame.kind() == Some(Kind::Quote)) else {
                // Its first quote is behind a frame that got lost. Nothing is better than a zero.
                assert_eq!(end.code.get(), ErrorCode::NoData as u16);
                none += 1;
                continue;
            };
            let truth = world.quotes[symbol];
            if quote.has(Flags::STALE) {
                stale += 1;
                continue;
            }
            live += 1;
            assert!(world.link.is_some(), "live, and there is no session: seed {seed} step {step}");
            let quote = quote.view::<Quote>().unwrap();
            let said = (quote.bid, quote.ask, quote.bid_qty, quote.ask_qty);
            assert_eq!(
                said,
                (truth.bid, truth.ask, truth.bid_qty, truth.ask_qty),
                "live, and not the exchange's last word: seed {seed} step {step}"
            );
        }
        sessions += world.next_link - 2;
    }
    println!(
        "{SEEDS} x 10 s under chaos: {live} live and {stale} stale quotes, {none} times none yet, \
         {sessions} sessions"
    );
    assert!(none < stale, "{none}");
    assert!(live > 0 && stale > 0 && sessions > 32, "{live} {stale} {sessions}");
}
