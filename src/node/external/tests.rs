//! The exchange as a machine: frames in, bytes out, in virtual time.

use super::*;
use crate::market::Price;
use crate::market::chaos::Chaos;
use crate::market::tape::Schedule;
use crate::market::tape::{Align, Tape, TapeBody, TapeEvent, Venue};
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    Ack, Ended, Kind, Metric, Op, Query, Quote, Role, Text, U16, as_frames, unpadded,
};

const START: Mono = Mono(5_000_000_000);
const MS: u64 = 1_000_000;
/// When nothing but silence is looked for.
const TICK_MS: u64 = crate::limits::SILENCE_CHECK_EVERY.as_secs() * 1_000;

struct Bench {
    external: External,
    now: Now,
    next_slot: u32,
}

/// Two instruments, so frames 1 and 2 are definitions, and an event for each time.
fn schedule(offsets_ms: &[u64]) -> Schedule {
    let mut tape = Tape::default();
    let symbols = ["PETR4", "VALE3"].map(|symbol| symbol.parse().unwrap());
    let indexes = symbols.map(|symbol| tape.instruments.insert(Venue::Unnamed, symbol, 2).unwrap());
    for (number, offset_ms) in offsets_ms.iter().enumerate() {
        let body = TapeBody::Trade { price: Price(1_000_000_000), qty: 1, trade_id: 0 };
        let (ts_event, instrument) = (1_000 + offset_ms * MS, indexes[number % 2]);
        tape.events.push(TapeEvent::new(ts_event, instrument, body));
    }
    Schedule::new(&[tape], Align::Clock).unwrap()
}

fn tapes(offsets_ms: &[u64], looped: bool) -> FeedConfig {
    FeedConfig::Tapes { schedule: schedule(offsets_ms), looped }
}

fn synthetic(events_per_second: u64) -> FeedConfig {
    FeedConfig::Synthetic { seed: 7, events_per_second, start_wall_ns: 1_000_000 }
}

fn times(thousandths: u64) -> Speed {
    Speed::Times { thousandths }
}

fn chaos(text: &str) -> ChaosConfig {
    format!("refuse=0,stall=0,{text}").parse().unwrap()
}

impl Bench {
    fn new(feed: FeedConfig, speed: Speed) -> Bench {
        Bench::with_chaos(feed, speed, ChaosConfig::OFF)
    }

    fn with_chaos(feed: FeedConfig, speed: Speed, chaos: ChaosConfig) -> Bench {
        let now = Now { mono: START, wall_ns: 7 };
        let config = ExternalConfig { feed, speed, chaos, playground: true, sessions_max: 3 };
        Bench { external: External::new(config, now), now, next_slot: 0 }
    }

    fn open(&mut self) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.external.handle_open(self.now, conn, Origin::LOCAL);
        conn
    }

    fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.external.handle_frames(self.now, conn, frames);
        self.turn();
    }

    fn turn(&mut self) {
        self.external.handle_timers(self.now);
        self.external.commit(self.now);
    }

    fn connect(&mut self, feed: u64, next_seq: u64) -> ConnId {
        let conn = self.open();
        self.deliver(
            conn,
            &[Frame::seal(Session {
                role: Role::Consumer as u8,
                feed: U64::new(feed),
                next_seq: U64::new(next_seq),
                ..Session::default()
            })],
        );
        conn
    }

    /// Goes on to `ms` after the start, waking up only when the machine asked for it.
    fn sleep_until(&mut self, ms: u64) {
        let end = Mono(START.0 + ms * MS);
        while let Some(at) = self.external.next_deadline().filter(|&at| at <= end) {
            self.now.mono = at.max(self.now.mono);
            self.turn();
            if at <= self.now.mono && self.external.next_deadline().is_some_and(|next| next <= at) {
                break;
            }
        }
        self.now.mono = end;
        self.turn();
    }

    fn read_bytes(&mut self, conn: ConnId, limit: usize, bite: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < limit {
            let outgoing = self.external.outgoing(self.now, conn);
            let taken = outgoing.len().min(bite).min(limit - read.len());
            if taken == 0 {
                break;
            }
            read.extend_from_slice(&outgoing.head[..taken]);
            self.external.handle_sent(self.now, conn, taken);
        }
        read
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        frames_of(&self.read_bytes(conn, usize::MAX, usize::MAX))
    }

    /// What a shell would send: only to whom the machine named, until nobody is left.
    fn flush(&mut self, conn: ConnId) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(dirty) = self.external.poll_dirty() {
            if dirty == conn {
                frames.extend(self.read(conn));
            }
        }
        frames
    }

    fn closes(&mut self, conn: ConnId) -> bool {
        let mut actions = std::iter::from_fn(|| self.external.poll_action());
        actions.any(|action| action == Action::Close(conn))
    }

    fn deadline_ms(&self) -> Option<u64> {
        let at = self.external.next_deadline()?.0.saturating_sub(START.0);
        assert_eq!(at % MS, 0);
        Some(at / MS)
    }

    fn feed(&self) -> u64 {
        self.external.feed_identity()
    }
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = as_frames(bytes);
    assert!(rest.is_empty(), "the stream ends inside a frame");
    assert!(frames.iter().all(|frame| frame.check().is_ok()));
    frames.to_vec()
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    let live = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
    frames.iter().filter(live).map(|f| f.seq.get()).collect()
}

fn snapshots(frames: &[Frame]) -> usize {
    frames.iter().filter(|f| f.kind() == Some(Kind::Definition) && f.has(Flags::SNAPSHOT)).count()
}

fn beat(token: u32) -> Frame {
    let flags = U16::new(Flags::MORE);
    Frame::seal(Heartbeat { flags, token: U32::new(token), ..Heartbeat::default() })
}

fn resume(id: u32, next_seq: u64) -> Frame {
    Frame::seal(Resume { id: U32::new(id), next_seq: U64::new(next_seq), ..Resume::default() })
}

fn beats(frames: &[Frame]) -> Vec<(u32, u64)> {
    let beats = frames.iter().filter_map(Frame::view::<Heartbeat>);
    beats.map(|beat| (beat.token.get(), beat.next_seq.get())).collect()
}

fn refusals(frames: &[Frame]) -> Vec<(u16, u32)> {
    let refusals = frames.iter().filter_map(Frame::view::<Refusal>);
    refusals.map(|refusal| (refusal.code.get(), refusal.id.get())).collect()
}

#[test]
fn what_falls_due_when_another_begins_reaches_who_waits_too() {
    let mut bench = Bench::new(tapes(&[0, 10], false), times(1_000));
    let first = bench.connect(0, 1);
    bench.flush(first);
    bench.turn();
    assert!(bench.flush(first).is_empty(), "it has all there is");
    // The last frame is due, and nobody's timer has looked yet.
    bench.now.mono = Mono(START.0 + 10 * MS);
    bench.connect(0, 1);
    assert_eq!(seqs(&bench.flush(first)), [4]);
}

#[test]
fn a_tape_arrives_whole_and_in_order_whatever_the_kernel_takes_at_once() {
    let offsets: Vec<u64> = (0..3_000).map(|n| n * 7).collect();
    let expected = schedule(&offsets);
    for bite in [1, 63, 64, 65, 1_000, usize::MAX] {
        let mut bench = Bench::new(tapes(&offsets, false), Speed::Max);
        let conn = bench.connect(0, 0);
        let bytes = bench.read_bytes(conn, usize::MAX, bite);
        let frames = frames_of(&bytes);
        let session = frames[0].view::<Session>().unwrap();
        assert_eq!((session.role, session.next_seq.get()), (0, 1));
        assert_eq!(session.feed.get(), expected.identity());
        assert_eq!(unpadded(&session.name), "external");
        assert_eq!(snapshots(&frames[..3]), 2);
        let end = frames.len() - 1;
        assert_eq!(&frames[3..end], expected.frames(), "bites of {bite}");
        assert_eq!(beats(&frames[end..]), [(0, 3_003)]);
        bench.turn();
        assert!(bench.read(conn).is_empty());
        assert_eq!(bench.deadline_ms(), Some(TICK_MS), "only the tick");
    }
}

#[test]
fn a_paced_tape_releases_exactly_what_is_due() {
    for (thousandths, factor) in [(1_000, 1), (10_000, 10)] {
        let offsets: Vec<u64> = [0, 40, 40, 200, 700].map(|ms| ms * factor).to_vec();
        let mut bench = Bench::new(tapes(&offsets, false), times(thousandths));
        let conn = bench.connect(0, 1);
        assert_eq!(seqs(&bench.flush(conn)), [1, 2, 3]);
        assert_eq!(bench.deadline_ms(), Some(40));
        bench.now.mono = Mono(START.0 + 40 * MS - 1);
        bench.turn();
        assert!(bench.flush(conn).is_empty(), "a nanosecond too early");
        bench.now.mono = Mono(START.0 + 40 * MS);
        bench.turn();
        assert_eq!(seqs(&bench.flush(conn)), [4, 5]);
        assert_eq!(bench.deadline_ms(), Some(200));
        bench.sleep_until(699);
        assert_eq!(seqs(&bench.flush(conn)), [6]);
        bench.sleep_until(700);
        assert_eq!(seqs(&bench.flush(conn)), [7]);
        assert_eq!(bench.deadline_ms(), Some(TICK_MS), "after the end only the tick");
        bench.deliver(conn, &[beat(9)]);
        assert_eq!(beats(&bench.flush(conn)), [(9, 8)], "it still answers");
    }
}

#[test]
fn a_market_that_nobody_watches_sleeps() {
    let mut bench = Bench::new(tapes(&[0, 40, 80], false), times(1_000));
    assert_eq!(bench.external.next_deadline(), None);
    let conn = bench.connect(0, 0);
    bench.flush(conn);
    bench.external.handle_close(bench.now, conn, CloseReason::PeerClosed);
    assert_eq!(bench.external.next_deadline(), None);
    // A consumer that is behind is not waited for by the market's clock.
    let behind = bench.connect(0, 0);
    assert_eq!(bench.deadline_ms(), Some(TICK_MS));
    assert_eq!(seqs(&bench.read(behind)), [1, 2, 3]);
    assert_eq!(bench.deadline_ms(), Some(40));
}

#[test]
fn a_restarted_exchange_goes_on_where_the_consumer_is() {
    let offsets: Vec<u64> = (0..100).map(|n| n * 1_000).collect();
    let feed = schedule(&offsets).identity();
    let mut bench = Bench::new(tapes(&offsets, false), times(1_000));
    let conn = bench.connect(feed, 50);
    let frames = bench.flush(conn);
    assert_eq!(frames[0].view::<Session>().unwrap().next_seq.get(), 50);
    assert_eq!(snapshots(&frames), 2, "it may not know the instruments");
    assert_eq!(seqs(&frames), [50], "neither replayed nor waited for");
    assert_eq!(bench.deadline_ms(), Some(1_000));
    bench.sleep_until(2_000);
    assert_eq!(seqs(&bench.flush(conn)), [51, 52], "and then at its pace");
}

#[test]
fn reconnecting_at_the_head_does_not_hurry_the_market() {
    let mut bench = Bench::new(tapes(&[0, 400, 800], false), times(1_000));
    for _ in 0..5 {
        let feed = bench.feed();
        let conn = bench.connect(feed, 4);
        assert!(seqs(&bench.flush(conn)).is_empty());
        assert_eq!(bench.deadline_ms(), Some(400));
        bench.external.handle_close(bench.now, conn, CloseReason::Reset);
    }
}

#[test]
fn what_the_consumer_knows_of_another_feed_does_not_count() {
    let mut bench = Bench::new(tapes(&[0, 1, 2], false), Speed::Max);
    let conn = bench.connect(12_345, 4);
    let frames = bench.read(conn);
    assert_eq!(frames[0].view::<Session>().unwrap().next_seq.get(), 1);
    assert_eq!(seqs(&frames), [1, 2, 3, 4, 5]);
}

#[test]
fn wanting_more_than_the_tape_has_is_answered_and_then_quiet() {
    for speed in [Speed::Max, times(1_000)] {
        for wanted in [6, 7, u64::MAX] {
            let mut bench = Bench::new(tapes(&[0, 1, 2], false), speed);
            let feed = bench.feed();
            let conn = bench.connect(feed, wanted);
            let frames = bench.read(conn);
            assert_eq!(frames[0].view::<Session>().unwrap().next_seq.get(), wanted);
            assert!(seqs(&frames).is_empty());
            bench.sleep_until(500);
            assert!(bench.flush(conn).is_empty());
            assert_eq!(bench.deadline_ms(), Some(TICK_MS));
        }
    }
}

#[test]
fn a_looped_tape_goes_on_with_rising_numbers() {
    let mut bench = Bench::new(tapes(&[0, 10, 20], true), times(1_000));
    let conn = bench.connect(0, 0);
    bench.sleep_until(3_300);
    // A lap takes 20 ms and a second's pause.
    let frames = bench.flush(conn);
    assert_eq!(seqs(&frames), (1..=14).collect::<Vec<_>>());
    bench.deliver(conn, &[beat(3)]);
    assert_eq!(beats(&bench.flush(conn)), [(3, 15)]);

    let mut bench = Bench::new(tapes(&[0, 10, 20], true), Speed::Max);
    let conn = bench.connect(0, 0);
    let bytes = bench.read_bytes(conn, (1 + 2 + 20_000) * 64, 100_000);
    assert_eq!(seqs(&frames_of(&bytes)), (1..=20_000).collect::<Vec<_>>());
    bench.deliver(conn, &[resume(1, u64::MAX)]);
    assert_eq!(beats(&bench.read(conn)), [(1, u64::MAX)], "the end of the numbers is quiet");
}

#[test]
fn an_absurd_wish_does_not_run_a_looped_tape_to_the_end_of_time() {
    let mut bench = Bench::new(tapes(&[0, 10, 20], true), times(1_000));
    let feed = bench.feed();
    let conn = bench.connect(feed, u64::MAX);
    assert_eq!(bench.read(conn)[0].view::<Session>().unwrap().next_seq.get(), 4);
    assert_eq!(bench.deadline_ms(), Some(10));
}

#[test]
fn nobody_releases_the_tape_to_others() {
    for feed in [tapes(&[0, 10, 100_000, 200_000], false), synthetic(1_000)] {
        let mut bench = Bench::new(feed, times(1_000));
        let feed = bench.feed();
        let first = bench.connect(0, 0);
        bench.sleep_until(50);
        let had = seqs(&bench.read(first));
        let next_seq = had.last().unwrap() + 1;
        // A second one wants what is not due, in its SESSION and in a RESUME.
        let second = bench.connect(feed, next_seq + 1_000);
        let frames = bench.read(second);
        assert_eq!(frames[0].view::<Session>().unwrap().next_seq.get(), next_seq);
        for (id, wanted) in [(5, next_seq + 1), (6, 1_000_000_000)] {
            bench.deliver(second, &[resume(id, wanted)]);
            let frames = bench.read(second);
            let refusal = frames.iter().find_map(Frame::view::<Refusal>).unwrap();
            let refused = (refusal.id.get(), refusal.code.get());
            assert_eq!(refused, (id, ErrorCode::Unexpected as u16));
        }
        assert!(seqs(&bench.read(first)).is_empty(), "the market's clock was moved");
        // Who is alone goes on with what it had before the exchange was started again.
        bench.external.handle_close(bench.now, first, CloseReason::PeerClosed);
        bench.external.handle_close(bench.now, second, CloseReason::PeerClosed);
        let alone = bench.connect(feed, next_seq + 1);
        assert_eq!(bench.read(alone)[0].view::<Session>().unwrap().next_seq.get(), next_seq + 1);
    }
}

#[test]
fn at_speed_zero_only_definitions_flow() {
    for feed in [tapes(&[0, 10], true), synthetic(1_000)] {
        let mut bench = Bench::new(feed, times(0));
        let conn = bench.connect(0, 0);
        let frames = bench.flush(conn);
        let definitions = snapshots(&frames) as u64;
        assert!(definitions > 0);
        assert_eq!(seqs(&frames), (1..=definitions).collect::<Vec<_>>());
        assert_eq!(bench.deadline_ms(), Some(TICK_MS));
        bench.deliver(conn, &[resume(4, 500)]);
        let refused =
            bench.flush(conn).iter().find_map(Frame::view::<Refusal>).map(|it| it.id.get());
        assert_eq!(refused, Some(4), "nothing behind the definitions is released");
        bench.sleep_until(10_500);
        assert!(bench.flush(conn).is_empty());
        assert_eq!(bench.deadline_ms(), Some(10_000 + TICK_MS), "it wakes for the tick only");
    }
}

#[test]
fn going_back_is_announced_before_the_frames_from_there() {
    let offsets: Vec<u64> = (0..5_000).collect();
    let mut bench = Bench::new(tapes(&offsets, false), Speed::Max);
    let conn = bench.connect(0, 0);
    // The session, the snapshot, two frames and a half: the rest of a run waits in the outbox.
    let mut bytes = bench.read_bytes(conn, 5 * 64 + 32, usize::MAX);
    bench.deliver(conn, &[resume(77, 2)]);
    bytes.extend(bench.read_bytes(conn, usize::MAX, 999));
    let frames = frames_of(&bytes);
    let told = frames.iter().position(|f| f.kind() == Some(Kind::Heartbeat)).unwrap();
    assert_eq!(beats(&frames), [(77, 2), (0, 5_003)], "and in the end that it is the end");
    assert_eq!(seqs(&frames[..told]), (1..told as u64 - 2).collect::<Vec<_>>());
    assert_eq!(seqs(&frames[told..]), (2..=5_002).collect::<Vec<_>>());
}

#[test]
fn a_synthetic_market_comes_at_its_pace_and_knows_itself_again() {
    let mut bench = Bench::new(synthetic(1_000), times(1_000));
    let conn = bench.connect(0, 0);
    let mut all = bench.flush(conn);
    for ms in (10..=2_000).step_by(10) {
        bench.sleep_until(ms);
        let frames = bench.flush(conn);
        let due = 1_000_000 + ms * MS;
        assert!(frames.iter().all(|f| !f.kind().unwrap().is_data() || f.ts_event.get() <= due));
        all.extend(frames);
    }
    let last = *seqs(&all).last().unwrap();
    assert_eq!(seqs(&all), (1..=last).collect::<Vec<_>>());
    assert!((1_500..4_000).contains(&last), "{last}");

    // The same market, started again: it is made anew up to where the consumer is.
    let mut again = Bench::new(synthetic(1_000), times(1_000));
    assert_eq!(again.feed(), bench.feed());
    let feed = again.feed();
    let conn = again.connect(feed, last - 1);
    let frames = again.flush(conn);
    assert_eq!(frames[0].view::<Session>().unwrap().next_seq.get(), last - 1);
    let data: Vec<Frame> = all.into_iter().filter(|f| f.seq.get() == last - 1).collect();
    assert!(frames.contains(data.last().unwrap()));
}

#[test]
fn a_market_that_has_to_be_made_up_to_a_far_frame_takes_turns() {
    for speed in [Speed::Max, times(1_000)] {
        let mut bench = Bench::new(synthetic(1_000), speed);
        let feed = bench.feed();
        let conn = bench.connect(feed, 100_000);
        assert!(seqs(&bench.flush(conn)).is_empty());
        let mut turns = 0;
        let data = loop {
            assert_eq!(bench.external.next_deadline(), Some(Mono::default()));
            bench.turn();
            turns += 1;
            let outgoing = bench.external.poll_dirty();
            assert_eq!(outgoing, Some(conn));
            let data = seqs(&frames_of(&bench.read_bytes(conn, 64, 64)));
            if !data.is_empty() {
                break data;
            }
        };
        assert_eq!(data, [100_000]);
        assert!(turns > 3, "bounded work in each turn");
    }
}

#[test]
fn a_synthetic_market_without_a_pace_is_made_as_it_is_read() {
    let mut bench = Bench::new(synthetic(1_000), Speed::Max);
    let fast = bench.connect(0, 0);
    let slow = bench.connect(0, 0);
    let start = seqs(&frames_of(&bench.read_bytes(slow, 40 * 64, 64)));
    let frames = frames_of(&bench.read_bytes(fast, 200_033 * 64, usize::MAX));
    assert_eq!(seqs(&frames), (1..=200_000).collect::<Vec<_>>());
    assert_eq!(bench.external.playback.oldest_seq(), bench.external.playback.next_seq() - 65_536);
    // The slow one sees a hole, and goes on with what is held.
    let rest = seqs(&frames_of(&bench.read_bytes(slow, 10_000 * 64, usize::MAX)));
    let all = [start, rest].concat();
    let holes: Vec<_> = all.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    assert_eq!(holes.len(), 1);
    assert!(holes[0][1] >= bench.external.playback.oldest_seq());
    assert_eq!(bench.external.frames.lapped, holes[0][1] - holes[0][0] - 1);
}

#[test]
fn a_short_absence_costs_nothing_and_a_long_one_did_not_happen() {
    let mut bench = Bench::new(synthetic(1_000), times(1_000));
    let conn = bench.connect(0, 0);
    bench.sleep_until(1_000);
    let seen = *seqs(&bench.flush(conn)).last().unwrap();
    bench.external.handle_close(bench.now, conn, CloseReason::Reset);
    for (away_ms, least, most) in [(10_000, 7_000, 13_000), (100_000_000, 35_000, 52_000)] {
        let feed = bench.feed();
        bench.sleep_until(1_000 + away_ms);
        let conn = bench.connect(feed, seen + 1);
        let mut data = seqs(&bench.flush(conn));
        while bench.external.next_deadline().unwrap() <= bench.now.mono {
            bench.turn();
            data.extend(seqs(&bench.flush(conn)));
        }
        assert_eq!(data, (seen + 1..=seen + data.len() as u64).collect::<Vec<_>>(), "no hole");
        assert!((least..most).contains(&data.len()), "{}", data.len());
        let newest = bench.external.playback.read(seen + data.len() as u64, 1).0[0];
        let age_ns = 1_000_000 + (1_000 + away_ms) * MS - newest.ts_event.get();
        assert!(age_ns < 100 * MS, "its times are those of now");
        assert_eq!(newest.check(), Ok(()));
        bench.external.handle_close(bench.now, conn, CloseReason::Reset);
    }
}

#[test]
fn peers_that_misbehave_are_refused_and_closed() {
    let mut bad_crc = beat(1);
    bad_crc.crc = U32::new(1);
    let hello = |role| Frame::seal(Session { role: role as u8, ..Session::default() });
    let consumer = hello(Role::Consumer);
    let cases = [
        (vec![bad_crc], ErrorCode::BadFrame),
        (vec![Frame::ZERO], ErrorCode::BadFrame),
        (vec![consumer, bad_crc], ErrorCode::BadFrame),
        (vec![beat(1)], ErrorCode::Unexpected),
        (vec![hello(Role::Subscriber)], ErrorCode::Unexpected),
        (vec![Frame::seal(Session::default())], ErrorCode::Unexpected),
        (vec![consumer, consumer], ErrorCode::Unexpected),
        (vec![consumer, Frame::seal(Quote::default())], ErrorCode::Unexpected),
        (vec![consumer, Frame::seal(Ack::default())], ErrorCode::Unexpected),
        (vec![consumer, beat(0)], ErrorCode::Unexpected),
        (vec![hello(Role::Querier), resume(1, 1)], ErrorCode::Unexpected),
    ];
    for (frames, code) in cases {
        let mut bench = Bench::new(tapes(&[0], false), Speed::Max);
        let conn = bench.open();
        bench.deliver(conn, &frames);
        let answer = bench.read(conn);
        assert_eq!(refusals(&answer), [(code as u16, 0)], "{frames:?}");
        assert!(bench.closes(conn));
    }
}

#[test]
fn places_are_bounded_and_a_closing_consumer_has_left_its_own() {
    let mut bench = Bench::new(tapes(&[0], false), Speed::Max);
    let conns: Vec<ConnId> = (0..4).map(|_| bench.connect(0, 0)).collect();
    assert_eq!(refusals(&bench.read(conns[3])), [(ErrorCode::Limit as u16, 0)]);
    bench.deliver(conns[0], &[Frame::ZERO]);
    let next = bench.connect(0, 0);
    assert!(bench.read(next)[0].view::<Session>().is_some());
}

#[test]
fn a_querier_gets_the_status_and_nothing_else() {
    let mut bench = Bench::with_chaos(tapes(&[0, 1], false), Speed::Max, chaos("lose=0.5"));
    bench.external.misbehaviour.chaos = Chaos::new("refuse=1,stall=0".parse().unwrap());
    let consumer = bench.connect(0, 0);
    bench.read(consumer);
    let conn = bench.open();
    bench
        .deliver(conn, &[Frame::seal(Session { role: Role::Querier as u8, ..Session::default() })]);
    assert!(bench.read(conn)[0].view::<Session>().is_some(), "operators are not refused");
    let query = |op| Query { id: U32::new(3), op: op as u8, ..Query::default() };
    bench.deliver(conn, &[Frame::seal(query(Op::Status))]);
    let frames = bench.read(conn);
    let metric = |wanted: &str| {
        let mut metrics = frames.iter().filter_map(Frame::view::<Metric>);
        metrics.find(|m| unpadded(&m.name) == wanted).map(|m| m.value.get())
    };
    assert_eq!(metric("sessions.refused"), Some(1));
    assert_eq!(metric("feed.released_seq"), Some(4));
    assert_eq!(metric("feed.total_frames"), Some(4));
    assert_eq!(metric("consumers"), Some(0));
    let is_other = |text: &&Text| unpadded(&text.name) != "chaos";
    let texts: Vec<String> = frames
        .iter()
        .filter_map(Frame::view::<Text>)
        .filter(is_other)
        .map(|t| unpadded(&t.text))
        .collect();
    // A name that ends with `.state` is taken for a breaker's.
    let names = frames.iter().filter_map(Frame::view::<Text>).map(|t| unpadded(&t.name));
    assert!(names.into_iter().all(|name| !name.ends_with(".state")));
    assert_eq!(texts, ["external", "tape", "ended", &format!("{:016x}", bench.feed())]);
    assert_eq!(frames.last().unwrap().kind(), Some(Kind::End));
    let quote = Query { symbol: padded("PETR4"), ..query(Op::Quote) };
    bench.deliver(conn, &[Frame::seal(quote)]);
    assert_eq!(refusals(&bench.read(conn)), [(ErrorCode::Unexpected as u16, 3)]);
    assert!(!bench.closes(conn));
}

#[test]
fn a_stop_refuses_every_peer() {
    let mut bench = Bench::new(synthetic(100), Speed::Max);
    let conn = bench.connect(0, 0);
    bench.read_bytes(conn, 64, 64);
    bench.external.handle_stop(bench.now);
    assert!(bench.external.is_stopped());
    assert_eq!(refusals(&bench.read(conn)), [(ErrorCode::Stopping as u16, 0)]);
}

mod ends;
mod longer;
mod misbehaviour;
