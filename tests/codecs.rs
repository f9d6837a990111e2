//! Other protocols beside frames, on listeners of their own. Nothing in the shell or in the broker knows
//! them: each is one type here. What they stand for are an HTTP listener (messages of another kind) and an
//! encrypted transport (the same frames in other bytes).

#![allow(clippy::unwrap_used, reason = "test helpers outside of #[test] functions")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pregao::node::broker::{Broker, BrokerConfig};
use pregao::node::codec::Codec;
use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, ListenerId, LocalFault, Node, Origin,
    Outgoing, Timed,
};
use pregao::reactor::{Listen, Options, Reactor};
use pregao::time::{Mono, Now};
use pregao::wire::{Frame, Kind, Op, Query, Role, Session, U32, as_frames};
use zerocopy::IntoBytes;

const FRAMES: ListenerId = ListenerId(0);
const LINES: ListenerId = ListenerId(1);
const MASKED: ListenerId = ListenerId(2);
/// The longest line.
const LINE_BYTES_MAX: usize = 80;
const MASK: u8 = 0x5A;

/// Lines of text, whole ones only.
struct Lines;

impl Codec for Lines {
    type Messages = [u8];

    fn split(bytes: &[u8]) -> (&[u8], usize) {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        (&bytes[..end], end)
    }
}

/// What a connection speaks.
enum Speaks {
    Lines {
        outbox: Vec<u8>,
    },
    /// Frames, each byte masked. Both directions keep what they have turned over.
    Masked {
        received: Vec<u8>,
        outbox: Vec<u8>,
    },
}

/// A broker that also speaks lines on a second listener, and masked frames on a third.
struct Gateway {
    broker: Broker,
    others: BTreeMap<ConnId, Speaks>,
    dirty: Vec<ConnId>,
    closed: Vec<CloseReason>,
}

impl Timed for Gateway {
    fn handle_turn_end(&mut self, _now: Now, _length: Duration) {}
}

impl Node for Gateway {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        let speaks = match origin {
            Origin::Accepted(LINES, _) => Speaks::Lines { outbox: Vec::new() },
            Origin::Accepted(MASKED, _) => {
                Speaks::Masked { received: Vec::new(), outbox: Vec::new() }
            }
            _ => return self.broker.handle_open(now, conn, origin),
        };
        if matches!(speaks, Speaks::Masked { .. }) {
            self.broker.handle_open(now, conn, origin);
        }
        self.others.insert(conn, speaks);
    }

    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        match self.others.get_mut(&conn) {
            None => self.broker.handle_bytes(now, conn, bytes),
            Some(Speaks::Lines { outbox }) => {
                let (lines, consumed) = Lines::split(bytes);
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    outbox.extend(line.iter().map(u8::to_ascii_uppercase));
                    self.dirty.push(conn);
                }
                consumed
            }
            Some(Speaks::Masked { received, .. }) => {
                received.extend(bytes.iter().map(|byte| byte ^ MASK));
                let consumed = self.broker.handle_bytes(now, conn, received);
                received.drain(..consumed);
                bytes.len()
            }
        }
    }

    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        self.closed.push(reason);
        if !matches!(self.others.remove(&conn), Some(Speaks::Lines { .. })) {
            self.broker.handle_close(now, conn, reason);
        }
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop().or_else(|| self.broker.poll_dirty())
    }

    fn poll_bulk(&mut self) -> Option<ConnId> {
        self.broker.poll_bulk()
    }

    fn has_bulk(&self) -> bool {
        self.broker.has_bulk()
    }

    fn put_off(&mut self, conn: ConnId) -> bool {
        self.broker.put_off(conn)
    }

    fn is_source(&self, conn: ConnId) -> bool {
        self.broker.is_source(conn)
    }

    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        match self.others.get_mut(&conn) {
            None => self.broker.outgoing(now, conn),
            Some(Speaks::Lines { outbox }) => Outgoing::one(outbox),
            Some(Speaks::Masked { outbox, .. }) => {
                if outbox.is_empty() {
                    let plain = self.broker.outgoing(now, conn);
                    let bytes = plain.len();
                    outbox.extend(plain.head.iter().chain(plain.tail).map(|byte| byte ^ MASK));
                    self.broker.handle_sent(now, conn, bytes);
                }
                Outgoing::one(outbox)
            }
        }
    }

    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        match self.others.get_mut(&conn) {
            None => self.broker.handle_sent(now, conn, bytes),
            Some(Speaks::Lines { outbox } | Speaks::Masked { outbox, .. }) => {
                outbox.drain(..bytes);
                true
            }
        }
    }

    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        self.broker.handle_dial_failed(now, dial, failure);
    }
    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        self.broker.handle_local_fault(now, fault);
    }
    fn handle_storage(&mut self, now: Now) {
        self.broker.handle_storage(now);
    }
    fn handle_mail(&mut self, now: Now) {
        self.broker.handle_mail(now);
    }
    fn sends_before_timers(&self) -> bool {
        self.broker.sends_before_timers()
    }
    fn handle_timers(&mut self, now: Now) {
        self.broker.handle_timers(now);
    }
    fn commit(&mut self, now: Now) {
        self.broker.commit(now);
    }
    fn proceed(&mut self, now: Now) {
        self.broker.proceed(now);
    }
    fn handle_stop(&mut self, now: Now) {
        self.broker.handle_stop(now);
    }
    fn is_stopped(&self) -> bool {
        self.broker.is_stopped()
    }
    fn failure(&self) -> Option<&str> {
        self.broker.failure()
    }
    fn next_deadline(&self) -> Option<Mono> {
        self.broker.next_deadline()
    }
    fn poll_action(&mut self) -> Option<Action> {
        self.broker.poll_action()
    }
    fn poll_wake(&mut self) -> Option<usize> {
        self.broker.poll_wake()
    }
    fn wants_bytes(&self, conn: ConnId) -> bool {
        self.broker.wants_bytes(conn)
    }
}

/// Runs the gateway while `ask` speaks to its three listeners; how its connections ended.
fn with_gateway(ask: impl FnOnce([SocketAddr; 3])) -> Vec<CloseReason> {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let frames = Listen::frames(anywhere);
    let lines = Listen { unconsumed_bytes_max: LINE_BYTES_MAX, ..frames.clone() };
    let listen = vec![frames.clone(), lines, frames];
    let mut reactor = Reactor::new(Options { listen, is_punctual: false }).unwrap();
    let addresses = [FRAMES, LINES, MASKED].map(|it| reactor.local_addr_of(it).unwrap());
    let (mut stop, stopped) = UnixStream::pair().unwrap();
    reactor.stop_on(stopped).unwrap();
    let broker = Broker::new(BrokerConfig::new(64, 10));
    let mut gateway =
        Gateway { broker, others: BTreeMap::new(), dirty: Vec::new(), closed: Vec::new() };
    let running = std::thread::spawn(move || {
        reactor.run(&mut gateway).unwrap();
        gateway.closed
    });
    ask(addresses);
    stop.write_all(&[1]).unwrap();
    running.join().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A session and a status query, byte by byte; the kinds of the answers up to the END.
fn ask_status(mut stream: TcpStream, mask: u8) -> Vec<Kind> {
    let hello = Session { role: Role::Querier as u8, ..Session::default() };
    let query = Query { id: U32::new(1), op: Op::Status as u8, ..Query::default() };
    let frames = [Frame::seal(hello), Frame::seal(query)];
    // The pieces end inside frames.
    for piece in frames.as_bytes().chunks(30) {
        let masked: Vec<u8> = piece.iter().map(|byte| byte ^ mask).collect();
        stream.write_all(&masked).unwrap();
    }
    let mut kinds = Vec::new();
    while kinds.last() != Some(&Kind::End) {
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes).unwrap();
        let plain = bytes.map(|byte| byte ^ mask);
        let frame = as_frames(&plain).0[0];
        assert_eq!(frame.check(), Ok(()));
        kinds.push(frame.kind().unwrap());
    }
    kinds
}

#[test]
fn a_masked_transport_and_plain_frames_get_the_same_answers() {
    with_gateway(|[frames, _, masked]| {
        let plain = ask_status(connect(frames), 0);
        assert!(plain.len() > 5 && plain[0] == Kind::Session, "{plain:?}");
        assert_eq!(ask_status(connect(masked), MASK), plain);
    });
}

#[test]
fn a_message_that_arrives_in_pieces_on_another_listener_is_put_together_by_its_codec() {
    with_gateway(|[_, lines, _]| {
        let mut stream = connect(lines);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for piece in ["one\ntw", "o\nth", "ree\n"] {
            stream.write_all(piece.as_bytes()).unwrap();
        }
        let mut read = String::new();
        for _ in 0..3 {
            reader.read_line(&mut read).unwrap();
        }
        assert_eq!(read, "ONE\nTWO\nTHREE\n");
    });
}

#[test]
fn a_message_longer_than_its_listener_takes_ends_its_connection_and_no_other() {
    let closed = with_gateway(|[frames, lines, _]| {
        let mut endless = connect(lines);
        let piece = [b'x'; LINE_BYTES_MAX];
        let mut rest = Vec::new();
        // Until the other side has had enough; a reset is an end too.
        while endless.write_all(&piece).is_ok() {}
        drop(endless.read_to_end(&mut rest));
        assert!(rest.is_empty(), "nothing was answered");
        assert!(ask_status(connect(frames), 0).len() > 5);
    });
    assert!(closed.contains(&CloseReason::TooLong), "{closed:?}");
}
