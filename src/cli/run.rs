//! The node commands: from a checked request to a running node.

use std::net::SocketAddr;

use super::exit::{Exit, Failure};
use crate::config::{Config, NodeId, Partition};

/// A node to run.
#[derive(Clone, Debug)]
pub struct NodeRequest {
    /// Which node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The whole configuration, with flags applied and limits checked.
    pub config: Config,
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// [`Exit::CannotStart`] when it cannot start at all; [`Exit::Failed`] when it has to end.
pub fn node(request: &NodeRequest) -> Result<Exit, Failure> {
    match request.node {
        NodeId::External => external(request),
        NodeId::Broker => broker(request),
        NodeId::Core => core(request),
        NodeId::Shard(partition) => shard(request, partition),
        NodeId::Aggregator => aggregator(request),
    }
}

/// The exchange.
///
/// # Errors
/// As for [`node`].
pub fn external(request: &NodeRequest) -> Result<Exit, Failure> {
    Err(not_wired(request))
}

/// The broker.
///
/// # Errors
/// As for [`node`].
pub fn broker(request: &NodeRequest) -> Result<Exit, Failure> {
    Err(not_wired(request))
}

/// The sequencer.
///
/// # Errors
/// As for [`node`].
pub fn core(request: &NodeRequest) -> Result<Exit, Failure> {
    Err(not_wired(request))
}

/// One shard.
///
/// # Errors
/// As for [`node`].
pub fn shard(request: &NodeRequest, _partition: Partition) -> Result<Exit, Failure> {
    Err(not_wired(request))
}

/// The aggregator.
///
/// # Errors
/// As for [`node`].
pub fn aggregator(request: &NodeRequest) -> Result<Exit, Failure> {
    Err(not_wired(request))
}

/// Stands where a node will be started.
fn not_wired(request: &NodeRequest) -> Failure {
    Failure::cannot_start(format!("{} is not wired yet", request.node))
}
