//! Parts with more than one copy: whom to ask, whom as well, and that every failure has its one answer in
//! time. Leaves are simulated on virtual time.

use super::*;
use crate::random::Random;

const A2: LeafId = LeafId(11);

/// One part that two nodes hold.
fn two(op: Op) -> Vec<PartPlan> {
    let replicas = vec![replica(A, Availability::Ready), replica(A2, Availability::Ready)];
    vec![PartPlan { replicas, ..part(A, op, Availability::Ready) }]
}

fn ask(gather: &mut Gather) -> (LeafId, u32) {
    let ask = gather.poll_request().expect("a question");
    (ask.leaf, ask.id())
}

fn statuses(answer: &Answer) -> Vec<NodeStatus> {
    let nodes = answer.frames.iter().filter_map(|f| f.view::<NodeAnswer>());
    nodes.map(|node| NodeStatus::from_number(node.status).unwrap()).collect()
}

/// A query that one copy answers after so long; whom it was.
fn warm(gather: &mut Gather, at: Mono, took: Duration) -> LeafId {
    gather.begin_query(at, CLIENT, &query(Op::Last, 0), &two(Op::Last)).unwrap();
    let (leaf, id) = ask(gather);
    let end = end(EndStatus::Complete, None);
    assert_eq!(gather.handle_end(leaf, id, &end, at + took), FrameOutcome::Taken);
    assert_eq!(gather.poll_answer().unwrap().status, EndStatus::Complete);
    leaf
}

#[test]
fn a_copy_that_fails_is_followed_by_the_next_at_once() {
    type Fail = fn(&mut Gather, u32);
    let fails: [(Fail, NodeStatus); 5] = [
        (|gather, _| gather.handle_leaf_lost(A, ms(1)), NodeStatus::Refused),
        (
            |gather, id| {
                let _ = gather.handle_request_failed(A, id, NodeStatus::BreakerOpen, ms(1));
            },
            NodeStatus::BreakerOpen,
        ),
        (
            |gather, id| {
                let refusal = Refusal::new(ErrorCode::Storage, id, "broken");
                let _ = gather.handle_refusal(A, id, &refusal, ms(1));
            },
            NodeStatus::Failed,
        ),
        (
            |gather, id| assert_eq!(gather.row(A, id, &quote(0)), FrameOutcome::Unexpected),
            NodeStatus::Failed,
        ),
        (
            |gather, id| {
                assert_eq!(gather.row(A, id, &trade(9, 9)), FrameOutcome::Taken);
                let _ = gather.handle_end(A, id, &end(EndStatus::Partial, None), ms(1));
            },
            NodeStatus::Corrupt,
        ),
    ];
    for (fail, status) in fails {
        let mut gather = Gather::new();
        gather.begin_query(START, CLIENT, &query(Op::Last, 0), &two(Op::Last)).unwrap();
        let (leaf, id) = ask(&mut gather);
        assert_eq!(leaf, A, "the first copy, as long as nothing is known");
        fail(&mut gather, id);
        assert!(gather.poll_answer().is_none());
        let again = gather.poll_request().unwrap();
        assert_eq!((again.leaf, again.question.query.deadline_us.get()), (A2, 89_000));
        reply(&mut gather, &BTreeMap::from([(A2, again.id())]), A2, &[trade(1, 1)]);
        let (answer, data, _) = answer(&mut gather);
        assert_eq!((answer.status, seqs(&data)), (EndStatus::Complete, vec![1]), "{status:?}");
        assert_eq!(statuses(&answer), [status, NodeStatus::Ok]);
        assert_eq!((gather.counts().retried, gather.counts().hedged), (1, 0));
        // It is left alone for a moment.
        assert_eq!(warm(&mut gather, ms(2), Duration::from_millis(1)), A2);
    }
}

#[test]
fn damaged_rows_are_taken_when_no_copy_is_whole() {
    let mut gather = Gather::new();
    gather.begin_query(START, CLIENT, &query(Op::Last, 1), &two(Op::Last)).unwrap();
    let (_, id) = ask(&mut gather);
    assert_eq!(gather.row(A, id, &trade(9, 9)), FrameOutcome::Taken);
    let _ = gather.handle_end(A, id, &end(EndStatus::Partial, None), ms(1));
    gather.handle_leaf_lost(A2, ms(2));
    let (answer, data, nodes) = answer(&mut gather);
    assert_eq!((answer.status, seqs(&data)), (EndStatus::Partial, vec![9]));
    assert_eq!(nodes, [(NodeStatus::Corrupt, 1), (NodeStatus::Refused, 0)]);
}

#[test]
fn a_slow_copy_is_hedged_after_the_observed_quantile_and_the_first_answer_is_taken() {
    let mut gather = Gather::new();
    for n in 0..100 {
        warm(&mut gather, Mono(n * 1_000_000), Duration::from_millis(4));
    }
    let options = Query::EXPLAIN;
    gather.begin_query(START, CLIENT, &query(Op::Last, options), &two(Op::Last)).unwrap();
    let (first, slow) = ask(&mut gather);
    let at = gather.next_deadline().unwrap();
    assert!((6..=7).contains(&at.since(START).as_millis()), "{:?}", at.since(START));
    gather.handle_timeout(Mono(at.0 - 1));
    assert!(gather.poll_request().is_none());
    gather.handle_timeout(at);
    let (second, id) = ask(&mut gather);
    assert_ne!(first, second, "another node");
    assert_eq!(gather.row(first, slow, &trade(5, 5)), FrameOutcome::Taken);
    assert_eq!(gather.handle_rows(second, id, &[trade(1, 1)], at), FrameOutcome::Taken);
    let end = end(EndStatus::Complete, None);
    let done = at + Duration::from_micros(300);
    assert_eq!(gather.handle_end(second, id, &end, done), FrameOutcome::Taken);
    assert_eq!(gather.poll_cancel(), Some((first, slow)), "the other is told to stop");
    assert_eq!(gather.handle_rows(first, slow, &[trade(6, 6)], done), FrameOutcome::Late);
    let (answer, data, _) = answer(&mut gather);
    assert_eq!((answer.status, seqs(&data)), (EndStatus::Complete, vec![1]));
    let counts = gather.counts();
    assert_eq!((counts.hedged, counts.hedges_won, counts.late), (1, 1, 1));
    let explained: Vec<(u8, u32)> = answer
        .frames
        .iter()
        .filter_map(|f| f.view::<crate::wire::NodeExplain>())
        .map(|it| (it.what, it.frames.get()))
        .collect();
    let (asked, hedge) = (1, 1 | 2 | 8);
    let mut want = [(asked, 1), (hedge, 1)];
    if first == A2 {
        want.reverse();
    }
    assert_eq!(explained, want);
}

#[test]
fn when_the_budget_is_spent_nobody_is_hedged() {
    let mut gather = Gather::new();
    for n in 0..100 {
        warm(&mut gather, Mono(n * 1_000_000), Duration::from_millis(1));
    }
    // Both have much to do. One does it, and the other becomes slow for all of it at once.
    let count = 1_000;
    for client in 0..count {
        gather.begin_query(START, client, &query(Op::Last, 0), &two(Op::Last)).unwrap();
    }
    let mut slow = 0;
    while let Some(ask) = gather.poll_request() {
        if ask.leaf == A2 {
            let end = end(EndStatus::Complete, None);
            assert_eq!(gather.handle_end(A2, ask.id(), &end, START), FrameOutcome::Taken);
        } else {
            slow += 1;
        }
    }
    assert_eq!(slow, count / 2);
    gather.handle_timeout(ms(3));
    let counts = gather.counts();
    assert_eq!(counts.hedged, 10, "what was saved up");
    assert_eq!(counts.hedges_denied, slow - 10);
    assert_eq!(counts.failed_over, 0);
    while let Some(hedge) = gather.poll_request() {
        let end = end(EndStatus::Complete, None);
        assert_eq!(gather.handle_end(A2, hedge.id(), &end, ms(4)), FrameOutcome::Taken);
    }
    // It lost twice without a word, so it is known to be silent, and what it keeps is asked of the other from another budget.
    gather.handle_timeout(ms(5));
    assert_eq!(gather.counts().failed_over, slow - 10);
    gather.handle_timeout(ms(10));
    assert_eq!(gather.counts().hedged, 10, "and no more");
    gather.handle_timeout(ms(95));
    assert_eq!(std::iter::from_fn(|| gather.poll_answer()).count() as u64, count);
    assert_eq!((gather.leaves.requests(), gather.in_flight.requests()), (0, 0));
}

#[test]
fn a_stale_quote_of_a_replica_is_not_final() {
    let mut gather = Gather::new();
    let plan = || two(Op::Quote);
    // Core is busy, so the replica is asked first.
    gather.begin_query(START, 1, &query(Op::Quote, 0), &plan()).unwrap();
    let (core, first) = ask(&mut gather);
    gather.begin_query(START, CLIENT, &query(Op::Quote, 0), &plan()).unwrap();
    let (replica, id) = ask(&mut gather);
    assert_eq!((core, replica), (A, A2), "the one that is not busy");
    let _ = gather.handle_end(A, first, &end(EndStatus::Complete, None), ms(8));
    assert_eq!(gather.row(A2, id, &quote(Flags::STALE)), FrameOutcome::Taken);
    let _ = gather.handle_end(A2, id, &end(EndStatus::Complete, None), ms(9));
    let (core, id) = ask(&mut gather);
    assert_eq!(core, A);
    assert_eq!(gather.row(A, id, &quote(0)), FrameOutcome::Taken);
    let _ = gather.handle_end(A, id, &end(EndStatus::Complete, None), ms(10));
    gather.poll_answer().unwrap();
    let answer = gather.poll_answer().unwrap();
    let quote = answer.frames.iter().find(|f| f.kind() == Some(Kind::Quote)).unwrap();
    assert!(!quote.has(Flags::STALE), "core's word is taken");
}

#[test]
fn more_questions_than_a_node_may_have_are_refused_at_once() {
    let mut gather = Gather::new();
    let plan = [part(A, Op::Last, Availability::Ready)];
    for client in 0..crate::limits::GATHER_LEAF_QUESTIONS_MAX as u64 {
        gather.begin_query(START, client, &query(Op::Last, 0), &plan).unwrap();
        assert!(gather.poll_answer().is_none());
    }
    gather.begin_query(START, 5_000, &query(Op::Last, 0), &plan).unwrap();
    let refused = gather.poll_answer().unwrap();
    assert_eq!((refused.client, refused.code), (5_000, Some(ErrorCode::Limit)));
    gather.begin_query(START, 5_000, &query(Op::Last, 0), &two(Op::Last)).unwrap();
    assert!(gather.poll_answer().is_none(), "the other copy has room");
}

#[test]
fn a_cut_of_our_choice_is_one_that_a_copy_of_each_part_has_reached() {
    let mut gather = Gather::new();
    let ours = Question::new(&query(Op::Last, 0)).unwrap().cut_at(Some(NEWEST_COMMON_CUT));
    let plan = [two(Op::Last), vec![part(B, Op::Last, Availability::Ready)]].concat();
    assert_eq!(gather.begin(START, CLIENT, &ours, plan.clone()), Err(AdmissionError::Cut));
    for (leaf, as_of) in [(A, 70), (A2, 90), (B, 80)] {
        gather.note_as_of(Mono::default(), leaf, Seq::new(as_of));
    }
    gather.begin(START, CLIENT, &ours, plan.clone()).unwrap();
    let cuts: Vec<u64> = std::iter::from_fn(|| gather.poll_request())
        .map(|it| Seq::number(it.question.as_of))
        .collect();
    assert_eq!(cuts, [80, 80]);
}

#[test]
fn what_a_copy_said_long_ago_is_not_where_it_is() {
    let mut gather = Gather::with_behind_max(Duration::from_secs(3));
    let ours = Question::new(&query(Op::Last, 0)).unwrap().cut_at(Some(NEWEST_COMMON_CUT));
    let plan = [two(Op::Last), vec![part(B, Op::Last, Availability::Ready)]].concat();
    for (leaf, as_of) in [(A, 7), (A2, 9), (B, 8)] {
        gather.note_as_of(START, leaf, Seq::new(as_of));
    }
    let cuts = |gather: &mut Gather, now: Mono, client: u64| -> Vec<u64> {
        gather.begin(now, client, &ours, plan.clone()).unwrap();
        let asked = std::iter::from_fn(|| gather.poll_request());
        asked.map(|it| Seq::number(it.question.as_of)).collect()
    };
    gather.note_as_of(ms(2_000), B, Seq::new(80));
    assert_eq!(cuts(&mut gather, ms(2_000), 1), [80, 80], "who said nothing since waits for it");
    gather.note_as_of(ms(2_000), A, Seq::new(70));
    assert_eq!(cuts(&mut gather, ms(2_100), 2), [70, 70]);
    let refused = gather.begin(ms(9_000), 3, &ours, plan.clone());
    assert_eq!(refused, Err(AdmissionError::Cut), "of nobody is anything younger known");
    gather.note_as_of(ms(9_000), B, Seq::new(800));
    gather.note_greeting(A, Seq::new(700));
    gather.note_greeting(A2, Seq::new(500));
    assert_eq!(cuts(&mut gather, ms(9_100), 4), [800, 800], "a greeting is no place of now");
}

// ---- simulated leaves ----

/// What a leaf does with a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answers(u64),
    Refuses(u64),
    Babbles(u64),
    DiesInside(u64),
    Nothing,
}

#[derive(Default)]
struct World {
    gather: Gather,
    now: Mono,
    events: BTreeMap<(Mono, u64), (LeafId, u32, Does)>,
    number: u64,
    stopped: BTreeSet<u32>,
}

impl World {
    /// Sends what is to be sent; `does` says what becomes of each question.
    fn send(&mut self, does: &mut impl FnMut(LeafId) -> Does) {
        while let Some(ask) = self.gather.poll_request() {
            let what = does(ask.leaf);
            let us = match what {
                Does::Answers(us) | Does::Refuses(us) | Does::Babbles(us) => us,
                Does::DiesInside(us) => us,
                Does::Nothing => continue,
            };
            self.number += 1;
            let at = self.now + Duration::from_micros(us);
            self.events.insert((at, self.number), (ask.leaf, ask.id(), what));
        }
        while let Some((_, id)) = self.gather.poll_cancel() {
            self.stopped.insert(id);
        }
    }

    /// Runs until the answer is there, and says how long it took.
    fn run(&mut self, mut does: impl FnMut(LeafId) -> Does, begun: Mono) -> (Answer, Duration) {
        loop {
            self.send(&mut does);
            if let Some(answer) = self.gather.poll_answer() {
                assert!(self.gather.poll_answer().is_none(), "one answer");
                return (answer, self.now.since(begun));
            }
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timer = self.gather.next_deadline();
            let next = event.into_iter().chain(timer).min().expect("something comes");
            self.now = self.now.max(next);
            if event == Some(next) {
                let (_, (leaf, id, what)) = self.events.pop_first().unwrap();
                self.happen(leaf, id, what);
            } else {
                self.gather.handle_timeout(self.now);
            }
        }
    }

    fn happen(&mut self, leaf: LeafId, id: u32, what: Does) {
        let (now, gather) = (self.now, &mut self.gather);
        let row = trade(u64::from(leaf.0 % 10), u64::from(leaf.0 % 10) + 1);
        let _ = match what {
            Does::Answers(_) => {
                let _ = gather.handle_rows(leaf, id, &[row], now);
                gather.handle_end(leaf, id, &end(EndStatus::Complete, None), now)
            }
            Does::Refuses(_) => {
                let refusal = Refusal::new(ErrorCode::Storage, id, "broken");
                gather.handle_refusal(leaf, id, &refusal, now)
            }
            Does::Babbles(_) => gather.handle_rows(leaf, id, &[quote(0)], now),
            Does::DiesInside(_) => {
                let _ = gather.handle_rows(leaf, id, &[row], now);
                gather.handle_leaf_lost(leaf, now);
                FrameOutcome::Late
            }
            Does::Nothing => FrameOutcome::Late,
        };
    }

    fn ask(
        &mut self,
        plan: &[PartPlan],
        options: u8,
        does: impl FnMut(LeafId) -> Does,
    ) -> (Answer, Duration) {
        let begun = self.now;
        self.gather.begin_query(begun, CLIENT, &query(Op::Range, options), plan).unwrap();
        self.run(does, begun)
    }
}

/// Core's is not among them: A with a replica, and B with one.
fn four() -> Vec<PartPlan> {
    let copies = |first: LeafId| PartPlan {
        replicas: vec![
            replica(first, Availability::Ready),
            replica(LeafId(first.0 + 10), Availability::Ready),
        ],
        ..part(first, Op::Range, Availability::Ready)
    };
    vec![copies(A), copies(B)]
}

#[test]
fn the_time_of_an_answer_is_that_of_its_slowest_part_and_not_their_sum() {
    let mut world = World { now: START, ..World::default() };
    let plan = [part(A, Op::Range, Availability::Ready), part(B, Op::Range, Availability::Ready)];
    let does = |leaf| Does::Answers(if leaf == A { 60_000 } else { 30_000 });
    let (answer, took) = world.ask(&plan, 0, does);
    assert_eq!((answer.status, took), (EndStatus::Complete, Duration::from_micros(60_000)));
}

#[test]
fn one_shard_delayed_beside_its_replica_is_hardly_felt() {
    let run = |delayed: bool| {
        let mut world = World { now: START, ..World::default() };
        let mut random = Random::new(7);
        let mut times = Vec::new();
        for _ in 0..4_000 {
            let does = |leaf: LeafId| {
                let us = 150 + random.below(300);
                Does::Answers(if delayed && leaf == A { 100_000 } else { us })
            };
            let (answer, took) = world.ask(&four(), 0, does);
            assert_eq!(answer.status, EndStatus::Complete);
            times.push(took);
            // The next one comes a little later.
            world.now = world.now + Duration::from_millis(1);
        }
        times.sort();
        (times[times.len() * 99 / 100], world.gather.counts())
    };
    let (healthy, _) = run(false);
    let (p99, counts) = run(true);
    assert!(p99 <= healthy * 2, "{p99:?} beside {healthy:?}, {counts:?}");
    let first = counts.asked - counts.hedged - counts.retried;
    assert!(counts.hedged * 20 <= first, "{counts:?}");
}

#[test]
fn every_fate_of_every_copy_has_one_answer_in_time_and_leaves_nothing() {
    let mut world = World { now: START, ..World::default() };
    let mut random = Random::new(11);
    let mut seen: BTreeMap<EndStatus, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        let mut fates: BTreeMap<LeafId, Does> = BTreeMap::new();
        let mut fate = |leaf: LeafId| {
            *fates.entry(leaf).or_insert_with(|| {
                let us = random.below(2_000);
                match random.below(10) {
                    0 => Does::Refuses(us),
                    1 => Does::Babbles(us),
                    2 => Does::DiesInside(us),
                    3 => Does::Nothing,
                    4 => Does::Answers(150_000),
                    _ => Does::Answers(us),
                }
            })
        };
        for leaf in [A, LeafId(11), B, LeafId(12)] {
            fate(leaf);
        }
        let (answer, took) = world.ask(&four(), Query::PARTIAL, |leaf| fates[&leaf]);
        assert!(took <= Duration::from_millis(95), "{took:?} {fates:?}");
        // A part is there when some copy answers, however the others fail; a copy that is only silent or
        // late takes the time that another would have needed when the budget is spent.
        let answers = |leaf: LeafId| matches!(fates[&leaf], Does::Answers(us) if us < 90_000);
        let fails = |leaf: LeafId| {
            matches!(fates[&leaf], Does::Refuses(_) | Does::Babbles(_) | Does::DiesInside(_))
        };
        let copies = [[A, LeafId(11)], [B, LeafId(12)]];
        let rows = answer.frames.iter().filter(|f| f.kind() == Some(Kind::Trade)).count();
        let can = copies.iter().filter(|both| both.iter().any(|leaf| answers(*leaf))).count();
        assert!(rows <= can, "nothing is made up: {fates:?}");
        let must = copies.iter().filter(|both| {
            both.iter().any(|leaf| answers(*leaf))
                && both.iter().all(|leaf| answers(*leaf) || fails(*leaf))
        });
        assert!(rows >= must.count(), "{fates:?} {answer:?}");
        let want = match rows {
            2 => EndStatus::Complete,
            1 => EndStatus::Partial,
            _ => EndStatus::Failed,
        };
        assert_eq!(answer.status, want);
        *seen.entry(answer.status).or_default() += 1;
        assert_eq!((world.gather.in_flight(), world.gather.in_flight.frames()), (0, 0));
        assert!(world.gather.in_flight.is_empty() && world.gather.leaves.requests() == 0);
        world.now = world.now + Duration::from_millis(3);
    }
    assert!(seen.values().all(|count| *count > 100) && seen.len() == 3, "{seen:?}");
    // Late replies of the last queries match nothing.
    while let Some((_, (leaf, id, what))) = world.events.pop_first() {
        world.happen(leaf, id, what);
    }
    assert!(world.gather.poll_answer().is_none() && world.gather.counts().late > 100);
}
