//! Hosts as people write them: an IP address, or a name that the system looks up.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// A text that is neither an IP address nor a name that the system knows.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The system does not know the name.
    #[error(
        "the host {name:?} is not known here: {error}; write an IP address such as 127.0.0.1, or a name that resolves"
    )]
    Unknown {
        /// As it was written.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// The name has no address.
    #[error("the host {0:?} has no address; write an IP address such as 127.0.0.1")]
    NoAddress(String),
}

/// The IP address of a host. A name is looked up, which may block; of several addresses an IPv4 address is preferred,
/// because the nodes listen on 127.0.0.1 by default.
///
/// # Errors
/// When the system does not know the name.
pub fn ip_of(host: &str) -> Result<IpAddr, HostError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(address) => Ok(address),
        Err(_) => looked_up(host, 0).map(|address| address.ip()),
    }
}

/// The address of `HOST:PORT`, as [`ip_of`] finds it; `None` when the text has no port.
///
/// # Errors
/// When the system does not know the name.
pub fn address_of(text: &str) -> Option<Result<SocketAddr, HostError>> {
    if let Ok(address) = text.parse() {
        return Some(Ok(address));
    }
    let (name, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(looked_up(name, port))
}

/// Whether other machines reach who listens there.
#[must_use]
pub fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn looked_up(name: &str, port: u16) -> Result<SocketAddr, HostError> {
    let found = (name, port).to_socket_addrs();
    let found = found.map_err(|error| HostError::Unknown { name: name.to_owned(), error })?;
    let found: Vec<SocketAddr> = found.collect();
    let preferred = found.iter().find(|address| address.is_ipv4()).or(found.first());
    preferred.copied().ok_or_else(|| HostError::NoAddress(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_look_up() {
        assert_eq!(ip_of("127.0.0.9").unwrap().to_string(), "127.0.0.9");
        assert_eq!(ip_of("::1").unwrap().to_string(), "::1");
        assert_eq!(ip_of("[::1]").unwrap().to_string(), "::1");
        assert_eq!(address_of("[::1]:80").unwrap().unwrap().to_string(), "[::1]:80");
        assert!(address_of("8081").is_none());
        assert!(address_of("host:port").is_none());
    }

    #[test]
    fn a_name_is_looked_up_and_an_unknown_one_is_named() {
        assert!(ip_of("localhost").unwrap().is_loopback());
        let address = address_of("localhost:8081").unwrap().unwrap();
        assert!(address.ip().is_loopback() && address.port() == 8081, "{address}");
        for bad in ["no such host", "", "name.invalid"] {
            let error = ip_of(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
