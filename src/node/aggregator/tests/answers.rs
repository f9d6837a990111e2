//! What an answer says: whole ones, and ones with holes.

use super::*;
use crate::wire::BreakerChange;
use NodeStatus::{Failed, Ok, Pruned, Refused, Timeout};

/// The shard of PETR4.
const OWNER: usize = 2;

#[test]
fn a_whole_report_is_run_definition_quote_rows_nodes_end() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(5, Op::Last, "PETR4", Query::WITH_QUOTE));
    // The later part first: the order of arrival is not the order of the answer.
    bench.answer(OWNER, &[definition(), trade(3), trade(4)]);
    assert!(bench.read(client).is_empty(), "core has not answered");
    bench.answer(CORE, &[definition(), quote()]);
    let frames = bench.read(client);
    let mut expected = vec![Kind::Run, Kind::Definition, Kind::Quote, Kind::Trade, Kind::Trade];
    expected.extend([Kind::NodeAnswer; 4]);
    expected.push(Kind::End);
    assert_eq!(kinds(&frames), expected);
    assert_eq!(frames[0], run(5));
    assert_eq!(ended(&frames), EndStatus::Complete);
    let names: Vec<String> = nodes(&frames).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["core", "shard-A", "shard-B", "shard-C"]);
    assert_eq!(statuses(&frames), [Ok, Pruned, Ok, Pruned]);
    bench.assert_nothing_pending();
}

#[test]
fn the_time_of_an_answer_is_counted_for_its_leaf() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(5, Op::Last, "PETR4", Query::WITH_QUOTE));
    bench.wait_ms(2);
    bench.answer(OWNER, &[definition(), trade(3)]);
    bench.wait_ms(18);
    bench.answer(CORE, &[definition(), quote()]);
    let told = Service::status(&bench.aggregator, bench.now).told();
    for figure in [
        "shard-B.gather_us.count 1",
        "shard-B.gather_us.sum 2000",
        "core.gather_us.le_10000 0",
        "core.gather_us.sum 20000",
        "shard-A.gather_us.count 0",
    ] {
        assert!(told.contains(&figure.to_owned()), "{figure}: {told:?}");
    }
}

#[test]
fn only_the_owner_of_a_part_is_asked_for_it() {
    // Operation, options, and what each leaf is asked.
    let nobody = None;
    let cases = [
        (Op::Quote, 0, [Some(Op::Quote), nobody, nobody, nobody]),
        (Op::Last, 0, [nobody, nobody, Some(Op::Last), nobody]),
        (Op::Range, Query::WITH_QUOTE, [Some(Op::Quote), nobody, Some(Op::Range), nobody]),
        (Op::Bars, Query::PARTIAL, [nobody, nobody, Some(Op::Bars), nobody]),
    ];
    for (op, options, expected) in cases {
        let mut bench = Bench::new();
        let client = bench.client();
        bench.ask(client, query(1, op, "PETR4", options));
        for (leaf, expected) in expected.into_iter().enumerate() {
            let asked = bench.questions(leaf);
            let ops: Vec<_> = asked.iter().filter_map(|q| Op::from_number(q.op)).collect();
            assert_eq!(ops, Vec::from_iter(expected), "{op:?} leaf {leaf}");
            for question in asked {
                assert_eq!(question.symbol, padded("PETR4"));
                assert_eq!(question.deadline_us.get(), 450_000, "a margin is kept");
                assert_eq!(question.options & Query::WITH_QUOTE, 0);
            }
        }
    }
}

#[test]
fn a_shard_that_is_away_leaves_a_hole_in_a_list_and_fails_a_sum() {
    let partial = Query::PARTIAL | Query::WITH_QUOTE;
    let cases = [
        (Op::Last, partial, EndStatus::Partial),
        (Op::Range, partial, EndStatus::Partial),
        (Op::Last, Query::WITH_QUOTE, EndStatus::Failed),
        (Op::Bars, partial, EndStatus::Failed),
    ];
    for (op, options, expected) in cases {
        let mut bench = Bench::new();
        bench.lose(OWNER);
        let client = bench.client();
        bench.ask(client, query(1, op, "PETR4", options));
        bench.answer(CORE, &[quote()]);
        let frames = bench.read(client);
        assert_eq!(ended(&frames), expected, "{op:?} {options}");
        assert_eq!(statuses(&frames), [Ok, Pruned, Refused, Pruned]);
        let has_quote = kinds(&frames).contains(&Kind::Quote);
        assert_eq!(has_quote, expected == EndStatus::Partial, "{op:?} {options}");
        assert_eq!(refusals(&frames).len(), usize::from(expected == EndStatus::Failed));
    }
}

#[test]
fn a_silent_shard_is_a_timeout_before_the_clients_deadline_and_its_late_answer_is_dropped() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", Query::PARTIAL | Query::WITH_QUOTE));
    bench.answer(CORE, &[quote()]);
    let question = bench.questions(OWNER)[0].id.get();
    bench.wait_ms(474);
    assert!(bench.read(client).is_empty());
    bench.wait_ms(1);
    let frames = bench.read(client);
    assert_eq!(ended(&frames), EndStatus::Partial);
    assert_eq!(statuses(&frames), [Ok, Pruned, Timeout, Pruned]);
    let stops = bench.questions(OWNER);
    assert_eq!(stops.len(), 1);
    assert_eq!((stops[0].op, stops[0].id.get()), (Op::Stop as u8, question));

    let late = answer_to(question, &[trade(1)]);
    bench.leaf_sends(OWNER, &late);
    assert!(bench.read(client).is_empty() && bench.closed.is_empty());
    assert_eq!(bench.aggregator.gather.counts().late, 2);
    bench.assert_nothing_pending();
    // The next question is not answered with the old rows.
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.answer(OWNER, &[trade(2)]);
    assert_eq!(seqs(&bench.read(client)), [2]);
}

#[test]
fn a_leaf_that_dies_inside_its_answer_leaves_none_of_it() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", Query::PARTIAL | Query::WITH_QUOTE));
    bench.answer(CORE, &[quote()]);
    let question = bench.questions(OWNER)[0].id.get();
    bench.leaf_sends(OWNER, &[run(question), definition(), trade(1)]);
    bench.lose(OWNER);
    let frames = bench.read(client);
    assert_eq!(ended(&frames), EndStatus::Partial);
    assert_eq!(statuses(&frames), [Ok, Pruned, Refused, Pruned]);
    assert!(seqs(&frames).is_empty());
    bench.assert_nothing_pending();
}

#[test]
fn garbage_from_a_leaf_closes_it_and_the_answer_says_so() {
    type Garbage = fn(u32) -> Vec<Frame>;
    let cases: [(&str, Garbage); 6] = [
        ("bad crc", |id| {
            let mut bad_crc = trade(1);
            bad_crc.crc = U32::new(1);
            vec![run(id), bad_crc]
        }),
        ("no run", |_| vec![trade(1)]),
        ("run ended by a control frame", |id| {
            vec![run(id), trade(1), Frame::seal(Heartbeat::default()), trade(2)]
        }),
        ("a quote among trades", |id| vec![run(id), trade(1), quote()]),
        ("a question to us", |_| vec![Frame::seal(query(1, Op::Last, "X", 0))]),
        ("a second session", |_| vec![Frame::seal(Session::default())]),
    ];
    for (name, garbage) in cases {
        let mut bench = Bench::new();
        let client = bench.client();
        bench.ask(client, query(1, Op::Last, "PETR4", Query::PARTIAL | Query::WITH_QUOTE));
        bench.answer(CORE, &[quote()]);
        let question = bench.questions(OWNER)[0].id.get();
        let conn = bench.leaves[&OWNER];
        bench.leaf_sends(OWNER, &garbage(question));
        assert_eq!(bench.closed, [conn], "{name}");
        let frames = bench.read(client);
        assert_eq!(statuses(&frames), [Ok, Pruned, Failed, Pruned], "{name}");
        assert_eq!(ended(&frames), EndStatus::Partial, "{name}");
        assert!(bench.log.iter().any(|line| line.contains("shard-B broke the protocol")));
        assert_eq!(bench.aggregator.gather.counts().late, 0, "{name}");
        bench.assert_nothing_pending();
        bench.wait_ms(50);
        assert_eq!(bench.dials, [OWNER], "{name}: it gets another chance");
    }
}

#[test]
fn a_leaf_interleaves_the_answers_to_two_questions() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.ask(client, query(2, Op::Last, "PETR3", 0));
    let asked: Vec<u32> = bench.questions(OWNER).iter().map(|q| q.id.get()).collect();
    let [one, two] = asked[..] else { panic!("{asked:?}") };
    let frames = [run(one), trade(1), run(two), trade(2), run(one), trade(3), end(two, 1)];
    bench.leaf_sends(OWNER, &frames);
    assert_eq!(seqs(&bench.read(client)), [2]);
    bench.leaf_sends(OWNER, &[end(one, 2)]);
    assert_eq!(seqs(&bench.read(client)), [1, 3]);
}

#[test]
fn a_leafs_refusal_is_its_answer_and_is_passed_on() {
    let mut bench = Bench::new();
    let client = bench.client();
    for _ in 0..10 {
        bench.ask(client, query(1, Op::Last, "PETR4", 0));
        let question = bench.questions(OWNER)[0].id.get();
        let refusal = Refusal::new(ErrorCode::UnknownSymbol, question, "no such instrument");
        bench.leaf_sends(OWNER, &[Frame::seal(refusal)]);
        let frames = bench.read(client);
        assert_eq!(ended(&frames), EndStatus::Failed);
        assert_eq!(refusals(&frames), [(1, ErrorCode::UnknownSymbol as u16)]);
        // A healthy node says no: its breaker stays closed.
        assert_eq!(statuses(&frames), [Pruned, Pruned, Failed, Pruned]);
    }
}

#[test]
fn status_names_every_leaf_and_its_breaker() {
    let mut bench = Bench::new();
    bench.lose(OWNER);
    let client = bench.client();
    bench.ask(client, query(3, Op::Status, "", 0));
    let frames = bench.read(client);
    assert_eq!((frames[0], ended(&frames)), (run(3), EndStatus::Complete));
    let texts: Vec<(String, String)> = frames
        .iter()
        .filter_map(Frame::view::<crate::wire::Text>)
        .map(|text| (unpadded(&text.name), unpadded(&text.text)))
        .collect();
    for (name, text) in [
        ("role", "aggregator"),
        ("core", "ready"),
        ("shard-B", "waiting"),
        ("aggregator.shard-C.state", "closed"),
        ("aggregator.shard-B.error", "connection reset"),
    ] {
        assert!(texts.contains(&(name.to_owned(), text.to_owned())), "{name} in {texts:?}");
    }
}

fn breaker_query(id: u32, name: &str, action: u32) -> Query {
    Query { limit: U32::new(action), ..query(id, Op::Breaker, name, 0) }
}

#[test]
fn an_operator_shuts_a_leaf_out_and_lets_it_back_at_once() {
    let mut bench = Bench::new();
    let client = bench.client();
    let link = bench.leaves[&OWNER];
    bench.ask(client, breaker_query(3, "aggregator.shard-B", 1));
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
    assert_eq!(bench.closed, [link], "the standing link is ended");
    bench.wait_ms(30_000);
    assert!(bench.dials.is_empty(), "no dial while forced open");
    bench.ask(client, breaker_query(4, "aggregator.shard-B", 2));
    bench.timers();
    assert_eq!(bench.dials, [OWNER], "at once");

    bench.read(client);
    bench.ask(client, breaker_query(5, "core.exchange", 1));
    bench.ask(client, breaker_query(6, "aggregator.core", 6));
    let wanted = [(5, ErrorCode::NotOwner as u16), (6, ErrorCode::Unexpected as u16)];
    assert_eq!(refusals(&bench.read(client)), wanted);
}

#[test]
fn opened_and_reset_in_one_read_a_breaker_still_has_its_connection_made_anew() {
    let mut bench = Bench::new();
    let client = bench.client();
    let link = bench.leaves[&OWNER];
    let orders = [(3, 1), (4, 2)];
    let frames =
        orders.map(|(id, action)| Frame::seal(breaker_query(id, "aggregator.shard-B", action)));
    bench.deliver(client, &frames);
    assert_eq!(bench.closed, [link]);
}

#[test]
fn every_breaker_change_reaches_core_once_even_when_it_was_away() {
    let changes = |frames: &[Frame]| -> Vec<(String, u8)> {
        let changes = frames.iter().filter_map(Frame::view::<BreakerChange>);
        changes.map(|change| (unpadded(&change.name), change.to)).collect()
    };
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, breaker_query(3, "aggregator.shard-B", 3));
    let conn = bench.leaves[&CORE];
    assert_eq!(changes(&bench.read(conn)), [("aggregator.shard-B".to_owned(), 4)]);
    bench.lose(CORE);
    bench.ask(client, breaker_query(4, "aggregator.shard-B", 2));
    bench.wait_ms(100);
    let conn = bench.connect(CORE);
    assert_eq!(changes(&bench.read(conn)), [("aggregator.shard-B".to_owned(), 0)]);
}

/// The text does not say whether `xnas` is a venue: one shard would own it then, and another one if not.
#[test]
fn a_name_that_two_shards_may_own_is_asked_of_both() {
    // Those of shard-A and shard-C.
    for knows in [Some(1), Some(3), None] {
        let mut bench = Bench::new();
        let client = bench.client();
        bench.ask(client, query(5, Op::Last, "xnas:AMZN", 0));
        for leaf in [1, 3] {
            let is_known = knows == Some(leaf);
            let frames = [definition(), trade(3)];
            bench.answer(leaf, if is_known { &frames } else { &[] });
        }
        let frames = bench.read(client);
        assert_eq!(statuses(&frames), [Pruned, Ok, Pruned, Ok]);
        if knows.is_some() {
            assert_eq!((ended(&frames), seqs(&frames)), (EndStatus::Complete, vec![3]));
        } else {
            assert_eq!(ended(&frames), EndStatus::Failed);
            assert_eq!(refusals(&frames), [(5, ErrorCode::UnknownSymbol as u16)]);
        }
        bench.assert_nothing_pending();
    }
    // Either way it is the same shard's: it alone is asked, and says itself that it does not know it.
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(6, Op::Last, "xnas:VALE3", 0));
    let question = bench.questions(3)[0].id.get();
    let refusal = Refusal::new(ErrorCode::UnknownSymbol, question, "no such instrument");
    bench.leaf_sends(3, &[Frame::seal(refusal)]);
    assert_eq!(refusals(&bench.read(client)), [(6, ErrorCode::UnknownSymbol as u16)]);
}
