//! Copies of shards and of the node that answers quotes: one that is stopped is not missed, one that
//! was killed catches up, and two with the same history give the same bytes.

use std::net::SocketAddr;
use std::time::Duration;

use pregao::client::Connection;
use pregao::question::Question;
use pregao::time::Clock;
use pregao::wire::{Ended, Frame, Kind, Op, Query, QueryMore, Role, Seq, U32, U64, padded};
use rustix::process::Signal;
use serde_json::Value;

use super::system::{System, signal};

const REPLICAS: [&str; 4] = ["core.1", "shard-A.1", "shard-B.1", "shard-C.1"];

fn start() -> System {
    let system = System::start(&["--rate", "3000", "--chaos", "off", "--replicas", "2"]);
    for replica in REPLICAS {
        system.wait_log(replica, "listens on");
    }
    system
}

fn share<'a>(report: &'a Value, node: &str) -> &'a str {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().find(|it| it["node"] == node).unwrap()["status"].as_str().unwrap()
}

/// A symbol that trades, and the letter of its shard.
fn a_symbol(system: &System) -> (String, String) {
    let trade = system.place.run("subscribe", &["trade.*", "--count", "1", "--format", "json"]);
    let symbol = trade.expect(0).json()[0]["symbol"].as_str().unwrap().to_owned();
    let report = system.wait_report(&symbol, &["--last", "1"], |_| true);
    let owner = ["A", "B", "C"]
        .into_iter()
        .find(|letter| share(&report, &format!("shard-{letter}")) != "pruned")
        .unwrap();
    (symbol, owner.to_owned())
}

/// Stopped until it is dropped.
struct Frozen(i32);

impl Frozen {
    fn new(system: &System, node: &str) -> Frozen {
        let pid = system.pid(node);
        signal(pid, Signal::STOP);
        Frozen(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

#[test]
fn a_stopped_shard_or_core_with_a_replica_is_not_missed() {
    let system = start();
    let (symbol, owner) = a_symbol(&system);
    let [first, second] = [format!("shard-{owner}"), format!("shard-{owner}.1")];
    let strict = ["--last", "5", "--partial", "deny", "--deadline", "10s", "--explain"];
    for node in [&first, &second] {
        // Both have connections to the aggregator before one of them stops.
        let ready = system.place.run("status", &["--verbose", "--deadline", "10s"]).expect(0);
        assert!(ready.stdout.iter().any(|line| line.contains(node.as_str())), "{ready:?}");
        let frozen = Frozen::new(&system, node);
        for _ in 0..5 {
            let finished = system.place.run("report", &[&[symbol.as_str()][..], &strict].concat());
            let finished = finished.expect(0);
            assert!(finished.stdout.iter().any(|line| line.contains(node.as_str())));
        }
        drop(frozen);
        system.wait_report(&symbol, &["--last", "5"], |_| true);
    }
    // The quote is had from the other node, stale or not; and with both copies gone it is a hole.
    let both = [Frozen::new(&system, &first), Frozen::new(&system, &second)];
    let (code, report, finished) = system.report(&symbol, &["--last", "5", "--deadline", "2s"]);
    assert_eq!(code, 3, "{finished:?}");
    let report = report.unwrap();
    for node in [&first, &second] {
        assert!(["timeout", "breaker-open", "spare"].contains(&share(&report, node)), "{report}");
    }
    let flags = ["--last", "5", "--deadline", "1s", "--partial", "deny"];
    let (code, report, _) = system.report(&symbol, &flags);
    assert_eq!((code, report), (4, None));
    drop(both);
    system.wait_report(&symbol, &["--last", "5"], |report| report["complete"] == true);
    let core = Frozen::new(&system, "core");
    let (code, report, finished) = system.report(&symbol, &["--last", "0", "--deadline", "10s"]);
    assert!(code == 0 && report.unwrap()["quote"].is_object(), "{finished:?}");
    drop(core);
}

/// A frame, but for what an END says of how far its node is behind.
fn undated(frame: &Frame) -> Frame {
    match frame.view::<Ended>() {
        Some(end) => Frame::seal(Ended { behind_ms: U32::ZERO, ..*end }),
        None => *frame,
    }
}

/// All frames of the answer to a question at one node.
fn answer(address: SocketAddr, question: &Question) -> Vec<Frame> {
    let clock = Clock::start();
    let wait = Duration::from_secs(20);
    let mut connection =
        Connection::open("a shard", address, Role::Querier, wait, clock).expect("it is there");
    for frame in question.frames() {
        if let Some(query) = frame.view::<Query>() {
            connection.send(*query).unwrap();
        } else if let Some(more) = frame.view::<QueryMore>() {
            connection.send(*more).unwrap();
        }
    }
    let mut frames = Vec::new();
    loop {
        let frame = connection.read(clock.now().mono + wait).unwrap().expect("an answer in time");
        if frame.kind() == Some(Kind::Heartbeat) {
            continue;
        }
        frames.push(frame);
        if matches!(frame.kind(), Some(Kind::End | Kind::Error)) {
            return frames;
        }
    }
}

#[test]
fn a_replica_that_was_killed_catches_up_and_answers_byte_for_byte_the_same() {
    let system = start();
    let (symbol, owner) = a_symbol(&system);
    let [first, second] = [format!("shard-{owner}"), format!("shard-{owner}.1")];
    for (node, op, limit) in
        [(&second, Op::Range, 0), (&second, Op::Bars, 1), (&first, Op::Last, 7)]
    {
        system.kill_only(node);
        // What happens while it is away is what it has to catch up with.
        system.place.run("subscribe", &["trade.*", "--count", "500"]).expect(0);
        let flags = ["--format", "json", "--deadline", "10s", "--replicas", "2"];
        let status = system.place.run("status", &flags).json();
        let other = if node == &second { &first } else { &second };
        let said = status.iter().find(|said| said["node"] == other.as_str()).unwrap();
        let cut = said["figures"]["next_seq"].as_u64().expect("it says how far it is");
        system.wait_started_again(node);
        let query = Query {
            id: U32::new(1),
            op: op as u8,
            deadline_us: U32::new(15_000_000),
            limit: U32::new(limit),
            symbol: padded("*"),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        let question = Question::new(&query).unwrap().cut_at(Seq::new(cut));
        let base = system.place.address(&first);
        let beside = SocketAddr::new(base.ip(), base.port() + 10);
        let [one, two] = [base, beside].map(|address| answer(address, &question));
        // How far behind core a copy is, is its own.
        let [one, two] = [one, two].map(|frames| frames.iter().map(undated).collect::<Vec<_>>());
        assert_eq!(one.last().unwrap().kind(), Some(Kind::End), "{:?}", one.last());
        assert!(one.len() > 10, "{op:?}");
        assert!(one == two, "{op:?}: {} and {} frames", one.len(), two.len());
    }
    let report = system.wait_report(&symbol, &["--last", "3", "--as-of", "same"], |_| true);
    assert_eq!(report["history"].as_array().unwrap().len(), 3);
}

#[test]
fn figures_over_all_symbols_are_refused_when_a_part_is_missing() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let (_, owner) = a_symbol(&system);
    let flags = ["*", "--format", "json", "--deadline", "5s"];
    let run = |more: &[&str]| system.place.run("report", &[&flags[..], more].concat());
    let average = system.retry("an average", || {
        let finished = run(&["--average"]);
        if finished.code() == 0 { Ok(finished) } else { Err(format!("{finished:?}")) }
    });
    let average = &average.json()[0];
    assert_eq!((&average["figure"], &average["complete"]), (&"average".into(), &Value::Bool(true)));
    let movers = run(&["--movers", "3"]).expect(0).json().remove(0);
    assert_eq!(movers["movers"].as_array().unwrap().len(), 3, "{movers}");
    let frozen = Frozen::new(&system, &format!("shard-{owner}"));
    let flags = ["--movers", "3", "--deadline", "1s"];
    let refused = system.place.run("report", &[&["*"][..], &flags].concat()).expect(4);
    assert!(refused.stderr[0].contains(&format!("shard-{owner} ")), "{refused:?}");
    let allowed = [&["*"][..], &flags, &["--partial", "allow", "--format", "json"]].concat();
    let partial = system.place.run("report", &allowed).expect(3).json().remove(0);
    assert_eq!(partial["complete"], false, "{partial}");
    // Lists: one object for each symbol, all of one answer.
    drop(frozen);
    let symbols = movers["movers"].as_array().unwrap();
    let names: Vec<&str> = symbols.iter().map(|it| it["symbol"].as_str().unwrap()).collect();
    let list = [&names[..], &["--last", "2", "--format", "json"]].concat();
    system.retry("a list", || {
        let finished = system.place.run("report", &list);
        let of_rows = |it: &Value| it["history"].as_array().map_or(0, Vec::len);
        let rows: Vec<usize> = finished.json().iter().map(of_rows).collect();
        if rows == [2, 2, 2] { Ok(()) } else { Err(format!("{finished:?}")) }
    });
}
