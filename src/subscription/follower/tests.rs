use super::*;
use crate::wire::{Definition, Quote, Trade, U16, U32, U64};

fn follower(pattern: &str, kinds: u16, from_seq: u64) -> Follower {
    let patterns = vec![Pattern::new(pattern, kinds).unwrap()];
    let mut follower = Follower::new(Request {
        source: Request::MARKET,
        patterns,
        mode: Mode::Lossless,
        conflate_ms: 0,
        from_seq: Seq::new(from_seq),
    });
    for (index, name) in [(1, "PETR4"), (2, "$sys.breaker")] {
        let definition = Definition::new(U32::new(index).into(), name.parse().unwrap(), 2);
        follower.handle_broker_frame(&Frame::seal(definition).delivered(Flags::SNAPSHOT));
    }
    reported(&mut follower);
    follower
}

/// What the follower has to say.
fn reported(follower: &mut Follower) -> Vec<Event> {
    std::iter::from_fn(|| follower.poll_event()).collect()
}

fn broker_from(from_seq: u64) -> NextRead {
    NextRead::Broker { from_seq: Seq::new(from_seq) }
}

fn history_of(from_seq: u64, to_seq: u64) -> NextRead {
    NextRead::History { from_seq: Seq::new(from_seq).unwrap(), to_seq: Seq::new(to_seq).unwrap() }
}

fn live(next_seq: u64) -> Event {
    Event::Live { next_seq: Seq::new(next_seq).unwrap() }
}

fn broker(follower: &mut Follower, frame: &Frame) -> Vec<Event> {
    follower.handle_broker_frame(frame);
    reported(follower)
}

fn history(follower: &mut Follower, frame: &Frame) -> Vec<Event> {
    follower.handle_history_frame(frame);
    reported(follower)
}

fn history_end(follower: &mut Follower, first_held: u64) -> Vec<Event> {
    let covered_from = U64::new(first_held);
    follower.handle_history_end(&Ended { covered_from, ..Ended::default() });
    reported(follower)
}

fn trade(seq: u64, index: u32) -> Frame {
    let (seq, instrument) = (U64::new(seq), U32::new(index));
    Frame::seal(Trade { seq, instrument, ..Trade::default() })
}

/// A trade with its place among those of its instrument.
fn numbered(seq: u64, index: u32, instrument_seq: u32) -> Frame {
    let (seq, instrument) = (U64::new(seq), U32::new(index));
    let instrument_seq = U32::new(instrument_seq);
    Frame::seal(Trade { seq, instrument, instrument_seq, ..Trade::default() })
}

/// A frame of a sequence that has nothing but the trades of one instrument.
fn every(seq: u64) -> Frame {
    numbered(seq, 1, u32::try_from(seq).unwrap())
}

fn beat(next_seq: u64) -> Frame {
    Frame::seal(Heartbeat { next_seq: U64::new(next_seq), ..Heartbeat::default() })
}

fn snapshot_end(next_seq: u64) -> Frame {
    Frame::seal(SnapshotEnd { next_seq: U64::new(next_seq), ..SnapshotEnd::default() })
}

fn part(reason: GapReason, (from_seq, to_seq): (u64, u64), instrument: u32, missed: u64) -> Event {
    let (instrument, missed) = (Some(U32::new(instrument).into()), Some(missed));
    Event::Lost { reason, from_seq, to_seq, instrument, missed }
}

fn subscribed(epoch: u32, epoch_start: u64, next_seq: u64) -> Frame {
    Frame::seal(Subscribed {
        epoch: U32::new(epoch),
        epoch_start: U64::new(epoch_start),
        next_seq: U64::new(next_seq),
        ..Subscribed::default()
    })
}

fn gap(reason: GapReason, from_seq: u64, to_seq: u64) -> Frame {
    counted_gap(reason, from_seq, to_seq, u64::MAX)
}

fn counted_gap(reason: GapReason, from_seq: u64, to_seq: u64, missed: u64) -> Frame {
    let (from_seq, to_seq, missed) = (U64::new(from_seq), U64::new(to_seq), U64::new(missed));
    Frame::seal(Gap { reason: reason as u8, from_seq, to_seq, missed, ..Gap::default() })
}

#[test]
fn a_gap_is_filled_from_history_before_the_feed_goes_on() {
    let mut follower = follower("*", 0, 1);
    assert!(broker(&mut follower, &gap(GapReason::BeforeRing, 1, 9)).is_empty());
    assert_eq!(follower.next_read(), history_of(1, 10));
    for seq in 1..10 {
        assert!(!history(&mut follower, &trade(seq, 1)).is_empty());
    }
    assert!(history(&mut follower, &trade(10, 1)).is_empty(), "that one the broker has");
    assert_eq!(history_end(&mut follower, 1), []);
    assert_eq!(follower.next_read(), broker_from(10));
    assert_eq!(broker(&mut follower, &trade(10, 1)), [Event::Data(trade(10, 1))]);
}

#[test]
fn cores_journal_is_not_asked_for_the_frames_of_another_source() {
    let mut follower = follower("*", 0, 1);
    follower.request.source = 4;
    assert_eq!(broker(&mut follower, &every(1)), [Event::Data(every(1))]);
    for (reason, from, to) in [(GapReason::SourceLost, 2, 4), (GapReason::Lapped, 5, 9)] {
        let told = broker(&mut follower, &gap(reason, from, to));
        assert_eq!(
            told,
            [lost(reason, from, to, None)],
            "the broker of an older program says more"
        );
        assert_eq!(follower.next_read(), broker_from(to + 1));
    }
    let missed = part(GapReason::Lapped, (2, 9), 1, 8);
    assert_eq!(broker(&mut follower, &every(10)), [missed, Event::Data(every(10))]);
    let missed = part(GapReason::SourceLost, (11, 11), 1, 1);
    assert_eq!(broker(&mut follower, &every(12)), [missed, Event::Data(every(12))]);
    broker(&mut follower, &beat(20));
    assert_eq!(follower.next_read(), broker_from(20));
}

#[test]
fn what_history_does_not_have_is_announced() {
    let mut follower = follower("*", 0, 1);
    follower.handle_broker_frame(&gap(GapReason::BeforeRing, 1, 9));
    let lost = lost(GapReason::SourceLost, 1, 4, None);
    assert_eq!(history_end(&mut follower, 5), [lost]);
    assert_eq!(follower.next_seq(), Seq::new(10));
}

#[test]
fn values_behind_what_was_skipped_are_delivered() {
    for mode in [Mode::Conflate, Mode::Latest] {
        let mut follower = follower("*", 0, 0);
        follower.request.mode = mode;
        let end = SnapshotEnd { next_seq: U64::new(10), ..SnapshotEnd::default() };
        broker(&mut follower, &Frame::seal(end));
        let lost = lost(GapReason::Skipped, 10, 20, None);
        let gap = gap(GapReason::Skipped, 10, 20);
        assert_eq!(broker(&mut follower, &gap), [lost]);
        for seq in [15, 18, 21] {
            assert!(!broker(&mut follower, &trade(seq, 1)).is_empty(), "{mode:?} {seq}");
        }
        assert_eq!(follower.next_seq(), Seq::new(22));
    }
}

#[test]
fn a_frame_seen_before_the_break_is_not_delivered_twice() {
    let mut follower = follower("*", 0, 0);
    let end = SnapshotEnd { next_seq: U64::new(5), ..SnapshotEnd::default() };
    assert_eq!(broker(&mut follower, &Frame::seal(end)), [live(5)]);
    assert!(!broker(&mut follower, &trade(5, 1)).is_empty());
    follower.handle_broker_lost();
    assert_eq!(reported(&mut follower), [Event::Stale], "who has no broker has no current feed");
    assert_eq!(follower.next_read(), broker_from(6));
    assert!(broker(&mut follower, &trade(5, 1)).is_empty());
    assert!(!broker(&mut follower, &trade(6, 1)).is_empty());
}

#[test]
fn a_new_epoch_voids_what_was_seen_beyond_its_start() {
    let mut follower = follower("*", 0, 1);
    follower.handle_broker_frame(&subscribed(1, 1, 20));
    for seq in 1..20 {
        broker(&mut follower, &trade(seq, 1));
    }
    let void = lost(GapReason::Void, 15, 19, None);
    assert_eq!(broker(&mut follower, &subscribed(2, 15, 18)), [void]);
    assert!(follower.must_subscribe_again(), "the broker would go on at 20");
    follower.handle_broker_lost();
    assert_eq!(follower.next_read(), broker_from(15));
    assert!(!follower.must_subscribe_again());
}

#[test]
fn a_missed_epoch_may_have_begun_anywhere() {
    let mut follower = follower("*", 0, 1);
    follower.handle_broker_frame(&subscribed(4, 8, 9));
    for seq in 1..20 {
        broker(&mut follower, &trade(seq, 1));
    }
    let void = lost(GapReason::Void, 8, 19, None);
    assert_eq!(broker(&mut follower, &subscribed(6, 18, 18)), [void]);
}

#[test]
fn the_raw_feed_is_freed_of_what_nobody_asked_for() {
    let mut market = follower("*", 0, 1);
    assert!(broker(&mut market, &trade(1, 2)).is_empty(), "a system topic");
    assert_eq!(market.next_seq(), Seq::new(2), "but its place in the sequence counts");
    let mut system = follower("$sys.*", 0, 1);
    assert!(broker(&mut system, &trade(1, 2)).len() == 1);
    let mut quotes = follower("*", Kind::Quote.mask(), 1);
    assert!(broker(&mut quotes, &trade(1, 1)).is_empty());
    let quote = Quote { seq: U64::new(2), instrument: U32::new(1), ..Quote::default() };
    assert!(broker(&mut quotes, &Frame::seal(quote)).len() == 1);
}

#[test]
fn a_heartbeat_moves_the_place_over_frames_of_others() {
    let mut follower = follower("PETR4", 0, 5);
    let beat = Heartbeat { next_seq: U64::new(90), ..Heartbeat::default() };
    assert!(broker(&mut follower, &Frame::seal(beat)).is_empty());
    assert_eq!(follower.next_read(), broker_from(90));
}

#[test]
fn a_lost_tail_shows_in_the_next_heartbeat_and_is_fetched() {
    let mut follower = follower("*", 0, 1);
    for seq in 1..5 {
        broker(&mut follower, &every(seq));
    }
    assert!(broker(&mut follower, &beat(5)).is_empty());
    assert_eq!(follower.next_read(), broker_from(5), "nothing is missing");
    assert!(broker(&mut follower, &beat(7)).is_empty());
    assert_eq!(follower.next_read(), history_of(5, 7));
    for seq in [5, 6] {
        let frame = every(seq);
        assert_eq!(history(&mut follower, &frame), [Event::Data(frame)]);
    }
    assert_eq!(history_end(&mut follower, 1), []);
    assert_eq!(follower.next_read(), broker_from(7));
}

#[test]
fn a_hole_that_nobody_announced_is_filled_before_the_frame_that_shows_it() {
    // A watch list: the numbers of other instruments lie between, and a heartbeat has passed over them.
    let mut follower = follower("PETR4", 0, 1);
    let first = numbered(3, 1, 1);
    assert_eq!(broker(&mut follower, &first), [Event::Data(first)]);
    broker(&mut follower, &beat(20));
    let third = numbered(30, 1, 3);
    assert!(broker(&mut follower, &third).is_empty());
    assert_eq!(follower.next_read(), history_of(4, 30));
    let second = numbered(9, 1, 2);
    assert_eq!(history(&mut follower, &second), [Event::Data(second)]);
    assert_eq!(history_end(&mut follower, 1), [Event::Data(third)]);
    // Everything: the numbers of the sequence itself have a hole.
    let mut follower = self::follower("*", 0, 1);
    broker(&mut follower, &trade(1, 1));
    assert!(broker(&mut follower, &trade(4, 1)).is_empty());
    assert_eq!(follower.next_read(), history_of(2, 4));
    history(&mut follower, &trade(2, 1));
    history(&mut follower, &trade(3, 1));
    assert_eq!(history_end(&mut follower, 1), [Event::Data(trade(4, 1))]);
}

#[test]
fn a_hole_that_history_has_too_is_reported_once() {
    let mut follower = follower("PETR4", 0, 1);
    broker(&mut follower, &numbered(3, 1, 1));
    let last = numbered(30, 1, 4);
    assert!(broker(&mut follower, &last).is_empty());
    let reported = part(GapReason::SourceLost, (4, 29), 1, 2);
    assert_eq!(history_end(&mut follower, 1), [reported, Event::Data(last)]);
    let next = numbered(31, 1, 5);
    assert_eq!(broker(&mut follower, &next), [Event::Data(next)]);
}

#[test]
fn what_core_has_trimmed_is_reported_although_the_rest_came() {
    let mut follower = follower("PETR4", 0, 1);
    broker(&mut follower, &numbered(1, 1, 1));
    follower.handle_broker_frame(&gap(GapReason::Lapped, 2, 9));
    let kept = numbered(8, 1, 4);
    assert_eq!(history(&mut follower, &kept), [Event::Data(kept)]);
    assert_eq!(history_end(&mut follower, 7), [lost(GapReason::SourceLost, 2, 6, Some(2))]);
    assert_eq!(follower.next_read(), broker_from(10));
}

#[test]
fn each_instrument_reports_later_what_a_loss_cost_it() {
    let mut follower = follower("*", 0, 0);
    let definition = Definition::new(U32::new(3).into(), "VALE3".parse().unwrap(), 2);
    broker(&mut follower, &Frame::seal(definition).delivered(Flags::SNAPSHOT));
    for frame in [numbered(1, 1, 10), numbered(2, 3, 20)] {
        broker(&mut follower, &frame.delivered(Flags::SNAPSHOT));
    }
    broker(&mut follower, &snapshot_end(3));
    let gap = gap(GapReason::SourceLost, 3, 9);
    assert_eq!(broker(&mut follower, &gap), [lost(GapReason::SourceLost, 3, 9, None)]);
    let petr4 = numbered(10, 1, 14);
    let its_part = part(GapReason::SourceLost, (2, 9), 1, 3);
    assert_eq!(broker(&mut follower, &petr4), [its_part, Event::Data(petr4)]);
    let vale3 = numbered(11, 3, 21);
    assert_eq!(broker(&mut follower, &vale3), [Event::Data(vale3)], "it lost nothing");
}

#[test]
fn what_the_broker_has_counted_is_not_counted_again() {
    let mut follower = follower("*", 0, 0);
    follower.request.mode = Mode::Latest;
    broker(&mut follower, &numbered(1, 1, 1).delivered(Flags::SNAPSHOT));
    broker(&mut follower, &snapshot_end(2));
    let gap = counted_gap(GapReason::Skipped, 2, 9, 6);
    assert_eq!(broker(&mut follower, &gap), [lost(GapReason::Skipped, 2, 9, Some(6))]);
    let last = numbered(9, 1, 8);
    assert_eq!(broker(&mut follower, &last), [Event::Data(last)]);
}

#[test]
fn who_begins_again_with_the_present_learns_how_much_was_skipped() {
    for mode in [Mode::Conflate, Mode::Latest] {
        let mut follower = follower("PETR4", 0, 0);
        follower.request.mode = mode;
        broker(&mut follower, &numbered(4, 1, 3).delivered(Flags::SNAPSHOT));
        broker(&mut follower, &snapshot_end(5));
        follower.handle_broker_lost();
        assert_eq!(reported(&mut follower), [Event::Stale]);
        assert_eq!(follower.next_read(), NextRead::Broker { from_seq: None });
        broker(&mut follower, &numbered(40, 1, 9).delivered(Flags::SNAPSHOT));
        let skipped = lost(GapReason::Skipped, 5, 49, Some(5));
        let again = [skipped, live(50), Event::Current];
        assert_eq!(broker(&mut follower, &snapshot_end(50)), again, "{mode:?}");
        let next = numbered(51, 1, 10);
        assert_eq!(broker(&mut follower, &next), [Event::Data(next)]);
    }
}

#[test]
fn numbers_that_come_again_in_a_new_epoch_are_no_loss() {
    let mut follower = follower("*", 0, 1);
    broker(&mut follower, &subscribed(1, 1, 20));
    for seq in 1..20 {
        broker(&mut follower, &every(seq));
    }
    broker(&mut follower, &gap(GapReason::Void, 15, 19));
    for seq in 15..18 {
        let frame = every(seq);
        assert_eq!(broker(&mut follower, &frame), [Event::Data(frame)]);
    }
}

#[test]
fn where_history_begins_is_reported_though_the_connection_ends_before_its_end() {
    let mut follower = follower("PETR4", 0, 1);
    assert_eq!(broker(&mut follower, &gap(GapReason::BeforeRing, 1, 19)), []);
    let begins_later = gap(GapReason::SourceLost, 1, 9);
    let says = |follower: &mut Follower| {
        follower.handle_history_gap(begins_later.view::<Gap>().unwrap());
        reported(follower)
    };
    assert_eq!(says(&mut follower), [lost(GapReason::SourceLost, 1, 9, None)]);
    assert_eq!(history(&mut follower, &numbered(12, 1, 5)), [Event::Data(numbered(12, 1, 5))]);
    // The broker is lost, and with it the piece. The loss has been reported.
    follower.handle_broker_lost();
    assert_eq!(follower.next_read(), broker_from(13));
    // And it is reported once where the end comes.
    let mut follower = super::tests::follower("PETR4", 0, 1);
    broker(&mut follower, &gap(GapReason::BeforeRing, 1, 19));
    says(&mut follower);
    assert_eq!(history_end(&mut follower, 10), []);
}

#[test]
fn a_snapshot_that_broke_off_is_no_place_to_count_from() {
    let mut follower = follower("*", 0, 0);
    broker(&mut follower, &subscribed(1, 1, 30));
    let value = |seq, number| numbered(seq, 1, number).delivered(Flags::SNAPSHOT);
    broker(&mut follower, &value(10, 4));
    follower.handle_broker_lost();
    // The next broker has just begun: the value is ahead of its ring, and not in its snapshot.
    broker(&mut follower, &subscribed(1, 1, 20));
    let end = SnapshotEnd { next_seq: U64::new(20), ..SnapshotEnd::default() };
    assert_eq!(broker(&mut follower, &Frame::seal(end)), [live(20)]);
    let first = numbered(20, 1, 9);
    assert_eq!(broker(&mut follower, &first), [Event::Data(first)], "it was never promised 5 to 8");
}

#[test]
fn what_core_has_taken_back_is_not_reported_as_lost() {
    let asked = || {
        let mut follower = follower("*", 0, 1);
        assert_eq!(broker(&mut follower, &subscribed(1, 1, 1)), []);
        broker(&mut follower, &every(1));
        // The broker is at 20 still, and core died: what it had from 10 on was not durable.
        assert_eq!(broker(&mut follower, &gap(GapReason::Lapped, 2, 14)), []);
        assert_eq!(follower.next_read(), history_of(2, 15));
        follower
    };
    let mut follower = asked();
    follower.handle_history_session(2, Seq::new(10));
    assert!(follower.must_subscribe_again(), "core has nothing behind 9 yet");
    follower.handle_broker_lost();
    assert_eq!(reported(&mut follower), []);
    assert_eq!(broker(&mut follower, &subscribed(2, 10, 12)), []);
    assert_eq!(follower.next_read(), broker_from(2));

    // An epoch that took back nothing of the piece: core answers as before.
    let mut follower = asked();
    follower.handle_history_session(2, Seq::new(15));
    assert!(!follower.must_subscribe_again());
    // Where the epoch between began is not known.
    follower.handle_history_session(3, Seq::new(15));
    assert!(follower.must_subscribe_again());
}

#[test]
fn a_gap_ahead_of_the_first_place_counts_no_frame_that_cannot_be() {
    for reason in [GapReason::Lapped, GapReason::BeforeRing] {
        for (stated_from, from_seq) in [(0, 1), (1, 1), (4, 4)] {
            let mut follower = follower("*", 0, 0);
            follower.wants_system = true;
            assert!(broker(&mut follower, &gap(reason, stated_from, 9)).is_empty());
            assert_eq!(follower.next_read(), history_of(from_seq, 10), "{reason:?}");
            let missed = Some(10 - from_seq);
            let lost = lost(GapReason::SourceLost, from_seq, 9, missed);
            assert_eq!(history_end(&mut follower, 10), [lost], "{reason:?}");
        }
    }
}

#[test]
fn a_gap_that_ends_before_it_begins_is_no_reason_to_panic() {
    let mut follower = follower("*", 0, 1);
    follower.wants_system = true;
    assert!(follower.is_whole(), "only then is the gap counted");
    assert_eq!(broker(&mut follower, &gap(GapReason::BeforeRing, 1, 19)), []);
    let turned = gap(GapReason::SourceLost, 9, 3);
    follower.handle_history_gap(turned.view::<Gap>().unwrap());
    assert_eq!(reported(&mut follower).len(), 1);
}

/// The broker's word about the feed.
fn feed_is(flags: u16, next_seq: u64) -> Frame {
    let (flags, next_seq) = (U16::new(flags), U64::new(next_seq));
    Frame::seal(Heartbeat { flags, next_seq, ..Heartbeat::default() })
}

#[test]
fn a_stale_feed_is_told_once_and_so_is_a_current_one() {
    let mut follower = follower("*", 0, 0);
    let stale = feed_is(Flags::STALE, 0);
    assert!(broker(&mut follower, &stale).is_empty(), "nothing was current yet");
    assert_eq!(broker(&mut follower, &snapshot_end(5)), [live(5)]);
    assert_eq!(broker(&mut follower, &stale), [Event::Stale]);
    assert!(broker(&mut follower, &stale).is_empty());
    assert!(follower.is_stale());
    let next = trade(5, 1);
    assert_eq!(broker(&mut follower, &next), [Event::Data(next)], "it is no word about the feed");
    // What the connection needs says nothing of the feed.
    let asks = feed_is(Flags::MORE, 6);
    let answer = Frame::seal(Heartbeat { token: U32::new(1), ..Heartbeat::default() });
    for frame in [asks, answer] {
        assert!(broker(&mut follower, &frame).is_empty());
    }
    assert_eq!(broker(&mut follower, &feed_is(0, 6)), [Event::Current]);
    assert!(broker(&mut follower, &feed_is(0, 6)).is_empty());
    assert_eq!(broker(&mut follower, &feed_is(Flags::ENDED, 6)), [Event::Ended]);
    assert!(broker(&mut follower, &feed_is(Flags::ENDED, 6)).is_empty());
    assert!(!follower.is_stale(), "what has ended is not sick");
    assert_eq!(broker(&mut follower, &feed_is(0, 6)), [Event::Current], "it goes on");
}

#[test]
fn one_sick_exchange_is_told_by_its_number_and_all_of_them_at_once() {
    use FeedStatus::{Current, Ended, Stale};
    let mut follower = follower("*", 0, 0);
    broker(&mut follower, &snapshot_end(5));
    let number = |number| ExchangeNumber::new(number).unwrap();
    let is = |all: FeedStatus, stale: u32, ended: u32| {
        let (flags, stale, ended) = (U16::new(all.flags()), U32::new(stale), U32::new(ended));
        let (stale_exchanges, ended_exchanges) = (stale, ended);
        Frame::seal(Heartbeat { flags, stale_exchanges, ended_exchanges, ..Heartbeat::default() })
    };
    let of = |exchange, status| Event::Exchange { exchange: number(exchange), status };
    assert_eq!(broker(&mut follower, &is(Current, 1 << 3, 0)), [of(3, Stale)]);
    assert!(broker(&mut follower, &is(Current, 1 << 3, 0)).is_empty());
    assert_eq!(broker(&mut follower, &is(Current, 1 << 3, 1 << 4)), [of(4, Ended)]);
    assert!(!follower.is_stale(), "others are current");
    assert_eq!(broker(&mut follower, &is(Stale, 1 << 3, 0)), [Event::Stale]);
    assert_eq!(broker(&mut follower, &is(Current, 1 << 3, 0)), [Event::Current, of(3, Stale)]);
    assert_eq!(broker(&mut follower, &is(Current, 0, 0)), [of(3, Current)]);
}

#[test]
fn a_lost_broker_makes_the_feed_stale_until_the_next_one_does_not() {
    let mut follower = follower("*", 0, 0);
    follower.handle_broker_lost();
    assert!(reported(&mut follower).is_empty(), "nothing was current yet");
    broker(&mut follower, &snapshot_end(5));
    follower.handle_broker_lost();
    follower.handle_broker_lost();
    assert_eq!(reported(&mut follower), [Event::Stale]);
    assert_eq!(broker(&mut follower, &snapshot_end(5)), [live(5), Event::Current]);
    assert_eq!(broker(&mut follower, &feed_is(Flags::STALE, 5)), [Event::Stale]);
}

#[test]
fn who_waits_for_a_core_that_is_away_is_told() {
    let mut follower = follower("*", 0, 1);
    assert!(broker(&mut follower, &snapshot_end(1)).contains(&live(1)));
    assert!(broker(&mut follower, &trade(4, 1)).is_empty());
    assert_eq!(follower.next_read(), history_of(1, 4), "nothing more is read of the broker");
    follower.handle_history_lost();
    follower.handle_history_lost();
    assert_eq!(reported(&mut follower), [Event::Stale]);
    follower.handle_history_session(0, None);
    assert_eq!(reported(&mut follower), [Event::Current]);
    follower.handle_history_lost();
    assert_eq!(reported(&mut follower), [Event::Stale]);
    follower.handle_broker_lost();
    assert!(reported(&mut follower).is_empty(), "it is stale for another reason");
    assert_eq!(broker(&mut follower, &snapshot_end(1)), [live(1), Event::Current]);
}

#[test]
fn a_journal_that_ends_before_the_piece_is_no_loss() {
    let mut follower = follower("*", 0, 1);
    // Whoever says that has frames that core does not.
    follower.handle_broker_frame(&gap(GapReason::BeforeRing, 1, 1_000));
    assert_eq!(follower.next_read(), history_of(1, 1_001));
    for seq in 1..=3 {
        history(&mut follower, &trade(seq, 1));
    }
    let (covered_from, as_of) = (U64::new(1), U64::new(4));
    follower.handle_history_end(&Ended { covered_from, as_of, ..Ended::default() });
    assert_eq!(reported(&mut follower), []);
    assert!(follower.must_subscribe_again());
    follower.handle_broker_lost();
    assert_eq!(follower.next_read(), broker_from(4), "what comes there is still wanted");
}

#[test]
fn a_name_that_stands_in_what_the_journal_has_removed_is_told_ahead_of_the_frames() {
    let mut follower = follower("*", 0, 1);
    broker(&mut follower, &every(1));
    broker(&mut follower, &every(9));
    assert_eq!(follower.next_read(), history_of(2, 9));
    let definition = Definition::new(U32::new(7).into(), "VALE3".parse().unwrap(), 2);
    let name = Frame::seal(Definition { seq: U64::new(3), ..definition });
    let name = name.delivered(Flags::SNAPSHOT | Flags::REPLAY);
    assert_eq!(history(&mut follower, &name), [Event::Data(name)]);
    assert_eq!(history(&mut follower, &name), [], "it is known");
    // Those of the watched instrument are known from the broker.
    history(&mut follower, &trade(8, 1));
    let (covered_from, as_of) = (U64::new(8), U64::new(9));
    follower.handle_history_end(&Ended { covered_from, as_of, ..Ended::default() });
    assert!(reported(&mut follower).contains(&Event::Data(every(9))));
}

#[test]
fn a_frame_that_waits_behind_a_piece_that_core_does_not_have_is_dropped() {
    let mut follower = follower("*", 0, 1);
    broker(&mut follower, &every(1));
    broker(&mut follower, &every(9));
    assert_eq!(follower.next_read(), history_of(2, 9));
    let (covered_from, as_of) = (U64::new(1), U64::new(2));
    follower.handle_history_end(&Ended { covered_from, as_of, ..Ended::default() });
    assert_eq!(reported(&mut follower), []);
    follower.handle_broker_lost();
    assert_eq!(follower.next_read(), broker_from(2));
}

#[test]
fn a_value_in_place_of_a_void_one_is_told_unless_it_is_known() {
    let mut follower = follower("*", 0, 0);
    follower.request.mode = Mode::Latest;
    let value = |seq, number| numbered(seq, 1, number).delivered(Flags::SNAPSHOT);
    for frame in [subscribed(1, 1, 4), value(2, 1), snapshot_end(4)] {
        broker(&mut follower, &frame);
    }
    broker(&mut follower, &gap(GapReason::Skipped, 4, 1_000));
    let forged = numbered(1_000, 1, 0);
    assert_eq!(broker(&mut follower, &forged), [Event::Data(forged)]);
    broker(&mut follower, &gap(GapReason::Void, 9, 1_000));
    let skipped = part(GapReason::Skipped, (3, 7), 1, 2);
    assert_eq!(broker(&mut follower, &value(8, 4)), [skipped, Event::Data(value(8, 4))]);
    assert!(broker(&mut follower, &value(8, 4)).is_empty(), "it has that one");
    // On the next connection it is part of a snapshot.
    follower.handle_broker_lost();
    reported(&mut follower);
    assert_eq!(broker(&mut follower, &value(8, 4)), [Event::Data(value(8, 4))]);
    assert_eq!(broker(&mut follower, &snapshot_end(9)).first(), Some(&live(9)));
}
