//! The progress bar: on standard error, and only when that is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How many bytes of a long work are done.
pub(super) struct Bar {
    bar: ProgressBar,
    next: u64,
}

impl Bar {
    /// Bytes between two looks at the clock, which the bar takes.
    const STEP_BYTES: u64 = 1 << 18;

    /// A bar up to so many bytes; `None`: nobody knows how many there are.
    pub(super) fn new(bytes: Option<u64>) -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(bytes, target);
        let style = match bytes {
            Some(_) => "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes} read, {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Bar { bar, next: 0 }
    }

    /// Where lines go to the same terminal, a bar between them would only garble both.
    pub(super) fn hide_beside_output(&mut self) {
        if std::io::stdout().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Takes the bar away while something is written.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// So many bytes are done.
    pub(super) fn show(&mut self, bytes: u64) {
        if bytes >= self.next {
            self.next = bytes.saturating_add(Bar::STEP_BYTES);
            self.bar.set_position(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
