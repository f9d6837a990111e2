//! Bars: three frames make one, and its VWAP.

use serde::Serialize;

use super::price;
use crate::wire::{BarNotional, BarPrices, BarTotals, Frame};

/// One bar. Prices in units of 1e-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// First nanosecond of the bar.
    pub start: u64,
    /// Price of the first trade.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Price of the last trade.
    pub close: i64,
    /// Sum of quantities.
    pub volume: u64,
    /// Number of trades.
    pub trades: u64,
    /// Sum of price × quantity.
    pub notional: i128,
    /// Length of the bar.
    pub interval_ns: u64,
}

impl Bar {
    /// The volume-weighted average price: notional / volume, rounded half to even at 1e-9; `None`
    /// without volume.
    #[must_use]
    pub fn vwap(&self) -> Option<i128> {
        let volume = i128::from(self.volume);
        let quotient = self.notional.checked_div_euclid(volume)?;
        let remainder = self.notional.checked_rem_euclid(volume)?;
        let round_up = match (remainder * 2).cmp(&volume) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 != 0,
            std::cmp::Ordering::Greater => true,
        };
        // Cannot overflow: with volume 1 there is no remainder, with more the quotient is small.
        Some(quotient + i128::from(round_up))
    }

    /// As JSON, with prices of at least this many decimals.
    pub(super) fn json(&self, decimals: u8) -> BarJson {
        BarJson {
            start: self.start,
            open: price::price(self.open, decimals),
            high: price::price(self.high, decimals),
            low: price::price(self.low, decimals),
            close: price::price(self.close, decimals),
            volume: self.volume,
            trades: self.trades,
            vwap: self.vwap().map(|vwap| price::decimal(vwap, decimals)),
        }
    }
}

#[derive(Serialize)]
pub(super) struct BarJson {
    pub(super) start: u64,
    pub(super) open: Option<String>,
    pub(super) high: Option<String>,
    pub(super) low: Option<String>,
    pub(super) close: Option<String>,
    pub(super) volume: u64,
    pub(super) trades: u64,
    pub(super) vwap: Option<String>,
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
            trades: totals.trades.get(),
            notional: notional.notional.get(),
            interval_ns: notional.interval_ns.get(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::{I64, I128, Quote, U32, U64};

    pub(in super::super) fn bar_frames(instrument: u32, start: u64) -> [Frame; 3] {
        let (instrument, ts_event) = (U32::new(instrument), U64::new(start));
        let one = 1_000_000_000;
        [
            Frame::seal(BarPrices {
                instrument,
                ts_event,
                seq: U64::new(9),
                open: I64::new(10 * one),
                high: I64::new(12 * one),
                low: I64::new(9 * one),
                ..BarPrices::default()
            }),
            Frame::seal(BarTotals {
                instrument,
                ts_event,
                seq: U64::new(9),
                close: I64::new(11 * one),
                volume: U64::new(3),
                trades: U64::new(2),
                ..BarTotals::default()
            }),
            Frame::seal(BarNotional {
                instrument,
                ts_event,
                seq: U64::new(9),
                notional: I128::new(32 * i128::from(one)),
                interval_ns: U64::new(60_000_000_000),
                ..BarNotional::default()
            }),
        ]
    }

    #[test]
    fn three_frames_make_one_bar() {
        let mut assembler = BarAssembler::default();
        let bars: Vec<Bar> =
            bar_frames(7, 60).iter().filter_map(|frame| assembler.take(frame)).collect();
        assert_eq!(bars.len(), 1);
        let json = super::super::json_line(&bars[0].json(2));
        assert_eq!(
            json,
            r#"{"start":60,"open":"10.00","high":"12.00","low":"9.00","close":"11.00","volume":3,"trades":2,"vwap":"10.666666667"}"#
        );
    }

    #[test]
    fn frames_of_different_bars_are_never_mixed() {
        let [prices, totals, notional] = bar_frames(7, 60);
        let [_, other_totals, other_notional] = bar_frames(8, 60);
        let [_, late_totals, _] = bar_frames(7, 120);
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
            (i128::MAX, 1, i128::MAX),
            (i128::MIN, 1, i128::MIN),
        ] {
            assert_eq!(vwap(notional, volume), Some(want), "{notional} / {volume}");
        }
        assert!(vwap(i128::MAX, u64::MAX).is_some());
        assert!(vwap(i128::MIN, u64::MAX).is_some());
        assert_eq!(vwap(5, 0), None);
    }
}
