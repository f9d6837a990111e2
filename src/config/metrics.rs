//! Section `[metrics]`: where nodes tell their own figures by HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::{Config, ConfigError, Listen, NodeId};

/// A port alone is one of this machine: whoever wants others to read the figures says so.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Section `[metrics]`: where each node also tells its own figures (`--metrics`). Default: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// `external`: of the exchange without a list. Those of `[[exchange]]` have a key `metrics` of their own.
    pub external: Option<Listen>,
    /// `broker`.
    pub broker: Option<Listen>,
    /// `core`.
    pub core: Option<Listen>,
    /// `shards`: one for each of `[net] shards`.
    pub shards: Vec<Listen>,
    /// `aggregator`.
    pub aggregator: Option<Listen>,
    /// `gateway`: it tells those of all nodes on its own port in any case.
    pub gateway: Option<Listen>,
    /// `core_replicas`: one for each further node that answers quotes.
    pub core_replicas: Vec<Listen>,
    /// `shard_replicas`: a list like `shards` for each further copy.
    pub shard_replicas: Vec<Vec<Listen>>,
}

impl Metrics {
    fn listen(&self, node: NodeId) -> Option<Listen> {
        let of = |list: &[Listen], place: usize| list.get(place).copied();
        let before = |replica: u8| usize::from(replica).checked_sub(1);
        match node {
            NodeId::External => self.external,
            NodeId::Exchange(_) => None,
            NodeId::Broker => self.broker,
            NodeId::Core => self.core,
            NodeId::Shard(partition) => of(&self.shards, partition.index()),
            NodeId::Aggregator => self.aggregator,
            NodeId::Gateway => self.gateway,
            NodeId::CoreReplica(replica) => of(&self.core_replicas, before(replica)?),
            NodeId::ShardReplica(partition, replica) => {
                of(self.shard_replicas.get(before(replica)?)?, partition.index())
            }
        }
    }

    /// Lists are whole or not there: one that is too short names nobody who is missing.
    fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        let (shards, copies) =
            (config.net.shards.len(), usize::from(config.net.replicas.saturating_sub(1)));
        let wrong =
            |key: &str, problem: String| Err(ConfigError::new(format!("[metrics] {key}"), problem));
        if self.external.is_some() && !config.exchange.is_empty() {
            let problem = "belongs to the exchange without a list; write metrics in [[exchange]]";
            return wrong("external", problem.to_owned());
        }
        let length = self.shards.len();
        if length != 0 && length != shards {
            return wrong("shards", format!("lists {length} of {shards} shards; list all of them"));
        }
        let length = self.core_replicas.len();
        if length != 0 && length != copies {
            let problem =
                format!("lists {length} addresses for {copies} replicas; list all of them");
            return wrong("core_replicas", problem);
        }
        let length = self.shard_replicas.len();
        if length != 0 && length != copies {
            let problem = format!("has {length} lists for {copies} replicas; write one for each");
            return wrong("shard_replicas", problem);
        }
        if let Some(row) = self.shard_replicas.iter().find(|row| row.len() != shards) {
            let problem = format!("lists {} of {shards} shards; list all of them", row.len());
            return wrong("shard_replicas", problem);
        }
        Ok(())
    }
}

impl Config {
    /// Where a node tells its own figures, if anywhere.
    #[must_use]
    pub fn metrics(&self, node: NodeId) -> Option<SocketAddr> {
        let listen = match self.entry(node) {
            Some((_, entry)) => entry.metrics,
            None => self.metrics.listen(node),
        };
        listen.map(|listen| listen.on(HOST))
    }

    /// The configuration key of that address, for messages.
    #[must_use]
    pub fn metrics_key(&self, node: NodeId) -> String {
        match self.entry(node) {
            Some((_, entry)) => format!("{} metrics", entry.section()),
            None => format!("[metrics] {}", node.key()),
        }
    }

    pub(super) fn validate_metrics(&self) -> Result<(), ConfigError> {
        self.metrics.validate(self)?;
        let nodes = self.nodes();
        let listens = nodes.iter().filter_map(|node| Some((node.to_string(), self.listen(*node)?)));
        let mut taken: Vec<(String, SocketAddr)> = listens.collect();
        for node in nodes {
            let Some(address) = self.metrics(node) else { continue };
            let wrong = |problem: String| Err(ConfigError::new(self.metrics_key(node), problem));
            if address.port() == 0 {
                return wrong("port 0 is a port that nobody can find; use 1 to 65535".to_owned());
            }
            let other = taken.iter().find(|(_, it)| super::places::overlaps(*it, address));
            if let Some((other, _)) = other {
                return wrong(format!(
                    "the figures of {node} and {other} are both on {address}; give each its own port"
                ));
            }
            taken.push((format!("those of {node}"), address));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text, "p.toml").unwrap()
    }

    #[test]
    fn each_node_tells_its_figures_where_its_key_says() {
        let text = "[net]\nreplicas = 2\nshards = [1, 2]\nhost = \"127.0.0.9\"\n\
                    [partition]\nby = \"hash\"\n\
                    [metrics]\nexternal = 9100\nbroker = 9101\ncore = \"127.0.0.3:9102\"\n\
                    shards = [9103, 9104]\naggregator = 9105\ngateway = 9106\n\
                    core_replicas = [9107]\nshard_replicas = [[9108, 9109]]\n";
        let config = config(text);
        assert_eq!(config.validate(), Ok(()));
        let told = config.nodes().into_iter();
        let told = told.map(|node| format!("{node} {}", config.metrics(node).unwrap()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "external 127.0.0.1:9100",
                "broker 127.0.0.1:9101",
                "core 127.0.0.3:9102",
                "shard-A 127.0.0.1:9103",
                "shard-B 127.0.0.1:9104",
                "core.1 127.0.0.1:9107",
                "shard-A.1 127.0.0.1:9108",
                "shard-B.1 127.0.0.1:9109",
                "aggregator 127.0.0.1:9105",
                "gateway 127.0.0.1:9106"
            ]
        );
        let none = Config::default();
        assert!(none.nodes().into_iter().all(|node| none.metrics(node).is_none()));
    }

    #[test]
    fn an_exchange_of_a_list_has_its_own_key() {
        let config = config("[[exchange]]\nname = \"xnas\"\nmetrics = 9110\n");
        assert_eq!(config.validate(), Ok(()));
        let node = NodeId::Exchange("xnas".parse().unwrap());
        assert_eq!(config.metrics(node), Some("127.0.0.1:9110".parse().unwrap()));
        assert_eq!(config.metrics_key(node), "[[exchange]] xnas metrics");
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_key() {
        for (text, key) in [
            ("[metrics]\nbroker = 0", "[metrics] broker"),
            ("[metrics]\nbroker = 9100\ncore = 9100", "[metrics] core"),
            ("[metrics]\nbroker = \"0.0.0.0:8082\"", "[metrics] broker"),
            ("[metrics]\naggregator = 8090", "[metrics] aggregator"),
            ("[metrics]\nshards = [9100]", "[metrics] shards"),
            ("[metrics]\nshards = [9100, 9101, 9100]", "[metrics] shards"),
            ("[metrics]\ncore_replicas = [9100]", "[metrics] core_replicas"),
            ("[metrics]\nshard_replicas = [[9100, 9101, 9102]]", "[metrics] shard_replicas"),
            ("[net]\nreplicas = 2\n[metrics]\nshard_replicas = [[1]]", "[metrics] shard_replicas"),
            ("[metrics]\nexternal = 1\n[[exchange]]\nname = \"a\"", "[metrics] external"),
            ("[[exchange]]\nname = \"a\"\nmetrics = 0", "[[exchange]] a metrics"),
            (
                "[[exchange]]\nname = \"a\"\nkind = \"producer\"\nmetrics = 1",
                "[[exchange]] a metrics",
            ),
        ] {
            let problem = config(text).validate().unwrap_err().to_string();
            assert!(problem.starts_with(&format!("{key}: ")), "{text}: {problem}");
        }
        for (text, says) in [
            (
                "[metrics]\nbroker = 65536",
                "p.toml line 2, [metrics], `broker = 65536`: 65536 is no port",
            ),
            ("[metrics]\nbroker = \"here\"", "\"here\" is no address; write a port"),
            ("[metrics]\nbroker = -1", "`broker = -1`"),
            ("[metrics]\nshard = [1]", "unknown field `shard`"),
            ("metrics = 9100", "metrics = 9100"),
        ] {
            let problem = Config::from_toml(text, "p.toml").unwrap_err().to_string();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }
}
