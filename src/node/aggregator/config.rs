//! What the aggregator is configured with: whom it asks, and what it allows its clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::breaker;
use crate::limits;
use crate::market::partition::Partition;

/// One node that is asked.
#[derive(Clone, Debug)]
pub struct LeafConfig {
    /// Its name in answers, logs and status: `core`, `shard-A` …; 16 bytes of it travel.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which part of the history it owns; `None` = core, which owns the quotes.
    pub shard: Option<u16>,
}

/// What the aggregator is configured with.
#[derive(Clone, Debug)]
pub struct AggregatorConfig {
    /// Core and every shard of the partition, in any order, but each before its replicas.
    pub leaves: Vec<LeafConfig>,
    /// Which shard owns which symbol.
    pub partition: Partition,
    /// For each leaf.
    pub breaker: breaker::Config,
    /// How long a connect to a leaf may take.
    pub connect_deadline: Duration,
    /// How long a leaf may take to answer our SESSION. Questions bring their own deadlines.
    pub request_deadline: Duration,
    /// Queries that one client may have in flight.
    pub queries_per_client_max: usize,
    /// How far behind core a node may be and still answer in full.
    pub behind_max: Duration,
    /// For jitter.
    pub seed: u64,
}

/// What is wrong with an [`AggregatorConfig`]. Whoever configured it is to blame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AggregatorError {
    #[error("the aggregator needs core and at most {max} replicas of it, not {0} nodes",
            max = limits::REPLICAS_MAX - 1)]
    Core(usize),
    #[error("shard {shard} of the partition has {times} copies, not 1 to {max}",
            max = limits::REPLICAS_MAX)]
    Shard { shard: u16, times: usize },
    #[error("a leaf is a copy of shard {shard}, and the partition has {shards} shards")]
    NoShard { shard: u16, shards: u16 },
    #[error("{0} leaves are more than {max}", max = limits::GATHER_COPIES_MAX)]
    Leaves(usize),
    #[error(transparent)]
    Breaker(#[from] breaker::ConfigError),
}

impl AggregatorConfig {
    /// Checks that every part of a query has an owner: a part without one would be missing from answers
    /// that call themselves complete.
    pub(super) fn validate(&self) -> Result<(), AggregatorError> {
        let times = |shard| self.leaves.iter().filter(|leaf| leaf.shard == shard).count();
        let copies = 1..=usize::from(limits::REPLICAS_MAX);
        if !copies.contains(&times(None)) {
            return Err(AggregatorError::Core(times(None)));
        }
        let shards = self.partition.shards();
        for shard in 0..shards {
            let times = times(Some(shard));
            if !copies.contains(&times) {
                return Err(AggregatorError::Shard { shard, times });
            }
        }
        if let Some(shard) = self.leaves.iter().filter_map(|leaf| leaf.shard).max()
            && shard >= shards
        {
            return Err(AggregatorError::NoShard { shard, shards });
        }
        let count = self.leaves.len();
        if count > limits::GATHER_COPIES_MAX {
            return Err(AggregatorError::Leaves(count));
        }
        Ok(())
    }
}
