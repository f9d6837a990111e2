//! Bars for charts over HTTP: the last ones wherever they are, and what a TradingView chart asks.

use std::fmt::Write as _;

use serde_json::Value;

use super::support::web::{Answer, Web};
use super::system::System;

/// Half past nine on a Monday, in seconds.
const BEGIN: u64 = 1_784_035_800;
/// Seconds between the end of the first trades and the next ones: a month.
const PAUSE: u64 = 30 * 86_400;

/// A market of one instrument: a trade a second for half an hour, and five more after a pause.
fn start() -> (System, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut text = "symbol,ts_event,price,qty\n".to_owned();
    let seconds = (0..1_800).chain((0..5).map(|at| 1_800 + PAUSE + at));
    for at in seconds {
        writeln!(
            text,
            "PETR4,{},{}.{:02},100",
            (BEGIN + at) * 1_000_000_000,
            10 + at % 7,
            at % 100
        )
        .unwrap();
    }
    let tape = directory.path().join("paused.csv");
    std::fs::write(&tape, text).unwrap();
    let system =
        System::start(&["--tape", tape.to_str().unwrap(), "--speed", "max", "--chaos", "off"]);
    system.wait_log("core", "the exchange's feed has ended");
    let has_all = |report: &Value| report["history"].as_array().is_some_and(|it| it.len() == 1_805);
    system.wait_report("PETR4", &["--last", "2000"], has_all);
    (system, directory)
}

fn starts(answer: &Answer) -> Vec<u64> {
    let bars = answer.json()["bars"].as_array().cloned().unwrap();
    bars.iter().map(|bar| bar["start"].as_u64().unwrap() / 1_000_000_000).collect()
}

#[test]
fn the_last_bars_are_found_before_a_pause_however_long_it_was() {
    let (system, _directory) = start();
    let gateway = system.place.address("gateway");
    let resumed = BEGIN + 1_800 + PAUSE;
    for (last, before) in [(5, 0), (20, 15), (400, 395)] {
        let path = format!("/v1/bars/PETR4?interval=1s&last={last}&deadline=5s");
        let answer = Web::get(gateway, &path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut want: Vec<u64> = (BEGIN + 1_800 - before..BEGIN + 1_800).collect();
        want.extend(resumed..resumed + 5);
        assert_eq!(starts(&answer), want, "{last}");
    }
    // There are no more.
    let answer = Web::get(gateway, "/v1/bars/PETR4?interval=1h&last=100&deadline=5s");
    assert_eq!((answer.status, starts(&answer).len()), (200, 2));
}

#[test]
fn figures_are_answered_and_a_name_may_stand_among_the_parameters() {
    let (system, _directory) = start();
    let gateway = system.place.address("gateway");
    let get = |path: &str| {
        let answer = Web::get(gateway, &format!("{path}&deadline=5s"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let json = answer.json();
        assert_eq!(json["complete"], true, "{path}: {json}");
        assert!(json["nodes"].is_array() && json["left_out"].is_array(), "{path}: {json}");
        json
    };
    let average = get("/v1/figures/average?symbols=PETR4");
    assert_eq!((&average["figure"], &average["priced"]), (&"average".into(), &0.into()));
    assert_eq!(average["left_out"][0]["reason"], "it has no quote", "it was traded only");
    assert_eq!(get("/v1/figures/spread?symbols=PETR4")["quotes"], 0);
    let mover = &get("/v1/figures/movers?symbols=PETR4&count=1")["movers"][0];
    let at = 1_804 + PAUSE;
    let last = format!("{}.{:02}", 10 + at % 7, at % 100);
    assert_eq!((&mover["symbol"], &mover["close"]), (&"PETR4".into(), &last.into()), "{mover}");
    assert_eq!(mover["open"], "10.00", "{mover}");
    let by_parameter = get("/v1/trades?symbol=PETR4&last=3");
    assert_eq!(by_parameter["trades"], get("/v1/trades/PETR4?last=3")["trades"]);
    let by_parameter = get("/v1/bars?symbol=PETR4&interval=1h&last=2");
    assert_eq!(by_parameter["bars"], get("/v1/bars/PETR4?interval=1h&last=2")["bars"]);
    for partial in ["allow", "deny"] {
        get(&format!("/v1/figures/average?symbols=PETR4&partial={partial}"));
    }
    for wrong in ["partial=maybe", "format=xml", "deadline=0ms"] {
        let answer = Web::get(gateway, &format!("/v1/figures/average?symbols=PETR4&{wrong}"));
        assert!(matches!(answer.status, 400 | 406), "{wrong}: {}", answer.text());
    }
}

#[test]
fn a_tradingview_chart_gets_what_its_data_feed_promises() {
    let (system, _directory) = start();
    let gateway = system.place.address("gateway");
    let get = |path: &str| Web::get(gateway, path);
    let config = get("/udf/config").json();
    let resolutions = config["supported_resolutions"].as_array().unwrap();
    assert!(resolutions.contains(&"1S".into()) && resolutions.contains(&"1D".into()), "{config}");
    assert_eq!(config["supports_time"], true);
    assert!(get("/udf/time").text().trim().parse::<u64>().unwrap() > BEGIN);
    let info = get("/udf/symbols?symbol=PETR4").json();
    assert_eq!((&info["ticker"], &info["pricescale"]), (&"PETR4".into(), &100.into()), "{info}");
    let found = get("/udf/search?query=etr&limit=5&type=&exchange=").json();
    assert_eq!(found[0]["symbol"], "PETR4", "{found}");
    assert_eq!(get("/udf/search?query=nothing").json(), Value::Array(Vec::new()));
    let quotes = get("/udf/quotes?symbols=PETR4,NOBODY").json();
    assert_eq!((&quotes["s"], &quotes["d"][0]["s"]), (&"ok".into(), &"ok".into()), "{quotes}");
    assert_eq!(quotes["d"][1]["s"], "error", "{quotes}");

    let history = |rest: &str| get(&format!("/udf/history?symbol=PETR4&{rest}")).json();
    let times = |history: &Value| -> Vec<u64> {
        let times = history["t"].as_array().unwrap_or_else(|| panic!("{history}"));
        times.iter().map(|it| it.as_u64().unwrap()).collect()
    };
    let (end, resumed) = (BEGIN + 1_800, BEGIN + 1_800 + PAUSE);
    // The times say a span in which nothing was traded; the number of bars outweighs them.
    let span = format!("resolution=1S&from={}&to={}", resumed - 60, resumed + 60);
    let some = history(&format!("{span}&countback=8"));
    assert_eq!(
        times(&some),
        [&[end - 3, end - 2, end - 1][..], &(resumed..resumed + 5).collect::<Vec<_>>()].concat()
    );
    for column in ["o", "h", "l", "c", "v"] {
        assert_eq!(some[column].as_array().map(Vec::len), Some(8), "{column}: {some}");
    }
    assert_eq!(times(&history(&span)), (resumed..resumed + 5).collect::<Vec<_>>());
    let nothing = format!("resolution=1&from={}&to={}", end + 60, end + 600);
    assert_eq!(history(&nothing)["s"], "no_data");
    let first = history(&format!("resolution=1S&from={BEGIN}&to={}&countback=9", BEGIN + 3));
    assert_eq!(times(&first), [BEGIN, BEGIN + 1, BEGIN + 2], "there are no more");
    let unknown = get(&format!("/udf/history?symbol=NOBODY&{span}"));
    assert_eq!((unknown.status, &unknown.json()["s"]), (200, &"error".into()));
    assert_eq!(get("/udf/history?symbol=PETR4&resolution=7&from=1&to=2").status, 400);
    assert_eq!(get("/udf/nothing").status, 404);
}
