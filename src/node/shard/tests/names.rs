//! Full names in a shard: with the definition in every answer, also behind a restart, and stated once.

use super::*;
use crate::log::Read;
use crate::wire::{InstrumentName, NameParts, Symbol};

/// Its symbol is this shard's.
const LONG: &str = "BRN-FMH0024-BRN-FMJ0024-SPREAD-OF-40-CHA";

fn parts(seq: u64, index: u32) -> Vec<Frame> {
    let parts = InstrumentName::parts(instrument(index), &LONG.parse().unwrap());
    let numbered = parts.zip(seq..).map(|(mut part, seq)| {
        part.seq = U64::new(seq);
        part.renew_crc();
        part
    });
    numbered.collect()
}

/// What a querier knows of the first instrument of an answer.
fn told(frames: &[Frame]) -> Option<String> {
    let definition = frames.iter().find_map(Frame::view::<Definition>)?;
    let mut known = NameParts::default();
    let own = frames.iter().filter(|frame| frame.instrument() == definition.instrument());
    for frame in own {
        known.note(frame);
    }
    known.full_name(&definition.symbol).map(|name| name.to_string())
}

#[test]
fn an_answer_has_the_name_behind_the_definition_also_behind_a_restart() {
    let symbol = Symbol::standing_for(LONG).to_string();
    let mut bench = Bench::new();
    let (core, _) = bench.core(1, 1);
    let frames = [vec![definition(1, 0, &symbol)], parts(2, 0), vec![trade(4, 0, 10)]].concat();
    bench.feed(core, &frames);
    for mut bench in [bench.restart(), {
        let mut bench = Bench::new();
        let (core, _) = bench.core(1, 1);
        bench.feed(core, &frames);
        bench
    }] {
        for op in [Op::Last, Op::Bars, Op::Count, Op::Instruments] {
            let answer = bench.ask(op, &symbol, 1, 0, u64::MAX);
            assert_eq!(told(&answer).as_deref(), Some(LONG), "{op:?}");
            let rows = usize::try_from(end(&answer).rows.get()).unwrap();
            assert_eq!(rows, 1, "{op:?}: a name is no row");
        }
    }
}

/// Parts of names in the log.
fn stored(bench: &Bench) -> usize {
    let (mut count, mut position) = (0, bench.shard.log.first_position());
    while let Read::Frames(read) = bench.shard.log.read(position, usize::MAX) {
        count += read.iter().filter(|frame| frame.view::<InstrumentName>().is_some()).count();
        position += read.len() as u64;
    }
    count
}

#[test]
fn a_name_that_core_states_is_kept_once_and_goes_with_each_segment() {
    let symbol = Symbol::standing_for(LONG).to_string();
    let mut bench = Bench::new();
    let (core, _) = bench.core(1, 1);
    let stated: Vec<Frame> = [vec![definition(1, 0, &symbol)], parts(2, 0)]
        .concat()
        .iter()
        .map(|frame| frame.delivered(Flags::SNAPSHOT))
        .collect();
    bench.feed(core, &stated);
    assert_eq!(stored(&bench), 2);
    bench.feed(core, &stated);
    assert_eq!(stored(&bench), 2, "what is known is not stored again");
    // Some segments later.
    bench.feed(core, &(4..200).map(|seq| trade(seq, 0, seq)).collect::<Vec<_>>());
    let answer = bench.restart().ask(Op::Last, &symbol, 1, 0, u64::MAX);
    assert_eq!(told(&answer).as_deref(), Some(LONG));
}
