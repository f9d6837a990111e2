//! pregao: a real-time market-quote system.

pub mod breaker;
pub mod duration;
pub mod gather;
pub mod limits;
pub mod market;
pub mod random;
pub mod time;
pub mod wire;
