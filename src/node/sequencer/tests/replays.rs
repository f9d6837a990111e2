//! Replays beside what is live: order, bounds, places.

use super::*;

/// So many frames of bulk in one turn.
const FRAMES_MAX: usize = 100;

impl Bench {
    /// A turn begins in which this connection has its part of what can wait. Others keep their places.
    pub(super) fn begin_part(&mut self, conn: ConnId) {
        self.core.handle_mail(self.now);
        let line = std::iter::from_fn(|| self.core.poll_bulk().filter(|next| *next != conn));
        for other in line.collect::<Vec<ConnId>>() {
            self.core.put_off(other);
        }
    }

    /// A market with some hundred quotes of two instruments.
    fn with_history() -> (Bench, ConnId) {
        let mut bench = Bench::new();
        let exchange = bench.market();
        let feed: Vec<Frame> = (3..403).map(|seq| quote(seq, u32::from(seq % 2 == 0))).collect();
        for part in feed.chunks(8) {
            bench.deliver(exchange, part);
        }
        bench.core.work_mut().bound_frames(FRAMES_MAX);
        (bench, exchange)
    }

    fn replaying(&mut self, symbol: &str) -> ConnId {
        let conn = self.querier();
        self.deliver(conn, &[ask(1, Op::Replay, symbol, 0, 1, u64::MAX)]);
        conn
    }

    /// Begins a turn in which the exchange brings these frames, up to its flush.
    fn begin_turn(&mut self, exchange: ConnId, frames: &[Frame]) {
        self.core.handle_storage(self.now);
        self.core.handle_mail(self.now);
        self.core.handle_frames(self.now, exchange, frames);
        self.finish_turn();
    }

    /// What a flush sends one connection.
    fn flush(&mut self, conn: ConnId) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let head = self.core.outgoing(self.now, conn).head.to_vec();
            if head.is_empty() {
                return sent;
            }
            self.core.handle_sent(self.now, conn, head.len());
            sent.extend(head);
        }
    }
}

#[test]
fn a_tick_goes_out_before_300_replays_which_have_a_part_of_each_turn() {
    let (mut bench, exchange) = Bench::with_history();
    let (broker, _) = bench.follower(1, 1);
    bench.read(broker);
    let readers: Vec<ConnId> = (0..300).map(|_| bench.replaying("*")).collect();
    while bench.core.poll_dirty().is_some() {}
    let mut received = vec![Vec::new(); readers.len()];
    let mut turns = 0;
    for seq in 403.. {
        bench.begin_turn(exchange, &[quote(seq, 0)]);
        let live: Vec<ConnId> = std::iter::from_fn(|| bench.core.poll_dirty()).collect();
        assert!(live.iter().all(|conn| !readers.contains(conn)), "a replay stands beside a tick");
        assert!(live.contains(&broker));
        assert_eq!(seqs(&frames_of(&bench.flush(broker))), [seq], "the tick, in its own turn");
        let mut sent = 0;
        while let Some(conn) = bench.core.poll_bulk() {
            let bytes = bench.flush(conn);
            sent += bytes.len() / 64;
            let place = readers.iter().position(|reader| *reader == conn).unwrap();
            received[place].extend(bytes);
        }
        assert!(sent <= FRAMES_MAX + 8, "{sent} frames of replays in one turn");
        turns += 1;
        if !bench.core.has_bulk() {
            break;
        }
        // A circle: nobody is ahead of others by more than some pieces.
        let lengths = received.iter().map(Vec::len);
        let (least, most) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
        assert!(turns < 900 || most - least <= 3 * 64 * (FRAMES_MAX + 8), "{least} to {most}");
    }
    assert!(turns > 300 * 400 / FRAMES_MAX, "{turns} turns");
    for bytes in received {
        let frames = frames_of(&bytes);
        let published: Vec<Frame> =
            frames.iter().filter(|frame| !frame.has(Flags::SNAPSHOT)).copied().collect();
        let rows = seqs(&published);
        assert!(rows.iter().copied().eq(1..=*rows.last().unwrap()), "in order, each once");
        let end = frames.last().unwrap().view::<Ended>().unwrap();
        assert_eq!(end.rows.get() as usize, rows.len());
        assert!(rows.len() >= 402);
    }
}

#[test]
fn a_search_for_what_is_not_there_costs_a_turn_no_more_than_one_that_finds() {
    let (mut bench, exchange) = Bench::with_history();
    bench.core.work_mut().bound_frames(4);
    bench.begin_turn(exchange, &[]);
    let conn = bench.querier();
    // The kind is never published.
    bench.deliver(conn, &[ask(1, Op::Replay, "PETR4", Kind::Trade.mask(), 1, u64::MAX)]);
    let mut turns = 0;
    let mut received = Vec::new();
    while bench.core.has_bulk() {
        bench.begin_turn(exchange, &[]);
        while bench.core.poll_bulk().is_some() {
            received.extend(bench.flush(conn));
        }
        turns += 1;
    }
    assert!(turns > 4, "{turns} turns for 400 records, of 64 looked at in one piece");
    let frames = frames_of(&received);
    assert_eq!(frames.last().unwrap().view::<Ended>().unwrap().rows.get(), 1, "its definition");
    let spent = bench.core.work().spent();
    assert!(spent.frames <= FRAMES_MAX, "{spent:?}");
}

#[test]
fn replays_beyond_the_places_wait_in_order_and_none_is_refused() {
    let (mut bench, exchange) = Bench::with_history();
    bench.core.bound_replays(2);
    let readers: Vec<ConnId> = (0..5).map(|_| bench.replaying("PETR4")).collect();
    assert_eq!(bench.core.replays.counts(), (2, 3));
    // One that waits asks no more, and one leaves.
    bench.deliver(readers[2], &[ask(1, Op::Stop, "", 0, 0, 0)]);
    bench.close(readers[3], CloseReason::PeerClosed);
    assert_eq!(bench.core.replays.counts(), (2, 1));
    assert!(bench.read(readers[4]).is_empty(), "it waits");
    assert!(bench.read(readers[0]).last().unwrap().view::<Ended>().is_some());
    bench.begin_turn(exchange, &[]);
    assert_eq!(bench.core.replays.counts(), (2, 0));
    for reader in [readers[1], readers[4]] {
        let frames = bench.read(reader);
        assert!(frames.last().unwrap().view::<Ended>().is_some(), "{frames:?}");
    }
    assert_eq!(bench.core.replays.counts(), (0, 0));
    // Whoever stopped may ask again.
    bench.deliver(readers[2], &[ask(2, Op::Replay, "PETR4", 0, 1, u64::MAX)]);
    assert!(bench.read(readers[2]).last().unwrap().view::<Ended>().is_some());
}

#[test]
fn who_does_not_read_its_replay_keeps_nobody_from_history() {
    let (mut bench, _) = Bench::with_history();
    bench.core.bound_replays(1);
    let deaf = bench.replaying("*");
    let first = bench.read_bytes(deaf, 64 * 20);
    let other = bench.replaying("PETR4");
    assert!(bench.read(other).is_empty(), "there is one place");
    bench.sleep_ms(1_500);
    bench.turn();
    assert!(bench.read(other).last().unwrap().view::<Ended>().is_some());
    let rest = bench.read_bytes(deaf, usize::MAX);
    let frames = frames_of(&[first, rest].concat());
    assert_eq!(frames.last().unwrap().view::<Ended>().unwrap().rows.get(), 402, "it goes on");
    assert_eq!(bench.core.replays.counts(), (0, 0));
}

#[test]
fn a_quote_does_not_wait_for_the_replays_of_others_or_of_its_own_connection() {
    let (mut bench, exchange) = Bench::with_history();
    let readers: Vec<ConnId> = (0..20).map(|_| bench.replaying("*")).collect();
    bench.begin_turn(exchange, &[]);
    while bench.core.poll_dirty().is_some() {}
    bench.deliver(readers[7], &[ask(2, Op::Quote, "PETR4", 0, 0, 0)]);
    assert_eq!(bench.core.poll_dirty(), Some(readers[7]), "it is not bulk");
    let frames = frames_of(&bench.flush(readers[7]));
    let end = frames.iter().filter_map(Frame::view::<Ended>).next().unwrap();
    assert_eq!(end.id.get(), 2);
}

/// Core asks its own names, which stand in pieces of a turn, for either name of an instrument.
#[test]
fn a_replay_by_either_name_has_what_the_name_means() {
    let mut bench = Bench::new();
    let at_venue = |index: u32, symbol: &str| {
        let frame = definition(u64::from(index) + 1, index, symbol);
        Frame::seal(frame.view::<Definition>().unwrap().at_venue())
    };
    let names = [at_venue(0, "xnas:AMZN"), at_venue(1, "arcx:AMZN"), definition(3, 2, "AMZN")];
    let exchange = bench.exchange(FEED, 1, &names.map(|it| it.delivered(Flags::SNAPSHOT)));
    bench.deliver(exchange, &names);
    bench.deliver(exchange, &[quote(4, 0), quote(5, 1), quote(6, 2)]);
    for (asked, quotes) in
        [("AMZN", &[4_u128, 5, 6][..]), ("AMZN*", &[4, 5, 6]), ("xnas:AMZN", &[4]), ("arcx*", &[5])]
    {
        let conn = bench.replaying(asked);
        let frames = bench.read(conn);
        let of = |kind: Kind| frames.iter().filter(move |it| it.kind == kind as u8);
        // A size says which one it is.
        let sizes: Vec<u128> =
            of(Kind::Quote).map(|it| it.view::<Quote>().unwrap().bid_qty.units()).collect();
        assert_eq!(sizes, quotes, "{asked}");
        let named = of(Kind::Definition).filter(|it| it.has(Flags::SNAPSHOT)).count();
        assert_eq!(named, quotes.len(), "{asked}: each once");
    }
}
