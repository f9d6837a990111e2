//! A broker of several reactors in one thread: its nodes take their turns in any order, as threads
//! would, and every subscriber must see the sequence or get a GAP of what it does not see.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::random::Random;

/// One subscriber, on whichever node serves it.
struct Reader {
    /// The node, 0 the first; none while the connection is on its way.
    home: Option<(usize, ConnId)>,
    received: Vec<u8>,
    /// What the first reactor did not consume of what it sent.
    unconsumed: Vec<Frame>,
    /// How likely it reads when there is something, in percent.
    reads_percent: u64,
    /// What it holds, by `seq`, and where it stands.
    held: BTreeMap<u64, Frame>,
    next_seq: Option<u64>,
    gaps: Vec<(u8, u64, u64)>,
    /// Names and values that are not of the sequence.
    stated: Vec<Frame>,
    patterns_all: bool,
}

struct Group {
    broker: Broker,
    fanouts: Vec<Fanout>,
    /// Handed over and not welcomed yet: the frames, and whose they are.
    arrivals: Vec<VecDeque<(Vec<Frame>, usize)>>,
    /// Nodes that were woken and have not had a turn.
    is_woken: Vec<bool>,
    readers: Vec<Reader>,
    now: Now,
    next_slot: u32,
    publisher: Option<ConnId>,
    to_publish: VecDeque<Frame>,
    /// What the sequence is, by `seq`.
    truth: BTreeMap<u64, Frame>,
    epoch: u32,
    random: Random,
}

impl Group {
    fn new(fanouts: usize, ring_frames: usize, seed: u64) -> Group {
        let config = BrokerConfig::new(ring_frames, 100);
        let (broker, fanouts) = Broker::with_fanouts(config, fanouts);
        let nodes = fanouts.len() + 1;
        Group {
            broker,
            fanouts,
            arrivals: (0..nodes).map(|_| VecDeque::new()).collect(),
            is_woken: vec![false; nodes],
            readers: Vec::new(),
            now: Now { mono: Mono(1_000_000_000), wall_ns: 7 },
            next_slot: 0,
            publisher: None,
            to_publish: VecDeque::new(),
            truth: BTreeMap::new(),
            epoch: 0,
            random: Random::new(seed),
        }
    }

    fn node(&mut self, index: usize) -> NodeMut<'_> {
        match index.checked_sub(1) {
            None => NodeMut::First(&mut self.broker),
            Some(index) => NodeMut::Further(&mut self.fanouts[index]),
        }
    }

    fn conn(&mut self) -> ConnId {
        self.next_slot += 1;
        ConnId { generation: self.next_slot, slot: self.next_slot }
    }

    /// A publisher of the next epoch, which begins at `start`.
    fn begin(&mut self, start: u64) {
        self.begin_behind(start, 0);
    }

    /// The same of one that has everything before `next_seq` when it comes; 0 = it does not say.
    fn begin_behind(&mut self, start: u64, next_seq: u64) {
        self.epoch += 1;
        let conn = self.conn();
        if let Some(old) = self.publisher.replace(conn) {
            self.broker.handle_close(self.now, old, CloseReason::Reset);
        }
        self.broker.handle_open(self.now, conn, Origin::LOCAL);
        let session = Session {
            role: Role::Publisher as u8,
            source: MARKET,
            epoch: U32::new(self.epoch),
            epoch_start: U64::new(start),
            next_seq: U64::new(next_seq),
            ..Session::default()
        };
        let at = Heartbeat { next_seq: U64::new(start), ..Heartbeat::default() };
        self.truth.split_off(&start);
        self.to_publish.clear();
        self.is_woken[0] = true;
        let frames = [Frame::seal(session), Frame::seal(at)];
        self.broker.handle_frames(self.now, conn, &frames);
        let source = self.broker.readers.sources[usize::from(MARKET)].as_ref().unwrap();
        let wanted = source.wanted_seq().map_or(1, Seq::get);
        // As core does, sends what is wanted; or jumps, but not over the definitions.
        if wanted <= 2 || self.random.between(0, 3) > 0 {
            self.to_publish.extend(self.truth.range(wanted..).map(|(_, frame)| *frame));
        }
    }

    fn next_seq(&self) -> u64 {
        self.truth.last_key_value().map_or(1, |(seq, _)| seq + 1)
    }

    /// The market goes on.
    fn publish(&mut self, mut frame: Frame) {
        // No two epochs have the same bytes under one number.
        frame.ts_event = U64::new(u64::from(self.epoch));
        frame.renew_crc();
        self.truth.insert(frame.seq.get(), frame);
        self.to_publish.push_back(frame);
    }

    fn subscribe(&mut self, pattern: &str, mode: Mode, reads_percent: u64) -> usize {
        let conn = self.conn();
        let index = self.readers.len();
        self.readers.push(Reader {
            home: Some((0, conn)),
            received: Vec::new(),
            unconsumed: Vec::new(),
            reads_percent,
            held: BTreeMap::new(),
            next_seq: None,
            gaps: Vec::new(),
            stated: Vec::new(),
            patterns_all: pattern == "*",
        });
        self.broker.handle_open(self.now, conn, Origin::LOCAL);
        let session = Session { role: Role::Subscriber as u8, ..Session::default() };
        let subscribe = Subscribe {
            source: MARKET,
            mode: mode as u8,
            conflate_ms: U32::new(1),
            pattern: padded(pattern),
            ..Subscribe::default()
        };
        self.is_woken[0] = true;
        let frames = [Frame::seal(session), Frame::seal(subscribe)];
        let consumed = self.broker.handle_frames(self.now, conn, &frames);
        self.readers[index].unconsumed = frames[consumed..].to_vec();
        index
    }

    /// One turn of one node, in the reactor's order.
    fn turn(&mut self, index: usize) {
        self.is_woken[index] = false;
        let now = self.now;
        self.node(index).get().handle_mail(now);
        while let Some((frames, reader)) = self.arrivals[index].pop_front() {
            let conn = self.conn();
            self.readers[reader].home = Some((index, conn));
            self.node(index).get().handle_open(now, conn, Origin::LOCAL);
            self.node(index).get().handle_frames(now, conn, &frames);
        }
        if index == 0
            && let Some(publisher) = self.publisher
            && self.broker.wants_bytes(publisher)
        {
            let read =
                self.to_publish.len().min(usize::try_from(self.random.between(1, 40)).unwrap());
            let frames: Vec<Frame> = self.to_publish.drain(..read).collect();
            self.broker.handle_frames(now, publisher, &frames);
        }
        self.node(index).get().handle_timers(now);
        self.node(index).get().commit(now);
        self.node(index).get().proceed(now);
        while let Some(woken) = self.node(index).get().poll_wake() {
            self.is_woken[woken] = true;
        }
        while self.node(index).get().poll_dirty().is_some() {}
        for reader in 0..self.readers.len() {
            let reads = self.readers[reader].reads_percent;
            if self.random.between(1, 100) <= reads {
                self.read(index, reader);
            }
        }
        while let Some(action) = self.node(index).get().poll_action() {
            match action {
                Action::HandOver { conn, reactor } => {
                    assert_eq!(index, 0, "only the first hands on");
                    let of = |it: &Reader| it.home == Some((0, conn));
                    let reader = self.readers.iter().position(of).unwrap();
                    self.readers[reader].home = None;
                    let frames = std::mem::take(&mut self.readers[reader].unconsumed);
                    self.arrivals[reactor].push_back((frames, reader));
                    self.is_woken[reactor] = true;
                }
                Action::Log(..) => {}
                action => panic!("{action:?}"),
            }
        }
    }

    /// A reader takes what its node has, in bites.
    fn read(&mut self, index: usize, reader: usize) {
        let Some((home, conn)) = self.readers[reader].home.filter(|(home, _)| *home == index)
        else {
            return;
        };
        loop {
            let bite = usize::try_from(self.random.between(1, 2000)).unwrap();
            let now = self.now;
            let mut node = self.node(home);
            let outgoing = node.get().outgoing(now, conn);
            let mut bytes = [outgoing.head, outgoing.tail].concat();
            bytes.truncate(bite);
            if bytes.is_empty() {
                break;
            }
            node.get().handle_sent(now, conn, bytes.len());
            self.readers[reader].received.extend(bytes);
        }
        let reader = &mut self.readers[reader];
        let whole = reader.received.len() / FRAME_BYTES * FRAME_BYTES;
        let rest = reader.received.split_off(whole);
        let bytes = std::mem::replace(&mut reader.received, rest);
        frames_of(&bytes).iter().for_each(|frame| reader.take(frame));
    }

    fn has_work(&self, index: usize) -> bool {
        let waits = match index.checked_sub(1) {
            None => {
                let publisher = self.publisher.filter(|_| !self.to_publish.is_empty());
                publisher.is_some_and(|publisher| self.broker.wants_bytes(publisher))
            }
            Some(index) => self.fanouts[index].next_deadline() == Some(Mono::default()),
        };
        waits || self.is_woken[index] || !self.arrivals[index].is_empty()
    }

    /// Turns of whoever was woken or has something to read, until nobody has: a wake that is lost
    /// shows here.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never comes to rest");
            let Some(index) = (0..=self.fanouts.len()).find(|&index| self.has_work(index)) else {
                break;
            };
            self.turn(index);
        }
        for index in 0..=self.fanouts.len() {
            for reader in 0..self.readers.len() {
                if self.readers[reader].reads_percent > 0 {
                    self.read(index, reader);
                }
            }
        }
    }
}

/// Either node, as the trait that both have.
enum NodeMut<'a> {
    First(&'a mut Broker),
    Further(&'a mut Fanout),
}

/// The part of [`Node`] that the bench uses, without a trait object.
struct Driven<'a, 'b>(&'b mut NodeMut<'a>);

impl<'a> NodeMut<'a> {
    fn get(&mut self) -> Driven<'a, '_> {
        Driven(self)
    }
}

macro_rules! each {
    ($self:expr, $node:ident => $call:expr) => {
        match $self.0 {
            NodeMut::First($node) => $call,
            NodeMut::Further($node) => $call,
        }
    };
}

impl<'b> Driven<'_, 'b> {
    fn handle_mail(self, now: Now) {
        each!(self, node => node.handle_mail(now));
    }
    fn handle_open(self, now: Now, conn: ConnId, origin: Origin) {
        each!(self, node => node.handle_open(now, conn, origin));
    }
    fn handle_frames(self, now: Now, conn: ConnId, frames: &[Frame]) {
        each!(self, node => node.handle_frames(now, conn, frames));
    }
    fn handle_timers(self, now: Now) {
        each!(self, node => node.handle_timers(now));
    }
    fn commit(self, now: Now) {
        each!(self, node => node.commit(now));
    }
    fn proceed(self, now: Now) {
        each!(self, node => node.proceed(now));
    }
    fn poll_wake(self) -> Option<usize> {
        each!(self, node => node.poll_wake())
    }
    fn poll_dirty(self) -> Option<ConnId> {
        each!(self, node => node.poll_dirty())
    }
    fn poll_action(self) -> Option<Action> {
        each!(self, node => node.poll_action())
    }
    fn outgoing(self, now: Now, conn: ConnId) -> Outgoing<'b> {
        each!(self, node => node.outgoing(now, conn))
    }
    fn handle_sent(self, now: Now, conn: ConnId, bytes: usize) {
        each!(self, node => node.handle_sent(now, conn, bytes));
    }
}

impl Reader {
    fn take(&mut self, frame: &Frame) {
        if let Some(end) = frame.view::<SnapshotEnd>() {
            self.next_seq = Some(end.next_seq.get());
        } else if let Some(gap) = frame.view::<Gap>() {
            let (from, to) = (gap.from_seq.get(), gap.to_seq.get());
            self.gaps.push((gap.reason, from, to));
            if gap.reason == GapReason::Void as u8 {
                self.held.split_off(&from);
                self.next_seq = Some(from);
            } else {
                assert!(!self.patterns_all || self.next_seq == Some(from), "a gap at its place");
                self.next_seq = Some(to + 1);
            }
        } else if frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT) {
            let seq = frame.seq.get();
            let next = self.next_seq.expect("a snapshot comes first");
            assert!(if self.patterns_all { seq == next } else { seq >= next }, "{seq}, not {next}");
            self.held.insert(seq, *frame);
            self.next_seq = Some(seq + 1);
        } else if frame.has(Flags::SNAPSHOT) {
            self.stated.push(*frame);
        }
    }

    fn lost(&self) -> bool {
        self.gaps.iter().any(|gap| gap.0 != GapReason::Void as u8)
    }
}

#[test]
fn every_interleaving_gives_the_sequence_or_says_what_is_missing() {
    for (seed, fanouts) in (0..60).flat_map(|seed| [(seed, 0), (seed, 1), (seed, 2)]) {
        let mut group = Group::new(fanouts, 32, seed);
        group.begin(1);
        group.publish(definition(1, 0, "PETR4"));
        group.publish(definition(2, 1, "VALE3"));
        for step in 0..400 {
            group.now.mono = Mono(group.now.mono.0 + 300_000);
            match group.random.between(0, 99) {
                0..40 => {
                    let seq = group.next_seq();
                    let index = u32::try_from(seq % 2).unwrap();
                    group.publish(quote(seq, index));
                }
                40 if group.epoch < 5 && seed % 3 > 0 => {
                    let next = group.next_seq();
                    let back = group.random.between(0, 12);
                    let start = next.saturating_sub(back).max(3);
                    // As core does: it sends its SESSION again after that answer.
                    if group.mailboxes_have_room() {
                        group.begin(start.min(next));
                    }
                }
                41..44 if group.readers.len() < 12 => {
                    let pattern = ["*", "PETR4"][step % 2];
                    let percent = [100, 100, 30, 3][group.readers.len() % 4];
                    group.subscribe(pattern, Mode::Lossless, percent);
                }
                _ => {
                    let nodes = u64::try_from(fanouts).unwrap();
                    let index = group.random.between(0, nodes);
                    group.turn(usize::try_from(index).unwrap());
                }
            }
        }
        group.settle();
        assert!(group.to_publish.is_empty(), "seed {seed}: the publisher is stuck");
        let next = group.next_seq();
        for (number, reader) in group.readers.iter().enumerate() {
            let what = format!("seed {seed}, {fanouts} fan-outs, reader {number}");
            assert!(reader.held.iter().all(|(seq, frame)| group.truth[seq] == *frame), "{what}");
            if reader.patterns_all {
                assert_eq!(reader.next_seq, Some(next), "{what}");
            }
        }
        group.last_values_are_those_of_the_sequence(seed);
        if fanouts > 0 {
            let elsewhere = group.readers.iter().filter(|it| it.home.is_some_and(|it| it.0 > 0));
            assert!(group.readers.len() < 4 || elsewhere.count() >= 2, "seed {seed}");
        }
    }
}

impl Group {
    /// On every reactor: nothing void is left, and nothing of the last epoch is missing.
    fn last_values_are_those_of_the_sequence(&self, seed: u64) {
        let of = |index: u32| {
            let mut quotes = self.truth.values().rev();
            quotes.find(|it| it.kind == Kind::Quote as u8 && it.instrument() == instrument(index))
        };
        let further = self.fanouts.iter().map(|fanout| &fanout.readers.sources);
        for sources in further {
            let source = sources[usize::from(MARKET)].as_ref().unwrap();
            for index in 0..2 {
                let (held, last) =
                    (source.values.last(InstrumentIndex::new(index), Kind::Quote), of(index));
                assert!(held.is_none_or(|it| self.truth[&it.seq.get()] == *it), "seed {seed}");
                if last.is_some_and(|it| it.ts_event.get() == u64::from(self.epoch)) {
                    assert_eq!(held.map(|it| it.seq.get()), last.map(|it| it.seq.get()), "{seed}");
                }
            }
        }
    }

    fn mailboxes_have_room(&mut self) -> bool {
        let number = usize::from(MARKET);
        let Some(Some(source)) = self.broker.readers.sources.get_mut(number) else { return true };
        self.broker.intakes[number].has_room(source, &mut self.broker.further_reactors)
    }

    /// A market on which readers of every node stand.
    fn with_readers(fanouts: usize, ring_frames: usize, reads_percent: u64) -> Group {
        let mut group = Group::new(fanouts, ring_frames, 1);
        group.begin(1);
        group.publish(definition(1, 0, "PETR4"));
        for _ in 0..=fanouts {
            group.subscribe("*", Mode::Lossless, reads_percent);
            group.settle();
        }
        group.settle();
        group
    }

    fn home_of(&self, reader: usize) -> usize {
        self.readers[reader].home.expect("it has arrived").0
    }
}

#[test]
fn a_stalled_reactor_stops_the_publisher_and_loses_nothing() {
    let mut group = Group::with_readers(2, 32, 100);
    let homes: Vec<usize> = (0..3).map(|reader| group.home_of(reader)).collect();
    assert_eq!(homes, [0, 1, 2], "each reactor has one");
    for seq in group.next_seq()..400 {
        group.publish(quote(seq, 0));
    }
    // The second further reactor has no turn.
    for _ in 0..200 {
        group.turn(0);
        group.turn(1);
    }
    let publisher = group.publisher.unwrap();
    assert!(!group.broker.wants_bytes(publisher), "it is read no more");
    assert!(group.to_publish.len() > 200, "{} are left", group.to_publish.len());
    let waiting = group.broker.intakes[usize::from(MARKET)].waiting.len();
    assert!((1..=40).contains(&waiting), "{waiting}: no more than one read");
    assert!(group.broker.intakes[usize::from(MARKET)].stalls > 0);
    group.settle();
    for reader in &group.readers {
        assert_eq!(reader.next_seq, Some(400));
        assert!(reader.gaps.is_empty(), "{:?}", reader.gaps);
    }
}

#[test]
fn a_stalled_subscriber_stops_nobody_and_gets_a_gap() {
    let mut group = Group::with_readers(2, 32, 100);
    group.readers[1].reads_percent = 0;
    group.readers[2].reads_percent = 0;
    for seq in group.next_seq()..400 {
        group.publish(quote(seq, 0));
    }
    group.settle();
    assert!(group.to_publish.is_empty(), "the publisher never waited for good");
    assert_eq!(group.readers[0].next_seq, Some(400));
    assert!(!group.readers[0].lost());
    group.readers[1].reads_percent = 100;
    group.readers[2].reads_percent = 100;
    group.settle();
    for reader in &group.readers[1..] {
        assert_eq!(reader.next_seq, Some(400));
        assert!(matches!(reader.gaps[..], [(reason, 2, _)] if reason == GapReason::Lapped as u8));
    }
}

#[test]
fn a_further_reactor_knows_values_that_are_not_of_the_sequence() {
    let mut group = Group::new(1, 32, 1);
    group.begin(1);
    group.to_publish.extend([stated(definition(0, 0, "PETR4")), stated(quote(0, 0))]);
    group.settle();
    let source = |group: &Group| {
        let source = group.fanouts[0].readers.sources[usize::from(MARKET)].as_ref().unwrap();
        (
            source.values.last(InstrumentIndex::FIRST, Kind::Quote).is_some(),
            source.snapshot_states().all == FeedStatus::Current,
        )
    };
    assert_eq!(source(&group), (true, true));
    group.broker.handle_close(group.now, group.publisher.unwrap(), CloseReason::Reset);
    group.turn(0);
    group.settle();
    assert_eq!(source(&group), (true, false), "nobody vouches for it now");
}

#[test]
fn subscribers_of_all_reactors_wait_until_the_broker_has_caught_up() {
    let mut group = Group::new(1, 32, 1);
    let readers = [0, 1].map(|_| group.subscribe("*", Mode::Lossless, 100));
    group.begin_behind(1, 4);
    group.publish(definition(1, 0, "PETR4"));
    group.publish(quote(2, 0));
    group.settle();
    assert_eq!(readers.map(|reader| group.readers[reader].next_seq), [None, None]);
    assert_ne!(group.home_of(readers[0]), group.home_of(readers[1]));
    group.publish(quote(3, 0));
    group.settle();
    assert_eq!(readers.map(|reader| group.readers[reader].next_seq), [Some(4), Some(4)]);
}

#[test]
fn places_are_counted_over_all_reactors_and_given_back() {
    let mut group = Group::with_readers(2, 32, 100);
    assert_eq!(group.broker.subscribers(), 3);
    let (home, conn) = group.readers[2].home.unwrap();
    group.fanouts[home - 1].handle_close(group.now, conn, CloseReason::Reset);
    assert_eq!(group.broker.subscribers(), 2);
    let again = group.subscribe("*", Mode::Lossless, 100);
    group.settle();
    assert_eq!(group.home_of(again), home, "where the fewest are");
}

#[test]
fn subscribers_of_further_reactors_learn_names_that_a_publisher_states() {
    let mut group = Group::with_readers(2, 32, 100);
    let at = beat_to(group.truth.len() as u64 + 1);
    group.to_publish.extend([stated(definition(0, 9, "ABEV3")), at]);
    group.settle();
    for reader in &group.readers {
        let named = reader.stated.iter().filter(|it| it.instrument() == instrument(9)).count();
        assert_eq!(named, 1, "on reactor {:?}", reader.home);
    }
}

#[test]
fn a_snapshot_of_a_further_reactor_waits_until_new_names_are_decided_about() {
    let mut group = Group::new(1, 32, 1);
    group.fanouts[0].work_mut().bound_steps(4);
    let readers = [(); 2].map(|()| group.subscribe("*", Mode::Conflate, 100));
    group.settle();
    assert_eq!(readers.map(|reader| group.home_of(reader)), [0, 1]);
    let publisher = group.conn();
    group.publisher = Some(publisher);
    group.broker.handle_open(group.now, publisher, Origin::LOCAL);
    let role = Role::Publisher as u8;
    let session = Session { role, source: MARKET, epoch: U32::new(1), ..Session::default() };
    group.broker.handle_frames(group.now, publisher, &[Frame::seal(session)]);
    for index in 0..20 {
        let definition = definition(u64::from(index) + 1, index, &format!("M{index}"));
        group.to_publish.push_back(stated(definition));
        group.to_publish.push_back(stated(quote(u64::from(index) + 21, index)));
    }
    group.to_publish.push_back(beat_to(100));
    group.settle();
    for reader in readers {
        let values = group.readers[reader].stated.iter();
        let values = values.filter(|frame| frame.kind == Kind::Quote as u8).count();
        assert_eq!(values, 20, "on reactor {}", group.home_of(reader));
    }
}
