//! Which trades of an instrument were cancelled, and by which cancellation. Found out when somebody asks
//! for what depends on it, a piece at a time, and kept.
//!
//! A cancellation takes back a trade before it with the same number, price and quantity that still stands: of these the
//! nearest in event time, at most a day away, and of several that are as near the newest. Usually that is a recent
//! one; when there is none the whole instrument was looked at.
//!
//! # Decisions
//!
//! * The time decides, because exchanges number trades anew each day: the same number, price and quantity may come
//!   again tomorrow, before a late line cancels today's. B3 gives a cancellation the time of its trade.
//! * Cancellations are resolved when somebody asks. At intake, a cancellation of a trade that never existed
//!   would cost a search of the whole instrument.

use std::collections::{BTreeMap, VecDeque};

use super::block::packed_price;
use super::instrument::{
    BLOCK, Columns, InstrumentHistory, LOG_LOOK_COST, UnpackedBlock, as_trade, index_in_block,
};
use crate::limits::CANCEL_REACH;
use crate::log::{Log, Storage};
use crate::planted::{Bug, is_planted};
use crate::time::nanos;

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
    ts: u64,
    /// Trades from here on have been looked at.
    until: u64,
    /// The nearest of these: how far it is, and its ordinal.
    nearest: Option<(u64, u64)>,
}

impl Search {
    /// Only what is nearer than this is looked for.
    fn reach(&self) -> u64 {
        match self.nearest {
            None => nanos(CANCEL_REACH).saturating_add(1),
            Some(_) if is_planted(Bug::CancelNewest) => 0,
            Some((distance, _)) => distance,
        }
    }
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
            let mut search = match self.cancels.search {
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
                        ts: cancelled.ts_event.get(),
                        until: cancel,
                        nearest: None,
                    }
                }
            };
            if !self.look_back(log, &mut search, unpacked, budget) {
                self.cancels.search = Some(search);
                continue;
            }
            self.cancels.taken_back.extend(search.nearest.map(|(_, trade)| (trade, cancel)));
            self.cancels.open.pop_front();
            self.cancels.search = None;
        }
    }

    /// Whether all trades that may be the one have been looked at.
    fn look_back<S: Storage>(
        &self,
        log: &Log<S>,
        search: &mut Search,
        unpacked: &mut UnpackedBlock,
        budget: &mut usize,
    ) -> bool {
        while search.until > self.start() && search.reach() > 0 {
            if *budget == 0 {
                return false;
            }
            let number = (search.until - 1) / BLOCK;
            let from = (number * BLOCK).max(self.start());
            let may_have = self.block(number).is_none_or(|block| {
                block.may_have(search.price, search.qty)
                    && block.distance(search.ts) < search.reach()
            });
            if may_have {
                self.load(log, number, Columns::All, unpacked);
                *budget = budget.saturating_sub(unpacked.cost);
                for ordinal in (from..search.until).rev() {
                    let index = index_in_block(ordinal);
                    let is_like = unpacked.prices.get(index) == Some(&search.price)
                        && unpacked.quantities.get(index) == Some(&search.qty);
                    let distance =
                        unpacked.ts.get(index).map_or(u64::MAX, |ts| ts.abs_diff(search.ts));
                    if !is_like
                        || distance >= search.reach()
                        || self.is_cancel(ordinal)
                        || !self.cancels.stands(ordinal, u64::MAX)
                    {
                        continue;
                    }
                    *budget = budget.saturating_sub(LOG_LOOK_COST);
                    let frame = self.frame(log, ordinal);
                    let id = frame.as_ref().and_then(as_trade).map(|trade| trade.trade_id.get());
                    if id == Some(search.trade_id) {
                        search.nearest = Some((distance, ordinal));
                    }
                }
            } else {
                *budget = budget.saturating_sub(1);
            }
            search.until = from;
        }
        true
    }
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

    /// Trades of these times, and cancellations of these times, all of one number, price and quantity: which trades, by
    /// their place, still stand.
    fn standing(trades: &[u64], cancels: &[u64]) -> Vec<usize> {
        let mut log = log();
        let mut history = InstrumentHistory::new(U32::new(0).into(), Frame::ZERO);
        let like = |frame: Frame, ts: u64| {
            let mut frame = frame;
            frame.ts_event = U64::new(ts);
            frame.renew_crc();
            frame
        };
        let trades_of = (1..).zip(trades).map(|(seq, ts)| {
            let trade = Trade {
                seq: U64::new(seq),
                price: I64::new(100),
                qty: U64::new(1),
                trade_id: U64::new(10),
                ..Trade::default()
            };
            like(Frame::seal(trade), *ts)
        });
        let first_cancel = trades.len() as u64 + 1;
        let cancels_of = (first_cancel..).zip(cancels).map(|(seq, ts)| like(cancel(seq, 10), *ts));
        for frame in trades_of.chain(cancels_of) {
            let position = log.append(&frame).unwrap();
            log.commit(Now::default());
            log.handle_completions(Now::default());
            history.add(position, &frame);
        }
        let mut unpacked = UnpackedBlock::default();
        // A piece at a time, as a node does it.
        while !history.cancels.is_settled(u64::MAX) {
            history.settle_cancels(&log, u64::MAX, &mut unpacked, &mut 1);
        }
        let ordinals = history.start()..history.start() + trades.len() as u64;
        (0..)
            .zip(ordinals)
            .filter(|(_, at)| history.cancels.stands(*at, u64::MAX))
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn a_cancellation_takes_back_the_trade_of_its_own_day() {
        const HOUR: u64 = 3_600_000_000_000;
        const DAY: u64 = 24 * HOUR;
        const NONE: [usize; 0] = [];
        // The same number, price and quantity on two days; today's cancellation comes behind tomorrow's trade.
        assert_eq!(standing(&[9 * HOUR, DAY + 10 * HOUR], &[9 * HOUR]), [1]);
        assert_eq!(standing(&[9 * HOUR, DAY + 10 * HOUR], &[DAY + 10 * HOUR, 9 * HOUR]), NONE);
        // One that is told later than its trade means the nearest.
        assert_eq!(standing(&[9 * HOUR, DAY + 10 * HOUR], &[11 * HOUR]), [1]);
        assert_eq!(standing(&[9 * HOUR, 10 * HOUR], &[11 * HOUR]), [0]);
        assert_eq!(standing(&[10 * HOUR, 9 * HOUR], &[11 * HOUR]), [1]);
        // Of several that are as near the newest; and none that is more than a day away.
        assert_eq!(standing(&[9 * HOUR, 9 * HOUR], &[9 * HOUR]), [0]);
        assert_eq!(standing(&[9 * HOUR], &[DAY + 9 * HOUR]), NONE);
        assert_eq!(standing(&[9 * HOUR], &[DAY + 9 * HOUR + 1]), [0]);
        // In blocks: thousands of other days before it.
        let days: Vec<u64> = (0..3 * BLOCK).map(|day| 400 * day * HOUR).collect();
        let taken = standing(&days, &[days[77] + HOUR]);
        assert_eq!(taken.len(), days.len() - 1);
        assert!(!taken.contains(&77));
    }
}
