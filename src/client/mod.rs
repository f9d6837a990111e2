//! The client library: what the command line and the load generator use, and what anybody's program
//! can use to follow a market.
//!
//! [`Subscription`] follows the feed and blocks; [`NonblockingSubscription`] does the same inside a
//! caller's `mio` loop. Their examples run. Both deliver in order, each frame once, come back
//! after a break, fetch what they missed from core's journal, and report every loss that is left.
//! [`BarSubscription`] folds trades into bars as they come. [`QueryClient`] asks questions. [`Producer`] brings core a feed that it journals,
//! and [`Publisher`] feeds the broker a source of its own, which nobody journals.
//!
//! Five programs use it from outside, in `src/client/examples/`: `cargo run --example follow`, `ask`, `bars`,
//! `produce` and `publish`.
//!
//! All of this module is a shell: sockets, waits and threads. The machines that it drives are in
//! [`crate::subscription`] and shown here too, for callers who bring sockets of their own. The
//! nonblocking form owns the sockets, and the blocking one is the nonblocking one and a wait, so that
//! there is one road for both.

mod bar_subscription;
mod connection;
mod identity;
mod local_broker;
mod nonblocking;
mod producer;
mod publisher;
mod query_client;
mod subscription;
#[cfg(test)]
mod tests;

pub use bar_subscription::{BarEvent, BarSubscription};
pub use connection::{ClientError, Connection};
pub use identity::random_id;
pub use local_broker::LocalBroker;
pub use nonblocking::NonblockingSubscription;
pub use producer::{Producer, ProducerError};
pub use publisher::{PublishError, Publisher};
pub(crate) use query_client::note as note_answer;
pub use query_client::{Answer, QueryClient};
pub use subscription::Subscription;

pub use crate::producer::{FeedId, Instrument, ProduceError};
pub use crate::subscription::{
    Action, Backfill, BackfillSearch, Backoff, BarPattern, Event, Follower, LiveBar, LiveBars,
    NextRead, Request, Subscriber, Symbols, Unfound, Upstream,
};
