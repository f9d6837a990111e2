//! Rogue peers, one at a time, each where it can do most. When it is gone, everything is as if it had not been.

use std::time::Duration;

use pregao::log::Retention;
use pregao::market::partition::Partition;
use pregao::time::Mono;
use pregao::wire::{BreakerChange, Ended, ErrorCode, Frame, Op, Query, Refusal};

use crate::client::ClientConfig;
use crate::faults::Fault;
use crate::hosts::{AnyNode, Spec};
use crate::road::{MS, Options, Removal, Road, SHARDS, address, names, plain};
use crate::rogue::{Rogue, RogueConfig, Voice};

/// When the rogues are gone.
const GONE_MS: u64 = 4_000;
/// The same of one that takes the broker while it cannot hear core.
const JUMPER_GONE_MS: u64 = 10_500;

fn rogue(road: &mut Road, voice: Voice, port: u16, from_ms: u64, until_ms: u64) -> usize {
    let (from, until) = (Mono(from_ms * MS), Mono(until_ms * MS));
    let seed = 0xBAD ^ u64::from(port) ^ from_ms;
    let config = RogueConfig { voice, target: address(port), seed, from, until };
    let at = if voice == Voice::Follower { port } else { 1 };
    road.world.add("rogue", address(at), Spec::Rogue(config))
}

fn of(road: &Road, host: usize) -> &Rogue {
    match &road.world.hosts[host].node {
        Some(AnyNode::Rogue(rogue)) => rogue,
        _ => panic!("a rogue"),
    }
}

fn road(seed: u64) -> Road {
    Road::new(&Options { events: 300, pace_ns: 4 * MS, ..Options::new(seed) })
}

/// Every shard has its part, and the subscriber of everything has all of it.
fn has_converged(road: &mut Road) {
    let now_ms = road.world.now_ns() / MS;
    for step in 0..60 {
        road.run_until_ms(now_ms + 1_000 * step);
        if lacking(road).is_none() {
            break;
        }
    }
    let told = road.world.describe();
    let lacking = lacking(road);
    road.world.hold(lacking.is_none(), "a-rogue-leaves-nothing-behind", || {
        format!("{}\n{told}", lacking.unwrap_or_default())
    });
}

/// Who does not have what it should.
fn lacking(road: &Road) -> Option<String> {
    let journal = road.stored(road.core);
    let events = road.schedule.frames().len() - road.schedule.definitions();
    let is_event = |f: &&Frame| f.has_exchange();
    if road.world.hosts[road.core].spec.keeping().is_some_and(|keeping| !keeping.removes()) {
        let held = journal.iter().filter(is_event).count();
        if held != events {
            return Some(format!("core has {held} of {events}"));
        }
        let names = names(&journal);
        for shard in 0..SHARDS {
            let partition = Partition::hash(SHARDS).unwrap();
            let is_owned = |f: &&Frame| partition.owner_of(&names[&f.instrument.get()]) == shard;
            let owned: Vec<Frame> = journal.iter().filter(is_owned).copied().collect();
            let held = road.stored(road.shards[usize::from(shard)]);
            if held != owned {
                return Some(format!("shard-{shard} has {} of {}", held.len(), owned.len()));
            }
        }
    }
    let told =
        road.world.client(road.all).frames.iter().map(plain).filter(|f| is_event(&f)).count();
    if road.world.client(road.all).is_stale {
        return Some("the subscriber is told that the feed is not current".to_owned());
    }
    let foreign = road.world.client(road.all).frames.iter().map(plain);
    let foreign: Vec<u64> =
        foreign.filter(|f| !journal.contains(f)).map(|f| f.seq.get()).take(3).collect();
    (told != events)
        .then(|| format!("the subscriber has {told} of {events}, and of nobody {foreign:?}"))
}

/// Core is away for a while, and somebody speaks in its place.
fn while_core_is_away(voice: Voice, ports: &[u16]) {
    for seed in 0..8 {
        let mut road = road(seed);
        let until_ms = if voice == Voice::Jumper { JUMPER_GONE_MS } else { GONE_MS };
        let rogues: Vec<usize> =
            ports.iter().map(|&port| rogue(&mut road, voice, port, 100, until_ms)).collect();
        for at_ms in [200, 900] {
            road.world.plan_fault(at_ms * MS, Fault::Kill(road.core, 400 * MS));
        }
        if voice == Voice::Jumper {
            // A core that comes back in the same epoch has to say itself what it never sent.
            let apart = Fault::Partition(road.core, road.broker, 8_000 * MS);
            road.world.plan_fault(3_000 * MS, apart);
        }
        road.run_until_ms(until_ms + 2_500);
        let greeted: u64 = rogues.iter().map(|&host| of(&road, host).greeted).sum();
        assert!(greeted > 0 || seed > 0, "no rogue was ever let in");
        if voice == Voice::Publisher {
            let tolerated = rogues.iter().map(|&host| of(&road, host).tolerated).max().unwrap_or(0);
            road.world.hold(tolerated < 4, "a-jump-that-nobody-announced-is-refused", || {
                format!("one connection brought {tolerated} of them")
            });
        }
        has_converged(&mut road);
    }
}

pub(crate) fn a_rogue_feeder_takes_nothing_away() {
    while_core_is_away(Voice::Feeder, &[9001, 9002, 9003]);
}

pub(crate) fn a_rogue_publisher_is_forgotten() {
    while_core_is_away(Voice::Publisher, &[8081]);
}

pub(crate) fn a_rogue_publisher_that_announces_is_forgotten() {
    while_core_is_away(Voice::Jumper, &[8081]);
}

/// Who comes while a rogue holds the broker is sent to core's history for frames that were never there. The history
/// ends before them, so nobody goes on behind them.
pub(crate) fn nobody_goes_live_where_core_never_was() {
    const ROGUE_GONE_MS: u64 = 40_000;
    for seed in 0..8 {
        let mut road = road(seed);
        let rogue = rogue(&mut road, Voice::Jumper, 8081, 3_100, ROGUE_GONE_MS);
        let apart = Fault::Partition(road.core, road.broker, 38_000 * MS);
        road.world.plan_fault(3_000 * MS, apart);
        let mut latecomers = Vec::new();
        for at_ms in [8_000, 9_500, 12_000] {
            road.run_until_ms(at_ms);
            let config = ClientConfig::good(vec![("*", 0)], 1);
            for spec in [Spec::Client(config.clone()), Spec::Library(config)] {
                latecomers.push(road.world.add("latecomer", address(1), spec));
            }
        }
        road.run_until_ms(ROGUE_GONE_MS + 2_500);
        assert!(of(&road, rogue).greeted > 0, "the rogue was never let in");
        has_converged(&mut road);
        let end = road.stored(road.core).last().unwrap().seq.get() + 1;
        for host in latecomers {
            let client = road.world.client(host);
            let (live_from, voids) = (client.live_from, client.voids.clone());
            let is_right = live_from == Some(end) && voids.is_empty();
            road.world.hold(is_right, "nobody-goes-live-where-core-never-was", || {
                format!("a latecomer went live at {live_from:?} of {end} and took back {voids:?}")
            });
        }
    }
}

/// Who began with the present while a rogue held the broker, and is away when that is taken back, has passed over what core
/// published meanwhile. When it comes back it is sent all of that.
pub(crate) fn who_was_away_gets_what_a_rogue_jumped_over() {
    for seed in 0..4 {
        let mut road = Road::new(&Options { events: 900, pace_ns: 20 * MS, ..Options::new(seed) });
        let rogue = rogue(&mut road, Voice::Jumper, 8081, 3_100, JUMPER_GONE_MS);
        let apart = Fault::Partition(road.core, road.broker, 8_000 * MS);
        road.world.plan_fault(3_000 * MS, apart);
        road.run_until_ms(9_000);
        let config = ClientConfig::good(vec![("*", 0)], 0);
        let specs = [Spec::Client(config.clone()), Spec::Library(config)];
        let latecomers = specs.map(|spec| road.world.add("latecomer", address(1), spec));
        for host in latecomers {
            let apart = Fault::Partition(host, road.broker, 6_000 * MS);
            road.world.plan_fault(10_000 * MS, apart);
            road.world.plan_fault(10_050 * MS, Fault::Cut(host));
        }
        road.run_until_ms(JUMPER_GONE_MS + 20_000);
        assert!(of(&road, rogue).greeted > 0, "the rogue was never let in");
        has_converged(&mut road);
        for host in latecomers {
            let client = road.world.client(host);
            let lost = client.lost.clone();
            road.world.hold(lost.is_empty(), "lossless-loses-nothing", || {
                format!("a latecomer lost {lost:?} and took back {:?}", client.voids)
            });
        }
    }
}

pub(crate) fn a_rogue_consumer_takes_nothing_away() {
    while_core_is_away(Voice::Consumer, &[8080]);
}

/// A second feeder and a second publisher, beside those that live.
pub(crate) fn a_living_feeder_keeps_its_seat() {
    let mut road = road(1);
    for (voice, port) in [(Voice::Feeder, 9001), (Voice::Publisher, 8081)] {
        let rogue = rogue(&mut road, voice, port, 300, GONE_MS);
        let now_ms = road.world.now_ns() / MS;
        road.run_until_ms(now_ms + 1_200);
        let lines: Vec<&String> = road.world.hosts[road.core]
            .log
            .iter()
            .filter(|line| line.contains(" ended: "))
            .collect();
        road.world.hold(lines.is_empty(), "a-living-peer-keeps-its-seat", || format!("{lines:?}"));
        assert!(of(&road, rogue).refused > 0 && of(&road, rogue).greeted == 0);
    }
    has_converged(&mut road);
}

/// Somebody listens where a shard should, and acknowledges what nobody sent it.
pub(crate) fn a_rogue_follower_makes_core_forget_nothing() {
    for seed in 0..8 {
        let removes = |segment_records| {
            let retention = Retention { bytes_max: Some(0), ..Retention::default() };
            Some(Removal { segment_records, retention })
        };
        let options = Options {
            events: 900,
            pace_ns: 4 * MS,
            core_removes: removes(64),
            ..Options::new(seed)
        };
        let mut road = Road::new(&options);
        rogue(&mut road, Voice::Follower, 9001, 0, GONE_MS);
        road.world.plan_fault(300 * MS, Fault::Kill(road.shards[0], 4_000 * MS));
        road.run_until_ms(12_000);
        // What core published is known; the shard must have its part of it.
        let shard = road.shards[0];
        let log: Vec<&String> = road.world.hosts[shard]
            .log
            .iter()
            .filter(|line| line.contains("history begins"))
            .collect();
        road.world
            .hold(log.is_empty(), "core-forgets-nothing-that-a-shard-lacks", || format!("{log:?}"));
    }
}

pub(crate) fn a_flood_of_reports_is_bounded() {
    let mut road = road(2);
    rogue(&mut road, Voice::Reporter, 8082, 100, 20_100);
    road.run_until_ms(21_000);
    let journal = road.stored(road.core);
    let flood = journal.iter().filter_map(Frame::view::<BreakerChange>);
    let flood = flood.filter(|change| change.name.starts_with(b"aggregator.")).count();
    assert!(flood > 0);
    // Of two breakers, 16 saved ones and one in ten seconds each.
    road.world.hold(flood <= 2 * (16 + 3), "a-flood-of-reports-is-bounded", || {
        format!("{flood} reports in the journal")
    });
    has_converged(&mut road);
}

pub(crate) fn questions_about_the_future_end_soon() {
    let mut road = road(3);
    let future = rogue(&mut road, Voice::Future(100), 9001, 2_000, 40_000);
    road.run_until_ms(14_000);
    let ended = of(&road, future).first_end;
    road.world.hold(ended.is_some(), "nobody-waits-for-ever", || {
        format!("100 questions about the future, and {} were ended", of(&road, future).ended)
    });
}

/// Some ask for all the waiting places that there are, and one more asks for one.
pub(crate) fn greedy_peers_leave_room_for_others() {
    let mut road = road(4);
    for _ in 0..5 {
        rogue(&mut road, Voice::Future(1_024), 9001, 2_000, 40_000);
    }
    road.run_until_ms(6_000);
    let query = Query { deadline_us: 50_000.into(), ..Road::query(Op::Last, "*") };
    let asker = road.world.ask_as_of(road.shard_askers[0], query, u64::MAX - 1);
    let refused: Vec<u16> = asker.messages::<Refusal>().map(|it| it.code.get()).collect();
    let behind = asker.messages::<Ended>().any(|end| end.code.get() == ErrorCode::Behind as u16);
    road.world
        .hold(behind, "greedy-peers-leave-room-for-others", || format!("refused: {refused:?}"));
}

pub(crate) fn who_reads_nothing_is_closed() {
    // More than any direction of a connection holds here.
    let options = Options { events: 1_000, pace_ns: 4 * MS, ..Options::new(5) };
    let mut road = Road::new(&options);
    let deaf = rogue(&mut road, Voice::Deaf, 8081, 50, 600_000);
    let now_ns = road.world.now_ns();
    let until = Duration::from_secs(100);
    road.world.run_until(now_ns + u64::try_from(until.as_nanos()).unwrap());
    let lines = &road.world.hosts[road.broker].log;
    let is_told = lines.iter().any(|line| line.contains("read nothing"));
    road.world.hold(is_told, "who-reads-nothing-is-closed", || {
        let tail: Vec<_> = lines.iter().rev().take(6).collect();
        let (said, closed) = (of(&road, deaf).said, of(&road, deaf).closed);
        format!("said {said}, closed {closed}: {tail:?} {}", road.world.describe())
    });
    has_converged(&mut road);
}
