//! The bars of one instrument and one length: the trades of each, kept so that a late one or a
//! cancellation can still change it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::LiveBar;
use crate::limits::{CANCEL_REACH, LIVE_BAR_GRACE};
use crate::market::bar::{Bar, BarFold};
use crate::planted::{Bug, is_planted};
use crate::time::nanos;
use crate::wire::{Cancel, I64, InstrumentId, Trade, U64};

/// What a bar needs of a trade.
#[derive(Clone, Copy, Debug)]
struct Kept {
    price: i64,
    qty: u64,
    trade_id: u64,
}

/// The trades of one bar.
#[derive(Debug, Default)]
struct Window {
    /// By event time and `seq`: the order of the fold.
    trades: BTreeMap<(u64, u64), Kept>,
    /// Their fold, unless one came or went that is not the last.
    folded: Option<Bar>,
    reported: Option<Bar>,
    is_incomplete: bool,
}

/// Bars of one length.
#[derive(Debug)]
pub(super) struct Series {
    interval_ns: u64,
    /// Bars before this were over before we came: what comes late for one is not all of it.
    first_start: u64,
    /// Bars before this are forgotten, and final.
    forgotten_before: u64,
    windows: BTreeMap<u64, Window>,
    /// Those that are not over.
    under_way: BTreeSet<u64>,
    /// Trades from before may be missing in bars from the first one to this one; `None`: in none.
    torn_until: Option<u64>,
}

impl Series {
    pub(super) fn new(interval_ns: u64) -> Series {
        Series {
            interval_ns,
            first_start: 0,
            forgotten_before: 0,
            windows: BTreeMap::new(),
            under_way: BTreeSet::new(),
            torn_until: None,
        }
    }

    /// Start of the bar of this event time.
    pub(super) fn start_of(&self, ts: u64) -> u64 {
        ts - ts % self.interval_ns
    }

    /// End of the bar of this event time.
    pub(super) fn end_of(&self, ts: u64) -> u64 {
        self.start_of(ts).saturating_add(self.interval_ns)
    }

    /// The first bar is the one of this event time.
    pub(super) fn begin(&mut self, ts: u64) {
        self.first_start = self.start_of(ts);
    }

    /// What came before is missing: in the first bar, and in those up to the bar of this event time. Which of them is under way
    /// a trade that comes late does not say.
    pub(super) fn begin_incomplete(&mut self, newest: u64) {
        let until = self.first_start.max(self.start_of(newest));
        self.torn_until = Some(until).filter(|_| !is_planted(Bug::BarsBeginWhole));
    }

    /// Trades of the bars under way may be missing.
    pub(super) fn mark_incomplete(&mut self) {
        for start in &self.under_way {
            if let Some(window) = self.windows.get_mut(start) {
                window.is_incomplete = true;
            }
        }
    }

    /// Reports the bars that a trade at this event time ends.
    pub(super) fn leave_behind(
        &mut self,
        instrument: InstrumentId,
        ts: u64,
        out: &mut VecDeque<LiveBar>,
    ) {
        let start = self.start_of(ts);
        while self.under_way.first().is_some_and(|first| *first < start) {
            self.end_first(instrument, out);
        }
    }

    /// Ends the oldest bar under way.
    fn end_first(&mut self, instrument: InstrumentId, out: &mut VecDeque<LiveBar>) {
        let first = self.under_way.pop_first();
        if let Some(window) = first.and_then(|start| self.windows.get_mut(&start)) {
            window.report(instrument, self.interval_ns, out);
        }
    }

    /// Takes a trade, behind [`Series::leave_behind`]. `true` if it is kept now. A trade from history that is of a bar
    /// before the first is none of ours; one that comes late makes a bar of which more is missing.
    pub(super) fn add(
        &mut self,
        instrument: InstrumentId,
        trade: &Trade,
        room: Room,
        out: &mut VecDeque<LiveBar>,
    ) -> bool {
        let (ts, seq) = (trade.ts_event.get(), trade.seq.get());
        let start = self.start_of(ts);
        let is_before = start < self.first_start;
        if start < self.forgotten_before || (is_before && room.is_history) {
            return false;
        }
        let behind = (Bound::Excluded(start), Bound::Unbounded);
        let has_newer = self.windows.range(behind).next().is_some();
        let window = self.windows.entry(start).or_insert_with(|| {
            if !has_newer && !is_before {
                self.under_way.insert(start);
            }
            Window::default()
        });
        let is_over = !self.under_way.contains(&start);
        let is_first_torn = self.torn_until.is_some_and(|until| start <= until);
        window.is_incomplete |= room.is_torn || is_first_torn || is_before || !room.has_room;
        let kept =
            Kept { price: trade.price.get(), qty: trade.qty.get(), trade_id: trade.trade_id.get() };
        let is_new = room.has_room && window.insert((ts, seq), kept, self.interval_ns);
        if is_new && is_over && !is_planted(Bug::LateTradeNotTold) {
            window.report(instrument, self.interval_ns, out);
        }
        is_new
    }

    /// Takes the nearest matching trade back, as a shard does. `true` if there is one.
    pub(super) fn cancel(
        &mut self,
        instrument: InstrumentId,
        cancel: &Cancel,
        out: &mut VecDeque<LiveBar>,
    ) -> bool {
        if self.start_of(cancel.ts_event.get()) < self.first_start.max(self.forgotten_before) {
            // Its trade was told before we came, or is forgotten. One that looks the same is another.
            return false;
        }
        let start = self.start_of(cancel.ts_event.get());
        // Of a bar that lacks trades it may be a trade that is missing. What looks the same in a whole bar is another.
        let is_unsure = self.torn_until.is_some_and(|until| start <= until)
            || self.windows.get(&start).is_some_and(|window| window.is_incomplete);
        let wanted = (cancel.trade_id.get(), cancel.price.get(), cancel.qty.get());
        let windows = self.windows.iter().filter(|(_, it)| it.is_incomplete || !is_unsure);
        let standing = windows.flat_map(|(&start, window)| {
            window.trades.iter().map(move |(&key, kept)| (start, key, kept))
        });
        let distance = |ts: u64| ts.abs_diff(cancel.ts_event.get());
        let nearest = standing
            .filter(|(_, (ts, seq), kept)| {
                (kept.trade_id, kept.price, kept.qty) == wanted
                    && *seq < cancel.seq.get()
                    && distance(*ts) <= nanos(CANCEL_REACH)
            })
            .min_by_key(|(_, (ts, seq), _)| (distance(*ts), Reverse(*seq)))
            .map(|(start, key, _)| (start, key));
        let Some((start, key)) = nearest else { return false };
        let Some(window) = self.windows.get_mut(&start) else { return false };
        window.trades.remove(&key);
        window.folded = None;
        if !self.under_way.contains(&start) {
            window.report(instrument, self.interval_ns, out);
        }
        true
    }

    /// Takes back what came from `from_seq` on. Returns how many trades that were.
    pub(super) fn take_back(
        &mut self,
        instrument: InstrumentId,
        from_seq: u64,
        out: &mut VecDeque<LiveBar>,
    ) -> usize {
        let mut taken = 0;
        for (start, window) in &mut self.windows {
            let before = window.trades.len();
            window.trades.retain(|&(_, seq), _| seq < from_seq);
            if window.trades.len() == before {
                continue;
            }
            taken += before - window.trades.len();
            window.folded = None;
            if !self.under_way.contains(start) {
                window.report(instrument, self.interval_ns, out);
            }
        }
        taken
    }

    /// When, in event time, the oldest bar under way is over.
    pub(super) fn next_end(&self) -> Option<u64> {
        let start = *self.under_way.first()?;
        Some(self.end_of(start).saturating_add(nanos(LIVE_BAR_GRACE)))
    }

    /// Reports the bars that are over at this event time.
    pub(super) fn close_until(
        &mut self,
        instrument: InstrumentId,
        event_now: u64,
        out: &mut VecDeque<LiveBar>,
    ) {
        while self.next_end().is_some_and(|end| end <= event_now) {
            self.end_first(instrument, out);
        }
    }

    /// Forgets the oldest bar that is over: it is final from now on. Returns how many trades it had.
    pub(super) fn forget_oldest(&mut self) -> usize {
        let Some(oldest) = self.windows.first_entry() else { return 0 };
        if self.under_way.contains(oldest.key()) {
            return 0;
        }
        let end = oldest.key().saturating_add(self.interval_ns);
        self.forgotten_before = self.forgotten_before.max(end);
        self.torn_until.take_if(|until| *until < self.forgotten_before);
        oldest.remove().trades.len()
    }
}

/// What may be kept of a trade, and what is known of those around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) has_room: bool,
    /// Trades may be missing before it.
    pub(super) is_torn: bool,
    /// It was asked of history.
    pub(super) is_history: bool,
}

impl Window {
    /// Whether it is new.
    fn insert(&mut self, key: (u64, u64), kept: Kept, interval_ns: u64) -> bool {
        let is_last = self.trades.last_key_value().is_none_or(|(last, _)| *last < key);
        let is_new = self.trades.insert(key, kept).is_none();
        if is_last {
            // So a bar costs time in proportion to its trades, however often it is told again.
            let before = self.folded.take_if(|_| self.trades.len() > 1);
            if before.is_some() || self.trades.len() == 1 {
                let mut fold = BarFold::going_on(interval_ns, before);
                let _ = fold.add(&kept.trade(key));
                self.folded = fold.finish();
            }
        } else {
            self.folded = None;
        }
        is_new
    }

    fn fold(&mut self, interval_ns: u64) -> Option<Bar> {
        if self.folded.is_none() {
            let mut fold = BarFold::new(interval_ns);
            for (&key, kept) in &self.trades {
                // They are all of one bar, so no other is finished by them.
                let _ = fold.add(&kept.trade(key));
            }
            self.folded = fold.finish();
        }
        self.folded
    }

    /// Reports the bar, if it differs from the one reported before.
    fn report(&mut self, instrument: InstrumentId, interval_ns: u64, out: &mut VecDeque<LiveBar>) {
        let emptied =
            self.reported.map(|reported| Bar { volume: 0, trades: 0, notional: 0, ..reported });
        let Some(bar) = self.fold(interval_ns).or(emptied) else { return };
        if self.reported != Some(bar) {
            let is_revised = self.reported.replace(bar).is_some();
            let is_incomplete = self.is_incomplete;
            out.push_back(LiveBar { instrument, bar, is_revised, is_incomplete });
        }
    }
}

impl Kept {
    /// As much of the trade as a fold needs.
    fn trade(&self, (ts, seq): (u64, u64)) -> Trade {
        Trade {
            ts_event: U64::new(ts),
            seq: U64::new(seq),
            price: I64::new(self.price),
            qty: U64::new(self.qty),
            ..Trade::default()
        }
    }
}
