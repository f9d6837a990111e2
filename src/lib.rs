//! pregao: a real-time market-quote system.

pub mod limits;
pub mod market;
pub mod random;
pub mod time;
pub mod wire;
