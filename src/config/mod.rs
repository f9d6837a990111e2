//! The configuration: what a TOML file can say, what holds when it does not, and what is refused.
//!
//! Every key has a default, so no file is needed. An unknown key is an error, never ignored.
//! Precedence: a flag on the command line, then the file given with `--config`, then the default.
//! Reading the file and applying the flags is done in `cli/`; nothing here touches a file.
//!
//! | section | keys |
//! |---|---|
//! | [`[net]`](Net) | `host`, `insecure`, `external`, `broker`, `core`, `shards`, `aggregator`, `gateway` |
//! | [`[metrics]`](Metrics) | `external`, `broker`, `core`, `shards`, `aggregator`, `gateway`, `core_replicas`, `shard_replicas` |
//! | [`[data]`](Data) | `dir`, `segment_bytes`, `durability`, `sync_interval`, `clock_step_max` |
//! | [`[partition]`](PartitionRule) | `by`, `ranges` |
//! | [`[[exchange]]`](ExchangeEntry) | `name`, `address`, `metrics`, `run`, `breaker`, and the keys of `[external]` |
//! | [`[external]`](External) | `tapes`, `align`, `allow_torn`, `speed`, `loop`, `rate`, `seed`, `chaos` |
//! | [`[broker]`](Broker) | `ring_frames`, `send_buffer_bytes`, `notsent_lowat_bytes`, `subscribers_max`, `unread_max`, `reactors` |
//! | [`[core]`](CoreNode) | `append`, `producers`, `connect_deadline`, `request_deadline`, `heartbeat_interval`, `heartbeat_deadline`, `retain_age`, `retain_bytes` |
//! | [`[shard]`](ShardNode) | `retain_age`, `retain_bytes` |
//! | [`[aggregator]`](AggregatorNode) | `behind_after` |
//! | [`[gateway]`](GatewayNode) | `run`, `ring_frames`, `subscriptions_max`, `unread_max`, `hosts`, `playground` |
//! | [`[breaker]`](breaker::Config) | the circuit breakers: names of resilience4j where the meaning is the same |
//!
//! Durations are texts: `"50ms"`, `"10s"` (see [`crate::duration`]).
//!
//! ```
//! let text = r#"
//!     [net]
//!     host = "127.0.0.1"
//!     external = 8080                    # on host
//!     core = "127.0.0.2:8082"            # exactly there
//!     shards = [9001, 9002]
//!
//!     [data]
//!     dir = "/var/lib/pregao"
//!     segment_bytes = 67108864
//!     durability = "interval"            # "none" | "interval" | "batch"
//!     sync_interval = "50ms"
//!
//!     [partition]
//!     by = "range"                       # or "hash"
//!     ranges = ["A-M", "N-Z"]
//!
//!     [external]
//!     tapes = ["tape.dbn.zst"]           # none: a synthetic market
//!     speed = "10"                       # times real time, or "max"
//!     loop = true
//!
//!     [broker]
//!     ring_frames = 262144
//!     subscribers_max = 10000
//!
//!     [core]
//!     heartbeat_deadline = "5s"
//! "#;
//! let config = pregao::config::Config::from_toml(text, "example.toml")?;
//! config.validate()?;
//! # Ok::<(), pregao::config::ConfigError>(())
//! ```

mod exchange;
mod external;
mod gateway;
pub mod host;
mod lines;
mod metrics;
mod net;
mod partition;
mod places;
mod speed;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use crate::market::venue::ExchangeNameError;
pub use exchange::{Exchange, ExchangeEntry, ExchangeKind, ExchangeName};
pub use external::{Align, External};
pub use gateway::GatewayNode;
pub use lines::{LinesSettings, LinesTimeUnit};
pub use metrics::Metrics;
pub use net::{Listen, Net, NodeId, Partition, PartitionError};
pub use partition::{PartitionBy, PartitionRule};
pub use speed::{Speed, SpeedError};

use crate::breaker;
use crate::duration;
use crate::limits;

/// Everything that can be configured. [`Config::default`] is what holds without a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the nodes listen.
    pub net: Net,
    /// Where nodes tell their own figures.
    pub metrics: Metrics,
    /// Where and how history is kept.
    pub data: Data,
    /// Which shard owns which symbols.
    pub partition: PartitionRule,
    /// The exchanges that feed core, when they are listed; see [`Config::exchanges`].
    #[serde(deserialize_with = "exchange::deserialize_list")]
    pub exchange: Vec<ExchangeEntry>,
    /// The exchange, or what entries of `[[exchange]]` leave out.
    pub external: External,
    /// Distribution.
    pub broker: Broker,
    /// The sequencer.
    pub core: CoreNode,
    /// Every shard.
    pub shard: ShardNode,
    /// The aggregator, and what its answers take for complete.
    pub aggregator: AggregatorNode,
    /// The node for browsers.
    pub gateway: GatewayNode,
    /// Every circuit breaker.
    pub breaker: breaker::Config,
}

/// Section `[data]`: where and how history is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// `dir`: the directory of all logs. Default `./data`.
    pub dir: PathBuf,
    /// `segment_bytes`: largest size of a log segment, which is allocated whole; a multiple of 4096 from 64 KiB to
    /// 4 GiB. Default 64 MiB. A log begins with a segment of 1 MiB.
    pub segment_bytes: u64,
    /// `durability`: what an acknowledgement waits for. Default `"interval"`.
    pub durability: Durability,
    /// `sync_interval`: under `durability = "interval"`, time between two syncs. Default `"50ms"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub sync_interval: Duration,
    /// `clock_step_max`: a step of the wall clock of more than this, ahead or back, makes no log older or younger
    /// until the node is started again; 100 ms to 24 h. Default `"10s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub clock_step_max: Duration,
}

/// What survives what. All three survive the death of a process, since the kernel has the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// No syncs: a loss of power may lose everything the kernel had not written by itself.
    None,
    /// A sync every `sync_interval`: a loss of power loses at most about that much.
    #[default]
    Interval,
    /// Acknowledged after the sync that covers it: a loss of power loses nothing acknowledged.
    Batch,
}

/// Section `[broker]`: distribution.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// `ring_frames`: frames held for slow subscribers, 64 bytes each; a power of two from 64 to
    /// 2^24. Default 262144 (16 MiB).
    pub ring_frames: u32,
    /// `send_buffer_bytes`: the kernel's send buffer of each subscriber (SO_SNDBUF), 4 KiB to
    /// 64 MiB; 0 leaves the kernel's own. Default 65536: with less, one loopback segment does not fit and a
    /// single fast subscriber stalls.
    pub send_buffer_bytes: u32,
    /// `notsent_lowat_bytes`: unsent bytes above which a subscriber counts as not writable
    /// (TCP_NOTSENT_LOWAT), 4 KiB to 64 MiB; 0 leaves the kernel's own. Default 16384.
    pub notsent_lowat_bytes: u32,
    /// `subscribers_max`: connections beyond it are refused. Default 10000.
    pub subscribers_max: u32,
    /// `unread_max`: a subscriber that takes nothing for this long, while something waits for it, is closed; 2 s to
    /// 1 h. Default `"60s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub unread_max: Duration,
    /// `reactors`: threads that share the fan-out, 1 to 16. Default 1; more help only where there are
    /// cores for them.
    pub reactors: u32,
}

/// Whose producers core takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Producers {
    /// Of any exchange that core does not dial. A new name gets a number for as long as the journal stands.
    #[default]
    Any,
    /// Of exchanges that `[[exchange]]` lists.
    Listed,
}

/// Section `[core]`: the sequencer's session with the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreNode {
    /// `append`: store another feed behind the one that the journal holds, also where one of both is a recording.
    /// Default false: it is refused.
    pub append: bool,
    /// `producers`: whose producers are taken: of `"any"` exchange (default), or of a `"listed"` one.
    pub producers: Producers,
    /// `connect_deadline`: time for a connect, our own and not the kernel's two minutes. Default
    /// `"1s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub connect_deadline: Duration,
    /// `request_deadline`: time for the exchange to answer. Default `"1s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request_deadline: Duration,
    /// `heartbeat_interval`: how often the exchange is asked whether it lives. Default
    /// `"1s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub heartbeat_interval: Duration,
    /// `heartbeat_deadline`: silence after which its session is given up; longer than the
    /// interval. Default `"5s"`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub heartbeat_deadline: Duration,
    /// `retain_age`: whole journal segments that were left longer ago are removed, once every
    /// configured shard holds what they have durably. Default: none is.
    #[serde(deserialize_with = "some_duration")]
    pub retain_age: Option<Duration>,
    /// `retain_bytes`: while the journal's files are larger, the oldest segment is removed, on the
    /// same condition. Default: no bound.
    pub retain_bytes: Option<u64>,
}

/// Section `[shard]`: what every shard keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardNode {
    /// `retain_age`: whole segments that were left longer ago are removed. Default: none is.
    #[serde(deserialize_with = "some_duration")]
    pub retain_age: Option<Duration>,
    /// `retain_bytes`: while a shard's files are larger, its oldest segment is removed. Default: no
    /// bound.
    pub retain_bytes: Option<u64>,
}

/// Section `[aggregator]`: what an answer has to have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AggregatorNode {
    /// `behind_after`: an answer is not complete when a node in it has been behind core for longer. Default:
    /// 3 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub behind_after: Duration,
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(from).map(Some)
}

impl Default for Data {
    fn default() -> Data {
        Data {
            dir: PathBuf::from("./data"),
            segment_bytes: 64 * 1024 * 1024,
            durability: Durability::default(),
            sync_interval: Duration::from_millis(50),
            clock_step_max: limits::CLOCK_STEP_DEFAULT,
        }
    }
}

impl Default for Broker {
    fn default() -> Broker {
        Broker {
            ring_frames: 1 << 18,
            send_buffer_bytes: 64 * 1024,
            notsent_lowat_bytes: 16 * 1024,
            subscribers_max: 10_000,
            unread_max: limits::UNREAD_WAIT_DEFAULT,
            reactors: 1,
        }
    }
}

impl Default for AggregatorNode {
    fn default() -> AggregatorNode {
        AggregatorNode { behind_after: limits::BEHIND_AFTER_DEFAULT }
    }
}

impl Default for CoreNode {
    fn default() -> CoreNode {
        CoreNode {
            append: false,
            producers: Producers::default(),
            connect_deadline: Duration::from_secs(1),
            request_deadline: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_deadline: Duration::from_secs(5),
            retain_age: None,
            retain_bytes: None,
        }
    }
}

/// What is wrong with a configuration: one line with the place and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    place: String,
    problem: String,
}

impl ConfigError {
    /// An error at `place`, which names the section and the key.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError { place: place.into(), problem: problem.into() }
    }

    /// An error in a TOML text: its line, its section, and the line itself, which has the key.
    fn in_toml(text: &str, file: &str, error: &toml::de::Error) -> ConfigError {
        const QUOTED_CHARS_MAX: usize = 60;
        let problem = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
            return ConfigError::new(file, problem);
        };
        let number = before.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or("").trim();
        let mut quoted: String = line
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .take(QUOTED_CHARS_MAX)
            .collect();
        if line.chars().nth(QUOTED_CHARS_MAX).is_some() {
            quoted.push('…');
        }
        let mut place = format!("{file} line {number}");
        // The span of a whole section (a missing or wrong section) begins at its own header line.
        let header =
            text.lines().take(number).map(str::trim).filter(|line| line.starts_with('[')).last();
        if let Some(header) = header.and_then(|header| header.split(']').next())
            && !line.starts_with('[')
        {
            let end = if header.starts_with("[[") { "]]" } else { "]" };
            place.push_str(&format!(", {}{end}", header.replace(char::is_control, "?")));
        }
        ConfigError::new(format!("{place}, `{quoted}`"), problem)
    }
}

impl Config {
    /// Reads a configuration file's text; `file` is its name for messages. The limits are not yet
    /// checked: flags may still change values, then comes [`Config::validate`].
    ///
    /// # Errors
    /// When the text is no TOML, has an unknown key or a value of the wrong form.
    pub fn from_toml(text: &str, file: &str) -> Result<Config, ConfigError> {
        let wrong = |error| ConfigError::in_toml(text, file, &error);
        let mut config: Config = toml::from_str(text).map_err(wrong)?;
        config.complete_breakers(text).map_err(wrong)?;
        Ok(config)
    }

    /// Checks all limits, and what one key demands of another.
    ///
    /// # Errors
    /// The first key that is wrong, and what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.net.validate()?;
        // Before what takes it over, so that the right section is named.
        self.external.validate("[external]")?;
        let wrong = |error: breaker::ConfigError| ConfigError::new("[breaker]", error.to_string());
        self.breaker.validate().map_err(wrong)?;
        self.validate_exchanges()?;
        self.validate_places()?;
        self.validate_metrics()?;
        self.data.validate()?;
        self.partition.partition(self.net.shards.len())?;
        self.broker.validate()?;
        self.core.validate()?;
        self.shard.validate()?;
        self.gateway.validate()?;
        let range = limits::BEHIND_AFTER_MIN..=limits::BEHIND_AFTER_MAX;
        duration_within("[aggregator] behind_after", self.aggregator.behind_after, &range)
    }

    /// How far behind core a node may be whose answer is complete. What core has to sync before it may be
    /// sent is not behind.
    #[must_use]
    pub fn behind_max(&self) -> Duration {
        let is_spread = self.data.durability == Durability::Interval;
        let wait = if is_spread { self.data.sync_interval } else { Duration::ZERO };
        self.aggregator.behind_after + wait
    }
}

impl Data {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.dir.as_os_str().is_empty() {
            return Err(ConfigError::new("[data] dir", "is empty; name a directory"));
        }
        let bytes = self.segment_bytes;
        let range = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        if !range.contains(&bytes) || !bytes.is_multiple_of(limits::SEGMENT_BYTES_STEP) {
            let problem = format!(
                "{bytes} is no size of a segment; use a multiple of {} from {} to {}",
                limits::SEGMENT_BYTES_STEP,
                range.start(),
                range.end()
            );
            return Err(ConfigError::new("[data] segment_bytes", problem));
        }
        let range = limits::SYNC_INTERVAL_MIN..=limits::SYNC_INTERVAL_MAX;
        duration_within("[data] sync_interval", self.sync_interval, &range)?;
        let range = limits::CLOCK_STEP_MIN..=limits::CLOCK_STEP_MAX;
        duration_within("[data] clock_step_max", self.clock_step_max, &range)
    }
}

impl Broker {
    fn validate(&self) -> Result<(), ConfigError> {
        let frames = self.ring_frames;
        let range = limits::RING_FRAMES_MIN..=limits::RING_FRAMES_MAX;
        if !frames.is_power_of_two() || !range.contains(&frames) {
            let problem = format!(
                "{frames} is no size of the ring; use a power of two from {} to {}, like 262144",
                range.start(),
                range.end()
            );
            return Err(ConfigError::new("[broker] ring_frames", problem));
        }
        let range = limits::SEND_BUFFER_BYTES_MIN..=limits::SEND_BUFFER_BYTES_MAX;
        for (key, bytes) in [
            ("[broker] send_buffer_bytes", self.send_buffer_bytes),
            ("[broker] notsent_lowat_bytes", self.notsent_lowat_bytes),
        ] {
            if bytes != 0 && !range.contains(&bytes) {
                let problem = format!(
                    "{bytes} is outside {} to {}; 0 leaves the kernel's own",
                    range.start(),
                    range.end()
                );
                return Err(ConfigError::new(key, problem));
            }
        }
        within("[broker] reactors (--reactors)", self.reactors, &(1..=limits::REACTORS_MAX))?;
        let range = limits::UNREAD_WAIT_MIN..=limits::UNREAD_WAIT_MAX;
        duration_within("[broker] unread_max", self.unread_max, &range)?;
        within("[broker] subscribers_max", self.subscribers_max, &(1..=limits::SUBSCRIBERS_MAX))
    }
}

impl CoreNode {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = limits::DEADLINE_MIN..=limits::DEADLINE_MAX;
        duration_within("[core] connect_deadline", self.connect_deadline, &range)?;
        duration_within("[core] request_deadline", self.request_deadline, &range)?;
        duration_within("[core] heartbeat_interval", self.heartbeat_interval, &range)?;
        duration_within("[core] heartbeat_deadline", self.heartbeat_deadline, &range)?;
        if self.heartbeat_deadline <= self.heartbeat_interval {
            let problem = format!(
                "{} would give up every silent peer before it is asked; make it longer than \
                 heartbeat_interval, which is {}",
                duration::show(self.heartbeat_deadline),
                duration::show(self.heartbeat_interval)
            );
            return Err(ConfigError::new("[core] heartbeat_deadline", problem));
        }
        retention_within("[core]", self.retain_age, self.retain_bytes)
    }
}

impl ShardNode {
    fn validate(&self) -> Result<(), ConfigError> {
        retention_within("[shard]", self.retain_age, self.retain_bytes)
    }
}

fn retention_within(
    section: &str,
    age: Option<Duration>,
    bytes: Option<u64>,
) -> Result<(), ConfigError> {
    if let Some(age) = age {
        let range = limits::RETAIN_AGE_MIN..=limits::RETAIN_AGE_MAX;
        duration_within(&format!("{section} retain_age"), age, &range)?;
    }
    if let Some(bytes) = bytes {
        within(&format!("{section} retain_bytes"), bytes, &(limits::RETAIN_BYTES_MIN..=u64::MAX))?;
    }
    Ok(())
}

fn within<N: PartialOrd + std::fmt::Display>(
    key: &str,
    value: N,
    range: &RangeInclusive<N>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{value} is outside {} to {}", range.start(), range.end())))
}

fn duration_within(
    key: &str,
    value: Duration,
    range: &RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let [value, start, end] =
        [value, *range.start(), *range.end()].map(|d| duration::show(d).to_string());
    Err(ConfigError::new(key, format!("{value} is outside {start} to {end}")))
}

#[cfg(test)]
mod tests;
