//! What a new kind takes: a number, a message, and a row in the table of kinds. `Sample` is one, for tests only
//! (`wire/frame.rs`, `wire/data.rs`, `wire/kinds.rs`); nothing else in the program names it. And what becomes of
//! a kind that only a newer program has.

use super::*;
use crate::cli::subscribe::{FramePrinter, SubscribeRequest};
use crate::config::Config;
use crate::wire::{FRAME_BYTES, Kind, Sample};

fn sample(seq: u64) -> Frame {
    Frame::seal(Sample {
        seq: U64::new(seq),
        instrument: U32::new(1),
        instrument_seq: U32::new(1),
        ts_event: U64::new(DAY_NS),
        ts_recv: U64::new(DAY_NS + 1),
        flags: U16::new(Flags::LAST),
        price: I64::new(32_015_000_000),
        lots: U32::new(7),
        label: padded("a,b"),
        ..Sample::default()
    })
}

/// A closed log of a definition, a trade, a sample, and a trade.
fn log_of_a_sample() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "core");
    let mut definition = Definition::new(U32::new(1).into(), "PETR4".parse().unwrap(), 2);
    definition.seq = U64::new(1);
    append(&mut log, &Frame::seal(definition));
    for seq in [2, 3, 4] {
        let (seq, instrument) = (U64::new(seq), U32::new(1));
        let trade = Frame::seal(Trade { seq, instrument, ..Trade::default() });
        append(&mut log, &if seq.get() == 3 { sample(3) } else { trade });
    }
    log.close(NOW).unwrap();
    dir
}

fn only_samples(dir: &Path) -> Selected {
    let pattern: Pattern = "sample.PETR*".parse().unwrap();
    let patterns = vec![feed::Pattern::new(&pattern.symbols, pattern.kinds).unwrap()];
    Selected { patterns, ..selected(dir) }
}

const AS_JSON: &str = r#"{"kind":"sample","symbol":"PETR4","seq":3,"seq_text":"3","instrument_seq":1,"ts_event":86400000000000,"ts_event_text":"1970-01-02T00:00:00Z","ts_recv":86400000000001,"ts_recv_text":"1970-01-02T00:00:00.000000001Z","flags":["last"],"price":"32.015","lots":7,"label":"a,b"}"#;
const AS_LINE: &str = "00:00:00.000 sample PETR4            32.015        a,b           7";

#[test]
fn a_new_kind_is_dumped_in_every_form() {
    let dir = log_of_a_sample();
    let dumped = |format| {
        let (exit, lines) = dump(only_samples(dir.path()), format);
        assert_eq!(exit, Exit::Complete);
        lines
    };
    assert_eq!(dumped(DumpFormat::Json), [AS_JSON]);
    assert_eq!(dumped(DumpFormat::Table)[1..], [AS_LINE]);
    let row = &dumped_csv(&dumped(DumpFormat::Csv))[&3];
    let own = ["kind=sample", "symbol=PETR4", "seq=3", "instrument_seq=1"];
    assert_eq!(row[..4], own);
    assert_eq!(row[6..], ["flags=last", "price=32.015", "lots=7", "label=a,b"]);
    let kind = <Rows as clap::ValueEnum>::from_str("sample", false).unwrap();
    let kinds = Selected { kinds: vec![kind], ..selected(dir.path()) };
    assert_eq!(dump(kinds, DumpFormat::Json).1, [AS_JSON]);
}

#[test]
fn a_new_kind_is_exported() {
    let dir = log_of_a_sample();
    let out = tempfile::tempdir().unwrap();
    let done = export(only_samples(dir.path()), ExportFormat::Csv, out.path(), false);
    assert_eq!(done, Ok(Exit::Complete));
    let files = files(out.path());
    let name = "kind=sample/date=1970-01-02/symbol=PETR4/part-00000.csv";
    let want = "seq,instrument_seq,ts_event,ts_recv,flags,price,lots,label\n\
                3,1,86400000000000,86400000000001,last,32.015,7,\"a,b\"\n";
    assert_eq!(files.keys().collect::<Vec<_>>(), [name]);
    assert_eq!(String::from_utf8_lossy(&files[name]), want);
}

#[cfg(feature = "parquet")]
#[test]
fn a_new_kind_is_exported_as_parquet() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    let dir = log_of_a_sample();
    let out = tempfile::tempdir().unwrap();
    export(only_samples(dir.path()), ExportFormat::Parquet, out.path(), false).unwrap();
    let (_, bytes) = files(out.path()).pop_first().unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let row = rows[0].to_string();
    let own = ["price: 32.015000000", "lots: 7", "label: \"a,b\""];
    assert!(rows.len() == 1 && own.iter().all(|field| row.contains(field)), "{row}");
}

#[test]
fn a_new_kind_is_shown_to_a_subscriber() {
    let shown_as = |format| {
        shown(|output| {
            let request = SubscribeRequest {
                address: "127.0.0.1:8081".parse().unwrap(),
                patterns: vec!["sample.PETR4".parse().unwrap()],
                count: Some(1),
                duration: None,
                mode: crate::parse::DeliveryMode::Lossless,
                from_seq: None,
                from_time: None,
                speed: None,
                then_live: false,
                format,
                config: Config::default(),
            };
            assert_eq!(request.patterns[0].kinds, Kind::Sample.mask());
            assert_eq!(request.patterns[0].to_string(), "sample.PETR4");
            let mut printer = FramePrinter::new(&request, output);
            let definition = Definition::new(U32::new(1).into(), "PETR4".parse().unwrap(), 2);
            printer.take(&Frame::seal(definition)).unwrap();
            printer.take(&sample(3)).unwrap();
            Ok(printer.exit())
        })
        .1
    };
    assert_eq!(shown_as(Format::Json), [AS_JSON]);
    assert_eq!(shown_as(Format::Table)[1..], [AS_LINE]);
}

/// As a program writes it that has a kind 14: every other byte is right.
fn of_a_newer_program(frame: &[u8]) -> [u8; FRAME_BYTES] {
    let mut newer = [0; FRAME_BYTES];
    newer.copy_from_slice(frame);
    newer[0] = 14;
    let crc = crc32c::crc32c(&newer[..60]);
    newer[60..].copy_from_slice(&crc.to_le_bytes());
    newer
}

/// The log, written by a newer program; and its file.
fn log_of_a_newer_program() -> (TempDir, std::path::PathBuf) {
    let dir = log_of_a_sample();
    let path = dir.path().join("core/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let records = bytes[4096..].chunks_exact_mut(FRAME_BYTES);
    let record = { records }.find(|record| record[0] == Kind::Sample as u8).unwrap();
    let newer = of_a_newer_program(record);
    record.copy_from_slice(&newer);
    fs::write(&path, &bytes).unwrap();
    (dir, path)
}

#[test]
fn a_kind_to_come_is_counted_and_never_left_out_in_silence() {
    let (dir, _) = log_of_a_newer_program();
    for format in [DumpFormat::Json, DumpFormat::Csv, DumpFormat::Table] {
        let (exit, lines) = dump(selected(dir.path()), format);
        assert_eq!(exit, Exit::Partial, "what is not shown is missing");
        assert!(lines.iter().all(|line| !line.contains("gap")), "it is no loss: {lines:#?}");
    }
    let out = tempfile::tempdir().unwrap();
    let done = export(selected(dir.path()), ExportFormat::Csv, out.path(), false);
    assert_eq!(done, Ok(Exit::Partial));
    let said = |selected: Selected| {
        let mut records = selected.records().unwrap();
        while let Some(item) = records.next_item().unwrap() {
            if let Item::Data(frame) = item {
                records.rows(&frame, &selected);
            }
        }
        records.left_out()
    };
    let text = "left out: 1 record of kind 14; only a newer program knows it";
    assert_eq!(said(selected(dir.path())), [text]);
    // Who asks for something else misses nothing.
    let trade = Rows::of(&Frame::seal(Trade::default())).unwrap();
    let nothing: [&str; 0] = [];
    assert_eq!(said(Selected { kinds: vec![trade], ..selected(dir.path()) }), nothing);
    assert_eq!(said(only_samples(dir.path())), nothing);
}

#[test]
fn a_kind_to_come_is_named_by_verify_and_an_open_leaves_it_alone() {
    let (dir, path) = log_of_a_newer_program();
    let before = fs::read(&path).unwrap();
    let (exit, findings) = verified(dir.path());
    assert_eq!(exit, Exit::Failed);
    assert_eq!(findings[0]["severity"], "corrupt");
    assert_eq!((&findings[0]["seq"], &findings[0]["records"]), (&3.into(), &1.into()));
    assert!(findings[0]["what"].as_str().unwrap().contains("kind 14"), "{findings:#?}");
    assert_eq!(findings.len(), 2, "nothing else is wrong: {findings:#?}");
    let storage = FileStorage::open(&dir.path().join("core"), Box::new(|| {})).unwrap();
    let config = LogConfig {
        name: padded("core"),
        segment_records: 64,
        policy: SyncPolicy::Batch,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    };
    let refused = Log::open(storage, config, NOW).unwrap_err();
    assert!(refused.to_string().contains("a frame of kind 14"), "{refused}");
    assert!(fs::read(&path).unwrap() == before);
}
