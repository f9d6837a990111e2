//! What survives what, with the real program on real files: `kill -9` at random moments, a full disk,
//! directories that must be refused, and syncs that are seen as system calls.
//!
//! Nothing here waits by sleeping: every wait is for a line, a frame or an exit, or is the random moment
//! of a kill. No port is fixed, every directory is the test's own.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is a shell, and stops where it is surprised"
)]

mod core_kills;
mod disk;
mod famine;
mod files;
mod full_disk;
mod recorder;
mod refusals;
mod shard_kills;
#[path = "../support/mod.rs"]
mod support;
mod synced;
mod tracer;
mod wire;

use support::{node, process, tmpfs};
