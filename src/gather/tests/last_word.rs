//! A replica that cannot vouch for its quotes beside a core that can.

use super::*;

const CORE1: LeafId = LeafId(10);

/// A part of that many copies.
fn copies(op: Op, leaves: &[LeafId]) -> Vec<PartPlan> {
    let candidates = leaves.iter().map(|leaf| candidate(*leaf, Availability::Ask)).collect();
    vec![PartPlan { candidates, ..part(CORE, op, Availability::Ask) }]
}

fn next(gather: &mut Gather) -> (LeafId, u32) {
    let ask = gather.poll_ask().expect("a question");
    (ask.leaf, ask.id())
}

/// A copy answers with one quote.
fn says(gather: &mut Gather, (leaf, id): (LeafId, u32), flags: u16, at: Mono) {
    assert_eq!(gather.handle_row(leaf, id, &quote(flags), at), Reply::Taken);
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(leaf, id, &end, at), Reply::Taken);
}

fn is_stale(answer: &Answer) -> bool {
    answer.frames.iter().any(|it| it.kind() == Some(Kind::Quote) && it.has(Flags::STALE))
}

/// Core is asked and takes long; the replica is asked as well and cannot vouch for what it says.
fn hedged_and_stale(leaves: &[LeafId]) -> (Gather, (LeafId, u32)) {
    let mut gather = Gather::new();
    let plan = copies(Op::Quote, leaves);
    gather.begin_query(START, ASKER, &query(Op::Quote, 0), &plan).unwrap();
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
    assert!(!gather.leaves.is_shunned(ms(22), CORE) && gather.leaves.is_shunned(ms(22), CORE1));
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
    gather.begin_query(START, ASKER, &query(Op::Quote, 0), &plan).unwrap();
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
    assert_eq!((gather.in_flight(), gather.leaves.questions()), (0, 0));
}
