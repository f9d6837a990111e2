//! One run: publisher first, then subscribers, then the clock starts; afterwards everything is added
//! up and judged.

mod costs;

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver as Inbox};
use std::thread::JoinHandle;
use std::time::Duration;

use pregao::time::{Mono, nanos};

use crate::check::Faults;
use crate::connect::{Dialer, raise_descriptor_limit};
use crate::late;
use crate::limits;
use crate::measure::{Measured, Recorder, Window, merge};
use crate::pace::Pacer;
use crate::plan::Plan;
use crate::process::{self, Counted, Reading, SyscallCounter};
use crate::progress::Progress;
use crate::publish::{Offered, Publisher};
use crate::receive::{Received, Receiver, Share};
use crate::shared::Shared;
use crate::subscriber::Pace;
use crate::target::Target;
use crate::timebase::{Timebase, per_second};

pub(crate) use costs::Costs;
use costs::{bytes_per_subscriber, costs_of};

/// What to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Messages a second.
    pub(crate) rate: u64,
    pub(crate) instruments: u32,
    /// Instruments that each subscriber watches; 0 = all.
    pub(crate) watch: usize,
    pub(crate) source: u8,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct RunSpec {
    pub(crate) target: Target,
    /// Where subscribers connect.
    pub(crate) address: SocketAddr,
    /// Where messages are published, if elsewhere.
    pub(crate) publish_address: Option<SocketAddr>,
    pub(crate) subscribers: usize,
    pub(crate) threads: usize,
    /// `None`: listen to the live market.
    pub(crate) load: Option<Load>,
    pub(crate) market_source: u8,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) stalled: usize,
    pub(crate) slow: usize,
    /// Subscribers that leave and come back, a second.
    pub(crate) churn_per_s: u32,
    /// Subscribers that join while the run is measured, one by one.
    pub(crate) joiners: u32,
    /// How long connecting everybody may take.
    pub(crate) connect_max: Duration,
    /// How long the run waits for late deliveries at all.
    pub(crate) drain_max: Duration,
    /// The processes to read the costs from, the one with the subscribers first; found by their addresses when none
    /// is given.
    pub(crate) pids: Vec<u32>,
    pub(crate) seed: u64,
}

/// The generator's own condition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Condition {
    /// The busiest thread.
    pub(crate) busy_percent_max: Option<f64>,
    /// How late messages were offered, 99th percentile.
    pub(crate) lag_p99_ns: u64,
    /// How long the target took nothing from the publisher.
    pub(crate) blocked: Duration,
}

impl Condition {
    pub(crate) fn is_behind(&self) -> bool {
        self.lag_p99_ns > nanos(limits::BEHIND_MAX)
    }

    pub(crate) fn is_saturated(&self) -> bool {
        self.busy_percent_max.is_some_and(|percent| percent > limits::BUSY_PERCENT_MAX)
    }
}

/// Sums over groups of subscribers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    /// Full-speed subscribers: fewest and most measured deliveries of one of them.
    pub(crate) deliveries_min: u64,
    pub(crate) deliveries_max: u64,
    /// Mean latency of the luckiest and the unluckiest of them.
    pub(crate) mean_ns_min: u64,
    pub(crate) mean_ns_max: u64,
    /// Deliveries to slow subscribers, and what they missed.
    pub(crate) slow_deliveries: u64,
    pub(crate) slow_faults: Faults,
    /// Full-speed subscribers that the target cut off.
    pub(crate) cut_off: u64,
    /// Slow and stalled ones that it cut off.
    pub(crate) slow_cut_off: u64,
    pub(crate) reconnects: u64,
    /// What subscribers were told of losses, and how many of each kind were.
    pub(crate) told: Vec<(Pace, Option<&'static str>, u64)>,
}

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) spec: RunSpec,
    pub(crate) measured: Measured,
    pub(crate) faults: Faults,
    pub(crate) groups: Groups,
    pub(crate) offered_per_s: Option<f64>,
    pub(crate) deliveries_per_s: f64,
    pub(crate) costs: Costs,
    pub(crate) condition: Condition,
    pub(crate) first_refusal: Option<String>,
    /// How long each late joiner waited for the end of its snapshot.
    pub(crate) joins: Vec<Duration>,
    /// Wall clock at the end of the warm-up, seconds since 1970, for the interval log.
    pub(crate) started_s: f64,
    /// How long the measured part was: shorter than configured when it was ended early.
    pub(crate) measured_for: Duration,
}

impl Outcome {
    /// Why the figures must not be used; empty = they may.
    pub(crate) fn objections(&self) -> Vec<String> {
        let mut objections = self.losses();
        if self.condition.is_behind() {
            objections.push(format!(
                "the generator fell behind: 1 % of the messages left {} ms late or later (the target \
                 took nothing for {} ms)",
                self.condition.lag_p99_ns / 1_000_000,
                self.condition.blocked.as_millis()
            ));
        }
        if let (Some(percent), true) =
            (self.condition.busy_percent_max, self.condition.is_saturated())
        {
            objections.push(format!(
                "the generator is saturated: its busiest thread ran or waited for a CPU {percent:.0} % \
                 of the time; use more --threads or a lower --rate"
            ));
        }
        objections
    }

    /// What was lost, in words; empty = nothing.
    pub(crate) fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                losses.push(format!("{count} {what}"));
            }
        };
        say(self.faults.lost, "deliveries lost");
        say(self.faults.out_of_order, "deliveries twice or out of order");
        say(self.faults.corrupt, "deliveries with a wrong checksum");
        say(self.groups.cut_off, "subscribers cut off by the target");
        if self.measured.latency.is_empty() {
            losses.push("nothing was delivered".to_owned());
        }
        if let (Some(why), false) = (&self.first_refusal, losses.is_empty()) {
            losses.push(format!("the first complaint: {why}"));
        }
        losses
    }

    /// A percentile of the latency.
    pub(crate) fn latency_ns(&self, percentile: f64) -> u64 {
        self.measured.latency.value_at_percentile(percentile)
    }
}

/// Why a run has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The subscribers never stood, whatever the rate.
    #[error("{0}")]
    Connecting(String),
    /// It broke under the load.
    #[error("{0}")]
    Running(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Running(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Failure {
        Failure::Running(why.to_owned())
    }
}

type Worker = JoinHandle<Result<Received, String>>;
/// Each receiving thread says once whether its subscribers stand.
type Ready = Inbox<Result<(), String>>;

/// Runs.
///
/// # Errors
/// A sentence, when there is nothing to report.
pub(crate) fn run(spec: &RunSpec, progress: &dyn Progress) -> Result<Outcome, Failure> {
    raise_descriptor_limit(spec.subscribers).map_err(Failure::Connecting)?;
    let timebase = Timebase::start();
    let dialer = Dialer { target: spec.target, address: spec.address };
    let publish_address = spec.publish_address.unwrap_or(spec.address);
    let to_publish = Dialer { target: spec.target.publisher(), address: publish_address };
    let plan = spec
        .load
        .map(|load| Arc::new(Plan::new(load.source, load.instruments, load.watch, spec.seed)));
    // Different from any recent run's, so that the broker begins anew: milliseconds, wrapping every 49
    // days; 0 would say that there is no epoch.
    let epoch =
        u32::try_from(timebase.wall_ns() / 1_000_000 % u64::from(u32::MAX)).unwrap_or(0) + 1;
    let publisher = match &plan {
        Some(plan) => {
            let opened = Publisher::open(to_publish, Arc::clone(plan), epoch);
            Some(opened.map_err(Failure::Connecting)?)
        }
        None => {
            // Only to say at once that nobody is there.
            drop(dialer.dial(0).map_err(|error| Failure::Connecting(error.to_string()))?);
            None
        }
    };
    let mut pids = spec.pids.clone();
    if pids.is_empty() {
        let addresses = [Some(spec.address), spec.publish_address];
        pids = addresses.into_iter().flatten().filter_map(process::listening_on).collect();
    }
    // What the first one costs a gateway is not what each costs.
    if spec.target != to_publish.target {
        let source = spec.load.map_or(spec.market_source, |load| load.source);
        late::join(dialer, source, spec.subscribers)
            .map_err(|error| Failure::Connecting(format!("no WebSocket can be had: {error}")))?;
    }
    let idle = process::read_all(&pids);

    let shared = Arc::new(Shared::default());
    let result = attempt(spec, timebase, dialer, plan, publisher, (&pids, idle), &shared, progress);
    if result.is_err() {
        shared.abort.store(true, Ordering::Relaxed);
    }
    progress.finish();
    result
}

#[allow(clippy::too_many_arguments, reason = "the second half of `run`, which ends with its abort")]
fn attempt(
    spec: &RunSpec,
    timebase: Timebase,
    dialer: Dialer,
    plan: Option<Arc<Plan>>,
    publisher: Option<Publisher>,
    (pids, idle): (&[u32], Reading),
    shared: &Arc<Shared>,
    progress: &dyn Progress,
) -> Result<Outcome, Failure> {
    let (workers, ready) = spawn_receivers(spec, timebase, dialer, &plan, shared)?;
    await_confirmed(spec, &ready, workers.len(), shared, progress).map_err(Failure::Connecting)?;
    let subscribed = process::read_all(pids);

    let start = timebase.mono() + limits::LEAD_IN;
    let (window, pacer) = schedule(spec, timebase, start);
    shared.window.get_or_init(|| window);
    progress.beginning();
    let publisher = match publisher.zip(pacer) {
        Some((publisher, pacer)) => {
            let shared = Arc::clone(shared);
            let work = move || publisher.run(pacer, timebase, &shared);
            let thread = std::thread::Builder::new().name("publisher".to_owned()).spawn(work);
            Some(thread.map_err(|error| format!("cannot start a thread: {error}"))?)
        }
        None => None,
    };
    let joiners = join_late(spec, timebase, dialer, window)?;
    let syscalls = SyscallCounter::start(pids);
    let kernel_tcp_bytes_max = Cell::new(0);
    let show = |now: Mono| {
        let held = process::kernel_tcp_bytes().unwrap_or(0);
        kernel_tcp_bytes_max.set(held.max(kernel_tcp_bytes_max.get()));
        let delivered = shared.delivered.load(Ordering::Relaxed);
        progress.running(now.since(start), window.to.since(start), delivered);
    };
    wait_until(window.from, timebase, &ready, show, || progress.wants_end())?;
    if timebase.mono() < window.from {
        return Err(Failure::from("ended before anything was measured"));
    }
    let at_start = (timebase.mono(), shared.delivered.load(Ordering::Relaxed));
    let cost_start = process::read_all(pids);
    wait_until(window.to, timebase, &ready, show, || progress.wants_end())?;
    if timebase.mono() < window.to {
        shared.end_early(timebase.mono());
    }
    let at_end = (timebase.mono(), shared.delivered.load(Ordering::Relaxed));
    let cost_end = process::read_all(pids);
    let calls_per_s = syscalls.and_then(SyscallCounter::finish);

    let offered = match publisher {
        Some(thread) => Some(thread.join().map_err(|_| "the publisher's thread ended badly")??),
        None => None,
    };
    let mut received = Vec::new();
    for worker in workers {
        received.push(worker.join().map_err(|_| "a receiving thread ended badly")??);
    }
    drop(ready);
    let joins = match joiners {
        Some(thread) => thread.join().map_err(|_| "the joining thread ended badly")??,
        None => Vec::new(),
    };
    let span = at_end.0.since(at_start.0);
    let deliveries = at_end.1 - at_start.1;
    let deliveries_per_s = per_second(deliveries, span);
    let mut costs = costs_of(cost_start, cost_end, deliveries);
    if let Some(calls_per_s) = calls_per_s {
        costs.syscalls_per_delivery = (deliveries > 0).then(|| calls_per_s / deliveries_per_s);
        costs.syscalls_counted = Some(Counted::All);
    }
    costs.bytes_per_subscriber = subscribed
        .rss_bytes
        .zip(idle.rss_bytes)
        .and_then(|(with, without)| bytes_per_subscriber(with, without, spec.subscribers));
    costs.rss_bytes_before = idle.rss_bytes;
    costs.rss_bytes_after = cost_end.rss_bytes;
    costs.kernel_tcp_bytes_max = kernel_tcp_bytes_max.get();
    let started_s = seconds(timebase.stamp(window.from));
    let mut outcome = add_up(spec, received, offered, (deliveries_per_s, costs, started_s), span);
    outcome.joins = joins;
    Ok(outcome)
}

type Joining = JoinHandle<Result<Vec<Duration>, String>>;

/// Starts the thread whose subscribers join one by one while the run is measured.
fn join_late(
    spec: &RunSpec,
    timebase: Timebase,
    dialer: Dialer,
    window: Window,
) -> Result<Option<Joining>, String> {
    if spec.joiners == 0 {
        return Ok(None);
    }
    let (number, joiners) = (spec.subscribers, spec.joiners);
    let source = spec.load.map_or(spec.market_source, |load| load.source);
    let work = move || late::join_all(dialer, source, timebase, window, number, joiners);
    let thread = std::thread::Builder::new().name("joiners".to_owned()).spawn(work);
    thread.map(Some).map_err(|error| format!("cannot start a thread: {error}"))
}

fn spawn_receivers(
    spec: &RunSpec,
    timebase: Timebase,
    dialer: Dialer,
    plan: &Option<Arc<Plan>>,
    shared: &Arc<Shared>,
) -> Result<(Vec<Worker>, Ready), String> {
    let (report, ready) = mpsc::channel();
    let mut workers: Vec<Worker> = Vec::new();
    let threads = spec.threads.clamp(1, spec.subscribers.max(1));
    let pace_of = |number| match number {
        n if n < spec.stalled => Pace::Stalled,
        n if n < spec.stalled + spec.slow => Pace::Half,
        _ => Pace::Full,
    };
    for thread in 0..threads {
        let mine = (thread..spec.subscribers).step_by(threads);
        let churn = u64::from(spec.churn_per_s);
        let share = Share {
            dialer,
            plan: plan.clone(),
            market_source: spec.market_source,
            subscribers: mine.map(|number| (number, pace_of(number))).collect(),
            connect_max: spec.connect_max,
            drain_max: spec.drain_max,
            churn_every: (churn > 0)
                .then(|| Duration::from_nanos(1_000_000_000 * threads as u64 / churn)),
            timebase,
        };
        let (report, shared) = (report.clone(), Arc::clone(shared));
        let work = move || {
            let mut receiver =
                Receiver::new(share, shared).map_err(|error| format!("cannot poll: {error}"))?;
            let connected = receiver.connect();
            let goes_on = connected.is_ok();
            // The main thread has left when nobody listens; then the abort is set as well.
            drop(report.send(connected));
            if !goes_on {
                return Err("not connected".to_owned());
            }
            receiver.run().map_err(|error| format!("cannot poll: {error}"))
        };
        let name = format!("receiver-{thread}");
        let spawned = std::thread::Builder::new().name(name).spawn(work);
        workers.push(spawned.map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    Ok((workers, ready))
}

fn await_confirmed(
    spec: &RunSpec,
    ready: &Ready,
    threads: usize,
    shared: &Shared,
    progress: &dyn Progress,
) -> Result<(), String> {
    let mut waiting = threads;
    while waiting > 0 {
        match ready.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => {
                result?;
                waiting -= 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err("a receiving thread ended before it was connected".to_owned());
            }
        }
        let confirmed = shared.confirmed.load(Ordering::Relaxed);
        progress.connecting(confirmed, spec.subscribers as u64);
    }
    Ok(())
}

fn schedule(spec: &RunSpec, timebase: Timebase, start: Mono) -> (Window, Option<Pacer>) {
    let from = start + spec.warm_up;
    let to = from + spec.duration;
    let pacer = spec.load.map(|load| Pacer::new(start, load.rate, spec.warm_up + spec.duration));
    let (messages, stride) = match &pacer {
        Some(pacer) => (pacer.total(), Window::stride_of(pacer.total())),
        None => (limits::SKEW_MESSAGES_MAX, 1),
    };
    let window = Window {
        from,
        to,
        from_stamp: timebase.stamp(from),
        to_stamp: timebase.stamp(to),
        interval: Window::interval_of(spec.duration),
        skew_stride: stride,
        messages,
    };
    (window, pacer)
}

/// Waits, and shows how far it is. Nobody speaks on the channel any more; it is what one can wait on.
fn wait_until(
    until: Mono,
    timebase: Timebase,
    quiet: &Ready,
    show: impl Fn(Mono),
    wants_end: impl Fn() -> bool,
) -> Result<(), String> {
    loop {
        let now = timebase.mono();
        let left = until.since(now);
        if left.is_zero() || wants_end() {
            return Ok(());
        }
        show(now);
        match quiet.recv_timeout(left.min(Duration::from_millis(100))) {
            Ok(result) => result?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // All threads have ended their connecting, so their ends of the channel are gone.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::park_timeout(left.min(Duration::from_millis(100)));
            }
        }
    }
}

fn add_up(
    spec: &RunSpec,
    received: Vec<Received>,
    offered: Option<Offered>,
    (deliveries_per_s, costs, started_s): (f64, Costs, f64),
    span: Duration,
) -> Outcome {
    let mut groups =
        Groups { deliveries_min: u64::MAX, mean_ns_min: u64::MAX, ..Groups::default() };
    let (mut faults, mut condition) = (Faults::default(), Condition::default());
    let mut first_refusal = None;
    let mut recorders: Vec<Recorder> = Vec::new();
    for thread in received {
        recorders.extend(thread.recorder);
        condition.note_busy(thread.busy_percent);
        first_refusal = first_refusal.or(thread.first_refusal);
        groups.reconnects += thread.reconnects;
        for (pace, tally) in thread.tallies {
            groups.note_reasons(pace, tally.told);
            if pace != Pace::Full {
                groups.slow_deliveries += tally.deliveries;
                groups.slow_faults.add(tally.faults);
                groups.slow_cut_off += u64::from(tally.was_cut_off);
                continue;
            }
            faults.add(tally.faults);
            groups.cut_off += u64::from(tally.was_cut_off);
            groups.deliveries_min = groups.deliveries_min.min(tally.measured);
            groups.deliveries_max = groups.deliveries_max.max(tally.measured);
            if let Some(mean) = tally.latency_ns_sum.checked_div(tally.measured) {
                groups.mean_ns_min = groups.mean_ns_min.min(mean);
                groups.mean_ns_max = groups.mean_ns_max.max(mean);
            }
        }
    }
    groups.deliveries_min = groups.deliveries_min.min(groups.deliveries_max);
    groups.mean_ns_min = groups.mean_ns_min.min(groups.mean_ns_max);
    let mut offered_per_s = None;
    if let Some(offered) = offered {
        condition.note_busy(offered.busy_percent);
        condition.lag_p99_ns = offered.lag.value_at_percentile(99.0);
        condition.blocked = offered.blocked;
        offered_per_s = Some(per_second(offered.measured, span.min(spec.duration)));
        first_refusal = first_refusal.or(offered.refusal);
    }
    Outcome {
        spec: spec.clone(),
        measured: merge(recorders),
        faults,
        groups,
        offered_per_s,
        deliveries_per_s,
        costs,
        condition,
        first_refusal,
        joins: Vec::new(),
        started_s,
        measured_for: span,
    }
}

impl Groups {
    fn note_reasons(&mut self, pace: Pace, told: Option<&'static str>) {
        match self.told.iter_mut().find(|(p, t, _)| (*p, *t) == (pace, told)) {
            Some((_, _, count)) => *count += 1,
            None => self.told.push((pace, told, 1)),
        }
    }

    /// Subscribers of a pace that were told this.
    pub(crate) fn told(&self, pace: Pace, is: impl Fn(Option<&'static str>) -> bool) -> u64 {
        self.told.iter().filter(|(p, told, _)| *p == pace && is(*told)).map(|(_, _, n)| n).sum()
    }
}

impl Condition {
    fn note_busy(&mut self, percent: Option<f64>) {
        self.busy_percent_max = match (self.busy_percent_max, percent) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests;
