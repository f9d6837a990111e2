//! The scenarios of `compare` about what those who can wait cost the ticks, through real sockets and processes:
//! `joins` (long lists are subscribed to at the broker) and `replays` (core's journal is read).
//!
//! # Decisions
//!
//! * A tick counts from the moment at which it was to be sent, whatever held it up.
//! * Everything shares the same few processors, so a figure contains what the crowd's own client takes from them. Three
//!   things are measured in turns, to tell apart what is whose: the system idle; the crowd at the measured node; and
//!   the same crowd at a second node like it, which no tick passes. The last one has all the work and none of it in
//!   the tick's way.
//! * In `joins` both brokers have one processor and the generator the others: the broker is busy then, and a generator
//!   that waits behind it would send late. In `replays` two nodes are in the tick's way, and on one processor the
//!   busy one would keep the other from running. There nobody has a place.
//! * The crowd's thread has a low priority: elsewhere it would take nothing from the ticks.

mod core;
mod crowd;
mod found;
mod processors;
mod ticks;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pregao::node::sequencer::MARKET_SOURCE;
use pregao::time::{Mono, nanos};

use crate::compare::Comparison;
use crate::connect::raise_descriptor_limit;
use crate::limits;
use crate::options::Format;
use crate::peers::PeerBroker;
use crate::process;
use crate::target::Target;
use crate::timebase::Timebase;

use self::core::Core;
use crowd::{Crowd, Work};
use found::Found;
use processors::Processors;
use ticks::Ticks;
use watch::{Seen, Watch};

/// Long lists join while ticks go through the broker.
pub(crate) fn joins(to: &mut Comparison<'_>) -> Result<(), String> {
    let instruments = limits::INSTRUMENTS_MAX;
    let work = Work::Join { patterns: pregao::limits::PATTERNS_MAX, instruments };
    let load = Load { work, count: limits::JOINS };
    let processors = Processors::apart();
    let result = run(to, "joins", &[load], |to, timebase| {
        let start = || {
            PeerBroker::start(Target::Pregao, to.flags.host, limits::JOINS, &to.ours)
                .map_err(|error| error.to_string())
        };
        processors.inspect(|them| them.start_nodes());
        let (broker, other) = (start()?, start()?);
        processors.inspect(|them| them.start_load());
        let rate = to.flags.rate.unwrap_or(limits::TICKS_RATE);
        let ticks = Ticks::to_broker(broker.address(), instruments, rate, timebase)?;
        let others = Ticks::to_broker(other.address(), instruments, 1, timebase)?;
        Ok(System {
            watch: Watch::start(broker.address(), ticks::SOURCE, timebase)?,
            crowd_at: [broker.address(), other.address()],
            pids: vec![("broker", broker.pid())],
            ticks,
            others,
            _cores: Vec::new(),
            _brokers: vec![broker, other],
        })
    });
    processors.inspect(|them| them.start_anything());
    result
}

/// Replays are read from core while ticks go through it and the broker.
pub(crate) fn replays(to: &mut Comparison<'_>) -> Result<(), String> {
    let frames = limits::JOURNAL_FRAMES;
    let load = |count| Load { work: Work::Replay { frames }, count };
    run(to, "replays", &limits::REPLAY_READERS.map(load), |to, timebase| {
        let broker = PeerBroker::start(Target::Pregao, to.flags.host, 1, &to.ours)
            .map_err(|error| error.to_string())?;
        let rate = to.flags.rate.unwrap_or(limits::TICKS_RATE);
        // One after the other: whoever waits for its exchange hangs up after a second.
        let core = Core::start(&to.ours.program, to.flags.host, Some(broker.address()))?;
        let ticks = Ticks::to_core(&core.exchange, frames, rate, timebase)?;
        let other = Core::start(&to.ours.program, to.flags.host, None)?;
        let others = Ticks::to_core(&other.exchange, frames, 1, timebase)?;
        core.await_journal(frames, timebase)?;
        other.await_journal(frames, timebase)?;
        Ok(System {
            watch: Watch::start(broker.address(), MARKET_SOURCE, timebase)?,
            crowd_at: [core.address, other.address],
            pids: vec![("core", core.pid()), ("broker", broker.pid())],
            ticks,
            others,
            _cores: vec![core, other],
            _brokers: vec![broker],
        })
    })
}

/// What a crowd does, and how many it are.
#[derive(Clone, Copy, Debug)]
struct Load {
    work: Work,
    count: usize,
}

/// All that runs. The threads end before the processes.
struct System {
    watch: Watch,
    ticks: Ticks,
    others: Ticks,
    /// Where the crowd goes: the measured node, and the second one.
    crowd_at: [SocketAddr; 2],
    /// The processes in the tick's way.
    pids: Vec<(&'static str, u32)>,
    _cores: Vec<Core>,
    _brokers: Vec<PeerBroker>,
}

/// One phase: its bounds as stamps, and what was spent in it.
#[derive(Clone, Debug, Default)]
struct Phase {
    from: u64,
    to: u64,
    /// Percent of one processor, by who took it.
    busy: Vec<(&'static str, f64)>,
    /// Frames that the crowd read.
    crowd_frames: u64,
}

/// One round: idle, the crowd at the measured node, the crowd at the second one.
type Round = [Phase; 3];

fn run(
    to: &mut Comparison<'_>,
    scenario: &'static str,
    loads: &[Load],
    start: impl Fn(&Comparison<'_>, Timebase) -> Result<System, String>,
) -> Result<(), String> {
    raise_descriptor_limit(loads.iter().map(|load| load.count).max().unwrap_or(0))?;
    let timebase = Timebase::start();
    let system = match start(to, timebase) {
        Ok(system) => system,
        Err(why) => {
            eprintln!("loadgen: {scenario}: {why}");
            return Ok(());
        }
    };
    let span = to.flags.duration.max(limits::PHASE_MIN);
    let mut measured: Vec<Vec<Round>> = loads.iter().map(|_| Vec::new()).collect();
    for round in 1..=to.repeats(limits::ROUNDS) {
        for (load, rounds) in loads.iter().zip(&mut measured) {
            let idle = system.idle(timebase, span);
            let with = system.crowded(timebase, load, 0, span)?;
            let beside = system.crowded(timebase, load, 1, span)?;
            rounds.push([idle, with, beside]);
            eprintln!("loadgen: {scenario}, {} of them: round {round} is measured", load.count);
        }
    }
    let seen = system.finish()?;
    for (load, rounds) in loads.iter().zip(&measured) {
        let found = Found::of(scenario, *load, rounds, &seen);
        let text = match to.flags.format {
            Format::Json => found.json().to_string(),
            Format::Table => found.text(),
        };
        to.show_text(&text, found.is_valid())?;
    }
    Ok(())
}

impl System {
    /// Nobody but the measured subscriber.
    fn idle(&self, timebase: Timebase, span: Duration) -> Phase {
        rest(timebase, limits::PHASE_REST);
        let books = self.books(None);
        let from = timebase.mono();
        rest(timebase, span);
        self.phase(timebase, from, &books, &self.books(None), 0)
    }

    /// A crowd at one of the two nodes: until all have joined, or for the span once all read their replays.
    fn crowded(
        &self,
        timebase: Timebase,
        load: &Load,
        node: usize,
        span: Duration,
    ) -> Result<Phase, String> {
        rest(timebase, limits::PHASE_REST);
        let mut crowd = Crowd::start(self.crowd_at[node], load.count, load.work)?;
        let (mut from, deadline) = (timebase.mono(), timebase.mono() + limits::CONNECT_ALL_MAX);
        let mut books = self.books(Some(&crowd));
        crowd.begin();
        while !crowd.are_served(load.count)? {
            if timebase.mono() > deadline {
                return Err(format!("{} were not served in time", load.count));
            }
            rest(timebase, Duration::from_millis(1));
        }
        let mut frames = 0;
        if matches!(load.work, Work::Replay { .. }) {
            (from, books, frames) = (timebase.mono(), self.books(Some(&crowd)), crowd.frames());
            rest(timebase, span);
        }
        let (end, read) = (self.books(Some(&crowd)), crowd.frames() - frames);
        let phase = self.phase(timebase, from, &books, &end, read);
        crowd.finish()?;
        Ok(phase)
    }

    /// What everybody has spent so far. Of the generator's own threads also the time in which they waited to run.
    fn books(&self, crowd: Option<&Crowd>) -> Vec<(&'static str, u64)> {
        let of_nodes = self.pids.iter().map(|(name, pid)| (*name, process::read(*pid).cpu_ns));
        let threads = [
            ("ticks", busy_ns(&self.ticks.books)),
            ("subscriber", busy_ns(&self.watch.books)),
            ("crowd", crowd.and_then(|crowd| running_ns(&crowd.books))),
        ];
        let all = of_nodes.chain(threads);
        all.map(|(name, spent)| (name, spent.unwrap_or_default())).collect()
    }

    fn phase(
        &self,
        timebase: Timebase,
        from: Mono,
        before: &[(&'static str, u64)],
        after: &[(&'static str, u64)],
        crowd_frames: u64,
    ) -> Phase {
        let to = timebase.mono();
        let span_ns = nanos(to.since(from));
        let shares = before.iter().zip(after).map(|((name, before), (_, after))| {
            (*name, share(after.saturating_sub(*before), span_ns))
        });
        let busy = shares.collect();
        Phase { from: timebase.stamp(from), to: timebase.stamp(to), busy, crowd_frames }
    }

    fn finish(self) -> Result<Seen, String> {
        // The processes live until the last line: what ends with them would be a failure of a thread.
        let System { watch, ticks, others, _cores, _brokers, .. } = self;
        let seen = watch.finish()?;
        ticks.finish()?;
        others.finish()?;
        Ok(seen)
    }
}

/// Lets so much time pass.
fn rest(timebase: Timebase, span: Duration) {
    let until = timebase.mono() + span;
    // A wait may end early without a reason.
    while let left = until.since(timebase.mono())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}

/// Time in which a thread ran.
fn running_ns(books: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(books).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Time in which a thread ran or waited for a processor.
fn busy_ns(books: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(books).ok()?;
    let numbers = text.split_whitespace().take(2).map(|number| number.parse::<u64>().ok());
    numbers.sum()
}

/// In percent.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn share(part_ns: u64, span_ns: u64) -> f64 {
    part_ns as f64 * 100.0 / span_ns.max(1) as f64
}
