//! The bars of one instrument and one length: the trades of each, kept so that a late one or a
//! cancellation can still change it.

use std::collections::{BTreeMap, VecDeque};

use super::LiveBar;
use crate::limits::LIVE_BAR_GRACE;
use crate::market::bar::{Bar, BarFold};
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
    reported: Option<Bar>,
    is_over: bool,
    is_incomplete: bool,
}

/// Bars of one length.
#[derive(Debug)]
pub(super) struct Series {
    interval_ns: u64,
    /// Bars before this are not ours: they were over before we came, or are forgotten.
    first_start: u64,
    windows: BTreeMap<u64, Window>,
    begins_torn: bool,
}

impl Series {
    pub(super) fn new(interval_ns: u64) -> Series {
        Series { interval_ns, first_start: 0, windows: BTreeMap::new(), begins_torn: false }
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

    /// The beginning of the first bar is missing.
    pub(super) fn begin_incomplete(&mut self) {
        self.begins_torn = true;
    }

    /// Trades of the bars under way may be missing.
    pub(super) fn mark_incomplete(&mut self) {
        for window in self.windows.values_mut().filter(|window| !window.is_over) {
            window.is_incomplete = true;
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
        if start < self.first_start {
            return;
        }
        let earlier = self.windows.range_mut(..start).filter(|(_, window)| !window.is_over);
        for (_, window) in earlier {
            window.is_over = true;
            window.report(instrument, self.interval_ns, out);
        }
    }

    /// Takes a trade, behind [`Series::leave_behind`]. `true` if it is kept now.
    pub(super) fn add(
        &mut self,
        instrument: InstrumentId,
        trade: &Trade,
        has_room: bool,
        is_torn: bool,
        out: &mut VecDeque<LiveBar>,
    ) -> bool {
        let (ts, seq) = (trade.ts_event.get(), trade.seq.get());
        let start = self.start_of(ts);
        if start < self.first_start {
            return false;
        }
        let has_newer = self.windows.range(start..).any(|(&other, _)| other > start);
        let window = self.windows.entry(start).or_default();
        window.is_over |= has_newer;
        let is_first_torn = start == self.first_start && self.begins_torn;
        window.is_incomplete |= is_torn || is_first_torn || !has_room;
        let kept =
            Kept { price: trade.price.get(), qty: trade.qty.get(), trade_id: trade.trade_id.get() };
        let is_new = has_room && window.trades.insert((ts, seq), kept).is_none();
        if is_new && window.is_over {
            window.report(instrument, self.interval_ns, out);
        }
        is_new
    }

    /// Takes the newest matching trade back, as a shard does. `true` if there is one.
    pub(super) fn cancel(
        &mut self,
        instrument: InstrumentId,
        cancel: &Cancel,
        out: &mut VecDeque<LiveBar>,
    ) -> bool {
        let wanted = (cancel.trade_id.get(), cancel.price.get(), cancel.qty.get());
        let standing = self.windows.iter().flat_map(|(&start, window)| {
            window.trades.iter().map(move |(&key, kept)| (start, key, kept))
        });
        let newest = standing
            .filter(|(_, (_, seq), kept)| {
                (kept.trade_id, kept.price, kept.qty) == wanted && *seq < cancel.seq.get()
            })
            .max_by_key(|(_, (_, seq), _)| *seq)
            .map(|(start, key, _)| (start, key));
        let Some((start, key)) = newest else { return false };
        let Some(window) = self.windows.get_mut(&start) else { return false };
        window.trades.remove(&key);
        if window.is_over {
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
        for window in self.windows.values_mut() {
            let before = window.trades.len();
            window.trades.retain(|&(_, seq), _| seq < from_seq);
            taken += before - window.trades.len();
            if window.is_over && window.trades.len() < before {
                window.report(instrument, self.interval_ns, out);
            }
        }
        taken
    }

    /// When, in event time, the oldest bar under way is over.
    pub(super) fn next_end(&self) -> Option<u64> {
        let mut under_way = self.windows.iter().filter(|(_, window)| !window.is_over);
        let (&start, _) = under_way.next()?;
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
            let mut under_way = self.windows.values_mut().filter(|window| !window.is_over);
            let Some(window) = under_way.next() else { return };
            window.is_over = true;
            window.report(instrument, self.interval_ns, out);
        }
    }

    /// Forgets the oldest bar that is over: it is final from now on. Returns how many trades it had.
    pub(super) fn forget_oldest(&mut self) -> usize {
        let Some(oldest) = self.windows.first_entry().filter(|entry| entry.get().is_over) else {
            return 0;
        };
        self.first_start = oldest.key().saturating_add(self.interval_ns);
        self.begins_torn = false;
        oldest.remove().trades.len()
    }
}

impl Window {
    /// Reports the bar, if it differs from the one reported before.
    fn report(&mut self, instrument: InstrumentId, interval_ns: u64, out: &mut VecDeque<LiveBar>) {
        let mut fold = BarFold::new(interval_ns);
        for (&(ts, seq), kept) in &self.trades {
            // They are all of one bar, so no other is finished by them.
            fold.add(&Trade {
                ts_event: U64::new(ts),
                seq: U64::new(seq),
                price: I64::new(kept.price),
                qty: U64::new(kept.qty),
                ..Trade::default()
            });
        }
        let emptied =
            self.reported.map(|reported| Bar { volume: 0, trades: 0, notional: 0, ..reported });
        let Some(bar) = fold.finish().or(emptied) else { return };
        if self.reported != Some(bar) {
            let is_revised = self.reported.replace(bar).is_some();
            let is_incomplete = self.is_incomplete;
            out.push_back(LiveBar { instrument, bar, is_revised, is_incomplete });
        }
    }
}
