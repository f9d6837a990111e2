//! What a publisher does to readers: it catches up, begins another sequence, jumps ahead, or sends what is old.

use super::*;

/// A source that has no history.
const OTHER: u8 = 4;

fn of(frame: Frame) -> Frame {
    let mut frame = frame;
    let index = frame.instrument().index();
    frame.instrument = InstrumentId::new(OTHER, index).into();
    frame.renew_crc();
    frame
}

impl Bench {
    /// A publisher of `source` that has everything before `next_seq`, and sends it from `start` on.
    fn publishes(&mut self, source: u8, epoch: u32, start: u64, next_seq: u64) -> ConnId {
        let conn = self.open();
        let session = Session {
            role: Role::Publisher as u8,
            source,
            epoch: U32::new(epoch),
            epoch_start: U64::new(1),
            next_seq: U64::new(next_seq),
            ..Session::default()
        };
        self.deliver(conn, &[Frame::seal(session)]);
        self.read(conn);
        self.deliver(conn, &[beat_to(start)]);
        conn
    }

    /// A subscriber of all of `source`.
    fn follows(&mut self, source: u8, mode: Mode, from_seq: u64) -> ConnId {
        let conn = self.open();
        let session = Session { role: Role::Subscriber as u8, ..Session::default() };
        let subscribe = Subscribe {
            id: U32::new(1),
            source,
            mode: mode as u8,
            conflate_ms: U32::new(100),
            from_seq: U64::new(from_seq),
            pattern: padded("*"),
            ..Subscribe::default()
        };
        self.deliver(conn, &[Frame::seal(session), Frame::seal(subscribe)]);
        conn
    }

    /// The other source, with A (0) defined by frame 1, and its publisher.
    fn other(&mut self) -> ConnId {
        let conn = self.publishes(OTHER, 1, 1, 1);
        self.deliver(conn, &[of(definition(1, 0, "A"))]);
        conn
    }
}

fn kinds(frames: &[Frame]) -> Vec<Kind> {
    frames.iter().filter_map(Frame::kind).collect()
}

fn end_of_snapshot(frames: &[Frame]) -> Option<u64> {
    frames.iter().find_map(Frame::view::<SnapshotEnd>).map(|end| end.next_seq.get())
}

/// An empty broker, and core that has everything before 10 and sends it from 3 on.
fn caught_up_to(seq: u64) -> (Bench, ConnId) {
    let mut bench = Bench::new(64);
    let core = bench.open();
    let session = Session {
        role: Role::Publisher as u8,
        source: MARKET,
        epoch: U32::new(1),
        epoch_start: U64::new(1),
        next_seq: U64::new(10),
        ..Session::default()
    };
    let ahead = [definition(1, 0, "PETR4"), quote(9, 0)].map(|frame| frame.delivered(SNAPSHOT));
    bench.deliver(core, &[Frame::seal(session), ahead[0], ahead[1], beat_to(3)]);
    bench.deliver(core, &(3..seq).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    (bench, core)
}

#[test]
fn who_wants_the_present_waits_until_the_broker_has_what_its_publisher_had() {
    for flags in [0, Flags::STALE] {
        waits_for_the_present(flags);
    }
}

/// Core says of its last values what the flags of this heartbeat do.
fn waits_for_the_present(flags: u16) {
    let (mut bench, core) = caught_up_to(6);
    let beat = Heartbeat { flags: U16::new(flags), ..Heartbeat::default() };
    bench.deliver(core, &[Frame::seal(beat)]);
    let modes = [Mode::Lossless, Mode::Latest, Mode::Conflate];
    let readers = modes.map(|mode| bench.subscribe("*", mode, 0));
    for conn in readers {
        let frames = bench.read(conn);
        assert_eq!(kinds(&frames), [Kind::Session, Kind::Heartbeat], "nothing is confirmed");
        assert!(frames[1].has(Flags::STALE), "it is told that it waits");
    }
    let resumed = bench.subscribe("*", Mode::Lossless, 4);
    assert_eq!(data_seqs(&bench.read(resumed)), [4, 5], "who goes on has a place");
    bench.deliver(core, &[quote(6, 0), quote(7, 0), quote(8, 0)]);
    for conn in readers {
        assert!(bench.read(conn).is_empty());
    }
    let marked = |bench: &mut Bench| -> Vec<ConnId> {
        bench.broker.handle_mail(bench.now);
        let broker = &mut bench.broker;
        std::iter::from_fn(|| broker.poll_dirty().or_else(|| broker.poll_bulk())).collect()
    };
    marked(&mut bench);
    assert!(marked(&mut bench).is_empty());
    bench.deliver(core, &[quote(9, 0)]);
    let marked = marked(&mut bench);
    assert!(readers.iter().all(|conn| marked.contains(conn)), "it is told without another frame");
    for conn in readers {
        let frames = bench.read(conn);
        let is_heartbeat = |kind: &Kind| *kind == Kind::Heartbeat;
        let kinds: Vec<Kind> = kinds(&frames).into_iter().filter(|it| !is_heartbeat(it)).collect();
        let expected = [Kind::Subscribed, Kind::Definition, Kind::Quote, Kind::SnapshotEnd];
        assert_eq!(kinds, expected, "and no old frame as a new one");
        assert_eq!((end_of_snapshot(&frames), frames[2].seq.get()), (Some(10), 9));
        assert_eq!(frames[2].has(Flags::STALE), flags != 0);
    }
}

#[test]
fn a_feed_that_catches_up_is_not_current() {
    let (mut bench, core) = caught_up_to(6);
    let reader = bench.subscribe("*", Mode::Lossless, 3);
    let told = |frames: &[Frame]| -> Vec<bool> {
        frames.iter().filter_map(Frame::view::<Heartbeat>).map(|it| it.flags.get() != 0).collect()
    };
    assert_eq!(told(&bench.read(reader)), [true]);
    bench.deliver(core, &(6..10).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    bench.wait_ms(1_000);
    assert_eq!(told(&bench.read(reader)), [false]);
}

#[test]
fn who_waits_for_the_present_is_served_when_nothing_more_comes() {
    let (mut bench, core) = caught_up_to(6);
    let reader = bench.subscribe("*", Mode::Lossless, 0);
    bench.read(reader);
    // The rest is lost: core says where it goes on.
    bench.deliver(core, &[beat_to(10)]);
    assert_eq!(end_of_snapshot(&bench.read(reader)), Some(6));

    let (mut bench, core) = caught_up_to(6);
    let reader = bench.subscribe("*", Mode::Lossless, 0);
    bench.read(reader);
    bench.broker.handle_close(bench.now, core, CloseReason::Reset);
    bench.broker.commit(bench.now);
    bench.broker.proceed(bench.now);
    let frames = bench.read(reader);
    assert_eq!(end_of_snapshot(&frames), Some(6), "core is away: this is all there is");
    let stale = frames.iter().filter_map(Frame::view::<Heartbeat>).next_back();
    assert!(stale.is_some_and(|beat| beat.flags.get() == Flags::STALE), "{frames:?}");
}

#[test]
fn another_sequence_leaves_nothing_of_the_one_before() {
    let mut bench = Bench::new(8);
    let publisher = bench.publishes(OTHER, 1, 1, 1);
    let first = [definition(1, 0, "X1"), definition(2, 1, "X2"), quote(3, 0), quote(4, 1)];
    bench.deliver(publisher, &first.map(of));
    // One without a place of its own.
    bench.deliver(publisher, &[of(definition(0, 2, "X3")).delivered(SNAPSHOT), beat_to(5)]);
    let latest = bench.follows(OTHER, Mode::Latest, 0);
    let conflating = bench.follows(OTHER, Mode::Conflate, 0);
    for conn in [latest, conflating] {
        bench.read(conn);
    }
    bench.broker.handle_close(bench.now, publisher, CloseReason::PeerClosed);
    let publisher = bench.publishes(OTHER, 5, 1, 1);
    bench.deliver(publisher, &[definition(1, 0, "Z9"), quote(2, 0)].map(of));

    let late = bench.follows(OTHER, Mode::Lossless, 0);
    let frames = bench.read(late);
    let matched = frames.iter().find_map(Frame::view::<Subscribed>).unwrap().matched.get();
    let names: Vec<_> = frames.iter().filter_map(Frame::view::<Definition>).collect();
    assert_eq!((matched, names.len(), names[0].symbol.as_str()), (1, 1, "Z9"), "{frames:?}");

    bench.wait_ms(100);
    let frames = bench.read(conflating);
    let batch: Vec<(u8, u64)> = frames
        .iter()
        .filter(|frame| frame.kind().is_some_and(Kind::is_data))
        .map(|frame| (frame.kind, frame.seq.get()))
        .collect();
    assert_eq!(batch, [(Kind::Definition as u8, 1), (Kind::Quote as u8, 2)], "{frames:?}");

    // Lapped: what it is sent are last values.
    bench.deliver(publisher, &(3..30).map(|seq| of(quote(seq, 0))).collect::<Vec<_>>());
    let live: Vec<u64> = data_seqs(&bench.read(latest));
    assert_eq!(live, [1, 29], "the definition of Z9, and its last quote");
}

#[test]
fn a_loss_of_a_source_without_history_is_final() {
    let lost = |source: u8, reason: GapReason| {
        if source == MARKET { reason as u8 } else { GapReason::SourceLost as u8 }
    };
    for source in [MARKET, OTHER] {
        let own = |frame: Frame| if source == OTHER { of(frame) } else { frame };
        let mut bench = Bench::new(8);
        let publisher = bench.publishes(source, 1, 1, 1);
        bench.deliver(publisher, &[own(definition(1, 0, "A"))]);
        let reader = bench.follows(source, Mode::Lossless, 0);
        bench.read(reader);
        bench.deliver(publisher, &[beat_to(10), own(quote(10, 0))]);
        let lapped = lost(source, GapReason::Lapped);
        assert_eq!(gaps(&bench.read(reader)), [(lapped, 2, 9)], "a jump of the publisher");
        let flood: Vec<Frame> = (11..=40).map(|seq| own(quote(seq, 0))).collect();
        bench.deliver(publisher, &flood);
        assert_eq!(gaps(&bench.read(reader)), [(lapped, 11, 36)], "slower than the ring");
        let late = bench.follows(source, Mode::Lossless, 3);
        let before = lost(source, GapReason::BeforeRing);
        assert_eq!(gaps(&bench.read(late)), [(before, 3, 32)]);
    }
}

#[test]
fn a_publisher_that_begins_again_in_an_old_epoch_is_refused_at_its_first_frame() {
    let mut bench = Bench::new(8);
    let publisher = bench.other();
    bench.deliver(publisher, &(2..=20).map(|seq| of(quote(seq, 0))).collect::<Vec<_>>());
    // What is still held, and comes once more, is no loss.
    bench.deliver(publisher, &[of(quote(20, 0))]);
    assert!(!bench.read(publisher).iter().any(|frame| frame.view::<Refusal>().is_some()));
    for old in [definition(1, 0, "B"), trade(20, 0)] {
        let before = bench.broker.intakes[usize::from(OTHER)].publisher().unwrap();
        bench.broker.handle_close(bench.now, before, CloseReason::PeerClosed);
        let publisher = bench.publishes(OTHER, 1, 1, 1);
        bench.deliver(publisher, &[of(old)]);
        let frames = bench.read(publisher);
        let refusal = frames.iter().find_map(Frame::view::<Refusal>).unwrap();
        assert_eq!(refusal.code.get(), ErrorCode::Unexpected as u16, "{frames:?}");
        assert!(crate::wire::unpadded(&refusal.text).contains("begin a new epoch"));
    }
}

#[test]
fn only_the_markets_source_has_instruments_of_the_system() {
    let snapshot = |frame: Frame| {
        let mut stated = frame;
        stated.flags = U16::new(Flags::SNAPSHOT);
        stated.renew_crc();
        stated
    };
    for frame in [definition(2, 1, "$sys.x"), snapshot(definition(0, 1, "$sys.x"))] {
        let mut bench = Bench::new(8);
        let publisher = bench.other();
        bench.deliver(publisher, &[of(frame)]);
        let frames = bench.read(publisher);
        let refusal = frames.iter().find_map(Frame::view::<Refusal>).unwrap();
        assert_eq!(refusal.code.get(), ErrorCode::Unexpected as u16, "{frames:?}");
        assert!(crate::wire::unpadded(&refusal.text).contains("begins with $"));
    }
}
