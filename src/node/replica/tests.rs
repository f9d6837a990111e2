//! The replica as a machine: core and a querier driven by hand, virtual time.

use std::time::Duration;

use super::*;
use crate::node::{FrameInput, Node, Origin};
use crate::wire::{Ended, Query, Quote, Refusal, Role, U64, as_frames};

struct Bench {
    replica: Replica,
    now: Now,
    conns: u32,
}

fn definition(index: u32, symbol: &str) -> Frame {
    Frame::seal(Definition::new(U32::new(index).into(), symbol.parse().unwrap(), 2))
}

fn quote(index: u32, seq: u64) -> Frame {
    let (instrument, seq) = (U32::new(index), U64::new(seq));
    Frame::seal(Quote { instrument, seq, ..Quote::default() })
}

fn beat(flags: u16, next_seq: u64) -> Frame {
    let (flags, next_seq) = (U16::new(flags), U64::new(next_seq));
    Frame::seal(Heartbeat { flags, next_seq, ..Heartbeat::default() })
}

fn session(epoch: u32, epoch_start: u64, next_seq: u64) -> Session {
    Session {
        role: Role::Publisher as u8,
        epoch: U32::new(epoch),
        epoch_start: U64::new(epoch_start),
        next_seq: U64::new(next_seq),
        ..Session::default()
    }
}

impl Bench {
    fn new() -> Bench {
        let replica = Replica::new(ReplicaConfig { name: "core.1".to_owned() });
        Bench { replica, now: Now { mono: Mono(1_000_000_000), wall_ns: 7 }, conns: 0 }
    }

    fn open(&mut self, hello: Session) -> ConnId {
        self.conns += 1;
        let conn = ConnId { generation: self.conns, slot: self.conns };
        self.replica.handle_open(self.now, conn, Origin::LOCAL);
        self.deliver(conn, &[Frame::seal(hello)]);
        conn
    }

    fn querier(&mut self) -> ConnId {
        let conn = self.open(Session { role: Role::Querier as u8, ..Session::default() });
        self.read(conn);
        conn
    }

    /// Core, which is sent what is wanted.
    fn core(&mut self, hello: Session) -> (ConnId, u64) {
        if let Some(before) = self.replica.seat.holder() {
            self.replica.handle_close(self.now, before, CloseReason::PeerClosed);
        }
        let conn = self.open(hello);
        let frames = self.read(conn);
        let answer = frames[0].view::<Session>().expect("an answer to SESSION");
        (conn, answer.next_seq.get())
    }

    fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.replica.handle_frames(self.now, conn, frames);
        self.replica.handle_timers(self.now);
        self.replica.commit(self.now);
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
        self.replica.handle_timers(self.now);
        let next = self.replica.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.mono), "it would make its shell spin");
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        let mut read = Vec::new();
        loop {
            let bytes = self.replica.outgoing(self.now, conn).head.to_vec();
            if bytes.is_empty() {
                return as_frames(&read).0.to_vec();
            }
            self.replica.handle_sent(self.now, conn, bytes.len());
            read.extend(bytes);
        }
    }

    fn ask(&mut self, conn: ConnId, as_of: u64) {
        let query = Query {
            id: U32::new(3),
            op: Op::Quote as u8,
            deadline_us: U32::new(100_000),
            symbol: padded("PETR4"),
            ..Query::default()
        };
        let frames = Question::new(&query).unwrap().cut_at(Seq::new(as_of)).frames();
        self.deliver(conn, &frames);
    }

    /// The `seq` and staleness of the quote, and the answer's `as_of`.
    fn quoted(&mut self, conn: ConnId) -> (Option<(u64, bool)>, u64) {
        self.ask(conn, 0);
        let frames = self.read(conn);
        let quote = frames.iter().find(|frame| frame.kind() == Some(Kind::Quote));
        let end = frames.last().and_then(Frame::view::<Ended>).expect("an END");
        (quote.map(|f| (f.seq.get(), f.has(Flags::STALE))), end.as_of.get())
    }
}

#[test]
fn the_snapshot_then_the_sequence_and_live_only_when_core_says_so() {
    let mut bench = Bench::new();
    let (core, wanted) = bench.core(session(1, 1, 50));
    assert_eq!(wanted, 0, "it knows nothing");
    let snapshot = [definition(7, "PETR4"), quote(7, 40)].map(|f| f.delivered(Flags::SNAPSHOT));
    bench.deliver(core, &snapshot);
    bench.deliver(core, &[beat(Flags::STALE, 45), quote(7, 45)]);
    let querier = bench.querier();
    assert_eq!(bench.quoted(querier), (Some((45, true)), 46));
    bench.deliver(core, &[beat(0, 0), quote(7, 46)]);
    assert_eq!(bench.quoted(querier), (Some((46, false)), 47));
    let frames = {
        bench.ask(querier, 0);
        bench.read(querier)
    };
    let quote_frame = frames.iter().find(|f| f.kind() == Some(Kind::Quote)).unwrap();
    assert_eq!(*quote_frame, quote(7, 46), "the same bytes that core stored");
    // An older frame, sent again after a warm-up, changes nothing.
    bench.deliver(core, &[quote(7, 45)]);
    assert_eq!(bench.quoted(querier), (Some((46, false)), 47));
}

#[test]
fn core_that_is_silent_or_away_makes_quotes_stale() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(session(1, 1, 50));
    bench.deliver(
        core,
        &[definition(7, "PETR4").delivered(Flags::SNAPSHOT), beat(0, 45), quote(7, 45)],
    );
    let has_all = Heartbeat { token: U32::new(1), ..Heartbeat::default() };
    bench.deliver(core, &[Frame::seal(has_all)]);
    let querier = bench.querier();
    assert_eq!(bench.quoted(querier).0, Some((45, false)));
    bench.wait_ms(1_000);
    let probes = bench.read(core);
    let is_probe = |f: &&Frame| f.kind() == Some(Kind::Heartbeat) && f.has(Flags::MORE);
    assert_eq!(probes.iter().filter(is_probe).count(), 1, "it asks whether core is there");
    bench.wait_ms(1_499);
    assert_eq!(bench.quoted(querier).0, Some((45, false)));
    bench.wait_ms(1);
    assert_eq!(bench.quoted(querier).0, Some((45, true)), "a stopped core keeps its connection");
    bench.deliver(core, &[beat(0, 0)]);
    assert_eq!(bench.quoted(querier).0, Some((45, false)));
    bench.replica.handle_close(bench.now, core, CloseReason::Reset);
    assert_eq!(bench.quoted(querier).0, Some((45, true)));
    let (_, wanted) = bench.core(session(1, 1, 60));
    assert_eq!(wanted, 46, "it goes on by sequence");
    assert_eq!(bench.quoted(querier).0, Some((45, true)), "until core says otherwise");
}

#[test]
fn who_asks_where_it_is_hears_whether_that_is_all() {
    let mut bench = Bench::new();
    let querier = bench.querier();
    let said = |bench: &mut Bench| {
        bench.deliver(querier, &[beat(Flags::MORE, 0)]);
        let said = *bench.read(querier).last().unwrap().view::<Heartbeat>().unwrap();
        (said.next_seq.get(), said.flags.get())
    };
    let (core, _) = bench.core(session(1, 1, 1));
    bench.deliver(core, &[beat(0, 10)]);
    assert_eq!(said(&mut bench), (10, Flags::STALE), "it cannot know");
    let answer = Heartbeat { token: U32::new(1), ..Heartbeat::default() };
    bench.deliver(core, &[Frame::seal(answer)]);
    assert_eq!(said(&mut bench), (10, 0));
    bench.wait_ms(2_500);
    assert_eq!(said(&mut bench), (10, Flags::STALE));
}

#[test]
fn what_a_new_epoch_takes_back_is_asked_for_anew() {
    for (hello, wanted) in [
        (session(2, 46, 46), 46),
        (session(2, 40, 60), 0),
        (session(3, 46, 60), 0),
        (session(1, 1, 30), 0),
    ] {
        let mut bench = Bench::new();
        let (core, _) = bench.core(session(1, 1, 50));
        let frames = [definition(7, "PETR4").delivered(Flags::SNAPSHOT), beat(0, 45), quote(7, 45)];
        bench.deliver(core, &frames);
        assert_eq!(bench.core(hello).1, wanted, "{hello:?}");
    }
}

#[test]
fn a_question_for_a_cut_waits_for_the_sequence() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(session(1, 1, 50));
    bench.deliver(core, &[definition(7, "PETR4").delivered(Flags::SNAPSHOT), beat(0, 45)]);
    let querier = bench.querier();
    bench.ask(querier, 46);
    assert!(bench.read(querier).is_empty());
    bench.deliver(core, &[quote(7, 45)]);
    assert_eq!(
        std::iter::from_fn(|| bench.replica.poll_dirty()).filter(|c| *c == querier).count(),
        1
    );
    assert_eq!(bench.read(querier).last().unwrap().view::<Ended>().unwrap().as_of.get(), 46);
    bench.ask(querier, 47);
    bench.wait_ms(100);
    let end = *bench.read(querier).last().unwrap().view::<Ended>().unwrap();
    assert_eq!((end.code.get(), end.as_of.get()), (ErrorCode::Behind as u16, 46));
}

#[test]
fn what_has_no_place_is_refused() {
    let hello = |role: Role| Session { role: role as u8, ..Session::default() };
    for (hello, frame) in [
        (hello(Role::Feeder), beat(0, 0)),
        (hello(Role::Querier), quote(7, 1)),
        (session(1, 1, 50), quote(7, 45)),
    ] {
        let mut bench = Bench::new();
        let conn = bench.open(hello);
        bench.deliver(conn, &[frame]);
        let frames = bench.read(conn);
        let refusal = frames.last().unwrap().view::<Refusal>().expect("a refusal");
        assert_eq!((refusal.code.get(), refusal.id.get()), (ErrorCode::Unexpected as u16, 0));
    }
    let mut bench = Bench::new();
    let querier = bench.querier();
    let last =
        Query { id: U32::new(3), op: Op::Last as u8, symbol: padded("A"), ..Query::default() };
    bench.deliver(querier, &[Frame::seal(last)]);
    let refusal = *bench.read(querier)[0].view::<Refusal>().unwrap();
    assert_eq!((refusal.code.get(), refusal.id.get()), (ErrorCode::NotOwner as u16, 3));
}

#[test]
fn a_quote_that_may_have_been_followed_by_a_lost_one_is_stale() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(session(1, 1, 1));
    let snapshot = [definition(0, "PETR4"), quote(0, 3)].map(|f| f.delivered(Flags::SNAPSHOT));
    bench.deliver(core, &snapshot);
    bench.deliver(core, &[beat(0, 4), quote(0, 4)]);
    let asker = bench.querier();
    assert_eq!(bench.quoted(asker).0, Some((4, false)));
    // 5 to 8 rotted in core's journal, and one of them may have been of this instrument.
    bench.deliver(core, &[beat(0, 9), quote(1, 9)]);
    assert_eq!(bench.quoted(asker).0, Some((4, true)));
    bench.deliver(core, &[quote(0, 10)]);
    assert_eq!(bench.quoted(asker).0, Some((10, false)));
    // The last ones of all.
    bench.deliver(core, &[beat(0, 13)]);
    assert_eq!(bench.quoted(asker).0, Some((10, true)));
    // Core itself may not know what came behind a value.
    let (core, _) = bench.core(session(2, 2, 2));
    bench.deliver(core, &[definition(0, "PETR4").delivered(Flags::SNAPSHOT)]);
    bench.deliver(core, &[quote(0, 1).delivered(Flags::SNAPSHOT | Flags::STALE), beat(0, 2)]);
    assert_eq!(bench.quoted(asker).0, Some((1, true)));
}

#[test]
fn its_shell_wakes_it_for_the_next_probe_and_for_who_has_waited_long_enough() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(session(1, 1, 50));
    bench.deliver(core, &[definition(7, "PETR4").delivered(Flags::SNAPSHOT), beat(0, 45)]);
    let has_all = Heartbeat { token: U32::new(1), ..Heartbeat::default() };
    bench.deliver(core, &[Frame::seal(has_all)]);
    let after = |bench: &Bench, ms| Some(bench.now.mono + Duration::from_millis(ms));
    assert_eq!(bench.replica.next_deadline(), after(&bench, 1_000));
    let querier = bench.querier();
    bench.ask(querier, 46);
    assert_eq!(bench.replica.next_deadline(), after(&bench, 100));
}

/// Core, in an epoch with an identity.
fn of_feed(feed: u64, epoch: u32, epoch_start: u64, options: u16) -> Session {
    let (feed, options) = (U64::new(feed), U16::new(options));
    Session { feed, options, ..session(epoch, epoch_start, 60) }
}

/// A replica that has the frames 40 to 45 of feed 7.
fn followed() -> (Bench, ConnId) {
    let mut bench = Bench::new();
    let (core, _) = bench.core(of_feed(7, 1, 1, 0));
    bench.deliver(core, &[definition(7, "PETR4").delivered(Flags::SNAPSHOT), beat(0, 45)]);
    bench.deliver(core, &[quote(7, 45)]);
    (bench, core)
}

#[test]
fn another_sequence_is_taken_up_only_when_core_says_that_it_continues_this_one() {
    for (start, options, wanted) in [(46, Session::CONTINUES, 46), (40, Session::CONTINUES, 0)] {
        let (mut bench, old) = followed();
        bench.replica.handle_close(bench.now, old, CloseReason::Reset);
        let core = bench.open(of_feed(8, 2, start, 0));
        let answer = *bench.read(core)[0].view::<Session>().unwrap();
        assert_eq!((answer.feed.get(), answer.next_seq.get()), (7, 46), "it says where it stands");
        assert_eq!(bench.replica.seat.holder(), None, "and follows nobody");
        bench.deliver(core, &[Frame::seal(of_feed(8, 2, start, options))]);
        let answer = *bench.read(core)[0].view::<Session>().unwrap();
        assert_eq!((answer.feed.get(), answer.next_seq.get()), (8, wanted));
    }
    let (mut bench, old) = followed();
    bench.replica.handle_close(bench.now, old, CloseReason::Reset);
    let core = bench.open(of_feed(8, 2, 46, 0));
    bench.read(core);
    bench.deliver(core, &[Frame::seal(of_feed(8, 2, 46, 0))]);
    let refusal = *bench.read(core)[0].view::<Refusal>().unwrap();
    assert!(unpadded(&refusal.text).contains("not the sequence"));
    // Core itself may refuse: its reason stands in the log.
    let core = bench.open(of_feed(8, 2, 46, 0));
    let why = Refusal::new(ErrorCode::Unexpected, 0, "this journal does not continue it");
    bench.deliver(core, &[Frame::seal(why)]);
    let mut actions = std::iter::from_fn(|| bench.replica.poll_action());
    let is_told = |it: crate::node::Action| {
        matches!(it, crate::node::Action::Log(Level::Error, text)
            if text.contains("does not continue it") && text.contains("Restart this replica"))
    };
    assert!(actions.any(is_told));
}

#[test]
fn what_core_never_sent_is_forgotten_when_it_says_so() {
    let (mut bench, core) = followed();
    let querier = bench.querier();
    assert_eq!(bench.quoted(querier).0.map(|(seq, _)| seq), Some(45));
    bench.deliver(core, &[Frame::seal(Session { next_seq: U64::new(45), ..of_feed(7, 1, 1, 0) })]);
    let answers = bench.read(core);
    let answer = answers.iter().find_map(Frame::view::<Session>).expect("an answer");
    assert_eq!(answer.next_seq.get(), 0, "it begins with core's last values");
    bench.ask(querier, 0);
    let refusal = *bench.read(querier)[0].view::<Refusal>().unwrap();
    assert_eq!(refusal.code.get(), ErrorCode::UnknownSymbol as u16);
}

#[test]
fn a_core_that_gives_no_sign_of_life_is_displaced_and_told() {
    let (mut bench, old) = followed();
    bench.wait_ms(3_000);
    let hello = of_feed(7, 1, 1, 0);
    let early = bench.open(hello);
    assert!(bench.read(early)[0].view::<Refusal>().is_some(), "the old one is asked first");
    bench.wait_ms(2_000);
    let core = bench.open(hello);
    assert!(bench.read(core)[0].view::<Session>().is_some());
    let refusal = bench.read(old).pop().unwrap();
    assert_eq!(refusal.view::<Refusal>().unwrap().code.get(), ErrorCode::Silent as u16);
}

#[test]
fn questions_that_are_stopped_or_whose_connection_ends_leave_their_places() {
    let (mut bench, _) = followed();
    let querier = bench.querier();
    let stop = Query { id: U32::new(3), op: Op::Stop as u8, ..Query::default() };
    for stops in [true, false] {
        bench.ask(querier, 99);
        assert!(bench.replica.has_open(querier, 3));
        if stops {
            bench.deliver(querier, &[Frame::seal(stop)]);
            assert!(!bench.replica.has_open(querier, 3));
        } else {
            bench.replica.handle_close(bench.now, querier, CloseReason::PeerClosed);
        }
        let places = format!("{:?}", bench.replica.places);
        assert_eq!(places, format!("{:?}", QuotePlaces::default()));
    }
    assert_eq!(bench.replica.next_deadline().map(|at| at > bench.now.mono), Some(true));
}

#[test]
fn a_querier_that_does_not_read_is_not_read() {
    let (mut bench, _) = followed();
    let querier = bench.querier();
    assert!(bench.replica.wants_bytes(querier));
    let ask = |bench: &mut Bench| bench.ask(querier, 0);
    for _ in 0..2_000 {
        ask(&mut bench);
        let head = bench.replica.outgoing(bench.now, querier).head.len();
        if head >= limits::OUTBOX_BYTES_MAX / 2 {
            break;
        }
        bench.replica.refill(bench.now, querier);
    }
    assert!(!bench.replica.wants_bytes(querier));
    bench.read(querier);
    assert!(bench.replica.wants_bytes(querier));
}

#[test]
fn its_status_says_what_it_holds_and_whose_it_is() {
    let (mut bench, core) = followed();
    let has_all = Heartbeat { token: U32::new(1), ..Heartbeat::default() };
    bench.deliver(core, &[Frame::seal(has_all), quote(7, 45)]);
    bench.deliver(core, &[beat(0, 50)]);
    bench.wait_ms(7);
    let expected = [
        "role core.1",
        "quotes live",
        "epoch_id 0000000000000007",
        "behind_ms 7",
        "publisher_up 1",
        "epoch 1",
        "next_seq 50",
        "instruments 1",
        "frames 2",
        "duplicates 1",
        "holes 1",
        "connections 1",
        "refused 0",
        "local_faults 0",
    ];
    assert_eq!(bench.replica.status(bench.now).told(), expected);
}

#[test]
fn who_finds_no_descriptor_is_told_and_a_fault_of_this_machine_is_counted() {
    let mut bench = Bench::new();
    let conn = ConnId { generation: 9, slot: 9 };
    bench.replica.handle_open(bench.now, conn, Origin::Surplus(crate::node::ListenerId(0)));
    let refusal = *bench.read(conn)[0].view::<Refusal>().unwrap();
    assert_eq!(refusal.code.get(), ErrorCode::Limit as u16);
    let closes = |it: crate::node::Action| it == crate::node::Action::Close(conn);
    assert!(std::iter::from_fn(|| bench.replica.poll_action()).any(closes));
    bench.replica.handle_local_fault(bench.now, crate::node::LocalFault::ProcessDescriptors);
    assert_eq!(bench.replica.connections.local_faults(), 1);
}
