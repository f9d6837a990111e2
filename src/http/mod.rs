//! HTTP/1.1 and WebSocket, the server's side, as machines: bytes in, requests and messages out, bytes to send.
//!
//! [`HttpConnection`] is one connection. It reads one request at a time and answers wrong ones by itself. A connection
//! that [`upgrade`] accepts goes on as a [`WebSocket`]. What this is not: a router, a client, TLS, HTTP/2.
//!
//! # Decisions
//!
//! * Strict where a lenient server and a proxy could disagree about where a request ends: each line ends with CR LF, a
//!   body has one Content-Length, and no request is chunked (RFC 9112, section 11.2).
//! * A refusal ends the connection. Behind a wrong request nobody knows where the next one begins.
//! * No `Date` header: a machine has no wall clock (RFC 9110, section 6.6.1, asks for none then).
//! * HTTP/1.0 is answered and closed. It has no chunks, so a stream lasts until the close.
//! * No extension of WebSocket. Compression would cost each idle browser tens of kilobytes.
//! * `httparse` reads heads and `tungstenite` reads and writes frame headers. The rest of `tungstenite` owns its socket
//!   and keeps buffers for each connection, so it does not fit a machine for thousands of idle peers.

mod connection;
mod head;
mod negotiation;
mod request;
mod response;
mod security;
mod target;
mod websocket;

pub use connection::HttpConnection;
pub use negotiation::{Format, accepts_gzip, is_unchanged, negotiate};
pub use request::{Method, Request};
pub use response::{Problem, Response};
pub use security::{AllowedHosts, check_host};
pub use websocket::{Incoming, MessageHeader, Upgrade, WebSocket, accept_key, upgrade};
