//! Directories that were restored, lost, cut or configured in another way: each start is refused and told, and
//! `pregao recover` and `pregao repartition` mend it. Frames are compared one by one, in the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::process::{Finished, Process};
use super::system::{Place, System};
use super::tapes::{AMZN, AMZN_TRADES, all_trades_come_once};

/// A short tape, which comes first.
const ESU4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/esu4-2024-07-01.mbp-1.dbn.zst");
const FLAGS: [&str; 6] = ["--tape", AMZN, "--speed", "max", "--chaos", "off"];
const SHARDS: [&str; 3] = ["shard-A", "shard-B", "shard-C"];

/// A command on the data directory of a place, with its configuration.
pub(crate) fn tool(place: &Place, command: &str, flags: &[&str]) -> Finished {
    let own = [
        command.to_owned(),
        format!("--config={}", place.config_file().display()),
        format!("--data-dir={}", place.data_dir().display()),
        "--format=json".to_owned(),
    ];
    let all: Vec<String> =
        own.into_iter().chain(flags.iter().map(|&flag| flag.to_owned())).collect();
    Process::start(&all).finish()
}

pub(crate) fn verify(place: &Place) -> Finished {
    let dir = place.data_dir();
    Process::start(&["verify", dir.to_str().unwrap(), "--format", "json"]).finish()
}

/// All frames of a log, or of all shards together, as they stand in the files.
pub(crate) fn frames(place: &Place, log: &str) -> Vec<String> {
    dumped(place, log).expect(0).stdout
}

/// The same, and where some are lost.
pub(crate) fn dumped(place: &Place, log: &str) -> Finished {
    let dir = place.data_dir();
    let mut arguments = vec!["dump", dir.to_str().unwrap(), "--format", "json", "--log", log];
    for kind in ["quote", "trade", "cancel", "breaker", "definition", "exchange", "silence"] {
        arguments.extend(["--kind", kind]);
    }
    Process::start(&arguments).finish()
}

/// Every frame of the journal is in the shards, and the other way round.
pub(crate) fn is_one_history(place: &Place) -> Vec<String> {
    let (journal, shards) = (frames(place, "core"), frames(place, "shards"));
    let first = journal.iter().zip(&shards).position(|(one, other)| one != other);
    assert!(journal == shards, "{} and {}, from {first:?}", journal.len(), shards.len());
    journal
}

/// The place of a system that has played the tape and was stopped, its frames, and which feed it was.
fn played() -> (Arc<Place>, Vec<String>, String) {
    let system = System::start(&FLAGS);
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    let (feed, _) = exchange(&system);
    let place = stop_when_fed(system);
    let frames = is_one_history(&place);
    (place, frames, feed)
}

/// Stops a system once the shards have all that the journal has.
pub(crate) fn stop_when_fed(system: System) -> Arc<Place> {
    system.retry("the shards have all", || {
        let status = system.status();
        let next = |node: &str| status[node]["figures"]["next_seq"].as_u64().unwrap_or(0);
        match SHARDS.iter().all(|shard| next(shard) == next("core")) {
            true => Ok(()),
            false => Err(format!("core {}", next("core"))),
        }
    });
    system.stop()
}

/// The system plays the same tape again: nothing is stored twice, and the shards are fed.
fn goes_on(place: Arc<Place>, before: &[String]) {
    let system = System::start_at(place, &FLAGS);
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    system.wait_report("AMZN", &["--bars", "1d"], |report| {
        report["bars"].as_array().unwrap().iter().any(|bar| bar["trades"] == AMZN_TRADES)
    });
    let place = stop_when_fed(system);
    let after = is_one_history(&place);
    let is_market = |line: &&String| !line.contains("\"$sys");
    let market =
        |lines: &[String]| -> Vec<String> { lines.iter().filter(is_market).cloned().collect() };
    assert!(market(&after) == market(before), "{} frames, not {}", after.len(), before.len());
}

/// The files of a log's segments, ascending.
fn segments(place: &Place, log: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(place.data_dir().join(log)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// Those that have a record.
fn used_segments(place: &Place, log: &str) -> Vec<PathBuf> {
    let mut files = segments(place, log);
    files.retain(|file| fs::read(file).unwrap()[4096..].iter().any(|byte| *byte != 0));
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

pub(crate) fn done<'a>(lines: &'a [Value], kind: &str) -> &'a Value {
    lines.iter().find(|line| line["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {lines:?}"))
}

#[test]
fn a_restored_journal_is_refused_and_its_end_comes_back_from_the_shards() {
    let system = System::start(&["--tape", ESU4, "--speed", "max", "--chaos", "off"]);
    system.wait_report("ESU4", &["--bars", "1d"], |report| {
        let trades =
            report["bars"].as_array().unwrap().iter().map(|bar| bar["trades"].as_u64().unwrap());
        trades.sum::<u64>() == 120
    });
    let place = stop_when_fed(system);
    // The second tape is stored behind the first one.
    let appending = [&FLAGS[..], &["--append"]].concat();
    let backup = tempfile::tempdir().unwrap();
    let core = place.data_dir().join("core");
    copy(&core, backup.path());
    let system = System::start_at(place, &appending);
    all_trades_come_once(&system, "trade.*", AMZN_TRADES + 120);
    let (feed, total) = exchange(&system);
    let place = stop_when_fed(system);
    let before = is_one_history(&place);
    tool(&place, "recover", &[]).expect(0);
    fs::remove_dir_all(&core).unwrap();
    copy(backup.path(), &core);
    let report = tool(&place, "recover", &[]).expect(3).json();
    let ahead = report.iter().filter(|line| line["is_well"] == false).count();
    assert!(ahead > 0 && report.iter().any(|line| line["kind"] == "remedy"), "{report:?}");
    // Started all the same, it feeds no shard that has more, and says so.
    let system = System::start_at(place, &appending);
    system.wait_log("core", "refused: shard-");
    let place = system.stop();
    tool(&place, "recover", &[]).expect(3);
    // The tapes were changed in between: how much of the second one the shards have seen is not counted.
    let refused = tool(&place, "recover", &["--from-shards", "--feed", &feed]).expect(4);
    assert!(refused.stderr.iter().any(|line| line.contains("--feed-next")), "{:?}", refused.stderr);
    let flags = ["--from-shards", "--feed", &feed, "--feed-next", &(total + 1).to_string()];
    let rebuilt = tool(&place, "recover", &flags).expect(0).json();
    assert_eq!(done(&rebuilt, "rebuilt")["lost"], 0, "{rebuilt:?}");
    assert!(place.data_dir().join("core.replaced-1").is_dir());
    verify(&place).expect(0);
    tool(&place, "recover", &[]).expect(0);
    assert!(is_one_history(&place) == before, "the journal is not what it was");
    goes_on_with_both(place, &before);
}

/// As [`goes_on`], with the trades of the first tape as well.
fn goes_on_with_both(place: Arc<Place>, before: &[String]) {
    let system = System::start_at(place, &FLAGS);
    system.wait_well();
    let place = stop_when_fed(system);
    let after = is_one_history(&place);
    let trades = |lines: &[String]| lines.iter().filter(|line| line.contains("\"trade\"")).count();
    assert_eq!(trades(&after), trades(before), "a trade came twice, or is gone");
}

#[test]
fn a_lost_journal_comes_back_from_the_shards_to_the_last_frame() {
    let (place, before, feed) = played();
    fs::remove_dir_all(place.data_dir().join("core")).unwrap();
    tool(&place, "recover", &[]).expect(4);
    let refused = tool(&place, "recover", &["--from-shards"]).expect(2);
    assert!(refused.stderr.iter().any(|line| line.contains("--feed")), "{:?}", refused.stderr);
    tool(&place, "recover", &["--from-shards", "--feed", &feed]).expect(0);
    assert!(is_one_history(&place) == before, "the journal is not what it was");
    goes_on(place, &before);
}

/// Which feed the exchange plays, and how many frames that has.
fn exchange(system: &System) -> (String, u64) {
    let nodes = system.place.run("status", &["--format", "json", "--verbose"]).expect(0).json();
    let exchange = nodes.iter().find(|line| line["node"] == "external").unwrap();
    let feed = find(exchange, "feed.identity").expect("the exchange says which feed it plays");
    (feed, exchange["figures"]["feed.total_frames"].as_u64().unwrap())
}

/// A text of an object, wherever it stands.
fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(map) => map.iter().find_map(|(name, value)| {
            let found = (name == key).then(|| value.as_str().map(str::to_owned)).flatten();
            found.or_else(|| find(value, key))
        }),
        Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

#[test]
fn the_last_segments_of_the_journal_are_missed_and_rebuilt() {
    let (place, before, feed) = played();
    let used = used_segments(&place, "core");
    let all = segments(&place, "core");
    let taken = used.len().min(5) - 1;
    assert!(taken >= 2, "too few segments to mean anything: {}", used.len());
    let first_taken = &used[used.len() - taken];
    all.iter().filter(|file| *file >= first_taken).for_each(|file| fs::remove_file(file).unwrap());
    let found = verify(&place).expect(4).json();
    let number = used.len() - taken + 1;
    let is_named = |line: &Value| {
        line["what"]
            .as_str()
            .is_some_and(|what| what.contains(&format!("segment {number} is missing")))
    };
    assert!(found.iter().any(is_named), "{found:?}");
    let start = place.all(&FLAGS);
    assert_eq!(start.code(), 5, "{:?}", start.stderr);
    assert!(start.stderr.iter().any(|line| line.contains("pregao recover")), "{:?}", start.stderr);
    tool(&place, "recover", &[]).expect(4);
    tool(&place, "recover", &["--from-shards", "--feed", &feed]).expect(0);
    verify(&place).expect(0);
    assert!(is_one_history(&place) == before, "the journal is not what it was");
    goes_on(place, &before);
}

#[test]
fn the_first_segment_of_a_shard_is_missed_and_the_shard_is_fed_anew() {
    let (place, before, _) = played();
    let shard = SHARDS.into_iter().find(|shard| used_segments(&place, shard).len() > 1).unwrap();
    fs::remove_file(&segments(&place, shard)[0]).unwrap();
    let found = verify(&place).expect(3).json();
    assert!(
        found.iter().any(|line| line["what"] == "segment 1 is missing" && line["log"] == shard),
        "{found:?}"
    );
    let system = System::start_at(place, &FLAGS);
    system.wait_log(shard, "segments 1 to 1 of the log are missing");
    system.retry("a status that says it", || {
        let status = system.place.run("status", &["--deadline", "10s"]);
        let trouble = format!("TROUBLE: {shard}: the front of its history is missing");
        let is_told = status.stdout.first() == Some(&trouble) && status.code() == 3;
        if is_told { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let (code, report, finished) = system.report("AMZN", &["--last", "5", "--deadline", "10s"]);
    assert_eq!(code, 3, "{finished:?}");
    assert_eq!(report.unwrap()["complete"], false);
    // A sum that lacks a part is none.
    assert_eq!(system.report("AMZN", &["--bars", "1d", "--deadline", "10s"]).0, 4);
    let place = system.stop();
    let reset = tool(&place, "recover", &["--reset", shard]).expect(0).json();
    assert_eq!(done(&reset, "reset")["replaced"], format!("{shard}.replaced-1"));
    goes_on(place, &before);
}

#[test]
fn a_changed_partition_is_refused_and_the_history_is_moved() {
    let (place, before, _) = played();
    tool(&place, "repartition", &[]).expect(2);
    place.configure("[partition]\nby = \"range\"\nranges = [\"A-A\", \"B-M\", \"N-Z\"]\n");
    let start = place.all(&FLAGS);
    assert_eq!(start.code(), 5, "{:?}", start.stderr);
    let is_told = |line: &String| {
        line.contains("hash over 3 shards")
            && line.contains("ranges A-A B-M N-Z")
            && line.contains("pregao repartition")
    };
    assert!(start.stderr.iter().any(is_told), "{:?}", start.stderr);
    let moved = tool(&place, "repartition", &[]).expect(0).json();
    let count: u64 = moved.iter().filter_map(|line| line["frames"].as_u64()).sum();
    assert_eq!(count, before.len() as u64, "{moved:?}");
    for shard in SHARDS {
        assert!(place.data_dir().join(format!("{shard}.replaced-1")).is_dir(), "{moved:?}");
    }
    verify(&place).expect(0);
    assert!(is_one_history(&place) == before, "the shards are not what they were");
    goes_on(Arc::clone(&place), &before);
    // Fewer shards, and more again: what a shard that is no longer there held is with the others.
    let text = fs::read_to_string(place.config_file()).unwrap();
    let one = text.lines().find(|line| line.starts_with("shards")).unwrap().to_owned();
    let port = one.split(['[', ',']).nth(1).unwrap();
    let fewer = text.replace(&one, &format!("shards = [{port}]"));
    let fewer = fewer.split("[partition]").next().unwrap().to_owned();
    fs::write(place.config_file(), fewer).unwrap();
    let market = is_one_history(&place);
    tool(&place, "repartition", &[]).expect(0);
    assert!(!place.data_dir().join("shard-B").exists());
    assert!(is_one_history(&place) == market);
    place.configure("");
    tool(&place, "repartition", &[]).expect(0);
    assert!(is_one_history(&place) == market);
    goes_on(place, &before);
}
