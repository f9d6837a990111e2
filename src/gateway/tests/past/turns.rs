//! Whose turn it is to be sent a piece: bounds, who gives way, and who is told a gap instead.

use super::*;

#[test]
fn pieces_have_a_bound_and_each_comes_to_its_turn() {
    let (mut bench, _, core) = bench(2_000, Some((7, 1)));
    let core = core.unwrap();
    let count = limits::GATEWAY_PIECES_MAX + 5;
    let browsers: Vec<ConnId> = (0..count)
        .map(|_| {
            let browser = frames_from(&mut bench, 10);
            bench.turns(3);
            // It has the names, and nothing else leaves.
            bench.room(browser, 500);
            browser
        })
        .collect();
    serve(&mut bench, core, 1..2_000);
    assert_eq!(bench.gateway.feed.past.holding(), limits::GATEWAY_PIECES_MAX);
    assert_eq!(bench.gateway.feed.past.len(), count);
    for browser in &browsers {
        bench.room(*browser, usize::MAX / 2);
    }
    serve(&mut bench, core, 1..2_000);
    for browser in browsers {
        let frames = taken(&mut bench, browser);
        assert_eq!((seqs(&frames), gaps(&frames)), ((10..2_000).collect(), vec![]));
    }
    assert_eq!((bench.gateway.feed.past.holding(), bench.gateway.feed.past.len()), (0, 0));
}

#[test]
fn who_does_not_read_its_piece_gives_it_up_while_others_wait() {
    let (mut bench, _, core) = bench(2_000, Some((7, 1)));
    let core = core.unwrap();
    let mut slow = || {
        let browser = frames_from(&mut bench, 10);
        bench.turns(3);
        bench.room(browser, 500);
        browser
    };
    let slow: Vec<ConnId> = (0..limits::GATEWAY_PIECES_MAX).map(|_| slow()).collect();
    serve(&mut bench, core, 1..2_000);
    let other = frames_from(&mut bench, 10);
    serve(&mut bench, core, 1..2_000);
    assert!(seqs(&taken(&mut bench, other)).is_empty(), "there is no room for its piece");
    bench.pass(limits::GATEWAY_PIECE_UNREAD_MAX);
    serve(&mut bench, core, 1..2_000);
    let frames = taken(&mut bench, other);
    assert_eq!((seqs(&frames), gaps(&frames)), ((10..2_000).collect(), vec![]));
    // Who reads again has lost nothing by that.
    bench.room(slow[0], usize::MAX / 2);
    bench.pass(limits::GATEWAY_PIECE_UNREAD_MAX);
    serve(&mut bench, core, 1..2_000);
    let frames = taken(&mut bench, slow[0]);
    assert_eq!((seqs(&frames), gaps(&frames)), ((10..2_000).collect(), vec![]));
}

#[test]
fn a_name_of_a_piece_that_was_taken_back_comes_with_the_next_one() {
    let (mut bench, _, core) = bench(2_000, Some((7, 1)));
    let core = core.unwrap();
    // Only core knows the third instrument.
    let answer = |bench: &mut Bench| {
        for _ in 0..100 {
            bench.turns(2);
            let Some(query) = asked(bench, core) else { break };
            let mut frames = replay(&query, 1..2_000);
            let name = definition(2, "ITUB4").delivered(Flags::SNAPSHOT | Flags::REPLAY);
            frames.insert(1, name);
            for frame in frames.iter_mut().filter(|it| it.kind == Kind::Trade as u8) {
                *frame = trade(frame.seq.get(), 2).delivered(Flags::REPLAY);
            }
            bench.give_frames(core, &frames);
        }
        bench.turns(3);
    };
    let browsers: Vec<ConnId> = (0..=limits::GATEWAY_PIECES_MAX)
        .map(|_| {
            // Not even the names that the gateway has leave, so nothing of a piece is taken.
            let browser = bench.browser("pregao.frames.v1");
            bench.room(browser, 0);
            bench.command(browser, r#"{"subscribe":1,"mode":"lossless","from":"7:10"}"#);
            bench.turns(3);
            browser
        })
        .collect();
    answer(&mut bench);
    bench.pass(limits::GATEWAY_PIECE_UNREAD_MAX);
    answer(&mut bench);
    bench.room(browsers[0], usize::MAX / 2);
    bench.pass(limits::GATEWAY_PIECE_UNREAD_MAX);
    answer(&mut bench);
    let frames = taken(&mut bench, browsers[0]);
    assert_eq!((seqs(&frames), gaps(&frames)), ((10..2_000).collect(), vec![]));
    let first = frames.iter().find(|it| it.instrument() == instrument(2));
    assert_eq!(first.unwrap().kind, Kind::Definition as u8, "{first:?}");
}

#[test]
fn who_waits_too_long_for_its_turn_is_told_the_gap() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    frames_from(&mut bench, 20);
    bench.turns(3);
    let query = asked(&mut bench, core).expect("a piece");
    let browser = frames_from(&mut bench, 20);
    bench.turns(3);
    // Core goes on with the piece of the first one, and does not end it.
    let some = limits::GATEWAY_PIECE_WAIT / 2;
    let times = limits::GATEWAY_PIECE_TURN_WAIT.as_millis() / some.as_millis() + 1;
    for _ in 0..times {
        assert_eq!(gaps(&taken(&mut bench, browser)), []);
        bench.give_frames(core, &[Frame::seal(Run { id: query.id, ..Run::default() })]);
        bench.pass(some);
    }
    let oldest = oldest(&bench);
    bench.turns(3);
    let frames = taken(&mut bench, browser);
    assert_eq!(gaps(&frames), [(GapReason::BeforeRing as u8, 20, oldest - 1)]);
    assert_eq!(seqs(&frames), (oldest..100).collect::<Vec<_>>());
}

#[test]
fn a_piece_of_one_who_left_meets_nobody_who_has_its_place() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let first = frames_from(&mut bench, 10);
    bench.turns(3);
    let query = asked(&mut bench, core).expect("a piece");
    bench.close(first, CloseReason::PeerClosed);
    let second = frames_from(&mut bench, 50);
    bench.turns(3);
    assert!(asked(&mut bench, core).is_none());
    bench.give_frames(core, &replay(&query, 1..100));
    serve(&mut bench, core, 1..100);
    let frames = taken(&mut bench, second);
    assert_eq!((seqs(&frames), gaps(&frames)), ((50..100).collect(), vec![]));
}
