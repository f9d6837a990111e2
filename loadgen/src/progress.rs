//! The progress bar: on standard error, and only when that is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::leftovers;

/// Told how far a run is.
pub(crate) trait Progress {
    /// Messages will come.
    fn beginning(&self) {}
    /// Subscribers confirmed so far.
    fn connecting(&self, confirmed: u64, of: u64);
    /// Time since the first message, and deliveries so far.
    fn running(&self, elapsed: Duration, of: Duration, delivered: u64);
    /// The bar goes away.
    fn finish(&self);
    /// Somebody wants the results of what has been measured so far.
    fn wants_end(&self) -> bool {
        false
    }
}

/// Shows how far a run is.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// What is running, when there is more than one run.
    what: String,
}

impl Bar {
    pub(crate) fn new(what: &str) -> Bar {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
            bar.set_style(style);
        }
        let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
        Bar { bar, what }
    }
}

impl Progress for Bar {
    fn connecting(&self, confirmed: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(confirmed);
        self.bar.set_message(format!("{}{confirmed} of {of} subscribers", self.what));
    }

    fn running(&self, elapsed: Duration, of: Duration, delivered: u64) {
        self.bar.set_length(u64::try_from(of.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_message(format!("{}{delivered} deliveries", self.what));
    }

    fn beginning(&self) {
        // A comparison has many runs, and a signal is meant for all of them.
        leftovers::let_finish(self.what.is_empty());
    }

    fn wants_end(&self) -> bool {
        leftovers::is_finish_wanted()
    }

    fn finish(&self) {
        leftovers::let_finish(false);
        self.bar.finish_and_clear();
    }
}
