//! A terminal of a given size, and what a program has drawn on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam::channel::{self, Receiver};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::process::{Deadline, PATIENCE};
use super::system::signal;

/// Takes over the whole screen, and gives it back.
const ENTER: &str = "?1049h";
const LEAVE: &str = "?1049l";

/// A terminal: its own end, and the one that programs write to.
pub(crate) fn terminal(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&own).unwrap();
    unlockpt(&own).unwrap();
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&own, size).unwrap();
    let name = ptsname(&own, Vec::new()).unwrap();
    let theirs =
        open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    (own, theirs.unwrap())
}

/// What is on the screen, as far as the sequences that this program writes go.
#[derive(Default)]
struct Grid {
    lines: Vec<Vec<char>>,
    /// Line and column of the cursor.
    at: (usize, usize),
    /// A sequence that has begun.
    sequence: Option<String>,
    is_taken: bool,
    is_cursor_hidden: bool,
    has_color: bool,
    is_ended: bool,
    /// All of it, as it came.
    text: String,
}

impl Grid {
    fn take(&mut self, text: &str) {
        self.text.push_str(text);
        for letter in text.chars() {
            match (&mut self.sequence, letter) {
                (None, '\u{1b}') => self.sequence = Some(String::new()),
                (None, '\r') => self.at.1 = 0,
                (None, '\n') => self.at.0 += 1,
                (None, letter) => self.put(letter),
                (Some(sequence), '[') if sequence.is_empty() => sequence.push('['),
                (Some(sequence), letter) => {
                    sequence.push(letter);
                    if letter.is_ascii_alphabetic() {
                        let sequence = std::mem::take(sequence);
                        self.sequence = None;
                        self.obey(&sequence[1..]);
                    }
                }
            }
        }
    }

    fn put(&mut self, letter: char) {
        let (line, column) = self.at;
        if self.lines.len() <= line {
            self.lines.resize(line + 1, Vec::new());
        }
        let cells = &mut self.lines[line];
        if cells.len() <= column {
            cells.resize(column + 1, ' ');
        }
        cells[column] = letter;
        self.at.1 += 1;
    }

    fn obey(&mut self, sequence: &str) {
        match sequence {
            ENTER | LEAVE => {
                self.is_taken = sequence == ENTER;
                self.lines.clear();
            }
            "?25l" => self.is_cursor_hidden = true,
            "?25h" => self.is_cursor_hidden = false,
            "2J" => self.lines.clear(),
            _ => {}
        }
        if let Some((line, column)) = sequence.strip_suffix('H').and_then(|it| it.split_once(';')) {
            self.at = (line.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
        }
        let style = sequence.strip_suffix('m').unwrap_or_default();
        self.has_color |= style.split(';').any(|it| it == "38" || it == "48");
    }

    fn shown(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect()
    }
}

type Shared = Arc<(Mutex<Grid>, Condvar)>;

/// A program that draws on a terminal. Dropping it ends it.
pub(crate) struct Drawn {
    pid: i32,
    keys: File,
    own: OwnedFd,
    theirs: OwnedFd,
    before: Termios,
    grid: Shared,
    exit: Receiver<ExitStatus>,
    has_ended: bool,
}

fn locked(grid: &Shared) -> MutexGuard<'_, Grid> {
    grid.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drawn {
    /// Starts a program on a terminal of so many columns and rows.
    pub(crate) fn start(command: &mut Command, (columns, rows): (u16, u16)) -> Drawn {
        let (own, theirs) = terminal(columns, rows);
        let before = tcgetattr(&theirs).unwrap();
        let mut child: Child = command
            .env_remove("RUST_BACKTRACE")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        // What starts a program keeps what it gave it. The terminal ends when nobody has it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pid = i32::try_from(child.id()).unwrap();
        let (sender, exit) = channel::bounded(1);
        thread::spawn(move || {
            let _ = sender.send(child.wait().unwrap());
        });
        let grid = Shared::default();
        let filled = Arc::clone(&grid);
        let mut output = File::from(own.try_clone().unwrap());
        thread::spawn(move || {
            let (mut bytes, mut begun) = ([0; 4096], Vec::new());
            // The terminal ends when nobody has its other end any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                begun.extend_from_slice(&bytes[..count]);
                // A letter may come in two pieces.
                let whole = match std::str::from_utf8(&begun) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text = String::from_utf8(begun.drain(..whole).collect()).unwrap();
                locked(&filled).take(&text);
                filled.1.notify_all();
            }
            locked(&filled).is_ended = true;
            filled.1.notify_all();
        });
        let keys = File::from(own.try_clone().unwrap());
        Drawn { pid, keys, own, theirs, before, grid, exit, has_ended: false }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal another size, and says so as a terminal does.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.own, size).unwrap();
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, it: Signal) {
        signal(self.pid, it);
    }

    /// Waits until a line of the screen has this text.
    pub(crate) fn wait(&self, text: &str) -> Vec<String> {
        self.wait_for(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    /// Waits until the screen is as wanted.
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Deadline::after(PATIENCE);
        let mut grid = locked(&self.grid);
        loop {
            let shown = grid.shown();
            if is_it(&shown) {
                return shown;
            }
            let has_time = !deadline.is_over() && !grid.is_ended;
            assert!(has_time, "no {what} on the screen:\n{}", shown.join("\n"));
            let waited = self.grid.1.wait_timeout(grid, deadline.left());
            grid = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a colour was ever asked for.
    pub(crate) fn has_color(&self) -> bool {
        locked(&self.grid).has_color
    }

    /// Whether the terminal is taken over: no echo, no lines, no cursor, a screen of its own.
    pub(crate) fn is_taken(&self) -> bool {
        let grid = locked(&self.grid);
        let is_raw = tcgetattr(&self.theirs).unwrap().local_modes != self.before.local_modes;
        assert_eq!((grid.is_cursor_hidden, is_raw), (grid.is_taken, grid.is_taken));
        grid.is_taken
    }

    /// Waits for its end, and finds the terminal as it was. The exit code, and what it printed behind that.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let status = self.exit.recv_timeout(PATIENCE).expect("it ends");
        self.has_ended = true;
        let after = tcgetattr(&self.theirs).unwrap();
        let modes =
            |it: &Termios| (it.input_modes, it.output_modes, it.control_modes, it.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the modes of the terminal");
        // Our end of what it wrote to: what is on its way is still read.
        let grid = Arc::clone(&self.grid);
        drop(self);
        let deadline = Deadline::after(PATIENCE);
        let mut state = locked(&grid);
        while !state.is_ended && !deadline.is_over() {
            let waited = grid.1.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        assert!(!state.is_taken && !state.is_cursor_hidden, "{}", state.shown().join("\n"));
        let behind = state.text.rsplit(LEAVE).next().unwrap_or_default();
        (status.code(), behind.to_owned())
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.signal(Signal::KILL);
        }
    }
}
