//! What stands on a disk: what an open of it would find. The disk is not changed.

use pregao::log::memory::{MemoryDisk, PageFate};
use pregao::log::{Log, Read, Storage};
use pregao::time::Now;
use pregao::wire::Frame;

use crate::world::Host;

/// What stands on a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// All data frames in order, void ones too.
    pub(crate) raw: Vec<Frame>,
    /// Those that are live.
    pub(crate) live: Vec<Frame>,
    pub(crate) damaged: u64,
    /// First and last seq of what upstream lost.
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) first_seq: u64,
    /// What it wants next: everything of its own below this has been here.
    pub(crate) next_seq: u64,
    /// The epoch it stands in, and where that began.
    pub(crate) epoch: (u32, u64),
}

impl Host {
    /// What an open of this disk would find. The disk is not changed.
    pub(crate) fn read_disk(&self, disk: &MemoryDisk, now: Now) -> Option<Stored> {
        self.read_copy(disk.kill(), now)
    }

    /// The same once all jobs under way are done: what the running node takes for removed already.
    pub(crate) fn read_settled(&self, now: Now) -> Option<Stored> {
        let disk = self.disk.as_ref()?;
        self.read_copy(disk.crash(disk.jobs(), |_, _| PageFate::New), now)
    }

    fn read_copy(&self, copy: MemoryDisk, now: Now) -> Option<Stored> {
        copy.set_bytes_max(usize::MAX);
        copy.fail_sync_after(u32::MAX);
        Some(stored(&self.spec.look_into_log(&copy, now).ok()?))
    }
}

/// Reads a whole log.
pub(crate) fn stored<S: Storage>(log: &Log<S>) -> Stored {
    let next_seq = log.next_seq().max(log.upstream().1);
    let mut found = Stored { next_seq, ..Stored::default() };
    let mut position = log.first_position();
    loop {
        match log.read(position, usize::MAX) {
            Read::End => break,
            Read::Damaged(range) => {
                found.damaged += range.end - range.start;
                position = range.end;
            }
            Read::Frames(frames) => {
                for (frame, at) in frames.iter().zip(position..) {
                    if let Some(hole) = pregao::log::hole_in(frame) {
                        found.holes.push((hole.from_seq.get(), hole.to_seq.get()));
                    }
                    if pregao::log::is_event(frame) {
                        found.raw.push(*frame);
                        if frame.seq.get() < log.void_from(at) {
                            found.live.push(*frame);
                        }
                    }
                }
                position += frames.len() as u64;
            }
        }
    }
    found.epoch = (log.epoch(), log.epoch_start());
    found.first_seq = found.live.first().map_or(1, |frame| frame.seq.get());
    found
}
