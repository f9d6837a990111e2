//! Producers: whoever brings a feed is told where it goes on, and what of it is stored.

use super::*;
use crate::limits;
use crate::wire::{Ack, ErrorCode, SnapshotEnd};

const OWN: u64 = 0xA1;
const OTHER: u64 = 0xB1;

fn offer(name: &str, feed: u64, first: u64) -> Session {
    let role = Role::Producer as u8;
    Session {
        role,
        options: U16::new(Session::APPENDS),
        name: padded(name),
        feed: U64::new(feed),
        next_seq: U64::new(first),
        ..Session::default()
    }
}

/// A producer that was let in, and the number that core wants next.
fn producer(bench: &mut Bench, offer: Session) -> (ConnId, u64) {
    let conn = bench.open(Origin::LOCAL);
    bench.deliver(conn, &[Frame::seal(offer)]);
    let frames = bench.read(conn);
    let answer = frames[0].view::<Session>().unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(answer.feed, offer.feed);
    (conn, answer.next_seq.get())
}

fn own(bench: &mut Bench) -> (ConnId, u64) {
    own_of(bench, "own")
}

fn own_of(bench: &mut Bench, name: &str) -> (ConnId, u64) {
    let (conn, wanted) = producer(bench, offer(name, OWN, 1));
    bench.deliver(conn, &[ahead(0, "GOLD")]);
    (conn, wanted)
}

fn refusal(bench: &mut Bench, offer: Session) -> (Option<ErrorCode>, String) {
    let conn = bench.open(Origin::LOCAL);
    bench.deliver(conn, &[Frame::seal(offer)]);
    let frames = bench.read(conn);
    let refusal = frames[0].view::<Refusal>().unwrap_or_else(|| panic!("{frames:?}"));
    (ErrorCode::from_number(refusal.code.get()), unpadded(&refusal.text))
}

/// What the last ACK says: accepted and durable.
fn acked(frames: &[Frame]) -> Option<(u64, u64)> {
    let ack = frames.iter().filter_map(Frame::view::<Ack>).next_back()?;
    Some((ack.accepted_seq.get(), ack.durable_seq.get()))
}

/// All syncs that are under way end.
/// A journal whose segments hold many statements.
fn roomy() -> Bench {
    let now = Now { mono: Mono(1_000 * MS), wall_ns: 1_000_000 };
    let log = LogConfig { segment_records: 1 << 14, ..log_config() };
    Bench::opened(config(), log, MemoryDisk::new(4096), now)
}

fn sync(bench: &mut Bench) {
    bench.disk.pause_jobs(false);
    (0..3).for_each(|_| bench.sleep_ms(60));
}

#[test]
fn what_is_journaled_is_accepted_and_what_is_synced_is_durable() {
    let mut bench = Bench::new();
    let (conn, wanted) = own(&mut bench);
    assert_eq!(wanted, 1);
    sync(&mut bench);
    bench.read(conn);
    bench.disk.pause_jobs(true);
    bench.deliver(conn, &[trade(1, 0), trade(2, 0)]);
    assert_eq!(acked(&bench.read(conn)), Some((3, 1)));
    sync(&mut bench);
    assert_eq!(acked(&bench.read(conn)), Some((3, 3)));
    assert_eq!(bench.kept(), [1, 2]);
    let names = bench.journaled().iter().filter_map(Frame::view::<Definition>).any(|it| {
        it.symbol.as_str() == "own:GOLD" && it.short_form().is_some_and(|it| it.as_str() == "GOLD")
    });
    assert!(names);
}

#[test]
fn a_number_is_stored_once_whoever_dies() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.deliver(conn, &[trade(1, 0), trade(2, 0), trade(3, 0)]);
    // The producer dies before it hears of it.
    bench.close(conn, CloseReason::Reset);
    let (conn, wanted) = own(&mut bench);
    assert_eq!(wanted, 4);
    bench.deliver(conn, &[trade(2, 0), trade(3, 0), trade(4, 0)]);
    // Core dies.
    let mut bench = bench.restart();
    let (conn, wanted) = own(&mut bench);
    assert_eq!(wanted, 5);
    bench.deliver(conn, &[trade(5, 0)]);
    assert_eq!(bench.kept(), [1, 2, 3, 4, 5]);
}

#[test]
fn another_feed_comes_behind_the_one_that_is_there_only_where_the_producer_says_so() {
    let mut bench = Bench::new();
    let unasked = |feed| Session { options: U16::ZERO, ..offer("own", feed, 1) };
    for (feed, trade) in [(OWN, trade(1, 0)), (OTHER, trade(1, 0))] {
        let (conn, _) = producer(&mut bench, offer("own", feed, 1));
        bench.deliver(conn, &[ahead(0, "GOLD"), trade]);
        bench.close(conn, CloseReason::PeerClosed);
    }
    let text = "another feed than the journal holds".to_owned();
    assert_eq!(refusal(&mut bench, unasked(0xC1)), (Some(ErrorCode::Unexpected), text));
    for feed in [OTHER, OWN] {
        let (conn, wanted) = producer(&mut bench, unasked(feed));
        assert_eq!(wanted, 2, "it is known");
        bench.close(conn, CloseReason::PeerClosed);
    }
}

#[test]
fn a_feed_that_was_left_goes_on_where_it_was_left() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.deliver(conn, &[trade(1, 0), trade(2, 0)]);
    bench.close(conn, CloseReason::PeerClosed);
    let (conn, wanted) = producer(&mut bench, offer("own", OTHER, 1));
    assert_eq!(wanted, 1);
    bench.deliver(conn, &[ahead(0, "GOLD"), trade(1, 0)]);
    bench.close(conn, CloseReason::PeerClosed);
    let mut bench = bench.restart();
    let (conn, wanted) = own(&mut bench);
    assert_eq!(wanted, 3);
    bench.deliver(conn, &[trade(3, 0)]);
    bench.close(conn, CloseReason::PeerClosed);
    assert_eq!(producer(&mut bench, offer("own", OTHER, 1)).1, 2);
    assert_eq!(bench.kept(), [1, 2, 1, 3]);
    let gaps = bench.journaled().iter().filter(|frame| frame.has(Flags::GAP_BEFORE)).count();
    assert_eq!(gaps, 0, "nothing is missing");
}

#[test]
fn a_frame_that_is_missing_is_asked_for_again_and_what_is_gone_is_told() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.read(conn);
    bench.deliver(conn, &[trade(1, 0), trade(3, 0)]);
    let asked = resumes(&bench.read(conn));
    assert_eq!(asked[0].1, 2);
    bench.deliver(conn, &[beat(asked[0].0, 2), trade(2, 0), trade(3, 0)]);
    bench.close(conn, CloseReason::Reset);
    let text = "numbers before yours are missing here".to_owned();
    let jump = refusal(&mut bench, offer("own", OWN, 7));
    assert_eq!(jump, (Some(ErrorCode::Unexpected), text));
    let (conn, wanted) = producer(&mut bench, offer("own", OTHER, 7));
    assert_eq!(wanted, 7);
    bench.deliver(conn, &[ahead(0, "GOLD"), trade(7, 0)]);
    assert_eq!(bench.kept(), [1, 2, 3, 7]);
    assert!(bench.journaled().last().unwrap().has(Flags::GAP_BEFORE));
}

#[test]
fn a_producer_is_told_the_instruments_of_its_exchange_and_no_others() {
    let mut bench = roomy();
    bench.market();
    let (conn, _) = producer(&mut bench, offer("own", OWN, 1));
    let names: Vec<Frame> = (0..300).map(|index| ahead(index, &format!("S{index}"))).collect();
    bench.deliver(conn, &names);
    bench.close(conn, CloseReason::PeerClosed);
    let other = bench.open(Origin::LOCAL);
    bench.deliver(other, &[Frame::seal(offer("other", OWN, 1)), ahead(0, "S0")]);
    let again = bench.open(Origin::LOCAL);
    bench.deliver(again, &[Frame::seal(offer("own", OWN, 1))]);
    let frames = bench.read(again);
    let told: Vec<&Definition> = frames.iter().filter_map(Frame::view::<Definition>).collect();
    assert_eq!(told.len(), 300);
    assert!(told.iter().all(|it| it.symbol.as_str().starts_with("own:S")));
    let end = frames.iter().filter_map(Frame::view::<SnapshotEnd>).next().unwrap();
    assert_eq!((end.frames.get(), end.next_seq.get()), (300, 1));
}

#[test]
fn many_instruments_are_looked_at_in_pieces() {
    let mut bench = roomy();
    let conn = bench.market();
    let count = u32::try_from(2 * limits::DEFINITIONS_PER_FILL_MAX).unwrap();
    let names: Vec<Frame> = (2..count).map(|index| ahead(index, &format!("X{index}"))).collect();
    bench.deliver(conn, &names);
    let (conn, _) = own(&mut bench);
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.extend(bench.read(conn));
        bench.turn();
    }
    assert_eq!(frames.iter().filter(|frame| frame.view::<SnapshotEnd>().is_some()).count(), 1);
}

#[test]
fn who_may_not_produce_is_told_why() {
    let mut bench = roomy();
    own(&mut bench);
    use ErrorCode::{Limit, Unexpected};
    let taken = refusal(&mut bench, offer("own", OTHER, 1));
    assert_eq!(taken, (Some(Limit), "this exchange has a producer already".to_owned()));
    for (offer, want) in [
        (offer("OWN", OTHER, 1), "an exchange is called so in other letters"),
        (offer("exchange", OTHER, 1), "core dials this exchange itself"),
        (offer("shard-A", OTHER, 1), "a node or a breaker is called so"),
        (offer("", OTHER, 1), "1 to 8 letters, digits, - and _ name an exchange"),
        (offer("two", 0, 1), "a producer's feed needs an identity, not 0"),
        (offer("two", OTHER, u64::MAX), "a place that no feed has"),
        (
            Session { durable_seq: U64::new(3), ..offer("two", OTHER, 5) },
            "a place that no feed has",
        ),
    ] {
        assert_eq!(refusal(&mut bench, offer), (Some(Unexpected), want.to_owned()));
    }
    for number in 1..31 {
        let (conn, wanted) = producer(&mut bench, offer(&format!("x{number}"), OTHER, 1));
        assert_eq!(wanted, 1);
        bench.deliver(conn, &[ahead(0, "GOLD")]);
    }
    let full = refusal(&mut bench, offer("late", OTHER, 1));
    assert_eq!(full, (Some(Limit), "no number is left for another exchange".to_owned()));
}

#[test]
fn who_only_comes_and_goes_leaves_nothing_behind() {
    let mut bench = roomy();
    let (conn, _) = own(&mut bench);
    bench.deliver(conn, &[trade(1, 0)]);
    bench.close(conn, CloseReason::PeerClosed);
    let before = bench.journaled().len();
    for number in 1..31 {
        let (conn, _) = producer(&mut bench, offer(&format!("x{number}"), OTHER, 1));
        bench.close(conn, CloseReason::PeerClosed);
        // Another feed of an exchange that is known.
        let (conn, wanted) = producer(&mut bench, offer("own", OTHER + number, 1));
        assert_eq!(wanted, 1);
        bench.close(conn, CloseReason::PeerClosed);
    }
    assert_eq!(bench.journaled().len(), before);
    // The numbers are free again after a start, and those of listed exchanges are theirs.
    let listed =
        ExchangeConfig { name: "late".to_owned(), address: None, ..config().exchanges[0].clone() };
    let exchanges = vec![config().exchanges[0].clone(), listed];
    let (disk, now) = (bench.disk.kill(), bench.now);
    let log = LogConfig { segment_records: 1 << 14, ..log_config() };
    let config = SequencerConfig { exchanges, takes_unlisted: false, ..config() };
    let mut bench = Bench::opened(config, log, disk, now);
    let (conn, wanted) = own_of(&mut bench, "late");
    assert_eq!(wanted, 1);
    bench.deliver(conn, &[trade(1, 0)]);
    assert_eq!(bench.journaled().last().unwrap().exchange().get(), 2);
    let text = "core takes listed exchanges only".to_owned();
    assert_eq!(refusal(&mut bench, offer("x1", OTHER, 1)), (Some(ErrorCode::Unexpected), text));
}

#[test]
fn the_answer_to_a_resume_is_no_way_to_jump() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.read(conn);
    bench.deliver(conn, &[trade(1, 0), trade(3, 0)]);
    let (token, wanted) = resumes(&bench.read(conn))[0];
    assert_eq!(wanted, 2);
    bench.deliver(conn, &[beat(token, 1 << 62)]);
    let refusal = bench.read(conn);
    assert!(refusal.iter().any(|frame| frame.view::<Refusal>().is_some()), "{refusal:?}");
    bench.close(conn, CloseReason::Ours);
    assert_eq!(own(&mut bench).1, 2);
}

#[test]
fn producers_leave_instrument_numbers_to_others_and_are_told_how_many_are_left() {
    let mut bench = roomy();
    let market = bench.market();
    let (conn, _) = producer(&mut bench, offer("own", OWN, 1));
    let count = u32::try_from(limits::INSTRUMENTS_OF_PRODUCERS_MAX).unwrap();
    let names: Vec<Frame> = (0..count).map(|index| ahead(index, &format!("S{index}"))).collect();
    let mut refused = Vec::new();
    for piece in names.chunks(4_000) {
        bench.deliver(conn, piece);
        bench.sleep_ms(1);
        refused.extend(bench.read(conn));
    }
    let refusal = refused.iter().filter_map(Frame::view::<Refusal>).next().unwrap();
    assert_eq!(ErrorCode::from_number(refusal.code.get()), Some(ErrorCode::Limit));
    bench.close(conn, CloseReason::Ours);
    bench.deliver(market, &[definition(3, 2, "LATE"), quote(4, 2)]);
    assert_eq!(bench.kept(), [4], "the market's own instruments have room");
    let again = bench.open(Origin::LOCAL);
    bench.deliver(again, &[Frame::seal(offer("own", OWN, 1))]);
    let mut frames = Vec::new();
    for _ in 0..40 {
        frames.extend(bench.read(again));
        bench.turn();
    }
    let end = frames.iter().filter_map(Frame::view::<SnapshotEnd>).next().unwrap();
    assert_eq!(end.id.get(), 0);
}

#[test]
fn while_the_journal_has_no_room_a_producer_is_not_taken_for_silent() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.disk.set_bytes_max(0);
    let mut next = 1;
    while !bench.core.is_held_back {
        bench.deliver(conn, &[trade(next, 0)]);
        next += 1;
    }
    bench.read(conn);
    for _ in 0..100 {
        bench.sleep_ms(1_000);
    }
    let frames = bench.read(conn);
    assert!(!frames.iter().any(|frame| frame.view::<Refusal>().is_some()), "{frames:?}");
    bench.disk.set_bytes_max(usize::MAX);
    while bench.core.is_held_back {
        bench.sleep_ms(100);
    }
    bench.sleep_ms(100);
    let frames = bench.read(conn);
    assert!(!frames.iter().any(|frame| frame.view::<Refusal>().is_some()), "{frames:?}");
    assert_eq!(resumes(&frames)[0].1, next - 1);
}

#[test]
fn a_definition_with_a_number_and_a_kind_of_the_system_are_refused() {
    let mut bench = Bench::new();
    for bad in [definition(1, 1, "IRON"), ahead(1, "$sys.x"), Frame::seal(Ack::default())] {
        let (conn, _) = own(&mut bench);
        bench.deliver(conn, &[bad]);
        let frames = bench.read(conn);
        assert!(frames.iter().any(|frame| frame.view::<Refusal>().is_some()), "{bad:?}");
        bench.close(conn, CloseReason::Ours);
    }
    assert!(bench.kept().is_empty());
}

#[test]
fn a_feed_that_is_shorter_than_what_core_has_of_it_is_refused() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.deliver(conn, &[trade(1, 0), trade(2, 0)]);
    bench.close(conn, CloseReason::PeerClosed);
    let shorter = Session { durable_seq: U64::new(2), ..offer("own", OWN, 1) };
    let text = "core has more of this feed than you offer".to_owned();
    assert_eq!(refusal(&mut bench, shorter), (Some(ErrorCode::Unexpected), text));
}

#[test]
fn a_feed_that_has_ended_stays_ended_when_its_producer_goes() {
    let mut bench = Bench::new();
    let state = |bench: &Bench| {
        let told = bench.core.status(bench.now).told();
        let state = told.iter().find_map(|line| line.strip_prefix("exchange.own "));
        state.map(str::to_owned)
    };
    let (conn, _) = own(&mut bench);
    bench.deliver(conn, &[trade(1, 0)]);
    assert_eq!(state(&bench).as_deref(), Some("live"));
    bench.close(conn, CloseReason::Reset);
    assert_eq!(state(&bench).as_deref(), Some("away"));
    let (conn, _) = own(&mut bench);
    let end =
        Heartbeat { flags: U16::new(Flags::ENDED), next_seq: U64::new(3), ..Heartbeat::default() };
    // It has sent one more than core has.
    bench.deliver(conn, &[Frame::seal(end)]);
    assert_eq!(state(&bench).as_deref(), Some("behind"));
    let token = resumes(&bench.read(conn))[0].0;
    bench.deliver(conn, &[beat(token, 2), trade(2, 0), Frame::seal(end)]);
    assert_eq!(state(&bench).as_deref(), Some("ended"));
    bench.close(conn, CloseReason::PeerClosed);
    assert_eq!(state(&bench).as_deref(), Some("ended"));
}

#[test]
fn a_producer_that_is_silent_is_given_up_and_told() {
    let mut bench = Bench::new();
    let (conn, _) = own(&mut bench);
    bench.read(conn);
    for _ in 0..50 {
        bench.sleep_ms(100);
    }
    let frames = bench.read(conn);
    let refusal = frames.iter().filter_map(Frame::view::<Refusal>).next().unwrap();
    assert_eq!(unpadded(&refusal.text), "the exchange is silent");
    bench.close(conn, CloseReason::Ours);
    assert_eq!(own(&mut bench).1, 1);
}

#[test]
fn behind_rot_core_wants_no_more_than_the_producer_has_and_says_that_something_may_be_missing() {
    let mut before = Bench::new();
    let market = before.market();
    let (own, _) = own(&mut before);
    for number in 1..=28 {
        before.deliver(own, &[trade(number, 0)]);
        before.deliver(market, &[quote(number + 2, 0)]);
        before.sleep_ms(60);
    }
    // One is of the producer. Its place counts both.
    let last = before.core.journal.next_seq() - 1;
    let lost = [last - 2, last - 1];
    before.core.handle_stop(before.now);
    let disk = before.disk.kill();
    super::damage::rot(&disk, &lost, true);
    let mut bench = Bench::on(disk, before.now);
    let offered = Session { durable_seq: U64::new(29), ..offer("own", OWN, 18) };
    let (conn, wanted) = producer(&mut bench, offered);
    assert_eq!(wanted, 29);
    bench.deliver(conn, &[ahead(0, "GOLD"), trade(29, 0)]);
    let frames = super::damage::journaled(&bench);
    let trade = frames.iter().rev().find_map(Frame::view::<Trade>).unwrap();
    assert_eq!(trade.trade_id.get(), 29);
    assert!(
        frames.iter().rev().find(|it| it.view::<Trade>().is_some()).unwrap().has(Flags::GAP_BEFORE)
    );
    // Now it is known again.
    bench.close(conn, CloseReason::PeerClosed);
    let offered = Session { durable_seq: U64::new(29), ..offer("own", OWN, 18) };
    assert_eq!(refusal(&mut bench, offered).1, "core has more of this feed than you offer");
}
