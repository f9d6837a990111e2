//! A shard is killed again and again while it is fed: rolling, recovering and removing as it goes. The
//! ledger of what it acknowledged is kept here, by who plays core, and what its files hold is held
//! against it after every death.

use std::time::{Duration, Instant};

use pregao::random::Random;
use pregao::wire::{
    Ack, Definition, Frame, Heartbeat, I64, InstrumentId, InstrumentIndex, Kind, Role, Session,
    Trade, U32, U64,
};

use super::files;
use super::node::Place;
use super::process::Process;
use super::wire::{Came, Wire};

const INSTRUMENTS: u64 = 5;
const SEGMENT_BYTES: u64 = 65_536;
const RETAIN_BYTES: u64 = 4 * SEGMENT_BYTES;

/// How many rounds, and from which seed.
pub(crate) fn rounds() -> (u32, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("PREGAO_KILL_ROUNDS").unwrap_or(12);
    (u32::try_from(rounds).unwrap(), number("PREGAO_KILL_SEED").unwrap_or(1))
}

fn mix(seq: u64) -> u64 {
    Random::new(seq).next_u64()
}

/// The sequence as this shard's part of core's: with holes, and every frame a function of its seq.
fn exists(seq: u64) -> bool {
    seq >= 1 && (seq <= INSTRUMENTS || !mix(seq).is_multiple_of(4))
}

/// What stands at this seq, if anything does.
pub(crate) fn event(seq: u64) -> Option<Frame> {
    exists(seq).then(|| frame(seq))
}

fn frame(seq: u64) -> Frame {
    let number = |index: u64| InstrumentIndex::new(u32::try_from(index).unwrap());
    let id = |index| InstrumentId::new(1, number(index));
    if seq <= INSTRUMENTS {
        let symbol = format!("SHARE{seq}").parse().unwrap();
        let mut definition = Definition::new(id(seq - 1), symbol, 2);
        definition.seq = U64::new(seq);
        return Frame::seal(definition);
    }
    let drawn = mix(seq);
    Frame::seal(Trade {
        seq: U64::new(seq),
        instrument: id(drawn % INSTRUMENTS).into(),
        ts_event: U64::new(seq * 1_000),
        price: I64::new(i64::try_from(drawn >> 20).unwrap()),
        qty: U64::new(drawn % 1_000),
        trade_id: U64::new(seq),
        ..Trade::default()
    })
}

/// What the shard has said, over all its lives.
#[derive(Debug, Default)]
struct Ledger {
    accepted_seq: u64,
    durable_seq: u64,
    /// Frames before this were sent.
    sent_seq: u64,
    records: u64,
    lives: u32,
    acks: u64,
}

impl Ledger {
    fn take(&mut self, accepted_seq: u64, durable_seq: u64) {
        assert!(
            durable_seq >= self.durable_seq,
            "durable_seq went back to {durable_seq}: {self:?}"
        );
        assert!(
            accepted_seq >= self.accepted_seq,
            "accepted went back to {accepted_seq}: {self:?}"
        );
        assert!(durable_seq <= accepted_seq, "{self:?}");
        assert!(accepted_seq <= self.sent_seq.max(1), "{accepted_seq} was never sent: {self:?}");
        (self.accepted_seq, self.durable_seq) = (accepted_seq, durable_seq);
    }

    /// Holds the files against what was acknowledged.
    fn check(&mut self, place: &Place) {
        let segments = files::segments(&place.log("shard-A"));
        let bad: usize = segments.iter().map(|segment| segment.bad).sum();
        assert!(bad <= 1, "{bad} bad records: only the store that the kill met can be half");
        let events: Vec<&Frame> = segments.iter().flat_map(|segment| segment.events()).collect();
        let Some((first, last)) = events.first().zip(events.last()) else {
            assert!(self.accepted_seq <= 1, "nothing is there: {self:?}");
            return;
        };
        let (first, last) = (first.seq.get(), last.seq.get());
        assert!(last < self.sent_seq, "seq {last} was never sent: {self:?}");
        let wanted = (first..=last.max(self.accepted_seq - 1)).filter(|seq| exists(*seq));
        let mut held = events.iter();
        for seq in wanted {
            let Some(record) = held.next() else { panic!("seq {seq} was acknowledged: {self:?}") };
            assert_eq!(**record, frame(seq), "in place of seq {seq}: {self:?}");
        }
        assert!(held.next().is_none(), "there is more than there can be: {self:?}");
        self.records = self.records.max(last);
        if first > 1 {
            let kept = files::segment_paths(&place.log("shard-A")).len() as u64 * SEGMENT_BYTES;
            assert!(kept + SEGMENT_BYTES > RETAIN_BYTES, "too much was removed: {kept} bytes left");
            let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        }
        for segment in segments.iter().filter(|segment| segment.number > 1) {
            let stated = segment.events().next().is_none()
                || segment.statements() as u64 >= INSTRUMENTS.min(first);
            assert!(stated, "segment {} does not stand alone", segment.number);
        }
    }
}

/// When a life ends.
enum End {
    At(Instant),
    /// When so much is accepted and something is durable.
    Accepted(u64),
}

/// A life that is killed when it was fed so much, however long that takes.
fn live_long(place: &Place, ledger: &mut Ledger) {
    ledger.lives += 1;
    let mut node = place.start(&["shard", "--partition", "A"]);
    node.wait_listening();
    let (mut core, wanted) = greet(place, ledger);
    feed(&mut core, &mut node, ledger, wanted, &End::Accepted(wanted + 3_000));
    ledger.check(place);
}

/// A life: perhaps killed before it answers, else fed until it is killed.
fn live(place: &Place, ledger: &mut Ledger, random: &mut Random) {
    ledger.lives += 1;
    let mut node = place.start(&["shard", "--partition", "A"]);
    if random.next_u64().is_multiple_of(4) {
        // In the middle of its start: loading, opening, recovering, or just done with it.
        node.run_for(Duration::from_micros(random.next_u64() % 20_000));
        node.kill();
        ledger.check(place);
        return;
    }
    node.wait_listening();
    let (mut core, wanted) = greet(place, ledger);
    let life = Duration::from_micros(random.next_u64() % 60_000);
    feed(&mut core, &mut node, ledger, wanted, &End::At(Instant::now() + life));
    ledger.check(place);
}

/// Becomes its feeder. What it wants next.
fn greet(place: &Place, ledger: &mut Ledger) -> (Wire, u64) {
    let mut core = follow(place);
    let answer = core.wait_kind(Kind::Session).expect("a shard answers its feeder");
    let session = answer.view::<Session>().unwrap();
    ledger.sent_seq = ledger.sent_seq.max(1);
    // It asks for what is behind its last frame: what it has acknowledged beyond that has no frame of its own.
    let (next_seq, durable_seq) = (session.next_seq.get(), session.durable_seq.get());
    let lacking = (next_seq..ledger.accepted_seq).find(|seq| exists(*seq));
    assert_eq!(lacking, None, "it asks from {next_seq} on: {ledger:?}");
    ledger.take(next_seq.max(durable_seq).max(ledger.accepted_seq), durable_seq);
    (core, next_seq)
}

/// Feeds a shard so many of the sequence's numbers, and waits until they are accepted.
pub(crate) fn fill(place: &Place, count: u64) {
    let mut core = follow(place);
    let session = core.wait_kind(Kind::Session).expect("a shard answers its feeder");
    let wanted = session.view::<Session>().unwrap().next_seq.get();
    for seq in (wanted..wanted + count).filter(|seq| exists(*seq)) {
        core.send_frame(&frame(seq));
    }
    core.send(Heartbeat { next_seq: U64::new(wanted + count), ..Heartbeat::default() });
    loop {
        assert!(core.flush(), "the shard closed its feeder");
        if let Came::Frames(frames) = core.read(Duration::from_millis(1)) {
            let mut acks = frames.iter().filter_map(Frame::view::<Ack>);
            if acks.any(|ack| ack.accepted_seq.get() >= wanted + count) {
                return;
            }
        }
    }
}

/// Connects to a shard as core does, in epoch 1.
pub(crate) fn follow(place: &Place) -> Wire {
    let mut core = Wire::connect(place.address());
    core.send(Session {
        role: Role::Feeder as u8,
        source: 1,
        epoch: U32::new(1),
        epoch_start: U64::new(1),
        ..Session::default()
    });
    core.flush();
    core
}

/// Feeds until the end, kills, and takes in what had been acknowledged until then.
fn feed(core: &mut Wire, node: &mut Process, ledger: &mut Ledger, wanted: u64, end: &End) {
    let mut next = wanted;
    let mut is_killed = false;
    loop {
        let is_over = match *end {
            End::At(until) => Instant::now() >= until,
            End::Accepted(seq) => ledger.accepted_seq >= seq && ledger.durable_seq > 1,
        };
        if !is_killed && is_over {
            node.kill();
            is_killed = true;
        }
        if !is_killed && core.unsent() < 65_536 {
            let piece = next..next + 512;
            next = piece.end;
            ledger.sent_seq = ledger.sent_seq.max(next);
            for seq in piece.filter(|seq| exists(*seq)) {
                core.send_frame(&frame(seq));
            }
            if next.is_multiple_of(5) {
                core.send(Heartbeat { next_seq: U64::new(next), ..Heartbeat::default() });
            }
            core.flush();
        } else if !is_killed {
            core.flush();
        }
        let patience = if is_killed { Duration::from_secs(1) } else { Duration::from_micros(100) };
        match core.read(patience) {
            Came::Frames(frames) => {
                for ack in frames.iter().filter_map(Frame::view::<Ack>) {
                    ledger.acks += 1;
                    ledger.take(ack.accepted_seq.get(), ack.durable_seq.get());
                }
            }
            Came::Nothing => {}
            Came::End if is_killed => return,
            Came::End => panic!("the shard closed its feeder: {:#?}", node.stderr.all()),
        }
    }
}

#[test]
fn nothing_that_a_shard_acknowledged_is_lost_or_invented_by_kills() {
    let (rounds, seed) = rounds();
    let start = Instant::now();
    let place = Place::new("shards", "", "");
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let durability = ["interval", "batch", "none"][round as usize % 3];
        place.configure(
            "",
            &format!(
                "[data]\nsegment_bytes = {SEGMENT_BYTES}\ndurability = \"{durability}\"\n\
                 sync_interval = \"2ms\"\n[shard]\nretain_bytes = {RETAIN_BYTES}"
            ),
        );
        let mut random = Random::new(seed ^ (u64::from(round) << 32));
        live(&place, &mut ledger, &mut random);
        live(&place, &mut ledger, &mut random);
    }
    // However slow the machine is: what the kills left goes on.
    live_long(&place, &mut ledger);
    let removed = files::segments(&place.log("shard-A")).first().map_or(0, |it| it.number - 1);
    println!(
        "shard: {rounds} rounds in {:.1?}, {} lives, {} acks, up to seq {}, {removed} segments removed",
        start.elapsed(),
        ledger.lives,
        ledger.acks,
        ledger.records
    );
}
