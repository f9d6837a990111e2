//! What is built and measured is what ships: planted bugs are the simulator's only.

#![allow(missing_docs, reason = "these are tests")]

use std::path::Path;
use std::process::Command;

/// Where the benches are, and what each of them calls first.
const BENCHES: &str = "benches";
const GUARD: &str = "pregao::planted::refuse_to_measure";

#[test]
fn planted_bugs_in_the_program() {
    let program = env!("CARGO_BIN_EXE_pregao");
    let asked = Command::new(program).arg("--version").output().expect("the program runs");
    let said = String::from_utf8(asked.stdout).expect("text");
    let features = said.lines().find_map(|line| line.strip_prefix("features: "));
    let features = features.expect("the version names the features");
    assert!(
        features.split(", ").all(|feature| feature != "planted"),
        "{program} has planted bugs: do not select the simulator's package in the same command \
         (`--workspace`)"
    );
    // The lines above are what a person sees; this is what the benches see.
    pregao::planted::refuse_to_measure();
}

#[test]
fn a_bench_that_measures_planted_bugs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let mut count = 0;
    for entry in std::fs::read_dir(root.join(BENCHES)).expect("the benches") {
        let path = entry.expect("a bench").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).expect("a bench");
        assert!(is_guarded(&text), "{} does not call {GUARD} first", path.display());
    }
    assert_eq!(manifest.matches("[[bench]]").count(), count, "benches of Cargo.toml and files");

    assert!(!is_guarded("criterion_main!(benches);"));
    assert!(!is_guarded("fn main() {\n    work();\n    pregao::planted::refuse_to_measure();\n}"));
}

/// Whether `main` begins with the guard.
fn is_guarded(text: &str) -> bool {
    let begins = |(_, rest): (&str, &str)| rest.trim_start().starts_with(GUARD);
    text.split_once("criterion_main!(").is_some_and(begins)
        || text
            .split_once("fn main()")
            .and_then(|(_, rest)| rest.split_once('{'))
            .is_some_and(begins)
}
