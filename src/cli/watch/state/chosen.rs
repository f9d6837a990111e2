//! The chosen instrument: its bars from history, how they go on live, and its tape of trades.
//!
//! # Decisions
//!
//! * A bar under way is history's bar and the live trades whose `seq` is above its last. History answers with all
//!   trades below one `seq` (`as_of`), so a trade is counted once, whoever brought it.
//! * A bar that is over comes from [`crate::client::BarSubscription`], as `pregao subscribe bar.1m` shows it. What
//!   a late trade or a cancellation changes is asked of history again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::{Event, LiveBar};
use crate::limits::{
    WATCH_CANDLES_MAX, WATCH_RECENT_TRADES_MAX, WATCH_RETRY_EVERY, WATCH_TAPE_MAX,
};
use crate::market::bar::Bar;
use crate::time::{Mono, Now};
use crate::wire::{Cancel, Flags, Frame, GapReason, InstrumentId, Seq, Symbol, Trade, U64};

const NS_PER_S: u64 = 1_000_000_000;

/// A bar, and what its reader has to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) struct Candle {
    pub(in crate::cli::watch) bar: Bar,
    /// It was shown as over, and has changed since.
    pub(in crate::cli::watch) is_revised: bool,
    /// Trades of it are missing.
    pub(in crate::cli::watch) is_incomplete: bool,
    /// Frames were lost while it was under way.
    pub(in crate::cli::watch) has_gap: bool,
}

impl Candle {
    fn of(bar: Bar) -> Candle {
        Candle { bar, is_revised: false, is_incomplete: false, has_gap: false }
    }
}

/// One line of the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) enum TapeLine {
    Trade {
        trade: Trade,
        is_cancelled: bool,
    },
    /// Frames are missing between the line below and the one above.
    Gap {
        missed: Option<u64>,
        reason: &'static str,
    },
}

/// What history says of an instrument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::watch) struct History {
    /// Bars, oldest first.
    pub(in crate::cli::watch) bars: Vec<Bar>,
    /// The last trades.
    pub(in crate::cli::watch) trades: Vec<Trade>,
    /// Everything below this is in the bars; `None`: nobody said so.
    pub(in crate::cli::watch) as_of: Option<Seq>,
    /// The parts that are missing, each with what became of it.
    pub(in crate::cli::watch) missing: Vec<String>,
}

/// Where the bars of history come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) enum HistoryState {
    Waiting,
    /// All of it.
    Complete,
    /// Without these parts.
    Partial(Vec<String>),
    /// None, and why.
    Away(String),
}

/// The chosen instrument.
#[derive(Debug)]
pub(in crate::cli::watch) struct Chosen {
    /// Counts choices: what belongs to an earlier one is passed over.
    pub(in crate::cli::watch) choice: u64,
    pub(in crate::cli::watch) instrument: InstrumentId,
    pub(in crate::cli::watch) symbol: Symbol,
    pub(in crate::cli::watch) seconds: u32,
    pub(in crate::cli::watch) candles: BTreeMap<u64, Candle>,
    /// Newest first.
    pub(in crate::cli::watch) tape: VecDeque<TapeLine>,
    pub(in crate::cli::watch) history: HistoryState,
    /// Why its trades do not come.
    pub(in crate::cli::watch) away: Option<String>,
    /// Live trades, in the order of `seq`.
    recent: VecDeque<Trade>,
    /// Live trades came from here on.
    live_from: Option<Seq>,
    /// Bars of which trades are missing that nobody has.
    torn: BTreeSet<u64>,
    revised: BTreeSet<u64>,
    ask_at: Option<Mono>,
    is_asked: bool,
    /// The event time of its newest trade.
    newest_event: u64,
}

impl Chosen {
    pub(super) fn new(
        choice: u64,
        (instrument, symbol): (InstrumentId, Symbol),
        seconds: u32,
        newest_event: u64,
    ) -> Chosen {
        Chosen {
            choice,
            instrument,
            symbol,
            seconds: seconds.max(1),
            candles: BTreeMap::new(),
            tape: VecDeque::new(),
            history: HistoryState::Waiting,
            away: None,
            recent: VecDeque::new(),
            live_from: None,
            torn: BTreeSet::new(),
            revised: BTreeSet::new(),
            ask_at: None,
            is_asked: false,
            newest_event,
        }
    }

    fn interval_ns(&self) -> u64 {
        u64::from(self.seconds) * NS_PER_S
    }

    fn start_of(&self, ts: u64) -> u64 {
        ts - ts % self.interval_ns()
    }

    /// From when bars are wanted.
    pub(super) fn history_from(&self) -> u64 {
        let span = self.interval_ns().saturating_mul(WATCH_CANDLES_MAX as u64 - 1);
        self.start_of(self.newest_event).saturating_sub(span)
    }

    /// Whether history is to be asked now. `true` once for each time.
    pub(super) fn takes_question(&mut self, now: Now) -> bool {
        let is_due = !self.is_asked && self.ask_at.is_some_and(|at| at <= now.mono);
        self.is_asked |= is_due;
        is_due
    }

    fn ask(&mut self, at: Mono) {
        self.ask_at = Some(self.ask_at.map_or(at, |before| before.min(at)));
    }

    /// What the subscription of its own says.
    pub(super) fn handle_event(&mut self, now: Now, event: &Event) {
        match event {
            Event::Data(frame) if frame.instrument() == self.instrument => {
                self.handle_frame(now, frame);
            }
            Event::Live { next_seq } => {
                self.away = None;
                self.live_from.get_or_insert(*next_seq);
                self.ask(now.mono);
            }
            Event::Lost { reason: GapReason::Skipped, .. } => {}
            Event::Lost { reason, from_seq, instrument, missed, .. } => {
                if instrument.is_none_or(|it| it == self.instrument) {
                    self.lose(now, *reason, *from_seq, *missed);
                }
            }
            Event::Data(_)
            | Event::Stale
            | Event::Ended
            | Event::Current
            | Event::Exchange { .. } => {}
        }
    }

    fn lose(&mut self, now: Now, reason: GapReason, from_seq: u64, missed: Option<u64>) {
        if reason == GapReason::Void {
            // It is taken back, and comes again.
            self.recent.retain(|trade| trade.seq.get() < from_seq);
            self.tape.retain(|line| match line {
                TapeLine::Trade { trade, .. } => trade.seq.get() < from_seq,
                TapeLine::Gap { .. } => true,
            });
        }
        self.note_gap(
            missed,
            gap_text(reason),
            matches!(reason, GapReason::SourceLost | GapReason::Corrupt),
        );
        // History may have what this subscription has lost.
        self.ask(now.mono + WATCH_RETRY_EVERY);
    }

    /// `is_for_good`: nobody has them.
    fn note_gap(&mut self, missed: Option<u64>, reason: &'static str, is_for_good: bool) {
        self.push_line(TapeLine::Gap { missed, reason });
        let newest = self.candles.last_entry();
        if let Some(mut newest) = newest {
            newest.get_mut().has_gap = true;
            newest.get_mut().is_incomplete = true;
            if is_for_good {
                let start = *newest.key();
                self.torn.insert(start);
            }
        }
    }

    fn push_line(&mut self, line: TapeLine) {
        self.tape.push_front(line);
        self.tape.truncate(WATCH_TAPE_MAX);
    }

    fn handle_frame(&mut self, now: Now, frame: &Frame) {
        if let Some(cancel) = frame.view::<Cancel>() {
            self.take_back(now, cancel);
            return;
        }
        let Some(trade) = frame.view::<Trade>() else { return };
        let ts = trade.ts_event.get();
        self.newest_event = self.newest_event.max(ts);
        if frame.has(Flags::SNAPSHOT) {
            // History has it too.
            return;
        }
        let is_torn = frame.has(Flags::GAP_BEFORE);
        self.push_line(TapeLine::Trade { trade: *trade, is_cancelled: false });
        if self.recent.len() >= WATCH_RECENT_TRADES_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(*trade);
        let start = self.start_of(ts);
        let is_behind = self.candles.last_key_value().is_some_and(|(newest, _)| start < *newest);
        let is_first = self.candles.is_empty();
        // What history has brought already is not late.
        let is_late = self.add(trade) && is_behind;
        if is_first && trade.instrument_seq.get() != 1 && self.history != HistoryState::Complete {
            self.mark_incomplete(start);
        }
        if is_late {
            self.revised.insert(start);
            self.ask(now.mono + WATCH_RETRY_EVERY);
        }
        if is_torn {
            // It stands below the trade that showed it.
            let line = TapeLine::Gap { missed: None, reason: "lost by the exchange" };
            let at = self.tape.len().min(1);
            self.tape.insert(at, line);
            self.tape.truncate(WATCH_TAPE_MAX);
            self.torn.insert(start);
        }
        self.mark();
        self.forget_old();
    }

    fn mark_incomplete(&mut self, start: u64) {
        if let Some(candle) = self.candles.get_mut(&start) {
            candle.is_incomplete = true;
        }
    }

    /// Adds a trade to its bar, unless the bar has it. Whether it did.
    fn add(&mut self, trade: &Trade) -> bool {
        let start = self.start_of(trade.ts_event.get());
        let interval_ns = self.interval_ns();
        let candle = self
            .candles
            .entry(start)
            .or_insert_with(|| Candle::of(Bar::begin(start, interval_ns, trade.price.get())));
        let seq = trade.seq.get();
        let is_new = seq > candle.bar.last_seq;
        if is_new {
            candle.bar.add_amount(trade.price.get(), trade.qty.get());
            candle.bar.last_seq = seq;
        }
        is_new
    }

    fn take_back(&mut self, now: Now, cancel: &Cancel) {
        let is_it = |trade: &Trade| {
            (trade.trade_id, trade.price, trade.qty) == (cancel.trade_id, cancel.price, cancel.qty)
        };
        if let Some(at) = self.recent.iter().rposition(is_it) {
            self.recent.remove(at);
        }
        let mut cancelled = None;
        for line in &mut self.tape {
            if let TapeLine::Trade { trade, is_cancelled } = line
                && is_it(trade)
                && !*is_cancelled
            {
                *is_cancelled = true;
                cancelled = Some(trade.ts_event.get());
                break;
            }
        }
        let start = cancelled.map(|ts| self.start_of(ts));
        self.revised.extend(start);
        self.ask(now.mono + WATCH_RETRY_EVERY);
    }

    /// A bar that is over, or has changed since.
    pub(super) fn handle_bar(&mut self, live: &LiveBar) {
        if live.instrument != self.instrument || live.bar.interval_ns != self.interval_ns() {
            return;
        }
        let candle = self.candles.entry(live.bar.start).or_insert(Candle::of(live.bar));
        if live.is_revised || live.bar.last_seq >= candle.bar.last_seq {
            // A bar whose every trade was taken back keeps the place of the last one.
            let last_seq = live.bar.last_seq.max(candle.bar.last_seq);
            candle.bar = Bar { last_seq, ..live.bar };
            candle.is_incomplete = live.is_incomplete;
        }
        if live.is_revised {
            self.revised.insert(live.bar.start);
        }
        self.mark();
        self.forget_old();
    }

    /// The answer of history, or why there is none.
    pub(super) fn handle_history(&mut self, now: Now, answer: Result<History, String>) {
        self.is_asked = false;
        self.ask_at = None;
        let again = now.mono + WATCH_RETRY_EVERY;
        let history = match answer {
            Ok(history) => history,
            Err(why) => {
                self.history = HistoryState::Away(why);
                self.ask(again);
                return;
            }
        };
        let has_all = self.live_from.is_some_and(|live| history.as_of >= Some(live));
        // What the live trades can close is closed by them; before that the shard is behind.
        let oldest_live = self.live_from;
        let is_closed = has_all || oldest_live.is_none();
        self.merge_tape(&history.trades);
        let gaps: Vec<u64> =
            self.candles.iter().filter(|(_, it)| it.has_gap).map(|(start, _)| *start).collect();
        let replaced = std::mem::take(&mut self.candles);
        for bar in &history.bars {
            self.candles.insert(bar.start, Candle::of(*bar));
        }
        if !history.missing.is_empty() {
            // What was known before is more than nothing.
            for (start, candle) in replaced {
                self.candles.entry(start).or_insert(Candle { is_incomplete: true, ..candle });
            }
        }
        for trade in self.recent.clone() {
            self.add(&trade);
        }
        for start in gaps {
            if let Some(candle) = self.candles.get_mut(&start) {
                candle.has_gap = true;
            }
        }
        if !is_closed || !history.missing.is_empty() {
            // Trades between history and the first live one are missing: they are of the bars from there on.
            let first_live = self.recent.front().map(|trade| self.start_of(trade.ts_event.get()));
            let newest = self.candles.last_key_value().map(|(start, _)| *start);
            for start in first_live.into_iter().chain(newest) {
                self.mark_incomplete(start);
            }
            self.ask(again);
        }
        self.history = match history.missing.is_empty() {
            true if is_closed => HistoryState::Complete,
            true => HistoryState::Waiting,
            false => HistoryState::Partial(history.missing),
        };
        self.mark();
        self.forget_old();
    }

    /// Puts the last trades of history below the live ones.
    fn merge_tape(&mut self, trades: &[Trade]) {
        let oldest = self.tape.iter().filter_map(|line| match line {
            TapeLine::Trade { trade, .. } => Some(trade.seq),
            TapeLine::Gap { .. } => None,
        });
        let oldest = oldest.map(U64::get).min().unwrap_or(u64::MAX);
        let mut older: Vec<&Trade> =
            trades.iter().filter(|trade| trade.seq.get() < oldest).collect();
        older.sort_by_key(|trade| std::cmp::Reverse(trade.seq.get()));
        let lines = older.into_iter().map(|it| TapeLine::Trade { trade: *it, is_cancelled: false });
        self.tape.extend(lines);
        self.tape.truncate(WATCH_TAPE_MAX);
    }

    fn mark(&mut self) {
        for (marks, is_torn) in [(&self.torn, true), (&self.revised, false)] {
            for start in marks {
                let Some(candle) = self.candles.get_mut(start) else { continue };
                if is_torn {
                    candle.is_incomplete = true;
                    candle.has_gap = true;
                } else {
                    candle.is_revised = true;
                }
            }
        }
    }

    fn forget_old(&mut self) {
        while self.candles.len() > WATCH_CANDLES_MAX {
            self.candles.pop_first();
        }
        if let Some((first, _)) = self.candles.first_key_value() {
            let first = *first;
            self.torn.retain(|start| *start >= first);
            self.revised.retain(|start| *start >= first);
        }
    }
}

fn gap_text(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Lapped => "too slow",
        GapReason::BeforeRing => "too old",
        GapReason::Skipped => "left out",
        GapReason::SourceLost => "lost by the source",
        GapReason::Corrupt => "log damaged",
        GapReason::Void => "taken back",
    }
}
