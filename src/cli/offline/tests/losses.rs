//! An export that lacks frames says so by its exit code, as a dump does.

use super::*;
use crate::wire::{Gap, GapReason, Seq};

/// Exports what is selected.
fn exit_of(selected: Selected) -> Exit {
    let out = tempfile::tempdir().unwrap();
    export(selected, ExportFormat::Csv, out.path(), false).unwrap()
}

/// Only what was asked for counts.
fn is_partial_around(selected: &Selected, seq: u64) {
    let part = |from_seq, to_seq| Selected { from_seq, to_seq, ..selected.clone() };
    assert_eq!(exit_of(selected.clone()), Exit::Partial, "{seq} is lost");
    assert_eq!(exit_of(part(seq, seq + 1)), Exit::Partial, "it is all that was asked for");
    assert_eq!(exit_of(part(0, seq)), Exit::Complete, "what is before it is there");
    assert_eq!(exit_of(part(seq + 1, u64::MAX)), Exit::Complete, "and what is behind it");
    assert_eq!(dump(selected.clone(), DumpFormat::Csv).0, Exit::Partial);
}

#[test]
fn an_export_over_rot_is_not_complete() {
    let dir = data_dir();
    let path = dir.path().join("core/00000000000000000002.log");
    let mut bytes = fs::read(&path).unwrap();
    // How many marks there are depends on when the disk was done: a frame of the sequence has to rot.
    let (records, _) = crate::wire::as_frames(&bytes[4096..]);
    let record = (5..).find(|record| crate::log::is_event(&records[*record])).unwrap();
    bytes[4096 + record * 64 + 33] ^= 16;
    fs::write(&path, &bytes).unwrap();
    let seq = verified(dir.path()).1[0]["seq"].as_u64().unwrap();
    is_partial_around(&selected(dir.path()), seq);
}

#[test]
fn an_export_over_a_hole_of_upstream_is_not_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "shard-A");
    for frame in &frames()[..10] {
        append(&mut log, frame);
    }
    let lost = Seq::new(11).unwrap();
    let hole = Frame::seal(Gap::uncounted(GapReason::Corrupt, lost, lost));
    log.append_entry(crate::log::LogEntry::Hole(&hole)).unwrap();
    for frame in &frames()[11..20] {
        append(&mut log, frame);
    }
    log.close(NOW).unwrap();
    drop(log);
    is_partial_around(&selected(dir.path()), 11);
}
