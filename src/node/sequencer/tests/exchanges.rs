//! Several exchanges feed one sequence: each has its names, its place, its losses and its state.

use super::super::exchanges::dial_of;
use super::*;
use crate::wire::{ExchangeNumber, ExchangePlace, FeedStates, FeedStatus};

/// Feeds that are no recordings.
const FEEDS: [u64; 2] = [0xA0, 0xB0];

fn named(names: &[&str]) -> SequencerConfig {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let breaker = breaker::Config::default();
    let exchange = |name: &&str| ExchangeConfig {
        name: (*name).to_owned(),
        address: Some(address),
        breaker: breaker.clone(),
    };
    SequencerConfig { exchanges: names.iter().map(exchange).collect(), ..config() }
}

pub(super) fn bench(names: &[&str]) -> Bench {
    let now = Now { mono: Mono(1_000 * MS), wall_ns: 1_000_000 };
    Bench::configured(named(names), MemoryDisk::new(4096), now)
}

fn again(bench: Bench, names: &[&str]) -> Bench {
    Bench::configured(named(names), bench.disk.kill(), bench.now)
}

/// A session with one of them from a place on, with PETR4 (0) defined ahead. What core had said.
pub(super) fn session(
    bench: &mut Bench,
    index: usize,
    feed: u64,
    next_seq: u64,
) -> (ConnId, (u64, u64)) {
    let (conn, said) = bench.dialed_exchange(dial_of(index));
    let (feed, next_seq) = (U64::new(feed), U64::new(next_seq));
    let greeting = Session { feed, next_seq, ..Session::default() };
    bench.deliver(conn, &[Frame::seal(greeting), ahead(0, "PETR4")]);
    (conn, (said.feed.get(), said.next_seq.get()))
}

fn both(bench: &mut Bench) -> [ConnId; 2] {
    [0, 1].map(|index| session(bench, index, FEEDS[index], 1).0)
}

/// What the journal holds of the market: the number that the exchange gave it, its instrument's name and its exchange.
fn stored(bench: &Bench) -> Vec<(u64, String, u8)> {
    let frames = bench.journaled();
    let name = |instrument| {
        let defined = frames.iter().filter_map(Frame::view::<Definition>);
        let mut defined = defined.filter(|it| it.instrument() == instrument);
        defined.next().map_or_else(String::new, |it| it.symbol.to_string())
    };
    let trades = frames.iter().filter_map(|frame| Some((frame, frame.view::<Trade>()?)));
    let row = |(frame, trade): (&Frame, &Trade)| {
        (trade.trade_id.get(), name(frame.instrument()), frame.exchange().get())
    };
    trades.map(row).collect()
}

fn said(rows: &[(u64, &str, u8)]) -> Vec<(u64, String, u8)> {
    rows.iter().map(|(id, name, exchange)| (*id, (*name).to_owned(), *exchange)).collect()
}

/// Whether the quotes of an instrument are stale.
fn is_stale(bench: &mut Bench, symbol: &str) -> bool {
    let conn = bench.querier();
    bench.deliver(conn, &[ask(1, Op::Quote, symbol, 0, 0, 0)]);
    let frames = bench.read(conn);
    bench.core.handle_close(bench.now, conn, CloseReason::PeerClosed);
    let quote = frames.iter().find(|frame| frame.view::<Quote>().is_some());
    quote.expect("a quote").has(Flags::STALE)
}

#[test]
fn one_symbol_of_two_exchanges_is_two_instruments() {
    let mut bench = bench(&["xnas", "b3"]);
    let [one, other] = both(&mut bench);
    bench.deliver(one, &[trade(1, 0)]);
    bench.deliver(other, &[trade(1, 0), trade(2, 0)]);
    bench.deliver(one, &[trade(2, 0)]);
    let want = [(1, "xnas:PETR4", 1), (1, "b3:PETR4", 2), (2, "b3:PETR4", 2), (2, "xnas:PETR4", 1)];
    assert_eq!(stored(&bench), said(&want));
    let definitions = bench.journaled();
    let markets = definitions.iter().filter_map(Frame::view::<Definition>);
    let markets = markets.filter(|it| !it.symbol.is_reserved());
    let short: Vec<String> = markets.map(|it| it.short_form().unwrap().to_string()).collect();
    assert_eq!(short, ["PETR4", "PETR4"]);
}

#[test]
fn each_exchange_goes_on_at_its_own_place_behind_any_number_of_segments_and_starts() {
    let names = ["xnas", "b3"];
    let mut bench = bench(&names);
    let mut next = [1, 1];
    let mut told = 0;
    for round in 0..12 {
        for index in [0, 1] {
            let (conn, said) = session(&mut bench, index, FEEDS[index], next[index]);
            let feed = if round == 0 { 0 } else { FEEDS[index] };
            assert_eq!(said, (feed, next[index]), "round {round}, exchange {index}");
            let count = 3 + 4 * index as u64 + round % 5;
            for _ in 0..count {
                bench.deliver(conn, &[trade(next[index], 0)]);
                bench.sleep_ms(60);
                next[index] += 1;
            }
            told += count;
        }
        bench = if round % 3 == 0 { again(bench, &names) } else { restart_cleanly(bench, &names) };
    }
    assert_eq!(stored(&bench).len() as u64, told);
    for (number, last) in [(1, next[0]), (2, next[1])] {
        let mut ids: Vec<u64> =
            stored(&bench).iter().filter(|it| it.2 == number).map(|it| it.0).collect();
        ids.dedup();
        assert!(ids.iter().copied().eq(1..last), "exchange {number}: each once, in order");
    }
    let places = bench.journaled().iter().filter(|it| it.view::<ExchangePlace>().is_some()).count();
    assert_eq!(places, 2, "the place is said once, and counted from then on");
}

fn restart_cleanly(mut bench: Bench, names: &[&str]) -> Bench {
    bench.core.handle_stop(bench.now);
    again(bench, names)
}

#[test]
fn a_name_keeps_its_number_in_whatever_order_the_exchanges_are_configured() {
    let mut first = bench(&["xnas", "b3"]);
    let [one, other] = both(&mut first);
    first.deliver(one, &[trade(1, 0)]);
    first.deliver(other, &[trade(1, 0)]);
    let mut second = again(first, &["new", "b3", "exchange"]);
    assert_eq!(session(&mut second, 1, FEEDS[1], 2).1, (FEEDS[1], 2));
    let (conn, place) = session(&mut second, 0, 0xC0, 1);
    assert_eq!(place, (0, 1));
    second.deliver(conn, &[trade(1, 0)]);
    let (conn, _) = session(&mut second, 2, 0xD0, 1);
    second.deliver(conn, &[trade(1, 0)]);
    let want = [(1, "xnas:PETR4", 1), (1, "b3:PETR4", 2), (1, "new:PETR4", 3), (1, "PETR4", 0)];
    assert_eq!(stored(&second), said(&want));
    let mut third = again(second, &["exchange", "xnas"]);
    assert_eq!(session(&mut third, 0, 0xD0, 2).1, (0xD0, 2));
    assert_eq!(session(&mut third, 1, FEEDS[0], 2).1, (FEEDS[0], 2));
}

#[test]
fn one_sick_exchange_makes_only_its_own_quotes_stale() {
    let mut bench = bench(&["xnas", "b3"]);
    let [one, other] = both(&mut bench);
    for conn in [one, other] {
        bench.deliver(conn, &[quote(1, 0)]);
    }
    let (broker, _) = bench.follower(1, 1);
    let states = |bench: &mut Bench| {
        bench.turn();
        let frames = bench.read(broker);
        frames.iter().filter_map(Frame::view::<Heartbeat>).map(FeedStates::of).next_back()
    };
    bench.turn();
    bench.read(broker);
    assert!(!is_stale(&mut bench, "xnas:PETR4") && !is_stale(&mut bench, "b3:PETR4"));
    bench.close(one, CloseReason::Reset);
    assert!(is_stale(&mut bench, "xnas:PETR4") && !is_stale(&mut bench, "b3:PETR4"));
    let said = states(&mut bench).expect("the broker is told at once");
    let number = |number| ExchangeNumber::new(number).unwrap();
    let of = [1, 2].map(|it| said.of_exchange(number(it)));
    assert_eq!(of, [FeedStatus::Stale, FeedStatus::Current]);
    bench.close(other, CloseReason::Reset);
    assert_eq!(states(&mut bench).map(|said| said.all), Some(FeedStatus::Stale));
    let (_, place) = session(&mut bench, 1, FEEDS[1], 2);
    assert_eq!(place.1, 2);
    assert!(is_stale(&mut bench, "xnas:PETR4") && !is_stale(&mut bench, "b3:PETR4"));
    // One that is not configured any more is nobody's to make current.
    let mut after = again(bench, &["b3"]);
    session(&mut after, 0, FEEDS[1], 2);
    assert!(is_stale(&mut after, "xnas:PETR4") && !is_stale(&mut after, "b3:PETR4"));
}

#[test]
fn a_loss_at_one_exchange_is_said_in_its_own_frames_only() {
    let mut bench = bench(&["xnas", "b3"]);
    let [one, other] = both(&mut bench);
    bench.deliver(one, &[trade(1, 0)]);
    bench.deliver(other, &[trade(1, 0)]);
    bench.close(one, CloseReason::Reset);
    // It no longer has what is wanted.
    let (one, _) = session(&mut bench, 0, FEEDS[0], 9);
    bench.deliver(other, &[trade(2, 0)]);
    bench.deliver(one, &[trade(9, 0), trade(10, 0)]);
    let flagged: Vec<(u64, u8)> = bench
        .journaled()
        .iter()
        .filter(|frame| frame.has(Flags::GAP_BEFORE))
        .map(|frame| (frame.view::<Trade>().unwrap().trade_id.get(), frame.exchange().get()))
        .collect();
    assert_eq!(flagged, [(9, 1)]);
}

#[test]
fn nobody_speaks_in_the_name_of_another_exchange() {
    for (symbol, kind) in [("b3:PETR4", "a name"), ("$sys.x", "a system's name")] {
        let mut bench = bench(&["exchange", "b3"]);
        let (conn, _) = session(&mut bench, 0, FEEDS[0], 1);
        bench.deliver(conn, &[ahead(1, symbol)]);
        assert!(bench.closes(conn), "{kind}");
    }
    let place = ExchangePlace {
        seq: U64::new(1),
        next_seq: U64::new(7),
        exchange: U16::new(1),
        ..ExchangePlace::default()
    };
    for name in ["exchange", "b3"] {
        let mut bench = bench(&[name]);
        let (conn, _) = session(&mut bench, 0, FEEDS[0], 1);
        bench.deliver(conn, &[Frame::seal(place)]);
        assert!(bench.closes(conn), "{name}");
    }
    // What an exchange says of its number is not taken over.
    let mut bench = bench(&["xnas", "b3"]);
    let [one, _] = both(&mut bench);
    let flags = U16::new(ExchangeNumber::new(2).unwrap().flags());
    let forged = Trade { flags, ..*trade(1, 0).view::<Trade>().unwrap() };
    bench.deliver(one, &[Frame::seal(forged)]);
    assert_eq!(stored(&bench), said(&[(1, "xnas:PETR4", 1)]));
}

#[test]
fn a_name_that_does_not_fit_is_shown_under_a_substitute_and_that_is_said() {
    let mut bench = bench(&["opra"]);
    let (conn, _) = session(&mut bench, 0, FEEDS[0], 1);
    let long = "SPY   240621C00500000";
    bench.deliver(conn, &[ahead(1, long), trade(1, 1)]);
    assert!(!bench.closes(conn));
    let [(_, name, _)] = &stored(&bench)[..] else { panic!() };
    assert!(name.starts_with("opra:SPY") && name.contains('~'), "{name}");
    let is_said = |action: &Action| matches!(action, Action::Log(_, text) if text.contains(long) && text.contains(name.as_str()));
    assert!(bench.actions.iter().any(is_said));
}

/// Two exchanges whose journal was closed, with these events of it rotten. How far each was.
fn spoilt(rounds: u64, choose: impl Fn(&Bench) -> Vec<u64>) -> (Bench, [u64; 2]) {
    let names = ["xnas", "b3"];
    let mut before = bench(&names);
    let conns = both(&mut before);
    for round in 1..=rounds {
        for conn in conns {
            before.deliver(conn, &[trade(round, 0)]);
            before.sleep_ms(60);
        }
    }
    let lost = choose(&before);
    before.core.handle_stop(before.now);
    let disk = before.disk.kill();
    super::damage::rot(&disk, &lost, true);
    (Bench::configured(named(&names), disk, before.now), [rounds + 1; 2])
}

#[test]
fn a_place_that_is_said_behind_a_loss_is_the_place() {
    // The last events of a segment: the head of the next one, the last, says what holds behind them.
    let lost = |bench: &Bench| {
        let end = *super::damage::ends_of_segments(bench).last().unwrap();
        vec![end - 2, end - 1, end]
    };
    let (mut bench, next) = spoilt(60, lost);
    for index in [0, 1] {
        let (conn, said) = session(&mut bench, index, FEEDS[index], next[index]);
        assert_eq!(said, (FEEDS[index], next[index]), "exchange {index}");
        bench.deliver(conn, &[trade(next[index], 0)]);
    }
    assert!(!super::damage::journaled(&bench).iter().any(|frame| frame.has(Flags::GAP_BEFORE)));
}

#[test]
fn behind_a_loss_that_nothing_tells_each_exchange_says_that_frames_may_be_missing() {
    let lost = |bench: &Bench| {
        let last = bench.core.journal.next_seq() - 1;
        vec![last - 2, last - 1]
    };
    let (mut bench, next) = spoilt(40, lost);
    for index in [0, 1] {
        // One of the two frames was of it. The other number may be one that it has not used.
        let (conn, said) = session(&mut bench, index, FEEDS[index], next[index] + 1);
        assert_eq!(said, (FEEDS[index], next[index] + 1), "exchange {index}");
        bench.deliver(conn, &[trade(next[index] + 1, 0), trade(next[index] + 2, 0)]);
    }
    let frames = super::damage::journaled(&bench);
    let flagged = frames.iter().filter(|frame| frame.has(Flags::GAP_BEFORE));
    assert!(flagged.map(|frame| frame.exchange().get()).eq([1, 2]));
    let is_said =
        |action: &Action| matches!(action, Action::Log(_, text) if text.contains("lost frames"));
    assert_eq!(bench.actions.iter().filter(|action| is_said(action)).count(), 2);
    // It is said once: the place is known again.
    let mut again = restart_cleanly(bench, &["xnas", "b3"]);
    let (conn, _) = session(&mut again, 0, FEEDS[0], next[0] + 3);
    again.deliver(conn, &[trade(next[0] + 3, 0)]);
    let frames = super::damage::journaled(&again);
    assert!(!frames.last().unwrap().has(Flags::GAP_BEFORE));
}

#[test]
fn a_name_that_symbols_of_another_exchange_begin_with_is_refused() {
    let mut before = bench(&["exchange"]);
    let (conn, _) = session(&mut before, 0, FEEDS[0], 1);
    before.deliver(conn, &[ahead(1, "XNAS:QQQ"), trade(1, 1)]);
    let disk = before.disk.kill();
    let (log, recovery) = Log::open(disk.storage(), log_config(), before.now).unwrap();
    let refused = Sequencer::new(named(&["exchange", "XNAS"]), log, &recovery, before.now);
    let text = refused.err().expect("a refusal");
    assert!(text.contains("cannot be called XNAS here"), "{text}");
}

#[test]
fn a_journal_that_has_lost_a_place_is_refused() {
    let mut before = bench(&["xnas"]);
    let (conn, _) = session(&mut before, 0, FEEDS[0], 1);
    before.deliver(conn, &[trade(1, 0)]);
    let places = before.journaled();
    let place = places.iter().find(|frame| frame.view::<ExchangePlace>().is_some()).unwrap();
    let disk = before.disk.kill();
    super::damage::rot(&disk, &[place.seq.get()], true);
    let (log, recovery) = Log::open(disk.storage(), log_config(), before.now).unwrap();
    let refused = Sequencer::new(named(&["xnas"]), log, &recovery, before.now);
    let text = refused.err().expect("a refusal");
    assert!(text.contains("would be stored twice"), "{text}");
}

/// A live exchange that trades these instruments each second for so long, and answers when it is asked.
fn trade_on(bench: &mut Bench, conn: ConnId, next: &mut u64, instruments: &[u32], seconds: u64) {
    for _ in 0..seconds {
        for instrument in instruments {
            bench.deliver(conn, &[trade(*next, *instrument)]);
            *next += 1;
        }
        stand_still(bench, conn, *next, 1);
    }
}

fn stand_still(bench: &mut Bench, conn: ConnId, next: u64, seconds: u64) {
    for _ in 0..2 * seconds {
        bench.sleep_ms(500);
        if let Some(token) = bench.core.exchanges[0].request_token() {
            bench.deliver(conn, &[beat(token, next)]);
        }
        bench.read(conn);
    }
}

#[test]
fn a_mute_exchange_is_told_and_its_instruments_are_not() {
    let mut bench = bench(&["xnas"]);
    let (conn, _) = session(&mut bench, 0, FEEDS[0], 1);
    bench.deliver(conn, &[ahead(1, "VALE3")]);
    let mut next = 1;
    trade_on(&mut bench, conn, &mut next, &[0, 1], 320);
    stand_still(&mut bench, conn, next, 60);
    // One of them comes a little later than the other.
    trade_on(&mut bench, conn, &mut next, &[0], 5);
    trade_on(&mut bench, conn, &mut next, &[0, 1], 5);
    let told: Vec<(String, bool)> = bench
        .journaled()
        .iter()
        .filter_map(|frame| frame.view::<crate::wire::Silence>())
        .map(|it| (it.who.to_string(), it.flags.get() & Flags::HEARD != 0))
        .collect();
    let exchange = "$sys.exchange.xnas".to_owned();
    assert_eq!(told, [(exchange.clone(), false), (exchange, true)]);
    let status = bench.core.status(bench.now).told();
    assert!(status.contains(&"silent_instruments 0".to_owned()), "{status:?}");
    assert!(status.contains(&"exchange.xnas live".to_owned()), "{status:?}");
}
