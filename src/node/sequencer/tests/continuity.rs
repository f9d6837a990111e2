//! Which followers core feeds: those that have a part of its journal, by the identity of their epoch.

use super::*;

#[test]
fn numbers_of_an_instrument_go_on_across_starts_of_core_and_end_with_no_zero() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0), trade(5, 0)]);
    let mut bench = bench.restart();
    let exchange = bench.exchange(FEED, 6, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    bench.deliver(exchange, &[quote(6, 0), trade(7, 0), quote(8, 1)]);
    let numbers = |bench: &Bench, kind: Kind| -> Vec<(u32, u32)> {
        let frames = bench.journaled();
        let own = frames.iter().filter(|frame| frame.kind() == Some(kind));
        own.map(|f| (f.instrument().index().get(), f.instrument_seq.get())).collect()
    };
    assert_eq!(numbers(&bench, Kind::Quote), [(0, 1), (0, 2), (0, 3), (1, 1)]);
    assert_eq!(numbers(&bench, Kind::Trade), [(0, 1), (0, 2)]);

    let mut last = *bench.journaled().iter().find(|f| f.kind() == Some(Kind::Quote)).unwrap();
    last.instrument_seq = U32::new(u32::MAX);
    bench.core.market.note(&last);
    bench.deliver(exchange, &[quote(9, 0)]);
    assert_eq!(numbers(&bench, Kind::Quote).last(), Some(&(0, 1)), "0 says that there is none");
}
use crate::log::{EpochEntry, NewEpoch};

const BROKER: u32 = 1;
const SHARD: u32 = 2;

/// What core says to a follower that stands there.
fn answer(bench: &mut Bench, dial: u32, session: Session) -> (ConnId, Frame) {
    let (conn, _) = bench.greeted(dial);
    bench.deliver(conn, &[Frame::seal(session)]);
    bench.turn();
    let said = bench.read(conn)[0];
    // For the next one to be heard.
    bench.close(conn, CloseReason::Ours);
    (conn, said)
}

fn at(feed: u64, epoch: u32, next_seq: u64) -> Session {
    let (feed, epoch, next_seq) = (U64::new(feed), U32::new(epoch), U64::new(next_seq));
    Session { feed, epoch, next_seq, ..Session::default() }
}

/// (options, epoch_start) of a SESSION; the text of a refusal.
fn said(frame: &Frame) -> Result<(u16, u64), String> {
    match frame.view::<Session>() {
        Some(session) => Ok((session.options.get(), session.epoch_start.get())),
        None => Err(unpadded(&frame.view::<Refusal>().unwrap().text)),
    }
}

/// A core in its second epoch, which began behind `seq` 5; and the identity of its first one.
fn second_epoch() -> (Bench, u64) {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0), trade(5, 0)]);
    let first = bench.core.journal.epoch_id();
    let mut bench = bench.restart();
    assert_eq!(bench.core.journal.epoch_start(), 6);
    let exchange = bench.exchange(FEED, 6, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    bench.deliver(exchange, &[quote(6, 0), quote(7, 0)]);
    (bench, first)
}

#[test]
fn a_follower_goes_on_where_it_says_and_gets_its_part_only() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 1), trade(5, 0)]);
    bench.sent_before(BROKER);
    let (_, frames) = bench.follower(1, 4);
    assert_eq!(seqs(&frames), [4, 5]);
    let (_, frames) = bench.follower(2, 1);
    let data: Vec<Frame> =
        frames.into_iter().filter(|f| f.kind().is_some_and(Kind::is_data)).collect();
    assert_eq!(data, bench.journaled(), "the very same bytes");
}

#[test]
fn a_follower_ahead_of_the_journal_is_refused() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    let (conn, frames) = bench.follower(2, 5);
    assert!(bench.closes(conn));
    assert!(seqs(&frames).is_empty());
    assert!(unpadded(&frames[0].view::<Refusal>().unwrap().text).contains("lacks frames"));
}

#[test]
fn an_epoch_that_the_journal_knows_is_continued_up_to_its_end() {
    let (mut bench, first) = second_epoch();
    for (dial, next_seq) in [(SHARD, 6), (SHARD, 3), (BROKER, 6), (BROKER, 2), (BROKER, 9)] {
        let (_, frame) = answer(&mut bench, dial, at(first, 1, next_seq));
        assert_eq!(said(&frame), Ok((Session::CONTINUES, 6)), "{dial} at {next_seq}");
        assert_eq!(frame.view::<Session>().unwrap().feed.get(), bench.core.journal.epoch_id());
    }
}

#[test]
fn what_a_shard_holds_is_not_void_because_core_lost_it() {
    let (mut bench, first) = second_epoch();
    let (conn, frame) = answer(&mut bench, SHARD, at(first, 1, 7));
    assert!(said(&frame).unwrap_err().contains("lacks frames that you hold"));
    assert!(bench.closes(conn));
    let is_told = |action: &Action| {
        matches!(action, Action::Log(Level::Error, text)
            if text.contains("shard-A holds frames up to seq 6") && text.contains("only up to seq 5")
                && text.contains("pregao recover"))
    };
    assert!(bench.actions.iter().any(is_told), "{:?}", bench.actions);
}

#[test]
fn an_epoch_that_the_journal_does_not_know_is_refused_whatever_its_number() {
    let (mut bench, _) = second_epoch();
    for dial in [SHARD, BROKER] {
        for (epoch, next_seq) in [(1, 3), (2, 3), (3, 3), (2, 99)] {
            let (conn, frame) = answer(&mut bench, dial, at(77, epoch, next_seq));
            assert!(said(&frame).unwrap_err().contains("does not continue"), "{frame:?}");
            assert!(bench.closes(conn));
        }
    }
    let status = format!("{:?}", Service::status(&bench.core, bench.now));
    assert!(status.contains("another history"), "{status}");
    // One that has nothing is welcome.
    let (_, frames) = bench.follower(SHARD, 1);
    assert_eq!(seqs(&frames), [1, 2, 3, 4, 5, 6, 7]);
    let status = format!("{:?}", Service::status(&bench.core, bench.now));
    assert!(!status.contains("shard-A.feed"), "{status}");
}

#[test]
fn a_refused_follower_is_asked_again_slowly_and_its_breaker_hears_nothing() {
    let (mut bench, _) = second_epoch();
    let dials = |bench: &mut Bench| {
        let is_dial =
            |action: &Action| matches!(action, Action::Dial { dial, .. } if *dial == DialId(SHARD));
        let count = bench.actions.iter().filter(|action| is_dial(action)).count();
        bench.actions.retain(|action| !is_dial(action));
        count
    };
    answer(&mut bench, SHARD, at(77, 1, 3));
    dials(&mut bench);
    for _ in 0..95 {
        bench.sleep_ms(100);
    }
    assert_eq!(dials(&mut bench), 0, "within ten seconds");
    for _ in 0..10 {
        bench.sleep_ms(100);
    }
    assert_eq!(dials(&mut bench), 1);
    let status = format!("{:?}", Service::status(&bench.core, bench.now));
    assert!(!status.contains("core.shard-A.failure"), "{status}");
}

#[test]
fn a_follower_that_is_told_how_it_goes_on_and_does_not_is_closed() {
    let (mut bench, first) = second_epoch();
    let (conn, _) = bench.greeted(SHARD);
    bench.deliver(conn, &[Frame::seal(at(first, 1, 4))]);
    assert!(said(&bench.read(conn)[0]).is_ok());
    bench.deliver(conn, &[Frame::seal(at(first, 1, 4))]);
    assert!(bench.closes(conn));
}

#[test]
fn what_an_operator_chose_or_gave_up_is_taken_back_and_nothing_else() {
    let (bench, first) = second_epoch();
    let now = bench.now;
    let disk = bench.disk.kill();
    let (mut log, _) = Log::open(disk.storage(), log_config(), now).unwrap();
    let (is_chosen, is_given_up) = (false, true);
    let lost = EpochEntry { epoch: 2, epoch_id: 77, first_seq: 4, is_chosen, is_given_up };
    log.give_up_epoch(lost, now).unwrap();
    log.begin_epoch(NewEpoch { id: 88, above: 5, is_chosen: true }, now).unwrap();
    log.close(now).unwrap();
    drop(log);
    let mut bench = Bench::on(disk, now);
    let give_up = Session::CONTINUES | Session::GIVE_UP;
    for (feed, next_seq, expected) in [
        (first, 6, (Session::CONTINUES, 6)),
        (first, 7, (give_up, 6)),
        (77, 4, (Session::CONTINUES, 4)),
        (77, 20, (give_up, 4)),
        (88, 8, (Session::CONTINUES, 8)),
    ] {
        let (_, frame) = answer(&mut bench, SHARD, at(feed, 1, next_seq));
        assert_eq!(said(&frame), Ok(expected), "{feed} at {next_seq}");
    }
    // What it chose is not what came later.
    let (_, frame) = answer(&mut bench, SHARD, at(88, 6, 9));
    assert!(said(&frame).is_err());
}

#[test]
fn a_shard_is_sent_only_what_the_journal_cannot_lose() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.turn();
    bench.sent_before(BROKER);
    let (broker, _) = bench.follower(BROKER, 3);
    let (shard, frames) = bench.follower(SHARD, 1);
    assert_eq!(seqs(&frames), [1, 2]);
    bench.disk.pause_jobs(true);
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0)]);
    bench.sleep_ms(2_000);
    assert_eq!(seqs(&bench.read(broker)), [3, 4]);
    let told = bench.read(shard);
    assert!(seqs(&told).is_empty(), "{told:?}");
    let told: Vec<u64> =
        told.iter().filter_map(|it| Some(it.view::<Heartbeat>()?.next_seq.get())).collect();
    assert!(told.iter().all(|seq| *seq <= 3), "nor does a heartbeat count it: {told:?}");
    bench.disk.pause_jobs(false);
    bench.turn();
    assert_eq!(seqs(&bench.read(shard)), [3, 4]);
}

#[test]
fn a_broker_is_told_the_lineage_ahead_of_everything() {
    let (mut bench, first) = second_epoch();
    let (conn, core) = bench.greeted(BROKER);
    bench.deliver(conn, &[Frame::seal(Session { next_seq: U64::ZERO, ..core })]);
    let frames = bench.read(conn);
    let told: Vec<(u64, u64)> = frames
        .iter()
        .map_while(Frame::view::<crate::wire::Lineage>)
        .map(|entry| (entry.epoch_id.get(), entry.first_seq.get()))
        .collect();
    assert_eq!(told, [(first, 1), (bench.core.journal.epoch_id(), 6)]);
    assert!(frames.len() > 2);
}

#[test]
fn a_replay_for_who_follows_another_sequence_is_refused() {
    let (mut bench, first) = second_epoch();
    let own = bench.core.journal.epoch_id();
    for (feed, is_served) in [(0, true), (first, true), (own, true), (77, false)] {
        let conn = bench.open(Origin::LOCAL);
        let (role, feed) = (Role::Querier as u8, U64::new(feed));
        bench.deliver(conn, &[Frame::seal(Session { role, feed, ..Session::default() })]);
        bench.deliver(conn, &[ask(1, Op::Replay, "*", u16::MAX, 1, 4)]);
        let frames = bench.read(conn);
        assert_eq!(seqs(&frames).is_empty(), !is_served);
        let refusal = frames.iter().find_map(Frame::view::<Refusal>);
        assert_eq!(refusal.is_none(), is_served);
        if let Some(refusal) = refusal {
            assert_eq!(refusal.id.get(), 1);
            assert!(unpadded(&refusal.text).contains("subscribe from 0"));
        }
    }
}

#[test]
fn every_start_is_an_epoch_of_its_own_also_behind_a_clean_close() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0)]);
    Service::on_stop(&mut bench.core, bench.now);
    // A copy is taken of the closed directory, and both are started.
    let starts = [bench.disk.kill(), bench.disk.kill()].map(|disk| Bench::on(disk, bench.now));
    let [mut went_on, mut restored] = starts;
    let epochs = [&went_on, &restored].map(|it| it.core.journal.epoch());
    assert_eq!(epochs, [2, 2], "numbers cannot tell them apart");
    let feed = went_on.core.journal.epoch_id();
    let (_, frame) = answer(&mut restored, SHARD, at(feed, 2, 4));
    assert!(said(&frame).unwrap_err().contains("does not continue"));
    let (_, frames) = went_on.follower(SHARD, 4);
    assert!(frames.iter().all(|frame| frame.kind() != Some(Kind::Error)), "{frames:?}");
}
