//! Trades and cancellations of one instrument as rows, in bounded memory: which entries, and in which order.
//!
//! The order is by (`ts_event`, `seq`). Where entries stand like that they are taken as they come. Where they
//! do not, the first [`limits::SORT_ROWS_MAX`] are picked out in one look, handed out, and then the
//! next in another; blocks that cannot have any are skipped.

use std::collections::BinaryHeap;

use super::instrument::{BLOCK, Columns, InstrumentHistory, UnpackedBlock, indexes_in_block};
use super::scan_range::ScanRange;
use crate::limits;
use crate::log::{Log, Storage};

/// A scan for rows. It hands out ordinals.
#[derive(Debug)]
pub(crate) struct RowScan {
    wanted: ScanRange,
    /// At the first instant of the range, entries before this ordinal are left out.
    after: u64,
    source: Source,
    next_block: u64,
    ready: std::vec::IntoIter<u64>,
    is_over: bool,
}

#[derive(Debug)]
enum Source {
    /// As they stand, if they are within the times.
    Ordered,
    /// As they stand, all of them.
    Received,
    Sorted {
        first: BinaryHeap<(u64, u64)>,
        /// What was handed out last.
        behind: Option<(u64, u64)>,
        has_more: bool,
    },
    Nothing,
}

impl RowScan {
    /// Entries by (`ts_event`, `seq`), without those at the first instant of the range before the ordinal `after`.
    pub(crate) fn by_event(history: &InstrumentHistory, wanted: ScanRange, after: u64) -> RowScan {
        let source = if wanted.is_ordered(history) {
            Source::Ordered
        } else {
            Source::Sorted { first: BinaryHeap::new(), behind: None, has_more: false }
        };
        RowScan { after, ..RowScan::new(wanted, source) }
    }

    /// Entries by `seq`.
    pub(crate) fn by_receive(wanted: ScanRange) -> RowScan {
        RowScan::new(wanted, Source::Received)
    }

    fn new(wanted: ScanRange, source: Source) -> RowScan {
        let next_block = wanted.blocks().start;
        let ready = Vec::new().into_iter();
        RowScan { wanted, after: 0, source, next_block, ready, is_over: false }
    }

    /// The newest entries with `limit` trades among them, by (`ts_event`, `seq`).
    pub(crate) fn last<S: Storage>(
        history: &InstrumentHistory,
        log: &Log<S>,
        wanted: ScanRange,
        limit: usize,
        unpacked: &mut UnpackedBlock,
    ) -> RowScan {
        let (mut trades, mut found) = (0, Vec::new());
        let mut number = wanted.blocks().end;
        while trades < limit && number > wanted.blocks().start {
            number -= 1;
            let Some(piece) = history.piece(number, &wanted.ordinals) else { break };
            history.load(log, number, Columns::Times, unpacked);
            let base = number * BLOCK;
            for ordinal in piece.ordinals.rev() {
                if trades >= limit || found.len() >= limits::ANSWER_ROWS_MAX {
                    break;
                }
                trades += usize::from(!history.is_cancel(ordinal));
                let index = usize::try_from(ordinal - base).unwrap_or(usize::MAX);
                found.push((unpacked.ts.get(index).copied().unwrap_or(u64::MAX), ordinal));
            }
        }
        found.sort_unstable();
        let mut scan = RowScan::new(wanted, Source::Nothing);
        scan.ready = found.into_iter().map(|(_, ordinal)| ordinal).collect::<Vec<_>>().into_iter();
        scan.is_over = true;
        scan
    }

    /// The next row. `None`: there is none, or the budget is used up, see [`RowScan::is_over`].
    pub(crate) fn next<S: Storage>(
        &mut self,
        history: &InstrumentHistory,
        log: &Log<S>,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> Option<u64> {
        loop {
            if let Some(ordinal) = self.ready.next() {
                return Some(ordinal);
            }
            if self.is_over || *budget == 0 {
                return None;
            }
            if self.next_block >= self.wanted.blocks().end {
                self.end_look();
                continue;
            }
            let number = self.next_block;
            self.next_block += 1;
            *budget = budget.saturating_sub(1);
            self.look(history, log, number, unpacked, budget);
        }
    }

    /// Of the newest entries with `limit` trades, the ordinal behind the oldest: what stood before that one
    /// would not be among them. When there are fewer, all that ever stood anywhere would.
    pub(crate) fn newest_from(&self, history: &InstrumentHistory, limit: usize) -> u64 {
        let found = self.ready.as_slice();
        if found.iter().filter(|ordinal| !history.is_cancel(**ordinal)).count() < limit {
            return 0;
        }
        found.iter().min().map_or(u64::MAX, |oldest| oldest + 1)
    }

    /// Whether everything has been handed out.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over && self.ready.len() == 0
    }

    fn look<S: Storage>(
        &mut self,
        history: &InstrumentHistory,
        log: &Log<S>,
        number: u64,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) {
        let Some(piece) = self.wanted.piece(history, number) else { return };
        if let Source::Sorted { first, behind, has_more } = &mut self.source {
            let is_full = first.len() >= limits::SORT_ROWS_MAX;
            let is_late = is_full && first.peek().is_some_and(|(ts, _)| piece.ts_min > *ts);
            *has_more |= is_late;
            if is_late || behind.is_some_and(|(ts, _)| piece.ts_max < ts) {
                return;
            }
        }
        if matches!(self.source, Source::Received) {
            self.ready = piece.ordinals.collect::<Vec<_>>().into_iter();
            return;
        }
        history.load(log, number, Columns::Times, unpacked);
        *budget = budget.saturating_sub(unpacked.cost);
        let ts = unpacked.ts.get(indexes_in_block(&piece.ordinals)).unwrap_or_default();
        // A record that is damaged has no time; whoever reads it finds out. It belongs somewhere, so it is
        // not left out of the ordered ones.
        let own = ts.iter().copied().zip(piece.ordinals);
        let is_behind = |ts: u64, ordinal: u64| ts > self.wanted.from || ordinal >= self.after;
        let own = own.filter(|(ts, ordinal)| {
            self.wanted.has(*ts) && is_behind(*ts, *ordinal) || *ts == u64::MAX
        });
        match &mut self.source {
            Source::Sorted { first, behind, has_more } => {
                for key in own.filter(|key| behind.is_none_or(|behind| *key > behind)) {
                    if first.len() < limits::SORT_ROWS_MAX {
                        first.push(key);
                        continue;
                    }
                    *has_more = true;
                    if first.peek().is_some_and(|last| key < *last) {
                        first.pop();
                        first.push(key);
                    }
                }
            }
            _ => self.ready = own.map(|(_, ordinal)| ordinal).collect::<Vec<_>>().into_iter(),
        }
    }

    /// Everything has been looked at once.
    fn end_look(&mut self) {
        match &mut self.source {
            Source::Sorted { first, behind, has_more } => {
                let sorted = std::mem::take(first).into_sorted_vec();
                *behind = sorted.last().copied().or(*behind);
                self.is_over = !std::mem::take(has_more);
                self.next_block = self.wanted.blocks().start;
                let ordinals: Vec<u64> = sorted.into_iter().map(|(_, ordinal)| ordinal).collect();
                self.ready = ordinals.into_iter();
            }
            _ => self.is_over = true,
        }
    }
}
