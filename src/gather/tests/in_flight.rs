//! The state of queries under way: each attempt and each part ends once, and the tables with it.

use super::*;
use crate::gather::gathering::{AttemptId, AttemptKind, NewAttempt, Part, PartId, RowsTaken};
use crate::gather::in_flight::InFlight;

const FIRST: RequestId = RequestId(1);
const SECOND: RequestId = RequestId(2);

/// One query with one part of two copies, both of which are asked.
fn both_asked() -> (InFlight, PartId, [AttemptId; 2]) {
    let mut in_flight = InFlight::default();
    let question = Question::new(&query(Op::Last, 0)).unwrap();
    let replicas = [A, B].map(|leaf| replica(leaf, Availability::Ready)).to_vec();
    let plan = PartPlan { replicas, ..part(A, Op::Last, Availability::Ready) };
    let parts = vec![Part::new(plan).unwrap()];
    let id = in_flight.insert(CLIENT, &question, parts, START).part_ids().next().unwrap();
    for (request, kind) in [(FIRST, AttemptKind::First), (SECOND, AttemptKind::Hedge)] {
        let replica = in_flight.part(id).unwrap().1.untried().next().expect("a copy is left");
        let start = NewAttempt { replica, request, kind, begun: START, is_ahead: false };
        in_flight.begin_attempt(id, start).unwrap();
    }
    let attempts = [(A, FIRST), (B, SECOND)].map(|(leaf, it)| in_flight.attempt_of(leaf, it));
    (in_flight, id, attempts.map(Option::unwrap))
}

#[test]
fn a_copy_that_was_asked_is_not_tried_again() {
    let (in_flight, id, _) = both_asked();
    assert!(!in_flight.part(id).unwrap().1.has_untried());
}

#[test]
fn an_attempt_that_is_over_takes_nothing_more_and_does_not_end_again() {
    let (mut in_flight, _, [first, second]) = both_asked();
    let rows = [trade(1, 1), trade(2, 2)];
    assert_eq!(in_flight.take_rows(first, &rows), Some(RowsTaken::All));
    assert!(in_flight.end_attempt(first, NodeStatus::Failed, ms(1)).is_some());
    assert_eq!(in_flight.frames(), 0, "of one that failed nothing is held");
    assert_eq!((in_flight.is_open(FIRST), in_flight.is_open(SECOND)), (false, true));
    assert_eq!(in_flight.take_rows(first, &rows), None);
    assert!(in_flight.take_end(first, &end(EndStatus::Complete, None), None).is_none());
    assert!(in_flight.end_attempt(first, NodeStatus::Ok, ms(2)).is_none());
    assert_eq!(in_flight.take_rows(second, &rows), Some(RowsTaken::All));
    assert_eq!(in_flight.frames(), 2);
}

#[test]
fn a_part_that_is_done_leaves_no_request_timer_or_row_of_a_loser() {
    let (mut in_flight, id, [first, second]) = both_asked();
    in_flight.set_hedge_timer(id, Some(ms(5)));
    in_flight.set_hedge_timer(id, Some(ms(7)));
    assert_eq!(in_flight.next_hedge(), Some(ms(7)), "a part has one timer");
    in_flight.take_rows(first, &[trade(1, 1)]).unwrap();
    in_flight.take_rows(second, &[trade(1, 1), trade(2, 2)]).unwrap();
    in_flight.end_attempt(second, NodeStatus::Ok, ms(1)).unwrap();
    let completed = in_flight.complete_part(id, ms(1)).unwrap();
    assert!(completed.is_last && completed.is_won_by_hedge);
    let lost: Vec<RequestId> = completed.lost.iter().map(|lost| lost.request).collect();
    assert_eq!(lost, [FIRST]);
    assert_eq!((in_flight.requests(), in_flight.next_hedge()), (0, None));
    assert_eq!(in_flight.frames(), 2, "the rows of the winner");
    assert!(in_flight.complete_part(id, ms(2)).is_none(), "a part is completed once");
    in_flight.remove(id.gather()).unwrap();
    assert!(in_flight.is_empty() && in_flight.frames() == 0);
}

#[test]
fn a_query_that_is_removed_in_the_middle_leaves_nothing_in_any_table() {
    let (mut in_flight, id, [first, _]) = both_asked();
    in_flight.set_hedge_timer(id, Some(ms(5)));
    in_flight.take_rows(first, &[trade(1, 1)]).unwrap();
    let gathering = in_flight.remove(id.gather()).unwrap();
    assert_eq!(gathering.open_attempts().count(), 2, "their requests are still to be cancelled");
    assert!(in_flight.is_empty() && in_flight.frames() == 0);
}
