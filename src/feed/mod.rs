//! Publish/subscribe: the ring that holds a sequence once for all its readers, the last value of every
//! instrument, what a reader is interested in, and instruments by name. What is *not* here: connections (see
//! `node::broker`) and history older than the ring (see `log`).

mod interest;
mod last_value;
mod names;
mod ring;
mod topic;

pub use interest::{Interest, InterestId, Interests, Steps};
pub use last_value::LastValues;
pub use names::{NamePlace, NameTable};
pub use ring::{Ring, RingReader, RingView, Window};
pub use topic::{Pattern, PatternError};
