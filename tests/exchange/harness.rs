//! Core in a thread, seen from where its broker stands.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pregao::breaker::{self, Reason, State};
use pregao::client::{Answer, QueryClient};
use pregao::log::memory::MemoryDisk;
use pregao::log::{Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use pregao::market::partition::Partition;
use pregao::node::sequencer::{ExchangeConfig, FollowerConfig, Sequencer, SequencerConfig};
use pregao::reactor::{Options, Reactor};
use pregao::wire::{
    BreakerChange, FRAME_BYTES, Frame, Kind, Message, Op, Query, Session, U64, as_frames, padded,
    unpadded,
};
use socket2::SockRef;
use zerocopy::IntoBytes;

use crate::support::process::PATIENCE;

/// The open state's length, without growth or jitter: what the tests call a probe interval.
pub(crate) const OPEN_WAIT: Duration = Duration::from_millis(150);
/// For a connect, and for an answer.
pub(crate) const DEADLINE: Duration = Duration::from_millis(150);

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn breaker_config() -> breaker::Config {
    breaker::Config {
        minimum_number_of_calls: 3,
        sliding_window_size: 3,
        wait_duration_in_open_state: OPEN_WAIT,
        exponential_backoff_multiplier: 1.0,
        randomized_wait_factor: 0.0,
        ..breaker::Config::default()
    }
}

/// A connection that is read frame by frame, with a deadline.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        Wire { stream, buffer: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send<M: Message>(&mut self, message: M) -> bool {
        self.send_frame(&Frame::seal(message))
    }

    pub(crate) fn send_frame(&mut self, frame: &Frame) -> bool {
        self.stream.write_all(frame.as_bytes()).is_ok()
    }

    /// `None` when the peer is gone, or nothing came `within` the time.
    pub(crate) fn read(&mut self, within: Duration) -> Option<Frame> {
        let until = Instant::now() + within;
        let mut bytes = [0; 4096];
        while self.buffer.len() < FRAME_BYTES {
            let left = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero())?;
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let rest = self.buffer.split_off(FRAME_BYTES);
        let whole = std::mem::replace(&mut self.buffer, rest);
        let (frames, _) = as_frames(&whole);
        assert_eq!(frames[0].check(), Ok(()));
        Some(frames[0])
    }
}

/// A change of a breaker, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) to: State,
    pub(crate) reason: Reason,
    /// When it happened, by core's wall clock.
    pub(crate) at: SystemTime,
}

/// Words and figures of a status answer.
#[derive(Debug)]
pub(crate) struct Status {
    words: BTreeMap<String, String>,
    figures: BTreeMap<String, i64>,
}

impl Status {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.words.get(name).map_or("", String::as_str)
    }

    pub(crate) fn figure(&self, name: &str) -> i64 {
        self.figures.get(name).copied().unwrap_or(0)
    }
}

/// A running core.
pub(crate) struct Core {
    pub(crate) address: SocketAddr,
    /// The thread's number, for its accounts in `/proc`.
    pub(crate) thread_id: String,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
    feed: Wire,
}

impl Core {
    /// Core, dialing this exchange, with the test as its broker.
    pub(crate) fn start(exchange: SocketAddr) -> Core {
        let broker = TcpListener::bind(loopback()).unwrap();
        let followers = vec![FollowerConfig {
            name: "broker".to_owned(),
            address: broker.local_addr().unwrap(),
            shard: None,
        }];
        let config = SequencerConfig {
            exchanges: vec![ExchangeConfig::nameless(exchange, breaker_config())],
            followers,
            partition: Partition::hash(1).unwrap(),
            breaker: breaker_config(),
            heartbeat: Duration::from_millis(100),
            silence_max: Duration::from_millis(300),
            request_deadline: DEADLINE,
            connect_deadline: DEADLINE,
            broker_warmup_frames: 0,
            seed: 1,
            epoch_id: 11,
            takes_unlisted: true,
            appends: false,
        };
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (started, address) = mpsc::channel();
        let thread = std::thread::spawn(move || run(config, stopped, &started));
        let (address, thread_id) = address.recv_timeout(PATIENCE).unwrap();
        let feed = be_broker(&broker);
        Core { address, thread_id, stop, thread: Some(thread), feed }
    }

    /// The next published frame.
    pub(crate) fn frame(&mut self, within: Duration) -> Option<Frame> {
        self.feed.read(within)
    }

    /// Waits until core has published a frame of this kind.
    pub(crate) fn wait_for_kind(&mut self, kind: Kind) -> Frame {
        loop {
            let frame = self.frame(PATIENCE).expect("core publishes in time");
            if frame.kind() == Some(kind) {
                return frame;
            }
        }
    }

    /// Waits until the breaker of the exchange's session changes to a state.
    pub(crate) fn wait_for(&mut self, state: State) -> Change {
        loop {
            let frame = self.wait_for_kind(Kind::BreakerChange);
            let change = frame.view::<BreakerChange>().unwrap();
            let change = Change {
                name: unpadded(&change.name),
                to: State::from_number(change.to).unwrap(),
                reason: Reason::from_number(change.reason).unwrap(),
                at: UNIX_EPOCH + Duration::from_nanos(change.ts_event.get()),
            };
            if change.name == "core.exchange" && change.to == state {
                return change;
            }
        }
    }

    pub(crate) fn query_client(&self) -> QueryClient {
        QueryClient::open("core", self.address, PATIENCE).unwrap()
    }

    pub(crate) fn ask(&self, queries: &[Query]) -> Vec<Answer> {
        self.query_client().ask(queries, PATIENCE).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        let answer = self.ask(&[Query { op: Op::Status as u8, ..Query::default() }]).remove(0);
        Status {
            words: answer.texts.into_iter().collect(),
            figures: answer.metrics.into_iter().collect(),
        }
    }

    /// Waits for a status that says so. The published feed is what paces the questions.
    pub(crate) fn wait_for_status(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{status:?}");
            let _ = self.frame(Duration::from_millis(5));
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let told = self.stop.write_all(&[1]);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            told.unwrap();
            ended.unwrap().unwrap();
        }
    }
}

fn run(config: SequencerConfig, stopped: UnixStream, started: &mpsc::Sender<(SocketAddr, String)>) {
    let mut reactor = Reactor::new(Options::listening(loopback())).unwrap();
    reactor.stop_on(stopped).unwrap();
    let now = reactor.clock().now();
    let log_config = LogConfig {
        name: padded("core"),
        segment_records: 1 << 16,
        policy: SyncPolicy::None,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    };
    let disk = MemoryDisk::new(4096);
    let (journal, recovery) = Log::open(disk.storage(), log_config, now).unwrap();
    let mut node = Sequencer::new(config, journal, &recovery, now).unwrap();
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
    started.send((reactor.local_addr().unwrap(), thread)).unwrap();
    reactor.run(&mut node).unwrap();
}

/// Accepts core as its broker would, and wants the sequence from its first frame on.
fn be_broker(listener: &TcpListener) -> Wire {
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).unwrap();
    let (stream, _) = listener.accept().expect("core dials its broker");
    let mut feed = Wire::new(stream);
    let hello = feed.read(PATIENCE).unwrap();
    let hello = hello.view::<Session>().expect("a SESSION first");
    let answer = Session {
        source: hello.source,
        epoch: hello.epoch,
        epoch_start: hello.epoch_start,
        next_seq: U64::new(1),
        ..Session::default()
    };
    assert!(feed.send(answer));
    feed
}
