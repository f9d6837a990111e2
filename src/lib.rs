//! pregao: a real-time market-quote system.

pub mod duration;
pub mod random;
pub mod time;
pub mod wire;
