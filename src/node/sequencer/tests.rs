//! The sequencer as a machine: the exchange and the followers are played by hand, the disk is in memory.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exchanges::EXCHANGE_DIAL;
use super::*;
use crate::breaker;
use crate::log::memory::{MemoryDisk, MemoryStorage};
use crate::log::{LogConfig, Read, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::market::partition::Partition;
use crate::node::{Action, FrameInput, Node, Origin};
use crate::wire::{
    Definition, Ended, Kind, Op, Query, Quote, Refusal, Resume, Role, Run, Size, Symbol, Trade,
    U16, as_frames, unpadded,
};

/// A market that is no recording.
const FEED: u64 = 0xFEEC;
const MS: u64 = 1_000_000;
/// A segment with this many records, and its header.
const SEGMENT_RECORDS: u64 = 32;
const SEGMENT_BYTES: usize = 4096 + 32 * 64;

struct Bench {
    core: Sequencer<MemoryStorage>,
    disk: MemoryDisk,
    now: Now,
    next_slot: u32,
    actions: Vec<Action>,
}

fn definition(seq: u64, index: u32, symbol: &str) -> Frame {
    let mut definition = Definition::new(U32::new(index).into(), symbol.parse().unwrap(), 2);
    definition.seq = U64::new(seq);
    Frame::seal(definition)
}

fn ahead(index: u32, symbol: &str) -> Frame {
    definition(u64::from(index) + 1, index, symbol).delivered(Flags::SNAPSHOT)
}

fn quote(seq: u64, index: u32) -> Frame {
    let (seq, instrument) = (U64::new(seq), U32::new(index));
    let bid_qty = Size::new(seq.get());
    Frame::seal(Quote { seq, instrument, bid_qty, ..Quote::default() })
}

fn trade(seq: u64, index: u32) -> Frame {
    let (seq, instrument) = (U64::new(seq), U32::new(index));
    Frame::seal(Trade { seq, instrument, trade_id: seq, ..Trade::default() })
}

fn beat(token: u32, next_seq: u64) -> Frame {
    let (token, next_seq) = (U32::new(token), U64::new(next_seq));
    Frame::seal(Heartbeat { token, next_seq, ..Heartbeat::default() })
}

fn log_config() -> LogConfig {
    LogConfig {
        name: padded("core"),
        segment_records: SEGMENT_RECORDS,
        policy: SyncPolicy::Batch,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    }
}

fn config() -> SequencerConfig {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let follower = |name: &str, shard| FollowerConfig { name: name.to_owned(), address, shard };
    SequencerConfig {
        exchanges: vec![ExchangeConfig::nameless(address, breaker::Config::default())],
        followers: vec![follower("broker", None), follower("shard-A", Some(0))],
        partition: Partition::hash(1).unwrap(),
        breaker: breaker::Config::default(),
        heartbeat: Duration::from_secs(1),
        silence_max: Duration::from_secs(3),
        request_deadline: Duration::from_millis(500),
        connect_deadline: Duration::from_secs(1),
        broker_warmup_frames: 2,
        seed: 1,
        epoch_id: EPOCH_IDS.fetch_add(1, Ordering::Relaxed),
        takes_unlisted: true,
        appends: false,
    }
}

/// Each start of core begins an epoch of its own.
static EPOCH_IDS: AtomicU64 = AtomicU64::new(1_000);

impl Bench {
    fn new() -> Bench {
        Bench::on(MemoryDisk::new(4096), Now { mono: Mono(1_000 * MS), wall_ns: 1_000_000 })
    }

    fn on(disk: MemoryDisk, now: Now) -> Bench {
        Bench::configured(config(), disk, now)
    }

    fn configured(config: SequencerConfig, disk: MemoryDisk, now: Now) -> Bench {
        Bench::opened(config, log_config(), disk, now)
    }

    fn opened(config: SequencerConfig, log_config: LogConfig, disk: MemoryDisk, now: Now) -> Bench {
        let (log, recovery) = Log::open(disk.storage(), log_config, now).unwrap();
        let core = Sequencer::new(config, log, &recovery, now).unwrap();
        let mut bench = Bench { core, disk, now, next_slot: 0, actions: Vec::new() };
        bench.turn();
        bench
    }

    /// The process dies and starts again.
    fn restart(self) -> Bench {
        Bench::on(self.disk.kill(), self.now)
    }

    fn turn(&mut self) {
        self.core.handle_storage(self.now);
        self.finish_turn();
    }

    fn finish_turn(&mut self) {
        self.core.handle_timers(self.now);
        self.core.commit(self.now);
        self.actions.extend(std::iter::from_fn(|| self.core.poll_action()));
    }

    fn deliver(&mut self, conn: ConnId, frames: &[Frame]) {
        self.core.handle_storage(self.now);
        self.core.handle_frames(self.now, conn, frames);
        self.finish_turn();
    }

    fn sleep_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
        self.now.wall_ns += ms * MS;
        self.turn();
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        self.next_slot += 1;
        let conn = ConnId { generation: self.next_slot, slot: self.next_slot };
        self.core.handle_open(self.now, conn, origin);
        conn
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.core.handle_close(self.now, conn, reason);
        self.turn();
    }

    /// A session with the exchange, that begins at `next_seq`, and the definitions ahead of it.
    fn exchange(&mut self, feed: u64, next_seq: u64, ahead: &[Frame]) -> ConnId {
        let (feed, next_seq) = (U64::new(feed), U64::new(next_seq));
        self.exchange_that_offers(Session { feed, next_seq, ..Session::default() }, ahead)
    }

    fn exchange_that_offers(&mut self, session: Session, ahead: &[Frame]) -> ConnId {
        let (conn, _) = self.dialed_exchange(EXCHANGE_DIAL);
        self.deliver(conn, &[&[Frame::seal(session)], ahead].concat());
        conn
    }

    /// Core has dialed an exchange; what it said.
    fn dialed_exchange(&mut self, wanted: DialId) -> (ConnId, Session) {
        let redials =
            |action: &Action| matches!(action, Action::Dial { dial, .. } if *dial == wanted);
        while !self.actions.iter().any(redials) {
            self.sleep_ms(10);
        }
        self.actions.retain(|action| !redials(action));
        let conn = self.open(Origin::Dialed(wanted));
        let said = *self.read(conn)[0].view::<Session>().unwrap();
        (conn, said)
    }

    /// A session from the beginning, with PETR4 (0) and VALE3 (1) defined by frames 1 and 2.
    fn market(&mut self) -> ConnId {
        let names = [ahead(0, "PETR4"), ahead(1, "VALE3")];
        let conn = self.exchange(FEED, 1, &names);
        self.deliver(conn, &[definition(1, 0, "PETR4"), definition(2, 1, "VALE3")]);
        conn
    }

    /// A follower of core's epoch, and what it is sent besides the lineage.
    fn follower(&mut self, dial: u32, next_seq: u64) -> (ConnId, Vec<Frame>) {
        let (conn, core) = self.greeted(dial);
        let next_seq = U64::new(next_seq);
        let answer = Session { feed: core.feed, epoch: core.epoch, next_seq, ..Session::default() };
        self.deliver(conn, &[Frame::seal(answer)]);
        self.turn();
        let mut frames = self.read(conn);
        frames.retain(|frame| frame.kind() != Some(Kind::Lineage));
        (conn, frames)
    }

    /// A follower was sent all that there is, on a connection that has ended.
    fn sent_before(&mut self, dial: u32) {
        let (conn, _) = self.follower(dial, 1);
        self.read(conn);
        self.core.handle_close(self.now, conn, CloseReason::Reset);
    }

    /// Core has connected to a follower; what it said.
    fn greeted(&mut self, dial: u32) -> (ConnId, Session) {
        let dials = |action: &Action| matches!(action, Action::Dial { dial: it, .. } if *it == DialId(dial));
        while !self.actions.iter().any(dials) {
            self.sleep_ms(100);
        }
        self.actions.retain(|action| !dials(action));
        let conn = self.open(Origin::Dialed(DialId(dial)));
        let said = *self.read(conn)[0].view::<Session>().unwrap();
        (conn, said)
    }

    fn querier(&mut self) -> ConnId {
        let conn = self.open(Origin::LOCAL);
        let role = Role::Querier as u8;
        self.deliver(conn, &[Frame::seal(Session { role, ..Session::default() })]);
        self.read(conn);
        conn
    }

    /// Reads at most so many bytes, all at once.
    fn read_bytes(&mut self, conn: ConnId, limit: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < limit {
            let head = self.core.outgoing(self.now, conn).head.to_vec();
            let taken = head.len().min(limit - read.len());
            if taken == 0 && self.core.has_bulk() {
                // The rest has its part of the next turn.
                self.begin_part(conn);
                if !self.core.outgoing(self.now, conn).is_empty() {
                    continue;
                }
            }
            if taken == 0 {
                break;
            }
            read.extend_from_slice(&head[..taken]);
            self.core.handle_sent(self.now, conn, taken);
        }
        read
    }

    fn read(&mut self, conn: ConnId) -> Vec<Frame> {
        frames_of(&self.read_bytes(conn, usize::MAX))
    }

    fn journaled(&self) -> Vec<Frame> {
        let journal = &self.core.journal;
        let (mut frames, mut position) = (Vec::new(), journal.first_position());
        while let Read::Frames(read) = journal.read(position, usize::MAX) {
            frames.extend(read.iter().filter(|frame| crate::log::is_event(frame)));
            position += read.len() as u64;
        }
        frames
    }

    /// What the journal holds of the market, named by symbol and by the exchange's own numbers.
    fn kept(&self) -> Vec<u64> {
        let id = |frame: &Frame| {
            let trade = frame.view::<Trade>().map(|trade| trade.trade_id.get());
            trade.or(frame
                .view::<Quote>()
                .map(|quote| u64::try_from(quote.bid_qty.units()).unwrap()))
        };
        self.journaled().iter().filter_map(id).collect()
    }

    fn closes(&mut self, conn: ConnId) -> bool {
        self.actions.contains(&Action::Close(conn))
    }
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = as_frames(bytes);
    assert!(rest.is_empty(), "the stream ends inside a frame");
    assert!(frames.iter().all(|frame| frame.check().is_ok()));
    frames.to_vec()
}

fn resumes(frames: &[Frame]) -> Vec<(u32, u64)> {
    let resumes = frames.iter().filter_map(Frame::view::<Resume>);
    resumes.map(|resume| (resume.id.get(), resume.next_seq.get())).collect()
}

fn kinds(frames: &[Frame]) -> Vec<Kind> {
    frames.iter().filter_map(Frame::kind).collect()
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    let data = frames.iter().filter(|f| f.kind().is_some_and(Kind::is_data));
    data.map(|f| f.seq.get()).collect()
}

fn ask(id: u32, op: Op, symbol: &str, kinds: u16, from: u64, to: u64) -> Frame {
    Frame::seal(Query {
        id: U32::new(id),
        op: op as u8,
        kinds: U16::new(kinds),
        symbol: padded(symbol),
        from: U64::new(from),
        to: U64::new(to),
        ..Query::default()
    })
}

#[test]
fn a_hole_in_the_feed_is_asked_for_once_and_filled_in_order() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0), quote(5, 0), quote(6, 1)]);
    let asked = resumes(&bench.read(conn));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1, 4);
    // What was under way before the exchange went back changes nothing.
    bench.deliver(conn, &[quote(7, 0), quote(8, 0)]);
    assert!(resumes(&bench.read(conn)).is_empty(), "one request is enough");
    let answer = beat(asked[0].0, 4);
    bench.deliver(conn, &[answer, trade(4, 1), quote(5, 0), quote(6, 1), quote(7, 0)]);
    assert_eq!(bench.kept(), [3, 4, 5, 6, 7]);
    assert!(resumes(&bench.read(conn)).is_empty());
    assert!(!bench.closes(conn));
}

#[test]
fn a_duplicate_is_dropped() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0), quote(3, 0), definition(2, 1, "VALE3"), quote(4, 0)]);
    assert_eq!(bench.kept(), [3, 4]);
    assert_eq!(bench.core.exchanges[0].duplicates, 2);
}

#[test]
fn the_loss_of_the_last_frame_is_noticed_by_the_next_heartbeat() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0), beat(0, 4)]);
    assert!(resumes(&bench.read(conn)).is_empty());
    bench.deliver(conn, &[beat(0, 6)]);
    let asked = resumes(&bench.read(conn));
    assert_eq!(asked.iter().map(|r| r.1).collect::<Vec<_>>(), [4]);
    bench.deliver(conn, &[beat(asked[0].0, 4), quote(4, 0), quote(5, 0)]);
    assert_eq!(bench.kept(), [3, 4, 5]);
}

#[test]
fn an_exchange_that_cannot_go_back_so_far_is_not_asked_for_ever() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(9, 0)]);
    let asked = resumes(&bench.read(conn));
    bench.deliver(conn, &[beat(asked[0].0, 7), quote(7, 0), quote(8, 0), quote(9, 1)]);
    assert_eq!(bench.kept(), [7, 8, 9]);
    assert!(resumes(&bench.read(conn)).is_empty());
    let marked: Vec<bool> =
        bench.journaled()[2..].iter().map(|frame| frame.has(Flags::GAP_BEFORE)).collect();
    assert_eq!(marked, [true, false, true], "the next frame of each instrument tells of the loss");
}

#[test]
fn a_question_of_the_exchange_is_no_answer_to_ours() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(4, 0)]);
    let id = resumes(&bench.read(conn))[0].0;
    let question = Heartbeat {
        flags: U16::new(Flags::MORE),
        token: U32::new(id),
        next_seq: U64::new(5),
        ..Heartbeat::default()
    };
    bench.deliver(conn, &[Frame::seal(question), quote(5, 0)]);
    assert!(bench.core.exchanges[0].request_token().is_some(), "the request still waits");
    bench.deliver(conn, &[beat(id, 3), quote(3, 0), quote(4, 0)]);
    assert_eq!(bench.kept(), [3, 4]);
}

#[test]
fn an_exchange_may_take_until_the_deadline_to_greet() {
    let mut bench = Bench::new();
    let conn = bench.open(Origin::Dialed(EXCHANGE_DIAL));
    bench.sleep_ms(499);
    assert!(!bench.closes(conn));
    bench.sleep_ms(1);
    assert!(bench.closes(conn));
}

#[test]
fn a_frame_of_an_undefined_instrument_ends_the_session() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 7)]);
    assert!(bench.closes(conn));
    let last = *bench.read(conn).last().unwrap();
    assert_eq!(last.view::<Refusal>().unwrap().code.get(), ErrorCode::Unexpected as u16);
    assert!(bench.kept().is_empty());
}

#[test]
fn a_full_journal_stops_the_reading_and_loses_nothing() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.disk.set_bytes_max(SEGMENT_BYTES);
    let feed: Vec<Frame> = (3..103).map(|seq| quote(seq, 0)).collect();
    bench.deliver(conn, &feed);
    assert!(!bench.core.wants_bytes(conn));
    let kept = bench.kept().len();
    assert!(kept > 10 && kept < 100, "{kept}");
    for _ in 0..20 {
        bench.sleep_ms(500);
        assert!(!bench.core.wants_bytes(conn));
    }
    assert!(!bench.closes(conn), "the exchange is not to blame for our disk");
    let counts = bench.core.exchanges[0].failures();
    assert_eq!(counts, 0, "nor is it counted");
    bench.read(conn);
    bench.disk.set_bytes_max(usize::MAX);
    bench.sleep_ms(1_000);
    bench.sleep_ms(1);
    assert!(bench.core.wants_bytes(conn));
    resume_until(&mut bench, conn, &feed);
    assert_eq!(bench.kept(), (3..103).collect::<Vec<_>>());
}

/// Plays the exchange: goes back whenever it is asked to, until all of the feed has been taken.
fn resume_until(bench: &mut Bench, conn: ConnId, feed: &[Frame]) {
    for _ in 0..100 {
        let asked = resumes(&bench.read(conn));
        if let Some(&(id, next_seq)) = asked.last() {
            let rest = feed.iter().filter(|frame| frame.seq.get() >= next_seq);
            let frames: Vec<Frame> =
                std::iter::once(beat(id, next_seq)).chain(rest.copied()).collect();
            bench.deliver(conn, &frames);
        }
        bench.turn();
    }
}

#[test]
fn a_journal_that_waits_for_a_sync_goes_on_after_it() {
    let mut bench = Bench::new();
    let conn = bench.market();
    let feed: Vec<Frame> = (3..163).map(|seq| quote(seq, 0)).collect();
    // The next segment is there in time; only the syncs are late.
    for part in feed.chunks(8) {
        bench.core.handle_storage(bench.now);
        bench.disk.pause_jobs(bench.disk.jobs() > 0 && part[0].seq.get() > 30);
        bench.core.handle_frames(bench.now, conn, part);
        bench.finish_turn();
    }
    assert!(!bench.core.wants_bytes(conn), "the syncs have not kept up");
    bench.disk.pause_jobs(false);
    bench.turn();
    bench.turn();
    assert!(bench.core.wants_bytes(conn), "and now they have");
    resume_until(&mut bench, conn, &feed);
    assert_eq!(bench.kept(), (3..163).collect::<Vec<_>>());
}

#[test]
fn an_empty_broker_gets_a_snapshot_and_then_the_stream() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    bench.deliver(exchange, &[quote(3, 0), quote(4, 0), trade(5, 0), quote(6, 1)]);
    let (conn, frames) = bench.follower(1, 0);
    let snapshot: Vec<Kind> =
        kinds(&frames.iter().filter(|f| f.has(Flags::SNAPSHOT)).copied().collect::<Vec<_>>());
    let expected = [Kind::Definition, Kind::Quote, Kind::Trade, Kind::Definition, Kind::Quote];
    assert_eq!(snapshot, expected);
    let start = frames[5].view::<Heartbeat>().unwrap().next_seq.get();
    assert_eq!(start, 5, "two frames of warm-up");
    assert_eq!(seqs(&frames[6..]), [5, 6]);
    bench.deliver(exchange, &[quote(7, 0)]);
    assert_eq!(seqs(&bench.read(conn)), [7]);
}

#[test]
fn no_heartbeat_counts_frames_that_the_follower_was_not_sent() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    let (conn, frames) = bench.follower(2, 1);
    let mut sent = seqs(&frames).last().unwrap() + 1;
    for seq in 3..20 {
        bench.now.mono = bench.now.mono + Duration::from_secs(1);
        bench.deliver(exchange, &[quote(seq, 0), beat(0, seq + 1)]);
        for frame in bench.read(conn) {
            match frame.view::<Heartbeat>() {
                Some(word) => assert!(word.next_seq.get() <= sent, "{frame:?} before {sent}"),
                None => sent = frame.seq.get() + 1,
            }
        }
    }
}

#[test]
fn counters_go_on_across_a_restart() {
    let mut bench = Bench::new();
    let conn = bench.market();
    bench.deliver(conn, &[quote(3, 0), quote(4, 1), trade(5, 0), quote(6, 0)]);
    let mut bench = bench.restart();
    assert_eq!(bench.core.journal.epoch(), 2, "an unclean start is a new epoch");
    let conn = bench.exchange(FEED, 7, &[ahead(0, "PETR4"), ahead(1, "VALE3")]);
    bench.deliver(conn, &[trade(7, 0), quote(8, 0), quote(9, 1)]);
    let journaled = bench.journaled();
    assert_eq!(seqs(&journaled), (1..=9).collect::<Vec<_>>());
    let counted: Vec<(u8, u32)> =
        journaled[2..].iter().map(|f| (f.kind, f.instrument_seq.get())).collect();
    let (q, t) = (Kind::Quote as u8, Kind::Trade as u8);
    assert_eq!(counted, [(q, 1), (q, 1), (t, 1), (q, 2), (t, 2), (q, 3), (q, 2)]);
}

mod answers;
mod clocks;
mod continuity;
mod damage;
mod ends;
mod exchanges;
mod feeds;
mod names;
mod probes;
mod producers;
mod promises;
mod replays;
mod trimming;
