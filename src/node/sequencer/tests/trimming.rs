//! The journal behind its shards: what is removed, when, and what is still known then.

use super::*;
use crate::log::AppendError;
use crate::wire::{Ack, Cancel, Gap, GapReason};

fn keeping(segments: usize) -> LogConfig {
    let retention = Retention { bytes_max: Some((segments * SEGMENT_BYTES) as u64), age_max: None };
    LogConfig { retention, ..log_config() }
}

fn open(disk: MemoryDisk, now: Now) -> Bench {
    let (log, recovery) = Log::open(disk.storage(), keeping(4), now).unwrap();
    let core = Sequencer::new(config(), log, &recovery, now).unwrap();
    let mut bench = Bench { core, disk, now, next_slot: 0, actions: Vec::new() };
    bench.turn();
    bench
}

fn new() -> Bench {
    open(MemoryDisk::new(4096), Now { mono: Mono(1_000 * MS), wall_ns: 1_000_000 })
}

fn feed(bench: &mut Bench, conn: ConnId, frames: impl Iterator<Item = Frame>) {
    for frame in frames {
        bench.deliver(conn, &[frame]);
        bench.turn();
    }
}

fn first_seq(bench: &Bench) -> u64 {
    bench.core.journal.first_seq().unwrap().get()
}

fn acknowledge(bench: &mut Bench, shard: ConnId, durable_seq: u64) {
    let ack = Ack {
        epoch: U32::new(bench.core.journal.epoch()),
        accepted_seq: U64::new(durable_seq),
        durable_seq: U64::new(durable_seq),
        ..Ack::default()
    };
    bench.deliver(shard, &[Frame::seal(ack)]);
    for _ in 0..40 {
        bench.turn();
    }
}

/// The dial of `broker`, the first follower.
const BROKER: u32 = 1;
/// The dial of `shard-A`, the second follower.
const SHARD: u32 = 2;

#[test]
fn nothing_is_trimmed_that_a_shard_does_not_hold_durably() {
    let mut bench = new();
    let exchange = bench.market();
    feed(&mut bench, exchange, (3..303).map(|seq| quote(seq, 0)));
    assert_eq!(first_seq(&bench), 1, "the shard has never come");
    assert_eq!(bench.core.journal_held_by(), Some("shard-A"));
    let loud = |action: &Action| matches!(action, Action::Log(Level::Error, text) if text.contains("shard-A"));
    assert_eq!(bench.actions.iter().filter(|action| loud(action)).count(), 1, "said once");

    let (shard, _) = bench.follower(SHARD, 1);
    acknowledge(&mut bench, shard, 150);
    let trimmed = first_seq(&bench);
    assert!((100..=150).contains(&trimmed), "{trimmed}");
    acknowledge(&mut bench, shard, 303);
    assert!(first_seq(&bench) > 200, "{}", first_seq(&bench));
    assert_eq!(bench.core.journal_held_by(), None);
}

#[test]
fn a_restarted_core_trims_nothing_before_its_shards_have_spoken() {
    let mut bench = new();
    let exchange = bench.market();
    feed(&mut bench, exchange, (3..103).map(|seq| quote(seq, 0)));
    let mut bench = open(bench.disk.kill(), bench.now);
    let exchange = bench.exchange(FEED, 103, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    feed(&mut bench, exchange, (103..203).map(|seq| quote(seq, 0)));
    assert_eq!(first_seq(&bench), 1);
    // What it says when it comes is enough: a quiet shard need not acknowledge anything new.
    let (conn, core) = bench.greeted(SHARD);
    let (feed, next_seq) = (core.feed, U64::new(103));
    let said = Session { feed, next_seq, durable_seq: next_seq, ..Session::default() };
    bench.deliver(conn, &[Frame::seal(said)]);
    for _ in 0..40 {
        bench.turn();
    }
    assert!(first_seq(&bench) > 50, "{}", first_seq(&bench));
}

/// A journal without its first segments, whose shard holds everything.
fn trimmed() -> (Bench, ConnId) {
    let mut bench = new();
    let exchange = bench.market();
    let (seq, instrument) = (U64::new(4), U32::new(1));
    let cancel = Frame::seal(Cancel { seq, instrument, ..Cancel::default() });
    feed(&mut bench, exchange, [trade(3, 1), cancel].into_iter());
    feed(&mut bench, exchange, (5..305).map(|seq| quote(seq, 0)));
    let (shard, _) = bench.follower(SHARD, 1);
    acknowledge(&mut bench, shard, 305);
    assert!(first_seq(&bench) > 200);
    bench.close(shard, CloseReason::PeerClosed);
    bench.sleep_ms(100);
    (bench, exchange)
}

#[test]
fn core_knows_every_instrument_when_their_first_segments_are_gone() {
    let (bench, _) = trimmed();
    let mut bench = open(bench.disk.kill(), bench.now);
    assert_eq!(bench.core.market.len(), 2);
    let vale3 = bench.core.market.instrument_of(&"VALE3".parse().unwrap()).unwrap();
    let last = bench.core.market.values().last(vale3.index(), Kind::Trade).copied().unwrap();
    assert_eq!((last.seq.get(), last.has(Flags::SNAPSHOT)), (3, false));
    let exchange = bench.exchange(FEED, 305, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    let cancel = Cancel { seq: U64::new(307), instrument: U32::new(1), ..Cancel::default() };
    bench.deliver(exchange, &[quote(305, 0), trade(306, 1), Frame::seal(cancel)]);
    let journaled = bench.journaled();
    let next = |kind: Kind| {
        let of_kind = journaled.iter().rfind(|frame| frame.kind() == Some(kind)).unwrap();
        (of_kind.instrument().index().get(), of_kind.instrument_seq.get())
    };
    // Each counter goes on where it was: of one kind, 300 segments' worth later or not.
    assert_eq!(next(Kind::Quote), (0, 301));
    assert_eq!(next(Kind::Trade), (1, 2));
    assert_eq!(next(Kind::Cancel), (1, 2));
}

#[test]
fn a_shard_that_starts_empty_gets_definitions_and_the_start_of_history() {
    let (mut bench, exchange) = trimmed();
    let begins = first_seq(&bench);
    let (shard, frames) = bench.follower(SHARD, 1);
    assert_eq!(kinds(&frames[..3]), [Kind::Definition, Kind::Definition, Kind::Gap]);
    assert!(frames[..2].iter().all(|frame| frame.has(Flags::SNAPSHOT)));
    let gap = frames[2].view::<Gap>().unwrap();
    assert_eq!((gap.from_seq.get(), gap.to_seq.get()), (1, begins - 1));
    assert_eq!(gap.reason, GapReason::SourceLost as u8);
    assert_eq!(seqs(&frames[3..]), (begins..305).collect::<Vec<_>>());
    assert!(frames[3..].iter().all(|frame| !frame.has(Flags::SNAPSHOT)));
    // It has acknowledged nothing yet, whatever it said in an earlier life.
    feed(&mut bench, exchange, (305..405).map(|seq| quote(seq, 0)));
    assert_eq!(first_seq(&bench), begins);
    assert_eq!(seqs(&bench.read(shard)), (305..405).collect::<Vec<_>>());
}

/// What a follower of everything has to get where the journal begins behind its place: names, last values,
/// where the stream goes on, and the stream.
fn goes_on_with_what_it_missed(frames: &[Frame], begins: u64) {
    let known = [Kind::Definition, Kind::Quote, Kind::Definition, Kind::Trade];
    assert_eq!(kinds(&frames[..4]), known);
    assert!(frames[..4].iter().all(|frame| frame.has(Flags::SNAPSHOT)));
    assert_eq!((frames[1].seq.get(), frames[3].seq.get()), (304, 3));
    assert_eq!(frames[4].view::<Heartbeat>().unwrap().next_seq.get(), begins);
    let streamed: Vec<Frame> =
        frames[5..].iter().filter(|f| f.kind().is_some_and(Kind::is_data)).copied().collect();
    assert_eq!(seqs(&streamed), (begins..305).collect::<Vec<_>>());
    assert!(streamed.iter().all(|frame| !frame.has(Flags::SNAPSHOT)));
}

#[test]
fn a_broker_that_comes_back_too_late_gets_names_and_last_values() {
    let (mut bench, _) = trimmed();
    let begins = first_seq(&bench);
    // It has seen one definition, and nothing since.
    bench.sent_before(BROKER);
    let (_, frames) = bench.follower(BROKER, 2);
    goes_on_with_what_it_missed(&frames, begins);
}

#[test]
fn a_slow_broker_that_the_trimming_overtakes_gets_names_and_last_values() {
    let mut bench = new();
    let exchange = bench.market();
    bench.sent_before(BROKER);
    let (broker, _) = bench.follower(BROKER, 2);
    feed(&mut bench, exchange, [trade(3, 1), trade(4, 1)].into_iter());
    feed(&mut bench, exchange, (5..305).map(|seq| quote(seq, 0)));
    let (shard, _) = bench.follower(SHARD, 1);
    acknowledge(&mut bench, shard, 305);
    let begins = first_seq(&bench);
    assert!(begins > 200);
    let frames = bench.read(broker);
    let is_known = |frame: &&Frame| frame.has(Flags::SNAPSHOT);
    let known: Vec<u64> = frames.iter().filter(is_known).map(|frame| frame.seq.get()).collect();
    assert_eq!(known, [1, 304, 2, 4]);
    let streamed: Vec<u64> = frames
        .iter()
        .filter(|frame| !is_known(frame) && frame.kind().is_some_and(Kind::is_data))
        .map(|frame| frame.seq.get())
        .collect();
    assert_eq!(streamed, (begins..305).collect::<Vec<_>>());
}

#[test]
fn a_replay_of_a_trimmed_journal_says_where_it_begins_and_has_no_statements() {
    let (mut bench, _) = trimmed();
    let begins = first_seq(&bench);
    let conn = bench.querier();
    bench.deliver(conn, &[ask(1, Op::Replay, "*", u16::MAX, 1, u64::MAX)]);
    let frames = bench.read(conn);
    let rows: Vec<Frame> = frames
        .iter()
        .filter(|frame| frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT))
        .copied()
        .collect();
    assert_eq!(seqs(&rows), (begins..305).collect::<Vec<_>>());
    let gap = frames[1].view::<Gap>().expect("before the first row");
    assert_eq!((gap.reason, gap.from_seq.get()), (GapReason::SourceLost as u8, 1));
    assert_eq!(gap.to_seq.get(), begins - 1);
    let end = frames.last().unwrap().view::<Ended>().unwrap();
    assert_eq!((end.covered_from.get(), end.covered_to.get()), (begins, 305));
}

#[test]
fn more_statements_than_a_segment_bears_stop_the_trimming_and_nothing_else() {
    let mut bench = new();
    let names: Vec<Frame> = (0..8).map(|index| ahead(index, &format!("SHARE{index}"))).collect();
    let exchange = bench.exchange(FEED, 1, &names);
    feed(&mut bench, exchange, (1..101).map(|seq| quote(seq, u32::try_from(seq).unwrap() % 8)));
    let (shard, _) = bench.follower(SHARD, 1);
    let all = bench.core.journal.next_seq();
    acknowledge(&mut bench, shard, all);
    // The first segments still had room for what little was known then.
    assert!(first_seq(&bench) < 30, "{}", first_seq(&bench));
    assert_eq!(bench.core.journal.next_seq(), 109);
    let told = |action: &&Action| matches!(action, Action::Log(Level::Error, text) if text.contains("too many"));
    assert!(bench.actions.iter().any(|action| told(&action)));
    assert_ne!(bench.core.journal.append(&quote(1, 0)), Err(AppendError::CheckpointDue));
}

#[test]
fn a_shard_that_missed_epochs_is_sent_the_start_of_the_first() {
    let mut bench = new();
    let mut next_seqs = vec![bench.core.journal.next_seq()];
    for life in 0..4 {
        let first = 1 + 10 * life;
        let exchange = bench.exchange(FEED, first, &[ahead(0, "PETR4")]);
        feed(&mut bench, exchange, (first..first + 10).map(|seq| quote(seq, 0)));
        next_seqs.push(bench.core.journal.next_seq());
        bench = open(bench.disk.kill(), bench.now);
    }
    assert_eq!(bench.core.journal.epoch(), 5);
    let conn = bench.open(Origin::Dialed(DialId(SHARD)));
    bench.read(conn);
    let old = Session { epoch: U32::new(2), next_seq: U64::new(20), ..Session::default() };
    bench.deliver(conn, &[Frame::seal(old)]);
    let told = bench.read(conn);
    let told = told[0].view::<Session>().unwrap();
    assert_eq!(
        (told.epoch.get(), told.epoch_start.get()),
        (5, next_seqs[2]),
        "epoch 3 began there"
    );
    // It takes that over, and gets on.
    let taken = Session { epoch: U32::new(5), next_seq: told.epoch_start, ..Session::default() };
    bench.deliver(conn, &[Frame::seal(taken)]);
    assert_eq!(seqs(&bench.read(conn)).first(), Some(&next_seqs[2]));
}
