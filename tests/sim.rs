//! Starts the simulator (`tests/sim/`) with the arguments of this binary, so that `cargo test` runs it and
//! `cargo test --test sim -- --seed 42` goes on to it.
//!
//! It is a package of its own because it needs the feature `planted`. Cargo unites the features of all
//! packages that one command selects, so a second command builds it. That command waits for no lock: the
//! first one has given back the target directory before it starts a test.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Set by cargo, and the same toolchain then.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    // Whoever built this had an up-to-date Cargo.lock.
    command.args(["test", "--locked", "--package", "pregao-sim"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--").args(env::args_os().skip(1)).current_dir(env!("CARGO_MANIFEST_DIR"));
    let error = command.exec();
    eprintln!("cannot start cargo: {error}; `cargo sim` runs the simulator");
    ExitCode::FAILURE
}
