//! The end of a tape: each consumer that has all of it is told so.

use super::*;

/// What a consumer is told of the end: where it stands, and whether anything comes behind.
fn ends(frames: &[Frame]) -> Vec<(u64, bool)> {
    let beats = frames.iter().filter_map(Frame::view::<Heartbeat>);
    let ended = |beat: &Heartbeat| FeedStatus::of(beat.flags.get()) == FeedStatus::Ended;
    beats.map(|beat| (beat.next_seq.get(), ended(beat))).collect()
}

#[test]
fn the_end_of_a_tape_is_told_once_and_behind_the_last_frame() {
    let mut bench = Bench::new(tapes(&[0, 40], false), times(1_000));
    let conn = bench.connect(0, 1);
    let begin = bench.flush(conn);
    assert_eq!((seqs(&begin), ends(&begin)), (vec![1, 2, 3], vec![]));
    bench.deliver(conn, &[beat(1)]);
    assert_eq!(ends(&bench.flush(conn)), [(4, false)], "there is more");
    bench.sleep_until(40);
    let end = bench.flush(conn);
    assert_eq!((seqs(&end), ends(&end)), (vec![4], vec![(5, true)]));
    assert_eq!(end.last().unwrap().kind(), Some(Kind::Heartbeat));
    bench.sleep_until(TICK_MS / 2);
    assert!(bench.flush(conn).is_empty(), "it is told once");
    bench.deliver(conn, &[beat(2)]);
    assert_eq!(ends(&bench.flush(conn)), [(5, true)], "but each answer says it");
}

#[test]
fn who_goes_back_or_comes_late_is_told_of_the_end_too() {
    let mut bench = Bench::new(tapes(&[0, 0], false), Speed::Max);
    let conn = bench.connect(0, 1);
    assert_eq!(ends(&bench.read(conn)), [(5, true)]);
    bench.deliver(conn, &[resume(7, 4)]);
    let again = bench.read(conn);
    assert_eq!((seqs(&again), ends(&again)), (vec![4], vec![(4, false), (5, true)]));
    let late = bench.connect(bench.feed(), 5);
    let frames = bench.read(late);
    assert_eq!((seqs(&frames), ends(&frames)), (vec![], vec![(5, true)]));
}

#[test]
fn a_tape_that_begins_again_and_a_synthetic_market_never_end() {
    for feed in [tapes(&[0, 1], true), synthetic(1_000)] {
        let mut bench = Bench::new(feed, times(1_000));
        let conn = bench.connect(0, 1);
        for ms in 0..10 {
            bench.sleep_until(ms);
            bench.deliver(conn, &[beat(1)]);
            assert!(ends(&bench.flush(conn)).iter().all(|(_, is_end)| !is_end));
        }
    }
}
