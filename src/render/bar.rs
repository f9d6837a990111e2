//! A bar as JSON.

use serde::Serialize;

use super::column::Exact;
use super::price;
use crate::market::Quantity;
use crate::market::bar::Bar;
use crate::market::price::decimal;
use crate::wire::Decimals;

impl BarJson {
    /// A bar of an instrument with these decimals.
    pub(super) fn new(bar: &Bar, Decimals { price: decimals, quantity }: Decimals) -> BarJson {
        BarJson {
            start: bar.start,
            open: price(bar.open, decimals),
            high: price(bar.high, decimals),
            low: price(bar.low, decimals),
            close: price(bar.close, decimals),
            volume: Exact(Quantity::new(bar.volume, quantity)),
            trades: bar.trades,
            vwap: bar.vwap().map(|vwap| decimal(vwap, decimals)),
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
    pub(super) volume: Exact,
    pub(super) trades: u64,
    pub(super) vwap: Option<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::market::bar::BarAssembler;
    use crate::wire::{Frame, InstrumentId, U32};

    pub(in super::super) fn bar_frames(instrument: InstrumentId, start: u64) -> [Frame; 3] {
        let one = 1_000_000_000;
        let bar = Bar {
            start,
            open: 10 * one,
            high: 12 * one,
            low: 9 * one,
            close: 11 * one,
            volume: 3,
            trades: 2,
            notional: 32 * i128::from(one),
            last_seq: 9,
            interval_ns: 60_000_000_000,
        };
        bar.frames(instrument)
    }

    #[test]
    fn three_frames_make_one_bar() {
        let mut assembler = BarAssembler::default();
        let bars: Vec<Bar> = bar_frames(U32::new(7).into(), 60)
            .iter()
            .filter_map(|frame| assembler.take(frame))
            .collect();
        assert_eq!(bars.len(), 1);
        let fine = Decimals { price: 2, quantity: 8 };
        let json = super::super::json_line(&BarJson::new(&bars[0], fine));
        assert!(json.contains(r#""volume":0.00000003,"volume_text":"0.00000003""#), "{json}");
        let whole = Decimals { quantity: 0, ..fine };
        let json = super::super::json_line(&BarJson::new(&bars[0], whole));
        assert_eq!(
            json,
            r#"{"start":60,"start_text":"1970-01-01T00:00:00.000000060Z","open":"10.00","high":"12.00","low":"9.00","close":"11.00","volume":3,"volume_text":"3","trades":2,"vwap":"10.666666667"}"#
        );
    }
}
