//! Feeders that are not core, or not what they say: nothing that they cause outlives the next right one.

use super::*;

#[test]
fn a_living_feeder_is_not_displaced_and_a_half_open_one_is_soon() {
    let (mut bench, core) = Bench::fed();
    let other = bench.open();
    bench.deliver(other, &[feeder(1, 1, 0)]);
    assert_eq!(refusal(&bench.read(other)), ErrorCode::Unexpected as u16);
    assert!(!bench.actions.contains(&Action::Close(core)));
    bench.read(core);
    bench.sleep_ms(5_000);
    // It was quiet: it is asked for a sign of life.
    let other = bench.open();
    bench.deliver(other, &[feeder(1, 1, 0)]);
    assert_eq!(refusal(&bench.read(other)), ErrorCode::Unexpected as u16);
    let asked = bench.read(core);
    assert!(asked[0].view::<Heartbeat>().unwrap().flags.get() & Flags::MORE != 0);
    bench.deliver(core, &[beat_to(0)]);
    bench.sleep_ms(1_000);
    let other = bench.open();
    bench.deliver(other, &[feeder(1, 1, 0)]);
    assert_eq!(refusal(&bench.read(other)), ErrorCode::Unexpected as u16);
    // Now it is gone without a word.
    bench.sleep_ms(2_000);
    let other = bench.open();
    bench.deliver(other, &[feeder(1, 1, 0)]);
    bench.sleep_ms(2_000);
    let other = bench.open();
    bench.deliver(other, &[feeder(1, 1, 0)]);
    assert!(bench.read(other)[0].view::<Session>().is_some());
    assert!(bench.actions.contains(&Action::Close(core)));
    bench.deliver(core, &[trade(3, 0, 10)]);
    bench.deliver(other, &[trade(4, 0, 10)]);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [4]);
    bench.shard.handle_close(bench.now, core, CloseReason::Ours);
    assert_eq!(bench.shard.feed.seat.holder(), Some(other));
}

#[test]
fn the_last_of_all_epochs_changes_nothing() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10)]);
    for _ in 0..2 {
        let (_, answer) = bench.core_at(u32::MAX, 1, 4);
        assert_eq!(refusal(&[answer]), ErrorCode::Unexpected as u16);
    }
    let (_, answer) = bench.core_at(1, 1, 4);
    assert_eq!(answer.view::<Session>().unwrap().next_seq.get(), 4);
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), [3]);
}

#[test]
fn a_heartbeat_ahead_skips_nothing_for_good() {
    let (mut bench, core) = Bench::fed();
    bench.deliver(core, &[trade(3, 0, 10)]);
    // Somebody says that everything before 50 was sent, and leaves.
    let (rogue, _) = bench.core_at(1, 1, 4);
    bench.deliver(rogue, &[beat_to(50)]);
    bench.turn();
    assert_eq!(bench.shard.wanted().get(), 50);
    // Core is at 20: the place is nobody's.
    let (core, answer) = bench.core_at(1, 1, 20);
    let session = answer.view::<Session>().unwrap();
    assert_eq!((session.next_seq.get(), bench.shard.wanted().get()), (4, 4));
    bench.feed(core, &[trade(4, 0, 11), trade(19, 0, 12)]);
    assert_eq!(bench.acks(core).last(), Some(&(20, 20)));
    // And one that is not beyond core's place: what it skipped is asked for again.
    let (rogue, _) = bench.core_at(1, 1, 20);
    bench.deliver(rogue, &[beat_to(30)]);
    bench.turn();
    let (core, answer) = bench.core_at(1, 1, 40);
    assert_eq!(answer.view::<Session>().unwrap().next_seq.get(), 20);
    bench.feed(core, &[trade(25, 0, 13)]);
    assert_eq!(bench.acks(core), [], "it told another one of more than that");
    bench.feed(core, &[trade(35, 0, 13)]);
    assert_eq!(bench.acks(core).last(), Some(&(36, 36)));
    let held = rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0));
    assert_eq!(held, [3, 4, 19, 25, 35]);
    let mut bench = bench.restart();
    assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), held);
}

fn trade_at(seq: u64) -> Frame {
    let mut frame = trade(3, 0, 10);
    frame.seq = U64::new(seq);
    frame.renew_crc();
    frame
}

#[test]
fn numbers_that_no_sequence_reaches_are_refused() {
    for frames in [
        [beat_to(1 << 63), beat_to(u64::MAX)],
        [trade_at(1 << 62), trade_at(u64::MAX - 1)],
        [super::holes::hole(5, 1 << 60), super::holes::hole(5, u64::MAX - 1)],
    ] {
        for frame in frames {
            let (mut bench, core) = Bench::fed();
            bench.read(core);
            bench.deliver(core, &[frame]);
            let last = *bench.read(core).last().unwrap();
            assert_eq!(refusal(&[last]), ErrorCode::Unexpected as u16, "{frame:?}");
            assert_eq!(bench.shard.wanted().get(), 3);
        }
    }
    let (mut bench, _) = Bench::fed();
    let (_, answer) = bench.core_at(1, 1, 1 << 63);
    assert_eq!(refusal(&[answer]), ErrorCode::Unexpected as u16);
}
