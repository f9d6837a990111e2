//! The broker as a machine: frames in, bytes out, no socket.

use zerocopy::IntoBytes;

use super::*;
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    Definition, ErrorCode, Gap, GapReason, Heartbeat, InstrumentId, InstrumentIndex, Kind, Mode,
    Quote, Refusal, Role, SnapshotEnd, Subscribe, Subscribed, Trade, U16, U64, as_frames,
};

mod conflated;
mod continuity;
mod delivery;
mod fanouts;
mod joins;
mod publishers;
mod stale;

const MARKET: u8 = 1;

struct Bench {
    broker: Broker,
    now: Now,
    next_slot: u32,
}

fn instrument(index: u32) -> InstrumentId {
    InstrumentId::new(MARKET, InstrumentIndex::new(index))
}

fn quote(seq: u64, index: u32) -> Frame {
    Frame::seal(Quote {
        seq: U64::new(seq),
        instrument: instrument(index).into(),
        ..Quote::default()
    })
}

fn trade(seq: u64, index: u32) -> Frame {
    Frame::seal(Trade {
        seq: U64::new(seq),
        instrument: instrument(index).into(),
        ..Trade::default()
    })
}

/// A publisher goes on there.
fn beat_to(seq: u64) -> Frame {
    Frame::seal(Heartbeat { next_seq: U64::new(seq), ..Heartbeat::default() })
}

fn definition(seq: u64, index: u32, symbol: &str) -> Frame {
    let mut definition = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
    definition.seq = U64::new(seq);
    Frame::seal(definition)
}

/// A last value or a name, as a publisher states it ahead of its sequence.
fn stated(mut frame: Frame) -> Frame {
    frame.flags = U16::new(Flags::SNAPSHOT);
    frame.renew_crc();
    frame
}

impl Bench {
    fn new(ring_frames: usize) -> Bench {
        let config = BrokerConfig::new(ring_frames, 100);
        let now = Now { mono: Mono(1_000_000_000), wall_ns: 7 };
        Bench { broker: Broker::new(config), now, next_slot: 0 }
    }

    fn open(&mut self) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.broker.handle_open(self.now, conn, Origin::LOCAL);
        conn
    }

    fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.broker.handle_mail(self.now);
        self.broker.handle_frames(self.now, conn, frames);
        self.broker.handle_timers(self.now);
        self.broker.commit(self.now);
        self.broker.proceed(self.now);
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono + std::time::Duration::from_millis(ms);
        self.broker.handle_timers(self.now);
    }

    /// A market with PETR4 (0) and VALE3 (1), whose sequence begins at 1 with their definitions.
    fn market(&mut self) -> ConnId {
        let conn = self.open();
        self.begin(conn, 1, 1);
        self.deliver(conn, &[definition(1, 0, "PETR4"), definition(2, 1, "VALE3")]);
        conn
    }

    /// The publisher's process has ended, and another one connects.
    fn restart(&mut self, publisher: ConnId) -> ConnId {
        self.broker.handle_close(self.now, publisher, CloseReason::PeerClosed);
        self.open()
    }

    fn begin(&mut self, conn: ConnId, epoch: u32, epoch_start: u64) {
        let session = Session {
            role: Role::Publisher as u8,
            source: MARKET,
            epoch: U32::new(epoch),
            epoch_start: U64::new(epoch_start),
            ..Session::default()
        };
        let at = Heartbeat { next_seq: U64::new(epoch_start), ..Heartbeat::default() };
        self.deliver(conn, &[Frame::seal(session), Frame::seal(at)]);
    }

    fn subscribe(&mut self, pattern: &str, mode: Mode, from_seq: u64) -> ConnId {
        let conn = self.open();
        let session = Session { role: Role::Subscriber as u8, ..Session::default() };
        let subscribe = Subscribe {
            id: U32::new(1),
            source: MARKET,
            mode: mode as u8,
            conflate_ms: U32::new(100),
            from_seq: U64::new(from_seq),
            pattern: padded(pattern),
            ..Subscribe::default()
        };
        self.deliver(conn, &[Frame::seal(session), Frame::seal(subscribe)]);
        conn
    }

    /// Reads at most this many bytes, in bites of `bite`.
    fn read_bytes(&mut self, conn: ConnId, limit: usize, bite: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < limit {
            let outgoing = self.broker.outgoing(self.now, conn);
            let bytes = [outgoing.head, outgoing.tail].concat();
            let taken = bytes.len().min(bite).min(limit - read.len());
            if taken == 0 && self.broker.has_bulk() {
                // What can wait comes in the next turns.
                self.begin_part(conn);
                if !self.broker.outgoing(self.now, conn).is_empty() {
                    continue;
                }
            }
            if taken == 0 {
                break;
            }
            read.extend_from_slice(&bytes[..taken]);
            self.broker.handle_sent(self.now, conn, taken);
        }
        read
    }

    /// Everything that waits, as frames that all pass the checks.
    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        frames_of(&self.read_bytes(conn, usize::MAX, usize::MAX))
    }
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = as_frames(bytes);
    assert!(rest.is_empty(), "the stream ends inside a frame");
    assert!(frames.iter().all(|frame| frame.check().is_ok()));
    frames.to_vec()
}

fn data_seqs(frames: &[Frame]) -> Vec<u64> {
    let live = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
    frames.iter().filter(live).map(|f| f.seq.get()).collect()
}

fn gaps(frames: &[Frame]) -> Vec<(u8, u64, u64)> {
    let gaps = frames.iter().filter_map(Frame::view::<Gap>);
    gaps.map(|gap| (gap.reason, gap.from_seq.get(), gap.to_seq.get())).collect()
}

#[test]
fn a_late_joiner_gets_definitions_last_values_and_then_the_live_feed() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    bench.deliver(publisher, &[quote(3, 0), quote(4, 0), trade(5, 0), quote(6, 1)]);
    let conn = bench.subscribe("PETR*", Mode::Lossless, 0);
    let frames = bench.read(conn);
    let kinds: Vec<_> = frames.iter().filter_map(Frame::kind).collect();
    let expected = [
        Kind::Session,
        Kind::Subscribed,
        Kind::Definition,
        Kind::Quote,
        Kind::Trade,
        Kind::SnapshotEnd,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(frames[1].view::<Subscribed>().unwrap().matched.get(), 1);
    assert_eq!(frames[3].seq.get(), 4, "the last quote, not the first");
    assert!(frames[2..5].iter().all(|frame| frame.has(Flags::SNAPSHOT)));
    assert_eq!(frames[5].view::<SnapshotEnd>().unwrap().next_seq.get(), 7);

    bench.deliver(publisher, &[quote(7, 1), quote(8, 0)]);
    assert_eq!(data_seqs(&bench.read(conn)), [8]);
}

#[test]
fn last_values_are_stale_without_a_current_publisher() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    bench.deliver(publisher, &[quote(3, 0)]);
    let joined = |bench: &mut Bench| {
        let conn = bench.subscribe("PETR4", Mode::Lossless, 0);
        let quote = bench.read(conn).into_iter().find(|frame| frame.kind == Kind::Quote as u8);
        quote.unwrap().has(Flags::STALE)
    };
    assert!(!joined(&mut bench));
    let said = |flags| Frame::seal(Heartbeat { flags: U16::new(flags), ..Heartbeat::default() });
    bench.deliver(publisher, &[said(Flags::STALE)]);
    assert!(joined(&mut bench), "core says so");
    bench.deliver(publisher, &[said(Flags::MORE)]);
    assert!(joined(&mut bench), "a heartbeat that asks for an answer says nothing of it");
    bench.deliver(publisher, &[said(0)]);
    assert!(!joined(&mut bench));
    bench.broker.handle_close(bench.now, publisher, CloseReason::Reset);
    assert!(joined(&mut bench), "core is away");
}

#[test]
fn a_full_feed_is_the_publishers_bytes_whatever_the_kernel_takes_at_once() {
    for bite in [1, 7, 63, 64, 65, 200] {
        let mut bench = Bench::new(8);
        let publisher = bench.market();
        let conn = bench.subscribe("*", Mode::Lossless, 0);
        bench.read(conn);
        let mut sent = Vec::new();
        let mut received = Vec::new();
        for seq in 3..40 {
            sent.push(quote(seq, 0));
            bench.deliver(publisher, &sent[sent.len() - 1..]);
            received.extend(bench.read_bytes(conn, usize::MAX, bite));
        }
        assert_eq!(received, sent.as_slice().as_bytes(), "bites of {bite}");
    }
}

#[test]
fn a_half_sent_frame_is_finished_after_the_ring_overwrote_it() {
    let mut bench = Bench::new(4);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    bench.read(conn);
    bench.deliver(publisher, &[quote(3, 0)]);
    let mut received = bench.read_bytes(conn, 40, 40);
    let flood: Vec<Frame> = (4..20).map(|seq| quote(seq, 0)).collect();
    bench.deliver(publisher, &flood);
    received.extend(bench.read_bytes(conn, usize::MAX, usize::MAX));
    let frames = frames_of(&received);
    assert_eq!(frames[0], quote(3, 0));
    assert_eq!(gaps(&frames), [(GapReason::Lapped as u8, 4, 17)]);
    assert_eq!(data_seqs(&frames), [3, 18, 19]);
}

#[test]
fn a_lapped_lossless_reader_gets_a_gap_of_exactly_what_it_missed() {
    for pattern in ["*", "PETR4"] {
        let mut bench = Bench::new(8);
        let publisher = bench.market();
        let conn = bench.subscribe(pattern, Mode::Lossless, 0);
        bench.read(conn);
        let flood: Vec<Frame> = (3..=30).map(|seq| quote(seq, 0)).collect();
        bench.deliver(publisher, &flood);
        let frames = bench.read(conn);
        assert_eq!(gaps(&frames), [(GapReason::Lapped as u8, 3, 26)], "{pattern}");
        assert_eq!(data_seqs(&frames), [27, 28, 29, 30], "{pattern}");
    }
}

#[test]
fn a_lapped_latest_reader_jumps_to_the_last_values() {
    let mut bench = Bench::new(4);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Latest, 0);
    bench.read(conn);
    let mut flood: Vec<Frame> = (3..=30).map(|seq| quote(seq, 0)).collect();
    flood[5] = trade(8, 1);
    bench.deliver(publisher, &flood);
    let frames = bench.read(conn);
    assert_eq!(gaps(&frames), [(GapReason::Skipped as u8, 3, 30)]);
    assert_eq!(data_seqs(&frames), [8, 30], "the last trade of VALE3, the last quote of PETR4");
    bench.deliver(publisher, &[quote(31, 1)]);
    assert_eq!(data_seqs(&bench.read(conn)), [31]);
}

#[test]
fn a_conflated_reader_gets_each_last_value_once_per_interval() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Conflate, 0);
    bench.read(conn);
    bench.deliver(publisher, &[quote(3, 0), quote(4, 0), quote(5, 1)]);
    assert!(bench.read(conn).is_empty(), "not due yet");
    bench.wait_ms(100);
    let frames = bench.read(conn);
    assert_eq!(data_seqs(&frames), [4, 5]);
    let skipped = frames[0].view::<Gap>().unwrap();
    assert_eq!((skipped.reason, skipped.missed.get()), (GapReason::Skipped as u8, 1));
    assert!(bench.read(conn).is_empty());
}

#[test]
fn a_value_that_is_stated_again_behind_a_hole_is_conflated_as_it_was_published() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Conflate, 0);
    bench.read(conn);
    bench.deliver(publisher, &[quote(3, 0)]);
    bench.deliver(publisher, &[quote(3, 0).delivered(SNAPSHOT | Flags::STALE)]);
    bench.wait_ms(100);
    assert_eq!(bench.read(conn), [quote(3, 0)]);
    let late = bench.subscribe("*", Mode::Conflate, 0);
    let frames = bench.read(late);
    let value = frames.iter().find(|frame| frame.kind() == Some(Kind::Quote));
    assert!(value.is_some_and(|it| it.has(Flags::STALE)), "who comes now is warned: {frames:?}");
}

#[test]
fn a_reader_that_resumes_misses_nothing_and_sees_nothing_twice() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let flood: Vec<Frame> = (3..=9).map(|seq| quote(seq, 0)).collect();
    bench.deliver(publisher, &flood);
    let conn = bench.subscribe("*", Mode::Lossless, 6);
    let frames = bench.read(conn);
    assert_eq!(data_seqs(&frames), [6, 7, 8, 9]);
    assert!(gaps(&frames).is_empty());
    let ahead = bench.subscribe("*", Mode::Lossless, 12);
    assert!(data_seqs(&bench.read(ahead)).is_empty());
    bench.deliver(publisher, &(10..=13).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    assert_eq!(data_seqs(&bench.read(ahead)), [12, 13], "10 and 11 it has from before");
}

#[test]
fn a_reader_older_than_the_ring_is_sent_to_history() {
    let mut bench = Bench::new(4);
    let publisher = bench.market();
    bench.deliver(publisher, &(3..=20).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    let conn = bench.subscribe("*", Mode::Lossless, 1);
    let frames = bench.read(conn);
    assert_eq!(gaps(&frames), [(GapReason::BeforeRing as u8, 1, 16)]);
    assert_eq!(data_seqs(&frames), [17, 18, 19, 20]);
}

#[test]
fn a_subscriber_may_come_before_the_publisher() {
    let mut bench = Bench::new(64);
    let conn = bench.subscribe("PETR4", Mode::Lossless, 0);
    assert_eq!(bench.read(conn).len(), 2, "only the SESSION, and that it waits");
    let publisher = bench.market();
    bench.deliver(publisher, &[quote(3, 0)]);
    let frames = bench.read(conn);
    assert!(frames[0].view::<Subscribed>().is_some());
    assert_eq!(frames[2].seq.get(), 3, "it is in the snapshot");
    bench.deliver(publisher, &[quote(4, 0)]);
    assert_eq!(data_seqs(&bench.read(conn)), [4]);
}

#[test]
fn the_raw_feed_names_the_systems_instruments() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    bench.deliver(publisher, &[definition(3, 2, "$sys.breaker"), trade(4, 2)]);
    let named = |frames: Vec<Frame>| -> Vec<(u8, u32)> {
        let snapshot = frames.iter().filter(|frame| frame.has(Flags::SNAPSHOT));
        snapshot.map(|f| (f.kind, f.instrument().index().get())).collect()
    };
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    assert_eq!(named(bench.read(conn)), [(1, 0), (1, 1), (1, 2)], "named, without its values");
    let conn = bench.subscribe("PETR*", Mode::Lossless, 0);
    assert_eq!(named(bench.read(conn)), [(1, 0)]);
}

#[test]
fn a_duplicate_changes_nothing_and_a_jump_is_announced() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    bench.read(conn);
    bench.deliver(publisher, &[quote(3, 0), quote(3, 0), definition(2, 1, "VALE3")]);
    assert_eq!(data_seqs(&bench.read(conn)), [3]);
    bench.deliver(publisher, &[beat_to(10), quote(10, 0)]);
    let frames = bench.read(conn);
    assert_eq!(gaps(&frames).len(), 1);
    assert_eq!(data_seqs(&frames), [10]);
}

#[test]
fn peers_that_misbehave_are_refused_and_closed() {
    let mut bad_crc = quote(1, 0);
    bad_crc.crc = U32::new(1);
    let mut bad_version = quote(1, 0);
    bad_version.version = 9;
    let hello = Frame::seal(Session { role: Role::Subscriber as u8, ..Session::default() });
    let cases = [
        (vec![bad_crc], ErrorCode::BadFrame),
        (vec![bad_version], ErrorCode::BadFrame),
        (vec![Frame::ZERO], ErrorCode::BadFrame),
        (vec![quote(1, 0)], ErrorCode::Unexpected),
        (vec![hello, quote(1, 0)], ErrorCode::Unexpected),
    ];
    for (frames, code) in cases {
        let mut bench = Bench::new(8);
        let conn = bench.open();
        bench.deliver(conn, &frames);
        let answer = bench.read(conn);
        let refusal = answer.last().and_then(Frame::view::<Refusal>).unwrap();
        assert_eq!(refusal.code.get(), code as u16, "{frames:?}");
        let closes = std::iter::from_fn(|| bench.broker.poll_action());
        assert_eq!(closes.filter(|a| *a == Action::Close(conn)).count(), 1);
    }
}

#[test]
fn a_flood_of_patterns_is_refused() {
    let mut bench = Bench::new(8);
    let conn = bench.open();
    bench.deliver(conn, &[Frame::seal(Session { role: 1, ..Session::default() })]);
    let more = Subscribe {
        flags: U16::new(Flags::MORE),
        source: MARKET,
        pattern: padded("X*"),
        ..Subscribe::default()
    };
    for _ in 0..=limits::PATTERNS_MAX {
        bench.deliver(conn, &[Frame::seal(more)]);
    }
    let answer = bench.read(conn);
    let refusal = answer.last().and_then(Frame::view::<Refusal>).unwrap();
    assert_eq!(refusal.code.get(), ErrorCode::Limit as u16);
}

#[test]
fn a_bad_subscription_is_refused_in_one_frame_and_disturbs_nobody() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let other = bench.subscribe("*", Mode::Lossless, 0);
    bench.read(other);
    let unknown = bench.subscribe("PE*R4", Mode::Lossless, 0);
    let twice = bench.subscribe("PETR4", Mode::Lossless, 0);
    bench.read(twice);
    let again = Subscribe { source: MARKET, pattern: padded("*"), ..Subscribe::default() };
    bench.deliver(twice, &vec![Frame::seal(again); 5_000]);
    for (conn, code) in [(unknown, ErrorCode::BadPattern), (twice, ErrorCode::Limit)] {
        let answer = bench.read(conn);
        let refusals: Vec<_> = answer.iter().filter_map(Frame::view::<Refusal>).collect();
        assert_eq!(refusals.len(), 1, "{answer:?}");
        assert_eq!(refusals[0].code.get(), code as u16);
    }
    bench.deliver(publisher, &[quote(3, 0)]);
    assert_eq!(data_seqs(&bench.read(other)), [3]);
}

#[test]
fn a_newcomer_does_not_wait_for_thousands_that_have_had_something() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    for _ in 0..20 {
        let conn = bench.subscribe("*", Mode::Lossless, 0);
        bench.read(conn);
    }
    while bench.broker.poll_dirty().is_some() {}
    bench.deliver(publisher, &[quote(3, 0)]);
    // The turn's bound has left nearly all of them for the next.
    bench.broker.poll_dirty();
    bench.broker.handle_mail(bench.now);
    let newcomer = bench.subscribe("*", Mode::Lossless, 0);
    assert_eq!(bench.broker.poll_bulk(), Some(newcomer), "each turn has a part for newcomers");
}

#[test]
fn a_round_takes_in_what_comes_meanwhile_but_not_a_flood() {
    let mut bench = Bench::new(1 << 14);
    let publisher = bench.market();
    let readers: Vec<ConnId> = (0..20).map(|_| bench.subscribe("*", Mode::Lossless, 0)).collect();
    for &conn in &readers {
        bench.read(conn);
    }
    while bench.broker.poll_dirty().is_some() {}
    bench.broker.handle_mail(bench.now);
    bench.deliver(publisher, &[quote(3, 0)]);
    let first = bench.broker.poll_dirty().unwrap();
    bench.broker.handle_mail(bench.now);
    assert!(bench.broker.wants_bytes(publisher), "who is late in the round gets two at once");
    bench.deliver(publisher, &[quote(4, 0)]);
    let last = *readers.iter().rfind(|conn| **conn != first).unwrap();
    assert_eq!(data_seqs(&bench.read(last)), [3, 4]);

    let flood: Vec<Frame> = (5..).take(limits::ROUND_FRAMES_MAX).map(|seq| quote(seq, 0)).collect();
    bench.deliver(publisher, &flood);
    bench.broker.handle_mail(bench.now);
    assert!(!bench.broker.wants_bytes(publisher), "a flood would lap who is late in the round");
    while bench.broker.poll_dirty().is_some() {}
    assert!(bench.broker.wants_bytes(publisher), "the round is over");
}

#[test]
fn readers_leave_in_any_order() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let mut conns: Vec<ConnId> = (0..40).map(|_| bench.subscribe("*", Mode::Lossless, 0)).collect();
    for step in 0..39 {
        let leaving = conns.swap_remove(step * 7 % conns.len());
        bench.broker.handle_close(bench.now, leaving, CloseReason::Reset);
        let source = bench.broker.readers.sources[usize::from(MARKET)].as_ref().unwrap();
        assert_eq!(
            source.readers.iter().collect::<std::collections::BTreeSet<_>>(),
            conns.iter().collect()
        );
    }
    bench.read(conns[0]);
    bench.deliver(publisher, &[quote(3, 0)]);
    assert_eq!(data_seqs(&bench.read(conns[0])), [3]);
}

#[test]
fn a_subscriber_that_leaves_leaves_nothing_behind() {
    let mut bench = Bench::new(8);
    let publisher = bench.market();
    for _ in 0..10 {
        let conn = bench.subscribe("*", Mode::Conflate, 0);
        bench.broker.handle_close(bench.now, conn, CloseReason::Reset);
    }
    bench.deliver(publisher, &[quote(3, 0)]);
    let readers = &bench.broker.readers;
    let source = readers.sources[usize::from(MARKET)].as_ref().unwrap();
    assert!(source.readers.is_empty() && readers.conflating.is_empty());
    assert_eq!((readers.subscribers, readers.connections.len()), (0, 1));
    assert_eq!(readers.interest_bytes(), 0);
}

#[test]
fn a_subscriber_that_asks_learns_its_place() {
    let mut bench = Bench::new(8);
    let publisher = bench.market();
    let conn = bench.subscribe("PETR4", Mode::Lossless, 1);
    bench.deliver(publisher, &[trade(3, 1), trade(4, 1)]);
    bench.read(conn);
    let ask =
        Heartbeat { flags: U16::new(Flags::MORE), token: U32::new(5), ..Heartbeat::default() };
    bench.deliver(conn, &[Frame::seal(ask)]);
    let answer = bench.read(conn);
    let beat = answer[0].view::<Heartbeat>().unwrap();
    // The frames of others are behind it: nothing of its own is.
    assert_eq!((answer.len(), beat.token.get(), beat.next_seq.get()), (1, 5, 5));
}

#[test]
fn a_new_kind_is_in_snapshots_and_in_conflated_batches_for_its_row_in_the_table() {
    let sample = |seq: u64| {
        let instrument = instrument(0).into();
        Frame::seal(crate::wire::Sample { seq: U64::new(seq), instrument, ..Default::default() })
    };
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    bench.deliver(publisher, &[quote(3, 0), sample(4), sample(5)]);
    let conn = bench.subscribe("PETR4", Mode::Conflate, 0);
    let of_sample = |frames: &[Frame]| -> Vec<(u64, bool)> {
        let own = frames.iter().filter(|frame| frame.kind() == Some(Kind::Sample));
        own.map(|frame| (frame.seq.get(), frame.has(Flags::SNAPSHOT))).collect()
    };
    assert_eq!(of_sample(&bench.read(conn)), [(5, true)]);
    bench.deliver(publisher, &[sample(6), sample(7)]);
    bench.wait_ms(100);
    assert_eq!(of_sample(&bench.read(conn)), [(7, false)]);
}
