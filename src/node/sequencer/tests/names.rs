//! Full names of instruments: whoever has the definition gets them, also behind a death and a trimmed journal; and what is no
//! name of the instrument is refused.

use super::exchanges::{bench as named_bench, session};
use super::*;
use crate::wire::{FullName, InstrumentId, InstrumentIndex, InstrumentName, NameParts};

const LONG: &str = "BRN-FMH0024-BRN-FMJ0024-SPREAD-OF-40-CHA";

fn parts(index: u32, name: &str) -> Vec<Frame> {
    let instrument = InstrumentId::new(0, InstrumentIndex::new(index));
    let parts = InstrumentName::parts(instrument, &name.parse().unwrap());
    parts.map(|part| part.delivered(Flags::SNAPSHOT)).collect()
}

/// What an exchange says ahead of its feed of an instrument with this name.
fn named(index: u32, name: &str) -> Vec<Frame> {
    let symbol = Symbol::standing_for(name).to_string();
    [vec![ahead(index, &symbol)], parts(index, name)].concat()
}

/// The full names that these frames say, as whoever reads them knows them.
fn told(frames: &[Frame]) -> Vec<String> {
    let mut known: Vec<(Definition, NameParts)> = Vec::new();
    for frame in frames {
        if let Some(definition) = frame.view::<Definition>() {
            known.retain(|(it, _)| it.instrument() != definition.instrument());
            known.push((*definition, NameParts::default()));
        } else if let Some((_, parts)) =
            known.iter_mut().find(|(it, _)| it.instrument() == frame.instrument())
        {
            parts.note(frame);
        }
    }
    let names = known.iter().filter_map(|(it, parts)| parts.full_name(&it.symbol));
    names.map(|name| name.to_string()).collect()
}

fn name_frames(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.kind() == Some(Kind::InstrumentName)).count()
}

#[test]
fn a_name_is_journaled_once_and_is_there_behind_a_restart() {
    let mut bench = Bench::new();
    let before = bench.exchange(FEED, 1, &named(0, LONG));
    bench.deliver(before, &[trade(1, 0)]);
    bench.close(before, CloseReason::Reset);
    let again = bench.exchange(FEED, 2, &named(0, LONG));
    bench.deliver(again, &[trade(2, 0)]);
    let mut bench = bench.restart();
    let conn = bench.exchange(FEED, 3, &named(0, LONG));
    bench.deliver(conn, &[trade(3, 0)]);
    let journaled = bench.journaled();
    assert_eq!((name_frames(&journaled), told(&journaled)), (2, vec![LONG.to_owned()]));
    // They are no numbers of the exchange's feed, and none of those that a reader counts by.
    assert_eq!(bench.kept(), [1, 2, 3]);
    let names = journaled.iter().filter(|frame| frame.kind() == Some(Kind::InstrumentName));
    assert!(names.clone().all(|frame| frame.instrument_seq.get() == 0 && frame.seq.get() > 0));
    assert_eq!(seqs(&journaled), (1..=journaled.len() as u64).collect::<Vec<_>>());
    let (_, frames) = bench.follower(1, 0);
    assert_eq!(told(&frames), [LONG], "the broker is told");
    assert!(frames.iter().filter(|it| it.is_naming()).all(|it| !it.has(Flags::STALE)));
    let querier = bench.querier();
    let symbol = Symbol::standing_for(LONG);
    bench.deliver(querier, &[ask(1, Op::Quote, symbol.as_str(), 0, 0, u64::MAX)]);
    assert_eq!(told(&bench.read(querier)), [LONG], "who asks is told");
    bench.deliver(querier, &[ask(2, Op::Replay, symbol.as_str(), Kind::Trade.mask(), 1, u64::MAX)]);
    assert_eq!(told(&bench.read(querier)), [LONG], "so is who replays trades only");
}

#[test]
fn what_is_no_name_of_the_instrument_is_refused_and_journaled_by_nobody() {
    let other = LONG.replace("40-CHA", "40-CHB");
    let out_of_order = "the parts of a name are out of order";
    let not_its_own = "a name that its symbol does not stand for";
    let cases: [(Vec<Frame>, &str); 5] = [
        (vec![parts(0, LONG)[1]], out_of_order),
        (vec![parts(0, LONG)[0], parts(1, LONG)[1]], out_of_order),
        (parts(0, &other), not_its_own),
        (parts(1, "VALE3"), not_its_own),
        (parts(7, LONG), "the name of an undefined instrument"),
    ];
    for (frames, text) in cases {
        let mut bench = Bench::new();
        let symbol = Symbol::standing_for(LONG).to_string();
        let conn = bench.exchange(FEED, 1, &[ahead(0, &symbol), ahead(1, "VALE3")]);
        bench.deliver(conn, &frames);
        let said = bench.read(conn);
        let refusal = said.iter().find_map(Frame::view::<Refusal>);
        assert_eq!(refusal.map(|it| unpadded(&it.text)).as_deref(), Some(text));
        assert!(bench.closes(conn) || !bench.actions.is_empty());
        assert_eq!(name_frames(&bench.journaled()), 0, "{text}");
    }
    // A name is no event: one that comes as a frame of the feed is refused too.
    let mut bench = Bench::new();
    let symbol = Symbol::standing_for("BAC-I*").to_string();
    let conn = bench.exchange(FEED, 1, &[ahead(0, &symbol)]);
    let mut event =
        InstrumentName::parts(InstrumentId::default(), &"BAC-I*".parse::<FullName>().unwrap());
    let mut event = event.next().unwrap();
    event.seq = U64::new(1);
    event.renew_crc();
    bench.deliver(conn, &[event]);
    assert!(bench.read(conn).iter().any(|frame| frame.kind() == Some(Kind::Error)));
}

#[test]
fn a_name_that_was_cut_in_the_middle_is_said_anew() {
    let mut bench = Bench::new();
    let symbol = Symbol::standing_for(LONG).to_string();
    let conn = bench.exchange(FEED, 1, &[ahead(0, &symbol), parts(0, LONG)[0]]);
    bench.close(conn, CloseReason::Reset);
    assert_eq!(name_frames(&bench.journaled()), 0, "nothing of half a name is journaled");
    bench.exchange(FEED, 1, &named(0, LONG));
    assert_eq!(told(&bench.journaled()), [LONG]);
}

/// Core puts the venue ahead of symbols, and cuts some of them itself.
#[test]
fn a_name_has_the_venue_that_core_puts_ahead_of_it() {
    let whole_there = "A-SYMBOL-OF-TWENTY-TWO";
    let mut bench = named_bench(&["xnas"]);
    let (conn, _) = session(&mut bench, 0, FEED, 1);
    bench
        .deliver(conn, &[vec![ahead(1, whole_there)], named(2, LONG), named(3, "BAC-I*")].concat());
    assert_eq!(
        told(&bench.journaled()),
        [format!("xnas:{whole_there}"), format!("xnas:{LONG}"), "xnas:BAC-I*".to_owned()]
    );
    // Whoever types them finds the instruments.
    for name in [whole_there, LONG, "BAC-I*"] {
        let symbol = Symbol::standing_for(&format!("xnas:{name}"));
        assert!(bench.core.market.instrument_of(&symbol).is_some(), "{symbol}");
    }
    // One that has no room for the venue is told, and is an instrument all the same.
    let (mut bench, longest) = (named_bench(&["longname"]), "X".repeat(80));
    let (conn, _) = session(&mut bench, 0, FEED, 1);
    bench.deliver(conn, &named(1, &longest));
    let said = |action: &Action| matches!(action, Action::Log(Level::Warn, text) if text.contains("too long behind a venue"));
    assert!(bench.actions.iter().any(said) && name_frames(&bench.journaled()) == 0);
}
