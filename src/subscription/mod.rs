//! A subscription as a machine: no sockets, no clock. [`Follower`] keeps the place in the sequence and
//! decides which events its caller gets; [`Subscriber`] around it decides when to connect, when to send, and when
//! a peer counts as dead. [`LiveBars`] folds the trades of a subscription into bars.
//!
//! It stands below the nodes, so that a node can follow another one. The sockets for programs that are no
//! node are in [`crate::client`].

mod backoff;
mod follower;
mod live_bars;
mod subscriber;
mod symbols;

pub use backoff::Backoff;
pub use follower::{Event, Follower, NextRead, Request};
pub use live_bars::{Backfill, BackfillSearch, BarPattern, LiveBar, LiveBars, Unfound};
pub use subscriber::{Action, Subscriber, Upstream};
pub use symbols::Symbols;
