//! The gateway over real sockets: what a browser, `curl` and a dashboard see.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregao::wire::{Flags, Frame, Gap, Kind, Trade, as_frames};
use rustix::process::Signal;
use serde_json::Value;

use super::process::Process;
use super::support::web::{Message, Socket, Web};
use super::system::{Place, System, signal};
use super::tapes::AMZN;

/// All frames of the next binary message.
fn frames(socket: &mut Socket) -> Vec<Frame> {
    loop {
        match socket.next() {
            Message::Binary(bytes) => {
                let (frames, rest) = as_frames(&bytes);
                assert!(rest.is_empty(), "a message is a run of whole frames");
                assert!(frames.iter().all(|frame| frame.check().is_ok()));
                return frames.to_vec();
            }
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Live data frames, until there are so many: each `seq` once, in order, without a hole.
fn follow(socket: &mut Socket, count: usize) -> Vec<Frame> {
    let mut seen: Vec<Frame> = Vec::new();
    while seen.len() < count {
        for frame in frames(socket) {
            assert!(frame.view::<Gap>().is_none(), "nothing is lost: {frame:?}");
            let is_live = frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT);
            if is_live {
                let before = seen.last().map_or(frame.seq.get() - 1, |last| last.seq.get());
                assert_eq!(frame.seq.get(), before + 1);
                seen.push(frame);
            }
        }
    }
    seen
}

#[test]
fn a_browser_is_sent_the_frames_that_the_journal_has() {
    let system = System::start(&["--rate", "20000", "--chaos", "off"]);
    system.wait_well();
    let mut socket = Web::connect(system.place.address("gateway")).upgrade("pregao.frames.v1");
    socket.send(r#"{"subscribe":1}"#);
    let seen = follow(&mut socket, 20_000);
    drop(socket);
    let place = system.stop();
    let data = place.data_dir();
    let dump = ["dump", data.to_str().unwrap(), "--log", "core", "--format", "json"];
    let dumped = Process::start(&dump.map(str::to_owned)).finish().expect(0);
    let price = |row: &Value| row["price"].as_str().unwrap().to_owned();
    let rows = dumped.json().into_iter().filter(|row| row["kind"] == "trade");
    let stored: BTreeMap<u64, String> =
        rows.map(|row| (row["seq"].as_u64().unwrap(), price(&row))).collect();
    let trades = seen.iter().filter_map(|frame| Some((frame, frame.view::<Trade>()?)));
    let mut count = 0;
    for (frame, trade) in trades {
        let stored = stored.get(&frame.seq.get()).expect("the journal has it");
        let whole: f64 = stored.parse().unwrap();
        let sent = pregao::market::price::decimal(i128::from(trade.price.get()), 0);
        assert_eq!(sent.parse::<f64>().unwrap(), whole, "seq {}", frame.seq);
        count += 1;
    }
    assert!(count > 1_000, "{count} trades");
}

#[test]
fn the_death_of_the_broker_is_told_and_costs_no_frame() {
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    system.wait_well();
    let mut frames_socket =
        Web::connect(system.place.address("gateway")).upgrade("pregao.frames.v1");
    frames_socket.send(r#"{"subscribe":1}"#);
    let mut json_socket = Web::connect(system.place.address("gateway")).upgrade("pregao.json.v1");
    json_socket.send(r#"{"subscribe":1,"symbols":["PETR*"]}"#);
    let first = follow(&mut frames_socket, 500);
    system.kill("broker");
    // The ring of the gateway goes on where the journal does.
    let after = follow(&mut frames_socket, 3_000);
    assert_eq!(after[0].seq.get(), first.last().unwrap().seq.get() + 1);
    // A change is told at most once a second. A broker that is back within that time may have been away without a word,
    // but who was told that the feed is stale is told that it is current again.
    let last = after.last().unwrap().seq.get();
    let (mut is_stale, mut seq) = (false, 0);
    while is_stale || seq < last {
        for line in json_socket.lines() {
            is_stale = match line["kind"].as_str() {
                Some("stale") => true,
                Some("current") => false,
                _ => is_stale,
            };
            seq = line["seq"].as_u64().unwrap_or(seq).max(seq);
        }
    }
}

#[test]
fn the_death_of_the_gateway_takes_nobody_with_it() {
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    system.wait_well();
    let subscriber = system.place.start("subscribe", &["trade.*", "--format", "json"]);
    subscriber.stdout.wait_len(100);
    system.kill("gateway");
    let mut socket = Web::connect(system.place.address("gateway")).upgrade("pregao.frames.v1");
    socket.send(r#"{"subscribe":1}"#);
    follow(&mut socket, 1_000);
    system.wait_well();
    subscriber.stdout.wait_len(subscriber.stdout.len() + 500);
    assert!(subscriber.stderr.all().is_empty(), "{:?}", subscriber.stderr.all());
    drop(subscriber.end());
}

#[test]
fn answers_are_those_of_the_report_and_say_what_is_missing() {
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    system.wait_report("PETR4", &["--last", "3"], |report| {
        report["history"].as_array().is_some_and(|rows| rows.len() == 3)
    });
    let span = "to=2100-01-01&last=5";
    // A system that has just begun has one bar, which still grows.
    let bars = system.retry("two bars", || {
        let bars = Web::get(gateway, &format!("/v1/bars/PETR4?interval=1s&{span}"));
        assert_eq!(bars.status, 200, "{}", bars.text());
        let bars = bars.json();
        match bars["bars"].as_array().map_or(0, Vec::len) {
            0 | 1 => Err(bars.to_string()),
            _ => Ok(bars),
        }
    });
    assert!(bars["complete"].as_bool().unwrap() && !bars["bars"].as_array().unwrap().is_empty());
    // The oldest bar is over: both ways say the same of it.
    let start = bars["bars"][0]["start"].as_u64().unwrap();
    let end = start + 1_000_000_000;
    let of_report = system.wait_report(
        "PETR4",
        &["--bars", "1s", "--from", &start.to_string(), "--to", &end.to_string()],
        |report| report["bars"].as_array().is_some_and(|bars| bars.len() == 1),
    );
    let path = format!("/v1/bars/PETR4?interval=1s&from={start}&to={end}");
    let of_gateway = Web::get(gateway, &path).json();
    assert_eq!(of_gateway["bars"], of_report["bars"]);
    // One connection for several questions, in the formats that tables are read in.
    let mut web = Web::connect(gateway);
    let csv = web.ask(&format!("{path}&format=csv"), "").text();
    assert_eq!(csv.lines().count(), 2, "{csv}");
    let lines = web.ask("/v1/trades/PETR4?last=3", "Accept: application/x-ndjson\r\n").text();
    assert_eq!(lines.lines().count(), 4, "{lines}");
    let unknown = web.ask("/v1/trades/NOPE", "");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.header("Content-Type"), Some("application/problem+json"));
    // A shard that is gone is named.
    let owner = system.wait_owner("PETR4");
    signal(system.pid(&owner), Signal::STOP);
    let partial = web.ask("/v1/trades/PETR4?last=3&deadline=300ms", "");
    assert_eq!(partial.status, 206, "{}", partial.text());
    let partial = partial.json();
    assert_eq!(partial["complete"], false);
    let missing =
        partial["nodes"].as_array().unwrap().iter().find(|it| it["node"] == owner.as_str());
    assert_ne!(missing.unwrap()["status"], "ok");
    let ready = web.ask("/readyz", "");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(&owner), "{}", ready.text());
    signal(system.pid(&owner), Signal::CONT);
}

#[test]
fn an_event_stream_goes_on_behind_its_last_event() {
    let system = System::start(&["--rate", "500", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let mut web = Web::connect(gateway);
    let head = web.begin("/v1/events?mode=lossless&kinds=trade", "");
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")));
    let is_id = |line: &str| line.starts_with("id: ");
    let first = web.lines_until(is_id);
    assert!(first.iter().any(|line| line == "event: snapshot_end"), "{first:?}");
    let last = web.lines_until(is_id).pop().unwrap();
    drop(web);
    let place = |id: &str| {
        let (epoch, seq) = id.strip_prefix("id: ").unwrap().split_once(':').unwrap();
        (u64::from_str_radix(epoch, 16).unwrap(), seq.parse::<u64>().unwrap())
    };
    let (epoch, seq) = place(&last);
    let last = last.strip_prefix("id: ").unwrap();
    let mut web = Web::connect(gateway);
    web.begin("/v1/events?kinds=trade", &format!("Last-Event-ID: {last}\r\n"));
    // The end of what comes ahead of the feed is the place itself.
    let id = web.lines_until(is_id).pop().unwrap();
    assert_eq!(id, format!("id: {last}"));
    let next = web.lines_until(is_id).pop().unwrap();
    assert!(place(&next).0 == epoch && place(&next).1 > seq, "{next}");
}

#[test]
fn what_the_ring_has_no_more_a_browser_is_sent_from_the_journal() {
    let place = Arc::new(Place::new());
    place.configure("[gateway]\nring_frames = 1024\n");
    let flags = ["--tape", AMZN, "--speed", "max", "--chaos", "off"];
    let system = System::start_at(place, &flags);
    system.wait_log("core", "the exchange's feed has ended");
    let report = |report: &Value| report["quote_source"] == "ended";
    system.wait_report("AMZN", &["--last", "1"], report);
    let mut socket = Web::connect(system.place.address("gateway")).upgrade("pregao.frames.v1");
    socket.send(r#"{"subscribe":1,"symbols":["*"],"from":1}"#);
    // From the first frame on: more than the ring holds.
    let seen = follow(&mut socket, 20_000);
    assert_eq!(seen[0].seq.get(), 1);
    assert!(seen[0].has(Flags::REPLAY));
}

#[test]
fn a_status_names_the_nodes_that_have_not_answered() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    let status = |format: &str| Web::get(gateway, &format!("/v1/status?format={format}"));
    let well = status("json").json();
    assert_eq!((&well["complete"], &well["left_out"]), (&true.into(), &Value::Array(Vec::new())));
    let shard = system.pid("shard-B");
    signal(shard, Signal::STOP);
    let away = system.retry("a status without shard-B", || {
        let answer = status("json");
        let json = answer.json();
        match json["complete"] == false && json["left_out"][0]["node"] == "shard-B" {
            true => Ok(answer),
            false => Err(json["left_out"].to_string()),
        }
    });
    assert_eq!(away.status, 206);
    let lines = status("ndjson").text();
    let end: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&end["kind"], &end["left_out"][0]["node"]), (&"end".into(), &"shard-B".into()));
    signal(shard, Signal::CONT);
    system.wait_well();
}

#[test]
fn the_files_of_the_page_are_small_and_are_sent_once() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    system.wait_well();
    let gateway = system.place.address("gateway");
    for path in ["/", "/page/main.js", "/page/page.css"] {
        let plain = Web::connect(gateway).ask(path, "");
        let packed = Web::connect(gateway).ask(path, "Accept-Encoding: gzip\r\n");
        assert_eq!((plain.status, packed.status), (200, 200), "{path}");
        assert_eq!(packed.header("Content-Encoding"), Some("gzip"), "{path}");
        assert!(packed.header("Vary").is_some_and(|it| it.contains("Accept-Encoding")), "{path}");
        assert!(packed.body.len() < plain.body.len() && packed.body.starts_with(&[0x1F, 0x8B]));
        let tag = plain.header("ETag").unwrap_or_else(|| panic!("{path} has no ETag"));
        let known = Web::connect(gateway).ask(path, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        let other = Web::connect(gateway).ask(path, "If-None-Match: \"other\"\r\n");
        assert_eq!(other.status, 200, "{path}");
    }
}

#[test]
fn pages_of_other_sites_and_wrong_commands_get_nothing() {
    let system = System::start(&["--rate", "100", "--chaos", "off"]);
    let gateway = system.place.address("gateway");
    let mut web = Web::connect(gateway);
    // DNS rebinding: another name leads here.
    let rebound = {
        let mut other = Web::connect(gateway);
        other.raw(b"GET /v1/status HTTP/1.1\r\nHost: attacker.example:8090\r\n\r\n");
        other.answer()
    };
    assert_eq!(rebound.status, 421);
    let foreign = web.ask("/v1/stream", "Origin: http://attacker.example\r\n");
    assert_eq!(foreign.status, 403);
    let mut web = Web::connect(gateway);
    assert_eq!(web.ask("/../../etc/passwd", "").status, 400);
    // Without --playground nothing is broken.
    for (deed, body) in
        [("kill", r#"{"node":"core"}"#), ("chaos", r#"{"node":"external","action":"misbehave"}"#)]
    {
        let mut web = Web::connect(gateway);
        let head = format!(
            "POST /v1/playground/{deed} HTTP/1.1\r\nHost: {gateway}\r\nOrigin: http://{gateway}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        web.raw(head.as_bytes());
        assert_eq!(web.answer().status, 403, "{deed}");
    }
    // A wrong command is answered, and harms no other subscription.
    let mut socket = Web::connect(gateway).upgrade("pregao.json.v1");
    socket.send(r#"{"subscribe":1,"symbols":["PETR4"]}"#);
    socket.send(r#"{"subscribe":1}"#);
    socket.send("nonsense");
    let mut errors = 0;
    let mut quotes = 0;
    while errors < 2 || quotes < 1 {
        for line in socket.lines() {
            errors += usize::from(line["kind"] == "error");
            quotes += usize::from(line["kind"] == "quote");
        }
    }
    // A client that masks nothing, or speaks frames, is closed with a reason.
    socket.send_frame(2, &[0; 64]);
    loop {
        match socket.next() {
            Message::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (1003, "commands are messages of text"));
                break;
            }
            _ => continue,
        }
    }
    system.wait_well();
}

#[test]
fn live_bars_are_those_of_the_report() {
    let system = System::start(&["--rate", "2000", "--chaos", "off"]);
    system.wait_well();
    let mut socket = Web::connect(system.place.address("gateway")).upgrade("pregao.json.v1");
    socket.send(r#"{"subscribe":1,"bars":"1s","symbols":["PETR4"]}"#);
    let mut bars: Vec<Value> = Vec::new();
    while bars.len() < 3 {
        bars.extend(socket.lines().into_iter().filter(|line| line["kind"] == "bar"));
    }
    let live = &bars[1];
    let (start, end) =
        (live["start"].as_u64().unwrap(), live["start"].as_u64().unwrap() + 1_000_000_000);
    let report = system.wait_report(
        "PETR4",
        &["--bars", "1s", "--from", &start.to_string(), "--to", &end.to_string()],
        |report| report["bars"].as_array().is_some_and(|bars| bars.len() == 1),
    );
    for field in ["open", "high", "low", "close", "volume_text", "trades", "vwap"] {
        assert_eq!(live[field], report["bars"][0][field], "{field}");
    }
}
