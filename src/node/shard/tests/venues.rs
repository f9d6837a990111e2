//! Instruments of several venues in one shard.

use super::*;

fn at_venue(seq: u64, index: u32, symbol: &str) -> Frame {
    let frame = definition(seq, index, symbol);
    Frame::seal(frame.view::<Definition>().unwrap().at_venue())
}

/// Two venues have AMZN, and so has an exchange without a venue. The one of `arcx` comes last.
fn venues() -> Bench {
    let mut bench = Bench::new();
    let (core, _) = bench.core(1, 1);
    let first = [at_venue(1, 0, "xnas:AMZN"), definition(2, 1, "AMZN"), at_venue(3, 2, "xnas:AMD")];
    bench.feed(core, &first);
    bench.feed(core, &[trade(4, 0, 10), trade(5, 1, 10), trade(6, 2, 10)]);
    bench.feed(core, &[at_venue(7, 3, "arcx:AMZN"), trade(8, 3, 11)]);
    bench
}

fn defined(frames: &[Frame]) -> Vec<String> {
    let definitions = frames.iter().filter_map(Frame::view::<Definition>);
    definitions.map(|it| it.symbol.to_string()).collect()
}

#[test]
fn a_name_finds_all_that_have_it_each_once() {
    let all = ["AMZN", "arcx:AMZN", "xnas:AMZN"];
    let cases = [
        ("AMZN", &all[..], &[5, 8, 4][..]),
        ("AMZN*", &all, &[5, 8, 4]),
        ("xnas:AMZN", &all[2..], &[4]),
        ("xnas*", &["xnas:AMD", "xnas:AMZN"], &[6, 4]),
        ("AMD", &["xnas:AMD"], &[6]),
        ("*", &["AMZN", "arcx:AMZN", "xnas:AMD", "xnas:AMZN"], &[5, 8, 6, 4]),
    ];
    let bench = venues();
    // The index is the same when it is made of the log.
    for mut bench in [bench.restart(), venues()] {
        for (asked, symbols, seqs) in cases {
            let answer = bench.ask(Op::Range, asked, 0, 0, u64::MAX);
            assert_eq!((defined(&answer), rows(&answer)), (symbols.map_text(), seqs.to_vec()));
            assert_eq!(end(&answer).rows.get() as usize, seqs.len(), "{asked}");
            let counted = bench.ask(Op::Count, asked, 0, 0, u64::MAX);
            let counts = counted.iter().filter_map(Frame::view::<crate::wire::Counted>);
            assert_eq!(counts.map(|it| it.trades.get()).sum::<u64>(), seqs.len() as u64);
            let bars = bench.ask(Op::Bars, asked, 60, 0, u64::MAX);
            assert_eq!(end(&bars).rows.get() as usize, seqs.len(), "{asked}: one bar each");
        }
    }
}

trait Texts {
    fn map_text(&self) -> Vec<String>;
}

impl Texts for [&str] {
    fn map_text(&self) -> Vec<String> {
        self.iter().map(|it| (*it).to_owned()).collect()
    }
}

#[test]
fn at_a_cut_a_name_finds_who_had_it_then() {
    let mut bench = venues();
    let mut at = |cut: u64| {
        let conn = bench.querier();
        let query = Query {
            id: U32::new(1),
            op: Op::Range as u8,
            flags: U16::new(Flags::MORE),
            symbol: padded("AMZN"),
            to: U64::new(u64::MAX),
            ..Query::default()
        };
        let more = QueryMore { id: query.id, as_of: U64::new(cut), ..QueryMore::default() };
        bench.deliver(conn, &[Frame::seal(query), Frame::seal(more)]);
        let frames = bench.read(conn);
        (defined(&frames), rows(&frames))
    };
    assert_eq!(at(9), (["AMZN", "arcx:AMZN", "xnas:AMZN"].map_text(), vec![5, 8, 4]));
    assert_eq!(at(7), (["AMZN", "xnas:AMZN"].map_text(), vec![5, 4]));
    assert_eq!(at(2), (["xnas:AMZN"].map_text(), vec![]));
    // As where one instrument has the name: it is known, and nothing of it was there.
    assert_eq!(at(1), (["xnas:AMZN"].map_text(), vec![]));
}

#[test]
fn a_text_that_may_be_its_own_by_either_reading_is_not_refused_as_anothers() {
    let mut bench = venues();
    for (asked, code) in [
        // Its own if `xnas` is a venue, and if `abc` is none.
        ("xnas:ABEV3", ErrorCode::UnknownSymbol),
        ("ABC:PETR4", ErrorCode::UnknownSymbol),
        ("xnas:PETR4", ErrorCode::NotOwner),
        ("AOEXCHANGE:PETR4", ErrorCode::UnknownSymbol),
        ("SOEXCHANGE:ABEV3", ErrorCode::NotOwner),
    ] {
        let answer = bench.ask(Op::Last, asked, 1, 0, 0);
        assert_eq!(refusal(&answer), code as u16, "{asked}");
    }
}

#[test]
fn the_short_form_decides_whether_a_definition_is_its_own() {
    for (frame, is_own) in [
        (at_venue(9, 4, "xnas:ABEV3"), true),
        (definition(9, 4, "xnas:ABEV3"), false),
        (at_venue(9, 4, "ABC:PETR4"), false),
        (definition(9, 4, "ABC:PETR4"), true),
    ] {
        let mut bench = venues();
        let core = bench.shard.feed.seat.holder().unwrap();
        bench.read(core);
        bench.deliver(core, &[frame]);
        let is_refused = bench.read(core).iter().any(|it| it.view::<Refusal>().is_some());
        assert_eq!(is_refused, !is_own, "{frame:?}");
        // A log without a record is looked through in the same way.
        let disk = MemoryDisk::new(512);
        let (mut log, _) = Log::open(disk.storage(), log_config(), Now::default()).unwrap();
        log.append(&frame).unwrap();
        log.commit(Now::default());
        assert_eq!(keep_partition(&config(), &mut log).is_ok(), is_own, "{frame:?}");
    }
}
