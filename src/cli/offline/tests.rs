//! The three commands on real directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::args::{DumpFormat, ExportFormat};
use super::dump::DumpRequest;
use super::export::ExportRequest;
use super::verify::VerifyRequest;
use super::*;
use crate::cli::args::Format;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Screen};
use crate::log::{Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
use crate::storage::FileStorage;
use crate::time::{Mono, Now};
use crate::wire::{
    Cancel, Definition, Flags, I64, PRICE_UNDEFINED, Quote, Size, Trade, U16, U32, U64,
};

mod fractions;
mod golden;
mod losses;
mod new_kind;
mod played_again;

const DAY_NS: u64 = 86_400_000_000_000;
const NOW: Now = Now { mono: Mono(0), wall_ns: 1_700_000_000_000_000_000 };
/// What a path cannot have, and what CSV has to quote.
const HOSTILE: &str = "../A,B \"%/=?";

fn open(dir: &Path, name: &str) -> Log<FileStorage> {
    let is_shard = name.starts_with("shard");
    let config = LogConfig {
        name: padded(name),
        segment_records: 64,
        policy: SyncPolicy::Batch,
        upstream: if is_shard { UpstreamRule::FollowSeq } else { UpstreamRule::CountAppended },
        sequence: if is_shard { Sequence::Increasing } else { Sequence::Contiguous },
        retention: Retention::default(),
    };
    let storage = FileStorage::open(&dir.join(name), Box::new(|| {})).unwrap();
    Log::open(storage, config, NOW).unwrap().0
}

fn append(log: &mut Log<FileStorage>, frame: &Frame) {
    while log.append(frame).is_err() {
        log.commit(NOW);
        std::thread::yield_now();
        assert!(!log.handle_completions(NOW).failed);
    }
    log.commit(NOW);
    log.handle_completions(NOW);
}

/// Two instruments over two days: definitions, quotes, trades and cancellations.
fn frames() -> Vec<Frame> {
    let mut frames: Vec<Frame> = [(1, "AMZN"), (2, HOSTILE)]
        .into_iter()
        .map(|(instrument, symbol)| {
            let mut definition =
                Definition::new(U32::new(instrument).into(), symbol.parse().unwrap(), 2);
            definition.seq = U64::new(u64::from(instrument));
            Frame::seal(definition)
        })
        .collect();
    for seq in 3..=400_u64 {
        let instrument = U32::new(1 + u32::from(seq % 3 == 0));
        let ts_event = U64::new(seq / 200 * DAY_NS + seq);
        let price = I64::new(if seq == 7 {
            i64::MIN
        } else {
            (i64::try_from(seq).unwrap() - 9) * 5_000_000
        });
        let seq = U64::new(seq);
        frames.push(match seq.get() % 4 {
            0 => Frame::seal(Quote {
                instrument,
                seq,
                ts_event,
                bid: price,
                ask: I64::new(PRICE_UNDEFINED),
                bid_qty: Size::new(u32::MAX.into()),
                ..Quote::default()
            }),
            1 => Frame::seal(Cancel { instrument, seq, ts_event, price, ..Cancel::default() }),
            _ => Frame::seal(Trade {
                instrument,
                seq,
                ts_event,
                price,
                flags: U16::new(Flags::LAST | Flags::SELL),
                // Beyond what a signed column's reader would take for a time.
                ts_recv: U64::new(u64::MAX - seq.get()),
                qty: U64::new(u64::MAX),
                ..Trade::default()
            }),
        });
    }
    frames
}

/// A data directory of core and two shards, closed.
fn data_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut logs =
        [open(dir.path(), "core"), open(dir.path(), "shard-A"), open(dir.path(), "shard-B")];
    for frame in frames() {
        append(&mut logs[0], &frame);
        let part = if frame.instrument.get() == 1 { 1 } else { 2 };
        append(&mut logs[part], &frame);
    }
    logs.iter_mut().for_each(|log| log.close(NOW).unwrap());
    dir
}

fn selected(dir: &Path) -> Selected {
    Selected::all_of(dir)
}

fn shown(
    run: impl FnOnce(&mut Output<&mut Vec<u8>>) -> Result<Exit, Failure>,
) -> (Exit, Vec<String>) {
    let mut text = Vec::new();
    let mut output = Output::new(&mut text, Screen::NONE);
    let exit = run(&mut output).unwrap();
    output.flush().unwrap();
    drop(output);
    (exit, String::from_utf8(text).unwrap().lines().map(str::to_owned).collect())
}

fn dump(selected: Selected, format: DumpFormat) -> (Exit, Vec<String>) {
    shown(|output| dump::run(&DumpRequest { selected, limit: None, marks: false, format }, output))
}

fn verified(dir: &Path) -> (Exit, Vec<serde_json::Value>) {
    let request = VerifyRequest { dir: dir.to_owned(), format: Format::Json };
    let (exit, lines) = shown(|output| verify::run(&request, output));
    (exit, lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn export(
    selected: Selected,
    format: ExportFormat,
    out: &Path,
    overwrite: bool,
) -> Result<Exit, Failure> {
    let request = ExportRequest { selected, format, out: out.to_owned(), overwrite };
    let mut output = Output::new(Vec::new(), Screen::NONE);
    super::export::run(&request, &mut output)
}

/// Every file below, by its path from there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The rows of exported CSV with kind and symbol before them, by seq.
fn exported_csv(out: &Path) -> BTreeMap<u64, Vec<String>> {
    let mut rows = BTreeMap::new();
    for (name, bytes) in files(out) {
        let folders: Vec<&str> =
            name.split('/').map(|part| part.split_once('=').map_or("", |(_, v)| v)).collect();
        let symbol = match folders[2] {
            "AMZN" => "AMZN",
            "..%2FA%2CB%20%22%25%2F%3D%3F" => HOSTILE,
            other => panic!("{other}"),
        };
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        for record in reader.records() {
            let record = record.unwrap();
            let day = record[2].parse::<u64>().unwrap() / DAY_NS;
            assert_eq!(folders[1], ["1970-01-01", "1970-01-02", "1970-01-03"][day as usize]);
            let mut row = vec![format!("kind={}", folders[0]), format!("symbol={symbol}")];
            let fields = names.iter().zip(&record).filter(|(_, value)| !value.is_empty());
            row.extend(fields.map(|(name, value)| format!("{name}={value}")));
            assert!(rows.insert(record[0].parse().unwrap(), row).is_none(), "a row came twice");
        }
    }
    rows
}

/// The rows of a dump as CSV, by seq.
fn dumped_csv(lines: &[String]) -> BTreeMap<u64, Vec<String>> {
    let text = lines.join("\n");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let fields = names.iter().zip(&record).filter(|(_, value)| !value.is_empty());
        let row = fields.map(|(name, value)| format!("{name}={value}")).collect();
        rows.insert(record[2].parse().unwrap(), row);
    }
    rows
}

#[test]
fn what_is_exported_is_what_is_dumped_and_nothing_is_changed() {
    let dir = data_dir();
    let before = files(dir.path());
    let (exit, lines) = dump(selected(dir.path()), DumpFormat::Csv);
    assert_eq!((exit, lines.len()), (Exit::Complete, 1 + 398));
    let out = tempfile::tempdir().unwrap();
    assert_eq!(
        export(selected(dir.path()), ExportFormat::Csv, out.path(), false),
        Ok(Exit::Complete)
    );
    let dumped = dumped_csv(&lines);
    assert_eq!(exported_csv(out.path()), dumped);
    assert_eq!(dumped.keys().copied().collect::<Vec<_>>(), (3..=400).collect::<Vec<_>>());
    // The shards together are the journal.
    let shards = Selected { log: Some("shards".into()), ..selected(dir.path()) };
    assert_eq!(dump(shards, DumpFormat::Csv).1, lines);
    let (exit, findings) = verified(dir.path());
    assert_eq!(exit, Exit::Complete, "{findings:#?}");
    assert_eq!(findings.len(), 3, "one summary for each log: {findings:#?}");
    assert!(files(dir.path()) == before, "something was changed");
}

#[test]
fn records_are_chosen_by_seq_symbol_and_kind() {
    let dir = data_dir();
    let seqs = |selected: Selected| -> Vec<u64> {
        let lines = dump(selected, DumpFormat::Json).1;
        let values =
            lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values.map(|value| value["seq"].as_u64().unwrap()).collect()
    };
    let all = selected(dir.path());
    assert_eq!(seqs(Selected { from_seq: 10, to_seq: 14, ..all.clone() }), [10, 11, 12, 13]);
    let kinds = vec![Rows::of(&frames()[0]).unwrap()];
    assert_eq!(seqs(Selected { kinds, ..all.clone() }), [1, 2]);
    let patterns = vec![feed::Pattern::new("AM*", crate::wire::Kind::Quote.mask()).unwrap()];
    let found = seqs(Selected { patterns, to_seq: 30, ..all });
    assert_eq!(found, [4, 8, 16, 20, 28]);
}

#[test]
fn a_flipped_bit_is_named_with_its_place_and_shown_as_a_gap() {
    let dir = data_dir();
    let name = "core/00000000000000000002.log";
    let path = dir.path().join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 5 * 64 + 33] ^= 16;
    fs::write(&path, &bytes).unwrap();
    let (exit, findings) = verified(dir.path());
    assert_eq!(exit, Exit::Failed);
    let finding = &findings[0];
    assert_eq!((&finding["log"], &finding["severity"]), (&"core".into(), &"corrupt".into()));
    assert_eq!(finding["file"], name.split_once('/').unwrap().1);
    assert_eq!(finding["offset"], 4096 + 5 * 64);
    let seq = finding["seq"].as_u64().unwrap();
    let (exit, lines) = dump(selected(dir.path()), DumpFormat::Json);
    assert_eq!((exit, lines.len()), (Exit::Partial, 398));
    let gap = lines.iter().find(|line| line.contains("\"gap\"")).unwrap();
    let gap: serde_json::Value = serde_json::from_str(gap).unwrap();
    assert_eq!((&gap["from_seq"], &gap["to_seq"]), (&seq.into(), &seq.into()));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_torn_tail_is_a_loss_and_a_death_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "core");
    let frames = frames();
    frames[..30].iter().for_each(|frame| append(&mut log, frame));
    assert_eq!(verified(dir.path()).1.last().unwrap()["in_use"], true);
    let appended = log.committed_position();
    drop(log);
    let (exit, findings) = verified(dir.path());
    assert_eq!((exit, &findings[0]["severity"]), (Exit::Complete, &"note".into()), "{findings:#?}");
    let path = dir.path().join("core/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let behind = 4096 + usize::try_from(appended).unwrap() * 64;
    bytes[behind + 64..behind + 80].fill(7);
    fs::write(&path, &bytes).unwrap();
    let (exit, findings) = verified(dir.path());
    assert_eq!(
        (exit, &findings[0]["offset"]),
        (Exit::Partial, &(behind + 64).into()),
        "{findings:#?}"
    );
    assert_eq!(dump(selected(dir.path()), DumpFormat::Json).1.len(), 28);
}

#[test]
fn hostile_directories_are_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), b"").unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::create_dir_all(at("folder/core/00000000000000000001.log")).unwrap();
    fs::create_dir_all(at("looped/core")).unwrap();
    symlink("00000000000000000001.log", at("looped/core/00000000000000000001.log")).unwrap();
    // A header that states the greatest numbers, and is whole.
    fs::create_dir_all(at("huge")).unwrap();
    let log = open(&at("huge"), "core");
    drop(log);
    let path = at("huge/core/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40..80].fill(0xFF);
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    for (name, part) in [
        ("missing", "cannot list"),
        ("empty", "is no log"),
        ("file", "cannot list"),
        ("loop", "symbolic links"),
        ("folder", "not a file"),
        ("looped", "symbolic links"),
        ("huge", "segment number"),
    ] {
        let request = DumpRequest {
            selected: selected(&at(name)),
            limit: None,
            marks: false,
            format: DumpFormat::Json,
        };
        let mut output = Output::new(Vec::new(), Screen::NONE);
        let refused = dump::run(&request, &mut output).unwrap_err();
        assert_eq!(refused.exit(), Exit::Failed, "{name}: {refused:?}");
        assert!(refused.message().unwrap().contains(part), "{name}: {refused:?}");
        let out = at("out");
        let refused = export(selected(&at(name)), ExportFormat::Csv, &out, false).unwrap_err();
        assert!(refused.message().unwrap().contains(part), "{name}: {refused:?}");
        assert!(!out.exists(), "{name}: nothing was to be made");
        let request = VerifyRequest { dir: at(name), format: Format::Table };
        let mut output = Output::new(Vec::new(), Screen::NONE);
        match verify::run(&request, &mut output) {
            Ok(exit) => assert_eq!(exit, Exit::Failed, "{name}"),
            Err(refused) => assert_eq!(refused.exit(), Exit::Failed, "{name}"),
        }
    }
}

#[test]
fn a_directory_with_anything_else_in_it_is_never_written_to() {
    let dir = data_dir();
    let out = tempfile::tempdir().unwrap();
    let again = |overwrite| export(selected(dir.path()), ExportFormat::Csv, out.path(), overwrite);
    again(false).unwrap();
    let first = files(out.path());
    assert_eq!(again(false).unwrap_err().exit(), Exit::Usage);
    assert_eq!(again(true), Ok(Exit::Complete));
    assert!(files(out.path()) == first);
    // Somebody's own file, a link out of it, and a folder of another depth.
    let mine = [
        "kind=trade/notes.txt",
        "kind=trade/date=1970-01-01/symbol=AMZN/other.csv",
        "kind=trade/date=1970-01-01/part-00000.csv",
    ];
    for mine in mine {
        fs::write(out.path().join(mine), b"mine").unwrap();
        let refused = again(true).unwrap_err();
        assert!(refused.message().unwrap().contains(mine), "{refused:?}");
        fs::remove_file(out.path().join(mine)).unwrap();
        assert!(files(out.path()) == first);
    }
    symlink("/", out.path().join("kind=link")).unwrap();
    assert!(again(true).unwrap_err().message().unwrap().contains("kind=link"));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_parquet_says_how_to_get_one() {
    let dir = data_dir();
    let out = dir.path().join("out");
    let refused = export(selected(dir.path()), ExportFormat::Parquet, &out, false).unwrap_err();
    assert_eq!(refused.exit(), Exit::Usage);
    assert!(refused.message().unwrap().contains("--features parquet"), "{refused:?}");
    assert!(!out.exists());
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_reads_back_as_what_was_dumped() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::Field;

    use crate::market::price::decimal;

    let dir = data_dir();
    let out = tempfile::tempdir().unwrap();
    assert_eq!(
        export(selected(dir.path()), ExportFormat::Parquet, out.path(), false),
        Ok(Exit::Complete)
    );
    let dumped = dumped_csv(&dump(selected(dir.path()), DumpFormat::Csv).1);
    let mut count = 0;
    for (name, bytes) in files(out.path()) {
        let kind = name.split('/').next().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let mut read = vec![kind.to_owned()];
            let mut seq = 0;
            for (column, field) in row.get_column_iter() {
                let text = match field {
                    Field::ULong(number) => number.to_string(),
                    Field::UInt(number) => number.to_string(),
                    Field::Long(number) => number.to_string(),
                    Field::Str(text) => text.clone(),
                    Field::Decimal(number) => {
                        assert_eq!((number.precision(), number.scale()), (19, 9));
                        let negative = number.data()[0] & 0x80 != 0;
                        let mut units = [if negative { 0xFF } else { 0 }; 16];
                        units[7..].copy_from_slice(number.data());
                        decimal(i128::from_be_bytes(units), 2)
                    }
                    Field::Null => continue,
                    other => panic!("{column}: {other:?}"),
                };
                if column == "seq" {
                    seq = text.parse().unwrap();
                }
                if !text.is_empty() {
                    read.push(format!("{column}={text}"));
                }
            }
            let expected = &dumped[&seq];
            // A time that a signed number of nanoseconds cannot hold is null.
            let printed = expected.iter().filter(|field| {
                !field.starts_with("symbol=") && !field.starts_with("ts_recv=1844")
            });
            assert_eq!(read, printed.cloned().collect::<Vec<_>>());
            count += 1;
        }
    }
    assert_eq!(count, dumped.len());
}

#[test]
fn a_number_that_core_leaves_out_keeps_the_name_that_a_shard_knows() {
    let named =
        |symbol: &str| Frame::seal(Definition::new(U32::new(3).into(), symbol.parse().unwrap(), 2));
    let mut symbols = Symbols::default();
    note_symbol(&mut symbols, &named("ITUB4").delivered(Flags::SNAPSHOT));
    note_symbol(&mut symbols, &named("$lost").delivered(Flags::SNAPSHOT | Flags::STALE));
    assert_eq!(symbols.symbol(U32::new(3).into()).map(|symbol| symbol.as_str()), Some("ITUB4"));
}
