//! pregao: a real-time market-quote system.

pub mod breaker;
pub mod client;
pub mod duration;
pub mod feed;
pub mod gather;
pub mod limits;
pub mod log;
pub mod market;
pub mod node;
pub mod random;
pub mod reactor;
pub mod storage;
pub mod time;
pub mod wire;
