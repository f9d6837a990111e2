//! One answer from many real nodes, each of which fails in every way that a process can while it is
//! asked: one answer, in time, that says what is missing, and a whole one when all is well again.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use pregao::client::Connection;
use pregao::question::Question;
use pregao::time::Clock;
use pregao::wire::{
    EndStatus, Ended, Frame, Kind, Metric, NodeAnswer, NodeStatus, Op, Query, Role, U32, U64,
    padded, unpadded,
};

use super::between::{Between, FAILURES, Manner, SLOW};
use super::process::{PATIENCE, Process};
use super::system::{Place, System};

const LEAVES: [&str; 4] = ["core", "shard-A", "shard-B", "shard-C"];

/// Of the questions on the wire.
const DEADLINE: Duration = Duration::from_millis(600);
/// What a machine that has other things to do may add to it.
const SLACK: Duration = Duration::from_secs(20);

/// Everything but waiting for a leaf's next chance is as configured by default.
const BREAKER: &str = "[breaker]\nwait_duration_in_open_state = \"150ms\"\n\
                       exponential_backoff_multiplier = 1.0\n";

/// A second aggregator of a running system, with somebody between it and every node.
struct Bench {
    between: BTreeMap<String, Between>,
    aggregator: Process,
    place: Place,
    system: System,
}

impl Bench {
    fn start(replicas: u16) -> Bench {
        let flags = ["--rate", "2000", "--chaos", "off", "--replicas", &replicas.to_string()];
        let system = System::start(&flags);
        let place = Place::new();
        let mut between = BTreeMap::new();
        let mut addresses = Vec::new();
        for copy in 0..replicas {
            for leaf in LEAVES {
                let name = if copy == 0 { leaf.to_owned() } else { format!("{leaf}.{copy}") };
                if copy > 0 {
                    system.wait_log(&name, "listens on");
                }
                let mut target = system.place.address(leaf);
                target.set_port(target.port() + copy * 10);
                let one = Between::start(target);
                addresses.push(format!("\"{}\"", one.address));
                between.insert(name, one);
            }
        }
        let copies: Vec<&[String]> = addresses.chunks(LEAVES.len()).collect();
        let mut net = format!(
            "[net]\naggregator = {}\nreplicas = {replicas}\ncore = {}\nshards = [{}]\n",
            place.address("aggregator").port(),
            copies[0][0],
            copies[0][1..].join(", ")
        );
        if let Some(second) = copies.get(1) {
            let shards = second[1..].join(", ");
            net += &format!("core_replicas = [{}]\nshard_replicas = [[{shards}]]\n", second[0]);
        }
        fs::write(place.config_file(), net + BREAKER).unwrap();
        let aggregator = place.start("aggregator", &[]);
        aggregator.stderr.wait("the aggregator listens", |lines| {
            lines.iter().any(|line| line.contains("listens on")).then_some(())
        });
        Bench { between, aggregator, place, system }
    }

    fn client(&self) -> Client {
        Client::new(self.place.address("aggregator"))
    }

    /// Asks until the answer is complete and has rows of all.
    fn wait_complete(&self, client: &mut Client) {
        self.system.retry("a complete answer", || {
            let answer = client.ask(Query::PARTIAL, PATIENCE / 4);
            let is_ok = |status: &NodeStatus| *status == NodeStatus::Ok;
            let all = LEAVES.iter().all(|leaf| answer.nodes.get(*leaf).is_some_and(is_ok));
            match answer.status {
                EndStatus::Complete if all && answer.rows > 0 => Ok(()),
                status => Err(format!("{status:?} {:?}", answer.nodes)),
            }
        });
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.aggregator.pid)).unwrap().count()
    }

    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.aggregator.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

struct Answer {
    status: EndStatus,
    nodes: BTreeMap<String, NodeStatus>,
    rows: u32,
    took: Duration,
}

/// Asks on one connection, and sees to it that nothing comes that was not asked for.
struct Client {
    connection: Connection,
    clock: Clock,
    next_id: u32,
}

impl Client {
    fn new(address: SocketAddr) -> Client {
        let clock = Clock::start();
        let connection =
            Connection::open("the aggregator", address, Role::Querier, PATIENCE, clock).unwrap();
        Client { connection, clock, next_id: 1 }
    }

    fn next(&mut self) -> Frame {
        let by = self.clock.now().mono + PATIENCE;
        self.connection.read(by).unwrap().expect("an answer, however late")
    }

    /// The last trades of every instrument and its quote: each node is asked.
    fn send(&mut self, options: u8, deadline: Duration) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let query = Query {
            id: U32::new(id),
            op: Op::Last as u8,
            options: options | Query::WITH_QUOTE,
            deadline_us: U32::new(u32::try_from(deadline.as_micros()).unwrap()),
            limit: U32::new(2),
            symbol: padded("*"),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        for frame in Question::new(&query).unwrap().frames() {
            self.connection.send_frame(&frame).unwrap();
        }
        id
    }

    fn ask(&mut self, options: u8, deadline: Duration) -> Answer {
        let sent = self.clock.now().mono;
        let id = self.send(options, deadline);
        let mut nodes = BTreeMap::new();
        loop {
            let frame = self.next();
            if let Some(node) = frame.view::<NodeAnswer>() {
                assert_eq!(node.id.get(), id, "a node of an answer that was over");
                let status = NodeStatus::from_number(node.status).unwrap();
                assert!(nodes.insert(unpadded(&node.name), status).is_none(), "named twice");
            } else if let Some(end) = frame.view::<Ended>() {
                assert_eq!(end.id.get(), id, "a second end");
                let took = self.clock.now().mono.since(sent);
                let status = EndStatus::from_number(end.status).unwrap();
                return Answer { status, nodes, rows: end.rows.get(), took };
            } else if let Some(id_of) = Connection::refused_id(&frame) {
                assert_eq!(id_of.get(), id, "{frame:?}");
            }
        }
    }

    fn figures(&mut self) -> BTreeMap<String, i64> {
        let id = U32::new(self.next_id);
        self.next_id += 1;
        self.connection.send(Query { id, op: Op::Status as u8, ..Query::default() }).unwrap();
        let mut figures = BTreeMap::new();
        loop {
            let frame = self.next();
            if let Some(metric) = frame.view::<Metric>() {
                figures.insert(unpadded(&metric.name), metric.value.get());
            } else if frame.kind() == Some(Kind::End) {
                return figures;
            }
        }
    }
}

/// What the first question to a node that fails so says about it: later ones may find its breaker open
/// or its connection gone.
fn is_first_status(manner: Manner, status: NodeStatus) -> bool {
    match manner {
        Manner::Refused | Manner::HalfAndClosed => status == NodeStatus::Refused,
        Manner::Garbage => matches!(status, NodeStatus::Failed | NodeStatus::Refused),
        _ => status == NodeStatus::Timeout,
    }
}

#[test]
fn every_node_fails_in_every_way_and_there_is_one_answer_in_time() {
    let bench = Bench::start(1);
    let mut client = bench.client();
    bench.wait_complete(&mut client);
    for (leaf, between) in &bench.between {
        for manner in FAILURES {
            between.be(manner);
            for (turn, options) in [(0, Query::PARTIAL), (1, Query::PARTIAL), (2, 0)] {
                let answer = client.ask(options, DEADLINE);
                let what = format!("{leaf} {manner:?} {turn}: {:?}", answer.nodes);
                assert!(answer.took < DEADLINE + SLACK, "{what}: {:?}", answer.took);
                let status = answer.nodes[leaf.as_str()];
                if turn == 0 {
                    // Who refuses is dialed again at once, so its breaker may be open by then.
                    assert!(is_first_status(manner, status) || manner == Manner::Refused, "{what}");
                }
                assert!(
                    !matches!(status, NodeStatus::Ok | NodeStatus::Pruned | NodeStatus::Spare),
                    "{what}"
                );
                let want = if options == 0 { EndStatus::Failed } else { EndStatus::Partial };
                assert_eq!(answer.status, want, "{what}");
            }
            let flags = ["*", "--last", "2", "--deadline", "1s", "--format", "json"];
            let strict = [&flags[..], &["--partial", "deny"]].concat();
            let list = bench.place.start("report", &flags);
            let strict = bench.place.run("report", &strict);
            assert_eq!((list.finish().code(), strict.code()), (3, 4), "{leaf} {manner:?}");
            between.be(Manner::Well);
            bench.wait_complete(&mut client);
        }
    }
}

#[test]
fn ten_thousand_queries_that_fail_leave_nothing_behind() {
    const EACH: usize = 10_000 / FAILURES.len() + 1;
    const OPEN: usize = 200;
    let bench = Bench::start(1);
    let mut client = bench.client();
    bench.wait_complete(&mut client);
    let look = |client: &mut Client| {
        let figures = client.figures();
        let is_state = |name: &str| {
            ["in_flight", "connections", "answer_frames_waiting"].contains(&name)
                || name.ends_with(".questions")
        };
        let state: BTreeMap<String, i64> =
            figures.into_iter().filter(|(name, _)| is_state(name)).collect();
        (state, bench.descriptors())
    };
    let before = look(&mut client);
    let mut memory_kib = Vec::new();
    for (number, manner) in FAILURES.into_iter().enumerate() {
        let between = &bench.between[LEAVES[number % LEAVES.len()]];
        between.be(manner);
        let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
        let mut open = 0;
        let mut sent = 0;
        while sent < EACH || open > 0 {
            while sent < EACH && open < OPEN {
                ends.insert(client.send(0, Duration::from_millis(40)), 0);
                (sent, open) = (sent + 1, open + 1);
            }
            if let Some(end) = client.next().view::<Ended>() {
                let status = EndStatus::from_number(end.status);
                assert_eq!(status, Some(EndStatus::Failed), "{manner:?}");
                *ends.get_mut(&end.id.get()).expect("an end of this load") += 1;
                open -= 1;
            }
        }
        assert!(ends.values().all(|count| *count == 1), "{manner:?}: each has one end");
        between.be(Manner::Well);
        bench.wait_complete(&mut client);
        memory_kib.push(bench.memory_kib());
    }
    bench.system.retry("nothing is left", || {
        let after = look(&mut client);
        if after == before { Ok(()) } else { Err(format!("{after:?} instead of {before:?}")) }
    });
    println!("resident KiB after {EACH} failed queries of each kind: {memory_kib:?}");
    let (first, last) = (memory_kib[0], memory_kib[memory_kib.len() - 1]);
    assert!(last < first + 32 * 1024, "{memory_kib:?}");
}

/// What questions one after the other took, in order of size.
fn times(client: &mut Client, count: usize) -> Vec<Duration> {
    let mut times: Vec<Duration> =
        (0..count).map(|_| client.ask(Query::PARTIAL, PATIENCE / 4).took).collect();
    times.sort_unstable();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[test]
fn slow_nodes_cost_the_slowest_one_and_a_replica_hides_it() {
    let bench = Bench::start(2);
    let mut client = bench.client();
    bench.system.retry("connections to all copies", || {
        client.ask(Query::PARTIAL, PATIENCE / 4);
        let figures = client.figures();
        match figures.get("connections") {
            Some(9..) => Ok(()),
            some => Err(format!("{some:?}")),
        }
    });
    let healthy = times(&mut client, 400);
    let counted = |client: &mut Client| {
        let figures = client.figures();
        ["gather.asked", "gather.hedged", "gather.hedges_denied"].map(|name| figures[name])
    };
    // One copy of one shard: the others hide it.
    let before = counted(&mut client);
    bench.between["shard-B"].be(Manner::Slow);
    let hidden = times(&mut client, 400);
    let after = counted(&mut client);
    let (asked, hedged) = (after[0] - before[0], after[1] - before[1]);
    println!(
        "p99 {:?} healthy, {:?} with a copy that is {SLOW:?} late; {hedged} of {asked} hedged",
        p99(&healthy),
        p99(&hidden)
    );
    assert!(p99(&hidden) < SLOW.max(p99(&healthy) * 2), "{:?}", p99(&hidden));
    assert!(hedged <= asked / 20 + 10, "{hedged} of {asked}");
    // Every copy of everything: the answer takes as long as one of them, not as long as all.
    for between in bench.between.values() {
        between.be(Manner::Slow);
    }
    let before = counted(&mut client);
    let slow = times(&mut client, 100);
    let after = counted(&mut client);
    let (asked, hedged) = (after[0] - before[0], after[1] - before[1]);
    let denied = after[2] - before[2];
    println!(
        "all {SLOW:?} late: p50 {:?}; {hedged} of {asked} hedged, {denied} denied",
        slow[slow.len() / 2]
    );
    assert!(slow[0] >= SLOW && slow[slow.len() / 2] < SLOW * 2, "{:?}", slow[slow.len() / 2]);
    assert!(hedged <= asked / 20 + 11, "the budget: {hedged} of {asked}");
}
