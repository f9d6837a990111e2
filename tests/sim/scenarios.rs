//! The scenarios: what is done to the road, and what has to come out of it.

use std::collections::BTreeMap;

use pregao::market::bar::BarFold;
use pregao::random::Random;
use pregao::wire::{
    BarNotional, BarTotals, BreakerChange, Cancel, Ended, ErrorCode, Flags, Frame, Kind, Op, Query,
    Quote, Refusal, Trade,
};

use crate::faults::Fault;
use crate::fresh;
use crate::road::{MS, Options, Road, symbols};

/// The seeds of one scenario, each its own stream of numbers.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    0..count
}

/// All of them, by name.
pub(crate) const ALL: [(&str, fn()); 50] = [
    (
        "what_an_open_takes_for_durable_survives_a_loss_of_power",
        crate::reopen::what_an_open_takes_for_durable_survives_a_loss_of_power,
    ),
    ("the_same_seed_is_the_same_run", the_same_seed_is_the_same_run),
    (
        "a_tape_at_full_speed_arrives_whole_everywhere",
        a_tape_at_full_speed_arrives_whole_everywhere,
    ),
    (
        "a_misbehaving_exchange_costs_time_and_nothing_else",
        a_misbehaving_exchange_costs_time_and_nothing_else,
    ),
    (
        "an_exchange_that_dies_is_taken_up_where_it_was",
        an_exchange_that_dies_is_taken_up_where_it_was,
    ),
    ("a_core_that_dies_loses_nothing", a_core_that_dies_loses_nothing),
    ("a_broker_that_dies_loses_nothing", a_broker_that_dies_loses_nothing),
    ("a_shard_that_dies_loses_nothing", a_shard_that_dies_loses_nothing),
    ("a_core_without_power_takes_back_what_it_lost", a_core_without_power_takes_back_what_it_lost),
    ("a_shard_without_power_asks_again", a_shard_without_power_asks_again),
    (
        "connections_that_break_anywhere_break_nothing_else",
        connections_that_break_anywhere_break_nothing_else,
    ),
    ("anything_may_happen_at_once", anything_may_happen_at_once),
    ("a_quote_says_whether_it_is_live", a_quote_says_whether_it_is_live),
    (
        "breaker_changes_are_frames_of_the_system_topic",
        breaker_changes_are_frames_of_the_system_topic,
    ),
    ("a_bar_is_the_same_whoever_folds_it", a_bar_is_the_same_whoever_folds_it),
    (
        "a_conflated_batch_of_thousands_is_whole",
        crate::many::a_conflated_batch_of_thousands_is_whole,
    ),
    (
        "thousands_of_patterns_meet_thousands_of_instruments",
        crate::patterns::thousands_of_patterns_meet_thousands_of_instruments,
    ),
    (
        "no_answer_of_a_node_that_nobody_feeds_is_complete",
        fresh::no_answer_of_a_node_that_nobody_feeds_is_complete,
    ),
    ("no_answer_as_of_an_old_place_is_complete", fresh::no_answer_as_of_an_old_place_is_complete),
    (
        "a_copy_that_is_fed_answers_for_one_that_is_not",
        fresh::a_copy_that_is_fed_answers_for_one_that_is_not,
    ),
    ("a_shard_that_catches_up_is_behind", fresh::a_shard_that_catches_up_is_behind),
    ("a_quiet_market_makes_nobody_behind", fresh::a_quiet_market_makes_nobody_behind),
    (
        "a_broker_that_catches_up_shows_nobody_the_past",
        crate::present::a_broker_that_catches_up_shows_nobody_the_past,
    ),
    ("a_dead_feed_is_told_and_so_is_its_return", fresh::a_dead_feed_is_told_and_so_is_its_return),
    (
        "another_tape_is_refused_and_a_longer_one_continues",
        crate::feeds::another_tape_is_refused_and_a_longer_one_continues,
    ),
    (
        "one_sick_exchange_makes_only_its_own_quotes_stale",
        crate::exchanges::one_sick_exchange_makes_only_its_own_quotes_stale,
    ),
    (
        "lines_are_journaled_once_though_core_dies",
        crate::lines::lines_are_journaled_once_though_core_dies,
    ),
    ("feeds_of_one_exchange_take_turns", crate::exchanges::feeds_of_one_exchange_take_turns),
    (
        "who_is_silent_for_longer_than_usual_is_told",
        crate::exchanges::who_is_silent_for_longer_than_usual_is_told,
    ),
    (
        "an_instrument_keeps_the_units_of_its_quantities",
        crate::feeds::an_instrument_keeps_the_units_of_its_quantities,
    ),
    ("live_bars_and_those_of_history_are_one", crate::bars::live_bars_and_those_of_history_are_one),
    ("a_figure_says_what_it_leaves_out", crate::bars::a_figure_says_what_it_leaves_out),
    (
        "names_are_those_of_the_file_at_that_time",
        crate::tapes::names_are_those_of_the_file_at_that_time,
    ),
    (
        "a_print_that_two_files_tell_is_journaled_once",
        crate::tapes::a_print_that_two_files_tell_is_journaled_once,
    ),
    (
        "a_replay_takes_as_long_as_the_recording",
        crate::tapes::a_replay_takes_as_long_as_the_recording,
    ),
    (
        "a_container_of_several_members_is_read_to_its_end",
        crate::tapes::a_container_of_several_members_is_read_to_its_end,
    ),
    (
        "nobody_outside_defines_the_names_of_the_system",
        crate::tapes::nobody_outside_defines_the_names_of_the_system,
    ),
    ("questions_of_every_kind_agree", crate::questions::questions_of_every_kind_agree),
    ("a_rogue_feeder_takes_nothing_away", crate::rogues::a_rogue_feeder_takes_nothing_away),
    ("a_rogue_publisher_is_forgotten", crate::rogues::a_rogue_publisher_is_forgotten),
    (
        "a_rogue_publisher_that_announces_is_forgotten",
        crate::rogues::a_rogue_publisher_that_announces_is_forgotten,
    ),
    ("nobody_goes_live_where_core_never_was", crate::rogues::nobody_goes_live_where_core_never_was),
    (
        "who_was_away_gets_what_a_rogue_jumped_over",
        crate::rogues::who_was_away_gets_what_a_rogue_jumped_over,
    ),
    ("a_rogue_consumer_takes_nothing_away", crate::rogues::a_rogue_consumer_takes_nothing_away),
    ("a_living_feeder_keeps_its_seat", crate::rogues::a_living_feeder_keeps_its_seat),
    (
        "a_rogue_follower_makes_core_forget_nothing",
        crate::rogues::a_rogue_follower_makes_core_forget_nothing,
    ),
    ("a_flood_of_reports_is_bounded", crate::rogues::a_flood_of_reports_is_bounded),
    ("questions_about_the_future_end_soon", crate::rogues::questions_about_the_future_end_soon),
    ("greedy_peers_leave_room_for_others", crate::rogues::greedy_peers_leave_room_for_others),
    ("who_reads_nothing_is_closed", crate::rogues::who_reads_nothing_is_closed),
];

/// Trades that stand at the end of a tape: volume, count and notional by symbol.
fn totals(road: &Road) -> BTreeMap<String, (u64, u64, i128)> {
    let names = symbols(road.schedule.frames());
    let mut standing: BTreeMap<String, Vec<Trade>> = BTreeMap::new();
    for frame in road.schedule.frames() {
        let name = names[&frame.instrument.get()].to_string();
        let trades = standing.entry(name).or_default();
        if let Some(trade) = frame.view::<Trade>() {
            trades.push(*trade);
        } else if let Some(cancel) = frame.view::<Cancel>() {
            let same = |t: &Trade| t.trade_id == cancel.trade_id && t.price == cancel.price;
            if let Some(at) = trades.iter().rposition(same) {
                trades.remove(at);
            }
        }
    }
    let sum = |trades: &Vec<Trade>| {
        let volume = trades.iter().map(|t| t.qty.get()).sum();
        let notional = trades.iter().map(|t| i128::from(t.price.get()) * i128::from(t.qty.get()));
        (volume, trades.len() as u64, notional.sum())
    };
    standing.iter().map(|(name, trades)| (name.clone(), sum(trades))).collect()
}

/// The shards' bars add up to the tape's totals.
fn verify_bars(road: &mut Road) {
    for (name, (volume, trades, notional)) in totals(road) {
        let query = pregao::wire::Query { limit: 60.into(), ..Road::query(Op::Bars, &name) };
        let asker = road.ask_shard(query);
        let is_row = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
        let rows: Vec<Frame> = asker.frames.iter().filter(is_row).copied().collect();
        let totals: Vec<BarTotals> = asker.messages().copied().collect();
        let bar_volume: u128 = totals.iter().map(|bar| bar.volume.get()).sum();
        let bar_trades: u64 =
            asker.messages::<BarNotional>().map(|bar| u64::from(bar.trades.get())).sum();
        let bar_notional: i128 =
            asker.messages::<BarNotional>().map(|bar| bar.notional.get()).sum();
        assert_eq!(
            (bar_volume, bar_trades, bar_notional),
            (u128::from(volume), trades, notional),
            "{name}"
        );
        let asker = road.ask_aggregator(query);
        let gathered: Vec<Frame> = asker.frames.iter().filter(is_row).copied().collect();
        assert_eq!(gathered, rows, "{name} through the aggregator");
    }
}

fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut road = Road::new(&Options { pace_ns: MS, ..Options::new(seed) });
        road.world.plan_fault(100 * MS, Fault::Kill(road.core, 50 * MS));
        road.run_until_ms(1_500);
        (road.world.hash(), road.world.turns)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

fn a_tape_at_full_speed_arrives_whole_everywhere() {
    for seed in seeds(20) {
        let mut road = Road::new(&Options::new(seed));
        road.settle(0, 10_000);
        road.verify();
        verify_bars(&mut road);
        let client = road.world.client(road.all);
        assert!(client.voids.is_empty() && client.refusals.is_empty());
    }
}

fn a_misbehaving_exchange_costs_time_and_nothing_else() {
    for seed in seeds(20) {
        let text = format!(
            "refuse=0.2,stall=0.1,stall-for=700ms,drop=0.004,garbage=0.004,lose=0.02,seed={seed}"
        );
        let chaos = text.parse().unwrap();
        let options = Options { chaos, events: 250, pace_ns: 2 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        road.settle(1_000, 300_000);
        road.verify();
        verify_bars(&mut road);
    }
}

/// Kills at random moments while the tape is played.
fn kill(seed: u64, pick: impl Fn(&Road) -> usize) {
    let options = Options { events: 300, pace_ns: 4 * MS, ..Options::new(seed) };
    let mut road = Road::new(&options);
    let mut random = Random::new(seed ^ 0xDEAD);
    let host = pick(&road);
    for _ in 0..random.between(1, 4) {
        let at = random.between(1, 1_300) * MS;
        road.world.plan_fault(at, Fault::Kill(host, random.between(1, 400) * MS));
    }
    road.settle(1_800, 30_000);
    road.verify();
    verify_bars(&mut road);
}

fn an_exchange_that_dies_is_taken_up_where_it_was() {
    seeds(15).for_each(|seed| kill(seed, |road| road.exchange));
}

fn a_core_that_dies_loses_nothing() {
    seeds(20).for_each(|seed| kill(seed, |road| road.core));
}

fn a_broker_that_dies_loses_nothing() {
    seeds(15).for_each(|seed| kill(seed, |road| road.broker));
}

fn a_shard_that_dies_loses_nothing() {
    seeds(20).for_each(|seed| kill(seed, |road| road.shards[seed as usize % 3]));
}

fn a_core_without_power_takes_back_what_it_lost() {
    let mut voids = 0;
    for seed in seeds(25) {
        let options = Options { events: 300, pace_ns: 4 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        let mut random = Random::new(seed ^ 0xF00D);
        for _ in 0..random.between(1, 3) {
            let at = random.between(50, 1_300) * MS;
            let down = random.between(1, 300) * MS;
            road.world.plan_fault(at, Fault::PowerLoss(road.core, down));
            if random.below(2) == 0 {
                // Somebody else is away while it happens.
                let others = [road.broker, road.shards[0], road.shards[1], road.shards[2]];
                let other = others[random.below(4) as usize];
                let at = at.saturating_sub(random.below(100) * MS);
                road.world.plan_fault(at, Fault::Kill(other, random.between(1, 900) * MS));
            }
            if random.below(2) == 0 {
                let again = at + down + random.between(1, 200) * MS;
                road.world.plan_fault(again, Fault::Kill(road.core, random.between(1, 100) * MS));
            }
        }
        road.settle(2_500, 30_000);
        road.verify();
        verify_bars(&mut road);
        voids += road.world.client(road.all).voids.len();
    }
    assert!(voids > 0, "no run had anything to take back: the scenario shows nothing");
}

fn a_shard_without_power_asks_again() {
    for seed in seeds(20) {
        let options = Options { events: 300, pace_ns: 4 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        let mut random = Random::new(seed ^ 0x5EED);
        let shard = road.shards[seed as usize % 3];
        for _ in 0..random.between(1, 3) {
            let at = random.between(50, 1_300);
            road.run_until_ms(at.max(road.world.now_ns() / MS));
            let told = road.world.watch.durable_of(shard);
            let before: Vec<Frame> = road.stored(shard);
            let now = road.world.now_ns();
            road.world.plan_fault(now, Fault::PowerLoss(shard, 50 * MS));
            road.world.run_until(now + MS);
            let kept = road.stored(shard);
            let promised = before.iter().filter(|frame| frame.seq.get() < told).count();
            assert!(kept.len() >= promised, "{promised} were durable, {} are left", kept.len());
            assert_eq!(kept[..promised], before[..promised]);
        }
        road.settle(1_800, 30_000);
        road.verify();
    }
}

fn connections_that_break_anywhere_break_nothing_else() {
    for seed in seeds(20) {
        let options = Options { events: 300, pace_ns: 4 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        let mut random = Random::new(seed ^ 0xC07);
        for _ in 0..random.between(5, 25) {
            let host = random.below(road.world.hosts.len() as u64) as usize;
            road.world.plan_fault(random.between(1, 1_300) * MS, Fault::Cut(host));
        }
        road.settle(1_800, 30_000);
        road.verify();
    }
}

fn anything_may_happen_at_once() {
    for seed in seeds(15) {
        let chaos =
            format!("refuse=0.1,stall=0.05,stall-for=600ms,drop=0.002,lose=0.005,seed={seed}");
        let chaos = chaos.parse().unwrap();
        let options = Options { events: 300, pace_ns: 8 * MS, chaos, ..Options::new(seed) };
        let mut road = Road::new(&options);
        let mut random = Random::new(seed ^ 0xA11);
        for _ in 0..random.between(3, 12) {
            let at = random.between(1, 2_500) * MS;
            let nodes = [
                road.aggregator,
                road.exchange,
                road.core,
                road.broker,
                road.shards[0],
                road.shards[1],
                road.shards[2],
            ];
            let host = nodes[random.below(7) as usize];
            let down = random.between(1, 500) * MS;
            let fault = match random.below(3) {
                0 => Fault::Cut(host),
                1 => Fault::Kill(host, down),
                _ => Fault::PowerLoss(host, down),
            };
            road.world.plan_fault(at, fault);
        }
        road.settle(3_500, 200_000);
        road.verify();
        verify_bars(&mut road);
    }
}

fn a_quote_says_whether_it_is_live() {
    for seed in seeds(5) {
        let mut road = Road::new(&Options::new(seed));
        road.settle(0, 10_000);
        let names = symbols(road.schedule.frames());
        let quotes = road.schedule.frames().iter().filter_map(Frame::view::<Quote>);
        let of_petr4 = quotes.filter(|q| names[&q.instrument.get()].as_str() == "PETR4");
        let last = *of_petr4.max_by_key(|q| q.seq.get()).unwrap();
        let asker = road.world.ask(road.asker, Road::query(Op::Quote, "PETR4"));
        let quote = asker.frames.iter().find(|f| f.kind == Kind::Quote as u8).unwrap();
        assert!(!quote.has(Flags::STALE), "the session stands");
        assert_eq!(quote.view::<Quote>().unwrap().ask_qty, last.ask_qty);

        let asker = road.world.ask(road.asker, Road::query(Op::Quote, crate::road::LONG));
        let end = asker.messages::<Ended>().next().unwrap();
        assert_eq!((end.rows.get(), end.code.get()), (0, ErrorCode::NoData as u16));
        let asker = road.ask_aggregator(Road::query(Op::Quote, crate::road::LONG));
        let end = asker.messages::<Ended>().next().unwrap();
        assert_eq!((end.rows.get(), end.code.get()), (0, ErrorCode::NoData as u16));
        let asker = road.world.ask(road.asker, Road::query(Op::Quote, "NOBODY"));
        let refusal = asker.messages::<Refusal>().next().unwrap();
        assert_eq!(refusal.code.get(), ErrorCode::UnknownSymbol as u16);

        let now = road.world.now_ns();
        road.world.plan_fault(now, Fault::Kill(road.exchange, 3_000 * MS));
        road.world.run_until(now + 500 * MS);
        let asker = road.world.ask(road.asker, Road::query(Op::Quote, "PETR4"));
        let quote = asker.frames.iter().find(|f| f.kind == Kind::Quote as u8).unwrap();
        assert!(quote.has(Flags::STALE), "the exchange is gone");
        assert_eq!(quote.view::<Quote>().unwrap().ask_qty, last.ask_qty);

        road.world.run_until(now + 15_000 * MS);
        let asker = road.world.ask(road.asker, Road::query(Op::Quote, "PETR4"));
        let quote = asker.frames.iter().find(|f| f.kind == Kind::Quote as u8).unwrap();
        assert!(!quote.has(Flags::STALE), "it is back\n{}", road.world.describe());
    }
}

fn breaker_changes_are_frames_of_the_system_topic() {
    for seed in seeds(5) {
        let options = Options { events: 200, pace_ns: 20 * MS, ..Options::new(seed) };
        let mut road = Road::new(&options);
        road.world.plan_fault(300 * MS, Fault::Kill(road.exchange, 2_000 * MS));
        road.world.plan_fault(500 * MS, Fault::Kill(road.shards[1], 1_500 * MS));
        road.run_until_ms(3_500);
        let late = road.late_client();
        road.world.plan_fault(3_600 * MS, Fault::Kill(road.exchange, 2_000 * MS));
        road.settle(6_000, 30_000);
        road.verify();
        let is_change = |f: &&Frame| f.view::<BreakerChange>().is_some();
        let system = &road.world.client(road.system).frames;
        let changes: Vec<u32> =
            system.iter().filter(is_change).map(|f| f.instrument_seq.get()).collect();
        assert!(changes.len() >= 4, "{changes:?}\n{}", road.world.describe());
        assert_eq!(changes, (1..=changes.len() as u32).collect::<Vec<_>>());
        // What fills the gaps of a full feed has them too.
        let all = Query { from: 1.into(), ..Road::query(Op::Replay, "*") };
        let asker = road.world.ask(road.asker, all);
        let is_row = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
        let rows: Vec<u64> = asker.frames.iter().filter(is_row).map(|f| f.seq.get()).collect();
        assert_eq!(rows, (1..=rows.len() as u64).collect::<Vec<_>>(), "a hole in the sequence");
        assert!(asker.frames.iter().filter(is_row).any(|f| is_change(&f)));
        for host in [road.all, late] {
            let client = road.world.client(host);
            assert_eq!(client.frames.iter().filter(is_change).count(), 0, "host {host}");
            assert!(!client.frames.is_empty());
        }
    }
}

fn a_bar_is_the_same_whoever_folds_it() {
    let mut road = Road::new(&Options::new(3));
    road.settle(0, 10_000);
    let asker = road.ask_shard(Road::query(Op::Range, crate::road::LONG));
    let mut trades: Vec<Trade> = asker.messages().copied().collect();
    for cancel in asker.messages::<Cancel>() {
        trades.retain(|trade| trade.trade_id != cancel.trade_id);
    }
    let mut fold = BarFold::new(60_000_000_000);
    let mut bars: Vec<_> = trades.iter().filter_map(|trade| fold.add(trade)).collect();
    bars.extend(fold.finish());
    let query =
        pregao::wire::Query { limit: 60.into(), ..Road::query(Op::Bars, crate::road::LONG) };
    let asker = road.ask_shard(query);
    let volumes: Vec<u128> = asker.messages::<BarTotals>().map(|bar| bar.volume.get()).collect();
    assert_eq!(volumes, bars.iter().map(|bar| bar.volume).collect::<Vec<_>>());
}
