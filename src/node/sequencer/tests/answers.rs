//! Questions to core: replays and quotes.

use super::*;
use crate::wire::QueryMore;

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
fn a_replay_of_everything_has_the_frames_of_the_system_too() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let conn = bench.querier();
    let action = U32::new(BreakerAction::ForceOpen as u32);
    let breaker = Query {
        id: U32::new(7),
        op: Op::Breaker as u8,
        limit: action,
        symbol: padded("core.requests"),
        ..Query::default()
    };
    bench.deliver(conn, &[Frame::seal(breaker)]);
    let journaled = bench.journaled();
    let is_of_system = |frame: &&Frame| frame.kind == Kind::BreakerChange as u8;
    assert!(journaled.iter().any(|frame| is_of_system(&frame)));
    bench.read(conn);
    let replayed = |bench: &mut Bench, kinds: u16| -> Vec<Frame> {
        bench.deliver(conn, &[ask(1, Op::Replay, "*", kinds, 1, u64::MAX)]);
        let mut frames = bench.read(conn);
        frames.retain(|f| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT));
        frames
    };
    let all: Vec<u64> = (1..=journaled.len() as u64).collect();
    assert_eq!(seqs(&replayed(&mut bench, 0)), all, "the whole sequence, without a hole");
    let some = replayed(&mut bench, !Kind::Cancel.mask());
    assert!(!some.iter().any(|frame| is_of_system(&frame)), "`*` means the market");
}

#[test]
fn a_quote_waits_for_its_cut_and_not_longer_than_its_deadline() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let conn = bench.querier();
    let asked = |id: u32, as_of: u64| {
        let (id, op, symbol) = (U32::new(id), Op::Quote as u8, padded("PETR4"));
        let (flags, deadline_us) = (U16::new(Flags::MORE), U32::new(100_000));
        let more = QueryMore { id, as_of: U64::new(as_of), ..QueryMore::default() };
        let query = Query { flags, id, op, symbol, deadline_us, ..Query::default() };
        [Frame::seal(query), Frame::seal(more)]
    };
    bench.deliver(conn, &asked(1, 5));
    assert!(bench.read(conn).is_empty(), "frame 4 has not come");
    while bench.core.poll_dirty().is_some() {}
    bench.deliver(exchange, &[quote(4, 0)]);
    bench.turn();
    assert!(std::iter::from_fn(|| bench.core.poll_dirty()).any(|dirty| dirty == conn));
    let frames = bench.read(conn);
    assert_eq!(seqs(&frames[2..]), [4], "{frames:?}");
    let end = frames.last().unwrap().view::<Ended>().unwrap();
    assert_eq!((end.code.get(), end.as_of.get()), (0, 5));

    bench.deliver(conn, &asked(2, 9));
    bench.sleep_ms(99);
    assert!(bench.read(conn).is_empty());
    assert!(
        bench
            .core
            .next_deadline()
            .is_some_and(|due| due <= bench.now.mono + Duration::from_millis(1))
    );
    bench.sleep_ms(1);
    let frames = bench.read(conn);
    let end = frames[0].view::<Ended>().unwrap();
    assert_eq!((end.code.get(), end.as_of.get()), (ErrorCode::Behind as u16, 5));
    assert!(bench.core.waiting.is_empty(), "nothing is left behind");
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

#[test]
fn an_error_about_the_connection_is_answered_by_its_end_only() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    for (id, answers) in [(0, 0), (7, 1)] {
        let conn = bench.querier();
        bench.deliver(conn, &[Frame::seal(Refusal::new(ErrorCode::BadFrame, id, "no"))]);
        assert_eq!(
            bench.read(conn).len(),
            answers,
            "its sender is gone; another has no place here"
        );
        assert!(bench.closes(conn));
    }
    let (broker, _) = bench.follower(1, 1);
    for conn in [exchange, broker] {
        bench.read(conn);
        bench.deliver(conn, &[Frame::seal(Refusal::new(ErrorCode::Limit, 0, "no"))]);
        assert!(bench.read(conn).is_empty() && bench.closes(conn));
    }
}
