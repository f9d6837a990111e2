//! A producer and a core played by hand.

use zerocopy::FromBytes;

use super::*;
use crate::wire::{FRAME_BYTES, I64, Trade};

const FEED: u64 = 7;
const WHOLE: Decimals = Decimals { price: 2, quantity: 0 };

fn production() -> Production {
    Production::new(FeedId::new("own", FEED).unwrap())
}

fn sent(it: &mut Production) -> Vec<Frame> {
    let mut bytes = Vec::new();
    it.poll_bytes(&mut bytes, 1_000);
    let frames =
        bytes.chunks_exact(FRAME_BYTES).map(|bytes| Frame::read_from_bytes(bytes).unwrap());
    frames.inspect(|frame| assert_eq!(frame.check(), Ok(()))).collect()
}

fn session(next_seq: u64) -> Frame {
    let (next_seq, durable_seq, feed) = (U64::new(next_seq), U64::new(1), U64::new(FEED));
    Frame::seal(Session { next_seq, durable_seq, feed, ..Session::default() })
}

fn ack(accepted: u64, durable: u64) -> Frame {
    let (accepted_seq, durable_seq) = (U64::new(accepted), U64::new(durable));
    Frame::seal(Ack { accepted_seq, durable_seq, ..Ack::default() })
}

fn told(known: &[(&str, u8)]) -> Vec<Frame> {
    let definition = |(name, decimals): &(&str, u8)| {
        let id = InstrumentId::new(1, InstrumentIndex::FIRST);
        let definition = Definition::new(id, name.parse().unwrap(), 2);
        Frame::seal(definition.with_quantity_decimals(*decimals).at_venue())
    };
    let end = Frame::seal(SnapshotEnd { id: U32::new(100), ..SnapshotEnd::default() });
    known.iter().map(definition).chain([end]).collect()
}

/// A session that begins at this number. What the producer offered.
fn open(it: &mut Production, next_seq: u64, known: &[(&str, u8)]) -> Session {
    it.handle_open();
    let offer = *sent(it)[0].view::<Session>().unwrap();
    it.handle_frame(&session(next_seq)).unwrap();
    for frame in told(known) {
        it.handle_frame(&frame).unwrap();
    }
    assert!(it.is_ready());
    offer
}

fn gold(it: &mut Production) -> Instrument {
    it.define("GOLD".parse().unwrap(), WHOLE).unwrap()
}

fn push(it: &mut Production, count: usize) -> u64 {
    let instrument = gold(it).id.into();
    let trade = Trade { instrument, price: I64::new(1), ..Trade::default() };
    (0..count).map(|_| it.push(trade).unwrap()).last().unwrap()
}

fn numbers(frames: &[Frame]) -> Vec<u64> {
    let trades = frames.iter().filter_map(Frame::view::<Trade>);
    trades.map(|trade| trade.seq.get()).collect()
}

#[test]
fn numbers_go_on_where_core_says_and_are_kept_until_they_are_durable() {
    let mut it = production();
    let early = Trade::default();
    assert_eq!(it.push(early), Err(ProduceError::NotReady));
    assert_eq!(open(&mut it, 5, &[]).next_seq.get(), 1);
    assert_eq!(push(&mut it, 3), 7);
    let frames = sent(&mut it);
    assert!(frames[0].has(Flags::SNAPSHOT) && frames[0].view::<Definition>().is_some());
    assert_eq!(numbers(&frames), [5, 6, 7]);
    assert!(sent(&mut it).is_empty());
    it.handle_frame(&ack(8, 6)).unwrap();
    assert_eq!((it.accepted_seq(), it.durable_seq(), it.is_durable()), (8, 6, false));
    // Core loses its power, and what was not durable.
    it.handle_close();
    assert_eq!(open(&mut it, 7, &[]).next_seq.get(), 6);
    let frames = sent(&mut it);
    assert!(frames[0].view::<Definition>().is_some());
    assert_eq!(numbers(&frames), [7]);
    it.handle_frame(&ack(8, 8)).unwrap();
    assert!(it.is_durable());
    assert_eq!(it.next_seq(), Some(8));
}

#[test]
fn core_makes_it_go_back_and_the_answer_stands_before_the_frames() {
    let mut it = production();
    open(&mut it, 1, &[]);
    push(&mut it, 4);
    sent(&mut it);
    let (id, next_seq) = (U32::new(9), U64::new(2));
    it.handle_frame(&Frame::seal(Resume { id, next_seq, ..Resume::default() })).unwrap();
    let frames = sent(&mut it);
    let beat = frames[0].view::<Heartbeat>().unwrap();
    assert_eq!((beat.token.get(), beat.next_seq.get()), (9, 2));
    assert_eq!(numbers(&frames), [2, 3, 4]);
    // No further back than what is kept, and no further on than what was sent.
    it.handle_frame(&ack(4, 3)).unwrap();
    for wrong in [2, 6] {
        let next_seq = U64::new(wrong);
        let resume = Frame::seal(Resume { id, next_seq, ..Resume::default() });
        assert_eq!(it.handle_frame(&resume), Err(ProduceError::Confused));
    }
}

#[test]
fn what_core_asks_is_answered_with_what_was_sent() {
    let mut it = production();
    open(&mut it, 1, &[]);
    push(&mut it, 2);
    let flags = U16::new(Flags::MORE);
    let ask =
        |token| Frame::seal(Heartbeat { flags, token: U32::new(token), ..Heartbeat::default() });
    it.handle_frame(&ask(3)).unwrap();
    it.handle_frame(&ask(4)).unwrap();
    let frames = sent(&mut it);
    let beats: Vec<_> = frames.iter().filter_map(Frame::view::<Heartbeat>).collect();
    let said: Vec<_> = beats.iter().map(|it| (it.token.get(), it.next_seq.get())).collect();
    assert_eq!(said, [(4, 1)], "before the events, and only the last one");
    it.end();
    let end = sent(&mut it);
    let beat = end[0].view::<Heartbeat>().unwrap();
    assert_eq!((beat.flags.get(), beat.next_seq.get()), (Flags::ENDED, 3));
    it.handle_frame(&ask(5)).unwrap();
    assert!(sent(&mut it)[0].has(Flags::ENDED));
    // It has to go back: the end is said once more, behind the events.
    let (id, next_seq) = (U32::new(6), U64::new(2));
    it.handle_frame(&Frame::seal(Resume { id, next_seq, ..Resume::default() })).unwrap();
    let frames = sent(&mut it);
    assert!(!frames[0].has(Flags::ENDED) && frames.last().unwrap().has(Flags::ENDED));
    assert_eq!(numbers(&frames), [2]);
}

#[test]
fn the_units_of_core_outweigh_those_of_the_caller() {
    let mut it = production();
    assert_eq!(it.define("GOLD".parse().unwrap(), WHOLE), Err(ProduceError::NotReady));
    open(&mut it, 1, &[("own:GOLD", 8)]);
    assert_eq!(gold(&mut it).decimals.quantity, 8);
    let silver = it.define("SILVER".parse().unwrap(), WHOLE).unwrap();
    assert_eq!(silver.decimals, WHOLE);
    it.handle_open();
    sent(&mut it);
    it.handle_frame(&session(1)).unwrap();
    let frames = told(&[("own:GOLD", 8), ("own:SILVER", 3)]);
    let said: Vec<_> = frames.iter().map(|frame| it.handle_frame(frame)).collect();
    assert_eq!(said[2], Err(ProduceError::Units("SILVER".parse().unwrap(), 3)));
}

#[test]
fn a_core_that_has_other_numbers_is_told_from_one_that_only_died() {
    let mut it = production();
    open(&mut it, 1, &[]);
    push(&mut it, 3);
    sent(&mut it);
    it.handle_frame(&ack(4, 3)).unwrap();
    for (wanted, want) in [
        (5, Err(ProduceError::AnotherProducer)),
        (2, Err(ProduceError::JournalWentBack)),
        (0, Err(ProduceError::Confused)),
        (u64::MAX, Err(ProduceError::Confused)),
        (3, Ok(())),
    ] {
        it.handle_open();
        sent(&mut it);
        assert_eq!(it.handle_frame(&session(wanted)), want, "{wanted}");
    }
    for wrong in [ack(5, 3), ack(3, 4)] {
        assert_eq!(it.handle_frame(&wrong), Err(ProduceError::Confused));
    }
}

#[test]
fn without_a_disk_that_is_waited_for_what_is_accepted_is_enough() {
    let mut it = production();
    it.handle_open();
    sent(&mut it);
    let session = Session { durable_seq: U64::new(0), ..*session(1).view::<Session>().unwrap() };
    it.handle_frame(&Frame::seal(session)).unwrap();
    it.handle_frame(&told(&[])[0]).unwrap();
    push(&mut it, 2);
    sent(&mut it);
    it.handle_frame(&ack(3, 0)).unwrap();
    assert!(it.is_durable());
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut it = production();
    open(&mut it, 1, &[]);
    push(&mut it, PRODUCER_WINDOW_FRAMES);
    let trade = Trade { instrument: gold(&mut it).id.into(), ..Trade::default() };
    assert_eq!(it.push(trade), Err(ProduceError::NoRoom));
    assert_eq!(numbers(&sent(&mut it)).len(), 999, "as many as are wanted at once");
    it.handle_frame(&ack(11, 11)).unwrap();
    assert!(it.has_room());
    push(&mut it, 10);
    let mut seen = 1_000;
    loop {
        let frames = numbers(&sent(&mut it));
        if frames.is_empty() {
            break;
        }
        assert!(frames.iter().copied().eq(seen..seen + frames.len() as u64));
        seen += frames.len() as u64;
    }
    assert_eq!(seen, PRODUCER_WINDOW_FRAMES as u64 + 11);
}

#[test]
fn what_is_no_event_of_a_defined_instrument_is_refused() {
    let mut it = production();
    open(&mut it, 1, &[]);
    let instrument = gold(&mut it).id;
    let next = InstrumentId::new(0, instrument.index().next());
    let trade = Trade { instrument: next.into(), ..Trade::default() };
    assert_eq!(it.push(trade), Err(ProduceError::Undefined(next)));
    assert_eq!(it.push(Ack::default()), Err(ProduceError::NotAnEvent(Kind::Ack)));
    let fine = Decimals { price: 2, quantity: 15 };
    assert_eq!(it.define("X".parse().unwrap(), fine), Err(ProduceError::QuantityDecimals(15)));
    assert!(FeedId::new("shard-A", 1).is_err() && FeedId::new("own", 0).is_err());
}

#[test]
fn a_refusal_says_whether_to_come_again() {
    for (code, is_final) in
        [(ErrorCode::Unexpected, true), (ErrorCode::Limit, false), (ErrorCode::Stopping, false)]
    {
        let mut it = production();
        it.handle_open();
        let error = it.handle_frame(&Frame::seal(Refusal::new(code, 0, "no"))).unwrap_err();
        assert_eq!(error.is_final(), is_final, "{error}");
    }
}

#[test]
fn a_feed_that_begins_anew_says_that_something_is_missing() {
    let mut it = production();
    open(&mut it, 1, &[]);
    push(&mut it, 3);
    it.begin_anew(FeedId::new("own", 8).unwrap());
    assert_eq!((it.kept(), it.next_seq(), it.is_open()), (0, None, false));
    it.handle_open();
    let offer = *sent(&mut it)[0].view::<Session>().unwrap();
    assert_eq!((offer.feed.get(), offer.next_seq.get()), (8, 2));
}
