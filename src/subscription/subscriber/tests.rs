use std::time::Duration;

use super::*;
use crate::feed::Pattern;
use crate::wire::{GapReason, Query, SnapshotEnd, Subscribe, Trade, as_frames};

/// A subscriber in virtual time, and what it does and says.
struct Bench {
    now: Now,
    subscriber: Subscriber,
}

impl Bench {
    fn new(from_seq: u64, seed: u64) -> Bench {
        let from_seq = Seq::new(from_seq);
        let request = Request { from_seq, ..Request::market(vec![Pattern::new("*", 0).unwrap()]) };
        let now = Now { mono: Mono(1_000_000_000), wall_ns: 7 };
        Bench { now, subscriber: Subscriber::new(request, seed) }
    }

    /// Connected, greeted and confirmed, with nothing left to say.
    fn connected(from_seq: u64) -> Bench {
        let mut bench = Bench::new(from_seq, 1);
        assert_eq!(bench.timers(), [Action::Connect(Upstream::Broker)]);
        bench.greet();
        bench.sent(Upstream::Broker);
        bench
    }

    fn greet(&mut self) {
        self.subscriber.handle_connected(self.now, Upstream::Broker);
        self.receive(Upstream::Broker, Session::default());
        self.receive(Upstream::Broker, Subscribed { epoch: U32::new(1), ..Subscribed::default() });
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
    }

    fn timers(&mut self) -> Vec<Action> {
        self.subscriber.handle_timers(self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.subscriber.poll_action()).collect()
    }

    fn receive<M: Message>(&mut self, upstream: Upstream, message: M) -> Vec<Event> {
        let heard = self.subscriber.handle_frame(self.now, upstream, &Frame::seal(message));
        assert!(heard.is_ok());
        std::iter::from_fn(|| self.subscriber.poll_event()).collect()
    }

    /// What it has to say to this peer, now said.
    fn sent(&mut self, upstream: Upstream) -> Vec<Frame> {
        let frames = as_frames(self.subscriber.outgoing(upstream)).0.to_vec();
        self.subscriber.handle_sent(upstream, frames.len() * crate::wire::FRAME_BYTES);
        assert!(self.subscriber.outgoing(upstream).is_empty());
        frames
    }

    /// Sleeps until the subscriber has something to do.
    fn sleep(&mut self) {
        let deadline = self.subscriber.deadline().unwrap();
        assert!(deadline > self.now.mono, "it is late");
        self.now.mono = deadline;
    }
}

fn trade(seq: u64) -> Trade {
    Trade { seq: U64::new(seq), instrument: U32::new(1), ..Trade::default() }
}

fn beat(next_seq: u64) -> Heartbeat {
    Heartbeat { next_seq: U64::new(next_seq), ..Heartbeat::default() }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    let data = events.iter().filter_map(|event| match event {
        Event::Data(frame) => Some(frame.seq.get()),
        _ => None,
    });
    data.collect()
}

#[test]
fn a_broker_that_falls_silent_is_asked_and_left_after_45_seconds() {
    let mut bench = Bench::connected(1);
    let begun = bench.now.mono;
    for asked_after in [15, 30] {
        bench.sleep();
        assert_eq!(bench.now.mono.since(begun), Duration::from_secs(asked_after));
        assert_eq!(bench.timers(), []);
        let sent = bench.sent(Upstream::Broker);
        let beat = sent[0].view::<Heartbeat>().unwrap();
        assert!(
            beat.flags.get() & Flags::MORE != 0 && beat.token != U32::ZERO,
            "an answer is wanted"
        );
        assert_eq!((sent.len(), beat.next_seq.get()), (1, 1), "it says what it expects");
    }
    bench.sleep();
    assert_eq!(bench.now.mono.since(begun), Duration::from_secs(45));
    assert_eq!(bench.timers(), [Action::Disconnect(Upstream::Broker)]);
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Broker)]);
    assert!(bench.now.mono.since(begun) <= Duration::from_millis(45_500));
}

#[test]
fn who_only_listens_shows_life_and_its_place() {
    let mut bench = Bench::connected(1);
    let mut sent = Vec::new();
    for seq in 1..=60 {
        bench.pass(Duration::from_secs(1));
        assert_eq!(seqs(&bench.receive(Upstream::Broker, trade(seq))), [seq]);
        assert_eq!(bench.timers(), []);
        sent.extend(bench.sent(Upstream::Broker));
    }
    let places: Vec<u64> =
        sent.iter().map(|frame| frame.view::<Heartbeat>().unwrap().next_seq.get()).collect();
    assert_eq!(places, [16, 31, 46, 61], "the broker closes who says nothing for 45 s");
}

#[test]
fn a_heartbeat_is_answered_with_its_token_and_our_place() {
    let mut bench = Bench::connected(5);
    let flags = U16::new(Flags::MORE);
    bench.receive(Upstream::Broker, Heartbeat { flags, token: U32::new(9), ..beat(5) });
    let sent = bench.sent(Upstream::Broker);
    let answer = sent[0].view::<Heartbeat>().unwrap();
    assert_eq!((answer.flags.get(), answer.token.get(), answer.next_seq.get()), (0, 9, 5));
    bench.receive(Upstream::Broker, beat(5));
    assert!(bench.sent(Upstream::Broker).is_empty(), "an answer to an answer would never end");
}

#[test]
fn a_tail_that_never_came_is_fetched_and_nothing_overtakes_it() {
    let mut bench = Bench::connected(1);
    bench.receive(Upstream::Broker, trade(1));
    assert!(bench.receive(Upstream::Broker, beat(4)).is_empty());
    assert!(!bench.subscriber.wants_frames(Upstream::Broker), "newer frames must wait");
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Core)]);
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    let sent = bench.sent(Upstream::Core);
    let query = sent[1].view::<Query>().unwrap();
    assert_eq!((query.from.get(), query.to.get()), (2, 4));
    bench.receive(Upstream::Core, Session::default());
    assert_eq!(seqs(&bench.receive(Upstream::Core, trade(2))), [2]);
    // Core dies in the middle: the rest is asked of it when it is back.
    bench.subscriber.handle_disconnected(bench.now, Upstream::Core);
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Core)]);
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    let sent = bench.sent(Upstream::Core);
    let query = sent[1].view::<Query>().unwrap();
    assert_eq!((query.from.get(), query.to.get()), (3, 4));
    assert_eq!(seqs(&bench.receive(Upstream::Core, trade(3))), [3]);
    let end = Ended { covered_from: U64::new(1), ..Ended::default() };
    assert!(bench.receive(Upstream::Core, end).is_empty(), "nothing is lost");
    assert_eq!(bench.actions(), [Action::Disconnect(Upstream::Core)]);
    assert!(bench.subscriber.wants_frames(Upstream::Broker));
    assert_eq!(seqs(&bench.receive(Upstream::Broker, trade(4))), [4]);
}

#[test]
fn a_broker_that_nobody_reads_is_not_dead() {
    let mut bench = Bench::connected(1);
    bench.receive(Upstream::Broker, beat(1000));
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Core)]);
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    // History takes a minute.
    for seq in 1..=60 {
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.timers(), []);
        bench.receive(Upstream::Core, trade(seq));
    }
    let sent = bench.sent(Upstream::Broker).len();
    assert_eq!(sent, 4, "and it hears of us meanwhile");
    bench.receive(Upstream::Core, Ended { covered_from: U64::new(1), ..Ended::default() });
    assert_eq!(bench.actions(), [Action::Disconnect(Upstream::Core)]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.timers(), []);
}

#[test]
fn a_core_that_accepts_and_says_nothing_is_tried_again() {
    let mut bench = Bench::connected(1);
    bench.receive(Upstream::Broker, beat(3));
    bench.timers();
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    let asked = bench.now.mono;
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Disconnect(Upstream::Core)]);
    assert_eq!(bench.now.mono.since(asked), limits::CLIENT_CONNECT_MAX);
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Core)]);
}

#[test]
fn a_break_is_mended_from_the_next_frame_on() {
    let mut bench = Bench::connected(0);
    let end = SnapshotEnd { next_seq: U64::new(8), ..SnapshotEnd::default() };
    assert_eq!(
        bench.receive(Upstream::Broker, end),
        [Event::Live { next_seq: Seq::new(8).unwrap() }]
    );
    bench.receive(Upstream::Broker, trade(8));
    bench.subscriber.handle_disconnected(bench.now, Upstream::Broker);
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Broker)]);
    bench.subscriber.handle_connected(bench.now, Upstream::Broker);
    let sent = bench.sent(Upstream::Broker);
    assert_eq!(sent[1].view::<Subscribe>().unwrap().from_seq.get(), 9);
}

#[test]
#[cfg_attr(miri, ignore = "five thousand of them")]
fn thousands_that_lose_the_broker_do_not_come_back_together() {
    let lost_at = Bench::new(0, 0).now.mono;
    let mut benches: Vec<Bench> = (0..5000).map(|seed| Bench::new(1, seed)).collect();
    for bench in &mut benches {
        bench.timers();
        bench.greet();
        bench.subscriber.handle_disconnected(bench.now, Upstream::Broker);
    }
    let bucket_ms = 10;
    let most_at_once = |waits: &[u64]| {
        let bucket = |i: u64| waits.iter().filter(|&&w| w / bucket_ms == i).count();
        (0..300).map(bucket).max().unwrap()
    };
    // The broker stays away for five seconds.
    for round in 0..20 {
        let mut waits: Vec<u64> = Vec::new();
        for bench in &mut benches {
            if bench.now.mono.since(lost_at) > Duration::from_secs(5) {
                continue;
            }
            let before = bench.now.mono;
            bench.sleep();
            waits.push(u64::try_from(bench.now.mono.since(before).as_millis()).unwrap());
            assert_eq!(bench.timers(), [Action::Connect(Upstream::Broker)]);
            bench.subscriber.handle_disconnected(bench.now, Upstream::Broker);
        }
        assert!(most_at_once(&waits) < 200, "round {round}: {}", most_at_once(&waits));
    }
    // It is back: so are all of them soon.
    for bench in &mut benches {
        let left_alone = bench.subscriber.deadline().unwrap().since(bench.now.mono);
        assert!(left_alone <= limits::RECONNECT_WAIT_MAX, "{left_alone:?}");
    }
}

#[test]
fn a_refusal_that_will_not_pass_ends_it() {
    let mut bench = Bench::connected(1);
    let refusal = Refusal::new(ErrorCode::Stopping, 0, "the broker stops");
    let sent = bench.subscriber.handle_frame(bench.now, Upstream::Broker, &Frame::seal(refusal));
    assert!(sent.is_ok(), "it will be back");
    bench.actions();
    bench.sleep();
    bench.timers();
    bench.subscriber.handle_connected(bench.now, Upstream::Broker);
    let refusal = Refusal::new(ErrorCode::BadPattern, 0, "no");
    let sent = bench.subscriber.handle_frame(bench.now, Upstream::Broker, &Frame::seal(refusal));
    assert!(sent.is_err() && bench.subscriber.is_over());
    assert_eq!(bench.actions(), [Action::Disconnect(Upstream::Broker)]);
    assert_eq!(bench.subscriber.deadline(), None);
}

#[test]
fn a_gap_of_history_is_reported_in_its_place() {
    let mut bench = Bench::connected(1);
    bench.receive(Upstream::Broker, beat(10));
    bench.timers();
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    bench.receive(Upstream::Core, trade(1));
    let rot = Gap {
        reason: GapReason::Corrupt as u8,
        from_seq: U64::new(2),
        to_seq: U64::new(5),
        ..Gap::default()
    };
    let reported = bench.receive(Upstream::Core, rot);
    let is_reported = matches!(reported[..], [Event::Lost { from_seq: 2, to_seq: 5, .. }]);
    assert!(is_reported, "{reported:?}");
    assert_eq!(seqs(&bench.receive(Upstream::Core, trade(6))), [6]);
}

#[test]
fn a_core_in_a_later_epoch_than_the_broker_sends_us_back_to_the_broker() {
    let mut bench = Bench::connected(1);
    bench.receive(Upstream::Broker, beat(20));
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Core)]);
    bench.subscriber.handle_connected(bench.now, Upstream::Core);
    let (epoch, epoch_start) = (U32::new(2), U64::new(10));
    let events =
        bench.receive(Upstream::Core, Session { epoch, epoch_start, ..Session::default() });
    assert!(events.is_empty(), "nothing is lost: {events:?}");
    let left = [Action::Disconnect(Upstream::Broker), Action::Disconnect(Upstream::Core)];
    assert_eq!(bench.actions(), left);
    bench.sleep();
    assert_eq!(bench.timers(), [Action::Connect(Upstream::Broker)]);
}
