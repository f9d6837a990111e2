//! pregao: a real-time market-quote system.

pub mod cli;
pub mod config;
pub mod duration;
pub mod limits;
pub mod supervisor;
pub mod time;
pub mod wire;
