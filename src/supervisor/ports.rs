//! Are all ports free? Asked before any child starts, so that a busy one is a single clear line.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::{Config, NodeId};

/// A node cannot listen where it should.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else listens there.
    #[error(
        "port {port} on {ip} is taken; stop what listens there or set {key} in --config",
        port = address.port(), ip = address.ip()
    )]
    Taken {
        /// Whose port.
        node: NodeId,
        /// Which.
        address: SocketAddr,
        /// The key of the configuration that says so.
        key: String,
    },
    /// The system refuses the address.
    #[error("{node} cannot listen on {address}: {error}; set {key} or --host")]
    Refused {
        /// Whose address.
        node: NodeId,
        /// Which.
        address: SocketAddr,
        /// The key of the configuration that says so.
        key: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Binds and releases the addresses of every node.
///
/// # Errors
/// The first one that cannot be had.
pub fn check_all(config: &Config) -> Result<(), PortError> {
    for node in config.nodes() {
        let own = config.listen(node).map(|address| (address, config.address_key(node)));
        let metrics = config.metrics(node).map(|address| (address, config.metrics_key(node)));
        for (address, key) in own.into_iter().chain(metrics) {
            if let Err(error) = TcpListener::bind(address) {
                return Err(match error.kind() {
                    io::ErrorKind::AddrInUse => PortError::Taken { node, address, key },
                    _ => PortError::Refused { node, address, key, error },
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listen, Net};

    #[test]
    fn a_busy_port_is_named_with_its_key() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = busy.local_addr().unwrap();
        let free = || Listen::Address(SocketAddr::new(address.ip(), 0));
        let net = Net {
            external: free(),
            broker: Listen::Address(address),
            core: free(),
            shards: vec![free()],
            aggregator: free(),
            ..Net::default()
        };
        let mut config = Config { net, ..Config::default() };
        let message = check_all(&config).unwrap_err().to_string();
        let port = address.port();
        assert_eq!(
            message,
            format!(
                "port {port} on 127.0.0.1 is taken; stop what listens there or set [net] broker in --config"
            )
        );
        config.net.broker = free();
        assert!(check_all(&config).is_ok());
        // TEST-NET-1 is no machine's own address.
        config.net.core = Listen::Address("192.0.2.1:8082".parse().unwrap());
        assert!(check_all(&config).unwrap_err().to_string().starts_with("core cannot listen on"));
        config.net.core = free();
        let text = format!("[[exchange]]\nname = \"xnas\"\naddress = \"{address}\"\n");
        config.exchange = Config::from_toml(&text, "p.toml").unwrap().exchange;
        let message = check_all(&config).unwrap_err().to_string();
        assert!(message.ends_with("set [[exchange]] xnas address in --config"), "{message}");
    }
}
