//! A node that is further behind core than it may be: its rows are taken, and the answer says that it lacks
//! the newest.

use super::*;

const A2: LeafId = LeafId(11);
const LIMIT: Duration = Duration::from_secs(3);

fn judging() -> Gather {
    Gather::with_behind_max(LIMIT)
}

fn end_behind(ms: u32) -> Ended {
    Ended { behind_ms: U32::new(ms), ..end(EndStatus::Complete, None) }
}

/// As a shard that judges itself says it.
fn told_behind(ms: u32) -> Ended {
    let code = Some(ErrorCode::Behind);
    Ended { behind_ms: U32::new(ms), ..end(EndStatus::Partial, code) }
}

fn copies(op: Op, leaves: &[LeafId]) -> Vec<PartPlan> {
    let replicas = leaves.iter().map(|leaf| replica(*leaf, Availability::Ready)).collect();
    vec![PartPlan { replicas, ..part(A, op, Availability::Ready) }]
}

/// The answer to one question that A answers with this end.
fn asked(query: &Query, rows: &[Frame], end: Ended) -> Answer {
    let mut gather = judging();
    let op = Op::from_number(query.op).unwrap();
    gather.begin_query(START, CLIENT, query, &copies(op, &[A])).unwrap();
    let id = gather.poll_request().unwrap().id();
    for row in rows {
        assert_eq!(gather.row(A, id, row), FrameOutcome::Taken);
    }
    assert_eq!(gather.handle_end(A, id, &end, ms(3)), FrameOutcome::Taken);
    answer(&mut gather).0
}

fn node(answer: &Answer) -> (NodeStatus, u16) {
    let node = answer.frames.iter().find_map(|frame| frame.view::<NodeAnswer>()).unwrap();
    (NodeStatus::from_number(node.status).unwrap(), node.behind_s.get())
}

#[test]
fn a_node_that_is_behind_makes_an_answer_partial_and_says_how_far() {
    let welcome = query(Op::Last, Query::PARTIAL);
    for (end, status, told) in [
        (end_behind(0), NodeStatus::Ok, 0),
        (end_behind(3_000), NodeStatus::Ok, 3),
        (end_behind(3_001), NodeStatus::Behind, 3),
        (end_behind(12_900), NodeStatus::Behind, 12),
        (told_behind(2_500), NodeStatus::Behind, 2),
        (end_behind(Ended::BEHIND_UNKNOWN), NodeStatus::Behind, NodeAnswer::BEHIND_UNKNOWN),
        (end_behind(u32::MAX - 1), NodeStatus::Behind, NodeAnswer::BEHIND_UNKNOWN - 1),
    ] {
        let answer = asked(&welcome, &[trade(1, 1)], end);
        assert_eq!(node(&answer), (status, told), "{end:?}");
        let is_whole = status == NodeStatus::Ok;
        let want = if is_whole { EndStatus::Complete } else { EndStatus::Partial };
        let code = (!is_whole).then_some(ErrorCode::Incomplete);
        assert_eq!((answer.status, answer.code), (want, code), "{end:?}");
        let whole: &Ended = answer.frames.last().unwrap().view().unwrap();
        assert_eq!((whole.rows.get(), whole.behind_ms), (1, end.behind_ms), "its rows are there");
    }
}

#[test]
fn where_a_part_is_not_welcome_it_fails_and_names_who_is_behind() {
    let answer = asked(&query(Op::Last, 0), &[trade(1, 1)], end_behind(12_900));
    assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::Behind)));
    assert_eq!(words(&answer), "leaf-1 is 12 s behind core");
    let answer = asked(&query(Op::Last, 0), &[], end_behind(Ended::BEHIND_UNKNOWN));
    assert_eq!(words(&answer), "leaf-1 has not reached core since its start");
}

#[test]
fn a_sum_of_a_node_that_is_behind_is_right_as_of_its_place() {
    let answer = asked(&query(Op::Bars, Query::PARTIAL), &bar(60, 5), end_behind(9_000));
    assert_eq!(answer.status, EndStatus::Partial);
    assert_eq!(node(&answer), (NodeStatus::Behind, 9));
    let answer = asked(&query(Op::Bars, 0), &bar(60, 5), end_behind(9_000));
    assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::Behind)));
    // One with holes is not right at all.
    let damaged = end(EndStatus::Partial, None);
    let answer = asked(&query(Op::Bars, Query::PARTIAL), &bar(60, 5), damaged);
    assert_eq!(answer.status, EndStatus::Failed);
}

#[test]
fn at_a_cut_of_the_client_nobody_is_behind_and_at_one_of_ours_everybody_may_be() {
    for (cut, status) in [(500, EndStatus::Complete), (u64::MAX, EndStatus::Partial)] {
        let mut gather = judging();
        gather.note_as_of(Mono::default(), A, Seq::new(500));
        let mut plan = copies(Op::Last, &[A]);
        plan[0].question.as_of = Seq::new(cut);
        let question = Question::new(&query(Op::Last, Query::PARTIAL)).unwrap();
        let question = question.cut_at(Seq::new(cut));
        gather.begin(START, CLIENT, &question, plan).unwrap();
        let ask = gather.poll_request().unwrap();
        assert_eq!(ask.question.as_of, Seq::new(500));
        let _ = gather.handle_end(A, ask.id(), &end_behind(9_000), ms(3));
        assert_eq!(answer(&mut gather).0.status, status, "{cut}");
    }
}

/// Which nodes are behind in an answer at a cut of ours, which all call complete. Each has shown a place, as of which it was not
/// current where that is `true`.
fn behind_at_our_cut(
    plan: &[PartPlan],
    places: &[(LeafId, u64, bool)],
    want_cut: u64,
) -> Vec<LeafId> {
    let mut gather = judging();
    for &(leaf, place, is_old) in places {
        match is_old {
            true => gather.note_old_place(START, leaf, Seq::new(place)),
            false => gather.note_as_of(START, leaf, Seq::new(place)),
        }
    }
    let question = Question::new(&query(Op::Last, Query::PARTIAL)).unwrap();
    let question = question.cut_at(Some(crate::gather::NEWEST_COMMON_CUT));
    gather.begin(ms(100), CLIENT, &question, plan.to_vec()).unwrap();
    while let Some(ask) = gather.poll_request() {
        assert_eq!(ask.question.as_of, Seq::new(want_cut), "{places:?}");
        let _ = gather.handle_end(ask.leaf, ask.id(), &end_behind(0), ms(101));
    }
    let answer = answer(&mut gather).0;
    let nodes = answer.frames.iter().filter_map(Frame::view::<NodeAnswer>);
    let behind: Vec<LeafId> = plan
        .iter()
        .flat_map(|part| &part.replicas)
        .zip(nodes)
        .filter(|(_, node)| node.status == NodeStatus::Behind as u8)
        .map(|(copy, _)| copy.leaf)
        .collect();
    let want = if behind.is_empty() { EndStatus::Complete } else { EndStatus::Partial };
    assert_eq!(answer.status, want, "{places:?}");
    behind
}

#[test]
fn an_answer_as_of_a_place_where_nobody_was_current_is_behind() {
    let plan = [copies(Op::Last, &[A, A2]), copies(Op::Last, &[B])].concat();
    let asked = |places: &[(LeafId, u64, bool)], cut| behind_at_our_cut(&plan, places, cut);
    // Nobody fed A when it said where it was, and it has all when it answers.
    assert_eq!(asked(&[(A, 500, true), (B, 800, false)], 500), [A, A2]);
    assert_eq!(asked(&[(A, 500, true), (B, 501, true)], 500), [A, A2]);
    assert_eq!(asked(&[(A, 800, false), (B, 500, true)], 500), [B]);
    // Core was not beyond that place, as somebody shows who was current.
    let nobody: [LeafId; 0] = [];
    assert_eq!(asked(&[(A, 500, true), (B, 500, false)], 500), nobody);
    assert_eq!(asked(&[(A, 500, true), (A2, 499, false), (B, 800, true)], 500), nobody);
    assert_eq!(asked(&[(A, 500, true), (A2, 700, false), (B, 800, true)], 700), nobody);
}

#[test]
fn the_history_is_behind_where_a_copy_of_core_gives_an_old_cut() {
    let quotes = part(A2, Op::Quote, Availability::Ready);
    let plan = [vec![quotes], copies(Op::Last, &[A]), copies(Op::Last, &[B])].concat();
    let places = [(A2, 300, true), (A, 800, false), (B, 800, false)];
    assert_eq!(behind_at_our_cut(&plan, &places, 300), [A, B], "the quotes are of now");
}

#[test]
fn who_is_told_of_an_old_cut_may_ask_again() {
    let mut gather = judging();
    gather.note_old_place(START, A, Seq::new(500));
    let question = Question::new(&query(Op::Last, 0)).unwrap();
    let question = question.cut_at(Some(crate::gather::NEWEST_COMMON_CUT));
    for (end, told) in [
        (end_behind(0), "the common cut may be old; ask again"),
        (end_behind(12_900), "leaf-1 is 12 s behind core"),
    ] {
        gather.begin(START, CLIENT, &question, copies(Op::Last, &[A])).unwrap();
        let ask = gather.poll_request().unwrap();
        let _ = gather.handle_end(A, ask.id(), &end, ms(3));
        let answer = answer(&mut gather).0;
        assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::Behind)));
        assert_eq!(words(&answer), told);
    }
}

#[test]
fn an_end_shows_an_old_place_when_its_node_is_not_current() {
    for (end, is_old) in [(end_behind(0), false), (end_behind(2_001), true)] {
        let mut gather = judging();
        let end = Ended { as_of: U64::new(500), ..end };
        gather.begin_query(START, CLIENT, &query(Op::Last, 0), &copies(Op::Last, &[A])).unwrap();
        let ask = gather.poll_request().unwrap();
        let _ = gather.handle_end(A, ask.id(), &end, ms(1));
        answer(&mut gather);
        let question = Question::new(&query(Op::Last, 0)).unwrap();
        let question = question.cut_at(Some(crate::gather::NEWEST_COMMON_CUT));
        gather.begin(ms(2), CLIENT, &question, copies(Op::Last, &[A])).unwrap();
        let ask = gather.poll_request().unwrap();
        let _ = gather.handle_end(A, ask.id(), &end_behind(0), ms(3));
        let code = is_old.then_some(ErrorCode::Behind);
        assert_eq!(answer(&mut gather).0.code, code);
    }
}

#[test]
fn another_copy_is_asked_and_of_those_that_are_behind_the_nearest_stands() {
    let begin = |gather: &mut Gather, at: Mono| {
        let (query, plan) = (query(Op::Last, Query::PARTIAL), copies(Op::Last, &[A, A2]));
        gather.begin_query(at, CLIENT, &query, &plan).unwrap();
        gather.poll_request().unwrap()
    };
    for (second, status, seq) in [
        (end_behind(0), EndStatus::Complete, 2),
        (end_behind(5_000), EndStatus::Partial, 2),
        (end_behind(20_000), EndStatus::Partial, 1),
        (end(EndStatus::Partial, None), EndStatus::Partial, 1),
    ] {
        let mut gather = judging();
        let first = begin(&mut gather, START);
        assert_eq!(gather.row(first.leaf, first.id(), &trade(1, 1)), FrameOutcome::Taken);
        let _ = gather.handle_end(first.leaf, first.id(), &end_behind(12_000), ms(1));
        let again = gather.poll_request().unwrap();
        assert_ne!(first.leaf, again.leaf);
        assert_eq!(gather.row(again.leaf, again.id(), &trade(2, 2)), FrameOutcome::Taken);
        let _ = gather.handle_end(again.leaf, again.id(), &second, ms(2));
        let (answer, data, _) = answer(&mut gather);
        assert_eq!((answer.status, data[0].seq.get()), (status, seq), "{second:?}");
        if second.behind_ms.get() < 10_000 {
            continue;
        }
        // Both have failed a moment ago: where core is away, nobody is asked twice as much.
        let first = begin(&mut gather, ms(3));
        let _ = gather.handle_end(first.leaf, first.id(), &end_behind(12_003), ms(4));
        assert!(gather.poll_request().is_none());
        assert!(gather.poll_answer().is_some());
    }
}
