//! Each way a node can answer or fail, and what the answer says of it.

mod behind;
mod bounds;
mod copies;
mod cuts;

mod in_flight;
mod lists;
mod model;
mod silence;
mod spread;
mod stale_quotes;

use super::gathering::Deadlines;
use super::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::wire::Query;
use crate::wire::{
    BarNotional, BarPrices, BarTotals, Definition, Flags, I64, Kind, NodeAnswer, Op, Quote, Trade,
    U16, U32, U64, padded, unpadded,
};

const CORE: LeafId = LeafId(0);
const A: LeafId = LeafId(1);
const B: LeafId = LeafId(2);
const CLIENT: u64 = 77;
const START: Mono = Mono(1_000_000_000);
const DEADLINE_US: u32 = 100_000;

fn query(op: Op, options: u8) -> Query {
    Query {
        id: U32::new(5),
        op: op as u8,
        options,
        deadline_us: U32::new(DEADLINE_US),
        limit: U32::new(1_000),
        symbol: padded("PETR4"),
        to: U64::new(u64::MAX),
        ..Query::default()
    }
}

/// The machine with what most cases do not vary left out.
trait Short {
    fn begin_query(
        &mut self,
        now: Mono,
        client: u64,
        query: &Query,
        plan: &[PartPlan],
    ) -> Result<GatherId, AdmissionError>;
    fn row(&mut self, leaf: LeafId, id: u32, frame: &Frame) -> FrameOutcome;
    fn client_left(&mut self, client: u64);
    fn stop_query(&mut self, client: u64, id: u32) -> bool;
}

impl Short for Gather {
    fn begin_query(
        &mut self,
        now: Mono,
        client: u64,
        query: &Query,
        plan: &[PartPlan],
    ) -> Result<GatherId, AdmissionError> {
        self.begin(now, client, &Question::new(query).unwrap(), plan.to_vec())
    }

    fn row(&mut self, leaf: LeafId, id: u32, frame: &Frame) -> FrameOutcome {
        self.handle_rows(leaf, id, std::slice::from_ref(frame), ms(1))
    }

    fn client_left(&mut self, client: u64) {
        self.handle_client_left(client);
    }

    fn stop_query(&mut self, client: u64, id: u32) -> bool {
        self.stop(client, id)
    }
}

fn replica(leaf: LeafId, availability: Availability) -> Replica {
    Replica { leaf, name: padded(&format!("leaf-{}", leaf.0)), availability }
}

fn part(leaf: LeafId, op: Op, availability: Availability) -> PartPlan {
    let question = Question::new(&query(op, 0)).unwrap();
    PartPlan { question, replicas: vec![replica(leaf, availability)], is_pruned: false }
}

/// A part of which nothing belongs to the query.
fn pruned(leaf: LeafId, op: Op) -> PartPlan {
    PartPlan { is_pruned: true, ..part(leaf, op, Availability::Ready) }
}

/// Core for the quote, A and B for the history.
fn plan(op: Op) -> Vec<PartPlan> {
    vec![
        part(CORE, Op::Quote, Availability::Ready),
        part(A, op, Availability::Ready),
        part(B, op, Availability::Ready),
    ]
}

/// A machine with one query under way and the questions that it sent, by leaf number.
fn begun(query: &Query, plan: &[PartPlan]) -> (Gather, BTreeMap<LeafId, u32>) {
    let mut gather = Gather::new();
    gather.begin_query(START, CLIENT, query, plan).unwrap();
    let asks = std::iter::from_fn(|| gather.poll_request());
    let ids = asks.map(|ask| (ask.leaf, ask.id())).collect();
    (gather, ids)
}

fn ms(ms: u64) -> Mono {
    START + Duration::from_millis(ms)
}

fn quote(flags: u16) -> Frame {
    Frame::seal(Quote {
        flags: U16::new(flags),
        instrument: U32::new(9),
        seq: U64::new(900),
        ..Quote::default()
    })
}

fn trade(ts_event: u64, seq: u64) -> Frame {
    Frame::seal(Trade {
        instrument: U32::new(9),
        ts_event: U64::new(ts_event),
        seq: U64::new(seq),
        ..Trade::default()
    })
}

fn bar(start: u64, open: i64) -> [Frame; 3] {
    let (ts_event, instrument) = (U64::new(start), U32::new(9));
    let open = I64::new(open);
    [
        Frame::seal(BarPrices { ts_event, instrument, open, ..BarPrices::default() }),
        Frame::seal(BarTotals { ts_event, instrument, ..BarTotals::default() }),
        Frame::seal(BarNotional { ts_event, instrument, ..BarNotional::default() }),
    ]
}

fn end(status: EndStatus, code: Option<ErrorCode>) -> Ended {
    Ended {
        status: status as u8,
        code: U16::new(code.map_or(0, |code| code as u16)),
        covered_from: U64::new(10),
        covered_to: U64::new(1_000),
        as_of: U64::new(500),
        durable_seq: U64::new(450),
        ..Ended::default()
    }
}

/// A leaf sends rows and a good end.
fn reply(gather: &mut Gather, ids: &BTreeMap<LeafId, u32>, leaf: LeafId, rows: &[Frame]) {
    for row in rows {
        assert_eq!(gather.row(leaf, ids[&leaf], row), FrameOutcome::Taken);
    }
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(leaf, ids[&leaf], &end, ms(3)), FrameOutcome::Taken);
}

/// The one answer, checked for its form, with its data rows and what it says of each node.
fn answer(gather: &mut Gather) -> (Answer, Vec<Frame>, Vec<(NodeStatus, u32)>) {
    let answer = gather.poll_answer().expect("there is an answer");
    assert_eq!(gather.poll_answer(), None, "and only one");
    assert_eq!(gather.in_flight(), 0);
    assert_eq!(
        (gather.in_flight.frames(), gather.next_deadline()),
        (0, None),
        "nothing is left behind"
    );
    assert!(gather.in_flight.is_empty() && gather.leaves.requests() == 0);
    for frame in &answer.frames {
        assert_eq!(frame.check(), Ok(()), "{frame:?}");
    }
    let data: Vec<Frame> =
        answer.frames.iter().filter(|f| f.kind().unwrap().is_data()).copied().collect();
    let failed = answer.status == EndStatus::Failed;
    let run = answer.frames.first().unwrap().kind() == Some(Kind::Run);
    assert_eq!(run, !failed);
    assert!(!failed || data.is_empty());
    let refusals = answer.frames.iter().filter(|f| f.kind() == Some(Kind::Error)).count();
    assert_eq!(refusals, usize::from(failed));
    let last: &Ended = answer.frames.last().unwrap().view().unwrap();
    assert_eq!((last.id.get(), last.status), (5, answer.status as u8));
    assert_eq!(ErrorCode::from_number(last.code.get()), answer.code);
    let nodes = answer.frames.iter().filter_map(|f| f.view::<NodeAnswer>());
    let nodes = nodes.map(|n| (NodeStatus::from_number(n.status).unwrap(), n.rows.get())).collect();
    (answer, data, nodes)
}

fn words(answer: &Answer) -> String {
    let refusal = answer.frames.iter().find_map(|f| f.view::<Refusal>());
    unpadded(&refusal.unwrap().text)
}

fn seqs(data: &[Frame]) -> Vec<u64> {
    data.iter().map(|frame| frame.seq.get()).collect()
}

// ---- answers ----

#[test]
fn all_parts_make_one_complete_answer_in_order() {
    let (mut gather, ids) = begun(&query(Op::Last, Query::WITH_QUOTE), &plan(Op::Last));
    let definition = Frame::seal(Definition::new(U32::new(9).into(), "PETR4".parse().unwrap(), 2));
    reply(&mut gather, &ids, A, &[definition, trade(10, 1), trade(30, 3)]);
    reply(&mut gather, &ids, CORE, &[quote(Flags::STALE)]);
    assert_eq!(gather.poll_answer(), None, "one node is still open");
    reply(&mut gather, &ids, B, &[definition, trade(20, 2), trade(30, 4)]);
    let (answer, data, nodes) = answer(&mut gather);
    assert_eq!((answer.client, answer.client_query_id), (CLIENT, 5));
    assert_eq!((answer.status, answer.code), (EndStatus::Complete, None));
    assert_eq!(data[0], definition);
    assert!(data[1].has(Flags::STALE), "the quote is handed on as core marked it");
    assert_eq!(seqs(&data[2..]), [1, 2, 3, 4]);
    assert_eq!(nodes, [(NodeStatus::Ok, 1), (NodeStatus::Ok, 2), (NodeStatus::Ok, 2)]);
    let node: &NodeAnswer = answer.frames.iter().find_map(|f| f.view()).unwrap();
    assert_eq!((unpadded(&node.name), node.elapsed_us.get()), ("leaf-0".to_owned(), 3_000));
    assert_eq!((node.covered_from.get(), node.as_of.get()), (10, 500));
    let last: &Ended = answer.frames.last().unwrap().view().unwrap();
    assert_eq!((last.rows.get(), last.as_of.get(), last.durable_seq.get()), (5, 500, 450));
    assert_eq!((last.covered_from.get(), last.covered_to.get()), (10, 1_000));
}

#[test]
fn questions_have_fresh_ids_and_a_shorter_deadline() {
    let mut gather = Gather::new();
    gather.last_request = u32::MAX - 1;
    gather.begin_query(START, CLIENT, &query(Op::Last, 0), &plan(Op::Last)).unwrap();
    let asks: Vec<Request> = std::iter::from_fn(|| gather.poll_request()).collect();
    let ids: Vec<u32> = asks.iter().map(|ask| ask.id()).collect();
    assert_eq!(ids, [u32::MAX, 1, 2], "0 is no id");
    assert!(asks.iter().all(|ask| ask.question.query.deadline_us.get() == 90_000));
    assert_eq!(asks[0].deadline, ms(90));
    let ops: Vec<u8> = asks.iter().map(|ask| ask.question.query.op).collect();
    assert_eq!(ops, [Op::Last, Op::Last, Op::Quote].map(|op| op as u8), "the slowest leaves first");
    assert_eq!(gather.next_deadline(), Some(ms(95)), "before the asker's own deadline");
    // The counter comes round while the first is still open.
    gather.last_request = u32::MAX - 1;
    gather.begin_query(START, 78, &query(Op::Last, 0), &plan(Op::Last)).unwrap();
    assert_eq!(gather.poll_request().unwrap().id(), 3);
}

#[test]
fn margins_fit_short_and_endless_deadlines() {
    let us = |deadline_us| {
        let deadlines = Deadlines::new(START, deadline_us);
        let us = |at: Mono| at.since(START).as_micros();
        (us(deadlines.leaves), us(deadlines.answer))
    };
    assert_eq!(us(10_000), (8_000, 9_000), "a tenth would be less than 2 ms");
    assert_eq!(us(2_000), (1_000, 1_500), "2 ms would be all of it");
    assert_eq!(us(1), (1, 1));
    assert_eq!(us(u32::MAX).1, 57_000_000);
}

// ---- one node fails ----

/// Runs a partial-welcome or strict list query in which B fails as `fail` does.
fn with_failing_b(
    options: u8,
    fail: impl FnOnce(&mut Gather, u32),
) -> (Answer, Vec<Frame>, Vec<(NodeStatus, u32)>) {
    let (mut gather, ids) = begun(&query(Op::Last, options), &plan(Op::Last));
    reply(&mut gather, &ids, CORE, &[quote(0)]);
    reply(&mut gather, &ids, A, &[trade(10, 1)]);
    fail(&mut gather, ids[&B]);
    answer(&mut gather)
}

#[test]
fn a_silent_node_is_a_timeout_and_is_sent_a_stop() {
    for (options, status, code) in [
        (Query::PARTIAL, EndStatus::Partial, ErrorCode::Incomplete),
        (0, EndStatus::Failed, ErrorCode::Deadline),
    ] {
        let (answer, data, nodes) = with_failing_b(options, |gather, id| {
            gather.handle_timeout(Mono(ms(95).0 - 1));
            assert_eq!(gather.poll_answer(), None, "not before its time");
            gather.handle_timeout(ms(95));
            assert_eq!(gather.poll_cancel(), Some((B, id)));
            assert_eq!(gather.poll_cancel(), None);
        });
        assert_eq!((answer.status, answer.code), (status, Some(code)));
        assert_eq!(nodes[2], (NodeStatus::Timeout, 0));
        assert_eq!(seqs(&data), if options == 0 { vec![] } else { vec![900, 1] });
    }
}

#[test]
fn a_reply_after_the_answer_matches_nothing_and_is_counted() {
    let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &plan(Op::Last));
    reply(&mut gather, &ids, A, &[trade(10, 1)]);
    assert_eq!(gather.row(A, ids[&B], &trade(1, 9)), FrameOutcome::Late, "not A's question");
    // The end itself comes too late: nobody has called the timer yet.
    let late = gather.handle_end(B, ids[&B], &end(EndStatus::Complete, None), ms(95));
    assert_eq!(late, FrameOutcome::Late);
    assert_eq!(gather.row(B, ids[&B], &trade(20, 2)), FrameOutcome::Late);
    assert_eq!(gather.row(A, ids[&A], &trade(20, 2)), FrameOutcome::Late, "after its own end");
    assert_eq!(gather.counts().late, 4);
    let (_, data, _) = answer(&mut gather);
    assert_eq!(seqs(&data), [1]);
}

#[test]
fn a_node_that_dies_mid_answer_contributes_nothing() {
    let (answer, data, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
        assert_eq!(gather.row(B, id, &trade(20, 2)), FrameOutcome::Taken);
        gather.handle_leaf_lost(B, ms(4));
    });
    assert_eq!(answer.status, EndStatus::Partial);
    assert_eq!(seqs(&data), [900, 1], "nobody knows what the rows of B cover");
    assert_eq!(nodes[2], (NodeStatus::Refused, 0));
}

#[test]
fn rows_of_a_dead_node_are_let_go_at_once() {
    let (mut gather, ids) = begun(&query(Op::Last, 0), &plan(Op::Last));
    assert_eq!(gather.row(A, ids[&A], &trade(10, 1)), FrameOutcome::Taken);
    assert_eq!(gather.row(B, ids[&B], &trade(20, 2)), FrameOutcome::Taken);
    gather.handle_leaf_lost(B, ms(1));
    assert_eq!((gather.in_flight.frames(), gather.in_flight()), (1, 1));
}

#[test]
fn each_error_of_a_node_is_named() {
    for (given, shown) in [
        (NodeStatus::BreakerOpen, NodeStatus::BreakerOpen),
        (NodeStatus::Refused, NodeStatus::Refused),
        (NodeStatus::Timeout, NodeStatus::Timeout),
        (NodeStatus::Ok, NodeStatus::Failed),
    ] {
        let (answer, _, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
            let taken = gather.handle_request_failed(B, id, given, ms(4));
            assert_eq!(taken, FrameOutcome::Taken);
        });
        assert_eq!(answer.status, EndStatus::Partial);
        assert_eq!(nodes[2], (shown, 0));
    }
}

#[test]
fn a_damaged_node_gives_what_it_has_and_the_answer_is_partial() {
    let (answer, data, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
        assert_eq!(gather.row(B, id, &trade(20, 2)), FrameOutcome::Taken);
        let taken = gather.handle_end(B, id, &end(EndStatus::Partial, None), ms(4));
        assert_eq!(taken, FrameOutcome::Taken);
    });
    assert_eq!(answer.status, EndStatus::Partial);
    assert_eq!(seqs(&data), [900, 1, 2]);
    assert_eq!(nodes[2], (NodeStatus::Corrupt, 1));
}

#[test]
fn a_node_that_breaks_the_protocol_has_failed() {
    for wrong in [quote(0), bar(10, 1)[0], Frame::seal(Ended::default())] {
        let (answer, data, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
            assert_eq!(gather.row(B, id, &trade(20, 2)), FrameOutcome::Taken);
            let definition = Frame::seal(Definition::default());
            assert_eq!(gather.row(B, id, &definition), FrameOutcome::Unexpected, "after data");
            assert_eq!(gather.row(B, id, &wrong), FrameOutcome::Late);
            assert_eq!(gather.counts().unexpected, 1);
        });
        assert_eq!((answer.status, nodes[2]), (EndStatus::Partial, (NodeStatus::Failed, 0)));
        assert_eq!(seqs(&data), [900, 1]);
        let (_, _, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
            assert_eq!(gather.row(B, id, &wrong), FrameOutcome::Unexpected);
        });
        assert_eq!(nodes[2], (NodeStatus::Failed, 0));
    }
    let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &plan(Op::Last));
    assert_eq!(gather.row(CORE, ids[&CORE], &quote(0)), FrameOutcome::Taken);
    assert_eq!(gather.row(CORE, ids[&CORE], &quote(0)), FrameOutcome::Unexpected, "two quotes");
}

#[test]
fn of_rows_that_come_together_none_counts_behind_a_wrong_one() {
    let (answer, data, nodes) = with_failing_b(Query::PARTIAL, |gather, id| {
        let rows = [trade(20, 2), quote(0), trade(30, 3)];
        assert_eq!(gather.handle_rows(B, id, &rows, ms(1)), FrameOutcome::Unexpected);
        assert_eq!(gather.handle_rows(B, id, &rows, ms(1)), FrameOutcome::Late);
        let counts = gather.counts();
        assert_eq!((counts.unexpected, counts.late), (1, 3));
    });
    assert_eq!((answer.status, nodes[2]), (EndStatus::Partial, (NodeStatus::Failed, 0)));
    assert_eq!(seqs(&data), [900, 1]);
}

#[test]
fn nodes_that_cannot_be_asked_are_not_asked() {
    let mut parts = plan(Op::Last);
    parts[0].replicas[0].availability = Availability::Refused;
    parts[1].replicas[0].availability = Availability::BreakerOpen;
    parts.push(pruned(LeafId(3), Op::Last));
    let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &parts);
    assert_eq!(ids.keys().copied().collect::<Vec<_>>(), [B]);
    reply(&mut gather, &ids, B, &[trade(1, 1)]);
    let (answer, _, nodes) = answer(&mut gather);
    assert_eq!(answer.status, EndStatus::Partial);
    let statuses: Vec<NodeStatus> = nodes.iter().map(|node| node.0).collect();
    use NodeStatus::{BreakerOpen, Ok, Pruned, Refused};
    assert_eq!(statuses, [Refused, BreakerOpen, Ok, Pruned]);
}

#[test]
fn a_query_with_nobody_to_ask_is_answered_at_once() {
    let begin = |part: PartPlan| {
        let parts = [part];
        let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &parts);
        assert!(ids.is_empty());
        answer(&mut gather).0
    };
    assert_eq!(begin(pruned(A, Op::Last)).status, EndStatus::Complete);
    let failed = begin(part(A, Op::Last, Availability::BreakerOpen));
    assert_eq!((failed.status, failed.code), (EndStatus::Failed, Some(ErrorCode::Incomplete)));
    assert_eq!(words(&failed), "not every node that owns a part answered");
}

// ---- complete, partial or failed ----

#[test]
fn a_symbol_that_nobody_knows_fails_with_the_text_of_the_node() {
    for options in [0, Query::PARTIAL] {
        let (mut gather, ids) = begun(&query(Op::Last, options), &plan(Op::Last));
        let refusal = Refusal::new(ErrorCode::UnknownSymbol, 0, "no instrument PETR4");
        let code = Some(ErrorCode::UnknownSymbol);
        assert_eq!(gather.handle_refusal(CORE, ids[&CORE], &refusal, ms(1)), FrameOutcome::Taken);
        let refused = end(EndStatus::Failed, code);
        assert_eq!(gather.handle_end(A, ids[&A], &refused, ms(1)), FrameOutcome::Taken);
        assert_eq!(gather.handle_refusal(B, ids[&B], &refusal, ms(1)), FrameOutcome::Taken);
        let (answer, _, nodes) = answer(&mut gather);
        assert_eq!((answer.status, answer.code), (EndStatus::Failed, code));
        assert_eq!(words(&answer), "no instrument PETR4");
        assert!(nodes.iter().all(|node| *node == (NodeStatus::Failed, 0)));
    }
}

#[test]
fn nodes_that_fail_differently_have_no_common_code() {
    let (mut gather, ids) = begun(&query(Op::Last, 0), &plan(Op::Last)[1..]);
    let unknown = end(EndStatus::Failed, Some(ErrorCode::UnknownSymbol));
    assert_eq!(gather.handle_end(A, ids[&A], &unknown, ms(1)), FrameOutcome::Taken);
    let storage = end(EndStatus::Failed, Some(ErrorCode::Storage));
    assert_eq!(gather.handle_end(B, ids[&B], &storage, ms(1)), FrameOutcome::Taken);
    assert_eq!(answer(&mut gather).0.code, Some(ErrorCode::Incomplete));
}

#[test]
fn the_answer_covers_what_every_answering_node_covers() {
    let covered = |of_b: Ended| {
        let (mut gather, ids) = begun(&query(Op::Last, Query::PARTIAL), &plan(Op::Last)[1..]);
        reply(&mut gather, &ids, A, &[trade(10, 1)]);
        assert_eq!(gather.handle_end(B, ids[&B], &of_b, ms(1)), FrameOutcome::Taken);
        let end: Ended = *answer(&mut gather).0.frames.last().unwrap().view().unwrap();
        (end.covered_from.get(), end.covered_to.get(), end.as_of.get(), end.durable_seq.get())
    };
    let from_to = |from: u64, to: u64, as_of: u64| Ended {
        covered_from: U64::new(from),
        covered_to: U64::new(to),
        as_of: U64::new(as_of),
        ..end(EndStatus::Complete, None)
    };
    assert_eq!(covered(from_to(20, 900, 400)), (20, 900, 400, 450));
    assert_eq!(covered(from_to(20, 2_000, 0)), (20, 1_000, 500, 450), "0 says nothing");
    assert_eq!(covered(from_to(2_000, 3_000, 600)), (0, 0, 500, 450), "nothing in common");
    let failed = Ended { status: EndStatus::Failed as u8, ..from_to(20, 900, 400) };
    assert_eq!(covered(failed), (10, 1_000, 500, 450), "only those that answered");
}

#[test]
fn a_missing_quote_beside_a_whole_history_is_only_partial() {
    for op in [Op::Last, Op::Range, Op::Bars] {
        let (mut gather, ids) =
            begun(&query(op, Query::PARTIAL | Query::WITH_QUOTE), &plan(op)[..2]);
        let history = if op == Op::Bars { bar(60, 1).to_vec() } else { vec![trade(10, 1)] };
        reply(&mut gather, &ids, A, &history);
        let no_data = end(EndStatus::Failed, Some(ErrorCode::NoData));
        assert_eq!(gather.handle_end(CORE, ids[&CORE], &no_data, ms(1)), FrameOutcome::Taken);
        let (answer, data, _) = answer(&mut gather);
        assert_eq!((answer.status, data), (EndStatus::Partial, history), "{op:?}");
    }
    let (mut gather, ids) = begun(&query(Op::Last, Query::WITH_QUOTE), &plan(Op::Last)[..2]);
    reply(&mut gather, &ids, A, &[]);
    let no_data = end(EndStatus::Failed, Some(ErrorCode::NoData));
    assert_eq!(gather.handle_end(CORE, ids[&CORE], &no_data, ms(1)), FrameOutcome::Taken);
    let (answer, _, _) = answer(&mut gather);
    assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::NoData)));
    assert_eq!(words(&answer), "nothing is known about this yet");
}

#[test]
fn a_quote_that_there_is_not_is_told_as_core_tells_it() {
    for (rows, code) in [(vec![], Some(ErrorCode::NoData)), (vec![quote(0)], None)] {
        let (mut gather, ids) = begun(&query(Op::Quote, 0), &plan(Op::Quote)[..1]);
        reply(&mut gather, &ids, CORE, &rows);
        let (answer, _, _) = answer(&mut gather);
        assert_eq!((answer.status, answer.code), (EndStatus::Complete, code));
    }
}

#[test]
fn an_aggregate_is_refused_rather_than_wrong() {
    let begin = || begun(&query(Op::Bars, Query::PARTIAL), &plan(Op::Bars));
    let (mut gather, ids) = begin();
    reply(&mut gather, &ids, CORE, &[quote(0)]);
    reply(&mut gather, &ids, A, &bar(60, 1));
    gather.handle_leaf_lost(B, ms(4));
    let (refused, data, nodes) = answer(&mut gather);
    assert_eq!((refused.status, refused.code), (EndStatus::Failed, Some(ErrorCode::Incomplete)));
    assert_eq!((data.len(), nodes[1]), (0, (NodeStatus::Ok, 1)));

    let (mut gather, ids) = begin();
    reply(&mut gather, &ids, CORE, &[quote(0)]);
    reply(&mut gather, &ids, A, &bar(60, 1));
    let corrupt = end(EndStatus::Partial, None);
    assert_eq!(gather.handle_end(B, ids[&B], &corrupt, ms(4)), FrameOutcome::Taken);
    assert_eq!(answer(&mut gather).0.status, EndStatus::Failed, "a damaged node's sum is wrong");
}

#[test]
fn bars_stay_together_and_nodes_that_disagree_are_not_believed() {
    let gathered = |of_b: [Frame; 3]| {
        let (mut gather, ids) = begun(&query(Op::Bars, 0), &plan(Op::Bars));
        reply(&mut gather, &ids, CORE, &[]);
        let of_a: Vec<Frame> = [bar(60, 1), bar(180, 3)].concat();
        reply(&mut gather, &ids, A, &of_a);
        reply(&mut gather, &ids, B, &of_b);
        answer(&mut gather)
    };
    let (answer, data, nodes) = gathered(bar(120, 2));
    assert_eq!(answer.status, EndStatus::Complete);
    assert_eq!(data, [bar(60, 1), bar(120, 2), bar(180, 3)].concat());
    assert_eq!((nodes[1].1, nodes[2].1), (2, 1), "a bar is one row");
    assert_eq!(gathered(bar(60, 1)).1, [bar(60, 1), bar(180, 3)].concat());
    let (answer, _, _) = gathered(bar(60, 99));
    assert_eq!((answer.status, answer.code), (EndStatus::Failed, Some(ErrorCode::Failed)));
}

#[test]
fn a_torn_bar_is_a_broken_protocol() {
    let frames = bar(60, 1);
    for rows in [vec![frames[1]], vec![frames[0], frames[2]], vec![frames[0], bar(120, 1)[1]]] {
        let (mut gather, ids) = begun(&query(Op::Bars, 0), &plan(Op::Bars));
        let replies: Vec<FrameOutcome> =
            rows.iter().map(|row| gather.row(A, ids[&A], row)).collect();
        assert_eq!(replies.last(), Some(&FrameOutcome::Unexpected));
    }
    let (mut gather, ids) = begun(&query(Op::Bars, 0), &plan(Op::Bars));
    assert_eq!(gather.row(A, ids[&A], &frames[0]), FrameOutcome::Taken);
    let early = gather.handle_end(A, ids[&A], &end(EndStatus::Complete, None), ms(1));
    assert_eq!(early, FrameOutcome::Unexpected);
}

#[test]
fn a_row_that_two_nodes_hold_comes_once() {
    let (mut gather, ids) = begun(&query(Op::Range, 0), &plan(Op::Range));
    reply(&mut gather, &ids, CORE, &[]);
    let replayed = trade(20, 2).delivered(Flags::REPLAY);
    reply(&mut gather, &ids, B, &[replayed, trade(30, 3)]);
    reply(&mut gather, &ids, A, &[trade(10, 1), trade(20, 2)]);
    let (_, data, nodes) = answer(&mut gather);
    assert_eq!(data, [trade(10, 1), trade(20, 2), trade(30, 3)]);
    assert_eq!((nodes[1].1, nodes[2].1), (2, 2), "each node is credited with what it sent");
}

#[test]
fn rows_without_a_number_are_not_taken_for_copies() {
    let (mut gather, ids) = begun(&query(Op::Range, 0), &plan(Op::Range)[1..]);
    reply(&mut gather, &ids, A, &[trade(10, 0)]);
    reply(&mut gather, &ids, B, &[trade(20, 0)]);
    assert_eq!(answer(&mut gather).1.len(), 2);
}

#[test]
fn together_the_nodes_give_no_more_than_was_asked_for() {
    for (op, want) in [(Op::Last, [3, 4]), (Op::Range, [1, 2])] {
        let mut query = query(op, 0);
        query.limit = U32::new(2);
        let (mut gather, ids) = begun(&query, &plan(op));
        reply(&mut gather, &ids, CORE, &[]);
        reply(&mut gather, &ids, A, &[trade(10, 1), trade(30, 3)]);
        reply(&mut gather, &ids, B, &[trade(20, 2), trade(40, 4)]);
        assert_eq!(seqs(&answer(&mut gather).1), want, "{op:?}");
    }
}
