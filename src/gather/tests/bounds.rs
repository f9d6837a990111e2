//! Askers that leave or ask what cannot be gathered, and each bound.

use super::*;
use crate::limits::{
    GATHER_FRAMES_MAX, GATHER_FRAMES_TOTAL_MAX, GATHER_LEAVES_MAX, GATHER_QUESTIONS_MAX,
    GATHERS_MAX,
};

#[test]
fn a_client_that_leaves_stops_its_questions_and_gets_no_answer() {
    let (mut gather, ids) = begun(&query(Op::Last, 0), &plan(Op::Last));
    let mut other = query(Op::Last, 0);
    other.id = U32::new(6);
    gather.begin_query(START, CLIENT, &other, &plan(Op::Last)).unwrap();
    gather.begin_query(START, 78, &other, &plan(Op::Last)[..1]).unwrap();
    reply(&mut gather, &ids, A, &[trade(1, 1)]);
    gather.client_left(CLIENT);
    let cancels: Vec<(LeafId, u32)> = std::iter::from_fn(|| gather.poll_cancel()).collect();
    assert_eq!(cancels, [(CORE, ids[&CORE]), (B, ids[&B])], "not A, and not what was never sent");
    assert_eq!(gather.poll_request().map(|ask| ask.leaf), Some(CORE), "the other asker's question");
    assert_eq!(
        (gather.poll_request(), gather.in_flight(), gather.in_flight.frames()),
        (None, 1, 0)
    );
    assert_eq!(gather.counts().abandoned, 2);
    gather.handle_timeout(ms(95));
    assert_eq!(gather.poll_answer().unwrap().client, 78);
    assert_eq!(gather.poll_answer(), None);
    assert!(!gather.stop_query(CLIENT, 5));
}

#[test]
fn an_answer_for_a_client_that_left_is_dropped() {
    let parts = [pruned(A, Op::Last)];
    let (mut gather, _) = begun(&query(Op::Last, 0), &parts);
    gather.client_left(CLIENT);
    assert_eq!(gather.poll_answer(), None);
}

#[test]
fn one_query_is_stopped_by_its_number() {
    let (mut gather, ids) = begun(&query(Op::Last, 0), &plan(Op::Last));
    assert!(!gather.stop_query(CLIENT, 4) && !gather.stop_query(78, 5));
    assert!(gather.stop_query(CLIENT, 5));
    assert_eq!(std::iter::from_fn(|| gather.poll_cancel()).count(), 3);
    assert_eq!(gather.row(A, ids[&A], &trade(1, 1)), FrameOutcome::Late);
    assert_eq!((gather.in_flight(), gather.next_deadline()), (0, None));
}

#[test]
fn a_lost_leaf_is_neither_asked_nor_sent_a_stop() {
    let mut gather = Gather::new();
    gather.begin_query(START, CLIENT, &query(Op::Last, 0), &plan(Op::Last)).unwrap();
    gather.handle_leaf_lost(B, ms(1));
    let asked: Vec<LeafId> =
        std::iter::from_fn(|| gather.poll_request()).map(|ask| ask.leaf).collect();
    assert_eq!(asked, [A, CORE]);
    gather.client_left(CLIENT);
    gather.handle_leaf_lost(A, ms(2));
    assert_eq!(gather.poll_cancel().map(|cancel| cancel.0), Some(CORE));
    assert_eq!(gather.poll_cancel(), None);
}

#[test]
fn an_answer_with_too_many_rows_fails_and_stops_the_nodes() {
    let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &plan(Op::Last));
    for seq in 0..=GATHER_FRAMES_MAX as u64 {
        assert_eq!(gather.in_flight(), 1);
        assert_eq!(gather.row(A, ids[&A], &trade(seq, seq + 1)), FrameOutcome::Taken);
    }
    let (answer, _, _) = answer(&mut gather);
    assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::Limit)));
    assert_eq!(words(&answer), "more rows than the aggregator may answer");
    assert_eq!(std::iter::from_fn(|| gather.poll_cancel()).count(), 3);
    assert_eq!(gather.row(A, ids[&A], &trade(1, 1)), FrameOutcome::Late);
}

#[test]
fn all_queries_together_hold_a_bounded_number_of_rows() {
    let mut gather = Gather::new();
    gather.begin_query(START, CLIENT, &query(Op::Last, 0), &plan(Op::Last)[1..2]).unwrap();
    gather.in_flight.assume_frames(GATHER_FRAMES_TOTAL_MAX);
    let id = gather.poll_request().unwrap().id();
    assert_eq!(gather.row(A, id, &trade(1, 1)), FrameOutcome::Taken);
    assert_eq!(gather.poll_answer().unwrap().code, Some(ErrorCode::Limit));
    assert_eq!(gather.in_flight.frames(), GATHER_FRAMES_TOTAL_MAX);
}

#[test]
fn queries_in_flight_are_bounded_with_their_answers() {
    let mut gather = Gather::new();
    for client in 0..GATHERS_MAX as u64 {
        let availability =
            if client % 2 == 0 { Availability::Ready } else { Availability::BreakerOpen };
        let parts = [part(A, Op::Last, availability)];
        gather.begin_query(START, client, &query(Op::Last, 0), &parts).unwrap();
    }
    let parts = [part(A, Op::Last, Availability::Ready)];
    let refused = gather.begin_query(START, 5_000, &query(Op::Last, 0), &parts).unwrap_err();
    assert_eq!((refused, refused.code()), (AdmissionError::InFlight, ErrorCode::Limit));
    assert!(gather.poll_answer().is_some());
    assert!(gather.begin_query(START, 5_000, &query(Op::Last, 0), &parts).is_ok());
}

#[test]
fn queries_that_cannot_be_gathered_are_refused_and_leave_nothing_behind() {
    let mut gather = Gather::new();
    let good = query(Op::Last, 0);
    let mut refused = |query: &Query, plan: &[PartPlan]| {
        let refused = gather.begin_query(START, CLIENT, query, plan).unwrap_err();
        assert_eq!((gather.in_flight(), gather.poll_request().is_none()), (0, true));
        assert!(refused.to_string().len() <= 48, "{refused} fits a refusal");
        refused
    };
    assert_eq!(refused(&query(Op::Replay, 0), &[]), AdmissionError::Op);
    assert_eq!(refused(&Query { id: U32::new(0), ..good }, &[]), AdmissionError::Id);
    assert_eq!(refused(&Query { deadline_us: U32::new(0), ..good }, &[]), AdmissionError::Deadline);
    assert_eq!(refused(&good, &plan(Op::Bars)), AdmissionError::Plan);
    assert_eq!(refused(&good, &plan(Op::Status)), AdmissionError::Plan);
    let long = vec![part(A, Op::Last, Availability::Ready); GATHER_LEAVES_MAX + 1];
    assert_eq!(refused(&good, &long), AdmissionError::Plan);
    gather.begin_query(START, CLIENT, &good, &plan(Op::Last)).unwrap();
    assert_eq!(gather.begin_query(START, CLIENT, &good, &plan(Op::Last)), Err(AdmissionError::Id));
    assert_eq!(gather.counts().refused, 7);
}

#[test]
fn questions_to_all_nodes_are_bounded_together() {
    let mut gather = Gather::new();
    let leaves = (0..u32::try_from(GATHER_LEAVES_MAX).unwrap()).map(LeafId);
    let parts: Vec<PartPlan> =
        leaves.map(|leaf| part(leaf, Op::Last, Availability::Ready)).collect();
    for client in 0..(GATHER_QUESTIONS_MAX / GATHER_LEAVES_MAX) as u64 {
        gather.begin_query(START, client, &query(Op::Last, 0), &parts).unwrap();
    }
    assert_eq!(std::iter::from_fn(|| gather.poll_request()).count(), GATHER_QUESTIONS_MAX);
    let one = &parts[..1];
    let refused = gather.begin_query(START, 5_000, &query(Op::Last, 0), one).unwrap_err();
    assert_eq!(refused, AdmissionError::InFlight);
    gather.client_left(0);
    assert!(gather.begin_query(START, 5_000, &query(Op::Last, 0), one).is_ok());
}

#[test]
fn the_last_frame_that_has_room_is_taken() {
    let mut gather = Gather::new();
    gather.begin_query(START, CLIENT, &query(Op::Last, 0), &plan(Op::Last)[1..2]).unwrap();
    gather.in_flight.assume_frames(GATHER_FRAMES_TOTAL_MAX - 1);
    let id = gather.poll_request().unwrap().id();
    assert_eq!(gather.row(A, id, &trade(1, 1)), FrameOutcome::Taken);
    assert_eq!(gather.poll_answer(), None);
    assert_eq!(gather.row(A, id, &trade(2, 2)), FrameOutcome::Taken);
    assert_eq!(gather.poll_answer().unwrap().code, Some(ErrorCode::Limit));
}

#[test]
fn what_comes_at_the_moment_of_the_answer_is_late_whatever_it_is() {
    for what in 0..4 {
        let (mut gather, ids) = begun(&query(Op::Last, 0), &plan(Op::Last)[1..2]);
        let id = ids[&A];
        let outcome = match what {
            0 => gather.handle_end(A, id, &end(EndStatus::Complete, None), ms(95)),
            1 => {
                let refusal = Refusal::new(ErrorCode::Storage, id, "no");
                gather.handle_refusal(A, id, &refusal, ms(95))
            }
            2 => gather.handle_request_failed(A, id, NodeStatus::Refused, ms(95)),
            _ => {
                gather.handle_leaf_lost(A, ms(95));
                FrameOutcome::Late
            }
        };
        assert_eq!(outcome, FrameOutcome::Late, "{what}");
        let (answer, _, nodes) = answer(&mut gather);
        assert_eq!(answer.code, Some(ErrorCode::Deadline), "{what}");
        assert_eq!(nodes, [(NodeStatus::Timeout, 0)]);
    }
}
