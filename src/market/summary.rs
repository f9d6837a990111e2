//! Figures over many instruments: the average current price, spreads, and who moved most. Integers in,
//! exact fractions inside, and rounded only where it says so. What it is not: a judge of whether all
//! instruments are there; whoever asks for a figure decides that before.
//!
//! # Decisions
//!
//! * Figures are computed by whoever asks, from one answer. So the aggregator has no arithmetic of its own,
//!   and the protocol has no operation for every statistic.

use std::cmp::Ordering;

use super::bar::Bar;
use super::price::UNITS;
use crate::wire::{Quote, Symbol};

/// Units of a basis point: spreads and moves are given in thousandths of one.
const THOUSANDTHS_OF_BP: i128 = 10_000 * 1_000;

/// One instrument's quote, as far as a figure needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Best bid in units of 1e-9, when there is one.
    pub bid: Option<i64>,
    /// Best ask in units of 1e-9, when there is one.
    pub ask: Option<i64>,
    /// Decimals that its prices have; the last one is the tick here.
    pub decimals: u8,
    /// Whether it is known to be current.
    pub is_live: bool,
}

impl Quoted {
    /// From a quote frame's message.
    #[must_use]
    pub fn new(quote: &Quote, decimals: u8, is_live: bool) -> Quoted {
        let defined = |price: i64| (price != i64::MAX).then_some(price);
        let (bid, ask) = (defined(quote.bid.get()), defined(quote.ask.get()));
        Quoted { bid, ask, decimals, is_live }
    }

    /// Twice the current price: the middle of both sides, else the one side there is.
    fn price_twice(&self) -> Option<i128> {
        match (self.bid, self.ask) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(i128::from(one) * 2),
            (Some(bid), Some(ask)) => Some(i128::from(bid) + i128::from(ask)),
        }
    }
}

/// A quotient, rounded half up.
fn divided(dividend: i128, divisor: i128) -> i128 {
    (dividend.saturating_mul(2).saturating_add(divisor)).div_euclid(divisor.saturating_mul(2))
}

/// The average current price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    /// In units of 1e-9, rounded half up; `None` when no instrument has a price.
    pub price: Option<i128>,
    /// Instruments with a price.
    pub priced: usize,
    /// Those of them whose quote is not known to be current.
    pub stale: usize,
    /// Instruments without a price.
    pub unpriced: usize,
}

/// The mean of the current prices: of each the middle between bid and ask, or the one side there is.
#[must_use]
pub fn average(quotes: &[Quoted]) -> Average {
    let priced = quotes.iter().filter_map(|quote| Some((quote, quote.price_twice()?)));
    let (mut sum, mut count, mut stale) = (0_i128, 0_usize, 0);
    for (quote, twice) in priced {
        // At most 2^64 each, and no answer has 2^60 instruments.
        sum = sum.saturating_add(twice);
        count += 1;
        stale += usize::from(!quote.is_live);
    }
    let divisor = i128::try_from(count).unwrap_or(i128::MAX).saturating_mul(2);
    let price = (count > 0).then(|| divided(sum, divisor));
    Average { price, priced: count, stale, unpriced: quotes.len() - count }
}

/// Least, middle, mean and largest of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The least.
    pub min: i128,
    /// The middle one; of an even number the mean of the two, rounded half up.
    pub median: i128,
    /// The mean, rounded half up.
    pub mean: i128,
    /// The largest.
    pub max: i128,
}

/// How far bids and asks are apart, over live quotes with both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spreads {
    /// In thousandths of a tick, which is one in the last decimal of the instrument.
    pub ticks: Spread,
    /// In thousandths of a basis point of the middle.
    pub bps: Spread,
    /// Quotes counted.
    pub count: usize,
    /// Those of them whose bid is at or above the ask.
    pub crossed: usize,
}

/// `None` when no live quote has both sides (and a middle above zero).
#[must_use]
pub fn spreads(quotes: &[Quoted]) -> Option<Spreads> {
    let (mut ticks, mut bps, mut crossed) = (Vec::new(), Vec::new(), 0);
    for quote in quotes.iter().filter(|quote| quote.is_live) {
        let (Some(bid), Some(ask)) = (quote.bid, quote.ask) else { continue };
        let (bid, ask) = (i128::from(bid), i128::from(ask));
        if bid + ask <= 0 {
            continue;
        }
        let tick = i128::from(UNITS) / 10_i128.pow(u32::from(quote.decimals.min(9)));
        ticks.push(divided((ask - bid) * 1_000, tick));
        bps.push(divided((ask - bid) * 2 * THOUSANDTHS_OF_BP, bid + ask));
        crossed += usize::from(ask <= bid);
    }
    let count = ticks.len();
    Some(Spreads { ticks: spread(ticks)?, bps: spread(bps)?, count, crossed })
}

fn spread(mut values: Vec<i128>) -> Option<Spread> {
    values.sort_unstable();
    let (min, max) = (*values.first()?, *values.last()?);
    let count = values.len();
    let (low, high) = (*values.get((count - 1) / 2)?, *values.get(count / 2)?);
    let sum: i128 = values.iter().sum();
    let mean = divided(sum, i128::try_from(count).ok()?);
    Some(Spread { min, median: divided(low + high, 2), mean, max })
}

/// How an instrument moved over its bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub symbol: Symbol,
    /// Price of the first trade.
    pub open: i64,
    /// Price of the last trade.
    pub close: i64,
    /// Decimals that its prices have.
    pub decimals: u8,
}

impl Move {
    /// From the bars of an instrument in order; `None` without one, or when it opened at no price
    /// above zero, against which nothing can be measured.
    #[must_use]
    pub fn new(symbol: Symbol, decimals: u8, bars: &[Bar]) -> Option<Move> {
        let (open, close) = (bars.first()?.open, bars.last()?.close);
        (open > 0).then_some(Move { symbol, open, close, decimals })
    }

    /// The change against the first price, in thousandths of a basis point, rounded half up.
    #[must_use]
    pub fn change(&self) -> i128 {
        let change = i128::from(self.close) - i128::from(self.open);
        divided(change * THOUSANDTHS_OF_BP, i128::from(self.open))
    }

    /// The larger change first, whatever its direction; exact, and then by name.
    fn order(&self, other: &Move) -> Ordering {
        let size = |it: &Move| (i128::from(it.close) - i128::from(it.open)).abs();
        let (a, b) = (size(self) * i128::from(other.open), size(other) * i128::from(self.open));
        b.cmp(&a).then_with(|| self.symbol.cmp(&other.symbol))
    }
}

/// The `count` instruments that moved most.
#[must_use]
pub fn movers(mut moves: Vec<Move>, count: usize) -> Vec<Move> {
    moves.sort_by(Move::order);
    moves.truncate(count);
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bid: i64, ask: i64) -> Quoted {
        let cents = |cents: i64| (cents > 0).then_some(cents * 10_000_000);
        Quoted { bid: cents(bid), ask: cents(ask), decimals: 2, is_live: true }
    }

    #[test]
    fn the_average_is_exact_to_the_ninth_decimal_and_counts_what_has_no_price() {
        let quotes = [
            quoted(100, 101),
            quoted(0, 200),
            Quoted { is_live: false, ..quoted(50, 0) },
            quoted(0, 0),
        ];
        let it = average(&quotes);
        // (1.005 + 2.00 + 0.50) / 3 = 1.168333333...
        assert_eq!(it.price, Some(1_168_333_333));
        assert_eq!((it.priced, it.stale, it.unpriced), (3, 1, 1));
        assert_eq!(average(&[quoted(0, 0)]).price, None);
        let half = Quoted { bid: Some(1), ask: Some(2), ..quoted(0, 0) };
        assert_eq!(average(&[half]).price, Some(2), "1.5 is rounded half up");
    }

    #[test]
    fn spreads_are_of_live_quotes_with_both_sides() {
        let stale = Quoted { is_live: false, ..quoted(1, 100) };
        let quotes = [quoted(100, 101), quoted(200, 204), quoted(100, 100), quoted(0, 9), stale];
        let it = spreads(&quotes).unwrap();
        assert_eq!((it.count, it.crossed), (3, 1));
        assert_eq!(it.ticks, Spread { min: 0, median: 1_000, mean: 1_667, max: 4_000 });
        // 0.01 of 1.005 is 99.502 bp, 0.04 of 2.02 is 198.020 bp.
        assert_eq!((it.bps.median, it.bps.max), (99_502, 198_020));
        assert_eq!(spreads(&[stale]), None);
    }

    #[test]
    fn the_largest_relative_move_comes_first_in_either_direction() {
        let moved = |symbol: &str, open, close| Move {
            symbol: symbol.parse().unwrap(),
            open,
            close,
            decimals: 2,
        };
        let moves = vec![
            moved("UP", 100, 110),
            moved("FLAT", 5, 5),
            moved("DOWN", 10, 8),
            moved("TIE", 200, 180),
        ];
        let top = movers(moves, 3);
        let names: Vec<&str> = top.iter().map(|it| it.symbol.as_str()).collect();
        assert_eq!(names, ["DOWN", "TIE", "UP"]);
        assert_eq!(top[0].change(), -2_000_000, "20 % are 2,000 bp");
        assert_eq!(Move::new("X".parse().unwrap(), 2, &[]), None);
    }
}
