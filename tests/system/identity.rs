//! Directories that do not belong together, as an operator's backup leaves them, with the real program.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::system::System;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Runs until core has so many frames more.
fn run_on(system: &System, frames: u64) {
    let next_seq = || system.status()["core"]["figures"]["next_seq"].as_u64().unwrap();
    let from = next_seq();
    system.retry("a feed", || match next_seq() {
        now if now >= from + frames => Ok(()),
        now => Err(format!("{now} is not {frames} behind {from}")),
    });
}

#[test]
fn a_restored_journal_feeds_no_shard_that_holds_more_and_the_right_one_goes_on() {
    let flags = ["--rate", "2000", "--chaos", "off"];
    let system = System::start(&flags);
    system.wait_well();
    run_on(&system, 500);
    let place = system.stop();
    let (core, saved) = (place.data_dir().join("core"), place.data_dir().join("saved"));
    copy(&core, &saved);

    let system = System::start_at(Arc::clone(&place), &flags);
    system.wait_well();
    run_on(&system, 1_000);
    system.stop();
    let right = place.data_dir().join("right");
    fs::rename(&core, &right).unwrap();
    copy(&saved, &core);

    // It counts like the one that went on: the same numbers of epochs, and soon the same `seq`.
    let system = System::start_at(Arc::clone(&place), &flags);
    for name in ["shard-A", "shard-B", "shard-C"] {
        system.wait_log("core", &format!("refused: {name} holds frames up to seq"));
        system.wait_log(name, "core refuses to feed this shard");
        let figures = &system.status()["core"];
        let text = figures.to_string();
        assert!(text.contains("another history"), "{text}");
    }
    system.stop();

    fs::remove_dir_all(&core).unwrap();
    fs::rename(&right, &core).unwrap();
    let system = System::start_at(Arc::clone(&place), &flags);
    system.wait_well();
    run_on(&system, 500);
    let log = system.log();
    assert!(!log.iter().any(|line| line.contains("refused:")), "{log:?}");
}
