//! A process whose system calls are seen one by one, and of which some can be left out: ptrace, from a
//! thread of this process. It knows calls and nothing of what they mean (`recorder.rs` does).
//!
//! # Decisions
//!
//! * ptrace and no preloaded library: the program makes some calls without the C library (rustix), and a
//!   library would not see them. Nothing has to be built or installed for it.
//! * A call that is left out is not made at all, and the program is told that it went well. So a mistake of
//!   the storage thread can be played without a change of the program.

#![allow(unsafe_code, reason = "ptrace has no safe interface")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::thread;

use crossbeam::channel::{self, Sender};
use libc::{c_int, c_long, c_uint, c_void};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::process::{PROGRAM, Process};

/// Whether this system lets a process look at another one's calls, and leave some out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Everything,
    /// On this kind of processor calls can be seen, and none left out.
    OnlyLooking,
    Nothing,
}

/// A call that is about to be made, or has just been.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: c_long,
    pub(crate) args: [u64; 6],
}

impl Call {
    /// An argument that is a descriptor.
    pub(crate) fn descriptor(&self, index: usize) -> i32 {
        // The kernel takes the low half, and nothing else.
        #[allow(clippy::cast_possible_truncation, reason = "as the kernel does")]
        let descriptor = self.args[index] as i32;
        descriptor
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is made.
    Made,
    /// It is not made, and reports success.
    LeftOut,
    /// It is not made, and its thread goes no further until the process is killed.
    Held,
}

/// Sees the calls of one process.
pub(crate) trait Watch {
    /// A thread is about to make this call and stands still meanwhile.
    fn entered(&mut self, memory: &Memory, thread: i32, call: &Call) -> Fate;

    /// It has made it, or has been told so, and stands still again.
    fn ended(&mut self, memory: &Memory, thread: i32, call: &Call, fate: Fate, result: i64);
}

/// The memory and the descriptors of the process.
pub(crate) struct Memory {
    pub(crate) pid: i32,
    bytes: File,
}

impl Memory {
    /// Where its descriptor can be looked at.
    pub(crate) fn descriptor(&self, number: i32) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{number}", self.pid))
    }

    /// As many of these bytes as there are.
    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match self.bytes.read_at(&mut bytes[read..], address + read as u64) {
                Ok(0) | Err(_) => break,
                Ok(more) => read += more,
            }
        }
        bytes.truncate(read);
        bytes
    }

    /// A text of C.
    pub(crate) fn text(&self, address: u64) -> String {
        let mut text = self.read(address, 4096);
        text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The bytes that a list of `iovec` shows.
    pub(crate) fn gather(&self, list: u64, count: u64) -> Vec<u8> {
        let list = self.read(list, usize::try_from(count).unwrap() * 16);
        let pieces = list.chunks_exact(16).map(|it| (word(&it[..8]), word(&it[8..])));
        pieces.flat_map(|(at, len)| self.read(at, usize::try_from(len).unwrap())).collect()
    }
}

/// A number or an address as it lies in the memory of the process.
#[allow(clippy::host_endian_bytes, reason = "it runs on this machine")]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

/// Starts a program that is watched from its first call to its last.
///
/// # Panics
/// When it cannot be started or traced; [`allowed`] says before whether it can.
pub(crate) fn start(command: Command, watch: impl Watch + Send + 'static) -> Process {
    let (started, start) = channel::bounded(1);
    let (ended, exit) = channel::bounded(1);
    // Only the thread that started it can trace it.
    thread::spawn(move || trace(command, watch, &started, &ended));
    let (child, handle) = start.recv().expect("a tracer says how it began").expect("it starts");
    Process::with_exit(child, handle, exit)
}

/// Tries it.
pub(crate) fn allowed() -> Allowed {
    struct OnlyLook;
    impl Watch for OnlyLook {
        fn entered(&mut self, _: &Memory, _: i32, _: &Call) -> Fate {
            Fate::Made
        }
        fn ended(&mut self, _: &Memory, _: i32, _: &Call, _: Fate, _: i64) {}
    }
    let (started, start) = channel::bounded(1);
    let (ended, exit) = channel::bounded(1);
    let mut command = Command::new(PROGRAM);
    command.arg("--version");
    thread::spawn(move || trace(command, OnlyLook, &started, &ended));
    match (start.recv(), exit.recv()) {
        (Ok(Ok(_)), Ok(status)) if status.success() => match cfg!(target_arch = "x86_64") {
            true => Allowed::Everything,
            false => Allowed::OnlyLooking,
        },
        (Ok(Err(error)), _) => {
            println!("no process may be traced here: {error}");
            Allowed::Nothing
        }
        other => panic!("a traced process does not end well: {other:?}"),
    }
}

fn trace(
    mut command: Command,
    mut watch: impl Watch,
    started: &Sender<io::Result<(Child, OwnedFd)>>,
    ended: &Sender<ExitStatus>,
) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(ask_to_be_traced) };
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = i32::try_from(child.id()).unwrap();
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    // It stands behind its exec, and nothing of it has run.
    if wait(pid).is_none() || request(libc::PTRACE_SETOPTIONS, pid, 0, options as usize).is_err() {
        return drop(started.send(Err(io::Error::last_os_error())));
    }
    let opened = File::open(format!("/proc/{pid}/mem"))
        .and_then(|bytes| Ok((bytes, pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?)));
    let (memory, handle) = match opened {
        Ok((bytes, handle)) => (Memory { pid, bytes }, handle),
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok((child, handle)));
    let mut threads = BTreeMap::from([(pid, None)]);
    resume(pid, 0);
    while let Some((thread, status)) = wait(-1) {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            threads.remove(&thread);
            if thread == pid {
                let _ = ended.send(ExitStatus::from_raw(status));
                return;
            }
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        let is_new = !threads.contains_key(&thread);
        let under_way = threads.entry(thread).or_insert(None);
        if signal == libc::SIGTRAP | 0x80 {
            if step(&mut watch, &memory, thread, under_way) != Fate::Held {
                resume(thread, 0);
            }
        } else if status >> 16 != 0 || (is_new && signal == libc::SIGSTOP) {
            // A thread was made, or is at its beginning.
            resume(thread, 0);
        } else {
            resume(thread, signal);
        }
    }
}

/// A thread stands before or behind a call.
fn step(
    watch: &mut impl Watch,
    memory: &Memory,
    thread: i32,
    under_way: &mut Option<(Call, Fate)>,
) -> Fate {
    let Some(info) = syscall_info(thread) else { return Fate::Made };
    if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
        // SAFETY: the kernel says by `op` that this is the part that it has filled in.
        let entry = unsafe { info.u.entry };
        let number = c_long::try_from(entry.nr).unwrap_or(-1);
        let call = Call { number, args: entry.args };
        let fate = watch.entered(memory, thread, &call);
        if fate == Fate::LeftOut {
            leave_out(thread);
        }
        *under_way = Some((call, fate));
        return fate;
    }
    if let Some((call, fate)) = under_way.take() {
        // SAFETY: as above; a stop that is not before a call is behind one.
        let exit = unsafe { info.u.exit };
        let mut result = exit.sval;
        if fate == Fate::LeftOut {
            report_success(thread);
            result = 0;
        }
        watch.ended(memory, thread, &call, fate, result);
    }
    Fate::Made
}

fn ask_to_be_traced() -> io::Result<()> {
    request(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
}

fn request(what: c_uint, thread: i32, at: usize, data: usize) -> io::Result<c_long> {
    let (at, data) =
        (ptr::without_provenance_mut::<c_void>(at), ptr::without_provenance_mut::<c_void>(data));
    // SAFETY: none of the requests made through this function has the kernel write to our memory.
    let done = unsafe { libc::ptrace(what, thread, at, data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// Lets a thread go on to its next call. One that was killed meanwhile does not.
fn resume(thread: i32, signal: c_int) {
    let _ = request(libc::PTRACE_SYSCALL, thread, 0, usize::try_from(signal).unwrap_or(0));
}

/// The next stop or end of a child of this thread; other threads' children are theirs.
fn wait(which: i32) -> Option<(i32, c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is ours and lives until the call has ended.
        let thread =
            unsafe { libc::waitpid(which, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread > 0 {
            return Some((thread, status));
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

fn syscall_info(thread: i32) -> Option<libc::ptrace_syscall_info> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = ptr::without_provenance_mut::<c_void>(size_of::<libc::ptrace_syscall_info>());
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let done =
        unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, info.as_mut_ptr()) };
    // SAFETY: all zeros are a value of this type, and the kernel has written whole fields over them.
    (done > 0).then(|| unsafe { info.assume_init() })
}

/// Has the kernel skip the call that this thread is about to make.
fn leave_out(thread: i32) {
    #[cfg(target_arch = "x86_64")]
    poke(thread, libc::ORIG_RAX, u64::MAX);
    #[cfg(not(target_arch = "x86_64"))]
    panic!("calls cannot be left out on this processor: thread {thread}");
}

/// Has the call that this thread has just not made report 0.
fn report_success(thread: i32) {
    #[cfg(target_arch = "x86_64")]
    poke(thread, libc::RAX, 0);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = thread;
}

#[cfg(target_arch = "x86_64")]
fn poke(thread: i32, register: c_int, value: u64) {
    let at = usize::try_from(register).unwrap() * 8;
    let value = usize::try_from(value).unwrap();
    request(libc::PTRACE_POKEUSER, thread, at, value).expect("the thread stands still");
}
