//! `pregao watch`: the watch list, one instrument and the system in a terminal.
//!
//! `state` is the machine, `draw` what it looks like, `workers` the threads with the clients of the library,
//! `terminal` the terminal. Here they meet: one loop that takes what came, asks what the machine wants to know, and
//! draws at most twenty times a second.
//!
//! # Decisions
//!
//! * The watch list is a conflated subscription: a person reads no faster, and the broker does the work once.
//!   What a bar or a tape needs every trade for is a second, lossless one, of the chosen instrument alone.
//! * `ratatui-core` brings cells, styles and the difference of two screens; `crossterm`, which the tables use
//!   already, writes them. All of `ratatui` would add 28 packages, and a second version of `signal-hook` with
//!   crossterm's own event loop, for which this program has a queue.

mod draw;
mod keys;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::thread;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use self::draw::Theme;
use self::keys::Key;
use self::state::{Input, Watch};
use self::terminal::Terminal;
use self::workers::{Workers, is_redraw, list_request};
use super::exit::{Exit, Failure};
use super::output::color_wanted;
use crate::client::Subscription;
use crate::config::NodeId;
use crate::feed::Pattern;
use crate::limits::{WATCH_FRAME_EVERY, WATCH_INPUTS_MAX, WATCH_INPUTS_PER_TURN_MAX};
use crate::time::{Clock, Now};

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Distributes the feed.
    pub broker: SocketAddr,
    /// Has what the broker no longer has.
    pub core: SocketAddr,
    /// Answers questions about history.
    pub aggregator: SocketAddr,
    /// Every node and where to connect to it.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// The instruments; at least one.
    pub patterns: Vec<Pattern>,
    /// Length of the bars at first.
    pub seconds: u32,
}

/// Draws until a key or a signal ends it.
///
/// # Errors
/// When there is no terminal, when the broker cannot be reached at the start, or when the terminal takes no more.
pub fn run(request: &WatchRequest) -> Result<Exit, Failure> {
    terminal::check()?;
    // Before the terminal is taken over: what is wrong at the start is one line as with every command.
    let list = Subscription::open(request.broker, request.core, list_request(&request.patterns));
    let list = list
        .map_err(|error| Failure::failed(format!("{error}; start the system with `pregao all`")))?;
    let failed = |error: io::Error| Failure::failed(format!("cannot watch: {error}"));
    let (inputs, updates) = bounded(WATCH_INPUTS_MAX);
    catch_signals(&inputs).map_err(failed)?;
    let clock = Clock::start();
    let size = terminal::size();
    let mut watch = Watch::new(clock.now(), size, request.seconds);
    let theme = Theme { has_color: color_wanted(true) };
    let mut terminal = Terminal::take(size).map_err(|error| Failure::of_output(&error))?;
    let workers = Workers::start(request, list, &inputs).map_err(failed)?;
    let mut drawn = None;
    while !watch.is_over() {
        let now = clock.now();
        watch.handle_time(now);
        while let Some(command) = watch.poll_command() {
            workers.take(command);
        }
        let next_frame = drawn.map_or(now.mono, |drawn: Now| drawn.mono + WATCH_FRAME_EVERY);
        if watch.is_dirty() && next_frame <= now.mono {
            let shown = screen(&watch, theme);
            terminal.draw(shown).map_err(|error| Failure::of_output(&error))?;
            watch.note_drawn(now);
            drawn = Some(now);
        }
        let until = if watch.is_dirty() { next_frame } else { watch.deadline() };
        let first = match updates.recv_timeout(until.since(clock.now().mono)) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let more = updates.try_iter().take(WATCH_INPUTS_PER_TURN_MAX);
        for input in std::iter::once(first).chain(more) {
            if is_redraw(&input) {
                terminal.clear(watch.size()).map_err(|error| Failure::of_output(&error))?;
            }
            watch.handle(clock.now(), input);
        }
    }
    match watch.is_broken() {
        true => Err(Failure::failed("a part of watch has ended by a fault of this program")),
        false => Ok(Exit::Complete),
    }
}

fn screen(watch: &Watch, theme: Theme) -> Buffer {
    let (columns, lines) = watch.size();
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    draw::draw(watch, theme, &mut buffer);
    buffer
}

/// Hands signals on as inputs.
fn catch_signals(inputs: &Sender<Input>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGWINCH, SIGCONT])?;
    let inputs = inputs.clone();
    let hand_on = move || {
        for signal in signals.forever() {
            let sent = match signal {
                SIGWINCH => {
                    let (columns, lines) = terminal::size();
                    inputs.send(Input::Size(columns, lines))
                }
                // Somebody else may have drawn on the terminal meanwhile.
                SIGCONT => inputs.send(Input::Key(Key::Redraw)),
                _ => inputs.send(Input::Stop),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("watch-signals".to_owned()).spawn(hand_on).map(drop)
}
