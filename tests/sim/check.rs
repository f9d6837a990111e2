//! What must hold in the end, when the faults are over: everybody has what the journal has, the
//! journal has what the tape has, and whatever somebody lacks was announced.

use std::collections::{BTreeMap, BTreeSet};

use pregao::feed::Pattern;
use pregao::market::partition::Partition;
use pregao::wire::{EndStatus, Ended, Flags, Frame, Kind, Mode, Op, Symbol};

use crate::hosts::AnyNode;
use crate::plan::Day;
use crate::road::{Road, SHARDS, SYMBOLS, plain, symbols};
use crate::world::World;

/// An invariant by its name, and how it does not hold.
pub(crate) type Violation = (&'static str, String);

fn hold(holds: bool, name: &'static str, text: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err((name, text())) }
}

/// Where two runs of frames part, in words.
fn difference(got: &[Frame], want: &[Frame]) -> String {
    let first = got.iter().zip(want).position(|(a, b)| a != b);
    let at = first.unwrap_or(got.len().min(want.len()));
    let around = |frames: &[Frame]| -> Vec<u64> {
        frames.iter().skip(at.saturating_sub(2)).take(6).map(|f| f.seq.get()).collect()
    };
    let (got_seqs, want_seqs) = (around(got), around(want));
    let (got, want) = (got.len(), want.len());
    format!("{got} frames, not {want}; they part at {at}: {got_seqs:?}, not {want_seqs:?}")
}

/// Everything.
pub(crate) fn check(day: &Day) -> Result<(), Violation> {
    let road = &day.road;
    let found = road.stored_on(road.core);
    let lost = &road.world.hosts[road.core].rotten;
    // What was journaled: what still stands there, and what has rotted.
    let mut journal = found.live;
    journal.extend(lost.values());
    journal.sort_by_key(|frame| frame.seq.get());
    check_journal(road, &journal)?;
    for (seq, (epoch, frame)) in &road.world.watch.published {
        if road.world.watch.is_void_since(*seq, *epoch, u32::MAX) {
            // And the frame that took its place came to nobody but by a snapshot.
            continue;
        }
        let at = usize::try_from(seq - 1).unwrap();
        let name = "published-is-journaled";
        hold(journal.get(at) == Some(frame), name, || format!("seq {seq} was {frame:?}"))?;
    }
    let partition = Partition::hash(SHARDS).unwrap();
    for shard in 0..SHARDS {
        let host = road.shards[usize::from(shard)];
        let rotten = &road.world.hosts[host].rotten;
        let mut owned = World::owned(&journal, &partition, shard);
        owned.retain(|frame| !rotten.contains_key(&frame.seq.get()));
        let found = road.stored_on(host);
        // Only what core has lost may be missing, and only if the shard knows that it is.
        let told: BTreeSet<u64> = found.holes.iter().flat_map(|&(from, to)| from..=to).collect();
        let invented = told.iter().find(|seq| !lost.contains_key(seq));
        hold(invented.is_none(), "announced-losses-are-the-rotten-frames", || {
            format!("shard {shard} says that {invented:?} is lost; core lost {:?}", lost.keys())
        })?;
        owned.retain(|frame| !told.contains(&frame.seq.get()));
        let mut held = found.live;
        // What rotted when it was void already may stand again under the same number.
        held.retain(|frame| !rotten.contains_key(&frame.seq.get()));
        hold(held == owned, "shards-hold-their-part", || {
            format!("shard {shard} holds {}", difference(&held, &owned))
        })?;
    }
    let names = symbols(&journal);
    for &host in &day.clients {
        check_client(road, host, &journal, &names)?;
    }
    Ok(())
}

/// The journal is contiguous, and holds exactly what is on the tape.
fn check_journal(road: &Road, journal: &[Frame]) -> Result<(), Violation> {
    let mut next = BTreeMap::new();
    for (seq, frame) in (1..).zip(journal) {
        let is_next = frame.seq.get() == seq;
        hold(is_next, "the-journal-is-contiguous", || format!("{frame:?} at {seq}"))?;
        if frame.kind == Kind::Definition as u8 {
            continue;
        }
        let next = next.entry((frame.instrument.get(), frame.kind)).or_insert(1);
        let is_next = frame.instrument_seq.get() == *next;
        hold(is_next, "instruments-count-their-frames", || format!("{frame:?}, not {next}"))?;
        *next += 1;
    }
    let is_sorted = journal.iter().map(|f| f.ts_recv.get()).is_sorted();
    hold(is_sorted, "receive-times-do-not-fall", || "they do".to_owned())?;
    let (ours, theirs) = (symbols(journal), symbols(road.schedule.frames()));
    let event = |symbols: &BTreeMap<u32, Symbol>, f: &Frame| {
        (symbols[&f.instrument.get()], f.kind, f.ts_event.get(), f.body)
    };
    let is_event =
        |f: &&Frame| f.kind != Kind::Definition as u8 && f.kind != Kind::BreakerChange as u8;
    let kept: Vec<_> = journal.iter().filter(is_event).map(|f| event(&ours, f)).collect();
    let tape = road.schedule.frames().iter().filter(is_event);
    let tape: Vec<_> = tape.map(|f| event(&theirs, f)).collect();
    let first = kept.iter().zip(&tape).position(|(a, b)| a != b);
    let same = (kept.len(), first) == (tape.len(), None);
    hold(same, "the-journal-is-the-tape", || {
        format!("{} events of {}, first difference {first:?}", kept.len(), tape.len())
    })
}

/// The events of a journal that a subscriber asked for.
fn wanted(
    patterns: &[(&str, u16)],
    journal: &[Frame],
    names: &BTreeMap<u32, Symbol>,
) -> Vec<Frame> {
    let patterns: Vec<Pattern> =
        patterns.iter().map(|&(text, kinds)| Pattern::new(text, kinds).unwrap()).collect();
    let wants_system = patterns.iter().any(|pattern| pattern.text().starts_with('$'));
    let is_wanted = |frame: &&Frame| {
        let symbol = names[&frame.instrument.get()];
        let bit = frame.kind().map_or(0, Kind::mask);
        frame.kind != Kind::Definition as u8
            && (wants_system || !symbol.as_str().starts_with('$'))
            && patterns.iter().any(|p| p.matches(&symbol) && p.kinds() & bit != 0)
    };
    journal.iter().filter(is_wanted).copied().collect()
}

fn check_client(
    road: &Road,
    host: usize,
    journal: &[Frame],
    names: &BTreeMap<u32, Symbol>,
) -> Result<(), Violation> {
    let client = road.world.client(host);
    let who = &road.world.hosts[host].name;
    let config = &client.config;
    let mut wanted = wanted(&config.patterns, journal, names);
    let is_event = |f: &&Frame| f.kind != Kind::Definition as u8;
    let got: Vec<Frame> = client.frames.iter().filter(is_event).map(plain).collect();
    let order = "each-subscriber-gets-its-frames-in-order";
    hold(client.disorder.is_none(), order, || format!("{who} got {:?}", client.disorder))?;
    let last_values: BTreeMap<(u32, u8), Frame> = wanted
        .iter()
        .filter(|f| matches!(f.kind(), Some(Kind::Quote | Kind::Trade)))
        .map(|f| ((f.instrument.get(), f.kind), *f))
        .collect();
    let Some(live_from) = client.live_from else {
        return Err(("every-subscriber-goes-live", format!("{who} never did")));
    };
    if config.from_seq == 0 {
        wanted.retain(|frame| frame.seq.get() >= live_from);
    }
    let have: BTreeSet<u64> = got.iter().map(|f| f.seq.get()).collect();
    let known: BTreeMap<u64, &Frame> = journal.iter().map(|f| (f.seq.get(), f)).collect();
    let invented = got.iter().find(|f| known.get(&f.seq.get()) != Some(f));
    hold(invented.is_none(), "no-frame-is-invented", || format!("{who} got {invented:?}"))?;
    let told = |seq: u64| client.lost.iter().any(|&(_, from, to)| (from..=to).contains(&seq));
    let unannounced = wanted.iter().find(|f| !have.contains(&f.seq.get()) && !told(f.seq.get()));
    hold(unannounced.is_none(), "every-loss-is-announced", || {
        let (lost, seq) = (&client.lost, client.follower.next_seq());
        format!("{who} (at {seq}) lacks {unannounced:?}; told of {lost:?}")
    })?;
    if config.mode == Mode::Lossless {
        // Nothing of the journal was removed here, so nothing may be lost but what has rotted.
        let lost = &road.world.hosts[road.core].rotten;
        let is_rot =
            client.lost.iter().all(|&(_, from, to)| lost.range(from..=to).next().is_some());
        wanted.retain(|f| have.contains(&f.seq.get()) || !lost.contains_key(&f.seq.get()));
        hold(is_rot, "lossless-loses-nothing", || format!("{who} lost {:?}", client.lost))?;
        let ours: Vec<Frame> = got
            .iter()
            .filter(|f| f.seq.get() >= live_from || config.from_seq > 0)
            .copied()
            .collect();
        hold(ours == wanted, "lossless-gets-exactly-its-frames", || {
            format!("{who} has {}", difference(&ours, &wanted))
        })?;
    }
    let snapshot: Vec<Frame> = client.snapshot.iter().map(plain).collect();
    for value in last_values.values() {
        let has_come = got.contains(value) || snapshot.contains(value);
        hold(
            has_come || config.from_seq > 0 && !wanted.contains(value) || told(value.seq.get()),
            "the-last-value-arrives",
            || format!("{who} lacks {value:?}"),
        )?;
    }
    Ok(())
}

/// What is wrong at once, whatever comes later.
pub(crate) fn check_now(day: &Day) {
    let world = &day.road.world;
    world.watch_overdue();
    for host in &world.hosts {
        match &host.node {
            Some(AnyNode::Reporter(reporter)) => {
                if let Some(text) = &reporter.complaint {
                    world.broken("answers-say-what-they-lack", text);
                }
            }
            Some(AnyNode::Client(client)) => {
                if let Some(text) = &client.disorder {
                    let text = format!("{} got {text}", host.name);
                    world.broken("each-subscriber-gets-its-frames-in-order", &text);
                }
            }
            _ => {}
        }
    }
}

/// A question through the aggregator is answered with what the journal has.
pub(crate) fn check_answers(day: &mut Day) -> Result<(), Violation> {
    let mut journal = day.road.stored(day.road.core);
    journal.extend(day.road.world.hosts[day.road.core].rotten.values());
    let names = symbols(&journal);
    let partition = Partition::hash(SHARDS).unwrap();
    for name in SYMBOLS.iter().take(3) {
        let symbol: Symbol = name.parse().unwrap();
        let owner = day.road.shards[usize::from(partition.owner(&symbol))];
        if !day.road.world.hosts[owner].rotten.is_empty() {
            continue;
        }
        let is_row = |f: &&Frame| {
            names[&f.instrument.get()] == symbol
                && matches!(f.kind(), Some(Kind::Trade | Kind::Cancel))
        };
        let mut rows: Vec<Frame> = journal.iter().filter(is_row).copied().collect();
        rows.sort_by_key(|f| (f.ts_event.get(), f.seq.get()));
        let asker = day.road.ask_aggregator(Road::query(Op::Range, name));
        let end = asker.messages::<Ended>().next().map(|end| end.status);
        let got: Vec<Frame> = asker
            .frames
            .iter()
            .filter(|f| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT))
            .map(plain)
            .collect();
        if rows.is_empty() {
            continue;
        }
        // All time is asked for, so any hole is touched.
        let is_whole = day.road.stored_on(owner).holes.is_empty();
        if !is_whole {
            let is_told = end != Some(EndStatus::Complete as u8);
            hold(
                is_told && got.iter().all(|row| rows.contains(row)),
                "answers-tell-holes",
                || format!("{name} ended {end:?} with {} rows of {}", got.len(), rows.len()),
            )?;
            continue;
        }
        let whole = end == Some(EndStatus::Complete as u8) && got == rows;
        hold(whole, "answers-are-the-journal", || {
            format!("{name} ended {end:?} with {}", difference(&got, &rows))
        })?;
    }
    Ok(())
}
