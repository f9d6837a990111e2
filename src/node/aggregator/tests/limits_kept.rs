//! Clients that leave, ask too much, or read too slowly; and that nothing stays behind.

use super::*;

const OWNER: usize = 2;

#[test]
fn a_client_that_leaves_or_stops_cancels_its_requests() {
    for leaves in [true, false] {
        let mut bench = Bench::new();
        let client = bench.client();
        bench.ask(client, query(1, Op::Last, "PETR4", Query::WITH_QUOTE));
        let asked = [CORE, OWNER].map(|leaf| bench.questions(leaf)[0].id.get());
        if leaves {
            bench.aggregator.handle_close(bench.now, client, CloseReason::PeerClosed);
        } else {
            bench.ask(client, Query { op: Op::Stop as u8, ..query(1, Op::Stop, "", 0) });
        }
        for (leaf, id) in [CORE, OWNER].into_iter().zip(asked) {
            let told: Vec<_> = bench.questions(leaf).iter().map(|q| (q.op, q.id.get())).collect();
            assert_eq!(told, [(Op::Stop as u8, id)], "leaf {leaf}");
        }
        bench.assert_nothing_pending();
        // It is over for good: no answer, and nothing held against the leaf.
        bench.wait_ms(600);
        assert!(bench.read(client).is_empty() && bench.closed.is_empty());
    }
}

#[test]
fn a_stop_in_the_same_read_as_its_query_leaves_no_answer() {
    let mut bench = Bench::new();
    bench.lose(OWNER);
    let client = bench.client();
    let ask = Frame::seal(query(1, Op::Last, "PETR4", 0));
    let stop = Frame::seal(query(1, Op::Stop, "", 0));
    // Nobody can be asked, so each answer is ready at once; only the last query's may come.
    bench.deliver(client, &[ask, stop, ask]);
    let frames = bench.read(client);
    assert_eq!(kinds(&frames).iter().filter(|kind| **kind == Kind::End).count(), 1);
    bench.assert_nothing_pending();
}

#[test]
fn queries_that_cannot_be_taken_are_refused_and_the_connection_stays() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    let cases = [
        (query(1, Op::Last, "PETR4", 0), ErrorCode::Unexpected),
        (query(1, Op::Status, "", 0), ErrorCode::Unexpected),
        (query(2, Op::Last, "P*R4", 0), ErrorCode::BadPattern),
        (query(3, Op::Last, "", 0), ErrorCode::BadPattern),
        (query(4, Op::Replay, "*", 0), ErrorCode::NotOwner),
        (Query { deadline_us: U32::ZERO, ..query(5, Op::Last, "PETR4", 0) }, ErrorCode::Deadline),
    ];
    for (bad, code) in cases {
        bench.ask(client, bad);
        let frames = bench.read(client);
        assert_eq!(refusals(&frames), [(bad.id.get(), code as u16)], "{bad:?}");
        assert_eq!(frames.len(), 1);
    }
    assert!(bench.closed.is_empty());
    bench.answer(OWNER, &[trade(1)]);
    assert_eq!(seqs(&bench.read(client)), [1], "the first query was not disturbed");
    bench.assert_nothing_pending();
}

#[test]
fn peers_that_misbehave_are_refused_and_closed() {
    let mut bad_crc = trade(1);
    bad_crc.crc = U32::new(1);
    let hello = |role: Role| Frame::seal(Session { role: role as u8, ..Session::default() });
    let ask = Frame::seal(query(1, Op::Last, "PETR4", 0));
    let cases = [
        (vec![bad_crc], ErrorCode::BadFrame),
        (vec![ask], ErrorCode::Unexpected),
        (vec![hello(Role::Subscriber)], ErrorCode::Unexpected),
        (vec![hello(Role::Querier), trade(1)], ErrorCode::Unexpected),
        (vec![hello(Role::Querier), hello(Role::Querier)], ErrorCode::Unexpected),
        (
            vec![hello(Role::Querier), Frame::seal(query(0, Op::Last, "X", 0))],
            ErrorCode::Unexpected,
        ),
    ];
    for (frames, code) in cases {
        let mut bench = Bench::new();
        let slot = 50;
        let conn = bench.fresh(slot);
        bench.aggregator.handle_open(bench.now, conn, Origin::LOCAL);
        bench.aggregator.handle_frames(bench.now, conn, &frames);
        let answer = bench.read(conn);
        assert_eq!(refusals(&answer), [(0, code as u16)], "{frames:?}");
        bench.act();
        assert_eq!(bench.closed, [conn]);
    }
}

#[test]
fn a_client_has_so_many_queries_in_flight_and_no_more() {
    let mut bench = Bench::new();
    let client = bench.client();
    let other = bench.client();
    for id in 1..=5 {
        bench.ask(client, query(id, Op::Last, "PETR4", 0));
    }
    assert_eq!(refusals(&bench.read(client)), [(5, ErrorCode::Limit as u16)]);
    let asked: Vec<u32> = bench.questions(OWNER).iter().map(|q| q.id.get()).collect();
    assert_eq!(asked.len(), 4);
    for id in asked {
        bench.leaf_sends(OWNER, &answer_to(id, &[]));
    }
    // Answers that the client has not taken are still in flight.
    bench.ask(client, query(6, Op::Last, "PETR4", 0));
    assert!(bench.questions(OWNER).is_empty());
    bench.ask(other, query(1, Op::Last, "PETR4", 0));
    assert_eq!(bench.questions(OWNER).len(), 1, "one client's bound is not another's");
    let frames = bench.read(client);
    assert_eq!(kinds(&frames).iter().filter(|kind| **kind == Kind::End).count(), 4);
    bench.ask(client, query(6, Op::Last, "PETR4", 0));
    assert_eq!(bench.questions(OWNER).len(), 1);
}

#[test]
fn an_answer_larger_than_the_outbox_arrives_whole_in_small_bites() {
    for bite in [1_000, 64, 100_000] {
        let mut bench = Bench::new();
        let client = bench.client();
        let rows: Vec<Frame> = (1..=6_000).map(trade).collect();
        assert!(rows.len() * 64 > limits::OUTBOX_BYTES_MAX);
        for id in 1..=2 {
            bench.ask(client, Query { limit: U32::new(9_000), ..query(id, Op::Last, "PETR4", 0) });
            bench.answer(OWNER, &rows);
        }
        // Words that come between two pieces must not end a run unnoticed.
        bench.aggregator.outgoing(bench.now, client);
        bench.ask(client, query(9, Op::Replay, "*", 0));
        let frames = bench.read_bites(client, bite);
        let mut of_query = BTreeMap::<u32, Vec<u64>>::new();
        let mut current = None;
        for frame in &frames {
            match frame.kind() {
                Some(Kind::Run) => current = frame.view::<Run>().map(|run| run.id.get()),
                Some(Kind::Trade) => {
                    let id = current.expect("a row belongs to a run");
                    of_query.entry(id).or_default().push(frame.seq.get());
                }
                _ => current = None,
            }
        }
        let whole: Vec<u64> = (1..=6_000).collect();
        assert_eq!(of_query, BTreeMap::from([(1, whole.clone()), (2, whole)]), "bite {bite}");
        assert_eq!(kinds(&frames).iter().filter(|kind| **kind == Kind::End).count(), 2);
        assert_eq!(refusals(&frames), [(9, ErrorCode::NotOwner as u16)]);
        bench.assert_nothing_pending();
    }
}

#[test]
fn answers_that_nobody_reads_stop_growing() {
    let mut config = config();
    config.queries_per_client_max = 100;
    let mut bench = Bench::dialing(&config);
    for leaf in 0..4 {
        bench.connect(leaf);
    }
    let client = bench.client();
    let rows: Vec<Frame> = (1..=30_000).map(trade).collect();
    for id in 1..=12 {
        bench.ask(client, Query { limit: U32::ZERO, ..query(id, Op::Last, "PETR4", 0) });
        bench.answer(OWNER, &rows);
        assert!(bench.aggregator.answer_frames <= limits::ANSWER_FRAMES_PER_CLIENT_MAX + 12);
    }
    let frames = bench.read(client);
    let refused: Vec<u32> = refusals(&frames).into_iter().map(|(id, _)| id).collect();
    assert_eq!(refused, [9, 10, 11, 12], "eight fit, and each query has its answer");
    assert_eq!(kinds(&frames).iter().filter(|kind| **kind == Kind::End).count(), 8);
    bench.assert_nothing_pending();
}

#[test]
fn a_client_that_leaves_with_answers_waiting_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    let rows: Vec<Frame> = (1..=10).map(trade).collect();
    bench.answer(OWNER, &rows);
    assert!(bench.aggregator.answer_frames > 0);
    bench.aggregator.handle_close(bench.now, client, CloseReason::Reset);
    bench.assert_nothing_pending();
}

#[test]
fn ten_thousand_queries_of_every_fate_leave_no_state() {
    let mut bench = Bench::new();
    let mut client = bench.client();
    for round in 0..10_000_u32 {
        if !bench.leaves.contains_key(&OWNER) && bench.dials.contains(&OWNER) {
            bench.connect(OWNER);
        }
        bench.ask(client, query(round + 1, Op::Last, "PETR4", Query::WITH_QUOTE));
        let core = bench.questions(CORE).iter().map(|q| q.id.get()).max();
        let owner = bench.questions(OWNER).iter().map(|q| q.id.get()).max();
        if let Some(core) = core.filter(|_| round % 3 != 0) {
            bench.leaf_sends(CORE, &answer_to(core, &[quote()]));
        }
        match (owner, round % 7) {
            (Some(owner), 0..4) => bench.leaf_sends(OWNER, &answer_to(owner, &[trade(1)])),
            (Some(owner), 4) => bench.leaf_sends(OWNER, &[run(owner), quote()]),
            (Some(_), 5) => bench.lose(OWNER),
            _ => bench.wait_ms(10),
        }
        if round % 11 == 0 {
            bench.aggregator.handle_close(bench.now, client, CloseReason::Reset);
            client = bench.client();
        }
        bench.wait_ms(500);
        bench.read(client);
        if !bench.leaves.contains_key(&CORE) && bench.dials.contains(&CORE) {
            bench.connect(CORE);
        }
        bench.assert_nothing_pending();
    }
    let counts = bench.aggregator.gather.counts();
    assert_eq!(counts.begun, 10_000);
    assert_eq!(counts.complete + counts.partial + counts.failed + counts.abandoned, 10_000);
    assert!(counts.complete > 100 && counts.failed > 100 && counts.abandoned > 10, "{counts:?}");
}

#[test]
fn leaves_that_do_not_fit_the_partition_are_a_configuration_error() {
    let change = |change: fn(&mut AggregatorConfig)| {
        let mut config = config();
        change(&mut config);
        Aggregator::new(&config).unwrap_err()
    };
    let missing = change(|config| {
        config.leaves.pop();
    });
    assert_eq!(missing, AggregatorError::Shard { shard: 2, times: 0 });
    let no_core = change(|config| config.leaves.retain(|leaf| leaf.shard.is_some()));
    assert_eq!(no_core, AggregatorError::Core(0));
    let too_many = change(|config| {
        let copy = config.leaves[0].clone();
        config.leaves.extend(vec![copy; usize::from(limits::REPLICAS_MAX)]);
    });
    assert_eq!(too_many, AggregatorError::Shard { shard: 1, times: 5 });
    let unknown = change(|config| {
        let shard = Some(3);
        config.leaves.push(LeafConfig { shard, ..config.leaves[0].clone() });
    });
    assert_eq!(unknown, AggregatorError::NoShard { shard: 3, shards: 3 });
    let breaker = change(|config| config.breaker.minimum_number_of_calls = 0);
    assert!(matches!(breaker, AggregatorError::Breaker(_)));
}

#[test]
fn a_query_that_cannot_even_wait_for_a_cut_is_not_in_flight() {
    let mut config = config();
    config.queries_per_client_max = limits::GATHERS_MAX + 10;
    let mut bench = Bench::dialing(&config);
    for leaf in 0..4 {
        bench.connect(leaf);
    }
    let client = bench.client();
    let ask = |bench: &mut Bench, id: u32| {
        let ours = Question::new(&query(id, Op::Last, "PETR4", 0))
            .unwrap()
            .cut_at(Some(NEWEST_COMMON_CUT));
        bench.aggregator.handle_frames(bench.now, client, &ours.frames());
    };
    // A connection alone has the places that are free for all, and the rest is for others.
    let count = u32::try_from(limits::GATHERS_MAX / 2).unwrap();
    for id in 1..=count + 1 {
        ask(&mut bench, id);
    }
    assert_eq!(refusals(&bench.read(client)), [(count + 1, ErrorCode::Limit as u16)]);
    // Its number is free, and room comes back.
    ask(&mut bench, count + 1);
    assert_eq!(refusals(&bench.read(client)), [(count + 1, ErrorCode::Limit as u16)]);
    let other = bench.client();
    let ours = Question::new(&query(1, Op::Last, "PETR4", 0)).unwrap();
    let ours = ours.cut_at(Some(NEWEST_COMMON_CUT));
    bench.aggregator.handle_frames(bench.now, other, &ours.frames());
    assert_eq!(refusals(&bench.read(other)), []);
    bench.aggregator.handle_close(bench.now, other, CloseReason::Reset);
    bench.ask(client, query(1, Op::Stop, "", 0));
    ask(&mut bench, count + 1);
    assert_eq!(refusals(&bench.read(client)), []);
    // With the last of them nothing is due any more.
    bench.aggregator.handle_close(bench.now, client, CloseReason::Reset);
    assert_eq!(bench.aggregator.cuts.next_deadline(), None);
    bench.assert_nothing_pending();
}
