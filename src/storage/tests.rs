//! Real files: what only the file system can refuse.

use std::fs;
use std::path::Path;

use super::*;
use crate::log::{
    HeaderFault, Log, LogConfig, NewEpoch, OpenError, Read, Recovery, Retention, Sequence,
    StorageError, SyncPolicy, UpstreamRule,
};
use crate::time::{Mono, Now};
use crate::wire::{Frame, Kind, Quote, U64};

fn at(millis: u64) -> Now {
    Now { mono: Mono(millis * 1_000_000), wall_ns: millis * 1_000_000 }
}

fn config() -> LogConfig {
    LogConfig {
        name: *b"journal\0\0\0\0\0\0\0\0\0",
        segment_records: 64,
        policy: SyncPolicy::Batch,
        upstream: UpstreamRule::CountAppended,
        sequence: Sequence::Contiguous,
        retention: Retention::default(),
    }
}

fn storage(directory: &Path) -> Result<FileStorage, StorageError> {
    FileStorage::open(directory, Box::new(|| {}))
}

fn open(directory: &Path) -> (Log<FileStorage>, Recovery) {
    Log::open(storage(directory).unwrap(), config(), at(0)).unwrap()
}

fn frame(seq: u64) -> Frame {
    Frame::seal(Quote { seq: U64::new(seq), ..Quote::default() })
}

/// Appends up to `last`; a segment that is not ready is waited for by closing the turn.
fn append_up_to(log: &mut Log<FileStorage>, last: u64) {
    while log.next_seq() <= last {
        if log.append(&frame(log.next_seq())).is_err() {
            std::thread::yield_now();
        }
        log.commit(at(1));
        assert!(!log.handle_completions(at(1)).failed);
    }
}

fn seqs(log: &Log<FileStorage>) -> Vec<u64> {
    let mut seqs = Vec::new();
    let mut position = log.first_position();
    while let Read::Frames(frames) = log.read(position, usize::MAX) {
        let data = frames.iter().filter(|frame| frame.kind().is_some_and(Kind::is_data));
        seqs.extend(data.map(|frame| frame.seq.get()));
        position += frames.len() as u64;
    }
    seqs
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn what_was_written_is_there_after_close_and_after_death() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, recovery) = open(directory.path());
    assert!(recovery.fresh);
    log.begin_epoch(NewEpoch::of(7), at(0)).unwrap();
    append_up_to(&mut log, 500);
    log.close(at(2)).unwrap();
    drop(log);

    let (mut log, recovery) = open(directory.path());
    assert!(recovery.clean);
    assert_eq!((recovery.epoch, recovery.next_seq), (1, 501));
    append_up_to(&mut log, 1000);
    // Death of the process: nobody closes anything.
    drop(log);

    for _ in 0..2 {
        let (log, recovery) = open(directory.path());
        assert!(!recovery.clean);
        assert_eq!((recovery.next_seq, recovery.cut_records), (1001, 0));
        assert_eq!(seqs(&log), (1..=1000).collect::<Vec<_>>());
        assert_eq!(log.verify(), []);
    }
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = storage(directory.path()).unwrap();
    let refused = storage(directory.path()).unwrap_err();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("LOCK"), "{refused}");
    drop(first);
    assert!(storage(directory.path()).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_format_from_the_future_is_refused_by_name_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let path = directory.path().join("00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let future = crate::log::FORMAT_VERSION + 1;
    bytes[8..12].copy_from_slice(&future.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let refused = Log::open(storage(directory.path()).unwrap(), config(), at(0)).unwrap_err();
    let fault = HeaderFault::Version(future);
    assert_eq!(refused, OpenError::Refused { segment: 1, fault });
    assert!(refused.to_string().contains(&format!("format version {future}")), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(
        storage(directory.path()).map(|_| fs::read_dir(directory.path()).unwrap().count()),
        Ok(2)
    );
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn another_nodes_directory_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let config = LogConfig { name: *b"shard-A\0\0\0\0\0\0\0\0\0", ..config() };
    let refused = Log::open(storage(directory.path()).unwrap(), config, at(0)).unwrap_err();
    assert!(refused.to_string().contains("journal"), "{refused}");
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn half_made_segments_are_removed_and_other_files_are_not() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let half_made = directory.path().join("00000000000000000002.tmp");
    let foreign = directory.path().join("notes.tmp");
    fs::write(&half_made, b"half").unwrap();
    fs::write(&foreign, b"mine").unwrap();
    let (_log, recovery) = open(directory.path());
    assert_eq!(recovery.end_position, 1);
    assert!(!half_made.exists());
    assert!(foreign.exists());
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_cut_file_is_completed_behind_its_last_good_record() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    append_up_to(&mut log, 20);
    drop(log);
    let path = directory.path().join("00000000000000000001.log");
    let whole = fs::metadata(&path).unwrap().len();
    for len in [whole - 1, 4096 + 64 * 30, 4096 + 64 * 20 + 17, 4096 + 64 * 10] {
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let (mut log, recovery) = open(directory.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), whole);
        assert_eq!(seqs(&log), (1..recovery.next_seq).collect::<Vec<_>>());
        append_up_to(&mut log, recovery.next_seq + 2);
    }
    for len in [4095, 1, 0] {
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let refused = Log::open(storage(directory.path()).unwrap(), config(), at(0)).unwrap_err();
        assert_eq!(refused, OpenError::Refused { segment: 1, fault: HeaderFault::Short });
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
    }
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_directory_that_cannot_be_written_is_named() {
    // /proc takes no files from anybody, root included, whom permissions would not stop.
    let refused = storage(Path::new("/proc/pregao")).unwrap_err();
    assert!(matches!(refused, StorageError::Lacking { action: "create", .. }), "{refused}");
    assert!(refused.to_string().contains("/proc/pregao"), "{refused}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(storage(&file).unwrap_err().to_string().contains("file"));
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn removed_segments_leave_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { bytes_max: Some(4 * (4096 + 64 * 64)), age_max: None };
    let config = LogConfig { retention, ..config() };
    let (mut log, _) = Log::open(storage(directory.path()).unwrap(), config, at(0)).unwrap();
    append_up_to(&mut log, 2000);
    log.close(at(1)).unwrap();
    assert!(log.first_position() > 0);
    let kept = log.first_position();
    drop(log);
    let (log, recovery) = Log::open(storage(directory.path()).unwrap(), config, at(0)).unwrap();
    assert_eq!((log.first_position(), recovery.next_seq), (kept, 2001));
    assert!(fs::read_dir(directory.path()).unwrap().count() < 12);
}

/// Lets the log look at its directory, and returns what it says.
fn look(log: &mut Log<FileStorage>, from_ms: u64) -> String {
    log.handle_timers(at(from_ms));
    log.handle_timers(at(from_ms + 1_000));
    loop {
        log.handle_completions(at(from_ms + 1_000));
        if let Some(notice) = log.poll_notice() {
            return notice.to_string();
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_directory_that_was_moved_deleted_or_replaced_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let (path, aside) = (parent.path().join("log"), parent.path().join("aside"));
    let (mut log, _) = open(&path);
    append_up_to(&mut log, 10);
    fs::rename(&path, &aside).unwrap();
    let said = look(&mut log, 1_000);
    assert!(said.contains("was moved away") && said.contains(path.to_str().unwrap()), "{said}");
    assert_eq!(log.append(&frame(11)), Err(crate::log::AppendError::Full));
    fs::create_dir(&path).unwrap();
    assert!(look(&mut log, 3_000).contains("is another directory"));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "nothing is made in the impostor");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert!(look(&mut log, 5_000).contains("is at its path again"));
    append_up_to(&mut log, 200);
    assert_eq!(seqs(&log), (1..=200).collect::<Vec<_>>());
    fs::remove_file(path.join("LOCK")).unwrap();
    assert!(look(&mut log, 7_000).contains("has lost its LOCK"));
    fs::remove_dir_all(&path).unwrap();
    assert!(look(&mut log, 9_000).contains("was deleted"));
    assert!(log.close(at(11_000)).is_err());
}

#[test]
fn a_log_of_many_segments_holds_few_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let open_files = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.filter(|target| target.starts_with(directory.path())).count()
    };
    let (mut log, _) = open(directory.path());
    append_up_to(&mut log, 2_000);
    let segments = directory.path().read_dir().unwrap().count();
    assert!(segments > 30, "{segments}");
    assert!(open_files() <= 7, "{} files of {segments} are open", open_files());
    log.close(at(2)).unwrap();
    drop(log);
    let (mut log, _) = open(directory.path());
    assert!(open_files() <= 7, "{} files of {segments} are open", open_files());
    append_up_to(&mut log, 2_100);
    assert_eq!(seqs(&log), (1..=2_100).collect::<Vec<_>>());
}

#[test]
fn what_a_system_may_lack_is_told_from_what_is_broken() {
    use rustix::io::Errno;
    let error = |errno: Errno| super::worker::failure("create", Path::new("x"), errno.into());
    let lacking = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOENT,
        Errno::DQUOT,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::ROFS,
        Errno::NOTDIR,
    ];
    for errno in lacking {
        assert!(error(errno).may_pass(), "{errno:?}");
    }
    for errno in [Errno::IO, Errno::INVAL, Errno::BADF, Errno::NXIO] {
        assert!(!error(errno).may_pass(), "{errno:?}");
    }
}
