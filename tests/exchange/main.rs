//! Core against exchanges that are sick in the ways that a kernel can make: every failure is a real
//! one. Core is the sequencer on a reactor in a thread; the test holds the exchange's end, and the
//! broker's, from which it hears of every change of a breaker the moment it is published.
//!
//! Failures that need routes are made in a network namespace of the test's own, which dies with it.
//! Nothing here waits by sleeping, and no port or name is fixed, so that two runs do not meet.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is a shell, and stops where it is surprised"
)]

mod cost;
mod harness;
mod kernel;
mod network;
mod process;
mod simulated;
mod stand_in;
#[path = "../support/mod.rs"]
mod support;
