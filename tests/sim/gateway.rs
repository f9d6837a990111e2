//! The gateway in the simulated days: who is there, what goes wrong with it, and what must hold of what browsers were told
//! and of what was answered over HTTP. A browser is a subscriber, and what it was told is checked as a subscriber's.

use std::collections::BTreeMap;
use std::time::Duration;

use pregao::breaker;
use pregao::client::Symbols;
use pregao::gateway::GatewayConfig;
use pregao::http::AllowedHosts;
use pregao::random::Random;
use pregao::render::frame_json;
use pregao::time::Mono;
use pregao::wire::{EndStatus, Ended, Flags, Frame, GapReason, Kind, Mode, Names, Op};

use crate::browser::{Browser, BrowserConfig};
use crate::check::{Lacks, Told, Violation, check_client, hold, rows_of};
use crate::client::{ClientConfig, Habit};
use crate::delivered::Delivered;
use crate::faults::Fault;
use crate::hosts::{AnyNode, Spec};
use crate::monitor::MonitorConfig;
use crate::plan::{Day, Wish};
use crate::road::{MS, Road, SHARDS, SYMBOLS, address};
use crate::surfer::{Surfer, SurferConfig, rows};
use crate::world::World;

pub(crate) const PORT: u16 = 8090;
/// A ring that no day laps.
const RING_OF_A_DAY: usize = 1 << 13;

/// The gateway's host, and who speaks to it.
#[derive(Clone, Debug)]
pub(crate) struct AtGateway {
    pub(crate) host: usize,
    pub(crate) browsers: Vec<usize>,
    pub(crate) surfers: Vec<usize>,
    /// Browsers that came when all was calm: see [`add_late`].
    pub(crate) late: Vec<usize>,
}

pub(crate) fn config(ring_frames: usize, seed: u64) -> GatewayConfig {
    let mut nodes: Vec<_> = [("aggregator", 8000), ("core", 8082), ("broker", 8081)]
        .map(|(name, port)| (name.to_owned(), address(port)))
        .to_vec();
    nodes.extend((0..SHARDS).map(|shard| (format!("shard-{shard}"), address(9001 + shard))));
    GatewayConfig {
        broker: address(8081),
        core: address(8082),
        nodes,
        ring_frames,
        subscriptions_max: 64,
        unread_max: Duration::from_secs(30),
        breaker: breaker::Config::default(),
        connect_deadline: Duration::from_secs(1),
        hosts: AllowedHosts::loopback(PORT),
        playground: false,
        kill: None,
        seed,
    }
}

/// Adds a gateway, and who speaks to it.
pub(crate) fn add(
    road: &mut Road,
    config: GatewayConfig,
    browsers: Vec<(&str, BrowserConfig)>,
    surfers: Vec<SurferConfig>,
) -> AtGateway {
    let world = &mut road.world;
    let host = world.add("gateway", address(PORT), Spec::Gateway(config));
    let browsers = browsers
        .into_iter()
        .map(|(name, config)| world.add(name, address(1), Spec::Browser(config)))
        .collect();
    let surfers = surfers
        .into_iter()
        .map(|config| world.add("surfer", address(1), Spec::Surfer(config)))
        .collect();
    AtGateway { host, browsers, surfers, late: Vec::new() }
}

/// Whether the gateway's ring does not hold the day.
pub(crate) fn has_short_ring(day: &Day) -> bool {
    let host = day.gateway.as_ref().map(|at| &day.road.world.hosts[at.host].spec);
    matches!(host, Some(Spec::Gateway(it)) if it.ring_frames < RING_OF_A_DAY)
}

/// Browsers that come when all is calm and want everything from the beginning: what the gateway's ring does not have any
/// more, core's journal has, and nothing keeps the gateway from asking it.
pub(crate) fn add_late(day: &mut Day) {
    let Some(at) = &mut day.gateway else { return };
    let watch = vec![("PETR4", 0), ("B*", Kind::Quote.mask())];
    for (is_json, patterns) in [(false, vec![("*", 0)]), (true, vec![("*", 0)]), (false, watch)] {
        let config = BrowserConfig {
            gateway: address(PORT),
            is_json,
            subscriptions: vec![ClientConfig::good(patterns, 1)],
            habit: Habit::Good,
            is_fickle: false,
            calm_at: Mono::default(),
            seed: 1,
        };
        at.late.push(day.road.world.add("late browser", address(1), Spec::Browser(config)));
    }
}

/// On a third of the days there is a gateway.
pub(crate) fn plan(day: &mut Day, draw: &mut Random, wish: Wish) {
    if draw.below(3) > 0 {
        return;
    }
    let calm_at = Mono(day.calm_at_ns);
    let ring_frames = match draw.below(2) {
        0 => 16 << draw.below(3),
        _ => RING_OF_A_DAY,
    };
    let star = || vec![("*", 0)];
    let watch = || vec![("PETR4", 0), ("B*", Kind::Quote.mask()), ("WINZ26", Kind::Trade.mask())];
    let (lossless, latest, conflate) = (Mode::Lossless, Mode::Latest, Mode::Conflate);
    type Kinds<'a> = (&'a str, bool, Vec<(Vec<(&'static str, u16)>, Mode, u64)>, Habit, bool);
    let kinds: Vec<Kinds<'_>> = vec![
        ("browser", false, vec![(star(), lossless, 1)], Habit::Good, false),
        ("browser of lines", true, vec![(star(), lossless, 1)], Habit::Good, false),
        ("slow browser", false, vec![(star(), lossless, 0)], Habit::Slow, false),
        ("flapping browser", false, vec![(watch(), lossless, 1)], Habit::Flapping, false),
        ("flapping browser of lines", true, vec![(star(), lossless, 0)], Habit::Flapping, false),
        (
            "browser of two",
            false,
            vec![(star(), lossless, 0), (watch(), lossless, 0)],
            Habit::Slow,
            draw.below(2) == 0,
        ),
        (
            "browser of two in lines",
            true,
            vec![(watch(), lossless, 1), (star(), conflate, 0)],
            Habit::Good,
            draw.below(2) == 0,
        ),
        ("latest browser", false, vec![(watch(), latest, 0)], Habit::Slow, false),
        ("conflating browser", false, vec![(star(), conflate, 0)], Habit::Good, false),
    ];
    let mut browsers = Vec::new();
    for (name, is_json, subscriptions, habit, is_fickle) in kinds {
        let seed = draw.next_u64();
        let conflate_ms = u32::try_from(draw.between(10, 120)).unwrap();
        let is_there = draw.below(3) > 0;
        let subscription = |(patterns, mode, from_seq)| ClientConfig {
            mode,
            conflate_ms,
            calm_at,
            ..ClientConfig::good(patterns, from_seq)
        };
        let subscriptions = subscriptions.into_iter().map(subscription).collect();
        let gateway = address(PORT);
        let config =
            BrowserConfig { gateway, is_json, subscriptions, habit, is_fickle, calm_at, seed };
        if is_there {
            browsers.push((name, config));
        }
    }
    let surfers = (0..draw.between(1, 3)).map(|_| SurferConfig {
        gateway: address(PORT),
        symbols: SYMBOLS[..5].to_vec(),
        seed: draw.next_u64(),
        calm_at,
    });
    let surfers: Vec<SurferConfig> = surfers.collect();
    let at = add(&mut day.road, config(ring_frames, draw.next_u64()), browsers, surfers);
    if draw.below(3) == 0 {
        let every = Duration::from_millis(draw.between(40, 200));
        let config = MonitorConfig { node: address(PORT), every, calm_at };
        day.road.world.add("monitor", address(1), Spec::Monitor(config));
    }
    if !wish.no_faults {
        plan_faults(day, draw, &at);
    }
    day.gateway = Some(at);
}

/// What goes wrong with the gateway alone; what goes wrong with the others it meets anyway.
fn plan_faults(day: &mut Day, draw: &mut Random, at: &AtGateway) {
    let last = day.calm_at_ns / MS;
    let road = &day.road;
    let peers = [road.broker, road.core, road.aggregator];
    let mut faults = Vec::new();
    for _ in 0..draw.below(6) {
        let when = draw.between(1, last) * MS;
        let (short, long) = (draw.between(1, 400) * MS, draw.between(1, 1_500) * MS);
        let peer = peers[usize::try_from(draw.below(3)).unwrap()];
        let pick = draw.below(at.browsers.len().max(1) as u64);
        let browser = at.browsers.get(usize::try_from(pick).unwrap()).copied();
        let host = at.host;
        let fault = match draw.below(10) {
            0 => Fault::Kill(host, short),
            1 => Fault::PowerLoss(host, short),
            2 => Fault::Restart(host, short),
            3 => Fault::Freeze(host, long),
            4 => Fault::Partition(host, peer, long),
            5 => Fault::NoDescriptors(host, short),
            6 => Fault::Crowd(host, long),
            7 => Fault::Stall(browser.unwrap_or(host), long),
            8 => Fault::Freeze(browser.unwrap_or(host), long),
            _ => Fault::Cut(host),
        };
        faults.push((when, fault));
    }
    if draw.below(4) == 0 {
        // An epoch that takes something back means the most to who follows it.
        let when = draw.between(1, last) * MS;
        faults.push((when, Fault::PowerLoss(road.core, draw.between(1, 100) * MS)));
    }
    day.faults += faults.len();
    for (when, fault) in faults {
        day.road.world.plan_fault(when, fault);
    }
}

impl World {
    /// Its connections have no frames, or other things beside them.
    pub(crate) fn speaks_http(&self, host: usize) -> bool {
        matches!(self.hosts[host].spec, Spec::Browser(_) | Spec::Surfer(_))
    }

    /// Whether the broker serves it as a subscriber.
    pub(crate) fn is_subscriber(&self, host: usize) -> bool {
        matches!(self.hosts[host].spec, Spec::Client(_) | Spec::Library(_) | Spec::Gateway(_))
    }

    /// A gateway was sent this frame of the sequence.
    pub(crate) fn note_had(&mut self, host: usize, from: usize, frame: &Frame) {
        if !matches!(self.hosts[host].spec, Spec::Gateway(_)) {
            return;
        }
        let is_of_feed =
            self.is_core(from) || matches!(self.hosts[from].spec, Spec::Broker(..) | Spec::Fanout);
        let had = self.watch.had.entry(host).or_default();
        if let Some(gap) = frame.view::<pregao::wire::Gap>() {
            if gap.reason == GapReason::Void as u8 {
                let _ = had.split_off(&gap.from_seq.get());
            }
        } else if is_of_feed
            && frame.kind().is_some_and(Kind::is_data)
            && !frame.has(pregao::wire::Flags::SNAPSHOT)
        {
            had.insert(frame.seq.get());
        }
    }

    /// What a browser was told to be lost, the gateway never had; in a ring that nobody laps.
    pub(crate) fn watch_browser(&mut self, host: usize, node: &mut AnyNode) {
        let AnyNode::Browser(browser) = node else { return };
        for told in std::mem::take(&mut browser.losses) {
            let Some((number, _)) = self.hosts[host].conns.get(&told.conn) else { continue };
            let Some(tcp) = self.tcps.get(number) else { continue };
            let (gateway, conn) = (tcp.ends[1].host, tcp.ends[1].conn);
            let known = &self.hosts[gateway];
            let is_laps =
                !matches!(&known.spec, Spec::Gateway(it) if it.ring_frames == RING_OF_A_DAY);
            if is_laps || !known.conns.contains_key(&conn) {
                continue;
            }
            // What it read behind a hole, and had to let go of with its connection, it asks core for; who may have removed it.
            let core = self.hosts.iter().find(|known| matches!(known.spec, Spec::Core(..)));
            let found = core.and_then(|core| core.read_settled(self.now()));
            let from_seq = found.map_or(u64::MAX, |it| it.first_seq).max(told.from_seq);
            // The sequence jumps over what has rotted, and the ring begins anew behind a jump: who has not read what stood
            // before it loses that too.
            let lost = told.from_seq..=told.to_seq;
            if core.is_some_and(|core| core.rotten.keys().any(|seq| lost.contains(seq))) {
                continue;
            }
            let had = self.watch.had.get(&gateway).filter(|_| from_seq <= told.to_seq);
            let had = had.and_then(|had| had.range(from_seq..=told.to_seq).next()).copied();
            self.hold(had.is_none(), "what-the-gateway-has-no-browser-lacks", || {
                let name = &self.hosts[host].name;
                format!("{name} was told {told:?}, and the gateway had {had:?}")
            });
        }
    }

    pub(crate) fn browser(&self, host: usize) -> Option<&Browser> {
        match &self.hosts[host].node {
            Some(AnyNode::Browser(browser)) => Some(browser),
            _ => None,
        }
    }

    fn surfer_mut(&mut self, host: usize) -> Option<&mut Surfer> {
        match &mut self.hosts[host].node {
            Some(AnyNode::Surfer(surfer)) => Some(surfer),
            _ => None,
        }
    }

    /// Asks over HTTP, and runs until the answer is there.
    fn surf(&mut self, host: usize, path: &str) -> (u16, String) {
        for _ in 0..20 {
            self.surfer_mut(host).expect("a surfer").want(path);
            let now_ns = self.now_ns();
            self.wake(host, now_ns);
            for _ in 0..6_000 {
                let now_ns = self.now_ns();
                self.run_until(now_ns + MS);
                if let Some(answer) = self.surfer_mut(host).and_then(|it| it.answer.take()) {
                    return answer;
                }
            }
        }
        self.broken("the-gateway-answers", &format!("no answer to {path}"));
    }
}

/// What is wrong at once, whatever comes later.
pub(crate) fn check_now(world: &World) {
    for host in &world.hosts {
        match &host.node {
            Some(AnyNode::Browser(browser)) => {
                if let Some((name, text)) = &browser.complaint {
                    world.broken(name, &format!("{}: {text}", host.name));
                }
                for subscription in &browser.subscriptions {
                    if let Some(text) = &subscription.delivered.disorder {
                        let text = format!("{} got {text}", host.name);
                        world.broken("each-subscriber-gets-its-frames-in-order", &text);
                    }
                }
            }
            Some(AnyNode::Surfer(surfer)) => {
                if let Some(text) = &surfer.complaint {
                    world.broken("answers-go-to-who-asked", text);
                }
            }
            _ => {}
        }
    }
}

/// What was told to every browser in the end.
pub(crate) fn check(
    day: &Day,
    journal: &[Frame],
    first_seq: u64,
    names: &BTreeMap<u32, Names>,
) -> Result<(), Violation> {
    let Some(at) = &day.gateway else { return Ok(()) };
    let road = &day.road;
    let mut symbols = Symbols::default();
    for frame in journal {
        symbols.note(frame);
    }
    let known: BTreeMap<u64, &Frame> = journal.iter().map(|f| (f.seq.get(), f)).collect();
    for &host in at.browsers.iter().chain(&at.late) {
        let lacks = if at.late.contains(&host) { Lacks::Nothing } else { Lacks::Frames };
        let Some(browser) = road.world.browser(host) else { continue };
        let who = &road.world.hosts[host].name;
        for subscription in &browser.subscriptions {
            let delivered = &subscription.delivered;
            if !browser.config.is_json {
                let told = Told { who, client: delivered };
                check_client(road, told, journal, first_seq, names, lacks)?;
                continue;
            }
            let mut frames = Vec::new();
            for frame in &delivered.frames {
                let seq = frame.seq.get();
                // What a line of a name says depends on what was known then.
                if frame.kind == Kind::Definition as u8 {
                    frames.extend(known.get(&seq).copied().copied());
                    continue;
                }
                let line = subscription.lines.get(&seq);
                let journaled = known.get(&seq).copied();
                let wanted = journaled.and_then(|frame| frame_json(frame, None, &symbols));
                let replayed = journaled.map(|frame| frame.delivered(Flags::REPLAY));
                let replayed = replayed.and_then(|frame| frame_json(&frame, None, &symbols));
                let is_its = line == wanted.as_ref() || line == replayed.as_ref();
                hold(is_its, "a-line-is-its-frame", || {
                    format!("{who} got {line:?}, and the journal has {wanted:?}")
                })?;
                frames.extend(journaled.copied());
            }
            let snapshot = delivered.snapshot.iter().filter_map(|f| known.get(&f.seq.get()));
            let client = Delivered {
                frames,
                snapshot: snapshot.map(|frame| **frame).collect(),
                lost: delivered.lost.clone(),
                live_from: delivered.live_from,
                next_seq: delivered.next_seq,
                is_stale: delivered.is_stale,
                has_ended: delivered.has_ended,
                ..Delivered::new(delivered.config.clone())
            };
            let told = Told { who, client: &client };
            check_client(road, told, journal, first_seq, names, lacks)?;
        }
    }
    Ok(())
}

/// Who asks over HTTP gets the rows that who asks the aggregator gets.
pub(crate) fn check_answers(day: &mut Day) -> Result<(), Violation> {
    let Some(surfer) = day.gateway.as_ref().and_then(|at| at.surfers.first().copied()) else {
        return Ok(());
    };
    // No other exchange has one of these.
    for name in ["VALE3", "BBDC4"] {
        let mut last = (String::new(), Vec::new());
        for _ in 0..60 {
            let asker = day.road.ask_aggregator(Road::query(Op::Range, name));
            let end = asker.messages::<Ended>().next().copied().unwrap_or_default();
            let is_whole = end.status == EndStatus::Complete as u8;
            let want: Vec<u64> = rows_of(asker).iter().map(|frame| frame.seq.get()).collect();
            let path = format!("/v1/trades/{name}?from=1971-01-01T00:00:00Z&deadline=900ms");
            let (status, body) = day.road.world.surf(surfer, &path);
            let got = rows(&body);
            let is_same = match status {
                200 => is_whole && got == want,
                404 => want.is_empty(),
                // Who asks the aggregator does without a part of an answer, unless it says otherwise.
                206 => !is_whole && (want.is_empty() || got == want),
                _ => false,
            };
            let said: String = body.chars().take(200).collect();
            last = (format!("{status} {said}"), vec![got, want]);
            if is_same {
                break;
            }
            let now_ns = day.road.world.now_ns();
            day.road.world.run_until(now_ns + 500 * MS);
            last.0.push_str(" again and again");
        }
        let is_same = !last.0.contains("again");
        hold(is_same, "http-answers-are-the-aggregators", || format!("{name}: {last:?}"))?;
    }
    Ok(())
}

/// What browsers and surfers had, for the counts.
pub(crate) fn count(world: &mut World) {
    let mut counts = world.counts;
    for host in &world.hosts {
        match &host.node {
            Some(AnyNode::Browser(browser)) => {
                counts.browser_frames += browser.frames;
                counts.fillers += browser.fillers;
            }
            Some(AnyNode::Surfer(surfer)) => counts.http_answers += surfer.answers,
            _ => {}
        }
    }
    world.counts = counts;
}
