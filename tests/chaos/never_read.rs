//! Ten thousand subscribers that take everything and never read, beside a few that read: these lose nothing that they are
//! not told of, who comes later is let in, what the kernel holds for the silent ones is bounded, and after their time they
//! are closed and it is free again.
//!
//! What is bounded is what the broker's end of a connection holds, with the buffers that the broker has by default. The
//! other end is the subscriber's own affair, and small here: both are on this machine.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pregao::client::QueryClient;
use pregao::wire::{Op, Query, Refusal, as_frames};

use super::crowd::{BEAT_EVERY, Crowd, Subscriber, descriptors, sign_of_life, subscribe};
use super::process::{Deadline, PATIENCE};
use super::system::{Place, System};

const SILENT: usize = 10_000;
const READERS: usize = 20;
const RECEIVE_BUFFER: usize = 4 * 1024;
/// Bytes that the broker's end may hold for one that does not read: the send buffer of the configuration.
const HELD_OF_ONE: u64 = 64 * 1024;
/// By how much the TCP memory of the whole machine may rise. Both ends are in it and what the kernel needs around the
/// bytes, and twice that, because another such test may run. As many held 1.7 GiB once.
const MACHINE_BYTES_MAX: u64 = 3 << 29;

/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Memory of all TCP sockets of the machine, with what the kernel needs around the bytes.
fn machine_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap();
    let pages = line.split_once(" mem ").unwrap().1.split_whitespace().next().unwrap();
    pages.parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

#[allow(clippy::host_endian_bytes, reason = "the kernel prints the address in host order")]
fn native(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// Bytes that wait in the sockets of a node.
fn waiting_bytes(node: SocketAddr) -> u64 {
    let IpAddr::V4(ip) = node.ip() else { panic!("{node}") };
    let name = format!("{:08X}:{:04X}", native(ip), node.port());
    let of_line = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let is_here = columns.next()? == name;
        let (unsent, unread) = columns.nth(2)?.split_once(':')?;
        let bytes = |hex| u64::from_str_radix(hex, 16).ok();
        is_here.then_some(bytes(unsent)? + bytes(unread)?)
    };
    fs::read_to_string("/proc/net/tcp").unwrap().lines().filter_map(of_line).sum()
}

/// Figures of the broker, asked as often as a wait looks.
struct Watched {
    broker: SocketAddr,
    client: QueryClient,
    machine_before: u64,
    waiting_max: u64,
    machine_max: u64,
}

impl Watched {
    fn new(broker: SocketAddr) -> Watched {
        let client = QueryClient::open("broker", broker, PATIENCE).unwrap();
        Watched { broker, client, machine_before: machine_bytes(), waiting_max: 0, machine_max: 0 }
    }

    fn look(&mut self) {
        self.waiting_max = self.waiting_max.max(waiting_bytes(self.broker));
        self.machine_max = self.machine_max.max(machine_bytes());
    }

    fn metric(&mut self, name: &str) -> i64 {
        let query = Query { op: Op::Status as u8, ..Query::default() };
        let answer = self.client.ask(&[query], PATIENCE).unwrap().remove(0);
        answer.metrics.iter().find(|(known, _)| known == name).unwrap().1
    }
}

/// Waits until a connection is over; what it was told, if anything.
fn end_of(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is not over: {error}");
    }
    let mut refusals = as_frames(&bytes).0.iter().filter_map(|frame| frame.view::<Refusal>());
    refusals
        .next_back()
        .map(|it| String::from_utf8_lossy(&it.text).trim_end_matches('\0').to_owned())
}

#[test]
fn ten_thousand_that_never_read_shut_nobody_out_and_hold_no_memory_for_long() {
    let Some(_descriptors) = descriptors(SILENT as u64 + 1_000) else { return };
    let place = Arc::new(Place::new());
    place.configure(&format!(
        "[broker]\nring_frames = 4096\nunread_max = \"6s\"\nsubscribers_max = {}\n",
        SILENT + 1_000
    ));
    let system = System::start_at(place, &["--rate", "1000", "--chaos", "off"]);
    let address = system.place.address("broker");
    let mut watched = Watched::new(address);
    let mut crowd = Crowd::new();
    for _ in 0..READERS {
        crowd.add(Subscriber::open(address, "*", None));
    }
    crowd.read_until("a snapshot", |members| members.iter().all(|it| it.next_seq.is_some()));
    let start = crowd.members[0].next_seq.unwrap();

    let mut silent: Vec<TcpStream> = Vec::new();
    while silent.len() < SILENT {
        silent.push(subscribe(address, "*", Some(RECEIVE_BUFFER)));
        if silent.len().is_multiple_of(64) {
            crowd.read_now();
        }
    }
    crowd.read_until("all are in", |_| watched.metric("subscribers") >= (SILENT + READERS) as i64);
    let newcomer = crowd.members.len();
    crowd.add(Subscriber::open(address, "*", None));
    crowd.read_until("a newcomer is served", |members| members[newcomer].frames > 0);

    let (mut looked, mut beat) = (Deadline::after(Duration::ZERO), Deadline::after(Duration::ZERO));
    crowd.read_until("all that never read are closed", |_| {
        if !looked.is_over() {
            return false;
        }
        looked = Deadline::after(LOOK_EVERY);
        watched.look();
        let closed = watched.metric("unread_closed");
        // They live, and only do not read. Whoever writes to a closed one has it freed, so nobody does.
        if closed == 0 && beat.is_over() {
            beat = Deadline::after(BEAT_EVERY);
            silent.iter_mut().for_each(|it| drop(it.write(&sign_of_life())));
        }
        closed >= SILENT as i64
    });
    system.wait_log("broker", "closed a connection: you read nothing for too long");
    // Their sockets are gone a second later, with all that was in them.
    let (mut left, of_readers) = (0, crowd.members.len() as u64 * HELD_OF_ONE);
    crowd.read_until("nothing waits any more", |_| {
        left = waiting_bytes(address);
        left < of_readers
    });
    // The gateway is one too.
    assert_eq!(watched.metric("subscribers"), (READERS + 2) as i64);
    let told = silent.iter_mut().filter_map(end_of).inspect(|why| {
        assert_eq!(why, "you read nothing for too long");
    });
    let told = told.count();
    drop(silent);

    // Whoever read is where the market is, and was told of all that it did not get.
    let now_at = crowd.members[0].next_seq.unwrap();
    crowd.read_until("the readers go on", |members| {
        members.iter().all(|it| it.next_seq.unwrap() > now_at + 1_000)
    });
    assert_eq!(watched.metric("unread_closed"), SILENT as i64, "a reader was closed too");
    assert!(
        watched.waiting_max <= SILENT as u64 * HELD_OF_ONE + of_readers,
        "{} bytes waited",
        watched.waiting_max
    );
    let machine = watched.machine_max.saturating_sub(watched.machine_before);
    assert!(machine <= MACHINE_BYTES_MAX, "TCP memory rose by {} MiB", machine >> 20);
    assert!(watched.waiting_max > SILENT as u64 * HELD_OF_ONE / 16, "they were not full");
    assert_eq!(system.pids("broker").len(), 1, "the broker has been restarted");
    let announced: u64 = crowd.members.iter().map(|it| it.announced).sum();
    println!(
        "{SILENT} that never read: at most {} MiB waited, TCP memory rose by {} MiB at most, {left} bytes \
         were left, {told} could still be told why; {READERS} readers got {} frames each and were told of \
         {announced} that they did not get",
        watched.waiting_max >> 20,
        machine >> 20,
        crowd.members[0].next_seq.unwrap() - start,
    );
}
