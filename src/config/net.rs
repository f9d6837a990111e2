//! Who the nodes are and where they listen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

use super::host;
use super::{ConfigError, ExchangeName};
use crate::limits::{self, REPLICA_PORT_STEP, REPLICAS_MAX, SHARDS_MAX};

/// One node of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeId {
    /// The exchange without a name.
    External,
    /// An exchange with a name.
    Exchange(ExchangeName),
    /// 1:N distribution.
    Broker,
    /// The sequencer.
    Core,
    /// One part of the history.
    Shard(Partition),
    /// Scatter/gather.
    Aggregator,
    /// WebSocket, events and HTTP for browsers.
    Gateway,
    /// Another node that answers current quotes; its number counts from 1.
    CoreReplica(u8),
    /// Another copy of one part of the history; its number counts from 1.
    ShardReplica(Partition, u8),
}

/// A shard's number, below [`SHARDS_MAX`]; shown as a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition(u8);

/// A text that is no shard's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a partition is one capital letter, A to P")]
pub struct PartitionError;

impl Partition {
    /// The partition with this number, when there can be one.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Partition> {
        u8::try_from(index).ok().filter(|_| index < SHARDS_MAX).map(Partition)
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its letter, from `A`.
    #[must_use]
    pub fn letter(self) -> char {
        char::from(b'A' + self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

impl std::str::FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Partition, PartitionError> {
        let [letter @ b'A'..=b'Z'] = text.as_bytes() else { return Err(PartitionError) };
        Partition::from_index(usize::from(letter - b'A')).ok_or(PartitionError)
    }
}

/// `external`, `xnas`, `broker`, `core`, `shard-A`, `aggregator`, `core.1`, `shard-A.1`: one word, for logs and
/// answers.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeId::External => f.pad("external"),
            NodeId::Exchange(name) => name.fmt(f),
            NodeId::Broker => f.pad("broker"),
            NodeId::Core => f.pad("core"),
            NodeId::Shard(partition) => f.pad(&format!("shard-{partition}")),
            NodeId::Aggregator => f.pad("aggregator"),
            NodeId::Gateway => f.pad("gateway"),
            NodeId::CoreReplica(replica) => f.pad(&format!("core.{replica}")),
            NodeId::ShardReplica(partition, replica) => {
                f.pad(&format!("shard-{partition}.{replica}"))
            }
        }
    }
}

impl NodeId {
    /// The key of its address in `[net]`.
    pub(super) fn key(self) -> &'static str {
        match self {
            NodeId::External | NodeId::Exchange(_) => "external",
            NodeId::Broker => "broker",
            NodeId::Core => "core",
            NodeId::Shard(_) => "shards",
            NodeId::Aggregator => "aggregator",
            NodeId::Gateway => "gateway",
            NodeId::CoreReplica(_) => "core_replicas",
            NodeId::ShardReplica(..) => "shard_replicas",
        }
    }

    /// The part of the history that it keeps, if it keeps one.
    #[must_use]
    pub fn partition(self) -> Option<Partition> {
        match self {
            NodeId::Shard(partition) | NodeId::ShardReplica(partition, _) => Some(partition),
            _ => None,
        }
    }

    /// Whether current quotes can be asked of it.
    #[must_use]
    pub fn answers_quotes(self) -> bool {
        matches!(self, NodeId::Core | NodeId::CoreReplica(_))
    }
}

/// An address as written: a port, which takes `[net] host`, or an IP address or a name with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On `[net] host`.
    Port(u16),
    /// Exactly here.
    Address(SocketAddr),
}

impl Listen {
    pub(super) fn on(self, host: IpAddr) -> SocketAddr {
        match self {
            Listen::Port(port) => SocketAddr::new(host, port),
            Listen::Address(address) => address,
        }
    }

    /// So many ports above.
    pub(super) fn above(self, ports: u16) -> Option<Listen> {
        match self {
            Listen::Port(port) => port.checked_add(ports).map(Listen::Port),
            Listen::Address(mut address) => {
                address.set_port(address.port().checked_add(ports)?);
                Some(Listen::Address(address))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Listen, D::Error> {
        struct ListenVisitor;

        impl Visitor<'_> for ListenVisitor {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port like 8081 or an address like \"127.0.0.1:8081\"")
            }

            fn visit_i64<E: serde::de::Error>(self, port: i64) -> Result<Listen, E> {
                u16::try_from(port)
                    .map(Listen::Port)
                    .map_err(|_| E::custom(format!("{port} is no port; use 1 to 65535")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listen, E> {
                if let Some(address) = host::address_of(text) {
                    return address.map(Listen::Address).map_err(E::custom);
                }
                text.parse().map(Listen::Port).map_err(|_| {
                    E::custom(format!(
                        "{text:?} is no address; write a port like 8081 or \"host:port\" like \
                         \"127.0.0.1:8081\""
                    ))
                })
            }
        }

        from.deserialize_any(ListenVisitor)
    }
}

/// Section `[net]`: where the nodes listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Net {
    /// `host`: the IP address, or the name, of every node that is given by its port alone. Default 127.0.0.1.
    #[serde(deserialize_with = "deserialize_host")]
    pub host: IpAddr,
    /// `insecure`: nodes may listen where other machines reach them, although they ask nobody who they are. Default false.
    pub insecure: bool,
    /// `external`: the exchange; of `[[exchange]]` the first, and the others above it. Default 8080.
    pub external: Listen,
    /// `broker`: default 8081.
    pub broker: Listen,
    /// `core`: default 8082.
    pub core: Listen,
    /// `shards`: a list of 1 to 16; they are named A, B, C… Default `[9001, 9002, 9003]`.
    pub shards: Vec<Listen>,
    /// `aggregator`: default 8000.
    pub aggregator: Listen,
    /// `gateway`: default 8090.
    pub gateway: Listen,
    /// `replicas`: copies of each part of the history, and nodes that answer quotes, the first ones
    /// included: 1 to 4. Default 1, which is none besides.
    pub replicas: u8,
    /// `shard_replicas`: where further copies of the shards listen, one list like `shards` for each.
    /// Default: the shards' own ports plus 10, plus 20 and so on.
    pub shard_replicas: Vec<Vec<Listen>>,
    /// `core_replicas`: where further nodes that answer quotes listen. Default: core's port plus 10,
    /// plus 20 and so on.
    pub core_replicas: Vec<Listen>,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            insecure: false,
            external: Listen::Port(8080),
            broker: Listen::Port(8081),
            core: Listen::Port(8082),
            shards: vec![Listen::Port(9001), Listen::Port(9002), Listen::Port(9003)],
            aggregator: Listen::Port(8000),
            gateway: Listen::Port(limits::GATEWAY_PORT),
            replicas: 1,
            shard_replicas: Vec::new(),
            core_replicas: Vec::new(),
        }
    }
}

fn deserialize_host<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    host::ip_of(&String::deserialize(from)?).map_err(D::Error::custom)
}

impl Net {
    /// Every node but the exchanges: broker, core, the shards, the replicas of both, aggregator.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let shards = (0..self.shards.len()).filter_map(Partition::from_index);
        let replicas = (1..self.replicas).flat_map(|replica| {
            let shards = shards.clone();
            let shards = shards.map(move |shard| NodeId::ShardReplica(shard, replica));
            [NodeId::CoreReplica(replica)].into_iter().chain(shards)
        });
        [NodeId::Broker, NodeId::Core]
            .into_iter()
            .chain(shards.clone().map(NodeId::Shard))
            .chain(replicas)
            .chain([NodeId::Aggregator])
            .collect()
    }

    /// Where a replica listens: at its own place in a list, or beside the first copy.
    fn replica(&self, own: Option<Listen>, first: Option<Listen>, replica: u8) -> Option<Listen> {
        if replica == 0 || replica >= self.replicas {
            return None;
        }
        own.or_else(|| first?.above(REPLICA_PORT_STEP * u16::from(replica)))
    }

    /// Where a node listens; `None` for a named exchange, and for a shard or replica that the configuration does not have.
    pub(super) fn listen(&self, node: NodeId) -> Option<Listen> {
        Some(match node {
            NodeId::External => self.external,
            NodeId::Exchange(_) => return None,
            NodeId::Broker => self.broker,
            NodeId::Core => self.core,
            NodeId::Shard(partition) => *self.shards.get(partition.index())?,
            NodeId::Aggregator => self.aggregator,
            NodeId::Gateway => self.gateway,
            NodeId::CoreReplica(replica) => {
                let own = self.core_replicas.get(usize::from(replica).checked_sub(1)?).copied();
                self.replica(own, Some(self.core), replica)?
            }
            NodeId::ShardReplica(partition, replica) => {
                let row = self.shard_replicas.get(usize::from(replica).checked_sub(1)?);
                let own = row.and_then(|row| row.get(partition.index())).copied();
                self.replica(own, self.shards.get(partition.index()).copied(), replica)?
            }
        })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=SHARDS_MAX).contains(&self.shards.len()) {
            return Err(ConfigError::new(
                "[net] shards",
                format!("lists {} shards; list 1 to {SHARDS_MAX}", self.shards.len()),
            ));
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) {
            return Err(ConfigError::new(
                "[net] replicas (--replicas)",
                format!("{} copies of each part; use 1 to {REPLICAS_MAX}", self.replicas),
            ));
        }
        let shards = self.shards.len();
        if let Some(row) = self.shard_replicas.iter().find(|row| row.len() != shards) {
            let problem = format!("lists {} of {shards} shards; list all of them", row.len());
            return Err(ConfigError::new("[net] shard_replicas", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_letters_within_the_limit() {
        assert_eq!("A".parse::<Partition>().unwrap().index(), 0);
        assert_eq!("P".parse::<Partition>().unwrap().to_string(), "P");
        for bad in ["", "a", "Q", "AB", "1", "É"] {
            assert_eq!(bad.parse::<Partition>(), Err(PartitionError), "{bad:?}");
        }
        assert_eq!(Partition::from_index(SHARDS_MAX), None);
    }
}
