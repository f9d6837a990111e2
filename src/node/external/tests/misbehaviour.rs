//! The exchange misbehaves as configured.

use super::*;

#[test]
fn refused_sessions_get_an_error_and_are_closed() {
    let mut bench = Bench::with_chaos(
        tapes(&[0], false),
        Speed::Max,
        "refuse=1,stall=0,delay=5ms".parse().unwrap(),
    );
    let conn = bench.connect(0, 0);
    assert!(bench.flush(conn).is_empty(), "every answer has its delay");
    assert_eq!(bench.deadline_ms(), Some(5));
    bench.sleep_until(5);
    assert_eq!(refusals(&bench.flush(conn)), [(ErrorCode::Failed as u16, 0)]);
    assert!(bench.closes(conn));
    assert_eq!(bench.external.sessions.refused, 1);
}

#[test]
fn a_stalled_session_is_sent_nothing_until_its_time() {
    let mut bench = Bench::with_chaos(
        tapes(&[0, 1], false),
        Speed::Max,
        "refuse=0,stall=1,stall-for=40s".parse().unwrap(),
    );
    let conn = bench.connect(0, 0);
    bench.deliver(conn, &[beat(5)]);
    bench.sleep_until(39_999);
    assert!(bench.flush(conn).is_empty());
    assert_eq!(bench.deadline_ms(), Some(40_000));
    bench.sleep_until(40_000);
    let frames = bench.flush(conn);
    assert!(frames[0].view::<Session>().is_some(), "the session comes before the request");
    assert_eq!(seqs(&frames), [1, 2, 3, 4]);
    assert_eq!((bench.external.sessions.stalled, bench.external.requests.stalled), (1, 1));
    assert!(!bench.closes(conn));
}

#[test]
fn a_stalled_session_that_leaves_leaves_no_timer() {
    let mut bench = Bench::with_chaos(tapes(&[0], false), Speed::Max, chaos("delay=30m"));
    let conn = bench.connect(0, 0);
    bench.deliver(conn, &[beat(1), beat(2)]);
    bench.external.handle_close(bench.now, conn, CloseReason::Reset);
    assert!(bench.external.timers.is_empty());
    assert_eq!(bench.external.next_deadline(), None);
}

#[test]
fn a_refused_request_keeps_its_session() {
    let mut bench = Bench::new(tapes(&[0, 1, 2], false), Speed::Max);
    let conn = bench.connect(0, 0);
    bench.read(conn);
    bench.external.misbehaviour.chaos = Chaos::new("refuse=1,stall=0".parse().unwrap());
    bench.deliver(conn, &[beat(5), resume(6, 1)]);
    let frames = bench.read(conn);
    let code = ErrorCode::Failed as u16;
    assert_eq!(refusals(&frames), [(code, 5), (code, 6)]);
    assert!(seqs(&frames).is_empty() && beats(&frames).is_empty());
    assert!(!bench.closes(conn));
}

#[test]
fn a_stalled_request_does_not_hold_the_feed_up() {
    let mut bench = Bench::new(tapes(&[0, 500, 900], false), times(1_000));
    let conn = bench.connect(0, 0);
    bench.flush(conn);
    bench.external.misbehaviour.chaos =
        Chaos::new("refuse=0,stall=1,stall-for=700ms".parse().unwrap());
    bench.deliver(conn, &[beat(5)]);
    bench.sleep_until(699);
    let frames = bench.flush(conn);
    assert_eq!((seqs(&frames), beats(&frames)), (vec![4], vec![]));
    assert_eq!(bench.deadline_ms(), Some(700));
    bench.sleep_until(700);
    assert_eq!(beats(&bench.flush(conn)), [(5, 5)]);
}

#[test]
fn answers_held_back_are_bounded() {
    let mut bench = Bench::with_chaos(tapes(&[0], false), Speed::Max, chaos("delay=1m"));
    let conn = bench.connect(0, 0);
    let flood: Vec<Frame> = (1..=64).map(beat).collect();
    bench.deliver(conn, &flood[..63]);
    assert!(bench.read(conn).is_empty(), "the session and 63 requests wait");
    bench.deliver(conn, &flood[63..]);
    assert_eq!(refusals(&bench.read(conn)), [(ErrorCode::Limit as u16, 0)]);
    assert!(bench.closes(conn));
}

#[test]
fn a_cut_ends_the_connection_inside_a_frame() {
    let mut bench = Bench::with_chaos(tapes(&[0, 1], false), Speed::Max, chaos("drop=1"));
    let conn = bench.connect(0, 0);
    let bytes = bench.read_bytes(conn, usize::MAX, 7);
    // The session and the snapshot are whole.
    assert!((3 * 64 + 1..4 * 64).contains(&bytes.len()), "{}", bytes.len());
    let expected = schedule(&[0, 1]);
    assert!(expected.frames()[0].as_bytes().starts_with(&bytes[3 * 64..]));
    assert!(bench.closes(conn));
    assert_eq!(bench.external.frames.cut, 1);
    bench.deliver(conn, &[beat(1)]);
    assert!(bench.read(conn).is_empty());
}

#[test]
fn lost_frames_leave_holes() {
    let offsets: Vec<u64> = (0..2_998).collect();
    let mut bench = Bench::with_chaos(tapes(&offsets, false), Speed::Max, chaos("lose=0.3"));
    let conn = bench.connect(0, 0);
    let data = seqs(&bench.read(conn));
    assert!(data.is_sorted_by(|a, b| a < b));
    assert!((1_900..2_300).contains(&data.len()), "{}", data.len());
    assert_eq!(bench.external.frames.lost + bench.external.frames.sent, 3_000);
}

#[test]
fn a_feed_of_which_all_is_lost_takes_turns_and_still_ends() {
    let offsets: Vec<u64> = (0..5_000).collect();
    let mut bench = Bench::with_chaos(tapes(&offsets, false), Speed::Max, chaos("lose=1"));
    let conn = bench.connect(0, 0);
    assert_eq!(seqs(&bench.flush(conn)), Vec::<u64>::new());
    let mut turns = 0;
    while bench.external.next_deadline() == Some(bench.now.mono) {
        bench.turn();
        assert!(seqs(&bench.flush(conn)).is_empty());
        turns += 1;
    }
    assert_eq!((turns, bench.external.frames.lost), (5, 5_002));
    assert_eq!(bench.deadline_ms(), Some(TICK_MS));
}

#[test]
fn garbage_is_no_frame() {
    let mut bench = Bench::with_chaos(tapes(&[0, 1, 2], false), Speed::Max, chaos("garbage=1"));
    let conn = bench.connect(0, 0);
    let bytes = bench.read_bytes(conn, usize::MAX, usize::MAX);
    let (frames, rest) = as_frames(&bytes[3 * 64..]);
    assert_eq!((frames.len(), rest.len()), (6, 0));
    let (end, frames) = frames.split_last().unwrap();
    assert_eq!(beats(&[*end]), [(0, 6)], "what it is told of the end is spared");
    assert!(frames.iter().all(|frame| frame.check().is_err()));
    assert_eq!(bench.external.frames.garbage, 5);
}

/// Tells the exchange how to misbehave, as an operator does; what it answers.
fn order(bench: &mut Bench, limit: u32) -> Vec<Frame> {
    let conn = bench.open();
    let hello = Session { role: Role::Querier as u8, ..Session::default() };
    let op = Op::Chaos as u8;
    let query = Query { id: U32::new(3), op, limit: U32::new(limit), ..Query::default() };
    bench.deliver(conn, &[Frame::seal(hello), Frame::seal(query)]);
    bench.read(conn).split_off(1)
}

fn chaos_word(bench: &Bench) -> String {
    let (_, words) = bench.external.status(bench.now).parts();
    words["chaos"].clone()
}

#[test]
fn an_operator_has_the_exchange_misbehave_and_behave_again() {
    let config: ChaosConfig = "refuse=0,stall=0,lose=1,seed=9".parse().unwrap();
    let mut bench = Bench::with_chaos(tapes(&[0, 1, 2], false), Speed::Max, config);
    let conn = bench.connect(0, 0);
    assert!(seqs(&bench.read(conn)).iter().all(|seq| *seq <= 2), "every frame is lost");
    for (action, word) in [
        (ChaosAction::Behave, "off".to_owned()),
        (ChaosAction::Misbehave, ChaosConfig { seed: 9, ..ChaosConfig::PLAYGROUND }.to_string()),
        (ChaosAction::Reset, config.to_string()),
        (ChaosAction::Behave, "off".to_owned()),
    ] {
        assert!(order(&mut bench, action as u32)[0].view::<Ended>().is_some());
        assert_eq!(chaos_word(&bench), word);
    }
    bench.deliver(conn, &[resume(6, 1)]);
    assert_eq!(seqs(&bench.read(conn)), [1, 2, 3, 4, 5], "a behaving exchange sends every frame");
}

#[test]
fn what_is_no_such_misbehaviour_or_no_playground_changes_nothing() {
    let mut bench = Bench::new(tapes(&[0], false), Speed::Max);
    for limit in [0, 4, 255, 256 + 2, u32::MAX] {
        assert_eq!(refusals(&order(&mut bench, limit)), [(ErrorCode::Unexpected as u16, 3)]);
    }
    assert_eq!(chaos_word(&bench), "off");
    bench.external.misbehaviour = Misbehaviour::new(ChaosConfig::OFF, false);
    let answer = order(&mut bench, ChaosAction::Misbehave as u32);
    assert_eq!(refusals(&answer), [(ErrorCode::Unexpected as u16, 3)]);
    assert_eq!(chaos_word(&bench), "off");
}
