//! The simulator: hosts with one node each, one virtual clock, one thread, one seed. Time jumps to the
//! next event. Every host goes through the reactor's turn (`src/reactor/mod.rs`), in its order.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use zerocopy::IntoBytes;

use pregao::log::memory::{MemoryDisk, PageFate};
use pregao::node::{Action, CloseReason, ConnId, DialFailure, DialId, Node, Origin};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{Ack, Frame, as_frames};

use crate::asker::Asker;
use crate::client::Client;
use crate::hosts::{AnyNode, Spec};
use crate::net::{End, EndState, GRAIN_NS, Tcp};

/// When every simulation begins, nanoseconds since the Unix epoch.
const WALL_START_NS: u64 = 1_700_000_000_000_000_000;
/// Turns with nothing done and a deadline that has passed already: more of them in a row is a node
/// that burns its processor.
const IDLE_TURNS_MAX: u32 = 50;
/// Pages of the simulated disks: small, so that a crash has many to tear.
const PAGE_BYTES: usize = 512;

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Resets one connection of this host, whichever chance picks.
    Cut(usize),
    /// The process dies and starts again so many nanoseconds later.
    Kill(usize, u64),
    /// The same with the power.
    PowerLoss(usize, u64),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Wake(usize, u32),
    Storage(usize, u32),
    Arrive(u64, usize),
    Writable(u64, usize),
    Syn(u64, usize, u32, DialId, SocketAddr),
    Fault(Fault),
    Start(usize),
}

/// A host.
pub(crate) struct Host {
    pub(crate) name: String,
    address: SocketAddr,
    pub(crate) spec: Spec,
    pub(crate) disk: Option<MemoryDisk>,
    node: Option<AnyNode>,
    incarnation: u32,
    next_generation: u32,
    conns: BTreeMap<ConnId, (u64, usize)>,
    opens: Vec<(ConnId, Origin)>,
    dial_failures: Vec<(DialId, DialFailure)>,
    readable: VecDeque<ConnId>,
    writable: VecDeque<ConnId>,
    storage_is_due: bool,
    storage_is_planned: bool,
    wake_at: Option<u64>,
    idle_turns: u32,
    pub(crate) log: Vec<String>,
}

/// Everything.
pub(crate) struct World {
    now_ns: u64,
    /// Added to the wall clock that nodes see.
    pub(crate) wall_skew_ns: i64,
    pub(crate) random: Random,
    pub(crate) hosts: Vec<Host>,
    tcps: BTreeMap<u64, Tcp>,
    next_tcp: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_order: u64,
    hash: u64,
    /// What a direction of a connection holds at most.
    pub(crate) buffer_bytes_max: u64,
    /// The highest durable seq that each host has acknowledged and core has read.
    pub(crate) durable_told: BTreeMap<usize, u64>,
    pub(crate) turns: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            now_ns: GRAIN_NS,
            wall_skew_ns: 0,
            random: Random::new(seed),
            hosts: Vec::new(),
            tcps: BTreeMap::new(),
            next_tcp: 1,
            events: BTreeMap::new(),
            next_order: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            buffer_bytes_max: 16 * 1024,
            durable_told: BTreeMap::new(),
            turns: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall_ns = WALL_START_NS.wrapping_add(self.now_ns);
        Now { mono: Mono(self.now_ns), wall_ns: wall_ns.wrapping_add_signed(self.wall_skew_ns) }
    }

    /// What happened so far, as a number.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// FNV-1a over what happens, in its order.
    fn note(&mut self, host: usize, what: &str, bytes: &[u8]) {
        let time = self.now_ns.to_le_bytes();
        for &byte in time.iter().chain(&[host as u8]).chain(what.as_bytes()).chain(bytes) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    /// Adds a host; its node starts at once.
    pub(crate) fn add(&mut self, name: &str, address: SocketAddr, spec: Spec) -> usize {
        let disk = spec.has_disk().then(|| MemoryDisk::new(PAGE_BYTES));
        self.hosts.push(Host {
            name: name.to_owned(),
            address,
            spec,
            disk,
            node: None,
            incarnation: 0,
            next_generation: 1,
            conns: BTreeMap::new(),
            opens: Vec::new(),
            dial_failures: Vec::new(),
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            storage_is_due: false,
            storage_is_planned: false,
            wake_at: None,
            idle_turns: 0,
            log: Vec::new(),
        });
        let host = self.hosts.len() - 1;
        self.start(host);
        host
    }

    fn plan(&mut self, at: u64, event: Event) {
        let at = at.max(self.now_ns + 1).next_multiple_of(GRAIN_NS);
        self.events.insert((at, self.next_order), event);
        self.next_order += 1;
    }

    pub(crate) fn plan_fault(&mut self, at_ns: u64, fault: Fault) {
        self.plan(at_ns, Event::Fault(fault));
    }

    fn wake(&mut self, host: usize, at: u64) {
        let at = at.max(self.now_ns + 1).next_multiple_of(GRAIN_NS);
        let known = &mut self.hosts[host];
        if known.wake_at.is_none_or(|planned| planned > at) {
            known.wake_at = Some(at);
            let incarnation = known.incarnation;
            self.plan(at, Event::Wake(host, incarnation));
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].node.is_some() {
            return;
        }
        let now = self.now();
        self.note(host, "start", &[]);
        let known = &mut self.hosts[host];
        let node = known.spec.start(known.disk.as_ref(), now);
        if let Some(disk) = &known.disk {
            disk.hold_jobs(true);
        }
        known.node = Some(node);
        known.log.push(format!("{} ---- start", self.now_ns));
        self.wake(host, self.now_ns);
    }

    /// Ends a host's process. `is_power` decides what its disk keeps.
    fn end(&mut self, host: usize, is_power: bool) {
        let Some(node) = self.hosts[host].node.take() else { return };
        self.note(host, if is_power { "power" } else { "kill" }, &[]);
        if let Some(disk) = self.hosts[host].disk.take() {
            let random = &mut self.random;
            let jobs_done = usize::try_from(random.below(disk.jobs() as u64 + 1)).unwrap();
            let left = if is_power {
                let mood = random.below(3);
                disk.crash(jobs_done, |_, _| match (mood, random.below(4)) {
                    (0, _) | (2, 0) => PageFate::Old,
                    (1, _) | (2, 1) => PageFate::New,
                    (_, 2) => PageFate::TornFront,
                    _ => PageFate::TornBack,
                })
            } else if random.below(2) == 0 {
                disk.kill()
            } else {
                drop(node);
                disk.kill()
            };
            self.hosts[host].disk = Some(left);
        }
        let known = &mut self.hosts[host];
        known.log.push(format!("{} ---- end", self.now_ns));
        known.incarnation += 1;
        known.opens.clear();
        known.dial_failures.clear();
        known.readable.clear();
        known.writable.clear();
        known.storage_is_due = false;
        known.storage_is_planned = false;
        known.wake_at = None;
        known.idle_turns = 0;
        for (tcp, side) in std::mem::take(&mut known.conns).into_values() {
            let breaks = is_power || self.random.below(2) == 0;
            self.close_end(tcp, side, breaks);
        }
    }

    /// One side is done with a connection: the other is told behind the bytes, or by a reset.
    fn close_end(&mut self, number: u64, side: usize, breaks: bool) {
        let Some(tcp) = self.tcps.get_mut(&number) else { return };
        tcp.ends[side].state = EndState::Closed;
        let other = &mut tcp.ends[1 - side];
        if other.state == EndState::Closed {
            self.tcps.remove(&number);
            return;
        }
        let at = if breaks {
            other.reset(self.now_ns, &mut self.random)
        } else {
            other.finish(self.now_ns, &mut self.random)
        };
        self.plan(at, Event::Arrive(number, 1 - side));
    }

    fn cut(&mut self, host: usize) {
        let conns: Vec<u64> = self.hosts[host].conns.values().map(|&(tcp, _)| tcp).collect();
        if conns.is_empty() {
            return;
        }
        let number = conns[usize::try_from(self.random.below(conns.len() as u64)).unwrap()];
        self.note(host, "cut", &[]);
        for side in 0..2 {
            let Some(tcp) = self.tcps.get_mut(&number) else { return };
            if tcp.ends[side].state != EndState::Closed {
                let at = tcp.ends[side].reset(self.now_ns, &mut self.random);
                self.plan(at, Event::Arrive(number, side));
            }
        }
    }

    /// Runs until this time.
    pub(crate) fn run_until(&mut self, until_ns: u64) {
        while let Some((&(at, _), _)) = self.events.first_key_value() {
            if at > until_ns {
                break;
            }
            self.now_ns = at;
            let mut due = Vec::new();
            while let Some(entry) = self.events.first_entry() {
                if entry.key().0 > at {
                    break;
                }
                let event = entry.remove();
                if let Some(host) = self.apply(event)
                    && !due.contains(&host)
                {
                    due.push(host);
                }
            }
            while !due.is_empty() {
                let pick = usize::try_from(self.random.below(due.len() as u64)).unwrap();
                let host = due.swap_remove(pick);
                self.turn(host);
            }
        }
        self.now_ns = until_ns;
    }

    /// Takes in one event; the host that has to turn because of it.
    fn apply(&mut self, event: Event) -> Option<usize> {
        match event {
            Event::Wake(host, incarnation) => {
                let known = &mut self.hosts[host];
                let is_due = known.incarnation == incarnation && known.wake_at == Some(self.now_ns);
                known.wake_at = known.wake_at.filter(|_| !is_due);
                is_due.then_some(host)
            }
            Event::Storage(host, incarnation) => {
                let known = &mut self.hosts[host];
                let is_known = known.incarnation == incarnation;
                known.storage_is_due |= is_known;
                known.storage_is_planned &= !is_known;
                is_known.then_some(host)
            }
            Event::Arrive(number, side) => {
                let end = &mut self.tcps.get_mut(&number)?.ends[side];
                end.arrive(self.now_ns);
                if end.state == EndState::Closed {
                    end.received.clear();
                    return None;
                }
                let (host, conn) = (end.host, end.conn);
                if !std::mem::replace(&mut end.is_ready, true) {
                    self.hosts[host].readable.push_back(conn);
                }
                Some(host)
            }
            Event::Writable(number, side) => {
                let end = &mut self.tcps.get_mut(&number)?.ends[side];
                end.is_blocked = false;
                let (host, conn) = (end.host, end.conn);
                self.hosts[host].writable.push_back(conn);
                Some(host)
            }
            Event::Syn(number, from, incarnation, dial, to) => {
                if self.hosts[from].incarnation != incarnation {
                    return None;
                }
                let target = self.hosts.iter().position(|h| h.address == to && h.node.is_some());
                let Some(target) = target else {
                    self.hosts[from].dial_failures.push((dial, DialFailure::Refused));
                    return Some(from);
                };
                let mut ends = [(from, Origin::Dialed(dial)), (target, Origin::Accepted)]
                    .map(|(host, origin)| (host, self.new_conn(host, origin)));
                let ends = ends.each_mut().map(|&mut (host, conn)| End::new(host, conn));
                for (side, end) in ends.iter().enumerate() {
                    self.hosts[end.host].conns.insert(end.conn, (number, side));
                }
                let buffer_bytes = self.random.between(512, self.buffer_bytes_max);
                let buffer_bytes = usize::try_from(buffer_bytes).unwrap();
                self.tcps.insert(number, Tcp { ends, buffer_bytes });
                self.wake(target, self.now_ns + GRAIN_NS);
                Some(from)
            }
            Event::Fault(fault) => {
                match fault {
                    Fault::Cut(host) => self.cut(host),
                    Fault::Kill(host, down_ns) => {
                        self.end(host, false);
                        self.plan(self.now_ns + down_ns, Event::Start(host));
                    }
                    Fault::PowerLoss(host, down_ns) => {
                        self.end(host, true);
                        self.plan(self.now_ns + down_ns, Event::Start(host));
                    }
                }
                None
            }
            Event::Start(host) => {
                self.start(host);
                None
            }
        }
    }

    fn new_conn(&mut self, host: usize, origin: Origin) -> ConnId {
        let known = &mut self.hosts[host];
        let slot = (0..).find(|&slot| known.conns.keys().all(|conn| conn.slot != slot)).unwrap();
        let conn = ConnId { generation: known.next_generation, slot };
        known.next_generation += 1;
        known.opens.push((conn, origin));
        conn
    }

    /// One turn of a host, in the reactor's order.
    fn turn(&mut self, host: usize) {
        let Some(mut node) = self.hosts[host].node.take() else { return };
        let now = self.now();
        self.turns += 1;
        let known = &mut self.hosts[host];
        let mut is_busy = std::mem::take(&mut known.storage_is_due);
        if let Some(disk) = known.disk.as_ref().filter(|_| is_busy) {
            disk.hold_jobs(false);
        }
        node.handle_storage(now);
        if let Some(disk) = &known.disk {
            disk.hold_jobs(true);
        }
        for (conn, origin) in std::mem::take(&mut known.opens) {
            is_busy = true;
            if let Some(&(number, side)) = known.conns.get(&conn) {
                self.tcps.get_mut(&number).unwrap().ends[side].state = EndState::Open;
            }
            node.handle_open(now, conn, origin);
        }
        for (dial, failure) in std::mem::take(&mut known.dial_failures) {
            is_busy = true;
            node.handle_dial_failed(now, dial, failure);
        }
        is_busy |= self.read(host, &mut node, now);
        node.handle_timers(now);
        node.commit(now);
        is_busy |= self.flush(host, &mut node, now);
        is_busy |= self.act(host, &mut node, now);
        self.plan_next(host, &node, is_busy);
        self.hosts[host].node = Some(node);
    }

    fn plan_next(&mut self, host: usize, node: &AnyNode, is_busy: bool) {
        let known = &mut self.hosts[host];
        assert_eq!(node.failure(), None, "{} cannot go on", known.name);
        let deadline = node.next_deadline().map(|at| at.0);
        let has_passed = deadline.is_some_and(|at| at <= self.now_ns);
        known.idle_turns = if has_passed && !is_busy { known.idle_turns + 1 } else { 0 };
        let spins = known.idle_turns > IDLE_TURNS_MAX;
        assert!(!spins, "{} spins at {}: {:#?}", known.name, self.now_ns, known.log);
        let jobs = known.disk.as_ref().map_or(0, MemoryDisk::jobs);
        if jobs > 0 && !known.storage_is_planned {
            known.storage_is_planned = true;
            let incarnation = known.incarnation;
            let wait_us = match self.random.below(20) {
                0 => self.random.between(10_000, 200_000),
                _ => self.random.between(100, 5_000),
            };
            self.plan(self.now_ns + wait_us * 1_000, Event::Storage(host, incarnation));
        }
        let known = &self.hosts[host];
        let can_read = known.readable.iter().any(|&conn| node.wants_frames(conn));
        if can_read || !known.writable.is_empty() || !known.opens.is_empty() {
            self.wake(host, self.now_ns);
        } else if let Some(at) = deadline {
            self.wake(host, at);
        }
    }

    fn read(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        for _ in 0..self.hosts[host].readable.len() {
            let Some(conn) = self.hosts[host].readable.pop_front() else { break };
            let Some(&(number, side)) = self.hosts[host].conns.get(&conn) else { continue };
            if !node.wants_frames(conn) {
                self.hosts[host].readable.push_back(conn);
                continue;
            }
            is_busy = true;
            let tcp = self.tcps.get_mut(&number).unwrap();
            let end = &mut tcp.ends[side];
            let bound = match self.random.below(8) {
                0 => usize::try_from(self.random.between(1, 200)).unwrap(),
                _ => usize::MAX,
            };
            let taken = end.received.len().min(bound);
            let mut bytes = std::mem::take(&mut end.carry);
            bytes.extend(end.received.drain(..taken));
            let (frames, rest) = as_frames(&bytes);
            end.carry = rest.to_vec();
            let ended = end.has_ended(now.mono.0);
            end.is_ready = !end.received.is_empty();
            if end.is_ready {
                self.hosts[host].readable.push_back(conn);
            }
            let is_mid_frame = !end.carry.is_empty();
            let writer = &mut tcp.ends[1 - side];
            let writer_host = writer.host;
            if taken > 0 && writer.is_blocked && writer.state == EndState::Open {
                let at = self.now_ns + GRAIN_NS * self.random.between(1, 10);
                self.plan(at, Event::Writable(number, 1 - side));
            }
            if taken > 0 {
                self.note(host, "read", &bytes);
            }
            if !frames.is_empty() {
                self.watch(host, writer_host, frames);
                node.handle_frames(now, conn, frames);
            }
            if let Some(is_reset) = ended {
                self.hosts[host].conns.remove(&conn);
                self.close_end(number, side, false);
                let reason = match (is_reset, is_mid_frame) {
                    (true, _) => CloseReason::Reset,
                    (false, true) => CloseReason::MidFrame,
                    (false, false) => CloseReason::PeerClosed,
                };
                node.handle_close(now, conn, reason);
            }
        }
        is_busy
    }

    /// What must hold of every frame on every wire.
    fn watch(&mut self, host: usize, from: usize, frames: &[Frame]) {
        let is_core = matches!(self.hosts[host].spec, Spec::Core(..));
        // The exchange may send garbage, which may look like anything.
        let frames = frames.iter().filter(|frame| is_core && frame.check().is_ok());
        for ack in frames.filter_map(Frame::view::<Ack>) {
            let (accepted, durable) = (ack.accepted_seq.get(), ack.durable_seq.get());
            assert!(durable <= accepted, "{} acknowledges {ack:?}", self.hosts[from].name);
            self.durable_told.insert(from, durable);
        }
    }

    fn flush(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        for _ in 0..self.hosts[host].writable.len() {
            let Some(conn) = self.hosts[host].writable.pop_front() else { break };
            is_busy |= self.flush_one(host, node, now, conn);
        }
        while let Some(conn) = node.poll_dirty() {
            is_busy |= self.flush_one(host, node, now, conn);
        }
        is_busy
    }

    fn flush_one(&mut self, host: usize, node: &mut AnyNode, now: Now, conn: ConnId) -> bool {
        let Some(&(number, side)) = self.hosts[host].conns.get(&conn) else { return false };
        let mut is_busy = false;
        loop {
            let tcp = self.tcps.get_mut(&number).unwrap();
            if tcp.ends[side].state != EndState::Open || tcp.ends[side].is_blocked {
                return is_busy;
            }
            let outgoing = node.outgoing(now, conn);
            if outgoing.is_empty() {
                return is_busy;
            }
            let offered = outgoing.len();
            let mut bytes = outgoing.head.to_vec();
            bytes.extend_from_slice(outgoing.tail);
            let (taken, arrivals) = tcp.write(side, &bytes, self.now_ns, &mut self.random);
            tcp.ends[side].is_blocked = taken < offered;
            for at in arrivals {
                self.plan(at, Event::Arrive(number, 1 - side));
            }
            if taken > 0 {
                is_busy = true;
                node.handle_sent(now, conn, taken);
            }
        }
    }

    fn act(&mut self, host: usize, node: &mut AnyNode, now: Now) -> bool {
        let mut is_busy = false;
        while let Some(action) = node.poll_action() {
            is_busy = true;
            match action {
                Action::Dial { dial, to, .. } => {
                    let at = self.now_ns + GRAIN_NS * self.random.between(1, 50);
                    let incarnation = self.hosts[host].incarnation;
                    self.plan(at, Event::Syn(self.next_tcp, host, incarnation, dial, to));
                    self.next_tcp += 1;
                }
                Action::Close(conn) => {
                    self.flush_one(host, node, now, conn);
                    if let Some((number, side)) = self.hosts[host].conns.remove(&conn) {
                        self.close_end(number, side, false);
                        node.handle_close(now, conn, CloseReason::Ours);
                    }
                }
                Action::HandOver { .. } => unreachable!("every node here has one reactor"),
                Action::Log(level, text) => {
                    self.note(host, "log", text.as_bytes());
                    self.hosts[host].log.push(format!("{} {level:?} {text}", self.now_ns));
                }
            }
        }
        is_busy
    }

    pub(crate) fn client(&self, host: usize) -> &Client {
        match &self.hosts[host].node {
            Some(AnyNode::Client(client)) => client,
            _ => panic!("no client on this host"),
        }
    }

    pub(crate) fn asker(&self, host: usize) -> &Asker {
        match &self.hosts[host].node {
            Some(AnyNode::Asker(asker)) => asker,
            _ => panic!("no asker on this host"),
        }
    }

    /// Asks, and runs until the answer is there; at most five seconds.
    pub(crate) fn ask(&mut self, host: usize, query: pregao::wire::Query) -> &Asker {
        let until_ns = self.now_ns + 5_000_000_000;
        loop {
            let Some(AnyNode::Asker(asker)) = &mut self.hosts[host].node else {
                panic!("no asker")
            };
            if asker.ask(query).is_some() {
                break;
            }
            assert!(self.now_ns < until_ns, "the asker found nobody");
            self.run_until(self.now_ns + 1_000_000);
        }
        self.wake(host, self.now_ns);
        while !self.asker(host).is_done() {
            assert!(self.now_ns < until_ns, "no answer to {query:?}");
            self.run_until(self.now_ns + 1_000_000);
        }
        self.asker(host)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The last lines of every host, for a failing test.
    pub(crate) fn tell(&self) -> String {
        let tail = |host: &Host| {
            let skip = host.log.len().saturating_sub(25);
            let lines = host.log[skip..].join("\n    ");
            format!("{}:\n    {lines}\n", host.name)
        };
        self.hosts.iter().map(tail).collect()
    }
}

/// The bytes of frames, for comparing without their delivery flags.
pub(crate) fn plain(frame: &Frame) -> Frame {
    let mut plain = *frame;
    plain.flags = (frame.flags.get() & !pregao::wire::Flags::DELIVERY).into();
    plain.renew_crc();
    debug_assert_eq!(plain.as_bytes().len(), 64);
    plain
}
