//! Complete means fresh, and connected means told: what an answer that is called complete must have, and who
//! must know that the feed is dead. The days hold the first for every answer, and in the end that everybody
//! takes the feed for current again; the scenarios here are of outages longer than a day has.

use std::collections::BTreeMap;

use pregao::log::Retention;
use pregao::market::partition::Partition;
use pregao::wire::{EndStatus, Ended, ErrorCode, NodeAnswer, NodeStatus, Op, Query, Seq, unpadded};

use crate::client::ClientConfig;
use crate::faults::Fault;
use crate::hosts::Spec;
use crate::net::Weather;
use crate::road::{BEHIND_MAX, MS, Options, Removal, Road, address};
use crate::world::World;

/// When each frame was first seen to have left core, by `seq` and epoch.
#[derive(Debug, Default)]
pub(crate) struct Published {
    at_ns: BTreeMap<(u64, u32), u64>,
}

impl Published {
    pub(crate) fn note(&mut self, seq: u64, epoch: u32, at_ns: u64) {
        self.at_ns.entry((seq, epoch)).or_insert(at_ns);
    }
}

impl World {
    /// The aggregator has answered a question that came then and named this cut (0: none). What core had
    /// published longer ago than a node may be behind is in a complete answer.
    pub(crate) fn watch_fresh(&self, asked_ns: u64, cut: u64, end: &Ended) {
        let is_of_now = matches!(Seq::new(cut), None | Some(Seq::LAST));
        if end.status != EndStatus::Complete as u8 || !is_of_now || end.as_of.get() == 0 {
            return;
        }
        let limit_ns = u64::try_from(BEHIND_MAX.as_nanos()).unwrap();
        let Some(before_ns) = asked_ns.checked_sub(limit_ns) else { return };
        let watch = &self.watch;
        let is_lacking = |&(&(seq, epoch), &at_ns): &(&(u64, u32), &u64)| {
            at_ns < before_ns
                && seq >= end.as_of.get()
                && !watch.is_void_since(seq, epoch, u32::MAX)
        };
        let lacking = watch.published_at.at_ns.iter().find(is_lacking);
        self.hold(lacking.is_none(), "a-complete-answer-is-fresh", || {
            format!("{end:?} has not {lacking:?}, asked at {asked_ns}")
        });
    }
}

/// A day without other faults that is long enough, with or without copies and further reactors.
fn road(seed: u64, has_copies: bool) -> Road {
    let options = Options {
        events: 600,
        pace_ns: 50 * MS,
        has_copies,
        is_library: true,
        further_reactors: 2,
        ..Options::new(seed)
    };
    let mut road = Road::new(&options);
    road.run_until_ms(2_500);
    road
}

fn run_ms(road: &mut Road, ms: u64) {
    let now_ns = road.world.now_ns();
    road.world.run_until(now_ns + ms * MS);
}

/// What is asked of the shards: a list, which may be partial.
fn last_of_all() -> Query {
    let query = Query { limit: 5.into(), ..Road::query(Op::Last, "*") };
    Query { options: Query::PARTIAL, ..query }
}

/// The end of an answer, and the nodes that are behind in it.
fn asked(road: &mut Road, query: Query, as_of: u64) -> (Ended, Vec<(String, u16)>) {
    let asker = road.world.ask_as_of(road.aggregator_asker, query, as_of);
    let end = asker.messages::<Ended>().next().copied().unwrap_or_default();
    let behind = asker
        .messages::<NodeAnswer>()
        .filter(|node| node.status == NodeStatus::Behind as u8)
        .map(|node| (unpadded(&node.name), node.behind_s.get()));
    (end, behind.collect())
}

/// Until an answer is complete again; at most half a minute.
fn until_complete(road: &mut Road) {
    for _ in 0..60 {
        if asked(road, last_of_all(), 0).0.status == EndStatus::Complete as u8 {
            return;
        }
        run_ms(road, 500);
    }
    road.world.broken("a-node-that-is-fed-is-not-behind", &road.world.describe());
}

/// Whoever lacks what core has had for long is named, and the answer is not complete.
pub(crate) fn no_answer_of_a_node_that_nobody_feeds_is_complete() {
    const OUTAGE_MS: u64 = 12_000;
    let mut road = road(1, false);
    until_complete(&mut road);
    let (core, shard, aggregator) = (road.core, road.shards[0], road.aggregator);
    let faults = [
        Fault::Partition(core, shard, OUTAGE_MS * MS),
        Fault::Freeze(core, OUTAGE_MS * MS),
        Fault::Kill(core, OUTAGE_MS * MS),
    ];
    for fault in faults {
        let is_one = matches!(fault, Fault::Partition(..));
        road.world.fault(fault.clone());
        run_ms(&mut road, 5_000);
        // It has heard of nobody when it is asked.
        road.world.fault(Fault::Kill(aggregator, 50 * MS));
        run_ms(&mut road, 4_950);
        for as_of in [0, Seq::LAST.get()] {
            let (end, behind) = asked(&mut road, last_of_all(), as_of);
            if as_of != 0 && end.code.get() == ErrorCode::NoData as u16 {
                continue;
            }
            road.world.hold(
                end.status == EndStatus::Partial as u8,
                "a-complete-answer-is-fresh",
                || format!("{end:?} 10 s after {fault:?}"),
            );
            let names: Vec<&str> = behind.iter().map(|(name, _)| name.as_str()).collect();
            let all = ["shard-0", "shard-1", "shard-2"];
            let want = if is_one { &all[..1] } else { &all[..] };
            assert_eq!(names, want, "10 s after {fault:?}");
            assert!(behind.iter().all(|(_, seconds)| (8..=12).contains(seconds)), "{behind:?}");
        }
        let (end, _) = asked(&mut road, Query { options: 0, ..last_of_all() }, 0);
        let is_told =
            (end.status, end.code.get()) == (EndStatus::Failed as u8, ErrorCode::Behind as u16);
        assert!(is_told, "{end:?} where a part is not welcome");
        run_ms(&mut road, OUTAGE_MS - 10_000);
        until_complete(&mut road);
        run_ms(&mut road, 3_000);
    }
}

/// The same as of the place of a node that nobody feeds, when the node has all again before it answers. The world judges
/// each answer.
pub(crate) fn no_answer_as_of_an_old_place_is_complete() {
    for seed in 0..6 {
        let mut road = road(seed, false);
        until_complete(&mut road);
        let outage_ms = 4_000 + 211 * seed;
        road.world.fault(Fault::Partition(road.core, road.shards[0], outage_ms * MS));
        run_ms(&mut road, outage_ms - 500);
        let mut statuses = Vec::new();
        for _ in 0..400 {
            // There is no time to wait for what all nodes say of their places.
            let query = Query { deadline_us: 2_000.into(), ..last_of_all() };
            statuses.push(asked(&mut road, query, Seq::LAST.get()).0.status);
            run_ms(&mut road, 4);
        }
        let is_seen = |status: EndStatus| statuses.contains(&(status as u8));
        assert!(is_seen(EndStatus::Partial) && is_seen(EndStatus::Complete), "{statuses:?}");
    }
}

/// A copy that nobody feeds stands behind one that is fed.
pub(crate) fn a_copy_that_is_fed_answers_for_one_that_is_not() {
    let mut road = road(2, true);
    until_complete(&mut road);
    for shard in road.shards.clone() {
        road.world.fault(Fault::Partition(road.core, shard, 8_000 * MS));
    }
    run_ms(&mut road, 4_000);
    for _ in 0..20 {
        run_ms(&mut road, 150);
        let (end, _) = asked(&mut road, last_of_all(), 0);
        assert_eq!(end.status, EndStatus::Complete as u8, "{}", road.world.describe());
    }
}

/// A shard that is fed, and that has much to catch up with over a slow network, is behind: its connection is
/// alive, and what it has is old.
pub(crate) fn a_shard_that_catches_up_is_behind() {
    let removal = Some(Removal { segment_records: 1 << 14, retention: Retention::default() });
    let options = Options {
        instruments: 2_000,
        core_removes: removal,
        shards_remove: [removal; 3],
        ..Options::new(5)
    };
    let mut road = Road::new(&options);
    road.world.fault(Fault::Kill(road.shards[0], 2_500 * MS));
    run_ms(&mut road, 2_400);
    let slow = Weather { delay_grains_max: 400, buffer_bytes: (256, 512), ..Weather::FAIR };
    road.world.weather = slow;
    let partition = Partition::hash(3).unwrap();
    let names = (0..).map(|number| format!("M{number:05}"));
    let name = names.into_iter().find(|name| partition.owner(&name.parse().unwrap()) == 0);
    let query = Query { limit: 1.into(), ..Road::query(Op::Last, &name.unwrap()) };
    let mut statuses = Vec::new();
    for _ in 0..60 {
        run_ms(&mut road, 500);
        let (end, behind) = asked(&mut road, Query { options: Query::PARTIAL, ..query }, 0);
        statuses.push((end.status, !behind.is_empty()));
    }
    let behind = (EndStatus::Partial as u8, true);
    assert!(statuses.contains(&behind), "it never was behind: {statuses:?}");
}

/// A market in which nothing happens makes nobody behind.
pub(crate) fn a_quiet_market_makes_nobody_behind() {
    let mut road = Road::new(&Options::new(3));
    road.settle(0, 10_000);
    for _ in 0..40 {
        run_ms(&mut road, 997);
        let (end, behind) = asked(&mut road, last_of_all(), 0);
        assert_eq!((end.status, behind), (EndStatus::Complete as u8, Vec::new()));
        let told: Vec<&str> = (0..road.world.hosts.len())
            .filter(|host| road.world.delivered(*host).is_some_and(|it| it.is_stale))
            .map(|host| road.world.hosts[host].name.as_str())
            .collect();
        assert!(told.is_empty(), "{told:?} take a quiet feed for a dead one");
    }
}

/// Whoever is connected knows within little more than a second that the feed is dead, whatever died; and when
/// it is back.
pub(crate) fn a_dead_feed_is_told_and_so_is_its_return() {
    const OUTAGE_MS: u64 = 6_000;
    for which in 0..5 {
        let mut road = road(10 + which, false);
        let (exchange, core, broker) = (road.exchange, road.core, road.broker);
        let outage = OUTAGE_MS * MS;
        let fault = match which {
            0 => Fault::Kill(exchange, outage),
            1 => Fault::Kill(core, outage),
            2 => Fault::Freeze(core, outage),
            3 => Fault::Partition(core, broker, outage),
            _ => Fault::PowerLoss(core, outage),
        };
        let mut clients = vec![road.all, road.one, road.system];
        let late = |road: &mut Road, from_seq| {
            let config = ClientConfig::good(vec![("PETR4", 0)], from_seq);
            road.world.add("late", address(1), Spec::Client(config))
        };
        clients.extend((0..2).map(|_| late(&mut road, 0)));
        run_ms(&mut road, 1_500);
        let stale = |road: &Road, clients: &[usize]| -> Vec<bool> {
            clients.iter().map(|host| road.world.client(*host).is_stale).collect()
        };
        let told = stale(&road, &clients);
        road.world.hold(!told.contains(&true), "a-feed-that-is-back-is-current", || {
            format!("{told:?} before {which}")
        });
        road.world.fault(fault.clone());
        run_ms(&mut road, 1_300);
        let told = stale(&road, &clients);
        road.world.hold(!told.contains(&false), "a-dead-feed-is-told", || {
            format!("{told:?} 1.3 s after {fault:?}")
        });
        clients.push(late(&mut road, 0));
        if matches!(fault, Fault::Kill(..) | Fault::Partition(..)) {
            // It wants history first. Of a core that says nothing at all it learns only later.
            clients.push(late(&mut road, 1));
        }
        run_ms(&mut road, 500);
        let told = stale(&road, &clients);
        road.world.hold(!told.contains(&false), "a-dead-feed-is-told", || {
            format!("{told:?} 1.8 s after {fault:?}, the last ones came later")
        });
        run_ms(&mut road, OUTAGE_MS - 1_800);
        // A breaker waits before it lets core try again.
        for _ in 0..40 {
            if !stale(&road, &clients).contains(&true) {
                break;
            }
            run_ms(&mut road, 500);
        }
        let told = stale(&road, &clients);
        road.world.hold(!told.contains(&true), "a-feed-that-is-back-is-current", || {
            format!("{told:?} 20 s after {fault:?}\n{}", road.world.describe())
        });
    }
}
