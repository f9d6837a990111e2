//! Several exchanges in one configuration: each of ours is a process with a name of its own.

use std::sync::Arc;

use pregao::market::tape::{Align, Reading, Schedule, Tape};
use pregao::wire::{DataKind, Frame};

use super::process::Process;
use super::support::node::Reserved;
use super::system::{Place, System};
use super::tapes::{AMZN, ESU4};

/// Two exchanges that run here, and one that does not.
struct Venues {
    place: Arc<Place>,
    /// Nobody listens there.
    _away: Reserved,
}

/// Ports of exchanges beside the first one's, which no other node of this place has.
const BESIDE: u16 = 8;

impl Venues {
    fn new() -> Venues {
        let (place, away) = (Place::new(), Reserved::new());
        let second = place.address("external").port() + BESIDE;
        place.configure(&format!(
            "[external]\nchaos = \"off\"\n\
             [[exchange]]\nname = \"xnas\"\nrate = 500\n\
             [[exchange]]\nname = \"xcme\"\naddress = {second}\ntapes = [\"{ESU4}\"]\n\
             [[exchange]]\nname = \"away\"\naddress = \"{}\"\nrun = false\n",
            away.address()
        ));
        Venues { place: Arc::new(place), _away: away }
    }
}

#[test]
fn each_exchange_of_ours_is_a_process_that_is_watched_and_shown_by_its_name() {
    let venues = Venues::new();
    let all = Process::start(&venues.place.all_arguments(&[]));
    let nodes = [
        "xnas",
        "xcme",
        "broker",
        "core",
        "shard-A",
        "shard-B",
        "shard-C",
        "aggregator",
        "gateway",
    ];
    let system = System::of_nodes(all, Arc::clone(&venues.place), &nodes);
    system.wait_log("pregao", "the market runs");
    let started = |log: &[String]| -> Vec<String> {
        let line = |it: &String| {
            let name = it.strip_prefix("pregao     | ")?.split_once(" started, pid ")?.0;
            Some(name.to_owned())
        };
        log.iter().filter_map(line).collect()
    };
    assert_eq!(started(&system.log()), nodes, "somebody else runs `away`");

    let (first, second) = (venues.place.address("external"), BESIDE);
    let status = system.status();
    for (name, port, feed) in
        [("xnas", first.port(), "synthetic"), ("xcme", first.port() + second, "tape")]
    {
        let said = &status[name];
        assert_eq!((&said["status"], &said["condition"]), (&"ok".into(), &"ok".into()), "{said}");
        assert_eq!(said["address"], format!("{}:{port}", first.ip()));
        assert_eq!(
            (&said["words"]["role"], &said["words"]["feed"]),
            (&"external".into(), &feed.into())
        );
    }
    assert_eq!(status.len(), nodes.len(), "{:?}", status.keys());
    assert_eq!(status["xnas"]["figures"]["consumers"], 1, "core follows it: {}", status["xnas"]);

    system.kill("xcme");
    assert_eq!(started(&system.log()).iter().filter(|name| *name == "xcme").count(), 2);
    let log = system.log();
    let place = system.stop();
    drop(place);
    assert!(log.iter().any(|line| line.starts_with("xcme       | ")), "{log:?}");
}

#[test]
fn an_exchange_that_is_started_by_hand_is_named() {
    let venues = Venues::new();
    let mut one = venues.place.start("external", &["--exchange", "xcme"]);
    one.wait_log("xcme listens on");
    one.end_now();
    let refused = venues.place.run("external", &[]).expect(2);
    assert!(refused.stderr[0].contains("name one with --exchange: xnas, xcme"), "{refused:?}");
    let refused = venues.place.all(&["--tape", ESU4]).expect(2);
    assert!(refused.stderr[0].contains("write --tape xnas="), "{refused:?}");
}

#[test]
fn a_tape_of_any_exchange_that_cannot_be_played_ends_all_before_it_begins() {
    let venues = Venues::new();
    let refused = venues.place.all(&["--tape", "xcme=/nonexistent.dbn"]).expect(5);
    assert!(refused.stderr[0].contains("/nonexistent.dbn"), "{refused:?}");
    assert!(!venues.place.data_dir().exists(), "nothing was made");
}

/// What a tape tells: kind and time of each event, in order.
fn told_by(path: &str) -> Vec<(String, u64)> {
    let tape = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let tape = Tape::read(tape, &Reading::default()).unwrap();
    let schedule = Schedule::new(&[tape], Align::Clock).unwrap();
    let name = |frame: &Frame| DataKind::of(frame).unwrap().name.to_owned();
    let events = schedule.frames().iter().filter(|frame| frame.has_exchange());
    events.map(|frame| (name(frame), frame.ts_event.get())).collect()
}

#[test]
fn each_frame_of_each_exchange_is_journaled_once_whoever_dies() {
    let place = Place::new();
    let second = place.address("external").port() + BESIDE;
    place.configure(&format!(
        "[external]\nchaos = \"off\"\n\
         [[exchange]]\nname = \"xnas\"\ntapes = [\"{AMZN}\"]\nspeed = \"6000\"\n\
         [[exchange]]\nname = \"xcme\"\naddress = {second}\ntapes = [\"{ESU4}\"]\nspeed = \"max\"\n"
    ));
    let all = Process::start(&place.all_arguments(&[]));
    let nodes = [
        "xnas",
        "xcme",
        "broker",
        "core",
        "shard-A",
        "shard-B",
        "shard-C",
        "aggregator",
        "gateway",
    ];
    let system = System::of_nodes(all, Arc::new(place), &nodes);
    system.wait_log("pregao", "the market runs");
    for node in ["core", "xnas", "core", "xcme", "core"] {
        system.kill(node);
        system.wait_started_again(node);
    }
    system.retry("both feeds ended", || {
        let core = system.status().remove("core").ok_or("no core")?;
        let words = ["exchange.xnas", "exchange.xcme"].map(|name| core["words"][name].clone());
        if words.iter().all(|word| word == "ended") { Ok(()) } else { Err(format!("{words:?}")) }
    });
    for (name, shown) in [("AMZN", "xnas:AMZN"), ("xcme:ESU4", "xcme:ESU4")] {
        let report = system.wait_report(name, &["--last", "1"], |_| true);
        assert_eq!(report["symbol"], shown, "{report}");
    }
    let place = system.stop();
    let data = place.data_dir();
    let dump = ["dump", data.to_str().unwrap(), "--log", "core", "--format", "csv"];
    let dumped = Process::start(&dump.map(str::to_owned)).finish().expect(0);
    let head: Vec<&str> = dumped.stdout[0].split(',').collect();
    let column = |name: &str| head.iter().position(|it| *it == name).unwrap();
    let (kind, symbol, time) = (column("kind"), column("symbol"), column("ts_event"));
    for (venue, tape) in [("xnas:", AMZN), ("xcme:", ESU4)] {
        let rows = dumped.stdout.iter().map(|line| line.split(',').collect::<Vec<&str>>());
        let rows = rows.filter(|row| row[symbol].starts_with(venue) && row[kind] != "definition");
        let journaled: Vec<(String, u64)> =
            rows.map(|row| (row[kind].to_owned(), row[time].parse().unwrap())).collect();
        let told = told_by(tape);
        let first = journaled.iter().zip(&told).position(|(one, other)| one != other);
        assert_eq!((journaled.len(), first), (told.len(), None), "{venue}");
    }
}
