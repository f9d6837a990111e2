//! What an idle browser costs the gateway in memory. All that this process allocates is counted, so the figures are exact
//! and the same in each run: a process of its own, without sockets, in virtual time. What a browser takes in tables that
//! are made once, in their whole length, is added.
//!
//! `cargo test --test idle_browser -- --nocapture` prints them.

#![allow(unsafe_code, reason = "an allocator has no safe interface")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pregao::breaker;
use pregao::gateway::{Gateway, GatewayConfig};
use pregao::http::AllowedHosts;
use pregao::limits;
use pregao::node::{Action, ConnId, FrameInput, ListenerId, Node, Origin};
use pregao::time::{Mono, Now};
use pregao::wire::{
    Definition, Flags, Frame, InstrumentId, InstrumentIndex, Session, SnapshotEnd, Subscribed, U16,
    U32, U64,
};

/// The goal: what a browser may cost that has subscribed and is sent nothing, also while it is pinged.
const BYTES_PER_BROWSER_MAX: usize = 400;
/// The same of one whose lines are conflated: it also has a place in the table of who is due, and its heartbeats wait with
/// what can wait. What it was told stands apart, so that who reads frames does not pay for it.
const BYTES_PER_CONFLATING_MAX: usize = 544;

/// What it takes in tables that do not grow. The tables hold themselves to that when they are compiled.
const IN_TABLES: usize = limits::REACTOR_CONNECTION_BYTES
    + limits::SUBSCRIBER_CONNECTION_BYTES
    + limits::GATEWAY_BROWSER_BYTES;

/// Browsers that are there before it is counted, and those whose bytes are counted. Tables double just above 4,096 and
/// 8,192, and so they are as full at the end as at the beginning.
const BEFORE: u32 = 4_000;
const COUNTED: u32 = 4_000;

/// The system's allocator, which counts what is held and what was held at most.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// What an allocation takes on 64-bit Linux: a length before it, and room up to a multiple of 16.
fn chunk(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

fn note(taken: usize, given: usize) {
    let held = HELD.fetch_add(taken, Ordering::Relaxed) + taken;
    MOST.fetch_max(held.saturating_sub(given), Ordering::Relaxed);
    HELD.fetch_sub(given, Ordering::Relaxed);
}

// SAFETY: each call is handed on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(chunk(layout.size()), 0);
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, chunk(layout.size()));
        // SAFETY: `at` is from `System`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(chunk(bytes), chunk(layout.size()));
        // SAFETY: `at` is from `System`, with this layout.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What kind of browser is counted.
#[derive(Clone, Copy)]
struct Browser {
    protocol: &'static str,
    /// On another machine.
    is_remote: bool,
}

/// A gateway and its browsers, who read at once and answer pings.
struct Crowd {
    gateway: Gateway,
    now: Now,
    next: u32,
    pinged: Vec<ConnId>,
    pings: usize,
}

fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short command");
    let mut bytes = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

impl Crowd {
    /// A gateway whose broker has one instrument, and is silent from then on.
    fn new() -> Crowd {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let gateway = Gateway::new(GatewayConfig {
            broker: at(8081),
            core: at(8082),
            nodes: vec![("aggregator".to_owned(), at(8000))],
            ring_frames: 1 << 10,
            subscriptions_max: limits::CONNECTIONS_MAX,
            unread_max: Duration::from_secs(30),
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            hosts: AllowedHosts::loopback(8090),
            playground: false,
            kill: None,
            seed: 1,
        });
        let mut crowd = Crowd {
            gateway: gateway.expect("a gateway"),
            now: Now { mono: Mono(1_000_000_000), wall_ns: 7 },
            next: 0,
            pinged: Vec::with_capacity((BEFORE + COUNTED) as usize),
            pings: 0,
        };
        crowd.turn();
        let broker = crowd.connect_broker();
        let instrument = InstrumentId::new(1, InstrumentIndex::new(0));
        let mut definition = Definition::new(instrument, "PETR4".parse().expect("a symbol"), 2);
        (definition.seq, definition.flags) = (U64::new(1), U16::new(Flags::SNAPSHOT));
        let subscribed = Subscribed {
            feed: U64::new(7),
            epoch: U32::new(1),
            epoch_start: U64::new(1),
            next_seq: U64::new(10),
            ..Subscribed::default()
        };
        let frames = [
            Frame::seal(Session::default()),
            Frame::seal(subscribed),
            Frame::seal(definition),
            Frame::seal(SnapshotEnd { next_seq: U64::new(10), ..SnapshotEnd::default() }),
        ];
        assert_eq!(crowd.gateway.handle_frames(crowd.now, broker, &frames), frames.len());
        crowd.turn();
        crowd
    }

    fn connect_broker(&mut self) -> ConnId {
        let dial = loop {
            match self.gateway.poll_action().expect("it dials its broker") {
                Action::Dial { dial, to, .. } if to.port() == 8081 => break dial,
                _ => {}
            }
        };
        let conn = self.open(Origin::Dialed(dial));
        self.turn();
        conn
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        let conn = ConnId { generation: self.next + 1, slot: self.next };
        self.next += 1;
        self.gateway.handle_open(self.now, conn, origin);
        conn
    }

    fn flush(&mut self, conn: ConnId) {
        loop {
            let outgoing = self.gateway.outgoing(self.now, conn);
            let bytes = outgoing.front.len() + outgoing.head.len() + outgoing.tail.len();
            if outgoing.head.starts_with(&[0x89, 0]) {
                self.pinged.push(conn);
            }
            if bytes == 0 || !self.gateway.handle_sent(self.now, conn, bytes) {
                return;
            }
        }
    }

    fn turn(&mut self) {
        self.gateway.handle_mail(self.now);
        for _ in 0..self.pinged.len() {
            let Some(conn) = self.pinged.pop() else { break };
            self.pings += 1;
            let pong = [0x8A, 0x80, 0, 0, 0, 0];
            assert_eq!(self.gateway.handle_bytes(self.now, conn, &pong), pong.len());
        }
        self.gateway.handle_timers(self.now);
        self.gateway.commit(self.now);
        while let Some(conn) = self.gateway.poll_dirty() {
            self.flush(conn);
        }
        self.gateway.proceed(self.now);
        while let Some(conn) = self.gateway.poll_dirty().or_else(|| self.gateway.poll_bulk()) {
            self.flush(conn);
        }
    }

    /// Browsers that come one after the other, each with its own subscription to the same quiet symbol.
    fn join(&mut self, browser: Browser, count: u32) {
        let head = format!(
            "GET /v1/stream HTTP/1.1\r\nHost: localhost:8090\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            browser.protocol
        );
        let command = masked(r#"{"subscribe":1,"symbols":["QUIET"]}"#);
        for number in 0..count {
            let from = match browser.is_remote {
                true => Ipv4Addr::new(10, 0, 0, u8::try_from(number % 250).unwrap_or(0)),
                false => Ipv4Addr::LOCALHOST,
            };
            let conn = self.open(Origin::Accepted(ListenerId(0), IpAddr::V4(from)));
            for bytes in [head.as_bytes(), &command] {
                assert_eq!(self.gateway.handle_bytes(self.now, conn, bytes), bytes.len());
                self.turn();
            }
            self.turn();
        }
    }

    /// Time in which nothing happens, with all turns that are due in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            let due = self.gateway.next_deadline().unwrap_or(end).min(end);
            // A turn takes some time, also one that is due at once.
            self.now.mono = due.max(self.now.mono + Duration::from_micros(100));
            self.turn();
            while let Some(action) = self.gateway.poll_action() {
                assert!(!matches!(action, Action::Close(_)), "nobody is closed");
            }
        }
    }
}

/// Time in which each browser is pinged, and is sent a heartbeat of the inner broker.
const IDLE: Duration = Duration::from_secs(20);

/// Bytes for each browser: held when all have subscribed, and held at most in the time that follows.
fn cost(browser: Browser) -> (usize, usize) {
    let mut crowd = Crowd::new();
    crowd.join(browser, BEFORE);
    crowd.pass(IDLE);
    let before = HELD.load(Ordering::Relaxed);
    crowd.join(browser, COUNTED);
    let count = COUNTED as usize;
    let held = (HELD.load(Ordering::Relaxed) - before) / count;
    MOST.store(0, Ordering::Relaxed);
    crowd.pings = 0;
    crowd.pass(IDLE);
    assert!(crowd.pings >= count, "all are pinged: {}", crowd.pings);
    let most = (MOST.load(Ordering::Relaxed) - before) / count;
    (IN_TABLES + held, IN_TABLES + most)
}

#[test]
fn an_idle_browser_costs_no_more_than_the_goal() {
    let browsers = [
        ("frames", "pregao.frames.v1", false, BYTES_PER_BROWSER_MAX),
        ("frames, from another machine", "pregao.frames.v1", true, BYTES_PER_BROWSER_MAX),
        ("JSON", "pregao.json.v1", false, BYTES_PER_CONFLATING_MAX),
    ];
    let mut too_much = Vec::new();
    for (name, protocol, is_remote, bytes_max) in browsers {
        let (held, most) = cost(Browser { protocol, is_remote });
        println!("{name}: {held} bytes for each browser, {most} while all are pinged");
        if held.max(most) > bytes_max {
            too_much.push(name);
        }
    }
    assert!(too_much.is_empty(), "more than they may cost: {too_much:?}");
}
