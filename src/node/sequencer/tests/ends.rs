//! The end of the exchange's feed: neither a live feed nor a sick one.

use super::*;
use crate::wire::FeedStatus;

fn end(next_seq: u64) -> Frame {
    let (flags, next_seq) = (U16::new(Flags::ENDED), U64::new(next_seq));
    Frame::seal(Heartbeat { flags, next_seq, ..Heartbeat::default() })
}

/// How core flags the quote of PETR4.
fn quoted(bench: &mut Bench) -> u16 {
    let conn = bench.querier();
    bench.deliver(conn, &[ask(1, Op::Quote, "PETR4", 0, 0, 0)]);
    let frames = bench.read(conn);
    let quote = frames.iter().find(|frame| frame.kind() == Some(Kind::Quote)).unwrap();
    quote.flags.get() & Flags::DELIVERY
}

/// What core last said to the broker of its last values.
fn reported(bench: &mut Bench, broker: ConnId) -> Option<FeedStatus> {
    let frames = bench.read(broker);
    let beats = frames.iter().filter_map(Frame::view::<Heartbeat>);
    let mut beats = beats.filter(|beat| beat.flags.get() & Flags::MORE == 0);
    beats.next_back().map(|beat| FeedStatus::of(beat.flags.get()))
}

#[test]
fn a_feed_that_has_ended_is_told_as_ended_until_the_exchange_is_away() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let (broker, _) = bench.follower(1, 0);
    bench.turn();
    assert_eq!(reported(&mut bench, broker), Some(FeedStatus::Current));
    assert_eq!(quoted(&mut bench), 0);
    bench.deliver(exchange, &[end(4)]);
    assert_eq!(reported(&mut bench, broker), Some(FeedStatus::Ended));
    assert_eq!(quoted(&mut bench), Flags::ENDED);
    let logged = |action: &Action| matches!(action, Action::Log(Level::Info, text) if text.contains("has ended"));
    assert_eq!(bench.actions.iter().filter(|it| logged(it)).count(), 1, "{:?}", bench.actions);
    bench.deliver(exchange, &[end(4)]);
    assert_eq!(bench.actions.iter().filter(|it| logged(it)).count(), 1, "it is logged once");
    // Whoever plays it has died: nobody knows any more whether it goes on.
    bench.close(exchange, CloseReason::Reset);
    assert_eq!(reported(&mut bench, broker), Some(FeedStatus::Stale));
    assert_eq!(quoted(&mut bench), Flags::STALE);
}

#[test]
fn an_end_ahead_of_what_is_missing_does_not_count_before_all_is_here() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), end(5)]);
    assert_eq!(quoted(&mut bench), Flags::STALE, "frame 4 is missing");
    let asked = resumes(&bench.read(exchange));
    assert_eq!(asked.len(), 1);
    bench.deliver(exchange, &[beat(asked[0].0, 4), quote(4, 0), end(5)]);
    assert_eq!(quoted(&mut bench), Flags::ENDED);
}

#[test]
fn another_feed_goes_on_after_the_end_of_the_first() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), end(4)]);
    assert_eq!(quoted(&mut bench), Flags::ENDED);
    bench.close(exchange, CloseReason::Reset);
    bench.exchange(FEED + 2, 1, &[ahead(0, "PETR4")]);
    assert_eq!(quoted(&mut bench), 0);
}
