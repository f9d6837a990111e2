//! One bad day, drawn from a seed: which faults there are (each seed leaves some out, so that a common
//! one does not hide what a rare one would show), when they come, and who is there to suffer them.

use std::time::Duration;

use pregao::log::{HEADER_BYTES, Retention, SyncPolicy};
use pregao::market::chaos::ChaosConfig;
use pregao::random::Random;
use pregao::time::Mono;
use pregao::turn::Bounds;
use pregao::wire::{BreakerAction, Kind, Mode};

use crate::attacker::AttackerConfig;
use crate::client::{ClientConfig, Habit};
use crate::faults::Fault;
use crate::hosts::Spec;
use crate::monitor::MonitorConfig;
use crate::net::Weather;
use crate::reporter::ReporterConfig;
use crate::road::{MS, Options, Removal, Road, SHARDS, SYMBOLS, address};
use crate::rogue::{RogueConfig, Voice};
use crate::system::plan_trouble;
use crate::work::WorkBounds;

/// A day and its actors.
pub(crate) struct Day {
    pub(crate) road: Road,
    /// The faults are over at this time.
    pub(crate) calm_at_ns: u64,
    /// All subscribers.
    pub(crate) clients: Vec<usize>,
    /// The gateway, and who is there.
    pub(crate) gateway: Option<crate::gateway::AtGateway>,
    /// Breakers that an operator has forced open.
    pub(crate) forced: Vec<&'static str>,
    pub(crate) faults: usize,
    /// When core is back behind each of its deaths.
    epochs: Vec<u64>,
}

/// What a day may be without; the stalled subscriber is compared with and without its stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) is_traced: bool,
    pub(crate) no_stall: bool,
    pub(crate) no_faults: bool,
    /// No log forgets anything.
    pub(crate) no_removal: bool,
    /// Core's journal may become an older one.
    pub(crate) directories_change: bool,
    /// The broker has no further reactors: what a seed meant before there were any.
    pub(crate) one_reactor: bool,
}

/// The kinds of faults that a day can have.
const KINDS: u64 = 13;

/// On half of the days a turn flushes and accepts little, and a round of the fan-out takes in little, so that
/// a few connections have what thousands have in production.
fn bounds(options: Options, draw: &mut Random) -> Options {
    if draw.below(2) == 0 {
        return options;
    }
    let mut at_most = |most| usize::try_from(draw.between(1, most)).unwrap();
    let turn = Bounds { accepts_max: at_most(4), flushes_max: at_most(4), ..Bounds::default() };
    let round_frames_max = at_most(12);
    let bounds = WorkBounds::tight(turn, draw);
    Options { bounds, round_frames_max, ..options }
}

impl Day {
    pub(crate) fn new(seed: u64, wish: Wish) -> Day {
        let root = Random::new(seed).fork(0xDA);
        let mut draw = root.fork(1);
        let pace_ns = draw.between(1, 8) * MS;
        let events = draw.between(80, 260);
        let options = Options {
            events,
            pace_ns,
            chaos: chaos(&mut draw, seed),
            ring_frames: 16 << draw.below(4),
            policy: Some(match draw.below(3) {
                0 => SyncPolicy::Batch,
                1 => SyncPolicy::Interval(Duration::from_millis(5)),
                _ => SyncPolicy::Interval(Duration::from_millis(50)),
            }),
            ..Options::new(seed)
        };
        let options = extras(options, &mut root.fork(7));
        let mut options = second_exchange(options, &mut root.fork(14));
        if wish.no_removal {
            (options.core_removes, options.shards_remove) = Default::default();
        }
        let options = bounds(options, &mut root.fork(10));
        let draw = &mut root.fork(11);
        let has_further = draw.below(3) == 0 && !wish.one_reactor;
        let further_reactors = if has_further { draw.between(1, 2) as usize } else { 0 };
        let begins_again = wish.directories_change;
        let options = Options { further_reactors, begins_again, ..options };
        let events = options.events;
        let options =
            if wish.no_faults { Options { chaos: ChaosConfig::OFF, ..options } } else { options };
        let mut road = Road::new(&options);
        road.world.is_traced = wish.is_traced;
        let calm_at_ns = events * pace_ns + 600 * MS;
        if !wish.no_faults {
            road.world.weather = weather(&mut root.fork(2));
        }
        let mut clients = vec![road.all, road.one, road.system];
        clients.extend(subscribers(&mut road, &mut root.fork(3), calm_at_ns, wish));
        let calm_at = Mono(calm_at_ns);
        road.world.add(
            "reporter",
            address(1),
            Spec::Reporter(ReporterConfig {
                aggregator: address(8000),
                symbols: SYMBOLS.to_vec(),
                partition: pregao::market::partition::Partition::hash(SHARDS).unwrap(),
                parts: (0..SHARDS)
                    .map(|shard| format!("shard-{shard}"))
                    .chain(["core".to_owned()])
                    .map(|name| match options.has_copies {
                        true => vec![format!("{name}.1"), name],
                        false => vec![name],
                    })
                    .collect(),
                seed: root.fork(4).next_u64(),
                calm_at,
            }),
        );
        let mut draw = root.fork(5);
        if draw.below(2) == 0 && !wish.no_faults {
            let ports = [8080, 8081, 8082, 9001, 9002, 9003, 8000, 8092, 9011];
            let count = if options.has_copies { 9 } else { 7 };
            let targets = ports[..count].iter().copied().map(address).collect();
            let config = AttackerConfig { targets, seed: draw.next_u64(), calm_at };
            road.world.add("attacker", address(1), Spec::Attacker(config));
        }
        let draw = &mut root.fork(13);
        if draw.below(3) == 0 && !wish.no_faults && !wish.one_reactor {
            for _ in 0..draw.between(1, 2) {
                rogue(&mut road, draw, calm_at);
            }
        }
        let mut draw = root.fork(8);
        if draw.below(3) == 0 {
            let every = Duration::from_millis(draw.between(40, 200));
            for port in [8081, 8082, 9001, 8000, 8092, 9011].map(address) {
                if road.world.hosts.iter().any(|host| host.address == port) {
                    let config = MonitorConfig { node: port, every, calm_at };
                    road.world.add("monitor", address(1), Spec::Monitor(config));
                }
            }
        }
        let mut day = Day {
            road,
            calm_at_ns,
            clients,
            gateway: None,
            forced: Vec::new(),
            faults: 0,
            epochs: Vec::new(),
        };
        if !wish.no_faults {
            day.plan_faults(&mut root.fork(6));
            day.slow_down_reactors(&mut root.fork(12));
            if !wish.one_reactor {
                plan_trouble(&mut day, &mut root.fork(40));
            }
            let draw = &mut root.fork(9);
            if (options.has_copies || options.core_removes.is_some()) && draw.below(4) == 0 {
                let shard = u16::try_from(draw.below(SHARDS.into())).unwrap();
                let hosts: Vec<usize> = day.road.copies_of(shard).collect();
                let host = hosts[draw.below(hosts.len() as u64) as usize];
                let fault = Fault::EmptyDisk(host, draw.between(1, 400) * MS);
                day.road.world.plan_fault(draw.between(1, calm_at_ns / MS) * MS, fault);
                day.faults += 1;
            }
        }
        // Last, so that days without it are what they were.
        if !wish.one_reactor {
            crate::gateway::plan(&mut day, &mut root.fork(41), wish);
        }
        day
    }

    fn plan_faults(&mut self, draw: &mut Random) {
        let road = &self.road;
        let mut nodes = vec![
            road.exchange,
            road.core,
            road.broker,
            road.shards[0],
            road.shards[1],
            road.shards[2],
            road.aggregator,
        ];
        nodes.extend(road.copies.iter().chain(&road.core_copy));
        nodes.extend(road.second.iter().map(|second| second.host));
        let mut with_disk = vec![road.core, road.shards[0], road.shards[1], road.shards[2]];
        with_disk.extend(&road.copies);
        let pick = |draw: &mut Random, of: &[usize]| of[draw.below(of.len() as u64) as usize];
        let any = |draw: &mut Random| pick(draw, &nodes);
        let removes = |&host: &usize| {
            road.world.hosts[host].spec.keeping().is_some_and(|keeping| keeping.removes())
        };
        let is_trimmed = with_disk.iter().any(removes);
        // A third of all kinds, on average; none at all now and then.
        let kinds: Vec<u64> = (0..KINDS).filter(|_| draw.below(3) == 0).collect();
        let count = if kinds.is_empty() { 0 } else { draw.between(1, 14) };
        let mut faults = Vec::new();
        for _ in 0..count {
            let at = draw.between(1, self.calm_at_ns / MS) * MS;
            let short = draw.between(1, 400) * MS;
            let long = draw.between(1, 1_500) * MS;
            let host = any(draw);
            let fault = match kinds[draw.below(kinds.len() as u64) as usize] {
                0 => Fault::Cut(draw.below(road.world.hosts.len() as u64) as usize),
                1 => Fault::Kill(host, short),
                2 => Fault::PowerLoss(host, short),
                3 => Fault::Restart(host, short),
                4 => Fault::Freeze(host, long),
                5 => Fault::Stall(host, long),
                6 => Fault::Partition(host, any(draw), long),
                7 => Fault::NoDescriptors(host, short),
                8 => Fault::WallJump(draw.between(0, 20_000) as i64 - 10_000),
                9 => Fault::DiskFull(pick(draw, &with_disk), long),
                10 => Fault::SyncError(pick(draw, &with_disk)),
                11 => {
                    let host = pick(draw, &with_disk[usize::from(is_trimmed)..]);
                    if host == road.core {
                        // A shard that is away meanwhile, and wants what has rotted when it comes back.
                        let away = pick(draw, &with_disk[1..]);
                        let since = at.saturating_sub(draw.between(1, 600) * MS).max(MS);
                        faults.push((since, Fault::Kill(away, at - since + long)));
                    }
                    Fault::Rot(host, short)
                }
                _ => {
                    let mut names =
                        vec!["core.exchange", "core.requests", "core.broker", "core.shard-1"];
                    if let Some(second) = &road.second {
                        // A producer is not dialed. One that nobody has listed is unknown before it comes.
                        let is_played = road.world.hosts[second.host].address != address(1);
                        names.extend(is_played.then_some("core.two"));
                        names.extend(is_played.then_some("core.two.req"));
                    }
                    let name = names[draw.below(names.len() as u64) as usize];
                    let actions = [
                        BreakerAction::ForceOpen,
                        BreakerAction::Close,
                        BreakerAction::Reset,
                        BreakerAction::Disable,
                        BreakerAction::MetricsOnly,
                    ];
                    let action = actions[draw.below(5) as usize];
                    self.forced.push(name);
                    Fault::Operator(road.asker, name, action)
                }
            };
            faults.push((at, fault.clone()));
            if let Fault::PowerLoss(host, down) = fault
                && draw.below(3) == 0
            {
                // And again, soon after the start.
                let again = at + down + draw.between(1, 60) * MS;
                faults.push((again, Fault::PowerLoss(host, short)));
            }
        }
        faults.retain(|(at, _)| *at < self.calm_at_ns);
        self.faults = faults.len();
        self.epochs =
            faults.iter().filter_map(|(at, fault)| self.begins_epoch(*at, fault)).collect();
        for (at, fault) in faults {
            self.road.world.plan_fault(at, fault);
        }
    }

    /// When core is back behind this fault.
    fn begins_epoch(&self, at: u64, fault: &Fault) -> Option<u64> {
        match *fault {
            Fault::Kill(host, down) | Fault::PowerLoss(host, down) | Fault::Restart(host, down) => {
                (host == self.road.core).then_some(at + down)
            }
            _ => None,
        }
    }

    /// Single threads of the broker are slow: now and then, and often while core begins an epoch.
    fn slow_down_reactors(&mut self, draw: &mut Random) {
        let reactors = self.road.world.members(self.road.broker);
        if reactors.len() < 2 {
            return;
        }
        let mut times = Vec::new();
        if draw.below(2) == 0 {
            let last = self.calm_at_ns / MS;
            times.extend((0..draw.between(1, 8)).map(|_| draw.between(1, last) * MS));
        }
        if draw.below(3) == 0 {
            // An epoch that takes something back is rare, and means the most to them.
            let at = draw.between(1, self.calm_at_ns / MS) * MS;
            let down = draw.between(1, 100) * MS;
            self.road.world.plan_fault(at, Fault::PowerLoss(self.road.core, down));
            self.faults += 1;
            self.epochs.push(at + down);
        }
        for back in std::mem::take(&mut self.epochs) {
            if draw.below(3) > 0 {
                times.push(back.saturating_sub(draw.between(1, 40) * MS));
            }
        }
        for at in times.into_iter().filter(|at| *at < self.calm_at_ns) {
            let wait = draw.between(1, 400) * MS;
            let further = reactors[draw.between(1, reactors.len() as u64 - 1) as usize];
            let fault = match draw.below(5) {
                0 => Fault::FreezeThread(reactors[0], wait),
                1 | 2 => Fault::FreezeThread(further, wait),
                _ => Fault::FreezeMidTurn(further, wait),
            };
            self.road.world.plan_fault(at, fault);
            self.faults += 1;
        }
    }
}

fn chaos(draw: &mut Random, seed: u64) -> ChaosConfig {
    let text = match draw.below(4) {
        0 => format!("refuse=0.1,stall=0.05,stall-for=400ms,drop=0.004,lose=0.01,seed={seed}"),
        1 => format!("refuse=0.2,stall=0,garbage=0.003,lose=0.02,delay=3ms,seed={seed}"),
        _ => return ChaosConfig::OFF,
    };
    text.parse().unwrap()
}

/// What only a share of the days has: copies of every node that answers, logs that forget, and a longer
/// tape for those.
/// Somebody who speaks in a role that is not its own, for a part of the day.
fn rogue(road: &mut Road, draw: &mut Random, calm_at: Mono) {
    let shard = 9001 + u16::try_from(draw.below(SHARDS.into())).unwrap();
    let (voice, port) = match draw.below(8) {
        0 | 1 => (Voice::Feeder, shard),
        2 => (Voice::Publisher, 8081),
        3 => (Voice::Jumper, 8081),
        4 => (Voice::Follower, shard),
        5 => (Voice::Consumer, 8080),
        6 => (Voice::Reporter, 8082),
        _ => (Voice::Future(64), [shard, 8000][usize::try_from(draw.below(2)).unwrap()]),
    };
    let from = Mono(draw.between(0, calm_at.0 / 2));
    let until = Mono(draw.between(from.0, calm_at.0));
    let config = RogueConfig { voice, target: address(port), seed: draw.next_u64(), from, until };
    let at = if voice == Voice::Follower { port } else { 1 };
    road.world.add("rogue", address(at), Spec::Rogue(config));
}

fn extras(options: Options, draw: &mut Random) -> Options {
    let (has_copies, forgets) = (draw.below(3) == 0, draw.below(3) == 0);
    let mut removal = |segment_records: u64| {
        let segment_bytes = HEADER_BYTES as u64 + segment_records * 64;
        let bytes_max = Some(segment_bytes * draw.between(2, 5));
        let age_max = Some(Duration::from_millis(draw.between(20, 600)));
        let retention = match draw.below(3) {
            0 => Retention { bytes_max: None, age_max },
            1 => Retention { bytes_max, age_max },
            _ => Retention { bytes_max, age_max: None },
        };
        let is_on = forgets && draw.below(4) > 0;
        is_on.then_some(Removal { segment_records, retention })
    };
    Options {
        events: if forgets { options.events + 120 } else { options.events },
        has_copies,
        // The journal's statements have to fit into half a segment.
        core_removes: removal(64),
        shards_remove: [removal(8), removal(8), removal(8)],
        is_library: draw.below(2) == 0,
        ..options
    }
}

/// On half of the days there are two exchanges, and on half of these the second one is a producer.
fn second_exchange(options: Options, draw: &mut Random) -> Options {
    if draw.below(2) == 0 {
        return options;
    }
    Options { has_second: true, is_produced: draw.fork(1).below(2) == 0, ..options }
}

fn weather(draw: &mut Random) -> Weather {
    let mut often = |millionths: u32| if draw.below(3) == 0 { millionths } else { 0 };
    let (refused, lost, late) = (often(100_000), often(60_000), often(150_000));
    let (local, late_accept) = (often(60_000), often(200_000));
    let slow = often(1) == 1;
    let tight = often(1) == 1;
    Weather {
        pieces: draw.below(4) > 0,
        delay_grains_max: if slow { 2_000 } else { 25 },
        buffer_bytes: if tight { (64, 600) } else { (512, 16 * 1024) },
        refused,
        lost,
        late,
        local,
        late_accept,
        slow_disk: draw.below(2) == 0,
    }
}

/// Subscribers of every kind that there is.
fn subscribers(road: &mut Road, draw: &mut Random, calm_at_ns: u64, wish: Wish) -> Vec<usize> {
    let star = || vec![("*", 0)];
    let watch = || vec![("PETR4", 0), ("B*", Kind::Quote.mask()), ("WINZ26", Kind::Trade.mask())];
    let mut library = draw.fork(1);
    let stalls_from = Mono(draw.between(1, calm_at_ns));
    let stalled = if wish.no_stall { Habit::Good } else { Habit::Stalled(stalls_from) };
    let kinds = [
        ("slow", star(), Mode::Lossless, Habit::Slow, 1),
        ("stalled", star(), Mode::Lossless, stalled, 1),
        ("flapping", watch(), Mode::Lossless, Habit::Flapping, 1),
        ("latest", watch(), Mode::Latest, Habit::Slow, 0),
        ("stalled latest", star(), Mode::Latest, stalled, 0),
        ("conflating", star(), Mode::Conflate, Habit::Good, 0),
        ("slow conflating", watch(), Mode::Conflate, Habit::Slow, 0),
        ("flapping live", star(), Mode::Lossless, Habit::Flapping, 0),
    ];
    let mut hosts = Vec::new();
    for (name, patterns, mode, habit, from_seq) in kinds {
        let config = ClientConfig {
            mode,
            habit,
            conflate_ms: u32::try_from(draw.between(1, 120)).unwrap(),
            calm_at: Mono(calm_at_ns),
            seed: draw.next_u64(),
            ..ClientConfig::good(patterns, from_seq)
        };
        // Each day is without some of them; the stalled ones are looked at for themselves.
        if draw.below(3) > 0 || name.starts_with("stalled") {
            let is_library = library.below(2) == 0;
            let spec = if is_library { Spec::Library(config) } else { Spec::Client(config) };
            hosts.push(road.world.add(name, address(1), spec));
        }
    }
    hosts
}
