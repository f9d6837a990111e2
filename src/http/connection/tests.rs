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
    peer.http.turn_away(START, &Problem::new(503, "Come back later."));
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

#[test]
fn head_and_statuses_without_a_body_get_none() {
    let mut peer = Peer::new();
    let head = peer.send(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(head.method(), Method::Head);
    let answer = peer.answer(ok());
    assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    // A stream has a head for HEAD as well.
    peer.send(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/csv", &[]);
    peer.http.push(b"a");
    peer.http.end_stream(peer.now);
    let answer = peer.take();
    assert!(answer.contains("chunked\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    for status in [204, 304] {
        peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let answer = peer.answer(Response::text(status, "no".to_owned()));
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(
            !answer.contains("Content-Length") && !answer.contains("\r\nContent-Type"),
            "{answer}"
        );
    }
    assert!(peer.http.wants_bytes());
}

#[test]
fn a_long_body_is_sent_whole_behind_its_head() {
    let mut peer = Peer::new();
    peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let body = "0123456789".repeat(HTTP_JOINED_BYTES_MAX);
    peer.http.respond(peer.now, Response::json(200, body.clone()));
    assert!(peer.http.outgoing_bytes() > body.len());
    let answer = peer.take();
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body);
    assert!(peer.http.wants_bytes() && peer.http.outgoing_bytes() == 0);
}

#[test]
fn a_stream_is_chunks_or_lasts_until_the_close() {
    let mut peer = Peer::new();
    peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/event-stream", &[("Cache-Control", "no-store")]);
    let head = peer.take();
    assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n") && !head.contains("close"), "{head}");
    assert!(!peer.http.wants_bytes());
    peer.http.push(b"");
    peer.http.push(b"data: 1\n\n");
    peer.http.push(&[b'x'; 300]);
    peer.http.end_stream(peer.now);
    assert_eq!(peer.take(), format!("9\r\ndata: 1\n\n\r\n12c\r\n{}\r\n0\r\n\r\n", "x".repeat(300)));
    // The connection goes on.
    peer.send(b"GET /a HTTP/1.0\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/event-stream", &[]);
    peer.http.push(b"data: 1\n\n");
    assert!(!peer.http.is_over());
    peer.http.end_stream(peer.now);
    let answer = peer.take();
    assert!(answer.ends_with("Connection: close\r\n\r\ndata: 1\n\n"), "{answer}");
    assert!(peer.http.is_over());
}

#[test]
fn an_aborted_stream_has_no_last_chunk() {
    let mut peer = Peer::new();
    peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/csv", &[]);
    peer.http.push(b"a,b");
    peer.http.abort();
    assert!(!peer.http.is_over());
    assert!(peer.take().ends_with("3\r\na,b\r\n"));
    assert!(peer.http.is_over());
}

#[test]
fn a_stream_that_never_runs_empty_does_not_grow() {
    let mut peer = Peer::new();
    peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/csv", &[]);
    for _ in 0..10_000 {
        peer.http.push(&[b'x'; 94]);
        // Each chunk has 100 bytes, and the head waits before the first.
        let bytes = peer.http.outgoing_bytes().min(100);
        peer.http.handle_sent(peer.now, bytes);
        assert!(peer.http.front.len() < 2_000 && peer.http.outgoing_bytes() < 500);
    }
}

#[test]
fn the_body_may_wait_for_continue() {
    let mut peer = Peer::new();
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(peer.send(head.as_bytes()), None);
    assert_eq!(peer.take(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(peer.send(b"{}").unwrap().body(), b"{}");
    assert!(peer.answer(ok()).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn heads_that_two_readers_could_understand_differently_are_refused() {
    let host = "Host: h\r\n";
    let cases: &[(u16, &str)] = &[
        // Where does the body end?
        (400, "POST / HTTP/1.1\r\nHOST\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n"),
        (413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4097\r\n\r\n"),
        (413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n"),
        (411, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"),
        (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        (
            501,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        ),
        (417, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: cake\r\n\r\n"),
        // Where does a line end, and what is its name?
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\n A: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n"),
        (400, "GET / HTTP/1.1\rHost: h\r\n\r\n"),
        (400, "GET / HTTP/1.1\nHost: h\n\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\0\r\n\r\n"),
        // For whom is it?
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"),
        (400, "GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, "GET http://h@other/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, "GET http://h/ HTTP/1.0\r\n\r\n"),
        (400, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, "GET /%2e%2e/a HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nOrigin: b\r\n\r\n"),
        // What is spoken?
        (505, "GET / HTTP/1.2\r\nHost: h\r\n\r\n"),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, "\x16\x03\x01\x02"),
        (400, "GET\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ];
    for (status, text) in cases {
        assert_eq!(refused_with(text.replace("HOST\r\n", host).as_bytes()), *status, "{text:?}");
    }
    let fine = [
        "GET http://H/a HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nhost:h\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "GET /ação?ç=ã HTTP/1.1\r\nHost: h\r\n\r\n",
        "get / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n",
    ];
    for text in fine {
        assert!(Peer::new().send(text.as_bytes()).is_some(), "{text:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_at_its_bound() {
    let of_target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(bytes - 1));
    assert_eq!(refused_with(of_target(2_048).as_bytes()), 0);
    assert_eq!(refused_with(of_target(2_049).as_bytes()), 414);
    assert_eq!(refused_with(of_target(9_000).as_bytes()), 414);
    let of_head = |bytes: usize| {
        let front = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
        format!("{front}{}\r\n\r\n", "a".repeat(bytes - front.len() - 4))
    };
    assert_eq!(of_head(HTTP_HEAD_BYTES_MAX).len(), HTTP_HEAD_BYTES_MAX);
    assert_eq!(refused_with(of_head(HTTP_HEAD_BYTES_MAX).as_bytes()), 0);
    assert_eq!(refused_with(of_head(HTTP_HEAD_BYTES_MAX + 1).as_bytes()), 431);
    let of_headers =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert_eq!(refused_with(of_headers(64).as_bytes()), 0);
    assert_eq!(refused_with(of_headers(65).as_bytes()), 431);
    let of_body = |bytes: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n{}",
            "a".repeat(bytes)
        )
    };
    assert_eq!(refused_with(of_body(HTTP_BODY_BYTES_MAX).as_bytes()), 0);
    assert_eq!(refused_with(of_body(HTTP_BODY_BYTES_MAX + 1).as_bytes()), 413);
    // Empty lines before a request end as well.
    assert_eq!(refused_with("\r\n".repeat(5_000).as_bytes()), 431);
}

#[test]
fn what_a_refused_peer_still_sends_is_thrown_away() {
    let mut peer = Peer::new();
    assert_eq!(peer.send(b"GET / HTTP/3.0\r\n\r\n"), None);
    assert!(peer.http.wants_bytes());
    assert_eq!(peer.send(&[b'x'; 100_000]), None);
    assert!(peer.offered.is_empty());
    assert_eq!(
        peer.take().matches("HTTP/1.1").count(),
        1 + 1,
        "one answer, whose text names HTTP/1.1"
    );
    assert!(peer.http.is_over() && !peer.http.wants_bytes());
}

#[test]
fn a_slow_request_is_answered_408_and_an_idle_peer_is_closed() {
    let mut peer = Peer::new();
    assert_eq!(peer.http.deadline(), Some(START + HTTP_IDLE_MAX));
    assert!(!peer.pass(HTTP_IDLE_MAX - Duration::from_nanos(1)));
    assert!(peer.pass(Duration::from_nanos(1)));

    let mut peer = Peer::new();
    peer.now = peer.now + Duration::from_secs(50);
    peer.send(b"GET / HT");
    // The time counts from the first byte, not from the last.
    assert_eq!(peer.http.deadline(), Some(peer.now + HTTP_REQUEST_TIME_MAX));
    assert!(!peer.pass(Duration::from_secs(9)));
    peer.send(b"TP/1.1\r\n");
    assert!(peer.http.outgoing().is_empty());
    assert!(!peer.pass(Duration::from_secs(1)));
    let deadline = peer.http.deadline();
    assert_eq!(deadline, Some(peer.now + HTTP_STALL_MAX));
    assert!(peer.take().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert!(peer.http.is_over());

    let mut peer = Peer::new();
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\n");
    assert!(!peer.pass(Duration::from_secs(9)));
    // A body has a time of its own.
    peer.send(b"Content-Length: 3\r\n\r\nab");
    assert_eq!(peer.http.deadline(), Some(peer.now + HTTP_REQUEST_TIME_MAX));
    assert!(!peer.pass(HTTP_REQUEST_TIME_MAX));
    assert!(peer.take().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_peer_that_takes_nothing_is_closed() {
    let mut peer = Peer::new();
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    // While an answer is made, the time is the owner's.
    assert_eq!(peer.http.deadline(), None);
    assert!(!peer.pass(Duration::from_hours(1)));
    peer.http.respond(peer.now, ok());
    peer.http.handle_sent(peer.now, 10);
    assert_eq!(peer.http.deadline(), Some(peer.now + HTTP_STALL_MAX));
    assert!(!peer.pass(HTTP_STALL_MAX - Duration::from_secs(1)));
    // A try that takes nothing changes nothing, and one byte begins the time anew.
    peer.http.handle_sent(peer.now, 0);
    assert!(peer.http.deadline() == Some(peer.now + Duration::from_secs(1)));
    peer.http.handle_sent(peer.now, 1);
    assert!(!peer.pass(HTTP_STALL_MAX - Duration::from_nanos(1)));
    assert!(peer.pass(Duration::from_nanos(1)));
}

#[test]
fn a_stream_that_was_quiet_has_all_of_its_time() {
    let mut peer = Peer::new();
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.http.begin_stream(peer.now, 200, "text/event-stream", &[]);
    peer.take();
    assert_eq!(peer.http.deadline(), None);
    assert!(!peer.pass(Duration::from_hours(1)));
    peer.http.push(b"data: 1\n\n");
    // No time is known for it yet, so the first timeout is due at once and closes nothing.
    assert!(peer.http.deadline().is_some_and(|deadline| deadline <= peer.now));
    assert!(!peer.pass(Duration::ZERO));
    assert_eq!(peer.http.deadline(), Some(peer.now + HTTP_STALL_MAX));
    assert!(peer.pass(HTTP_STALL_MAX));
}

/// Requests and answers of one connection, in pieces of these lengths.
fn conversation(bytes: &[u8], mut cuts: impl FnMut() -> usize) -> (Vec<Request>, String) {
    let mut peer = Peer::new();
    let (mut requests, mut sent) = (Vec::new(), String::new());
    let mut rest = bytes;
    loop {
        let (piece, behind) = rest.split_at(cuts().min(rest.len()));
        rest = behind;
        let mut request = peer.send(piece);
        sent += &peer.take();
        while let Some(whole) = request {
            requests.push(whole);
            sent += &peer.answer(ok());
            request = peer.send(b"");
            sent += &peer.take();
        }
        if rest.is_empty() {
            return (requests, sent);
        }
    }
}

proptest! {
    #[test]
    fn no_cut_changes_what_is_read(
        order in prop::collection::vec(0..8_usize, 1..6),
        cuts in prop::collection::vec(1..40_usize, 1..20),
    ) {
        let parts: [&[u8]; 8] = [
            b"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n",
            b"HEAD /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n1",
            b"\r\nGET http://h HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /.. HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a HTTP/1.0\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n",
        ];
        let bytes: Vec<u8> = order.iter().flat_map(|part| parts[*part]).copied().collect();
        let whole = conversation(&bytes, || bytes.len());
        let mut cuts = cuts.iter().cycle().copied();
        prop_assert_eq!(&conversation(&bytes, || cuts.next().unwrap()), &whole);
        prop_assert_eq!(&conversation(&bytes, || 1), &whole);
    }
}
