//! Where every node listens: those of `[net]` and the exchanges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Config, ConfigError, Exchange, ExchangeEntry, ExchangeKind, Listen, NodeId};
use crate::limits::{EXCHANGE_PORT_STEP, LINES_PORT};

impl Config {
    /// Every node that is a process of ours: exchanges, broker, core, the shards, the replicas of both, aggregator, gateway.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let exchanges = self.own_exchanges().into_iter().map(|exchange| exchange.node());
        let gateway = self.gateway.run.then_some(NodeId::Gateway);
        exchanges.chain(self.net.nodes()).chain(gateway).collect()
    }

    /// Where a node listens; `None` for an exchange, shard or replica that the configuration does not have.
    #[must_use]
    pub fn listen(&self, node: NodeId) -> Option<SocketAddr> {
        let listen = match self.entry(node) {
            Some((place, entry)) => self.listen_of(place, entry)?,
            None if node == NodeId::External && !self.exchange.is_empty() => return None,
            None => self.net.listen(node)?,
        };
        Some(listen.on(self.net.host))
    }

    /// Where to connect to reach a node. It differs from [`Config::listen`] when the node listens on
    /// all interfaces: "all" is nowhere to connect to, loopback is.
    #[must_use]
    pub fn connect(&self, node: NodeId) -> Option<SocketAddr> {
        let mut address = self.listen(node)?;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Some(address)
    }

    /// The configuration key of a node's address, for messages.
    #[must_use]
    pub fn address_key(&self, node: NodeId) -> String {
        match self.entry(node) {
            Some((_, entry)) => format!("{} address", entry.section()),
            None => format!("[net] {}", node.key()),
        }
    }

    /// The entry of `[[exchange]]` that this node plays, and its place.
    pub(super) fn entry(&self, node: NodeId) -> Option<(usize, &ExchangeEntry)> {
        self.exchange.iter().enumerate().find(|(_, entry)| entry.name.node() == node)
    }

    fn listen_of(&self, place: usize, entry: &ExchangeEntry) -> Option<Listen> {
        if entry.kind == ExchangeKind::Lines && entry.address.is_none() {
            return Some(Listen::Port(LINES_PORT));
        }
        let above = u16::try_from(place).ok()?.checked_mul(EXCHANGE_PORT_STEP)?;
        entry.address.or_else(|| self.net.external.above(above))
    }

    pub(super) fn validate_places(&self) -> Result<(), ConfigError> {
        let listens = |exchange: &Exchange| exchange.kind != ExchangeKind::Producer;
        let exchanges = self.exchanges().into_iter().filter(listens);
        let exchanges = exchanges.map(|exchange| exchange.node());
        let mut seen: Vec<(NodeId, SocketAddr)> = Vec::new();
        for node in exchanges.chain(self.net.nodes()) {
            let key = self.address_key(node);
            let Some(address) = self.listen(node) else {
                let problem = format!("{node} would listen beyond the last port; give it its own");
                return Err(ConfigError::new(key, problem));
            };
            if address.port() == 0 {
                let problem = "port 0 is a port that no other node can find; use 1 to 65535";
                return Err(ConfigError::new(key, problem));
            }
            if let Some((other, _)) = seen.iter().find(|(_, taken)| overlaps(*taken, address)) {
                return Err(ConfigError::new(
                    key,
                    format!("{node} and {other} both listen on {address}; give each its own port"),
                ));
            }
            seen.push((node, address));
        }
        Ok(())
    }
}

/// Whether two listeners get in each other's way: same port, and same IP or one of them on all.
pub(super) fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Net;
    use crate::limits::{EXCHANGES_MAX, REPLICAS_MAX};

    fn config(net: Net) -> Config {
        Config { net, ..Config::default() }
    }

    #[test]
    fn a_node_on_all_interfaces_is_reached_over_loopback() {
        let four = config(Net { host: "0.0.0.0".parse().unwrap(), ..Net::default() });
        assert_eq!(four.listen(NodeId::Core), Some("0.0.0.0:8082".parse().unwrap()));
        assert_eq!(four.connect(NodeId::Core), Some("127.0.0.1:8082".parse().unwrap()));
        let six = config(Net { host: "::".parse().unwrap(), ..Net::default() });
        assert_eq!(six.connect(NodeId::Core), Some("[::1]:8082".parse().unwrap()));
    }

    #[test]
    fn node_names_are_one_word() {
        let names: Vec<String> = Config::default().nodes().iter().map(NodeId::to_string).collect();
        assert_eq!(
            names,
            [
                "external",
                "broker",
                "core",
                "shard-A",
                "shard-B",
                "shard-C",
                "aggregator",
                "gateway"
            ]
        );
    }

    #[test]
    fn replicas_listen_beside_the_first_copies_or_where_they_are_told() {
        let two = config(Net { replicas: 2, ..Net::default() });
        let names: Vec<String> = two.nodes().iter().map(NodeId::to_string).collect();
        assert_eq!(names[6..10], ["core.1", "shard-A.1", "shard-B.1", "shard-C.1"]);
        let port = |config: &Config, name: &str| {
            let node = config.nodes().into_iter().find(|node| node.to_string() == name)?;
            config.listen(node).map(|address| address.port())
        };
        assert_eq!(port(&two, "core.1"), Some(8092));
        assert_eq!(port(&two, "shard-B.1"), Some(9012));
        assert_eq!(two.validate(), Ok(()));
        let rows = vec![vec![Listen::Port(1), Listen::Port(2), Listen::Port(3)]];
        let own = config(Net { shard_replicas: rows, replicas: 3, ..Net::default() });
        assert_eq!(port(&own, "shard-B.1"), Some(2));
        assert_eq!(port(&own, "shard-B.2"), Some(9022));
        assert_eq!(Config::default().listen(NodeId::CoreReplica(1)), None, "there is none");
        let wrong = [
            Net { replicas: 0, ..Net::default() },
            Net { replicas: REPLICAS_MAX + 1, ..Net::default() },
            Net { core: Listen::Port(65_530), replicas: 2, ..Net::default() },
            Net { core: Listen::Port(8991), replicas: 2, ..Net::default() },
            Net { shard_replicas: vec![vec![Listen::Port(1)]], ..Net::default() },
        ];
        for net in wrong {
            assert!(config(net.clone()).validate().is_err(), "{net:?}");
        }
    }

    #[test]
    fn no_default_port_is_that_of_another_node() {
        let first = "[[exchange]]\nname = \"exchange\"\n";
        let mut text = format!("[net]\nreplicas = {REPLICAS_MAX}\n{first}");
        for number in 1..EXCHANGES_MAX {
            text.push_str(&format!("[[exchange]]\nname = \"x{number}\"\n"));
        }
        let all = Config::from_toml(&text, "p.toml").unwrap();
        assert_eq!(all.validate(), Ok(()));
        let port = |name: &str| all.listen(NodeId::Exchange(name.parse().unwrap())).unwrap().port();
        assert_eq!(all.listen(NodeId::External).unwrap().port(), 8080);
        assert_eq!((port("x1"), port("x2"), port("x31")), (8180, 8280, 11_180));
    }

    #[test]
    fn an_exchange_listens_above_the_first_or_where_it_is_told() {
        let text = "[net]\nhost = \"127.0.0.9\"\nexternal = 700\n\
                    [[exchange]]\nname = \"one\"\n[[exchange]]\nname = \"two\"\n\
                    [[exchange]]\nname = \"three\"\naddress = 5\n\
                    [[exchange]]\nname = \"away\"\naddress = \"192.0.2.1:80\"\nrun = false\n";
        let config = Config::from_toml(text, "p.toml").unwrap();
        assert_eq!(config.validate(), Ok(()));
        let at = |name: &str| {
            let node = NodeId::Exchange(name.parse().unwrap());
            config.listen(node).map(|address| address.to_string())
        };
        let at = ["one", "two", "three", "away", "none"].map(at);
        let want = ["127.0.0.9:700", "127.0.0.9:800", "127.0.0.9:5", "192.0.2.1:80"];
        assert_eq!(at[..4], want.map(|address| Some(address.to_owned())));
        assert_eq!((&at[4], config.listen(NodeId::External)), (&None, None));
        let names: Vec<String> = config.nodes().iter().map(NodeId::to_string).collect();
        assert_eq!(names[..4], ["one", "two", "three", "broker"], "somebody else runs `away`");
        let key = config.address_key(NodeId::Exchange("two".parse().unwrap()));
        assert_eq!(key, "[[exchange]] two address");
        assert_eq!(config.address_key(NodeId::Broker), "[net] broker");
    }
}
