//! What connected subscribers are told when the feed, core or the link to core dies, and when it is back.

use super::*;

fn said(flags: u16) -> Frame {
    Frame::seal(Heartbeat { flags: U16::new(flags), ..Heartbeat::default() })
}

/// An answer to what the broker asks.
fn alive(flags: u16) -> Frame {
    let (flags, token) = (U16::new(flags), U32::new(1));
    Frame::seal(Heartbeat { flags, token, ..Heartbeat::default() })
}

/// What a subscriber is told of the feed: whether it is stale, and where the subscriber stands.
fn told(frames: &[Frame]) -> Vec<(bool, u64)> {
    let beats = frames.iter().filter_map(Frame::view::<Heartbeat>);
    let beats = beats.filter(|beat| beat.flags.get() & Flags::MORE == 0 && beat.token.get() == 0);
    beats.map(|beat| (beat.flags.get() & Flags::STALE != 0, beat.next_seq.get())).collect()
}

/// A market with a subscriber of each kind that has had all there is.
fn followed() -> (Bench, ConnId, Vec<ConnId>) {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    bench.deliver(publisher, &[alive(0), quote(3, 0)]);
    let modes = [Mode::Lossless, Mode::Latest, Mode::Conflate];
    let mut all: Vec<ConnId> = modes.map(|mode| bench.subscribe("*", mode, 0)).to_vec();
    all.push(bench.subscribe("VALE3", Mode::Lossless, 1));
    for conn in &all {
        assert!(
            told(&bench.read(*conn)).is_empty(),
            "a feed is current unless it is said to be stale"
        );
    }
    // Core's first heartbeat in this session was news, which is told once a second.
    bench.wait_ms(1_000);
    bench.deliver(publisher, &[alive(0)]);
    (bench, publisher, all)
}

fn all_told(bench: &mut Bench, all: &[ConnId], want: &[(bool, u64)]) {
    for conn in all {
        assert_eq!(told(&bench.read(*conn)), want, "{conn:?} at {:?}", bench.now.mono);
    }
}

#[test]
fn a_dead_feed_and_a_dead_core_are_told_at_once_and_so_is_their_return() {
    let (mut bench, publisher, all) = followed();
    bench.deliver(publisher, &[said(Flags::STALE)]);
    all_told(&mut bench, &all, &[(true, 4)]);
    bench.wait_ms(400);
    bench.deliver(publisher, &[alive(Flags::STALE)]);
    all_told(&mut bench, &all, &[]);
    bench.wait_ms(600);
    bench.deliver(publisher, &[said(0)]);
    all_told(&mut bench, &all, &[(false, 4)]);

    bench.wait_ms(1_000);
    bench.broker.handle_close(bench.now, publisher, CloseReason::Reset);
    bench.wait_ms(0);
    all_told(&mut bench, &all, &[(true, 4)]);
    // Core is back. Until it has said that it is current, it may not be.
    bench.wait_ms(1_000);
    let publisher = bench.open();
    let session = Session { role: Role::Publisher as u8, source: MARKET, ..Session::default() };
    let session = Session { epoch: U32::new(1), epoch_start: U64::new(1), ..session };
    bench.deliver(publisher, &[Frame::seal(session), quote(4, 1)]);
    bench.wait_ms(100);
    for conn in &all {
        assert!(told(&bench.read(*conn)).is_empty());
    }
    bench.deliver(publisher, &[said(0)]);
    for conn in &all[..2] {
        assert_eq!(told(&bench.read(*conn)), [(false, 5)]);
    }
}

#[test]
fn who_waits_for_a_publisher_is_told_so_at_once_and_how_the_feed_is_when_it_begins() {
    for flags in [0, Flags::STALE] {
        let mut bench = Bench::new(64);
        let modes =
            [(Mode::Lossless, 0), (Mode::Latest, 0), (Mode::Conflate, 0), (Mode::Lossless, 1)];
        let all = modes.map(|(mode, from_seq)| bench.subscribe("*", mode, from_seq));
        // It stands nowhere yet, and is told it once.
        all_told(&mut bench, &all, &[(true, 0)]);
        bench.wait_ms(5_000);
        all_told(&mut bench, &all, &[]);
        let publisher = bench.open();
        bench.begin(publisher, 1, 1);
        bench.deliver(publisher, &[alive(flags)]);
        bench.wait_ms(1_000);
        for conn in &all {
            let frames = bench.read(*conn);
            let end = frames.iter().position(|frame| frame.kind == Kind::SnapshotEnd as u8);
            let (ahead, behind) = frames.split_at(end.expect("a snapshot"));
            assert!(told(ahead).is_empty());
            assert_eq!(told(behind).first(), Some(&(flags != 0, 1)), "{conn:?}");
        }
    }
}

#[test]
fn a_core_that_is_silent_is_missed_within_a_second() {
    let (mut bench, publisher, all) = followed();
    bench.read(publisher);
    bench.wait_ms(499);
    assert!(bench.read(publisher).is_empty());
    bench.wait_ms(1);
    let asked = bench.read(publisher);
    assert!(asked.len() == 1 && asked[0].has(Flags::MORE), "{asked:?}");
    bench.wait_ms(499);
    all_told(&mut bench, &all, &[]);
    bench.wait_ms(1);
    all_told(&mut bench, &all, &[(true, 4)]);
    bench.wait_ms(20_000);
    all_told(&mut bench, &all, &[]);
    // Anything that comes shows that it lives.
    bench.deliver(publisher, &[alive(0)]);
    all_told(&mut bench, &all, &[(false, 4)]);
    for _ in 0..10 {
        bench.wait_ms(500);
        let asked = bench.read(publisher);
        let probes = asked.iter().filter_map(Frame::view::<Heartbeat>);
        assert_eq!(probes.filter(|beat| beat.token.get() == 1).count(), 1, "{asked:?}");
        bench.deliver(publisher, &[alive(0)]);
        all_told(&mut bench, &all, &[]);
    }
}

#[test]
fn a_publisher_that_answers_nobody_is_not_judged() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    for _ in 0..20 {
        bench.wait_ms(1_000);
        assert!(told(&bench.read(conn)).is_empty());
    }
    bench.deliver(publisher, &[quote(3, 0)]);
    assert_eq!(data_seqs(&bench.read(conn)), [3]);
}

#[test]
fn who_comes_to_a_stale_feed_is_told_behind_the_snapshot() {
    let (mut bench, publisher, _) = followed();
    bench.broker.handle_close(bench.now, publisher, CloseReason::Reset);
    bench.wait_ms(0);
    for from_seq in [0, 2] {
        let late = bench.subscribe("*", Mode::Lossless, from_seq);
        let frames = bench.read(late);
        let end = frames.iter().position(|frame| frame.view::<SnapshotEnd>().is_some()).unwrap();
        let live_from = if from_seq == 0 { 4 } else { from_seq };
        assert_eq!(told(&frames), [(true, live_from)], "{frames:?}");
        assert!(frames[end + 1].view::<Heartbeat>().is_some(), "at once");
    }
}

#[test]
fn the_end_of_the_feed_is_told_to_who_is_there_and_to_who_comes() {
    let (mut bench, publisher, all) = followed();
    bench.deliver(publisher, &[said(Flags::ENDED)]);
    let late = bench.subscribe("*", Mode::Lossless, 0);
    for conn in all.iter().chain([&late]) {
        let frames = bench.read(*conn);
        let ends = frames.iter().filter_map(Frame::view::<Heartbeat>);
        let ends: Vec<u16> = ends.map(|beat| beat.flags.get()).collect();
        assert_eq!(ends, [Flags::ENDED], "{frames:?}");
    }
    // It goes on after all: nobody is sent anything before knowing that.
    bench.wait_ms(10);
    bench.deliver(publisher, &[said(0)]);
    bench.deliver(publisher, &[quote(4, 1)]);
    for conn in &all {
        let frames = bench.read(*conn);
        assert_eq!(told(&frames[..1]), [(false, 4)], "{frames:?}");
    }
}

/// All of the feed has been sent, it says: who still lacks frames is told behind them.
#[test]
fn the_end_of_the_feed_comes_behind_its_last_frame() {
    let (mut bench, publisher, all) = followed();
    bench.deliver(publisher, &[quote(4, 1), quote(5, 0), said(Flags::ENDED)]);
    bench.wait_ms(1_000);
    for conn in &all {
        let frames = bench.read(*conn);
        let is_end = |frame: &Frame| {
            frame.view::<Heartbeat>().is_some_and(|beat| beat.flags.get() == Flags::ENDED)
        };
        let ends: Vec<usize> = (0..frames.len()).filter(|at| is_end(&frames[*at])).collect();
        assert_eq!(ends, [frames.len() - 1], "{frames:?}");
        assert!(!data_seqs(&frames).is_empty());
    }
}

#[test]
fn a_feed_that_flaps_floods_nobody_and_its_last_state_arrives() {
    for flaps in [100, 101] {
        let (mut bench, publisher, all) = followed();
        let begun = bench.now.mono;
        let mut news: Vec<Vec<bool>> = vec![Vec::new(); all.len()];
        let mut listen = |bench: &mut Bench| {
            for (conn, news) in all.iter().zip(&mut news) {
                news.extend(told(&bench.read(*conn)).iter().map(|(stale, _)| *stale));
            }
        };
        for flap in 0..flaps {
            bench.deliver(publisher, &[said(if flap % 2 == 0 { Flags::STALE } else { 0 })]);
            listen(&mut bench);
            bench.wait_ms(50);
        }
        bench.deliver(publisher, &[alive(if flaps % 2 == 0 { 0 } else { Flags::STALE })]);
        bench.wait_ms(1_000);
        listen(&mut bench);
        let seconds = usize::try_from(bench.now.mono.since(begun).as_secs()).unwrap();
        for news in news {
            assert!(news.len() <= seconds + 1, "{} times in {seconds} s", news.len());
            assert_eq!(news.last(), Some(&(flaps % 2 == 1)), "{news:?}");
            assert!(news.is_sorted_by(|a, b| a != b), "only changes: {news:?}");
        }
    }
}

#[test]
fn who_does_not_read_has_no_more_waiting_for_it() {
    let (mut bench, publisher, all) = followed();
    for flap in 0..20 {
        bench.deliver(publisher, &[said(if flap % 2 == 0 { Flags::STALE } else { 0 })]);
        bench.wait_ms(1_000);
        bench.deliver(publisher, &[alive(if flap % 2 == 0 { Flags::STALE } else { 0 })]);
    }
    all_told(&mut bench, &all, &[]);
    bench.deliver(publisher, &[said(Flags::STALE)]);
    all_told(&mut bench, &all, &[(true, 4)]);
}

#[test]
fn subscribers_of_further_reactors_are_told_too() {
    let config = BrokerConfig::new(64, 100);
    let (mut broker, mut fanouts) = Broker::with_fanouts(config, 1);
    let mut now = Now { mono: Mono(1_000_000_000), wall_ns: 7 };
    let [publisher, reader] = [1, 2].map(|number| ConnId { generation: number, slot: number });
    let hello = Session {
        role: Role::Publisher as u8,
        source: MARKET,
        epoch: U32::new(1),
        epoch_start: U64::new(1),
        ..Session::default()
    };
    let starts = Heartbeat { next_seq: U64::new(1), ..Heartbeat::default() };
    let fanout = &mut fanouts[0];
    broker.handle_open(now, publisher, Origin::LOCAL);
    broker.handle_frames(now, publisher, &[Frame::seal(hello), Frame::seal(starts), alive(0)]);
    fanout.handle_open(now, reader, Origin::HandedOver(std::net::Ipv4Addr::LOCALHOST.into()));
    let session = Session { role: Role::Subscriber as u8, ..Session::default() };
    let subscribe = Subscribe { source: MARKET, pattern: padded("*"), ..Subscribe::default() };
    let turn = |broker: &mut Broker, fanout: &mut Fanout, now: Now, frames: &[Frame]| {
        broker.handle_timers(now);
        broker.commit(now);
        broker.proceed(now);
        fanout.handle_mail(now);
        fanout.handle_frames(now, reader, frames);
        fanout.handle_timers(now);
        fanout.commit(now);
        fanout.proceed(now);
        let mut bytes = Vec::new();
        while fanout.poll_dirty().is_some() {}
        loop {
            let outgoing = fanout.outgoing(now, reader).head.to_vec();
            if outgoing.is_empty() {
                return frames_of(&bytes);
            }
            fanout.handle_sent(now, reader, outgoing.len());
            bytes.extend(outgoing);
        }
    };
    turn(&mut broker, fanout, now, &[]);
    broker.handle_frames(now, publisher, &[alive(0)]);
    let hello = [Frame::seal(session), Frame::seal(subscribe)];
    assert!(told(&turn(&mut broker, fanout, now, &hello)).is_empty());
    for (ms, want) in [(499, None), (1, None), (500, Some(true)), (5_000, None)] {
        now.mono = now.mono + std::time::Duration::from_millis(ms);
        let news = told(&turn(&mut broker, fanout, now, &[]));
        assert_eq!(news.first().map(|(stale, _)| *stale), want, "{ms}");
    }
    broker.handle_frames(now, publisher, &[alive(0)]);
    assert_eq!(told(&turn(&mut broker, fanout, now, &[])), [(false, 1)]);
}
