//! Requests in any pieces, answers of each form, and time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START: Mono = Mono(1_000);

/// A connection, and what a peer has sent of which nothing is consumed yet.
struct Peer {
    http: HttpConnection,
    offered: Vec<u8>,
    now: Mono,
}

impl Peer {
    fn new() -> Peer {
        Peer { http: HttpConnection::new(START), offered: Vec::new(), now: START }
    }

    /// Sends bytes, as an owner reads them: only while they are wanted.
    fn send(&mut self, bytes: &[u8]) -> Option<Request> {
        self.offered.extend_from_slice(bytes);
        while self.http.wants_bytes() && !self.offered.is_empty() {
            let (consumed, request) = self.http.handle_bytes(self.now, &self.offered);
            self.offered.drain(..consumed);
            if request.is_some() || consumed == 0 {
                return request;
            }
        }
        None
    }

    /// Takes all that waits.
    fn take(&mut self) -> String {
        let mut taken = Vec::new();
        while !self.http.outgoing().is_empty() {
            let outgoing = self.http.outgoing();
            let part = outgoing[..outgoing.len().min(1_000)].to_vec();
            taken.extend_from_slice(&part);
            self.http.handle_sent(self.now, part.len());
        }
        String::from_utf8(taken).unwrap()
    }

    fn answer(&mut self, response: Response) -> String {
        self.http.respond(self.now, response);
        self.take()
    }

    fn pass(&mut self, time: Duration) -> bool {
        self.now = self.now + time;
        self.http.handle_timeout(self.now)
    }
}

fn ok() -> Response {
    Response::text(200, "yes".to_owned())
}

/// The status of the answer that a connection gives by itself; 0 when it gives none.
fn refused_with(bytes: &[u8]) -> u16 {
    let mut peer = Peer::new();
    if peer.send(bytes).is_some() {
        return 0;
    }
    let answer = peer.take();
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    assert!(status == 0 || peer.http.is_over(), "{answer}");
    assert!(status == 0 || answer.contains("Connection: close\r\n"), "{answer}");
    status
}

#[test]
fn a_peer_that_may_not_even_ask_is_told_so() {
    let mut peer = Peer::new();
    peer.http.turn_away(&Problem::new(503, "Come back later."));
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Come back later."), "{answer}");
    assert!(peer.http.is_over());
}

#[test]
fn a_request_is_read_and_answered_and_the_next_one_follows() {
    let mut peer = Peer::new();
    let text = "GET /v1/quotes?symbols=PETR4%2CVALE3 HTTP/1.1\r\nHost: localhost:8090\r\n\
                ACCEPT: text/csv\r\nAccept: */*;q=0.1\r\nX-Other: 1\r\n\r\n";
    let request = peer.send(text.as_bytes()).unwrap();
    assert_eq!((request.method(), request.path()), (Method::Get, "/v1/quotes"));
    assert_eq!(request.query(), [("symbols".to_owned(), "PETR4,VALE3".to_owned())]);
    assert_eq!(request.header("Accept"), Some("text/csv, */*;q=0.1"));
    assert_eq!(
        (request.header("x-other"), request.body(), request.is_http_1_0()),
        (None, &b""[..], false)
    );
    assert!(!peer.http.wants_bytes());
    let answer = peer.answer(ok().with_header("ETag", "\"1\""));
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    X-Content-Type-Options: nosniff\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\nyes";
    assert_eq!(answer, expected);
    assert!(peer.http.wants_bytes() && !peer.http.is_over());
    assert_eq!(peer.send(text.as_bytes()), Some(request));
}

#[test]
fn pipelined_requests_come_one_at_a_time() {
    let mut peer = Peer::new();
    let posted = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /";
    let all = format!("{posted}\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /c");
    let first = peer.send(all.as_bytes()).unwrap();
    assert_eq!((first.path(), first.body()), ("/a", &b"GET /"[..]));
    assert_eq!(peer.send(b""), None);
    assert!(!peer.answer(ok()).contains("close"));
    assert_eq!(peer.send(b"").unwrap().path(), "/b");
    assert!(peer.answer(ok()).contains("Connection: close\r\n"));
    assert!(peer.http.is_over());
    assert_eq!(peer.send(b""), None);
}
