//! What a follower is answered that asks whether it has all.

use super::*;

fn probe(token: u32) -> Frame {
    let (flags, token) = (U16::new(Flags::MORE), U32::new(token));
    Frame::seal(Heartbeat { flags, token, ..Heartbeat::default() })
}

/// The places of the answers with this token.
fn answers(frames: &[Frame], token: u32) -> Vec<usize> {
    let is_it = |frame: &Frame| {
        let beat = frame.view::<Heartbeat>();
        beat.is_some_and(|beat| beat.token.get() == token && !frame.has(Flags::MORE))
    };
    (0..frames.len()).filter(|place| is_it(&frames[*place])).collect()
}

#[test]
fn the_answer_stands_behind_all_that_there_was_when_it_was_asked() {
    let mut bench = Bench::new();
    let exchange = bench.market();
    let feed: Vec<Frame> = (3..3003).map(|seq| quote(seq, u32::from(seq % 2 == 0))).collect();
    for part in feed.chunks(8) {
        bench.deliver(exchange, part);
    }
    // A shard is sent what is durable.
    bench.sleep_ms(100);
    bench.sleep_ms(100);
    for dial in [1, 2] {
        let conn = bench.open(Origin::Dialed(DialId(dial)));
        let core = *bench.read(conn)[0].view::<Session>().unwrap();
        let hello = Frame::seal(Session { next_seq: U64::new(1), role: 0, ..core });
        bench.deliver(conn, &[hello, probe(9)]);
        let frames = bench.read(conn);
        let last = frames.iter().rposition(|frame| frame.kind().is_some_and(Kind::is_data));
        assert_eq!(seqs(&frames).last(), Some(&3_002));
        let places = answers(&frames, 9);
        assert!(places.len() == 1 && Some(places[0]) > last, "{places:?}, {last:?}");

        // There is nothing more: it is answered at once.
        bench.deliver(conn, &[probe(10)]);
        assert_eq!(answers(&bench.read(conn), 10).len(), 1);
        // Of several the last one is answered, so nobody makes core keep many.
        bench.deliver(conn, &[probe(11), probe(12)]);
        let frames = bench.read(conn);
        assert_eq!((answers(&frames, 11).len(), answers(&frames, 12).len()), (0, 1));
    }
}

#[test]
fn who_has_not_said_what_it_wants_is_not_answered() {
    let mut bench = Bench::new();
    bench.market();
    let conn = bench.open(Origin::Dialed(DialId(2)));
    bench.read(conn);
    bench.deliver(conn, &[probe(9)]);
    assert!(answers(&bench.read(conn), 9).is_empty());
}
