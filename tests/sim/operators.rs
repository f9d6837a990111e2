//! Operators who put directories back: rounds of "back up, run on, restore or lose one directory, start". Each ends
//! with one history, or is refused and then mended by what `pregao recover` and `pregao repartition` do, and never
//! ends with two histories that nobody was told of.

use std::collections::BTreeMap;

use pregao::log::inspect::{Item, Outline, Reader};
use pregao::log::memory::MemoryDisk;
use pregao::log::rebuild::{
    FeedPlace, FeedPlaces, PlanError, Relation, SplitSource, Standing, check_split, follow_journal,
    plan, plan_to_follow, plan_to_go_on, rebuild_journal, relation, split,
};
use pregao::log::{LogConfig, SyncPolicy};
use pregao::market::chaos::ChaosConfig;
use pregao::market::partition::Partition;
use pregao::node::shard::{ShardConfig, partition_line};
use pregao::random::Random;
use pregao::wire::{Frame, Kind, padded};

use crate::hosts::Spec;
use crate::road::{MS, Options, Road, SHARDS, names, symbols};
use crate::swarm::attempt;
use crate::world::{Event, World};

/// Rounds of a plain test run.
const ROUNDS: u64 = 40;
/// How long a start may take until everybody has been refused or fed.
const SETTLE_MS: u64 = 40_000;

/// What happens to one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// It is as it was at the backup.
    Restored,
    /// It is empty.
    Lost,
    /// Its last segments are missing.
    Cut(usize),
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    rounds: u64,
    went_on: u64,
    refused: u64,
    from_shards: u64,
    followed: u64,
    reset: u64,
}

/// All tests, by name.
pub(crate) const ALL: [(&str, fn()); 4] = [
    ("every_round_is_refused_or_recovered", every_round_is_refused_or_recovered),
    ("a_journal_without_its_end_is_refused", a_journal_without_its_end_is_refused),
    ("a_lost_journal_comes_back_from_the_shards", a_lost_journal_comes_back_from_the_shards),
    ("another_partition_is_refused_or_moved", another_partition_is_refused_or_moved),
];

/// The rounds of a plain run.
pub(crate) fn every_round_is_refused_or_recovered() {
    let tally = rounds(0, ROUNDS);
    // A run in which nothing of a kind happened shows nothing of it.
    for (what, count) in [
        ("a round that went on", tally.went_on),
        ("a refusal", tally.refused),
        ("a journal rebuilt from the shards", tally.from_shards),
        ("a journal that was followed", tally.followed),
    ] {
        assert!(count > 0, "{ROUNDS} rounds without {what}: {tally:?}");
    }
}

/// A long run: `cargo sim -- --rounds 1000`.
pub(crate) fn long_run(first: u64, count: u64) {
    println!("{:?}", rounds(first, count));
}

fn rounds(first: u64, count: u64) -> Tally {
    let mut tally = Tally::default();
    for seed in first..first + count {
        let mut done = tally;
        let ended = attempt(|| {
            round(seed, None, &mut done);
            done
        });
        match ended {
            Ok(done) => tally = done,
            Err(text) if text.starts_with('[') => {
                panic!("{text}; `cargo sim -- --rounds 1 --first {seed}`")
            }
            Err(text) => panic!("round {seed}: {text}"),
        }
    }
    tally
}

/// The last segments of core's journal are taken away: core must not start without them.
pub(crate) fn a_journal_without_its_end_is_refused() {
    for seed in 0..10 {
        round(seed, Some((None, Harm::Cut(2))), &mut Tally::default());
    }
}

/// Core's directory is lost, and the journal comes back from the shards, to the last frame.
pub(crate) fn a_lost_journal_comes_back_from_the_shards() {
    for seed in 0..6 {
        round(seed, Some((None, Harm::Lost)), &mut Tally::default());
    }
}

impl World {
    /// A host that is down gets another disk: an operator has put it there.
    pub(crate) fn restore_disk(&mut self, host: usize, disk: MemoryDisk) {
        self.log(host, "---- another disk");
        let known = &mut self.hosts[host];
        known.disk = Some(disk);
        known.rotten.clear();
        self.watch.forget(host);
    }
}

fn options(seed: u64) -> Options {
    Options {
        events: 300,
        pace_ns: 3 * MS,
        chaos: ChaosConfig::OFF,
        ring_frames: 1024,
        policy: Some(SyncPolicy::Batch),
        ..Options::new(seed)
    }
}

fn round(seed: u64, wish: Option<(Option<usize>, Harm)>, tally: &mut Tally) {
    let mut random = Random::new(seed ^ 0x0BAC_4B0B);
    let mut road = Road::new(&options(seed));
    let backup_ms = random.between(60, 500);
    road.run_until_ms(backup_ms);
    let keepers: Vec<usize> = [road.core].into_iter().chain(road.shards.clone()).collect();
    let copies: Vec<MemoryDisk> = keepers.iter().map(|host| disk(&road, *host).kill()).collect();
    let harm_ms = backup_ms + random.between(40, 400);
    road.run_until_ms(harm_ms);
    let (which, harm) = match wish {
        Some((which, harm)) => (which, harm),
        None => {
            let which = usize::try_from(random.below(6)).unwrap();
            // Core half of the time.
            let which = Some(which).filter(|which| *which < SHARDS.into());
            let harm = match random.below(4) {
                0 => Harm::Lost,
                1 => Harm::Cut(usize::try_from(random.between(1, 4)).unwrap()),
                _ => Harm::Restored,
            };
            (which, harm)
        }
    };
    let place = which.map_or(0, |shard| shard + 1);
    let host = keepers[place];
    road.world.trace(&format!("round {seed}: {harm:?} of {}", road.world.hosts[host].name));
    // The whole system stops, or one node alone.
    let ended: Vec<usize> = match random.below(3) {
        0 => vec![host],
        _ => keepers.iter().copied().chain([road.broker, road.aggregator]).collect(),
    };
    ended.iter().for_each(|host| road.world.end(*host, false));
    // What shards held before anything happened to a directory.
    let ledger: Vec<BTreeMap<u64, Frame>> =
        road.shards.clone().iter().map(|shard| by_seq(&road.stored(*shard))).collect();
    let harmed = match harm {
        Harm::Restored => copies[place].kill(),
        Harm::Lost => MemoryDisk::new(512),
        Harm::Cut(segments) => without_end(disk(&road, host), segments),
    };
    // Not asked of the log itself: a mistake there must not hide itself.
    let is_cut =
        matches!(harm, Harm::Cut(_)) && used(&harmed).len() < used(disk(&road, host)).len();
    road.world.restore_disk(host, harmed);
    let seen = delivered(&road);
    start(&mut road, &ended);
    let started_ms = harm_ms + 1;
    let is_cut_core = which.is_none() && is_cut;
    road.run_until_ms(started_ms + 3_000);
    if is_cut_core && road.world.hosts[host].node.is_some() {
        road.world.broken("a-missing-end-is-refused", "core has started without its last segments");
    }
    tally.rounds += 1;
    let is_told = road.world.hosts[host].node.is_none() || is_refused(&road);
    if !is_told {
        tally.went_on += 1;
        settle(&mut road, started_ms + 3_000);
        one_history(&road, seed, &seen);
        exactly_the_tape(&road);
        return;
    }
    tally.refused += 1;
    never_two_histories(&road, seed);
    let lost = recover(&mut road, &mut random, which, harm, &ledger, tally);
    let seen = delivered(&road);
    let now_ms = road.world.now_ns() / MS;
    settle(&mut road, now_ms);
    one_history(&road, seed, &seen);
    if lost == 0 {
        exactly_the_tape(&road);
    } else {
        nothing_twice(&road, lost);
    }
}

/// Stops everything, does what an operator would, and starts again. How many numbers the new journal has lost.
fn recover(
    road: &mut Road,
    random: &mut Random,
    which: Option<usize>,
    harm: Harm,
    ledger: &[BTreeMap<u64, Frame>],
    tally: &mut Tally,
) -> u64 {
    let mut lost = 0;
    let hosts: Vec<usize> =
        [road.core, road.broker, road.aggregator].into_iter().chain(road.shards.clone()).collect();
    hosts.iter().for_each(|host| road.world.end(*host, false));
    let standings: Vec<Standing> = road.shards.iter().map(|shard| standing(road, *shard)).collect();
    let journal = Some(standing(road, road.core)).filter(|it| !it.is_empty());
    if which.is_some() {
        // Something is wrong with one shard: core feeds it anew.
        for (shard, standing) in road.shards.clone().into_iter().zip(&standings) {
            let related = journal.as_ref().map(|journal| relation(journal, standing));
            if !matches!(related, Some(Relation::Empty | Relation::Continues)) {
                road.world.restore_disk(shard, MemoryDisk::new(512));
                tally.reset += 1;
            }
        }
    } else if harm != Harm::Lost
        && (random.below(3) == 0
            || plan(journal.as_ref(), &standings) == Err(PlanError::NothingToDo))
    {
        follow(road, journal.as_ref(), &standings);
        tally.followed += 1;
    } else if let Err(PlanError::TwoHistories { .. }) = plan(journal.as_ref(), &standings) {
        // Some shards have followed the restored journal, and others hold more of what was before it.
        match journal.as_ref().filter(|_| random.below(2) == 0) {
            Some(journal) => {
                follow(road, Some(journal), &standings);
                tally.followed += 1;
            }
            None => {
                let mut ledger = ledger.to_vec();
                for (number, shard) in road.shards.clone().into_iter().enumerate() {
                    let journal = journal.as_ref().unwrap();
                    if relation(journal, &standings[number]) == Relation::Continues {
                        road.world.restore_disk(shard, MemoryDisk::new(512));
                        ledger[number].clear();
                        tally.reset += 1;
                    }
                }
                let standings: Vec<Standing> =
                    road.shards.iter().map(|shard| standing(road, *shard)).collect();
                lost = from_shards(road, journal.as_ref(), standings, &ledger);
                tally.from_shards += 1;
            }
        }
    } else {
        lost = from_shards(road, journal.as_ref(), standings, ledger);
        tally.from_shards += 1;
    }
    start(road, &hosts);
    lost
}

/// `pregao recover --from-shards`.
fn from_shards(
    road: &mut Road,
    journal: Option<&Standing>,
    standings: Vec<Standing>,
    ledger: &[BTreeMap<u64, Frame>],
) -> u64 {
    let plan = match plan(journal, &standings) {
        Ok(mut plan) => {
            plan.journal_id = plan.journal_id.max(1);
            plan
        }
        Err(error) => road.world.broken("what-is-refused-can-be-mended", &error.to_string()),
    };
    let feed = match &road.world.hosts[road.exchange].node {
        Some(crate::hosts::AnyNode::External(exchange)) => exchange.feed_identity(),
        _ => panic!("the exchange never stops here"),
    };
    let core = disk(road, road.core).clone();
    let outline = outline(&core, "core");
    let shards = road.shards.clone().into_iter().zip(standings).map(|(shard, standing)| {
        let files = disk(road, shard).clone();
        let name = &road.world.hosts[shard].name;
        let reader = Reader::new(files.clone(), &crate::operators::outline(&files, name)).unwrap();
        (standing, reader)
    });
    let shards = shards.collect();
    let made = MemoryDisk::new(512);
    let config = keep(road, road.core);
    let (now, source) = (road.world.now(), Some((core, &outline)));
    let nameless = Some(FeedPlace { feed, next_seq: None });
    let feeds = FeedPlaces { nameless, ..FeedPlaces::default() };
    let ids = (&feeds, road.world.now_ns() | 1);
    let rebuilt = rebuild_journal(made.storage(), config, &plan, source, shards, ids, now);
    let rebuilt = match rebuilt {
        Ok(rebuilt) => rebuilt,
        Err(error) => road.world.broken("what-is-refused-can-be-mended", &error.to_string()),
    };
    road.world.restore_disk(road.core, made);
    let held = by_seq(&road.stored(road.core));
    // What no shard has is told as what has rotted in a journal is.
    let lost = (1..rebuilt.next_seq).filter(|seq| !held.contains_key(seq));
    let lost: Vec<u64> = lost.collect();
    assert_eq!(lost.len() as u64, rebuilt.lost);
    road.world.hosts[road.core].rotten.extend(lost.into_iter().map(|seq| (seq, Frame::ZERO)));
    for (shard, frames) in ledger.iter().enumerate() {
        let lost = frames.iter().find(|(seq, frame)| held.get(seq) != Some(frame));
        if let Some((seq, _)) = lost {
            let text =
                format!("shard {shard} held seq {seq}, and the new journal does not; {rebuilt:?}");
            road.world.broken("nothing-that-a-shard-holds-is-lost", &text);
        }
    }
    rebuilt.lost
}

/// `pregao recover --follow-journal`.
fn follow(road: &mut Road, journal: Option<&Standing>, standings: &[Standing]) {
    let Some(journal) = journal else { panic!("there is a journal") };
    let core = disk(road, road.core).clone();
    let outline = outline(&core, "core");
    let plan = match plan_to_follow(journal, standings) {
        Ok(plan) => plan,
        Err(PlanError::NothingToDo) if outline.end_missing().is_some() => plan_to_go_on(journal),
        Err(error) => road.world.broken("what-is-refused-can-be-mended", &error.to_string()),
    };
    let made = MemoryDisk::new(512);
    let (config, id) = (keep(road, road.core), road.world.now_ns() | 1);
    let now = road.world.now();
    let source = Some((core, &outline));
    if let Err(error) = follow_journal(made.storage(), config, &plan, source, id, now) {
        road.world.broken("what-is-refused-can-be-mended", &error.to_string());
    }
    road.world.restore_disk(road.core, made);
}

fn keep(road: &Road, host: usize) -> LogConfig {
    road.world.hosts[host].spec.log_config()
}

fn start(road: &mut Road, hosts: &[usize]) {
    if hosts.contains(&road.core) {
        // Core counts its epochs anew, and what it said before is void or stands: the checks in the end see.
        let last = road.world.tcps.last_key_value().map_or(0, |(number, _)| *number);
        road.world.watch.begin_anew(last);
    }
    let now_ns = road.world.now_ns();
    for host in hosts {
        road.world.plan(now_ns + MS, Event::Start(*host));
    }
}

/// Runs until every consumer has what the journal has.
fn settle(road: &mut Road, from_ms: u64) {
    for step in 1..=20 {
        road.run_until_ms(from_ms + SETTLE_MS * step / 20);
        let journal = road.stored(road.core);
        let last = journal.last().map_or(0, |frame| frame.seq.get());
        let events = road.schedule.frames().len() - road.schedule.definitions();
        let is_event =
            |f: &&Frame| matches!(f.kind().unwrap(), Kind::Quote | Kind::Trade | Kind::Cancel);
        let has_all = journal.iter().filter(is_event).count() >= events;
        let are_there = road.shards.iter().all(|shard| road.stored_on(*shard).next_seq > last);
        if has_all && are_there {
            return;
        }
    }
}

/// Whether core or a shard has said that they are not of one history.
fn is_refused(road: &Road) -> bool {
    let core = &road.world.hosts[road.core];
    let since = core.log.iter().rposition(|line| line.contains("---- start")).unwrap_or(0);
    core.log[since..].iter().any(|line| {
        line.contains("refused: ")
            && road.shards.iter().any(|shard| {
                line.contains(&format!("{} holds", road.world.hosts[*shard].name))
                    || line.contains(&format!("{} wants", road.world.hosts[*shard].name))
            })
    })
}

/// In the end every shard has its part of the journal, frame by frame, and what subscribers were sent since is what
/// the journal has.
fn one_history(road: &Road, seed: u64, seen: &[(usize, usize)]) {
    let journal = road.stored(road.core);
    let names = names(&journal);
    let partition = Partition::hash(SHARDS).unwrap();
    let last = journal.last().map_or(0, |frame| frame.seq.get());
    for (number, shard) in (0..).zip(&road.shards) {
        let is_owned = |f: &&Frame| {
            names.get(&f.instrument.get()).is_some_and(|names| partition.owner_of(names) == number)
        };
        let owned: Vec<Frame> = journal.iter().filter(is_owned).copied().collect();
        let found = road.stored_on(*shard);
        let first = found.live.iter().zip(&owned).position(|(a, b)| a != b);
        if found.live != owned {
            let text = format!(
                "round {seed}: shard {number} has {} frames up to {}, not {}; the journal ends at {last}; first \
                 difference {first:?}\n{}",
                found.live.len(),
                found.next_seq,
                owned.len(),
                road.world.describe()
            );
            road.world.broken("shards-hold-the-journal", &text);
        }
    }
    let by_seq = by_seq(&journal);
    for (host, before) in seen {
        let frames = &road.world.client(*host).frames;
        for frame in frames.iter().skip(*before) {
            let frame = crate::road::plain(frame);
            let known = by_seq.get(&frame.seq.get());
            if known.is_some_and(|known| *known != frame) {
                let text =
                    format!("round {seed}: {frame:?} was sent, and the journal has {known:?}");
                road.world.broken("what-was-sent-is-in-the-journal", &text);
            }
        }
    }
}

/// While it is refused, nobody has taken a frame over that the other one does not have.
fn never_two_histories(road: &Road, seed: u64) {
    if road.world.hosts[road.core].node.is_none() {
        return;
    }
    let journal = by_seq(&road.stored(road.core));
    let core = standing(road, road.core);
    for shard in &road.shards {
        let stands = standing(road, *shard);
        // Below the end of an epoch of the journal, whoever stands in it has what the journal has.
        let Some(end) = core.lineage.end_of(stands.epoch_id) else { continue };
        let is_below = |frame: &Frame| end.seq.is_none_or(|end| frame.seq.get() < end);
        for frame in road.stored(*shard).into_iter().filter(is_below) {
            let known = journal.get(&frame.seq.get());
            if known.is_some_and(|known| *known != frame) {
                let text = format!("round {seed}: seq {} is two frames", frame.seq);
                road.world.broken("never-two-histories", &text);
            }
        }
    }
}

/// Where nothing was given up, the journal is the tape.
fn exactly_the_tape(road: &Road) {
    let journal = road.stored(road.core);
    let told = road.world.describe();
    road.verify_journal(&journal, &told);
}

/// Where numbers were lost, the rest of the tape came in its order, and nothing came twice.
fn nothing_twice(road: &Road, lost: u64) {
    let journal = road.stored(road.core);
    let (ours, theirs) = (symbols(&journal), symbols(road.schedule.frames()));
    let is_event = |f: &&Frame| matches!(f.kind(), Some(Kind::Quote | Kind::Trade | Kind::Cancel));
    let event = |names: &BTreeMap<u32, pregao::wire::Symbol>, f: &Frame| {
        // The definition of one of them may be among what is lost.
        names.get(&f.instrument.get()).map(|name| (*name, f.kind, f.ts_event.get(), f.body))
    };
    let mut tape = road.schedule.frames().iter().filter(is_event).map(|f| event(&theirs, f));
    let mut skipped = 0;
    for frame in journal.iter().filter(is_event).filter_map(|f| event(&ours, f)) {
        let place = tape.position(|other| other == Some(frame));
        let Some(before) = place else {
            road.world
                .broken("no-frame-comes-twice", &format!("{frame:?} is out of the tape's order"));
        };
        skipped += before as u64;
    }
    if skipped + tape.count() as u64 > lost {
        road.world.broken(
            "only-what-is-told-is-lost",
            &format!("{skipped} events are not there, of {lost}"),
        );
    }
}

fn by_seq(frames: &[Frame]) -> BTreeMap<u64, Frame> {
    frames.iter().map(|frame| (frame.seq.get(), *frame)).collect()
}

/// How many frames each subscriber has.
fn delivered(road: &Road) -> Vec<(usize, usize)> {
    let clients = [road.all, road.one, road.system];
    clients.iter().map(|host| (*host, road.world.client(*host).frames.len())).collect()
}

fn disk(road: &Road, host: usize) -> &MemoryDisk {
    road.world.hosts[host].disk.as_ref().unwrap()
}

fn outline(disk: &MemoryDisk, name: &str) -> Outline {
    Outline::of(&mut disk.clone(), Some(padded(name))).unwrap()
}

fn standing(road: &Road, host: usize) -> Standing {
    let name = &road.world.hosts[host].name;
    Standing::of(name, &outline(disk(road, host), name))
}

/// The numbers of segments with a record.
fn used(disk: &MemoryDisk) -> Vec<u64> {
    let is_used = |number: &u64| {
        disk.bytes(*number)[pregao::log::HEADER_BYTES..].iter().any(|byte| *byte != 0)
    };
    disk.numbers().into_iter().filter(is_used).collect()
}

/// A copy without its last used segments, and what was prepared behind them.
fn without_end(disk: &MemoryDisk, segments: usize) -> MemoryDisk {
    let cut = disk.kill();
    let mut used = used(&cut);
    // One is left.
    used.truncate(used.len().saturating_sub(segments).max(1));
    let last = used.last().copied().unwrap_or(1);
    cut.numbers().into_iter().filter(|number| *number > last).for_each(|number| cut.take(number));
    cut
}

/// A shard that was configured with another partition does not start; moved by `pregao repartition`, all parts hold
/// what the old ones held, and core goes on feeding them.
pub(crate) fn another_partition_is_refused_or_moved() {
    for seed in 0..4 {
        let mut road = Road::new(&options(seed));
        road.run_until_ms(400);
        let hosts: Vec<usize> = [road.core].into_iter().chain(road.shards.clone()).collect();
        hosts.iter().for_each(|host| road.world.end(*host, false));
        let old: Vec<Frame> =
            road.shards.clone().iter().flat_map(|shard| road.stored(*shard)).collect();
        let new = Partition::hash(4).unwrap();
        for (number, shard) in (0..).zip(road.shards.clone()) {
            let Spec::Shard(config, keeping) = road.world.hosts[shard].spec.clone() else {
                panic!()
            };
            let config = ShardConfig { partition: new.clone(), shard: number, ..config };
            let spec = Spec::Shard(config, keeping);
            let copy = disk(&road, shard).kill();
            if spec.start(Some(&copy), road.world.now()).is_ok() {
                let text = format!("shard {number} has started with another partition");
                road.world.broken("another-partition-is-refused", &text);
            }
        }
        let sources = road.shards.iter().map(|shard| {
            let (name, files) = (&road.world.hosts[*shard].name, disk(&road, *shard).clone());
            SplitSource::new(name, files.clone(), &outline(&files, name)).unwrap()
        });
        let made: Vec<MemoryDisk> = (0..4).map(|_| MemoryDisk::new(512)).collect();
        let config = |number: usize| LogConfig {
            name: padded(&format!("shard-{number}")),
            ..keep(&road, road.shards[0])
        };
        let places = (0..4).zip(&made).map(|(number, disk)| {
            let line = partition_line(&new, u16::try_from(number).unwrap());
            (disk.storage(), config(number), line)
        });
        let done = split(sources.collect(), &new, places.collect(), road.world.now()).unwrap();
        let mut moved = Vec::new();
        for (number, disk) in made.iter().enumerate() {
            let name = format!("shard-{number}");
            let outline = outline(disk, &name);
            let reader = Reader::new(disk.clone(), &outline).unwrap();
            check_split(&done.parts[number], reader).unwrap();
            let journal = standing(&road, road.core);
            assert_eq!(relation(&journal, &Standing::of(&name, &outline)), Relation::Continues);
            let mut reader = Reader::new(disk.clone(), &outline).unwrap();
            while let Some(item) = reader.next_item().unwrap() {
                if let Item::Data(frame) = item {
                    moved.push(frame);
                }
            }
        }
        let (moved, old) = (by_seq(&moved), by_seq(&old));
        assert!(moved.iter().all(|(seq, frame)| old.get(seq) == Some(frame)));
        let kept = old.keys().filter(|seq| **seq < done.next_seq).count();
        assert_eq!((moved.len(), old.len() - kept), (kept, usize::try_from(done.beyond).unwrap()));
    }
}
