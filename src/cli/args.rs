//! The command line as typed: flags and their values, each read by itself.
//!
//! What one flag demands of another, and the configuration file, come in the second stage
//! (`resolve.rs`). The comments on commands and flags are the help text.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use log::LevelFilter;

use super::offline::args::{
    ConvertFlags, DumpFlags, ExportFlags, RecoverFlags, RepartitionFlags, VerifyFlags,
};
use super::publish::args::PublishFlags;
use crate::config::{Align, ExchangeName, Partition, Speed, host};
use crate::duration;
use crate::feed;
use crate::gather::NEWEST_COMMON_CUT;
use crate::limits::{
    PATTERNS_MAX, RATE_EVENTS_PER_S_MAX, REACTORS_MAX, REPLICAS_MAX, REPORT_ROWS_MAX,
    REPORT_SYMBOLS_MAX,
};
use crate::node::BREAKER_NAME_BYTES_MAX;
use crate::parse::{BarInterval, Beginning, DeliveryMode, Pattern, TimeNs, deadline, whole_number};
use crate::wire::{Seq, Symbol};

/// A real-time market-quote system: sequenced, journaled, fanned out, sharded and queried.
#[derive(Debug, Parser)]
#[command(name = "pregao", version, long_version = super::VERSION, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 complete, 2 usage, 3 partial, 4 failed, 5 cannot start.")]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Stands below the flags of an exchange.
const SEVERAL_EXCHANGES: &str = "\
The configuration can list several exchanges, as [[exchange]]. Each that we run is a node of its own. A flag holds for \
all of them. A tape is for one: --tape NAME=FILE. --rate is for those that play no tapes.";

/// Stands below the flags of `watch`.
const WATCH_KEYS: &str = "\
Keys: up and down move, Enter chooses an instrument, / filters, s sorts, Tab shows the next view, ? shows all keys, \
q quits. It needs a terminal of 60x15 at least. `subscribe` and `status` print lines instead.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the whole system: eight nodes under one supervisor
    #[command(after_help = SEVERAL_EXCHANGES)]
    All {
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        market: MarketFlags,
        #[command(flatten)]
        broker: BrokerFlags,
        #[command(flatten)]
        core: CoreFlags,
        #[command(flatten)]
        playground: PlaygroundFlag,
    },
    /// Run an exchange: replayed tapes or a synthetic market
    #[command(after_help = SEVERAL_EXCHANGES)]
    External {
        /// Which exchange, where the configuration has several
        #[arg(long, value_name = "NAME")]
        exchange: Option<ExchangeName>,
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
        #[command(flatten)]
        market: MarketFlags,
        #[command(flatten)]
        playground: PlaygroundFlag,
    },
    /// Run the broker: 1:N distribution by topic
    Broker {
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
        #[command(flatten)]
        broker: BrokerFlags,
    },
    /// Run core: sequences, journals and publishes the exchange's feed
    Core {
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
        #[command(flatten)]
        core: CoreFlags,
    },
    /// Run one shard of the history
    Shard {
        /// Which part of the history, A to P
        #[arg(long, value_name = "LETTER")]
        partition: Partition,
        /// Which copy of it; 0 is the first
        #[arg(long, value_name = "N", default_value_t = 0,
              allow_negative_numbers = true,
              value_parser = whole_number::<u8>(0, u64::from(REPLICAS_MAX) - 1))]
        replica: u8,
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
    },
    /// Run another node that answers current quotes
    Replica {
        /// Which; core itself is 0
        #[arg(long, value_name = "N", default_value_t = 1,
              allow_negative_numbers = true,
              value_parser = whole_number::<u8>(1, u64::from(REPLICAS_MAX) - 1))]
        replica: u8,
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
    },
    /// Run the aggregator: one answer from current price and history
    Aggregator {
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
    },
    /// Run the gateway: the page, WebSocket, events and HTTP
    Gateway {
        #[command(flatten)]
        node: NodeFlags,
        #[command(flatten)]
        metrics: MetricsFlag,
        #[command(flatten)]
        playground: PlaygroundFlag,
    },
    /// Show frames as they come
    Subscribe(SubscribeFlags),
    /// Watch quotes, one instrument and the system in a terminal
    #[command(after_help = WATCH_KEYS)]
    Watch(WatchFlags),
    /// Show the current quote and history of symbols
    Report(ReportFlags),
    Publish(PublishFlags),
    /// Show what each node says about itself
    Status(StatusFlags),
    /// Open, close or disable a circuit breaker by hand
    Breaker(BreakerFlags),
    Verify(VerifyFlags),
    Dump(DumpFlags),
    Export(ExportFlags),
    Recover(RecoverFlags),
    Repartition(RepartitionFlags),
    Convert(ConvertFlags),
    /// Stop the system that runs on a data directory
    Stop {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(flatten)]
        data_dir: DataDirFlag,
    },
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct ConfigFlag {
    /// Configuration file; flags override it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct DataDirFlag {
    /// Directory of all logs [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct HostFlag {
    /// Host of the nodes that the configuration gives by port alone [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", value_parser = host::ip_of)]
    pub(super) host: Option<std::net::IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct MetricsFlag {
    /// Where this node also tells its own figures by HTTP: a port of 127.0.0.1, or HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = metrics_address)]
    pub(super) metrics: Option<SocketAddr>,
}

/// A port is one of this machine alone: whoever wants others to read the figures says so.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| "give a port, or an address and a port, like 10.0.0.7:9100".to_owned())
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct ReplicasFlag {
    /// Copies of each part of the history, and nodes that answer quotes [default: 1]
    #[arg(long, value_name = "N",
          allow_negative_numbers = true,
          value_parser = whole_number::<u8>(1, u64::from(REPLICAS_MAX)))]
    pub(super) replicas: Option<u8>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct NodeFlags {
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) data_dir: DataDirFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    /// Listen also where other machines reach it: whoever does may read, publish and stop
    #[arg(long)]
    pub(super) insecure: bool,
    #[command(flatten)]
    pub(super) replicas: ReplicasFlag,
    /// Least severe log lines shown: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log: LevelFilter,
    /// Process id of the supervisor that started this node
    #[arg(long, value_name = "PID", hide = true)]
    pub(super) parent: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct MarketFlags {
    /// Tapes to replay: files, or data directories; none: a synthetic market
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub(super) tape: Vec<PathBuf>,
    /// Of the tapes, what was recorded from here on, as 2012-06-21T13:30:00Z
    #[arg(long, value_name = "TIME", requires = "tape")]
    pub(super) from: Option<TimeNs>,
    /// Of the tapes, what was recorded before this
    #[arg(long, value_name = "TIME", requires = "tape")]
    pub(super) to: Option<TimeNs>,
    /// Of the tapes, these instruments: PETR4, PETR* or *; may be given more than once
    #[arg(long = "symbol", value_name = "PATTERN", requires = "tape")]
    pub(super) symbols: Vec<String>,
    /// Replay speed: 1 is real time, 10 ten times that, 0.5 half, max without waiting, 0 stands still
    #[arg(long, value_name = "FACTOR")]
    pub(super) speed: Option<Speed>,
    /// Begin again at the end of the tapes
    #[arg(long = "loop")]
    pub(super) looped: bool,
    /// How several tapes lie beside each other: clock, by the time at which they were recorded, or start, all from their beginning
    #[arg(long, value_name = "HOW")]
    pub(super) align: Option<Align>,
    /// Take what is whole of a tape that ends in the middle of a record
    #[arg(long)]
    pub(super) allow_torn: bool,
    /// Events a second of the synthetic market
    #[arg(long, value_name = "EVENTS_PER_S", conflicts_with = "tape",
          allow_negative_numbers = true,
          value_parser = whole_number::<u64>(1, RATE_EVENTS_PER_S_MAX))]
    pub(super) rate: Option<u64>,
    /// Seed of the synthetic market and of the chaos
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = whole_number::<u64>(0, u64::MAX))]
    pub(super) seed: Option<u64>,
    /// How the exchange misbehaves on purpose
    #[arg(long, value_name = "SPEC")]
    pub(super) chaos: Option<String>,
}

impl MarketFlags {
    /// The same flags again, for the child that they are meant for.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        // `--flag=value`, so that a value which begins with a dash stays a value.
        let mut add = |flag: &str, value: &OsString| {
            let mut argument = OsString::from(flag);
            argument.push("=");
            argument.push(value);
            arguments.push(argument);
        };
        for tape in &self.tape {
            add("--tape", &tape.clone().into());
        }
        for symbol in &self.symbols {
            add("--symbol", &symbol.clone().into());
        }
        let numbers = [
            ("--from", self.from.map(|time| time.0.to_string())),
            ("--to", self.to.map(|time| time.0.to_string())),
            ("--speed", self.speed.map(|speed| speed.to_string())),
            ("--rate", self.rate.map(|rate| rate.to_string())),
            ("--seed", self.seed.map(|seed| seed.to_string())),
            ("--chaos", self.chaos.clone()),
            ("--align", self.align.map(|align| align.to_string())),
        ];
        for (flag, value) in numbers {
            if let Some(value) = value {
                add(flag, &value.into());
            }
        }
        if self.looped {
            arguments.push("--loop".into());
        }
        if self.allow_torn {
            arguments.push("--allow-torn".into());
        }
        arguments
    }
}

impl NodeFlags {
    /// The same flags again, for a child.
    pub(super) fn to_arguments(&self, parent: u32) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: &OsString| {
            let mut argument = OsString::from(flag);
            argument.push("=");
            argument.push(value);
            arguments.push(argument);
        };
        if let Some(file) = &self.config.config {
            add("--config", &file.clone().into());
        }
        if let Some(dir) = &self.data_dir.data_dir {
            add("--data-dir", &dir.clone().into());
        }
        if let Some(host) = self.host.host {
            add("--host", &host.to_string().into());
        }
        if let Some(replicas) = self.replicas.replicas {
            add("--replicas", &replicas.to_string().into());
        }
        add("--log", &self.log.to_string().to_lowercase().into());
        add("--parent", &parent.to_string().into());
        if self.insecure {
            arguments.push("--insecure".into());
        }
        arguments
    }
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct BrokerFlags {
    /// Threads that share the broker's fan-out [default: 1]
    #[arg(long, value_name = "N",
          allow_negative_numbers = true,
          value_parser = whole_number::<u32>(1, u64::from(REACTORS_MAX)))]
    pub(super) reactors: Option<u32>,
}

impl BrokerFlags {
    /// The same flags again, for the child that they are meant for.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        self.reactors.iter().map(|count| format!("--reactors={count}").into()).collect()
    }
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct CoreFlags {
    /// Store another feed behind the one that the journal holds
    #[arg(long)]
    pub(super) append: bool,
}

impl CoreFlags {
    /// The same flags again, for the child that they are meant for.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        if self.append { vec!["--append".into()] } else { Vec::new() }
    }
}

#[derive(Clone, Debug, Default, Args)]
pub(super) struct PlaygroundFlag {
    /// Let the page break things on purpose: open breakers, kill nodes, have an exchange misbehave
    #[arg(long)]
    pub(super) playground: bool,
}

impl PlaygroundFlag {
    /// The same flags again, for the child that they are meant for.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        if self.playground { vec!["--playground".into()] } else { Vec::new() }
    }
}

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    #[default]
    Table,
    /// One object a line.
    Json,
}

/// What to do with an answer of which a part is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Partial {
    #[default]
    Allow,
    Deny,
}

#[derive(Debug, Args)]
pub(super) struct SubscribeFlags {
    /// PETR4, PETR*, * (all, the default), or one of these behind trade., quote., cancel. or bar.1m.
    #[arg(value_name = "PATTERN", num_args = 0..=PATTERNS_MAX)]
    pub(super) patterns: Vec<Pattern>,
    /// Stop after so many quotes, trades and cancels, or bars
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = whole_number::<u64>(1, u64::MAX))]
    pub(super) count: Option<u64>,
    /// Stop after this time, as in 10s
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration)]
    pub(super) duration: Option<Duration>,
    /// When too slow: lossless, latest, or conflate=250ms
    #[arg(long, value_name = "MODE", default_value = "lossless")]
    pub(super) mode: DeliveryMode,
    /// First sequence number wanted, or the time at which core received it, as 2012-06-21T13:30:00Z, instead of a
    /// snapshot
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    pub(super) from: Option<Beginning>,
    /// Replay from there at this speed: 1 is the pace at which core received it, 60 sixty times that, max does not wait
    #[arg(long, value_name = "FACTOR", requires = "from")]
    pub(super) speed: Option<Speed>,
    /// With --speed: where the replay meets the end of the journal, go on live, and say where
    #[arg(long, requires = "speed")]
    pub(super) then_live: bool,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    /// How frames are shown
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct WatchFlags {
    /// Instruments of the list: PETR4, PETR*, or * (all, the default)
    #[arg(value_name = "PATTERN", num_args = 0..=PATTERNS_MAX, value_parser = symbol_pattern)]
    pub(super) patterns: Vec<feed::Pattern>,
    /// Length of the bars at first: 5s, 1m, 1h, 1d
    #[arg(long, value_name = "LENGTH", default_value = "1m")]
    pub(super) bars: BarInterval,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    #[command(flatten)]
    pub(super) replicas: ReplicasFlag,
}

#[derive(Debug, Args)]
pub(super) struct ReportFlags {
    /// Symbols to report on, or patterns: PETR4, PETR*, *
    #[arg(value_name = "SYMBOL", required = true, num_args = 1..=REPORT_SYMBOLS_MAX,
          value_parser = symbol_pattern)]
    pub(super) symbols: Vec<feed::Pattern>,
    /// The last N trades [default: 10]
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to", "bars"],
          allow_negative_numbers = true,
          value_parser = whole_number::<u32>(0, u64::from(REPORT_ROWS_MAX)))]
    pub(super) last: Option<u32>,
    /// Trades from this time on: nanoseconds since 1970, or 2012-06-21T13:30:00Z
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<TimeNs>,
    /// Trades before this time
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<TimeNs>,
    /// Bars of this length instead of trades: 5s, 1m, 1h, 1d
    #[arg(long, value_name = "LENGTH")]
    pub(super) bars: Option<BarInterval>,
    /// How long to wait for the whole answer
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = deadline)]
    pub(super) deadline: Duration,
    /// Whether an answer may miss a part (exit code 3) or fails instead [default: allow; deny with
    /// --average, --spread and --movers]
    #[arg(long, value_enum)]
    pub(super) partial: Option<Partial>,
    /// The average of the current prices instead of rows
    #[arg(long, conflicts_with_all = ["last", "from", "to", "bars", "spread", "movers"])]
    pub(super) average: bool,
    /// Least, median, mean and largest spread of the live quotes instead of rows
    #[arg(long, conflicts_with_all = ["last", "from", "to", "bars", "movers"])]
    pub(super) spread: bool,
    /// The N symbols whose price moved most from the first trade to the last, of the range if one is
    /// given, instead of rows
    #[arg(long, value_name = "N", conflicts_with_all = ["last", "bars"],
          allow_negative_numbers = true,
          value_parser = whole_number::<u32>(1, u64::from(REPORT_ROWS_MAX)))]
    pub(super) movers: Option<u32>,
    /// Rows with a sequence number below this only, from all nodes; same: the newest such cut
    #[arg(long, value_name = "SEQ|same", value_parser = cut)]
    pub(super) as_of: Option<Seq>,
    /// Show when and why each node was asked
    #[arg(long)]
    pub(super) explain: bool,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    /// How the report is shown
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct StatusFlags {
    /// How long to wait for each node
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = deadline)]
    pub(super) deadline: Duration,
    /// Show every figure, not only nodes and breakers
    #[arg(long, short)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    #[command(flatten)]
    pub(super) replicas: ReplicasFlag,
    /// How the status is shown
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct BreakerFlags {
    /// Which, as `pregao status` names it: core.exchange, core.xnas, aggregator.shard-A
    #[arg(value_name = "NAME", value_parser = breaker_name)]
    pub(super) name: String,
    /// What to do
    #[arg(value_enum, value_name = "ACTION")]
    pub(super) action: Action,
    /// How long to wait for its node
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = deadline)]
    pub(super) deadline: Duration,
    #[command(flatten)]
    pub(super) config: ConfigFlag,
    #[command(flatten)]
    pub(super) host: HostFlag,
    /// How the breaker is shown afterwards
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// What an operator does to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Action {
    /// Deny every call, and end the connection that it guards, until told otherwise
    ForceOpen,
    /// Let calls through and judge them anew
    Close,
    /// Let every call through and judge nothing
    Disable,
    /// Let every call through and keep rates without acting on them
    MetricsOnly,
    /// Start anew: closed, with the first wait and no last error
    Reset,
}

fn breaker_name(text: &str) -> Result<String, String> {
    let is_name = (1..=BREAKER_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name { Ok(text.to_owned()) } else { Err("`pregao status` shows the names".into()) }
}

/// A symbol, a longer name, a prefix and `*`, or `*`, as it fits a QUERY.
fn symbol_pattern(text: &str) -> Result<feed::Pattern, String> {
    if text.ends_with('*') && text.len() > Symbol::BYTES_MAX {
        return Err("the beginning of a name has at most 23 characters before its *; give fewer, or the whole name".into());
    }
    let is_symbol = text.ends_with('*') || Symbol::meant_by(text).is_ok();
    feed::Pattern::new(text, 0).ok().filter(|_| is_symbol).ok_or_else(|| {
        "a symbol is 1 to 80 printable ASCII characters, without accents; with * last it is a pattern, as in 'PETR*'"
            .into()
    })
}

fn cut(text: &str) -> Result<Seq, String> {
    match text {
        "same" => Ok(NEWEST_COMMON_CUT),
        text => {
            let seq = text.parse().ok().and_then(Seq::new).filter(|seq| *seq < NEWEST_COMMON_CUT);
            seq.ok_or_else(|| "a cut is a sequence number from 1 on, or the word same".into())
        }
    }
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("give it some time, as in 10s".into()) } else { Ok(duration) }
}
