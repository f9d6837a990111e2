//! Questions to core: replays and quotes.

use super::*;

#[test]
fn a_replay_and_a_quote_share_a_connection() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    let feed: Vec<Frame> = (3..3003).map(|seq| quote(seq, u32::from(seq % 2 == 0))).collect();
    for part in feed.chunks(8) {
        bench.deliver(exchange, part);
    }
    let conn = bench.querier();
    bench.deliver(conn, &[ask(1, Op::Replay, "VALE3", Kind::Quote.mask(), 10, 2_900)]);
    let mut bytes = bench.read_bytes(conn, 64 * 40 + 13);
    bench.deliver(conn, &[ask(2, Op::Quote, "PETR4", 0, 0, 0)]);
    bytes.extend(bench.read_bytes(conn, usize::MAX));
    let (mut rows, mut current) = (std::collections::BTreeMap::<u32, Vec<u64>>::new(), 0);
    let mut ended = Vec::new();
    for frame in frames_of(&bytes) {
        if let Some(run) = frame.view::<Run>() {
            current = run.id.get();
        } else if let Some(end) = frame.view::<Ended>() {
            ended.push((end.id.get(), end.rows.get()));
        } else if frame.kind == Kind::Quote as u8 {
            rows.entry(current).or_default().push(frame.seq.get());
        }
    }
    let of_vale3: Vec<u64> = (10..2_900).filter(|seq| seq % 2 == 0).collect();
    assert_eq!(rows[&1], of_vale3);
    assert_eq!(rows[&2], [3_001]);
    assert_eq!(ended, [(2, 1), (1, u32::try_from(of_vale3.len()).unwrap())]);
}

#[test]
fn a_replay_ends_where_the_journal_ended_when_it_was_asked() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let conn = bench.querier();
    bench.deliver(conn, &[ask(1, Op::Replay, "*", 0, 1, u64::MAX)]);
    bench.deliver(exchange, &[definition(4, 2, "ITUB4"), quote(5, 2)]);
    let frames = bench.read(conn);
    let replayed: Vec<Frame> = frames.iter().filter(|f| !f.has(Flags::SNAPSHOT)).copied().collect();
    assert_eq!(seqs(&replayed), [1, 2, 3]);
    let end = frames.last().unwrap().view::<Ended>().unwrap();
    assert_eq!((end.as_of.get(), end.rows.get()), (4, 3), "it claims no more than it has");
}

#[test]
fn a_second_replay_and_unknown_names_are_refused() {
    let mut bench = Bench::new();
    bench.market();
    let conn = bench.querier();
    let queries = [
        ask(1, Op::Replay, "*", 0, 1, 9),
        ask(2, Op::Replay, "*", 0, 1, 9),
        ask(3, Op::Replay, "A*B", 0, 1, 9),
        ask(4, Op::Quote, "NOBODY", 0, 0, 0),
        ask(5, Op::Bars, "PETR4", 0, 0, 9),
    ];
    bench.deliver(conn, &queries);
    let frames = bench.read(conn);
    let refused: Vec<(u32, u16)> = frames
        .iter()
        .filter_map(Frame::view::<Refusal>)
        .map(|refusal| (refusal.id.get(), refusal.code.get()))
        .collect();
    // Quotes are put together when there is room for them, behind what is said at once.
    let codes = [
        (2, ErrorCode::Limit),
        (3, ErrorCode::BadPattern),
        (5, ErrorCode::NotOwner),
        (4, ErrorCode::UnknownSymbol),
    ];
    assert_eq!(refused, codes.map(|(id, code)| (id, code as u16)));
}
