//! A process under test: its lines as they come, its end, and the promise that it does not outlive
//! the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver};
use pregao::time::{Clock, Mono};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pregao");

/// What only a broken system reaches, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process that was told to end may take before it is killed.
const END_WAIT: Duration = Duration::from_secs(10);

/// How long a retry waits for something to happen before it looks again.
const RETRY: Duration = Duration::from_millis(50);

/// A point in time that a wait must not reach.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    clock: Clock,
    end: Mono,
}

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Deadline {
        let clock = Clock::start();
        Deadline { clock, end: clock.now().mono + wait }
    }

    pub(crate) fn left(&self) -> Duration {
        self.end.since(self.clock.now().mono)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

#[derive(Default)]
struct LinesState {
    lines: Vec<String>,
    /// Kinds of the lines of `subscribe` that speak of the feed and are no frames. Whether there are some depends
    /// on who was ready first.
    told: Vec<&'static str>,
    is_ended: bool,
}

/// A line of a supervisor's log without its time; any other line as it is.
fn untimed(line: String) -> String {
    const TIME: usize = "00:00:00 ".len();
    const NAME: usize = "aggregator".len();
    match line.get(TIME + NAME..) {
        Some(rest) if rest.starts_with(" |") && line.as_bytes()[2] == b':' => {
            line[TIME..].to_owned()
        }
        _ => line,
    }
}

/// The lines of a pipe, collected by a thread of their own so that the process never waits for us.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<LinesState>, Condvar)>);

impl Lines {
    pub(crate) fn collect(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let filled = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut words = ["stale", "ended", "current"].into_iter();
                let word = words.find(|it| line.starts_with(&format!("{{\"kind\":\"{it}\"")));
                match word {
                    Some(word) => filled.state().told.push(word),
                    None => filled.state().lines.push(untimed(line)),
                }
                filled.0.1.notify_all();
            }
            filled.state().is_ended = true;
            filled.0.1.notify_all();
        });
        lines
    }

    fn state(&self) -> MutexGuard<'_, LinesState> {
        // A test that panicked while it held the lock changed nothing.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// Waits until a subscriber was last told that the feed is this: `stale`, `ended` or `current`.
    pub(crate) fn wait_told(&self, word: &str, within: Duration) {
        let deadline = Deadline::after(within);
        let mut state = self.state();
        while state.told.last() != Some(&word) {
            assert!(!deadline.is_over(), "not {word} in {within:?}: {:?}", state.told);
            let waited = self.0.1.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.state().lines.len()
    }

    /// Waits until `found` finds something in all lines so far.
    pub(crate) fn wait<T>(&self, what: &str, mut found: impl FnMut(&[String]) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        let mut state = self.state();
        loop {
            if let Some(it) = found(&state.lines) {
                return it;
            }
            if state.is_ended || deadline.is_over() {
                let why = if state.is_ended { "the output ended" } else { "time is over" };
                panic!("{what}: {why} after these lines:\n{}", tail(&state.lines));
            }
            let waited = self.0.1.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until there are so many lines.
    pub(crate) fn wait_len(&self, count: usize) {
        self.wait(&format!("{count} lines"), |lines| (lines.len() >= count).then_some(()));
    }

    /// Waits a moment for the next line: what a retry does between two looks at something that
    /// tells nobody when it changes.
    pub(crate) fn pause(&self) {
        let state = self.state();
        let _ = self.0.1.wait_timeout(state, RETRY);
    }

    /// Waits for the end of the output; whether it came.
    fn wait_end(&self, deadline: &Deadline) -> bool {
        let mut state = self.state();
        while !state.is_ended && !deadline.is_over() {
            let waited = self.0.1.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_ended
    }
}

/// A running process. Dropping it ends it.
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Stands for this one process, whatever becomes of its number.
    handle: OwnedFd,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    exit: Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `pregao` with these arguments.
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Process {
        Process::of(Command::new(PROGRAM).args(arguments))
    }

    /// Starts any program, with its outputs read.
    pub(crate) fn of(command: &mut Command) -> Process {
        Process::spawn(command.stdin(Stdio::null())).0
    }

    /// Starts `pregao` with these arguments and an input that the test writes.
    pub(crate) fn with_input(arguments: &[impl AsRef<OsStr>]) -> (Process, ChildStdin) {
        let (process, input) =
            Process::spawn(Command::new(PROGRAM).args(arguments).stdin(Stdio::piped()));
        (process, input.unwrap())
    }

    fn spawn(command: &mut Command) -> (Process, Option<ChildStdin>) {
        let mut child = command
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Not yet waited for, so the number is still this child's.
        let handle = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let input = child.stdin.take();
        let (sender, exit) = channel::bounded(1);
        thread::spawn(move || {
            let _ = sender.send(child.wait().unwrap());
        });
        (Process::with(pid, handle, (stdout.unwrap(), stderr.unwrap()), exit), input)
    }

    /// A child that somebody else waits for, who says so when it ends. Its outputs are pipes.
    pub(crate) fn with_exit(
        mut child: Child,
        handle: OwnedFd,
        exit: Receiver<ExitStatus>,
    ) -> Process {
        let outputs = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Process::with(i32::try_from(child.id()).unwrap(), handle, outputs, exit)
    }

    fn with(
        pid: i32,
        handle: OwnedFd,
        (stdout, stderr): (ChildStdout, ChildStderr),
        exit: Receiver<ExitStatus>,
    ) -> Process {
        let (stdout, stderr) = (Lines::collect(stdout), Lines::collect(stderr));
        Process { pid, handle, stdout, stderr, exit, ended: None }
    }

    /// Sends a signal; a process that is gone does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Waits for a line of its log with this text.
    pub(crate) fn wait_log(&self, text: &str) {
        let found = |lines: &[String]| lines.iter().any(|it| it.contains(text)).then_some(());
        self.stderr.wait(text, found);
    }

    /// Waits until this one node takes connections.
    pub(crate) fn wait_listening(&self) {
        self.wait_log("listens on");
    }

    /// Lets it run for so long. It must not end by itself.
    pub(crate) fn run_for(&self, time: Duration) {
        let has_ended = self.stderr.wait_end(&Deadline::after(time));
        assert!(!has_ended, "it ended:\n{}", tail(&self.stderr.all()));
    }

    /// Ends it as nothing can prevent. It must have lived until now.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let (status, log) = (self.wait(), self.stderr.all());
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}:\n{}", tail(&log));
    }

    /// Whether it ends by itself in so long.
    pub(crate) fn ends_within(&mut self, wait: Duration) -> bool {
        self.wait_within(wait).is_some()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE).unwrap_or_else(|| {
            let (stdout, stderr) = (self.stdout.len(), self.stderr.all().join("\n"));
            panic!("no end in time; {stdout} lines on stdout; stderr:\n{stderr}")
        })
    }

    fn wait_within(&mut self, wait: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.exit.recv_timeout(wait).ok();
        }
        self.ended
    }

    /// Waits for its end and for the last line of both outputs.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait();
        let deadline = Deadline::after(PATIENCE);
        self.stdout.wait_end(&deadline);
        self.stderr.wait_end(&deadline);
        Finished { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Ends it now and returns the whole lines that it had printed until then.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.end_now();
        self.stdout.wait_end(&Deadline::after(PATIENCE));
        let mut lines = self.stdout.all();
        // It was ended between two writes, and a write may end within a line.
        lines.pop();
        lines
    }

    /// Asks it to end, and makes it. One that is stopped goes on, or it would not hear.
    pub(crate) fn end_now(&mut self) {
        for (signal, wait) in [(Signal::TERM, END_WAIT), (Signal::KILL, PATIENCE)] {
            if self.ended.is_none() {
                self.signal(signal);
                self.signal(Signal::CONT);
                self.wait_within(wait);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Finished {
    /// Its exit code.
    pub(crate) fn code(&self) -> i32 {
        let signal = self.status.signal();
        self.status.code().unwrap_or_else(|| panic!("ended by signal {signal:?}: {self:?}"))
    }

    /// The signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Fails unless this is its exit code.
    pub(crate) fn expect(self, code: i32) -> Finished {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }

    /// Its lines as JSON.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.iter().map(|line| json(line)).collect()
    }
}

/// The last lines, for a message about a failure.
pub(crate) fn tail(lines: &[String]) -> String {
    const LINES: usize = 80;
    const CHARS: usize = 300;
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    last.map(|line| line.chars().take(CHARS).chain(['\n']).collect::<String>()).collect()
}

/// A line of JSON.
pub(crate) fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
