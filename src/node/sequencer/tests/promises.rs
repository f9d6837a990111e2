//! Small promises that a mistake would break in silence.

use super::*;
use crate::wire::{Ack, FeedStatus};

const SNAPSHOT: u16 = Flags::SNAPSHOT;

#[test]
fn the_mark_of_a_loss_is_not_lost_with_a_frame_that_the_journal_does_not_take() {
    let mut refused = 0;
    // Whatever the journal has room for.
    for count in 0..40 {
        let mut bench = Bench::new();
        let conn = bench.market();
        bench.disk.set_bytes_max(SEGMENT_BYTES);
        for seq in 3..3 + count {
            bench.deliver(conn, &[quote(seq, 0)]);
        }
        if bench.core.is_held_back {
            break;
        }
        let next = 5 + count;
        let feed = [quote(next, 0), quote(next + 1, 1), quote(next + 2, 0), quote(next + 3, 1)];
        bench.deliver(conn, &feed);
        let (id, _) = resumes(&bench.read(conn))[0];
        // Two frames are not to be had.
        bench.deliver(conn, &[&[beat(id, next)], &feed[..]].concat());
        if bench.closes(conn) {
            // Not even the place behind them has room.
            continue;
        }
        refused += u32::from(!bench.kept().contains(&next));
        bench.disk.set_bytes_max(usize::MAX);
        bench.sleep_ms(1_000);
        bench.sleep_ms(1);
        resume_until(&mut bench, conn, &feed);
        let journaled = bench.journaled();
        let (_, behind) = journaled.split_at(journaled.len() - feed.len());
        let marked: Vec<bool> = behind.iter().map(|frame| frame.has(Flags::GAP_BEFORE)).collect();
        assert_eq!(marked, [true, true, false, false], "room for {count}");
    }
    assert!(refused > 0, "the journal took all that were marked");
}

#[test]
fn a_broker_may_acknowledge_what_its_snapshot_stands_for() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &(3..13).map(|seq| quote(seq, 0)).collect::<Vec<_>>());
    let (conn, core) = bench.greeted(1);
    let empty = Session { feed: core.feed, epoch: core.epoch, ..Session::default() };
    bench.deliver(conn, &[Frame::seal(empty)]);
    // It has read all but the frames behind the snapshot.
    let mut read = Vec::new();
    let start = loop {
        let head = bench.core.outgoing(bench.now, conn).head.to_vec();
        bench.core.handle_sent(bench.now, conn, head.len());
        read.extend(frames_of(&head));
        let said = read.iter().filter_map(Frame::view::<Heartbeat>);
        if let Some(start) = said.map(|beat| beat.next_seq).find(|next_seq| next_seq.get() > 0) {
            break start;
        }
    };
    let is_ahead = |frame: &Frame| !frame.kind().is_some_and(Kind::is_data) || frame.has(SNAPSHOT);
    assert!(start.get() > 1 && read.iter().all(is_ahead));
    let ack = |accepted_seq| Frame::seal(Ack { epoch: core.epoch, accepted_seq, ..Ack::default() });
    bench.deliver(conn, &[ack(start)]);
    assert!(!bench.closes(conn));
    bench.deliver(conn, &[ack(U64::new(start.get() + 1))]);
    assert!(bench.closes(conn), "but nothing beyond");
}

#[test]
fn a_frame_that_was_damaged_on_its_way_closes_the_connection() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    let (broker, _) = bench.follower(1, 1);
    for conn in [exchange, broker] {
        let mut damaged = quote(3, 0);
        damaged.instrument_seq = U32::new(77);
        bench.deliver(conn, &[damaged]);
        let last = bench.read(conn).pop().unwrap();
        let refusal = last.view::<Refusal>().expect("a refusal");
        assert_eq!(refusal.code.get(), ErrorCode::BadFrame as u16);
        assert!(bench.closes(conn));
    }
    assert!(bench.kept().is_empty());
}

#[test]
fn an_exchange_that_does_not_go_back_in_time_is_left() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(4, 0)]);
    assert_eq!(resumes(&bench.read(conn)).len(), 1);
    for _ in 0..4 {
        bench.sleep_ms(100);
        bench.deliver(conn, &[beat(0, 0)]);
        assert!(!bench.closes(conn));
    }
    bench.sleep_ms(100);
    assert!(bench.closes(conn), "else the hole would stay, and nothing behind it be taken");
}

#[test]
fn the_answer_to_a_queriers_heartbeat_says_how_far_the_journal_is() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0)]);
    let querier = bench.querier();
    let flags = U16::new(Flags::MORE);
    bench.deliver(querier, &[Frame::seal(Heartbeat { flags, ..Heartbeat::default() })]);
    let answer = *bench.read(querier)[0].view::<Heartbeat>().unwrap();
    assert_eq!(answer.next_seq.get(), bench.core.journal.next_seq());
}

#[test]
fn a_replay_that_is_over_leaves_nothing_behind_that_can_wait() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0)]);
    let querier = bench.querier();
    for stops in [false, true] {
        bench.deliver(querier, &[ask(7, Op::Replay, "*", 0, 1, u64::MAX)]);
        assert!(bench.core.connections.is_bulk(querier));
        if stops {
            bench.deliver(querier, &[ask(7, Op::Stop, "", 0, 0, 0)]);
        } else {
            let frames = bench.read(querier);
            assert!(frames.last().unwrap().view::<Ended>().is_some());
        }
        assert!(!bench.core.connections.is_bulk(querier), "a quote would wait behind bulk");
    }
}

#[test]
fn a_broker_that_holds_what_it_was_not_sent_is_told_once_and_then_fed() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0)]);
    let (conn, core) = bench.greeted(1);
    let ahead = Session { next_seq: U64::new(4), role: 0, ..core };
    bench.deliver(conn, &[Frame::seal(ahead)]);
    let told = *bench.read(conn)[0].view::<Session>().expect("a second SESSION");
    assert_eq!(told.next_seq.get(), 1, "nothing was sent to it");
    bench.deliver(conn, &[Frame::seal(ahead)]);
    let frames = bench.read(conn);
    assert!(frames.iter().any(|frame| frame.kind() == Some(Kind::Lineage)), "{frames:?}");
}

#[test]
fn a_sign_of_life_says_no_more_of_the_last_values_than_was_said_before() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let (broker, _) = bench.follower(1, 0);
    bench.turn();
    let (flags, token) = (U16::new(Flags::MORE), U32::new(Heartbeat::LIFE_TOKEN));
    let question = Frame::seal(Heartbeat { flags, token, ..Heartbeat::default() });
    let answered = |bench: &mut Bench| {
        bench.read(broker);
        bench.deliver(broker, &[question]);
        let frames = bench.read(broker);
        let mut beats = frames.iter().filter_map(Frame::view::<Heartbeat>);
        let beat = *beats.rfind(|beat| beat.token == token).expect("an answer");
        (FeedStatus::of(beat.flags.get()), beat.sent_at.get() == bench.now.wall_ns)
    };
    assert_eq!(answered(&mut bench), (FeedStatus::Current, true));
    bench.sleep_ms(10_000);
    assert_eq!(answered(&mut bench), (FeedStatus::Stale, true), "the exchange is silent");
}

#[test]
fn an_exchange_that_begins_beyond_its_own_end_is_left() {
    for (next_seq, head, is_place) in [(5, 5, true), (6, 5, false), (5, 0, true), (0, 5, false)] {
        let mut bench = Bench::new();
        bench.actions.retain(|it| !matches!(it, Action::Dial { dial: EXCHANGE_DIAL, .. }));
        let conn = bench.open(Origin::Dialed(EXCHANGE_DIAL));
        bench.read(conn);
        let (feed, next_seq, durable_seq) = (U64::new(FEED), U64::new(next_seq), U64::new(head));
        let session = Session { feed, next_seq, durable_seq, ..Session::default() };
        bench.deliver(conn, &[Frame::seal(session)]);
        assert_eq!(bench.closes(conn), !is_place, "{session:?}");
        assert_eq!(
            bench.core.exchanges[0].failures(),
            u64::from(!is_place),
            "its breaker hears of it"
        );
    }
}

#[test]
fn an_exchange_that_refuses_to_go_back_is_left_at_once() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(4, 0)]);
    let (id, _) = resumes(&bench.read(conn))[0];
    let refusal = Refusal::new(ErrorCode::Limit, id, "not now");
    bench.deliver(conn, &[Frame::seal(refusal)]);
    assert!(bench.closes(conn), "another session goes on by number");
}

#[test]
fn a_follower_that_cannot_be_dialed_or_does_not_answer_is_dialed_again() {
    let mut bench = Bench::new();
    let dials = |bench: &mut Bench| {
        let before = bench.actions.len();
        let is_it = |it: &Action| matches!(it, Action::Dial { dial: DialId(1), .. });
        bench.actions.retain(|it| !is_it(it));
        before - bench.actions.len()
    };
    assert_eq!(dials(&mut bench), 1);
    bench.sleep_ms(500);
    assert_eq!(dials(&mut bench), 0, "it is on its way");
    bench.core.handle_dial_failed(bench.now, DialId(1), DialFailure::Refused);
    bench.sleep_ms(100);
    assert_eq!(dials(&mut bench), 1);
    let conn = bench.open(Origin::Dialed(DialId(1)));
    bench.read(conn);
    bench.sleep_ms(500);
    let refusal = bench.read(conn).pop().and_then(|it| it.view::<Refusal>().copied());
    assert_eq!(refusal.map(|it| it.code.get()), Some(ErrorCode::Deadline as u16));
    assert!(bench.closes(conn));
}

#[test]
fn a_journal_that_cannot_be_synced_ends_core_and_one_that_cannot_be_closed_is_told() {
    let mut bench = Bench::new();
    let conn = bench.market();
    assert_eq!(bench.core.failure(), None);
    bench.disk.fail_sync_after(0);
    bench.deliver(conn, &[quote(3, 0)]);
    bench.sleep_ms(100);
    bench.sleep_ms(100);
    assert!(bench.core.failure().is_some_and(|text| text.starts_with("the journal ")));
    let mut bench = Bench::new();
    bench.market();
    bench.disk.fail_sync_after(0);
    bench.core.handle_stop(bench.now);
    assert!(bench.core.failure().is_some_and(|text| text.contains("not closed cleanly")));
}

#[test]
fn a_number_that_only_an_earlier_session_gave_an_instrument_means_none_now() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 1)]);
    bench.close(conn, CloseReason::Reset);
    let conn = bench.exchange(FEED, 4, &[ahead(0, "PETR4")]);
    bench.deliver(conn, &[quote(4, 1)]);
    assert!(bench.closes(conn), "it may be any instrument");
    assert_eq!(bench.kept(), [3]);
}
