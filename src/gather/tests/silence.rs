//! Nodes that stop, get slow or come back under a steady load, on virtual time: nobody may feel it, and
//! little more may be asked for it.

use super::*;
use crate::random::Random;
use crate::wire::NodeExplain;

const A2: LeafId = LeafId(11);
const CORE2: LeafId = LeafId(10);
const SECOND: u64 = 1_000_000_000;

/// Quotes of core and history of A, each with a replica.
fn both() -> Vec<PartPlan> {
    let two = |first: LeafId, second: LeafId, op: Op| PartPlan {
        replicas: vec![replica(first, Availability::Ready), replica(second, Availability::Ready)],
        ..part(first, op, Availability::Ready)
    };
    vec![two(A, A2, Op::Last), two(CORE, CORE2, Op::Quote)]
}

/// How a node is at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Well,
    /// Everything takes so much longer.
    Late(Duration),
    /// It answers what it was asked when it goes on.
    StoppedUntil(Mono),
    Refuses,
}

/// Queries at a steady rate to nodes whose state is a function of the time.
struct Load<F> {
    gather: Gather,
    state: F,
    random: Random,
    now: Mono,
    /// What arrives when, and whether it is a refusal.
    arriving: BTreeMap<(Mono, u64), (LeafId, u32, bool)>,
    asked: Vec<(Mono, LeafId)>,
    open: BTreeMap<u64, Mono>,
    answers: Vec<(EndStatus, Duration)>,
    number: u64,
}

impl<F: Fn(LeafId, Mono) -> State> Load<F> {
    fn new(state: F) -> Load<F> {
        Load {
            gather: Gather::new(),
            state,
            random: Random::new(5),
            now: Mono(SECOND),
            arriving: BTreeMap::new(),
            asked: Vec::new(),
            open: BTreeMap::new(),
            answers: Vec::new(),
            number: 0,
        }
    }

    fn send(&mut self) {
        while let Some(ask) = self.gather.poll_request() {
            self.asked.push((self.now, ask.leaf));
            // A scheduler makes one in a hundred wait.
            let waits = if self.random.below(100) == 0 { self.random.below(2_000) } else { 0 };
            let took = Duration::from_micros(100 + self.random.below(100) + waits);
            let state = (self.state)(ask.leaf, self.now);
            let at = match state {
                State::Well | State::Refuses => self.now + took,
                State::Late(by) => self.now + took + by,
                State::StoppedUntil(until) => until + took,
            };
            self.number += 1;
            let what = (ask.leaf, ask.id(), state == State::Refuses);
            self.arriving.insert((at, self.number), what);
        }
        // A STOP comes too late for what is on the way already.
        while self.gather.poll_cancel().is_some() {}
        while let Some(answer) = self.gather.poll_answer() {
            let begun = self.open.remove(&answer.client).expect("one answer for each query");
            self.answers.push((answer.status, self.now.since(begun)));
        }
    }

    /// Lets the time pass until then.
    fn run_until(&mut self, until: Mono) {
        loop {
            self.send();
            let arrives = self.arriving.first_key_value().map(|((at, _), _)| *at);
            let timer = self.gather.next_deadline().map(|at| at.max(self.now));
            let next = arrives.into_iter().chain(timer).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = next;
            if arrives == Some(next) {
                let (_, (leaf, id, is_refusal)) = self.arriving.pop_first().unwrap();
                let refusal = Refusal::new(ErrorCode::Storage, id, "broken");
                let end = end(EndStatus::Complete, None);
                let _ = match is_refusal {
                    true => self.gather.handle_refusal(leaf, id, &refusal, next),
                    false => self.gather.handle_end(leaf, id, &end, next),
                };
            } else {
                self.gather.handle_timeout(next);
                let again = self.gather.next_deadline();
                assert!(again.is_none_or(|again| again > next), "a timer that is done goes off");
            }
        }
        self.now = until;
    }

    /// So many queries, one each millisecond, and then all of their answers.
    fn run(&mut self, count: u64) {
        for client in 0..count {
            self.run_until(Mono(SECOND + client * 1_000_000));
            self.open.insert(client, self.now);
            self.gather.begin_query(self.now, client, &query(Op::Last, 0), &both()).unwrap();
        }
        self.run_until(self.now + Duration::from_millis(200));
        assert!(self.open.is_empty(), "no hang: {:?}", self.open);
        assert!(self.gather.in_flight.is_empty() && self.gather.leaves.requests() == 0);
    }

    fn quantile(&self, thousandths: usize) -> Duration {
        let mut times: Vec<Duration> = self.answers.iter().map(|(_, took)| *took).collect();
        times.sort_unstable();
        times[times.len() * thousandths / 1_000]
    }

    /// Questions beyond the first of each part, and all first ones.
    fn extra(&self) -> (u64, u64) {
        let counts = self.gather.counts();
        let extra = counts.hedged + counts.failed_over + counts.probed;
        (extra, counts.asked - extra - counts.retried)
    }

    /// Questions that a node was sent between two moments, in milliseconds of the load.
    fn asked_between(&self, leaf: LeafId, from: u64, to: u64) -> usize {
        let ms = |ms: u64| Mono(SECOND + ms * 1_000_000);
        let of =
            |(at, to_whom): &&(Mono, LeafId)| *to_whom == leaf && (ms(from)..ms(to)).contains(at);
        self.asked.iter().filter(of).count()
    }
}

const COUNT: u64 = 10_000;
const FROM: Mono = Mono(SECOND + 3 * SECOND);
const TO: Mono = Mono(SECOND + 7 * SECOND);

/// A load during which one node is in trouble for four seconds of ten.
fn troubled(which: LeafId, trouble: State) -> Load<impl Fn(LeafId, Mono) -> State> {
    let state = move |leaf, now| {
        if leaf == which && (FROM..TO).contains(&now) { trouble } else { State::Well }
    };
    let mut load = Load::new(state);
    load.run(COUNT);
    load
}

#[test]
fn a_copy_that_stops_or_is_late_is_hardly_felt_costs_little_and_is_used_again() {
    let mut healthy = Load::new(|_, _| State::Well);
    healthy.run(COUNT);
    let troubles = [State::StoppedUntil(TO), State::Late(Duration::from_millis(100))];
    for (which, other) in [(A, A2), (A2, A), (CORE, CORE2), (CORE2, CORE)] {
        for trouble in troubles {
            let load = troubled(which, trouble);
            let counts = load.gather.counts();
            assert_eq!(counts.complete, COUNT, "{which:?} {trouble:?}: {counts:?}");
            for thousandths in [500, 990] {
                let (well, ill) = (healthy.quantile(thousandths), load.quantile(thousandths));
                assert!(ill <= well * 2, "{ill:?} beside {well:?}: {which:?} {counts:?}");
            }
            let (extra, first) = load.extra();
            assert!(extra * 20 <= first, "{extra} of {first}: {which:?} {counts:?}");
            assert!(counts.probed >= 5, "{counts:?}");
            // Nearly everything goes to the other one, and it is an equal again soon after.
            let during = load.asked_between(which, 3_010, 7_000);
            assert!(during <= 80, "{during} to a silent copy: {which:?} {trouble:?} {counts:?}");
            let after = [which, other].map(|leaf| load.asked_between(leaf, 8_000, 10_000));
            assert!(after[0] >= 300, "{after:?}: {which:?} {trouble:?} {counts:?}");
            assert_eq!(load.gather.silent(), 0);
        }
    }
}

#[test]
fn what_slows_all_copies_alike_spends_no_budget() {
    let mut healthy = Load::new(|_, _| State::Well);
    healthy.run(COUNT);
    // Everything is 5 ms slower in 20 ms of each second: some 400 questions take very long.
    let burst = |now: Mono| now.0 / 1_000_000 % 1_000 < 20;
    let state = |_, now| {
        if burst(now) { State::Late(Duration::from_millis(5)) } else { State::Well }
    };
    let mut load = Load::new(state);
    load.run(COUNT);
    let (before, (extra, _)) = (healthy.extra().0, load.extra());
    let counts = load.gather.counts();
    assert_eq!(counts.complete, COUNT);
    assert!(extra <= before + 100, "{extra} beside {before}: {counts:?}");
}

#[test]
fn a_machine_that_stands_still_asks_nobody_twice() {
    let mut load = Load::new(|_, _| State::Well);
    load.run(1_000);
    // Both are asked, both answer, and we are not scheduled for 50 ms.
    let before = load.gather.counts();
    let at = load.now;
    for client in 5_000..5_020 {
        load.gather.begin_query(at, client, &query(Op::Last, 0), &both()).unwrap();
    }
    let asks: Vec<Request> = std::iter::from_fn(|| load.gather.poll_request()).collect();
    let woken = at + Duration::from_millis(50);
    for ask in &asks {
        let end = end(EndStatus::Complete, None);
        assert_eq!(load.gather.handle_end(ask.leaf, ask.id(), &end, woken), FrameOutcome::Taken);
    }
    load.gather.handle_timeout(woken);
    let after = load.gather.counts();
    assert_eq!((after.hedged, after.failed_over), (before.hedged, before.failed_over));
    assert_eq!(load.gather.silent(), 0);
}

#[test]
fn an_empty_hedge_budget_lets_no_question_wait_for_a_silent_copy() {
    let mut load = Load::new(|_, _| State::Well);
    load.run(1_000);
    let at = load.now;
    while load.gather.budgets.take_hedge() {}
    let mut plan = both();
    plan.truncate(1);
    // One takes all of them and says nothing more.
    plan[0].replicas[1].availability = Availability::Refused;
    for client in 5_000..5_100 {
        let lone = plan.clone();
        load.gather.begin_query(at, client, &query(Op::Last, 0), &lone).unwrap();
    }
    while load.gather.poll_request().is_some() {}
    plan[0].replicas[1].availability = Availability::Ready;
    // The other is busy with what nobody else could be asked: it is not chosen for being idle.
    let mut questions: BTreeMap<u32, LeafId> = BTreeMap::new();
    for client in 6_000..6_200 {
        let options = Query::EXPLAIN;
        load.gather.begin_query(at, client, &query(Op::Last, options), &plan).unwrap();
    }
    for ask in std::iter::from_fn(|| load.gather.poll_request()) {
        questions.insert(ask.id(), ask.leaf);
    }
    while load.gather.budgets.take_hedge() {}
    let stuck = questions.values().filter(|leaf| **leaf == A).count();
    assert!(stuck > 20, "{stuck}");
    let end = end(EndStatus::Complete, None);
    let answered_at = at + Duration::from_micros(200);
    for (id, leaf) in &questions {
        if *leaf == A2 {
            assert_eq!(load.gather.handle_end(A2, *id, &end, answered_at), FrameOutcome::Taken);
        }
    }
    // Timers go off when they are due.
    let mut taken_over: Vec<Request> = Vec::new();
    while let Some(next) = load.gather.next_deadline() {
        if next >= at + Duration::from_millis(10) {
            break;
        }
        load.gather.handle_timeout(next);
        while let Some(ask) = load.gather.poll_request() {
            assert_eq!(ask.leaf, A2);
            let done = next + Duration::from_micros(200);
            let reply = load.gather.handle_end(A2, ask.id(), &end, done);
            assert_eq!(reply, FrameOutcome::Taken);
            taken_over.push(ask);
        }
    }
    let counts = load.gather.counts();
    assert_eq!(taken_over.len(), stuck, "each once: {counts:?}");
    let answers: Vec<Answer> = std::iter::from_fn(|| load.gather.poll_answer()).collect();
    let from_start = answers.iter().filter(|it| it.client >= 6_000);
    assert_eq!(from_start.clone().filter(|it| it.status == EndStatus::Complete).count(), 200);
    let explained: Vec<&NodeExplain> =
        from_start.flat_map(|it| it.frames.iter().filter_map(Frame::view)).collect();
    let is_failover = |it: &&&NodeExplain| it.what & NodeExplain::FAILED_OVER != 0;
    let failed_over = explained.iter().filter(is_failover);
    assert_eq!(failed_over.clone().count(), usize::try_from(counts.failed_over).unwrap());
    let what = NodeExplain::ASKED | NodeExplain::FAILED_OVER | NodeExplain::CHOSEN;
    assert!(failed_over.clone().all(|it| it.what == what && it.copy == 1));
    assert!(counts.failed_over + 10 >= stuck as u64, "{counts:?}");
}

#[test]
fn a_copy_that_falters_again_and_again_costs_no_more_than_a_twentieth() {
    // Of 100 ms it is away for 30, which is one of the worst things to guess.
    let state = |leaf, now: Mono| {
        let (cycle, within) = (now.0 / 100_000_000, now.0 / 1_000_000 % 100);
        match leaf == A && within < 30 {
            true => State::StoppedUntil(Mono(cycle * 100_000_000 + 30_000_000)),
            false => State::Well,
        }
    };
    let mut load = Load::new(state);
    load.run(COUNT);
    let (extra, first) = load.extra();
    assert!(extra * 20 <= first, "{extra} of {first}: {:?}", load.gather.counts());
    assert_eq!(load.gather.counts().complete, COUNT);
}

#[test]
fn whatever_one_copy_does_the_other_answers_for_both() {
    for seed in 0..12 {
        // A and core change their minds every few hundred milliseconds; their copies are always well.
        let state = move |leaf: LeafId, now: Mono| {
            let (slice, length) = (now.0 / 250_000_000, 250_000_000);
            let mut random = Random::new(seed * 1_000 + u64::from(leaf.0)).fork(slice);
            match random.below(5) {
                _ if leaf == A2 || leaf == CORE2 => State::Well,
                0 => State::StoppedUntil(Mono((slice + 1) * length)),
                1 => State::Late(Duration::from_millis(1 + random.below(120))),
                2 => State::Refuses,
                _ => State::Well,
            }
        };
        let mut load = Load::new(state);
        load.run(3_000);
        let counts = load.gather.counts();
        assert_eq!((counts.complete, load.answers.len()), (3_000, 3_000), "{seed}: {counts:?}");
        let longest = load.quantile(999);
        assert!(longest <= Duration::from_millis(20), "{seed}: {longest:?} {counts:?}");
    }
}

#[test]
fn a_node_that_answers_something_is_not_silent_and_one_without_a_copy_is_not_watched() {
    let mut gather = Gather::new();
    let plan = both();
    gather.begin_query(START, 1, &query(Op::Last, 0), &plan[..1]).unwrap();
    let slow = gather.poll_request().unwrap();
    // It is busy with a long one, and answers short ones.
    for n in 1..9 {
        let at = ms(n * 10);
        let mut lone = plan.clone();
        lone[0].replicas.truncate(1);
        gather.begin_query(at, 1 + n, &query(Op::Last, 0), &lone[..1]).unwrap();
        let short = std::iter::from_fn(|| gather.poll_request()).find(|ask| ask.leaf == A).unwrap();
        let end = end(EndStatus::Complete, None);
        assert_eq!(gather.handle_end(A, short.id(), &end, at), FrameOutcome::Taken);
        gather.handle_timeout(at);
        assert!(!gather.leaves.is_unhealthy(at, A), "{n}");
    }
    assert_eq!(slow.leaf, A);
    let mut gather = Gather::new();
    gather
        .begin_query(START, 1, &query(Op::Last, 0), &[part(A, Op::Last, Availability::Ready)])
        .unwrap();
    assert_eq!(gather.next_deadline(), Some(ms(95)), "no timer but the answer's own");
}
