//! Sequences with an identity at the broker: whose publisher may go on, and who may resume.

use super::*;
use crate::wire::{Lineage, unpadded};

const FIRST: u64 = 0xa1;
const SECOND: u64 = 0xb2;

impl Bench {
    /// A publisher greets; the broker's answer.
    fn publisher(&mut self, source: u8, feed: u64, epoch: u32, start: u64) -> (ConnId, Frame) {
        let conn = self.open();
        let said = self.say(conn, source, feed, epoch, start, 0);
        (conn, said)
    }

    fn say(
        &mut self,
        conn: ConnId,
        source: u8,
        feed: u64,
        epoch: u32,
        start: u64,
        options: u16,
    ) -> Frame {
        let session = Session {
            role: Role::Publisher as u8,
            source,
            options: U16::new(options),
            feed: U64::new(feed),
            epoch: U32::new(epoch),
            epoch_start: U64::new(start),
            ..Session::default()
        };
        self.deliver(conn, &[Frame::seal(session)]);
        self.read(conn)[0]
    }

    fn tell(&mut self, conn: ConnId, feed: u64, epoch: u32, first_seq: u64) {
        let (epoch_id, epoch, first_seq) = (U64::new(feed), U32::new(epoch), U64::new(first_seq));
        let entry = Lineage { source: MARKET, epoch, first_seq, epoch_id, ..Lineage::default() };
        self.deliver(conn, &[Frame::seal(entry)]);
    }

    /// Core in its first epoch, with frames 1 to 5.
    fn first_epoch() -> (Bench, ConnId) {
        let mut bench = Bench::new(64);
        let (core, said) = bench.publisher(MARKET, FIRST, 1, 1);
        assert_eq!(place(&said), (FIRST, 1, 0), "it had nothing");
        bench.tell(core, FIRST, 1, 1);
        let starts = Heartbeat { next_seq: U64::new(1), ..Heartbeat::default() };
        bench.deliver(core, &[Frame::seal(starts)]);
        bench.deliver(core, &[definition(1, 0, "PETR4"), definition(2, 1, "VALE3")]);
        bench.deliver(core, &[quote(3, 0), quote(4, 0), trade(5, 0)]);
        (bench, core)
    }

    /// Core goes on in its second epoch, which begins at 5: the last frame of the first was lost.
    fn second_epoch() -> Bench {
        let (mut bench, core) = Bench::first_epoch();
        bench.broker.handle_close(bench.now, core, CloseReason::Reset);
        let (core, _) = bench.publisher(MARKET, SECOND, 2, 5);
        bench.say(core, MARKET, SECOND, 2, 5, Session::CONTINUES);
        bench.tell(core, FIRST, 1, 1);
        bench.tell(core, SECOND, 2, 5);
        bench.deliver(core, &[quote(5, 1), quote(6, 1)]);
        bench
    }

    /// Somebody comes back who has this.
    fn resume(&mut self, feed: u64, mode: Mode, from_seq: u64, next_seq: u64) -> Vec<Frame> {
        let conn = self.open();
        let (role, feed) = (Role::Subscriber as u8, U64::new(feed));
        let next_seq = U64::new(next_seq);
        let session = Session { role, feed, next_seq, ..Session::default() };
        let subscribe = Subscribe {
            id: U32::new(1),
            source: MARKET,
            mode: mode as u8,
            from_seq: U64::new(from_seq),
            pattern: padded("*"),
            ..Subscribe::default()
        };
        self.deliver(conn, &[Frame::seal(session), Frame::seal(subscribe)]);
        self.read(conn)
    }
}

/// Feed, epoch and next seq of a SESSION.
fn place(frame: &Frame) -> (u64, u32, u64) {
    let session = frame.view::<Session>().unwrap();
    (session.feed.get(), session.epoch.get(), session.next_seq.get())
}

fn refusal(frame: &Frame) -> String {
    unpadded(&frame.view::<Refusal>().unwrap().text)
}

#[test]
fn core_goes_on_only_when_it_says_that_it_continues() {
    let (mut bench, old) = Bench::first_epoch();
    let reader = bench.subscribe("*", Mode::Lossless, 1);
    bench.read(reader);
    let (_, said) = bench.publisher(MARKET, SECOND, 2, 5);
    assert!(refusal(&said).contains("another publisher lives"));
    bench.deliver(old, &[quote(6, 0)]);
    assert_eq!(data_seqs(&bench.read(reader)), [6], "whoever publishes goes on");
    bench.broker.handle_close(bench.now, old, CloseReason::Reset);
    bench.read(reader);
    let (core, said) = bench.publisher(MARKET, SECOND, 2, 5);
    assert_eq!(place(&said), (FIRST, 1, 7), "it says where it stands");
    assert!(bench.read(reader).is_empty(), "and adopts nothing");
    let said = bench.say(core, MARKET, SECOND, 2, 5, Session::CONTINUES);
    assert_eq!(place(&said), (SECOND, 2, 5));
    let told = bench.read(reader);
    assert_eq!(gaps(&told), [(GapReason::Void as u8, 5, 6)]);
    let standing = told.iter().find_map(Frame::view::<Subscribed>).unwrap();
    assert_eq!((standing.feed.get(), standing.epoch.get()), (SECOND, 2));
}

#[test]
fn another_history_under_the_same_number_is_not_taken_up() {
    let (mut bench, old) = Bench::first_epoch();
    bench.broker.handle_close(bench.now, old, CloseReason::Reset);
    for epoch in [1, 2, 9] {
        let (core, said) = bench.publisher(MARKET, SECOND, epoch, 1);
        assert_eq!(place(&said), (FIRST, 1, 6));
        // It goes on without a word, or core refuses: nothing has changed.
        assert!(
            refusal(&bench.say(core, MARKET, SECOND, epoch, 1, 0)).contains("not the sequence")
        );
    }
    let frames = bench.resume(FIRST, Mode::Lossless, 1, 0);
    assert_eq!(data_seqs(&frames), [1, 2, 3, 4, 5]);
}

#[test]
fn a_refusal_of_core_is_explained_in_the_brokers_own_log() {
    let (mut bench, old) = Bench::first_epoch();
    bench.broker.handle_close(bench.now, old, CloseReason::Reset);
    let (core, _) = bench.publisher(MARKET, SECOND, 2, 1);
    let refusal = Refusal::new(ErrorCode::Unexpected, 0, "this journal does not continue it");
    bench.deliver(core, &[Frame::seal(refusal)]);
    let actions: Vec<Action> = std::iter::from_fn(|| bench.broker.poll_action()).collect();
    let is_told = |action: &Action| {
        matches!(action, Action::Log(Level::Error, text)
            if text.contains("does not continue it") && text.contains("Restart this broker"))
    };
    assert!(actions.iter().any(is_told), "{actions:?}");
    assert!(actions.contains(&Action::Close(core)));
}

#[test]
fn who_resumes_is_told_what_of_its_frames_is_void() {
    let mut bench = Bench::second_epoch();
    for (from_seq, void) in [(5, None), (3, None), (6, Some((5, 5))), (9, Some((5, 8)))] {
        let frames = bench.resume(FIRST, Mode::Lossless, from_seq, 0);
        let void = void.map(|(from, to)| (GapReason::Void as u8, from, to));
        assert_eq!(gaps(&frames), void.into_iter().collect::<Vec<_>>(), "from {from_seq}");
        assert_eq!(data_seqs(&frames), (from_seq.min(5)..=6).collect::<Vec<_>>());
        let word = frames.iter().position(|frame| frame.kind() == Some(Kind::Gap));
        let stands = frames.iter().position(|frame| frame.kind() == Some(Kind::Subscribed));
        assert!(word < stands, "it hears of it before anything else");
    }
    // In the same epoch nothing is void.
    assert_eq!(gaps(&bench.resume(SECOND, Mode::Lossless, 6, 0)), []);
    // Who begins with the present, and has something, is told the same.
    assert_eq!(gaps(&bench.resume(FIRST, Mode::Latest, 0, 9)), [(GapReason::Void as u8, 5, 8)]);
    assert_eq!(gaps(&bench.resume(FIRST, Mode::Latest, 0, 5)), []);
}

#[test]
fn who_has_another_sequence_can_only_begin_anew() {
    let mut bench = Bench::second_epoch();
    for (mode, from_seq, next_seq) in [(Mode::Lossless, 3, 0), (Mode::Latest, 0, 3)] {
        let frames = bench.resume(77, mode, from_seq, next_seq);
        assert!(refusal(frames.last().unwrap()).contains("subscribe from 0"), "{frames:?}");
        assert!(data_seqs(&frames).is_empty());
    }
    assert_eq!(gaps(&bench.resume(0, Mode::Lossless, 0, 0)), []);
}

#[test]
fn another_source_with_another_identity_begins_a_new_sequence() {
    let mut bench = Bench::new(64);
    let other = |seq: u64| {
        let instrument = InstrumentId::new(3, InstrumentIndex::FIRST).into();
        Frame::seal(Trade { seq: U64::new(seq), instrument, ..Trade::default() })
    };
    let starts = Frame::seal(Heartbeat { next_seq: U64::new(1), ..Heartbeat::default() });
    let (publisher, _) = bench.publisher(3, FIRST, 1, 1);
    bench.deliver(publisher, &[starts, other(1), other(2)]);
    bench.broker.handle_close(bench.now, publisher, CloseReason::PeerClosed);
    // The same number says nothing to readers of older programs: it is not taken.
    let (again, said) = bench.publisher(3, SECOND, 1, 1);
    assert_eq!(place(&said), (FIRST, 1, 3));
    bench.broker.handle_close(bench.now, again, CloseReason::PeerClosed);
    let (_, said) = bench.publisher(3, SECOND, 2, 1);
    assert_eq!(place(&said), (SECOND, 2, 0), "all of it is void");
}

#[test]
fn the_lineage_of_another_source_is_refused() {
    let (mut bench, core) = Bench::first_epoch();
    let (epoch, first_seq, epoch_id) = (U32::new(2), U64::new(3), U64::new(SECOND));
    let entry = Lineage { source: 2, epoch, first_seq, epoch_id, ..Lineage::default() };
    bench.deliver(core, &[Frame::seal(entry)]);
    assert!(refusal(bench.read(core).last().unwrap()).contains("another source"));
}

#[test]
fn a_new_epoch_takes_back_what_was_void() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    bench.deliver(publisher, &(3..=9).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    bench.read(conn);
    let restarted = bench.restart(publisher);
    bench.begin(restarted, 2, 6);
    bench.deliver(restarted, &[quote(6, 1)]);
    let frames = bench.read(conn);
    assert_eq!(gaps(&frames), [(GapReason::Void as u8, 6, 9)]);
    assert_eq!(data_seqs(&frames), [6]);
    let standing = frames[1].view::<Subscribed>().unwrap();
    assert_eq!((standing.epoch.get(), standing.epoch_start.get()), (2, 6));
}

#[test]
fn an_epoch_that_takes_nothing_back_is_announced_too() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("PETR4", Mode::Lossless, 0);
    bench.read(conn);
    let restarted = bench.restart(publisher);
    bench.begin(restarted, 2, 3);
    let frames = bench.read(conn);
    assert!(gaps(&frames).is_empty());
    assert_eq!(frames[0].view::<Subscribed>().unwrap().epoch.get(), 2);
    assert_eq!(frames.len(), 1);
}

#[test]
fn a_missed_epoch_may_have_begun_anywhere_in_the_one_before() {
    let mut bench = Bench::new(64);
    let publisher = bench.market();
    let conn = bench.subscribe("*", Mode::Lossless, 0);
    bench.deliver(publisher, &(3..=9).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    bench.read(conn);
    let restarted = bench.restart(publisher);
    bench.begin(restarted, 2, 6);
    bench.deliver(restarted, &(6..=9).map(|seq| quote(seq, 1)).collect::<Vec<_>>());
    bench.read(conn);
    let restarted = bench.restart(restarted);
    bench.begin(restarted, 4, 9);
    let frames = bench.read(conn);
    assert_eq!(gaps(&frames), [(GapReason::Void as u8, 6, 9)], "epoch 3 is not known");
}

#[test]
fn names_that_a_publisher_states_reach_who_is_connected() {
    for mode in [Mode::Lossless, Mode::Latest, Mode::Conflate] {
        let (mut bench, core) = Bench::first_epoch();
        let readers = ["*", "ABEV*"].map(|pattern| bench.subscribe(pattern, mode, 0));
        let watch_list = bench.subscribe("PETR4", mode, 0);
        for conn in readers.into_iter().chain([watch_list]) {
            bench.read(conn);
        }
        // A second instrument that no frame of the ring defines, its last value, and where core goes on.
        bench.deliver(core, &[stated(definition(2, 2, "ABEV3")), stated(quote(4, 2))]);
        for conn in readers {
            assert!(bench.read(conn).is_empty(), "{mode:?}: core has not stated all");
        }
        bench.deliver(core, &[beat_to(6)]);
        for conn in readers {
            let frames = bench.read(conn);
            assert!(frames.iter().all(|frame| frame.has(Flags::SNAPSHOT)), "{mode:?}");
            assert!(frames.iter().all(|frame| frame.kind == Kind::Definition as u8), "{mode:?}");
            assert!(frames.iter().any(|it| it.instrument() == instrument(2)), "{mode:?}");
        }
        assert!(bench.read(watch_list).iter().all(|it| it.instrument() == instrument(0)));
        // They go on where they were.
        bench.deliver(core, &[quote(6, 2), quote(7, 0)]);
        bench.wait_ms(100);
        assert_eq!(data_seqs(&bench.read(readers[0])), [6, 7], "{mode:?}");
        assert_eq!(data_seqs(&bench.read(readers[1])), [6], "{mode:?}");
        assert_eq!(data_seqs(&bench.read(watch_list)), [7], "{mode:?}");
        bench.deliver(core, &[stated(definition(2, 2, "ABEV3")), beat_to(8)]);
        assert!(bench.read(readers[0]).is_empty(), "{mode:?}: that is known");
    }
}

#[test]
fn who_is_beyond_everything_and_names_no_epoch_has_nothing_of_this_sequence() {
    let (mut bench, core) = Bench::first_epoch();
    // Core says where its sequence ends.
    bench.broker.handle_close(bench.now, core, CloseReason::Reset);
    let core = bench.open();
    let (role, feed, epoch) = (Role::Publisher as u8, U64::new(FIRST), U32::new(1));
    let (epoch_start, next_seq) = (U64::new(1), U64::new(6));
    let source = MARKET;
    let session =
        Session { role, source, feed, epoch, epoch_start, next_seq, ..Session::default() };
    bench.deliver(core, &[Frame::seal(session)]);
    let void = |from: u64| (GapReason::Void as u8, from, 999);
    assert_eq!(gaps(&bench.resume(0, Mode::Lossless, 1_000, 1_000)), [void(1)]);
    assert_eq!(gaps(&bench.resume(FIRST, Mode::Lossless, 1_000, 1_000)), [void(6)]);
    assert_eq!(gaps(&bench.resume(0, Mode::Lossless, 1_000, 0)), [void(6)], "it has nothing");
}

#[test]
fn what_a_publisher_never_sent_is_taken_back_from_who_has_it() {
    let (mut bench, core) = Bench::first_epoch();
    let reader = bench.subscribe("*", Mode::Lossless, 1);
    assert_eq!(data_seqs(&bench.read(reader)), [1, 2, 3, 4, 5]);
    let again = |feed: u64, next_seq: u64| {
        Frame::seal(Session {
            role: Role::Publisher as u8,
            source: MARKET,
            feed: U64::new(feed),
            epoch: U32::new(1),
            epoch_start: U64::new(1),
            next_seq: U64::new(next_seq),
            ..Session::default()
        })
    };
    bench.read(core);
    bench.deliver(core, &[again(FIRST, 6)]);
    assert_eq!(place(&bench.read(core)[0]), (FIRST, 1, 6));
    assert!(gaps(&bench.read(reader)).is_empty(), "it has sent all of it");
    bench.deliver(core, &[again(FIRST, 4)]);
    assert_eq!(place(&bench.read(core)[0]), (FIRST, 1, 4));
    assert_eq!(gaps(&bench.read(reader)), [(GapReason::Void as u8, 4, 5)]);
    let actions: Vec<Action> = std::iter::from_fn(|| bench.broker.poll_action()).collect();
    let is_told = |it: &Action| matches!(it, Action::Log(Level::Error, text) if text.contains("never sent it"));
    assert!(actions.iter().any(is_told));
    bench.deliver(core, &[trade(4, 1)]);
    assert_eq!(data_seqs(&bench.read(reader)), [4]);
    // Who comes now has nothing of what was taken back.
    let late = bench.resume(FIRST, Mode::Lossless, 6, 0);
    assert_eq!(gaps(&late), [(GapReason::Void as u8, 5, 5)]);
    // Another epoch's SESSION has no place here.
    bench.deliver(core, &[again(SECOND, 4)]);
    assert!(bench.read(core).last().unwrap().view::<Refusal>().is_some());
}

#[test]
fn who_was_led_ahead_and_was_away_meanwhile_gets_what_it_passed_over() {
    for is_new_epoch in [false, true] {
        let (mut bench, core) = Bench::first_epoch();
        bench.broker.handle_close(bench.now, core, CloseReason::Reset);
        // Somebody speaks as core, and jumps.
        let (other, _) = bench.publisher(MARKET, FIRST, 1, 1);
        bench.deliver(other, &[beat_to(1_000), quote(1_000, 0)]);
        bench.broker.handle_close(bench.now, other, CloseReason::Reset);
        // Core has 6 to 8 from the first epoch, which the broker had not.
        let core = if is_new_epoch {
            let (core, _) = bench.publisher(MARKET, SECOND, 2, 9);
            bench.say(core, MARKET, SECOND, 2, 9, Session::CONTINUES);
            bench.tell(core, FIRST, 1, 1);
            bench.tell(core, SECOND, 2, 9);
            core
        } else {
            let (core, _) = bench.publisher(MARKET, FIRST, 1, 1);
            let next_seq = U64::new(9);
            let (source, feed, epoch) = (MARKET, U64::new(FIRST), U32::new(1));
            let session = Session { source, feed, epoch, next_seq, ..Session::default() };
            bench.deliver(core, &[Frame::seal(session)]);
            core
        };
        // Of all that the ring had nothing is left, and core begins with the newest.
        bench.deliver(core, &[beat_to(15)]);
        bench.deliver(core, &(15..=20).map(|seq| quote(seq, 1)).collect::<Vec<_>>());
        let before_ring = |from| (GapReason::BeforeRing as u8, from, 14);
        let told = gaps(&bench.resume(FIRST, Mode::Lossless, 1_001, 1_001));
        let void = (GapReason::Void as u8, 6, 1_000);
        assert_eq!(told, [void, before_ring(6)], "{is_new_epoch}");
        // Who was not led there keeps what stands.
        let told = gaps(&bench.resume(FIRST, Mode::Lossless, 9, 9));
        assert_eq!(told, [before_ring(9)], "{is_new_epoch}");
    }
}

#[test]
fn who_was_sent_a_void_value_instead_of_one_that_stands_gets_that_one() {
    for mode in [Mode::Lossless, Mode::Latest, Mode::Conflate] {
        let (mut bench, core) = Bench::first_epoch();
        let reader = bench.subscribe("*", mode, 0);
        bench.read(reader);
        bench.deliver(core, &[quote(6, 1), trade(7, 0), quote(8, 0)]);
        bench.broker.handle_close(bench.now, core, CloseReason::Reset);
        // Somebody speaks as core, and jumps: its trade is the last one, and the ring has no other.
        let (other, _) = bench.publisher(MARKET, FIRST, 1, 1);
        bench.deliver(other, &[beat_to(1_000), trade(1_000, 0)]);
        bench.wait_ms(100);
        let seqs = data_seqs(&bench.read(reader));
        let expected = if mode == Mode::Lossless { vec![1_000] } else { vec![6, 8, 1_000] };
        assert_eq!(seqs, expected, "{mode:?}");
        bench.broker.handle_close(bench.now, other, CloseReason::Reset);
        let (core, _) = bench.publisher(MARKET, FIRST, 1, 1);
        let (source, feed, epoch, next_seq) = (MARKET, U64::new(FIRST), U32::new(1), U64::new(9));
        let session = Session { source, feed, epoch, next_seq, ..Session::default() };
        bench.deliver(core, &[Frame::seal(session)]);
        assert_eq!(gaps(&bench.read(reader)), [(GapReason::Void as u8, 9, 1_000)], "{mode:?}");
        let known =
            [definition(1, 0, "PETR4"), quote(8, 0), trade(7, 0), definition(2, 1, "VALE3")];
        let states = known.map(stated);
        bench.deliver(core, &[states[0], states[1], states[2], states[3], stated(quote(6, 1))]);
        bench.deliver(core, &[beat_to(5), trade(5, 0), quote(6, 1), trade(7, 0), quote(8, 0)]);
        let frames = bench.read(reader);
        let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.get()).collect();
        // Who follows each frame has what stands, or asks history for it.
        let expected = if mode == Mode::Lossless { vec![1, 2] } else { vec![1, 8, 7, 2, 6] };
        assert_eq!(seqs, expected, "{mode:?}");
        assert!(frames.iter().all(|frame| frame.has(Flags::SNAPSHOT)), "{mode:?}");
        bench.deliver(core, &[quote(9, 0), stated(definition(3, 2, "ABEV3")), beat_to(10)]);
        bench.wait_ms(100);
        let again = bench.read(reader);
        let again: Vec<u64> = again.iter().map(|frame| frame.seq.get()).collect();
        assert_eq!(again, [1, 2, 3, 9], "{mode:?}: values are sent once");
    }
}

#[test]
fn a_publisher_that_gives_no_sign_of_life_is_displaced_and_told() {
    let (mut bench, old) = Bench::first_epoch();
    bench.wait_ms(3_000);
    let (_, said) = bench.publisher(MARKET, FIRST, 1, 1);
    assert!(said.view::<Refusal>().is_some(), "the old one is asked first");
    bench.wait_ms(2_000);
    let (_, said) = bench.publisher(MARKET, FIRST, 1, 1);
    assert_eq!(place(&said), (FIRST, 1, 6));
    let refusal = bench.read(old).pop().unwrap();
    assert_eq!(refusal.view::<Refusal>().unwrap().code.get(), ErrorCode::Silent as u16);
}

#[test]
fn the_status_of_a_broker_says_what_it_has_of_each_source() {
    let (mut bench, core) = Bench::first_epoch();
    bench.deliver(core, &[trade(5, 0)]);
    bench.subscribe("PETR*", Mode::Lossless, 1);
    bench.broker.note_kernel_bytes(1_000);
    let memory = bench.broker.config.bytes_max(1, 1, 1_000);
    let subscriber = BrokerConfig::subscriber_bytes_max(1_000);
    assert!(subscriber > 1_000 && memory > 100 * subscriber, "{memory} {subscriber}");
    let bounds = [("memory", memory), ("subscriber", subscriber)];
    let bounds = bounds.map(|(what, bytes)| format!("{what}_bytes_bound {bytes}"));
    let told = bench.broker.status(bench.now).told();
    let (bound, others): (Vec<String>, Vec<String>) =
        told.into_iter().partition(|it| it.contains("_bytes_bound"));
    let others: Vec<String> =
        others.into_iter().filter(|it| !it.starts_with("delivery_us.")).collect();
    assert_eq!(bound, bounds);
    let expected = [
        "role broker",
        "source.1.epoch_id 00000000000000a1",
        "subscribers.lossless 1",
        "subscribers.latest 0",
        "subscribers.conflate 0",
        "reactors 1",
        "subscribers 1",
        "connections 2",
        "refused 0",
        "local_faults 0",
        "further_sent_bytes 0",
        "unread_closed 0",
        "watch_list_bytes 288",
        "source.1.publisher_up 1",
        "source.1.stale 0",
        "source.1.epoch 1",
        "source.1.next_seq 6",
        "source.1.instruments 2",
        "source.1.frames 5",
        "source.1.duplicates 1",
        "source.1.gaps_told 0",
        "source.1.stalls 0",
    ];
    assert_eq!(others, expected);
}
