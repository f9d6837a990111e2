//! The whole road on simulated hosts, and what has to be true of it in the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pregao::breaker;
use pregao::log::{Retention, SyncPolicy};
use pregao::market::Price;
use pregao::market::chaos::ChaosConfig;
use pregao::market::partition::Partition;
use pregao::market::tape::{Align, Schedule, Tape, TapeBody, TapeEvent, Venue};
use pregao::node::aggregator::{AggregatorConfig, LeafConfig};
use pregao::node::broker::BrokerConfig;
use pregao::node::external::{ExternalConfig, FeedConfig, Speed};
use pregao::node::replica::ReplicaConfig;
use pregao::node::sequencer::{ExchangeConfig, FollowerConfig, SequencerConfig};
use pregao::node::shard::ShardConfig;
use pregao::random::Random;
use pregao::wire::{Definition, EndStatus, Ended, Frame, Kind, Names, Op, Query, Symbol, padded};

use crate::asker::AskerConfig;
use crate::client::ClientConfig;
use crate::hosts::{Keeping, Spec};
use crate::producer::ProducerConfig;
use crate::stored::Stored;
use crate::work::WorkBounds;
use crate::world::World;

pub(crate) const MS: u64 = 1_000_000;
/// How far behind core a node of a day may be whose answer is complete.
pub(crate) const BEHIND_MAX: Duration = pregao::limits::BEHIND_AFTER_MIN;
pub(crate) const SHARDS: u16 = 3;
pub(crate) const SYMBOLS: [&str; 6] = ["PETR4", "VALE3", "ITUB4", "BBDC4", "WINZ26", LONG];
/// What stands for [`LONG_NAME`]: it has no quote.
pub(crate) const LONG: &str = "A-STRATEGY-OF-F~a1538cda";
/// A name that is no symbol.
pub(crate) const LONG_NAME: &str = "A-STRATEGY-OF-FORTY-LETTERS-AND-NO-QUOTE";

/// What differs between scenarios.
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) events: u64,
    /// Between two events of the tape; 0 plays it as fast as it goes.
    pub(crate) pace_ns: u64,
    pub(crate) chaos: ChaosConfig,
    pub(crate) ring_frames: usize,
    /// How the logs are synced; by the seed unless said.
    pub(crate) policy: Option<SyncPolicy>,
    /// A copy of each shard, and one that answers quotes beside core.
    pub(crate) has_copies: bool,
    /// What core's journal and each shard's log (and its copy's) may remove; nothing unless said.
    pub(crate) core_removes: Option<Removal>,
    pub(crate) shards_remove: [Option<Removal>; SHARDS as usize],
    /// The subscriber of `trade.PETR4` is the client library's machine.
    pub(crate) is_library: bool,
    /// The bounds of each host's turn.
    pub(crate) bounds: WorkBounds,
    /// Frames that publishers may bring in the middle of a round of the broker's fan-out.
    pub(crate) round_frames_max: usize,
    /// Instruments of a tape of many (see `many`), which then is played instead.
    pub(crate) instruments: u32,
    /// Reactors of the broker besides the first.
    pub(crate) further_reactors: usize,
    /// A second exchange feeds core, with half as many events.
    pub(crate) has_second: bool,
    /// It is a producer, and comes by itself.
    pub(crate) is_produced: bool,
    /// A producer whose feed does not fit core's journal any more makes it again from its start.
    pub(crate) begins_again: bool,
}

/// The second exchange.
pub(crate) struct Second {
    pub(crate) host: usize,
    /// With the names that core gives its instruments.
    pub(crate) schedule: Schedule,
}

/// Segments of so many records, and when they may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) segment_records: u64,
    pub(crate) retention: Retention,
}

impl Options {
    pub(crate) fn new(seed: u64) -> Options {
        Options {
            seed,
            events: 400,
            pace_ns: 0,
            chaos: ChaosConfig::OFF,
            ring_frames: 64,
            policy: None,
            has_copies: false,
            core_removes: None,
            shards_remove: [None; SHARDS as usize],
            is_library: false,
            bounds: WorkBounds::PRODUCTION(),
            round_frames_max: pregao::limits::ROUND_FRAMES_MAX,
            instruments: 0,
            further_reactors: 0,
            has_second: false,
            is_produced: false,
            begins_again: false,
        }
    }
}

pub(crate) struct Road {
    pub(crate) world: World,
    pub(crate) schedule: Schedule,
    pub(crate) exchange: usize,
    pub(crate) second: Option<Second>,
    pub(crate) core: usize,
    pub(crate) broker: usize,
    pub(crate) shards: Vec<usize>,
    /// Their copies, if there are any, in the same order.
    pub(crate) copies: Vec<usize>,
    pub(crate) core_copy: Option<usize>,
    /// Subscribes to `*` from the first frame.
    pub(crate) all: usize,
    /// Subscribes to `trade.PETR4` from the first frame.
    pub(crate) one: usize,
    /// Subscribes to `$sys.*` from the first frame.
    pub(crate) system: usize,
    /// Asks core.
    pub(crate) asker: usize,
    pub(crate) aggregator: usize,
    pub(crate) aggregator_asker: usize,
    /// Asks the shards.
    pub(crate) shard_askers: Vec<usize>,
    /// Asks their copies.
    pub(crate) copy_askers: Vec<usize>,
    /// Asks the copy of core.
    pub(crate) core_copy_asker: Option<usize>,
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What the second exchange is called, and where it listens.
pub(crate) const SECOND: &str = "two";
pub(crate) const SECOND_PORT: u16 = 8083;
/// Its instruments.
const SECOND_SYMBOLS: [&str; 6] = ["AMZN", "QQQ", "PETR4", "WINZ26", "BTC", "UNQUOTED"];

fn second(world: &mut World, options: &Options, first: &ExternalConfig) -> Second {
    let play = |symbols| {
        let seed = options.seed ^ 0x5EC0;
        schedule_of(symbols, FRACTIONS, options.events / 2, 2 * options.pace_ns, seed)
    };
    let named = SECOND_SYMBOLS.map(|symbol| format!("{SECOND}:{symbol}"));
    let schedule = play(std::array::from_fn(|index| named[index].as_str()));
    if options.is_produced {
        let config = ProducerConfig {
            core: address(8082),
            exchange: SECOND,
            schedule: play(SECOND_SYMBOLS),
            is_paced: options.pace_ns > 0,
            seed: options.seed,
            begins_again: options.begins_again,
            durable: Arc::default(),
        };
        let host = world.add("producer", address(1), Spec::Producer(config));
        return Second { host, schedule };
    }
    let feed = FeedConfig::Tapes { schedule: play(SECOND_SYMBOLS), looped: false };
    let chaos = ChaosConfig { seed: first.chaos.seed ^ 2, ..first.chaos };
    let config = ExternalConfig { feed, chaos, ..first.clone() };
    let host = world.add("second exchange", address(SECOND_PORT), Spec::External(config));
    Second { host, schedule }
}

/// What the second exchange plays, under its own names.
pub(crate) fn second_schedule(events: u64, pace_ns: u64, seed: u64) -> Schedule {
    schedule_of(SECOND_SYMBOLS, FRACTIONS, events, pace_ns, seed)
}

/// Decimals of a unit of what the second instrument's quantities are counted in. The others' are whole.
pub(crate) const FRACTIONS: u8 = 8;

/// A known small tape: a few instruments, quotes, trades and cancellations, times that go back.
pub(crate) fn schedule(events: u64, pace_ns: u64, seed: u64) -> Schedule {
    schedule_in(FRACTIONS, events, pace_ns, seed)
}

/// The same with other units of the second instrument's quantities.
pub(crate) fn schedule_in(fractions: u8, events: u64, pace_ns: u64, seed: u64) -> Schedule {
    schedule_of(SYMBOLS, fractions, events, pace_ns, seed)
}

/// The same with these instruments.
fn schedule_of(
    symbols: [&str; 6],
    fractions: u8,
    events: u64,
    pace_ns: u64,
    seed: u64,
) -> Schedule {
    let mut random = Random::new(seed ^ 0x7A9E);
    let mut tape = Tape::default();
    let indexes =
        symbols.map(|s| tape.instruments.insert(Venue::Unnamed, s.parse().unwrap(), 2).unwrap());
    if symbols.contains(&LONG) {
        let name = LONG_NAME.parse().unwrap();
        tape.instruments.set_full_name(indexes[5], name).unwrap();
    }
    // One has quantities of fractions.
    tape.instruments.set_quantity_decimals(indexes[1], fractions);
    let mut last = BTreeMap::new();
    for number in 0..events {
        let instrument = indexes[usize::try_from(random.below(6)).unwrap()];
        let price = Price(i64::try_from(random.between(10, 99)).unwrap() * 1_000_000_000);
        let is_quote = random.below(2) == 0 && instrument != indexes[5];
        let trade = (price, random.between(1, 900), number);
        let body = match last.get(&instrument) {
            _ if is_quote => {
                let (bid_qty, ask_qty) = (1, number);
                TapeBody::Quote { bid: price, ask: Price(price.0 + 1), bid_qty, ask_qty }
            }
            Some(&(price, qty, trade_id)) if random.below(9) == 0 => {
                TapeBody::Cancel { price, qty, trade_id }
            }
            _ => {
                last.insert(instrument, trade);
                TapeBody::Trade { price: trade.0, qty: trade.1, trade_id: trade.2 }
            }
        };
        let jitter = random.below(3 * pace_ns.max(1));
        let ts_event = 1_600_000_000 * 1_000_000_000 + number * pace_ns.max(1000) + jitter;
        tape.events.push(TapeEvent::new(ts_event, instrument, body));
    }
    Schedule::new(&[tape], Align::Clock).unwrap()
}

impl Road {
    pub(crate) fn new(options: &Options) -> Road {
        let mut world = World::new(options.seed, options.bounds);
        let partition = Partition::hash(SHARDS).unwrap();
        let policy = options.policy.unwrap_or(match options.seed % 3 {
            0 => SyncPolicy::Batch,
            _ => SyncPolicy::Interval(Duration::from_millis(50)),
        });
        let schedule = match options.instruments {
            0 => schedule(options.events, options.pace_ns, options.seed),
            instruments => crate::many::schedule(instruments),
        };
        let speed = match options.pace_ns {
            0 => Speed::Max,
            _ => Speed::Times { thousandths: 1_000 },
        };
        let feed = FeedConfig::Tapes { schedule: schedule.clone(), looped: false };
        let chaos = options.chaos;
        let config = ExternalConfig { feed, speed, chaos, playground: false, sessions_max: 4 };
        let second = options.has_second.then(|| second(&mut world, options, &config));
        let exchange = world.add("exchange", address(8080), Spec::External(config));
        let broker_config = BrokerConfig {
            round_frames_max: options.round_frames_max,
            ..BrokerConfig::new(options.ring_frames, 32)
        };
        let broker = world.add(
            "broker",
            address(8081),
            Spec::Broker(broker_config, options.further_reactors),
        );
        let keeping = |removal: Option<Removal>| match removal {
            Some(Removal { segment_records, retention }) => {
                Keeping { policy, segment_records, retention }
            }
            None => Keeping::all(policy),
        };
        let follower = |name: &str, port: u16, shard: Option<u16>| FollowerConfig {
            name: name.to_owned(),
            address: address(port),
            shard,
        };
        let mut followers = vec![follower("broker", 8081, None)];
        let mut shard_at = |world: &mut World, name: String, port: u16, shard: u16| {
            let keeping = keeping(options.shards_remove[usize::from(shard)]);
            let partition = partition.clone();
            let config =
                ShardConfig { name: name.clone(), shard, partition, behind_max: BEHIND_MAX };
            followers.push(follower(&name, port, Some(shard)));
            world.add(&name, address(port), Spec::Shard(config, keeping))
        };
        let mut shards = Vec::new();
        let mut copies = Vec::new();
        for shard in 0..SHARDS {
            let name = format!("shard-{shard}");
            shards.push(shard_at(&mut world, name, 9001 + shard, shard));
        }
        for shard in (0..SHARDS).filter(|_| options.has_copies) {
            let name = format!("shard-{shard}.1");
            copies.push(shard_at(&mut world, name, 9011 + shard, shard));
        }
        let leaf = |follower: &FollowerConfig| {
            let FollowerConfig { name, address, shard } = follower.clone();
            LeafConfig { name, address, shard }
        };
        let mut leaves: Vec<LeafConfig> = followers[1..].iter().map(leaf).collect();
        leaves.push(LeafConfig { name: "core".to_owned(), address: address(8082), shard: None });
        let mut core_copy = None;
        if options.has_copies {
            let config = ReplicaConfig { name: "core.1".to_owned() };
            core_copy = Some(world.add("core.1", address(8092), Spec::Replica(config)));
            followers.push(follower("core.1", 8092, None));
            leaves.push(leaf(&follower("core.1", 8092, None)));
        }
        let config = AggregatorConfig {
            leaves,
            partition: partition.clone(),
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            request_deadline: Duration::from_millis(500),
            queries_per_client_max: 16,
            behind_max: BEHIND_MAX,
            seed: options.seed,
        };
        let aggregator = world.add("aggregator", address(8000), Spec::Aggregator(config));
        let breaker = breaker::Config::default();
        let mut exchanges = vec![ExchangeConfig::nameless(address(8080), breaker.clone())];
        // A producer need not be listed.
        if second.is_some() && (!options.is_produced || options.seed.is_multiple_of(2)) {
            let (name, address) = (SECOND.to_owned(), address(SECOND_PORT));
            let address = Some(address).filter(|_| !options.is_produced);
            exchanges.push(ExchangeConfig { name, address, breaker });
        }
        let config = SequencerConfig {
            exchanges,
            followers,
            partition,
            breaker: breaker::Config::default(),
            heartbeat: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            request_deadline: Duration::from_millis(500),
            connect_deadline: Duration::from_secs(1),
            broker_warmup_frames: 32,
            seed: options.seed,
            // Each start makes one of its own of it.
            epoch_id: options.seed,
            takes_unlisted: true,
            appends: false,
        };
        let mut keeping = keeping(options.core_removes);
        if options.has_second {
            // The statements of the journal are more, and have to fit into half a segment.
            keeping.segment_records = keeping.segment_records.max(128);
        }
        let core = world.add("core", address(8082), Spec::Core(config, keeping));
        let client = |world: &mut World, name: &str, patterns| {
            let config = ClientConfig::good(patterns, 1);
            let is_library = options.is_library && name == "one";
            let spec = if is_library { Spec::Library(config) } else { Spec::Client(config) };
            world.add(name, address(1), spec)
        };
        let all = client(&mut world, "all", vec![("*", 0)]);
        let one = client(&mut world, "one", vec![("PETR4", Kind::Trade.mask())]);
        let system = client(&mut world, "system", vec![("$sys.*", 0)]);
        let ask = |world: &mut World, name: &str, port: u16| {
            let config = AskerConfig { node: address(port) };
            world.add(name, address(1), Spec::Asker(config))
        };
        let asker = ask(&mut world, "asker", 8082);
        let aggregator_asker = ask(&mut world, "aggregator asker", 8000);
        let shard_askers =
            (0..SHARDS).map(|shard| ask(&mut world, "shard asker", 9001 + shard)).collect();
        let copied = if options.has_copies { SHARDS } else { 0 };
        let copy_askers =
            (0..copied).map(|shard| ask(&mut world, "copy asker", 9011 + shard)).collect();
        let core_copy_asker = core_copy.map(|_| ask(&mut world, "core copy asker", 8092));
        Road {
            world,
            schedule,
            exchange,
            second,
            core,
            broker,
            shards,
            copies,
            core_copy,
            all,
            one,
            system,
            asker,
            aggregator,
            aggregator_asker,
            shard_askers,
            copy_askers,
            core_copy_asker,
        }
    }

    /// All hosts that keep this shard's part.
    pub(crate) fn copies_of(&self, shard: u16) -> impl Iterator<Item = usize> {
        let place = usize::from(shard);
        [self.shards.get(place), self.copies.get(place)].into_iter().flatten().copied()
    }

    /// A subscriber that comes later, without history.
    pub(crate) fn late_client(&mut self) -> usize {
        let config = ClientConfig::good(vec![("*", 0)], 0);
        self.world.add("late", address(1), Spec::Client(config))
    }

    /// Somebody who asks the exchange how it is.
    pub(crate) fn ask_exchange(&mut self) -> usize {
        let config = AskerConfig { node: address(8080) };
        self.world.add("exchange asker", address(1), Spec::Asker(config))
    }

    pub(crate) fn run_until_ms(&mut self, ms: u64) {
        self.world.run_until(ms * MS);
    }

    /// A host's log as a process that starts now would find it.
    pub(crate) fn stored_on(&self, host: usize) -> Stored {
        let host = &self.world.hosts[host];
        let found = host.read_disk(host.disk.as_ref().unwrap(), self.world.now());
        found.expect("the log opens")
    }

    /// Its live frames.
    pub(crate) fn stored(&self, host: usize) -> Vec<Frame> {
        self.stored_on(host).live
    }

    /// Runs on until every consumer has what the journal has, or the patience is over.
    pub(crate) fn settle(&mut self, from_ms: u64, patience_ms: u64) {
        for step in 1..=10 {
            self.run_until_ms(from_ms + patience_ms * step / 10);
            if self.is_settled() {
                // A little longer, so that what should not come has a chance to.
                let now_ns = self.world.now_ns();
                self.world.run_until(now_ns + 1_500 * MS);
                return;
            }
        }
    }

    /// What each exchange plays, by its number.
    pub(crate) fn schedules(&self) -> impl Iterator<Item = (u8, &Schedule)> {
        let second = self.second.as_ref().map(|second| (1, &second.schedule));
        [(0, &self.schedule)].into_iter().chain(second)
    }

    /// Where a journal is not what the exchanges played, each frame once and in order.
    pub(crate) fn difference_from_tapes(&self, journal: &[Frame]) -> Option<String> {
        let ours = symbols(journal);
        let event = |symbols: &BTreeMap<u32, Symbol>, f: &Frame| {
            (symbols[&f.instrument.get()], f.kind, f.ts_event.get(), f.body)
        };
        self.schedules().find_map(|(number, schedule)| {
            let theirs = symbols(schedule.frames());
            let kept = journal.iter().filter(|f| f.has_exchange() && f.exchange().get() == number);
            let kept: Vec<_> = kept.map(|f| event(&ours, f)).collect();
            let tape = schedule.frames().iter().filter(|f| f.has_exchange());
            let tape: Vec<_> = tape.map(|f| event(&theirs, f)).collect();
            let first = kept.iter().zip(&tape).position(|(a, b)| a != b);
            let is_same = (kept.len(), first) == (tape.len(), None);
            let (kept, tape) = (kept.len(), tape.len());
            (!is_same).then(|| {
                format!("exchange {number}: {kept} events of {tape}, first difference {first:?}")
            })
        })
    }

    fn is_settled(&self) -> bool {
        let journal = self.stored(self.core);
        let events: usize = self
            .schedules()
            .map(|(_, schedule)| schedule.frames().len() - schedule.definitions())
            .sum();
        let market = journal.iter().filter(|f| f.has_exchange()).count();
        let delivered = &self.world.client(self.all).frames;
        let delivered = delivered.iter().filter(|f| f.has_exchange()).count();
        market >= events && delivered >= market
    }

    /// Everything that must hold in the end, whatever happened before.
    pub(crate) fn verify(&mut self) {
        let journal = self.stored(self.core);
        let told = self.world.describe();
        self.verify_journal(&journal, &told);
        let (symbols, names) = (symbols(&journal), names(&journal));
        for shard in 0..SHARDS {
            let partition = Partition::hash(SHARDS).unwrap();
            let is_owned = |f: &&Frame| partition.owner_of(&names[&f.instrument.get()]) == shard;
            let owned: Vec<Frame> = journal.iter().filter(is_owned).copied().collect();
            let held = self.stored(self.shards[usize::from(shard)]);
            assert_same(&held, &owned, &format!("shard {shard}"), &told);
        }
        let is_system = |f: &Frame| symbols[&f.instrument.get()].as_str().starts_with('$');
        let market: Vec<Frame> = journal.iter().filter(|f| !is_system(f)).copied().collect();
        let client = self.world.client(self.all);
        let delivered: Vec<Frame> = client.frames.iter().map(plain).collect();
        assert_same(&delivered, &market, "the subscriber of *", &told);
        assert!(client.lost.is_empty(), "{:?}\n{told}", client.lost);
        let petr4: Symbol = "PETR4".parse().unwrap();
        let is_one =
            |f: &&Frame| f.kind == Kind::Trade as u8 && symbols[&f.instrument.get()] == petr4;
        let trades: Vec<Frame> = journal.iter().filter(is_one).copied().collect();
        let client = self.world.client(self.one);
        let delivered = client.frames.iter().filter(|f| !f.is_naming());
        let delivered: Vec<Frame> = delivered.map(plain).collect();
        assert_same(&delivered, &trades, "the subscriber of trade.PETR4", &told);
        let changes: Vec<Frame> = journal.iter().filter(|f| is_system(f)).copied().collect();
        let client = self.world.client(self.system);
        let delivered: Vec<Frame> = client.frames.iter().map(plain).collect();
        assert_same(&delivered, &changes, "the subscriber of $sys.*", &told);
    }

    /// The journal is contiguous, and holds exactly what is on the tape.
    pub(crate) fn verify_journal(&self, journal: &[Frame], told: &str) {
        let mut next = BTreeMap::new();
        for (seq, frame) in (1..).zip(journal) {
            assert_eq!(frame.seq.get(), seq, "the journal is not contiguous\n{told}");
            if frame.is_naming() {
                continue;
            }
            let next = next.entry((frame.instrument.get(), frame.kind)).or_insert(1);
            assert_eq!(frame.instrument_seq.get(), *next, "{frame:?}\n{told}");
            *next += 1;
        }
        let times: Vec<u64> = journal.iter().map(|f| f.ts_recv.get()).collect();
        assert!(times.is_sorted(), "receive times go back\n{told}");
        assert_eq!(self.difference_from_tapes(journal), None, "{told}");
    }

    pub(crate) fn query(op: Op, symbol: &str) -> Query {
        Query {
            op: op as u8,
            deadline_us: 1_000_000.into(),
            limit: 30_000.into(),
            symbol: padded(symbol),
            to: u64::MAX.into(),
            ..Query::default()
        }
    }

    /// Asks the aggregator, again until the answer is complete: a breaker may still be open.
    pub(crate) fn ask_aggregator(&mut self, query: Query) -> &crate::asker::Asker {
        for _ in 0..60 {
            let asker = self.world.ask(self.aggregator_asker, query);
            let end = asker.messages::<Ended>().next().map(|end| end.status);
            if end == Some(EndStatus::Complete as u8) {
                break;
            }
            let now_ns = self.world.now_ns();
            self.world.run_until(now_ns + 500 * MS);
        }
        self.world.asker(self.aggregator_asker)
    }

    /// Asks the owner of a symbol.
    pub(crate) fn ask_shard(&mut self, query: Query) -> &crate::asker::Asker {
        let symbol = query.symbol().unwrap();
        let owner = usize::from(Partition::hash(SHARDS).unwrap().owner(&symbol));
        self.world.ask(self.shard_askers[owner], query)
    }
}

pub(crate) fn symbols(frames: &[Frame]) -> BTreeMap<u32, Symbol> {
    let definitions = frames.iter().filter_map(Frame::view::<Definition>);
    definitions.map(|d| (d.instrument.get(), d.symbol)).collect()
}

/// All names of each instrument: patterns match either of them, and the shortest decides about the owner.
pub(crate) fn names(frames: &[Frame]) -> BTreeMap<u32, Names> {
    let definitions = frames.iter().filter_map(Frame::view::<Definition>);
    definitions.map(|d| (d.instrument.get(), d.names())).collect()
}

/// The bytes of frames, for comparing without their delivery flags.
pub(crate) fn plain(frame: &Frame) -> Frame {
    let mut plain = *frame;
    plain.flags = (frame.flags.get() & !pregao::wire::Flags::DELIVERY).into();
    plain.renew_crc();
    plain
}

pub(crate) fn assert_same(got: &[Frame], want: &[Frame], who: &str, told: &str) {
    let first = got.iter().zip(want).position(|(a, b)| a != b);
    let around = |frames: &[Frame]| -> Vec<u64> {
        let from = first.unwrap_or(got.len().min(want.len())).saturating_sub(3);
        frames.iter().skip(from).take(8).map(|f| f.seq.get()).collect()
    };
    assert!(
        got == want,
        "{who} has {} frames, not {}; first difference {first:?}; around it {:?}, not {:?}\n{told}",
        got.len(),
        want.len(),
        around(got),
        around(want),
    );
}
