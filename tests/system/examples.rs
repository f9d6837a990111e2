//! The examples of the client library, each started once against a running system.

use std::path::{Path, PathBuf};
use std::process::Command;

use pregao::client::{Event, Request, Subscription};
use pregao::feed::Pattern;
use pregao::wire::{Seq, Trade};
use serde_json::Value;

use super::process::{Finished, PROGRAM, Process};
use super::system::System;

/// The executables, built as far as they are not: a test binary that is run alone does not build them.
fn built() -> impl Fn(&str) -> PathBuf {
    // The program is in a folder of its profile, in the target folder.
    let target = Path::new(PROGRAM).parent().and_then(Path::parent).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--examples", "--offline", "--locked", "--message-format=json"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let messages: Vec<Value> = lines.lines().map(super::process::json).collect();
    move |name| {
        let is_it =
            |it: &&Value| it["target"]["kind"][0] == "example" && it["target"]["name"] == name;
        let executable = messages.iter().find(is_it).and_then(|it| it["executable"].as_str());
        PathBuf::from(executable.unwrap_or_else(|| panic!("no example {name}")))
    }
}

/// Where a node is, as a flag.
fn at(system: &System, node: &str) -> String {
    format!("--{node}={}", system.place.address(node))
}

fn run(example: PathBuf, arguments: &[&str], addresses: &[String]) -> Finished {
    Process::of(Command::new(example).args(arguments).args(addresses)).finish().expect(0)
}

fn count(finished: &Finished, what: impl Fn(&str) -> bool) -> usize {
    finished.stdout.iter().filter(|line| what(line)).count()
}

#[test]
fn every_example_runs_against_a_system_prints_and_ends() {
    let example = built();
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    // As many trades as the example asks for: a slow machine needs a while to have them.
    let has_five = |report: &serde_json::Value| {
        report["history"].as_array().is_some_and(|trades| trades.len() == 5)
    };
    system.wait_report("PETR4", &["--last", "5"], |report| {
        report["complete"] == true && has_five(report)
    });
    let [broker, core, aggregator] = ["broker", "core", "aggregator"].map(|it| at(&system, it));

    let follow = ["PETR*", "VALE3", "--count", "20"];
    let followed = run(example("follow"), &follow, &[broker.clone(), core.clone()]);
    let event = |line: &str| line.contains(" trade ") || line.contains(" quote ");
    assert_eq!(count(&followed, event), 20, "{followed:?}");
    assert_eq!(count(&followed, |line| line.starts_with("live from seq ")), 1, "{followed:?}");
    assert_eq!(count(&followed, |line| line.starts_with("lost")), 0, "{followed:?}");

    let ask = ["PETR4", "--last", "5", "--count", "2", "--deadline-ms", "10000"];
    let asked = run(example("ask"), &ask, std::slice::from_ref(&aggregator));
    for what in ["quote: Complete; core Ok", "trades: Complete; shard-"] {
        assert_eq!(count(&asked, |line| line.starts_with(what)), 2, "{what}: {asked:?}");
    }
    assert_eq!(count(&asked, |line| line.contains("bid ")), 2, "{asked:?}");
    assert_eq!(count(&asked, |line| line.contains("(seq ")), 10, "{asked:?}");

    let bars = ["*", "--seconds", "1", "--count", "3"];
    let barred = run(example("bars"), &bars, &[broker.clone(), core.clone(), aggregator]);
    assert_eq!(count(&barred, |line| line.contains(": open ")), 3, "{barred:?}");

    let produce = |count| {
        let flags = ["IRON", "--every-ms", "1", "--count", count];
        run(example("produce"), &flags, std::slice::from_ref(&core)).stdout
    };
    assert_eq!(produce("5"), ["core has 0 trades of this feed", "all 5 trades are durable"]);
    assert_eq!(produce("8"), ["core has 5 trades of this feed", "all 8 trades are durable"]);

    let publish = ["GOLD", "--source", "7", "--count", "5", "--every-ms", "1"];
    let published = run(example("publish"), &publish, &[broker]);
    let last = "the broker accepted everything before seq 7";
    assert_eq!(published.stdout.last().map(String::as_str), Some(last), "{published:?}");
    let gold = vec![Pattern::new("GOLD", 0).unwrap()];
    let request = Request { source: 7, from_seq: Some(Seq::FIRST), ..Request::market(gold) };
    let place = &system.place;
    let events = Subscription::open(place.address("broker"), place.address("core"), request);
    let trades = events.unwrap().filter_map(|event| match event.unwrap() {
        Event::Data(frame) => frame.view::<Trade>().map(|trade| trade.price.get()),
        _ => None,
    });
    let prices: Vec<i64> = trades.take(5).collect();
    let first = 2_650_500_000_000;
    let wanted: Vec<i64> = (0..5).map(|cents| first + cents * 10_000_000).collect();
    assert_eq!(prices, wanted);
}
