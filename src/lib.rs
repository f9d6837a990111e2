//! pregao: a real-time market-quote system.

pub mod client;
pub mod feed;
pub mod limits;
pub mod node;
pub mod random;
pub mod reactor;
pub mod time;
pub mod wire;
