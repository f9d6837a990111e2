//! Writes the files of a log of an earlier format again, in a new directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use zerocopy::{FromBytes, IntoBytes};

use super::directory::{REMOVED, removal_records, segment_number, segment_path};
use super::partition_file;
use super::worker::{self, failure, sync_directory};
use crate::log::convert::{Converted, convert_header, convert_record};
use crate::log::{HEADER_BYTES, HeaderFault, StorageError};
use crate::wire::{FRAME_BYTES, Frame};

/// Bytes that are read and written at once.
const PIECE_BYTES: usize = 1 << 20;

const _: () = assert!(PIECE_BYTES.is_multiple_of(FRAME_BYTES));

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertedLog {
    /// Segments.
    pub segments: u64,
    /// Records that say the same as before.
    pub records: u64,
    /// Of these, quotes with a size above 268,435,455, whose digits behind the eighth are gone.
    pub shortened: u64,
    /// Of these, quotes with a size of which the earlier format could not say how large it was.
    pub saturated: u64,
    /// Records that did not check, and were left as they were.
    pub unreadable: u64,
    /// Segments whose header did not check, and that were left as they were.
    pub unreadable_segments: u64,
}

/// Why a log was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The system refused something.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file is no segment of this log, or one of a program that is not older.
    #[error("segment {segment}: {fault}")]
    Refused {
        /// Its number.
        segment: u64,
        /// What is wrong with it.
        fault: HeaderFault,
    },
}

/// Writes the log of this name from one directory into another, which is made. The next segment, and how many there are, is
/// told ahead of each.
///
/// # Errors
/// When something cannot be read or written, or a file is no segment of this log in an earlier format.
pub fn convert_log(
    from: &Path,
    to: &Path,
    name: [u8; 16],
    mut progress: impl FnMut(u64, usize),
) -> Result<ConvertedLog, ConvertError> {
    std::fs::create_dir(to).map_err(|error| failure("create", to, error))?;
    allow_the_same(from, to)?;
    let listed = |error| failure("list", from, error);
    let (mut numbers, mut removed) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(from).map_err(listed)? {
        let path = entry.map_err(listed)?.path();
        let Some(number) = segment_number(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => numbers.push(number),
            Some(REMOVED) => removed.push(number),
            _ => {}
        }
    }
    numbers.sort_unstable();
    let mut log = ConvertedLog::default();
    let mut states_removal = None;
    for &number in &numbers {
        progress(number, numbers.len());
        let stated = convert_segment(from, to, name, number, &mut log)?;
        states_removal = states_removal.or(stated);
    }
    // An earlier format does not say what was removed. Its first segment is the first that there was to keep.
    if states_removal == Some(false)
        && let Some(before) = numbers.first().and_then(|first| first.checked_sub(1))
        && before > 0
    {
        removed.push(before);
    }
    let handle = File::open(to).map_err(|error| failure("open", to, error))?;
    if let Some(&number) = removed.iter().max() {
        worker::record_removal(to, &handle, number)?;
    }
    if let Some(text) = partition_file::read(from)? {
        partition_file::write(to, &text)?;
    }
    sync_directory(to)?;
    Ok(log)
}

/// Whether the directory says that segments of a log were removed. It has one, or had one.
///
/// # Errors
/// When it cannot be read.
pub fn has_removed(directory: &Path) -> Result<bool, StorageError> {
    match removal_records(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        records => Ok(!records.map_err(|error| failure("list", directory, error))?.is_empty()),
    }
}

/// Whether its header says that the directory states removals; `None` for one that does not check.
fn convert_segment(
    from: &Path,
    to: &Path,
    name: [u8; 16],
    number: u64,
    log: &mut ConvertedLog,
) -> Result<Option<bool>, ConvertError> {
    let (source, target) = (segment_path(from, number), segment_path(to, number));
    let unread = |error| failure("read", &source, error);
    let unwritten = |error| failure("write to", &target, error);
    if !std::fs::metadata(&source).map_err(unread)?.is_file() {
        // A pipe of this name would be waited for without an end.
        return Err(failure("read", &source, io::ErrorKind::InvalidInput.into()).into());
    }
    let mut reader = File::open(&source).map_err(unread)?;
    let mut page = vec![0; HEADER_BYTES];
    let page_bytes = read_full(&mut reader, &mut page).map_err(unread)?;
    page.truncate(page_bytes);
    let mut writer = File::create_new(&target).map_err(unwritten)?;
    let states_removal = match convert_header(&page, name, number) {
        Ok(converted) => {
            writer.write_all(&converted.page).map_err(unwritten)?;
            log.segments += 1;
            Some(converted.states_removal)
        }
        // What an open leaves out, an open of the new log leaves out too.
        Err(fault) if fault.is_damage() => {
            writer.write_all(&page).map_err(unwritten)?;
            log.unreadable_segments += 1;
            None
        }
        Err(fault) => return Err(ConvertError::Refused { segment: number, fault }),
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = read_full(&mut reader, &mut piece).map_err(unread)?;
        let Some(bytes) = piece.get_mut(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if let Ok((frames, _)) = <[Frame]>::mut_from_prefix_with_elems(bytes, count / FRAME_BYTES) {
            frames.iter_mut().for_each(|frame| match convert_record(frame) {
                Converted::Empty => {}
                Converted::Same => log.records += 1,
                Converted::Shortened => {
                    log.records += 1;
                    log.shortened += 1;
                }
                Converted::Saturated => {
                    log.records += 1;
                    log.saturated += 1;
                }
                Converted::Unreadable => log.unreadable += 1,
            });
        }
        writer.write_all(bytes.as_bytes()).map_err(unwritten)?;
    }
    writer.sync_all().map_err(|error| failure("sync", &target, error))?;
    allow_the_same(&source, &target)?;
    Ok(states_removal)
}

/// Whoever may use one may use the other.
fn allow_the_same(from: &Path, to: &Path) -> Result<(), StorageError> {
    let permissions = std::fs::metadata(from).map(|from| from.permissions());
    permissions
        .and_then(|permissions| std::fs::set_permissions(to, permissions))
        .map_err(|error| failure("set the permissions of", to, error))
}

/// Fills the buffer as far as the file goes.
fn read_full(reader: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[cfg_attr(miri, ignore = "files")]
mod tests {
    use super::*;
    use crate::log::inspect::Outline;
    use crate::log::{Log, LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
    use crate::storage::{FileStorage, LogFiles};
    use crate::time::{Mono, Now};
    use crate::wire::{Frame, Quote, padded};
    use crate::wire::{Size, U32, U64};

    const NOW: Now = Now { mono: Mono(1), wall_ns: 9_000_000_000 };
    const FRAMES: u64 = 300;

    fn config() -> LogConfig {
        LogConfig {
            name: padded("shard-A"),
            segment_records: 64,
            policy: SyncPolicy::Batch,
            upstream: UpstreamRule::FollowSeq,
            sequence: Sequence::Increasing,
            retention: Retention::default(),
        }
    }

    fn quote(seq: u64) -> Frame {
        let (seq, bid_qty) = (U64::new(seq), Size::new(seq * 1_000_000));
        Frame::seal(Quote { seq, bid_qty, instrument: U32::new(1), ..Quote::default() })
    }

    /// A log as a program of this format version wrote it.
    fn written(directory: &Path, version: u32) {
        let storage = FileStorage::open(directory, Box::new(|| {})).unwrap();
        let (mut log, _) = Log::open(storage, config(), NOW).unwrap();
        for seq in 1..=FRAMES {
            while log.append(&quote(seq)).is_err() {
                log.commit(NOW);
                std::thread::yield_now();
                log.handle_completions(NOW);
            }
            log.commit(NOW);
        }
        log.close(NOW).unwrap();
        drop(log);
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| path.extension().is_some_and(|it| it == "log")) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..124]).to_le_bytes();
            bytes[124..128].copy_from_slice(&crc);
            for record in bytes[HEADER_BYTES..].chunks_exact_mut(FRAME_BYTES) {
                if record[0] == 0 {
                    continue;
                }
                record[1] = 1;
                if let 2 = record[0] {
                    let seq = u64::from_le_bytes(record[8..16].try_into().unwrap());
                    let size = u32::try_from(seq * 1_000_000).unwrap();
                    record[48..52].copy_from_slice(&size.to_le_bytes());
                }
                let crc = crc32c::crc32c(&record[..60]).to_le_bytes();
                record[60..].copy_from_slice(&crc);
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }

    fn frames(directory: &Path) -> Vec<Frame> {
        let storage = FileStorage::open(directory, Box::new(|| {})).unwrap();
        let (log, recovery) = Log::open(storage, config(), NOW).unwrap();
        assert!(recovery.clean && recovery.damaged.is_empty() && !log.is_front_missing());
        let mut position = log.positions().start;
        let mut frames = Vec::new();
        while let crate::log::Read::Frames(read) = log.read(position, 1_000) {
            position += read.len() as u64;
            frames.extend(read.iter().filter(|frame| crate::log::is_event(frame)));
        }
        frames
    }

    #[test]
    fn a_log_of_an_earlier_format_has_the_same_frames_in_its_new_directory() {
        for version in 1..crate::log::FORMAT_VERSION {
            let dir = tempfile::tempdir().unwrap();
            let (old, new) = (dir.path().join("old"), dir.path().join("new"));
            written(&old, version);
            let mut told = 0;
            let log = convert_log(&old, &new, padded("shard-A"), |_, _| told += 1).unwrap();
            assert_eq!((log.segments, log.shortened, log.unreadable), (told, 0, 0));
            assert!(told > 3 && log.records > FRAMES);
            assert_eq!(frames(&new), (1..=FRAMES).map(quote).collect::<Vec<_>>());
            assert!(
                convert_log(&new, &dir.path().join("again"), padded("shard-A"), |_, _| ()).is_err()
            );
        }
    }

    #[test]
    fn what_an_older_program_removed_is_known_to_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        for (version, is_front_missing) in [(3, false), (4, true)] {
            let (old, new) =
                (dir.path().join(format!("{version}")), dir.path().join(format!("{version}n")));
            written(&old, version);
            std::fs::remove_file(segment_path(&old, 1)).unwrap();
            convert_log(&old, &new, padded("shard-A"), |_, _| ()).unwrap();
            let mut files = LogFiles::find(&new).unwrap().unwrap();
            let outline = Outline::of(&mut files, Some(padded("shard-A"))).unwrap();
            assert_eq!(outline.missing_front().is_some(), is_front_missing, "format {version}");
        }
    }

    #[test]
    fn rot_stays_rot_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        written(&old, 4);
        let path = segment_path(&old, 2);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_BYTES + 20 * FRAME_BYTES + 5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let log = convert_log(&old, &new, padded("shard-A"), |_, _| ()).unwrap();
        assert_eq!(log.unreadable, 1);
        let place = HEADER_BYTES + 20 * FRAME_BYTES;
        let mut bytes = std::fs::read(segment_path(&new, 2)).unwrap();
        let record = |bytes: &[u8]| *<Frame>::ref_from_prefix(&bytes[place..]).unwrap().0;
        assert!(record(&bytes).check().is_err());
        bytes[place + 5] ^= 1;
        assert_eq!(record(&bytes).check(), Ok(()), "one wrong bit can be mended as before");
    }

    #[test]
    fn a_segment_with_a_damaged_header_is_left_out_of_the_new_log_too() {
        for bit in [(8, 0), (56, 3), (124, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let (old, new) = (dir.path().join("old"), dir.path().join("new"));
            written(&old, 4);
            let path = segment_path(&old, 2);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[bit.0] ^= 1 << bit.1;
            std::fs::write(&path, bytes).unwrap();
            let log = convert_log(&old, &new, padded("shard-A"), |_, _| ()).unwrap();
            assert_eq!(log.unreadable_segments, 1);
            let storage = FileStorage::open(&new, Box::new(|| {})).unwrap();
            let (_, recovery) = Log::open(storage, config(), NOW).unwrap();
            assert_eq!(recovery.skipped_segments, [2], "{bit:?}");
        }
    }
}
