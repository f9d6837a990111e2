//! What a shard still knows when the beginning of its log is gone.

use super::*;
use crate::log::{Read, is_statement};
use crate::wire::{Gap, GapReason};

/// Room for so many segments.
fn keeping(segments: usize) -> LogConfig {
    let retention = Retention { bytes_max: Some((segments * SEGMENT_BYTES) as u64), age_max: None };
    LogConfig { retention, ..log_config() }
}

fn open(disk: MemoryDisk, config_of_log: LogConfig, now: Now) -> Bench {
    let (log, recovery) = Log::open(disk.storage(), config_of_log, now).unwrap();
    let shard = Shard::new(config(), log, &recovery);
    Bench { shard, disk, now, next_slot: 0, actions: Vec::new() }
}

#[test]
fn instruments_outlive_the_segments_that_defined_them() {
    let now = Now { mono: Mono(SECOND), wall_ns: 7 };
    let mut bench = open(MemoryDisk::new(512), keeping(6), now);
    let (core, _) = bench.core(1, 1);
    bench.deliver(core, &[definition(1, 0, "ABEV3"), definition(2, 1, "ITUB4"), trade(3, 1, 3)]);
    let feed: Vec<Frame> = (4..404).map(|seq| trade(seq, 0, seq)).collect();
    bench.feed(core, &feed);
    let check = |bench: &mut Bench| {
        let first_seq = bench.shard.first_seq().get();
        assert!(first_seq > 200, "{first_seq}: nothing was removed");
        let answer = bench.ask(Op::Last, "ABEV3", 1_000, 0, 0);
        assert_eq!(rows(&answer), (first_seq..404).collect::<Vec<_>>());
        assert_eq!(end(&answer).rows.get() as u64, 404 - first_seq);
        assert_eq!(end(&answer).covered_from.get(), first_seq * SECOND, "it says where it begins");
        let range = bench.ask(Op::Range, "ABEV3", 0, 0, 300 * SECOND);
        assert_eq!(rows(&range), (first_seq..300).collect::<Vec<_>>());
        // Its only trade is gone, and it is still known.
        let answer = bench.ask(Op::Last, "ITUB4", 10, 0, 0);
        assert!(rows(&answer).is_empty());
        assert_eq!(answer[1].view::<Definition>().unwrap().symbol.as_str(), "ITUB4");
    };
    check(&mut bench);
    let mut bench = open(bench.disk.kill(), keeping(6), now);
    check(&mut bench);
    let (core, answer) = bench.core(1, 1);
    assert_eq!(answer.view::<Session>().unwrap().next_seq.get(), 404);
    bench.feed(core, &[trade(404, 1, 404)]);
    assert_eq!(rows(&bench.ask(Op::Last, "ITUB4", 10, 0, 0)), [404]);
}

#[test]
fn a_shard_that_comes_late_says_where_its_history_begins() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(3, 1);
    let gap = Gap::uncounted(GapReason::SourceLost, Seq::FIRST, Seq::new(999).unwrap());
    let known = definition(2, 0, "ABEV3").delivered(Flags::SNAPSHOT);
    bench.deliver(core, &[known, Frame::seal(gap), trade(1_003, 0, 5)]);
    bench.turn();
    assert_eq!(bench.acks(core).last(), Some(&(1_004, 1_004)));
    let check = |bench: &mut Bench, last: &[u64]| {
        assert_eq!(bench.shard.first_seq().get(), 1_000);
        assert_eq!(rows(&bench.ask(Op::Last, "ABEV3", 10, 0, 0)), last);
    };
    check(&mut bench, &[1_003]);
    for _ in 0..2 {
        bench = bench.restart();
        check(&mut bench, &[1_003]);
    }
    let (core, answer) = bench.core(3, 1);
    assert_eq!(answer.view::<Session>().unwrap().next_seq.get(), 1_004);
    bench.feed(core, &(1_004..1_100).map(|seq| trade(seq, 0, seq)).collect::<Vec<_>>());
    let mut bench = bench.restart();
    check(&mut bench, &(1_090..1_100).collect::<Vec<_>>());
}

#[test]
fn every_segment_but_the_first_begins_with_the_definitions() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &(3..203).map(|seq| trade(seq, 0, seq)).collect::<Vec<_>>());
    let log = &bench.shard.log;
    let mut heads = 0;
    for base in (SEGMENT_RECORDS..log.committed_position()).step_by(32) {
        let Read::Frames(frames) = log.read(base, usize::MAX) else { panic!("no damage here") };
        let head = frames.iter().take_while(|frame| !crate::log::is_event(frame));
        assert_eq!(head.filter(|frame| is_statement(frame)).count(), 2, "at {base}");
        heads += 1;
    }
    assert!(heads > 5, "{heads}");
}
