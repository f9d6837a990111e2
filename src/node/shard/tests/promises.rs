//! Small promises that a mistake would break in silence.

use super::*;

#[test]
fn a_log_that_cannot_be_synced_ends_the_shard_and_one_that_cannot_be_closed_is_told() {
    let (mut bench, core) = Bench::fed();
    assert_eq!(bench.shard.failure(), None);
    bench.disk.fail_sync_after(0);
    bench.feed(core, &[trade(3, 0, 1)]);
    bench.sleep_ms(100);
    bench.sleep_ms(100);
    assert!(bench.shard.failure().is_some_and(|text| text.starts_with("the log ")));
    let (mut bench, _) = Bench::fed();
    bench.disk.fail_sync_after(0);
    bench.shard.handle_stop(bench.now);
    assert!(bench.shard.failure().is_some_and(|text| text.contains("not closed cleanly")));
}

#[test]
fn a_shard_that_stops_in_good_order_has_closed_its_log() {
    let (mut bench, _) = Bench::fed();
    bench.shard.handle_stop(bench.now);
    assert_eq!(bench.shard.failure(), None);
    let (_, recovery) = Log::open(bench.disk.storage(), log_config(), bench.now).unwrap();
    assert!(recovery.clean);
}

#[test]
fn questions_that_wait_have_a_bound_for_all_connections_together() {
    let (mut bench, _) = Bench::fed();
    let others = ConnId { generation: 99, slot: 99 };
    let others = bench.shard.connections.principal(others);
    bench.shard.load.waiting.change(others, 0, limits::WAITING_QUERIES_MAX);
    let querier = bench.querier();
    let ahead = crate::question::Question::new(&Query {
        id: U32::new(4),
        op: Op::Last as u8,
        symbol: padded("ABEV3"),
        deadline_us: U32::new(1_000_000),
        ..Query::default()
    });
    bench.deliver(querier, &ahead.unwrap().cut_at(Seq::new(1_000)).frames());
    let refusal = *bench.read(querier)[0].view::<Refusal>().expect("a refusal");
    assert_eq!((refusal.id.get(), refusal.code.get()), (4, ErrorCode::Limit as u16));
}

#[test]
fn its_status_says_what_it_holds_and_how_far_it_is() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &[trade(3, 0, 1), trade(4, 1, 2)]);
    bench.sleep_ms(100);
    let expected = [
        "role shard-A",
        "feeder connected",
        "epoch_id 0000000000000000",
        "epoch 1",
        "next_seq 5",
        "durable_seq 5",
        "behind_ms -1",
        "first_seq 1",
        "log_bytes 6144",
        "instruments 2",
        "trades 2",
        "index_bytes 384",
        "queries 0",
        "queries_waiting 0",
        "duplicates 0",
        "damaged_records 0",
        "holes 0",
        "front_missing 0",
        "held_back 0",
        "connections 1",
        "refused 0",
        "local_faults 0",
        "clock_refused 0",
    ];
    let told = bench.shard.status(bench.now).told();
    let (times, others): (Vec<String>, Vec<String>) = told
        .into_iter()
        .partition(|it| it.starts_with("log_sync_us") || it.starts_with("log_commit_us"));
    assert_eq!(others, expected);
    // In virtual time a sync takes none.
    assert!(times.contains(&"log_sync_us.count 4".to_owned()), "{times:?}");
    assert!(times.contains(&"log_commit_us.le_10 4".to_owned()), "{times:?}");
}

#[test]
fn a_question_in_the_turn_of_a_frame_finds_that_frame() {
    let (mut bench, core) = Bench::fed();
    let querier = bench.querier();
    bench.shard.handle_frames(bench.now, core, &[trade(3, 0, 1)]);
    let ask = question(1, Op::Last, "ABEV3", 10, 0, u64::MAX);
    bench.shard.handle_frames(bench.now, querier, &[ask]);
    let frames = bench.read(querier);
    let end = frames.last().and_then(Frame::view::<Ended>).expect("an END");
    assert_eq!((end.status, end.rows.get(), end.as_of.get()), (0, 1, 4));
    assert_eq!(frames.iter().filter(|frame| frame.kind() == Some(Kind::Trade)).count(), 1);
}
