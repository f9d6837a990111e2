//! Places before the ring: what core's journal has of them, and the seam where the ring follows.

use super::*;
use crate::wire::{Gap, GapReason, Op};

mod turns;

/// The dial of core, the second of the nodes.
const JOURNAL: DialId = DialId(4);

/// A gateway with a short ring that has followed the market from 10 to there, and core's epoch. Its broker, and core.
fn bench(to: u64, epoch: Option<(u64, u32)>) -> (Bench, ConnId, Option<ConnId>) {
    let mut bench = Bench::with_nodes(&["aggregator", "core"], 16, 200);
    let broker = bench.live(10);
    bench.give_frames(broker, &market(10..to));
    let core = epoch.map(|epoch| connect_core(&mut bench, epoch));
    (bench, broker, core)
}

/// One instrument has the even places, the other one the odd ones.
fn market(seqs: std::ops::Range<u64>) -> Vec<Frame> {
    seqs.map(|seq| trade(seq, u32::from(seq % 2 == 1))).collect()
}

fn connect_core(bench: &mut Bench, (feed, epoch): (u64, u32)) -> ConnId {
    while !bench.dials.contains(&JOURNAL) {
        bench.pass(Duration::from_millis(100));
    }
    bench.dials.retain(|dial| *dial != JOURNAL);
    let conn = bench.open(Origin::Dialed(JOURNAL));
    bench.turn();
    let (feed, epoch) = (U64::new(feed), U32::new(epoch));
    // The greeting is taken away before anything can be asked.
    bench.take(conn);
    bench.give_frames(conn, &[Frame::seal(Session { feed, epoch, ..Session::default() })]);
    conn
}

/// The replay that core was asked for since the last look.
fn asked(bench: &mut Bench, core: ConnId) -> Option<Query> {
    let frames = frames_of(&[(2, bench.take(core))]);
    let replays = frames.iter().filter_map(Frame::view::<Query>).copied();
    let replays: Vec<Query> = replays.filter(|it| it.op == Op::Replay as u8).collect();
    assert!(replays.len() <= 1, "core answers one at a time");
    replays.first().copied()
}

/// What core answers that has these places.
fn replay(query: &Query, journal: std::ops::Range<u64>) -> Vec<Frame> {
    let id = query.id;
    let (from, to) = (query.from.get(), query.to.get().min(journal.end));
    let mut frames = vec![Frame::seal(Run { id, ..Run::default() })];
    if from < journal.start {
        let last = Seq::or_first(journal.start - 1);
        frames.push(Frame::seal(Gap::uncounted(GapReason::SourceLost, Seq::or_first(from), last)));
    }
    let delivery = Flags::SNAPSHOT | Flags::REPLAY;
    frames
        .extend([definition(0, "PETR4"), definition(1, "VALE3")].map(|it| it.delivered(delivery)));
    let market = market(from.max(journal.start)..to);
    frames.extend(market.iter().map(|it| it.delivered(Flags::REPLAY)));
    let (covered_from, as_of) = (U64::new(journal.start), U64::new(to));
    frames.push(Frame::seal(Ended { id, covered_from, as_of, ..Ended::default() }));
    frames
}

/// Core answers all that it is asked for.
fn serve(bench: &mut Bench, core: ConnId, journal: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    for _ in 0..100 {
        bench.turns(2);
        let Some(query) = asked(bench, core) else { break };
        spans.push((query.from.get(), query.to.get()));
        bench.give_frames(core, &replay(&query, journal.clone()));
    }
    bench.turns(3);
    spans
}

/// A browser that wants what is from there on.
fn browser_from(bench: &mut Bench, protocol: &str, wish: &str) -> ConnId {
    let browser = bench.browser(protocol);
    bench.command(browser, &format!(r#"{{"subscribe":1,"mode":"lossless",{wish}}}"#));
    browser
}

fn frames_from(bench: &mut Bench, from: u64) -> ConnId {
    browser_from(bench, "pregao.frames.v1", &format!(r#""from":"7:{from}""#))
}

fn taken(bench: &mut Bench, browser: ConnId) -> Vec<Frame> {
    frames_of(&messages(&bench.take(browser)))
}

fn gaps(frames: &[Frame]) -> Vec<(u8, u64, u64)> {
    let gaps = frames.iter().filter_map(Frame::view::<Gap>);
    gaps.map(|gap| (gap.reason, gap.from_seq.get(), gap.to_seq.get())).collect()
}

fn ends(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter_map(|it| Some(it.view::<SnapshotEnd>()?.next_seq.get())).collect()
}

fn oldest(bench: &Bench) -> u64 {
    Seq::number(bench.gateway.feed.broker().oldest_seq(1))
}

#[test]
fn at_the_edge_of_the_ring_nothing_is_lost_or_doubled() {
    let (mut bench, broker, core) = bench(100, Some((7, 1)));
    let (core, oldest) = (core.unwrap(), oldest(&bench));
    assert!((80..100).contains(&oldest), "{oldest}");
    for from in [10, oldest - 1, oldest, oldest + 1, 99, 100] {
        let browser = frames_from(&mut bench, from);
        let spans = serve(&mut bench, core, 1..100);
        let wanted = if from < oldest { vec![(from, oldest)] } else { vec![] };
        assert_eq!(spans, wanted, "{from}");
        let frames = taken(&mut bench, browser);
        assert_eq!(seqs(&frames), (from..100).collect::<Vec<_>>(), "{from}");
        assert_eq!((gaps(&frames), ends(&frames)), (vec![], vec![from]));
        let begins = frames.iter().position(|it| it.view::<SnapshotEnd>().is_some());
        let first = frames.iter().position(|it| it.kind == Kind::Trade as u8);
        assert!(first.is_none_or(|first| begins < Some(first)), "names come first");
        assert!(!bench.gateway.feed.past.has(browser) && bench.gateway.feed.past.len() == 0);
        bench.close(browser, CloseReason::PeerClosed);
    }
    let browser = frames_from(&mut bench, 20);
    serve(&mut bench, core, 1..100);
    taken(&mut bench, browser);
    bench.give_frames(broker, &market(100..105));
    assert_eq!(seqs(&taken(&mut bench, browser)), (100..105).collect::<Vec<_>>());
}

#[test]
fn lines_and_events_have_what_frames_have() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let lines = browser_from(&mut bench, "pregao.json.v1", r#""from":"7:12""#);
    let events = bench.accept();
    let last =
        get("/v1/events").replace("\r\n\r\n", "\r\nLast-Event-ID: 0000000000000007:11\r\n\r\n");
    bench.give(events, last.as_bytes());
    serve(&mut bench, core, 1..100);
    let seq_of = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once("\"seq\":")?;
        rest.split(',').next()?.parse().ok()
    };
    let is_trade = |line: &&str| line.contains(r#""kind":"trade""#);
    let got = lines_of(&messages(&bench.take(lines)));
    let got: Vec<&str> = got.iter().map(String::as_str).collect();
    assert!(!got.iter().any(|line| line.contains(r#""kind":"gap""#)), "{got:?}");
    let seqs: Vec<u64> = got.iter().filter(|it| is_trade(it)).filter_map(|it| seq_of(it)).collect();
    assert_eq!(seqs, (12..100).collect::<Vec<_>>());
    let got = bench.text(events);
    let seqs: Vec<u64> = got.lines().filter(is_trade).filter_map(seq_of).collect();
    assert_eq!(seqs, (12..100).collect::<Vec<_>>());
    assert!(!got.contains("event: gap"), "{got}");
    // Whoever leaves in the middle comes back to where it was.
    assert!(
        got.contains("\nid: 0000000000000007:11\n") && got.contains("\nid: 0000000000000007:50\n")
    );
}

#[test]
fn a_ring_that_moves_on_meanwhile_is_met_by_another_piece() {
    let (mut bench, broker, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let browser = frames_from(&mut bench, 10);
    let mut end = 100;
    for round in 0..4 {
        bench.turns(2);
        let query = asked(&mut bench, core).expect("a piece");
        bench.give_frames(broker, &market(end..end + 40));
        end += 40;
        // Also between the last piece and the answer of the ring.
        if round == 3 {
            bench.gateway.handle_frames(bench.now, core, &replay(&query, 1..end));
            bench.gateway.handle_timers(bench.now);
            bench.give_frames(broker, &market(end..end + 40));
            end += 40;
        } else {
            bench.give_frames(core, &replay(&query, 1..end));
        }
    }
    serve(&mut bench, core, 1..end);
    let frames = taken(&mut bench, browser);
    assert_eq!(seqs(&frames), (10..end).collect::<Vec<_>>());
    assert_eq!((gaps(&frames), ends(&frames)), (vec![], vec![10]));
}

/// The gap that is told where core cannot help, and that it goes on live behind it.
fn assert_told(bench: &mut Bench, broker: ConnId, browser: ConnId, from: u64) {
    let oldest = oldest(bench);
    bench.turns(3);
    let frames = taken(bench, browser);
    assert_eq!(gaps(&frames), [(GapReason::BeforeRing as u8, from, oldest - 1)]);
    assert_eq!(seqs(&frames), (oldest..100).collect::<Vec<_>>());
    bench.give_frames(broker, &market(100..103));
    assert_eq!(seqs(&taken(bench, browser)), [100, 101, 102]);
    assert_eq!(bench.gateway.feed.past.len(), 0);
}

#[test]
fn without_core_the_gap_is_told() {
    // Away, and under another epoch.
    for epoch in [None, Some((9, 5))] {
        let (mut bench, broker, _) = bench(100, epoch);
        let browser = frames_from(&mut bench, 20);
        bench.turns(3);
        assert_eq!(gaps(&taken(&mut bench, browser)), [], "core may come back");
        bench.pass(limits::GATEWAY_PIECE_WAIT);
        bench.take(browser);
        let browser = frames_from(&mut bench, 20);
        bench.turns(3);
        assert_told(&mut bench, broker, browser, 20);
    }
}

#[test]
fn who_waited_for_core_in_vain_is_told_the_gap() {
    let (mut bench, broker, _) = bench(100, None);
    let browser = frames_from(&mut bench, 20);
    bench.turns(3);
    assert_eq!(ends(&taken(&mut bench, browser)), [20]);
    bench.pass(limits::GATEWAY_PIECE_WAIT);
    assert_told(&mut bench, broker, browser, 20);
}

#[test]
fn a_late_answer_is_no_reason_to_wait_and_harms_nobody() {
    let (mut bench, broker, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let browser = frames_from(&mut bench, 20);
    bench.turns(3);
    let late = asked(&mut bench, core).expect("a piece");
    taken(&mut bench, browser);
    bench.pass(limits::GATEWAY_PIECE_WAIT);
    assert_told(&mut bench, broker, browser, 20);
    // Another one waits until core has ended what nobody waits for.
    let other = frames_from(&mut bench, 30);
    bench.turns(3);
    assert!(asked(&mut bench, core).is_none(), "core would refuse a second replay");
    bench.give_frames(core, &replay(&late, 1..103));
    assert!(seqs(&taken(&mut bench, browser)).is_empty());
    serve(&mut bench, core, 1..103);
    assert_eq!(seqs(&taken(&mut bench, other)), (30..103).collect::<Vec<_>>());
}

#[test]
fn of_a_journal_that_begins_later_what_is_missing_is_told_as_lost() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let browser = frames_from(&mut bench, 10);
    serve(&mut bench, core.unwrap(), 40..100);
    let frames = taken(&mut bench, browser);
    assert_eq!(gaps(&frames), [(GapReason::SourceLost as u8, 10, 39)]);
    assert_eq!(seqs(&frames), (40..100).collect::<Vec<_>>());
}

#[test]
fn of_a_journal_that_ends_early_the_rest_is_told_as_a_gap() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let browser = frames_from(&mut bench, 10);
    serve(&mut bench, core.unwrap(), 1..40);
    let frames = taken(&mut bench, browser);
    let oldest = oldest(&bench);
    assert_eq!(gaps(&frames), [(GapReason::BeforeRing as u8, 40, oldest - 1)]);
    let wanted: Vec<u64> = (10..40).chain(oldest..100).collect();
    assert_eq!(seqs(&frames), wanted);
}

#[test]
fn a_connection_that_breaks_is_asked_again() {
    let (mut bench, _, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let browser = frames_from(&mut bench, 10);
    bench.turns(3);
    let query = asked(&mut bench, core).expect("a piece");
    let answer = replay(&query, 1..100);
    bench.give_frames(core, &answer[..20]);
    bench.close(core, CloseReason::PeerClosed);
    bench.turn();
    let core = connect_core(&mut bench, (7, 1));
    serve(&mut bench, core, 1..100);
    let frames = taken(&mut bench, browser);
    assert_eq!((seqs(&frames), gaps(&frames)), ((10..100).collect(), vec![]));
}

#[test]
fn who_takes_nothing_of_a_piece_is_closed_and_who_takes_little_is_not() {
    let (mut bench, _, core) = bench(2_000, Some((7, 1)));
    let core = core.unwrap();
    let slow = frames_from(&mut bench, 10);
    let still = frames_from(&mut bench, 10);
    bench.room(slow, 0);
    bench.room(still, 0);
    serve(&mut bench, core, 1..2_000);
    bench.room(still, 700);
    bench.room(slow, 700);
    serve(&mut bench, core, 1..2_000);
    assert_eq!(bench.gateway.feed.past.holding(), 2);
    let mut all = bench.take(slow);
    for _ in 0..10 {
        bench.room(slow, 2_000);
        bench.pass(Duration::from_secs(9));
        if bench.gateway.counts.closed_slow > 0 {
            // It has 2 s to read why.
            bench.room(still, usize::MAX / 2);
        }
        // Both answer pings.
        for conn in [slow, still] {
            if !bench.is_closed(conn) {
                bench.give(conn, &[0x8A, 0x80, 0, 0, 0, 0]);
            }
        }
        all.extend(bench.take(slow));
    }
    let end = bench.take(still);
    assert!(end.windows(2).any(|two| two == 4_001_u16.to_be_bytes()), "4001");
    assert_eq!(bench.gateway.counts.closed_slow, 1);
    bench.room(slow, usize::MAX / 2);
    serve(&mut bench, core, 1..2_000);
    all.extend(bench.take(slow));
    let frames = frames_of(&messages(&all));
    assert_eq!((seqs(&frames), gaps(&frames)), ((10..2_000).collect(), vec![]));
}

#[test]
fn two_subscriptions_of_one_connection_both_come_from_before_the_ring() {
    for protocol in ["pregao.frames.v1", "pregao.json.v1"] {
        let (mut bench, broker, core) = bench(100, Some((7, 1)));
        let browser = bench.browser(protocol);
        let wish = r#""mode":"lossless","symbols":"#;
        bench.command(browser, &format!(r#"{{"subscribe":1,{wish}["PETR4"],"from":"7:20"}}"#));
        bench.command(browser, &format!(r#"{{"subscribe":2,{wish}["VALE3","X"],"from":"7:31"}}"#));
        serve(&mut bench, core.unwrap(), 1..100);
        bench.give_frames(broker, &market(100..104));
        bench.turns(2);
        let all = messages(&bench.take(browser));
        let mut current = "1".to_owned();
        let mut of: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for message in all {
            let one = std::slice::from_ref(&message);
            for line in lines_of(one) {
                assert!(!line.contains(r#""kind":"gap""#), "{line}");
                if let Some((_, id)) = line.split_once(r#"{"kind":"subscription","id":"#) {
                    current = id.trim_end_matches('}').to_owned();
                } else if line.contains(r#""kind":"trade""#) {
                    let (_, seq) = line.split_once("\"seq\":").unwrap();
                    let seq = seq.split(',').next().unwrap().parse().unwrap();
                    of.entry(current.clone()).or_default().push(seq);
                }
            }
            let frames = frames_of(one);
            assert_eq!(gaps(&frames), []);
            of.entry(current.clone()).or_default().extend(seqs(&frames));
        }
        let wanted = |from: u64| (from..104).step_by(2).collect::<Vec<_>>();
        assert_eq!((&of["1"], &of["2"]), (&wanted(20), &wanted(31)), "{protocol}");
    }
}

/// What a browser has in the end: what is void is taken back.
fn story(frames: &[Frame]) -> Vec<u64> {
    let mut has = Vec::new();
    for frame in frames {
        if let Some(gap) = frame.view::<Gap>() {
            assert_eq!(gap.reason, GapReason::Void as u8, "{gap:?}");
            has.retain(|seq| *seq < gap.from_seq.get());
        } else {
            has.extend(seqs(std::slice::from_ref(frame)));
        }
    }
    has
}

#[test]
fn an_epoch_that_ends_meanwhile_is_told_and_what_follows_is_of_the_next_one() {
    // The epoch ends behind what the browser has, in the middle of what it is being sent, and before the ring.
    for (start, room) in [(95, 0), (95, usize::MAX / 2), (40, 2_500), (15, 2_500)] {
        for has_answer in [false, true] {
            let (mut bench, broker, core) = bench(100, Some((7, 1)));
            let core = core.unwrap();
            let browser = frames_from(&mut bench, 10);
            bench.turns(3);
            let query = asked(&mut bench, core).expect("a piece");
            let mut all = bench.take(browser);
            bench.room(browser, room);
            if has_answer {
                bench.give_frames(core, &replay(&query, 1..100));
            }
            let void = Gap::uncounted(GapReason::Void, Seq::or_first(start), Seq::or_first(99));
            bench.give_frames(broker, &[Frame::seal(void), subscribed(8, 2, start, start)]);
            for seq in (start..start + 60).step_by(6) {
                bench.give_frames(broker, &market(seq..seq + 6));
            }
            bench.close(core, CloseReason::PeerClosed);
            bench.turns(3);
            let core = connect_core(&mut bench, (8, 2));
            bench.room(browser, usize::MAX / 2);
            serve(&mut bench, core, 1..start + 60);
            all.extend(bench.take(browser));
            let got = messages(&all);
            let frames = frames_of(&got);
            assert_eq!(story(&frames), (10..start + 60).collect::<Vec<_>>(), "{start} {room}");
            assert_eq!(ends(&frames), [10]);
            let told = frames.iter().filter_map(|it| Some(it.view::<Subscribed>()?.feed.get()));
            assert_eq!({ told }.next_back(), Some(8), "it is told under which epoch");
        }
    }
}

#[test]
fn what_the_journal_has_removed_is_told_at_once() {
    let (mut bench, _, core) = bench(60_000, Some((7, 1)));
    let browser = frames_from(&mut bench, 10);
    let spans = serve(&mut bench, core.unwrap(), 50_000..60_000);
    assert_eq!(spans[1].0, 50_000, "the rest of the hole is not asked for: {spans:?}");
    let frames = taken(&mut bench, browser);
    let lost = gaps(&frames);
    assert_eq!((lost[0].1, lost.last().unwrap().2), (10, 49_999));
    assert!(lost.windows(2).all(|two| two[0].2 + 1 == two[1].1), "{lost:?}");
    assert_eq!(seqs(&frames), (50_000..60_000).collect::<Vec<_>>());
}

#[test]
fn a_peer_that_answers_without_end_costs_no_more_than_the_bound() {
    let (mut bench, _, core) = bench(30_000, Some((7, 1)));
    let core = core.unwrap();
    let browser =
        browser_from(&mut bench, "pregao.frames.v1", r#""symbols":["quote.PETR4"],"from":"7:10""#);
    bench.turns(3);
    // Nothing is meant: the span grows, and the bound of frames holds all the same.
    let mut spans = Vec::new();
    for _ in 0..20 {
        let Some(query) = asked(&mut bench, core) else { break };
        spans.push(query.to.get() - query.from.get());
        let bound = 8 * 1_024;
        assert!(spans.iter().all(|span| *span <= bound));
        bench.give_frames(core, &replay(&query, 1..30_000));
        bench.turns(2);
    }
    assert_eq!(spans.len(), 4, "{spans:?}");
    let frames = taken(&mut bench, browser);
    assert_eq!((seqs(&frames), gaps(&frames)), (vec![], vec![]));
}

#[test]
fn how_the_feed_is_is_told_also_while_the_journal_is_read() {
    let (mut bench, broker, core) = bench(100, Some((7, 1)));
    let core = core.unwrap();
    let browser = frames_from(&mut bench, 10);
    bench.turns(3);
    let query = asked(&mut bench, core).expect("a piece");
    taken(&mut bench, browser);
    let says = |flags| {
        let beat =
            Heartbeat { flags: U16::new(flags), next_seq: U64::new(100), ..Default::default() };
        Frame::seal(beat)
    };
    let told = |frames: &[Frame]| -> Vec<bool> {
        let beats = frames.iter().filter(|it| it.kind == Kind::Heartbeat as u8);
        beats.map(|it| it.has(Flags::STALE)).collect()
    };
    bench.give_frames(broker, &[says(Flags::STALE)]);
    bench.pass(limits::STALE_TOLD_EVERY);
    assert_eq!(told(&taken(&mut bench, browser)), [true]);
    bench.give_frames(broker, &[says(0)]);
    bench.give_frames(core, &replay(&query, 1..100));
    bench.pass(limits::STALE_TOLD_EVERY);
    bench.turns(3);
    let frames = taken(&mut bench, browser);
    assert_eq!(told(&frames).last(), Some(&false), "{:?}", told(&frames));
    assert_eq!(seqs(&frames), (10..100).collect::<Vec<_>>());
}
