//! What goes wrong before anything runs, or because nothing runs: one line that says what to do, on
//! standard error, and the exit code that belongs to it.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;

use super::process::Finished;
use super::system::{NODES, Place, System};
use super::tapes::AMZN;

const USAGE: i32 = 2;
const FAILED: i32 = 4;
const CANNOT_START: i32 = 5;

/// The one line of an error. A supervisor that had started nodes already shows its log before it.
fn line_of(finished: Finished, code: i32) -> String {
    let finished = finished.expect(code);
    let is_log = |line: &&String| line.find(" | ") == Some(10);
    let lines: Vec<&String> = finished.stderr.iter().filter(|line| !is_log(line)).collect();
    assert_eq!(lines.len(), 1, "{finished:#?}");
    for line in &finished.stderr {
        assert!(!line.contains("panicked") && !line.contains("RUST_BACKTRACE"), "{finished:#?}");
    }
    assert_eq!(finished.stderr.last(), Some(lines[0]), "the error comes last");
    lines[0].strip_prefix("error: ").unwrap_or_else(|| panic!("{finished:#?}")).to_owned()
}

#[test]
fn a_busy_port_is_named_before_anything_starts() {
    for node in NODES {
        let place = Place::new();
        let address = place.address(node);
        let _busy = TcpListener::bind(address).unwrap();
        let finished = place.all(&[]);
        assert_eq!(finished.stderr.len(), 1, "{finished:?}");
        let line = line_of(finished, CANNOT_START);
        assert!(line.contains(&format!("port {} on {}", address.port(), address.ip())), "{line}");
        assert!(line.contains("--config"), "{line}");
    }
}

#[test]
fn a_tape_that_cannot_be_replayed_ends_everything() {
    let place = Place::new();
    let inside = |name: &str| place.config_file().with_file_name(name);
    let whole = fs::read(AMZN).unwrap();
    fs::write(inside("cut.dbn.zst"), &whole[..whole.len() / 2]).unwrap();
    let mut spoiled = whole.clone();
    spoiled[whole.len() / 2..][..64].fill(0x5a);
    fs::write(inside("spoiled.dbn.zst"), spoiled).unwrap();
    fs::write(inside("text.dbn.zst"), "no tape at all").unwrap();
    fs::write(inside("empty"), "").unwrap();
    for name in ["missing.dbn.zst", "cut.dbn.zst", "spoiled.dbn.zst", "text.dbn.zst", "empty", ""] {
        let tape = inside(name).display().to_string();
        let line = line_of(place.all(&["--tape", &tape]), CANNOT_START);
        assert!(
            line.starts_with("the tape") || line.starts_with("cannot read the tape"),
            "{name}: {line}"
        );
        assert!(line.contains(&tape), "{name}: {line}");
    }
}

#[test]
fn an_impossible_data_directory_is_one_line() {
    let place = Place::new();
    // Permissions do not stop a test that runs as root; a file where a directory should be does.
    fs::write(place.data_dir(), "a file").unwrap();
    let line = line_of(place.all(&[]), CANNOT_START);
    assert!(line.contains(&place.data_dir().display().to_string()), "{line}");
    assert!(line.contains("--data-dir"), "{line}");

    // And where a node's own directory should be.
    fs::remove_file(place.data_dir()).unwrap();
    fs::create_dir(place.data_dir()).unwrap();
    fs::write(place.data_dir().join("shard-B"), "a file").unwrap();
    let line = line_of(place.all(&[]), CANNOT_START);
    assert!(line.starts_with("shard-B: "), "{line}");
}

#[test]
fn a_second_system_on_the_same_directory_is_refused() {
    let system = System::start(&["--speed", "0"]);
    let other = Place::new();
    let dir = system.place.data_dir();
    let dir = dir.to_str().unwrap();
    let refused = super::process::Process::start(&[
        "all".to_owned(),
        format!("--data-dir={dir}"),
        format!("--host={}", other.host),
        format!("--config={}", other.config_file().display()),
    ]);
    let line = line_of(refused.finish(), CANNOT_START);
    assert!(line.contains(&format!("pid {}", system.all.pid)), "{line}");
    assert!(line.contains(&format!("pregao stop --data-dir {dir}")), "{line}");
    system.wait_well();
}

#[test]
fn a_log_of_something_else_is_refused_and_left_alone() {
    let place = Arc::new(Place::new());
    let system = System::start_at(Arc::clone(&place), &["--chaos", "off"]);
    system.place.run("subscribe", &["--count", "100"]).expect(0);
    system.stop();
    let core = place.data_dir().join("core");
    let mut files: Vec<_> = fs::read_dir(&core).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let log = files.iter().find(|file| file.extension().is_some_and(|it| it == "log")).unwrap();
    let mut bytes = fs::read(log).unwrap();
    bytes[..16].fill(0xff);
    fs::write(log, &bytes).unwrap();
    let line = line_of(place.all(&[]), CANNOT_START);
    assert!(line.starts_with("core: "), "{line}");
    assert!(fs::read(log).unwrap() == bytes, "the damaged log was changed");
}

#[test]
fn wrong_flags_are_one_line_and_a_code_of_their_own() {
    let place = Place::new();
    for flags in [
        &["--speed", "fast"][..],
        &["--rate", "0"],
        &["--rate", "10", "--tape", "x"],
        &["--chaos", "drop=2"],
        &["--chaos", "nonsense"],
        &["--fly"],
        &["--host", "nowhere"],
    ] {
        let finished = place.all(flags);
        assert_eq!(finished.stderr.len(), 1, "{flags:?}: {finished:?}");
        let line = line_of(finished, USAGE);
        assert!(line.contains(flags[0]), "{flags:?}: {line}");
    }
    for (command, flags) in [
        ("subscribe", &["--count", "0"][..]),
        ("subscribe", &["--from", "0"]),
        ("subscribe", &["P*R"]),
        ("report", &[]),
        ("report", &["AMZN", "--bars", "1y"]),
        ("status", &["--deadline", "never"]),
        ("fly", &[]),
    ] {
        let line = line_of(place.run(command, flags), USAGE);
        assert!(line.contains("pregao") || line.contains("--"), "{command} {flags:?}: {line}");
    }
}

#[test]
fn asking_when_nothing_runs_says_how_to_start_it() {
    let place = Place::new();
    for (command, flags) in
        [("subscribe", &["--count", "1"][..]), ("report", &["AMZN"]), ("status", &[])]
    {
        let line = line_of(place.run(command, flags), FAILED);
        assert!(line.contains("pregao all"), "{command}: {line}");
    }
    let line = line_of(place.stop(), FAILED);
    assert!(line.contains("nothing runs on"), "{line}");
}
