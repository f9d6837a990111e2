//! `loadgen query`: many clients ask a running system, open-loop at a rate or each as soon as it has its
//! answer, and, with `--naive`, the same questions asked in the plainest way right behind it: a thread
//! and a new connection for each node of each query, and no aggregator.
//!
//! Latencies count from the moment at which a query was to be sent. What it is not: a check of what the
//! answers say; that an answer ended, and how, is all that is looked at.

mod hops;
mod http;
mod load;
mod naive;
mod shapes;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use pregao::client::QueryClient;
use pregao::duration;
use pregao::question::Question;
use pregao::time::nanos;
use pregao::wire::{Definition, EndStatus, Frame, Op, Query, U64, padded};
use serde::Serialize;

use crate::measure::histogram;
use crate::options::Format;
use crate::process;
use crate::timebase::{micros, per_second};
use hops::{Hops, Progress, Ways};
use shapes::{Mix, Shapes};

#[derive(Clone, Debug, Args)]
pub(crate) struct QueryFlags {
    /// Clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// Queries a second; without it each client asks again when it has its answer
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: Option<u64>,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub(crate) warm_up: Duration,
    /// Deadline of each query
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub(crate) deadline: Duration,
    /// How many of each kind: quote, last (10 trades and the quote), list (last 5 of 10 symbols), bars
    /// (of a minute) and all (every quote)
    #[arg(long, value_name = "KIND=N,…", default_value = "quote=4,last=4,list=1,bars=1")]
    pub(crate) mix: Mix,
    /// The aggregator
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    pub(crate) addr: SocketAddr,
    /// How to ask; over HTTP a mix has quote, bars and all
    #[arg(long, value_enum, default_value_t)]
    pub(crate) over: Over,
    /// The gateway, for --over http
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    pub(crate) gateway: SocketAddr,
    /// Core, for --naive, and for the CPU time of the system
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8082")]
    pub(crate) core: SocketAddr,
    /// The shards, in order, for the same [default: 127.0.0.1:9001 to 9003]
    #[arg(long, value_name = "IP:PORT", num_args = 1.., value_delimiter = ',')]
    pub(crate) shards: Vec<SocketAddr>,
    /// Also ask without the aggregator: a thread and a connection for each node of each query
    #[arg(long)]
    pub(crate) naive: bool,
    /// Also take the time of every hop under the load, which adds questions of its own to it
    #[arg(long)]
    pub(crate) hops: bool,
    /// Seed of the choice of kinds and symbols
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// How questions are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    /// In frames, of the aggregator
    #[default]
    Frames,
    /// As requests on connections that are kept, of the gateway
    Http,
}

/// What one way of asking has come to.
pub(crate) struct Tally {
    /// From the intended time of sending to the last frame.
    pub(crate) latency: Histogram<u64>,
    /// How late queries were sent.
    pub(crate) behind: Histogram<u64>,
    pub(crate) complete: u64,
    pub(crate) partial: u64,
    pub(crate) failed: u64,
    /// Without an answer long after their deadline, or with a broken connection.
    pub(crate) lost: u64,
    /// From the first to the last measured moment.
    pub(crate) span: Duration,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            latency: histogram(),
            behind: histogram(),
            complete: 0,
            partial: 0,
            failed: 0,
            lost: 0,
            span: Duration::ZERO,
        }
    }

    pub(crate) fn note(&mut self, status: EndStatus, latency: Duration) {
        self.latency.saturating_record(nanos(latency).max(1));
        match status {
            EndStatus::Complete => self.complete += 1,
            EndStatus::Partial => self.partial += 1,
            EndStatus::Failed => self.failed += 1,
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        let _ = self.behind.add(&other.behind);
        self.complete += other.complete;
        self.partial += other.partial;
        self.failed += other.failed;
        self.lost += other.lost;
        self.span = self.span.max(other.span);
    }

    fn answered(&self) -> u64 {
        self.complete + self.partial + self.failed
    }
}

#[derive(Serialize)]
struct Row {
    way: &'static str,
    clients: u32,
    rate_wanted: Option<u64>,
    queries: u64,
    queries_per_s: f64,
    complete: u64,
    partial: u64,
    failed: u64,
    lost: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    behind_p99_us: f64,
    /// Of the aggregator (not for naive), core and the shards.
    system_cpu_us_per_query: Option<f64>,
    /// Of the gateway, over HTTP.
    gateway_cpu_us_per_query: Option<f64>,
    valid: bool,
    objections: Vec<String>,
}

/// Measures and prints. Whether all of it is valid.
pub(crate) fn query(
    flags: &QueryFlags,
    print: impl Fn(&str) -> Result<(), String>,
) -> Result<bool, String> {
    let mut flags = flags.clone();
    if flags.shards.is_empty() {
        flags.shards =
            [9001, 9002, 9003].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).to_vec();
    }
    let is_http = flags.over == Over::Http;
    if is_http && !flags.mix.has_paths() {
        return Err("over HTTP a mix has quote, bars and all, as in --mix bars=1".to_owned());
    }
    if is_http && (flags.hops || flags.naive) {
        return Err("--hops and --naive ask in frames; leave out --over http".to_owned());
    }
    let symbols = symbols(&flags)?;
    let shapes = Shapes::new(symbols, flags.mix.clone(), flags.deadline, flags.seed);
    let mut is_valid = true;
    if !is_http {
        for idle in Ways::open(&flags, &shapes)?.ask_idle()? {
            print(&shown(&idle, flags.format, || idle.text()))?;
            is_valid &= idle.objection().is_none();
        }
    }
    let (row, hops) = measure_with_hops(&flags, &shapes)?;
    if let Some(hops) = hops {
        print(&shown(&hops, flags.format, || hops.text()))?;
        is_valid &= hops.objection().is_none();
    }
    let mut rows = vec![row];
    if flags.naive {
        rows.push(measure("naive", &flags, || naive::run(&flags, &shapes))?);
    }
    for row in &rows {
        print(&shown(row, flags.format, || table(row)))?;
    }
    if let ([one, other], Format::Table) = (&rows[..], flags.format) {
        let times = one.queries_per_s / other.queries_per_s.max(f64::MIN_POSITIVE);
        print(&format!("{times:.1} times the queries a second of the naive way"))?;
    }
    Ok(is_valid && rows.iter().all(|row| row.valid))
}

fn shown(value: &impl Serialize, format: Format, table: impl FnOnce() -> String) -> String {
    match format {
        Format::Table => table(),
        Format::Json => serde_json::to_string(value).unwrap_or_default(),
    }
}

fn table(row: &Row) -> String {
    let cpu =
        row.system_cpu_us_per_query.map_or_else(|| "-".to_owned(), |us| format!("{us:.0} us"));
    let gateway = row.gateway_cpu_us_per_query;
    let gateway = gateway.map_or_else(String::new, |us| format!(", gateway's {us:.0} us"));
    let mut text = format!(
        "{}: {} clients, {:.0} queries/s ({} complete, {} partial, {} failed, {} lost)\n  p50 {:.0} us  \
         p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}  system CPU per query {cpu}{gateway}",
        row.way,
        row.clients,
        row.queries_per_s,
        row.complete,
        row.partial,
        row.failed,
        row.lost,
        row.p50_us,
        row.p90_us,
        row.p99_us,
        row.p999_us,
        row.max_us
    );
    for objection in &row.objections {
        text.push_str(&format!("\n  not valid: {objection}"));
    }
    text
}

/// Runs the load on the aggregator and, if wanted, beside it one client who takes the time of every hop. What
/// went wrong with that one is an objection to the load, whose figures stand.
fn measure_with_hops(flags: &QueryFlags, shapes: &Shapes) -> Result<(Row, Option<Hops>), String> {
    /// However the load ends, nobody waits for it any more.
    struct Ended<'a>(&'a Progress);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let beside = flags.hops.then(|| {
            let beside = || hops::beside(&progress, flags, shapes);
            std::thread::Builder::new().spawn_scoped(scope, beside)
        });
        let ended = Ended(&progress);
        let way = if flags.over == Over::Http { "http" } else { "aggregator" };
        let row = measure(way, flags, || load::run(flags, shapes, &progress));
        drop(ended);
        let mut row = row?;
        let hops = match beside {
            None => None,
            Some(Err(error)) => Some(Err(error.to_string())),
            Some(Ok(thread)) => Some(thread.join().unwrap_or_else(|_| Err("a panic".to_owned()))),
        };
        let hops = hops.transpose().unwrap_or_else(|error| {
            row.objections.push(format!("no hop could be timed: {error}"));
            row.valid = false;
            None
        });
        Ok((row, hops))
    })
}

/// Runs one way of asking, with the books of the system's processes before and after.
fn measure(
    way: &'static str,
    flags: &QueryFlags,
    run: impl FnOnce() -> Result<Tally, String>,
) -> Result<Row, String> {
    let addresses = [flags.addr, flags.core].into_iter().chain(flags.shards.iter().copied());
    let pids: Vec<u32> = addresses.filter_map(process::listening_on).collect();
    let cpu = || -> Option<u64> { pids.iter().map(|pid| process::read(*pid).cpu_ns).sum() };
    let gateway = Some(flags.gateway).filter(|_| flags.over == Over::Http);
    let gateway = gateway.and_then(process::listening_on);
    let gateway_cpu = || gateway.and_then(|pid| process::read(pid).cpu_ns);
    let (before, gateway_before) = (cpu(), gateway_cpu());
    let tally = run()?;
    let gateway_used =
        gateway_cpu().zip(gateway_before).map(|(after, before)| after.saturating_sub(before));
    let used = cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
    let queries = tally.answered();
    let quantile = |q: f64| micros(tally.latency.value_at_quantile(q));
    let mut objections = Vec::new();
    if tally.lost > 0 {
        objections.push(format!("{} queries have no answer", tally.lost));
    }
    if tally.failed > 0 || tally.partial > 0 {
        objections.push("not every answer is complete".to_owned());
    }
    let behind = micros(tally.behind.value_at_quantile(0.99));
    if flags.rate.is_some() && behind > micros(nanos(crate::limits::BEHIND_MAX)) {
        objections.push(format!("queries left {behind:.0} us after their time (p99)"));
    }
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_query = |ns: u64| ns as f64 / 1_000.0 / (queries.max(1)) as f64;
    // The warm-up's CPU time is in the books too.
    let measured = (flags.duration + flags.warm_up).as_secs_f64() / flags.duration.as_secs_f64();
    Ok(Row {
        way,
        clients: flags.clients,
        rate_wanted: flags.rate,
        queries,
        queries_per_s: per_second(queries, tally.span),
        complete: tally.complete,
        partial: tally.partial,
        failed: tally.failed,
        lost: tally.lost,
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: micros(tally.latency.max()),
        behind_p99_us: behind,
        system_cpu_us_per_query: used.map(|ns| per_query(ns) / measured),
        gateway_cpu_us_per_query: gateway_used.map(|ns| per_query(ns) / measured),
        valid: objections.is_empty(),
        objections,
    })
}

/// The instruments that the system knows.
fn symbols(flags: &QueryFlags) -> Result<Vec<String>, String> {
    let failed = |error: pregao::client::ClientError| error.to_string();
    let wait = Duration::from_secs(5);
    let mut query_client = QueryClient::open("the aggregator", flags.addr, wait).map_err(failed)?;
    let query = Query {
        op: Op::Instruments as u8,
        symbol: padded("*"),
        to: U64::new(u64::MAX),
        ..Query::default()
    };
    let question = Question::new(&query).map_err(|error| error.to_string())?;
    let answer = query_client.ask_about(question, wait).map_err(failed)?;
    let definitions = answer.definitions.iter().filter_map(Frame::view::<Definition>);
    let symbols: Vec<String> = definitions.map(|it| it.symbol.to_string()).collect();
    match symbols.is_empty() {
        true => Err("the system knows no instrument yet".to_owned()),
        false => Ok(symbols),
    }
}
