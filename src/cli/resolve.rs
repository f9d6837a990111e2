//! From flags to a checked request: configuration file read, flags applied over it, limits checked.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use log::LevelFilter;

use super::args::{
    Action, BreakerFlags, BrokerFlags, Command, ConfigFlag, DataDirFlag, HostFlag, MetricsFlag,
    NodeFlags, Partial, ReplicasFlag, ReportFlags, StatusFlags, SubscribeFlags, WatchFlags,
};
use super::breaker::BreakerRequest;
use super::exit::Failure;
use super::offline::Selected;
use super::offline::args::{RecoverFlags, feed_places};
use super::offline::convert::ConvertRequest;
use super::offline::dump::DumpRequest;
use super::offline::export::ExportRequest;
use super::offline::recover::{RecoverRequest, Remedy};
use super::offline::repartition::RepartitionRequest;
use super::offline::verify::VerifyRequest;
use super::publish::PublishRequest;
use super::publish::args::PublishFlags;
use super::report::ReportRequest;
use super::run::NodeRequest;
use super::status::StatusRequest;
use super::subscribe::SubscribeRequest;
use super::watch::WatchRequest;
use super::{all, market, stop};
use crate::config::{Config, NodeId, Speed, host};
use crate::feed;
use crate::limits::{CONFIG_BYTES_MAX, REPORT_ROWS_DEFAULT};
use crate::parse::Beginning;
use crate::render::Detail;
use crate::report::{Asked, Question};
use crate::wire::{BreakerAction, Kind};

/// What is to be done, checked.
#[derive(Debug)]
pub(super) enum Request {
    All(all::AllRequest),
    Node { request: NodeRequest, log: LevelFilter, parent: Option<u32> },
    Subscribe(SubscribeRequest),
    Watch(WatchRequest),
    Report(ReportRequest),
    Publish(PublishRequest),
    Status(StatusRequest),
    Breaker(BreakerRequest),
    Stop(stop::StopRequest),
    Verify(VerifyRequest),
    Dump(DumpRequest),
    Export(ExportRequest),
    Recover(RecoverRequest),
    Repartition(RepartitionRequest),
    Convert(ConvertRequest),
}

pub(super) fn resolve(command: Command) -> Result<Request, Failure> {
    match command {
        Command::All { node, market, broker, core, playground } => {
            let mut config = node_config(&node)?;
            market::apply(&mut config, &market, None)?;
            broker_flags(&mut config, &broker);
            config.core.append |= core.append;
            config.gateway.playground |= playground.playground;
            let config = checked(config)?;
            for node in config.nodes() {
                refuse_exposed(&config, node, [config.listen(node), config.metrics(node)])?;
            }
            Ok(Request::All(all::AllRequest { config, node, market, broker, core, playground }))
        }
        Command::External { exchange, node, metrics, market, playground } => {
            let mut config = node_config(&node)?;
            let exchange = market::which(&config, exchange)?;
            market::apply(&mut config, &market, Some(exchange))?;
            config.gateway.playground |= playground.playground;
            node_request(exchange.node(), &node, metrics, config)
        }
        Command::Broker { node, metrics, broker } => {
            let mut config = node_config(&node)?;
            broker_flags(&mut config, &broker);
            node_request(NodeId::Broker, &node, metrics, config)
        }
        Command::Core { node, metrics, core } => {
            let mut config = node_config(&node)?;
            config.core.append |= core.append;
            node_request(NodeId::Core, &node, metrics, config)
        }
        Command::Shard { partition, replica, node, metrics } => {
            let id = match replica {
                0 => NodeId::Shard(partition),
                replica => NodeId::ShardReplica(partition, replica),
            };
            plain_request(id, &with_replica(node, replica), metrics)
        }
        Command::Replica { replica, node, metrics } => {
            plain_request(NodeId::CoreReplica(replica), &with_replica(node, replica), metrics)
        }
        Command::Aggregator { node, metrics } => plain_request(NodeId::Aggregator, &node, metrics),
        Command::Gateway { node, metrics, playground } => {
            let mut config = node_config(&node)?;
            config.gateway.playground |= playground.playground;
            node_request(NodeId::Gateway, &node, metrics, config)
        }
        Command::Subscribe(flags) => subscribe_request(flags).map(Request::Subscribe),
        Command::Watch(flags) => watch_request(&flags).map(Request::Watch),
        Command::Report(flags) => report_request(flags).map(Request::Report),
        Command::Publish(flags) => publish_request(flags).map(Request::Publish),
        Command::Status(flags) => status_request(&flags).map(Request::Status),
        Command::Breaker(flags) => breaker_request(flags).map(Request::Breaker),
        Command::Verify(flags) => {
            Ok(Request::Verify(VerifyRequest { dir: flags.dir, format: flags.format }))
        }
        Command::Dump(flags) => Ok(Request::Dump(DumpRequest {
            selected: Selected::resolve(flags.selection)?,
            limit: flags.limit,
            marks: flags.marks,
            format: flags.format,
        })),
        Command::Export(flags) => Ok(Request::Export(ExportRequest {
            selected: Selected::resolve(flags.selection)?,
            format: flags.format,
            out: flags.out,
            overwrite: flags.overwrite,
        })),
        Command::Recover(flags) => recover_request(flags).map(Request::Recover),
        Command::Repartition(flags) => {
            let mut config = config_of(&flags.config, &flags.data_dir, &HostFlag::default())?;
            config.net.replicas = flags.replicas.replicas.unwrap_or(config.net.replicas);
            let config = checked(config)?;
            let dir = config.data.dir.clone();
            Ok(Request::Repartition(RepartitionRequest { dir, config, format: flags.format }))
        }
        Command::Convert(flags) => Ok(Request::Convert(ConvertRequest {
            old: flags.old,
            new: flags.new,
            format: flags.format,
        })),
        Command::Stop { config, data_dir } => {
            let config = config_of(&config, &data_dir, &HostFlag::default())?;
            Ok(Request::Stop(stop::StopRequest { dir: checked(config)?.data.dir }))
        }
    }
}

fn publish_request(flags: PublishFlags) -> Result<PublishRequest, Failure> {
    let config = client_config(&flags.config, &flags.host)?;
    let core = address_of(&config, NodeId::Core)?;
    Ok(PublishRequest { core, flags })
}

fn recover_request(flags: RecoverFlags) -> Result<RecoverRequest, Failure> {
    let config = checked(config_of(&flags.config, &flags.data_dir, &HostFlag::default())?)?;
    let remedy = match (flags.from_shards, flags.follow_journal, flags.reset) {
        (true, _, _) => {
            let places = feed_places(flags.feed, flags.feed_next).map_err(Failure::usage)?;
            Remedy::FromShards(places)
        }
        (_, true, _) => Remedy::FollowJournal,
        (_, _, Some(node)) => Remedy::Reset(node),
        _ => Remedy::Report,
    };
    Ok(RecoverRequest { dir: config.data.dir.clone(), config, remedy, format: flags.format })
}

/// A node without flags of its own.
fn plain_request(
    node: NodeId,
    flags: &NodeFlags,
    metrics: MetricsFlag,
) -> Result<Request, Failure> {
    node_request(node, flags, metrics, node_config(flags)?)
}

fn node_request(
    node: NodeId,
    flags: &NodeFlags,
    metrics: MetricsFlag,
    config: Config,
) -> Result<Request, Failure> {
    let config = checked(config)?;
    let address = config.listen(node).ok_or_else(|| {
        let shards = config.net.shards.len();
        Failure::usage(format!("there is no {node}: [net] shards lists {shards}, named from A on"))
    })?;
    let metrics = metrics.metrics.or_else(|| config.metrics(node));
    refuse_exposed(&config, node, [Some(address), metrics])?;
    let request = NodeRequest { node, address, metrics, config };
    Ok(Request::Node { request, log: flags.log, parent: flags.parent })
}

/// Refuses to listen where other machines reach a node, which asks nobody who they are, unless that is wanted.
fn refuse_exposed(
    config: &Config,
    node: NodeId,
    addresses: [Option<SocketAddr>; 2],
) -> Result<(), Failure> {
    let exposed = addresses.into_iter().flatten().find(|address| host::is_exposed(*address));
    match exposed.filter(|_| !config.net.insecure) {
        None => Ok(()),
        Some(address) => Err(Failure::usage(format!(
            "{node} would listen on {address}, which other machines reach, and it asks nobody who they are: they could read, \
             publish and stop it. Use an address of this machine alone, such as 127.0.0.1; or, where you trust whoever \
             reaches it, say --insecure, or insecure = true in [net]"
        ))),
    }
}

/// Whoever starts a replica by hand need not say that there are as many.
fn with_replica(mut flags: NodeFlags, replica: u8) -> NodeFlags {
    let asked = flags.replicas.replicas;
    if replica > 0 && asked.is_none_or(|replicas| replicas <= replica) {
        flags.replicas.replicas = Some(replica.saturating_add(1));
    }
    flags
}

/// The file and the flags that all nodes have, not yet checked.
fn node_config(flags: &NodeFlags) -> Result<Config, Failure> {
    let mut config = config_of(&flags.config, &flags.data_dir, &flags.host)?;
    config.net.replicas = flags.replicas.replicas.unwrap_or(config.net.replicas);
    config.net.insecure |= flags.insecure;
    Ok(config)
}

fn broker_flags(config: &mut Config, flags: &BrokerFlags) {
    config.broker.reactors = flags.reactors.unwrap_or(config.broker.reactors);
}

fn config_of(
    file: &ConfigFlag,
    data_dir: &DataDirFlag,
    host: &HostFlag,
) -> Result<Config, Failure> {
    let mut config = match &file.config {
        Some(file) => read_config(file)?,
        None => Config::default(),
    };
    if let Some(dir) = &data_dir.data_dir {
        config.data.dir.clone_from(dir);
    }
    config.net.host = host.host.unwrap_or(config.net.host);
    Ok(config)
}

fn checked(config: Config) -> Result<Config, Failure> {
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}

fn read_config(file: &Path) -> Result<Config, Failure> {
    let name = file.display().to_string();
    let failed = |error: std::io::Error| {
        Failure::usage(format!("cannot read the configuration {name}: {error}"))
    };
    let mut text = String::new();
    let mut read = File::open(file).map_err(failed)?.take(CONFIG_BYTES_MAX + 1);
    read.read_to_string(&mut text).map_err(failed)?;
    if read.limit() == 0 {
        let problem = format!("{name} is larger than {CONFIG_BYTES_MAX} bytes: no configuration");
        return Err(Failure::usage(problem));
    }
    Config::from_toml(&text, &name).map_err(Failure::usage)
}

/// Where a client finds a node that every configuration has.
fn address_of(config: &Config, node: NodeId) -> Result<SocketAddr, Failure> {
    config.connect(node).ok_or_else(|| Failure::usage(format!("no address of {node}")))
}

fn client_config(file: &ConfigFlag, host: &HostFlag) -> Result<Config, Failure> {
    checked(config_of(file, &DataDirFlag::default(), host)?)
}

/// The same of a command that asks every copy.
fn client_config_of(
    file: &ConfigFlag,
    host: &HostFlag,
    replicas: &ReplicasFlag,
) -> Result<Config, Failure> {
    let mut config = config_of(file, &DataDirFlag::default(), host)?;
    config.net.replicas = replicas.replicas.unwrap_or(config.net.replicas);
    checked(config)
}

/// Every node and where to connect to it.
fn nodes_of(config: &Config) -> Vec<(NodeId, SocketAddr)> {
    let address = |node| Some((node, config.connect(node)?));
    config.nodes().into_iter().filter_map(address).collect()
}

fn watch_request(flags: &WatchFlags) -> Result<WatchRequest, Failure> {
    let config = client_config_of(&flags.config, &flags.host, &flags.replicas)?;
    let texts: Vec<String> = flags.patterns.iter().map(feed::Pattern::text).collect();
    let texts = if texts.is_empty() { vec!["*".to_owned()] } else { texts };
    let kinds = Kind::Quote.mask() | Kind::Trade.mask();
    let patterns = texts.iter().map(|text| feed::Pattern::new(text, kinds));
    Ok(WatchRequest {
        broker: address_of(&config, NodeId::Broker)?,
        core: address_of(&config, NodeId::Core)?,
        aggregator: address_of(&config, NodeId::Aggregator)?,
        nodes: nodes_of(&config),
        patterns: patterns.collect::<Result<_, _>>().map_err(Failure::usage)?,
        seconds: flags.bars.seconds(),
    })
}

fn subscribe_request(flags: SubscribeFlags) -> Result<SubscribeRequest, Failure> {
    let config = client_config(&flags.config, &flags.host)?;
    let mut patterns = flags.patterns;
    if patterns.is_empty() {
        patterns.push("*".parse().map_err(Failure::usage)?);
    }
    let from = match flags.from {
        Some(Beginning::Seq(seq)) => (Some(seq), None),
        Some(Beginning::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    if flags.speed == Some(Speed::Thousandths(0)) {
        return Err(Failure::usage("--speed 0 would show nothing; give a speed above 0, or max"));
    }
    Ok(SubscribeRequest {
        address: address_of(&config, NodeId::Broker)?,
        patterns,
        count: flags.count,
        duration: flags.duration,
        mode: flags.mode,
        from_seq: from.0,
        from_time: from.1,
        speed: flags.speed,
        then_live: flags.then_live,
        format: flags.format,
        config,
    })
}

fn report_request(flags: ReportFlags) -> Result<ReportRequest, Failure> {
    let config = client_config(&flags.config, &flags.host)?;
    let from = flags.from.map_or(0, |time| time.0);
    let to = flags.to.map_or(u64::MAX, |time| time.0);
    if from >= to {
        return Err(Failure::usage(
            "--from is not before --to, so nothing lies between them; exchange them",
        ));
    }
    let figure = match (flags.average, flags.spread, flags.movers) {
        (true, _, _) => Some(Question::Average),
        (_, true, _) => Some(Question::Spread),
        (_, _, Some(count)) => Some(Question::Movers { count, from, to }),
        _ => None,
    };
    let partial = match flags.partial {
        Some(partial) => partial == Partial::Allow,
        // A figure over some instruments is another figure.
        None => figure.is_none(),
    };
    let rows = match flags.bars {
        Some(interval) => Question::Bars { interval, from, to },
        None if flags.from.is_some() || flags.to.is_some() => Question::Range { from, to },
        None => Question::Last(flags.last.unwrap_or(REPORT_ROWS_DEFAULT)),
    };
    let question = figure.unwrap_or(rows);
    let asked = Asked {
        symbols: flags.symbols,
        question,
        partial_allowed: partial,
        as_of: flags.as_of,
        explain: flags.explain,
    };
    Ok(ReportRequest {
        address: address_of(&config, NodeId::Aggregator)?,
        asked,
        deadline: flags.deadline,
        format: flags.format,
    })
}

fn status_request(flags: &StatusFlags) -> Result<StatusRequest, Failure> {
    let config = client_config_of(&flags.config, &flags.host, &flags.replicas)?;
    Ok(StatusRequest {
        nodes: nodes_of(&config),
        deadline: flags.deadline,
        format: flags.format,
        detail: if flags.verbose { Detail::Verbose } else { Detail::Brief },
    })
}

fn breaker_request(flags: BreakerFlags) -> Result<BreakerRequest, Failure> {
    let config = client_config(&flags.config, &flags.host)?;
    let address = |node| Ok((node, address_of(&config, node)?));
    Ok(BreakerRequest {
        nodes: vec![
            address(NodeId::Core)?,
            address(NodeId::Aggregator)?,
            address(NodeId::Gateway)?,
        ],
        name: flags.name,
        action: match flags.action {
            Action::ForceOpen => BreakerAction::ForceOpen,
            Action::Close => BreakerAction::Close,
            Action::Disable => BreakerAction::Disable,
            Action::MetricsOnly => BreakerAction::MetricsOnly,
            Action::Reset => BreakerAction::Reset,
        },
        deadline: flags.deadline,
        format: flags.format,
    })
}
