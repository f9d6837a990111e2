//! The journal of two exchanges with names is lost, and comes back: each goes on once, where the logs know its place, where
//! the operator says it, and not where nobody does.

use std::fs;
use std::sync::Arc;

use serde_json::Value;

use super::process::Process;
use super::recover::{done, dumped, frames, is_one_history, stop_when_fed, tool, verify};
use super::system::{Place, System};
use super::tapes::{AMZN, ESU4};

const NODES: [&str; 8] =
    ["xnas", "xcme", "broker", "core", "shard-A", "shard-B", "shard-C", "aggregator"];
const SHARDS: [&str; 3] = ["shard-A", "shard-B", "shard-C"];

fn start(place: Arc<Place>) -> System {
    let all = Process::start(&place.all_arguments(&[]));
    let system = System::of_nodes(all, place, &NODES);
    system.retry("both feeds ended", || {
        let core = system.status().remove("core").ok_or("no core")?;
        let words = ["exchange.xnas", "exchange.xcme"].map(|name| core["words"][name].clone());
        if words.iter().all(|word| word == "ended") { Ok(()) } else { Err(format!("{words:?}")) }
    });
    system
}

/// Each exchange has played its tape to the end, and was stopped.
fn played() -> (Arc<Place>, Vec<String>) {
    let place = Place::new();
    let second = place.address("external").port() + 8;
    place.configure(&format!(
        "[external]\nchaos = \"off\"\n\
         [[exchange]]\nname = \"xnas\"\ntapes = [\"{AMZN}\"]\nspeed = \"max\"\n\
         [[exchange]]\nname = \"xcme\"\naddress = {second}\ntapes = [\"{ESU4}\"]\nspeed = \"max\"\n"
    ));
    let place = stop_when_fed(start(Arc::new(place)));
    let frames = is_one_history(&place);
    (place, frames)
}

/// What was told by the exchanges, without its place in the sequence: after a loss other frames may have that.
fn events(lines: &[String]) -> Vec<String> {
    let is_event = |line: &Value| {
        let symbol = line["symbol"].as_str().unwrap_or_default();
        ["xnas:", "xcme:"].iter().any(|venue| symbol.starts_with(venue))
            && line["kind"] != "definition"
    };
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let event = |line: Value| {
        let of = |key: &str| line[key].to_string();
        [of("symbol"), of("kind"), of("ts_event"), of("body"), of("price"), of("trade_id")]
            .join(" ")
    };
    lines.filter(is_event).map(event).collect()
}

/// The events of the journal when it was started again. `code`: how the dump of it ends.
fn goes_on(place: Arc<Place>, code: i32) -> Vec<String> {
    let place = stop_when_fed(start(place));
    let dumped = dumped(&place, "core");
    assert_eq!(dumped.code(), code, "{:?}", dumped.stderr);
    events(&dumped.stdout)
}

fn exchange<'a>(line: &'a Value, name: &str) -> &'a Value {
    let mut exchanges = line["exchanges"].as_array().unwrap().iter();
    exchanges.find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}: {line}"))
}

fn refused(place: &Place, flags: &[&str], code: i32, why: &str) {
    let flags = [&["--from-shards"][..], flags].concat();
    let finished = tool(place, "recover", &flags).expect(code);
    assert!(finished.stderr.iter().any(|line| line.contains(why)), "{:?}", finished.stderr);
}

#[test]
fn a_lost_journal_of_two_exchanges_comes_back_with_the_place_of_each() {
    let (place, before) = played();
    let told = events(&before);
    fs::remove_dir_all(place.data_dir().join("core")).unwrap();
    let report = tool(&place, "recover", &[]).expect(4).json();
    let commands: Vec<&str> = report.iter().filter_map(|line| line["command"].as_str()).collect();
    assert!(commands.iter().any(|it| it.ends_with("--from-shards")), "no --feed: {commands:?}");
    refused(&place, &["--feed", "away=1f:3"], 4, "they know: xcme, xnas");
    refused(&place, &["--feed", "xnas=1f:3", "--feed", "xnas=1f:3"], 2, "xnas twice");
    refused(&place, &["--feed", "xnas=1f:0"], 2, "is no place in a feed");
    refused(&place, &["--feed", "xnas=1f"], 4, "--feed xnas=000000000000001f:N");
    let rebuilt = tool(&place, "recover", &["--from-shards"]).expect(0).json();
    let (rebuilt, places) = (done(&rebuilt, "rebuilt"), ["xnas", "xcme"]);
    assert_eq!((&rebuilt["lost"], &rebuilt["upstream_seq"]), (&0.into(), &Value::Null));
    for name in places {
        let at = exchange(rebuilt, name);
        assert_eq!((&at["is_told"], &at["is_uncertain"]), (&false.into(), &false.into()), "{at}");
    }
    assert!(is_one_history(&place) == before, "the journal is not what it was");
    verify(&place).expect(0);
    // The same again, with the place of one told: it is that which the logs had, and no other is taken.
    let at = exchange(rebuilt, "xnas");
    let (feed, next) = (at["feed"].as_str().unwrap().to_owned(), at["next_seq"].as_u64().unwrap());
    fs::remove_dir_all(place.data_dir().join("core")).unwrap();
    refused(
        &place,
        &["--feed", &format!("xnas={feed}:{}", next - 1)],
        4,
        &format!("Say {next} or more"),
    );
    let said = format!("xnas={feed}:{next}");
    let again = tool(&place, "recover", &["--from-shards", "--feed", &said]).expect(0).json();
    assert_eq!(exchange(done(&again, "rebuilt"), "xnas")["is_told"], true);
    assert!(goes_on(place, 0) == told, "an event came twice, or is gone");
}

/// The journal and the shard with the place of one exchange are lost: core would take its whole feed in again.
#[test]
fn a_place_that_is_lost_has_to_be_told_and_each_feed_goes_on_behind_it() {
    let (place, before) = played();
    // Its place stands in another shard than its events.
    let has_place = |shard: &&&str| {
        let of_shard = frames(&place, shard);
        of_shard.iter().any(|line| line.contains("\"$sys.exchange.xcme\""))
    };
    let lost = *SHARDS.iter().find(has_place).expect("a shard has the place");
    let others = SHARDS.iter().filter(|shard| **shard != lost);
    let mut left: Vec<String> = others.flat_map(|shard| events(&frames(&place, shard))).collect();
    assert!(left.iter().any(|line| line.contains("xcme:ESU4")), "{lost} has them too");
    for log in ["core", lost] {
        fs::remove_dir_all(place.data_dir().join(log)).unwrap();
    }
    refused(&place, &[], 4, "Say the place with --feed xcme=HEX:N");
    let said = feed_of("xcme", &before);
    let rebuilt = tool(&place, "recover", &["--from-shards", "--feed", &said]).expect(0).json();
    assert_eq!(exchange(done(&rebuilt, "rebuilt"), "xcme")["is_told"], true);
    // What the lost shard had is a gap of the journal, which is told.
    let mut after = goes_on(place, 3);
    after.sort();
    left.sort();
    assert!(
        after == left,
        "{} events, not {}: one came twice, or is gone",
        after.len(),
        left.len()
    );
}

/// The feed of an exchange and how far it is, as the journal had it: the last place that was said, and each event behind it.
fn feed_of(name: &str, journal: &[String]) -> String {
    let (mut feed, mut next_seq) = (0, 0);
    for line in journal.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let symbol = line["symbol"].as_str().unwrap_or_default();
        if symbol == format!("$sys.exchange.{name}") && line["kind"] != "definition" {
            feed = line["feed"].as_u64().unwrap();
            next_seq = line["next_seq"].as_u64().unwrap();
        } else if symbol.starts_with(&format!("{name}:")) && line["kind"] != "definition" {
            next_seq += 1;
        }
    }
    format!("{name}={feed:016x}:{next_seq}")
}
