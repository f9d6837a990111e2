//! Frames of every kind, almost right: on the wire in any pieces, to the client's machine, and to each
//! node in each role that a peer can take.

use std::net::SocketAddr;
use std::time::Duration;

use zerocopy::IntoBytes;

use pregao::breaker;
use pregao::client::{Follower, Request};
use pregao::feed::Pattern;
use pregao::limits;
use pregao::log::memory::{MemoryDisk, MemoryStorage};
use pregao::log::{Log, LogConfig, Recovery, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::market::chaos::ChaosConfig;
use pregao::market::partition::Partition;
use pregao::node::aggregator::{Aggregator, AggregatorConfig, LeafConfig};
use pregao::node::broker::{Broker, BrokerConfig};
use pregao::node::external::{External, ExternalConfig, FeedConfig, Speed};
use pregao::node::lines::{Lines, LinesConfig};
use pregao::node::sequencer::{ExchangeConfig, FollowerConfig, Sequencer, SequencerConfig};
use pregao::node::shard::{Shard, ShardConfig};
use pregao::node::{Action, CloseReason, ConnId, FrameInput, Node, Origin};
use pregao::producer::{FeedId, Production};
use pregao::random::Random;
use pregao::time::{Mono, Now};
use pregao::wire::{
    Decimals, Ended, FRAME_BYTES, Flags, Frame, Kind, Mode, Role, Seq, Session, SnapshotEnd,
    Symbol, Trade, U16, U32, U64, VERSION, as_frames, padded,
};

use crate::mutate::{below, cases, pick};

/// A frame of any kind whose fields are anything: small numbers, edges, noise, names.
fn any_frame(random: &mut Random) -> Frame {
    let mut frame = Frame::ZERO;
    let bytes = frame.as_mut_bytes();
    let mut at = 4;
    while at < 60 {
        let word = match random.below(8) {
            0..=2 => 0,
            3 => random.below(4),
            4 => u64::MAX,
            5 => u64::from_le_bytes(*b"PETR4\0\0\0"),
            6 => random.below(1_000),
            _ => random.next_u64(),
        };
        let width = *pick(random, &[1, 2, 4, 4, 8, 8, 8]);
        for (byte, new) in bytes[at..60].iter_mut().take(width).zip(word.to_le_bytes()) {
            *byte = new;
        }
        at += width;
    }
    frame.kind = if random.below(30) == 0 {
        random.next_u64() as u8
    } else {
        *pick(random, &Kind::ALL) as u8
    };
    frame.version = if random.below(60) == 0 { 2 } else { VERSION };
    frame.flags = U16::new(match random.below(6) {
        0 => random.next_u64() as u16,
        1 => Flags::SNAPSHOT,
        2 => Flags::MORE,
        _ => 0,
    });
    if random.below(40) > 0 {
        frame.renew_crc();
    }
    frame
}

/// A frame that passes the checks.
fn good_frame(random: &mut Random) -> Frame {
    loop {
        let frame = any_frame(random);
        if frame.check().is_ok() {
            return frame;
        }
    }
}

#[test]
fn a_frame_that_passes_is_whole_and_any_flip_is_noticed() {
    cases(40_000, |random| {
        let frame = any_frame(random);
        let _ = format!("{frame:?}");
        if frame.check().is_err() {
            return;
        }
        assert!(frame.kind().is_some() && frame.crc.get() == frame.computed_crc());
        let mut flipped = frame;
        let bit = below(random, FRAME_BYTES * 8);
        flipped.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        assert!(flipped.check().is_err(), "bit {bit} of {frame:?}");
        let marked = frame.delivered(Flags::STALE);
        assert!(marked.check().is_ok() || !frame.kind().is_some_and(Kind::is_data));
    });
}

#[test]
fn a_stream_is_the_same_in_all_pieces() {
    let mut random = Random::new(1);
    let frames: Vec<Frame> = (0..3).map(|_| good_frame(&mut random)).collect();
    let bytes = frames.as_bytes();
    let read = |cuts: &[usize]| {
        let mut carry: Vec<u8> = Vec::new();
        let mut found = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            carry.extend_from_slice(&bytes[from..cut]);
            from = cut;
            let (whole, rest) = as_frames(&carry);
            found.extend_from_slice(whole);
            carry = rest.to_vec();
        }
        assert!(carry.is_empty());
        found
    };
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            assert_eq!(read(&[first, second]), frames, "cut at {first} and {second}");
        }
    }
    assert_eq!(read(&(0..bytes.len()).collect::<Vec<_>>()), frames, "byte by byte");
}

#[test]
fn no_frame_confuses_the_client() {
    cases(4_000, |random| {
        let mode = *pick(random, &[Mode::Lossless, Mode::Latest, Mode::Conflate]);
        let text = pick::<&str>(random, &["*", "PETR4", "$sys.*"]);
        let mut follower = Follower::new(Request {
            source: Request::MARKET,
            patterns: vec![Pattern::new(text, 0).unwrap()],
            mode,
            conflate_ms: 5,
            from_seq: Seq::new(random.below(3)),
        });
        for _ in 0..40 {
            let frame = good_frame(random);
            match random.below(4) {
                0 => follower.handle_history_frame(&frame),
                1 if random.below(4) == 0 => {
                    let (covered_from, as_of) = (random.next_u64(), random.below(4));
                    let (covered_from, as_of) = (covered_from.into(), as_of.into());
                    follower.handle_history_end(&Ended { covered_from, as_of, ..Ended::default() })
                }
                _ => follower.handle_broker_frame(&frame),
            }
            while follower.poll_event().is_some() {}
            let _ = (follower.next_read(), follower.must_subscribe_again());
            if random.below(12) == 0 {
                follower.handle_broker_lost();
            }
        }
    });
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

const START: Now = Now { mono: Mono(1_000_000_000), wall_ns: 1_700_000_000_000_000_000 };

fn open_log(
    name: &str,
    sequence: Sequence,
    upstream: UpstreamRule,
) -> (Log<MemoryStorage>, Recovery) {
    let config = LogConfig {
        name: padded(name),
        segment_records: 32,
        policy: SyncPolicy::Batch,
        upstream,
        sequence,
        retention: Retention::default(),
    };
    Log::open(MemoryDisk::new(512).storage(), config, START).unwrap()
}

/// Speaks to a node on several connections at once, in one role each, and lets time pass.
fn torment<N: Node>(random: &mut Random, node: &mut N, source: u8) {
    let mut now = START;
    let mut conns: Vec<ConnId> = Vec::new();
    let mut generation = 1;
    for _ in 0..60 {
        now.mono.0 += random.below(400_000_000);
        now.wall_ns = now.wall_ns.wrapping_add(random.below(400_000_000));
        node.handle_storage(now);
        if conns.len() < 3 {
            let conn = ConnId { generation, slot: conns.len() as u32 };
            generation += 1;
            conns.push(conn);
            node.handle_open(now, conn, Origin::LOCAL);
            let roles = [
                Role::Subscriber,
                Role::Publisher,
                Role::Feeder,
                Role::Querier,
                Role::Consumer,
                Role::Producer,
            ];
            let hello = Session {
                role: *pick(random, &roles) as u8,
                source,
                epoch: U32::new(random.below(3) as u32),
                epoch_start: U64::new(random.below(3)),
                next_seq: U64::new(random.below(3)),
                feed: U64::new(random.below(3)),
                options: U16::new(*pick(random, &[0, Session::APPENDS])),
                name: padded(["own", "two", "core"][below(random, 3)]),
                ..Session::default()
            };
            node.handle_frames(now, conn, &[Frame::seal(hello)]);
        }
        let conn = *pick(random, &conns);
        let frames: Vec<Frame> = (0..random.below(6))
            .map(|_| if random.below(8) == 0 { any_frame(random) } else { good_frame(random) })
            .collect();
        node.handle_frames(now, conn, &frames);
        node.handle_timers(now);
        node.commit(now);
        node.proceed(now);
        let reads = random.below(3) > 0;
        for conn in conns.clone() {
            let outgoing = node.outgoing(now, conn).len();
            if reads && outgoing > 0 {
                let taken =
                    if random.below(3) == 0 { 1 + below(random, outgoing) } else { outgoing };
                node.handle_sent(now, conn, taken.min(outgoing));
            }
        }
        while node.poll_dirty().is_some() {}
        // A node may close and may dial; who dials is told that nobody is there.
        let mut dials = Vec::new();
        while let Some(action) = node.poll_action() {
            match action {
                Action::Close(conn) => {
                    conns.retain(|known| *known != conn);
                    node.handle_close(now, conn, CloseReason::Ours);
                }
                Action::Dial { dial, .. } => dials.push(dial),
                Action::HandOver { .. } => panic!("every node here has one reactor"),
                Action::Log(..) => {}
            }
        }
        for dial in dials {
            if random.below(2) == 0 {
                node.handle_dial_failed(now, dial, pregao::node::DialFailure::Refused);
            } else {
                let conn = ConnId { generation, slot: 10 + dial.0 };
                generation += 1;
                conns.push(conn);
                node.handle_open(now, conn, Origin::Dialed(dial));
            }
        }
        assert!(node.failure().is_none(), "{:?}", node.failure());
        let _ = node.next_deadline();
    }
}

#[test]
fn no_frame_confuses_the_broker() {
    cases(1_500, |random| {
        let config = BrokerConfig::new(64, 2);
        torment(random, &mut Broker::new(config), 1);
    });
}

#[test]
fn no_frame_confuses_the_exchange() {
    cases(800, |random| {
        let start_wall_ns = START.wall_ns;
        let config = ExternalConfig {
            feed: FeedConfig::Synthetic { seed: 1, events_per_second: 500, start_wall_ns },
            speed: Speed::Times { thousandths: 1_000 },
            chaos: ChaosConfig::OFF,
            playground: true,
            sessions_max: 2,
        };
        torment(random, &mut External::new(config, START), 0);
    });
}

#[test]
fn no_frame_confuses_a_shard() {
    cases(1_500, |random| {
        let (log, recovery) = open_log("shard-0", Sequence::Increasing, UpstreamRule::FollowSeq);
        let partition = Partition::hash(1).unwrap();
        let config = ShardConfig {
            name: "shard-0".to_owned(),
            shard: 0,
            partition,
            behind_max: limits::BEHIND_AFTER_DEFAULT,
        };
        torment(random, &mut Shard::new(config, log, &recovery), 1);
    });
}

#[test]
fn no_frame_confuses_core() {
    cases(1_500, |random| {
        let (log, recovery) = open_log("core", Sequence::Contiguous, UpstreamRule::CountAppended);
        let follower = |name: &str, port, shard| FollowerConfig {
            name: name.to_owned(),
            address: address(port),
            shard,
        };
        let config = SequencerConfig {
            exchanges: vec![ExchangeConfig::nameless(address(8080), breaker::Config::default())],
            followers: vec![follower("broker", 8081, None), follower("shard-0", 9001, Some(0))],
            partition: Partition::hash(1).unwrap(),
            breaker: breaker::Config::default(),
            heartbeat: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            request_deadline: Duration::from_millis(500),
            connect_deadline: Duration::from_secs(1),
            broker_warmup_frames: 32,
            seed: 1,
            epoch_id: 11,
            takes_unlisted: true,
            appends: false,
        };
        torment(random, &mut Sequencer::new(config, log, &recovery, START).unwrap(), 1);
    });
}

#[test]
fn no_frame_confuses_an_exchange_of_lines_or_a_producer() {
    cases(1_500, |random| {
        let config = LinesConfig::new("own", address(8082), 1);
        torment(random, &mut Lines::new(config).unwrap(), 0);
        // What a core of any kind says to a producer: it goes on, or the connection is of no use.
        let mut producer = Production::with_window(FeedId::new("own", 1).unwrap(), 8);
        let mut out = Vec::new();
        for _ in 0..40 {
            if !producer.is_open() || random.below(9) == 0 {
                producer.handle_open();
                let next_seq = U64::new(random.below(4));
                let greeting = Session { next_seq, feed: U64::new(1), ..Session::default() };
                let _ = producer.handle_frame(&Frame::seal(greeting));
                let end = SnapshotEnd { id: U32::new(3), ..SnapshotEnd::default() };
                let _ = producer.handle_frame(&Frame::seal(end));
            }
            if let Ok(gold) =
                producer.define("GOLD".parse().unwrap(), Decimals { price: 2, quantity: 0 })
            {
                let _ = producer.push(Trade { instrument: gold.id.into(), ..Trade::default() });
            }
            if producer.handle_frame(&any_frame(random)).is_err() {
                producer.handle_close();
            }
            out.clear();
            producer.poll_bytes(&mut out, 5);
            assert!(
                producer.kept() <= 8
                    && producer.durable_seq() <= producer.next_seq().unwrap_or(u64::MAX)
            );
        }
    });
}

#[test]
fn no_frame_confuses_the_aggregator() {
    cases(1_500, |random| {
        let leaf = |name: &str, port, shard| LeafConfig {
            name: name.to_owned(),
            address: address(port),
            shard,
        };
        let config = AggregatorConfig {
            leaves: vec![leaf("core", 8082, None), leaf("shard-0", 9001, Some(0))],
            partition: Partition::hash(1).unwrap(),
            breaker: breaker::Config::default(),
            connect_deadline: Duration::from_secs(1),
            request_deadline: Duration::from_millis(500),
            queries_per_client_max: 16,
            behind_max: limits::BEHIND_AFTER_DEFAULT,
            seed: 1,
        };
        torment(random, &mut Aggregator::new(&config).unwrap(), 1);
    });
}

#[test]
fn a_symbol_field_of_any_bytes_is_a_symbol_or_none() {
    cases(20_000, |random| {
        let query = pregao::wire::Query {
            symbol: std::array::from_fn(|_| random.next_u64() as u8 & 0x7F),
            ..Default::default()
        };
        if let Some(symbol) = query.symbol() {
            assert!(symbol.is_valid() && symbol.as_str().parse::<Symbol>() == Ok(symbol));
        }
    });
}
