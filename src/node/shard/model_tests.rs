//! The shard's answers against a model that keeps all frames in a list and does everything the slow way:
//! random feeds with cancellations, late frames, epochs and patterns; and what a streamed answer does
//! while the shard goes on.

use std::collections::BTreeMap;

use super::tests::{Bench, SECOND, definition, end, frames_of, instrument};
use super::*;
use crate::limits;
use crate::market::bar::BarFold;
use crate::node::Node;
use crate::question::Question;
use crate::random::Random;
use crate::wire::{
    Cancel, Counted, EndStatus, Ended, Flags, I64, Op, Query, Refusal, Run, Trade, U16, padded,
};

mod pages;

const SYMBOLS: [&str; 5] = ["ABEV3", "ABEV4", "AB", "BBAS3", "ITUB4"];

/// How far event times stray from the order of receipt.
#[derive(Clone, Copy, Debug)]
enum Order {
    Kept,
    SometimesLate,
    None,
}

/// Everything that stands in the log and is not void, in its order.
#[derive(Default)]
struct Model {
    frames: Vec<Frame>,
}

/// What is asked.
#[derive(Clone, Debug)]
struct Asked {
    op: Op,
    patterns: Vec<&'static str>,
    limit: u32,
    from: u64,
    to: u64,
    by_receive: bool,
    as_of: u64,
    /// For Range.
    after_seq: u64,
}

impl Asked {
    fn question(&self) -> Question {
        let query = Query {
            id: U32::new(9),
            op: self.op as u8,
            options: if self.by_receive { Query::RECEIVE_TIME } else { 0 },
            limit: U32::new(self.limit),
            symbol: padded(self.patterns[0]),
            from: U64::new(self.from),
            to: U64::new(self.to),
            ..Query::default()
        };
        let question = Question::new(&query).unwrap();
        question
            .about(self.patterns.iter().map(|text| padded(text)))
            .unwrap()
            .cut_at(Seq::new(self.as_of))
            .after(Seq::new(self.after_seq))
    }

    fn time(&self, frame: &Frame) -> u64 {
        if self.by_receive { frame.ts_recv.get() } else { frame.ts_event.get() }
    }
}

fn is_trade(frame: &Frame) -> bool {
    frame.kind == Kind::Trade as u8
}

impl Model {
    /// The seqs of trades that were taken back, by going through all in order.
    fn taken_back(own: &[Frame]) -> Vec<u64> {
        let mut standing: BTreeMap<(u64, i64, u64), Vec<u64>> = BTreeMap::new();
        let mut taken = Vec::new();
        for frame in own {
            if let Some(trade) = frame.view::<Trade>() {
                let key = (trade.trade_id.get(), trade.price.get(), trade.qty.get());
                standing.entry(key).or_default().push(trade.seq.get());
            } else if let Some(cancel) = frame.view::<Cancel>() {
                let key = (cancel.trade_id.get(), cancel.price.get(), cancel.qty.get());
                taken.extend(standing.get_mut(&key).and_then(Vec::pop));
            }
        }
        taken
    }

    /// The whole answer: definitions, rows, and the end; RUN frames left out.
    fn answer(&self, asked: &Asked, next_seq: u64) -> (Vec<Frame>, Ended) {
        let cut = if asked.as_of == 0 { next_seq } else { asked.as_of };
        let question = asked.question();
        let mut definitions: BTreeMap<Symbol, Frame> = BTreeMap::new();
        let known = self.frames.iter().filter(|frame| frame.seq.get() < cut);
        for frame in known.filter_map(Frame::view::<crate::wire::Definition>) {
            if question.matches(&frame.symbol) {
                definitions.insert(frame.symbol, Frame::seal(*frame));
            }
        }
        let mut frames: Vec<Frame> =
            definitions.values().map(|frame| frame.delivered(Flags::SNAPSHOT)).collect();
        let (mut rows, mut covered) = (0, Vec::new());
        for definition in definitions.values() {
            let is_own = |frame: &&Frame| {
                frame.instrument == definition.instrument
                    && frame.seq.get() < cut
                    && matches!(frame.kind(), Some(Kind::Trade | Kind::Cancel))
            };
            let own: Vec<Frame> = self.frames.iter().filter(is_own).copied().collect();
            let of_instrument = self.rows(asked, &own);
            rows += match asked.op {
                Op::Bars => of_instrument.len() / 3,
                _ => of_instrument.len(),
            };
            if asked.op != Op::Instruments {
                covered.extend(own.iter().map(|frame| asked.time(frame)));
            }
            frames.extend(of_instrument);
        }
        if asked.op == Op::Instruments {
            rows = definitions.len();
        }
        let end = Ended {
            id: U32::new(9),
            rows: U32::new(u32::try_from(rows).unwrap()),
            covered_from: U64::new(covered.iter().min().copied().unwrap_or(0)),
            covered_to: U64::new(covered.iter().max().map_or(0, |last| last + 1)),
            as_of: U64::new(cut),
            ..Ended::default()
        };
        (frames, end)
    }

    fn rows(&self, asked: &Asked, own: &[Frame]) -> Vec<Frame> {
        let in_time = |frame: &&Frame| (asked.from..asked.to).contains(&asked.time(frame));
        let limit = asked.limit as usize;
        let taken = Model::taken_back(own);
        let stands = |frame: &&Frame| is_trade(frame) && !taken.contains(&frame.seq.get());
        let by_event = |frame: &Frame| (frame.ts_event.get(), frame.seq.get());
        match asked.op {
            Op::Last => {
                let mut rows = Vec::new();
                for frame in own.iter().rev() {
                    if rows.iter().filter(|frame| is_trade(frame)).count() >= limit {
                        break;
                    }
                    rows.push(*frame);
                }
                rows.sort_by_key(by_event);
                rows
            }
            Op::Range => {
                let mut rows: Vec<Frame> = own.iter().filter(in_time).copied().collect();
                rows.sort_by_key(|frame| (asked.time(frame), frame.seq.get()));
                rows.retain(|row| (asked.time(row), row.seq.get()) > (asked.from, asked.after_seq));
                let mut trades = rows.iter().enumerate().filter(|(_, frame)| is_trade(frame));
                if limit > 0
                    && let Some((beyond, _)) = trades.nth(limit)
                {
                    rows.truncate(beyond);
                }
                rows
            }
            Op::Bars => {
                let mut trades: Vec<Frame> =
                    own.iter().filter(in_time).filter(stands).copied().collect();
                trades.sort_by_key(by_event);
                let mut fold = BarFold::new(u64::from(asked.limit) * SECOND);
                let views = trades.iter().filter_map(Frame::view::<Trade>);
                let mut bars: Vec<_> = views.filter_map(|trade| fold.add(trade)).collect();
                bars.extend(fold.finish());
                bars.iter().flat_map(|bar| bar.frames(own[0].instrument())).collect()
            }
            Op::Count => {
                let in_range: Vec<&Frame> = own.iter().filter(in_time).collect();
                let standing: Vec<u64> = in_range
                    .iter()
                    .copied()
                    .filter(stands)
                    .map(|frame| asked.time(frame))
                    .collect();
                let trades = in_range.iter().filter(|frame| is_trade(frame)).count();
                // The instrument is filled in by the caller's comparison when there is nothing.
                vec![Frame::seal(Counted {
                    id: U32::new(9),
                    instrument: own.first().map_or(U32::ZERO, |frame| frame.instrument),
                    trades: U64::new(standing.len() as u64),
                    cancelled: U64::new((trades - standing.len()) as u64),
                    first: U64::new(standing.iter().min().copied().unwrap_or(0)),
                    last: U64::new(standing.iter().max().copied().unwrap_or(0)),
                    ..Counted::default()
                })]
            }
            _ => Vec::new(),
        }
    }
}

/// A feed and the model of it.
struct World {
    bench: Bench,
    core: ConnId,
    model: Model,
    random: Random,
    order: Order,
    next_seq: u64,
    received: u64,
    epoch: u32,
}

impl World {
    fn new(seed: u64, order: Order) -> World {
        let mut bench = Bench::new();
        let (core, _) = bench.core(1, 1);
        let random = Random::new(seed);
        let model = Model::default();
        let mut world =
            World { bench, core, model, random, order, next_seq: 1, received: SECOND, epoch: 1 };
        for (index, symbol) in (0..).zip(SYMBOLS) {
            let frame = definition(world.next_seq, index, symbol);
            world.next_seq += 1;
            world.take(vec![frame]);
        }
        world
    }

    fn take(&mut self, frames: Vec<Frame>) {
        self.bench.feed(self.core, &frames);
        self.model.frames.extend(frames);
    }

    fn frame(&mut self) -> Frame {
        self.next_seq += 1 + self.random.below(3);
        self.received += self.random.below(3) * SECOND / 4;
        let ts = match self.order {
            Order::Kept => self.received - SECOND,
            Order::SometimesLate if self.random.chance_millionths(30_000) => {
                self.random.below(self.received)
            }
            // Often the same time: then the order is by seq.
            Order::SometimesLate => self.received - self.random.below(4) * SECOND / 4,
            Order::None => self.random.below(4_000) * SECOND / 2,
        };
        // Most trades are of the first instrument, so that it has several blocks.
        let index = if self.random.chance_millionths(800_000) { 0 } else { self.random.below(5) };
        let own = U32::from(instrument(u32::try_from(index).unwrap()));
        let trade = Trade {
            seq: U64::new(self.next_seq),
            instrument: own,
            ts_event: U64::new(ts),
            ts_recv: U64::new(self.received),
            price: I64::new(1_000 - i64::try_from(self.random.below(2_000)).unwrap()),
            qty: U64::new(self.random.below(50)),
            trade_id: U64::new(self.random.below(2_000)),
            ..Trade::default()
        };
        if !self.random.chance_millionths(20_000) {
            return Frame::seal(trade);
        }
        // A trade of before, mostly; it may be taken back already, or of another instrument.
        let count = self.model.frames.len() as u64;
        let of = self.model.frames[usize::try_from(self.random.below(count)).unwrap()];
        let of = of.view::<Trade>().copied().unwrap_or(trade);
        Frame::seal(Cancel {
            seq: trade.seq,
            instrument: of.instrument,
            ts_event: trade.ts_event,
            ts_recv: trade.ts_recv,
            price: of.price,
            qty: of.qty,
            trade_id: of.trade_id,
            ..Cancel::default()
        })
    }

    fn run(&mut self, count: usize) {
        for _ in 0..count / 8 {
            let frames = (0..8).map(|_| self.frame()).collect();
            self.take(frames);
        }
    }

    /// Core lost the end of its journal.
    fn begin_epoch(&mut self, lost: u64) {
        let start = (self.next_seq - lost).max(SYMBOLS.len() as u64 + 1);
        self.epoch += 1;
        let (core, _) = self.bench.core(self.epoch, start);
        self.core = core;
        self.model.frames.retain(|frame| frame.seq.get() < start);
        self.next_seq = start;
    }

    fn asked(&mut self) -> Asked {
        let ops = [Op::Last, Op::Range, Op::Bars, Op::Count, Op::Instruments];
        let op = ops[usize::try_from(self.random.below(5)).unwrap()];
        let lists: [&[&'static str]; 8] = [
            &["ABEV3"],
            &["ABEV3"],
            &["ITUB4"],
            &["*"],
            &["ABEV*"],
            &["AB*", "ABEV3", "ITUB4"],
            &["NOBODY", "AB"],
            &["BBAS3", "*", "A*", "*"],
        ];
        let limits: &[u64] = match op {
            Op::Bars => &[1, 2, 60, 3_600, 86_400],
            Op::Range => &[0, 0, 1, 10, 1_500],
            _ => &[0, 1, 10, 1_500],
        };
        let pick =
            |random: &mut Random, of: usize| usize::try_from(random.below(of as u64)).unwrap();
        let time = |random: &mut Random| random.below(self.received + SECOND);
        let from = time(&mut self.random);
        let to = from + self.random.below(self.received);
        let whole = self.random.below(3) == 0;
        let (mut from, to) = if whole { (0, u64::MAX) } else { (from, to) };
        let by_receive = self.random.below(3) == 0;
        let mut after_seq = 0;
        if op == Op::Range && self.random.below(2) == 0 {
            // The next page behind a row, which need not be in the answer.
            let row = self.model.frames[pick(&mut self.random, self.model.frames.len())];
            from = if by_receive { row.ts_recv.get() } else { row.ts_event.get() };
            after_seq = row.seq.get();
        }
        Asked {
            op,
            patterns: lists[pick(&mut self.random, lists.len())].to_vec(),
            limit: u32::try_from(limits[pick(&mut self.random, limits.len())]).unwrap(),
            from,
            to,
            by_receive,
            after_seq,
            as_of: if self.random.below(3) == 0 {
                6 + self.random.below(self.next_seq - 5)
            } else {
                0
            },
        }
    }

    /// Asks, and reads the answer in bites, across as many turns as it takes.
    fn ask(&mut self, asked: &Asked) -> Vec<Frame> {
        let conn = self.bench.querier();
        self.bench.deliver(conn, &asked.question().frames());
        let bite = [1, 100, 64, 4_096, usize::MAX][usize::try_from(self.random.below(5)).unwrap()];
        let bytes = self.bench.read_bytes(conn, bite);
        self.bench.shard.handle_close(self.bench.now, conn, CloseReason::PeerClosed);
        assert!(self.bench.shard.load.is_empty(), "nothing is left of an answer");
        frames_of(&bytes)
    }

    fn check(&mut self, questions: usize) {
        for _ in 0..questions {
            let asked = self.asked();
            let mut frames = self.ask(&asked);
            let told = end(&frames);
            frames.pop();
            frames.retain(|frame| frame.view::<Run>().is_none());
            let (mut expected, mut expected_end) =
                self.model.answer(&asked, self.bench.shard.wanted().get());
            for (own, expected) in frames.iter().zip(&mut expected) {
                // The model does not know the instrument of nothing.
                if let (Some(own), Some(other)) =
                    (own.view::<Counted>(), expected.view::<Counted>())
                    && other.instrument.get() == 0
                {
                    *expected = Frame::seal(Counted { instrument: own.instrument, ..*other });
                }
            }
            assert_eq!(frames.len(), expected.len(), "{asked:?}");
            for (own, expected) in frames.iter().zip(&expected) {
                assert!(own == expected, "{asked:?}: {own:?} instead of {expected:?}");
            }
            if asked.as_of == 0 {
                expected_end.durable_seq = told.durable_seq;
            }
            // Nobody has answered whether it has all.
            expected_end.behind_ms = U32::new(Ended::BEHIND_UNKNOWN);
            let (told, expected) = (Frame::seal(told), Frame::seal(expected_end));
            assert!(told == expected, "{asked:?}: {:?} instead of {expected_end:?}", end(&[told]));
        }
    }
}

fn random_feed(seed: u64, order: Order) {
    let mut world = World::new(seed, order);
    world.run(1_200);
    world.check(15);
    world.begin_epoch(seed * 37 % 400);
    world.run(2_400);
    world.check(40);
    let copies = Index::rebuild_with(&world.bench.shard.log, 0).0;
    world.bench.shard.index = copies;
    world.check(25);
    world.bench = world.bench.restart();
    world.check(25);
}

#[test]
fn a_feed_in_order_is_answered_as_the_model_does() {
    (1..=3).for_each(|seed| random_feed(seed, Order::Kept));
}

#[test]
fn late_frames_are_where_their_time_is() {
    (1..=4).for_each(|seed| random_feed(seed, Order::SometimesLate));
}

#[test]
fn no_order_at_all_is_put_in_order() {
    (1..=4).for_each(|seed| random_feed(seed, Order::None));
}

fn trades_at(count: u64, mut ts: impl FnMut(u64) -> u64) -> Vec<Frame> {
    let trade = |n: u64, ts: u64| Trade {
        seq: U64::new(n + 3),
        instrument: instrument(0).into(),
        ts_event: U64::new(ts),
        ts_recv: U64::new(n * SECOND),
        price: I64::new(5),
        qty: U64::new(1),
        ..Trade::default()
    };
    (0..count).map(|n| Frame::seal(trade(n, ts(n)))).collect()
}

#[test]
fn more_rows_out_of_order_than_can_be_held_are_looked_for_again() {
    let (mut bench, core) = Bench::fed();
    let count = limits::SORT_ROWS_MAX as u64 * 2 + 500;
    let mut random = Random::new(3);
    let feed = trades_at(count, |_| random.below(count / 2) * SECOND);
    bench.feed(core, &feed);
    let conn = bench.querier();
    let asked = |op, limit| Asked {
        op,
        patterns: vec!["ABEV3"],
        limit,
        from: 0,
        to: u64::MAX,
        by_receive: false,
        as_of: 0,
        after_seq: 0,
    };
    let mut read = |op, limit| {
        bench.deliver(conn, &asked(op, limit).question().frames());
        let bytes = bench.read_bytes(conn, usize::MAX);
        let mut frames = frames_of(&bytes);
        frames.retain(|f| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT));
        frames
    };
    let mut sorted = feed.clone();
    sorted.sort_by_key(|frame| (frame.ts_event.get(), frame.seq.get()));
    assert!(read(Op::Range, 0) == sorted);
    let starts: Vec<u64> = read(Op::Bars, 1).chunks(3).map(|bar| bar[0].ts_event.get()).collect();
    let mut expected: Vec<u64> = sorted.iter().map(|frame| frame.ts_event.get()).collect();
    expected.dedup();
    assert!(starts == expected && starts.len() > limits::OPEN_BARS_MAX * 2);
}

#[test]
fn a_question_about_the_future_waits_for_it_or_says_how_far_it_is() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &trades_at(5, |n| n * SECOND));
    let conn = bench.querier();
    let ask = |id: u32, as_of: u64, deadline_us: u32| {
        let query = Query {
            id: U32::new(id),
            op: Op::Range as u8,
            deadline_us: U32::new(deadline_us),
            symbol: padded("ABEV3"),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        Question::new(&query).unwrap().cut_at(Seq::new(as_of)).frames()
    };
    let ends = |bench: &mut Bench| -> Vec<(u32, u8, u16, u32, u64)> {
        let frames = frames_of(&bench.read_bytes(conn, usize::MAX));
        let told =
            |it: &Ended| (it.id.get(), it.status, it.code.get(), it.rows.get(), it.as_of.get());
        let mut ends: Vec<_> = frames.iter().filter_map(Frame::view::<Ended>).map(told).collect();
        ends.sort_unstable();
        ends
    };
    let (complete, failed) = (EndStatus::Complete as u8, EndStatus::Failed as u8);
    let behind = ErrorCode::Behind as u16;
    bench.deliver(conn, &ask(1, 8, 0));
    bench.deliver(conn, &ask(2, 9, 0));
    bench.turn();
    assert_eq!(ends(&mut bench), [(1, complete, 0, 5, 8), (2, failed, behind, 0, 8)]);
    bench.deliver(conn, &ask(3, 10, 50_000));
    bench.deliver(conn, &ask(4, 11, 500_000));
    assert_eq!(ends(&mut bench), []);
    bench.now.mono = bench.shard.next_deadline().unwrap();
    bench.turn();
    assert_eq!(ends(&mut bench), [(3, failed, behind, 0, 8)]);
    let more = trades_at(10, |n| n * SECOND);
    bench.deliver(core, &more[5..]);
    assert_eq!(ends(&mut bench), [(4, complete, 0, 8, 11)], "what came with it is beyond the cut");
    assert!(bench.shard.load.is_empty());
    // One that is stopped, and one whose client leaves, are not waited for.
    bench.deliver(conn, &ask(5, 100, 500_000));
    let stop = Query { id: U32::new(5), op: Op::Stop as u8, ..Query::default() };
    bench.deliver(conn, &[Frame::seal(stop)]);
    bench.deliver(conn, &ask(6, 100, 500_000));
    assert_eq!(bench.shard.load.waiting.total(), 1);
    bench.shard.handle_close(bench.now, conn, CloseReason::PeerClosed);
    assert!(bench.shard.load.is_empty());
    bench.now.mono = bench.now.mono + std::time::Duration::from_secs(1);
    bench.turn();
    assert_eq!(bench.shard.waiting_due, None);
}

#[test]
fn a_short_answer_goes_ahead_of_a_long_one() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &trades_at(6_000, |n| n * SECOND));
    let conn = bench.querier();
    let query = |id: u32, op: Op, limit: u32| {
        Frame::seal(Query {
            id: U32::new(id),
            op: op as u8,
            limit: U32::new(limit),
            symbol: padded("ABEV3"),
            to: U64::new(u64::MAX),
            ..Query::default()
        })
    };
    bench.deliver(conn, &[query(1, Op::Range, 0), query(2, Op::Bars, 1), query(3, Op::Last, 1)]);
    let frames = frames_of(&bench.read_bytes(conn, usize::MAX));
    let ends: Vec<u32> =
        frames.iter().filter_map(Frame::view::<Ended>).map(|e| e.id.get()).collect();
    assert_eq!(ends[0], 3);
    assert!(frames.iter().position(|f| f.view::<Ended>().is_some()).unwrap() < 10);
    // The two long ones take turns.
    let runs: Vec<u32> = frames.iter().filter_map(Frame::view::<Run>).map(|r| r.id.get()).collect();
    assert!(runs.windows(2).filter(|pair| pair[0] != pair[1]).count() > 4, "{runs:?}");
}

#[test]
fn damage_behind_the_index_is_reported_and_not_shown() {
    let (mut bench, core) = Bench::fed();
    bench.feed(core, &trades_at(40, |n| n * SECOND));
    // The index says that another frame stands there: as if the log had changed underneath.
    let history = bench.shard.index.at_mut(0).unwrap();
    let seq = 1_000;
    let odd = Trade { seq: U64::new(seq), instrument: instrument(0).into(), ..Trade::default() };
    history.add(3, &Frame::seal(odd));
    bench.deliver(
        core,
        &[Frame::seal(Heartbeat { next_seq: U64::new(2_000), ..Heartbeat::default() })],
    );
    let conn = bench.querier();
    let query = Query {
        id: U32::new(1),
        op: Op::Last as u8,
        limit: U32::new(5),
        symbol: padded("ABEV3"),
        ..Query::default()
    };
    bench.deliver(conn, &[Frame::seal(query)]);
    let frames = frames_of(&bench.read_bytes(conn, usize::MAX));
    assert!(frames.iter().all(|frame| frame.seq.get() != seq));
    let end = end(&frames);
    assert_eq!((end.status, end.rows.get()), (EndStatus::Partial as u8, 4));
}

#[test]
fn a_question_that_another_frame_breaks_up_ends_the_connection() {
    let (mut bench, _) = Bench::fed();
    let conn = bench.querier();
    let query = Query {
        flags: U16::new(Flags::MORE),
        id: U32::new(1),
        op: Op::Last as u8,
        symbol: padded("ABEV3"),
        ..Query::default()
    };
    bench.deliver(conn, &[Frame::seal(query), Frame::seal(Heartbeat::default())]);
    let frames = frames_of(&bench.read_bytes(conn, usize::MAX));
    let refusal = frames[0].view::<Refusal>().unwrap();
    assert_eq!((refusal.id.get(), refusal.code.get()), (0, ErrorCode::Unexpected as u16));
}
