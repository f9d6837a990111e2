//! What a node says to be durable was synced before: every ACK of a shard, and every SESSION and END of a
//! shard and of core, held against the system calls of the running program. The data of its segments and
//! all names on the way to them count.
//!
//! Each mistake that these tests are for is played too, by a call that is left out while the program hears
//! that it went well.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pregao::wire::{Ack, Frame, Heartbeat, Kind, Op, Role, Session, U64};
use rustix::process::Signal;

use super::core_kills;
use super::disk::{self, Broken, Looked};
use super::node::Place;
use super::process::{Deadline, PATIENCE, Process};
use super::recorder::{Record, SyncCall};
use super::shard_kills::{event, follow};
use super::tracer::{self, Allowed, Fate};
use super::wire::{self, Came, Wire};

const SEGMENT_BYTES: u64 = 65_536;
/// More numbers than two segments have records.
const MANY: u64 = 3_000;
/// How many numbers a shard is fed at a time.
const PIECE: u64 = 64;

/// Whether the tests can be run here as far as they need.
fn can(needed: Allowed) -> bool {
    let allowed = tracer::allowed();
    let can = allowed == Allowed::Everything || allowed == needed;
    if !can {
        println!("skipped: system calls can be neither seen nor left out here ({allowed:?})");
    }
    can
}

/// What becomes of the syncs of a life.
type Choice = fn(&SyncCall<'_>) -> Fate;

fn make(_: &SyncCall<'_>) -> Fate {
    Fate::Made
}

/// A node under the eyes of the recorder.
struct Node {
    place: Place,
    net: String,
    arguments: &'static [&'static str],
    record: Record,
}

impl Node {
    fn shard() -> Node {
        let place = Place::new("shards", "", "");
        let arguments = &["shard", "--partition", "A"];
        Node { place, net: String::new(), arguments, record: Record::default() }
    }

    /// Starts it with this policy of syncing, and with syncs that become what `choose` says.
    fn start(
        &self,
        durability: &str,
        choose: impl FnMut(&SyncCall<'_>) -> Fate + Send + 'static,
    ) -> Process {
        let more = format!(
            "[data]\nsegment_bytes = {SEGMENT_BYTES}\ndurability = \"{durability}\"\n\
             sync_interval = \"2ms\""
        );
        self.place.configure(&self.net, &more);
        let process = tracer::start(self.place.command(self.arguments), self.record.watch(choose));
        process.wait_listening();
        process
    }

    fn check_shard(&self) -> Result<Looked, Broken> {
        disk::check(&self.record.events(), |seq, found| event(seq).as_ref() == found)
    }

    /// Core decides what stands at a number; that something does is what it says.
    fn check_core(&self) -> Result<Looked, Broken> {
        disk::check(&self.record.events(), |_, found| found.is_some())
    }

    /// Asks for something, and gives back what END says to be durable.
    fn ask(&self, op: Op) -> u64 {
        wire::ask(self.place.address(), op, 5).durable_seq.get()
    }
}

/// A shard's feeder, and what the shard has told it.
struct Feeder {
    core: Wire,
    next_seq: u64,
    accepted_seq: u64,
    durable_seq: u64,
}

impl Feeder {
    fn new(place: &Place) -> Feeder {
        let mut core = follow(place);
        let session = core.wait_kind(Kind::Session).expect("a shard answers its feeder");
        let session = session.view::<Session>().unwrap();
        let (accepted_seq, durable_seq) = (session.next_seq.get(), session.durable_seq.get());
        Feeder { core, next_seq: accepted_seq, accepted_seq, durable_seq }
    }

    /// Sends so many numbers, and waits until they are accepted.
    fn feed(&mut self, count: u64) {
        let to = self.next_seq + count;
        for frame in (self.next_seq..to).filter_map(event) {
            self.core.send_frame(&frame);
        }
        self.core.send(Heartbeat { next_seq: U64::new(to), ..Heartbeat::default() });
        self.next_seq = to;
        self.wait("accepted", |feeder| feeder.accepted_seq >= to);
    }

    /// Waits until everything that was sent is said to be durable.
    fn wait_durable(&mut self) {
        let last = (1..self.next_seq).rev().find(|seq| event(*seq).is_some()).unwrap_or(0);
        self.wait("durable", |feeder| feeder.durable_seq > last);
    }

    fn wait(&mut self, what: &str, is_done: impl Fn(&Feeder) -> bool) {
        let deadline = Deadline::after(PATIENCE);
        while !is_done(self) {
            assert!(!deadline.is_over(), "not {what}: {} {}", self.accepted_seq, self.durable_seq);
            assert!(self.core.flush(), "the shard closed its feeder");
            if let Came::Frames(frames) = self.core.read(Duration::from_millis(20)) {
                for ack in frames.iter().filter_map(Frame::view::<Ack>) {
                    self.accepted_seq = self.accepted_seq.max(ack.accepted_seq.get());
                    self.durable_seq = self.durable_seq.max(ack.durable_seq.get());
                }
            }
        }
    }
}

fn is_segment(call: &SyncCall<'_>) -> bool {
    call.path.extension().is_some_and(|extension| extension == "log")
}

fn stop(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0), "{:#?}", process.stderr.all());
}

/// A life in which the sync of a segment that is left never ends: what two segments hold was not synced when
/// the process dies, and the next life has to do it.
fn die_within_a_sync(node: &Node) -> u64 {
    let (is_open, is_held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (opened, held) = (Arc::clone(&is_open), Arc::clone(&is_held));
    let mut process = node.start("none", move |call| {
        let holds = is_segment(call) && opened.load(Ordering::SeqCst);
        held.fetch_or(holds, Ordering::SeqCst);
        if holds { Fate::Held } else { Fate::Made }
    });
    is_open.store(true, Ordering::SeqCst);
    let mut feeder = Feeder::new(&node.place);
    let used = || {
        let segments = super::files::segments(&node.place.log("shard-A"));
        segments.iter().filter(|segment| !segment.records.is_empty()).count()
    };
    // Into the next segment, which then has room for another piece, and no further: the one behind it is not
    // begun before the sync has ended.
    let before = used();
    while used() == before {
        feeder.feed(PIECE);
    }
    feeder.feed(PIECE);
    let deadline = Deadline::after(PATIENCE);
    while !is_held.load(Ordering::SeqCst) {
        assert!(!deadline.is_over(), "the segment that was left is not synced");
        feeder.core.read(Duration::from_millis(5));
    }
    let accepted = feeder.accepted_seq;
    process.kill();
    accepted
}

/// Four lives of a shard: told to stop, killed, killed within a sync, and one that goes on from there.
fn live(node: &Node, choose: Choice) -> u64 {
    let process = node.start("batch", choose);
    let mut feeder = Feeder::new(&node.place);
    feeder.feed(MANY);
    feeder.wait_durable();
    node.ask(Op::Last);
    stop(process);
    let mut process = node.start("interval", choose);
    let mut feeder = Feeder::new(&node.place);
    feeder.feed(MANY / 2);
    feeder.wait_durable();
    node.ask(Op::Last);
    process.kill();
    feeder.durable_seq
}

#[test]
fn a_durable_number_of_a_shard_without_a_sync_before_it() {
    if !can(Allowed::OnlyLooking) {
        return;
    }
    let node = Node::shard();
    live(&node, make);
    let accepted = die_within_a_sync(&node);
    let mut process = node.start("none", make);
    let feeder = Feeder::new(&node.place);
    assert!(feeder.durable_seq >= accepted, "an open makes durable what it found");
    assert!(node.ask(Op::Last) >= accepted);
    process.kill();
    let looked = node.check_shard().unwrap_or_else(|broken| panic!("{broken}"));
    println!("a shard: {looked:?}");
    assert!(looked.acks.1 > MANY && looked.sessions.1 >= accepted && looked.ends.1 >= accepted);
    assert!(looked.renames >= 5 && looked.directory_syncs >= looked.renames, "{looked:?}");
}

/// The mistakes that have to be seen. Each is one kind of call that is left out.
#[test]
fn syncs_that_only_pretend_are_seen() {
    if !can(Allowed::Everything) {
        return;
    }
    let never_of_data = |call: &SyncCall<'_>| match is_segment(call) {
        true => Fate::LeftOut,
        false => Fate::Made,
    };
    let never_of_names = |call: &SyncCall<'_>| match call.is_directory {
        true => Fate::LeftOut,
        false => Fate::Made,
    };
    let never_above = |call: &SyncCall<'_>| {
        let is_log = call.path.file_name().is_some_and(|name| name == "shard-A");
        if call.is_directory && !is_log { Fate::LeftOut } else { Fate::Made }
    };
    let mistakes: [(&str, Choice); 3] = [
        ("the data of a segment", never_of_data),
        ("the names of segments", never_of_names),
        ("the names of the log's directories", never_above),
    ];
    for (what, choose) in mistakes {
        let node = Node::shard();
        live(&node, choose);
        let broken = node.check_shard().expect_err(what);
        println!("never synced: {what}; {broken}");
    }
}

/// An open that makes durable only one of the two segments that a crash may have left.
#[test]
fn an_open_that_syncs_one_of_two_segments_is_seen() {
    if !can(Allowed::Everything) {
        return;
    }
    for left_out in 0..2 {
        let node = Node::shard();
        live(&node, make);
        let accepted = die_within_a_sync(&node);
        // Counted from the last: what an open finds, oldest first, and then its mark.
        let count = AtomicU32::new(0);
        let newest = super::files::segment_paths(&node.place.log("shard-A"));
        let newest: Vec<_> = newest.into_values().rev().collect();
        let used = newest.iter().position(|path| holds(path, accepted)).unwrap();
        let victim = newest[used + left_out].clone();
        let mut process = node.start("none", move |call| {
            let is_first = call.path == victim && count.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { Fate::LeftOut } else { Fate::Made }
        });
        let feeder = Feeder::new(&node.place);
        process.kill();
        assert!(feeder.durable_seq >= accepted);
        let seen = node.check_shard();
        println!("segment {left_out} before the last one was not synced: {seen:?}");
        // The last one is synced again with the mark of the open.
        assert_eq!(seen.is_err(), left_out == 1);
    }
}

/// Whether a file has the last event before this number.
fn holds(path: &Path, next_seq: u64) -> bool {
    let last = (1..next_seq).rev().find_map(event).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let (frames, _) = pregao::wire::as_frames(&bytes[pregao::log::HEADER_BYTES..]);
    frames.contains(&last)
}

/// Core, with an exchange that feeds it and followers that follow.
fn core() -> (Node, core_kills::Peers) {
    let peers = core_kills::Peers::start();
    let net = peers.net.clone();
    let place = Place::new("core", &net, "");
    (Node { place, net, arguments: &["core"], record: Record::default() }, peers)
}

/// Greets core until it says that so much is durable, and asks it something then.
fn wait_core_durable(node: &Node, wanted: u64) -> u64 {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mut querier = Wire::connect(node.place.address());
        querier.send(Session { role: Role::Querier as u8, ..Session::default() });
        querier.flush();
        let said = querier.wait_kind(Kind::Session).expect("core answers");
        let durable_seq = said.view::<Session>().unwrap().durable_seq.get();
        if durable_seq >= wanted {
            return node.ask(Op::Quote);
        }
        assert!(!deadline.is_over(), "{durable_seq} is durable, and {wanted} should be");
        // Nothing comes: this is the pause before the next look.
        querier.read(Duration::from_millis(20));
    }
}

fn live_as_core(node: &Node, choose: Choice) {
    let process = node.start("batch", choose);
    let durable = wait_core_durable(node, MANY);
    stop(process);
    let mut process = node.start("interval", choose);
    let durable = wait_core_durable(node, durable + MANY);
    process.kill();
    let mut process = node.start("batch", choose);
    wait_core_durable(node, durable + MANY / 2);
    process.kill();
}

#[test]
fn a_durable_number_of_core_without_a_sync_before_it() {
    if !can(Allowed::OnlyLooking) {
        return;
    }
    let (node, peers) = core();
    live_as_core(&node, make);
    peers.end();
    let looked = node.check_core().unwrap_or_else(|broken| panic!("{broken}"));
    println!("core: {looked:?}");
    assert!(looked.sessions.1 > MANY && looked.ends.1 > 2 * MANY, "{looked:?}");
    assert!(looked.renames >= 5 && looked.directory_syncs >= looked.renames, "{looked:?}");
}

#[test]
fn syncs_of_core_that_only_pretend_are_seen() {
    if !can(Allowed::Everything) {
        return;
    }
    let (node, peers) = core();
    live_as_core(&node, |call| if is_segment(call) { Fate::LeftOut } else { Fate::Made });
    peers.end();
    println!("core: {}", node.check_core().expect_err("nothing was synced"));
}
