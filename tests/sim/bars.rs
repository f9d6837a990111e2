//! Bars that subscribers fold as trades come, and bars of the shards' history: one set of bars, whatever order the trades have
//! and whoever dies meanwhile. What a live bar cannot know it says. Beside that, a figure over all instruments.

use std::collections::BTreeMap;

use pregao::client::{Backfill, BarPattern, Event, LiveBar, LiveBars, Symbols};
use pregao::feed::Pattern;
use pregao::market::Price;
use pregao::market::bar::{Bar, BarAssembler, BarFold};
use pregao::market::summary::{Quoted, average};
use pregao::market::tape::{Align, Schedule, Tape, TapeBody, TapeEvent, Venue};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{
    Cancel, Definition, EndStatus, Ended, Frame, Kind, Op, Query, Quote, Seq, Trade, U64,
};

use crate::client::ClientConfig;
use crate::exchanges::play;
use crate::faults::Fault;
use crate::hosts::{AnyNode, Spec};
use crate::road::{MS, Options, Road, address, symbols};
use crate::world::World;

const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;
/// 1 July 2024, 00:00 UTC.
const JULY: u64 = 1_719_792_000 * SECOND;
const SYMBOL: &str = "PETR4";
/// Of the tape: how many events, and how far apart.
const EVENTS: u64 = 200;
const PACE: u64 = 100 * MS;
/// No trade comes later than this behind its time.
const LATE_MAX: u64 = 4 * SECOND;

/// What a subscriber folds.
pub(crate) struct Folded {
    machine: LiveBars,
    /// By its start, each bar as it was told last.
    told: BTreeMap<u64, LiveBar>,
    /// What of history it wishes.
    wishes: Vec<Backfill>,
}

impl Folded {
    /// For this subscriber, if it folds bars.
    pub(crate) fn new(config: &ClientConfig) -> Option<Folded> {
        let pattern = |(text, _): &(&str, u16)| BarPattern {
            pattern: Pattern::new(text, 0).unwrap(),
            seconds: config.bar_seconds,
        };
        let patterns = config.patterns.iter().map(pattern).collect();
        let machine = LiveBars::new(patterns, Seq::new(config.from_seq));
        let (told, wishes) = (BTreeMap::new(), Vec::new());
        (config.bar_seconds > 0).then_some(Folded { machine, told, wishes })
    }

    pub(crate) fn take(&mut self, now: Now, event: &Event, symbols: &Symbols) {
        self.machine.handle_event(now, event, symbols);
        self.note();
    }

    pub(crate) fn go_on(&mut self, now: Now) {
        self.machine.handle_timers(now);
        self.note();
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.machine.deadline()
    }

    fn note(&mut self) {
        let told = std::iter::from_fn(|| self.machine.poll_bar());
        self.told.extend(told.map(|it| (it.bar.start, it)));
        self.wishes.extend(std::iter::from_fn(|| self.machine.poll_backfill()));
    }
}

impl World {
    fn bars(&mut self, host: usize) -> &mut Folded {
        match &mut self.hosts[host].node {
            Some(AnyNode::Library(library)) => library.bars.as_mut().expect("it folds bars"),
            _ => panic!("no subscriber to bars on this host"),
        }
    }
}

/// What two bars have to have in common.
type Said = (i64, i64, i64, i64, u128, u64, i128);

fn said(bar: &Bar) -> Said {
    (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.notional)
}

/// Trades of which some come late, cancellations, and at the end the next date with the numbers of the day before: a trade
/// that looks like one of that day, and then the cancellation of that day's.
fn tape(seed: u64) -> Schedule {
    let mut random = Random::new(seed ^ 0xBA25);
    let mut tape = Tape::default();
    let instrument = tape.instruments.insert(Venue::Unnamed, SYMBOL.parse().unwrap(), 2).unwrap();
    let (mut trades, mut recv) = (Vec::<(u64, TapeBody)>::new(), JULY);
    let mut tell = |ts_event: u64, body: TapeBody| {
        recv += PACE;
        let mut event = TapeEvent::new(ts_event, instrument, body);
        event.ts_recv = recv;
        tape.events.push(event);
    };
    for number in 1..=EVENTS {
        let now = JULY + number * PACE;
        if number % 13 == 0 {
            let taken = usize::try_from(random.below(trades.len() as u64)).unwrap();
            let (ts, TapeBody::Trade { price, qty, trade_id }) = trades.swap_remove(taken) else {
                continue;
            };
            tell(ts, TapeBody::Cancel { price, qty, trade_id });
            continue;
        }
        let late = if random.below(6) == 0 { random.between(SECOND, LATE_MAX) } else { 0 };
        let ts = now.saturating_sub(late).max(JULY);
        let price = Price(i64::try_from(random.between(1, 50)).unwrap() * 10_000_000);
        let body = TapeBody::Trade { price, qty: random.between(1, 9), trade_id: number };
        trades.push((ts, body));
        tell(ts, body);
    }
    let tomorrow = 20 * HOUR;
    for (ts, body) in trades.iter().take(5) {
        tell(ts + tomorrow, *body);
    }
    for (ts, body) in trades.iter().take(5) {
        let TapeBody::Trade { price, qty, trade_id } = *body else { continue };
        tell(*ts, TapeBody::Cancel { price, qty, trade_id });
    }
    Schedule::new(&[tape], Align::Clock).unwrap()
}

/// The bars of what stands in a journal, by the rule of the manual, and not by the code of a shard or a subscriber.
fn expected(journal: &[Frame]) -> BTreeMap<u64, Said> {
    let mut standing: Vec<Trade> = Vec::new();
    for frame in journal {
        standing.extend(frame.view::<Trade>().copied());
        let Some(cancel) = frame.view::<Cancel>() else { continue };
        let distance = |trade: &Trade| trade.ts_event.get().abs_diff(cancel.ts_event.get());
        let of = standing.iter().enumerate().filter(|(_, it)| {
            (it.trade_id, it.price, it.qty) == (cancel.trade_id, cancel.price, cancel.qty)
        });
        let nearest = of.min_by_key(|(place, it)| (distance(it), u64::MAX - *place as u64));
        if let Some(place) = nearest.map(|(place, _)| place) {
            standing.remove(place);
        }
    }
    standing.sort_by_key(|trade| (trade.ts_event.get(), trade.seq.get()));
    let mut fold = BarFold::new(SECOND);
    let mut bars: Vec<Bar> = standing.iter().filter_map(|trade| fold.add(trade)).collect();
    bars.extend(fold.finish());
    bars.iter().map(|bar| (bar.start, said(bar))).collect()
}

/// Answers what a subscriber wishes of history: as the aggregator does, or not at all.
fn fill(road: &mut Road, host: usize, is_away: bool) {
    for wish in std::mem::take(&mut road.world.bars(host).wishes) {
        let (from, to) = (U64::new(wish.from), U64::new(wish.to));
        let query = Query { from, to, ..Road::query(Op::Range, SYMBOL) };
        let asker = road.ask_aggregator(query);
        let is_row = |it: &&Frame| matches!(it.kind(), Some(Kind::Trade | Kind::Cancel));
        let rows: Vec<Frame> = asker.frames.iter().filter(is_row).copied().collect();
        let end = asker.messages::<Ended>().next().expect("an end");
        let has_all =
            end.status == EndStatus::Complete as u8 && Seq::from_field(end.as_of) >= wish.as_of;
        if !has_all && !is_away {
            road.world.bars(host).wishes.push(wish);
            continue;
        }
        let now = road.world.now();
        let bars = road.world.bars(host);
        bars.machine.handle_backfill(now, &wish, Some(rows.as_slice()).filter(|_| !is_away));
        bars.note();
        road.world.wake(host, now.mono.0);
    }
}

pub(crate) fn live_bars_and_those_of_history_are_one() {
    for seed in 0..6 {
        let mut road = Road::new(&Options { pace_ns: MS, events: 10, ..Options::new(seed) });
        let (schedule, exchange) = (tape(seed), road.exchange);
        play(&mut road, exchange, schedule.clone());
        road.schedule = schedule;
        let kinds = Kind::Trade.mask() | Kind::Cancel.mask();
        let add = |road: &mut Road, name: &str, from_seq| {
            let good = ClientConfig::good(vec![(SYMBOL, kinds)], from_seq);
            let config = ClientConfig { bar_seconds: 1, ..good };
            road.world.add(name, address(1), Spec::Library(config))
        };
        let whole = add(&mut road, "bars from the first frame", 1);
        road.run_until_ms(5_350);
        let joined = add(&mut road, "bars from now on", 0);
        let alone = add(&mut road, "bars without history", 0);
        let (broker, core) = (road.broker, road.core);
        road.world.fault(match seed % 3 {
            0 => Fault::Kill(broker, 700 * MS),
            1 => Fault::Kill(core, 700 * MS),
            _ => Fault::PowerLoss(core, 300 * MS),
        });
        for step in 1..=260 {
            road.run_until_ms(5_350 + step * 100);
            fill(&mut road, joined, false);
            // A client asks for a while before it gives up.
            if step == 20 {
                fill(&mut road, alone, true);
            }
        }
        road.settle(31_500, 20_000);
        let want = expected(&road.stored(road.core));
        of_history(&mut road, &want);
        for host in [whole, joined, alone] {
            let name = road.world.hosts[host].name.clone();
            let told = road.world.bars(host).told.clone();
            // A bar that was over before is told when more comes for it, and flagged.
            let mut own = told.iter().filter(|(_, live)| !live.is_incomplete);
            let first = own.next().map_or(u64::MAX, |(start, _)| *start);
            for (start, live) in told.iter().filter(|(_, live)| !live.is_incomplete) {
                let same = match want.get(start) {
                    Some(bar) => said(&live.bar) == *bar,
                    None => live.bar.trades == 0,
                };
                road.world.hold(same, "a-live-bar-is-that-of-history", || {
                    format!("seed {seed}, {name}: {live:?}, not {:?}", want.get(start))
                });
            }
            let flagged = told.values().filter(|live| live.is_incomplete).count();
            let since = if host == whole { 0 } else { first };
            let has_all = want.range(since..).all(|(start, _)| told.contains_key(start));
            // Who has no history does not hear of a bar of which all trades came before.
            road.world.hold(has_all || host == alone, "every-bar-is-told", || {
                format!("{name}: {told:?}")
            });
            let is_right = match host {
                host if host == whole => flagged == 0,
                host if host == alone => flagged > 0,
                _ => flagged < told.len(),
            };
            road.world.hold(is_right, "what-is-not-known-is-flagged", || {
                format!("seed {seed}, {name}: {flagged} bars of {}", told.len())
            });
        }
    }
}

fn of_history(road: &mut Road, want: &BTreeMap<u64, Said>) {
    let asker = road.ask_aggregator(Query { limit: 1.into(), ..Road::query(Op::Bars, SYMBOL) });
    let mut assembler = BarAssembler::default();
    let bars = asker.frames.iter().filter_map(|frame| assembler.take(frame));
    let got: Vec<(u64, Said)> = bars.map(|bar| (bar.start, said(&bar))).collect();
    let is_same = got.iter().copied().eq(want.iter().map(|(start, bar)| (*start, *bar)));
    road.world.hold(is_same, "bars-of-history-are-the-trades", || {
        let wrong = got.iter().find(|(start, bar)| want.get(start) != Some(bar));
        let right = wrong.and_then(|(start, _)| want.get(start));
        format!("{} bars of {}: {wrong:?}, not {right:?}", got.len(), want.len())
    });
}

/// An average over all instruments names those that it leaves out.
pub(crate) fn a_figure_says_what_it_leaves_out() {
    let mut road = Road::new(&Options::new(3));
    road.settle(0, 10_000);
    let asker = road.ask_aggregator(Road::query(Op::Instruments, "*"));
    let defined: Vec<Definition> = asker.messages().copied().collect();
    let asker = road.ask_aggregator(Road::query(Op::Quote, "*"));
    let told: BTreeMap<u32, Quote> =
        asker.messages::<Quote>().map(|it| (it.instrument.get(), *it)).collect();
    let none = |decimals| Quoted { bid: None, ask: None, decimals, is_live: true };
    let quoted = defined.iter().map(|it| {
        let decimals = it.decimals().price;
        let quote = told.get(&it.instrument.get());
        quote.map_or_else(|| none(decimals), |quote| Quoted::new(quote, decimals, true))
    });
    let figure = average(&quoted.collect::<Vec<_>>());
    let named: usize = figure.left_out.iter().map(|it| it.count).sum();
    let (priced, all) = (figure.priced, defined.len());
    let is_told = named > 0 && priced > 0 && priced + named == all;
    road.world.hold(is_told, "a-figure-names-what-it-leaves-out", || {
        format!("{priced} priced and {named} named of {all}")
    });
    let names = symbols(&road.stored(road.core));
    let has_one = told.keys().all(|instrument| names.contains_key(instrument));
    road.world.hold(has_one, "a-quote-has-a-name", || format!("{:?}", told.keys()));
}
