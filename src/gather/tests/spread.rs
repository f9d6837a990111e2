//! One name that two parts may have: each is asked for a list of what it has of it.

use super::*;

/// Core for the quote, and A and B, of which one may know the name.
fn spread(op: Op) -> Vec<PartPlan> {
    let mut plan = plan(op);
    for part in &mut plan[1..] {
        let name = part.question.query.symbol;
        part.question = part.question.about([name, name]).unwrap();
    }
    plan
}

fn definition() -> Frame {
    Frame::seal(Definition::new(U32::new(9).into(), "xnas:AMZN".parse().unwrap(), 2))
}

fn nothing(gather: &mut Gather, ids: &BTreeMap<LeafId, u32>, leaf: LeafId) {
    let end =
        Ended { covered_from: U64::ZERO, covered_to: U64::ZERO, ..end(EndStatus::Complete, None) };
    assert_eq!(gather.handle_end(leaf, ids[&leaf], &end, ms(3)), FrameOutcome::Taken);
}

#[test]
fn who_does_not_know_the_name_is_no_error_beside_who_does() {
    for knows in [A, B] {
        let (mut gather, ids) = begun(&query(Op::Last, 0), &spread(Op::Last));
        reply(&mut gather, &ids, CORE, &[definition(), quote(0)]);
        reply(&mut gather, &ids, knows, &[definition(), trade(20, 7)]);
        nothing(&mut gather, &ids, if knows == A { B } else { A });
        let (answer, data, nodes) = answer(&mut gather);
        assert_eq!((answer.status, answer.code), (EndStatus::Complete, None));
        assert_eq!(seqs(&data), [0, 900, 7]);
        assert!(nodes.iter().all(|(status, _)| *status == NodeStatus::Ok));
        let end: &Ended = answer.frames.last().unwrap().view().unwrap();
        let covered = (end.covered_from.get(), end.covered_to.get());
        assert_eq!(covered, (10, 1_000), "who has nothing covers nothing less");
    }
}

#[test]
fn a_name_that_neither_knows_is_unknown() {
    let unknown = Some(ErrorCode::UnknownSymbol);
    for (op, options, core_knows, want) in [
        (Op::Last, 0, false, EndStatus::Failed),
        (Op::Last, Query::PARTIAL, false, EndStatus::Failed),
        (Op::Last, 0, true, EndStatus::Failed),
        (Op::Bars, Query::PARTIAL, true, EndStatus::Failed),
        (Op::Last, Query::PARTIAL, true, EndStatus::Partial),
    ] {
        let (mut gather, ids) = begun(&query(op, options), &spread(op));
        if core_knows {
            reply(&mut gather, &ids, CORE, &[definition(), quote(0)]);
        } else {
            let refusal = Refusal::new(ErrorCode::UnknownSymbol, 0, "no such name");
            let _ = gather.handle_refusal(CORE, ids[&CORE], &refusal, ms(1));
        }
        nothing(&mut gather, &ids, A);
        nothing(&mut gather, &ids, B);
        let (answer, data, _) = answer(&mut gather);
        assert_eq!(answer.status, want, "{op:?} {options} {core_knows}");
        if want == EndStatus::Failed {
            assert_eq!(answer.code, unknown);
            let said = if core_knows { "no such instrument" } else { "no such name" };
            assert_eq!(words(&answer), said);
        } else {
            assert_eq!((answer.code, seqs(&data)), (Some(ErrorCode::Incomplete), vec![0, 900]));
        }
    }
}

/// The one that is away may have instruments of this name too: each is whole in one part, so it is a hole.
#[test]
fn one_of_the_two_that_is_away_is_missing() {
    for (op, options, want) in [
        (Op::Last, 0, EndStatus::Failed),
        (Op::Last, Query::PARTIAL, EndStatus::Partial),
        (Op::Bars, 0, EndStatus::Failed),
        (Op::Bars, Query::PARTIAL, EndStatus::Partial),
    ] {
        let mut plan = spread(op);
        plan.remove(0);
        plan[1].replicas[0].availability = Availability::Refused;
        let (mut gather, ids) = begun(&query(op, options), &plan);
        let mut rows = vec![definition()];
        rows.extend(if op == Op::Bars { bar(0, 5).to_vec() } else { vec![trade(20, 7)] });
        reply(&mut gather, &ids, A, &rows);
        let answer = answer(&mut gather).0;
        assert_eq!((answer.status, answer.code), (want, Some(ErrorCode::Incomplete)), "{op:?}");
    }
}
