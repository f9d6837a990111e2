//! Somebody who asks the gateway over HTTP: on one connection that is kept, often several questions behind each other,
//! and who holds each answer against what was asked. Not here: what must be in the answers (`check`).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};

use crate::querier::is_no_server;
use crate::told::{number, word};

const RETRY: Duration = Duration::from_millis(100);
/// Longer than any deadline that it sets.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct SurferConfig {
    pub(crate) gateway: SocketAddr,
    pub(crate) symbols: Vec<&'static str>,
    pub(crate) seed: u64,
    /// No more questions of its own from here on.
    pub(crate) calm_at: Mono,
}

/// What it has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    path: String,
    /// What the answer must name.
    symbol: Option<&'static str>,
    rows_max: u64,
}

/// Whoever asks.
pub(crate) struct Surfer {
    config: SurferConfig,
    connections: Connections<()>,
    conn: Option<ConnId>,
    dial_at: Option<Mono>,
    ask_at: Mono,
    give_up_at: Option<Mono>,
    random: Random,
    asked: VecDeque<Asked>,
    received: Vec<u8>,
    pub(crate) complaint: Option<String>,
    /// The question that the simulator wants an answer to, and that answer.
    wanted: Option<String>,
    pub(crate) answer: Option<(u16, String)>,
    pub(crate) answers: u64,
}

impl Surfer {
    pub(crate) fn new(config: SurferConfig) -> Surfer {
        Surfer {
            random: Random::new(config.seed),
            config,
            connections: Connections::default(),
            conn: None,
            dial_at: Some(Mono::default()),
            ask_at: Mono::default(),
            give_up_at: None,
            asked: VecDeque::new(),
            received: Vec::new(),
            complaint: None,
            wanted: None,
            answer: None,
            answers: 0,
        }
    }

    /// Asks for this, once it is connected and has the answers to all else.
    pub(crate) fn want(&mut self, path: &str) {
        (self.wanted, self.answer) = (Some(path.to_owned()), None);
    }

    fn send(&mut self, now: Now, asked: Asked) {
        let Some(conn) = self.conn else { return };
        let head = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1:8090\r\n\r\n", asked.path);
        self.asked.push_back(asked);
        self.connections.fill(conn, head.as_bytes());
        self.connections.mark_dirty(conn);
        self.give_up_at = Some(now.mono + PATIENCE);
    }

    fn ask(&mut self, now: Now) {
        if self.conn.is_none() {
            return;
        }
        if now.mono >= self.config.calm_at {
            self.ask_at = self.config.calm_at;
            if self.asked.is_empty()
                && let Some(path) = self.wanted.take()
            {
                self.send(now, Asked { path, symbol: None, rows_max: u64::MAX });
            }
            return;
        }
        if now.mono < self.ask_at || !self.asked.is_empty() {
            return;
        }
        self.ask_at = now.mono + Duration::from_millis(self.random.between(1, 150));
        for _ in 0..self.random.between(1, 3) {
            let count = self.config.symbols.len() as u64;
            let symbol = self.config.symbols[usize::try_from(self.random.below(count)).unwrap()];
            let deadline = self.random.between(1, 900);
            let rows_max = self.random.between(1, 60);
            let asked = match self.random.below(6) {
                0 | 1 => Asked {
                    path: format!("/v1/trades/{symbol}?last={rows_max}&deadline={deadline}ms"),
                    symbol: Some(symbol),
                    rows_max,
                },
                2 => Asked {
                    path: format!("/v1/bars/{symbol}?interval=1m&deadline={deadline}ms"),
                    symbol: Some(symbol),
                    rows_max: u64::MAX,
                },
                3 => Asked {
                    path: format!("/v1/quotes?symbols={symbol}&deadline={deadline}ms"),
                    symbol: Some(symbol),
                    rows_max: u64::MAX,
                },
                4 => Asked { path: "/v1/status".to_owned(), symbol: None, rows_max: u64::MAX },
                _ => Asked { path: "/healthz".to_owned(), symbol: None, rows_max: u64::MAX },
            };
            self.send(now, asked);
        }
    }

    fn lose(&mut self, now: Now) {
        if let Some(conn) = self.conn.take() {
            self.connections.close_after_flush(conn);
        }
        self.asked.clear();
        self.received.clear();
        self.give_up_at = None;
        self.dial_at = Some(now.mono + RETRY);
    }

    fn read(&mut self, now: Now) {
        while let Some((bytes, status, body)) = response(&self.received) {
            self.received.drain(..bytes);
            let Some(asked) = self.asked.pop_front() else {
                // Who may not even ask is told so.
                if status != 503 && status != 408 {
                    self.complaint.get_or_insert(format!("{status} to nothing: {body}"));
                }
                return self.lose(now);
            };
            self.answers += 1;
            self.judge(&asked, status, &body);
            self.answer = Some((status, body));
            self.give_up_at = (!self.asked.is_empty()).then(|| now.mono + PATIENCE);
        }
    }

    /// An answer is about what was asked, and says how it is.
    fn judge(&mut self, asked: &Asked, status: u16, body: &str) {
        let is_problem = status >= 400;
        // Two exchanges may have an instrument of that name.
        let means_two = status == 400 && body.contains("Several instruments");
        let is_known = means_two || matches!(status, 200 | 206 | 404 | 502 | 503 | 504);
        let says = if is_problem { "\"detail\":" } else { "{" };
        let mut wrong = !is_known || !body.contains(says);
        if !is_problem && let Some(symbol) = asked.symbol {
            let named = word(body, "symbol").unwrap_or_default();
            let is_it = named == symbol || named.ends_with(&format!(":{symbol}"));
            wrong |= !is_it && !body.contains("\"trades\":[]") && !body.contains("\"quotes\":[]");
            wrong |= !is_it && asked.path.starts_with("/v1/trades");
            wrong |= body.matches("\"kind\":\"trade\"").count() as u64 > asked.rows_max;
            wrong |= !body.contains("\"complete\":") || !body.contains("\"nodes\":");
            wrong |= (status == 200) != body.contains("\"complete\":true");
        }
        // Without a descriptor it says so, whatever was asked.
        if asked.path == "/healthz" && !body.contains("descriptor") {
            wrong |= status != 200 || word(body, "status") != Some("ok");
        }
        if wrong {
            let body: String = body.chars().take(300).collect();
            self.complaint.get_or_insert(format!("{} was answered {status} {body}", asked.path));
        }
    }
}

/// A whole response: its bytes, its status, its body.
fn response(bytes: &[u8]) -> Option<(usize, u16, String)> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..at]).unwrap();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let lower = head.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let len: usize = rest.split("\r\n").next()?.parse().ok()?;
        let body = bytes.get(at..at + len)?;
        return Some((at + len, status, String::from_utf8(body.to_vec()).unwrap()));
    }
    let (mut from, mut body) = (at, Vec::new());
    loop {
        let line = bytes[from..].windows(2).position(|two| two == b"\r\n")?;
        let len = std::str::from_utf8(&bytes[from..from + line]).unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        from += line + 2;
        body.extend_from_slice(bytes.get(from..from + len)?);
        bytes.get(from + len..from + len + 2)?;
        from += len + 2;
        if len == 0 {
            return Some((from, status, String::from_utf8(body).unwrap()));
        }
    }
}

/// The numbers of all rows in an answer, in its order.
pub(crate) fn rows(body: &str) -> Vec<u64> {
    body.match_indices("\"seq\":").filter_map(|(at, _)| number(&body[at..], "seq")).collect()
}

impl Node for Surfer {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        self.conn = Some(conn);
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.dial_at = Some(now.mono + RETRY);
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        if self.conn == Some(conn) {
            self.received.extend_from_slice(bytes);
            self.read(now);
        }
        bytes.len()
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        if self.conn == Some(conn) {
            self.conn = None;
            self.lose(now);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        if self.give_up_at.is_some_and(|at| at <= now.mono) {
            self.lose(now);
        }
        if self.dial_at.take_if(|at| *at <= now.mono).is_some() {
            self.connections.dial(DialId(0), self.config.gateway, Duration::from_secs(1));
        }
        self.ask(now);
    }

    fn next_deadline(&self) -> Option<Mono> {
        let is_free = self.conn.is_some() && self.asked.is_empty();
        let ask_at = (is_free && self.ask_at < self.config.calm_at).then_some(self.ask_at);
        [self.dial_at, self.give_up_at, ask_at].into_iter().flatten().min()
    }

    is_no_server!();

    fn poll_action(&mut self) -> Option<Action> {
        self.connections.poll_action()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.connections.poll_dirty()
    }

    fn outgoing(&mut self, _now: Now, conn: ConnId) -> Outgoing<'_> {
        Outgoing::one(self.connections.outbox(conn))
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        self.connections.sent(now, conn, bytes);
        true
    }

    fn wants_bytes(&self, _conn: ConnId) -> bool {
        true
    }
}
