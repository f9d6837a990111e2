//! The world: hosts with one node each, one virtual clock, one thread, one seed. Time jumps to the
//! next event. Not here: what a turn of a host is (`turn`), what goes wrong (`faults`), and what must
//! hold (`watch`, `check`).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use pregao::breaker::LocalFault;
use pregao::log::memory::MemoryDisk;
use pregao::node::{ConnId, DialFailure, DialId};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::turn::{Dialed, Turn};

use crate::asker::Asker;
use crate::counts::Counts;
use crate::delivered::Delivered;
use crate::faults::Fault;
use crate::hosts::{AnyNode, Spec};
use crate::net::{EndState, GRAIN_NS, Tcp, Weather};
use crate::reactors::Reactors;
use crate::system::Machine;
use crate::watch::Watch;

/// Pages of the simulated disks: small, so that a crash has many to tear.
const PAGE_BYTES: usize = 512;
/// How long a process that failed, or that cannot start, waits for its next start.
pub(crate) const RESTART_NS: u64 = 200_000_000;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Wake(usize, u32),
    Storage(usize, u32),
    Arrive(u64, usize),
    Writable(u64, usize),
    Syn(u64, usize, u32, DialId, SocketAddr),
    DialFailed(usize, u32, DialId, DialFailure),
    Accept(u64, usize, u32),
    Fault(Fault),
    Start(usize),
    Space(usize),
}

/// A host.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) spec: Spec,
    pub(crate) disk: Option<MemoryDisk>,
    pub(crate) node: Option<AnyNode>,
    /// The power is gone, not only the process: a dial meets silence.
    pub(crate) is_dark: bool,
    pub(crate) incarnation: u32,
    pub(crate) next_generation: u32,
    pub(crate) conns: BTreeMap<ConnId, (u64, usize)>,
    /// The last connection that had each slot, and is gone.
    pub(crate) used_slots: BTreeMap<u32, ConnId>,
    /// Dials that have ended, of which the node has not heard.
    pub(crate) dialed: VecDeque<Dialed>,
    pub(crate) turn: Turn,
    /// Waiting to be accepted, with their side.
    pub(crate) backlog: VecDeque<(u64, usize)>,
    pub(crate) readable: VecDeque<ConnId>,
    pub(crate) writable: VecDeque<ConnId>,
    pub(crate) storage_is_due: bool,
    pub(crate) storage_is_planned: bool,
    pub(crate) frozen_until: u64,
    pub(crate) last_thaw: u64,
    pub(crate) machine: Machine,
    pub(crate) wake_at: Option<u64>,
    pub(crate) idle_turns: u32,
    /// Its place among the reactors of its process.
    pub(crate) reactors: Reactors,
    /// Frames whose record rotted, by `seq`.
    pub(crate) rotten: BTreeMap<u64, pregao::wire::Frame>,
    /// Its disk was replaced with an empty one.
    pub(crate) is_replaced: bool,
    pub(crate) log: Vec<String>,
    /// What its disk does.
    pub(crate) random: Random,
}

/// One stream of random numbers for each concern: more of one changes nothing of another.
pub(crate) struct Streams {
    /// The order of hosts that turn at the same instant.
    pub(crate) order: Random,
    /// Forked for each host.
    disk: Random,
    pub(crate) faults: Random,
    /// Forked for each connection.
    pub(crate) net: Random,
}

impl Streams {
    fn new(seed: u64) -> Streams {
        let root = Random::new(seed);
        let [order, disk, faults, net] = [1, 2, 3, 4].map(|stream| root.fork(stream));
        Streams { order, disk, faults, net }
    }
}

/// Everything.
pub(crate) struct World {
    now_ns: u64,
    /// Added to the wall clock that nodes see.
    pub(crate) wall_skew_ns: i64,
    pub(crate) streams: Streams,
    pub(crate) weather: Weather,
    pub(crate) hosts: Vec<Host>,
    pub(crate) tcps: BTreeMap<u64, Tcp>,
    /// Pairs of hosts between which nothing passes, and until when.
    pub(crate) parted: Vec<(usize, usize, u64)>,
    /// Dials so far between two hosts.
    dials: BTreeMap<(usize, usize), u64>,
    next_tcp: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_order: u64,
    hash: u64,
    pub(crate) watch: Watch,
    pub(crate) turns: u64,
    /// The bounds of every host's turns.
    pub(crate) bounds: crate::work::WorkBounds,
    pub(crate) counts: Counts,
    /// Print what happens.
    pub(crate) is_traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, bounds: crate::work::WorkBounds) -> World {
        World {
            now_ns: GRAIN_NS,
            wall_skew_ns: 0,
            streams: Streams::new(seed),
            weather: Weather::FAIR,
            hosts: Vec::new(),
            tcps: BTreeMap::new(),
            parted: Vec::new(),
            dials: BTreeMap::new(),
            next_tcp: 1,
            events: BTreeMap::new(),
            next_order: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            watch: Watch::default(),
            turns: 0,
            bounds,
            counts: Counts::default(),
            is_traced: false,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall_ns = self.true_wall_ns().wrapping_add_signed(self.wall_skew_ns);
        Now { mono: Mono(self.now_ns), wall_ns }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What happened so far, as a number.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Mixes in what happens, in its order: eight bytes at a time, by FNV-1a's step.
    pub(crate) fn note(&mut self, host: usize, what: &str, bytes: &[u8]) {
        let mut mix = |word: u64| {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        };
        mix(self.now_ns);
        mix(host as u64);
        for chunk in what.as_bytes().chunks(8).chain(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(u64::from_le_bytes(word) ^ chunk.len() as u64);
        }
    }

    pub(crate) fn trace(&self, text: &str) {
        if self.is_traced {
            println!("{:>14} {text}", self.now_ns);
        }
    }

    /// A line of a host's log.
    pub(crate) fn log(&mut self, host: usize, text: &str) {
        let line = format!("{} {text}", self.now_ns);
        if self.is_traced {
            println!("{:>14} {}: {text}", self.now_ns, self.hosts[host].name);
        }
        self.hosts[host].log.push(line);
    }

    /// Adds a host; its node starts at once.
    pub(crate) fn add(&mut self, name: &str, address: SocketAddr, spec: Spec) -> usize {
        let further = if let Spec::Broker(_, further) = spec { further } else { 0 };
        let host = self.put(name, address, spec);
        for number in 1..=further {
            let reactor =
                self.put(&format!("{name}/{number}"), crate::road::address(1), Spec::Fanout);
            self.join(host, reactor);
        }
        self.start(host);
        host
    }

    fn put(&mut self, name: &str, address: SocketAddr, spec: Spec) -> usize {
        let disk = spec.has_disk().then(|| MemoryDisk::new(PAGE_BYTES));
        self.hosts.push(Host {
            name: name.to_owned(),
            address,
            spec,
            disk,
            node: None,
            is_dark: false,
            incarnation: 0,
            next_generation: 1,
            conns: BTreeMap::new(),
            used_slots: BTreeMap::new(),
            dialed: VecDeque::new(),
            turn: Turn::new(self.bounds.turn),
            backlog: VecDeque::new(),
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            storage_is_due: false,
            storage_is_planned: false,
            frozen_until: 0,
            last_thaw: 0,
            machine: Machine::default(),
            wake_at: None,
            idle_turns: 0,
            reactors: Reactors::alone(self.hosts.len()),
            rotten: BTreeMap::new(),
            is_replaced: false,
            log: Vec::new(),
            random: self.streams.disk.fork(self.hosts.len() as u64),
        });
        self.hosts.len() - 1
    }

    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        let at = at.max(self.now_ns + 1).next_multiple_of(GRAIN_NS);
        self.events.insert((at, self.next_order), event);
        self.next_order += 1;
    }

    pub(crate) fn wake(&mut self, host: usize, at: u64) {
        let at = at.max(self.now_ns + 1).next_multiple_of(GRAIN_NS);
        let known = &mut self.hosts[host];
        if known.wake_at.is_none_or(|planned| planned > at) {
            known.wake_at = Some(at);
            let incarnation = known.incarnation;
            self.plan(at, Event::Wake(host, incarnation));
        }
    }

    fn start(&mut self, host: usize) {
        // Further reactors start with the first one.
        if self.hosts[host].node.is_some() || self.hosts[host].reactors.first != host {
            return;
        }
        let now = self.now();
        self.note(host, "start", &[]);
        let known = &mut self.hosts[host];
        if let Some(disk) = &known.disk {
            disk.pause_jobs(false);
        }
        match known.spec.start(known.disk.as_ref(), now) {
            Ok((node, fanouts)) => {
                known.node = Some(self.bounds.of(node));
                self.start_further(host, fanouts);
            }
            Err(error) => {
                // As the supervisor does: again, later.
                self.log(host, &format!("---- cannot start: {error}"));
                self.plan(self.now_ns + RESTART_NS, Event::Start(host));
                return;
            }
        }
        let known = &mut self.hosts[host];
        known.is_dark = false;
        if let Some(disk) = &known.disk {
            disk.pause_jobs(true);
        }
        self.log(host, "---- start");
        self.members(host).into_iter().for_each(|member| self.reset_retransmitted(member));
        self.watch_start(host);
        self.wake(host, self.now_ns);
    }

    /// A machine that is back knows nothing of its old connections: who has bytes under way there, and so
    /// could not write more, is told when they are sent again.
    fn reset_retransmitted(&mut self, host: usize) {
        let (now_ns, weather) = (self.now_ns, self.weather);
        let mut resets = Vec::new();
        for (&number, tcp) in &mut self.tcps {
            for side in 0..2 {
                let gone = &tcp.ends[1 - side];
                if gone.host == host && gone.has_vanished && tcp.ends[side].is_blocked {
                    resets.push((tcp.reset(side, now_ns, &weather), number, side));
                }
            }
        }
        for (at, number, side) in resets {
            self.plan(at, Event::Arrive(number, side));
        }
    }

    /// A host that is down gets an empty disk: what it had promised is gone, and nobody's fault.
    pub(crate) fn replace_disk(&mut self, host: usize) {
        self.log(host, "---- an empty disk");
        let known = &mut self.hosts[host];
        known.disk = Some(MemoryDisk::new(PAGE_BYTES));
        known.rotten.clear();
        known.machine.forget_log();
        known.is_replaced = true;
        self.watch.forget(host);
    }

    /// One side is done with a connection: the other is told behind the bytes, or by a reset.
    pub(crate) fn close_end(&mut self, number: u64, side: usize, breaks: bool) {
        let (now_ns, weather) = (self.now_ns, self.weather);
        let Some(tcp) = self.tcps.get_mut(&number) else { return };
        tcp.ends[side].state = EndState::Closed;
        if tcp.ends[1 - side].state == EndState::Closed {
            self.tcps.remove(&number);
            return;
        }
        let at = if breaks {
            tcp.reset(1 - side, now_ns, &weather)
        } else {
            tcp.finish(1 - side, now_ns, &weather)
        };
        self.plan(at, Event::Arrive(number, 1 - side));
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
                let pick = usize::try_from(self.streams.order.below(due.len() as u64)).unwrap();
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
            Event::Arrive(number, side) => self.arrive(number, side),
            Event::Writable(number, side) => {
                let end = &mut self.tcps.get_mut(&number)?.ends[side];
                end.is_blocked = false;
                end.blocked_at = self.now_ns;
                if !end.is_accepted() {
                    // On its way to another reactor, which registers it anew.
                    return None;
                }
                let (host, conn) = (end.host, end.conn);
                self.hosts[host].writable.push_back(conn);
                Some(host)
            }
            Event::Syn(number, from, incarnation, dial, to) => {
                if self.hosts[from].incarnation != incarnation {
                    return None;
                }
                self.connect(number, from, dial, to)
            }
            Event::DialFailed(host, incarnation, dial, failure) => {
                let known = &mut self.hosts[host];
                if known.incarnation != incarnation {
                    return None;
                }
                known.dialed.push_back(Dialed::Failed(dial, failure));
                Some(host)
            }
            Event::Accept(number, host, incarnation) => {
                let known = &mut self.hosts[host];
                if known.incarnation != incarnation {
                    return None;
                }
                known.backlog.push_back((number, 1));
                Some(host)
            }
            Event::Fault(fault) => {
                self.fault(fault);
                None
            }
            Event::Start(host) => {
                self.start(host);
                None
            }
            Event::Space(host) => {
                self.heal_machine(host);
                None
            }
        }
    }

    fn arrive(&mut self, number: u64, side: usize) -> Option<usize> {
        let end = &mut self.tcps.get_mut(&number)?.ends[side];
        if end.stalled_until > self.now_ns {
            let until = end.stalled_until;
            self.plan(until, Event::Arrive(number, side));
            return None;
        }
        end.arrive(self.now_ns);
        if end.state == EndState::Closed {
            end.received.clear();
            return None;
        }
        if !end.is_accepted() {
            return None;
        }
        let (host, conn) = (end.host, end.conn);
        if !std::mem::replace(&mut end.is_ready, true) {
            self.hosts[host].readable.push_back(conn);
        }
        Some(host)
    }

    /// What becomes of a dial is decided when it begins, by the random stream of its connection.
    ///
    /// # Errors
    /// When it fails before it begins.
    pub(crate) fn dial(
        &mut self,
        from: usize,
        dial: DialId,
        to: SocketAddr,
        within_ns: u64,
    ) -> Result<(), DialFailure> {
        let incarnation = self.hosts[from].incarnation;
        let target = self.hosts.iter().position(|host| host.address == to).unwrap_or(usize::MAX);
        let count = self.dials.entry((from, target)).or_insert(0);
        *count += 1;
        let mut random =
            self.streams.net.fork(((from as u64) << 48) ^ ((target as u64) << 32) ^ *count);
        let number = self.next_tcp;
        self.next_tcp += 1;
        let Weather { refused, lost, late, local, .. } = self.weather;
        let fail = |failure| Event::DialFailed(from, incarnation, dial, failure);
        let soon = self.now_ns + GRAIN_NS * random.between(1, 50);
        let draw = u32::try_from(random.below(1_000_000)).unwrap();
        let is_dark = self.hosts.get(target).is_some_and(|host| host.is_dark);
        let is_silent = is_dark || target != usize::MAX && self.is_parted(from, target);
        let (at, event) = if draw < local {
            let failure = DialFailure::Local(LocalFault::ProcessDescriptors);
            if draw.is_multiple_of(2) {
                return Err(failure);
            }
            (soon, fail(failure))
        } else if is_silent || draw < local + lost {
            (self.now_ns + within_ns, fail(DialFailure::Deadline))
        } else if draw < local + lost + refused {
            let failure = if draw.is_multiple_of(2) {
                DialFailure::Refused
            } else {
                DialFailure::Unreachable
            };
            (soon, fail(failure))
        } else {
            let is_late = draw < local + lost + refused + late;
            let at = if is_late { self.now_ns + random.below(within_ns) } else { soon };
            (at, Event::Syn(number, from, incarnation, dial, to))
        };
        self.plan(at, event);
        Ok(())
    }

    fn connect(&mut self, number: u64, from: usize, dial: DialId, to: SocketAddr) -> Option<usize> {
        let target = self.hosts.iter().position(|h| h.address == to && h.node.is_some());
        let Some(target) = target else {
            self.hosts[from].dialed.push_back(Dialed::Failed(dial, DialFailure::Refused));
            return Some(from);
        };
        let random = self.streams.net.fork(number ^ (1 << 63));
        let mut tcp = Tcp::new([from, target], &self.weather, random);
        let wait = if tcp.random.chance_millionths(self.weather.late_accept) {
            GRAIN_NS * tcp.random.between(1, 50_000)
        } else {
            GRAIN_NS
        };
        self.tcps.insert(number, tcp);
        let conn = self.new_conn(from, number, 0);
        self.hosts[from].dialed.push_back(Dialed::Open(conn, dial));
        let incarnation = self.hosts[target].incarnation;
        self.plan(self.now_ns + wait, Event::Accept(number, target, incarnation));
        Some(from)
    }

    /// Gives a connection's end its place on its host.
    pub(crate) fn new_conn(&mut self, host: usize, number: u64, side: usize) -> ConnId {
        let known = &mut self.hosts[host];
        let slot = (0..).find(|&slot| known.conns.keys().all(|conn| conn.slot != slot)).unwrap();
        let conn = ConnId { generation: known.next_generation, slot };
        known.next_generation += 1;
        known.conns.insert(conn, (number, side));
        self.tcps.get_mut(&number).unwrap().ends[side].conn = conn;
        conn
    }

    /// What the subscriber on this host has.
    pub(crate) fn client(&self, host: usize) -> &Delivered {
        self.delivered(host).expect("a subscriber")
    }

    /// The same, if there is one.
    pub(crate) fn delivered(&self, host: usize) -> Option<&Delivered> {
        match &self.hosts[host].node {
            Some(AnyNode::Client(client)) => Some(&client.delivered),
            Some(AnyNode::Library(library)) => Some(&library.delivered),
            _ => None,
        }
    }

    pub(crate) fn asker(&self, host: usize) -> &Asker {
        match &self.hosts[host].node {
            Some(AnyNode::Asker(asker)) => asker,
            _ => panic!("no asker on this host"),
        }
    }

    pub(crate) fn asker_mut(&mut self, host: usize) -> Option<&mut Asker> {
        match &mut self.hosts[host].node {
            Some(AnyNode::Asker(asker)) => Some(asker),
            _ => None,
        }
    }

    /// Asks, and runs until the answer is there; at most five seconds.
    pub(crate) fn ask(&mut self, host: usize, query: pregao::wire::Query) -> &Asker {
        self.ask_as_of(host, query, 0)
    }

    /// The same as of this `seq`; 0 = as of now.
    pub(crate) fn ask_as_of(
        &mut self,
        host: usize,
        query: pregao::wire::Query,
        as_of: u64,
    ) -> &Asker {
        let until_ns = self.now_ns + 5_000_000_000;
        self.asker_mut(host).expect("an asker").forget();
        while !self.asker(host).is_done() {
            assert!(self.now_ns < until_ns, "no answer to {query:?}");
            // A connection may turn out to be dead when it is used.
            if !self.asker(host).has_asked()
                && self.asker_mut(host).expect("an asker").ask(query, as_of).is_some()
            {
                self.wake(host, self.now_ns);
            }
            self.run_until(self.now_ns + 1_000_000);
        }
        self.asker(host)
    }

    /// The last lines of every host, for a failing test.
    pub(crate) fn describe(&self) -> String {
        let tail = |host: &Host| {
            let skip = host.log.len().saturating_sub(12);
            let lines = host.log[skip..].join("\n    ");
            format!("{}:\n    {lines}\n", host.name)
        };
        self.hosts.iter().map(tail).collect()
    }
}
