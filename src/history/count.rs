//! How many trades of one instrument stand in a range, and the first and the last of them.

use super::instrument::{BLOCK, Columns, InstrumentHistory, UnpackedBlock, indexes_in_block};
use super::scan_range::ScanRange;
use crate::log::{Log, Storage};
use crate::wire::{Counted, U64};

/// A scan that counts.
#[derive(Debug)]
pub(crate) struct CountScan {
    wanted: ScanRange,
    by_receive: bool,
    next_block: u64,
    trades: u64,
    cancelled: u64,
    /// Least and greatest event time.
    times: Option<(u64, u64)>,
    /// First and last ordinal.
    ordinals: Option<(u64, u64)>,
    pub(crate) damaged: u64,
}

impl CountScan {
    pub(crate) fn new(wanted: ScanRange, by_receive: bool) -> CountScan {
        CountScan {
            next_block: wanted.blocks().start,
            wanted,
            by_receive,
            trades: 0,
            cancelled: 0,
            times: None,
            ordinals: None,
            damaged: 0,
        }
    }

    /// Counts on. The result, unless the budget was used up before.
    pub(crate) fn count<S: Storage>(
        &mut self,
        history: &InstrumentHistory,
        log: &Log<S>,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> Option<Counted> {
        while self.next_block < self.wanted.blocks().end {
            if *budget == 0 {
                return None;
            }
            let number = self.next_block;
            self.next_block += 1;
            *budget = budget.saturating_sub(1);
            let Some(piece) = self.wanted.piece(history, number) else { continue };
            (unpacked.damaged, unpacked.cost) = (0, 0);
            let entries = piece.ordinals.end - piece.ordinals.start;
            if entries == BLOCK && self.wanted.takes_all(history, &piece, unpacked) {
                self.trades += entries;
                self.note(piece.ts_min, piece.ordinals.start);
                self.note(piece.ts_max, piece.ordinals.end - 1);
                continue;
            }
            history.load(log, number, Columns::Times, unpacked);
            self.damaged += unpacked.damaged;
            *budget = budget.saturating_sub(unpacked.cost);
            let ts = unpacked.ts.get(indexes_in_block(&piece.ordinals)).unwrap_or_default();
            for (ordinal, ts) in piece.ordinals.clone().zip(ts) {
                if !self.wanted.has(*ts) || history.is_cancel(ordinal) {
                    continue;
                }
                if self.wanted.stands(history, ordinal) {
                    self.trades += 1;
                    self.note(*ts, ordinal);
                } else {
                    self.cancelled += 1;
                }
            }
        }
        Some(self.result(history, log))
    }

    fn note(&mut self, ts: u64, ordinal: u64) {
        let (min, max) = self.times.unwrap_or((ts, ts));
        self.times = Some((min.min(ts), max.max(ts)));
        self.ordinals = Some((self.ordinals.map_or(ordinal, |(first, _)| first), ordinal));
    }

    fn result<S: Storage>(&mut self, history: &InstrumentHistory, log: &Log<S>) -> Counted {
        let received = |ordinal: u64| history.frame(log, ordinal).map(|frame| frame.ts_recv.get());
        let times = if self.by_receive {
            self.ordinals.map(|(first, last)| (received(first), received(last)))
        } else {
            self.times.map(|(first, last)| (Some(first), Some(last)))
        };
        let (first, last) = times.unwrap_or((Some(0), Some(0)));
        self.damaged += u64::from(first.is_none()) + u64::from(last.is_none());
        Counted {
            instrument: history.instrument.into(),
            trades: U64::new(self.trades),
            cancelled: U64::new(self.cancelled),
            first: U64::new(first.unwrap_or(0)),
            last: U64::new(last.unwrap_or(0)),
            ..Counted::default()
        }
    }
}
