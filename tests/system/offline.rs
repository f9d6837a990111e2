//! `verify`, `dump` and `export` on the directory of a running system and of one that has ended: they
//! see what subscribers saw, and change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::process::{Finished, PROGRAM, Process, json};
use super::system::System;
use super::tapes::{AMZN, AMZN_TRADES, all_trades_come_once};

/// Runs a command on the system's data directory.
fn offline(system: &System, command: &str, flags: &[&str]) -> Finished {
    let dir = system.place.data_dir();
    let mut arguments = vec![command.to_owned(), dir.to_str().unwrap().to_owned()];
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    Process::start(&arguments).finish()
}

/// Every file of a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                found.insert(path.to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn seq(line: &Value) -> u64 {
    line["seq"].as_u64().unwrap_or_else(|| panic!("no seq: {line}"))
}

#[test]
fn a_session_is_read_from_the_files_as_it_was_sent() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    let count = AMZN_TRADES.to_string();
    let flags = ["trade.AMZN", "--from", "1", "--count", &count, "--format", "json"];
    let mut sent = system.place.run("subscribe", &flags).expect(0).json();
    for frame in &mut sent {
        frame["flags"].as_array_mut().unwrap().retain(|flag| flag != "replay");
    }
    // The system runs, and stands still: the last records have no watermark behind them yet.
    let dump = |log: &str| {
        let flags = ["--symbol", "trade.AMZN", "--format", "json", "--log", log];
        offline(&system, "dump", &flags).expect(0).json()
    };
    assert!(dump("core") == sent, "the journal is not what was sent");
    system.wait_report("AMZN", &["--bars", "1d"], |report| {
        report["bars"].as_array().unwrap().iter().any(|bar| bar["trades"] == AMZN_TRADES)
    });
    assert!(dump("shards") == sent, "the shards are not what was sent");
    let out = tempfile::tempdir().unwrap();
    let flags = ["--format", "csv", "--kind", "trade", "--out", out.path().to_str().unwrap()];
    offline(&system, "export", &flags).expect(0);
    let exported = files(out.path());
    let (name, bytes) = exported.iter().next().unwrap();
    let place = "kind=trade/date=2012-06-21/symbol=AMZN/part-00000.csv";
    assert!(exported.len() == 1 && name.ends_with(place), "{:?}", exported.keys());
    let mut rows = csv::Reader::from_reader(&bytes[..]);
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), sent.len());
    for (row, frame) in rows.iter().zip(&sent) {
        for column in ["seq", "ts_event", "ts_recv", "qty"] {
            assert_eq!(row[column], frame[column].to_string());
        }
        assert_eq!(row["price"], frame["price"].as_str().unwrap());
    }
    let verified = offline(&system, "verify", &["--format", "json"]).expect(0).json();
    assert!(verified.iter().all(|line| line["kind"] != "summary" || line["in_use"] == true));

    let place = system.stop();
    let dir = place.data_dir();
    let before = files(&dir);
    let verify = ["verify", dir.to_str().unwrap(), "--format", "json"];
    let verified = Process::start(&verify).finish().expect(0).json();
    let names: Vec<&str> = verified.iter().map(|line| line["log"].as_str().unwrap()).collect();
    assert_eq!(names, ["core", "shard-A", "shard-B", "shard-C"]);
    assert!(verified.iter().all(|line| line["closed"] == true && line["verdict"] == "clean"));
    assert!(files(&dir) == before, "verify has changed a file");
}

#[test]
fn a_log_is_read_while_it_is_written_and_after_its_node_died() {
    let system = System::start(&["--rate", "20000", "--chaos", "off"]);
    system.wait_well();
    let kinds = ["quote", "trade", "cancel", "breaker", "definition"];
    let kinds: Vec<&str> = kinds.into_iter().flat_map(|kind| ["--kind", kind]).collect();
    let flags = [&["--format", "json"], &kinds[..]].concat();
    let mut last = 0;
    for round in 0..4 {
        if round == 2 {
            // Segments are half written, and one may be half made.
            system.kill("core");
        }
        let read = offline(&system, "dump", &flags).expect(0).json();
        let seqs: Vec<u64> = read.iter().map(seq).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "round {round}: a hole");
        assert!(seqs.len() as u64 >= last, "round {round}: what was there before is gone");
        last = seqs.len() as u64;
        let committed = system.status()["core"]["figures"]["next_seq"].as_u64().unwrap();
        assert!(last < committed, "round {round}: {last} was read before it was written");
        offline(&system, "verify", &[]).expect(0);
    }
    assert!(last > 1000, "too little was written to mean anything: {last}");
}

#[test]
fn a_reader_that_leaves_ends_a_dump_quietly() {
    let system = System::start(&["--tape", AMZN, "--speed", "max", "--chaos", "off"]);
    all_trades_come_once(&system, "trade.AMZN", AMZN_TRADES);
    let mut dump = Command::new(PROGRAM)
        .args(["dump", system.place.data_dir().to_str().unwrap(), "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(dump.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(seq(&json(&line)), 2);
    let mut errors = String::new();
    dump.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((dump.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}
