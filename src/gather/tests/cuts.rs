//! Questions at a cut: a node that waits for it is well, and says how far it is only by the way.

use super::*;

const A2: LeafId = LeafId(11);
/// A cut that nobody will reach.
const FAR: u64 = 1_000_000_000_000;

fn two() -> Vec<PartPlan> {
    let replicas = vec![replica(A, Availability::Ready), replica(A2, Availability::Ready)];
    vec![PartPlan { replicas, ..part(A, Op::Last, Availability::Ready) }]
}

/// The same at a cut.
fn two_at(cut: u64) -> Vec<PartPlan> {
    let mut plan = two();
    plan[0].question.as_of = Seq::new(cut);
    plan
}

fn behind(as_of: u64) -> Ended {
    Ended { as_of: U64::new(as_of), ..end(EndStatus::Failed, Some(ErrorCode::Behind)) }
}

fn asks(gather: &mut Gather) -> Vec<Request> {
    std::iter::from_fn(|| gather.poll_request()).collect()
}

#[test]
fn nodes_that_wait_for_a_cut_of_the_client_are_healthy_and_nobody_else_is_asked() {
    let mut gather = Gather::new();
    for leaf in [A, A2] {
        gather.note_as_of(Mono::default(), leaf, Seq::new(500));
    }
    for client in 0..256 {
        gather.begin_query(START, client, &query(Op::Last, 0), &two_at(FAR)).unwrap();
    }
    let asked = asks(&mut gather);
    assert!(asked.len() == 256 && asked.iter().all(|ask| ask.is_ahead));
    for at in 1..91 {
        gather.handle_timeout(ms(at));
    }
    assert_eq!((asks(&mut gather), gather.silent()), (vec![], 0));
    for ask in asked {
        assert_eq!(
            gather.handle_end(ask.leaf, ask.id(), &behind(500), ms(91)),
            FrameOutcome::Taken
        );
    }
    let answers: Vec<Answer> = std::iter::from_fn(|| gather.poll_answer()).collect();
    assert_eq!(answers.len(), 256);
    assert!(answers.iter().all(|answer| answer.code == Some(ErrorCode::Behind)));
    let as_of = |answer: &Answer| answer.frames.last()?.view::<Ended>()?.as_of();
    assert!(answers.iter().all(|it| as_of(it) == Seq::new(500)), "it says how far they are");
    let counts = gather.counts();
    assert_eq!((counts.hedged, counts.hedges_denied, counts.failed_over), (0, 0, 0));
    for leaf in [A, A2] {
        assert!(!gather.leaves.is_unhealthy(ms(91), leaf), "{leaf:?}");
    }
    // Nor is it known as slow: others are hedged as early as before.
    gather.begin_query(ms(92), CLIENT, &query(Op::Last, 0), &two()).unwrap();
    assert!(gather.next_deadline().unwrap() <= ms(92 + 20), "{:?}", gather.next_deadline());
}

#[test]
fn a_cut_that_another_copy_has_reached_is_asked_of_that_one() {
    let mut gather = Gather::new();
    gather.note_as_of(Mono::default(), A, Seq::new(500));
    gather.note_as_of(Mono::default(), A2, Seq::new(900));
    gather.begin_query(START, 1, &query(Op::Last, 0), &two_at(800)).unwrap();
    let asked = asks(&mut gather);
    assert_eq!((asked[0].leaf, asked[0].is_ahead), (A2, false), "it need not wait");
    assert!(gather.next_deadline().unwrap() < ms(95), "and it is watched");
    // The other one is asked when nobody else can be, and then it is to blame for being behind.
    gather.handle_leaf_lost(A2, ms(1));
    let asked = asks(&mut gather);
    assert_eq!((asked[0].leaf, asked[0].is_ahead), (A, true));
    let _ = gather.handle_end(A, asked[0].id(), &behind(500), ms(2));
    assert!(gather.leaves.is_unhealthy(ms(2), A));
    assert_eq!(gather.poll_answer().unwrap().code, Some(ErrorCode::Behind));
    // One that seems well and waits is hedged with the one that is there.
    let mut gather = Gather::new();
    gather.note_as_of(Mono::default(), A2, Seq::new(900));
    gather.leaves.note_failed(START, A2);
    gather.begin_query(START, 1, &query(Op::Last, 0), &two_at(800)).unwrap();
    assert_eq!(asks(&mut gather)[0].leaf, A);
    gather.handle_timeout(ms(20));
    assert_eq!(asks(&mut gather)[0].leaf, A2);
}

#[test]
fn an_answer_at_an_old_cut_does_not_take_a_node_back() {
    let mut gather = Gather::new();
    gather.note_as_of(Mono::default(), A, Seq::new(900));
    let at = |as_of: u64| Ended { as_of: U64::new(as_of), ..end(EndStatus::Complete, None) };
    let ask = |gather: &mut Gather, cut: u64, said: &Ended| {
        let mut plan = [part(A, Op::Last, Availability::Ready)];
        plan[0].question.as_of = Seq::new(cut);
        gather.begin_query(START, 1, &query(Op::Last, 0), &plan).unwrap();
        let id = gather.poll_request().unwrap().id();
        assert_eq!(gather.handle_end(A, id, said, ms(1)), FrameOutcome::Taken);
        gather.poll_answer().unwrap();
    };
    ask(&mut gather, 100, &at(100));
    assert!(!gather.leaves.is_ahead(A, Seq::new(900)));
    ask(&mut gather, 950, &at(950));
    assert!(!gather.leaves.is_ahead(A, Seq::new(950)) && gather.leaves.is_ahead(A, Seq::new(951)));
    // A new epoch may: then it says so of itself.
    for said in [(960, behind(40)), (0, at(40))] {
        gather.note_as_of(Mono::default(), A, Seq::new(900));
        ask(&mut gather, said.0, &said.1);
        assert!(
            gather.leaves.is_ahead(A, Seq::new(41)) && !gather.leaves.is_ahead(A, Seq::new(40))
        );
    }
}
