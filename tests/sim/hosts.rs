//! What can stand on a host: every node of the system, and the hand-made clients.

use pregao::gateway::{Gateway, GatewayConfig};
use pregao::log::memory::{MemoryDisk, MemoryStorage};
use pregao::log::{
    Log, LogConfig, OpenError, Recovery, Retention, Sequence, SyncPolicy, UpstreamRule,
};
use pregao::node::aggregator::{Aggregator, AggregatorConfig};
use pregao::node::broker::{Broker, BrokerConfig, Fanout};
use pregao::node::external::{External, ExternalConfig};
use pregao::node::lines::{Lines, LinesConfig};
use pregao::node::replica::{Replica, ReplicaConfig};
use pregao::node::sequencer::{Sequencer, SequencerConfig};
use pregao::node::shard::{Shard, ShardConfig, check_partition, keep_partition};
use pregao::node::{
    Action, CloseReason, ConnId, DialFailure, DialId, LocalFault, Node, Origin, Outgoing,
};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::padded;

use crate::asker::{Asker, AskerConfig};
use crate::attacker::{Attacker, AttackerConfig};
use crate::browser::{Browser, BrowserConfig};
use crate::client::{Client, ClientConfig};
use crate::library::Library;
use crate::lines::{Writer, WriterConfig};
use crate::monitor::{Monitor, MonitorConfig};
use crate::producer::{Producer, ProducerConfig};
use crate::reporter::{Reporter, ReporterConfig};
use crate::rogue::{Rogue, RogueConfig};
use crate::surfer::{Surfer, SurferConfig};

/// How a host's node is made, again and again.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    External(ExternalConfig),
    Core(SequencerConfig, Keeping),
    Shard(ShardConfig, Keeping),
    Replica(ReplicaConfig),
    /// With so many further reactors.
    Broker(BrokerConfig, usize),
    /// One of these. It starts and ends with its process.
    Fanout,
    Aggregator(AggregatorConfig),
    Client(ClientConfig),
    /// The same with the machine of the client library.
    Library(ClientConfig),
    Monitor(MonitorConfig),
    Lines(LinesConfig),
    Writer(WriterConfig),
    Producer(ProducerConfig),
    Asker(AskerConfig),
    Reporter(ReporterConfig),
    Attacker(AttackerConfig),
    Rogue(RogueConfig),
    Gateway(GatewayConfig),
    Browser(BrowserConfig),
    Surfer(SurferConfig),
}

/// Any node.
pub(crate) enum AnyNode {
    External(Box<External>),
    Core(Box<Sequencer<MemoryStorage>>),
    Shard(Box<Shard<MemoryStorage>>),
    Replica(Box<Replica>),
    Broker(Box<Broker>),
    /// Whether it has taken in its mail for this turn already.
    Fanout(Box<Fanout>, bool),
    Aggregator(Box<Aggregator>),
    Client(Box<Client>),
    Library(Box<Library>),
    Monitor(Box<Monitor>),
    Lines(Box<Lines>),
    Writer(Box<Writer>),
    Producer(Box<Producer>),
    Asker(Box<Asker>),
    Reporter(Box<Reporter>),
    Attacker(Box<Attacker>),
    Rogue(Box<Rogue>),
    Gateway(Box<Gateway>),
    Browser(Box<Browser>),
    Surfer(Box<Surfer>),
}

/// How a node's log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) policy: SyncPolicy,
    pub(crate) segment_records: u64,
    pub(crate) retention: Retention,
}

impl Keeping {
    /// Everything is kept, in segments so small that every run rolls many of them.
    pub(crate) fn all(policy: SyncPolicy) -> Keeping {
        Keeping { policy, segment_records: 32, retention: Retention::default() }
    }

    /// Bytes of one segment's file.
    pub(crate) fn segment_bytes(&self) -> u64 {
        pregao::log::HEADER_BYTES as u64 + self.segment_records * 64
    }

    /// Whether anything may be removed.
    pub(crate) fn removes(&self) -> bool {
        self.retention != Retention::default()
    }
}

impl Spec {
    pub(crate) fn has_disk(&self) -> bool {
        matches!(self, Spec::Core(..) | Spec::Shard(..))
    }

    pub(crate) fn log_config(&self) -> LogConfig {
        let (name, upstream, sequence) = match self {
            Spec::Core(..) => ("core", UpstreamRule::CountAppended, Sequence::Contiguous),
            Spec::Shard(config, _) => {
                (config.name.as_str(), UpstreamRule::FollowSeq, Sequence::Increasing)
            }
            _ => panic!("this node has no log"),
        };
        let Keeping { policy, segment_records, retention } = self.keeping().unwrap();
        LogConfig { name: padded(name), segment_records, policy, upstream, sequence, retention }
    }

    /// How its log is kept, if it has one.
    pub(crate) fn keeping(&self) -> Option<Keeping> {
        match self {
            Spec::Core(_, keeping) | Spec::Shard(_, keeping) => Some(*keeping),
            _ => None,
        }
    }

    /// Opens the log of this node on a disk.
    pub(crate) fn open_log(
        &self,
        disk: &MemoryDisk,
        now: Now,
    ) -> Result<(Log<MemoryStorage>, Recovery), OpenError> {
        Log::open(disk.storage(), self.log_config(), now)
    }

    /// Opens it to look at it: nothing is removed by that.
    pub(crate) fn look_into_log(
        &self,
        disk: &MemoryDisk,
        now: Now,
    ) -> Result<Log<MemoryStorage>, OpenError> {
        let config = LogConfig { retention: Retention::default(), ..self.log_config() };
        Log::open(disk.storage(), config, now).map(|(log, _)| log)
    }

    /// Starts a process of this kind: its node, and those of its further reactors.
    ///
    /// # Errors
    /// When its disk does not let it.
    pub(crate) fn start(
        &self,
        disk: Option<&MemoryDisk>,
        now: Now,
    ) -> Result<(AnyNode, Vec<Fanout>), String> {
        let mut fanouts = Vec::new();
        let open = || {
            let disk = disk.expect("nodes with a log have a disk");
            let (log, recovery) = self.open_log(disk, now).map_err(|error| error.to_string())?;
            let missing = &recovery.missing_front;
            assert!(
                missing.is_none(),
                "[what-the-retention-removed-is-no-loss] {missing:?} is missing"
            );
            Ok::<_, String>((log, recovery))
        };
        let node = match self {
            Spec::External(config) => {
                AnyNode::External(Box::new(External::new(config.clone(), now)))
            }
            Spec::Core(config, _) => {
                let mut ids = Random::new(config.epoch_id).fork(now.mono.0);
                let disk = disk.expect("core has a disk");
                let opened =
                    Log::open_journal(disk.storage(), self.log_config(), ids.next_u64(), now);
                let (log, recovery) = opened.map_err(|error| error.to_string())?;
                let config = SequencerConfig { epoch_id: ids.next_u64(), ..config.clone() };
                AnyNode::Core(Box::new(Sequencer::new(config, log, &recovery, now)?))
            }
            Spec::Shard(config, _) => {
                check_partition(config, &mut disk.unwrap().storage())?;
                let (mut log, recovery) = open()?;
                keep_partition(config, &mut log)?;
                AnyNode::Shard(Box::new(Shard::new(config.clone(), log, &recovery)))
            }
            Spec::Replica(config) => AnyNode::Replica(Box::new(Replica::new(config.clone()))),
            Spec::Broker(config, further) => {
                let (broker, others) = Broker::with_fanouts(config.clone(), *further);
                fanouts = others;
                AnyNode::Broker(Box::new(broker))
            }
            Spec::Fanout => panic!("a further reactor does not start alone"),
            Spec::Aggregator(config) => {
                let made = Aggregator::new(config).map_err(|error| error.to_string())?;
                AnyNode::Aggregator(Box::new(made))
            }
            Spec::Client(config) => AnyNode::Client(Box::new(Client::new(config.clone()))),
            Spec::Library(config) => AnyNode::Library(Box::new(Library::new(config.clone()))),
            Spec::Monitor(config) => AnyNode::Monitor(Box::new(Monitor::new(config.clone()))),
            Spec::Lines(config) => AnyNode::Lines(Box::new(Lines::new(config.clone())?)),
            Spec::Writer(config) => AnyNode::Writer(Box::new(Writer::new(config.clone()))),
            Spec::Producer(config) => AnyNode::Producer(Box::new(Producer::new(config.clone()))),
            Spec::Asker(config) => AnyNode::Asker(Box::new(Asker::new(config.clone()))),
            Spec::Reporter(config) => AnyNode::Reporter(Box::new(Reporter::new(config.clone()))),
            Spec::Attacker(config) => AnyNode::Attacker(Box::new(Attacker::new(config.clone()))),
            Spec::Rogue(config) => AnyNode::Rogue(Box::new(Rogue::new(config.clone()))),
            Spec::Gateway(config) => {
                let made = Gateway::new(config.clone()).map_err(|error| error.to_string())?;
                AnyNode::Gateway(Box::new(made))
            }
            Spec::Browser(config) => AnyNode::Browser(Box::new(Browser::new(config.clone()))),
            Spec::Surfer(config) => AnyNode::Surfer(Box::new(Surfer::new(config.clone()))),
        };
        Ok((node, fanouts))
    }
}

macro_rules! each {
    ($self:expr, $node:ident => $call:expr) => {
        match $self {
            AnyNode::External($node) => $call,
            AnyNode::Core($node) => $call,
            AnyNode::Shard($node) => $call,
            AnyNode::Replica($node) => $call,
            AnyNode::Broker($node) => $call,
            AnyNode::Fanout($node, _) => $call,
            AnyNode::Aggregator($node) => $call,
            AnyNode::Client($node) => $call,
            AnyNode::Library($node) => $call,
            AnyNode::Monitor($node) => $call,
            AnyNode::Lines($node) => $call,
            AnyNode::Writer($node) => $call,
            AnyNode::Producer($node) => $call,
            AnyNode::Asker($node) => $call,
            AnyNode::Reporter($node) => $call,
            AnyNode::Attacker($node) => $call,
            AnyNode::Rogue($node) => $call,
            AnyNode::Gateway($node) => $call,
            AnyNode::Browser($node) => $call,
            AnyNode::Surfer($node) => $call,
        }
    };
}

impl Node for AnyNode {
    fn handle_open(&mut self, now: Now, conn: ConnId, origin: Origin) {
        each!(self, node => node.handle_open(now, conn, origin));
    }
    fn handle_dial_failed(&mut self, now: Now, dial: DialId, failure: DialFailure) {
        each!(self, node => node.handle_dial_failed(now, dial, failure));
    }
    fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> usize {
        each!(self, node => node.handle_bytes(now, conn, bytes))
    }
    fn handle_close(&mut self, now: Now, conn: ConnId, reason: CloseReason) {
        each!(self, node => node.handle_close(now, conn, reason));
    }
    fn handle_local_fault(&mut self, now: Now, fault: LocalFault) {
        each!(self, node => node.handle_local_fault(now, fault));
    }
    fn handle_mail(&mut self, now: Now) {
        if let AnyNode::Fanout(_, has_mail) = self
            && std::mem::take(has_mail)
        {
            return;
        }
        each!(self, node => node.handle_mail(now));
    }
    fn poll_wake(&mut self) -> Option<usize> {
        each!(self, node => node.poll_wake())
    }
    fn handle_storage(&mut self, now: Now) {
        each!(self, node => node.handle_storage(now));
    }
    fn sends_before_timers(&self) -> bool {
        each!(self, node => node.sends_before_timers())
    }
    fn handle_timers(&mut self, now: Now) {
        each!(self, node => node.handle_timers(now));
    }
    fn commit(&mut self, now: Now) {
        each!(self, node => node.commit(now));
    }
    fn proceed(&mut self, now: Now) {
        each!(self, node => node.proceed(now));
    }
    fn handle_stop(&mut self, now: Now) {
        each!(self, node => node.handle_stop(now));
    }
    fn is_stopped(&self) -> bool {
        each!(self, node => node.is_stopped())
    }
    fn failure(&self) -> Option<&str> {
        each!(self, node => node.failure())
    }
    fn next_deadline(&self) -> Option<Mono> {
        each!(self, node => node.next_deadline())
    }
    fn poll_action(&mut self) -> Option<Action> {
        each!(self, node => node.poll_action())
    }
    fn poll_dirty(&mut self) -> Option<ConnId> {
        each!(self, node => node.poll_dirty())
    }
    fn poll_bulk(&mut self) -> Option<ConnId> {
        each!(self, node => node.poll_bulk())
    }
    fn has_bulk(&self) -> bool {
        each!(self, node => node.has_bulk())
    }
    fn put_off(&mut self, conn: ConnId) -> bool {
        each!(self, node => node.put_off(conn))
    }
    fn is_source(&self, conn: ConnId) -> bool {
        each!(self, node => node.is_source(conn))
    }
    fn outgoing(&mut self, now: Now, conn: ConnId) -> Outgoing<'_> {
        each!(self, node => node.outgoing(now, conn))
    }
    fn handle_sent(&mut self, now: Now, conn: ConnId, bytes: usize) -> bool {
        each!(self, node => node.handle_sent(now, conn, bytes))
    }
    fn wants_bytes(&self, conn: ConnId) -> bool {
        each!(self, node => node.wants_bytes(conn))
    }
}
