//! What the manual and the README show, against the real program: screens of `pregao status`, and the tour, command by
//! command, at two sizes of a terminal.
//!
//! What is shown was printed by these tests: `PREGAO_RENEW=1 cargo test --test manual` writes the pages anew. Without
//! it a test compares. Times, counts and prices change from run to run; `normal` is the one place that knows which.

#[cfg(test)]
mod normal;
#[cfg(test)]
mod page;
#[cfg(test)]
mod screens;
#[cfg(test)]
mod shell;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tour;

use support::{process, system, terminal, tmpfs};
