//! The node commands: from a checked request to a running node. Here machines meet their shell.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::descriptors;
use super::exit::{Exit, Failure};
use super::{offline, siblings};
use crate::client::random_id;
use crate::config::{self, Config, Durability, Exchange, ExchangeKind, NodeId, host};
use crate::gateway::{self, Gateway, GatewayConfig};
use crate::http::HttpConnection;
use crate::limits;
use crate::log::{
    Log, LogConfig, OpenError, Recovery, Retention, Sequence, StorageError, SyncPolicy,
    UpstreamRule,
};
use crate::market::tape::{Align, Reading, Schedule, Tape, agree_on_quantities};
use crate::metrics::WithMetrics;
use crate::node::aggregator::{Aggregator, AggregatorConfig, LeafConfig};
use crate::node::broker::{Broker, BrokerConfig};
use crate::node::external::{External, ExternalConfig, FeedConfig, Speed};
use crate::node::lines::{Lines, LinesConfig};
use crate::node::replica::{Replica, ReplicaConfig};
use crate::node::sequencer::{ExchangeConfig, FollowerConfig, Sequencer, SequencerConfig};
use crate::node::session::Described;
use crate::node::shard::{Shard, ShardConfig, check_partition, keep_partition};
use crate::node::{ListenerId, Node, Timed};
use crate::reactor::{Listen, Options, Reactor, SocketOptions, run_together};
use crate::storage::FileStorage;
use crate::wire::{FRAME_BYTES, padded};

/// A node to run.
#[derive(Clone, Debug)]
pub struct NodeRequest {
    /// Which node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it tells its own figures by HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// The whole configuration, with flags applied and limits checked.
    pub config: Config,
}

/// Runs the node until it is asked to stop.
///
/// # Errors
/// [`Exit::CannotStart`] when it cannot start at all; [`Exit::Failed`] when it has to end.
pub fn node(request: &NodeRequest) -> Result<Exit, Failure> {
    let descriptors_max = descriptors::raise_limit();
    match request.node {
        NodeId::External | NodeId::Exchange(_) => external(request),
        NodeId::Broker => broker(request, descriptors_max),
        NodeId::Core => core(request),
        NodeId::Shard(partition) | NodeId::ShardReplica(partition, _) => shard(request, partition),
        NodeId::CoreReplica(_) => replica(request),
        NodeId::Aggregator => aggregator(request),
        NodeId::Gateway => gateway(request),
    }
}

/// An exchange.
fn external(request: &NodeRequest) -> Result<Exit, Failure> {
    let exchanges = request.config.exchanges();
    let exchange = exchanges.into_iter().find(|exchange| exchange.node() == request.node);
    let exchange = exchange
        .ok_or_else(|| Failure::usage(format!("no exchange {} is configured", request.node)))?;
    if exchange.kind == ExchangeKind::Lines {
        return lines(request, exchange);
    }
    let settings = exchange.played;
    let mut reactor = reactor(request, SocketOptions::default())?;
    let feed = if settings.tapes.is_empty() {
        FeedConfig::Synthetic {
            seed: settings.seed,
            events_per_second: settings.rate(),
            start_wall_ns: reactor.clock().now().wall_ns,
        }
    } else {
        let (schedule, remarks) = schedule(&settings)?;
        for remark in remarks {
            log::warn!("{remark}");
        }
        FeedConfig::Tapes { schedule, looped: settings.looped }
    };
    let config = ExternalConfig {
        feed,
        speed: match settings.speed {
            config::Speed::Max => Speed::Max,
            config::Speed::Thousandths(thousandths) => Speed::Times { thousandths },
        },
        chaos: settings.chaos().map_err(Failure::usage)?,
        // One word for the whole system: whoever lets the page break things means the exchange too.
        playground: request.config.gateway.playground,
        sessions_max: limits::EXCHANGE_SESSIONS_MAX,
    };
    let now = reactor.clock().now();
    run(request, &mut reactor, &mut External::new(config, now))
}

/// An exchange that programs write lines to.
fn lines(request: &NodeRequest, exchange: Exchange) -> Result<Exit, Failure> {
    let mut reactor = reactor_on(
        request,
        Listen {
            // The beginning of a line may wait for its end.
            unconsumed_bytes_max: limits::LINE_BYTES_MAX,
            // Lines have no heartbeats: a host that is gone would keep its place.
            sockets: SocketOptions {
                keepalive: Some(limits::LINE_KEEPALIVE),
                ..SocketOptions::default()
            },
            ..Listen::frames(request.address)
        },
    )?;
    let config = LinesConfig {
        name: exchange.name.to_string(),
        core: connect(&request.config, NodeId::Core)?,
        breaker: exchange.breaker,
        connect_deadline: request.config.core.connect_deadline,
        request_deadline: request.config.core.request_deadline,
        options: exchange.lines.options,
        quantity_decimals: exchange.lines.quantity_decimals,
        seed: random_id(),
    };
    let mut node = Lines::new(config).map_err(Failure::cannot_start)?;
    run(request, &mut reactor, &mut node)
}

/// Reads all tapes and merges them. Also what is to be said of each of them and of all together.
pub(super) fn schedule(external: &config::External) -> Result<(Schedule, Vec<String>), Failure> {
    let (allow_torn, selection) = (external.allow_torn, external.selection.clone());
    let reading = Reading { allow_torn, selection, ..Reading::default() };
    let mut remarks = Vec::new();
    let mut read = |path: &PathBuf| {
        let name = path.display();
        let tape = if path.is_dir() {
            offline::tape::read(path, &reading)?
        } else {
            offline::tape::read_file(path, &reading)?
        };
        remarks.extend(tape.remarks().iter().map(|remark| format!("tape {name}: {remark}")));
        Ok(tape)
    };
    let mut tapes = external.tapes.iter().map(&mut read).collect::<Result<Vec<Tape>, Failure>>()?;
    let align = match external.align {
        config::Align::Clock => Align::Clock,
        config::Align::Start => Align::Start,
    };
    let apart = |error: &dyn std::error::Error| {
        Failure::cannot_start(format!("the tapes cannot be replayed together: {error}"))
    };
    agree_on_quantities(&mut tapes).map_err(|error| apart(&error))?;
    let schedule = Schedule::new(&tapes, align).map_err(|error| apart(&error))?;
    remarks.extend(schedule.remarks().iter().map(|remark| format!("tapes: {remark}")));
    Ok((schedule, remarks))
}

/// The broker.
fn broker(request: &NodeRequest, descriptors_max: Option<u64>) -> Result<Exit, Failure> {
    let settings = &request.config.broker;
    let accepted = SocketOptions {
        send_buffer_bytes: Some(settings.send_buffer_bytes as usize).filter(|&bytes| bytes > 0),
        notsent_lowat_bytes: Some(settings.notsent_lowat_bytes).filter(|&bytes| bytes > 0),
        keepalive: None,
    };
    let ring_frames = settings.ring_frames as usize;
    let subscribers_max = settings.subscribers_max as usize;
    let fanouts = settings.reactors.max(1) as usize - 1;
    let unread_max = settings.unread_max;
    let config = BrokerConfig { unread_max, ..BrokerConfig::new(ring_frames, subscribers_max) };
    let kernel_bytes = 2 * settings.send_buffer_bytes as usize;
    let mut reactor = reactor(request, accepted)?;
    let (mut node, fanouts) = Broker::with_fanouts(config, fanouts);
    node.note_kernel_bytes(kernel_bytes);
    // Who finds no descriptor is refused, and needs no memory.
    let room = say_room(settings.subscribers_max.into(), descriptors_max);
    log::info!(
        "memory at most: ring {} MiB per source, {} subscribers x {} KiB",
        (ring_frames * FRAME_BYTES) >> 20,
        room,
        BrokerConfig::subscriber_bytes_max(kernel_bytes) >> 10,
    );
    if fanouts.is_empty() {
        return run(request, &mut reactor, &mut node);
    }
    let others = fanouts.into_iter().map(|fanout| Ok((Reactor::new(Options::default())?, fanout)));
    let others = others.collect::<std::io::Result<Vec<_>>>().map_err(|error| {
        Failure::cannot_start(format!("no room for {} reactors: {error}", settings.reactors))
    })?;
    say_where(request, &mut node);
    log::info!("{} reactors share its rings", settings.reactors);
    let outcome = match told_at(request, &reactor)? {
        Some(address) => {
            let mut node = WithMetrics::new(&mut node, request.node.to_string(), address);
            run_together(&mut reactor, &mut node, others)
        }
        None => run_together(&mut reactor, &mut node, others),
    };
    outcome.map_err(|error| Failure::failed(format!("{}: {error}", request.node)))?;
    log::info!("{} stopped", request.node);
    Ok(Exit::Complete)
}

/// Says for how many subscribers there are descriptors, and returns it: so many at most as are allowed.
fn say_room(subscribers_max: u64, descriptors_max: Option<u64>) -> u64 {
    let Some(room) = descriptors::room(descriptors_max) else { return subscribers_max };
    let limit = descriptors_max.unwrap_or(u64::MAX);
    if room < subscribers_max {
        log::warn!(
            "room for {room} subscribers, not for {subscribers_max}: at most {limit} files can be open; raise \
             the hard limit (ulimit -Hn), or lower [broker] subscribers_max"
        );
    } else {
        log::info!("room for {subscribers_max} subscribers: at most {limit} files can be open");
    }
    room.min(subscribers_max)
}

/// The sequencer.
fn core(request: &NodeRequest) -> Result<Exit, Failure> {
    let (config, settings) = (&request.config, &request.config.core);
    let mut reactor = reactor(request, SocketOptions::default())?;
    let rules = (UpstreamRule::CountAppended, Sequence::Contiguous);
    let retention = Retention { age_max: settings.retain_age, bytes_max: settings.retain_bytes };
    let directory = config.data.dir.join("core");
    let storage = open_storage(&directory, &reactor)?;
    let log_config = log_config(request, "core", rules, retention);
    let clock_step_max = config.data.clock_step_max;
    let (journal, recovery) = open_log(storage, &directory, &reactor, log_config, clock_step_max)?;
    let now = reactor.clock().now();
    let mut followers = vec![FollowerConfig {
        name: "broker".to_owned(),
        address: connect(config, NodeId::Broker)?,
        shard: None,
    }];
    for node in config.nodes() {
        let shard = shard_number(node);
        if shard.is_some() || matches!(node, NodeId::CoreReplica(_)) {
            let (name, address) = (node.to_string(), connect(config, node)?);
            followers.push(FollowerConfig { name, address, shard });
        }
    }
    let sequencer_config = SequencerConfig {
        exchanges: exchanges(config)?,
        followers,
        partition: partition(config)?,
        breaker: config.breaker.clone(),
        heartbeat: settings.heartbeat_interval,
        silence_max: settings.heartbeat_deadline,
        request_deadline: settings.request_deadline,
        connect_deadline: settings.connect_deadline,
        broker_warmup_frames: u64::from(config.broker.ring_frames) / 2,
        seed: seed(&reactor),
        epoch_id: random_id(),
        takes_unlisted: settings.producers == config::Producers::Any,
        appends: settings.append,
    };
    let mut node =
        Sequencer::new(sequencer_config, journal, &recovery, now).map_err(Failure::cannot_start)?;
    run(request, &mut reactor, &mut node)
}

/// Who feeds core: every exchange, whoever runs it. Core dials those that do not come by themselves.
fn exchanges(config: &Config) -> Result<Vec<ExchangeConfig>, Failure> {
    let exchange = |it: Exchange| {
        let address = match it.kind {
            ExchangeKind::Played => Some(connect(config, it.node())?),
            ExchangeKind::Producer | ExchangeKind::Lines => None,
        };
        let name = it.name.to_string();
        Ok(ExchangeConfig { name, address, breaker: it.breaker })
    };
    config.exchanges().into_iter().map(exchange).collect()
}

/// One shard.
fn shard(request: &NodeRequest, which: config::Partition) -> Result<Exit, Failure> {
    let mut reactor = reactor(request, SocketOptions::default())?;
    let name = request.node.to_string();
    let rules = (UpstreamRule::FollowSeq, Sequence::Increasing);
    let settings = &request.config.shard;
    let retention = Retention { age_max: settings.retain_age, bytes_max: settings.retain_bytes };
    let shard = u16::try_from(which.index()).unwrap_or(u16::MAX);
    let (partition, behind_max) = (partition(&request.config)?, request.config.behind_max());
    let config = ShardConfig { name: name.clone(), shard, partition, behind_max };
    let directory = request.config.data.dir.join(&name);
    let mut storage = open_storage(&directory, &reactor)?;
    check_partition(&config, &mut storage).map_err(Failure::cannot_start)?;
    let log_config = log_config(request, &name, rules, retention);
    let clock_step_max = request.config.data.clock_step_max;
    let (mut log, recovery) = open_log(storage, &directory, &reactor, log_config, clock_step_max)?;
    keep_partition(&config, &mut log).map_err(Failure::cannot_start)?;
    run(request, &mut reactor, &mut Shard::new(config, log, &recovery))
}

/// Another node that answers quotes.
fn replica(request: &NodeRequest) -> Result<Exit, Failure> {
    let mut reactor = reactor(request, SocketOptions::default())?;
    let config = ReplicaConfig { name: request.node.to_string() };
    run(request, &mut reactor, &mut Replica::new(config))
}

/// The aggregator.
fn aggregator(request: &NodeRequest) -> Result<Exit, Failure> {
    let config = &request.config;
    let mut reactor = reactor(request, SocketOptions::default())?;
    let mut leaves = Vec::new();
    for node in config.nodes() {
        let shard = shard_number(node);
        if shard.is_some() || node.answers_quotes() {
            let (name, address) = (node.to_string(), connect(config, node)?);
            leaves.push(LeafConfig { name, address, shard });
        }
    }
    let aggregator_config = AggregatorConfig {
        leaves,
        partition: partition(config)?,
        breaker: config.breaker.clone(),
        connect_deadline: config.core.connect_deadline,
        request_deadline: config.core.request_deadline,
        queries_per_client_max: limits::QUERIES_PER_CLIENT_MAX,
        behind_max: config.behind_max(),
        seed: seed(&reactor),
    };
    let mut node = Aggregator::new(&aggregator_config).map_err(Failure::usage)?;
    run(request, &mut reactor, &mut node)
}

/// The gateway.
fn gateway(request: &NodeRequest) -> Result<Exit, Failure> {
    let (config, settings) = (&request.config, &request.config.gateway);
    let sockets = SocketOptions {
        send_buffer_bytes: Some(config.broker.send_buffer_bytes as usize)
            .filter(|&bytes| bytes > 0),
        notsent_lowat_bytes: Some(config.broker.notsent_lowat_bytes).filter(|&bytes| bytes > 0),
        keepalive: Some(limits::LINE_KEEPALIVE),
    };
    let mut reactor = reactor_on(
        request,
        Listen {
            // The head of a request waits for its end.
            unconsumed_bytes_max: HttpConnection::OFFERED_BYTES_MAX,
            sockets,
            ..Listen::frames(request.address)
        },
    )?;
    let nodes = config.nodes().into_iter().filter(|node| *node != NodeId::Gateway);
    let nodes = nodes.map(|node| Ok((node.to_string(), connect(config, node)?)));
    let hosts = settings.allowed_hosts(request.address.port());
    let mut node = Gateway::new(GatewayConfig {
        broker: connect(config, NodeId::Broker)?,
        core: connect(config, NodeId::Core)?,
        nodes: nodes.collect::<Result<_, Failure>>()?,
        ring_frames: settings.ring_frames as usize,
        subscriptions_max: settings.subscriptions_max as usize,
        unread_max: settings.unread_max,
        breaker: config.breaker.clone(),
        connect_deadline: config.core.connect_deadline,
        hosts: hosts.map_err(|error| Failure::usage(error.to_string()))?,
        playground: settings.playground,
        kill: settings.playground.then_some(siblings::kill as gateway::Kill),
        seed: seed(&reactor),
    })
    .map_err(|error| Failure::usage(error.to_string()))?;
    run(request, &mut reactor, &mut node)
}

/// Binds the node's port, first of all: while a log is opened, peers wait in the kernel's queue. Were
/// they refused instead, every start would open their breakers.
fn reactor(request: &NodeRequest, accepted: SocketOptions) -> Result<Reactor, Failure> {
    reactor_on(request, Listen { sockets: accepted, ..Listen::frames(request.address) })
}

fn reactor_on(request: &NodeRequest, listen: Listen) -> Result<Reactor, Failure> {
    let address = request.address;
    // A poll would send a hedge up to a millisecond late.
    let is_punctual = request.node == NodeId::Aggregator;
    let mut listen = vec![listen];
    listen.extend(request.metrics.map(|address| Listen {
        unconsumed_bytes_max: HttpConnection::OFFERED_BYTES_MAX,
        sockets: SocketOptions {
            keepalive: Some(limits::LINE_KEEPALIVE),
            ..SocketOptions::default()
        },
        ..Listen::frames(address)
    }));
    let options = Options { listen, is_punctual };
    let mut reactor = Reactor::new(options).map_err(|error| {
        let key = request.config.address_key(request.node);
        let metrics_key = request.config.metrics_key(request.node);
        let (places, remedy) = match request.metrics {
            None => (address.to_string(), format!("set {key} in --config")),
            Some(metrics) => (
                format!("{address} and {metrics}"),
                format!("set {key} in --config, or {metrics_key}, or another --metrics"),
            ),
        };
        Failure::cannot_start(format!(
            "{} cannot listen on {places}: {error}; stop what listens there, or {remedy}",
            request.node,
        ))
    })?;
    let cannot =
        |error: std::io::Error| Failure::cannot_start(format!("cannot watch for signals: {error}"));
    reactor.stop_on(stop_pipe().map_err(cannot)?).map_err(cannot)?;
    Ok(reactor)
}

/// A stream that becomes readable at SIGTERM and SIGINT.
fn stop_pipe() -> std::io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Where the node tells its own figures, if anywhere.
fn told_at(request: &NodeRequest, reactor: &Reactor) -> Result<Option<SocketAddr>, Failure> {
    if request.metrics.is_none() {
        return Ok(None);
    }
    let address = reactor.local_addr_of(ListenerId(1)).map_err(|error| {
        Failure::cannot_start(format!("{}: no address for its figures: {error}", request.node))
    })?;
    log::info!("{} tells its figures on http://{address}/metrics", request.node);
    Ok(Some(address))
}

fn run<N: Node + Timed + Described>(
    request: &NodeRequest,
    reactor: &mut Reactor,
    node: &mut N,
) -> Result<Exit, Failure> {
    say_where(request, node);
    let outcome = match told_at(request, reactor)? {
        Some(address) => {
            reactor.run(&mut WithMetrics::new(node, request.node.to_string(), address))
        }
        None => reactor.run(node),
    };
    outcome.map_err(|error| Failure::failed(format!("{}: {error}", request.node)))?;
    log::info!("{} stopped", request.node);
    Ok(Exit::Complete)
}

/// Says where a node listens, and to whom that is open.
fn say_where(request: &NodeRequest, node: &mut impl Described) {
    log::info!("{} listens on {}", request.node, request.address);
    let addresses = [Some(request.address), request.metrics].into_iter().flatten();
    let exposed = addresses.filter(|it| host::is_exposed(*it)).map(|it| it.to_string());
    let exposed: Vec<String> = exposed.collect();
    if !exposed.is_empty() {
        let text = format!(
            "insecure: other machines reach {}, and nobody is asked who they are: they can read, publish and stop",
            exposed.join(" and ")
        );
        log::warn!("{text}");
        node.expose(text);
    }
}

/// Takes the directory of a node's log.
fn open_storage(directory: &Path, reactor: &Reactor) -> Result<FileStorage, Failure> {
    FileStorage::open(directory, Box::new(reactor.waker()))
        .map_err(|error| storage_failure(directory, &error))
}

/// How the log of this node is kept.
fn log_config(
    request: &NodeRequest,
    name: &str,
    (upstream, sequence): (UpstreamRule, Sequence),
    retention: Retention,
) -> LogConfig {
    let data = &request.config.data;
    LogConfig {
        name: padded(name),
        segment_records: (data.segment_bytes - limits::SEGMENT_BYTES_STEP) / FRAME_BYTES as u64,
        policy: match data.durability {
            Durability::None => SyncPolicy::None,
            Durability::Interval => SyncPolicy::Interval(data.sync_interval),
            Durability::Batch => SyncPolicy::Batch,
        },
        upstream,
        sequence,
        retention,
    }
}

/// Opens the log of a node.
fn open_log(
    storage: FileStorage,
    directory: &Path,
    reactor: &Reactor,
    config: LogConfig,
    clock_step_max: Duration,
) -> Result<(Log<FileStorage>, Recovery), Failure> {
    let now = reactor.clock().now();
    let journal_id = if config.sequence == Sequence::Contiguous { random_id() } else { 0 };
    let opened = Log::open_journal(storage, config, journal_id, now);
    let (mut log, recovery) = opened.map_err(|error| match error {
        OpenError::Storage(error) => storage_failure(directory, &error),
        OpenError::EndMissing { .. } => Failure::cannot_start(format!(
            "the log in {} cannot be used: {error}; nothing was changed. Put the files back, or have the \
             end rebuilt from the shards: see `pregao recover`",
            directory.display()
        )),
        error => Failure::cannot_start(format!(
            "the log in {} cannot be used: {error}; nothing was changed. Restore it from a copy or \
             choose another --data-dir",
            directory.display()
        )),
    })?;
    log.set_clock_step_max(clock_step_max);
    log::info!(
        "{}: {} opened, next seq {}",
        crate::wire::unpadded(&config.name),
        directory.display(),
        log.next_seq()
    );
    Ok((log, recovery))
}

fn storage_failure(directory: &Path, error: &StorageError) -> Failure {
    let place = directory.display();
    Failure::cannot_start(match error {
        StorageError::Locked { .. } => error.to_string(),
        _ => format!("{error}; the log in {place} needs a directory it can write to"),
    })
}

fn connect(config: &Config, node: NodeId) -> Result<SocketAddr, Failure> {
    config.connect(node).ok_or_else(|| Failure::usage(format!("no address of {node}")))
}

/// The number of the part of the history that a node keeps, if it keeps one.
fn shard_number(node: NodeId) -> Option<u16> {
    node.partition().and_then(|partition| u16::try_from(partition.index()).ok())
}

fn partition(config: &Config) -> Result<crate::market::partition::Partition, Failure> {
    config.partition.partition(config.net.shards.len()).map_err(Failure::usage)
}

/// A number for jitter that differs between processes.
fn seed(reactor: &Reactor) -> u64 {
    reactor.clock().now().wall_ns ^ u64::from(std::process::id()).rotate_left(40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_dials_every_exchange_also_one_that_somebody_else_runs() {
        let dialled = |text: &str| -> Vec<String> {
            let config = Config::from_toml(text, "p.toml").unwrap();
            let of = |it: ExchangeConfig| {
                let address = it.address.map_or("comes".to_owned(), |address| address.to_string());
                format!("{} {address} {}", it.name, it.breaker.sliding_window_size)
            };
            exchanges(&config).unwrap().into_iter().map(of).collect()
        };
        assert_eq!(dialled(""), ["exchange 127.0.0.1:8080 20"]);
        let text = "[net]\nhost = \"0.0.0.0\"\n[[exchange]]\nname = \"xnas\"\n\
                    breaker = { sliding_window_size = 30 }\n[[exchange]]\nname = \"exchange\"\n\
                    [[exchange]]\nname = \"away\"\naddress = \"192.0.2.1:5\"\nrun = false\n";
        let want = ["xnas 127.0.0.1:8080 30", "exchange 127.0.0.1:8180 20", "away 192.0.2.1:5 20"];
        assert_eq!(dialled(text), want);
    }
}
