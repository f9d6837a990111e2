//! One seed from its beginning to its end: a bad day, then calm, in which everything must converge
//! within a bound.

use std::fmt;

use pregao::market::chaos::ChaosConfig;
use pregao::wire::{BreakerAction, Metric, Op, Query};

use crate::check::{check, check_answers, check_now};
use crate::counts::Counts;
use crate::hosts::Spec;
use crate::outside::check_union;
use crate::plan::{Day, Wish};
use crate::road::{MS, Road};

/// How long everything may take to converge once the faults are over: a peer that vanished without a
/// word is missed after 45 seconds, and a breaker then waits up to ten.
const CALM_NS: u64 = 120_000 * MS;

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) hash: u64,
    pub(crate) turns: u64,
    pub(crate) virtual_ns: u64,
    pub(crate) faults: u64,
    pub(crate) voids: u64,
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    pub(crate) counts: Counts,
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:.1} simulated seconds, {} turns, {} faults, {} voids, {} answers, {} failed disks; \
             hash {:016x}",
            self.virtual_ns as f64 / 1e9,
            self.turns,
            self.faults,
            self.voids,
            self.answers,
            self.failures,
            self.hash,
        )
    }
}

/// Runs a seed. Panics when an invariant does not hold.
pub(crate) fn run(seed: u64, wish: Wish) -> Report {
    let mut day = Day::new(seed, wish);
    crate::caller::exercise(seed);
    live(&mut day);
    finish(&mut day);
    crate::gateway::count(&mut day.road.world);
    let world = &day.road.world;
    let voids = day.clients.iter().map(|&host| world.client(host).voids.len() as u64).sum();
    Report {
        hash: world.hash(),
        turns: world.turns,
        virtual_ns: world.now_ns(),
        faults: day.faults as u64,
        voids,
        answers: world.watch.answers,
        failures: world.watch.failures,
        counts: world.counts,
    }
}

/// The bad day.
pub(crate) fn live(day: &mut Day) {
    let mut at_ns = 0;
    while at_ns < day.calm_at_ns {
        at_ns = (at_ns + 250 * MS).min(day.calm_at_ns);
        day.road.world.run_until(at_ns);
        check_now(day);
    }
}

/// Calm, until everybody has everything.
pub(crate) fn finish(day: &mut Day) {
    let road = &mut day.road;
    let (exchange, asker) = (road.exchange, road.asker);
    if let Spec::External(config) = &mut road.world.hosts[exchange].spec
        && !config.chaos.is_off()
    {
        config.chaos = ChaosConfig::OFF;
        road.world.end(exchange, false);
    }
    road.world.calm();
    // What an operator said on a connection that was accepted late, and cut, may still take effect.
    let now_ns = road.world.now_ns();
    road.world.run_until(now_ns + 1_500 * MS);
    for name in std::mem::take(&mut day.forced) {
        let query =
            Query { limit: (BreakerAction::Close as u32).into(), ..Road::query(Op::Breaker, "") };
        let query = Query { symbol: pregao::wire::padded(name), ..query };
        road.world.ask(asker, query);
    }
    let late = road.late_client();
    day.clients.push(late);
    converge(day);
    // A little longer, so that what should not come has a chance to.
    let now_ns = day.road.world.now_ns();
    day.road.world.run_until(now_ns + 2_500 * MS);
    if let Err((name, text)) = check_answers(day) {
        day.road.world.broken(name, &text);
    }
    // Every node that takes questions can say how it is.
    let exchange = day.road.ask_exchange();
    let askers = [day.road.asker, day.road.aggregator_asker, exchange];
    let copies = day.road.copy_askers.iter().chain(&day.road.core_copy_asker).copied();
    let copies: Vec<usize> = copies.collect();
    for asker in askers.into_iter().chain(day.road.shard_askers.clone()).chain(copies) {
        let said = day.road.world.ask(asker, Road::query(Op::Status, ""));
        if said.messages::<Metric>().count() < 3 {
            day.road.world.broken("nodes-say-how-they-are", "a status without figures");
        }
    }
    converge(day);
    if crate::gateway::has_short_ring(day) {
        // A connection to core that died without a word is missed after 45 seconds, and a breaker waits up to ten.
        let now_ns = day.road.world.now_ns();
        day.road.world.run_until(now_ns + 60_000 * MS);
        crate::gateway::add_late(day);
        converge(day);
    }
    check_union(day);
}

/// Runs on until all that must hold in the end holds.
fn converge(day: &mut Day) {
    let from_ns = day.road.world.now_ns();
    let mut step_ns = 50 * MS;
    loop {
        check_now(day);
        let Err((name, text)) = check(day) else { return };
        let now_ns = day.road.world.now_ns();
        if now_ns - from_ns > CALM_NS {
            let text = format!("{text}, after {} s of calm", CALM_NS / MS / 1_000);
            day.road.world.broken(name, &text);
        }
        day.road.world.run_until(now_ns + step_ns);
        step_ns = (step_ns * 3 / 2).min(10_000 * MS);
    }
}
