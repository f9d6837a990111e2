//! Nodes that die or stand still in the middle of it: who reads the feed notices nothing, who asks
//! is told what is missing, and in the end nothing is missing.

use rustix::process::Signal;
use serde_json::Value;

use super::checks::{check_trades, history_has};
use super::system::{NODES, System, signal};
use super::tapes::{self, AMZN};

#[test]
fn a_lossless_subscriber_notices_no_crash_and_history_has_it_all() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);
    let goes_on = || subscriber.stdout.wait_len(subscriber.stdout.len() + 100);
    goes_on();
    for node in ["broker", "core", "external", "shard-A", "shard-B", "shard-C", "aggregator"] {
        system.kill(node);
        goes_on();
    }
    // Together, and the one that writes twice.
    for node in ["core", "broker", "shard-B"] {
        system.kill_only(node);
    }
    for node in ["core", "broker", "shard-B"] {
        system.wait_started_again(node);
    }
    goes_on();
    system.wait_well();
    assert!(subscriber.stderr.all().is_empty(), "{:?}", subscriber.stderr.all());
    let seen = subscriber.end();
    let counts = check_trades(&seen);
    println!("{} trades of {} symbols through ten crashes", seen.len(), counts.len());
    history_has(&system, &seen);
}

#[test]
fn a_session_adds_up_although_nodes_die() {
    // The session is 6.5 hours long: some ten seconds at this speed, if nobody died.
    let system = System::start(&["--tape", AMZN, "--speed", "2000", "--chaos", "off"]);
    let flags = ["trade.AMZN", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);
    for (count, node) in ["core", "external", "broker", "shard-A", "shard-C"].iter().enumerate() {
        subscriber.stdout.wait_len(500 * (count + 1));
        system.kill(node);
    }
    drop(subscriber);
    tapes::all_trades_come_once(&system, "trade.AMZN", tapes::AMZN_TRADES);
    tapes::the_bars_add_up(&system);
}

/// A node that stands still until this is dropped.
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

/// What a report says about a node.
fn share<'a>(report: &'a Value, node: &str) -> &'a str {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().find(|it| it["node"] == node).unwrap()["status"].as_str().unwrap()
}

/// Two symbols that different shards own, each with its owner.
fn two_owners(system: &System) -> [(String, String); 2] {
    let flags = ["trade.*", "--from", "1", "--count", "300", "--format", "json"];
    let trades = system.place.run("subscribe", &flags).expect(0);
    let mut owners: Vec<(String, String)> = Vec::new();
    for symbol in check_trades(&trades.stdout).into_keys() {
        let report = system.wait_report(&symbol, &["--last", "1"], |_| true);
        let shards = NODES.iter().filter(|node| node.starts_with("shard"));
        let owner = shards.copied().find(|&shard| share(&report, shard) == "ok").unwrap();
        if owners.iter().all(|(_, other)| other != owner) {
            owners.push((symbol, owner.to_owned()));
        }
        if let [one, other] = &owners[..] {
            return [one.clone(), other.clone()];
        }
    }
    panic!("all symbols belong to {owners:?}")
}

#[test]
fn a_frozen_shard_is_named_and_misses_nothing() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let [(symbol, owner), (other, _)] = two_owners(&system);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);

    let frozen = Frozen::new(&system, &owner);
    let (code, report, _) = system.report(&symbol, &["--last", "5", "--deadline", "3s"]);
    let report = report.unwrap();
    assert_eq!((code, &report["complete"]), (3, &Value::Bool(false)), "{report}");
    assert_eq!(share(&report, &owner), "timeout", "{report}");
    assert!(report["quote"].is_object(), "the quote is not the shard's: {report}");
    // Who does not want a part of the list gets none, and nobody gets a part of a sum.
    for flags in [&["--last", "5", "--partial", "deny"][..], &["--bars", "1m"]] {
        let (code, report, finished) =
            system.report(&symbol, &[flags, &["--deadline", "3s"]].concat());
        assert_eq!((code, report), (4, None), "{finished:?}");
        assert!(finished.stderr.len() == 1 && finished.stderr[0].contains(&owner), "{finished:?}");
    }
    system.wait_report(&other, &["--last", "5"], |report| report["complete"] == true);
    let status = system.place.run("status", &["--deadline", "3s", "--format", "json"]).expect(3);
    for node in status.json() {
        let is_frozen = node["node"] == *owner;
        assert_eq!(node["status"], if is_frozen { "timeout" } else { "ok" }, "{node}");
        let waited_ms = node["elapsed_us"].as_u64().unwrap() / 1000;
        assert!(!is_frozen || waited_ms >= 3000, "{node}");
    }
    subscriber.stdout.wait_len(subscriber.stdout.len() + 500);
    drop(frozen);

    system.wait_report(&symbol, &["--bars", "1m"], |report| report["complete"] == true);
    let seen = subscriber.end();
    check_trades(&seen);
    history_has(&system, &seen);
}

#[test]
fn a_shard_that_keeps_dying_is_named_and_misses_nothing() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let [(symbol, owner), _] = two_owners(&system);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);
    subscriber.stdout.wait_len(300);
    // Each restart waits twice as long, so that even a slow machine asks in time.
    system.retry("a report without its shard", || {
        system.kill_only(&owner);
        let (code, report, finished) =
            system.report(&symbol, &["--last", "5", "--deadline", "100ms"]);
        let missed =
            code == 3 && ["refused", "breaker-open"].contains(&share(&report.unwrap(), &owner));
        system.wait_started_again(&owner);
        if missed { Ok(()) } else { Err(format!("{finished:?}")) }
    });
    let seen = subscriber.end();
    check_trades(&seen);
    history_has(&system, &seen);
}
