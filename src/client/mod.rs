//! The client library: what the command line and the load generator use, and what anybody's program
//! can use to follow a market.
//!
//! [`Follower`] is the machine: it decides what to ask, whom, and what the caller is told. The blocking
//! shells around it, [`Subscription`] and [`Asker`], own the sockets.

mod asker;
mod backoff;
mod connection;
mod follower;
mod subscription;
mod symbols;

pub use asker::{Answer, Asker};
pub use backoff::Backoff;
pub use connection::{ClientError, Connection};
pub use follower::{Event, Follower, Request, Want};
pub use subscription::Subscription;
pub use symbols::Symbols;
