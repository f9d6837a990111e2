//! The client library: what the command line and the load generator use, and what anybody's program
//! can use to follow a market.
//!
//! [`Subscription`] follows the feed and blocks; [`NonblockingSubscription`] does the same inside a
//! caller's `mio` loop. Their examples run. Both deliver in order, each frame once, come back
//! after a break, fetch what they missed from core's journal, and tell of every loss that is left.
//! [`BarSubscription`] folds trades into bars as they come. [`Asker`] asks questions.
//!
//! Below them are machines, without sockets and clocks: [`Follower`] keeps the place in the sequence and
//! decides what the caller is told; [`Subscriber`] around it decides when to connect, to speak, and to
//! take a peer for dead. The nonblocking form owns the sockets, and the blocking one is the nonblocking
//! one and a wait, so that there is one road for both.

mod asker;
mod backoff;
mod bar_subscription;
mod connection;
mod follower;
mod live_bars;
mod local_broker;
mod nonblocking;
mod subscriber;
mod subscription;
mod symbols;

pub use asker::{Answer, Asker};
pub use backoff::Backoff;
pub use bar_subscription::{BarEvent, BarSubscription};
pub use connection::{ClientError, Connection};
pub use follower::{Event, Follower, Request, Want};
pub use live_bars::{Backfill, BarPattern, LiveBar, LiveBars};
pub use local_broker::LocalBroker;
pub use nonblocking::NonblockingSubscription;
pub use subscriber::{Action, Peer, Subscriber};
pub use subscription::Subscription;
pub use symbols::Symbols;
