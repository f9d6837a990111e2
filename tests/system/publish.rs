//! `pregao publish`: what is brought is stored, once, and what is wrong with it is named.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pregao::market::price::Price;
use pregao::random::Random;
use rustix::process::Signal;
use serde_json::Value;

use super::process::{Finished, Process};
use super::system::{Place, System};
use super::tapes::AMZN;

/// The nodes of a system that nobody plays a market to.
const NODES: [&str; 6] = ["broker", "core", "shard-A", "shard-B", "shard-C", "aggregator"];

fn system_with(more: &str) -> System {
    let place = Place::new();
    place.configure(&format!("{more}[[exchange]]\nname = \"own\"\nkind = \"producer\"\n"));
    let all = Process::start(&place.all_arguments(&[]));
    System::of_nodes(all, Arc::new(place), &NODES)
}

fn file(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.config_file().with_file_name(name);
    fs::write(&path, text).unwrap();
    path
}

fn publish(place: &Place, path: &Path, flags: &[&str]) -> Finished {
    place.run("publish", &[&[path.to_str().unwrap()], flags].concat())
}

/// Lines of trades with these numbers.
fn trades(numbers: std::ops::Range<u64>) -> String {
    numbers.fold(String::new(), |mut text, id| {
        writeln!(
            text,
            "trades,symbol=GOLD price=2650.5,qty=0.{id:08}5,id={id} {}",
            1_784_034_439_000_000_000 + id
        )
        .unwrap();
        text
    })
}

/// What core's journal has of the market, line by line.
fn journaled(place: &Place) -> Vec<Value> {
    let data = place.data_dir();
    let dump = ["dump", data.to_str().unwrap(), "--log", "core", "--format", "json"];
    let dumped = Process::start(&dump.map(str::to_owned)).finish().expect(0);
    let rows = dumped.json().into_iter();
    rows.filter(|row| matches!(row["kind"].as_str(), Some("quote" | "trade" | "cancel"))).collect()
}

fn ids(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["trade_id"].as_u64().unwrap()).collect()
}

/// 300 rounds: a publisher that is killed at a random moment, and now and then core with it. What is published again until it
/// ends well is there once.
#[test]
fn a_file_is_stored_once_whoever_is_killed() {
    let rounds = 300;
    let system = system_with("");
    let mut random = Random::new(16);
    let (mut next, mut killed, mut files) = (1, 0, 0);
    while killed < rounds {
        let end = next + 400;
        let path = file(&system.place, "part.ilp", &trades(next..end));
        loop {
            let path = path.to_str().unwrap();
            // In pieces, so that a kill falls between them.
            let mut publisher =
                system.place.start("publish", &[path, "--append", "--rate", "20000"]);
            let wait = Duration::from_micros(random.between(0, 60_000));
            if killed < rounds && !publisher.ends_within(wait) {
                publisher.signal(Signal::KILL);
                publisher.wait();
                killed += 1;
                if killed % 30 == 0 {
                    system.kill("core");
                }
                continue;
            }
            if publisher.wait().success() {
                break;
            }
            panic!("{:?}", publisher.stderr.all());
        }
        (next, files) = (end, files + 1);
    }
    println!("{killed} publishers and {} cores killed, {files} files", rounds / 30);
    let place = system.stop();
    let rows = journaled(&place);
    let (count, wrong) = (rows.len(), ids(&rows).into_iter().zip(1..).find(|(id, at)| id != at));
    assert_eq!((count as u64, wrong), (next - 1, None), "each once, in order");
    assert!(rows.iter().all(|row| row["flags"] == serde_json::json!(["last"])), "no gaps");
    let last = rows.last().unwrap();
    assert_eq!(last["qty_text"], format!("0.{:08}5", next - 1), "{last}");
}

#[test]
fn what_is_wrong_with_a_file_is_named_and_nothing_of_it_is_stored() {
    let system = system_with("");
    let place = &system.place;
    let bad =
        file(place, "bad.ilp", &format!("{}trades,symbol=GOLD price=x,qty=1 5\n", trades(1..5)));
    for flags in [&["--dry-run"][..], &[]] {
        let refused = publish(place, &bad, flags).expect(4);
        assert!(refused.stderr[0].contains("bad.ilp: line 5, price: \"x\""), "{refused:?}");
    }
    let torn = file(place, "torn.ilp", trades(1..5).trim_end());
    let refused = publish(place, &torn, &[]).expect(4);
    assert!(refused.stderr[0].contains("line 4 has no end"), "{refused:?}");
    let tape = publish(place, Path::new(AMZN), &[]).expect(2);
    assert!(tape.stderr[0].contains("is neither CSV with a line of names"), "{tape:?}");
    let none = publish(place, Path::new("/nonexistent"), &[]).expect(4);
    assert!(none.stderr[0].contains("cannot read /nonexistent"), "{none:?}");
    let good = file(place, "good.ilp", &trades(1..5));
    let dry = publish(place, &good, &["--dry-run", "--result", "json"]).expect(0);
    assert_eq!(dry.json()[0]["trades"], 4, "{dry:?}");
    for (name, want) in [("exchange-too-long", "1 to 8 letters"), ("shard-A", "is what a node")] {
        let refused = publish(place, &good, &["--exchange", name]).expect(2);
        assert!(refused.stderr[0].contains(want), "{refused:?}");
    }
    let report = place.run("report", &["GOLD"]).expect(4);
    assert!(report.stderr[0].contains("no instrument"), "nothing was stored: {report:?}");

    let stored = publish(place, &good, &["--result", "json"]).expect(0).json().remove(0);
    assert_eq!((&stored["stored"], &stored["stored_before"]), (&4.into(), &0.into()), "{stored}");
    let again = publish(place, &good, &["--result", "json"]).expect(0).json().remove(0);
    assert_eq!((&again["stored"], &again["stored_before"]), (&0.into(), &4.into()), "{again}");
    let other = file(place, "other.ilp", &trades(3..9));
    let refused = publish(place, &other, &[]).expect(4);
    assert!(refused.stderr[0].contains("own has another feed already"), "{refused:?}");
    publish(place, &other, &["--append"]).expect(0);
    // Behind the other one it is known all the same.
    let known = publish(place, &good, &["--result", "json"]).expect(0).json().remove(0);
    assert_eq!(known["stored_before"], 4, "{known}");
    let fine = file(place, "fine.ilp", "trades,symbol=GOLD price=1,qty=0.1234567891 5\n");
    let refused = publish(place, &fine, &["--append"]).expect(4);
    assert!(
        refused.stderr[0].contains("GOLD needs units of 10 decimals, and has units of 9"),
        "{refused:?}"
    );
    let huge = format!("{}trades,symbol=GOLD price=1,qty=50000000000 5\n", trades(9..12));
    let huge = file(place, "huge.ilp", &huge);
    let refused = publish(place, &huge, &["--append"]).expect(4);
    assert!(refused.stderr[0].contains("do not fit 64 bits in units of 9 decimals"), "{refused:?}");
    let place = system.stop();
    assert_eq!(ids(&journaled(&place)), [1, 2, 3, 4, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_feed_with_a_name_goes_on_when_it_has_grown() {
    let system = system_with("");
    let place = &system.place;
    let short = file(place, "day.ilp", &trades(1..5));
    publish(place, &short, &["--feed", "day"]).expect(0);
    let long = file(place, "day.ilp", &trades(1..9));
    let grown =
        publish(place, &long, &["--feed", "day", "--result", "json"]).expect(0).json().remove(0);
    assert_eq!((&grown["stored"], &grown["stored_before"]), (&4.into(), &4.into()), "{grown}");
    let shrunk = file(place, "day.ilp", &trades(1..3));
    let refused = publish(place, &shrunk, &["--feed", "day"]).expect(4);
    assert!(refused.stderr[0].contains("fewer events than core has of this feed"), "{refused:?}");
    assert_eq!(ids(&journaled(&system.stop())), (1..9).collect::<Vec<u64>>());
}

/// The hazard: core takes a producer for dead that waits for its own input.
#[test]
fn a_real_pipe_that_is_quiet_for_long_is_no_death_and_each_line_is_seen_at_once() {
    let system =
        system_with("[core]\nheartbeat_interval = \"100ms\"\nheartbeat_deadline = \"400ms\"\n");
    let place = &system.place;
    // A pipe by its path is read once, as standard input is.
    let flags = ["/dev/stdin", "--format", "ilp", "--quantity-decimals", "9"];
    let (publisher, mut input) = Process::with_input(&place.arguments("publish", &flags));
    input.write_all(trades(1..3).as_bytes()).unwrap();
    let subscriber = place.start("subscribe", &["trade.GOLD", "--from", "1", "--format", "json"]);
    subscriber.stdout.wait_len(2);
    publisher.run_for(Duration::from_millis(1_500));
    input.write_all(trades(3..4).as_bytes()).unwrap();
    subscriber.stdout.wait_len(3);
    // The last line is wrong: what stands before it is stored.
    input.write_all(format!("{}nonsense\n", trades(4..6)).as_bytes()).unwrap();
    drop(input);
    let ended = publisher.finish().expect(4);
    assert!(ended.stderr[0].contains("/dev/stdin: line 6"), "{ended:?}");
    assert!(ended.stderr[0].contains("What stands before it is stored; events: 5"), "{ended:?}");
    subscriber.stdout.wait_len(5);
    let said = system.status()["core"]["figures"]["exchange.own.sessions"].clone();
    assert_eq!(said, 1, "it was never taken for dead");
    assert_eq!(ids(&journaled(&system.stop())), [1, 2, 3, 4, 5]);
}

#[test]
fn core_that_is_away_is_waited_for_and_one_that_never_comes_is_told() {
    let place = Place::new();
    let good = file(&place, "good.ilp", &trades(1..5));
    let refused = publish(&place, &good, &["--wait", "300ms"]).expect(4);
    assert!(refused.stderr[0].contains("cannot reach core on"), "{refused:?}");
    let waits = place.start("publish", &[good.to_str().unwrap()]);
    waits.wait_log("trying again for 29 s, as --wait says");
    let all = Process::start(&place.all_arguments(&["--chaos", "off"]));
    let system = System::of(all, Arc::new(place));
    waits.finish().expect(0);
    let taken = publish(&system.place, &good, &["--exchange", "exchange"]).expect(4);
    assert!(taken.stderr[0].contains("core is fed by exchange already"), "{taken:?}");
}

/// What one system shows another one stores: the same trades and quotes, digit for digit.
#[test]
fn a_day_that_is_exported_and_published_is_the_same_day() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    system.wait_log("core", "the exchange's feed has ended");
    let place = system.stop();
    let before = journaled(&place);
    let json: String = before.iter().map(|row| format!("{row}\n")).collect();
    let path = file(&place, "day.json", &json);
    let copy = system_with("");
    publish(&copy.place, &path, &[]).expect(0);
    let after = journaled(&copy.stop());
    // How many decimals a price is shown with is not a part of it.
    let price = |row: &Value, name: &str| -> Option<i64> {
        row[name].as_str().map(|text| text.parse::<Price>().unwrap().0)
    };
    let told = |rows: &[Value]| -> Vec<_> {
        let words = [
            "kind",
            "ts_event",
            "flags",
            "bid_qty_text",
            "ask_qty_text",
            "qty_text",
            "side",
            "trade_id",
        ];
        let of = |row: &Value| {
            (
                words.map(|name| row[name].clone()),
                ["bid", "ask", "price"].map(|name| price(row, name)),
            )
        };
        rows.iter().map(of).collect()
    };
    let (before, after) = (told(&before), told(&after));
    let first = before.iter().zip(&after).find(|(one, other)| one != other);
    assert_eq!((before.len(), first), (after.len(), None));
    assert!(before.len() > 50_000, "{}", before.len());
}
