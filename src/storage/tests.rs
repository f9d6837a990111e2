//! Real files: what only the file system can refuse.

use std::fs;
use std::path::Path;

use super::*;
use crate::log::{
    Completion, HEADER_BYTES, HeaderFault, Log, LogConfig, NewEpoch, OpenError, Read, Recovery,
    Retention, Segment, Sequence, Storage, StorageError, SyncPolicy, UpstreamRule,
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

/// Keeps the bytes of four segments.
fn trimming() -> LogConfig {
    let retention = Retention { bytes_max: Some(4 * (4096 + 64 * 64)), age_max: None };
    LogConfig { retention, ..config() }
}

/// A closed log whose retention has removed most of its 2,000 frames.
fn trimmed(directory: &Path) -> Log<FileStorage> {
    let (mut log, _) = Log::open(storage(directory).unwrap(), trimming(), at(0)).unwrap();
    append_up_to(&mut log, 2000);
    log.close(at(1)).unwrap();
    log
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn removed_segments_leave_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let log = trimmed(directory.path());
    assert!(log.first_position() > 0);
    let kept = log.first_position();
    drop(log);
    let (log, recovery) = Log::open(storage(directory.path()).unwrap(), trimming(), at(0)).unwrap();
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

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn one_record_says_up_to_which_segment_all_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    drop(trimmed(directory.path()));
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let of_kind = |end: &str| {
        let numbers = names().into_iter().filter_map(|it| it.strip_suffix(end)?.parse().ok());
        numbers.collect::<Vec<u64>>()
    };
    let (segments, removed) = (of_kind(".log"), of_kind(".removed"));
    assert!(segments[0] > 20, "{segments:?}");
    assert_eq!(removed, [segments[0] - 1], "an older record stays");
    let mut held = storage(directory.path()).unwrap();
    assert_eq!(held.removed_through(), Ok(segments[0] - 1));
    assert_eq!(held.list(), Ok(segments.clone()));
    // A lower number takes nothing back, and what is no record counts for nothing.
    held.set_removed_through(3).unwrap();
    fs::write(directory.path().join("99.removed"), b"").unwrap();
    fs::write(directory.path().join("00000000000000000099.other"), b"").unwrap();
    assert_eq!(held.removed_through(), Ok(segments[0] - 1));
    held.set_removed_through(segments[0]).unwrap();
    assert_eq!(of_kind(".removed"), [segments[0], 99]);
    let mut files = LogFiles::find(directory.path()).unwrap().unwrap();
    assert_eq!(crate::log::inspect::Files::list(&mut files).unwrap().removed_through, segments[0]);
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_partition_is_kept_beside_the_segments_and_replaced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = storage(directory.path()).unwrap();
    assert_eq!(held.partition(), Ok(None));
    for text in ["range A-M", "hash 3"] {
        held.set_partition(text.as_bytes()).unwrap();
        assert_eq!(held.partition(), Ok(Some(text.as_bytes().to_vec())));
    }
    drop(held);
    let (mut log, _) = open(directory.path());
    assert_eq!(log.partition(), Ok(Some(b"hash 3".to_vec())));
    log.keep_partition(b"hash 4").unwrap();
    assert_eq!(log.partition(), Ok(Some(b"hash 4".to_vec())));
    let new = directory.path().join("PARTITION.new");
    assert!(!new.exists());
    // What cannot be written or read is an error, and never an empty partition.
    fs::create_dir(&new).unwrap();
    assert!(log.keep_partition(b"hash 5").is_err());
    assert_eq!(log.partition(), Ok(Some(b"hash 4".to_vec())));
    let kept = directory.path().join("PARTITION");
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    assert!(log.partition().is_err());
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_segment_has_the_length_that_it_was_made_or_extended_with() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = storage(directory.path()).unwrap();
    let bytes = HEADER_BYTES + 64 * 64;
    let mut header = [0; HEADER_BYTES];
    header[5] = 7;
    held.start_prepare(3, &header, bytes);
    let Some(Completion::Prepared(Ok(segment))) = held.wait_completion() else { panic!("none") };
    assert_eq!((segment.number(), segment.len(), segment.is_empty()), (3, bytes, false));
    fs::write(directory.path().join("00000000000000000008.log"), b"").unwrap();
    assert!(held.open(8).unwrap().is_empty());
    fs::remove_file(directory.path().join("00000000000000000008.log")).unwrap();
    assert_eq!(segment.read(0, HEADER_BYTES), header);
    assert_eq!(segment.read(bytes - 3, 9), [0; 3]);
    drop(segment);
    let path = directory.path().join("00000000000000000003.log");
    fs::File::options().write(true).open(&path).unwrap().set_len(4200).unwrap();
    let mut segment = held.open(3).unwrap();
    assert_eq!(segment.len(), 4200);
    held.extend(&mut segment, bytes).unwrap();
    assert_eq!((segment.len(), fs::metadata(&path).unwrap().len()), (bytes, bytes as u64));
    segment.write(bytes - 2, b"ab");
    assert_eq!(segment.read(bytes - 2, 2), b"ab");
    // Two jobs are answered in their order, and then there is none to wait for.
    held.start_sync(&segment);
    held.start_examine();
    assert!(matches!(held.wait_completion(), Some(Completion::Synced(Ok(())))));
    assert!(matches!(held.wait_completion(), Some(Completion::Examined(Ok(())))));
    assert!(held.wait_completion().is_none());
    // One that is retired has no descriptor, and is synced all the same.
    segment.retire();
    held.start_sync(&segment);
    assert!(matches!(held.wait_completion(), Some(Completion::Synced(Ok(())))));
    held.start_remove(segment);
    assert!(matches!(held.wait_completion(), Some(Completion::Removed(Ok(())))));
    assert!(!path.exists());
    assert_eq!(held.list(), Ok(vec![]));
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn what_lies_beside_the_segments_is_listed_apart() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    for name in ["00000000000000000007.tmp", "00000000000000000003.tmp", "notes.tmp", "5.log"] {
        fs::write(directory.path().join(name), b"").unwrap();
    }
    let mut files = LogFiles::find(directory.path()).unwrap().unwrap();
    let listing = crate::log::inspect::Files::list(&mut files).unwrap();
    assert_eq!(listing.segments, [(1, 4096 + 64 * 64)]);
    assert_eq!(listing.half_made, ["00000000000000000003.tmp", "00000000000000000007.tmp"]);
    // Folders that a tool has set aside or not finished are none of a system's logs.
    for name in ["core", "shard-0", "core.made", "core.replaced-1", "empty"] {
        let folder = directory.path().join(name);
        fs::create_dir(&folder).unwrap();
        if name != "empty" {
            fs::write(folder.join("00000000000000000001.log"), b"").unwrap();
        }
    }
    let below = LogFiles::find_below(directory.path()).unwrap();
    let names: Vec<&str> = below.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["core", "shard-0"]);
    let places = Places::new(directory.path());
    places.begin("zeta").unwrap();
    places.begin("alpha").unwrap();
    let pending: Vec<_> = places.pending().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(pending, ["alpha", "core", "zeta"]);
}

#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn a_segment_whose_space_is_not_reserved_has_its_length_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = FileStorage::open_sparse(directory.path(), Box::new(|| {})).unwrap();
    held.start_prepare(1, &[0; HEADER_BYTES], HEADER_BYTES + 640);
    let Some(Completion::Prepared(Ok(segment))) = held.wait_completion() else { panic!("none") };
    let path = directory.path().join("00000000000000000001.log");
    assert_eq!((segment.len() as u64, 4096 + 640), (fs::metadata(path).unwrap().len(), 4096 + 640));
}

/// Bytes of a file's mappings that are in this process's page table.
fn resident(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_its = false;
    let mut bytes = 0;
    for line in table.lines() {
        if line.contains(" kB") && is_its {
            let kib = line.strip_prefix("Rss:").and_then(|it| it.split_whitespace().next());
            bytes += kib.map_or(0, |kib| kib.parse::<usize>().unwrap() * 1024);
        } else if !line.contains(" kB") && !line.starts_with("VmFlags") {
            is_its = line.ends_with(path.to_str().unwrap());
        }
    }
    bytes
}

/// Only a speed-up: a store into such a page takes no fault, and a sync interrupts nobody for a released one.
#[test]
#[cfg_attr(miri, ignore = "mappings of files and their locks")]
fn pages_are_present_before_they_are_stored_to_and_released_before_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000000000000000001.log");
    let mut held = storage(directory.path()).unwrap();
    let bytes = HEADER_BYTES + 64 * 1024;
    held.start_prepare(1, &[0; HEADER_BYTES], bytes);
    let Some(Completion::Prepared(Ok(mut segment))) = held.wait_completion() else {
        panic!("none")
    };
    let file = fs::File::open(&path).unwrap();
    let whole = memmap2::MmapOptions::new().len(bytes).map_raw_read_only(&file).unwrap();
    if whole.advise_range(memmap2::Advice::PopulateRead, 0, bytes).is_err() {
        // An older kernel cannot do that.
        return;
    }
    drop(whole);
    assert!(resident(&path) > 0);
    let sync = |held: &mut FileStorage, segment: &FileSegment| {
        held.start_sync(segment);
        assert!(matches!(held.wait_completion(), Some(Completion::Synced(Ok(())))));
    };
    held.start_touch(&segment, 0, bytes);
    assert!(matches!(held.wait_completion(), Some(Completion::Touched)));
    sync(&mut held, &segment);
    assert_eq!(resident(&path), 0, "what was touched is released");
    held.start_touch(&segment, HEADER_BYTES, bytes);
    assert!(matches!(held.wait_completion(), Some(Completion::Touched)));
    assert!(resident(&path) > 0);
    segment.write(bytes - 64, &[1; 64]);
    sync(&mut held, &segment);
    assert_eq!(segment.read(bytes - 64, 64), [1; 64]);
}
