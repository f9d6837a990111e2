//! Copies of parts: fail over, hedge, cancel, lists, and cuts, with the connections around them.

use super::*;
use crate::wire::{Flags, NodeExplain, QueryMore, U16};
use NodeStatus::{Ok, Pruned, Refused, Spare};

/// Core, core.1, and both copies of A, B and C, in this order.
const CORE_1: usize = 1;
const OWNER: usize = 4;
const OWNER_1: usize = 5;

fn replicated() -> Bench {
    let mut config = config();
    let replicas: Vec<LeafConfig> = config
        .leaves
        .iter()
        .map(|leaf| LeafConfig { name: format!("{}.1", leaf.name), ..leaf.clone() })
        .collect();
    config.leaves.extend(replicas);
    let mut bench = Bench::dialing(&config);
    for leaf in 0..8 {
        bench.connect(leaf);
    }
    bench
}

#[test]
fn copies_stand_side_by_side_and_each_has_a_breaker_with_a_name_that_fits() {
    let bench = replicated();
    let names: Vec<&str> = (0..8).map(|leaf| bench.aggregator.leaves.name(leaf)).collect();
    assert_eq!(names[..4], ["core", "core.1", "shard-A", "shard-A.1"]);
    assert_eq!(names[OWNER_1], "shard-B.1");
    let mut bench = replicated();
    let client = bench.client();
    let force = |name: &str| Query { limit: U32::new(1), ..query(3, Op::Breaker, name, 0) };
    for name in ["aggregator.B.1", "aggregator.core.1", "aggregator.shard-B"] {
        bench.ask(client, force(name));
        assert_eq!(ended(&bench.read(client)), EndStatus::Complete, "{name}");
    }
    // Both copies of B and the replica of core are shut out now.
    bench.ask(client, query(1, Op::Last, "PETR4", Query::PARTIAL | Query::WITH_QUOTE));
    bench.answer(CORE, &[quote()]);
    let frames = bench.read(client);
    let shut = NodeStatus::BreakerOpen;
    assert_eq!(statuses(&frames), [Ok, shut, Pruned, Pruned, shut, shut, Pruned, Pruned]);
}

#[test]
fn a_copy_that_is_lost_is_not_missed() {
    let mut bench = replicated();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    assert_eq!(bench.questions(OWNER).len(), 1);
    assert!(bench.questions(OWNER_1).is_empty(), "one copy is asked");
    bench.lose(OWNER);
    bench.answer(OWNER_1, &[trade(7)]);
    let frames = bench.read(client);
    assert_eq!((ended(&frames), seqs(&frames)), (EndStatus::Complete, vec![7]));
    assert_eq!(statuses(&frames)[OWNER..=OWNER_1], [Refused, Ok]);
    bench.assert_nothing_pending();
    // It is away: the other one is asked at once.
    bench.ask(client, query(2, Op::Last, "PETR4", 0));
    bench.answer(OWNER_1, &[trade(8)]);
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
}

#[test]
fn a_silent_copy_is_hedged_and_cancelled_when_the_other_answers() {
    let mut bench = replicated();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", Query::EXPLAIN));
    let asked = bench.questions(OWNER)[0];
    bench.wait_ms(19);
    assert!(bench.questions(OWNER_1).is_empty());
    bench.wait_ms(1);
    let hedge = bench.questions(OWNER_1)[0];
    assert_eq!((asked.deadline_us.get(), hedge.deadline_us.get()), (450_000, 430_000));
    bench.leaf_sends(OWNER_1, &answer_to(hedge.id.get(), &[trade(7)]));
    let frames = bench.read(client);
    assert_eq!((ended(&frames), seqs(&frames)), (EndStatus::Complete, vec![7]));
    assert_eq!(statuses(&frames)[OWNER..=OWNER_1], [Spare, Ok]);
    let explained: Vec<&NodeExplain> = frames.iter().filter_map(Frame::view).collect();
    assert_eq!(explained.len(), 8);
    let it = explained[OWNER_1];
    let what = NodeExplain::ASKED | NodeExplain::HEDGED | NodeExplain::CHOSEN;
    assert_eq!((it.what, it.asked_us.get(), it.copy), (what, 20_000, 1));
    let told: Vec<_> = bench.questions(OWNER).iter().map(|q| (q.op, q.id.get())).collect();
    assert_eq!(told, [(Op::Stop as u8, asked.id.get())]);
    bench.assert_nothing_pending();
}

#[test]
fn a_client_that_leaves_cancels_its_query_on_every_copy() {
    let mut bench = replicated();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "*", Query::WITH_QUOTE));
    bench.wait_ms(20);
    let asked: Vec<usize> = (0..8).filter(|leaf| !bench.questions(*leaf).is_empty()).collect();
    assert_eq!(asked, (0..8).collect::<Vec<_>>(), "each part and its hedge");
    bench.aggregator.handle_close(bench.now, client, CloseReason::PeerClosed);
    for leaf in 0..8 {
        let told = bench.questions(leaf);
        assert_eq!(told.iter().map(|q| q.op).collect::<Vec<_>>(), [Op::Stop as u8], "{leaf}");
    }
    bench.assert_nothing_pending();
}

#[test]
fn a_list_goes_to_the_owners_and_comes_back_by_instrument() {
    let mut bench = replicated();
    let client = bench.client();
    let list = Question::new(&query(1, Op::Last, "PETR4", Query::WITH_QUOTE)).unwrap();
    let list = list.about(["PETR4", "VALE3", "ITUB4"].map(padded)).unwrap();
    let frames = list.frames();
    bench.deliver(client, &frames[..2]);
    assert!(bench.questions(OWNER).is_empty(), "it is not whole");
    bench.deliver(client, &frames[2..]);
    let named = |index: u32, symbol: &str| {
        Frame::seal(Definition::new(U32::new(index).into(), symbol.parse().unwrap(), 2))
            .delivered(Flags::SNAPSHOT)
    };
    let of = |index: u32, frame: Frame| {
        let mut frame = frame;
        frame.instrument = U32::new(index);
        frame.renew_crc();
        frame
    };
    let definitions = [named(3, "ITUB4"), named(1, "PETR4"), named(2, "VALE3")];
    let quotes = [3, 1, 2].map(|index| of(index, quote()));
    bench.answer(CORE, &[definitions, quotes].concat());
    assert!(bench.questions(2).is_empty(), "shard A owns none of them");
    bench.answer(6, &[definitions[2], of(2, trade(5))]);
    bench.answer(OWNER, &[definitions[0], definitions[1], of(3, trade(9)), of(1, trade(4))]);
    let frames = bench.read(client);
    assert_eq!(ended(&frames), EndStatus::Complete);
    let rows: Vec<(u32, Kind)> = frames
        .iter()
        .filter(|frame| frame.kind().is_some_and(Kind::is_data))
        .map(|frame| (frame.instrument.get(), frame.kind().unwrap()))
        .collect();
    let (named, quote, trade) = (Kind::Definition, Kind::Quote, Kind::Trade);
    let want = [3, 1, 2].map(|index| (index, named)).into_iter();
    let want: Vec<_> =
        want.chain([3, 1, 2].into_iter().flat_map(|i| [(i, quote), (i, trade)])).collect();
    assert_eq!(rows, want);
    bench.assert_nothing_pending();
}

#[test]
fn a_frame_inside_a_question_ends_the_conversation() {
    let mut bench = replicated();
    let client = bench.client();
    let begun = Query { flags: U16::new(Flags::MORE), ..query(1, Op::Last, "PETR4", 0) };
    let frames = [Frame::seal(begun), Frame::seal(Heartbeat::default())];
    bench.aggregator.handle_frames(bench.now, client, &frames);
    assert_eq!(refusals(&bench.read(client)), [(0, ErrorCode::Unexpected as u16)]);
    bench.act();
    assert_eq!(bench.closed, [client]);
}

#[test]
fn a_cut_of_our_choice_is_asked_for_and_then_the_same_everywhere() {
    let mut bench = replicated();
    let client = bench.client();
    let again = |id: u32| {
        Question::new(&query(id, Op::Last, "*", 0)).unwrap().cut_at(Some(NEWEST_COMMON_CUT))
    };
    let ours = again(1);
    bench.deliver(client, &ours.frames());
    let cuts = |frames: &[Frame]| -> Vec<u64> {
        frames.iter().filter_map(Frame::view::<QueryMore>).map(|more| more.as_of.get()).collect()
    };
    let conns = bench.leaves.clone();
    for (leaf, conn) in &conns {
        let frames = bench.read(*conn);
        assert_eq!((cuts(&frames).len(), frames.len()), (0, 1), "only a heartbeat at first");
        let place = place_of(&frames, 100 + *leaf as u64).expect("a question where it is");
        bench.deliver(*conn, &[place]);
    }
    // The newer copies of A, B and C have 103, 105 and 107.
    let asked: Vec<u64> = conns.values().flat_map(|conn| cuts(&bench.read(*conn))).collect();
    assert_eq!(asked, [103; 3]);
    bench.ask(client, query(1, Op::Stop, "", 0));
    // One that says nothing is not waited for beyond 50 ms; one that left has nothing waiting.
    bench.wait_ms(1_500);
    bench.read(client);
    for conn in conns.values() {
        bench.read(*conn);
    }
    bench.deliver(client, &again(2).frames());
    for (leaf, conn) in conns.iter().skip(1) {
        let frames = bench.read(*conn);
        let place = place_of(&frames, 100 + *leaf as u64).expect("a question where it is");
        bench.deliver(*conn, &[place]);
    }
    bench.wait_ms(50);
    let asked: Vec<u64> = conns.values().flat_map(|conn| cuts(&bench.read(*conn))).collect();
    assert_eq!(asked.len(), 3);
    bench.ask(client, query(2, Op::Stop, "", 0));
    bench.wait_ms(1_500);
    bench.read(client);
    // When nobody says where it is, there is no cut: as of an old place an answer would be complete and old.
    bench.deliver(client, &again(4).frames());
    bench.wait_ms(50);
    assert_eq!(refusals(&bench.read(client)), [(4, ErrorCode::NoData as u16)]);
    bench.deliver(client, &again(3).frames());
    bench.aggregator.handle_close(bench.now, client, CloseReason::Reset);
    bench.wait_ms(60);
    bench.assert_nothing_pending();
    assert_eq!(bench.aggregator.leaves.conn(LeafId(0)), conns.get(&CORE).copied());
    assert!(conns.contains_key(&CORE_1));
}

/// What a node answers that is asked among these frames where it is.
fn place_of(frames: &[Frame], next_seq: u64) -> Option<Frame> {
    let asked = frames.iter().filter_map(Frame::view::<Heartbeat>).next_back()?;
    let (token, next_seq) = (asked.token, U64::new(next_seq));
    Some(Frame::seal(Heartbeat { token, next_seq, ..Heartbeat::default() }))
}

#[test]
fn a_node_that_is_not_current_is_asked_again_for_the_next_query() {
    for flags in [0, Flags::STALE] {
        let mut bench = replicated();
        let client = bench.client();
        let ours = |id: u32| {
            Question::new(&query(id, Op::Last, "*", 0)).unwrap().cut_at(Some(NEWEST_COMMON_CUT))
        };
        let conns: Vec<ConnId> = bench.leaves.values().copied().collect();
        bench.deliver(client, &ours(1).frames());
        for (number, conn) in conns.iter().enumerate() {
            let place = place_of(&bench.read(*conn), 7).unwrap();
            let flags = if number == 2 { flags } else { 0 };
            let beat = Heartbeat { flags: U16::new(flags), ..*place.view::<Heartbeat>().unwrap() };
            bench.deliver(*conn, &[Frame::seal(beat)]);
        }
        conns.iter().for_each(|conn| drop(bench.read(*conn)));
        bench.deliver(client, &ours(2).frames());
        let asked = conns.iter().filter(|conn| place_of(&bench.read(**conn), 7).is_some());
        let want = if flags == 0 { 0 } else { conns.len() };
        assert_eq!(asked.count(), want);
    }
}

#[test]
fn an_answer_to_an_older_question_says_nothing_of_now() {
    let mut bench = replicated();
    let client = bench.client();
    let ours = |id: u32| {
        Question::new(&query(id, Op::Last, "*", 0)).unwrap().cut_at(Some(NEWEST_COMMON_CUT))
    };
    let cuts = |bench: &mut Bench, conns: &[ConnId]| -> Vec<u64> {
        let frames: Vec<Frame> = conns.iter().flat_map(|conn| bench.read(*conn)).collect();
        frames.iter().filter_map(Frame::view::<QueryMore>).map(|more| more.as_of.get()).collect()
    };
    bench.deliver(client, &ours(1).frames());
    let conns: Vec<ConnId> = bench.leaves.values().copied().collect();
    // All answers stand in connections that stand still, until after the next question.
    let late: Vec<Frame> =
        conns.iter().map(|conn| place_of(&bench.read(*conn), 7).unwrap()).collect();
    bench.wait_ms(60);
    bench.ask(client, query(1, Op::Stop, "", 0));
    bench.wait_ms(1_500);
    conns.iter().for_each(|conn| drop(bench.read(*conn)));
    bench.deliver(client, &ours(2).frames());
    let now: Vec<Frame> =
        conns.iter().map(|conn| place_of(&bench.read(*conn), 100).unwrap()).collect();
    for (conn, late) in conns.iter().zip(&late) {
        bench.deliver(*conn, &[*late]);
    }
    assert_eq!(cuts(&mut bench, &conns), Vec::<u64>::new(), "nobody has said where it is now");
    for (conn, now) in conns.iter().zip(&now) {
        bench.deliver(*conn, &[*now]);
    }
    assert_eq!(cuts(&mut bench, &conns), [100; 3]);
}

/// Asks as of a cut of the aggregator's choice. Whether the nodes were asked where they are, who then say these places.
fn asks_for_places(
    bench: &mut Bench,
    client: ConnId,
    id: u32,
    next_seq_of: impl Fn(usize) -> u64,
) -> bool {
    let ours = Question::new(&query(id, Op::Last, "*", 0)).unwrap();
    bench.deliver(client, &ours.cut_at(Some(NEWEST_COMMON_CUT)).frames());
    let mut is_asked = false;
    for (leaf, conn) in bench.leaves.clone() {
        let frames = bench.read(conn);
        let answer = place_of(&frames, next_seq_of(leaf));
        is_asked |= answer.is_some();
        answer.into_iter().for_each(|answer| bench.deliver(conn, &[answer]));
    }
    bench.ask(client, query(id, Op::Stop, "", 0));
    for conn in bench.leaves.clone().values() {
        bench.read(*conn);
    }
    is_asked
}

#[test]
fn places_are_asked_for_again_when_a_node_lagged_or_has_just_come() {
    let mut bench = replicated();
    let client = bench.client();
    assert!(asks_for_places(&mut bench, client, 1, |_| 100));
    assert!(!asks_for_places(&mut bench, client, 2, |_| 100), "that is known");
    bench.wait_ms(1_500);
    let one_lags = |leaf: usize| if leaf == OWNER { 40 } else { 200 };
    assert!(asks_for_places(&mut bench, client, 3, one_lags));
    assert!(asks_for_places(&mut bench, client, 4, |_| 200), "one was behind");
    assert!(!asks_for_places(&mut bench, client, 5, |_| 200));
    bench.lose(OWNER);
    bench.wait_ms(200);
    bench.connect(OWNER);
    bench.read(bench.leaves[&OWNER]);
    assert!(asks_for_places(&mut bench, client, 6, |_| 200), "one has just come");
}

#[test]
fn a_silent_copy_is_probed_beside_another_and_its_answer_is_for_nobody() {
    let mut bench = replicated();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    assert_eq!(bench.questions(OWNER).len(), 1);
    // It keeps the question for 45 ms; the other one is asked after 20.
    bench.wait_ms(45);
    bench.answer(OWNER_1, &[trade(7)]);
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
    bench.assert_nothing_pending();
    assert_eq!(bench.questions(OWNER).len(), 1, "it is told to stop");
    let silent = |bench: &Bench| bench.aggregator.gather.silent();
    assert_eq!(silent(&bench), 1);
    bench.wait_ms(20);
    // Nobody waits for the probe, and what it brings is in no answer.
    bench.ask(client, query(2, Op::Last, "PETR4", Query::EXPLAIN));
    let probe = bench.questions(OWNER)[0];
    bench.answer(OWNER_1, &[trade(8)]);
    let frames = bench.read(client);
    assert_eq!((ended(&frames), seqs(&frames)), (EndStatus::Complete, vec![8]));
    assert_eq!(statuses(&frames)[OWNER..=OWNER_1], [Spare, Ok]);
    assert_eq!(silent(&bench), 1);
    bench.leaf_sends(OWNER, &answer_to(probe.id.get(), &[trade(9)]));
    assert_eq!(silent(&bench), 0);
    assert!(bench.read(client).is_empty());
    assert!(bench.questions(OWNER).is_empty() && bench.closed.is_empty());
    bench.assert_nothing_pending();
    let counts = bench.aggregator.gather.counts();
    assert_eq!((counts.probed, counts.late, counts.unexpected), (1, 0, 0));
}

#[test]
fn a_probe_that_is_not_answered_ends_in_time_and_its_breaker_counts_it() {
    let mut bench = replicated();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.wait_ms(45);
    bench.answer(OWNER_1, &[trade(7)]);
    bench.wait_ms(20);
    bench.ask(client, query(2, Op::Last, "PETR4", 0));
    bench.answer(OWNER_1, &[trade(8)]);
    assert_eq!(bench.read(client).last().map(Frame::kind), Some(Some(Kind::End)));
    assert_eq!(bench.questions(OWNER).len(), 3, "a question, that it may stop, and a probe");
    bench.wait_ms(449);
    assert!(!bench.aggregator.leaves.has_no_questions(), "the probe has the time of its query");
    bench.wait_ms(1);
    bench.assert_nothing_pending();
    let told = bench.questions(OWNER);
    assert_eq!(told.iter().map(|it| it.op).collect::<Vec<_>>(), [Op::Stop as u8]);
    assert_eq!(bench.aggregator.gather.silent(), 1);
    assert_eq!(bench.aggregator.gather.next_deadline(), None);
}

#[test]
fn a_cut_far_ahead_of_the_log_is_held_against_no_node() {
    let mut bench = replicated();
    let client = bench.client();
    // Everybody has said how far it is.
    let conns: Vec<ConnId> = bench.leaves.values().copied().collect();
    for conn in &conns {
        let beat = Heartbeat { next_seq: U64::new(100), ..Heartbeat::default() };
        bench.deliver(*conn, &[Frame::seal(beat)]);
    }
    let send_behind = |bench: &mut Bench| {
        for leaf in 0..8 {
            for asked in bench.questions(leaf).iter().filter(|it| it.op != Op::Stop as u8) {
                let (status, code) = (EndStatus::Failed as u8, ErrorCode::Behind as u16);
                let (code, as_of) = (U16::new(code), U64::new(100));
                let end = Ended { id: asked.id, status, code, as_of, ..Ended::default() };
                bench.leaf_sends(leaf, &[Frame::seal(end)]);
            }
        }
    };
    for round in 0..4 {
        for id in 1..=4 {
            let options = Query::WITH_QUOTE;
            let far = Question::new(&query(round * 4 + id, Op::Last, "*", options)).unwrap();
            bench.deliver(client, &far.cut_at(Seq::new(1_000_000_000_000)).frames());
        }
        // They wait until their time is over, and say it a little later.
        bench.wait_ms(451);
        send_behind(&mut bench);
        let codes: Vec<u16> = refusals(&bench.read(client)).iter().map(|it| it.1).collect();
        assert_eq!(codes, [ErrorCode::Behind as u16; 4]);
    }
    bench.wait_ms(100);
    assert!(bench.closed.is_empty() && bench.dials.is_empty(), "{:?}", bench.log);
    let counts = bench.aggregator.gather.counts();
    assert_eq!((counts.hedged, counts.failed_over, counts.retried, counts.probed), (0, 0, 0, 0));
    assert_eq!(bench.aggregator.gather.silent(), 0);
    bench.assert_nothing_pending();
    // A question of now is asked of the first copy as before.
    bench.ask(client, query(99, Op::Last, "PETR4", 0));
    bench.answer(OWNER, &[trade(7)]);
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
}
