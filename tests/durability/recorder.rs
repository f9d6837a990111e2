//! What a node does to its files and says to its peers, in order: its system calls, as a list of events.
//!
//! Stores into mapped pages are no calls. So whenever a file is synced, its bytes are read just before the
//! call is made: what stands there then is what the sync covers, at least.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tracer::{Call, Fate, Memory, Watch, word};

/// A file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// One thing that was done. Those about files are here once they are done and only if they went well.
#[derive(Debug)]
pub(crate) enum Event {
    /// A directory was made.
    MadeDirectory { path: PathBuf },
    /// A file has another name.
    Renamed { from: PathBuf, to: PathBuf, file: FileId },
    /// A file is gone.
    Removed { path: PathBuf },
    /// A file was synced. `bytes` had been stored before that began.
    SyncedFile { file: FileId, bytes: Vec<u8> },
    /// A directory was synced; that began when there were so many events.
    SyncedDirectory { path: PathBuf, began: usize },
    /// Bytes were handed to the kernel for a peer. The event stands where that began: from there on the
    /// peer may have them.
    Sent { socket: PathBuf, bytes: Vec<u8> },
    /// The process was started.
    Started,
}

/// A call that syncs, as the one who chooses its fate sees it.
#[derive(Debug)]
pub(crate) struct SyncCall<'a> {
    pub(crate) path: &'a Path,
    pub(crate) is_directory: bool,
}

type Choice = Box<dyn FnMut(&SyncCall<'_>) -> Fate + Send>;

/// The events of a node, over all its lives.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Event>>>);

impl Record {
    pub(crate) fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a life, in which `choose` says what becomes of the syncs.
    pub(crate) fn watch(
        &self,
        choose: impl FnMut(&SyncCall<'_>) -> Fate + Send + 'static,
    ) -> Recorder {
        self.events().push(Event::Started);
        Recorder { record: self.clone(), choose: Box::new(choose), pending: Vec::new() }
    }
}

/// What is known of a call before it is made and needed behind it.
enum Pending {
    Sync { path: PathBuf, began: usize, target: Target },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    MakeDirectory { path: PathBuf },
    Send { at: usize },
}

enum Target {
    File(FileId, Vec<u8>),
    Directory,
}

pub(crate) struct Recorder {
    record: Record,
    choose: Choice,
    /// By thread.
    pending: Vec<(i32, Pending)>,
}

impl Recorder {
    fn pend(&mut self, thread: i32, pending: Pending) {
        self.pending.push((thread, pending));
    }

    fn before_sync(&mut self, memory: &Memory, thread: i32, descriptor: i32) -> Fate {
        let link = memory.descriptor(descriptor);
        let Ok(path) = fs::read_link(&link) else { return Fate::Made };
        let Ok(metadata) = fs::metadata(&link) else { return Fate::Made };
        let is_directory = metadata.is_dir();
        let target = match is_directory {
            true => Target::Directory,
            // All of it: a segment of a test is small.
            false => Target::File(id(&metadata), fs::read(&link).unwrap()),
        };
        let began = self.record.events().len();
        let fate = (self.choose)(&SyncCall { path: &path, is_directory });
        if fate == Fate::Made {
            self.pend(thread, Pending::Sync { path, began, target });
        }
        fate
    }

    fn before_send(&mut self, memory: &Memory, thread: i32, descriptor: i32, bytes: Vec<u8>) {
        let Ok(socket) = fs::read_link(memory.descriptor(descriptor)) else { return };
        if socket.to_string_lossy().starts_with("socket:") {
            let mut events = self.record.events();
            let at = events.len();
            events.push(Event::Sent { socket, bytes });
            drop(events);
            self.pend(thread, Pending::Send { at });
        }
    }

    /// A path of a call, which may be relative to a directory.
    fn path(memory: &Memory, directory: Option<i32>, address: u64) -> PathBuf {
        let base = match directory {
            Some(descriptor) if descriptor != libc::AT_FDCWD => {
                fs::read_link(memory.descriptor(descriptor))
            }
            _ => fs::read_link(format!("/proc/{}/cwd", memory.pid)),
        };
        base.unwrap_or_default().join(memory.text(address))
    }
}

impl Watch for Recorder {
    fn entered(&mut self, memory: &Memory, thread: i32, call: &Call) -> Fate {
        let args = call.args;
        let path = |at: usize| Recorder::path(memory, None, args[at]);
        let path_at = |at: usize| Recorder::path(memory, Some(call.descriptor(at)), args[at + 1]);
        match call.number {
            libc::SYS_fsync | libc::SYS_fdatasync => {
                return self.before_sync(memory, thread, call.descriptor(0));
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => {
                self.pend(thread, Pending::Rename { from: path(0), to: path(1) });
            }
            libc::SYS_renameat | libc::SYS_renameat2 => {
                self.pend(thread, Pending::Rename { from: path_at(0), to: path_at(2) });
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => self.pend(thread, Pending::Remove { path: path(0) }),
            libc::SYS_unlinkat => self.pend(thread, Pending::Remove { path: path_at(0) }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => self.pend(thread, Pending::MakeDirectory { path: path(0) }),
            libc::SYS_mkdirat => self.pend(thread, Pending::MakeDirectory { path: path_at(0) }),
            libc::SYS_write | libc::SYS_sendto => {
                let bytes = memory.read(args[1], usize::try_from(args[2]).unwrap());
                self.before_send(memory, thread, call.descriptor(0), bytes);
            }
            libc::SYS_writev => {
                let bytes = memory.gather(args[1], args[2]);
                self.before_send(memory, thread, call.descriptor(0), bytes);
            }
            libc::SYS_sendmsg => {
                // msg_iov and msg_iovlen stand behind the name and its length.
                let header = memory.read(args[1], 32);
                let bytes = memory.gather(word(&header[16..24]), word(&header[24..32]));
                self.before_send(memory, thread, call.descriptor(0), bytes);
            }
            // Were one of these used, this would have to understand it.
            libc::SYS_sendmmsg
            | libc::SYS_msync
            | libc::SYS_sync_file_range
            | libc::SYS_splice
            | libc::SYS_sendfile
            | libc::SYS_io_uring_setup
            | libc::SYS_syncfs => {
                panic!("a call that the recorder does not know: {}", call.number);
            }
            _ => {}
        }
        Fate::Made
    }

    fn ended(&mut self, _: &Memory, thread: i32, _: &Call, _: Fate, result: i64) {
        let Some(index) = self.pending.iter().position(|it| it.0 == thread) else { return };
        let (_, pending) = self.pending.swap_remove(index);
        let mut events = self.record.events();
        if let Pending::Send { at } = pending {
            let Event::Sent { bytes, .. } = &mut events[at] else { unreachable!("it is a Sent") };
            bytes.truncate(usize::try_from(result).unwrap_or(0));
            return;
        }
        if result != 0 {
            return;
        }
        events.push(match pending {
            Pending::Sync { path, began, target: Target::Directory } => {
                Event::SyncedDirectory { path, began }
            }
            Pending::Sync { target: Target::File(file, bytes), .. } => {
                Event::SyncedFile { file, bytes }
            }
            Pending::Rename { from, to } => {
                // Its thread stands still, and it is the only one that renames.
                let file = id(&fs::metadata(&to).unwrap());
                Event::Renamed { from, to, file }
            }
            Pending::Remove { path } => Event::Removed { path },
            Pending::MakeDirectory { path } => Event::MadeDirectory { path },
            Pending::Send { .. } => return,
        });
    }
}

fn id(metadata: &fs::Metadata) -> FileId {
    FileId { device: metadata.dev(), inode: metadata.ino() }
}
