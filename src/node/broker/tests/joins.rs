//! Joins, definitions and leaves, cut by turns.

use super::*;

/// Steps of looking up in one turn.
const STEPS_MAX: usize = 64;
/// What the last piece of a turn may take beyond that: a longest list is put in order.
const STEPS_OVER_MAX: usize = limits::PATTERNS_MAX / 4;

impl Bench {
    /// A turn begins in which this connection has its part of what can wait. Others keep their places.
    pub(super) fn begin_part(&mut self, conn: ConnId) {
        self.broker.handle_mail(self.now);
        let line = std::iter::from_fn(|| self.broker.poll_bulk().filter(|next| *next != conn));
        for other in line.collect::<Vec<ConnId>>() {
            self.broker.put_off(other);
        }
    }

    /// A market with so many instruments, `M0000` and so on, in the index order of their names.
    fn many(instruments: u32) -> (Bench, ConnId) {
        let mut bench = Bench::new(1 << 14);
        let conn = bench.open();
        bench.begin(conn, 1, 1);
        let definitions: Vec<Frame> = (0..instruments)
            .map(|index| definition(u64::from(index) + 1, index, &format!("M{index:04}")))
            .collect();
        bench.deliver(conn, &definitions);
        bench.broker.work_mut().bound_steps(STEPS_MAX);
        (bench, conn)
    }

    /// Asks for a list of patterns; the connection.
    fn list(&mut self, patterns: &[String], mode: Mode) -> ConnId {
        let conn = self.open();
        let session = Session { role: Role::Subscriber as u8, ..Session::default() };
        let mut frames = vec![Frame::seal(session)];
        for (place, pattern) in patterns.iter().enumerate() {
            let is_last = place + 1 == patterns.len();
            let flags = U16::new(if is_last { 0 } else { Flags::MORE });
            frames.push(Frame::seal(Subscribe {
                id: U32::new(1),
                source: MARKET,
                mode: mode as u8,
                flags,
                pattern: padded(pattern),
                ..Subscribe::default()
            }));
        }
        self.broker.handle_frames(self.now, conn, &frames);
        conn
    }

    /// One turn: a publisher's frames, and a flush of everybody. What the connections were sent.
    fn turn(&mut self, publisher: ConnId, frames: &[Frame]) -> Vec<(ConnId, Vec<Frame>)> {
        self.broker.handle_mail(self.now);
        self.broker.handle_frames(self.now, publisher, frames);
        self.broker.handle_timers(self.now);
        self.broker.commit(self.now);
        self.broker.proceed(self.now);
        let mut sent = Vec::new();
        while let Some(conn) = self.broker.poll_dirty().or_else(|| self.broker.poll_bulk()) {
            let mut bytes = Vec::new();
            loop {
                let outgoing = self.broker.outgoing(self.now, conn);
                let next = [outgoing.head, outgoing.tail].concat();
                if next.is_empty() {
                    break;
                }
                self.broker.handle_sent(self.now, conn, next.len());
                bytes.extend(next);
            }
            sent.push((conn, frames_of(&bytes)));
        }
        let spent = self.broker.work().spent();
        assert!(spent.steps <= STEPS_MAX + STEPS_OVER_MAX, "{spent:?} in one turn");
        sent
    }
}

fn confirmed(sent: &[(ConnId, Vec<Frame>)]) -> Vec<ConnId> {
    let is_confirmed = |frames: &[Frame]| frames.iter().any(|f| f.view::<Subscribed>().is_some());
    sent.iter().filter(|(_, frames)| is_confirmed(frames)).map(|(conn, _)| *conn).collect()
}

#[test]
fn longest_lists_join_in_their_order_while_ticks_go_on() {
    let (mut bench, publisher) = Bench::many(500);
    let live = bench.subscribe("M0007", Mode::Lossless, 0);
    bench.read(live);
    // Each its own list, of which half exists.
    let lists = (0..20).map(|number| {
        let patterns: Vec<String> =
            (0..limits::PATTERNS_MAX)
                .map(|it| {
                    if it % 2 == 0 { format!("M{:04}", it / 2) } else { format!("N{number}-{it}") }
                })
                .collect();
        bench.list(&patterns, Mode::Lossless)
    });
    let lists: Vec<ConnId> = lists.collect();
    let mut joined = Vec::new();
    let mut turns = 0;
    for seq in 501.. {
        let sent = bench.turn(publisher, &[quote(seq, 7)]);
        let tick = sent.iter().find(|(conn, _)| *conn == live).map(|(_, frames)| data_seqs(frames));
        assert_eq!(tick, Some(vec![seq]), "a tick waited for those who join");
        let is_bulk = |frames: &[Frame]| frames.iter().any(|f| f.view::<Subscribed>().is_some());
        let ahead = sent.iter().take_while(|(conn, _)| *conn != live);
        assert!(!ahead.clone().any(|(_, it)| is_bulk(it)), "a tick went out behind a snapshot");
        joined.extend(confirmed(&sent));
        turns += 1;
        if joined.len() == lists.len() {
            break;
        }
        assert!(bench.broker.next_deadline() <= Some(bench.now.mono), "the next turn is at once");
    }
    assert_eq!(joined, lists, "in the order in which they came");
    assert!(turns > 20 * limits::PATTERNS_MAX / STEPS_MAX, "{turns} turns");
}

#[test]
fn a_tick_is_there_to_be_sent_before_a_pattern_is_looked_up() {
    let (mut bench, publisher) = Bench::many(500);
    let live = bench.subscribe("M0007", Mode::Lossless, 0);
    bench.read(live);
    let names: Vec<String> = (0..500).map(|it| format!("M{it:04}")).collect();
    let newcomer = bench.list(&names, Mode::Lossless);
    bench.broker.handle_mail(bench.now);
    bench.broker.handle_frames(bench.now, publisher, &[quote(501, 7)]);
    bench.broker.handle_timers(bench.now);
    bench.broker.commit(bench.now);
    let before = bench.broker.work().spent().steps;
    let dirty: Vec<ConnId> = std::iter::from_fn(|| bench.broker.poll_dirty()).collect();
    assert!(dirty.contains(&live));
    assert!(bench.broker.readers.has_work(), "the newcomer waits");
    bench.broker.proceed(bench.now);
    assert!(bench.broker.work().spent().steps > before);
    while !confirmed(&bench.turn(publisher, &[])).contains(&newcomer) {}
}

#[test]
fn a_definition_that_thousands_want_is_settled_before_anybody_is_sent_a_frame_of_it() {
    let (mut bench, publisher) = Bench::many(3);
    let (count, steps_max) = (90, 8);
    bench.broker.work_mut().bound_steps(steps_max);
    // No two lists are the same, and all of them want what comes.
    let readers: Vec<ConnId> = (0..count)
        .map(|it| bench.list(&[format!("X{it}"), "N*".to_owned()], Mode::Lossless))
        .collect();
    let mut joined = 0;
    for _ in 0..1_000 {
        joined += confirmed(&bench.turn(publisher, &[])).len();
    }
    assert_eq!((joined, bench.broker.has_bulk()), (count, false));
    let news = [definition(4, 3, "N1"), quote(5, 3), quote(6, 3)];
    let mut received = std::collections::BTreeMap::<u32, Vec<u64>>::new();
    let mut turns = 0;
    let mut next: &[Frame] = &news;
    while received.values().map(Vec::len).sum::<usize>() < 3 * count {
        for (conn, frames) in bench.turn(publisher, next) {
            if readers.contains(&conn) {
                received.entry(conn.slot).or_default().extend(data_seqs(&frames));
            }
        }
        next = &[];
        turns += 1;
        assert!(turns < 100, "{} of {count} have it", received.len());
    }
    assert!(turns >= count / steps_max, "{turns} turns for {count} interests");
    assert!(received.values().all(|seqs| *seqs == [4, 5, 6]), "each frame once and in order");
}

#[test]
fn whoever_leaves_while_it_joins_leaves_nothing_behind() {
    let (mut bench, publisher) = Bench::many(100);
    let list = |number: usize| -> Vec<String> {
        (0..limits::PATTERNS_MAX).map(|it| format!("L{number}-{it}*")).collect()
    };
    let before = bench.broker.readers.interest_bytes();
    let conns: Vec<ConnId> = (0..6).map(|it| bench.list(&list(it), Mode::Lossless)).collect();
    bench.turn(publisher, &[]);
    // One is being looked up, the others wait.
    for conn in conns {
        bench.broker.handle_close(bench.now, conn, CloseReason::Reset);
    }
    let mut turns = 0;
    while bench.broker.readers.has_work() {
        bench.turn(publisher, &[]);
        turns += 1;
        assert!(turns < 1_000);
    }
    assert_eq!(bench.broker.readers.interest_bytes(), before);
    let again = bench.list(&list(0), Mode::Lossless);
    let mut joined = Vec::new();
    while joined.is_empty() {
        joined = confirmed(&bench.turn(publisher, &[]));
    }
    assert_eq!(joined, [again]);
}

#[test]
fn a_name_that_is_stated_in_the_middle_of_a_snapshot_is_part_of_it() {
    let (mut bench, publisher) = Bench::many(900);
    bench.broker.work_mut().bound_frames(50);
    let reader = bench.subscribe("*", Mode::Lossless, 0);
    let mut frames = Vec::new();
    let mut is_stated = false;
    for _ in 0..1_000 {
        let sent = bench.turn(publisher, &[]);
        let ours = sent.into_iter().filter(|(conn, _)| *conn == reader);
        frames.extend(ours.flat_map(|(_, frames)| frames));
        let named = frames.iter().filter_map(Frame::view::<Definition>).count();
        if named > 0 && !is_stated {
            is_stated = true;
            assert!(named < 900, "the snapshot takes several turns");
            // An instrument that it has passed.
            bench.deliver(publisher, &[stated(definition(901, 0, "ABEV3")), beat_to(901)]);
        }
    }
    let mut definitions = frames.iter().filter_map(Frame::view::<Definition>);
    let last = definitions.rfind(|it| InstrumentId::from(it.instrument) == instrument(0)).unwrap();
    assert_eq!(last.symbol, "ABEV3".parse().unwrap());
    let is_end = |frame: &&Frame| frame.view::<SnapshotEnd>().is_some();
    assert_eq!(frames.iter().filter(is_end).count(), 1);
    assert!(frames.last().is_some_and(|last| last.view::<SnapshotEnd>().is_some()));
}

#[test]
fn a_snapshot_has_a_part_of_each_turn_and_is_whole() {
    let (mut bench, publisher) = Bench::many(900);
    bench.broker.work_mut().bound_frames(50);
    let quotes: Vec<Frame> =
        (901..1_801).map(|seq| quote(seq, u32::try_from(seq).unwrap() - 901)).collect();
    bench.deliver(publisher, &quotes);
    let readers = [bench.subscribe("*", Mode::Lossless, 0), bench.subscribe("M*", Mode::Latest, 0)];
    let mut received = std::collections::BTreeMap::<u32, Vec<Frame>>::new();
    let mut turns = 0;
    let mut seq = 1_800;
    let is_over = |received: &std::collections::BTreeMap<u32, Vec<Frame>>, seq: u64| {
        readers.iter().all(|conn| {
            received
                .get(&conn.slot)
                .and_then(|frames| frames.last())
                .is_some_and(|f| f.seq.get() == seq)
        })
    };
    while !is_over(&received, seq) || turns < 10 {
        seq += 1;
        let sent = bench.turn(publisher, &[quote(seq, 5)]);
        let count: usize = sent.iter().map(|(_, frames)| frames.len()).sum();
        assert!(count <= 2 * 50 + 16, "{count} frames in one turn");
        for (conn, frames) in sent {
            received.entry(conn.slot).or_default().extend(frames);
        }
        turns += 1;
        assert!(turns < 1_000);
    }
    assert!(turns > 2 * 1_800 / 60, "{turns} turns");
    for reader in readers {
        let frames = &received[&reader.slot];
        let (snapshot, live): (Vec<&Frame>, Vec<&Frame>) = frames
            .iter()
            .filter(|frame| frame.kind().is_some_and(Kind::is_data))
            .partition(|frame| frame.has(Flags::SNAPSHOT));
        let is_quote = |frame: &&&Frame| frame.kind == Kind::Quote as u8;
        let named: std::collections::BTreeSet<u32> =
            snapshot.iter().filter(is_quote).map(|frame| frame.instrument.get()).collect();
        assert!(named.len() >= 899, "{} of 900; one of them is live", named.len());
        let seqs: Vec<u64> = live.iter().map(|frame| frame.seq.get()).collect();
        assert!(seqs.iter().copied().eq(seqs[0]..=seq), "what is live is whole");
    }
}

#[test]
fn a_conflated_batch_has_a_part_of_each_turn_and_says_what_it_leaves_out() {
    let (mut bench, publisher) = Bench::many(600);
    bench.broker.work_mut().bound_frames(40);
    bench.subscribe("*", Mode::Conflate, 0);
    for _ in 0..100 {
        bench.turn(publisher, &[]);
    }
    // Two of each: the older one is left out.
    let feed: Vec<Frame> =
        (601..1_801).map(|seq| quote(seq, u32::try_from(seq).unwrap() % 600)).collect();
    bench.deliver(publisher, &feed);
    bench.now.mono = bench.now.mono + std::time::Duration::from_millis(100);
    let mut received = Vec::new();
    let mut turns = 0;
    loop {
        for (_, frames) in bench.turn(publisher, &[]) {
            assert!(frames.len() <= 2 * 40 + 16, "{} frames in one turn", frames.len());
            received.extend(frames);
        }
        turns += 1;
        if !bench.broker.has_bulk() {
            break;
        }
    }
    assert!(turns > 600 / 40, "{turns} turns");
    let values = data_seqs(&received);
    assert!(values.iter().copied().eq(1_201..1_801), "the last of each, in order, once");
    let missed: u64 =
        received.iter().filter_map(Frame::view::<Gap>).map(|gap| gap.missed.get()).sum();
    assert_eq!(missed, 600);
}
