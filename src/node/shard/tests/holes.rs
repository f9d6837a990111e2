//! What core has lost: kept through restarts, crashes and retention, and reported to whom it matters.

use super::*;
use crate::log::hole_in;
use crate::wire::{EndStatus, Gap, GapReason};

pub(super) fn hole(from: u64, to: u64) -> Frame {
    let (from, to) = (Seq::new(from).unwrap(), Seq::new(to).unwrap());
    Frame::seal(Gap::uncounted(GapReason::Corrupt, from, to))
}

/// A trade at this minute, received then.
fn at_minute(seq: u64, index: u32, minute: u64) -> Frame {
    let mut frame = trade(seq, index, minute * 60);
    let mut view = *frame.view::<Trade>().unwrap();
    view.ts_recv = view.ts_event;
    frame = Frame::seal(view);
    frame
}

const MINUTE: u64 = 60 * SECOND;

/// ABEV3 has a trade each minute from 3 to 39, but for 20 to 22, which core lost.
fn with_hole() -> (Bench, ConnId) {
    let (mut bench, core) = Bench::fed();
    let trades = |seqs: std::ops::Range<u64>| seqs.map(|seq| at_minute(seq, 0, seq)).collect();
    let before: Vec<Frame> = trades(3..20);
    let behind: Vec<Frame> = trades(23..40);
    bench.feed(core, &before);
    bench.feed(core, &[hole(20, 22)]);
    bench.feed(core, &behind);
    (bench, core)
}

fn status(frames: &[Frame]) -> u8 {
    end(frames).status
}

const COMPLETE: u8 = EndStatus::Complete as u8;
const PARTIAL: u8 = EndStatus::Partial as u8;

fn ask_of(bench: &mut Bench, options: u8, op: Op, limit: u32, minutes: (u64, u64)) -> Vec<Frame> {
    let conn = bench.querier();
    let range = (minutes.0 * MINUTE, minutes.1.saturating_mul(MINUTE));
    let mut query = *question(1, op, "ABEV3", limit, range.0, range.1).view::<Query>().unwrap();
    query.options = options;
    bench.deliver(conn, &[Frame::seal(query)]);
    let frames = bench.read(conn);
    bench.shard.handle_close(bench.now, conn, CloseReason::PeerClosed);
    frames
}

fn check_answers(bench: &mut Bench) {
    let mut by_event = |op, limit, minutes| status(&ask_of(bench, 0, op, limit, minutes));
    // The trades before and behind it are at 19 and 23, and a lost one may be a minute off.
    assert_eq!(by_event(Op::Range, 0, (0, 18)), COMPLETE);
    assert_eq!(by_event(Op::Range, 0, (0, 19)), PARTIAL);
    assert_eq!(by_event(Op::Range, 0, (21, 22)), PARTIAL);
    assert_eq!(by_event(Op::Range, 0, (24, 30)), PARTIAL);
    assert_eq!(by_event(Op::Range, 0, (25, u64::MAX)), COMPLETE);
    // A cancellation that was lost may have taken back what was traded long before.
    assert_eq!(by_event(Op::Bars, 60, (3, 5)), PARTIAL);
    assert_eq!(by_event(Op::Count, 0, (3, 5)), PARTIAL);
    assert_eq!(by_event(Op::Bars, 60, (25, 40)), COMPLETE);
    assert_eq!(by_event(Op::Count, 0, (25, 40)), COMPLETE);
    // 23 to 39 are seventeen trades, and an eighteenth would be on the other side.
    assert_eq!(by_event(Op::Last, 17, (0, 0)), COMPLETE);
    assert_eq!(by_event(Op::Last, 18, (0, 0)), PARTIAL);
    assert_eq!(by_event(Op::Last, 1_000, (0, 0)), PARTIAL);
    let mut by_receive =
        |op, limit, minutes| status(&ask_of(bench, Query::RECEIVE_TIME, op, limit, minutes));
    assert_eq!(by_receive(Op::Bars, 60, (3, 5)), PARTIAL);
    assert_eq!(by_receive(Op::Count, 0, (3, 5)), PARTIAL);
    assert_eq!(by_receive(Op::Bars, 60, (24, 40)), COMPLETE);
    assert_eq!(by_receive(Op::Count, 0, (24, 40)), COMPLETE);
    let mut received = |minutes| by_receive(Op::Range, 0, minutes);
    assert_eq!(received((0, 19)), COMPLETE);
    assert_eq!(received((0, 20)), PARTIAL);
    assert_eq!(received((23, 30)), PARTIAL, "it may have been received in the same instant");
    assert_eq!(received((24, 30)), COMPLETE);
    // What is covered is what is whole.
    let answer = ask_of(bench, 0, Op::Range, 0, (0, u64::MAX));
    assert_eq!((end(&answer).rows.get(), status(&answer)), (34, PARTIAL));
    let covered = (end(&answer).covered_from.get(), end(&answer).covered_to.get());
    assert_eq!(covered, (23 * MINUTE, 39 * MINUTE + 1));
    let whole = ask_of(bench, 0, Op::Range, 0, (0, 18));
    assert_eq!(end(&whole).covered_from.get(), 3 * MINUTE);
}

#[test]
fn answers_that_touch_a_hole_say_so_and_others_do_not_also_after_restarts() {
    let (mut bench, _) = with_hole();
    assert_eq!(bench.shard.wanted().get(), 40);
    for _ in 0..3 {
        check_answers(&mut bench);
        bench = bench.restart();
    }
    assert!(bench.actions.is_empty() || bench.shard.index.holes.len() == 1);
}

#[test]
fn a_cut_before_the_hole_is_whole() {
    let (mut bench, _) = with_hole();
    let mut as_of = |cut: u64| {
        let conn = bench.querier();
        let mut query = *question(1, Op::Bars, "ABEV3", 60, 0, u64::MAX).view::<Query>().unwrap();
        query.flags = crate::wire::U16::new(Flags::MORE);
        let more = QueryMore { id: query.id, as_of: U64::new(cut), ..QueryMore::default() };
        bench.deliver(conn, &[Frame::seal(query), Frame::seal(more)]);
        let frames = bench.read(conn);
        bench.shard.handle_close(bench.now, conn, CloseReason::PeerClosed);
        status(&frames)
    };
    assert_eq!(
        [as_of(19), as_of(20), as_of(21), as_of(40)],
        [COMPLETE, COMPLETE, PARTIAL, PARTIAL]
    );
}

#[test]
fn an_acknowledged_hole_survives_a_loss_of_power() {
    let (mut bench, core) = Bench::fed();
    bench.turn();
    bench.read(core);
    bench.disk.pause_jobs(true);
    bench.deliver(core, &[trade(3, 0, 10), hole(4, 9)]);
    assert_eq!(bench.acks(core), [(10, 3)], "accepted, and not durable yet");
    // Whatever a crash leaves: who no longer knows the hole asks for it again.
    for fate in [PageFate::Old, PageFate::New, PageFate::TornFront, PageFate::TornBack] {
        let mut left = Bench::on(bench.disk.crash(0, |_, _| fate), bench.now);
        let (_, session) = left.core(1, 1);
        let wanted = session.view::<Session>().unwrap().next_seq.get();
        assert!(wanted < 10 || left.shard.index.holes.has(4, 9), "{fate:?}: {wanted}");
    }
    bench.disk.pause_jobs(false);
    bench.turn();
    bench.turn();
    assert_eq!(bench.acks(core).last(), Some(&(10, 10)));
    let mut kept = Bench::on(bench.disk.crash(0, |_, _| PageFate::Old), bench.now);
    assert!(kept.shard.index.holes.has(4, 9));
    let (core, session) = kept.core(1, 1);
    let session = session.view::<Session>().unwrap();
    assert_eq!((session.next_seq.get(), session.durable_seq.get()), (4, 10));
    // Core comes to the hole again, and nothing new is stored.
    kept.feed(core, &[hole(4, 9)]);
    kept.feed(core, &[trade(10, 0, 20)]);
    assert_eq!(status(&kept.ask(Op::Last, "ABEV3", 2, 0, 0)), PARTIAL);
    assert_eq!(status(&kept.ask(Op::Last, "ABEV3", 1, 0, 0)), COMPLETE);
}

#[test]
fn what_the_shard_has_of_a_hole_stays_whole() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &(3..20).map(|seq| at_minute(seq, 0, seq)).collect::<Vec<_>>());
    // Core rots where the shard has been, and a little further.
    bench.feed(core, &[hole(5, 9)]);
    assert_eq!(bench.shard.index.holes.len(), 0);
    bench.feed(core, &[hole(15, 24)]);
    assert!(bench.shard.index.holes.has(20, 24) && !bench.shard.index.holes.has(19, 24));
    bench.feed(core, &[hole(20, 24), at_minute(25, 0, 40)]);
    assert_eq!(bench.shard.wanted().get(), 26);
    let answer = ask_of(&mut bench, 0, Op::Range, 0, (0, 18));
    assert_eq!((rows(&answer).len(), status(&answer)), (15, COMPLETE));
}

#[test]
fn a_hole_goes_with_the_segments_that_it_lies_in_and_not_before() {
    let now = Now { mono: Mono(SECOND), wall_ns: 7 };
    let retention = Retention { bytes_max: Some(6 * SEGMENT_BYTES as u64), age_max: None };
    let keeping = LogConfig { retention, ..log_config() };
    let open = |disk: MemoryDisk| {
        let (log, recovery) = Log::open(disk.storage(), keeping, now).unwrap();
        let shard = Shard::new(config(), log, &recovery);
        Bench { shard, disk, now, next_slot: 0, actions: Vec::new() }
    };
    let mut bench = open(MemoryDisk::new(512));
    let (core, _) = bench.core(1, 1);
    bench.feed(core, &[definition(1, 0, "ABEV3"), trade(2, 0, 2), hole(3, 150)]);
    let mut forgotten = None;
    for seq in 151..451 {
        bench.feed(core, &[trade(seq, 0, seq)]);
        let first_seq = bench.shard.first_seq().get();
        assert_eq!(bench.shard.index.holes.has(3, 150), first_seq <= 150, "from {first_seq} on");
        if first_seq > 150 && forgotten.is_none() {
            forgotten = Some(seq);
            bench = open(bench.disk.kill());
            bench.turn();
            assert_eq!(bench.shard.index.holes.len(), 0);
            break;
        }
        if seq == 200 {
            // Its own record is still there, and the heads of segments say it too.
            let log = &bench.shard.log;
            let head = log.read(log.committed_position() / 32 * 32, 8);
            let crate::log::Read::Frames(head) = head else { panic!("no damage here") };
            assert!(head.iter().any(|frame| hole_in(frame).is_some()));
        }
    }
    assert!(forgotten.is_some());
}

#[test]
fn an_epoch_that_begins_within_a_hole_takes_the_rest_of_it_back() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &[trade(3, 0, 3), hole(4, 9)]);
    bench.shard.handle_close(bench.now, core, CloseReason::Reset);
    let (core, _) = bench.core(2, 7);
    bench.feed(core, &[trade(7, 0, 7), trade(10, 0, 8)]);
    for _ in 0..2 {
        let holes = &bench.shard.index.holes;
        assert!(holes.has(4, 6) && !holes.has(7, 7) && !holes.has(9, 9));
        bench = bench.restart();
    }
}

#[test]
fn holes_without_end_are_bounded_and_none_is_forgotten() {
    let (mut bench, core) = Bench::fed();
    let mut lost = Vec::new();
    let mut seq = 3;
    for _ in 0..limits::HOLES_MAX * 2 {
        bench.feed(core, &[trade(seq, 0, seq), hole(seq + 1, seq + 2)]);
        lost.push(seq + 1);
        seq += 3;
    }
    for _ in 0..2 {
        let holes = &bench.shard.index.holes;
        assert!(
            holes.len() <= limits::HOLES_MAX && lost.iter().all(|seq| holes.has(*seq, seq + 1))
        );
        bench = bench.restart();
    }
    assert_eq!(status(&bench.ask(Op::Last, "ABEV3", 2, 0, 0)), PARTIAL);
}

#[test]
fn a_hole_before_where_a_heartbeat_has_led_the_shard_is_told() {
    let (mut bench, rogue) = Bench::fed();
    bench.deliver(rogue, &[beat_to(90), beat_to(1 << 60)]);
    assert_eq!(bench.shard.wanted().get(), 90);
    bench.shard.handle_close(bench.now, rogue, CloseReason::Ours);
    // Core begins behind the last frame that is here, and has lost the next one.
    let (core, _) = bench.core(1, 1);
    bench.feed(core, &[hole(3, 3), at_minute(4, 0, 4)]);
    assert_eq!(status(&ask_of(&mut bench, 0, Op::Last, 10, (0, u64::MAX))), PARTIAL);
    assert!(bench.shard.index.holes.has(3, 3));
}
