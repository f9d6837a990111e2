//! Five thousand subscribers, of which one in a hundred never reads, and a broker whose descriptors
//! run out: nobody else notices, and whoever lost something is told exactly what.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use pregao::node::sequencer::MARKET_SOURCE;
use pregao::wire::{
    FRAME_BYTES, Flags, Frame, Gap, Heartbeat, Kind, Refusal, Role, Session, SnapshotEnd,
    Subscribe, U16, U32, U64, as_frames, padded, unpadded,
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use zerocopy::IntoBytes;

use super::process::{Deadline, PATIENCE};
use super::system::System;

const SUBSCRIBERS: usize = 5_000;
/// Every hundredth never reads.
const STALLED: usize = SUBSCRIBERS / 100;
/// As many take everything; the rest watches one symbol.
const READERS: usize = SUBSCRIBERS / 100;
/// The least traded symbol of the synthetic market.
const RARE: &str = "trade.HAPV3";
/// What the broker may grow by while nobody reads on the stalled connections: the bound of all their
/// outboxes.
const GROWTH_KIB_MAX: u64 = (STALLED * 256) as u64;

/// What a subscriber has been given, checked as it comes.
pub(super) struct Subscriber {
    stream: mio::net::TcpStream,
    bytes: Vec<u8>,
    is_full_feed: bool,
    /// The next `seq` of a full feed, once the snapshot has ended.
    pub(super) next_seq: Option<u64>,
    pub(super) frames: u64,
    /// Frames that it was told it will not get.
    pub(super) announced: u64,
}

/// How often somebody says that it lives. Who gets a busy feed is never asked.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(10);

/// What it says.
pub(super) fn sign_of_life() -> [u8; FRAME_BYTES] {
    let beat = Heartbeat { token: U32::new(1), ..Heartbeat::default() };
    Frame::seal(beat).as_bytes().try_into().unwrap()
}

/// Connects and subscribes. Nothing is read.
pub(super) fn subscribe(
    address: SocketAddr,
    text: &str,
    receive_buffer: Option<usize>,
) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let mut stream = TcpStream::from(socket);
    let session =
        Session { role: Role::Subscriber as u8, name: padded("crowd"), ..Session::default() };
    let (kinds, pattern) = match text.strip_prefix("trade.") {
        Some(symbol) => (Kind::Trade.mask(), symbol),
        None => (0, text),
    };
    let subscribe = Subscribe {
        source: MARKET_SOURCE,
        kinds: U16::new(kinds),
        pattern: padded(pattern),
        ..Subscribe::default()
    };
    stream.write_all(Frame::seal(session).as_bytes()).unwrap();
    stream.write_all(Frame::seal(subscribe).as_bytes()).unwrap();
    stream
}

impl Subscriber {
    pub(super) fn open(
        address: SocketAddr,
        text: &str,
        receive_buffer: Option<usize>,
    ) -> Subscriber {
        let stream = subscribe(address, text, receive_buffer);
        stream.set_nonblocking(true).unwrap();
        Subscriber {
            stream: mio::net::TcpStream::from_std(stream),
            bytes: Vec::new(),
            is_full_feed: text == "*",
            next_seq: None,
            frames: 0,
            announced: 0,
        }
    }

    /// Reads until there is nothing more, and checks it.
    fn read(&mut self) {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("closed without a word"),
                Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            self.check();
        }
    }

    fn check(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let (frames, rest) = as_frames(&bytes);
        self.bytes = rest.to_vec();
        for frame in frames {
            assert_eq!(frame.check(), Ok(()));
            self.check_frame(frame);
        }
    }

    fn check_frame(&mut self, frame: &Frame) {
        if let Some(refusal) = frame.view::<Refusal>() {
            panic!("refused: {}", unpadded(&refusal.text));
        }
        if let Some(beat) = frame.view::<Heartbeat>() {
            if beat.flags.get() & Flags::MORE != 0 {
                let answer = Heartbeat { flags: U16::new(0), next_seq: U64::new(0), ..*beat };
                // There is room for it: nothing else is sent on this connection.
                self.stream.write_all(Frame::seal(answer).as_bytes()).unwrap();
            }
            return;
        }
        if let Some(end) = frame.view::<SnapshotEnd>() {
            self.next_seq = Some(end.next_seq.get());
        }
        let Some(next_seq) = &mut self.next_seq else { return };
        if let Some(gap) = frame.view::<Gap>() {
            assert!(
                !self.is_full_feed || gap.from_seq.get() == *next_seq,
                "{gap:?}, not {next_seq}"
            );
            self.announced += gap.to_seq.get() - gap.from_seq.get() + 1;
            *next_seq = gap.to_seq.get() + 1;
        } else if frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT) {
            let seq = frame.seq.get();
            if self.is_full_feed {
                assert_eq!(seq, *next_seq, "a loss that nobody announced");
            }
            assert!(seq >= *next_seq, "{seq} behind {next_seq}");
            *next_seq = seq + 1;
            self.frames += 1;
        }
    }
}

/// The subscribers, and the one thread that reads them.
pub(super) struct Crowd {
    poll: Poll,
    pub(super) members: Vec<Subscriber>,
    /// When they next say that they live.
    beat: Deadline,
}

impl Crowd {
    pub(super) fn new() -> Crowd {
        let beat = Deadline::after(BEAT_EVERY);
        Crowd { poll: Poll::new().unwrap(), members: Vec::new(), beat }
    }

    /// Reads who has something now.
    pub(super) fn read_now(&mut self) {
        self.turn(Duration::ZERO);
    }

    fn turn(&mut self, longest: Duration) {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(longest)).unwrap();
        for event in &events {
            self.members[event.token().0].read();
        }
        if self.beat.is_over() {
            self.beat = Deadline::after(BEAT_EVERY);
            // Whoever has no room for it has something to send, which says the same.
            self.members.iter_mut().for_each(|it| drop(it.stream.write(&sign_of_life())));
        }
    }

    /// Reads whoever has something until `is_enough`.
    pub(super) fn read_until(
        &mut self,
        what: &str,
        mut is_enough: impl FnMut(&[Subscriber]) -> bool,
    ) {
        let deadline = Deadline::after(PATIENCE);
        while !is_enough(&self.members) {
            if deadline.is_over() {
                let seen: Vec<_> = self.members.iter().map(|it| (it.next_seq, it.frames)).collect();
                let without = seen.iter().filter(|it| it.0.is_none()).count();
                panic!(
                    "{what}: time is over; {without} of {} without a snapshot; the first {:?}",
                    seen.len(),
                    &seen[..8]
                );
            }
            self.turn(Duration::from_millis(200));
        }
    }

    pub(super) fn add(&mut self, mut member: Subscriber) {
        let token = Token(self.members.len());
        self.poll.registry().register(&mut member.stream, token, Interest::READABLE).unwrap();
        self.members.push(member);
    }
}

/// So many descriptors for one test, and no other test that needs thousands meanwhile: the limit is the process's.
/// `None`, with a word, where they are not allowed.
pub(super) fn descriptors(wanted: u64) -> Option<MutexGuard<'static, ()>> {
    static THOUSANDS: Mutex<()> = Mutex::new(());
    // A test that failed has closed what it had.
    let turn = THOUSANDS.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        println!("skipped: {wanted} descriptors are not allowed here");
        return None;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    Some(turn)
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_crowd_with_members_that_never_read_and_a_broker_without_descriptors() {
    let Some(_descriptors) = descriptors(SUBSCRIBERS as u64 * 2) else { return };
    let place = std::sync::Arc::new(super::system::Place::new());
    place.configure("[broker]\nring_frames = 1024\n");
    let system = System::start_at(place, &["--rate", "2000", "--chaos", "off"]);
    let address = system.place.address("broker");

    let mut crowd = Crowd::new();
    let stalled: Vec<Subscriber> =
        (0..STALLED).map(|_| Subscriber::open(address, "*", Some(4096))).collect();
    for number in 0..SUBSCRIBERS - STALLED {
        let pattern = if number < READERS { "*" } else { RARE };
        crowd.add(Subscriber::open(address, pattern, None));
        if number % 64 == 0 {
            // Whoever takes everything must not fall behind while the others come.
            crowd.read_now();
        }
    }
    crowd.read_until("everybody has a snapshot", |members| {
        members.iter().all(|it| it.next_seq.is_some())
    });
    let broker = system.pid("broker");
    let before_kib = resident_kib(broker);

    // Long enough for the ring to have passed the stalled ones many times.
    let start = crowd.members[0].next_seq.unwrap();
    crowd.read_until("the ring goes round", |members| {
        members[..READERS].iter().all(|it| it.next_seq.unwrap() > start + 8 * 1024)
    });
    let grown_kib = resident_kib(broker).saturating_sub(before_kib);
    assert!(grown_kib <= GROWTH_KIB_MAX, "the broker grew by {grown_kib} KiB");

    // The stalled ones begin to read: what they missed is announced, and then they are where all are.
    let announced_before: u64 = crowd.members[..READERS].iter().map(|it| it.announced).sum();
    let first_stalled = crowd.members.len();
    for member in stalled {
        crowd.add(member);
    }
    let now_at = crowd.members[0].next_seq.unwrap();
    crowd.read_until("the stalled ones catch up", |members| {
        members[first_stalled..].iter().all(|it| it.next_seq.is_some_and(|seq| seq > now_at))
    });
    for member in &crowd.members[first_stalled..] {
        assert!(member.announced > 0, "it cannot have got all of it");
    }
    println!(
        "{SUBSCRIBERS} subscribers, the broker grew by {grown_kib} KiB; announced to {STALLED} that \
         did not read: {}, to {READERS} that did: {announced_before}",
        crowd.members[first_stalled..].iter().map(|it| it.announced).sum::<u64>()
    );

    // No descriptors left: newcomers are turned away, and the rest is served as before.
    let pid = Pid::from_raw(broker);
    let used = fs::read_dir(format!("/proc/{broker}/fd")).unwrap().count() as u64;
    let limit = Rlimit { current: Some(used), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(pid, Resource::Nofile, limit).unwrap();
    let strangers: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect_timeout(&address, PATIENCE).unwrap()).collect();
    let now_at = crowd.members[0].next_seq.unwrap();
    crowd.read_until("the others are served", |members| {
        members[..READERS].iter().all(|it| it.next_seq.unwrap() > now_at + 1024)
    });
    drop(strangers);
    prlimit(pid, Resource::Nofile, before).unwrap();
    let newcomer = crowd.members.len();
    crowd.add(Subscriber::open(address, "*", None));
    crowd.read_until("a newcomer is served again", |members| members[newcomer].frames > 0);
    assert_eq!(system.pids("broker").len(), 1, "the broker has been restarted");
}
