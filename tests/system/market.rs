//! What a user sees first: seven nodes, a feed, and reports on it.

use serde_json::Value;

pub(crate) use super::checks::check_trades;
use super::system::{NODES, System};

/// Seven nodes, five frames, an answer about one of the symbols, and a refusal about another.
fn shows_a_market(system: &System) {
    system.wait_well();
    let status = system.status();
    let mut nodes: Vec<&String> = status.keys().collect();
    nodes.sort_by_key(|node| NODES.iter().position(|it| it == node));
    assert_eq!(nodes, NODES);

    let table = system.place.run("subscribe", &["--count", "5"]).expect(0);
    assert!(table.stdout.len() >= 5 && table.stderr.is_empty(), "{table:?}");
    let frames = system.place.run("subscribe", &["--count", "5", "--format", "json"]).expect(0);
    assert_eq!(frames.stdout.len(), 5);
    for frame in frames.json() {
        assert!(["quote", "trade", "cancel"].contains(&frame["kind"].as_str().unwrap()), "{frame}");
    }

    let trade = system.place.run("subscribe", &["trade.*", "--count", "1", "--format", "json"]);
    let trade = trade.expect(0).json().remove(0);
    let symbol = trade["symbol"].as_str().unwrap();
    let rows = |report: &Value| report["history"].as_array().unwrap().len();
    let report = system.wait_report(symbol, &["--last", "1"], |report| rows(report) == 1);
    assert_eq!((&report["symbol"], &report["complete"]), (&trade["symbol"], &Value::Bool(true)));
    assert_eq!(report["history"][0]["symbol"], trade["symbol"]);

    let unknown = system.place.run("report", &["NOSUCH", "--deadline", "10s"]).expect(4);
    assert_eq!(unknown.stderr.len(), 1, "{unknown:?}");
    assert!(unknown.stderr[0].starts_with("error: NOSUCH: "), "{unknown:?}");
}

#[test]
fn the_default_market_is_seen_from_all_sides() {
    shows_a_market(&System::start(&["--chaos", "off"]));
}

#[test]
fn the_default_misbehaviour_is_not_seen_by_anybody() {
    shows_a_market(&System::start(&[]));
}

/// Who waits in vain is told so, and what may have been meant.
#[test]
fn a_subscription_without_an_instrument_says_so() {
    let system = System::start(&["--chaos", "off"]);
    system.wait_well();
    let waits: Vec<_> = ["quote.petr4", "bar.1m.petr4"]
        .map(|pattern| system.place.start("subscribe", &[pattern, "--for", "60s"]))
        .into();
    for wait in waits {
        wait.wait_log(
            "no instrument matches so far, waiting for one that does; did you mean PETR4?",
        );
    }
}

#[test]
fn who_joins_in_the_middle_of_a_bar_gets_all_of_it() {
    let system = System::start(&["--chaos", "off"]);
    system.wait_well();
    let flags = ["bar.2s.*", "bar.5s.*", "--count", "12", "--format", "json"];
    // All bars end at once, so a machine that is late for one may be late for all of them: then another time.
    system.retry("bars that lack no trades", || {
        // Another exit would say that the beginning of a bar was missing.
        let told = system.place.run("subscribe", &flags).expect(0).json();
        assert_eq!(told.len(), 12);
        let whole = told.iter().filter(|live| is_reported_whole(&system, live)).count();
        if whole >= 9 { Ok(()) } else { Err(format!("{whole} of 12")) }
    });
}

/// Whether a live bar is what history says of it. It may lack trades at its end: told when its time had passed
/// on the clock, while a slow machine still held some back, it would have come again.
fn is_reported_whole(system: &System, live: &Value) -> bool {
    let seconds = live["interval_ns"].as_u64().unwrap() / 1_000_000_000;
    let flags = ["--bars", &format!("{seconds}s"), "--deadline", "10s"];
    let symbol = live["symbol"].as_str().unwrap();
    system.retry(&format!("the bar {live}"), || {
        let (_, report, finished) = system.report(symbol, &flags);
        let report = report.ok_or_else(|| format!("{finished:?}"))?;
        let bars = report["bars"].as_array().ok_or("no bars")?;
        let bar = bars.iter().find(|bar| bar["start"] == live["start"]).ok_or("none")?;
        // Only a report can cut a bar.
        let is_same = bar.as_object().unwrap().iter().all(|(k, v)| k == "cut" || live[k] == *v);
        let is_early =
            bar["open"] == live["open"] && bar["trades"].as_u64() > live["trades"].as_u64();
        if is_same || is_early { Ok(is_same) } else { Err(bar.to_string()) }
    })
}
