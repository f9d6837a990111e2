//! Recorded sessions, whose totals are known: nothing is lost, doubled or invented on the way,
//! however the exchange misbehaves and however often the system starts.

use serde_json::Value;

use super::market::check_trades;
use super::system::System;

/// One whole session of AMZN on Nasdaq; `tests/data/PROVENANCE.md` has the totals.
pub(crate) const AMZN: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/amzn-2012-06-21.mbp-1.dbn.zst");
/// Four minutes of a future.
pub(crate) const ESU4: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/esu4-2024-07-01.mbp-1.dbn.zst");

pub(crate) const AMZN_TRADES: u64 = 11_419;
const AMZN_SHARES: u64 = 810_755;
const AMZN_BARS: usize = 387;
/// Sum of price × quantity in units of 1e-9 dollars.
const AMZN_NOTIONAL: i128 = 180_502_248_915_000_000;
const ESU4_TRADES: u64 = 120;

/// A price of a report in units of 1e-9.
fn price(text: &Value) -> i128 {
    let text = text.as_str().unwrap();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<9}").parse().unwrap()
}

/// Subscribes to all trades from the first and checks that each comes once and in order.
pub(crate) fn all_trades_come_once(system: &System, pattern: &str, count: u64) {
    let count = count.to_string();
    let flags = [pattern, "--from", "1", "--count", &count, "--format", "json"];
    let trades = system.place.run("subscribe", &flags).expect(0);
    assert!(trades.stderr.is_empty(), "{:?}", trades.stderr);
    let mut counts = check_trades(&trades.stdout);
    assert_eq!(counts.remove("AMZN"), Some(AMZN_TRADES));
    assert!(counts.values().all(|&count| count == ESU4_TRADES), "{counts:?}");
}

/// Asks for the session in bars until all of it is there, and checks the totals.
pub(crate) fn the_bars_add_up(system: &System) {
    let sum = |bars: &Value, key: &str| -> u64 {
        bars.as_array().unwrap().iter().map(|bar| bar[key].as_u64().unwrap()).sum()
    };
    let report = system.wait_report("AMZN", &["--bars", "1m"], |report| {
        sum(&report["bars"], "trades") >= AMZN_TRADES
    });
    assert_eq!(report["complete"], true);
    let bars = report["bars"].as_array().unwrap();
    assert_eq!(bars.len(), AMZN_BARS);
    assert_eq!(sum(&report["bars"], "trades"), AMZN_TRADES);
    assert_eq!(sum(&report["bars"], "volume"), AMZN_SHARES);
    assert_eq!(
        (&bars[0]["open"], &bars[AMZN_BARS - 1]["close"]),
        (&"223.82".into(), &"220.51".into())
    );
    let prices = |key: &'static str| bars.iter().map(move |bar| price(&bar[key]));
    assert_eq!(prices("high").max(), Some(226_030_000_000));
    assert_eq!(prices("low").min(), Some(220_510_000_000));
    let notional = |bar: &Value| price(&bar["vwap"]) * i128::from(bar["volume"].as_u64().unwrap());
    let notional: i128 = bars.iter().map(notional).sum();
    // Each VWAP is cut to nine decimals: less than one unit a share.
    assert!((notional - AMZN_NOTIONAL).abs() <= i128::from(AMZN_SHARES), "{notional}");
    let starts: Vec<u64> = bars.iter().map(|bar| bar["start"].as_u64().unwrap()).collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "a minute came twice");
}

#[test]
fn a_session_adds_up() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    the_bars_add_up(&system);
}

#[test]
fn live_bars_equal_the_bars_of_history() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    the_bars_add_up(&system);
    let report = system.wait_report("AMZN", &["--bars", "1m"], |_| true);
    let want: Vec<&Value> = report["bars"].as_array().unwrap().iter().collect();
    let count = AMZN_BARS.to_string();
    let flags = ["bar.1m.AMZN", "--from", "1", "--count", &count, "--format", "json"];
    let told = system.place.run("subscribe", &flags).expect(0).stdout;
    let told: Vec<Value> = told.iter().map(|line| super::process::json(line)).collect();
    assert_eq!(told.len(), AMZN_BARS);
    for (live, want) in told.iter().zip(want) {
        // Only a report can cut a bar.
        for (key, value) in want.as_object().unwrap().iter().filter(|(key, _)| *key != "cut") {
            assert_eq!(&live[key], value, "{key} of {live}");
        }
        assert_eq!((&live["kind"], &live["symbol"]), (&"bar".into(), &"AMZN".into()));
        assert_eq!(live["flags"], Value::Array(Vec::new()), "none late, none incomplete");
    }
}

/// Two tapes under this misbehaviour.
fn merged(chaos: &[&str]) {
    let flags = [&["--tape", AMZN, ESU4, "--speed", "max"], chaos].concat();
    let system = System::start(&flags);
    all_trades_come_once(&system, "trade.*", AMZN_TRADES + ESU4_TRADES);
    the_bars_add_up(&system);
}

#[test]
fn refusals_and_stalls_cost_nothing_but_time() {
    merged(&[]);
}

#[test]
fn broken_garbled_and_lost_frames_are_all_mended() {
    let chaos =
        "refuse=0.2,stall=0.2,stall-for=200ms,drop=0.0003,garbage=0.0002,lose=0.0005,seed=7";
    merged(&["--chaos", chaos]);
}

#[test]
fn a_restart_in_the_middle_doubles_nothing_and_goes_on() {
    let tape = ["--tape", AMZN, "--chaos", "off", "--speed"];
    // The session is 6.5 hours long: some ten seconds at this speed.
    let system = System::start(&[&tape[..], &["2000"]].concat());
    let flags = ["trade.AMZN", "--from", "1", "--count", "3000", "--format", "json"];
    let seen = system.place.run("subscribe", &flags).expect(0).stdout;
    let place = system.stop();
    let system = System::start_at(place, &[&tape[..], &["max"]].concat());
    let again = system.place.run("subscribe", &flags).expect(0).stdout;
    let without_delivery = |lines: &[String]| -> Vec<Value> {
        let frames = lines.iter().map(|line| super::process::json(line));
        frames
            .map(|mut frame| {
                frame["flags"].take();
                frame
            })
            .collect()
    };
    assert!(without_delivery(&seen) == without_delivery(&again), "what was seen has changed");
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    the_bars_add_up(&system);
    let end = |system: &System| system.status()["core"]["figures"]["next_seq"].clone();
    let first_end = end(&system);

    // And once more, after the end.
    let system = System::start_at(system.stop(), &[&tape[..], &["max"]].concat());
    system.wait_well();
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    the_bars_add_up(&system);
    assert_eq!(end(&system), first_end, "the tape was journaled again");
}

/// What the exchange said, of every quote, trade and cancellation in a data directory.
fn told(place: &super::system::Place) -> Vec<[String; 9]> {
    let dir = place.data_dir();
    let arguments = ["dump", dir.to_str().unwrap(), "--format", "json", "--symbol", "AMZN"];
    let frames = super::process::Process::start(&arguments).finish().expect(0).json();
    let keys =
        ["kind", "symbol", "ts_event", "price", "qty_text", "side", "bid", "ask", "bid_qty_text"];
    let is_markets = |frame: &&Value| frame["kind"] != "breaker";
    let row = |frame: &Value| keys.map(|key| frame[key].to_string());
    frames.iter().filter(is_markets).map(row).collect()
}

#[test]
fn a_journal_is_replayed_quote_for_quote_and_trade_for_trade() {
    let first = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    the_bars_add_up(&first);
    let first = first.stop();
    let journal = first.data_dir();
    let journal = journal.to_str().unwrap();
    // Under misbehaviour, as a client would want it.
    let second = System::start(&["--tape", journal, "--speed", "max"]);
    the_bars_add_up(&second);
    let second = second.stop();
    let (recorded, replayed) = (told(&first), told(&second));
    assert!(recorded.len() > 20_000);
    assert!(recorded == replayed, "{} frames of {}", replayed.len(), recorded.len());
    // What is asked of it in vain is said.
    let day = ["--tape", journal, "--from", "2012-06-21", "--to", "2012-06-21"];
    let refused = second.run("external", &day).expect(2);
    assert!(refused.stderr[0].contains("nothing lies between them"), "{:?}", refused.stderr);
    let refused = second.run("external", &["--tape", journal, "--symbol", "NOBODY"]).expect(5);
    let is_told = |line: &String| line.contains("hold no quote and no trade");
    assert!(refused.stderr.iter().any(is_told), "{:?}", refused.stderr);
}

/// Plays the tape to its end. What was told of it, in no order: an export does not say in which order events of one moment
/// came.
fn played(tape: &std::path::Path) -> Vec<[String; 9]> {
    let tape = tape.to_str().unwrap();
    let system = System::start(&["--tape", tape, "--speed", "max", "--chaos", "off"]);
    the_bars_add_up(&system);
    let mut told = told(&system.stop());
    told.sort();
    told
}

#[test]
fn what_is_exported_and_what_is_subscribed_to_are_the_same_market_again() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    the_bars_add_up(&system);
    let last = system.status()["core"]["figures"]["next_seq"].as_u64().unwrap();
    let flags = ["AMZN", "--from", "1", "--count", &(last / 2).to_string(), "--format", "json"];
    let lines = system.place.run("subscribe", &flags).expect(0).stdout;
    let place = system.stop();
    let mut want = told(&place);
    want.sort();
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    let data = place.data_dir();
    let arguments = ["export", data.to_str().unwrap(), "--format", "csv", "--out"];
    let arguments = [&arguments[..], &[export.to_str().unwrap()]].concat();
    super::process::Process::start(&arguments).finish().expect(0);
    let again = played(&export);
    assert!(again == want, "{} frames of {}", again.len(), want.len());
    // Half a day of what a subscriber has seen: it begins as the whole does.
    let file = dir.path().join("seen");
    std::fs::write(&file, format!("{}\n", lines.join("\n"))).unwrap();
    let tape = ["--tape", file.to_str().unwrap(), "--speed", "max", "--chaos", "off"];
    let system = System::start(&tape);
    let quotes_and_trades = lines.iter().filter(|line| !line.contains("\"definition\"")).count();
    let seen =
        ["AMZN", "--from", "1", "--count", &quotes_and_trades.to_string(), "--format", "json"];
    let again = system.place.run("subscribe", &seen).expect(0).stdout;
    let keys = [
        "kind", "symbol", "ts_event", "price", "qty", "side", "trade_id", "bid", "ask", "bid_qty",
        "ask_qty",
    ];
    let rows = |lines: &[String]| -> Vec<[String; 11]> {
        let frames = lines.iter().map(|line| super::process::json(line));
        let frames = frames.filter(|frame| frame["kind"] != "definition");
        frames.map(|frame| keys.map(|key| frame[key].to_string())).collect()
    };
    let (seen, again) = (rows(&lines), rows(&again));
    assert!(seen == again, "{} lines of {}", again.len(), seen.len());
}
