//! What is exported and shown can be read as a tape, and is the same market.

use std::path::PathBuf;

use super::*;
use crate::cli::offline::tape;
use crate::market::tape::{Align, Reading, Schedule, Tape, agree_on_quantities};
use crate::wire::{InstrumentId, Symbol};

/// A log in which each kind of event of a market has every value that it may have.
fn log_of_a_market() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "core");
    let names = [(1, "BTC/USD", 8), (2, "PETR4", 0), (3, "A,B \"C\"", 2)];
    for (index, symbol, decimals) in names {
        let instrument = InstrumentId::from(U32::new(index));
        let definition = Definition::new(instrument, symbol.parse().unwrap(), 3);
        let definition = definition.with_quantity_decimals(decimals);
        append(&mut log, &Frame::seal(Definition { seq: U64::new(index.into()), ..definition }));
    }
    let flags = [
        Flags::LAST | Flags::BUY,
        Flags::SELL | Flags::AFTER_MARKET,
        Flags::LAST | Flags::BUY | Flags::SELL,
        0,
    ];
    for seq in 4..200_u64 {
        let instrument = U32::new(1 + u32::try_from(seq % 3).unwrap());
        let at = seq * 1_000_000_007;
        let (ts_event, ts_recv) = (U64::new(at), U64::new(at));
        let flags = U16::new(flags[usize::try_from(seq % 4).unwrap()]);
        let price = I64::new((i64::try_from(seq).unwrap() - 90) * 1_234_567);
        let (seq, number) = (U64::new(seq), seq);
        append(
            &mut log,
            &match number % 5 {
                0 | 1 => Frame::seal(Quote {
                    instrument,
                    seq,
                    ts_event,
                    ts_recv,
                    flags: U16::new(match number % 7 {
                        0 => Flags::HALTED,
                        1 => Flags::LAST | Flags::AFTER_MARKET,
                        _ => Flags::LAST,
                    }),
                    bid: if number % 10 == 0 { I64::new(PRICE_UNDEFINED) } else { price },
                    ask: if number % 11 == 0 { I64::new(PRICE_UNDEFINED) } else { price },
                    bid_qty: Size::new(number),
                    ask_qty: Size::new(u32::MAX.into()),
                    ..Quote::default()
                }),
                2 => Frame::seal(Cancel {
                    instrument,
                    seq,
                    ts_event,
                    ts_recv,
                    flags,
                    price,
                    qty: U64::new(number - 1),
                    trade_id: U64::new(number - 1),
                    ..Cancel::default()
                }),
                _ => Frame::seal(Trade {
                    instrument,
                    seq,
                    ts_event,
                    ts_recv,
                    flags,
                    price,
                    qty: U64::new(if number < 20 { u64::MAX } else { number }),
                    trade_id: U64::new(number),
                    ..Trade::default()
                }),
            },
        );
    }
    log.close(NOW).unwrap();
    dir
}

/// The events as an exchange plays them: all but the definitions, in the order of their times. How an exchange numbers them is
/// left out.
fn played(mut tapes: Vec<Tape>) -> Vec<(Symbol, Frame)> {
    agree_on_quantities(&mut tapes).unwrap();
    let schedule = Schedule::new(&tapes, Align::Clock).unwrap();
    let rows = schedule.instruments().rows();
    let decimals = |symbol: &str| rows.iter().find(|row| row.symbol.as_str() == symbol).unwrap();
    assert_eq!(decimals("BTC/USD").quantity_decimals, 8);
    assert_eq!(decimals("A,B \"C\"").quantity_decimals, 2);
    let events = schedule.frames()[schedule.definitions()..].iter().map(|frame| {
        let mut frame = *frame;
        let symbol = rows[frame.instrument().index().place()].symbol;
        frame.seq = U64::new(0);
        frame.instrument_seq = U32::new(0);
        frame.instrument = U32::new(0);
        frame.renew_crc();
        (symbol, frame)
    });
    let mut events: Vec<(Symbol, Frame)> = events.collect();
    events.sort_by_key(|(_, frame)| frame.ts_event.get());
    events
}

#[test]
fn an_export_as_csv_is_the_same_market() {
    let (dir, out) = (log_of_a_market(), tempfile::tempdir().unwrap());
    let want = played(vec![tape::read(dir.path(), &Reading::default()).unwrap()]);
    assert_eq!(want.len(), 196);
    let kinds = ["quote", "trade", "cancel", "definition"]
        .map(|name| <Rows as clap::ValueEnum>::from_str(name, false).unwrap());
    let selected = Selected { kinds: kinds.to_vec(), ..selected(dir.path()) };
    export(selected, ExportFormat::Csv, out.path(), false).unwrap();
    let is_event = |name: &String| !name.contains("kind=definition");
    let files = files(out.path()).into_keys().filter(is_event).map(|name| out.path().join(name));
    let all: Vec<_> = files.collect();
    let read = |file: &PathBuf| tape::read_file(file, &Reading::default()).unwrap();
    assert_eq!(played(all.iter().map(read).collect()), want);
    // As one tape.
    let tape = tape::read(out.path(), &Reading::default()).unwrap();
    let remarks = tape.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].contains("files of kind definition: 3"),
        "{remarks:?}"
    );
    assert_eq!(played(vec![tape]), want);
    let quotes = tape::read(&out.path().join("kind=quote"), &Reading::default()).unwrap();
    assert!(quotes.events.len() > 70, "{}", quotes.events.len());
    // A file that is no tape is named.
    fs::write(&all[0], "x").unwrap();
    let failure = tape::read(out.path(), &Reading::default()).unwrap_err();
    assert!(failure.message().unwrap().contains("part-00000.csv cannot be replayed: not a tape"));
}

#[test]
fn lines_of_json_and_a_dump_as_csv_are_the_same_market() {
    let dir = log_of_a_market();
    let want = played(vec![tape::read(dir.path(), &Reading::default()).unwrap()]);
    for format in [DumpFormat::Json, DumpFormat::Csv] {
        let (_, lines) = dump(selected(dir.path()), format);
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let tape = Tape::read(text.as_bytes(), &Reading::default()).unwrap();
        let remarks = tape.remarks();
        assert!(remarks.iter().all(|it| it.contains("kind definition")), "{remarks:?}");
        assert_eq!(played(vec![tape]), want);
    }
}
