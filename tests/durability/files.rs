//! A log's files, read without the log: what is there is there, whatever recovery would make of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pregao::log::{HEADER_BYTES, is_event, is_statement};
use pregao::wire::{Frame, Kind, as_frames};

/// One segment file.
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Everything good in it, in its order.
    pub(crate) records: Vec<Frame>,
    /// Records that are neither good nor zero.
    pub(crate) bad: usize,
}

impl Segment {
    pub(crate) fn statements(&self) -> usize {
        let head = self.records.iter().take_while(|frame| !is_event(frame));
        head.filter(|frame| is_statement(frame)).count()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Frame> {
        self.records.iter().filter(|frame| is_event(frame))
    }
}

/// The paths of all segments, by number.
pub(crate) fn segment_paths(log: &Path) -> BTreeMap<u64, PathBuf> {
    let entries = std::fs::read_dir(log).into_iter().flatten().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|it| it == "log"));
    segments
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), path))
        .collect()
}

/// All segments of a log, oldest first. Nobody may be writing.
pub(crate) fn segments(log: &Path) -> Vec<Segment> {
    let read = |(number, path): (u64, PathBuf)| {
        let bytes = std::fs::read(path).unwrap();
        let (frames, _) = as_frames(&bytes[HEADER_BYTES..]);
        let good = |frame: &&Frame| {
            frame.check().is_ok()
                && frame.kind().is_some_and(|kind| {
                    kind.is_data() || matches!(kind, Kind::LogMark | Kind::LogEpoch)
                })
        };
        let records: Vec<Frame> = frames.iter().filter(good).copied().collect();
        let zeros = frames.iter().filter(|frame| **frame == Frame::ZERO).count();
        Segment { number, bad: frames.len() - zeros - records.len(), records }
    };
    segment_paths(log).into_iter().map(read).collect()
}

/// Everything in a directory: names, and all bytes of each file.
pub(crate) fn image(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut image = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            image.extend(self::image(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            image.insert(path, bytes);
        }
    }
    image
}
