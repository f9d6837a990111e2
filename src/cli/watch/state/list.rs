//! The watch list: what is known of each instrument, which of them are shown, and in which order.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::feeds::Feeds;
use crate::client::{Event, Symbols};
use crate::limits::{INSTRUMENTS_MAX, REPORT_SYMBOLS_MAX, WATCH_FLASH};
use crate::market::bar::Bar;
use crate::render::Venues;
use crate::time::{Mono, Now};
use crate::wire::{
    Decimals, Definition, ExchangeNumber, FeedStatus, Flags, Frame, InstrumentId, PRICE_UNDEFINED,
    Quote, Symbol, Trade,
};

/// How often the order is made anew while values change: rows that jump with each trade cannot be read.
const ORDER_EVERY: Duration = Duration::from_secs(1);
/// The same while instruments are added, as at the beginning.
const GROW_EVERY: Duration = Duration::from_millis(200);
/// Ends of emphasis that are nearer to each other are one.
const FLASH_STEP: Duration = Duration::from_millis(50);
const NS_PER_DAY: u64 = 86_400_000_000_000;

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::watch) enum Sort {
    #[default]
    Symbol,
    Last,
    Change,
    Volume,
    Age,
}

impl Sort {
    const ALL: [Sort; 5] = [Sort::Symbol, Sort::Last, Sort::Change, Sort::Volume, Sort::Age];

    pub(in crate::cli::watch) fn name(self) -> &'static str {
        match self {
            Sort::Symbol => "symbol",
            Sort::Last => "last",
            Sort::Change => "change",
            Sort::Volume => "volume",
            Sort::Age => "age",
        }
    }

    fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }
}

/// A value that changed a moment ago.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::watch) struct Flash {
    pub(in crate::cli::watch) until: Mono,
    /// `Less`: it fell.
    pub(in crate::cli::watch) direction: Ordering,
}

/// One instrument.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::watch) struct Row {
    pub(in crate::cli::watch) exchange: ExchangeNumber,
    pub(in crate::cli::watch) quote: Option<Quote>,
    pub(in crate::cli::watch) trade: Option<Trade>,
    pub(in crate::cli::watch) last_flash: Option<Flash>,
    pub(in crate::cli::watch) bid_flash: Option<Flash>,
    pub(in crate::cli::watch) ask_flash: Option<Flash>,
    /// The bar of the day in UTC, from history.
    pub(in crate::cli::watch) day: Option<Bar>,
    /// The last answer did not have it: its volume is of an earlier one.
    pub(in crate::cli::watch) is_day_old: bool,
    /// Frames that are known to be missing.
    pub(in crate::cli::watch) missed: u64,
    /// Frames are missing, perhaps nobody knows how many.
    pub(in crate::cli::watch) has_gap: bool,
}

impl Row {
    fn new(exchange: ExchangeNumber) -> Row {
        Row {
            exchange,
            quote: None,
            trade: None,
            last_flash: None,
            bid_flash: None,
            ask_flash: None,
            day: None,
            is_day_old: false,
            missed: 0,
            has_gap: false,
        }
    }

    pub(in crate::cli::watch) fn last(&self) -> Option<i64> {
        self.trade.map(|trade| trade.price.get())
    }

    /// When core received the newest of it.
    pub(in crate::cli::watch) fn received_ns(&self) -> u64 {
        let quote = self.quote.map_or(0, |quote| quote.ts_recv.get());
        quote.max(self.trade.map_or(0, |trade| trade.ts_recv.get()))
    }

    pub(in crate::cli::watch) fn is_halted(&self) -> bool {
        self.quote.is_some_and(|quote| quote.flags.get() & Flags::HALTED != 0)
    }

    /// From the first trade of the day to the last one, in units of 1e-9.
    pub(in crate::cli::watch) fn change(&self) -> Option<i128> {
        let (trade, day) = (self.trade?, self.day?);
        // A trade of the next day has no bar before history is asked again.
        let is_of_day = trade.ts_event.get().checked_sub(day.start)? < day.interval_ns;
        is_of_day.then(|| i128::from(trade.price.get()) - i128::from(day.open))
    }

    /// The same in hundredths of a percent, rounded to the nearest.
    pub(in crate::cli::watch) fn change_basis_points(&self) -> Option<i128> {
        let (change, open) = (self.change()?, i128::from(self.day?.open).abs());
        // Of nothing there is no part.
        (change * 10_000 + open / 2 * change.signum()).checked_div(open)
    }

    fn event_ns(&self) -> u64 {
        let quote = self.quote.map_or(0, |quote| quote.ts_event.get());
        quote.max(self.trade.map_or(0, |trade| trade.ts_event.get()))
    }
}

/// The list.
#[derive(Debug, Default)]
pub(in crate::cli::watch) struct List {
    pub(in crate::cli::watch) symbols: Symbols,
    pub(in crate::cli::watch) venues: Venues,
    pub(in crate::cli::watch) feeds: Feeds,
    rows: BTreeMap<InstrumentId, Row>,
    /// What passes the filter, in the order of the screen.
    order: Vec<InstrumentId>,
    is_order_old: bool,
    /// Instruments have come that are not in the order.
    has_new: bool,
    ordered_at: Mono,
    pub(in crate::cli::watch) sort: Sort,
    pub(in crate::cli::watch) is_reversed: bool,
    pub(in crate::cli::watch) filter: String,
    selected: Option<InstrumentId>,
    /// Somebody has chosen it. Before that it is the first one, whatever comes.
    is_selected: bool,
    /// Where the selected one is in the order, as found last.
    selected_at: usize,
    top: usize,
    /// When emphasis ends, in order.
    flash_ends: VecDeque<Mono>,
    /// Frames of market data so far.
    pub(in crate::cli::watch) frames: u64,
}

impl List {
    pub(in crate::cli::watch) fn row(&self, instrument: InstrumentId) -> Option<&Row> {
        self.rows.get(&instrument)
    }

    pub(in crate::cli::watch) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Of how many instruments the day is known.
    pub(in crate::cli::watch) fn days_known(&self) -> usize {
        self.rows.values().filter(|row| row.day.is_some()).count()
    }

    pub(in crate::cli::watch) fn shown(&self, instrument: InstrumentId) -> &str {
        self.symbols.shown(instrument).map_or("?", Symbol::as_str)
    }

    pub(in crate::cli::watch) fn decimals(&self, instrument: InstrumentId) -> Decimals {
        self.symbols.decimals(instrument)
    }

    pub(in crate::cli::watch) fn status(&self, row: &Row) -> FeedStatus {
        self.feeds.of(row.exchange)
    }

    pub(in crate::cli::watch) fn selected(&self) -> Option<InstrumentId> {
        self.selected
    }

    /// How many pass the filter.
    pub(in crate::cli::watch) fn shown_len(&self) -> usize {
        self.order.len()
    }

    /// The instruments on a screen of so many lines.
    pub(in crate::cli::watch) fn visible(&self, lines: usize) -> &[InstrumentId] {
        let top = self.top.min(self.order.len());
        &self.order[top..self.order.len().min(top.saturating_add(lines))]
    }

    /// When emphasis ends next.
    pub(in crate::cli::watch) fn flash_end(&self) -> Option<Mono> {
        self.flash_ends.front().copied()
    }

    /// Takes what the subscription says.
    pub(super) fn handle_event(&mut self, now: Now, event: &Event) {
        self.feeds.handle_event(now, event);
        match event {
            Event::Data(frame) => self.handle_frame(now, frame),
            Event::Lost { instrument: Some(instrument), missed, .. } => {
                if let Some(row) = self.rows.get_mut(instrument) {
                    row.has_gap = true;
                    row.missed = row.missed.saturating_add(missed.unwrap_or(0));
                }
            }
            Event::Lost { .. }
            | Event::Live { .. }
            | Event::Stale
            | Event::Ended
            | Event::Current
            | Event::Exchange { .. } => {}
        }
    }

    fn handle_frame(&mut self, now: Now, frame: &Frame) {
        self.symbols.note(frame);
        self.venues.note(frame, &self.symbols);
        if frame.view::<Definition>().is_some() {
            // A name may have come for an instrument that is shown already.
            self.has_new = true;
        }
        let (quote, trade) = (frame.view::<Quote>(), frame.view::<Trade>());
        if quote.is_none() && trade.is_none() {
            return;
        }
        let instrument = frame.instrument();
        if !self.rows.contains_key(&instrument) {
            if self.rows.len() >= INSTRUMENTS_MAX {
                return;
            }
            self.rows.insert(instrument, Row::new(frame.exchange()));
            self.has_new = true;
        }
        self.frames = self.frames.saturating_add(1);
        let Some(row) = self.rows.get_mut(&instrument) else { return };
        row.exchange = frame.exchange();
        row.has_gap |= frame.has(Flags::GAP_BEFORE);
        let is_news = !frame.has(Flags::SNAPSHOT);
        let until = now.mono + WATCH_FLASH;
        let flash = |before: Option<i64>, after: i64, flash: &mut Option<Flash>| {
            let direction = before.map_or(Ordering::Equal, |before| after.cmp(&before));
            let has_changed = is_news && direction.is_ne();
            if has_changed {
                *flash = Some(Flash { until, direction });
            }
            has_changed
        };
        let mut has_changed = false;
        if let Some(quote) = quote {
            let before = row.quote;
            let (bid, ask) = (quote.bid.get(), quote.ask.get());
            has_changed |= flash(before.map(|it| it.bid.get()), bid, &mut row.bid_flash);
            has_changed |= flash(before.map(|it| it.ask.get()), ask, &mut row.ask_flash);
            row.quote = Some(*quote);
        }
        if let Some(trade) = trade {
            has_changed |= flash(row.last(), trade.price.get(), &mut row.last_flash);
            row.trade = Some(*trade);
        }
        if has_changed && self.flash_ends.back().is_none_or(|last| *last + FLASH_STEP <= until) {
            self.flash_ends.push_back(until);
        }
    }

    /// Makes the order anew when it is time to, and forgets emphasis that is over. `lines`: of the list on the screen.
    pub(super) fn handle_time(&mut self, now: Now, lines: usize) {
        while self.flash_ends.front().is_some_and(|end| *end <= now.mono) {
            self.flash_ends.pop_front();
        }
        let has_moved = self.sort != Sort::Symbol && self.ordered_at + ORDER_EVERY <= now.mono;
        let has_grown =
            self.has_new && (self.order.is_empty() || self.ordered_at + GROW_EVERY <= now.mono);
        if self.is_order_old || has_moved || has_grown {
            self.make_order(now);
        }
        self.find_selected();
        self.keep_selected_in_sight(lines);
    }

    fn make_order(&mut self, now: Now) {
        (self.is_order_old, self.has_new) = (false, false);
        self.ordered_at = now.mono;
        let filter = self.filter.to_ascii_uppercase();
        let passes = |it: &InstrumentId| {
            filter.is_empty() || self.shown(*it).to_ascii_uppercase().contains(&filter)
        };
        let key = |row: &Row| -> Option<i128> {
            match self.sort {
                Sort::Symbol => Some(0),
                Sort::Last => row.last().map(i128::from),
                Sort::Change => row.change_basis_points(),
                Sort::Volume => row.day.and_then(|day| i128::try_from(day.volume).ok()),
                Sort::Age => Some(i128::from(row.received_ns())),
            }
        };
        let passing = self.rows.iter().filter(|(it, _)| passes(it));
        let mut keyed: Vec<_> =
            passing.map(|(it, row)| (key(row), self.symbols.shown(*it).copied(), *it)).collect();
        // The largest first, except for names; what is not known stands last either way.
        let descends = (self.sort != Sort::Symbol) != self.is_reversed;
        keyed.sort_by(|(a, a_name, a_id), (b, b_name, b_id)| {
            let by_name = (a_name, a_id).cmp(&(b_name, b_id));
            let by_name = match self.sort {
                Sort::Symbol if descends => by_name.reverse(),
                _ => by_name,
            };
            let by_key = match (a, b) {
                (Some(a), Some(b)) if descends => b.cmp(a),
                (Some(a), Some(b)) => a.cmp(b),
                (a, b) => Reverse(a.is_some()).cmp(&Reverse(b.is_some())),
            };
            by_key.then(by_name)
        });
        self.order = keyed.into_iter().map(|(_, _, it)| it).collect();
    }

    /// Looks where the selected instrument is now; the first one is selected where it is gone.
    fn find_selected(&mut self) {
        let is_there = self.order.get(self.selected_at).copied() == self.selected;
        if is_there && (self.is_selected || self.selected_at == 0) {
            return;
        }
        let at = |it| self.order.iter().position(|other| *other == it);
        let chosen = self.selected.filter(|_| self.is_selected);
        self.selected_at = chosen.and_then(at).unwrap_or(0);
        self.selected = self.order.get(self.selected_at).copied();
    }

    fn keep_selected_in_sight(&mut self, lines: usize) {
        let (at, lines) = (self.selected_at, lines.max(1));
        // No blank lines below while there are rows above.
        let top_max = self.order.len().saturating_sub(lines);
        self.top = self.top.min(top_max).clamp(at.saturating_sub(lines - 1), at);
    }

    /// Moves the selection by so many rows.
    pub(super) fn step(&mut self, by: isize) {
        self.is_selected = true;
        let last = self.order.len().saturating_sub(1);
        self.selected_at = self.selected_at.saturating_add_signed(by).min(last);
        self.selected = self.order.get(self.selected_at).copied();
    }

    pub(super) fn sort_by_next(&mut self) {
        self.sort = self.sort.next();
        self.is_reversed = false;
        self.is_order_old = true;
    }

    pub(super) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
        self.is_order_old = true;
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.is_order_old = true;
    }

    /// Which instruments history should be asked about: all, or those on the screen where that would be too many. And
    /// the beginning of their day.
    pub(super) fn day_question(&self, lines: usize) -> Option<(Vec<Symbol>, u64)> {
        let all: Vec<InstrumentId> = match self.rows.len() <= REPORT_SYMBOLS_MAX {
            true => self.rows.keys().copied().collect(),
            false => {
                let lines = lines.min(REPORT_SYMBOLS_MAX);
                self.visible(lines).to_vec()
            }
        };
        let newest = all.iter().filter_map(|it| self.rows.get(it)).map(Row::event_ns).max()?;
        let symbols = all.iter().filter_map(|it| self.symbols.symbol(*it).copied());
        let symbols: Vec<Symbol> = symbols.collect();
        (!symbols.is_empty()).then_some((symbols, newest - newest % NS_PER_DAY))
    }

    /// Takes bars of the day; `is_whole`: of all that were asked for.
    pub(super) fn handle_days(&mut self, days: &[(InstrumentId, Bar)], is_whole: bool) {
        if !is_whole {
            self.rows.values_mut().for_each(|row| row.is_day_old = true);
        }
        for (instrument, bar) in days {
            if let Some(row) = self.rows.get_mut(instrument) {
                // An answer has one bar for each day; the last one counts.
                (row.day, row.is_day_old) = (Some(*bar), false);
            }
        }
    }
}

/// A side of the book; `None` when it is empty.
pub(in crate::cli::watch) fn side(price: i64) -> Option<i64> {
    (price != PRICE_UNDEFINED).then_some(price)
}
