//! Live bars: folds the trades of a subscription into bars, with the fold that shards use for historical
//! ones, and says which bars are over. It is a machine: events in, bars out, and wishes for the history
//! that a bar under way lacks. What it is *not*: something on the wire. Bars that everybody computes
//! alike need no place in the sequence, and frames without one are never sent.
//!
//! A bar is over when a later trade of its instrument begins another, or when its time has passed:
//! event time goes on from an instrument's last trade as fast as the clock does. What comes later and
//! changes the bar makes it come again, flagged as revised.
//!
//! # Decisions
//!
//! * Bars are not on the wire. They would be frames without a `seq`, which no journal holds and no replay
//!   repeats, or one more thing for core to number. Who has the trades has the bars.
//! * Event time advances from an instrument's last trade as fast as the clock. That is never too fast for a
//!   live market, and two instruments need not agree about the year.

mod search;
mod series;

pub use self::search::{BackfillSearch, Unfound};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::series::{Room, Series};
use super::{Event, Symbols};
use crate::feed::Pattern;
use crate::limits::{
    CANCEL_REACH, INSTRUMENTS_MAX, LIVE_BAR_GRACE, LIVE_BAR_HELD_MAX, LIVE_BAR_TRADES_MAX,
};
use crate::market::bar::Bar;
use crate::time::{Mono, Now, nanos};
use crate::wire::{Cancel, Flags, Frame, GapReason, InstrumentId, Kind, Names, Seq, Symbol, Trade};

/// Which instruments' bars, and how long they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarPattern {
    /// The instruments; its kinds are not looked at.
    pub pattern: Pattern,
    /// Whole seconds, 1 to a day.
    pub seconds: u32,
}

/// A bar that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveBar {
    /// Whose.
    pub instrument: InstrumentId,
    /// The bar. One whose every trade was taken back keeps its prices and has no trades.
    pub bar: Bar,
    /// It was reported before, and is another now.
    pub is_revised: bool,
    /// Trades of it are missing: they were lost, or history was away.
    pub is_incomplete: bool,
}

/// Trades from before the subscription that bars under way lack. Trades come late too, so the last of them does not say which bars
/// these are: history is asked up to a day behind the end of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Whose.
    pub instrument: InstrumentId,
    /// Its name.
    pub symbol: Symbol,
    /// Event time of the first wanted.
    pub from: u64,
    /// Behind that of the last.
    pub to: u64,
    /// The subscription itself brings the trades from this `seq` on. An answer is good if it has all
    /// before it.
    pub as_of: Option<Seq>,
    before_seq: Option<Seq>,
}

/// One instrument.
#[derive(Debug)]
struct Instrument {
    series: Vec<Series>,
    /// The last trade before the subscription's first.
    prior: Option<Trade>,
    /// Frames that wait for what history has before them, and whether trades may be missing before each.
    held: Option<Vec<(Frame, bool)>>,
    has_begun: bool,
    /// The newest event time, and when it was that late.
    heard: Option<(u64, Mono)>,
    /// Trades may be missing before the next one.
    is_torn: bool,
    due: Option<Mono>,
}

/// The machine.
#[derive(Debug)]
pub struct LiveBars {
    patterns: Vec<BarPattern>,
    instruments: BTreeMap<InstrumentId, Instrument>,
    due: BTreeSet<(Mono, InstrumentId)>,
    /// Where the subscription's own frames begin; `None` before it is known.
    from_seq: Option<Seq>,
    bars: VecDeque<LiveBar>,
    backfills: VecDeque<Backfill>,
    /// Trades held in all windows.
    trades: usize,
}

impl LiveBars {
    /// For a subscription that begins at `from_seq`, or live if that is `None`.
    #[must_use]
    pub fn new(patterns: Vec<BarPattern>, from_seq: Option<Seq>) -> LiveBars {
        LiveBars {
            patterns,
            instruments: BTreeMap::new(),
            due: BTreeSet::new(),
            from_seq,
            bars: VecDeque::new(),
            backfills: VecDeque::new(),
            trades: 0,
        }
    }

    /// What to subscribe to: the trades and cancellations of the instruments, lossless.
    ///
    /// # Errors
    /// Never for patterns that are some.
    pub fn subscription(
        patterns: &[BarPattern],
    ) -> Result<Vec<Pattern>, crate::feed::PatternError> {
        let kinds = Kind::Trade.mask() | Kind::Cancel.mask();
        let all: BTreeSet<String> = patterns.iter().map(|p| p.pattern.text()).collect();
        all.iter().map(|text| Pattern::new(text, kinds)).collect()
    }

    /// The next bar that is over.
    pub fn poll_bar(&mut self) -> Option<LiveBar> {
        self.bars.pop_front()
    }

    /// What history should be asked for. Each is to be answered by [`LiveBars::handle_backfill`].
    pub fn poll_backfill(&mut self) -> Option<Backfill> {
        self.backfills.pop_front()
    }

    /// When [`LiveBars::handle_timers`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.due.first().map(|&(due, _)| due)
    }

    /// An event of the subscription; `symbols` are the subscription's.
    pub fn handle_event(&mut self, now: Now, event: &Event, symbols: &Symbols) {
        match event {
            Event::Data(frame) => self.handle_frame(now, frame, symbols),
            Event::Live { next_seq } if self.from_seq.is_none() => {
                self.from_seq = Some(*next_seq);
                self.complete_what_is_under_way(now, symbols);
            }
            Event::Live { .. }
            | Event::Stale
            | Event::Ended
            | Event::Current
            | Event::Exchange { .. } => {}
            Event::Lost { reason: GapReason::Void, from_seq, .. } => self.take_back(*from_seq),
            Event::Lost { instrument, .. } => {
                for (number, known) in &mut self.instruments {
                    if instrument.is_none_or(|lost| lost == *number) {
                        known.is_torn = true;
                        known.series.iter_mut().for_each(Series::mark_incomplete);
                    }
                }
            }
        }
    }

    /// Closes the bars whose time has passed.
    pub fn handle_timers(&mut self, now: Now) {
        while let Some(&(due, number)) = self.due.first() {
            if due > now.mono {
                return;
            }
            self.due.pop_first();
            let Some(known) = self.instruments.get_mut(&number) else { continue };
            known.due = None;
            if known.held.is_some() {
                continue;
            }
            if let Some((ts, at)) = known.heard {
                let event_now = ts.saturating_add(nanos(now.mono.since(at)));
                for series in &mut known.series {
                    series.close_until(number, event_now, &mut self.bars);
                }
            }
            self.schedule(number);
        }
    }

    /// The answer to a backfill: trades and cancellations, or `None` if history does not have them.
    pub fn handle_backfill(&mut self, now: Now, backfill: &Backfill, found: Option<&[Frame]>) {
        let Some(known) = self.instruments.get_mut(&backfill.instrument) else { return };
        let Some(held) = known.held.take() else { return };
        let mut frames: BTreeMap<u64, (Frame, bool)> = BTreeMap::new();
        for frame in found.unwrap_or_default() {
            if Seq::from_field(frame.seq) < backfill.before_seq
                && frame.instrument() == backfill.instrument
            {
                frames.insert(frame.seq.get(), (*frame, false));
            }
        }
        if found.is_none() {
            let newest = held.iter().map(|(frame, _)| frame.ts_event.get()).max().unwrap_or(0);
            known.series.iter_mut().for_each(|series| series.begin_incomplete(newest));
        }
        frames.extend(held.iter().map(|held| (held.0.seq.get(), *held)));
        for (frame, is_torn) in frames.values() {
            let is_history = Seq::from_field(frame.seq) < backfill.before_seq;
            self.fold(now, frame, *is_torn, is_history);
        }
        // What came behind them and found no room, or was lost.
        if let Some(known) = self.instruments.get_mut(&backfill.instrument)
            && known.is_torn
        {
            known.series.iter_mut().for_each(Series::mark_incomplete);
        }
        self.schedule(backfill.instrument);
    }

    fn handle_frame(&mut self, now: Now, frame: &Frame, symbols: &Symbols) {
        let number = frame.instrument();
        let is_trade = frame.kind == Kind::Trade as u8;
        if !is_trade && frame.kind != Kind::Cancel as u8 {
            return;
        }
        let Some(names) = symbols.names(number) else { return };
        if !self.instruments.contains_key(&number) {
            self.add_instrument(number, names);
        }
        let Some(known) = self.instruments.get_mut(&number) else { return };
        if frame.has(Flags::SNAPSHOT) {
            known.prior = frame.view::<Trade>().copied();
            return;
        }
        if let Some(held) = &mut known.held {
            if held.len() < LIVE_BAR_HELD_MAX {
                held.push((*frame, is_trade && std::mem::take(&mut known.is_torn)));
            } else {
                known.is_torn = true;
            }
            return;
        }
        if !known.has_begun {
            if is_trade {
                let ts = frame.ts_event.get();
                known.heard = Some((ts, now.mono));
                if known.prior.is_none() && frame.instrument_seq.get() == 1 {
                    // The very first trade of an instrument has nothing before it, also of earlier times.
                    known.has_begun = true;
                } else {
                    // Either may have come late. So neither says that nothing of the bar under way came before.
                    let newest = known.prior.map_or(ts, |prior| ts.max(prior.ts_event.get()));
                    self.begin(number, names.symbol(), newest, Seq::from_field(frame.seq));
                }
            } else {
                // It takes back a trade of a bar that was over before.
                return;
            }
        }
        let Some(known) = self.instruments.get_mut(&number) else { return };
        let is_torn = is_trade && std::mem::take(&mut known.is_torn);
        if let Some(held) = &mut known.held {
            held.push((*frame, is_torn));
            return;
        }
        self.fold(now, frame, is_torn, false);
        self.schedule(number);
    }

    /// An instrument that shows up for the first time.
    fn add_instrument(&mut self, number: InstrumentId, names: &Names) {
        if self.instruments.len() >= INSTRUMENTS_MAX {
            return;
        }
        let wanted = self.patterns.iter().filter(|wanted| wanted.pattern.means(names));
        let lengths: BTreeSet<u32> = wanted.map(|wanted| wanted.seconds.max(1)).collect();
        let second = nanos(Duration::from_secs(1));
        let series =
            lengths.iter().map(|&seconds| Series::new(u64::from(seconds) * second)).collect();
        let known = Instrument {
            series,
            prior: None,
            held: None,
            has_begun: false,
            heard: None,
            is_torn: false,
            due: None,
        };
        self.instruments.insert(number, known);
    }

    /// The snapshot is here: bars of its last trades may still be under way.
    fn complete_what_is_under_way(&mut self, now: Now, symbols: &Symbols) {
        let numbers: Vec<InstrumentId> = self.instruments.keys().copied().collect();
        for number in numbers {
            let Some(known) = self.instruments.get_mut(&number) else { continue };
            let (Some(prior), Some(symbol)) = (&known.prior, symbols.symbol(number)) else {
                continue;
            };
            // Core's clock is this machine's, or nearly. If not, the next trade will show it.
            let age = now.wall_ns.saturating_sub(prior.ts_recv.get());
            let ts = prior.ts_event.get();
            let event_now = ts.saturating_add(age);
            let is_under_way = known
                .series
                .iter()
                .any(|series| series.end_of(ts).saturating_add(nanos(LIVE_BAR_GRACE)) > event_now);
            if is_under_way {
                known.heard = Some((ts, Mono(now.mono.0.saturating_sub(age))));
                self.begin(number, symbol, ts, self.from_seq);
            }
        }
    }

    /// The first bars of an instrument begin, those around `ts`. Of these and of later ones trades may have come before.
    fn begin(&mut self, number: InstrumentId, symbol: &Symbol, ts: u64, before_seq: Option<Seq>) {
        let Some(known) = self.instruments.get_mut(&number) else { return };
        known.has_begun = true;
        known.series.iter_mut().for_each(|series| series.begin(ts));
        known.held = Some(Vec::new());
        let end = known.series.iter().map(|series| series.end_of(ts)).max().unwrap_or(ts);
        self.backfills.push_back(Backfill {
            instrument: number,
            symbol: *symbol,
            from: known.series.iter().map(|series| series.start_of(ts)).min().unwrap_or(ts),
            to: end.saturating_add(nanos(CANCEL_REACH)),
            as_of: self.from_seq,
            before_seq,
        });
    }

    /// `is_torn`: trades may be missing before it. `is_history`: it was asked of history.
    fn fold(&mut self, now: Now, frame: &Frame, is_torn: bool, is_history: bool) {
        let number = frame.instrument();
        let Some(known) = self.instruments.get_mut(&number) else { return };
        if is_torn {
            known.series.iter_mut().for_each(Series::mark_incomplete);
        }
        if let Some(cancel) = frame.view::<Cancel>() {
            for series in &mut known.series {
                self.trades -= usize::from(series.cancel(number, cancel, &mut self.bars));
            }
            return;
        }
        let Some(trade) = frame.view::<Trade>() else { return };
        let ts = trade.ts_event.get();
        if known.heard.is_none_or(|(newest, _)| ts > newest) {
            known.heard = Some((ts, now.mono));
        }
        for series in &mut known.series {
            series.leave_behind(number, ts, &mut self.bars);
            if self.trades >= LIVE_BAR_TRADES_MAX {
                self.trades -= series.forget_oldest();
            }
            let has_room = self.trades < LIVE_BAR_TRADES_MAX;
            let room = Room { has_room, is_torn, is_history };
            let took = series.add(number, trade, room, &mut self.bars);
            self.trades += usize::from(took);
        }
    }

    /// What came from `seq` on is void.
    fn take_back(&mut self, seq: u64) {
        for (&number, known) in &mut self.instruments {
            if let Some(held) = &mut known.held {
                held.retain(|(frame, _)| frame.seq.get() < seq);
            }
            for series in &mut known.series {
                self.trades -= series.take_back(number, seq, &mut self.bars);
            }
        }
    }

    /// Notes when the next bar of this instrument is over.
    fn schedule(&mut self, number: InstrumentId) {
        let Some(known) = self.instruments.get_mut(&number) else { return };
        let end = known.series.iter().filter_map(Series::next_end).min();
        let due = match (end, known.heard, &known.held) {
            (Some(end), Some((ts, at)), None) => {
                Some(at + Duration::from_nanos(end.saturating_sub(ts)))
            }
            _ => None,
        };
        if due == known.due {
            return;
        }
        if let Some(before) = std::mem::replace(&mut known.due, due) {
            self.due.remove(&(before, number));
        }
        self.due.extend(due.map(|due| (due, number)));
    }
}

#[cfg(test)]
mod tests;
