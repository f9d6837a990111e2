//! Core is killed again and again while the exchange feeds it as fast as it can. This process plays the
//! exchange, the broker and a shard, and keeps the ledger of what core has published: that is what its
//! journal must hold, frame by frame, whatever happens to it, and trim only behind the shard.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pregao::random::Random;
use pregao::wire::{
    Ack, Definition, Flags, Frame, Heartbeat, I64, Kind, Resume, Role, Session, Trade, U16, U32,
    U64,
};

use super::files;
use super::node::Place;
use super::process::{Deadline, PATIENCE};
use super::shard_kills::rounds;
use super::wire::{Came, Wire};

const INSTRUMENTS: u64 = 3;
const SEGMENT_BYTES: u64 = 65_536;
const RETAIN_BYTES: u64 = 4 * SEGMENT_BYTES;
const FEED: u64 = 0x1ED6E2;

/// What was published, and what was acknowledged.
#[derive(Default)]
struct Ledger {
    /// By `seq`, from 1.
    published: Vec<Frame>,
    /// What the shard has, which is what it acknowledges as far as the broker has it too.
    shard_seq: u64,
    acknowledged_seq: u64,
    durable_seq: u64,
    problems: Vec<String>,
    lives: u32,
}

impl Ledger {
    fn next_seq(&self) -> u64 {
        self.published.len() as u64 + 1
    }

    fn publish(&mut self, frame: &Frame) {
        let seq = frame.seq.get();
        if seq < self.next_seq() {
            let index = usize::try_from(seq).unwrap() - 1;
            if self.published[index] != *frame {
                self.problems.push(format!("seq {seq} was published as two frames"));
            }
        } else if seq == self.next_seq() {
            self.published.push(*frame);
        } else {
            self.problems.push(format!("seq {seq} came in place of {}", self.next_seq()));
        }
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn with<T>(ledger: &Shared, act: impl FnOnce(&mut Ledger) -> T) -> T {
    act(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Serves every connection until the test is over.
fn serve(over: &Arc<AtomicBool>, each: impl Fn(Wire, &AtomicBool) + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let over = Arc::clone(over);
    // Ends with the process: it holds nothing that outlives it.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            each(Wire::new(stream), &over);
            if over.load(Ordering::SeqCst) {
                return;
            }
        }
    });
    address
}

fn trade(upstream_seq: u64) -> Frame {
    let drawn = Random::new(upstream_seq).next_u64();
    Frame::seal(Trade {
        seq: U64::new(upstream_seq),
        instrument: U32::new(u32::try_from(drawn % INSTRUMENTS).unwrap()),
        ts_event: U64::new(upstream_seq),
        price: I64::new(i64::try_from(drawn >> 20).unwrap()),
        qty: U64::new(1 + drawn % 9),
        trade_id: U64::new(upstream_seq),
        ..Trade::default()
    })
}

/// The exchange: its feed is a function of its own numbers.
fn exchange(mut wire: Wire, over: &AtomicBool) {
    let Some(hello) = wire.wait_kind(Kind::Session) else { return };
    let wanted = hello.view::<Session>().unwrap().next_seq.get().max(1);
    let session =
        Session { feed: U64::new(FEED), next_seq: U64::new(wanted), ..Session::default() };
    wire.send(session);
    for index in 0..INSTRUMENTS {
        let symbol = format!("SHARE{index}").parse().unwrap();
        let definition = Definition::new(U32::new(u32::try_from(index).unwrap()).into(), symbol, 2);
        wire.send_frame(&Frame::seal(definition).delivered(Flags::SNAPSHOT));
    }
    let mut next = wanted;
    while !over.load(Ordering::SeqCst) {
        if wire.unsent() < 65_536 {
            for seq in next..next + 256 {
                wire.send_frame(&trade(seq));
            }
            next += 256;
        }
        if !wire.flush() {
            return;
        }
        let Came::Frames(frames) = (match wire.read(Duration::from_micros(50)) {
            Came::End => return,
            came => came,
        }) else {
            continue;
        };
        for frame in &frames {
            if let Some(beat) = frame.view::<Heartbeat>()
                && beat.flags.get() & Flags::MORE != 0
            {
                wire.send(Heartbeat { flags: U16::ZERO, ..*beat });
            }
            if let Some(resume) = frame.view::<Resume>() {
                next = resume.next_seq.get();
                let (token, next_seq) = (resume.id, resume.next_seq);
                wire.send(Heartbeat { token, next_seq, ..Heartbeat::default() });
            }
        }
    }
}

/// A follower of the journal; `take` gets each frame and says which frame to send back.
fn follower(
    mut wire: Wire,
    over: &AtomicBool,
    wanted: (u64, u64),
    mut take: impl FnMut(&[Frame]) -> Option<(u64, u64)>,
) {
    let Some(hello) = wire.wait_kind(Kind::Session) else { return };
    let hello = *hello.view::<Session>().unwrap();
    wire.send(Session {
        source: hello.source,
        epoch: hello.epoch,
        epoch_start: hello.epoch_start,
        next_seq: U64::new(wanted.0),
        durable_seq: U64::new(wanted.1),
        ..Session::default()
    });
    while wire.flush() && !over.load(Ordering::SeqCst) {
        match wire.read(Duration::from_millis(20)) {
            Came::End => return,
            Came::Nothing => {}
            Came::Frames(frames) => {
                if let Some((accepted_seq, durable_seq)) = take(&frames) {
                    wire.send(Ack {
                        epoch: hello.epoch,
                        accepted_seq: U64::new(accepted_seq),
                        durable_seq: U64::new(durable_seq),
                        ..Ack::default()
                    });
                }
            }
        }
    }
}

/// The exchange, the broker and a shard of a core, with an empty ledger.
pub(crate) struct Peers {
    over: Arc<AtomicBool>,
    ledger: Shared,
    /// Where they are, for the configuration.
    pub(crate) net: String,
}

impl Peers {
    pub(crate) fn start() -> Peers {
        let over = Arc::new(AtomicBool::new(false));
        let ledger = Shared::default();
        let (of_broker, of_shard) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let external = serve(&over, exchange);
        let broker = serve(&over, move |wire, over| be_broker(&of_broker, wire, over));
        let shard = serve(&over, move |wire, over| be_shard(&of_shard, wire, over));
        let net =
            format!("external = \"{external}\"\nbroker = \"{broker}\"\nshards = [\"{shard}\"]");
        Peers { over, ledger, net }
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_event(frame: &&Frame) -> bool {
    frame.kind().is_some_and(Kind::is_data) && !frame.has(Flags::SNAPSHOT)
}

fn be_broker(ledger: &Shared, wire: Wire, over: &AtomicBool) {
    let next_seq = with(ledger, |ledger| ledger.next_seq());
    follower(wire, over, (next_seq, 0), |frames| {
        with(ledger, |ledger| frames.iter().filter(is_event).for_each(|it| ledger.publish(it)));
        None
    });
}

fn be_shard(ledger: &Shared, wire: Wire, over: &AtomicBool) {
    let wanted = with(ledger, |ledger| (ledger.shard_seq.max(1), ledger.acknowledged_seq.max(1)));
    follower(wire, over, wanted, |frames| {
        with(ledger, |ledger| {
            for frame in frames.iter().filter(is_event) {
                ledger.shard_seq = ledger.shard_seq.max(frame.seq.get() + 1);
            }
            // Behind the broker, so that nothing is trimmed that the ledger has not seen.
            let both = ledger.shard_seq.min(ledger.next_seq());
            ledger.acknowledged_seq = ledger.acknowledged_seq.max(both);
            Some((ledger.shard_seq, ledger.acknowledged_seq))
        })
    });
}

/// Holds the journal's files against the ledger.
fn check(place: &Place, ledger: &mut Ledger) {
    assert!(ledger.problems.is_empty(), "{:#?}", ledger.problems);
    let segments = files::segments(&place.log("core"));
    let bad: usize = segments.iter().map(|segment| segment.bad).sum();
    assert!(bad <= 1, "{bad} bad records: only the store that the kill met can be half");
    let events: Vec<&Frame> = segments.iter().flat_map(|segment| segment.events()).collect();
    let Some(first) = events.first().map(|frame| frame.seq.get()) else {
        assert!(ledger.published.is_empty(), "{} frames are gone", ledger.published.len());
        return;
    };
    assert!(first <= ledger.acknowledged_seq.max(1), "{first} was not acknowledged by the shard");
    for (seq, frame) in (first..).zip(&events) {
        assert_eq!(frame.seq.get(), seq, "the journal has a hole or a frame twice");
        let index = usize::try_from(seq).unwrap() - 1;
        if let Some(published) = ledger.published.get(index) {
            assert_eq!(published, *frame, "the journal is not what was published");
        }
    }
    let last = first + events.len() as u64 - 1;
    assert!(last >= ledger.published.len() as u64, "published frames behind {last} are gone");
    let trades: Vec<u64> =
        events.iter().filter_map(|it| it.view::<Trade>()).map(|it| it.trade_id.get()).collect();
    assert!(trades.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a trade is missing or twice");
    for trade_id in &trades {
        assert!(*trade_id >= 1);
    }
    for segment in segments.iter().filter(|segment| segment.number > 1) {
        let stated = segment.statements() as u64 >= INSTRUMENTS;
        assert!(stated || segment.events().next().is_none(), "segment {}", segment.number);
    }
}

/// Asks how much is durable, which never becomes less.
fn greet(place: &Place, ledger: &Shared) {
    let mut querier = Wire::new(TcpStream::connect_timeout(&place.address(), PATIENCE).unwrap());
    querier.send(Session { role: Role::Querier as u8, ..Session::default() });
    querier.flush();
    let said = querier.wait_kind(Kind::Session).expect("core answers");
    let durable_seq = said.view::<Session>().unwrap().durable_seq.get();
    with(ledger, |ledger| {
        let before = ledger.durable_seq;
        assert!(durable_seq >= before, "durable_seq went back from {before} to {durable_seq}");
        ledger.durable_seq = durable_seq;
    });
}

/// A life that is killed when it has published and made durable so much, however long that takes.
fn live_long(place: &Place, ledger: &Shared) {
    with(ledger, |ledger| ledger.lives += 1);
    let mut core = place.start(&["core"]);
    core.wait_listening();
    let wanted = with(ledger, |ledger| ledger.next_seq()) + 1_000;
    let deadline = Deadline::after(PATIENCE);
    while with(ledger, |ledger| ledger.next_seq().min(ledger.durable_seq)) < wanted {
        assert!(!deadline.is_over(), "it does not get as far as {wanted}");
        greet(place, ledger);
        core.run_for(Duration::from_millis(20));
    }
    core.kill();
    with(ledger, |ledger| check(place, ledger));
}

fn live(place: &Place, ledger: &Shared, random: &mut Random) {
    with(ledger, |ledger| ledger.lives += 1);
    let mut core = place.start(&["core"]);
    if random.next_u64().is_multiple_of(4) {
        core.run_for(Duration::from_micros(random.next_u64() % 20_000));
    } else {
        core.wait_listening();
        greet(place, ledger);
        core.run_for(Duration::from_micros(random.next_u64() % 80_000));
    }
    core.kill();
    // What was published before the kill may still be on its way here: it is checked with the next.
    with(ledger, |ledger| check(place, ledger));
}

#[test]
fn nothing_that_core_published_is_lost_or_invented_by_kills() {
    let (rounds, seed) = rounds();
    let start = Instant::now();
    let peers = Peers::start();
    let (net, ledger) = (&peers.net, &peers.ledger);
    let place = Place::new("core", net, "");
    let configure = |durability: &str| {
        place.configure(
            net,
            &format!(
                "[data]\nsegment_bytes = {SEGMENT_BYTES}\ndurability = \"{durability}\"\n\
                 sync_interval = \"2ms\"\n[core]\nretain_bytes = {RETAIN_BYTES}"
            ),
        );
    };
    for round in 0..rounds {
        configure(["interval", "batch", "none"][round as usize % 3]);
        let mut random = Random::new(seed ^ (u64::from(round) << 32));
        live(&place, ledger, &mut random);
        live(&place, ledger, &mut random);
    }
    // However slow the machine is: what the kills left goes on. This policy syncs by itself.
    configure("batch");
    live_long(&place, ledger);
    peers.end();
    let removed = files::segments(&place.log("core")).first().map_or(0, |it| it.number - 1);
    with(ledger, |ledger| {
        println!(
            "core: {rounds} rounds in {:.1?}, {} lives, {} frames published, {removed} segments \
             removed",
            start.elapsed(),
            ledger.lives,
            ledger.published.len()
        );
    });
}
