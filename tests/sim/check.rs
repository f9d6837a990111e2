//! What must hold in the end, when the faults are over: everybody has what the journal has, the
//! journal has what the tape has, and whatever somebody lacks was announced.

use std::collections::{BTreeMap, BTreeSet};

use pregao::feed::Pattern;
use pregao::market::partition::Partition;
use pregao::wire::{
    EndStatus, Ended, Flags, Frame, Gap, GapReason, Kind, Mode, NameParts, Names, Op, Query, Symbol,
};

use crate::asker::Asker;
use crate::delivered::Delivered;
use crate::hosts::AnyNode;
use crate::plan::Day;
use crate::road::{LONG, LONG_NAME, MS, Road, SECOND, SHARDS, SYMBOLS, names, plain, symbols};
use crate::stored::Stored;
use crate::world::World;

/// An invariant by its name, and how it does not hold.
pub(crate) type Violation = (&'static str, String);

pub(crate) fn hold(
    holds: bool,
    name: &'static str,
    text: impl FnOnce() -> String,
) -> Result<(), Violation> {
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

impl World {
    /// The frames that stand in the end, as they were published; the owner of each by its symbol.
    pub(crate) fn owned(frames: &[Frame], partition: &Partition, shard: u16) -> Vec<Frame> {
        let names = names(frames);
        let is_owned = |f: &&Frame| partition.owner_of(&names[&f.instrument.get()]) == shard;
        frames.iter().filter(is_owned).copied().collect()
    }
}

/// Everything.
pub(crate) fn check(day: &Day) -> Result<(), Violation> {
    let road = &day.road;
    let found = road.stored_on(road.core);
    check_removal(road, road.core, found.first_seq > 1)?;
    let first_seq = found.first_seq;
    let journal = whole(road, found);
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
        for host in road.copies_of(shard) {
            let owned = World::owned(&journal, &partition, shard);
            check_shard(road, host, owned, first_seq)?;
        }
    }
    let names = names(&journal);
    for &host in &day.clients {
        let told = Told { who: &road.world.hosts[host].name, client: road.world.client(host) };
        check_client(road, told, &journal, first_seq, &names, Lacks::Nothing)?;
    }
    crate::gateway::check(day, &journal, first_seq, &names)
}

/// The journal with what retention has removed from it, which core had published before.
fn whole(road: &Road, found: Stored) -> Vec<Frame> {
    let watch = &road.world.watch;
    let before = watch.published.range(..found.first_seq);
    let stands = before.filter(|(seq, (epoch, _))| !watch.is_void_since(**seq, *epoch, u32::MAX));
    let rotten = road.world.hosts[road.core].rotten.range(found.first_seq..);
    let stands = stands.map(|(_, (_, frame))| *frame).chain(rotten.map(|(_, frame)| *frame));
    let mut frames: Vec<Frame> = stands.chain(found.live).collect();
    frames.sort_by_key(|frame| frame.seq.get());
    frames
}

/// Only what was told to may remove anything, and by its bytes no more than it has to.
fn check_removal(road: &Road, host: usize, is_short: bool) -> Result<(), Violation> {
    let known = &road.world.hosts[host];
    let (Some(keeping), Some(disk)) = (known.spec.keeping(), &known.disk) else { return Ok(()) };
    let bytes: usize = disk.numbers().into_iter().map(|number| disk.bytes(number).len()).sum();
    let kept = bytes as u64 + keeping.segment_bytes();
    let bytes_max = keeping.retention.bytes_max.filter(|_| keeping.retention.age_max.is_none());
    let may_be = keeping.removes() && bytes_max.is_none_or(|bytes_max| kept >= bytes_max);
    hold(!is_short || may_be, "retention-removes-what-is-configured", || {
        format!("{} has {bytes} bytes left and keeps {:?}", known.name, keeping.retention)
    })
}

/// A shard holds its part of the journal: all of it, or what its own retention has left, or, on an empty
/// disk, what the journal still had.
fn check_shard(
    road: &Road,
    host: usize,
    mut owned: Vec<Frame>,
    first_seq: u64,
) -> Result<(), Violation> {
    let known = &road.world.hosts[host];
    let rotten = &known.rotten;
    owned.retain(|frame| !rotten.contains_key(&frame.seq.get()));
    let found = road.stored_on(host);
    // Only what core has lost may be missing, and only if the shard knows that it is.
    let lost = &road.world.hosts[road.core].rotten;
    let told: BTreeSet<u64> = found.holes.iter().flat_map(|&(from, to)| from..=to).collect();
    let invented = told.iter().find(|seq| !lost.contains_key(seq));
    hold(invented.is_none(), "announced-losses-are-the-rotten-frames", || {
        format!("{} says that {invented:?} is lost; core lost {:?}", known.name, lost.keys())
    })?;
    owned.retain(|frame| !told.contains(&frame.seq.get()));
    let mut held = found.live;
    // What rotted when it was void already may stand again under the same number.
    held.retain(|frame| !rotten.contains_key(&frame.seq.get()));
    // That it removes excuses what it had, not what is still on its way.
    let is_there = owned.last().is_none_or(|last| last.seq.get() < found.next_seq);
    let removes = is_there && known.spec.keeping().is_some_and(|keeping| keeping.removes());
    let short = owned.len().saturating_sub(held.len());
    let is_excused = |frame: &Frame| removes || known.is_replaced && frame.seq.get() < first_seq;
    let is_suffix = owned.ends_with(&held) && owned[..short].iter().all(is_excused);
    hold(is_suffix, "shards-hold-their-part", || {
        format!("{} holds {}", known.name, difference(&held, &owned))
    })?;
    check_removal(road, host, short > 0 && !known.is_replaced)
}

/// The journal is contiguous, and holds exactly what is on the tapes.
fn check_journal(road: &Road, journal: &[Frame]) -> Result<(), Violation> {
    let mut next = BTreeMap::new();
    for (seq, frame) in (1..).zip(journal) {
        let is_next = frame.seq.get() == seq;
        hold(is_next, "the-journal-is-contiguous", || format!("{frame:?} at {seq}"))?;
        if frame.is_naming() {
            continue;
        }
        let next = next.entry((frame.instrument.get(), frame.kind)).or_insert(1);
        let is_next = frame.instrument_seq.get() == *next;
        hold(is_next, "instruments-count-their-frames", || format!("{frame:?}, not {next}"))?;
        *next += 1;
    }
    let is_sorted = journal.iter().map(|f| f.ts_recv.get()).is_sorted();
    hold(is_sorted, "receive-times-do-not-fall", || "they do".to_owned())?;
    let difference = road.difference_from_tapes(journal);
    hold(difference.is_none(), "the-journal-is-the-tape", || difference.unwrap_or_default())
}

fn patterns_of(patterns: &[(&str, u16)]) -> Vec<Pattern> {
    patterns.iter().map(|&(text, kinds)| Pattern::new(text, kinds).unwrap()).collect()
}

/// The events of a journal that a subscriber asked for.
fn wanted(patterns: &[(&str, u16)], journal: &[Frame], names: &BTreeMap<u32, Names>) -> Vec<Frame> {
    let patterns = patterns_of(patterns);
    let wants_system = patterns.iter().any(|pattern| pattern.text().starts_with('$'));
    let is_wanted = |frame: &&Frame| {
        let names = names[&frame.instrument.get()];
        let bit = frame.kind().map_or(0, Kind::mask);
        !frame.is_naming()
            && (wants_system || !names.symbol().is_reserved())
            && patterns.iter().any(|p| p.means(&names) && p.kinds() & bit != 0)
    };
    journal.iter().filter(is_wanted).copied().collect()
}

/// Who was told what.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) who: &'a str,
    pub(crate) client: &'a Delivered,
}

/// What may be missing at who follows a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// Nothing beside what nobody has any more.
    Nothing,
    /// What the gateway did not have when it was wanted: a lossless one is told.
    Frames,
}

/// `lacks`: what may be missing, beside what nobody has any more.
pub(crate) fn check_client(
    road: &Road,
    Told { who, client }: Told<'_>,
    journal: &[Frame],
    first_seq: u64,
    names: &BTreeMap<u32, Names>,
    lacks: Lacks,
) -> Result<(), Violation> {
    let may_lose = lacks != Lacks::Nothing;
    let config = &client.config;
    let mut wanted = wanted(&config.patterns, journal, names);
    let is_event = |f: &&Frame| !f.is_naming();
    let got: Vec<Frame> = client.frames.iter().filter(is_event).map(plain).collect();
    let order = "each-subscriber-gets-its-frames-in-order";
    hold(client.disorder.is_none(), order, || format!("{who} got {:?}", client.disorder))?;
    let last_values: BTreeMap<(u32, u8), Frame> = wanted
        .iter()
        .filter(|f| matches!(f.kind(), Some(Kind::Quote | Kind::Trade)))
        .map(|f| ((f.instrument.get(), f.kind), *f))
        .collect();
    let name = "a-feed-that-is-back-is-current";
    let is_stale = client.is_stale || !client.stale_exchanges.is_empty();
    hold(!is_stale, name, || format!("{who} takes a feed for stale that is current"))?;
    hold(client.has_ended, "an-ended-feed-is-told", || format!("{who} waits for more"))?;
    hold(client.behind_end.is_none(), "nothing-comes-behind-the-end", || {
        format!("{who} got {:?}", client.behind_end)
    })?;
    let Some(live_from) = client.live_from else {
        return Err(("every-subscriber-goes-live", format!("{who} never did")));
    };
    if config.from_seq == 0 {
        wanted.retain(|frame| frame.seq.get() >= live_from);
    }
    // What rotted, or was lost on the way, is told; the days leave it at that.
    let told_all = client.lost.is_empty() && road.world.hosts[road.core].rotten.is_empty();
    if let Some((number, of)) = names.iter().find(|(_, it)| it.symbol().as_str() == LONG)
        && told_all
        && patterns_of(&config.patterns).iter().any(|pattern| pattern.means(of))
    {
        let mut known = NameParts::default();
        let all = client.snapshot.iter().chain(&client.frames);
        for frame in all.filter(|f| f.instrument.get() == *number) {
            known.note(&plain(frame));
        }
        let name = known.full_name(of.symbol()).map(|name| name.to_string());
        hold(name.as_deref() == Some(LONG_NAME), "a-full-name-arrives", || {
            format!("{who} knows {known:?}")
        })?;
    }
    let have: BTreeSet<u64> = got.iter().map(|f| f.seq.get()).collect();
    let known: BTreeMap<u64, &Frame> = journal.iter().map(|f| (f.seq.get(), f)).collect();
    let invented = got.iter().find(|f| known.get(&f.seq.get()) != Some(f));
    hold(invented.is_none(), "no-frame-is-invented", || format!("{who} got {invented:?}"))?;
    let told = |seq: u64| client.lost.iter().any(|&(_, from, to)| (from..=to).contains(&seq));
    let unannounced = wanted.iter().find(|f| !have.contains(&f.seq.get()) && !told(f.seq.get()));
    hold(unannounced.is_none(), "every-loss-is-announced", || {
        let (lost, seq) = (&client.lost, client.next_seq);
        format!("{who} (at {seq}) lacks {unannounced:?}; told of {lost:?}")
    })?;
    if config.mode == Mode::Lossless {
        // Only what the journal does not have any more may be lost, and what has rotted in it.
        let rotten = &road.world.hosts[road.core].rotten;
        let is_gone = |&(_, from_seq, to_seq): &(GapReason, u64, u64)| {
            from_seq < first_seq || rotten.range(from_seq..=to_seq).next().is_some() || may_lose
        };
        hold(client.lost.iter().all(is_gone), "lossless-loses-nothing", || {
            format!("{who} lost {:?}, the journal begins at {first_seq}", client.lost)
        })?;
        let is_there = |seq: u64| {
            let is_lost = told(seq) && may_lose;
            seq >= first_seq && !rotten.contains_key(&seq) && !is_lost
        };
        wanted.retain(|f| is_there(f.seq.get()) || have.contains(&f.seq.get()));
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
        // What rotted nobody can be given; who came later has no older value that would pass for current.
        let of_it = |f: &&Frame| (f.instrument, f.kind) == (value.instrument, value.kind);
        let is_rotten = road.world.hosts[road.core].rotten.contains_key(&value.seq.get())
            && (told(value.seq.get())
                || client.snapshot.iter().filter(of_it).all(|f| f.has(Flags::STALE)));
        // A lossless subscriber that is told of a loss is not given what stood in it.
        let is_reported = config.mode == Mode::Lossless && told(value.seq.get());
        hold(
            has_come || is_reported || is_rotten || config.from_seq > 0 && !wanted.contains(value),
            "the-last-value-arrives",
            || format!("{who} lacks {value:?}"),
        )?;
    }
    Ok(())
}

/// What is wrong at once, whatever comes later.
pub(crate) fn check_now(day: &Day) {
    let world = &day.road.world;
    crate::gateway::check_now(world);
    world.watch_overdue();
    for (number, host) in world.hosts.iter().enumerate() {
        if let Some(AnyNode::Reporter(reporter)) = &host.node
            && let Some(text) = &reporter.complaint
        {
            world.broken("answers-say-what-they-lack", text);
        }
        if let Some(AnyNode::Producer(producer)) = &host.node
            && let Some(text) = &producer.complaint
        {
            world.broken("what-a-producer-was-told-stands", text);
        }
        if let Some(text) = world.delivered(number).and_then(|it| it.disorder.as_ref()) {
            let text = format!("{} got {text}", host.name);
            world.broken("each-subscriber-gets-its-frames-in-order", &text);
        }
    }
}

/// The rows of an answer.
pub(crate) fn rows_of(asker: &Asker) -> Vec<Frame> {
    let is_row = |f: &&Frame| f.kind().is_some_and(Kind::is_data) && !f.has(Flags::SNAPSHOT);
    asker.frames.iter().filter(is_row).map(plain).collect()
}

/// Trades and cancellations among these frames of each instrument that a name means, as a range has them.
fn range_of(frames: &[Frame], names: &BTreeMap<u32, Symbol>, name: Symbol) -> Vec<Frame> {
    let there: Symbol = format!("{SECOND}:{name}").parse().unwrap();
    let range = |symbol: Symbol| {
        let is_row = |f: &&Frame| {
            names.get(&f.instrument.get()) == Some(&symbol)
                && matches!(f.kind(), Some(Kind::Trade | Kind::Cancel))
        };
        let mut rows: Vec<Frame> = frames.iter().filter(is_row).copied().collect();
        rows.sort_by_key(|f| (f.ts_event.get(), f.seq.get()));
        rows
    };
    [name, there].into_iter().flat_map(range).collect()
}

/// A question through the aggregator is answered with what the journal has, or what is left of it at one
/// of those who keep that part.
pub(crate) fn check_answers(day: &mut Day) -> Result<(), Violation> {
    let journal = whole(&day.road, day.road.stored_on(day.road.core));
    let names = symbols(&journal);
    let partition = Partition::hash(SHARDS).unwrap();
    for name in SYMBOLS.iter().take(3) {
        let symbol: Symbol = name.parse().unwrap();
        let hosts: Vec<usize> = day.road.copies_of(partition.owner(&symbol)).collect();
        if hosts.iter().any(|&host| !day.road.world.hosts[host].rotten.is_empty()) {
            continue;
        }
        let before = left_at(day, &hosts, &names, symbol);
        let asker = day.road.ask_aggregator(Road::query(Op::Range, name));
        let end = asker.messages::<Ended>().next().copied().unwrap_or_default();
        let got = rows_of(asker);
        // All time is asked for, so any hole is touched.
        let holed =
            hosts.iter().filter(|host| !day.road.stored_on(**host).holes.is_empty()).count();
        if holed > 0 {
            let rows = range_of(&journal, &names, symbol);
            let is_whole = end.status == EndStatus::Complete as u8;
            let is_right = match is_whole {
                true => holed < hosts.len() && got == rows,
                false => got.iter().all(|row| rows.contains(row)),
            };
            hold(is_right, "answers-tell-holes", || {
                format!("{name} ended {} with {} rows of {}", end.status, got.len(), rows.len())
            })?;
            continue;
        }
        let after = settled_at(day, &hosts, &names, symbol);
        let is_one = before.iter().zip(&after).any(|(was, is)| is_between(&got, was, is));
        let has_failed = end.status == EndStatus::Failed as u8;
        // Nobody knows anything of a symbol whose last row was removed.
        let whole = is_one && (!has_failed || got.is_empty());
        hold(whole && end.status != EndStatus::Partial as u8, "answers-are-the-journal", || {
            format!("{name} ended {} with {}", end.status, difference(&got, &after[0]))
        })?;
        if got.is_empty() {
            continue;
        }
        check_covered(name, &end, &got)?;
        check_cut(day, symbol, journal.len() as u64 / 2, &hosts, &names)?;
    }
    check_quotes(day)?;
    crate::gateway::check_answers(day)?;
    check_replay(day)
}

/// What is left of a symbol at each of those who keep its part.
fn left_at(
    day: &Day,
    hosts: &[usize],
    names: &BTreeMap<u32, Symbol>,
    symbol: Symbol,
) -> Vec<Vec<Frame>> {
    hosts.iter().map(|&host| range_of(&day.road.stored_on(host).live, names, symbol)).collect()
}

/// The same once what the nodes take for removed is removed.
fn settled_at(
    day: &Day,
    hosts: &[usize],
    names: &BTreeMap<u32, Symbol>,
    symbol: Symbol,
) -> Vec<Vec<Frame>> {
    let world = &day.road.world;
    let settled = |host: &usize| world.hosts[*host].read_settled(world.now());
    let stored = hosts.iter().map(|host| settled(host).expect("the log opens").live);
    stored.map(|live| range_of(&live, names, symbol)).collect()
}

/// Whether these rows are what was there at some moment between two looks: retention may have gone on.
fn is_between(got: &[Frame], before: &[Frame], after: &[Frame]) -> bool {
    let is_kept = |frame: &&Frame| got.contains(frame) || !before.contains(frame);
    let is_known = before.iter().filter(|frame| got.contains(frame)).eq(got);
    is_known && after.iter().all(|frame| is_kept(&frame))
}

/// Core and its copy answer with the same last values, whatever was removed meanwhile. A copy whose feed
/// vanished without a word is given the time to miss it.
fn check_quotes(day: &mut Day) -> Result<(), Violation> {
    let Some(copy) = day.road.core_copy_asker else { return Ok(()) };
    for name in SYMBOLS {
        let mut last = Vec::new();
        for _ in 0..60 {
            let query = Road::query(Op::Quote, name);
            let core = rows_of(day.road.world.ask(day.road.asker, query));
            let of_copy = rows_of(day.road.world.ask(copy, query));
            let is_same = core == of_copy;
            last = vec![core, of_copy];
            if is_same {
                break;
            }
            let now_ns = day.road.world.now_ns();
            day.road.world.run_until(now_ns + 1_000 * MS);
        }
        hold(last[0] == last[1], "copies-have-the-same-last-values", || {
            format!("{name}: core has {:?}, its copy {:?}", last[0], last[1])
        })?;
    }
    Ok(())
}

/// What an answer says that it covers is from its first row to its last.
fn check_covered(name: &str, end: &Ended, rows: &[Frame]) -> Result<(), Violation> {
    let times = || rows.iter().map(|frame| frame.ts_event.get());
    let has = (times().min().unwrap_or(0), times().max().map_or(0, |last| last + 1));
    let said = (end.covered_from.get(), end.covered_to.get());
    hold(said == has, "covered-is-what-is-there", || {
        format!("{name}: an answer says {said:?} and has {has:?}")
    })
}

/// Everybody who keeps a part, asked as of the same place, gives the same bytes: what was there before it.
fn check_cut(
    day: &mut Day,
    symbol: Symbol,
    cut: u64,
    hosts: &[usize],
    names: &BTreeMap<u32, Symbol>,
) -> Result<(), Violation> {
    let owner = usize::from(Partition::hash(SHARDS).unwrap().owner(&symbol));
    let askers = [day.road.shard_askers.get(owner), day.road.copy_askers.get(owner)];
    let askers: Vec<usize> = askers.into_iter().flatten().copied().collect();
    let cut_of = |mut rows: Vec<Frame>| {
        rows.retain(|f| f.seq.get() < cut);
        rows
    };
    for (&asker, &host) in askers.iter().zip(hosts) {
        let before = cut_of(left_at(day, &[host], names, symbol).concat());
        let query = Road::query(Op::Range, symbol.as_str());
        let asker = day.road.world.ask_as_of(asker, query, cut);
        let end = asker.messages::<Ended>().next().copied().unwrap_or_default();
        let got = rows_of(asker);
        let want = cut_of(settled_at(day, &[host], names, symbol).concat());
        let is_right = is_between(&got, &before, &want);
        let is_right = is_right && (end.as_of.get() == cut || got.is_empty());
        hold(is_right, "a-cut-is-the-same-everywhere", || {
            let (name, as_of) = (&day.road.world.hosts[host].name, end.as_of);
            let text = difference(&got, &want);
            format!("{name} was asked for {symbol} as of {cut}, says {as_of}, has {text}")
        })?;
    }
    Ok(())
}

/// A replay of everything is what the journal has, and says where that begins and what was removed under
/// its hands.
fn check_replay(day: &mut Day) -> Result<(), Violation> {
    let before = day.road.stored_on(day.road.core);
    let query = Query { limit: u32::MAX.into(), from: 1.into(), ..Road::query(Op::Replay, "*") };
    let asker = day.road.world.ask(day.road.asker, query);
    let end = asker.messages::<Ended>().next().copied().unwrap_or_default();
    let gaps: Vec<Gap> = asker.messages().copied().collect();
    let rows = rows_of(asker);
    let world = &day.road.world;
    let after = world.hosts[day.road.core].read_settled(world.now()).expect("the journal opens");
    let begins = end.covered_from.get();
    let is_right = (before.first_seq..=after.first_seq).contains(&begins);
    hold(is_right, "a-replay-says-where-the-journal-begins", || {
        format!("it says {begins}, the journal begins at {}", after.first_seq)
    })?;
    let told = |seq: u64| gaps.iter().any(|g| (g.from_seq.get()..=g.to_seq.get()).contains(&seq));
    let is_due = |f: &&Frame| {
        let seq = f.seq.get();
        let is_market = f.has_exchange();
        is_market && seq >= begins && seq < end.as_of.get() && !told(seq)
    };
    let got: Vec<Frame> = rows.iter().filter(is_due).copied().collect();
    let want: Vec<Frame> = before.live.iter().filter(is_due).copied().collect();
    hold(got == want, "a-replay-is-the-journal", || difference(&got, &want))
}

impl World {
    /// A violation: ends the run, and names what does not hold.
    pub(crate) fn broken(&self, invariant: &str, text: &str) -> ! {
        panic!("[{invariant}] at {} ns: {text}", self.now_ns());
    }

    pub(crate) fn hold(&self, holds: bool, invariant: &str, text: impl FnOnce() -> String) {
        if !holds {
            self.broken(invariant, &text());
        }
    }
}
