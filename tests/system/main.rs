//! The whole system, watched from outside: the real program, started as a user starts it, and asked
//! through its own commands and ports.
//!
//! Nothing here sleeps: every wait is for a line, an exit or a byte, with a deadline that only a
//! broken system reaches. Each test runs its system on a loopback address of its own, in a
//! temporary directory, and takes everything down when it ends, however it ends.
//!
//! What it is not: a test of the machines' corner cases, which the library's tests reach faster and
//! in virtual time.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod between;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod charts;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod ended;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fresh;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod market;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod names;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod past;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod reactors;
#[cfg(test)]
mod recover;
#[cfg(test)]
mod recover_exchanges;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod replicas;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod tapes;
#[cfg(test)]
mod venues;
#[cfg(test)]
mod watch;

#[cfg(test)]
use support::{checks, process, system, terminal};
