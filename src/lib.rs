//! pregao: a real-time market-quote system. How to run it is in the [`manual`].

pub mod breaker;
pub mod cli;
pub mod client;
pub mod config;
mod dial;
pub mod duration;
pub mod feed;
pub mod gather;
mod history;
pub mod http;
pub mod limits;
pub mod log;
pub mod manual;
pub mod market;
pub mod node;
pub mod planted;
pub mod playback;
pub mod producer;
pub mod question;
pub mod random;
pub mod reactor;
pub mod storage;
pub mod subscription;
pub mod supervisor;
pub mod time;
pub mod turn;
pub mod wire;
