//! Bars of one instrument, folded while they are looked for, in bounded memory.
//!
//! Where trades stand in order of event time, which is the rule, one bar is under way at a time. Where they
//! do not, the earliest [`limits::OPEN_BARS_MAX`] bars are kept open until everything was looked at, and
//! then it is looked at again for the next ones: a late trade is never missed, however late it is, and blocks
//! that cannot have anything are skipped. Nothing is sorted: of equal times the later ordinal is the later
//! trade.

use std::collections::{BTreeMap, VecDeque};

use super::block::price_of;
use super::instrument::{BlockRange, Columns, InstrumentHistory, UnpackedBlock, indexes_in_block};
use super::scan_range::ScanRange;
use crate::limits;
use crate::log::{Log, Storage};
use crate::market::bar::Bar;
use crate::planted::{Bug, is_planted};

/// A bar that trades may still come for.
#[derive(Clone, Copy, Debug)]
struct OpenBar {
    bar: Bar,
    ts_first: u64,
    ts_last: u64,
    last_ordinal: u64,
}

impl OpenBar {
    fn begin(start: u64, interval_ns: u64, ts: u64, price: i64) -> OpenBar {
        let bar = Bar::begin(start, interval_ns, price);
        OpenBar { bar, ts_first: ts, ts_last: ts, last_ordinal: 0 }
    }

    /// Takes a trade that is not before those that it has.
    #[inline]
    fn add_next(&mut self, price: i64, qty: u64, ordinal: u64) {
        self.bar.close = price;
        self.bar.add_amount(price, qty);
        self.last_ordinal = ordinal;
    }

    /// Takes a trade that comes later in the log, whatever its time is.
    fn add_any(&mut self, ts: u64, price: i64, qty: u64, ordinal: u64) {
        let (open, close) = (self.bar.open, self.bar.close);
        self.bar.add_amount(price, qty);
        (self.bar.open, self.ts_first) =
            if ts < self.ts_first { (price, ts) } else { (open, self.ts_first) };
        (self.bar.close, self.ts_last) =
            if ts >= self.ts_last { (price, ts) } else { (close, self.ts_last) };
        self.last_ordinal = ordinal;
    }
}

/// A scan for bars.
#[derive(Debug)]
pub(crate) struct BarScan {
    wanted: ScanRange,
    interval_ns: u64,
    is_ordered: bool,
    next_block: u64,
    /// In order: the bar under way.
    current: Option<OpenBar>,
    /// Out of order: the earliest bars that are not out yet.
    open: BTreeMap<u64, OpenBar>,
    /// Out of order: bars that begin before this are out.
    low: u64,
    /// Out of order: bars that begin here or later had no room in this look.
    high: u64,
    ready: VecDeque<Bar>,
    is_over: bool,
    pub(crate) damaged: u64,
}

impl BarScan {
    pub(crate) fn new(history: &InstrumentHistory, wanted: ScanRange, interval_ns: u64) -> BarScan {
        BarScan {
            interval_ns: interval_ns.max(1),
            is_ordered: wanted.is_ordered(history) || is_planted(Bug::LateBarSplit),
            next_block: wanted.blocks().start,
            wanted,
            current: None,
            open: BTreeMap::new(),
            low: 0,
            high: u64::MAX,
            ready: VecDeque::new(),
            is_over: false,
            damaged: 0,
        }
    }

    /// The next bar. `None`: there is none, or the budget is used up, see [`BarScan::is_over`].
    pub(crate) fn next<S: Storage>(
        &mut self,
        history: &InstrumentHistory,
        log: &Log<S>,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> Option<Bar> {
        while self.ready.is_empty() && !self.is_over && *budget > 0 {
            if self.next_block >= self.wanted.blocks().end {
                self.end_look(history);
                continue;
            }
            let number = self.next_block;
            self.next_block += 1;
            *budget = budget.saturating_sub(1);
            let Some(piece) = self.wanted.piece(history, number) else { continue };
            if piece.ts_max < self.low || piece.ts_min >= self.high {
                continue;
            }
            history.load(log, number, Columns::All, unpacked);
            self.damaged += unpacked.damaged;
            *budget = budget.saturating_sub(unpacked.cost);
            if self.is_ordered {
                self.fold_in_order(history, &piece, unpacked);
            } else {
                self.fold_any(history, &piece, unpacked);
            }
        }
        self.ready.pop_front()
    }

    /// Whether everything has been handed out.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over && self.ready.is_empty()
    }

    fn fold_in_order(
        &mut self,
        history: &InstrumentHistory,
        piece: &BlockRange,
        unpacked: &UnpackedBlock,
    ) {
        let takes_all = self.wanted.takes_all(history, piece, unpacked);
        let interval_ns = self.interval_ns;
        let mut current = self.current.take();
        for (ordinal, ts, price, qty) in entries(piece, unpacked) {
            let takes = takes_all || (self.wanted.has(ts) && self.wanted.stands(history, ordinal));
            if !takes {
                continue;
            }
            match &mut current {
                Some(open) if ts.wrapping_sub(open.bar.start) < interval_ns => {
                    open.add_next(price, qty, ordinal);
                }
                _ => {
                    self.ready.extend(current.take().map(|open| finish(history, open)));
                    let mut open = OpenBar::begin(ts - ts % interval_ns, interval_ns, ts, price);
                    open.add_next(price, qty, ordinal);
                    current = Some(open);
                }
            }
        }
        self.current = current;
    }

    fn fold_any(
        &mut self,
        history: &InstrumentHistory,
        piece: &BlockRange,
        unpacked: &UnpackedBlock,
    ) {
        let takes_all = self.wanted.takes_all(history, piece, unpacked);
        for (ordinal, ts, price, qty) in entries(piece, unpacked) {
            let takes = takes_all || (self.wanted.has(ts) && self.wanted.stands(history, ordinal));
            if !takes {
                continue;
            }
            let start = ts - ts % self.interval_ns;
            if start < self.low || start >= self.high {
                continue;
            }
            let begun = || OpenBar::begin(start, self.interval_ns, ts, price);
            self.open.entry(start).or_insert_with(begun).add_any(ts, price, qty, ordinal);
            if self.open.len() > limits::OPEN_BARS_MAX
                && let Some((latest, _)) = self.open.pop_last()
            {
                self.high = latest;
            }
        }
    }

    /// Everything has been looked at once.
    fn end_look(&mut self, history: &InstrumentHistory) {
        self.ready.extend(self.current.take().map(|open| finish(history, open)));
        let open = std::mem::take(&mut self.open);
        self.ready.extend(open.into_values().map(|open| finish(history, open)));
        self.is_over = self.high == u64::MAX;
        (self.low, self.high) = (self.high, u64::MAX);
        self.next_block = self.wanted.blocks().start;
    }
}

fn finish(history: &InstrumentHistory, open: OpenBar) -> Bar {
    let last_seq = history.place(open.last_ordinal).map_or(0, |(_, seq)| seq);
    Bar { last_seq, ..open.bar }
}

/// Ordinal, event time, price and quantity of every entry of a loaded piece.
fn entries(
    piece: &BlockRange,
    unpacked: &UnpackedBlock,
) -> impl Iterator<Item = (u64, u64, i64, u64)> {
    let range = indexes_in_block(&piece.ordinals);
    let ts = unpacked.ts.get(range.clone()).unwrap_or_default().iter().copied();
    let prices = unpacked.prices.get(range.clone()).unwrap_or_default().iter().copied();
    let quantities = unpacked.quantities.get(range).unwrap_or_default().iter().copied();
    let amounts = prices.map(price_of).zip(quantities);
    let entries = piece.ordinals.clone().zip(ts).zip(amounts);
    entries.map(|((ordinal, ts), (price, qty))| (ordinal, ts, price, qty))
}
