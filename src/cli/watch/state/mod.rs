//! The machine of `pregao watch`: inputs are keys, events of subscriptions, answers and reports, each with the time;
//! outputs are questions, and what [`super::draw`] shows. It has no socket, no terminal and no clock.

pub(super) mod chosen;
mod feeds;
pub(super) mod list;
pub(super) mod system;

use std::collections::VecDeque;
use std::time::Duration;

pub(super) use self::chosen::History;
use self::chosen::{Chosen, HistoryState};
use self::list::List;
use self::system::System;
use super::keys::Key;
use crate::client::{Event, LiveBar};
use crate::limits::{
    WATCH_AGES_EVERY, WATCH_DAY_EVERY, WATCH_DAY_REST, WATCH_NOTICE_SHOWN, WATCH_NOTICES_MAX,
    WATCH_SCREEN_MIN,
};
use crate::market::bar::Bar;
use crate::render::NodeReport;
use crate::time::{Mono, Now};
use crate::wire::{FeedStatus, GapReason, InstrumentId, Symbol};

/// Lengths of bars that a key goes through.
const SECONDS: [u32; 8] = [1, 5, 15, 60, 300, 900, 3_600, 86_400];

/// Lines of the screen that are not rows of the list.
pub(super) const LIST_FRAME_LINES: u16 = 5;

/// What is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    List,
    Chosen,
    System,
}

impl View {
    pub(super) const ALL: [View; 3] = [View::List, View::Chosen, View::System];
}

/// Bars of the day of some instruments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// By instrument; of several days, in their order.
    pub(super) bars: Vec<(InstrumentId, Bar)>,
    /// The parts that are missing, each with what became of it.
    pub(super) missing: Vec<String>,
}

/// What comes from outside.
#[derive(Debug)]
pub(super) enum Input {
    /// Of the watch list's subscription.
    List(Event),
    /// That subscription cannot be had, and why; it is tried again.
    ListAway(String),
    /// Of the chosen instrument's own subscription.
    Chosen(u64, Event),
    /// That one cannot be had.
    ChosenAway(u64, String),
    /// A bar of the chosen instrument that is over.
    Bar(u64, LiveBar),
    /// What history says of the chosen instrument, or why it says nothing.
    History(u64, Result<History, String>),
    /// Bars of the day, or why there are none, and how long the answer took.
    Days(Result<Days, String>, Duration),
    /// All nodes, judged.
    Reports(Vec<NodeReport>),
    /// A key.
    Key(Key),
    /// Columns and lines of the terminal.
    Size(u16, u16),
    /// To end: a signal.
    Stop,
    /// A thread has ended by a fault of this program.
    Broken,
}

/// What the shell is to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Follow this instrument, and no other.
    Follow {
        /// For the answers.
        choice: u64,
        /// Its whole name.
        symbol: Symbol,
        /// Length of the bars.
        seconds: u32,
    },
    /// Bars from this event time on and the last trades.
    AskHistory {
        /// For the answer.
        choice: u64,
        /// Of whom.
        symbol: Symbol,
        /// Length of the bars.
        seconds: u32,
        /// Nanoseconds since the Unix epoch.
        from: u64,
    },
    /// Bars of a day from this event time on.
    AskDays {
        /// Of whom.
        symbols: Vec<Symbol>,
        /// Nanoseconds since the Unix epoch.
        from: u64,
    },
}

/// A message to whoever looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) at: Mono,
    pub(super) text: String,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) now: Now,
    /// Columns and lines.
    pub(super) size: (u16, u16),
    pub(super) view: View,
    pub(super) shows_help: bool,
    /// The filter as it is being typed.
    pub(super) typed: Option<String>,
    pub(super) list: List,
    pub(super) list_away: Option<String>,
    pub(super) chosen: Option<Chosen>,
    pub(super) system: System,
    pub(super) notices: VecDeque<Notice>,
    /// What is missing of the day's bars.
    pub(super) day_missing: Vec<String>,
    pub(super) day_away: Option<String>,
    /// Frames in the second before this one.
    pub(super) frames_per_s: u64,
    counted: (Mono, u64),
    seconds: u32,
    choices: u64,
    is_day_asked: bool,
    day_at: Mono,
    commands: VecDeque<Command>,
    is_dirty: bool,
    drawn_at: Mono,
    is_over: bool,
    is_broken: bool,
}

impl Watch {
    /// A watch on a terminal of so many columns and lines. `seconds`: the length of bars at first.
    pub(super) fn new(now: Now, size: (u16, u16), seconds: u32) -> Watch {
        Watch {
            now,
            size,
            view: View::List,
            shows_help: false,
            typed: None,
            list: List::default(),
            list_away: None,
            chosen: None,
            system: System::default(),
            notices: VecDeque::new(),
            day_missing: Vec::new(),
            day_away: None,
            frames_per_s: 0,
            counted: (now.mono, 0),
            seconds,
            choices: 0,
            is_day_asked: false,
            day_at: now.mono,
            commands: VecDeque::new(),
            is_dirty: true,
            drawn_at: now.mono,
            is_over: false,
            is_broken: false,
        }
    }

    /// Whether it is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it ends by a fault of this program.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Columns and lines of its screen.
    pub(super) fn size(&self) -> (u16, u16) {
        self.size
    }

    /// What is to be asked next.
    pub(super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether the screen shows something else than when it was drawn last.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The screen was drawn.
    pub(super) fn note_drawn(&mut self, now: Now) {
        self.is_dirty = false;
        self.drawn_at = now.mono;
    }

    /// When [`Watch::handle_time`] has something to do at the latest.
    pub(super) fn deadline(&self) -> Mono {
        let ages = self.drawn_at + WATCH_AGES_EVERY;
        self.list.flash_end().map_or(ages, |end| end.min(ages))
    }

    /// Takes one input.
    pub(super) fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        self.is_dirty = true;
        match input {
            Input::List(event) => self.handle_list(now, &event),
            Input::ListAway(why) => self.list_away = Some(why),
            Input::Chosen(choice, event) => {
                if let Some(chosen) = self.chosen_as(choice) {
                    chosen.handle_event(now, &event);
                }
            }
            Input::ChosenAway(choice, why) => {
                if let Some(chosen) = self.chosen_as(choice) {
                    chosen.away = Some(why);
                }
            }
            Input::Bar(choice, bar) => {
                if let Some(chosen) = self.chosen_as(choice) {
                    chosen.handle_bar(&bar);
                }
            }
            Input::History(choice, answer) => {
                if let Some(chosen) = self.chosen_as(choice) {
                    chosen.handle_history(now, answer);
                }
            }
            Input::Days(answer, took) => self.handle_days(now, answer, took),
            Input::Reports(reports) => {
                for text in self.system.handle_reports(now, reports) {
                    self.say(text);
                }
            }
            Input::Key(key) => {
                // Several keys may come at once: each acts on what those before it have made.
                self.list.handle_time(now, self.list_lines());
                self.handle_key(key);
            }
            Input::Size(columns, lines) => self.size = (columns, lines),
            Input::Stop => self.is_over = true,
            Input::Broken => (self.is_over, self.is_broken) = (true, true),
        }
    }

    /// Time has passed.
    pub(super) fn handle_time(&mut self, now: Now) {
        self.now = now;
        let flash_end = self.list.flash_end();
        let lines = self.list_lines();
        self.list.handle_time(now, lines);
        self.is_dirty |= self.list.flash_end() != flash_end;
        self.is_dirty |= self.drawn_at + WATCH_AGES_EVERY <= now.mono;
        let (since, frames) = self.counted;
        let passed = now.mono.since(since);
        if passed >= Duration::from_secs(1) {
            let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
            let came = self.list.frames.saturating_sub(frames);
            self.frames_per_s = came.saturating_mul(1_000) / ms;
            self.counted = (now.mono, self.list.frames);
        }
        if !self.is_day_asked
            && self.day_at <= now.mono
            && let Some((symbols, from)) = self.list.day_question(lines)
        {
            self.is_day_asked = true;
            self.commands.push_back(Command::AskDays { symbols, from });
        }
        if let Some(chosen) = &mut self.chosen
            && chosen.takes_question(now)
        {
            self.commands.push_back(Command::AskHistory {
                choice: chosen.choice,
                symbol: chosen.symbol,
                seconds: chosen.seconds,
                from: chosen.history_from(),
            });
        }
    }

    /// How many rows of the list the screen has.
    pub(super) fn list_lines(&self) -> usize {
        usize::from(self.size.1.saturating_sub(LIST_FRAME_LINES))
    }

    /// Whether the terminal is large enough.
    pub(super) fn has_room(&self) -> bool {
        self.size.0 >= WATCH_SCREEN_MIN.0 && self.size.1 >= WATCH_SCREEN_MIN.1
    }

    /// The newest message, for as long as it is to be shown.
    pub(super) fn notice(&self) -> Option<&Notice> {
        let is_new = |it: &&Notice| self.now.mono.since(it.at) < WATCH_NOTICE_SHOWN;
        self.notices.front().filter(is_new)
    }

    fn say(&mut self, text: String) {
        self.notices.push_front(Notice { at: self.now.mono, text });
        self.notices.truncate(WATCH_NOTICES_MAX);
    }

    fn chosen_as(&mut self, choice: u64) -> Option<&mut Chosen> {
        self.chosen.as_mut().filter(|it| it.choice == choice)
    }

    fn handle_list(&mut self, now: Now, event: &Event) {
        self.list.handle_event(now, event);
        match event {
            Event::Live { .. } => {
                if self.list_away.take().is_some() {
                    self.say("the broker is back".to_owned());
                }
                self.day_at = now.mono;
            }
            Event::Stale => self.say("quotes are not known to be current any more".to_owned()),
            Event::Ended => self.say("the feed has ended: nothing more comes".to_owned()),
            Event::Current => self.say("quotes are current again".to_owned()),
            Event::Exchange { exchange, status } => {
                let name = self.list.venues.name(*exchange);
                self.say(match status {
                    FeedStatus::Stale => format!("{name}: its quotes are not known to be current"),
                    FeedStatus::Ended => format!("{name}: its feed has ended"),
                    FeedStatus::Current => format!("{name}: its quotes are current again"),
                });
            }
            Event::Lost { reason: GapReason::Skipped, .. } | Event::Data(_) => {}
            Event::Lost { from_seq, to_seq, instrument, missed, .. } => {
                let of = instrument.map(|it| format!(" of {}", self.list.shown(it)));
                let of = of.unwrap_or_default();
                self.say(match missed {
                    Some(missed) => format!("gap: {missed} frames{of} are missing"),
                    None => format!("gap: seq {from_seq} to {to_seq}{of}: frames are missing"),
                });
            }
        }
    }

    fn handle_days(&mut self, now: Now, answer: Result<Days, String>, took: Duration) {
        self.is_day_asked = false;
        self.day_at = now.mono + WATCH_DAY_EVERY.max(took.saturating_mul(WATCH_DAY_REST));
        match answer {
            Ok(Days { bars, missing }) => {
                self.list.handle_days(&bars, missing.is_empty());
                self.day_missing = missing;
                self.day_away = None;
            }
            Err(why) => {
                self.list.handle_days(&[], false);
                self.day_away = Some(why);
            }
        }
    }

    fn handle_key(&mut self, key: Key) {
        if key == Key::Interrupt {
            self.is_over = true;
            return;
        }
        if let Some(typed) = self.typed.take() {
            self.type_filter(typed, key);
            return;
        }
        if self.shows_help {
            self.shows_help = false;
            self.is_over |= key == Key::Char('q');
            return;
        }
        match key {
            Key::Char('q') => self.is_over = true,
            Key::Escape if self.view == View::List && !self.list.filter.is_empty() => {
                self.list.set_filter(String::new());
            }
            Key::Escape if self.view == View::List => self.is_over = true,
            Key::Escape => self.view = View::List,
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char('1') => self.view = View::List,
            Key::Char('2') => self.show_chosen(),
            Key::Char('3') => self.view = View::System,
            Key::Tab | Key::Right => self.turn_view(1),
            Key::BackTab | Key::Left => self.turn_view(View::ALL.len() - 1),
            Key::Enter if self.view == View::List => self.choose(),
            Key::Char('/') => {
                self.view = View::List;
                self.typed = Some(self.list.filter.clone());
            }
            Key::Char('s') if self.view == View::List => self.list.sort_by_next(),
            Key::Char('r') if self.view == View::List => self.list.reverse(),
            Key::Char('b') => self.turn_length(1),
            Key::Char('B') => self.turn_length(SECONDS.len() - 1),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-self.page()),
            Key::PageDown => self.step(self.page()),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Char(_) | Key::Enter | Key::Backspace | Key::Redraw | Key::Interrupt => {}
        }
    }

    fn page(&self) -> isize {
        isize::try_from(self.list_lines()).unwrap_or(1).max(1)
    }

    fn type_filter(&mut self, mut typed: String, key: Key) {
        match key {
            Key::Enter | Key::Up | Key::Down => return,
            Key::Escape => {
                self.list.set_filter(String::new());
                return;
            }
            Key::Backspace => drop(typed.pop()),
            Key::Char(letter) if typed.len() < Symbol::BYTES_MAX => typed.push(letter),
            _ => {}
        }
        self.list.set_filter(typed.clone());
        self.typed = Some(typed);
    }

    fn step(&mut self, by: isize) {
        match self.view {
            View::List => self.list.step(by),
            View::Chosen => {
                self.list.step(by);
                self.choose();
            }
            View::System => {
                let lines: usize = self.system.reports.iter().map(|it| it.breakers.len() + 1).sum();
                self.system.top = self.system.top.saturating_add_signed(by).min(lines);
            }
        }
    }

    fn turn_view(&mut self, by: usize) {
        let at = View::ALL.iter().position(|it| *it == self.view).unwrap_or(0);
        match View::ALL[(at + by) % View::ALL.len()] {
            View::Chosen => self.show_chosen(),
            view => self.view = view,
        }
    }

    fn turn_length(&mut self, by: usize) {
        let at = SECONDS.iter().position(|it| *it >= self.seconds).unwrap_or(0);
        self.seconds = SECONDS[(at + by) % SECONDS.len()];
        if self.chosen.is_some() {
            self.follow();
        }
    }

    /// Shows the chosen instrument; the selected one, where none was chosen yet.
    fn show_chosen(&mut self) {
        match self.chosen {
            Some(_) => self.view = View::Chosen,
            None => self.choose(),
        }
    }

    fn choose(&mut self) {
        self.view = View::Chosen;
        self.list.step(0);
        let is_same = |it: &Chosen| Some(it.instrument) == self.list.selected();
        if !self.chosen.as_ref().is_some_and(is_same) {
            self.chosen = None;
            self.follow();
        }
    }

    /// Follows the chosen instrument anew, or the selected one.
    fn follow(&mut self) {
        let instrument = self.chosen.as_ref().map(|it| it.instrument).or(self.list.selected());
        let named = instrument.and_then(|it| Some((it, *self.list.symbols.symbol(it)?)));
        let Some((instrument, symbol)) = named else { return };
        self.choices += 1;
        let (choice, seconds) = (self.choices, self.seconds);
        let trade = self.list.row(instrument).and_then(|row| row.trade);
        let newest = trade.map_or(self.now.wall_ns, |trade| trade.ts_event.get());
        self.chosen = Some(Chosen::new(choice, (instrument, symbol), seconds, newest));
        self.commands.push_back(Command::Follow { choice, symbol, seconds });
    }

    /// What is missing of the answers on the screen, in words.
    pub(super) fn missing(&self) -> Option<String> {
        let of_chosen = self.chosen.as_ref().filter(|_| self.view == View::Chosen);
        match of_chosen.map(|chosen| (&chosen.history, &chosen.away)) {
            Some((_, Some(why))) => return Some(format!("no live trades: {why}; trying again")),
            Some((HistoryState::Partial(parts), _)) => {
                return Some(format!("bars are partial without {}", parts.join(", ")));
            }
            Some((HistoryState::Away(why), _)) => {
                return Some(format!("no bars of history: {why}; asking again"));
            }
            Some((HistoryState::Waiting | HistoryState::Complete, None)) => return None,
            None => {}
        }
        if self.view != View::List {
            return None;
        }
        if let Some(why) = &self.day_away {
            return Some(format!("no change and volume: {why}; asking again"));
        }
        let parts = self.day_missing.join(", ");
        (!parts.is_empty()).then(|| format!("change and volume are partial without {parts}"))
    }
}
