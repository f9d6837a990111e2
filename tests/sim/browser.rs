//! A browser at the gateway: HTTP upgrade, then WebSocket, with the client's side written here. It subscribes once or
//! twice on one connection, as frames or as lines of JSON, comes back when the connection is lost, and keeps what it was
//! told as a subscriber does. Not here: what must hold of that (`check`, `told`).

use std::net::SocketAddr;
use std::time::Duration;

use pregao::limits;
use pregao::node::{
    Action, CloseReason, ConnId, Connections, DialFailure, DialId, LocalFault, Node, Origin,
    Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{GapReason, Kind, Mode, as_frames};

use crate::client::{ClientConfig, Habit};
use crate::querier::is_no_server;
use crate::told::{Subscription, Took, number, word};

const RETRY: Duration = Duration::from_millis(100);
/// The key of the handshake, which need not be a secret here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What answers that key (RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Clone, Debug)]
pub(crate) struct BrowserConfig {
    pub(crate) gateway: SocketAddr,
    /// Lines of JSON, not frames.
    pub(crate) is_json: bool,
    /// One or two.
    pub(crate) subscriptions: Vec<ClientConfig>,
    pub(crate) habit: Habit,
    /// Unsubscribes now and then, and subscribes again.
    pub(crate) is_fickle: bool,
    pub(crate) calm_at: Mono,
    pub(crate) seed: u64,
}

/// A loss that it was told on this connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToldLoss {
    pub(crate) conn: ConnId,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
}

/// The browser.
pub(crate) struct Browser {
    pub(crate) config: BrowserConfig,
    connections: Connections<()>,
    conn: Option<ConnId>,
    dial_at: Option<Mono>,
    is_upgraded: bool,
    /// The beginning of what is not whole.
    received: Vec<u8>,
    pub(crate) subscriptions: Vec<Subscription>,
    next_id: u32,
    current: u32,
    heard: Mono,
    random: Random,
    deaf_until: Option<Mono>,
    next_flap: Option<Mono>,
    next_whim: Option<Mono>,
    /// What the gateway said that it may not say.
    pub(crate) complaint: Option<(&'static str, String)>,
    pub(crate) losses: Vec<ToldLoss>,
    /// Frames, and heartbeats that only fill a message.
    pub(crate) frames: u64,
    pub(crate) fillers: u64,
}

impl Browser {
    pub(crate) fn new(config: BrowserConfig) -> Browser {
        let mut random = Random::new(config.seed);
        let soon =
            |is: bool, random: &mut Random| is.then(|| Mono(random.between(1, 1_000_000_000)));
        Browser {
            connections: Connections::default(),
            conn: None,
            dial_at: Some(Mono::default()),
            is_upgraded: false,
            received: Vec::new(),
            subscriptions: config.subscriptions.iter().map(Subscription::new).collect(),
            next_id: 1,
            current: 0,
            heard: Mono::default(),
            deaf_until: None,
            next_flap: soon(config.habit == Habit::Flapping, &mut random),
            next_whim: soon(config.is_fickle, &mut random),
            random,
            complaint: None,
            losses: Vec::new(),
            frames: 0,
            fillers: 0,
            config,
        }
    }

    fn complain(&mut self, name: &'static str, text: String) {
        self.complaint.get_or_insert((name, text));
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(conn) = self.conn {
            self.connections.fill(conn, bytes);
            self.connections.mark_dirty(conn);
        }
    }

    /// Sends one frame of a client, under a mask.
    fn send_message(&mut self, opcode: u8, payload: &[u8]) {
        let mut bytes = vec![0x80 | opcode];
        match u8::try_from(payload.len()).ok().filter(|len| *len < 126) {
            Some(len) => bytes.push(0x80 | len),
            None => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        let mask = (self.random.next_u64() as u32).to_le_bytes();
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.send(&bytes);
    }

    fn subscribe(&mut self, place: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let subscription = &mut self.subscriptions[place];
        let config = subscription.delivered.config.clone();
        let next = subscription.delivered.next_seq;
        let has_some = subscription.delivered.live_from.is_some() && next > 0;
        let is_lossless = config.mode == Mode::Lossless;
        let from = match is_lossless && has_some {
            true => next,
            false => config.from_seq,
        };
        (subscription.id, subscription.is_resumed) = (id, is_lossless && has_some);
        (subscription.is_confirmed, subscription.has_snapshot) = (false, false);
        subscription.symbols.clear();
        if self.current == 0 {
            self.current = id;
        }
        let symbols: Vec<String> = config
            .patterns
            .iter()
            .map(|&(text, kinds)| match kinds {
                0 => format!("\"{text}\""),
                kinds if kinds == Kind::Quote.mask() => format!("\"quote.{text}\""),
                _ => format!("\"trade.{text}\""),
            })
            .collect();
        let mode = match config.mode {
            Mode::Lossless => "lossless".to_owned(),
            Mode::Latest => "latest".to_owned(),
            Mode::Conflate => format!("conflate={}ms", config.conflate_ms.max(10)),
        };
        let from = match (from, subscription.is_resumed) {
            (0, _) => String::new(),
            (from, true) => format!(",\"from\":\"{:016x}:{from}\"", subscription.feed),
            (from, false) => format!(",\"from\":{from}"),
        };
        let symbols = symbols.join(",");
        let text =
            format!("{{\"subscribe\":{id},\"symbols\":[{symbols}],\"mode\":\"{mode}\"{from}}}");
        self.send_message(1, text.as_bytes());
    }

    /// Changes its mind about one subscription.
    fn renew(&mut self, place: usize) {
        let id = self.subscriptions[place].id;
        if self.is_upgraded && id != 0 {
            self.send_message(1, format!("{{\"unsubscribe\":{id}}}").as_bytes());
            self.subscriptions[place].lose();
            self.subscribe(place);
        }
    }

    fn lose(&mut self, now: Now, wait: Duration) {
        if let Some(conn) = self.conn.take() {
            self.connections.close_after_flush(conn);
        }
        (self.is_upgraded, self.current) = (false, 0);
        self.received.clear();
        self.subscriptions.iter_mut().for_each(Subscription::lose);
        self.dial_at = Some(now.mono + wait);
    }

    /// Reads what is whole.
    fn read(&mut self, now: Now) {
        if !self.is_upgraded && !self.read_answer(now) {
            return;
        }
        while let Some(conn) = self.conn
            && let Some((first, front, len)) = header(&self.received)
            && self.received.len() >= front + len
        {
            let rest = self.received.split_off(front + len);
            let message = std::mem::replace(&mut self.received, rest);
            let payload = &message[front..];
            match first {
                0x81 => self.take_text(now, conn, payload),
                0x82 => self.take_frames(now, conn, payload),
                0x88 => self.lose(now, RETRY),
                0x89 => self.send_message(0x0A, payload),
                0x8A => {}
                _ => self.complain("messages-are-whole", format!("a message begins with {first}")),
            }
        }
    }

    fn read_answer(&mut self, now: Now) -> bool {
        let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let rest = self.received.split_off(at + 4);
        let head =
            String::from_utf8_lossy(&std::mem::replace(&mut self.received, rest)).into_owned();
        if head.starts_with("HTTP/1.1 503 ") {
            self.lose(now, RETRY);
            return false;
        }
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
            self.complain("an-upgrade-is-answered", head);
            return false;
        }
        self.is_upgraded = true;
        (0..self.subscriptions.len()).for_each(|place| self.subscribe(place));
        true
    }

    fn current(&self) -> Option<usize> {
        self.subscriptions.iter().position(|it| it.id == self.current)
    }

    fn took(&mut self, now: Now, conn: ConnId, place: usize, took: Took) {
        match took {
            Took::Nothing => {}
            Took::Filler => self.fillers += 1,
            Took::Gap(GapReason::Void | GapReason::Skipped, ..) => {}
            Took::Gap(_, from_seq, to_seq) => {
                self.losses.push(ToldLoss { conn, from_seq, to_seq });
            }
            Took::Refused(text) if text.contains("another sequence") => {
                // The gateway was started anew, and does not know the epoch.
                self.subscriptions[place].begin_again();
                self.subscribe(place);
            }
            Took::Refused(text) => {
                self.subscriptions[place].delivered.refusals.push(text);
                self.lose(now, RETRY);
            }
        }
    }

    fn take_frames(&mut self, now: Now, conn: ConnId, payload: &[u8]) {
        let (frames, rest) = as_frames(payload);
        if !rest.is_empty() || self.config.is_json {
            let text = format!("{} bytes, of which {} are none", payload.len(), rest.len());
            self.complain("messages-are-whole", text);
        }
        for frame in frames {
            if let Err(error) = frame.check() {
                self.complain("messages-are-whole", format!("{error}: {frame:?}"));
                return;
            }
            self.frames += 1;
            // Of one that is over, something may have been on its way.
            let Some(place) = self.current().filter(|_| self.conn == Some(conn)) else { continue };
            match self.subscriptions[place].take_frame(frame) {
                Ok(took) => self.took(now, conn, place, took),
                Err((name, text)) => self.complain(name, text),
            }
        }
    }

    fn take_text(&mut self, now: Now, conn: ConnId, payload: &[u8]) {
        let Ok(text) = std::str::from_utf8(payload) else {
            return self.complain("messages-are-whole", "a text is not UTF-8".to_owned());
        };
        for line in text.split('\n') {
            if self.conn != Some(conn) {
                return;
            }
            let id = number(line, "id").and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
            match word(line, "kind").unwrap_or_default() {
                "subscription" => self.current = id,
                "unsubscribed" => {}
                "error" => {
                    let place = self.subscriptions.iter().position(|it| it.id == id);
                    let place = place.unwrap_or_default();
                    self.took(now, conn, place, Took::Refused(line.to_owned()));
                }
                "subscribed" => {
                    let place = self.subscriptions.iter().position(|it| it.id == id);
                    let feed = word(line, "epoch_id").unwrap_or_default();
                    let feed = u64::from_str_radix(feed, 16).unwrap_or_default();
                    if let Some(place) = place {
                        self.subscriptions[place].confirm(feed);
                    }
                }
                _ if !self.config.is_json => {
                    self.complain("a-browser-is-told-what-it-asked-for", line.to_owned());
                }
                _ => {
                    self.frames += 1;
                    let Some(place) = self.current() else { continue };
                    match self.subscriptions[place].take_line(line) {
                        Ok(took) => self.took(now, conn, place, took),
                        Err((name, text)) => self.complain(name, text),
                    }
                }
            }
        }
    }
}

/// The first byte of a message, the length of its header, and that of its payload.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, second, ..] = *bytes else { return None };
    match second {
        126 => {
            let len = bytes.get(2..4)?;
            Some((first, 4, usize::from(u16::from_be_bytes(len.try_into().unwrap()))))
        }
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            Some((first, 10, usize::try_from(len).unwrap()))
        }
        len => Some((first, 2, usize::from(len))),
    }
}

impl Node for Browser {
    fn handle_open(&mut self, now: Now, conn: ConnId, _origin: Origin) {
        self.connections.insert_dialed(now, conn);
        self.connections.dialed(conn, ());
        if self.conn.is_some() {
            // It has dialed twice.
            return self.connections.close_after_flush(conn);
        }
        self.conn = Some(conn);
        self.heard = now.mono;
        let protocol = if self.config.is_json { "pregao.json.v1" } else { "pregao.frames.v1" };
        let head = format!(
            "GET /v1/stream HTTP/1.1\r\nHost: localhost:8090\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        self.send(head.as_bytes());
    }

    fn handle_dial_failed(&mut self, now: Now, _dial: DialId, _failure: DialFailure) {
        self.dial_at = Some(now.mono + RETRY);
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        if self.conn == Some(conn) {
            self.heard = now.mono;
            self.received.extend_from_slice(bytes);
            self.read(now);
            let slow = ClientConfig {
                habit: self.config.habit,
                calm_at: self.config.calm_at,
                ..ClientConfig::good(Vec::new(), 0)
            };
            self.deaf_until = slow.deaf_until(now, &mut self.random);
        }
        bytes.len()
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, _reason: CloseReason) {
        self.connections.remove(conn);
        if self.conn == Some(conn) {
            self.conn = None;
            self.lose(now, RETRY);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        if self.deaf_until.take_if(|until| *until <= now.mono).is_some() {
            self.heard = now.mono;
        }
        if self.next_flap.take_if(|at| *at <= now.mono).is_some() && now.mono < self.config.calm_at
        {
            let wait = Duration::from_millis(self.random.between(20, 900));
            self.next_flap = Some(now.mono + wait);
            if self.conn.is_some() {
                self.lose(now, RETRY);
            }
        }
        if self.next_whim.take_if(|at| *at <= now.mono).is_some() && now.mono < self.config.calm_at
        {
            let wait = Duration::from_millis(self.random.between(20, 400));
            self.next_whim = Some(now.mono + wait);
            let place = self.random.below(self.subscriptions.len() as u64);
            self.renew(usize::try_from(place).unwrap());
        }
        let is_silent = now.mono.since(self.heard) > limits::SILENCE_MAX;
        if self.conn.is_some() && self.deaf_until.is_none() && is_silent {
            self.lose(now, RETRY);
        }
        if self.dial_at.take_if(|at| *at <= now.mono).is_some() {
            self.connections.dial(DialId(0), self.config.gateway, Duration::from_secs(2));
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let silence = self.conn.filter(|_| self.deaf_until.is_none());
        let silence = silence.map(|_| self.heard + limits::SILENCE_MAX + Duration::from_millis(1));
        [self.deaf_until, self.next_flap, self.next_whim, self.dial_at, silence]
            .into_iter()
            .flatten()
            .min()
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
        self.deaf_until.is_none()
    }
}
