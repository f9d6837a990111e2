//! How a leaf is lost, shut out, and found again.

use super::*;
use NodeStatus::{BreakerOpen, Ok, Pruned, Refused, Timeout};

const OWNER: usize = 2;

/// Asks for history and says what became of the owner's part, when that is known at once.
fn status_at_once(bench: &mut Bench, client: ConnId) -> Option<NodeStatus> {
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    statuses(&bench.read(client)).get(OWNER).copied()
}

/// A stopped process: two questions time out after the handshake, and the breaker opens.
fn stop_owner(bench: &mut Bench, client: ConnId) {
    for _ in 0..2 {
        assert_eq!(status_at_once(bench, client), None, "it is asked");
        bench.wait_ms(500);
        assert_eq!(statuses(&bench.read(client))[OWNER], Timeout);
    }
}

#[test]
fn after_repeated_timeouts_nobody_waits_for_a_silent_leaf() {
    let mut bench = Bench::new();
    let client = bench.client();
    let conn = bench.leaves[&OWNER];
    // Good answers before do not shield it for ever.
    for _ in 0..3 {
        bench.ask(client, query(1, Op::Last, "PETR4", 0));
        bench.answer(OWNER, &[]);
        bench.read(client);
    }
    for _ in 0..2 {
        assert_eq!(status_at_once(&mut bench, client), None);
        bench.wait_ms(500);
        assert_eq!(statuses(&bench.read(client)), [Pruned, Pruned, Timeout, Pruned]);
    }
    assert_eq!(bench.closed, [conn], "half of the window failed");
    assert_eq!(status_at_once(&mut bench, client), Some(BreakerOpen));
    assert!(bench.log.iter().any(|line| line.contains("aggregator.shard-B: closed -> open")));
    bench.assert_nothing_pending();
    // The others are not concerned.
    bench.ask(client, query(2, Op::Last, "VALE3", 0));
    bench.answer(3, &[]);
    assert_eq!(statuses(&bench.read(client)), [Pruned, Pruned, Pruned, Ok]);
}

#[test]
fn a_client_without_patience_shuts_nobody_out() {
    let mut bench = Bench::new();
    let client = bench.client();
    for (round, deadline_us) in (1..).zip([1, 1_000, 5_000, 10_000].repeat(16)) {
        let hasty = query(round, Op::Last, "PETR4", 0);
        bench.ask(client, Query { deadline_us: U32::new(deadline_us), ..hasty });
        bench.wait_ms(11);
        let refused: Vec<u32> = refusals(&bench.read(client)).iter().map(|it| it.0).collect();
        assert_eq!(refused, [round]);
    }
    assert!(bench.closed.is_empty(), "{:?}", bench.log);
    bench.ask(client, query(100, Op::Last, "PETR4", 0));
    assert_eq!(bench.questions(OWNER).last().map(|it| it.op), Some(Op::Last as u8));
    assert!(!bench.log.iter().any(|line| line.contains("-> open")), "{:?}", bench.log);
}

#[test]
fn a_timed_out_question_is_called_timeout_though_its_connection_is_closed_for_it() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.ask(client, query(2, Op::Last, "PETR4", 0));
    bench.ask(client, query(3, Op::Last, "PETR4", 0));
    bench.wait_ms(460);
    // The leaf's time is over and its breaker open; the gather still waits a moment.
    assert!(bench.closed.is_empty());
    bench.wait_ms(40);
    assert_eq!(bench.closed.len(), 1);
    let frames = bench.read(client);
    let expected = [[Pruned, Pruned, Timeout, Pruned]; 3].concat();
    assert_eq!(statuses(&frames), expected);
}

#[test]
fn questions_under_way_may_end_while_an_open_breaker_drains_the_connection() {
    let mut bench = Bench::new();
    let client = bench.client();
    let long = Query { deadline_us: U32::new(900_000), ..query(9, Op::Last, "PETR4", 0) };
    bench.ask(client, long);
    let question = bench.questions(OWNER)[0].id.get();
    for id in 1..4 {
        bench.ask(client, query(id, Op::Last, "PETR4", 0));
    }
    bench.wait_ms(500);
    bench.read(client);
    assert_eq!(status_at_once(&mut bench, client), Some(BreakerOpen));
    assert!(bench.closed.is_empty(), "a question is under way");
    bench.leaf_sends(OWNER, &answer_to(question, &[trade(1)]));
    assert_eq!(seqs(&bench.read(client)), [1]);
    assert_eq!(bench.closed.len(), 1);
}

#[test]
fn a_healed_leaf_is_found_by_the_next_handshake_without_any_question() {
    let mut bench = Bench::new();
    let client = bench.client();
    stop_owner(&mut bench, client);
    assert!(bench.dials.is_empty(), "the breaker is open");
    // Default first wait of an open breaker: 500 ms. Nobody asks anything meanwhile.
    bench.wait_ms(500);
    assert_eq!(bench.dials, [OWNER]);
    let conn = bench.accept(OWNER);
    assert_eq!(
        status_at_once(&mut bench, client),
        Some(BreakerOpen),
        "a kernel's word is no health"
    );
    bench.deliver(conn, &[Frame::seal(Session::default())]);
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.answer(OWNER, &[trade(1)]);
    let frames = bench.read(client);
    assert_eq!((ended(&frames), seqs(&frames)), (EndStatus::Complete, vec![1]));
}

#[test]
fn a_leaf_that_accepts_and_never_speaks_stays_shut_out_and_is_tried_again() {
    let mut bench = Bench::new();
    let client = bench.client();
    stop_owner(&mut bench, client);
    for attempt in 1..5 {
        // Each wait is half as long again; the longest here stays below 3 s.
        let until = bench.now.mono + Duration::from_secs(3);
        while bench.dials.is_empty() && bench.now.mono < until {
            bench.wait_ms(10);
        }
        assert_eq!(bench.dials, [OWNER], "attempt {attempt}");
        bench.accept(OWNER);
        bench.wait_ms(290);
        assert_eq!(bench.closed.len(), attempt);
        bench.wait_ms(20);
        assert_eq!(bench.closed.len(), attempt + 1, "the request deadline is over");
        assert_eq!(status_at_once(&mut bench, client), Some(BreakerOpen));
    }
}

#[test]
fn a_dead_leaf_is_refused_then_breaker_open_and_back_after_its_restart() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.lose(OWNER);
    assert_eq!(status_at_once(&mut bench, client), Some(Refused));
    // Handshake, reset, refused: two of three failed.
    bench.wait_ms(50);
    bench.refuse_dial(OWNER);
    assert_eq!(status_at_once(&mut bench, client), Some(BreakerOpen));
    bench.wait_ms(499);
    assert!(bench.dials.is_empty());
    bench.wait_ms(1);
    bench.connect(OWNER);
    assert_eq!(status_at_once(&mut bench, client), None);
    bench.answer(OWNER, &[]);
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
}

#[test]
fn a_leaf_that_refuses_our_session_is_left_alone_for_a_while() {
    let mut bench = Bench::dialing(&config());
    let client = bench.client();
    for attempt in 0..3 {
        bench.wait_ms(50);
        let conn = bench.accept(OWNER);
        let refusal = Refusal::new(ErrorCode::Stopping, 0, "going away");
        bench.deliver(conn, &[Frame::seal(refusal)]);
        assert_eq!(bench.closed.len(), attempt + 1);
    }
    bench.wait_ms(100);
    assert!(!bench.dials.contains(&OWNER));
    assert_eq!(status_at_once(&mut bench, client), Some(BreakerOpen));
}

#[test]
fn before_the_first_handshake_the_answer_is_refused_at_once() {
    let mut bench = Bench::dialing(&config());
    let client = bench.client();
    bench.accept(OWNER);
    assert_eq!(status_at_once(&mut bench, client), Some(Refused), "not greeted yet");
}

#[test]
fn two_handshakes_close_the_breaker_when_two_are_wanted() {
    let mut config = config();
    config.breaker.required_successes_in_half_open_state = 2;
    let mut bench = Bench::dialing(&config);
    for leaf in 0..4 {
        bench.connect(leaf);
    }
    let client = bench.client();
    stop_owner(&mut bench, client);
    bench.wait_ms(500);
    bench.connect(OWNER);
    assert_eq!(bench.closed.len(), 2, "another handshake is wanted");
    bench.wait_ms(50);
    bench.connect(OWNER);
    bench.ask(client, query(1, Op::Last, "PETR4", 0));
    bench.answer(OWNER, &[]);
    assert_eq!(ended(&bench.read(client)), EndStatus::Complete);
}

#[test]
fn an_idle_connection_is_kept_alive_and_a_dead_one_closed() {
    let mut bench = Bench::new();
    let conn = bench.leaves[&OWNER];
    bench.wait_ms(16_000);
    assert!(bench.read(conn).iter().any(|frame| frame.kind() == Some(Kind::Heartbeat)));
    let ask = Heartbeat {
        flags: crate::wire::U16::new(crate::wire::Flags::MORE),
        ..Heartbeat::default()
    };
    bench.leaf_sends(OWNER, &[Frame::seal(ask)]);
    assert_eq!(kinds(&bench.read(conn)), [Kind::Heartbeat], "theirs is answered");
    bench.wait_ms(31_000);
    assert!(bench.leaves.contains_key(&OWNER), "it spoke 31 s ago");
    assert!(!bench.leaves.contains_key(&CORE), "silent for 47 s");
}

#[test]
fn a_deadline_that_passed_before_the_timer_went_off_is_held_against_the_leaf() {
    let mut bench = Bench::new();
    let client = bench.client();
    for id in 1..=3 {
        bench.ask(client, query(id, Op::Last, "PETR4", 0));
    }
    // We were not scheduled for a while, and what came is read before the timers are looked at.
    bench.now.mono = bench.now.mono + Duration::from_millis(480);
    bench.leaf_sends(CORE, &[end(9_999, 0)]);
    assert!(bench.log.iter().any(|text| text.contains("aggregator.shard-B")), "{:?}", bench.log);
    bench.read(client);
    bench.assert_nothing_pending();
}
