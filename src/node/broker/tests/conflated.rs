//! Conflated batches of more than one piece.

use super::*;

#[test]
fn a_batch_for_who_fell_out_of_the_ring_has_each_last_value_once_also_between_its_pieces() {
    let count = 240;
    let mut bench = Bench::new(64);
    bench.broker.readers.connections.work_mut().bound_frames(50);
    // It joins in one turn.
    bench.broker.readers.connections.work_mut().bound_steps(1_000);
    let publisher = bench.open();
    bench.begin(publisher, 1, 1);
    let symbols = (0..count).map(|it| definition(u64::from(it) + 1, it, &format!("S{it}")));
    bench.deliver(publisher, &symbols.collect::<Vec<_>>());
    let conn = bench.subscribe("*", Mode::Conflate, 0);
    bench.read(conn);
    assert!(bench.broker.readers.is_settled());
    let first = u64::from(count) + 1;
    // Each instrument once, and the first ten once more.
    let feed = (0..count + 10).map(|at| quote(first + u64::from(at), at % count));
    bench.deliver(publisher, &feed.collect::<Vec<_>>());
    bench.wait_ms(100);
    let frames = bench.read(conn);
    let newest: Vec<u64> = (first + 10..first + u64::from(count) + 10).collect();
    assert_eq!(data_seqs(&frames), newest);
    let skipped = gaps(&frames);
    assert!(skipped.len() > 2 && skipped[0].1 == first, "{skipped:?}");
    let meet = |pair: &[(u8, u64, u64)]| pair[0].2 + 1 == pair[1].1;
    assert!(skipped.windows(2).all(meet), "what was left out is told without a hole: {skipped:?}");
}
