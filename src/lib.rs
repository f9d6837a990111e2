//! pregao: a real-time market-quote system.

pub mod limits;
pub mod log;
pub mod storage;
pub mod time;
pub mod wire;
