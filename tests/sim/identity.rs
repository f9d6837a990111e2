//! Days on which a directory is not the right one: restored from a copy that was taken at any time, clean or not;
//! lost; exchanged with another shard's; or of another journal. Each of them is refused by name, or continued, and
//! nobody ever has frames of two histories. Then the operator puts the right directory back, and everything converges.
//!
//! Not here: `pregao recover`, which makes the wrong directory the right one.

use std::collections::BTreeMap;

use pregao::log::memory::MemoryDisk;
use pregao::log::{Log, NewEpoch};
use pregao::random::Random;
use pregao::wire::{
    Definition, Frame, InstrumentId, InstrumentIndex, Kind, Op, Quote, Symbol, Text, Trade,
    unpadded,
};

use crate::check::check_now;
use crate::hosts::Spec;
use crate::plan::{Day, Wish};
use crate::road::{MS, Road, SHARDS, SYMBOLS, plain};
use crate::run::finish;
use crate::swarm::attempt;
use crate::watch::History;
use crate::world::{Event, World};

pub(crate) const ALL: [(&str, fn()); 1] =
    [("no_directory_that_is_not_the_right_one_makes_two_histories", many)];

/// Days of a plain test run.
const DAYS: u64 = 160;

/// What is done to a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// It goes back to an earlier copy of itself.
    Restored,
    /// It is gone.
    Lost,
    /// It is that of another journal, or of another system's shard.
    Foreign,
    /// Two shards have each other's.
    Exchanged,
}

/// What became of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Somebody was refused by name.
    Refused,
    /// Everybody went on.
    Continued,
}

fn many() {
    let mut seen: BTreeMap<(bool, Change, Outcome), u64> = BTreeMap::new();
    for seed in 0..DAYS {
        let kind = match attempt(|| day(seed, false)) {
            Ok(kind) => kind,
            Err(text) => panic!("{text}\n    cargo sim -- --identity --seed {seed} --log"),
        };
        *seen.entry(kind).or_default() += 1;
    }
    println!("{seen:?}");
    use Change::{Exchanged, Foreign, Lost, Restored};
    use Outcome::{Continued, Refused};
    // What never happens is not tested by these days.
    for kind in [
        (true, Restored, Refused),
        (true, Restored, Continued),
        (true, Lost, Refused),
        (true, Foreign, Refused),
        (false, Restored, Continued),
        (false, Lost, Continued),
        (false, Foreign, Refused),
        (false, Exchanged, Refused),
    ] {
        assert!(seen.contains_key(&kind), "{DAYS} days without {kind:?}");
    }
    assert!(!seen.contains_key(&(true, Lost, Continued)));
}

/// One day. Panics when an invariant does not hold.
pub(crate) fn run(seed: u64) {
    let _ = day(seed, false);
}

/// The same, and what became of it.
pub(crate) fn tell(seed: u64, is_traced: bool) -> String {
    format!("{:?}", day(seed, is_traced))
}

fn day(seed: u64, is_traced: bool) -> (bool, Change, Outcome) {
    let mut draw = Random::new(seed).fork(0x1D);
    let wish = Wish {
        no_faults: true,
        no_removal: true,
        directories_change: true,
        is_traced,
        ..Wish::default()
    };
    let mut day = Day::new(seed, wish);
    let road = &day.road;
    let shards: Vec<usize> = road.shards.iter().chain(&road.copies).copied().collect();
    let is_core = draw.below(3) > 0;
    let victim = match is_core {
        true => road.core,
        false => shards[draw.below(shards.len() as u64) as usize],
    };
    let change = match draw.below(if is_core { 5 } else { 6 }) {
        0..=2 => Change::Restored,
        3 => Change::Lost,
        4 => Change::Foreign,
        _ => Change::Exchanged,
    };
    let last_ms = day.calm_at_ns / MS;
    let copy_ms = draw.between(1, last_ms * 2 / 3);
    let change_ms = draw.between(copy_ms + 60, last_ms + 100);
    pass(&mut day, copy_ms * MS);
    let copied_clean = draw.below(2) == 0;
    if copied_clean {
        day.road.world.stop(victim);
    }
    let copy = disk_of(&day, victim).kill();
    if copied_clean {
        let now_ns = day.road.world.now_ns();
        day.road.world.plan(now_ns + 20 * MS, Event::Start(victim));
    }
    pass(&mut day, change_ms * MS);
    let promised = promised(&day, &shards, victim);
    // With what a loss of power takes: the broker has it, until the right journal is back and takes it back.
    let right_frames = frames_on(&day, victim, &disk_of(&day, victim));
    match draw.below(3) {
        0 => day.road.world.stop(victim),
        1 => day.road.world.end(victim, false),
        _ => day.road.world.end(victim, true),
    }
    let other = shards[usize::from(shards[0] == victim)];
    let wrong = match change {
        Change::Restored => copy,
        Change::Lost => MemoryDisk::new(4096),
        Change::Foreign => foreign(&day, victim, draw.next_u64()),
        Change::Exchanged => {
            day.road.world.end(other, false);
            disk_of(&day, other).kill()
        }
    };
    // What it had sent is still under way.
    let now_ns = day.road.world.now_ns();
    pass(&mut day, now_ns + 300 * MS);
    let set_aside: Vec<MemoryDisk> = shards.iter().map(|&it| disk_of(&day, it).kill()).collect();
    // The day goes on with the wrong one.
    let right = exchange_disk(&mut day.road.world, victim, wrong);
    let mut history = History::default();
    let world = &mut day.road.world;
    if is_core {
        history = world.watch.change_journal(history);
    } else {
        world.watch.forget(victim);
        if change == Change::Lost {
            world.hosts[victim].is_replaced = true;
        }
        if change == Change::Exchanged {
            let of_other = exchange_disk(world, other, right.kill());
            drop(of_other);
        }
    }
    let now_ns = world.now_ns();
    for host in [victim, other] {
        world.plan(now_ns + 10 * MS, Event::Start(host));
    }
    // Long enough for a follower that was refused to be asked again.
    let until_ns = now_ns + draw.between(3_000, 26_000) * MS;
    while day.road.world.now_ns() < until_ns {
        let next_ns = (day.road.world.now_ns() + 700 * MS).min(until_ns);
        pass(&mut day, next_ns);
        if is_core {
            one_history(&day, &right_frames);
        }
    }
    let refused = refused(&mut day, &shards);
    if is_core {
        of_core(&mut day, &shards, &promised, &right_frames, &refused);
    }
    let outcome = if refused.is_empty() { Outcome::Continued } else { Outcome::Refused };
    // The operator puts the right one back where somebody was refused. Where nobody was, it is the right one.
    let must_be_put_back = match is_core {
        true => outcome == Outcome::Refused,
        false => matches!(change, Change::Foreign | Change::Exchanged),
    };
    if must_be_put_back {
        day.road.world.end(victim, false);
        if change == Change::Exchanged {
            day.road.world.end(other, false);
            let of_other = disk_of(&day, victim).kill();
            exchange_disk(&mut day.road.world, other, of_other);
        }
        exchange_disk(&mut day.road.world, victim, right);
        let world = &mut day.road.world;
        world.watch.forget(victim);
        if is_core {
            world.watch.change_journal(history);
            // Shards that had nothing beyond the wrong journal have followed it.
            for (&shard, disk) in shards.iter().zip(set_aside) {
                if !refused.contains(&world.hosts[shard].name) {
                    world.end(shard, false);
                    exchange_disk(world, shard, disk);
                    world.watch.forget(shard);
                }
            }
            // They keep nothing on disk, and may have followed the wrong journal.
            let volatile = [Some(day.road.broker), day.road.core_copy];
            for host in volatile.into_iter().flatten() {
                world.end(host, false);
            }
        }
    }
    finish(&mut day);
    (is_core, change, outcome)
}

fn pass(day: &mut Day, until_ns: u64) {
    day.road.world.run_until(until_ns);
    check_now(day);
}

fn disk_of(day: &Day, host: usize) -> MemoryDisk {
    day.road.world.hosts[host].disk.clone().expect("a host with a disk")
}

/// A host that is down gets another disk; the one that it had.
fn exchange_disk(world: &mut World, host: usize, disk: MemoryDisk) -> MemoryDisk {
    world.log(host, "---- another disk");
    world.hosts[host].disk.replace(disk).expect("a host with a disk")
}

/// The live frames of this host's kind of log on a disk, by `seq`.
fn frames_on(day: &Day, host: usize, disk: &MemoryDisk) -> BTreeMap<u64, Frame> {
    let world = &day.road.world;
    let found = world.hosts[host].read_disk(disk, world.now());
    let live = found.map_or_else(Vec::new, |found| found.live);
    live.iter().map(|frame| (frame.seq.get(), plain(frame))).collect()
}

/// What each shard holds durably now.
fn promised(day: &Day, shards: &[usize], victim: usize) -> Vec<(usize, Vec<Frame>)> {
    let held = shards.iter().filter(|shard| **shard != victim).map(|&shard| {
        let durable = day.road.world.watch.durable_of(shard);
        let mut frames = day.road.stored(shard);
        frames.retain(|frame| frame.seq.get() < durable);
        (shard, frames)
    });
    held.collect()
}

/// The disk of a node like this one in another system: other frames under the same numbers.
fn foreign(day: &Day, host: usize, id: u64) -> MemoryDisk {
    let world = &day.road.world;
    let (spec, now) = (&world.hosts[host].spec, world.now());
    let disk = MemoryDisk::new(4096);
    let config = spec.log_config();
    let is_core = matches!(spec, Spec::Core(..));
    let journal_id = if is_core { id | 1 } else { 0 };
    let (mut log, _) = Log::open_journal(disk.storage(), config, journal_id, now).unwrap();
    if is_core {
        log.begin_epoch(NewEpoch::of(id | 1), now).unwrap();
    } else {
        log.follow_epoch((1, id | 1), 1, now).unwrap();
    }
    let instrument = InstrumentId::new(1, InstrumentIndex::FIRST);
    let symbol: Symbol = SYMBOLS[usize::try_from(id % 6).unwrap()].parse().unwrap();
    for seq in 1..=40 + id % 200 {
        let (of, at) = (instrument.into(), (id % 1_000_000 + seq).into());
        let frame = match seq {
            1 => Frame::seal(Definition {
                seq: seq.into(),
                ..Definition::new(instrument, symbol, 2)
            }),
            _ if seq % 3 == 0 => Frame::seal(Quote {
                seq: seq.into(),
                instrument: of,
                ts_event: at,
                ts_recv: at,
                ..Quote::default()
            }),
            _ => Frame::seal(Trade {
                seq: seq.into(),
                instrument: of,
                ts_event: at,
                ts_recv: at,
                ..Trade::default()
            }),
        };
        while log.append(&frame).is_err() {
            log.commit(now);
            log.handle_completions(now);
        }
    }
    log.commit(now);
    log.close(now).unwrap();
    disk
}

/// Whether all of these frames are of this journal.
fn is_part(frames: &[Frame], journal: &BTreeMap<u64, Frame>) -> bool {
    frames.iter().all(|frame| journal.get(&frame.seq.get()) == Some(&plain(frame)))
}

/// Nobody has frames of both journals: each is with the one, or with the other.
fn one_history(day: &Day, right: &BTreeMap<u64, Frame>) {
    let world = &day.road.world;
    let wrong = frames_on(day, day.road.core, &disk_of(day, day.road.core));
    let hold = |name: &str, frames: &[Frame]| {
        let is_one = is_part(frames, right) || is_part(frames, &wrong);
        world.hold(is_one, "nobody-has-two-histories", || {
            let of = |journal: &BTreeMap<u64, Frame>| {
                frames.iter().find(|f| journal.get(&f.seq.get()) != Some(&plain(f))).copied()
            };
            format!("{name} has {:?} and {:?}", of(right), of(&wrong))
        });
    };
    for shard in 0..SHARDS {
        for host in day.road.copies_of(shard) {
            hold(&world.hosts[host].name, &day.road.stored(host));
        }
    }
    for &host in &day.clients {
        let client = world.client(host);
        let market = client.frames.iter().filter(|f| !f.is_naming());
        hold(&world.hosts[host].name, &market.copied().collect::<Vec<_>>());
    }
}

/// Whom core refuses by name, and who cannot start.
fn refused(day: &mut Day, shards: &[usize]) -> Vec<String> {
    let down = |host: &usize| day.road.world.hosts[*host].node.is_none();
    let cannot = shards.iter().chain([&day.road.core]).filter(|host| down(host));
    let mut names: Vec<String> =
        cannot.map(|host| day.road.world.hosts[*host].name.clone()).collect();
    if day.road.world.hosts[day.road.core].node.is_some() {
        let asker = day.road.asker;
        let said = day.road.world.ask(asker, Road::query(Op::Status, ""));
        let texts: Vec<Text> = said.messages().copied().collect();
        names.extend(texts.iter().filter_map(|text| {
            let is_refusal = unpadded(&text.text).starts_with("refused");
            let name = unpadded(&text.name);
            is_refusal.then(|| name.strip_suffix(".feed").unwrap_or(&name).to_owned())
        }));
    }
    names
}

/// What must hold when core has had a wrong journal for a while.
fn of_core(
    day: &mut Day,
    shards: &[usize],
    promised: &[(usize, Vec<Frame>)],
    right: &BTreeMap<u64, Frame>,
    refused: &[String],
) {
    let wrong = frames_on(day, day.road.core, &disk_of(day, day.road.core));
    for (shard, frames) in promised {
        let held = day.road.stored(*shard);
        let lost = frames.iter().find(|frame| !held.contains(frame));
        day.road.world.hold(lost.is_none(), "nothing-is-void-because-core-lost-it", || {
            format!("{} has lost {lost:?}", day.road.world.hosts[*shard].name)
        });
    }
    for &shard in shards {
        let held = day.road.stored(shard);
        let name = day.road.world.hosts[shard].name.clone();
        let is_named = refused.contains(&name) || is_part(&held, &wrong);
        day.road.world.hold(is_named, "another-history-is-refused-by-name", || {
            format!("{name} holds what the journal has not, and core names only {refused:?}")
        });
    }
    // Answers too are of one history each.
    for (number, &asker) in day.road.shard_askers.clone().iter().enumerate() {
        for symbol in SYMBOLS {
            let owner = pregao::market::partition::Partition::hash(SHARDS).unwrap();
            if usize::from(owner.owner(&symbol.parse().unwrap())) != number {
                continue;
            }
            let said = day.road.world.ask(asker, Road::query(Op::Range, symbol));
            let is_row = |f: &&Frame| matches!(f.kind(), Some(Kind::Trade | Kind::Cancel));
            let rows: Vec<Frame> = said.frames.iter().filter(is_row).copied().collect();
            let is_one = is_part(&rows, right) || is_part(&rows, &wrong);
            day.road.world.hold(is_one, "an-answer-is-of-one-history", || format!("{rows:?}"));
        }
    }
}
