//! The command line, and its two small languages: shares (`1%`) and frequencies (`10/s`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pregao::duration;

use crate::limits::INSTRUMENTS_MAX;
use crate::target::Target;

/// Open-loop load and end-to-end latency for pregao and its peers.
///
/// Without --rate it listens to the live market of a running `pregao all`; with --rate it publishes
/// instruments of its own, beside the market, and times each delivery from the moment at which its
/// message was to be sent.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 valid, 2 usage, 3 measured but not valid, 4 failed.")]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start our broker and whichever peers are installed, and measure them side by side
    Compare(CompareFlags),
    /// A loop of bare writes, which `compare` starts
    #[command(hide = true)]
    Bare {
        /// Where it listens
        #[arg(long, value_name = "IP:PORT")]
        listen: SocketAddr,
    },
    /// Ask a running system, and measure the answers
    Query(crate::query::QueryFlags),
    /// Bring events to a running core as a producer, as fast as it takes them
    Produce(crate::produce::ProduceFlags),
}

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned text
    #[default]
    Table,
    /// One object a line
    Json,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunFlags {
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,
    /// Messages a second to publish; without it the live market is measured
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) rate: Option<u64>,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive)]
    pub(crate) duration: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub(crate) warm_up: Duration,
    /// Instruments to publish, with popularity after Zipf's law
    #[arg(long, value_name = "M", default_value = "100", requires = "rate",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(INSTRUMENTS_MAX)))]
    pub(crate) instruments: u32,
    /// Instruments that each subscriber watches; without it everybody gets everything
    #[arg(long, value_name = "K", requires = "rate",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) watch: Option<u32>,
    /// System to drive
    #[arg(long, value_enum, default_value = "pregao")]
    pub(crate) target: Target,
    /// Where it listens [default: 127.0.0.1 and the target's usual port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) addr: Option<SocketAddr>,
    /// Where messages are published, if not at --addr: the broker of pregao-ws, the plain port of nats-ws [default:
    /// 127.0.0.1 and its usual port]
    #[arg(long, value_name = "IP:PORT", requires = "rate")]
    pub(crate) publish_addr: Option<SocketAddr>,
    /// Receiving threads
    #[arg(long, value_name = "T", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Share of the subscribers that never read, as in 1%
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    pub(crate) stall: Share,
    /// Share of the subscribers that read at half speed, as in 5%
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    pub(crate) slow: Share,
    /// Subscribers that leave and come back, as in 10/s
    #[arg(long, value_name = "FREQUENCY", value_parser = frequency)]
    pub(crate) churn: Option<u32>,
    /// Source number to publish as; 1 is the market. With pregao-ws it is always 1, since a gateway
    /// follows the market alone, so core must not run
    #[arg(long, value_name = "N", default_value = "2",
          value_parser = clap::value_parser!(u8).range(2..=7))]
    pub(crate) source: u8,
    /// Process to read the costs from [default: the one that listens on the address]
    #[arg(long, value_name = "PID")]
    pub(crate) broker_pid: Option<u32>,
    /// Seed of popularity and watch lists
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Write percentiles and time line as a picture
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Write an interval log in the format of HdrHistogram
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
}

/// What to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Everybody gets everything: the highest rate that is sustained
    FullFeed,
    /// Everybody watches 20 of 500 instruments: the highest rate that is sustained
    WatchList,
    /// Everybody gets 20, then 100 messages a second: cost per delivery and latency
    LightLoad,
    /// One subscriber: 20,000 messages a second, then the highest rate that is sustained
    OneToOne,
    /// Our broker: 1 % never read and 5 % read slowly, beside the same run without them
    Hardship,
    /// Our broker: who joins while the feed runs
    LateJoin,
    /// A whole `pregao all` whose broker is killed under its subscribers
    Restart,
    /// Our broker: ticks while 1,000 subscribers with 1,024 patterns each join
    Joins,
    /// Our core and broker: ticks while 300, then 1,000 clients read replays
    Replays,
    /// Our broker: 19,000 subscribers beside --subscribers
    Many,
    /// Our broker: subscribers that leave and come back
    Churn,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CompareFlags {
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,
    /// Scenarios to run [default: full-feed watch-list light-load one-to-one]
    #[arg(long, value_enum, num_args = 1..)]
    pub(crate) scenario: Vec<Scenario>,
    /// Systems to compare [default: all that are installed]
    #[arg(long, value_enum, num_args = 1..)]
    pub(crate) target: Vec<Target>,
    /// How long each trial measures
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = positive)]
    pub(crate) duration: Duration,
    /// How long each trial runs before it measures
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration::parse)]
    pub(crate) warm_up: Duration,
    /// Receiving threads
    #[arg(long, value_name = "T", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Repeats of each figure, of which the median counts [default: 1; hardship 3; joins and
    /// replays 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub(crate) repeat: Option<u16>,
    /// Messages a second of hardship, late-join, many, churn, joins and replays [default: 1000, 100, 5, 400,
    /// 1000, 1000]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Share of the subscribers that never read, in hardship
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub(crate) stall: Share,
    /// Share of the subscribers that read at half speed, in hardship
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub(crate) slow: Share,
    /// Subscribers that leave and come back, in churn
    #[arg(long, value_name = "FREQUENCY", default_value = "10/s", value_parser = frequency)]
    pub(crate) churn: u32,
    /// Subscribers that join, in late-join
    #[arg(long, value_name = "N", default_value = "50",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) joiners: u32,
    /// Reactors of our broker, passed on to it
    #[arg(long, value_name = "N")]
    pub(crate) reactors: Option<u16>,
    /// Loopback address that the compared systems listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
    /// The pregao binary [default: beside this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) pregao: Option<PathBuf>,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// A share in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    /// The share of a count, rounded up: a share that is not zero is somebody.
    pub(crate) fn of(self, count: usize) -> usize {
        let part = (count as u64 * u64::from(self.0)).div_ceil(10_000);
        usize::try_from(part).unwrap_or(count).min(count)
    }
}

/// Reads `1%`, `2.5%`, `0.25%`.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    let form =
        || "a share is a percentage with at most two decimals, such as 5% or 0.25%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(form)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let has_point = number.contains('.');
    if whole.is_empty()
        || whole.len() > 3
        || decimals.len() > 2
        || has_point && decimals.is_empty()
        || !digits(whole)
        || !digits(decimals)
    {
        return Err(form());
    }
    let hundredths: u32 = format!("{whole}{decimals:0<2}").parse().map_err(|_| form())?;
    if hundredths > 10_000 {
        return Err("a share is 100% at most".to_owned());
    }
    Ok(Share(hundredths))
}

/// Reads `10/s`.
pub(crate) fn frequency(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").and_then(|number| number.parse().ok());
    match number {
        Some(per_second @ 1..=10_000) => Ok(per_second),
        _ => Err("a frequency is a whole number from 1 to 10000 and /s, such as 10/s".to_owned()),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(10) {
        return Err("measure for 10ms at least, as in 10s".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_anything_else_is_refused() {
        let of_thousand = |text| share(text).unwrap().of(1_000);
        assert_eq!(
            ["0%", "1%", "5%", "0.25%", "2.5%", "100%", "0.01%"].map(of_thousand),
            [0, 10, 50, 3, 25, 1_000, 1]
        );
        for bad in
            ["", "%", "5", "-1%", "+1%", "101%", "1.234%", "1.%", ".5%", "5 %", "0x1%", "１%"]
        {
            assert!(share(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn frequencies_have_one_form() {
        assert_eq!(frequency("10/s"), Ok(10));
        for bad in ["10", "0/s", "10001/s", "-1/s", "1/m", "/s", "1.5/s"] {
            assert!(frequency(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
        let parse = |line: &str| CommandLine::try_parse_from(line.split_whitespace());
        assert!(parse("loadgen --subscribers 5000").is_ok());
        assert!(parse("loadgen --rate 100 --instruments 500 --watch 20 --stall 1%").is_ok());
        assert!(parse("loadgen --watch 20").is_err(), "watch lists need instruments of our own");
        assert!(parse("loadgen compare --scenario full-feed light-load").is_ok());
    }
}
