//! How a request becomes a WebSocket (RFC 6455, section 4.2).

use data_encoding::BASE64;

use crate::http::request::{Method, Request};
use crate::http::response::{Problem, write_header};

/// What every server adds to a key before it hashes it.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// A request that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// To send first; then come messages.
    pub response: Vec<u8>,
    /// The subprotocol: the first of the client's that is offered here. `None` when the client named none.
    pub protocol: Option<&'static str>,
}

/// Checks a request for a WebSocket and makes its answer.
///
/// # Errors
/// 400 or 405 for what is wrong, 426 for another version of WebSocket.
pub fn upgrade(request: &Request, offered: &[&'static str]) -> Result<Upgrade, Problem> {
    if request.method() != Method::Get || request.is_http_1_0() {
        let status = if request.is_http_1_0() { 400 } else { 405 };
        return Err(Problem::new(status, "A WebSocket begins with GET and HTTP/1.1."));
    }
    if !request.has_token("upgrade", "websocket") || !request.has_token("connection", "upgrade") {
        let detail = "This is a WebSocket: send Upgrade: websocket and Connection: Upgrade.";
        return Err(Problem::new(426, detail));
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(Problem::new(426, "This server speaks version 13 of WebSocket only."));
    }
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let decoded = BASE64.decode(key.as_bytes());
    if !decoded.is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
        return Err(Problem::new(400, "Sec-WebSocket-Key must be 16 bytes in base64."));
    }
    let protocol = match request.header("sec-websocket-protocol") {
        None => None,
        Some(wanted) => {
            let mut wanted = wanted.split(',').map(str::trim);
            let found = wanted.find_map(|name| offered.iter().find(|it| **it == name));
            let wrong = || format!("No such subprotocol; there is {}.", offered.join(", "));
            Some(*found.ok_or_else(|| Problem::new(400, wrong()))?)
        }
    };
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    write_header(&mut response, "Upgrade", "websocket");
    write_header(&mut response, "Connection", "Upgrade");
    write_header(&mut response, "Sec-WebSocket-Accept", &accept_key(key));
    if let Some(protocol) = protocol {
        write_header(&mut response, "Sec-WebSocket-Protocol", protocol);
    }
    response.extend_from_slice(b"\r\n");
    Ok(Upgrade { response, protocol })
}

/// The proof that a server has understood a key: base64 of the SHA-1 of the key and a fixed text.
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(KEY_SUFFIX);
    BASE64.encode(&hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConnection;
    use crate::time::Mono;

    const OFFERED: [&str; 2] = ["pregao.frames.v1", "pregao.json.v1"];
    const HEADERS: &str = "Host: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn request(line: &str, headers: &str) -> Request {
        let bytes = format!("{line}\r\n{headers}\r\n");
        HttpConnection::new(Mono(0)).handle_bytes(Mono(0), bytes.as_bytes()).1.unwrap()
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        let upgraded = upgrade(&request("GET /v1/stream HTTP/1.1", HEADERS), &OFFERED).unwrap();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(upgraded.response).unwrap(), expected);
        assert_eq!(upgraded.protocol, None);
    }

    #[test]
    fn the_first_known_subprotocol_of_the_client_is_taken() {
        let wanted = "Sec-WebSocket-Protocol: x, pregao.json.v1\r\nSec-WebSocket-Protocol: pregao.frames.v1\r\n";
        let headers = format!("{HEADERS}{wanted}");
        let upgraded = upgrade(&request("GET / HTTP/1.1", &headers), &OFFERED).unwrap();
        assert_eq!(upgraded.protocol, Some("pregao.json.v1"));
        let response = String::from_utf8(upgraded.response).unwrap();
        assert!(
            response.contains("\r\nSec-WebSocket-Protocol: pregao.json.v1\r\n\r\n"),
            "{response}"
        );
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        let line = "GET / HTTP/1.1";
        let cases = [
            (405, "POST / HTTP/1.1", HEADERS.to_owned()),
            (400, "GET / HTTP/1.0", HEADERS.to_owned()),
            (426, line, HEADERS.replace("WebSocket\r\n", "h2c\r\n")),
            (426, line, HEADERS.replace("keep-alive, Upgrade", "keep-alive")),
            (426, line, "Host: h\r\n".to_owned()),
            (426, line, HEADERS.replace("13", "8")),
            (400, line, HEADERS.replace("dGhl", "dGh")),
            (400, line, HEADERS.replace("dGhl", "*Ghl")),
            (400, line, HEADERS.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWE=")),
            (400, line, HEADERS.replace("Sec-WebSocket-Key", "X-Key")),
            (400, line, format!("{HEADERS}Sec-WebSocket-Protocol: graphql-ws\r\n")),
        ];
        for (status, line, headers) in cases {
            let refused = upgrade(&request(line, &headers), &OFFERED);
            assert_eq!(refused.unwrap_err().status, status, "{line} {headers}");
        }
    }
}
