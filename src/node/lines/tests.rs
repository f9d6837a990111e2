//! The node as a machine: core and the programs that write are played by hand.

use std::net::SocketAddr;

use super::*;
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    Ack, Definition, Flags, Heartbeat, Query, Refusal, Role, SnapshotEnd, Trade, U32, as_frames,
};

const MS: u64 = 1_000_000;

struct Bench {
    node: Lines,
    now: Now,
    next_slot: u32,
    actions: Vec<Action>,
}

impl Bench {
    fn new() -> Bench {
        let config = LinesConfig::new("own", SocketAddr::from(([127, 0, 0, 1], 1)), 1);
        let now = Now { mono: Mono(1_000 * MS), wall_ns: 77 };
        let node = Lines::new(config).unwrap();
        let mut bench = Bench { node, now, next_slot: 0, actions: Vec::new() };
        bench.turn();
        bench
    }

    fn turn(&mut self) {
        self.node.handle_mail(self.now);
        self.node.handle_timers(self.now);
        self.node.commit(self.now);
        self.actions.extend(std::iter::from_fn(|| self.node.poll_action()));
    }

    fn sleep_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
        self.turn();
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.node.handle_open(self.now, conn, origin);
        conn
    }

    /// What a connection is sent.
    fn read(&mut self, conn: ConnId) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            let head = self.node.outgoing(self.now, conn).head.to_vec();
            if head.is_empty() {
                return read;
            }
            read.extend_from_slice(&head);
            self.node.handle_sent(self.now, conn, head.len());
        }
    }

    fn frames(&mut self, conn: ConnId) -> Vec<Frame> {
        as_frames(&self.read(conn)).0.to_vec()
    }

    /// Core was dialed, and wants this number next. What it was offered.
    fn core(&mut self, next_seq: u64) -> (ConnId, Session) {
        self.core_with_room(next_seq, 1_000)
    }

    /// The same, and it takes so many instruments.
    fn core_with_room(&mut self, next_seq: u64, room: u32) -> (ConnId, Session) {
        let is_dial = |action: &Action| matches!(action, Action::Dial { .. });
        while !self.actions.iter().any(is_dial) {
            self.sleep_ms(10);
        }
        self.actions.retain(|action| !is_dial(action));
        let conn = self.open(Origin::Dialed(DialId(0)));
        let offer = *self.frames(conn)[0].view::<Session>().unwrap();
        let (next_seq, durable_seq) = (U64::new(next_seq), U64::new(1));
        let answer = Session { next_seq, durable_seq, feed: offer.feed, ..Session::default() };
        let end = SnapshotEnd { id: U32::new(room), ..SnapshotEnd::default() };
        self.say(conn, &[Frame::seal(answer), Frame::seal(end)]);
        (conn, offer)
    }

    fn say(&mut self, conn: ConnId, frames: &[Frame]) {
        self.node.handle_frames(self.now, conn, frames);
        self.turn();
    }

    /// A program that writes.
    fn writer(&mut self, text: &str) -> ConnId {
        let conn = self.open(Origin::LOCAL);
        self.write(conn, text);
        conn
    }

    /// How many bytes were not consumed.
    fn write(&mut self, conn: ConnId, text: &str) -> usize {
        let consumed = self.node.handle_bytes(self.now, conn, text.as_bytes());
        self.turn();
        text.len() - consumed
    }

    fn told(&mut self) -> Vec<String> {
        let line = |action: &Action| match action {
            Action::Log(_, text) => Some(text.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(line).collect()
    }
}

fn line(id: u64) -> String {
    format!("trades,symbol=GOLD price=2650.5,qty=0.5,id={id} 5\n")
}

fn ids(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter_map(Frame::view::<Trade>).map(|trade| trade.trade_id.get()).collect()
}

fn ack(durable: u64) -> Frame {
    let (accepted_seq, durable_seq) = (U64::new(durable), U64::new(durable));
    Frame::seal(Ack { accepted_seq, durable_seq, ..Ack::default() })
}

#[test]
fn lines_of_several_programs_become_one_feed_with_their_units() {
    let mut bench = Bench::new();
    let (core, offer) = bench.core(1);
    assert_eq!((offer.role, unpadded_name(&offer)), (Role::Producer as u8, "own".to_owned()));
    assert!(offer.has(Session::APPENDS));
    let one = bench.writer(&line(1));
    bench.writer(&format!("{}{}", line(2), "quotes,symbol=IRON bid=1,bid_qty=2 \n"));
    assert_eq!(bench.write(one, &format!("{}trades,sym", line(3))), "trades,sym".len());
    let frames = bench.frames(core);
    assert_eq!(ids(&frames), [1, 2, 3]);
    let definitions: Vec<_> = frames.iter().filter_map(Frame::view::<Definition>).collect();
    let units: Vec<_> = definitions.iter().map(|it| it.decimals().quantity).collect();
    assert_eq!(units, [8, 8]);
    let quote = frames.iter().find(|it| it.view::<crate::wire::Quote>().is_some()).unwrap();
    assert_eq!(quote.ts_event.get(), 77, "a line without a time has that of its receipt");
    let numbers: Vec<u64> =
        frames.iter().filter(|it| it.has_exchange()).map(|it| it.seq.get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

fn unpadded_name(session: &Session) -> String {
    crate::wire::unpadded(&session.name)
}

#[test]
fn a_wrong_line_is_answered_by_its_number_and_harms_no_other() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1);
    let bad = bench.writer(&format!("{}nonsense\n{}", line(1), line(2)));
    let good = bench.writer(&line(3));
    assert_eq!(ids(&bench.frames(core)), [1, 2, 3]);
    let answer = String::from_utf8(bench.read(bad)).unwrap();
    assert!(answer.starts_with("error: line 2: "), "{answer}");
    assert!(bench.read(good).is_empty());
    let finer = "trades,symbol=GOLD price=1,qty=0.1234567891 5\n";
    bench.write(good, finer);
    let answer = String::from_utf8(bench.read(good)).unwrap();
    assert_eq!(
        answer,
        "error: line 2: 0.1234567891 of GOLD does not fit 64 bits in units of 8 decimals\n"
    );
    // Who reads no answers costs no more than the bound, and the log is not flooded.
    for _ in 0..1_000 {
        bench.write(bad, "nonsense\n");
    }
    assert!(bench.read(bad).len() <= limits::LINE_ANSWERS_BYTES_MAX);
    assert!(bench.told().iter().filter(|it| it.starts_with("a wrong line")).count() < 10);
    bench.node.handle_close(bench.now, bad, CloseReason::MidMessage);
    bench.turn();
    let told = bench.told();
    assert!(told.iter().any(|it| it.contains("inside of line 1004")), "{told:?}");
    assert!(told.iter().any(|it| it.contains("further wrong lines: 996")), "{told:?}");
}

#[test]
fn while_core_is_away_or_has_acknowledged_too_little_writers_wait_and_nothing_is_lost() {
    let mut bench = Bench::new();
    let early = bench.writer(&line(1));
    assert!(!bench.node.wants_bytes(early), "there is nobody to take it");
    let (core, _) = bench.core(1);
    bench.turn();
    assert!(bench.node.wants_bytes(early));
    assert_eq!(ids(&bench.frames(core)), [1]);
    let window = crate::limits::PRODUCER_WINDOW_FRAMES as u64;
    let mut next = 2;
    while next <= window + 100 {
        let text: String = (next..next + 1_000).map(line).collect();
        next += 1_000;
        assert_eq!(bench.write(early, &text), 0);
        if !bench.node.wants_bytes(early) {
            break;
        }
    }
    let mut seen = ids(&bench.frames(core));
    assert_eq!(seen.len() as u64, window - 1);
    assert!(!bench.node.wants_bytes(early));
    bench.say(core, &[ack(1_001)]);
    seen.extend(ids(&bench.frames(core)));
    assert!(bench.node.wants_bytes(early));
    assert!(seen.iter().copied().eq(2..next), "each line once, in order");
}

#[test]
fn a_connection_that_begins_with_a_frame_is_a_peer_as_at_any_node() {
    let mut bench = Bench::new();
    let conn = bench.open(Origin::LOCAL);
    let hello = Frame::seal(Session { role: Role::Querier as u8, ..Session::default() });
    let bytes = zerocopy::IntoBytes::as_bytes(&hello).to_vec();
    // It cannot be known by one byte.
    assert_eq!(bench.node.handle_bytes(bench.now, conn, &bytes[..1]), 0);
    assert_eq!(bench.node.handle_bytes(bench.now, conn, &bytes), 64);
    assert!(bench.frames(conn)[0].view::<Session>().is_some());
    let query = Query { id: U32::new(1), op: crate::wire::Op::Status as u8, ..Query::default() };
    bench.say(conn, &[Frame::seal(query)]);
    assert!(bench.frames(conn).len() > 5);
    let producer = Session { role: Role::Producer as u8, ..Session::default() };
    let other = bench.open(Origin::LOCAL);
    bench.say(other, &[Frame::seal(producer)]);
    assert!(bench.frames(other)[0].view::<Refusal>().is_some());
}

#[test]
fn what_core_lacks_is_sent_again_and_what_it_had_forgotten_begins_another_feed() {
    let mut bench = Bench::new();
    let (core, first) = bench.core(1);
    let text: String = (1..=4).map(line).collect();
    bench.writer(&text);
    bench.frames(core);
    bench.say(core, &[ack(3)]);
    bench.node.handle_close(bench.now, core, CloseReason::Reset);
    let (core, again) = bench.core(4);
    assert_eq!((again.feed, again.next_seq.get()), (first.feed, 3));
    assert_eq!(ids(&bench.frames(core)), [4]);
    bench.node.handle_close(bench.now, core, CloseReason::Reset);
    // Its journal was put back from a copy.
    let (core, _) = bench.core(2);
    assert!(bench.actions.contains(&Action::Close(core)));
    bench.node.handle_close(bench.now, core, CloseReason::Ours);
    let (_, anew) = bench.core(2);
    assert!(anew.feed != first.feed && anew.next_seq.get() == 2);
    let told = bench.told();
    assert!(told.iter().any(|it| it.contains("events that core may not have: 2")), "{told:?}");
}

#[test]
fn too_many_connections_and_silent_ones_are_refused_and_the_others_stay() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1);
    let writers: Vec<ConnId> =
        (0..limits::LINE_CONNECTIONS_MAX).map(|_| bench.writer(&line(1))).collect();
    bench.frames(core);
    let more = bench.writer(&line(2));
    assert!(bench.read(more).starts_with(b"error: too many connections"));
    assert!(bench.actions.contains(&Action::Close(more)));
    bench.node.handle_close(bench.now, more, CloseReason::Ours);
    bench.write(writers[0], &line(3));
    assert_eq!(ids(&bench.frames(core)), [3]);
    let silent: Vec<ConnId> =
        (0..=limits::LINE_CONNECTIONS_MAX).map(|_| bench.open(Origin::LOCAL)).collect();
    bench.turn();
    assert!(bench.actions.contains(&Action::Close(silent[0])), "it has said nothing for longest");
    assert!(!bench.actions.contains(&Action::Close(silent[1])));
}

#[test]
fn a_node_that_stops_lets_core_acknowledge_what_it_has() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1);
    let writer = bench.writer(&line(1));
    bench.node.handle_stop(bench.now);
    bench.turn();
    assert!(!bench.node.is_stopped() && !bench.node.wants_bytes(writer));
    assert_eq!(ids(&bench.frames(core)), [1]);
    bench.say(core, &[ack(2)]);
    assert!(bench.node.is_stopped());
    // It does not wait for ever.
    let mut bench = Bench::new();
    bench.core(1);
    bench.writer(&line(1));
    bench.node.handle_stop(bench.now);
    bench.turn();
    bench.sleep_ms(2_000);
    assert!(bench.node.is_stopped());
}

#[test]
fn a_line_without_an_end_is_answered_and_the_next_one_is_taken() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1);
    let writer = bench.writer(&line(1));
    let endless = "x".repeat(limits::LINE_BYTES_MAX);
    assert_eq!(bench.write(writer, &endless[1..]), limits::LINE_BYTES_MAX - 1, "it may still end");
    assert_eq!(bench.write(writer, &endless), 0);
    assert_eq!(bench.write(writer, &endless), 0);
    assert_eq!(bench.write(writer, &format!("xx\n{}", line(2))), 0);
    let answer = String::from_utf8(bench.read(writer)).unwrap();
    assert!(answer.starts_with("error: line 2: ") && answer.lines().count() == 1, "{answer}");
    assert_eq!(ids(&bench.frames(core)), [1, 2]);
    bench.node.handle_close(bench.now, writer, CloseReason::Reset);
    bench.turn();
    assert!(bench.told().iter().any(|it| it.contains("reset behind line 3")), "{:?}", bench.told());
}

#[test]
fn an_instrument_too_many_costs_its_own_line_only() {
    let mut bench = Bench::new();
    let (core, _) = bench.core_with_room(1, 2);
    let text = "trades,symbol=A price=1,qty=1,id=1 5\ntrades,symbol=B price=1,qty=1,id=2 5\n\
                trades,symbol=C price=1,qty=1,id=3 5\ntrades,symbol=A price=1,qty=1,id=4 5\n";
    let writer = bench.writer(text);
    assert_eq!(ids(&bench.frames(core)), [1, 2, 4]);
    let answer = String::from_utf8(bench.read(writer)).unwrap();
    assert!(
        answer.starts_with("error: line 3: core has no room for a further instrument"),
        "{answer}"
    );
}

#[test]
fn what_core_asks_is_answered() {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1);
    bench.writer(&line(1));
    bench.frames(core);
    let flags = crate::wire::U16::new(Flags::MORE);
    let ask = Frame::seal(Heartbeat { flags, token: U32::new(5), ..Heartbeat::default() });
    bench.say(core, &[ask]);
    let frames = bench.frames(core);
    let beat = frames[0].view::<Heartbeat>().unwrap();
    assert_eq!((beat.token.get(), beat.next_seq.get()), (5, 2));
}
