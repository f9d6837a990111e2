//! The gateway as a machine: frames of a broker and bytes of browsers in, bytes out, no socket.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use zerocopy::IntoBytes;

use super::*;
use crate::node::{CloseReason, DialId, FrameInput, ListenerId, Node, Origin};
use crate::wire::{
    Definition, Ended, Flags, Frame, Heartbeat, InstrumentId, InstrumentIndex, Kind, NodeAnswer,
    Query, Run, Session, SnapshotEnd, Subscribed, Trade, U16, U32, U64, padded,
};

mod following;
mod memory;
mod past;
mod requests;
mod rules;
mod streaming;
#[cfg(feature = "parquet")]
mod tables;

const BROKER: DialId = DialId(0);
const CORE: DialId = DialId(1);
const AGGREGATOR: DialId = DialId(3);

/// One connection, as its peer sees it.
#[derive(Default)]
struct Peer {
    /// What the gateway has sent.
    got: Vec<u8>,
    /// Bytes that the kernel takes.
    room: usize,
    /// What the gateway has not consumed.
    carry: Vec<u8>,
    is_closed: bool,
}

struct Bench {
    gateway: Gateway,
    now: Now,
    peers: BTreeMap<ConnId, Peer>,
    next: u32,
    dials: VecDeque<DialId>,
}

fn instrument(index: u32) -> InstrumentId {
    InstrumentId::new(1, InstrumentIndex::new(index))
}

fn trade(seq: u64, index: u32) -> Frame {
    let (seq, instrument) = (U64::new(seq), instrument(index).into());
    Frame::seal(Trade { seq, instrument, ..Trade::default() })
}

fn trades(from: u64, to: u64) -> Vec<Frame> {
    (from..to).map(|seq| trade(seq, 0)).collect()
}

fn definition(index: u32, symbol: &str) -> Frame {
    let mut definition = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
    (definition.seq, definition.flags) = (U64::new(1), U16::new(Flags::SNAPSHOT));
    Frame::seal(definition)
}

fn subscribed(feed: u64, epoch: u32, epoch_start: u64, next_seq: u64) -> Frame {
    Frame::seal(Subscribed {
        feed: U64::new(feed),
        epoch: U32::new(epoch),
        epoch_start: U64::new(epoch_start),
        next_seq: U64::new(next_seq),
        ..Subscribed::default()
    })
}

/// The head of an upgrade.
fn upgrade_head(protocol: &str) -> String {
    format!(
        "GET /v1/stream HTTP/1.1\r\nHost: localhost:8090\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8090\r\n\r\n")
}

/// A message of a client: masked with zeros.
fn masked(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match u8::try_from(text.len()).ok().filter(|len| *len < 126) {
        Some(len) => bytes.push(0x80 | len),
        None => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Whole messages of the server: opcode and payload.
fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [first, second, ..] = bytes {
        let (front, len) = match second {
            126 if bytes.len() >= 4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 if bytes.len() >= 10 => {
                let len = u64::from_be_bytes(bytes[2..10].try_into().unwrap());
                (10, usize::try_from(len).unwrap())
            }
            126 | 127 => break,
            len => (2, usize::from(*len)),
        };
        if bytes.len() < front + len {
            break;
        }
        assert_eq!(first & 0xF0, 0x80, "a message is one frame");
        all.push((first & 0x0F, bytes[front..front + len].to_vec()));
        bytes = &bytes[front + len..];
    }
    all
}

/// Frames of all binary messages: each is whole.
fn frames_of(messages: &[(u8, Vec<u8>)]) -> Vec<Frame> {
    let mut all = Vec::new();
    for (_, payload) in messages.iter().filter(|(opcode, _)| *opcode == 2) {
        // Frames want to be aligned as a vector of bytes is not.
        assert_eq!(payload.len() % 64, 0, "a message is a run of whole frames");
        for piece in payload.chunks_exact(64) {
            let mut frame = Frame::seal(Heartbeat::default());
            frame.as_mut_bytes().copy_from_slice(piece);
            assert_eq!(frame.check(), Ok(()), "{frame:?}");
            all.push(frame);
        }
    }
    all
}

/// Lines of all messages of text.
fn lines_of(messages: &[(u8, Vec<u8>)]) -> Vec<String> {
    let texts = messages.iter().filter(|(opcode, _)| *opcode == 1);
    let texts = texts.map(|(_, payload)| String::from_utf8(payload.clone()).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Numbers of the live trades among these.
fn seqs(frames: &[Frame]) -> Vec<u64> {
    let live = |f: &&Frame| f.kind == Kind::Trade as u8 && !f.has(Flags::SNAPSHOT);
    frames.iter().filter(live).map(|f| f.seq.get()).collect()
}

impl Bench {
    fn new(ring_frames: usize, subscriptions_max: usize) -> Bench {
        Bench::with_nodes(&["aggregator"], ring_frames, subscriptions_max)
    }

    fn with_nodes(nodes: &[&str], ring_frames: usize, subscriptions_max: usize) -> Bench {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let gateway = Gateway::new(GatewayConfig {
            broker: at(8081),
            core: at(8082),
            nodes: nodes.iter().map(|name| ((*name).to_owned(), at(8000))).collect(),
            ring_frames,
            subscriptions_max,
            unread_max: Duration::from_secs(30),
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            hosts: AllowedHosts::loopback(8090),
            playground: false,
            kill: None,
            seed: 1,
        });
        let now = Now { mono: Mono(1_000_000_000), wall_ns: 7 };
        let (peers, dials) = (BTreeMap::new(), VecDeque::new());
        let gateway = gateway.unwrap();
        let mut bench = Bench { gateway, now, peers, next: 0, dials };
        bench.turn();
        bench
    }

    fn turn(&mut self) {
        self.gateway.handle_mail(self.now);
        self.gateway.handle_timers(self.now);
        self.gateway.commit(self.now);
        while let Some(conn) = self.gateway.poll_dirty() {
            self.flush(conn);
        }
        self.gateway.proceed(self.now);
        while let Some(conn) = self.gateway.poll_dirty() {
            self.flush(conn);
        }
        while let Some(conn) = self.gateway.poll_bulk() {
            self.flush(conn);
        }
        self.act();
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    fn act(&mut self) {
        while let Some(action) = self.gateway.poll_action() {
            match action {
                Action::Dial { dial, .. } => self.dials.push_back(dial),
                Action::Close(conn) => {
                    self.flush(conn);
                    self.close(conn, CloseReason::Ours);
                }
                Action::Log(..) | Action::HandOver { .. } => {}
            }
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| !peer.is_closed) else { return };
        for _ in 0..10_000 {
            let outgoing = self.gateway.outgoing(self.now, conn);
            let bytes = [outgoing.front, outgoing.head, outgoing.tail].concat();
            let taken = bytes.len().min(peer.room);
            if taken == 0 {
                return;
            }
            peer.got.extend_from_slice(&bytes[..taken]);
            peer.room -= taken;
            if !self.gateway.handle_sent(self.now, conn, taken) || taken < bytes.len() {
                return;
            }
        }
        panic!("it sends without end");
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        if !std::mem::replace(&mut peer.is_closed, true) {
            self.gateway.handle_close(self.now, conn, reason);
        }
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        self.next += 1;
        let conn = ConnId { generation: self.next, slot: self.next };
        self.peers.insert(conn, Peer { room: usize::MAX / 2, ..Peer::default() });
        self.gateway.handle_open(self.now, conn, origin);
        conn
    }

    fn accept(&mut self) -> ConnId {
        self.open(Origin::Accepted(ListenerId(0), IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }

    /// Bytes of a peer, read at once.
    fn give(&mut self, conn: ConnId, bytes: &[u8]) {
        let peer = self.peers.get_mut(&conn).unwrap();
        peer.carry.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut peer.carry);
        let consumed = self.gateway.handle_bytes(self.now, conn, &bytes);
        self.peers.get_mut(&conn).unwrap().carry = bytes[consumed..].to_vec();
    }

    fn give_frames(&mut self, conn: ConnId, frames: &[Frame]) {
        assert_eq!(self.gateway.handle_frames(self.now, conn, frames), frames.len());
        self.turn();
    }

    /// The broker that it dialed.
    fn connect_broker(&mut self) -> ConnId {
        let place = self.dials.iter().position(|dial| *dial == BROKER).expect("a dial");
        self.dials.remove(place);
        let conn = self.open(Origin::Dialed(BROKER));
        self.turn();
        conn
    }

    /// The aggregator that it dialed.
    fn connect_aggregator(&mut self) -> ConnId {
        let place = self.dials.iter().position(|dial| *dial == AGGREGATOR).expect("a dial");
        self.dials.remove(place);
        let conn = self.open(Origin::Dialed(AGGREGATOR));
        self.turn();
        self.give_frames(conn, &[Frame::seal(Session::default())]);
        self.take(conn);
        conn
    }

    /// The question that the aggregator was asked since the last look, if any.
    fn query(&mut self, aggregator: ConnId) -> Option<U32> {
        let frames = frames_of(&[(2, self.take(aggregator))]);
        frames.iter().filter_map(Frame::view::<Query>).next_back().map(|query| query.id)
    }

    /// The whole answer to a question, of one node.
    fn answer(&mut self, aggregator: ConnId, id: U32, rows: &[Frame]) {
        let mut frames = vec![Frame::seal(Run { id, ..Run::default() })];
        frames.extend_from_slice(rows);
        let (name, rows) = (padded("shard-A"), U32::new(7));
        frames.push(Frame::seal(NodeAnswer { id, name, rows, ..NodeAnswer::default() }));
        frames.push(Frame::seal(Ended { id, ..Ended::default() }));
        self.give_frames(aggregator, &frames);
    }

    /// The head and the body of the answer that a client has got.
    fn response(&mut self, conn: ConnId) -> (String, Vec<u8>) {
        let got = self.take(conn);
        let at = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(got[..at].to_vec()).unwrap();
        let mut rest = &got[at..];
        if !head.contains("Transfer-Encoding: chunked") {
            return (head, rest.to_vec());
        }
        let mut body = Vec::new();
        loop {
            let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk");
            let length = std::str::from_utf8(&rest[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            rest = &rest[line + 2..];
            if length == 0 {
                return (head, body);
            }
            body.extend_from_slice(&rest[..length]);
            rest = &rest[length + 2..];
        }
    }

    /// A broker that has two instruments, whose sequence goes on there.
    fn live(&mut self, next_seq: u64) -> ConnId {
        let broker = self.connect_broker();
        let end = SnapshotEnd { next_seq: U64::new(next_seq), ..SnapshotEnd::default() };
        self.give_frames(
            broker,
            &[
                Frame::seal(Session::default()),
                subscribed(7, 1, 1, next_seq),
                definition(0, "PETR4"),
                definition(1, "VALE3"),
                Frame::seal(end),
            ],
        );
        broker
    }

    fn browser(&mut self, protocol: &str) -> ConnId {
        let conn = self.accept();
        self.give(conn, upgrade_head(protocol).as_bytes());
        self.turn();
        let got = self.take(conn);
        let text = String::from_utf8(got).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\n"), "{text}");
        conn
    }

    fn command(&mut self, conn: ConnId, text: &str) {
        self.give(conn, &masked(text));
    }

    /// What a peer has got since the last look.
    fn take(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.peers.get_mut(&conn).unwrap().got)
    }

    fn text(&mut self, conn: ConnId) -> String {
        String::from_utf8(self.take(conn)).unwrap()
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.peers[&conn].is_closed
    }

    fn room(&mut self, conn: ConnId, bytes: usize) {
        self.peers.get_mut(&conn).unwrap().room = bytes;
        self.flush(conn);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.turn();
    }
}
