//! Small tapes made after public bug reports of other tools, each with what is right: `tests/data/PROVENANCE.md`.

use super::*;
use crate::wire::{Definition, Frame, Kind, Quote, Trade};

macro_rules! case {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/data/cases/", $name, ".dbn"))
    };
}

fn tape(bytes: &[u8]) -> Tape {
    Tape::read(bytes, &Reading::default()).unwrap()
}

fn schedule(bytes: &[u8]) -> Schedule {
    Schedule::new(&[tape(bytes)], Align::Clock).unwrap()
}

/// Name, trades and volume of each instrument.
fn trades(schedule: &Schedule) -> Vec<(String, u64, u64)> {
    let mut rows: Vec<(String, u64, u64)> = schedule
        .frames()
        .iter()
        .filter_map(Frame::view::<Definition>)
        .map(|definition| (definition.symbol.to_string(), 0, 0))
        .collect();
    for frame in schedule.frames() {
        if let Some(trade) = frame.view::<Trade>() {
            let row = &mut rows[frame.instrument().index().place()];
            row.1 += 1;
            row.2 += trade.qty.get();
        }
    }
    rows
}

fn row(name: &str, trades: u64, volume: u64) -> (String, u64, u64) {
    (name.to_owned(), trades, volume)
}

#[test]
fn a_mapping_record_names_an_instrument_from_there_on() {
    let schedule = schedule(case!("live-capture-roll"));
    assert_eq!(trades(&schedule), [row("ESU4", 4, 10), row("ESZ4", 1, 9)]);
}

#[test]
fn a_print_in_two_schemas_counts_once_and_that_is_said() {
    let bytes = case!("live-capture-two-schemas");
    let schedule = schedule(bytes);
    assert_eq!(trades(&schedule), [row("ESU4", 3, 6)]);
    let remarks = schedule.remarks();
    assert!(remarks.len() == 1 && remarks[0].ends_with("tape: 3. Each counts once"), "{remarks:?}");
    // The same tape given twice tells nothing new.
    let twice = Schedule::new(&[tape(bytes), tape(bytes)], Align::Clock).unwrap();
    assert_eq!(trades(&twice), [row("ESU4", 3, 6)]);
    assert_eq!(twice.frames().len(), schedule.frames().len());
}

/// Quotes too, of which a packet brings several at one time.
#[test]
fn a_day_that_is_given_twice_is_that_day() {
    let bytes = include_bytes!("../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst");
    let [once, twice] = [1, 2].map(|count| {
        let tapes: Vec<Tape> = (0..count).map(|_| tape(bytes)).collect();
        Schedule::new(&tapes, Align::Clock).unwrap()
    });
    assert_eq!(twice.frames(), once.frames());
    assert_eq!(twice.identity(), once.identity());
}

/// Wherever a capture was torn, the whole one goes on there.
#[test]
fn a_whole_tape_is_more_of_each_of_its_beginnings() {
    let mut bytes = Vec::new();
    let packed = &include_bytes!("../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst")[..];
    let mut inside =
        ::dbn::decode::DynReader::with_buffer(packed, ::dbn::Compression::Zstd).unwrap();
    inside.read_to_end(&mut bytes).unwrap();
    let whole = schedule(&bytes);
    for records in (1..60).chain([500, 2_287]) {
        let torn = &bytes[..bytes.len() - (2_288 - records) * 80];
        let torn = schedule(torn);
        let had = torn.frames().len() as u64 + 1;
        assert_eq!(whole.continued(torn.identity(), had), Some(had), "{records} records");
        assert_eq!(whole.frames()[1..torn.frames().len()].len(), torn.frames().len() - 1);
    }
}

#[test]
fn a_name_is_valid_by_the_time_of_receipt() {
    let schedule = schedule(case!("midnight-first-event"));
    assert_eq!(trades(&schedule), [row("ESU4", 3, 6)]);
}

#[test]
fn a_name_that_is_no_symbol_is_shown_under_one_that_is_told() {
    let tape = tape(case!("star-and-long-symbols"));
    assert_eq!(
        tape.remarks(),
        [
            "the name \"BAC-I*\" is no symbol here: BAC-I_~2f7d4cbe stands for it",
            "the name \"LONG-STRATEGY-NAME-OF-26-CH\" is no symbol here: LONG-STRATEGY-N~7a705f84 \
             stands for it",
        ]
    );
    let names = ["BAC-I_~2f7d4cbe", "WFC+", "LONG-STRATEGY-N~7a705f84"];
    let told: Vec<&str> = tape.instruments.rows().iter().map(|row| row.symbol.as_str()).collect();
    assert_eq!(told, names);
}

#[test]
fn two_venues_with_one_id_stay_two_instruments() {
    let schedule = schedule(case!("two-venues-one-id"));
    let names: Vec<String> = trades(&schedule).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["XNAS:QQQ", "EQUS:QQQ"]);
    let quotes: Vec<(usize, i64, i64)> = schedule
        .frames()
        .iter()
        .filter_map(|frame| Some((frame.instrument().index().place(), frame.view::<Quote>()?)))
        .map(|(place, quote)| (place, quote.bid.get() / 10_000_000, quote.ask.get() / 10_000_000))
        .collect();
    assert_eq!(quotes.len(), 12);
    assert!(quotes.iter().all(|it| [(0, 1_000, 1_010), (1, 900, 1_100)].contains(it)));
}

#[test]
fn the_recording_clock_paces_a_replay_and_a_wrong_event_time_stays_as_it_is() {
    let bytes = case!("stale-first-event-time");
    let schedule = schedule(bytes);
    let events: Vec<&Frame> =
        schedule.frames().iter().filter(|frame| frame.kind == Kind::Quote as u8).collect();
    assert_eq!(events.len(), 21);
    assert_eq!(events[0].ts_event.get(), 1_718_067_600_000_000_000);
    let offsets = schedule.offsets_ns();
    assert_eq!(offsets.last(), Some(&2_000_250_000));
    assert!(tape(bytes).remarks()[0].contains("recording clock's: 1."));
    // A lap is as long as the recording.
    let (_, due_ns) = schedule.frame_at(schedule.frames().len() as u64 + 1, true).unwrap();
    assert_eq!(due_ns, 2_000_250_000 + 1_000_000_000);
    let (again, _) = schedule.frame_at(schedule.frames().len() as u64 + 2, true).unwrap();
    assert_eq!(again.ts_event.get(), events[1].ts_event.get() + 86_400_000_000_000);
}

#[test]
fn joined_files_are_read_one_behind_the_other() {
    let (roll, late) = (case!("live-capture-roll"), case!("first-trade-late"));
    for read in [roll.len(), 1_000, 13] {
        let joined = [&roll[..], &late[..]].concat();
        let pieces = std::io::BufReader::with_capacity(read, &joined[..]);
        let tape = Tape::read(pieces, &Reading::default()).unwrap();
        assert_eq!(tape.records, 7 + 5);
        let told = Schedule::new(&[tape], Align::Clock).unwrap();
        assert_eq!(trades(&told), [row("ESU4", 9, 25), row("ESZ4", 1, 9)]);
    }
    // Cut off in the second header.
    for left in [1, 6, 40] {
        let joined = [&roll[..], &late[..left]].concat();
        let read =
            |allow_torn| Tape::read(&joined[..], &Reading { allow_torn, ..Reading::default() });
        assert!(matches!(read(false), Err(TapeError::Truncated { .. })), "{left}");
        assert_eq!(read(true).unwrap().records, 7, "{left}");
    }
}

#[test]
fn what_is_whole_of_a_torn_tape_is_read_if_that_is_asked_for() {
    let whole = tape(case!("first-trade-late"));
    let bytes = &case!("first-trade-late")[..];
    let torn = &bytes[..bytes.len() - 20];
    let said = Tape::read(torn, &Reading::default()).unwrap_err().to_string();
    assert!(said.contains("record 5") && said.contains("--allow-torn"), "{said}");
    let read = Tape::read(torn, &Reading { allow_torn: true, ..Reading::default() }).unwrap();
    assert_eq!(read.events, whole.events[..4]);
    assert_eq!(read.remarks()[0], "it ends in the middle of record 5, which is left out");
    // The same inside of a compressed tape, and of B3's file.
    let packed = include_bytes!("../../../tests/data/esu4-2024-07-01.mbp-1.dbn.zst");
    let read = Tape::read(
        &packed[..packed.len() / 2],
        &Reading { allow_torn: true, ..Reading::default() },
    )
    .unwrap();
    assert!(read.records > 500 && read.records < 2_288, "{}", read.records);
    let text = include_str!("../../../tests/data/b3-negocios-2026-07-14.txt").trim_end();
    let torn = &text.as_bytes()[..text.len() - 30];
    assert!(Tape::read(torn, &Reading::default()).is_err());
    let read = Tape::read(torn, &Reading { allow_torn: true, ..Reading::default() }).unwrap();
    assert_eq!((read.events.len(), read.torn), (4, Some(5)));
}

/// What a selection leaves out is counted, so that nobody takes a part for the whole.
#[test]
fn events_that_a_selection_leaves_out_are_told() {
    let text = "ts_event,symbol,price,qty\n1000,PETR4,1,1\n2000,PETR4,1,1\n2000,VALE3,1,1\n3000,PETR4,1,1\n";
    let symbols = vec![crate::feed::Pattern::new("PETR4", 0).unwrap()];
    let selection = TapeSelection { from_ns: 1500, to_ns: 3000, symbols };
    let read = Tape::read(text.as_bytes(), &Reading { selection, ..Reading::default() }).unwrap();
    assert_eq!(read.events.len(), 1);
    assert_eq!(read.remarks(), ["events left out by --from, --to and --symbol: 3"]);
}
