//! Whether the shard has all that core has, and what its answers say of it.

use super::*;
use crate::wire::EndStatus;

/// The same with a limit of 3 s. Core answers what the shard asks when it is told to.
fn judged() -> (Bench, ConnId) {
    let (mut bench, core) = Bench::fed();
    bench.shard.config.behind_max = Duration::from_secs(3);
    bench.deliver(core, &[trade(3, 0, 10)]);
    (bench, core)
}

/// What the shard asks of core.
fn probes(bench: &mut Bench, core: ConnId) -> Vec<Heartbeat> {
    let frames = bench.read(core);
    let beats = frames.iter().filter(|frame| frame.has(Flags::MORE));
    beats.filter_map(Frame::view::<Heartbeat>).copied().collect()
}

fn has_all() -> Frame {
    Frame::seal(Heartbeat { token: U32::new(1), ..Heartbeat::default() })
}

/// Status and code of the answer about ABEV3, and how far behind it says to be.
fn last(bench: &mut Bench) -> (u8, u16, u32) {
    let end = end(&bench.ask(Op::Last, "ABEV3", 10, 0, 0));
    (end.status, end.code.get(), end.behind_ms.get())
}

const COMPLETE: u8 = EndStatus::Complete as u8;
const BEHIND: (u8, u16) = (EndStatus::Partial as u8, ErrorCode::Behind as u16);

#[test]
fn an_answer_of_a_shard_that_nobody_feeds_is_not_complete() {
    let (mut bench, core) = judged();
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, Ended::BEHIND_UNKNOWN), "it cannot know");
    bench.deliver(core, &[has_all()]);
    assert_eq!(last(&mut bench), (COMPLETE, 0, 0));
    bench.shard.handle_close(bench.now, core, CloseReason::Reset);
    bench.sleep_ms(3_000);
    assert_eq!(last(&mut bench), (COMPLETE, 0, 3_000));
    bench.sleep_ms(7_000);
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, 10_000));
    // Core is back, and sends frames; until it has said that these are all, there may be more.
    let (core, _) = bench.core(1, 1);
    bench.deliver(core, &[trade(4, 0, 10)]);
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, 10_000));
    bench.deliver(core, &[has_all()]);
    assert_eq!(last(&mut bench), (COMPLETE, 0, 0));
}

#[test]
fn a_core_that_stands_still_keeps_its_connection_and_feeds_nobody() {
    let (mut bench, core) = judged();
    assert_eq!(probes(&mut bench, core).len(), 0, "the first one went with the greeting");
    bench.deliver(core, &[has_all()]);
    for _ in 0..10 {
        bench.sleep_ms(1_000);
        assert_eq!(probes(&mut bench, core).len(), 1);
        bench.deliver(core, &[has_all()]);
        assert_eq!(last(&mut bench), (COMPLETE, 0, 0), "a quiet market makes nobody old");
    }
    bench.sleep_ms(1_000);
    assert_eq!(probes(&mut bench, core).len(), 1);
    bench.sleep_ms(1_000);
    assert_eq!(probes(&mut bench, core).len(), 0, "one at a time");
    bench.sleep_ms(2_000);
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, 4_000));
    // What is answered late was true when it was asked.
    bench.deliver(core, &[has_all()]);
    assert_eq!(last(&mut bench), (COMPLETE, 0, 3_000));
}

#[test]
fn a_restart_knows_nothing_and_a_name_may_be_new() {
    let (mut bench, core) = judged();
    bench.deliver(core, &[has_all()]);
    assert_eq!(refusal(&bench.ask(Op::Last, "B", 1, 0, 0)), ErrorCode::UnknownSymbol as u16);
    let mut bench = bench.restart();
    bench.shard.config.behind_max = Duration::from_secs(3);
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, Ended::BEHIND_UNKNOWN));
    assert_eq!(refusal(&bench.ask(Op::Last, "B", 1, 0, 0)), ErrorCode::Behind as u16);
}

#[test]
fn an_answer_at_a_cut_lacks_nothing_for_being_old() {
    let (mut bench, _) = judged();
    let conn = bench.querier();
    let query = *question(1, Op::Last, "ABEV3", 10, 0, 0).view::<Query>().unwrap();
    let cut = Question::new(&query).unwrap().cut_at(Seq::new(4));
    bench.deliver(conn, &cut.frames());
    let end = end(&bench.read(conn));
    assert_eq!((end.status, end.code.get()), (COMPLETE, 0));
    assert_eq!(end.behind_ms.get(), Ended::BEHIND_UNKNOWN, "whoever chose the cut judges");
}

#[test]
fn what_the_log_cannot_note_makes_nobody_fresh() {
    let (mut bench, core) = judged();
    probes(&mut bench, core);
    // No further segment can be made, and this one has no room for a mark.
    bench.disk.set_bytes_max(SEGMENT_BYTES);
    let mut seq = 4;
    while bench.shard.log.append(&trade(seq, 0, 10)).is_ok() {
        seq += 1;
    }
    let next_seq = U64::new(1_000);
    let beat = Frame::seal(Heartbeat { token: U32::new(1), next_seq, ..Heartbeat::default() });
    bench.deliver(core, &[beat]);
    assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, Ended::BEHIND_UNKNOWN));
    bench.disk.set_bytes_max(usize::MAX);
    bench.sleep_ms(1_000);
    bench.sleep_ms(1_000);
    assert_eq!(probes(&mut bench, core).len(), 1, "core is asked again");
    bench.deliver(core, &[beat]);
    assert_eq!(last(&mut bench), (COMPLETE, 0, 0));
}

#[test]
fn who_says_what_no_core_can_say_has_made_nobody_fresh() {
    for place in [1 << 60, u64::MAX] {
        let (mut bench, rogue) = judged();
        bench.deliver(rogue, &[has_all()]);
        assert_eq!(last(&mut bench), (COMPLETE, 0, 0));
        let next_seq = U64::new(place);
        bench.deliver(rogue, &[Frame::seal(Heartbeat { next_seq, ..Heartbeat::default() })]);
        assert_eq!(last(&mut bench), (BEHIND.0, BEHIND.1, Ended::BEHIND_UNKNOWN), "{place}");
    }
}

#[test]
fn whoever_asks_where_it_is_hears_whether_that_is_all() {
    let (mut bench, core) = judged();
    let conn = bench.querier();
    let said = |bench: &mut Bench| {
        let asks = Heartbeat { flags: U16::new(Flags::MORE), ..Heartbeat::default() };
        bench.deliver(conn, &[Frame::seal(asks)]);
        let beat = *bench.read(conn).last().unwrap().view::<Heartbeat>().unwrap();
        (beat.next_seq.get(), beat.flags.get())
    };
    assert_eq!(said(&mut bench), (4, Flags::STALE), "it cannot know");
    bench.deliver(core, &[has_all()]);
    assert_eq!(said(&mut bench), (4, 0));
    bench.sleep_ms(2_500);
    assert_eq!(said(&mut bench), (4, Flags::STALE));
}
