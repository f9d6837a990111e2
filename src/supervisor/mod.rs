//! `pregao all`: eight children of this executable, kept alive and stopped together.
//!
//! The decisions are in [`policy`], in virtual time; this file has the processes, pipes and threads.
//! Nothing here sleeps or polls: one thread waits for each child, one reads each of its pipes, and
//! the supervisor's own thread waits for their messages with the policy's deadline.
//!
//! It is not a general process manager: children are started together, restarted alone, stopped
//! together, and know nothing of an order among themselves.

pub mod lines;
pub mod lock;
pub mod parent;
pub mod policy;
pub mod ports;
pub mod ready;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::lines::{Printer, Stream, read_line};
use self::policy::{Action, Decision, Policy, PolicyOutcome, StopSignal};
use crate::time::Clock;

/// How long an ended child's last line may take to arrive. They are in the pipe already, unless a
/// process that the child left behind holds the pipe open.
const LAST_LINE_WAIT: Duration = Duration::from_secs(1);

/// The exit code that a child which cannot even be started counts as having ended with.
const CANNOT_START: i32 = 5;

/// A child to keep alive. Plain data, so that a test can put any program here.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// Shown before its lines.
    pub name: Arc<str>,
    /// What to run.
    pub program: PathBuf,
    /// With these arguments.
    pub arguments: Vec<OsString>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked, and all children are gone.
    Stopped,
    /// A child can never start.
    Failed {
        /// Which.
        name: Arc<str>,
        /// Its exit code: 2 or 5.
        code: i32,
        /// Its last line on standard error.
        line: String,
    },
    /// As asked, but these children outlived SIGKILL.
    Abandoned {
        /// Their names.
        names: Vec<Arc<str>>,
    },
}

/// Turns SIGINT, SIGTERM and SIGHUP into messages, from now on.
///
/// # Errors
/// When the handlers cannot be set.
pub fn stop_signals() -> io::Result<Receiver<StopSignal>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    // Two are all that have a meaning; while they wait, more say nothing new.
    let (sender, receiver) = channel::bounded(2);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let stop = if signal == SIGINT { StopSignal::Interrupt } else { StopSignal::Terminate };
            let _ = sender.try_send(stop);
        }
    })?;
    Ok(receiver)
}

/// Runs the children until a stop signal, or until one of them says that it can never start.
///
/// The calling thread starts the children and must be the main thread or one that lives as long:
/// the kernel's parent-death signal (see [`parent::die_with_parent`]) fires when the *thread* that
/// started a child ends, not only when the process does.
pub fn supervise(specs: &[ChildSpec], stops: &Receiver<StopSignal>, printer: &Printer) -> Outcome {
    let clock = Clock::start();
    let (ended, endings) = channel::bounded(specs.len().max(1));
    let mut policy = Policy::new(clock.now().mono, specs.len());
    let mut supervisor =
        Supervisor { specs, printer, ended, running: specs.iter().map(|_| None).collect() };
    let mut last_line = String::new();
    loop {
        while let Some(action) = policy.poll_action() {
            if let Some(ending) = supervisor.act(action) {
                last_line = supervisor.handle_ending(&mut policy, &clock, ending, last_line);
            }
        }
        match policy.outcome() {
            None => {}
            Some(PolicyOutcome::Stopped) => return Outcome::Stopped,
            Some(PolicyOutcome::Failed { child, code }) => {
                let name = Arc::clone(&specs[child].name);
                return Outcome::Failed { name, code, line: last_line };
            }
            Some(PolicyOutcome::Abandoned) => {
                let alive = specs.iter().zip(&supervisor.running).filter(|(_, it)| it.is_some());
                let names = alive.map(|(spec, _)| Arc::clone(&spec.name)).collect();
                return Outcome::Abandoned { names };
            }
        }
        let deadline = match policy.poll_timeout() {
            Some(due) => channel::after(due.since(clock.now().mono)),
            None => channel::never(),
        };
        crossbeam::select! {
            recv(stops) -> stop => {
                // The signal thread never ends while handlers stand; should it, stop cleanly.
                let stop = stop.unwrap_or(StopSignal::Interrupt);
                if !policy.is_stopping() {
                    printer.own_line("stopping".to_owned());
                }
                policy.handle_stop(clock.now().mono, stop);
            }
            recv(endings) -> ending => if let Ok(ending) = ending {
                last_line = supervisor.handle_ending(&mut policy, &clock, ending, last_line);
            },
            recv(deadline) -> _ => policy.handle_timeout(clock.now().mono),
        }
    }
}

/// A child is gone.
struct Ending {
    child: usize,
    code: Option<i32>,
    /// In words, for the log.
    how: String,
    /// Its last line on standard error.
    line: String,
}

impl Ending {
    /// The end of a child that never lived.
    fn not_started(child: usize, program: &std::path::Path, error: &io::Error) -> Ending {
        let line = format!("cannot run {}: {error}", program.display());
        Ending { child, code: Some(CANNOT_START), how: line.clone(), line }
    }
}

struct Supervisor<'a> {
    specs: &'a [ChildSpec],
    printer: &'a Printer,
    ended: Sender<Ending>,
    /// A descriptor for each living child: a process id could already be somebody else's.
    running: Vec<Option<OwnedFd>>,
}

impl Supervisor<'_> {
    fn act(&mut self, action: Action) -> Option<Ending> {
        match action {
            Action::Start(child) => match self.start(child) {
                Ok(()) => None,
                Err(error) => Some(Ending::not_started(child, &self.specs[child].program, &error)),
            },
            Action::Terminate(child) => {
                self.signal(child, Signal::TERM);
                None
            }
            Action::Kill(child) => {
                self.signal(child, Signal::KILL);
                None
            }
        }
    }

    fn signal(&self, child: usize, signal: Signal) {
        let Some(process) = &self.running[child] else { return };
        match pidfd_send_signal(process, signal) {
            // Already dead: its ending is under way.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                let name = &self.specs[child].name;
                self.printer.own_line(format!("cannot signal {name}: {errno}"));
            }
        }
    }

    fn start(&mut self, index: usize) -> io::Result<()> {
        let spec = &self.specs[index];
        let mut child = Command::new(&spec.program)
            .args(&spec.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which then
            // stops the children. Else they would die first and look like crashes.
            .process_group(0)
            .spawn()?;
        match self.watch(index, &mut child) {
            Ok((process, waiting)) => {
                self.running[index] = Some(process);
                self.printer.own_line(format!("{} started, pid {}", spec.name, child.id()));
                // Cannot fail: the thread waits for it.
                let _ = waiting.send(child);
                Ok(())
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Starts the three threads of a child. The child itself is handed to the waiting one last,
    /// so that a failure here leaves it with the caller.
    fn watch(&self, index: usize, child: &mut Child) -> io::Result<(OwnedFd, Sender<Child>)> {
        let name = &self.specs[index].name;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
        // Not yet waited for, so the id is still this child's, even when it is dead.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let forward = |pipe, stream| {
            let (line, last_line) = channel::bounded(1);
            let (printer, name) = (self.printer.clone(), Arc::clone(name));
            thread::Builder::new().name(format!("{name}-pipe")).spawn(move || {
                let _ = line.send(forward_lines(pipe, |text| {
                    printer.child_line(stream, index, &name, text);
                }));
            })?;
            io::Result::Ok(last_line)
        };
        if let Some(pipe) = child.stdout.take() {
            forward(OwnedFd::from(pipe), Stream::Out)?;
        }
        let last_line = match child.stderr.take() {
            Some(pipe) => forward(OwnedFd::from(pipe), Stream::Err)?,
            None => channel::never(),
        };
        let (hand_over, child) = channel::bounded::<Child>(1);
        let ended = self.ended.clone();
        thread::Builder::new().name(format!("{name}-wait")).spawn(move || {
            let Ok(mut child) = child.recv() else { return };
            let status = child.wait();
            let line = last_line.recv_timeout(LAST_LINE_WAIT).unwrap_or_default();
            let _ = ended.send(Ending {
                child: index,
                code: status.as_ref().ok().and_then(ExitStatus::code),
                how: status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                line,
            });
        })?;
        Ok((process, hand_over))
    }

    /// Reports an exit to the policy, and logs what it decided. Gives back the line to end with.
    fn handle_ending(
        &mut self,
        policy: &mut Policy,
        clock: &Clock,
        ending: Ending,
        last_line: String,
    ) -> String {
        self.running[ending.child] = None;
        let name = &self.specs[ending.child].name;
        match policy.handle_exit(clock.now().mono, ending.child, ending.code) {
            Decision::Restart(wait) => {
                let (how, wait) = (ending.how, wait.as_millis());
                self.printer.own_line(format!("{name} ended ({how}); starts again in {wait} ms"));
                last_line
            }
            Decision::GiveUp => {
                self.printer.own_line(format!("{name} cannot start ({}); stopping", ending.how));
                ending.line
            }
            Decision::Expected => {
                self.printer.own_line(format!("{name} stopped ({})", ending.how));
                last_line
            }
        }
    }
}

/// Reads a pipe to its end; gives back the last line that was not empty.
fn forward_lines(pipe: OwnedFd, mut forward: impl FnMut(String)) -> String {
    let mut reader = BufReader::new(File::from(pipe));
    let mut last = String::new();
    // A pipe that fails to read is as good as closed: the child's exit reports the rest.
    while let Ok(Some(line)) = read_line(&mut reader) {
        if !line.is_empty() {
            last.clone_from(&line);
        }
        forward(line);
    }
    last
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Sends what is printed to the test, one line at a time.
    struct TestOutput(Sender<String>);

    impl Write for TestOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).trim_end().to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shell(name: &str, script: &str) -> ChildSpec {
        ChildSpec {
            name: name.into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        }
    }

    /// Runs children; `script` reads printed lines and says when to send which stop signal.
    fn run(specs: &[ChildSpec], on_line: impl Fn(&str) -> Option<StopSignal> + Send) -> Outcome {
        let (output, lines) = channel::unbounded();
        let (stop, stops) = channel::unbounded();
        let (printer, _end) = Printer::start(
            TestOutput(output.clone()),
            TestOutput(output),
            false,
            ready::Readiness::new(1, vec![]),
        )
        .unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for line in lines {
                    if let Some(signal) = on_line(&line) {
                        stop.send(signal).unwrap();
                    }
                }
                // Keeps `stops` open until the printer is gone.
                drop(stop);
            });
            let outcome = supervise(specs, &stops, &printer);
            drop(printer);
            outcome
        })
    }

    #[test]
    fn a_child_that_can_never_start_ends_all_with_its_own_message() {
        let specs =
            [shell("long", "exec sleep 1000"), shell("bad", "echo 'port 1 is taken' >&2; exit 5")];
        let outcome = run(&specs, |_| None);
        let line = "port 1 is taken".to_owned();
        assert_eq!(outcome, Outcome::Failed { name: "bad".into(), code: 5, line });
    }

    #[test]
    fn a_program_that_is_not_there_ends_all() {
        let mut spec = shell("gone", "");
        spec.program = "/nonexistent/pregao".into();
        let outcome = run(&[shell("long", "exec sleep 1000"), spec], |_| None);
        assert!(
            matches!(&outcome, Outcome::Failed { code: 5, line, .. } if line.contains("cannot run")),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_crashing_child_is_started_again_and_the_stop_is_clean() {
        let specs = [shell("crash", "echo run; exit 1"), shell("long", "exec sleep 1000")];
        let runs = std::sync::atomic::AtomicU32::new(0);
        let outcome = run(&specs, |line| {
            let is_run = line.ends_with("crash      | run");
            let runs = runs.fetch_add(u32::from(is_run), std::sync::atomic::Ordering::Relaxed);
            (is_run && runs == 1).then_some(StopSignal::Terminate)
        });
        assert_eq!(outcome, Outcome::Stopped);
    }

    #[test]
    fn a_child_deaf_to_sigterm_is_killed_by_the_second_interrupt() {
        let specs = [shell("deaf", "trap '' TERM; echo ready; exec sleep 1000")];
        let clock = Clock::start();
        let outcome = run(&specs, |line| match line {
            line if line.ends_with("deaf       | ready") => Some(StopSignal::Interrupt),
            line if line.ends_with("pregao     | stopping") => Some(StopSignal::Interrupt),
            _ => None,
        });
        assert_eq!(outcome, Outcome::Stopped);
        assert!(clock.now().mono.0 < 5_000_000_000, "it did not wait for the deadline");
    }
}
