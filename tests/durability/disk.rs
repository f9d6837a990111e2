//! What a loss of power would leave of a node's log at any moment, as the recorded calls have it, and
//! whether that is what the node had said until then.
//!
//! A frame survives when it stood in a file before a sync of that file began that has ended well, and every
//! name on the way to the file is durable: its directory was synced after the name was given. Nothing else
//! survives, whatever a kind kernel may have written besides.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pregao::log::{HEADER_BYTES, is_event};
use pregao::wire::{Ack, Ended, Frame, Session, as_frames};

use super::recorder::{Event, FileId};

/// A name that the node gave.
struct Name {
    /// `None` for a directory.
    file: Option<FileId>,
    given_at: usize,
    is_durable: bool,
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, Name>,
    synced: BTreeMap<FileId, Vec<Frame>>,
}

impl Disk {
    fn take(&mut self, at: usize, event: &Event) {
        let name = |file| Name { file, given_at: at, is_durable: false };
        match event {
            Event::MadeDirectory { path } => {
                self.names.insert(path.clone(), name(None));
            }
            Event::Renamed { from, to, file } => {
                self.names.remove(from);
                self.names.insert(to.clone(), name(Some(*file)));
            }
            Event::Removed { path } => {
                self.names.remove(path);
            }
            Event::SyncedDirectory { path, began } => {
                for (named, name) in &mut self.names {
                    name.is_durable |= named.parent() == Some(path) && name.given_at < *began;
                }
            }
            Event::SyncedFile { file, bytes, .. } => {
                let (frames, _) = as_frames(bytes.get(HEADER_BYTES..).unwrap_or_default());
                let good = frames.iter().filter(|it| it.check().is_ok() && is_event(it));
                self.synced.insert(*file, good.copied().collect());
            }
            Event::Sent { .. } | Event::Started => {}
        }
    }

    /// Whether a loss of power leaves this name, so that its file is found again.
    fn is_found(&self, path: &Path) -> bool {
        // What the node did not name was there before it.
        path.ancestors().all(|it| self.names.get(it).is_none_or(|name| name.is_durable))
    }

    /// The frames that survive, by `seq`.
    fn survivors(&self) -> BTreeMap<u64, &Frame> {
        let found = self.names.iter().filter(|(path, _)| self.is_found(path));
        let files = found.filter_map(|(_, name)| self.synced.get(&name.file?));
        files.flatten().map(|frame| (frame.seq.get(), frame)).collect()
    }
}

/// What a node said to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ack,
    Session,
    End,
}

/// Something that was said without being so.
#[derive(Debug)]
pub(crate) struct Broken {
    at: usize,
    said: Said,
    durable_seq: u64,
    missing: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "event {}: {:?} says that all before seq {} is durable, and a loss of power would take seq {}",
            self.at, self.said, self.durable_seq, self.missing
        )
    }
}

/// How much was looked at.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// How often each of ACK, SESSION and END said that something is durable, and the highest number.
    pub(crate) acks: (u64, u64),
    pub(crate) sessions: (u64, u64),
    pub(crate) ends: (u64, u64),
    pub(crate) file_syncs: u64,
    pub(crate) directory_syncs: u64,
    pub(crate) renames: u64,
}

/// Holds everything that the node said against what would have survived then. `is_held` says of a number
/// whether what survives of it, if anything does, is what it should be.
///
/// # Errors
/// The first thing said that was not so.
pub(crate) fn check(
    events: &[Event],
    is_held: impl Fn(u64, Option<&Frame>) -> bool,
) -> Result<Looked, Broken> {
    let mut disk = Disk::default();
    let mut looked = Looked::default();
    let mut streams: BTreeMap<&Path, Vec<u8>> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        disk.take(at, event);
        match event {
            Event::SyncedFile { .. } => looked.file_syncs += 1,
            Event::SyncedDirectory { .. } => looked.directory_syncs += 1,
            Event::Renamed { .. } => looked.renames += 1,
            Event::Started => streams.clear(),
            Event::Sent { socket, bytes } => {
                let stream = streams.entry(socket).or_default();
                stream.extend_from_slice(bytes);
                let stream = std::mem::take(stream);
                let (frames, rest) = as_frames(&stream);
                let said = frames.iter().filter_map(durable_seq_in);
                if let Some(missing) = find_missing(&disk, said, &mut looked, &is_held) {
                    return Err(Broken { at, ..missing });
                }
                streams.insert(socket, rest.to_vec());
            }
            _ => {}
        }
    }
    Ok(looked)
}

fn durable_seq_in(frame: &Frame) -> Option<(Said, u64)> {
    let said = if let Some(ack) = frame.view::<Ack>() {
        (Said::Ack, ack.durable_seq.get())
    } else if let Some(session) = frame.view::<Session>() {
        (Said::Session, session.durable_seq.get())
    } else {
        (Said::End, frame.view::<Ended>()?.durable_seq.get())
    };
    // What is before 1 is nothing.
    (said.1 > 1).then_some(said)
}

fn find_missing(
    disk: &Disk,
    said: impl Iterator<Item = (Said, u64)>,
    looked: &mut Looked,
    is_held: impl Fn(u64, Option<&Frame>) -> bool,
) -> Option<Broken> {
    let mut survivors = None;
    for (said, durable_seq) in said {
        let count = match said {
            Said::Ack => &mut looked.acks,
            Said::Session => &mut looked.sessions,
            Said::End => &mut looked.ends,
        };
        *count = (count.0 + 1, count.1.max(durable_seq));
        let survivors = survivors.get_or_insert_with(|| disk.survivors());
        let missing = (1..durable_seq).find(|seq| !is_held(*seq, survivors.get(seq).copied()));
        if let Some(missing) = missing {
            return Some(Broken { at: 0, said, durable_seq, missing });
        }
    }
    None
}
