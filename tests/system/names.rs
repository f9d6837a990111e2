//! Names that are longer than a symbol, from a tape to every command: asked for as they are, shown as they are, and there still
//! behind a kill and a restart.

use serde_json::Value;

use super::process::Process;
use super::system::System;

const FORTY: &str = "BRN-FMH0024-BRN-FMJ0024-SPREAD-OF-40-CHA";
const SEVENTY: &str = "A-STRATEGY-OF-SIX-LEGS-THAT-A-VENUE-LISTS-UNDER-A-NAME-OF-70-CHARACTER";

/// The tape of `star-and-long-symbols` with these two names in the place of its own: a DBN name has 71 bytes and zeros behind it.
fn tape(dir: &std::path::Path) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cases/star-and-long-symbols.dbn");
    let mut bytes = std::fs::read(path).unwrap();
    for (before, now) in [("WFC+", FORTY), ("LONG-STRATEGY-NAME-OF-26-CH", SEVENTY)] {
        let mut replaced = 0;
        let mut at = 0;
        while let Some(found) =
            bytes[at..].windows(before.len()).position(|it| it == before.as_bytes())
        {
            let field = &mut bytes[at + found..][..71];
            field.fill(0);
            field[..now.len()].copy_from_slice(now.as_bytes());
            (at, replaced) = (at + found + 71, replaced + 1);
        }
        assert_eq!(replaced, 2, "{before}");
    }
    let tape = dir.join("long.dbn");
    std::fs::write(&tape, &bytes).unwrap();
    tape.to_str().unwrap().to_owned()
}

/// Every command finds the instrument by its name, and shows it.
fn can_be_asked_for(system: &System, name: &str) {
    let has_one = |report: &Value| report["history"].as_array().is_some_and(|it| !it.is_empty());
    let report = system.wait_report(name, &["--last", "1"], has_one);
    assert_eq!(report["full_name"], name, "{report}");
    let symbol = report["symbol"].as_str().unwrap();
    assert!(symbol.len() <= 24 && symbol.contains('~'), "{symbol}");
    let table = system.place.run("report", &[name, "--last", "1"]).expect(0);
    assert!(table.stdout.join("\n").contains(&format!("{symbol} is {name}")), "{table:?}");
    let pattern = format!("trade.{name}");
    let flags = [pattern.as_str(), "--from", "1", "--count", "1", "--format", "json"];
    let told = system.place.run("subscribe", &flags).expect(0).json();
    let trade = told.iter().find(|line| line["kind"] == "trade").unwrap();
    assert_eq!((&trade["symbol"], &trade["full_name"]), (&symbol.into(), &name.into()));
    // Of the live feed, ahead of which the broker states names.
    let flags = [name, "--count", "1", "--format", "json"];
    let told = system.place.run("subscribe", &flags).expect(0).json();
    assert!(told.iter().all(|line| line["full_name"] == name), "{told:?}");
}

#[test]
fn longer_names_are_asked_for_and_shown_and_outlive_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let tape = tape(dir.path());
    let flags = ["--speed", "max", "--chaos", "off", "--tape", &tape];
    let system = System::start(&flags);
    for name in [FORTY, SEVENTY] {
        can_be_asked_for(&system, name);
    }
    let table = system.place.run("subscribe", &[FORTY, "--count", "1"]).expect(0);
    assert!(table.stdout.iter().any(|line| line.contains(&format!(" is {FORTY}"))), "{table:?}");
    // A name that differs at its end only is another one, and nobody has it.
    let other = SEVENTY.replace("70-CHARACTER", "70-CHARACTEX");
    let (code, _, finished) = system.report(&other, &["--last", "1"]);
    assert_eq!(code, 4, "{finished:?}");
    let long_pattern = format!("{}*", &FORTY[..30]);
    let refused = system.place.run("subscribe", &[&long_pattern]);
    assert!(refused.expect(2).stderr.join(" ").contains("at most 24 characters before its *"));

    for node in ["core", "broker", "shard-A", "shard-B", "shard-C"] {
        system.kill(node);
    }
    system.wait_well();
    for name in [FORTY, SEVENTY] {
        can_be_asked_for(&system, name);
    }
    let place = system.stop();
    let system = System::start_at(place, &flags);
    for name in [FORTY, SEVENTY] {
        can_be_asked_for(&system, name);
    }

    let place = system.stop();
    let log = place.data_dir();
    let dump = |more: &[&str]| {
        let flags = ["dump", log.to_str().unwrap(), "--log", "core", "--format", "json"];
        let arguments: Vec<&str> = flags.iter().chain(more).copied().collect();
        Process::start(&arguments).finish().expect(0).json()
    };
    let parts = dump(&["--kind", "name"]);
    let texts: Vec<&str> = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
    // `BAC-I*` has a name of one part too. Each part is journaled once, however often it is said.
    assert_eq!(texts.len(), 1 + 2 + 3, "{texts:?}");
    assert!(texts.concat().contains(SEVENTY) && texts.contains(&"BAC-I*"), "{texts:?}");
    let trades = dump(&["--symbol", SEVENTY, "--kind", "trade"]);
    assert!(!trades.is_empty() && trades.iter().all(|it| it["full_name"] == SEVENTY), "{trades:?}");
}

/// Lines of a program's own name instruments as a tape does.
#[test]
fn lines_with_a_longer_name_are_published_under_it() {
    let system = System::start(&["--speed", "0"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trades.csv");
    std::fs::write(
        &file,
        format!("symbol,ts_event,price,qty\n{SEVENTY},1784034439126000000,41.20,100\n"),
    )
    .unwrap();
    system.place.run("publish", &[file.to_str().unwrap(), "--exchange", "own"]).expect(0);
    let name = format!("own:{SEVENTY}");
    let has_one = |report: &Value| report["history"].as_array().is_some_and(|it| !it.is_empty());
    let report = system.wait_report(&name, &["--last", "1"], has_one);
    assert_eq!(report["full_name"], name.as_str(), "{report}");
}
