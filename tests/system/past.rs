//! `subscribe --from TIME` and `--speed`: the past by its time, and at a pace.

use std::time::Duration;

use pregao::time::Clock;
use serde_json::Value;

use super::system::System;

/// A market of some thousand events a second, whose journal has some seconds of it.
fn market() -> System {
    let system = System::start(&["--rate", "3000", "--chaos", "off"]);
    let flags = ["--from", "1", "--count", "9000", "--format", "json"];
    system.place.run("subscribe", &flags).expect(0);
    system
}

fn frames(system: &System, flags: &[&str]) -> Vec<Value> {
    let flags = [flags, &["--format", "json"]].concat();
    system.place.run("subscribe", &flags).expect(0).json()
}

fn number(frame: &Value, key: &str) -> u64 {
    frame[key].as_u64().unwrap_or_else(|| panic!("no {key} in {frame}"))
}

#[test]
fn a_time_is_where_core_received_the_first_frame_of_it() {
    let system = market();
    let all = frames(&system, &["--from", "1", "--count", "6000"]);
    for at in [0, 1, 77, 2_500, 5_999] {
        let time = all[at]["ts_recv_text"].as_str().unwrap();
        let received = number(&all[at], "ts_recv");
        let wanted = all.iter().find(|frame| number(frame, "ts_recv") >= received).unwrap();
        let found = frames(&system, &["--from", time, "--count", "1"]);
        assert_eq!(number(&found[0], "seq"), number(wanted, "seq"), "at {time}");
        // With a pace it begins there too.
        let paced = frames(&system, &["--from", time, "--speed", "max", "--count", "1"]);
        assert_eq!(number(&paced[0], "seq"), number(wanted, "seq"), "at {time}");
    }
    let before = frames(&system, &["--from", "2001-01-01", "--count", "1"]);
    assert_eq!(number(&before[0], "seq"), number(&all[0], "seq"));
}

#[test]
fn a_paced_replay_takes_its_time_and_goes_on_live_where_it_says() {
    let system = market();
    let all = frames(&system, &["--from", "1", "--count", "6000"]);
    let span_ns = number(&all[5_999], "ts_recv") - number(&all[0], "ts_recv");
    let clock = Clock::start();
    let begun = clock.now().mono;
    let replayed = frames(&system, &["--from", "1", "--speed", "2", "--count", "6000"]);
    let took = clock.now().mono.since(begun);
    assert!(took >= Duration::from_nanos(span_ns / 2), "{took:?}");
    let seqs = |frames: &[Value]| -> Vec<u64> {
        frames
            .iter()
            .filter(|it| it["kind"] != "snapshot_end")
            .map(|it| number(it, "seq"))
            .collect()
    };
    assert_eq!(seqs(&replayed), seqs(&all));
    // One instrument of all, in its own order.
    let one = frames(&system, &["PETR4", "--from", "1", "--speed", "max", "--count", "100"]);
    assert!(one.iter().all(|frame| frame["symbol"] == "PETR4"));
    // Behind the journal's end it is the live feed, without a hole and with nothing twice.
    let count = "20000";
    let joined =
        frames(&system, &["--from", "1", "--speed", "max", "--then-live", "--count", count]);
    let joins = joined.iter().position(|frame| frame["kind"] == "snapshot_end").unwrap();
    assert_eq!(number(&joined[joins + 1], "seq"), number(&joined[joins], "next_seq"));
    let all = seqs(&joined);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    // Numbers that are no line are those of definitions.
    assert!(all[all.len() - 1] - all[0] - (all.len() as u64 - 1) < 64, "{} lines", all.len());
    let is_replay = |frame: &Value| frame["flags"].as_array().unwrap().contains(&"replay".into());
    assert!(joined[..joins].iter().all(is_replay) && !is_replay(&joined[joined.len() - 1]));
}

#[test]
fn what_cannot_be_paced_is_refused_by_a_sentence() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    for (flags, code, words) in [
        (&["--speed", "2"][..], 2, "--from"),
        (&["--from", "1", "--speed", "0"], 2, "would show nothing"),
        (&["--from", "1", "--then-live"], 2, "--speed"),
        (&["bar.1m.PETR4", "--from", "1", "--speed", "2"], 2, "bars are not replayed at a speed"),
        (&["--from", "yesterday"], 2, "a number is a seq"),
    ] {
        let refused = system.place.run("subscribe", flags).expect(code);
        assert!(refused.stderr.len() == 1, "{:?}", refused.stderr);
        assert!(refused.stderr[0].contains(words), "{words}: {:?}", refused.stderr);
    }
}
