//! The output of children: bounded lines in, prefixed lines out, and a terminal that may be slow.
//!
//! A terminal can stand still for minutes (Ctrl-S). No child may block on that, so lines that do
//! not fit a bounded queue are counted and dropped.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use crossbeam::channel::{self, Receiver, Sender};

use super::ready::Readiness;
use crate::limits::{CHILD_LINE_BYTES_MAX, CHILD_LINES_QUEUED_MAX};
use crate::time::Clock;

/// Columns of a name: as wide as `aggregator`.
const NAME_COLUMNS: usize = 10;

/// One colour per child, repeated when there are more.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::Magenta,
    AnsiColor::BrightCyan,
];

/// Reads one line, without its end, cut at [`CHILD_LINE_BYTES_MAX`]; `None` at the end of input.
/// What could drive a terminal (escape and other control characters) becomes `?`.
///
/// # Errors
/// When reading fails.
pub fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut any = false;
    let mut cut = false;
    loop {
        let bytes = match from.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        any = true;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = CHILD_LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        cut |= part.len() > room;
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    let mut text: String = text
        .trim_end_matches('\r')
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect();
    if cut {
        text.push_str(" …[cut]");
    }
    Ok(Some(text))
}

/// Which of the supervisor's own outputs a line goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

struct Line {
    stream: Stream,
    /// Which colour; `None` for the supervisor's own lines.
    child: Option<usize>,
    name: Arc<str>,
    text: String,
}

/// Hands lines to the thread that prints them. Never blocks.
#[derive(Clone)]
pub struct Printer {
    lines: Sender<Line>,
    dropped: Arc<AtomicU64>,
}

/// Waits for the printing thread's end.
pub struct PrinterEnd(Receiver<()>);

impl Printer {
    /// Starts the thread. `color` says whether the outputs are terminals that show colours; `readiness`, what is said
    /// when the system runs.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        color: bool,
        readiness: Readiness,
    ) -> io::Result<(Printer, PrinterEnd)> {
        let (lines, queue) = channel::bounded(CHILD_LINES_QUEUED_MAX);
        let (done, end) = channel::bounded(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let printer = Printer { lines, dropped: Arc::clone(&dropped) };
        thread::Builder::new().name("printer".into()).spawn(move || {
            print_all(&queue, &dropped, out, err, color, readiness);
            let _ = done.send(());
        })?;
        Ok((printer, PrinterEnd(end)))
    }

    /// A line of a child.
    pub fn child_line(&self, stream: Stream, child: usize, name: &Arc<str>, text: String) {
        self.send(Line { stream, child: Some(child), name: Arc::clone(name), text });
    }

    /// A line of the supervisor itself.
    pub fn own_line(&self, text: String) {
        self.send(Line { stream: Stream::Err, child: None, name: "pregao".into(), text });
    }

    fn send(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl PrinterEnd {
    /// Waits until everything is printed, at most this long. All [`Printer`]s must be gone.
    pub fn wait(self, at_most: Duration) {
        let _ = self.0.recv_timeout(at_most);
    }
}

/// Prints until the last sender is gone. An output that fails (its reader left) is ignored from
/// then on: the nodes matter more than their log.
fn print_all(
    queue: &Receiver<Line>,
    dropped: &AtomicU64,
    out: impl Write,
    err: impl Write,
    color: bool,
    mut readiness: Readiness,
) {
    let (mut out, mut err) = (Some(out), Some(err));
    let own = |text| Line { stream: Stream::Err, child: None, name: "pregao".into(), text };
    for line in queue {
        match line.stream {
            Stream::Out => write_or_close(&mut out, &line, color),
            Stream::Err => write_or_close(&mut err, &line, color),
        }
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} lines were dropped: this output was too slow");
            write_or_close(&mut err, &own(text), color);
        }
        if let Some(child) = line.child {
            for sentence in readiness.note(child, &line.text) {
                write_or_close(&mut err, &own(sentence), color);
            }
        }
    }
}

fn write_or_close(output: &mut Option<impl Write>, line: &Line, color: bool) {
    if output.as_mut().is_some_and(|output| write_line(output, line, color).is_err()) {
        *output = None;
    }
}

/// A wall clock in nanoseconds since the Unix epoch, shown as `13:30:00`, UTC.
struct TimeOfDay(u64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000 % 86_400;
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

fn write_line(output: &mut impl Write, line: &Line, color: bool) -> io::Result<()> {
    let style = match line.child {
        Some(child) if color => Style::new().fg_color(Some(COLORS[child % COLORS.len()].into())),
        _ => Style::new(),
    };
    let time = TimeOfDay(Clock::start().now().wall_ns);
    // One write per line, so that lines of several processes on one terminal do not mix.
    let text = format!("{time} {style}{:<NAME_COLUMNS$} |{style:#} {}\n", line.name, line.text);
    output.write_all(text.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::sync::Mutex;

    use super::*;

    fn lines_of(bytes: &[u8], chunk: usize) -> Vec<String> {
        let mut reader = BufReader::with_capacity(chunk, bytes);
        std::iter::from_fn(|| read_line(&mut reader).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_at_every_chunk_size() {
        for chunk in 1..12 {
            let lines = lines_of(b"one\n\ntwo\r\nthree", chunk);
            assert_eq!(lines, ["one", "", "two", "three"], "chunks of {chunk}");
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut bytes = vec![b'x'; CHILD_LINE_BYTES_MAX * 3];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = lines_of(&bytes, 1000);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("x …[cut]"));
        assert_eq!(lines[0].matches('x').count(), CHILD_LINE_BYTES_MAX);
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn a_line_cannot_drive_the_terminal() {
        assert_eq!(lines_of(b"a\x1b[2Jb\x07\tc\xff\n", 64), ["a?[2Jb?\tc\u{fffd}"]);
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn names_are_aligned_and_coloured_only_when_asked() {
        let text = |color| {
            let (out, err) = (Shared::default(), Shared::default());
            let (printer, end) =
                Printer::start(out.clone(), err.clone(), color, Readiness::new(1, vec![])).unwrap();
            printer.child_line(Stream::Out, 2, &"core".into(), "hello".into());
            printer.own_line("bye".into());
            drop(printer);
            end.wait(Duration::from_secs(10));
            let text =
                |shared: &Shared| String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
            (text(&out), text(&err))
        };
        let (out, err) = text(false);
        assert_eq!(out.get(8..), Some(" core       | hello\n"), "{out}");
        assert_eq!(err.get(8..), Some(" pregao     | bye\n"), "{err}");
        assert!(out.bytes().take(8).all(|byte| byte.is_ascii_digit() || byte == b':'), "{out}");
        assert_eq!(text(true).0.get(8..), Some(" \u{1b}[33mcore       |\u{1b}[0m hello\n"));
    }

    /// Takes nothing until its sender is dropped.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_terminal_blocks_nobody() {
        let (stuck, release) = (channel::bounded::<()>(0), Shared::default());
        let (printer, end) =
            Printer::start(Stuck(stuck.1), release.clone(), false, Readiness::new(1, vec![]))
                .unwrap();
        for _ in 0..CHILD_LINES_QUEUED_MAX * 2 {
            printer.child_line(Stream::Out, 0, &"core".into(), "x".into());
        }
        drop(stuck.0);
        drop(printer);
        end.wait(Duration::from_secs(10));
        let output = String::from_utf8(release.0.lock().unwrap().clone()).unwrap();
        assert!(output.contains("lines were dropped"), "{output}");
    }
}
