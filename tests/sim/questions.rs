//! Questions of every kind to a system that is well: what one kind says, another must say too. More rows
//! of one instrument than an index keeps in one block. Not here: questions while something fails, which the
//! reporter asks.

use std::collections::BTreeMap;

use pregao::gather::NEWEST_COMMON_CUT;
use pregao::wire::{
    BarTotals, Counted, Definition, EndStatus, Ended, Flags, Frame, Kind, NodeAnswer, NodeExplain,
    Op, Query, Symbol, Trade,
};

use crate::road::{FRACTIONS, Options, Road, SYMBOLS, plain, symbols};

/// Events of the tape: enough for several blocks of the busiest instrument.
const EVENTS: u64 = 12_000;

type Rows = Vec<Frame>;

fn rows(road: &mut Road, query: Query, as_of: u64) -> (Rows, Ended) {
    let asker = road.world.ask_as_of(road.aggregator_asker, query, as_of);
    let is_row = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.is_naming();
    let end = *asker.messages::<Ended>().next().expect("an end");
    (asker.frames.iter().filter(is_row).map(plain).collect(), end)
}

fn is_market(frame: &Frame) -> bool {
    matches!(frame.kind(), Some(Kind::Trade | Kind::Cancel))
}

/// Every kind of question, about one symbol, a pattern and a list, agrees with the tape.
pub(crate) fn questions_of_every_kind_agree() {
    for has_copies in [false, true] {
        let options = Options { events: EVENTS, has_copies, ring_frames: 256, ..Options::new(7) };
        let mut road = Road::new(&options);
        road.settle(0, 120_000);
        road.verify();
        let journal = road.stored(road.core);
        let names = symbols(&journal);
        let mut by_symbol: BTreeMap<Symbol, Rows> = BTreeMap::new();
        for frame in journal.iter().filter(|frame| is_market(frame)) {
            by_symbol.entry(names[&frame.instrument.get()]).or_default().push(*frame);
        }
        let most = by_symbol.values().map(Vec::len).max().unwrap();
        assert!(most > 1_100, "the index is to have whole blocks: {most}");
        for (symbol, all) in &mut by_symbol {
            all.sort_by_key(|frame| (frame.ts_event.get(), frame.seq.get()));
            about_one(&mut road, symbol, all);
        }
        about_many(&mut road, &names, &by_symbol);
    }
}

fn about_one(road: &mut Road, symbol: &Symbol, all: &Rows) {
    let name = symbol.as_str();
    let (range, end) = rows(road, Road::query(Op::Range, name), 0);
    assert_eq!(&range, all, "{name}");
    assert_eq!(end.status, EndStatus::Complete as u8);
    // The middle half, by event time and by receive time.
    let (a, b) = (all.len() / 4, all.len() * 3 / 4);
    let (from, to) = (all[a].ts_event, all[b].ts_event);
    let (part, _) = rows(road, Query { from, to, ..Road::query(Op::Range, name) }, 0);
    let within = |time: u64| from.get() <= time && time < to.get();
    let want: Rows = all.iter().filter(|f| within(f.ts_event.get())).copied().collect();
    assert_eq!(part, want, "{name} by event time");
    let (from, to) = (all[a].ts_recv, all[b].ts_recv);
    let query = Query { from, to, options: Query::RECEIVE_TIME, ..Road::query(Op::Range, name) };
    let (part, _) = rows(road, query, 0);
    let within = |time: u64| from.get() <= time && time < to.get();
    let mut want: Rows = all.iter().filter(|f| within(f.ts_recv.get())).copied().collect();
    want.sort_by_key(|frame| frame.seq.get());
    assert_eq!(part, want, "{name} by receive time");
    for limit in [1, 10, 700] {
        let query = Query { limit: limit.into(), ..Road::query(Op::Last, name) };
        let (last, _) = rows(road, query, 0);
        assert!(all.ends_with(&last), "{name}: the last {limit}");
        let trades = last.iter().filter(|f| f.kind == Kind::Trade as u8).count();
        let known = all.iter().filter(|f| f.kind == Kind::Trade as u8).count();
        assert_eq!(trades, known.min(limit as usize), "{name}: the last {limit}");
    }
    // As of the middle, and as of what all have.
    let cut = all[all.len() / 2].seq.get();
    let (before, end) = rows(road, Road::query(Op::Range, name), cut);
    let want: Rows = all.iter().filter(|f| f.seq.get() < cut).copied().collect();
    assert_eq!((before, end.as_of.get()), (want, cut), "{name} as of {cut}");
    let (ours, _) = rows(road, Road::query(Op::Range, name), NEWEST_COMMON_CUT.get());
    assert!(all.starts_with(&ours) || ours.iter().all(|frame| all.contains(frame)));
    // What stands of them, counted and summed.
    let mut standing: Vec<Trade> = all.iter().filter_map(Frame::view::<Trade>).copied().collect();
    for frame in all.iter().filter(|f| f.kind == Kind::Cancel as u8) {
        let cancel = frame.view::<pregao::wire::Cancel>().unwrap();
        standing.retain(|trade| trade.trade_id != cancel.trade_id || trade.price != cancel.price);
    }
    let asker = road.ask_aggregator(Road::query(Op::Count, name));
    let counted = *asker.messages::<Counted>().next().expect("a count");
    let volume: u64 = standing.iter().map(|trade| trade.qty.get()).sum();
    assert_eq!(counted.trades.get() as usize, standing.len(), "{name}");
    let known = all.iter().filter(|f| f.kind == Kind::Trade as u8).count();
    assert_eq!(counted.cancelled.get() as usize, known - standing.len(), "{name}");
    let query =
        Query { limit: 1.into(), options: Query::WITH_QUOTE, ..Road::query(Op::Bars, name) };
    let asker = road.ask_aggregator(query);
    let bars: u128 = asker.messages::<BarTotals>().map(|bar| bar.volume.get()).sum();
    assert_eq!(bars, u128::from(volume), "{name}: bars of a second");
}

fn about_many(road: &mut Road, names: &BTreeMap<u32, Symbol>, by_symbol: &BTreeMap<Symbol, Rows>) {
    let market: Vec<&Symbol> =
        names.values().filter(|name| !name.as_str().starts_with('$')).collect();
    let asker = road.ask_aggregator(Road::query(Op::Instruments, "*"));
    let mut defined: Vec<Symbol> = asker.messages::<Definition>().map(|it| it.symbol).collect();
    defined.sort();
    for definition in asker.messages::<Definition>() {
        let wanted = if definition.symbol.as_str() == SYMBOLS[1] { FRACTIONS } else { 0 };
        assert_eq!(definition.decimals().quantity, wanted, "{}", definition.symbol);
    }
    let mut wanted: Vec<Symbol> = market.iter().map(|name| **name).collect();
    wanted.sort();
    assert_eq!(defined, wanted);
    let asker = road.ask_aggregator(Road::query(Op::Count, "*"));
    assert_eq!(asker.messages::<Counted>().count(), by_symbol.len());
    let options = Query::EXPLAIN | Query::PARTIAL | Query::WITH_QUOTE;
    let query = Query { limit: 3.into(), options, ..Road::query(Op::Last, "*") };
    let asker = road.ask_aggregator(query);
    let is_last = |f: &&Frame| is_market(f) && !f.has(Flags::SNAPSHOT);
    let got: Rows = asker.frames.iter().filter(is_last).map(plain).collect();
    for (symbol, all) in by_symbol {
        let ours: Rows =
            got.iter().filter(|f| names[&f.instrument.get()] == *symbol).copied().collect();
        assert!(!ours.is_empty() && all.ends_with(&ours), "{symbol}");
    }
    let nodes = asker.messages::<NodeAnswer>().count();
    assert_eq!(asker.messages::<NodeExplain>().count(), nodes);
    let asker = road.ask_aggregator(Road::query(Op::Quote, "*"));
    assert!(asker.messages::<pregao::wire::Quote>().count() >= SYMBOLS.len() / 2);
    let query = Query { limit: 60.into(), ..Road::query(Op::Bars, "*") };
    assert!(road.ask_aggregator(query).messages::<BarTotals>().count() >= by_symbol.len() / 2);
}
