//! Bars (OHLCV): one fold, used for history and for live bars, so that they cannot disagree.
//!
//! A bar covers `[start, start + interval)` of event time, with `start` a multiple of the interval since
//! the Unix epoch. Only trades count; there is no bar where there was no trade. Trades must come in
//! order of `(ts_event, seq)`. VWAP is notional divided by volume, both exact integers.

use crate::wire::{
    BarNotional, BarPrices, BarTotals, Frame, I64, I128, InstrumentId, NOTIONAL_UNDEFINED, Trade,
    U32, U64, U128,
};

/// Nanoseconds of one second.
const SECOND_NS: u64 = 1_000_000_000;

/// One bar. Prices in units of 1e-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Beginning, nanoseconds since the Unix epoch.
    pub start: u64,
    /// Price of the first trade.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Price of the last trade.
    pub close: i64,
    /// Sum of quantities, in units of the instrument.
    pub volume: u128,
    /// Number of trades.
    pub trades: u64,
    /// Sum of price × quantity in units of 1e-9; [`NOTIONAL_UNDEFINED`] once it did not fit.
    pub notional: i128,
    /// `seq` of the last trade.
    pub last_seq: u64,
    /// Length of the bar.
    pub interval_ns: u64,
}

impl Bar {
    /// A bar that no trade has been added to. The price is that of its first trade.
    #[must_use]
    pub fn begin(start: u64, interval_ns: u64, price: i64) -> Bar {
        Bar {
            start,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0,
            trades: 0,
            notional: 0,
            last_seq: 0,
            interval_ns,
        }
    }

    fn add(&mut self, trade: &Trade) {
        self.add_amount(trade.price.get(), trade.qty.get());
        self.last_seq = self.last_seq.max(trade.seq.get());
    }

    /// Adds a trade of this price and quantity; `last_seq` is the caller's matter.
    #[inline]
    pub fn add_amount(&mut self, price: i64, qty: u64) {
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.close = price;
        // There are less than 2^64 trades of less than 2^64 each.
        self.volume += u128::from(qty);
        self.trades += 1;
        // An i64 times a u64 fits an i128. A sum that does not is no number any more, and stays none.
        let sum = self.notional.checked_add(i128::from(price) * i128::from(qty));
        let is_known = self.notional != NOTIONAL_UNDEFINED;
        self.notional = sum.filter(|_| is_known).unwrap_or(NOTIONAL_UNDEFINED);
    }

    /// The volume-weighted average price: notional / volume, rounded half to even at 1e-9; `None`
    /// without volume, and where the notional did not fit.
    #[must_use]
    pub fn vwap(&self) -> Option<i128> {
        if self.notional == NOTIONAL_UNDEFINED {
            return None;
        }
        let volume = i128::try_from(self.volume).ok()?;
        let quotient = self.notional.checked_div_euclid(volume)?;
        let remainder = self.notional.checked_rem_euclid(volume)?;
        // The remainder is less than the volume: compared with what is left of it nothing can overflow.
        let round_up = match remainder.cmp(&(volume - remainder)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 != 0,
            std::cmp::Ordering::Greater => true,
        };
        // Cannot overflow: with volume 1 there is no remainder, with more the quotient is small.
        Some(quotient + i128::from(round_up))
    }

    /// The three frames that carry a bar of whole seconds. A count of trades that does not fit 32 bits stands at the largest
    /// number.
    #[must_use]
    pub fn frames(&self, instrument: InstrumentId) -> [Frame; 3] {
        let instrument = U32::from(instrument);
        let (seq, ts_event) = (U64::new(self.last_seq), U64::new(self.start));
        let prices = BarPrices {
            instrument,
            seq,
            ts_event,
            open: I64::new(self.open),
            high: I64::new(self.high),
            low: I64::new(self.low),
            ..BarPrices::default()
        };
        let totals = BarTotals {
            instrument,
            seq,
            ts_event,
            close: I64::new(self.close),
            volume: U128::new(self.volume),
            ..BarTotals::default()
        };
        let notional = BarNotional {
            instrument,
            seq,
            ts_event,
            notional: I128::new(self.notional),
            interval_s: U32::new(u32::try_from(self.interval_ns / SECOND_NS).unwrap_or(u32::MAX)),
            trades: U32::new(u32::try_from(self.trades).unwrap_or(u32::MAX)),
            ..BarNotional::default()
        };
        [Frame::seal(prices), Frame::seal(totals), Frame::seal(notional)]
    }
}

/// Folds trades into bars.
#[derive(Clone, Debug)]
pub struct BarFold {
    interval_ns: u64,
    current: Option<Bar>,
}

impl BarFold {
    /// A fold of bars of this length, at least one nanosecond.
    #[must_use]
    pub fn new(interval_ns: u64) -> BarFold {
        BarFold { interval_ns: interval_ns.max(1), current: None }
    }

    /// A fold that goes on with this bar.
    #[must_use]
    pub fn going_on(interval_ns: u64, bar: Option<Bar>) -> BarFold {
        BarFold { current: bar, ..BarFold::new(interval_ns) }
    }

    /// Takes the next trade; the bar before it, when the trade begins a new one.
    pub fn add(&mut self, trade: &Trade) -> Option<Bar> {
        let ts = trade.ts_event.get();
        let start = ts - ts % self.interval_ns;
        let finished = self.current.take_if(|bar| bar.start != start);
        let bar = self
            .current
            .get_or_insert_with(|| Bar::begin(start, self.interval_ns, trade.price.get()));
        bar.add(trade);
        finished
    }

    /// The bar under way.
    pub fn finish(&mut self) -> Option<Bar> {
        self.current.take()
    }
}

/// Puts the three frames of a bar together. They come back to back; any other frame between them
/// drops what was begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct BarAssembler {
    prices: Option<BarPrices>,
    totals: Option<BarTotals>,
}

impl BarAssembler {
    /// Takes the next frame, of any kind; gives a bar when it was the last of three.
    pub fn take(&mut self, frame: &Frame) -> Option<Bar> {
        let begun = std::mem::take(self);
        if let Some(prices) = frame.view::<BarPrices>() {
            self.prices = Some(*prices);
            return None;
        }
        let prices = begun.prices.filter(|prices| {
            prices.instrument == frame.instrument && prices.ts_event == frame.ts_event
        })?;
        if let Some(totals) = frame.view::<BarTotals>() {
            *self = BarAssembler { prices: Some(prices), totals: Some(*totals) };
            return None;
        }
        let (notional, totals) = (frame.view::<BarNotional>()?, begun.totals?);
        Some(Bar {
            start: prices.ts_event.get(),
            open: prices.open.get(),
            high: prices.high.get(),
            low: prices.low.get(),
            close: totals.close.get(),
            volume: totals.volume.get(),
            trades: notional.trades.get().into(),
            notional: notional.notional.get(),
            last_seq: prices.seq.get(),
            interval_ns: u64::from(notional.interval_s.get()) * SECOND_NS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Quote;

    fn trade(ts: u64, price: i64, qty: u64) -> Trade {
        Trade {
            seq: U64::new(ts),
            ts_event: U64::new(ts),
            price: I64::new(price),
            qty: U64::new(qty),
            ..Trade::default()
        }
    }

    #[test]
    fn a_bar_is_open_high_low_close_volume_and_no_bar_stands_where_nothing_traded() {
        let mut fold = BarFold::new(100);
        let trades = [trade(105, 10, 1), trade(110, 30, 2), trade(199, 20, 3), trade(300, 7, 4)];
        let bars: Vec<Bar> = trades.iter().filter_map(|trade| fold.add(trade)).collect();
        let last = fold.finish().unwrap();
        assert_eq!(bars.len(), 1, "no bar for 200..300");
        let expected = Bar {
            start: 100,
            open: 10,
            high: 30,
            low: 10,
            close: 20,
            volume: 6,
            trades: 3,
            notional: 10 + 60 + 60,
            last_seq: 199,
            interval_ns: 100,
        };
        assert_eq!(bars[0], expected);
        assert_eq!((last.start, last.open, last.close, last.trades), (300, 7, 7, 1));
        assert!(fold.finish().is_none());
    }

    #[test]
    fn a_sum_that_does_not_fit_is_no_number_and_stays_none() {
        let mut fold = BarFold::new(100);
        let huge = trade(1, i64::MAX - 1, u64::MAX);
        fold.add(&huge);
        fold.add(&huge);
        let bar = fold.clone().finish().unwrap();
        assert_eq!(bar.volume, 2 * u128::from(u64::MAX), "the volume is exact");
        assert_eq!((bar.notional, bar.vwap()), (NOTIONAL_UNDEFINED, None));
        // What would bring it back into its range is no way back.
        fold.add(&trade(2, i64::MIN, u64::MAX));
        assert_eq!(fold.finish().unwrap().notional, NOTIONAL_UNDEFINED);
    }

    #[test]
    fn a_bar_of_fractions_keeps_every_digit_on_its_way() {
        // 1,250,000,000,000.5 units, three times, and a bar of so many trades as its frame counts.
        let mut fold = BarFold::new(60 * SECOND_NS);
        for seq in 1..=3 {
            fold.add(&trade(seq, 7, 12_500_000_000_005));
        }
        let mut bar = fold.finish().unwrap();
        assert_eq!((bar.volume, bar.notional), (37_500_000_000_015, 262_500_000_000_105));
        (bar.volume, bar.trades) = (u128::from(u64::MAX) * 1_000, u32::MAX.into());
        let mut assembler = BarAssembler::default();
        let frames = bar.frames(U32::new(7).into());
        let again: Vec<Bar> = frames.iter().filter_map(|frame| assembler.take(frame)).collect();
        assert_eq!(again, [bar]);
    }

    fn bar_frames(instrument: InstrumentId, start: u64) -> [Frame; 3] {
        Bar::begin(start, 60, 10).frames(instrument)
    }

    #[test]
    fn frames_of_different_bars_are_never_mixed() {
        let [prices, totals, notional] = bar_frames(U32::new(7).into(), 60);
        let [_, other_totals, other_notional] = bar_frames(U32::new(8).into(), 60);
        let [_, late_totals, _] = bar_frames(U32::new(7).into(), 120);
        let quote = Frame::seal(Quote::default());
        for frames in [
            vec![prices, other_totals, notional],
            vec![prices, totals, other_notional],
            vec![prices, late_totals, notional],
            vec![prices, quote, totals, notional],
            vec![prices, notional],
            vec![totals, notional],
            vec![notional],
        ] {
            let mut assembler = BarAssembler::default();
            assert!(frames.iter().all(|frame| assembler.take(frame).is_none()), "{frames:?}");
        }
    }

    #[test]
    fn vwap_is_rounded_half_to_even_and_never_overflows() {
        let vwap = |notional, volume| {
            let zero = Bar {
                start: 0,
                open: 0,
                high: 0,
                low: 0,
                close: 0,
                volume,
                trades: 0,
                notional,
                last_seq: 0,
                interval_ns: 0,
            };
            zero.vwap()
        };
        for (notional, volume, want) in [
            (5, 2, 2),
            (7, 2, 4),
            (-5, 2, -2),
            (-7, 2, -4),
            (8, 3, 3),
            (7, 3, 2),
            (-8, 3, -3),
            (-7, 3, -2),
            (i128::MAX - 1, 1, i128::MAX - 1),
            (i128::MIN, 1, i128::MIN),
        ] {
            assert_eq!(vwap(notional, volume), Some(want), "{notional} / {volume}");
        }
        assert!(vwap(i128::MAX - 1, u128::from(u64::MAX)).is_some());
        assert!(vwap(i128::MIN, u128::from(u64::MAX)).is_some());
        assert_eq!(vwap(5, 0), None);
    }
}
