//! A shell whose commands print on a terminal of a given size: what somebody sees who types them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::process::Lines;
use super::terminal::terminal;

/// What the shell prints behind each command, with its exit code.
const MARK: &str = "<exit code of the command ";

pub(crate) struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Lines,
    /// How many lines have been looked at.
    seen: usize,
}

impl Shell {
    /// A shell at the root of the repository that finds programs in this directory first.
    pub(crate) fn start(programs: &Path, (columns, rows): (u16, u16)) -> Shell {
        let (own, theirs) = terminal(columns, rows);
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("sh")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        Shell { child, stdin, lines: Lines::collect(std::fs::File::from(own)), seen: 0 }
    }

    /// Runs a command, and gives what it printed and its exit code.
    pub(crate) fn run(&mut self, command: &str) -> (Vec<String>, i32) {
        writeln!(self.stdin, "{command}\nprintf '\\n{MARK}%d>\\n' $?").unwrap();
        let seen = self.seen;
        let (printed, code) = self.lines.wait(command, |lines| {
            let at = lines.iter().skip(seen).position(|line| line.starts_with(MARK))? + seen;
            let code = lines[at][MARK.len()..].trim_end_matches('>').parse().unwrap();
            Some((lines[seen..at].to_vec(), code))
        });
        self.seen += printed.len() + 1;
        // The line end ahead of the mark is not the command's.
        let len = printed.len() - usize::from(printed.last().is_some_and(String::is_empty));
        (printed[..len].iter().map(|line| on_screen(line)).collect(), code)
    }
}

/// What is left on the screen of a line that a progress bar has written over.
fn on_screen(line: &str) -> String {
    line.rsplit("\u{1b}[2K").next().unwrap_or(line).to_owned()
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // All that it started and that still runs.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
    }
}
