//! The shard as a machine: core and the clients are played by hand, the disk is in memory.

use std::time::Duration;

use super::*;
use crate::limits;
use crate::log::memory::{MemoryDisk, MemoryStorage, PageFate};
use crate::log::{LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    BarTotals, Cancel, Definition, Ended, Flags, I64, InstrumentId, InstrumentIndex, Op, Query,
    QueryMore, Refusal, Role, Run, Trade, U16, as_frames,
};

const SEGMENT_RECORDS: u64 = 32;
const SEGMENT_BYTES: usize = 4096 + 32 * 64;
pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) struct Bench {
    pub(super) shard: Shard<MemoryStorage>,
    disk: MemoryDisk,
    pub(super) now: Now,
    next_slot: u32,
    actions: Vec<Action>,
}

pub(super) fn instrument(index: u32) -> InstrumentId {
    InstrumentId::new(1, InstrumentIndex::new(index))
}

pub(super) fn definition(seq: u64, index: u32, symbol: &str) -> Frame {
    let mut definition = Definition::new(instrument(index), symbol.parse().unwrap(), 2);
    definition.seq = U64::new(seq);
    Frame::seal(definition)
}

/// A trade of one unit for as much as its seq, at this second; its number is its seq.
fn trade(seq: u64, index: u32, second: u64) -> Frame {
    Frame::seal(Trade {
        seq: U64::new(seq),
        instrument: instrument(index).into(),
        ts_event: U64::new(second * SECOND),
        price: I64::new(i64::try_from(seq).unwrap()),
        qty: U64::new(1),
        trade_id: U64::new(seq),
        ..Trade::default()
    })
}

/// Takes back the trade of that seq.
fn cancel(seq: u64, index: u32, of: u64, second: u64) -> Frame {
    Frame::seal(Cancel {
        seq: U64::new(seq),
        instrument: instrument(index).into(),
        ts_event: U64::new(second * SECOND),
        price: I64::new(i64::try_from(of).unwrap()),
        qty: U64::new(1),
        trade_id: U64::new(of),
        ..Cancel::default()
    })
}

fn log_config() -> LogConfig {
    LogConfig {
        name: padded("shard-A"),
        segment_records: SEGMENT_RECORDS,
        policy: SyncPolicy::Batch,
        upstream: UpstreamRule::FollowSeq,
        sequence: Sequence::Increasing,
        retention: Retention::default(),
    }
}

/// Symbols up to M are this shard's.
fn config() -> ShardConfig {
    let partition = Partition::range(&["A-M", "N-Z"]).unwrap();
    let behind_max = Duration::MAX;
    ShardConfig { name: "shard-A".to_owned(), shard: 0, partition, behind_max }
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::on(MemoryDisk::new(512), Now { mono: Mono(SECOND), wall_ns: 7 })
    }

    fn on(disk: MemoryDisk, now: Now) -> Bench {
        let (log, recovery) = Log::open(disk.storage(), log_config(), now).unwrap();
        let shard = Shard::new(config(), log, &recovery);
        Bench { shard, disk, now, next_slot: 0, actions: Vec::new() }
    }

    /// The process dies and starts again.
    pub(super) fn restart(self) -> Bench {
        Bench::on(self.disk.kill(), self.now)
    }

    pub(super) fn turn(&mut self) {
        self.shard.handle_storage(self.now);
        self.shard.handle_mail(self.now);
        self.finish_turn();
    }

    fn finish_turn(&mut self) {
        self.shard.handle_timers(self.now);
        self.shard.commit(self.now);
        self.actions.extend(std::iter::from_fn(|| self.shard.poll_action()));
    }

    pub(super) fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.shard.handle_storage(self.now);
        self.shard.handle_frames(self.now, conn, frames);
        self.finish_turn();
    }

    fn sleep_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
        self.turn();
    }

    fn open(&mut self) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.shard.handle_open(self.now, conn, Origin::LOCAL);
        conn
    }

    /// Core connects, in this epoch. What the shard says first.
    pub(super) fn core(&mut self, epoch: u32, epoch_start: u64) -> (ConnId, Frame) {
        self.core_at(epoch, epoch_start, 0)
    }

    /// The same, with the next `seq` that core will give out. One that was there has ended.
    fn core_at(&mut self, epoch: u32, epoch_start: u64, next_seq: u64) -> (ConnId, Frame) {
        if let Some(before) = self.shard.feed.seat.holder() {
            self.shard.handle_close(self.now, before, CloseReason::PeerClosed);
        }
        let conn = self.open();
        self.deliver(conn, &[feeder(epoch, epoch_start, next_seq)]);
        (conn, self.read(conn)[0])
    }

    /// A shard with ABEV3 (0) and ITUB4 (1), fed in epoch 1.
    pub(super) fn fed() -> (Bench, ConnId) {
        let mut bench = Bench::new();
        let (core, _) = bench.core(1, 1);
        bench.deliver(core, &[definition(1, 0, "ABEV3"), definition(2, 1, "ITUB4")]);
        (bench, core)
    }

    /// Says so much at once that the small segments of these tests keep up.
    pub(super) fn feed(&mut self, core: ConnId, frames: &[Frame]) {
        for part in frames.chunks(8) {
            self.deliver(core, part);
            self.turn();
        }
    }

    pub(super) fn querier(&mut self) -> ConnId {
        let conn = self.open();
        let role = Role::Querier as u8;
        self.deliver(conn, &[Frame::seal(Session { role, ..Session::default() })]);
        self.read(conn);
        conn
    }

    fn ask(&mut self, op: Op, symbol: &str, limit: u32, from: u64, to: u64) -> Vec<Frame> {
        let conn = self.querier();
        self.deliver(conn, &[question(1, op, symbol, limit, from, to)]);
        let frames = self.read(conn);
        self.shard.handle_close(self.now, conn, CloseReason::PeerClosed);
        frames
    }

    pub(super) fn read_bytes(&mut self, conn: ConnId, bite: usize) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            let outgoing = self.shard.outgoing(self.now, conn);
            let taken = outgoing.len().min(bite);
            if taken == 0 {
                if !self.shard.has_bulk() {
                    return read;
                }
                // The rest has its part of the next turn.
                self.turn();
                while self.shard.poll_bulk().is_some() {}
                continue;
            }
            read.extend_from_slice(&outgoing.head[..taken]);
            self.shard.handle_sent(self.now, conn, taken);
        }
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        frames_of(&self.read_bytes(conn, usize::MAX))
    }

    fn acks(&mut self, conn: ConnId) -> Vec<(u64, u64)> {
        let frames = self.read(conn);
        let acks = frames.iter().filter_map(Frame::view::<Ack>);
        acks.map(|ack| (ack.accepted_seq.get(), ack.durable_seq.get())).collect()
    }
}

fn feeder(epoch: u32, epoch_start: u64, next_seq: u64) -> Frame {
    Frame::seal(Session {
        role: Role::Feeder as u8,
        source: 1,
        epoch: U32::new(epoch),
        epoch_start: U64::new(epoch_start),
        next_seq: U64::new(next_seq),
        ..Session::default()
    })
}

fn beat_to(next_seq: u64) -> Frame {
    Frame::seal(Heartbeat { next_seq: U64::new(next_seq), ..Heartbeat::default() })
}

fn question(id: u32, op: Op, symbol: &str, limit: u32, from: u64, to: u64) -> Frame {
    Frame::seal(Query {
        id: U32::new(id),
        op: op as u8,
        limit: U32::new(limit),
        symbol: padded(symbol),
        from: U64::new(from),
        to: U64::new(to),
        ..Query::default()
    })
}

pub(super) fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = as_frames(bytes);
    assert!(rest.is_empty(), "the stream ends inside a frame");
    assert!(frames.iter().all(|frame| frame.check().is_ok()));
    frames.to_vec()
}

/// The rows of an answer: everything but the name ahead of them.
fn rows(frames: &[Frame]) -> Vec<u64> {
    let is_row = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
    frames.iter().filter(is_row).map(|f| f.seq.get()).collect()
}

pub(super) fn end(frames: &[Frame]) -> Ended {
    *frames.last().unwrap().view::<Ended>().unwrap()
}

fn refusal(frames: &[Frame]) -> u16 {
    frames[0].view::<Refusal>().unwrap().code.get()
}

#[test]
fn a_duplicate_changes_nothing() {
    let (mut bench, core) = Bench::fed();
    let frames = [trade(3, 0, 10), trade(5, 0, 11)];
    bench.deliver(core, &frames);
    bench.deliver(core, &frames);
    bench.deliver(core, &[definition(1, 0, "ABEV3"), trade(4, 0, 10)]);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3, 5]);
    assert_eq!(bench.shard.duplicates, 4);
    assert_eq!(bench.shard.wanted().get(), 6);
}

#[test]
fn what_is_accepted_is_acknowledged_first_and_what_is_durable_later() {
    let (mut bench, core) = Bench::fed();
    bench.turn();
    bench.read(core);
    bench.disk.pause_jobs(true);
    bench.deliver(core, &[trade(3, 0, 10)]);
    assert_eq!(bench.acks(core), [(4, 3)]);
    bench.deliver(core, &[trade(4, 0, 10)]);
    assert_eq!(bench.acks(core), [(5, 3)]);
    bench.disk.pause_jobs(false);
    bench.turn();
    bench.turn();
    assert_eq!(bench.acks(core).last(), Some(&(5, 5)));
    let kept = bench.disk.crash(0, |_, _| PageFate::Old);
    let mut bench = Bench::on(kept, bench.now);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3, 4], "durable is durable");
}

#[test]
fn a_heartbeat_says_what_is_not_for_this_shard() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(
        core,
        &[Frame::seal(Heartbeat { next_seq: U64::new(90), ..Heartbeat::default() })],
    );
    bench.turn();
    assert_eq!(bench.acks(core).last(), Some(&(90, 90)));
    bench.shard.handle_close(bench.now, core, CloseReason::Reset);
    // Frames that it holds are the surer place; that it holds more durably is said beside.
    let (core, session) = bench.core_at(1, 1, 95);
    let session = *session.view::<Session>().unwrap();
    assert_eq!((session.next_seq.get(), session.durable_seq.get()), (3, 90));
    assert_eq!(
        bench.acks(core),
        [],
        "nothing is taken back, and nothing said before it is so again"
    );
    bench.deliver(core, &[beat_to(90)]);
    assert_eq!(bench.acks(core), [(90, 90)]);
}

#[test]
fn a_full_log_refuses_the_feeder_until_there_is_room() {
    let (mut bench, core) = Bench::fed();
    bench.disk.set_bytes_max(SEGMENT_BYTES);
    let feed: Vec<Frame> = (3..103).map(|seq| trade(seq, 0, seq)).collect();
    bench.deliver(core, &feed);
    bench.turn();
    assert!(bench.actions.contains(&Action::Close(core)));
    let last = *bench.read(core).last().unwrap();
    assert_eq!(last.view::<Refusal>().unwrap().code.get(), ErrorCode::Storage as u16);
    bench.shard.handle_close(bench.now, core, CloseReason::Ours);
    bench.sleep_ms(3_000);
    let (refused, answer) = bench.core(1, 1);
    assert_eq!(refusal(&[answer]), ErrorCode::Storage as u16);
    bench.shard.handle_close(bench.now, refused, CloseReason::Ours);
    let held = rows(&bench.ask(Op::Last, "ABEV3", 200, 0, 0));
    assert_eq!(held, (3..bench.shard.wanted().get()).collect::<Vec<_>>(), "questions are answered");

    bench.disk.set_bytes_max(usize::MAX);
    for _ in 0..40 {
        bench.sleep_ms(1_000);
        let (core, answer) = bench.core(1, 1);
        let wanted = answer.view::<Session>().map_or(103, |session| session.next_seq.get());
        let rest = feed.iter().filter(|frame| frame.seq.get() >= wanted);
        bench.deliver(core, &rest.copied().collect::<Vec<_>>());
        bench.shard.handle_close(bench.now, core, CloseReason::Ours);
    }
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 200, 0, 0)), (3..103).collect::<Vec<_>>());
}

#[test]
fn a_log_that_waits_for_a_sync_reads_its_feeder_later_and_keeps_it() {
    let (mut bench, core) = Bench::fed();
    for seq in 3..200 {
        bench.shard.handle_storage(bench.now);
        bench.disk.pause_jobs(bench.disk.jobs() > 0 && seq > 20);
        bench.shard.handle_frames(bench.now, core, &[trade(seq, 0, seq)]);
        bench.finish_turn();
    }
    assert!(!bench.shard.wants_bytes(core));
    let held = bench.shard.wanted().get();
    assert!(held < 200);
    bench.disk.pause_jobs(false);
    for _ in 0..40 {
        bench.turn();
    }
    assert!(bench.shard.wants_bytes(core));
    assert!(!bench.actions.contains(&Action::Close(core)));
    assert_eq!(bench.shard.wanted().get(), 200);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 200, 0, 0)), (3..200).collect::<Vec<_>>());
}

#[test]
fn the_last_trades_come_oldest_first_with_their_cancellations() {
    let (mut bench, core) = Bench::fed();
    let frames =
        [trade(3, 0, 10), trade(4, 1, 10), trade(5, 0, 9), cancel(6, 0, 5, 11), trade(7, 0, 12)];
    bench.deliver(core, &frames);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 2, 0, 0)), [5, 6, 7]);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 1, 0, 0)), [7]);
    assert!(rows(&bench.ask(Op::Last, "ABEV3", 0, 0, 0)).is_empty());
    let answer = bench.ask(Op::Last, "ITUB4", 100, 0, 0);
    assert_eq!(rows(&answer), [4]);
    assert_eq!((end(&answer).rows.get(), end(&answer).as_of.get()), (1, 8));
    assert_eq!(answer[1].view::<Definition>().unwrap().symbol.as_str(), "ITUB4");
}

#[test]
fn a_range_is_by_event_time_with_the_first_in_and_the_last_out() {
    let (mut bench, core) = Bench::fed();
    // Enough for several blocks of the index, and times that go back.
    let count = limits::INDEX_BLOCK_TRADES as u64 * 2;
    let feed: Vec<Frame> = (0..count).map(|n| trade(n + 3, 0, (n * 7) % count)).collect();
    bench.feed(core, &feed);
    for (from, to) in [(0, 10), (100, 101), (count - 5, count + 5), (50, 50), (60, 40)] {
        let answer = bench.ask(Op::Range, "ABEV3", 0, from * SECOND, to * SECOND);
        let mut expected: Vec<(u64, u64)> = feed
            .iter()
            .map(|f| (f.ts_event.get() / SECOND, f.seq.get()))
            .filter(|&(second, _)| from <= second && second < to)
            .collect();
        expected.sort_unstable();
        let expected: Vec<u64> = expected.into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(rows(&answer), expected, "{from}..{to}");
    }
    assert_eq!(rows(&bench.ask(Op::Range, "ABEV3", 3, 0, u64::MAX)).len(), 3);
}

#[test]
fn bars_leave_out_what_was_cancelled_and_go_by_event_time() {
    let (mut bench, core) = Bench::fed();
    let frames = [
        trade(10, 0, 61),
        trade(30, 0, 5),
        trade(31, 0, 4),
        trade(32, 0, 62),
        cancel(33, 0, 32, 200),
        cancel(34, 0, 99, 3),
        trade(35, 1, 4),
    ];
    bench.deliver(core, &frames);
    let answer = bench.ask(Op::Bars, "ABEV3", 60, 0, u64::MAX);
    let bars: Vec<(u64, i64, u128)> = answer
        .iter()
        .filter_map(Frame::view::<BarTotals>)
        .map(|bar| (bar.ts_event.get() / SECOND, bar.close.get(), bar.volume.get()))
        .collect();
    assert_eq!(bars, [(0, 30, 2), (60, 10, 1)]);
    assert_eq!(end(&answer).rows.get(), 2);
}

#[test]
fn a_question_in_the_turn_of_its_frames_finds_them() {
    let (mut bench, core) = Bench::fed();
    let conn = bench.querier();
    bench.deliver(core, &[trade(3, 0, 10)]);
    bench.shard.handle_frames(bench.now, core, &[trade(4, 0, 10)]);
    let all = question(1, Op::Range, "ABEV3", 0, 0, u64::MAX);
    let last = question(2, Op::Last, "ABEV3", 1, 0, 0);
    bench.deliver(conn, &[all, last]);
    let frames = bench.read(conn);
    assert_eq!(rows(&frames), [3, 4, 4], "all of it, and then the last");
}

#[test]
fn what_cannot_be_answered_is_refused_with_the_reason() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10)]);
    let cases = [
        (Op::Last, "PETR4", 1, ErrorCode::NotOwner),
        (Op::Last, "AAAA", 1, ErrorCode::UnknownSymbol),
        (Op::Last, "ABEV3", 32_001, ErrorCode::Limit),
        (Op::Bars, "ABEV3", 0, ErrorCode::Limit),
        (Op::Bars, "ABEV3", 86_401, ErrorCode::Limit),
        (Op::Quote, "ABEV3", 1, ErrorCode::NotOwner),
        (Op::Replay, "ABEV3", 1, ErrorCode::NotOwner),
    ];
    for (op, symbol, limit, code) in cases {
        let answer = bench.ask(op, symbol, limit, 0, u64::MAX);
        assert_eq!(refusal(&answer), code as u16, "{op:?} {symbol} {limit}");
        assert_eq!(answer.len(), 1);
    }
    // Who owns the symbol does not matter.
    let answer = bench.ask(Op::Quote, "PETR4", 1, 0, u64::MAX);
    let text = crate::wire::unpadded(&answer[0].view::<Refusal>().unwrap().text);
    assert_eq!(text, "a shard answers for history and nothing else");
}

#[test]
fn a_flood_of_questions_is_refused() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10)]);
    let conn = bench.querier();
    let count = u32::try_from(limits::LEAF_QUERIES_MAX).unwrap() + 1;
    let flood: Vec<Frame> =
        (1..=count).map(|id| question(id, Op::Last, "ABEV3", 1, 0, 0)).collect();
    bench.deliver(conn, &flood);
    let frames = bench.read(conn);
    let refused: Vec<u32> =
        frames.iter().filter_map(Frame::view::<Refusal>).map(|r| r.id.get()).collect();
    assert_eq!(refused, [count]);
    assert_eq!(frames.iter().filter_map(Frame::view::<Ended>).count(), flood.len() - 1);
}

#[test]
fn answers_are_the_same_whatever_is_taken_at_once() {
    let (mut bench, core) = Bench::fed();
    let feed: Vec<Frame> = (3..1_603).map(|seq| trade(seq, 0, seq)).collect();
    bench.feed(core, &feed);
    let ask = [
        question(1, Op::Last, "ABEV3", 1_500, 0, 0),
        question(2, Op::Range, "ABEV3", 0, 0, u64::MAX),
        question(3, Op::Bars, "ABEV3", 60, 0, u64::MAX),
    ];
    let mut answers = Vec::new();
    for bite in [1, 63, 64, 1_000, usize::MAX] {
        let conn = bench.querier();
        bench.deliver(conn, &ask);
        answers.push(bench.read_bytes(conn, bite));
    }
    assert!(answers.iter().all(|bytes| *bytes == answers[0]));
    let (mut current, mut of_query) = (0, [0, 0, 0, 0]);
    for frame in frames_of(&answers[0]) {
        match frame.view::<Run>() {
            Some(run) => current = run.id.get() as usize,
            None if frame.kind == Kind::Trade as u8 => of_query[current] += 1,
            None => {}
        }
    }
    assert_eq!(of_query, [0, 1_500, 1_600, 0]);
}

#[test]
fn a_stopped_answer_says_nothing_more() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10)]);
    let conn = bench.querier();
    let stop = question(1, Op::Stop, "", 0, 0, 0);
    bench.deliver(conn, &[question(1, Op::Last, "ABEV3", 1, 0, 0), stop]);
    assert!(rows(&bench.read(conn)).is_empty());
}

#[test]
fn a_restart_finds_everything_again() {
    let (mut bench, core) = Bench::fed();
    for seq in 3..300 {
        bench.deliver(core, &[trade(seq, u32::from(seq % 3 == 0), seq)]);
    }
    bench.deliver(core, &[cancel(300, 0, 299, 300)]);
    let ask = |bench: &mut Bench| {
        let last = bench.ask(Op::Last, "ABEV3", 1_000, 0, 0);
        let bars = bench.ask(Op::Bars, "ITUB4", 60, 0, u64::MAX);
        [last, bars].map(|mut frames| {
            // The END may know of a later sync.
            let end = end(&frames);
            frames.pop();
            (frames, end.rows, end.as_of)
        })
    };
    let before = ask(&mut bench);
    let mut bench = bench.restart();
    assert_eq!(ask(&mut bench), before);
    let (_, session) = bench.core(2, 301);
    assert_eq!(session.view::<Session>().unwrap().next_seq.get(), 301);
}

#[test]
fn a_new_epoch_takes_back_what_core_lost() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10), trade(4, 0, 11), trade(5, 1, 12), trade(6, 0, 13)]);
    bench.turn();
    bench.read(core);
    let (core, session) = bench.core(2, 4);
    let session = session.view::<Session>().unwrap();
    assert_eq!((session.epoch.get(), session.next_seq.get()), (2, 4));
    assert!(session.durable_seq.get() <= 4, "what is void is not durable");
    for (accepted, durable) in bench.acks(core) {
        assert!(durable <= accepted, "{durable} above {accepted}");
    }
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3]);
    bench.deliver(core, &[trade(4, 1, 20), trade(5, 0, 21)]);
    let told = |bench: &mut Bench| {
        let of = ["ABEV3", "ITUB4"].map(|symbol| rows(&bench.ask(Op::Last, symbol, 10, 0, 0)));
        assert_eq!(of, [vec![3, 5], vec![4]]);
    };
    told(&mut bench);
    // The index is built anew from a log in which the void frames still stand.
    let mut bench = bench.restart();
    told(&mut bench);
    let (core, answer) = bench.core(1, 1);
    let epoch = answer.view::<Session>().unwrap().epoch.get();
    assert_eq!(epoch, 2, "the journal of before is told where it stands");
    let told = Session { epoch: U32::new(1), epoch_start: U64::new(9), ..continues(0) };
    bench.deliver(core, &[Frame::seal(told)]);
    assert_eq!(refusal(&bench.read(core)), ErrorCode::Failed as u16);
}

/// Core's second word: this shard's epoch is part of its sequence.
fn continues(give_up: u16) -> Session {
    let (role, options) = (Role::Feeder as u8, U16::new(Session::CONTINUES | give_up));
    Session { role, source: 1, options, ..Session::default() }
}

#[test]
fn a_shard_that_missed_an_epoch_asks_where_it_began() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10), trade(4, 0, 11)]);
    let (core, _) = bench.core(2, 5);
    bench.deliver(core, &[trade(5, 0, 12), trade(6, 0, 13), trade(7, 0, 14)]);
    let (core, session) = bench.core(4, 9);
    let session = session.view::<Session>().unwrap();
    assert_eq!((session.epoch.get(), session.next_seq.get()), (2, 8), "it says where it stands");
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3, 4, 5, 6, 7]);
    // Epoch 3 began at 6; what stands before that is good, and is not asked for again.
    let (epoch, epoch_start) = (U32::new(4), U64::new(6));
    let told = Session { epoch, epoch_start, ..continues(Session::GIVE_UP) };
    bench.deliver(core, &[Frame::seal(told)]);
    let answer = bench.read(core)[0];
    let answer = answer.view::<Session>().unwrap();
    assert_eq!((answer.epoch.get(), answer.next_seq.get()), (4, 6));
    bench.deliver(core, &[trade(6, 0, 20)]);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3, 4, 5, 6]);
}

mod continuity;
mod feeders;
mod freshness;
mod holes;
mod names;
mod partition;
mod promises;
mod retention;
mod venues;
