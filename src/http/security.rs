//! Which hosts and origins are answered.
//!
//! A page of any site may send requests to this server from the browser of somebody who can reach it. Its name may even
//! be made to point to 127.0.0.1 (DNS rebinding). The browser tells both in `Host` and `Origin`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::request::Request;
use super::response::Problem;
use crate::limits::HTTP_SHOWN_BYTES_MAX;

/// The hosts by which this server is asked: loopback ones with its port, and configured ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    port: u16,
    /// In small letters. `None`: any port.
    names: Vec<(String, Option<u16>)>,
}

impl AllowedHosts {
    /// Loopback names and addresses with this port: `localhost`, `127.0.0.0/8` and `[::1]`.
    #[must_use]
    pub fn loopback(port: u16) -> AllowedHosts {
        AllowedHosts { port, names: Vec::new() }
    }

    /// One host more: `quotes.example.com`, with any port, or `quotes.example.com:8090`. Returns whether it is a host.
    #[must_use]
    pub fn allow(&mut self, host: &str) -> bool {
        let parsed = parse_host(host);
        let is_host = parsed.is_some();
        self.names.extend(parsed);
        is_host
    }

    fn allows(&self, name: &str, port: Option<u16>) -> bool {
        let is_ours = port.unwrap_or(80) == self.port && is_loopback(name);
        let is_configured = |(allowed, its_port): &(String, Option<u16>)| {
            allowed == name && its_port.is_none_or(|its_port| its_port == port.unwrap_or(80))
        };
        is_ours || self.names.iter().any(is_configured)
    }
}

/// Checks that a request means this server, and that it does not come from a page of another one.
///
/// # Errors
/// 400 without a `Host` or with one that cannot be read, 421 for another host, 403 for another origin.
pub fn check_host(request: &Request, allowed: &AllowedHosts) -> Result<(), Problem> {
    let host = request.header("host").unwrap_or_default();
    let Some((name, port)) = parse_host(host) else {
        return Err(Problem::new(400, "The header Host must be a name or an address."));
    };
    if !allowed.allows(&name, port) {
        let detail = format!(
            "{} is not a host of this server. Use localhost with its port, or configure the name.",
            shown(host)
        );
        return Err(Problem::new(421, detail));
    }
    match request.header("origin") {
        Some(origin) if !is_same(origin, &name, port) => {
            let detail = format!("A page of {} may not use this server.", shown(origin));
            Err(Problem::new(403, detail))
        }
        _ => Ok(()),
    }
}

/// Whether a page of this origin came from this host. Its scheme says which port is meant by none.
fn is_same(origin: &str, name: &str, port: Option<u16>) -> bool {
    let schemes = [("http://", 80), ("https://", 443)];
    let found =
        schemes.iter().find_map(|(scheme, port)| Some((origin.strip_prefix(scheme)?, port)));
    let Some((authority, default_port)) = found else { return false };
    parse_host(authority).is_some_and(|(its_name, its_port)| {
        its_name == name && its_port.unwrap_or(*default_port) == port.unwrap_or(*default_port)
    })
}

/// A name or an address in small letters, and the port behind it.
fn parse_host(text: &str) -> Option<(String, Option<u16>)> {
    let name_bytes = match text.strip_prefix('[') {
        Some(_) => text.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(name_bytes);
    let port = match port.strip_prefix(':') {
        // The number parser would take a plus sign as well.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        None if port.is_empty() => None,
        _ => return None,
    };
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(is_known),
    };
    is_name.then(|| (name.to_ascii_lowercase(), port))
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|it| it.is_loopback()),
    }
}

/// The beginning of what a peer sent, for the answer to that peer.
pub(super) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(HTTP_SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConnection;
    use crate::time::Mono;

    /// A request with these headers.
    fn request(headers: &str) -> Request {
        let bytes = format!("GET / HTTP/1.0\r\n{headers}\r\n");
        HttpConnection::new(Mono(0)).handle_bytes(Mono(0), bytes.as_bytes()).1.unwrap()
    }

    #[test]
    fn only_our_own_hosts_are_answered() {
        let mut allowed = AllowedHosts::loopback(8090);
        assert!(allowed.allow("Quotes.Example.com") && allowed.allow("other.example:443"));
        assert!(!allowed.allow("http://a") && !allowed.allow("a:b") && !allowed.allow(""));
        let cases = [
            ("localhost:8090", 0),
            ("LOCALHOST:8090", 0),
            ("127.0.0.1:8090", 0),
            ("127.9.9.9:8090", 0),
            ("[::1]:8090", 0),
            ("quotes.example.com", 0),
            ("quotes.example.com:1", 0),
            ("other.example:443", 0),
            ("other.example", 421),
            ("localhost", 421),
            ("localhost:80", 421),
            ("localhost.evil.example:8090", 421),
            ("evil.example:8090", 421),
            ("192.168.0.1:8090", 421),
            ("[::2]:8090", 421),
            ("0x7f000001:8090", 421),
            ("", 400),
            ("localhost:+8090", 400),
            ("localhost:8090:8090", 400),
            ("localhost:99999", 400),
            ("localhost:", 400),
            ("[::1", 400),
            ("[localhost]:8090", 400),
            ("a b", 400),
            ("localhost:8090, evil.example", 400),
            ("user@localhost:8090", 400),
        ];
        for (host, status) in cases {
            let checked = check_host(&request(&format!("Host: {host}\r\n")), &allowed);
            assert_eq!(checked.err().map_or(0, |problem| problem.status), status, "{host}");
        }
        assert_eq!(check_host(&request(""), &allowed).unwrap_err().status, 400);
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        let mut allowed = AllowedHosts::loopback(8090);
        assert!(allowed.allow("quotes.example.com"));
        let cases = [
            ("localhost:8090", "http://localhost:8090", true),
            ("LocalHost:8090", "http://localhost:8090", true),
            ("localhost:8090", "https://localhost:8090", true),
            ("quotes.example.com", "https://quotes.example.com", true),
            ("quotes.example.com:443", "https://quotes.example.com", true),
            ("quotes.example.com", "https://quotes.example.com:8443", false),
            ("localhost:8090", "http://127.0.0.1:8090", false),
            ("localhost:8090", "http://localhost:8091", false),
            ("localhost:8090", "http://localhost", false),
            ("localhost:8090", "http://evil.example", false),
            ("localhost:8090", "http://localhost:8090.evil.example", false),
            ("localhost:8090", "null", false),
            ("localhost:8090", "", false),
            ("localhost:8090", "file://", false),
        ];
        for (host, origin, is_fine) in cases {
            let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n");
            let checked = check_host(&request(&headers), &allowed);
            let status = checked.err().map_or(0, |problem| problem.status);
            assert_eq!(status, if is_fine { 0 } else { 403 }, "{host} {origin}");
        }
    }
}
