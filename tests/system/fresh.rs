//! A core that stands still, with the real kernel and real processes: its connections stay open, so only its silence
//! shows that nobody is fed. Whoever is connected is told, and no answer is complete.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::process::PATIENCE;
use super::system::{System, signal};

#[test]
fn a_core_whose_connections_outlive_it_is_told_and_no_answer_is_complete() {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let flags = ["trade.*", "--from", "1", "--format", "json"];
    let subscriber = system.place.start("subscribe", &flags);
    subscriber.stdout.wait_len(300);
    let symbol = super::process::json(&subscriber.stdout.all()[0])["symbol"].clone();
    let symbol = symbol.as_str().unwrap();
    // Not the price: core cannot answer for that.
    let history = ["--bars", "1m", "--deadline", "2s"];
    system.wait_report(symbol, &["--bars", "1m"], |_| true);

    let core = system.pid("core");
    signal(core, Signal::STOP);
    subscriber.stdout.wait_told("stale", Duration::from_secs(20));
    let report = system.retry("a report that names who is behind", || {
        let (code, report, finished) = system.report(symbol, &history);
        let behind = report.filter(|report| {
            let nodes = report["nodes"].as_array().unwrap();
            nodes.iter().any(|node| node["status"] == "behind")
        });
        match behind {
            Some(report) if code == 3 => Ok(report),
            _ => Err(format!("{finished:?}")),
        }
    });
    assert_eq!(report["complete"], Value::Bool(false), "{report}");
    assert!(!report["bars"].as_array().unwrap().is_empty(), "what it has is there: {report}");
    let nodes = report["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["status"] == "behind").unwrap();
    assert!(node["behind_s"].as_u64().unwrap() >= 3, "{report}");
    let table = system.place.run("report", &[&[symbol][..], &history].concat()).expect(3).stdout;
    let name = node["node"].as_str().unwrap();
    let is_named = |line: &String| line.starts_with(name) && line.contains("behind");
    assert!(table.iter().any(is_named), "{table:#?}");
    let denied = [&history[..], &["--partial", "deny"]].concat();
    let (code, report, finished) = system.report(symbol, &denied);
    assert_eq!((code, report), (4, None), "{finished:?}");

    signal(core, Signal::CONT);
    subscriber.stdout.wait_told("current", PATIENCE);
    subscriber.stdout.wait_len(subscriber.stdout.len() + 300);
    system.wait_report(symbol, &["--bars", "1m"], |_| true);
}
