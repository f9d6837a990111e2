//! What must hold of what a subscriber has seen, whatever happened meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

use super::process::json;
use super::system::System;

/// The trades of a subscription, checked: nothing was lost, each instrument's own numbers rise one
/// by one from 1, and `seq` rises. Gives the number of trades by symbol.
pub(crate) fn check_trades<'a>(
    lines: impl IntoIterator<Item = &'a String>,
) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_seq = 0;
    for line in lines {
        let trade = json(line);
        assert_eq!(trade["kind"], "trade", "{line}");
        let seq = trade["seq"].as_u64().unwrap();
        assert!(seq > last_seq, "after seq {last_seq}: {line}");
        last_seq = seq;
        let count = counts.entry(trade["symbol"].as_str().unwrap().to_owned()).or_default();
        *count += 1;
        assert_eq!(trade["instrument_seq"].as_u64(), Some(*count), "{line}");
    }
    counts
}

/// A frame without the flags that say how it was delivered.
pub(crate) fn frame(mut frame: Value) -> Value {
    frame["flags"].take();
    frame
}

/// Whatever a subscriber saw is in the history, and equal.
pub(crate) fn history_has(system: &System, seen: &[String]) {
    let mut by_symbol: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in seen {
        let trade = json(line);
        let symbol = trade["symbol"].as_str().unwrap().to_owned();
        by_symbol.entry(symbol).or_default().push(frame(trade));
    }
    assert!(by_symbol.len() > 1, "one symbol is too easy: {:?}", by_symbol.keys());
    for (symbol, seen) in by_symbol {
        let to = seen.last().unwrap()["ts_event"].as_u64().unwrap() + 1;
        let rows = |report: &Value| report["history"].as_array().unwrap().len();
        let report = system
            .wait_report(&symbol, &["--to", &to.to_string()], |report| rows(report) >= seen.len());
        let history = report["history"].as_array().unwrap().iter().cloned().map(frame);
        // Trades of the last nanosecond may have followed the last one seen.
        let history: Vec<Value> = history.take(seen.len()).collect();
        assert!(history == seen, "{symbol}: the history is not what was seen");
    }
}
