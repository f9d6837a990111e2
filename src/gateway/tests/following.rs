//! Between the follower and the broker within: nothing is lost or doubled there.

use super::*;
use crate::wire::{Gap, GapReason};

#[test]
fn what_the_broker_sends_a_browser_has() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    bench.give_frames(broker, &[trade(10, 0), trade(11, 1)]);
    let frames = frames_of(&messages(&bench.take(browser)));
    assert!(frames.iter().any(|frame| frame.view::<SnapshotEnd>().is_some()));
    assert_eq!(seqs(&frames), [10, 11]);
}

#[test]
fn how_a_frame_came_here_is_not_how_it_goes_on() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let stale = trade(5, 0).delivered(Flags::SNAPSHOT | Flags::STALE);
    bench.give_frames(broker, &[stale, trade(10, 0).delivered(Flags::REPLAY)]);
    let current = Heartbeat { next_seq: U64::new(11), ..Heartbeat::default() };
    bench.give_frames(broker, &[Frame::seal(current)]);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1,"from":10}"#);
    bench.command(browser, r#"{"subscribe":2}"#);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    let live = frames.iter().find(|f| f.seq.get() == 10 && !f.has(Flags::SNAPSHOT)).unwrap();
    assert_eq!(live.flags.get() & Flags::DELIVERY, 0, "{live:?}");
}

#[test]
fn a_void_that_leaves_nothing_is_no_end() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    bench.give_frames(broker, &[trade(10, 0), trade(11, 0)]);
    // All that the gateway has in its ring is void, and more.
    let void = Gap::uncounted(GapReason::Void, Seq::or_first(8), Seq::or_first(11));
    bench.give_frames(broker, &[Frame::seal(void), subscribed(8, 2, 8, 8)]);
    bench.give_frames(broker, &[trade(8, 0), trade(9, 0)]);
    bench.turns(2);
    let frames = frames_of(&messages(&bench.take(browser)));
    assert_eq!(seqs(&frames), [10, 11, 8, 9]);
    let is_void =
        |f: &Frame| f.view::<Gap>().is_some_and(|gap| gap.reason == GapReason::Void as u8);
    assert!(frames.iter().any(is_void), "it was told");
    assert_eq!(bench.gateway.failure(), None);
}

#[test]
fn who_comes_before_there_is_a_market_is_told_at_once_and_again_when_it_begins() {
    for flags in [0, Flags::STALE] {
        let mut bench = Bench::new(64, 8);
        let frames = bench.browser("pregao.frames.v1");
        bench.command(frames, r#"{"subscribe":1}"#);
        let lines = bench.browser("pregao.json.v1");
        bench.command(lines, r#"{"subscribe":1,"mode":"lossless"}"#);
        let events = bench.accept();
        bench.give(events, get("/v1/events?mode=lossless").as_bytes());
        bench.turns(3);
        let got = frames_of(&messages(&bench.take(frames)));
        assert!(got.len() == 1 && got[0].has(Flags::STALE), "{got:?}");
        let got = lines_of(&messages(&bench.take(lines)));
        assert!(got.len() == 1 && got[0].contains(r#""kind":"stale""#), "{got:?}");
        assert!(bench.text(events).contains("event: stale\n"));
        let broker = bench.live(10);
        let beat = Heartbeat { flags: U16::new(flags), ..Heartbeat::default() };
        bench.give_frames(broker, &[Frame::seal(beat)]);
        // A change is told once a second.
        bench.pass(limits::STALE_TOLD_EVERY);
        bench.turns(3);
        let got = messages(&bench.take(frames));
        assert!(lines_of(&got)[0].contains(r#""kind":"subscribed""#), "{got:?}");
        let beats = frames_of(&got);
        let last = beats.iter().rfind(|frame| frame.kind == Kind::Heartbeat as u8).unwrap();
        assert_eq!(last.has(Flags::STALE), flags != 0);
        let got = lines_of(&messages(&bench.take(lines)));
        let kind = |line: &String| line.split('"').nth(3).unwrap_or_default().to_owned();
        let kinds: Vec<String> = got.iter().map(kind).collect();
        let end = kinds.iter().position(|kind| kind == "snapshot_end").expect("a snapshot");
        assert_eq!(kinds[0], "subscribed");
        let says = if flags == 0 { "current" } else { "stale" };
        assert_eq!(kinds[end + 1..].last().map(String::as_str), Some(says), "{got:?}");
        assert!(bench.text(events).contains(&format!("event: {says}\n")));
    }
}

/// A market of more instruments than interests decide about in one turn, without an identity.
fn many() -> Vec<Frame> {
    (0..200).map(|index| definition(index, &format!("SYM{index}"))).collect()
}

#[test]
fn a_second_epoch_without_identity_lets_newcomers_in_before_its_first_frame() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.connect_broker();
    // Names have to be looked at for somebody.
    let watching = bench.browser("pregao.frames.v1");
    bench.command(watching, r#"{"subscribe":1,"symbols":["SYM*"]}"#);
    bench.turns(2);
    let end = SnapshotEnd { next_seq: U64::new(1), ..SnapshotEnd::default() };
    bench.give_frames(broker, &[Frame::seal(Session::default()), subscribed(0, 1, 1, 1)]);
    bench.give_frames(broker, &[many(), vec![Frame::seal(end)]].concat());
    bench.turns(10);
    bench.give_frames(broker, &trades(1, 20));
    // The next run of the publisher: all is void, and nothing has come but names.
    let void = Gap::uncounted(GapReason::Void, Seq::FIRST, Seq::or_first(19));
    bench.give_frames(broker, &[Frame::seal(void), subscribed(0, 9, 1, 1)]);
    bench.give_frames(broker, &many());
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(20);
    let frames = frames_of(&messages(&bench.take(browser)));
    let ends: Vec<u64> =
        frames.iter().filter_map(|f| Some(f.view::<SnapshotEnd>()?.next_seq.get())).collect();
    assert_eq!(ends, [1], "it waits for a frame that need not come");
    bench.give_frames(broker, &trades(1, 5));
    assert_eq!(seqs(&frames_of(&messages(&bench.take(browser)))), [1, 2, 3, 4]);
}

#[test]
fn what_waits_for_names_is_taken_in_ahead_of_an_epoch() {
    let mut bench = Bench::new(1 << 10, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    let named = (10..110_u32).map(|index| {
        let mut named = Definition::new(instrument(index), format!("N{index}").parse().unwrap(), 2);
        named.seq = U64::new(u64::from(index));
        Frame::seal(named)
    });
    let mut frames: Vec<Frame> = named.collect();
    frames.extend(trades(110, 120));
    let void = Gap::uncounted(GapReason::Void, Seq::or_first(115), Seq::or_first(119));
    frames.extend([Frame::seal(void), subscribed(8, 2, 115, 115), trade(115, 1)]);
    bench.give_frames(broker, &frames);
    bench.turns(20);
    let frames = frames_of(&messages(&bench.take(browser)));
    let is_loss =
        |f: &&Frame| f.view::<Gap>().is_some_and(|gap| gap.reason != GapReason::Void as u8);
    let lost: Vec<&Frame> = frames.iter().filter(is_loss).collect();
    assert!(lost.is_empty(), "the gateway had it: {lost:?}");
    assert_eq!(seqs(&frames).last(), Some(&115));
}

#[test]
fn last_values_that_stood_in_a_loss_are_fetched_before_a_newcomer_is_shown_any() {
    const REFRESH: DialId = super::super::refresh::DIAL;
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let latest = bench.browser("pregao.frames.v1");
    bench.command(latest, r#"{"subscribe":1,"mode":"latest"}"#);
    bench.turns(3);
    bench.give_frames(broker, &[trade(10, 0), trade(11, 1)]);
    // The last trade of VALE3 is lost for good.
    let lost = Gap::uncounted(GapReason::SourceLost, Seq::or_first(12), Seq::or_first(19));
    bench.give_frames(broker, &[Frame::seal(lost), trade(20, 0)]);
    bench.turns(3);
    bench.take(latest);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    assert!(frames.len() == 1 && frames[0].has(Flags::STALE), "it waits: {frames:?}");
    let place = bench.dials.iter().position(|dial| *dial == REFRESH).expect("a dial");
    bench.dials.remove(place);
    let conn = bench.open(Origin::Dialed(REFRESH));
    bench.turn();
    assert!(!bench.take(conn).is_empty(), "it subscribes");
    // The broker is ahead of the feed: what the feed brings itself is left out.
    let values = [trade(25, 0), trade(15, 1)].map(|it| it.delivered(Flags::SNAPSHOT));
    let end = SnapshotEnd { next_seq: U64::new(30), ..SnapshotEnd::default() };
    let head = [Frame::seal(Session::default()), subscribed(7, 1, 1, 30)];
    let names = [definition(0, "PETR4"), definition(1, "VALE3")];
    bench.give_frames(conn, &[&head[..], &names, &values, &[Frame::seal(end)]].concat());
    bench.turns(3);
    assert!(bench.is_closed(conn), "it has served");
    let of_snapshot = |frames: &[Frame]| -> Vec<u64> {
        let is_it = |f: &&Frame| f.kind == Kind::Trade as u8 && f.has(Flags::SNAPSHOT);
        frames.iter().filter(is_it).map(|f| f.seq.get()).collect()
    };
    let frames = frames_of(&messages(&bench.take(browser)));
    assert_eq!(of_snapshot(&frames), [20, 15]);
    let frames = frames_of(&messages(&bench.take(latest)));
    assert!(of_snapshot(&frames).contains(&15), "it passed over the loss with an older value");
    bench.give_frames(broker, &trades(21, 24));
    assert_eq!(seqs(&frames_of(&messages(&bench.take(browser)))), [21, 22, 23]);
}

/// A gateway that has lived through two epochs, 7 and from 12 on 8; its broker.
fn two_epochs(bench: &mut Bench) -> ConnId {
    let broker = bench.live(10);
    bench.give_frames(broker, &trades(10, 16));
    let void = Gap::uncounted(GapReason::Void, Seq::or_first(12), Seq::or_first(15));
    bench.give_frames(broker, &[Frame::seal(void), subscribed(8, 2, 12, 12)]);
    bench.give_frames(broker, &trades(12, 20));
    broker
}

#[test]
fn who_resumes_under_its_epoch_is_told_what_of_that_is_void() {
    let mut bench = Bench::new(64, 8);
    two_epochs(&mut bench);
    let voids = |frames: &[Frame]| -> Vec<(u64, u64)> {
        let gaps = frames.iter().filter_map(Frame::view::<Gap>);
        gaps.map(|gap| (gap.from_seq.get(), gap.to_seq.get())).collect()
    };
    for (from, void, next) in
        [("7:16", vec![(12, 15)], 12), ("7:12", vec![], 12), ("8:16", vec![], 16)]
    {
        let browser = bench.browser("pregao.frames.v1");
        bench.command(browser, &format!(r#"{{"subscribe":1,"from":"{from}"}}"#));
        bench.turns(3);
        let got = messages(&bench.take(browser));
        let frames = frames_of(&got);
        let has_void = !void.is_empty();
        assert_eq!((voids(&frames), seqs(&frames)), (void, (next..20).collect()), "{from}");
        // Who loses the connection before it is told what is void must not know of the other epoch.
        let line = got.iter().position(|it| it.0 == 1).expect("a line");
        assert_eq!(!voids(&frames_of(&got[..line])).is_empty(), has_void, "{from}");
    }
    let lines = bench.browser("pregao.json.v1");
    bench.command(lines, r#"{"subscribe":1,"mode":"lossless","from":"7:16"}"#);
    let events = bench.accept();
    let last =
        get("/v1/events").replace("\r\n\r\n", "\r\nLast-Event-ID: 0000000000000007:15\r\n\r\n");
    bench.give(events, last.as_bytes());
    bench.turns(3);
    let got = lines_of(&messages(&bench.take(lines)));
    assert!(got[0].contains(r#""kind":"gap""#) && got[0].contains("void"), "{got:?}");
    assert!(got[1].contains(r#""epoch_id":"0000000000000008""#), "{got:?}");
    let got = bench.text(events);
    assert!(got.contains("event: gap\n") && got.contains("\nid: 0000000000000008:12\n"), "{got}");
}

#[test]
fn an_epoch_that_began_and_ended_while_the_gateway_was_away_ended_the_one_before() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    bench.give_frames(broker, &trades(10, 16));
    // Epoch 2 began at 12 and epoch 3 at 14.
    let void = Gap::uncounted(GapReason::Void, Seq::or_first(12), Seq::or_first(15));
    bench.give_frames(broker, &[Frame::seal(void), subscribed(9, 3, 14, 12)]);
    bench.give_frames(broker, &trades(12, 20));
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1,"from":"7:14"}"#);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    let gap = frames.iter().find_map(Frame::view::<Gap>).expect("it is told what is void");
    assert_eq!((gap.from_seq.get(), gap.to_seq.get()), (12, 13));
    assert_eq!(seqs(&frames), (12..20).collect::<Vec<_>>());
}

#[test]
fn a_place_of_another_sequence_is_refused_and_its_id_is_free_again() {
    let mut bench = Bench::new(64, 8);
    two_epochs(&mut bench);
    for protocol in ["pregao.frames.v1", "pregao.json.v1"] {
        let browser = bench.browser(protocol);
        bench.command(browser, r#"{"subscribe":1,"mode":"lossless","from":"99:16"}"#);
        bench.turn();
        let got = messages(&bench.take(browser));
        let lines = lines_of(&got);
        assert!(frames_of(&got).is_empty() && lines.len() == 1, "{lines:?}");
        assert!(lines[0].contains(r#""code":"unexpected""#), "{lines:?}");
        bench.command(browser, r#"{"subscribe":1,"mode":"lossless"}"#);
        bench.turns(3);
        let got = lines_of(&messages(&bench.take(browser)));
        assert!(got[0].contains(r#""kind":"subscribed""#), "{got:?}");
        assert!(!got.iter().any(|line| line.contains("error")), "{got:?}");
    }
    let events = bench.accept();
    let last = get("/v1/events").replace("\r\n\r\n", "\r\nLast-Event-ID: 99:15\r\n\r\n");
    bench.give(events, last.as_bytes());
    bench.turns(3);
    let got = bench.text(events);
    assert_eq!(got.matches("event: error").count(), 1, "{got}");
    assert!(got.contains("\nid\n\n"), "it must not come back with this id: {got}");
    assert!(bench.is_closed(events));
}

#[test]
fn what_stands_behind_the_end_of_a_connection_is_not_followed() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.connect_broker();
    let end = SnapshotEnd { next_seq: U64::new(10), ..SnapshotEnd::default() };
    // A broker that knows epochs by their number only.
    bench.give_frames(
        broker,
        &[Frame::seal(Session::default()), subscribed(0, 1, 1, 10), Frame::seal(end)],
    );
    bench.give_frames(broker, &[trade(10, 0), trade(11, 0)]);
    // The follower takes itself back and subscribes again. What comes behind is of a place that it has left.
    bench.give_frames(broker, &[subscribed(0, 2, 5, 20), trade(20, 0), trade(21, 0)]);
    bench.turns(2);
    assert!(bench.is_closed(broker), "it leaves this connection");
    assert!(!bench.dials.contains(&CORE), "it asks core for a hole that there is not");
}

#[test]
fn words_for_the_broker_are_sent_behind_a_flush_that_was_cut_short() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    bench.now.mono = bench.now.mono + limits::HEARTBEAT_EVERY;
    bench.gateway.handle_timers(bench.now);
    assert_eq!(bench.gateway.poll_dirty(), Some(broker));
    // The bound of the flush ends it here: nobody asks who else is dirty.
    bench.flush(broker);
    let before = bench.take(broker).len();
    assert!(before > 0);
    bench.now.mono = bench.now.mono + limits::HEARTBEAT_EVERY;
    bench.gateway.handle_timers(bench.now);
    assert_eq!(bench.gateway.poll_dirty(), Some(broker), "its heartbeat is never sent");
}

#[test]
fn a_follower_that_begins_anew_continues_no_other_sequence() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let refusal = crate::wire::Refusal::new(crate::wire::ErrorCode::BadPattern, 0, "no");
    bench.give_frames(broker, &[Frame::seal(refusal)]);
    assert!(bench.is_closed(broker));
    bench.pass(limits::GATEWAY_REFUSED_WAIT);
    bench.pass(limits::GATEWAY_REFUSED_WAIT);
    let broker = bench.connect_broker();
    bench.give_frames(broker, &[Frame::seal(Session::default()), subscribed(99, 1, 1, 3)]);
    assert!(bench.gateway.failure().is_some(), "browsers have frames of another sequence");
}

#[test]
fn a_subscription_that_was_refused_is_closed_once() {
    let mut bench = Bench::new(64, 1);
    bench.live(10);
    let first = bench.browser("pregao.frames.v1");
    bench.command(first, r#"{"subscribe":1}"#);
    bench.turn();
    let second = bench.browser("pregao.frames.v1");
    // Refused, and gone in the same turn.
    bench.command(second, r#"{"subscribe":1}"#);
    bench.close(second, CloseReason::PeerClosed);
    bench.turns(2);
    let mut slots = bench.gateway.feed.free_slots.clone();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), bench.gateway.feed.free_slots.len(), "one slot is free twice");
}

#[test]
fn the_refusal_of_one_who_left_meets_nobody_who_has_its_place_now() {
    let mut bench = Bench::new(64, 1);
    let broker = bench.live(10);
    let first = bench.browser("pregao.frames.v1");
    bench.command(first, r#"{"subscribe":1}"#);
    bench.turn();
    let second = bench.browser("pregao.frames.v1");
    bench.command(second, r#"{"subscribe":1}"#);
    bench.close(first, CloseReason::PeerClosed);
    bench.close(second, CloseReason::PeerClosed);
    let events = bench.accept();
    bench.give(events, get("/v1/events?mode=lossless").as_bytes());
    bench.turns(3);
    bench.give_frames(broker, &[trade(10, 0)]);
    assert!(!bench.is_closed(events));
    let got = bench.text(events);
    assert!(got.contains("event: trade"), "{got}");
}

#[test]
fn one_stale_exchange_is_called_by_the_venue_of_what_it_sends() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.json.v1");
    bench.command(browser, r#"{"subscribe":1,"mode":"lossless"}"#);
    bench.turns(3);
    let number = crate::wire::ExchangeNumber::new(2).unwrap();
    let mut of_second = trade(10, 2);
    of_second.flags = (of_second.flags.get() | number.flags()).into();
    of_second.renew_crc();
    bench.give_frames(broker, &[definition(2, "xnas:AMZN").delivered(Flags::SNAPSHOT), of_second]);
    let mut states = crate::wire::FeedStates::default();
    states.stale.insert(number);
    let beat = Heartbeat { next_seq: U64::new(11), ..Heartbeat::default() };
    bench.give_frames(broker, &[Frame::seal(states.said_by(beat))]);
    (0..3).for_each(|_| bench.pass(limits::HEARTBEAT_EVERY));
    let lines = lines_of(&messages(&bench.take(browser)));
    let stale = lines.iter().find(|line| line.contains(r#""kind":"stale""#));
    assert!(stale.is_some_and(|line| line.contains(r#""exchange":"xnas""#)), "{lines:#?}");
}

#[test]
fn a_snapshot_that_goes_on_in_another_epoch_is_whole() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.connect_broker();
    let value = |seq, index| trade(seq, index).delivered(Flags::SNAPSHOT);
    bench.give_frames(broker, &[Frame::seal(Session::default()), subscribed(7, 1, 1, 10)]);
    bench.give_frames(broker, &[definition(0, "PETR4"), value(4, 0)]);
    bench.give_frames(broker, &[definition(1, "VALE3"), value(9, 1)]);
    // From 8 on what epoch 1 had is void.
    let end = SnapshotEnd { next_seq: U64::new(8), ..SnapshotEnd::default() };
    bench.give_frames(broker, &[subscribed(8, 2, 8, 8), definition(2, "ITUB4"), Frame::seal(end)]);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    let named = frames.iter().filter(|f| f.kind == Kind::Definition as u8).count();
    let values = frames.iter().filter(|f| f.kind == Kind::Trade as u8);
    let values: Vec<u64> = values.map(|f| f.seq.get()).collect();
    assert_eq!((named, values), (3, vec![4]));
}

/// Core, that it dialed, and what it is asked to replay.
fn connect_core(bench: &mut Bench, session: Session) -> (ConnId, U32) {
    let place = bench.dials.iter().position(|dial| *dial == CORE).expect("a dial");
    bench.dials.remove(place);
    let core = bench.open(Origin::Dialed(CORE));
    bench.turn();
    bench.give_frames(core, &[Frame::seal(session)]);
    let id = bench.query(core).expect("a replay");
    (core, id)
}

#[test]
fn what_is_read_from_core_is_of_its_epoch_where_the_broker_has_none() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.connect_broker();
    let end = SnapshotEnd { next_seq: U64::new(10), ..SnapshotEnd::default() };
    let head = [Frame::seal(Session::default()), subscribed(0, 1, 1, 10)];
    bench.give_frames(broker, &[&head[..], &[definition(0, "PETR4"), Frame::seal(end)]].concat());
    let lost = Gap::uncounted(GapReason::Lapped, Seq::or_first(10), Seq::or_first(19));
    bench.give_frames(broker, &[Frame::seal(lost)]);
    let (epoch, epoch_start) = (U32::new(1), U64::new(1));
    let session = Session { feed: U64::new(8), epoch, epoch_start, ..Session::default() };
    let (core, id) = connect_core(&mut bench, session);
    let (covered_from, as_of) = (U64::new(1), U64::new(20));
    let ended = Ended { id, covered_from, as_of, ..Ended::default() };
    bench.give_frames(core, &[trades(10, 20), vec![Frame::seal(ended)]].concat());
    // The broker learns of core's epoch later.
    bench.close(broker, CloseReason::PeerClosed);
    bench.pass(Duration::from_secs(5));
    let broker = bench.connect_broker();
    bench.give_frames(broker, &[Frame::seal(Session::default()), subscribed(8, 1, 1, 20)]);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1,"from":10}"#);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    assert_eq!(seqs(&frames), (10..20).collect::<Vec<_>>(), "{frames:?}");
}

#[test]
fn a_name_that_core_says_ahead_of_a_replay_reaches_browsers_before_its_frames() {
    let mut bench = Bench::new(64, 8);
    let broker = bench.live(10);
    let browser = bench.browser("pregao.frames.v1");
    bench.command(browser, r#"{"subscribe":1}"#);
    bench.turns(3);
    bench.take(browser);
    let lost = Gap::uncounted(GapReason::Lapped, Seq::or_first(10), Seq::or_first(19));
    bench.give_frames(broker, &[Frame::seal(lost)]);
    let (feed, epoch, epoch_start) = (U64::new(7), U32::new(1), U64::new(1));
    let session = Session { feed, epoch, epoch_start, ..Session::default() };
    let (core, id) = connect_core(&mut bench, session);
    // The journal has removed the definition, at 12, and knows the name.
    let named = definition(2, "ITUB4").delivered(Flags::SNAPSHOT | Flags::REPLAY);
    let (covered_from, as_of) = (U64::new(15), U64::new(20));
    let ended = Ended { id, covered_from, as_of, ..Ended::default() };
    bench.give_frames(core, &[named, trade(15, 2), Frame::seal(ended)]);
    bench.turns(3);
    let frames = frames_of(&messages(&bench.take(browser)));
    let of_it = |f: &&Frame| f.instrument() == instrument(2);
    let first = frames.iter().find(of_it).expect("its frames");
    assert_eq!(first.kind, Kind::Definition as u8);
    assert_eq!(seqs(&frames), [15]);
}
