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
use crate::planted::{Bug, is_planted};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Average {
    /// In units of 1e-9, rounded half up; `None` when no instrument has a price.
    pub price: Option<i128>,
    /// Instruments with a price.
    pub priced: usize,
    /// Those of them whose quote is not known to be current.
    pub stale: usize,
    /// Instruments without a price.
    pub unpriced: usize,
    /// The same, with the reason.
    pub left_out: Vec<LeftOut>,
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
    let unpriced = quotes.len() - count;
    let left_out = left_out([("it has no quote", unpriced)]);
    Average { price, priced: count, stale, unpriced, left_out }
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

/// Instruments that a figure cannot have in it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: usize,
}

/// The reasons that there were, with their counts.
fn left_out<const N: usize>(reasons: [(&'static str, usize); N]) -> Vec<LeftOut> {
    let is_told = |count: usize| count > 0 && !is_planted(Bug::LeftOutInSilence);
    let reasons = reasons.into_iter().filter(|(_, count)| is_told(*count));
    reasons.map(|(reason, count)| LeftOut { reason, count }).collect()
}

/// How far bids and asks are apart, over live quotes with both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spreads {
    /// In thousandths of a tick, which is one in the last decimal of the instrument. `None` without a quote.
    pub ticks: Option<Spread>,
    /// In thousandths of a basis point of the middle, whatever its sign. `None` without a middle that is not zero.
    pub bps: Option<Spread>,
    /// Quotes counted.
    pub count: usize,
    /// Those of them whose bid is above the ask.
    pub crossed: usize,
    /// Those of them whose bid is the ask.
    pub locked: usize,
    /// What is in neither of both, or in one of them only.
    pub left_out: Vec<LeftOut>,
}

/// The spreads of these quotes.
#[must_use]
pub fn spreads(quotes: &[Quoted]) -> Spreads {
    let (mut ticks, mut bps, mut crossed, mut locked) = (Vec::new(), Vec::new(), 0, 0);
    let (mut stale, mut one_sided, mut around_zero) = (0, 0, 0);
    for quote in quotes {
        let (true, Some(bid), Some(ask)) = (quote.is_live, quote.bid, quote.ask) else {
            stale += usize::from(!quote.is_live);
            one_sided += usize::from(quote.is_live);
            continue;
        };
        let (bid, ask) = (i128::from(bid), i128::from(ask));
        let tick = i128::from(UNITS) / 10_i128.pow(u32::from(quote.decimals.min(9)));
        ticks.push(divided((ask - bid) * 1_000, tick));
        match (bid + ask).abs() {
            0 => around_zero += 1,
            middle => bps.push(divided((ask - bid) * 2 * THOUSANDTHS_OF_BP, middle)),
        }
        crossed += usize::from(ask < bid);
        locked += usize::from(ask == bid);
    }
    let count = ticks.len();
    let left_out = left_out([
        ("the quote is not live", stale),
        ("the quote has not both sides", one_sided),
        ("the middle is 0: not in the basis points", around_zero),
    ]);
    Spreads { ticks: spread(ticks), bps: spread(bps), count, crossed, locked, left_out }
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
    /// From the bars of an instrument in order.
    fn new(symbol: Symbol, decimals: u8, bars: &[Bar]) -> Result<Move, Unmoved> {
        let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
            return Err(Unmoved::NoTrade);
        };
        match first.open {
            0 => Err(Unmoved::FromZero),
            open => Ok(Move { symbol, open, close: last.close, decimals }),
        }
    }

    /// The change against the first price, whatever its sign, in thousandths of a basis point, rounded half up.
    #[must_use]
    pub fn change(&self) -> i128 {
        let change = i128::from(self.close) - i128::from(self.open);
        divided(change * THOUSANDTHS_OF_BP, i128::from(self.open).abs())
    }

    /// The larger change first, whatever its direction; exact, and then by name.
    fn order(&self, other: &Move) -> Ordering {
        let size = |it: &Move| (i128::from(it.close) - i128::from(it.open)).abs();
        let base = |it: &Move| i128::from(it.open).abs();
        let (a, b) = (size(self) * base(other), size(other) * base(self));
        b.cmp(&a).then_with(|| self.symbol.cmp(&other.symbol))
    }
}

/// Why an instrument has no move.
enum Unmoved {
    NoTrade,
    FromZero,
}

/// The instruments that moved most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movers {
    /// The largest move first.
    pub moves: Vec<Move>,
    /// Instruments that have none.
    pub left_out: Vec<LeftOut>,
}

/// The `count` instruments that moved most, of these by symbol, decimals and bars in order.
#[must_use]
pub fn movers(traded: impl Iterator<Item = (Symbol, u8, Vec<Bar>)>, count: usize) -> Movers {
    let (mut moves, mut untraded, mut from_zero) = (Vec::new(), 0, 0);
    for (symbol, decimals, bars) in traded {
        match Move::new(symbol, decimals, &bars) {
            Ok(moved) => moves.push(moved),
            Err(Unmoved::NoTrade) => untraded += 1,
            Err(Unmoved::FromZero) => from_zero += 1,
        }
    }
    moves.sort_by(Move::order);
    moves.truncate(count);
    let left_out = left_out([("it did not trade", untraded), ("its first price is 0", from_zero)]);
    Movers { moves, left_out }
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
    fn spreads_are_of_live_quotes_with_both_sides_and_the_rest_is_counted() {
        let stale = Quoted { is_live: false, ..quoted(1, 100) };
        let quotes = [quoted(100, 101), quoted(200, 204), quoted(100, 100), quoted(0, 9), stale];
        let it = spreads(&quotes);
        assert_eq!((it.count, it.crossed, it.locked), (3, 0, 1));
        let ticks = Spread { min: 0, median: 1_000, mean: 1_667, max: 4_000 };
        assert_eq!(it.ticks, Some(ticks));
        // 0.01 of 1.005 is 99.502 bp, 0.04 of 2.02 is 198.020 bp.
        let bps = it.bps.unwrap();
        assert_eq!((bps.median, bps.max), (99_502, 198_020));
        let reasons: Vec<(&str, usize)> =
            it.left_out.iter().map(|it| (it.reason, it.count)).collect();
        assert_eq!(reasons, [("the quote is not live", 1), ("the quote has not both sides", 1)]);
        let none = spreads(&[stale]);
        assert_eq!((none.ticks, none.bps, none.count), (None, None, 0));
    }

    /// Prices below and around zero: crude oil on 20 April 2020, and spreads of futures.
    #[test]
    fn negative_prices_and_zero_are_prices() {
        let at = |bid: i64, ask: i64| Quoted { bid: Some(bid), ask: Some(ask), ..quoted(0, 0) };
        let cents = 10_000_000;
        let quotes = [
            at(-3_763 * cents, -3_760 * cents),
            at(-25 * cents, 25 * cents),
            at(0, 0),
            at(1_000 * cents, 1_001 * cents),
            at(-200 * cents, -300 * cents),
        ];
        let it = spreads(&quotes);
        assert_eq!((it.count, it.crossed, it.locked), (5, 1, 1));
        let ticks = it.ticks.unwrap();
        assert_eq!((ticks.min, ticks.median, ticks.max), (-100_000, 1_000, 50_000));
        // 0.03 of 37.615 is 7.976 bp, -1 of 2.5 is -4,000 bp.
        let bps = it.bps.unwrap();
        assert_eq!((bps.min, bps.median), (-4_000_000, 7_976));
        assert_eq!(
            it.left_out,
            [LeftOut { reason: "the middle is 0: not in the basis points", count: 2 }]
        );
    }

    #[test]
    fn the_largest_relative_move_comes_first_in_either_direction() {
        let traded = |symbol: &str, open, close| {
            let bar = Bar { close, ..Bar::begin(0, 1, open) };
            (symbol.parse().unwrap(), 2, vec![bar])
        };
        let all = vec![
            traded("UP", 100, 110),
            traded("FLAT", 5, 5),
            traded("DOWN", 10, 8),
            traded("TIE", 200, 180),
            traded("BELOW", -100, -70),
            traded("FROM-ZERO", 0, 3),
            ("QUIET".parse().unwrap(), 2, Vec::new()),
        ];
        let top = movers(all.into_iter(), 4);
        let names: Vec<&str> = top.moves.iter().map(|it| it.symbol.as_str()).collect();
        assert_eq!(names, ["BELOW", "DOWN", "TIE", "UP"]);
        assert_eq!(top.moves[0].change(), 3_000_000, "from -100 to -70 is up");
        assert_eq!(top.moves[1].change(), -2_000_000, "20 % are 2,000 bp");
        let reasons: Vec<(&str, usize)> =
            top.left_out.iter().map(|it| (it.reason, it.count)).collect();
        assert_eq!(reasons, [("it did not trade", 1), ("its first price is 0", 1)]);
    }
}
