//! `cargo ci`: starts `.ci/run`. An alias can name only a command of cargo's, so it names this target, which
//! a plain `cargo test` leaves out (`test = false`).

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run");
    let error = Command::new(script).exec();
    eprintln!("cannot start {script}: {error}");
    ExitCode::FAILURE
}
