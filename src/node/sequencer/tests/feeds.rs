//! Which feed the exchange offers: the same, more of it, or another one; and what an exchange may define.

use super::*;

/// A session of an exchange that offers more of the feed that core has, whose place is there `place`.
fn more(feed: u64, place: u64) -> Session {
    let options = U16::new(Session::CONTINUES);
    let (feed, next_seq) = (U64::new(feed), U64::new(place));
    Session { options, feed, next_seq, epoch_start: next_seq, ..Session::default() }
}

#[test]
fn an_exchange_that_defines_an_instrument_of_the_system_is_refused() {
    for is_ahead in [true, false] {
        let mut bench = Bench::new();
        let conn = bench.market();
        let frame = if is_ahead { ahead(2, "$sys.x") } else { definition(3, 2, "$sys.x") };
        bench.deliver(conn, &[frame]);
        assert!(bench.closes(conn));
        let last = *bench.read(conn).last().unwrap();
        let refusal = last.view::<Refusal>().unwrap();
        assert_eq!(refusal.code.get(), ErrorCode::Unexpected as u16);
        assert!(crate::wire::unpadded(&refusal.text).contains("begin with $"));
        assert!(bench.kept().is_empty());
    }
}

/// A definition whose quantities have units of so many decimals.
fn in_units(seq: u64, index: u32, symbol: &str, decimals: u8) -> Frame {
    let definition = Definition::new(U32::new(index).into(), symbol.parse().unwrap(), 2);
    let definition = definition.with_quantity_decimals(decimals);
    Frame::seal(Definition { seq: U64::new(seq), ..definition })
}

#[test]
fn an_instrument_keeps_the_units_of_its_quantities() {
    for is_ahead in [true, false] {
        let mut bench = Bench::new();
        let first = in_units(1, 0, "BTC", 8);
        let conn = bench.exchange(FEED, 1, &[first.delivered(Flags::SNAPSHOT)]);
        let definition = bench.journaled()[0];
        assert_eq!(definition.view::<Definition>().unwrap().decimals().quantity, 8);
        // Said again it changes nothing; in other units everything in the journal would mean something else.
        bench.deliver(conn, &[first, trade(2, 0)]);
        assert!(!bench.closes(conn));
        let other = in_units(3, 0, "BTC", 6);
        let other = if is_ahead { other.delivered(Flags::SNAPSHOT) } else { other };
        bench.deliver(conn, &[other]);
        assert!(bench.closes(conn));
        let last = *bench.read(conn).last().unwrap();
        let refusal = last.view::<Refusal>().unwrap();
        assert_eq!(refusal.code.get(), ErrorCode::Unexpected as u16);
        assert!(crate::wire::unpadded(&refusal.text).contains("keep their units"));
        let definitions =
            bench.journaled().iter().filter(|f| f.view::<Definition>().is_some()).count();
        assert_eq!(definitions, 1);
    }
}

#[test]
fn numbers_of_an_earlier_session_mean_nothing_in_the_next() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0)]);
    bench.close(conn, CloseReason::Reset);
    let conn = bench.exchange(FEED, 4, &[ahead(0, "VALE3"), ahead(1, "PETR4")]);
    bench.deliver(conn, &[quote(4, 0)]);
    let journaled = bench.journaled();
    let vale3 = journaled.iter().filter_map(Frame::view::<Definition>).nth(1).unwrap();
    assert_eq!(vale3.symbol, "VALE3".parse::<Symbol>().unwrap());
    assert_eq!(journaled.last().unwrap().instrument, vale3.instrument);
}

#[test]
fn another_recording_is_refused_unless_it_is_wanted() {
    let names = [ahead(0, "PETR4"), ahead(1, "VALE3")];
    let tape = FEED + 1;
    for (before, offered) in [(FEED, tape), (tape, FEED), (tape, tape + 2)] {
        for appends in [false, true] {
            let mut bench = Bench::new();
            let conn = bench.exchange(before, 1, &names);
            let market = [definition(1, 0, "PETR4"), definition(2, 1, "VALE3"), quote(3, 0)];
            bench.deliver(conn, &market);
            bench.close(conn, CloseReason::Reset);
            bench.core.config.appends = appends;
            let conn = bench.exchange(offered, 1, &names);
            bench.deliver(conn, &market);
            assert_eq!(bench.closes(conn), !appends, "{offered:x} behind {before:x}");
            let upstream = bench.core.journal.upstream();
            let quotes = bench.kept().len();
            if appends {
                assert_eq!((upstream, quotes), ((offered, 4), 2));
                continue;
            }
            assert_eq!((upstream, quotes), ((before, 4), 1));
            let last = *bench.read(conn).last().unwrap();
            assert_eq!(last.view::<Refusal>().unwrap().code.get(), ErrorCode::Unexpected as u16);
            // What it had is taken up again.
            bench.close(conn, CloseReason::Ours);
            let conn = bench.exchange(before, 4, &names);
            bench.deliver(conn, &[quote(4, 0)]);
            assert_eq!(bench.kept().len(), 2);
        }
    }
}

#[test]
fn more_of_a_recording_goes_on_where_the_journal_ends() {
    let names = [ahead(0, "PETR4"), ahead(1, "VALE3"), ahead(2, "ITUB4")];
    let mut bench = Bench::new();
    let conn = bench.exchange(FEED + 1, 1, &names[..2]);
    bench.deliver(conn, &[definition(1, 0, "PETR4"), definition(2, 1, "VALE3"), quote(3, 0)]);
    bench.close(conn, CloseReason::Reset);
    // One instrument more is defined ahead of the events.
    let conn = bench.exchange_that_offers(more(FEED + 3, 5), &names);
    bench.deliver(conn, &[quote(5, 1), quote(6, 2)]);
    assert_eq!(bench.core.journal.upstream(), (FEED + 3, 7));
    let journaled = bench.journaled();
    let last = &journaled[journaled.len() - 2..];
    assert!(last.iter().all(|frame| frame.kind == Kind::Quote as u8));
    assert!(!journaled.iter().any(|frame| frame.has(Flags::GAP_BEFORE)), "nothing is missing");
    let mut bench = bench.restart();
    let conn = bench.exchange(FEED + 3, 7, &names);
    bench.deliver(conn, &[quote(7, 0)]);
    assert_eq!(bench.core.exchanges[0].upstream_seq.get(), 8);
    // A place that no feed has is none.
    bench.close(conn, CloseReason::Reset);
    let wrong = Session { durable_seq: U64::new(6), ..more(FEED + 5, 7) };
    let conn = bench.exchange_that_offers(Session { next_seq: U64::new(1), ..wrong }, &names);
    assert!(bench.closes(conn));
}

#[test]
fn another_feed_is_taken_up_and_flagged_once_per_instrument() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0), quote(4, 1)]);
    bench.close(conn, CloseReason::Reset);
    let names = [ahead(0, "PETR4"), ahead(1, "VALE3")];
    let conn = bench.exchange(FEED + 2, 1, &names);
    let frames = [definition(1, 0, "PETR4"), definition(2, 1, "VALE3"), quote(3, 0), quote(4, 0)];
    bench.deliver(conn, &frames);
    bench.deliver(conn, &[trade(5, 1), quote(6, 1)]);
    let journaled = bench.journaled();
    let definitions = journaled.iter().filter(|f| f.kind == Kind::Definition as u8).count();
    assert_eq!(definitions, 2, "known definitions use up their number only");
    let marked: Vec<bool> = journaled[4..].iter().map(|f| f.has(Flags::GAP_BEFORE)).collect();
    assert_eq!(marked, [true, false, true, false]);
    assert_eq!(bench.core.journal.upstream(), (FEED + 2, 7));
    let mut bench = bench.restart();
    assert_eq!(bench.core.exchanges[0].upstream_seq.get(), 7);
    let conn = bench.exchange(FEED + 2, 7, &names);
    bench.deliver(conn, &[quote(7, 0)]);
    assert!(!bench.journaled().last().unwrap().has(Flags::GAP_BEFORE));
}

#[test]
fn another_feed_that_meets_a_full_journal_is_met_again_later() {
    let mut met_again = 0;
    // Whatever the journal has room for: the new place, some names, or nothing.
    for count in 0..40 {
        let mut bench = Bench::new();
        let conn = bench.market();
        bench.disk.set_bytes_max(SEGMENT_BYTES);
        let old: Vec<u64> = (3..3 + count).collect();
        for &seq in &old {
            bench.deliver(conn, &[quote(seq, 0)]);
        }
        if bench.core.is_held_back {
            break;
        }
        bench.close(conn, CloseReason::Reset);
        let names = [ahead(0, "PETR4"), ahead(1, "ITUB4"), ahead(2, "BBDC4")];
        let mut feed = vec![definition(1, 0, "PETR4"), definition(2, 1, "ITUB4")];
        feed.extend([definition(3, 2, "BBDC4"), quote(4, 1), quote(5, 0), quote(6, 2)]);
        let all = [&names[..], &feed].concat();
        let conn = bench.exchange(FEED + 2, 1, &[]);
        let is_read = bench.core.wants_bytes(conn);
        if is_read {
            bench.deliver(conn, &all);
        }
        bench.disk.set_bytes_max(usize::MAX);
        if bench.closes(conn) {
            met_again += 1;
            bench.close(conn, CloseReason::Ours);
            bench.sleep_ms(1_000);
            let wanted = bench.core.exchanges[0].upstream_seq.get();
            let at = if bench.core.journal.upstream().0 == FEED { 1 } else { wanted };
            let conn = bench.exchange(FEED + 2, at, &names);
            let rest = feed.iter().filter(|frame| frame.seq.get() >= at);
            bench.deliver(conn, &rest.copied().collect::<Vec<_>>());
            resume_until(&mut bench, conn, &feed);
        } else {
            bench.sleep_ms(1_000);
            if !is_read {
                bench.deliver(conn, &all);
            }
            resume_until(&mut bench, conn, &feed);
        }
        assert_eq!(bench.kept(), [&old[..], &[4, 5, 6]].concat(), "after {count} frames");
        assert_eq!(bench.core.journal.upstream(), (FEED + 2, 7));
        assert_eq!(bench.core.exchanges[0].failures(), 1, "only the reset is counted");
    }
    assert!(met_again > 0);
}
