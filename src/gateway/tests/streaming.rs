//! WebSockets: whole messages, whoever is overtaken or leaves in the middle of one.

use super::*;
use crate::wire::Gap;

/// A browser that follows everything, and whatever it got with that is taken away.
fn follower(bench: &mut Bench, protocol: &str) -> ConnId {
    let browser = bench.browser(protocol);
    bench.command(browser, r#"{"subscribe":1,"mode":"lossless"}"#);
    bench.turns(3);
    bench.take(browser);
    browser
}

fn is_filler(frame: &Frame) -> bool {
    frame.view::<Heartbeat>().is_some_and(|beat| beat.token.get() == u32::MAX)
}

/// A browser that has one subscription to PETR4 and one to VALE3, and their snapshots.
fn two_subscriptions(bench: &mut Bench) -> ConnId {
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1,"symbols":["PETR4"]}"#);
    bench.command(browser, r#"{"subscribe":2,"symbols":["VALE3"]}"#);
    bench.turns(3);
    bench.take(browser);
    browser
}

#[test]
fn two_busy_subscriptions_of_one_connection_are_both_sent() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = two_subscriptions(&mut bench);
    bench.give_frames(broker, &[trade(10, 0), trade(11, 1), trade(12, 0)]);
    bench.turns(2);
    let messages = messages(&bench.take(browser));
    let mut got = seqs(&frames_of(&messages));
    got.sort_unstable();
    assert_eq!(got, [10, 11, 12]);
    assert!(messages.len() <= 4, "whose frames follow is said once: {}", messages.len());
}

#[test]
fn a_message_whose_frames_are_overtaken_has_its_length_and_whole_frames() {
    for taken in [0, 1, 63, 64, 65, 130, 300, 640] {
        let mut bench = Bench::new(16, 8);
        let broker = bench.live(10);
        let browser = follower(&mut bench, "pregao.frames.v1");
        bench.room(browser, 0);
        bench.give_frames(broker, &trades(10, 22));
        bench.room(browser, taken);
        bench.give_frames(broker, &trades(22, 60));
        bench.room(browser, 100);
        bench.give_frames(broker, &trades(60, 100));
        bench.room(browser, usize::MAX / 2);
        bench.turns(3);
        let frames = frames_of(&messages(&bench.take(browser)));
        let got = seqs(&frames);
        assert!(got.is_sorted() && got.last() == Some(&99), "{got:?}");
        let gaps = frames.iter().filter_map(Frame::view::<Gap>);
        let told: u64 = gaps.map(|gap| gap.to_seq.get() - gap.from_seq.get() + 1).sum();
        assert_eq!(got.len() as u64 + told, 90, "{taken}: each frame came or was told as lost");
    }
}

#[test]
fn who_unsubscribes_in_the_middle_of_a_message_gets_its_end() {
    for taken in [1, 64, 100, 400] {
        let mut bench = Bench::new(64, 8);
        let broker = bench.live(10);
        let browser = follower(&mut bench, "pregao.frames.v1");
        bench.room(browser, 0);
        bench.give_frames(broker, &trades(10, 20));
        bench.room(browser, taken);
        bench.command(browser, r#"{"unsubscribe":1}"#);
        bench.turn();
        bench.room(browser, usize::MAX / 2);
        bench.turns(2);
        bench.give_frames(broker, &trades(20, 30));
        let messages = messages(&bench.take(browser));
        assert_eq!(seqs(&frames_of(&messages)), (10..20).collect::<Vec<_>>());
        let last = messages.last().unwrap();
        assert_eq!(last.1, br#"{"kind":"unsubscribed","id":1}"#, "{taken}");
    }
}

#[test]
fn who_was_overtaken_learns_the_names_that_stood_in_the_gap() {
    let mut bench = Bench::new(16, 8);
    let broker = bench.live(10);
    let browser = follower(&mut bench, "pregao.frames.v1");
    bench.room(browser, 0);
    let mut new = Definition::new(instrument(2), "ITUB4".parse().unwrap(), 2);
    new.seq = U64::new(10);
    bench.give_frames(broker, &[Frame::seal(new)]);
    bench.give_frames(broker, &trades(11, 60));
    bench.give_frames(broker, &[trade(60, 2)]);
    bench.room(browser, usize::MAX / 2);
    bench.turns(4);
    let frames = frames_of(&messages(&bench.take(browser)));
    let named = frames
        .iter()
        .position(|f| f.kind == Kind::Definition as u8 && f.instrument() == instrument(2));
    let used = frames.iter().position(|f| f.seq.get() == 60 && f.instrument() == instrument(2));
    assert!(named.is_some() && named < used, "{named:?} {used:?}");
}

#[test]
fn what_waits_for_the_next_turn_is_not_filled() {
    let mut bench = Bench::new(1 << 12, 8);
    let broker = bench.live(10);
    for from in (10..2_010).step_by(200) {
        bench.give_frames(broker, &trades(from, from + 200));
    }
    bench.gateway.feed.broker_mut().work_mut().bound_frames(64);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1,"from":10}"#);
    bench.turns(3);
    let mut all = bench.take(browser);
    for _ in 0..2_000 {
        // A slow line: each piece leaves in the middle of something.
        bench.room(browser, 1_000);
        bench.turn();
        all.extend(bench.take(browser));
    }
    let frames = frames_of(&messages(&all));
    assert_eq!(seqs(&frames), (10..2_010).collect::<Vec<_>>());
    let fillers = frames.iter().filter(|frame| is_filler(frame)).count();
    assert_eq!(fillers, 0, "frames were there, only not in this turn");
}

#[test]
fn a_command_beside_a_long_message_of_lines_is_no_reason_to_close() {
    let mut bench = Bench::new(1 << 12, 8);
    let broker = bench.live(10);
    let browser = follower(&mut bench, "pregao.json.v1");
    bench.room(browser, 0);
    bench.give_frames(broker, &trades(10, 510));
    bench.turn();
    bench.room(browser, 100);
    assert!(bench.gateway.wants_bytes(browser), "it has to be heard");
    bench.command(browser, r#"{"unsubscribe":9}"#);
    bench.turn();
    bench.room(browser, usize::MAX / 2);
    bench.turns(2);
    let messages = messages(&bench.take(browser));
    assert!(messages.iter().all(|(opcode, _)| *opcode != 8), "it was closed");
    assert!(lines_of(&messages).iter().any(|line| line.contains("no subscription has this id")));
}

#[test]
fn who_reads_no_answers_is_closed_and_costs_no_more_than_the_bound() {
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let browser = bench.browser("pregao.json.v1");
    bench.room(browser, 0);
    let mut sent = 0;
    while bench.gateway.wants_bytes(browser) && sent < 100_000 {
        bench.command(browser, r#"{"unsubscribe":9}"#);
        sent += 1;
    }
    assert!(sent < 2_000, "{sent} answers wait");
    // One that reads, but never all of it, costs no more either.
    let browser = bench.browser("pregao.json.v1");
    bench.room(browser, 0);
    bench.command(browser, r#"{"unsubscribe":9}"#);
    for _ in 0..5_000 {
        bench.command(browser, r#"{"unsubscribe":9}"#);
        bench.turn();
        bench.room(browser, 90);
        bench.take(browser);
    }
    let Some(Door::Stream(stream)) = bench.gateway.doors.get(browser) else { panic!("closed") };
    assert!(stream.texts_held() <= 2 * limits::GATEWAY_TEXTS_BYTES_MAX, "it grows");
}

#[test]
fn nothing_is_said_behind_the_close() {
    let mut bench = Bench::new(64, 1);
    bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    // The second one is refused, and that closes the connection; the third one comes with it.
    for id in 1..=3 {
        bench.command(browser, &format!(r#"{{"subscribe":{id}}}"#));
    }
    bench.turns(2);
    let messages = messages(&bench.take(browser));
    let close = messages.iter().position(|(opcode, _)| *opcode == 8).expect("a close");
    assert_eq!(close + 1, messages.len(), "{messages:?}");
}

#[test]
fn pings_of_many_go_out_over_several_turns_and_each_gets_one() {
    let count = limits::GATEWAY_SWEEP_LOOKS_MAX * 2;
    let mut bench = Bench::new(64, 8);
    bench.live(10);
    let browsers: Vec<ConnId> = (0..count).map(|_| bench.browser("pregao.frames.v1")).collect();
    bench.now.mono = bench.now.mono + limits::GATEWAY_PING_EVERY;
    let mut pinged = vec![0; count];
    let mut turns = 0;
    while bench.gateway.next_deadline().is_some_and(|due| due <= bench.now.mono) {
        bench.turn();
        turns += 1;
        let mut of_turn = 0;
        for (browser, pinged) in browsers.iter().zip(&mut pinged) {
            let got = bench.take(*browser).windows(2).filter(|it| *it == [0x89, 0]).count();
            (of_turn, *pinged) = (of_turn + got, *pinged + got);
        }
        assert!(of_turn <= limits::GATEWAY_SWEEP_LOOKS_MAX, "{of_turn} in one turn");
    }
    assert!(turns >= 3 && pinged.iter().all(|it| *it == 1), "{turns} turns: {pinged:?}");
}

#[test]
fn who_leaves_before_another_one_takes_nothing_from_its_message() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = two_subscriptions(&mut bench);
    bench.room(browser, 0);
    let trades: Vec<Frame> = (10..20).map(|seq| trade(seq, 1)).collect();
    bench.give_frames(broker, &trades);
    // In the middle of the second one's message the first one goes, and then the second.
    bench.room(browser, 300);
    bench.command(browser, r#"{"unsubscribe":1}"#);
    bench.command(browser, r#"{"unsubscribe":2}"#);
    bench.turn();
    bench.room(browser, usize::MAX / 2);
    bench.turns(2);
    let messages = messages(&bench.take(browser));
    assert_eq!(seqs(&frames_of(&messages)), (10..20).collect::<Vec<_>>());
    let ended = lines_of(&messages);
    let ended = ended.iter().filter(|line| line.contains("unsubscribed")).count();
    assert_eq!(ended, 2, "{messages:?}");
    let Some(Door::Stream(stream)) = bench.gateway.doors.get(browser) else { panic!("closed") };
    assert!(stream.subscriptions.all().is_empty());
}
