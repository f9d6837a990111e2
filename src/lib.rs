//! pregao: a real-time market-quote system.

pub mod time;
pub mod wire;
