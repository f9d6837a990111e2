//! What browsers ask of the gateway, almost right: addresses, parameters, commands, deeds. No bytes panic, what is answered is
//! an answer, and the gateway goes on.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use pregao::breaker;
use pregao::gateway::{Gateway, GatewayConfig};
use pregao::http::AllowedHosts;
use pregao::node::{Action, CloseReason, ConnId, ListenerId, Node, Origin};
use pregao::random::Random;
use pregao::time::{Mono, Now};

use crate::mutate::{below, cases, mutate, pick};

/// Addresses with every parameter that there is.
const TARGETS: [&str; 22] = [
    "/v1/quotes?symbols=PETR4,VALE3&format=csv&partial=deny",
    "/v1/trades/PETR4?last=5&deadline=500ms",
    "/v1/trades?symbol=BTC/USD&from=2026-07-14T10:00:00Z&to=1784034439126000000&format=ndjson",
    "/v1/bars/PETR4?interval=1m&last=10&partial=allow",
    "/v1/bars?symbol=xnas:AMZN&interval=86400s&from=1&to=18446744073709551615",
    "/v1/figures/average?symbols=PETR*",
    "/v1/figures/movers?count=3&from=0&to=9223372036854775807",
    "/v1/figures/spread",
    "/v1/instruments?symbols=P*&format=parquet",
    "/v1/status?format=ndjson",
    "/v1/openapi.json",
    "/v1/events?symbols=PETR*&kinds=trade,quote&mode=conflate=250ms&from=00c0ffee00000003:1000",
    "/v1/events?mode=lossless&from=18446744073709551615",
    "/udf/config",
    "/udf/symbols?symbol=PETR4",
    "/udf/search?query=P&limit=99999999999&type=stock&exchange=",
    "/udf/history?symbol=PETR4&resolution=1D&from=1&to=18446744073709551615&countback=4294967295",
    "/udf/quotes?symbols=PETR4,VALE3,",
    "/metrics",
    "/readyz",
    "/page/main.js",
    "/",
];

/// Headers that mean something.
const HEADERS: [&str; 8] = [
    "Accept: text/csv;q=0.5, application/json\r\n",
    "Range: bytes=0-99\r\n",
    "Range: bytes=-18446744073709551615\r\n",
    "Last-Event-ID: 00c0ffee00000003:999\r\n",
    "If-None-Match: \"a\", W/\"b\", *\r\n",
    "Accept-Encoding: gzip;q=0, *\r\n",
    "Origin: http://localhost:8090\r\n",
    "Connection: close\r\n",
];

const DEEDS: [(&str, &str); 3] = [
    ("breaker", r#"{"node":"core","breaker":"core.exchange","action":"force-open"}"#),
    ("kill", r#"{"node":"shard-A"}"#),
    ("chaos", r#"{"node":"external","action":"misbehave"}"#),
];

const COMMANDS: [&str; 8] = [
    r#"{"subscribe":1}"#,
    r#"{"subscribe":2,"symbols":["PETR4","quote.VALE3","B*"],"kinds":["trade"],"mode":"latest"}"#,
    r#"{"subscribe":4294967295,"mode":"conflate=3600s","from":18446744073709551615}"#,
    r#"{"subscribe":3,"mode":"lossless","from":"00c0ffee00000003:1000"}"#,
    r#"{"subscribe":4,"bars":"1m","symbols":["PETR4"]}"#,
    r#"{"subscribe":5,"bars":"1d","symbols":["*"],"mode":"lossless"}"#,
    r#"{"unsubscribe":1}"#,
    r#"{"unsubscribe":99}"#,
];

fn request(random: &mut Random) -> Vec<u8> {
    let mut headers = String::new();
    for _ in 0..below(random, 3) {
        headers.push_str(pick::<&str>(random, &HEADERS));
    }
    if random.below(6) == 0 {
        let (deed, body) = *pick(random, &DEEDS);
        let mut body = body.as_bytes().to_vec();
        if random.below(2) == 0 {
            mutate(random, &mut body);
        }
        let head = format!(
            "POST /v1/playground/{deed} HTTP/1.1\r\nHost: localhost:8090\r\nOrigin: http://localhost:8090\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        return [head.into_bytes(), body].concat();
    }
    let mut target = pick::<&str>(random, &TARGETS).as_bytes().to_vec();
    if random.below(3) > 0 {
        mutate(random, &mut target);
        // A control character would end the head: what is behind it is another case.
        target.retain(|byte| !byte.is_ascii_control() && *byte != b' ');
    }
    let head = format!(" HTTP/1.1\r\nHost: localhost:8090\r\n{headers}\r\n");
    [b"GET ".to_vec(), target, head.into_bytes()].concat()
}

fn upgraded(random: &mut Random) -> Vec<u8> {
    let protocol = pick::<&str>(random, &["pregao.frames.v1", "pregao.json.v1"]);
    let mut bytes = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: localhost:8090\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..=below(random, 6) {
        let mut text = pick::<&str>(random, &COMMANDS).as_bytes().to_vec();
        if random.below(3) > 0 {
            mutate(random, &mut text);
        }
        bytes.push(0x81);
        match text.len() {
            0..=125 => bytes.push(0x80 | text.len() as u8),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(text);
    }
    bytes
}

/// The gateway of all cases: it is expensive to make, and what one client asks must mean nothing to the next one.
struct Bench {
    gateway: Gateway,
    now: Now,
    next: u32,
}

impl Bench {
    fn new() -> Bench {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let config = GatewayConfig {
            broker: at(8081),
            core: at(8082),
            nodes: vec![("aggregator".to_owned(), at(8000)), ("core".to_owned(), at(8082))],
            ring_frames: 64,
            subscriptions_max: 64,
            unread_max: Duration::from_secs(30),
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            hosts: AllowedHosts::loopback(8090),
            playground: true,
            kill: None,
            seed: 1,
        };
        let now = Now { mono: Mono(1_000_000_000), wall_ns: 1_784_034_000_000_000_000 };
        Bench { gateway: Gateway::new(config).unwrap(), now, next: 0 }
    }

    /// One turn. Whether this connection is closed by it.
    fn turn(&mut self, conn: ConnId, sent: &mut Vec<u8>) -> bool {
        let now = self.now;
        self.gateway.handle_mail(now);
        self.gateway.handle_timers(now);
        self.gateway.commit(now);
        self.gateway.proceed(now);
        while let Some(dirty) = self.gateway.poll_dirty().or_else(|| self.gateway.poll_bulk()) {
            for _ in 0..1_000 {
                let outgoing = self.gateway.outgoing(now, dirty);
                let bytes = [outgoing.front, outgoing.head, outgoing.tail].concat();
                if bytes.is_empty() {
                    break;
                }
                if dirty == conn {
                    sent.extend_from_slice(&bytes);
                }
                if !self.gateway.handle_sent(now, dirty, bytes.len()) {
                    break;
                }
            }
        }
        let mut is_closed = false;
        while let Some(action) = self.gateway.poll_action() {
            is_closed |= matches!(action, Action::Close(closed) if closed == conn);
        }
        is_closed
    }

    /// What a client gets that sends these bytes.
    fn talk(&mut self, bytes: &[u8], piece_bytes: usize) -> Vec<u8> {
        self.next += 1;
        let conn = ConnId { generation: self.next, slot: 1 };
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.gateway.handle_open(self.now, conn, Origin::Accepted(ListenerId(0), from));
        let (mut sent, mut offered, mut is_closed) = (Vec::new(), Vec::new(), false);
        for piece in bytes.chunks(piece_bytes) {
            if is_closed {
                break;
            }
            offered.extend_from_slice(piece);
            let consumed = self.gateway.handle_bytes(self.now, conn, &offered);
            offered.drain(..consumed);
            assert!(offered.len() <= pregao::limits::HTTP_HEAD_BYTES_MAX, "{}", offered.len());
            is_closed = self.turn(conn, &mut sent);
        }
        // Nobody answers the gateway, so what it asked others is late then.
        for _ in 0..40 {
            self.now.mono = self.now.mono + Duration::from_millis(500);
            is_closed = is_closed || self.turn(conn, &mut sent);
        }
        self.gateway.handle_close(self.now, conn, CloseReason::PeerClosed);
        self.turn(conn, &mut sent);
        assert_eq!(self.gateway.failure(), None);
        sent
    }
}

/// Every answer that is not part of a stream: its status, and that a problem is one.
fn examine(sent: &[u8], asked: &[u8]) {
    let asked = String::from_utf8_lossy(asked);
    let text = String::from_utf8_lossy(sent);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 "), "{asked}: {text}");
    let Some((head, rest)) = text.split_once("\r\n\r\n") else { return };
    let status: u16 = head[9..12].parse().unwrap_or_else(|_| panic!("{asked}: {head}"));
    assert!((100..=505).contains(&status) && status != 500, "{asked}: {head}");
    if head.contains("application/problem+json") {
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.unwrap().parse().unwrap();
        let problem: serde_json::Value = serde_json::from_str(&rest[..length]).unwrap();
        assert_eq!(problem["status"], status, "{asked}");
        assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{asked}: {problem}");
    }
}

#[test]
fn whatever_is_asked_there_is_an_answer_and_the_gateway_goes_on() {
    let bench = RefCell::new(Bench::new());
    cases(3_000, |random| {
        let asked = if random.below(4) == 0 { upgraded(random) } else { request(random) };
        let piece_bytes = *pick(random, &[1, 7, 1_000_000]);
        let sent = bench.borrow_mut().talk(&asked, piece_bytes);
        assert!(!sent.is_empty(), "no answer to {}", String::from_utf8_lossy(&asked));
        examine(&sent, &asked);
        if random.below(50) == 0 {
            let healthy = b"GET /healthz HTTP/1.1\r\nHost: localhost:8090\r\n\r\n";
            let sent = bench.borrow_mut().talk(healthy, 1_000);
            assert!(sent.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&sent));
        }
    });
}
