//! Core's breakers as a machine: an exchange driven by hand, virtual time, no socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::exchanges::EXCHANGE_DIAL;
use super::*;
use crate::breaker::{self, Reason, State};
use crate::limits;
use crate::log::memory::{MemoryDisk, MemoryStorage};
use crate::log::{LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::market::partition::Partition;
use crate::node::LocalFault;
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    BreakerAction, Definition, Ended, Kind, Metric, Op, Query, Quote, Refusal, Resume, Role, Text,
    U16, as_frames, unpadded,
};

const HOUR_NS: u64 = 3_600_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    core: Sequencer<MemoryStorage>,
    now: Now,
    generation: u32,
    /// Dials of the exchange that nobody has concluded, and how many there were.
    dialing: bool,
    dials: u32,
    closed: Vec<ConnId>,
    log: Vec<String>,
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

impl Bench {
    fn new() -> Bench {
        Bench::with_followers(Vec::new())
    }

    fn with_followers(followers: Vec<FollowerConfig>) -> Bench {
        let now = Now { mono: Mono(1_000_000_000), wall_ns: 10 * HOUR_NS };
        let config = LogConfig {
            name: padded("core"),
            segment_records: 4096,
            policy: SyncPolicy::None,
            upstream: UpstreamRule::CountAppended,
            sequence: Sequence::Contiguous,
            retention: Retention::default(),
        };
        let disk = MemoryDisk::new(4096);
        let (journal, recovery) = Log::open(disk.storage(), config, now).unwrap();
        let breaker = breaker::Config {
            minimum_number_of_calls: 3,
            sliding_window_size: 3,
            randomized_wait_factor: 0.0,
            ..breaker::Config::default()
        };
        let config = SequencerConfig {
            exchanges: vec![ExchangeConfig::nameless(address(), breaker.clone())],
            followers,
            partition: Partition::hash(1).unwrap(),
            breaker,
            heartbeat: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            request_deadline: Duration::from_secs(1),
            connect_deadline: Duration::from_secs(1),
            broker_warmup_frames: 0,
            seed: 1,
            epoch_id: 11,
            takes_unlisted: true,
            appends: false,
        };
        let core = Sequencer::new(config, journal, &recovery, now).unwrap();
        let mut bench = Bench {
            core,
            now,
            generation: 0,
            dialing: false,
            dials: 0,
            closed: Vec::new(),
            log: Vec::new(),
        };
        bench.turn();
        bench
    }

    /// Does what the machine wants from its shell.
    fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Dial { dial: EXCHANGE_DIAL, .. } => {
                    assert!(!self.dialing, "one dial at a time");
                    self.dialing = true;
                    self.dials += 1;
                }
                Action::Dial { .. } => {}
                Action::Close(conn) => {
                    self.closed.push(conn);
                    self.core.handle_close(self.now, conn, CloseReason::Ours);
                }
                Action::HandOver { .. } => unreachable!("core has one reactor"),
                Action::Log(_, text) => self.log.push(text),
            }
        }
    }

    /// The rest of a turn behind its input.
    fn turn(&mut self) {
        self.core.handle_storage(self.now);
        self.core.handle_timers(self.now);
        self.core.commit(self.now);
        self.act();
        // A machine whose deadline stays in the past would make its shell spin.
        let next = self.core.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.mono), "{next:?} at {:?}", self.now.mono);
    }

    fn pass(&mut self, until: Mono) {
        let step = until.since(self.now.mono);
        self.now.mono = until;
        self.now.wall_ns += crate::time::nanos(step);
        self.turn();
    }

    /// Lets time pass; `dialed` concludes every dial on the way.
    fn wait(&mut self, time: Duration, mut dialed: impl FnMut(&mut Bench)) {
        let end = self.now.mono + time;
        loop {
            if std::mem::take(&mut self.dialing) {
                dialed(self);
                self.turn();
                continue;
            }
            match self.core.next_deadline().filter(|at| *at < end) {
                Some(at) => self.pass(at),
                None => break,
            }
        }
        self.pass(end);
    }

    fn fail_dial(&mut self, failure: DialFailure) {
        self.core.handle_dial_failed(self.now, EXCHANGE_DIAL, failure);
    }

    fn fresh(&mut self) -> ConnId {
        self.generation += 1;
        ConnId { generation: self.generation, slot: self.generation }
    }

    /// The dial came through, as far as the kernel is concerned.
    fn connect(&mut self) -> ConnId {
        self.dialing = false;
        let conn = self.fresh();
        self.core.handle_open(self.now, conn, Origin::Dialed(EXCHANGE_DIAL));
        conn
    }

    /// A session that streams, with PETR4 defined and a quote of it at `seq` 1.
    fn stream(&mut self) -> ConnId {
        let conn = self.connect();
        self.deliver(
            conn,
            Session { next_seq: U64::new(1), feed: U64::new(9), ..Session::default() },
        );
        let definition = Definition::new(U32::new(5).into(), "PETR4".parse().unwrap(), 2);
        self.frame(conn, Frame::seal(definition).delivered(Flags::SNAPSHOT));
        self.quote(conn, 1);
        conn
    }

    fn quote(&mut self, conn: ConnId, seq: u64) {
        let (instrument, seq) = (U32::new(5), U64::new(seq));
        self.deliver(conn, Quote { instrument, seq, ..Quote::default() });
    }

    fn deliver<M: crate::wire::Message>(&mut self, conn: ConnId, message: M) {
        self.frame(conn, Frame::seal(message));
    }

    fn frame(&mut self, conn: ConnId, frame: Frame) {
        self.core.handle_frames(self.now, conn, &[frame]);
        self.turn();
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        let mut read = Vec::new();
        loop {
            let outgoing = self.core.outgoing(self.now, conn).head.to_vec();
            if outgoing.is_empty() {
                let (frames, rest) = as_frames(&read);
                assert!(rest.is_empty());
                return frames.to_vec();
            }
            self.core.handle_sent(self.now, conn, outgoing.len());
            read.extend(outgoing);
        }
    }

    fn querier(&mut self) -> ConnId {
        let conn = self.fresh();
        self.core.handle_open(self.now, conn, Origin::LOCAL);
        self.deliver(conn, Session { role: Role::Querier as u8, ..Session::default() });
        self.read(conn);
        conn
    }

    fn ask(&mut self, conn: ConnId, op: Op, limit: u32, symbol: &str) -> Vec<Frame> {
        let (id, limit) = (U32::new(1), U32::new(limit));
        let (op, symbol) = (op as u8, padded(symbol));
        self.deliver(conn, Query { id, op, limit, symbol, ..Query::default() });
        self.read(conn)
    }

    fn order(&mut self, name: &str, action: BreakerAction) -> Vec<Frame> {
        let conn = self.querier();
        self.ask(conn, Op::Breaker, u32::from(action as u8), name)
    }

    /// Words and figures of a status answer.
    fn status(&mut self) -> (BTreeMap<String, String>, BTreeMap<String, i64>) {
        let conn = self.querier();
        let (mut words, mut figures) = (BTreeMap::<String, String>::new(), BTreeMap::new());
        for frame in self.ask(conn, Op::Status, 0, "") {
            if let Some(text) = frame.view::<Text>() {
                words.entry(unpadded(&text.name)).or_default().push_str(&unpadded(&text.text));
            } else if let Some(metric) = frame.view::<Metric>() {
                figures.insert(unpadded(&metric.name), metric.value.get());
            }
        }
        self.core.handle_close(self.now, conn, CloseReason::PeerClosed);
        (words, figures)
    }

    fn state(&mut self, name: &str) -> String {
        self.status().0.remove(&format!("{name}.state")).unwrap()
    }

    /// The frames of `$sys.breaker` in the journal: name and new state.
    fn changes(&self) -> Vec<(String, State)> {
        let mut changes = Vec::new();
        let mut position = self.core.journal.first_position();
        while let crate::log::Read::Frames(frames) = self.core.journal.read(position, 1024) {
            position += frames.len() as u64;
            let found = frames.iter().filter_map(Frame::view::<BreakerChange>);
            changes.extend(found.map(|change| {
                assert_eq!(Frame::seal(*change).check(), Ok(()));
                (unpadded(&change.name), State::from_number(change.to).unwrap())
            }));
        }
        changes
    }
}

fn is_end(frames: &[Frame]) -> bool {
    frames.len() == 1 && frames[0].view::<Ended>().is_some_and(|end| end.id.get() == 1)
}

fn is_stale(frames: &[Frame]) -> bool {
    let quote = frames.iter().find(|frame| frame.view::<Quote>().is_some()).expect("a quote");
    quote.has(Flags::STALE)
}

#[test]
fn emfile_opens_no_breaker_and_is_called_by_its_name() {
    let fault = DialFailure::Local(LocalFault::ProcessDescriptors);
    let mut bench = Bench::new();
    bench.wait(MINUTE, |bench| bench.fail_dial(fault));
    let (words, figures) = bench.status();
    assert_eq!(words["core.exchange.state"], "closed");
    assert_eq!(words["core.exchange.error"], "no descriptor left in this process (EMFILE)");
    let concluded = bench.dials - u32::from(bench.dialing);
    assert_eq!(figures["core.exchange.local_fault"], i64::from(concluded));
    assert!(bench.dials > 1_000, "it goes on trying: {}", bench.dials);
    assert_eq!(figures["core.exchange.opened"], 0);
    let said = bench.log.iter().filter(|line| line.contains("cannot dial: no descriptor")).count();
    assert!((55..=61).contains(&said), "once a second, not {said} times");
    assert!(bench.changes().is_empty());
}

#[test]
fn a_descriptor_shortage_among_refusals_neither_helps_nor_hides_them() {
    let mut bench = Bench::new();
    let mut number = 0;
    bench.wait(Duration::from_millis(240), |bench| {
        number += 1;
        let local = DialFailure::Local(LocalFault::ProcessDescriptors);
        bench.fail_dial(if number % 2 == 0 { local } else { DialFailure::Refused });
    });
    assert_eq!((bench.dials, bench.state("core.exchange").as_str()), (5, "open"));
}

#[test]
fn an_open_breaker_dials_nobody_until_its_wait_is_over() {
    let mut bench = Bench::new();
    bench.wait(Duration::from_millis(200), |bench| bench.fail_dial(DialFailure::Refused));
    assert_eq!((bench.dials, bench.state("core.exchange").as_str()), (3, "open"));
    let (_, figures) = bench.status();
    let left =
        Duration::from_millis(u64::try_from(figures["core.exchange.next_probe_ms"]).unwrap());
    bench.wait(left, |_| panic!("a dial while open"));
    bench.wait(Duration::from_millis(2), |bench| {
        bench.connect();
    });
    assert_eq!((bench.dials, bench.state("core.exchange").as_str()), (4, "half-open"));
}

#[test]
fn a_handshake_without_an_answer_is_no_health() {
    let mut bench = Bench::new();
    bench.wait(MINUTE, |bench| {
        bench.connect();
    });
    let (words, figures) = bench.status();
    assert_ne!(words["core.exchange.state"], "closed");
    assert_eq!(words["core.exchange.error"], "request deadline passed");
    assert_eq!(figures.get("core.exchange.answered"), None);
    assert!(bench.dials < 20, "{} dials in a minute", bench.dials);
}

#[test]
fn forcing_the_exchange_open_ends_its_session_and_closing_brings_it_back_at_once() {
    let mut bench = Bench::new();
    let session = bench.stream();
    let client = bench.querier();
    assert!(!is_stale(&bench.ask(client, Op::Quote, 0, "PETR4")));
    assert!(is_end(&bench.order("core.exchange", BreakerAction::ForceOpen)));
    assert_eq!(bench.closed, [session]);
    assert_eq!(bench.state("core.exchange"), "forced-open");
    assert!(is_stale(&bench.ask(client, Op::Quote, 0, "PETR4")), "nobody vouches for it now");
    bench.wait(MINUTE, |_| panic!("a dial while forced open"));
    assert!(is_end(&bench.order("core.exchange", BreakerAction::Close)));
    assert!(bench.dialing, "in the same turn");
    bench.stream();
    let (_, figures) = bench.status();
    assert_eq!(figures["exchange.sessions"], 2);
    assert_eq!(figures.get("core.exchange.reset"), None, "what we end is not the exchange's fault");
    let name = || "core.exchange".to_owned();
    assert_eq!(bench.changes(), [(name(), State::ForcedOpen), (name(), State::Closed)]);
}

#[test]
fn a_dial_under_way_when_the_breaker_is_forced_open_becomes_no_session() {
    let mut bench = Bench::new();
    assert!(bench.dialing);
    bench.order("core.exchange", BreakerAction::ForceOpen);
    let conn = bench.connect();
    bench.turn();
    assert_eq!(bench.closed, [conn]);
}

#[test]
fn forcing_a_followers_breaker_open_closes_its_connection() {
    let name = "shard-A".to_owned();
    let mut bench =
        Bench::with_followers(vec![FollowerConfig { name, address: address(), shard: Some(0) }]);
    let conn = bench.fresh();
    bench.core.handle_open(bench.now, conn, Origin::Dialed(DialId(1)));
    bench.deliver(conn, Session { next_seq: U64::new(1), ..Session::default() });
    assert_eq!(bench.status().0["shard-A"], "streaming");
    assert!(is_end(&bench.order("core.shard-A", BreakerAction::ForceOpen)));
    assert_eq!(bench.closed, [conn]);
    assert!(is_end(&bench.order("core.shard-A", BreakerAction::Reset)));
    bench.wait(Duration::from_secs(1), |bench| bench.fail_dial(DialFailure::Refused));
    assert_eq!(bench.status().0["shard-A"], "dialing");
}

#[test]
fn a_name_or_an_action_that_nobody_knows_is_refused_with_its_query() {
    let mut bench = Bench::new();
    let client = bench.querier();
    for (name, action, code) in [
        ("core.nobody", 1, ErrorCode::NotOwner),
        ("aggregator.core", 1, ErrorCode::NotOwner),
        ("", 1, ErrorCode::NotOwner),
        ("core.exchange", 0, ErrorCode::Unexpected),
        ("core.exchange", 6, ErrorCode::Unexpected),
        ("core.exchange", 257, ErrorCode::Unexpected),
    ] {
        let frames = bench.ask(client, Op::Breaker, action, name);
        let refusal = frames[0].view::<Refusal>().expect("a refusal");
        assert_eq!((refusal.id.get(), refusal.code.get()), (1, code as u16), "{name} {action}");
    }
    assert_eq!(bench.state("core.exchange"), "closed");
}

#[test]
fn every_action_reaches_the_breaker() {
    let mut bench = Bench::new();
    for (action, state) in [
        (BreakerAction::ForceOpen, "forced-open"),
        (BreakerAction::Disable, "disabled"),
        (BreakerAction::MetricsOnly, "metrics-only"),
        (BreakerAction::Close, "closed"),
        (BreakerAction::Disable, "disabled"),
        (BreakerAction::Reset, "closed"),
    ] {
        assert!(is_end(&bench.order("core.requests", action)));
        assert_eq!(bench.state("core.requests"), state);
    }
}

#[test]
fn the_aggregators_changes_are_published_and_nobody_elses() {
    let (name, shard) = ("shard-A".to_owned(), Some(0));
    let mut bench = Bench::with_followers(vec![FollowerConfig { name, address: address(), shard }]);
    let client = bench.fresh();
    bench.core.handle_open(bench.now, client, Origin::LOCAL);
    let (role, name) = (Role::Querier as u8, padded("aggregator"));
    bench.deliver(client, Session { role, name, ..Session::default() });
    let stranger = bench.querier();
    let change = BreakerChange {
        to: State::Open as u8,
        reason: Reason::FailureRate as u8,
        generation: U16::new(7),
        name: padded("aggregator.shard-A"),
        ..BreakerChange::default()
    };
    bench.deliver(client, change);
    bench.deliver(stranger, change);
    bench.deliver(client, BreakerChange { name: padded("core.exchange"), ..change });
    bench.deliver(client, BreakerChange { name: padded("aggregator.shard-Q"), ..change });
    bench.deliver(client, BreakerChange { to: 6, ..change });
    bench.deliver(client, BreakerChange { reason: 0, ..change });
    assert_eq!(bench.changes(), [("aggregator.shard-A".to_owned(), State::Open)]);
    for _ in 0..2 * limits::BREAKER_REPORTS_SAVED_MAX {
        bench.deliver(client, change);
    }
    assert_eq!(bench.changes().len(), limits::BREAKER_REPORTS_SAVED_MAX as usize, "bounded");
    let (_, figures) = bench.status();
    assert_eq!(
        figures["breaker_reports_dropped"],
        5 + i64::from(limits::BREAKER_REPORTS_SAVED_MAX) + 1
    );
}

#[test]
fn a_quote_is_live_only_while_its_source_is_known_to_be_current() {
    let mut bench = Bench::new();
    let session = bench.stream();
    let client = bench.querier();
    let is_stale = |bench: &mut Bench| is_stale(&bench.ask(client, Op::Quote, 0, "PETR4"));
    assert!(!is_stale(&mut bench));
    // A frame was left out: what we have is not the latest.
    bench.quote(session, 3);
    assert!(is_stale(&mut bench));
    let said = bench.read(session);
    let resume = said.iter().find_map(Frame::view::<Resume>).expect("it asks for the rest");
    let beat = Heartbeat { token: resume.id, ..Heartbeat::default() };
    bench.deliver(session, beat);
    assert!(is_stale(&mut bench), "it goes back, but what it has is not here yet");
    bench.quote(session, 2);
    assert!(is_stale(&mut bench), "3 has been seen, and is missing still");
    bench.quote(session, 3);
    assert!(!is_stale(&mut bench));
    bench.core.handle_close(bench.now, session, CloseReason::Reset);
    bench.turn();
    assert!(is_stale(&mut bench), "the session is gone");
}

#[test]
fn a_wall_clock_that_jumps_an_hour_changes_nothing_but_timestamps() {
    let run = |jump: i64| {
        let mut bench = Bench::new();
        let mut session = bench.stream();
        let mut seen = Vec::new();
        for step in 2..60 {
            bench.quote(session, step);
            if step == 20 {
                bench.now.wall_ns = bench.now.wall_ns.saturating_add_signed(jump);
            }
            if step == 30 {
                bench.core.handle_close(bench.now, session, CloseReason::Reset);
                bench.turn();
                bench.wait(Duration::from_secs(9), |bench| bench.fail_dial(DialFailure::Refused));
                let open = bench.status();
                seen.push(open.0["core.exchange.state"].clone());
                seen.push(open.1["core.exchange.next_probe_ms"].to_string());
                bench.order("core.exchange", BreakerAction::Reset);
                session = bench.connect();
                let next_seq = U64::new(step + 1);
                bench.deliver(
                    session,
                    Session { next_seq, feed: U64::new(9), ..Session::default() },
                );
                let definition = Definition::new(U32::new(5).into(), "PETR4".parse().unwrap(), 2);
                bench.frame(session, Frame::seal(definition).delivered(Flags::SNAPSHOT));
            }
            bench.pass(bench.now.mono + Duration::from_millis(100));
        }
        seen.push(format!("{} dials, {} closes", bench.dials, bench.closed.len()));
        let mut received = Vec::new();
        let mut position = bench.core.journal.first_position();
        while let crate::log::Read::Frames(frames) = bench.core.journal.read(position, 1024) {
            position += frames.len() as u64;
            let data = frames.iter().filter(|f| f.kind().is_some_and(Kind::is_data));
            received.extend(data.map(|frame| frame.ts_recv.get()));
        }
        assert!(received.is_sorted(), "a stored receive time went back");
        seen.push(format!("{} frames", received.len()));
        (seen, received.last().copied().unwrap_or(0), bench.now.mono.0)
    };
    let hour = i64::try_from(HOUR_NS).unwrap();
    let (still, end, _) = run(0);
    assert_eq!((still[0].as_str(), still.len()), ("open", 4));
    for jump in [hour, -hour] {
        let (seen, jumped_end, ran_ns) = run(jump);
        assert_eq!(seen, still);
        let off_ns = jumped_end.abs_diff(end);
        assert!(off_ns > 0 && off_ns <= ran_ns, "receive times follow a step slowly: {off_ns}");
    }
}
