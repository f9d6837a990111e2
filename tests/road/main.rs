//! The whole road, from the exchange to the subscriber, in one thread under a simulated clock,
//! network and disk. A seed decides everything; a failing test names it. `ROAD_SEEDS=200` tries more.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "these are tests")]

mod asker;
mod client;
mod hosts;
mod net;
mod road;
mod scenarios;
mod world;
