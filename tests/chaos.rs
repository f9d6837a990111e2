//! Random bad days for the real program: processes killed, stopped and started at random moments
//! under load, a network that delays, cuts and garbles, descriptors that run out, crowds of
//! subscribers of which some never read, and of peers that say nothing. Bounded in time.
//!
//! What a moment does to whom comes from a seed, which a failure names; what the kernel makes of it
//! is its own affair, so a seed repeats the plan and not the run. The simulator repeats runs.
//!
//! `PREGAO_CHAOS_SEED=N` chooses the plan, `PREGAO_CHAOS_SECONDS=N` makes it longer.

#[cfg(test)]
#[path = "chaos/crowd.rs"]
mod crowd;
#[cfg(test)]
#[path = "chaos/idle_at_core.rs"]
mod idle_at_core;
#[cfg(test)]
#[path = "chaos/never_read.rs"]
mod never_read;
#[cfg(test)]
#[path = "chaos/plan.rs"]
mod plan;
#[cfg(test)]
#[path = "chaos/proxy.rs"]
mod proxy;
#[cfg(test)]
mod support;

#[cfg(test)]
use support::{checks, process, system};
