//! Small promises that a mistake would break in silence.

use super::*;
use crate::wire::Ack;

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
