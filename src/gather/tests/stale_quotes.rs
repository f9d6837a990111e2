//! A replica whose quotes are not known to be current, beside a core whose quotes are, and probes that fail.

use super::*;

const CORE1: LeafId = LeafId(10);
const CORE2: LeafId = LeafId(20);

/// A part of that many copies.
fn copies(op: Op, leaves: &[LeafId]) -> Vec<PartPlan> {
    let replicas = leaves.iter().map(|leaf| replica(*leaf, Availability::Ready)).collect();
    vec![PartPlan { replicas, ..part(CORE, op, Availability::Ready) }]
}

fn next(gather: &mut Gather) -> (LeafId, u32) {
    let ask = gather.poll_request().expect("a question");
    (ask.leaf, ask.id())
}

/// A copy answers with one quote.
fn says(gather: &mut Gather, (leaf, id): (LeafId, u32), flags: u16, at: Mono) {
    assert_eq!(gather.handle_rows(leaf, id, &[quote(flags)], at), FrameOutcome::Taken);
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(leaf, id, &end, at), FrameOutcome::Taken);
}

fn is_stale(answer: &Answer) -> bool {
    answer.frames.iter().any(|it| it.kind() == Some(Kind::Quote) && it.has(Flags::STALE))
}

/// Core is asked and takes long; the replica is asked as well, and its quote is not known to be current.
fn hedged_and_stale(leaves: &[LeafId]) -> (Gather, (LeafId, u32)) {
    let mut gather = Gather::new();
    let plan = copies(Op::Quote, leaves);
    gather.begin_query(START, CLIENT, &query(Op::Quote, 0), &plan).unwrap();
    let core = next(&mut gather);
    gather.handle_timeout(ms(20));
    let replica = next(&mut gather);
    assert_eq!((core.0, replica.0), (CORE, CORE1));
    says(&mut gather, replica, Flags::STALE, ms(21));
    assert_eq!((gather.poll_answer(), gather.poll_cancel()), (None, None), "core may know better");
    (gather, core)
}

#[test]
fn a_core_that_is_about_to_answer_is_not_beaten_by_a_replica_that_is_cut_off() {
    let (mut gather, core) = hedged_and_stale(&[CORE, CORE1]);
    says(&mut gather, core, 0, ms(22));
    let (answer, _, nodes) = answer(&mut gather);
    assert!(!is_stale(&answer) && answer.status == EndStatus::Complete);
    assert_eq!(nodes, [(NodeStatus::Ok, 1), (NodeStatus::Ok, 0)]);
    assert!(!gather.leaves.is_unhealthy(ms(22), CORE) && gather.leaves.is_unhealthy(ms(22), CORE1));
}

#[test]
fn a_core_that_stops_is_not_waited_for_with_an_answer_in_hand() {
    let (mut gather, _) = hedged_and_stale(&[CORE, CORE1]);
    assert_eq!(gather.next_deadline(), Some(ms(40)), "when core is silent");
    gather.handle_timeout(ms(40));
    assert!(is_stale(&gather.poll_answer().unwrap()));
    // One that ends has its last word too.
    let (mut gather, _) = hedged_and_stale(&[CORE, CORE1]);
    gather.handle_leaf_lost(CORE, ms(22));
    assert!(is_stale(&gather.poll_answer().unwrap()));
    // The replica was asked first, since core was busy; then core is asked, and stops.
    let mut gather = Gather::new();
    let plan = copies(Op::Quote, &[CORE, CORE1]);
    gather.begin_query(START, 1, &query(Op::Quote, 0), &plan[..1]).unwrap();
    let first = next(&mut gather);
    gather.begin_query(START, CLIENT, &query(Op::Quote, 0), &plan).unwrap();
    let replica = next(&mut gather);
    assert_eq!(replica.0, CORE1);
    says(&mut gather, first, 0, ms(1));
    gather.poll_answer().unwrap();
    says(&mut gather, replica, Flags::STALE, ms(2));
    assert_eq!(next(&mut gather).0, CORE);
    gather.handle_timeout(ms(41));
    assert_eq!(gather.poll_answer(), None);
    gather.handle_timeout(ms(42));
    assert!(is_stale(&gather.poll_answer().unwrap()));
    assert_eq!((gather.in_flight(), gather.leaves.requests()), (0, 0));
}

#[test]
fn a_third_copy_is_asked_when_the_second_was_no_help() {
    let (mut gather, core) = hedged_and_stale(&[CORE, CORE1, CORE2]);
    // Core is slow and not silent.
    let definition = Frame::seal(Definition::new(U32::new(9).into(), "PETR4".parse().unwrap(), 2));
    assert_eq!(gather.handle_rows(core.0, core.1, &[definition], ms(39)), FrameOutcome::Taken);
    gather.handle_timeout(ms(40));
    let third = next(&mut gather);
    assert_eq!(third.0, CORE2);
    says(&mut gather, third, 0, ms(41));
    assert!(!is_stale(&gather.poll_answer().unwrap()));
    assert_eq!((gather.counts().hedged, gather.counts().hedges_denied), (2, 0));
}

// ---- probes ----

const A2: LeafId = LeafId(11);
const A3: LeafId = LeafId(21);

/// A is silent, and A2 if there is A3; the last one answers.
fn with_silent(leaves: &[LeafId]) -> Gather {
    let mut gather = Gather::new();
    let plan = copies(Op::Last, leaves);
    gather.begin_query(START, CLIENT, &query(Op::Last, 0), &plan).unwrap();
    let end = end(EndStatus::Complete, None);
    let mut last = None;
    for at in 1..70 {
        gather.handle_timeout(ms(at));
        last = std::iter::from_fn(|| gather.poll_request()).last().or(last);
        // Not before the others are known to be silent.
        let is_asked = last.as_ref().is_some_and(|ask| Some(&ask.leaf) == leaves.last());
        if is_asked && gather.silent() == leaves.len() - 1 {
            let id = last.as_ref().unwrap().id();
            assert_eq!(
                gather.handle_end(leaves[leaves.len() - 1], id, &end, ms(at)),
                FrameOutcome::Taken
            );
            break;
        }
    }
    assert_eq!(gather.silent(), leaves.len() - 1);
    gather.poll_answer().unwrap();
    while gather.poll_cancel().is_some() {}
    gather
}

/// A query that the last copy answers; who was probed beside it.
fn probed(gather: &mut Gather, leaves: &[LeafId], at: Mono) -> Vec<Request> {
    let plan = copies(Op::Last, leaves);
    gather.begin_query(at, CLIENT, &query(Op::Last, 0), &plan).unwrap();
    let asks: Vec<Request> = std::iter::from_fn(|| gather.poll_request()).collect();
    let (asked, probes) = asks.into_iter().partition(|ask| Some(&ask.leaf) == leaves.last());
    let asked: Vec<Request> = asked;
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(asked[0].leaf, asked[0].id(), &end, at), FrameOutcome::Taken);
    gather.poll_answer().unwrap();
    probes
}

#[test]
fn a_probe_that_is_refused_ends_the_silence_and_is_no_recommendation() {
    let refusal = |code| Refusal::new(code, 1, "no");
    type Say = fn(&mut Gather, u32, &Refusal) -> FrameOutcome;
    let refuses: Say = |gather, id, said| gather.handle_refusal(A, id, said, ms(101));
    let fails: Say = |gather, id, said| {
        let end = end(EndStatus::Failed, ErrorCode::from_number(said.code.get()));
        gather.handle_end(A, id, &end, ms(101))
    };
    for say in [refuses, fails] {
        for (code, is_unhealthy) in [
            (ErrorCode::Storage, true),
            (ErrorCode::Stopping, true),
            (ErrorCode::Behind, true),
            (ErrorCode::UnknownSymbol, false),
        ] {
            let mut gather = with_silent(&[A, A2]);
            let probes = probed(&mut gather, &[A, A2], ms(100));
            assert_eq!(say(&mut gather, probes[0].id(), &refusal(code)), FrameOutcome::Taken);
            assert_eq!(gather.silent(), 0, "it does answer");
            assert_eq!(gather.leaves.is_unhealthy(ms(101), A), is_unhealthy, "{code:?}");
        }
    }
    let mut gather = with_silent(&[A, A2]);
    let probes = probed(&mut gather, &[A, A2], ms(100));
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(A, probes[0].id(), &end, ms(101)), FrameOutcome::Taken);
    assert!(!gather.leaves.is_unhealthy(ms(101), A));
}

#[test]
fn of_two_silent_copies_the_one_that_waits_longest_is_probed() {
    let leaves = [A, A2, A3];
    let mut gather = with_silent(&leaves);
    let mut of: Vec<LeafId> = Vec::new();
    for at in [100, 700, 1_300, 1_900] {
        // Queries are rare: one probe each time, and the one before has ended.
        gather.handle_timeout(ms(at));
        of.extend(probed(&mut gather, &leaves, ms(at)).iter().map(|ask| ask.leaf));
    }
    assert_eq!(of, [A, A2, A, A2]);
}
