//! What core is configured with.

use std::net::SocketAddr;
use std::time::Duration;

use crate::breaker;
#[cfg(doc)]
use crate::limits;
use crate::market::partition::Partition;

/// One node that follows the journal.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// Its name in logs and status, such as `broker` or `shard-A`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which part of the sequence it gets; `None` = all of it (the broker).
    pub shard: Option<u16>,
}

/// One exchange that feeds core.
#[derive(Clone, Debug)]
pub struct ExchangeConfig {
    /// Its name, which is the venue of its instruments: up to [`limits::EXCHANGE_NAME_BYTES_MAX`] letters, digits, `-` and
    /// `_`. The one that is called [`ExchangeConfig::NAMELESS`] has no venue.
    pub name: String,
    /// Where it listens; `None`: it is a producer, and comes by itself.
    pub address: Option<SocketAddr>,
    /// For its session and its requests.
    pub breaker: breaker::Config,
}

impl ExchangeConfig {
    /// The name of the exchange whose instruments have no venue.
    pub const NAMELESS: &str = "exchange";

    /// The exchange whose instruments have no venue.
    #[must_use]
    pub fn nameless(address: SocketAddr, breaker: breaker::Config) -> ExchangeConfig {
        ExchangeConfig {
            name: ExchangeConfig::NAMELESS.to_owned(),
            address: Some(address),
            breaker,
        }
    }
}

/// What core is configured with.
#[derive(Clone, Debug)]
pub struct SequencerConfig {
    /// Who feeds it, at least one; no name twice.
    pub exchanges: Vec<ExchangeConfig>,
    /// Who follows the journal.
    pub followers: Vec<FollowerConfig>,
    /// Which shard owns which symbol.
    pub partition: Partition,
    /// For each follower.
    pub breaker: breaker::Config,
    /// How often the exchange is asked whether it lives.
    pub heartbeat: Duration,
    /// How long the exchange may be silent before its session is given up.
    pub silence_max: Duration,
    /// How long a request to the exchange may take.
    pub request_deadline: Duration,
    /// How long a connect may take.
    pub connect_deadline: Duration,
    /// How many of the newest frames an empty broker is sent.
    pub broker_warmup_frames: u64,
    /// For jitter.
    pub seed: u64,
    /// The identity of the epoch that core begins when it starts: random, and used once.
    pub epoch_id: u64,
    /// Whether producers may come for exchanges that are not in the list.
    pub takes_unlisted: bool,
    /// Stores another feed behind the one that the journal holds, also where one of both is a recording.
    pub appends: bool,
}
