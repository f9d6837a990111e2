//! Which trades of an instrument were cancelled, and by which cancellation. Found out when somebody asks
//! for what depends on it, a piece at a time, and kept.
//!
//! A cancellation takes back the newest trade before it with the same number, price and quantity that
//! still stands. Usually that is a recent one; when there is none the whole instrument was looked at.
//!
//! # Decisions
//!
//! * Cancellations are resolved when somebody asks. At intake, a cancellation of a trade that never existed
//!   would cost a search of the whole instrument.

use std::collections::{BTreeMap, VecDeque};

use super::block::packed_price;
use super::instrument::{
    BLOCK, Columns, InstrumentHistory, LOG_LOOK_COST, UnpackedBlock, as_trade, index_in_block,
};
use crate::log::{Log, Storage};

/// The cancellations of one instrument.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    /// Ordinals of those that nobody has looked into, ascending.
    open: VecDeque<u64>,
    search: Option<Search>,
    /// By the ordinal of the trade, that of its cancellation.
    taken_back: BTreeMap<u64, u64>,
}

/// The first open cancellation, on its way back through the trades.
#[derive(Clone, Copy, Debug)]
struct Search {
    price: u64,
    qty: u64,
    trade_id: u64,
    /// Trades from here on have been looked at.
    until: u64,
}

impl Cancels {
    /// Takes note of a cancellation.
    pub(crate) fn note(&mut self, ordinal: u64) {
        self.open.push_back(ordinal);
    }

    /// Whether all those with an ordinal below `cut` have been looked into.
    pub(crate) fn is_settled(&self, cut: u64) -> bool {
        self.open.front().is_none_or(|first| *first >= cut)
    }

    /// Whether a trade stands, when only entries below `cut` count.
    pub(crate) fn stands(&self, ordinal: u64, cut: u64) -> bool {
        self.taken_back.get(&ordinal).is_none_or(|cancel| *cancel >= cut)
    }

    /// Whether any of these ordinals was taken back.
    pub(crate) fn touches(&self, ordinals: &std::ops::Range<u64>) -> bool {
        self.taken_back.range(ordinals.clone()).next().is_some()
    }

    /// Forgets what the log no longer has.
    pub(crate) fn forget_before(&mut self, start: u64) {
        self.taken_back = self.taken_back.split_off(&start);
        while self.open.front().is_some_and(|first| *first < start) {
            self.open.pop_front();
            self.search = None;
        }
    }
}

impl InstrumentHistory {
    /// Looks into cancellations below `cut`, until they are settled or the budget is used up.
    pub(crate) fn settle_cancels<S: Storage>(
        &mut self,
        log: &Log<S>,
        cut: u64,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) {
        while let Some(&cancel) = self.cancels.open.front().filter(|first| **first < cut)
            && *budget > 0
        {
            let search = match self.cancels.search {
                Some(search) => search,
                None => {
                    *budget = budget.saturating_sub(LOG_LOOK_COST);
                    let frame = self.frame(log, cancel);
                    let Some(cancelled) = frame.as_ref().and_then(as_trade) else {
                        // What cannot be read takes nothing back; the answer says that it is partial.
                        self.cancels.open.pop_front();
                        continue;
                    };
                    Search {
                        price: packed_price(cancelled.price.get()),
                        qty: cancelled.qty.get(),
                        trade_id: cancelled.trade_id.get(),
                        until: cancel,
                    }
                }
            };
            match self.look_back(log, search, unpacked, budget) {
                Found::Trade(ordinal) => {
                    self.cancels.taken_back.insert(ordinal, cancel);
                    self.cancels.open.pop_front();
                    self.cancels.search = None;
                }
                Found::Nothing => {
                    self.cancels.open.pop_front();
                    self.cancels.search = None;
                }
                Found::Paused(until) => {
                    self.cancels.search = Some(Search { until, ..search });
                }
            }
        }
    }

    fn look_back<S: Storage>(
        &self,
        log: &Log<S>,
        search: Search,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> Found {
        let mut until = search.until;
        while until > self.start() {
            if *budget == 0 {
                return Found::Paused(until);
            }
            let number = (until - 1) / BLOCK;
            let from = (number * BLOCK).max(self.start());
            let may_have =
                self.block(number).is_none_or(|block| block.may_have(search.price, search.qty));
            if may_have {
                self.load(log, number, Columns::All, unpacked);
                *budget = budget.saturating_sub(unpacked.cost);
                for ordinal in (from..until).rev() {
                    let index = index_in_block(ordinal);
                    let is_like = unpacked.prices.get(index) == Some(&search.price)
                        && unpacked.quantities.get(index) == Some(&search.qty);
                    if !is_like
                        || self.is_cancel(ordinal)
                        || !self.cancels.stands(ordinal, u64::MAX)
                    {
                        continue;
                    }
                    *budget = budget.saturating_sub(LOG_LOOK_COST);
                    let frame = self.frame(log, ordinal);
                    let id = frame.as_ref().and_then(as_trade).map(|trade| trade.trade_id.get());
                    if id == Some(search.trade_id) {
                        return Found::Trade(ordinal);
                    }
                }
            } else {
                *budget = budget.saturating_sub(1);
            }
            until = from;
        }
        Found::Nothing
    }
}

enum Found {
    Trade(u64),
    Nothing,
    /// Everything from this ordinal on has been looked at.
    Paused(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::{MemoryDisk, MemoryStorage};
    use crate::log::{LogConfig, Retention, Sequence, SyncPolicy, UpstreamRule};
    use crate::time::Now;
    use crate::wire::{Cancel, Frame, I64, Trade, U32, U64, padded};

    fn log() -> Log<MemoryStorage> {
        let config = LogConfig {
            name: padded("shard-A"),
            segment_records: 1 << 12,
            policy: SyncPolicy::Batch,
            upstream: UpstreamRule::FollowSeq,
            sequence: Sequence::Increasing,
            retention: Retention::default(),
        };
        Log::open(MemoryDisk::new(4096).storage(), config, Now::default()).unwrap().0
    }

    fn trade(seq: u64) -> Frame {
        Frame::seal(Trade {
            seq: U64::new(seq),
            ts_event: U64::new(seq),
            price: I64::new(100),
            qty: U64::new(1),
            trade_id: U64::new(seq),
            ..Trade::default()
        })
    }

    fn cancel(seq: u64, of: u64) -> Frame {
        Frame::seal(Cancel {
            seq: U64::new(seq),
            ts_event: U64::new(seq),
            price: I64::new(100),
            qty: U64::new(1),
            trade_id: U64::new(of),
            ..Cancel::default()
        })
    }

    /// What a removed cancellation was looking for is no business of the next one.
    #[test]
    fn a_paused_search_outlives_the_removal_of_its_cancellation() {
        let mut log = log();
        let instrument = U32::new(0).into();
        let mut history = InstrumentHistory::new(instrument, Frame::ZERO);
        // Many of one price: a search for a number that nobody has looks at all of them.
        let count = 3 * BLOCK;
        let mut positions = Vec::new();
        let mut add = |history: &mut InstrumentHistory, log: &mut Log<MemoryStorage>, frame| {
            let position = log.append(&frame).unwrap();
            log.commit(Now::default());
            log.handle_completions(Now::default());
            history.add(position, &frame);
            positions.push(position);
            position
        };
        for seq in 1..=count {
            add(&mut history, &mut log, trade(seq));
        }
        let removed = add(&mut history, &mut log, cancel(count + 1, 999_999));
        let mut unpacked = UnpackedBlock::default();
        history.settle_cancels(&log, u64::MAX, &mut unpacked, &mut (2 * LOG_LOOK_COST));
        assert!(history.cancels.search.is_some(), "the search is to pause here");
        let (entries, _) = history.forget_before(removed + 1);
        assert_eq!(entries, count + 1, "the cancellation is gone, with all before it");
        let taken_back = history.end();
        add(&mut history, &mut log, trade(count + 2));
        add(&mut history, &mut log, cancel(count + 3, count + 2));
        history.settle_cancels(&log, u64::MAX, &mut unpacked, &mut usize::MAX.clone());
        assert!(history.cancels.is_settled(u64::MAX));
        assert!(!history.cancels.stands(taken_back, u64::MAX), "it looked for another trade");
    }
}
