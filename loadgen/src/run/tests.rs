//! The whole generator against a real broker in a thread of this process.

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use pregao::gateway::{Gateway, GatewayConfig};
use pregao::http::{AllowedHosts, HttpConnection};
use pregao::node::broker::{Broker, BrokerConfig};
use pregao::node::{Node, Timed};
use pregao::reactor::{Listen, Options, Reactor, SocketOptions};

use super::*;

struct Silent;

impl Progress for Silent {
    fn connecting(&self, _confirmed: u64, _of: u64) {}
    fn running(&self, _elapsed: Duration, _of: Duration, _delivered: u64) {}
    fn finish(&self) {}
}

/// A broker that stops with this value.
struct Running {
    address: SocketAddr,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(ring_frames: usize, send_buffer_bytes: Option<usize>) -> Running {
        let accepted = SocketOptions { send_buffer_bytes, ..SocketOptions::default() };
        let config = BrokerConfig::new(ring_frames, 1_000);
        Running::run(move |it| Listen { sockets: accepted, ..it }, |_| Broker::new(config))
    }

    /// A gateway that follows this broker and has no other node.
    fn gateway(&self) -> Running {
        let broker = self.address;
        let listen = |it| Listen { unconsumed_bytes_max: HttpConnection::OFFERED_BYTES_MAX, ..it };
        Running::run(listen, move |own| {
            let config = GatewayConfig {
                broker,
                // Nobody listens on port 1: what the ring has no more cannot be had.
                core: "127.0.0.1:1".parse().unwrap(),
                nodes: Vec::new(),
                ring_frames: 1 << 14,
                subscriptions_max: 1_000,
                unread_max: Duration::from_secs(30),
                breaker: pregao::breaker::Config::default(),
                connect_deadline: Duration::from_secs(1),
                hosts: AllowedHosts::loopback(own.port()),
                playground: false,
                kill: None,
                seed: 1,
            };
            Gateway::new(config).unwrap()
        })
    }

    fn run<N: Node + Timed>(
        listen: impl FnOnce(Listen) -> Listen,
        node: impl FnOnce(SocketAddr) -> N + Send + 'static,
    ) -> Running {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let listen = vec![listen(Listen::frames(anywhere))];
        let mut reactor = Reactor::new(Options { listen, is_punctual: false }).unwrap();
        let address = reactor.local_addr().unwrap();
        reactor.stop_on(stopped).unwrap();
        let work = move || reactor.run(&mut node(address)).map(drop).unwrap();
        Running { address, stop: Some(stop), thread: Some(std::thread::spawn(work)) }
    }

    fn spec(&self, rate: u64, watch: usize) -> RunSpec {
        RunSpec {
            target: Target::Pregao,
            address: self.address,
            publish_address: None,
            subscribers: 20,
            threads: 2,
            load: Some(Load { rate, instruments: 50, watch, source: 2 }),
            market_source: 1,
            warm_up: Duration::from_millis(50),
            duration: Duration::from_millis(300),
            stalled: 0,
            slow: 0,
            churn_per_s: 0,
            joiners: 0,
            connect_max: limits::CONNECT_ALL_MAX,
            drain_max: limits::DRAIN_MAX,
            pids: vec![std::process::id()],
            seed: 3,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn every_delivery_of_a_full_feed_is_counted_once() {
    let broker = Running::start(1 << 14, None);
    // Twice on one broker: what a run leaves behind must not reach the next one.
    for _ in 0..2 {
        let outcome = run(&broker.spec(2_000, 0), &Silent).unwrap();
        assert_eq!(outcome.losses(), Vec::<String>::new());
        assert_eq!(outcome.measured.latency.len(), 600 * 20);
        assert_eq!(outcome.measured.service.len(), 600 * 20);
        assert_eq!((outcome.groups.deliveries_min, outcome.groups.deliveries_max), (600, 600));
        assert_eq!(outcome.measured.skew.len(), 600);
    }
}

#[test]
fn what_a_gateway_brings_to_web_sockets_is_counted_once() {
    let broker = Running::start(1 << 14, None);
    let gateway = broker.gateway();
    // Twice on one gateway: what a run leaves behind must not reach the next one.
    for watch in [0, 5] {
        let spec = broker.spec(2_000, watch);
        let load = spec.load.map(|load| Load { source: Target::PregaoWs.own_source(), ..load });
        let publish_address = Some(broker.address);
        let (target, address) = (Target::PregaoWs, gateway.address);
        let spec = RunSpec { target, address, publish_address, load, joiners: 3, ..spec };
        let outcome = run(&spec, &Silent).unwrap();
        assert_eq!((outcome.losses(), outcome.joins.len()), (Vec::<String>::new(), 3));
        let all = 600 * 20;
        let is_right = |count| if watch == 0 { count == all } else { 600 < count && count < all };
        assert!(is_right(outcome.measured.latency.len()), "{}", outcome.measured.latency.len());
    }
}

#[test]
fn watch_lists_bring_what_is_watched_and_nothing_else() {
    let broker = Running::start(1 << 14, None);
    let spec = broker.spec(2_000, 5);
    let outcome = run(&spec, &Silent).unwrap();
    assert_eq!(outcome.losses(), Vec::<String>::new());
    // The same plan says how much that is.
    let plan = Plan::new(2, 50, 5, 3);
    let mut messages = plan.messages();
    let lists: Vec<Vec<u32>> = (0..20).map(|subscriber| plan.watch_list(subscriber)).collect();
    let mut expected = 0;
    for number in 0..700 {
        let instrument = messages.next(0, 0).1.instrument().index().get();
        // The first 50 ms are warm-up.
        if number >= 100 {
            expected += lists.iter().filter(|list| list.contains(&instrument)).count() as u64;
        }
    }
    assert_eq!(outcome.measured.latency.len(), expected);
}

#[test]
fn who_stalls_reads_slowly_or_comes_and_goes_spoils_nothing_for_the_others() {
    let broker = Running::start(1 << 14, None);
    let spec = RunSpec { stalled: 1, slow: 2, churn_per_s: 50, ..broker.spec(2_000, 0) };
    let outcome = run(&spec, &Silent).unwrap();
    assert_eq!(outcome.losses(), Vec::<String>::new());
    assert!(outcome.groups.reconnects > 0);
    assert_eq!(outcome.groups.deliveries_max, 600);
    assert!(outcome.groups.slow_deliveries < 2 * 700, "the slow ones read all of it");
}

#[test]
fn only_a_subscriber_that_never_read_is_refused() {
    // What the sockets hold and the ring are far less than what is sent.
    let broker = Running::start(1 << 10, Some(4_096));
    let spec =
        RunSpec { stalled: 2, duration: Duration::from_millis(800), ..broker.spec(40_000, 0) };
    let outcome = run(&spec, &Silent).unwrap();
    let told = |pace, what| outcome.groups.told(pace, |told| told == what);
    assert_eq!(told(Pace::Stalled, Some("GAP lost")), 2, "{:?}", outcome.groups.told);
    // A slow machine may lap others too; then they were told, and the run says that it lost.
    let lost = outcome.losses();
    assert_eq!(told(Pace::Full, None) == 18, lost.is_empty(), "{lost:?}");
}

#[test]
fn late_joiners_are_timed_and_no_deliveries() {
    let broker = Running::start(1 << 14, None);
    let outcome = run(&RunSpec { joiners: 5, ..broker.spec(1_000, 0) }, &Silent).unwrap();
    assert_eq!(outcome.losses(), Vec::<String>::new());
    assert_eq!((outcome.joins.len(), outcome.measured.latency.len()), (5, 300 * 20));
    assert!(outcome.joins.iter().all(|wait| !wait.is_zero()));
}

#[test]
fn a_broker_that_loses_is_found_out() {
    // A ring of 64 frames under bursts of hundreds: cursors are lapped, and the broker says so.
    let broker = Running::start(64, Some(4_096));
    let outcome = run(&broker.spec(400_000, 0), &Silent).unwrap();
    assert!(outcome.faults.lost > 0 && outcome.faults.gaps_told > 0);
    assert!(!outcome.losses().is_empty());
    let counted: u64 = outcome.measured.latency.len();
    assert!(counted < 120_000 * 20);
}

/// Ends the run as soon as something was delivered in its measured part.
struct Impatient(Cell<u64>);

impl Progress for Impatient {
    fn connecting(&self, _confirmed: u64, _of: u64) {}
    fn running(&self, _elapsed: Duration, _of: Duration, delivered: u64) {
        self.0.set(delivered);
    }
    fn finish(&self) {}
    fn wants_end(&self) -> bool {
        self.0.get() > 0
    }
}

#[test]
fn a_run_that_is_ended_early_has_the_figures_until_then_and_lost_nothing() {
    let broker = Running::start(1 << 12, None);
    let spec = RunSpec { duration: Duration::from_secs(3_600), ..broker.spec(1_000, 0) };
    let outcome = run(&spec, &Impatient(Cell::new(0))).unwrap();
    assert!(outcome.measured_for < Duration::from_secs(600), "{:?}", outcome.measured_for);
    assert!(!outcome.measured.latency.is_empty());
    assert_eq!(outcome.losses(), Vec::<String>::new());
    let rate = outcome.offered_per_s.unwrap();
    assert!(
        rate > 100.0,
        "{rate} a second: over the time that was measured, not the one that was planned"
    );
}

#[test]
fn the_memory_of_subscribers_before_is_not_told_as_none_of_these() {
    assert_eq!(bytes_per_subscriber(1_500, 1_000, 5), Some(100.0));
    assert_eq!(bytes_per_subscriber(1_000, 1_000, 5), None, "a second run on one broker");
    assert_eq!(bytes_per_subscriber(900, 1_000, 5), None);
}
